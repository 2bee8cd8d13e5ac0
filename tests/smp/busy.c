/*
 * The test guest's workload: does what makes a vcpu take many interrupts and many page faults of every kind,
 * and checks its memory while it does so. Says "busy: tick N" on the console once a second.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096 };

static volatile sig_atomic_t alarms;

static void on_alarm(int sig)
{
    (void)sig;
    alarms++;
}

static void fatal(const char *what)
{
    printf("busy: FATAL %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Walks a buffer in a pseudo-random order; every page knows its number and its generation. */
static void walker(size_t pages, unsigned id, long interval_us)
{
    struct itimerval it = {{0, interval_us}, {0, interval_us}};
    uint64_t *buf = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t *gen = calloc(pages, sizeof(*gen));
    uint32_t rnd = 12345 + id;
    time_t last = 0;
    unsigned long rounds = 0, ticks = 0;

    if (buf == MAP_FAILED || !gen)
        fatal("memory");
    signal(SIGALRM, on_alarm);
    if (interval_us && setitimer(ITIMER_REAL, &it, NULL))
        fatal("setitimer");
    for (;; rounds++) {
        rnd = rnd * 1664525 + 1013904223;
        size_t n = (rnd >> 8) % pages;
        uint64_t *p = buf + n * (PAGE / 8);

        if (gen[n]) {
            uint64_t want = (uint64_t)n << 32 | gen[n];

            if (p[0] != want || p[PAGE / 8 - 1] != ~want) {
                printf("busy: WRONG page %zu: %016llx %016llx, want %016llx\n", n, (unsigned long long)p[0],
                       (unsigned long long)p[PAGE / 8 - 1], (unsigned long long)want);
                fflush(stdout);
            }
        }
        gen[n]++;
        p[0] = (uint64_t)n << 32 | gen[n];
        p[PAGE / 8 - 1] = ~p[0];
        if (!(rounds & 63)) {
            struct timespec t;

            getppid(); /* a system call: kernel entries and exits are where a stray interrupt hurts */
            clock_gettime(CLOCK_MONOTONIC, &t);
            if (t.tv_sec != last) {
                last = t.tv_sec;
                printf("busy: tick %lu walker %u rounds %lu alarms %d\n", ++ticks, id, rounds, (int)alarms);
                fflush(stdout);
            }
        }
    }
}

/* busy [walkers [MiB each [timer interval in us]]] */
int main(int argc, char **argv)
{
    unsigned walkers = argc > 1 ? (unsigned)atoi(argv[1]) : 1, i;
    size_t mib = argc > 2 ? (size_t)atoi(argv[2]) : 24;
    long us = argc > 3 ? atol(argv[3]) : 1000;

    printf("busy: start walkers %u, %zu MiB each, timer %ld us\n", walkers, mib, us);
    fflush(stdout);
    for (i = 0; i < walkers; i++)
        if (fork() == 0)
            walker(mib << 8, i, us);
    while (wait(NULL) > 0)
        ;
    printf("busy: FATAL the walkers are gone\n");
    return 1;
}
