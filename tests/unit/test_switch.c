/* The way of a set of pages from xl to xl, and every disagreement about it. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "exit_status.h"
#include "daemon.h"
#include "switch_fixture.h"

static void whole_way(struct move *m)
{
    json_t *report;

    m->f.receive.push_on_fault = true;
    m->f.receive.verify = VERIFY_HASH;
    ready(m);
    commit(m, "serve");
    commit(m, "receive");
    commit(m, "receive"); /* again is fine */
    unpause(m);
    while (m->f.results[1].touches == 0)
        usleep(10000);
    kill_xl(m, 1); /* both have done their part */
    kill_xl(m, 0);
    ends(&m->f.receive_pid, EXIT_DONE);
    ends(&m->f.serve_pid, EXIT_DONE);
    assert_int_equal(m->f.results[1].wrong_pages, 0);
    nothing_wrong(m);
    assert_int_equal(m->f.results[1].populated, m->f.destination.features & FEATURE_MARK ? 0 : 1299);
    assert_int_equal(m->f.results[1].marks, 1299);
    assert_int_equal(m->f.results[1].claimed, 1299);
    assert_true(m->f.results[1].touches > 1300);
    report = fixture_last(&m->f, "receive");
    assert_int_equal(figure(report, "absent_at_unpause", "pages"), 1299);
    assert_true(json_is_true(json_object_get(report, "committed")));
    assert_string_equal(json_string_value(json_object_get(report, "session")), ID);
    json_decref(report);
    last_reason(m, "serve", "is destroyed");
    assert_true(file_has(m, "xl.log", "destroy 7"));
    assert_false(file_has(m, "xl.log", "resume"));
    assert_false(file_has(m, "xl.log", "unpause"));
    no_file_is_left(m);
    assert_int_equal(command(m, "status --session " ID " --role serve --wait completed"), 0);
}

static void the_whole_way(void **state)
{
    whole_way(*state);
}

static void pushes_when_it_is_committed(void **state)
{
    struct move *m = *state;

    m->f.receive.push_on_commit = true;
    ready(m);
    commit(m, "serve");
    for (int i = 0; i < 50; i++) {
        json_t *report = fixture_status(&m->f, "receive");

        assert_int_equal(figure(report, "pages", "installed"), 0);
        json_decref(report);
    }
    commit(m, "receive");
    unpause(m);
    ends(&m->f.receive_pid, EXIT_DONE);
    ends(&m->f.serve_pid, EXIT_DONE);
}

static void the_whole_way_on_a_stock_xen(void **state)
{
    struct move *m = *state;

    m->f.destination.features = 0;
    whole_way(m);
}

static void all_is_there_before_commit(void **state)
{
    struct move *m = *state;

    ready(m);
    await_reason(m, "receive", "waiting for commit");
    /* Only serve's commit: nothing is destroyed before the destination has committed, too. */
    commit(m, "serve");
    usleep(300000);
    assert_int_equal(access(in_dir(m, "xl.log"), F_OK), -1);
    commit(m, "receive");
    unpause(m);
    ends(&m->f.receive_pid, EXIT_DONE);
    ends(&m->f.serve_pid, EXIT_DONE);
    assert_true(file_has(m, "xl.log", "destroy 7"));
    nothing_wrong(m);
}

static void all_is_there_and_then_given_up(void **state)
{
    struct move *m = *state;

    ready(m);
    await_reason(m, "receive", "waiting for commit");
    assert_int_equal(command(m, "abort --session " ID), 0);
    /* serve's word may have ended receive before abort came to it: then it is ended by its pid file, which
     * the daemons of this test do not have. */
    kill(m->f.receive_pid, SIGTERM);
    both_give_up(m);
    assert_int_equal(access(in_dir(m, "xl.log"), F_OK), -1);
}

static void receive_comes_before_the_guest_is_suspended(void **state)
{
    struct move *m = *state;

    m->f.serve.watch_pid = m->f.receive.watch_pid = 0;
    start_serve(m);
    suspend(m);
    m->f.results[0].suspended = false;
    fixture_start_receive(&m->f);
    ends(&m->f.receive_pid, EXIT_REFUSED);
    ends(&m->f.serve_pid, EXIT_FAILED);
    last_reason(m, "receive", "not suspended");
    assert_int_equal(m->f.results[1].marks, 0);
    nothing_wrong(m);
}

static void the_set_is_not_complete_at_the_source(void **state)
{
    struct move *m = *state;

    m->f.serve.watch_pid = m->f.receive.watch_pid = 0;
    start_serve(m);
    m->f.results[0].suspended = true;
    write_set(m->set_fd[1], UINT64_MAX, UINT64_MAX);
    fixture_start_receive(&m->f);
    ends(&m->f.receive_pid, EXIT_REFUSED);
    ends(&m->f.serve_pid, EXIT_FAILED);
    last_reason(m, "receive", "not sealed");
    nothing_wrong(m);
}

