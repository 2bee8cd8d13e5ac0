#include "durations.h"

#include <time.h>

uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void durations_add(struct durations *durations, uint64_t ns)
{
    latency_add(&durations->latency, ns);
    durations->over += ns > NATIVE_LONG_NS;
}

void durations_merge(struct durations *sum, const struct durations *more)
{
    for (unsigned int i = 0; i < LATENCY_BUCKETS; i++)
        sum->latency.bucket[i] += more->latency.bucket[i];
    sum->latency.count += more->latency.count;
    sum->latency.sum_ns += more->latency.sum_ns;
    if (more->latency.max_ns > sum->latency.max_ns)
        sum->latency.max_ns = more->latency.max_ns;
    sum->over += more->over;
}

static json_t *microseconds(uint64_t ns)
{
    return json_real((double)ns / 1000.);
}

json_t *durations_json(const struct durations *durations)
{
    const struct latency *l = &durations->latency;
    json_t *o = json_object(), *classes = json_array();

    for (unsigned int i = 0; i < LATENCY_CLASSES; i++) {
        uint64_t last_ns, samples = latency_class(l, i, &last_ns);

        if (samples)
            json_array_append_new(classes, json_pack("[o, I]", microseconds(last_ns), (json_int_t)samples));
    }
    json_object_set_new(o, "count", json_integer((json_int_t)l->count));
    json_object_set_new(o, "mean", microseconds(l->count ? l->sum_ns / l->count : 0));
    json_object_set_new(o, "p50", microseconds(latency_quantile(l, 500)));
    json_object_set_new(o, "p99", microseconds(latency_quantile(l, 990)));
    json_object_set_new(o, "max", microseconds(l->max_ns));
    json_object_set_new(o, "over_4ms", json_integer((json_int_t)durations->over));
    json_object_set_new(o, "histogram", classes);
    return o;
}
