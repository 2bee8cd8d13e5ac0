/* The way of a page: ring entry, arrival in the pool, installation, answer. Nothing here allocates. */
#include <errno.h>
#include <string.h>

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include "backend_batch.h"
#include "log.h"
#include "receive.h"
#include "wire/wire.h"

#define RETRY_MS_MIN 10
#define RETRY_MS_MAX 1000

void receive_answer_waiters(struct receiver *r, uint64_t gfn)
{
    struct ring_entry entry;
    uint64_t now;

    /* Most pages have nobody waiting: not even the clock is asked (a system call under Xen). */
    if (!r->pages.waiting)
        return;
    now = monotonic_ns();
    while (pagein_release(&r->pages, gfn, now, &entry)) {
        receive_trace_answer(r, &entry, now);
        log_debug("vcpu %u goes on with gfn 0x%llx", entry.vcpu_id, (unsigned long long)gfn);
        r->be->ops->respond(r->be, &entry);
    }
}

void receive_let_foreign_go(struct receiver *r)
{
    struct ring_entry entry;

    if (!r->attached)
        return;
    while (pagein_release_foreign(&r->pages, &entry))
        r->be->ops->respond(r->be, &entry);
    r->be->ops->push(r->be);
}

static bool ask_more(struct receiver *r)
{
    bool asked = false;

    for (unsigned int i = 0; i < r->n_more; i++) {
        uint64_t first = r->more[i].first, count;

        while ((count = pagein_want_run(&r->pages, &first, r->more[i].end, POOL_ASK_MAX))) {
            receive_ask(r, first, count, r->more[i].waits ? WIRE_DOM0_WAITS : WIRE_NOBODY_WAITS);
            first += count;
            asked = true;
        }
    }
    r->n_more = 0;
    return asked;
}

/* What an entry wants besides its first page, remembered until every first page has been asked for. */
static void take_more(struct receiver *r, const struct ring_entry *entry, bool asked)
{
    uint64_t end = entry->gfn + entry->nr, window = r->options->widen;
    bool waits;

    if (entry->kind & (ENTRY_ALIEN | ENTRY_DROP | ENTRY_EVICT_FAIL) || entry->gfn >= r->pages.nr)
        return;
    if (entry->nr <= 1 && asked && entry->kind & ENTRY_FOREIGN && window > 1)
        end = (entry->gfn / window + 1) * window;
    if (end <= entry->gfn + 1)
        return;
    /* Who maps a range waits for all of it; what is beside that, or a guest's page, may be next. */
    waits = entry->nr > 1 && entry->kind & ENTRY_FOREIGN;
    if (r->n_more == PAGEIN_WAITERS)
        ask_more(r);
    r->more[r->n_more].first = entry->gfn + 1;
    r->more[r->n_more].waits = waits;
    r->more[r->n_more++].end = end;
}

static bool take_entry(struct receiver *r, const struct ring_entry *entry)
{
    uint64_t now = monotonic_ns();
    struct pagein_action action;

    if (r->early.on) {
        receive_early_entry(r, entry);
        return false;
    }
    receive_trace_entry(r, entry, now);
    action = pagein_entry(&r->pages, entry, now);
    if (action.verdict == PAGEIN_REPAIR)
        action = pagein_repaired(&r->pages, entry, r->be->ops->repair(r->be, entry->gfn), now);
    /* Not before: who takes over repairs those that are not gone. */
    if (entry->kind & ENTRY_EVICT_FAIL)
        receive_half_gone(r, entry->gfn);
    /* The guest runs. What dom0 maps before that comes without the rest, which it would only wait behind. */
    if (receive_push_now(r) && r->run.state == SESSION_ACTIVE)
        receive_go(r);
    if (action.verdict == PAGEIN_WAIT)
        log_debug("vcpu %u waits for gfn 0x%llx", entry->vcpu_id, (unsigned long long)entry->gfn);
    if (action.ask)
        receive_ask(r, entry->gfn, 1, entry->kind & ENTRY_FOREIGN ? WIRE_DOM0_WAITS : WIRE_VCPU_WAITS);
    if (action.dropped) {
        receive_tell_dropped(r, entry->gfn);
        receive_answer_waiters(r, entry->gfn);
    }
    if (action.verdict == PAGEIN_ANSWER)
        r->be->ops->respond(r->be, entry);
    receive_super_touched(r, entry->gfn);
    take_more(r, entry, action.ask);
    return action.ask;
}

