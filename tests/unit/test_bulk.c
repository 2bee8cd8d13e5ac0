/* Bulk channels: what they carry, who may join, and peers that break their rules. The test plays serve
 * against the real receiver, and a receiver against the real serve. */
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

#include "exit_status.h"
#include "core/pace.h"
#include "peer.h"

/* -- playing serve */

/* A good serve with as many channels as it is offered. */
static void be_good_with(struct peer *p, uint32_t streams)
{
    p->streams = p->f.receive.streams = streams;
    peer_be_good(p);
}

/* Pages stay in their slots, and no credit is open. */
static void hold_everything(struct peer *p)
{
    p->f.destination.auto_unpause = false;
    p->f.receive.push_on_fault = true;
}

static void hears_of(struct peer *p, const char *violation)
{
    peer_expect_at_last(p, WIRE_ERROR);
    assert_int_equal(get_u32(p->body), WIRE_ERROR_PROTOCOL);
    peer_receiver_pauses(p, violation);
}

/* All of the set, pages with contents and zero pages by turns on every channel. Returns those with contents
 * on each. */
static void push_all(struct peer *p, uint64_t *contents)
{
    unsigned int channel = 0;

    for (uint64_t gfn = 0; gfn < 1500; gfn++) {
        int fd = p->bulk[channel];

        if (!peer_in_set(gfn))
            continue;
        if (peer_is_zero(gfn)) {
            peer_put_zeros(p, fd, gfn, 1, 0);
        } else {
            peer_need_credit(p, 1);
            peer_put_page(p, fd, gfn, 0, false);
            contents[channel]++;
        }
        channel = (channel + 1) % p->streams;
    }
}

static void complete_with(struct peer *p, uint32_t streams, enum receive_verify verify)
{
    uint64_t contents[WIRE_STREAMS_MAX] = {0};
    struct wire_complete counts;
    json_t *report;

    p->f.receive.verify = verify;
    be_good_with(p, streams);
    push_all(p, contents);
    for (unsigned int i = 0; i < streams; i++)
        peer_await_ack(p, i, contents[i]);
    peer_expect_at_last(p, WIRE_COMPLETE);
    wire_get_complete(p->body, &counts);
    assert_int_equal(counts.set, PEER_SET);
    assert_int_equal(counts.installed + counts.dropped + counts.replaced, PEER_SET);
    peer_put(p, wire_put_complete_ack(peer_out, PEER_SET, PEER_SET, 0));
    peer_receiver_ends(p, EXIT_DONE);
    assert_int_equal(p->f.results[1].wrong_pages, 0);
    assert_int_equal(p->f.results[1].violations, 0);
    report = fixture_last(&p->f, "receive");
    assert_true(figure(report, "link", "zeros") > 50);
    json_decref(report);
}

static void pages_and_zeros_come_by_one_channel(void **state)
{
    complete_with(*state, 1, VERIFY_NONE);
}

static void pages_and_zeros_come_by_many_channels(void **state)
{
    complete_with(*state, WIRE_STREAMS_MAX, VERIFY_HASH);
}

/* The others are closed; without any the session is one of 2017. */
static void fewer_channels_than_were_offered(void **state)
{
    struct peer *p = *state;

    p->f.receive.streams = 3;
    p->streams = 1;
    peer_be_good(p);
    peer_need_credit(p, 1);
    peer_put_page(p, p->bulk[0], 5, 0, false);
    peer_await_ack(p, 0, 1);
    peer_again(p);
    p->f.receive.streams = 2;
    peer_be_good(p);
    for (uint64_t gfn = 0; gfn < 1500; gfn++)
        if (peer_in_set(gfn))
            peer_send_page(p, gfn, false);
    peer_expect_at_last(p, WIRE_COMPLETE);
    peer_hang_up(&p->fd);
    peer_receiver_ends(p, EXIT_UNACKED);
    assert_int_equal(p->f.results[1].wrong_pages, 0);
}

