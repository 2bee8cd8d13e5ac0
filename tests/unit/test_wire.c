/* The wire protocol: what goes out comes back in, and nothing else is accepted. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "token.h"
#include "wire/bytes.h"
#include "wire/frame_reader.h"

/* Room for whatever is built here: the head of the largest PAGES, the largest list. */
static uint8_t frame[WIRE_HEAD_SIZE + WIRE_CONTROL_MAX];
static struct frame_reader reader;
static struct wire_fault fault;

/* Feed bytes in pieces of the given size; the first event that is not FRAME_MORE. */
static enum frame_event feed_channel(const uint8_t *bytes, size_t n, size_t piece, enum wire_role role,
                                     enum wire_channel channel, enum wire_state state)
{
    size_t done = 0;

    frame_reader_init(&reader, role, channel);
    while (done < n) {
        uint8_t *where;
        size_t room = frame_reader_space(&reader, &where), part = piece < room ? piece : room;
        enum frame_event event;

        if (part > n - done)
            part = n - done;
        memcpy(where, bytes + done, part);
        done += part;
        event = frame_reader_advance(&reader, part, state);
        if (event != FRAME_MORE)
            return event;
    }
    return FRAME_MORE;
}

static enum frame_event feed(const uint8_t *bytes, size_t n, size_t piece, enum wire_role role,
                             enum wire_state state)
{
    return feed_channel(bytes, n, piece, role, WIRE_CONTROL, state);
}

static struct wire_hello hello(void)
{
    struct wire_hello h = {.version = WIRE_VERSION,
                           .role = WIRE_RECEIVER,
                           .page_shift = WIRE_PAGE_SHIFT,
                           .offered = WIRE_FEATURES,
                           .required = WIRE_FEATURE_HASH,
                           .streams = 3,
                           .credit_max = 256,
                           .generation = 7,
                           .asked_max = 64};

    memset(h.uuid, 0x17, sizeof(h.uuid));
    memset(h.token, 0x71, sizeof(h.token));
    return h;
}

static struct wire_hello expected(void)
{
    struct wire_hello h = hello();

    h.role = WIRE_SERVER;
    return h;
}

static void hello_survives_any_cutting(void **state)
{
    struct wire_hello in = hello(), out, serve = expected();
    size_t n = wire_put_hello(frame, &in);
    uint64_t features;

    (void)state;
    for (size_t piece = 1; piece <= n; piece++) {
        assert_int_equal(feed(frame, n, piece, WIRE_SERVER, WIRE_IN_HELLO), FRAME_DONE);
        assert_int_equal(reader.type, WIRE_HELLO);
        assert_int_equal(wire_get_hello(reader.body, &out, &fault), 0);
        assert_int_equal(wire_judge_hello(&out, &serve, &features, &fault), 0);
        assert_int_equal(features, WIRE_FEATURES);
        assert_int_equal(out.streams, 3);
        assert_int_equal(out.generation, 7);
        assert_int_equal(out.asked_max, 64);
        assert_int_equal(out.credit_max, 256);
    }
    for (size_t cut = 0; cut < n; cut++)
        assert_int_equal(feed(frame, cut, 7, WIRE_SERVER, WIRE_IN_HELLO), FRAME_MORE);
}

static void refused(const struct wire_hello *h, uint32_t code)
{
    struct wire_hello serve = expected(), out;
    uint64_t features;

    wire_put_hello(frame, h);
    assert_int_equal(wire_get_hello(frame + WIRE_HEAD_SIZE, &out, &fault), 0);
    assert_int_equal(wire_judge_hello(&out, &serve, &features, &fault), -EPROTO);
    assert_int_equal(fault.code, code);
    assert_true(strlen(fault.text) > 10);
}

