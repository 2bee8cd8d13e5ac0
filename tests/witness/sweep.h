// Verification of every page of the buffer, in a thread of its own: while
// pages are fetched over a link a sweep can take long.
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "events.h"
#include "latency.h"
#include "options.h"

struct sweeper {
    const struct options *options;
    struct buffer *buffer;
    struct events *events;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wanted;
    bool requested, quit;
    atomic_bool abandon;
    _Atomic uint64_t sweeps, pages; // completed sweeps; pages verified by all of them
    _Atomic uint64_t last_pages;    // pages of the latest complete sweep
    struct latency fault;
};

// 0, or an errno value.
int sweeper_start(struct sweeper *sweeper);

// Ask for a sweep; one that is asked for while another runs follows it. Each
// ends with an EVENT_SWEEP.
void sweeper_request(struct sweeper *sweeper);

// Finish the sweeps asked for, or with abandon leave off, and end the thread.
void sweeper_stop(struct sweeper *sweeper, bool abandon);
