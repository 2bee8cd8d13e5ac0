/* Migrations under xl whose channels and processes are lost again and again after the commit. TEST_LONG:
 * often. TEST_SEED: as in the run that printed it. */
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
#include "session_id.h"
#include "switch_fixture.h"

static uint64_t random_state;

static uint64_t random_below(uint64_t n)
{
    if (!random_state) {
        random_state = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 10) : (uint64_t)getpid();
        printf("TEST_SEED=%llu\n", (unsigned long long)random_state);
    }
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (random_state >> 33) % n;
}

/* A child of that process, any. 0: it has none. */
static pid_t child_of(pid_t parent)
{
    char path[64];
    int pids[32], n = 0;
    FILE *in;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", parent, parent);
    in = fopen(path, "re");
    while (in && n < 32 && fscanf(in, "%d", &pids[n]) == 1)
        n++;
    if (in)
        fclose(in);
    return n ? pids[random_below((uint64_t)n)] : 0;
}

static bool nearly_over(struct move *m)
{
    json_t *report = fixture_try_status(&m->f, "receive");
    /* Nobody kills the xl that destroys the source. */
    bool ended = !report || figure(report, "pages", "outstanding") < 100;

    json_decref(report);
    return ended;
}

/* The sender, a transport and the join behind it; the pager, the feeder. */
static unsigned int kill_some(struct move *m, unsigned int most)
{
    unsigned int kills = 0;

    while (kills < most && !nearly_over(m)) {
        pid_t pid = child_of(random_below(2) ? m->f.serve_pid : m->f.receive_pid);

        if (pid > 0 && kill(pid, SIGKILL) == 0)
            kills++;
        usleep((useconds_t)random_below(random_below(2) ? 20000 : 400000));
    }
    return kills;
}

static void moves(struct move *m, uint32_t streams, unsigned int most)
{
    json_t *report;
    unsigned int kills;

    m->f.receive.streams = m->f.serve.streams = streams;
    m->f.receive.push_on_commit = true;
    m->f.receive.features &= ~FEATURE_SUPERPAGES;
    m->f.destination.load_us = 1000;
    m->f.destination.touches = 2000;
    ready(m);
    /* What the hook's daemon leaves: join looks for it. */
    fclose(fopen(in_dir(m, ID SESSION_RECEIVE_PID), "we"));
    commit(m, "serve");
    commit(m, "receive");
    kill_xl(m, 0);
    unpause(m);
    kills = kill_some(m, most);
    ends(&m->f.receive_pid, EXIT_DONE);
    ends(&m->f.serve_pid, EXIT_DONE);
    assert_int_equal(m->f.results[1].wrong_pages, 0);
    nothing_wrong(m);
    report = fixture_last(&m->f, "serve");
    printf("%u kills, %lld recoveries\n", kills, figure(report, "link", "recoveries"));
    json_decref(report);
}

static void repeat(void **state, uint32_t streams)
{
    unsigned int sessions = getenv("TEST_LONG") ? 10 : 1;

    for (unsigned int i = 0; i < sessions; i++) {
        if (i) {
            teardown(state);
            setup(state);
        }
        moves(*state, streams, getenv("TEST_LONG") ? 10 : 5);
    }
}

static void one_channel(void **state)
{
    repeat(state, 0);
}

static void many_channels(void **state)
{
    repeat(state, 3);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        MOVE(one_channel),
        MOVE(many_channels),
    };

    return switch_main(argc, argv, tests, sizeof(tests) / sizeof(tests[0]));
}
