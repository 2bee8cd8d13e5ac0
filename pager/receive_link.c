/* Orders to the feeder, and its reports. The feeder is not trusted: each descriptor is checked before it is
 * used. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "exit_status.h"
#include "fault_point.h"
#include "log.h"
#include "receive.h"
#include "wire/wire.h"

#define REPORTS_AT_ONCE       BACKEND_LOAD_MAX
#define REPORTS_WHILE_WAITING 16u
#define ZEROS_AT_ONCE         16u

/* Orders that have to arrive: there is always room for them, because asks stop short of the end of the ring.
 */
#define ORDER_RESERVE 32

/* Slots for what is asked for once more, because it came with wrong contents. */
#define RESENDS 2

void receive_order(struct receiver *r, uint32_t type, uint64_t a, uint64_t b)
{
    struct pool_descriptor order = {.type = type, .value = {a, b}};

    /* Whom nothing was said to needs no last words either. */
    if (!r->feeder_alive || r->last_order || !r->introduced)
        return;
    r->last_order = (type == ORDER_GONE && !b) || type == ORDER_ERROR || type == ORDER_LEAVE;
    if (!(r->last_order      ? receive_journal_say(r->journal, SAID_LAST, &order)
          : type == ORDER_GO ? receive_journal_say(r->journal, SAID_GO, &order)
                             : pool_ring_put(&r->pool->orders, &order)))
        log_error("no room for order %u to the feeder", type);
    pool_ring_notify(&r->pool->orders);
}

/* Serve owes an answer for these from now on. Noted before it is asked: a successor counts on no less. */
static void note_asked(struct receiver *r, uint64_t gfn, uint64_t count)
{
    for (uint64_t i = gfn; i < gfn + count; i++) {
        if (gfn_bitmap_test(&r->notes.asked, i))
            continue;
        gfn_bitmap_set(&r->notes.asked, i);
        r->n_asked++;
    }
}

/* A page has come, by whatever way. */
static void answered(struct receiver *r, uint64_t gfn)
{
    if (gfn >= r->notes.asked.nr || !gfn_bitmap_test(&r->notes.asked, gfn))
        return;
    gfn_bitmap_clear(&r->notes.asked, gfn);
    r->n_asked--;
}

/* For so many answers there is a slot. */
static uint64_t room_for_answers(const struct receiver *r)
{
    uint64_t used = r->n_asked + r->asked_slots;

    return used + RESENDS < r->pool->asked ? r->pool->asked - RESENDS - used : 0;
}

static bool ask_now(struct receiver *r, uint32_t type, uint64_t gfn, uint64_t count, uint32_t urgency)
{
    struct pool_descriptor order = {.type = type, .value = {gfn, count, urgency}};

    if (pool_ring_space(&r->pool->orders) <= r->pool->slots + ORDER_RESERVE)
        return false;
    if ((type == ORDER_ASK && urgency != WIRE_NOBODY_WAITS) || type == ORDER_ASK_AGAIN)
        note_asked(r, gfn, count);
    r->orders_waiting = true;
    return pool_ring_put(&r->pool->orders, &order);
}

/* Of these as many as there is room for: how many. */
static uint64_t ask_some(struct receiver *r, uint64_t gfn, uint64_t count, uint32_t urgency)
{
    uint64_t room = room_for_answers(r);

    if (urgency != WIRE_NOBODY_WAITS && count > room)
        count = room;
    return count && ask_now(r, ORDER_ASK, gfn, count, urgency) ? count : 0;
}

/* The feeder reads no faster than it can send. */
static void ask_later(struct receiver *r, uint64_t gfn, uint64_t count)
{
    for (uint64_t i = gfn; i < gfn + count; i++) {
        if (!gfn_bitmap_test(&r->unsent, i)) {
            gfn_bitmap_set(&r->unsent, i);
            r->n_unsent++;
        }
    }
    /* If there is room by now, nobody will wake us: we do. Of slots for answers one that is given back does.
     */
    if (room_for_answers(r) && pool_ring_want_space(&r->pool->orders, r->pool->slots + ORDER_RESERVE + 1))
        pool_ring_notify(&r->pool->reports);
}

static void put_run(struct receiver *r)
{
    uint64_t done = r->run_count ? ask_some(r, r->run_first, r->run_count, r->run_urgency) : 0;

    /* What nobody waits for comes all the same. */
    if (done < r->run_count && r->run_urgency != WIRE_NOBODY_WAITS)
        ask_later(r, r->run_first + done, r->run_count - done);
    r->run_count = 0;
}

