/* Peers that break the rules: the test plays serve against the real receiver, and a receiver against the real
 * serve. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include "channel.h"
#include "exit_status.h"
#include "fixture.h"
#include "wire/bytes.h"
#include "wire/wire.h"

static uint8_t out[WIRE_HEAD_SIZE + WIRE_CONTROL_MAX];

struct put_by {
    unsigned int type;
    uint32_t length;
    uint8_t *body;
};

struct peer {
    struct fixture f;
    int fd;
    bool by_join; /* the receiver takes its end of the channel from a join */
    unsigned int type;
    uint32_t length;
    uint8_t body[WIRE_CONTROL_MAX];
    uint64_t credit;
    struct put_by put_by[1000];
    unsigned int n_put_by;
};

static int setup(void **state)
{
    struct peer *p = calloc(1, sizeof(*p));

    fixture_init(&p->f);
    p->fd = -1;
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct peer *p = *state;

    if (p->fd >= 0)
        close(p->fd);
    fixture_free(&p->f);
    free(p);
    return 0;
}

static void put(struct peer *p, size_t size)
{
    assert_int_equal(send(p->fd, out, size, MSG_NOSIGNAL), size);
}

static bool get_bytes(struct peer *p, uint8_t *to, size_t n)
{
    return n == 0 || recv(p->fd, to, n, MSG_WAITALL) == (ssize_t)n;
}

/* Read one frame; CREDIT is added up. False at the end. */
static bool pump(struct peer *p)
{
    uint8_t head[WIRE_HEAD_SIZE];

    if (!get_bytes(p, head, sizeof(head)))
        return false;
    p->length = get_u32(head);
    p->type = get_u16(head + 4);
    assert_true(p->length <= sizeof(p->body));
    assert_true(get_bytes(p, p->body, p->length));
    if (p->type == WIRE_CREDIT)
        p->credit += get_u32(p->body);
    return true;
}

/* The next frame that is not CREDIT; false at the end. One that came while waiting for credit comes first. */
static bool get(struct peer *p)
{
    if (p->n_put_by) {
        struct put_by *first = &p->put_by[--p->n_put_by];

        p->type = first->type;
        p->length = first->length;
        memcpy(p->body, first->body, first->length);
        free(first->body);
        return true;
    }
    do {
        if (!pump(p))
            return false;
    } while (p->type == WIRE_CREDIT);
    return true;
}

static void need_credit(struct peer *p)
{
    while (!p->credit) {
        assert_true(pump(p));
        if (p->type != WIRE_CREDIT) {
            struct put_by *next = &p->put_by[p->n_put_by++];

            assert_true(p->n_put_by < sizeof(p->put_by) / sizeof(p->put_by[0]));
            next->type = p->type;
            next->length = p->length;
            next->body = malloc(p->length);
            memcpy(next->body, p->body, p->length);
        }
    }
    p->credit--;
}

static void expect(struct peer *p, unsigned int type)
{
    assert_true(get(p));
    if (p->type != type)
        fprintf(stderr, "got %s, not %s\n", wire_type_name(p->type), wire_type_name(type));
    assert_int_equal(p->type, type);
}

/* -- playing serve */

static void connected(struct peer *p)
{
    int listener = fixture_listen(&p->f);

    fixture_start_receive(&p->f);
    p->fd = accept(listener, NULL, NULL);
    close(listener);
}

/* As join: what it hands over is one end of a pair of sockets. */
static void joined(struct peer *p)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), receiver, pair[2];

    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/join", p->f.dir);
    snprintf(p->f.address, sizeof(p->f.address), CHANNEL_UNIX "%s", addr.sun_path);
    assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(listener, 1), 0);
    fixture_start_receive(&p->f);
    receiver = accept(listener, NULL, NULL);
    close(listener);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(channel_hand_over(receiver, pair[1], pair[1]), 0);
    close(pair[1]);
    p->fd = pair[0];
}

