/* Whose guest it is, and who sees to it when xl dies, gives up, or is handed the guest back. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "channel.h"
#include "exit_status.h"
#include "core/run_hash.h"
#include "switch_fixture.h"
#include "wire/bytes.h"
#include "wire/wire.h"

static void take_frame(int fd, unsigned int type, uint8_t *body, size_t size)
{
    uint8_t head[8];

    assert_int_equal(recv(fd, head, 8, MSG_WAITALL), 8);
    assert_int_equal(get_u16(head + 4), type);
    assert_true(get_u32(head) <= size);
    if (get_u32(head))
        assert_int_equal(recv(fd, body, get_u32(head), MSG_WAITALL), get_u32(head));
}

static void put_frame(int fd, const uint8_t *frame, size_t size)
{
    assert_int_equal(send(fd, frame, size, MSG_NOSIGNAL), size);
}

/* A receiver that this test plays, as far as ACTIVE. */
static struct channel play_receiver(struct move *m)
{
    static const uint64_t runs[3][2] = {{0, 600}, {800, 690}, {1491, 9}};
    static uint8_t out[4096], body[512 * 1024];
    struct wire_hello hello = {.version = WIRE_VERSION,
                               .role = WIRE_RECEIVER,
                               .page_shift = WIRE_PAGE_SHIFT,
                               .offered = 0,
                               .credit_max = 2000,
                               .asked_max = 64};
    struct run_hash hash;
    uint32_t streams = 0; /* it joins none */
    char why[256];
    struct channel c;

    memset(hello.uuid, 0x11, sizeof(hello.uuid));
    memset(hello.token, TOKEN_BYTE, sizeof(hello.token));
    start_serve(m);
    suspend(m);
    assert_int_equal(channel_open(m->join, 1000, &c, &streams, why, sizeof(why)), 0);
    fcntl(c.in, F_SETFL, 0);
    fcntl(c.out, F_SETFL, 0);
    put_frame(c.out, out, wire_put_hello(out, &hello));
    take_frame(c.in, WIRE_HELLO_ACK, body, sizeof(body));
    run_hash_init(&hash);
    for (unsigned int i = 0; i < 3; i++) {
        wire_add_pair(out, i, runs[i][0], runs[i][1]);
        assert_int_equal(run_hash_add(&hash, runs[i][0], runs[i][1], NR), 0);
    }
    put_frame(c.out, out, wire_finish_list(out, WIRE_SET, 3, 0));
    put_frame(c.out, out, wire_put_pair(out, WIRE_SET_END, hash.pages, run_hash_value(&hash)));
    take_frame(c.in, WIRE_SET_ACK, body, sizeof(body));
    return c;
}

static void put_complete(int fd)
{
    uint8_t out[64];
    struct wire_complete counts = {.set = 1299, .dropped = 1299};

    put_frame(fd, out, wire_put_complete(out, &counts));
}

static void put_gone(int fd, unsigned int reason)
{
    uint8_t out[64];

    put_frame(fd, out, wire_put_words(out, WIRE_GONE, reason, 0));
}

static void hang_up(const struct channel *c)
{
    close(c->in);
    close(c->out);
    close(c->join);
}

/* A receiver that says COMPLETE before anybody has committed. */
static void complete_before_commit_destroys_nothing(void **state)
{
    struct move *m = *state;
    struct channel c = play_receiver(m);
    uint8_t body[64];

    put_complete(c.out);
    take_frame(c.in, WIRE_COMPLETE_ACK, body, sizeof(body));
    await_reason(m, "serve", "waiting for commit");
    hang_up(&c);
    usleep(300000);
    assert_int_equal(access(in_dir(m, "xl.log"), F_OK), -1);
    assert_int_equal(kill(m->f.serve_pid, 0), 0);
    commit(m, "serve");
    ends(&m->f.serve_pid, EXIT_DONE);
    assert_true(file_has(m, "xl.log", "destroy 7"));
}

