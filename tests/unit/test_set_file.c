/* The set file: what is accepted, and every way to be malformed. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "set_file.h"
#include "wire/bytes.h"

#define ALL_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static uint8_t bytes[4096];

static int file_of(size_t size, int seals)
{
    int fd = memfd_create("set", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void head(uint64_t nr, uint64_t count)
{
    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, "XPCSET01", 8);
    put_u64(bytes + 8, nr);
    put_u64(bytes + 16, count);
}

static void refused(size_t size, int seals, int rc, const char *reason)
{
    struct set_file set;
    char why[256] = "";
    int fd = file_of(size, seals);

    assert_int_equal(set_file_load(fd, &set, true, why, sizeof(why)), rc);
    if (!strstr(why, reason))
        fprintf(stderr, "why: %s\n", why);
    assert_non_null(strstr(why, reason));
    assert_null(set.map.words);
    close(fd);
}

static void a_good_one(void **state)
{
    struct set_file set;
    char why[256];
    int fd;

    (void)state;
    head(131, 4);
    put_u64(bytes + 24, 1);
    put_u64(bytes + 32, UINT64_C(1) << 63 | 2);
    put_u64(bytes + 40, 4);
    fd = file_of(48, ALL_SEALS);
    /* Whoever wrote it left the offset at its end. */
    assert_int_equal(lseek(fd, 0, SEEK_END), 48);
    assert_int_equal(set_file_load(fd, &set, true, why, sizeof(why)), 0);
    assert_int_equal(set.count, 4);
    assert_int_equal(set.map.nr, 131);
    assert_int_equal(gfn_bitmap_next(&set.map, 0), 0);
    assert_int_equal(gfn_bitmap_next(&set.map, 1), 65);
    assert_int_equal(gfn_bitmap_next(&set.map, 66), 127);
    assert_int_equal(gfn_bitmap_next(&set.map, 128), 130);
    set_file_free(&set);
    close(fd);
}

static void an_empty_one(void **state)
{
    struct set_file set;
    char why[256];
    int fd;

    (void)state;
    head(0, 0);
    fd = file_of(24, ALL_SEALS);
    assert_int_equal(set_file_load(fd, &set, true, why, sizeof(why)), 0);
    assert_int_equal(set.count, 0);
    assert_int_equal(gfn_bitmap_next(&set.map, 0), 0);
    set_file_free(&set);
    close(fd);
}

static void not_sealed(void **state)
{
    static const int some[] = {0,
                               F_SEAL_SEAL,
                               ALL_SEALS & ~F_SEAL_WRITE,
                               ALL_SEALS & ~F_SEAL_GROW,
                               ALL_SEALS & ~F_SEAL_SHRINK,
                               ALL_SEALS & ~F_SEAL_SEAL};

    (void)state;
    head(1, 1);
    bytes[24] = 1;
    for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++)
        refused(32, some[i], -EBUSY, "not sealed");
}

/* One that is not the final one needs no seals, but everything else. */
static void not_the_final_one(void **state)
{
    struct set_file set;
    char why[256];
    int fd;

    (void)state;
    head(1, 1);
    bytes[24] = 1;
    fd = file_of(32, 0);
    assert_int_equal(set_file_load(fd, &set, false, why, sizeof(why)), 0);
    assert_int_equal(set.count, 1);
    set_file_free(&set);
    assert_int_equal(ftruncate(fd, 31), 0);
    assert_int_equal(set_file_load(fd, &set, false, why, sizeof(why)), -EPROTO);
    close(fd);
}

static void malformed(void **state)
{
    (void)state;
    refused(0, ALL_SEALS, -EPROTO, "0 bytes");
    head(0, 0);
    refused(23, ALL_SEALS, -EPROTO, "23 bytes");
    bytes[7] = '2';
    refused(24, ALL_SEALS, -EPROTO, "magic");
    head(0, 1);
    refused(24, ALL_SEALS, -EPROTO, "says 1 pages, and 0");
    head(64, 64);
    memset(bytes + 24, 0xff, 16);
    refused(24, ALL_SEALS, -EPROTO, "has to have 32");
    refused(31, ALL_SEALS, -EPROTO, "has to have 32");
    refused(40, ALL_SEALS, -EPROTO, "has to have 32");
    head(64, 63);
    memset(bytes + 24, 0xff, 8);
    refused(32, ALL_SEALS, -EPROTO, "says 63 pages, and 64");
    head(3, 2);
    bytes[24] = 0xc; /* gfns 2 and 3: 3 is beyond nr_gfns */
    refused(32, ALL_SEALS, -EPROTO, "beyond gfn 0x2");
    head(3, 1);
    bytes[24] = 2; /* gfn 2, the highest, is not in it */
    refused(32, ALL_SEALS, -EPROTO, "gfn 0x2, which is not in the set");
    head((UINT64_C(1) << 40) + 1, 1);
    refused(32, ALL_SEALS, -EPROTO, "2^40");
    head(UINT64_MAX, 1);
    refused(32, ALL_SEALS, -EPROTO, "2^40");
}

static void no_memfd_at_all(void **state)
{
    struct set_file set;
    char why[256];
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    (void)state;
    assert_true(set_file_load(fd, &set, true, why, sizeof(why)) < 0);
    close(fd);
    assert_int_equal(set_file_load(-1, &set, true, why, sizeof(why)), -EBADF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_one), cmocka_unit_test(an_empty_one),
        cmocka_unit_test(not_sealed), cmocka_unit_test(not_the_final_one),
        cmocka_unit_test(malformed),  cmocka_unit_test(no_memfd_at_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
