/* The core: bitmaps, canonical runs, latencies, session states; and page states under thousands
 * of random schedules. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/gfn_bitmap.h"
#include "core/latency.h"
#include "core/pagein.h"
#include "core/run_hash.h"
#include "core/session.h"

static void bitmap_finds_every_gfn(void **state)
{
    const uint64_t sizes[] = {1, 63, 64, 65, 200};

    (void)state;
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        struct gfn_bitmap map;

        assert_int_equal(gfn_bitmap_init(&map, sizes[s]), 0);
        assert_int_equal(gfn_bitmap_next(&map, 0), sizes[s]);
        assert_int_equal(gfn_bitmap_next_clear(&map, 0), 0);
        for (uint64_t gfn = 0; gfn < sizes[s]; gfn++) {
            gfn_bitmap_set(&map, gfn);
            assert_int_equal(gfn_bitmap_next(&map, 0), gfn);
            assert_int_equal(gfn_bitmap_next(&map, gfn + 1), sizes[s]);
            gfn_bitmap_clear(&map, gfn);
        }
        for (uint64_t gfn = 0; gfn < sizes[s]; gfn++)
            gfn_bitmap_set(&map, gfn);
        assert_int_equal(gfn_bitmap_next_clear(&map, 0), sizes[s]);
        gfn_bitmap_free(&map);
    }
}

static void runs_have_to_be_canonical(void **state)
{
    struct run_hash a, b;

    (void)state;
    run_hash_init(&a);
    assert_int_equal(run_hash_add(&a, 0, 5, 1000), 0);
    assert_int_equal(run_hash_add(&a, 5, 1, 1000), -EINVAL);   /* touches the one before */
    assert_int_equal(run_hash_add(&a, 3, 1, 1000), -EINVAL);   /* goes back */
    assert_int_equal(run_hash_add(&a, 7, 0, 1000), -EINVAL);   /* empty */
    assert_int_equal(run_hash_add(&a, 999, 2, 1000), -EINVAL); /* passes the end */
    assert_int_equal(run_hash_add(&a, 7, UINT64_MAX, 1000), -EINVAL);
    assert_int_equal(run_hash_add(&a, UINT64_MAX, 2, 1000), -EINVAL); /* overflows */
    assert_int_equal(run_hash_add(&a, 999, 1, 1000), 0);
    assert_int_equal(a.pages, 6);
    run_hash_init(&b);
    assert_true(run_hash_value(&a) != run_hash_value(&b));
    assert_int_equal(run_hash_add(&b, 0, 5, 1000), 0);
    assert_int_equal(run_hash_add(&b, 999, 1, 1000), 0);
    assert_true(run_hash_value(&a) == run_hash_value(&b));
}

static void quantiles_are_within_a_sixteenth(void **state)
{
    uint64_t edge = 0, samples = 0;
    struct latency l;

    (void)state;
    memset(&l, 0, sizeof(l));
    assert_int_equal(latency_quantile(&l, 500), 0);
    for (uint64_t i = 1; i <= 1000; i++)
        latency_add(&l, i * 1000);
    assert_in_range(latency_quantile(&l, 500), 500000, 500000 + 500000 / 16);
    assert_in_range(latency_quantile(&l, 990), 990000, 1000000);
    assert_int_equal(latency_quantile(&l, 1000), 1000000);
    for (unsigned int i = 0; i < LATENCY_CLASSES; i++) {
        uint64_t last, n = latency_class(&l, i, &last);

        assert_true(i == 0 || last > edge);
        edge = last;
        samples += n;
    }
    assert_int_equal(samples, l.count);
    latency_add(&l, UINT64_MAX);
    assert_true(latency_quantile(&l, 1000) == UINT64_MAX);
    latency_add(&l, 0);
}

static void states_only_go_where_they_may(void **state)
{
    (void)state;
    assert_true(session_may(SESSION_SETUP, SESSION_LISTEN));
    assert_false(session_may(SESSION_SETUP, SESSION_ACTIVE));
    assert_true(session_may(SESSION_ACTIVE, SESSION_PAUSED));
    for (unsigned int s = 0; s < SESSION_STATES; s++) {
        assert_false(session_may(SESSION_COMPLETED, (enum session_state)s));
        assert_false(session_may(SESSION_FAILED, (enum session_state)s));
        assert_int_equal(session_state_find(session_state_name((enum session_state)s)), s);
    }
    assert_int_equal(session_state_find("no such"), SESSION_STATES);
}

