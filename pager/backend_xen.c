#include "backend.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xenstore.h>

#include "fault_point.h"
#include "log.h"
#include "xen_domain.h"
#include "xen_paging_ops.h"
#include "xen_ring.h"

#define RING_FRAMES    PAGING_RING_FRAMES_MAX /* 512 slots, for every vcpu and a map of many pages */
#define POPULATED_MOST (1u << 20)             /* gfns of 4 GiB */

#ifndef XEN_DOMCTL_PFINFO_PAGEDOUT
#define XEN_DOMCTL_PFINFO_PAGEDOUT (0x5U << 28) /* of a Xen that tells paged out pages from holes */
#endif

struct backend_xen {
    struct backend be;
    xc_interface *xch;
    xenforeignmemory_handle *fmem;
    xenevtchn_handle *xce;
    struct xs_handle *xsh;
    struct xen_ring ring;
    struct paging_ops ops; /* ops.call NULL: not open */
};

static struct backend_xen *xen_of(struct backend *be)
{
    return (struct backend_xen *)((char *)be - offsetof(struct backend_xen, be));
}

static int last_error(int rc)
{
    return rc ? -errno : 0;
}

static void be_close(struct backend *be)
{
    struct backend_xen *x = xen_of(be);

    if (x->ring.page)
        xen_ring_abandon(&x->ring);
    paging_ops_close(&x->ops);
    if (x->xsh)
        xs_close(x->xsh);
    if (x->xce)
        xenevtchn_close(x->xce);
    if (x->fmem)
        xenforeignmemory_close(x->fmem);
    if (x->xch)
        xc_interface_close(x->xch);
    free(x);
}

static int be_info(struct backend *be, struct backend_domain *out)
{
    be->calls.info++;
    return xen_domain_info(xen_of(be)->xch, be->domid, out);
}

static int be_pause(struct backend *be)
{
    return last_error(xc_domain_pause(xen_of(be)->xch, be->domid));
}

static int be_unpause(struct backend *be)
{
    return last_error(xc_domain_unpause(xen_of(be)->xch, be->domid));
}

static int be_max_gfn(struct backend *be, uint64_t *max)
{
    xen_pfn_t pfn;
    int rc = last_error(xc_domain_maximum_gpfn(xen_of(be)->xch, be->domid, &pfn));

    *max = rc ? 0 : pfn;
    return rc;
}

/* As a Xen without the operation tells it, at a hypercall for 1024 gfns and microseconds for each. */
static int populated_by_type(struct backend *be, uint64_t first, uint32_t n, uint64_t *bits)
{
    xen_pfn_t types[BACKEND_SCAN_MAX];

    for (unsigned int i = 0; i < n; i++)
        types[i] = first + i;
    be->calls.scan++;
    if (xc_get_pfn_type_batch(xen_of(be)->xch, be->domid, (int)n, types))
        return -errno;
    memset(bits, 0, (n + 63) / 64 * sizeof(*bits));
    for (unsigned int i = 0; i < n; i++) {
        switch (types[i] & XEN_DOMCTL_PFINFO_LTAB_MASK) {
        case XEN_DOMCTL_PFINFO_XTAB:
        case XEN_DOMCTL_PFINFO_BROKEN:
        case XEN_DOMCTL_PFINFO_XALLOC:
            break;
        default:
            bits[i / 64] |= UINT64_C(1) << i % 64;
        }
    }
    return 0;
}

static int be_populated(struct backend *be, uint64_t first, uint32_t n, uint64_t *bits)
{
    int rc;

    if (n > be->scan_most)
        return -EINVAL;
    if (be->scan_most <= BACKEND_SCAN_MAX)
        return populated_by_type(be, first, n, bits);
    be->calls.scan++;
    rc = paging_ops_populated(&xen_of(be)->ops, first, n, bits);
    if (rc != -EBUSY)
        return rc;
    /* It has nothing to say where pages are absent: seconds for as many, which is for the caller to divide.
     */
    be->scan_most = BACKEND_SCAN_MAX;
    if (n <= be->scan_most)
        return populated_by_type(be, first, n, bits);
    memset(bits, 0, (n + 63) / 64 * sizeof(*bits));
    return -EAGAIN;
}

