/* Whole sessions, end to end over loopback: the real serve, pager and feeder, with fake domains on both ends.
 */
#include <dirent.h>
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
#include "fixture.h"

static void both_end_with(struct fixture *f, int serve, int receive)
{
    assert_int_equal(fixture_wait(f->receive_pid), receive);
    f->receive_pid = 0;
    assert_int_equal(fixture_wait(f->serve_pid), serve);
    f->serve_pid = 0;
}

static void nothing_wrong(const struct fixture *f)
{
    assert_int_equal(f->results[1].wrong_pages, 0);
    assert_int_equal(f->results[1].violations, 0);
    assert_int_equal(f->results[0].violations, 0);
}

static void run(struct fixture *f)
{
    fixture_start_serve(f);
    fixture_start_receive(f);
    both_end_with(f, EXIT_DONE, EXIT_DONE);
    nothing_wrong(f);
}

static void every_byte_arrives(void **state)
{
    struct fixture *f = *state;
    json_t *receive, *serve;

    run(f);
    receive = fixture_last(f, "receive");
    serve = fixture_last(f, "serve");
    /* 1500 gfns, 200 of them a hole, one special. */
    assert_int_equal(figure(receive, "pages", "set"), 1299);
    assert_int_equal(figure(receive, "pages", "installed"), 1299);
    assert_int_equal(figure(serve, "pages", "sent"), 1299);
    assert_int_equal(figure(receive, "link", "serve_sent"), 1299);
    assert_true(f->results[1].touches > 1300);
    assert_string_equal(json_string_value(json_object_get(receive, "state")), "completed");
    assert_string_equal(json_string_value(json_object_get(serve, "state")), "completed");
    json_decref(receive);
    json_decref(serve);
}

/* Each sends everything once; what is asked for while it pushes is what the order could not foresee. */
static void in_every_order(void **state)
{
    struct fixture *f = *state;

    for (unsigned int i = 0; i < PUSH_POLICIES; i++) {
        json_t *serve;

        f->serve.order = (enum push_policy_kind)i;
        run(f);
        serve = fixture_last(f, "serve");
        assert_string_equal(json_string_value(json_object_get(serve, "order")),
                            push_policy_name(f->serve.order));
        assert_int_equal(figure(serve, "pages", "sent"), 1299);
        assert_int_equal(figure(serve, "pages", "resent"), 0);
        json_decref(serve);
    }
}

static void faulted_pages_come_on_demand(void **state)
{
    struct fixture *f = *state;
    json_t *receive;

    f->receive.push_on_fault = true;
    f->receive.verify = VERIFY_HASH;
    f->destination.load_us = 200;
    run(f);
    receive = fixture_last(f, "receive");
    assert_true(figure(receive, "pages", "faulted") > 10);
    assert_true(figure(receive, "faults", "guest") >= figure(receive, "pages", "faulted"));
    /* Nothing was pushed before the guest's first fault. */
    assert_int_equal(figure(receive, "absent_at_unpause", "pages"), 1299);
    json_decref(receive);
}

/* What nobody waits for goes no faster than allowed; what a vcpu waits for is not held back by it. */
static void the_push_keeps_to_its_rate(void **state)
{
    struct fixture *f = *state;
    uint64_t start, took_ms, least_ms;
    json_t *receive, *serve;

    f->serve.max_push = 1;
    f->destination.vcpus = 1;
    f->destination.touches = 600;
    fixture_start_serve(f);
    start = monotonic_ns();
    fixture_start_receive(f);
    both_end_with(f, EXIT_DONE, EXIT_DONE);
    took_ms = (monotonic_ns() - start) / 1000000;
    nothing_wrong(f);
    receive = fixture_last(f, "receive");
    serve = fixture_last(f, "serve");
    assert_int_equal(figure(serve, "pages", "sent"), 1299);
    assert_true(figure(serve, "pages", "faulted") > 200 && figure(serve, "pages", "pushed") > 200);
    /* 256 pages a second, but for the last batch, and what may be made up for. Held back, a fault takes 250
     * ms. */
    least_ms = (uint64_t)(figure(serve, "pages", "pushed") - 64) * 1000 / 256 - 100;
    assert_true(took_ms >= least_ms);
    assert_true(figure(serve, "pages", "faulted") * 50 > (long long)took_ms);
    json_decref(receive);
    json_decref(serve);
}

