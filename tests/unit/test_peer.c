/* Peers that break the rules: the test plays serve against the real receiver, and a receiver against the real
 * serve. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include "exit_status.h"
#include "peer.h"

static void refusal_is_reported(void **state)
{
    struct peer *p = *state;
    struct wire_fault fault;
    json_t *report;
    int listener = fixture_listen(&p->f);

    fixture_start_receive(&p->f);
    p->fd = accept(listener, NULL, NULL);
    close(listener);
    peer_expect(p, WIRE_HELLO);
    wire_fault_set(&fault, WIRE_REFUSE_FEATURES, "not those");
    peer_put(p, wire_put_fault(peer_out, WIRE_REFUSE, &fault));
    peer_receiver_ends(p, EXIT_REFUSED);
    report = fixture_last(&p->f, "receive");
    assert_string_equal(json_string_value(json_object_get(report, "reason")),
                        "serve refused: not those (features)");
    json_decref(report);
    assert_int_equal(p->f.results[1].marks, 0);
}

static void features_nobody_offered(void **state)
{
    struct peer *p = *state;
    struct wire_hello_ack ack = {.features = WIRE_FEATURE_HASH, .populated = 1300, .nr_gfns = 1500};
    int listener = fixture_listen(&p->f);

    fixture_start_receive(&p->f);
    p->fd = accept(listener, NULL, NULL);
    close(listener);
    peer_expect(p, WIRE_HELLO);
    memset(ack.uuid, 0x11, sizeof(ack.uuid));
    peer_put(p, wire_put_hello_ack(peer_out, &ack));
    peer_expect(p, WIRE_ERROR);
    peer_receiver_ends(p, EXIT_FAILED);
    assert_int_equal(p->f.results[1].marks, 0);
}

static void another_set_is_acknowledged(void **state)
{
    struct peer *p = *state;

    peer_meet_receiver(p);
    do
        assert_true(peer_get(p));
    while (p->type == WIRE_SET);
    peer_put(p, wire_put_pair(peer_out, WIRE_SET_ACK, 1299, 12345));
    /* Evicted, but the guest never ran: it says so, and the source is intact. */
    peer_expect(p, WIRE_GONE);
    assert_int_equal(get_u32(p->body), WIRE_GONE_GIVEN_UP);
    peer_receiver_ends(p, EXIT_FAILED);
    assert_int_equal(p->f.results[1].marks, 1299);
}

static void eof_at_each_stage(void **state)
{
    struct peer *p = *state;

    peer_meet_receiver(p);
    peer_hang_up(&p->fd);
    peer_receiver_ends(p, EXIT_FAILED);
    peer_again(p);
    peer_be_good(p);
    peer_hang_up(&p->fd);
    peer_receiver_pauses(p, "serve");
}

static void eof_inside_a_page(void **state)
{
    struct peer *p = *state;

    peer_be_good(p);
    peer_need_credit(p, 1);
    wire_add_run(peer_out, 0, 5, 1, WIRE_CONTENTS);
    peer_put(p, wire_finish_pages_head(peer_out, 1, 1, 0));
    memset(peer_out, 0xff, 1000);
    peer_put(p, 1000);
    peer_hang_up(&p->fd);
    peer_receiver_pauses(p, "serve");
}

static void more_pages_than_credit(void **state)
{
    struct peer *p = *state;

    p->f.destination.auto_unpause = false; /* nothing is installed before its time: credit stays used */
    p->f.receive.push_on_fault = true;     /* and none is open */
    peer_be_good(p);
    peer_put_page(p, p->fd, 5, 0, false);
    peer_expect_at_last(p, WIRE_ERROR);
    peer_receiver_pauses(p, "credit of 0");
}

/* Nothing is installed before its time: slots stay used. */
static void more_answers_than_were_agreed_on(void **state)
{
    struct peer *p = *state;
    uint32_t most;

    p->f.destination.auto_unpause = false;
    p->f.receive.push_on_fault = true;
    peer_be_good(p);
    most = p->hello.asked_max;
    assert_int_equal(most + p->hello.credit_max, p->f.receive.slots);
    wire_add_run(peer_out, 0, 5, most + 1, WIRE_CONTENTS);
    peer_put(p, wire_finish_pages_head(peer_out, 1, most + 1, WIRE_PAGES_ASKED));
    peer_expect_at_last(p, WIRE_ERROR);
    assert_int_equal(get_u32(p->body), WIRE_ERROR_PROTOCOL);
    peer_receiver_pauses(p, "33 pages with room for answers of 32");
}

