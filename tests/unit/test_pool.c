/* Page pool and descriptor rings: what the other process writes there never takes this one beyond its own
 * memory. */
#include <errno.h>
#include <pthread.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "pool.h"
#include "wire/wire.h"

static struct pool pool;

static int setup(void **state)
{
    (void)state;
    return pool_create(&pool, 64);
}

static int teardown(void **state)
{
    (void)state;
    pool_destroy(&pool);
    return 0;
}

static void sizes_are_checked(void **state)
{
    struct pool p;

    (void)state;
    memset(&p, 0, sizeof(p));
    assert_int_equal(pool_create(&p, 0), -EINVAL);
    assert_int_equal(pool_create(&p, 1), -EINVAL);
    assert_int_equal(pool_create(&p, POOL_SLOTS_MAX + 1), -EINVAL);
    pool_destroy(&p);
}

/* Some slots are for answers, the others are credit: there is one of each, and no more than may be asked for.
 */
static void slots_are_divided(void **state)
{
    static const uint32_t sizes[][3] = {
        {2, 1, 1},   {3, 1, 1},      {7, 3, 1},       {8, 4, 1},
        {64, 32, 4}, {512, 256, 32}, {1024, 512, 64}, {WIRE_ASKED_MAX * 2 + 64, WIRE_ASKED_MAX, 64},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct pool p;

        assert_int_equal(pool_create(&p, sizes[i][0]), 0);
        assert_int_equal(p.slots, sizes[i][0]);
        assert_int_equal(p.asked, sizes[i][1]);
        assert_int_equal(pool_quantum(&p), sizes[i][2]);
        assert_true(pool_slot_asked(&p, p.asked - 1));
        assert_false(pool_slot_asked(&p, p.asked));
        pool_destroy(&p);
    }
}

/* Both rings from the feeder wake it by the same descriptor when there is space: it waits on that alone. */
static void rings_share_nothing_but_the_wake_up(void **state)
{
    struct pool_ring *rings[3] = {&pool.orders, &pool.reports, &pool.arrivals};
    struct pool_descriptor d = {.type = 1}, out;

    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        struct pool_ring producer = *rings[i];

        d.slot = i;
        for (uint32_t n = 0; n < producer.size; n++)
            pool_ring_put(&producer, &d);
        assert_int_equal(pool_ring_space(&producer), 0);
    }
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t n = 0; n < rings[i]->size; n++) {
            assert_int_equal(pool_ring_take(rings[i], &out), 1);
            assert_int_equal(out.slot, i);
        }
        assert_int_equal(pool_ring_take(rings[i], &out), 0);
    }
    /* Nor do they reach into the slots. */
    for (size_t i = 0; i < (size_t)pool.slots * POOL_PAGE_SIZE; i++)
        assert_int_equal(pool.pages[i], 0);
    assert_int_equal(pool.reports.space_fd, pool.orders.event_fd);
    assert_int_equal(pool.arrivals.space_fd, pool.orders.event_fd);
    assert_int_not_equal(pool.arrivals.event_fd, pool.reports.event_fd);
}

static void space_wakes_who_waits_for_it(void **state)
{
    struct pool_ring producer = pool.arrivals;
    struct pool_descriptor d = {.type = 1}, out;
    struct pollfd p = {.fd = producer.space_fd, .events = POLLIN};

    (void)state;
    while (pool_ring_put(&producer, &d))
        ;
    /* Nobody has asked to be woken. */
    assert_int_equal(pool_ring_take(&pool.arrivals, &out), 1);
    assert_int_equal(poll(&p, 1, 0), 0);
    assert_true(pool_ring_put(&producer, &d));
    assert_false(pool_ring_want_space(&producer, 1));
    assert_int_equal(pool_ring_peek(&pool.arrivals, &out), 1);
    assert_int_equal(poll(&p, 1, 0), 0);
    pool_ring_consume(&pool.arrivals);
    assert_int_equal(poll(&p, 1, 0), 1);
    assert_true(pool_ring_want_space(&producer, 1));
}

static void a_full_ring_takes_no_more(void **state)
{
    struct pool_descriptor d = {.type = 1};
    uint32_t n = 0;

    (void)state;
    while (d.slot = n, pool_ring_put(&pool.orders, &d))
        n++;
    assert_int_equal(n, pool.orders.size);
    assert_true(n >= 2 * 64 + 256);
    assert_false(pool_ring_want_space(&pool.orders, 1));
}

