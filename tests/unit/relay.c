#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "net.h"
#include "session_run.h"
#include "wire/bytes.h"
#include "wire/wire.h"

#define LINKS  64
#define BUFFER 65536

/* One direction of a channel. */
struct pipe {
    uint8_t bytes[BUFFER];
    size_t start, end;
    uint8_t head[WIRE_HEAD_SIZE];
    uint64_t at,
        size;    /* of the frame that is passed on: how far it has come, and (if at >= 8) how long it is */
    bool looked; /* its last byte is next, and spoil() has seen to it */
    bool ended;  /* nothing more comes */
    bool closed; /* and that was passed on */
};

struct link {
    bool used, cut; /* cut in order: what comes is thrown away until both ends have closed */
    int fd[2];      /* of receive; of serve */
    struct pipe way[2];
    uint64_t stalled_until;
};

struct state {
    struct relay_shared *shared;
    struct link links[LINKS];
    int listener;
    const char *to;
    uint64_t frames, bytes; /* since the last cut */
};

static void drop(struct link *l, bool reset)
{
    const struct linger now = {.l_onoff = 1};

    for (int i = 0; i < 2; i++) {
        if (reset)
            setsockopt(l->fd[i], SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        close(l->fd[i]);
    }
    l->used = false;
}

/* Closed with bytes unread it would be a reset, and lose what was passed on. */
static void cut(struct link *l, bool reset)
{
    if (reset) {
        drop(l, true);
        return;
    }
    l->cut = true;
    for (int i = 0; i < 2; i++) {
        shutdown(l->fd[i], SHUT_WR);
        l->way[i].closed = true;
        l->way[i].start = l->way[i].end = 0;
    }
}

static bool due(const struct state *s, const struct relay_cut *c)
{
    return c->frames ? s->frames >= c->frames : s->bytes >= c->bytes;
}

/* If the time has come. */
static void act(struct state *s, struct link *here, uint32_t type)
{
    struct relay_shared *shared = s->shared;
    const struct relay_cut *c = &shared->cuts[shared->done];

    if (shared->done == shared->n_cuts || !due(s, c))
        return;
    s->frames = s->bytes = 0;
    shared->last_type = type;
    shared->done++;
    if (c->stall_ms) {
        here->stalled_until = monotonic_ns() + c->stall_ms * UINT64_C(1000000);
        return;
    }
    for (struct link *l = s->links; l < s->links + LINKS; l++)
        if (l->used && !l->cut && (!c->one || l == here))
            cut(l, c->reset);
}

/* Of the n bytes that are to be passed on next, those up to the next end of a frame or its header, or a cut.
 */
static size_t piece(const struct state *s, const struct pipe *p)
{
    const struct relay_shared *shared = s->shared;
    size_t n = p->end - p->start;
    uint64_t most = p->at < WIRE_HEAD_SIZE ? WIRE_HEAD_SIZE - p->at : p->size - p->at;

    if (most < n)
        n = most;
    if (shared->done < shared->n_cuts && !shared->cuts[shared->done].frames &&
        shared->cuts[shared->done].bytes > s->bytes && shared->cuts[shared->done].bytes - s->bytes < n)
        n = shared->cuts[shared->done].bytes - s->bytes;
    return n;
}

/* n bytes are to be passed on next: the last ones of the frame? */
static void spoil(const struct state *s, struct pipe *p, size_t n)
{
    if (p->looked || p->at < WIRE_HEAD_SIZE || p->at + n < p->size || p->head[4] != WIRE_PAGES ||
        p->size <= WIRE_PAGE_SIZE)
        return;
    p->looked = true;
    if (++s->shared->contents == s->shared->spoil_at)
        p->bytes[p->start + n - 1] ^= 1;
}

static void passed(struct state *s, struct link *l, struct pipe *p, size_t n)
{
    if (p->at < WIRE_HEAD_SIZE)
        memcpy(p->head + p->at, p->bytes + p->start, n);
    p->at += n;
    p->start += n;
    s->bytes += n;
    s->shared->bytes += n;
    if (p->at == WIRE_HEAD_SIZE)
        p->size = WIRE_HEAD_SIZE + get_u32(p->head);
    if (p->at >= WIRE_HEAD_SIZE && p->at == p->size) {
        p->at = 0;
        p->looked = false;
        s->frames++;
        s->shared->frames++;
    }
    act(s, l, p->head[4]);
}

static void write_on(struct state *s, struct link *l, int way)
{
    struct pipe *p = &l->way[way];

    while (l->used && !l->cut && !l->stalled_until && p->start < p->end) {
        size_t next = piece(s, p);
        ssize_t n;

        spoil(s, p, next);
        n = send(l->fd[1 - way], p->bytes + p->start, next, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0) {
            drop(l, false);
            return;
        }
        passed(s, l, p, (size_t)n);
    }
    if (!l->used || l->cut || p->start < p->end)
        return;
    p->start = p->end = 0;
    if (p->ended && !p->closed) {
        p->closed = true;
        shutdown(l->fd[1 - way], SHUT_WR);
    }
}

static void read_in(struct state *s, struct link *l, int way)
{
    struct pipe *p = &l->way[way];
    ssize_t n = recv(l->fd[way], p->bytes, BUFFER, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        drop(l, true);
        return;
    }
    p->ended = n == 0;
    p->start = 0;
    p->end = l->cut ? 0 : (size_t)n;
    if (!l->cut)
        write_on(s, l, way);
}

static void dial(struct state *s)
{
    int from = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC), to;
    char why[256];

    if (from < 0)
        return;
    net_tune(from);
    to = s->shared->closed ? -1 : net_dial(s->to, 5000, why, sizeof(why));
    for (struct link *l = s->links; to >= 0 && l < s->links + LINKS; l++) {
        if (l->used)
            continue;
        memset(l, 0, sizeof(*l));
        l->used = true;
        l->fd[0] = from;
        l->fd[1] = to;
        s->shared->connections++;
        return;
    }
    close(from);
    if (to >= 0)
        close(to);
}

