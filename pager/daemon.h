/* Going into the background, with the caller told when the session is ready. */
#ifndef XENPAGING_PC_DAEMON_H
#define XENPAGING_PC_DAEMON_H

#include <stdbool.h>

struct daemon_options {
    bool background;
    const char *pid_file; /* or NULL */
    const char *log_file; /* or NULL: stderr, and in the background RUN_DIR/NAME.log */
    const char *run_dir;
    const char *name; /* "receive-g", for file names */
    int keep_fd;      /* an inherited descriptor that is ours; 0: none */
};

/*
 * Open the log; in the background, fork: the parent waits for daemon_ready() and exits 0, or exits with the
 * child's status if it ends before. The child leaves the session, closes inherited descriptors and returns.
 * Writes the pid file. 0, or -1 after logging why.
 */
int daemon_enter(const struct daemon_options *options);

/* Let the parent go. In the foreground, or called again, it does nothing. */
void daemon_ready(void);

/* In a child of this process, from now on: being ready is for it to say, through fd. Takes fd. */
void daemon_ready_through(int fd);

/* Remove the pid file. */
void daemon_leave(const struct daemon_options *options);

#endif
