#include "peer.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include "channel.h"
#include "exit_status.h"

uint8_t peer_out[WIRE_HEAD_SIZE + WIRE_CONTROL_MAX];

static void begin(struct peer *p)
{
    memset(p, 0, sizeof(*p));
    fixture_init(&p->f);
    p->f.receive.streams = 0;
    p->fd = -1;
    for (unsigned int i = 0; i < WIRE_STREAMS_MAX; i++)
        p->bulk[i] = -1;
    for (unsigned int i = 0; i < WIRE_TICKET_SIZE; i++)
        p->ticket[i] = (uint8_t)(i * 5 + 3);
}

void peer_hang_up(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void end(struct peer *p)
{
    peer_hang_up(&p->fd);
    for (unsigned int i = 0; i < WIRE_STREAMS_MAX; i++)
        peer_hang_up(&p->bulk[i]);
    while (p->n_put_by)
        free(p->put_by[--p->n_put_by].body);
    fixture_free(&p->f);
}

int peer_setup(void **state)
{
    struct peer *p = calloc(1, sizeof(*p));

    begin(p);
    *state = p;
    return 0;
}

int peer_teardown(void **state)
{
    end(*state);
    free(*state);
    return 0;
}

void peer_again(struct peer *p)
{
    end(p);
    begin(p);
}

void peer_put_on(int fd, size_t size)
{
    assert_int_equal(send(fd, peer_out, size, MSG_NOSIGNAL), size);
}

void peer_put(struct peer *p, size_t size)
{
    peer_put_on(p->fd, size);
}

bool peer_bytes(int fd, void *to, size_t n)
{
    return n == 0 || recv(fd, to, n, MSG_WAITALL) == (ssize_t)n;
}

bool peer_pump(struct peer *p)
{
    uint8_t head[WIRE_HEAD_SIZE];

    if (!peer_bytes(p->fd, head, sizeof(head)))
        return false;
    p->length = get_u32(head);
    p->type = get_u16(head + 4);
    assert_true(p->length <= sizeof(p->body));
    assert_true(peer_bytes(p->fd, p->body, p->length));
    if (p->type == WIRE_CREDIT) {
        assert_int_equal(p->length, 8);
        assert_true(wire_get_count(p->body) > p->told);
        p->told = wire_get_count(p->body);
        assert_true(p->told - p->used <= p->hello.credit_max);
    }
    return true;
}

bool peer_get(struct peer *p)
{
    if (p->n_put_by) {
        struct peer_frame first = p->put_by[0];

        p->n_put_by--;
        memmove(p->put_by, p->put_by + 1, p->n_put_by * sizeof(p->put_by[0]));
        p->type = first.type;
        p->length = first.length;
        memcpy(p->body, first.body, first.length);
        free(first.body);
        return true;
    }
    do {
        if (!peer_pump(p))
            return false;
    } while (p->type == WIRE_CREDIT);
    return true;
}

void peer_expect(struct peer *p, unsigned int type)
{
    assert_true(peer_get(p));
    if (p->type != type)
        fprintf(stderr, "got %s, not %s\n", wire_type_name(p->type), wire_type_name(type));
    assert_int_equal(p->type, type);
}

void peer_expect_at_last(struct peer *p, unsigned int type)
{
    do
        assert_true(peer_get(p));
    while (p->type != type && (p->type == WIRE_REQUEST || p->type == WIRE_DROP));
    assert_int_equal(p->type, type);
}

void peer_refused(int fd, unsigned int type, uint32_t code)
{
    uint8_t head[WIRE_HEAD_SIZE], body[8 + WIRE_TEXT_MAX], more;
    struct wire_fault theirs = {0}, fault;

    assert_true(peer_bytes(fd, head, sizeof(head)));
    assert_int_equal(get_u16(head + 4), type);
    assert_true(get_u32(head) >= 8 && get_u32(head) <= sizeof(body));
    assert_true(peer_bytes(fd, body, get_u32(head)));
    assert_int_equal(wire_get_fault(body, get_u32(head), &theirs, &fault), 0);
    if (theirs.code != code)
        fprintf(stderr, "%s: %s\n", wire_code_name(theirs.code), theirs.text);
    assert_int_equal(theirs.code, code);
    assert_int_equal(recv(fd, &more, 1, 0), 0);
}

/* -- playing serve */

static int take_connection(int listener)
{
    int fd = accept(listener, NULL, NULL);
    const char *patience = getenv("TEST_PATIENCE");
    struct timeval limit = {patience ? atoi(patience) : 60, 0};

    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return fd;
}

/* Control is dialled first, then one bulk channel after the other. */
static void connected(struct peer *p)
{
    int listener = fixture_listen(&p->f);

    fixture_start_receive(&p->f);
    p->fd = take_connection(listener);
    for (uint32_t i = 0; i < p->f.receive.streams; i++)
        p->bulk[i] = take_connection(listener);
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
    assert_int_equal(channel_hand_over(receiver, pair[1], pair[1], 0), 0);
    close(pair[1]);
    p->fd = pair[0];
}

static void take_join(struct peer *p, unsigned int channel)
{
    uint8_t frame[WIRE_HEAD_SIZE + WIRE_JOIN_SIZE];
    struct wire_fault fault;
    struct wire_join join;

    assert_true(peer_bytes(p->bulk[channel], frame, sizeof(frame)));
    assert_int_equal(get_u32(frame), WIRE_JOIN_SIZE);
    assert_int_equal(get_u16(frame + 4), WIRE_JOIN);
    assert_int_equal(wire_get_join(frame + WIRE_HEAD_SIZE, &join, &fault), 0);
    assert_int_equal(join.version, WIRE_VERSION);
    assert_int_equal(join.role, WIRE_JOINER);
    assert_int_equal(join.index, channel);
    assert_int_equal(join.generation, p->generation);
    assert_memory_equal(join.ticket, p->ticket, WIRE_TICKET_SIZE);
    peer_put_on(p->bulk[channel], wire_put_words(peer_out, WIRE_JOIN_ACK, channel, 0));
}

void peer_meet_receiver(struct peer *p)
{
    struct wire_hello_ack ack = {.populated = 1300, .nr_gfns = 1500, .streams = (uint8_t)p->streams};
    struct wire_fault fault;
    uint8_t more;

    if (p->by_join)
        joined(p);
    else
        connected(p);
    peer_expect(p, WIRE_HELLO);
    assert_int_equal(wire_get_hello(p->body, &p->hello, &fault), 0);
    assert_int_equal(p->hello.streams, p->f.receive.streams);
    p->features = ack.features = p->hello.offered & ~p->withheld;
    p->generation = ack.generation = p->hello.generation + 1;
    memcpy(ack.uuid, p->hello.uuid, sizeof(ack.uuid));
    memcpy(ack.ticket, p->ticket, sizeof(ack.ticket));
    peer_put(p, wire_put_hello_ack(peer_out, &ack));
    for (unsigned int i = 0; i < p->streams; i++)
        take_join(p, i);
    /* Those that are not wanted are closed without a word. */
    for (unsigned int i = p->streams; i < p->hello.streams; i++) {
        assert_int_equal(recv(p->bulk[i], &more, 1, 0), 0);
        peer_hang_up(&p->bulk[i]);
    }
}

void peer_be_good(struct peer *p)
{
    uint64_t pages, hash;

    peer_meet_receiver(p);
    do
        assert_true(peer_get(p));
    while (p->type == WIRE_SET);
    assert_int_equal(p->type, WIRE_SET_END);
    wire_get_pair(p->body, &pages, &hash);
    assert_int_equal(pages, PEER_SET);
    peer_put(p, wire_put_pair(peer_out, WIRE_SET_ACK, pages, hash));
    json_decref(fixture_await(&p->f, "receive", "active"));
}

bool peer_in_set(uint64_t gfn)
{
    return gfn < 1500 && (gfn < 600 || gfn >= 800) && gfn != 1490;
}

bool peer_is_zero(uint64_t gfn)
{
    static const uint8_t zero[FAKE_PAGE];
    uint8_t page[FAKE_PAGE];

    fake_contents(gfn, 1, page);
    return memcmp(page, zero, sizeof(page)) == 0;
}

void peer_need_credit(struct peer *p, uint64_t pages)
{
    while (p->told - p->used < pages) {
        struct peer_frame *next = &p->put_by[p->n_put_by];

        assert_true(peer_pump(p));
        if (p->type == WIRE_CREDIT)
            continue;
        p->n_put_by++;
        assert_true(p->n_put_by < sizeof(p->put_by) / sizeof(p->put_by[0]));
        next->type = p->type;
        next->length = p->length;
        next->body = malloc(p->length);
        memcpy(next->body, p->body, p->length);
    }
    p->used += pages;
}

static uint32_t with_hashes(const struct peer *p, uint32_t flags)
{
    return flags | (p->features & WIRE_FEATURE_HASH ? WIRE_PAGES_HASHED : 0);
}

void peer_put_page(struct peer *p, int fd, uint64_t gfn, uint32_t flags, bool spoiled)
{
    uint8_t page[FAKE_PAGE];

    fake_contents(gfn, 1, page);
    wire_add_run(peer_out, 0, gfn, 1, WIRE_CONTENTS);
    wire_add_hash(peer_out, 1, 0, XXH64(page, sizeof(page), 0));
    if (spoiled)
        page[9] ^= 1;
    peer_put_on(fd, wire_finish_pages_head(peer_out, 1, 1, with_hashes(p, flags)));
    assert_int_equal(send(fd, page, sizeof(page), MSG_NOSIGNAL), sizeof(page));
}

void peer_put_zeros(struct peer *p, int fd, uint64_t first, uint32_t count, uint32_t flags)
{
    wire_add_run(peer_out, 0, first, count, WIRE_ZERO);
    peer_put_on(fd, wire_finish_pages_head(peer_out, 1, 0, with_hashes(p, flags)));
}

void peer_send_page(struct peer *p, uint64_t gfn, bool spoiled)
{
    peer_need_credit(p, 1);
    peer_put_page(p, p->fd, gfn, 0, spoiled);
}

void peer_await_ack(struct peer *p, unsigned int channel, uint64_t count)
{
    uint8_t frame[WIRE_HEAD_SIZE + 8];
    uint64_t last = 0;

    while (last != count) {
        uint64_t now;

        assert_true(peer_bytes(p->bulk[channel], frame, sizeof(frame)));
        assert_int_equal(get_u32(frame), 8);
        assert_int_equal(get_u16(frame + 4), WIRE_ACK);
        now = wire_get_count(frame + WIRE_HEAD_SIZE);
        assert_true(now > last && now <= count);
        last = now;
    }
}

void peer_receiver_ends(struct peer *p, int status)
{
    assert_int_equal(fixture_wait(p->f.receive_pid), status);
    p->f.receive_pid = 0;
}

static void has_reason(json_t *report, const char *reason)
{
    const char *text = json_string_value(json_object_get(report, "reason"));

    assert_non_null(text);
    if (!strstr(text, reason))
        fprintf(stderr, "reason: %s\n", text);
    assert_non_null(strstr(text, reason));
    json_decref(report);
}

void peer_receiver_pauses(struct peer *p, const char *reason)
{
    has_reason(fixture_await(&p->f, "receive", "paused"), reason);
    kill(p->f.domain_pid, SIGUSR1);
    peer_receiver_ends(p, EXIT_GONE);
    assert_int_equal(p->f.results[1].wrong_pages, 0);
    assert_int_equal(p->f.results[1].violations, 0);
}

/* -- playing the receiver */

void peer_meet_serve(struct peer *p)
{
    struct wire_hello_ack ack;
    struct wire_fault fault;

    p->hello = (struct wire_hello){.version = WIRE_VERSION,
                                   .role = WIRE_RECEIVER,
                                   .page_shift = WIRE_PAGE_SHIFT,
                                   .offered = WIRE_FEATURES,
                                   .streams = (uint8_t)p->streams,
                                   .credit_max = 64,
                                   .asked_max = 64};
    memset(p->hello.uuid, 0x11, sizeof(p->hello.uuid));
    memset(p->hello.token, TOKEN_BYTE, sizeof(p->hello.token));
    p->fd = fixture_dial(&p->f);
    peer_put(p, wire_put_hello(peer_out, &p->hello));
    peer_expect(p, WIRE_HELLO_ACK);
    assert_int_equal(wire_get_hello_ack(p->body, &ack, &fault), 0);
    assert_int_equal(wire_judge_hello_ack(&ack, &p->hello, &fault), 0);
    p->features = ack.features;
    p->generation = ack.generation;
    memcpy(p->ticket, ack.ticket, sizeof(p->ticket));
}

void peer_say_set(struct peer *p, uint64_t n)
{
    uint8_t run[16];

    put_u64(run, 10);
    put_u64(run + 8, n);
    wire_add_pair(peer_out, 0, 10, n);
    peer_put(p, wire_finish_list(peer_out, WIRE_SET, 1, 0));
    peer_put(p, wire_put_pair(peer_out, WIRE_SET_END, n, XXH64(run, sizeof(run), 0)));
}

void peer_agree_on_set(struct peer *p, uint64_t n)
{
    peer_say_set(p, n);
    peer_expect(p, WIRE_SET_ACK);
}

void peer_put_credit(struct peer *p, uint64_t total)
{
    peer_put(p, wire_put_count(peer_out, WIRE_CREDIT, total));
}

struct wire_join peer_join_of(const struct peer *p, unsigned int channel)
{
    struct wire_join join = {
        .version = WIRE_VERSION, .role = WIRE_JOINER, .index = (uint8_t)channel, .generation = p->generation};

    memcpy(join.ticket, p->ticket, sizeof(join.ticket));
    return join;
}

int peer_dial_join(struct peer *p, const struct wire_join *join)
{
    int fd = fixture_dial(&p->f);

    peer_put_on(fd, wire_put_join(peer_out, join));
    return fd;
}

void peer_join(struct peer *p, unsigned int channel)
{
    const struct wire_join join = peer_join_of(p, channel);
    uint8_t frame[WIRE_HEAD_SIZE + 8];
    struct wire_fault fault;
    uint32_t index;

    p->bulk[channel] = peer_dial_join(p, &join);
    assert_true(peer_bytes(p->bulk[channel], frame, sizeof(frame)));
    assert_int_equal(get_u16(frame + 4), WIRE_JOIN_ACK);
    assert_int_equal(wire_get_join_ack(frame + WIRE_HEAD_SIZE, &index, &fault), 0);
    assert_int_equal(index, channel);
}

void peer_put_ack(struct peer *p, unsigned int channel, uint64_t count)
{
    peer_put_on(p->bulk[channel], wire_put_count(peer_out, WIRE_ACK, count));
}

static void compare(int fd, const uint8_t *body, uint32_t runs, uint64_t gfn, uint32_t index, bool hashed)
{
    uint8_t page[FAKE_PAGE], want[FAKE_PAGE];

    assert_true(peer_bytes(fd, page, sizeof(page)));
    fake_contents(gfn, 1, want);
    assert_memory_equal(page, want, sizeof(page));
    if (hashed)
        assert_true(wire_hash(body, runs, index) == XXH64(page, sizeof(page), 0));
}

struct peer_pages peer_take_pages(struct peer *p, int fd)
{
    static uint8_t body[WIRE_ENTRIES_MAX];
    struct peer_pages pages = {0};
    struct wire_fault fault;
    uint8_t head[WIRE_HEAD_SIZE];
    uint32_t runs, contents, done = 0;
    bool hashed = p->features & WIRE_FEATURE_HASH;

    assert_true(peer_bytes(fd, head, sizeof(head)));
    assert_int_equal(get_u16(head + 4), WIRE_PAGES);
    assert_true(peer_bytes(fd, body, 8));
    assert_int_equal(wire_get_pages_head(body, get_u32(head), &runs, &pages.flags, &fault), 0);
    assert_int_equal(!!(pages.flags & WIRE_PAGES_HASHED), hashed);
    assert_true(peer_bytes(fd, body + 8, 16 * (size_t)runs));
    assert_int_equal(wire_get_pages_runs(body, get_u32(head), runs, pages.flags, &contents, &fault), 0);
    assert_true(peer_bytes(fd, body + 8 + 16 * (size_t)runs, hashed ? 8 * (size_t)contents : 0));
    for (uint32_t i = 0; i < runs; i++) {
        struct wire_run run = wire_run(body, i);

        for (uint64_t gfn = run.first; gfn < run.first + run.count; gfn++) {
            assert_int_equal(run.word == WIRE_ZERO, p->features & WIRE_FEATURE_ZERO && peer_is_zero(gfn));
            if (run.word == WIRE_ZERO)
                pages.zeros++;
            else
                compare(fd, body, runs, gfn, done++, hashed);
        }
    }
    pages.contents = contents;
    return pages;
}

void peer_serve_pauses(struct peer *p, const char *reason)
{
    fixture_serve_pauses(&p->f, reason);
    peer_hang_up(&p->fd);
    for (unsigned int i = 0; i < WIRE_STREAMS_MAX; i++)
        peer_hang_up(&p->bulk[i]);
}

void peer_serve_ends(struct peer *p, int status)
{
    assert_int_equal(fixture_wait(p->f.serve_pid), status);
    p->f.serve_pid = 0;
    peer_hang_up(&p->fd);
    for (unsigned int i = 0; i < WIRE_STREAMS_MAX; i++)
        peer_hang_up(&p->bulk[i]);
}

void peer_serve_said(struct peer *p, const char *reason)
{
    has_reason(fixture_last(&p->f, "serve"), reason);
}
