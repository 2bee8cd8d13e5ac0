/*
 * The lab's hand inside dom0: runs commands for `lab exec` and has a few small jobs that BusyBox cannot do.
 *
 *   lab-agent serve PORT           accept connections, run one command per connection
 *   lab-agent follow FILE [TEXT]   print FILE as it grows; with TEXT, end with 0 once a line contains it
 *   lab-agent stamp                copy stdin to stdout, each line behind CLOCK_MONOTONIC in microseconds
 *   lab-agent reseed HEX           make the kernel's random numbers differ from those of other restored hosts
 *
 * Protocol of `serve` (the other side is agentclient.py). Integers are big endian.
 *   request:  "LAB1", u32 length, that many bytes: the command's arguments, each ended by NUL
 *   frames:   u8 type, u32 length, payload
 *     to the agent:   'I' stdin bytes; 'C' stdin ends
 *     from the agent: 'P' u32 process group; 'O' stdout bytes; 'E' stderr bytes; 'X' u32 exit status
 *
 * When the connection ends before 'X', the command's process group gets SIGTERM, two seconds later SIGKILL.
 * What left the group (setsid) lives on. Output still in the pipes when the command ends is sent; output that
 * its left-over children write later is not waited for.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/random.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 65536, MAX_REQUEST = 1 << 20 };

static void die(const char *what)
{
    fprintf(stderr, "lab-agent: %s: %s\n", what, strerror(errno));
    exit(125);
}

/* False on error or end of file. */
static bool read_all(int fd, void *buf, size_t len)
{
    char *p = buf;

    while (len) {
        ssize_t n = read(fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static bool write_all(int fd, const void *buf, size_t len)
{
    const char *p = buf;

    while (len) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static bool send_frame(int sock, char type, const void *payload, uint32_t len)
{
    char buf[5 + CHUNK];
    uint32_t be = htonl(len);

    buf[0] = type;
    memcpy(buf + 1, &be, 4);
    memcpy(buf + 5, payload, len);
    return write_all(sock, buf, 5 + (size_t)len);
}

static bool send_u32(int sock, char type, uint32_t value)
{
    value = htonl(value);
    return send_frame(sock, type, &value, 4);
}

/* argv from the request, NULL-terminated; the strings live as long as the process. NULL if it is malformed.
 */
static char **read_request(int sock)
{
    char magic[4];
    uint32_t len, args = 0;
    char *text, **argv, *p;

    if (!read_all(sock, magic, 4) || memcmp(magic, "LAB1", 4) || !read_all(sock, &len, 4))
        return NULL;
    len = ntohl(len);
    if (!len || len > MAX_REQUEST)
        return NULL;
    text = malloc(len);
    if (!text || !read_all(sock, text, len) || text[len - 1])
        return NULL;
    for (uint32_t i = 0; i < len; i++)
        args += !text[i];
    argv = calloc(args + 1, sizeof(*argv));
    if (!argv)
        return NULL;
    p = text;
    for (uint32_t i = 0; i < args; i++, p += strlen(p) + 1)
        argv[i] = p;
    return argv;
}

struct command {
    int sock, in, out, err, pidfd;
    pid_t pid;
    char pending[CHUNK]; /* stdin bytes the command has not taken yet */
    size_t pending_at, pending_len;
    bool close_in_after;
};

static bool start_command(struct command *c, char **argv)
{
    int in[2], out[2], err[2];

    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
        return false;
    c->pid = fork();
    if (c->pid < 0)
        return false;
    if (!c->pid) {
        setsid();
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(err[1], 2);
        signal(SIGPIPE, SIG_DFL);
        signal(SIGCHLD, SIG_DFL);
        execvp(argv[0], argv);
        fprintf(stderr, "lab exec: %s: %s\n", argv[0], strerror(errno));
        _exit(errno == ENOENT ? 127 : 126);
    }
    close(in[0]);
    close(out[1]);
    close(err[1]);
    c->in = in[1];
    c->out = out[0];
    c->err = err[0];
    c->pidfd = pidfd_open(c->pid, 0);
    fcntl(c->in, F_SETFL, O_NONBLOCK);
    fcntl(c->out, F_SETFL, O_NONBLOCK);
    fcntl(c->err, F_SETFL, O_NONBLOCK);
    return c->pidfd >= 0;
}

static void close_in(struct command *c)
{
    if (c->in >= 0)
        close(c->in);
    c->in = -1;
    c->pending_len = 0;
}

static void feed_in(struct command *c)
{
    while (c->in >= 0 && c->pending_len) {
        ssize_t n = write(c->in, c->pending + c->pending_at, c->pending_len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) { /* the command closed its stdin: what is left goes nowhere, as in a pipe */
            close_in(c);
            return;
        }
        c->pending_at += (size_t)n;
        c->pending_len -= (size_t)n;
    }
    if (c->close_in_after && !c->pending_len)
        close_in(c);
}

/* One frame from the lab. False when the lab is gone or talks nonsense. */
static bool take_frame(struct command *c)
{
    char type;
    uint32_t len;

    if (!read_all(c->sock, &type, 1) || !read_all(c->sock, &len, 4))
        return false;
    len = ntohl(len);
    if (len > CHUNK || !read_all(c->sock, c->pending, len))
        return false;
    switch (type) {
    case 'I':
        c->pending_at = 0;
        c->pending_len = c->in >= 0 ? len : 0;
        break;
    case 'C':
        c->close_in_after = true;
        break;
    default:
        return false;
    }
    feed_in(c);
    return true;
}

/* Send what one pipe holds now; closes it at its end. False when the lab is gone. */
static bool drain(struct command *c, int *fd, char type)
{
    char buf[CHUNK];

    while (*fd >= 0) {
        ssize_t n = read(*fd, buf, sizeof(buf));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return true;
        if (n <= 0) {
            close(*fd);
            *fd = -1;
        } else if (!send_frame(c->sock, type, buf, (uint32_t)n)) {
            return false;
        }
    }
    return true;
}

static void abandon(struct command *c)
{
    struct pollfd p = {.fd = c->pidfd, .events = POLLIN};

    kill(-c->pid, SIGTERM);
    poll(&p, 1, 2000);
    kill(-c->pid, SIGKILL);
    _exit(1);
}

static void __attribute__((noreturn)) session(int sock)
{
    static struct command c = {.in = -1, .out = -1, .err = -1};
    char **argv = read_request(sock);
    int status, on = 1;

    c.sock = sock;
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (!argv || !start_command(&c, argv) || !send_u32(sock, 'P', (uint32_t)c.pid))
        _exit(1);
    for (;;) {
        /* no new frame is read before the command has taken the last one: TCP holds the lab back */
        bool busy = c.in >= 0 && c.pending_len;
        struct pollfd p[] = {
            {.fd = sock, .events = busy ? POLLRDHUP : POLLIN},
            {.fd = busy ? c.in : -1, .events = POLLOUT},
            {.fd = c.out, .events = POLLIN},
            {.fd = c.err, .events = POLLIN},
            {.fd = c.pidfd, .events = POLLIN},
        };

        if (poll(p, 5, -1) < 0) {
            if (errno == EINTR)
                continue;
            abandon(&c);
        }
        if (p[1].revents)
            feed_in(&c);
        if ((p[2].revents && !drain(&c, &c.out, 'O')) || (p[3].revents && !drain(&c, &c.err, 'E')))
            abandon(&c);
        if (p[4].revents)
            break;
        if (p[0].revents && (busy || !take_frame(&c)))
            abandon(&c);
    }
    if (waitpid(c.pid, &status, 0) != c.pid)
        abandon(&c);
    if (!drain(&c, &c.out, 'O') || !drain(&c, &c.err, 'E'))
        _exit(1);
    send_u32(sock, 'X',
             WIFEXITED(status) ? (uint32_t)WEXITSTATUS(status) : 128u + (uint32_t)WTERMSIG(status));
    shutdown(sock, SHUT_WR);
    /* unread stdin would make close() send a reset, which could overtake the status */
    while (read(sock, c.pending, sizeof(c.pending)) > 0)
        ;
    _exit(0);
}

static int serve(int port)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1, lsock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (lsock < 0 || setsockopt(lsock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
        bind(lsock, (struct sockaddr *)&any, sizeof(any)) || listen(lsock, 64))
        die("listen");
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_IGN); /* sessions are not waited for; start_command() undoes it where it waits */
    if (daemon(1, 0))
        die("daemon");
    for (;;) {
        int sock = accept4(lsock, NULL, NULL, SOCK_CLOEXEC);

        if (sock < 0)
            continue;
        if (!fork()) {
            signal(SIGCHLD, SIG_DFL);
            close(lsock);
            session(sock);
        }
        close(sock);
    }
}

/* Print all of fd from where it is; true once a line that contains text has been printed. */
static bool print_new(int fd, const char *text)
{
    static char line[CHUNK];
    static size_t used;
    char buf[CHUNK];
    ssize_t n;

    while ((n = read(fd, buf, sizeof(buf))) > 0) {
        if (!write_all(1, buf, (size_t)n))
            exit(1);
        for (ssize_t i = 0; text && i < n; i++) {
            if (used < sizeof(line) - 1 && buf[i])
                line[used++] = buf[i];
            if (buf[i] != '\n')
                continue;
            line[used] = 0;
            used = 0;
            if (strstr(line, text))
                return true;
        }
    }
    return false;
}

static int follow(const char *path, const char *text)
{
    int fd, notify = inotify_init1(IN_CLOEXEC);
    char dir[PATH_MAX], *slash, events[4096];

    if (notify < 0 || strlen(path) >= sizeof(dir))
        die(path);
    strcpy(dir, path);
    slash = strrchr(dir, '/');
    if (!slash || slash == dir)
        die("follow wants an absolute path below a folder");
    *slash = 0;
    /* watched before the first look, so that nothing falls in between */
    if (inotify_add_watch(notify, dir, IN_CREATE | IN_MOVED_TO | IN_MODIFY) < 0)
        die(dir);
    while ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        if (read(notify, events, sizeof(events)) < 0 && errno != EINTR)
            die("inotify");
    while (!print_new(fd, text))
        if (read(notify, events, sizeof(events)) < 0 && errno != EINTR)
            die("inotify");
    return 0;
}

static int stamp(void)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t len;

    while ((len = getline(&line, &size, stdin)) > 0) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        printf("%lld ", (long long)t.tv_sec * 1000000 + t.tv_nsec / 1000);
        fwrite(line, 1, (size_t)len, stdout);
        fflush(stdout);
    }
    free(line);
    return 0;
}

static int reseed(const char *hex)
{
    struct {
        struct rand_pool_info info;
        char bytes[64];
    } seed = {.info = {.entropy_count = 0}};
    size_t len = strnlen(hex, sizeof(seed.bytes));
    int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);

    memcpy(seed.bytes, hex, len);
    seed.info.entropy_count = (int)len * 4;
    seed.info.buf_size = (int)len;
    if (fd < 0 || ioctl(fd, RNDADDENTROPY, &seed) || ioctl(fd, RNDRESEEDCRNG))
        die("/dev/urandom");
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "serve"))
        return serve(atoi(argv[2]));
    if ((argc == 3 || argc == 4) && !strcmp(argv[1], "follow"))
        return follow(argv[2], argv[3]);
    if (argc == 2 && !strcmp(argv[1], "stamp"))
        return stamp();
    if (argc == 3 && !strcmp(argv[1], "reseed"))
        return reseed(argv[2]);
    fputs("usage: lab-agent serve PORT | follow FILE [TEXT] | stamp | reseed HEX\n", stderr);
    return 2;
}
