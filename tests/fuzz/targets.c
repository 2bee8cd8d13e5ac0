#include "targets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/pagein.h"
#include "core/push_order.h"
#include "core/run_hash.h"
#include "pool.h"
#include "set_file.h"
#include "wire/frame_reader.h"

#define REQUIRE(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

static bool printable(const char *text, size_t most)
{
    size_t n = strlen(text);

    for (size_t i = 0; i < n; i++)
        if (text[i] < 0x20 || text[i] > 0x7e)
            return false;
    return n <= most;
}

/* Nothing is refused without a reason, and one that can be said. */
static void refused(const struct wire_fault *fault)
{
    REQUIRE(fault->code != WIRE_OK && printable(fault->text, WIRE_TEXT_MAX));
}

static void decode_hello(const uint8_t *body)
{
    struct wire_hello hello,
        expect = {.version = WIRE_VERSION, .page_shift = WIRE_PAGE_SHIFT, .offered = WIRE_FEATURES};
    struct wire_fault fault;
    uint64_t features;

    if (wire_get_hello(body, &hello, &fault) || wire_judge_hello(&hello, &expect, &features, &fault)) {
        refused(&fault);
        return;
    }
    REQUIRE((features & ~hello.offered) == 0 && (features & ~expect.offered) == 0 &&
            (hello.required & ~features) == 0);
    REQUIRE(hello.streams <= WIRE_STREAMS_MAX && hello.credit_max >= 1 &&
            hello.credit_max <= WIRE_CREDIT_MAX && hello.asked_max >= 1 && hello.asked_max <= WIRE_ASKED_MAX);
}

static void decode_hello_ack(const uint8_t *body)
{
    struct wire_hello sent = {.offered = WIRE_FEATURES, .streams = 2};
    struct wire_hello_ack ack;
    struct wire_fault fault;

    if (wire_get_hello_ack(body, &ack, &fault) || wire_judge_hello_ack(&ack, &sent, &fault)) {
        refused(&fault);
        return;
    }
    REQUIRE((ack.features & ~sent.offered) == 0 && ack.streams <= sent.streams && ack.generation == 1 &&
            ack.populated <= ack.nr_gfns && ack.nr_gfns <= WIRE_GFN_LIMIT);
}

static void decode_join(const uint8_t *body)
{
    const struct wire_join expect = {.version = WIRE_VERSION, .index = 2, .generation = 1};
    struct wire_join join;
    struct wire_fault fault;

    if (wire_get_join(body, &join, &fault) || wire_judge_join(&join, &expect, 1, &fault)) {
        refused(&fault);
        return;
    }
    REQUIRE(join.index == 1);
}

static void check_run(const struct wire_run *run, uint32_t most_word)
{
    REQUIRE(run->count >= 1 && run->count <= WIRE_RUN_MAX && run->word <= most_word);
    REQUIRE(run->first < WIRE_GFN_LIMIT && run->first + run->count <= WIRE_GFN_LIMIT);
}

static void decode_set(const struct frame_reader *reader, struct push_order *order, struct run_hash *set)
{
    const uint8_t *body = reader->body;
    struct wire_fault fault;
    uint64_t first, count;
    uint32_t n;

    if (wire_get_set(body, reader->length, &n, &fault)) {
        refused(&fault);
        return;
    }
    REQUIRE(n >= 1 && n <= WIRE_RUNS_MAX && reader->length == 8 + 16 * n);
    for (uint32_t i = 0; i < n; i++) {
        wire_pair(body, i, &first, &count);
        if (run_hash_add(set, first, count, order->set.nr))
            break;
        REQUIRE(count >= 1 && count <= order->set.nr && first <= order->set.nr - count);
        push_order_add(order, first, count);
    }
}

static void decode_runs(const struct frame_reader *reader, struct push_order *order)
{
    bool drop = reader->type == WIRE_DROP;
    uint32_t n, flags, most_word = drop ? 0 : WIRE_VCPU_WAITS;
    struct wire_fault fault;

    if (wire_get_runs(reader->body, reader->length, drop ? 0 : WIRE_REQUEST_RESEND, most_word, &n, &flags,
                      &fault)) {
        refused(&fault);
        return;
    }
    REQUIRE(n >= 1 && n <= WIRE_ASK_MAX && reader->length == 8 + 16 * n);
    for (uint32_t i = 0; i < n; i++) {
        struct wire_run run = wire_run(reader->body, i);

        check_run(&run, most_word);
        for (uint64_t gfn = run.first; gfn < run.first + run.count; gfn++) {
            if (drop)
                push_order_drop(order, gfn);
            else
                push_order_request(order, gfn, run.word, flags, 0);
        }
    }
}

