#include "absent_pages.h"

#include <stdlib.h>
#include <string.h>

static const uint8_t zeroes[GUEST_PAGE_SIZE];

int absent_pages_init(struct absent_pages *pages, uint64_t count)
{
    pages->count = count;
    pages->state = calloc(count, sizeof(*pages->state));
    pages->contents = calloc(count, sizeof(*pages->contents));
    return pages->state && pages->contents ? 0 : -1;
}

void absent_pages_free(struct absent_pages *pages)
{
    for (uint64_t gfn = 0; gfn < pages->count; gfn++)
        free(pages->contents[gfn]);
    free(pages->contents);
    free(pages->state);
}

int absent_pages_save(struct absent_pages *pages, uint64_t gfn, const void *contents)
{
    if (memcmp(contents, zeroes, GUEST_PAGE_SIZE) == 0)
        return 0;
    pages->contents[gfn] = malloc(GUEST_PAGE_SIZE);
    if (!pages->contents[gfn])
        return -1;
    memcpy(pages->contents[gfn], contents, GUEST_PAGE_SIZE);
    return 0;
}

const void *absent_pages_contents(const struct absent_pages *pages, uint64_t gfn)
{
    return pages->contents[gfn] ? pages->contents[gfn] : zeroes;
}

enum gfn_state absent_pages_state(const struct absent_pages *pages, uint64_t gfn)
{
    return gfn < pages->count ? (enum gfn_state)pages->state[gfn] : GFN_PRESENT;
}

void absent_pages_set(struct absent_pages *pages, uint64_t gfn, enum gfn_state state)
{
    if (gfn >= pages->count)
        return;
    if (state != GFN_ABSENT) {
        free(pages->contents[gfn]);
        pages->contents[gfn] = NULL;
    }
    pages->state[gfn] = (uint8_t)state;
}

uint64_t absent_pages_count(const struct absent_pages *pages, enum gfn_state state)
{
    uint64_t n = 0;

    for (uint64_t gfn = 0; gfn < pages->count; gfn++)
        n += pages->state[gfn] == state;
    return n;
}