static void guest_drops_and_replaces_and_is_mapped(void **state)
{
    struct fixture *f = *state;
    json_t *receive;

    f->destination.drop_percent = 5;
    f->destination.replace_percent = 5;
    f->destination.foreign_percent = 10;
    f->destination.load_us = 100;
    f->receive.push_on_fault = true;
    run(f);
    receive = fixture_last(f, "receive");
    assert_true(figure(receive, "pages", "dropped") > 0);
    assert_true(figure(receive, "pages", "replaced") > 0);
    assert_true(figure(receive, "ring", "foreign") > 0);
    assert_int_equal(figure(receive, "pages", "dropped") + figure(receive, "pages", "replaced") +
                         figure(receive, "pages", "installed"),
                     1299);
    json_decref(receive);
}

static void rot_04_evict_fail_is_repaired_by_prep(void **state)
{
    struct fixture *f = *state;
    json_t *receive;

    f->receive.features &= ~FEATURE_MARK; /* which nominates nothing */
    f->destination.half_every = 10;
    f->destination.foreign_percent = 20;
    f->destination.touches = 1500;
    run(f);
    receive = fixture_last(f, "receive");
    assert_true(figure(receive, "ring", "evict_fail") > 0);
    assert_int_equal(figure(receive, "ring", "evict_fail"), figure(receive, "hypercalls", "prep"));
    json_decref(receive);
}

static void rot_10_no_memory_is_retried_and_nothing_lost(void **state)
{
    struct fixture *f = *state;
    json_t *receive;

    f->destination.nomem_every = 3;
    run(f);
    receive = fixture_last(f, "receive");
    assert_true(figure(receive, "retry", "nomem") > 300);
    assert_int_equal(figure(receive, "pages", "installed"), 1299);
    assert_int_equal(figure(receive, "retry", "held"), 0);
    json_decref(receive);
}

static void rot_13_pages_that_xen_refuses_stay_and_the_session_completes(void **state)
{
    struct fixture *f = *state;
    json_t *receive;

    f->destination.refuse_every = 7;
    run(f);
    receive = fixture_last(f, "receive");
    assert_true(figure(receive, "pages", "refused") > 100);
    assert_int_equal(figure(receive, "pages", "set") + figure(receive, "pages", "refused"), 1299);
    json_decref(receive);
}

static void rot_06_gfn_0_is_a_page_like_any_other(void **state)
{
    struct fixture *f = *state;

    f->source.nr_gfns = f->destination.nr_gfns = 3;
    f->source.hole_count = f->destination.hole_count = 0;
    f->source.special_gfn = f->destination.special_gfn = 2;
    f->receive.push_on_fault = true;
    run(f);
}

static void rot_05_gfns_above_4_gib_up_to_the_last(void **state)
{
    struct fixture *f = *state;
    json_t *receive;

    /* Memory below and above the hole that a guest of more than 3.75 GiB has; the very last gfn counts. */
    f->source.nr_gfns = f->destination.nr_gfns = 0x100000 + 700;
    f->source.hole_first = f->destination.hole_first = 500;
    f->source.hole_count = f->destination.hole_count = 0x100000 - 500;
    f->source.special_gfn = f->destination.special_gfn = 0x100003;
    f->destination.touches = 100;
    run(f);
    receive = fixture_last(f, "receive");
    assert_int_equal(figure(receive, "pages", "set"), 500 + 700 - 1);
    json_decref(receive);
}

static void an_empty_set_completes(void **state)
{
    struct fixture *f = *state;

    f->destination.refuse_every = 1;
    run(f);
}

static void verify_full_compares_every_page(void **state)
{
    struct fixture *f = *state;
    json_t *receive;

    f->receive.verify = VERIFY_FULL;
    f->receive.push_on_fault = true; /* has to push all the same: the guest is paused */
    run(f);
    receive = fixture_last(f, "receive");
    assert_int_equal(figure(receive, "compare", "compared"), 1300);
    assert_int_equal(figure(receive, "compare", "not_in_set"), 1);
    assert_int_equal(figure(receive, "compare", "differing_pages"), 0);
    json_decref(receive);
}

static void verify_full_finds_one_wrong_byte(void **state)
{
    struct fixture *f = *state;
    json_t *receive;

    f->receive.verify = VERIFY_FULL;
    f->destination.spoil_gfn = 1234;
    fixture_start_serve(f);
    fixture_start_receive(f);
    both_end_with(f, EXIT_WRONG, EXIT_WRONG);
    receive = fixture_last(f, "receive");
    assert_int_equal(figure(receive, "compare", "differing_pages"), 1);
    assert_int_equal(figure(receive, "compare", "differing_bytes"), 1);
    assert_int_equal(json_integer_value(json_array_get(
                         json_object_get(json_object_get(receive, "compare"), "first_gfns"), 0)),
                     1234);
    json_decref(receive);
}

