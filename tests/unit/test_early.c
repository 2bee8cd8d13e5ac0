/* Marking before the guest is suspended: whatever was said then, the set is what is absent in the end. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "exit_status.h"
#include "switch_fixture.h"

#define SET 1299 /* pages of switch_fixture.c's set */

static void figures(struct move *m, long long early, long long unmarked)
{
    json_t *report = fixture_await(&m->f, "receive", "active");

    assert_int_equal(figure(report, "pages", "set"), SET);
    assert_int_equal(figure(report, "pages", "marked_early"), early);
    assert_int_equal(figure(report, "pages", "marked_late"), SET - early);
    assert_int_equal(figure(report, "pages", "unmarked"), unmarked);
    json_decref(report);
    assert_int_equal(m->f.results[1].released, unmarked);
}

static void to_the_end(struct move *m)
{
    commit_both(m);
    assert_int_equal(m->f.results[1].claimed, SET);
    nothing_wrong(m);
    no_file_is_left(m);
}

static void whole_way(struct move *m, bool (*early)(uint64_t gfn), long long marked, long long unmarked)
{
    m->f.receive.verify = VERIFY_HASH;
    start_early(m, early);
    send_all(m, 0);
    figures(m, marked, unmarked);
    to_the_end(m);
}

static bool and_100_more(uint64_t gfn)
{
    return outstanding(gfn) || (gfn >= 600 && gfn < 700);
}

static bool low(uint64_t gfn)
{
    return gfn < 600;
}

static bool others(uint64_t gfn)
{
    return gfn >= 600 && gfn < 800;
}

static bool none(uint64_t gfn)
{
    (void)gfn;
    return false;
}

static void the_same(void **state)
{
    struct move *m = *state;

    whole_way(m, outstanding, SET, 0);
    assert_int_equal(m->f.results[1].marks, SET);
}

static void more(void **state)
{
    whole_way(*state, and_100_more, SET, 100);
}

static void fewer(void **state)
{
    struct move *m = *state;

    whole_way(m, low, 600, 0);
    assert_int_equal(m->f.results[1].marks, SET);
}

static void other_ones(void **state)
{
    whole_way(*state, others, 0, 200);
}

static void nothing(void **state)
{
    whole_way(*state, none, 0, 0);
}

/* 20 of those that are not in the set after all, since their pages were sent. */
static void some_are_needed(void **state)
{
    struct move *m = *state;

    m->f.destination.needed_first = 640;
    m->f.destination.needed_count = 20;
    whole_way(m, and_100_more, SET, 80);
}

static void some_are_needed_and_nobody_is_told(void **state)
{
    struct move *m = *state;

    m->f.destination.needed_untold = true;
    some_are_needed(state);
}

/* More than a ring has slots, so that only some are told. */
static void many_are_needed(void **state)
{
    struct move *m = *state;

    m->f.destination.needed_first = 610;
    m->f.destination.needed_count = 85;
    whole_way(m, and_100_more, SET, 15);
}

/* Of a page that is in the set nevertheless, what was heard of it is enough. */
static void a_page_is_populated_and_outstanding(void **state)
{
    struct move *m = *state;

    m->f.destination.needed_first = 10;
    m->f.destination.needed_count = 7;
    whole_way(m, outstanding, SET - 7, 0);
}

static void a_page_is_populated_and_outstanding_and_nobody_is_told(void **state)
{
    struct move *m = *state;

    m->f.serve.watch_pid = m->f.receive.watch_pid = 0;
    m->f.destination.needed_first = 10;
    m->f.destination.needed_count = 7;
    m->f.destination.needed_untold = true;
    start_early(m, outstanding);
    send_all(m, 1);
    both_give_up(m);
    last_reason(m, "receive", "1292 pages of domain 8 are absent, and 1299 are outstanding");
}

/* Its request is gone when the set is known: it has to ask again. */
static void dom0_maps_one(void **state)
{
    struct move *m = *state;

    m->f.destination.map_early = 5;
    whole_way(m, outstanding, SET - 1, 0);
    assert_int_equal(m->f.results[1].foreign, 1);
}

static void every_page_compared(void **state)
{
    struct move *m = *state;

    m->f.receive.verify = VERIFY_FULL;
    start_early(m, and_100_more);
    send_all(m, 0);
    await_reason(m, "receive", "waiting for commit");
    figures(m, SET, 100);
    to_the_end(m);
}

static void without(struct move *m, unsigned int xen, unsigned int options)
{
    m->f.destination.features &= ~xen;
    m->f.receive.features &= ~options;
    whole_way(m, and_100_more, 0, 0);
}