static void each_mismatch_has_its_reason(void **state)
{
    struct wire_hello h, serve = expected();
    uint64_t features;

    (void)state;
    h = hello(), h.role = WIRE_SERVER, refused(&h, WIRE_REFUSE_MAGIC);
    h = hello(), h.version = 2, refused(&h, WIRE_REFUSE_VERSION);
    h = hello(), h.version = 0, refused(&h, WIRE_REFUSE_VERSION);
    h = hello(), h.token[0] ^= 0x80, refused(&h, WIRE_REFUSE_TOKEN);
    h = hello(), h.token[31] ^= 1, refused(&h, WIRE_REFUSE_TOKEN);
    h = hello(), h.page_shift = 16, refused(&h, WIRE_REFUSE_PAGE_SIZE);
    h = hello(), h.offered |= 1u << 9, h.required |= 1u << 9, refused(&h, WIRE_REFUSE_FEATURES);
    h = hello(), h.offered = 0, refused(&h, WIRE_REFUSE_FEATURES); /* requires what it does not offer */
    h = hello(), h.uuid[15] ^= 1, refused(&h, WIRE_REFUSE_UUID);
    h = hello(), h.credit_max = 0, refused(&h, WIRE_REFUSE_BOUNDS);
    h = hello(), h.credit_max = WIRE_CREDIT_MAX + 1, refused(&h, WIRE_REFUSE_BOUNDS);
    h = hello(), h.credit_max = UINT64_MAX, refused(&h, WIRE_REFUSE_BOUNDS);
    h = hello(), h.asked_max = 0, refused(&h, WIRE_REFUSE_BOUNDS);
    h = hello(), h.asked_max = WIRE_ASKED_MAX + 1, refused(&h, WIRE_REFUSE_BOUNDS);
    h = hello(), h.asked_max = UINT32_MAX, refused(&h, WIRE_REFUSE_BOUNDS);
    h = hello(), h.streams = WIRE_STREAMS_MAX + 1, refused(&h, WIRE_REFUSE_BOUNDS);
    h = hello(), h.streams = UINT8_MAX, refused(&h, WIRE_REFUSE_BOUNDS);
    h = hello(), h.generation = 0, refused(&h, WIRE_REFUSE_GENERATION);
    h = hello(), h.generation = UINT32_MAX, refused(&h, WIRE_REFUSE_GENERATION);
    /* With a wrong token nothing about the domain is said. */
    h = hello(), h.token[3] ^= 1, h.uuid[0] ^= 1, refused(&h, WIRE_REFUSE_TOKEN);
    h = hello(), h.token[3] ^= 1, h.generation = 0, refused(&h, WIRE_REFUSE_TOKEN);
    /* Unknown features that are only offered are no reason. */
    h = hello(), h.offered |= UINT64_C(1) << 63;
    assert_int_equal(wire_judge_hello(&h, &serve, &features, &fault), 0);
    assert_int_equal(features, WIRE_FEATURES);
    /* The bounds themselves are allowed. */
    h = hello(), h.streams = WIRE_STREAMS_MAX, h.asked_max = WIRE_ASKED_MAX, h.credit_max = WIRE_CREDIT_MAX;
    assert_int_equal(wire_judge_hello(&h, &serve, &features, &fault), 0);
    h = hello(), h.streams = 0, h.asked_max = 1, h.credit_max = 1;
    assert_int_equal(wire_judge_hello(&h, &serve, &features, &fault), 0);
}

/* Of a fixed body: a byte of the magic that is another, a reserved one that is not 0. */
static void spoiled(size_t at, uint32_t code, int (*get)(const uint8_t *body))
{
    frame[WIRE_HEAD_SIZE + at] ^= 0x20;
    assert_int_equal(get(frame + WIRE_HEAD_SIZE), -EPROTO);
    assert_int_equal(fault.code, code);
    frame[WIRE_HEAD_SIZE + at] ^= 0x20;
    assert_int_equal(get(frame + WIRE_HEAD_SIZE), 0);
}

static int get_hello(const uint8_t *body)
{
    struct wire_hello h;

    return wire_get_hello(body, &h, &fault);
}

static int get_join(const uint8_t *body)
{
    struct wire_join j;

    return wire_get_join(body, &j, &fault);
}

static void magic_and_reserved_bytes_of_hello(void **state)
{
    struct wire_hello h = hello();

    (void)state;
    wire_put_hello(frame, &h);
    for (size_t i = 0; i < 8; i++)
        spoiled(i, WIRE_REFUSE_MAGIC, get_hello);
    for (size_t i = 13; i < 16; i++)
        spoiled(i, WIRE_REFUSE_MALFORMED, get_hello);
}