void receive_ring(struct receiver *r)
{
    struct ring_entry entry;
    bool asked = false;

    if (!r->attached)
        return;
    while (r->attached && r->be->ops->next_entry(r->be, &entry))
        asked |= take_entry(r, &entry);
    asked |= ask_more(r);
    receive_ask_end(r);
    receive_install(r); /* pages that were held back for a superpage */
    if (!r->attached)
        return;
    r->be->ops->push(r->be);
    r->asked_rounds += asked;
    receive_ask_unsent(r);
    receive_check_complete(r);
}

static void hold(struct receiver *r, const struct receive_held *page)
{
    /* Which gfns are zero is noted. */
    if (page->slot == RECEIVE_ZERO)
        r->n_zeros_held++;
    else
        r->held[(r->held_head + r->n_held++) % r->held_size] = *page;
    if (!ev_is_active(&r->retry)) {
        ev_timer_set(&r->retry, r->retry_ms / 1000., 0.);
        ev_timer_start(r->run.loop, &r->retry);
    }
}

static void release(struct receiver *r, const struct receive_held *page)
{
    if (page->slot == RECEIVE_STAGED)
        receive_super_page_done(r, page);
    else if (page->slot != RECEIVE_ZERO)
        receive_free_slot(r, page->slot);
    else
        receive_journal_count(r->journal, &r->pages.counts);
}

static void bad_hash(struct receiver *r, const struct receive_held *page)
{
    bool again = pagein_bad_hash(&r->pages, page->gfn);

    log_error("gfn 0x%llx came with contents that do not match its hash%s", (unsigned long long)page->gfn,
              again ? ": asking for it once more" : " again: it stays absent");
    if (again)
        receive_ask_again(r, page->gfn);
    release(r, page);
}

const uint8_t *receive_contents(const struct receiver *r, const struct receive_held *page)
{
    static const uint8_t zero[POOL_PAGE_SIZE] __attribute__((aligned(POOL_PAGE_SIZE)));

    switch (page->slot) {
    case RECEIVE_STAGED:
        return receive_super_page(r, page);
    case RECEIVE_ZERO:
        return zero;
    default:
        return pool_page(r->pool, page->slot);
    }
}

void receive_add(struct receiver *r, const struct receive_held *page)
{
    struct receive_batch *b = &r->batch;
    const uint8_t *contents = receive_contents(r, page);

    if (r->features & WIRE_FEATURE_HASH && page->slot < r->pool->slots) {
        uint8_t *copy = r->scratch + (size_t)b->n * POOL_PAGE_SIZE;

        /* A private copy: the feeder could still write to the slot. */
        memcpy(copy, contents, POOL_PAGE_SIZE);
        if (XXH64(copy, POOL_PAGE_SIZE, 0) != page->hash) {
            bad_hash(r, page);
            return;
        }
        contents = copy;
    }
    b->pages[b->n] = (struct backend_page){.gfn = page->gfn, .contents = contents};
    b->from[b->n++] = *page;
    /* Who waits for it does not wait for what comes behind it. Where Xen takes one at a time nobody gains by
     * waiting. */
    if (b->n == BACKEND_LOAD_MAX || !(r->be->features.set & FEATURE_PREP) ||
        pagein_awaited(&r->pages, page->gfn))
        receive_install(r);
}

/* What became of a page. */
static void settle(struct receiver *r, const struct receive_held *page, int rc)
{
    if (pagein_state(&r->pages, page->gfn) != PAGE_ARRIVED) { /* dropped since */
        release(r, page);
        return;
    }
    if (pagein_installed(&r->pages, page->gfn, rc)) {
        receive_answer_waiters(r, page->gfn);
        release(r, page);
        return;
    }
    if (rc != r->last_load_error)
        log_warning("gfn 0x%llx cannot be installed now: %s; trying again", (unsigned long long)page->gfn,
                    strerror(-rc));
    r->last_load_error = rc;
    hold(r, page);
}

void receive_install(struct receiver *r)
{
    struct receive_batch *b = &r->batch;
    unsigned int n = b->n, tried;

    if (!n)
        return;
    b->n = 0;
    tried = r->attached ? backend_load(r->be, b->pages, n) : 0;
    for (unsigned int i = 0; i < tried; i++)
        settle(r, &b->from[i], b->pages[i].rc);
    for (unsigned int i = tried; i < n; i++)
        hold(r, &b->from[i]);
    if (r->attached)
        r->be->ops->push(r->be);
    receive_check_complete(r);
}

