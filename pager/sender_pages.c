/* PAGES frames: made of pages of the guest as they are mapped, without a copy. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include "sender_state.h"

typedef uint64_t block __attribute__((vector_size(64), aligned(64)));

/* As wide as the machine has it. Most pages that are not zero are not from the first bytes on. */
static bool is_zero(const uint8_t *page)
{
    const block *blocks = (const block *)(const void *)page;

    for (unsigned int i = 0; i < WIRE_PAGE_SIZE / sizeof(block); i += 4) {
        block any = blocks[i] | blocks[i + 1] | blocks[i + 2] | blocks[i + 3];

        if (any[0] | any[1] | any[2] | any[3] | any[4] | any[5] | any[6] | any[7])
            return false;
    }
    return true;
}

/* A run that goes on, or another one. False: there is no room for it. */
static bool add_run(struct sender_frame *frame, uint64_t gfn, uint32_t kind)
{
    struct wire_run last;

    if (frame->runs) {
        last = wire_run(frame->head + WIRE_HEAD_SIZE, frame->runs - 1);
        if (last.word == kind && last.first + last.count == gfn && last.count < WIRE_RUN_MAX) {
            wire_add_run(frame->head, frame->runs - 1, last.first, last.count + 1, kind);
            return true;
        }
    }
    if (frame->runs == WIRE_BATCH_MAX)
        return false;
    wire_add_run(frame->head, frame->runs++, gfn, 1, kind);
    return true;
}

static void add_contents(struct sender_frame *frame, const uint8_t *page, bool hashed)
{
    struct iovec *last = &frame->iov[frame->n_iov - 1];

    if (hashed)
        frame->hashes[frame->contents] = XXH64(page, WIRE_PAGE_SIZE, 0);
    frame->contents++;
    if (frame->n_iov > 1 && (uint8_t *)last->iov_base + last->iov_len == page) {
        last->iov_len += WIRE_PAGE_SIZE;
        return;
    }
    frame->iov[frame->n_iov++] =
        (struct iovec){.iov_base = (void *)(uintptr_t)page, .iov_len = WIRE_PAGE_SIZE};
}

/* False: the frame is full. */
static bool add_page(struct sender_frame *frame, uint64_t gfn, const uint8_t *page, uint32_t flags,
                     bool zeros)
{
    if (zeros && is_zero(page)) {
        if (!add_run(frame, gfn, WIRE_ZERO))
            return false;
        frame->zeros++;
    } else {
        if (frame->contents == WIRE_PAGES_MAX || !add_run(frame, gfn, WIRE_CONTENTS))
            return false;
        add_contents(frame, page, flags & WIRE_PAGES_HASHED);
    }
    frame->pages++;
    return true;
}

static void finish(struct sender_frame *frame, uint32_t flags)
{
    if (!frame->pages)
        return;
    for (uint32_t i = 0; flags & WIRE_PAGES_HASHED && i < frame->contents; i++)
        wire_add_hash(frame->head, frame->runs, i, frame->hashes[i]);
    frame->head_size = wire_finish_pages_head(frame->head, frame->runs, frame->contents, flags);
    frame->iov[0] = (struct iovec){.iov_base = frame->head, .iov_len = frame->head_size};
    frame->size = frame->head_size + (size_t)frame->contents * WIRE_PAGE_SIZE;
}

uint64_t sender_choose_pushed(struct sender *s, struct sender_choice *choice, uint64_t most, uint64_t now)
{
    uint64_t first, total = 0;
    unsigned int n;

    while (total < most && choice->n < WIRE_BATCH_MAX &&
           (n = push_order_next_run(&s->order, &first, (unsigned int)(most - total)))) {
        choice->runs[choice->n++] = (struct wire_run){.first = first, .count = n};
        total += n;
    }
    s->credit_used += total;
    push_rate_sent(&s->rate, now, total * WIRE_PAGE_SIZE);
    return total;
}

int sender_fill(struct sender_frame *frame, struct sender_choice *choice, struct map_cache *maps,
                uint32_t flags, bool zeros, uint64_t *gfn)
{
    int rc = 0;

    frame->n_iov = 1;
    frame->runs = frame->contents = frame->zeros = frame->pages = 0;
    frame->sent = frame->size = 0;
    map_cache_next_round(maps);
    while (sender_chosen(choice)) {
        const struct wire_run *run = &choice->runs[choice->run];
        const uint8_t *page;

        *gfn = run->first + choice->at;
        page = map_cache_page(maps, *gfn, &rc);
        if (!page && rc != -EAGAIN)
            return rc;
        if (!page || !add_page(frame, *gfn, page, flags, zeros))
            break;
        if (++choice->at == run->count) {
            choice->run++;
            choice->at = 0;
        }
    }
    finish(frame, flags);
    return 0;
}

int sender_send_frame(int fd, struct sender_frame *frame)
{
    struct iovec iov[1 + WIRE_PAGES_MAX];
    struct msghdr msg = {.msg_iov = iov};
    size_t skip = frame->sent;
    ssize_t n;

    for (int i = 0; i < frame->n_iov; i++) {
        if (skip >= frame->iov[i].iov_len) {
            skip -= frame->iov[i].iov_len;
            continue;
        }
        iov[msg.msg_iovlen].iov_base = (uint8_t *)frame->iov[i].iov_base + skip;
        iov[msg.msg_iovlen++].iov_len = frame->iov[i].iov_len - skip;
        skip = 0;
    }
    n = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    frame->sent += (size_t)n;
    if (frame->sent < frame->size)
        return 0;
    frame->size = 0;
    return 1;
}
