#include "fake_domain.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct fake_domain {
    struct backend be;
    struct fake_config config;
    struct fake_results *results;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint8_t *memory;
    uint8_t *type;
    uint8_t *nominated; /* the page is there although the type says that it is paged in */
    uint8_t *own; /* what is in the page is the guest's own, not the source's: 1 after replace or drop */
    int pauses, our_pauses;
    bool dying, attached, ran;
    int event_fd, life_fd;

    uint8_t *super; /* by region of 512 gfns: it is one entry */
    unsigned int slots, range_foreign, range_guest;
    struct ring_entry ring[FAKE_SLOTS_MANY];
    unsigned int head, tail; /* entries not taken yet */
    struct ring_entry taken[FAKE_SLOTS_MANY];
    unsigned int n_taken; /* taken and not answered */
    struct ring_entry answers[FAKE_SLOTS_MANY];
    unsigned int n_answers; /* answered and not pushed */
    bool waits[FAKE_VCPUS];
    pthread_t threads[FAKE_VCPUS];
    uint64_t loads, unmarks, reads, busy;
    uint64_t collapse_took;
    struct backend_ring_stats stats;
};

static struct fake_config next_config;
static int next_event_fd = -1, next_life_fd = -1;
static struct fake_domain *the_domain;

void fake_prepare(const struct fake_config *config)
{
    next_config = *config;
}

void fake_prepare_events(int event_fd, int life_fd)
{
    next_event_fd = event_fd;
    next_life_fd = life_fd;
}

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

static struct fake_domain *of(struct backend *be)
{
    return (struct fake_domain *)((char *)be - offsetof(struct fake_domain, be));
}

static uint8_t *page_of(struct fake_domain *d, uint64_t gfn)
{
    return d->memory + gfn * FAKE_PAGE;
}

static void violation(struct fake_domain *d, const char *text)
{
    d->results->violations++;
    fprintf(stderr, "fake: violation: %s\n", text);
}