/* What was asked for comes without credit, and opens none. */
static void answer(struct peer *p, uint64_t *answered)
{
    uint32_t n = get_u32(p->body);

    for (uint32_t i = 0; i < n; i++) {
        struct wire_run run = wire_run(p->body, i);

        assert_int_equal(run.word, WIRE_DOM0_WAITS);
        for (uint64_t gfn = run.first; gfn < run.first + run.count; gfn++, ++*answered)
            peer_put_page(p, p->fd, gfn, WIRE_PAGES_ASKED, false);
    }
}

/* A device model maps pages before the guest runs: no vcpu faults. */
static void what_dom0_maps_comes_alone(void **state)
{
    struct peer *p = *state;
    uint64_t answered = 0;

    p->f.destination.vcpus = 1;
    p->f.destination.touches = 200;
    p->f.destination.foreign_percent = 100;
    p->f.destination.features &= ~FEATURE_RANGE;
    p->f.receive.push_on_fault = true;
    peer_be_good(p);
    while (answered < 40) {
        assert_true(peer_pump(p));
        assert_int_equal(p->type, WIRE_REQUEST);
        answer(p, &answered);
    }
    assert_int_equal(p->told, 0);
    peer_hang_up(&p->fd);
    peer_receiver_pauses(p, "serve");
}

/* Slots that are free again are not announced one by one; and yet every page gets its credit. */
static void credit_comes_in_quanta(void **state)
{
    struct peer *p = *state;
    unsigned int frames = 0;

    peer_be_good(p);
    for (uint64_t gfn = 0; gfn < 600; gfn++) {
        while (p->told == p->used) {
            uint64_t before = p->told;

            assert_true(peer_pump(p));
            if (p->type != WIRE_CREDIT)
                continue;
            assert_true(p->told - before >= 4); /* of 32 slots that are not for answers */
            frames++;
        }
        p->used++;
        peer_put_page(p, p->fd, gfn, 0, false);
    }
    assert_true(frames > 600 / 32 && frames <= 600 / 4);
    peer_hang_up(&p->fd);
    peer_receiver_pauses(p, "serve");
}

/* It does not listen any more; what it says is still heard. */
static void last_words_of_a_serve_that_has_closed(void **state)
{
    struct peer *p = *state;
    struct wire_fault fault;
    json_t *report = NULL;

    p->by_join = true;
    peer_be_good(p);
    peer_need_credit(p, 16);
    assert_int_equal(shutdown(p->fd, SHUT_RD), 0);
    /* So many give slots back, and with them something to say to serve. */
    for (uint64_t gfn = 0; gfn < 16; gfn++)
        peer_put_page(p, p->fd, gfn, 0, false);
    do {
        json_decref(report);
        report = fixture_status(&p->f, "receive");
        assert_string_equal(json_string_value(json_object_get(report, "state")), "active");
    } while (figure(report, "pages", "installed") < 16);
    json_decref(report);
    wire_fault_set(&fault, WIRE_ERROR_SOURCE_GONE, "the source is gone");
    peer_put(p, wire_put_fault(peer_out, WIRE_ERROR, &fault));
    peer_hang_up(&p->fd);
    peer_receiver_pauses(p, "serve gave up: the source is gone");
}

static void a_page_outside_the_set_is_thrown_away(void **state)
{
    struct peer *p = *state;
    json_t *report;

    p->f.destination.auto_unpause = false;
    peer_be_good(p);
    peer_send_page(p, 700, false);                /* a hole */
    peer_send_page(p, WIRE_GFN_LIMIT - 1, false); /* nowhere */
    peer_send_page(p, 1490, false);               /* special: never absent */
    peer_send_page(p, 5, false);
    peer_send_page(p, 5, true); /* a duplicate, with other contents: must not be installed over the first */
    peer_hang_up(&p->fd);
    report = fixture_await(&p->f, "receive", "paused");
    assert_int_equal(figure(report, "link", "stray"), 3);
    assert_int_equal(figure(report, "link", "duplicates"), 1);
    assert_int_equal(figure(report, "pages", "installed"), 1);
    json_decref(report);
    kill(p->f.domain_pid, SIGUSR1);
    peer_receiver_ends(p, EXIT_GONE);
    assert_int_equal(p->f.results[1].wrong_pages, 0);
}

