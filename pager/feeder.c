#include "feeder.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "feeder_sandbox.h"
#include "feeder_state.h"

#define LAST_WORDS_MS 2000 /* of a serve that does not listen any more */

bool feeder_out_room(const struct feeder *f)
{
    /* A frame under construction, then one more order (which may begin another frame) and the credit. */
    size_t most = WIRE_HEAD_SIZE + WIRE_CONTROL_MAX + 3 * (WIRE_HEAD_SIZE + WIRE_HELLO_SIZE);

    return FEEDER_OUT - f->out_end >= most;
}

uint8_t *feeder_out(struct feeder *f)
{
    return f->out + f->out_end;
}

/* It has closed, and may have said why: that comes behind the pages that are under way. */
static void cannot_say(struct feeder *f)
{
    f->out_error = errno;
    f->out_start = f->out_end = 0;
}

static void flush(struct feeder *f)
{
    if (f->out_error)
        f->out_start = f->out_end = 0;
    while (f->out_start < f->out_end) {
        ssize_t n = write(f->channel.out, f->out + f->out_start, f->out_end - f->out_start);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (n < 0)
            return cannot_say(f);
        f->out_start += (size_t)n;
    }
    if (f->out_start == f->out_end) {
        f->out_start = f->out_end = 0;
    } else if (f->out_start > FEEDER_OUT / 2) {
        memmove(f->out, f->out + f->out_start, f->out_end - f->out_start);
        f->out_end -= f->out_start;
        f->out_start = 0;
    }
}

void feeder_fail(struct feeder *f, uint32_t code, uint32_t who, const char *fmt, ...)
{
    struct pool_descriptor report = {.type = REPORT_FAILED, .value = {code, who}};
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(f->pool->text, POOL_TEXT_SIZE, fmt, ap);
    va_end(ap);
    /* What the other end did wrong, it should hear: one attempt, the connection is over anyway. */
    if (who == FAILED_HERE && code < FEEDER_LOST && f->channel.out >= 0 && !f->out_error &&
        FEEDER_OUT - f->out_end >= WIRE_HEAD_SIZE + 8 + WIRE_TEXT_MAX) {
        struct wire_fault fault;

        wire_fault_set(&fault, code, "%s", f->pool->text);
        f->out_end += wire_put_fault(feeder_out(f), WIRE_ERROR, &fault);
        flush(f);
    }
    /* If the ring were full (it cannot be) the pager would see the process end all the same. */
    pool_ring_put(&f->pool->reports, &report);
    pool_ring_notify(&f->pool->reports);
    _exit(1);
}

/* Room in the reports ring for a whole frame of pages and an answer: it is made so that this is always true.
 */
static bool report_room(struct feeder *f)
{
    return pool_ring_space(&f->pool->reports) > WIRE_BATCH_MAX + 8;
}

/*
 * The last words are out. Pages that still come are thrown away until serve closes: unread, they would turn
 * the close into a reset that overtakes the words. The pager ends us after two seconds.
 */
static void leave(struct feeder *f, int life)
{
    struct pollfd p[2] = {{.fd = f->channel.in, .events = POLLIN}, {.fd = life, .events = 0}};

    if (shutdown(f->channel.out, SHUT_WR) && errno == ENOTSOCK)
        close(f->channel.out);
    while (!f->in_ended && poll(p, 2, -1) > 0 && !p[1].revents) {
        ssize_t n = read(f->channel.in, f->out, FEEDER_OUT);

        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            break;
    }
    _exit(0);
}

static void loop(struct feeder *f, int life)
{
    for (;;) {
        struct pollfd p[FEEDER_POLLS] = {
            {.fd = f->in_ended ? -1 : f->channel.in, .events = report_room(f) ? POLLIN : 0},
            {.fd = f->closing || f->out_error || !feeder_out_room(f) ? -1 : f->pool->orders.event_fd,
             .events = POLLIN},
            {.fd = life, .events = 0},
            {.fd = f->out_end ? f->channel.out : -1, .events = POLLOUT},
        };
        int n;

        n = poll(p, FEEDER_POLLS, f->out_error ? LAST_WORDS_MS : -1);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            feeder_fail(f, FEEDER_LOST, FAILED_HERE, "poll: %s", strerror(errno));
        }
        if (n == 0)
            feeder_fail(f, FEEDER_LOST, FAILED_HERE, "sending to serve: %s", strerror(f->out_error));
        if (p[2].revents)
            _exit(0);
        if (p[1].revents & POLLIN) {
            pool_ring_clear(&f->pool->orders);
            feeder_orders(f);
            if (!feeder_out_room(f))
                pool_ring_notify(&f->pool->orders); /* there may be more: look again when there is room */
        }
        flush(f);
        if (f->closing && f->out_end == 0)
            leave(f, life);
        if (p[0].revents & (POLLIN | POLLHUP | POLLERR))
            feeder_read(f);
    }
}

static void feeder_main(const struct feeder_config *config, int life)
{
    static struct feeder feeder;
    struct feeder *f = &feeder;
    const char *what;
    char why[POOL_TEXT_SIZE];
    size_t n = 0;
    int keep[6];

    /* The terminal's signals are the pager's to judge: it may refuse to leave a guest without its pages. */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    f->pool = config->pool;
    f->channel = (struct channel){-1, -1, -1};
    f->out = malloc(FEEDER_OUT);
    f->free_slots = calloc(config->pool->slots, sizeof(*f->free_slots));
    if (!f->out || !f->free_slots)
        feeder_fail(f, WIRE_ERROR_INTERNAL, FAILED_HERE, "out of memory");
    while (f->n_free < config->pool->slots) {
        f->free_slots[f->n_free] = config->pool->slots - 1 - f->n_free;
        f->n_free++;
    }
    f->untold = f->n_free;
    f->hello.version = WIRE_VERSION;
    f->hello.role = WIRE_RECEIVER;
    f->hello.page_shift = WIRE_PAGE_SHIFT;
    f->hello.credit_max = config->pool->slots;
    memcpy(f->hello.token, config->token, TOKEN_SIZE);
    frame_reader_init(&f->reader, WIRE_RECEIVER);

    if (channel_open(config->connect, config->dial_timeout_ms, &f->channel, why, sizeof(why)))
        feeder_fail(f, FEEDER_NO_DIAL, FAILED_HERE, "%s", why);
    keep[n++] = f->channel.in;
    keep[n++] = config->pool->orders.event_fd;
    keep[n++] = config->pool->reports.event_fd;
    keep[n++] = life;
    if (f->channel.out != f->channel.in)
        keep[n++] = f->channel.out;
    if (f->channel.join >= 0)
        keep[n++] = f->channel.join;
    if (feeder_sandbox_enter(keep, n, config->uid, config->gid, config->empty_dir, &what))
        feeder_fail(f, FEEDER_SANDBOX, FAILED_HERE, "%s: %s", what, strerror(errno));
    loop(f, life);
}

pid_t feeder_start(const struct feeder_config *config, int *life_fd)
{
    int life[2];
    pid_t pid;

    if (pipe2(life, O_CLOEXEC))
        return -errno;
    pid = fork();
    if (pid == 0) {
        close(life[1]);
        feeder_main(config, life[0]);
        _exit(1);
    }
    close(life[0]);
    if (pid < 0) {
        pid = -errno;
        close(life[1]);
        return pid;
    }
    *life_fd = life[1];
    return pid;
}