/* -- page states: one schedule is a random walk of guest, source and Xen; a model keeps the books beside the
 * core. */

#define GFNS  40
#define SLOTS 8

struct model {
    struct pagein p;
    unsigned int random;
    uint64_t now;
    enum { M_KEPT, M_ABSENT, M_PRESENT, M_GONE, M_REPLACED } page[GFNS];
    bool asked[GFNS], with_others[GFNS], in_flight[GFNS], arrived[GFNS], bad_once[GFNS], bad[GFNS];
    unsigned int unanswered; /* entries taken from the ring and not answered */
    unsigned int waiting[GFNS];
};

static unsigned int dice(struct model *m, unsigned int sides)
{
    return (unsigned int)rand_r(&m->random) % sides;
}

static void answered(struct model *m)
{
    assert_true(m->unanswered > 0);
    m->unanswered--;
}

static void release_all(struct model *m, uint64_t gfn)
{
    struct ring_entry entry;

    while (pagein_release(&m->p, gfn, m->now, &entry)) {
        assert_int_equal(entry.gfn, gfn);
        assert_true(entry.kind & ENTRY_PAUSED);
        assert_false(entry.kind & ENTRY_FOREIGN);
        assert_true(m->waiting[gfn] > 0);
        m->waiting[gfn]--;
        answered(m);
    }
    assert_int_equal(m->waiting[gfn], 0);
}

static void act(struct model *m, const struct ring_entry *e, struct pagein_action action)
{
    if (action.ask) {
        assert_int_equal(m->page[e->gfn], M_ABSENT);
        /* Once; and once more if nobody was known to wait for it. */
        assert_true(!m->asked[e->gfn] || (m->with_others[e->gfn] && !(e->kind & ENTRY_FOREIGN)));
        m->with_others[e->gfn] = false;
        m->asked[e->gfn] = m->in_flight[e->gfn] = true;
    }
    if (action.dropped) {
        assert_int_equal(m->page[e->gfn], M_ABSENT);
        m->page[e->gfn] = M_GONE;
        release_all(m, e->gfn);
    }
    if (action.verdict == PAGEIN_ANSWER)
        answered(m);
    else
        m->waiting[e->gfn]++;
}

/* What a request for many gfns asks for besides the first. */
static void want_more(struct model *m, const struct ring_entry *e)
{
    uint64_t first = e->gfn + 1, end = e->gfn + e->nr, count;

    while ((count = pagein_want_run(&m->p, &first, end, 1 + dice(m, 5)))) {
        assert_true(first + count <= end && first + count <= GFNS);
        for (uint64_t gfn = first; gfn < first + count; gfn++) {
            assert_int_equal(m->page[gfn], M_ABSENT);
            assert_false(m->asked[gfn] || m->arrived[gfn]);
            m->asked[gfn] = m->with_others[gfn] = m->in_flight[gfn] = true;
        }
        first += count;
    }
    for (uint64_t gfn = e->gfn + 1; gfn < end && gfn < GFNS; gfn++)
        assert_true(pagein_state(&m->p, gfn) != PAGE_ABSENT);
}

