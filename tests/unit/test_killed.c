/* The pager killed, at every step it takes: the guest goes on, and every byte of it is right. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon.h"
#include "exit_status.h"
#include "fixture.h"

static void again(struct fixture *f)
{
    fixture_free(f);
    fixture_init(f);
}

/* A domain so small that every step can be the last one, with a guest that does everything. */
static void small(struct fixture *f, unsigned int seed)
{
    f->source.nr_gfns = f->destination.nr_gfns = 40;
    f->source.hole_first = f->destination.hole_first = 10;
    f->source.hole_count = f->destination.hole_count = 5;
    f->source.special_gfn = f->destination.special_gfn = 38;
    f->destination.vcpus = 2;
    f->destination.touches = 60;
    f->destination.auto_unpause = false;
    f->destination.drop_percent = 4;
    f->destination.replace_percent = 4;
    f->destination.foreign_percent = 10;
    f->destination.nomem_every = seed % 4 == 1 ? 5 : 0;
    f->destination.half_every = seed % 3 == 1 ? 9 : 0;
    /* Marked by a bitmap none is nominated; and a ring that outlives its pager is all that is needed. */
    if (seed % 3 == 1)
        f->receive.features &= ~FEATURE_MARK;
    if (seed % 7 == 2)
        f->receive.features &= ~(FEATURE_PREP | FEATURE_RANGE);
    f->receive.range_foreign = 8;
    f->receive.range_guest = seed % 2 ? 4 : 1;
    f->receive.push_on_fault = seed % 2;
    f->receive.verify = seed % 5 < 2 ? VERIFY_HASH : VERIFY_NONE;
    f->receive.slots = 16;
}

static void is_whole(struct fixture *f, const char *what, uint64_t n)
{
    const struct fake_results *r = &f->results[1];
    json_t *report = fixture_last(f, "receive");

    if (r->wrong_pages || r->violations || f->results[0].violations || r->our_pauses)
        fprintf(stderr, "%s %llu (%s): %llu wrong pages, %llu violations, %llu pauses\n", what,
                (unsigned long long)n, r->crash.where, (unsigned long long)r->wrong_pages,
                (unsigned long long)r->violations, (unsigned long long)r->our_pauses);
    assert_int_equal(r->wrong_pages, 0);
    assert_int_equal(r->violations, 0);
    assert_int_equal(f->results[0].violations, 0);
    assert_int_equal(r->our_pauses, 0);
    assert_string_equal(json_string_value(json_object_get(report, "state")), "completed");
    assert_int_equal(figure(report, "pages", "installed") + figure(report, "pages", "dropped") +
                         figure(report, "pages", "replaced"),
                     figure(report, "pages", "set"));
    assert_int_equal(figure(report, "processes", "pagers_died"), r->crash.pagers - 1);
    json_decref(report);
}

static void end(struct fixture *f, int receive, int serve, const char *what, uint64_t n)
{
    int rc = fixture_wait(f->receive_pid);

    f->receive_pid = 0;
    if (rc != receive)
        fprintf(stderr, "%s %llu (%s): receive ended with %d, log in %s\n", what, (unsigned long long)n,
                f->results[1].crash.where, rc, f->dir);
    assert_int_equal(rc, receive);
    /* Whose receiver is gone waits for another. */
    if (serve == EXIT_MISSING) {
        fixture_serve_pauses(f, "");
        return;
    }
    rc = fixture_wait(f->serve_pid);
    f->serve_pid = 0;
    assert_int_equal(rc, serve);
}