static int be_types(struct backend *be, uint64_t first, unsigned int n, uint8_t *types)
{
    xen_pfn_t pfns[BACKEND_SCAN_MAX];

    if (n > BACKEND_SCAN_MAX)
        return -EINVAL;
    for (unsigned int i = 0; i < n; i++)
        pfns[i] = first + i;
    be->calls.scan++;
    if (xc_get_pfn_type_batch(xen_of(be)->xch, be->domid, n, pfns))
        return -errno;
    for (unsigned int i = 0; i < n; i++) {
        switch (pfns[i] & XEN_DOMCTL_PFINFO_LTAB_MASK) {
        case XEN_DOMCTL_PFINFO_PAGEDOUT:
            types[i] = BACKEND_ABSENT;
            break;
        case XEN_DOMCTL_PFINFO_XTAB:
        case XEN_DOMCTL_PFINFO_BROKEN:
        case XEN_DOMCTL_PFINFO_XALLOC:
            types[i] = BACKEND_HOLE;
            break;
        default:
            types[i] = BACKEND_PAGE;
        }
    }
    return 0;
}

static int be_special(struct backend *be, uint64_t gfns[BACKEND_SPECIAL_MAX])
{
    return xen_domain_special_gfns(xen_of(be)->xch, be->domid, gfns, BACKEND_SPECIAL_MAX);
}

static int be_populate(struct backend *be, const uint64_t *gfns, unsigned int n)
{
    xen_pfn_t pfns[BACKEND_BATCH_MAX];
    int done;

    if (n > BACKEND_BATCH_MAX)
        return -EINVAL;
    for (unsigned int i = 0; i < n; i++)
        pfns[i] = gfns[i];
    be->calls.populate++;
    /* The number of extents done, or -1; fewer than asked for leaves errno alone (xc_domain.c). */
    done = xc_domain_populate_physmap(xen_of(be)->xch, be->domid, n, 0, 0, pfns);
    if (done < 0)
        return -errno;
    return done == (int)n ? 0 : -ENOMEM;
}

static int be_release(struct backend *be, const uint64_t *gfns, unsigned int n)
{
    xen_pfn_t pfns[BACKEND_BATCH_MAX];

    if (n > BACKEND_BATCH_MAX)
        return -EINVAL;
    for (unsigned int i = 0; i < n; i++)
        pfns[i] = gfns[i];
    be->calls.release++;
    return last_error(xc_domain_decrease_reservation_exact(xen_of(be)->xch, be->domid, n, 0, pfns));
}

/*
 * Xen takes the total that the domain is to have (page_alloc.c: domain_set_outstanding_pages()), and one
 * claim a domain.
 */
static int be_claim(struct backend *be, uint64_t pages)
{
    struct backend_xen *x = xen_of(be);
    struct backend_domain now;
    int rc = 0;

    if (pages) {
        rc = be_info(be, &now);
        if (rc)
            return rc;
        if (!now.exists)
            return -ESRCH;
        pages += now.pages;
    }
    return last_error(xc_domain_claim_pages(x->xch, be->domid, pages));
}

static bool session_in(struct backend *be, xs_transaction_t t, const char *session)
{
    char path[64];
    char *there;
    bool same;

    snprintf(path, sizeof(path), "/local/domain/%u/postcopy/session", be->domid);
    there = xs_read(xen_of(be)->xsh, t, path, NULL);
    same = there && strcmp(there, session) == 0;
    free(there);
    return same;
}

static bool be_owned(struct backend *be, const char *session)
{
    return session_in(be, XBT_NULL, session);
}

static void be_forget(struct backend *be, const char *session)
{
    struct xs_handle *xsh = xen_of(be)->xsh;
    char path[64];
    xs_transaction_t t;

    snprintf(path, sizeof(path), "/local/domain/%u/postcopy", be->domid);
    do {
        t = xs_transaction_start(xsh);
        /* Another session may have the domain by now. */
        if (t == XBT_NULL || !session_in(be, t, session) || !xs_rm(xsh, t, path)) {
            if (t != XBT_NULL)
                xs_transaction_end(xsh, t, true);
            return;
        }
    } while (!xs_transaction_end(xsh, t, false) && errno == EAGAIN);
}

