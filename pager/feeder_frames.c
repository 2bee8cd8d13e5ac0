/* Frames from serve. Everything in them is checked here; page contents go straight into slots of the pool. */
#include "feeder_state.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* The bulk channels share a ring, the control channel has its own. */
static bool put(struct feeder_inlet *in, const struct pool_descriptor *descriptor)
{
    struct feeder *f = in->f;
    bool done;

    if (in == &f->control)
        return pool_ring_put(in->ring, descriptor);
    pthread_mutex_lock(&f->lock);
    /* Space is what the pager makes: it says so with a wake-up of ours. */
    while (!pool_ring_want_space(in->ring, 1))
        pthread_cond_wait(&f->changed, &f->lock);
    done = pool_ring_put(in->ring, descriptor);
    pthread_mutex_unlock(&f->lock);
    return done;
}

static bool report(struct feeder_inlet *in, const struct pool_descriptor *descriptor)
{
    if (put(in, descriptor))
        return true;
    feeder_inlet_fail(in, WIRE_ERROR_PROTOCOL, "more than the pager can take of what was not asked for");
    return false;
}

/* As many slots of the kind as the frame has pages. */
static bool take_slots(struct feeder_inlet *in, bool asked)
{
    struct feeder *f = in->f;
    uint32_t n = in->reader.pages, open;

    if (asked) {
        open = f->n_free_asked;
        for (uint32_t i = 0; i < n && n <= open; i++)
            in->slots[i] = f->free_asked[--f->n_free_asked];
    } else {
        pthread_mutex_lock(&f->lock);
        open = f->n_free - f->untold;
        for (uint32_t i = 0; i < n && n <= open; i++)
            in->slots[i] = f->free_slots[--f->n_free];
        pthread_mutex_unlock(&f->lock);
    }
    if (n <= open)
        return true;
    feeder_inlet_fail(in, WIRE_ERROR_PROTOCOL, "%u pages with %s of %u", n,
                      asked ? "room for answers" : "a credit", open);
    return false;
}

static bool report_zeros(struct feeder_inlet *in)
{
    for (uint32_t i = 0; i < in->reader.runs; i++) {
        struct wire_run run = wire_run(in->reader.body, i);
        struct pool_descriptor zeros = {.type = REPORT_ZERO, .value = {run.first, run.count}};

        if (run.word == WIRE_ZERO && !report(in, &zeros))
            return false;
    }
    return true;
}

static bool has_zeros(const struct feeder_inlet *in)
{
    for (uint32_t i = 0; i < in->reader.runs; i++)
        if (wire_run(in->reader.body, i).word == WIRE_ZERO)
            return true;
    return false;
}

static const char *fault_of(const struct feeder_inlet *in)
{
    const struct feeder *f = in->f;
    uint32_t flags = in->reader.flags;
    bool bulk = in != &f->control;

    if (!!(flags & WIRE_PAGES_HASHED) != !!(f->features & WIRE_FEATURE_HASH))
        return "PAGES with hashes that were not agreed on, or without";
    if (flags & WIRE_PAGES_COMPARE && (bulk || flags & WIRE_PAGES_ASKED || in->state != WIRE_IN_VERIFY))
        return "PAGES to compare outside of VERIFY";
    if (flags & WIRE_PAGES_ASKED && bulk)
        return "answers on a bulk channel";
    if (has_zeros(in) && (!(f->features & WIRE_FEATURE_ZERO) || flags & WIRE_PAGES_COMPARE))
        return "PAGES with zero pages, which was not agreed on";
    return NULL;
}

/* The first run with contents from `run` on. */
static void to_contents(struct feeder_inlet *in)
{
    while (in->run < in->reader.runs && wire_run(in->reader.body, in->run).word != WIRE_CONTENTS)
        in->run++;
    in->run_pages = 0;
}

static bool begin_pages(struct feeder_inlet *in)
{
    const char *fault = fault_of(in);

    if (fault) {
        feeder_inlet_fail(in, WIRE_ERROR_PROTOCOL, "%s", fault);
        return false;
    }
    if (!take_slots(in, in->reader.flags & WIRE_PAGES_ASKED) || !report_zeros(in))
        return false;
    in->pages = in->reader.pages;
    in->pages_done = 0;
    in->page_bytes = 0;
    in->run = 0;
    to_contents(in);
    if (in->pages)
        return true;
    pool_ring_notify(in->ring);
    frame_reader_next(&in->reader);
    return true;
}

