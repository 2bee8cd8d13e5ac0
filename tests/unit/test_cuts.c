/*
 * Channels cut at every place there is, and processes killed: nothing is lost, and nothing hangs. TEST_LONG:
 * at all places; else at some, others in each run. TEST_SEED: as in the run that printed it. TEST_AT: there
 * alone.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "exit_status.h"
#include "fixture.h"
#include "relay.h"
#include "session_run.h"

/* What runs, so that nothing of it outlives a test that fails. */
static struct fixture f;
static struct relay relay;
static bool running;

static uint64_t number(const char *name, uint64_t otherwise)
{
    return getenv(name) ? strtoull(getenv(name), NULL, 10) : otherwise;
}

static bool long_form(void)
{
    return getenv("TEST_LONG");
}

static uint64_t seed(void)
{
    static uint64_t value;

    if (!value) {
        value = number("TEST_SEED", (uint64_t)getpid());
        printf("TEST_SEED=%llu\n", (unsigned long long)value);
    }
    return value;
}

static uint64_t random_below(uint64_t *state, uint64_t n)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (*state >> 33) % n;
}

/* How sessions came out. */
static struct outcomes {
    unsigned int sessions, cuts, uncut, spoiled, failed_early, unacked, paused;
} outcomes;

static void show(const char *what)
{
    printf("%s: %u sessions, %u cuts, %u sessions uncut; %u failed before the guest could run; %u not "
           "acknowledged; serve paused at the end of %u\n",
           what, outcomes.sessions, outcomes.cuts, outcomes.uncut, outcomes.failed_early, outcomes.unacked,
           outcomes.paused);
    memset(&outcomes, 0, sizeof(outcomes));
}

/* What the next sessions are like. */
struct kind {
    uint32_t streams;
    enum receive_verify verify;
};

/* A small session with a guest that does everything. */
static void small(const struct kind *kind, unsigned int n)
{
    f.source.nr_gfns = f.destination.nr_gfns = 150;
    f.source.hole_first = f.destination.hole_first = 60;
    f.source.hole_count = f.destination.hole_count = 20;
    f.source.special_gfn = f.destination.special_gfn = 148;
    f.destination.vcpus = 3;
    f.destination.touches = 60;
    f.destination.drop_percent = 4;
    f.destination.replace_percent = n % 4 == 1 ? 4 : 0;
    f.destination.foreign_percent = 10;
    f.destination.nomem_every = n % 3 == 1 ? 5 : 0;
    f.receive.slots = 16;
    f.receive.range_foreign = 8;
    f.receive.streams = f.serve.streams = kind->streams;
    f.receive.verify = kind->verify;
    f.receive.push_on_fault = n % 2 && kind->verify != VERIFY_FULL;
}

static bool was(const json_t *report, const char *state)
{
    return json_object_get(json_object_get(report, "entered_s"), state);
}

/* serve has nobody who comes any more: it is ended. */
static void end_serve(const char *state)
{
    json_t *report;

    /* It may not have noticed yet. */
    for (int i = 0; i < 500; i++) {
        report = fixture_try_status(&f, "serve");
        if (report && strcmp(json_string_value(json_object_get(report, "state")), state) == 0) {
            json_decref(report);
            kill(f.serve_pid, SIGKILL);
            fixture_wait(f.serve_pid);
            f.serve_pid = 0;
            return;
        }
        json_decref(report);
        usleep(10000);
    }
    fprintf(stderr, "serve is not %s\n", state);
    fixture_wait(f.serve_pid);
    fail();
}

static void nothing_wrong(void)
{
    assert_int_equal(f.results[1].wrong_pages, 0);
    assert_int_equal(f.results[1].violations, 0);
    assert_int_equal(f.results[0].violations, 0);
}

static bool alive(pid_t pid)
{
    siginfo_t info = {0};

    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
}

/* The channels were lost before the guest could run: both have failed, and the source is as it was. */
static void failed_early(int rc)
{
    json_t *report;

    assert_true(rc == EXIT_FAILED || rc == EXIT_REFUSED);
    outcomes.failed_early++;
    /* It may hear nothing of a receiver that has not got its answer: it waits for one. */
    for (int i = 0; i < 20 && alive(f.serve_pid); i++) {
        report = fixture_try_status(&f, "serve");
        if (report && was(report, "active")) {
            json_decref(report);
            /* It has said so, and cannot know whether that was heard. */
            outcomes.paused++;
            end_serve("paused");
            return;
        }
        if (report && !was(report, "device"))
            kill(f.serve_pid, SIGTERM);
        json_decref(report);
        usleep(50000);
    }
    rc = fixture_wait(f.serve_pid);
    f.serve_pid = 0;
    assert_int_equal(rc, EXIT_FAILED);
    assert_int_equal(f.results[0].our_pauses, 0);
}

