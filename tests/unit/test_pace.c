/* core/pace.c on a link in virtual time: it is to be full, and little is to stand in front of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/pace.h"

#define MS      UINT64_C(1000000)
#define US      UINT64_C(1000)
#define BUDGET  (100 * US)
#define FLIGHTS 4096u

struct link {
    uint64_t page_ns, delay_ns; /* of a page on the wire; of the way there and back */
    uint64_t late_ns;           /* every other acknowledgement waits for a process that is not scheduled */
    uint64_t chance_ns;         /* up to that much later than usual; what comes behind it then waits, too */
    uint64_t others_ns;         /* a page of somebody else's goes by as often; 0: none */
};

struct world {
    struct link link;
    struct pace pace;
    uint64_t now, wire_free; /* when the wire has sent all there is */
    uint64_t others_at;
    struct {
        uint64_t at, total;
    } flight[FLIGHTS];
    unsigned int head, tail, acks;
    uint64_t sent, queue_ns_sum, queue_ns_max, frames;
};

static void begin(struct world *w, const struct link *link)
{
    memset(w, 0, sizeof(*w));
    w->link = *link;
    w->now = 1000 * MS;
    w->wire_free = w->others_at = w->now;
    pace_init(&w->pace, BUDGET);
}

/* What others have sent by now stands in front, too. */
static void others(struct world *w)
{
    while (w->link.others_ns && w->others_at <= w->now) {
        if (w->wire_free < w->others_at)
            w->wire_free = w->others_at;
        w->wire_free += w->link.page_ns;
        w->others_at += w->link.others_ns;
    }
}

static void send(struct world *w, uint32_t pages)
{
    uint64_t queue, late = w->acks++ % 2 ? w->link.late_ns : 0;

    others(w);
    if (w->wire_free < w->now)
        w->wire_free = w->now;
    queue = w->wire_free - w->now;
    w->queue_ns_sum += queue;
    w->queue_ns_max = queue > w->queue_ns_max ? queue : w->queue_ns_max;
    w->frames++;
    w->wire_free += pages * w->link.page_ns;
    pace_sent(&w->pace, pages, w->now);
    w->sent += pages;
    late += w->link.chance_ns ? (uint64_t)rand() % w->link.chance_ns : 0;
    w->flight[w->head % FLIGHTS].at = w->wire_free + w->link.delay_ns + late;
    if (w->head != w->tail && w->flight[(w->head - 1) % FLIGHTS].at > w->flight[w->head % FLIGHTS].at)
        w->flight[w->head % FLIGHTS].at = w->flight[(w->head - 1) % FLIGHTS].at;
    w->flight[w->head++ % FLIGHTS].total = w->sent;
}

/* The next thing that happens. */
static void step(struct world *w)
{
    uint64_t room = pace_room(&w->pace);

    if (room) {
        send(w, room > 512 ? 512 : (uint32_t)room);
        return;
    }
    pace_full(&w->pace);
    assert_true(w->head != w->tail);
    if (w->flight[w->tail % FLIGHTS].at > w->now)
        w->now = w->flight[w->tail % FLIGHTS].at;
    assert_int_equal(pace_acked(&w->pace, w->flight[w->tail % FLIGHTS].total, w->now), 0);
    w->tail++;
}

struct outcome {
    double share; /* of the link */
    uint64_t queue_mean, queue_max;
};

static struct outcome run(struct world *w, uint64_t ms)
{
    uint64_t from = w->now, sent = w->sent;
    struct outcome o;

    w->queue_ns_sum = w->queue_ns_max = w->frames = 0;
    while (w->now < from + ms * MS)
        step(w);
    o.share = (double)((w->sent - sent) * w->link.page_ns) / (double)(w->now - from);
    o.queue_mean = w->queue_ns_sum / w->frames;
    o.queue_max = w->queue_ns_max;
    return o;
}

static const struct link gigabit = {.page_ns = 35 * US, .delay_ns = 200 * US};

static void a_link_is_full_and_its_queue_short(void **state)
{
    static const struct link links[] = {{.page_ns = 35 * US, .delay_ns = 200 * US},
                                        {.page_ns = 3500, .delay_ns = 100 * US},
                                        {.page_ns = 350, .delay_ns = 50 * US},
                                        {.page_ns = 35 * US, .delay_ns = 20 * MS},
                                        {.page_ns = 350 * US, .delay_ns = 200 * US}};
    struct world w;

    (void)state;
    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
        uint64_t most = links[i].delay_ns / 4 > BUDGET ? links[i].delay_ns / 4 : BUDGET;
        struct outcome o;

        begin(&w, &links[i]);
        run(&w, 2000);
        o = run(&w, 3000);
        assert_true(o.share > 0.93);
        /* A page that is on the wire, and a frame of several, are no queue that could be had shorter. */
        assert_true(o.queue_mean < 3 * most + 8 * links[i].page_ns);
    }
}

