/* The ends of a session: complete, given up before the guest could run, guest gone. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "custody.h"
#include "exit_status.h"
#include "log.h"
#include "receive.h"
#include "wire/wire.h"

#define LEAVE_RETRY_S 0.05

void receive_unclaim(struct receiver *r)
{
    if (r->claimed && r->domain.exists && !r->domain.dying)
        r->be->ops->claim(r->be, 0);
    r->claimed = 0;
}

static bool full_compare_failed(const struct receiver *r)
{
    uint64_t compared_in_set = r->full.compared - r->full.not_in_set;

    return r->verified &&
           (r->full.differing_pages || r->full.unmapped || compared_in_set != r->pages.counts.installed);
}

static void send_complete(struct receiver *r)
{
    const struct pagein_counts *c = &r->pages.counts;
    struct pool_descriptor order = {
        .type = ORDER_COMPLETE,
        .value = {c->set, c->installed, c->dropped, c->replaced, c->guest_faults, c->entries_foreign},
    };

    r->complete_sent = true;
    if (!receive_journal_say(r->journal, SAID_COMPLETE, &order))
        log_error("no room for COMPLETE");
    pool_ring_notify(&r->pool->orders);
}

void receive_check_complete(struct receiver *r)
{
    uint64_t left = pagein_outstanding(&r->pages);

    if (r->run.state != SESSION_ACTIVE && r->run.state != SESSION_PAUSED)
        return;
    if (left && left == r->pages.bad && r->run.state == SESSION_ACTIVE) {
        /* Every other page is here. The guest keeps its pager: what it never touches of the rest does no
         * harm. */
        receive_order(r, ORDER_ERROR, WIRE_ERROR_VERIFY, 0);
        r->feeder_told_why = true;
        r->peer_active = r->recoverable = false;
        r->run.exit_status = EXIT_WRONG;
        session_run_enter(&r->run, SESSION_PAUSED,
                          "verify: pages came twice with contents that do not match their hash");
        receive_let_foreign_go(r);
        if (session_run_undecided(&r->run))
            receive_give_up(r, EXIT_WRONG, "verify: pages with wrong contents");
        else if (r->our_pause)
            session_run_end(&r->run, SESSION_FAILED, EXIT_WRONG, "verify: pages with wrong contents");
        return;
    }
    if (left)
        return;
    if (r->options->verify == VERIFY_FULL && !r->verified && r->peer_active) {
        if (!r->verifying) {
            r->verifying = true;
            receive_go(r);
            receive_order(r, ORDER_VERIFY, 0, 0);
        }
        return;
    }
    if (full_compare_failed(r)) {
        receive_order(r, ORDER_ERROR, WIRE_ERROR_VERIFY, 0);
        session_run_end(
            &r->run, SESSION_FAILED, EXIT_WRONG,
            "verify: of %llu pages of the set %llu compared, %llu differ, %llu could not be mapped",
            (unsigned long long)r->pages.counts.installed,
            (unsigned long long)(r->full.compared - r->full.not_in_set),
            (unsigned long long)r->full.differing_pages, (unsigned long long)r->full.unmapped);
        return;
    }
    /* serve may destroy the source on COMPLETE: not while the guest may still go back there. */
    if (session_run_undecided(&r->run))
        session_run_enter(&r->run, SESSION_DRAIN, "every page is here: waiting for commit");
    else
        receive_conclude(r);
}

void receive_conclude(struct receiver *r)
{
    if (r->peer_active) {
        session_run_enter(&r->run, SESSION_DRAIN, NULL);
        if (!r->complete_sent)
            send_complete(r);
    } else {
        session_run_enter(&r->run, SESSION_DRAIN, "every page is here; serve could not be told");
        r->run.exit_status = EXIT_UNACKED;
        receive_leave(r);
    }
}

void receive_acknowledged(struct receiver *r)
{
    r->peer_active = false;
    r->run.exit_status = EXIT_DONE;
    receive_leave(r);
}

/* What is said first tells the next pager whose the pause is that it finds (receive_takeover.c). */
static bool pause_to_leave(struct receiver *r)
{
    struct backend_domain now;

    if (r->be->ops->info(r->be, &now))
        return false;
    /* No vcpu is on its way to anything. */
    if (custody_never_started(&now) && !r->journal->n_half)
        return false;
    atomic_store(&r->journal->pausing, now.paused ? PAUSING_PAUSED : PAUSING_RUNNING);
    return r->be->ops->pause(r->be) == 0;
}

static int leave_ring(struct receiver *r)
{
    bool held = pause_to_leave(r);
    int rc;

    receive_ring(r);
    rc = receive_half_unmark(r);
    if (rc == 0)
        rc = r->be->ops->detach(r->be);
    if (held)
        r->be->ops->unpause(r->be);
    atomic_store(&r->journal->pausing, PAUSING_NOT);
    return rc;
}

