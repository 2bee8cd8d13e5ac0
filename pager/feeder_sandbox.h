/* Giving up everything but a few descriptors and a handful of system calls. */
#ifndef XENPAGING_PC_FEEDER_SANDBOX_H
#define XENPAGING_PC_FEEDER_SANDBOX_H

#include <stddef.h>
#include <sys/types.h>

/* As many descriptors can be waited for at once. */
#define FEEDER_POLLS 4

/*
 * Close every descriptor but the n in keep (8 at most), with /dev/null for those below FEEDER_POLLS. As root,
 * change root to empty_dir and become uid and gid (no other groups, no capabilities). Then no_new_privs, no
 * dumps, no new files or processes, and the allow-list of system calls: anything else kills. Returns 0, or -1
 * with errno and the failed step in what.
 */
int feeder_sandbox_enter(const int *keep, size_t n, uid_t uid, gid_t gid, const char *empty_dir,
                         const char **what);

#endif
