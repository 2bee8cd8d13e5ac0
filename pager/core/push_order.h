/*
 * Which page the source sends next: those that somebody waits for at once, on their own channel; the others
 * by runs, in the background: hints, hot pages, and then what the policy chooses.
 *
 * Pure: no I/O, the clock is an argument, nothing is allocated after push_order_init(). The caller sees to it
 * that one thread is in here at a time. No call takes longer than a run of pages, or a look at a bit for each
 * region, does; but add, restart and, if there are more than PUSH_FIFO at once, what is asked for, which
 * look at a bitmap.
 */
#ifndef XENPAGING_PC_PUSH_ORDER_H
#define XENPAGING_PC_PUSH_ORDER_H

#include "core/gfn_bitmap.h"
#include "core/push_policy.h"

#define PUSH_FIFO   4096u /* asked for, kept in the order they came; more are found by a scan in circles */
#define PUSH_LEVELS 3u    /* of urgency: nobody is known to wait (a hint), dom0 waits, a vcpu waits */

/* Pages that a frame of the background should have: see push_order_chunk(). */
#define PUSH_CHUNK_LEAST 4u
#define PUSH_CHUNK_MOST  512u
#define PUSH_CALM_NS     UINT64_C(100000000)

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
    uint64_t urgent_left;    /* of those, somebody waits for them */
    uint64_t hinted_left;    /* of those, asked for although nobody is known to wait */
    uint64_t different_sent; /* gfns sent at least once */
    uint64_t sent;           /* pages sent */
    uint64_t resent;
    uint64_t sent_urgent;   /* of sent: somebody waited */
    uint64_t sent_hinted;   /* of sent: asked for, and nobody was known to wait */
    uint64_t dropped;       /* never sent because the guest released them */
    uint64_t since_fault;   /* pages sent in the background since somebody had to ask for one */
    uint64_t fault_ns;      /* when that was */
    uint64_t fault_gfn;     /* for which */
    struct gfn_bitmap once; /* sent at least once */
    struct gfn_bitmap hot;  /* of pages.free, those that go first */
    uint64_t hot_left, hot_cursor;
    struct push_pages pages; /* of unsent, those that nobody waits for */
    struct push_policy policy;
};

/* 0 or -ENOMEM. The policy is PUSH_ADAPTIVE. */
int push_order_init(struct push_order *order, uint64_t nr_gfns);
void push_order_free(struct push_order *order);

/* Before anything is asked for. */
void push_order_policy(struct push_order *order, enum push_policy_kind kind);

/* Put a run of gfns into the set. The caller has checked that they are below nr_gfns and none is in it yet.
 */
void push_order_add(struct push_order *order, uint64_t first, uint64_t count);

/* The guest is likely to need these first: those of the run that are unsent go before what the policy
 * chooses, upwards, if that is PUSH_ADAPTIVE. first + count may pass the end. */
void push_order_hot(struct push_order *order, uint64_t first, uint64_t count);

/*
 * The destination asks for gfn. 0, or -EINVAL if it is not in the set. Without resend a page already sent or
 * dropped is ignored. Asked for again it keeps its place, or moves to the end of the queue of a higher
 * urgency (below PUSH_LEVELS): it was asked for with its neighbours, and now a vcpu waits for it. With
 * urgency 0 it is what push_order_next_run() takes first. A higher one tells the policy of a fault, also if
 * the page is under way: the guest has caught up with the push. The pages of a run, asked for one after the
 * other at the same time, are one fault.
 */
int push_order_request(struct push_order *order, uint64_t gfn, unsigned int urgency, bool resend,
                       uint64_t now_ns);

/* The guest released gfn. 0, or -EINVAL if it is not in the set. */
int push_order_drop(struct push_order *order, uint64_t gfn);

/* Take the next pages that somebody waits for, at most max, the most urgent first; they count as sent.
 * Returns their number. */
unsigned int push_order_next_urgent(struct push_order *order, uint64_t *gfns, unsigned int max);

/*
 * Take the next run for the background, at most `most` gfns, from *first on; they count as sent. It does not
 * cross a region's boundary, and has no page that somebody waits for. Returns how many, 0 when nothing else
 * is left. As long as hinted_left is not 0, a run is of hinted pages only.
 */
unsigned int push_order_next_run(struct push_order *order, uint64_t *first, unsigned int most);

/*
 * How many pages a frame of the background should have now: what is in front of a page that somebody will
 * ask for. An eighth of what went since the last fault, from PUSH_CHUNK_LEAST to PUSH_CHUNK_MOST: the longer
 * there was none, the later the next one is to be expected. PUSH_CHUNK_MOST when PUSH_CALM_NS have gone by.
 */
unsigned int push_order_chunk(const struct push_order *order, uint64_t now_ns);

/*
 * The session is resumed: what was under way is lost. The whole set is unsent again, but what the guest had
 * released before it was ever sent, and nothing is asked for; counters of what was done stay.
 */
void push_order_restart(struct push_order *order);

/* Then, of 64 gfns from first (a multiple of 64) on, those of the bits are at the destination: not unsent.
 * They count as sent once. 0, or -EINVAL if one is not in the set. */
int push_order_have(struct push_order *order, uint64_t first, uint64_t bits);

#endif
