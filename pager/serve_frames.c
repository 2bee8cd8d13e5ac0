/* Frames from the receiver, each checked before it changes anything. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "exit_status.h"
#include "log.h"
#include "serve.h"

static void on_set(struct server *s, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint64_t first, count, lacking;

        wire_pair(s->reader.body, i, &first, &count);
        if (run_hash_add(&s->set_hash, first, count, s->nr_gfns)) {
            serve_fail(s, WIRE_ERROR_SET, "run 0x%llx+0x%llx is not canonical or passes gfn 0x%llx",
                       (unsigned long long)first, (unsigned long long)count,
                       (unsigned long long)s->nr_gfns - 1);
            return;
        }
        lacking = gfn_bitmap_next_clear(s->run.session ? &s->set.map : &s->populated, first);
        if (lacking < first + count) {
            serve_fail(s, WIRE_ERROR_SET, "gfn 0x%llx is absent at the destination, and %s",
                       (unsigned long long)lacking,
                       s->run.session ? "is not in the set file here" : "the source has no page there");
            return;
        }
        push_order_add(&s->order, first, count);
    }
}

/* The set that receive has is the one that libxc wrote here, and each page of it is here. */
static bool set_is_ours(struct server *s)
{
    uint64_t gfn;
    int rc;

    if (!s->run.session)
        return true;
    /* Each of its gfns is in ours: so the count tells. */
    if (s->set_hash.pages != s->set.count) {
        gfn = gfn_bitmap_next_not_in(&s->set.map, &s->order.set);
        serve_fail(s, WIRE_ERROR_SET,
                   "the destination misses %llu pages, the set file here has %llu: gfn 0x%llx for one",
                   (unsigned long long)s->set_hash.pages, (unsigned long long)s->set.count,
                   (unsigned long long)gfn);
        return false;
    }
    rc = serve_scan_rest(s);
    if (rc) {
        serve_fail(s, WIRE_ERROR_INTERNAL, "page types at the source: %s", strerror(-rc));
        return false;
    }
    gfn = gfn_bitmap_next_not_in(&s->set.map, &s->populated);
    if (gfn < s->set.map.nr)
        serve_fail(s, WIRE_ERROR_SET, "gfn 0x%llx is in the set, and the source has no page there",
                   (unsigned long long)gfn);
    return gfn >= s->set.map.nr;
}

static void on_set_end(struct server *s)
{
    uint64_t pages, hash;

    wire_get_pair(s->reader.body, &pages, &hash);
    if (pages != s->set_hash.pages || hash != run_hash_value(&s->set_hash)) {
        serve_fail(s, WIRE_ERROR_SET, "SET_END says %llu pages with hash %016llx, %llu with %016llx came",
                   (unsigned long long)pages, (unsigned long long)hash, (unsigned long long)s->set_hash.pages,
                   (unsigned long long)run_hash_value(&s->set_hash));
        return;
    }
    if (!set_is_ours(s))
        return;
    s->control_end += wire_put_pair(serve_control(s, WIRE_HEAD_SIZE + 16), WIRE_SET_ACK, pages,
                                    run_hash_value(&s->set_hash));
    s->state = WIRE_IN_ACTIVE;
    session_run_enter(&s->run, SESSION_ACTIVE, NULL);
}

static void on_credit(struct server *s)
{
    uint32_t pages;

    if (wire_get_credit(s->reader.body, &pages, &s->reader.fault)) {
        serve_fail(s, s->reader.fault.code, "%s", s->reader.fault.text);
        return;
    }
    if (pages > s->credit_max - s->credit) {
        serve_fail(s, WIRE_ERROR_PROTOCOL, "credit of %llu and %u more, agreed were at most %llu",
                   (unsigned long long)s->credit, pages, (unsigned long long)s->credit_max);
        return;
    }
    s->credit += pages;
    s->credits++;
}

_Static_assert(PUSH_LEVELS == WIRE_VCPU_WAITS + 1, "each urgency has its queue");

static int take_run(struct server *s, const struct wire_run *run, bool resend)
{
    uint64_t now = monotonic_ns();

    for (uint64_t gfn = run->first; gfn < run->first + run->count; gfn++) {
        if (s->reader.type == WIRE_DROP ? push_order_drop(&s->order, gfn)
                                        : push_order_request(&s->order, gfn, run->word, resend, now)) {
            serve_fail(s, WIRE_ERROR_PROTOCOL, "%s of gfn 0x%llx, which is not in the set",
                       wire_type_name(s->reader.type), (unsigned long long)gfn);
            return -EINVAL;
        }
    }
    if (s->reader.type == WIRE_DROP)
        s->drops += run->count;
    else
        s->requested += run->count;
    return 0;
}

static void on_runs(struct server *s, uint32_t allowed_flags, uint32_t most_word)
{
    uint32_t n, flags;

    if (wire_get_runs(s->reader.body, s->reader.length, allowed_flags, most_word, &n, &flags,
                      &s->reader.fault)) {
        serve_fail(s, s->reader.fault.code, "%s", s->reader.fault.text);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct wire_run run = wire_run(s->reader.body, i);

        if (take_run(s, &run, flags & WIRE_REQUEST_RESEND))
            return;
    }
    s->requests += s->reader.type == WIRE_REQUEST;
}

