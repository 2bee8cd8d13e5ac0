/* The ends that are not COMPLETE. */
#include <stdarg.h>
#include <stdio.h>

#include "exit_status.h"
#include "log.h"
#include "serve.h"

/* Once the set is acknowledged the guest may run at the destination: from then on an end without COMPLETE
 * loses pages. */
static bool may_run_there(const struct server *s)
{
    if (s->run.session)
        return s->run.committed && !s->aborted;
    return s->agreed;
}

const char *serve_advice(const struct server *s)
{
    static char text[320];

    if (!s->run.session || !s->run.committed || s->aborted)
        return "";
    snprintf(
        text, sizeof(text),
        ". Only if neither %s nor %s--incoming exists at the destination (any more): `xl postcopy-resume "
        "-f %u' gets it back here",
        s->run.domain, s->run.domain, s->be->domid);
    return text;
}

void serve_failed(struct server *s, const char *text)
{
    if (s->given_up && !s->aborted)
        session_run_end(&s->run, SESSION_FAILED, EXIT_FAILED,
                        "%s. The destination has given up the guest before it ran, but has not said that its "
                        "copy is destroyed. Domain %u here is intact, and does not go on by itself%s",
                        text, s->be->domid, serve_advice(s));
    else if (may_run_there(s))
        session_run_end(&s->run, SESSION_FAILED, EXIT_MISSING,
                        "%s. The guest may run at the destination without %llu pages: do not unpause or "
                        "destroy domain %u "
                        "here, it keeps them%s",
                        text, (unsigned long long)s->figures->left, s->be->domid, serve_advice(s));
    else
        session_run_end(&s->run, SESSION_FAILED, EXIT_FAILED, "%s. Domain %u here is intact", text,
                        s->be->domid);
}

void serve_fail(struct server *s, uint32_t code, const char *fmt, ...)
{
    char text[WIRE_TEXT_MAX + 1];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    serve_sender_fail(s, code, text);
    serve_failed(s, text);
}

void serve_lost(struct server *s, const char *text)
{
    char words[320], reason[384];

    if (s->acknowledging) {
        /* It has every page, and may not have waited for the acknowledgement. */
        serve_delivered(s);
        return;
    }
    if (serve_pause(s, text))
        return;
    serve_transport_words(s, text, words, sizeof(words));
    snprintf(reason, sizeof(reason), "connection lost without COMPLETE: %s", words);
    serve_failed(s, reason);
}

void serve_domain_event(struct server *s)
{
    struct backend_domain now;

    if (session_final(s->run.state) || s->be->ops->info(s->be, &now))
        return;
    if ((now.exists && !now.dying) || s->destroying)
        return;
    s->our_pause = false;
    serve_fail(s, WIRE_ERROR_SOURCE_GONE, "domain %u is gone at the source", s->be->domid);
}
