/*
 * What a Xen may have, feature by feature and in every combination: sessions over loopback against fakes
 * whose Xen has it all, some of it or nothing.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend_batch.h"
#include "exit_status.h"
#include "fixture.h"

static json_t *run(struct fixture *f)
{
    fixture_start_serve(f);
    fixture_start_receive(f);
    assert_int_equal(fixture_wait(f->receive_pid), EXIT_DONE);
    f->receive_pid = 0;
    assert_int_equal(fixture_wait(f->serve_pid), EXIT_DONE);
    f->serve_pid = 0;
    assert_int_equal(f->results[1].wrong_pages, 0);
    assert_int_equal(f->results[1].violations, 0);
    return fixture_last(f, "receive");
}

static bool log_has(const struct fixture *f, const char *text)
{
    char command[256];

    snprintf(command, sizeof(command), "grep -q '%s' %s/receive.log", text, f->dir);
    return getenv("TEST_VERBOSE") || system(command) == 0;
}

static bool in_use(const json_t *report, const char *name)
{
    return json_is_true(json_object_get(json_object_get(report, "features"), name));
}

/* Memory without a hole, but for what is special, in regions that can be superpages. */
static void regions(struct fixture *f, uint64_t n)
{
    f->source.nr_gfns = f->destination.nr_gfns = n * BACKEND_SUPER;
    f->source.hole_count = f->destination.hole_count = 0;
    f->source.special_gfn = f->destination.special_gfn = n * BACKEND_SUPER - 1;
}

static void every_combination_moves_every_byte(void **state)
{
    struct fixture *f = *state;

    for (unsigned int set = 0; set <= FEATURES_ALL; set++) {
        json_t *report;

        fixture_free(f);
        fixture_init(f);
        f->destination.drop_percent = set % 3;
        f->destination.replace_percent = set % 2;
        f->destination.foreign_percent = 10;
        f->destination.nomem_every = set % 5 == 4 ? 50 : 0;
        f->destination.fault_every = set % 4 == 3 ? 7 : 0;
        f->receive.verify = set % 3 == 1 ? VERIFY_HASH : VERIFY_NONE;
        f->receive.widen = set % 2 ? 32 : 1;
        f->receive.range_guest = set & 8 ? 4 : 1;
        f->receive.foreign_waits = set % 4 == 0;
        /* Half of them are switched off here, the others are not there. */
        *(set % 2 ? &f->receive.features : &f->destination.features) = set;
        report = run(f);
        assert_int_equal(in_use(report, "mark"), !!(set & FEATURE_MARK));
        assert_int_equal(in_use(report, "prep"), !!(set & FEATURE_PREP));
        assert_int_equal(in_use(report, "ring"), !!(set & FEATURE_RING));
        assert_int_equal(in_use(report, "range"), (set & FEATURE_RING) && (set & FEATURE_RANGE));
        assert_int_equal(in_use(report, "superpages"), !!(set & FEATURE_SUPERPAGES));
        assert_int_equal(figure(report, "hypercalls", "nominate") > 0, !(set & FEATURE_MARK));
        assert_int_equal(figure(report, "hypercalls", "mark") > 0, !!(set & FEATURE_MARK));
        assert_int_equal(figure(report, "hypercalls", "load") > 0, !(set & FEATURE_PREP));
        assert_int_equal(figure(report, "hypercalls", "prep_batch") > 0, !!(set & FEATURE_PREP));
        if (!(set & FEATURE_SUPERPAGES))
            assert_int_equal(figure(report, "hypercalls", "collapse"), 0);
        assert_true((set & FEATURE_PREP && set & FEATURE_SUPERPAGES) ||
                    figure(report, "superpages", "prep") == 0);
        assert_int_equal(figure(report, "pages", "set"), 1299);
        json_decref(report);
    }
}

static void all_is_marked_by_one_call(void **state)
{
    struct fixture *f = *state;
    json_t *report;

    f->destination.refuse_every = 100;
    report = run(f);
    /* In one chunk of 512 MiB; what was refused is told by its bits. */
    assert_int_equal(figure(report, "hypercalls", "mark"), 1);
    assert_int_equal(figure(report, "hypercalls", "nominate"), 0);
    /* Every hundredth of 1500, without gfns 600 and 700, which are holes. */
    assert_int_equal(figure(report, "pages", "refused"), 13);
    assert_int_equal(figure(report, "pages", "set"), 1299 - 13);
    json_decref(report);
}

