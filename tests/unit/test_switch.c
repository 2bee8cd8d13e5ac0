/* A migration as xl drives it: serve with a transport, join and receive over its socket, each a process of
 * its own; the domains, xl and the transport's other host are fakes. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "commands.h"
#include "exit_status.h"
#include "core/run_hash.h"
#include "daemon.h"
#include "fixture.h"
#include "net.h"
#include "relay.h"
#include "set_file.h"
#include "wire/bytes.h"
#include "wire/wire.h"

#define ID        "0123456789abcdef"
#define NR        1500
#define ALL_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static char exe[200];

struct move {
    struct fixture f;
    pid_t xl[2]; /* that moves the domain: at the source, at the destination */
    char join[128], transport[128], xl_script[128];
    int set_fd[2];
};

static void script(const char *path, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void script(const char *path, const char *fmt, ...)
{
    FILE *out = fopen(path, "we");
    va_list ap;

    assert_non_null(out);
    fprintf(out, "#!/bin/sh\n");
    va_start(ap, fmt);
    vfprintf(out, fmt, ap);
    va_end(ap);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(chmod(path, 0755), 0);
}

static char *in_dir(const struct move *m, const char *name)
{
    static char path[4][256];
    static unsigned int i;

    i = (i + 1) % 4;
    snprintf(path[i], sizeof(path[i]), "%s/%s", m->f.dir, name);
    return path[i];
}

static void write_token(const struct move *m, unsigned int byte)
{
    FILE *out = fopen(in_dir(m, ID ".token"), "we");

    for (int i = 0; i < 32; i++)
        fprintf(out, "%02x", byte);
    fprintf(out, "\n");
    fclose(out);
    assert_int_equal(chmod(in_dir(m, ID ".token"), 0600), 0);
}

static bool outstanding(uint64_t gfn)
{
    return (gfn < 600 || gfn >= 800) && gfn != 1490;
}

/* What libxc does at the switch. */
static void write_set(int fd, uint64_t without, uint64_t with)
{
    static uint8_t bytes[SET_FILE_HEAD + (NR + 63) / 64 * 8];
    uint64_t count = 0;

    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, SET_FILE_MAGIC, 8);
    put_u64(bytes + 8, NR);
    for (uint64_t gfn = 0; gfn < NR; gfn++) {
        if ((outstanding(gfn) && gfn != without) || gfn == with) {
            bytes[SET_FILE_HEAD + gfn / 8] |= (uint8_t)(1u << gfn % 8);
            count++;
        }
    }
    put_u64(bytes + 16, count);
    assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
    assert_int_equal(fcntl(fd, F_ADD_SEALS, ALL_SEALS), 0);
}

static pid_t start_xl(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        for (;;)
            pause();
    }
    return pid;
}

static void kill_xl(struct move *m, int side)
{
    kill(m->xl[side], SIGKILL);
    waitpid(m->xl[side], NULL, 0);
    m->xl[side] = 0;
}

