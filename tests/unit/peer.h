/*
 * A peer that the test plays, frame by frame: serve against the real receiver, or a receiver against the real
 * serve. Its control channel, and up to WIRE_STREAMS_MAX bulk channels.
 */
#ifndef PEER_H
#define PEER_H

#include "fixture.h"
#include "wire/bytes.h"
#include "wire/wire.h"

#define PEER_SET 1299u /* pages of the fixture's domain that can be absent */

struct peer_frame {
    unsigned int type;
    uint32_t length;
    uint8_t *body;
};

struct peer {
    struct fixture f;
    int fd; /* control; -1: closed */
    int bulk[WIRE_STREAMS_MAX];
    uint32_t streams;  /* bulk channels: that its serve gives (of f.receive.streams), or its receiver takes */
    uint64_t withheld; /* features that its serve does not take */
    bool by_join;      /* the receiver takes its end of the channel from a join */

    struct wire_hello hello; /* the receiver's */
    uint64_t features;       /* in use */
    uint32_t generation;
    uint8_t ticket[WIRE_TICKET_SIZE];
    uint64_t told, used; /* credit, in all */

    /* The frame that came last on control. */
    unsigned int type;
    uint32_t length;
    uint8_t body[WIRE_CONTROL_MAX];
    struct peer_frame put_by[1000];
    unsigned int n_put_by;
};

/* What is sent is built here. */
extern uint8_t peer_out[WIRE_HEAD_SIZE + WIRE_CONTROL_MAX];

/* A test of its own: *state is a struct peer. Nothing offers bulk channels but a test that says so. */
int peer_setup(void **state);
int peer_teardown(void **state);
/* From the beginning, within a test. */
void peer_again(struct peer *p);
void peer_hang_up(int *fd);

void peer_put_on(int fd, size_t size);
void peer_put(struct peer *p, size_t size);
bool peer_bytes(int fd, void *to, size_t n);
/* The next frame on control, whatever it is; false at the end. CREDIT goes into told, too. */
bool peer_pump(struct peer *p);
/* The next frame that is not CREDIT; false at the end. One that came while waiting for credit comes first. */
bool peer_get(struct peer *p);
void peer_expect(struct peer *p, unsigned int type);
/* Until a frame of the type comes, whatever the guest asks for meanwhile. */
void peer_expect_at_last(struct peer *p, unsigned int type);
/* On a channel of any kind: REFUSE or ERROR with that code, and the end. */
void peer_refused(int fd, unsigned int type, uint32_t code);

/* -- playing serve */

bool peer_in_set(uint64_t gfn);
bool peer_is_zero(uint64_t gfn); /* that page of the fixture's domain */
/* HELLO and HELLO_ACK, and every channel's JOIN and JOIN_ACK. */
void peer_meet_receiver(struct peer *p);
/* Up to the state ACTIVE, as a good serve would. */
void peer_be_good(struct peer *p);
void peer_need_credit(struct peer *p, uint64_t pages);
/* A page on that channel with these flags besides the one that hashes need. */
void peer_put_page(struct peer *p, int fd, uint64_t gfn, uint32_t flags, bool spoiled);
void peer_put_zeros(struct peer *p, int fd, uint64_t first, uint32_t count, uint32_t flags);
/* On control, as a push without bulk channels: credit first. */
void peer_send_page(struct peer *p, uint64_t gfn, bool spoiled);
/* ACKs on that channel until one says `count`: each says more than the one before. */
void peer_await_ack(struct peer *p, unsigned int channel, uint64_t count);
void peer_receiver_ends(struct peer *p, int status);
/* The receiver has noticed: it is paused with this reason, its guest unharmed. */
void peer_receiver_pauses(struct peer *p, const char *reason);

/* -- playing the receiver */

struct peer_pages {
    uint32_t flags, contents, zeros;
};

void peer_meet_serve(struct peer *p);
/* The set is the n pages from gfn 10 on. SET_ACK is not waited for. */
void peer_say_set(struct peer *p, uint64_t n);
void peer_agree_on_set(struct peer *p, uint64_t n);
void peer_put_credit(struct peer *p, uint64_t total);
/* A JOIN that is right for that channel. */
struct wire_join peer_join_of(const struct peer *p, unsigned int channel);
/* On a connection of its own. */
int peer_dial_join(struct peer *p, const struct wire_join *join);
void peer_join(struct peer *p, unsigned int channel);
void peer_put_ack(struct peer *p, unsigned int channel, uint64_t count);
/* One PAGES frame; every page of it is compared with what the domain has. */
struct peer_pages peer_take_pages(struct peer *p, int fd);
/* It has lost its channels. */
void peer_serve_pauses(struct peer *p, const char *reason);
void peer_serve_ends(struct peer *p, int status);
/* The reason of serve's last words has this in it. */
void peer_serve_said(struct peer *p, const char *reason);

#endif
