// The threads that make the load.
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "convoy.h"
#include "latency.h"
#include "options.h"

// Touches made in each 100 ms since the start; a ring, 102 s long.
#define WORK_SLOT_NS (100 * NS_PER_MS)
#define WORK_SLOTS   1024u

struct work {
    int64_t start; // clock_now() of the run's start
    _Atomic uint32_t slot[WORK_SLOTS];
};

struct worker {
    pthread_t thread;
    struct worker_group *group;
    unsigned int index;
    int cpu; // pinned there, or -1
    _Atomic uint64_t touches, writes;
    _Atomic uint64_t dropped; // touches not made because the thread was too late for them
    struct latency touch, fault;
    struct stalls stalls;
};

struct worker_group {
    const struct options *options;
    struct buffer *buffer;
    struct events *events;
    struct work work;
    struct convoy convoy;
    struct worker *workers;
    unsigned int count;
    atomic_bool stop;
};

// Pin the calling thread to the nth CPU it may use (n wraps round); that CPU, or -1.
int pin_to_cpu(unsigned int n);
unsigned int cpus_allowed(void);

// Start the threads; group->start is set by the caller. 0, or an errno value.
int workers_start(struct worker_group *group);

// Ask them to stop and wait until they have.
void workers_stop(struct worker_group *group);

uint64_t workers_touches(const struct worker_group *group);