static void meet_receiver(struct peer *p, uint64_t *features)
{
    struct wire_hello_ack ack = {.populated = 1300, .nr_gfns = 1500};
    struct wire_hello hello;
    struct wire_fault fault;

    if (p->by_join)
        joined(p);
    else
        connected(p);
    expect(p, WIRE_HELLO);
    assert_int_equal(wire_get_hello(p->body, &hello, &fault), 0);
    ack.features = *features = hello.offered;
    memcpy(ack.uuid, hello.uuid, sizeof(ack.uuid));
    put(p, wire_put_hello_ack(out, &ack));
}

/* Up to the state ACTIVE, as a good serve would. */
static void be_good(struct peer *p)
{
    uint64_t features, pages, hash;

    meet_receiver(p, &features);
    do
        assert_true(get(p));
    while (p->type == WIRE_SET);
    assert_int_equal(p->type, WIRE_SET_END);
    wire_get_pair(p->body, &pages, &hash);
    assert_int_equal(pages, 1299);
    put(p, wire_put_pair(out, WIRE_SET_ACK, pages, hash));
    json_decref(fixture_await(&p->f, "receive", "active"));
}

static void send_page_without_credit(struct peer *p, uint64_t gfn, bool hashed, bool spoiled)
{
    uint8_t page[FAKE_PAGE];
    uint64_t hash;

    fake_contents(gfn, 1, page);
    hash = XXH64(page, sizeof(page), 0);
    if (spoiled)
        page[9] ^= 1;
    wire_add_pair(out, 0, gfn, hashed ? hash : 0);
    put(p, wire_finish_pages_head(out, 1, hashed ? WIRE_PAGES_HASHED : 0));
    assert_int_equal(send(p->fd, page, sizeof(page), MSG_NOSIGNAL), sizeof(page));
}

static void receiver_ends_with(struct peer *p, int status)
{
    assert_int_equal(fixture_wait(p->f.receive_pid), status);
    p->f.receive_pid = 0;
}

static void send_page(struct peer *p, uint64_t gfn, bool hashed, bool spoiled)
{
    need_credit(p);
    send_page_without_credit(p, gfn, hashed, spoiled);
}

/* Until a frame of the type comes, whatever the guest asks for meanwhile. */
static void expect_at_last(struct peer *p, unsigned int type)
{
    do
        assert_true(get(p));
    while (p->type != type && (p->type == WIRE_REQUEST || p->type == WIRE_DROP));
    assert_int_equal(p->type, type);
}

/* The receiver has noticed: it is paused with this reason, its guest unharmed. */
static void receiver_pauses(struct peer *p, const char *reason)
{
    json_t *report = fixture_await(&p->f, "receive", "paused");

    if (!strstr(json_string_value(json_object_get(report, "reason")), reason))
        fprintf(stderr, "reason: %s\n", json_string_value(json_object_get(report, "reason")));
    assert_non_null(strstr(json_string_value(json_object_get(report, "reason")), reason));
    json_decref(report);
    kill(p->f.domain_pid, SIGUSR1);
    receiver_ends_with(p, EXIT_GONE);
    assert_int_equal(p->f.results[1].wrong_pages, 0);
    assert_int_equal(p->f.results[1].violations, 0);
}

static void refusal_is_reported(void **state)
{
    struct peer *p = *state;
    struct wire_fault fault;
    json_t *report;
    int listener = fixture_listen(&p->f);

    fixture_start_receive(&p->f);
    p->fd = accept(listener, NULL, NULL);
    close(listener);
    expect(p, WIRE_HELLO);
    wire_fault_set(&fault, WIRE_REFUSE_FEATURES, "not those");
    put(p, wire_put_fault(out, WIRE_REFUSE, &fault));
    receiver_ends_with(p, EXIT_REFUSED);
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
    expect(p, WIRE_HELLO);
    memset(ack.uuid, 0x11, sizeof(ack.uuid));
    put(p, wire_put_hello_ack(out, &ack));
    expect(p, WIRE_ERROR);
    receiver_ends_with(p, EXIT_FAILED);
    assert_int_equal(p->f.results[1].marks, 0);
}

