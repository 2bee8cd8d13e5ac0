/*
 * How many pages may be under way on a bulk channel: enough to fill the link, and no more than a set time's
 * worth beyond that, because an urgent page that shares the link stands behind them. Nothing is asked of the
 * channel, which may be a pipe through ssh: what is known comes from the other end's acknowledgements.
 *
 * From sending to acknowledgement it takes a least time, which is the link's, and whatever is on top is what
 * stands in a queue. Of each epoch (what was under way when it began is acknowledged, and a few frames more)
 * the least counts: that an end was busy with something else delays some acknowledgements, a queue all of
 * them. Less than half of the budget on top: there may be more under way; more than the budget: less. As the
 * link's own time cannot be seen while its queue is never empty, it is let run dry for an epoch when what is
 * known has become old; and what it takes with next to nothing under way is its own time, whatever it was
 * before.
 *
 * Pure: the clock is an argument, in ns. One caller at a time.
 */
#ifndef XENPAGING_PC_PACE_H
#define XENPAGING_PC_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define PACE_SENDS  1024u /* frames under way */
#define PACE_FIRST  8u    /* pages, before anything is known */
#define PACE_LEAST  2u    /* one is sent while the other is acknowledged */
#define PACE_MOST   65536u
#define PACE_FRAMES 8u /* of an epoch, at least */
#define PACE_OLD_NS UINT64_C(10000000000)

struct pace_send {
    uint64_t at;    /* when */
    uint64_t total; /* pages sent in all with this frame */
    uint32_t pages; /* of it */
};

struct pace {
    uint64_t budget_ns;
    uint64_t sent, acked; /* pages */
    uint64_t acked_at;
    struct pace_send sends[PACE_SENDS];
    uint32_t head, tail;
    double window;             /* pages */
    bool starting;             /* it doubles until there is a queue */
    bool filled;               /* in this epoch: more could have been sent */
    bool drying;               /* in this epoch half of it counts */
    uint64_t base_ns, base_at; /* the link's time (UINT64_MAX: not known), and when it was seen */
    uint64_t epoch_at, epoch_acked, epoch_end;
    uint64_t epoch_least, epoch_queued; /* of what a frame took, and without what its own pages did */
    uint64_t epoch_sum;                 /* of the second, over its frames */
    uint32_t epoch_frames;
    double page_ns; /* that a page takes: the least of an epoch since the link was last let run dry */
};

void pace_init(struct pace *pace, uint64_t budget_ns);

/* The least window there is on such a link; nor is a smaller frame worth its while. */
uint64_t pace_least(const struct pace *pace);

/* Pages that may be under way. */
uint64_t pace_window(const struct pace *pace);

/* Pages that a frame may have now: a part of the window, or 0 as long as there is no room for that. */
uint64_t pace_room(const struct pace *pace);

/* More would be sent if there were room. */
void pace_full(struct pace *pace);

/* A frame of so many pages has gone. */
void pace_sent(struct pace *pace, uint32_t pages, uint64_t now);

/* The other end has taken so many pages in all. 0, or -1 if that cannot be. */
int pace_acked(struct pace *pace, uint64_t total, uint64_t now);

#endif
