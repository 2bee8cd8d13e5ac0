/*
 * A session shows itself on a unix socket: who connects gets a line of JSON at once, and another with each
 * change of state. No request is read.
 */
#ifndef XENPAGING_PC_STATUS_SERVER_H
#define XENPAGING_PC_STATUS_SERVER_H

#include <ev.h>
#include <jansson.h>

#define STATUS_CLIENTS 16

struct status_server {
    struct ev_loop *loop;
    ev_io listener;
    ev_io client[STATUS_CLIENTS];
    char path[108];
    json_t *(*render)(void *data); /* a new reference */
    void *data;
    int fd;
};

/* Listen on path (a stale socket there is replaced). 0, or -1 with errno (EADDRINUSE: someone answers there).
 */
int status_server_start(struct status_server *server, struct ev_loop *loop, const char *path,
                        json_t *(*render)(void *data), void *data);

/* Send the present state to everyone who listens. */
void status_server_changed(struct status_server *server);

void status_server_stop(struct status_server *server);

#endif
