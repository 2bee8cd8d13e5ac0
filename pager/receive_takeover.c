/*
 * A pager was killed, and this is the next one: what the last one knew is in the journal, what is absent now
 * is asked of Xen, and who waits for a page asks again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon.h"
#include "exit_status.h"
#include "log.h"
#include "receive.h"

#define ASK_ANEW_GFNS 32768u /* a page of bits */

void receive_save(struct receiver *r)
{
    struct receive_facts *f = receive_journal_facts_to_write(r->journal);
    const struct session_run *run = &r->run;

    if (!r->be)
        return;
    f->domid = r->be->domid;
    memcpy(f->uuid, run->uuid, sizeof(f->uuid));
    f->state = run->state;
    memcpy(f->entered_ns, run->entered_ns, sizeof(f->entered_ns));
    f->started_ns = run->started_ns;
    f->started_at = run->started_at;
    memcpy(f->reason, run->reason, sizeof(f->reason));
    f->exit_status = run->exit_status;
    f->committed = run->committed;
    f->aborted = r->aborted;
    f->left = r->left;
    f->peer_active = r->peer_active;
    f->feeder_told_why = r->feeder_told_why;
    f->recoverable = r->recoverable;
    f->domain_shutdown = r->domain.shutdown;
    f->features = r->features;
    f->max_gfn = r->max_gfn;
    f->populated_count = r->populated_count;
    f->special_count = r->special_count;
    f->refused = r->refused;
    f->populated_here = r->be->populated_to_evict;
    f->claimed = r->claimed;
    f->bytes = r->bytes;
    f->asked_rounds = r->asked_rounds;
    f->retries = r->retries;
    f->drops_not_told = r->drops_not_told;
    f->stray_pages = r->stray_pages;
    f->sigterm_refused = r->sigterm_refused;
    f->serve_sent = r->serve_sent;
    f->serve_resent = r->serve_resent;
    f->paging = r->be->features;
    f->supers = r->supers;
    f->collapsed = r->collapse.done;
    f->ring_stats = r->ring_stats;
    f->early_pages = r->early.pages;
    f->early_unmarked = r->early.unmarked;
    f->early_ns = r->early.ns;
    f->late_ns = r->late_ns;
    f->calls = r->be->calls;
    f->counts = r->pages.counts;
    f->stalls = r->pages.stalls;
    receive_journal_count(r->journal, &r->pages.counts);
    receive_journal_facts_written(r->journal);
}

void receive_restore(struct receiver *r)
{
    const struct receive_facts *f = receive_journal_facts(r->journal);
    struct session_run *run = &r->run;

    memcpy(run->uuid, f->uuid, sizeof(run->uuid));
    memcpy(run->entered_ns, f->entered_ns, sizeof(run->entered_ns));
    run->started_ns = f->started_ns;
    run->started_at = f->started_at;
    memcpy(run->reason, f->reason, sizeof(run->reason));
    run->exit_status = f->exit_status;
    run->committed = f->committed;
    /* Saved for the last time on the way to active: it was agreed on. */
    run->state = f->state == SESSION_DEVICE ? SESSION_ACTIVE : f->state;
    r->aborted = f->aborted;
    r->left = f->left;
    r->peer_active = f->peer_active;
    r->feeder_told_why = f->feeder_told_why;
    r->recoverable = f->recoverable;
    r->domain.shutdown = f->domain_shutdown;
    r->features = f->features;
    r->max_gfn = f->max_gfn;
    r->populated_count = f->populated_count;
    r->special_count = f->special_count;
    r->refused = f->refused;
    r->claimed = f->claimed;
    r->bytes = f->bytes;
    r->asked_rounds = f->asked_rounds;
    r->retries = f->retries;
    r->drops_not_told = f->drops_not_told;
    r->stray_pages = f->stray_pages;
    r->sigterm_refused = f->sigterm_refused;
    r->serve_sent = f->serve_sent;
    r->serve_resent = f->serve_resent;
    r->supers = f->supers;
    r->collapse.done = f->collapsed;
    r->ring_stats = f->ring_stats;
    r->early.pages = f->early_pages;
    r->early.unmarked = f->early_unmarked;
    r->early.ns = f->early_ns;
    r->late_ns = f->late_ns;
    r->introduced = true;
    /* One that has ended, and nobody has heard of it, is as good as alive until receive_resume(). */
    r->feeder_alive = !atomic_load(&r->journal->feeder_ended) || !r->feeder_told_why;
}

