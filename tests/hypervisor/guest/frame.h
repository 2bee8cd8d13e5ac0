/*
 * Pages of this process whose guest frame number the test outside has to know.
 */
#ifndef FRAME_H
#define FRAME_H

#include <stddef.h>
#include <stdint.h>

#define FRAME_SIZE 4096u

/* count zeroed pages, locked in memory, each touched; exits with a message on failure. Never freed. */
void *frames_alloc(size_t count);

/* Guest frame number behind an address (/proc/self/pagemap, needs CAP_SYS_ADMIN); exits on failure. */
uint64_t frame_of(const void *at);

#endif
