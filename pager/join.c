#include "join.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "channel.h"
#include "exit_status.h"
#include "session_id.h"
#include "token.h"

#define TOKEN_TIMEOUT_S 60

struct join {
    char token_file[4096], socket[108], pid_file[4096];
    unsigned int channel; /* 0: control */
    uint8_t streams;      /* bulk channels there are besides */
    int lock;             /* the token file, a byte for each channel: one join for each */
    int stop;             /* signals */
    int listener;
    int receiver;
    bool wrote_pid;
};

static int complain(const char *text)
{
    fprintf(stderr, "xenpaging-pc join: %s\n", text);
    return EXIT_FAILED;
}

/* Byte by byte: what comes behind the line is not ours. */
static int read_token(uint8_t token[TOKEN_SIZE])
{
    time_t end = time(NULL) + TOKEN_TIMEOUT_S;
    char line[2 * TOKEN_SIZE + 1];
    size_t n = 0;
    int rc;

    while (n < sizeof(line)) {
        struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
        time_t now = time(NULL);
        ssize_t got;

        if (now >= end || poll(&p, 1, (int)(end - now) * 1000) == 0)
            return complain("no token came within 60 s");
        got = read(STDIN_FILENO, line + n, 1);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got <= 0)
            return complain("stdin ended before the token");
        if (line[n++] == '\n')
            break;
    }
    rc = line[n - 1] == '\n' && token_parse(line, n, token) == 0 ? 0 : -1;
    explicit_bzero(line, sizeof(line));
    return rc ? complain("what came is no token: 64 hex digits and a newline") : 0;
}

/* Who does not know the token does not learn more than that. */
static int check_token(struct join *j, const char *session, const uint8_t theirs[TOKEN_SIZE])
{
    uint8_t ours[TOKEN_SIZE];
    char why[5120];
    bool equal;
    struct flock one = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)j->channel, .l_len = 1};

    j->lock = open(j->token_file, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (j->lock < 0 && errno == ENOENT) {
        fprintf(stderr, "xenpaging-pc join: no session %s is prepared on this host\n", session);
        return EXIT_REFUSED;
    }
    if (j->lock < 0 || token_read(j->token_file, ours, why, sizeof(why))) {
        complain(j->lock < 0 ? strerror(errno) : why);
        return EXIT_FAILED;
    }
    equal = token_equal(ours, theirs);
    explicit_bzero(ours, sizeof(ours));
    if (!equal) {
        fprintf(stderr, "xenpaging-pc join: the token is not that of session %s\n", session);
        return EXIT_REFUSED;
    }
    if (fcntl(j->lock, F_OFD_SETLK, &one)) {
        fprintf(stderr, "xenpaging-pc join: session %s has been joined already\n", session);
        return EXIT_REFUSED;
    }
    return 0;
}

static int write_pid(struct join *j)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    int fd = open(j->pid_file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    int rc = fd >= 0 && write(fd, text, (size_t)n) == n ? 0 : -1;

    if (fd >= 0)
        close(fd);
    j->wrote_pid = true;
    return rc;
}

/* We hold the lock: a socket that is there is stale. */
static int listen_here(struct join *j)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    mode_t mask;
    int rc;

    memcpy(addr.sun_path, j->socket, strlen(j->socket) + 1);
    j->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (j->listener < 0)
        return -1;
    unlink(j->socket);
    mask = umask(0177);
    rc = bind(j->listener, (struct sockaddr *)&addr, sizeof(addr));
    umask(mask);
    return rc || listen(j->listener, 1) ? -1 : 0;
}

static int greet(void)
{
    size_t n = strlen(JOIN_GREETING);

    return write(STDOUT_FILENO, JOIN_GREETING, n) == (ssize_t)n ? 0 : -1;
}

/* receive, or the end of serve, whichever comes first. */
static int await_receiver(struct join *j)
{
    for (;;) {
        struct pollfd p[3] = {{.fd = j->listener, .events = POLLIN},
                              {.fd = STDIN_FILENO, .events = POLLIN},
                              {.fd = j->stop, .events = POLLIN}};
        char byte;
        ssize_t n;

        if (poll(p, 3, -1) < 0) {
            if (errno == EINTR)
                continue;
            return complain(strerror(errno));
        }
        if (p[2].revents)
            return complain("ended by a signal before receive came");
        if (p[1].revents) {
            n = read(STDIN_FILENO, &byte, 1);
            if (n > 0)
                return complain("serve spoke before receive came");
            if (n == 0 || (errno != EINTR && errno != EAGAIN))
                return complain("the source has ended the session before receive came");
        }
        if (p[0].revents) {
            j->receiver = accept4(j->listener, NULL, NULL, SOCK_CLOEXEC);
            if (j->receiver >= 0)
                return 0;
        }
    }
}

