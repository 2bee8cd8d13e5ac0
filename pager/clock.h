/* The one clock that durations and deadlines are taken from. */
#ifndef XENPAGING_PC_CLOCK_H
#define XENPAGING_PC_CLOCK_H

#include <stdint.h>

/* CLOCK_MONOTONIC. */
uint64_t monotonic_ns(void);

#endif
