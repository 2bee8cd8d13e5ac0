/* Finding what is populated, making it absent, and telling serve which gfns are. In small steps between
 * events. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend_batch.h"
#include "exit_status.h"
#include "log.h"
#include "receive.h"

#define SCANS_PER_STEP 8
#define HALF_TRIES     1000

static void special_pages(struct receiver *r)
{
    uint64_t gfns[BACKEND_SPECIAL_MAX];
    int n = r->be->ops->special(r->be, gfns);

    for (int i = 0; i < n; i++) {
        if (gfns[i] < r->special.nr && !gfn_bitmap_test(&r->special, gfns[i])) {
            gfn_bitmap_set(&r->special, gfns[i]);
            r->special_count++;
        }
    }
}

int receive_attach(struct receiver *r, bool own_ring)
{
    struct backend_wish wish = {.features = r->options->features,
                                .own_ring = own_ring,
                                .range_foreign = r->options->range_foreign,
                                .range_guest = r->options->range_guest};
    char text[256];
    int rc;

    /* Of a domain that has run, Xen marks only what was nominated before (public/memory.h): one by one, then.
     */
    if (r->domain.ran)
        wish.features &= ~FEATURE_MARK;
    rc = r->be->ops->attach(r->be, &wish, text, sizeof(text));
    if (own_ring && rc == -EOPNOTSUPP)
        return 1;
    if (rc) {
        receive_give_up(r, EXIT_UNFIT, "domain %u cannot be paged: %s", r->be->domid, text);
        return -1;
    }
    r->attached = true;
    ev_io_start(r->run.loop, &r->ring_io);
    features_describe(&r->be->features, text, sizeof(text));
    log_info("in use: %s", text);
    return 0;
}

/* For backend_mark(). 0 or -ENOMEM. */
static int mark_buffers(struct receiver *r)
{
    size_t words = backend_mark_most(r->be) / 64;

    if (!r->mark_bits)
        r->mark_bits = calloc(words, sizeof(uint64_t));
    if (!r->mark_half)
        r->mark_half = calloc(words, sizeof(uint64_t));
    return r->mark_bits && r->mark_half ? 0 : -ENOMEM;
}

void receive_mark_free(struct receiver *r)
{
    pagein_free(&r->pages);
    gfn_bitmap_free(&r->populated);
    gfn_bitmap_free(&r->special);
    gfn_bitmap_free(&r->unsent);
    receive_journal_notes_free(&r->notes);
    receive_super_free(r);
    free(r->mark_bits);
    free(r->mark_half);
    r->mark_bits = r->mark_half = NULL;
}

int receive_mark_allocate(struct receiver *r, uint64_t nr)
{
    if (nr <= r->pages.nr)
        return 0;
    receive_mark_free(r);
    if (mark_buffers(r) || pagein_init(&r->pages, nr) || gfn_bitmap_init(&r->populated, nr) ||
        gfn_bitmap_init(&r->special, nr) || gfn_bitmap_init(&r->unsent, nr) || receive_super_init(r, nr)) {
        receive_give_up(r, EXIT_FAILED, "out of memory for %llu gfns", (unsigned long long)nr);
        return -1;
    }
    r->notes = receive_journal_notes(r->keeping->notes_fd, nr, true);
    if (!r->notes.asked.words) {
        receive_give_up(r, EXIT_FAILED, "out of memory for notes of %llu gfns", (unsigned long long)nr);
        return -1;
    }
    r->pages.foreign_waits = r->options->foreign_waits;
    return 0;
}

/* Whoever knows the set needs to know what is there for the comparison only. */
static int first_work(const struct receiver *r)
{
    return r->run.session && r->options->verify != VERIFY_FULL ? WORK_MARK : WORK_SCAN;
}