static void a_domain_that_has_run_is_marked_page_by_page(void **state)
{
    struct fixture *f = *state;
    json_t *report;

    f->destination.ran = true;
    report = run(f);
    assert_false(in_use(report, "mark"));
    assert_true(in_use(report, "prep"));
    assert_int_equal(figure(report, "pages", "set"), 1299);
    json_decref(report);
}

static void what_has_arrived_is_installed_by_one_call(void **state)
{
    struct fixture *f = *state;
    json_t *report;

    f->receive.features &= ~FEATURE_SUPERPAGES;
    f->destination.vcpus = 0;
    f->destination.load_us = 3000; /* more comes meanwhile: how much is the feeder's business */
    report = run(f);
    assert_int_equal(figure(report, "pages", "installed"), 1299);
    assert_true(f->results[1].most_in_a_call >= 8);
    assert_true(figure(report, "hypercalls", "prep_batch") < 1299 / 2);
    json_decref(report);
}

static void no_memory_in_the_middle_of_a_batch(void **state)
{
    struct fixture *f = *state;
    json_t *report;

    f->destination.nomem_every = 10; /* most batches have some more behind it */
    f->receive.verify = VERIFY_HASH;
    report = run(f);
    assert_true(figure(report, "retry", "nomem") > 50);
    assert_int_equal(figure(report, "retry", "held"), 0);
    assert_int_equal(figure(report, "pages", "installed"), 1299);
    json_decref(report);
}

static void pages_that_linux_moves_are_touched_and_tried_again(void **state)
{
    struct fixture *f = *state;
    json_t *report;

    f->destination.fault_every = 3;
    report = run(f);
    assert_int_equal(figure(report, "pages", "installed"), 1299);
    /* Within the same wake-up: nothing had to wait for the timer. */
    assert_int_equal(figure(report, "retry", "rounds"), 0);
    json_decref(report);
}

static void a_foreign_map_of_a_range_is_one_request(void **state)
{
    struct fixture *f = *state;
    json_t *report;

    f->destination.foreign_percent = 90; /* the guest itself touches little, */
    f->destination.reads_all = true;     /* but what dom0 left out it asks for in the end */
    f->receive.push_on_fault = true;
    f->receive.features &= ~FEATURE_SUPERPAGES;
    report = run(f);
    assert_true(f->results[1].ranges > 0);
    assert_int_equal(figure(report, "ring", "range"), f->results[1].ranges);
    /* 1500 gfns are six windows; a hole, and what was there already, cut them further. */
    assert_true(figure(report, "link", "asked") > 10 * figure(report, "ring", "foreign"));
    json_decref(report);
}

static void the_pager_widens_what_xen_does_not(void **state)
{
    struct fixture *f = *state;
    json_t *report;

    f->destination.foreign_percent = 90;
    f->destination.reads_all = true;
    f->destination.features &= ~FEATURE_RANGE;
    f->receive.push_on_fault = true;
    f->receive.widen = 256;
    report = run(f);
    assert_int_equal(f->results[1].ranges, 0);
    assert_false(in_use(report, "range"));
    assert_true(figure(report, "link", "asked_with_others") > 500);
    json_decref(report);
}

static void a_vcpu_inside_a_range_in_flight_is_passed_on(void **state)
{
    struct fixture *f = *state;
    json_t *report;

    f->destination.map_then_touch = true;
    f->destination.touches = 0; /* and nothing else */
    f->destination.vcpus = 1;
    f->destination.load_us = 20000; /* 16 pages each: of the 256 some are in flight for a while */
    f->receive.push_on_fault = true;
    f->receive.slots = 16;
    report = run(f);
    assert_int_equal(f->results[1].ranges, 1);
    assert_int_equal(figure(report, "link", "promoted"), 1);
    assert_int_equal(figure(report, "link", "asked_with_others"), 255);
    json_decref(report);
}

static void a_ring_of_one_page_fills_up_and_one_of_many_does_not(void **state)
{
    struct fixture *f = *state;
    json_t *report;

    f->destination.vcpus = FAKE_VCPUS;
    f->receive.push_on_fault = true;
    report = run(f);
    assert_true(json_integer_value(json_object_get(json_object_get(json_object_get(report, "ring"), "xen"),
                                                   "high_water")) > 1);
    assert_int_equal(json_integer_value(json_object_get(
                         json_object_get(json_object_get(report, "ring"), "xen"), "waits_guest")),
                     0);
    assert_int_equal(figure(report, "features", "ring_pages"), 8);
    json_decref(report);
    fixture_free(f);
    fixture_init(f);
    f->receive.features = FEATURES_ALL & ~FEATURE_RING; /* nor RANGE, then */
    f->destination.foreign_percent = 20;
    report = run(f);
    assert_false(in_use(report, "range"));
    assert_int_equal(f->results[1].ranges, 0);
    assert_int_equal(figure(report, "features", "ring_pages"), 1);
    assert_true(json_is_null(json_object_get(json_object_get(report, "ring"), "xen")));
    json_decref(report);
}