static void is_whole(int rc)
{
    json_t *report = fixture_last(&f, "receive");

    nothing_wrong();
    assert_int_equal(f.results[1].our_pauses, 0);
    assert_string_equal(json_string_value(json_object_get(report, "state")), "completed");
    assert_int_equal(figure(report, "pages", "installed") + figure(report, "pages", "dropped") +
                         figure(report, "pages", "replaced"),
                     figure(report, "pages", "set"));
    json_decref(report);
    if (rc == EXIT_UNACKED) {
        outcomes.unacked++;
        usleep(20000);
        if (alive(f.serve_pid)) {
            outcomes.paused++;
            end_serve("paused");
            return;
        }
    }
    rc = fixture_wait(f.serve_pid);
    f.serve_pid = 0;
    assert_int_equal(rc, EXIT_DONE);
}

/* Every end that a session may have. */
static void comes_to_an_end(void)
{
    int rc = fixture_wait(f.receive_pid);
    const struct fake_crash *crash = &f.results[1].crash;
    json_t *report;
    bool ran = false;

    f.receive_pid = 0;
    /* A pager that dies so early has no last words. */
    if (!crash->crashed || crash->depended) {
        report = fixture_last(&f, "receive");
        ran = was(report, "active");
        json_decref(report);
    }
    if (!ran || (f.receive.verify == VERIFY_FULL && rc == EXIT_FAILED)) {
        /* Its pages were not compared to any use: they are absent. */
        assert_int_equal(f.results[1].violations, 0);
        failed_early(rc);
        return;
    }
    assert_true(rc == EXIT_DONE || rc == EXIT_UNACKED);
    is_whole(rc);
}

static void start(void)
{
    fixture_init(&f);
    relay_init(&relay);
    running = true;
}

static void stop(void)
{
    running = false;
    relay_free(&relay);
    fixture_free(&f);
}

static int teardown(void **state)
{
    (void)state;
    if (running)
        stop();
    return 0;
}

static uint64_t die_at[2];  /* points at which the first and the second pager of the next sessions die */
static uint64_t spoil_at;   /* of the next sessions: see relay.h */
static bool last_crashed;   /* a pager did die so */
static uint64_t last_bytes; /* of the last one, in all */

/* One session; how many cuts of those there were. */
static unsigned int session(const struct kind *kind, unsigned int n, const struct relay_cut *cuts,
                            unsigned int n_cuts)
{
    unsigned int done;

    start();
    small(kind, n);
    relay.shared->spoil_at = spoil_at;
    if (die_at[0]) {
        memcpy((void *)f.results[1].crash.at, die_at, sizeof(die_at));
        f.destination.auto_unpause = false;
    }
    for (unsigned int i = 0; i < n_cuts; i++)
        relay.shared->cuts[i] = cuts[i];
    relay.shared->n_cuts = n_cuts;
    fixture_start_serve(&f);
    relay_start(&relay, f.address);
    strcpy(f.address, relay.address);
    /* Where it fails, this is what it was. */
    fprintf(stderr, "session %u: %u channels, %s; %u cuts, after %llu frames or %llu bytes%s; log in %s\n", n,
            kind->streams,
            kind->verify == VERIFY_HASH   ? "hashes"
            : kind->verify == VERIFY_FULL ? "all compared"
                                          : "no hashes",
            n_cuts, n_cuts ? (unsigned long long)cuts[0].frames : 0,
            n_cuts ? (unsigned long long)cuts[0].bytes : 0, n_cuts && cuts[0].reset ? " (reset)" : "", f.dir);
    fixture_start_receive(&f);
    comes_to_an_end();
    done = relay.shared->done;
    last_bytes = relay.shared->bytes;
    last_crashed = f.results[1].crash.crashed != 0;
    outcomes.spoiled += spoil_at && relay.shared->contents >= spoil_at;
    outcomes.sessions++;
    outcomes.cuts += done;
    outcomes.uncut += done == 0;
    stop();
    return done;
}

static const struct kind one = {.streams = 1}, none = {.streams = 0},
                         three = {.streams = 3, .verify = VERIFY_HASH},
                         full = {.streams = 1, .verify = VERIFY_FULL};

