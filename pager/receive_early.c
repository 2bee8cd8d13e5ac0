/*
 * What is likely to be outstanding is made absent while the guest still runs at the source. When it is
 * suspended the set says what is: only the difference is left to do then.
 *
 * Of a gfn marked early Xen tells us, through the ring, if libxc populates it (its page turned out to be
 * needed at once), and if dom0 maps it. So what nothing was heard of is absent as before, unless the ring was
 * full, when nothing is said. Therefore Xen is asked about those that are not in the set, of which there are
 * few; and at the end how many pages are absent in all (receive_set_claim()): if that is the size of the set
 * they are those of the set, since nobody else makes any absent.
 */
#include <errno.h>
#include <string.h>

#include "backend_batch.h"
#include "exit_status.h"
#include "log.h"
#include "receive.h"

#define BELOW_4G (UINT64_C(1) << 20) /* gfns */

static void done(struct receiver *r, const char *why_not)
{
    struct receive_early *e = &r->early;

    e->ns = monotonic_ns() - e->since_ns;
    set_file_free(&r->set);
    r->work = WORK_NONE;
    if (why_not)
        log_info("no page is marked before the guest is suspended: %s", why_not);
    else
        log_info("%llu pages are absent before the guest is suspended, after %.3f s; Xen refused %llu",
                 (unsigned long long)e->pages, (double)e->ns / 1e9, (unsigned long long)e->refused);
    session_run_enter(&r->run, SESSION_LISTEN, "waiting for the guest to be suspended and sent");
}

static int allocate(struct receiver *r)
{
    struct receive_early *e = &r->early;

    return gfn_bitmap_init(&e->marked, r->set.map.nr) || gfn_bitmap_init(&e->touched, r->set.map.nr);
}

void receive_early_start(struct receiver *r)
{
    const unsigned int needed = FEATURE_RING | FEATURE_MARK;
    char why[256];
    int rc;

    r->early.since_ns = monotonic_ns();
    if ((r->options->features & needed) != needed) {
        done(r, "not with these --features");
        return;
    }
    if (set_file_load(r->options->set_fd, &r->set, false, why, sizeof(why))) {
        receive_give_up(r, EXIT_FAILED, "%s", why);
        return;
    }
    rc = receive_attach(r, true);
    if (rc < 0)
        return;
    r->early.on = rc == 0;
    if (rc || !(r->be->features.set & FEATURE_MARK)) {
        done(r, "this Xen cannot");
        return;
    }
    /* For the final set, too, if it ends no higher, and for what the toolstack puts below 4 GiB. */
    if (receive_mark_allocate(r, r->set.map.nr > BELOW_4G ? r->set.map.nr : BELOW_4G))
        return;
    if (allocate(r)) {
        receive_give_up(r, EXIT_FAILED, "out of memory for %llu gfns", (unsigned long long)r->set.map.nr);
        return;
    }
    r->work = WORK_EARLY;
    r->work_gfn = 0;
    ev_idle_start(r->run.loop, &r->idle);
}

void receive_early_step(struct receiver *r)
{
    const struct gfn_bitmap *set = &r->set.map;
    uint64_t first = gfn_bitmap_next(set, r->work_gfn), left;
    uint32_t nr;
    int rc;

    if (first >= set->nr) {
        done(r, NULL);
        return;
    }
    first -= first % 64;
    left = set->nr - first;
    nr = left < backend_mark_most(r->be) ? (uint32_t)left : backend_mark_most(r->be);
    memcpy(r->mark_bits, set->words + first / 64, (nr + 63) / 64 * sizeof(uint64_t));
    rc = backend_mark(r->be, first, nr, true, r->mark_bits, r->mark_half);
    for (uint32_t i = 0; i < (nr + 63) / 64; i++) {
        uint64_t marked = set->words[first / 64 + i] & ~r->mark_bits[i];

        r->early.marked.words[first / 64 + i] = marked;
        r->early.pages += (uint64_t)__builtin_popcountll(marked);
        r->early.refused += (uint64_t)__builtin_popcountll(r->mark_bits[i]);
    }
    if (rc) {
        receive_domain_event(r);
        receive_give_up(r, EXIT_FAILED, "pages from gfn 0x%llx on cannot be made absent: %s",
                        (unsigned long long)first, strerror(-rc));
        return;
    }
    r->work_gfn = first + nr;
}

