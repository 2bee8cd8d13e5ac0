/* The order of the push: what is waited for, hints, hot pages, runs for the background, sessions that are
 * resumed, and where the adaptive policy goes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/push_order.h"

/* What is waited for, and then the background, as on one channel. */
static unsigned int next(struct push_order *o, uint64_t *gfns, unsigned int max)
{
    unsigned int n = push_order_next_urgent(o, gfns, max), count;
    uint64_t first;

    while (n < max && (count = push_order_next_run(o, &first, max - n))) {
        assert_true(count <= max - n && first / PUSH_REGION == (first + count - 1) / PUSH_REGION);
        for (unsigned int i = 0; i < count; i++)
            gfns[n++] = first + i;
    }
    return n;
}

static void pushes_faulted_first_then_from_there(void **state)
{
    struct push_order o;
    uint64_t gfns[8];

    (void)state;
    assert_int_equal(push_order_init(&o, 100), 0);
    push_order_policy(&o, PUSH_FOLLOW);
    for (uint64_t gfn = 10; gfn < 30; gfn++)
        push_order_add(&o, gfn, 1);
    assert_int_equal(push_order_request(&o, 25, 1, false, 0), 0);
    assert_int_equal(push_order_request(&o, 12, 1, false, 0), 0);
    assert_int_equal(push_order_request(&o, 25, 1, false, 0), 0); /* twice is once */
    assert_int_equal(push_order_request(&o, 9, 1, false, 0), -EINVAL);
    assert_int_equal(push_order_request(&o, UINT64_MAX, 1, false, 0), -EINVAL);
    assert_int_equal(next(&o, gfns, 4), 4);
    assert_int_equal(gfns[0], 25);
    assert_int_equal(gfns[1], 12);
    assert_int_equal(gfns[2], 13); /* on from the last faulted one */
    assert_int_equal(gfns[3], 14);
    assert_int_equal(push_order_request(&o, 28, 1, false, 0), 0);
    assert_int_equal(next(&o, gfns, 3), 3);
    assert_int_equal(gfns[0], 28);
    assert_int_equal(gfns[1], 29);
    assert_int_equal(gfns[2], 10); /* wraps around */
    assert_int_equal(push_order_drop(&o, 11), 0);
    assert_int_equal(push_order_drop(&o, 11), 0);
    assert_int_equal(push_order_drop(&o, 10), 0); /* sent already: nothing to save */
    assert_int_equal(push_order_drop(&o, 99), -EINVAL);
    assert_int_equal(o.dropped, 1);
    assert_int_equal(push_order_request(&o, 25, 1, false, 0), 0); /* under way: nothing happens */
    assert_int_equal(o.urgent_left, 0);
    assert_int_equal(push_order_request(&o, 25, 1, true, 0), 0); /* but again if its hash was wrong */
    assert_int_equal(next(&o, gfns, 1), 1);
    assert_int_equal(gfns[0], 25);
    assert_int_equal(o.resent, 1);
    while (next(&o, gfns, 8))
        ;
    assert_int_equal(o.left, 0);
    assert_int_equal(o.different_sent, 19);
    push_order_free(&o);
}

