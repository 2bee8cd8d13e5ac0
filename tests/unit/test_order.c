/* The order of the push: what is waited for, hints, runs for the background, sessions that are resumed. */
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
    push_order_add(&o, 500, 700);
    assert_int_equal(push_order_next_run(&o, &first, 0), 0);
    assert_int_equal(push_order_next_run(&o, &first, 512), 12);
    assert_int_equal(first, 500);
    assert_int_equal(push_order_request(&o, 600, 1, false, 0), 0);
    assert_int_equal(push_order_request(&o, 700, 0, false, 0), 0);
    assert_int_equal(push_order_request(&o, 701, 0, false, 0), 0);
    assert_int_equal(push_order_next_run(&o, &first, 512), 2);
    assert_int_equal(first, 700);
    assert_int_equal(push_order_next_run(&o, &first, 512), 1024 - 702);
    assert_int_equal(first, 702);
    assert_int_equal(push_order_next_run(&o, &first, 512), 1200 - 1024);
    assert_int_equal(first, 1024);
    assert_int_equal(push_order_next_run(&o, &first, 512), 88);
    assert_int_equal(first, 512);
    assert_int_equal(push_order_next_run(&o, &first, 512), 99);
    assert_int_equal(first, 601);
    assert_int_equal(push_order_next_run(&o, &first, 512), 0);
    assert_int_equal(push_order_next_urgent(&o, &gfn, 1), 1);
    assert_int_equal(gfn, 600);
    assert_int_equal(o.sent_hinted, 2);
    assert_int_equal(o.left, 0);
    push_order_free(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pushes_faulted_first_then_from_there),
        cmocka_unit_test(the_most_urgent_goes_first),
        cmocka_unit_test(more_requests_than_the_queue_holds),
        cmocka_unit_test(a_resumed_session_starts_again),
        cmocka_unit_test(runs_are_of_what_may_wait),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
