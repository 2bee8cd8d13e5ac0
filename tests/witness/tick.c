#include "tick.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "clock.h"
#include "order.h"

static void read_memory(struct ticker *ticker, struct order *order)
{
    struct tick_group *group = ticker->group;
    const struct toucher who = {.events = group->events, .source = "tick", .index = ticker->index};

    for (uint64_t i = 0; i < group->options->tick_reads; i++) {
        uint64_t page = order_next(order);
        uint64_t seen = buffer_probe(group->buffer, page, false);

        // Any generation of the right page will do here; a whole check is only
        // paid for when there is something to report.
        if (seen != page)
            buffer_verify(group->buffer, page, false, seen, &who);
    }
}

// False: there is no such number (any more), and a tick without one is true.
static bool work_done(const struct tick_group *group, uint64_t *work)
{
    if (group->options->work_file)
        return work_file_read(&group->work_file, work);
    *work = workers_touches(group->workers);
    return true;
}

static void write_line(struct ticker *ticker, uint64_t seq)
{
    struct tick_group *group = ticker->group;
    const struct options *options = group->options;
    char line[80];
    uint64_t work;
    int len;

    if (options->tick_per_vcpu)
        len = snprintf(line, sizeof(line), "t%d.%" PRIu64, ticker->cpu, seq);
    else
        len = snprintf(line, sizeof(line), "t%" PRIu64, seq);
    if (options->tick_work != 0 && ticker->index == 0 && seq % options->tick_work == 0 &&
        work_done(group, &work))
        len += snprintf(line + len, sizeof(line) - (size_t)len, " w%" PRIu64, work);
    line[len++] = '\n';
    pthread_mutex_lock(&group->line_lock);
    port_write(&group->port, line, (size_t)len);
    pthread_mutex_unlock(&group->line_lock);
}

static void note_gap(struct ticker *ticker, int64_t last, int64_t now)
{
    const struct options *options = ticker->group->options;
    uint64_t period = options->tick_ms * (uint64_t)NS_PER_MS;
    uint64_t gap = clock_elapsed(last, now);
    uint64_t late = gap > period ? gap - period : 0;

    latency_add(&ticker->gap, gap);
    stalls_add(&ticker->stalls, late);
    if (late >= options->stall_event_ms * (uint64_t)NS_PER_MS) {
        struct event event = {
            .kind = EVENT_STALL, .when = now, .source = "tick", .index = ticker->index, .stall_ns = late};

        events_push(ticker->group->events, &event);
    }
}

// Real-time priority, so that a tick waits for the guest and its memory, and
// not for the guest's scheduler; it runs too rarely to disturb the load.
static bool become_fifo(void)
{
    struct sched_param param = {.sched_priority = 1};

    return sched_setscheduler(0, SCHED_FIFO, &param) == 0;
}

static void *ticker_main(void *arg)
{
    struct ticker *ticker = arg;
    struct tick_group *group = ticker->group;
    const struct options *options = group->options;
    int64_t period = (int64_t)options->tick_ms * NS_PER_MS;
    int64_t due, last;
    struct order order;

    ticker->cpu = pin_to_cpu(ticker->index);
    atomic_store(&ticker->fifo, become_fifo());
    order_init(&order, options->order, 0, group->buffer->count, options->stride,
               options->seed ^ (UINT64_C(0x7469636b) + ticker->index));
    last = clock_now();
    due = last + period;
    while (!atomic_load_explicit(&group->stop, memory_order_relaxed)) {
        int64_t now = clock_now();

        if (now < due && due - now <= period) {
            clock_sleep_until(due);
            continue;
        }
        read_memory(ticker, &order);
        write_line(ticker, counter_get(&ticker->ticks));
        counter_add(&ticker->ticks, 1);
        now = clock_now();
        note_gap(ticker, last, now);
        last = now;
        // Missed ticks are missed: what a gap cost is seen by its length.
        due += period;
        if (due < now || due - now > period)
            due = now + period;
    }
    return NULL;
}

int ticks_start(struct tick_group *group)
{
    const struct options *options = group->options;

    pthread_mutex_init(&group->line_lock, NULL);
    group->count = options->tick_ms == 0 ? 0 : options->tick_per_vcpu ? cpus_allowed() : 1;
    group->tickers = calloc(group->count + 1, sizeof(*group->tickers));
    if (!group->tickers)
        return ENOMEM;
    for (unsigned int i = 0; i < group->count; i++) {
        int err;

        group->tickers[i] = (struct ticker){.group = group, .index = i, .cpu = -1};
        err = pthread_create(&group->tickers[i].thread, NULL, ticker_main, &group->tickers[i]);
        if (err) {
            group->count = i;
            return err;
        }
    }
    return 0;
}

void ticks_stop(struct tick_group *group)
{
    atomic_store(&group->stop, true);
    for (unsigned int i = 0; i < group->count; i++)
        pthread_join(group->tickers[i].thread, NULL);
}

uint64_t ticks_total(const struct tick_group *group)
{
    uint64_t ticks = 0;

    for (unsigned int i = 0; i < group->count; i++)
        ticks += counter_get(&group->tickers[i].ticks);
    return ticks;
}
