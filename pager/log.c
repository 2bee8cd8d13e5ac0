#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int log_fd = STDERR_FILENO;
static char log_path[4096];
static char log_name[64] = "xenpaging-pc";
static int log_both;
static enum log_level log_limit = LOG_LEVEL_INFO;

static const char *const level_names[] = {"error", "warning", "info", "debug"};

int log_open(const char *path)
{
    int fd;

    if (!path)
        return 0;
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
    if (fd < 0)
        return -1;
    if (log_fd != STDERR_FILENO)
        close(log_fd);
    log_fd = fd;
    if (path != log_path)
        snprintf(log_path, sizeof(log_path), "%s", path);
    return 0;
}

void log_reopen(void)
{
    if (log_path[0])
        log_open(log_path);
}

void log_set_level(enum log_level level)
{
    log_limit = level;
}

void log_also_stderr(int on)
{
    log_both = on;
}

void log_set_name(const char *name)
{
    snprintf(log_name, sizeof(log_name), "%s", name);
}

void log_line(enum log_level level, const char *fmt, ...)
{
    char line[1024];
    struct timespec now;
    struct tm tm;
    va_list ap;
    int n, saved = errno;

    if (level > log_limit)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    n = (int)strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
    n += snprintf(line + n, sizeof(line) - (size_t)n, ".%06ldZ %s %s: ", now.tv_nsec / 1000,
                  level_names[level], log_name);
    va_start(ap, fmt);
    vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
    va_end(ap);
    n = (int)strlen(line);
    line[n] = '\n';
    /* One write, so that lines of pager and feeder do not mix. A log that cannot be written stops nobody. */
    if (write(log_fd, line, (size_t)n + 1) < 0)
        errno = saved;
    if (log_both && log_fd != STDERR_FILENO && write(STDERR_FILENO, line, (size_t)n + 1) < 0)
        errno = saved;
    errno = saved;
}
