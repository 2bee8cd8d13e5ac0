#include "run_dir.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int run_dir_prepare(const char *dir, char *empty, size_t empty_size)
{
    struct stat st;

    snprintf(empty, empty_size, "%s/empty", dir);
    if (mkdir(dir, 0700) && errno != EEXIST)
        return -1;
    if (mkdir(empty, 0555) && errno != EEXIST)
        return -1;
    /* Nobody else may put anything there: sockets in it are trusted by status, the empty folder by the
     * feeder. */
    if (lstat(dir, &st))
        return -1;
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || st.st_mode & 022) {
        errno = EPERM;
        return -1;
    }
    if (lstat(empty, &st))
        return -1;
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || st.st_mode & 022) {
        errno = EPERM;
        return -1;
    }
    return 0;
}
