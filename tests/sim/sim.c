#include "sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/push_order.h"
#include "events.h"

#define STAGES 4 /* regions that a receiver gathers at a time (receive_journal.h) */

enum page { PAGE_HERE, PAGE_AWAY, PAGE_ASKED, PAGE_BAD, PAGE_GONE };

struct thread {
    uint64_t waits_for; /* PUSH_NOWHERE: it runs */
    uint64_t since;
};

struct stage {
    uint64_t region, used;
    unsigned int n;
};

struct sim {
    const struct sim_options *o;
    struct sim_result *r;
    struct push_order order;
    struct workload work;
    struct events events;
    struct thread *threads;
    uint8_t *pages; /* enum page, at the destination */
    uint8_t *touched;
    uint8_t *cut; /* by region: a page was asked for, or came, by itself */
    struct stage stages[STAGES];
    uint64_t now, left; /* pages that the destination lacks */
    uint64_t random;
    uint32_t generation;
    bool carrying;           /* the link */
    uint64_t run_at, run_to; /* what the background has taken, and not put on the link yet */
    bool failed;
};

void sim_options_init(struct sim_options *options)
{
    *options = (struct sim_options){.pages = 32768,
                                    .page_ns = 32960,
                                    .rtt_ns = 200000,
                                    .install_ns = 10000,
                                    .threads = 4,
                                    .touch = 50,
                                    .seed = 1};
}

static void at(struct sim *s, uint64_t delay, enum event_kind kind, uint64_t a, uint16_t b)
{
    const struct event e = {s->now + delay, 0, a, s->generation, b, (uint16_t)kind};

    if (!events_put(&s->events, e))
        s->failed = true;
}

/* -- superpages at the destination, as receive_super.c makes them */

static uint64_t region_pages(const struct sim *s, uint64_t region)
{
    uint64_t n = 0;

    for (uint64_t gfn = region * PUSH_REGION; gfn < (region + 1) * PUSH_REGION && gfn < s->o->pages; gfn++)
        n += gfn_bitmap_test(&s->order.set, gfn);
    return n;
}

static void cut_region(struct sim *s, uint64_t gfn)
{
    s->cut[gfn / PUSH_REGION] = 1;
    for (unsigned int i = 0; i < STAGES; i++)
        if (s->stages[i].region == gfn / PUSH_REGION)
            s->stages[i].region = PUSH_NOWHERE;
}

static void gather(struct sim *s, uint64_t gfn)
{
    uint64_t region = gfn / PUSH_REGION;
    struct stage *stage = &s->stages[0];

    if (s->cut[region])
        return;
    for (unsigned int i = 0; i < STAGES; i++) {
        if (s->stages[i].region == region) {
            stage = &s->stages[i];
            break;
        }
        if (s->stages[i].used < stage->used)
            stage = &s->stages[i];
    }
    if (stage->region != region) {
        if (stage->region != PUSH_NOWHERE)
            s->cut[stage->region] = 1;
        *stage = (struct stage){.region = region};
    }
    stage->used = s->now;
    if (++stage->n == PUSH_REGION) {
        s->r->whole++;
        *stage = (struct stage){.region = PUSH_NOWHERE};
    }
}

/* -- the source */

static void send_next(struct sim *s)
{
    uint64_t gfn;
    unsigned int n;

    if (s->carrying)
        return;
    if (push_order_next_urgent(&s->order, &gfn, 1)) {
        s->carrying = true;
        at(s, s->o->page_ns, EVENT_LINK, gfn, 0);
        return;
    }
    if (s->run_at == s->run_to) {
        n = push_order_next_run(&s->order, &s->run_at, push_order_chunk(&s->order, s->now));
        s->run_to = n ? s->run_at + n : s->run_at;
        if (!n)
            return;
    }
    s->carrying = true;
    at(s, s->o->page_ns, EVENT_LINK, s->run_at++, 1);
}

static void request(struct sim *s, uint64_t gfn, unsigned int urgency, bool again)
{
    if (push_order_request(&s->order, gfn, urgency, again, s->now))
        s->failed = true;
    send_next(s);
}