static void another_set_is_acknowledged(void **state)
{
    struct peer *p = *state;
    uint64_t features;

    meet_receiver(p, &features);
    do
        assert_true(get(p));
    while (p->type == WIRE_SET);
    put(p, wire_put_pair(out, WIRE_SET_ACK, 1299, 12345));
    /* Evicted, but the guest never ran: it says so, and the source is intact. */
    expect(p, WIRE_GONE);
    assert_int_equal(get_u32(p->body), WIRE_GONE_GIVEN_UP);
    receiver_ends_with(p, EXIT_FAILED);
    assert_int_equal(p->f.results[1].marks, 1299);
}

static void eof_at_each_stage(void **state)
{
    struct peer *p = *state;
    uint64_t features;

    meet_receiver(p, &features);
    close(p->fd);
    p->fd = -1;
    receiver_ends_with(p, EXIT_FAILED);
    fixture_free(&p->f);
    fixture_init(&p->f);
    be_good(p);
    close(p->fd);
    p->fd = -1;
    receiver_pauses(p, "serve");
}

static void eof_inside_a_page(void **state)
{
    struct peer *p = *state;

    be_good(p);
    need_credit(p);
    wire_add_pair(out, 0, 5, 0);
    put(p, wire_finish_pages_head(out, 1, 0));
    memset(out, 0xff, 1000);
    put(p, 1000);
    close(p->fd);
    p->fd = -1;
    receiver_pauses(p, "serve");
}

static void more_pages_than_credit(void **state)
{
    struct peer *p = *state;

    p->f.destination.auto_unpause = false; /* nothing is installed before its time: credit stays used */
    p->f.receive.push_on_fault = true;     /* and none is open */
    be_good(p);
    send_page_without_credit(p, 5, false, false);
    expect_at_last(p, WIRE_ERROR);
    receiver_pauses(p, "credit of 0");
}

/* A device model maps pages before the guest runs: no vcpu faults. */
static void what_dom0_maps_comes_alone(void **state)
{
    struct peer *p = *state;
    uint64_t asked = 0;

    p->f.destination.vcpus = 1;
    p->f.destination.touches = 20;
    p->f.destination.foreign_percent = 100;
    p->f.destination.features &= ~FEATURE_RANGE;
    p->f.receive.push_on_fault = true;
    be_good(p);
    while (asked < 10 || p->type != WIRE_CREDIT) {
        assert_true(pump(p));
        if (p->type == WIRE_REQUEST)
            asked += get_u32(p->body);
        else if (p->type == WIRE_CREDIT)
            assert_int_equal(p->credit, asked);
    }
    close(p->fd);
    p->fd = -1;
    receiver_pauses(p, "serve");
}

/* Slots that are free again are not announced one by one; and yet every page gets its credit. */
static void credit_comes_in_quanta(void **state)
{
    struct peer *p = *state;
    unsigned int frames = 0;

    be_good(p);
    for (uint64_t gfn = 0; gfn < 600; gfn++) {
        while (p->credit == 0) {
            assert_true(pump(p));
            if (p->type != WIRE_CREDIT)
                continue;
            assert_true(get_u32(p->body) >= 8); /* of 64 slots */
            frames++;
        }
        p->credit--;
        send_page_without_credit(p, gfn, false, false);
    }
    assert_true(frames > 600 / 64 && frames <= 600 / 8);
    close(p->fd);
    p->fd = -1;
    receiver_pauses(p, "serve");
}

/* It does not listen any more; what it says is still heard. */
static void last_words_of_a_serve_that_has_closed(void **state)
{
    struct peer *p = *state;
    struct wire_fault fault;
    json_t *report = NULL;

    p->by_join = true;
    be_good(p);
    for (int i = 0; i < 16; i++)
        need_credit(p);
    assert_int_equal(shutdown(p->fd, SHUT_RD), 0);
    /* So many give slots back, and with them something to say to serve. */
    for (uint64_t gfn = 0; gfn < 16; gfn++)
        send_page_without_credit(p, gfn, false, false);
    do {
        json_decref(report);
        report = fixture_status(&p->f, "receive");
        assert_string_equal(json_string_value(json_object_get(report, "state")), "active");
    } while (figure(report, "pages", "installed") < 16);
    json_decref(report);
    wire_fault_set(&fault, WIRE_ERROR_SOURCE_GONE, "the source is gone");
    put(p, wire_put_fault(out, WIRE_ERROR, &fault));
    close(p->fd);
    p->fd = -1;
    receiver_pauses(p, "serve gave up: the source is gone");
}

