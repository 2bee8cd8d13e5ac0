/* Frames from the receiver on the control channel, each checked before it changes anything. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "sender_state.h"

static void bad_frame(struct sender *s) __attribute__((noreturn));
static void bad_frame(struct sender *s)
{
    sender_fail(s, s->reader.fault.code, "%s", s->reader.fault.text);
}

/* Of SET or RECEIVED. */
static uint32_t runs_in(struct sender *s)
{
    uint32_t n;

    if (wire_get_set(s->reader.body, s->reader.length, &n, &s->reader.fault))
        bad_frame(s);
    return n;
}

static void take_set_run(struct sender *s, uint32_t i, enum wire_code code, uint64_t *first, uint64_t *count)
{
    wire_pair(s->reader.body, i, first, count);
    if (run_hash_add(&s->set_hash, *first, *count, s->nr_gfns))
        sender_fail(s, code, "run 0x%llx+0x%llx is not canonical or passes gfn 0x%llx",
                    (unsigned long long)*first, (unsigned long long)*count,
                    (unsigned long long)s->nr_gfns - 1);
}

static void on_set(struct sender *s)
{
    uint32_t n = runs_in(s);

    for (uint32_t i = 0; i < n; i++) {
        uint64_t first, count, lacking;

        take_set_run(s, i, WIRE_ERROR_SET, &first, &count);
        lacking = gfn_bitmap_next_clear(&s->allowed, first);
        if (lacking < first + count)
            sender_fail(s, WIRE_ERROR_SET, "gfn 0x%llx is absent at the destination, and %s",
                        (unsigned long long)lacking,
                        s->config->own_set ? "is not in the set file here" : "the source has no page there");
        push_order_add(&s->order, first, count);
        gfn_bitmap_set_run(&s->in_set, first, count);
    }
}

/* Of 64 gfns from first on, those of a run. */
static uint64_t bits_of(uint64_t first, uint64_t from, uint64_t end)
{
    uint64_t bits = ~UINT64_C(0);

    if (from > first)
        bits &= ~UINT64_C(0) << (from - first);
    if (end < first + 64)
        bits &= ~UINT64_C(0) >> (first + 64 - end);
    return bits;
}

/* What the guest had released before the set was said is not in it, and is said here all the same. */
static void on_received(struct sender *s)
{
    uint32_t n = runs_in(s);

    for (uint32_t i = 0; i < n; i++) {
        uint64_t first, count, word;

        take_set_run(s, i, WIRE_ERROR_PROTOCOL, &first, &count);
        for (word = first / 64; word * 64 < first + count; word++)
            push_order_have(&s->order, word * 64,
                            bits_of(word * 64, first, first + count) & s->in_set.words[word]);
    }
}

static void on_end_of_runs(struct sender *s, enum sender_word word)
{
    uint64_t pages, hash, values[2];

    wire_get_pair(s->reader.body, &pages, &hash);
    if (pages != s->set_hash.pages || hash != run_hash_value(&s->set_hash))
        sender_fail(s, WIRE_ERROR_SET, "%s says %llu pages with hash %016llx, %llu with %016llx came",
                    wire_type_name(s->reader.type), (unsigned long long)pages, (unsigned long long)hash,
                    (unsigned long long)s->set_hash.pages, (unsigned long long)run_hash_value(&s->set_hash));
    values[0] = pages;
    values[1] = hash;
    sender_publish(s);
    sender_tell_values(s, word, values, 2);
}

static void on_credit(struct sender *s)
{
    uint64_t credit = wire_get_count(s->reader.body), before, used;
    bool legal;

    pthread_mutex_lock(&s->lock);
    before = s->credit;
    used = s->credit_used;
    legal = credit > before && credit - used <= s->hello.credit_max;
    if (legal)
        s->credit = credit;
    pthread_mutex_unlock(&s->lock);
    if (!legal)
        sender_fail(s, WIRE_ERROR_PROTOCOL,
                    "credit of %llu pages, after %llu of which %llu are used; agreed were at most %llu",
                    (unsigned long long)credit, (unsigned long long)before, (unsigned long long)used,
                    (unsigned long long)s->hello.credit_max);
    s->config->figures->credits++;
    sender_bulk_wake(s);
}

_Static_assert(PUSH_LEVELS == WIRE_VCPU_WAITS + 1, "each urgency has its queue");

/* With the lock held. The gfn that is not in the set, or the end of the run. */
static uint64_t take_run(struct sender *s, const struct wire_run *run, bool resend, uint64_t now)
{
    uint64_t gfn = run->first, end = run->first + run->count;

    for (; gfn < end; gfn++) {
        if (s->reader.type == WIRE_DROP ? push_order_drop(&s->order, gfn)
                                        : push_order_request(&s->order, gfn, run->word, resend, now))
            break;
    }
    return gfn;
}

static void on_runs(struct sender *s, uint32_t allowed_flags, uint32_t most_word)
{
    struct sender_figures *figures = s->config->figures;
    uint64_t now = monotonic_ns();
    uint32_t n, flags;
    bool hinted;

    if (wire_get_runs(s->reader.body, s->reader.length, allowed_flags, most_word, &n, &flags,
                      &s->reader.fault))
        bad_frame(s);
    for (uint32_t i = 0; i < n; i++) {
        struct wire_run run = wire_run(s->reader.body, i);
        uint64_t stopped;

        pthread_mutex_lock(&s->lock);
        stopped = take_run(s, &run, flags & WIRE_REQUEST_RESEND, now);
        pthread_mutex_unlock(&s->lock);
        if (stopped < run.first + run.count)
            sender_fail(s, WIRE_ERROR_PROTOCOL, "%s of gfn 0x%llx, which is not in the set",
                        wire_type_name(s->reader.type), (unsigned long long)stopped);
        if (s->reader.type == WIRE_DROP)
            figures->drops += run.count;
        else
            figures->requested += run.count;
        if (s->reader.type == WIRE_REQUEST && run.word == WIRE_VCPU_WAITS && !(flags & WIRE_REQUEST_RESEND))
            figures->waited += run.count;
    }
    figures->requests += s->reader.type == WIRE_REQUEST;
    pthread_mutex_lock(&s->lock);
    hinted = s->order.hinted_left;
    pthread_mutex_unlock(&s->lock);
    /* Of what nobody waits for. */
    if (hinted)
        sender_bulk_wake(s);
}

