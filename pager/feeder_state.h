/* What the parts of the feeder share. */
#ifndef XENPAGING_PC_FEEDER_STATE_H
#define XENPAGING_PC_FEEDER_STATE_H

#include <pthread.h>

#include "channel.h"
#include "feeder.h"
#include "wire/frame_reader.h"

#define FEEDER_OUT (2u * (WIRE_HEAD_SIZE + WIRE_CONTROL_MAX))

struct feeder;

/* A channel, and the frame that comes in on it. The control channel is the main thread's; each bulk channel
 * has one of its own. */
struct feeder_inlet {
    struct feeder *f;
    struct channel channel;
    struct pool_ring *ring; /* where what comes is reported */
    enum wire_state state;
    struct frame_reader reader;
    bool ended; /* nothing more comes */
    /* What was read ahead: as many bytes as a frame of one run has in front of its contents. */
    uint8_t ahead[WIRE_HEAD_SIZE + 8 + 16];
    size_t ahead_start, ahead_end;

    /* The PAGES frame whose contents are coming in. */
    uint32_t pages, pages_done;
    size_t page_bytes;       /* of the current page */
    uint32_t run, run_pages; /* the run it is of, and which of that */
    uint32_t slots[WIRE_PAGES_MAX];

    /* Bulk. */
    uint8_t index;
    uint64_t taken, told; /* pages taken out of it, and those serve has been told of */
    uint8_t out[WIRE_HEAD_SIZE + WIRE_JOIN_SIZE];
    size_t out_start, out_end;
};

struct feeder {
    struct pool *pool;
    struct feeder_inlet control;
    struct feeder_inlet *bulk; /* n_bulk of them */
    uint32_t n_bulk;           /* channels there are; serve may want fewer */
    struct wire_hello hello;   /* as sent */
    uint64_t features;
    bool closing;  /* nothing but flushing the output is left */
    int out_error; /* why nothing more can be said; what serve has said before that is still read. 0: it can
                    */

    /* What the threads share; never held across a system call. */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* bulk_go, or room for reports */
    uint32_t bulk_go;       /* channels that are to join */
    struct wire_join join;  /* with that ticket */
    bool bulk_failed;
    uint32_t bulk_code;
    char bulk_text[POOL_TEXT_SIZE];
    uint32_t *free_slots; /* that are ours and free, of those that are credit; those that serve was told of
                             are the credit that is open */
    uint32_t n_free;
    uint32_t untold;

    /* The same, of those for what was asked for. */
    uint32_t *free_asked;
    uint32_t n_free_asked;

    uint64_t credit;        /* told, in all */
    uint64_t credit_wanted; /* as many may it be told of: what was asked for; every one since ORDER_GO */

    uint8_t *out;
    size_t out_start, out_end;
    uint64_t compared;
};

/* Tell the pager why this ends (who: FAILED_BY_*), and end. Never returns. Main thread only. */
void feeder_fail(struct feeder *f, uint32_t code, uint32_t who, const char *fmt, ...)
    __attribute__((format(printf, 4, 5), noreturn));
/* The channel is unusable: as feeder_fail(), and may only return (and end its thread) on a bulk channel. */
void feeder_inlet_fail(struct feeder_inlet *in, uint32_t code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Room for whatever one more order may lead to. */
bool feeder_out_room(const struct feeder *f);
uint8_t *feeder_out(struct feeder *f);

/* feeder_frames.c */
/*
 * Read what there is on the channel, at most so many pieces of at most FEEDER_PIECE pages, and hand pages and
 * answers to the pager. False: the channel has failed.
 */
#define FEEDER_PIECE 16u
bool feeder_read(struct feeder_inlet *in, unsigned int pieces);
/* What follows from a frame without contents, by channel. False: the channel has failed. */
bool feeder_control_frame(struct feeder *f);
bool feeder_bulk_frame(struct feeder_inlet *in);

/* feeder_bulk.c */
/* The thread of a bulk channel: waits until there is a ticket. */
void *feeder_bulk_thread(void *data);
/* Join so many channels. */
void feeder_bulk_go(struct feeder *f, const struct wire_hello_ack *ack);
/* Wake those that wait for room in the ring. */
void feeder_bulk_wake(struct feeder *f);

/* feeder_orders.c */
/* Take the pager's orders and turn them into frames. */
void feeder_orders(struct feeder *f);

#endif
