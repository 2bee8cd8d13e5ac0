#include "custody.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"
#include "log.h"
#include "session_id.h"

#define SUSPEND_S 60. /* what libxl gives a guest */

static const struct task {
    const char *words[2]; /* of xl, before the domain's number */
    bool source;
} tasks[] = {
    [CUSTODY_RESUME] = {{"postcopy-resume"}, true},
    [CUSTODY_TAKE_BACK] = {{"postcopy-resume", "-f"}, true},
    [CUSTODY_DESTROY] = {{"destroy"}, false},
    [CUSTODY_UNPAUSE] = {{"unpause"}, false},
};

struct custody {
    struct session_run *run;
    struct backend *be;
    const char *xl;
    enum custody_task task;
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

static bool is_gone(const struct session_run *run, const struct backend_domain *now)
{
    return !now->exists || now->dying || memcmp(now->uuid, run->uuid, sizeof(now->uuid)) != 0;
}

bool custody_domain_gone(const struct session_run *run, struct backend *be)
{
    struct backend_domain now;

    return be->ops->info(be, &now) == 0 && is_gone(run, &now);
}

bool custody_never_started(const struct backend_domain *now)
{
    return now->exists && now->paused && !now->ran;
}

static void over(struct custody *c, const char *text)
{
    if (text)
        session_run_postscript(c->run, text);
    ev_break(c->run->loop, EVBREAK_ALL);
}

static const char *second_word(const struct custody *c)
{
    return tasks[c->task].words[1] ? tasks[c->task].words[1] : "";
}

static void done(void *data)
{
    struct custody *c = data;
    char how[256], text[384];

    child_describe(&c->child, how, sizeof(how));
    snprintf(text, sizeof(text), "%s %s%s%s %u %s", c->xl, tasks[c->task].words[0],
             *second_word(c) ? " " : "", second_word(c), c->be->domid,
             child_succeeded(&c->child) ? "done" : how);
    over(c, text);
}

/* xl postcopy-resume -f has the session aborted first: that must not wait for us, who wait for xl. */
static void hide(const struct custody *c)
{
    char path[4096];

    snprintf(path, sizeof(path), "%s/%s%s", c->run->run_dir, c->run->session, SESSION_SERVE_PID);
    unlink(path);
}

static void run_xl(struct custody *c)
{
    const struct task *task = &tasks[c->task];
    const char *argv[5] = {c->xl, task->words[0]};
    char domid[16];

    if (c->child.pid)
        return;
    ev_timer_stop(c->run->loop, &c->timer);
    snprintf(domid, sizeof(domid), "%u", c->be->domid);
    argv[task->words[1] ? 3 : 2] = domid;
    if (task->words[1])
        argv[2] = task->words[1];
    if (c->task == CUSTODY_TAKE_BACK)
        hide(c);
    log_info("running %s %s%s%s %s", argv[0], argv[1], *second_word(c) ? " " : "", second_word(c), domid);
    if (child_start(&c->child, c->run->loop, "xl", argv, -1, done, c))
        over(c, "xl could not be started: see to the domain by hand");
}

static bool suspended(const struct backend_domain *now)
{
    return now->shutdown && now->shutdown_reason == BACKEND_SUSPENDED;
}

static void look(struct custody *c)
{
    struct backend_domain now;

    if (c->child.pid || c->be->ops->info(c->be, &now))
        return;
    if (is_gone(c->run, &now) || (c->task == CUSTODY_UNPAUSE && !custody_never_started(&now)))
        return over(c, NULL);
    if (c->watching)
        return;
    switch (c->task) {
    case CUSTODY_RESUME:
    case CUSTODY_TAKE_BACK:
        /* Someone has taken it back: a later suspend is none of ours. */
        if (!c->be->ops->owned(c->be, c->run->session))
            over(c, NULL);
        else if (suspended(&now))
            run_xl(c);
        else if (now.shutdown)
            over(c, "the domain has shut down by itself");
        break;
    case CUSTODY_DESTROY:
    case CUSTODY_UNPAUSE:
        run_xl(c);
        break;
    }
}

static void on_pid(struct ev_loop *loop, ev_io *w, int events)
{
    struct custody *c = w->data;

    (void)events;
    ev_io_stop(loop, w);
    c->watching = false;
    log_info("the process that moved domain %u has ended", c->be->domid);
    if (tasks[c->task].source)
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

bool custody_keep(struct session_run *run, struct backend *be, int pidfd, const char *xl,
                  enum custody_task task)
{
    struct custody c = {.run = run, .be = be, .xl = xl, .task = task, .watching = true};

    if (custody_domain_gone(run, be))
        return true;
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
    return custody_domain_gone(run, be);
}