static void hello_ack_is_checked(void **state)
{
    struct wire_hello sent = hello();
    struct wire_hello_ack ack = {.features = WIRE_FEATURES,
                                 .populated = 10,
                                 .nr_gfns = 20,
                                 .streams = 3,
                                 .generation = 8},
                          out;

    (void)state;
    memcpy(ack.uuid, sent.uuid, sizeof(ack.uuid));
    for (size_t i = 0; i < WIRE_TICKET_SIZE; i++)
        ack.ticket[i] = (uint8_t)(i * 7 + 1);
    assert_int_equal(wire_put_hello_ack(frame, &ack), WIRE_HEAD_SIZE + WIRE_ACK_SIZE);
    assert_int_equal(feed(frame, WIRE_HEAD_SIZE + WIRE_ACK_SIZE, 5, WIRE_RECEIVER, WIRE_IN_HELLO),
                     FRAME_DONE);
    assert_int_equal(wire_get_hello_ack(reader.body, &out, &fault), 0);
    assert_int_equal(wire_judge_hello_ack(&out, &sent, &fault), 0);
    assert_memory_equal(out.ticket, ack.ticket, WIRE_TICKET_SIZE);
    assert_int_equal(out.streams, 3);
    assert_int_equal(out.generation, 8);
    assert_int_equal(out.populated, 10);
    assert_int_equal(out.nr_gfns, 20);
    /* Every byte but those of features, populated, nr_gfns, generation and ticket has one right value (0x10
     * is above the channels that were offered). */
    for (size_t i = 0; i < WIRE_ACK_SIZE; i++) {
        if ((i >= 16 && i < 24) || (i >= 40 && i < 60) || (i >= 64 && i < 96))
            continue;
        reader.body[i] ^= 0x10;
        assert_true(wire_get_hello_ack(reader.body, &out, &fault) ||
                    wire_judge_hello_ack(&out, &sent, &fault));
        reader.body[i] ^= 0x10;
    }
    out = ack, out.features = 1u << 5;
    assert_int_equal(wire_judge_hello_ack(&out, &sent, &fault), -EPROTO);
    out = ack, out.features = WIRE_FEATURE_VERIFY; /* without the one that was required */
    assert_int_equal(wire_judge_hello_ack(&out, &sent, &fault), -EPROTO);
    out = ack, out.streams = 4; /* more than were offered */
    assert_int_equal(wire_judge_hello_ack(&out, &sent, &fault), -EPROTO);
    out = ack, out.streams = 0;
    assert_int_equal(wire_judge_hello_ack(&out, &sent, &fault), 0);
    out = ack, out.generation = 7;
    assert_int_equal(wire_judge_hello_ack(&out, &sent, &fault), -EPROTO);
    out = ack, out.generation = 9; /* the ones between came to nothing */
    assert_int_equal(wire_judge_hello_ack(&out, &sent, &fault), 0);
    ack.nr_gfns = WIRE_GFN_LIMIT + 1;
    wire_put_hello_ack(frame, &ack);
    assert_int_equal(wire_get_hello_ack(frame + WIRE_HEAD_SIZE, &out, &fault), -EPROTO);
    ack.nr_gfns = 9;
    wire_put_hello_ack(frame, &ack);
    assert_int_equal(wire_get_hello_ack(frame + WIRE_HEAD_SIZE, &out, &fault), -EPROTO);
}

static struct wire_join join(void)
{
    struct wire_join j = {.version = WIRE_VERSION, .role = WIRE_JOINER, .index = 1, .generation = 8};

    for (size_t i = 0; i < WIRE_TICKET_SIZE; i++)
        j.ticket[i] = (uint8_t)(i * 7 + 1);
    return j;
}

/* What serve says of it, with 3 channels of which those of joined are there: 0, or the code of the refusal.
 */
static uint32_t judged(const struct wire_join *j, uint32_t joined)
{
    struct wire_join ours = join();
    int rc;

    ours.index = 3;
    fault.code = WIRE_OK;
    fault.text[0] = '\0';
    rc = wire_judge_join(j, &ours, joined, &fault);
    assert_int_equal(rc, fault.code == WIRE_OK ? 0 : -EPROTO);
    assert_true(rc == 0 || strlen(fault.text) > 10);
    return fault.code;
}

static void join_survives_any_cutting(void **state)
{
    struct wire_join in = join(), out;
    size_t n = wire_put_join(frame, &in);

    (void)state;
    assert_int_equal(n, WIRE_HEAD_SIZE + WIRE_JOIN_SIZE);
    for (size_t piece = 1; piece <= n; piece++) {
        assert_int_equal(feed_channel(frame, n, piece, WIRE_SERVER, WIRE_BULK, WIRE_IN_HELLO), FRAME_DONE);
        assert_int_equal(reader.type, WIRE_JOIN);
        assert_int_equal(wire_get_join(reader.body, &out, &fault), 0);
        assert_int_equal(out.version, in.version);
        assert_int_equal(out.role, in.role);
        assert_int_equal(out.index, in.index);
        assert_int_equal(out.generation, in.generation);
        assert_memory_equal(out.ticket, in.ticket, WIRE_TICKET_SIZE);
    }
    for (size_t i = 0; i < 8; i++)
        spoiled(i, WIRE_REFUSE_MAGIC, get_join);
    for (size_t i = 48; i < 56; i++)
        spoiled(i, WIRE_REFUSE_MALFORMED, get_join);
}

