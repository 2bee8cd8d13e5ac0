#include "vcpu.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "contents.h"

#define SHORT_NS 500u /* no fault is over in that time */

static const uint8_t *page_of(const struct workload *w, uint64_t gfn)
{
    return (const uint8_t *)(uintptr_t)(w->shared->base + gfn * NATIVE_PAGE);
}

/* What has to wait for its page is a fault, and nothing else here is: the rest of this process is locked. */
static uint64_t faults_taken(void)
{
    struct rusage usage;

    getrusage(RUSAGE_THREAD, &usage);
    return (uint64_t)(usage.ru_minflt + usage.ru_majflt);
}

static void touch(struct vcpu *v, uint64_t gfn)
{
    const struct workload *w = v->workload;
    const volatile uint8_t *page = page_of(w, gfn);
    bool first = !w->touched[gfn] && !atomic_exchange(&w->touched[gfn], 1);
    uint64_t start = now_ns(), took;

    (void)*page;
    took = now_ns() - start;
    v->touches++;
    if (first)
        durations_add(&v->first, took);
    if (took > SHORT_NS) {
        uint64_t faults = faults_taken();

        if (faults != v->faults)
            durations_add(&v->faulted, took);
        v->faults = faults;
    }
    if (first) {
        unsigned int wrong = contents_wrong(gfn, w->zero_percent, page_of(w, gfn));

        if (wrong && v->wrong_bytes == 0)
            v->first_wrong = gfn;
        v->wrong_bytes += wrong;
    }
}

/* What a vcpu was kept from it does not make good in a burst. */
static void think(uint64_t *due, uint64_t pace_ns)
{
    struct timespec at;
    uint64_t now = now_ns();

    *due += pace_ns;
    if (*due < now)
        *due = now;
    at = (struct timespec){(time_t)(*due / 1000000000u), (long)(*due % 1000000000u)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

void *vcpu_main(void *data)
{
    struct vcpu *v = data;
    const struct workload *w = v->workload;
    struct order order = {.kind = w->kind,
                          .pages = w->shared->pages,
                          .vcpus = w->shared->vcpus,
                          .vcpu = v->number,
                          .seed = w->seed};
    uint64_t due, gfn;

    atomic_store(&w->shared->tid[v->number], gettid());
    prctl(PR_SET_TIMERSLACK, 1);
    native_wait(w->shared);
    v->faults = faults_taken();
    due = v->started_ns = now_ns();
    while ((!w->touches || v->touches < w->touches) && (gfn = order_next(&order)) != ORDER_END) {
        native_wait(w->shared);
        touch(v, gfn);
        if (w->pace_ns)
            think(&due, w->pace_ns);
    }
    v->ended_ns = now_ns();
    return NULL;
}