/* Killed at those points (the first of them not 0): false when there were not so many. */
static bool killed_at(struct fixture *f, const uint64_t at[FAKE_CRASHES], unsigned int seed)
{
    struct fake_crash *crash = &f->results[1].crash;
    int rc;

    small(f, seed);
    memcpy(crash->at, at, sizeof(crash->at));
    fixture_start_serve(f);
    fixture_start_receive(f);
    rc = fixture_wait(f->receive_pid);
    f->receive_pid = 0;
    if (crash->crashed && !crash->depended) {
        /* The guest could not run: as ever, a failure that costs nothing. */
        assert_int_equal(rc, EXIT_FAILED);
        /* It may not have heard of a receiver at all; nor is it told how far the guest came once the set is
         * agreed on. */
        kill(f->serve_pid, SIGTERM);
        kill(f->serve_pid, SIGKILL); /* then it is paused, and refuses */
        rc = fixture_wait(f->serve_pid);
        f->serve_pid = 0;
        assert_true(rc == EXIT_FAILED || rc == -SIGKILL);
        assert_int_equal(crash->pagers, 1);
        return true;
    }
    if (rc != EXIT_DONE)
        fprintf(stderr, "killed at %llu, %llu, %llu (%s): receive ended with %d, log in %s\n",
                (unsigned long long)at[0], (unsigned long long)at[1], (unsigned long long)at[2], crash->where,
                rc, f->dir);
    assert_int_equal(rc, EXIT_DONE);
    assert_int_equal(fixture_wait(f->serve_pid), EXIT_DONE);
    f->serve_pid = 0;
    is_whole(f, "killed at", at[0]);
    return crash->crashed;
}

/* TEST_ROUNDS: how often; TEST_POINT: that one alone. */
static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    return getenv(name) ? strtoull(getenv(name), NULL, 10) : otherwise;
}

static void at_every_point(void **state)
{
    struct fixture *f = *state;
    uint64_t only = from_environment("TEST_POINT", 0), step = from_environment("TEST_STEP", 11), n = 1,
             depended = 0;

    if (only) {
        killed_at(f, (uint64_t[FAKE_CRASHES]){only}, (unsigned int)only);
        return;
    }
    /* Each point has its turn in a few runs; TEST_STEP=1: all of them in one. */
    for (n = 1 + (uint64_t)getpid() % step; killed_at(f, (uint64_t[FAKE_CRASHES]){n}, (unsigned int)n);
         n += step) {
        depended += f->results[1].crash.depended != 0;
        again(f);
    }
    printf("killed at up to %llu points, %llu times with a guest that depended on it\n",
           (unsigned long long)n, (unsigned long long)depended);
    assert_true(depended >= 250 / step);
}

static void two_in_a_row(void **state)
{
    struct fixture *f = *state;
    uint64_t rounds = from_environment("TEST_ROUNDS", 60);
    unsigned int random = (unsigned int)from_environment("TEST_SEED", (uint64_t)getpid()), died = 0;

    for (uint64_t i = 0; i < rounds; i++) {
        uint64_t at[FAKE_CRASHES] = {250 + (uint64_t)rand_r(&random) % 600,
                                     1 + (uint64_t)rand_r(&random) % 120, 1 + (uint64_t)rand_r(&random) % 120,
                                     0};

        killed_at(f, at, (unsigned int)i);
        died += f->results[1].crash.crashed > 1;
        again(f);
    }
    assert_true(died > rounds / 4);
}

/* Every point of taking over, too. */
static void while_taking_over(void **state)
{
    struct fixture *f = *state;
    uint64_t step = from_environment("TEST_STEP", 11), n;

    for (n = 1 + (uint64_t)getpid() % step;; n += step) {
        small(f, 1);
        killed_at(f, (uint64_t[FAKE_CRASHES]){400, n}, 1);
        if (f->results[1].crash.crashed < 2)
            break;
        again(f);
    }
    assert_true(n > 30);
}

static void kill_pager(struct fixture *f)
{
    kill(f->results[1].crash.pager, SIGKILL);
}

static bool ended(pid_t pid)
{
    siginfo_t info = {0};

    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
}

