/* What the push order promises: few faults where there is locality, nothing lost by it where there is none,
 * and every page once, whatever happens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim.h"

static struct sim_result run(const struct sim_options *options)
{
    struct sim_result r;

    assert_int_equal(sim_run(options, &r), 0);
    assert_int_equal(r.lost, 0);
    assert_true(r.counts_match);
    return r;
}

static double netfault(const struct sim_result *r)
{
    return (double)r->requests / (double)r->touched;
}

static struct sim_options workload(enum workload_kind kind, enum push_policy_kind policy)
{
    struct sim_options o;

    sim_options_init(&o);
    o.workload = kind;
    o.policy = policy;
    return o;
}

static void print(const char *what, enum workload_kind kind, const struct sim_result *r)
{
    printf("   sim.%s.%s %.4f faults a page, mean %.0f us, loss %.1f ms, %llu of %llu regions whole\n",
           workload_name(kind), what, netfault(r),
           r->stalls ? (double)r->stall_ns / 1e3 / (double)r->stalls : 0., (double)r->loss_ns / 1e6,
           (unsigned long long)r->whole, (unsigned long long)r->regions);
}

/* At most so many faults a page, whatever the guest's threads, the link and where it begins. */
static void at_most(enum workload_kind kind, double most, bool all)
{
    static const unsigned int threads[] = {4, 1, 16};
    struct sim_options o = workload(kind, PUSH_ADAPTIVE);

    for (unsigned int i = 0; i < (all ? 3u : 1u); i++) {
        struct sim_result r;

        o.threads = threads[i];
        o.holes = i == 2 ? 1000 : 0;
        r = run(&o);
        if (i == 0)
            print("adaptive", kind, &r);
        if (netfault(&r) > most)
            fail_msg("%s, %u threads: %.4f faults a page", workload_name(kind), threads[i], netfault(&r));
        assert_int_equal(r.duplicates, 0);
        assert_int_equal(r.sent, o.pages - (o.holes ? (o.pages + o.holes / 2 - 1) / o.holes : 0));
    }
}

static void one_stream_faults_once(void **state)
{
    (void)state;
    at_most(WORK_SEQ, 0.02, true);
    at_most(WORK_BACKWARD, 0.02, true);
}

static void sixteen_streams_do_hardly_more(void **state)
{
    (void)state;
    at_most(WORK_STREAMS16, 0.05, true);
}

static void a_stride_is_found(void **state)
{
    (void)state;
    at_most(WORK_STRIDE, 0.02, true);
}

/* The policies over ten seeds; faults a page. */
static void compare(enum workload_kind kind, double *adaptive, double *push)
{
    double sum[PUSH_POLICIES] = {0};

    for (unsigned int p = 0; p < PUSH_POLICIES; p++) {
        struct sim_options o = workload(kind, (enum push_policy_kind)p);
        struct sim_result r = {0};

        for (o.seed = 1; o.seed <= 10; o.seed++) {
            r = run(&o);
            sum[p] += netfault(&r) / 10;
            assert_int_equal(r.duplicates, 0);
            assert_int_equal(r.sent, o.pages);
        }
        print(push_policy_name(o.policy), kind, &r);
    }
    *adaptive = sum[PUSH_ADAPTIVE];
    *push = sum[PUSH_ONLY];
}

/* Where there is nothing to be found nothing is lost by looking. */
static void no_order_is_no_worse_than_any(void **state)
{
    static const enum workload_kind kinds[] = {WORK_RANDOM, WORK_ZIPF};

    (void)state;
    for (unsigned int i = 0; i < 2; i++) {
        double adaptive, push;

        compare(kinds[i], &adaptive, &push);
        assert_true(adaptive <= push * 1.03);
    }
}

static void locality_is_found_in_noise(void **state)
{
    double adaptive, push;

    (void)state;
    compare(WORK_CLUSTERS, &adaptive, &push);
    assert_true(adaptive <= push / 2);
    compare(WORK_MIXED, &adaptive, &push);
    assert_true(adaptive <= push * 0.6);
}

/* A guest that is faster than the link waits for the link, not for the order. */
static void a_guest_that_is_too_fast_loses_what_the_link_lacks(void **state)
{
    struct sim_options o = workload(WORK_SEQ, PUSH_ADAPTIVE);
    struct sim_result r;

    (void)state;
    o.touch = 300;
    r = run(&o);
    print("too fast", o.workload, &r);
    assert_in_range(r.loss_ns, r.end_ns * 64 / 100, r.end_ns * 69 / 100);
}

static void a_hint_is_as_good_as_a_fault(void **state)
{
    struct sim_options o = workload(WORK_CLUSTERS, PUSH_ONLY);
    struct sim_result without, with;

    (void)state;
    without = run(&o);
    o.widen = 32;
    with = run(&o);
    print("hints", o.workload, &with);
    assert_true(with.requests * 2 < without.requests);
    assert_int_equal(with.duplicates, 0);
}

static void nothing_is_lost_whatever_happens(void **state)
{
    uint64_t requests = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 1000; seed++) {
        struct sim_options o = workload((enum workload_kind)(seed % WORKLOADS),
                                        (enum push_policy_kind)(seed / WORKLOADS % PUSH_POLICIES));
        struct sim_result r;
        uint64_t dice = seed;

        o.seed = seed;
        o.pages = 1 + sim_random(&dice, 3000);
        o.threads = 1 + (unsigned int)sim_random(&dice, 8);
        o.touch = 10 + (unsigned int)sim_random(&dice, 300);
        o.rtt_ns = 1000 + sim_random(&dice, 3000000);
        o.widen = 1u << sim_random(&dice, 6);
        o.drops = (unsigned int)sim_random(&dice, 100);
        o.bad_hashes = (unsigned int)sim_random(&dice, 50);
        o.restarts = (unsigned int)sim_random(&dice, 4);
        o.holes = sim_random(&dice, 3) ? 2 + sim_random(&dice, 200) : 0;
        if (sim_run(&o, &r) || r.lost || r.duplicates || !r.counts_match)
            fail_msg("seed %llu: %llu pages lost, %llu came twice", (unsigned long long)seed,
                     (unsigned long long)r.lost, (unsigned long long)r.duplicates);
        requests += r.requests;
    }
    assert_true(requests > 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_stream_faults_once),
        cmocka_unit_test(sixteen_streams_do_hardly_more),
        cmocka_unit_test(a_stride_is_found),
        cmocka_unit_test(no_order_is_no_worse_than_any),
        cmocka_unit_test(locality_is_found_in_noise),
        cmocka_unit_test(a_guest_that_is_too_fast_loses_what_the_link_lacks),
        cmocka_unit_test(a_hint_is_as_good_as_a_fault),
        cmocka_unit_test(nothing_is_lost_whatever_happens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
