#include "oom.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

#define ADJUSTMENT "/proc/self/oom_score_adj"
#define EXEMPT     "-1000"

static char before[16]; /* as read; empty: nothing was changed */

static int put(const char *text)
{
    int fd = open(ADJUSTMENT, O_WRONLY | O_CLOEXEC), rc;

    if (fd < 0)
        return -1;
    rc = write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -1;
    close(fd);
    return rc;
}

void oom_protect(void)
{
    char was[sizeof(before)];
    int fd;
    ssize_t n;

    /* By a parent, before it forked us. */
    if (before[0])
        return;
    fd = open(ADJUSTMENT, O_RDONLY | O_CLOEXEC);
    n = fd >= 0 ? read(fd, was, sizeof(was) - 1) : -1;
    if (fd >= 0)
        close(fd);
    if (n <= 0 || put(EXEMPT)) {
        log_warning("%s: %s: if memory runs out this pager may be killed, and then its guest stops for ever",
                    ADJUSTMENT, strerror(errno));
        return;
    }
    was[n] = '\0';
    memcpy(before, was, sizeof(before));
}

void oom_unprotect(void)
{
    if (before[0] && put(before))
        dprintf(STDERR_FILENO, "%s: %s\n", ADJUSTMENT, strerror(errno));
}
