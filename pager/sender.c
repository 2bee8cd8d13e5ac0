#include "sender.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net.h"
#include "oom.h"
#include "sandbox.h"
#include "sender_state.h"

#define GOODBYE_MS 2000
/* serve, failed_fd, listener, control, pending. */
enum { POLL_SERVE, POLL_FAILED, POLL_LISTENER, POLL_CONTROL, POLL_PENDING };
#define POLLS (POLL_PENDING + SENDER_PENDING)
#define FILES (SENDER_PENDING + (int)WIRE_STREAMS_MAX + 4)

union handed {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
};

size_t sender_bitmap_bytes(uint64_t nr_gfns)
{
    return SENDER_BITMAPS * (size_t)((nr_gfns + 63) / 64 + 1) * sizeof(uint64_t);
}

int sender_send(int socket, const struct sender_message *message, int fd)
{
    union handed control = {.bytes = {0}};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)message, .iov_len = sizeof(*message)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fd >= 0) {
        struct cmsghdr *header;

        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof(control.bytes);
        header = CMSG_FIRSTHDR(&msg);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &fd, sizeof(int));
    }
    return sendmsg(socket, &msg, MSG_NOSIGNAL) == (ssize_t)sizeof(*message) ? 0 : -1;
}

int sender_recv(int socket, struct sender_message *message, int *fd)
{
    union handed control;
    struct iovec iov = {.iov_base = message, .iov_len = sizeof(*message)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    ssize_t n = recvmsg(socket, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    struct cmsghdr *header;

    *fd = -1;
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    header = n == 0 ? NULL : CMSG_FIRSTHDR(&msg);
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
        header->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(fd, CMSG_DATA(header), sizeof(int));
    if (n != (ssize_t)sizeof(*message)) {
        if (*fd >= 0)
            close(*fd);
        errno = n == 0 ? ECONNRESET : EBADMSG;
        return -1;
    }
    message->text[sizeof(message->text) - 1] = '\0';
    return 1;
}

static void tell(struct sender *s, const struct sender_message *message)
{
    /* Without serve there is nothing to do here any more: it would have been told of the end. */
    if (sender_send(s->serve, message, -1))
        _exit(1);
}

void sender_tell(struct sender *s, enum sender_word word, uint32_t code, const char *text)
{
    struct sender_message message = {.word = word, .code = code};

    snprintf(message.text, sizeof(message.text), "%s", text ? text : "");
    tell(s, &message);
}

void sender_tell_values(struct sender *s, enum sender_word word, const uint64_t *values, unsigned int n)
{
    struct sender_message message = {.word = word};

    memcpy(message.value, values, n * sizeof(*values));
    tell(s, &message);
}

void sender_publish(struct sender *s)
{
    struct sender_figures *f = s->config->figures;
    const struct push_order *o = &s->order;

    pthread_mutex_lock(&s->lock);
    f->in_set = o->in_set;
    f->left = o->left;
    f->sent = o->sent;
    f->sent_urgent = o->sent_urgent;
    f->resent = o->resent;
    f->dropped = o->dropped;
    f->different_sent = o->different_sent;
    f->credit = s->credit - s->credit_used;
    pthread_mutex_unlock(&s->lock);
}

void sender_leave(struct sender *s)
{
    struct pollfd p[2] = {{.fd = s->control, .events = POLLIN}, {.fd = s->serve, .events = 0}};
    char scrap[4096];

    sender_publish(s);
    if (s->control >= 0)
        shutdown(s->control, SHUT_WR);
    /* Unread bytes would turn the close into a reset that overtakes the last words. Serve ends us, too, when
     * it has waited for long enough. */
    while (s->control >= 0 && poll(p, 2, GOODBYE_MS) > 0 && !p[1].revents) {
        ssize_t n = recv(s->control, scrap, sizeof(scrap), MSG_DONTWAIT);

        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            break;
    }
    _exit(0);
}

static void say_error(struct sender *s, const struct wire_fault *fault)
{
    uint8_t frame[WIRE_HEAD_SIZE + 8 + WIRE_TEXT_MAX];

    /* In one attempt, and only where it does not tear a frame. */
    if (s->control < 0 || (s->frame.size && s->frame.sent) || s->out_start != s->out_end)
        return;
    if (send(s->control, frame, wire_put_fault(frame, WIRE_ERROR, fault), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return;
}

void sender_fail(struct sender *s, uint32_t code, const char *fmt, ...)
{
    struct wire_fault fault = {.code = code};
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(fault.text, sizeof(fault.text), fmt, ap);
    va_end(ap);
    say_error(s, &fault);
    sender_publish(s);
    sender_tell(s, SENDER_FAILED, code, fault.text);
    sender_leave(s);
}

void sender_lost(struct sender *s, const char *text)
{
    sender_publish(s);
    sender_tell(s, SENDER_LOST, 0, text);
    _exit(0);
}

/* The word of serve that this is over: the receiver hears it, serve does not need to. */
static void told_to_fail(struct sender *s, const struct sender_message *word)
{
    struct wire_fault fault;

    wire_fault_set(&fault, word->code, "%s", word->text);
    say_error(s, &fault);
    sender_leave(s);
}

static void obey(struct sender *s, const struct sender_message *word, int fd)
{
    switch (word->word) {
    case SENDER_ACCEPT:
        sender_accept(s, word, fd);
        return;
    case SENDER_LINK:
        if (fd >= 0)
            sender_expect(s, fd, true);
        return;
    case SENDER_REFUSE:
        sender_refuse(s, word);
        break;
    case SENDER_GO:
        s->may_go = true;
        sender_go(s);
        break;
    case SENDER_FAIL:
        told_to_fail(s, word);
        break;
    case SENDER_ACKNOWLEDGE:
        sender_acknowledge(s);
        break;
    case SENDER_RATE:
        pthread_mutex_lock(&s->lock);
        s->rate.bytes = word->value[0];
        s->rate.due = 0;
        pthread_mutex_unlock(&s->lock);
        sender_bulk_wake(s);
        break;
    }
    if (fd >= 0)
        close(fd);
}

static void hear(struct sender *s)
{
    struct sender_message word;
    int fd, rc;

    while ((rc = sender_recv(s->serve, &word, &fd)) > 0)
        obey(s, &word, fd);
    if (rc < 0)
        _exit(1);
}

/* A bulk thread has something to say. What the receiver has to say about that comes on the control channel:
 * it gets the time for its last words. True: the time runs. */
static bool bulk_news(struct sender *s)
{
    struct wire_fault fault;
    bool lost;

    pthread_mutex_lock(&s->lock);
    fault = s->bulk_fault;
    lost = s->bulk_lost;
    pthread_mutex_unlock(&s->lock);
    if (!fault.code || s->closing || s->state == WIRE_IN_COMPLETE)
        return false;
    if (!lost)
        sender_fail(s, fault.code, "%s", fault.text);
    if (!s->bulk_lost_ns)
        s->bulk_lost_ns = monotonic_ns();
    return true;
}

static void tell_all_sent(struct sender *s)
{
    bool all;

    if (s->told_all_sent || s->state != WIRE_IN_ACTIVE)
        return;
    pthread_mutex_lock(&s->lock);
    all = s->order.left == 0;
    pthread_mutex_unlock(&s->lock);
    if (!all || s->frame.size || sender_chosen(&s->choice))
        return;
    s->told_all_sent = true;
    sender_publish(s);
    sender_tell(s, SENDER_ALL_SENT, 0, NULL);
}

static int shorter(int a, int b)
{
    return a < 0 ? b : b < 0 ? a : a < b ? a : b;
}

static void wait_for_something(struct sender *s, struct pollfd *p)
{
    int ms = shorter(sender_pending_late(s), s->control >= 0 ? sender_push_due(s) : -1);
    bool lost = bulk_news(s);

    p[POLL_SERVE] = (struct pollfd){.fd = s->serve, .events = POLLIN};
    p[POLL_FAILED] = (struct pollfd){.fd = s->failed_fd, .events = POLLIN};
    p[POLL_LISTENER] = (struct pollfd){.fd = s->config->listener, .events = POLLIN};
    p[POLL_CONTROL] = (struct pollfd){.fd = s->control, .events = POLLIN};
    if (s->control >= 0 && sender_wants_write(s))
        p[POLL_CONTROL].events |= POLLOUT;
    for (int i = 0; i < SENDER_PENDING; i++)
        p[POLL_PENDING + i] = (struct pollfd){.fd = i == s->came ? -1 : s->pending[i].fd, .events = POLLIN};
    poll(p, POLLS, lost ? shorter(ms, GOODBYE_MS) : ms);
    if (lost && monotonic_ns() - s->bulk_lost_ns > GOODBYE_MS * UINT64_C(1000000))
        sender_lost(s, s->bulk_fault.text);
}

static void loop(struct sender *s)
{
    for (;;) {
        struct pollfd p[POLLS];
        uint64_t count;

        wait_for_something(s, p);
        if (p[POLL_CONTROL].revents & (POLLIN | POLLHUP | POLLERR))
            sender_readable(s);
        if (s->control >= 0)
            sender_write(s);
        if (p[POLL_SERVE].revents)
            hear(s);
        if (p[POLL_FAILED].revents && read(s->failed_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
            sender_lost(s, strerror(errno));
        for (int i = 0; i < SENDER_PENDING; i++)
            if (p[POLL_PENDING + i].revents && s->pending[i].fd >= 0)
                sender_pending_readable(s, &s->pending[i]);
        if (p[POLL_LISTENER].revents)
            sender_connect(s);
        tell_all_sent(s);
        sender_publish(s);
    }
}

static int prepare(struct sender *s)
{
    const struct sender_config *config = s->config;

    pthread_mutex_init(&s->lock, NULL);
    s->rate.bytes = config->rate;
    s->failed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->bulk = calloc(config->streams ? config->streams : 1, sizeof(*s->bulk));
    if (s->failed_fd < 0 || !s->bulk)
        return -1;
    for (uint32_t i = 0; i < config->streams; i++) {
        s->bulk[i].s = s;
        s->bulk[i].index = (uint8_t)i;
        s->bulk[i].fd = -1;
        s->bulk[i].wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (s->bulk[i].wake < 0)
            return -1;
    }
    for (int i = 0; i < SENDER_PENDING; i++)
        s->pending[i].fd = -1;
    s->ticket = (struct wire_join){
        .version = WIRE_VERSION, .role = WIRE_JOINER, .generation = config->generation + 1};
    return getrandom(s->ticket.ticket, WIRE_TICKET_SIZE, 0) == WIRE_TICKET_SIZE ? 0 : -1;
}

/* What it does besides moving bytes: accept, take descriptors, map pages. */
static const int calls[] = {
    SCMP_SYS(accept4),     SCMP_SYS(recvfrom), SCMP_SYS(sendto), SCMP_SYS(recvmsg), SCMP_SYS(sendmsg),
    SCMP_SYS(setsockopt),  SCMP_SYS(ioctl),    SCMP_SYS(mmap),   SCMP_SYS(munmap),  SCMP_SYS(brk),
    SCMP_SYS(getpeername), SCMP_SYS(madvise),  SCMP_SYS(fcntl),
};

static int confine(struct sender *s, const char **what)
{
    const struct sender_config *config = s->config;
    void *threads[WIRE_STREAMS_MAX];
    struct sandbox box = {.polls = POLLS,
                          .files = FILES,
                          .uid = config->uid,
                          .gid = config->gid,
                          .empty_dir = config->empty_dir,
                          .calls = calls,
                          .n_calls = sizeof(calls) / sizeof(calls[0]),
                          .thread = sender_bulk_thread,
                          .thread_data = threads,
                          .n_threads = config->streams};
    int fd = -1, rc;

    sandbox_keep(&box, s->serve);
    sandbox_keep(&box, s->failed_fd);
    sandbox_keep(&box, config->listener);
    sandbox_keep(&box, config->link);
    for (uint32_t i = 0; i < config->streams; i++) {
        threads[i] = &s->bulk[i];
        sandbox_keep(&box, s->bulk[i].wake);
    }
    *what = "giving up rights on other domains";
    rc = config->be->ops->confine(config->be, &fd);
    if (rc) {
        errno = -rc;
        return -1;
    }
    sandbox_keep(&box, fd);
    return sandbox_enter(&box, what);
}

static void sender_main(const struct sender_config *config, int serve)
{
    static struct sender sender;
    struct sender *s = &sender;
    const char *what = "preparing";
    char text[256];

    /* Serve keeps the guest's pages, and has another sender when this one is gone. */
    oom_unprotect();
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    s->config = config;
    s->serve = serve;
    s->control = s->came = -1;
    if (prepare(s) || confine(s, &what)) {
        snprintf(text, sizeof(text), "the sender cannot be confined: %s: %s", what, strerror(errno));
        sender_lost(s, text);
    }
    if (config->link >= 0)
        sender_expect(s, config->link, true);
    loop(s);
}

pid_t sender_start(const struct sender_config *config, int *socket)
{
    int pair[2];
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        return -errno;
    pid = fork();
    if (pid == 0) {
        close(pair[0]);
        sender_main(config, pair[1]);
        _exit(1);
    }
    close(pair[1]);
    /* Serve waits for nobody who talks to strangers. */
    if (pid >= 0 && fcntl(pair[0], F_SETFL, O_NONBLOCK)) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        pid = -1;
    }
    if (pid < 0) {
        pid = -errno;
        close(pair[0]);
        return pid;
    }
    *socket = pair[0];
    return pid;
}
