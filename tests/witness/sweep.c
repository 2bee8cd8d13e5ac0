#include "sweep.h"

#include "clock.h"

static void sweep(struct sweeper *sweeper)
{
    const struct toucher who = {.events = sweeper->events, .source = "sweep"};
    struct event event = {.kind = EVENT_SWEEP, .source = "sweep"};
    int64_t start = clock_now();

    for (size_t page = 0; page < sweeper->buffer->count; page++) {
        uint64_t before = cycles_now();
        uint64_t seen, took;

        if (atomic_load_explicit(&sweeper->abandon, memory_order_relaxed))
            return;
        seen = buffer_probe(sweeper->buffer, page, false);
        took = cycles_to_ns(before, cycles_now());
        if (took > sweeper->options->fault_us * (uint64_t)NS_PER_US)
            latency_add(&sweeper->fault, took);
        event.sweep.wrong_bytes += buffer_verify(sweeper->buffer, page, false, seen, &who);
        event.sweep.pages++;
        counter_add(&sweeper->pages, 1);
    }
    event.when = clock_now();
    event.sweep.ns = clock_elapsed(start, event.when);
    counter_add(&sweeper->sweeps, 1);
    event.sweep.number = counter_get(&sweeper->sweeps);
    atomic_store(&sweeper->last_pages, event.sweep.pages);
    events_push(sweeper->events, &event);
}

static void *sweeper_main(void *arg)
{
    struct sweeper *sweeper = arg;

    pthread_mutex_lock(&sweeper->lock);
    for (;;) {
        while (!sweeper->requested && !sweeper->quit)
            pthread_cond_wait(&sweeper->wanted, &sweeper->lock);
        if (!sweeper->requested)
            break;
        sweeper->requested = false;
        pthread_mutex_unlock(&sweeper->lock);
        sweep(sweeper);
        pthread_mutex_lock(&sweeper->lock);
    }
    pthread_mutex_unlock(&sweeper->lock);
    return NULL;
}

int sweeper_start(struct sweeper *sweeper)
{
    pthread_mutex_init(&sweeper->lock, NULL);
    pthread_cond_init(&sweeper->wanted, NULL);
    return pthread_create(&sweeper->thread, NULL, sweeper_main, sweeper);
}

void sweeper_request(struct sweeper *sweeper)
{
    pthread_mutex_lock(&sweeper->lock);
    sweeper->requested = true;
    pthread_cond_signal(&sweeper->wanted);
    pthread_mutex_unlock(&sweeper->lock);
}

void sweeper_stop(struct sweeper *sweeper, bool abandon)
{
    atomic_store(&sweeper->abandon, abandon);
    pthread_mutex_lock(&sweeper->lock);
    sweeper->quit = true;
    pthread_cond_signal(&sweeper->wanted);
    pthread_mutex_unlock(&sweeper->lock);
    pthread_join(sweeper->thread, NULL);
}
