#include "receive.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exit_status.h"
#include "fault_point.h"
#include "feeder.h"
#include "log.h"
#include "wire/bytes.h"
#include "wire/wire.h"

#define DIAL_TIMEOUT_MS 30000
#define XL_MS           20000 /* what it has begun it ends */

static void on_ring(struct ev_loop *loop, ev_io *w, int events)
{
    struct receiver *r = w->data;
    int rc = r->be->ops->ack_event(r->be);

    (void)loop;
    (void)events;
    if (rc && rc != -EAGAIN)
        log_error("event channel: %s", strerror(-rc));
    receive_ring(r);
}

static void on_reports(struct ev_loop *loop, ev_io *w, int events)
{
    (void)loop;
    (void)events;
    receive_reports(w->data, false);
}

static void on_arrivals(struct ev_loop *loop, ev_io *w, int events)
{
    (void)loop;
    (void)events;
    receive_arrivals(w->data, false);
}

static void on_life(struct ev_loop *loop, ev_io *w, int events)
{
    struct receiver *r = w->data;

    (void)loop;
    (void)events;
    r->be->ops->ack_life(r->be);
    receive_domain_event(r);
}

static void feeder_ended(struct receiver *r, const char *text)
{
    ev_io_stop(r->run.loop, &r->feeder_io);
    /* What it reported before it ended counts. */
    receive_arrivals(r, true);
    receive_reports(r, true);
    r->feeder_alive = false;
    if (!r->feeder_told_why)
        receive_feeder_lost(r, FEEDER_LOST, 0, text);
}

