/* Frames from serve. Everything in them is checked here; page contents go straight into slots of the pool. */
#include "feeder_state.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static void report(struct feeder *f, const struct pool_descriptor *descriptor)
{
    if (!pool_ring_put(&f->pool->reports, descriptor))
        feeder_fail(f, WIRE_ERROR_INTERNAL, FAILED_HERE, "no room for a report to the pager");
}

static void begin_pages(struct feeder *f)
{
    bool hashed = f->features & WIRE_FEATURE_HASH;
    bool compare = f->reader.flags & WIRE_PAGES_COMPARE;

    if (f->reader.pages > f->n_free - f->untold)
        feeder_fail(f, WIRE_ERROR_PROTOCOL, FAILED_HERE, "%u pages with a credit of %u", f->reader.pages,
                    f->n_free - f->untold);
    if (!!(f->reader.flags & WIRE_PAGES_HASHED) != hashed)
        feeder_fail(f, WIRE_ERROR_PROTOCOL, FAILED_HERE, "PAGES %s hashes", hashed ? "without" : "with");
    if (compare && f->state != WIRE_IN_VERIFY)
        feeder_fail(f, WIRE_ERROR_PROTOCOL, FAILED_HERE, "PAGES to compare outside of VERIFY");
    f->pages = f->reader.pages;
    f->pages_done = 0;
    f->page_bytes = 0;
    for (uint32_t i = 0; i < f->pages; i++)
        f->page_slot[i] = f->free_slots[--f->n_free];
}

static void page_done(struct feeder *f)
{
    uint64_t gfn, hash;
    struct pool_descriptor page = {.type = REPORT_PAGE, .slot = f->page_slot[f->pages_done]};
    bool compare = f->reader.flags & WIRE_PAGES_COMPARE;

    wire_pair(f->reader.body, f->pages_done, &gfn, &hash);
    page.value[0] = gfn;
    page.value[1] = hash;
    page.value[2] = compare ? PAGE_COMPARE : 0;
    report(f, &page);
    f->compared += compare;
    f->pages_done++;
    f->page_bytes = 0;
}

/* read result: true to go on, false when there is nothing more now. */
static bool came(struct feeder *f, ssize_t n)
{
    if (n > 0)
        return true;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return false;
    f->in_ended = true;
    if (f->closing)
        return false;
    if (f->out_error)
        feeder_fail(f, FEEDER_LOST, FAILED_HERE, "sending to serve: %s", strerror(f->out_error));
    if (n == 0)
        feeder_fail(f, FEEDER_LOST, FAILED_HERE, "serve closed the connection");
    feeder_fail(f, FEEDER_LOST, FAILED_HERE, "receiving from serve: %s", strerror(errno));
}

static bool read_page_data(struct feeder *f)
{
    struct iovec iov[WIRE_BATCH_MAX];
    size_t wanted = 0;
    int n_iov = 0;
    ssize_t n;

    for (uint32_t i = f->pages_done; i < f->pages; i++) {
        size_t skip = i == f->pages_done ? f->page_bytes : 0;

        iov[n_iov].iov_base = pool_page(f->pool, f->page_slot[i]) + skip;
        iov[n_iov++].iov_len = POOL_PAGE_SIZE - skip;
        wanted += POOL_PAGE_SIZE - skip;
    }
    n = readv(f->channel.in, iov, n_iov);
    if (!came(f, n))
        return false;
    for (size_t left = (size_t)n; left;) {
        size_t part = POOL_PAGE_SIZE - f->page_bytes < left ? POOL_PAGE_SIZE - f->page_bytes : left;

        f->page_bytes += part;
        left -= part;
        if (f->page_bytes == POOL_PAGE_SIZE)
            page_done(f);
    }
    /* The first pages of a batch are the ones that vcpus wait for: tell before reading on. */
    pool_ring_notify(&f->pool->reports);
    if (f->pages_done == f->pages) {
        f->pages = 0;
        frame_reader_next(&f->reader);
    }
    return (size_t)n == wanted;
}

static void hello_ack(struct feeder *f)
{
    struct wire_hello_ack ack;
    struct wire_fault fault;

    if (wire_get_hello_ack(f->reader.body, &ack, &fault) || wire_judge_hello_ack(&ack, &f->hello, &fault))
        feeder_fail(f, fault.code, FAILED_HERE, "%s", fault.text);
    f->features = ack.features;
    f->state = WIRE_IN_SET;
    report(f, &(struct pool_descriptor){.type = REPORT_HELLO,
                                        .value = {ack.features, ack.populated, ack.nr_gfns}});
}

static void last_words(struct feeder *f, uint32_t who)
{
    struct wire_fault theirs, fault;

    if (wire_get_fault(f->reader.body, f->reader.length, &theirs, &fault))
        feeder_fail(f, fault.code, FAILED_HERE, "%s", fault.text);
    feeder_fail(f, theirs.code, who, "%s", theirs.text);
}

static void frame(struct feeder *f)
{
    const uint8_t *body = f->reader.body;
    struct pool_descriptor d = {0};

    switch (f->reader.type) {
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
        d.type = REPORT_SET;
        wire_get_pair(body, &d.value[0], &d.value[1]);
        f->state = WIRE_IN_ACTIVE;
        report(f, &d);
        break;
    case WIRE_VERIFY_END:
        d.type = REPORT_VERIFIED;
        d.value[0] = wire_get_count(body);
        if (d.value[0] != f->compared)
            feeder_fail(f, WIRE_ERROR_PROTOCOL, FAILED_HERE, "VERIFY_END says %llu pages, %llu came",
                        (unsigned long long)d.value[0], (unsigned long long)f->compared);
        f->state = WIRE_IN_ACTIVE;
        report(f, &d);
        break;
    case WIRE_COMPLETE_ACK:
        d.type = REPORT_COMPLETE;
        wire_get_pair(body, &d.value[0], &d.value[1]);
        d.value[2] = wire_get_count(body + 16);
        report(f, &d);
        pool_ring_notify(&f->pool->reports);
        _exit(0);
    }
    pool_ring_notify(&f->pool->reports);
    frame_reader_next(&f->reader);
}

void feeder_read(struct feeder *f)
{
    /* Bounded, so that orders (a faulted gfn) do not wait for a flood of pages to end. */
    for (unsigned int round = 0; round < 16; round++) {
        uint8_t *where;
        size_t room;
        ssize_t n;

        if (f->pages) {
            if (!read_page_data(f))
                return;
            continue;
        }
        room = frame_reader_space(&f->reader, &where);
        n = read(f->channel.in, where, room);
        if (!came(f, n))
            return;
        switch (frame_reader_advance(&f->reader, (size_t)n, f->state)) {
        case FRAME_MORE:
            break;
        case FRAME_DONE:
            frame(f);
            break;
        case FRAME_PAGES:
            begin_pages(f);
            break;
        case FRAME_BAD:
            feeder_fail(f, f->reader.fault.code, FAILED_HERE, "%s", f->reader.fault.text);
        }
    }
}
