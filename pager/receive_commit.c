/* Whose guest it is: the word of xl, and the end of xl. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "custody.h"
#include "exit_status.h"
#include "log.h"
#include "receive.h"
#include "session_id.h"
#include "wire/wire.h"

static void on_unpaused(void *data)
{
    struct receiver *r = data;
    char how[256];

    child_describe(&r->xl, how, sizeof(how));
    log_info("xl unpause %u %s", r->be->domid, child_succeeded(&r->xl) ? "done" : how);
}

/* It ended between commit and unpause: the guest would wait for ever. */
static void unpause(struct receiver *r)
{
    char domid[16];
    const char *argv[] = {r->options->xl, "unpause", domid, NULL};
    struct backend_domain now;

    /* A pause of ours hides what became of xl's: receive_custody() looks when it is taken back. */
    if (r->options->leave_paused || r->our_pause || r->be->ops->info(r->be, &now) ||
        !custody_never_started(&now))
        return;
    snprintf(domid, sizeof(domid), "%u", r->be->domid);
    log_warning("process %d has ended after commit and has not unpaused the domain: running xl unpause %s",
                r->options->watch_pid, domid);
    if (child_start(&r->xl, r->run.loop, "xl", argv, -1, on_unpaused, r))
        log_error("xl could not be started: to have the guest run, xl unpause %s", domid);
}

static void on_pid(struct ev_loop *loop, ev_io *w, int events)
{
    struct receiver *r = w->data;

    (void)events;
    ev_io_stop(loop, w);
    if (session_final(r->run.state))
        return;
    if (session_run_undecided(&r->run))
        receive_give_up(r, EXIT_FAILED, "process %d, which moves the domain, has ended before commit",
                        r->options->watch_pid);
    else
        unpause(r);
}

int receive_commit_watch(struct receiver *r)
{
    if (!r->options->watch_pid)
        return 0;
    /* Opened by the keeper, which has said why if it could not. */
    if (r->keeping->watch_pidfd < 0)
        return -1;
    ev_io_init(&r->pid_io, on_pid, r->keeping->watch_pidfd, EV_READ);
    r->pid_io.data = r;
    ev_io_start(r->run.loop, &r->pid_io);
    return 0;
}

void receive_whole(struct receiver *r)
{
    if (session_run_undecided(&r->run))
        session_run_enter(&r->run, SESSION_DRAIN, "all pages are here: waiting for commit");
    else if (r->run.exit_status == EXIT_DONE)
        session_run_end(&r->run, SESSION_COMPLETED, EXIT_DONE, "all pages are here, serve has acknowledged");
    else
        session_run_end(&r->run, SESSION_COMPLETED, EXIT_UNACKED,
                        "all pages are here, serve has not acknowledged");
}

static const char *commit(struct receiver *r)
{
    if (r->run.committed)
        return NULL;
    if (r->run.state != SESSION_ACTIVE && r->run.state != SESSION_DRAIN)
        return "the session is not active: nothing to commit yet";
    r->run.committed = true;
    receive_save(r);
    log_info("committed: the guest runs here from now on");
    if (r->run.state == SESSION_ACTIVE && receive_push_now(r))
        receive_go(r);
    if (r->left)
        receive_whole(r);
    else if (r->run.state == SESSION_DRAIN)
        receive_conclude(r);
    return NULL;
}

/* The stream is in, and the set file sealed. */
static const char *activate(struct receiver *r)
{
    if (r->introduced)
        return NULL;
    if (r->run.state != SESSION_LISTEN)
        return "pages are still being marked";
    receive_introduce(r);
    return NULL;
}

const char *receive_command(void *data, const char *word)
{
    struct receiver *r = data;

    if (strcmp(word, "abandon") == 0)
        return "the guest runs here, or may: to give it up, destroy it";
    if (strcmp(word, "recover") == 0 && !session_final(r->run.state))
        return receive_recover(r);
    if (!r->run.session)
        return "this session was started by hand";
    if (session_final(r->run.state)) {
        /* In the same turn as its own failure: xl sees to the domain. */
        if (strcmp(word, "abort") == 0 && r->run.state == SESSION_FAILED && !r->run.committed) {
            r->aborted = true;
            return NULL;
        }
        return "the session has ended";
    }
    if (strcmp(word, "commit") == 0)
        return commit(r);
    if (strcmp(word, "activate") == 0)
        return activate(r);
    if (strcmp(word, "abort") != 0)
        return "no such word: activate, commit, abort, recover";
    if (r->run.committed)
        return "the guest runs here; to give it up, destroy it";
    /* Whoever has destroyed the domain may be faster than the news of it. */
    receive_domain_event(r);
    if (session_final(r->run.state))
        return NULL;
    r->aborted = true;
    receive_give_up(r, EXIT_FAILED, "aborted");
    return NULL;
}

static void remove_files(const struct receiver *r)
{
    static const char *const suffixes[] = {SESSION_TOKEN, SESSION_JOIN_SOCKET};
    char path[4096];

    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s%s", r->options->run_dir, r->run.session, suffixes[i]);
        unlink(path);
    }
}

/* We stay until the domain is destroyed, whoever does it. */
static bool wants_destroyed(const struct receiver *r)
{
    return session_run_undecided(&r->run) && !r->aborted && r->keeping->watch_pidfd >= 0;
}

void receive_say_given_up(struct receiver *r)
{
    r->more_to_say = wants_destroyed(r);
    receive_order(r, ORDER_GONE, WIRE_GONE_GIVEN_UP, r->more_to_say);
}

void receive_hand_back(struct receiver *r)
{
    /* Someone has let it run before its time: not our word, then. */
    bool never_ran = !r->pages.counts.guest_has_faulted;

    r->more_to_say = false;
    receive_order(r, ORDER_GONE, never_ran ? WIRE_GONE_HANDED_BACK : WIRE_GONE_GIVEN_UP, 0);
}

void receive_custody(struct receiver *r)
{
    if (!r->run.session)
        return;
    ev_io_stop(r->run.loop, &r->pid_io);
    remove_files(r);
    r->be->ops->forget(r->be, r->run.session);
    if (r->run.state == SESSION_FAILED && wants_destroyed(r)) {
        if (custody_keep(&r->run, r->be, r->keeping->watch_pidfd, r->options->xl, CUSTODY_DESTROY) &&
            r->more_to_say)
            receive_hand_back(r);
    } else if (r->run.committed && r->run.state == SESSION_COMPLETED && r->keeping->watch_pidfd >= 0 &&
               !r->options->leave_paused && !r->xl.pid) {
        struct backend_domain now;

        if (r->be->ops->info(r->be, &now) == 0 && custody_never_started(&now))
            custody_keep(&r->run, r->be, r->keeping->watch_pidfd, r->options->xl, CUSTODY_UNPAUSE);
    }
    if (r->more_to_say)
        receive_order(r, ORDER_LEAVE, 0, 0);
}