static void paused_with_a_reason(struct fixture *f, const char *reason)
{
    json_t *receive = fixture_await(f, "receive", "paused");

    assert_non_null(strstr(json_string_value(json_object_get(receive, "reason")), reason));
    assert_true(figure(receive, "pages", "outstanding") > 0);
    json_decref(receive);
}

/* The guest's vcpus run into absent pages and stay there; what they saw before was right; destroying the
 * domain ends it. */
static void guest_waits_until_destroyed(struct fixture *f)
{
    json_t *before, *after;

    before = fixture_status(f, "receive");
    assert_int_equal(kill(f->receive_pid, 0), 0);
    after = fixture_status(f, "receive");
    assert_int_equal(figure(before, "pages", "installed"), figure(after, "pages", "installed"));
    json_decref(before);
    json_decref(after);
    assert_int_equal(kill(f->receive_pid, SIGTERM), 0);
    after = fixture_status(f, "receive");
    assert_string_equal(json_string_value(json_object_get(after, "state")), "paused");
    json_decref(after);
    assert_int_equal(kill(f->domain_pid, SIGUSR1), 0);
    assert_int_equal(fixture_wait(f->receive_pid), EXIT_GONE);
    f->receive_pid = 0;
    assert_true(f->results[1].blocked_vcpus > 0);
    assert_int_equal(f->results[1].wrong_pages, 0);
    assert_int_equal(f->results[1].violations, 0);
}

static void serve_killed_the_guest_waits(void **state)
{
    struct fixture *f = *state;

    f->destination.load_us = 2000;
    f->destination.touches = 100000;
    fixture_start_serve(f);
    fixture_start_receive(f);
    json_decref(fixture_await(f, "receive", "active"));
    assert_int_equal(kill(f->serve_pid, SIGKILL), 0);
    paused_with_a_reason(f, "serve");
    guest_waits_until_destroyed(f);
}

static void guest_destroyed_in_the_middle(void **state)
{
    struct fixture *f = *state;
    json_t *serve;

    f->destination.load_us = 2000;
    fixture_start_serve(f);
    fixture_start_receive(f);
    json_decref(fixture_await(f, "receive", "active"));
    assert_int_equal(kill(f->domain_pid, SIGUSR1), 0);
    both_end_with(f, EXIT_GONE, EXIT_GONE);
    assert_int_equal(f->results[1].wrong_pages, 0);
    serve = fixture_last(f, "serve");
    assert_string_equal(json_string_value(json_object_get(serve, "state")), "completed");
    json_decref(serve);
}

static void source_destroyed_in_the_middle(void **state)
{
    struct fixture *f = *state;

    f->destination.load_us = 2000;
    f->destination.touches = 100000;
    fixture_start_serve(f);
    fixture_start_receive(f);
    json_decref(fixture_await(f, "receive", "active"));
    assert_int_equal(kill(f->serve_pid, SIGUSR1), 0);
    assert_int_equal(fixture_wait(f->serve_pid), EXIT_MISSING);
    f->serve_pid = 0;
    json_decref(fixture_await(f, "receive", "paused"));
    guest_waits_until_destroyed(f);
}

static void rot_09_sigterm_neither_loses_nor_fetches_the_guest(void **state)
{
    struct fixture *f = *state;
    json_t *receive;

    f->destination.load_us = 1000;
    fixture_start_serve(f);
    fixture_start_receive(f);
    json_decref(fixture_await(f, "receive", "active"));
    assert_int_equal(kill(f->receive_pid, SIGTERM), 0);
    assert_int_equal(kill(f->receive_pid, SIGINT), 0);
    assert_int_equal(kill(f->serve_pid, SIGTERM), 0);
    both_end_with(f, EXIT_DONE, EXIT_DONE);
    nothing_wrong(f);
    receive = fixture_last(f, "receive");
    assert_true(json_integer_value(json_object_get(receive, "signals_refused")) > 0);
    json_decref(receive);
}