static void ring_step(struct model *m)
{
    static const uint32_t kinds[] = {ENTRY_PAUSED,
                                     ENTRY_PAUSED,
                                     ENTRY_PAUSED,
                                     0,
                                     ENTRY_FOREIGN,
                                     ENTRY_FOREIGN | ENTRY_PAUSED,
                                     ENTRY_DROP,
                                     ENTRY_DROP | ENTRY_EVICT_FAIL,
                                     ENTRY_EVICT_FAIL | ENTRY_PAUSED,
                                     ENTRY_EVICT_FAIL | ENTRY_FOREIGN,
                                     ENTRY_ALIEN | ENTRY_PAUSED};
    struct ring_entry e = {.gfn = dice(m, GFNS + 3), .vcpu_id = dice(m, 4)};
    struct pagein_action action;

    if (m->unanswered == SLOTS)
        return;
    if (dice(m, 50) == 0)
        e.gfn = UINT64_MAX - dice(m, 2);
    e.kind = kinds[dice(m, sizeof(kinds) / sizeof(kinds[0]))];
    if (e.kind == ENTRY_FOREIGN || e.kind == ENTRY_PAUSED)
        e.nr = dice(m, 3) ? 0 : dice(m, 16);
    /* A page that is gone is not dropped again by a guest, but the core must not care. */
    m->unanswered++;
    action = pagein_entry(&m->p, &e, m->now);
    if (action.verdict == PAGEIN_REPAIR) {
        static const int results[] = {0, -ENOENT, -EINVAL};

        assert_true(e.kind & ENTRY_EVICT_FAIL);
        assert_false(e.kind & ENTRY_DROP);
        action = pagein_repaired(&m->p, &e, results[dice(m, 3)], m->now);
    }
    if (action.verdict == PAGEIN_WAIT) {
        assert_true(e.gfn < GFNS);
        assert_int_equal(m->page[e.gfn], M_ABSENT);
        assert_true(e.kind & ENTRY_PAUSED);
        assert_false(e.kind & (ENTRY_FOREIGN | ENTRY_DROP | ENTRY_ALIEN));
    } else if (e.gfn < GFNS && m->page[e.gfn] == M_ABSENT && e.kind == ENTRY_PAUSED) {
        fail_msg("a vcpu that faulted on an absent page was let go");
    }
    act(m, &e, action);
    if (e.nr && e.gfn < GFNS)
        want_more(m, &e);
}

static void install_step(struct model *m, uint64_t gfn)
{
    static const int results[] = {0, 0, 0, 0, -ENOENT, -EEXIST, -ENOMEM, -EFAULT};
    int rc = results[dice(m, sizeof(results) / sizeof(results[0]))];

    if (dice(m, 12) == 0) {
        bool again = pagein_bad_hash(&m->p, gfn);

        m->arrived[gfn] = false;
        assert_int_equal(again, !m->bad_once[gfn]);
        m->bad[gfn] |= m->bad_once[gfn];
        m->bad_once[gfn] = true;
        m->asked[gfn] = true;
        m->with_others[gfn] = false;
        m->in_flight[gfn] |= again;
        return;
    }
    if (!pagein_installed(&m->p, gfn, rc)) {
        assert_true(rc == -ENOMEM || rc == -EFAULT);
        return; /* stays arrived */
    }
    m->arrived[gfn] = false;
    m->page[gfn] = rc == 0 ? M_PRESENT : M_REPLACED;
    m->bad[gfn] = false;
    release_all(m, gfn);
}

static void arrival_step(struct model *m, bool peer)
{
    uint64_t gfn = dice(m, GFNS + 2);
    enum pagein_arrival verdict;

    if (gfn < GFNS && m->arrived[gfn]) {
        if (m->page[gfn] == M_ABSENT)
            install_step(m, gfn);
        else
            m->arrived[gfn] = false;
        return;
    }
    if (!peer)
        return;
    verdict = pagein_arrived(&m->p, gfn);
    if (gfn >= GFNS || m->page[gfn] == M_KEPT) {
        assert_int_equal(verdict, PAGEIN_UNEXPECTED);
    } else if (m->page[gfn] == M_ABSENT) {
        assert_int_equal(verdict, PAGEIN_INSTALL);
        m->arrived[gfn] = true;
        m->in_flight[gfn] = false;
    } else if (m->page[gfn] == M_PRESENT) {
        assert_int_equal(verdict, PAGEIN_DUPLICATE);
    } else {
        assert_int_equal(verdict, PAGEIN_LATE);
    }
}

