/*
 * What is sent on the control channel: answers to what the receiver asks for, before everything else; pages
 * to compare; and, where there is no bulk channel, as in 2017, all other pages, too.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "sender_state.h"

uint8_t *sender_out(struct sender *s, size_t room)
{
    if (s->out_start == s->out_end)
        s->out_start = s->out_end = 0;
    if (SENDER_CONTROL - s->out_end < room) {
        memmove(s->out, s->out + s->out_start, s->out_end - s->out_start);
        s->out_end -= s->out_start;
        s->out_start = 0;
    }
    return s->out + s->out_end;
}

static uint64_t credit_open(const struct sender *s)
{
    return s->credit - s->credit_used;
}

/* Pages that somebody waits for are never held back. */
static bool may_push(const struct sender *s, uint64_t now)
{
    return !s->quiet && credit_open(s) && (!s->rate.bytes || s->rate.due <= now);
}

static bool pushes_here(const struct sender *s)
{
    return s->streams == 0 && s->state == WIRE_IN_ACTIVE;
}

static void choose_gfn(struct sender_choice *choice, uint64_t gfn)
{
    struct wire_run *last = choice->n ? &choice->runs[choice->n - 1] : NULL;

    if (last && last->first + last->count == gfn && last->count < WIRE_RUN_MAX)
        last->count++;
    else
        choice->runs[choice->n++] = (struct wire_run){.first = gfn, .count = 1};
}

static void choose_answers(struct sender *s)
{
    uint64_t gfns[SENDER_URGENT];
    unsigned int n;

    pthread_mutex_lock(&s->lock);
    n = s->quiet ? 0 : push_order_next_urgent(&s->order, gfns, SENDER_URGENT);
    pthread_mutex_unlock(&s->lock);
    for (unsigned int i = 0; i < n; i++)
        choose_gfn(&s->choice, gfns[i]);
}

static void choose_pushed(struct sender *s)
{
    uint64_t most, now = monotonic_ns();

    pthread_mutex_lock(&s->lock);
    most = may_push(s, now) ? credit_open(s) : 0;
    if (most > WIRE_BATCH_MAX)
        most = WIRE_BATCH_MAX;
    sender_choose_pushed(s, &s->choice, most, now);
    pthread_mutex_unlock(&s->lock);
}

static void choose_compared(struct sender *s)
{
    /* Bulk channels may still push meanwhile. */
    pthread_mutex_lock(&s->lock);
    for (unsigned int n = 0; n < SENDER_URGENT && credit_open(s); n++) {
        s->verify_cursor = gfn_bitmap_next(&s->populated, s->verify_cursor);
        if (s->verify_cursor >= s->populated.nr)
            break;
        choose_gfn(&s->choice, s->verify_cursor++);
        s->credit_used++;
        s->config->figures->compared++;
    }
    pthread_mutex_unlock(&s->lock);
}

/* The next pages, if there are any. Returns the flags of their frame. */
static uint32_t choose(struct sender *s)
{
    uint32_t flags = s->features & WIRE_FEATURE_HASH ? WIRE_PAGES_HASHED : 0;

    sender_choose_none(&s->choice);
    if (s->state == WIRE_IN_VERIFY) {
        choose_compared(s);
        return flags | WIRE_PAGES_COMPARE;
    }
    if (s->state != WIRE_IN_ACTIVE)
        return flags;
    choose_answers(s);
    if (s->choice.n)
        return flags | WIRE_PAGES_ASKED;
    if (pushes_here(s))
        choose_pushed(s);
    return flags;
}

static void count(struct sender *s)
{
    pthread_mutex_lock(&s->lock);
    s->config->figures->bytes += s->frame.size;
    s->config->figures->frames++;
    s->config->figures->zeros += s->frame.zeros;
    /* A zero page takes no slot. */
    if (!(s->flags & (WIRE_PAGES_ASKED | WIRE_PAGES_COMPARE)))
        s->credit_used -= s->frame.zeros;
    pthread_mutex_unlock(&s->lock);
}