/* Of a guest that the destination has given up nothing it says later may take the source's away. */
static void given_up_is_not_taken_back(void **state)
{
    struct move *m = *state;
    struct channel c = play_receiver(m);

    commit(m, "serve");
    kill_xl(m, 0);
    put_gone(c.out, WIRE_GONE_GIVEN_UP);
    await_reason(m, "serve", "waiting for its word that the copy there is destroyed");
    put_complete(c.out);
    ends(&m->f.serve_pid, EXIT_FAILED);
    last_reason(m, "serve", "COMPLETE, after the guest was given up");
    last_reason(m, "serve", "does not go on by itself");
    last_reason(m, "serve", "postcopy-resume -f 7");
    assert_int_equal(access(in_dir(m, "xl.log"), F_OK), -1);
    hang_up(&c);
}

static void given_up_and_then_said_to_have_run(void **state)
{
    struct move *m = *state;
    struct channel c = play_receiver(m);

    commit(m, "serve");
    put_gone(c.out, WIRE_GONE_GIVEN_UP);
    put_gone(c.out, WIRE_GONE_RAN);
    ends(&m->f.serve_pid, EXIT_FAILED);
    last_reason(m, "serve", "GONE with reason 3, after the guest was given up");
    assert_int_equal(access(in_dir(m, "xl.log"), F_OK), -1);
    hang_up(&c);
}

/* xl has the destination's word by its own channel. */
static void given_up_and_aborted(void **state)
{
    struct move *m = *state;
    struct channel c = play_receiver(m);

    commit(m, "serve");
    put_gone(c.out, WIRE_GONE_GIVEN_UP);
    await_reason(m, "serve", "waiting for its word");
    assert_int_equal(command(m, "abort --role serve --session " ID), 0);
    ends(&m->f.serve_pid, EXIT_FAILED);
    assert_int_equal(access(in_dir(m, "xl.log"), F_OK), -1);
    assert_true(m->f.results[0].forgotten > 0);
    hang_up(&c);
}

static void the_guest_ends_at_the_destination(void **state)
{
    struct move *m = *state;

    m->f.receive.push_on_fault = true;
    m->f.destination.load_us = 2000;
    ready(m);
    commit(m, "serve");
    commit(m, "receive");
    /* It runs, faults, and is destroyed before it is whole: nobody hands that back. */
    kill(m->f.domain_pid, SIGUSR2);
    for (int i = 0; i < 500 && m->f.results[1].touches == 0; i++)
        usleep(10000);
    kill(m->f.domain_pid, SIGUSR1);
    ends(&m->f.receive_pid, EXIT_GONE);
    ends(&m->f.serve_pid, EXIT_GONE);
    last_reason(m, "serve", "ended at the destination; domain 7 here is destroyed");
    assert_true(file_has(m, "xl.log", "destroy 7"));
}

static void the_copy_is_destroyed_before_it_ran(void **state)
{
    struct move *m = *state;

    m->f.receive.push_on_fault = true;
    m->f.serve.watch_pid = 0;
    ready(m);
    commit(m, "serve");
    kill(m->f.domain_pid, SIGUSR1);
    ends(&m->f.receive_pid, EXIT_FAILED);
    ends(&m->f.serve_pid, EXIT_HANDED_BACK);
    last_reason(m, "serve", "is intact");
    last_reason(m, "serve", "postcopy-resume -f 7");
    assert_int_equal(access(in_dir(m, "xl.log"), F_OK), -1);
    assert_int_equal(m->f.results[0].our_pauses, 0);
    /* Nobody has taken it back yet. */
    assert_int_equal(m->f.results[0].forgotten, 0);
}

static void handed_back_when_both_xl_are_dead(void **state)
{
    struct move *m = *state;

    m->f.receive.push_on_fault = true;
    ready(m);
    commit(m, "serve");
    kill_xl(m, 0);
    kill_xl(m, 1);
    ends(&m->f.receive_pid, EXIT_FAILED);
    ends(&m->f.serve_pid, EXIT_HANDED_BACK);
    last_reason(m, "receive", "destroy 8 done");
    last_reason(m, "serve", "handed back");
    last_reason(m, "serve", "postcopy-resume -f 7 done");
    assert_true(file_has(m, "xl.log", "destroy 8\npostcopy-resume -f 7\n"));
    assert_false(file_has(m, "xl.log", "destroy 7"));
    nothing_wrong(m);
}

