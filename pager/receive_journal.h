/*
 * What the next pager has to know if this one is killed: memory that the keeper (keeper.h) allocates and both
 * have. The feeder never does: it was forked before, or gives it up first.
 *
 * Each word has one writer, and is written in an order that leaves something true after each store, because
 * the next instruction may not come. What can be asked of Xen is not in here: which pages are absent.
 *
 * A report of a page:   note slot (state last) -> consume the report -> install -> count -> note that the
 *                       slot goes back, and where in the ring of orders -> put that order -> note it is gone.
 * Killed in between: a slot noted whose report is still in the ring is not noted; a slot going back whose
 * order is not in the ring goes back again; any other slot is the next pager's, contents and all.
 * Many slots installed by one call: each is noted until its own page is counted and its own order put.
 * A page gathered for a superpage leaves its slot before it is in the guest:
 *                       copy to the stage, which outlives us as well -> note that it is there -> the slot
 * goes back as above -> install all or some -> count -> note that the stage is free. Killed in between: what
 * is noted, and absent by Xen's account, is the next pager's, contents and all. An order that may be given
 * once: note where in the ring it will be -> put it. It was given if the ring's index has passed that place.
 */
#ifndef XENPAGING_PC_RECEIVE_JOURNAL_H
#define XENPAGING_PC_RECEIVE_JOURNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "backend.h"
#include "core/gfn_bitmap.h"
#include "core/pagein.h"
#include "core/session.h"
#include "pool.h"

/* Evicting a page fails after it was nominated only if someone maps it between two hypercalls. */
#define RECEIVE_HALF_MAX 512

enum slot_state {
    SLOT_FEEDER, /* the feeder's */
    SLOT_TAKEN,  /* holds a page that the pager has to see to */
    SLOT_GOING,  /* seen to: the order that gives it back is, or will be, at going_at */
};

struct slot_note {
    _Atomic uint32_t state;
    uint32_t bulk;     /* its report is one of the arrivals */
    uint32_t taken_at; /* index of it */
    uint32_t going_at; /* index of the order */
    uint64_t gfn, hash, flags;
};

/* Stages: where the pages of a region that is wholly absent are gathered, to become a superpage. */
#define RECEIVE_STAGES      4
#define RECEIVE_STAGE_BYTES ((size_t)BACKEND_SUPER * POOL_PAGE_SIZE)

struct stage_note {
    _Atomic uint64_t region;                    /* its first gfn + 1; 0: the stage is free */
    _Atomic uint64_t there[BACKEND_SUPER / 64]; /* pages whose contents are in it, also if installed by now */
};

struct receive_supers {
    uint64_t prep, prep_refused;
    uint64_t collapse, collapse_refused; /* regions, and answers that were refusals */
    uint64_t collapse_skipped;           /* regions that were refused to the end */
    uint64_t collapse_ns;                /* time in these calls, most of which the guest stands still */
};

/* Orders that may be given once. */
enum said { SAID_GO, SAID_COMPLETE, SAID_LAST, SAID_KINDS };

/* A pause of the whole domain that is about to be taken, or is taken, to leave the ring. */
enum pausing { PAUSING_NOT, PAUSING_RUNNING, PAUSING_PAUSED /* by someone else, before */ };

/* Facts that belong together: written into the one of two places that does not count, then made to count. */
struct receive_facts {
    uint32_t domid;
    uint8_t uuid[16];
    enum session_state state;
    uint64_t entered_ns[SESSION_STATES];
    uint64_t started_ns;
    double started_at;
    char reason[1024];
    int exit_status;
    bool committed, aborted, left, peer_active, feeder_told_why, recoverable, domain_shutdown;
    uint64_t features, max_gfn, populated_count, special_count, refused, populated_here, claimed;
    uint64_t bytes, asked_rounds, retries, drops_not_told, stray_pages, sigterm_refused;
    uint64_t serve_sent, serve_resent;
    struct paging_features paging; /* in use: of the ring that is taken over, too */
    struct receive_supers supers;
    bool collapsed;
    struct backend_ring_stats ring_stats;
    uint64_t early_pages, early_unmarked, early_ns, late_ns;
    struct backend_calls calls;
    struct pagein_counts counts;
    struct latency stalls;
};

struct receive_journal {
    /* The keeper's. */
    pid_t keeper, pager, feeder;
    _Atomic uint32_t feeder_failures; /* to start one */
    _Atomic uint32_t feeders;         /* so many there have been; after feeder */
    _Atomic uint32_t feeder_ended;    /* the last one has; after the two that follow */
    int feeder_status;
    struct rusage feeder_usage;
    uint64_t deaths; /* of pagers */

