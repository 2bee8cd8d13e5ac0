// Command line of memwitness.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "order.h"

struct options {
    uint64_t mib, share; // one of them: MiB, or percent of RAM
    uint64_t seed;
    uint64_t rate;        // touches per second over all threads, 0 = as fast as possible
    uint64_t write_share; // percent of touches that write
    enum order_kind order;
    uint64_t stride;  // pages
    uint64_t threads; // 0 = one per CPU
    bool same;        // all threads touch the same pages at the same time
    uint64_t convoy;  // touches between two meetings of --same
    uint64_t seconds; // 0 = until told
    uint64_t sweep_every;
    uint64_t stop_after_sweeps;
    uint64_t tick_ms; // 0 = no ticks
    uint64_t tick_reads, tick_work;
    bool tick_per_vcpu;
    uint64_t tick_port; // 0 = none
    const char *tick_file;
    const char *work_file, *work_key; // whose work ticks carry, if not ours
    uint64_t report_ms, stats_every;
    uint64_t stall_event_ms, fault_us;
    bool commands;
};

enum options_result { OPTIONS_RUN, OPTIONS_HELP, OPTIONS_WRONG };

// Defaults and then argv; on OPTIONS_WRONG the reason is on stderr.
enum options_result options_parse(int argc, char **argv, struct options *options);