/* Was it refused because this Xen has never heard of it? */
static bool unknown(enum xen_ring_step step, int err)
{
    return (step == XEN_RING_RESOURCE && (err == EOPNOTSUPP || err == EINVAL || err == ENOSYS)) ||
           (step == XEN_RING_ENABLE && err == ENOSYS);
}

static void ring_in_use(struct backend *be, const struct paging_attach *how, int refused)
{
    if (how->frames < RING_FRAMES)
        log_warning(
            "a ring of %u pages cannot be had: %s; it has %u, and more vcpus may have to wait for room",
            RING_FRAMES, strerror(refused), how->frames);
    be->features.ring_pages = how->frames;
    be->features.range_foreign = how->range_foreign > 1 ? how->range_foreign : 1;
    be->features.range_guest = how->range_target > 1 ? how->range_target : 1;
    be->features.set |= FEATURE_RING;
    if (how->range_foreign > 1 || how->range_target > 1)
        be->features.set |= FEATURE_RANGE;
}

/* 0, 1 if Xen has only the ring of one page, or -errno with its step. */
static int attach_frames(struct backend *be, const struct backend_wish *wish, enum xen_ring_step *step)
{
    struct backend_xen *x = xen_of(be);
    struct paging_attach how = {.frames = RING_FRAMES};
    int err, refused;

    if (!(wish->features & FEATURE_RING))
        return 1;
    if (wish->features & FEATURE_RANGE) {
        how.range_foreign = (uint16_t)wish->range_foreign;
        how.range_target = (uint16_t)wish->range_guest;
    }
    if (xen_ring_attach_most(&x->ring, x->xch, x->fmem, x->xce, &x->ops, &how, step, &refused) == 0) {
        ring_in_use(be, &how, refused);
        return 0;
    }
    err = errno;
    if (unknown(*step, err))
        return 1;
    if (!xen_ring_too_large(*step, err))
        return -err;
    log_warning("a ring that outlives this process cannot be had: %s; taking the one of one page",
                strerror(err));
    return 1;
}

/* With the ring there, Xen looks at which operation it is. */
static void try_operations(struct backend *be, unsigned int wished)
{
    struct paging_ops *ops = &xen_of(be)->ops;

    if (wished & FEATURE_MARK && paging_ops_try_mark(ops) == 0)
        be->features.set |= FEATURE_MARK;
    if (wished & FEATURE_PREP && paging_ops_try_prep(ops) == 0)
        be->features.set |= FEATURE_PREP;
    if (wished & FEATURE_SUPERPAGES && paging_ops_try_collapse(ops) == 0)
        be->features.set |= FEATURE_SUPERPAGES;
}

static int open_operations(struct backend_xen *x, char *why, size_t why_size)
{
    uint64_t some = 0;
    int rc = paging_ops_open(&x->ops, x->be.domid, BACKEND_LOAD_MAX);

    if (rc) {
        snprintf(why, why_size, "memory for hypercalls: %s", strerror(-rc));
        return rc;
    }
    rc = paging_ops_populated(&x->ops, 0, 64, &some);
    x->be.scan_most = rc == 0 || rc == -EBUSY ? POPULATED_MOST : BACKEND_SCAN_MAX;
    return 0;
}

static int be_attach(struct backend *be, const struct backend_wish *wish, char *why, size_t why_size)
{
    struct backend_xen *x = xen_of(be);
    enum xen_ring_step step;
    int rc;

    be->features = (struct paging_features){.ring_pages = 1};
    rc = attach_frames(be, wish, &step);
    if (rc > 0 && wish->own_ring)
        return -EOPNOTSUPP;
    if (rc > 0)
        rc = xen_ring_attach(&x->ring, x->xch, x->fmem, x->xce, be->domid, &step) ? -errno : 0;
    if (rc) {
        snprintf(why, why_size, "%s failed: %s", xen_ring_step_text(step),
                 step == XEN_RING_ENABLE ? xen_ring_enable_hint(-rc) : strerror(-rc));
        return rc;
    }
    try_operations(be, wish->features);
    return 0;
}

static bool be_can_outlive(struct backend *be)
{
    return xen_of(be)->ring.resource;
}