static void from_outside_at_any_time(void **state)
{
    struct fixture *f = *state;
    uint64_t rounds = from_environment("TEST_ROUNDS", 8), died = 0;
    unsigned int random = (unsigned int)from_environment("TEST_SEED", (uint64_t)getpid());

    for (uint64_t i = 0; i < rounds; i++) {
        unsigned int killed = 0;
        uint64_t most = 0;

        f->destination.drop_percent = 2;
        f->destination.replace_percent = 2;
        f->destination.foreign_percent = 5;
        f->destination.touches = 1500;
        f->destination.nomem_every = i % 3 ? 0 : 13;
        f->destination.half_every = i % 2 ? 9 : 0;
        f->receive.features = i % 2 ? FEATURES_ALL & ~FEATURE_MARK : FEATURES_ALL;
        f->receive.push_on_fault = i % 2;
        f->receive.verify = i % 4 < 2 ? VERIFY_HASH : VERIFY_NONE;
        fixture_start_serve(f);
        fixture_start_receive(f);
        /* Not by its socket: on a busy machine the whole session may be over before we have connected. */
        while (!f->results[1].crash.depended && !ended(f->receive_pid))
            usleep(1000);
        while (!ended(f->receive_pid)) {
            const struct fake_crash *crash = &f->results[1].crash;

            /* Each pager once, when it has come to about so many points: at whatever instruction it is then.
             */
            if (crash->pagers != killed && crash->points >= most) {
                killed = crash->pagers;
                most = (uint64_t)rand_r(&random) % 2500;
                kill_pager(f);
            }
            usleep((unsigned int)rand_r(&random) % 1000);
        }
        end(f, EXIT_DONE, EXIT_DONE, "round", i);
        is_whole(f, "round", i);
        died += f->results[1].crash.pagers - 1;
        again(f);
    }
    printf("%llu pagers killed in %llu sessions\n", (unsigned long long)died, (unsigned long long)rounds);
    assert_true(died >= rounds);
}

/* Memory without a hole, in regions that can be superpages. The last one has a page that is never absent. */
static void regions(struct fixture *f, uint64_t n)
{
    f->source.nr_gfns = f->destination.nr_gfns = n * BACKEND_SUPER;
    f->source.hole_count = f->destination.hole_count = 0;
    f->source.special_gfn = f->destination.special_gfn = n * BACKEND_SUPER - 1;
    f->destination.vcpus = 0;
    f->receive.slots = 16;
}

/* Points that a pager comes to that nobody kills, and those of them before a guest depends on it. */
static uint64_t points_of(struct fixture *f, uint64_t n, unsigned int vcpus, uint64_t *depended)
{
    uint64_t points;

    regions(f, n);
    f->destination.vcpus = vcpus;
    f->destination.touches = 20;
    fixture_start_serve(f);
    fixture_start_receive(f);
    end(f, EXIT_DONE, EXIT_DONE, "regions", n);
    points = f->results[1].crash.points;
    *depended = f->results[1].crash.depended;
    again(f);
    return points;
}

/* While regions are gathered, installed as one, given up and collapsed. Nothing is sent a second time. */
static void amid_superpages(void **state)
{
    struct fixture *f = *state;
    uint64_t rounds = from_environment("TEST_ROUNDS", 12), supers = 0, died = 0;
    unsigned int random = (unsigned int)from_environment("TEST_SEED", (uint64_t)getpid());

    for (uint64_t i = 0; i < rounds; i++) {
        unsigned int vcpus = i % 3;
        uint64_t depended, points = points_of(f, 3, vcpus, &depended), most = points - depended, n;
        json_t *report;

        regions(f, 3);
        f->destination.vcpus = vcpus;
        f->destination.touches = 20;
        f->destination.auto_unpause = false;
        f->destination.nomem_every = i % 4 == 3 ? 7 : 0;
        /* Every other time among the last points, where it collapses what it can and leaves. */
        n = i % 2 && most > 80 ? most - 80 + (uint64_t)rand_r(&random) % 80
                               : (uint64_t)rand_r(&random) % most;
        f->results[1].crash.at[0] = depended + 1 + n;
        f->results[1].crash.at[1] = i % 3 ? 1 + (uint64_t)rand_r(&random) % 1000 : 0;
        fixture_start_serve(f);
        fixture_start_receive(f);
        end(f, EXIT_DONE, EXIT_DONE, "superpages", i);
        is_whole(f, "superpages", i);
        report = fixture_last(f, "receive");
        assert_int_equal(figure(report, "link", "serve_resent"), 0);
        json_decref(report);
        supers += f->results[1].supers;
        died += f->results[1].crash.crashed;
        again(f);
    }
    printf("%llu pagers died, %llu of %llu regions are superpages\n", (unsigned long long)died,
           (unsigned long long)supers, (unsigned long long)rounds * 3);
    assert_true(died >= rounds / 2);
    assert_true(supers >= rounds);
}

