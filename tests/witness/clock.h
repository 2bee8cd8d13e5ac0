// Time as the guest sees it: CLOCK_MONOTONIC, nanoseconds.
//
// Inside a guest this clock hides the pause of a move and may even step back
// on a new host, so it is used only to pace the work and to time single
// touches; gaps are judged by ticks that the outer machine stamps.
#pragma once

#include <stdint.h>
#include <time.h>
#include <x86intrin.h>

#define NS_PER_US INT64_C(1000)
#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S  INT64_C(1000000000)

static inline int64_t clock_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

// Nanoseconds from start to end, 0 if the clock stepped back between the two.
static inline uint64_t clock_elapsed(int64_t start, int64_t end)
{
    return end > start ? (uint64_t)(end - start) : 0;
}

static inline void clock_sleep_until(int64_t deadline)
{
    struct timespec ts = {.tv_sec = deadline / NS_PER_S, .tv_nsec = deadline % NS_PER_S};

    // An early return (EINTR) is harmless: every caller looks at the clock again.
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

// Cycles of the time stamp counter. In an emulated guest clock_gettime() takes
// as long as the work on a page, and what interrupts it would pass for a slow
// access; two reads of the counter leave hardly any room for that.
static inline uint64_t cycles_now(void)
{
    return __rdtsc();
}

// Measure the counter against CLOCK_MONOTONIC; takes 50 ms.
void cycles_calibrate(void);

// Nanoseconds between two counts, 0 if the counter stepped back. Wrong over a
// move to a host that counts differently: the caller bounds it by the clock.
uint64_t cycles_to_ns(uint64_t start, uint64_t end);