static void check_books(const struct model *m)
{
    uint64_t absent = 0, present = 0, gone = 0, replaced = 0, waiting = 0, bad = 0;

    for (unsigned int gfn = 0; gfn < GFNS; gfn++) {
        absent += m->page[gfn] == M_ABSENT;
        present += m->page[gfn] == M_PRESENT;
        gone += m->page[gfn] == M_GONE;
        replaced += m->page[gfn] == M_REPLACED;
        waiting += m->waiting[gfn];
        bad += m->bad[gfn] && m->page[gfn] == M_ABSENT;
    }
    assert_int_equal(pagein_outstanding(&m->p), absent);
    assert_int_equal(m->p.counts.installed, present);
    assert_int_equal(m->p.counts.dropped, gone);
    assert_int_equal(m->p.counts.replaced, replaced);
    assert_int_equal(m->p.waiting, waiting);
    assert_int_equal(m->unanswered, waiting);
    assert_int_equal(m->p.counts.set, absent + present + gone + replaced);
    assert_int_equal(m->p.bad, bad);
}

static void schedule(unsigned int seed)
{
    struct model m = {.random = seed, .now = 1};
    bool peer = true;

    assert_int_equal(pagein_init(&m.p, GFNS), 0);
    for (unsigned int gfn = 0; gfn < GFNS; gfn++) {
        if (dice(&m, 8)) {
            pagein_mark(&m.p, gfn);
            m.page[gfn] = M_ABSENT;
        }
    }
    for (unsigned int step = 0; step < 400; step++) {
        m.now += dice(&m, 1000);
        /* The source may go away at any time: what is here stays right, who waits goes on waiting. */
        if (seed % 3 == 0 && dice(&m, 300) == 0)
            peer = false;
        if (dice(&m, 2))
            ring_step(&m);
        else
            arrival_step(&m, peer);
        check_books(&m);
    }
    /* Then everything comes: nobody may be left waiting. */
    for (uint64_t gfn = 0; gfn < GFNS; gfn++) {
        if (m.page[gfn] != M_ABSENT)
            continue;
        if (!m.arrived[gfn])
            assert_int_equal(pagein_arrived(&m.p, gfn), PAGEIN_INSTALL);
        assert_true(pagein_installed(&m.p, gfn, 0));
        m.page[gfn] = M_PRESENT;
        release_all(&m, gfn);
    }
    assert_int_equal(pagein_outstanding(&m.p), 0);
    assert_int_equal(m.unanswered, 0);
    assert_int_equal(m.p.waiting, 0);
    pagein_free(&m.p);
}

static void thousands_of_schedules(void **state)
{
    unsigned int rounds = getenv("TEST_ROUNDS") ? (unsigned int)atoi(getenv("TEST_ROUNDS")) : 5000;

    (void)state;
    for (unsigned int seed = 1; seed <= rounds; seed++)
        schedule(seed);
}

static void rot_05_06_gfn_zero_and_the_highest_gfn(void **state)
{
    struct ring_entry e = {.kind = ENTRY_PAUSED}, out;
    struct pagein p;
    uint64_t last = UINT64_C(5) << 20; /* 20 GiB */

    (void)state;
    assert_int_equal(pagein_init(&p, last + 1), 0);
    pagein_mark(&p, 0);
    pagein_mark(&p, last);
    assert_true(pagein_entry(&p, &e, 1).ask);
    e.gfn = last;
    assert_true(pagein_entry(&p, &e, 1).ask);
    e.gfn = last + 1; /* one beyond: answered, never indexed */
    assert_int_equal(pagein_entry(&p, &e, 1).verdict, PAGEIN_ANSWER);
    assert_int_equal(p.counts.entries_unknown_gfn, 1);
    assert_int_equal(pagein_arrived(&p, 0), PAGEIN_INSTALL);
    assert_true(pagein_installed(&p, 0, 0));
    assert_true(pagein_release(&p, 0, 2, &out));
    assert_int_equal(out.gfn, 0);
    assert_false(pagein_release(&p, 0, 2, &out));
    assert_int_equal(p.waiting, 1);
    pagein_free(&p);
}

static struct pagein_action enter(struct pagein *p, uint64_t gfn, uint32_t kind, uint32_t nr)
{
    const struct ring_entry e = {.gfn = gfn, .kind = kind, .nr = nr};

    return pagein_entry(p, &e, 1);
}

