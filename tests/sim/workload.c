#include "workload.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SKEW    0.99
#define STREAMS 16u
#define STRIDE  16u
#define CLUSTER 32u

static const char *const names[WORKLOADS] = {
    [WORK_SEQ] = "seq",       [WORK_BACKWARD] = "backward", [WORK_STREAMS16] = "streams16",
    [WORK_STRIDE] = "stride", [WORK_RANDOM] = "random",     [WORK_ZIPF] = "zipf",
    [WORK_MIXED] = "mixed",   [WORK_CLUSTERS] = "clusters",
};

const char *workload_name(enum workload_kind kind)
{
    return names[kind];
}

/* splitmix64, below bound. */
uint64_t sim_random(uint64_t *state, uint64_t bound)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (z ^ z >> 31) % bound;
}

static int init_ranks(struct workload *w)
{
    double sum = 0;

    w->sum = calloc(w->ranks, sizeof(*w->sum));
    w->place = calloc(w->ranks, sizeof(*w->place));
    if (!w->sum || !w->place) {
        workload_free(w);
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < w->ranks; i++) {
        uint64_t j = sim_random(&w->random, i + 1);

        w->sum[i] = sum += pow((double)(i + 1), -SKEW);
        w->place[i] = w->place[j];
        w->place[j] = (uint32_t)i;
    }
    return 0;
}

int workload_init(struct workload *w, enum workload_kind kind, uint64_t pages, uint64_t seed)
{
    memset(w, 0, sizeof(*w));
    w->kind = kind;
    w->pages = pages;
    w->random = seed;
    w->ranks = kind == WORK_ZIPF ? pages : kind == WORK_CLUSTERS ? (pages + CLUSTER - 1) / CLUSTER : 0;
    return w->ranks ? init_ranks(w) : 0;
}

void workload_free(struct workload *w)
{
    free(w->sum);
    free(w->place);
    w->sum = NULL;
    w->place = NULL;
}

static uint64_t by_rank(struct workload *w)
{
    double at = (double)sim_random(&w->random, UINT64_C(1) << 53) / 0x1p53 * w->sum[w->ranks - 1];
    uint64_t low = 0, high = w->ranks - 1;

    while (low < high) {
        uint64_t middle = (low + high) / 2;

        if (w->sum[middle] > at)
            high = middle;
        else
            low = middle + 1;
    }
    return w->place[low];
}

static uint64_t clusters(struct workload *w)
{
    if (!w->left) {
        w->at = by_rank(w) * CLUSTER;
        w->left = w->at + CLUSTER < w->pages ? CLUSTER : w->pages - w->at;
    }
    w->left--;
    return w->at++;
}

uint64_t workload_next(struct workload *w)
{
    uint64_t n = w->n++, third = w->pages / 3, part = w->pages / STREAMS, rows = w->pages / STRIDE;

    switch (w->kind) {
    case WORK_SEQ:
        return (third + n) % w->pages;
    case WORK_BACKWARD:
        return (third + w->pages - n % w->pages) % w->pages;
    case WORK_STREAMS16:
        return (n % STREAMS * part + n / STREAMS) % w->pages;
    case WORK_STRIDE:
        return (n % rows * STRIDE + n / rows) % w->pages;
    case WORK_RANDOM:
        return sim_random(&w->random, w->pages);
    case WORK_ZIPF:
        return by_rank(w);
    case WORK_CLUSTERS:
        return clusters(w);
    case WORK_MIXED:
        return n % 4 ? (third + n / 4 * 3 + n % 4 - 1) % w->pages : sim_random(&w->random, w->pages);
    default:
        abort();
    }
}
