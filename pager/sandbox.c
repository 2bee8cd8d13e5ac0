#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <malloc.h>
#include <poll.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define STACK_SIZE (256u << 10)

static int by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* The lowest descriptors: what is not kept of them leads nowhere. */
static int fill_lowest(const struct sandbox *box)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        return -1;
    for (int fd = 0; fd < box->polls; fd++) {
        bool kept = false;

        for (size_t i = 0; i < box->n_keep; i++)
            kept = kept || box->keep[i] == fd;
        if (!kept && dup2(null, fd) < 0)
            return -1;
    }
    return 0;
}

static int close_others(const struct sandbox *box)
{
    int sorted[SANDBOX_KEEP], next = box->polls;

    if (fill_lowest(box))
        return -1;
    for (size_t i = 0; i < box->n_keep; i++)
        sorted[i] = box->keep[i];
    qsort(sorted, box->n_keep, sizeof(sorted[0]), by_number);
    for (size_t i = 0; i < box->n_keep; i++) {
        if (sorted[i] > next && close_range((unsigned)next, (unsigned)sorted[i] - 1, 0))
            return -1;
        if (sorted[i] >= next)
            next = sorted[i] + 1;
    }
    return close_range((unsigned)next, ~0u, 0);
}

void sandbox_keep(struct sandbox *box, int fd)
{
    if (fd >= 0 && box->n_keep < SANDBOX_KEEP)
        box->keep[box->n_keep++] = fd;
}

static int limit(int resource, rlim_t most)
{
    const struct rlimit none = {most, most};

    return setrlimit((__rlimit_resource_t)resource, &none);
}

/* Wait, move bytes, tell the other process, end. */
static const int allowed[] = {
    SCMP_SYS(poll),          SCMP_SYS(ppoll),      SCMP_SYS(read),         SCMP_SYS(readv),
    SCMP_SYS(write),         SCMP_SYS(close),      SCMP_SYS(shutdown),     SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),          SCMP_SYS(exit_group), SCMP_SYS(rt_sigreturn), SCMP_SYS(futex),
    SCMP_SYS(clock_gettime),
};

#ifdef __SANITIZE_ADDRESS__
/* The sanitizer's own needs, in test builds only. */
static const int allowed_sanitizer[] = {SCMP_SYS(mmap),     SCMP_SYS(munmap),      SCMP_SYS(madvise),
                                        SCMP_SYS(mprotect), SCMP_SYS(sigaltstack), SCMP_SYS(sched_yield),
                                        SCMP_SYS(getpid),   SCMP_SYS(gettid),      SCMP_SYS(rt_sigprocmask)};
#endif

static int filter(const struct sandbox *box)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
    int rc = ctx ? 0 : -ENOMEM;

    for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]) && rc == 0; i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
    for (size_t i = 0; i < box->n_calls && rc == 0; i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, box->calls[i], 0);
#ifdef __SANITIZE_ADDRESS__
    for (size_t i = 0; i < sizeof(allowed_sanitizer) / sizeof(allowed_sanitizer[0]) && rc == 0; i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed_sanitizer[i], 0);
#endif
    if (rc == 0)
        rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
    if (rc == 0)
        rc = seccomp_load(ctx);
    if (ctx)
        seccomp_release(ctx);
    errno = -rc;
    return rc ? -1 : 0;
}

static int leave_privileges(const struct sandbox *box, const char **what)
{
    if (geteuid() != 0)
        return 0;
    *what = "changing root to the empty directory";
    if (chroot(box->empty_dir) || chdir("/"))
        return -1;
    *what = "becoming an unprivileged user";
    if (setgroups(0, NULL) || setresgid(box->gid, box->gid, box->gid) ||
        setresuid(box->uid, box->uid, box->uid))
        return -1;
    errno = EPERM;
    return setuid(0) == 0 ? -1 : 0;
}

/* The filter comes when all of them wait here. */
static pthread_barrier_t started;

void sandbox_thread(void)
{
    pthread_barrier_wait(&started);
}

void sandbox_thread_over(void)
{
    for (;;)
        poll(NULL, 0, -1);
}

static int start_threads(const struct sandbox *box)
{
    pthread_attr_t attr;
    pthread_t thread;
    int rc = pthread_attr_init(&attr);

    /* All of them allocate from the heap that there is: another would take more system calls. */
    mallopt(M_ARENA_MAX, 1);
    if (rc == 0)
        rc = pthread_attr_setstacksize(&attr, STACK_SIZE);
    if (rc == 0)
        rc = pthread_barrier_init(&started, NULL, box->n_threads + 1);
    for (unsigned int i = 0; i < box->n_threads && rc == 0; i++)
        rc = pthread_create(&thread, &attr, box->thread, box->thread_data[i]);
    errno = rc;
    if (rc)
        return -1;
    pthread_barrier_wait(&started);
    return 0;
}

/* poll() takes no more entries than RLIMIT_NOFILE; the descriptors below are taken, so that only so many new
 * ones fit there. */
static int set_limits(const struct sandbox *box)
{
    int most = box->polls;

    for (size_t i = 0; box->files && i < box->n_keep; i++)
        most = box->keep[i] >= most ? box->keep[i] + 1 : most;
    return limit(RLIMIT_NOFILE, (rlim_t)(most + box->files)) || limit(RLIMIT_NPROC, 0) ||
                   limit(RLIMIT_FSIZE, 0) || limit(RLIMIT_CORE, 0)
               ? -1
               : 0;
}

int sandbox_enter(const struct sandbox *box, const char **what)
{
    *what = "closing inherited descriptors";
    if (close_others(box) || leave_privileges(box, what))
        return -1;
    *what = "giving up new privileges and dumps";
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
        return -1;
    *what = "starting threads";
    if (start_threads(box))
        return -1;
    *what = "setting limits";
    if (set_limits(box))
        return -1;
    *what = "loading the system call filter";
    return filter(box);
}