void receive_ask(struct receiver *r, uint64_t gfn, uint64_t count, uint32_t urgency)
{
    if (!r->peer_active)
        return;
    receive_trace_ask(r, gfn, count, urgency);
    if (!r->run_count || gfn != r->run_first + r->run_count || urgency != r->run_urgency ||
        r->run_count + count > POOL_ASK_MAX) {
        put_run(r);
        r->run_first = gfn;
        r->run_urgency = urgency;
    }
    r->run_count += count;
}

void receive_ask_end(struct receiver *r)
{
    put_run(r);
    if (r->orders_waiting && r->feeder_alive)
        pool_ring_notify(&r->pool->orders);
    r->orders_waiting = false;
}

/* One wake-up for all of a turn: slots given back, what was asked again, space for orders wanted. */
static void wake_feeder(struct receiver *r)
{
    if (!r->feeder_alive || session_final(r->run.state))
        return;
    if (r->slots_waiting < pool_quantum(r->pool) && !r->orders_waiting &&
        !(r->n_unsent && room_for_answers(r)) && r->work != WORK_SEND && r->work != WORK_RECEIVED)
        return;
    r->slots_waiting = 0;
    r->orders_waiting = false;
    pool_ring_notify(&r->pool->orders);
}

void receive_ask_again(struct receiver *r, uint64_t gfn)
{
    if (!r->peer_active)
        return;
    if (!ask_now(r, ORDER_ASK_AGAIN, gfn, 1, 0))
        receive_order(r, ORDER_ASK_AGAIN, gfn, 0);
}

/* How urgent is a page that was asked for? Of those that nobody waits for some are dom0's, who asks again and
 * again. */
static uint32_t urgency_of(const struct receiver *r, uint64_t gfn)
{
    return pagein_awaited(&r->pages, gfn) ? WIRE_VCPU_WAITS : WIRE_DOM0_WAITS;
}

/* The run of unsent gfns, all as urgent, that starts at gfn, which is one. */
static uint64_t unsent_run(const struct receiver *r, uint64_t gfn, uint32_t urgency)
{
    uint64_t count = 0;

    while (count < POOL_ASK_MAX && gfn + count < r->unsent.nr && gfn_bitmap_test(&r->unsent, gfn + count) &&
           pagein_state(&r->pages, gfn + count) == PAGE_REQUESTED && urgency_of(r, gfn + count) == urgency)
        count++;
    return count;
}

void receive_ask_unsent(struct receiver *r)
{
    uint64_t gfn = 0;

    if (!r->n_unsent || !room_for_answers(r))
        return;
    while (r->n_unsent && r->peer_active && (gfn = gfn_bitmap_next(&r->unsent, gfn)) < r->unsent.nr) {
        uint32_t urgency = urgency_of(r, gfn);
        uint64_t count = unsent_run(r, gfn, urgency);

        uint64_t done = count ? ask_some(r, gfn, count, urgency) : 1;

        /* Asked for; or it has come, or is not wanted any more. */
        for (uint64_t i = 0; i < done; i++, r->n_unsent--)
            gfn_bitmap_clear(&r->unsent, gfn + i);
        if (done < count) {
            ask_later(r, gfn + done, count - done);
            break;
        }
    }
    receive_ask_end(r);
}

void receive_tell_dropped(struct receiver *r, uint64_t gfn)
{
    /* What serve owes an answer for is counted until that comes. */
    if (!r->peer_active || gfn_bitmap_test(&r->notes.asked, gfn))
        return;
    put_run(r);
    /* Only a saving: serve may send the page all the same. */
    if (!ask_now(r, ORDER_DROP, gfn, 1, 0))
        r->drops_not_told++;
}

void receive_free_slot(struct receiver *r, uint32_t slot)
{
    receive_journal_count(r->journal, &r->pages.counts);
    if (pool_slot_asked(r->pool, slot) && r->asked_slots)
        r->asked_slots--;
    if (!r->feeder_alive) {
        receive_journal_keep_back(r->journal, slot);
        return;
    }
    if (!receive_journal_give_back(r->journal, slot))
        log_error("no room to give slot %u back to the feeder", slot);
    r->slots_waiting++;
}