static void quiet(struct sender *s)
{
    pthread_mutex_lock(&s->lock);
    s->quiet = true;
    pthread_mutex_unlock(&s->lock);
    /* A frame that has begun is finished; it can only hold pages that nobody needs. */
    if (s->frame.sent == 0)
        s->frame.size = 0;
    s->choice.n = 0;
}

static void on_complete(struct sender *s)
{
    struct wire_complete c;
    uint64_t values[8];

    if (s->given_up)
        sender_fail(s, WIRE_ERROR_PROTOCOL, "COMPLETE, after the guest was given up");
    wire_get_complete(s->reader.body, &c);
    s->state = WIRE_IN_COMPLETE;
    quiet(s);
    values[0] = c.set;
    values[1] = c.installed;
    values[2] = c.dropped;
    values[3] = c.replaced;
    values[4] = c.guest_faults;
    values[5] = c.foreign_requests;
    sender_publish(s);
    sender_tell_values(s, SENDER_COMPLETE, values, 6);
}

void sender_acknowledge(struct sender *s)
{
    if (s->state != WIRE_IN_COMPLETE || s->closing)
        return;
    s->complete = s->closing = true;
    s->out_end += wire_put_complete_ack(sender_out(s, WIRE_HEAD_SIZE + 24), s->order.in_set, s->order.sent,
                                        s->order.resent);
}

static void on_gone(struct sender *s)
{
    uint64_t value;
    uint32_t reason;

    if (wire_get_gone(s->reader.body, &reason, &s->reader.fault))
        bad_frame(s);
    /* What it has given up it can only destroy. */
    if (s->given_up && reason != WIRE_GONE_HANDED_BACK && reason != WIRE_GONE_GIVEN_UP)
        sender_fail(s, WIRE_ERROR_PROTOCOL, "GONE with reason %u, after the guest was given up", reason);
    value = reason;
    quiet(s);
    sender_tell_values(s, SENDER_GONE, &value, 1);
    if (reason != WIRE_GONE_GIVEN_UP)
        sender_leave(s);
    s->given_up = true;
}

static void on_error(struct sender *s)
{
    struct wire_fault theirs;

    if (wire_get_fault(s->reader.body, s->reader.length, &theirs, &s->reader.fault))
        bad_frame(s);
    sender_tell(s, SENDER_ERROR, theirs.code, theirs.text);
    sender_leave(s);
}

static void on_verify(struct sender *s)
{
    if (!(s->features & WIRE_FEATURE_VERIFY))
        sender_fail(s, WIRE_ERROR_PROTOCOL, "VERIFY without its feature");
    s->state = WIRE_IN_VERIFY;
    s->verify_cursor = 0;
    s->compared_before = s->config->figures->compared;
}

static void frame(struct sender *s)
{
    switch (s->reader.type) {
    case WIRE_SET:
        on_set(s);
        break;
    case WIRE_SET_END:
        on_end_of_runs(s, SENDER_SET);
        break;
    case WIRE_RECEIVED:
        on_received(s);
        break;
    case WIRE_RECEIVED_END:
        on_end_of_runs(s, SENDER_RESUMED);
        break;
    case WIRE_CREDIT:
        on_credit(s);
        break;
    case WIRE_REQUEST:
        on_runs(s, WIRE_REQUEST_RESEND, WIRE_VCPU_WAITS);
        break;
    case WIRE_DROP:
        on_runs(s, 0, 0);
        break;
    case WIRE_VERIFY:
        on_verify(s);
        break;
    case WIRE_COMPLETE:
        on_complete(s);
        break;
    case WIRE_GONE:
        on_gone(s);
        break;
    case WIRE_ERROR:
        on_error(s);
        break;
    }
}

/* It has every page, and may not have waited for the acknowledgement; or it is gone. */
static void ended(struct sender *s, const char *text)
{
    if (!s->complete)
        sender_lost(s, text);
    sender_tell(s, SENDER_DELIVERED, 0, NULL);
    sender_leave(s);
}

static void take(struct sender *s, const uint8_t *bytes, size_t n)
{
    while (n) {
        enum frame_event event;
        size_t taken = frame_reader_take(&s->reader, bytes, n, s->state, &event);

        bytes += taken;
        n -= taken;
        if (event == FRAME_MORE)
            continue;
        if (event != FRAME_DONE)
            bad_frame(s);
        frame(s);
        frame_reader_next(&s->reader);
    }
}

void sender_readable(struct sender *s)
{
    uint8_t bytes[4096];
    ssize_t n;

    /* Everything that has come, so that the newest request is in the next frame. */
    do {
        n = recv(s->control, bytes, sizeof(bytes), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0)
            ended(s, n == 0 ? "the receiver closed the connection" : strerror(errno));
        take(s, bytes, (size_t)n);
    } while (n == (ssize_t)sizeof(bytes));
}