static void a_page_outside_the_set_is_thrown_away(void **state)
{
    struct peer *p = *state;
    json_t *report;

    p->f.destination.auto_unpause = false;
    be_good(p);
    send_page(p, 700, false, false);        /* a hole */
    send_page(p, UINT64_MAX, false, false); /* nowhere */
    send_page(p, 1490, false, false);       /* special: never absent */
    send_page(p, 5, false, false);
    send_page(p, 5, false, true); /* a duplicate, with other contents: must not be installed over the first */
    close(p->fd);
    p->fd = -1;
    report = fixture_await(&p->f, "receive", "paused");
    assert_int_equal(figure(report, "link", "stray"), 3);
    assert_int_equal(figure(report, "link", "duplicates"), 1);
    assert_int_equal(figure(report, "pages", "installed"), 1);
    json_decref(report);
    kill(p->f.domain_pid, SIGUSR1);
    receiver_ends_with(p, EXIT_GONE);
    assert_int_equal(p->f.results[1].wrong_pages, 0);
}

static void frames_out_of_turn(void **state)
{
    static const unsigned int types[] = {WIRE_VERIFY_END, WIRE_COMPLETE_ACK, WIRE_SET_ACK,
                                         WIRE_HELLO,      WIRE_COMPLETE,     99};

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct peer *p = *state;

        be_good(p);
        memset(out, 0, sizeof(out));
        put_u32(out, types[i] == WIRE_COMPLETE_ACK ? 24 : types[i] == WIRE_SET_ACK ? 16 : 8);
        put_u16(out + 4, (uint16_t)types[i]);
        put(p, 8);
        expect_at_last(p, WIRE_ERROR);
        assert_int_equal(get_u32(p->body), WIRE_ERROR_PROTOCOL);
        receiver_pauses(p, types[i] == 99 ? "unknown type" : "not allowed");
        close(p->fd);
        fixture_free(&p->f);
        fixture_init(&p->f);
    }
}

static void a_wrong_hash_is_asked_for_once_more(void **state)
{
    struct peer *p = *state;
    json_t *report;
    uint64_t gfn = 0;

    p->f.receive.verify = VERIFY_HASH;
    be_good(p);
    send_page(p, 3, true, true);
    do
        expect(p, WIRE_REQUEST);
    while (!(get_u32(p->body + 4) & WIRE_REQUEST_RESEND));
    assert_int_equal(wire_run(p->body, 0).first, 3);
    send_page(p, 3, true, false);
    /* The rest, but one that is wrong twice. */
    for (gfn = 0; gfn < 1500; gfn++) {
        if (gfn == 3 || (gfn >= 600 && gfn < 800) || gfn == 1490)
            continue;
        send_page(p, gfn, true, gfn == 8);
    }
    do
        expect(p, WIRE_REQUEST);
    while (!(get_u32(p->body + 4) & WIRE_REQUEST_RESEND));
    assert_int_equal(wire_run(p->body, 0).first, 8);
    send_page(p, 8, true, true);
    report = fixture_await(&p->f, "receive", "paused");
    assert_int_equal(figure(report, "link", "bad_hash"), 3);
    assert_int_equal(figure(report, "pages", "bad"), 1);
    assert_int_equal(figure(report, "pages", "installed"), 1298);
    assert_non_null(strstr(json_string_value(json_object_get(report, "reason")), "verify"));
    json_decref(report);
    expect_at_last(p, WIRE_ERROR);
    assert_int_equal(get_u32(p->body), WIRE_ERROR_VERIFY);
    kill(p->f.domain_pid, SIGUSR1);
    receiver_ends_with(p, EXIT_GONE);
    assert_int_equal(p->f.results[1].wrong_pages, 0);
}

static void complete_without_an_answer(void **state)
{
    struct peer *p = *state;

    be_good(p);
    for (uint64_t gfn = 0; gfn < 1500; gfn++)
        if ((gfn < 600 || gfn >= 800) && gfn != 1490)
            send_page(p, gfn, false, false);
    expect_at_last(p, WIRE_COMPLETE);
    close(p->fd);
    p->fd = -1;
    /* The guest is whole, and that is what counts here; but nobody has said so to serve. */
    receiver_ends_with(p, EXIT_UNACKED);
    assert_int_equal(p->f.results[1].wrong_pages, 0);
    assert_int_equal(p->f.results[1].violations, 0);
}

