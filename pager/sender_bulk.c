/*
 * Bulk channels: a thread each, which sends pages that nobody waits for, within credit and no more ahead of
 * the receiver than pace.h lets it, and reads on the same channel how many have been taken.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "sandbox.h"
#include "sender_state.h"
#include "wake.h"

/* The main thread says so: to serve, and on the control channel. */
static void fail(struct sender_bulk *b, const struct wire_fault *fault, bool lost)
{
    struct sender *s = b->s;

    pthread_mutex_lock(&s->lock);
    if (!s->bulk_fault.code) {
        s->bulk_fault = *fault;
        s->bulk_lost = lost;
    }
    pthread_mutex_unlock(&s->lock);
    wake_kick(s->failed_fd);
}

static bool lost(struct sender_bulk *b, const char *text)
{
    struct wire_fault fault;

    wire_fault_set(&fault, WIRE_ERROR_INTERNAL, "bulk channel %u: %s", b->index, text);
    fail(b, &fault, true);
    return false;
}

static bool acknowledged(struct sender_bulk *b)
{
    struct wire_fault fault;
    uint64_t total = wire_get_count(b->reader.body);

    if (b->reader.type == WIRE_ERROR) {
        if (wire_get_fault(b->reader.body, b->reader.length, &fault, &b->reader.fault))
            fault = b->reader.fault;
        fail(b, &fault, false);
        return false;
    }
    if (pace_acked(&b->pace, total, monotonic_ns()) == 0)
        return true;
    wire_fault_set(&fault, WIRE_ERROR_PROTOCOL, "ACK of %llu pages on bulk channel %u, %llu were sent",
                   (unsigned long long)total, b->index, (unsigned long long)b->pace.sent);
    fail(b, &fault, false);
    return false;
}

/* All that has come. False: the channel has failed. */
static bool read_acks(struct sender_bulk *b)
{
    uint8_t bytes[512];
    ssize_t n = recv(b->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n <= 0)
        return lost(b, n ? strerror(errno) : "the receiver closed it");
    for (size_t done = 0; done < (size_t)n;) {
        enum frame_event event;

        done += frame_reader_take(&b->reader, bytes + done, (size_t)n - done, WIRE_IN_ACTIVE, &event);
        if (event == FRAME_MORE)
            continue;
        if (event != FRAME_DONE) {
            fail(b, &b->reader.fault, false);
            return false;
        }
        if (!acknowledged(b))
            return false;
        frame_reader_next(&b->reader);
    }
    return true;
}

/* Wait for the receiver, for somebody who has something to send, or for ms; and for room, with a frame. */
static bool wait_a_while(struct sender_bulk *b, int ms)
{
    struct pollfd p[2] = {{.fd = b->fd, .events = POLLIN}, {.fd = b->wake, .events = POLLIN}};

    if (b->frame.size)
        p[0].events |= POLLOUT;
    if (poll(p, 2, ms) < 0 && errno != EINTR)
        return lost(b, strerror(errno));
    if (p[1].revents)
        wake_clear(b->wake);
    return read_acks(b);
}

/* With the lock held: as many pages as may go now. ms: if none, until when that may change by itself. */
static uint64_t may_send(struct sender_bulk *b, uint64_t now, int *ms)
{
    struct sender *s = b->s;
    uint64_t room = pace_room(&b->pace), chunk = push_order_chunk(&s->order, now);

    if (chunk < pace_least(&b->pace))
        chunk = pace_least(&b->pace);
    *ms = -1;
    if (s->quiet || !s->order.left || s->credit == s->credit_used)
        return 0;
    if (s->rate.due > now) {
        *ms = (int)((s->rate.due - now) / 1000000u) + 1;
        return 0;
    }
    if (!room) {
        pace_full(&b->pace);
        return 0;
    }
    if (room > chunk)
        room = chunk;
    return room < s->credit - s->credit_used ? room : s->credit - s->credit_used;
}

