/* The fake domain's guest: what is in its pages, and what its vcpus do with them. */
#include "fake_internal.h"

#include <stdlib.h>
#include <string.h>

void fake_contents(uint64_t gfn, unsigned int seed, uint8_t page[FAKE_PAGE])
{
    uint64_t x = (gfn + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ seed * UINT64_C(0xd1342543de82ef95);

    /* Some zero pages, as real guests have. */
    if (gfn % 17 == 3) {
        memset(page, 0, FAKE_PAGE);
        return;
    }
    for (unsigned int i = 0; i < FAKE_PAGE; i += 8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(page + i, &x, 8);
    }
}

/* -- the guest's side; all called with the lock held */

bool slot_free(struct fake_domain *d, bool foreign)
{
    unsigned int used = d->tail - d->head + d->n_taken + d->n_answers;

    if (used >= d->slots)
        ++*(foreign ? &d->stats.waits_foreign : &d->stats.waits_guest);
    return used < d->slots;
}

void put_entry(struct fake_domain *d, uint64_t gfn, uint32_t vcpu, uint32_t kind, uint32_t nr)
{
    unsigned int used = d->tail - d->head + d->n_taken + d->n_answers + 1;

    d->ring[d->tail++ % d->slots] = (struct ring_entry){.gfn = gfn, .vcpu_id = vcpu, .kind = kind, .nr = nr};
    d->stats.requests++;
    if (used > d->stats.high_water)
        d->stats.high_water = used;
    d->results->ranges += nr > 1;
    kick(d->event_fd);
}

/* gfn is being paged in; so are those that follow it up to the end of the window. Returns how many that are.
 */
static uint32_t page_in(struct fake_domain *d, uint64_t gfn, unsigned int window)
{
    uint32_t nr = 1;
    bool evicted = d->type[gfn] == FAKE_PAGED;

    d->type[gfn] = FAKE_PAGING_IN;
    for (; evicted && window && (gfn + nr) % window && gfn + nr < d->config.nr_gfns; nr++) {
        if (d->type[gfn + nr] != FAKE_PAGED)
            break;
        d->type[gfn + nr] = FAKE_PAGING_IN;
    }
    return nr;
}

/* Returns when gfn can be read, or false when the domain dies or is no longer populated there. */
static bool fault(struct fake_domain *d, unsigned int vcpu, uint64_t gfn)
{
    while (!d->dying) {
        uint32_t kind = ENTRY_PAUSED;

        if (d->pauses > 0) {
            pthread_cond_wait(&d->changed, &d->lock);
            continue;
        }
        if (d->type[gfn] == FAKE_RAM)
            return true;
        if (d->type[gfn] == FAKE_HOLE)
            return false;
        if (!slot_free(d, false)) {
            pthread_cond_wait(&d->changed, &d->lock);
            continue;
        }
        if (d->type[gfn] == FAKE_PAGING_OUT)
            kind |= ENTRY_EVICT_FAIL;
        d->waits[vcpu] = true;
        put_entry(d, gfn, vcpu, kind, page_in(d, gfn, d->range_guest));
        while (d->waits[vcpu] && !d->dying)
            pthread_cond_wait(&d->changed, &d->lock);
    }
    return false;
}

void look(struct fake_domain *d, uint64_t gfn)
{
    uint8_t expected[FAKE_PAGE];

    if (d->own[gfn])
        memset(expected, 0x5a, sizeof(expected));
    else
        fake_contents(gfn, d->config.seed ? d->config.seed : 1, expected);
    d->results->touches++;
    if (memcmp(page_of(d, gfn), expected, FAKE_PAGE) != 0) {
        if (d->results->wrong_pages++ == 0)
            d->results->first_wrong_gfn = gfn;
    }
}

/* The guest releases a page: Xen tells the pager if it was absent. Later it fills the hole with one of its
 * own. */
static void release_page(struct fake_domain *d, uint64_t gfn)
{
    if (marked(d, gfn)) {
        if (!slot_free(d, false))
            return;
        put_entry(d, gfn, 0, ENTRY_DROP | (d->type[gfn] == FAKE_PAGING_OUT ? ENTRY_EVICT_FAIL : 0), 1);
        d->results->dropped++;
    }
    d->type[gfn] = FAKE_HOLE;
    d->super[gfn / BACKEND_SUPER] = 0;
}

static void place_page(struct fake_domain *d, uint64_t gfn)
{
    if (marked(d, gfn))
        d->results->replaced++;
    memset(page_of(d, gfn), 0x5a, FAKE_PAGE);
    d->own[gfn] = 1;
    d->type[gfn] = FAKE_RAM;
}

void foreign(struct fake_domain *d, uint64_t gfn)
{
    uint32_t kind = ENTRY_FOREIGN;

    if ((d->type[gfn] != FAKE_PAGED && d->type[gfn] != FAKE_PAGING_OUT) || !slot_free(d, true))
        return;
    if (d->type[gfn] == FAKE_PAGING_OUT)
        kind |= ENTRY_EVICT_FAIL;
    put_entry(d, gfn, 0, kind, page_in(d, gfn, d->range_foreign));
    d->results->foreign++;
}

/* A vcpu gets into what another domain's request was for as well, once the pager has seen that. */
static void map_then_touch(struct fake_domain *d)
{
    while (d->pauses > 0 && !d->dying)
        pthread_cond_wait(&d->changed, &d->lock);
    foreign(d, 0);
    while ((d->head != d->tail || d->n_taken || d->n_answers) && !d->dying)
        pthread_cond_wait(&d->changed, &d->lock);
    if (fault(d, 0, 255))
        look(d, 255);
}

void *vcpu_main(void *data)
{
    struct vcpu_start *start = data;
    struct fake_domain *d = start->d;
    unsigned int vcpu = start->vcpu, random = d->config.seed * 7919 + vcpu + 1;

    free(start);
    pthread_mutex_lock(&d->lock);
    d->results->blocked_vcpus++;
    if (vcpu == 0 && d->config.map_then_touch)
        map_then_touch(d);
    for (uint64_t i = 0; i < d->config.touches && !d->dying; i++) {
        uint64_t gfn = (uint64_t)rand_r(&random) % d->config.nr_gfns;
        unsigned int percent = (unsigned int)rand_r(&random) % 100;

        while (d->pauses > 0 && !d->dying)
            pthread_cond_wait(&d->changed, &d->lock);
        if (d->dying)
            break;
        if (percent < d->config.drop_percent && d->type[gfn] != FAKE_HOLE) {
            release_page(d, gfn);
        } else if (percent < d->config.drop_percent + d->config.replace_percent) {
            place_page(d, gfn);
        } else if (percent < d->config.drop_percent + d->config.replace_percent + d->config.foreign_percent) {
            foreign(d, gfn);
        } else if (fault(d, vcpu, gfn)) {
            look(d, gfn);
        }
        pthread_mutex_unlock(&d->lock);
        pthread_mutex_lock(&d->lock);
    }
    for (uint64_t gfn = 0; vcpu == 0 && d->config.reads_all && gfn < d->config.nr_gfns; gfn++)
        if (fault(d, vcpu, gfn))
            look(d, gfn);
    if (!d->dying)
        d->results->blocked_vcpus--;
    pthread_mutex_unlock(&d->lock);
    return NULL;
}