static void each_join_that_is_not_ours_is_refused(void **state)
{
    struct wire_join j = join();

    (void)state;
    assert_int_equal(judged(&j, 0), WIRE_OK);
    assert_int_equal(judged(&j, 1 | 4), WIRE_OK);
    j = join(), j.role = WIRE_RECEIVER, assert_int_equal(judged(&j, 0), WIRE_REFUSE_MAGIC);
    j = join(), j.role = WIRE_SERVER, assert_int_equal(judged(&j, 0), WIRE_REFUSE_MAGIC);
    j = join(), j.version = 0, assert_int_equal(judged(&j, 0), WIRE_REFUSE_VERSION);
    j = join(), j.version = 2, assert_int_equal(judged(&j, 0), WIRE_REFUSE_VERSION);
    for (size_t i = 0; i < WIRE_TICKET_SIZE; i++)
        j = join(), j.ticket[i] ^= 1, assert_int_equal(judged(&j, 0), WIRE_REFUSE_TOKEN);
    j = join(), j.generation = 7, assert_int_equal(judged(&j, 0), WIRE_REFUSE_TOKEN);
    j = join(), j.generation = 9, assert_int_equal(judged(&j, 0), WIRE_REFUSE_TOKEN);
    for (unsigned int i = 3; i <= UINT8_MAX; i++)
        j = join(), j.index = (uint8_t)i, assert_int_equal(judged(&j, 0), WIRE_REFUSE_BOUNDS);
    /* It is there already, or no channel is awaited at all. */
    j = join(), assert_int_equal(judged(&j, 2), WIRE_REFUSE_BOUNDS);
    j = join(), assert_int_equal(judged(&j, ~0u), WIRE_REFUSE_BOUNDS);
    /* Who does not have the ticket does not hear which channels there are. */
    j = join(), j.index = 200, j.ticket[0] ^= 1, assert_int_equal(judged(&j, 2), WIRE_REFUSE_TOKEN);
}

static void join_ack_is_checked(void **state)
{
    uint32_t index;
    size_t n = wire_put_words(frame, WIRE_JOIN_ACK, 5, 0);

    (void)state;
    assert_int_equal(feed_channel(frame, n, 3, WIRE_RECEIVER, WIRE_BULK, WIRE_IN_HELLO), FRAME_DONE);
    assert_int_equal(wire_get_join_ack(reader.body, &index, &fault), 0);
    assert_int_equal(index, 5);
    for (size_t i = 4; i < 8; i++) {
        reader.body[i] = 1;
        assert_int_equal(wire_get_join_ack(reader.body, &index, &fault), -EPROTO);
        reader.body[i] = 0;
    }
}

/* Both are counts of all there has been so far: every value has its 64 bits. */
static void counts_are_whole(void **state)
{
    static const uint64_t counts[] = {0, 1, UINT32_MAX, UINT64_C(1) << 32, UINT64_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        size_t n = wire_put_count(frame, WIRE_CREDIT, counts[i]);

        assert_int_equal(n, WIRE_HEAD_SIZE + 8);
        assert_int_equal(feed(frame, n, 5, WIRE_SERVER, WIRE_IN_ACTIVE), FRAME_DONE);
        assert_int_equal(reader.type, WIRE_CREDIT);
        assert_true(wire_get_count(reader.body) == counts[i]);
        n = wire_put_count(frame, WIRE_ACK, counts[i]);
        assert_int_equal(n, WIRE_HEAD_SIZE + 8);
        assert_int_equal(feed_channel(frame, n, 5, WIRE_SERVER, WIRE_BULK, WIRE_IN_ACTIVE), FRAME_DONE);
        assert_int_equal(reader.type, WIRE_ACK);
        assert_true(wire_get_count(reader.body) == counts[i]);
    }
}

/* Which end takes which frame on which channel in which states: the table of PROTOCOL.md as far as it is
 * spoken, written down a second time. */
static const struct allowed {
    unsigned int type;
    const char *channels; /* Control, Bulk */
    const char *receiver; /* states by first letter: Hello Set Active Verify Complete Resume */
    const char *server;
    uint32_t min, max;
} allowed[] = {
    {WIRE_HELLO, "C", "", "H", 96, 96},         {WIRE_HELLO_ACK, "C", "H", "", 104, 104},
    {WIRE_REFUSE, "CB", "H", "", 8, 208},       {WIRE_SET, "C", "", "S", 24, 65544},
    {WIRE_SET_END, "C", "", "S", 16, 16},       {WIRE_SET_ACK, "C", "S", "", 16, 16},
    {WIRE_CREDIT, "C", "", "AV", 8, 8},         {WIRE_REQUEST, "C", "", "A", 24, 4104},
    {WIRE_PAGES, "CB", "AVC", "", 24, 2102280}, {WIRE_DROP, "C", "", "A", 24, 4104},
    {WIRE_VERIFY, "C", "", "A", 8, 8},          {WIRE_VERIFY_END, "C", "V", "", 8, 8},
    {WIRE_COMPLETE, "C", "", "A", 48, 48},      {WIRE_COMPLETE_ACK, "C", "C", "", 24, 24},
    {WIRE_GONE, "C", "", "SAVCR", 8, 8},        {WIRE_ERROR, "CB", "HSAVCR", "HSAVCR", 8, 208},
    {WIRE_JOIN, "B", "", "H", 56, 56},          {WIRE_JOIN_ACK, "B", "H", "", 8, 8},
    {WIRE_ACK, "B", "", "AVC", 8, 8},           {WIRE_RECEIVED, "C", "", "R", 24, 65544},
    {WIRE_RECEIVED_END, "C", "", "R", 16, 16},  {WIRE_RESUME_ACK, "C", "R", "", 16, 16},
};