static void a_region_that_comes_whole_is_a_superpage(void **state)
{
    struct fixture *f = *state;
    json_t *report;

    regions(f, 5);
    f->destination.vcpus = 0;
    f->receive.verify = VERIFY_FULL; /* which also sees that every page is in its place */
    report = run(f);
    /* The last one has a page that is never absent. */
    assert_int_equal(figure(report, "superpages", "prep"), 4);
    assert_int_equal(figure(report, "superpages", "prep_refused"), 0);
    assert_int_equal(figure(report, "superpages", "collapse"), 1);
    assert_int_equal(f->results[1].supers, 5);
    assert_int_equal(figure(report, "pages", "installed"), 5 * BACKEND_SUPER - 1);
    json_decref(report);
}

static void what_filled_up_page_by_page_is_collapsed_at_the_end(void **state)
{
    struct fixture *f = *state;
    json_t *report;

    regions(f, 5);
    f->receive.features &= ~FEATURE_PREP;
    f->destination.collapse_busy = 2 * BACKEND_SUPER;
    report = run(f);
    assert_int_equal(figure(report, "superpages", "prep"), 0);
    assert_int_equal(figure(report, "superpages", "collapse"), 4);
    /* Tried four times. */
    assert_int_equal(figure(report, "superpages", "collapse_refused"), 4);
    assert_int_equal(figure(report, "superpages", "collapse_skipped"), 1);
    assert_int_equal(figure(report, "hypercalls", "collapse"), 4 + 4);
    assert_int_equal(f->results[1].collapsed, 4);
    json_decref(report);
}

static void a_region_that_was_mapped_is_collapsed_later(void **state)
{
    struct fixture *f = *state;
    json_t *report;

    regions(f, 5);
    f->receive.features &= ~FEATURE_PREP;
    f->destination.collapse_busy = 2 * BACKEND_SUPER;
    f->destination.busy_tries = 2;
    report = run(f);
    assert_int_equal(figure(report, "superpages", "collapse"), 5);
    assert_int_equal(figure(report, "superpages", "collapse_refused"), 2);
    assert_int_equal(figure(report, "superpages", "collapse_skipped"), 0);
    json_decref(report);
}

static void the_guest_stands_a_tenth_of_the_time_at_most(void **state)
{
    struct fixture *f = *state;
    const struct fake_results *r = &f->results[1];
    json_t *report;

    regions(f, 8);
    f->receive.features &= ~FEATURE_PREP;
    f->destination.vcpus = 0;
    f->destination.collapse_us = 5000;
    report = run(f);
    assert_int_equal(figure(report, "superpages", "collapse"), 8);
    assert_true(r->collapse_ns >= 7 * 5000000);
    /* From the beginning of the first to that of the last, by the clock of the domain. */
    assert_true(r->collapse_last_ns - r->collapse_first_ns >= 10 * r->collapse_ns - 7 * 2000000);
    json_decref(report);
}

/* Regions that came whole take no time. */
static void superpages_that_there_are_cost_no_pause(void **state)
{
    struct fixture *f = *state;
    json_t *report;

    regions(f, 40);
    f->destination.vcpus = 0;
    f->destination.collapse_us = 100000;
    report = run(f);
    assert_int_equal(figure(report, "superpages", "prep"), 39);
    assert_int_equal(figure(report, "hypercalls", "collapse"), 1);
    json_decref(report);
}