static void a_range_is_asked_for_as_runs(void **state)
{
    struct pagein p;
    uint64_t first = 1;

    (void)state;
    assert_int_equal(pagein_init(&p, 100), 0);
    for (uint64_t gfn = 0; gfn < 100; gfn++)
        if (gfn != 50)
            pagein_mark(&p, gfn);
    /* One in the middle was dropped, another is here. */
    assert_true(enter(&p, 20, ENTRY_DROP, 1).dropped);
    assert_int_equal(pagein_arrived(&p, 30), PAGEIN_INSTALL);
    assert_true(pagein_installed(&p, 30, 0));
    assert_true(enter(&p, 0, ENTRY_FOREIGN, 64).ask);
    assert_int_equal(pagein_want_run(&p, &first, 64, 256), 19);
    assert_int_equal(first, 1);
    first += 19;
    assert_int_equal(pagein_want_run(&p, &first, 64, 4), 4); /* no more than fit */
    assert_int_equal(first, 21);
    first += 4;
    assert_int_equal(pagein_want_run(&p, &first, 64, 256), 5);
    assert_int_equal(first, 25);
    first += 5;
    assert_int_equal(pagein_want_run(&p, &first, 64, 256), 19);
    first += 19;
    assert_int_equal(pagein_want_run(&p, &first, 64, 256), 13);
    first += 13;
    assert_int_equal(pagein_want_run(&p, &first, 64, 256), 0);
    assert_int_equal(p.counts.asked, 61);
    assert_int_equal(p.counts.asked_with_others, 60);
    assert_int_equal(p.counts.entries_range, 1);
    /* The first one has come meanwhile: nobody waits for it, the others are wanted all the same. */
    first = 65;
    assert_int_equal(pagein_arrived(&p, 64), PAGEIN_INSTALL);
    assert_true(pagein_installed(&p, 64, 0));
    assert_false(enter(&p, 64, ENTRY_FOREIGN, 16).ask);
    assert_int_equal(pagein_want_run(&p, &first, 80, 256), 15);
    /* Beyond the last gfn there is nothing, however far the range goes. */
    first = 90;
    assert_int_equal(pagein_want_run(&p, &first, UINT64_MAX, 256), 10);
    first = 100;
    assert_int_equal(pagein_want_run(&p, &first, UINT64_MAX, 256), 0);
    pagein_free(&p);
}

static void a_vcpu_inside_a_range_in_flight_is_urgent_once(void **state)
{
    struct pagein p;
    uint64_t first = 11;

    (void)state;
    assert_int_equal(pagein_init(&p, 100), 0);
    for (uint64_t gfn = 0; gfn < 100; gfn++)
        pagein_mark(&p, gfn);
    assert_true(enter(&p, 10, ENTRY_FOREIGN, 20).ask);
    assert_int_equal(pagein_want_run(&p, &first, 30, 256), 19);
    assert_false(enter(&p, 15, ENTRY_FOREIGN, 1).ask); /* it tries again by itself */
    assert_true(enter(&p, 15, ENTRY_PAUSED, 1).ask);
    assert_false(enter(&p, 15, ENTRY_PAUSED, 1).ask);
    assert_false(enter(&p, 10, ENTRY_PAUSED, 1).ask); /* the one that was waited for is urgent already */
    assert_int_equal(p.counts.promoted, 1);
    assert_int_equal(p.counts.asked, 20);
    /* And one that has come is not asked for again. */
    assert_int_equal(pagein_arrived(&p, 16), PAGEIN_INSTALL);
    assert_false(enter(&p, 16, ENTRY_PAUSED, 1).ask);
    pagein_free(&p);
}