static void receive_fails(struct move *m, uint64_t without, uint64_t with, const char *serve,
                          const char *receive)
{
    m->f.serve.watch_pid = m->f.receive.watch_pid = 0;
    start_serve(m);
    m->f.results[0].suspended = true;
    write_set(m->set_fd[0], UINT64_MAX, UINT64_MAX);
    write_set(m->set_fd[1], without, with);
    fixture_start_receive(&m->f);
    both_give_up(m);
    last_reason(m, "serve", serve);
    last_reason(m, "receive", receive);
}

static void a_page_fewer_at_the_destination(void **state)
{
    receive_fails(*state, 77, UINT64_MAX, "gfn 0x4d", "serve gave up");
}

static void a_page_more_at_the_destination(void **state)
{
    receive_fails(*state, UINT64_MAX, 700, "gfn 0x2bc", "serve gave up");
}

static void a_special_page_in_the_set(void **state)
{
    receive_fails(*state, UINT64_MAX, 1490, "intact", "gfn 0x5d2 is outstanding, and shared");
}

static void a_page_that_xen_refuses(void **state)
{
    struct move *m = *state;

    m->f.destination.refuse_every = 321;
    receive_fails(m, 0, UINT64_MAX, "intact",
                  "does not let go of gfn 0x141, which is outstanding: someone has it mapped, or the domain "
                  "would have more pages than its maxmem allows");
}

static void a_page_that_stays_nominated(void **state)
{
    struct move *m = *state;

    m->f.receive.features = 0; /* mark nominates nothing */
    m->f.destination.half_every = 321;
    receive_fails(m, 0, UINT64_MAX, "intact", "does not let go of gfn 0x141");
}

static void no_memory_to_populate(void **state)
{
    struct move *m = *state;

    m->f.receive.features = 0;
    m->f.destination.populate_most = 1000;
    receive_fails(
        m, UINT64_MAX, UINT64_MAX, "intact",
        "cannot be made absent: Cannot allocate memory (of this host, or the domain would have more "
        "pages than its maxmem");
    assert_true(m->f.results[1].populated <= 1000);
}

static void no_memory_for_the_p2m(void **state)
{
    struct move *m = *state;

    m->f.destination.populate_most = 1000;
    receive_fails(m, UINT64_MAX, UINT64_MAX, "intact", "cannot be made absent");
    assert_int_equal(m->f.results[1].marks, 1000);
    assert_int_equal(m->f.results[1].populated, 0);
}

static void a_page_the_source_lacks(void **state)
{
    struct move *m = *state;

    m->f.source.hole_count = 300;
    receive_fails(m, UINT64_MAX, UINT64_MAX, "the source has no page there", "serve gave up");
}

static void every_page_compared(void **state)
{
    struct move *m = *state;
    json_t *report;

    m->f.receive.verify = VERIFY_FULL;
    ready(m);
    await_reason(m, "receive", "waiting for commit");
    commit_both(m);
    report = fixture_last(&m->f, "receive");
    assert_int_equal(figure(report, "compare", "compared"), 1300);
    assert_int_equal(figure(report, "compare", "differing_pages"), 0);
    json_decref(report);
}

static void a_daemon_keeps_one_descriptor(void **state)
{
    struct move *m = *state;
    const struct daemon_options options = {
        .background = true, .run_dir = m->f.dir, .name = "d", .keep_fd = 100};
    pid_t parent = fork();

    if (parent == 0) {
        FILE *out;

        /* Inherited, some from someone careless. */
        for (int fd = 99; fd <= 102; fd++)
            if (dup2(m->set_fd[0], fd) < 0)
                _exit(9);
        if (daemon_enter(&options))
            _exit(9);
        out = fopen(in_dir(m, "daemon"), "we");
        if (!out)
            _exit(9);
        for (int fd = 99; fd <= 102; fd++)
            fprintf(out, "%d ", fcntl(fd, F_GETFD));
        fprintf(out, "%d\n", getsid(0) == getpid());
        fclose(out);
        daemon_ready();
        _exit(0);
    }
    ends(&parent, 0);
    assert_true(file_has(m, "daemon", "-1 1 -1 -1 1\n"));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        MOVE(the_whole_way),
        MOVE(the_whole_way_on_a_stock_xen),
        MOVE(pushes_when_it_is_committed),
        MOVE(all_is_there_before_commit),
        MOVE(all_is_there_and_then_given_up),
        MOVE(receive_comes_before_the_guest_is_suspended),
        MOVE(the_set_is_not_complete_at_the_source),
        MOVE(a_page_fewer_at_the_destination),
        MOVE(a_page_more_at_the_destination),
        MOVE(a_special_page_in_the_set),
        MOVE(a_page_that_xen_refuses),
        MOVE(a_page_that_stays_nominated),
        MOVE(no_memory_to_populate),
        MOVE(no_memory_for_the_p2m),
        MOVE(a_page_the_source_lacks),
        MOVE(every_page_compared),
        MOVE(a_daemon_keeps_one_descriptor),
    };

    return switch_main(argc, argv, tests, sizeof(tests) / sizeof(tests[0]));
}
