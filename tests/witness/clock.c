#include "clock.h"

#define CALIBRATE_NS (50 * NS_PER_MS)

static double ns_per_cycle;

void cycles_calibrate(void)
{
    int64_t start = clock_now(), end;
    uint64_t first = cycles_now(), last;

    do {
        clock_sleep_until(start + CALIBRATE_NS);
        end = clock_now();
        last = cycles_now();
    } while (clock_elapsed(start, end) < (uint64_t)CALIBRATE_NS && end >= start);
    ns_per_cycle = last > first ? (double)clock_elapsed(start, end) / (double)(last - first) : 0;
}

uint64_t cycles_to_ns(uint64_t start, uint64_t end)
{
    return end > start ? (uint64_t)((double)(end - start) * ns_per_cycle) : 0;
}
