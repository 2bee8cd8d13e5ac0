/* A vcpu of the native guest: a thread that touches pages, times each first touch, and knows every byte. */
#ifndef NATIVE_VCPU_H
#define NATIVE_VCPU_H

#include <pthread.h>
#include <stdint.h>

#include "durations.h"
#include "order.h"
#include "shared.h"

/* What all of them have in common. */
struct workload {
    struct native_shared *shared;
    _Atomic uint8_t *touched; /* by gfn */
    enum order_kind kind;
    unsigned int zero_percent;
    uint64_t touches; /* of each vcpu; 0: as many as its order has */
    uint64_t pace_ns; /* from one touch of a vcpu to its next, if nothing keeps it; 0: none */
    uint64_t seed;
};

struct vcpu {
    const struct workload *workload;
    unsigned int number;
    pthread_t thread;
    uint64_t touches, wrong_bytes, first_wrong;
    uint64_t faults;
    struct durations first, faulted; /* touches of pages not touched before; those that had to wait */
    uint64_t started_ns, ended_ns;
};

void *vcpu_main(void *vcpu);

#endif