static int open_again(struct receiver *r, const struct receive_facts *f)
{
    char domid[16], why[256];

    snprintf(domid, sizeof(domid), "%u", f->domid);
    r->be = r->options->open(domid, why, sizeof(why));
    if (!r->be) {
        log_error("%s", why);
        return EXIT_FAILED;
    }
    r->be->calls = f->calls;
    r->be->features = f->paging;
    r->be->populated_to_evict = f->populated_here;
    if (r->be->ops->info(r->be, &r->domain))
        return EXIT_FAILED;
    /* Another domain by now, under the same number: ours is gone. */
    if (r->domain.exists && memcmp(r->domain.uuid, f->uuid, sizeof(f->uuid)) != 0)
        r->domain.exists = false;
    return 0;
}

/* The pages of the set that Xen still says are absent; each of the others is settled. */
static int ask_for_types(struct receiver *r, const struct gfn_bitmap *set, uint64_t *holes)
{
    uint8_t types[BACKEND_SCAN_MAX];

    for (uint64_t gfn = gfn_bitmap_next(set, 0); gfn < set->nr; gfn = gfn_bitmap_next(set, gfn)) {
        uint64_t left = set->nr - gfn;
        unsigned int n = left < BACKEND_SCAN_MAX ? (unsigned int)left : BACKEND_SCAN_MAX;
        int rc = r->be->ops->types(r->be, gfn, n, types);

        if (rc) {
            log_error("page types of domain %u from gfn 0x%llx: %s", r->be->domid, (unsigned long long)gfn,
                      strerror(-rc));
            return rc;
        }
        for (unsigned int i = 0; i < n; i++, gfn++) {
            if (!gfn_bitmap_test(set, gfn))
                continue;
            pagein_mark(&r->pages, gfn);
            if (types[i] == BACKEND_ABSENT)
                continue;
            *holes += types[i] == BACKEND_HOLE;
            pagein_arrived(&r->pages, gfn);
            pagein_installed(&r->pages, gfn, 0);
        }
    }
    return 0;
}

static uint64_t installed_and_staged(const struct receiver *r, const struct stage_note *note)
{
    uint64_t first = note->region - 1, n = 0;

    for (uint64_t i = 0; note->region && i < BACKEND_SUPER; i++)
        n += note->there[i / 64] >> i % 64 & 1 && pagein_state(&r->pages, first + i) == PAGE_PRESENT;
    return n;
}

/* Pages in slots and stages that are in the guest, too: installed, but perhaps not counted. */
static uint64_t installed_and_held(const struct receiver *r)
{
    const struct receive_journal *j = r->journal;
    uint64_t n = 0;

    for (uint32_t slot = 0; slot < r->pool->slots; slot++)
        n += j->slots[slot].state == SLOT_TAKEN && !receive_journal_has_staged(j, j->slots[slot].gfn) &&
             pagein_state(&r->pages, j->slots[slot].gfn) == PAGE_PRESENT;
    for (unsigned int i = 0; i < RECEIVE_STAGES; i++)
        n += installed_and_staged(r, &j->stages[i]);
    return n;
}

/*
 * What the settled pages have come to. Of those that settled uncounted it is known whether their contents
 * were here; the others the guest has released or replaced while there was no pager to be told.
 */
static void count(struct receiver *r, const struct receive_facts *f, uint64_t holes)
{
    const struct receive_journal *j = r->journal;
    struct pagein_counts *c = &r->pages.counts;
    uint64_t settled = c->set - pagein_outstanding(&r->pages), unseen, part;

    *c = f->counts;
    c->installed = j->installed;
    c->dropped = j->dropped;
    c->replaced = j->replaced;
    unseen = c->installed + c->dropped + c->replaced;
    unseen = settled > unseen ? settled - unseen : 0;
    part = installed_and_held(r);
    part = part < unseen ? part : unseen;
    c->installed += part;
    unseen -= part;
    part = holes > c->dropped ? holes - c->dropped : 0;
    part = part < unseen ? part : unseen;
    c->dropped += part;
    c->replaced += unseen - part;
    if (c->installed_faulted > c->installed)
        c->installed_faulted = c->installed;
    r->pages.stalls = f->stalls;
    receive_journal_count(r->journal, c);
}

