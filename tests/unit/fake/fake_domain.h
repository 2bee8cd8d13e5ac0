/*
 * A domain made of memory and a lock: types of gfns as in Xen's p2m, a ring of few slots, vcpus that are
 * threads. Deterministic but for the order in which threads run. Every rule of the ring that the pager could
 * break is counted in `violations`.
 */
#ifndef FAKE_DOMAIN_H
#define FAKE_DOMAIN_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "backend.h"

#define FAKE_SLOTS      8 /* of a ring of one page */
#define FAKE_SLOTS_MANY 64
#define FAKE_PAGES_MANY 8
#define FAKE_VCPUS      8
#define FAKE_PAGE       4096u
#define FAKE_SCAN_MOST  (1u << 15) /* of a Xen that tells many gfns at once */

enum fake_type { FAKE_HOLE, FAKE_RAM, FAKE_PAGING_OUT, FAKE_PAGED, FAKE_PAGING_IN };

/*
 * Where a pager kills itself: at the at[n]-th point that the n-th one comes to (0: not), a point being the
 * beginning or the end of a call to the domain, or a fault_point(). The last of at[] is every later pager's.
 */
#define FAKE_CRASHES 4
struct fake_crash {
    uint64_t at[FAKE_CRASHES];
    pid_t unpause;                /* the domain that its user unpauses when it may run; 0: by other means */
    volatile pid_t pager;         /* the present one */
    volatile unsigned int pagers; /* started so far */
    volatile uint64_t points;     /* the present one has come to */
    bool when_depended;           /* the first one dies as soon as a guest depends on it */
    volatile uint64_t depended;   /* points of the first one before a guest depended on it; 0: none has */
    uint64_t crashed;
    char where[64]; /* the last */
};

/* Figures that outlive the process: in memory shared with the test. */
struct fake_results {
    uint64_t touches, wrong_pages, violations, marks, loads, replaced, dropped, foreign;
    uint64_t blocked_vcpus;
    uint64_t first_wrong_gfn;
    uint64_t populated, claim, claimed, forgotten, released;
    uint64_t our_pauses;                          /* left when the domain was closed */
    volatile bool suspended;                      /* set by the test */
    int ready;                                    /* the domain was opened */
    uint64_t taken_over;                          /* times another pager took the ring */
    uint64_t asked_anew;                          /* pages whose foreign requests were put again for it */
    uint64_t ranges;                              /* requests for more than one gfn */
    uint64_t supers, collapsed;                   /* superpages there are, and those of them by collapse */
    uint64_t collapse_first_ns, collapse_last_ns; /* when the first and the last of them began */
    uint64_t collapse_ns;                         /* what all but the last have taken */
    uint64_t most_in_a_call, notified; /* pages installed by one call; push() with something to push */
    struct fake_crash crash;
};

struct fake_config {
    uint64_t nr_gfns; /* 0 .. nr-1 */
    uint64_t hole_first, hole_count;
    uint64_t special_gfn;     /* one page that must not be marked */
    uint64_t refuse_every;    /* mark of every n-th gfn is refused; 0: none */
    uint64_t half_every;      /* mark of every n-th gfn fails after nominate; 0: none */
    unsigned int nomem_every; /* every n-th load fails once with -ENOMEM; 0: none */
    unsigned int load_us;     /* what a load costs */
    unsigned int seed;        /* of the contents; 0: no contents (a destination) */
    uint64_t spoil_gfn;       /* after its load this page gets a wrong byte; UINT64_MAX: none */
    bool running;             /* not paused when opened */
    bool pv;
    bool ran;      /* before it was opened */
    bool switched; /* a destination without pages, but for the special one */
    /* libxc's part between early marking and the set: it populates these gfns, whatever is there, right
     * before receive's first pause; and if the ring is full then, Xen tells nobody. */
    uint64_t needed_first, needed_count;
    bool needed_untold;
    uint64_t map_early;     /* dom0 maps that page as soon as it is marked; 0: none */
    bool no_claim;          /* the host has no memory to claim */
    uint64_t populate_most; /* nor for more than so many pages; 0: it has */
    bool foreign_uuid;
    /* What the guest does once it runs. */
    bool mortal_ring; /* ends with its pager */
    unsigned int vcpus;
    uint64_t touches; /* per vcpu */
    unsigned int drop_percent, replace_percent, foreign_percent;
    bool reads_all;           /* vcpu 0 reads each page when it is done with its touches */
    unsigned int features;    /* FEATURE_*: what this Xen has */
    unsigned int fault_every; /* every n-th page of a load_batch() cannot be read once; 0: none */
    uint64_t collapse_busy;   /* this region cannot be collapsed; 0: all can, */
    unsigned int busy_tries;  /* so often; 0: ever */
    unsigned int collapse_us; /* how long the guest stands for one */
    int collapse_rc;          /* no region can */
    bool map_then_touch;      /* dom0 maps page 0 before anything else; then vcpu 0 touches page 255 */
    bool auto_unpause;        /* take back the toolstack's pause when the pager has taken back its own */
    struct fake_results *results;
};

struct fake_domain;

/* The contents that gfn has at the source. */
void fake_contents(uint64_t gfn, unsigned int seed, uint8_t page[FAKE_PAGE]);

/* The config that the next open uses (a process opens one domain). */
void fake_prepare(const struct fake_config *config);
/* event_fd and life_fd of the next open; -1: new ones. */
void fake_prepare_events(int event_fd, int life_fd);
struct backend *fake_open(const char *domain, char *why, size_t why_size);

/*
 * A domain in a process of its own, which a pager that is killed leaves as it is, but for a call that was
 * under way and is completed. fake_remote_prepare() before the fork of both, fake_remote_serve() in the
 * domain's process (it never returns), fake_remote_open() in the pagers'. fake_remote_check() has the domain
 * do fake_check_all(), after the session.
 */
void fake_remote_prepare(void);
/* What was prepared before is closed already. */
void fake_remote_forget(void);
void fake_remote_serve(const struct fake_config *config) __attribute__((noreturn));
struct backend *fake_remote_open(const char *domain, char *why, size_t why_size);
void fake_remote_check(void);

/* A point at which this process may have to die; and that it is a pager. */
void fake_crash_point(const char *where);
void fake_crash_pager(struct fake_crash *crash);

/* Of the domain that is open in this process: what tests do to it from outside. */
void fake_destroy(void);
void fake_toolstack_unpause(void);
/* dom0 maps gfn. */
void fake_foreign(uint64_t gfn);
/* No page can be installed. */
void fake_out_of_memory(bool out);

/* After the session: compare every page with what it should hold. Counts into results. */
void fake_check_all(void);

#endif
