/*
 * The memory that pager and feeder share: page slots, and three rings of descriptors. The feeder is not
 * trusted: whatever it writes here, the pager stays within its own memory. All positions that the pager
 * relies on are its private copies. They outlive it (receive_journal.h): an entry is whole before the index
 * moves, and what the other end sees follows last.
 */
#ifndef XENPAGING_PC_POOL_H
#define XENPAGING_PC_POOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POOL_PAGE_SIZE 4096u
#define POOL_SLOTS_MAX 65536u
#define POOL_TEXT_SIZE 256u
#define POOL_VALUES    6u
#define POOL_ASK_MAX   256u
#define POOL_ZERO_MAX  512u

/* Pager to feeder. */
enum pool_order {
    ORDER_START = 1, /* values: uuid low, uuid high, features offered, features required */
    ORDER_RUN,       /* first gfn, count: of the set, or (resumed) of what is here of it */
    ORDER_SET_END,   /* pages, hash */
    ORDER_GO,        /* open the credit: every slot, not only one for each page that is asked for */
    ORDER_ASK,       /* first gfn, count (1 to POOL_ASK_MAX), urgency */
    ORDER_ASK_AGAIN, /* gfn */
    ORDER_DROP,      /* gfn */
    ORDER_SLOT,      /* slot is the feeder's again */
    ORDER_VERIFY,    /* no values */
    ORDER_COMPLETE,  /* the six counts of COMPLETE */
    ORDER_GONE,      /* reason; then exit, unless the second value says that more is to come */
    ORDER_ERROR,     /* code; then exit */
    ORDER_LEAVE,     /* exit: nothing more is to come */
};

/* Feeder to pager. */
enum pool_report {
    REPORT_HELLO = 1, /* features, populated, nr_gfns, generation */
    REPORT_SET,       /* pages, hash as serve computed them */
    REPORT_PAGE,      /* slot; gfn, hash, PAGE_COMPARE */
    REPORT_ZERO,      /* first gfn, count (1 to POOL_ZERO_MAX): these pages are zero */
    REPORT_VERIFIED,  /* pages sent with COMPARE */
    REPORT_COMPLETE,  /* set, sent, resent */
    REPORT_FAILED, /* wire code or FEEDER_*, who (FAILED_BY_*); text in the shared text area; the feeder ends
                    */
};

#define PAGE_COMPARE 1u

#define FEEDER_LOST    256u /* the connection broke */
#define FEEDER_NO_DIAL 257u /* it never came about */
#define FEEDER_SANDBOX 258u /* privileges could not be given up */

#define FAILED_HERE   0u
#define FAILED_REFUSE 1u /* the peer's REFUSE */
#define FAILED_PEER   2u /* the peer's ERROR */

struct pool_descriptor {
    uint32_t type;
    uint32_t slot;
    uint64_t value[POOL_VALUES];
    uint64_t pad;
};

/* One end of a single-producer single-consumer ring. */
struct pool_ring {
    struct pool_ring_shared *shared;
    struct pool_descriptor *entries;
    uint32_t size; /* a power of two */
    uint32_t mine; /* the index this end moves */
    int event_fd;  /* wakes the consumer */
    int space_fd;  /* wakes the producer: the other ring's event_fd */
};

struct pool {
    void *base;
    size_t bytes;
    uint8_t *pages; /* slot i at pages + i * POOL_PAGE_SIZE */
    char *text;     /* POOL_TEXT_SIZE bytes, the feeder's last words */
    uint32_t slots;
    uint32_t asked;            /* the first of these are for what was asked for, the others are credit */
    struct pool_ring orders;   /* pager produces */
    struct pool_ring reports;  /* feeder produces: what came on the control channel */
    struct pool_ring arrivals; /* feeder produces: what came on bulk channels; pages only */
};

/*
 * Make a pool of that many slots (2 to POOL_SLOTS_MAX) in a sealed memfd, all of it allocated. Both processes
 * use the same struct after a fork. Returns 0, or -errno with nothing left.
 */
int pool_create(struct pool *pool, uint32_t slots);

void pool_destroy(struct pool *pool);

/* Is the slot one of those for what was asked for? */
static inline bool pool_slot_asked(const struct pool *pool, uint32_t slot)
{
    return slot < pool->asked;
}

/* As many slots that are free again are worth a wake-up of the feeder, and a frame to serve. */
uint32_t pool_quantum(const struct pool *pool);

static inline uint8_t *pool_page(const struct pool *pool, uint32_t slot)
{
    return pool->pages + (size_t)slot * POOL_PAGE_SIZE;
}

/* Free entries that the producer sees; never more than size. */
uint32_t pool_ring_space(const struct pool_ring *ring);

/* Put a descriptor; false when the ring is full. Publish with pool_ring_notify(). */
bool pool_ring_put(struct pool_ring *ring, const struct pool_descriptor *descriptor);

/* Wake the consumer. */
void pool_ring_notify(struct pool_ring *ring);

/*
 * The producer wants to be woken when there is space. Returns true if there is some already (at least
 * wanted), and then no wake comes.
 */
bool pool_ring_want_space(struct pool_ring *ring, uint32_t wanted);

/*
 * Copy the next descriptor out: 1, 0 when there is none, -EPROTO if the producer's index is impossible. Wakes
 * a producer that wanted space.
 */
int pool_ring_take(struct pool_ring *ring, struct pool_descriptor *descriptor);

/* The same in two steps: the descriptor stays until it is consumed. */
int pool_ring_peek(struct pool_ring *ring, struct pool_descriptor *descriptor);
void pool_ring_consume(struct pool_ring *ring);

/*
 * This end is taken over from a process that was killed: show the other end how far it came, and wake it
 * where it may have been left asleep.
 */
void pool_ring_take_over_producer(struct pool_ring *ring);
void pool_ring_take_over_consumer(struct pool_ring *ring);

/* The process at the other end is dead, and another is to begin with an empty ring. */
void pool_ring_restart(struct pool_ring *ring);
/* This is that process: its end of an empty ring. */
void pool_ring_begin(struct pool_ring *ring);

/* Clear the wake-up (before taking). */
void pool_ring_clear(struct pool_ring *ring);

#endif
