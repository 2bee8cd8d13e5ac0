/* Durations as JSON: {count, mean, p50, p99, max, over_4ms, histogram}, in microseconds. */
#ifndef NATIVE_DURATIONS_H
#define NATIVE_DURATIONS_H

#include <jansson.h>
#include <stdint.h>

#include "core/latency.h"

#define NATIVE_LONG_NS 4000000u /* QEMU's tail begins there */

/* Durations, and how many of them were long. */
struct durations {
    struct latency latency;
    uint64_t over;
};

void durations_add(struct durations *durations, uint64_t ns);
void durations_merge(struct durations *sum, const struct durations *more);
/* A new reference. */
json_t *durations_json(const struct durations *durations);
uint64_t now_ns(void);

#endif