/* Contents on bulk 0, an answer in between on control: both come, and the answer is in no ACK. */
static void answers_are_not_acknowledged(void **state)
{
    struct peer *p = *state;

    be_good_with(p, 1);
    peer_need_credit(p, 2);
    peer_put_page(p, p->bulk[0], 5, 0, false);
    peer_put_page(p, p->fd, 6, WIRE_PAGES_ASKED, false);
    peer_put_page(p, p->bulk[0], 7, 0, false);
    peer_await_ack(p, 0, 2);
    /* Zero pages are in none either. */
    peer_put_zeros(p, p->bulk[0], 20, 1, 0);
    peer_put_zeros(p, p->bulk[0], 37, 1, 0);
    peer_need_credit(p, 1);
    peer_put_page(p, p->bulk[0], 8, 0, false);
    peer_await_ack(p, 0, 3);
    peer_hang_up(&p->fd);
    peer_receiver_pauses(p, "serve");
}

static void answers_on_a_bulk_channel(void **state)
{
    struct peer *p = *state;

    hold_everything(p);
    be_good_with(p, 1);
    peer_put_page(p, p->bulk[0], 5, WIRE_PAGES_ASKED, false);
    hears_of(p, "answers on a bulk channel");
}

static void comparing_on_a_bulk_channel(void **state)
{
    struct peer *p = *state;

    be_good_with(p, 1);
    peer_put_page(p, p->bulk[0], 5, WIRE_PAGES_COMPARE, false);
    hears_of(p, "to compare outside of VERIFY");
}

static void more_than_credit_on_a_bulk_channel(void **state)
{
    struct peer *p = *state;

    hold_everything(p);
    be_good_with(p, 1);
    peer_put_page(p, p->bulk[0], 5, 0, false);
    hears_of(p, "1 pages with a credit of 0");
}

/* Credit is that of all channels: two of them have no more than one. */
static void channels_share_the_credit(void **state)
{
    struct peer *p = *state;

    p->f.destination.auto_unpause = false;
    p->f.destination.nomem_every = 1; /* nothing is installed, nor put together: each slot stays used */
    p->f.receive.features &= ~FEATURE_SUPERPAGES;
    be_good_with(p, 2);
    while (p->told < p->hello.credit_max)
        assert_true(peer_pump(p));
    for (uint64_t gfn = 0; p->used < p->told; p->used++, gfn++)
        peer_put_page(p, p->bulk[p->used % 2], gfn, 0, false);
    peer_await_ack(p, 0, p->told / 2);
    peer_await_ack(p, 1, p->told / 2);
    peer_put_page(p, p->bulk[0], 100, 0, false);
    peer_expect_at_last(p, WIRE_ERROR);
    assert_int_equal(get_u32(p->body), WIRE_ERROR_PROTOCOL);
}

static void zeros_that_were_not_agreed_on(void **state)
{
    struct peer *p = *state;

    for (int i = 0; i < 2; i++) {
        p->withheld = WIRE_FEATURE_ZERO;
        be_good_with(p, 1);
        peer_put_zeros(p, i ? p->fd : p->bulk[0], 3, 1, i ? WIRE_PAGES_ASKED : 0);
        hears_of(p, "zero pages, which was not agreed on");
        peer_again(p);
    }
}

/* Frames that this channel does not have, or not any more. */
static void what_does_not_belong_on_a_bulk_channel(void **state)
{
    static const unsigned int types[] = {WIRE_SET_ACK,   WIRE_VERIFY_END, WIRE_COMPLETE_ACK,
                                         WIRE_HELLO_ACK, WIRE_CREDIT,     WIRE_JOIN,
                                         WIRE_JOIN_ACK,  WIRE_REFUSE,     WIRE_ACK};
    struct peer *p = *state;

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        be_good_with(p, 1);
        memset(peer_out, 0, WIRE_HEAD_SIZE);
        put_u32(peer_out, 8);
        put_u16(peer_out + 4, (uint16_t)types[i]);
        peer_put_on(p->bulk[0], WIRE_HEAD_SIZE);
        hears_of(p, "on a bulk channel");
        peer_again(p);
    }
}

