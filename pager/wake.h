/* An eventfd that wakes whoever polls it; non-blocking. */
#ifndef XENPAGING_PC_WAKE_H
#define XENPAGING_PC_WAKE_H

#include <errno.h>
#include <stdint.h>
#include <unistd.h>

static inline void wake_kick(int fd)
{
    const uint64_t one = 1;

    /* EAGAIN: the counter is at its maximum, so the other end has a wake-up waiting anyway. */
    while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static inline void wake_clear(int fd)
{
    uint64_t count;

    while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
}

#endif