/* The source is let go before, and whoever ends the session does not wait. */
static void collapsing_ends_at_once_when_told_to(void **state)
{
    struct fixture *f = *state;
    struct fake_results *r = &f->results[1];
    json_t *report;

    for (int destroyed = 0; destroyed < 2; destroyed++) {
        struct timespec start, end;

        fixture_free(f);
        fixture_init(f);
        r = &f->results[1];
        regions(f, 40);
        f->receive.features &= ~FEATURE_PREP;
        f->destination.vcpus = 0;
        f->destination.collapse_us = 200000; /* one every two seconds */
        fixture_start_serve(f);
        fixture_start_receive(f);
        assert_int_equal(fixture_wait(f->serve_pid), EXIT_DONE);
        f->serve_pid = 0;
        while (!*(volatile uint64_t *)&r->collapsed)
            usleep(1000);
        report = fixture_status(f, "receive");
        assert_string_equal(json_string_value(json_object_get(report, "state")), "drain");
        assert_true(json_is_true(json_object_get(json_object_get(report, "superpages"), "collapsing")));
        json_decref(report);
        clock_gettime(CLOCK_MONOTONIC, &start);
        assert_int_equal(kill(destroyed ? f->domain_pid : f->receive_pid, destroyed ? SIGUSR1 : SIGTERM), 0);
        assert_int_equal(fixture_wait(f->receive_pid), destroyed ? EXIT_GONE : EXIT_DONE);
        f->receive_pid = 0;
        clock_gettime(CLOCK_MONOTONIC, &end);
        assert_true(end.tv_sec - start.tv_sec < 10); /* of 80 */
        assert_true(r->collapsed <= 2);
        assert_int_equal(r->violations, 0);
    }
}

static void no_memory_for_a_superpage_ends_it(void **state)
{
    struct fixture *f = *state;
    json_t *report;

    regions(f, 5);
    f->receive.features &= ~FEATURE_PREP;
    f->destination.collapse_rc = -ENOMEM;
    report = run(f);
    assert_int_equal(figure(report, "hypercalls", "collapse"), 1);
    assert_int_equal(figure(report, "superpages", "collapse_skipped"), 0);
    assert_true(log_has(f, "no more superpages from single pages: Cannot allocate memory"));
    json_decref(report);
}

static void where_nothing_can_be_collapsed_one_try_is_enough(void **state)
{
    struct fixture *f = *state;
    json_t *report;

    regions(f, 5);
    f->receive.features &= ~FEATURE_PREP;
    f->destination.collapse_rc = -EOPNOTSUPP;
    report = run(f);
    assert_int_equal(figure(report, "hypercalls", "collapse"), 1);
    assert_int_equal(figure(report, "superpages", "collapse"), 0);
    assert_int_equal(figure(report, "superpages", "collapse_refused"), 1);
    json_decref(report);
}

/* Touched, mapped, dropped, replaced, without memory, moved by Linux: what was gathered comes page by page.
 */
static void regions_that_are_disturbed(void **state)
{
    struct fixture *f = *state;

    for (unsigned int seed = 0; seed < 12; seed++) {
        json_t *report;

        fixture_free(f);
        fixture_init(f);
        regions(f, 12);
        f->destination.seed = 0;
        f->destination.vcpus = 1 + seed % 4;
        f->destination.touches = 50 + seed * 40;
        f->destination.load_us = 300;
        f->destination.drop_percent = seed % 3 * 10;
        f->destination.replace_percent = seed % 4 * 10;
        f->destination.foreign_percent = seed % 5 * 10;
        f->destination.nomem_every = seed % 4 == 3 ? 13 : 0;
        f->destination.fault_every = seed % 3 == 2 ? 5 : 0;
        f->receive.verify = seed % 2 ? VERIFY_HASH : VERIFY_NONE;
        report = run(f);
        assert_int_equal(figure(report, "retry", "held"), 0);
        assert_int_equal(figure(report, "pages", "installed") + figure(report, "pages", "dropped") +
                             figure(report, "pages", "replaced"),
                         12 * BACKEND_SUPER - 1);
        json_decref(report);
    }
}

static void a_lost_source_does_not_take_along_what_was_gathered(void **state)
{
    struct fixture *f = *state;
    json_t *report;
    long long installed, outstanding;

    regions(f, 40);
    f->destination.vcpus = 0;
    f->receive.slots = 16;
    f->destination.load_us = 100000; /* not over before we have connected */
    fixture_start_serve(f);
    fixture_start_receive(f);
    json_decref(fixture_await(f, "receive", "active"));
    assert_int_equal(kill(f->serve_pid, SIGKILL), 0);
    report = fixture_await(f, "receive", "paused");
    installed = figure(report, "pages", "installed");
    outstanding = figure(report, "pages", "outstanding");
    assert_int_equal(figure(report, "pages", "arrived"), 0);
    assert_int_equal(installed + outstanding, 40 * BACKEND_SUPER - 1);
    json_decref(report);
    assert_int_equal(kill(f->domain_pid, SIGUSR1), 0);
    assert_int_equal(fixture_wait(f->receive_pid), EXIT_GONE);
    f->receive_pid = 0;
    assert_int_equal(f->results[1].violations, 0);
}