static void the_most_urgent_goes_first(void **state)
{
    struct push_order o;
    uint64_t gfns[8];

    (void)state;
    assert_int_equal(push_order_init(&o, 1000), 0);
    push_order_policy(&o, PUSH_FOLLOW);
    push_order_add(&o, 0, 1000);
    for (uint64_t gfn = 256; gfn < 512; gfn++)
        assert_int_equal(push_order_request(&o, gfn, 0, false, 0), 0);
    assert_int_equal(push_order_request(&o, 700, 1, false, 0), 0);
    assert_int_equal(next(&o, gfns, 2), 2);
    assert_int_equal(gfns[0], 700);
    assert_int_equal(gfns[1], 256);
    /* Vcpus run into some of them; one has been dropped since, and one is less urgent to somebody else. */
    assert_int_equal(push_order_request(&o, 400, 2, false, 0), 0);
    assert_int_equal(push_order_request(&o, 300, 2, false, 0), 0);
    assert_int_equal(push_order_request(&o, 301, 2, false, 0), 0);
    assert_int_equal(push_order_request(&o, 400, 2, false, 0), 0); /* twice is once */
    assert_int_equal(push_order_request(&o, 400, 0, false, 0), 0);
    assert_int_equal(push_order_request(&o, 302, 1, false, 0), 0);
    assert_int_equal(push_order_request(&o, 256, 2, false, 0), 0); /* sent already */
    assert_int_equal(push_order_drop(&o, 300), 0);
    assert_int_equal(o.urgent_left + o.hinted_left, 254);
    assert_int_equal(next(&o, gfns, 4), 4);
    assert_int_equal(gfns[0], 400);
    assert_int_equal(gfns[1], 301);
    assert_int_equal(gfns[2], 302);
    assert_int_equal(gfns[3], 257);
    assert_int_equal(o.urgent_left + o.hinted_left, 250);
    while (next(&o, gfns, 8))
        ;
    assert_int_equal(o.sent, 999); /* none twice */
    assert_int_equal(o.urgent_left, 0);
    /* Those sent already, of which one gfn is unknown there: dropped before it was sent. */
    for (uint64_t gfn = 0; gfn < 1000; gfn++)
        assert_int_equal(push_order_request(&o, gfn, (unsigned int)(gfn % 3), true, 0), 0);
    for (uint64_t gfn = 0; gfn < 1000; gfn++)
        assert_int_equal(push_order_request(&o, gfn, 2, false, 0), 0);
    while (next(&o, gfns, 8))
        ;
    assert_int_equal(o.left, 0);
    assert_int_equal(o.resent, 999);
    push_order_free(&o);
}

static void more_requests_than_the_queue_holds(void **state)
{
    struct push_order o;
    uint64_t gfns[64], n = 0;
    unsigned int got;

    (void)state;
    assert_int_equal(push_order_init(&o, 3 * PUSH_FIFO), 0);
    push_order_policy(&o, PUSH_FOLLOW);
    for (uint64_t gfn = 0; gfn < 3 * PUSH_FIFO; gfn++)
        push_order_add(&o, gfn, 1);
    for (uint64_t gfn = 0; gfn < 2 * PUSH_FIFO; gfn++)
        assert_int_equal(push_order_request(&o, 2 * PUSH_FIFO - 1 - gfn, 1, false, 0), 0);
    for (uint64_t gfn = 0; gfn < 100; gfn++)
        assert_int_equal(push_order_drop(&o, 2 * PUSH_FIFO - 1 - gfn), 0);
    while ((got = next(&o, gfns, 64))) {
        for (unsigned int i = 0; i < got; i++)
            assert_true(n + i >= 2 * PUSH_FIFO - 100 || gfns[i] < 2 * PUSH_FIFO);
        n += got;
    }
    assert_int_equal(n, 3 * PUSH_FIFO - 100);
    assert_int_equal(o.sent_urgent, 2 * PUSH_FIFO - 100);
    push_order_free(&o);
}

/* 64 gfns from 0 on are there after a cut, of which one had been dropped; the others go again. */
static void a_resumed_session_starts_again(void **state)
{
    struct push_order o;
    uint64_t gfns[512], first;

    (void)state;
    assert_int_equal(push_order_init(&o, 1000), 0);
    push_order_policy(&o, PUSH_FOLLOW);
    push_order_add(&o, 0, 900);
    assert_int_equal(push_order_request(&o, 70, 2, false, 0), 0);
    assert_int_equal(push_order_request(&o, 71, 0, false, 0), 0);
    assert_int_equal(push_order_drop(&o, 3), 0);
    assert_int_equal(push_order_drop(&o, 800), 0);
    assert_int_equal(next(&o, gfns, 100), 100);
    assert_int_equal(push_order_drop(&o, gfns[99]), 0); /* too late */
    assert_int_equal(push_order_request(&o, 899, 1, false, 0), 0);
    assert_int_equal(push_order_request(&o, 898, 0, false, 0), 0);
    push_order_restart(&o);
    assert_int_equal(o.left, 898);
    assert_int_equal(o.urgent_left + o.hinted_left, 0);
    assert_int_equal(push_order_have(&o, 0, ~UINT64_C(0)), 0);
    assert_int_equal(push_order_have(&o, 0, ~UINT64_C(0)), 0); /* twice is once */
    assert_int_equal(push_order_have(&o, 896, 0x1f), -EINVAL);
    assert_int_equal(push_order_have(&o, 1024, 1), -EINVAL);
    assert_int_equal(push_order_have(&o, 1024, 0), 0);
    assert_int_equal(o.left, 898 - 63);
    assert_int_equal(o.different_sent, 100 + 63); /* none of 0 to 63 had been sent */
    assert_int_equal(push_order_request(&o, 5, 2, false, 0), 0);
    assert_int_equal(o.urgent_left, 0);
    while (next(&o, gfns, 512))
        assert_true(gfns[0] >= 64 && gfns[0] != 800);
    assert_int_equal(o.different_sent + o.dropped, o.in_set);
    assert_int_equal(o.sent, 100 + 898 - 63);
    assert_int_equal(o.resent, 100);
    assert_int_equal(push_order_next_run(&o, &first, 512), 0);
    push_order_free(&o);
}

