/* Whose guest it is: the word of xl, the end of xl, and what becomes of the domain here. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "custody.h"
#include "exit_status.h"
#include "log.h"
#include "serve.h"

static void on_pid(struct ev_loop *loop, ev_io *w, int events)
{
    struct server *s = w->data;

    (void)events;
    ev_io_stop(loop, w);
    if (session_run_undecided(&s->run) && !session_final(s->run.state))
        serve_fail(s, WIRE_ERROR_GIVEN_UP, "process %d, which moves the domain, has ended before commit",
                   s->options->watch_pid);
}

int serve_commit_watch(struct server *s)
{
    if (!s->options->watch_pid)
        return 0;
    s->pidfd = custody_watch(s->options->watch_pid);
    if (s->pidfd < 0) {
        log_error("process %d cannot be watched: %s", s->options->watch_pid, strerror(errno));
        return -1;
    }
    ev_io_init(&s->pid_io, on_pid, s->pidfd, EV_READ);
    s->pid_io.data = s;
    ev_io_start(s->run.loop, &s->pid_io);
    return 0;
}

static void on_destroyed(void *data)
{
    struct server *s = data;
    struct backend_domain now;
    const char *end =
        s->guest_ended ? "the guest has ended at the destination" : "the receiver has every page";
    int status = s->guest_ended ? EXIT_GONE : EXIT_DONE;
    char how[256];

    if (session_final(s->run.state))
        return;
    if (s->be->ops->info(s->be, &now) == 0 &&
        (!now.exists || now.dying || memcmp(now.uuid, s->run.uuid, sizeof(now.uuid)) != 0)) {
        s->our_pause = false;
        session_run_end(&s->run, SESSION_COMPLETED, status, "%s; domain %u here is destroyed", end,
                        s->be->domid);
        return;
    }
    if (s->xl.pid)
        child_describe(&s->xl, how, sizeof(how));
    else
        snprintf(how, sizeof(how), "could not be started");
    session_run_end(
        &s->run, SESSION_COMPLETED, EXIT_LEFT_OVER,
        "the receiver has every page, but domain %u here is left over, and has to be destroyed by "
        "hand: xl destroy %s",
        s->be->domid, how);
}

static void destroy(struct server *s, const char *reason)
{
    char domid[16];
    const char *argv[] = {s->options->xl, "destroy", domid, NULL};

    snprintf(domid, sizeof(domid), "%u", s->be->domid);
    s->destroying = true;
    session_run_enter(&s->run, SESSION_DRAIN, reason);
    if (child_start(&s->xl, s->run.loop, "xl destroy", argv, -1, on_destroyed, s))
        on_destroyed(s);
}

static void finish(struct server *s)
{
    if (s->options->destroy)
        destroy(s, "the receiver has every page: destroying the domain here");
    else
        session_run_end(&s->run, SESSION_COMPLETED, EXIT_DONE, "the receiver has every page");
}

/* Only of a guest that ran (a vcpu has faulted) it is certain that nobody hands it back. */
void serve_gone(struct server *s, bool ran)
{
    if (!s->run.session) {
        session_run_end(&s->run, SESSION_COMPLETED, EXIT_GONE, "the guest has ended at the destination");
    } else if (!s->run.committed) {
        serve_fail(s, WIRE_ERROR_PROTOCOL, "the guest ended at the destination before commit");
    } else if (ran && s->options->destroy) {
        s->guest_ended = s->delivered = true;
        destroy(s, "the guest has ended at the destination: destroying the domain here");
    } else {
        session_run_end(&s->run, SESSION_COMPLETED, EXIT_GONE,
                        "the guest has ended at the destination; domain %u here is left: unless it is handed "
                        "back, destroy it",
                        s->be->domid);
    }
}

void serve_given_up(struct server *s)
{
    if (s->run.session && s->run.committed) {
        /* Its word that the copy is gone is what a committed session goes by: nothing else gives it back. */
        s->given_up = true;
        session_run_enter(
            &s->run, s->run.state,
            "the destination has given up the guest before it ran: waiting for its word that the "
            "copy there is destroyed");
        return;
    }
    session_run_end(&s->run, SESSION_FAILED, EXIT_FAILED,
                    "the receiver gave up before the guest ran: domain %u here is intact", s->be->domid);
}

void serve_handed_back(struct server *s)
{
    if (!s->run.session || !s->run.committed) {
        session_run_end(&s->run, SESSION_FAILED, EXIT_FAILED,
                        "the receiver's domain was destroyed before it ran: domain %u here is intact",
                        s->be->domid);
        return;
    }
    s->handed_back = true;
    session_run_end(
        &s->run, SESSION_FAILED, EXIT_HANDED_BACK,
        "handed back: the destination never started the guest, and has destroyed its copy. Domain "
        "%u here is intact; xl gets it back, or else `xl postcopy-resume -f %u'",
        s->be->domid, s->be->domid);
}

void serve_delivered(struct server *s)
{
    if (s->delivered)
        return;
    s->delivered = true;
    if (session_run_undecided(&s->run))
        session_run_enter(&s->run, SESSION_DRAIN, "the receiver has every page: waiting for commit");
    else if (s->run.session)
        finish(s);
    else
        session_run_end(&s->run, SESSION_COMPLETED, EXIT_DONE, "the receiver has every page");
}

static const char *commit(struct server *s)
{
    if (s->run.committed)
        return NULL;
    if (!s->agreed)
        return "the destination has not agreed on what is outstanding: nothing to commit yet";
    s->run.committed = true;
    log_info("committed: the guest runs at the destination from now on");
    if (s->delivered)
        finish(s);
    return NULL;
}

static const char *abandon(struct server *s)
{
    if (s->destroying)
        return "the guest is whole at the destination, and the domain here is being destroyed";
    s->aborted = true;
    serve_fail(s, WIRE_ERROR_GIVEN_UP, "aborted%s", s->run.committed ? " after commit" : "");
    return NULL;
}

const char *serve_command(void *data, const char *word)
{
    struct server *s = data;

    if (strcmp(word, "abandon") == 0 && !session_final(s->run.state))
        return serve_abandon(s);
    if (!s->run.session && strcmp(word, "recover") != 0)
        return "this session was started by hand";
    if (session_final(s->run.state)) {
        /* In the same turn as its own failure: xl sees to the domain. */
        if (strcmp(word, "abort") == 0 && s->run.state == SESSION_FAILED) {
            s->aborted = true;
            return NULL;
        }
        return "the session has ended";
    }
    if (strcmp(word, "commit") == 0)
        return commit(s);
    if (strcmp(word, "abort") == 0)
        return abandon(s);
    if (strcmp(word, "recover") == 0)
        return serve_recover(s);
    return "no such word: commit, abort, recover";
}

bool serve_wants_custody(const struct server *s)
{
    return (session_run_undecided(&s->run) || s->handed_back) && s->run.state == SESSION_FAILED &&
           !s->aborted && s->pidfd >= 0;
}

void serve_custody(struct server *s)
{
    ev_io_stop(s->run.loop, &s->pid_io);
    custody_keep(&s->run, s->be, s->pidfd, s->options->xl,
                 s->handed_back ? CUSTODY_TAKE_BACK : CUSTODY_RESUME);
}
