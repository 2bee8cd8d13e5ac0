// JSON lines on stdout. Only the main thread writes them. Every line carries
// its number "n", so that a reader notices one that got lost on the console,
// and totals since the start, so that losing one costs nothing else.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "sweep.h"
#include "tick.h"
#include "worker.h"

struct report {
    const struct options *options;
    const struct buffer *buffer;
    struct events *events;
    struct worker_group *workers;
    const struct tick_group *ticks;
    const struct sweeper *sweeper;
    uint64_t lines;
    uint64_t next_slot; // first slot of the work ring that was not reported yet
};

void report_start(struct report *report);
void report_event(struct report *report, const struct event *event);

// The work of all whole 100 ms slots since the last call.
void report_work(struct report *report);
void report_stats(struct report *report);
void report_end(struct report *report);
