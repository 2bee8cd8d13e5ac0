/* The fake domain as a backend: what Xen and the toolstack would do. */
#include "fake_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

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

static int be_confine(struct backend *be, int *fd)
{
    (void)be;
    *fd = -1;
    return 0;
}

static void *be_map(struct backend *be, const uint64_t *gfns, unsigned int n, int *err)
{
    struct fake_domain *d = of(be);
    uint8_t *map = aligned_alloc(FAKE_PAGE, (size_t)n * FAKE_PAGE);

    be->calls.map++;
    for (unsigned int i = 0; i < n; i++) {
        if (marked(d, gfns[i]))
            violation(d, "a map of an absent page: the pager waits for itself");
        if (gfns[i] >= d->config.nr_gfns) {
            err[i] = -EINVAL;
            continue;
        }
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

const struct backend_ops fake_ops = {
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
    .confine = be_confine,
    .map = be_map,
    .unmap = be_unmap,
};
