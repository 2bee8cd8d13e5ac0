/*
 * Keeps one QEMU of the lab: starts it, stamps its serial console, ends it when its owner is gone.
 *
 *   lab-keeper --log FILE [--owner PID] -- QEMU ARGS...
 *
 * QEMU's stdout is the host's serial line. Every line goes to FILE behind this machine's CLOCK_MONOTONIC in
 * integer microseconds and a space, taken when the line's first byte arrives. That clock is the one all hosts
 * of a lab share. Stamping is why this is a process of its own, in C, and asks for a better priority than
 * QEMU's.
 *
 * stdin is a leash held by whoever starts the host: end of file there before the byte 'K' ("keep") ends QEMU,
 * so that an interrupted `lab up` leaves nothing. With --owner, the death of that process ends QEMU at any
 * time. If the keeper itself is killed, QEMU dies with it (PDEATHSIG). Exit status: QEMU's, or 128 + its
 * signal.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t asked_to_end;

static void on_signal(int sig)
{
    (void)sig;
    asked_to_end = 1;
}

static void die(const char *what)
{
    fprintf(stderr, "lab-keeper: %s: %s\n", what, strerror(errno));
    exit(125);
}

static long long now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Copies what the serial line has now into the log. False at its end. */
static bool stamp(int serial, FILE *log)
{
    static bool in_line;
    char buf[16384];
    ssize_t n = read(serial, buf, sizeof(buf));
    long long now = now_us();

    if (n < 0)
        return errno == EINTR || errno == EAGAIN;
    if (!n)
        return false;
    for (ssize_t i = 0; i < n; i++) {
        /* Xen ends lines with CR LF (or LF CR); the CR says nothing */
        if (buf[i] == '\r')
            continue;
        if (!in_line)
            fprintf(log, "%lld ", now);
        putc(buf[i], log);
        in_line = buf[i] != '\n';
    }
    fflush(log);
    return true;
}

static pid_t start(char **argv, int *serial)
{
    int out[2];
    pid_t pid;

    if (pipe2(out, O_CLOEXEC))
        die("pipe");
    /* as much as a host can print while the keeper waits for a CPU */
    fcntl(out[1], F_SETPIPE_SZ, 1 << 20);
    pid = fork();
    if (pid < 0)
        die("fork");
    if (!pid) {
        int nothing = open("/dev/null", O_RDONLY);

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(nothing, 0);
        dup2(out[1], 1);
        execvp(argv[0], argv);
        die(argv[0]);
    }
    close(out[1]);
    *serial = out[0];
    return pid;
}

/* Both calls fail harmlessly where the process may not have a better priority than others. */
static void get_priority(void)
{
    errno = 0;
    if (setpriority(PRIO_PROCESS, 0, -15))
        errno = 0;
}

int main(int argc, char **argv)
{
    const char *path = NULL;
    struct sigaction act = {.sa_handler = on_signal};
    int serial, owner = -1, qemu, status, i;
    bool leashed = true, told = false;
    FILE *log;
    pid_t pid;

    for (i = 1; i + 1 < argc && strcmp(argv[i], "--"); i += 2) {
        if (!strcmp(argv[i], "--log")) {
            path = argv[i + 1];
        } else if (!strcmp(argv[i], "--owner")) {
            owner = pidfd_open(atoi(argv[i + 1]), 0);
            if (owner < 0)
                die("--owner");
        }
    }
    if (!path || i + 1 >= argc) {
        fputs("usage: lab-keeper --log FILE [--owner PID] -- QEMU ARGS...\n", stderr);
        return 2;
    }
    log = fopen(path, "a");
    if (!log)
        die(path);
    pid = start(argv + i + 1, &serial);
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGHUP, &act, NULL);
    qemu = pidfd_open(pid, 0);
    if (qemu < 0)
        die("pidfd_open");
    get_priority();
    for (;;) {
        struct pollfd p[] = {
            {.fd = serial, .events = POLLIN},
            {.fd = leashed ? 0 : -1, .events = POLLIN},
            {.fd = owner, .events = POLLIN},
            {.fd = qemu, .events = POLLIN},
        };
        /* once told to end, QEMU has five seconds */
        int n = poll(p, 4, told ? 5000 : -1);

        if (!n)
            kill(pid, SIGKILL);
        if (n > 0 && p[0].revents && !stamp(serial, log)) {
            close(serial);
            serial = -1;
        }
        if (n > 0 && p[1].revents) {
            char keep = 0;

            leashed = false;
            if (read(0, &keep, 1) != 1 || keep != 'K')
                asked_to_end = 1;
        }
        if (n > 0 && p[2].revents) {
            owner = -1;
            asked_to_end = 1;
        }
        if (n > 0 && p[3].revents)
            break;
        if (asked_to_end && !told) {
            told = true;
            kill(pid, SIGTERM);
        }
    }
    while (serial >= 0 && stamp(serial, log))
        ;
    if (waitpid(pid, &status, 0) != pid)
        die("waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
