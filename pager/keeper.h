/*
 * The keeper: the process of `receive` that everybody knows (pid file, signals, exit status). It has no Xen
 * handle and does nothing but wait for its two children: the feeder, and the pager. When a pager dies that a
 * guest depends on, the keeper starts the next one, with the same feeder, pool and journal.
 *
 * The keeper killed: the pager goes on, and has no successor.
 */
#ifndef XENPAGING_PC_KEEPER_H
#define XENPAGING_PC_KEEPER_H

#include "receive_journal.h"

struct receive_options;

/* What the keeper has made for its pagers; the descriptors are theirs by inheritance. */
struct keeping {
    struct receive_journal *journal;
    int set_fd;       /* memfd of the set */
    int notes_fd;     /* memfd of what is noted of each gfn */
    int stage_fd;     /* memfd of what is gathered for superpages */
    int status_fd;    /* a unix socket, bound by the first pager: who connects while there is none waits */
    int news_fd;      /* readable: the feeder has ended, or there is another */
    int want_fd;      /* an eventfd of the pager's: another feeder is wanted */
    int keeper_pidfd; /* readable: the keeper has ended */
    int feeder_pidfd;
    int watch_pidfd; /* -1: nobody is watched */
    int life[2];     /* the feeder ends when keeper and pager have closed the second */
};

#endif