static void another_channel_s_join_ack(void **state)
{
    struct peer *p = *state;
    struct wire_hello_ack ack = {.populated = 1300, .nr_gfns = 1500, .streams = 1, .generation = 1};
    int listener = fixture_listen(&p->f);

    p->f.receive.streams = 1;
    fixture_start_receive(&p->f);
    p->fd = accept(listener, NULL, NULL);
    p->bulk[0] = accept(listener, NULL, NULL);
    close(listener);
    peer_expect(p, WIRE_HELLO);
    memset(ack.uuid, 0x11, sizeof(ack.uuid));
    peer_put(p, wire_put_hello_ack(peer_out, &ack));
    peer_put_on(p->bulk[0], wire_put_words(peer_out, WIRE_JOIN_ACK, 1, 0));
    /* It says so whatever it is at. */
    do
        assert_true(peer_get(p));
    while (p->type == WIRE_SET || p->type == WIRE_SET_END);
    assert_int_equal(p->type, WIRE_ERROR);
    assert_int_equal(get_u32(p->body), WIRE_ERROR_PROTOCOL);
    peer_receiver_ends(p, EXIT_FAILED);
}

static void serve_refuses_a_channel(void **state)
{
    struct peer *p = *state;
    struct wire_fault fault;

    be_good_with(p, 1);
    wire_fault_set(&fault, WIRE_ERROR_INTERNAL, "no more of that");
    peer_put_on(p->bulk[0], wire_put_fault(peer_out, WIRE_ERROR, &fault));
    peer_receiver_pauses(p, "bulk channel 0: serve says (internal): no more of that");
}

static void a_bulk_channel_ends(void **state)
{
    struct peer *p = *state;

    be_good_with(p, 2);
    peer_hang_up(&p->bulk[1]);
    peer_receiver_pauses(p, "serve closed the connection");
}

static void a_bulk_channel_ends_inside_a_page(void **state)
{
    struct peer *p = *state;

    be_good_with(p, 1);
    peer_need_credit(p, 2);
    wire_add_run(peer_out, 0, 5, 2, WIRE_CONTENTS);
    peer_put_on(p->bulk[0], wire_finish_pages_head(peer_out, 1, 2, 0));
    memset(peer_out, 0xff, 5000);
    peer_put_on(p->bulk[0], 1000);
    peer_hang_up(&p->bulk[0]);
    peer_receiver_pauses(p, "serve closed the connection");
}

/* It ends because serve does, which says why on control. */
static void last_words_come_after_the_end_of_a_bulk_channel(void **state)
{
    struct peer *p = *state;
    struct wire_fault fault;

    be_good_with(p, 1);
    peer_hang_up(&p->bulk[0]);
    /* The receiver may have seen that by now, or not: either is the same. */
    wire_fault_set(&fault, WIRE_ERROR_SOURCE_GONE, "the source is gone");
    peer_put(p, wire_put_fault(peer_out, WIRE_ERROR, &fault));
    peer_receiver_pauses(p, "serve gave up: the source is gone");
}

/* -- playing the receiver */

static void start(struct peer *p, uint32_t streams)
{
    p->streams = p->f.serve.streams = streams;
    fixture_start_serve(&p->f);
    peer_meet_serve(p);
}

/* Take n pages, and say so as they come. */
static void take(struct peer *p, unsigned int channel, unsigned int n)
{
    uint64_t acked = 0;

    while (n) {
        struct peer_pages pages = peer_take_pages(p, p->bulk[channel]);

        assert_int_equal(pages.flags & (WIRE_PAGES_ASKED | WIRE_PAGES_COMPARE), 0);
        assert_true(pages.contents + pages.zeros <= n);
        n -= pages.contents + pages.zeros;
        acked += pages.contents;
        peer_put_ack(p, channel, acked);
    }
}

static void complete(struct peer *p, uint64_t set)
{
    const struct wire_complete counts = {.set = set, .installed = set};

    peer_put(p, wire_put_complete(peer_out, &counts));
    peer_expect(p, WIRE_COMPLETE_ACK);
    assert_int_equal(get_u64(p->body), set);
    assert_int_equal(get_u64(p->body + 8), set);
    peer_serve_ends(p, EXIT_DONE);
}

