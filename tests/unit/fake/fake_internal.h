/* The fake domain's parts, to each other. What is called with its lock held says so. */
#ifndef FAKE_INTERNAL_H
#define FAKE_INTERNAL_H

#include <pthread.h>
#include <stddef.h>

#include "fake_domain.h"

struct fake_domain {
    struct backend be;
    struct fake_config config;
    struct fake_results *results;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint8_t *memory;
    uint8_t *type;
    uint8_t *nominated; /* the page is there although the type says that it is paged in */
    uint8_t *own; /* what is in the page is the guest's own, not the source's: 1 after replace or drop */
    int pauses, our_pauses;
    bool dying, attached, ran;
    int event_fd, life_fd;

    uint8_t *super; /* by region of 512 gfns: it is one entry */
    unsigned int slots, range_foreign, range_guest;
    struct ring_entry ring[FAKE_SLOTS_MANY];
    unsigned int head, tail; /* entries not taken yet */
    struct ring_entry taken[FAKE_SLOTS_MANY];
    unsigned int n_taken; /* taken and not answered */
    struct ring_entry answers[FAKE_SLOTS_MANY];
    unsigned int n_answers; /* answered and not pushed */
    bool waits[FAKE_VCPUS];
    pthread_t threads[FAKE_VCPUS];
    uint64_t loads, unmarks, reads, busy;
    uint64_t collapse_took;
    struct backend_ring_stats stats;
};

/* A thread's argument; vcpu_main() frees it. */
struct vcpu_start {
    struct fake_domain *d;
    unsigned int vcpu;
};

extern const struct backend_ops fake_ops;

static inline struct fake_domain *of(struct backend *be)
{
    return (struct fake_domain *)((char *)be - offsetof(struct fake_domain, be));
}

static inline uint8_t *page_of(struct fake_domain *d, uint64_t gfn)
{
    return d->memory + gfn * FAKE_PAGE;
}

/* The code under test has done what Xen would not let it do, or would punish. */
void violation(struct fake_domain *d, const char *text);

/* An eventfd. */
void kick(int fd);

/* With the lock held. foreign: of another domain's request, else of the guest's. */
bool slot_free(struct fake_domain *d, bool foreign);

/* With the lock held, and a slot free. */
void put_entry(struct fake_domain *d, uint64_t gfn, uint32_t vcpu, uint32_t kind, uint32_t nr);

/* With the lock held: dom0 maps a page of the guest. A request, no waiting. */
void foreign(struct fake_domain *d, uint64_t gfn);

/* With the lock held: a vcpu reads a page that is there, and knows what has to be in it. */
void look(struct fake_domain *d, uint64_t gfn);

void *vcpu_main(void *data);

static inline bool marked(const struct fake_domain *d, uint64_t gfn)
{
    return d->type[gfn] == FAKE_PAGED || d->type[gfn] == FAKE_PAGING_IN || d->type[gfn] == FAKE_PAGING_OUT;
}

#endif