/* -- playing the receiver */

static void meet_serve(struct peer *p)
{
    struct wire_hello hello = {.version = WIRE_VERSION,
                               .role = WIRE_RECEIVER,
                               .page_shift = WIRE_PAGE_SHIFT,
                               .offered = WIRE_FEATURES,
                               .credit_max = 64};

    memset(hello.uuid, 0x11, sizeof(hello.uuid));
    memset(hello.token, TOKEN_BYTE, sizeof(hello.token));
    p->fd = fixture_dial(&p->f);
    put(p, wire_put_hello(out, &hello));
    expect(p, WIRE_HELLO_ACK);
}

static void serve_ends_with(struct peer *p, int status)
{
    assert_int_equal(fixture_wait(p->f.serve_pid), status);
    p->f.serve_pid = 0;
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
}

static uint64_t set_hash(const uint64_t *runs, unsigned int n)
{
    uint8_t raw[16 * 8];

    for (unsigned int i = 0; i < 2 * n; i++)
        put_u64(raw + 8 * i, runs[i]);
    return XXH64(raw, 16 * n, 0);
}

/* One run of pages, 10 .. 10+n-1. */
static void agree_on_set(struct peer *p, uint64_t n)
{
    uint64_t run[2] = {10, n};

    wire_add_pair(out, 0, 10, n);
    put(p, wire_finish_list(out, WIRE_SET, 1, 0));
    put(p, wire_put_pair(out, WIRE_SET_END, n, set_hash(run, 1)));
    expect(p, WIRE_SET_ACK);
}

static void strangers_do_not_keep_the_receiver_out(void **state)
{
    struct peer *p = *state;
    int strangers[12];

    fixture_start_serve(&p->f);
    /* Silent ones, one that speaks another protocol, one that closes. */
    for (int i = 0; i < 6; i++)
        strangers[i] = fixture_dial(&p->f);
    p->fd = fixture_dial(&p->f);
    assert_int_equal(send(p->fd, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL), 18);
    expect(p, WIRE_REFUSE);
    assert_false(get(p));
    close(p->fd);
    close(fixture_dial(&p->f));
    meet_serve(p);
    /* The silent ones are told. */
    for (int i = 0; i < 6; i++) {
        uint8_t head[8];

        assert_int_equal(recv(strangers[i], head, 8, MSG_WAITALL), 8);
        assert_int_equal(get_u16(head + 4), WIRE_REFUSE);
        close(strangers[i]);
    }
    close(p->fd);
    p->fd = -1;
    serve_ends_with(p, EXIT_FAILED);
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
        meet_serve(p);
        wire_add_pair(out, 0, sets[i][0], sets[i][1]);
        wire_add_pair(out, 1, sets[i][2], sets[i][3]);
        put(p, wire_finish_list(out, WIRE_SET, i < 2 ? 2 : 1, 0));
        expect(p, WIRE_ERROR);
        assert_int_equal(get_u32(p->body), WIRE_ERROR_SET);
        serve_ends_with(p, EXIT_FAILED);
    }
    fixture_start_serve(&p->f);
    meet_serve(p);
    put(p, wire_put_pair(out, WIRE_SET_END, 0, 1)); /* wrong hash of nothing */
    expect(p, WIRE_ERROR);
    serve_ends_with(p, EXIT_FAILED);
}

static void too_much_credit(void **state)
{
    struct peer *p = *state;

    fixture_start_serve(&p->f);
    meet_serve(p);
    agree_on_set(p, 3);
    put(p, wire_put_words(out, WIRE_CREDIT, 65, 0));
    expect(p, WIRE_ERROR);
    assert_int_equal(get_u32(p->body), WIRE_ERROR_PROTOCOL);
    serve_ends_with(p, EXIT_MISSING);
}