static void run(struct state *s)
{
    for (;;) {
        struct pollfd p[1 + 2 * LINKS];
        uint64_t now = monotonic_ns();
        int ms = -1;

        p[0] = (struct pollfd){.fd = s->listener, .events = POLLIN};
        for (int i = 0; i < LINKS; i++) {
            struct link *l = &s->links[i];

            if (l->used && l->stalled_until && l->stalled_until <= now) {
                l->stalled_until = 0;
                write_on(s, l, 0);
                write_on(s, l, 1);
            }
            if (l->used && l->stalled_until)
                ms = 10;
            for (int way = 0; way < 2; way++) {
                struct pollfd *at = &p[1 + 2 * i + way];
                const struct pipe *in = &l->way[way], *out = &l->way[1 - way];

                *at = (struct pollfd){.fd = l->used && !l->stalled_until ? l->fd[way] : -1};
                if (!in->ended && in->start == in->end)
                    at->events |= POLLIN;
                if (out->start < out->end)
                    at->events |= POLLOUT;
                if (!at->events)
                    at->fd = -1;
            }
        }
        if (poll(p, 1 + 2 * LINKS, ms) < 0)
            continue;
        for (int i = 0; i < LINKS; i++) {
            struct link *l = &s->links[i];

            for (int way = 0; way < 2; way++) {
                short events = p[1 + 2 * i + way].revents;

                if (l->used && !l->stalled_until && events & POLLOUT)
                    write_on(s, l, 1 - way);
                if (l->used && !l->stalled_until && events & (POLLIN | POLLHUP | POLLERR) &&
                    l->way[way].start == l->way[way].end)
                    read_in(s, l, way);
            }
            if (l->used && l->way[0].ended && l->way[1].ended && l->way[0].closed && l->way[1].closed)
                drop(l, false);
        }
        if (p[0].revents)
            dial(s);
    }
}

void relay_init(struct relay *relay)
{
    memset(relay, 0, sizeof(*relay));
    relay->shared =
        mmap(NULL, sizeof(*relay->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(relay->shared, MAP_FAILED);
}

void relay_start(struct relay *relay, const char *to)
{
    static struct state state;
    static char there[128];
    char why[256];

    memset(&state, 0, sizeof(state));
    snprintf(there, sizeof(there), "%s", to);
    state.shared = relay->shared;
    state.to = there;
    state.listener = net_listen("127.0.0.1:0", relay->address, sizeof(relay->address), why, sizeof(why));
    assert_true(state.listener >= 0);
    relay->pid = fork();
    if (relay->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        run(&state);
    }
    close(state.listener);
}

void relay_free(struct relay *relay)
{
    if (relay->pid > 0) {
        kill(relay->pid, SIGKILL);
        waitpid(relay->pid, NULL, 0);
    }
    munmap(relay->shared, sizeof(*relay->shared));
}