static void check_place(const struct allowed *a, enum wire_role role, enum wire_channel channel,
                        enum wire_state in)
{
    const char *states = role == WIRE_RECEIVER ? a->receiver : a->server;
    bool right = strchr(states, "HSAVCR"[in]) && strchr(a->channels, "CB"[channel]);

    assert_int_equal(wire_allowed(a->type, a->min, role, channel, in, &fault) == 0, right);
    assert_int_equal(wire_allowed(a->type, a->max, role, channel, in, &fault) == 0, right);
    assert_true(wire_allowed(a->type, a->min - 1, role, channel, in, &fault));
    assert_true(wire_allowed(a->type, a->max + 1, role, channel, in, &fault));
    assert_true(wire_allowed(a->type, 0, role, channel, in, &fault));
    assert_true(wire_allowed(a->type, UINT32_MAX, role, channel, in, &fault));
    assert_int_equal(fault.code, WIRE_ERROR_PROTOCOL);
}

static void frames_only_where_they_belong(void **state)
{
    static const enum wire_role roles[] = {WIRE_RECEIVER, WIRE_SERVER};

    (void)state;
    assert_int_equal(sizeof(allowed) / sizeof(allowed[0]), WIRE_TYPES - 1);
    for (unsigned int in = 0; in < WIRE_STATES; in++) {
        for (unsigned int k = 0; k < 4; k++) {
            enum wire_channel channel = k & 1 ? WIRE_BULK : WIRE_CONTROL;
            enum wire_role role = roles[k / 2];

            for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
                check_place(&allowed[i], role, channel, (enum wire_state)in);
            assert_true(wire_allowed(0, 8, role, channel, (enum wire_state)in, &fault));
            assert_true(wire_allowed(WIRE_TYPES, 8, role, channel, (enum wire_state)in, &fault));
            assert_true(wire_allowed(65535, 8, role, channel, (enum wire_state)in, &fault));
        }
    }
}

static void a_header_has_nothing_reserved(void **state)
{
    size_t n = wire_put_count(frame, WIRE_ACK, 1);

    (void)state;
    for (size_t i = 6; i < 8; i++) {
        frame[i] = 1;
        assert_int_equal(feed_channel(frame, n, 8, WIRE_SERVER, WIRE_BULK, WIRE_IN_ACTIVE), FRAME_BAD);
        frame[i] = 0;
    }
    assert_int_equal(feed_channel(frame, n, 8, WIRE_SERVER, WIRE_BULK, WIRE_IN_ACTIVE), FRAME_DONE);
}

/* One run of a frame that is else as it should be. */
static bool run_is_taken(uint64_t first, uint32_t count, uint32_t word)
{
    uint32_t n, flags;

    wire_add_run(frame, 0, first, count, word);
    wire_finish_list(frame, WIRE_DROP, 1, 0);
    return wire_get_runs(frame + WIRE_HEAD_SIZE, 8 + 16, 0, WIRE_DOM0_WAITS, &n, &flags, &fault) == 0;
}

static void each_run_has_to_be_one(void **state)
{
    (void)state;
    assert_true(run_is_taken(0, 1, 0));
    assert_true(run_is_taken(0, WIRE_RUN_MAX, WIRE_DOM0_WAITS));
    assert_true(run_is_taken(WIRE_GFN_LIMIT - 1, 1, 0));
    assert_false(run_is_taken(0, 0, 0));
    assert_false(run_is_taken(0, WIRE_RUN_MAX + 1, 0));
    assert_false(run_is_taken(0, UINT32_MAX, 0));
    assert_false(run_is_taken(WIRE_GFN_LIMIT - 1, 2, 0));
    assert_false(run_is_taken(WIRE_GFN_LIMIT, 1, 0));
    assert_false(run_is_taken(UINT64_MAX, 1, 0));
    assert_false(run_is_taken(UINT64_MAX - 1, 2, 0));
    assert_false(run_is_taken(0, 1, WIRE_VCPU_WAITS));
    assert_false(run_is_taken(0, 1, UINT32_MAX));
}

