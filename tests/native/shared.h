/*
 * Between a guest's process and whoever pages it, in place of Xen: memory that both see, and the descriptors
 * that go with it. A pager connects to the guest's socket and is given all of them, as is the next one if it
 * dies.
 */
#ifndef NATIVE_SHARED_H
#define NATIVE_SHARED_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#define NATIVE_VCPUS 16u

struct native_shared {
    uint64_t base; /* address of the memory in the guest */
    uint64_t pages;
    unsigned int vcpus;
    _Atomic pid_t tid[NATIVE_VCPUS];
    /* Of a domain that was restored and left paused: one by the toolstack, which goes with the last of the
     * pager's. */
    _Atomic uint32_t pauses; /* a futex */
    _Atomic uint32_t our_pauses;
    _Atomic uint32_t ran;
};

enum { NATIVE_UFFD, NATIVE_PAGEMAP, NATIVE_MEMORY, NATIVE_FDS };

struct native_link {
    struct native_shared *shared;
    int fd[NATIVE_FDS];
    int pidfd; /* of the guest */
    pid_t pid;
};

/* The guest's end. A listening socket, or -1 with errno. */
int native_listen(const char *path);
/* Give everything to who connects, for ever. */
void native_answer(int listener, const int fd[NATIVE_FDS]);

/* The pager's. 0 or -errno. */
int native_connect(const char *path, struct native_link *link);
void native_close(struct native_link *link);

/* One pause more, or less, of the pager's own. */
void native_pause(struct native_shared *shared);
/* -EINVAL: it has none. */
int native_unpause(struct native_shared *shared);
/* A vcpu waits until there is no pause. */
void native_wait(struct native_shared *shared);

#endif
