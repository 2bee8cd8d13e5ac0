/*
 * usage: stream ADDRESS PORT RATE [FILE MIB]: a TCP connection to who listens there; ADDRESS `-`: accepts
 * one. Both ends send RATE bytes a second, each of which follows from its position and the direction, and
 * compare what they get. Every 2 seconds a line: bytes sent, got, and how many of these were wrong. Ends,
 * with 1, when the connection does.
 *
 * FILE: the first MIB MiB are written to it before, and sent by sendfile(). In a guest, with FILE on a tmpfs,
 * no vcpu touches these pages: after a move the first who does is the backend of the interface.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK   16384u
#define BURST   65536u /* what it is behind by more than this it does not make good */
#define SECONDS 2
#define PATIENT (600 * 1000u) /* ms that a peer may be silent: tcp_retries2 does not count */

/* The word of 8 bytes of that number; finaliser of splitmix64. */
static uint64_t word(uint64_t number, uint64_t direction)
{
    uint64_t x = number * 2 + direction + 1;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint8_t pattern(uint64_t position, uint64_t direction)
{
    return (uint8_t)(word(position / 8, direction) >> (position % 8 * 8));
}

/* A file with the first bytes of a direction; -1 on failure. */
static int written(const char *path, uint64_t size, uint64_t direction)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    uint64_t words[CHUNK / 8];

    for (uint64_t at = 0; fd >= 0 && at < size; at += CHUNK) {
        for (uint64_t i = 0; i < CHUNK / 8; i++)
            words[i] = word(at / 8 + i, direction);
        if (write(fd, words, CHUNK) != CHUNK)
            return -1;
    }
    return fd;
}

static int64_t milliseconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int fail(const char *what)
{
    printf("stream: %s: %s\n", what, strerror(errno));
    return 1;
}

static int connected(const char *address, const char *port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)strtoul(port, NULL, 10))};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1, peer;

    if (fd < 0)
        return -1;
    if (strcmp(address, "-") != 0) {
        if (inet_pton(AF_INET, address, &to.sin_addr) != 1) {
            errno = EINVAL;
            return -1;
        }
        return connect(fd, (struct sockaddr *)&to, sizeof(to)) ? -1 : fd;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
        bind(fd, (struct sockaddr *)&to, sizeof(to)) || listen(fd, 1))
        return -1;
    printf("stream: listens\n");
    fflush(stdout);
    peer = accept(fd, NULL, NULL);
    close(fd);
    return peer;
}

int main(int argc, char **argv)
{
    uint64_t sent = 0, got = 0, wrong = 0, direction, rate, credit = 0, size = 0;
    unsigned int patient = PATIENT;
    uint8_t buffer[CHUNK];
    int64_t last, report;
    int fd, file = -1;

    if ((argc != 4 && argc != 6) || (rate = strtoull(argv[3], NULL, 0)) == 0) {
        fprintf(stderr, "usage: stream ADDRESS|- PORT RATE [FILE MIB]\n");
        return 2;
    }
    direction = strcmp(argv[1], "-") == 0;
    if (argc == 6) {
        size = strtoull(argv[5], NULL, 0) << 20;
        file = written(argv[4], size, direction);
        if (file < 0)
            return fail(argv[4]);
    }
    fd = connected(argv[1], argv[2]);
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patient, sizeof(patient)) ||
        fcntl(fd, F_SETFL, O_NONBLOCK))
        return fail("no connection");
    last = report = milliseconds();
    for (;;) {
        struct pollfd p = {.fd = fd, .events = (short)(POLLIN | (credit >= CHUNK ? POLLOUT : 0))};
        int64_t now;
        ssize_t n;

        if (poll(&p, 1, 20) < 0)
            return fail("poll");
        if (p.revents & (POLLIN | POLLERR | POLLHUP)) {
            n = recv(fd, buffer, sizeof(buffer), 0);
            if (n == 0)
                return (void)printf("stream: the peer has ended it\n"), 1;
            if (n < 0 && errno != EAGAIN)
                return fail("recv");
            for (ssize_t i = 0; i < n; i++, got++) {
                if (buffer[i] != pattern(got, !direction) && wrong++ == 0)
                    printf("stream: byte %llu is 0x%02x\n", (unsigned long long)got, buffer[i]);
            }
        }
        if (p.revents & POLLOUT) {
            if (sent < size) {
                off_t at = (off_t)sent;

                n = sendfile(fd, file, &at, CHUNK);
            } else {
                for (size_t i = 0; i < CHUNK; i++)
                    buffer[i] = pattern(sent + i, direction);
                n = send(fd, buffer, CHUNK, MSG_NOSIGNAL);
            }
            if (n < 0 && errno != EAGAIN)
                return fail("send");
            sent += n > 0 ? (uint64_t)n : 0;
            credit -= n > 0 ? (uint64_t)n : 0;
        }
        now = milliseconds();
        credit += (uint64_t)(now - last) * rate / 1000;
        if (credit > BURST)
            credit = BURST;
        last = now;
        if (now >= report) {
            printf("stream sent=%llu got=%llu wrong=%llu\n", (unsigned long long)sent,
                   (unsigned long long)got, (unsigned long long)wrong);
            fflush(stdout);
            report = now + SECONDS * 1000;
        }
    }
}