void receive_mark_start(struct receiver *r)
{
    int rc;

    session_run_enter(&r->run, SESSION_DEVICE, NULL);
    r->late_since_ns = monotonic_ns();
    /* Our own pause: a page is evicted with what the source has in it, so the guest must not have written to
     * it. */
    rc = r->be->ops->pause(r->be);
    if (rc) {
        receive_give_up(r, EXIT_FAILED, "cannot pause domain %u: %s", r->be->domid, strerror(-rc));
        return;
    }
    r->our_pause = true;
    rc = r->be->ops->info(r->be, &r->domain);
    if (rc || !r->domain.exists || r->domain.dying) {
        receive_give_up(r, EXIT_FAILED, "domain %u is gone", r->be->domid);
        return;
    }
    rc = r->be->ops->max_gfn(r->be, &r->max_gfn);
    if (rc) {
        receive_give_up(r, EXIT_FAILED, "largest gfn of domain %u: %s", r->be->domid, strerror(-rc));
        return;
    }
    if (r->run.session && receive_set_load(r))
        return;
    if ((!r->attached && receive_attach(r, false)) || receive_mark_allocate(r, r->max_gfn + 1))
        return;
    special_pages(r);
    if (r->run.session && receive_set_check(r))
        return;
    if (r->early.on) {
        /* All that libxc has populated is there by now: no DROP of it may be taken for one of a page that is
         * marked again. */
        receive_ring(r);
        r->work = WORK_CORRECT;
    } else {
        r->work = first_work(r);
    }
    r->work_gfn = 0;
    ev_idle_start(r->run.loop, &r->idle);
}

/*
 * Where the scan goes on. Under xl nothing but the set and what the toolstack shares can matter, and between
 * the two lie GiBs of nothing, which Xen would be asked about page by page while the guest stands.
 */
static uint64_t next_to_scan(const struct receiver *r)
{
    uint64_t in_set, special;

    if (!r->run.session)
        return r->work_gfn;
    in_set = gfn_bitmap_next(&r->set.map, r->work_gfn);
    special = gfn_bitmap_next(&r->special, r->work_gfn);
    if (in_set >= r->set.map.nr && special >= r->special.nr)
        return r->max_gfn + 1;
    if (in_set >= r->set.map.nr || special < in_set)
        in_set = special;
    return in_set - in_set % 64;
}

static void scan_step(struct receiver *r)
{
    for (int i = 0; i < SCANS_PER_STEP && (r->work_gfn = next_to_scan(r)) <= r->max_gfn; i++) {
        uint64_t left = r->max_gfn + 1 - r->work_gfn;
        uint64_t *words = r->populated.words + r->work_gfn / 64;
        uint32_t n = left < r->be->scan_most ? (uint32_t)left : r->be->scan_most;
        int rc = r->be->ops->populated(r->be, r->work_gfn, n, words);

        if (rc == -EAGAIN)
            continue;
        if (rc) {
            receive_give_up(r, EXIT_FAILED, "page types of domain %u from gfn 0x%llx: %s", r->be->domid,
                            (unsigned long long)r->work_gfn, strerror(-rc));
            return;
        }
        for (uint32_t k = 0; k < (n + 63) / 64; k++) {
            r->populated_count += (uint64_t)__builtin_popcountll(words[k]);
            words[k] |= receive_early_adopted(r, r->work_gfn + k * UINT64_C(64));
        }
        r->work_gfn += n;
    }
    if (r->work_gfn > r->max_gfn) {
        log_info("domain %u has %llu pages up to gfn 0x%llx", r->be->domid,
                 (unsigned long long)r->populated_count, (unsigned long long)r->max_gfn);
        r->work = WORK_MARK;
        r->work_gfn = 0;
    }
}

static void half_marked(struct receiver *r, uint64_t gfn)
{
    if (r->journal->n_half == RECEIVE_HALF_MAX) {
        receive_give_up(r, EXIT_FAILED,
                        "more than %u pages of domain %u were mapped by someone while they were evicted",
                        RECEIVE_HALF_MAX, r->be->domid);
        return;
    }
    receive_half_keep(r, gfn);
}

