/*
 * A process between the real receive and the real serve: it listens, dials serve for each connection, and
 * passes everything on in both directions, frame by frame. As its plan says it cuts channels, or stalls them,
 * and goes on accepting afterwards.
 */
#ifndef RELAY_H
#define RELAY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define RELAY_CUTS 16

struct relay_cut {
    /* When: when so many frames, or (frames 0) so many bytes, have been passed on since the last cut or the
     * beginning, on all channels and in both directions. Both 0: at the first byte. */
    uint64_t frames, bytes;
    bool reset;            /* what is under way is lost, too; else all that was passed on arrives */
    bool one;              /* only the channel on which that was */
    unsigned int stall_ms; /* not cut: that channel is not read for so long (then 0, that is: cut) */
};

/* In memory shared with the test. */
struct relay_shared {
    struct relay_cut cuts[RELAY_CUTS];
    unsigned int n_cuts;
    volatile unsigned int done; /* of them */
    volatile uint64_t frames, bytes, connections;
    uint64_t spoil_at; /* the last byte of that frame of those with contents is changed; 0: of none */
    volatile uint64_t contents;  /* frames that have some */
    volatile bool closed;        /* who comes now is hung up on */
    volatile uint32_t last_type; /* of the frame that was passed on last, or in part, before the last cut */
};

struct relay {
    char address[128]; /* where it listens */
    pid_t pid;
    struct relay_shared *shared;
};

void relay_init(struct relay *relay);
/* Between whoever dials relay->address and that address, which has to be copied by then. */
void relay_start(struct relay *relay, const char *to);
void relay_free(struct relay *relay);

#endif