static void handed_back_to_a_living_xl(void **state)
{
    struct move *m = *state;

    m->f.receive.push_on_fault = true;
    ready(m);
    commit(m, "serve");
    kill_xl(m, 1);
    ends(&m->f.receive_pid, EXIT_FAILED);
    assert_int_equal(command(m, "status --session " ID " --role serve --wait ended"), 0);
    last_reason(m, "serve", "handed back");
    /* It stays for the case that xl dies before it has resumed the guest, which is xl's to do. */
    usleep(300000);
    assert_int_equal(waitpid(m->f.serve_pid, NULL, WNOHANG), 0);
    kill(m->f.serve_pid, SIGTERM);
    ends(&m->f.serve_pid, EXIT_HANDED_BACK);
    assert_false(file_has(m, "xl.log", "resume"));
    nothing_wrong(m);
}

static void given_up_and_not_destroyed_is_no_hand_back(void **state)
{
    struct move *m = *state;

    m->f.receive.push_on_fault = true;
    script(in_dir(m, "xl-fails"), " ");
    ready(m);
    commit(m, "serve");
    kill_xl(m, 0);
    kill_xl(m, 1);
    ends(&m->f.receive_pid, EXIT_FAILED);
    ends(&m->f.serve_pid, EXIT_FAILED);
    last_reason(m, "serve", "does not go on by itself");
    last_reason(m, "serve", "Only if neither g nor g--incoming exists at the destination");
    last_reason(m, "serve", "postcopy-resume -f 7");
    assert_false(file_has(m, "xl.log", "resume"));
    assert_int_equal(m->f.results[0].forgotten, 0);
}

static void xl_dies_between_commit_and_unpause(void **state)
{
    struct move *m = *state;

    m->f.receive.push_on_fault = true;
    ready(m);
    commit(m, "serve");
    commit(m, "receive");
    kill_xl(m, 1);
    ends(&m->f.receive_pid, EXIT_DONE);
    ends(&m->f.serve_pid, EXIT_DONE);
    assert_true(file_has(m, "xl.log", "unpause 8\n"));
    assert_true(m->f.results[1].touches > 1300);
    assert_int_equal(m->f.results[1].wrong_pages, 0);
    nothing_wrong(m);
}

static void xl_dies_before_unpause_when_all_is_there(void **state)
{
    struct move *m = *state;

    ready(m);
    await_reason(m, "receive", "waiting for commit");
    commit(m, "serve");
    commit(m, "receive");
    ends(&m->f.serve_pid, EXIT_DONE);
    /* The session is over, but the guest does not run yet. */
    assert_int_equal(command(m, "status --session " ID " --role receive --wait ended"), 0);
    usleep(300000);
    assert_int_equal(waitpid(m->f.receive_pid, NULL, WNOHANG), 0);
    kill_xl(m, 1);
    ends(&m->f.receive_pid, EXIT_DONE);
    last_reason(m, "receive", "unpause 8 done");
    assert_true(m->f.results[1].touches > 1300);
    nothing_wrong(m);
}

static void xl_dies_and_the_guest_is_to_stay_paused(void **state)
{
    struct move *m = *state;

    m->f.receive.leave_paused = true;
    ready(m);
    await_reason(m, "receive", "waiting for commit");
    commit(m, "serve");
    commit(m, "receive");
    kill_xl(m, 1);
    ends(&m->f.receive_pid, EXIT_DONE);
    ends(&m->f.serve_pid, EXIT_DONE);
    assert_false(file_has(m, "xl.log", "unpause"));
}

static void xl_dies_at_the_source(void **state)
{
    struct move *m = *state;

    m->f.receive.watch_pid = 0;
    ready(m);
    kill_xl(m, 0);
    both_give_up(m);
    last_reason(m, "serve", "has ended before commit");
    last_reason(m, "serve", "postcopy-resume 7 done");
    assert_true(file_has(m, "xl.log", "postcopy-resume 7"));
}

static void xl_dies_when_all_is_there_and_not_committed(void **state)
{
    struct move *m = *state;

    ready(m);
    await_reason(m, "receive", "waiting for commit");
    kill_xl(m, 0);
    kill_xl(m, 1);
    ends(&m->f.serve_pid, EXIT_FAILED);
    ends(&m->f.receive_pid, EXIT_FAILED);
    assert_true(file_has(m, "xl.log", "postcopy-resume 7"));
    assert_true(file_has(m, "xl.log", "destroy 8"));
    assert_false(file_has(m, "xl.log", "destroy 7"));
}

