// Keeps the threads of --same together: all make a number of touches, then
// wait for the slowest, so that they meet on the same absent page.
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdatomic.h>

struct convoy {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    unsigned int threads, arrived;
    unsigned long round;
    bool go_on;
};

void convoy_init(struct convoy *convoy, unsigned int threads);

// Wait for all threads. All get the same answer, so that none is left waiting:
// false if *stop was set when the last one arrived.
bool convoy_wait(struct convoy *convoy, const atomic_bool *stop);