/* False if the keeper was not stopped in time. */
static bool killed_while_stopped(struct fixture *f, uint64_t at)
{
    struct fake_crash *crash = &f->results[1].crash;

    crash->at[0] = at;
    fixture_start_serve(f);
    fixture_start_receive(f);
    while (!crash->pager)
        usleep(100);
    kill(f->receive_pid, SIGSTOP);
    while (!crash->crashed)
        usleep(1000);
    usleep(10000); /* a keeper that was not stopped then has started another */
    return crash->pagers == 1;
}

/* Their slots have gone back to the feeder, and nobody could bring them again. */
static void what_was_gathered_outlives_pager_and_source(void **state)
{
    struct fixture *f = *state;
    uint64_t depended;
    json_t *report;

    points_of(f, 3, 0, &depended);
    for (;;) {
        regions(f, 3);
        f->destination.auto_unpause = false;
        /* A page comes to some ten points: amid the first region. */
        if (killed_while_stopped(f, depended + 3000))
            break;
        again(f);
    }
    assert_int_equal(f->results[1].loads, 0);
    kill(f->serve_pid, SIGKILL);
    assert_int_equal(fixture_wait(f->serve_pid), -SIGKILL);
    f->serve_pid = 0;
    kill(f->receive_pid, SIGCONT);
    report = fixture_await(f, "receive", "paused");
    assert_int_equal(figure(report, "processes", "pagers_died"), 1);
    assert_int_equal(figure(report, "pages", "arrived"), 0);
    assert_true(figure(report, "pages", "installed") > 200);
    assert_int_equal(figure(report, "pages", "installed"), f->results[1].loads);
    assert_int_equal(figure(report, "pages", "installed") + figure(report, "pages", "outstanding"),
                     3 * BACKEND_SUPER - 1);
    json_decref(report);
    assert_int_equal(kill(f->domain_pid, SIGUSR1), 0);
    assert_int_equal(fixture_wait(f->receive_pid), EXIT_GONE);
    f->receive_pid = 0;
    assert_int_equal(f->results[1].violations, 0);
}

static void an_idle_pager_is_followed_and_known_by_the_same_pid(void **state)
{
    struct fixture *f = *state;
    json_t *before, *after;

    before = fixture_idle(f);
    kill_pager(f);
    /* The socket is there all the time: who asks meanwhile waits. */
    after = fixture_status(f, "receive");
    assert_int_equal(json_integer_value(json_object_get(before, "pid")), f->receive_pid);
    assert_int_equal(json_integer_value(json_object_get(after, "pid")), f->receive_pid);
    assert_int_not_equal(fixture_process(before, "pager"), fixture_process(after, "pager"));
    assert_int_equal(fixture_process(before, "feeder"), fixture_process(after, "feeder"));
    assert_int_equal(figure(after, "pages", "set"), 1299);
    assert_int_equal(figure(after, "pages", "absent"), 1299);
    assert_int_equal(figure(after, "processes", "pagers_died"), 1);
    json_decref(before);
    json_decref(after);
    /* It refuses what the first one refused. */
    assert_int_equal(kill(f->receive_pid, SIGTERM), 0);
    for (int i = 0; i < 500; i++) {
        after = fixture_status(f, "receive");
        if (json_integer_value(json_object_get(after, "signals_refused")))
            break;
        json_decref(after);
        usleep(10000);
    }
    assert_string_equal(json_string_value(json_object_get(after, "state")), "active");
    json_decref(after);
    assert_int_equal(kill(f->domain_pid, SIGUSR2), 0);
    end(f, EXIT_DONE, EXIT_DONE, "idle", 0);
    is_whole(f, "idle", 0);
}