static void xl_dies_while_the_guest_is_suspending(void **state)
{
    struct move *m = *state;

    start_serve(m);
    kill_xl(m, 0);
    /* The session is over, but not what it has to see to. */
    for (int i = 0; i < 500 && access(in_dir(m, "serve-7.last.json"), F_OK); i++)
        usleep(20000);
    usleep(100000);
    assert_false(file_has(m, "xl.log", "resume"));
    assert_int_equal(kill(m->f.serve_pid, 0), 0);
    m->f.results[0].suspended = true;
    assert_int_equal(kill(m->f.serve_pid, SIGUSR2), 0);
    ends(&m->f.serve_pid, EXIT_FAILED);
    assert_true(file_has(m, "xl.log", "postcopy-resume 7"));
    nothing_wrong(m);
}

static void xl_dies_after_the_session_failed(void **state)
{
    struct move *m = *state;

    m->f.destination.no_claim = true;
    start_serve(m);
    suspend(m);
    fixture_start_receive(&m->f);
    /* Last words are there for xl, and each side stays for the case that xl dies before it has acted. */
    assert_int_equal(command(m, "status --session " ID " --role serve --wait ended"), 0);
    usleep(300000);
    assert_int_equal(waitpid(m->f.serve_pid, NULL, WNOHANG), 0);
    assert_int_equal(waitpid(m->f.receive_pid, NULL, WNOHANG), 0);
    last_reason(m, "receive", "no memory on this host for the 1299 pages");
    kill_xl(m, 0);
    kill_xl(m, 1);
    both_give_up(m);
    assert_true(file_has(m, "xl.log", "postcopy-resume 7"));
    assert_true(file_has(m, "xl.log", "destroy 8"));
}

static void xl_dies_at_the_destination(void **state)
{
    struct move *m = *state;

    m->f.serve.watch_pid = 0;
    m->f.receive.push_on_fault = true;
    ready(m);
    kill_xl(m, 1);
    both_give_up(m);
    last_reason(m, "receive", "destroy 8 done");
    last_reason(m, "serve", "is intact");
    no_file_is_left(m);
}

static void sigterm_ends_either_side_before_commit(void **state)
{
    struct move *m = *state;

    m->f.receive.push_on_fault = true;
    m->f.receive.watch_pid = 0;
    ready(m);
    kill(m->f.serve_pid, SIGTERM);
    both_give_up(m);
    assert_false(access(in_dir(m, "xl.log"), F_OK) == 0);
}

static void sigterm_is_refused_after_commit(void **state)
{
    struct move *m = *state;
    json_t *report;

    m->f.receive.push_on_fault = true;
    ready(m);
    commit(m, "serve");
    kill(m->f.serve_pid, SIGTERM);
    for (int i = 0; i < 500; i++) {
        report = fixture_status(&m->f, "serve");
        if (json_integer_value(json_object_get(report, "signals_refused")))
            break;
        json_decref(report);
        usleep(10000);
    }
    assert_string_equal(json_string_value(json_object_get(report, "state")), "active");
    json_decref(report);
    commit(m, "receive");
    kill(m->f.receive_pid, SIGTERM);
    kill(m->f.domain_pid, SIGUSR2);
    ends(&m->f.receive_pid, EXIT_DONE);
    ends(&m->f.serve_pid, EXIT_DONE);
    assert_int_equal(m->f.results[1].wrong_pages, 0);
    nothing_wrong(m);
}

static void handed_back_after_commit(void **state)
{
    struct move *m = *state;

    m->f.receive.push_on_fault = true;
    ready(m);
    commit(m, "serve");
    /* The destination could not run it, destroyed it, and said so to xl. */
    assert_int_equal(command(m, "abort --role receive --session " ID), 0);
    ends(&m->f.receive_pid, EXIT_FAILED);
    ends(&m->f.serve_pid, EXIT_FAILED);
    last_reason(m, "serve", "has not said that its copy is destroyed");
    assert_int_equal(command(m, "abort --role serve --session " ID), 0);
    assert_int_equal(command(m, "abort --session " ID), 0);
    nothing_wrong(m);
    assert_false(access(in_dir(m, "xl.log"), F_OK) == 0);
    no_file_is_left(m);
    assert_int_equal(access(in_dir(m, "serve-7.last.json"), F_OK), -1);
}

static int oom_score(const struct move *m, const char *name)
{
    FILE *in = fopen(*name == '/' ? name : in_dir(m, name), "re");
    int value = 4711;

    assert_non_null(in);
    assert_int_equal(fscanf(in, "%d", &value), 1);
    fclose(in);
    return value;
}

