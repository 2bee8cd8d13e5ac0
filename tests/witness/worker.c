#include "worker.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include "clock.h"

// Sleeping for less than this costs more than it gives in an emulated guest:
// touches that are due within it are made at once.
#define PACE_NS (2 * NS_PER_MS)
// A thread that is later than this (it was stalled) does not catch up: the
// touches are lost work, and a burst would hide that.
#define LATE_NS (100 * NS_PER_MS)

static int nth_cpu(const cpu_set_t *set, unsigned int n)
{
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, set) && n-- == 0)
            return cpu;
    return -1;
}

unsigned int cpus_allowed(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return 1;
    return (unsigned int)CPU_COUNT(&set);
}

int pin_to_cpu(unsigned int n)
{
    cpu_set_t allowed, one;
    int cpu;

    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
        return -1;
    cpu = nth_cpu(&allowed, n % (unsigned int)CPU_COUNT(&allowed));
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    return sched_setaffinity(0, sizeof(one), &one) == 0 ? cpu : -1;
}

static void record(struct worker *worker, int64_t start, int64_t end, uint64_t probe_ns)
{
    const struct options *options = worker->group->options;
    struct work *work = &worker->group->work;
    uint64_t total = clock_elapsed(start, end);
    uint64_t fault = probe_ns < total ? probe_ns : total;

    if (fault > options->fault_us * (uint64_t)NS_PER_US)
        latency_add(&worker->fault, fault);
    latency_add(&worker->touch, total);
    stalls_add(&worker->stalls, total);
    if (total >= options->stall_event_ms * (uint64_t)NS_PER_MS) {
        struct event event = {
            .kind = EVENT_STALL, .when = end, .source = "worker", .index = worker->index, .stall_ns = total};

        events_push(worker->group->events, &event);
    }
    atomic_fetch_add_explicit(&work->slot[clock_elapsed(work->start, end) / WORK_SLOT_NS % WORK_SLOTS], 1,
                              memory_order_relaxed);
}

static int64_t touch(struct worker *worker, uint64_t page, bool write, const struct toucher *who)
{
    struct buffer *buffer = worker->group->buffer;
    int64_t start = clock_now(), end;
    uint64_t before = cycles_now();
    uint64_t seen = buffer_probe(buffer, page, write);
    uint64_t after = cycles_now();

    buffer_verify(buffer, page, write, seen, who);
    end = clock_now();
    counter_add(&worker->touches, 1);
    if (write)
        counter_add(&worker->writes, 1);
    record(worker, start, end, cycles_to_ns(before, after));
    return end;
}

// Wait until the next touch is due; returns the time it was due at.
static int64_t pace(struct worker *worker, int64_t due, int64_t interval, int64_t now)
{
    struct worker_group *group = worker->group;

    if (now - due > LATE_NS) {
        counter_add(&worker->dropped, (uint64_t)((now - due) / interval));
        return now;
    }
    while (due - now > PACE_NS && !atomic_load_explicit(&group->stop, memory_order_relaxed)) {
        // In steps, so that a low rate does not delay the end, and a clock
        // that stepped back cannot make this wait for long.
        int64_t step = due - now < LATE_NS ? due - now : LATE_NS;

        clock_sleep_until(now + step);
        now = clock_now();
        if (due - now > interval + LATE_NS)
            return now;
    }
    return due;
}

static void init_order(const struct worker *worker, struct order *order)
{
    const struct worker_group *group = worker->group;
    const struct options *options = group->options;
    uint64_t pages = group->buffer->count;
    uint64_t first = pages * worker->index / group->count;
    uint64_t end = pages * (worker->index + 1) / group->count;

    if (options->same)
        order_init(order, options->order, 0, pages, options->stride, options->seed);
    else
        order_init(order, options->order, first, end - first, options->stride, options->seed + worker->index);
}

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    struct worker_group *group = worker->group;
    const struct options *options = group->options;
    const struct toucher who = {.events = group->events, .source = "worker", .index = worker->index};
    int64_t interval = options->rate == 0 ? 0 : NS_PER_S * (int64_t)group->count / (int64_t)options->rate;
    uint64_t dice = page_mix(options->seed ^ (worker->index + 1)) | 1;
    struct order order;
    int64_t due, now;

    worker->cpu = pin_to_cpu(worker->index);
    init_order(worker, &order);
    now = due = clock_now();
    for (uint64_t n = 0;; n++) {
        bool write = (order_random(&dice) >> 32) % 100 < options->write_share;

        if (options->same && n % options->convoy == 0) {
            if (!convoy_wait(&group->convoy, &group->stop))
                break;
        } else if (!options->same && atomic_load_explicit(&group->stop, memory_order_relaxed)) {
            break;
        }
        if (interval != 0)
            due = pace(worker, due, interval, now) + interval;
        now = touch(worker, order_next(&order), write, &who);
    }
    return NULL;
}

int workers_start(struct worker_group *group)
{
    convoy_init(&group->convoy, group->count);
    group->workers = calloc(group->count, sizeof(*group->workers));
    if (!group->workers)
        return ENOMEM;
    for (unsigned int i = 0; i < group->count; i++) {
        int err;

        group->workers[i] = (struct worker){.group = group, .index = i, .cpu = -1};
        err = pthread_create(&group->workers[i].thread, NULL, worker_main, &group->workers[i]);
        if (err)
            return err;
    }
    return 0;
}

void workers_stop(struct worker_group *group)
{
    atomic_store(&group->stop, true);
    for (unsigned int i = 0; i < group->count; i++)
        pthread_join(group->workers[i].thread, NULL);
}

uint64_t workers_touches(const struct worker_group *group)
{
    uint64_t touches = 0;

    for (unsigned int i = 0; i < group->count; i++)
        touches += counter_get(&group->workers[i].touches);
    return touches;
}
