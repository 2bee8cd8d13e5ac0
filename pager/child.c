#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "oom.h"

#define TERMINATE_MS 1000

static void take_line(struct child *c)
{
    c->line[c->length] = '\0';
    if (c->length) {
        snprintf(c->last, sizeof(c->last), "%.*s", (int)sizeof(c->last) - 1, c->line);
        log_info("%s: %s", c->name, c->line);
    }
    c->length = 0;
}

static void stop_io(struct child *c)
{
    if (c->io.fd < 0)
        return;
    take_line(c);
    ev_io_stop(c->loop, &c->io);
    close(c->io.fd);
    c->io.fd = -1;
}

/* What there is; false when nothing more ever comes. */
static bool read_lines(struct child *c)
{
    char bytes[512];
    ssize_t n;

    if (c->io.fd < 0)
        return false;
    while ((n = read(c->io.fd, bytes, sizeof(bytes))) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            if (bytes[i] == '\n' || c->length == sizeof(c->line) - 1)
                take_line(c);
            if (bytes[i] != '\n')
                c->line[c->length++] = bytes[i] >= 0x20 && bytes[i] < 0x7f ? bytes[i] : '?';
        }
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    stop_io(c);
    return false;
}

static void on_lines(struct ev_loop *loop, ev_io *w, int events)
{
    (void)loop;
    (void)events;
    read_lines(w->data);
}

static void on_end(struct ev_loop *loop, ev_child *w, int events)
{
    struct child *c = w->data;

    (void)events;
    ev_child_stop(loop, w);
    c->ended = true;
    c->status = w->rstatus;
    /* A process that it has left behind may keep the pipe open: not waited for. */
    read_lines(c);
    if (c->done)
        c->done(c->data);
}

static void become(const char *const *argv, int link, int pipe_fd)
{
    static const int defaults[] = {SIGPIPE, SIGHUP, SIGINT, SIGTERM, SIGCHLD};
    sigset_t none;

    setsid();
    for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++)
        signal(defaults[i], SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (link < 0)
        link = open("/dev/null", O_RDONLY);
    /* 0 to 2 are taken in every process of ours (daemon.c), so neither descriptor is one of them. */
    if (dup2(link, STDIN_FILENO) < 0 || dup2(pipe_fd, STDERR_FILENO) < 0 ||
        dup2(fcntl(link, F_GETFL) & O_ACCMODE ? link : pipe_fd, STDOUT_FILENO) < 0)
        _exit(127);
    close_range(STDERR_FILENO + 1, ~0u, 0);
    oom_unprotect();
    execvp(argv[0], (char *const *)argv);
    dprintf(STDERR_FILENO, "cannot run %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

int child_start(struct child *c, struct ev_loop *loop, const char *name, const char *const *argv, int link,
                void (*done)(void *data), void *data)
{
    int pipe_fd[2];

    memset(c, 0, sizeof(*c));
    c->io.fd = -1;
    if (pipe2(pipe_fd, O_CLOEXEC))
        return -errno;
    fcntl(pipe_fd[0], F_SETFL, O_NONBLOCK);
    c->pid = fork();
    if (c->pid == 0)
        become(argv, link, pipe_fd[1]);
    close(pipe_fd[1]);
    if (c->pid < 0) {
        int rc = -errno;

        close(pipe_fd[0]);
        c->pid = 0;
        return rc;
    }
    c->loop = loop;
    c->name = name;
    c->done = done;
    c->data = data;
    ev_io_init(&c->io, on_lines, pipe_fd[0], EV_READ);
    ev_child_init(&c->watcher, on_end, c->pid, 0);
    c->io.data = c->watcher.data = c;
    ev_io_start(loop, &c->io);
    ev_child_start(loop, &c->watcher);
    return 0;
}

static int left_ms(const struct timespec *start, int ms)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    ms -= (int)((now.tv_sec - start->tv_sec) * 1000 + (now.tv_nsec - start->tv_nsec) / 1000000);
    return ms > 0 ? ms : 0;
}

/* Has it ended? Left for the loop to reap, whose watcher would otherwise wait for ever. */
static bool has_ended(struct child *c)
{
    siginfo_t info = {0};

    if (c->ended)
        return true;
    if (waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0) {
        c->ended = info.si_pid == c->pid;
        c->status = info.si_code == CLD_EXITED ? info.si_status << 8 : info.si_status;
    } else if (errno == ECHILD) {
        /* libev has reaped it, and has not come to calling us. */
        c->ended = true;
        c->status = c->watcher.rstatus;
    }
    return c->ended;
}

void child_last_words(struct child *c, int ms)
{
    struct timespec start;
    struct pollfd p[2] = {{.events = POLLIN}, {.fd = -1, .events = POLLIN}};

    if (!c->pid)
        return;
    clock_gettime(CLOCK_MONOTONIC, &start);
    p[1].fd = has_ended(c) ? -1 : (int)syscall(SYS_pidfd_open, c->pid, 0);
    for (;;) {
        bool more = read_lines(c);

        if (has_ended(c)) {
            read_lines(c);
            break;
        }
        p[0].fd = more ? c->io.fd : -1;
        if (poll(p, 2, left_ms(&start, ms)) == 0)
            break;
    }
    if (p[1].fd >= 0)
        close(p[1].fd);
}

bool child_succeeded(const struct child *c)
{
    return c->pid && c->ended && WIFEXITED(c->status) && WEXITSTATUS(c->status) == 0;
}

void child_describe(const struct child *c, char *text, size_t size)
{
    const char *colon = c->last[0] ? ": " : "";

    if (!c->ended)
        snprintf(text, size, "has not ended%s%s", colon, c->last);
    else if (WIFSIGNALED(c->status))
        snprintf(text, size, "has died of signal %d%s%s", WTERMSIG(c->status), colon, c->last);
    else
        snprintf(text, size, "has ended with status %d%s%s", WEXITSTATUS(c->status), colon, c->last);
}

void child_end(struct child *c, int ms)
{
    if (!c->pid)
        return;
    child_last_words(c, ms);
    if (!c->ended) {
        kill(-c->pid, SIGTERM);
        child_last_words(c, TERMINATE_MS);
    }
    if (!c->ended) {
        kill(-c->pid, SIGKILL);
        child_last_words(c, TERMINATE_MS);
    }
    stop_io(c);
    ev_child_stop(c->loop, &c->watcher);
    while (waitpid(c->pid, NULL, WNOHANG) < 0 && errno == EINTR)
        ;
    c->pid = 0;
}