/* A run is of neighbours in one region, and never has what somebody waits for. */
static void runs_are_of_what_may_wait(void **state)
{
    struct push_order o;
    uint64_t first, gfn;

    (void)state;
    assert_int_equal(push_order_init(&o, 2000), 0);
    push_order_policy(&o, PUSH_FOLLOW);
    push_order_add(&o, 500, 700);
    assert_int_equal(push_order_next_run(&o, &first, 0), 0);
    assert_int_equal(push_order_next_run(&o, &first, 512), 12);
    assert_int_equal(first, 500);
    assert_int_equal(push_order_request(&o, 600, 1, false, 0), 0);
    assert_int_equal(push_order_request(&o, 700, 0, false, 0), 0);
    assert_int_equal(push_order_request(&o, 701, 0, false, 0), 0);
    assert_int_equal(push_order_next_run(&o, &first, 512), 2);
    assert_int_equal(first, 700);
    assert_int_equal(push_order_next_run(&o, &first, 512), 88);
    assert_int_equal(first, 512);
    assert_int_equal(push_order_next_run(&o, &first, 10), 10);
    assert_int_equal(first, 601);
    assert_int_equal(push_order_next_run(&o, &first, 512), 700 - 611);
    assert_int_equal(first, 611);
    assert_int_equal(push_order_next_run(&o, &first, 512), 1024 - 702);
    assert_int_equal(first, 702);
    assert_int_equal(push_order_next_run(&o, &first, 512), 1200 - 1024);
    assert_int_equal(first, 1024);
    assert_int_equal(push_order_next_run(&o, &first, 512), 0);
    assert_int_equal(push_order_next_urgent(&o, &gfn, 1), 1);
    assert_int_equal(gfn, 600);
    assert_int_equal(o.sent_hinted, 2);
    assert_int_equal(o.left, 0);
    push_order_free(&o);
}

/* -- what is free, against a loop over gfns */

#define PAGES 1700u

static uint64_t naive_above(const bool *is_free, uint64_t gfn)
{
    for (; gfn < PAGES; gfn++)
        if (is_free[gfn])
            return gfn;
    return PUSH_NOWHERE;
}

static uint64_t naive_below(const bool *is_free, uint64_t gfn)
{
    for (gfn = gfn < PAGES ? gfn : PAGES - 1; gfn != UINT64_MAX; gfn--)
        if (is_free[gfn])
            return gfn;
    return PUSH_NOWHERE;
}

static unsigned int naive_run(const bool *is_free, uint64_t gfn, int step, unsigned int most)
{
    unsigned int n = 0;

    for (uint64_t at = gfn; n < most && at < PAGES && at / PUSH_REGION == gfn / PUSH_REGION && is_free[at];
         at += (uint64_t)step)
        n++;
    return n;
}

static void free_pages_are_found(void **state)
{
    struct push_pages pages;
    bool is_free[PAGES] = {false};
    unsigned int random = 1;

    (void)state;
    assert_int_equal(push_pages_init(&pages, PAGES), 0);
    for (unsigned int i = 0; i < 20000; i++) {
        uint64_t first = (uint64_t)rand_r(&random) % PAGES, at = (uint64_t)rand_r(&random) % (PAGES + 100);
        uint64_t end = first + 1 + (uint64_t)rand_r(&random) % (i % 3 ? 4 : 700);
        unsigned int most = 1 + (unsigned int)rand_r(&random) % 600;
        bool put = rand_r(&random) & 1;

        if (!put && end > (first / PUSH_REGION + 1) * PUSH_REGION)
            end = (first / PUSH_REGION + 1) * PUSH_REGION;
        if (end > PAGES)
            end = PAGES;
        if (put)
            push_pages_put(&pages, first, end - first);
        else
            push_pages_take(&pages, first, end - first);
        for (uint64_t gfn = first; gfn < end; gfn++)
            is_free[gfn] = put;
        assert_true(push_pages_above(&pages, at) == naive_above(is_free, at));
        assert_true(push_pages_below(&pages, at) == naive_below(is_free, at));
        assert_int_equal(push_pages_up(&pages, at, most), naive_run(is_free, at, 1, most));
        assert_int_equal(push_pages_down(&pages, at, most), naive_run(is_free, at, -1, most));
        assert_int_equal(push_pages_has(&pages, at), at < PAGES && is_free[at]);
    }
    push_pages_free(&pages);
}

