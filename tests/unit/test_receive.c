/*
 * The pager's steps one at a time, in this process, with a feeder that the test plays: what is done before
 * what, and what a feeder that lies comes to.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend_batch.h"
#include "fake/fake_domain.h"
#include "log.h"
#include "receive.h"

#define REGIONS 8
#define GFNS    (REGIONS * BACKEND_SUPER)
#define SLOTS   64

struct bench {
    struct receiver r;
    struct receive_options options;
    struct keeping keeping;
    struct pool pool;        /* made by the keeper; */
    struct pool_ring feeder; /* and the end of its reports that we have */
    struct fake_config config;
    struct fake_results results;
};

static void nothing(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop, (void)w, (void)events;
}

static void no_details(void *data, json_t *report)
{
    (void)data, (void)report;
}

static void mark_all(struct bench *b)
{
    static uint64_t bits[GFNS / 64], half[GFNS / 64];
    struct receiver *r = &b->r;

    memset(bits, 0xff, sizeof(bits));
    bits[GFNS / 64 - 1] &= ~(UINT64_C(1) << 63); /* special */
    assert_int_equal(backend_mark(r->be, 0, GFNS, false, bits, half), 0);
    for (uint64_t gfn = 0; gfn < GFNS - 1; gfn++)
        pagein_mark(&r->pages, gfn);
}

/* Active, with every page but one absent, and the guest not running. */
static int setup(void **state)
{
    struct bench *b = calloc(1, sizeof(*b));
    struct receiver *r = &b->r;
    struct backend_wish wish = {.features = FEATURES_ALL, .range_foreign = 1, .range_guest = 1};
    char why[64];

    if (!getenv("TEST_VERBOSE"))
        assert_int_equal(log_open("/dev/null"), 0);
    assert_int_equal(pool_create(&b->pool, SLOTS), 0);
    b->feeder = b->pool.reports;
    b->config = (struct fake_config){.nr_gfns = GFNS,
                                     .special_gfn = GFNS - 1,
                                     .spoil_gfn = UINT64_MAX,
                                     .features = FEATURES_ALL,
                                     .results = &b->results};
    b->options = (struct receive_options){.slots = SLOTS, .features = FEATURES_ALL};
    b->keeping = (struct keeping){.journal = receive_journal_create(&b->pool),
                                  .notes_fd = memfd_create("notes", MFD_CLOEXEC),
                                  .stage_fd = memfd_create("stages", MFD_CLOEXEC)};
    fake_prepare(&b->config);
    r->be = fake_open("g", why, sizeof(why));
    assert_int_equal(r->be->ops->attach(r->be, &wish, why, sizeof(why)), 0);
    r->options = &b->options;
    r->keeping = &b->keeping;
    r->journal = b->keeping.journal;
    r->pool = &r->journal->pool;
    r->run = (struct session_run){.loop = ev_default_loop(EVFLAG_AUTO),
                                  .be = r->be,
                                  .state = SESSION_ACTIVE,
                                  .details = no_details,
                                  .status = {.fd = -1}};
    r->max_gfn = GFNS - 1;
    r->attached = r->feeder_alive = r->peer_active = r->went = true;
    r->held_size = SLOTS + RECEIVE_STAGES * BACKEND_SUPER;
    r->held = calloc(r->held_size, sizeof(*r->held));
    assert_int_equal(pagein_init(&r->pages, GFNS), 0);
    assert_int_equal(gfn_bitmap_init(&r->unsent, GFNS), 0);
    assert_int_equal(receive_super_init(r, r->max_gfn + 1), 0);
    r->notes = receive_journal_notes(b->keeping.notes_fd, GFNS, true);
    assert_non_null(r->notes.asked.words);
    r->reports.ring = &r->pool->reports;
    r->arrivals.ring = &r->pool->arrivals;
    ev_timer_init(&r->retry, nothing, 0., 0.);
    ev_timer_init(&r->leave, nothing, 0., 0.);
    ev_timer_init(&r->leaving, nothing, 0., 0.);
    ev_timer_init(&r->collapse.timer, nothing, 0., 0.);
    mark_all(b);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bench *b = *state;

    ev_timer_stop(b->r.run.loop, &b->r.leaving);
    ev_timer_stop(b->r.run.loop, &b->r.retry);
    receive_super_free(&b->r);
    pagein_free(&b->r.pages);
    gfn_bitmap_free(&b->r.unsent);
    receive_journal_notes_free(&b->r.notes);
    close(b->keeping.notes_fd);
    free(b->r.held);
    close(b->keeping.stage_fd);
    pool_destroy(&b->pool);
    free(b);
    return 0;
}

