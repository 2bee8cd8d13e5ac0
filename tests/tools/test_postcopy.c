/* POSTCOPY_PFNS records and the set file: libxc's own code, without Xen. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "xg_sr_postcopy.h"
#include "xg_sr_stream_format.h"

#define NOTAB  POSTCOPY_PFNS_TYPE_NOTAB
#define RUNS   POSTCOPY_PFNS_RUNS
#define BITMAP POSTCOPY_PFNS_BITMAP

static int add_run(uint64_t pfn, uint64_t nr, void *data)
{
    return postcopy_set_add(data, pfn, nr);
}

static void add(struct postcopy_set *set, uint64_t pfn, uint64_t nr)
{
    assert_int_equal(postcopy_set_add(set, pfn, nr), 0);
}

/* Through records and back. Returns their number, and how long they are together. */
static unsigned int round_trip(const struct postcopy_set *set, size_t *bytes)
{
    struct postcopy_set got = {0};
    uint64_t pos = 0;
    unsigned int records = 0;
    size_t len;
    uint32_t type;

    *bytes = 0;
    for (;;) {
        /* exactly as large as promised, for ASan to watch */
        void *buf = malloc(POSTCOPY_PFNS_MAX);

        len = postcopy_encode(set, POSTCOPY_PFNS_TYPE_XTAB, &pos, buf);
        assert_true(len <= POSTCOPY_PFNS_MAX);
        if (len) {
            void *rec = memcpy(malloc(len), buf, len);

            assert_null(postcopy_check(rec, len, &type));
            assert_int_equal(type, POSTCOPY_PFNS_TYPE_XTAB);
            assert_int_equal(postcopy_for_each_run(rec, len, add_run, &got), 0);
            free(rec);
            records++;
            *bytes += len;
        }
        free(buf);
        if (!len)
            break;
    }
    assert_int_equal(got.count, set->count);
    for (uint64_t w = 0; w < set->nr_words || w < got.nr_words; w++)
        assert_int_equal(w < set->nr_words ? set->words[w] : 0, w < got.nr_words ? got.words[w] : 0);
    postcopy_set_free(&got);
    return records;
}