/* -- the whole of it, against a model that goes through all gfns for everything */

struct model {
    struct push_order o;
    unsigned int random;
    uint64_t clock;
    struct {
        bool set, unsent, once, hot;
        unsigned int asked; /* urgency + 1; 0: not */
        uint64_t since;     /* of that: since when */
    } page[PAGES];
    uint64_t sent, resent, sent_urgent, sent_hinted, dropped;
};

static uint64_t dice(struct model *m, uint64_t sides)
{
    return (uint64_t)rand_r(&m->random) % sides;
}

static void model_request(struct model *m, uint64_t gfn, unsigned int urgency, bool resend)
{
    bool known = gfn < PAGES && m->page[gfn].set;

    assert_int_equal(push_order_request(&m->o, gfn, urgency, resend, m->clock), known ? 0 : -EINVAL);
    if (!known)
        return;
    if (resend && m->page[gfn].once)
        m->page[gfn].unsent = true;
    if (!m->page[gfn].unsent || m->page[gfn].asked > urgency)
        return;
    m->page[gfn].asked = urgency + 1;
    m->page[gfn].since = ++m->clock;
    m->page[gfn].hot &= urgency == 0;
}

static void model_sent(struct model *m, uint64_t gfn)
{
    assert_true(gfn < PAGES && m->page[gfn].unsent);
    m->sent++;
    m->resent += m->page[gfn].once;
    m->sent_hinted += m->page[gfn].asked == 1;
    m->sent_urgent += m->page[gfn].asked > 1;
    m->page[gfn].once = true;
    m->page[gfn].unsent = m->page[gfn].hot = false;
    m->page[gfn].asked = 0;
}

/* Who is to be served next of those asked for with at least this urgency; PAGES: nobody. */
static uint64_t model_next(const struct model *m, unsigned int least, unsigned int most)
{
    uint64_t found = PAGES;

    for (uint64_t gfn = 0; gfn < PAGES; gfn++) {
        if (m->page[gfn].asked < least + 1 || m->page[gfn].asked > most + 1)
            continue;
        if (found == PAGES || m->page[gfn].asked > m->page[found].asked ||
            (m->page[gfn].asked == m->page[found].asked && m->page[gfn].since < m->page[found].since))
            found = gfn;
    }
    return found;
}

static uint64_t model_count(const struct model *m, bool (*of)(const struct model *m, uint64_t gfn))
{
    uint64_t n = 0;

    for (uint64_t gfn = 0; gfn < PAGES; gfn++)
        n += of(m, gfn);
    return n;
}

static bool is_unsent(const struct model *m, uint64_t gfn)
{
    return m->page[gfn].unsent;
}

static bool is_free(const struct model *m, uint64_t gfn)
{
    return m->page[gfn].unsent && m->page[gfn].asked < 2;
}

static bool is_hinted(const struct model *m, uint64_t gfn)
{
    return m->page[gfn].asked == 1;
}

static bool is_hot(const struct model *m, uint64_t gfn)
{
    return m->page[gfn].hot;
}

static void urgent_step(struct model *m)
{
    uint64_t gfns[4];
    unsigned int max = (unsigned int)dice(m, 5), n = push_order_next_urgent(&m->o, gfns, max);

    for (unsigned int i = 0; i < n; i++) {
        assert_int_equal(gfns[i], model_next(m, 1, 2));
        model_sent(m, gfns[i]);
    }
    assert_true(n == max || model_next(m, 1, 2) == PAGES);
}

