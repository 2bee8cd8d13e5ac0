/* A bitmap over guest frame numbers 0 .. nr-1. */
#ifndef XENPAGING_PC_GFN_BITMAP_H
#define XENPAGING_PC_GFN_BITMAP_H

#include <stdbool.h>
#include <stdint.h>

struct gfn_bitmap {
    uint64_t *words;
    uint64_t nr; /* gfns covered */
};

/* All clear. 0 or -ENOMEM. */
int gfn_bitmap_init(struct gfn_bitmap *map, uint64_t nr);
void gfn_bitmap_free(struct gfn_bitmap *map);

/* gfn has to be below nr. */
static inline bool gfn_bitmap_test(const struct gfn_bitmap *map, uint64_t gfn)
{
    return map->words[gfn / 64] >> (gfn % 64) & 1;
}

static inline void gfn_bitmap_set(struct gfn_bitmap *map, uint64_t gfn)
{
    map->words[gfn / 64] |= UINT64_C(1) << (gfn % 64);
}

static inline void gfn_bitmap_clear(struct gfn_bitmap *map, uint64_t gfn)
{
    map->words[gfn / 64] &= ~(UINT64_C(1) << (gfn % 64));
}

/* All of first .. first+count-1, which have to be below nr. */
void gfn_bitmap_set_run(struct gfn_bitmap *map, uint64_t first, uint64_t count);

/* None of them. How many there were. */
uint64_t gfn_bitmap_clear_run(struct gfn_bitmap *map, uint64_t first, uint64_t count);

/* First set gfn at or above from, or nr if there is none. */
uint64_t gfn_bitmap_next(const struct gfn_bitmap *map, uint64_t from);

/* Last set gfn at or below from, or nr if there is none. */
uint64_t gfn_bitmap_prev(const struct gfn_bitmap *map, uint64_t from);

/* First clear gfn at or above from, or nr. */
uint64_t gfn_bitmap_next_clear(const struct gfn_bitmap *map, uint64_t from);

/* First gfn that is set in map and not in other, which may cover fewer; map->nr if there is none. */
uint64_t gfn_bitmap_next_not_in(const struct gfn_bitmap *map, const struct gfn_bitmap *other);

#endif
