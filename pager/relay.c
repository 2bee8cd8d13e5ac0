#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A batch of pages in two turns; every byte here stands before a page that is asked for. */
#define BUFFER (128u * 1024u)

struct direction {
    int from, to;
    size_t start, end; /* of what is in the buffer */
    bool eof;          /* nothing more comes */
    bool over;         /* and all of it has been passed on, or cannot be */
    uint8_t buffer[BUFFER];
};

/* The end of a stream, whatever it is made of: a socket that goes both ways is closed one way. */
static void end_of(int fd)
{
    if (shutdown(fd, SHUT_WR) && errno == ENOTSOCK)
        close(fd);
}

static bool later(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

static void broke(struct direction *d, int *error)
{
    if (!*error)
        *error = errno;
    /* Its sender shall not wait for room that never comes. */
    shutdown(d->from, SHUT_RD);
    d->eof = true;
    d->start = d->end = 0;
}

static void fill(struct direction *d, int *error)
{
    ssize_t n = read(d->from, d->buffer + d->end, BUFFER - d->end);

    if (n > 0)
        d->end += (size_t)n;
    else if (n == 0)
        d->eof = true;
    else if (!later())
        broke(d, error);
}

static void drain(struct direction *d, int *error)
{
    while (d->start < d->end) {
        ssize_t n = write(d->to, d->buffer + d->start, d->end - d->start);

        if (n < 0) {
            if (!later())
                broke(d, error);
            return;
        }
        d->start += (size_t)n;
    }
    d->start = d->end = 0;
}

static void turn(struct direction *d, short read_events, short write_events, int *error)
{
    if (read_events)
        fill(d, error);
    if (read_events || write_events)
        drain(d, error);
    if (d->eof && d->start == d->end && !d->over) {
        d->over = true;
        end_of(d->to);
    }
}

static void not_blocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags >= 0)
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

int relay_run(int in, int out, int sock, int stop)
{
    static struct direction way[2];
    int error = 0;

    for (int i = 0; i < 2; i++)
        memset(&way[i], 0, offsetof(struct direction, buffer));
    way[0].from = in;
    way[0].to = way[1].from = sock;
    way[1].to = out;
    not_blocking(in);
    not_blocking(out);
    not_blocking(sock);
    while (!way[0].over || !way[1].over) {
        struct pollfd p[5] = {{.fd = stop, .events = POLLIN}};

        /* A descriptor of which nothing is wanted is left out: its hang-up would be reported for ever. */
        for (int i = 0; i < 2; i++) {
            const struct direction *d = &way[i];

            p[1 + 2 * i] = (struct pollfd){.fd = d->eof || d->end == BUFFER ? -1 : d->from, .events = POLLIN};
            p[2 + 2 * i] = (struct pollfd){.fd = d->start < d->end ? d->to : -1, .events = POLLOUT};
        }
        if (poll(p, 5, -1) < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        if (p[0].revents) {
            errno = EINTR;
            return -1;
        }
        for (int i = 0; i < 2; i++)
            turn(&way[i], p[1 + 2 * i].revents, p[2 + 2 * i].revents, &error);
    }
    errno = error;
    return error ? -1 : 0;
}
