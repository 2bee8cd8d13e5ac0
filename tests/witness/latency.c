#include "latency.h"

#include "clock.h"

static unsigned int log2_of(uint64_t v)
{
    return 63u - (unsigned int)__builtin_clzll(v);
}

// Values 0..7 have a bucket each, then eight per power of two.
static unsigned int bucket_of(uint64_t us)
{
    unsigned int exponent, bucket;

    if (us < 8)
        return (unsigned int)us;
    exponent = log2_of(us);
    bucket = 8 + (exponent - 3) * 8 + (unsigned int)((us >> (exponent - 3)) & 7);
    return bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1;
}

// First value above the bucket.
static uint64_t bucket_end(unsigned int bucket)
{
    unsigned int exponent;

    if (bucket < 8)
        return bucket + 1;
    exponent = (bucket - 8) / 8 + 3;
    return (UINT64_C(8) + (bucket - 8) % 8 + 1) << (exponent - 3);
}

static void raise_to(_Atomic uint64_t *max, uint64_t ns)
{
    if (ns > counter_get(max))
        atomic_store_explicit(max, ns, memory_order_relaxed);
}

void latency_add(struct latency *latency, uint64_t ns)
{
    _Atomic uint32_t *bucket = &latency->bucket[bucket_of(ns / (uint64_t)NS_PER_US)];

    atomic_store_explicit(bucket, atomic_load_explicit(bucket, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    counter_add(&latency->count, 1);
    raise_to(&latency->max_ns, ns);
}

void stalls_add(struct stalls *stalls, uint64_t ns)
{
    raise_to(&stalls->longest_ns, ns);
    if (ns <= (uint64_t)(20 * NS_PER_MS))
        return;
    counter_add(&stalls->over_20ms, 1);
    if (ns > (uint64_t)(50 * NS_PER_MS))
        counter_add(&stalls->over_50ms, 1);
    if (ns > (uint64_t)(100 * NS_PER_MS))
        counter_add(&stalls->over_100ms, 1);
}

uint64_t latency_percentile(const struct latency *latency, unsigned int percent)
{
    uint64_t total = 0, seen = 0, max_us = counter_get(&latency->max_ns) / (uint64_t)NS_PER_US;

    for (unsigned int i = 0; i < LATENCY_BUCKETS; i++)
        total += atomic_load_explicit(&latency->bucket[i], memory_order_relaxed);
    for (unsigned int i = 0; i < LATENCY_BUCKETS; i++) {
        seen += atomic_load_explicit(&latency->bucket[i], memory_order_relaxed);
        if (seen != 0 && seen * 100 >= total * percent)
            return bucket_end(i) < max_us ? bucket_end(i) : max_us;
    }
    return 0;
}

uint64_t latency_bucket(const struct latency *latency, unsigned int bucket, uint64_t *end_us)
{
    *end_us = bucket_end(bucket);
    return atomic_load_explicit(&latency->bucket[bucket], memory_order_relaxed);
}

uint64_t latency_octave(const struct latency *latency, unsigned int log2_us)
{
    uint64_t sum = 0;

    for (unsigned int i = 0; i < LATENCY_BUCKETS; i++)
        if (log2_of(bucket_end(i) - 1 > 0 ? bucket_end(i) - 1 : 1) == log2_us)
            sum += atomic_load_explicit(&latency->bucket[i], memory_order_relaxed);
    return sum;
}
