/*
 * What remains when a session has ended while xl still has something to do with the domain: xl sees to it
 * itself, unless it dies first. Then nobody else would.
 */
#ifndef XENPAGING_PC_CUSTODY_H
#define XENPAGING_PC_CUSTODY_H

#include "session_run.h"

enum custody_task {
    CUSTODY_RESUME,    /* source, failed before commit: a guest asked to suspend gets a minute to do so */
    CUSTODY_TAKE_BACK, /* source, committed, and handed back by the destination */
    CUSTODY_DESTROY,   /* destination, failed before commit */
    CUSTODY_UNPAUSE,   /* destination, committed */
};

/* A descriptor that is readable when process pid has ended; or -1 with errno. */
int custody_watch(pid_t pid);

/* The domain of this session is not there any more, or dying: known, not guessed. */
bool custody_domain_gone(const struct session_run *run, struct backend *be);

/* It has been paused ever since it was built, by whoever built it. */
bool custody_never_started(const struct backend_domain *now);

/*
 * After session_run_finish(): wait for the watched process to end, or for the domain to have what the task
 * wants. If that process has left it undone, xl is run for it: postcopy-resume (-f after commit), destroy, or
 * unpause. What was done goes into the last words. SIGTERM ends it. Returns whether the domain is gone.
 */
bool custody_keep(struct session_run *run, struct backend *be, int pidfd, const char *xl,
                  enum custody_task task);

#endif
