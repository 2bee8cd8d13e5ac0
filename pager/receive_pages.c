/* The way of a page: ring entry, arrival in the pool, installation, answer. Nothing here allocates. */
#include <errno.h>
#include <string.h>

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include "exit_status.h"
#include "log.h"
#include "receive.h"
#include "wire/wire.h"

#define RETRY_MS_MIN 10
#define RETRY_MS_MAX 1000

/* Answer everyone who waited for gfn. */
static void answer_waiters(struct receiver *r, uint64_t gfn)
{
    struct ring_entry entry;
    bool any = false;

    /* Most pages have nobody waiting: not even the clock is asked (a system call under Xen). */
    if (!r->pages.waiting)
        return;
    while (pagein_release(&r->pages, gfn, monotonic_ns(), &entry)) {
        log_debug("vcpu %u goes on with gfn 0x%llx", entry.vcpu_id, (unsigned long long)gfn);
        r->be->ops->respond(r->be, &entry);
        any = true;
    }
    if (any)
        r->be->ops->push(r->be);
}

static bool take_entry(struct receiver *r, const struct ring_entry *entry)
{
    uint64_t now = monotonic_ns();
    struct pagein_action action = pagein_entry(&r->pages, entry, now);

    if (entry->kind & ENTRY_EVICT_FAIL)
        receive_half_gone(r, entry->gfn);
    if (action.verdict == PAGEIN_REPAIR)
        action = pagein_repaired(&r->pages, entry, r->be->ops->repair(r->be, entry->gfn), now);
    /* The guest runs; or dom0 maps a page, which may have to be there before the guest can run. */
    if ((action.ask || r->pages.counts.guest_has_faulted) && r->run.state == SESSION_ACTIVE)
        receive_go(r);
    if (action.verdict == PAGEIN_WAIT)
        log_debug("vcpu %u waits for gfn 0x%llx", entry->vcpu_id, (unsigned long long)entry->gfn);
    if (action.ask)
        receive_ask(r, entry->gfn, false);
    if (action.dropped) {
        receive_tell_dropped(r, entry->gfn);
        answer_waiters(r, entry->gfn);
    }
    if (action.verdict == PAGEIN_ANSWER)
        r->be->ops->respond(r->be, entry);
    return action.ask;
}

void receive_ring(struct receiver *r)
{
    struct ring_entry entry;
    bool asked = false;

    if (!r->attached)
        return;
    while (r->be->ops->next_entry(r->be, &entry))
        asked |= take_entry(r, &entry);
    r->be->ops->push(r->be);
    r->asked_rounds += asked;
    receive_check_complete(r);
}

/* Put an arrived page into the guest. False if it has to be tried again. */
static bool install(struct receiver *r, const struct receive_held *page)
{
    const void *contents = pool_page(&r->pool, page->slot);
    int rc;

    if (r->features & WIRE_FEATURE_HASH) {
        /* A private copy: the feeder could still write to the slot. */
        memcpy(r->scratch, contents, POOL_PAGE_SIZE);
        contents = r->scratch;
        if (XXH64(contents, POOL_PAGE_SIZE, 0) != page->hash) {
            bool again = pagein_bad_hash(&r->pages, page->gfn);

            log_error("gfn 0x%llx came with contents that do not match its hash%s",
                      (unsigned long long)page->gfn,
                      again ? ": asking for it once more" : " again: it stays absent");
            if (again)
                receive_ask(r, page->gfn, true);
            return true;
        }
    }
    rc = r->be->ops->load(r->be, page->gfn, contents);
    if (pagein_installed(&r->pages, page->gfn, rc)) {
        answer_waiters(r, page->gfn);
        return true;
    }
    if (rc != r->last_load_error)
        log_warning("gfn 0x%llx cannot be installed now: %s; trying again", (unsigned long long)page->gfn,
                    strerror(-rc));
    r->last_load_error = rc;
    return false;
}

static void hold(struct receiver *r, const struct receive_held *page)
{
    r->held[(r->held_head + r->n_held++) % r->pool.slots] = *page;
    if (!ev_is_active(&r->retry)) {
        ev_timer_set(&r->retry, r->retry_ms / 1000., 0.);
        ev_timer_start(r->run.loop, &r->retry);
    }
}

void receive_page(struct receiver *r, uint32_t slot, uint64_t gfn, uint64_t hash, uint64_t flags)
{
    const struct receive_held page = {.gfn = gfn, .hash = hash, .slot = slot};

    if (flags & PAGE_COMPARE) {
        receive_compare(r, slot, gfn);
        receive_free_slot(r, slot);
        return;
    }
    switch (pagein_arrived(&r->pages, gfn)) {
    case PAGEIN_INSTALL:
        if (!install(r, &page)) {
            hold(r, &page);
            return;
        }
        break;
    case PAGEIN_UNEXPECTED:
        if (r->stray_pages++ == 0)
            log_error("a page for gfn 0x%llx, which is not absent here: discarded", (unsigned long long)gfn);
        break;
    case PAGEIN_DUPLICATE:
    case PAGEIN_LATE:
        break;
    }
    receive_free_slot(r, slot);
    receive_check_complete(r);
}

void receive_retry(struct receiver *r)
{
    uint32_t n = r->n_held;
    bool progress = false;

    r->retries++;
    /* Memory, or a dying domain? */
    receive_domain_event(r);
    while (n-- && !session_final(r->run.state) && r->attached) {
        struct receive_held page = r->held[r->held_head];

        r->held_head = (r->held_head + 1) % r->pool.slots;
        r->n_held--;
        /* Dropped while it waited: only the slot is left to give back. */
        if (pagein_state(&r->pages, page.gfn) == PAGE_ARRIVED && !install(r, &page)) {
            r->held[(r->held_head + r->n_held++) % r->pool.slots] = page;
            continue;
        }
        receive_free_slot(r, page.slot);
        progress = true;
    }
    if (session_final(r->run.state) || !r->attached)
        return;
    if (progress) {
        pool_ring_notify(&r->pool.orders);
        r->retry_ms = RETRY_MS_MIN;
    } else if (r->retry_ms < RETRY_MS_MAX) {
        r->retry_ms = r->retry_ms * 2 < RETRY_MS_MAX ? r->retry_ms * 2 : RETRY_MS_MAX;
    }
    if (r->n_held) {
        ev_timer_set(&r->retry, r->retry_ms / 1000., 0.);
        ev_timer_start(r->run.loop, &r->retry);
    } else {
        r->last_load_error = 0;
    }
    receive_check_complete(r);
}