/* As the feeder does. */
static void report(struct bench *b, uint32_t slot, uint64_t gfn, uint64_t flags)
{
    struct pool_descriptor d = {.type = REPORT_PAGE, .slot = slot, .value = {gfn, 0, flags}};

    fake_contents(gfn, 1, pool_page(&b->pool, slot));
    assert_true(pool_ring_put(&b->feeder, &d));
}

static void arrives(struct bench *b, uint64_t gfn)
{
    report(b, (uint32_t)(gfn % SLOTS), gfn, 0);
    receive_reports(&b->r, true);
}

static struct receive_stage *stage_of(struct bench *b, uint64_t region)
{
    for (unsigned int i = 0; i < RECEIVE_STAGES; i++)
        if (b->r.stages[i].first == region * BACKEND_SUPER)
            return &b->r.stages[i];
    return NULL;
}

static unsigned int leaving(const struct bench *b)
{
    unsigned int n = 0;

    for (unsigned int i = 0; i < RECEIVE_STAGES; i++)
        n += b->r.stages[i].giving_up;
    return n;
}

static void a_touch_installs_one_page_and_the_others_follow_in_steps(void **state)
{
    struct bench *b = *state;
    struct receiver *r = &b->r;

    for (uint64_t gfn = 0; gfn < 200; gfn++)
        arrives(b, gfn);
    assert_non_null(stage_of(b, 0));
    assert_int_equal(b->results.loads, 0);
    /* Two requests: one of the region, one of another. */
    fake_foreign(100);
    fake_foreign(3 * BACKEND_SUPER);
    receive_ring(r);
    assert_int_equal(b->results.loads, 1);
    assert_int_equal(pagein_state(&r->pages, 100), PAGE_PRESENT);
    assert_int_equal(pagein_state(&r->pages, 3 * BACKEND_SUPER), PAGE_REQUESTED);
    assert_true(ev_is_active(&r->leaving));
    /* What follows the page comes before what is in front of it. */
    receive_super_leaving(r);
    assert_int_equal(b->results.loads, 1 + BACKEND_LOAD_MAX);
    assert_int_equal(pagein_state(&r->pages, 101), PAGE_PRESENT);
    assert_int_equal(pagein_state(&r->pages, 99), PAGE_ARRIVED);
    /* One that is still waiting to leave is wanted: at once. */
    fake_foreign(50);
    receive_ring(r);
    assert_int_equal(pagein_state(&r->pages, 50), PAGE_PRESENT);
    assert_int_equal(b->results.loads, 2 + BACKEND_LOAD_MAX);
    for (int i = 0; i < 3; i++) {
        assert_non_null(stage_of(b, 0));
        receive_super_leaving(r);
    }
    assert_int_equal(b->results.loads, 200);
    assert_null(stage_of(b, 0));
    assert_false(leaving(b));
    assert_int_equal(r->pages.arrived, 0);
    assert_int_equal(b->results.violations, 0);
}

/* Gathered, region by region: there is always one stage free, or on its way to be. */
static void the_oldest_stage_that_still_gathers_makes_room(void **state)
{
    struct bench *b = *state;
    struct receiver *r = &b->r;

    for (uint64_t region = 0; region < RECEIVE_STAGES; region++)
        arrives(b, region * BACKEND_SUPER);
    /* With the last one taken the first is on its way. */
    assert_true(stage_of(b, 0)->giving_up);
    assert_int_equal(leaving(b), 1);
    /* None is free: this one comes by itself. Nobody else is given up for it meanwhile. */
    arrives(b, 6 * BACKEND_SUPER);
    assert_int_equal(b->results.loads, 1);
    assert_int_equal(leaving(b), 1);
    receive_super_leaving(r);
    assert_null(stage_of(b, 0));
    arrives(b, 5 * BACKEND_SUPER);
    assert_non_null(stage_of(b, 5));
    /* Not region 0 again, whose stage it has: the next oldest. */
    assert_true(stage_of(b, 1)->giving_up);
    assert_int_equal(leaving(b), 1);
    assert_int_equal(b->results.violations, 0);
}

