#include "feeder_sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static int by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* The lowest descriptors: what is not kept of them leads nowhere. */
static int fill_lowest(const int *keep, size_t n)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        return -1;
    for (int fd = 0; fd < FEEDER_POLLS; fd++) {
        bool kept = false;

        for (size_t i = 0; i < n; i++)
            kept = kept || keep[i] == fd;
        if (!kept && dup2(null, fd) < 0)
            return -1;
    }
    return 0;
}

static int close_others(const int *keep, size_t n)
{
    int sorted[8], next = FEEDER_POLLS;

    if (fill_lowest(keep, n))
        return -1;
    for (size_t i = 0; i < n; i++)
        sorted[i] = keep[i];
    qsort(sorted, n, sizeof(sorted[0]), by_number);
    for (size_t i = 0; i < n; i++) {
        if (sorted[i] > next && close_range((unsigned)next, (unsigned)sorted[i] - 1, 0))
            return -1;
        if (sorted[i] >= next)
            next = sorted[i] + 1;
    }
    return close_range((unsigned)next, ~0u, 0);
}

static int limit(int resource, rlim_t most)
{
    const struct rlimit none = {most, most};

    return setrlimit((__rlimit_resource_t)resource, &none);
}

/* What the feeder's loop does: wait, move bytes, tell the pager, end. */
static const int allowed[] = {
    SCMP_SYS(poll),  SCMP_SYS(ppoll),      SCMP_SYS(read),         SCMP_SYS(readv),
    SCMP_SYS(write), SCMP_SYS(close),      SCMP_SYS(shutdown),     SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),  SCMP_SYS(exit_group), SCMP_SYS(rt_sigreturn),
};

#ifdef __SANITIZE_ADDRESS__
/* The sanitizer's own needs, in test builds only. */
static const int allowed_sanitizer[] = {SCMP_SYS(mmap),   SCMP_SYS(munmap),        SCMP_SYS(madvise),
                                        SCMP_SYS(futex),  SCMP_SYS(sigaltstack),   SCMP_SYS(getpid),
                                        SCMP_SYS(gettid), SCMP_SYS(rt_sigprocmask)};
#endif

static int filter(void)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
    int rc = ctx ? 0 : -ENOMEM;

    for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]) && rc == 0; i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
#ifdef __SANITIZE_ADDRESS__
    for (size_t i = 0; i < sizeof(allowed_sanitizer) / sizeof(allowed_sanitizer[0]) && rc == 0; i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed_sanitizer[i], 0);
#endif
    if (rc == 0)
        rc = seccomp_load(ctx);
    if (ctx)
        seccomp_release(ctx);
    errno = -rc;
    return rc ? -1 : 0;
}

int feeder_sandbox_enter(const int *keep, size_t n, uid_t uid, gid_t gid, const char *empty_dir,
                         const char **what)
{
    *what = "closing inherited descriptors";
    if (close_others(keep, n))
        return -1;
    if (geteuid() == 0) {
        *what = "changing root to the empty directory";
        if (chroot(empty_dir) || chdir("/"))
            return -1;
        *what = "becoming an unprivileged user";
        if (setgroups(0, NULL) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid))
            return -1;
        errno = EPERM;
        if (setuid(0) == 0)
            return -1;
    }
    *what = "setting limits";
    /* poll() takes no more entries than RLIMIT_NOFILE; the descriptors below are taken, so no new one fits
     * there. */
    if (limit(RLIMIT_NOFILE, FEEDER_POLLS) || limit(RLIMIT_NPROC, 0) || limit(RLIMIT_FSIZE, 0) ||
        limit(RLIMIT_CORE, 0))
        return -1;
    *what = "giving up new privileges and dumps";
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
        return -1;
    *what = "loading the system call filter";
    return filter();
}
