/* The pages that may go in the background: neither sent nor waited for. What a policy chooses from. Finding
 * one looks at the words of one region, and at a bit for each region; counting a run, at one region. */
#ifndef XENPAGING_PC_PUSH_PAGES_H
#define XENPAGING_PC_PUSH_PAGES_H

#include "core/gfn_bitmap.h"

#define PUSH_REGION  512u       /* gfns of a superpage: no run crosses the boundary of one */
#define PUSH_NOWHERE UINT64_MAX /* no gfn */

struct push_pages {
    struct gfn_bitmap free;
    struct gfn_bitmap regions; /* by region: it has one of free */
};

/* None is free. 0 or -ENOMEM. */
int push_pages_init(struct push_pages *pages, uint64_t nr_gfns);
void push_pages_free(struct push_pages *pages);

/* Make a run free, wherever it ends; it may have been before. */
void push_pages_put(struct push_pages *pages, uint64_t first, uint64_t count);
/* Of 64 gfns from first (a multiple of 64) on, those of the bits, at least one. */
void push_pages_put_bits(struct push_pages *pages, uint64_t first, uint64_t bits);
/* Make a run not free; all of it in one region. */
void push_pages_take(struct push_pages *pages, uint64_t first, uint64_t count);

static inline bool push_pages_has(const struct push_pages *pages, uint64_t gfn)
{
    return gfn < pages->free.nr && gfn_bitmap_test(&pages->free, gfn);
}

/* The first free gfn at or above gfn, the last at or below it; PUSH_NOWHERE if there is none. */
uint64_t push_pages_above(const struct push_pages *pages, uint64_t gfn);
uint64_t push_pages_below(const struct push_pages *pages, uint64_t gfn);

/* How many are free from gfn on, upwards or downwards, without a gap: at most `most`, in gfn's region. */
unsigned int push_pages_up(const struct push_pages *pages, uint64_t gfn, unsigned int most);
unsigned int push_pages_down(const struct push_pages *pages, uint64_t gfn, unsigned int most);

#endif