bool receive_push_now(const struct receiver *r)
{
    const struct receive_options *o = r->options;

    return r->pages.counts.guest_has_faulted ||
           (!o->push_on_fault && (!o->push_on_commit || r->run.committed));
}

void receive_go(struct receiver *r)
{
    if (r->went)
        return;
    r->went = true;
    receive_order(r, ORDER_GO, 0, 0);
}

static void copy_text(const struct receiver *r, char *text, size_t size)
{
    size_t i;

    for (i = 0; i < size - 1 && i < POOL_TEXT_SIZE; i++) {
        char c = ((volatile char *)r->pool->text)[i];

        if (!c)
            break;
        text[i] = c >= 0x20 && c < 0x7f ? c : '?';
    }
    text[i] = '\0';
}

/* Serve is there still, or may be again: it has not ended the session. */
static bool can_recover(uint32_t code, uint32_t who)
{
    return who == FAILED_HERE && (code == FEEDER_LOST || code == FEEDER_NO_DIAL);
}

void receive_feeder_lost(struct receiver *r, uint32_t code, uint32_t who, const char *text)
{
    char reason[256];
    const char *speaker = who == FAILED_REFUSE ? "serve refused: "
                          : who == FAILED_PEER ? "serve gave up: "
                                               : "";

    r->feeder_told_why = true;
    r->peer_active = false;
    /* What is here is worth having, complete or not, unless the guest is not going to run. */
    if (!r->our_pause && !session_run_undecided(&r->run)) {
        receive_super_give_up(r);
        receive_install(r);
    }
    snprintf(reason, sizeof(reason), "%s%s", speaker, text);
    switch (r->run.state) {
    case SESSION_SETUP:
    case SESSION_LISTEN:
    case SESSION_DEVICE:
        receive_give_up(r, who == FAILED_REFUSE ? EXIT_REFUSED : EXIT_FAILED, "%s (%s)", reason,
                        code < FEEDER_LOST ? wire_code_name(code) : "connection");
        break;
    case SESSION_ACTIVE:
        if (r->our_pause || session_run_undecided(&r->run)) {
            receive_give_up(r, EXIT_FAILED, "%s, before the guest could run", reason);
            return;
        }
        session_run_enter(&r->run, SESSION_PAUSED, reason);
        receive_let_foreign_go(r);
        log_error("%llu pages of domain %u are absent and nobody can bring them: the guest waits where it "
                  "touches one",
                  (unsigned long long)pagein_outstanding(&r->pages), r->be->domid);
        receive_check_complete(r);
        r->recoverable = can_recover(code, who);
        if (r->run.state == SESSION_PAUSED && r->recoverable)
            receive_recover_later(r);
        break;
    case SESSION_RECOVER:
        session_run_enter(&r->run, SESSION_PAUSED, reason);
        receive_recover_later(r);
        break;
    case SESSION_PAUSED:
        log_info("no channel to serve: %s", reason);
        receive_recover_later(r);
        break;
    case SESSION_DRAIN:
        /* A channel that is lost does not matter any more; a source that takes its guest back does. */
        if (who == FAILED_PEER && session_run_undecided(&r->run)) {
            receive_give_up(r, EXIT_FAILED, "%s, before commit", reason);
            break;
        }
        log_warning("%s; every page is here, but serve has not acknowledged it", reason);
        r->run.exit_status = EXIT_UNACKED;
        receive_leave(r);
        break;
    default:
        break;
    }
}

static void violation(struct receiver *r, const char *text)
{
    log_error("the feeder broke the rules: %s", text);
    if (!r->feeder_told_why) {
        r->feeder_alive = false; /* no more orders; it is ended with us */
        receive_feeder_lost(r, WIRE_ERROR_INTERNAL, FAILED_HERE, text);
    }
}

static void on_hello(struct receiver *r, const struct pool_descriptor *d)
{
    if (r->run.state == SESSION_PAUSED && r->feeder_alive) {
        if (d->value[0] != r->features)
            return violation(r, "serve has other features than before");
        r->journal->generation = (uint32_t)d->value[3];
        return receive_recover_hello(r);
    }
    if (r->run.state != SESSION_LISTEN || !r->introduced)
        return violation(r, "HELLO out of turn");
    r->features = d->value[0];
    r->journal->generation = (uint32_t)d->value[3];
    log_info("handshake done: serve has %llu pages below gfn 0x%llx", (unsigned long long)d->value[1],
             (unsigned long long)d->value[2]);
    receive_mark_start(r);
}