static void at_every_frame(const struct kind *kind, const char *name, uint64_t step, uint64_t most)
{
    uint64_t only = number("TEST_AT", 0), uncut = 0;

    if (long_form())
        step = 1;
    /* How many there are differs from session to session. */
    for (uint64_t n = only ? only : 1 + seed() % step; uncut < 3 && (long_form() || n <= most); n += step) {
        const struct relay_cut cut = {.frames = n, .reset = (n / step + seed()) % 2};

        uncut = session(kind, (unsigned int)n, &cut, 1) ? 0 : uncut + 1;
        if (only)
            break;
    }
    show(name);
}

static void cut_at_every_frame(void **state)
{
    (void)state;
    at_every_frame(&one, "one channel", 23, UINT64_MAX);
}

static void cut_at_every_frame_of_one_channel(void **state)
{
    (void)state;
    at_every_frame(&none, "none", 47, UINT64_MAX);
}

static void cut_at_every_frame_of_three_with_hashes(void **state)
{
    (void)state;
    at_every_frame(&three, "three", 37, UINT64_MAX);
}

/* The guest runs when all has been compared: until then they both fail. */
static void cut_at_every_frame_while_all_is_compared(void **state)
{
    (void)state;
    at_every_frame(&full, "compared", 61, UINT64_MAX);
}

/* A page comes with wrong contents, and is asked for again: that, too, may be lost. */
static void cut_while_pages_are_sent_again(void **state)
{
    uint64_t random = seed() + 4;

    (void)state;
    for (unsigned int i = 0; i < (long_form() ? 80 : 5); i++) {
        const struct relay_cut cuts[] = {
            {.frames = 16 + random_below(&random, 60), .reset = random_below(&random, 2)},
            {.frames = 1 + random_below(&random, 30)}};

        spoil_at = 1 + random_below(&random, cuts[0].frames / 3);
        session(&three, i, cuts, 1 + i % 2);
    }
    spoil_at = 0;
    printf("%u of the sessions had a page with wrong contents\n", outcomes.spoiled);
    show("pages sent again");
}

/* Before, while and after the channels are lost and had again. */
static void pager_dies_at_every_step(void **state)
{
    uint64_t step = number("TEST_STEP", long_form() ? 5 : 401), only = number("TEST_AT", 0);
    unsigned int died = 0;

    (void)state;
    last_crashed = true;
    for (uint64_t n = only ? only : 1 + seed() % step; last_crashed; n += step) {
        const struct relay_cut cut = {.frames = 18 + n % 9, .reset = n % 2};

        die_at[0] = n;
        die_at[1] = n % 3 == 1 ? 40 + n % 160 : 0;
        session(n % 4 ? &one : &three, (unsigned int)n, &cut, 1);
        died += last_crashed;
        if (only)
            break;
    }
    die_at[0] = die_at[1] = 0;
    printf("the pager died in %u of them\n", died);
    show("pager killed besides");
}

/* The handshakes, the set, the first pages; those of a resumed session. */
static void cut_early_and_again(void **state)
{
    uint64_t step = long_form() ? 1 : 4;

    (void)state;
    for (uint64_t only = number("TEST_AT", 0), n = only ? only : 1 + seed() % step; n <= (only          ? only
                                                                                          : long_form() ? 30
                                                                                                        : 13);
         n += step) {
        const struct relay_cut cuts[] = {{.frames = 20}, {.frames = n, .reset = n % 2}, {.frames = n}};

        session(n % 3 ? &one : &three, (unsigned int)n, cuts, 3);
    }
    show("while it recovers");
}

static void cut_anywhere(void **state)
{
    unsigned int n = long_form() ? 200 : 7;
    uint64_t random = seed(), bytes;
    const struct kind *kinds[] = {&one, &none, &three};

    (void)state;
    session(&one, 0, NULL, 0);
    bytes = last_bytes;
    for (unsigned int i = 0; i < n; i++) {
        const struct relay_cut cut = {.bytes = 1 + random_below(&random, i % 4 ? bytes : 1500),
                                      .reset = random_below(&random, 2)};

        session(kinds[i % 3], i, &cut, 1);
    }
    show("at random bytes");
}

