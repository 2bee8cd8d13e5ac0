#include "feeder.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "feeder_state.h"
#include "oom.h"
#include "sandbox.h"

#define LAST_WORDS_MS 2000 /* of a serve that does not listen any more */
#define POLLS         4
#define PIECES        32u /* of the control channel, before orders are looked at */

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
        ssize_t n = write(f->control.channel.out, f->out + f->out_start, f->out_end - f->out_start);

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
    if (who == FAILED_HERE && code < FEEDER_LOST && f->control.channel.out >= 0 && !f->out_error &&
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

void feeder_inlet_fail(struct feeder_inlet *in, uint32_t code, const char *fmt, ...)
{
    struct feeder *f = in->f;
    char text[POOL_TEXT_SIZE];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (in == &f->control) {
        if (!f->closing)
            feeder_fail(f, code, FAILED_HERE, "%s", text);
        return;
    }
    pthread_mutex_lock(&f->lock);
    if (!f->bulk_failed) {
        f->bulk_failed = true;
        f->bulk_code = code;
        memcpy(f->bulk_text, text, sizeof(text));
    }
    pthread_mutex_unlock(&f->lock);
    /* Ours to end the process is not: that is the main thread's. */
    pool_ring_notify(&f->pool->orders);
}

/* A bulk channel has failed. What serve has to say about that comes on the control channel: it gets the time
 * for its last words. */
static bool bulk_failed(struct feeder *f)
{
    bool failed;
    uint32_t code;

    pthread_mutex_lock(&f->lock);
    failed = f->bulk_failed;
    code = f->bulk_code;
    pthread_mutex_unlock(&f->lock);
    if (failed && code != FEEDER_LOST)
        feeder_fail(f, code, FAILED_HERE, "%s", f->bulk_text);
    return failed;
}

/* Room in the reports ring for all that one piece may hold: it is made so that this is always true. */
static bool report_room(struct feeder *f)
{
    return pool_ring_space(&f->pool->reports) > WIRE_BATCH_MAX + FEEDER_PIECE + 8;
}

/* Nothing more is said, or nothing more comes of it: why. */
static void give_up(struct feeder *f)
{
    if (f->out_error)
        feeder_fail(f, FEEDER_LOST, FAILED_HERE, "sending to serve: %s", strerror(f->out_error));
    feeder_fail(f, FEEDER_LOST, FAILED_HERE, "%s", f->bulk_text);
}

/*
 * The last words are out. Pages that still come are thrown away until serve closes: unread, they would turn
 * the close into a reset that overtakes the words. The pager ends us after two seconds.
 */
static void leave(struct feeder *f, int life)
{
    struct pollfd p[2] = {{.fd = f->control.channel.in, .events = POLLIN}, {.fd = life, .events = 0}};

    if (shutdown(f->control.channel.out, SHUT_WR) && errno == ENOTSOCK)
        close(f->control.channel.out);
    while (!f->control.ended && poll(p, 2, -1) > 0 && !p[1].revents) {
        ssize_t n = read(f->control.channel.in, f->out, FEEDER_OUT);

        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            break;
    }
    _exit(0);
}

static void take_orders(struct feeder *f)
{
    pool_ring_clear(&f->pool->orders);
    feeder_bulk_wake(f);
    if (f->closing || f->out_error || !feeder_out_room(f))
        return;
    feeder_orders(f);
    if (!feeder_out_room(f))
        pool_ring_notify(&f->pool->orders); /* there may be more: look again when there is room */
}

static void loop(struct feeder *f, int life)
{
    for (;;) {
        bool lost = f->out_error || bulk_failed(f);
        struct pollfd p[POLLS] = {
            {.fd = f->control.ended ? -1 : f->control.channel.in, .events = report_room(f) ? POLLIN : 0},
            {.fd = lost || (f->out_end && !feeder_out_room(f)) ? -1 : f->pool->orders.event_fd,
             .events = POLLIN},
            {.fd = life, .events = 0},
            {.fd = f->out_end ? f->control.channel.out : -1, .events = POLLOUT},
        };
        int n = poll(p, POLLS, lost ? LAST_WORDS_MS : -1);

        if (n < 0) {
            if (errno == EINTR)
                continue;
            feeder_fail(f, FEEDER_LOST, FAILED_HERE, "poll: %s", strerror(errno));
        }
        if (n == 0)
            give_up(f);
        if (p[2].revents)
            _exit(0);
        if (p[1].revents & POLLIN)
            take_orders(f);
        flush(f);
        if (f->closing && f->out_end == 0)
            leave(f, life);
        if (p[0].revents & (POLLIN | POLLHUP | POLLERR))
            feeder_read(&f->control, PIECES);
    }
}

/* Its thread has nothing else to wait for. */
static void let_block(const struct channel *channel)
{
    const int fds[2] = {channel->in, channel->out};

    for (int i = 0; i < 2; i++) {
        int flags = fcntl(fds[i], F_GETFL);

        if (flags >= 0)
            fcntl(fds[i], F_SETFL, flags & ~O_NONBLOCK);
    }
}

static void open_channels(struct feeder *f, const struct feeder_config *config)
{
    char why[POOL_TEXT_SIZE];
    uint32_t n = config->streams;

    /* Over join there are as many as serve has started; those that are not wanted nobody takes over. */
    if (channel_open(config->connect, config->dial_timeout_ms, &f->control.channel, &n, why, sizeof(why)))
        feeder_fail(f, FEEDER_NO_DIAL, FAILED_HERE, "%s", why);
    if (n > config->streams)
        n = config->streams;
    if (n > WIRE_STREAMS_MAX)
        feeder_fail(f, FEEDER_NO_DIAL, FAILED_HERE, "%u bulk channels", n);
    f->bulk = calloc(n ? n : 1, sizeof(*f->bulk));
    if (!f->bulk)
        feeder_fail(f, WIRE_ERROR_INTERNAL, FAILED_HERE, "out of memory");
    for (uint32_t i = 0; i < n; i++) {
        struct feeder_inlet *in = &f->bulk[i];

        in->f = f;
        in->index = (uint8_t)i;
        in->ring = &f->pool->arrivals;
        in->state = WIRE_IN_HELLO;
        frame_reader_init(&in->reader, WIRE_RECEIVER, WIRE_BULK);
        if (channel_open_bulk(config->connect, i, config->dial_timeout_ms, &in->channel, why, sizeof(why)))
            feeder_fail(f, FEEDER_NO_DIAL, FAILED_HERE, "%s", why);
        let_block(&in->channel);
    }
    f->n_bulk = n;
    f->hello.streams = (uint8_t)n;
}

/* Every slot is ours and free: those for answers, and those that serve may be told of. */
static void prepare(struct feeder *f, const struct feeder_config *config)
{
    uint32_t slots = config->pool->slots, asked = config->pool->asked;

    f->pool = config->pool;
    f->control.f = f;
    f->control.channel = (struct channel){-1, -1, -1};
    f->control.ring = &f->pool->reports;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    f->out = malloc(FEEDER_OUT);
    f->free_slots = calloc(slots, sizeof(*f->free_slots));
    f->free_asked = calloc(asked, sizeof(*f->free_asked));
    if (!f->out || !f->free_slots || !f->free_asked)
        feeder_fail(f, WIRE_ERROR_INTERNAL, FAILED_HERE, "out of memory");
    f->hello.generation = config->generation;
    pool_ring_begin(&f->pool->orders);
    pool_ring_begin(&f->pool->reports);
    pool_ring_begin(&f->pool->arrivals);
    /* What the feeder before had, the pager says. */
    while (!config->generation && f->n_free_asked < asked) {
        f->free_asked[f->n_free_asked] = asked - 1 - f->n_free_asked;
        f->n_free_asked++;
    }
    while (!config->generation && f->n_free < slots - asked) {
        f->free_slots[f->n_free] = slots - 1 - f->n_free;
        f->n_free++;
    }
    f->untold = f->n_free;
    f->hello.version = WIRE_VERSION;
    f->hello.role = WIRE_RECEIVER;
    f->hello.page_shift = WIRE_PAGE_SHIFT;
    f->hello.credit_max = slots - asked;
    f->hello.asked_max = asked;
    memcpy(f->hello.token, config->token, TOKEN_SIZE);
    frame_reader_init(&f->control.reader, WIRE_RECEIVER, WIRE_CONTROL);
}

static void keep_channel(struct sandbox *box, const struct channel *channel)
{
    sandbox_keep(box, channel->in);
    if (channel->out != channel->in)
        sandbox_keep(box, channel->out);
    sandbox_keep(box, channel->join);
}

static void confine(struct feeder *f, const struct feeder_config *config, int life)
{
    void *threads[WIRE_STREAMS_MAX];
    struct sandbox box = {.polls = POLLS,
                          .uid = config->uid,
                          .gid = config->gid,
                          .empty_dir = config->empty_dir,
                          .thread = feeder_bulk_thread,
                          .thread_data = threads,
                          .n_threads = f->n_bulk};
    const char *what;

    sandbox_keep(&box, config->pool->orders.event_fd);
    sandbox_keep(&box, config->pool->reports.event_fd);
    sandbox_keep(&box, config->pool->arrivals.event_fd);
    sandbox_keep(&box, life);
    keep_channel(&box, &f->control.channel);
    for (uint32_t i = 0; i < f->n_bulk; i++) {
        threads[i] = &f->bulk[i];
        keep_channel(&box, &f->bulk[i].channel);
    }
    if (sandbox_enter(&box, &what))
        feeder_fail(f, FEEDER_SANDBOX, FAILED_HERE, "%s: %s", what, strerror(errno));
}

static void feeder_main(const struct feeder_config *config, int life)
{
    static struct feeder feeder;
    struct feeder *f = &feeder;

    /* The terminal's signals are the pager's to judge: it may refuse to leave a guest without its pages. */
    /* Only those that a pager depends on are spared when memory runs out. */
    oom_unprotect();
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    if (config->forget && munmap(config->forget, config->forget_bytes))
        _exit(1);
    prepare(f, config);
    open_channels(f, config);
    confine(f, config, life);
    loop(f, life);
}

pid_t feeder_start(const struct feeder_config *config)
{
    pid_t pid = fork();

    if (pid == 0) {
        close(config->life[1]);
        feeder_main(config, config->life[0]);
        _exit(1);
    }
    return pid < 0 ? -errno : pid;
}