/* Can another pager take over? The set is there for it, then. */
static bool can_be_followed(struct receiver *r)
{
    int rc;

    if (!r->be->ops->can_outlive(r->be)) {
        log_info("the ring of domain %u ends with this process: no other could take over", r->be->domid);
        return false;
    }
    rc = receive_journal_write_set(r->keeping->set_fd, &r->pages, &r->populated);
    if (rc)
        log_warning("no other pager can take over: the set cannot be kept: %s", strerror(-rc));
    return rc == 0;
}

/* From here on a guest may depend on there being a pager: said before whoever could let it run is told. */
static void depend(struct receiver *r)
{
    bool followed;

    /* One that is paused until all is compared waits for nobody. */
    if (r->our_pause)
        return;
    receive_save(r);
    followed = can_be_followed(r);
    /* Killed before this, no guest could run. */
    atomic_store(&r->journal->active, 1);
    if (followed)
        atomic_store(&r->journal->depends, 1);
    fault_point("a guest depends on us");
}

/* What somebody wanted while serve could not be asked. */
void receive_ask_all(struct receiver *r)
{
    uint64_t gfn = 0;

    if (!r->pages.requested)
        return;
    while (gfn < r->pages.nr) {
        uint64_t n = 0;
        uint32_t urgency = urgency_of(r, gfn);

        while (n < POOL_ASK_MAX && gfn + n < r->pages.nr &&
               pagein_state(&r->pages, gfn + n) == PAGE_REQUESTED && urgency_of(r, gfn + n) == urgency)
            n++;
        if (n)
            receive_ask(r, gfn, n, urgency);
        gfn += n ? n : 1;
    }
    receive_ask_end(r);
}

static void on_set(struct receiver *r, const struct pool_descriptor *d)
{
    if (r->run.state == SESSION_RECOVER) {
        if (r->work != WORK_NONE || d->value[0] != r->set_hash.pages ||
            d->value[1] != run_hash_value(&r->set_hash))
            return violation(r, "RESUME_ACK out of turn, or of something else");
        return receive_recover_done(r);
    }
    /* The last pager died before it could say that it had seen to it. */
    if (r->taken_over && d->value[0] == r->pages.counts.set)
        return;
    if (r->run.state != SESSION_DEVICE || r->work != WORK_NONE)
        return violation(r, "SET_ACK out of turn");
    if (d->value[0] != r->set_hash.pages || d->value[1] != run_hash_value(&r->set_hash)) {
        receive_give_up(r, EXIT_FAILED, "serve understood another set of absent pages (%llu, not %llu)",
                        (unsigned long long)d->value[0], (unsigned long long)r->set_hash.pages);
        return;
    }
    r->peer_active = true;
    /* Our own pause goes first: whoever moves the domain holds another until the session is active. */
    if (r->options->verify != VERIFY_FULL && r->our_pause) {
        r->our_pause = false;
        r->be->ops->unpause(r->be);
    }
    depend(r);
    session_run_enter(&r->run, SESSION_ACTIVE, NULL);
    if (receive_push_now(r) || r->options->verify == VERIFY_FULL)
        receive_go(r);
    receive_ask_all(r);
    receive_check_complete(r);
    /* Whoever started the guest's domain waits to hear it. */
    status_server_flush(&r->run.status);
}

static bool out_of_turn(struct receiver *r)
{
    return !r->peer_active && r->run.state != SESSION_DRAIN && r->run.state != SESSION_PAUSED &&
           r->run.state != SESSION_RECOVER;
}

static void on_page(struct receiver *r, struct receive_inlet *in, const struct pool_descriptor *d)
{
    if (d->slot >= r->pool->slots || r->journal->slots[d->slot].state != SLOT_FEEDER)
        return violation(r, "a page in a slot that is not the feeder's");
    /* Someone who compares maps the page; while it is absent that waits for us. */
    if (d->value[2] & PAGE_COMPARE && (!r->verifying || r->verified))
        return violation(r, "a page to compare out of turn");
    if (out_of_turn(r))
        return violation(r, "a page out of turn");
    receive_journal_take(r->journal, in->ring, d);
    pool_ring_consume(in->ring);
    if (!(d->value[2] & PAGE_COMPARE))
        answered(r, d->value[0]);
    r->asked_slots += pool_slot_asked(r->pool, d->slot);
    r->bytes += POOL_PAGE_SIZE;
    receive_page(r, d->slot, d->value[0], d->value[1], d->value[2]);
}