static int oom_score_of(const struct move *m, pid_t pid)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", pid);
    return oom_score(m, path);
}

static void the_pager_is_not_the_first_to_be_killed_for_memory(void **state)
{
    struct move *m = *state;
    int ours = oom_score_of(m, getpid()), theirs;
    json_t *report;

    m->f.receive.push_on_fault = true;
    ready(m);
    theirs = oom_score_of(m, m->f.serve_pid);
    if (theirs == -1000) {
        assert_int_equal(oom_score_of(m, m->f.receive_pid), -1000);
    } else {
        /* Without the right to it is said, and no failure. */
        assert_int_equal(theirs, ours);
        assert_true(file_has(m, "serve.log", " /proc/self/oom_score_adj: "));
        assert_true(file_has(m, "receive.log", " /proc/self/oom_score_adj: "));
    }
    /* Neither the feeder nor what is run for us is a pager. */
    report = fixture_status(&m->f, "receive");
    assert_int_equal(oom_score_of(m, fixture_process(report, "feeder")), ours);
    assert_int_equal(oom_score_of(m, fixture_process(report, "pager")), theirs);
    json_decref(report);
    assert_int_equal(oom_score(m, "transport.oom"), ours);
    commit(m, "serve");
    commit(m, "receive");
    unpause(m);
    ends(&m->f.receive_pid, EXIT_DONE);
    ends(&m->f.serve_pid, EXIT_DONE);
    assert_int_equal(oom_score(m, "xl.oom"), ours);
}

static void commit_has_its_time(void **state)
{
    struct move *m = *state;

    start_serve(m);
    assert_int_equal(command(m, "commit --role serve --session " ID), EXIT_FAILED);
    assert_true(file_has(m, "command.log", "nothing to commit yet"));
    assert_int_equal(command(m, "commit --role receive --session " ID), 9);
    assert_int_equal(command(m, "commit --role serve --session 0123456789abcdee"), 9);
    assert_int_equal(command(m, "commit --role serve 7"), EXIT_FAILED);
    assert_int_equal(command(m, "abort --session " ID), 0);
    ends(&m->f.serve_pid, EXIT_FAILED);
    nothing_wrong(m);
    no_file_is_left(m);
}

static void a_domain_that_cannot_be_destroyed_is_said(void **state)
{
    struct move *m = *state;

    script(in_dir(m, "xl-fails"), " ");
    ready(m);
    commit(m, "serve");
    commit(m, "receive");
    unpause(m);
    ends(&m->f.receive_pid, EXIT_DONE);
    ends(&m->f.serve_pid, EXIT_LEFT_OVER);
    last_reason(m, "serve", "has ended with status 3: xl: not today");
    last_reason(m, "serve", "left over");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        MOVE(complete_before_commit_destroys_nothing),
        MOVE(the_guest_ends_at_the_destination),
        MOVE(the_copy_is_destroyed_before_it_ran),
        MOVE(given_up_is_not_taken_back),
        MOVE(given_up_and_then_said_to_have_run),
        MOVE(given_up_and_aborted),
        MOVE(given_up_and_not_destroyed_is_no_hand_back),
        MOVE(handed_back_when_both_xl_are_dead),
        MOVE(handed_back_to_a_living_xl),
        MOVE(xl_dies_between_commit_and_unpause),
        MOVE(xl_dies_before_unpause_when_all_is_there),
        MOVE(xl_dies_and_the_guest_is_to_stay_paused),
        MOVE(the_pager_is_not_the_first_to_be_killed_for_memory),
        MOVE(xl_dies_at_the_source),
        MOVE(xl_dies_when_all_is_there_and_not_committed),
        MOVE(xl_dies_while_the_guest_is_suspending),
        MOVE(xl_dies_after_the_session_failed),
        MOVE(xl_dies_at_the_destination),
        MOVE(sigterm_ends_either_side_before_commit),
        MOVE(sigterm_is_refused_after_commit),
        MOVE(handed_back_after_commit),
        MOVE(commit_has_its_time),
        MOVE(a_domain_that_cannot_be_destroyed_is_said),
    };

    return switch_main(argc, argv, tests, sizeof(tests) / sizeof(tests[0]));
}