static void ask_anew(struct receiver *r, const struct gfn_bitmap *set)
{
    static uint64_t bits[ASK_ANEW_GFNS / 64];
    uint64_t first, gfn = 0;

    while ((first = gfn_bitmap_next(set, gfn)) < set->nr) {
        bool any = false;
        uint64_t end;
        int rc;

        first -= first % 64;
        end = set->nr - first < ASK_ANEW_GFNS ? set->nr : first + ASK_ANEW_GFNS;
        memset(bits, 0, sizeof(bits));
        for (gfn = first; (gfn = gfn_bitmap_next(set, gfn)) < end; gfn++) {
            if (pagein_state(&r->pages, gfn) == PAGE_ABSENT) {
                bits[(gfn - first) / 64] |= UINT64_C(1) << gfn % 64;
                any = true;
            }
        }
        rc = any ? r->be->ops->ask_anew(r->be, first, (uint32_t)(end - first), bits) : 0;
        /* They come all the same, in the background: only later. */
        if (rc)
            log_warning("pages from gfn 0x%llx on that someone maps are not asked for again: %s",
                        (unsigned long long)first, strerror(-rc));
    }
}

/* Nominated pages, one of which may have been touched: then nobody else would flip its type back. */
static void repair_half(struct receiver *r)
{
    struct receive_journal *j = r->journal;

    for (uint32_t i = j->n_half; i-- > 0;)
        if (r->be->ops->repair(r->be, j->half[i]) == 0)
            receive_half_gone(r, j->half[i]);
}

/* A pause of the last pager's, which only counts pauses. */
static void undo_pause(struct receiver *r)
{
    switch (atomic_load(&r->journal->pausing)) {
    case PAUSING_RUNNING:
        if (r->domain.paused)
            r->be->ops->unpause(r->be);
        break;
    case PAUSING_PAUSED:
        if (r->domain.paused)
            log_warning(
                "domain %u was paused when the last pager paused it, too, or was about to: if it does "
                "not go on, xl unpause %u",
                r->be->domid, r->be->domid);
        break;
    default:
        break;
    }
    atomic_store(&r->journal->pausing, PAUSING_NOT);
}

static int pages_and_ring(struct receiver *r, const struct receive_facts *f)
{
    const struct gfn_bitmap set = receive_journal_map_set(r->keeping->set_fd, r->max_gfn + 1);
    uint64_t holes = 0;
    char why[256] = "";
    int rc = r->left ? -ENOENT : r->be->ops->attach_again(r->be, why, sizeof(why));

    r->notes = receive_journal_notes(r->keeping->notes_fd, r->max_gfn + 1, false);
    if (!set.words || !r->notes.asked.words || pagein_init(&r->pages, r->max_gfn + 1) ||
        gfn_bitmap_init(&r->unsent, r->max_gfn + 1) || receive_super_init(r, r->max_gfn + 1)) {
        log_error("out of memory for %llu gfns", (unsigned long long)r->max_gfn + 1);
        return EXIT_FAILED;
    }
    r->pages.foreign_waits = r->options->foreign_waits;
    for (uint64_t gfn = 0; (gfn = gfn_bitmap_next(&r->notes.asked, gfn)) < r->notes.asked.nr; gfn++)
        r->n_asked++;
    /* Behind the ring: what the guest releases from now on is told. */
    if (ask_for_types(r, &set, &holes))
        return EXIT_FAILED;
    receive_super_adopt(r);
    count(r, f, holes);
    if (rc && (rc != -ENOENT || pagein_outstanding(&r->pages))) {
        log_error("domain %u cannot be paged again: %s", r->be->domid, why);
        return EXIT_FAILED;
    }
    r->attached = rc == 0;
    if (r->attached) {
        ask_anew(r, &set);
        repair_half(r);
    }
    return 0;
}

