/* The source's domain: paused, whole, and read only. In a memfd, as a guest's memory is not the pager's own.
 */
#include "backends.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "contents.h"

struct source {
    struct backend be;
    uint8_t *memory;
    uint64_t pages;
    int life_fd; /* nothing ever happens to this domain */
};

static struct source *of(struct backend *be)
{
    return (struct source *)((char *)be - offsetof(struct source, be));
}

void native_uuid(uint8_t uuid[16])
{
    memset(uuid, 0x6e, 16);
}

static void be_close(struct backend *be)
{
    struct source *s = of(be);

    munmap(s->memory, s->pages * NATIVE_PAGE);
    close(s->life_fd);
    free(s);
}

static int be_info(struct backend *be, struct backend_domain *out)
{
    be->calls.info++;
    *out = (struct backend_domain){
        .exists = true, .paused = true, .ran = true, .hvm = true, .hap = true, .pages = of(be)->pages};
    native_uuid(out->uuid);
    return 0;
}

static int be_pause(struct backend *be)
{
    (void)be;
    return 0;
}

static int be_max_gfn(struct backend *be, uint64_t *max)
{
    *max = of(be)->pages - 1;
    return 0;
}

static int be_populated(struct backend *be, uint64_t first, uint32_t n, uint64_t *bits)
{
    be->calls.scan++;
    if (first + n > of(be)->pages)
        return -EINVAL;
    memset(bits, 0, (n + 63) / 64 * sizeof(*bits));
    for (uint32_t i = 0; i < n; i++)
        bits[i / 64] |= UINT64_C(1) << i % 64;
    return 0;
}

static int be_special(struct backend *be, uint64_t gfns[BACKEND_SPECIAL_MAX])
{
    (void)be, (void)gfns;
    return 0;
}

static void be_forget(struct backend *be, const char *session)
{
    (void)be, (void)session;
}

static bool be_owned(struct backend *be, const char *session)
{
    (void)be, (void)session;
    return true;
}

static int be_life_fd(struct backend *be)
{
    return of(be)->life_fd;
}

static void be_ack_life(struct backend *be)
{
    (void)be;
}

/* Neighbours are where they are; others have to be brought together, which is cheaper than what Xen does for
 * it. */
static void *be_map(struct backend *be, const uint64_t *gfns, unsigned int n, int *err)
{
    struct source *s = of(be);
    bool neighbours = true;
    uint8_t *map;

    be->calls.map++;
    for (unsigned int i = 0; i < n; i++) {
        neighbours &= gfns[i] == gfns[0] + i;
        err[i] = 0;
        if (gfns[i] >= s->pages) {
            errno = EINVAL;
            return NULL;
        }
    }
    if (neighbours)
        return s->memory + gfns[0] * NATIVE_PAGE;
    map = aligned_alloc(NATIVE_PAGE, (size_t)n * NATIVE_PAGE);
    for (unsigned int i = 0; map && i < n; i++)
        memcpy(map + (size_t)i * NATIVE_PAGE, s->memory + gfns[i] * NATIVE_PAGE, NATIVE_PAGE);
    return map;
}

static void be_unmap(struct backend *be, void *address, unsigned int n)
{
    struct source *s = of(be);
    uint8_t *at = address;

    (void)n;
    if (at < s->memory || at >= s->memory + s->pages * NATIVE_PAGE)
        free(address);
}

static int be_confine(struct backend *be, int *fd)
{
    (void)be;
    *fd = -1;
    return 0;
}

/* A source is asked for nothing else. */
static const struct backend_ops ops = {
    .name = "native source",
    .close = be_close,
    .info = be_info,
    .pause = be_pause,
    .unpause = be_pause,
    .max_gfn = be_max_gfn,
    .populated = be_populated,
    .special = be_special,
    .forget = be_forget,
    .owned = be_owned,
    .life_fd = be_life_fd,
    .ack_life = be_ack_life,
    .confine = be_confine,
    .map = be_map,
    .unmap = be_unmap,
};

static int fill(struct source *s, unsigned int zero_percent)
{
    size_t bytes = s->pages * NATIVE_PAGE;
    int fd = memfd_create("native-source", MFD_CLOEXEC);

    if (fd < 0)
        return -1;
    s->memory = ftruncate(fd, (off_t)bytes) ? MAP_FAILED
                                            : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (s->memory == MAP_FAILED)
        return -1;
    for (uint64_t gfn = 0; gfn < s->pages; gfn++)
        contents_fill(gfn, zero_percent, s->memory + gfn * NATIVE_PAGE);
    return mprotect(s->memory, bytes, PROT_READ);
}

struct backend *source_open(const char *domain, uint64_t pages, unsigned int zero_percent, char *why,
                            size_t why_size)
{
    struct source *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->be.ops = &ops;
    s->be.domid = NATIVE_SOURCE_ID;
    s->be.scan_most = BACKEND_SCAN_MAX;
    s->pages = pages;
    s->life_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->life_fd < 0 || fill(s, zero_percent)) {
        snprintf(why, why_size, "memory of '%s': %s", domain, strerror(errno));
        free(s);
        return NULL;
    }
    return &s->be;
}
