/* xenpaging-pc recover: a paused session, told to go on at once. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "exit_status.h"
#include "relay.h"
#include "session_run.h"
#include "switch_fixture.h"

#define NO_SESSION 9

static struct relay relay;

/* By hand, with a relay between the two. */
static int by_hand(void **state)
{
    struct move *m = calloc(1, sizeof(*m));

    fixture_init(&m->f);
    relay_init(&relay);
    *state = m;
    return 0;
}

static int over(void **state)
{
    struct move *m = *state;

    relay_free(&relay);
    fixture_free(&m->f);
    free(m);
    return 0;
}

/* Active, and the guest does not run yet. */
static void idle(struct move *m)
{
    m->f.receive.push_on_fault = true;
    m->f.destination.auto_unpause = false;
    fixture_start_serve(&m->f);
    relay_start(&relay, m->f.address);
    strcpy(m->f.address, relay.address);
    fixture_start_receive(&m->f);
    json_decref(fixture_await(&m->f, "receive", "active"));
}

static void await_state(struct move *m, const char *role, const char *state)
{
    for (int i = 0; i < 1000; i++) {
        json_t *report = fixture_status(&m->f, role);
        bool there = strcmp(json_string_value(json_object_get(report, "state")), state) == 0;

        json_decref(report);
        if (there)
            return;
        usleep(10000);
    }
    fail();
}

/* The channels are lost, and cannot be had again for now; the next try is in more than a second. */
static void lose(struct move *m)
{
    json_t *report = fixture_status(&m->f, "receive");
    uint64_t connections = relay.shared->connections;

    relay.shared->closed = true;
    kill(fixture_process(report, "feeder"), SIGKILL);
    json_decref(report);
    await_state(m, "receive", "paused");
    await_state(m, "serve", "paused");
    usleep(1600000);
    assert_int_equal(relay.shared->connections, connections);
    relay.shared->closed = false;
}

static void completes(struct move *m)
{
    unpause(m);
    ends(&m->f.receive_pid, EXIT_DONE);
    ends(&m->f.serve_pid, EXIT_DONE);
    assert_int_equal(m->f.results[1].wrong_pages, 0);
    nothing_wrong(m);
}

static pid_t in_background(const struct move *m, const char *words)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(command(m, "%s", words));
    return pid;
}

static void there_is_no_such_session(void **state)
{
    struct move *m = *state;

    assert_int_equal(command(m, "recover"), NO_SESSION);
    assert_int_equal(command(m, "recover --session nonsense"), EXIT_USAGE);
    assert_int_equal(command(m, "recover one two"), EXIT_USAGE);
    assert_int_equal(command(m, "recover --what"), EXIT_USAGE);
    idle(m);
    assert_int_equal(command(m, "recover another"), NO_SESSION);
    assert_int_equal(command(m, "recover --session " ID), NO_SESSION);
    completes(m);
    /* It has ended. */
    assert_int_equal(command(m, "recover g"), NO_SESSION);
}

static void one_that_is_not_paused_refuses(void **state)
{
    struct move *m = *state;

    fixture_start_serve(&m->f);
    assert_int_equal(command(m, "recover --role serve"), EXIT_FAILED);
    ends(&m->f.serve_pid, (kill(m->f.serve_pid, SIGTERM), EXIT_FAILED));
    idle(m);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(command(m, "recover --role receive"), EXIT_FAILED);
        assert_int_equal(command(m, "recover --role serve g"), EXIT_FAILED);
    }
    assert_true(file_has(m, "command.log", "the session is not paused"));
    completes(m);
}

static void one_that_is_paused_goes_on_at_once(void **state)
{
    struct move *m = *state;
    uint64_t began;
    json_t *report;

    idle(m);
    lose(m);
    began = monotonic_ns();
    assert_int_equal(command(m, "recover --role receive"), EXIT_DONE);
    /* Left to itself it would have waited longer. */
    assert_true(monotonic_ns() - began < UINT64_C(1000000000));
    report = fixture_status(&m->f, "receive");
    assert_int_equal(figure(report, "link", "recoveries"), 1);
    json_decref(report);
    assert_int_equal(command(m, "recover --role receive"), EXIT_FAILED);
    completes(m);
}

static void both_are_told(void **state)
{
    struct move *m = *state;
    pid_t serve;

    idle(m);
    lose(m);
    /* It can only wait for the other. */
    serve = in_background(m, "recover --role serve");
    usleep(200000);
    assert_int_equal(command(m, "recover --role receive"), EXIT_DONE);
    assert_int_equal(fixture_wait(serve), EXIT_DONE);
    completes(m);
}

/* While another is being tried it is begun anew. */
static void again_and_again(void **state)
{
    struct move *m = *state;
    pid_t pids[8];

    idle(m);
    lose(m);
    for (int i = 0; i < 8; i++)
        pids[i] = in_background(m, "recover --role receive");
    for (int i = 0; i < 8; i++) {
        int rc = fixture_wait(pids[i]);

        /* One that came too late is told so. */
        assert_true(rc == EXIT_DONE || rc == EXIT_FAILED);
    }
    await_state(m, "receive", "active");
    completes(m);
}

static void it_ends_meanwhile(void **state)
{
    struct move *m = *state;
    pid_t told;

    idle(m);
    lose(m);
    relay.shared->closed = true;
    told = in_background(m, "recover --role receive");
    usleep(300000);
    assert_int_equal(kill(m->f.domain_pid, SIGUSR1), 0);
    ends(&m->f.receive_pid, EXIT_GONE);
    assert_int_equal(fixture_wait(told), EXIT_FAILED);
}

int main(int argc, char **argv)
{
#define BY_HAND(test) cmocka_unit_test_setup_teardown(test, by_hand, over)
    const struct CMUnitTest tests[] = {
        BY_HAND(there_is_no_such_session),
        BY_HAND(one_that_is_not_paused_refuses),
        BY_HAND(one_that_is_paused_goes_on_at_once),
        BY_HAND(both_are_told),
        BY_HAND(again_and_again),
        BY_HAND(it_ends_meanwhile),
    };

    return switch_main(argc, argv, tests, sizeof(tests) / sizeof(tests[0]));
}
