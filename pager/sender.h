/*
 * The sender: the process at the source that talks to the network. It has no Xen right but to map pages of
 * the one domain, reads everything that comes from the receiver, and sends pages. Whether the receiver may
 * come, and what its coming and going mean, `serve` decides, which sees none of its bytes; the two exchange
 * the messages below.
 */
#ifndef XENPAGING_PC_SENDER_H
#define XENPAGING_PC_SENDER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "backend.h"
#include "core/push_policy.h"
#include "token.h"
#include "wire/wire.h"

/* What it has done so far, in memory that serve sees. */
struct sender_figures {
    uint64_t in_set, left, sent, sent_urgent, resent, dropped, different_sent; /* as in push_order.h */
    uint64_t compared, zeros;
    uint64_t bytes, frames, maps;
    uint64_t credit, credits; /* pages still open, and frames */
    uint64_t requests, requested, drops;
    uint64_t waited;                    /* of requested: a vcpu waited, so that the guest runs there */
    uint64_t refused;                   /* connections */
    uint64_t streams;                   /* bulk channels */
    uint64_t window, page_ns, delay_ns; /* of the pace, of the bulk channel that sent last */
};

enum sender_word {
    /* To serve: */
    SENDER_CAME = 1, /* a receiver that may come; text: where it is. ACCEPT or REFUSE */
    SENDER_REFUSED,  /* a connection; code, text. Under xl that ends the session */
    SENDER_SET,      /* pages, hash: the receiver's set. GO or FAIL */
    SENDER_RESUMED,  /* a receiver that was here before has said what it has. GO or FAIL */
    SENDER_ALL_SENT, /* every page has been sent */
    SENDER_COMPLETE, /* six counts, and the pages sent and resent. ACKNOWLEDGE or FAIL */
    SENDER_DELIVERED,
    SENDER_GONE,   /* reason (enum wire_gone) */
    SENDER_ERROR,  /* code, text: the receiver's last words. The sender ends */
    SENDER_FAILED, /* code, text: ours, which it was told. The sender ends */
    SENDER_LOST,   /* text. The sender ends */
    /* To the sender: */
    SENDER_ACCEPT, /* with the descriptor of the bitmaps: populated pages, nr_gfns */
    SENDER_REFUSE, /* code, text */
    SENDER_GO,
    SENDER_FAIL, /* code, text: say so, and end */
    SENDER_ACKNOWLEDGE,
    SENDER_LINK, /* with a descriptor: another channel, which is to join */
    SENDER_RATE, /* bytes a second of pages that nobody has asked for; 0: no limit */
};

struct sender_message {
    uint32_t word;
    uint32_t code;
    uint64_t value[8];
    char text[WIRE_TEXT_MAX + 56];
};

struct sender_config {
    struct backend *be; /* of the domain: only map() and unmap() are used */
    int listener;       /* accepts connections; or -1: */
    int link;           /* the control channel (under xl) */
    bool own_set;       /* the receiver's set has to be the bitmap of those allowed (under xl) */
    uint32_t streams;   /* bulk channels, at most */
    enum push_policy_kind order;
    uint32_t generation; /* that came last: 0, or the session is resumed */
    uint64_t budget_ns;  /* of pace.h */
    uint64_t rate;       /* as SENDER_RATE */
    uint8_t uuid[WIRE_UUID_SIZE];
    uint8_t token[TOKEN_SIZE];
    uid_t uid;
    gid_t gid;
    const char *empty_dir;
    struct sender_figures *figures; /* shared memory */
};

/*
 * Bitmaps of nr_gfns gfns, one behind the other in a memfd, each a whole number of words: the gfns that may
 * be in the set; those with a page (complete when serve says GO); the set (the sender's to write).
 */
enum sender_bitmap { SENDER_ALLOWED, SENDER_POPULATED, SENDER_IN_SET, SENDER_BITMAPS };

size_t sender_bitmap_bytes(uint64_t nr_gfns);

/* Fork the sender. socket: the end of serve. Returns its pid, or -errno. */
pid_t sender_start(const struct sender_config *config, int *socket);

/* A message, with a descriptor or -1. 0 or -1 with errno; of recv 1, 0 when there is none now, -1 at the end.
 * What comes is checked as far as its form goes. */
int sender_send(int socket, const struct sender_message *message, int fd);
int sender_recv(int socket, struct sender_message *message, int *fd);

#endif
