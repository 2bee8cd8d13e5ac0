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

static uint8_t frame[WIRE_HEAD_SIZE + WIRE_CONTROL_MAX];
static struct frame_reader reader;
static struct wire_fault fault;

/* Feed bytes in pieces of the given size; the first event that is not FRAME_MORE. */
static enum frame_event feed(const uint8_t *bytes, size_t n, size_t piece, enum wire_role role,
                             enum wire_state state)
{
    size_t done = 0;

    frame_reader_init(&reader, role);
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

static struct wire_hello hello(void)
{
    struct wire_hello h = {.version = WIRE_VERSION,
                           .role = WIRE_RECEIVER,
                           .page_shift = WIRE_PAGE_SHIFT,
                           .offered = WIRE_FEATURES,
                           .required = WIRE_FEATURE_HASH,
                           .credit_max = 256};

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
    h = hello(), h.credit_max = 0, refused(&h, WIRE_REFUSE_CREDIT);
    h = hello(), h.credit_max = UINT64_MAX, refused(&h, WIRE_REFUSE_CREDIT);
    /* With a wrong token nothing about the domain is said. */
    h = hello(), h.token[3] ^= 1, h.uuid[0] ^= 1, refused(&h, WIRE_REFUSE_TOKEN);
    /* Unknown features that are only offered are no reason. */
    h = hello(), h.offered |= UINT64_C(1) << 63;
    assert_int_equal(wire_judge_hello(&h, &serve, &features, &fault), 0);
    assert_int_equal(features, WIRE_FEATURES);
    /* Wrong magic, and a reserved field that is not 0. */
    h = hello();
    wire_put_hello(frame, &h);
    frame[WIRE_HEAD_SIZE] ^= 1;
    assert_int_equal(wire_get_hello(frame + WIRE_HEAD_SIZE, &h, &fault), -EPROTO);
    assert_int_equal(fault.code, WIRE_REFUSE_MAGIC);
    frame[WIRE_HEAD_SIZE] ^= 1;
    frame[WIRE_HEAD_SIZE + 13] = 1;
    assert_int_equal(wire_get_hello(frame + WIRE_HEAD_SIZE, &h, &fault), -EPROTO);
    assert_int_equal(fault.code, WIRE_REFUSE_MALFORMED);
}

static void hello_ack_is_checked(void **state)
{
    struct wire_hello sent = hello();
    struct wire_hello_ack ack = {.features = WIRE_FEATURES, .populated = 10, .nr_gfns = 20}, out;

    (void)state;
    memcpy(ack.uuid, sent.uuid, sizeof(ack.uuid));
    assert_int_equal(wire_put_hello_ack(frame, &ack), WIRE_HEAD_SIZE + WIRE_ACK_SIZE);
    assert_int_equal(feed(frame, WIRE_HEAD_SIZE + WIRE_ACK_SIZE, 5, WIRE_RECEIVER, WIRE_IN_HELLO),
                     FRAME_DONE);
    assert_int_equal(wire_get_hello_ack(reader.body, &out, &fault), 0);
    assert_int_equal(wire_judge_hello_ack(&out, &sent, &fault), 0);
    /* Every byte but those of features, populated and nr_gfns has one right value. */
    for (size_t i = 0; i < WIRE_ACK_SIZE; i++) {
        if ((i >= 16 && i < 24) || (i >= 40 && i < 56))
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
    ack.nr_gfns = WIRE_GFN_LIMIT + 1;
    wire_put_hello_ack(frame, &ack);
    assert_int_equal(wire_get_hello_ack(frame + WIRE_HEAD_SIZE, &out, &fault), -EPROTO);
    ack.nr_gfns = 9;
    wire_put_hello_ack(frame, &ack);
    assert_int_equal(wire_get_hello_ack(frame + WIRE_HEAD_SIZE, &out, &fault), -EPROTO);
}

/* In which states which end takes which frame: the table of wire-format.md, written down a second time. */
static void frames_only_where_they_belong(void **state)
{
    static const struct {
        unsigned int type;
        const char *receiver, *server; /* states by first letter: Hello Set Active Verify Complete */
        uint32_t length;
    } table[] = {
        {WIRE_HELLO, "", "H", 88},         {WIRE_HELLO_ACK, "H", "", 64},    {WIRE_REFUSE, "H", "", 8},
        {WIRE_SET, "", "S", 24},           {WIRE_SET_END, "", "S", 16},      {WIRE_SET_ACK, "S", "", 16},
        {WIRE_CREDIT, "", "AV", 8},        {WIRE_REQUEST, "", "A", 24},      {WIRE_PAGES, "AVC", "", 4120},
        {WIRE_DROP, "", "A", 24},          {WIRE_VERIFY, "", "A", 8},        {WIRE_VERIFY_END, "V", "", 8},
        {WIRE_COMPLETE, "", "A", 48},      {WIRE_COMPLETE_ACK, "C", "", 24}, {WIRE_GONE, "", "SAVC", 8},
        {WIRE_ERROR, "HSAVC", "HSAVC", 8},
    };
    static const char letters[] = "HSAVC";

    (void)state;
    assert_int_equal(sizeof(table) / sizeof(table[0]), WIRE_TYPES - 1);
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        for (unsigned int s = 0; s < WIRE_STATES; s++) {
            bool r = strchr(table[i].receiver, letters[s]) != NULL,
                 v = strchr(table[i].server, letters[s]) != NULL;

            assert_int_equal(
                wire_allowed(table[i].type, table[i].length, WIRE_RECEIVER, (enum wire_state)s, &fault) == 0,
                r);
            assert_int_equal(
                wire_allowed(table[i].type, table[i].length, WIRE_SERVER, (enum wire_state)s, &fault) == 0,
                v);
            if (r || v) {
                enum wire_role role = r ? WIRE_RECEIVER : WIRE_SERVER;

                assert_true(
                    wire_allowed(table[i].type, table[i].length - 1, role, (enum wire_state)s, &fault));
                assert_true(wire_allowed(table[i].type, 300000, role, (enum wire_state)s, &fault));
                assert_true(wire_allowed(table[i].type, UINT32_MAX, role, (enum wire_state)s, &fault));
            }
        }
    }
    assert_true(wire_allowed(0, 8, WIRE_SERVER, WIRE_IN_ACTIVE, &fault));
    assert_true(wire_allowed(WIRE_TYPES, 8, WIRE_SERVER, WIRE_IN_ACTIVE, &fault));
    assert_true(wire_allowed(65535, 8, WIRE_SERVER, WIRE_IN_ACTIVE, &fault));
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
    put_u32(reader.body, 0);
    assert_true(wire_get_credit(reader.body, &n, &fault));
    put_u32(reader.body, WIRE_CREDIT_MAX + 1);
    assert_true(wire_get_credit(reader.body, &n, &fault));
    put_u32(reader.body, 3);
    assert_true(wire_get_gone(reader.body, &n, &fault));
}

static void pages_head_comes_before_its_data(void **state)
{
    size_t size;

    (void)state;
    for (uint32_t n = 1; n <= WIRE_BATCH_MAX; n += 21) {
        for (uint32_t i = 0; i < n; i++)
            wire_add_pair(frame, i, i * 3, i * 7);
        size = wire_finish_pages_head(frame, n, WIRE_PAGES_HASHED);
        for (size_t piece = 1; piece < 40; piece += 13) {
            uint64_t gfn, hash;

            assert_int_equal(feed(frame, size, piece, WIRE_RECEIVER, WIRE_IN_ACTIVE), FRAME_PAGES);
            assert_int_equal(reader.pages, n);
            wire_pair(reader.body, n - 1, &gfn, &hash);
            assert_int_equal(gfn, (n - 1) * 3);
            assert_int_equal(hash, (n - 1) * 7);
        }
    }
    /* The count has to be that of the length, the flags known. */
    wire_finish_pages_head(frame, 2, 0);
    put_u32(frame + 8, 3);
    assert_int_equal(feed(frame, 64, 8, WIRE_RECEIVER, WIRE_IN_ACTIVE), FRAME_BAD);
    wire_finish_pages_head(frame, 2, 8);
    assert_int_equal(feed(frame, 64, 8, WIRE_RECEIVER, WIRE_IN_ACTIVE), FRAME_BAD);
    wire_finish_pages_head(frame, 0, 0);
    assert_int_equal(feed(frame, 16, 8, WIRE_RECEIVER, WIRE_IN_ACTIVE), FRAME_BAD);
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
        cmocka_unit_test(hello_ack_is_checked),
        cmocka_unit_test(frames_only_where_they_belong),
        cmocka_unit_test(each_run_has_to_be_one),
        cmocka_unit_test(lists_have_to_fill_their_frame),
        cmocka_unit_test(pages_head_comes_before_its_data),
        cmocka_unit_test(texts_are_made_printable),
        cmocka_unit_test(token_files_are_secret_and_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