/* The link was cut: what was under way is lost, and the destination says what it has. */
static void restart(struct sim *s)
{
    s->generation++;
    s->carrying = false;
    s->run_at = s->run_to = 0;
    push_order_restart(&s->order);
    for (uint64_t first = 0; first < s->o->pages; first += 64) {
        uint64_t bits = 0;

        for (uint64_t gfn = first; gfn < first + 64 && gfn < s->o->pages; gfn++)
            if (s->pages[gfn] == PAGE_HERE || s->pages[gfn] == PAGE_GONE)
                bits |= UINT64_C(1) << (gfn - first);
        bits &= s->order.set.words[first / 64];
        if (push_order_have(&s->order, first, bits))
            s->failed = true;
    }
    s->failed |= s->order.left != s->left;
    for (uint64_t gfn = 0; gfn < s->o->pages; gfn++)
        if (s->pages[gfn] == PAGE_ASKED || s->pages[gfn] == PAGE_BAD)
            at(s, s->o->rtt_ns, EVENT_REQUEST, gfn, 2);
    send_next(s);
}

/* -- the destination */

static void ask(struct sim *s, uint64_t gfn)
{
    uint64_t end = s->o->widen > 1 ? (gfn / s->o->widen + 1) * s->o->widen : 0;

    s->r->requests++;
    s->pages[gfn] = PAGE_ASKED;
    cut_region(s, gfn);
    at(s, s->o->rtt_ns / 2, EVENT_REQUEST, gfn, 2);
    for (uint64_t other = gfn + 1; other < end && other < s->o->pages; other++)
        if (s->pages[other] == PAGE_AWAY)
            at(s, s->o->rtt_ns / 2, EVENT_REQUEST, other, 0);
}

static uint64_t think_ns(const struct sim *s)
{
    return s->o->page_ns * s->o->threads * 100 / s->o->touch;
}

static void touch(struct sim *s, uint64_t thread)
{
    uint64_t gfn = workload_next(&s->work);

    if (gfn_bitmap_test(&s->order.set, gfn) && !s->touched[gfn]) {
        s->touched[gfn] = 1;
        s->r->touched++;
    }
    if (s->pages[gfn] == PAGE_HERE || s->pages[gfn] == PAGE_GONE) {
        at(s, think_ns(s), EVENT_TOUCH, thread, 0);
        return;
    }
    s->threads[thread] = (struct thread){.waits_for = gfn, .since = s->now};
    if (s->pages[gfn] == PAGE_AWAY)
        ask(s, gfn);
}

static void let_go(struct sim *s, uint64_t gfn)
{
    for (unsigned int i = 0; i < s->o->threads; i++) {
        struct thread *t = &s->threads[i];
        uint64_t stall = s->now + s->o->install_ns - t->since;

        if (t->waits_for != gfn)
            continue;
        t->waits_for = PUSH_NOWHERE;
        s->r->stalls++;
        s->r->stall_ns += stall;
        if (stall > s->r->stall_max_ns)
            s->r->stall_max_ns = stall;
        at(s, s->o->install_ns + think_ns(s), EVENT_TOUCH, i, 0);
    }
}

static void settle(struct sim *s, uint64_t gfn, enum page how)
{
    s->pages[gfn] = (uint8_t)how;
    s->left--;
    let_go(s, gfn);
}

/* A page that the guest does not have yet is released by it. */
static void drop_one(struct sim *s)
{
    uint64_t gfn = sim_random(&s->random, s->o->pages);

    if (s->pages[gfn] == PAGE_HERE || s->pages[gfn] == PAGE_GONE)
        return;
    cut_region(s, gfn);
    settle(s, gfn, PAGE_GONE);
    at(s, s->o->rtt_ns / 2, EVENT_DROP, gfn, 0);
}

static void arrival(struct sim *s, uint64_t gfn, bool background)
{
    if (sim_random(&s->random, 1000) < s->o->drops)
        drop_one(s);
    if (s->pages[gfn] == PAGE_HERE || s->pages[gfn] == PAGE_GONE) {
        s->r->duplicates += s->pages[gfn] == PAGE_HERE;
        return;
    }
    if (s->pages[gfn] != PAGE_BAD && sim_random(&s->random, 1000) < s->o->bad_hashes) {
        s->pages[gfn] = PAGE_BAD;
        cut_region(s, gfn);
        at(s, s->o->rtt_ns / 2, EVENT_AGAIN, gfn, 0);
        return;
    }
    if (background)
        gather(s, gfn);
    settle(s, gfn, PAGE_HERE);
}