static void lists_have_to_fill_their_frame(void **state)
{
    uint32_t n, flags;
    size_t size;

    (void)state;
    wire_add_run(frame, 0, 5, 1, WIRE_VCPU_WAITS);
    wire_add_run(frame, 1, WIRE_GFN_LIMIT - WIRE_RUN_MAX, WIRE_RUN_MAX, WIRE_NOBODY_WAITS);
    size = wire_finish_list(frame, WIRE_REQUEST, 2, WIRE_REQUEST_RESEND);
    assert_int_equal(feed(frame, size, 3, WIRE_SERVER, WIRE_IN_ACTIVE), FRAME_DONE);
    assert_int_equal(wire_get_runs(reader.body, reader.length, WIRE_REQUEST_RESEND, 2, &n, &flags, &fault),
                     0);
    assert_int_equal(n, 2);
    assert_true(wire_run(reader.body, 1).first == WIRE_GFN_LIMIT - WIRE_RUN_MAX);
    assert_int_equal(wire_run(reader.body, 1).count, WIRE_RUN_MAX);
    assert_int_equal(wire_run(reader.body, 0).word, WIRE_VCPU_WAITS);
    assert_true(wire_get_runs(reader.body, reader.length, 0, 2, &n, &flags, &fault));
    assert_true(wire_get_runs(reader.body, reader.length, 1, 1, &n, &flags, &fault));
    assert_true(wire_get_runs(reader.body, reader.length - 16, 1, 2, &n, &flags, &fault));
    put_u32(reader.body, 3);
    assert_true(wire_get_runs(reader.body, reader.length, 1, 2, &n, &flags, &fault));
    put_u32(reader.body, 0);
    assert_true(wire_get_runs(reader.body, 8, 1, 2, &n, &flags, &fault));
    /* A count that overflows the multiplication. */
    put_u32(reader.body, 0x10000000 + 1);
    assert_true(wire_get_runs(reader.body, 24, 1, 2, &n, &flags, &fault));
    put_u32(reader.body, 0x10000000 + 1);
    assert_true(wire_get_set(reader.body, 24, &n, &fault));
    /* GONE: reasons 1 to 4, nothing reserved. (The second word is 1 here.) */
    put_u32(reader.body, 3);
    assert_true(wire_get_gone(reader.body, &n, &fault));
    put_u32(reader.body + 4, 0);
    for (uint32_t reason = 0; reason <= 6; reason++) {
        put_u32(reader.body, reason);
        assert_int_equal(wire_get_gone(reader.body, &n, &fault) == 0, reason >= 1 && reason <= 4);
    }
}

/* Runs of PAGES as they are added, and what they come to. */
static struct {
    uint32_t runs, contents;
} pages;

static void add(uint64_t first, uint32_t count, uint32_t kind)
{
    wire_add_run(frame, pages.runs++, first, count, kind);
    if (kind == WIRE_CONTENTS)
        pages.contents += count;
}

static size_t finish(uint32_t flags)
{
    size_t n;

    for (uint32_t i = 0; flags & WIRE_PAGES_HASHED && i < pages.contents; i++)
        wire_add_hash(frame, pages.runs, i, UINT64_C(0x100000007) * i);
    n = wire_finish_pages_head(frame, pages.runs, pages.contents, flags);
    pages.runs = pages.contents = 0;
    return n;
}

/* As finish(), and how it is taken. The contents are not there: they are not needed for that. */
static enum frame_event pages_taken(uint32_t flags)
{
    return feed(frame, finish(flags), 11, WIRE_RECEIVER, WIRE_IN_ACTIVE);
}

static void pages_head_comes_before_its_data(void **state)
{
    static const uint32_t flags[] = {0, WIRE_PAGES_HASHED, WIRE_PAGES_ASKED,
                                     WIRE_PAGES_HASHED | WIRE_PAGES_COMPARE};

    (void)state;
    for (uint32_t k = 0; k < 4 * WIRE_BATCH_MAX; k += 7) {
        uint32_t runs = k / 4 + 1, flag = flags[k % 4], contents = 0;
        size_t size;

        for (uint32_t i = 0; i < runs; i++) {
            add(i * 1000, i % 7 + 1, i % 3 == 1);
            contents += i % 3 == 1 ? 0 : i % 7 + 1;
        }
        size = finish(flag);
        for (size_t piece = 1; piece < 40; piece += 13) {
            struct wire_run run;

            assert_int_equal(feed(frame, size, piece, WIRE_RECEIVER, WIRE_IN_ACTIVE), FRAME_PAGES);
            assert_int_equal(reader.runs, runs);
            assert_int_equal(reader.pages, contents);
            assert_int_equal(reader.flags, flag);
            run = wire_run(reader.body, runs - 1);
            assert_int_equal(run.first, (runs - 1) * 1000);
            assert_int_equal(run.count, (runs - 1) % 7 + 1);
            assert_int_equal(run.word, (runs - 1) % 3 == 1 ? WIRE_ZERO : WIRE_CONTENTS);
            if (flag & WIRE_PAGES_HASHED)
                assert_true(wire_hash(reader.body, runs, contents - 1) ==
                            UINT64_C(0x100000007) * (contents - 1));
        }
    }
}

