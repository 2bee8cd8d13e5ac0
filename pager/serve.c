#include "serve.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "exit_status.h"
#include "log.h"

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
    } else if (s->run.state == SESSION_ACTIVE || s->run.state == SESSION_DRAIN) {
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
    if (!s->domain.paused && !s->domain.shutdown) {
        log_error("domain %s (%u) is running: its pages would change while they are served. Save it with xl "
                  "save -p first",
                  s->options->domain, s->be->domid);
        return EXIT_FAILED;
    }
    memcpy(s->run.uuid, s->domain.uuid, sizeof(s->run.uuid));
    /* Nobody lets it run under us by accident. */
    rc = s->be->ops->pause(s->be);
    if (rc) {
        log_error("cannot pause domain %u: %s", s->be->domid, strerror(-rc));
        return EXIT_FAILED;
    }
    s->our_pause = true;
    return 0;
}

static int scan(struct server *s)
{
    bool there[BACKEND_SCAN_MAX];
    uint64_t max, largest = 0;
    int rc = s->be->ops->max_gfn(s->be, &max);

    if (rc == 0 && max >= WIRE_GFN_LIMIT)
        rc = -EFBIG;
    if (rc == 0)
        rc = gfn_bitmap_init(&s->populated, max + 1);
    for (uint64_t gfn = 0; rc == 0 && gfn <= max; gfn += BACKEND_SCAN_MAX) {
        unsigned int n = max + 1 - gfn < BACKEND_SCAN_MAX ? (unsigned int)(max + 1 - gfn) : BACKEND_SCAN_MAX;

        rc = s->be->ops->populated(s->be, gfn, n, there);
        for (unsigned int i = 0; rc == 0 && i < n; i++) {
            if (there[i]) {
                gfn_bitmap_set(&s->populated, gfn + i);
                s->populated_count++;
                largest = gfn + i;
            }
        }
    }
    if (rc == 0)
        rc = push_order_init(&s->order, largest + 1);
    if (rc) {
        log_error("finding the pages of domain %u: %s", s->be->domid, strerror(-rc));
        return EXIT_FAILED;
    }
    s->nr_gfns = largest + 1;
    log_info("domain %u has %llu pages up to gfn 0x%llx", s->be->domid,
             (unsigned long long)s->populated_count, (unsigned long long)largest);
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

static int session(struct server *s)
{
    if (session_run_start(&s->run, s->be))
        return EXIT_FAILED;
    watch(s);
    if (scan(s) || serve_listen(s, s->options->listen)) {
        s->run.exit_status = EXIT_FAILED;
        session_run_enter(&s->run, SESSION_FAILED, "could not be set up");
    } else {
        session_run_enter(&s->run, SESSION_LISTEN, s->bound);
        if (s->options->bound)
            s->options->bound(s->bound);
        ev_run(s->run.loop, 0);
    }
    session_run_finish(&s->run);
    return s->run.exit_status;
}

static void clean_up(struct server *s)
{
    serve_listen_stop(s);
    serve_drop_batch(s);
    if (s->sock >= 0)
        close(s->sock);
    push_order_free(&s->order);
    gfn_bitmap_free(&s->populated);
    if (s->be) {
        if (s->our_pause)
            s->be->ops->unpause(s->be);
        s->be->ops->close(s->be);
    }
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
    s->sock = -1;
    for (int i = 0; i < SERVE_PENDING; i++)
        s->pending[i].fd = -1;
    s->run = (struct session_run){
        .role = "serve",
        .domain = options->domain,
        .run_dir = options->run_dir,
        .stats_file = options->stats_file,
        .ready_at = SESSION_LISTEN,
        .details = serve_details,
        .data = s,
        .exit_status = EXIT_FAILED,
        .loop = ev_default_loop(EVFLAG_AUTO),
    };
    s->be = options->open(options->domain, why, sizeof(why));
    if (!s->be)
        log_error("%s", why);
    else if ((rc = check_domain(s)) == 0)
        rc = session(s);
    clean_up(s);
    return rc;
}