void receive_half_keep(struct receiver *r, uint64_t gfn)
{
    struct receive_journal *j = r->journal;

    j->half[j->n_half] = gfn;
    atomic_fetch_add(&j->n_half, 1);
}

void receive_half_gone(struct receiver *r, uint64_t gfn)
{
    struct receive_journal *j = r->journal;

    for (uint32_t i = 0; i < j->n_half; i++) {
        if (j->half[i] == gfn) {
            /* The last one moves here before it goes there. */
            j->half[i--] = j->half[j->n_half - 1];
            atomic_fetch_sub(&j->n_half, 1);
        }
    }
}

int receive_half_unmark(struct receiver *r)
{
    struct receive_journal *j = r->journal;

    for (uint32_t i = j->n_half; i-- > 0;) {
        int rc = r->be->ops->unmark(r->be, j->half[i], r->scratch);

        if (rc == -EBUSY && ++r->half_tries < HALF_TRIES)
            return rc;
        if (rc)
            log_error("gfn 0x%llx stays nominated (%s): the guest may crash when it touches it",
                      (unsigned long long)j->half[i], strerror(-rc));
        j->n_half = i;
    }
    return 0;
}

/* 64 gfns: those of them that are to be absent, and are not yet. */
static uint64_t wanted(const struct receiver *r, uint64_t first)
{
    if (r->run.session)
        return first < r->set.map.nr ? r->set.map.words[first / 64] & ~receive_early_word(r, first) : 0;
    return r->populated.words[first / 64] & ~r->special.words[first / 64];
}

/* A step's worth from r->work_gfn on, which moves past what has nothing to mark. Returns the number of gfns.
 */
static uint32_t take_bits(struct receiver *r, uint64_t *first)
{
    uint64_t end = r->run.session ? r->set.map.nr : r->max_gfn + 1;
    uint32_t most = backend_mark_most(r->be), nr = 0;

    while (r->work_gfn < end && !wanted(r, r->work_gfn))
        r->work_gfn += 64;
    *first = r->work_gfn;
    for (; nr < most && r->work_gfn < end; nr += 64, r->work_gfn += 64)
        r->mark_bits[nr / 64] = wanted(r, r->work_gfn);
    return nr && *first + nr > end ? (uint32_t)(end - *first) : nr;
}

static uint32_t take_lowest(uint64_t *bits)
{
    uint32_t lowest = (uint32_t)__builtin_ctzll(*bits);

    *bits &= *bits - 1;
    return lowest;
}

void receive_mark_taken(struct receiver *r, uint64_t first, uint64_t absent)
{
    r->populated.words[first / 64] |= absent; /* they will be */
    pagein_mark_bits(&r->pages, first, absent);
}

/* Of gfns first on, nr of them, those that were to be absent and are. */
static void take_marked(struct receiver *r, uint64_t first, uint32_t nr)
{
    for (uint32_t i = 0; i < nr; i += 64)
        receive_mark_taken(r, first + i, wanted(r, first + i) & ~r->mark_bits[i / 64]);
}

static void take_refused(struct receiver *r, uint64_t first, uint32_t nr)
{
    for (uint32_t i = 0; i < nr; i += 64) {
        uint64_t refused = wanted(r, first + i) & r->mark_bits[i / 64];

        while (refused && r->work == WORK_MARK) {
            uint32_t k = take_lowest(&refused);

            r->refused++;
            if (r->mark_half[i / 64] >> k & 1)
                half_marked(r, first + i + k);
            if (r->run.session)
                receive_give_up(r, EXIT_FAILED,
                                "Xen does not let go of gfn 0x%llx, which is outstanding: someone has it "
                                "mapped, or the domain would have more pages than its maxmem allows",
                                (unsigned long long)(first + i + k));
        }
    }
}

