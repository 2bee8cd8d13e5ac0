/*
 * The paging ring of one domain: the shared page through which Xen tells the pager which absent gfns the
 * guest (or dom0) touched, and through which the pager answers.
 *
 * Depends on nothing else in the pager, so that the hypervisor tests can drive a ring with it.
 */
#ifndef XENPAGING_PC_XEN_RING_H
#define XENPAGING_PC_XEN_RING_H

#include <stdbool.h>
#include <stdint.h>

#include <xenctrl.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>

#include <xen/vm_event.h>

#include "xen_paging_ops.h"

/* Exported by libxenctrl for libxenguest, declared only in its private header (tools/libs/ctrl/xc_private.h).
 */
int xc_get_pfn_type_batch(xc_interface *xch, uint32_t domid, unsigned int num, xen_pfn_t *pfns);

struct xen_ring {
    xc_interface *xch;             /* borrowed */
    xenforeignmemory_handle *fmem; /* borrowed */
    xenevtchn_handle *xce;         /* borrowed; the caller polls its descriptor */
    uint32_t domid;
    void *page;                                 /* the shared page or pages, NULL when not attached */
    uint64_t ring_gfn;                          /* HVM_PARAM_PAGING_RING_PFN; of a ring of one page */
    xenforeignmemory_resource_handle *resource; /* NULL: a page of the domain */
    int port;                                   /* local port, -1 when not bound */
    vm_event_back_ring_t back;
    bool enabled;
    bool removed;          /* the page has left the guest's physmap */
    unsigned int unpushed; /* responses put since the last push */
};

/* One entry of the ring, copied out of shared memory. */
struct xen_ring_request {
    uint64_t gfn;
    uint32_t vcpu_id;      /* of the guest; of the *calling* domain when foreign */
    uint32_t p2mt;         /* type the gfn had, Xen's p2m_type_t */
    uint32_t flags;        /* VM_EVENT_FLAG_* */
    uint32_t paging_flags; /* MEM_PAGING_DROP_PAGE, MEM_PAGING_EVICT_FAIL, XEN_RING_RANGE */
    uint64_t nr;           /* gfns that it is for; 1 without XEN_RING_RANGE */
    uint32_t reason;       /* VM_EVENT_REASON_*; anything but MEM_PAGING is answered and otherwise ignored */
    uint32_t version;
};

#define XEN_RING_RANGE 4u /* MEM_PAGING_RANGE of a Xen that has it */

enum xen_ring_step {
    XEN_RING_OK,
    XEN_RING_RESOURCE,
    XEN_RING_PAUSE,
    XEN_RING_PARAM,
    XEN_RING_POPULATE,
    XEN_RING_MAP,
    XEN_RING_ENABLE,
    XEN_RING_BIND,
    XEN_RING_REMOVE,
    XEN_RING_UNPAUSE,
};

/*
 * Attach to domid: enable paging, map the ring page, bind its event channel, and take the page out of the
 * guest's physmap. The domain is paused meanwhile. All handles stay the caller's and must outlive the ring.
 * Returns 0, or -1 with errno set, *failed naming the step (may be NULL), and nothing left enabled.
 * errno of XEN_RING_ENABLE is Xen's (xen/common/vm_event.c): ENOSYS no MEM_PAGING, EOPNOTSUPP dom0 is PVH or
 * the domain has no ring gfn, ENODEV not HAP, EMLINK IOMMU in use, EXDEV populate on demand, EBUSY another
 * pager.
 */
int xen_ring_attach(struct xen_ring *ring, xc_interface *xch, xenforeignmemory_handle *fmem,
                    xenevtchn_handle *xce, uint32_t domid, enum xen_ring_step *failed);

/*
 * As above, with the ring in frames that outlive us (xen_paging_ops.h: paging_ops_attach()), and the domain
 * not paused. XEN_RING_RESOURCE with EOPNOTSUPP, or XEN_RING_ENABLE with ENOSYS: this Xen has only the ring
 * of one page. A ring that is not empty is drained by the caller without waiting for an event: requests may
 * have come before the event channel was bound.
 */
int xen_ring_attach_frames(struct xen_ring *ring, xc_interface *xch, xenforeignmemory_handle *fmem,
                           xenevtchn_handle *xce, struct paging_ops *ops, const struct paging_attach *how,
                           enum xen_ring_step *failed);

/*
 * As above, with half as many frames again and again while there is no memory for so many, or Xen has not so
 * many: how->frames is what it came to, and *refused the errno of the last that was too large (0: none was).
 */
int xen_ring_attach_most(struct xen_ring *ring, xc_interface *xch, xenforeignmemory_handle *fmem,
                         xenevtchn_handle *xce, struct paging_ops *ops, struct paging_attach *how,
                         enum xen_ring_step *failed, int *refused);
/* Was it that? EINVAL of XEN_RING_RESOURCE may also be of a Xen that has none. */
bool xen_ring_too_large(enum xen_ring_step step, int err);

/* What a step does, and for XEN_RING_ENABLE what the errno value means. Static strings. */
const char *xen_ring_step_text(enum xen_ring_step step);
const char *xen_ring_enable_hint(int err);

/*
 * Disable paging and give everything back. With keep_page the ring page is populated again (cleared), so that
 * the domain can be given to another pager or saved as any other domain; pass false when the domain is dying.
 * Returns 0, or -1 with errno from xc_mem_paging_disable (EBUSY: vcpus sleep on Xen's wait queue); then the
 * ring is still attached.
 */
int xen_ring_detach(struct xen_ring *ring, bool keep_page);

/* Drop every mapping at once, without a hypercall on the domain. For a domain that is dying: a mapping makes
 * a zombie. */
void xen_ring_abandon(struct xen_ring *ring);

/* Consume the event channel's pending state and unmask it. Call before draining. 0, or -1 with errno. */
int xen_ring_ack_event(struct xen_ring *ring);

/* Copy the next request out. False when the ring holds none. */
bool xen_ring_next(struct xen_ring *ring, struct xen_ring_request *req);

/* How many entries have been taken out and not answered: never above xen_ring_slots(). */
unsigned int xen_ring_unanswered(const struct xen_ring *ring);
unsigned int xen_ring_slots(const struct xen_ring *ring);

/*
 * Queue the one response that each request wants (a slot whose entry is never answered is lost for good).
 * Every field is set: version (Xen ignores others), reason, gfn, and of the flags only VCPU_PAUSED, only if
 * the request had it and was not foreign (the vcpu_id of a foreign request is dom0's).
 */
void xen_ring_respond(struct xen_ring *ring, const struct xen_ring_request *req);

/* Publish the queued responses with one notification. Does nothing when there are none. 0, or -1 with errno.
 */
int xen_ring_push(struct xen_ring *ring);

#endif