static void on_complete(struct server *s)
{
    struct wire_complete *c = &s->complete;

    wire_get_complete(s->reader.body, c);
    if (s->given_up) {
        serve_fail(s, WIRE_ERROR_PROTOCOL, "COMPLETE, after the guest was given up");
        return;
    }
    if (c->set != s->order.in_set || c->installed > c->set || c->dropped > c->set - c->installed ||
        c->replaced != c->set - c->installed - c->dropped || c->installed > s->order.different_sent) {
        serve_fail(s, WIRE_ERROR_COUNTS,
                   "COMPLETE with set %llu, installed %llu, dropped %llu, replaced %llu; here %llu in the "
                   "set, %llu sent",
                   (unsigned long long)c->set, (unsigned long long)c->installed,
                   (unsigned long long)c->dropped, (unsigned long long)c->replaced,
                   (unsigned long long)s->order.in_set, (unsigned long long)s->order.different_sent);
        return;
    }
    s->completed = true;
    s->state = WIRE_IN_COMPLETE;
    /* A frame that has begun is finished before the answer; it can only hold pages that the guest dropped
     * meanwhile. */
    if (s->batch.sent == 0)
        serve_drop_batch(s);
    s->control_end += wire_put_complete_ack(serve_control(s, WIRE_HEAD_SIZE + 24), s->order.in_set,
                                            s->order.sent, s->order.resent);
    s->closing = true;
}

static void on_gone(struct server *s)
{
    uint32_t reason;

    if (wire_get_gone(s->reader.body, &reason, &s->reader.fault)) {
        serve_fail(s, s->reader.fault.code, "%s", s->reader.fault.text);
        return;
    }
    /* What it has given up it can only destroy. */
    if (s->given_up && reason != WIRE_GONE_HANDED_BACK && reason != WIRE_GONE_GIVEN_UP) {
        serve_fail(s, WIRE_ERROR_PROTOCOL, "GONE with reason %u, after the guest was given up", reason);
        return;
    }
    /* A frame that has begun is finished if there is more to come. */
    if (s->batch.sent == 0)
        serve_drop_batch(s);
    switch (reason) {
    case WIRE_GONE_GIVEN_UP:
        serve_given_up(s);
        break;
    case WIRE_GONE_HANDED_BACK:
        serve_handed_back(s);
        break;
    default:
        serve_gone(s, reason == WIRE_GONE_RAN);
        break;
    }
    if (session_final(s->run.state) || s->delivered)
        serve_drop_batch(s);
}

static void on_error(struct server *s)
{
    struct wire_fault theirs;

    if (wire_get_fault(s->reader.body, s->reader.length, &theirs, &s->reader.fault)) {
        serve_fail(s, s->reader.fault.code, "%s", s->reader.fault.text);
        return;
    }
    serve_drop_batch(s);
    session_run_end(&s->run, SESSION_FAILED,
                    theirs.code == WIRE_ERROR_VERIFY                            ? EXIT_WRONG
                    : s->state == WIRE_IN_SET || session_run_undecided(&s->run) ? EXIT_FAILED
                                                                                : EXIT_MISSING,
                    "the receiver reports (%s): %s%s", wire_code_name(theirs.code), theirs.text,
                    serve_advice(s));
}

static void frame(struct server *s)
{
    uint32_t n;

    switch (s->reader.type) {
    case WIRE_SET:
        if (wire_get_set(s->reader.body, s->reader.length, &n, &s->reader.fault))
            serve_fail(s, s->reader.fault.code, "%s", s->reader.fault.text);
        else
            on_set(s, n);
        break;
    case WIRE_SET_END:
        on_set_end(s);
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
        if (!(s->features & WIRE_FEATURE_VERIFY)) {
            serve_fail(s, WIRE_ERROR_PROTOCOL, "VERIFY without its feature");
            break;
        }
        s->state = WIRE_IN_VERIFY;
        s->verify_cursor = 0;
        s->compared = 0;
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

void serve_readable(struct server *s)
{
    /* Everything that has come, so that the newest request is in the next batch. */
    while (!session_final(s->run.state) && !s->closing && !s->delivered) {
        uint8_t *where;
        size_t room = frame_reader_space(&s->reader, &where);
        ssize_t n = recv(s->sock, where, room, MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (n <= 0) {
            serve_lost(s, n == 0 ? "the receiver closed the connection" : strerror(errno));
            return;
        }
        switch (frame_reader_advance(&s->reader, (size_t)n, s->state)) {
        case FRAME_MORE:
            break;
        case FRAME_DONE:
            frame(s);
            frame_reader_next(&s->reader);
            break;
        case FRAME_PAGES:
        case FRAME_BAD:
            serve_fail(s, s->reader.fault.code, "%s", s->reader.fault.text);
        }
    }
    if (!session_final(s->run.state) && !s->delivered)
        serve_want_write(s);
}