/* Nothing but zero pages: there are no contents, and no hashes even with the flag. */
static void zero_pages_are_runs_alone(void **state)
{
    (void)state;
    for (uint32_t flags = 0; flags <= WIRE_PAGES_HASHED; flags += WIRE_PAGES_HASHED) {
        size_t n;

        for (uint32_t i = 0; i < WIRE_BATCH_MAX; i++)
            add(i * WIRE_RUN_MAX, WIRE_RUN_MAX, WIRE_ZERO);
        n = finish(flags);
        assert_int_equal(n, WIRE_HEAD_SIZE + 8 + 16 * WIRE_BATCH_MAX);
        assert_int_equal(get_u32(frame), n - WIRE_HEAD_SIZE);
        assert_int_equal(feed(frame, n, 100, WIRE_RECEIVER, WIRE_IN_ACTIVE), FRAME_PAGES);
        assert_int_equal(reader.runs, WIRE_BATCH_MAX);
        assert_int_equal(reader.pages, 0);
    }
}

static void the_largest_frame_is_taken(void **state)
{
    size_t n;

    (void)state;
    for (uint32_t i = 0; i < WIRE_BATCH_MAX; i++)
        add(i * 1000, WIRE_PAGES_MAX / WIRE_BATCH_MAX, WIRE_CONTENTS);
    n = finish(WIRE_PAGES_HASHED);
    assert_int_equal(n, WIRE_HEAD_SIZE + WIRE_ENTRIES_MAX);
    assert_int_equal(get_u32(frame), WIRE_ENTRIES_MAX + WIRE_PAGES_MAX * WIRE_PAGE_SIZE);
    assert_int_equal(feed_channel(frame, n, n, WIRE_RECEIVER, WIRE_BULK, WIRE_IN_ACTIVE), FRAME_PAGES);
    assert_int_equal(reader.pages, WIRE_PAGES_MAX);
    assert_true(wire_hash(reader.body, WIRE_BATCH_MAX, WIRE_PAGES_MAX - 1) ==
                UINT64_C(0x100000007) * (WIRE_PAGES_MAX - 1));
    /* As many pages in one run. */
    add(WIRE_GFN_LIMIT - WIRE_RUN_MAX, WIRE_RUN_MAX, WIRE_CONTENTS);
    assert_int_equal(pages_taken(0), FRAME_PAGES);
    /* And all the runs there may be, beside zero pages. */
    add(0, WIRE_RUN_MAX, WIRE_CONTENTS);
    for (uint32_t i = 1; i < WIRE_BATCH_MAX; i++)
        add(i * WIRE_RUN_MAX, WIRE_RUN_MAX, WIRE_ZERO);
    assert_int_equal(pages_taken(WIRE_PAGES_HASHED), FRAME_PAGES);
    assert_int_equal(reader.pages, WIRE_PAGES_MAX);
}

static void pages_that_are_not_as_they_should_be(void **state)
{
    static const struct wire_run wrong[] = {
        {0, 0, WIRE_CONTENTS},
        {0, 0, WIRE_ZERO},
        {0, WIRE_RUN_MAX + 1, WIRE_ZERO},
        {0, UINT32_MAX, WIRE_ZERO},
        {WIRE_GFN_LIMIT, 1, WIRE_CONTENTS},
        {WIRE_GFN_LIMIT - 1, 2, WIRE_ZERO},
        {UINT64_MAX, 1, WIRE_ZERO},
        {UINT64_MAX - 1, 2, WIRE_CONTENTS},
        {0, 1, WIRE_ZERO + 1},
        {0, 1, UINT32_MAX},
    };
    size_t n;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        add(5, 1, WIRE_CONTENTS);
        add(wrong[i].first, wrong[i].count, wrong[i].word);
        assert_int_equal(pages_taken(WIRE_PAGES_HASHED), FRAME_BAD);
        assert_int_equal(reader.fault.code, WIRE_ERROR_PROTOCOL);
    }
    /* One page of contents too many, in two runs; the length is inside the type's bounds. */
    add(0, WIRE_RUN_MAX, WIRE_CONTENTS);
    add(WIRE_RUN_MAX, 1, WIRE_CONTENTS);
    n = finish(0);
    put_u32(frame, 8 + 32 + WIRE_PAGES_MAX * WIRE_PAGE_SIZE);
    assert_int_equal(feed(frame, n, 11, WIRE_RECEIVER, WIRE_IN_ACTIVE), FRAME_BAD);
    /* Flags nobody knows. */
    for (uint32_t flag = 8; flag; flag <<= 1) {
        add(5, 1, WIRE_CONTENTS);
        assert_int_equal(pages_taken(flag), FRAME_BAD);
    }
    /* Every number of runs but the right one. */
    add(5, 1, WIRE_CONTENTS);
    add(7, 2, WIRE_ZERO);
    n = finish(WIRE_PAGES_HASHED);
    for (uint32_t runs = 0; runs < 300; runs++) {
        put_u32(frame + WIRE_HEAD_SIZE, runs == 299 ? UINT32_MAX : runs == 298 ? 0x10000002 : runs);
        assert_int_equal(feed(frame, n, 11, WIRE_RECEIVER, WIRE_IN_ACTIVE) == FRAME_PAGES, runs == 2);
    }
    put_u32(frame + WIRE_HEAD_SIZE, 2);
    /* And every length but the right one, without having to wait for more than the runs. */
    for (uint32_t length = 0; length < 5000; length++) {
        put_u32(frame, length);
        assert_int_equal(feed(frame, n, 11, WIRE_RECEIVER, WIRE_IN_ACTIVE) == FRAME_PAGES,
                         length == 8 + 32 + 8 + WIRE_PAGE_SIZE);
    }
}