    /* The pager's. generation: of channels, that the last feeder was in. The indices of this process's ends
     * of the rings are in pool. */
    uint32_t generation;
    struct pool pool;
    _Atomic uint32_t active;  /* the set is agreed on, and the guest is not held by us */
    _Atomic uint32_t depends; /* a guest may run here: from now on there has to be a pager */
    _Atomic uint32_t over;    /* given up before the guest could run: from now on there must be none */
    _Atomic uint32_t ended;   /* it ends in order */
    _Atomic uint32_t pausing; /* enum pausing */
    _Atomic uint64_t settled; /* pages */
    _Atomic uint64_t installed, dropped, replaced;
    _Atomic uint64_t said[SAID_KINDS]; /* 0, or SAID_AT | index in the ring of orders */
    _Atomic uint32_t n_half;
    uint64_t half[RECEIVE_HALF_MAX]; /* nominated, not evicted; one may stand here twice */
    struct stage_note stages[RECEIVE_STAGES];
    _Atomic uint32_t facts_count; /* 0: none yet; else facts[facts_count % 2] counts */
    struct receive_facts facts[2];

    struct slot_note slots[]; /* of pool */
};

#define SAID_AT (UINT64_C(1) << 32)

size_t receive_journal_bytes(const struct pool *pool);

/* For that pool, in memory that the children of this process share with it. NULL with errno. */
struct receive_journal *receive_journal_create(const struct pool *pool);

/* A report of a page is about to be consumed, from that ring of the pool. */
void receive_journal_take(struct receive_journal *j, const struct pool_ring *ring,
                          const struct pool_descriptor *page);
/* Give a slot back to the feeder. False if there is no room for the order. */
bool receive_journal_give_back(struct receive_journal *j, uint32_t slot);
/* There is no feeder: the slot is the next one's, with all the others that hold nothing. */
void receive_journal_keep_back(struct receive_journal *j, uint32_t slot);

/*
 * A stage that is free is to gather the region of that first gfn; the contents of gfn are in it; and it is
 * free again: everything that was in it is installed, counted, or not wanted any more.
 */
void receive_journal_stage(struct receive_journal *j, unsigned int stage, uint64_t first);
void receive_journal_staged(struct receive_journal *j, unsigned int stage, uint64_t gfn);
void receive_journal_unstage(struct receive_journal *j, unsigned int stage);
/* Is any stage in use? */
bool receive_journal_gathers(const struct receive_journal *j);
/* Are its contents in a stage? */
bool receive_journal_has_staged(const struct receive_journal *j, uint64_t gfn);

/* Put an order that may be given once. False if there is no room for it. */
bool receive_journal_say(struct receive_journal *j, enum said what, const struct pool_descriptor *order);
bool receive_journal_said(const struct receive_journal *j, enum said what);

/* What the pages that are settled have come to. */
void receive_journal_count(struct receive_journal *j, const struct pagein_counts *counts);

/* The facts that count now (NULL: none do), and a place for those that are to count. */
const struct receive_facts *receive_journal_facts(const struct receive_journal *j);
struct receive_facts *receive_journal_facts_to_write(struct receive_journal *j);
void receive_journal_facts_written(struct receive_journal *j);

/* The pager before this one is dead: what it was amid of is done, or undone. */
void receive_journal_take_over(struct receive_journal *j);

/*
 * Two notes of each gfn, in a memfd that the keeper holds: serve owes us an answer for it (noted before it is
 * asked, until the page has come by whatever way); and it is zero, whether installed or not. make: empty, for
 * gfns below nr; else as the last pager left them. words NULL, with errno: neither. free: of this process.
 */
struct receive_notes {
    struct gfn_bitmap asked, zeros;
    size_t bytes; /* mapped */
};

struct receive_notes receive_journal_notes(int fd, uint64_t nr, bool make);
void receive_journal_notes_free(struct receive_notes *notes);

/* So much memory behind fd, and where it is mapped (munmap() it). 0 or -errno. */
int receive_map_file(int fd, size_t bytes, void **map);

/*
 * The set: a bitmap in a memfd that the keeper holds, made when the set is known. write: all that is in it is
 * among those (as many gfns as pages has); 0 or -errno. map: to be read only; words NULL with errno.
 */
int receive_journal_write_set(int fd, const struct pagein *pages, const struct gfn_bitmap *among);
struct gfn_bitmap receive_journal_map_set(int fd, uint64_t nr);

#endif