static unsigned int run_step(struct model *m)
{
    uint64_t first = 0, hint = model_next(m, 0, 0);
    unsigned int most = 1 + (unsigned int)dice(m, m->clock & 1 ? 512 : 8);
    unsigned int n = push_order_next_run(&m->o, &first, most);
    bool (*all)(const struct model *m, uint64_t gfn) = hint < PAGES             ? is_hinted
                                                       : model_count(m, is_hot) ? is_hot
                                                                                : is_free;

    assert_true(n <= most && (n == 0) == (model_count(m, is_free) == 0));
    assert_true(!n || first / PUSH_REGION == (first + n - 1) / PUSH_REGION);
    assert_true(hint == PAGES || first == hint);
    for (unsigned int i = 0; i < n; i++) {
        assert_true(all(m, first + i) && is_free(m, first + i));
        model_sent(m, first + i);
    }
    return n;
}

static void drop_step(struct model *m)
{
    uint64_t gfn = dice(m, PAGES + 5);
    bool known = gfn < PAGES && m->page[gfn].set;

    assert_int_equal(push_order_drop(&m->o, gfn), known ? 0 : -EINVAL);
    if (!known || !m->page[gfn].unsent)
        return;
    m->dropped += !m->page[gfn].once;
    m->page[gfn].unsent = m->page[gfn].hot = false;
    m->page[gfn].asked = 0;
}

static void hot_step(struct model *m)
{
    uint64_t first = dice(m, PAGES), count = dice(m, 20);

    push_order_hot(&m->o, first, count);
    for (uint64_t gfn = first; gfn < first + count && gfn < PAGES; gfn++)
        m->page[gfn].hot |= m->o.policy.kind == PUSH_ADAPTIVE && is_free(m, gfn);
}

/* Cut, and of what was sent some has come. */
static void restart_step(struct model *m)
{
    push_order_restart(&m->o);
    for (uint64_t gfn = 0; gfn < PAGES; gfn++) {
        m->page[gfn].unsent |= m->page[gfn].once;
        m->page[gfn].asked = 0;
    }
    for (uint64_t first = 0; first < PAGES; first += 64) {
        uint64_t bits = 0;

        for (uint64_t gfn = first; gfn < first + 64 && gfn < PAGES; gfn++) {
            if (!m->page[gfn].once || dice(m, 4) == 0)
                continue;
            bits |= UINT64_C(1) << (gfn - first);
            m->page[gfn].unsent = m->page[gfn].hot = false;
        }
        assert_int_equal(push_order_have(&m->o, first, bits), 0);
    }
}

static void counters_match(const struct model *m)
{
    const struct push_order *o = &m->o;

    assert_int_equal(o->sent, m->sent);
    assert_int_equal(o->resent, m->resent);
    assert_int_equal(o->sent_urgent, m->sent_urgent);
    assert_int_equal(o->sent_hinted, m->sent_hinted);
    assert_int_equal(o->dropped, m->dropped);
    assert_int_equal(o->different_sent, m->sent - m->resent);
    assert_int_equal(o->left, model_count(m, is_unsent));
    assert_int_equal(o->left - o->urgent_left, model_count(m, is_free));
    assert_int_equal(o->hinted_left, model_count(m, is_hinted));
    assert_int_equal(o->hot_left, model_count(m, is_hot));
    assert_in_range(push_order_chunk(o, m->clock), PUSH_CHUNK_LEAST, PUSH_CHUNK_MOST);
}

static void model_step(struct model *m)
{
    /* Near each other, so that streams are found in it, too. */
    uint64_t gfn = dice(m, 3) ? dice(m, PAGES + 3) : m->clock * 7 % PAGES;

    m->clock++;
    switch (dice(m, 12)) {
    case 0:
    case 1:
    case 2:
    case 3:
        model_request(m, gfn, (unsigned int)dice(m, 3), dice(m, 5) == 0);
        break;
    case 4:
    case 5:
        urgent_step(m);
        break;
    case 6:
        drop_step(m);
        break;
    case 7:
        if (dice(m, 20) == 0)
            hot_step(m);
        break;
    case 8:
        if (dice(m, 100) == 0)
            restart_step(m);
        break;
    default:
        run_step(m);
    }
}

static void one_walk(unsigned int seed)
{
    struct model *m = calloc(1, sizeof(*m));

    assert_non_null(m);
    m->random = seed;
    assert_int_equal(push_order_init(&m->o, PAGES), 0);
    push_order_policy(&m->o, (enum push_policy_kind)(seed % PUSH_POLICIES));
    for (uint64_t gfn = 0; gfn < PAGES; gfn++) {
        if (dice(m, 10) == 0)
            continue;
        push_order_add(&m->o, gfn, 1);
        m->page[gfn].set = m->page[gfn].unsent = true;
    }
    for (unsigned int i = 0; i < 400; i++) {
        model_step(m);
        counters_match(m);
    }
    while (run_step(m) || m->o.urgent_left)
        urgent_step(m);
    counters_match(m);
    assert_int_equal(m->o.left, 0);
    assert_int_equal(m->o.different_sent + m->o.dropped, m->o.in_set);
    push_order_free(&m->o);
    free(m);
}