/* Is there a receive, which is paused then, and waits for channels? */
static bool receives(const struct join *j)
{
    char path[4096 + sizeof(SESSION_RECEIVE_PID)];
    size_t n = strlen(j->token_file) - strlen(SESSION_TOKEN);

    snprintf(path, sizeof(path), "%.*s" SESSION_RECEIVE_PID, (int)n, j->token_file);
    return access(path, F_OK) == 0;
}

static void stop_listening(struct join *j)
{
    if (j->listener < 0)
        return;
    unlink(j->socket);
    close(j->listener);
    j->listener = -1;
}

/* Only the feeder is to hold the channel: its end is the channel's. */
static int hand_over(const struct join *j)
{
    if (channel_hand_over(j->receiver, STDIN_FILENO, STDOUT_FILENO, j->streams))
        return -1;
    close(STDIN_FILENO);
    close(STDOUT_FILENO);
    return 0;
}

/* Whoever carries the channel takes our end for the end of both directions: it comes after the feeder's. */
static int stay(const struct join *j)
{
    for (;;) {
        struct pollfd p[2] = {{.fd = j->receiver, .events = POLLIN}, {.fd = j->stop, .events = POLLIN}};
        char byte;
        ssize_t n;

        if (poll(p, 2, -1) < 0) {
            if (errno == EINTR)
                continue;
            return complain(strerror(errno));
        }
        if (p[1].revents)
            return complain("ended by a signal before receive has ended");
        n = p[0].revents ? recv(j->receiver, &byte, 1, MSG_DONTWAIT) : 1;
        if (n == 0)
            return EXIT_DONE;
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return complain("receive has ended before it took the channel");
    }
}

static int watch_signals(struct join *j)
{
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    j->stop = signalfd(-1, &set, SFD_CLOEXEC);
    return j->stop < 0 ? -1 : 0;
}

static int joined(struct join *j, const char *session)
{
    uint8_t token[TOKEN_SIZE];
    int rc = read_token(token);

    if (rc == 0)
        rc = check_token(j, session, token);
    explicit_bzero(token, sizeof(token));
    if (rc)
        return rc;
    if (watch_signals(j) || write_pid(j) || listen_here(j) || greet())
        return complain(strerror(errno));
    rc = await_receiver(j);
    if (rc) {
        /* Before receive is there, there will be no other: the session is over on this host, and nobody else
         * may be left to say so. */
        if (!j->channel && !receives(j))
            unlink(j->token_file);
        return rc;
    }
    stop_listening(j);
    return hand_over(j) ? complain(strerror(errno)) : stay(j);
}

int join_run(const char *run_dir, const char *session, unsigned int channel, uint8_t streams)
{
    struct join j = {
        .channel = channel, .streams = streams, .lock = -1, .stop = -1, .listener = -1, .receiver = -1};
    char bulk[16] = "";
    int rc;

    if (channel)
        snprintf(bulk, sizeof(bulk), "-%u", channel - 1);

    snprintf(j.token_file, sizeof(j.token_file), "%s/%s" SESSION_TOKEN, run_dir, session);
    snprintf(j.pid_file, sizeof(j.pid_file), "%s/%s" SESSION_JOIN_SOCKET "%s" SESSION_PID, run_dir, session,
             bulk);
    if (snprintf(j.socket, sizeof(j.socket), "%s/%s" SESSION_JOIN_SOCKET "%s", run_dir, session, bulk) >=
        (int)sizeof(j.socket))
        return complain("the path of the run folder is too long");
    rc = joined(&j, session);
    stop_listening(&j);
    if (j.wrote_pid)
        unlink(j.pid_file);
    if (j.receiver >= 0)
        close(j.receiver);
    if (j.stop >= 0)
        close(j.stop);
    if (j.lock >= 0)
        close(j.lock);
    return rc;
}