static void cut_often(void **state)
{
    uint64_t random = seed() + 1;

    (void)state;
    for (unsigned int i = 0; i < (long_form() ? 40 : 2); i++) {
        struct relay_cut cuts[8] = {{.frames = 16}};

        for (unsigned int k = 1; k < 8; k++)
            cuts[k] = (struct relay_cut){.bytes = 1 + random_below(&random, k % 2 ? 1500 : 150000),
                                         .reset = random_below(&random, 2)};
        session(i % 2 ? &one : &three, i, cuts, 8);
    }
    show("often");
}

/* The others are lost with it; and one that only stands still holds nobody up. */
static void one_channel(void **state)
{
    uint64_t random = seed() + 2;

    (void)state;
    for (unsigned int i = 0; i < (long_form() ? 60 : 4); i++) {
        const struct relay_cut cut = {.frames = 14 + random_below(&random, 60),
                                      .one = true,
                                      .reset = random_below(&random, 2),
                                      .stall_ms = i % 3 == 2 ? 200 : 0};

        session(&three, i, &cut, 1);
    }
    show("one channel of them");
}

/* -- processes killed */

static const char *const victims[][2] = {{"receive", "feeder"}, {"serve", "sender"}, {"receive", "pager"}};

static bool over(const json_t *report)
{
    const char *state = report ? json_string_value(json_object_get(report, "state")) : "drain";

    return strcmp(state, "drain") == 0 || strcmp(state, "completed") == 0 || strcmp(state, "failed") == 0;
}

static pid_t victim(unsigned int which)
{
    json_t *report = fixture_try_status(&f, victims[which][0]);
    pid_t pid = report ? fixture_process(report, victims[which][1]) : 0;

    json_decref(report);
    return pid;
}

/* One, or all three at once. False: the session is at its end. */
static bool kill_some(uint64_t *random, unsigned int *kills)
{
    unsigned int which = (unsigned int)random_below(random, 4);
    json_t *report = fixture_try_status(&f, "receive");
    bool ended = over(report);
    pid_t pids[3] = {0};

    json_decref(report);
    for (unsigned int i = 0; i < 3 && !ended; i++)
        pids[i] = which == 3 || which == i ? victim(i) : 0;
    for (unsigned int i = 0; i < 3; i++)
        if (pids[i] > 0 && kill(pids[i], SIGKILL) == 0)
            ++*kills;
    usleep((useconds_t)random_below(random, random_below(random, 2) ? 10000 : 200000));
    return !ended;
}

static void processes_killed(void **state)
{
    unsigned int most = long_form() ? 50 : 8, kills = 0, sessions = 0;
    const struct kind *kinds[] = {&one, &three, &none};
    uint64_t random = seed() + 3;

    (void)state;
    while (kills < most) {
        unsigned int upto = kills + (most < 10 ? 4 : 10);

        start();
        small(kinds[sessions % 3], sessions);
        f.source.nr_gfns = f.destination.nr_gfns = 1500;
        f.source.hole_count = f.destination.hole_count = 300;
        f.receive.slots = 64;
        if (sessions % 2 == 0)
            f.receive.features &= ~FEATURE_SUPERPAGES;
        f.destination.load_us = 1000;
        f.destination.touches = 2000;
        fprintf(stderr, "session %u: log in %s\n", sessions, f.dir);
        fixture_start_serve(&f);
        fixture_start_receive(&f);
        json_decref(fixture_await(&f, "receive", "active"));
        while (kills < upto && kills < most && kill_some(&random, &kills))
            ;
        comes_to_an_end();
        stop();
        sessions = ++outcomes.sessions;
    }
    outcomes.cuts = kills;
    show("processes killed (cuts: that is, kills)");
}

/* A known gap: no other takes the place of serve. The guest waits, and can be destroyed. */
static void serve_killed(void **state)
{
    json_t *report;

    (void)state;
    start();
    f.destination.load_us = 1000;
    fixture_start_serve(&f);
    fixture_start_receive(&f);
    json_decref(fixture_await(&f, "receive", "active"));
    kill(f.serve_pid, SIGKILL);
    assert_int_equal(fixture_wait(f.serve_pid), -SIGKILL);
    f.serve_pid = 0;
    json_decref(fixture_await(&f, "receive", "paused"));
    usleep(500000);
    report = fixture_status(&f, "receive");
    assert_string_equal(json_string_value(json_object_get(report, "state")), "paused");
    assert_true(figure(report, "pages", "absent") > 0);
    json_decref(report);
    kill(f.domain_pid, SIGUSR1);
    assert_int_equal(fixture_wait(f.receive_pid), EXIT_GONE);
    f.receive_pid = 0;
    assert_int_equal(f.results[1].wrong_pages, 0);
    assert_int_equal(f.results[1].violations, 0);
    stop();
}

