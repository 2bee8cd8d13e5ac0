#include "xen_ring.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <xen/hvm/params.h>

#define RANGE_OFFSET 16
_Static_assert(sizeof(((vm_event_request_t *)0)->u) >= RANGE_OFFSET + sizeof(uint64_t), "room for nr");

static const char *const step_text[] = {
    [XEN_RING_OK] = "done",
    [XEN_RING_RESOURCE] = "acquiring the ring's pages",
    [XEN_RING_PAUSE] = "pausing the domain",
    [XEN_RING_PARAM] = "reading HVM_PARAM_PAGING_RING_PFN",
    [XEN_RING_POPULATE] = "populating the ring page",
    [XEN_RING_MAP] = "mapping the ring page",
    [XEN_RING_ENABLE] = "enabling paging",
    [XEN_RING_BIND] = "binding the event channel",
    [XEN_RING_REMOVE] = "removing the ring page from the guest",
    [XEN_RING_UNPAUSE] = "unpausing the domain",
};

const char *xen_ring_step_text(enum xen_ring_step step)
{
    return step_text[step];
}

const char *xen_ring_enable_hint(int err)
{
    switch (err) {
    case ENOSYS:
        return "this Xen was built without CONFIG_MEM_PAGING";
    case EOPNOTSUPP:
        return "dom0 is not PV, or the domain has no paging ring gfn";
    case ENODEV:
        return "the domain does not use hardware assisted paging (HAP)";
    case EMLINK:
        return "the domain uses an IOMMU (passthrough)";
    case EXDEV:
        return "the domain is populated on demand (memory < maxmem)";
    case EBUSY:
        return "another pager is, or was, attached to the domain";
    default:
        return strerror(err);
    }
}

static int map_ring_page(struct xen_ring *ring)
{
    xen_pfn_t pfn = ring->ring_gfn;
    int err = 0;

    ring->page = xenforeignmemory_map(ring->fmem, ring->domid, PROT_READ | PROT_WRITE, 1, &pfn, &err);
    if (ring->page && err) {
        xenforeignmemory_unmap(ring->fmem, ring->page, 1);
        ring->page = NULL;
        errno = -err;
    }
    return ring->page ? 0 : -1;
}

static int populate_ring_page(struct xen_ring *ring)
{
    xen_pfn_t pfn = ring->ring_gfn;

    return xc_domain_populate_physmap_exact(ring->xch, ring->domid, 1, 0, 0, &pfn);
}

static enum xen_ring_step attach_paused(struct xen_ring *ring)
{
    xen_pfn_t pfn;
    uint32_t remote_port;

    if (xc_hvm_param_get(ring->xch, ring->domid, HVM_PARAM_PAGING_RING_PFN, &ring->ring_gfn))
        return XEN_RING_PARAM;

    /* Absent when an earlier pager took it out, or when the saved image had a hole there. */
    pfn = ring->ring_gfn;
    if (xc_get_pfn_type_batch(ring->xch, ring->domid, 1, &pfn) || pfn & XEN_DOMCTL_PFINFO_XTAB) {
        if (populate_ring_page(ring))
            return XEN_RING_POPULATE;
    }
    if (map_ring_page(ring))
        return XEN_RING_MAP;
    if (xc_mem_paging_enable(ring->xch, ring->domid, &remote_port))
        return XEN_RING_ENABLE;
    ring->enabled = true;

    /*
     * The page leaves the guest before its contents mean anything: from then on only Xen and we can write it,
     * and whatever the guest had left in the indices is gone before the first notification makes Xen read
     * them.
     */
    pfn = ring->ring_gfn;
    if (xc_domain_decrease_reservation_exact(ring->xch, ring->domid, 1, 0, &pfn))
        return XEN_RING_REMOVE;
    ring->removed = true;

    memset(ring->page, 0, XC_PAGE_SIZE);
    SHARED_RING_INIT((vm_event_sring_t *)ring->page);
    BACK_RING_INIT(&ring->back, (vm_event_sring_t *)ring->page, XC_PAGE_SIZE);

    ring->port = xenevtchn_bind_interdomain(ring->xce, ring->domid, remote_port);
    if (ring->port < 0)
        return XEN_RING_BIND;
    return XEN_RING_OK;
}

