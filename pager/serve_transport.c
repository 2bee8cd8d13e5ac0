/* The second channel: TRANSPORT xenpaging-pc join, with a socket for its stdin and stdout. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "exit_status.h"
#include "join.h"
#include "log.h"
#include "serve.h"

#define GREETING_S    60. /* ssh may look up names, and the other host may be busy */
#define LAST_WORDS_MS 500
#define DELIVERY_MS   10000
#define LEFT_BEHIND_S 1.

void serve_transport_words(struct server *s, const char *text, char *reason, size_t size)
{
    char how[256];

    if (!s->transport.pid) {
        snprintf(reason, size, "%s", text);
        return;
    }
    child_last_words(&s->transport, LAST_WORDS_MS);
    child_describe(&s->transport, how, sizeof(how));
    snprintf(reason, size, "%s; the transport %s", text, how);
}

static void fail(struct server *s, const char *text)
{
    char reason[320];

    serve_transport_words(s, text, reason, sizeof(reason));
    serve_fail(s, WIRE_ERROR_INTERNAL, "%s", reason);
}

static void stop_greeting(struct server *s)
{
    ev_io_stop(s->run.loop, &s->greeting_io);
    ev_timer_stop(s->run.loop, &s->greeting_timer);
}

static void greeted(struct server *s)
{
    int fd = s->link;

    stop_greeting(s);
    s->link = -1;
    snprintf(s->bound, sizeof(s->bound), "%s", s->options->transport);
    serve_expect_hello(s, fd);
    session_run_enter(&s->run, SESSION_LISTEN, "joined");
}

/* Byte by byte: what comes behind the line is receive's. */
static void on_greeting(struct ev_loop *loop, ev_io *w, int events)
{
    struct server *s = w->data;
    size_t n = strlen(JOIN_GREETING);

    (void)loop;
    (void)events;
    for (;;) {
        ssize_t got = recv(w->fd, s->greeting + s->greeting_length, 1, MSG_DONTWAIT);

        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got <= 0) {
            fail(s, "no channel to the destination");
            return;
        }
        if (s->greeting[s->greeting_length] != JOIN_GREETING[s->greeting_length]) {
            fail(s, "what answers through the transport is no xenpaging-pc join");
            return;
        }
        if (++s->greeting_length == n) {
            greeted(s);
            return;
        }
    }
}

static void on_greeting_timeout(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    fail(w->data, "no answer through the transport within 60 s");
}

static void on_left_behind(struct ev_loop *loop, ev_timer *w, int events)
{
    struct server *s = w->data;

    (void)loop;
    (void)events;
    if (!session_final(s->run.state) && !s->delivered)
        fail(s, "the channel is lost");
}

/* Its end is the end of the connection as soon as what it has passed on is read; unless it left a process
 * behind that still holds it. */
static void on_transport_end(void *data)
{
    struct server *s = data;

    if (session_final(s->run.state) || s->delivered)
        return;
    ev_timer_start(s->run.loop, &s->transport_timer);
}

static int send_token(int fd, const uint8_t token[32])
{
    char line[66];
    ssize_t n;

    for (int i = 0; i < 32; i++)
        snprintf(line + 2 * i, 3, "%02x", token[i]);
    line[64] = '\n';
    n = send(fd, line, 65, MSG_NOSIGNAL);
    explicit_bzero(line, sizeof(line));
    return n == 65 ? 0 : -1;
}

int serve_transport_start(struct server *s)
{
    const char *argv[] = {"/bin/sh", "-c", NULL, NULL};
    char *command = NULL;
    int pair[2], rc = -1;

    if (asprintf(&command, "%s xenpaging-pc join --session %s", s->options->transport, s->run.session) < 0)
        return -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
        log_error("socketpair: %s", strerror(errno));
        free(command);
        return -1;
    }
    argv[2] = command;
    log_info("joining: %s", command);
    s->link = pair[0];
    ev_init(&s->transport_timer, on_left_behind);
    ev_timer_set(&s->transport_timer, LEFT_BEHIND_S, 0.);
    s->transport_timer.data = s;
    if (fcntl(pair[0], F_SETFL, O_NONBLOCK) == 0 && send_token(pair[0], s->options->token) == 0)
        rc = child_start(&s->transport, s->run.loop, "transport", argv, pair[1], on_transport_end, s);
    if (rc)
        log_error("the transport cannot be started");
    close(pair[1]);
    free(command);
    if (rc)
        return -1;
    ev_io_init(&s->greeting_io, on_greeting, pair[0], EV_READ);
    ev_timer_init(&s->greeting_timer, on_greeting_timeout, GREETING_S, 0.);
    s->greeting_io.data = s->greeting_timer.data = s;
    ev_io_start(s->run.loop, &s->greeting_io);
    ev_timer_start(s->run.loop, &s->greeting_timer);
    return 0;
}

void serve_transport_stop(struct server *s)
{
    stop_greeting(s);
    ev_timer_stop(s->run.loop, &s->transport_timer);
    if (s->link >= 0)
        close(s->link);
    s->link = -1;
    /* The socket is closed by now. What is under way (the acknowledgement, the reason why) still arrives. */
    child_end(&s->transport, s->delivered ? DELIVERY_MS : 4 * LAST_WORDS_MS);
}
