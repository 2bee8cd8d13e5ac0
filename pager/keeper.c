#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "custody.h"
#include "daemon.h"
#include "exit_status.h"
#include "feeder.h"
#include "log.h"
#include "oom.h"
#include "receive.h"

#define DIAL_TIMEOUT_MS 30000

/* A pager that dies again and again and comes to nothing: what kills it will not go away by itself. */
#define BACKOFF_MS_MIN 10
#define BACKOFF_MS_MAX 5000
#define DEATHS_MAX     10
#define LIVED_MS       10000 /* that long is progress, too */

struct keeper {
    const struct receive_options *options;
    struct pool pool;
    struct keeping keeping;
    sigset_t before; /* signal mask of who started us */
    int signal_fd;
    int ready_fd; /* from the pager: a byte when it is ready */
    pid_t pager, feeder;
    int pager_status;
    unsigned int deaths; /* without progress */
    uint64_t progress, started_ns;
    int backoff_ms;
    int missed; /* a signal that came while there was no pager */
};

static int start_feeder(struct keeper *k)
{
    struct feeder_config config = {
        .connect = k->options->connect,
        .streams = k->options->streams,
        .dial_timeout_ms = DIAL_TIMEOUT_MS,
        .uid = k->options->feeder_uid,
        .gid = k->options->feeder_gid,
        .empty_dir = k->options->empty_dir,
        .pool = &k->pool,
        .life = k->keeping.life,
        .generation = k->keeping.journal ? k->keeping.journal->generation : 0,
        .forget = k->keeping.journal,
        .forget_bytes = receive_journal_bytes(&k->pool),
    };

    if (k->keeping.life[0] < 0 && pipe2(k->keeping.life, O_CLOEXEC)) {
        log_error("cannot make a pipe: %s", strerror(errno));
        return -1;
    }

    memcpy(config.token, k->options->token, sizeof(config.token));
    k->feeder = feeder_start(&config);
    explicit_bzero(config.token, sizeof(config.token));
    if (k->feeder < 0) {
        log_error("cannot start the feeder: %s", strerror(-k->feeder));
        return -1;
    }
    k->keeping.feeder_pidfd = (int)syscall(SYS_pidfd_open, k->feeder, 0);
    return k->keeping.feeder_pidfd < 0 ? -1 : 0;
}

/* The pager has seen to it that the rings are empty, and waits to hear of it. */
static void start_another_feeder(struct keeper *k)
{
    struct receive_journal *j = k->keeping.journal;
    const uint64_t one = 1;
    uint64_t count;

    if (read(k->keeping.want_fd, &count, sizeof(count)) < 0 || k->feeder > 0)
        return;
    if (k->keeping.feeder_pidfd >= 0)
        close(k->keeping.feeder_pidfd);
    k->keeping.feeder_pidfd = -1;
    if (start_feeder(k) == 0) {
        j->feeder = k->feeder;
        atomic_store(&j->feeder_ended, 0);
        atomic_fetch_add(&j->feeders, 1);
    } else {
        /* It will be asked for again. */
        if (k->feeder > 0)
            kill(k->feeder, SIGKILL);
        atomic_fetch_add(&j->feeder_failures, 1);
    }
    if (write(k->keeping.news_fd, &one, sizeof(one)) < 0)
        log_error("the pager cannot be told of another feeder: %s", strerror(errno));
}

/* After the fork of the feeder, which is to have none of it. */
static int prepare(struct keeper *k)
{
    struct keeping *keeping = &k->keeping;

    keeping->journal = receive_journal_create(&k->pool);
    keeping->set_fd = memfd_create("xenpaging-pc-set", MFD_CLOEXEC);
    keeping->notes_fd = memfd_create("xenpaging-pc-notes", MFD_CLOEXEC);
    keeping->stage_fd = memfd_create("xenpaging-pc-stages", MFD_CLOEXEC);
    keeping->status_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    keeping->news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    keeping->want_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    keeping->keeper_pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (!keeping->journal || keeping->set_fd < 0 || keeping->notes_fd < 0 || keeping->stage_fd < 0 ||
        keeping->status_fd < 0 || keeping->news_fd < 0 || keeping->want_fd < 0 || keeping->keeper_pidfd < 0) {
        log_error("cannot set up what a pager leaves to the next: %s", strerror(errno));
        return -1;
    }
    keeping->journal->keeper = getpid();
    keeping->journal->feeder = k->feeder;
    atomic_store(&keeping->journal->feeders, 1);
    if (k->options->watch_pid) {
        keeping->watch_pidfd = custody_watch(k->options->watch_pid);
        if (keeping->watch_pidfd < 0)
            log_error("process %d cannot be watched: %s", k->options->watch_pid, strerror(errno));
    }
    return 0;
}

