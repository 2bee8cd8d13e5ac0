/* The figures of `serve`, as status and --stats-file show them. Names are part of the interface:
 * xenpaging-pc(8). */
#include "serve.h"

#include <unistd.h>

void serve_details(void *data, json_t *report)
{
    const struct server *s = data;
    static const struct sender_figures none;
    const struct sender_figures *f = s->figures ? s->figures : &none;
    json_t *processes = json_object(), *pages = json_object(), *link = json_object(),
           *hypercalls = json_object();

    report_number(pages, "populated", s->populated_count);
    report_number(pages, "set", f->in_set);
    report_number(pages, "left", f->left);
    report_number(pages, "sent", f->sent);
    report_number(pages, "pushed", f->sent - f->sent_urgent);
    report_number(pages, "faulted", f->sent_urgent);
    report_number(pages, "resent", f->resent);
    report_number(pages, "dropped_unsent", f->dropped);
    report_number(pages, "zero", f->zeros);
    report_number(pages, "compared", f->compared);
    json_object_set_new(report, "pages", pages);
    json_object_set_new(report, "order", json_string(push_policy_name(s->options->order)));

    json_object_set_new(link, "listen", json_string(s->bound));
    json_object_set_new(link, "peer", s->peer[0] ? json_string(s->peer) : json_null());
    report_number(link, "bytes", f->bytes);
    report_number(link, "frames", f->frames);
    report_number(link, "streams", f->streams);
    report_number(link, "generation", s->generation);
    report_number(link, "recoveries", s->recoveries);
    report_number(link, "window", f->window);
    report_number(link, "page_ns", f->page_ns);
    report_number(link, "delay_ns", f->delay_ns);
    report_number(link, "credit", f->credit);
    report_number(link, "credits", f->credits);
    report_number(link, "requests", f->requests);
    report_number(link, "requested", f->requested);
    report_number(link, "drops", f->drops);
    report_number(link, "refused", f->refused);
    json_object_set_new(report, "link", link);

    report_number(processes, "serve", (uint64_t)getpid());
    report_number(processes, "sender", (uint64_t)s->sender);
    report_number(hypercalls, "scan", s->be->calls.scan);
    report_number(hypercalls, "map", f->maps);
    report_number(hypercalls, "info", s->be->calls.info);
    json_object_set_new(report, "hypercalls", hypercalls);
    json_object_set_new(report, "processes", processes);
    report_number(report, "signals_refused", s->sigterm_refused);
}