/* With as many frames as before, or Xen has no such ring; and its windows are those of the last attach. */
static int be_attach_again(struct backend *be, char *why, size_t why_size)
{
    struct backend_xen *x = xen_of(be);
    struct paging_attach how = {.frames = be->features.ring_pages, .again = true};
    enum xen_ring_step step;
    int rc;

    if (be->features.set & FEATURE_RANGE) {
        how.range_foreign = (uint16_t)be->features.range_foreign;
        how.range_target = (uint16_t)be->features.range_guest;
    }
    rc = xen_ring_attach_frames(&x->ring, x->xch, x->fmem, x->xce, &x->ops, &how, &step) ? -errno : 0;
    if (rc)
        snprintf(why, why_size, "%s failed: %s", xen_ring_step_text(step), strerror(-rc));
    fault_point("attached again");
    return rc;
}

static int be_detach(struct backend *be)
{
    return last_error(xen_ring_detach(&xen_of(be)->ring, true));
}

static void be_abandon(struct backend *be)
{
    xen_ring_abandon(&xen_of(be)->ring);
}

static unsigned int be_slots(struct backend *be)
{
    return xen_ring_slots(&xen_of(be)->ring);
}

static int be_ring_stats(struct backend *be, struct backend_ring_stats *out)
{
    struct paging_ring_stats stats;
    int rc;

    if (!(be->features.set & FEATURE_RING))
        return -EOPNOTSUPP;
    rc = paging_ops_stats(&xen_of(be)->ops, &stats);
    if (rc == 0)
        *out = (struct backend_ring_stats){stats.requests, stats.waits_target, stats.waits_foreign,
                                           stats.high_water};
    return rc;
}

static int be_mark_batch(struct backend *be, uint64_t first, uint32_t nr, uint64_t *bits)
{
    be->calls.mark_batch++;
    return paging_ops_mark(&xen_of(be)->ops, first, nr, bits);
}

static int be_mark(struct backend *be, uint64_t gfn)
{
    struct backend_xen *x = xen_of(be);

    be->calls.nominate++;
    if (xc_mem_paging_nominate(x->xch, be->domid, gfn))
        return -errno;
    be->calls.evict++;
    /* If this is refused (Xen says EBUSY whatever the reason) the page is there with the type paging_out; who
     * touches it raises EVICT_FAIL, and that is repaired. */
    if (xc_mem_paging_evict(x->xch, be->domid, gfn))
        return errno == EBUSY ? -EAGAIN : -errno;
    return 0;
}

static int be_load(struct backend *be, uint64_t gfn, const void *page)
{
    be->calls.load++;
    /* The library takes a pointer to non-const and only copies from it (xc_mem_paging.c: BOUNCE_IN). */
    return last_error(xc_mem_paging_load(xen_of(be)->xch, be->domid, gfn, (void *)(uintptr_t)page));
}

static unsigned int be_load_batch(struct backend *be, struct backend_page *pages, unsigned int n)
{
    struct paging_ops *ops = &xen_of(be)->ops;
    int done;

    for (unsigned int i = 0; i < n; i++)
        ops->preps[i] = (struct paging_prep){.gfn = pages[i].gfn,
                                             .buffer = (uintptr_t)pages[i].contents,
                                             .order = pages[i].order,
                                             .rc = -EAGAIN};
    be->calls.load_batch++;
    fault_point("about to install");
    done = paging_ops_prep(ops, n);
    fault_point("installed");
    for (int i = 0; i < done; i++)
        pages[i].rc = ops->preps[i].rc;
    if (done > 0)
        return (unsigned int)done;
    /* None was tried; whoever tries again says why. Of a single page these two would be good news. */
    pages[0].rc = done == -ENOENT || done == -EEXIST ? -EIO : done;
    return 1;
}

static int be_collapse(struct backend *be, uint64_t gfn)
{
    be->calls.collapse++;
    return paging_ops_collapse(&xen_of(be)->ops, gfn);
}

static int be_repair(struct backend *be, uint64_t gfn)
{
    be->calls.repair++;
    return last_error(xc_mem_paging_prep(xen_of(be)->xch, be->domid, gfn));
}

