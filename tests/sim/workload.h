/* Which page a guest touches next. */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>

enum workload_kind {
    WORK_SEQ,       /* upwards and round, from a third of the memory on */
    WORK_BACKWARD,  /* the same downwards */
    WORK_STREAMS16, /* 16 of the first, from sixteenths on, in turn */
    WORK_STRIDE,    /* every 16th page, then those behind them */
    WORK_RANDOM,    /* any page */
    WORK_ZIPF,      /* skewed (0.99), the popular ones all over memory */
    WORK_CLUSTERS,  /* the same of runs of 32 pages, which are gone through upwards */
    WORK_MIXED,     /* three of four as WORK_SEQ, the fourth as WORK_RANDOM */
    WORKLOADS
};

struct workload {
    enum workload_kind kind;
    uint64_t pages;
    uint64_t random; /* state */
    uint64_t n;      /* touches so far */
    double *sum;     /* of the weights, up to each rank */
    uint32_t *place; /* of each rank */
    uint64_t ranks;
    uint64_t at, left; /* in a cluster */
};

const char *workload_name(enum workload_kind kind);
/* 0, or -ENOMEM. pages below 2^32. */
int workload_init(struct workload *w, enum workload_kind kind, uint64_t pages, uint64_t seed);
void workload_free(struct workload *w);
uint64_t workload_next(struct workload *w);

uint64_t sim_random(uint64_t *state, uint64_t bound);

#endif
