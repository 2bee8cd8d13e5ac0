/* The hook script; of xenpaging-pc it gets a fake for what needs Xen, and the real one for the rest. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "exit_status.h"
#include "switch_fixture.h"

#define TOKEN_TEXT "4242424242424242424242424242424242424242424242424242424242424242"

static void fake_pager(const struct move *m, const char *probe, const char *start)
{
    assert_true(mkdir(in_dir(m, "bin"), 0755) == 0 || access(in_dir(m, "bin"), F_OK) == 0);
    script(in_dir(m, "bin/xenpaging-pc"),
           "case $1 in\nprobe) %s ;;\nserve | receive) echo \"$@\" >>%s/args; %s ;;\n*) exec %s \"$@\" "
           ";;\nesac\n",
           probe, m->f.dir, start, exe);
}

/* input: NULL for none at all. */
static int hook(const struct move *m, const char *environment, const char *action, const char *input)
{
    char line[4096];
    int rc;

    snprintf(line, sizeof(line),
             "PATH=%s/bin:$PATH POSTCOPY_RUN_DIR=%s POSTCOPY_LOG_DIR=%s/log POSTCOPY_SESSION=" ID
             " %s %s %s 2>%s/hook.err %s%s%s",
             m->f.dir, m->f.dir, m->f.dir, environment, HOOK_SCRIPT, action, m->f.dir,
             input ? "<<E\n" : "</dev/null", input ? input : "", input ? "\nE\n" : "");
    rc = system(line);
    assert_true(WIFEXITED(rc));
    return WEXITSTATUS(rc);
}

