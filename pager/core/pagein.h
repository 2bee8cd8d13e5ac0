/*
 * What the destination knows of each gfn, and what follows from each event. Pure: no I/O, the clock is an
 * argument, nothing is allocated after pagein_init().
 *
 *     absent ──▶ requested ──▶ arrived ──▶ present        (a page nobody asked for goes from absent to
 * arrived) └────────────┴───────────┴──▶ dropped | replaced
 *
 * A duplicate, a late answer, a DROP and -ENOENT from prep are legal in every state. Every ring entry is
 * answered exactly once: at once (PAGEIN_ANSWER), or when its page is there or gone (pagein_release()).
 */
#ifndef XENPAGING_PC_PAGEIN_H
#define XENPAGING_PC_PAGEIN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/latency.h"
#include "core/ring_entry.h"

#define PAGEIN_WAITERS 512u /* no ring has more slots (64 pages: xen/include/public/vm_event.h) */
#define PAGEIN_STATE   0x0f /* of a byte of pagein.state */

enum page_state {
    PAGE_KEPT, /* a hole, or a page that was never marked */
    PAGE_ABSENT,
    PAGE_REQUESTED,
    PAGE_ARRIVED, /* its contents are here, it is not installed yet */
    PAGE_PRESENT,
    PAGE_DROPPED,  /* the guest released it */
    PAGE_REPLACED, /* the guest put another page there; Xen does not tell, prep gives ENOENT */
};

struct pagein_counts {
    uint64_t set; /* pages marked */
    uint64_t installed, dropped, replaced;
    uint64_t installed_faulted; /* of installed: someone had asked for it */
    uint64_t asked;             /* gfns asked of the source, repeats for bad hashes not counted */
    uint64_t entries_range;     /* entries that were for more than one gfn */
    uint64_t asked_with_others; /* of asked: nobody waited for them, their neighbour was */
    uint64_t promoted;          /* of those: a vcpu came to wait before they had come */
    uint64_t entries_guest, entries_foreign, entries_drop, entries_evict_fail, entries_alien;
    uint64_t entries_unknown_gfn; /* above everything this domain had; answered */
    uint64_t guest_faults;        /* guest entries whose page was absent, requested or arrived */
    uint64_t answered_at_once;    /* guest entries whose page was there already */
    uint64_t duplicates;          /* pages that came again */
    uint64_t late;                /* pages that came after the guest let go of them */
    uint64_t nomem;               /* installs that Xen had no memory for; each is tried again */
    uint64_t bad_hash;
    uint64_t absent_at_first_fault; /* outstanding when the first guest vcpu faulted */
    bool guest_has_faulted;
};

struct pagein_waiter {
    struct ring_entry entry;
    uint64_t since_ns;
    bool used;
};

struct pagein {
    uint8_t *state; /* page_state and flags, a byte a gfn */
    uint64_t nr;
    uint64_t absent, requested, arrived; /* gfns in these states */
    uint64_t bad; /* of requested: came twice with a wrong hash, will not be asked for again */
    unsigned int waiting;
    bool foreign_waits; /* as in 2017: a foreign request keeps its slot until the page is there */
    struct pagein_counts counts;
    struct latency stalls; /* of guest vcpus: entry taken from the ring to answer */
    struct pagein_waiter waiters[PAGEIN_WAITERS];
};

enum pagein_verdict {
    PAGEIN_ANSWER, /* answer this entry now */
    PAGEIN_WAIT,   /* kept until pagein_release() */
    PAGEIN_REPAIR, /* flip the type back (prep without contents), then call pagein_repaired() */
};

struct pagein_action {
    enum pagein_verdict verdict;
    bool ask;     /* ask the source for gfn; or once more, if it is on its way but not known to be urgent */
    bool dropped; /* gfn was outstanding and is not any more: tell the source, and pagein_release(gfn) */
};

enum pagein_arrival { PAGEIN_INSTALL, PAGEIN_DUPLICATE, PAGEIN_LATE, PAGEIN_UNEXPECTED };

/* For gfns 0 .. nr-1. 0 or -ENOMEM. */
int pagein_init(struct pagein *p, uint64_t nr);
void pagein_free(struct pagein *p);

/* gfn is absent now. The caller has evicted it. */
void pagein_mark(struct pagein *p, uint64_t gfn);
/* Those of 64 gfns from first on whose bits are set. */
void pagein_mark_bits(struct pagein *p, uint64_t first, uint64_t bits);

/* The end of the run of absent or requested gfns that begins with first; first if it is neither. */
uint64_t pagein_wanted_end(const struct pagein *p, uint64_t first);

/* The end, at most `end`, of the run of gfns that begins with first and were marked, whatever has become of
 * them. */
uint64_t pagein_marked_end(const struct pagein *p, uint64_t first, uint64_t end);

static inline enum page_state pagein_state(const struct pagein *p, uint64_t gfn)
{
    return gfn < p->nr ? (enum page_state)(p->state[gfn] & PAGEIN_STATE) : PAGE_KEPT;
}

/* Pages that the source still has to bring. */
static inline uint64_t pagein_outstanding(const struct pagein *p)
{
    return p->absent + p->requested + p->arrived;
}

/* An entry was taken out of the ring. */
struct pagein_action pagein_entry(struct pagein *p, const struct ring_entry *entry, uint64_t now_ns);

/*
 * Someone wants what follows a page, too, up to end. Takes the next run of absent gfns at or above *first and
 * below end: they are requested now. Returns its length, at most `most`, with its first gfn in *first; 0 when
 * there is none.
 */
uint64_t pagein_want_run(struct pagein *p, uint64_t *first, uint64_t end, uint64_t most);

/* What prep without contents said (0 or -errno) to an entry whose verdict was PAGEIN_REPAIR. */
struct pagein_action pagein_repaired(struct pagein *p, const struct ring_entry *entry, int rc,
                                     uint64_t now_ns);

/* Is gfn the only one of first .. first+nr-1 that is not absent, and has nobody asked for it? */
bool pagein_only_arrival(const struct pagein *p, uint64_t first, uint64_t nr, uint64_t gfn);

/* Are all of first .. first+nr-1 settled, none of them dropped, and some of them installed by us? */
bool pagein_all_here(const struct pagein *p, uint64_t first, uint64_t nr);

/* The contents of gfn have come. Only PAGEIN_INSTALL changes anything. */
enum pagein_arrival pagein_arrived(struct pagein *p, uint64_t gfn);

/*
 * The contents of an arrived page do not match their hash. Returns true if the source should be asked once
 * more; false if that was the second time: the page stays absent for good.
 */
bool pagein_bad_hash(struct pagein *p, uint64_t gfn);

/*
 * What prep with contents said to an arrived page: 0, -ENOENT or -EEXIST (the guest has put another there),
 * or another -errno. Returns true if that settles the page: then pagein_release(gfn). False: try again later,
 * the page stays arrived.
 */
bool pagein_installed(struct pagein *p, uint64_t gfn, int rc);

/* Does any entry wait for gfn? */
bool pagein_awaited(const struct pagein *p, uint64_t gfn);

/* Take the next entry that waited for gfn, to be answered now. False when there is none left. */
bool pagein_release(struct pagein *p, uint64_t gfn, uint64_t now_ns, struct ring_entry *entry);

/* Take the next foreign entry that waits, whatever for, to be answered now; none waits from now on. False
 * when there is none left. */
bool pagein_release_foreign(struct pagein *p, struct ring_entry *entry);

#endif