/* The next frame: of what was chosen, or of what is chosen now. False: there is nothing to send. */
static bool next_frame(struct sender *s)
{
    uint64_t gfn;
    int rc;

    if (!sender_chosen(&s->choice))
        s->flags = choose(s);
    if (!sender_chosen(&s->choice))
        return false;
    rc = sender_fill(&s->frame, &s->choice, &s->maps, s->flags,
                     s->features & WIRE_FEATURE_ZERO && s->state != WIRE_IN_VERIFY, &gfn);
    if (rc)
        sender_fail(s, WIRE_ERROR_MAP, "gfn 0x%llx cannot be mapped: %s", (unsigned long long)gfn,
                    strerror(-rc));
    count(s);
    return true;
}

/* The receiver has closed: what it said before counts, if it is there to be read. */
static void broken(struct sender *s)
{
    const char *why = strerror(errno);

    sender_readable(s);
    sender_lost(s, why);
}

static bool send_control(struct sender *s)
{
    while (s->out_start < s->out_end) {
        ssize_t n =
            send(s->control, s->out + s->out_start, s->out_end - s->out_start, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno != EAGAIN && errno != EINTR)
            broken(s);
        if (n < 0)
            return false;
        s->out_start += (size_t)n;
    }
    return true;
}

static bool pages_to_send(struct sender *s)
{
    uint64_t now = s->rate.bytes ? monotonic_ns() : 0;
    bool any;

    if (s->quiet || s->closing)
        return false;
    pthread_mutex_lock(&s->lock);
    any = s->state == WIRE_IN_ACTIVE
              ? s->order.urgent_left || (pushes_here(s) && s->order.left && may_push(s, now))
              : s->state == WIRE_IN_VERIFY && credit_open(s);
    pthread_mutex_unlock(&s->lock);
    return any;
}

bool sender_wants_write(struct sender *s)
{
    return s->frame.size || sender_chosen(&s->choice) || s->out_start < s->out_end || pages_to_send(s);
}

int sender_push_due(struct sender *s)
{
    uint64_t now;

    if (!pushes_here(s) || !s->rate.bytes || !s->order.left || !credit_open(s))
        return -1;
    now = monotonic_ns();
    return s->rate.due <= now ? 0 : (int)((s->rate.due - now) / 1000000u) + 1;
}

static void after_pages(struct sender *s)
{
    if (s->state != WIRE_IN_VERIFY || sender_chosen(&s->choice) ||
        gfn_bitmap_next(&s->populated, s->verify_cursor) < s->populated.nr)
        return;
    s->out_end += wire_put_count(sender_out(s, WIRE_HEAD_SIZE + 8), WIRE_VERIFY_END,
                                 s->config->figures->compared - s->compared_before);
    s->state = WIRE_IN_ACTIVE;
}

/* As long as the socket takes them; a request that comes meanwhile is looked at after each. */
static bool send_pages(struct sender *s)
{
    int rc;

    if (!s->frame.size && !next_frame(s)) {
        after_pages(s); /* there may have been none */
        return false;
    }
    rc = sender_send_frame(s->control, &s->frame);
    if (rc < 0)
        broken(s);
    if (rc > 0)
        after_pages(s);
    return rc > 0;
}

void sender_write(struct sender *s)
{
    /* A frame that has begun is finished first, then answers, then the next frame. */
    if (s->frame.size && s->frame.sent && !send_pages(s))
        return;
    if (!send_control(s))
        return;
    if (s->closing) {
        if (s->complete)
            sender_tell(s, SENDER_DELIVERED, 0, NULL);
        sender_leave(s);
    }
    if (s->state == WIRE_IN_ACTIVE || s->state == WIRE_IN_VERIFY)
        send_pages(s);
}