static void hook_keeps_the_token_of_a_fit_host(void **state)
{
    struct move *m = *state;
    struct stat st;

    unlink(in_dir(m, ID ".token"));
    fake_pager(m, "echo 'no: not a Xen host'; exit 4", "exit 0");
    assert_int_equal(hook(m, "", "prepare", TOKEN_TEXT), 4);
    assert_true(file_has(m, "hook.err", "postcopy prepare: no: not a Xen host\n"));
    assert_int_equal(access(in_dir(m, ID ".token"), F_OK), -1);
    fake_pager(m, "exit 0", "exit 0");
    assert_int_equal(hook(m, "", "prepare", "42"), 2);
    assert_int_equal(hook(m, "", "prepare", TOKEN_TEXT "0"), 2);
    assert_int_equal(hook(m, "POSTCOPY_SESSION=../../../../x", "prepare", TOKEN_TEXT), 2);
    assert_int_equal(hook(m, "POSTCOPY_SESSION=0123456789ABCDEF", "prepare", TOKEN_TEXT), 2);
    assert_int_equal(hook(m, "", "nothing", TOKEN_TEXT), 2);
    assert_int_equal(hook(m, "POSTCOPY_PID=999999999", "prepare", TOKEN_TEXT), 1);
    assert_true(file_has(m, "hook.err", "process 999999999 is gone"));
    assert_int_equal(access(in_dir(m, ID ".token"), F_OK), -1);
    assert_int_equal(hook(m, "", "prepare", TOKEN_TEXT), 0);
    assert_true(file_has(m, ID ".token", TOKEN_TEXT "\n"));
    assert_int_equal(stat(in_dir(m, ID ".token"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    /* One that is there belongs to someone. */
    assert_int_equal(hook(m, "", "prepare", TOKEN_TEXT), 1);
    assert_int_equal(hook(m, "", "abort", ""), 0);
    assert_int_equal(hook(m, "", "abort", ""), 0);
    no_file_is_left(m);
}

static void hook_starts_serve_and_receive(void **state)
{
    static const char both[] = "POSTCOPY_DOMID=7 POSTCOPY_NAME='a b/c' POSTCOPY_PID=4711 POSTCOPY_SET_FD=9 "
                               "POSTCOPY_OPTIONS='--pool-pages 64'";
    struct move *m = *state;
    char with[512];

    fake_pager(m, "exit 0", "exit 0");
    assert_int_equal(hook(m, both, "serve", TOKEN_TEXT), 2); /* no transport */
    snprintf(with, sizeof(with), "%s POSTCOPY_TRANSPORT='ssh -p 2222 b'", both);
    assert_int_equal(hook(m, with, "serve", TOKEN_TEXT), 0);
    assert_true(file_has(
        m, "args", "serve --detach --domain 7 --name a b/c --session " ID " --set-fd 9 --watch-pid 4711"));
    assert_true(file_has(m, "args",
                         "--transport ssh -o BatchMode=yes -o ControlPath=none -o "
                         "ServerAliveInterval=5 -o ServerAliveCountMax=6 -p 2222 b --destroy"));
    assert_true(file_has(m, "args", "/log/postcopy-serve-a_b_c.log"));
    assert_true(file_has(m, "args", " --pool-pages 64\n"));
    assert_int_equal(access(in_dir(m, ID ".serve-token"), F_OK), -1);
    assert_false(file_has(m, "args", "--max-push"));
    snprintf(with, sizeof(with), "%s POSTCOPY_TRANSPORT='ssh b' POSTCOPY_MAX_BANDWIDTH=25", both);
    assert_int_equal(hook(m, with, "serve", TOKEN_TEXT), 0);
    assert_true(file_has(m, "args", " --max-push 25 "));
    script(in_dir(m, "bin/id"), "exit 1\n");
    assert_int_equal(hook(m, both, "receive", ""), 0);
    assert_true(file_has(m, "args", "receive --detach --domain 7"));
    assert_false(file_has(m, "args", "--feeder-uid"));
    script(in_dir(m, "bin/id"),
           "case $* in\n'-u xenpaging-pc') echo 123 ;;\n'-g xenpaging-pc') echo 456 ;;\nesac\n");
    assert_int_equal(hook(m, both, "receive", ""), 0);
    assert_true(file_has(m, "args", " --feeder-uid 123:456 --pool-pages 64\n"));
    assert_true(file_has(m, "args", ID ".join --token-file"));
    /* Another script as transport is left alone. */
    snprintf(with, sizeof(with), "%s POSTCOPY_TRANSPORT='/root/viasocat b'", both);
    assert_int_equal(hook(m, with, "serve", TOKEN_TEXT), 0);
    assert_true(file_has(m, "args", "--transport /root/viasocat b --destroy"));
    /* Why it cannot start is passed on. */
    fake_pager(m, "exit 0", "echo 'noise'; echo 'domain g cannot be paged' >&2; exit 4");
    assert_int_equal(hook(m, both, "receive", ""), 4);
    assert_true(file_has(m, "hook.err", "postcopy receive: domain g cannot be paged\n"));
    assert_false(file_has(m, "hook.err", "noise"));
    assert_false(file_has(m, "args", "--leave-paused"));
    assert_false(file_has(m, "args", "--early"));
    snprintf(with, sizeof(with), "%s POSTCOPY_PAUSED=1", both);
    fake_pager(m, "exit 0", "exit 0");
    assert_int_equal(hook(m, with, "receive", ""), 0);
    assert_true(file_has(m, "args", " --leave-paused "));
    snprintf(with, sizeof(with), "%s POSTCOPY_EARLY=1", both);
    assert_int_equal(hook(m, with, "receive", ""), 0);
    assert_true(file_has(m, "args", " --early "));
}

static void hook_tells_a_hand_back_from_a_failure(void **state)
{
    struct move *m = *state;

    fake_pager(m, "exit 0", "exit 0");
    m->f.receive.push_on_fault = true;
    ready(m);
    assert_int_equal(hook(m, "POSTCOPY_ROLE=serve", "commit", ""), 0);
    kill_xl(m, 1);
    assert_int_equal(hook(m, "POSTCOPY_ROLE=serve POSTCOPY_STATE=completed", "wait", ""), 5);
    assert_true(file_has(m, "hook.err", "handed back"));
    kill_xl(m, 0);
    ends(&m->f.receive_pid, EXIT_FAILED);
    ends(&m->f.serve_pid, EXIT_HANDED_BACK);
    assert_true(file_has(m, "xl.log", "postcopy-resume -f 7"));
}

static void hook_sees_a_migration_through(void **state)
{
    struct move *m = *state;

    fake_pager(m, "exit 0", "exit 0");
    fixture_start_serve(&m->f);
    json_decref(fixture_status(&m->f, "serve"));
    assert_int_equal(hook(m, "POSTCOPY_ROLE=serve POSTCOPY_STATE=listen", "wait", ""), 0);
    suspend(m);
    fixture_start_receive(&m->f);
    json_decref(fixture_status(&m->f, "receive"));
    assert_int_equal(hook(m, "POSTCOPY_ROLE=receive POSTCOPY_STATE=active", "wait", ""), 0);
    assert_int_equal(hook(m, "POSTCOPY_ROLE=serve", "commit", ""), 0);
    assert_int_equal(hook(m, "POSTCOPY_ROLE=receive", "commit", ""), 0);
    unpause(m);
    assert_int_equal(hook(m, "POSTCOPY_ROLE=serve POSTCOPY_STATE=completed", "wait", ""), 0);
    assert_int_equal(hook(m, "POSTCOPY_ROLE=receive POSTCOPY_STATE=ended", "wait", ""), 0);
    ends(&m->f.receive_pid, EXIT_DONE);
    ends(&m->f.serve_pid, EXIT_DONE);
    nothing_wrong(m);
}

static void marked_early_and_suspended(struct move *m)
{
    fake_pager(m, "exit 0", "exit 0");
    m->f.receive.early = true;
    write_early(m->set_fd[1], outstanding);
    start_serve(m);
    fixture_start_receive(&m->f);
    json_decref(fixture_status(&m->f, "receive"));
    assert_int_equal(hook(m, "POSTCOPY_ROLE=receive POSTCOPY_STATE=listen POSTCOPY_EARLY=1", "wait", ""), 0);
    assert_int_equal(ftruncate(m->set_fd[1], 0), 0);
    suspend(m);
}

static void hook_sees_an_early_start_through(void **state)
{
    struct move *m = *state;

    marked_early_and_suspended(m);
    assert_int_equal(hook(m, "POSTCOPY_ROLE=receive POSTCOPY_STATE=active", "activate", ""), 0);
    assert_int_equal(hook(m, "POSTCOPY_ROLE=serve", "commit", ""), 0);
    assert_int_equal(hook(m, "POSTCOPY_ROLE=receive", "commit", ""), 0);
    unpause(m);
    ends(&m->f.receive_pid, EXIT_DONE);
    ends(&m->f.serve_pid, EXIT_DONE);
    nothing_wrong(m);
}

/* Started ahead of time, and told, or not. */
static void hook_waits_to_be_told(void **state)
{
    struct move *m = *state;
    json_t *report;

    marked_early_and_suspended(m);
    assert_int_equal(hook(m, "", "activate-when-told", NULL), 0);
    report = fixture_status(&m->f, "receive");
    assert_string_equal(json_string_value(json_object_get(report, "state")), "listen");
    json_decref(report);
    assert_int_equal(hook(m, "", "activate-when-told", "go"), 0);
    assert_int_equal(hook(m, "POSTCOPY_ROLE=serve", "commit-when-told", NULL), 0);
    report = fixture_status(&m->f, "serve");
    assert_true(json_is_false(json_object_get(report, "committed")));
    json_decref(report);
    assert_int_equal(hook(m, "POSTCOPY_ROLE=serve", "commit-when-told", "go"), 0);
    report = fixture_status(&m->f, "serve");
    assert_true(json_is_true(json_object_get(report, "committed")));
    json_decref(report);
    assert_int_equal(hook(m, "POSTCOPY_ROLE=receive", "commit-when-told", "go"), 0);
    unpause(m);
    ends(&m->f.receive_pid, EXIT_DONE);
    ends(&m->f.serve_pid, EXIT_DONE);
    nothing_wrong(m);
}

/* activate says why it did not come to it, whether receive fails then or has failed before. */
static void hook_says_why_an_early_start_failed(void **state)
{
    struct move *m = *state;

    fake_pager(m, "exit 0", "exit 0");
    m->f.serve.watch_pid = m->f.receive.watch_pid = 0;
    m->f.destination.no_claim = true;
    start_early(m, outstanding);
    assert_int_equal(ftruncate(m->set_fd[1], 0), 0);
    suspend(m);
    assert_int_equal(hook(m, "", "activate", ""), 1);
    assert_true(
        file_has(m, "hook.err", "xenpaging-pc activate: receive ended before it was active: no memory on"));
    both_give_up(m);
    assert_int_equal(hook(m, "", "activate", ""), 1);
    assert_true(
        file_has(m, "hook.err", "xenpaging-pc activate: receive ended before it was active: no memory on"));
}

static void hook_says_why_a_session_failed(void **state)
{
    struct move *m = *state;

    fake_pager(m, "exit 0", "exit 0");
    m->f.serve.watch_pid = m->f.receive.watch_pid = 0;
    m->f.destination.no_claim = true;
    start_serve(m);
    suspend(m);
    fixture_start_receive(&m->f);
    /* It fails at once: its socket may be gone before anyone has asked, its last words are not. */
    both_give_up(m);
    assert_int_equal(hook(m, "POSTCOPY_ROLE=receive POSTCOPY_STATE=active", "wait", ""), 1);
    assert_true(file_has(m, "hook.err", "postcopy wait: receive ended before it was active: no memory on"));
    assert_int_equal(hook(m, "POSTCOPY_ROLE=receive", "commit", ""), 9);
    /* Killed, without last words: not waited for. */
    assert_int_equal(hook(m, "", "abort", ""), 0);
    assert_int_equal(hook(m, "POSTCOPY_ROLE=serve POSTCOPY_STATE=listen", "wait", ""), 1);
    no_file_is_left(m);
}

static void a_killed_serve_is_not_waited_for(void **state)
{
    struct move *m = *state;
    pid_t waiter;

    fake_pager(m, "exit 0", "exit 0");
    start_serve(m);
    waiter = fork();
    if (waiter == 0)
        _exit(hook(m, "POSTCOPY_ROLE=serve POSTCOPY_STATE=completed", "wait", ""));
    usleep(300000);
    kill(m->f.serve_pid, SIGKILL);
    ends(&m->f.serve_pid, -SIGKILL);
    ends(&waiter, 1);
    assert_int_equal(hook(m, "", "abort", ""), 0);
    no_file_is_left(m);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        MOVE(hook_keeps_the_token_of_a_fit_host),    MOVE(hook_starts_serve_and_receive),
        MOVE(hook_tells_a_hand_back_from_a_failure), MOVE(hook_sees_a_migration_through),
        MOVE(hook_sees_an_early_start_through),      MOVE(hook_waits_to_be_told),
        MOVE(hook_says_why_an_early_start_failed),   MOVE(hook_says_why_a_session_failed),
        MOVE(a_killed_serve_is_not_waited_for),
    };

    return switch_main(argc, argv, tests, sizeof(tests) / sizeof(tests[0]));
}