/* There is no domain to ask: what the last pager knew. */
static void count_gone(struct receiver *r, const struct receive_facts *f)
{
    const struct receive_journal *j = r->journal;
    struct pagein_counts *c = &r->pages.counts;
    uint64_t settled;

    *c = f->counts;
    c->installed = j->installed;
    c->dropped = j->dropped;
    c->replaced = j->replaced;
    settled = c->installed + c->dropped + c->replaced;
    r->pages.absent = c->set > settled ? c->set - settled : 0;
    r->pages.stalls = f->stalls;
}

int receive_take_over(struct receiver *r)
{
    const struct receive_facts *f = receive_journal_facts(r->journal);
    int rc = open_again(r, f);

    if (rc)
        return rc;
    receive_journal_take_over(r->journal);
    r->went = receive_journal_said(r->journal, SAID_GO);
    r->complete_sent = receive_journal_said(r->journal, SAID_COMPLETE);
    r->last_order = receive_journal_said(r->journal, SAID_LAST);
    if (r->domain.exists && !r->domain.dying) {
        undo_pause(r);
        rc = pages_and_ring(r, f);
        if (rc)
            return rc;
    } else {
        count_gone(r, f);
    }
    if (session_run_start_on(&r->run, r->be, r->keeping->status_fd, true))
        return EXIT_FAILED;
    log_warning("took over domain %u: %llu of %llu pages are absent", r->be->domid,
                (unsigned long long)pagein_outstanding(&r->pages), (unsigned long long)r->pages.counts.set);
    return 0;
}

static void pages_on_their_way(struct receiver *r)
{
    /* What was gathered comes page by page: who waits for one of them asks now, and a page that also has its
     * slot still is a duplicate. */
    receive_super_give_up(r);
    for (uint32_t slot = 0; slot < r->pool->slots && !session_final(r->run.state); slot++) {
        const struct slot_note *note = &r->journal->slots[slot];

        if (note->state == SLOT_TAKEN && pool_slot_asked(r->pool, slot))
            r->asked_slots++;
        if (note->state == SLOT_TAKEN)
            receive_page(r, slot, note->gfn, note->hash, note->flags);
    }
    for (uint64_t gfn = 0; (gfn = gfn_bitmap_next(&r->notes.zeros, gfn)) < r->notes.zeros.nr; gfn++)
        if (pagein_state(&r->pages, gfn) == PAGE_ABSENT)
            receive_zeros(r, gfn, 1);
    receive_install(r);
    receive_ask_end(r);
    pool_ring_notify(&r->pool->orders);
}

static void go_on(struct receiver *r)
{
    switch (r->run.state) {
    case SESSION_ACTIVE:
        /* Said by the last one, unless it came to nothing. */
        if (receive_push_now(r))
            receive_go(r);
        receive_check_complete(r);
        break;
    case SESSION_RECOVER:
        session_run_enter(&r->run, SESSION_PAUSED, "the pager died while the session was resumed");
        receive_recover_later(r);
        break;
    case SESSION_PAUSED:
        receive_check_complete(r);
        /* One that has told why has ended the session, or is about to be followed by another. */
        if (r->run.state == SESSION_PAUSED && r->recoverable)
            receive_recover_later(r);
        break;
    case SESSION_DRAIN:
        if (r->left)
            receive_whole(r);
        else if (session_run_undecided(&r->run))
            break;
        else if (!r->peer_active)
            receive_leave(r);
        else if (!r->complete_sent)
            receive_conclude(r);
        break;
    default:
        receive_check_complete(r);
    }
}

void receive_resume(struct receiver *r)
{
    char reason[sizeof(r->run.reason)];

    if (!r->domain.exists || r->domain.dying) {
        receive_domain_gone(r);
        return;
    }
    if (r->attached)
        ev_io_start(r->run.loop, &r->ring_io);
    /* The last pager may have taken the keeper's news with it. */
    ev_feed_event(r->run.loop, &r->news_io, EV_READ);
    memcpy(reason, r->run.reason, sizeof(reason));
    session_run_enter(&r->run, r->run.state, reason[0] ? reason : NULL);
    daemon_ready();
    pages_on_their_way(r);
    if (session_final(r->run.state))
        return;
    /* Without waiting for an event. */
    receive_ring(r);
    go_on(r);
}