/* -- events */

static void source_event(struct sim *s, const struct event *e)
{
    switch (e->kind) {
    case EVENT_LINK:
        s->carrying = false;
        at(s, s->o->rtt_ns / 2, EVENT_ARRIVAL, e->a, e->b);
        send_next(s);
        break;
    case EVENT_REQUEST:
        request(s, e->a, e->b, false);
        break;
    case EVENT_AGAIN:
        request(s, e->a, 2, true);
        break;
    case EVENT_DROP:
        if (push_order_drop(&s->order, e->a))
            s->failed = true;
        break;
    default:
        break;
    }
}

static void happen(struct sim *s, const struct event *e)
{
    s->now = e->time;
    if (e->kind == EVENT_TOUCH)
        touch(s, e->a);
    else if (e->kind == EVENT_CUT)
        restart(s);
    else if (e->generation != s->generation)
        return; /* under way when the link was cut */
    else if (e->kind == EVENT_ARRIVAL)
        arrival(s, e->a, e->b);
    else
        source_event(s, e);
}

static bool allocate(struct sim *s)
{
    const struct sim_options *o = s->o;

    s->threads = calloc(o->threads, sizeof(*s->threads));
    s->pages = calloc(o->pages, 1);
    s->touched = calloc(o->pages, 1);
    s->cut = calloc(o->pages / PUSH_REGION + 1, 1);
    return s->threads && s->pages && s->touched && s->cut && push_order_init(&s->order, o->pages) == 0 &&
           workload_init(&s->work, o->workload, o->pages, o->seed) == 0;
}

static void begin(struct sim *s)
{
    const struct sim_options *o = s->o;

    push_order_policy(&s->order, o->policy);
    for (uint64_t gfn = 0; gfn < o->pages; gfn++) {
        if (o->holes && gfn % o->holes == o->holes / 2)
            continue;
        s->pages[gfn] = PAGE_AWAY;
        s->left++;
        push_order_add(&s->order, gfn, 1);
    }
    for (uint64_t region = 0; region * PUSH_REGION < o->pages; region++) {
        bool full = region_pages(s, region) == PUSH_REGION;

        s->r->regions += full;
        s->cut[region] = !full;
    }
    for (unsigned int i = 0; i < STAGES; i++)
        s->stages[i].region = PUSH_NOWHERE;
    for (unsigned int i = 0; i < o->threads; i++) {
        s->threads[i].waits_for = PUSH_NOWHERE;
        at(s, think_ns(s) * i / o->threads, EVENT_TOUCH, i, 0);
    }
    for (unsigned int i = 1; i <= o->restarts; i++)
        at(s, o->pages * o->page_ns / (o->restarts + 1) * i, EVENT_CUT, 0, 0);
    send_next(s);
}

static void finish(struct sim *s)
{
    const struct push_order *order = &s->order;

    for (unsigned int i = 0; i < s->o->threads; i++)
        s->failed |= s->left == 0 && s->threads[i].waits_for != PUSH_NOWHERE;
    s->r->loss_ns = s->r->stall_ns / s->o->threads;
    s->r->end_ns = s->now;
    s->r->sent = order->sent;
    s->r->lost = s->left;
    s->r->counts_match = !s->failed && order->different_sent <= order->in_set &&
                         order->sent - order->resent <= order->different_sent &&
                         order->different_sent + order->dropped <= order->in_set &&
                         (order->left || order->different_sent + order->dropped == order->in_set) &&
                         order->left >= order->urgent_left + order->hinted_left;
}

int sim_run(const struct sim_options *options, struct sim_result *result)
{
    struct sim s = {.o = options, .r = result, .random = options->seed + 1};
    struct event e;
    bool enough;

    memset(result, 0, sizeof(*result));
    enough = allocate(&s);
    if (enough) {
        begin(&s);
        while (s.left && !s.failed && events_take(&s.events, &e))
            happen(&s, &e);
        finish(&s);
        push_order_free(&s.order);
        workload_free(&s.work);
    }
    free(s.threads);
    free(s.pages);
    free(s.touched);
    free(s.cut);
    free(s.events.heap);
    return enough ? 0 : -ENOMEM;
}
