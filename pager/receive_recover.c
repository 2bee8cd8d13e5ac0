/*
 * A session whose channels are lost goes on with others: another feeder dials, serve is told what is here,
 * and asked again for what somebody waits for. The guest runs on meanwhile with what it has.
 *
 *     paused ──(in a while; the last feeder is dead)──▶ the rings are emptied, the keeper is asked for
 * another feeder ──(it is there)──▶ it is given every slot that holds nothing, says HELLO ──▶ recover: what
 * is settled is said ──(serve has understood)──▶ active. Whatever goes wrong: paused again.
 */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "log.h"
#include "receive.h"
#include "wire/wire.h"

#define AGAIN_MS_MIN 100
#define AGAIN_MS_MAX 10000
#define REAP_MS      10
#define ANSWER_MS    45000 /* of serve, dialling included */

static void try_in(struct receiver *r, unsigned int ms)
{
    ev_timer_stop(r->run.loop, &r->recover.timer);
    ev_timer_set(&r->recover.timer, ms / 1000., 0.);
    ev_timer_start(r->run.loop, &r->recover.timer);
}

/* Answers that were under way are lost, and nothing of what the rings held counts. */
static void forget_channels(struct receiver *r)
{
    uint64_t gfn = 0;

    while ((gfn = gfn_bitmap_next(&r->notes.asked, gfn)) < r->notes.asked.nr)
        gfn_bitmap_clear(&r->notes.asked, gfn);
    r->n_asked = 0;
    r->reports.zeros_done = r->arrivals.zeros_done = 0;
    r->work = WORK_NONE;
    pool_ring_restart(&r->pool->orders);
    pool_ring_restart(&r->pool->reports);
    pool_ring_restart(&r->pool->arrivals);
}

static void end_feeder(struct receiver *r)
{
    if (!atomic_load(&r->journal->feeder_ended)) {
        /* Whatever it was about to tell: the next one follows as soon as it is reaped. */
        r->feeder_told_why = true;
        syscall(SYS_pidfd_send_signal, r->feeder_pidfd, SIGKILL, NULL, 0);
    } else {
        r->feeder_alive = false;
    }
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int events)
{
    struct receiver *r = w->data;
    const uint64_t one = 1;

    (void)loop;
    (void)events;
    if (r->run.state == SESSION_RECOVER)
        session_run_enter(&r->run, SESSION_PAUSED, "serve has not answered for a while");
    if (r->run.state != SESSION_PAUSED || r->recover.wanted || r->keeper_ended)
        return;
    /* Its end is on its way. */
    if (r->feeder_alive || !atomic_load(&r->journal->feeder_ended)) {
        end_feeder(r);
        try_in(r, REAP_MS);
        return;
    }
    forget_channels(r);
    r->recover.wanted = true;
    if (write(r->keeping->want_fd, &one, sizeof(one)) < 0)
        log_error("the keeper cannot be asked for a feeder: %s", strerror(errno));
}

void receive_recover_init(struct receiver *r)
{
    r->recover.feeders = atomic_load(&r->journal->feeders);
    r->recover.failures = atomic_load(&r->journal->feeder_failures);
    ev_timer_init(&r->recover.timer, on_timer, 0., 0.);
    r->recover.timer.data = r;
}

void receive_recover_later(struct receiver *r)
{
    struct receive_recover *again = &r->recover;

    /* Nobody else starts one. */
    if (r->keeper_ended)
        return;
    again->wanted = false;
    again->ms = again->ms == 0 ? AGAIN_MS_MIN : 2 * again->ms < AGAIN_MS_MAX ? 2 * again->ms : AGAIN_MS_MAX;
    try_in(r, again->ms);
}

const char *receive_recover(struct receiver *r)
{
    if (r->run.state != SESSION_PAUSED)
        return "the session is not paused";
    if (r->keeper_ended)
        return "the process that would start another feeder has died: the guest waits for ever, and can only "
               "be destroyed";
    if (!r->recover.wanted)
        try_in(r, 0);
    return NULL;
}

/* Of the last one nothing is left. */
static void watch_feeder(struct receiver *r)
{
    ev_io_stop(r->run.loop, &r->feeder_io);
    if (r->feeder_pidfd >= 0)
        close(r->feeder_pidfd);
    r->feeder_pidfd = (int)syscall(SYS_pidfd_open, r->journal->feeder, 0);
    if (r->feeder_pidfd < 0)
        log_error("the feeder cannot be watched: %s", strerror(errno));
    ev_io_set(&r->feeder_io, r->feeder_pidfd, EV_READ);
}

void receive_recover_begin(struct receiver *r)
{
    uint32_t feeders = atomic_load(&r->journal->feeders);

    if (r->recover.wanted && atomic_load(&r->journal->feeder_failures) != r->recover.failures) {
        r->recover.failures = atomic_load(&r->journal->feeder_failures);
        receive_recover_later(r);
        return;
    }
    if (feeders == r->recover.feeders || !r->recover.wanted)
        return;
    r->recover.feeders = feeders;
    r->recover.wanted = false;
    watch_feeder(r);
    try_in(r, ANSWER_MS);
    r->feeder_alive = true;
    r->feeder_told_why = r->last_order = false;
    for (uint32_t slot = 0; slot < r->pool->slots; slot++)
        if (r->journal->slots[slot].state == SLOT_FEEDER)
            receive_journal_give_back(r->journal, slot);
    receive_introduce(r);
}

void receive_recover_hello(struct receiver *r)
{
    session_run_enter(&r->run, SESSION_RECOVER, NULL);
    run_hash_init(&r->set_hash);
    r->work = WORK_RECEIVED;
    r->work_gfn = 0;
    ev_idle_start(r->run.loop, &r->idle);
}

/* Of the set, and the source has nothing to do with it any more. */
static bool is_here(const struct receiver *r, uint64_t gfn)
{
    switch (pagein_state(&r->pages, gfn)) {
    case PAGE_ARRIVED:
    case PAGE_PRESENT:
    case PAGE_DROPPED:
    case PAGE_REPLACED:
        return true;
    default:
        return false;
    }
}

static uint64_t next_that_is_here(const struct receiver *r, uint64_t first, uint64_t *end)
{
    while (first < r->pages.nr && !is_here(r, first))
        first++;
    for (*end = first; *end < r->pages.nr && is_here(r, *end);)
        ++*end;
    return first;
}

void receive_recover_step(struct receiver *r)
{
    receive_send_runs(r, next_that_is_here);
}

void receive_recover_done(struct receiver *r)
{
    const struct pool_descriptor go = {.type = ORDER_GO};

    r->peer_active = true;
    ev_timer_stop(r->run.loop, &r->recover.timer);
    r->recover.ms = 0;
    r->recover.times++;
    session_run_enter(&r->run, SESSION_ACTIVE, NULL);
    if (r->went) /* what is said once was, to the feeder before */
        pool_ring_put(&r->pool->orders, &go);
    else if (receive_push_now(r))
        receive_go(r);
    receive_ask_all(r);
    pool_ring_notify(&r->pool->orders);
    receive_check_complete(r);
}
