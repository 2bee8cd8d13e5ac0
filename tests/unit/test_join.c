/* The second channel: who may join, what a transport does, and what becomes of a session whose channel
 * breaks. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "exit_status.h"
#include "switch_fixture.h"

static void serve_fails_with(struct move *m, const char *reason)
{
    m->f.serve.watch_pid = 0;
    fixture_start_serve(&m->f);
    ends(&m->f.serve_pid, EXIT_FAILED);
    last_reason(m, "serve", reason);
    nothing_wrong(m);
}

static void join_with_a_wrong_token(void **state)
{
    struct move *m = *state;

    m->f.serve.token[31] ^= 1;
    serve_fails_with(m, "status 3: xenpaging-pc join: the token is not that of session");
}

static void join_without_a_session(void **state)
{
    struct move *m = *state;

    unlink(in_dir(m, ID ".token"));
    serve_fails_with(m, "no session " ID " is prepared");
}

static void a_join_that_nobody_needs_takes_the_token_along(void **state)
{
    struct move *m = *state;

    start_serve(m);
    kill(m->f.serve_pid, SIGTERM);
    ends(&m->f.serve_pid, EXIT_FAILED);
    nothing_wrong(m);
    no_file_is_left(m);
}

static void a_second_join(void **state)
{
    struct move *m = *state;
    char line[512];
    int rc;

    start_serve(m);
    snprintf(line, sizeof(line), "%s join --session " ID " --run-dir %s <%s/" ID ".token 2>>%s/command.log",
             exe, m->f.dir, m->f.dir, m->f.dir);
    rc = system(line);
    assert_int_equal(WEXITSTATUS(rc), EXIT_REFUSED);
    assert_true(file_has(m, "command.log", "joined already"));
    /* The first is none the worse for it. */
    suspend(m);
    fixture_start_receive(&m->f);
    json_decref(fixture_await(&m->f, "receive", "active"));
    commit_both(m);
}

static void join_wants_a_whole_token(void **state)
{
    static const char *const bad[] = {"printf ''", "printf 42", "printf '42\\n'",
                                      "head -c 200 /dev/zero | tr '\\0' 4"};
    struct move *m = *state;
    char line[512];

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int rc;

        snprintf(line, sizeof(line), "%s | %s join --session " ID " --run-dir %s 2>>%s/command.log", bad[i],
                 exe, m->f.dir, m->f.dir);
        rc = system(line);
        assert_int_equal(WEXITSTATUS(rc), EXIT_FAILED);
    }
    assert_int_equal(command(m, "join --session ../../etc/passwd"), EXIT_USAGE);
    assert_int_equal(access(in_dir(m, ID ".join"), F_OK), -1);
}

static void a_transport_that_fails(void **state)
{
    struct move *m = *state;

    script(in_dir(m, "transport"), "echo 'warning' >&2; echo 'no route to host' >&2; exit 255\n");
    serve_fails_with(m, "the transport has ended with status 255: no route to host");
    script(in_dir(m, "transport"), "echo 'Welcome to b'; sleep 60\n");
    serve_fails_with(m, "is no xenpaging-pc join");
    script(in_dir(m, "transport"), "kill -9 $$\n");
    serve_fails_with(m, "status 137: Killed");
}

/* As under ssh: what join has are pipes. */
static void through_pipes(struct move *m)
{
    script(in_dir(m, "transport"),
           "shift 2\ncut -d' ' -f5 /proc/$$/stat >>%s/transport.group\ncat | %s \"$@\" --run-dir %s | cat\n",
           m->f.dir, exe, m->f.dir);
}

/* All that carries it: the transport has a session of its own. */
static void break_channel(struct move *m)
{
    char line[512];

    snprintf(line, sizeof(line),
             "for g in $(cat %s/transport.group); do kill -9 -$g; done; rm %s/transport.group", m->f.dir,
             m->f.dir);
    assert_int_equal(system(line), 0);
}

static void the_channel_breaks_before_commit(void **state)
{
    struct move *m = *state;

    m->f.serve.watch_pid = m->f.receive.watch_pid = 0;
    m->f.receive.push_on_fault = true;
    through_pipes(m);
    ready(m);
    break_channel(m);
    both_give_up(m);
    last_reason(m, "serve", "died of signal 9");
}

