/* What serve and receive have in common while they run: state, its history and reason, status socket, final
 * figures. */
#ifndef XENPAGING_PC_SESSION_RUN_H
#define XENPAGING_PC_SESSION_RUN_H

#include <ev.h>
#include <jansson.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "clock.h"
#include "backend.h"
#include "core/session.h"
#include "status_server.h"

struct session_run {
    struct ev_loop *loop;
    const char *role;   /* "serve", "receive" */
    const char *domain; /* its name, or as given on the command line */
    const char *run_dir;
    const char *stats_file; /* or NULL */
    const char *session;    /* the migration's id; NULL: started by hand, and nobody commits */
    bool committed;         /* the guest runs at the destination, and nowhere else, from now on */
    const struct backend *be;
    uint8_t uuid[16];
    enum session_state state;
    enum session_state ready_at;         /* daemon_ready() is called there; SETUP: when it shows itself */
    uint64_t entered_ns[SESSION_STATES]; /* monotonic; 0: never been there */
    uint64_t started_ns;
    double started_at; /* seconds since the epoch */
    char reason[1024];
    int exit_status;
    pid_t pid;                   /* that everybody knows; 0: this process */
    const struct rusage *feeder; /* NULL: of this process's children */
    unsigned int loops;          /* turns of the event loop, at the last report */
    void (*details)(void *data, json_t *report);
    const char *(*command)(void *data, const char *word); /* see status_server.h */
    void *data;
    struct status_server status;
};

/* It can still be that the guest goes on at the source. */
static inline bool session_run_undecided(const struct session_run *run)
{
    return run->session && !run->committed;
}

/* A count in a report, under a name that xenpaging-pc(8) explains. */
void report_number(json_t *object, const char *name, uint64_t value);

/* Show the session under RUN_DIR/ROLE-DOMID.sock. 0, or -1 after logging why. */
int session_run_start(struct session_run *run, const struct backend *be);

/*
 * As above, with a socket that outlives this process (status_server.h). The first time it is a new session;
 * taken over, it goes on: started and everything else is set already, and its socket bound.
 */
int session_run_start_on(struct session_run *run, const struct backend *be, int status_fd, bool taken_over);

/* Change state (the same state with another reason is fine), log it, tell who waits. reason may be NULL. */
void session_run_enter(struct session_run *run, enum session_state state, const char *reason);

/* Enter a final state, leave the event loop; session_run_finish() then writes the last words. */
void session_run_end(struct session_run *run, enum session_state state, int exit_status, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Write RUN_DIR/ROLE-DOMID.last.json and the stats file, close the socket. */
void session_run_finish(struct session_run *run);

/* After that: what was seen to since goes into the last words, too. */
void session_run_postscript(struct session_run *run, const char *text);

#endif
