#include "map_cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "wire/wire.h"

#define NONE UINT64_MAX

int map_cache_init(struct map_cache *cache, struct backend *be, uint64_t nr, unsigned int size,
                   unsigned int n)
{
    *cache = (struct map_cache){.be = be, .nr = nr, .size = size, .n = n, .round = 1};
    cache->windows = calloc(n, sizeof(*cache->windows));
    cache->err = calloc((size_t)n * size, sizeof(*cache->err));
    if (!cache->windows || !cache->err) {
        map_cache_free(cache);
        return -ENOMEM;
    }
    for (unsigned int i = 0; i < n; i++)
        cache->windows[i].first = NONE;
    return 0;
}

static unsigned int pages_of(const struct map_cache *cache, const struct map_window *window)
{
    uint64_t left = cache->nr - window->first;

    return left < cache->size ? (unsigned int)left : cache->size;
}

static void unmap(struct map_cache *cache, struct map_window *window)
{
    if (window->first != NONE)
        cache->be->ops->unmap(cache->be, window->map, pages_of(cache, window));
    window->first = NONE;
}

void map_cache_free(struct map_cache *cache)
{
    for (unsigned int i = 0; cache->windows && i < cache->n; i++)
        unmap(cache, &cache->windows[i]);
    free(cache->windows);
    free(cache->err);
    cache->windows = NULL;
    cache->err = NULL;
}

void map_cache_next_round(struct map_cache *cache)
{
    cache->round++;
}

static int map(struct map_cache *cache, struct map_window *window, uint64_t first, int *err)
{
    uint64_t gfns[MAP_CACHE_MOST];
    unsigned int n;

    unmap(cache, window);
    window->first = first;
    n = pages_of(cache, window);
    for (unsigned int i = 0; i < n; i++)
        gfns[i] = first + i;
    memset(err, 0, n * sizeof(*err));
    cache->calls++;
    window->map = cache->be->ops->map(cache->be, gfns, n, err);
    if (window->map)
        return 0;
    window->first = NONE;
    return errno ? -errno : -EIO;
}

const uint8_t *map_cache_page(struct map_cache *cache, uint64_t gfn, int *rc)
{
    uint64_t first = gfn - gfn % cache->size;
    unsigned int at = (unsigned int)(first / cache->size % cache->n);
    struct map_window *window = &cache->windows[at];
    int *err = cache->err + (size_t)at * cache->size;

    *rc = -ERANGE;
    if (gfn >= cache->nr)
        return NULL;
    *rc = 0;
    if (window->first != first) {
        *rc =
            window->first != NONE && window->round == cache->round ? -EAGAIN : map(cache, window, first, err);
        if (*rc)
            return NULL;
    }
    window->round = cache->round;
    *rc = err[gfn - first];
    return *rc ? NULL : (const uint8_t *)window->map + (size_t)(gfn - first) * WIRE_PAGE_SIZE;
}