static unsigned int lines_with(const char *log, const char *text)
{
    char path[128], line[1024];
    unsigned int n = 0;
    FILE *in;

    snprintf(path, sizeof(path), "%s/%s.log", f.dir, log);
    in = fopen(path, "re");
    while (in && fgets(line, sizeof(line), in))
        n += strstr(line, text) != NULL;
    if (in)
        fclose(in);
    return n;
}

/* Neither end can start the process that it needs: both go on trying, with pauses, until they can. */
static void nothing_can_be_started_for_a_while(void **state)
{
    char empty[128], away[140];
    json_t *report;

    (void)state;
    if (geteuid() != 0) /* nobody else changes its root */
        skip();
    start();
    snprintf(empty, sizeof(empty), "%s", f.serve.empty_dir);
    f.receive.features &= ~FEATURE_SUPERPAGES; /* made at leisure */
    snprintf(away, sizeof(away), "%s.away", empty);
    f.destination.load_us = 1000;
    fixture_start_serve(&f);
    fixture_start_receive(&f);
    report = fixture_await(&f, "receive", "active");
    assert_int_equal(rename(empty, away), 0);
    kill(fixture_process(report, "feeder"), SIGKILL);
    json_decref(report);
    usleep(1000000);
    assert_in_range(lines_with("serve", "cannot be confined"), 2, 6);
    assert_in_range(lines_with("receive", "no channel to serve"), 2, 6);
    assert_int_equal(rename(away, empty), 0);
    comes_to_an_end();
    stop();
}

/* Descriptors, or memory that is shared with other processes. */
static unsigned int count_of(pid_t pid, const char *format)
{
    char line[256];
    unsigned int n = 0;
    FILE *in;

    snprintf(line, sizeof(line), format, pid);
    in = popen(line, "re");
    assert_int_equal(fscanf(in, "%u", &n), 1);
    pclose(in);
    return n;
}

#define FILES  "ls /proc/%d/fd | wc -l"
#define SHARED "grep -c rw-s /proc/%d/maps"

/* Nothing gathers in the pager and the keeper; and no feeder sees what the first one could not. */
static void nothing_gathers(void **state)
{
    unsigned int files[2], shared;
    json_t *report;
    pid_t pager;

    (void)state;
    start();
    f.receive.features &= ~FEATURE_SUPERPAGES;
    f.receive.push_on_fault = true;
    f.destination.auto_unpause = false;
    fixture_start_serve(&f);
    fixture_start_receive(&f);
    report = fixture_await(&f, "receive", "active");
    pager = fixture_process(report, "pager");
    files[0] = count_of(pager, FILES);
    files[1] = count_of(f.receive_pid, FILES);
    shared = count_of(fixture_process(report, "feeder"), SHARED);
    json_decref(report);
    for (int i = 0; i < 4; i++) {
        report = fixture_status(&f, "receive");
        kill(fixture_process(report, "feeder"), SIGKILL);
        do {
            json_decref(report);
            usleep(20000);
            report = fixture_status(&f, "receive");
        } while (figure(report, "link", "recoveries") <= i);
        assert_int_equal(count_of(fixture_process(report, "feeder"), SHARED), shared);
        json_decref(report);
        /* Besides the status connection, which may still be open. */
        assert_in_range(count_of(pager, FILES), files[0] - 1, files[0] + 1);
        assert_in_range(count_of(f.receive_pid, FILES), files[1] - 1, files[1]);
    }
    kill(f.domain_pid, SIGUSR2);
    comes_to_an_end();
    stop();
}

int main(int argc, char **argv)
{
#define SESSIONS(test) cmocka_unit_test_teardown(test, teardown)
    const struct CMUnitTest tests[] = {
        SESSIONS(cut_at_every_frame),
        SESSIONS(cut_at_every_frame_of_one_channel),
        SESSIONS(cut_at_every_frame_of_three_with_hashes),
        SESSIONS(cut_at_every_frame_while_all_is_compared),
        SESSIONS(cut_while_pages_are_sent_again),
        SESSIONS(pager_dies_at_every_step),
        SESSIONS(cut_early_and_again),
        SESSIONS(cut_anywhere),
        SESSIONS(cut_often),
        SESSIONS(one_channel),
        SESSIONS(processes_killed),
        SESSIONS(serve_killed),
        SESSIONS(nothing_gathers),
        SESSIONS(nothing_can_be_started_for_a_while),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
