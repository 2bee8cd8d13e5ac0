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

void gfn_bitmap_set_run(struct gfn_bitmap *map, uint64_t first, uint64_t count)
{
    while (count) {
        uint64_t n = 64 - first % 64, bits;

        if (n > count)
            n = count;
        bits = n == 64 ? ~UINT64_C(0) : ((UINT64_C(1) << n) - 1) << first % 64;
        map->words[first / 64] |= bits;
        first += n;
        count -= n;
    }
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
