/* The pager's orders, turned into frames. Orders of one kind that come together share a frame. */
#include "feeder_state.h"

#include <string.h>
#include <unistd.h>

#include "wire/bytes.h"

/* A frame under construction at the end of the output. */
struct gather {
    uint32_t order; /* 0: none */
    uint32_t n;
};

static bool resumes(const struct feeder *f)
{
    return f->control.state == WIRE_IN_RESUME;
}

static void finish(struct feeder *f, struct gather *g)
{
    switch (g->order) {
    case ORDER_RUN:
        f->out_end += wire_finish_list(feeder_out(f), resumes(f) ? WIRE_RECEIVED : WIRE_SET, g->n, 0);
        break;
    case ORDER_ASK:
        f->out_end += wire_finish_list(feeder_out(f), WIRE_REQUEST, g->n, 0);
        break;
    case ORDER_ASK_AGAIN:
        f->out_end += wire_finish_list(feeder_out(f), WIRE_REQUEST, g->n, WIRE_REQUEST_RESEND);
        break;
    case ORDER_DROP:
        f->out_end += wire_finish_list(feeder_out(f), WIRE_DROP, g->n, 0);
        break;
    }
    g->order = 0;
    g->n = 0;
}

static void room_for(struct feeder *f, struct gather *g, uint32_t order)
{
    if (g->order != order || g->n == (order == ORDER_RUN ? WIRE_RUNS_MAX : WIRE_ASK_MAX))
        finish(f, g);
    g->order = order;
}

static void add(struct feeder *f, struct gather *g, const struct pool_descriptor *order)
{
    uint32_t count = order->type == ORDER_ASK ? (uint32_t)order->value[1] : 1;

    room_for(f, g, order->type);
    if (order->type == ORDER_RUN) {
        wire_add_pair(feeder_out(f), g->n++, order->value[0], order->value[1]);
        return;
    }
    wire_add_run(feeder_out(f), g->n++, order->value[0], count,
                 order->type == ORDER_ASK         ? (uint32_t)order->value[2]
                 : order->type == ORDER_ASK_AGAIN ? WIRE_VCPU_WAITS
                                                  : 0);
    /* What nobody waits for comes within credit. Without bulk channels too. */
    if (order->type == ORDER_ASK && order->value[2] == WIRE_NOBODY_WAITS && f->credit_wanted != UINT64_MAX)
        f->credit_wanted += count;
}

/*
 * In quanta, unless less is all that is wanted: a few slots each time would have both hosts wake up three
 * processes for every few pages. Nothing waits for ever: what is kept back here and at the pager is less than
 * two quanta, so credit is open, or nearly every slot is with the pager, and comes back when its page can be
 * installed.
 */
static void announce_credit(struct feeder *f)
{
    bool useful = f->control.state == WIRE_IN_ACTIVE || f->control.state == WIRE_IN_VERIFY;
    uint32_t n;

    if (!useful)
        return;
    pthread_mutex_lock(&f->lock);
    n = f->untold < f->credit_wanted ? f->untold : (uint32_t)f->credit_wanted;
    if (n < pool_quantum(f->pool) && n < f->credit_wanted)
        n = 0;
    f->untold -= n;
    pthread_mutex_unlock(&f->lock);
    if (!n)
        return;
    f->credit += n;
    f->out_end += wire_put_count(feeder_out(f), WIRE_CREDIT, f->credit);
    if (f->credit_wanted != UINT64_MAX)
        f->credit_wanted -= n;
}

static void slot_back(struct feeder *f, uint32_t slot)
{
    if (pool_slot_asked(f->pool, slot)) {
        f->free_asked[f->n_free_asked++] = slot;
        return;
    }
    /* Credit goes out at the end. */
    pthread_mutex_lock(&f->lock);
    f->free_slots[f->n_free++] = slot;
    f->untold++;
    pthread_mutex_unlock(&f->lock);
}

static void start(struct feeder *f, const struct pool_descriptor *order)
{
    put_u64(f->hello.uuid, order->value[0]);
    put_u64(f->hello.uuid + 8, order->value[1]);
    f->hello.offered = order->value[2];
    f->hello.required = order->value[3];
    f->out_end += wire_put_hello(feeder_out(f), &f->hello);
}

static void complete(struct feeder *f, const struct pool_descriptor *order)
{
    const struct wire_complete counts = {
        .set = order->value[0],
        .installed = order->value[1],
        .dropped = order->value[2],
        .replaced = order->value[3],
        .guest_faults = order->value[4],
        .foreign_requests = order->value[5],
    };

    f->out_end += wire_put_complete(feeder_out(f), &counts);
    f->control.state = WIRE_IN_COMPLETE;
}

static void execute(struct feeder *f, struct gather *g, const struct pool_descriptor *order)
{
    struct wire_fault fault;

    switch (order->type) {
    case ORDER_RUN:
    case ORDER_ASK:
    case ORDER_ASK_AGAIN:
    case ORDER_DROP:
        add(f, g, order);
        return;
    case ORDER_SLOT:
        /* Does not end a frame under construction. */
        slot_back(f, order->slot);
        return;
    }
    finish(f, g);
    switch (order->type) {
    case ORDER_START:
        start(f, order);
        break;
    case ORDER_SET_END:
        f->out_end += wire_put_pair(feeder_out(f), resumes(f) ? WIRE_RECEIVED_END : WIRE_SET_END,
                                    order->value[0], order->value[1]);
        break;
    case ORDER_GO:
        f->credit_wanted = UINT64_MAX;
        break;
    case ORDER_VERIFY:
        f->out_end += wire_put_words(feeder_out(f), WIRE_VERIFY, 0, 0);
        f->control.state = WIRE_IN_VERIFY;
        break;
    case ORDER_COMPLETE:
        complete(f, order);
        break;
    case ORDER_GONE:
        f->out_end += wire_put_words(feeder_out(f), WIRE_GONE, (uint32_t)order->value[0], 0);
        f->closing = !order->value[1];
        break;
    case ORDER_LEAVE:
        f->closing = true;
        break;
    case ORDER_ERROR:
        wire_fault_set(&fault, (uint32_t)order->value[0], "the receiver gave up: %s",
                       wire_code_name((unsigned)order->value[0]));
        f->out_end += wire_put_fault(feeder_out(f), WIRE_ERROR, &fault);
        f->closing = true;
        break;
    }
}

void feeder_orders(struct feeder *f)
{
    struct pool_descriptor order;
    struct gather g = {0};

    while (!f->closing && feeder_out_room(f)) {
        int rc = pool_ring_take(&f->pool->orders, &order);

        if (rc <= 0)
            break;
        execute(f, &g, &order);
    }
    finish(f, &g);
    announce_credit(f);
}
