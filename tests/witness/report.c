#include "report.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/sysinfo.h>

#include "clock.h"

static void begin(struct report *report, const char *type, int64_t when)
{
    printf("{\"type\":\"%s\",\"n\":%" PRIu64 ",\"t_ms\":%" PRIu64, type, report->lines++,
           clock_elapsed(report->workers->work.start, when) / (uint64_t)NS_PER_MS);
}

static void end(void)
{
    puts("}");
    fflush(stdout);
}

static void number(const char *name, uint64_t value)
{
    printf(",\"%s\":%" PRIu64, name, value);
}

static void boolean(const char *name, bool value)
{
    printf(",\"%s\":%s", name, value ? "true" : "false");
}

static void totals(const struct report *report)
{
    uint64_t touches = 0, writes = 0;

    for (unsigned int i = 0; i < report->workers->count; i++) {
        touches += counter_get(&report->workers->workers[i].touches);
        writes += counter_get(&report->workers->workers[i].writes);
    }
    number("touches", touches);
    number("writes", writes);
    number("wrong_bytes", counter_get(&report->events->wrong_bytes));
    number("wrong_pages", counter_get(&report->events->wrong_pages));
    number("sweeps", counter_get(&report->sweeper->sweeps));
    number("pages_swept", counter_get(&report->sweeper->last_pages));
    number("ticks", ticks_total(report->ticks));
}

static void summary(const struct latency *latency, const char *name)
{
    printf(",\"%s\":{\"n\":%" PRIu64 ",\"p50_us\":%" PRIu64 ",\"p99_us\":%" PRIu64 ",\"max_us\":%" PRIu64,
           name, counter_get(&latency->count), latency_percentile(latency, 50),
           latency_percentile(latency, 99), counter_get(&latency->max_ns) / (uint64_t)NS_PER_US);
}

static void log2_histogram(const struct latency *latency, const char *name)
{
    const char *comma = "";

    summary(latency, name);
    printf(",\"log2_us\":{");
    for (unsigned int i = 0; i < LATENCY_OCTAVES; i++) {
        uint64_t n = latency_octave(latency, i);

        if (n == 0)
            continue;
        printf("%s\"%" PRIu64 "\":%" PRIu64, comma, UINT64_C(1) << i, n);
        comma = ",";
    }
    printf("}}");
}

// Faults are what a run is about: all buckets, so that those of several
// threads can be put together without losing more precision.
static void full_histogram(const struct latency *latency, const char *name)
{
    const char *comma = "";

    summary(latency, name);
    printf(",\"below_us\":{");
    for (unsigned int i = 0; i < LATENCY_BUCKETS; i++) {
        uint64_t end, n = latency_bucket(latency, i, &end);

        if (n == 0)
            continue;
        printf("%s\"%" PRIu64 "\":%" PRIu64, comma, end, n);
        comma = ",";
    }
    printf("}}");
}

static void stalls(const struct stalls *stalls)
{
    printf(",\"stalls\":{\"over_20ms\":%" PRIu64 ",\"over_50ms\":%" PRIu64 ",\"over_100ms\":%" PRIu64
           ",\"longest_us\":%" PRIu64 "}",
           counter_get(&stalls->over_20ms), counter_get(&stalls->over_50ms), counter_get(&stalls->over_100ms),
           counter_get(&stalls->longest_ns) / (uint64_t)NS_PER_US);
}

void report_start(struct report *report)
{
    const struct options *options = report->options;

    begin(report, "start", clock_now());
    number("format", 1);
    printf(",\"buffer\":\"0x%" PRIxPTR "\"", (uintptr_t)report->buffer->pages);
    number("pages", report->buffer->count);
    printf(",\"table\":\"0x%" PRIxPTR "\"", (uintptr_t)report->buffer->table);
    number("entry_bytes", sizeof(struct entry));
    number("entry_generation_at", offsetof(struct entry, generation));
    boolean("locked", report->buffer->locked);
    number("seed", options->seed);
    number("rate", options->rate);
    number("write_share", options->write_share);
    printf(",\"order\":\"%s\"", order_name(options->order));
    number("threads", report->workers->count);
    boolean("same", options->same);
    number("cpus", (uint64_t)get_nprocs());
    number("tick_ms", options->tick_ms);
    number("tickers", report->ticks->count);
    printf(",\"tick_by\":\"%s\"", port_method_name(&report->ticks->port));
    number("fault_us", options->fault_us);
    end();
}

