/* Batches of pages, sent straight from the mapped guest. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include "exit_status.h"
#include "log.h"
#include "serve.h"

uint8_t *serve_control(struct server *s, size_t room)
{
    if (s->control_start == s->control_end)
        s->control_start = s->control_end = 0;
    if (SERVE_CONTROL - s->control_end < room) {
        memmove(s->control, s->control + s->control_start, s->control_end - s->control_start);
        s->control_end -= s->control_start;
        s->control_start = 0;
    }
    return s->control + s->control_end;
}

void serve_drop_batch(struct server *s)
{
    if (!s->batch.pages)
        return;
    /* A frame that has begun has to be finished: only an untouched one may go, or one of a connection that
     * ends. */
    s->be->ops->unmap(s->be, s->batch.map, s->batch.pages);
    s->batch.pages = 0;
}

/* Pages that someone waits for are never held back. */
static bool may_push(const struct server *s)
{
    return !s->rate.bytes || s->rate.due <= monotonic_ns();
}

/* Pages that were asked for, then as many of the others as may be pushed. */
static unsigned int next_ordered(struct server *s, uint64_t *gfns, unsigned int most)
{
    unsigned int n = push_order_next_urgent(&s->order, gfns, most), asked_for, count;
    uint64_t first, hinted = s->order.sent_hinted;

    if (!may_push(s) && s->order.hinted_left < most - n)
        most = n + (unsigned int)s->order.hinted_left;
    asked_for = n;
    while (n < most && (count = push_order_next_run(&s->order, &first, most - n))) {
        for (unsigned int i = 0; i < count; i++)
            gfns[n++] = first + i;
    }
    asked_for += (unsigned int)(s->order.sent_hinted - hinted);
    if (s->rate.bytes && n > asked_for)
        push_rate_sent(&s->rate, monotonic_ns(), (n - asked_for) * WIRE_PAGE_SIZE);
    return n;
}

static unsigned int next_gfns(struct server *s, uint64_t *gfns)
{
    unsigned int most = s->credit < WIRE_BATCH_MAX ? (unsigned int)s->credit : WIRE_BATCH_MAX, n = 0;

    if (s->state == WIRE_IN_ACTIVE)
        return next_ordered(s, gfns, most);
    while (n < most) {
        s->verify_cursor = gfn_bitmap_next(&s->populated, s->verify_cursor);
        if (s->verify_cursor >= s->populated.nr)
            break;
        gfns[n++] = s->verify_cursor++;
    }
    return n;
}

static void build_batch(struct server *s)
{
    struct serve_batch *b = &s->batch;
    uint64_t gfns[WIRE_BATCH_MAX];
    int err[WIRE_BATCH_MAX] = {0};
    bool hashed = s->features & WIRE_FEATURE_HASH;
    uint32_t flags = (hashed ? WIRE_PAGES_HASHED : 0) | (s->state == WIRE_IN_VERIFY ? WIRE_PAGES_COMPARE : 0);
    unsigned int n = next_gfns(s, gfns);

    if (!n)
        return;
    b->map = s->be->ops->map(s->be, gfns, n, err);
    if (!b->map) {
        serve_fail(s, WIRE_ERROR_MAP, "%u pages from gfn 0x%llx cannot be mapped: %s", n,
                   (unsigned long long)gfns[0], strerror(errno));
        return;
    }
    b->pages = n;
    b->sent = 0;
    for (unsigned int i = 0; i < n; i++) {
        const uint8_t *page = (const uint8_t *)b->map + (size_t)i * WIRE_PAGE_SIZE;

        if (err[i]) {
            serve_fail(s, WIRE_ERROR_MAP, "gfn 0x%llx cannot be mapped: %s", (unsigned long long)gfns[i],
                       strerror(-err[i]));
            return;
        }
        wire_add_pair(b->head, i, gfns[i], hashed ? XXH64(page, WIRE_PAGE_SIZE, 0) : 0);
    }
    b->head_size = wire_finish_pages_head(b->head, n, flags);
    s->credit -= n;
    s->batches++;
    if (s->state == WIRE_IN_VERIFY)
        s->compared += n;
}

/* The receiver has closed: what it said before counts, if it is there to be read. */
static void broken(struct server *s)
{
    const char *why = strerror(errno);

    serve_readable(s);
    if (!session_final(s->run.state) && !s->delivered)
        serve_lost(s, why);
}