/* -- without a session: a backend that is asked page by page, or for many at once */

static struct backend *fake_backend(struct fixture *f, unsigned int features)
{
    struct backend_wish wish = {.features = features, .range_foreign = 256, .range_guest = 1};
    char why[64];
    struct backend *be;

    f->destination.vcpus = 0;
    fake_prepare(&f->destination);
    be = fake_open("g", why, sizeof(why));
    assert_non_null(be);
    assert_int_equal(be->ops->attach(be, &wish, why, sizeof(why)), 0);
    return be;
}

/* Bits 0 .. 191: all but every fifth. */
static void some(uint64_t *bits)
{
    memset(bits, 0, 24);
    for (unsigned int i = 0; i < 192; i++)
        if (i % 5)
            bits[i / 64] |= UINT64_C(1) << i % 64;
}

static void the_same_bits_stay_one_by_one(void **state)
{
    struct fixture *f = *state;

    f->destination.refuse_every = 7;
    for (unsigned int features = 0; features <= FEATURE_MARK; features += FEATURE_MARK) {
        struct backend *be = fake_backend(f, features);
        uint64_t bits[3], half[3];

        /* 500 .. 691: pages up to 599, then the hole. */
        some(bits);
        assert_true(backend_mark_most(be) >= 192);
        assert_int_equal(backend_mark(be, 500, 192, true, bits, half), 0);
        for (unsigned int i = 0; i < 192; i++) {
            assert_int_equal(bits[i / 64] >> i % 64 & 1, i % 5 && (500 + i) % 7 == 0);
            assert_int_equal(half[i / 64] >> i % 64 & 1, 0);
        }
        assert_int_equal(be->calls.mark_batch, features ? 1 : 0);
        assert_int_equal(be->calls.nominate > 0, !features);
        assert_int_equal(be->populated_to_evict > 0, !features);
        /* Nothing wanted: nobody is asked. */
        memset(bits, 0, sizeof(bits));
        assert_int_equal(backend_mark(be, 500, 192, true, bits, half), 0);
        assert_int_equal(be->calls.mark_batch, features ? 1 : 0);
    }
    assert_int_equal(f->results[1].violations, 0);
}

static void nominated_pages_are_told_apart(void **state)
{
    struct fixture *f = *state;
    struct backend *be;
    uint64_t bits[3], half[3];

    f->destination.half_every = 7;
    be = fake_backend(f, 0);
    some(bits);
    assert_int_equal(backend_mark(be, 0, 192, false, bits, half), 0);
    for (unsigned int i = 0; i < 192; i++) {
        assert_int_equal(bits[i / 64] >> i % 64 & 1, i % 5 && i % 7 == 0);
        assert_int_equal(half[i / 64] >> i % 64 & 1, i % 5 && i % 7 == 0);
    }
}

static void no_memory_while_marking(void **state)
{
    struct fixture *f = *state;

    f->destination.switched = true;
    f->destination.populate_most = 100;
    for (unsigned int features = 0; features <= FEATURE_MARK; features += FEATURE_MARK) {
        struct backend *be;
        uint64_t bits[3], half[3], left = 0;

        memset(f->results, 0, 2 * sizeof(*f->results));
        be = fake_backend(f, features);
        memset(bits, 0xff, sizeof(bits));
        assert_int_equal(backend_mark(be, 0, 192, true, bits, half), -ENOMEM);
        for (unsigned int i = 0; i < 192; i++)
            left += bits[i / 64] >> i % 64 & 1;
        assert_int_equal(192 - left, f->results[1].marks);
        assert_true(left > 0 && left < 192);
    }
}

