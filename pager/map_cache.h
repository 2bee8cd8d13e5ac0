/* Pages of the domain that are mapped, many at a time and kept: the same hypercall for one is half as
 * expensive as for a window of them. For one thread. */
#ifndef XENPAGING_PC_MAP_CACHE_H
#define XENPAGING_PC_MAP_CACHE_H

#include "backend.h"

struct map_window {
    uint64_t first; /* gfn; UINT64_MAX: none is mapped */
    void *map;
    uint64_t round; /* in which it was last used */
};

struct map_cache {
    struct backend *be;
    uint64_t nr;       /* gfns below that may be mapped */
    unsigned int size; /* gfns of a window, which begins at a multiple of it */
    unsigned int n;    /* windows; a gfn's is always the same */
    struct map_window *windows;
    int *err; /* of each page of each */
    uint64_t round;
    uint64_t calls;
};

#define MAP_CACHE_MOST BACKEND_SUPER /* gfns of a window */

/* 0 or -ENOMEM. */
int map_cache_init(struct map_cache *cache, struct backend *be, uint64_t nr, unsigned int size,
                   unsigned int n);
void map_cache_free(struct map_cache *cache);

/* Pages that were given out may go away from now on. */
void map_cache_next_round(struct map_cache *cache);

/*
 * The page, which stays until the next round. NULL with *rc: -EAGAIN its window is in use in this round;
 * another -errno: it cannot be mapped.
 */
const uint8_t *map_cache_page(struct map_cache *cache, uint64_t gfn, int *rc);

#endif