/* Its own handlers take the signals as soon as they are there. */
static void be_pager(struct keeper *k, int ready_fd)
{
    close(k->signal_fd);
    /* What a terminal sends to everybody comes through the keeper, once. */
    setpgid(0, 0);
    daemon_ready_through(ready_fd);
    _exit(receive_pager(k->options, &k->keeping, &k->before));
}

/* Grows with whatever brings the session nearer to its end. */
static uint64_t progress(const struct keeper *k)
{
    const struct receive_journal *j = k->keeping.journal;
    const struct receive_facts *f = receive_journal_facts(j);

    return atomic_load(&j->settled) + RECEIVE_HALF_MAX - atomic_load(&j->n_half) + (f ? f->state : 0);
}

static int start_pager(struct keeper *k)
{
    int ready[2];

    if (pipe2(ready, O_CLOEXEC | O_NONBLOCK))
        return -errno;
    k->started_ns = monotonic_ns();
    k->progress = progress(k);
    atomic_store(&k->keeping.journal->ended, 0);
    k->pager = fork();
    if (k->pager == 0) {
        close(ready[0]);
        be_pager(k, ready[1]);
    }
    close(ready[1]);
    if (k->pager < 0) {
        int rc = -errno;

        close(ready[0]);
        return rc;
    }
    k->keeping.journal->pager = k->pager;
    /* It has it blocked until there is a handler. */
    if (k->missed)
        kill(k->pager, k->missed);
    k->missed = 0;
    if (k->ready_fd >= 0)
        close(k->ready_fd);
    k->ready_fd = ready[0];
    return 0;
}

static void reap(struct keeper *k)
{
    struct receive_journal *j = k->keeping.journal;
    struct rusage usage;
    const uint64_t one = 1;
    int status;
    pid_t pid;

    while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
        if (pid == k->pager) {
            k->pager = 0;
            k->pager_status = status;
        } else if (pid == k->feeder) {
            k->feeder = 0;
            j->feeder_status = status;
            j->feeder_usage = usage;
            atomic_store(&j->feeder_ended, 1);
            if (write(k->keeping.news_fd, &one, sizeof(one)) < 0)
                log_error("the pager cannot be told that the feeder has ended: %s", strerror(errno));
        }
    }
}

static void on_signals(struct keeper *k)
{
    struct signalfd_siginfo info;

    while (read(k->signal_fd, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo == SIGCHLD) {
            reap(k);
            continue;
        }
        if (info.ssi_signo == SIGHUP)
            log_reopen();
        /* Whether to leave a guest without its pages is the pager's to judge. */
        if (k->pager > 0)
            kill(k->pager, (int)info.ssi_signo);
        else
            k->missed = (int)info.ssi_signo;
    }
}

static void on_ready(struct keeper *k)
{
    char byte;
    ssize_t n = read(k->ready_fd, &byte, 1);

    if (n == 1)
        daemon_ready();
    if (n >= 0) {
        close(k->ready_fd);
        k->ready_fd = -1;
    }
}

/* Until the pager has ended; or, while there is none, for ms. */
static void wait_children(struct keeper *k, int ms)
{
    uint64_t until = monotonic_ns() + (uint64_t)ms * 1000000u;

    for (;;) {
        struct pollfd p[3] = {{.fd = k->signal_fd, .events = POLLIN},
                              {.fd = k->ready_fd, .events = POLLIN},
                              {.fd = k->keeping.want_fd, .events = POLLIN}};
        uint64_t now = monotonic_ns();

        if (ms < 0 ? k->pager == 0 : now >= until)
            break;
        poll(p, 3, ms < 0 ? -1 : (int)((until - now) / 1000000u) + 1);
        if (p[0].revents)
            on_signals(k);
        if (p[1].revents)
            on_ready(k);
        if (p[2].revents)
            start_another_feeder(k);
    }
}

/* Of what the last pager has left: may a guest run with pages absent? */
static bool guest_may_run(const struct keeper *k)
{
    const struct receive_facts *f = receive_journal_facts(k->keeping.journal);

    return f && atomic_load(&k->keeping.journal->active) && (f->committed || !k->options->session);
}

static void say_how(const struct keeper *k, char *text, size_t size)
{
    if (WIFSIGNALED(k->pager_status))
        snprintf(text, size, "the pager died of signal %d", WTERMSIG(k->pager_status));
    else
        snprintf(text, size, "the pager ended with status %d amid its work", WEXITSTATUS(k->pager_status));
}