static int setup(void **state)
{
    struct move *m = calloc(1, sizeof(*m));

    fixture_init(&m->f);
    write_token(m, TOKEN_BYTE);
    snprintf(m->join, sizeof(m->join), "unix:%s", in_dir(m, ID ".join"));
    snprintf(m->transport, sizeof(m->transport), "%s b", in_dir(m, "transport"));
    snprintf(m->xl_script, sizeof(m->xl_script), "%s", in_dir(m, "xl"));
    /* transport HOST xenpaging-pc join ...: on the other host. */
    script(in_dir(m, "transport"),
           "shift 2\ncat /proc/self/oom_score_adj >%s/transport.oom\nexec %s \"$@\" --run-dir %s\n", m->f.dir,
           exe, m->f.dir);
    /* The fake domain dies in the process that has it, which has started us. */
    script(m->xl_script,
           "echo \"$@\" >>%s/xl.log\n"
           "if [ -e %s/xl-fails ]; then echo 'xl: not today' >&2; exit 3; fi\n"
           "cat /proc/self/oom_score_adj >%s/xl.oom\n"
           "case $1 in destroy) kill -USR1 $PPID; sleep 0.3;; unpause) kill -USR2 $PPID; sleep 0.3;; esac\n",
           m->f.dir, m->f.dir, m->f.dir);
    for (int i = 0; i < 2; i++) {
        m->set_fd[i] = memfd_create("set", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        m->xl[i] = start_xl();
    }
    m->f.source.running = true;
    m->f.destination.switched = true;
    m->f.destination.auto_unpause = false;
    m->f.serve.listen = NULL;
    m->f.serve.bound = NULL;
    m->f.serve.session = ID;
    m->f.serve.transport = m->transport;
    m->f.serve.set_fd = m->set_fd[0];
    m->f.serve.watch_pid = m->xl[0];
    m->f.serve.destroy = true;
    m->f.serve.xl = m->xl_script;
    m->f.receive.connect = m->join;
    m->f.receive.session = ID;
    m->f.receive.set_fd = m->set_fd[1];
    m->f.receive.watch_pid = m->xl[1];
    m->f.receive.xl = m->xl_script;
    *state = m;
    return 0;
}

static int teardown(void **state)
{
    struct move *m = *state;

    for (int i = 0; i < 2; i++) {
        close(m->set_fd[i]);
        if (m->xl[i])
            kill_xl(m, i);
    }
    fixture_free(&m->f);
    free(m);
    return 0;
}

/* Exit status of the command. */
static int command(const struct move *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int command(const struct move *m, const char *fmt, ...)
{
    char words[256], line[5120];
    va_list ap;
    int rc;

    va_start(ap, fmt);
    vsnprintf(words, sizeof(words), fmt, ap);
    va_end(ap);
    snprintf(line, sizeof(line), "%s %s --run-dir %s >>%s/command.log 2>&1 </dev/null", exe, words, m->f.dir,
             m->f.dir);
    rc = system(line);
    assert_true(WIFEXITED(rc));
    return WEXITSTATUS(rc);
}

static bool file_has(const struct move *m, const char *name, const char *text)
{
    static char bytes[65536];
    FILE *in = fopen(in_dir(m, name), "re");
    size_t n = in ? fread(bytes, 1, sizeof(bytes) - 1, in) : 0;

    if (in)
        fclose(in);
    bytes[n] = '\0';
    return strstr(bytes, text);
}

static void start_serve(struct move *m)
{
    fixture_start_serve(&m->f);
    json_decref(fixture_await(&m->f, "serve", "listen"));
}

static void suspend(struct move *m)
{
    m->f.results[0].suspended = true;
    write_set(m->set_fd[0], UINT64_MAX, UINT64_MAX);
    write_set(m->set_fd[1], UINT64_MAX, UINT64_MAX);
}

/* As far as READY. */
static void ready(struct move *m)
{
    start_serve(m);
    suspend(m);
    fixture_start_receive(&m->f);
    json_decref(fixture_await(&m->f, "receive", "active"));
}

static void commit(struct move *m, const char *role)
{
    assert_int_equal(command(m, "commit --role %s --session " ID, role), 0);
}

/* xl at the destination does its part. */
static void unpause(const struct move *m)
{
    assert_int_equal(kill(m->f.receive_pid, SIGUSR2), 0);
}

/* Until the session shows that reason. */
static void await_reason(struct move *m, const char *role, const char *reason)
{
    for (int i = 0; i < 3000; i++) {
        json_t *report = fixture_status(&m->f, role);
        const char *now = json_string_value(json_object_get(report, "reason"));
        bool there = now && strstr(now, reason);

        json_decref(report);
        if (there)
            return;
        usleep(20000);
    }
    fail();
}

static void ends(pid_t *pid, int status)
{
    assert_int_equal(fixture_wait(*pid), status);
    *pid = 0;
}

static void last_reason(struct move *m, const char *role, const char *text)
{
    json_t *report = fixture_last(&m->f, role);
    const char *reason = json_string_value(json_object_get(report, "reason"));

    if (!reason || !strstr(reason, text))
        fprintf(stderr, "%s: reason is '%s', not '%s'\n", role, reason ? reason : "", text);
    assert_non_null(reason);
    assert_non_null(strstr(reason, text));
    json_decref(report);
}

static void nothing_wrong(const struct move *m)
{
    assert_int_equal(m->f.results[0].violations, 0);
    assert_int_equal(m->f.results[1].violations, 0);
    assert_int_equal(m->f.results[0].our_pauses, 0);
    assert_int_equal(m->f.results[1].claim, 0);
}

static void no_file_is_left(const struct move *m)
{
    char line[256];

    snprintf(line, sizeof(line), "! ls %s | grep -q '^" ID "'", m->f.dir);
    assert_int_equal(system(line), 0);
}

/* Everything back as it was: the source may go on, xl destroys the copy. */
static void both_give_up(struct move *m)
{
    ends(&m->f.serve_pid, EXIT_FAILED);
    ends(&m->f.receive_pid, EXIT_FAILED);
    nothing_wrong(m);
    assert_true(m->f.results[0].forgotten > 0);
    assert_true(m->f.results[1].forgotten > 0);
    assert_false(file_has(m, "xl.log", "destroy 7"));
}

static void the_whole_way(void **state)
{
    struct move *m = *state;
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
    assert_int_equal(m->f.results[1].populated, 1299);
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
static int play_receiver(struct move *m)
{
    static const uint64_t runs[3][2] = {{0, 600}, {800, 690}, {1491, 9}};
    static uint8_t out[4096], body[512 * 1024];
    struct wire_hello hello = {.version = WIRE_VERSION,
                               .role = WIRE_RECEIVER,
                               .page_shift = WIRE_PAGE_SHIFT,
                               .offered = 0,
                               .credit_max = 2000};
    struct run_hash hash;
    char why[256];
    int fd;

    memset(hello.uuid, 0x11, sizeof(hello.uuid));
    memset(hello.token, TOKEN_BYTE, sizeof(hello.token));
    start_serve(m);
    suspend(m);
    fd = net_dial(m->join, 1000, why, sizeof(why));
    assert_true(fd >= 0);
    fcntl(fd, F_SETFL, 0);
    put_frame(fd, out, wire_put_hello(out, &hello));
    take_frame(fd, WIRE_HELLO_ACK, body, sizeof(body));
    run_hash_init(&hash);
    for (unsigned int i = 0; i < 3; i++) {
        wire_add_pair(out, i, runs[i][0], runs[i][1]);
        assert_int_equal(run_hash_add(&hash, runs[i][0], runs[i][1], NR), 0);
    }
    put_frame(fd, out, wire_finish_set(out, 3));
    put_frame(fd, out, wire_put_pair(out, WIRE_SET_END, hash.pages, run_hash_value(&hash)));
    take_frame(fd, WIRE_SET_ACK, body, sizeof(body));
    return fd;
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

/* A receiver that says COMPLETE before anybody has committed. */
static void complete_before_commit_destroys_nothing(void **state)
{
    struct move *m = *state;
    int fd = play_receiver(m);
    uint8_t body[64];

    put_complete(fd);
    take_frame(fd, WIRE_COMPLETE_ACK, body, sizeof(body));
    await_reason(m, "serve", "waiting for commit");
    close(fd);
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
    int fd = play_receiver(m);

    commit(m, "serve");
    kill_xl(m, 0);
    put_gone(fd, WIRE_GONE_GIVEN_UP);
    await_reason(m, "serve", "waiting for its word that the copy there is destroyed");
    put_complete(fd);
    ends(&m->f.serve_pid, EXIT_FAILED);
    last_reason(m, "serve", "COMPLETE, after the guest was given up");
    last_reason(m, "serve", "does not go on by itself");
    last_reason(m, "serve", "postcopy-resume -f 7");
    assert_int_equal(access(in_dir(m, "xl.log"), F_OK), -1);
    close(fd);
}

static void given_up_and_then_said_to_have_run(void **state)
{
    struct move *m = *state;
    int fd = play_receiver(m);

    commit(m, "serve");
    put_gone(fd, WIRE_GONE_GIVEN_UP);
    put_gone(fd, WIRE_GONE_RAN);
    ends(&m->f.serve_pid, EXIT_FAILED);
    last_reason(m, "serve", "GONE with reason 3, after the guest was given up");
    assert_int_equal(access(in_dir(m, "xl.log"), F_OK), -1);
    close(fd);
}

/* xl has the destination's word by its own channel. */
static void given_up_and_aborted(void **state)
{
    struct move *m = *state;
    int fd = play_receiver(m);

    commit(m, "serve");
    put_gone(fd, WIRE_GONE_GIVEN_UP);
    await_reason(m, "serve", "waiting for its word");
    assert_int_equal(command(m, "abort --role serve --session " ID), 0);
    ends(&m->f.serve_pid, EXIT_FAILED);
    assert_int_equal(access(in_dir(m, "xl.log"), F_OK), -1);
    assert_true(m->f.results[0].forgotten > 0);
    close(fd);
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
    kill(m->f.receive_pid, SIGUSR2);
    for (int i = 0; i < 500 && m->f.results[1].touches == 0; i++)
        usleep(10000);
    kill(m->f.receive_pid, SIGUSR1);
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
    kill(m->f.receive_pid, SIGUSR1);
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
    kill(m->f.receive_pid, SIGUSR2);
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

static pid_t only_child_of(pid_t pid)
{
    char path[96];
    int child = 0, another;
    FILE *in;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
    in = fopen(path, "re");
    assert_non_null(in);
    assert_int_equal(fscanf(in, "%d %d", &child, &another), 1);
    fclose(in);
    return child;
}

static void the_pager_is_not_the_first_to_be_killed_for_memory(void **state)
{
    struct move *m = *state;
    int ours = oom_score_of(m, getpid()), theirs;

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
    assert_int_equal(oom_score_of(m, only_child_of(m->f.receive_pid)), ours);
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
    commit(m, "serve");
    commit(m, "receive");
    unpause(m);
    ends(&m->f.receive_pid, EXIT_DONE);
    ends(&m->f.serve_pid, EXIT_DONE);
    assert_int_equal(m->f.results[1].wrong_pages, 0);
    nothing_wrong(m);
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

static void kill_join(struct move *m)
{
    char line[512];

    snprintf(line, sizeof(line), "kill -9 $(cat %s/" ID ".join.pid)", m->f.dir);
    assert_int_equal(system(line), 0);
}

static void the_channel_breaks_before_commit(void **state)
{
    struct move *m = *state;

    m->f.serve.watch_pid = m->f.receive.watch_pid = 0;
    m->f.receive.push_on_fault = true;
    ready(m);
    kill_join(m);
    both_give_up(m);
    last_reason(m, "serve", "status 137");
}

static void the_channel_breaks_when_all_is_there(void **state)
{
    struct move *m = *state;

    m->f.serve.watch_pid = 0;
    ready(m);
    await_reason(m, "receive", "waiting for commit");
    kill_join(m);
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
    ready(m);
    commit(m, "serve");
    commit(m, "receive");
    kill_xl(m, 0);
    kill_join(m);
    ends(&m->f.serve_pid, EXIT_MISSING);
    last_reason(m, "serve", "do not unpause");
    last_reason(m, "serve", "Only if neither g nor g--incoming exists at the destination");
    last_reason(m, "serve", "postcopy-resume -f 7");
    assert_false(access(in_dir(m, "xl.log"), F_OK) == 0);
    /* The only pages there are: the domain stays marked as a source. */
    assert_int_equal(m->f.results[0].forgotten, 0);
    report = fixture_await(&m->f, "receive", "paused");
    json_decref(report);
    kill(m->f.receive_pid, SIGUSR1);
    ends(&m->f.receive_pid, EXIT_GONE);
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
    receive_fails(m, 0, UINT64_MAX, "intact", "does not let go of gfn 0x141");
}

static void a_page_that_stays_nominated(void **state)
{
    struct move *m = *state;

    m->f.destination.half_every = 321;
    receive_fails(m, 0, UINT64_MAX, "intact", "does not let go of gfn 0x141");
}

static void no_memory_to_populate(void **state)
{
    struct move *m = *state;

    m->f.destination.populate_most = 1000;
    receive_fails(m, UINT64_MAX, UINT64_MAX, "intact", "cannot be populated");
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
    commit(m, "serve");
    commit(m, "receive");
    unpause(m);
    ends(&m->f.receive_pid, EXIT_DONE);
    ends(&m->f.serve_pid, EXIT_DONE);
    assert_int_equal(m->f.results[1].wrong_pages, 0);
    report = fixture_last(&m->f, "receive");
    assert_int_equal(figure(report, "compare", "compared"), 1300);
    assert_int_equal(figure(report, "compare", "differing_pages"), 0);
    json_decref(report);
}

/* -- the hook script; of xenpaging-pc it gets a fake for what needs Xen, and the real one for the rest */

#define TOKEN_TEXT "4242424242424242424242424242424242424242424242424242424242424242"

static void fake_pager(const struct move *m, const char *probe, const char *start)
{
    assert_true(mkdir(in_dir(m, "bin"), 0755) == 0 || access(in_dir(m, "bin"), F_OK) == 0);
    script(in_dir(m, "bin/xenpaging-pc"),
           "case $1 in\nprobe) %s ;;\nserve | receive) echo \"$@\" >>%s/args; %s ;;\n*) exec %s \"$@\" "
           ";;\nesac\n",
           probe, m->f.dir, start, exe);
}

static int hook(const struct move *m, const char *environment, const char *action, const char *input)
{
    char line[4096];
    int rc;

    snprintf(line, sizeof(line),
             "PATH=%s/bin:$PATH POSTCOPY_RUN_DIR=%s POSTCOPY_LOG_DIR=%s/log POSTCOPY_SESSION=" ID
             " %s %s %s 2>%s/hook.err <<E\n%s\nE\n",
             m->f.dir, m->f.dir, m->f.dir, environment, HOOK_SCRIPT, action, m->f.dir, input);
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
    assert_int_equal(hook(m, both, "receive", ""), 0);
    assert_true(file_has(m, "args", "receive --detach --domain 7"));
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
    snprintf(with, sizeof(with), "%s POSTCOPY_PAUSED=1", both);
    fake_pager(m, "exit 0", "exit 0");
    assert_int_equal(hook(m, with, "receive", ""), 0);
    assert_true(file_has(m, "args", " --leave-paused "));
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
    assert_int_equal(hook(m, "POSTCOPY_ROLE=receive", "commit", ""), 1);
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

/* -- the relay by itself */

#define BULK 3000000u

static void send_bulk(int fd, unsigned int seed)
{
    static uint8_t bytes[65536];
    size_t left = BULK;

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7 + seed);
    while (left) {
        size_t n = left < sizeof(bytes) ? left : sizeof(bytes);
        ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);

        if (sent != (ssize_t)n)
            _exit(2);
        left -= n;
    }
    shutdown(fd, SHUT_WR);
}

static size_t take_bulk(int fd, unsigned int seed, bool slowly)
{
    uint8_t bytes[10000];
    size_t total = 0;
    ssize_t n;

    while ((n = read(fd, bytes, sizeof(bytes))) > 0) {
        for (ssize_t i = 0; i < n; i++)
            if (bytes[i] != (uint8_t)((total + (size_t)i) % 65536 * 7 + seed))
                _exit(3);
        total += (size_t)n;
        if (slowly)
            usleep(500);
    }
    return total;
}

static void both_ways_at_any_speed(void **state)
{
    int near[2], far[2], stop[2];
    pid_t relay, sender;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, near), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, far), 0);
    assert_int_equal(pipe2(stop, O_CLOEXEC), 0);
    relay = fork();
    if (relay == 0) {
        signal(SIGPIPE, SIG_IGN);
        close(near[0]);
        close(far[0]);
        _exit(relay_run(near[1], near[1], far[1], stop[0]) ? 1 : 0);
    }
    close(near[1]);
    close(far[1]);
    sender = fork();
    if (sender == 0) {
        /* First all one way, and its end; the other way still goes. */
        send_bulk(near[0], 1);
        _exit(take_bulk(near[0], 2, true) == BULK ? 0 : 1);
    }
    close(near[0]);
    assert_int_equal(take_bulk(far[0], 1, true), BULK);
    send_bulk(far[0], 2);
    assert_int_equal(fixture_wait(sender), 0);
    assert_int_equal(fixture_wait(relay), 0);
    close(far[0]);
    close(stop[0]);
    close(stop[1]);
}

static void pipes_and_a_reader_that_goes(void **state)
{
    int in[2], out[2], far[2], stop[2];
    char byte;
    pid_t relay;

    (void)state;
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(pipe2(stop, O_CLOEXEC), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, far), 0);
    relay = fork();
    if (relay == 0) {
        signal(SIGPIPE, SIG_IGN);
        close(in[1]);
        close(out[0]);
        close(far[0]);
        _exit(relay_run(in[0], out[1], far[1], stop[0]) ? 1 : 0);
    }
    close(in[0]);
    close(out[1]);
    close(far[1]);
    assert_int_equal(send(far[0], "x", 1, MSG_NOSIGNAL), 1);
    close(far[0]);
    /* What came before is passed on, then the end; nobody takes the other way any more. */
    assert_int_equal(read(out[0], &byte, 1), 1);
    assert_int_equal(read(out[0], &byte, 1), 0);
    assert_int_equal(write(in[1], "y", 1), 1);
    assert_int_equal(fixture_wait(relay), 1);
    close(in[1]);
    close(out[0]);
    close(stop[0]);
    close(stop[1]);
}

int main(int argc, char **argv)
{
#define MOVE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ways_at_any_speed),
        cmocka_unit_test(pipes_and_a_reader_that_goes),
        MOVE(the_whole_way),
        MOVE(complete_before_commit_destroys_nothing),
        MOVE(all_is_there_before_commit),
        MOVE(all_is_there_and_then_given_up),
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
        MOVE(join_with_a_wrong_token),
        MOVE(join_without_a_session),
        MOVE(a_join_that_nobody_needs_takes_the_token_along),
        MOVE(a_second_join),
        MOVE(join_wants_a_whole_token),
        MOVE(a_transport_that_fails),
        MOVE(the_channel_breaks_before_commit),
        MOVE(the_channel_breaks_when_all_is_there),
        MOVE(the_channel_breaks_after_commit),
        MOVE(receive_comes_before_the_guest_is_suspended),
        MOVE(the_set_is_not_complete_at_the_source),
        MOVE(a_page_fewer_at_the_destination),
        MOVE(a_page_more_at_the_destination),
        MOVE(a_special_page_in_the_set),
        MOVE(a_page_that_xen_refuses),
        MOVE(a_page_that_stays_nominated),
        MOVE(no_memory_to_populate),
        MOVE(a_page_the_source_lacks),
        MOVE(every_page_compared),
        MOVE(a_daemon_keeps_one_descriptor),
        MOVE(hook_keeps_the_token_of_a_fit_host),
        MOVE(hook_starts_serve_and_receive),
        MOVE(hook_tells_a_hand_back_from_a_failure),
        MOVE(hook_sees_a_migration_through),
        MOVE(hook_says_why_a_session_failed),
        MOVE(a_killed_serve_is_not_waited_for),
    };

    if (argc > 1 && strcmp(argv[1], "join") == 0)
        return cmd_join(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "commit") == 0)
        return cmd_commit(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "abort") == 0)
        return cmd_abort(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "status") == 0)
        return cmd_status(argc - 1, argv + 1);
    if (readlink("/proc/self/exe", exe, sizeof(exe) - 1) < 0)
        return 1;
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