static void frames_out_of_turn(void **state)
{
    static const unsigned int types[] = {WIRE_VERIFY_END, WIRE_COMPLETE_ACK, WIRE_SET_ACK,
                                         WIRE_HELLO,      WIRE_COMPLETE,     WIRE_JOIN_ACK,
                                         WIRE_ACK,        WIRE_CREDIT,       99};

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct peer *p = *state;

        peer_be_good(p);
        memset(peer_out, 0, sizeof(peer_out));
        put_u32(peer_out, types[i] == WIRE_COMPLETE_ACK ? 24 : types[i] == WIRE_SET_ACK ? 16 : 8);
        put_u16(peer_out + 4, (uint16_t)types[i]);
        peer_put(p, 8);
        peer_expect_at_last(p, WIRE_ERROR);
        assert_int_equal(get_u32(p->body), WIRE_ERROR_PROTOCOL);
        peer_receiver_pauses(p, types[i] == 99 ? "unknown type" : "not allowed");
        peer_again(p);
    }
}

static void a_wrong_hash_is_asked_for_once_more(void **state)
{
    struct peer *p = *state;
    json_t *report;
    uint64_t gfn = 0;

    p->f.receive.verify = VERIFY_HASH;
    peer_be_good(p);
    peer_send_page(p, 3, true);
    do
        peer_expect(p, WIRE_REQUEST);
    while (!(get_u32(p->body + 4) & WIRE_REQUEST_RESEND));
    assert_int_equal(wire_run(p->body, 0).first, 3);
    peer_put_page(p, p->fd, 3, WIRE_PAGES_ASKED, false);
    /* The rest, but one that is wrong twice. */
    for (gfn = 0; gfn < 1500; gfn++) {
        if (gfn == 3 || !peer_in_set(gfn))
            continue;
        peer_send_page(p, gfn, gfn == 8);
    }
    do
        peer_expect(p, WIRE_REQUEST);
    while (!(get_u32(p->body + 4) & WIRE_REQUEST_RESEND));
    assert_int_equal(wire_run(p->body, 0).first, 8);
    peer_put_page(p, p->fd, 8, WIRE_PAGES_ASKED, true);
    report = fixture_await(&p->f, "receive", "paused");
    assert_int_equal(figure(report, "link", "bad_hash"), 3);
    assert_int_equal(figure(report, "pages", "bad"), 1);
    assert_int_equal(figure(report, "pages", "installed"), 1298);
    assert_non_null(strstr(json_string_value(json_object_get(report, "reason")), "verify"));
    json_decref(report);
    peer_expect_at_last(p, WIRE_ERROR);
    assert_int_equal(get_u32(p->body), WIRE_ERROR_VERIFY);
    kill(p->f.domain_pid, SIGUSR1);
    peer_receiver_ends(p, EXIT_GONE);
    assert_int_equal(p->f.results[1].wrong_pages, 0);
}

static void complete_without_an_answer(void **state)
{
    struct peer *p = *state;

    peer_be_good(p);
    for (uint64_t gfn = 0; gfn < 1500; gfn++)
        if (peer_in_set(gfn))
            peer_send_page(p, gfn, false);
    peer_expect_at_last(p, WIRE_COMPLETE);
    peer_hang_up(&p->fd);
    /* The guest is whole, and that is what counts here; but nobody has said so to serve. */
    peer_receiver_ends(p, EXIT_UNACKED);
    assert_int_equal(p->f.results[1].wrong_pages, 0);
    assert_int_equal(p->f.results[1].violations, 0);
}

/* -- playing the receiver */

/* One frame of all the set that nobody has asked for. */
static void get_pages(struct peer *p, unsigned int n)
{
    struct peer_pages pages = peer_take_pages(p, p->fd);

    assert_int_equal(pages.contents, n);
    assert_int_equal(pages.flags & WIRE_PAGES_ASKED, 0);
}

static void strangers_do_not_keep_the_receiver_out(void **state)
{
    struct peer *p = *state;
    int strangers[6];

    fixture_start_serve(&p->f);
    /* Silent ones, one that speaks another protocol, one that closes. */
    for (int i = 0; i < 6; i++)
        strangers[i] = fixture_dial(&p->f);
    p->fd = fixture_dial(&p->f);
    assert_int_equal(send(p->fd, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL), 18);
    peer_refused(p->fd, WIRE_REFUSE, WIRE_REFUSE_MALFORMED);
    peer_hang_up(&p->fd);
    close(fixture_dial(&p->f));
    peer_meet_serve(p);
    /* Nor do they break in upon it, when it is there. */
    for (int i = 0; i < 6; i++)
        close(strangers[i]);
    strangers[0] = fixture_dial(&p->f);
    peer_put_on(strangers[0], wire_put_hello(peer_out, &p->hello));
    peer_refused(strangers[0], WIRE_REFUSE, WIRE_REFUSE_BUSY);
    close(strangers[0]);
    peer_agree_on_set(p, 3);
    peer_put_credit(p, 10);
    get_pages(p, 3);
    peer_hang_up(&p->fd);
    peer_serve_pauses(p, "closed the connection");
}