/* 64 pages of credit, 60 pages with contents or zero. */
static void serve_pushes_on_its_channel(void **state)
{
    struct peer *p = *state;

    start(p, 1);
    peer_join(p, 0);
    peer_agree_on_set(p, 60);
    peer_put_credit(p, 64);
    take(p, 0, 60);
    complete(p, 60);
}

/* Zero pages use no credit: with less than there are pages, and more than there are contents, all come. */
static void zeros_use_no_credit(void **state)
{
    struct peer *p = *state;
    uint64_t contents = 0;

    for (uint64_t gfn = 10; gfn < 70; gfn++)
        contents += !peer_is_zero(gfn);
    assert_true(contents < 60);
    start(p, 1);
    peer_join(p, 0);
    peer_agree_on_set(p, 60);
    peer_put_credit(p, contents);
    take(p, 0, 60);
    complete(p, 60);
    peer_again(p);
    /* Without bulk channels nothing would bound them: all pages come with contents. */
    start(p, 0);
    peer_agree_on_set(p, 60);
    peer_put_credit(p, 60);
    for (unsigned int n = 0; n < 60;) {
        struct peer_pages pages = peer_take_pages(p, p->fd);

        assert_int_equal(pages.zeros, 0);
        n += pages.contents;
    }
    complete(p, 60);
}

/* What the first four pages have not been acknowledged for is not sent. */
static void serve_sends_no_further_ahead_than_it_hears(void **state)
{
    struct peer *p = *state;
    struct peer_pages pages;
    unsigned int contents = 0, n = 0;
    uint8_t more;

    start(p, 1);
    peer_join(p, 0);
    peer_agree_on_set(p, 60);
    peer_put_credit(p, 64);
    while (contents < PACE_FIRST) {
        pages = peer_take_pages(p, p->bulk[0]);
        contents += pages.contents;
        n += pages.contents + pages.zeros;
        assert_true(contents <= PACE_FIRST);
    }
    /* It answers meanwhile: so it has had the time. */
    wire_add_run(peer_out, 0, 69, 1, WIRE_VCPU_WAITS);
    peer_put(p, wire_finish_list(peer_out, WIRE_REQUEST, 1, 0));
    pages = peer_take_pages(p, p->fd);
    assert_int_equal(pages.contents, 1);
    assert_int_equal(pages.flags & WIRE_PAGES_ASKED, WIRE_PAGES_ASKED);
    assert_int_equal(recv(p->bulk[0], &more, 1, MSG_DONTWAIT), -1);
    peer_put_ack(p, 0, 1);
    peer_put_ack(p, 0, PACE_FIRST);
    while (n < 59) {
        pages = peer_take_pages(p, p->bulk[0]);
        contents += pages.contents;
        n += pages.contents + pages.zeros;
        peer_put_ack(p, 0, contents);
    }
    complete(p, 60);
}

/* The set is agreed on, and the guest may not run before each channel is there. */
static void nothing_goes_on_before_all_have_joined(void **state)
{
    struct peer *p = *state;
    uint8_t more;

    start(p, 3);
    peer_say_set(p, 5);
    json_decref(fixture_await(&p->f, "serve", "active"));
    peer_join(p, 2);
    peer_join(p, 0);
    assert_int_equal(recv(p->fd, &more, 1, MSG_DONTWAIT), -1);
    peer_join(p, 1);
    peer_expect(p, WIRE_SET_ACK);
    peer_hang_up(&p->fd);
    peer_serve_pauses(p, "closed the connection");
}

static void refused(struct peer *p, const struct wire_join *join, uint32_t code)
{
    int fd = peer_dial_join(p, join);

    peer_refused(fd, WIRE_REFUSE, code);
    close(fd);
}

