/*
 * The one interface between the pager and whatever holds the domain: Xen (backend_xen.c), or the
 * deterministic fake of the tests. Errors are negative errno values. Nothing here blocks on the network; only
 * the calls said to allocate do.
 */
#ifndef XENPAGING_PC_BACKEND_H
#define XENPAGING_PC_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/ring_entry.h"
#include "paging_features.h"

#define BACKEND_SCAN_MAX    1024u /* gfns of one types() call */
#define BACKEND_SPECIAL_MAX 64u
#define BACKEND_BATCH_MAX   256u /* gfns of one populate() call */
#define BACKEND_LOAD_MAX    64u  /* pages of one load_batch() call */
#define BACKEND_RANGE_MAX   256u /* gfns of one request (XEN_VM_EVENT_MAX_RANGE) */
#define BACKEND_SUPER       512u /* pages of a superpage, 2 MiB */
#define BACKEND_HOLE        0u   /* of types(): nothing is there */
#define BACKEND_PAGE        1u   /* a page is, also if it is nominated */
#define BACKEND_ABSENT      2u   /* it was evicted, and has not come back */
#define BACKEND_SUSPENDED   2u   /* SHUTDOWN_suspend of Xen */

struct backend_domain {
    bool exists;
    bool dying;
    bool shutdown; /* powered off, suspended or crashed, but still there */
    bool paused;   /* by the toolstack, or by us */
    bool ran;      /* some vcpu has had the CPU since it was built */
    bool hvm;
    bool hap;
    unsigned int shutdown_reason; /* SHUTDOWN_* of Xen */
    unsigned int vcpus;
    uint64_t pages;       /* populated now */
    uint64_t paged_pages; /* evicted now */
    uint8_t uuid[16];
};

/* How often each hypercall was made. */
struct backend_calls {
    uint64_t scan, populate, nominate, evict, load, repair, map, info;
    uint64_t mark_batch, load_batch, collapse, release;
};

/* Contents for one gfn, or with order 9 for BACKEND_SUPER gfns from an aligned one on. */
struct backend_page {
    uint64_t gfn;
    const void *contents;
    unsigned int order; /* 0 or 9 */
    int rc;             /* OUT: as load() */
};

/* What the session would like of attach(). */
struct backend_wish {
    unsigned int features; /* FEATURE_* that may be used */
    bool own_ring; /* -EOPNOTSUPP rather than a ring in the guest's memory, which may not be there yet */
    unsigned int range_foreign, range_guest;
};

/* What Xen has counted since the ring was set up. */
struct backend_ring_stats {
    uint64_t requests;
    uint64_t waits_guest, waits_foreign; /* times someone found it full */
    uint32_t high_water;                 /* most slots in use */
};

struct backend;

struct backend_ops {
    const char *name;
    void (*close)(struct backend *be);

    /* -errno only if the domain cannot be asked about; a domain that is not there is exists = false. */
    int (*info)(struct backend *be, struct backend_domain *out);
    /* Count a pause of our own, and take it back. The domain runs when all of them are taken back. */
    int (*pause)(struct backend *be);
    int (*unpause)(struct backend *be);

    /* Largest gfn the domain ever had. */
    int (*max_gfn)(struct backend *be, uint64_t *max);
    /* Sets the bits of those of gfns first .. first+n-1 that have a page; n at most scan_most. bits: all n
     * are overwritten. -EAGAIN: scan_most is less from now on. */
    int (*populated)(struct backend *be, uint64_t first, uint32_t n, uint64_t *bits);
    /* gfns that toolstack and device models share with the guest: never to be marked. Returns how many. */
    int (*special)(struct backend *be, uint64_t gfns[BACKEND_SPECIAL_MAX]);

    /*
     * Put an empty page of memory at each of n gfns (at most BACKEND_BATCH_MAX) that have none. 0, or -errno:
     * -ENOMEM there is not enough, and some may have got one.
     */
    int (*populate)(struct backend *be, const uint64_t *gfns, unsigned int n);
    /* Make holes of n gfns (at most BACKEND_BATCH_MAX), all of them absent. 0 or -errno. */
    int (*release)(struct backend *be, const uint64_t *gfns, unsigned int n);
    /*
     * Set memory of the host aside for that many pages that the domain does not have now; each page it gets
     * counts against them. 0 pages: no longer. 0, or -errno: -ENOMEM the host has not got them.
     */
    int (*claim)(struct backend *be, uint64_t pages);
    /* Remove what the toolstack wrote about the session (xenstore: /local/domain/DOMID/postcopy). */
    void (*forget)(struct backend *be, const char *session);
    /* Does xenstore still say that the session owns the domain? */
    bool (*owned)(struct backend *be, const char *session);

