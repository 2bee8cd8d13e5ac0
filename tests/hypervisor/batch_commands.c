#include "batch_commands.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MAP_AT_ONCE 256

/* Keeps the contents of what is there among n gfns. */
static int save(struct paging_ops *ops, xenforeignmemory_handle *fmem, struct absent_pages *pages,
                uint64_t first, unsigned int n)
{
    xen_pfn_t pfns[MAP_AT_ONCE];
    int err[MAP_AT_ONCE];
    unsigned int wanted = 0;
    char *at;
    int rc = 0;

    for (unsigned int i = 0; i < n; i++)
        if (absent_pages_state(pages, first + i) == GFN_PRESENT)
            pfns[wanted++] = first + i;
    if (!wanted)
        return 0;
    at = xenforeignmemory_map(fmem, ops->domid, PROT_READ, wanted, pfns, err);
    if (!at)
        return -errno;
    for (unsigned int i = 0; i < wanted && !rc; i++)
        if (!err[i] && absent_pages_save(pages, pfns[i], at + i * (size_t)GUEST_PAGE_SIZE))
            rc = -ENOMEM;
    xenforeignmemory_unmap(fmem, at, wanted);
    return rc;
}

int batch_mark(struct paging_ops *ops, xenforeignmemory_handle *fmem, struct absent_pages *pages,
               uint64_t first, uint64_t end)
{
    uint64_t *bitmap = calloc((end - first) / 64 + 1, sizeof(*bitmap));
    uint64_t marked = 0, refused = 0;
    int rc = 0;

    if (!bitmap)
        return -ENOMEM;
    for (uint64_t gfn = first; gfn < end && !rc; gfn += MAP_AT_ONCE)
        rc = save(ops, fmem, pages, gfn, end - gfn < MAP_AT_ONCE ? (unsigned int)(end - gfn) : MAP_AT_ONCE);
    for (uint64_t i = 0; i < end - first; i++)
        if (absent_pages_state(pages, first + i) != GFN_KEPT)
            bitmap[i / 64] |= 1ull << i % 64;
    if (!rc)
        rc = paging_ops_mark(ops, first, (uint32_t)(end - first), bitmap);
    for (uint64_t i = 0; i < end - first; i++) {
        bool left = bitmap[i / 64] >> i % 64 & 1;

        if (absent_pages_state(pages, first + i) == GFN_KEPT)
            continue;
        absent_pages_set(pages, first + i, left ? GFN_PRESENT : GFN_ABSENT);
        refused += left;
        marked += !left;
    }
    printf("marked %" PRIu64 " refused %" PRIu64 "\n", marked, refused);
    free(bitmap);
    return rc;
}

/* Entry i of the next batch. */
static void entry(struct paging_ops *ops, const struct absent_pages *pages, uint32_t i, uint64_t gfn)
{
    memcpy(paging_ops_page(ops, i), absent_pages_contents(pages, gfn), GUEST_PAGE_SIZE);
    ops->preps[i] =
        (struct paging_prep){.gfn = gfn, .buffer = (uintptr_t)paging_ops_page(ops, i), .rc = 1, .order = 0};
}

int batch_prep(struct paging_ops *ops, struct absent_pages *pages, uint64_t first, uint64_t end)
{
    unsigned int installed = 0, there = 0, gone = 0, other = 0, calls = 0;
    int rc = 0;

    while (first < end && rc >= 0) {
        uint32_t n = end - first < ops->slots ? (uint32_t)(end - first) : ops->slots;

        for (uint32_t i = 0; i < n; i++)
            entry(ops, pages, i, first + i);
        calls++;
        rc = paging_ops_prep(ops, n);
        for (int i = 0; i < rc; i++) {
            int one = ops->preps[i].rc;

            installed += one == 0;
            there += one == -EEXIST;
            gone += one == -ENOENT;
            other += one && one != -EEXIST && one != -ENOENT;
            if (!one)
                absent_pages_set(pages, first + (unsigned int)i, GFN_PRESENT);
        }
        first += n;
    }
    printf("prep installed=%u there=%u gone=%u other=%u calls=%u\n", installed, there, gone, other, calls);
    return rc < 0 ? rc : 0;
}

int batch_prep_superpage(struct paging_ops *ops, struct absent_pages *pages, uint64_t gfn)
{
    int rc;

    for (uint32_t i = 0; i < PAGING_OPS_SUPER; i++)
        entry(ops, pages, i, gfn + i);
    ops->preps[0].order = 9;
    rc = paging_ops_prep(ops, 1);
    if (rc < 0)
        return rc;
    printf("prep2m rc=%d\n", ops->preps[0].rc);
    for (uint32_t i = 0; i < PAGING_OPS_SUPER && !ops->preps[0].rc; i++)
        absent_pages_set(pages, gfn + i, GFN_PRESENT);
    return 0;
}

int batch_collapse(struct paging_ops *ops, uint64_t gfn)
{
    printf("collapse rc=%d\n", paging_ops_collapse(ops, gfn));
    return 0;
}

int batch_ring_stats(struct paging_ops *ops)
{
    struct paging_ring_stats s;
    int rc = paging_ops_stats(ops, &s);

    if (rc == 0)
        printf("ringstats requests=%" PRIu64 " waits_target=%" PRIu64 " waits_foreign=%" PRIu64
               " slots=%u high_water=%u\n",
               s.requests, s.waits_target, s.waits_foreign, s.slots, s.high_water);
    return rc;
}
