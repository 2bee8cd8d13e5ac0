/* When pre-copy ends, and how fast it goes: libxl's and libxc's own code, without Xen or a clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libxl_precopy.h"
#include "xg_sr_pace.h"

#define S  UINT64_C(1000000000)
#define MS UINT64_C(1000000)

#define PAGES 65536
#define GFNS  1048576 /* what libxc says of the first pass of a PVH guest */

#define GO_ON       LIBXL__PRECOPY_GO_ON
#define CONVERGED   LIBXL__PRECOPY_CONVERGED
#define PASSES      LIBXL__PRECOPY_PASSES
#define NO_PROGRESS LIBXL__PRECOPY_NO_PROGRESS
#define TIME        LIBXL__PRECOPY_TIME
#define REQUESTED   LIBXL__PRECOPY_REQUESTED

/* A migration: asks as libxc does. */
struct migration {
    libxl__precopy p;
    unsigned int iteration;
    uint64_t now;
    bool requested;
};

static struct migration automatic(uint64_t max_downtime, uint64_t max_time)
{
    return (struct migration){
        .p = {.automatic = true, .max_downtime = max_downtime, .max_time = max_time, .pages = PAGES},
        .now = 1000 * S,
    };
}

static enum libxl__precopy_verdict ask(struct migration *m, long dirty)
{
    return libxl__precopy_decide(&m->p, m->iteration, dirty, m->requested, m->now);
}

/* The first pass, taking so long. */
static void first_pass(struct migration *m, uint64_t took)
{
    assert_int_equal(ask(m, GFNS), GO_ON);
    m->now += took / 2;
    assert_int_equal(ask(m, GFNS / 2), GO_ON);
    m->now += took - took / 2;
    m->iteration++;
    assert_int_equal(ask(m, -1), GO_ON);
}

/* So many remain; what is decided. If that's to go on, they're sent. */
static enum libxl__precopy_verdict remain(struct migration *m, long dirty, uint64_t took)
{
    enum libxl__precopy_verdict verdict = ask(m, dirty);

    if (verdict != GO_ON)
        return verdict;
    m->now += took;
    m->iteration++;
    return ask(m, -1);
}

static void test_passes(void **state)
{
    struct migration none = {.p = {.pages = PAGES}}, two = {.p = {.passes = 2, .pages = PAGES}};

    (void)state;
    assert_int_equal(ask(&none, GFNS), PASSES);
    first_pass(&two, 10 * S);
    /* no matter how few, or many */
    assert_int_equal(ask(&two, 0), GO_ON);
    two.now += S;
    two.iteration++;
    assert_int_equal(ask(&two, -1), PASSES);
}

static void test_converges(void **state)
{
    struct migration m = automatic(300 * MS, 0);

    (void)state;
    /* 6553.6 pages a second: not 16 times as many, as if each gfn had been sent */
    first_pass(&m, 10 * S);
    assert_int_equal(remain(&m, 1967, S), GO_ON);
    m = automatic(300 * MS, 0);
    first_pass(&m, 10 * S);
    assert_int_equal(remain(&m, 1966, S), CONVERGED);

    /* the last pass counts: this link has become slower */
    m = automatic(300 * MS, 0);
    first_pass(&m, 10 * S);
    assert_int_equal(remain(&m, 10000, 10 * S), GO_ON);
    assert_int_equal(remain(&m, 1000, S), GO_ON);
    assert_int_equal(remain(&m, 299, S), CONVERGED);

    /* never, unless nothing is left */
    m = automatic(0, 0);
    first_pass(&m, 10 * S);
    assert_int_equal(remain(&m, 1, S), GO_ON);
    assert_int_equal(remain(&m, 0, S), CONVERGED);

    /* a pass without pages says nothing */
    m = automatic(300 * MS, 0);
    m.p.pages = 0;
    first_pass(&m, 10 * S);
    assert_int_equal(remain(&m, 5, S), GO_ON);
}

static void test_no_progress(void **state)
{
    struct migration m = automatic(300 * MS, 0);

    (void)state;
    first_pass(&m, 10 * S);
    assert_int_equal(remain(&m, 32768, 5 * S), GO_ON);
    assert_int_equal(remain(&m, 31000, 5 * S), NO_PROGRESS);

    /* the first pass is one of them */
    m = automatic(300 * MS, 0);
    first_pass(&m, 10 * S);
    assert_int_equal(remain(&m, 60000, 5 * S), NO_PROGRESS);

    /* as long as it's a tenth less each time */
    m = automatic(300 * MS, 0);
    first_pass(&m, 10 * S);
    for (long left = 58000; left > 5000; left = left * 8 / 9)
        assert_int_equal(remain(&m, left, S), GO_ON);
}

