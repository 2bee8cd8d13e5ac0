/* The pager killed during a migration as xl drives it: whoever has the guest afterwards, nobody else has. */
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

static void kill_pager(const struct move *m)
{
    assert_int_equal(kill(m->f.results[1].crash.pager, SIGKILL), 0);
}

/* The next one is there when it answers. */
static void killed_and_followed(struct move *m, unsigned int pagers)
{
    kill_pager(m);
    json_decref(fixture_status(&m->f, "receive"));
    assert_int_equal(m->f.results[1].crash.pagers, pagers);
}

static void moved(struct move *m)
{
    ends(&m->f.receive_pid, EXIT_DONE);
    ends(&m->f.serve_pid, EXIT_DONE);
    assert_int_equal(m->f.results[1].wrong_pages, 0);
    nothing_wrong(m);
    assert_true(file_has(m, "xl.log", "destroy 7"));
    assert_false(file_has(m, "xl.log", "destroy 8"));
    assert_false(file_has(m, "xl.log", "resume"));
}

static void at_each_step_of_the_switch(void **state)
{
    struct move *m = *state;

    m->f.receive.push_on_fault = true;
    ready(m);
    killed_and_followed(m, 2);
    commit(m, "serve");
    killed_and_followed(m, 3);
    commit(m, "receive");
    killed_and_followed(m, 4);
    unpause(m);
    moved(m);
    assert_true(m->f.results[1].touches > 1300);
}

static void what_was_marked_early_is_not_forgotten(void **state)
{
    struct move *m = *state;
    json_t *report;

    m->f.receive.push_on_fault = true;
    start_early(m, outstanding);
    send_all(m, 0);
    json_decref(fixture_await(&m->f, "receive", "active"));
    killed_and_followed(m, 2);
    report = fixture_status(&m->f, "receive");
    assert_int_equal(figure(report, "pages", "marked_early"), 1299);
    assert_int_equal(figure(report, "pages", "marked_late"), 0);
    json_decref(report);
    commit(m, "serve");
    commit(m, "receive");
    unpause(m);
    moved(m);
}

/* It is active, and dies before it can say so. */
static void while_it_is_told_to_activate(void **state)
{
    struct move *m = *state;

    m->f.receive.push_on_fault = true;
    m->f.results[1].crash.when_depended = true;
    start_early(m, outstanding);
    send_all(m, 0);
    assert_int_equal(m->f.results[1].crash.crashed, 1);
    commit(m, "serve");
    commit(m, "receive");
    unpause(m);
    moved(m);
}

static void when_every_page_is_here_and_nobody_has_committed(void **state)
{
    struct move *m = *state;

    ready(m);
    await_reason(m, "receive", "waiting for commit");
    killed_and_followed(m, 2);
    await_reason(m, "receive", "waiting for commit");
    commit(m, "serve");
    commit(m, "receive");
    unpause(m);
    moved(m);
}

/* Nothing that is left undecided becomes decided by it. */
static void the_source_keeps_a_guest_that_is_given_up(void **state)
{
    struct move *m = *state;

    m->f.receive.push_on_fault = true;
    ready(m);
    killed_and_followed(m, 2);
    kill_xl(m, 0);
    kill_xl(m, 1);
    both_give_up(m);
    last_reason(m, "receive", "destroy 8 done");
    assert_true(file_has(m, "xl.log", "postcopy-resume 7"));
}

static void xl_dies_while_there_is_no_pager(void **state)
{
    struct move *m = *state;
    pid_t pager;

    m->f.receive.push_on_fault = true;
    ready(m);
    commit(m, "serve");
    commit(m, "receive");
    pager = m->f.results[1].crash.pager;
    kill(pager, SIGSTOP);
    kill_xl(m, 1);
    kill(pager, SIGKILL);
    moved(m);
    assert_true(file_has(m, "xl.log", "unpause 8"));
}

/* The guest runs, and is destroyed while there is no pager: the next one finds no domain to ask. */
static void destroyed_while_there_is_no_pager(struct move *m)
{
    pid_t pager = m->f.results[1].crash.pager;

    unpause(m);
    for (int i = 0; i < 3000 && m->f.results[1].touches < 100; i++)
        usleep(10000);
    kill(pager, SIGSTOP);
    kill(m->f.domain_pid, SIGUSR1);
    usleep(50000); /* it is not told */
    kill(pager, SIGKILL);
}

