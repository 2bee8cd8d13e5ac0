// Histogram of durations, written by one thread and read by another.
#pragma once

#include <stdatomic.h>
#include <stdint.h>

// Eight buckets per power of two of microseconds: percentiles are right to 12.5 %.
#define LATENCY_BUCKETS 288u

struct latency {
    _Atomic uint64_t count, max_ns;
    _Atomic uint32_t bucket[LATENCY_BUCKETS];
};

// How often something took longer than the limits that a user notices.
struct stalls {
    _Atomic uint64_t over_20ms, over_50ms, over_100ms, longest_ns;
};

// Only the owning thread may add.
void latency_add(struct latency *latency, uint64_t ns);
void stalls_add(struct stalls *stalls, uint64_t ns);

// Microseconds that the given share (0..100) of all durations did not exceed,
// rounded up to the bucket's edge; 0 if there are none.
uint64_t latency_percentile(const struct latency *latency, unsigned int percent);

// Number of durations in one bucket; *end_us is the first microsecond above it.
uint64_t latency_bucket(const struct latency *latency, unsigned int bucket, uint64_t *end_us);

// Number of durations in [2^log2_us, 2^(log2_us+1)) microseconds; log2_us 0 also holds those below 1 us.
uint64_t latency_octave(const struct latency *latency, unsigned int log2_us);
#define LATENCY_OCTAVES 38u

// Increment of a counter that only the calling thread writes.
static inline void counter_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline uint64_t counter_get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}
