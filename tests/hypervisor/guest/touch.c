/*
 * touch THREADS PAGES: thread i, pinned to CPU i, verifies and rewrites the words of its own in PAGES pages
 * over and over. Prints the frame of the first page and then, five times a second, how often each thread
 * has been round; a word that is not what was written ends it with WRONG.
 */
#include <err.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "frame.h"

#define WORDS (FRAME_SIZE / sizeof(uint64_t))

static size_t pages;
static volatile uint64_t *memory;
static volatile uint64_t *rounds; /* one a thread, in a page of its own */

static void pause_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&t, NULL);
}

static void *run(void *arg)
{
    size_t id = (size_t)(uintptr_t)arg;
    cpu_set_t cpus;

    CPU_ZERO(&cpus);
    CPU_SET(id, &cpus);
    if (pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus))
        errx(1, "thread %zu: no CPU of its own", id);
    for (uint64_t round = 1;; round++) {
        for (size_t page = 0; page < pages; page++) {
            volatile uint64_t *word = &memory[page * WORDS + id];
            uint64_t want = round == 1 ? 0 : (round - 1) * 1000003 + page;

            if (*word != want) {
                printf("WRONG thread=%zu page=%zu want=%llx have=%llx\n", id, page, (unsigned long long)want,
                       (unsigned long long)*word);
                fflush(stdout);
                _exit(1);
            }
            *word = round * 1000003 + page;
        }
        rounds[id] = round;
        pause_ms(3);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    uint64_t frame;
    unsigned int threads = argc > 1 ? (unsigned int)atoi(argv[1]) : 0;

    pages = argc > 2 ? (size_t)atol(argv[2]) : 0;
    if (!threads || threads > WORDS || !pages)
        errx(2, "usage: touch THREADS PAGES");
    memory = frames_alloc(pages);
    rounds = frames_alloc(1);
    frame = frame_of((const void *)memory);
    printf("FRAME %llx\n", (unsigned long long)frame);
    for (unsigned int i = 0; i < threads; i++) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, run, (void *)(uintptr_t)i))
            errx(1, "pthread_create");
    }
    for (unsigned int n = 0;; n++) {
        if (frame_of((const void *)memory) != frame) {
            printf("WRONG frame: it has moved to %llx\n", (unsigned long long)frame_of((const void *)memory));
            fflush(stdout);
            _exit(1);
        }
        printf("TICK %u", n);
        for (unsigned int i = 0; i < threads; i++)
            printf(" %llu", (unsigned long long)rounds[i]);
        printf("\n");
        fflush(stdout);
        pause_ms(200);
    }
}
