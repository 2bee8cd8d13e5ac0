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
    int dial_timeout_ms;
    uint8_t token[TOKEN_SIZE];
    uid_t uid; /* to become, if we are root */
    gid_t gid;
    const char *empty_dir; /* to chroot to, if we are root */
    struct pool *pool;
};

/*
 * Fork the feeder. Call before any Xen handle is open. Returns its pid, or -errno. life_fd is the pager's end
 * of a pipe: the feeder ends when it is closed.
 */
pid_t feeder_start(const struct feeder_config *config, int *life_fd);

#endif
