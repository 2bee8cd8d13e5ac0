#include "set_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wire/bytes.h"
#include "wire/wire.h"

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static int read_at(int fd, void *to, size_t n, uint64_t offset)
{
    uint8_t *at = to;

    while (n) {
        ssize_t got = pread(fd, at, n, (off_t)offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            return -ENODATA;
        at += got;
        n -= (size_t)got;
        offset += (uint64_t)got;
    }
    return 0;
}

static int check_head(const uint8_t *head, uint64_t size, uint64_t *nr, uint64_t *count, char *why,
                      size_t why_size)
{
    uint64_t want;

    if (memcmp(head, SET_FILE_MAGIC, 8) != 0) {
        snprintf(why, why_size, "the set file has another magic than " SET_FILE_MAGIC);
        return -EPROTO;
    }
    *nr = get_u64(head + 8);
    *count = get_u64(head + 16);
    if (*nr > WIRE_GFN_LIMIT) {
        snprintf(why, why_size, "the set file has %llu gfns, at most 2^40 are allowed",
                 (unsigned long long)*nr);
        return -EPROTO;
    }
    want = SET_FILE_HEAD + (*nr + 63) / 64 * 8;
    if (size != want) {
        snprintf(why, why_size, "the set file has %llu bytes, with %llu gfns it has to have %llu",
                 (unsigned long long)size, (unsigned long long)*nr, (unsigned long long)want);
        return -EPROTO;
    }
    return 0;
}

static int check_words(struct set_file *set, uint64_t count, char *why, size_t why_size)
{
    uint64_t words = (set->map.nr + 63) / 64;

    for (uint64_t i = 0; i < words; i++) {
        if (!set->map.words[i])
            continue; /* GiBs of nothing, most of it */
        set->map.words[i] = get_u64((const uint8_t *)&set->map.words[i]);
        set->count += (uint64_t)__builtin_popcountll(set->map.words[i]);
    }
    if (set->map.nr % 64 && set->map.words[words - 1] >> (set->map.nr % 64)) {
        snprintf(why, why_size, "the set file has bits beyond gfn 0x%llx, its highest",
                 (unsigned long long)set->map.nr - 1);
        return -EPROTO;
    }
    if (set->count != count) {
        snprintf(why, why_size, "the set file says %llu pages, and %llu bits are set",
                 (unsigned long long)count, (unsigned long long)set->count);
        return -EPROTO;
    }
    if (set->map.nr && !gfn_bitmap_test(&set->map, set->map.nr - 1)) {
        snprintf(why, why_size, "the set file ends with gfn 0x%llx, which is not in the set",
                 (unsigned long long)set->map.nr - 1);
        return -EPROTO;
    }
    return 0;
}

int set_file_load(int fd, struct set_file *set, bool final, char *why, size_t why_size)
{
    uint8_t head[SET_FILE_HEAD];
    uint64_t nr, count;
    struct stat st;
    int seals, rc;

    memset(set, 0, sizeof(*set));
    seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || fstat(fd, &st)) {
        rc = -errno;
        snprintf(why, why_size, "descriptor %d is not a set file: %s", fd, strerror(-rc));
        return rc;
    }
    if (final && (seals & SEALS) != SEALS) {
        snprintf(why, why_size, "the set file is not sealed: it is not complete");
        return -EBUSY;
    }
    if (st.st_size < (off_t)SET_FILE_HEAD) {
        snprintf(why, why_size, "the set file has %lld bytes, its header alone has %u", (long long)st.st_size,
                 SET_FILE_HEAD);
        return -EPROTO;
    }
    rc = read_at(fd, head, sizeof(head), 0);
    if (rc) {
        snprintf(why, why_size, "reading the set file: %s", strerror(-rc));
        return rc;
    }
    rc = check_head(head, (uint64_t)st.st_size, &nr, &count, why, why_size);
    if (rc)
        return rc;
    rc = gfn_bitmap_init(&set->map, nr);
    if (rc == 0)
        rc = read_at(fd, set->map.words, (nr + 63) / 64 * 8, SET_FILE_HEAD);
    if (rc)
        snprintf(why, why_size, "reading the set file of %llu gfns: %s", (unsigned long long)nr,
                 strerror(-rc));
    else
        rc = check_words(set, count, why, why_size);
    if (rc)
        set_file_free(set);
    return rc;
}

void set_file_free(struct set_file *set)
{
    gfn_bitmap_free(&set->map);
    set->count = 0;
}
