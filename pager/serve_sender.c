/* What the sender says, and what follows from it. The sender talks to strangers: what it says is judged here
 * once more as far as it can be. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exit_status.h"
#include "log.h"
#include "net.h"
#include "serve.h"

static void end_sender(const struct server *s)
{
    syscall(SYS_pidfd_send_signal, s->sender_pidfd, SIGKILL, NULL, 0);
}

static void tell(struct server *s, enum sender_word word, uint32_t code, const char *text, int fd)
{
    struct sender_message message = {.word = word, .code = code};

    if (s->sender_socket < 0)
        return;
    if (word == SENDER_ACCEPT) {
        message.value[0] = s->run.session ? s->set.count : s->populated_count;
        message.value[1] = s->nr_gfns;
    }
    snprintf(message.text, sizeof(message.text), "%s", text ? text : "");
    if (sender_send(s->sender_socket, &message, fd) == 0)
        return;
    /* If it has gone its end of the socket says so. One that does not listen is of no use. */
    log_debug("the sender cannot be told %u: %s", word, strerror(errno));
    if (errno == EAGAIN)
        end_sender(s);
}

/* One of the bitmaps. NULL with errno. */
static void *map_bitmap(struct server *s, enum sender_bitmap which, void **map)
{
    size_t bytes = sender_bitmap_bytes(s->nr_gfns);

    *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->bitmaps, 0);
    return *map == MAP_FAILED ? NULL : (uint8_t *)*map + which * (bytes / SENDER_BITMAPS);
}

static int write_bitmap(struct server *s, enum sender_bitmap which, const struct gfn_bitmap *from)
{
    uint64_t nr = from->nr < s->nr_gfns ? from->nr : s->nr_gfns;
    void *map, *to = map_bitmap(s, which, &map);

    if (!to)
        return -errno;
    memcpy(to, from->words, (size_t)((nr + 63) / 64) * sizeof(uint64_t));
    munmap(map, sender_bitmap_bytes(s->nr_gfns));
    return 0;
}