/* Who does not belong here is told so, and the session does not feel it. */
static void joins_that_are_refused(void **state)
{
    struct peer *p = *state;
    struct wire_join join;
    int fd;

    p->streams = p->f.serve.streams = 2;
    fixture_start_serve(&p->f);
    /* Before HELLO there is nothing to join. */
    p->generation = 1;
    join = peer_join_of(p, 0);
    refused(p, &join, WIRE_REFUSE_TOKEN);
    memset(join.ticket, 0, sizeof(join.ticket));
    refused(p, &join, WIRE_REFUSE_TOKEN);
    peer_meet_serve(p);
    for (unsigned int i = 0; i < WIRE_TICKET_SIZE; i += 31)
        join = peer_join_of(p, 0), join.ticket[i] ^= 1, refused(p, &join, WIRE_REFUSE_TOKEN);
    join = peer_join_of(p, 0), join.generation = 0, refused(p, &join, WIRE_REFUSE_TOKEN);
    join = peer_join_of(p, 0), join.generation = 2, refused(p, &join, WIRE_REFUSE_TOKEN);
    join = peer_join_of(p, 0), join.version = 2, refused(p, &join, WIRE_REFUSE_VERSION);
    join = peer_join_of(p, 0), join.role = WIRE_RECEIVER, refused(p, &join, WIRE_REFUSE_MAGIC);
    join = peer_join_of(p, 2), refused(p, &join, WIRE_REFUSE_BOUNDS);
    join = peer_join_of(p, 255), refused(p, &join, WIRE_REFUSE_BOUNDS);
    peer_join(p, 1);
    join = peer_join_of(p, 1), refused(p, &join, WIRE_REFUSE_BOUNDS);
    peer_join(p, 0);
    /* Reserved, and what begins neither kind of channel. */
    join = peer_join_of(p, 0);
    fd = fixture_dial(&p->f);
    wire_put_join(peer_out, &join);
    peer_out[WIRE_HEAD_SIZE + WIRE_JOIN_SIZE - 1] = 1;
    peer_put_on(fd, WIRE_HEAD_SIZE + WIRE_JOIN_SIZE);
    peer_refused(fd, WIRE_REFUSE, WIRE_REFUSE_MALFORMED);
    close(fd);
    fd = fixture_dial(&p->f);
    peer_put_on(fd, wire_put_count(peer_out, WIRE_ACK, 1));
    peer_refused(fd, WIRE_REFUSE, WIRE_REFUSE_MALFORMED);
    close(fd);
    peer_agree_on_set(p, 3);
    join = peer_join_of(p, 0), refused(p, &join, WIRE_REFUSE_BOUNDS);
    peer_hang_up(&p->fd);
    peer_serve_pauses(p, "closed the connection");
}

/* What serve gives is what it has. */
static void no_more_channels_than_serve_has(void **state)
{
    struct peer *p = *state;
    struct wire_hello_ack ack;
    struct wire_fault fault;
    struct wire_join join;

    p->streams = WIRE_STREAMS_MAX;
    p->f.serve.streams = 1;
    fixture_start_serve(&p->f);
    peer_meet_serve(p);
    assert_int_equal(wire_get_hello_ack(p->body, &ack, &fault), 0);
    assert_int_equal(ack.streams, 1);
    join = peer_join_of(p, 1), refused(p, &join, WIRE_REFUSE_BOUNDS);
    peer_join(p, 0);
    peer_agree_on_set(p, 3);
    peer_put_credit(p, 64);
    take(p, 0, 3);
    complete(p, 3);
}

static void serve_hears(struct peer *p, const char *violation)
{
    peer_expect(p, WIRE_ERROR);
    assert_int_equal(get_u32(p->body), WIRE_ERROR_PROTOCOL);
    peer_serve_ends(p, EXIT_MISSING);
    peer_serve_said(p, violation);
}

