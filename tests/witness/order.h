// The order in which a thread touches pages.
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum order_kind { ORDER_SEQUENTIAL, ORDER_RANDOM, ORDER_STRIDED, ORDER_ZIPF };

struct order {
    enum order_kind kind;
    uint64_t first, count; // pages [first, first + count)
    uint64_t random;       // state of the generator, never 0
    uint64_t position, lane, stride;
    uint64_t scatter;        // zipf: rank -> page, coprime with count
    double zeta, eta, alpha; // zipf constants
};

// Name to kind; false if there is no such order.
bool order_parse(const char *name, enum order_kind *kind);
const char *order_name(enum order_kind kind);

// Pages [first, first + count), count > 0; stride (pages) only matters to
// ORDER_STRIDED. The same seed gives the same sequence.
void order_init(struct order *order, enum order_kind kind, uint64_t first, uint64_t count, uint64_t stride,
                uint64_t seed);

// Next page number.
uint64_t order_next(struct order *order);

// Next pseudo-random number of xorshift64*; *state must not be 0.
uint64_t order_random(uint64_t *state);