static void thousands_of_walks(void **state)
{
    (void)state;
    for (unsigned int seed = 1; seed <= 120; seed++)
        one_walk(seed);
}

/* -- where the adaptive policy goes */

static void begin(struct push_order *o, uint64_t pages)
{
    assert_int_equal(push_order_init(o, pages), 0);
    push_order_add(o, 0, pages);
}

/* The guest waits for gfn, and it is sent. */
static void fault(struct push_order *o, uint64_t gfn)
{
    static uint64_t now;
    uint64_t sent;

    assert_int_equal(push_order_request(o, gfn, 2, false, ++now), 0);
    if (push_order_next_urgent(o, &sent, 1))
        assert_int_equal(sent, gfn);
}

static void goes_on_with(struct push_order *o, uint64_t gfn, unsigned int n)
{
    uint64_t first;

    assert_int_equal(push_order_next_run(o, &first, n), n);
    assert_int_equal(first, gfn);
}

static void a_bubble_grows_round_a_fault(void **state)
{
    struct push_order o;
    uint64_t first;
    unsigned int n = 24;

    (void)state;
    begin(&o, 100000);
    goes_on_with(&o, 0, 4); /* nothing is known: upwards */
    fault(&o, 50000);
    goes_on_with(&o, 50001, 4);
    goes_on_with(&o, 50005, 4);
    goes_on_with(&o, 50009, 4);
    goes_on_with(&o, 49996, 4);
    goes_on_with(&o, 50013, 4);
    goes_on_with(&o, 49992, 4);
    /* It may have been one fault, and no more: it goes on, but not for ever. */
    for (first = 50001; first > 50000; n += push_order_next_run(&o, &first, 8))
        ;
    assert_in_range(n, 512, 530);
    assert_int_equal(first, 4);
    push_order_free(&o);
    begin(&o, 100000);
    fault(&o, 50000);
    for (n = 0; n < 24;)
        n += push_order_next_run(&o, &first, 4);
    /* Another above: that side grows. */
    fault(&o, 50020);
    goes_on_with(&o, 50021, 16);
    goes_on_with(&o, 50037, 16);
    goes_on_with(&o, 50017, 3);
    goes_on_with(&o, 49991, 1);
    /* And goes on, but a new fault elsewhere gets as much. */
    goes_on_with(&o, 50053, 8);
    fault(&o, 20000);
    goes_on_with(&o, 20001, 8);
    goes_on_with(&o, 50061, 8);
    goes_on_with(&o, 20009, 8);
    push_order_free(&o);
}

/* Sixteen pages asked for together are one fault: no stream that goes on and on. */
static void a_run_is_one_fault(void **state)
{
    struct push_order o;
    uint64_t gfns[16], first;
    unsigned int n = 0;

    (void)state;
    begin(&o, 100000);
    for (uint64_t gfn = 30000; gfn < 30016; gfn++)
        assert_int_equal(push_order_request(&o, gfn, 1, false, 77), 0);
    assert_int_equal(push_order_next_urgent(&o, gfns, 16), 16);
    goes_on_with(&o, 30016, 16);
    goes_on_with(&o, 29992, 8);
    while (push_order_next_run(&o, &first, 64) && first >= 29992)
        n++;
    assert_in_range(n, 7, 10);
    assert_int_equal(first, 0);
    push_order_free(&o);
}

