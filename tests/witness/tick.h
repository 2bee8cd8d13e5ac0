// Ticks: a line through an I/O port every few milliseconds, stamped by the
// machine outside. A tick reads the workload's memory first, so that it says
// "this guest runs and has its memory", not just "a timer fired".
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "latency.h"
#include "options.h"
#include "port.h"
#include "work_file.h"
#include "worker.h"

struct ticker {
    pthread_t thread;
    struct tick_group *group;
    unsigned int index;
    int cpu;
    atomic_bool fifo; // real-time priority was granted
    _Atomic uint64_t ticks;
    struct latency gap;   // time between two ticks
    struct stalls stalls; // the same, less one period: how late a tick was
};

struct tick_group {
    const struct options *options;
    struct buffer *buffer;
    struct events *events;
    const struct worker_group *workers;
    struct port port;
    struct work_file work_file;
    pthread_mutex_t line_lock; // Xen collects the bytes of a domain in one line
    struct ticker *tickers;
    unsigned int count;
    atomic_bool stop;
};

// Start one ticker, or one per CPU; nothing if --tick-ms is 0. 0, or an errno value.
int ticks_start(struct tick_group *group);
void ticks_stop(struct tick_group *group);
uint64_t ticks_total(const struct tick_group *group);
