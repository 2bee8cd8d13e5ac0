/* The sessions of this host, live or ended, as they show themselves in the run folder. */
#ifndef XENPAGING_PC_SESSION_FIND_H
#define XENPAGING_PC_SESSION_FIND_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include <jansson.h>

/* Whom to look for; NULL: any. */
struct session_query {
    const char *run_dir;
    const char *domain; /* name or number */
    const char *role;
    const char *session;
};

/* One session found: fd of a live one, -1 of an ended one. */
struct session_found {
    int fd;
    char *bytes; /* of a live one: what has come and is not taken yet */
    size_t used, size;
    json_t *report;
    struct timespec modified; /* of an ended one */
};

/*
 * Call visit with every session that matches; it keeps it (true), or leaves it to be released. Returns how
 * many there were.
 */
unsigned int session_find(const struct session_query *query,
                          bool (*visit)(struct session_found *found, void *data), void *data);

/* The first live session that matches; fd stays -1 if there is none. */
void session_find_live(const struct session_query *query, struct session_found *live);

/*
 * Take the next report of a live session, waiting for it: false when its socket is closed. A report may be
 * here already without the socket being readable: ask before waiting on it.
 */
bool session_found_next(struct session_found *found);
bool session_found_has_next(const struct session_found *found);

void session_found_release(struct session_found *found);

/* Remove the sockets of killed processes. */
void session_sweep(const char *run_dir);

#endif
