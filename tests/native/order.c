#include "order.h"

#include <math.h>

#include "permute.h"

/* Of the popularity of pages: that of YCSB. */
#define ZIPF_EXPONENT 0.99

const char *const order_names[ORDER_KINDS] = {"random", "seq", "streams16", "zipf"};

static uint64_t next_random(struct order *o)
{
    uint64_t i = o->step++ * o->vcpus + o->vcpu;

    return i < o->pages ? permute(o->pages, o->seed, i) : ORDER_END;
}

/* Each vcpu has a part of the memory. Not from its beginning on, where a push may begin, too. */
static uint64_t next_seq(struct order *o)
{
    uint64_t first = o->pages * o->vcpu / o->vcpus, end = o->pages * (o->vcpu + 1) / o->vcpus;

    return first + o->step < end ? (first + o->step++ + o->pages / 3) % o->pages : ORDER_END;
}

/* Each vcpu has some of the streams, and takes a page of each in turn. */
static uint64_t next_stream(struct order *o)
{
    uint64_t length = o->pages / ORDER_STREAMS;
    unsigned int mine = (ORDER_STREAMS - o->vcpu + o->vcpus - 1) / o->vcpus;
    uint64_t stream = o->vcpu + o->step % mine * o->vcpus, at = o->step / mine;

    o->step++;
    return at < length ? stream * length + at : ORDER_END;
}

/* Ranks by inverting the distribution as if they were continuous; which page has which rank is random. */
static uint64_t next_zipf(struct order *o)
{
    double power = 1. - ZIPF_EXPONENT;
    double u = (double)(mix64(o->seed ^ mix64(o->step++ * o->vcpus + o->vcpu)) >> 11) * 0x1p-53;
    double rank = pow(u * (pow((double)o->pages + 1., power) - 1.) + 1., 1. / power) - 1.;
    uint64_t x = (uint64_t)rank;

    return permute(o->pages, o->seed, x < o->pages ? x : o->pages - 1);
}

uint64_t order_next(struct order *o)
{
    switch (o->kind) {
    case ORDER_RANDOM:
        return next_random(o);
    case ORDER_SEQ:
        return next_seq(o);
    case ORDER_STREAMS16:
        return next_stream(o);
    default:
        return next_zipf(o);
    }
}
