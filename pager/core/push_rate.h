/* No more pages a second than allowed, of those that nobody has asked for. No clock: times are ns of any one.
 */
#ifndef XENPAGING_PC_PUSH_RATE_H
#define XENPAGING_PC_PUSH_RATE_H

#include <stdint.h>

#define PUSH_RATE_SLACK UINT64_C(100000000) /* ns: who comes late makes up for this much */

struct push_rate {
    uint64_t bytes; /* a second; 0: no limit */
    uint64_t due;   /* when the next may go */
};

/* So many bytes, at most 16 MiB, have gone by now. */
static inline void push_rate_sent(struct push_rate *rate, uint64_t now, uint64_t bytes)
{
    if (!rate->bytes)
        return;
    if (rate->due + PUSH_RATE_SLACK < now)
        rate->due = now - PUSH_RATE_SLACK;
    rate->due += bytes * UINT64_C(1000000000) / rate->bytes;
}

#endif