void receive_page(struct receiver *r, uint32_t slot, uint64_t gfn, uint64_t hash, uint64_t flags)
{
    const struct receive_held page = {.gfn = gfn, .hash = hash, .slot = slot};

    if (flags & PAGE_COMPARE) {
        receive_compare(r, slot, gfn);
        receive_free_slot(r, slot);
        return;
    }
    receive_trace_arrival(r, gfn);
    switch (pagein_arrived(&r->pages, gfn)) {
    case PAGEIN_INSTALL:
        if (!receive_super_take(r, &page))
            receive_add(r, &page);
        receive_check_complete(r);
        return;
    case PAGEIN_UNEXPECTED:
        if (r->stray_pages++ == 0)
            log_error("a page for gfn 0x%llx, which is not absent here: discarded", (unsigned long long)gfn);
        break;
    case PAGEIN_DUPLICATE:
    case PAGEIN_LATE:
        break;
    }
    receive_free_slot(r, slot);
}

void receive_zeros(struct receiver *r, uint64_t gfn, uint64_t count)
{
    for (uint64_t end = gfn + count; gfn < end; gfn++) {
        const struct receive_held page = {.gfn = gfn, .slot = RECEIVE_ZERO};

        receive_trace_arrival(r, gfn);
        switch (pagein_arrived(&r->pages, gfn)) {
        case PAGEIN_INSTALL:
            r->zeros++;
            gfn_bitmap_set(&r->notes.zeros, gfn);
            if (!receive_super_take(r, &page))
                receive_add(r, &page);
            break;
        case PAGEIN_UNEXPECTED:
            if (r->stray_pages++ == 0)
                log_error("gfn 0x%llx, which is not absent here, is said to be zero: discarded",
                          (unsigned long long)gfn);
            break;
        case PAGEIN_DUPLICATE:
        case PAGEIN_LATE:
            break;
        }
    }
    receive_check_complete(r);
}

/* Zero pages that are not in a stage, and could not be installed. */
static void retry_zeros(struct receiver *r)
{
    uint64_t gfn = 0;

    r->n_zeros_held = 0;
    while ((gfn = gfn_bitmap_next(&r->notes.zeros, gfn)) < r->notes.zeros.nr) {
        const struct receive_held page = {.gfn = gfn, .slot = RECEIVE_ZERO};

        if (pagein_state(&r->pages, gfn) == PAGE_ARRIVED && !receive_super_has(r, gfn))
            receive_add(r, &page);
        gfn++;
    }
}

/* All that is held, once. False if none of it could be installed. */
static bool retry_once(struct receiver *r)
{
    uint64_t before = r->n_held + r->n_zeros_held;

    for (uint32_t n = r->n_held; n; n--) {
        struct receive_held page = r->held[r->held_head];

        r->held_head = (r->held_head + 1) % r->held_size;
        r->n_held--;
        /* Dropped while it waited: only its place is left to give back. */
        if (pagein_state(&r->pages, page.gfn) == PAGE_ARRIVED)
            receive_add(r, &page);
        else
            release(r, &page);
    }
    if (r->n_zeros_held)
        retry_zeros(r);
    receive_install(r);
    return r->n_held + r->n_zeros_held < before;
}

static bool can_retry(const struct receiver *r)
{
    return !session_final(r->run.state) && r->attached;
}

void receive_retry(struct receiver *r)
{
    bool progress = false;

    r->retries++;
    /* Memory, or a dying domain? */
    receive_domain_event(r);
    while (can_retry(r) && r->n_held + r->n_zeros_held && retry_once(r))
        progress = true;
    receive_ask_unsent(r);
    receive_ask_end(r);
    if (!can_retry(r))
        return;
    if (progress) {
        pool_ring_notify(&r->pool->orders);
        r->retry_ms = RETRY_MS_MIN;
    } else if (r->retry_ms < RETRY_MS_MAX) {
        r->retry_ms = r->retry_ms * 2 < RETRY_MS_MAX ? r->retry_ms * 2 : RETRY_MS_MAX;
    }
    if (r->n_held + r->n_zeros_held) {
        ev_timer_stop(r->run.loop, &r->retry);
        ev_timer_set(&r->retry, r->retry_ms / 1000., 0.);
        ev_timer_start(r->run.loop, &r->retry);
    } else {
        ev_timer_stop(r->run.loop, &r->retry);
        r->last_load_error = 0;
    }
    receive_check_complete(r);
}
