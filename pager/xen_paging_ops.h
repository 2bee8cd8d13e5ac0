/*
 * Paging operations on many pages at a time (XENMEM_paging_op_mark, _prep_batch, _collapse, _populated), and
 * the ring as a resource (XEN_VM_EVENT_ATTACH): made by libxencall, since a stock libxenctrl has no wrappers
 * for them.
 *
 * Depends on nothing else in the pager, so that the hypervisor tests can use it.
 */
#ifndef XENPAGING_PC_XEN_PAGING_OPS_H
#define XENPAGING_PC_XEN_PAGING_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <xencall.h>

#define PAGING_OPS_PAGE_SIZE 4096u
#define PAGING_OPS_SUPER     512u /* pages of a superpage */

/* An entry of XENMEM_paging_op_prep_batch (xen/include/public/memory.h). */
struct paging_prep {
    uint64_t gfn;
    uint64_t buffer; /* address of the contents, in memory of paging_ops_page(); 0: zeros */
    int32_t rc;      /* 0 or -errno of Xen */
    uint32_t order;  /* 0 or 9 */
};

struct paging_ops {
    xencall_handle *call;
    uint32_t domid;
    uint32_t slots;            /* pages that buffer holds */
    uint8_t *buffer;           /* never faults in a hypercall */
    struct paging_prep *preps; /* slots of them */
    void *arg;
};

/*
 * Hypercall-safe memory for that many pages, as many entries, and a bitmap of as many bytes as the pages
 * have. Allocates. 0, or -errno with nothing left. Close it in every case.
 */
int paging_ops_open(struct paging_ops *ops, uint32_t domid, uint32_t slots);
void paging_ops_close(struct paging_ops *ops);

static inline uint8_t *paging_ops_page(const struct paging_ops *ops, uint32_t slot)
{
    return ops->buffer + (size_t)slot * PAGING_OPS_PAGE_SIZE;
}

/*
 * Make each gfn absent whose bit is set, bit 0 of bitmap[0] being first; a bit that stays set is of a page
 * that Xen keeps. bitmap: anywhere; nr bits, at most UINT32_MAX. Returns 0; -errno with the bits of what is
 * done cleared: -ENOSYS Xen does not know the operation (bitmap untouched), -ENODEV no ring, -ENOMEM no
 * memory for the p2m, -EINVAL no such gfns.
 */
int paging_ops_mark(struct paging_ops *ops, uint64_t first, uint32_t nr, uint64_t *bitmap);

/*
 * Tell which of nr gfns from first on have a page: bitmap as of paging_ops_mark(). A ring need not be there.
 * 0, or -errno: -EBUSY some page is paged out, or another domain's; -ENOSYS, -EOPNOTSUPP or -ENODEV Xen does
 * not know the operation.
 */
int paging_ops_populated(struct paging_ops *ops, uint64_t first, uint32_t nr, uint64_t *bitmap);

/*
 * Carry out the first n entries of preps. Returns how many have an rc: n, or fewer when memory ran out, the
 * last of them having -ENOMEM; or -errno if none has: -ENOSYS, -ENODEV, -ESRCH.
 */
int paging_ops_prep(struct paging_ops *ops, uint32_t n);

#define PAGING_RING_RESOURCE   3u /* XENMEM_resource_vm_event_ring */
#define PAGING_RING_ID         1u /* XEN_DOMCTL_VM_EVENT_OP_PAGING */
#define PAGING_RING_FRAMES_MAX 64u

/* Does Xen know the operation? Tried on nothing: 0, -ENOSYS, or -errno as above. A ring has to be there. */
int paging_ops_try_mark(struct paging_ops *ops);
int paging_ops_try_prep(struct paging_ops *ops);
int paging_ops_try_collapse(struct paging_ops *ops);

struct paging_attach {
    uint32_t frames; /* of the resource, mapped by the caller before */
    bool again;      /* take over from a pager that is gone */
    uint16_t range_target, range_foreign;
};

struct paging_ring_stats {
    uint64_t requests;      /* put into the ring by Xen */
    uint64_t waits_target;  /* times a vcpu of the domain found it full */
    uint64_t waits_foreign; /* times someone else did */
    uint32_t slots, high_water;
};

/*
 * Have paging's ring be the resource's first frames. 0 and the port to bind, or -errno: what
 * xen_ring_enable_hint() knows, and -ENOSYS Xen does not know the operation, -ENOENT frames not acquired or
 * (again) no such ring, -EBUSY someone has it.
 */
int paging_ops_attach(struct paging_ops *ops, const struct paging_attach *how, uint32_t *port);
int paging_ops_stats(struct paging_ops *ops, struct paging_ring_stats *stats);

/* gfn is a multiple of PAGING_OPS_SUPER. 0 or -errno: xen/include/public/memory.h. The domain is paused
 * meanwhile. */
int paging_ops_collapse(struct paging_ops *ops, uint64_t gfn);

#endif