static void every_page_of_a_batch_has_its_result(void **state)
{
    static uint8_t contents[FAKE_PAGE];
    struct fixture *f = *state;

    for (unsigned int features = 0; features <= FEATURE_PREP; features += FEATURE_PREP) {
        struct backend *be;
        struct backend_page pages[6];
        uint64_t bits[1] = {0x3f}, half[1];
        static const uint64_t gfns[6] = {0, 1, 100, 2, 700, 3}; /* 100 is there, 700 a hole */

        f->destination.fault_every = 2;
        be = fake_backend(f, features);
        assert_int_equal(backend_mark(be, 0, 6, false, bits, half), 0);
        for (unsigned int i = 0; i < 6; i++)
            pages[i] = (struct backend_page){.gfn = gfns[i], .contents = contents, .rc = -EAGAIN};
        assert_int_equal(backend_load(be, pages, 6), 6);
        for (unsigned int i = 0; i < 6; i++)
            assert_int_equal(pages[i].rc, i == 2 && features ? -EEXIST : i == 2 || i == 4 ? -ENOENT : 0);
        assert_int_equal(backend_load(be, pages, 0), 0);
        /* Twice: they are there, and stay what they are. */
        assert_int_equal(backend_load(be, pages, 1), 1);
        assert_int_equal(pages[0].rc, features ? -EEXIST : -ENOENT);
    }
    assert_int_equal(f->results[1].violations, 0);
}

static void a_batch_ends_where_memory_does(void **state)
{
    static uint8_t contents[FAKE_PAGE];
    struct fixture *f = *state;

    f->destination.nomem_every = 3;
    for (unsigned int features = 0; features <= FEATURE_PREP; features += FEATURE_PREP) {
        struct backend *be = fake_backend(f, features);
        struct backend_page pages[6];
        uint64_t bits[1] = {0x3f}, half[1];

        assert_int_equal(backend_mark(be, 0, 6, false, bits, half), 0);
        for (unsigned int i = 0; i < 6; i++)
            pages[i] = (struct backend_page){.gfn = i, .contents = contents, .rc = -EAGAIN};
        assert_int_equal(backend_load(be, pages, 6), 3);
        assert_int_equal(pages[1].rc, 0);
        assert_int_equal(pages[2].rc, -ENOMEM);
        assert_int_equal(pages[3].rc, -EAGAIN);
        assert_int_equal(backend_load(be, pages + 2, 4), 3); /* the third of these again */
        assert_int_equal(pages[3].rc, 0);
        assert_int_equal(pages[4].rc, -ENOMEM);
    }
}

static void what_is_in_use_in_words(void **state)
{
    struct paging_features f = {
        .set = FEATURES_ALL, .ring_pages = 64, .range_foreign = 256, .range_guest = 1};
    char text[256];

    (void)state;
    features_describe(&f, text, sizeof(text));
    assert_string_equal(text,
                        "mark, prep batch, ring of 64 pages, ranges (foreign 256, guest 1), superpages");
    f.set = 0;
    features_describe(&f, text, sizeof(text));
    assert_string_equal(text, "a ring of one page");
    f.set = FEATURE_SUPERPAGES | FEATURE_MARK;
    features_describe(&f, text, sizeof(text));
    assert_string_equal(text, "mark, a ring of one page, superpages");
}

int main(int argc, char **argv)
{
#define FEATURE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        FEATURE(what_is_in_use_in_words),
        FEATURE(the_same_bits_stay_one_by_one),
        FEATURE(nominated_pages_are_told_apart),
        FEATURE(no_memory_while_marking),
        FEATURE(every_page_of_a_batch_has_its_result),
        FEATURE(a_batch_ends_where_memory_does),
        FEATURE(all_is_marked_by_one_call),
        FEATURE(a_domain_that_has_run_is_marked_page_by_page),
        FEATURE(what_has_arrived_is_installed_by_one_call),
        FEATURE(no_memory_in_the_middle_of_a_batch),
        FEATURE(pages_that_linux_moves_are_touched_and_tried_again),
        FEATURE(a_foreign_map_of_a_range_is_one_request),
        FEATURE(the_pager_widens_what_xen_does_not),
        FEATURE(a_vcpu_inside_a_range_in_flight_is_passed_on),
        FEATURE(a_ring_of_one_page_fills_up_and_one_of_many_does_not),
        FEATURE(a_region_that_comes_whole_is_a_superpage),
        FEATURE(what_filled_up_page_by_page_is_collapsed_at_the_end),
        FEATURE(a_region_that_was_mapped_is_collapsed_later),
        FEATURE(the_guest_stands_a_tenth_of_the_time_at_most),
        FEATURE(superpages_that_there_are_cost_no_pause),
        FEATURE(collapsing_ends_at_once_when_told_to),
        FEATURE(no_memory_for_a_superpage_ends_it),
        FEATURE(where_nothing_can_be_collapsed_one_try_is_enough),
        FEATURE(regions_that_are_disturbed),
        FEATURE(a_lost_source_does_not_take_along_what_was_gathered),
        FEATURE(every_combination_moves_every_byte),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
