/*
 * paging-ops OPERATION PAGES: what an operation on that many pages of a domain costs, in hypercalls and time.
 * In dom0; builds a domain of its own. Prints `paging-ops OPERATION pages=N hypercalls=N us=N`.
 *
 * mark-baseline: populate (256 at a time), nominate, evict: holes become absent, as a restored guest's do
 *
 * mark: XENMEM_paging_op_mark
 *
 * prep-baseline: absent pages get contents one at a time (xc_mem_paging_load)
 *
 * prep: XENMEM_paging_op_prep_batch, 256 at a time
 *
 * prep2m: the same with superpages, one at a time
 *
 * request-1, request-256: dom0 tries to map the first page of every 256, all of them absent; a request is for
 * one page, or for all 256: the difference is what the others cost under the lock of the p2m
 */
#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <xenctrl.h> /* first: it says that we are a tool */

#include <xenevtchn.h>
#include <xenforeignmemory.h>

#include "../../pager/xen_paging_ops.h"
#include "../../pager/xen_ring.h"
#include "../hypervisor/bare_domain.h"
#include "../hypervisor/foreign_probe.h"

#define BATCH 256u
#define SUPER PAGING_OPS_SUPER
#define SLOTS 1024u

static xc_interface *xch;
static struct paging_ops ops;
static uint32_t domid;
static uint64_t pages, hypercalls;

static void check(int rc, const char *what, uint64_t gfn)
{
    if (rc)
        err(1, "%s of gfn 0x%llx of domain %u", what, (unsigned long long)gfn, domid);
}

static void check_rc(int rc, const char *what, uint64_t gfn)
{
    errno = -rc;
    check(rc, what, gfn);
}

static void mark_one_by_one(void)
{
    for (uint64_t first = 0; first < pages; first += BATCH) {
        xen_pfn_t pfns[BATCH];

        for (unsigned int i = 0; i < BATCH; i++)
            pfns[i] = first + i;
        check(xc_domain_populate_physmap_exact(xch, domid, BATCH, 0, 0, pfns), "populate", first);
        hypercalls++;
        for (unsigned int i = 0; i < BATCH; i++) {
            check(xc_mem_paging_nominate(xch, domid, first + i), "nominate", first + i);
            check(xc_mem_paging_evict(xch, domid, first + i), "evict", first + i);
            hypercalls += 2;
        }
    }
}

/* One bit a page, and as many hypercalls as the buffer asks for. */
static void mark(void)
{
    uint64_t *bitmap = malloc(pages / 8);

    if (!bitmap)
        err(1, "bitmap");
    memset(bitmap, 0xff, pages / 8);
    check_rc(paging_ops_mark(&ops, 0, (uint32_t)pages, bitmap), "mark", 0);
    for (uint64_t i = 0; i < pages / 64; i++)
        if (bitmap[i])
            errx(1, "gfn 0x%llx was not marked", (unsigned long long)i * 64);
    hypercalls += (pages + SLOTS * 4096ull * 8 - 1) / (SLOTS * 4096ull * 8);
    free(bitmap);
}

static void prep_one_by_one(void)
{
    for (uint64_t gfn = 0; gfn < pages; gfn++)
        check(xc_mem_paging_load(xch, domid, gfn, paging_ops_page(&ops, gfn % SLOTS)), "load", gfn);
    hypercalls += pages;
}

static void prep(unsigned int order, unsigned int n)
{
    uint64_t step = (uint64_t)n << order;

    for (uint64_t first = 0; first < pages; first += step) {
        for (unsigned int i = 0; i < n; i++)
            ops.preps[i] = (struct paging_prep){.gfn = first + ((uint64_t)i << order),
                                                .buffer = (uintptr_t)paging_ops_page(&ops, i),
                                                .order = order};
        if (paging_ops_prep(&ops, n) != (int)n)
            errx(1, "prep of gfn 0x%llx", (unsigned long long)first);
        for (unsigned int i = 0; i < n; i++)
            check_rc(ops.preps[i].rc, "prep", ops.preps[i].gfn);
        hypercalls++;
    }
}

static void prep_batch(void)
{
    prep(0, BATCH);
}

static void prep_superpages(void)
{
    prep(9, 1);
}

static void request(void)
{
    for (uint64_t gfn = 0; gfn < pages; gfn += BATCH, hypercalls++) {
        int failed;

        if (foreign_probe(domid, gfn, &failed) != -ENOENT)
            errx(1, "gfn 0x%llx was there", (unsigned long long)gfn);
    }
}

static uint64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static const struct {
    const char *name;
    void (*before)(void); /* not measured */
    void (*measured)(void);
    uint16_t range; /* of foreign requests */
} operations[] = {
    {"mark-baseline", NULL, mark_one_by_one, 1}, {"mark", NULL, mark, 1},
    {"prep-baseline", mark, prep_one_by_one, 1}, {"prep", mark, prep_batch, 1},
    {"prep2m", mark, prep_superpages, 1},        {"request-1", mark, request, 1},
    {"request-256", mark, request, BATCH},
};

int main(int argc, char **argv)
{
    struct xen_ring ring;
    struct paging_attach how = {.frames = PAGING_RING_FRAMES_MAX, .range_target = 1};
    xenforeignmemory_handle *fmem = xenforeignmemory_open(NULL, 0);
    xenevtchn_handle *xce = xenevtchn_open(NULL, 0);
    enum xen_ring_step failed;
    unsigned int i = 0;
    uint64_t start;

    xch = xc_interface_open(NULL, NULL, 0);
    pages = argc == 3 ? strtoull(argv[2], NULL, 0) : 0;
    while (argc == 3 && i < sizeof(operations) / sizeof(operations[0]) && strcmp(argv[1], operations[i].name))
        i++;
    if (argc != 3 || i == sizeof(operations) / sizeof(operations[0]) || !pages || pages % SUPER)
        errx(2,
             "usage: paging-ops mark-baseline|mark|prep-baseline|prep|prep2m|request-1|request-256 PAGES (a "
             "multiple of %u)",
             SUPER);
    how.range_foreign = operations[i].range;
    if (!xch || !fmem || !xce)
        err(1, "opening the Xen interfaces");
    domid = bare_domain_build(xch, pages + BATCH, 0, pages);
    check_rc(paging_ops_open(&ops, domid, SLOTS), "memory for hypercalls", 0);
    for (unsigned int slot = 0; slot < SLOTS; slot++)
        memset(paging_ops_page(&ops, slot), (int)slot + 1, PAGING_OPS_PAGE_SIZE);
    if (xen_ring_attach_frames(&ring, xch, fmem, xce, &ops, &how, &failed))
        err(1, "%s", xen_ring_step_text(failed));
    if (operations[i].before)
        operations[i].before();
    hypercalls = 0;
    start = now_us();
    operations[i].measured();
    printf("paging-ops %s pages=%llu hypercalls=%llu us=%llu\n", argv[1], (unsigned long long)pages,
           (unsigned long long)hypercalls, (unsigned long long)(now_us() - start));
    fflush(stdout);
    xen_ring_abandon(&ring);
    if (xc_domain_destroy(xch, domid))
        err(1, "destroying domain %u", domid);
    return 0;
}
