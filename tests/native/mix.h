/* A number that looks random, from one that does not (the finaliser of D. Lea's and G. Steele's
 * SplittableRandom). */
#ifndef NATIVE_MIX_H
#define NATIVE_MIX_H

#include <stdint.h>

static inline uint64_t mix64(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

#endif
