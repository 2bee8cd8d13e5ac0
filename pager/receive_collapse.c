/*
 * When every page is here, and the source has been told so or is lost: regions that filled up page by page
 * become superpages. The guest is paused for the copy of each, 2 MiB, so they are paced: it stands still for
 * at most a tenth of the time. A later pager begins anew: a region that is one already costs no pause.
 */
#include <errno.h>
#include <string.h>

#include "log.h"
#include "receive.h"

#define PACE         9 /* times what the last one took pass before the next */
#define ROUNDS       4 /* so often is a region tried that someone has mapped */
#define AGAIN_S      0.25
#define LOOK_REGIONS 4096 /* without finding one to collapse, before events are looked at */

static void next_step(struct receiver *r, double s)
{
    /* The loop's clock stands since before the last one. */
    ev_now_update(r->run.loop);
    ev_timer_stop(r->run.loop, &r->collapse.timer);
    ev_timer_set(&r->collapse.timer, s, 0.);
    ev_timer_start(r->run.loop, &r->collapse.timer);
}

bool receive_collapse(struct receiver *r)
{
    struct receive_collapse *c = &r->collapse;

    /* Undecided: it is not this host's guest yet, and does not run. */
    if (c->done || !r->attached || !(r->be->features.set & FEATURE_SUPERPAGES) ||
        session_run_undecided(&r->run))
        return false;
    if (!c->running) {
        c->running = true;
        log_info("every page is here: making superpages of single pages");
        next_step(r, 0.);
    }
    return true;
}

bool receive_collapse_stop(struct receiver *r)
{
    struct receive_collapse *c = &r->collapse;
    bool was = c->running;

    ev_timer_stop(r->run.loop, &c->timer);
    c->running = false;
    if (was)
        c->done = true;
    return was;
}

static void end(struct receiver *r, const char *why)
{
    struct receive_collapse *c = &r->collapse;

    receive_collapse_stop(r);
    r->supers.collapse_skipped = c->n_busy;
    if (why)
        log_warning("no more superpages from single pages: %s", why);
    log_info(
        "superpages: %llu as they arrived (%llu refused), %llu from single pages in %llu ms; %llu regions "
        "stay single pages, which someone had mapped each time",
        (unsigned long long)r->supers.prep, (unsigned long long)r->supers.prep_refused,
        (unsigned long long)r->supers.collapse, (unsigned long long)r->supers.collapse_ns / 1000000,
        (unsigned long long)c->n_busy);
    receive_leave(r);
}

static void set_busy(struct receive_collapse *c, uint64_t region, bool busy)
{
    if (gfn_bitmap_test(&c->busy, region) == busy)
        return;
    if (busy) {
        gfn_bitmap_set(&c->busy, region);
        c->n_busy++;
    } else {
        gfn_bitmap_clear(&c->busy, region);
        c->n_busy--;
    }
}

static void try(struct receiver *r, uint64_t gfn)
{
    uint64_t start = monotonic_ns(), ns;
    int rc = r->be->ops->collapse(r->be, gfn);

    ns = rc == -EEXIST ? 0 : monotonic_ns() - start;
    r->supers.collapse_ns += ns;
    r->supers.collapse += rc == 0;
    r->supers.collapse_refused += rc != 0 && rc != -EEXIST;
    switch (rc) {
    case 0:
    case -EEXIST:
        set_busy(&r->collapse, gfn / BACKEND_SUPER, false);
        break;
    case -EBUSY:
    case -EAGAIN:
        set_busy(&r->collapse, gfn / BACKEND_SUPER, true);
        break;
    default:
        /* What holds for the domain, or the host, holds for the next one, too. */
        end(r, strerror(-rc));
        return;
    }
    next_step(r, PACE * (double)ns / 1e9);
}

/* The next region to try in this round. Looks at a bounded number of them. */
static bool find(struct receiver *r, uint64_t *gfn)
{
    struct receive_collapse *c = &r->collapse;

    for (unsigned int i = 0; i < LOOK_REGIONS && c->gfn < r->pages.nr; i++) {
        *gfn = c->gfn;
        c->gfn += BACKEND_SUPER;
        if (c->round ? gfn_bitmap_test(&c->busy, *gfn / BACKEND_SUPER)
                     : !gfn_bitmap_test(&r->super, *gfn / BACKEND_SUPER) &&
                           pagein_all_here(&r->pages, *gfn, BACKEND_SUPER))
            return true;
    }
    return false;
}

static void end_round(struct receiver *r)
{
    struct receive_collapse *c = &r->collapse;

    if (!c->n_busy || c->round + 1 == ROUNDS) {
        end(r, NULL);
        return;
    }
    next_step(r, AGAIN_S * (1u << c->round));
    c->round++;
    c->gfn = 0;
}

void receive_collapse_step(struct receiver *r)
{
    uint64_t gfn;

    if (!r->collapse.running || session_final(r->run.state))
        return;
    if (find(r, &gfn))
        try(r, gfn);
    else if (r->collapse.gfn < r->pages.nr)
        next_step(r, 0.);
    else
        end_round(r);
}