/* Send what is left of head and pages. True when all of it is out. */
static bool send_batch(struct server *s)
{
    struct serve_batch *b = &s->batch;
    size_t total = b->head_size + (size_t)b->pages * WIRE_PAGE_SIZE;
    struct iovec iov[2];
    struct msghdr msg = {.msg_iov = iov};
    ssize_t n;

    if (b->sent < b->head_size) {
        iov[0] = (struct iovec){b->head + b->sent, b->head_size - b->sent};
        iov[1] = (struct iovec){b->map, (size_t)b->pages * WIRE_PAGE_SIZE};
        msg.msg_iovlen = 2;
    } else {
        iov[0] = (struct iovec){(uint8_t *)b->map + (b->sent - b->head_size), total - b->sent};
        msg.msg_iovlen = 1;
    }
    n = sendmsg(s->sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            broken(s);
        return false;
    }
    b->sent += (size_t)n;
    s->bytes += (uint64_t)n;
    if (b->sent < total)
        return false;
    serve_drop_batch(s);
    return true;
}

static bool send_control(struct server *s)
{
    while (s->control_start < s->control_end) {
        ssize_t n = send(s->sock, s->control + s->control_start, s->control_end - s->control_start,
                         MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR)
                broken(s);
            return false;
        }
        s->control_start += (size_t)n;
    }
    return true;
}

static bool pages_to_send(const struct server *s)
{
    if (s->given_up)
        return false;
    if (s->state == WIRE_IN_ACTIVE)
        return s->credit && s->order.left && (s->order.urgent_left || s->order.hinted_left || may_push(s));
    return s->state == WIRE_IN_VERIFY && s->credit;
}

void serve_want_write(struct server *s)
{
    bool wanted = s->batch.pages || s->control_start < s->control_end || (!s->closing && pages_to_send(s));

    if (wanted && !ev_is_active(&s->writer_io))
        ev_io_start(s->run.loop, &s->writer_io);
    else if (!wanted && ev_is_active(&s->writer_io))
        ev_io_stop(s->run.loop, &s->writer_io);
    if (!wanted && !ev_is_active(&s->rate_timer)) {
        uint64_t now = monotonic_ns();

        if (s->rate.due <= now)
            return;
        ev_now_update(s->run.loop);
        ev_timer_set(&s->rate_timer, (double)(s->rate.due - now) / 1e9, 0.);
        ev_timer_start(s->run.loop, &s->rate_timer);
    }
}

static void on_rate_timer(struct ev_loop *loop, ev_timer *w, int events)
{
    struct server *s = w->data;

    (void)loop;
    (void)events;
    if (s->sock >= 0 && !session_final(s->run.state) && !s->delivered)
        serve_want_write(s);
}

void serve_push_init(struct server *s)
{
    s->rate.bytes = (uint64_t)s->options->max_push << 20;
    ev_timer_init(&s->rate_timer, on_rate_timer, 0., 0.);
    s->rate_timer.data = s;
}

static void after_batch(struct server *s)
{
    if (s->state == WIRE_IN_ACTIVE && s->order.left == 0 && s->run.state == SESSION_ACTIVE)
        session_run_enter(&s->run, SESSION_DRAIN, "every page has been sent");
    if (s->state == WIRE_IN_VERIFY && gfn_bitmap_next(&s->populated, s->verify_cursor) >= s->populated.nr) {
        s->control_end += wire_put_count(serve_control(s, WIRE_HEAD_SIZE + 8), WIRE_VERIFY_END, s->compared);
        s->state = WIRE_IN_ACTIVE;
    }
}

void serve_writable(struct server *s)
{
    /* A frame that has begun is finished first, then answers, then the next batch. */
    if (s->batch.pages) {
        if (!send_batch(s))
            goto out;
        after_batch(s);
    }
    if (!send_control(s))
        goto out;
    if (s->closing) {
        shutdown(s->sock, SHUT_WR);
        if (s->completed)
            serve_delivered(s);
        else
            ev_break(s->run.loop, EVBREAK_ALL);
        return;
    }
    if (pages_to_send(s)) {
        build_batch(s);
        if (!session_final(s->run.state) && (!s->batch.pages || send_batch(s)))
            after_batch(s);
    }
out:
    if (!session_final(s->run.state) && !s->delivered)
        serve_want_write(s);
}