static void decode(const struct frame_reader *reader, struct push_order *order, struct run_hash *set)
{
    const uint8_t *body = reader->body;
    struct wire_complete complete;
    struct wire_fault theirs, fault;
    uint32_t n;

    switch (reader->type) {
    case WIRE_HELLO:
        decode_hello(body);
        break;
    case WIRE_HELLO_ACK:
        decode_hello_ack(body);
        break;
    case WIRE_JOIN:
        decode_join(body);
        break;
    case WIRE_JOIN_ACK:
        if (wire_get_join_ack(body, &n, &fault))
            refused(&fault);
        break;
    case WIRE_REFUSE:
    case WIRE_ERROR:
        if (wire_get_fault(body, reader->length, &theirs, &fault))
            refused(&fault);
        else
            REQUIRE(printable(theirs.text, WIRE_TEXT_MAX));
        break;
    case WIRE_SET:
        decode_set(reader, order, set);
        break;
    case WIRE_REQUEST:
    case WIRE_DROP:
        decode_runs(reader, order);
        break;
    case WIRE_CREDIT:
    case WIRE_ACK:
        wire_get_count(body);
        break;
    case WIRE_GONE:
        if (wire_get_gone(body, &n, &fault))
            refused(&fault);
        else
            REQUIRE(n >= WIRE_GONE_DESTROYED && n <= WIRE_GONE_HANDED_BACK);
        break;
    case WIRE_COMPLETE:
        wire_get_complete(body, &complete);
        break;
    default:
        break;
    }
}

/* The head of PAGES: bytes of contents that follow. */
static size_t decode_pages(const struct frame_reader *reader)
{
    uint64_t hashes = 0;
    uint32_t contents = 0;

    REQUIRE(reader->runs >= 1 && reader->runs <= WIRE_BATCH_MAX && reader->pages <= WIRE_PAGES_MAX);
    REQUIRE((reader->flags & ~(WIRE_PAGES_COMPARE | WIRE_PAGES_HASHED | WIRE_PAGES_ASKED)) == 0);
    for (uint32_t i = 0; i < reader->runs; i++) {
        struct wire_run run = wire_run(reader->body, i);

        check_run(&run, WIRE_ZERO);
        contents += run.word == WIRE_CONTENTS ? run.count : 0;
    }
    REQUIRE(contents == reader->pages);
    if (reader->flags & WIRE_PAGES_HASHED)
        for (uint32_t i = 0; i < reader->pages; i++, hashes++)
            wire_hash(reader->body, reader->runs, i);
    /* What is there by now is all but the contents. */
    REQUIRE(reader->have == 8 + 16 * reader->runs + 8 * hashes &&
            reader->length == reader->have + (size_t)contents * WIRE_PAGE_SIZE);
    return (size_t)contents * WIRE_PAGE_SIZE;
}

/* Where a receiver and a serve, and each of their channels, begin: the first byte of the input. */
static enum wire_state begin(struct frame_reader *reader, uint8_t how)
{
    frame_reader_init(reader, how & 1 ? WIRE_RECEIVER : WIRE_SERVER, how & 2 ? WIRE_BULK : WIRE_CONTROL);
    return (enum wire_state)(how / 4 % WIRE_STATES);
}

static void feed(const uint8_t *data, size_t size, struct push_order *order, struct run_hash *set)
{
    static struct frame_reader reader;
    enum wire_state state = begin(&reader, data[0]);
    size_t done = 1, skip;

    while (done < size) {
        uint8_t *where;
        size_t n = frame_reader_space(&reader, &where);

        REQUIRE(n > 0 && n <= sizeof(reader.body));
        if (n > size - done)
            n = size - done;
        memcpy(where, data + done, n);
        done += n;
        switch (frame_reader_advance(&reader, n, state)) {
        case FRAME_MORE:
            break;
        case FRAME_DONE:
            /* It was allowed before the body was read. */
            REQUIRE(wire_allowed(reader.type, reader.length, reader.role, reader.channel, state,
                                 &reader.fault) == 0);
            decode(&reader, order, set);
            state = (enum wire_state)((state + reader.length) % WIRE_STATES);
            frame_reader_next(&reader);
            REQUIRE(frame_reader_idle(&reader));
            break;
        case FRAME_PAGES:
            REQUIRE(reader.role == WIRE_RECEIVER);
            skip = decode_pages(&reader);
            done = skip < size - done ? done + skip : size;
            frame_reader_next(&reader);
            break;
        case FRAME_BAD:
            refused(&reader.fault);
            done = size;
        }
    }
}

