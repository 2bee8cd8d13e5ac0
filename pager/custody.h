/*
 * What remains when a session has failed before commit while xl still moves the domain: xl puts things right
 * itself, unless it dies first. Then nobody else would.
 */
#ifndef XENPAGING_PC_CUSTODY_H
#define XENPAGING_PC_CUSTODY_H

#include "session_run.h"

/* A descriptor that is readable when process pid has ended; or -1 with errno. */
int custody_watch(pid_t pid);

/*
 * After session_run_finish(): wait for the watched process to end. On the source the domain, as soon as it is
 * suspended, is then resumed (xl postcopy-resume): a guest that had been asked to suspend gets a minute to do
 * so. On the destination it is destroyed (xl destroy). What was done goes into the last words. SIGTERM ends
 * it.
 */
void custody_keep(struct session_run *run, struct backend *be, int pidfd, const char *xl, bool source);

#endif