/* 0: nothing may be sent now. */
static uint64_t choose(struct sender_bulk *b, int *ms)
{
    struct sender *s = b->s;
    uint64_t now = monotonic_ns(), total, most;

    sender_choose_none(&b->choice);
    pthread_mutex_lock(&s->lock);
    most = may_send(b, now, ms);
    total = most ? sender_choose_pushed(s, &b->choice, most, now) : 0;
    b->idle = total == 0;
    pthread_mutex_unlock(&s->lock);
    return total;
}

/* A frame is whole: what it turned out to be. */
static void count(struct sender_bulk *b, uint64_t maps)
{
    struct sender *s = b->s;
    struct sender_figures *f = s->config->figures;
    bool last;

    pthread_mutex_lock(&s->lock);
    /* A zero page takes no slot. */
    s->credit_used -= b->frame.zeros;
    f->bytes += b->frame.size;
    f->frames++;
    f->zeros += b->frame.zeros;
    f->maps += maps;
    f->window = pace_window(&b->pace);
    f->page_ns = (uint64_t)b->pace.page_ns;
    f->delay_ns = b->pace.base_ns;
    last = s->order.left == 0;
    pthread_mutex_unlock(&s->lock);
    if (last)
        wake_kick(s->failed_fd);
}

static bool send_frame(struct sender_bulk *b)
{
    int rc;

    while ((rc = sender_send_frame(b->fd, &b->frame)) == 0)
        if (!wait_a_while(b, -1))
            return false;
    return rc > 0 || lost(b, strerror(errno));
}

static bool send_chosen(struct sender_bulk *b)
{
    struct sender *s = b->s;
    uint32_t flags = s->features & WIRE_FEATURE_HASH ? WIRE_PAGES_HASHED : 0;

    while (sender_chosen(&b->choice)) {
        uint64_t gfn = 0, maps = b->maps.calls;
        struct wire_fault fault;
        int rc = sender_fill(&b->frame, &b->choice, &b->maps, flags, s->features & WIRE_FEATURE_ZERO, &gfn);

        if (rc) {
            wire_fault_set(&fault, WIRE_ERROR_MAP, "gfn 0x%llx cannot be mapped: %s", (unsigned long long)gfn,
                           strerror(-rc));
            fail(b, &fault, false);
            return false;
        }
        if (b->frame.contents)
            pace_sent(&b->pace, b->frame.contents, monotonic_ns());
        count(b, b->maps.calls - maps);
        if (!send_frame(b))
            return false;
    }
    return true;
}

static bool await_channel(struct sender_bulk *b)
{
    for (;;) {
        struct pollfd p = {.fd = b->wake, .events = POLLIN};
        bool there;

        pthread_mutex_lock(&b->s->lock);
        there = b->fd >= 0;
        pthread_mutex_unlock(&b->s->lock);
        if (there)
            return true;
        if (poll(&p, 1, -1) < 0 && errno != EINTR)
            return lost(b, strerror(errno));
        wake_clear(b->wake);
    }
}

void *sender_bulk_thread(void *data)
{
    struct sender_bulk *b = data;
    int ms;

    sandbox_thread();
    if (!await_channel(b))
        sandbox_thread_over();
    for (;;) {
        if (choose(b, &ms) ? !send_chosen(b) || !read_acks(b) : !wait_a_while(b, ms))
            sandbox_thread_over();
    }
}

void sender_bulk_join(struct sender *s, unsigned int index, int fd)
{
    struct sender_bulk *b = &s->bulk[index];

    pace_init(&b->pace, s->config->budget_ns);
    frame_reader_init(&b->reader, WIRE_SERVER, WIRE_BULK);
    pthread_mutex_lock(&s->lock);
    b->fd = fd;
    pthread_mutex_unlock(&s->lock);
    wake_kick(b->wake);
}

void sender_bulk_wake(struct sender *s)
{
    for (uint32_t i = 0; i < s->config->streams; i++) {
        bool idle;

        pthread_mutex_lock(&s->lock);
        idle = s->bulk[i].idle;
        s->bulk[i].idle = false;
        pthread_mutex_unlock(&s->lock);
        if (idle)
            wake_kick(s->bulk[i].wake);
    }
}
