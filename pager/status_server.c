#include "status_server.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* A report of a change comes no later than this after it, even if there is always something else to do. */
#define LATEST_S 0.05

/* Ends the name of a socket that does not listen yet. */
#define BORN ".new"

static void drop_client(struct status_client *c)
{
    ev_io_stop(c->server->loop, &c->io);
    close(c->io.fd);
    c->io.fd = -1;
}

static void send_line(struct status_client *c, const char *line, size_t length)
{
    /* A client that does not take one line is not waited for. */
    if (send(c->io.fd, line, length, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)length)
        drop_client(c);
}

static char *render_line(struct status_server *server, bool brief, size_t *length)
{
    json_t *json = server->render(server->data, brief);
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    char *line = NULL;

    json_decref(json);
    if (text && asprintf(&line, "%s\n", text) >= 0)
        *length = strlen(line);
    else
        line = NULL;
    free(text);
    return line;
}

static void refuse(struct status_client *c, const char *why)
{
    json_t *json = json_pack("{s:s}", "refused", why);
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    char *line = NULL;

    if (text && asprintf(&line, "%s\n", text) >= 0)
        send_line(c, line, strlen(line));
    json_decref(json);
    free(text);
    free(line);
}

static void carry_out(struct status_client *c)
{
    struct status_server *server = c->server;
    const char *why;

    if (strcmp(c->word, "brief") == 0) {
        c->brief = true;
        return;
    }
    why = server->command ? server->command(server->data, c->word) : "no word is known here";

    if (why)
        refuse(c, why);
}

/* The socket is root's alone; the folder could have been given to others, so who it is is asked all the same.
 */
static bool is_ours(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           (peer.uid == 0 || peer.uid == geteuid());
}

static void take_words(struct status_client *c, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n && c->io.fd >= 0; i++) {
        if (bytes[i] == '\n') {
            c->word[c->length] = '\0';
            c->length = 0;
            carry_out(c);
        } else if (c->length == STATUS_WORD - 1 || !bytes[i]) {
            drop_client(c);
        } else {
            c->word[c->length++] = bytes[i];
        }
    }
}

static void on_client(struct ev_loop *loop, ev_io *w, int events)
{
    struct status_client *c = w->data;
    char bytes[256];
    ssize_t n = recv(w->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

    (void)loop;
    (void)events;
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        drop_client(c);
    else if (n > 0)
        take_words(c, bytes, (size_t)n);
}

static void on_connect(struct ev_loop *loop, ev_io *w, int events)
{
    struct status_server *server = w->data;
    int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    size_t length = 0;
    char *line;

    (void)events;
    if (fd < 0)
        return;
    for (int i = 0; i < STATUS_CLIENTS && is_ours(fd); i++) {
        struct status_client *c = &server->client[i];

        if (c->io.fd >= 0)
            continue;
        c->server = server;
        c->length = 0;
        c->brief = false;
        ev_io_init(&c->io, on_client, fd, EV_READ);
        c->io.data = c;
        ev_io_start(loop, &c->io);
        line = render_line(server, false, &length);
        if (line)
            send_line(c, line, length);
        free(line);
        return;
    }
    close(fd);
}

static int answers(const struct sockaddr_un *addr)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc = fd >= 0 && connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0;

    if (fd >= 0)
        close(fd);
    return rc;
}

static int show(int fd, const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    const size_t length = strlen(path);
    mode_t mask;
    int rc;

    if (length + sizeof(BORN) > sizeof(addr.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(addr.sun_path, path, length + 1);
    if (answers(&addr)) {
        errno = EADDRINUSE;
        return -1;
    }
    /* Under its name it answers from the first moment on: one that does not is what a killed process left. */
    memcpy(addr.sun_path + length, BORN, sizeof(BORN));
    unlink(addr.sun_path);
    mask = umask(0177);
    rc = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
    umask(mask);
    return rc || listen(fd, STATUS_CLIENTS) || rename(addr.sun_path, path) ? -1 : 0;
}

static bool is_shown(int fd)
{
    struct sockaddr_un addr;
    socklen_t size = sizeof(addr);

    return getsockname(fd, (struct sockaddr *)&addr, &size) == 0 &&
           size > offsetof(struct sockaddr_un, sun_path);
}

void status_server_flush(struct status_server *server)
{
    size_t length[2];
    char *line[2] = {NULL, NULL};

    if (server->fd < 0 || !ev_is_active(&server->at_leisure))
        return;
    ev_idle_stop(server->loop, &server->at_leisure);
    ev_timer_stop(server->loop, &server->at_last);
    for (int i = 0; i < STATUS_CLIENTS; i++) {
        struct status_client *c = &server->client[i];

        if (c->io.fd < 0)
            continue;
        if (!line[c->brief])
            line[c->brief] = render_line(server, c->brief, &length[c->brief]);
        if (line[c->brief])
            send_line(c, line[c->brief], length[c->brief]);
    }
    free(line[false]);
    free(line[true]);
}

static void on_leisure(struct ev_loop *loop, ev_idle *w, int events)
{
    (void)loop;
    (void)events;
    status_server_flush(w->data);
}

static void on_last(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    status_server_flush(w->data);
}

int status_server_start_on(struct status_server *server, int fd, struct ev_loop *loop, const char *path,
                           json_t *(*render)(void *data, bool brief),
                           const char *(*command)(void *data, const char *word), void *data)
{
    for (int i = 0; i < STATUS_CLIENTS; i++)
        server->client[i].io.fd = -1;
    server->fd = -1;
    server->loop = loop;
    server->render = render;
    server->command = command;
    server->data = data;
    if (!is_shown(fd) && show(fd, path))
        return -1;
    server->fd = fd;
    snprintf(server->path, sizeof(server->path), "%s", path);
    ev_io_init(&server->listener, on_connect, server->fd, EV_READ);
    server->listener.data = server;
    /* Few wait for a report as urgently as a guest does for what else this process has to do. */
    ev_idle_init(&server->at_leisure, on_leisure);
    ev_set_priority(&server->at_leisure, EV_MINPRI);
    ev_timer_init(&server->at_last, on_last, LATEST_S, 0.);
    server->at_leisure.data = server->at_last.data = server;
    ev_io_start(loop, &server->listener);
    return 0;
}

int status_server_start(struct status_server *server, struct ev_loop *loop, const char *path,
                        json_t *(*render)(void *data, bool brief),
                        const char *(*command)(void *data, const char *word), void *data)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0) {
        server->fd = -1;
        return -1;
    }
    if (status_server_start_on(server, fd, loop, path, render, command, data)) {
        int saved = errno;

        close(fd);
        errno = saved;
        return -1;
    }
    return 0;
}

void status_server_changed(struct status_server *server)
{
    if (server->fd < 0 || ev_is_active(&server->at_leisure))
        return;
    ev_idle_start(server->loop, &server->at_leisure);
    ev_timer_set(&server->at_last, LATEST_S, 0.);
    ev_timer_start(server->loop, &server->at_last);
}

void status_server_stop(struct status_server *server)
{
    if (server->fd < 0)
        return;
    status_server_flush(server);
    /* First of all: who sees its connection closed looks for another here, and the socket may be someone
     * else's, too, who does not answer any more. */
    unlink(server->path);
    for (int i = 0; i < STATUS_CLIENTS; i++)
        if (server->client[i].io.fd >= 0)
            drop_client(&server->client[i]);
    ev_io_stop(server->loop, &server->listener);
    close(server->fd);
    server->fd = -1;
}
