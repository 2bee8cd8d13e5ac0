/* Exit statuses of every command: part of the interface, listed in xenpaging-pc(8). */
#ifndef XENPAGING_PC_EXIT_STATUS_H
#define XENPAGING_PC_EXIT_STATUS_H

enum {
    EXIT_DONE = 0,
    EXIT_FAILED = 1, /* failed before the guest could run at the destination: the source is intact */
    EXIT_USAGE = 2,
    EXIT_REFUSED = 3, /* the handshake was refused */
    EXIT_UNFIT = 4,   /* the domain, or this host, cannot be paged */
    EXIT_GONE = 5,    /* the guest ended at the destination while pages were still absent */
    EXIT_MISSING = 6, /* failed after the guest could run: pages are missing at the destination */
    EXIT_WRONG = 7,   /* verification found a wrong page */
    /* 9: no such session (status, commit) */
    EXIT_LEFT_OVER = 10,   /* serve: the guest has moved, but its domain here could not be destroyed */
    EXIT_UNACKED = 8,      /* receive: every page is there, but serve did not acknowledge */
    EXIT_HANDED_BACK = 11, /* serve: the destination has destroyed its copy and never started it */
};

#endif
