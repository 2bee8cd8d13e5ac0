#include "shared.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

union fd_message {
    char bytes[CMSG_SPACE(NATIVE_FDS * sizeof(int))];
    struct cmsghdr align;
};

static int unix_socket(const char *path, struct sockaddr_un *addr)
{
    *addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(addr->sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(addr->sun_path, path);
    return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
}

int native_listen(const char *path)
{
    struct sockaddr_un addr;
    int fd = unix_socket(path, &addr);

    if (fd >= 0 && (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, 4))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static void give(int peer, const int fd[NATIVE_FDS])
{
    union fd_message control = {0};
    char byte = 0;
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control)};
    struct cmsghdr *head = CMSG_FIRSTHDR(&msg);

    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(NATIVE_FDS * sizeof(int));
    memcpy(CMSG_DATA(head), fd, NATIVE_FDS * sizeof(int));
    if (sendmsg(peer, &msg, MSG_NOSIGNAL) != 1)
        perror("guest: what a pager needs could not be given to it");
}

void native_answer(int listener, const int fd[NATIVE_FDS])
{
    for (;;) {
        int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

        if (peer < 0)
            continue;
        give(peer, fd);
        close(peer);
    }
}

static int take(int sock, int fd[NATIVE_FDS])
{
    union fd_message control;
    char byte;
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control)};
    struct cmsghdr *head;

    if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) != 1)
        return errno ? -errno : -EPIPE;
    head = CMSG_FIRSTHDR(&msg);
    if (!head || head->cmsg_type != SCM_RIGHTS || head->cmsg_len != CMSG_LEN(NATIVE_FDS * sizeof(int)))
        return -EPROTO;
    memcpy(fd, CMSG_DATA(head), NATIVE_FDS * sizeof(int));
    return 0;
}

static int use(int sock, struct native_link *link)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);
    int rc = take(sock, link->fd);

    if (rc)
        return rc;
    if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &size))
        return -errno;
    link->pid = peer.pid;
    link->pidfd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
    link->shared =
        mmap(NULL, sizeof(*link->shared), PROT_READ | PROT_WRITE, MAP_SHARED, link->fd[NATIVE_MEMORY], 0);
    return link->pidfd < 0 || link->shared == MAP_FAILED ? -errno : 0;
}

int native_connect(const char *path, struct native_link *link)
{
    struct sockaddr_un addr;
    int sock = unix_socket(path, &addr), rc;

    if (sock < 0)
        return -errno;
    rc = connect(sock, (struct sockaddr *)&addr, sizeof(addr)) ? -errno : use(sock, link);
    close(sock);
    return rc;
}

void native_close(struct native_link *link)
{
    for (int i = 0; i < NATIVE_FDS; i++)
        close(link->fd[i]);
    close(link->pidfd);
    munmap(link->shared, sizeof(*link->shared));
}

void native_pause(struct native_shared *shared)
{
    atomic_fetch_add(&shared->our_pauses, 1);
    atomic_fetch_add(&shared->pauses, 1);
}

int native_unpause(struct native_shared *shared)
{
    if (atomic_load(&shared->our_pauses) == 0)
        return -EINVAL;
    if (atomic_fetch_sub(&shared->our_pauses, 1) == 1 && !atomic_exchange(&shared->ran, 1))
        atomic_fetch_sub(&shared->pauses, 1); /* xl unpause */
    if (atomic_fetch_sub(&shared->pauses, 1) == 1)
        syscall(SYS_futex, &shared->pauses, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    return 0;
}

void native_wait(struct native_shared *shared)
{
    uint32_t pauses;

    while ((pauses = atomic_load(&shared->pauses)))
        syscall(SYS_futex, &shared->pauses, FUTEX_WAIT, pauses, NULL, NULL, 0);
}
