#include "core/latency.h"

static unsigned int bucket_of(uint64_t ns)
{
    unsigned int log;

    if (ns < LATENCY_STEPS)
        return (unsigned int)ns;
    log = 63u - (unsigned int)__builtin_clzll(ns);
    return (log - 3) * LATENCY_STEPS + (unsigned int)(ns >> (log - 4) & (LATENCY_STEPS - 1));
}

static uint64_t upper_edge(unsigned int bucket)
{
    unsigned int log = bucket / LATENCY_STEPS + 3;

    if (bucket < LATENCY_STEPS)
        return bucket;
    return ((uint64_t)(LATENCY_STEPS + bucket % LATENCY_STEPS) << (log - 4)) +
           ((UINT64_C(1) << (log - 4)) - 1);
}

uint64_t latency_class(const struct latency *latency, unsigned int number, uint64_t *last_ns)
{
    uint64_t samples = 0;

    for (unsigned int i = 0; i < 4; i++)
        samples += latency->bucket[number * 4 + i];
    *last_ns = upper_edge(number * 4 + 3);
    return samples;
}

void latency_add(struct latency *latency, uint64_t ns)
{
    latency->bucket[bucket_of(ns)]++;
    latency->count++;
    latency->sum_ns += ns;
    if (ns > latency->max_ns)
        latency->max_ns = ns;
}

uint64_t latency_quantile(const struct latency *latency, unsigned int permille)
{
    /* Rounded up: the smallest rank that covers the share. */
    uint64_t rank = (latency->count * permille + 999) / 1000, seen = 0;

    for (unsigned int i = 0; i < LATENCY_BUCKETS; i++) {
        seen += latency->bucket[i];
        if (seen >= rank && seen)
            return upper_edge(i) < latency->max_ns ? upper_edge(i) : latency->max_ns;
    }
    return latency->max_ns;
}
