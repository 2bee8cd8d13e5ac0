/* A process that a session starts: the transport, or xl. What it says goes to the session's log. */
#ifndef XENPAGING_PC_CHILD_H
#define XENPAGING_PC_CHILD_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct child {
    struct ev_loop *loop;
    pid_t pid; /* 0: never started */
    bool ended;
    int status; /* as of waitpid() */
    const char *name;
    char line[256]; /* what has come of one */
    size_t length;
    char last[160]; /* the last line that was not empty */
    ev_io io;       /* of the pipe; fd -1: none */
    ev_child watcher;
    void (*done)(void *data); /* once, from the loop, when it has ended */
    void *data;
};

/*
 * Start argv (found in PATH) in a session of its own, with nothing of ours but stdin and stdout on link and
 * stderr on a pipe to the log; link -1: stdin is /dev/null, and stdout goes to the log, too. It may be killed
 * for memory, whatever we are protected from. The loop is the default one. 0, or -errno.
 */
int child_start(struct child *c, struct ev_loop *loop, const char *name, const char *const *argv, int link,
                void (*done)(void *data), void *data);

/* Wait, at most ms, until it has said all it has to say and has ended. Not for the way of a page. */
void child_last_words(struct child *c, int ms);

/* "has ended with status 3: its last line". */
void child_describe(const struct child *c, char *text, size_t size);

/* It ended with status 0. */
bool child_succeeded(const struct child *c);

/* Let it end within ms, then end it. */
void child_end(struct child *c, int ms);

#endif
