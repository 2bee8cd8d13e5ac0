/* Channels that are lost in the middle: the session is paused, and goes on with others, as often as it takes.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "exit_status.h"
#include "fixture.h"

/* A guest that is at it for a while, with all that Xen may do to it meanwhile. */
static void start(struct fixture *f)
{
    f->destination.load_us = 1000;
    f->destination.touches = 2000;
    f->destination.drop_percent = 2;
    f->destination.foreign_percent = 10;
    fixture_start_serve(f);
    fixture_start_receive(f);
    json_decref(fixture_await(f, "receive", "active"));
}

/* Every page is there, and right, and both have said so. */
static void completes(struct fixture *f)
{
    assert_int_equal(fixture_wait(f->receive_pid), EXIT_DONE);
    f->receive_pid = 0;
    assert_int_equal(fixture_wait(f->serve_pid), EXIT_DONE);
    f->serve_pid = 0;
    assert_int_equal(f->results[1].wrong_pages, 0);
    assert_int_equal(f->results[1].violations, 0);
}

static bool ended(const json_t *report)
{
    const char *state = json_string_value(json_object_get(report, "state"));

    return strcmp(state, "drain") == 0 || strcmp(state, "completed") == 0;
}

/* A process of a role, killed each time when some pages have come since; how often. */
static int kill_again_and_again(struct fixture *f, const char *role, const char *process, int most)
{
    long long installed = 0;
    int kills = 0;

    while (kills < most) {
        json_t *receive = fixture_try_status(f, "receive"), *report;
        bool over = !receive || ended(receive);
        long long now = over ? 0 : figure(receive, "pages", "installed");

        json_decref(receive);
        if (over)
            break;
        if (now < installed + 40)
            continue;
        installed = now;
        report = fixture_try_status(f, role);
        if (report && fixture_process(report, process) > 0 &&
            kill(fixture_process(report, process), SIGKILL) == 0)
            kills++;
        json_decref(report);
    }
    return kills;
}

static void dies_again_and_again(struct fixture *f, const char *role, const char *process)
{
    json_t *report;
    int kills;

    start(f);
    kills = kill_again_and_again(f, role, process, 8);
    completes(f);
    report = fixture_last(f, role);
    assert_true(kills >= 2);
    assert_true(figure(report, "link", "recoveries") >= 1 && figure(report, "link", "recoveries") <= kills);
    json_decref(report);
}

static void the_feeder_dies_again_and_again(void **state)
{
    dies_again_and_again(*state, "receive", "feeder");
}

static void the_sender_dies_again_and_again(void **state)
{
    dies_again_and_again(*state, "serve", "sender");
}

static void without_bulk_channels(void **state)
{
    struct fixture *f = *state;

    f->receive.streams = 0;
    start(f);
    kill_again_and_again(f, "receive", "feeder", 4);
    kill_again_and_again(f, "serve", "sender", 4);
    completes(f);
}

static void with_many_channels_and_hashes(void **state)
{
    struct fixture *f = *state;

    f->receive.streams = f->serve.streams = 8;
    f->receive.verify = VERIFY_HASH;
    start(f);
    kill_again_and_again(f, "receive", "feeder", 4);
    kill_again_and_again(f, "serve", "sender", 4);
    completes(f);
}

static void the_pager_dies_as_well(void **state)
{
    struct fixture *f = *state;

    start(f);
    kill_again_and_again(f, "receive", "feeder", 2);
    kill_again_and_again(f, "receive", "pager", 2);
    kill_again_and_again(f, "receive", "feeder", 2);
    completes(f);
}

int main(int argc, char **argv)
{
#define SESSION(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        SESSION(the_feeder_dies_again_and_again), SESSION(the_sender_dies_again_and_again),
        SESSION(without_bulk_channels),           SESSION(with_many_channels_and_hashes),
        SESSION(the_pager_dies_as_well),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
