/* Giving up everything but a few descriptors and a handful of system calls. */
#ifndef XENPAGING_PC_SANDBOX_H
#define XENPAGING_PC_SANDBOX_H

#include <stddef.h>
#include <sys/types.h>

#define SANDBOX_KEEP 40

struct sandbox {
    int keep[SANDBOX_KEEP]; /* descriptors that stay open */
    size_t n_keep;
    int polls; /* as many can be waited for at once, and no more can be open than that and those kept: */
    int files; /* so many may be opened besides (accepted, handed over) */
    uid_t uid; /* to become, if we are root */
    gid_t gid;
    const char *empty_dir; /* to chroot to, if we are root */
    const int *calls;      /* system calls besides those that every sandbox has, SCMP_SYS(...); */
    size_t n_calls;
    /* Threads, each of which first calls sandbox_thread(): the filter holds for all of them. */
    void *(*thread)(void *data);
    void *const *thread_data; /* n_threads of them */
    unsigned int n_threads;
};

/* What a new thread needs of the system it has got by now. */
void sandbox_thread(void);
/* Its end: it does nothing any more. To exit takes system calls that nothing else does. */
void sandbox_thread_over(void) __attribute__((noreturn));

/* Add a descriptor (below 0: none) to those that stay. */
void sandbox_keep(struct sandbox *box, int fd);

/*
 * Close every descriptor that is not to be kept, with /dev/null for those below polls. As root, change root
 * to empty_dir and become uid and gid (no other groups, no capabilities). Then no_new_privs, no dumps, no
 * more files than files or processes, and the allow-list of system calls: anything else kills. Returns 0, or
 * -1 with errno and the failed step in what.
 */
int sandbox_enter(const struct sandbox *box, const char **what);

#endif