static void the_keeper_killed_the_pager_goes_on(void **state)
{
    struct fixture *f = *state;
    json_t *report;

    json_decref(fixture_idle(f));
    kill(f->receive_pid, SIGKILL);
    assert_int_equal(fixture_wait(f->receive_pid), -SIGKILL);
    f->receive_pid = 0;
    assert_int_equal(kill(f->domain_pid, SIGUSR2), 0);
    assert_int_equal(fixture_wait(f->serve_pid), EXIT_DONE);
    f->serve_pid = 0;
    for (int i = 0; i < 500; i++) {
        char path[128];

        snprintf(path, sizeof(path), "%s/receive-8.last.json", f->dir);
        if (access(path, F_OK) == 0)
            break;
        usleep(10000);
    }
    report = fixture_last(f, "receive");
    assert_string_equal(json_string_value(json_object_get(report, "state")), "completed");
    json_decref(report);
    assert_int_equal(f->results[1].wrong_pages, 0);
    assert_int_equal(f->results[1].violations, 0);
}

static bool log_has(const struct fixture *f, const char *text)
{
    char command[256];

    snprintf(command, sizeof(command), "grep -q '%s' %s/receive.log", text, f->dir);
    return getenv("TEST_VERBOSE") || system(command) == 0;
}

static void a_ring_that_ends_with_its_reader_has_one_reader(void **state)
{
    struct fixture *f = *state;

    f->destination.mortal_ring = true;
    json_decref(fixture_idle(f));
    kill_pager(f);
    end(f, EXIT_MISSING, EXIT_MISSING, "mortal", 0);
    assert_int_equal(f->results[1].crash.pagers, 1);
    assert_true(log_has(f, "ends with its reader"));
}

static void what_kills_every_pager_is_given_up(void **state)
{
    struct fixture *f = *state;

    f->results[1].crash.at[1] = f->results[1].crash.at[2] = f->results[1].crash.at[3] = 9;
    json_decref(fixture_idle(f));
    kill_pager(f);
    end(f, EXIT_MISSING, EXIT_MISSING, "always", 0);
    assert_int_equal(f->results[1].crash.pagers, 11);
    assert_true(log_has(f, "as did 10 before it that came to nothing"));
}

/* The feeder dies, and the pager before it can be told. */
static void feeder_and_pager_killed_others_take_their_place(void **state)
{
    struct fixture *f = *state;
    json_t *report;

    report = fixture_idle(f);
    kill(fixture_process(report, "pager"), SIGSTOP);
    kill(fixture_process(report, "feeder"), SIGKILL);
    kill_pager(f);
    json_decref(report);
    assert_int_equal(kill(f->domain_pid, SIGUSR2), 0); /* xl unpause */
    end(f, EXIT_DONE, EXIT_DONE, "both", 0);
    report = fixture_last(f, "receive");
    assert_int_equal(figure(report, "link", "recoveries"), 1);
    json_decref(report);
    is_whole(f, "both", 0);
}