    /*
     * Attach to the paging ring, and find out by trying what there is of what is wished for (be->features);
     * what there is not is no failure. why gets a sentence on failure.
     */
    int (*attach)(struct backend *be, const struct backend_wish *wish, char *why, size_t why_size);
    /* Attached: does this ring outlive its pager, so that the next one can attach_again()? */
    bool (*can_outlive)(struct backend *be);
    /*
     * In the place of a pager that is gone, which had be->features in use: set by the caller. Whatever its
     * ring held is forgotten: vcpus that waited go on, and ask again. -ENOENT: there is no such ring (any
     * more).
     */
    int (*attach_again)(struct backend *be, char *why, size_t why_size);
    /* BACKEND_HOLE, _PAGE or _ABSENT for gfns first .. first+n-1, n at most BACKEND_SCAN_MAX. */
    int (*types)(struct backend *be, uint64_t first, unsigned int n, uint8_t *types);
    /*
     * Attached again. Of gfns first .. first+nr-1 those whose bit is set, all of them absent: a map from
     * another domain that was to wait for one asks again. bitmap is used up. Whatever be->features says: a
     * Xen whose ring outlives its pager has it.
     */
    int (*ask_anew)(struct backend *be, uint64_t first, uint32_t nr, uint64_t *bitmap);
    /* Leave it, paging disabled. -EBUSY: try again later. */
    int (*detach)(struct backend *be);
    /* Let go of everything mapped, without asking the domain. */
    void (*abandon)(struct backend *be);
    unsigned int (*slots)(struct backend *be);
    /* -EOPNOTSUPP without FEATURE_RING. */
    int (*ring_stats)(struct backend *be, struct backend_ring_stats *out);

    /*
     * Evict one page: 0, or -errno when it stays (-EBUSY: Xen refuses it, which is normal). -EAGAIN: it is
     * nominated and stays; who touches it raises EVICT_FAIL, and it has to be repaired or unmarked before the
     * ring goes.
     */
    int (*mark)(struct backend *be, uint64_t gfn);
    /*
     * Make a nominated page that nobody has touched an ordinary one again. The domain is paused. scratch is a
     * page to work in. 0, or -EBUSY: someone still maps it, try again.
     */
    int (*unmark)(struct backend *be, uint64_t gfn, void *scratch);
    /* With FEATURE_MARK, instead: backend_mark() of backend_batch.h. */
    int (*mark_batch)(struct backend *be, uint64_t first, uint32_t nr, uint64_t *bits);
    /* Give an evicted page its contents: 0, -ENOENT no longer evicted, -ENOMEM, or worse. */
    int (*load)(struct backend *be, uint64_t gfn, const void *page);
    /*
     * With FEATURE_PREP, instead: backend_load() of backend_batch.h. An rc may be -EEXIST, too (there is a
     * page already), of order 9 -EBUSY (not all of it is absent) or -ENOMEM (which does not end the call
     * then), and -EFAULT: the contents could not be read just now.
     */
    unsigned int (*load_batch)(struct backend *be, struct backend_page *pages, unsigned int n);
    /* With FEATURE_SUPERPAGES: 512 single pages from gfn on become one entry. 0; -EEXIST they are; -EBUSY
     * some are mapped or not there; -ENOMEM; -EOPNOTSUPP this domain cannot have it. The domain is paused
     * meanwhile. */
    int (*collapse)(struct backend *be, uint64_t gfn);
    /* Flip the type of a nominated page back: 0, -ENOENT, -EINVAL there is no page. */
    int (*repair)(struct backend *be, uint64_t gfn);

    int (*event_fd)(struct backend *be); /* readable when the ring has something */
    int (*ack_event)(struct backend *be);
    bool (*next_entry)(struct backend *be, struct ring_entry *entry);
    void (*respond)(struct backend *be, const struct ring_entry *entry);
    int (*push)(struct backend *be);

    int (*life_fd)(struct backend *be); /* readable when some domain has shut down or gone */
    void (*ack_life)(struct backend *be);

    /* This process, a fork of the one that opened the backend, is to do nothing but map(): give up the right
     * to anything else. *fd: the descriptor that map() needs, or -1. 0 or -errno. */
    int (*confine)(struct backend *be, int *fd);
    /*
     * Map n (at most BACKEND_SUPER) pages of the domain read-only, contiguously in the order given. err[i]
     * gets -errno for a page that could not be mapped (its address must not be touched). NULL with errno when
     * nothing was mapped.
     */
    void *(*map)(struct backend *be, const uint64_t *gfns, unsigned int n, int *err);
    void (*unmap)(struct backend *be, void *address, unsigned int n);
};

struct backend {
    const struct backend_ops *ops;
    uint32_t domid;
    struct paging_features features; /* in use; of attach() */
    uint32_t scan_most;              /* gfns of one populated() call, a multiple of 64 */
    struct backend_calls calls;
    uint64_t populated_to_evict; /* pages that were put there only because Xen evicts nothing else */
};

/*
 * Open the domain of that name or number on Xen. Allocates. NULL with a sentence in why. events: open what
 * event_fd and life_fd need, too.
 */
struct backend *backend_xen_open(const char *domain, char *why, size_t why_size);

#endif
