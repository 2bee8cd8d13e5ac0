#include "custody.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"
#include "log.h"

#define SUSPEND_S 60. /* what libxl gives a guest */

struct custody {
    struct session_run *run;
    struct backend *be;
    const char *xl;
    bool source;
    bool watching; /* the watched process still runs */
    ev_io pid_io, life_io;
    ev_timer timer;
    ev_signal on_term, on_int;
    struct child child;
};

int custody_watch(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

static void over(struct custody *c, const char *text)
{
    if (text)
        session_run_postscript(c->run, text);
    ev_break(c->run->loop, EVBREAK_ALL);
}

static void done(void *data)
{
    struct custody *c = data;
    char how[256], text[384];

    child_describe(&c->child, how, sizeof(how));
    snprintf(text, sizeof(text), "%s %s %u %s", c->xl, c->source ? "postcopy-resume" : "destroy",
             c->be->domid, child_succeeded(&c->child) ? "done" : how);
    over(c, text);
}

static void run_xl(struct custody *c)
{
    char domid[16];
    const char *argv[] = {c->xl, c->source ? "postcopy-resume" : "destroy", domid, NULL};

    if (c->child.pid)
        return;
    ev_timer_stop(c->run->loop, &c->timer);
    snprintf(domid, sizeof(domid), "%u", c->be->domid);
    log_info("running %s %s %s", argv[0], argv[1], argv[2]);
    if (child_start(&c->child, c->run->loop, "xl", argv, -1, done, c))
        over(c, "xl could not be started: see to the domain by hand");
}

static void look(struct custody *c)
{
    struct backend_domain now;

    if (c->watching || c->child.pid || c->be->ops->info(c->be, &now))
        return;
    if (!now.exists || now.dying || memcmp(now.uuid, c->run->uuid, sizeof(now.uuid)) != 0)
        over(c, NULL);
    /* Someone has taken it back: a later suspend is none of ours. */
    else if (c->source && !c->be->ops->owned(c->be, c->run->session))
        over(c, NULL);
    else if (!c->source || (now.shutdown && now.shutdown_reason == BACKEND_SUSPENDED))
        run_xl(c);
    else if (now.shutdown)
        over(c, "the domain has shut down by itself");
}

static void on_pid(struct ev_loop *loop, ev_io *w, int events)
{
    struct custody *c = w->data;

    (void)events;
    ev_io_stop(loop, w);
    c->watching = false;
    log_warning("the process that moved domain %u has ended before commit", c->be->domid);
    if (c->source)
        ev_timer_start(loop, &c->timer);
    look(c);
}

static void on_life(struct ev_loop *loop, ev_io *w, int events)
{
    struct custody *c = w->data;

    (void)loop;
    (void)events;
    c->be->ops->ack_life(c->be);
    look(c);
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    over(w->data, "the domain runs, nothing to resume");
}

static void on_signal(struct ev_loop *loop, ev_signal *w, int events)
{
    struct custody *c = w->data;

    (void)events;
    if (c->child.pid && !c->child.ended)
        return; /* what it has begun it ends: its output comes to us */
    ev_break(loop, EVBREAK_ALL);
}

void custody_keep(struct session_run *run, struct backend *be, int pidfd, const char *xl, bool source)
{
    struct custody c = {.run = run, .be = be, .xl = xl, .source = source, .watching = true};
    struct backend_domain now;

    if (be->ops->info(be, &now) == 0 && (!now.exists || now.dying))
        return;

    ev_io_init(&c.pid_io, on_pid, pidfd, EV_READ);
    ev_io_init(&c.life_io, on_life, be->ops->life_fd(be), EV_READ);
    ev_timer_init(&c.timer, on_timer, SUSPEND_S, 0.);
    ev_signal_init(&c.on_term, on_signal, SIGTERM);
    ev_signal_init(&c.on_int, on_signal, SIGINT);
    c.pid_io.data = c.life_io.data = c.timer.data = c.on_term.data = c.on_int.data = &c;
    ev_io_start(run->loop, &c.pid_io);
    ev_io_start(run->loop, &c.life_io);
    ev_signal_start(run->loop, &c.on_term);
    ev_signal_start(run->loop, &c.on_int);
    ev_run(run->loop, 0);
    ev_io_stop(run->loop, &c.pid_io);
    ev_io_stop(run->loop, &c.life_io);
    ev_timer_stop(run->loop, &c.timer);
    ev_signal_stop(run->loop, &c.on_term);
    ev_signal_stop(run->loop, &c.on_int);
    /* It goes on without us if we were told to end. */
    if (c.child.pid && c.child.ended)
        child_end(&c.child, 0);
}