static bool page_done(struct feeder_inlet *in)
{
    struct wire_run run = wire_run(in->reader.body, in->run);
    bool compare = in->reader.flags & WIRE_PAGES_COMPARE, hashed = in->reader.flags & WIRE_PAGES_HASHED;
    struct pool_descriptor page = {
        .type = REPORT_PAGE,
        .slot = in->slots[in->pages_done],
        .value = {run.first + in->run_pages,
                  hashed ? wire_hash(in->reader.body, in->reader.runs, in->pages_done) : 0,
                  compare ? PAGE_COMPARE : 0}};

    if (!report(in, &page))
        return false;
    in->f->compared += compare;
    in->pages_done++;
    in->page_bytes = 0;
    in->taken++;
    if (++in->run_pages == run.count) {
        in->run++;
        to_contents(in);
    }
    return true;
}

/* What read() has returned: above 0 something came, 0 nothing now, -1 the channel has failed. */
static int came(struct feeder_inlet *in, ssize_t n)
{
    struct feeder *f = in->f;

    if (n > 0)
        return 1;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return 0;
    in->ended = true;
    if (in == &f->control && f->closing)
        return -1;
    if (in == &f->control && f->out_error)
        feeder_inlet_fail(in, FEEDER_LOST, "sending to serve: %s", strerror(f->out_error));
    else if (n == 0)
        feeder_inlet_fail(in, FEEDER_LOST, "serve closed the connection");
    else
        feeder_inlet_fail(in, FEEDER_LOST, "receiving from serve: %s", strerror(errno));
    return -1;
}

/* So many bytes of contents have come. */
static bool contents_came(struct feeder_inlet *in, size_t n)
{
    while (n) {
        size_t part = POOL_PAGE_SIZE - in->page_bytes < n ? POOL_PAGE_SIZE - in->page_bytes : n;

        in->page_bytes += part;
        n -= part;
        if (in->page_bytes == POOL_PAGE_SIZE && !page_done(in))
            return false;
    }
    return true;
}

/* The contents that were read ahead: less than a page. */
static bool contents_ahead(struct feeder_inlet *in)
{
    size_t n = in->ahead_end - in->ahead_start, room = POOL_PAGE_SIZE - in->page_bytes;

    if (n > room)
        n = room;
    memcpy(pool_page(in->f->pool, in->slots[in->pages_done]) + in->page_bytes, in->ahead + in->ahead_start,
           n);
    in->ahead_start += n;
    return contents_came(in, n);
}

static ssize_t read_into_slots(struct feeder_inlet *in)
{
    struct iovec iov[FEEDER_PIECE];
    int n = 0;

    for (uint32_t i = in->pages_done; i < in->pages && n < (int)FEEDER_PIECE; i++) {
        size_t skip = i == in->pages_done ? in->page_bytes : 0;

        iov[n].iov_base = pool_page(in->f->pool, in->slots[i]) + skip;
        iov[n++].iov_len = POOL_PAGE_SIZE - skip;
    }
    return readv(in->channel.in, iov, n);
}

/* As came(): -1 the channel has failed, 0 there is nothing now. */
static int read_contents(struct feeder_inlet *in)
{
    ssize_t n;
    int rc;

    if (in->ahead_start < in->ahead_end)
        return contents_ahead(in) ? 1 : -1;
    n = read_into_slots(in);
    rc = came(in, n);
    if (rc <= 0)
        return rc;
    if (!contents_came(in, (size_t)n))
        return -1;
    /* The first pages of a frame are the ones that vcpus wait for: tell before reading on. */
    pool_ring_notify(in->ring);
    if (in->pages_done == in->pages) {
        in->pages = 0;
        frame_reader_next(&in->reader);
    }
    return 1;
}

