/* In which order a vcpu touches pages. Each page comes up once in a run, except with zipf. */
#ifndef NATIVE_ORDER_H
#define NATIVE_ORDER_H

#include <stdint.h>

#define ORDER_END     UINT64_MAX
#define ORDER_STREAMS 16u

enum order_kind { ORDER_RANDOM, ORDER_SEQ, ORDER_STREAMS16, ORDER_ZIPF, ORDER_KINDS };

extern const char *const order_names[ORDER_KINDS];

struct order {
    enum order_kind kind;
    uint64_t pages; /* of the guest */
    unsigned int vcpus, vcpu;
    uint64_t seed;
    uint64_t step; /* taken so far */
};

/* The next gfn, or ORDER_END. zipf has no end. */
uint64_t order_next(struct order *order);

#endif
