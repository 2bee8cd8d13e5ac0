/*
 * Contents of the gfns that pagectl has evicted, and what has become of them. Plain memory, no Xen.
 */
#ifndef ABSENT_PAGES_H
#define ABSENT_PAGES_H

#include <stddef.h>
#include <stdint.h>

#define GUEST_PAGE_SIZE 4096u

enum gfn_state {
    GFN_PRESENT, /* never evicted, or installed again */
    GFN_ABSENT,
    GFN_DROPPED, /* the guest gave it up while it was absent */
    GFN_KEPT,    /* evict refuses it */
};

struct absent_pages {
    uint64_t count; /* gfns 0 .. count - 1 */
    uint8_t *state;
    void **contents; /* NULL when all bytes are zero */
};

/* 0, or -1 with errno. */
int absent_pages_init(struct absent_pages *pages, uint64_t count);
void absent_pages_free(struct absent_pages *pages);

/* Remember contents (GUEST_PAGE_SIZE bytes, copied) of a gfn before it is evicted. 0, or -1 with errno. */
int absent_pages_save(struct absent_pages *pages, uint64_t gfn, const void *contents);

/* What to install; never NULL. Valid until the gfn's state is set. */
const void *absent_pages_contents(const struct absent_pages *pages, uint64_t gfn);

/* Gfns beyond count are present and stay so. Contents are kept in state GFN_ABSENT only. */
enum gfn_state absent_pages_state(const struct absent_pages *pages, uint64_t gfn);
void absent_pages_set(struct absent_pages *pages, uint64_t gfn, enum gfn_state state);

uint64_t absent_pages_count(const struct absent_pages *pages, enum gfn_state state);

#endif