void fuzz_frames(const uint8_t *data, size_t size)
{
    struct push_order order;
    struct run_hash set;
    uint64_t gfns[WIRE_BATCH_MAX], first;

    if (size < 1)
        return;
    REQUIRE(push_order_init(&order, 300) == 0);
    run_hash_init(&set);
    feed(data, size, &order, &set);
    while (push_order_next_urgent(&order, gfns, WIRE_BATCH_MAX) || push_order_next_run(&order, &first, 512))
        ;
    REQUIRE(order.left == 0 && order.urgent_left == 0 && order.hinted_left == 0 &&
            order.sent - order.resent == order.different_sent);
    REQUIRE(order.different_sent + order.dropped == order.in_set);
    push_order_free(&order);
}

void fuzz_pool(const uint8_t *data, size_t size)
{
    struct pool_descriptor d;
    struct pool pool;
    size_t done = 0;

    REQUIRE(pool_create(&pool, 64) == 0);
    while (size - done >= 4) {
        /* The hostile end writes 3 bytes somewhere in the control words or the first entries, then this end
         * looks. */
        size_t at = ((size_t)data[done] << 4 | data[done + 1] >> 4) % 8192;
        uint8_t *half = data[done + 1] & 1 ? (uint8_t *)pool.reports.shared : (uint8_t *)pool.base;

        memcpy(half + at, data + done + 2, 2);
        for (int i = 0; i < 4; i++)
            if (pool_ring_take(&pool.reports, &d) <= 0)
                break;
        REQUIRE(pool_ring_space(&pool.orders) <= pool.orders.size);
        pool_ring_put(&pool.orders, &(struct pool_descriptor){.type = ORDER_ASK});
        done += 4;
    }
    pool_destroy(&pool);
}

void fuzz_pagein(const uint8_t *data, size_t size)
{
    struct pagein p;
    struct ring_entry entry;
    unsigned int unanswered = 0;

    REQUIRE(pagein_init(&p, 16) == 0);
    for (uint64_t gfn = 0; gfn < 14; gfn++)
        pagein_mark(&p, gfn);
    for (size_t i = 0; i + 1 < size; i += 2) {
        uint64_t gfn = data[i] % 18;
        struct pagein_action action;

        switch (data[i + 1] % 4) {
        case 0:
            if (unanswered == 8)
                break;
            entry = (struct ring_entry){.gfn = gfn, .kind = data[i + 1] / 4 % 32};
            unanswered++;
            action = pagein_entry(&p, &entry, i);
            if (action.verdict == PAGEIN_REPAIR)
                action = pagein_repaired(&p, &entry, data[i] & 64 ? -EINVAL : 0, i);
            REQUIRE(action.verdict != PAGEIN_REPAIR);
            unanswered -= action.verdict == PAGEIN_ANSWER;
            if (action.dropped)
                while (pagein_release(&p, gfn, i, &entry))
                    unanswered--;
            break;
        case 1:
            pagein_arrived(&p, gfn);
            break;
        case 2:
            if (pagein_state(&p, gfn) == PAGE_ARRIVED)
                pagein_bad_hash(&p, gfn);
            break;
        case 3:
            if (pagein_state(&p, gfn) == PAGE_ARRIVED && pagein_installed(&p, gfn,
                                                                          data[i + 1] & 64   ? 0
                                                                          : data[i + 1] & 32 ? -ENOENT
                                                                                             : -ENOMEM))
                while (pagein_release(&p, gfn, i, &entry))
                    unanswered--;
            break;
        }
        REQUIRE(p.waiting == unanswered);
        REQUIRE(p.counts.installed + p.counts.dropped + p.counts.replaced + pagein_outstanding(&p) ==
                p.counts.set);
        REQUIRE(p.bad <= p.requested + p.arrived);
    }
    pagein_free(&p);
}

void fuzz_set_file(const uint8_t *data, size_t size)
{
    struct set_file set;
    char why[256];
    uint64_t count = 0;
    int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    REQUIRE(fd >= 0);
    /* Small numbers of gfns are the ones that get anywhere. */
    REQUIRE(write(fd, SET_FILE_MAGIC, 8) == 8);
    if (size > 1)
        REQUIRE(write(fd, (uint8_t[8]){data[0]}, 8) == 8 && write(fd, (uint8_t[8]){data[1]}, 8) == 8 &&
                write(fd, data + 2, size - 2) == (ssize_t)size - 2);
    if (size > 1 && data[0] <= 64 && ftruncate(fd, SET_FILE_HEAD + (data[0] ? 8 : 0)))
        REQUIRE(false);
    REQUIRE(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0);
    if (set_file_load(fd, &set, true, why, sizeof(why)) == 0) {
        for (uint64_t gfn = 0; (gfn = gfn_bitmap_next(&set.map, gfn)) < set.map.nr; gfn++)
            count++;
        REQUIRE(count == set.count);
        REQUIRE(set.map.nr == 0 || gfn_bitmap_test(&set.map, set.map.nr - 1));
        set_file_free(&set);
    }
    close(fd);
}