static void corruption(const struct event *event)
{
    const struct page_finding *finding = &event->corruption.finding;

    number("page", event->corruption.page);
    number("generation", event->corruption.generation);
    number("wrong_bytes", finding->wrong_bytes);
    if (event->kind == EVENT_TABLE) {
        printf(",\"verdict\":\"table\"");
        number("found_generation", finding->found.generation);
        return;
    }
    printf(",\"verdict\":\"%s\"", page_verdict_name(finding->verdict));
    number("offset", finding->offset);
    printf(",\"expected\":\"%02x\",\"got\":\"%02x\"", finding->expected, finding->got);
    number("found_page", finding->found.number);
    number("found_generation", finding->found.generation);
    number("found_seed", finding->found.seed);
}

void report_event(struct report *report, const struct event *event)
{
    static const char *const types[] = {
        [EVENT_CORRUPTION] = "corruption",
        [EVENT_TABLE] = "corruption",
        [EVENT_STALL] = "stall",
        [EVENT_SWEEP] = "sweep",
    };

    begin(report, types[event->kind], event->when);
    printf(",\"by\":\"%s\"", event->source);
    number("thread", event->index);
    switch (event->kind) {
    case EVENT_CORRUPTION:
    case EVENT_TABLE:
        corruption(event);
        break;
    case EVENT_STALL:
        number("stall_us", event->stall_ns / (uint64_t)NS_PER_US);
        break;
    case EVENT_SWEEP:
        number("sweep", event->sweep.number);
        number("pages_swept", event->sweep.pages);
        number("wrong_bytes", event->sweep.wrong_bytes);
        number("took_ms", event->sweep.ns / (uint64_t)NS_PER_MS);
        break;
    }
    end();
}

void report_work(struct report *report)
{
    struct work *work = &report->workers->work;
    int64_t now = clock_now();
    uint64_t current = clock_elapsed(work->start, now) / WORK_SLOT_NS;

    // The ring holds less than a pause of minutes; what is older was zero or is overwritten.
    if (current - report->next_slot >= WORK_SLOTS && current > report->next_slot)
        report->next_slot = current - (WORK_SLOTS - 1);
    begin(report, "work", now);
    number("slot", report->next_slot);
    printf(",\"work\":[");
    for (bool first = true; report->next_slot < current; report->next_slot++, first = false)
        printf("%s%" PRIu32, first ? "" : ",",
               atomic_exchange(&work->slot[report->next_slot % WORK_SLOTS], 0));
    printf("]");
    totals(report);
    end();
}

void report_stats(struct report *report)
{
    begin(report, "stats", clock_now());
    totals(report);
    printf(",\"threads\":[");
    for (unsigned int i = 0; i < report->workers->count; i++) {
        const struct worker *worker = &report->workers->workers[i];

        printf("%s{\"thread\":%u,\"cpu\":%d", i ? "," : "", i, worker->cpu);
        number("touches", counter_get(&worker->touches));
        number("dropped", counter_get(&worker->dropped));
        log2_histogram(&worker->touch, "touch");
        full_histogram(&worker->fault, "fault");
        stalls(&worker->stalls);
        printf("}");
    }
    printf("],\"tickers\":[");
    for (unsigned int i = 0; i < report->ticks->count; i++) {
        const struct ticker *ticker = &report->ticks->tickers[i];

        printf("%s{\"ticker\":%u,\"cpu\":%d", i ? "," : "", i, ticker->cpu);
        boolean("fifo", atomic_load(&ticker->fifo));
        number("ticks", counter_get(&ticker->ticks));
        log2_histogram(&ticker->gap, "gap");
        stalls(&ticker->stalls);
        printf("}");
    }
    printf("]");
    full_histogram(&report->sweeper->fault, "sweep_fault");
    number("events_dropped", counter_get(&report->events->dropped));
    end();
}

void report_end(struct report *report)
{
    begin(report, "end", clock_now());
    totals(report);
    number("events_dropped", counter_get(&report->events->dropped));
    boolean("clean", counter_get(&report->events->wrong_bytes) == 0);
    end();
}