static void that_a_guest_ran_is_not_forgotten(void **state)
{
    struct move *m = *state;

    m->f.receive.push_on_fault = true;
    m->f.destination.load_us = 2000;
    ready(m);
    commit(m, "serve");
    commit(m, "receive");
    destroyed_while_there_is_no_pager(m);
    ends(&m->f.receive_pid, EXIT_GONE);
    ends(&m->f.serve_pid, EXIT_GONE);
    last_reason(m, "serve", "ended at the destination; domain 7 here is destroyed");
}

/* Someone has let it run before its time. */
static void nor_is_it_handed_back(void **state)
{
    struct move *m = *state;

    m->f.receive.push_on_fault = true;
    m->f.destination.load_us = 2000;
    m->f.serve.watch_pid = 0;
    ready(m);
    commit(m, "serve");
    destroyed_while_there_is_no_pager(m);
    ends(&m->f.receive_pid, EXIT_FAILED);
    ends(&m->f.serve_pid, EXIT_FAILED);
    last_reason(m, "serve", "has not said that its copy is destroyed");
}

/* Whoever connects wakes it: killed at each of the steps up to its answer. */
static void while_it_is_told_to_commit(void **state)
{
    unsigned int died = 0;

    for (uint64_t n = 1; n <= 6; n++) {
        struct move *m;
        struct fake_crash *crash;

        assert_int_equal(teardown(state), 0);
        assert_int_equal(setup(state), 0);
        m = *state;
        m->f.receive.push_on_fault = true;
        ready(m);
        commit(m, "serve");
        crash = &m->f.results[1].crash;
        crash->at[0] = crash->points + n;
        commit(m, "receive");
        died += crash->crashed != 0;
        unpause(m);
        moved(m);
    }
    assert_true(died > 0);
}

/* Points of a pager from READY to its end with a commit in between. False when they were not so many. */
static bool killed_at(struct move *m, uint64_t n)
{
    struct fake_crash *crash = &m->f.results[1].crash;
    int rc = -1;

    m->f.source.nr_gfns = m->f.destination.nr_gfns = NR;
    m->f.receive.push_on_fault = n % 2;
    m->f.destination.vcpus = 1;
    m->f.destination.touches = 20;
    start_serve(m);
    suspend(m);
    crash->at[0] = n;
    fixture_start_receive(&m->f);
    crash->unpause = 0;
    /* Who waits hears no more from one that dies, and asks the next; 9: it has not shown itself yet. */
    for (int i = 0; i < 500 && rc; i++) {
        rc = command(m, "status --session " ID " --role receive --wait active");
        /* The number of points before READY is not quite the same each time: there was no guest yet. */
        if (crash->crashed && !crash->depended)
            return true;
        if (rc == 9)
            usleep(20000);
    }
    assert_int_equal(rc, 0);
    commit(m, "serve");
    commit(m, "receive");
    unpause(m);
    moved(m);
    return crash->crashed;
}

static void amid_commit_and_whatever_follows(void **state)
{
    struct move *m = *state;
    unsigned int died = 0;

    /* How many points lie before READY is much the same each time. */
    ready(m);
    await_reason(m, "receive", "waiting for commit");
    commit(m, "serve");
    commit(m, "receive");
    unpause(m);
    moved(m);
    for (uint64_t n = m->f.results[1].crash.depended + 2 + (uint64_t)getpid() % 5, step = 1; died < 12;
         n += step) {
        assert_int_equal(teardown(state), 0);
        assert_int_equal(setup(state), 0);
        m = *state;
        if (!killed_at(m, n))
            break;
        died += m->f.results[1].crash.depended != 0;
        step = 1 + 3 * step;
    }
    assert_true(died > 5);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        MOVE(at_each_step_of_the_switch),
        MOVE(what_was_marked_early_is_not_forgotten),
        MOVE(while_it_is_told_to_activate),
        MOVE(when_every_page_is_here_and_nobody_has_committed),
        MOVE(the_source_keeps_a_guest_that_is_given_up),
        MOVE(xl_dies_while_there_is_no_pager),
        MOVE(that_a_guest_ran_is_not_forgotten),
        MOVE(nor_is_it_handed_back),
        MOVE(while_it_is_told_to_commit),
        MOVE(amid_commit_and_whatever_follows),
    };

    return switch_main(argc, argv, tests, sizeof(tests) / sizeof(tests[0]));
}
