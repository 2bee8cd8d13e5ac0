/*
 * usage: superpages DOMID FIRST_GFN PAGES: how many of the 2 MiB regions of that memory Xen has as one entry.
 * Xen tells by refusing to collapse what is one already; and collapses nothing, because a page of the region
 * is mapped meanwhile. Prints `superpages regions=N super=M absent=K`: K regions have an absent page.
 */
#include <err.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <xenctrl.h> /* first: it says that we are a tool */

#include <xenevtchn.h>
#include <xenforeignmemory.h>

#include "../../pager/xen_paging_ops.h"
#include "../../pager/xen_ring.h"

#define SUPER PAGING_OPS_SUPER

/* 1: a superpage. 0: none. -1: a page of it cannot be mapped. */
static int judge(xenforeignmemory_handle *fmem, struct paging_ops *ops, uint64_t gfn)
{
    xen_pfn_t pfn = gfn;
    int page_err = 0, rc;
    void *page = xenforeignmemory_map(fmem, ops->domid, PROT_READ, 1, &pfn, &page_err);

    if (!page || page_err)
        return -1;
    rc = paging_ops_collapse(ops, gfn);
    xenforeignmemory_unmap(fmem, page, 1);
    if (rc != -EEXIST && rc != -EBUSY) {
        errno = rc < 0 ? -rc : EPROTO; /* it has collapsed what was mapped */
        err(1, "gfn 0x%llx", (unsigned long long)gfn);
    }
    return rc == -EEXIST;
}

int main(int argc, char **argv)
{
    xc_interface *xch = xc_interface_open(NULL, NULL, 0);
    xenforeignmemory_handle *fmem = xenforeignmemory_open(NULL, 0);
    xenevtchn_handle *xce = xenevtchn_open(NULL, 0);
    struct paging_attach how = {.frames = 1};
    unsigned int regions = 0, super = 0, absent = 0;
    enum xen_ring_step failed;
    struct paging_ops ops;
    struct xen_ring ring;
    uint64_t first, end;
    uint32_t domid;
    int rc;

    if (argc != 4)
        errx(2, "usage: superpages DOMID FIRST_GFN PAGES");
    domid = (uint32_t)strtoul(argv[1], NULL, 0);
    first = (strtoull(argv[2], NULL, 0) + SUPER - 1) / SUPER * SUPER;
    end = strtoull(argv[2], NULL, 0) + strtoull(argv[3], NULL, 0);
    if (!xch || !fmem || !xce)
        err(1, "opening the Xen interfaces");
    rc = paging_ops_open(&ops, domid, 1);
    if (rc) {
        errno = -rc;
        err(1, "memory for hypercalls");
    }
    if (xen_ring_attach_frames(&ring, xch, fmem, xce, &ops, &how, &failed))
        err(1, "%s", xen_ring_step_text(failed));
    for (uint64_t gfn = first; gfn + SUPER <= end; gfn += SUPER, regions++) {
        int one = judge(fmem, &ops, gfn);

        super += one > 0;
        absent += one < 0;
    }
    if (xen_ring_detach(&ring, false))
        err(1, "detaching from domain %u", domid);
    paging_ops_close(&ops);
    printf("superpages regions=%u super=%u absent=%u\n", regions, super, absent);
    return 0;
}