/* Nothing is attached yet. */
static void borrow(struct xen_ring *ring, xc_interface *xch, xenforeignmemory_handle *fmem,
                   xenevtchn_handle *xce, uint32_t domid)
{
    memset(ring, 0, sizeof(*ring));
    ring->xch = xch;
    ring->fmem = fmem;
    ring->xce = xce;
    ring->domid = domid;
    ring->port = -1;
}

int xen_ring_attach(struct xen_ring *ring, xc_interface *xch, xenforeignmemory_handle *fmem,
                    xenevtchn_handle *xce, uint32_t domid, enum xen_ring_step *failed)
{
    enum xen_ring_step step = XEN_RING_PAUSE;
    int saved;

    borrow(ring, xch, fmem, xce, domid);

    if (xc_domain_pause(xch, domid) == 0) {
        step = attach_paused(ring);
        saved = errno;
        if (step != XEN_RING_OK)
            xen_ring_detach(ring, true);
        if (xc_domain_unpause(xch, domid) && step == XEN_RING_OK) {
            step = XEN_RING_UNPAUSE;
            saved = errno;
            xen_ring_detach(ring, true);
        }
        errno = saved;
    }
    if (failed)
        *failed = step;
    return step == XEN_RING_OK ? 0 : -1;
}

void xen_ring_abandon(struct xen_ring *ring)
{
    if (ring->port >= 0)
        xenevtchn_unbind(ring->xce, (evtchn_port_t)ring->port);
    ring->port = -1;
    if (ring->resource)
        xenforeignmemory_unmap_resource(ring->fmem, ring->resource);
    else if (ring->page)
        xenforeignmemory_unmap(ring->fmem, ring->page, 1);
    ring->resource = NULL;
    ring->page = NULL;
    ring->enabled = false;
}

static enum xen_ring_step attach_frames(struct xen_ring *ring, struct paging_ops *ops,
                                        const struct paging_attach *how)
{
    uint32_t remote_port;
    int rc;

    ring->resource =
        xenforeignmemory_map_resource(ring->fmem, (domid_t)ring->domid, PAGING_RING_RESOURCE, PAGING_RING_ID,
                                      0, how->frames, &ring->page, PROT_READ | PROT_WRITE, 0);
    if (!ring->resource)
        return XEN_RING_RESOURCE;
    rc = paging_ops_attach(ops, how, &remote_port);
    if (rc) {
        errno = -rc;
        return XEN_RING_ENABLE;
    }
    ring->enabled = true;
    /* Xen has made it an empty ring. */
    BACK_RING_INIT(&ring->back, (vm_event_sring_t *)ring->page, how->frames * XC_PAGE_SIZE);
    ring->port = xenevtchn_bind_interdomain(ring->xce, ring->domid, remote_port);
    return ring->port < 0 ? XEN_RING_BIND : XEN_RING_OK;
}

int xen_ring_attach_frames(struct xen_ring *ring, xc_interface *xch, xenforeignmemory_handle *fmem,
                           xenevtchn_handle *xce, struct paging_ops *ops, const struct paging_attach *how,
                           enum xen_ring_step *failed)
{
    enum xen_ring_step step;

    borrow(ring, xch, fmem, xce, ops->domid);
    step = attach_frames(ring, ops, how);
    if (step != XEN_RING_OK) {
        int saved = errno;

        /* A ring taken over has a guest that depends on it. */
        if (how->again)
            xen_ring_abandon(ring);
        else
            xen_ring_detach(ring, false);
        errno = saved;
    }
    if (failed)
        *failed = step;
    return step == XEN_RING_OK ? 0 : -1;
}

bool xen_ring_too_large(enum xen_ring_step step, int err)
{
    return (step == XEN_RING_RESOURCE || step == XEN_RING_ENABLE) && (err == ENOMEM || err == EINVAL);
}

int xen_ring_attach_most(struct xen_ring *ring, xc_interface *xch, xenforeignmemory_handle *fmem,
                         xenevtchn_handle *xce, struct paging_ops *ops, struct paging_attach *how,
                         enum xen_ring_step *failed, int *refused)
{
    *refused = 0;
    while (xen_ring_attach_frames(ring, xch, fmem, xce, ops, how, failed)) {
        if (how->frames <= 1 || !xen_ring_too_large(*failed, errno))
            return -1;
        *refused = errno;
        how->frames /= 2;
    }
    return 0;
}