static void rot_08_an_idle_pager_sleeps(void **state)
{
    struct fixture *f = *state;
    json_t *before, *after;

    /* Active, the guest still paused, nothing to push before it faults. */
    json_decref(fixture_idle(f));
    before = fixture_status(f, "receive");
    usleep(500000);
    after = fixture_status(f, "receive");
    /* Two connections to the status socket and their ends: a few turns, not thousands. */
    assert_true(json_integer_value(json_object_get(after, "event_loops")) -
                    json_integer_value(json_object_get(before, "event_loops")) <
                10);
    json_decref(before);
    json_decref(after);
    assert_int_equal(kill(f->domain_pid, SIGUSR2), 0);
    both_end_with(f, EXIT_DONE, EXIT_DONE);
    nothing_wrong(f);
}

#ifdef __SANITIZE_ADDRESS__
#define CAN_LOCK false /* the sanitizer makes mlockall() do nothing */
#else
#define CAN_LOCK (geteuid() == 0)
#endif

static void rot_11_the_pager_is_locked_in_memory(void **state)
{
    struct fixture *f = *state;
    char path[64], line[256];
    long locked = -1;
    json_t *receive;
    FILE *status;

    if (!CAN_LOCK)
        skip();
    receive = fixture_idle(f);
    snprintf(path, sizeof(path), "/proc/%d/status", fixture_process(receive, "pager"));
    json_decref(receive);
    status = fopen(path, "r");
    while (fgets(line, sizeof(line), status))
        sscanf(line, "VmLck: %ld", &locked);
    fclose(status);
    assert_true(locked > 64 * 4);
    assert_int_equal(kill(f->domain_pid, SIGUSR2), 0);
    both_end_with(f, EXIT_DONE, EXIT_DONE);
}

static long status_number_in(const char *path, const char *name, int base)
{
    char line[256];
    long value = -1;
    FILE *status;

    status = fopen(path, "r");
    while (status && fgets(line, sizeof(line), status))
        if (strncmp(line, name, strlen(name)) == 0)
            value = strtol(line + strlen(name) + 1, NULL, base);
    if (status)
        fclose(status);
    return value;
}

/* The one child of process pid whose parent it is. */
static pid_t only_child(pid_t pid)
{
    char path[64];
    long child = 0, another;
    FILE *children;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
    children = fopen(path, "r");
    assert_non_null(children);
    assert_int_equal(fscanf(children, "%ld", &child), 1);
    assert_int_equal(fscanf(children, "%ld", &another), EOF);
    fclose(children);
    return (pid_t)child;
}

static bool in_no_other_group(const char *path)
{
    FILE *status = fopen(path, "r");
    bool none = false;
    char line[256];

    while (status && fgets(line, sizeof(line), status))
        if (strncmp(line, "Groups:", 7) == 0)
            none = !strpbrk(line, "0123456789");
    if (status)
        fclose(status);
    return none;
}

/* Each of its threads: a filter, or a user, that only one had would not be worth much. */
static void each_thread_is_confined(pid_t pid, unsigned int threads, long uid, long gid)
{
    char path[64], thread[400];
    unsigned int n = 0;
    struct dirent *entry;
    DIR *tasks;

    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    tasks = opendir(path);
    assert_non_null(tasks);
    while ((entry = readdir(tasks))) {
        if (entry->d_name[0] == '.')
            continue;
        n++;
        snprintf(thread, sizeof(thread), "%s/%s/status", path, entry->d_name);
        assert_int_equal(status_number_in(thread, "Uid:", 10), uid);
        assert_int_equal(status_number_in(thread, "Gid:", 10), gid);
        assert_true(in_no_other_group(thread));
        assert_int_equal(status_number_in(thread, "CapEff:", 16), 0);
        assert_int_equal(status_number_in(thread, "CapPrm:", 16), 0);
        assert_int_equal(status_number_in(thread, "CapInh:", 16), 0);
        assert_int_equal(status_number_in(thread, "CapAmb:", 16), 0);
        assert_int_equal(status_number_in(thread, "NoNewPrivs:", 10), 1);
        assert_int_equal(status_number_in(thread, "Seccomp:", 10), 2);
    }
    closedir(tasks);
    assert_int_equal(n, threads);
}

static void links_to(pid_t pid, const char *name, char *link, size_t size)
{
    char path[64];
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
    n = readlink(path, link, size - 1);
    assert_true(n > 0);
    link[n] = '\0';
}

/* Descriptors by what they lead to. Nothing else may be open; of the lowest, those that are not needed lead
 * nowhere. */
struct descriptors {
    unsigned int lowest, sockets, events, pipes;
};

