/* Finding what is populated, evicting it page by page, and telling serve which gfns are absent. In small
 * steps between events. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "exit_status.h"
#include "log.h"
#include "receive.h"

#define SCANS_PER_STEP 8
#define MARKS_PER_STEP 64
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

void receive_mark_start(struct receiver *r)
{
    char why[256];
    int rc;

    session_run_enter(&r->run, SESSION_DEVICE, NULL);
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
    rc = r->be->ops->attach(r->be, why, sizeof(why));
    if (rc) {
        receive_give_up(r, EXIT_UNFIT, "domain %u cannot be paged: %s", r->be->domid, why);
        return;
    }
    r->attached = true;
    ev_io_start(r->run.loop, &r->ring_io);
    if (gfn_bitmap_init(&r->populated, r->max_gfn + 1) || gfn_bitmap_init(&r->special, r->max_gfn + 1) ||
        gfn_bitmap_init(&r->unsent, r->max_gfn + 1)) {
        receive_give_up(r, EXIT_FAILED, "out of memory for %llu gfns", (unsigned long long)r->max_gfn + 1);
        return;
    }
    special_pages(r);
    r->work = WORK_SCAN;
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
    if (in_set >= r->set.map.nr)
        return special < r->special.nr ? special : r->max_gfn + 1;
    return special < in_set ? special : in_set;
}

static void scan_step(struct receiver *r)
{
    bool there[BACKEND_SCAN_MAX];

    for (int i = 0; i < SCANS_PER_STEP && (r->work_gfn = next_to_scan(r)) <= r->max_gfn; i++) {
        uint64_t left = r->max_gfn + 1 - r->work_gfn;
        unsigned int n = left < BACKEND_SCAN_MAX ? (unsigned int)left : BACKEND_SCAN_MAX;
        int rc = r->be->ops->populated(r->be, r->work_gfn, n, there);

        if (rc) {
            receive_give_up(r, EXIT_FAILED, "page types of domain %u from gfn 0x%llx: %s", r->be->domid,
                            (unsigned long long)r->work_gfn, strerror(-rc));
            return;
        }
        for (unsigned int k = 0; k < n; k++) {
            if (there[k]) {
                gfn_bitmap_set(&r->populated, r->work_gfn + k);
                r->populated_count++;
            }
        }
        r->work_gfn += n;
    }
    if (r->work_gfn > r->max_gfn) {
        if (pagein_init(&r->pages, r->max_gfn + 1)) {
            receive_give_up(r, EXIT_FAILED, "out of memory for %llu gfns",
                            (unsigned long long)r->max_gfn + 1);
            return;
        }
        log_info("domain %u has %llu pages up to gfn 0x%llx", r->be->domid,
                 (unsigned long long)r->populated_count, (unsigned long long)r->max_gfn);
        r->work = WORK_MARK;
        r->work_gfn = 0;
    }
}

static void half_marked(struct receiver *r, uint64_t gfn, int rc)
{
    r->refused++;
    if (rc != -EAGAIN)
        return;
    if (r->n_half == RECEIVE_HALF_MAX) {
        receive_give_up(r, EXIT_FAILED,
                        "more than %u pages of domain %u were mapped by someone while they were evicted",
                        RECEIVE_HALF_MAX, r->be->domid);
        return;
    }
    r->half[r->n_half++] = gfn;
}

void receive_half_gone(struct receiver *r, uint64_t gfn)
{
    for (unsigned int i = 0; i < r->n_half; i++)
        if (r->half[i] == gfn)
            r->half[i--] = r->half[--r->n_half];
}

int receive_half_unmark(struct receiver *r)
{
    for (unsigned int i = r->n_half; i-- > 0;) {
        int rc = r->be->ops->unmark(r->be, r->half[i], r->scratch);

        if (rc == -EBUSY && ++r->half_tries < HALF_TRIES)
            return rc;
        if (rc)
            log_error("gfn 0x%llx stays nominated (%s): the guest may crash when it touches it",
                      (unsigned long long)r->half[i], strerror(-rc));
        r->n_half = i;
    }
    return 0;
}

static void mark_step(struct receiver *r)
{
    for (int i = 0; i < MARKS_PER_STEP; i++) {
        uint64_t gfn = gfn_bitmap_next(&r->populated, r->work_gfn);
        int rc;

        if (gfn >= r->populated.nr) {
            log_info("%llu of %llu pages are absent now; %llu special, %llu refused by Xen",
                     (unsigned long long)r->pages.counts.set, (unsigned long long)r->populated_count,
                     (unsigned long long)r->special_count, (unsigned long long)r->refused);
            r->work = WORK_SEND;
            r->work_gfn = 0;
            run_hash_init(&r->set_hash);
            return;
        }
        r->work_gfn = gfn + 1;
        if (gfn_bitmap_test(&r->special, gfn))
            continue;
        rc = r->be->ops->mark(r->be, gfn);
        if (rc == 0)
            pagein_mark(&r->pages, gfn);
        else if (rc == -ESRCH || rc == -ENODEV)
            receive_domain_event(r);
        else
            half_marked(r, gfn, rc);
        if (r->work != WORK_MARK)
            return;
    }
}

/* The runs of absent gfns, as many as the ring of orders takes. */
static void send_step(struct receiver *r)
{
    struct pool_descriptor order = {.type = ORDER_RUN};
    bool sent = false;

    while (pool_ring_space(&r->pool.orders) > 1) {
        uint64_t first = r->work_gfn, end;

        while (first < r->pages.nr && pagein_state(&r->pages, first) != PAGE_ABSENT)
            first++;
        if (first >= r->pages.nr) {
            order.type = ORDER_SET_END;
            order.value[0] = r->set_hash.pages;
            order.value[1] = run_hash_value(&r->set_hash);
            pool_ring_put(&r->pool.orders, &order);
            pool_ring_notify(&r->pool.orders);
            r->work = WORK_NONE;
            ev_idle_stop(r->run.loop, &r->idle);
            return;
        }
        for (end = first; end < r->pages.nr && pagein_state(&r->pages, end) == PAGE_ABSENT;)
            end++;
        run_hash_add(&r->set_hash, first, end - first, r->pages.nr);
        order.value[0] = first;
        order.value[1] = end - first;
        pool_ring_put(&r->pool.orders, &order);
        sent = true;
        r->work_gfn = end;
    }
    if (sent)
        pool_ring_notify(&r->pool.orders);
    /* The feeder wakes us when it has taken some. */
    if (!pool_ring_want_space(&r->pool.orders, 2))
        ev_idle_stop(r->run.loop, &r->idle);
}

void receive_mark_step(struct receiver *r)
{
    switch (r->work) {
    case WORK_SCAN:
        scan_step(r);
        break;
    case WORK_MARK:
        if (r->run.session)
            receive_set_step(r);
        else
            mark_step(r);
        break;
    case WORK_SEND:
        send_step(r);
        break;
    case WORK_NONE:
        ev_idle_stop(r->run.loop, &r->idle);
    }
}
