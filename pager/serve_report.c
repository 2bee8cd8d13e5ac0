/* The figures of `serve`, as status and --stats-file show them. Names are part of the interface:
 * xenpaging-pc(8). */
#include "serve.h"

static void number(json_t *object, const char *name, uint64_t value)
{
    json_object_set_new(object, name, json_integer((json_int_t)value));
}

void serve_details(void *data, json_t *report)
{
    const struct server *s = data;
    json_t *pages = json_object(), *link = json_object(), *hypercalls = json_object();

    number(pages, "populated", s->populated_count);
    number(pages, "set", s->order.in_set);
    number(pages, "left", s->order.left);
    number(pages, "sent", s->order.sent);
    number(pages, "pushed", s->order.sent - s->order.sent_urgent);
    number(pages, "faulted", s->order.sent_urgent);
    number(pages, "resent", s->order.resent);
    number(pages, "dropped_unsent", s->order.dropped);
    number(pages, "compared", s->compared);
    json_object_set_new(report, "pages", pages);

    json_object_set_new(link, "listen", json_string(s->bound));
    json_object_set_new(link, "peer", s->peer[0] ? json_string(s->peer) : json_null());
    number(link, "bytes", s->bytes);
    number(link, "batches", s->batches);
    number(link, "credit", s->credit);
    number(link, "credits", s->credits);
    number(link, "requests", s->requests);
    number(link, "requested", s->requested);
    number(link, "drops", s->drops);
    number(link, "refused", s->refused);
    json_object_set_new(report, "link", link);

    number(hypercalls, "scan", s->be->calls.scan);
    number(hypercalls, "map", s->be->calls.map);
    number(hypercalls, "info", s->be->calls.info);
    json_object_set_new(report, "hypercalls", hypercalls);
    number(report, "signals_refused", s->sigterm_refused);
}
