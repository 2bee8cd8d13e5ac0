/*
 * Which page the source sends next. The 2017 scheme (J. Otto, xen-devel, June 2018): faulted pages first in
 * the next batch, then a background push that goes on behind the last faulted gfn and wraps around.
 */
#ifndef XENPAGING_PC_PUSH_ORDER_H
#define XENPAGING_PC_PUSH_ORDER_H

#include "core/gfn_bitmap.h"

#define PUSH_FIFO   4096u /* asked for, kept in the order they came; more are found by a scan in circles */
#define PUSH_LEVELS 3u    /* of urgency: the highest is served first, and not ended by a lower one */

/* What is asked for with one urgency. A gfn is in the queue of the highest it was asked with. */
struct push_queue {
    struct gfn_bitmap asked; /* of unsent */
    uint64_t left;           /* in it */
    uint64_t cursor;         /* of the scan */
    uint64_t fifo[PUSH_FIFO];
    uint32_t head, tail;
};

struct push_order {
    struct gfn_bitmap set;    /* absent at the destination when the session started */
    struct gfn_bitmap unsent; /* of those, neither sent nor dropped (or to be sent again) */
    struct push_queue queue[PUSH_LEVELS];
    uint64_t in_set;
    uint64_t left;           /* in unsent */
    uint64_t urgent_left;    /* in all queues */
    uint64_t different_sent; /* gfns sent at least once */
    uint64_t sent;           /* pages sent */
    uint64_t resent;
    uint64_t sent_urgent;
    uint64_t dropped; /* never sent because the guest released them */
    uint64_t cursor;
    struct gfn_bitmap once; /* sent at least once */
};

/* 0 or -ENOMEM. */
int push_order_init(struct push_order *order, uint64_t nr_gfns);
void push_order_free(struct push_order *order);

/* Put a run of gfns into the set. The caller has checked that they are below nr_gfns and none is in it yet.
 */
void push_order_add(struct push_order *order, uint64_t first, uint64_t count);

/* The destination asks for gfn. 0, or -EINVAL if it is not in the set. Without resend a page already sent or
 * dropped is ignored. Asked for again it keeps its place, or moves to the end of the queue of a higher
 * urgency (below PUSH_LEVELS): it was asked for with its neighbours, and now a vcpu waits for it. */
int push_order_request(struct push_order *order, uint64_t gfn, unsigned int urgency, bool resend);

/* The guest released gfn. 0, or -EINVAL if it is not in the set. */
int push_order_drop(struct push_order *order, uint64_t gfn);

/*
 * Take the next pages, at most max, faulted ones first; they count as sent. Returns their number, 0 when
 * nothing is left.
 */
unsigned int push_order_next(struct push_order *order, uint64_t *gfns, unsigned int max);

#endif