/*
 * A page in paging_out cannot be prepared: Xen does that from paging_in or paged only, and without a ring the
 * guest is crashed when it touches the page (mem_paging.c: prepare, p2m_mem_paging_populate). So: copy,
 * evict, load the copy.
 */
static int be_unmark(struct backend *be, uint64_t gfn, void *scratch)
{
    struct backend_xen *x = xen_of(be);
    xen_pfn_t pfn = gfn;
    int err = 0;
    void *page = xenforeignmemory_map(x->fmem, be->domid, PROT_READ, 1, &pfn, &err);

    be->calls.map++;
    if (!page)
        return -errno;
    if (!err)
        memcpy(scratch, page, XC_PAGE_SIZE);
    xenforeignmemory_unmap(x->fmem, page, 1);
    if (err)
        return err;
    be->calls.evict++;
    if (xc_mem_paging_evict(x->xch, be->domid, gfn)) {
        /* Or the guest has put another page there, which Xen does not tell: then it can be nominated. */
        be->calls.nominate++;
        be->calls.evict++;
        if (xc_mem_paging_nominate(x->xch, be->domid, gfn) || xc_mem_paging_evict(x->xch, be->domid, gfn))
            return -errno;
    }
    return be_load(be, gfn, scratch);
}

static int be_event_fd(struct backend *be)
{
    return xenevtchn_fd(xen_of(be)->xce);
}

static int be_ack_event(struct backend *be)
{
    return last_error(xen_ring_ack_event(&xen_of(be)->ring));
}

static bool be_next_entry(struct backend *be, struct ring_entry *entry)
{
    struct xen_ring_request req;

    if (!xen_ring_next(&xen_of(be)->ring, &req))
        return false;
    fault_point("took a request");
    *entry = (struct ring_entry){
        .gfn = req.gfn, .vcpu_id = req.vcpu_id, .p2mt = req.p2mt, .backend = req.paging_flags, .nr = 1};
    if (req.nr > 1)
        entry->nr = req.nr < BACKEND_RANGE_MAX ? (uint32_t)req.nr : BACKEND_RANGE_MAX;
    if (req.reason != VM_EVENT_REASON_MEM_PAGING)
        entry->kind |= ENTRY_ALIEN;
    if (req.flags & VM_EVENT_FLAG_VCPU_PAUSED)
        entry->kind |= ENTRY_PAUSED;
    if (req.flags & VM_EVENT_FLAG_FOREIGN)
        entry->kind |= ENTRY_FOREIGN;
    if (req.paging_flags & MEM_PAGING_DROP_PAGE)
        entry->kind |= ENTRY_DROP;
    if (req.paging_flags & MEM_PAGING_EVICT_FAIL)
        entry->kind |= ENTRY_EVICT_FAIL;
    return true;
}

static void be_respond(struct backend *be, const struct ring_entry *entry)
{
    struct xen_ring_request req = {
        .gfn = entry->gfn,
        .vcpu_id = entry->vcpu_id,
        .p2mt = entry->p2mt,
        .paging_flags = entry->backend,
        .reason = VM_EVENT_REASON_MEM_PAGING,
    };

    if (entry->kind & ENTRY_PAUSED)
        req.flags |= VM_EVENT_FLAG_VCPU_PAUSED;
    if (entry->kind & ENTRY_FOREIGN)
        req.flags |= VM_EVENT_FLAG_FOREIGN;
    fault_point("about to answer");
    xen_ring_respond(&xen_of(be)->ring, &req);
}

static int be_push(struct backend *be)
{
    bool answers = xen_of(be)->ring.unpushed != 0;
    int rc;

    if (answers)
        fault_point("about to tell Xen");
    rc = last_error(xen_ring_push(&xen_of(be)->ring));
    if (answers)
        fault_point("told Xen");
    return rc;
}

static int be_life_fd(struct backend *be)
{
    return xs_fileno(xen_of(be)->xsh);
}

static void be_ack_life(struct backend *be)
{
    char **event;

    while ((event = xs_check_watch(xen_of(be)->xsh)))
        free(event);
}

