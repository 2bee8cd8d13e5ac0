#include "backend_batch.h"

#include <errno.h>
#include <string.h>

#define SINGLE_MOST   256u       /* some milliseconds of single operations */
#define BATCH_MOST    (1u << 17) /* 512 MiB */
#define PAGE_BYTES    4096u
#define FAULT_TRIES   8
#define POPULATE_MOST 64u /* pages that are there only to be evicted, at a time */

_Static_assert(SINGLE_MOST <= BACKEND_SCAN_MAX, "one populated()");
_Static_assert(SINGLE_MOST % 64 == 0 && BATCH_MOST % 64 == 0, "whole words of bits");
_Static_assert(POPULATE_MOST <= BACKEND_BATCH_MAX, "one populate");

uint32_t backend_mark_most(const struct backend *be)
{
    return be->features.set & FEATURE_MARK ? BATCH_MOST : SINGLE_MOST;
}

static bool bit(const uint64_t *bits, uint32_t i)
{
    return bits[i / 64] >> (i % 64) & 1;
}

static void clear(uint64_t *bits, uint32_t i)
{
    bits[i / 64] &= ~(UINT64_C(1) << (i % 64));
}

/* Xen evicts only what is there: give memory to those of 64 gfns that have none. */
static int fill_holes(struct backend *be, uint64_t first, uint64_t holes)
{
    uint64_t gfns[POPULATE_MOST];
    unsigned int n = 0;
    int rc;

    for (unsigned int i = 0; i < 64; i++)
        if (holes >> i & 1)
            gfns[n++] = first + i;
    if (!n)
        return 0;
    rc = be->ops->populate(be, gfns, n);
    if (rc == 0)
        be->populated_to_evict += n;
    return rc;
}

static int mark_single(struct backend *be, uint64_t first, uint32_t nr, bool holes, uint64_t *bits,
                       uint64_t *half)
{
    uint64_t there[SINGLE_MOST / 64] = {0};
    int rc = holes ? be->ops->populated(be, first, nr, there) : 0;

    for (uint32_t i = 0; i < nr && rc == 0; i++) {
        int one;

        if (holes && i % 64 == 0 && bits[i / 64])
            rc = fill_holes(be, first + i, bits[i / 64] & ~there[i / 64]);
        if (rc || !bit(bits, i))
            continue;
        one = be->ops->mark(be, first + i);
        if (one == 0)
            clear(bits, i);
        else if (one == -EAGAIN)
            half[i / 64] |= UINT64_C(1) << (i % 64);
        else if (one == -ESRCH || one == -ENODEV)
            rc = one;
    }
    return rc;
}

int backend_mark(struct backend *be, uint64_t first, uint32_t nr, bool holes, uint64_t *bits, uint64_t *half)
{
    size_t words = (nr + 63) / 64;
    bool any = false;

    memset(half, 0, words * sizeof(*half));
    for (size_t i = 0; i < words; i++)
        any |= bits[i] != 0;
    if (!any)
        return 0;
    if (be->features.set & FEATURE_MARK)
        return be->ops->mark_batch(be, first, nr, bits);
    return mark_single(be, first, nr, holes, bits, half);
}

static unsigned int load_single(struct backend *be, struct backend_page *pages, unsigned int n)
{
    for (unsigned int i = 0; i < n; i++) {
        /* A superpage is for load_batch only; one by one is the answer to -EBUSY. */
        pages[i].rc = pages[i].order ? -EBUSY : be->ops->load(be, pages[i].gfn, pages[i].contents);
        if (pages[i].rc == -ENOMEM || pages[i].rc == -ESRCH || pages[i].rc == -ENODEV)
            return i + 1;
    }
    return n;
}

static void touch(const struct backend_page *page)
{
    for (size_t at = 0; at < (size_t)PAGE_BYTES << page->order; at += PAGE_BYTES)
        (void)*((const volatile uint8_t *)page->contents + at);
}

/*
 * Contents are where the feeder has received them: Xen copies from there, and nobody else does. That memory
 * is locked, which keeps it present but not mapped: Linux may be moving a page, and Xen cannot wait for that
 * (-EFAULT). Touching it does. False when none is left like that.
 */
static bool load_moved(struct backend *be, struct backend_page *pages, unsigned int n)
{
    struct backend_page moved[BACKEND_LOAD_MAX];
    unsigned int from[BACKEND_LOAD_MAX], k = 0, done;

    for (unsigned int i = 0; i < n; i++) {
        if (pages[i].rc != -EFAULT)
            continue;
        touch(&pages[i]);
        moved[k] = pages[i];
        from[k++] = i;
    }
    if (!k)
        return false;
    done = be->ops->load_batch(be, moved, k);
    for (unsigned int i = 0; i < done; i++)
        pages[from[i]].rc = moved[i].rc;
    return true;
}

unsigned int backend_load(struct backend *be, struct backend_page *pages, unsigned int n)
{
    unsigned int done;

    if (!n)
        return 0;
    if (!(be->features.set & FEATURE_PREP))
        return load_single(be, pages, n);
    done = be->ops->load_batch(be, pages, n);
    for (int i = 0; i < FAULT_TRIES && load_moved(be, pages, done); i++)
        ;
    return done;
}
