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

static void decode(const struct frame_reader *reader, struct push_order *order, struct run_hash *set)
{
    const uint8_t *body = reader->body;
    struct wire_hello hello,
        expect = {.version = WIRE_VERSION, .page_shift = WIRE_PAGE_SHIFT, .offered = WIRE_FEATURES};
    struct wire_hello_ack ack;
    struct wire_complete complete;
    struct wire_fault theirs, fault;
    uint64_t a, b;
    uint32_t n, flags;

    switch (reader->type) {
    case WIRE_HELLO:
        if (wire_get_hello(body, &hello, &fault) == 0)
            wire_judge_hello(&hello, &expect, &a, &fault);
        break;
    case WIRE_HELLO_ACK:
        if (wire_get_hello_ack(body, &ack, &fault) == 0)
            wire_judge_hello_ack(&ack, &expect, &fault);
        break;
    case WIRE_REFUSE:
    case WIRE_ERROR:
        if (wire_get_fault(body, reader->length, &theirs, &fault) == 0)
            REQUIRE(strlen(theirs.text) <= WIRE_TEXT_MAX);
        break;
    case WIRE_SET:
        if (wire_get_set(body, reader->length, &n, &fault))
            break;
        for (uint32_t i = 0; i < n; i++) {
            wire_pair(body, i, &a, &b);
            if (run_hash_add(set, a, b, order->set.nr))
                break;
            for (uint64_t gfn = a; gfn < a + b; gfn++)
                push_order_add(order, gfn, 1);
        }
        break;
    case WIRE_REQUEST:
    case WIRE_DROP:
        if (wire_get_runs(body, reader->length, WIRE_REQUEST_RESEND, WIRE_VCPU_WAITS, &n, &flags, &fault))
            break;
        for (uint32_t i = 0; i < n; i++) {
            struct wire_run run = wire_run(body, i);

            for (uint64_t gfn = run.first; gfn < run.first + run.count; gfn++) {
                if (reader->type == WIRE_DROP)
                    push_order_drop(order, gfn);
                else
                    push_order_request(order, gfn, run.word, flags, 0);
            }
        }
        break;
    case WIRE_CREDIT:
        wire_get_credit(body, &n, &fault);
        break;
    case WIRE_GONE:
        wire_get_gone(body, &n, &fault);
        break;
    case WIRE_COMPLETE:
        wire_get_complete(body, &complete);
        break;
    default:
        break;
    }
}

void fuzz_frames(const uint8_t *data, size_t size)
{
    static struct frame_reader reader;
    struct push_order order;
    struct run_hash set;
    uint64_t gfns[WIRE_BATCH_MAX], first;
    enum wire_state state;
    size_t done = 1, skip;

    if (size < 1)
        return;
    REQUIRE(push_order_init(&order, 300) == 0);
    run_hash_init(&set);
    frame_reader_init(&reader, data[0] & 1 ? WIRE_RECEIVER : WIRE_SERVER);
    state = (enum wire_state)(data[0] / 2 % WIRE_STATES);
    while (done < size) {
        uint8_t *where;
        size_t n = frame_reader_space(&reader, &where);

        REQUIRE(n > 0);
        if (n > size - done)
            n = size - done;
        memcpy(where, data + done, n);
        done += n;
        switch (frame_reader_advance(&reader, n, state)) {
        case FRAME_MORE:
            break;
        case FRAME_DONE:
            decode(&reader, &order, &set);
            state = (enum wire_state)((state + reader.length) % WIRE_STATES);
            frame_reader_next(&reader);
            break;
        case FRAME_PAGES:
            REQUIRE(reader.pages >= 1 && reader.pages <= WIRE_BATCH_MAX);
            skip = (size_t)reader.pages * WIRE_PAGE_SIZE;
            done = skip < size - done ? done + skip : size;
            frame_reader_next(&reader);
            break;
        case FRAME_BAD:
            REQUIRE(reader.fault.code != WIRE_OK && strlen(reader.fault.text) <= WIRE_TEXT_MAX);
            done = size;
        }
    }
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
