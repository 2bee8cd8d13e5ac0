#include "serve.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "exit_status.h"
#include "log.h"
#include "oom.h"

#define SENDER_MS 2000 /* for its last words */

static void on_life(struct ev_loop *loop, ev_io *w, int events)
{
    struct server *s = w->data;

    (void)loop;
    (void)events;
    s->be->ops->ack_life(s->be);
    serve_domain_event(s);
}

static void on_signal(struct ev_loop *loop, ev_signal *w, int events)
{
    struct server *s = w->data;

    (void)loop;
    (void)events;
    if (w->signum == SIGHUP) {
        log_reopen();
    } else if (session_final(s->run.state)) {
        return;
    } else if (session_run_undecided(&s->run)) {
        s->aborted = true;
        serve_fail(s, WIRE_ERROR_GIVEN_UP, "given up on signal %d", w->signum);
    } else if (s->run.committed || s->agreed) {
        s->sigterm_refused++;
        log_warning("signal %d refused: the guest runs at the destination and domain %u here holds pages it "
                    "has not got. To "
                    "give up that guest, destroy it there",
                    w->signum, s->be->domid);
    } else {
        serve_fail(s, WIRE_ERROR_GIVEN_UP, "given up on signal %d", w->signum);
    }
}

static int check_domain(struct server *s)
{
    int rc = s->be->ops->info(s->be, &s->domain);

    if (rc) {
        log_error("domain %s: %s", s->options->domain, strerror(-rc));
        return EXIT_FAILED;
    }
    if (!s->domain.exists || s->domain.dying) {
        log_error("domain %s is not there any more", s->options->domain);
        return EXIT_FAILED;
    }
    if (!s->domain.hvm) {
        log_error("domain %s (%u) is not an HVM or PVH guest: only those can be paged", s->options->domain,
                  s->be->domid);
        return EXIT_UNFIT;
    }
    memcpy(s->run.uuid, s->domain.uuid, sizeof(s->run.uuid));
    /* xl suspends it later: see serve_switch(). */
    if (s->options->session)
        return 0;
    if (!s->domain.paused && !s->domain.shutdown) {
        log_error("domain %s (%u) is running: its pages would change while they are served. Save it with xl "
                  "save -p first",
                  s->options->domain, s->be->domid);
        return EXIT_FAILED;
    }
    /* Nobody lets it run under us by accident. */
    rc = s->be->ops->pause(s->be);
    if (rc) {
        log_error("cannot pause domain %u: %s", s->be->domid, strerror(-rc));
        return EXIT_FAILED;
    }
    s->our_pause = true;
    return 0;
}

static void watch(struct server *s)
{
    ev_io_init(&s->life_io, on_life, s->be->ops->life_fd(s->be), EV_READ);
    s->life_io.data = s;
    ev_io_start(s->run.loop, &s->life_io);
    ev_signal_init(&s->on_term, on_signal, SIGTERM);
    ev_signal_init(&s->on_int, on_signal, SIGINT);
    ev_signal_init(&s->on_hup, on_signal, SIGHUP);
    s->on_term.data = s->on_int.data = s->on_hup.data = s;
    ev_signal_start(s->run.loop, &s->on_term);
    ev_signal_start(s->run.loop, &s->on_int);
    ev_signal_start(s->run.loop, &s->on_hup);
}

/* Give everything back. */
static void release(struct server *s)
{
    serve_recover_stop(s);
    serve_sender_end(s, SENDER_MS);
    if (s->listener >= 0)
        close(s->listener);
    s->listener = -1;
    ev_idle_stop(s->run.loop, &s->scan_idle);
    ev_io_stop(s->run.loop, &s->life_io);
    serve_transport_stop(s);
    child_end(&s->xl, 0);
    if (s->be && s->our_pause)
        s->be->ops->unpause(s->be);
    s->our_pause = false;
    /* Where the guest may run elsewhere, or we may yet resume it, it stays marked: nobody else does then.
     * When it is destroyed that goes with it. */
    if (s->be && s->run.session && !s->custody && (!s->run.committed || s->aborted))
        s->be->ops->forget(s->be, s->run.session);
}

static int session(struct server *s)
{
    if (session_run_start(&s->run, s->be))
        return EXIT_FAILED;
    watch(s);
    if (s->options->session) {
        if (serve_commit_watch(s) || serve_transport_start(s)) {
            s->run.exit_status = EXIT_FAILED;
            session_run_enter(&s->run, SESSION_FAILED, "could not be set up");
        } else {
            ev_run(s->run.loop, 0);
        }
    } else if (serve_scan_all(s) || serve_listen(s, s->options->listen)) {
        s->run.exit_status = EXIT_FAILED;
        session_run_enter(&s->run, SESSION_FAILED, "could not be set up");
    } else {
        session_run_enter(&s->run, SESSION_LISTEN, s->bound);
        if (s->options->bound)
            s->options->bound(s->bound);
        ev_run(s->run.loop, 0);
    }
    session_run_finish(&s->run);
    s->custody = serve_wants_custody(s);
    release(s);
    if (s->custody)
        serve_custody(s);
    s->custody = false;
    return s->run.exit_status;
}

static void clean_up(struct server *s)
{
    release(s);
    gfn_bitmap_free(&s->populated);
    set_file_free(&s->set);
    if (s->pidfd >= 0)
        close(s->pidfd);
    if (s->bitmaps >= 0)
        close(s->bitmaps);
    if (s->figures)
        munmap(s->figures, sizeof(*s->figures));
    if (s->be)
        s->be->ops->close(s->be);
    free(s);
}

int serve_run(const struct serve_options *options)
{
    struct server *s = calloc(1, sizeof(*s));
    char why[256];
    int rc = EXIT_FAILED;

    if (!s) {
        log_error("out of memory");
        return EXIT_FAILED;
    }
    s->options = options;
    s->sender_socket = s->listener = s->bitmaps = s->pidfd = s->sender_pidfd = -1;
    serve_recover_init(s);
    s->run = (struct session_run){
        .role = "serve",
        .domain = options->name ? options->name : options->domain,
        .run_dir = options->run_dir,
        .stats_file = options->stats_file,
        .session = options->session,
        .ready_at = options->detach ? SESSION_SETUP : SESSION_LISTEN,
        .details = serve_details,
        .command = serve_command,
        .data = s,
        .exit_status = EXIT_FAILED,
        .loop = ev_default_loop(EVFLAG_AUTO),
    };
    oom_protect();
    s->be = options->open(options->domain, why, sizeof(why));
    if (!s->be)
        log_error("%s", why);
    else if ((rc = check_domain(s)) == 0)
        rc = session(s);
    clean_up(s);
    return rc;
}