int xen_ring_detach(struct xen_ring *ring, bool keep_page)
{
    int saved = errno;
    xen_pfn_t pfn = ring->ring_gfn;

    if (ring->enabled && xc_mem_paging_disable(ring->xch, ring->domid))
        return -1;
    xen_ring_abandon(ring);
    if (ring->removed && keep_page) {
        /* Best effort: a domain without its ring page runs and pages; attach populates it again. */
        if (populate_ring_page(ring) == 0)
            xc_clear_domain_pages(ring->xch, ring->domid, pfn, 1);
    }
    ring->removed = false;
    errno = saved;
    return 0;
}

int xen_ring_ack_event(struct xen_ring *ring)
{
    int port = xenevtchn_pending(ring->xce);

    if (port < 0)
        return -1;
    return xenevtchn_unmask(ring->xce, (evtchn_port_t)port);
}

bool xen_ring_next(struct xen_ring *ring, struct xen_ring_request *req)
{
    vm_event_back_ring_t *back = &ring->back;
    vm_event_request_t raw;

    if (!RING_HAS_UNCONSUMED_REQUESTS(back))
        return false;
    xen_rmb(); /* the producer index before the entry */

    /* Copied once, whole: the slot is reused for a response, possibly another entry's. */
    memcpy(&raw, RING_GET_REQUEST(back, back->req_cons), sizeof(raw));
    back->req_cons++;
    back->sring->req_event = back->req_cons + 1;

    req->gfn = raw.u.mem_paging.gfn;
    req->vcpu_id = raw.vcpu_id;
    req->p2mt = raw.u.mem_paging.p2mt;
    req->flags = raw.flags;
    req->paging_flags = raw.u.mem_paging.flags;
    req->reason = raw.reason;
    req->version = raw.version;
    req->nr = 1;
    /* Follows flags in a Xen that has ranges; the union is larger in any. */
    if (req->paging_flags & XEN_RING_RANGE)
        memcpy(&req->nr, (const uint8_t *)&raw.u.mem_paging + RANGE_OFFSET, sizeof(req->nr));
    return true;
}

unsigned int xen_ring_unanswered(const struct xen_ring *ring)
{
    return ring->back.req_cons - ring->back.rsp_prod_pvt;
}

unsigned int xen_ring_slots(const struct xen_ring *ring)
{
    return ring->page ? RING_SIZE(&ring->back) : 0;
}

void xen_ring_respond(struct xen_ring *ring, const struct xen_ring_request *req)
{
    vm_event_back_ring_t *back = &ring->back;
    vm_event_response_t rsp;

    memset(&rsp, 0, sizeof(rsp));
    rsp.version = VM_EVENT_INTERFACE_VERSION;
    rsp.reason = VM_EVENT_REASON_MEM_PAGING;
    rsp.vcpu_id = req->vcpu_id;
    rsp.u.mem_paging.gfn = req->gfn;
    rsp.u.mem_paging.p2mt = req->p2mt;
    /* Tells p2m_mem_paging_resume() to leave the p2m alone (xen/arch/x86/mm/mem_paging.c). */
    rsp.u.mem_paging.flags = req->paging_flags & MEM_PAGING_DROP_PAGE;
    if ((req->flags & VM_EVENT_FLAG_VCPU_PAUSED) && !(req->flags & VM_EVENT_FLAG_FOREIGN))
        rsp.flags = VM_EVENT_FLAG_VCPU_PAUSED;

    memcpy(RING_GET_RESPONSE(back, back->rsp_prod_pvt), &rsp, sizeof(rsp));
    back->rsp_prod_pvt++;
    ring->unpushed++;
}

int xen_ring_push(struct xen_ring *ring)
{
    vm_event_back_ring_t *back = &ring->back;

    if (!ring->unpushed)
        return 0;
    ring->unpushed = 0;
    RING_PUSH_RESPONSES(back);
    return xenevtchn_notify(ring->xce, (evtchn_port_t)ring->port);
}
