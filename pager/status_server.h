/*
 * A session shows itself on a unix socket (0600): who connects gets a line of JSON at once, and another
 * after changes of state. A client may send words, each on a line of its own: "activate", "commit", "abort".
 * One that is carried out shows in the next report; to one that is not the answer is {"refused": "reason"},
 * for that client alone. After "brief", to which there is no answer, its reports are short ones: what the
 * session is in, and no figures.
 */
#ifndef XENPAGING_PC_STATUS_SERVER_H
#define XENPAGING_PC_STATUS_SERVER_H

#include <ev.h>
#include <jansson.h>
#include <stdbool.h>

#define STATUS_CLIENTS 16
#define STATUS_WORD    32

struct status_client {
    ev_io io; /* fd -1: free */
    struct status_server *server;
    char word[STATUS_WORD]; /* what has come of a line */
    size_t length;
    bool brief;
};

struct status_server {
    struct ev_loop *loop;
    ev_io listener;
    ev_idle at_leisure; /* active while there is a change to report */
    ev_timer at_last;
    struct status_client client[STATUS_CLIENTS];
    char path[108];
    json_t *(*render)(void *data, bool brief); /* a new reference */
    /* Carry out a client's word, and report it: NULL, or why not. */
    const char *(*command)(void *data, const char *word);
    void *data;
    int fd;
};

/* Listen on path (a stale socket there is replaced). 0, or -1 with errno (EADDRINUSE: someone answers there).
 */
int status_server_start(struct status_server *server, struct ev_loop *loop, const char *path,
                        json_t *(*render)(void *data, bool brief),
                        const char *(*command)(void *data, const char *word), void *data);

/*
 * As above, on a socket that is there already and outlives this process. Not bound yet: it is bound to path.
 * Bound: who has connected to it since the process before this one was killed is answered.
 */
int status_server_start_on(struct status_server *server, int fd, struct ev_loop *loop, const char *path,
                           json_t *(*render)(void *data, bool brief),
                           const char *(*command)(void *data, const char *word), void *data);

/* The present state is for everyone who listens: sent when there is nothing else to do, or at the
 * first turn of the loop after 50 ms. Of changes that come sooner after each other only the last one is sent.
 */
void status_server_changed(struct status_server *server);

/* Send now what status_server_changed() has put off. */
void status_server_flush(struct status_server *server);

void status_server_stop(struct status_server *server);

#endif