static void kick(int fd)
{
    uint64_t one = 1;

    if (write(fd, &one, sizeof(one)) < 0)
        abort();
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* -- the guest's side; all called with the lock held */

static bool slot_free(struct fake_domain *d, bool foreign)
{
    unsigned int used = d->tail - d->head + d->n_taken + d->n_answers;

    if (used >= d->slots)
        ++*(foreign ? &d->stats.waits_foreign : &d->stats.waits_guest);
    return used < d->slots;
}

static void put_entry(struct fake_domain *d, uint64_t gfn, uint32_t vcpu, uint32_t kind, uint32_t nr)
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

static void look(struct fake_domain *d, uint64_t gfn)
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

static bool marked(const struct fake_domain *d, uint64_t gfn)
{
    return d->type[gfn] == FAKE_PAGED || d->type[gfn] == FAKE_PAGING_IN || d->type[gfn] == FAKE_PAGING_OUT;
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

/* dom0 maps a page of the guest: a request, no waiting. */
static void foreign(struct fake_domain *d, uint64_t gfn)
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

struct vcpu_start {
    struct fake_domain *d;
    unsigned int vcpu;
};

static void *vcpu_main(void *data)
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

/* -- the backend's side */

static void be_close(struct backend *be)
{
    struct fake_domain *d = of(be);

    pthread_mutex_lock(&d->lock);
    d->results->our_pauses = d->dying ? 0 : (uint64_t)d->our_pauses;
    pthread_mutex_unlock(&d->lock);
}

static int be_info(struct backend *be, struct backend_domain *out)
{
    struct fake_domain *d = of(be);

    be->calls.info++;
    memset(out, 0, sizeof(*out));
    out->exists = true;
    out->dying = d->dying;
    out->paused = d->pauses > 0;
    out->ran = d->ran;
    for (uint64_t gfn = 0; gfn < d->config.nr_gfns; gfn++) {
        if (d->type[gfn] == FAKE_PAGED || d->type[gfn] == FAKE_PAGING_IN)
            out->paged_pages++;
        else if (d->type[gfn] != FAKE_HOLE)
            out->pages++;
    }
    out->shutdown = d->results->suspended;
    out->shutdown_reason = d->results->suspended ? BACKEND_SUSPENDED : 0;
    out->hvm = !d->config.pv;
    out->hap = !d->config.pv;
    out->vcpus = d->config.vcpus;
    memset(out->uuid, d->config.foreign_uuid ? 0x22 : 0x11, sizeof(out->uuid));
    return 0;
}

static bool absent(const struct fake_domain *d, uint64_t gfn)
{
    return gfn < d->config.nr_gfns && (d->type[gfn] == FAKE_PAGED || d->type[gfn] == FAKE_PAGING_IN) &&
           !d->nominated[gfn];
}

/* XENMEM_populate_physmap, by the toolstack. */
static void populate_needed(struct fake_domain *d)
{
    for (uint64_t gfn = d->config.needed_first; gfn < d->config.needed_first + d->config.needed_count;
         gfn++) {
        if (absent(d, gfn) && !d->config.needed_untold && slot_free(d, true))
            put_entry(d, gfn, 0, ENTRY_DROP, 1);
        fake_contents(gfn, 1, page_of(d, gfn));
        d->type[gfn] = FAKE_RAM;
    }
    d->config.needed_count = 0;
}

static int be_pause(struct backend *be)
{
    struct fake_domain *d = of(be);

    pthread_mutex_lock(&d->lock);
    populate_needed(d);
    d->pauses++;
    d->our_pauses++;
    pthread_mutex_unlock(&d->lock);
    return 0;
}

static int be_unpause(struct backend *be)
{
    struct fake_domain *d = of(be);

    pthread_mutex_lock(&d->lock);
    if (d->our_pauses == 0)
        violation(d, "unpause without a pause of its own");
    else
        d->our_pauses--, d->pauses--;
    if (d->our_pauses == 0 && d->pauses == 1 && d->config.auto_unpause && d->attached)
        d->pauses = 0;
    d->ran |= d->pauses == 0;
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
    return 0;
}

static int be_max_gfn(struct backend *be, uint64_t *max)
{
    *max = of(be)->config.nr_gfns - 1;
    return 0;
}

static int be_populated(struct backend *be, uint64_t first, uint32_t n, uint64_t *bits)
{
    struct fake_domain *d = of(be);

    be->calls.scan++;
    if (n > be->scan_most || first + n > d->config.nr_gfns) {
        violation(d, "scan out of bounds");
        return -EINVAL;
    }
    memset(bits, 0, (n + 63) / 64 * sizeof(*bits));
    for (uint32_t i = 0; i < n; i++) {
        if (d->type[first + i] == FAKE_RAM)
            bits[i / 64] |= UINT64_C(1) << i % 64;
        /* As Xen's operation on many: nothing is said where pages are absent. */
        if (d->type[first + i] == FAKE_PAGED && n > BACKEND_SCAN_MAX) {
            be->scan_most = BACKEND_SCAN_MAX;
            return -EAGAIN;
        }
    }
    return 0;
}

static int be_special(struct backend *be, uint64_t gfns[BACKEND_SPECIAL_MAX])
{
    gfns[0] = of(be)->config.special_gfn;
    return 1;
}

static int be_populate(struct backend *be, const uint64_t *gfns, unsigned int n)
{
    struct fake_domain *d = of(be);
    int rc = 0;

    pthread_mutex_lock(&d->lock);
    be->calls.populate++;
    if (n > BACKEND_BATCH_MAX)
        violation(d, "populate of too many");
    for (unsigned int i = 0; i < n && rc == 0; i++) {
        if (gfns[i] >= d->config.nr_gfns || d->type[gfns[i]] != FAKE_HOLE)
            violation(d, "populate of a page that is there");
        else if (d->config.populate_most && d->results->populated == d->config.populate_most)
            rc = -ENOMEM;
        else {
            d->type[gfns[i]] = FAKE_RAM;
            memset(page_of(d, gfns[i]), 0, FAKE_PAGE);
            d->results->populated++;
        }
    }
    pthread_mutex_unlock(&d->lock);
    return rc;
}

static int be_release(struct backend *be, const uint64_t *gfns, unsigned int n)
{
    struct fake_domain *d = of(be);

    pthread_mutex_lock(&d->lock);
    be->calls.release++;
    if (n > BACKEND_BATCH_MAX || d->results->claim)
        violation(d, "release of too many, or late");
    for (unsigned int i = 0; i < n; i++) {
        if (!absent(d, gfns[i]))
            violation(d, "release of a page that is not absent");
        if (slot_free(d, true))
            put_entry(d, gfns[i], 0, ENTRY_DROP, 1);
        d->type[gfns[i]] = FAKE_HOLE;
        d->results->released++;
    }
    pthread_mutex_unlock(&d->lock);
    return 0;
}

static int be_claim(struct backend *be, uint64_t pages)
{
    struct fake_domain *d = of(be);

    if (pages && d->config.no_claim)
        return -ENOMEM;
    if (pages && d->results->claim)
        violation(d, "a second claim");
    d->results->claim = pages;
    if (pages)
        d->results->claimed = pages;
    return 0;
}

static bool be_owned(struct backend *be, const char *session)
{
    (void)be, (void)session;
    return true;
}

static void be_forget(struct backend *be, const char *session)
{
    (void)session;
    of(be)->results->forgotten++;
}

static int be_attach(struct backend *be, const struct backend_wish *wish, char *why, size_t why_size)
{
    struct fake_domain *d = of(be);
    unsigned int set = wish->features & d->config.features;

    if (d->config.pv) {
        snprintf(why, why_size, "not today");
        return -ENODEV;
    }
    if (wish->own_ring && !(set & FEATURE_RING))
        return -EOPNOTSUPP;
    if (!(set & FEATURE_RING))
        set &= ~FEATURE_RANGE;
    be->features =
        (struct paging_features){.set = set, .ring_pages = set & FEATURE_RING ? FAKE_PAGES_MANY : 1};
    d->slots = set & FEATURE_RING ? FAKE_SLOTS_MANY : FAKE_SLOTS;
    if (set & FEATURE_RANGE) {
        be->features.range_foreign = d->range_foreign = wish->range_foreign;
        be->features.range_guest = d->range_guest = wish->range_guest;
    }
    d->attached = true;
    return 0;
}

static int be_detach(struct backend *be)
{
    struct fake_domain *d = of(be);
    int rc = 0;

    pthread_mutex_lock(&d->lock);
    for (uint64_t gfn = 0; gfn < d->config.nr_gfns; gfn++)
        if (d->type[gfn] == FAKE_PAGING_OUT)
            violation(d, "detached from a nominated page: the guest crashes when it touches it");
    if (d->head != d->tail || d->n_taken || d->n_answers) {
        violation(d, "detached with entries that nobody answered");
        rc = -EBUSY;
    }
    d->attached = false;
    pthread_mutex_unlock(&d->lock);
    return rc;
}

static void be_abandon(struct backend *be)
{
    of(be)->attached = false;
}

static bool be_can_outlive(struct backend *be)
{
    return be->features.set & FEATURE_RING && !of(be)->config.mortal_ring;
}

/* What XEN_VM_EVENT_ATTACH with ATTACH_AGAIN does: an empty ring, no vcpu paused for it, and other windows.
 */
static int be_attach_again(struct backend *be, char *why, size_t why_size)
{
    struct fake_domain *d = of(be);
    int rc = 0;

    pthread_mutex_lock(&d->lock);
    if (!d->attached || !be_can_outlive(be) || be->features.ring_pages != FAKE_PAGES_MANY) {
        snprintf(why, why_size, "no such ring");
        rc = -ENOENT;
    } else {
        d->head = d->tail;
        d->n_taken = d->n_answers = 0;
        memset(d->waits, 0, sizeof(d->waits));
        d->range_foreign = be->features.set & FEATURE_RANGE ? be->features.range_foreign : 0;
        d->range_guest = be->features.set & FEATURE_RANGE ? be->features.range_guest : 0;
        d->results->taken_over++;
        pthread_cond_broadcast(&d->changed);
    }
    pthread_mutex_unlock(&d->lock);
    return rc;
}

static int be_types(struct backend *be, uint64_t first, unsigned int n, uint8_t *types)
{
    struct fake_domain *d = of(be);

    pthread_mutex_lock(&d->lock);
    be->calls.scan++;
    if (n > BACKEND_SCAN_MAX || first + n > d->config.nr_gfns)
        violation(d, "types out of bounds");
    for (unsigned int i = 0; i < n; i++) {
        switch (d->type[first + i]) {
        case FAKE_HOLE:
            types[i] = BACKEND_HOLE;
            break;
        case FAKE_PAGED:
        case FAKE_PAGING_IN:
            types[i] = d->nominated[first + i] ? BACKEND_PAGE : BACKEND_ABSENT;
            break;
        default:
            types[i] = BACKEND_PAGE;
        }
    }
    pthread_mutex_unlock(&d->lock);
    return 0;
}

static int be_ask_anew(struct backend *be, uint64_t first, uint32_t nr, uint64_t *bitmap)
{
    struct fake_domain *d = of(be);

    pthread_mutex_lock(&d->lock);
    for (uint32_t i = 0; i < nr; i++) {
        uint64_t gfn = first + i;

        if (!(bitmap[i / 64] >> (i % 64) & 1))
            continue;
        if (gfn >= d->config.nr_gfns) {
            violation(d, "a gfn out of bounds to be asked for anew");
        } else if (d->type[gfn] == FAKE_PAGING_IN && !d->nominated[gfn]) {
            d->type[gfn] = FAKE_PAGED;
            d->results->asked_anew++;
        } else if (d->type[gfn] == FAKE_RAM && d->pauses > 0 && !d->ran) {
            violation(d, "a page would be evicted that is there");
        }
    }
    pthread_mutex_unlock(&d->lock);
    return 0;
}

static unsigned int be_slots(struct backend *be)
{
    return of(be)->slots;
}

static int be_ring_stats(struct backend *be, struct backend_ring_stats *out)
{
    struct fake_domain *d = of(be);

    if (!(be->features.set & FEATURE_RING))
        return -EOPNOTSUPP;
    pthread_mutex_lock(&d->lock);
    *out = d->stats;
    pthread_mutex_unlock(&d->lock);
    return 0;
}

/* As Xen does for a domain that has never run: also where there is nothing. */
static int mark_one(struct fake_domain *d, uint64_t gfn)
{
    if (gfn == d->config.special_gfn)
        violation(d, "marked a special page");
    if (d->ran || (d->config.refuse_every && gfn % d->config.refuse_every == 0) ||
        (d->config.half_every && gfn % d->config.half_every == 0))
        return -EBUSY; /* nominated pages only; or mapped by someone */
    if (d->type[gfn] == FAKE_HOLE && d->config.populate_most && d->results->marks == d->config.populate_most)
        return -ENOMEM; /* for the p2m */
    /* Who waits for it asks again. */
    d->type[gfn] = FAKE_PAGED;
    memset(page_of(d, gfn), 0xee, FAKE_PAGE);
    d->results->marks++;
    if (d->config.map_early && gfn == d->config.map_early) {
        foreign(d, gfn);
        d->config.map_early = 0;
    }
    return 0;
}

static int be_mark_batch(struct backend *be, uint64_t first, uint32_t nr, uint64_t *bits)
{
    struct fake_domain *d = of(be);
    int rc = 0;

    pthread_mutex_lock(&d->lock);
    be->calls.mark_batch++;
    if (!(be->features.set & FEATURE_MARK) || !d->attached || d->pauses == 0 ||
        first + nr > d->config.nr_gfns)
        violation(d, "mark without being able to, or of too much");
    for (uint32_t i = 0; i < nr && rc != -ENOMEM; i++) {
        if (!(bits[i / 64] >> i % 64 & 1))
            continue;
        rc = mark_one(d, first + i);
        if (rc == 0)
            bits[i / 64] &= ~(UINT64_C(1) << i % 64);
    }
    pthread_mutex_unlock(&d->lock);
    return rc == -ENOMEM ? rc : 0;
}

static int be_mark(struct backend *be, uint64_t gfn)
{
    struct fake_domain *d = of(be);
    int rc = 0;

    pthread_mutex_lock(&d->lock);
    be->calls.nominate++;
    if (d->pauses == 0)
        violation(d, "marked while the guest runs");
    if (gfn == d->config.special_gfn)
        violation(d, "marked a special page");
    if (d->type[gfn] != FAKE_RAM || (d->config.refuse_every && gfn % d->config.refuse_every == 0)) {
        rc = -EBUSY;
    } else if (d->config.half_every && gfn % d->config.half_every == 0) {
        /* Nominated, and then someone has mapped it: evict says -EBUSY. */
        be->calls.evict++;
        d->type[gfn] = FAKE_PAGING_OUT;
        d->nominated[gfn] = 1;
        rc = -EAGAIN;
    } else {
        d->type[gfn] = FAKE_PAGED;
        memset(page_of(d, gfn), 0xee, FAKE_PAGE);
        be->calls.evict++;
        d->results->marks++;
    }
    pthread_mutex_unlock(&d->lock);
    return rc;
}

static int be_unmark(struct backend *be, uint64_t gfn, void *scratch)
{
    struct fake_domain *d = of(be);
    int rc = 0;

    pthread_mutex_lock(&d->lock);
    (void)scratch;
    if (d->pauses == 0)
        violation(d, "unmarked while the guest runs");
    /* Now and then someone still maps the page. */
    if (++d->unmarks % 5 == 0)
        rc = -EBUSY;
    else if (d->type[gfn] == FAKE_PAGING_OUT)
        d->type[gfn] = FAKE_RAM;
    pthread_mutex_unlock(&d->lock);
    return rc;
}

static int be_load(struct backend *be, uint64_t gfn, const void *page)
{
    struct fake_domain *d = of(be);
    int rc = 0;

    if (d->config.load_us)
        usleep(d->config.load_us);
    pthread_mutex_lock(&d->lock);
    be->calls.load++;
    d->loads++;
    if (!d->attached)
        violation(d, "load without a ring");
    if (gfn >= d->config.nr_gfns || (d->type[gfn] != FAKE_PAGED && d->type[gfn] != FAKE_PAGING_IN)) {
        rc = -ENOENT;
    } else if (d->config.nomem_every && d->loads % d->config.nomem_every == 0) {
        rc = -ENOMEM;
    } else if (d->nominated[gfn]) {
        rc = -EEXIST;
    } else {
        memcpy(page_of(d, gfn), page, FAKE_PAGE);
        if (gfn == d->config.spoil_gfn)
            page_of(d, gfn)[77] ^= 1;
        d->type[gfn] = FAKE_RAM;
        d->results->loads++;
    }
    pthread_mutex_unlock(&d->lock);
    return rc;
}

static bool region_is(const struct fake_domain *d, uint64_t gfn, enum fake_type type)
{
    for (uint64_t i = gfn; i < gfn + BACKEND_SUPER; i++)
        if (i >= d->config.nr_gfns || (type == FAKE_RAM ? d->type[i] != FAKE_RAM : !absent(d, i)))
            return false;
    return true;
}

static void fill(struct fake_domain *d, uint64_t gfn, const uint8_t *contents)
{
    memcpy(page_of(d, gfn), contents, FAKE_PAGE);
    if (gfn == d->config.spoil_gfn)
        page_of(d, gfn)[77] ^= 1;
    d->type[gfn] = FAKE_RAM;
    d->results->loads++;
}

static int load_super(struct fake_domain *d, const struct backend_page *page)
{
    if (page->order != 9 || page->gfn % BACKEND_SUPER)
        violation(d, "a superpage that is none");
    if (!region_is(d, page->gfn, FAKE_PAGED))
        return -EBUSY;
    if (d->config.nomem_every && ++d->loads % d->config.nomem_every == 0)
        return -ENOMEM;
    for (unsigned int i = 0; i < BACKEND_SUPER; i++)
        fill(d, page->gfn + i, (const uint8_t *)page->contents + (size_t)i * FAKE_PAGE);
    d->super[page->gfn / BACKEND_SUPER] = 1;
    d->results->supers++;
    return 0;
}

static int load_page(struct fake_domain *d, const struct backend_page *page)
{
    if (d->config.fault_every && ++d->reads % d->config.fault_every == 0)
        return -EFAULT;
    if (page->order)
        return load_super(d, page);
    if (!absent(d, page->gfn))
        return page->gfn < d->config.nr_gfns && (d->type[page->gfn] == FAKE_RAM || d->nominated[page->gfn])
                   ? -EEXIST
                   : -ENOENT;
    if (d->config.nomem_every && ++d->loads % d->config.nomem_every == 0)
        return -ENOMEM;
    fill(d, page->gfn, page->contents);
    return 0;
}

static unsigned int be_load_batch(struct backend *be, struct backend_page *pages, unsigned int n)
{
    struct fake_domain *d = of(be);
    unsigned int done = 0;

    if (d->config.load_us)
        usleep(d->config.load_us);
    pthread_mutex_lock(&d->lock);
    be->calls.load_batch++;
    if (!d->attached || n > BACKEND_LOAD_MAX || !(be->features.set & FEATURE_PREP))
        violation(d, "load without being able to, or of too much");
    if (n > d->results->most_in_a_call)
        d->results->most_in_a_call = n;
    while (done < n) {
        pages[done].rc = load_page(d, &pages[done]);
        if (pages[done++].rc == -ENOMEM && !pages[done - 1].order)
            break;
    }
    pthread_mutex_unlock(&d->lock);
    return done;
}

static int collapse(struct fake_domain *d, uint64_t gfn)
{
    if (gfn % BACKEND_SUPER)
        violation(d, "collapse of no region");
    if (d->config.collapse_rc)
        return d->config.collapse_rc;
    if (d->super[gfn / BACKEND_SUPER])
        return -EEXIST;
    if (!region_is(d, gfn, FAKE_RAM))
        return -EBUSY;
    if (d->config.collapse_busy && gfn == d->config.collapse_busy &&
        (!d->config.busy_tries || ++d->busy < d->config.busy_tries + 1))
        return -EBUSY;
    d->super[gfn / BACKEND_SUPER] = 1;
    d->results->supers++;
    d->results->collapsed++;
    return 0;
}

static int be_collapse(struct backend *be, uint64_t gfn)
{
    struct fake_domain *d = of(be);
    struct fake_results *r = d->results;
    uint64_t start = now_ns();
    int rc;

    /* No vcpu does anything meanwhile. */
    pthread_mutex_lock(&d->lock);
    be->calls.collapse++;
    r->collapse_first_ns = r->collapse_first_ns ? r->collapse_first_ns : start;
    r->collapse_last_ns = start;
    r->collapse_ns += d->collapse_took;
    if (!d->attached || !(be->features.set & FEATURE_SUPERPAGES))
        violation(d, "collapse without being able to");
    rc = collapse(d, gfn);
    if (rc != -EEXIST && d->config.collapse_us)
        usleep(d->config.collapse_us);
    d->collapse_took = now_ns() - start;
    pthread_mutex_unlock(&d->lock);
    return rc;
}

static int be_repair(struct backend *be, uint64_t gfn)
{
    struct fake_domain *d = of(be);
    int rc = 0;

    pthread_mutex_lock(&d->lock);
    be->calls.repair++;
    if (gfn >= d->config.nr_gfns || d->type[gfn] != FAKE_PAGING_IN)
        rc = -ENOENT;
    else
        d->type[gfn] = FAKE_RAM;
    pthread_mutex_unlock(&d->lock);
    return rc;
}

static int be_event_fd(struct backend *be)
{
    return of(be)->event_fd;
}

static int be_ack_event(struct backend *be)
{
    uint64_t count;

    return read(of(be)->event_fd, &count, sizeof(count)) < 0 ? -errno : 0;
}

static bool be_next_entry(struct backend *be, struct ring_entry *entry)
{
    struct fake_domain *d = of(be);
    bool any;

    pthread_mutex_lock(&d->lock);
    any = d->head != d->tail;
    if (any) {
        *entry = d->ring[d->head++ % d->slots];
        d->taken[d->n_taken++] = *entry;
    }
    pthread_mutex_unlock(&d->lock);
    return any;
}

static void be_respond(struct backend *be, const struct ring_entry *entry)
{
    struct fake_domain *d = of(be);
    unsigned int i;

    pthread_mutex_lock(&d->lock);
    for (i = 0; i < d->n_taken; i++)
        if (d->taken[i].gfn == entry->gfn && d->taken[i].vcpu_id == entry->vcpu_id &&
            d->taken[i].kind == entry->kind)
            break;
    if (i == d->n_taken) {
        violation(d, "an answer that no entry wanted");
    } else {
        d->taken[i] = d->taken[--d->n_taken];
        d->answers[d->n_answers++] = *entry;
    }
    pthread_mutex_unlock(&d->lock);
}

static int be_push(struct backend *be)
{
    struct fake_domain *d = of(be);

    pthread_mutex_lock(&d->lock);
    for (unsigned int i = 0; i < d->n_answers; i++) {
        const struct ring_entry *e = &d->answers[i];

        /* An answer to a paused vcpu whose page is still absent would let it run into the fault again. */
        if (e->kind & ENTRY_PAUSED && !(e->kind & ENTRY_FOREIGN)) {
            if (d->type[e->gfn] == FAKE_PAGING_IN || d->type[e->gfn] == FAKE_PAGED)
                violation(d, "a vcpu was let go while its page is absent");
            d->waits[e->vcpu_id] = false;
        }
    }
    d->results->notified += d->n_answers > 0;
    d->n_answers = 0;
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
    return 0;
}

static int be_life_fd(struct backend *be)
{
    return of(be)->life_fd;
}

static void be_ack_life(struct backend *be)
{
    uint64_t count;

    if (read(of(be)->life_fd, &count, sizeof(count)) < 0)
        return;
}

static void *be_map(struct backend *be, const uint64_t *gfns, unsigned int n, int *err)
{
    struct fake_domain *d = of(be);
    uint8_t *map = malloc((size_t)n * FAKE_PAGE);

    be->calls.map++;
    for (unsigned int i = 0; i < n; i++) {
        if (marked(d, gfns[i]))
            violation(d, "a map of an absent page: the pager waits for itself");
        err[i] = d->type[gfns[i]] == FAKE_RAM ? 0 : -EINVAL;
        memcpy(map + (size_t)i * FAKE_PAGE, page_of(d, gfns[i]), FAKE_PAGE);
    }
    return map;
}

static void be_unmap(struct backend *be, void *address, unsigned int n)
{
    (void)be;
    (void)n;
    free(address);
}

static const struct backend_ops fake_ops = {
    .name = "fake",
    .close = be_close,
    .info = be_info,
    .pause = be_pause,
    .unpause = be_unpause,
    .max_gfn = be_max_gfn,
    .populated = be_populated,
    .special = be_special,
    .populate = be_populate,
    .release = be_release,
    .claim = be_claim,
    .forget = be_forget,
    .owned = be_owned,
    .attach = be_attach,
    .can_outlive = be_can_outlive,
    .attach_again = be_attach_again,
    .types = be_types,
    .ask_anew = be_ask_anew,
    .detach = be_detach,
    .abandon = be_abandon,
    .slots = be_slots,
    .ring_stats = be_ring_stats,
    .mark = be_mark,
    .mark_batch = be_mark_batch,
    .unmark = be_unmark,
    .load = be_load,
    .load_batch = be_load_batch,
    .collapse = be_collapse,
    .repair = be_repair,
    .event_fd = be_event_fd,
    .ack_event = be_ack_event,
    .next_entry = be_next_entry,
    .respond = be_respond,
    .push = be_push,
    .life_fd = be_life_fd,
    .ack_life = be_ack_life,
    .map = be_map,
    .unmap = be_unmap,
};

static void on_destroy(int signal)
{
    (void)signal;
    fake_destroy();
}

static void on_unpause(int signal)
{
    (void)signal;
    fake_toolstack_unpause();
}

/* The test tells the domain's process by signals; they are taken here, not in a handler. */
static void *toolstack_main(void *data)
{
    sigset_t set;
    int signal;

    (void)data;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    while (sigwait(&set, &signal) == 0)
        (signal == SIGUSR1 ? on_destroy : on_unpause)(signal);
    return NULL;
}

struct backend *fake_open(const char *domain, char *why, size_t why_size)
{
    struct fake_domain *d = calloc(1, sizeof(*d));
    pthread_t toolstack;
    sigset_t set;

    if (strcmp(domain, "nobody") == 0) {
        snprintf(why, why_size, "no domain '%s' here", domain);
        free(d);
        return NULL;
    }
    d->be.ops = &fake_ops;
    d->be.domid = d->config.seed ? 7 : 8;
    d->config = next_config;
    d->be.scan_most = d->config.features & FEATURE_MARK ? FAKE_SCAN_MOST : BACKEND_SCAN_MAX;
    d->results = d->config.results;
    d->be.domid = d->config.seed ? 7 : 8;
    d->pauses = d->config.running ? 0 : 1;
    d->ran = d->config.ran;
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->changed, NULL);
    d->event_fd = next_event_fd >= 0 ? next_event_fd : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    d->life_fd = next_life_fd >= 0 ? next_life_fd : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    d->memory = mmap(NULL, d->config.nr_gfns * FAKE_PAGE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    d->type = calloc(d->config.nr_gfns, 1);
    d->own = calloc(d->config.nr_gfns, 1);
    d->super = calloc(d->config.nr_gfns / BACKEND_SUPER + 1, 1);
    d->nominated = calloc(d->config.nr_gfns, 1);
    d->slots = FAKE_SLOTS;
    for (uint64_t gfn = 0; gfn < d->config.nr_gfns; gfn++) {
        if (gfn >= d->config.hole_first && gfn - d->config.hole_first < d->config.hole_count)
            continue;
        /* Restored without the pages that come later. */
        if (d->config.switched && gfn != d->config.special_gfn)
            continue;
        d->type[gfn] = FAKE_RAM;
        /* The restored guest holds what the source has: the stream brought it. */
        fake_contents(gfn, d->config.seed ? d->config.seed : 1, page_of(d, gfn));
    }
    the_domain = d;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    pthread_create(&toolstack, NULL, toolstack_main, NULL);
    for (unsigned int i = 0; i < d->config.vcpus; i++) {
        struct vcpu_start *start = malloc(sizeof(*start));

        *start = (struct vcpu_start){d, i};
        pthread_create(&d->threads[i], NULL, vcpu_main, start);
    }
    d->results->ready = 1;
    return &d->be;
}

void fake_destroy(void)
{
    struct fake_domain *d = the_domain;

    pthread_mutex_lock(&d->lock);
    d->dying = true;
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
    kick(d->life_fd);
}

void fake_toolstack_unpause(void)
{
    struct fake_domain *d = the_domain;

    pthread_mutex_lock(&d->lock);
    if (d->pauses > 0)
        d->pauses--;
    d->ran |= d->pauses == 0;
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
    /* Or the test has changed something else: results->suspended. */
    kick(d->life_fd);
}

void fake_foreign(uint64_t gfn)
{
    struct fake_domain *d = the_domain;

    pthread_mutex_lock(&d->lock);
    foreign(d, gfn);
    pthread_mutex_unlock(&d->lock);
}

void fake_out_of_memory(bool out)
{
    the_domain->config.nomem_every = out;
}

void fake_check_all(void)
{
    struct fake_domain *d = the_domain;

    /* The vcpus go on until they have touched what they wanted: now that all is there, nothing holds them. */
    if (!d->dying && d->pauses == 0)
        for (unsigned int i = 0; i < d->config.vcpus; i++)
            pthread_join(d->threads[i], NULL);
    pthread_mutex_lock(&d->lock);
    for (uint64_t gfn = 0; gfn < d->config.nr_gfns; gfn++) {
        if (marked(d, gfn) && !d->dying)
            d->results->wrong_pages++;
        if (d->type[gfn] == FAKE_RAM)
            look(d, gfn);
    }
    pthread_mutex_unlock(&d->lock);
}