/* Every page that can be is absent. */
static void all_marked(struct receiver *r)
{
    if (r->run.session && receive_set_claim(r))
        return;
    r->late_ns = monotonic_ns() - r->late_since_ns;
    if (r->options->early)
        log_info(
            "%llu pages were absent before the guest was suspended; since then %llu were marked and %llu "
            "made holes again, in %.3f s",
            (unsigned long long)r->early.pages, (unsigned long long)(r->pages.counts.set - r->early.pages),
            (unsigned long long)r->early.unmarked, (double)r->late_ns / 1e9);
    log_info("%llu of %llu pages are absent now; %llu special, %llu refused by Xen, %llu populated for it",
             (unsigned long long)r->pages.counts.set, (unsigned long long)r->populated_count,
             (unsigned long long)r->special_count, (unsigned long long)r->refused,
             (unsigned long long)r->be->populated_to_evict);
    r->work = WORK_SEND;
    r->work_gfn = 0;
    run_hash_init(&r->set_hash);
}

static void mark_step(struct receiver *r)
{
    uint64_t first;
    uint32_t nr = take_bits(r, &first);
    int rc;

    if (!nr) {
        all_marked(r);
        return;
    }
    rc = backend_mark(r->be, first, nr, r->run.session != NULL, r->mark_bits, r->mark_half);
    take_marked(r, first, nr);
    if (rc) {
        receive_domain_event(r);
        receive_give_up(r, EXIT_FAILED, "pages from gfn 0x%llx on cannot be made absent: %s%s",
                        (unsigned long long)first, strerror(-rc),
                        rc == -ENOMEM ? " (of this host, or the domain would have more pages than its maxmem "
                                        "allows)"
                                      : "");
        return;
    }
    take_refused(r, first, nr);
}

/* What was marked and has not been dropped since; dom0 may have asked for some of it by now. */
static uint64_t next_of_set(const struct receiver *r, uint64_t first, uint64_t *end)
{
    while ((first = gfn_bitmap_next(&r->populated, first)) < r->pages.nr &&
           (*end = pagein_wanted_end(&r->pages, first)) == first)
        first++;
    return first;
}

void receive_send_runs(struct receiver *r,
                       uint64_t (*next)(const struct receiver *r, uint64_t first, uint64_t *end))
{
    struct pool_descriptor order = {.type = ORDER_RUN};
    bool sent = false;

    while (pool_ring_space(&r->pool->orders) > 1) {
        uint64_t end = 0, first = next(r, r->work_gfn, &end);

        if (first >= r->pages.nr) {
            order.type = ORDER_SET_END;
            order.value[0] = r->set_hash.pages;
            order.value[1] = run_hash_value(&r->set_hash);
            pool_ring_put(&r->pool->orders, &order);
            pool_ring_notify(&r->pool->orders);
            r->work = WORK_NONE;
            ev_idle_stop(r->run.loop, &r->idle);
            return;
        }
        run_hash_add(&r->set_hash, first, end - first, r->pages.nr);
        order.value[0] = first;
        order.value[1] = end - first;
        pool_ring_put(&r->pool->orders, &order);
        sent = true;
        /* Whatever has become of the next gfn since: a run that began with it would touch this one. */
        r->work_gfn = end + 1;
    }
    if (sent)
        pool_ring_notify(&r->pool->orders);
    /* The feeder wakes us when it has taken some. */
    if (!pool_ring_want_space(&r->pool->orders, 2))
        ev_idle_stop(r->run.loop, &r->idle);
}

void receive_mark_step(struct receiver *r)
{
    switch (r->work) {
    case WORK_RECEIVED:
        receive_recover_step(r);
        break;
    case WORK_EARLY:
        receive_early_step(r);
        break;
    case WORK_CORRECT:
        if (receive_early_correct_step(r)) {
            r->work = first_work(r);
            r->work_gfn = 0;
        }
        break;
    case WORK_SCAN:
        scan_step(r);
        break;
    case WORK_MARK:
        mark_step(r);
        break;
    case WORK_SEND:
        receive_send_runs(r, next_of_set);
        break;
    case WORK_NONE:
        ev_idle_stop(r->run.loop, &r->idle);
    }
}