static void test_local_minimum(void **state)
{
    struct migration m = automatic(300 * MS, 0);

    (void)state;
    /* more than there was: that will be over, and is waited for */
    first_pass(&m, 10 * S);
    assert_int_equal(remain(&m, 20000, 3 * S), GO_ON);
    assert_int_equal(remain(&m, 40000, 6 * S), GO_ON);
    assert_int_equal(remain(&m, 21000, 3 * S), NO_PROGRESS);

    /* less than ever is progress, whatever was in between */
    m = automatic(300 * MS, 0);
    first_pass(&m, 10 * S);
    assert_int_equal(remain(&m, 20000, 3 * S), GO_ON);
    assert_int_equal(remain(&m, 40000, 6 * S), GO_ON);
    assert_int_equal(remain(&m, 40000, 6 * S), GO_ON);
    assert_int_equal(remain(&m, 15000, 3 * S), GO_ON);
    assert_int_equal(remain(&m, 40000, 6 * S), GO_ON);
    assert_int_equal(remain(&m, 40000, 6 * S), GO_ON);
    /* it isn't over */
    assert_int_equal(remain(&m, 40000, 6 * S), NO_PROGRESS);
}

static void test_time(void **state)
{
    struct migration m = automatic(300 * MS, 60 * S);

    (void)state;
    /* amid a pass */
    assert_int_equal(ask(&m, GFNS), GO_ON);
    m.now += 60 * S - 1;
    assert_int_equal(ask(&m, 30000), GO_ON);
    m.now += 1;
    assert_int_equal(ask(&m, 29000), TIME);

    /* after one it may have converged, which is told by what is left */
    m = automatic(300 * MS, 60 * S);
    first_pass(&m, 61 * S);
    assert_int_equal(remain(&m, 100, S), CONVERGED);
    m = automatic(300 * MS, 60 * S);
    first_pass(&m, 61 * S);
    assert_int_equal(remain(&m, 20000, S), TIME);

    /* a number of passes is a limit as well */
    m = automatic(0, 60 * S);
    m.p.automatic = false;
    m.p.passes = 3;
    first_pass(&m, 59 * S);
    assert_int_equal(remain(&m, 20000, 2 * S), TIME);
}

static void test_requested(void **state)
{
    struct migration m = automatic(300 * MS, 0);

    (void)state;
    m.requested = true;
    assert_int_equal(ask(&m, GFNS), REQUESTED);

    m = automatic(300 * MS, 0);
    assert_int_equal(ask(&m, GFNS), GO_ON);
    m.requested = true;
    assert_int_equal(ask(&m, GFNS - 1024), REQUESTED);

    m = automatic(300 * MS, 0);
    first_pass(&m, 10 * S);
    m.requested = true;
    assert_int_equal(ask(&m, 1), REQUESTED);
}

/* Whatever a guest does, it ends; and amid passes it doesn't without being told to. */
static void test_ends(void **state)
{
    (void)state;
    srandom(1);
    for (int run = 0; run < 2000; run++) {
        struct migration m = automatic(random() % 1000 * MS, 0);
        enum libxl__precopy_verdict verdict = GO_ON;
        long most = random() % PAGES + 1, left;
        unsigned int passes = 0;

        first_pass(&m, random() % 100 * S + 1);
        while (verdict == GO_ON) {
            left = random() % (most + 1);
            if (random() % 2)
                most = most * 15 / 16 + 1;
            verdict = ask(&m, left);
            if (verdict != GO_ON)
                break;
            for (int i = random() % 5; i > 0; i--) {
                m.now += random() % 10 * S;
                left = left * i / 6;
                assert_int_equal(ask(&m, left), GO_ON);
            }
            m.iteration++;
            assert_int_equal(ask(&m, -1), GO_ON);
            assert_true(++passes < 3 * 107); /* 0.9 ^ 107 * PAGES < 1 */
        }
        assert_true(verdict == CONVERGED || verdict == NO_PROGRESS);
    }
}

static void test_pace(void **state)
{
    struct pace none = {0}, p = {.rate = 1 << 20};
    uint64_t now = 1000 * S, sent = 0, began = now;

    (void)state;
    pace_sent(&none, now, UINT64_MAX);
    assert_int_equal(none.due, 0);

    /* who comes late makes up for it, but for no more than a moment's worth */
    while (sent < UINT64_C(64) << 20) {
        pace_sent(&p, now, 1 << 22);
        sent += 1 << 22;
        assert_true(p.due + PACE_SLACK_NS >= now);
        if (p.due > now)
            now = p.due + random() % (50 * MS);
    }
    assert_true(now - began >= 64 * S - PACE_SLACK_NS && now - began <= 64 * S + 50 * MS);
    now += 3600 * S;
    pace_sent(&p, now, 1 << 20);
    assert_int_equal(p.due, now - PACE_SLACK_NS + S);

    /* no overflow at either end */
    p = (struct pace){.rate = UINT64_C(0xffffffff) << 20};
    pace_sent(&p, now, 1 << 22);
    assert_true(p.due >= now - PACE_SLACK_NS && p.due <= now);
    p = (struct pace){.rate = 1 << 20};
    pace_sent(&p, now, UINT64_C(1) << 40);
    assert_int_equal(p.due, now - PACE_SLACK_NS + (UINT64_C(1) << 20) * S);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_passes),      cmocka_unit_test(test_converges),
        cmocka_unit_test(test_no_progress), cmocka_unit_test(test_local_minimum),
        cmocka_unit_test(test_time),        cmocka_unit_test(test_requested),
        cmocka_unit_test(test_ends),        cmocka_unit_test(test_pace),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