static void the_channel_breaks_when_all_is_there(void **state)
{
    struct move *m = *state;

    m->f.serve.watch_pid = 0;
    through_pipes(m);
    ready(m);
    await_reason(m, "receive", "waiting for commit");
    break_channel(m);
    /* It has said nothing, so the source may go on; what is here could, too, if xl says so. */
    ends(&m->f.serve_pid, EXIT_FAILED);
    await_reason(m, "receive", "all pages are here: waiting for commit");
    commit(m, "receive");
    unpause(m);
    ends(&m->f.receive_pid, EXIT_UNACKED);
    nothing_wrong(m);
}

static void the_channel_breaks_after_commit(void **state)
{
    struct move *m = *state;
    json_t *report;

    m->f.receive.push_on_fault = true;
    m->f.serve.patience_s = 1;
    through_pipes(m);
    ready(m);
    commit(m, "serve");
    commit(m, "receive");
    kill_xl(m, 0);
    /* No channel comes about any more, and nobody has shown that the guest runs. */
    script(in_dir(m, "transport"), "exit 1\n");
    break_channel(m);
    ends(&m->f.serve_pid, EXIT_MISSING);
    last_reason(m, "serve", "do not unpause");
    last_reason(m, "serve", "Only if neither g nor g--incoming exists at the destination");
    last_reason(m, "serve", "postcopy-resume -f 7");
    assert_false(access(in_dir(m, "xl.log"), F_OK) == 0);
    /* The only pages there are: the domain stays marked as a source. */
    assert_int_equal(m->f.results[0].forgotten, 0);
    report = fixture_await(&m->f, "receive", "paused");
    json_decref(report);
    kill(m->f.domain_pid, SIGUSR1);
    ends(&m->f.receive_pid, EXIT_GONE);
}

/* It asks for pages: so it runs there, and both wait for other channels, which serve opens. */
static void a_running_guest_gets_other_channels(void **state)
{
    struct move *m = *state;
    json_t *report;

    m->f.destination.load_us = 1000;
    m->f.destination.touches = 1000;
    m->f.receive.push_on_fault = true;
    through_pipes(m);
    ready(m);
    commit(m, "serve");
    commit(m, "receive");
    kill_xl(m, 0);
    unpause(m);
    do {
        report = fixture_status(&m->f, "serve");
    } while (figure(report, "link", "requests") == 0 && (json_decref(report), true));
    json_decref(report);
    break_channel(m);
    ends(&m->f.receive_pid, EXIT_DONE);
    ends(&m->f.serve_pid, EXIT_DONE);
    report = fixture_last(&m->f, "serve");
    assert_int_equal(figure(report, "link", "recoveries"), 1);
    json_decref(report);
    nothing_wrong(m);
}

static void a_channel_of_pipes(void **state)
{
    struct move *m = *state;

    through_pipes(m);
    ready(m);
    commit_both(m);
    no_file_is_left(m);
}

static void pipes_and_a_source_that_gives_up(void **state)
{
    struct move *m = *state;

    m->f.serve.watch_pid = m->f.receive.watch_pid = 0;
    m->f.receive.push_on_fault = true;
    through_pipes(m);
    ready(m);
    kill(m->f.serve_pid, SIGTERM);
    both_give_up(m);
}

static void kill_join(struct move *m)
{
    char line[512];

    snprintf(line, sizeof(line), "kill -9 $(cat %s/" ID ".join.pid)", m->f.dir);
    assert_int_equal(system(line), 0);
}

/* A channel that its carrier keeps up does not need join any more. */
static void join_dies_and_the_channel_does_not(void **state)
{
    struct move *m = *state;

    m->f.receive.push_on_fault = true;
    through_pipes(m);
    ready(m);
    kill_join(m);
    commit_both(m);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        MOVE(join_with_a_wrong_token),
        MOVE(join_without_a_session),
        MOVE(a_join_that_nobody_needs_takes_the_token_along),
        MOVE(a_second_join),
        MOVE(join_wants_a_whole_token),
        MOVE(a_transport_that_fails),
        MOVE(the_channel_breaks_before_commit),
        MOVE(the_channel_breaks_when_all_is_there),
        MOVE(the_channel_breaks_after_commit),
        MOVE(a_running_guest_gets_other_channels),
        MOVE(a_channel_of_pipes),
        MOVE(pipes_and_a_source_that_gives_up),
        MOVE(join_dies_and_the_channel_does_not),
    };

    return switch_main(argc, argv, tests, sizeof(tests) / sizeof(tests[0]));
}