/* In pieces: somebody may wait for another page meanwhile. */
static void on_zeros(struct receiver *r, struct receive_inlet *in, const struct pool_descriptor *d)
{
    uint64_t first = d->value[0] + in->zeros_done, left = d->value[1] - in->zeros_done;

    if (!(r->features & WIRE_FEATURE_ZERO) || d->value[1] == 0 || d->value[1] > POOL_ZERO_MAX ||
        d->value[0] > WIRE_GFN_LIMIT || out_of_turn(r)) {
        violation(r, "zero pages out of turn");
        return;
    }
    if (left > ZEROS_AT_ONCE)
        left = ZEROS_AT_ONCE;
    for (uint64_t gfn = first; gfn < first + left; gfn++)
        answered(r, gfn);
    receive_zeros(r, first, left);
    in->zeros_done += left;
    if (in->zeros_done < d->value[1])
        return;
    in->zeros_done = 0;
    pool_ring_consume(in->ring);
}

static void on_failed(struct receiver *r, const struct pool_descriptor *d)
{
    char text[200];

    copy_text(r, text, sizeof(text));
    receive_arrivals(r, true);
    receive_feeder_lost(r, (uint32_t)d->value[0], (uint32_t)d->value[1], text);
}

static void on_report(struct receiver *r, const struct pool_descriptor *d)
{
    switch (d->type) {
    case REPORT_HELLO:
        return on_hello(r, d);
    case REPORT_SET:
        return on_set(r, d);
    case REPORT_VERIFIED:
        if (!r->verifying || r->verified)
            return violation(r, "VERIFY_END out of turn");
        return receive_verified(r);
    case REPORT_COMPLETE:
        if (!r->complete_sent || r->run.state != SESSION_DRAIN || d->value[0] != r->pages.counts.set)
            return violation(r, "COMPLETE_ACK out of turn or with another count");
        r->serve_sent = d->value[1];
        r->serve_resent = d->value[2];
        r->feeder_told_why = true;
        return receive_acknowledged(r);
    case REPORT_FAILED:
        return on_failed(r, d);
    default:
        return violation(r, "an unknown report");
    }
}

/* One report, or a part of it. */
static void take_report(struct receiver *r, struct receive_inlet *in, const struct pool_descriptor *d)
{
    if (d->type == REPORT_PAGE) {
        on_page(r, in, d);
        return;
    }
    if (d->type == REPORT_ZERO) {
        on_zeros(r, in, d);
        return;
    }
    if (in == &r->arrivals) {
        violation(r, "a report that is no page among the arrivals");
        return;
    }
    receive_install(r);
    on_report(r, d);
    /* What it has led to counts before it is gone. */
    receive_save(r);
    pool_ring_consume(in->ring);
}

/* As many as may be taken before who waits is looked at again. */
static unsigned int at_once(const struct receiver *r)
{
    return r->pages.waiting ? REPORTS_WHILE_WAITING : REPORTS_AT_ONCE;
}

static void take_reports(struct receiver *r, struct receive_inlet *in, bool all)
{
    struct pool_descriptor d;
    int rc = 0;

    pool_ring_clear(in->ring);
    for (unsigned int i = 0; all || i < at_once(r);) {
        if (session_final(r->run.state) || r->feeder_told_why)
            break;
        rc = pool_ring_peek(in->ring, &d);
        if (rc <= 0)
            break;
        i += d.type == REPORT_ZERO ? ZEROS_AT_ONCE : 1;
        take_report(r, in, &d);
    }
    receive_install(r);
    if (rc < 0)
        violation(r, "an impossible index in a ring of reports");
    if (rc > 0)
        pool_ring_notify(in->ring); /* more than one turn's worth: come again after looking at the ring */
    wake_feeder(r);
    receive_ask_unsent(r);
}

void receive_arrivals(struct receiver *r, bool all)
{
    take_reports(r, &r->arrivals, all);
}

void receive_reports(struct receiver *r, bool all)
{
    take_reports(r, &r->reports, all);
    if (r->work == WORK_SEND || r->work == WORK_RECEIVED)
        ev_idle_start(r->run.loop, &r->idle);
}
