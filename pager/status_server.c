#include "status_server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void drop_client(struct status_server *server, ev_io *w)
{
    ev_io_stop(server->loop, w);
    close(w->fd);
    w->fd = -1;
}

static void send_state(struct status_server *server, ev_io *w, const char *line, size_t length)
{
    /* A client that does not take one line is not waited for. */
    if (send(w->fd, line, length, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)length)
        drop_client(server, w);
}

static char *render_line(struct status_server *server, size_t *length)
{
    json_t *json = server->render(server->data);
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

static void on_client(struct ev_loop *loop, ev_io *w, int events)
{
    struct status_server *server = w->data;
    char scrap[256];
    ssize_t n = recv(w->fd, scrap, sizeof(scrap), MSG_DONTWAIT);

    (void)loop;
    (void)events;
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        drop_client(server, w);
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
    for (int i = 0; i < STATUS_CLIENTS; i++) {
        if (server->client[i].fd >= 0)
            continue;
        ev_io_init(&server->client[i], on_client, fd, EV_READ);
        server->client[i].data = server;
        ev_io_start(loop, &server->client[i]);
        line = render_line(server, &length);
        if (line)
            send_state(server, &server->client[i], line, length);
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

int status_server_start(struct status_server *server, struct ev_loop *loop, const char *path,
                        json_t *(*render)(void *data), void *data)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    mode_t mask;
    int rc;

    for (int i = 0; i < STATUS_CLIENTS; i++)
        server->client[i].fd = -1;
    server->fd = -1;
    server->loop = loop;
    server->render = render;
    server->data = data;
    if (strlen(path) >= sizeof(addr.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(addr.sun_path, path, strlen(path) + 1);
    memcpy(server->path, path, strlen(path) + 1);
    if (answers(&addr)) {
        errno = EADDRINUSE;
        return -1;
    }
    unlink(path);
    server->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (server->fd < 0)
        return -1;
    mask = umask(0177);
    rc = bind(server->fd, (struct sockaddr *)&addr, sizeof(addr));
    umask(mask);
    if (rc || listen(server->fd, STATUS_CLIENTS)) {
        rc = errno;
        close(server->fd);
        server->fd = -1;
        errno = rc;
        return -1;
    }
    ev_io_init(&server->listener, on_connect, server->fd, EV_READ);
    server->listener.data = server;
    ev_io_start(loop, &server->listener);
    return 0;
}

void status_server_changed(struct status_server *server)
{
    size_t length = 0;
    char *line = NULL;

    if (server->fd < 0)
        return;
    for (int i = 0; i < STATUS_CLIENTS; i++) {
        if (server->client[i].fd < 0)
            continue;
        if (!line)
            line = render_line(server, &length);
        if (line)
            send_state(server, &server->client[i], line, length);
    }
    free(line);
}

void status_server_stop(struct status_server *server)
{
    if (server->fd < 0)
        return;
    for (int i = 0; i < STATUS_CLIENTS; i++)
        if (server->client[i].fd >= 0)
            drop_client(server, &server->client[i]);
    ev_io_stop(server->loop, &server->listener);
    close(server->fd);
    unlink(server->path);
    server->fd = -1;
}
