#include "core/push_pages.h"

#include <errno.h>

int push_pages_init(struct push_pages *pages, uint64_t nr_gfns)
{
    *pages = (struct push_pages){{0}, {0}};
    if (gfn_bitmap_init(&pages->free, nr_gfns) == 0 &&
        gfn_bitmap_init(&pages->regions, (nr_gfns + PUSH_REGION - 1) / PUSH_REGION) == 0)
        return 0;
    push_pages_free(pages);
    return -ENOMEM;
}

void push_pages_free(struct push_pages *pages)
{
    gfn_bitmap_free(&pages->free);
    gfn_bitmap_free(&pages->regions);
}

void push_pages_put(struct push_pages *pages, uint64_t first, uint64_t count)
{
    uint64_t region = first / PUSH_REGION;

    if (!count)
        return;
    gfn_bitmap_set_run(&pages->free, first, count);
    gfn_bitmap_set_run(&pages->regions, region, (first + count - 1) / PUSH_REGION - region + 1);
}

void push_pages_put_bits(struct push_pages *pages, uint64_t first, uint64_t bits)
{
    pages->free.words[first / 64] |= bits;
    gfn_bitmap_set(&pages->regions, first / PUSH_REGION);
}

void push_pages_take(struct push_pages *pages, uint64_t first, uint64_t count)
{
    uint64_t region = first / PUSH_REGION;

    gfn_bitmap_clear_run(&pages->free, first, count);
    if (push_pages_above(pages, region * PUSH_REGION) / PUSH_REGION != region)
        gfn_bitmap_clear(&pages->regions, region);
}

/* The first free gfn from gfn to the end of its region. */
static uint64_t above_here(const struct push_pages *pages, uint64_t gfn)
{
    uint64_t end = (gfn / PUSH_REGION + 1) * PUSH_REGION;
    uint64_t word = pages->free.words[gfn / 64] >> gfn % 64 << gfn % 64;

    if (end > pages->free.nr)
        end = pages->free.nr;
    for (uint64_t at = gfn - gfn % 64;;) {
        if (word)
            return at + (uint64_t)__builtin_ctzll(word);
        at += 64;
        if (at >= end)
            return PUSH_NOWHERE;
        word = pages->free.words[at / 64];
    }
}

uint64_t push_pages_above(const struct push_pages *pages, uint64_t gfn)
{
    uint64_t found, region;

    if (gfn >= pages->free.nr)
        return PUSH_NOWHERE;
    found = above_here(pages, gfn);
    if (found != PUSH_NOWHERE)
        return found;
    region = gfn_bitmap_next(&pages->regions, gfn / PUSH_REGION + 1);
    return region < pages->regions.nr ? above_here(pages, region * PUSH_REGION) : PUSH_NOWHERE;
}

/* The last free gfn from the start of gfn's region to gfn. */
static uint64_t below_here(const struct push_pages *pages, uint64_t gfn)
{
    uint64_t start = gfn - gfn % PUSH_REGION;
    uint64_t word = pages->free.words[gfn / 64] << (63 - gfn % 64) >> (63 - gfn % 64);

    for (uint64_t at = gfn - gfn % 64;; at -= 64) {
        if (word)
            return at + 63 - (uint64_t)__builtin_clzll(word);
        if (at == start)
            return PUSH_NOWHERE;
        word = pages->free.words[at / 64 - 1];
    }
}

uint64_t push_pages_below(const struct push_pages *pages, uint64_t gfn)
{
    uint64_t found, region;

    if (!pages->free.nr)
        return PUSH_NOWHERE;
    if (gfn >= pages->free.nr)
        gfn = pages->free.nr - 1;
    found = below_here(pages, gfn);
    if (found != PUSH_NOWHERE || gfn < PUSH_REGION)
        return found;
    region = gfn_bitmap_prev(&pages->regions, gfn / PUSH_REGION - 1);
    if (region >= pages->regions.nr)
        return PUSH_NOWHERE;
    gfn = region * PUSH_REGION + PUSH_REGION - 1;
    return below_here(pages, gfn < pages->free.nr ? gfn : pages->free.nr - 1);
}

unsigned int push_pages_up(const struct push_pages *pages, uint64_t gfn, unsigned int most)
{
    unsigned int n = 0, room = PUSH_REGION - (unsigned int)(gfn % PUSH_REGION);

    if (most > room)
        most = room;
    while (n < most && gfn + n < pages->free.nr) {
        unsigned int from = (unsigned int)((gfn + n) % 64);
        uint64_t taken = ~(pages->free.words[(gfn + n) / 64] >> from);
        unsigned int here = taken ? (unsigned int)__builtin_ctzll(taken) : 64;

        n += here;
        if (here < 64 - from)
            break;
    }
    return n < most ? n : most;
}

unsigned int push_pages_down(const struct push_pages *pages, uint64_t gfn, unsigned int most)
{
    unsigned int n = 0, room = (unsigned int)(gfn % PUSH_REGION) + 1;

    if (gfn >= pages->free.nr)
        return 0;
    if (most > room)
        most = room;
    while (n < most) {
        unsigned int from = (unsigned int)((gfn - n) % 64);
        uint64_t taken = ~(pages->free.words[(gfn - n) / 64] << (63 - from));
        unsigned int here = taken ? (unsigned int)__builtin_clzll(taken) : 64;

        n += here;
        if (here < from + 1)
            break;
    }
    return n < most ? n : most;
}
