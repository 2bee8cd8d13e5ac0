/* The figures of `serve`, as status and --stats-file show them. Names are part of the interface:
 * xenpaging-pc(8). */
#include "serve.h"

void serve_details(void *data, json_t *report)
{
    const struct server *s = data;
    json_t *pages = json_object(), *link = json_object(), *hypercalls = json_object();

    report_number(pages, "populated", s->populated_count);
    report_number(pages, "set", s->order.in_set);
    report_number(pages, "left", s->order.left);
    report_number(pages, "sent", s->order.sent);
    report_number(pages, "pushed", s->order.sent - s->order.sent_urgent - s->order.sent_hinted);
    report_number(pages, "faulted", s->order.sent_urgent + s->order.sent_hinted);
    report_number(pages, "resent", s->order.resent);
    report_number(pages, "dropped_unsent", s->order.dropped);
    report_number(pages, "compared", s->compared);
    json_object_set_new(report, "pages", pages);
    json_object_set_new(report, "order", json_string(push_policy_name(s->options->order)));

    json_object_set_new(link, "listen", json_string(s->bound));
    json_object_set_new(link, "peer", s->peer[0] ? json_string(s->peer) : json_null());
    report_number(link, "bytes", s->bytes);
    report_number(link, "batches", s->batches);
    report_number(link, "credit", s->credit);
    report_number(link, "credits", s->credits);
    report_number(link, "requests", s->requests);
    report_number(link, "requested", s->requested);
    report_number(link, "drops", s->drops);
    report_number(link, "refused", s->refused);
    json_object_set_new(report, "link", link);

    report_number(hypercalls, "scan", s->be->calls.scan);
    report_number(hypercalls, "map", s->be->calls.map);
    report_number(hypercalls, "info", s->be->calls.info);
    json_object_set_new(report, "hypercalls", hypercalls);
    report_number(report, "signals_refused", s->sigterm_refused);
}
