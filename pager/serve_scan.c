/* Which gfns have a page here. */
#include <errno.h>
#include <string.h>

#include "log.h"
#include "serve.h"

static int begin(struct server *s)
{
    int rc = s->be->ops->max_gfn(s->be, &s->max_gfn);

    if (rc == 0 && s->max_gfn >= WIRE_GFN_LIMIT)
        rc = -EFBIG;
    if (rc == 0)
        rc = gfn_bitmap_init(&s->populated, s->max_gfn + 1);
    return rc;
}

/*
 * One piece. Under xl only what is in the set matters, unless all is to be compared: the guest stands, and
 * the rest of its p2m is GiBs of nothing.
 */
static int step(struct server *s)
{
    uint64_t *words = s->populated.words;
    uint32_t n = 0;
    int rc = 0;

    if (s->run.session) {
        s->scan_gfn = gfn_bitmap_next(&s->set.map, s->scan_gfn);
        if (s->scan_gfn >= s->set.map.nr)
            s->scan_gfn = s->max_gfn + 1;
        else
            s->scan_gfn -= s->scan_gfn % 64;
    }
    if (s->scan_gfn <= s->max_gfn) {
        uint64_t left = s->max_gfn + 1 - s->scan_gfn;

        words += s->scan_gfn / 64;
        n = left < s->be->scan_most ? (uint32_t)left : s->be->scan_most;
        rc = s->be->ops->populated(s->be, s->scan_gfn, n, words);
        if (rc == -EAGAIN)
            return 0;
    }
    for (uint32_t i = 0; rc == 0 && i < (n + 63) / 64; i++)
        s->populated_count += (uint64_t)__builtin_popcountll(words[i]);
    s->scan_gfn += n;
    if (rc)
        log_error("finding the pages of domain %u: %s", s->be->domid, strerror(-rc));
    else if (s->scan_gfn > s->max_gfn) {
        s->scanned = true;
        log_info("domain %u has %llu pages up to gfn 0x%llx", s->be->domid,
                 (unsigned long long)s->populated_count, (unsigned long long)s->max_gfn);
    }
    return rc;
}

int serve_scan_rest(struct server *s)
{
    int rc = 0;

    while (!s->scanned && rc == 0)
        rc = step(s);
    return rc;
}

int serve_scan_all(struct server *s)
{
    uint64_t last;
    int rc = begin(s);

    if (rc == 0)
        rc = serve_scan_rest(s);
    for (last = s->max_gfn; rc == 0 && last && !gfn_bitmap_test(&s->populated, last); last--)
        ;
    s->nr_gfns = last + 1;
    if (rc)
        log_error("domain %u cannot be served: %s", s->be->domid, strerror(-rc));
    return rc;
}

static void on_idle(struct ev_loop *loop, ev_idle *w, int events)
{
    struct server *s = w->data;

    (void)events;
    if (session_final(s->run.state) || s->scanned || step(s))
        ev_idle_stop(loop, w);
}

int serve_scan_start(struct server *s)
{
    int rc = begin(s);

    if (rc)
        return rc;
    ev_idle_init(&s->scan_idle, on_idle);
    s->scan_idle.data = s;
    ev_idle_start(s->run.loop, &s->scan_idle);
    return 0;
}