/* Each end has its own copy of struct pool_ring after a fork; in one process, two copies. */
static void order_and_contents_are_kept(void **state)
{
    struct pool_ring consumer = pool.orders;
    struct pool_descriptor d = {.type = 7}, out;

    (void)state;
    for (uint64_t i = 0; i < 10000; i++) {
        d.value[0] = i;
        assert_true(pool_ring_put(&pool.orders, &d));
        if (i % 100 == 99) {
            for (uint64_t k = i - 99; k <= i; k++) {
                assert_int_equal(pool_ring_take(&consumer, &out), 1);
                assert_int_equal(out.value[0], k);
            }
            assert_int_equal(pool_ring_take(&consumer, &out), 0);
        }
    }
}

static void an_impossible_index_is_refused(void **state)
{
    struct pool_ring producer = pool.reports, liar;
    struct pool_descriptor d = {.type = 1}, out;

    (void)state;
    assert_true(pool_ring_put(&producer, &d));
    assert_int_equal(pool_ring_take(&pool.reports, &out), 1);
    /* Far ahead, or back: the producer's index is in shared memory, and it may write anything there. */
    for (uint32_t lie = 2; lie < 40; lie += 3) {
        *(_Atomic uint32_t *)(void *)producer.shared = producer.mine + (UINT32_MAX / 40) * lie;
        assert_int_equal(pool_ring_take(&pool.reports, &out), -EPROTO);
    }
    *(_Atomic uint32_t *)(void *)producer.shared = producer.mine;
    assert_int_equal(pool_ring_take(&pool.reports, &out), 0);
    /* A consumer that claims to have taken more than there was: the ring counts as full, nothing is
     * overwritten beyond it. */
    liar = pool.orders;
    ((_Atomic uint32_t *)(void *)liar.shared)[16] = 12345;
    assert_int_equal(pool_ring_space(&pool.orders), 0);
    assert_false(pool_ring_put(&pool.orders, &d));
}

static void every_byte_may_be_rubbish(void **state)
{
    unsigned int random = 3;
    struct pool_descriptor out;

    (void)state;
    for (int round = 0; round < 2000; round++) {
        uint8_t *bytes = pool.base;

        for (int i = 0; i < 50; i++)
            bytes[(size_t)rand_r(&random) % pool.bytes] = (uint8_t)rand_r(&random);
        bytes[(size_t)rand_r(&random) % 256] = (uint8_t)rand_r(&random);
        for (int i = 0; i < 20; i++)
            pool_ring_take(i % 2 ? &pool.reports : &pool.arrivals, &out);
        pool_ring_put(&pool.orders, &(struct pool_descriptor){.type = 1});
    }
}

struct stream {
    struct pool_ring ring;
    uint64_t count;
};

static void *produce(void *data)
{
    struct stream *s = data;

    for (uint64_t i = 0; i < s->count; i++) {
        struct pool_descriptor d = {.type = 1, .value = {i, ~i, i, i, i, i * 3}};

        while (!pool_ring_put(&s->ring, &d)) {
            struct pollfd p = {.fd = s->ring.space_fd, .events = POLLIN};

            pool_ring_notify(&s->ring);
            if (!pool_ring_want_space(&s->ring, 10)) {
                uint64_t scrap;

                if (poll(&p, 1, 20000) != 1 || read(p.fd, &scrap, sizeof(scrap)) < 0)
                    abort();
            }
        }
        if (i % 7 == 0)
            pool_ring_notify(&s->ring);
    }
    pool_ring_notify(&s->ring);
    return NULL;
}

static void two_processes_never_miss_a_wake_up(void **state)
{
    struct stream s = {.ring = pool.orders, .count = 200000};
    struct pool_descriptor d;
    pthread_t producer;
    uint64_t next = 0;

    (void)state;
    assert_int_equal(pthread_create(&producer, NULL, produce, &s), 0);
    while (next < s.count) {
        struct pollfd p = {.fd = pool.orders.event_fd, .events = POLLIN};

        assert_int_equal(poll(&p, 1, 20000), 1);
        pool_ring_clear(&pool.orders);
        while (pool_ring_take(&pool.orders, &d) == 1) {
            assert_int_equal(d.value[0], next);
            assert_true(d.value[1] == ~next && d.value[5] == next * 3);
            next++;
        }
    }
    pthread_join(producer, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(slots_are_divided),
        cmocka_unit_test_setup_teardown(rings_share_nothing_but_the_wake_up, setup, teardown),
        cmocka_unit_test_setup_teardown(space_wakes_who_waits_for_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_ring_takes_no_more, setup, teardown),
        cmocka_unit_test_setup_teardown(order_and_contents_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(an_impossible_index_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(every_byte_may_be_rubbish, setup, teardown),
        cmocka_unit_test_setup_teardown(two_processes_never_miss_a_wake_up, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