static void has_only(pid_t pid, const struct descriptors *want)
{
    struct descriptors have = {0};
    char path[64], name[280], link[256];
    struct dirent *entry;
    DIR *files;

    snprintf(path, sizeof(path), "/proc/%d/fd", pid);
    files = opendir(path);
    assert_non_null(files);
    while ((entry = readdir(files))) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "fd/%s", entry->d_name);
        links_to(pid, name, link, sizeof(link));
        if (strcmp(link, "/dev/null") == 0)
            assert_true((unsigned int)atoi(entry->d_name) < want->lowest);
        else if (strncmp(link, "socket:", 7) == 0)
            have.sockets++;
        else if (strcmp(link, "anon_inode:[eventfd]") == 0)
            have.events++;
        else if (strncmp(link, "pipe:", 5) == 0)
            have.pipes++;
        else
            fail_msg("descriptor %s: %s", entry->d_name, link);
    }
    closedir(files);
    assert_int_equal(have.sockets, want->sockets);
    assert_int_equal(have.events, want->events);
    assert_int_equal(have.pipes, want->pipes);
}

static void sees_nothing(pid_t pid)
{
    char link[256];

    links_to(pid, "root", link, sizeof(link));
    assert_non_null(strstr(link, "/empty"));
    links_to(pid, "cwd", link, sizeof(link));
    assert_non_null(strstr(link, "/empty"));
}

static void the_feeder_has_no_rights(void **state)
{
    /* Control and two bulk channels; orders, reports and arrivals; the pipe to the pager. */
    const struct descriptors want = {.lowest = 4, .sockets = 3, .events = 3, .pipes = 1};
    struct fixture *f = *state;
    json_t *report;
    pid_t feeder;

    if (geteuid() != 0)
        skip();
    f->serve.streams = f->receive.streams = 2;
    report = fixture_idle(f);
    feeder = fixture_process(report, "feeder");
    json_decref(report);
    each_thread_is_confined(feeder, 3, 65534, 65533);
    sees_nothing(feeder);
    has_only(feeder, &want);
    assert_int_equal(kill(f->domain_pid, SIGUSR2), 0);
    both_end_with(f, EXIT_DONE, EXIT_DONE);
}

/* It talks to strangers, and has a right to the pages of its domain: to nothing else. */
static void the_sender_has_no_rights(void **state)
{
    /* The listener, serve, control and two bulk channels; a wake-up for it, and for each bulk thread. */
    const struct descriptors want = {.lowest = 20, .sockets = 5, .events = 3};
    struct fixture *f = *state;
    pid_t sender;

    if (geteuid() != 0)
        skip();
    f->serve.streams = f->receive.streams = 2;
    json_decref(fixture_idle(f));
    sender = only_child(f->serve_pid);
    each_thread_is_confined(sender, 3, f->serve.sender_uid, f->serve.sender_gid);
    sees_nothing(sender);
    has_only(sender, &want);
    assert_int_equal(kill(f->domain_pid, SIGUSR2), 0);
    both_end_with(f, EXIT_DONE, EXIT_DONE);
    nothing_wrong(f);
}

static void a_running_domain_is_refused(void **state)
{
    struct fixture *f = *state;

    f->destination.running = true;
    fixture_start_serve(f);
    fixture_start_receive(f);
    assert_int_equal(fixture_wait(f->receive_pid), EXIT_FAILED);
    f->receive_pid = 0;
    assert_int_equal(f->results[1].marks, 0);
    /* serve goes on waiting. */
    json_decref(fixture_await(f, "serve", "listen"));
    assert_int_equal(kill(f->serve_pid, SIGTERM), 0);
    assert_int_equal(fixture_wait(f->serve_pid), EXIT_FAILED);
    f->serve_pid = 0;
}

static void a_domain_that_cannot_be_paged_is_refused(void **state)
{
    struct fixture *f = *state;

    f->destination.pv = true;
    fixture_start_serve(f);
    fixture_start_receive(f);
    assert_int_equal(fixture_wait(f->receive_pid), EXIT_UNFIT);
    f->receive_pid = 0;
}

static void another_guest_is_refused_before_anything_is_evicted(void **state)
{
    struct fixture *f = *state;
    json_t *receive;

    f->destination.foreign_uuid = true;
    fixture_start_serve(f);
    fixture_start_receive(f);
    assert_int_equal(fixture_wait(f->receive_pid), EXIT_REFUSED);
    f->receive_pid = 0;
    assert_int_equal(f->results[1].marks, 0);
    receive = fixture_last(f, "receive");
    assert_non_null(strstr(json_string_value(json_object_get(receive, "reason")), "not the same guest"));
    json_decref(receive);
    /* And the right one still gets in. */
    f->destination.foreign_uuid = false;
    fixture_start_receive(f);
    both_end_with(f, EXIT_DONE, EXIT_DONE);
    nothing_wrong(f);
}

