#include "net.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int split(const char *where, char *host, size_t host_size, const char **port)
{
    const char *colon = strrchr(where, ':'), *start = where, *end = colon;

    if (!colon || !colon[1])
        return -1;
    if (where[0] == '[') {
        if (colon[-1] != ']')
            return -1;
        start++;
        end--;
    } else if (memchr(where, ':', (size_t)(colon - where))) {
        return -1;
    }
    if (end <= start || (size_t)(end - start) >= host_size)
        return -1;
    memcpy(host, start, (size_t)(end - start));
    host[end - start] = '\0';
    *port = colon + 1;
    return 0;
}

static struct addrinfo *resolve(const char *where, bool passive, char *why, size_t why_size)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = passive ? AI_PASSIVE : 0}, *list = NULL;
    const char *port;
    char host[256];
    int rc;

    if (split(where, host, sizeof(host), &port)) {
        snprintf(why, why_size, "'%s' is not ADDR:PORT or [ADDR6]:PORT", where);
        return NULL;
    }
    rc = getaddrinfo(passive && strcmp(host, "*") == 0 ? NULL : host, port, &hints, &list);
    if (rc) {
        snprintf(why, why_size, "%s: %s", where, gai_strerror(rc));
        return NULL;
    }
    return list;
}

void net_tune(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},   {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, 10}, {IPPROTO_TCP, TCP_KEEPINTVL, 5},
        {IPPROTO_TCP, TCP_KEEPCNT, 4},   {IPPROTO_TCP, TCP_USER_TIMEOUT, 30000},
    };

    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(options[i].value));
}

int net_listen(const char *where, char *bound, size_t bound_size, char *why, size_t why_size)
{
    struct addrinfo *list = resolve(where, true, why, why_size);
    struct sockaddr_storage addr;
    socklen_t size = sizeof(addr);
    char host[128] = "?", port[16] = "?";
    int fd = -1, one = 1;

    for (struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next) {
        fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
            continue;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (bind(fd, ai->ai_addr, ai->ai_addrlen) || listen(fd, 16)) {
            int saved = errno;

            close(fd);
            fd = -1;
            errno = saved;
        }
    }
    if (list && fd < 0)
        snprintf(why, why_size, "cannot listen on %s: %s", where, strerror(errno));
    if (list)
        freeaddrinfo(list);
    if (fd >= 0) {
        if (getsockname(fd, (struct sockaddr *)&addr, &size) == 0)
            getnameinfo((struct sockaddr *)&addr, size, host, sizeof(host), port, sizeof(port),
                        NI_NUMERICHOST | NI_NUMERICSERV);
        snprintf(bound, bound_size, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
    }
    return fd;
}

static int finish_connect(int fd, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int err = 0;
    socklen_t size = sizeof(err);
    int rc;

    do
        rc = poll(&p, 1, timeout_ms);
    while (rc < 0 && errno == EINTR);
    if (rc == 0)
        err = ETIMEDOUT;
    else if (rc < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size))
        err = errno;
    errno = err;
    return err ? -1 : 0;
}

int net_dial(const char *where, int timeout_ms, char *why, size_t why_size)
{
    struct addrinfo *list = resolve(where, false, why, why_size);
    int fd = -1;

    for (struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next) {
        fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
            continue;
        if (connect(fd, ai->ai_addr, ai->ai_addrlen) &&
            (errno != EINPROGRESS || finish_connect(fd, timeout_ms))) {
            int saved = errno;

            close(fd);
            fd = -1;
            errno = saved;
        }
    }
    if (list && fd < 0)
        snprintf(why, why_size, "cannot connect to %s: %s (is xenpaging-pc serve running there?)", where,
                 strerror(errno));
    if (list)
        freeaddrinfo(list);
    if (fd >= 0)
        net_tune(fd);
    return fd;
}

void net_say_goodbye(int fd)
{
    char scrap[4096];

    shutdown(fd, SHUT_WR);
    for (int i = 0; i < 64 && recv(fd, scrap, sizeof(scrap), MSG_DONTWAIT) > 0; i++)
        ;
}