static void test_set(void **state)
{
    struct postcopy_set set = {0};

    (void)state;
    assert_false(postcopy_set_test(&set, 0));
    add(&set, 60, 10);
    add(&set, 1 << 20, 64);
    assert_int_equal(set.count, 74);
    assert_false(postcopy_set_test(&set, 59));
    assert_true(postcopy_set_test(&set, 60));
    assert_true(postcopy_set_test(&set, 69));
    assert_false(postcopy_set_test(&set, 70));
    assert_int_equal(postcopy_set_add(&set, 50, 11), -1);
    assert_int_equal(errno, EEXIST);
    assert_int_equal(postcopy_set_add(&set, 1, 0), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(postcopy_set_add(&set, POSTCOPY_PFN_LIMIT, 1), -1);
    assert_int_equal(postcopy_set_add(&set, 1, UINT64_MAX), -1);
    assert_int_equal(postcopy_set_add(&set, UINT64_MAX, 2), -1);
    assert_int_equal(errno, EINVAL);
    postcopy_set_remove(&set, 60);
    postcopy_set_remove(&set, 60);
    postcopy_set_remove(&set, UINT64_MAX);
    assert_int_equal(set.count, 73);
    postcopy_set_free(&set);
}

static void test_include(void **state)
{
    struct postcopy_set set = {0};
    uint64_t pfn = 0;

    (void)state;
    assert_int_equal(postcopy_set_include(&set, 60, 10), 0);
    assert_int_equal(postcopy_set_include(&set, 50, 100), 0);
    assert_int_equal(postcopy_set_include(&set, 149, 1), 0);
    assert_int_equal(set.count, 100);
    assert_int_equal(postcopy_set_include(&set, 1, 0), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(postcopy_set_include(&set, POSTCOPY_PFN_LIMIT - 1, 2), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(set.count, 100);

    assert_true(postcopy_set_next(&set, &pfn));
    assert_int_equal(pfn, 50);
    pfn = 149;
    assert_true(postcopy_set_next(&set, &pfn));
    assert_int_equal(pfn, 149);
    pfn = 150;
    assert_false(postcopy_set_next(&set, &pfn));
    pfn = UINT64_MAX - 1;
    assert_false(postcopy_set_next(&set, &pfn));
    postcopy_set_free(&set);
    pfn = 0;
    assert_false(postcopy_set_next(&set, &pfn));
}

static void test_include_bitmap(void **state)
{
    (void)state;
    srandom(3);
    for (unsigned int nr = 0; nr < 300; nr++) {
        struct postcopy_set set = {0};
        uint64_t first = 64 * ((uint64_t)random() % 3), want = 0;
        size_t len = (nr + 7) / 8;
        /* no byte more than there are bits for, and all bits of the last one */
        uint8_t *bitmap = malloc(len ? len : 1);

        for (size_t i = 0; i < len; i++)
            bitmap[i] = (uint8_t)(random() % 3 ? random() : 0xff);
        add(&set, first + 5, 7);
        assert_int_equal(postcopy_set_include_bitmap(&set, first, bitmap, nr), 0);
        for (uint64_t i = 0; i < 400; i++) {
            bool in = (i < nr && (bitmap[i / 8] >> (i % 8) & 1)) || (i >= 5 && i < 12);

            assert_int_equal(postcopy_set_test(&set, first + i), in);
            want += in;
        }
        assert_int_equal(set.count, want);
        assert_int_equal(postcopy_set_include_bitmap(&set, first + 1, bitmap, nr), -1);
        assert_int_equal(errno, EINVAL);
        assert_int_equal(postcopy_set_include_bitmap(&set, POSTCOPY_PFN_LIMIT, bitmap, 1), -1);
        assert_int_equal(errno, EINVAL);
        assert_int_equal(set.count, want);
        free(bitmap);
        postcopy_set_free(&set);
    }
}

/* Runs of pfns below 5000, of which there may be none. */
static void add_random(struct postcopy_set *set)
{
    uint64_t gap = 1 + (uint64_t)random() % 2000, run = 1 + (uint64_t)random() % 500;

    for (uint64_t pfn = (uint64_t)random() % gap; pfn < 5000; pfn += 1 + (uint64_t)random() % gap) {
        uint64_t nr = 1 + (uint64_t)random() % run;

        add(set, pfn, nr);
        pfn += nr;
    }
}

/* Pfn by pfn the same. */
static void test_sort(void **state)
{
    unsigned int seen = 0;

    (void)state;
    srandom(4);
    for (unsigned int round = 0; round < 300; round++) {
        struct postcopy_set in[5] = {0}, now = {0}, outstanding = {0}, holes = {0};
        uint64_t counts[3] = {0};

        for (unsigned int i = 0; i < 5; i++)
            if (random() % 8)
                add_random(&in[i]);
        assert_int_equal(postcopy_sort(&(struct postcopy_sort){.pages = &in[0],
                                                               .sent = &in[1],
                                                               .dirty = &in[2],
                                                               .needed = &in[3],
                                                               .resend = &in[4],
                                                               .now = &now,
                                                               .outstanding = &outstanding,
                                                               .holes = &holes}),
                         0);
        for (uint64_t pfn = 0; pfn < 6000; pfn++) {
            bool page = postcopy_set_test(&in[0], pfn), sent = postcopy_set_test(&in[1], pfn);
            bool stale = !sent || postcopy_set_test(&in[2], pfn);
            bool send = page && (postcopy_set_test(&in[4], pfn) || (stale && postcopy_set_test(&in[3], pfn)));
            bool stays = page && stale && !send, gone = sent && !page;

            assert_int_equal(postcopy_set_test(&now, pfn), send);
            assert_int_equal(postcopy_set_test(&outstanding, pfn), stays);
            assert_int_equal(postcopy_set_test(&holes, pfn), gone);
            counts[0] += send;
            counts[1] += stays;
            counts[2] += gone;
            seen |= 1u << (page + 2 * stale + 4 * send + 8 * gone);
        }
        assert_int_equal(now.count, counts[0]);
        assert_int_equal(outstanding.count, counts[1]);
        assert_int_equal(holes.count, counts[2]);
        for (unsigned int i = 0; i < 5; i++)
            postcopy_set_free(&in[i]);
        postcopy_set_free(&now);
        postcopy_set_free(&outstanding);
        postcopy_set_free(&holes);
    }
    /* not a page: nothing, never sent, was sent (dirtied or not); a page: up to date (sent again or not),
     * stale (same) */
    assert_int_equal(seen, 1u << 2 | 1u << 8 | 1u << 10 | 1u << 1 | 1u << 5 | 1u << 3 | 1u << 7);
}

static void test_round_trip(void **state)
{
    struct postcopy_set set = {0};
    size_t bytes;

    (void)state;
    assert_int_equal(round_trip(&set, &bytes), 0);

    /* RAM in one piece and a few special pages: next to nothing */
    add(&set, 0, 0xa0);
    add(&set, 0x100, 0x10000 - 0x100);
    add(&set, 0xfeff8, 8);
    round_trip(&set, &bytes);
    assert_true(bytes < 200);
    postcopy_set_free(&set);

    /* every other page of 4 GiB: bitmaps, each bit once */
    for (uint64_t pfn = 1; pfn < 1 << 20; pfn += 2)
        add(&set, pfn, 1);
    assert_true(round_trip(&set, &bytes) <= 6);
    assert_true(bytes < (1 << 20) / 8 + 6 * 100);
    postcopy_set_free(&set);

    /* the first and the last bit of words and of records */
    for (uint64_t pfn = 0; pfn < 1 << 21; pfn += 63)
        add(&set, pfn, 1 + pfn % 62);
    round_trip(&set, &bytes);
    postcopy_set_free(&set);

    add(&set, 1ULL << 30, 1);
    assert_int_equal(round_trip(&set, &bytes), 1);
    assert_int_equal(bytes, 24 + 8);
    postcopy_set_free(&set);
}

static void test_random(void **state)
{
    (void)state;
    srandom(1);
    for (unsigned int i = 0; i < 300; i++) {
        struct postcopy_set set = {0};
        uint64_t pfn = (uint64_t)random() % 300, gap = 1 + (uint64_t)random() % 3000;
        uint64_t run = 1 + (uint64_t)random() % (i % 3 ? 3 : 20000);
        size_t bytes;

        while (pfn < 700000) {
            uint64_t nr = 1 + (uint64_t)random() % run;

            add(&set, pfn, nr);
            pfn += nr + 1 + (uint64_t)random() % gap;
        }
        round_trip(&set, &bytes);
        postcopy_set_free(&set);
    }
}

struct record {
    uint32_t type, format;
    uint64_t first_pfn, count, body[4];
};

/* In a buffer of just its size. */
static const char *check_len(const struct record *rec, size_t len)
{
    void *copy = memcpy(malloc(len), rec, len);
    const char *wrong;
    uint32_t type;

    wrong = postcopy_check(copy, len, &type);
    free(copy);
    return wrong;
}

#define BAD(len, ...)  assert_non_null(check_len(&(struct record)__VA_ARGS__, len))
#define GOOD(len, ...) assert_null(check_len(&(struct record)__VA_ARGS__, len))

static void test_malformed(void **state)
{
    const uint64_t limit = POSTCOPY_PFN_LIMIT, top = 1ULL << 63;

    (void)state;
    GOOD(40, {NOTAB, RUNS, 1, 1, {1, 1}});
    GOOD(40, {POSTCOPY_PFNS_TYPE_XTAB, RUNS, limit - 1, 1, {limit - 1, 1}});
    GOOD(56, {NOTAB, RUNS, 1, 3, {1, 1, 2, 2}});
    GOOD(32, {NOTAB, BITMAP, 64, 1, {top}});
    GOOD(32, {NOTAB, BITMAP, limit - 64, 1, {top}});
    for (size_t len = 1; len < 40; len++)
        BAD(len, {NOTAB, RUNS, 1, 1, {1, 1}});
    BAD(41, {NOTAB, RUNS, 1, 1, {1, 1}});
    BAD(48, {NOTAB, RUNS, 1, 1, {1, 1}});
    BAD(40, {1, RUNS, 1, 1, {1, 1}});
    BAD(40, {5, RUNS, 1, 1, {1, 1}});
    BAD(40, {NOTAB, 2, 1, 1, {1, 1}});
    BAD(40, {NOTAB, RUNS, 2, 1, {1, 1}});
    BAD(40, {NOTAB, RUNS, 1, 2, {1, 1}});
    BAD(40, {NOTAB, RUNS, 1, 0, {1, 0}});
    BAD(40, {NOTAB, RUNS, limit, 1, {limit, 1}});
    BAD(40, {NOTAB, RUNS, 1, limit, {1, limit}});
    BAD(40, {NOTAB, RUNS, UINT64_MAX, 1, {UINT64_MAX, 1}});
    BAD(40, {NOTAB, RUNS, 1, UINT64_MAX, {1, UINT64_MAX}});
    BAD(56, {NOTAB, RUNS, 1, 3, {1, 2, 2, 1}});
    BAD(56, {NOTAB, RUNS, 9, 2, {9, 1, 2, 1}});
    BAD(56, {NOTAB, RUNS, 1, 0, {1, top, 1, top}});
    BAD(32, {NOTAB, BITMAP, 63, 1, {1}});
    BAD(32, {NOTAB, BITMAP, limit, 1, {1}});
    BAD(40, {NOTAB, BITMAP, limit - 64, 2, {1, 1}});
    BAD(32, {NOTAB, BITMAP, UINT64_MAX - 63, 1, {1}});
    BAD(32, {NOTAB, BITMAP, 0, 2, {1}});
    BAD(32, {NOTAB, BITMAP, 0, 0, {0}});
}

/* Whatever the bytes are: refused, or sane. */
static void test_noise(void **state)
{
    unsigned int good = 0;

    (void)state;
    srandom(2);
    for (unsigned int i = 0; i < 200000; i++) {
        size_t len = 24 + 8 * ((size_t)random() % 5) + (random() % 16 ? 0 : (size_t)random() % 8);
        struct record rec = {.format = (uint32_t)random() % 3,
                             .type = random() % 8 ? 0 : (uint32_t)random() % 16};
        struct postcopy_set set = {0};
        void *copy;
        uint32_t type;

        rec.first_pfn = (uint64_t)random() % 4 * 32;
        rec.count = (uint64_t)random() % 6;
        for (unsigned int w = 0; w < 4; w++)
            rec.body[w] = random() % 8 ? (uint64_t)random() % 8 * (w % 2 ? 1 : 32) : (uint64_t)random() << 33;
        len = len > sizeof(rec) ? sizeof(rec) : len;
        copy = memcpy(malloc(len), &rec, len);
        if (!postcopy_check(copy, len, &type)) {
            good++;
            assert_int_equal(postcopy_for_each_run(copy, len, add_run, &set), 0);
            assert_int_equal(set.count, rec.count);
        }
        postcopy_set_free(&set);
        free(copy);
    }
    assert_true(good > 1000);
}

static int refuse(uint64_t pfn, uint64_t nr, void *data)
{
    (void)nr;
    *(uint64_t *)data = pfn;
    return pfn > 5 ? -7 : 0;
}

static void test_stops(void **state)
{
    struct record runs = {NOTAB, RUNS, 1, 3, {1, 1, 9, 2}}, bits = {NOTAB, BITMAP, 0, 3, {0x1002, 1}};
    uint64_t seen;

    (void)state;
    assert_int_equal(postcopy_for_each_run(&runs, 56, refuse, &seen), -7);
    assert_int_equal(seen, 9);
    assert_int_equal(postcopy_for_each_run(&bits, 40, refuse, &seen), -7);
    assert_int_equal(seen, 12);
}

static void test_file(void **state)
{
    struct postcopy_set set = {0};
    uint64_t words[4];
    char more;
    int fd;

    (void)state;
    add(&set, 3, 1);
    add(&set, 63, 3);
    fd = memfd_create("set", MFD_ALLOW_SEALING);
    assert_true(fd >= 0);
    assert_int_equal(postcopy_set_write(&set, fd, true), 0);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    assert_int_equal(read(fd, words, 24), 24);
    assert_memory_equal(words, "XPCSET01", 8);
    assert_int_equal(words[1], 66);
    assert_int_equal(words[2], 4);
    assert_int_equal(read(fd, words, 16), 16);
    assert_int_equal(words[0], (1ULL << 63) | 8);
    assert_int_equal(words[1], 3);
    assert_int_equal(read(fd, &more, 1), 0);
    assert_int_equal(fcntl(fd, F_GET_SEALS), F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
    /* once only */
    assert_int_equal(postcopy_set_write(&set, fd, true), -1);
    assert_int_equal(errno, EPERM);
    close(fd);
    postcopy_set_free(&set);

    fd = memfd_create("empty", MFD_ALLOW_SEALING);
    assert_int_equal(postcopy_set_write(&set, fd, true), 0);
    assert_int_equal(lseek(fd, 0, SEEK_END), 24);
    assert_int_equal(pread(fd, words, 24, 0), 24);
    assert_int_equal(words[1], 0);
    assert_int_equal(words[2], 0);
    close(fd);

    /* what is likely to be in it comes before, and need not be more */
    add(&set, 1000, 1);
    fd = memfd_create("early", MFD_ALLOW_SEALING);
    assert_int_equal(postcopy_set_write(&set, fd, false), 0);
    assert_int_equal(fcntl(fd, F_GET_SEALS), 0);
    assert_int_equal(lseek(fd, 0, SEEK_END), 24 + 16 * 8);
    assert_int_equal(pread(fd, words, 24, 0), 24);
    assert_int_equal(words[2], 1);
    postcopy_set_free(&set);
    add(&set, 3, 1);
    assert_int_equal(postcopy_set_write(&set, fd, true), 0);
    assert_int_equal(lseek(fd, 0, SEEK_END), 24 + 8);
    postcopy_set_free(&set);
    close(fd);

    /* a file that cannot be sealed is no set */
    fd = memfd_create("unsealable", 0);
    assert_int_equal(postcopy_set_write(&set, fd, true), -1);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_include),
        cmocka_unit_test(test_include_bitmap),
        cmocka_unit_test(test_sort),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_noise),
        cmocka_unit_test(test_stops),
        cmocka_unit_test(test_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