static void a_region_is_whole_or_not(void **state)
{
    struct pagein p;

    (void)state;
    assert_int_equal(pagein_init(&p, 1024), 0);
    for (uint64_t gfn = 0; gfn < 1000; gfn++)
        pagein_mark(&p, gfn);
    assert_int_equal(pagein_arrived(&p, 7), PAGEIN_INSTALL);
    assert_true(pagein_only_arrival(&p, 0, 512, 7));
    assert_int_equal(pagein_arrived(&p, 600), PAGEIN_INSTALL);
    assert_false(pagein_only_arrival(&p, 512, 512, 600)); /* the last 24 were never absent */
    assert_false(pagein_only_arrival(&p, 1024, 512, 1024));
    assert_int_equal(pagein_arrived(&p, 8), PAGEIN_INSTALL);
    assert_false(pagein_only_arrival(&p, 0, 512, 8));
    for (uint64_t gfn = 0; gfn < 512; gfn++) {
        assert_false(pagein_all_here(&p, 0, 512));
        pagein_arrived(&p, gfn);
        assert_true(pagein_installed(&p, gfn, gfn == 100 ? -EEXIST : 0));
    }
    assert_true(pagein_all_here(&p, 0, 512));
    assert_int_equal(p.counts.replaced, 1);
    assert_false(pagein_all_here(&p, 1000, 24)); /* nothing of it is ours */
    assert_false(pagein_all_here(&p, 1000, 25));
    assert_true(enter(&p, 700, ENTRY_PAUSED, 1).ask);
    pagein_free(&p);
    assert_int_equal(pagein_init(&p, 512), 0);
    for (uint64_t gfn = 0; gfn < 512; gfn++)
        pagein_mark(&p, gfn);
    assert_true(enter(&p, 3, ENTRY_FOREIGN, 1).ask);
    assert_int_equal(pagein_arrived(&p, 3), PAGEIN_INSTALL);
    assert_false(pagein_only_arrival(&p, 0, 512, 3)); /* someone wants it now */
    pagein_free(&p);
}

static void a_foreign_request_can_be_made_to_wait(void **state)
{
    struct pagein p;
    struct ring_entry entry;

    (void)state;
    assert_int_equal(pagein_init(&p, 16), 0);
    pagein_mark(&p, 3);
    pagein_mark(&p, 4);
    assert_int_equal(enter(&p, 3, ENTRY_FOREIGN, 1).verdict, PAGEIN_ANSWER);
    p.foreign_waits = true;
    assert_int_equal(enter(&p, 4, ENTRY_FOREIGN, 1).verdict, PAGEIN_WAIT);
    assert_int_equal(pagein_arrived(&p, 4), PAGEIN_INSTALL);
    assert_true(pagein_installed(&p, 4, 0));
    assert_true(pagein_release(&p, 4, 5, &entry));
    assert_int_equal(entry.gfn, 4);
    assert_int_equal(p.stalls.count, 0); /* no vcpu of the guest's */
    assert_int_equal(enter(&p, 4, ENTRY_FOREIGN, 1).verdict, PAGEIN_ANSWER);
    /* When no more pages come only vcpus wait. */
    pagein_mark(&p, 5);
    assert_int_equal(enter(&p, 5, ENTRY_FOREIGN, 1).verdict, PAGEIN_WAIT);
    assert_int_equal(enter(&p, 5, ENTRY_PAUSED, 1).verdict, PAGEIN_WAIT);
    assert_true(pagein_release_foreign(&p, &entry));
    assert_int_equal(entry.kind, ENTRY_FOREIGN);
    assert_false(pagein_release_foreign(&p, &entry));
    assert_int_equal(p.waiting, 1);
    assert_int_equal(enter(&p, 5, ENTRY_FOREIGN, 1).verdict, PAGEIN_ANSWER);
    pagein_free(&p);
}

static void bitmaps_by_runs(void **state)
{
    struct gfn_bitmap map, other;

    (void)state;
    assert_int_equal(gfn_bitmap_init(&map, 300), 0);
    assert_int_equal(gfn_bitmap_init(&other, 130), 0);
    assert_int_equal(gfn_bitmap_next_not_in(&map, &other), 300);
    gfn_bitmap_set_run(&map, 60, 0);
    assert_int_equal(gfn_bitmap_next(&map, 0), 300);
    gfn_bitmap_set_run(&map, 60, 140);
    assert_int_equal(gfn_bitmap_next(&map, 0), 60);
    assert_int_equal(gfn_bitmap_next_clear(&map, 60), 200);
    gfn_bitmap_set_run(&other, 60, 70);
    assert_int_equal(gfn_bitmap_next_not_in(&map, &other), 130);
    gfn_bitmap_set_run(&map, 0, 300);
    assert_int_equal(gfn_bitmap_next_clear(&map, 0), 300);
    assert_int_equal(gfn_bitmap_next_not_in(&map, &other), 0);
    gfn_bitmap_free(&map);
    gfn_bitmap_free(&other);
}

