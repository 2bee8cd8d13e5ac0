/*
 * A permutation of 0 .. n-1 that looks random: four rounds of a Feistel network over the next power of four,
 * again until the result is in bounds. An affine one would be a stride, which a push order may detect.
 */
#ifndef NATIVE_PERMUTE_H
#define NATIVE_PERMUTE_H

#include "mix.h"

static inline uint64_t permute(uint64_t n, uint64_t seed, uint64_t x)
{
    unsigned int half = (65 - (unsigned int)__builtin_clzll(n | 1)) / 2;
    uint64_t mask = (UINT64_C(1) << half) - 1;

    do {
        uint64_t left = x >> half, right = x & mask;

        for (unsigned int round = 0; round < 4; round++) {
            uint64_t next = left ^ (mix64(right ^ mix64(seed + round)) & mask);

            left = right;
            right = next;
        }
        x = left << half | right;
    } while (x >= n);
    return x;
}

#endif
