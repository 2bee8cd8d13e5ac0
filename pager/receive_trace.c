/* --trace: what is asked for and what comes, into memory as it happens, and into the file when there is
 * nothing better to do. */
#include <errno.h>
#include <string.h>

#include "log.h"
#include "receive.h"

#define WRITE_S 0.1

int receive_trace_open(struct receiver *r)
{
    const char *path = r->options->trace;
    int rc;

    if (!path)
        return 0;
    rc = trace_open(&r->trace.file, path, r->run.domain, r->taken_over);
    if (rc == 0)
        return 0;
    log_error("trace %s: %s", path, rc == -ENODATA ? "it is none" : strerror(-rc));
    /* A guest that waits is not to wait for this. */
    return r->taken_over ? 0 : -1;
}

/* The clock is asked once a turn, and where it was asked anyway. */
static void happened(struct receiver *r, enum trace_event event, uint64_t gfn, uint16_t who, uint32_t detail)
{
    if (!r->trace.now_ns)
        r->trace.now_ns = monotonic_ns();
    trace_put(&r->trace.file, r->trace.now_ns, event, gfn, who, detail);
}

void receive_trace_entry(struct receiver *r, const struct ring_entry *entry, uint64_t now_ns)
{
    uint32_t state = pagein_state(&r->pages, entry->gfn);

    if (!r->trace.file.ring || entry->kind & ENTRY_ALIEN)
        return;
    r->trace.now_ns = now_ns;
    if (entry->kind & ENTRY_DROP)
        happened(r, TRACE_DROP, entry->gfn, TRACE_NOBODY, state);
    else if (entry->kind & ENTRY_FOREIGN)
        happened(r, TRACE_MAP, entry->gfn, TRACE_NOBODY, state);
    else if (!(entry->kind & ENTRY_EVICT_FAIL))
        happened(r, TRACE_FAULT, entry->gfn, (uint16_t)entry->vcpu_id, state);
}

void receive_trace_ask(struct receiver *r, uint64_t gfn, uint64_t count, uint32_t urgency)
{
    if (r->trace.file.ring)
        happened(r, TRACE_ASK, gfn, (uint16_t)urgency, (uint32_t)count);
}

void receive_trace_arrival(struct receiver *r, uint64_t gfn)
{
    if (r->trace.file.ring)
        happened(r, TRACE_ARRIVAL, gfn, TRACE_NOBODY, pagein_state(&r->pages, gfn));
}

void receive_trace_answer(struct receiver *r, const struct ring_entry *entry, uint64_t now_ns)
{
    if (!r->trace.file.ring)
        return;
    r->trace.now_ns = now_ns;
    happened(r, TRACE_ANSWER, entry->gfn,
             entry->kind & ENTRY_FOREIGN ? TRACE_NOBODY : (uint16_t)entry->vcpu_id, 0);
}

static void write_some(struct receiver *r)
{
    int before = r->trace.file.error;

    trace_write(&r->trace.file);
    if (r->trace.file.error && !before)
        log_error("trace %s: %s: no more is written", r->options->trace, strerror(r->trace.file.error));
}

/* Something has happened: what o'clock it was before is old. */
static void on_check(struct ev_loop *loop, ev_check *w, int events)
{
    struct receiver *r = w->data;

    (void)events;
    r->trace.now_ns = 0;
    if (trace_waiting(&r->trace.file) > TRACE_RING / 4)
        ev_idle_start(loop, &r->trace.idle);
}

static void on_idle(struct ev_loop *loop, ev_idle *w, int events)
{
    struct receiver *r = w->data;

    (void)events;
    write_some(r);
    if (trace_waiting(&r->trace.file) < TRACE_PIECE)
        ev_idle_stop(loop, w);
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int events)
{
    struct receiver *r = w->data;

    (void)events;
    write_some(r);
    if (trace_waiting(&r->trace.file))
        ev_idle_start(loop, &r->trace.idle);
}

void receive_trace_watch(struct receiver *r)
{
    struct receive_trace *t = &r->trace;

    ev_check_init(&t->check, on_check);
    ev_idle_init(&t->idle, on_idle);
    ev_timer_init(&t->timer, on_timer, WRITE_S, WRITE_S);
    if (!t->file.ring)
        return;
    t->check.data = t->idle.data = t->timer.data = r;
    ev_set_priority(&t->idle, EV_MINPRI);
    ev_set_priority(&t->timer, EV_MINPRI);
    ev_check_start(r->run.loop, &t->check);
    ev_timer_start(r->run.loop, &t->timer);
    happened(r, TRACE_START, 0, TRACE_NOBODY, (uint32_t)r->journal->deaths);
}

void receive_trace_end(struct receiver *r)
{
    struct receive_trace *t = &r->trace;

    if (!t->file.ring)
        return;
    ev_check_stop(r->run.loop, &t->check);
    ev_idle_stop(r->run.loop, &t->idle);
    ev_timer_stop(r->run.loop, &t->timer);
    trace_close(&t->file);
    if (t->file.lost)
        log_warning("trace %s: %llu of %llu events are not in it", r->options->trace,
                    (unsigned long long)t->file.lost, (unsigned long long)t->file.events);
}