static void texts_are_made_printable(void **state)
{
    struct wire_fault in, out;
    size_t size;

    (void)state;
    wire_fault_set(&in, WIRE_ERROR_SET, "a\x1b[31mb\n%s", "c");
    size = wire_put_fault(frame, WIRE_ERROR, &in);
    assert_int_equal(feed(frame, size, 100, WIRE_SERVER, WIRE_IN_SET), FRAME_DONE);
    assert_int_equal(wire_get_fault(reader.body, reader.length, &out, &fault), 0);
    assert_int_equal(out.code, WIRE_ERROR_SET);
    assert_string_equal(out.text, "a?[31mb?c");
    put_u32(reader.body + 4, 200);
    assert_true(wire_get_fault(reader.body, reader.length, &out, &fault));
    put_u32(reader.body + 4, UINT32_MAX);
    assert_true(wire_get_fault(reader.body, reader.length, &out, &fault));
}

static void write_file(const char *path, const char *text, mode_t mode)
{
    FILE *file = fopen(path, "w");

    fputs(text, file);
    fclose(file);
    chmod(path, mode);
}

static void token_files_are_secret_and_whole(void **state)
{
    static const char good[] = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";
    char path[] = "/tmp/xenpaging-pc-token.XXXXXX", why[512], text[100];
    uint8_t token[TOKEN_SIZE], other[TOKEN_SIZE];

    (void)state;
    close(mkstemp(path));
    snprintf(text, sizeof(text), "%s\n", good);
    write_file(path, text, 0600);
    assert_int_equal(token_read(path, token, why, sizeof(why)), 0);
    assert_int_equal(token[31], 0xff);
    write_file(path, good, 0400);
    assert_int_equal(token_read(path, other, why, sizeof(why)), 0);
    assert_true(token_equal(token, other));
    other[7] ^= 4;
    assert_false(token_equal(token, other));
    write_file(path, good, 0640);
    assert_int_equal(token_read(path, token, why, sizeof(why)), -1);
    assert_non_null(strstr(why, "0640"));
    chmod(path, 0600);
    write_file(path, "", 0600);
    assert_int_equal(token_read(path, token, why, sizeof(why)), -1);
    snprintf(text, sizeof(text), "%s0", good);
    write_file(path, text, 0600);
    assert_int_equal(token_read(path, token, why, sizeof(why)), -1);
    snprintf(text, sizeof(text), "%.63sg", good);
    write_file(path, text, 0600);
    assert_int_equal(token_read(path, token, why, sizeof(why)), -1);
    assert_null(strstr(why, "0011"));
    unlink(path);
    assert_int_equal(token_read(path, token, why, sizeof(why)), -1);
    assert_int_equal(token_read("/tmp", token, why, sizeof(why)), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello_survives_any_cutting),
        cmocka_unit_test(each_mismatch_has_its_reason),
        cmocka_unit_test(magic_and_reserved_bytes_of_hello),
        cmocka_unit_test(hello_ack_is_checked),
        cmocka_unit_test(join_survives_any_cutting),
        cmocka_unit_test(each_join_that_is_not_ours_is_refused),
        cmocka_unit_test(join_ack_is_checked),
        cmocka_unit_test(counts_are_whole),
        cmocka_unit_test(frames_only_where_they_belong),
        cmocka_unit_test(a_header_has_nothing_reserved),
        cmocka_unit_test(each_run_has_to_be_one),
        cmocka_unit_test(lists_have_to_fill_their_frame),
        cmocka_unit_test(pages_head_comes_before_its_data),
        cmocka_unit_test(zero_pages_are_runs_alone),
        cmocka_unit_test(the_largest_frame_is_taken),
        cmocka_unit_test(pages_that_are_not_as_they_should_be),
        cmocka_unit_test(texts_are_made_printable),
        cmocka_unit_test(token_files_are_secret_and_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