/* Shall there be another pager? */
static bool succession(struct keeper *k)
{
    const struct receive_journal *j = k->keeping.journal;
    char how[64];

    if (atomic_load(&j->ended) && WIFEXITED(k->pager_status))
        return false;
    say_how(k, how, sizeof(how));
    if (atomic_load(&j->over)) {
        log_error("%s, after it had given up the guest", how);
        return false;
    }
    if (!atomic_load(&j->depends)) {
        log_error("%s, and no other can take over: %s", how,
                  guest_may_run(k) ? "this Xen's ring of one page ends with its reader"
                                   : "the guest could not run yet");
        return false;
    }
    if (progress(k) != k->progress || monotonic_ns() - k->started_ns > LIVED_MS * UINT64_C(1000000)) {
        k->deaths = 0;
        k->backoff_ms = 0;
    }
    if (++k->deaths > DEATHS_MAX) {
        log_error(
            "%s, as did %u before it that came to nothing: no other is started. The guest waits where it "
            "touches an absent page, and can only be destroyed",
            how, DEATHS_MAX);
        return false;
    }
    k->keeping.journal->deaths++;
    log_error("%s: starting another%s", how, k->backoff_ms ? " in a moment" : "");
    return true;
}

static int keep(struct keeper *k)
{
    int rc = start_pager(k);

    while (rc == 0) {
        wait_children(k, -1);
        if (!succession(k))
            break;
        do {
            if (k->backoff_ms)
                wait_children(k, k->backoff_ms);
            k->backoff_ms = k->backoff_ms == 0 ? BACKOFF_MS_MIN : 2 * k->backoff_ms;
            if (k->backoff_ms > BACKOFF_MS_MAX)
                k->backoff_ms = BACKOFF_MS_MAX;
            rc = start_pager(k);
            if (rc)
                log_error("cannot start another pager: %s", strerror(-rc));
        } while (rc && ++k->deaths <= DEATHS_MAX);
    }
    if (rc == 0 && atomic_load(&k->keeping.journal->ended) && WIFEXITED(k->pager_status))
        return WEXITSTATUS(k->pager_status);
    return guest_may_run(k) ? EXIT_MISSING : EXIT_FAILED;
}

/* The pager has given its last words their time. */
static void end_feeder(struct keeper *k)
{
    if (k->keeping.life[1] >= 0)
        close(k->keeping.life[1]);
    if (k->feeder <= 0)
        return;
    kill(k->feeder, SIGKILL);
    while (waitpid(k->feeder, NULL, 0) < 0 && errno == EINTR)
        ;
}

static int watch_signals(struct keeper *k)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, &k->before))
        return -1;
    k->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return k->signal_fd < 0 ? -1 : 0;
}

static void close_all(struct keeper *k)
{
    const int fds[] = {
        k->keeping.set_fd,       k->keeping.notes_fd,    k->keeping.stage_fd, k->keeping.status_fd,
        k->keeping.news_fd,      k->keeping.want_fd,     k->keeping.life[0],  k->keeping.keeper_pidfd,
        k->keeping.feeder_pidfd, k->keeping.watch_pidfd, k->signal_fd,        k->ready_fd};

    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    sigprocmask(SIG_SETMASK, &k->before, NULL);
}

int receive_run(const struct receive_options *options)
{
    struct keeper k = {
        .options = options,
        .keeping = {.set_fd = -1,
                    .notes_fd = -1,
                    .stage_fd = -1,
                    .status_fd = -1,
                    .news_fd = -1,
                    .keeper_pidfd = -1,
                    .feeder_pidfd = -1,
                    .watch_pidfd = -1,
                    .want_fd = -1,
                    .life = {-1, -1}},
        .signal_fd = -1,
        .ready_fd = -1,
    };
    int rc = pool_create(&k.pool, options->slots);

    if (rc) {
        log_error("page pool of %u pages: %s", options->slots, strerror(-rc));
        return EXIT_FAILED;
    }
    rc = EXIT_FAILED;
    sigprocmask(SIG_SETMASK, NULL, &k.before);
    if (start_feeder(&k) == 0 && prepare(&k) == 0 && watch_signals(&k) == 0) {
        /* Without it there is no successor: it is not to be killed for memory, nor to wait for its own. */
        oom_protect();
        if (mlockall(MCL_CURRENT | MCL_FUTURE))
            log_warning("mlockall: %s: this pager may be paged out itself", strerror(errno));
        rc = keep(&k);
    }
    end_feeder(&k);
    close_all(&k);
    pool_destroy(&k.pool);
    return rc;
}