/* A stage whose pages wait for memory is not the only one that can be given up. */
static void one_that_waits_for_memory_does_not_keep_the_others(void **state)
{
    struct bench *b = *state;
    struct receiver *r = &b->r;

    fake_out_of_memory(true);
    for (uint64_t region = 0; region < RECEIVE_STAGES; region++)
        arrives(b, region * BACKEND_SUPER);
    receive_super_leaving(r);
    assert_true(stage_of(b, 0)->giving_up);
    assert_int_equal(r->n_held, 1);
    arrives(b, 5 * BACKEND_SUPER);
    assert_true(stage_of(b, 1)->giving_up);
    receive_super_leaving(r);
    fake_out_of_memory(false);
    receive_retry(r);
    assert_null(stage_of(b, 0));
    assert_null(stage_of(b, 1));
    assert_int_equal(leaving(b), 0);
    assert_int_equal(r->n_held, 0);
    assert_int_equal(b->results.violations, 0);
}

/* dom0 that maps an absent page waits for the pager: which would be itself. */
static void a_feeder_that_has_absent_pages_compared_is_not_believed(void **state)
{
    struct bench *b = *state;
    struct receiver *r = &b->r;

    report(b, 7, 1234, PAGE_COMPARE);
    receive_reports(r, true);
    assert_int_equal(r->be->calls.map, 0);
    assert_int_equal(r->full.compared, 0);
    assert_int_equal(r->run.state, SESSION_PAUSED);
    assert_false(r->feeder_alive);
    assert_int_equal(b->results.violations, 0);
}

static void slots_and_gfns_of_a_feeder_that_lies(void **state)
{
    struct bench *b = *state;
    struct receiver *r = &b->r;
    struct pool_descriptor d = {.type = REPORT_PAGE, .slot = SLOTS};
    static const uint64_t gfns[] = {GFNS - 1, GFNS, UINT64_MAX, UINT64_MAX - 511, UINT64_C(1) << 40};

    for (uint32_t i = 0; i < sizeof(gfns) / sizeof(gfns[0]); i++)
        assert_true(pool_ring_put(
            &b->feeder, &(struct pool_descriptor){.type = REPORT_PAGE, .slot = i, .value = {gfns[i]}}));
    receive_reports(r, true);
    assert_int_equal(r->stray_pages, sizeof(gfns) / sizeof(gfns[0]));
    assert_int_equal(b->results.loads, 0);
    assert_int_equal(r->run.state, SESSION_ACTIVE);
    assert_true(pool_ring_put(&b->feeder, &d));
    receive_reports(r, true);
    assert_int_equal(r->run.state, SESSION_PAUSED);
    assert_int_equal(b->results.violations, 0);
}

/* Memory for files, which the stages are in, can be less than there is otherwise: a limit stands for it. */
static void without_memory_to_gather_in_pages_come_one_by_one(void **state)
{
    struct bench *b = *state;
    struct receiver *r = &b->r;
    struct rlimit before, none = {0, 0};
    int small = memfd_create("small", MFD_CLOEXEC);

    receive_super_free(r);
    memset(r->stages, 0, sizeof(r->stages));
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    none.rlim_max = before.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    close(b->keeping.stage_fd);
    b->keeping.stage_fd = small;
    assert_int_equal(receive_super_init(r, r->max_gfn + 1), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_null(r->stages[0].pages);
    arrives(b, 0);
    assert_int_equal(b->results.loads, 1);
    /* A later pager whose predecessor has gathered something cannot do without. */
    receive_super_free(r);
    receive_journal_stage(r->journal, 0, 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    assert_int_equal(receive_super_init(r, r->max_gfn + 1), -1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
}

int main(int argc, char **argv)
{
#define STEP(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        STEP(a_touch_installs_one_page_and_the_others_follow_in_steps),
        STEP(the_oldest_stage_that_still_gathers_makes_room),
        STEP(one_that_waits_for_memory_does_not_keep_the_others),
        STEP(a_feeder_that_has_absent_pages_compared_is_not_believed),
        STEP(slots_and_gfns_of_a_feeder_that_lies),
        STEP(without_memory_to_gather_in_pages_come_one_by_one),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
