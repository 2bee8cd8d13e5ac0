/*
 * A session whose channels are lost: paused, until there are others. By hand the listener stays, and the
 * receiver dials again; under xl the transports are started again, with a back-off. The sender of the lost
 * channels is gone, and with it all it knew of what has arrived: the receiver says that.
 */
#include "serve.h"

#include "log.h"

#define PATIENCE_S  30.
#define AGAIN_S_MIN .1
#define AGAIN_S_MAX 10.

/*
 * Under xl it is known that the guest runs at the destination when a vcpu has asked for something, or its
 * receiver has come back, which it does only after its commit. As long as it is not, the receiver may have
 * given the guest up: nobody may come back, and only the administrator can know (serve_advice()).
 */
static bool runs_there(const struct server *s)
{
    return !s->run.session || s->known_there || s->figures->waited;
}

static void on_patience(struct ev_loop *loop, ev_timer *w, int events)
{
    struct server *s = w->data;

    (void)loop;
    (void)events;
    if (session_final(s->run.state) || s->run.state != SESSION_PAUSED || runs_there(s))
        return;
    s->given_over = true;
    serve_recover_stop(s);
    serve_lost(s, "nobody has come back");
}

static bool can_go_on(const struct server *s)
{
    return s->agreed && !s->given_over && !session_run_undecided(&s->run) && !s->given_up &&
           !s->acknowledging && !s->delivered && !s->destroying && !session_final(s->run.state);
}

/* Channels for a sender: a listener, or transports that are on their way. */
static int open_again(struct server *s)
{
    return s->run.session ? serve_transport_start(s) : serve_sender_start(s, -1);
}

static void on_again(struct ev_loop *loop, ev_timer *w, int events)
{
    struct server *s = w->data;

    (void)loop;
    (void)events;
    if (!can_go_on(s) || s->run.state != SESSION_PAUSED)
        return;
    if (open_again(s))
        serve_pause(s, "no channel can be opened");
}

void serve_recover_init(struct server *s)
{
    double patience_s = s->options->patience_s > 0 ? s->options->patience_s : PATIENCE_S;

    ev_timer_init(&s->again, on_again, 0., 0.);
    ev_timer_init(&s->patience, on_patience, patience_s, 0.);
    s->again.data = s->patience.data = s;
}

void serve_recover_stop(struct server *s)
{
    ev_timer_stop(s->run.loop, &s->again);
    ev_timer_stop(s->run.loop, &s->patience);
}

static void try_in(struct server *s, double seconds)
{
    ev_timer_stop(s->run.loop, &s->again);
    ev_timer_set(&s->again, seconds, 0.);
    ev_timer_start(s->run.loop, &s->again);
}

bool serve_pause(struct server *s, const char *text)
{
    bool waits = !s->run.session && s->run.state != SESSION_PAUSED;

    if (!can_go_on(s))
        return false;
    serve_sender_end(s, 0);
    serve_transport_drop(s);
    if (s->run.state != SESSION_PAUSED)
        session_run_enter(&s->run, SESSION_PAUSED, text);
    else
        log_warning("%s", text);
    if (!runs_there(s) && !ev_is_active(&s->patience))
        ev_timer_start(s->run.loop, &s->patience);
    s->again_s = s->again_s == 0 ? AGAIN_S_MIN : 2 * s->again_s < AGAIN_S_MAX ? 2 * s->again_s : AGAIN_S_MAX;
    /* Who waits for somebody to come needs no back-off, unless it ends before anybody does. */
    try_in(s, waits ? 0. : s->again_s);
    return true;
}

const char *serve_abandon(struct server *s)
{
    if (s->run.state != SESSION_PAUSED && s->run.state != SESSION_RECOVER)
        return "the session is not paused: to give up the guest, destroy it at the destination";
    s->again_s = 0;
    serve_recover_stop(s);
    s->given_over = true;
    serve_fail(s, WIRE_ERROR_GIVEN_UP, "abandoned by the administrator");
    return NULL;
}

const char *serve_recover(struct server *s)
{
    if (s->run.state != SESSION_PAUSED)
        return "the session is not paused";
    /* It listens, or the transports are on their way. */
    if (!ev_is_active(&s->again))
        return NULL;
    try_in(s, 0.);
    return NULL;
}