static void a_wrong_token_is_refused(void **state)
{
    struct fixture *f = *state;
    json_t *receive;

    f->receive.token[31] ^= 1;
    fixture_start_serve(f);
    fixture_start_receive(f);
    assert_int_equal(fixture_wait(f->receive_pid), EXIT_REFUSED);
    f->receive_pid = 0;
    assert_int_equal(f->results[1].marks, 0);
    receive = fixture_last(f, "receive");
    assert_non_null(strstr(json_string_value(json_object_get(receive, "reason")), "token"));
    json_decref(receive);
}

static void a_page_the_source_lacks_is_noticed_before_the_guest_runs(void **state)
{
    struct fixture *f = *state;
    json_t *receive;

    f->source.hole_count = 300;
    fixture_start_serve(f);
    fixture_start_receive(f);
    both_end_with(f, EXIT_FAILED, EXIT_FAILED);
    receive = fixture_last(f, "receive");
    assert_non_null(
        strstr(json_string_value(json_object_get(receive, "reason")), "the source has no page there"));
    assert_int_equal(figure(receive, "faults", "guest"), 0);
    json_decref(receive);
}

static void nobody_listens(void **state)
{
    struct fixture *f = *state;

    snprintf(f->address, sizeof(f->address), "127.0.0.1:1");
    fixture_start_receive(f);
    assert_int_equal(fixture_wait(f->receive_pid), EXIT_FAILED);
    f->receive_pid = 0;
    assert_int_equal(f->results[1].marks, 0);
}

static void many_seeds(void **state)
{
    struct fixture *f = *state;
    unsigned int rounds = getenv("TEST_ROUNDS") ? (unsigned int)atoi(getenv("TEST_ROUNDS")) : 10;

    /* Everything at once, in other orders each time. */
    for (unsigned int seed = 0; seed < rounds; seed++) {
        fixture_free(f);
        fixture_init(f);
        f->destination.vcpus = 1 + seed % FAKE_VCPUS;
        f->destination.drop_percent = seed % 3;
        f->destination.replace_percent = seed % 4;
        f->destination.foreign_percent = seed % 5 * 3;
        f->destination.half_every = seed % 2 ? 9 : 0;
        f->destination.nomem_every = seed % 5 == 4 ? 11 : 0;
        f->destination.load_us = seed % 3 * 30;
        f->receive.push_on_fault = seed % 2;
        f->receive.verify = seed % 4 < 2 ? VERIFY_NONE : VERIFY_HASH;
        f->receive.slots = 64 + seed * 7;
        f->receive.features = seed * 2654435761u >> 27;
        run(f);
    }
}

int main(int argc, char **argv)
{
#define SESSION(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        SESSION(every_byte_arrives),
        SESSION(in_every_order),
        SESSION(faulted_pages_come_on_demand),
        SESSION(the_push_keeps_to_its_rate),
        SESSION(guest_drops_and_replaces_and_is_mapped),
        SESSION(rot_04_evict_fail_is_repaired_by_prep),
        SESSION(rot_05_gfns_above_4_gib_up_to_the_last),
        SESSION(rot_06_gfn_0_is_a_page_like_any_other),
        SESSION(rot_08_an_idle_pager_sleeps),
        SESSION(rot_09_sigterm_neither_loses_nor_fetches_the_guest),
        SESSION(rot_10_no_memory_is_retried_and_nothing_lost),
        SESSION(rot_11_the_pager_is_locked_in_memory),
        SESSION(rot_13_pages_that_xen_refuses_stay_and_the_session_completes),
        SESSION(an_empty_set_completes),
        SESSION(verify_full_compares_every_page),
        SESSION(verify_full_finds_one_wrong_byte),
        SESSION(serve_killed_the_guest_waits),
        SESSION(guest_destroyed_in_the_middle),
        SESSION(source_destroyed_in_the_middle),
        SESSION(the_feeder_has_no_rights),
        SESSION(the_sender_has_no_rights),
        SESSION(a_running_domain_is_refused),
        SESSION(a_domain_that_cannot_be_paged_is_refused),
        SESSION(another_guest_is_refused_before_anything_is_evicted),
        SESSION(a_wrong_token_is_refused),
        SESSION(a_page_the_source_lacks_is_noticed_before_the_guest_runs),
        SESSION(nobody_listens),
        SESSION(many_seeds),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
