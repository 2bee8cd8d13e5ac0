#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exit_status.h"
#include "log.h"

static int ready_fd = -1;

static int write_pid(const char *path)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    int rc;

    if (fd < 0)
        return -1;
    rc = write(fd, text, (size_t)n) == n ? 0 : -1;
    close(fd);
    return rc;
}

static void await_child(int fd, pid_t child)
{
    char byte;
    ssize_t n;
    int status;

    do
        n = read(fd, &byte, 1);
    while (n < 0 && errno == EINTR);
    if (n == 1)
        _exit(EXIT_DONE);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILED);
}

static int close_inherited(int keep)
{
    unsigned int first = STDERR_FILENO + 1;

    if (!keep)
        return close_range(first, ~0u, 0);
    if (fcntl(keep, F_SETFD, FD_CLOEXEC))
        return -1;
    if (keep > (int)first && close_range(first, (unsigned int)keep - 1, 0))
        return -1;
    return close_range((unsigned int)keep + 1, ~0u, 0);
}

static int background(const struct daemon_options *options)
{
    char log_file[4096];
    int pipe_fd[2], null;
    pid_t child;

    if (close_inherited(options->keep_fd) || pipe2(pipe_fd, O_CLOEXEC))
        return -1;
    child = fork();
    if (child < 0)
        return -1;
    if (child > 0) {
        close(pipe_fd[1]);
        await_child(pipe_fd[0], child);
    }
    close(pipe_fd[0]);
    ready_fd = pipe_fd[1];
    setsid();
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
        return -1;
    close(null);
    snprintf(log_file, sizeof(log_file), "%s/%s.log", options->run_dir, options->name);
    if (log_open(options->log_file ? options->log_file : log_file))
        return -1;
    log_also_stderr(1);
    return 0;
}

int daemon_enter(const struct daemon_options *options)
{
    /* Whoever waited for us, or reads what we say, may be gone. */
    signal(SIGPIPE, SIG_IGN);
    if (options->background ? background(options) : log_open(options->log_file)) {
        log_error("cannot start in the background, or open the log: %s", strerror(errno));
        return -1;
    }
    if (options->pid_file && write_pid(options->pid_file)) {
        log_error("pid file %s: %s", options->pid_file, strerror(errno));
        return -1;
    }
    return 0;
}

void daemon_ready(void)
{
    int null;

    if (ready_fd < 0)
        return;
    log_also_stderr(0);
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        dup2(null, STDERR_FILENO);
        close(null);
    }
    if (write(ready_fd, "r", 1) < 0)
        log_warning("nobody waited for this daemon to be ready: %s", strerror(errno));
    close(ready_fd);
    ready_fd = -1;
}

void daemon_ready_through(int fd)
{
    if (ready_fd < 0) {
        close(fd);
        return;
    }
    close(ready_fd);
    ready_fd = fd;
}

void daemon_leave(const struct daemon_options *options)
{
    if (options->pid_file)
        unlink(options->pid_file);
}
