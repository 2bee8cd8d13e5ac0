/* What the parts of the sender share. */
#ifndef XENPAGING_PC_SENDER_STATE_H
#define XENPAGING_PC_SENDER_STATE_H

#include <pthread.h>
#include <sys/uio.h>

#include "clock.h"
#include "core/gfn_bitmap.h"
#include "core/pace.h"
#include "core/push_order.h"
#include "core/push_rate.h"
#include "core/run_hash.h"
#include "map_cache.h"
#include "sender.h"
#include "wire/frame_reader.h"

#define SENDER_PENDING  16 /* connections that have said neither HELLO nor JOIN yet */
#define SENDER_HELLO_MS 10000
#define SENDER_CONTROL  2048
#define SENDER_URGENT   16u /* pages of a frame that somebody waits for */

/* Pages that are to be sent, as they were chosen. */
struct sender_choice {
    struct wire_run runs[WIRE_BATCH_MAX];
    uint32_t n;
    uint32_t run, at; /* how far it has come: that page of that run */
};

/* A PAGES frame on its way out. */
struct sender_frame {
    uint8_t head[WIRE_HEAD_SIZE + WIRE_ENTRIES_MAX];
    size_t head_size;
    struct iovec iov[1 + WIRE_PAGES_MAX];
    int n_iov;
    uint32_t runs, contents, zeros, pages;
    uint64_t hashes[WIRE_PAGES_MAX];
    size_t sent, size; /* bytes; size 0: there is none */
};

struct sender;

struct sender_pending {
    int fd;       /* -1: free */
    bool trusted; /* came through a transport: it may take its time, and its failing is the session's */
    uint64_t since_ns;
    struct frame_reader reader;
};

struct sender_bulk {
    struct sender *s;
    uint8_t index;
    int fd; /* -1: not joined */
    int wake;
    struct pace pace;
    struct frame_reader reader;
    struct map_cache maps;
    struct sender_choice choice;
    struct sender_frame frame;
    bool idle; /* waits for credit, or for something to send; under the lock */
};

struct sender {
    const struct sender_config *config;
    int serve; /* the socket to it */
    int control;
    int failed_fd; /* an eventfd: something for the main thread to look at */
    struct sender_pending pending[SENDER_PENDING];
    int came; /* the pending one that waits for the word of serve; -1: none */

    enum wire_state state;
    struct wire_hello hello;
    uint64_t features;
    uint32_t streams; /* channels that are to join */
    uint32_t joined;  /* a bit each */
    struct wire_join ticket;
    bool may_go;   /* serve has said GO: SET_ACK as soon as all have joined */
    bool given_up; /* by the receiver: it sends no more than what becomes of its copy */
    bool complete; /* COMPLETE has come */
    bool closing;  /* end when the control bytes are out */
    bool told_all_sent;

    uint64_t nr_gfns, populated_count;
    struct gfn_bitmap allowed, populated, in_set; /* shared with serve */
    struct run_hash set_hash;
    uint64_t verify_cursor, compared_before;

    struct frame_reader reader;
    struct map_cache maps;
    struct sender_choice choice;
    uint32_t flags; /* of the frames made of it */
    struct sender_frame frame;
    uint8_t out[SENDER_CONTROL];
    size_t out_start, out_end;

    struct sender_bulk *bulk; /* config->streams of them */

    /* Shared with the bulk threads; never held across a system call. */
    pthread_mutex_t lock;
    struct push_order order;
    struct push_rate rate;
    uint64_t credit, credit_used; /* pages in this generation */
    bool quiet;                   /* nothing more is to be pushed */
    struct wire_fault bulk_fault; /* why a bulk channel has failed; code 0: none has */
    bool bulk_lost;
    uint64_t bulk_lost_ns; /* since when; 0: it is not */
};

/* sender.c */
void sender_tell(struct sender *s, enum sender_word word, uint32_t code, const char *text);
void sender_tell_values(struct sender *s, enum sender_word word, const uint64_t *values, unsigned int n);
/* Say so on the wire, tell serve, and end. */
void sender_fail(struct sender *s, uint32_t code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4), noreturn));
/* The connection is no more. */
void sender_lost(struct sender *s, const char *text) __attribute__((noreturn));
/* Close in order: what is on its way arrives. */
void sender_leave(struct sender *s) __attribute__((noreturn));
/* Bring the figures up to date. */
void sender_publish(struct sender *s);

/* sender_listen.c */
void sender_expect(struct sender *s, int fd, bool trusted);
void sender_connect(struct sender *s);
void sender_pending_readable(struct sender *s, struct sender_pending *p);
/* Those that have waited for too long go. ms until the next is due, or -1. */
int sender_pending_late(struct sender *s);
/* The word of serve on who came. */
void sender_accept(struct sender *s, const struct sender_message *word, int bitmaps);
void sender_refuse(struct sender *s, const struct sender_message *word);
/* All channels are there and serve agrees: the receiver may go on. */
void sender_go(struct sender *s);

/* sender_frames.c */
void sender_readable(struct sender *s);
void sender_acknowledge(struct sender *s);

/* sender_pages.c */
/* Nothing is chosen. */
static inline void sender_choose_none(struct sender_choice *choice)
{
    choice->n = choice->run = choice->at = 0;
}
/* With the lock held: at most so many pages that nobody waits for, which is within credit. How many. */
uint64_t sender_choose_pushed(struct sender *s, struct sender_choice *choice, uint64_t most, uint64_t now);
/*
 * As much of the choice as fits into a frame. flags: WIRE_PAGES_*; zeros: may be left out. 0, or -errno with
 * the gfn that cannot be mapped in *gfn. frame->size is 0 if nothing was left.
 */
int sender_fill(struct sender_frame *frame, struct sender_choice *choice, struct map_cache *maps,
                uint32_t flags, bool zeros, uint64_t *gfn);
/* Send what the socket takes. 1: all of it is out, 0: not yet, -1 with errno. */
int sender_send_frame(int fd, struct sender_frame *frame);
static inline bool sender_chosen(const struct sender_choice *choice)
{
    return choice->run < choice->n;
}

/* sender_urgent.c */
/* Something is to be sent on the control channel, or was: go on. */
void sender_write(struct sender *s);
bool sender_wants_write(struct sender *s);
/* ms until pages may be pushed on it again, or -1. */
int sender_push_due(struct sender *s);
uint8_t *sender_out(struct sender *s, size_t room);

/* sender_bulk.c */
/* The thread of a struct sender_bulk: waits for its channel. */
void *sender_bulk_thread(void *data);
/* A channel has joined. */
void sender_bulk_join(struct sender *s, unsigned int index, int fd);
/* There may be something to send, or credit. */
void sender_bulk_wake(struct sender *s);

#endif
