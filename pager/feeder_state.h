/* What the parts of the feeder share. */
#ifndef XENPAGING_PC_FEEDER_STATE_H
#define XENPAGING_PC_FEEDER_STATE_H

#include "channel.h"
#include "feeder.h"
#include "wire/frame_reader.h"

#define FEEDER_OUT (2u * (WIRE_HEAD_SIZE + WIRE_CONTROL_MAX))

struct feeder {
    struct pool *pool;
    struct channel channel;
    enum wire_state state;
    struct wire_hello hello; /* as sent */
    uint64_t features;
    bool closing;  /* nothing but flushing the output is left */
    bool in_ended; /* nothing more comes */
    int out_error; /* why nothing more can be said; what serve has said before that is still read. 0: it can
                    */
    struct frame_reader reader;

    /* Slots that are ours and free. Those that serve was told of are the credit that is open. */
    uint32_t *free_slots;
    uint32_t n_free;
    uint32_t untold;
    uint64_t credit_wanted; /* as many may it be told of: what was asked for; every one since ORDER_GO */

    /* The PAGES frame whose data is coming in. */
    uint32_t pages, pages_done;
    size_t page_bytes; /* of the current page */
    uint32_t page_slot[WIRE_BATCH_MAX];

    uint8_t *out;
    size_t out_start, out_end;
    uint64_t compared;
};

/* Tell the pager why this ends (who: FAILED_BY_*), and end. Never returns. */
void feeder_fail(struct feeder *f, uint32_t code, uint32_t who, const char *fmt, ...)
    __attribute__((format(printf, 4, 5), noreturn));

/* Room for whatever one more order may lead to. */
bool feeder_out_room(const struct feeder *f);
uint8_t *feeder_out(struct feeder *f);

/* Read what there is on the channel and hand pages and answers to the pager. */
void feeder_read(struct feeder *f);

/* Take the pager's orders and turn them into frames. */
void feeder_orders(struct feeder *f);

#endif