/* Is this the device that hypercalls and maps are made through? */
static bool is_privcmd(int fd)
{
    char link[64], path[PATH_MAX];
    ssize_t n;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof(path) - 1);
    path[n > 0 ? n : 0] = '\0';
    return strstr(path, "privcmd") != NULL;
}

static int be_confine(struct backend *be, int *fd)
{
    struct backend_xen *x = xen_of(be);
    /* The library does not tell its descriptor: it is the lowest one that is free. */
    int next = dup(STDERR_FILENO);

    if (next < 0)
        return -errno;
    close(next);
    x->fmem = xenforeignmemory_open(NULL, 0);
    if (!x->fmem)
        return -errno;
    if (!is_privcmd(next))
        return -ENXIO;
    if (xenforeignmemory_restrict(x->fmem, (domid_t)be->domid))
        return -errno;
    *fd = next;
    return 0;
}

static void *be_map(struct backend *be, const uint64_t *gfns, unsigned int n, int *err)
{
    struct backend_xen *x = xen_of(be);
    xen_pfn_t pfns[BACKEND_SUPER];

    if (n > BACKEND_SUPER) {
        errno = EINVAL;
        return NULL;
    }
    for (unsigned int i = 0; i < n; i++)
        pfns[i] = gfns[i];
    be->calls.map++;
    return xenforeignmemory_map(x->fmem, be->domid, PROT_READ, n, pfns, err);
}

static void be_unmap(struct backend *be, void *address, unsigned int n)
{
    xenforeignmemory_unmap(xen_of(be)->fmem, address, n);
}

static const struct backend_ops xen_ops = {
    .name = "xen",
    .close = be_close,
    .info = be_info,
    .pause = be_pause,
    .unpause = be_unpause,
    .max_gfn = be_max_gfn,
    .populated = be_populated,
    .special = be_special,
    .populate = be_populate,
    .release = be_release,
    .claim = be_claim,
    .forget = be_forget,
    .owned = be_owned,
    .attach = be_attach,
    .can_outlive = be_can_outlive,
    .attach_again = be_attach_again,
    .types = be_types,
    .ask_anew = be_mark_batch, /* marked again: paging_in becomes paged */
    .detach = be_detach,
    .abandon = be_abandon,
    .slots = be_slots,
    .ring_stats = be_ring_stats,
    .mark = be_mark,
    .mark_batch = be_mark_batch,
    .unmark = be_unmark,
    .load = be_load,
    .load_batch = be_load_batch,
    .collapse = be_collapse,
    .repair = be_repair,
    .event_fd = be_event_fd,
    .ack_event = be_ack_event,
    .next_entry = be_next_entry,
    .respond = be_respond,
    .push = be_push,
    .life_fd = be_life_fd,
    .ack_life = be_ack_life,
    .confine = be_confine,
    .map = be_map,
    .unmap = be_unmap,
};

struct backend *backend_xen_open(const char *domain, char *why, size_t why_size)
{
    struct backend_xen *x = calloc(1, sizeof(*x));
    const char *what = NULL;

    if (!x) {
        snprintf(why, why_size, "out of memory");
        return NULL;
    }
    x->be.ops = &xen_ops;
    x->ring.port = -1;
    if (!(x->xch = xc_interface_open(NULL, NULL, 0)))
        what = "the hypervisor (/dev/xen/privcmd)";
    else if (!(x->fmem = xenforeignmemory_open(NULL, 0)))
        what = "foreign memory (/dev/xen/privcmd)";
    else if (!(x->xce = xenevtchn_open(NULL, 0)))
        what = "event channels (/dev/xen/evtchn)";
    else if (!(x->xsh = xs_open(0)))
        what = "xenstore";
    if (what) {
        snprintf(why, why_size, "cannot open %s: %s; run as root in dom0 of a Xen host", what,
                 strerror(errno));
    } else if (xen_domain_find(x->xsh, domain, &x->be.domid)) {
        snprintf(why, why_size, "no domain '%s' here; see xl list", domain);
    } else if (!xs_watch(x->xsh, "@releaseDomain", "gone")) {
        snprintf(why, why_size, "cannot watch xenstore for the end of domains: %s", strerror(errno));
    } else if (open_operations(x, why, why_size) == 0) {
        return &x->be;
    }
    be_close(&x->be);
    return NULL;
}