static void requests_outside_the_set(void **state)
{
    struct peer *p = *state;

    fixture_start_serve(&p->f);
    meet_serve(p);
    agree_on_set(p, 3);
    /* Its last page is. */
    wire_add_run(out, 0, 12, 2, WIRE_VCPU_WAITS);
    put(p, wire_finish_list(out, WIRE_REQUEST, 1, 0));
    expect(p, WIRE_ERROR);
    serve_ends_with(p, EXIT_MISSING);
}

static void get_pages(struct peer *p, unsigned int n)
{
    static uint8_t page[FAKE_PAGE];
    uint8_t head[WIRE_HEAD_SIZE + 8], entries[16 * WIRE_BATCH_MAX], want[FAKE_PAGE];

    assert_true(get_bytes(p, head, sizeof(head)));
    assert_int_equal(get_u16(head + 4), WIRE_PAGES);
    assert_int_equal(get_u32(head + 8), n);
    assert_true(get_bytes(p, entries, 16 * n));
    for (unsigned int i = 0; i < n; i++) {
        uint64_t gfn = get_u64(entries + 16 * i);

        assert_true(get_bytes(p, page, sizeof(page)));
        fake_contents(gfn, 1, want);
        assert_memory_equal(page, want, sizeof(page));
        assert_true(get_u64(entries + 16 * i + 8) == XXH64(page, sizeof(page), 0));
    }
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
        meet_serve(p);
        agree_on_set(p, 3);
        put(p, wire_put_words(out, WIRE_CREDIT, 10, 0));
        get_pages(p, 3);
        if (i < sizeof(wrong) / sizeof(wrong[0])) {
            put(p, wire_put_complete(out, &wrong[i]));
            expect(p, WIRE_ERROR);
            assert_int_equal(get_u32(p->body), WIRE_ERROR_COUNTS);
        } else {
            /* Everything was sent, and the other end closes without a word: not a success. */
            close(p->fd);
            p->fd = -1;
        }
        serve_ends_with(p, EXIT_MISSING);
    }
}

static void installed_but_never_sent(void **state)
{
    struct peer *p = *state;
    const struct wire_complete c = {.set = 3, .installed = 3};

    fixture_start_serve(&p->f);
    meet_serve(p);
    agree_on_set(p, 3);
    put(p, wire_put_complete(out, &c));
    expect(p, WIRE_ERROR);
    assert_int_equal(get_u32(p->body), WIRE_ERROR_COUNTS);
    serve_ends_with(p, EXIT_MISSING);
}

static void dropped_pages_need_not_be_sent(void **state)
{
    struct peer *p = *state;
    const struct wire_complete c = {.set = 3, .installed = 1, .dropped = 2};

    fixture_start_serve(&p->f);
    meet_serve(p);
    agree_on_set(p, 3);
    wire_add_run(out, 0, 10, 1, 0);
    wire_add_run(out, 1, 12, 1, 0);
    put(p, wire_finish_list(out, WIRE_DROP, 2, 0));
    put(p, wire_put_words(out, WIRE_CREDIT, 10, 0));
    get_pages(p, 1);
    put(p, wire_put_complete(out, &c));
    expect(p, WIRE_COMPLETE_ACK);
    assert_int_equal(get_u64(p->body + 8), 1);
    serve_ends_with(p, EXIT_DONE);
}

int main(int argc, char **argv)
{
#define PEER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        PEER(refusal_is_reported),         PEER(features_nobody_offered),
        PEER(another_set_is_acknowledged), PEER(eof_at_each_stage),
        PEER(credit_comes_in_quanta),      PEER(last_words_of_a_serve_that_has_closed),
        PEER(eof_inside_a_page),           PEER(more_pages_than_credit),
        PEER(what_dom0_maps_comes_alone),  PEER(a_page_outside_the_set_is_thrown_away),
        PEER(frames_out_of_turn),          PEER(a_wrong_hash_is_asked_for_once_more),
        PEER(complete_without_an_answer),  PEER(strangers_do_not_keep_the_receiver_out),
        PEER(wrong_sets_are_refused),      PEER(too_much_credit),
        PEER(requests_outside_the_set),    PEER(eof_and_counts_that_do_not_add_up),
        PEER(installed_but_never_sent),    PEER(dropped_pages_need_not_be_sent),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