static void what_a_receiver_does_not_say_on_a_bulk_channel(void **state)
{
    static const unsigned int types[] = {WIRE_REQUEST, WIRE_CREDIT, WIRE_DROP,  WIRE_HELLO, WIRE_COMPLETE,
                                         WIRE_GONE,    WIRE_VERIFY, WIRE_PAGES, WIRE_JOIN};
    struct peer *p = *state;

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        start(p, 1);
        peer_join(p, 0);
        peer_agree_on_set(p, 3);
        memset(peer_out, 0, WIRE_HEAD_SIZE);
        put_u32(peer_out, 24);
        put_u16(peer_out + 4, (uint16_t)types[i]);
        peer_put_on(p->bulk[0], WIRE_HEAD_SIZE);
        serve_hears(p, "on a bulk channel");
        peer_again(p);
    }
}

static void an_ack_that_cannot_be(void **state)
{
    struct peer *p = *state;

    /* Of more than there was, of more than can be, of less than before. */
    for (int i = 0; i < 3; i++) {
        start(p, 1);
        peer_join(p, 0);
        peer_agree_on_set(p, 3);
        if (i == 2) {
            peer_put_credit(p, 10);
            take(p, 0, 3);
        }
        peer_put_ack(p, 0, i == 0 ? 1 : i == 1 ? UINT64_MAX : 2);
        serve_hears(p, "on bulk channel 0");
        peer_again(p);
    }
}

static void the_receiver_closes_a_bulk_channel(void **state)
{
    struct peer *p = *state;

    start(p, 2);
    peer_join(p, 0);
    peer_join(p, 1);
    peer_agree_on_set(p, 3);
    peer_hang_up(&p->bulk[1]);
    peer_serve_pauses(p, "bulk channel 1: the receiver closed it");
}

static void the_receiver_s_last_words(void **state)
{
    struct peer *p = *state;
    struct wire_fault fault;

    start(p, 1);
    peer_join(p, 0);
    peer_agree_on_set(p, 3);
    peer_hang_up(&p->bulk[0]);
    wire_fault_set(&fault, WIRE_ERROR_VERIFY, "two pages are wrong");
    peer_put(p, wire_put_fault(peer_out, WIRE_ERROR, &fault));
    peer_serve_ends(p, EXIT_WRONG);
    peer_serve_said(p, "the receiver reports (verify): two pages are wrong");
}

/* A guest that has every page needs no channel for them. */
static void the_receiver_closes_when_all_is_there(void **state)
{
    struct peer *p = *state;

    start(p, 1);
    peer_join(p, 0);
    peer_agree_on_set(p, 3);
    peer_put_credit(p, 10);
    take(p, 0, 3);
    peer_hang_up(&p->bulk[0]);
    complete(p, 3);
}

int main(int argc, char **argv)
{
#define PEER(test) cmocka_unit_test_setup_teardown(test, peer_setup, peer_teardown)
    const struct CMUnitTest tests[] = {
        PEER(pages_and_zeros_come_by_one_channel),
        PEER(pages_and_zeros_come_by_many_channels),
        PEER(fewer_channels_than_were_offered),
        PEER(answers_are_not_acknowledged),
        PEER(answers_on_a_bulk_channel),
        PEER(comparing_on_a_bulk_channel),
        PEER(more_than_credit_on_a_bulk_channel),
        PEER(channels_share_the_credit),
        PEER(zeros_that_were_not_agreed_on),
        PEER(what_does_not_belong_on_a_bulk_channel),
        PEER(another_channel_s_join_ack),
        PEER(serve_refuses_a_channel),
        PEER(a_bulk_channel_ends),
        PEER(a_bulk_channel_ends_inside_a_page),
        PEER(last_words_come_after_the_end_of_a_bulk_channel),
        PEER(serve_pushes_on_its_channel),
        PEER(zeros_use_no_credit),
        PEER(serve_sends_no_further_ahead_than_it_hears),
        PEER(nothing_goes_on_before_all_have_joined),
        PEER(joins_that_are_refused),
        PEER(no_more_channels_than_serve_has),
        PEER(what_a_receiver_does_not_say_on_a_bulk_channel),
        PEER(an_ack_that_cannot_be),
        PEER(the_receiver_closes_a_bulk_channel),
        PEER(the_receiver_s_last_words),
        PEER(the_receiver_closes_when_all_is_there),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