/*
 * Leave the ring of a domain that is whole. Paused meanwhile: a vcpu that faulted just before its page came
 * may still be on its way to put an entry, and one that is put when the ring is gone is never answered.
 */
void receive_leave(struct receiver *r)
{
    int rc;

    if (session_final(r->run.state) || r->left || receive_collapse(r))
        return;
    if (r->attached)
        r->be->ops->ring_stats(r->be, &r->ring_stats);
    rc = r->attached ? leave_ring(r) : 0;
    if (rc == -EBUSY) {
        /* vcpus sleep in Xen for a slot of the ring, or someone maps a page: both will have passed in a
         * moment. */
        ev_timer_set(&r->leave, LEAVE_RETRY_S, 0.);
        ev_timer_start(r->run.loop, &r->leave);
        return;
    }
    if (rc) {
        receive_domain_event(r);
        if (session_final(r->run.state))
            return;
        log_warning("paging of domain %u could not be disabled: %s", r->be->domid, strerror(-rc));
    }
    r->attached = false;
    ev_io_stop(r->run.loop, &r->ring_io);
    if (r->our_pause) {
        r->our_pause = false;
        r->be->ops->unpause(r->be);
    }
    r->left = true;
    receive_unclaim(r);
    receive_whole(r);
}

void receive_domain_event(struct receiver *r)
{
    struct backend_domain now;
    int rc = r->be->ops->info(r->be, &now);

    if (rc || session_final(r->run.state))
        return;
    if (now.exists && !now.dying) {
        if (now.shutdown && !r->domain.shutdown)
            log_info("domain %u has shut down (reason %u) and is still there: going on", r->be->domid,
                     now.shutdown_reason);
        r->domain = now;
        return;
    }
    r->domain.exists = now.exists;
    receive_domain_gone(r);
}

void receive_domain_gone(struct receiver *r)
{
    if (session_final(r->run.state))
        return;
    r->domain.dying = true;
    /* At once: every page we have mapped keeps the domain a zombie. */
    r->be->ops->abandon(r->be);
    r->attached = false;
    r->our_pause = false;
    ev_io_stop(r->run.loop, &r->ring_io);
    r->work = WORK_NONE;
    receive_collapse_stop(r);
    ev_timer_stop(r->run.loop, &r->leaving);
    if (session_run_undecided(&r->run)) {
        receive_hand_back(r);
        session_run_end(&r->run, SESSION_FAILED, EXIT_FAILED,
                        "domain %u was destroyed here before commit; the source is intact", r->be->domid);
        return;
    }
    receive_order(r, ORDER_GONE,
                  r->run.session && r->pages.counts.guest_has_faulted ? WIRE_GONE_RAN : WIRE_GONE_DESTROYED,
                  0);
    if (pagein_outstanding(&r->pages) || r->run.state != SESSION_DRAIN)
        session_run_end(&r->run, r->run.state == SESSION_LISTEN ? SESSION_FAILED : SESSION_COMPLETED,
                        EXIT_GONE, "the guest ended here with %llu of %llu pages absent",
                        (unsigned long long)pagein_outstanding(&r->pages),
                        (unsigned long long)r->pages.counts.set);
    else
        session_run_end(&r->run, SESSION_COMPLETED, EXIT_GONE,
                        "the guest ended here after its last page came");
}

void receive_give_up(struct receiver *r, int exit_status, const char *fmt, ...)
{
    char reason[384];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(reason, sizeof(reason), fmt, ap);
    va_end(ap);
    if (session_final(r->run.state))
        return;
    r->work = WORK_NONE;
    ev_timer_stop(r->run.loop, &r->retry);
    ev_timer_stop(r->run.loop, &r->leave);
    ev_timer_stop(r->run.loop, &r->leaving);
    /* The guest may go on at the source when that is said: nobody is to let it go on here. */
    atomic_store(&r->journal->over, 1);
    receive_say_given_up(r);
    if (r->attached) {
        receive_half_unmark(r);
        if (r->be->ops->detach(r->be))
            r->be->ops->abandon(r->be);
    }
    r->attached = false;
    ev_io_stop(r->run.loop, &r->ring_io);
    receive_unclaim(r);
    /* Between active and commit it has only xl's pause; it may not run any more, even if it is whole: the
     * source may. */
    if (session_run_undecided(&r->run) && !r->our_pause)
        r->our_pause = r->be->ops->pause(r->be) == 0;
    if (r->pages.counts.set || r->early.pages) {
        log_error("pages of domain %u were evicted already: it stays paused and can only be destroyed "
                  "(xl destroy %u)",
                  r->be->domid, r->be->domid);
    } else if (r->our_pause && !session_run_undecided(&r->run)) {
        r->our_pause = false;
        r->be->ops->unpause(r->be);
    }
    session_run_end(&r->run, SESSION_FAILED, exit_status, "%s", reason);
}
