/* A histogram of durations: 16 linear steps in each power of two, so any quantile is right within 6.25 %. */
#ifndef XENPAGING_PC_LATENCY_H
#define XENPAGING_PC_LATENCY_H

#include <stdint.h>

#define LATENCY_STEPS   16
#define LATENCY_BUCKETS (61 * LATENCY_STEPS)

struct latency {
    uint64_t bucket[LATENCY_BUCKETS];
    uint64_t count;
    uint64_t max_ns;
    uint64_t sum_ns;
};

void latency_add(struct latency *latency, uint64_t ns);

/* The duration (ns) that permille/1000 of the samples do not pass; upper edge of its step, never above the
 * maximum. */
uint64_t latency_quantile(const struct latency *latency, unsigned int permille);

/* Four to a power of two. */
#define LATENCY_CLASSES (LATENCY_BUCKETS / 4)

/* How many samples are in a class; last_ns: its upper edge. */
uint64_t latency_class(const struct latency *latency, unsigned int number, uint64_t *last_ns);

#endif
