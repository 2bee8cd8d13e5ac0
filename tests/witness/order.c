#include "order.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "page.h"

// Skew of the zipf order; 0.99 is what key-value benchmarks use.
#define ZIPF_THETA 0.99

static const char *const names[] = {
    [ORDER_SEQUENTIAL] = "sequential",
    [ORDER_RANDOM] = "random",
    [ORDER_STRIDED] = "strided",
    [ORDER_ZIPF] = "zipf",
};

bool order_parse(const char *name, enum order_kind *kind)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0) {
            *kind = (enum order_kind)i;
            return true;
        }
    }
    return false;
}

const char *order_name(enum order_kind kind)
{
    return names[kind];
}

uint64_t order_random(uint64_t *state)
{
    uint64_t x = *state;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * UINT64_C(0x2545f4914f6cdd1d);
}

// 0 <= result < bound, by multiplication of the high 32 bits (bound < 2^32).
static uint64_t below(uint64_t *state, uint64_t bound)
{
    return ((order_random(state) >> 32) * bound) >> 32;
}

static uint64_t gcd(uint64_t a, uint64_t b)
{
    while (b != 0) {
        uint64_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

// Constants of the quick zipf generator by Gray et al., "Quickly generating
// billion-record synthetic databases" (SIGMOD 1994): no table, which would be
// guest memory of its own that can be absent.
static void zipf_init(struct order *order)
{
    double zeta2 = 1.0 + pow(0.5, ZIPF_THETA);

    order->zeta = 0;
    for (uint64_t i = 1; i <= order->count; i++)
        order->zeta += pow(1.0 / (double)i, ZIPF_THETA);
    order->alpha = 1.0 / (1.0 - ZIPF_THETA);
    order->eta = (1.0 - pow(2.0 / (double)order->count, 1.0 - ZIPF_THETA)) / (1.0 - zeta2 / order->zeta);
    // Spread the hot pages over the buffer: neighbours in rank are not neighbours in memory.
    order->scatter = order->count * 5 / 8 + 1;
    while (gcd(order->scatter, order->count) != 1)
        order->scatter++;
}

static uint64_t zipf_next(struct order *order)
{
    double u = (double)(order_random(&order->random) >> 11) / 9007199254740992.0;
    double uz = u * order->zeta;
    uint64_t rank;

    if (uz < 1.0)
        rank = 0;
    else if (uz < 1.0 + pow(0.5, ZIPF_THETA))
        rank = 1;
    else
        rank = (uint64_t)((double)order->count * pow(order->eta * u - order->eta + 1.0, order->alpha));
    if (rank >= order->count)
        rank = order->count - 1;
    return rank * order->scatter % order->count;
}

static uint64_t strided_next(struct order *order)
{
    uint64_t page = order->position;

    order->position += order->stride;
    if (order->position >= order->count) {
        order->lane = (order->lane + 1) % order->stride;
        order->position = order->lane;
    }
    return page;
}

void order_init(struct order *order, enum order_kind kind, uint64_t first, uint64_t count, uint64_t stride,
                uint64_t seed)
{
    *order = (struct order){
        .kind = kind,
        .first = first,
        .count = count,
        .random = page_mix(seed) | 1,
        .stride = stride < count ? stride : 1,
    };
    // Two ranks are special cases of the generator and eta divides by zero there.
    if (kind == ORDER_ZIPF && count <= 2)
        order->kind = ORDER_SEQUENTIAL;
    if (order->kind == ORDER_ZIPF)
        zipf_init(order);
}

uint64_t order_next(struct order *order)
{
    uint64_t page = 0;

    switch (order->kind) {
    case ORDER_SEQUENTIAL:
        page = order->position;
        order->position = order->position + 1 < order->count ? order->position + 1 : 0;
        break;
    case ORDER_RANDOM:
        page = below(&order->random, order->count);
        break;
    case ORDER_STRIDED:
        page = strided_next(order);
        break;
    case ORDER_ZIPF:
        page = zipf_next(order);
        break;
    }
    return order->first + page;
}