/* The keeper has reaped it. */
static void on_news(struct ev_loop *loop, ev_io *w, int events)
{
    struct receiver *r = w->data;
    int status = r->journal->feeder_status;
    uint64_t count;
    char text[64];

    (void)loop;
    (void)events;
    if (read(w->fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
        log_error("news of the keeper: %s", strerror(errno));
    receive_recover_begin(r);
    if (!atomic_load(&r->journal->feeder_ended) || !r->feeder_alive)
        return;
    if (WIFSIGNALED(status))
        snprintf(text, sizeof(text), "the feeder died of signal %d%s", WTERMSIG(status),
                 WTERMSIG(status) == SIGSYS ? " (a forbidden system call)" : "");
    else
        snprintf(text, sizeof(text), "the feeder ended with status %d", WEXITSTATUS(status));
    feeder_ended(r, text);
}

/* Without a keeper. */
static void on_feeder(struct ev_loop *loop, ev_io *w, int events)
{
    (void)loop;
    (void)events;
    feeder_ended(w->data, "the feeder has ended");
}

static void on_keeper(struct ev_loop *loop, ev_io *w, int events)
{
    struct receiver *r = w->data;

    (void)events;
    ev_io_stop(loop, w);
    r->keeper_ended = true;
    log_error("the keeper has ended: going on, but if this process dies, too, no other takes its place");
    if (r->feeder_alive && r->feeder_pidfd >= 0)
        ev_io_start(loop, &r->feeder_io);
}

static void on_prepare(struct ev_loop *loop, ev_prepare *w, int events)
{
    (void)loop;
    (void)events;
    receive_save(w->data);
}

static void on_idle(struct ev_loop *loop, ev_idle *w, int events)
{
    (void)loop;
    (void)events;
    receive_mark_step(w->data);
}

static void on_retry(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    receive_retry(w->data);
}

static void on_leaving(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    receive_super_leaving(w->data);
}

static void on_collapse(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    receive_collapse_step(w->data);
}

static void on_leave(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    receive_leave(w->data);
}

static void on_signal(struct ev_loop *loop, ev_signal *w, int events)
{
    struct receiver *r = w->data;
    uint64_t absent = pagein_outstanding(&r->pages);

    (void)loop;
    (void)events;
    if (w->signum == SIGHUP) {
        log_reopen();
        return;
    }
    if (session_final(r->run.state))
        return;
    if (session_run_undecided(&r->run)) {
        r->aborted = true;
        receive_give_up(r, EXIT_FAILED, "given up on signal %d; the source is intact", w->signum);
        return;
    }
    if (receive_collapse_stop(r)) {
        log_info("signal %d: no more superpages are made", w->signum);
        receive_leave(r);
        return;
    }
    switch (r->run.state) {
    case SESSION_SETUP:
    case SESSION_LISTEN:
    case SESSION_DEVICE:
        receive_give_up(r, EXIT_FAILED, "given up on signal %d; the source is intact", w->signum);
        break;
    default:
        r->sigterm_refused++;
        log_warning("signal %d refused: %llu pages of domain %u are absent, and without this process the "
                    "guest stops for ever at "
                    "the first it touches. To end both, destroy the domain: xl destroy %u",
                    w->signum, (unsigned long long)absent, r->be->domid, r->be->domid);
    }
}

static void watch_signals(struct receiver *r)
{
    ev_signal_init(&r->on_term, on_signal, SIGTERM);
    ev_signal_init(&r->on_int, on_signal, SIGINT);
    ev_signal_init(&r->on_hup, on_signal, SIGHUP);
    r->on_term.data = r->on_int.data = r->on_hup.data = r;
    ev_signal_start(r->run.loop, &r->on_term);
    ev_signal_start(r->run.loop, &r->on_int);
    ev_signal_start(r->run.loop, &r->on_hup);
    sigprocmask(SIG_SETMASK, r->signals, NULL);
}

static void watch_all(struct receiver *r)
{
    ev_io_init(&r->ring_io, on_ring, r->be->ops->event_fd(r->be), EV_READ);
    ev_io_init(&r->reports_io, on_reports, r->pool->reports.event_fd, EV_READ);
    ev_io_init(&r->arrivals_io, on_arrivals, r->pool->arrivals.event_fd, EV_READ);
    ev_io_init(&r->life_io, on_life, r->be->ops->life_fd(r->be), EV_READ);
    ev_io_init(&r->news_io, on_news, r->keeping->news_fd, EV_READ);
    ev_io_init(&r->keeper_io, on_keeper, r->keeping->keeper_pidfd, EV_READ);
    ev_io_init(&r->feeder_io, on_feeder, r->keeping->feeder_pidfd, EV_READ);
    receive_recover_init(r);
    ev_prepare_init(&r->prepare, on_prepare);
    ev_idle_init(&r->idle, on_idle);
    ev_timer_init(&r->retry, on_retry, 0., 0.);
    ev_timer_init(&r->leave, on_leave, 0., 0.);
    ev_timer_init(&r->leaving, on_leaving, 0., 0.);
    ev_timer_init(&r->collapse.timer, on_collapse, 0., 0.);
    r->reports.ring = &r->pool->reports;
    r->arrivals.ring = &r->pool->arrivals;
    r->ring_io.data = r->reports_io.data = r->arrivals_io.data = r->life_io.data = r;
    r->news_io.data = r->keeper_io.data = r->feeder_io.data = r->prepare.data = r;
    r->idle.data = r->retry.data = r->leave.data = r->leaving.data = r->collapse.timer.data = r;
    /* A waiting vcpu comes before pages that arrive in the background, and all that happens before what can
     * wait. */
    ev_set_priority(&r->ring_io, EV_MAXPRI);
    ev_set_priority(&r->reports_io, EV_MAXPRI);
    ev_set_priority(&r->leaving, EV_MINPRI);
    ev_set_priority(&r->collapse.timer, EV_MINPRI);
    ev_io_start(r->run.loop, &r->reports_io);
    ev_io_start(r->run.loop, &r->arrivals_io);
    ev_io_start(r->run.loop, &r->life_io);
    ev_io_start(r->run.loop, &r->news_io);
    ev_io_start(r->run.loop, &r->keeper_io);
    ev_prepare_start(r->run.loop, &r->prepare);
}

/* A pager that is swapped out stops its guest. Best effort: tests run without the right. The keeper has seen
 * to it that it is not killed for memory. */
static void stay_in_memory(void)
{
    if (mlockall(MCL_CURRENT | MCL_FUTURE))
        log_warning("mlockall: %s: this pager may be paged out itself", strerror(errno));
}

static int check_domain(struct receiver *r)
{
    int rc = r->be->ops->info(r->be, &r->domain);

    if (rc) {
        log_error("domain %s: %s", r->options->domain, strerror(-rc));
        return EXIT_FAILED;
    }
    if (!r->domain.exists || r->domain.dying) {
        log_error("domain %s is not there any more", r->options->domain);
        return EXIT_FAILED;
    }
    if (!r->domain.hvm || !r->domain.hap) {
        log_error("domain %s (%u) is not an HVM or PVH guest with HAP: its memory cannot be paged",
                  r->options->domain, r->be->domid);
        return EXIT_UNFIT;
    }
    if (!r->domain.paused) {
        log_error("domain %s (%u) is running: what it has written since would be lost. Restore it with xl "
                  "restore -p, and "
                  "unpause it when this session is active",
                  r->options->domain, r->be->domid);
        return EXIT_FAILED;
    }
    memcpy(r->run.uuid, r->domain.uuid, sizeof(r->run.uuid));
    return 0;
}

static int open_domain(struct receiver *r)
{
    char why[256];
    int rc;

    r->be = r->options->open(r->options->domain, why, sizeof(why));
    if (!r->be) {
        log_error("%s", why);
        return EXIT_FAILED;
    }
    rc = check_domain(r);
    if (rc)
        return rc;
    return session_run_start_on(&r->run, r->be, r->keeping->status_fd, false) ? EXIT_FAILED : 0;
}

/* Everything that a page needs on its way from wake-up to guest is allocated here. */
static int prepare_memory(struct receiver *r)
{
    r->held_size = r->pool->slots + RECEIVE_STAGES * BACKEND_SUPER;
    r->held = calloc(r->held_size, sizeof(*r->held));
    r->scratch = aligned_alloc(POOL_PAGE_SIZE, (size_t)BACKEND_LOAD_MAX * POOL_PAGE_SIZE);
    if (!r->held || !r->scratch) {
        log_error("out of memory");
        return -1;
    }
    return 0;
}

void receive_introduce(struct receiver *r)
{
    struct pool_descriptor order = {.type = ORDER_START};
    uint64_t features = r->options->verify == VERIFY_HASH   ? WIRE_FEATURE_HASH
                        : r->options->verify == VERIFY_FULL ? WIRE_FEATURE_HASH | WIRE_FEATURE_VERIFY
                                                            : 0;
    /* All that 2017 had not comes with bulk channels. */
    uint64_t offered = features | (r->options->streams ? WIRE_FEATURE_ZERO : 0);

    r->introduced = true;
    order.value[0] = get_u64(r->run.uuid);
    order.value[1] = get_u64(r->run.uuid + 8);
    order.value[2] = offered;
    order.value[3] = features;
    pool_ring_put(&r->pool->orders, &order);
    pool_ring_notify(&r->pool->orders);
}

/* Last words (GONE, ERROR) get two seconds to go out. */
static void end_feeder(struct receiver *r)
{
    struct pollfd p = {.fd = r->feeder_pidfd, .events = POLLIN};

    if (!r->last_order || poll(&p, 1, 2000) <= 0)
        syscall(SYS_pidfd_send_signal, p.fd, SIGKILL, NULL, 0);
}

/* Of what the session held, all but the domain itself and the feeder, who may have something to say yet. */
static void release(struct receiver *r)
{
    if (!r->be)
        return;
    receive_unclaim(r);
    ev_io_stop(r->run.loop, &r->ring_io);
    ev_io_stop(r->run.loop, &r->reports_io);
    ev_io_stop(r->run.loop, &r->arrivals_io);
    ev_io_stop(r->run.loop, &r->life_io);
    ev_idle_stop(r->run.loop, &r->idle);
    ev_timer_stop(r->run.loop, &r->retry);
    ev_timer_stop(r->run.loop, &r->leave);
    ev_timer_stop(r->run.loop, &r->leaving);
    ev_timer_stop(r->run.loop, &r->recover.timer);
    ev_timer_stop(r->run.loop, &r->collapse.timer);
    ev_prepare_stop(r->run.loop, &r->prepare);
    ev_io_stop(r->run.loop, &r->news_io);
    ev_io_stop(r->run.loop, &r->keeper_io);
    ev_io_stop(r->run.loop, &r->feeder_io);
}

static void clean_up(struct receiver *r)
{
    release(r);
    receive_trace_end(r);
    end_feeder(r);
    child_end(&r->xl, XL_MS);
    if (r->be)
        r->be->ops->close(r->be);
    set_file_free(&r->set);
    receive_mark_free(r);
    receive_early_free(r);
    free(r->held);
    free(r->scratch);
    free(r);
}

/* As far as the loop: an exit status, or 0. */
static int begin(struct receiver *r)
{
    int rc;

    if (prepare_memory(r) || receive_trace_open(r))
        return EXIT_FAILED;
    rc = r->taken_over ? receive_take_over(r) : open_domain(r);
    if (rc)
        return rc;
    watch_all(r);
    receive_trace_watch(r);
    watch_signals(r);
    return 0;
}

static void run(struct receiver *r)
{
    if (receive_commit_watch(r)) {
        session_run_enter(&r->run, SESSION_FAILED, "could not be set up");
        return;
    }
    stay_in_memory();
    if (r->taken_over) {
        receive_resume(r);
    } else if (r->options->early) {
        receive_early_start(r);
    } else {
        session_run_enter(&r->run, SESSION_LISTEN, NULL);
        receive_introduce(r);
    }
    if (!session_final(r->run.state))
        ev_run(r->run.loop, 0);
}

int receive_pager(const struct receive_options *options, const struct keeping *keeping,
                  const sigset_t *signals)
{
    struct receiver *r = calloc(1, sizeof(*r));
    int rc;

    fault_point("a pager starts");
    if (!r) {
        log_error("out of memory");
        return EXIT_FAILED;
    }
    r->options = options;
    r->keeping = keeping;
    r->journal = keeping->journal;
    r->pool = &r->journal->pool;
    r->signals = signals;
    r->feeder_pidfd = keeping->feeder_pidfd;
    r->feeder_alive = true;
    r->taken_over = atomic_load(&r->journal->depends);
    r->retry_ms = 10;
    r->run = (struct session_run){
        .role = "receive",
        .domain = options->name ? options->name : options->domain,
        .run_dir = options->run_dir,
        .stats_file = options->stats_file,
        .session = options->session,
        .ready_at = options->detach ? SESSION_SETUP : SESSION_ACTIVE,
        .details = receive_details,
        .command = receive_command,
        .data = r,
        .exit_status = EXIT_FAILED,
        .pid = r->journal->keeper,
        .feeder = &r->journal->feeder_usage,
        .loop = ev_default_loop(EVFLAG_AUTO),
    };
    if (r->taken_over)
        receive_restore(r);
    rc = begin(r);
    if (rc == 0) {
        run(r);
        rc = r->run.exit_status;
        session_run_finish(&r->run);
        release(r);
        receive_custody(r);
    }
    /* One that could not take over is followed by another, with the feeder that there is. */
    if (rc == 0 || !r->taken_over || session_final(r->run.state)) {
        clean_up(r);
        atomic_store(&keeping->journal->ended, 1);
    }
    return rc;
}