/* What may be in the set, and (by hand) what is there. */
static int make_bitmaps(struct server *s)
{
    int rc;

    /* As long as anybody has it mapped nobody can make it shorter. */
    s->bitmaps = memfd_create("xenpaging-pc-serve", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (s->bitmaps < 0 || ftruncate(s->bitmaps, (off_t)sender_bitmap_bytes(s->nr_gfns)) ||
        fcntl(s->bitmaps, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
        return -errno;
    rc = write_bitmap(s, SENDER_ALLOWED, s->run.session ? &s->set.map : &s->populated);
    return rc || s->run.session ? rc : write_bitmap(s, SENDER_POPULATED, &s->populated);
}

static void on_came(struct server *s, const struct sender_message *m)
{
    struct wire_fault fault;
    int rc;

    if (s->run.state == SESSION_PAUSED) {
        s->generation++;
        session_run_enter(&s->run, SESSION_RECOVER, NULL);
        tell(s, SENDER_ACCEPT, 0, NULL, s->bitmaps);
        return;
    }
    if (s->run.state != SESSION_LISTEN)
        return serve_fail(s, WIRE_ERROR_INTERNAL, "a second receiver");
    if (serve_switch(s, &fault)) {
        tell(s, SENDER_REFUSE, fault.code, fault.text, -1);
        return;
    }
    rc = make_bitmaps(s);
    if (rc)
        return serve_fail(s, WIRE_ERROR_INTERNAL, "memory for %llu gfns: %s", (unsigned long long)s->nr_gfns,
                          strerror(-rc));
    snprintf(s->peer, sizeof(s->peer), "%s", s->run.session ? s->options->transport : m->text);
    log_info("receiver at %s", s->peer);
    session_run_enter(&s->run, SESSION_DEVICE, NULL);
    s->generation++;
    tell(s, SENDER_ACCEPT, 0, NULL, s->bitmaps);
}

/* The set that receive has is the one that libxc wrote here, and each page of it is here. */
static int check_own_set(struct server *s, uint64_t pages)
{
    void *map;
    struct gfn_bitmap theirs = {.words = map_bitmap(s, SENDER_IN_SET, &map), .nr = s->nr_gfns};
    uint64_t gfn;
    int rc;

    if (!theirs.words)
        return -errno;
    gfn = gfn_bitmap_next_not_in(&s->set.map, &theirs);
    munmap(map, sender_bitmap_bytes(s->nr_gfns));
    /* Each of its gfns is in ours: so the count tells. */
    if (pages != s->set.count || gfn < s->set.map.nr) {
        serve_fail(s, WIRE_ERROR_SET,
                   "the destination misses %llu pages, the set file here has %llu: gfn 0x%llx for one",
                   (unsigned long long)pages, (unsigned long long)s->set.count, (unsigned long long)gfn);
        return 1;
    }
    rc = serve_scan_rest(s);
    if (rc) {
        serve_fail(s, WIRE_ERROR_INTERNAL, "page types at the source: %s", strerror(-rc));
        return 1;
    }
    gfn = gfn_bitmap_next_not_in(&s->set.map, &s->populated);
    if (gfn < s->set.map.nr) {
        serve_fail(s, WIRE_ERROR_SET, "gfn 0x%llx is in the set, and the source has no page there",
                   (unsigned long long)gfn);
        return 1;
    }
    return write_bitmap(s, SENDER_POPULATED, &s->populated);
}

static void on_set(struct server *s, const struct sender_message *m)
{
    int rc = 0;

    if (s->run.state != SESSION_DEVICE || s->agreed)
        return serve_fail(s, WIRE_ERROR_INTERNAL, "a set out of turn");
    if (s->run.session)
        rc = check_own_set(s, m->value[0]);
    if (rc < 0)
        serve_fail(s, WIRE_ERROR_INTERNAL, "the set: %s", strerror(-rc));
    if (rc)
        return;
    s->agreed = true;
    tell(s, SENDER_GO, 0, NULL, -1);
    session_run_enter(&s->run, SESSION_ACTIVE, NULL);
}

static void on_resumed(struct server *s, const struct sender_message *m)
{
    if (s->run.state != SESSION_RECOVER)
        return serve_fail(s, WIRE_ERROR_INTERNAL, "a receiver resumes out of turn");
    s->recoveries++;
    s->known_there = true;
    s->again_s = 0;
    log_info("the receiver is back, with %llu pages; %llu are left", (unsigned long long)m->value[0],
             (unsigned long long)s->figures->left);
    tell(s, SENDER_GO, 0, NULL, -1);
    session_run_enter(&s->run, SESSION_ACTIVE, NULL);
}

static void on_complete(struct server *s, const struct sender_message *m)
{
    const struct sender_figures *f = s->figures;
    struct wire_complete *c = &s->complete;

    *c = (struct wire_complete){.set = m->value[0],
                                .installed = m->value[1],
                                .dropped = m->value[2],
                                .replaced = m->value[3],
                                .guest_faults = m->value[4],
                                .foreign_requests = m->value[5]};
    if (!s->agreed || s->given_up || s->acknowledging)
        return serve_fail(s, WIRE_ERROR_PROTOCOL, "COMPLETE out of turn");
    if (c->set != f->in_set || c->installed > c->set || c->dropped > c->set - c->installed ||
        c->replaced != c->set - c->installed - c->dropped || c->installed > f->different_sent)
        return serve_fail(s, WIRE_ERROR_COUNTS,
                          "COMPLETE with set %llu, installed %llu, dropped %llu, replaced %llu; here %llu in "
                          "the set, %llu sent",
                          (unsigned long long)c->set, (unsigned long long)c->installed,
                          (unsigned long long)c->dropped, (unsigned long long)c->replaced,
                          (unsigned long long)f->in_set, (unsigned long long)f->different_sent);
    s->acknowledging = true;
    tell(s, SENDER_ACKNOWLEDGE, 0, NULL, -1);
}

static void on_gone(struct server *s, uint64_t reason)
{
    if (s->given_up && reason != WIRE_GONE_HANDED_BACK && reason != WIRE_GONE_GIVEN_UP)
        return serve_fail(s, WIRE_ERROR_PROTOCOL, "GONE out of turn");
    s->sender_over = reason != WIRE_GONE_GIVEN_UP;
    switch (reason) {
    case WIRE_GONE_GIVEN_UP:
        serve_given_up(s);
        break;
    case WIRE_GONE_HANDED_BACK:
        serve_handed_back(s);
        break;
    default:
        serve_gone(s, reason == WIRE_GONE_RAN);
        break;
    }
}

static void on_error(struct server *s, const struct sender_message *m)
{
    s->sender_over = true;
    session_run_end(&s->run, SESSION_FAILED,
                    m->code == WIRE_ERROR_VERIFY                   ? EXIT_WRONG
                    : !s->agreed || session_run_undecided(&s->run) ? EXIT_FAILED
                                                                   : EXIT_MISSING,
                    "the receiver reports (%s): %s%s", wire_code_name(m->code), m->text, serve_advice(s));
}

static void on_refused(struct server *s, const struct sender_message *m)
{
    log_warning("refused a connection (%s): %s", wire_code_name(m->code), m->text);
    if (!s->run.session)
        return;
    if (serve_pause(s, m->text))
        return;
    s->sender_over = true;
    serve_failed(s, m->text);
}

static void take(struct server *s, const struct sender_message *m)
{
    switch (m->word) {
    case SENDER_CAME:
        return on_came(s, m);
    case SENDER_REFUSED:
        return on_refused(s, m);
    case SENDER_SET:
        return on_set(s, m);
    case SENDER_RESUMED:
        return on_resumed(s, m);
    case SENDER_ALL_SENT:
        if (s->run.state == SESSION_ACTIVE)
            session_run_enter(&s->run, SESSION_DRAIN, "every page has been sent");
        return;
    case SENDER_COMPLETE:
        return on_complete(s, m);
    case SENDER_DELIVERED:
        s->sender_over = true;
        if (!s->acknowledging)
            return serve_fail(s, WIRE_ERROR_INTERNAL, "COMPLETE_ACK that was not called for");
        return serve_delivered(s);
    case SENDER_GONE:
        return on_gone(s, m->value[0]);
    case SENDER_ERROR:
        return on_error(s, m);
    case SENDER_FAILED:
        s->sender_over = true;
        return serve_failed(s, m->text);
    case SENDER_LOST:
        s->sender_over = true;
        return serve_lost(s, m->text);
    default:
        return serve_fail(s, WIRE_ERROR_INTERNAL, "the sender says %u", m->word);
    }
}

static void on_sender(struct ev_loop *loop, ev_io *w, int events)
{
    struct server *s = w->data;
    struct sender_message m;
    int fd, rc = 0;

    (void)loop;
    (void)events;
    while (!session_final(s->run.state) && (rc = sender_recv(s->sender_socket, &m, &fd)) > 0) {
        if (fd >= 0)
            close(fd);
        take(s, &m);
        if (s->sender_socket < 0) /* paused */
            return;
    }
    if (rc >= 0)
        return;
    ev_io_stop(s->run.loop, w);
    if (!s->sender_over && !s->delivered)
        serve_lost(s, "the process that sends has died");
}

int serve_sender_start(struct server *s, int link)
{
    struct sender_config config = {.be = s->be,
                                   .listener = s->listener,
                                   .link = link,
                                   .own_set = s->run.session != NULL,
                                   .streams = s->options->streams,
                                   .order = s->options->order,
                                   .generation = s->generation,
                                   .budget_ns = SERVE_BUDGET_NS,
                                   .rate = (uint64_t)s->options->max_push << 20,
                                   .uid = s->options->sender_uid,
                                   .gid = s->options->sender_gid,
                                   .empty_dir = s->options->empty_dir};

    s->sender_over = false;
    if (!s->figures)
        s->figures =
            mmap(NULL, sizeof(*s->figures), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s->figures == MAP_FAILED) {
        s->figures = NULL;
        log_error("memory for figures: %s", strerror(errno));
        return -1;
    }
    config.figures = s->figures;
    memcpy(config.uuid, s->run.uuid, sizeof(config.uuid));
    memcpy(config.token, s->options->token, sizeof(config.token));
    s->sender = sender_start(&config, &s->sender_socket);
    explicit_bzero(config.token, sizeof(config.token));
    if (s->sender < 0) {
        log_error("cannot start the sender: %s", strerror(-s->sender));
        s->sender = 0;
        return -1;
    }
    s->sender_pidfd = (int)syscall(SYS_pidfd_open, s->sender, 0);
    ev_io_init(&s->sender_io, on_sender, s->sender_socket, EV_READ);
    s->sender_io.data = s;
    ev_io_start(s->run.loop, &s->sender_io);
    return 0;
}

void serve_sender_link(struct server *s, int link)
{
    tell(s, SENDER_LINK, 0, NULL, link);
}

int serve_listen(struct server *s, const char *where)
{
    char why[256];

    s->listener = net_listen(where, s->bound, sizeof(s->bound), why, sizeof(why));
    if (s->listener >= 0)
        return serve_sender_start(s, -1);
    log_error("%s", why);
    return -1;
}

void serve_sender_fail(struct server *s, uint32_t code, const char *text)
{
    if (s->sender_over)
        return;
    s->sender_over = true;
    tell(s, SENDER_FAIL, code, text, -1);
}

/* It closes its socket when it ends: after its last words are out. */
void serve_sender_end(struct server *s, int ms)
{
    struct pollfd p = {.fd = s->sender_socket, .events = POLLIN};
    uint64_t until = monotonic_ns() + (uint64_t)ms * 1000000u, now;
    struct sender_message m;
    int fd;

    ev_io_stop(s->run.loop, &s->sender_io);
    if (!s->sender)
        return;
    /* Whatever it says now is not heard; its end is. */
    while (s->sender_over && (now = monotonic_ns()) < until &&
           poll(&p, 1, (int)((until - now) / 1000000u) + 1) > 0 && sender_recv(p.fd, &m, &fd) >= 0)
        if (fd >= 0)
            close(fd);
    end_sender(s);
    while (waitpid(s->sender, NULL, 0) < 0 && errno == EINTR)
        ;
    if (s->sender_pidfd >= 0)
        close(s->sender_pidfd);
    s->sender_pidfd = -1;
    close(s->sender_socket);
    s->sender_socket = -1;
    s->sender = 0;
}
