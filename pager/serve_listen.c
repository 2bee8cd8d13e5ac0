/* Waiting for the receiver: strangers are refused with a reason and cannot keep it out. */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "net.h"
#include "serve.h"

static void drop(struct serve_pending *p)
{
    if (p->fd < 0)
        return;
    ev_io_stop(p->server->run.loop, &p->io);
    ev_timer_stop(p->server->run.loop, &p->timer);
    close(p->fd);
    p->fd = -1;
}

/* One attempt: the frame is small, and nobody waits for a stranger. */
static void refuse(struct server *s, int fd, const struct wire_fault *fault)
{
    uint8_t frame[WIRE_HEAD_SIZE + 8 + WIRE_TEXT_MAX];
    struct wire_fault told = *fault;

    if (told.code > WIRE_REFUSE_NOT_READY)
        told.code = WIRE_REFUSE_MALFORMED;
    s->refused++;
    log_warning("refused a connection (%s): %s", wire_code_name(told.code), told.text);
    if (send(fd, frame, wire_put_fault(frame, WIRE_REFUSE, &told), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_debug("it does not listen: %s", strerror(errno));
    net_say_goodbye(fd);
}

/* A stranger goes; a joined channel is the only one there is, and the session goes with it. */
static void turn_away(struct serve_pending *p, const struct wire_fault *fault)
{
    struct server *s = p->server;

    refuse(s, p->fd, fault);
    drop(p);
    if (s->run.session)
        serve_fail(s, WIRE_ERROR_PROTOCOL, "refused the receiver (%s): %s", wire_code_name(fault->code),
                   fault->text);
}

static void hello(struct serve_pending *p)
{
    struct server *s = p->server;
    struct wire_hello theirs, ours = {.version = WIRE_VERSION,
                                      .role = WIRE_SERVER,
                                      .page_shift = WIRE_PAGE_SHIFT,
                                      .offered = WIRE_FEATURES};
    struct wire_fault fault;
    uint64_t features;
    int fd = p->fd;

    memcpy(ours.uuid, s->run.uuid, sizeof(ours.uuid));
    memcpy(ours.token, s->options->token, sizeof(ours.token));
    if (wire_get_hello(p->reader.body, &theirs, &fault) ||
        wire_judge_hello(&theirs, &ours, &features, &fault) || serve_switch(s, &fault)) {
        turn_away(p, &fault);
        return;
    }
    p->fd = -1;
    ev_io_stop(s->run.loop, &p->io);
    ev_timer_stop(s->run.loop, &p->timer);
    serve_listen_stop(s);
    serve_accept(s, fd, &theirs, features);
}

static void on_pending(struct ev_loop *loop, ev_io *w, int events)
{
    struct serve_pending *p = w->data;
    uint8_t *where;
    size_t room = frame_reader_space(&p->reader, &where);
    ssize_t n = recv(p->fd, where, room, MSG_DONTWAIT);

    (void)loop;
    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        drop(p);
        if (p->server->run.session)
            serve_lost(p->server, "the channel ended before the receiver came");
        return;
    }
    switch (frame_reader_advance(&p->reader, (size_t)n, WIRE_IN_HELLO)) {
    case FRAME_MORE:
        break;
    case FRAME_DONE:
        if (p->reader.type == WIRE_HELLO) {
            hello(p);
            break;
        }
        wire_fault_set(&p->reader.fault, WIRE_REFUSE_MALFORMED, "%s instead of HELLO",
                       wire_type_name(p->reader.type));
        turn_away(p, &p->reader.fault);
        break;
    case FRAME_PAGES:
    case FRAME_BAD:
        turn_away(p, &p->reader.fault);
    }
}

static void on_timeout(struct ev_loop *loop, ev_timer *w, int events)
{
    struct serve_pending *p = w->data;
    struct wire_fault fault;

    (void)loop;
    (void)events;
    wire_fault_set(&fault, WIRE_REFUSE_MALFORMED, "no HELLO within %.0f s", SERVE_HELLO_S);
    refuse(p->server, p->fd, &fault);
    drop(p);
}

static void expect(struct server *s, struct serve_pending *p, int fd)
{
    p->server = s;
    p->fd = fd;
    frame_reader_init(&p->reader, WIRE_SERVER);
    ev_io_init(&p->io, on_pending, fd, EV_READ);
    ev_timer_init(&p->timer, on_timeout, SERVE_HELLO_S, 0.);
    p->io.data = p->timer.data = p;
    ev_io_start(s->run.loop, &p->io);
}

void serve_expect_hello(struct server *s, int fd)
{
    expect(s, &s->pending[0], fd);
}

static void on_connect(struct ev_loop *loop, ev_io *w, int events)
{
    struct server *s = w->data;
    int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct wire_fault fault;

    (void)events;
    if (fd < 0)
        return;
    for (int i = 0; i < SERVE_PENDING; i++) {
        struct serve_pending *p = &s->pending[i];

        if (p->fd >= 0)
            continue;
        expect(s, p, fd);
        ev_timer_start(loop, &p->timer);
        return;
    }
    wire_fault_set(&fault, WIRE_REFUSE_BUSY, "too many connections that have not said HELLO");
    refuse(s, fd, &fault);
    close(fd);
}

int serve_listen(struct server *s, const char *where)
{
    char why[256];
    int fd = net_listen(where, s->bound, sizeof(s->bound), why, sizeof(why));

    if (fd < 0) {
        log_error("%s", why);
        return -1;
    }
    ev_io_init(&s->listener, on_connect, fd, EV_READ);
    s->listener.data = s;
    ev_io_start(s->run.loop, &s->listener);
    return 0;
}

void serve_listen_stop(struct server *s)
{
    struct wire_fault fault;

    if (ev_is_active(&s->listener)) {
        ev_io_stop(s->run.loop, &s->listener);
        close(s->listener.fd);
    }
    wire_fault_set(&fault, WIRE_REFUSE_BUSY, "another receiver has this session");
    for (int i = 0; i < SERVE_PENDING; i++) {
        if (s->pending[i].fd < 0)
            continue;
        if (!s->run.session)
            refuse(s, s->pending[i].fd, &fault);
        drop(&s->pending[i]);
    }
}

static void on_readable(struct ev_loop *loop, ev_io *w, int events)
{
    (void)loop;
    (void)events;
    serve_readable(w->data);
}

static void on_writable(struct ev_loop *loop, ev_io *w, int events)
{
    (void)loop;
    (void)events;
    serve_writable(w->data);
}

void serve_accept(struct server *s, int fd, const struct wire_hello *hello, uint64_t features)
{
    struct wire_hello_ack ack = {.features = features,
                                 .populated = s->run.session ? s->set.count : s->populated_count,
                                 .nr_gfns = s->nr_gfns};
    struct sockaddr_storage addr;
    socklen_t size = sizeof(addr);
    char host[128] = "?", port[16] = "?";

    memcpy(ack.uuid, s->run.uuid, sizeof(ack.uuid));
    if (s->run.session) {
        snprintf(s->peer, sizeof(s->peer), "%s", s->options->transport);
    } else {
        net_tune(fd);
        if (getpeername(fd, (struct sockaddr *)&addr, &size) == 0)
            getnameinfo((struct sockaddr *)&addr, size, host, sizeof(host), port, sizeof(port),
                        NI_NUMERICHOST | NI_NUMERICSERV);
        snprintf(s->peer, sizeof(s->peer), "%s %s", host, port);
    }
    s->sock = fd;
    s->features = features;
    s->credit_max = hello->credit_max;
    s->state = WIRE_IN_SET;
    run_hash_init(&s->set_hash);
    frame_reader_init(&s->reader, WIRE_SERVER);
    ev_io_init(&s->reader_io, on_readable, fd, EV_READ);
    ev_io_init(&s->writer_io, on_writable, fd, EV_WRITE);
    s->reader_io.data = s->writer_io.data = s;
    /* A request that has come is looked at before the next batch is built. */
    ev_set_priority(&s->reader_io, EV_MAXPRI);
    ev_io_start(s->run.loop, &s->reader_io);
    log_info("receiver at %s", s->peer);
    session_run_enter(&s->run, SESSION_DEVICE, NULL);
    s->control_end += wire_put_hello_ack(serve_control(s, WIRE_HEAD_SIZE + WIRE_ACK_SIZE), &ack);
    serve_want_write(s);
}
