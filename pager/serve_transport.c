/* The channels of a session under xl: TRANSPORT xenpaging-pc join for each, with a socket for its stdin and
 * stdout. */
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

/* The one that has most to say: who has ended in disorder, or else that of the control channel. */
static struct serve_link *witness(struct server *s)
{
    for (unsigned int i = 0; i < s->n_links; i++)
        if (s->links[i].transport.ended && !child_succeeded(&s->links[i].transport))
            return &s->links[i];
    return &s->links[0];
}

void serve_transport_words(struct server *s, const char *text, char *reason, size_t size)
{
    struct serve_link *link = witness(s);
    char how[256];

    if (!link->transport.pid) {
        snprintf(reason, size, "%s", text);
        return;
    }
    child_last_words(&link->transport, LAST_WORDS_MS);
    child_describe(&link->transport, how, sizeof(how));
    snprintf(reason, size, "%s; the transport %s", text, how);
}

static void fail(struct server *s, const char *text)
{
    char reason[320];

    if (serve_pause(s, text))
        return;
    serve_transport_words(s, text, reason, sizeof(reason));
    serve_fail(s, WIRE_ERROR_INTERNAL, "%s", reason);
}

static void stop_greeting(struct serve_link *link)
{
    ev_io_stop(link->server->run.loop, &link->io);
    ev_timer_stop(link->server->run.loop, &link->timer);
}

static void all_greeted(struct server *s)
{
    snprintf(s->bound, sizeof(s->bound), "%s", s->options->transport);
    if (serve_sender_start(s, s->links[0].fd)) {
        fail(s, "the sender cannot be started");
        return;
    }
    for (unsigned int i = 0; i < s->n_links; i++) {
        if (i)
            serve_sender_link(s, s->links[i].fd);
        close(s->links[i].fd);
        s->links[i].fd = -1;
    }
    if (!s->agreed)
        session_run_enter(&s->run, SESSION_LISTEN, "joined");
}

/* Byte by byte: what comes behind the line is receive's. */
static void on_greeting(struct ev_loop *loop, ev_io *w, int events)
{
    static const char greeting[] = JOIN_GREETING;
    struct serve_link *link = w->data;
    struct server *s = link->server;

    (void)loop;
    (void)events;
    for (;;) {
        char c;
        ssize_t got = recv(w->fd, &c, 1, MSG_DONTWAIT);

        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got <= 0) {
            fail(s, "no channel to the destination");
            return;
        }
        if (c != greeting[link->greeted]) {
            fail(s, "what answers through the transport is no xenpaging-pc join");
            return;
        }
        if (greeting[++link->greeted] == '\0')
            break;
    }
    stop_greeting(link);
    if (++s->n_greeted == s->n_links)
        all_greeted(s);
}

static void on_greeting_timeout(struct ev_loop *loop, ev_timer *w, int events)
{
    struct serve_link *link = w->data;

    (void)loop;
    (void)events;
    fail(link->server, "no answer through the transport within 60 s");
}

static void on_left_behind(struct ev_loop *loop, ev_timer *w, int events)
{
    struct server *s = w->data;

    (void)loop;
    (void)events;
    if (!session_final(s->run.state) && !s->delivered && !serve_pause(s, "the channel is lost"))
        fail(s, "the channel is lost");
}

/* Its end is the end of the connection as soon as what it has passed on is read; unless it left a process
 * behind that still holds it. */
static void on_transport_end(void *data)
{
    struct serve_link *link = data;
    struct server *s = link->server;

    if (session_final(s->run.state) || s->delivered)
        return;
    if (!ev_is_active(&s->transport_timer))
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

/* The control channel's says how many there are besides. NULL: no memory. */
static char *join_command(const struct server *s, unsigned int channel)
{
    unsigned int streams = s->n_links - 1;
    char *command, which[32] = "";

    if (channel)
        snprintf(which, sizeof(which), " --channel %u", channel);
    else if (streams)
        snprintf(which, sizeof(which), " --streams %u", streams);
    if (asprintf(&command, "%s xenpaging-pc join --session %s%s", s->options->transport, s->run.session,
                 which) < 0)
        return NULL;
    return command;
}

static int start(struct server *s, unsigned int channel)
{
    struct serve_link *link = &s->links[channel];
    char *command = join_command(s, channel);
    const char *argv[] = {"/bin/sh", "-c", command, NULL};
    int pair[2], rc = -1;

    if (!command)
        return -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
        log_error("socketpair: %s", strerror(errno));
        free(command);
        return -1;
    }
    log_info("joining: %s", command);
    link->fd = pair[0];
    if (fcntl(pair[0], F_SETFL, O_NONBLOCK) == 0 && send_token(pair[0], s->options->token) == 0)
        rc = child_start(&link->transport, s->run.loop, "transport", argv, pair[1], on_transport_end, link);
    if (rc)
        log_error("the transport cannot be started");
    close(pair[1]);
    free(command);
    if (rc)
        return -1;
    ev_io_init(&link->io, on_greeting, pair[0], EV_READ);
    ev_timer_init(&link->timer, on_greeting_timeout, GREETING_S, 0.);
    link->io.data = link->timer.data = link;
    ev_io_start(s->run.loop, &link->io);
    ev_timer_start(s->run.loop, &link->timer);
    return 0;
}

int serve_transport_start(struct server *s)
{
    ev_init(&s->transport_timer, on_left_behind);
    ev_timer_set(&s->transport_timer, LEFT_BEHIND_S, 0.);
    s->transport_timer.data = s;
    s->n_links = 1 + s->options->streams;
    s->n_greeted = 0;
    for (unsigned int i = 0; i < s->n_links; i++) {
        s->links[i].server = s;
        s->links[i].fd = -1;
        s->links[i].greeted = 0;
        memset(&s->links[i].transport, 0, sizeof(s->links[i].transport));
    }
    for (unsigned int i = 0; i < s->n_links; i++)
        if (start(s, i))
            return -1;
    return 0;
}

static void stop(struct server *s, int ms)
{
    ev_timer_stop(s->run.loop, &s->transport_timer);
    for (unsigned int i = 0; i < s->n_links; i++) {
        stop_greeting(&s->links[i]);
        if (s->links[i].fd >= 0)
            close(s->links[i].fd);
        s->links[i].fd = -1;
    }
    for (unsigned int i = 0; i < s->n_links; i++)
        child_end(&s->links[i].transport, ms);
}

void serve_transport_stop(struct server *s)
{
    /* The sockets are closed by now. What is under way (the acknowledgement, the reason why) still arrives.
     */
    stop(s, s->delivered ? DELIVERY_MS : 4 * LAST_WORDS_MS);
}

void serve_transport_drop(struct server *s)
{
    stop(s, 0);
}