static void wrong_sets_are_refused(void **state)
{
    static const uint64_t sets[][4] = {
        {10, 5, 15, 1},            /* touching */
        {20, 5, 10, 1},            /* backwards */
        {10, 0, 0, 0},             /* empty run */
        {598, 4, 0, 0},            /* into the hole */
        {1499, 2, 0, 0},           /* beyond the end */
        {5, UINT64_MAX - 4, 0, 0}, /* overflowing */
        {UINT64_MAX, 1, 0, 0},
    };
    struct peer *p = *state;

    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
        fixture_start_serve(&p->f);
        peer_meet_serve(p);
        wire_add_pair(peer_out, 0, sets[i][0], sets[i][1]);
        wire_add_pair(peer_out, 1, sets[i][2], sets[i][3]);
        peer_put(p, wire_finish_list(peer_out, WIRE_SET, i < 2 ? 2 : 1, 0));
        peer_expect(p, WIRE_ERROR);
        assert_int_equal(get_u32(p->body), WIRE_ERROR_SET);
        peer_serve_ends(p, EXIT_FAILED);
    }
    fixture_start_serve(&p->f);
    peer_meet_serve(p);
    peer_put(p, wire_put_pair(peer_out, WIRE_SET_END, 0, 1)); /* wrong hash of nothing */
    peer_expect(p, WIRE_ERROR);
    peer_serve_ends(p, EXIT_FAILED);
}

static void too_much_credit(void **state)
{
    static const uint64_t totals[][2] = {
        {64 + 3 + 1, 0},   /* even if all of the set were sent */
        {UINT64_MAX, 0},   /* of which the sum would overflow */
        {10, 10},          /* not more than before */
        {10, 9},           /* less */
        {10, 64 + 10 + 1}, /* more than agreed beyond what there was */
        {10, UINT64_MAX},
    };
    struct peer *p = *state;

    for (size_t i = 0; i < sizeof(totals) / sizeof(totals[0]); i++) {
        peer_again(p);
        fixture_start_serve(&p->f);
        peer_meet_serve(p);
        peer_agree_on_set(p, 3);
        peer_put_credit(p, totals[i][0]);
        if (totals[i][1]) {
            get_pages(p, 3);
            peer_put_credit(p, totals[i][1]);
        }
        peer_expect(p, WIRE_ERROR);
        assert_int_equal(get_u32(p->body), WIRE_ERROR_PROTOCOL);
        peer_serve_ends(p, EXIT_MISSING);
    }
}

/* Pages 10 to 14, of which 11 and 12 are asked for. */
static void agree_and_ask(struct peer *p)
{
    peer_agree_on_set(p, 5);
    wire_add_run(peer_out, 0, 11, 1, WIRE_VCPU_WAITS);
    wire_add_run(peer_out, 1, 12, 1, WIRE_VCPU_WAITS);
    peer_put(p, wire_finish_list(peer_out, WIRE_REQUEST, 2, 0));
}

/* Answers need no credit, come before everything else, and once. */
static void answers_need_no_credit(void **state)
{
    struct peer *p = *state;
    struct peer_pages pages;

    fixture_start_serve(&p->f);
    peer_meet_serve(p);
    agree_and_ask(p);
    pages = peer_take_pages(p, p->fd);
    assert_int_equal(pages.flags & WIRE_PAGES_ASKED, WIRE_PAGES_ASKED);
    assert_int_equal(pages.contents, 2);
    /* What is pushed uses credit, what was sent again does not. */
    peer_put_credit(p, 1);
    pages = peer_take_pages(p, p->fd);
    assert_int_equal(pages.flags & WIRE_PAGES_ASKED, 0);
    assert_int_equal(pages.contents, 1);
    wire_add_run(peer_out, 0, 11, 2, WIRE_DOM0_WAITS);
    peer_put(p, wire_finish_list(peer_out, WIRE_REQUEST, 1, 0));
    wire_add_run(peer_out, 0, 12, 1, WIRE_DOM0_WAITS);
    peer_put(p, wire_finish_list(peer_out, WIRE_REQUEST, 1, WIRE_REQUEST_RESEND));
    pages = peer_take_pages(p, p->fd);
    assert_int_equal(pages.flags & WIRE_PAGES_ASKED, WIRE_PAGES_ASKED);
    assert_int_equal(pages.contents, 1);
    peer_hang_up(&p->fd);
    peer_serve_pauses(p, "closed the connection");
}

