/*
 * The adaptive order: what is near a fault comes next, and more of it where that proves right.
 *
 *                       the last fault
 *       down.at              │              up.at
 *     ─────┤◀── bubble ──────●───── bubble ───▶├─────
 *          └── window.down ──┴──── window.up ──┘
 *
 * Each fault belongs to a stream: the one whose bubble it is in or near, or a new one. Round it, its pivot,
 * a bubble of pages is pushed before everything else, as large as the stream's windows (after Hines and
 * Gopalan, VEE 2009). The window on the side on which the fault was doubles, the other one is halved, and
 * both are for faults that go elsewhere meanwhile: so a sequential stream ends up with one large window, and
 * a single fault leaves little behind. Faults a constant distance apart make a stride: then only its pages
 * are pushed.
 *
 * When no bubble is left to be filled, streams that have been hit more than once go on, the one that has got
 * least since its last fault first: a guest that overtakes its push is seen by its faults, one that does not
 * is silent, and so is one that has gone away. Of the others the newest goes on, for a region's worth. Both
 * kinds get the same.
 */
#ifndef XENPAGING_PC_PUSH_STREAMS_H
#define XENPAGING_PC_PUSH_STREAMS_H

#include "core/push_pages.h"

#define PUSH_STREAMS 32u

enum { PUSH_DOWN, PUSH_UP, PUSH_SIDES };

struct push_side {
    uint64_t at;     /* the next gfn to be looked at; PUSH_NOWHERE: there is nothing more this way */
    uint32_t window; /* pages that a fault brings */
    uint32_t left;   /* of those of the last one */
};

struct push_stream {
    uint64_t used;  /* when it was hit last, counted in faults; 0: not in use */
    uint64_t pivot; /* the last fault */
    uint64_t lead;  /* pages that it has got since */
    uint64_t step;  /* divides the distance of all of the last faults; 0: not known */
    uint32_t steps; /* faults that have shown it */
    uint32_t hits;
    struct push_side side[PUSH_SIDES];
};

struct push_streams {
    struct push_stream table[PUSH_STREAMS];
    uint64_t faults;
    uint64_t last[2];   /* faults that were near no stream */
    uint32_t owed;      /* pages to those that were hit more than once, by those that were not */
    unsigned int turn;  /* which stream goes on when there is no bubble, */
    unsigned int way;   /* on which side, */
    uint32_t turn_left; /* for so many pages yet */
};

/* All zero is the beginning. */
void push_streams_fault(struct push_streams *streams, uint64_t gfn);

/* Pages that were pushed are free again, nobody knows which: begin again at each pivot. */
void push_streams_restart(struct push_streams *streams);

/* As push_policy_next(); 0: no stream has anything to push. */
unsigned int push_streams_next(struct push_streams *streams, const struct push_pages *pages, uint64_t *first,
                               unsigned int most);

#endif