static void acknowledgements_that_are_late_are_no_queue(void **state)
{
    struct link link = gigabit;
    struct world w;

    (void)state;
    link.late_ns = 150 * US;
    begin(&w, &link);
    run(&w, 2000);
    assert_true(run(&w, 3000).share > 0.9);
}

/* Emulated hosts, and relays between them: what it takes is milliseconds, and never the same. */
static void ends_that_are_slow_by_chance(void **state)
{
    struct link link = {.page_ns = 35 * US, .delay_ns = 3 * MS, .chance_ns = 3 * MS};
    struct world w;

    (void)state;
    for (unsigned int seed = 0; seed < 10; seed++) {
        srand(seed);
        begin(&w, &link);
        run(&w, 2000);
        assert_true(run(&w, 5000).share > 0.3);
    }
    /* And once in a while a burst of luck: it takes a while until that is forgotten. */
    begin(&w, &link);
    for (unsigned int i = 0; i < 20; i++) {
        w.link.delay_ns = i % 5 ? 3 * MS : MS;
        run(&w, i % 5 ? 2000 : 200);
    }
    assert_true(run(&w, 25000).share > 0.2);
}

static void what_others_send_is_made_room_for(void **state)
{
    struct link link = gigabit;
    struct world w;
    struct outcome o;

    (void)state;
    link.others_ns = 2 * link.page_ns; /* half of the link */
    begin(&w, &link);
    run(&w, 2000);
    o = run(&w, 3000);
    assert_true(o.share > 0.4 && o.share < 0.52);
    assert_true(o.queue_mean < 3 * BUDGET);
}

static void a_link_that_changes_is_followed(void **state)
{
    struct world w;
    struct outcome o;

    (void)state;
    begin(&w, &gigabit);
    run(&w, 1000);
    w.link.page_ns /= 10;
    run(&w, 500);
    assert_true(run(&w, 1000).share > 0.9);
    w.link.page_ns *= 10;
    run(&w, 500);
    o = run(&w, 1000);
    assert_true(o.share > 0.9);
    assert_true(o.queue_mean < 3 * BUDGET);
    /* A longer way looks like a queue until what is known of the old one is old. */
    w.link.delay_ns *= 4;
    run(&w, 25000);
    assert_true(run(&w, 2000).share > 0.85);
}

static void a_pause_is_nothing(void **state)
{
    struct world w;

    (void)state;
    begin(&w, &gigabit);
    run(&w, 1000);
    while (w.tail != w.head) {
        w.now = w.flight[w.tail % FLIGHTS].at;
        assert_int_equal(pace_acked(&w.pace, w.flight[w.tail++ % FLIGHTS].total, w.now), 0);
    }
    w.now += 3600 * 1000 * MS;
    run(&w, 100);
    assert_true(run(&w, 500).share > 0.9);
}

static void what_cannot_be_is_refused(void **state)
{
    struct pace pace;

    (void)state;
    pace_init(&pace, BUDGET);
    assert_true(pace_room(&pace) > 0);
    pace_sent(&pace, 4, 1);
    assert_int_equal(pace_acked(&pace, 5, 2), -1);
    assert_int_equal(pace_acked(&pace, 3, 2), 0);
    assert_int_equal(pace_acked(&pace, 2, 3), -1);
    assert_int_equal(pace_acked(&pace, 4, 3), 0);
    /* No more frames than can be remembered. */
    pace.window = PACE_MOST;
    for (unsigned int i = 0; i < PACE_SENDS; i++) {
        assert_true(pace_room(&pace) > 0);
        pace_sent(&pace, 1, 4 + i);
    }
    assert_int_equal(pace_room(&pace), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_link_is_full_and_its_queue_short),
        cmocka_unit_test(acknowledgements_that_are_late_are_no_queue),
        cmocka_unit_test(ends_that_are_slow_by_chance),
        cmocka_unit_test(what_others_send_is_made_room_for),
        cmocka_unit_test(a_link_that_changes_is_followed),
        cmocka_unit_test(a_pause_is_nothing),
        cmocka_unit_test(what_cannot_be_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
