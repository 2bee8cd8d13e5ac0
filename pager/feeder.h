/*
 * The feeder: the process at the destination that talks to the network and has no Xen right. It dials, gives
 * up every privilege, and then moves pages from the channel into pool slots, and the pager's orders onto the
 * wire.
 */
#ifndef XENPAGING_PC_FEEDER_H
#define XENPAGING_PC_FEEDER_H

#include <sys/types.h>

#include "pool.h"
#include "token.h"

struct feeder_config {
    const char *connect; /* HOST:PORT of serve, or unix:PATH of join */
    uint32_t streams;    /* bulk channels, at most; over join as many as there are */
    int dial_timeout_ms;
    uint8_t token[TOKEN_SIZE];
    uid_t uid; /* to become, if we are root */
    gid_t gid;
    const char *empty_dir; /* to chroot to, if we are root */
    struct pool *pool;
    uint32_t generation; /* that the feeder before it was in: 0, or this one resumes, and has no slot yet */
    void *forget;        /* so much memory there that it is not to have; NULL: none */
    size_t forget_bytes;
    const int *life; /* pipe: it ends when nobody has the second end any more */
};

/* Fork the feeder. Call where no Xen handle is open. Returns its pid, or -errno. */
pid_t feeder_start(const struct feeder_config *config);

#endif