/* As one by one, whatever was known of the gfns before. */
static void many_are_marked_as_each_would_be(void **state)
{
    const uint64_t bits = UINT64_C(0x8000000000000001) | UINT64_C(0xf0f0) << 20;
    struct pagein one, many;

    (void)state;
    assert_int_equal(pagein_init(&one, 192), 0);
    assert_int_equal(pagein_init(&many, 192), 0);
    /* Came, and is marked again. */
    for (struct pagein *p = &one;; p = &many) {
        pagein_mark(p, 64 + 24);
        assert_int_equal(pagein_arrived(p, 64 + 24), PAGEIN_INSTALL);
        assert_true(pagein_installed(p, 64 + 24, 0));
        if (p == &many)
            break;
    }
    for (uint64_t i = 0; i < 64; i++)
        if (bits >> i & 1)
            pagein_mark(&one, 64 + i);
    pagein_mark_bits(&many, 64, bits);
    assert_memory_equal(one.state, many.state, 192);
    assert_int_equal(many.absent, one.absent);
    assert_int_equal(many.counts.set, one.counts.set);
    assert_int_equal(many.absent, 10);
    /* A word of bits at once, over what is unknown and over what is not. */
    for (uint64_t first = 0; first < 128; first += 64) {
        for (uint64_t gfn = first; gfn < first + 64; gfn++)
            pagein_mark(&one, gfn);
        pagein_mark_bits(&many, first, ~UINT64_C(0));
    }
    assert_memory_equal(one.state, many.state, 192);
    assert_int_equal(many.absent, one.absent);
    assert_int_equal(many.counts.set, one.counts.set);
    assert_int_equal(many.absent, 128);
    pagein_free(&one);
    pagein_free(&many);
}

/* Looked at eight at a time, runs end where they would one by one. */
static void runs_end_where_they_end(void **state)
{
    unsigned int random = 1;
    struct pagein p;

    (void)state;
    assert_int_equal(pagein_init(&p, 203), 0);
    for (unsigned int round = 0; round < 300; round++) {
        for (uint64_t gfn = 0; gfn < p.nr; gfn++)
            p.state[gfn] = PAGE_ABSENT;
        for (unsigned int i = 0; i < round % 12; i++)
            p.state[(unsigned int)rand_r(&random) % p.nr] =
                (uint8_t)((unsigned int)rand_r(&random) % (PAGE_REPLACED + 1) |
                          ((unsigned int)rand_r(&random) % 4) << 4);
        for (uint64_t first = 0; first < p.nr; first++) {
            uint64_t wanted = first, marked = first, end = first + (unsigned int)rand_r(&random) % 210;

            while (wanted < p.nr &&
                   (pagein_state(&p, wanted) == PAGE_ABSENT || pagein_state(&p, wanted) == PAGE_REQUESTED))
                wanted++;
            while (marked < p.nr && marked < end && pagein_state(&p, marked) != PAGE_KEPT)
                marked++;
            assert_int_equal(pagein_wanted_end(&p, first), wanted);
            assert_int_equal(pagein_marked_end(&p, first, end), marked);
        }
    }
    pagein_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bitmap_finds_every_gfn),
        cmocka_unit_test(runs_have_to_be_canonical),
        cmocka_unit_test(quantiles_are_within_a_sixteenth),
        cmocka_unit_test(states_only_go_where_they_may),
        cmocka_unit_test(a_range_is_asked_for_as_runs),
        cmocka_unit_test(a_foreign_request_can_be_made_to_wait),
        cmocka_unit_test(a_vcpu_inside_a_range_in_flight_is_urgent_once),
        cmocka_unit_test(a_region_is_whole_or_not),
        cmocka_unit_test(rot_05_06_gfn_zero_and_the_highest_gfn),
        cmocka_unit_test(bitmaps_by_runs),
        cmocka_unit_test(many_are_marked_as_each_would_be),
        cmocka_unit_test(runs_end_where_they_end),
        cmocka_unit_test(thousands_of_schedules),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