/* What was read ahead, up to the end of a frame or the contents of PAGES. */
static int take_ahead(struct feeder_inlet *in)
{
    enum frame_event event;

    in->ahead_start += frame_reader_take(&in->reader, in->ahead + in->ahead_start,
                                         in->ahead_end - in->ahead_start, in->state, &event);
    switch (event) {
    case FRAME_MORE:
        break;
    case FRAME_DONE:
        if (!(in == &in->f->control ? feeder_control_frame(in->f) : feeder_bulk_frame(in)))
            return -1;
        frame_reader_next(&in->reader);
        break;
    case FRAME_PAGES:
        return begin_pages(in) ? 1 : -1;
    case FRAME_BAD:
        feeder_inlet_fail(in, in->reader.fault.code, "%s", in->reader.fault.text);
        return -1;
    }
    return 1;
}

/* A frame, or a part of one: as read_contents(). */
static int read_frame(struct feeder_inlet *in)
{
    ssize_t n;
    int rc;

    if (in->ahead_start < in->ahead_end)
        return take_ahead(in);
    n = read(in->channel.in, in->ahead, sizeof(in->ahead));
    rc = came(in, n);
    if (rc <= 0)
        return rc;
    in->ahead_start = 0;
    in->ahead_end = (size_t)n;
    return take_ahead(in);
}

bool feeder_read(struct feeder_inlet *in, unsigned int pieces)
{
    int rc = 1;

    /* Bounded, so that orders (a faulted gfn) do not wait for a flood of pages to end. */
    while (pieces-- && rc > 0)
        rc = in->pages ? read_contents(in) : read_frame(in);
    return rc >= 0;
}

static void hello_ack(struct feeder *f)
{
    struct wire_hello_ack ack;
    struct wire_fault fault;

    if (wire_get_hello_ack(f->control.reader.body, &ack, &fault) ||
        wire_judge_hello_ack(&ack, &f->hello, &fault))
        feeder_fail(f, fault.code, FAILED_HERE, "%s", fault.text);
    f->features = ack.features;
    f->control.state = f->hello.generation ? WIRE_IN_RESUME : WIRE_IN_SET;
    feeder_bulk_go(f, &ack);
    report(&f->control,
           &(struct pool_descriptor){.type = REPORT_HELLO,
                                     .value = {ack.features, ack.populated, ack.nr_gfns, ack.generation}});
}

static void last_words(struct feeder *f, uint32_t who)
{
    struct wire_fault theirs, fault;

    if (wire_get_fault(f->control.reader.body, f->control.reader.length, &theirs, &fault))
        feeder_fail(f, fault.code, FAILED_HERE, "%s", fault.text);
    feeder_fail(f, theirs.code, who, "%s", theirs.text);
}

static void verify_end(struct feeder *f, struct pool_descriptor *d)
{
    d->type = REPORT_VERIFIED;
    d->value[0] = wire_get_count(f->control.reader.body);
    if (d->value[0] != f->compared)
        feeder_fail(f, WIRE_ERROR_PROTOCOL, FAILED_HERE, "VERIFY_END says %llu pages, %llu came",
                    (unsigned long long)d->value[0], (unsigned long long)f->compared);
    f->control.state = WIRE_IN_ACTIVE;
    report(&f->control, d);
}

bool feeder_control_frame(struct feeder *f)
{
    const uint8_t *body = f->control.reader.body;
    struct pool_descriptor d = {0};

    switch (f->control.reader.type) {
    case WIRE_HELLO_ACK:
        hello_ack(f);
        break;
    case WIRE_REFUSE:
        last_words(f, FAILED_REFUSE);
        break;
    case WIRE_ERROR:
        last_words(f, FAILED_PEER);
        break;
    case WIRE_SET_ACK:
    case WIRE_RESUME_ACK:
        d.type = REPORT_SET;
        wire_get_pair(body, &d.value[0], &d.value[1]);
        f->control.state = WIRE_IN_ACTIVE;
        report(&f->control, &d);
        break;
    case WIRE_VERIFY_END:
        verify_end(f, &d);
        break;
    case WIRE_COMPLETE_ACK:
        d.type = REPORT_COMPLETE;
        wire_get_pair(body, &d.value[0], &d.value[1]);
        d.value[2] = wire_get_count(body + 16);
        report(&f->control, &d);
        pool_ring_notify(&f->pool->reports);
        _exit(0);
    }
    pool_ring_notify(&f->pool->reports);
    return true;
}