static void a_xen_without_the_ring(void **state)
{
    without(*state, FEATURE_RING, 0);
}

static void a_xen_without_mark(void **state)
{
    without(*state, FEATURE_MARK, 0);
}

static void a_stock_xen(void **state)
{
    without(*state, FEATURES_ALL, 0);
}

static void features_without_the_ring(void **state)
{
    without(*state, 0, FEATURE_RING);
}

static void features_without_mark(void **state)
{
    without(*state, 0, FEATURE_MARK);
}

static void the_set_file_is_not_sealed(void **state)
{
    struct move *m = *state;

    m->f.serve.watch_pid = m->f.receive.watch_pid = 0;
    start_early(m, outstanding);
    m->f.results[0].suspended = true;
    write_set(m->set_fd[0], UINT64_MAX, UINT64_MAX);
    assert_int_equal(command(m, "activate --session " ID), 1);
    both_give_up(m);
    last_reason(m, "receive", "not sealed");
}

static void xen_refuses_a_page(void **state)
{
    struct move *m = *state;

    m->f.serve.watch_pid = m->f.receive.watch_pid = 0;
    m->f.destination.refuse_every = 1499;
    start_early(m, low); /* and gfn 0 stays */
    send_all(m, 1);
    both_give_up(m);
    last_reason(m, "receive", "does not let go of gfn 0x0");
}

static void no_memory_for_the_p2m(void **state)
{
    struct move *m = *state;

    m->f.serve.watch_pid = m->f.receive.watch_pid = 0;
    m->f.destination.populate_most = 1000;
    m->f.receive.early = true;
    write_early(m->set_fd[1], outstanding);
    start_serve(m);
    fixture_start_receive(&m->f);
    both_give_up(m);
    last_reason(m, "receive", "cannot be made absent");
    /* The guest was never suspended. */
    assert_false(m->f.results[0].suspended);
}

static void the_source_gives_up(void **state)
{
    struct move *m = *state;

    m->f.receive.watch_pid = 0;
    start_early(m, outstanding);
    kill(m->f.serve_pid, SIGKILL);
    ends(&m->f.serve_pid, -SIGKILL);
    ends(&m->f.receive_pid, EXIT_FAILED);
    last_reason(m, "receive", "connection");
    assert_int_not_equal(command(m, "activate --session " ID), 0);
}

static void the_destination_gives_up(void **state)
{
    struct move *m = *state;

    m->f.serve.watch_pid = 0;
    start_early(m, outstanding);
    assert_int_equal(command(m, "abort --role receive --session " ID), 0);
    both_give_up(m);
    assert_int_equal(access(in_dir(m, "xl.log"), F_OK), -1);
    no_file_is_left(m);
}

static void xl_dies_at_the_destination(void **state)
{
    struct move *m = *state;

    m->f.serve.watch_pid = 0;
    start_early(m, outstanding);
    kill_xl(m, 1);
    both_give_up(m);
    assert_true(file_has(m, "xl.log", "destroy 8"));
}

static void the_pager_is_killed(void **state)
{
    struct move *m = *state;
    json_t *report;

    m->f.serve.watch_pid = m->f.receive.watch_pid = 0;
    start_early(m, outstanding);
    report = fixture_status(&m->f, "receive");
    kill(fixture_process(report, "pager"), SIGKILL);
    json_decref(report);
    /* No guest could run: there is no other. */
    ends(&m->f.receive_pid, EXIT_FAILED);
    ends(&m->f.serve_pid, EXIT_FAILED);
    assert_int_equal(command(m, "activate --session " ID), 9);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        MOVE(the_same),
        MOVE(more),
        MOVE(fewer),
        MOVE(other_ones),
        MOVE(nothing),
        MOVE(some_are_needed),
        MOVE(some_are_needed_and_nobody_is_told),
        MOVE(many_are_needed),
        MOVE(a_page_is_populated_and_outstanding),
        MOVE(a_page_is_populated_and_outstanding_and_nobody_is_told),
        MOVE(dom0_maps_one),
        MOVE(every_page_compared),
        MOVE(a_xen_without_the_ring),
        MOVE(a_xen_without_mark),
        MOVE(a_stock_xen),
        MOVE(features_without_the_ring),
        MOVE(features_without_mark),
        MOVE(the_set_file_is_not_sealed),
        MOVE(xen_refuses_a_page),
        MOVE(no_memory_for_the_p2m),
        MOVE(the_source_gives_up),
        MOVE(the_destination_gives_up),
        MOVE(xl_dies_at_the_destination),
        MOVE(the_pager_is_killed),
    };

    return switch_main(argc, argv, tests, sizeof(tests) / sizeof(tests[0]));
}
