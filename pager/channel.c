#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "net.h"

/* One byte, how many bulk channels there are, and two descriptors. */
union handed {
    char bytes[CMSG_SPACE(2 * sizeof(int))];
    struct cmsghdr align;
};

static int not_blocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

int channel_hand_over(int receiver, int in, int out, uint8_t streams)
{
    const int fds[2] = {in, out};
    union handed control = {.bytes = {0}};
    struct iovec iov = {.iov_base = &streams, .iov_len = 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&msg);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(fds));
    memcpy(CMSG_DATA(header), fds, sizeof(fds));
    return sendmsg(receiver, &msg, MSG_NOSIGNAL) == 1 ? 0 : -1;
}

static int take_over(int join, int fds[2], uint8_t *streams)
{
    union handed control;
    struct iovec iov = {.iov_base = streams, .iov_len = 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    ssize_t n = recvmsg(join, &msg, MSG_CMSG_CLOEXEC);
    struct cmsghdr *header = n < 0 ? NULL : CMSG_FIRSTHDR(&msg);

    if (n < 0)
        return -1;
    /* The kernel has closed what did not fit. */
    if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
        header->cmsg_len != CMSG_LEN(2 * sizeof(int))) {
        errno = n == 0 ? ECONNRESET : EBADMSG;
        return -1;
    }
    memcpy(fds, CMSG_DATA(header), 2 * sizeof(int));
    return 0;
}

/* Blocking, for timeout_ms: it happens once, before anything else. */
static int reach_join(const char *path, int timeout_ms, int fds[2], uint8_t *streams)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    int fd, error;

    if (strlen(path) >= sizeof(addr.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(addr.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) == 0 && /* of connect() */
        connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 && take_over(fd, fds, streams) == 0)
        return fd;
    error = errno == EAGAIN ? ETIMEDOUT : errno;
    close(fd);
    errno = error;
    return -1;
}

static int open_joined(const char *path, int timeout_ms, struct channel *channel, uint8_t *streams, char *why,
                       size_t why_size)
{
    int fds[2];

    channel->join = reach_join(path, timeout_ms, fds, streams);
    if (channel->join < 0) {
        snprintf(why, why_size, "cannot take over the channel at %s: %s (is xenpaging-pc join running here?)",
                 path, strerror(errno));
        return -1;
    }
    channel->in = fds[0];
    channel->out = fds[1];
    for (int i = 0; i < 2; i++) {
        if (not_blocking(fds[i])) {
            snprintf(why, why_size, "the channel of join: %s", strerror(errno));
            close(fds[0]);
            close(fds[1]);
            close(channel->join);
            return -1;
        }
        /* Nothing of it applies to a pipe. */
        net_tune(fds[i]);
    }
    return 0;
}

static bool is_join(const char *where)
{
    return strncmp(where, CHANNEL_UNIX, strlen(CHANNEL_UNIX)) == 0;
}

static int dial(const char *where, int timeout_ms, struct channel *channel, char *why, size_t why_size)
{
    channel->in = channel->out = net_dial(where, timeout_ms, why, why_size);
    channel->join = -1;
    return channel->in < 0 ? -1 : 0;
}

int channel_open(const char *where, int timeout_ms, struct channel *channel, uint32_t *streams, char *why,
                 size_t why_size)
{
    uint8_t there = 0;
    int rc;

    if (!is_join(where))
        return dial(where, timeout_ms, channel, why, why_size);
    rc = open_joined(where + strlen(CHANNEL_UNIX), timeout_ms, channel, &there, why, why_size);
    *streams = there;
    return rc;
}

int channel_open_bulk(const char *where, uint32_t index, int timeout_ms, struct channel *channel, char *why,
                      size_t why_size)
{
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    uint8_t there;

    if (!is_join(where))
        return dial(where, timeout_ms, channel, why, why_size);
    snprintf(path, sizeof(path), "%s-%u", where + strlen(CHANNEL_UNIX), index);
    return open_joined(path, timeout_ms, channel, &there, why, why_size);
}