void receive_early_entry(struct receiver *r, const struct ring_entry *entry)
{
    struct receive_early *e = &r->early;

    /* Marked again in any case: Xen then has who waits for it ask again. */
    for (uint64_t i = 0; i == 0 || i < entry->nr; i++)
        if (!(entry->kind & ENTRY_ALIEN) && entry->gfn < e->touched.nr && i < e->touched.nr - entry->gfn)
            gfn_bitmap_set(&e->touched, entry->gfn + i);
    e->entries++;
    r->be->ops->respond(r->be, entry);
}

uint64_t receive_early_word(const struct receiver *r, uint64_t first)
{
    const struct receive_early *e = &r->early;

    return first < e->marked.nr ? e->marked.words[first / 64] & ~e->touched.words[first / 64] : 0;
}

uint64_t receive_early_adopted(const struct receiver *r, uint64_t first)
{
    return first < r->set.map.nr ? r->set.map.words[first / 64] & receive_early_word(r, first) : 0;
}

/* 64 gfns: those marked early that are not in the set. */
static uint64_t not_in_set(const struct receiver *r, uint64_t first)
{
    return r->early.marked.words[first / 64] &
           ~(first < r->set.map.nr ? r->set.map.words[first / 64] : UINT64_C(0));
}

static int release(struct receiver *r, const uint64_t *gfns, unsigned int n)
{
    int rc = n ? r->be->ops->release(r->be, gfns, n) : 0;

    if (rc)
        receive_give_up(r, EXIT_FAILED, "%u pages from gfn 0x%llx on, no longer outstanding, stay absent: %s",
                        n, (unsigned long long)gfns[0], strerror(-rc));
    r->early.unmarked += n;
    return rc;
}

/* Of first .. first+n-1 (n at most BACKEND_SCAN_MAX). */
static int release_some(struct receiver *r, uint64_t first, unsigned int n)
{
    uint8_t types[BACKEND_SCAN_MAX];
    uint64_t gfns[BACKEND_BATCH_MAX];
    unsigned int k = 0;
    int rc = r->be->ops->types(r->be, first, n, types);

    if (rc) {
        receive_give_up(r, EXIT_FAILED, "page types of domain %u from gfn 0x%llx: %s", r->be->domid,
                        (unsigned long long)first, strerror(-rc));
        return rc;
    }
    for (unsigned int i = 0; i < n && rc == 0; i++) {
        if (types[i] != BACKEND_ABSENT || !(not_in_set(r, first + i - i % 64) >> i % 64 & 1))
            continue;
        gfns[k++] = first + i;
        if (k == BACKEND_BATCH_MAX) {
            rc = release(r, gfns, k);
            k = 0;
        }
    }
    return rc ? rc : release(r, gfns, k);
}

/* Those marked early that are as they have to be. */
static void adopt(struct receiver *r)
{
    struct receive_early *e = &r->early;

    e->pages = 0;
    for (uint64_t first = 0; first < r->set.map.nr; first += 64) {
        uint64_t absent = receive_early_adopted(r, first);

        if (!absent)
            continue;
        receive_mark_taken(r, first, absent);
        e->pages += (uint64_t)__builtin_popcountll(absent);
    }
    e->on = false;
}

bool receive_early_correct_step(struct receiver *r)
{
    uint64_t nr = r->early.marked.nr;
    unsigned int n = 0;

    while (r->work_gfn < nr && !not_in_set(r, r->work_gfn))
        r->work_gfn += 64;
    if (r->work_gfn >= nr) {
        adopt(r);
        return true;
    }
    /* Each gfn that Xen is asked about costs a microsecond or more, and the guest is suspended. */
    do
        n += nr - (r->work_gfn + n) < 64 ? (unsigned int)(nr - (r->work_gfn + n)) : 64;
    while (n < BACKEND_SCAN_MAX && r->work_gfn + n < nr && not_in_set(r, r->work_gfn + n));
    if (release_some(r, r->work_gfn, n) == 0)
        r->work_gfn += n;
    return false;
}

void receive_early_free(struct receiver *r)
{
    gfn_bitmap_free(&r->early.marked);
    gfn_bitmap_free(&r->early.touched);
}