static void streams_are_followed_downwards_and_by_strides(void **state)
{
    struct push_order o;
    uint64_t first;

    (void)state;
    begin(&o, 1000000);
    fault(&o, 5000);
    fault(&o, 4990);
    fault(&o, 4970);
    fault(&o, 4943);
    assert_int_equal(push_order_next_run(&o, &first, 8), 8);
    assert_int_equal(first, 4935);
    push_order_free(&o);
    begin(&o, 1000000);
    for (uint64_t i = 0; i < 4; i++)
        fault(&o, 5000 + 40 * i);
    goes_on_with(&o, 5160, 1);
    goes_on_with(&o, 5200, 1);
    fault(&o, 5205); /* it was none */
    goes_on_with(&o, 5206, 4);
    push_order_free(&o);
    /* Far apart, and downwards. */
    begin(&o, 1000000);
    for (uint64_t i = 0; i < 3; i++)
        fault(&o, 900000 - 5000 * i);
    goes_on_with(&o, 890000 + 5001, 1);
    goes_on_with(&o, 885000, 1);
    goes_on_with(&o, 900001, 1);
    goes_on_with(&o, 880000, 1);
    push_order_free(&o);
}

static void hot_pages_go_first_and_hints_before_them(void **state)
{
    struct push_order o;

    (void)state;
    begin(&o, 10000);
    push_order_hot(&o, 700, 3);
    push_order_hot(&o, 600, 2);
    push_order_hot(&o, 9999, 5);
    push_order_hot(&o, UINT64_MAX, 5);
    assert_int_equal(o.hot_left, 6);
    assert_int_equal(push_order_request(&o, 800, 0, false, 0), 0);
    goes_on_with(&o, 800, 1);
    goes_on_with(&o, 600, 2);
    assert_int_equal(push_order_drop(&o, 701), 0);
    goes_on_with(&o, 700, 1);
    fault(&o, 702);
    goes_on_with(&o, 9999, 1);
    assert_int_equal(o.hot_left, 0);
    push_order_free(&o);
}

/* What stands in front of a page that is asked for is small while that happens. */
static void chunks_grow_when_nothing_is_asked_for(void **state)
{
    struct push_order o;
    uint64_t first;

    (void)state;
    begin(&o, 10000);
    assert_int_equal(push_order_chunk(&o, 0), PUSH_CHUNK_LEAST);
    assert_int_equal(push_order_chunk(&o, PUSH_CALM_NS + 1), PUSH_CHUNK_MOST);
    for (unsigned int i = 0; i < 10; i++)
        assert_true(push_order_next_run(&o, &first, 512));
    assert_in_range(push_order_chunk(&o, 0), 500, PUSH_CHUNK_MOST);
    assert_int_equal(push_order_request(&o, 9000, 0, false, PUSH_CALM_NS), 0); /* a hint */
    assert_in_range(push_order_chunk(&o, 0), 500, PUSH_CHUNK_MOST);
    assert_int_equal(push_order_request(&o, 9000, 1, false, PUSH_CALM_NS), 0);
    assert_int_equal(push_order_chunk(&o, PUSH_CALM_NS), PUSH_CHUNK_LEAST);
    assert_int_equal(push_order_chunk(&o, 0), PUSH_CHUNK_LEAST); /* whose clock is behind */
    assert_int_equal(push_order_next_run(&o, &first, 80), 16);
    assert_int_equal(push_order_chunk(&o, PUSH_CALM_NS), PUSH_CHUNK_LEAST);
    assert_true(push_order_next_run(&o, &first, 80) && push_order_next_run(&o, &first, 80));
    assert_in_range(push_order_chunk(&o, PUSH_CALM_NS), PUSH_CHUNK_LEAST + 1, 30);
    push_order_free(&o);
}

static void policies_have_names(void **state)
{
    enum push_policy_kind kind;

    (void)state;
    for (unsigned int i = 0; i < PUSH_POLICIES; i++) {
        assert_int_equal(push_policy_find(push_policy_name((enum push_policy_kind)i), &kind), 0);
        assert_int_equal(kind, i);
    }
    assert_int_equal(push_policy_find("adaptiv", &kind), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pushes_faulted_first_then_from_there),
        cmocka_unit_test(the_most_urgent_goes_first),
        cmocka_unit_test(more_requests_than_the_queue_holds),
        cmocka_unit_test(a_resumed_session_starts_again),
        cmocka_unit_test(runs_are_of_what_may_wait),
        cmocka_unit_test(free_pages_are_found),
        cmocka_unit_test(thousands_of_walks),
        cmocka_unit_test(a_bubble_grows_round_a_fault),
        cmocka_unit_test(a_run_is_one_fault),
        cmocka_unit_test(streams_are_followed_downwards_and_by_strides),
        cmocka_unit_test(hot_pages_go_first_and_hints_before_them),
        cmocka_unit_test(chunks_grow_when_nothing_is_asked_for),
        cmocka_unit_test(policies_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