static void requests_outside_the_set(void **state)
{
    struct peer *p = *state;

    fixture_start_serve(&p->f);
    peer_meet_serve(p);
    peer_agree_on_set(p, 3);
    /* Its last page is. */
    wire_add_run(peer_out, 0, 12, 2, WIRE_VCPU_WAITS);
    peer_put(p, wire_finish_list(peer_out, WIRE_REQUEST, 1, 0));
    peer_expect(p, WIRE_ERROR);
    peer_serve_ends(p, EXIT_MISSING);
}

static void eof_and_counts_that_do_not_add_up(void **state)
{
    static const struct wire_complete wrong[] = {
        {.set = 4, .installed = 4}, /* another set */
        {.set = 3, .installed = 2}, /* one is missing */
        {.set = 3, .installed = 4}, /* one too many */
        {.set = 3, .installed = 3, .dropped = 1},
        {.set = 3, .installed = 2, .dropped = UINT64_MAX, .replaced = 2}, /* adds up only by overflow */
    };
    struct peer *p = *state;

    for (size_t i = 0; i <= sizeof(wrong) / sizeof(wrong[0]); i++) {
        fixture_start_serve(&p->f);
        peer_meet_serve(p);
        peer_agree_on_set(p, 3);
        peer_put_credit(p, 10);
        get_pages(p, 3);
        if (i < sizeof(wrong) / sizeof(wrong[0])) {
            peer_put(p, wire_put_complete(peer_out, &wrong[i]));
            peer_expect(p, WIRE_ERROR);
            assert_int_equal(get_u32(p->body), WIRE_ERROR_COUNTS);
            peer_serve_ends(p, EXIT_MISSING);
        } else {
            /* Everything was sent, and the other end closes without a word: not a success. */
            peer_hang_up(&p->fd);
            peer_serve_pauses(p, "closed the connection");
        }
    }
}

static void installed_but_never_sent(void **state)
{
    struct peer *p = *state;
    const struct wire_complete c = {.set = 3, .installed = 3};

    fixture_start_serve(&p->f);
    peer_meet_serve(p);
    peer_agree_on_set(p, 3);
    peer_put(p, wire_put_complete(peer_out, &c));
    peer_expect(p, WIRE_ERROR);
    assert_int_equal(get_u32(p->body), WIRE_ERROR_COUNTS);
    peer_serve_ends(p, EXIT_MISSING);
}

static void dropped_pages_need_not_be_sent(void **state)
{
    struct peer *p = *state;
    const struct wire_complete c = {.set = 3, .installed = 1, .dropped = 2};

    fixture_start_serve(&p->f);
    peer_meet_serve(p);
    peer_agree_on_set(p, 3);
    wire_add_run(peer_out, 0, 10, 1, 0);
    wire_add_run(peer_out, 1, 12, 1, 0);
    peer_put(p, wire_finish_list(peer_out, WIRE_DROP, 2, 0));
    peer_put_credit(p, 10);
    get_pages(p, 1);
    peer_put(p, wire_put_complete(peer_out, &c));
    peer_expect(p, WIRE_COMPLETE_ACK);
    assert_int_equal(get_u64(p->body + 8), 1);
    peer_serve_ends(p, EXIT_DONE);
}

int main(int argc, char **argv)
{
#define PEER(test) cmocka_unit_test_setup_teardown(test, peer_setup, peer_teardown)
    const struct CMUnitTest tests[] = {
        PEER(refusal_is_reported),
        PEER(features_nobody_offered),
        PEER(another_set_is_acknowledged),
        PEER(eof_at_each_stage),
        PEER(credit_comes_in_quanta),
        PEER(last_words_of_a_serve_that_has_closed),
        PEER(eof_inside_a_page),
        PEER(more_pages_than_credit),
        PEER(more_answers_than_were_agreed_on),
        PEER(answers_need_no_credit),
        PEER(what_dom0_maps_comes_alone),
        PEER(a_page_outside_the_set_is_thrown_away),
        PEER(frames_out_of_turn),
        PEER(a_wrong_hash_is_asked_for_once_more),
        PEER(complete_without_an_answer),
        PEER(strangers_do_not_keep_the_receiver_out),
        PEER(wrong_sets_are_refused),
        PEER(too_much_credit),
        PEER(requests_outside_the_set),
        PEER(eof_and_counts_that_do_not_add_up),
        PEER(installed_but_never_sent),
        PEER(dropped_pages_need_not_be_sent),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