static void the_domain_is_destroyed_while_there_is_no_pager(void **state)
{
    struct fixture *f = *state;
    json_t *report;
    pid_t pager;

    json_decref(fixture_idle(f));
    pager = f->results[1].crash.pager;
    kill(pager, SIGSTOP);
    kill(f->domain_pid, SIGUSR1);
    usleep(50000); /* it is not told */
    kill(pager, SIGKILL);
    end(f, EXIT_GONE, EXIT_GONE, "destroyed", 0);
    /* What the last one knew is known: whether the guest ever ran is told to the source. */
    report = fixture_last(f, "receive");
    assert_int_equal(figure(report, "pages", "set"), 1299);
    assert_int_equal(figure(report, "pages", "outstanding"), 1299);
    json_decref(report);
}

/* Not for want of trying: descriptors, here. */
static void a_keeper_that_cannot_start_another_says_what_the_guest_is_left_with(void **state)
{
    struct fixture *f = *state;
    const struct rlimit none = {3, 3};

    json_decref(fixture_idle(f));
    assert_int_equal(prlimit(f->receive_pid, RLIMIT_NOFILE, &none, NULL), 0);
    kill_pager(f);
    end(f, EXIT_MISSING, EXIT_MISSING, "no descriptors", 0);
    assert_true(log_has(f, "cannot start another pager: Too many open files"));
}

static void be_daemon(struct fixture *f, int out)
{
    const struct daemon_options options = {.background = true, .run_dir = f->dir, .name = "receive-g"};

    dup2(out, STDERR_FILENO);
    if (daemon_enter(&options))
        _exit(EXIT_USAGE);
    fake_remote_forget();
    fake_remote_prepare();
    if (fork() == 0) {
        int null = open("/dev/null", O_RDWR);

        dup2(null, STDERR_FILENO);
        fake_remote_serve(&f->destination);
    }
    f->receive.open = fake_remote_open;
    _exit(receive_run(&f->receive));
}

/* Neither keeper nor pager nor feeder keeps what the caller waits for the end of. */
static void in_the_background_the_caller_is_let_go(void **state)
{
    struct fixture *f = *state;

    for (int detach = 0; detach < 2; detach++) {
        char said[512];
        int pipe_fd[2];
        pid_t caller;
        json_t *report;

        again(f);
        f->receive.push_on_fault = true;
        f->receive.detach = detach;
        f->destination.auto_unpause = false;
        fixture_start_serve(f);
        assert_int_equal(pipe(pipe_fd), 0);
        caller = fork();
        if (caller == 0)
            be_daemon(f, pipe_fd[1]);
        close(pipe_fd[1]);
        assert_int_equal(fixture_wait(caller), EXIT_DONE);
        while (read(pipe_fd[0], said, sizeof(said)) > 0)
            ;
        close(pipe_fd[0]);
        report = fixture_await(f, "receive", "active");
        assert_int_not_equal(json_integer_value(json_object_get(report, "pid")),
                             fixture_process(report, "pager"));
        /* It ends with its domain. */
        kill(fixture_process(report, "keeper"), SIGKILL);
        kill(fixture_process(report, "pager"), SIGKILL);
        json_decref(report);
        fixture_serve_pauses(f, "");
    }
}

int main(int argc, char **argv)
{
#define KILLED(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        KILLED(at_every_point),
        KILLED(while_taking_over),
        KILLED(two_in_a_row),
        KILLED(from_outside_at_any_time),
        KILLED(amid_superpages),
        KILLED(what_was_gathered_outlives_pager_and_source),
        KILLED(an_idle_pager_is_followed_and_known_by_the_same_pid),
        KILLED(the_keeper_killed_the_pager_goes_on),
        KILLED(in_the_background_the_caller_is_let_go),
        KILLED(a_ring_that_ends_with_its_reader_has_one_reader),
        KILLED(what_kills_every_pager_is_given_up),
        KILLED(feeder_and_pager_killed_others_take_their_place),
        KILLED(the_domain_is_destroyed_while_there_is_no_pager),
        KILLED(a_keeper_that_cannot_start_another_says_what_the_guest_is_left_with),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
