#include "core/gfn_bitmap.h"

#include <errno.h>
#include <stdlib.h>

int gfn_bitmap_init(struct gfn_bitmap *map, uint64_t nr)
{
    map->nr = nr;
    map->words = calloc(nr / 64 + 1, sizeof(*map->words));
    return map->words ? 0 : -ENOMEM;
}

void gfn_bitmap_free(struct gfn_bitmap *map)
{
    free(map->words);
    map->words = NULL;
    map->nr = 0;
}

/* Of the word of first, the bits of first and up to count gfns; *n says of how many. */
static uint64_t run_bits(uint64_t first, uint64_t count, uint64_t *n)
{
    *n = 64 - first % 64;
    if (*n > count)
        *n = count;
    return *n == 64 ? ~UINT64_C(0) : ((UINT64_C(1) << *n) - 1) << first % 64;
}

void gfn_bitmap_set_run(struct gfn_bitmap *map, uint64_t first, uint64_t count)
{
    for (uint64_t n; count; first += n, count -= n)
        map->words[first / 64] |= run_bits(first, count, &n);
}

uint64_t gfn_bitmap_clear_run(struct gfn_bitmap *map, uint64_t first, uint64_t count)
{
    uint64_t cleared = 0;

    for (uint64_t n; count; first += n, count -= n) {
        uint64_t *word = &map->words[first / 64], bits = *word & run_bits(first, count, &n);

        cleared += (uint64_t)__builtin_popcountll(bits);
        *word &= ~bits;
    }
    return cleared;
}

static uint64_t scan(const struct gfn_bitmap *map, uint64_t from, uint64_t flip)
{
    uint64_t word;

    if (from >= map->nr)
        return map->nr;
    word = (map->words[from / 64] ^ flip) & (~UINT64_C(0) << (from % 64));
    for (uint64_t i = from / 64;;) {
        if (word) {
            uint64_t gfn = i * 64 + (uint64_t)__builtin_ctzll(word);

            return gfn < map->nr ? gfn : map->nr;
        }
        if (++i > (map->nr - 1) / 64)
            return map->nr;
        word = map->words[i] ^ flip;
    }
}

uint64_t gfn_bitmap_next(const struct gfn_bitmap *map, uint64_t from)
{
    return scan(map, from, 0);
}

uint64_t gfn_bitmap_next_clear(const struct gfn_bitmap *map, uint64_t from)
{
    return scan(map, from, ~UINT64_C(0));
}

uint64_t gfn_bitmap_prev(const struct gfn_bitmap *map, uint64_t from)
{
    uint64_t word;

    if (!map->nr)
        return 0;
    if (from >= map->nr)
        from = map->nr - 1;
    word = map->words[from / 64] & ~UINT64_C(0) >> (63 - from % 64);
    for (uint64_t i = from / 64;;) {
        if (word)
            return i * 64 + 63 - (uint64_t)__builtin_clzll(word);
        if (i-- == 0)
            return map->nr;
        word = map->words[i];
    }
}

uint64_t gfn_bitmap_next_not_in(const struct gfn_bitmap *map, const struct gfn_bitmap *other)
{
    for (uint64_t first = 0; first < map->nr; first += 64) {
        uint64_t word = map->words[first / 64];

        if (first < other->nr)
            word &= ~other->words[first / 64];
        if (word)
            return first + (uint64_t)__builtin_ctzll(word);
    }
    return map->nr;
}
