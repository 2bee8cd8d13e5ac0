/* The figures of `receive`, as status and --stats-file show them. Names are part of the interface:
 * xenpaging-pc(8). */
#include <string.h>

#include "receive.h"
#include "wire/wire.h"

static void number(json_t *object, const char *name, uint64_t value)
{
    json_object_set_new(object, name, json_integer((json_int_t)value));
}

static json_t *microseconds(uint64_t ns)
{
    return json_real((double)ns / 1000.);
}

static json_t *page_figures(const struct receiver *r)
{
    const struct pagein *p = &r->pages;
    json_t *o = json_object();

    number(o, "populated", r->populated_count);
    number(o, "set", p->counts.set);
    number(o, "special", r->special_count);
    number(o, "refused", r->refused);
    number(o, "nominated", r->n_half);
    number(o, "outstanding", pagein_outstanding(p));
    number(o, "absent", p->absent);
    number(o, "requested", p->requested);
    number(o, "arrived", p->arrived);
    number(o, "installed", p->counts.installed);
    number(o, "pushed", p->counts.installed - p->counts.installed_faulted);
    number(o, "faulted", p->counts.installed_faulted);
    number(o, "dropped", p->counts.dropped);
    number(o, "replaced", p->counts.replaced);
    number(o, "bad", p->bad);
    return o;
}

static json_t *absent_at_unpause(const struct receiver *r)
{
    uint64_t pages = r->pages.counts.absent_at_first_fault;
    json_t *o;

    /* Known from the first fault of a guest vcpu on: Xen does not tell when a domain is unpaused. */
    if (!r->pages.counts.guest_has_faulted || !r->populated_count)
        return json_null();
    o = json_object();
    number(o, "pages", pages);
    json_object_set_new(o, "share", json_real((double)pages / (double)r->populated_count));
    return o;
}

static json_t *ring_figures(const struct receiver *r)
{
    const struct pagein_counts *c = &r->pages.counts;
    json_t *o = json_object();

    number(o, "slots", r->attached ? r->be->ops->slots(r->be) : 0);
    number(o, "requests",
           c->entries_guest + c->entries_foreign + c->entries_drop + c->entries_evict_fail +
               c->entries_alien);
    number(o, "guest", c->entries_guest);
    number(o, "foreign", c->entries_foreign);
    number(o, "drop", c->entries_drop);
    number(o, "evict_fail", c->entries_evict_fail);
    number(o, "alien", c->entries_alien);
    number(o, "unknown_gfn", c->entries_unknown_gfn);
    number(o, "waiting", r->pages.waiting);
    return o;
}

static json_t *fault_figures(const struct receiver *r)
{
    const struct latency *stalls = &r->pages.stalls;
    json_t *o = json_object(), *latency = json_object();

    number(o, "guest", r->pages.counts.guest_faults);
    number(o, "foreign", r->pages.counts.entries_foreign);
    number(o, "answered_at_once", r->pages.counts.answered_at_once);
    number(latency, "count", stalls->count);
    json_object_set_new(latency, "p50", microseconds(latency_quantile(stalls, 500)));
    json_object_set_new(latency, "p99", microseconds(latency_quantile(stalls, 990)));
    json_object_set_new(latency, "max", microseconds(stalls->max_ns));
    json_object_set_new(latency, "mean", microseconds(stalls->count ? stalls->sum_ns / stalls->count : 0));
    json_object_set_new(o, "latency_us", latency);
    return o;
}

static json_t *link_figures(const struct receiver *r)
{
    json_t *o = json_object();

    json_object_set_new(o, "connected", json_boolean(r->peer_active));
    number(o, "page_bytes", r->bytes);
    number(o, "asked", r->pages.counts.asked);
    number(o, "round_trips", r->asked_rounds);
    number(o, "asks_waiting", r->n_unsent);
    number(o, "drops_not_told", r->drops_not_told);
    number(o, "duplicates", r->pages.counts.duplicates);
    number(o, "late", r->pages.counts.late);
    number(o, "stray", r->stray_pages);
    number(o, "bad_hash", r->pages.counts.bad_hash);
    number(o, "serve_sent", r->serve_sent);
    number(o, "serve_resent", r->serve_resent);
    return o;
}

static json_t *retry_figures(const struct receiver *r)
{
    json_t *o = json_object();

    number(o, "held", r->n_held);
    number(o, "rounds", r->retries);
    number(o, "nomem", r->pages.counts.nomem);
    json_object_set_new(o, "last_error",
                        r->last_load_error ? json_string(strerror(-r->last_load_error)) : json_null());
    return o;
}

static json_t *compare_figures(const struct receiver *r)
{
    json_t *o, *gfns;

    if (!r->verifying)
        return json_null();
    o = json_object();
    gfns = json_array();
    json_object_set_new(o, "done", json_boolean(r->verified));
    number(o, "compared", r->full.compared);
    number(o, "differing_pages", r->full.differing_pages);
    number(o, "differing_bytes", r->full.differing_bytes);
    number(o, "unmapped", r->full.unmapped);
    number(o, "not_in_set", r->full.not_in_set);
    number(o, "not_in_set_differing", r->full.not_in_set_differing);
    number(o, "not_here", r->full.missing);
    for (uint64_t i = 0; i < r->full.differing_pages && i < sizeof(r->full.first_gfns) / sizeof(uint64_t);
         i++)
        json_array_append_new(gfns, json_integer((json_int_t)r->full.first_gfns[i]));
    json_object_set_new(o, "first_gfns", gfns);
    return o;
}

static json_t *guest_figures(const struct receiver *r)
{
    json_t *o = json_object();

    json_object_set_new(o, "exists", json_boolean(r->domain.exists));
    json_object_set_new(o, "dying", json_boolean(r->domain.dying));
    json_object_set_new(o, "shutdown", json_boolean(r->domain.shutdown));
    number(o, "vcpus", r->domain.vcpus);
    return o;
}

void receive_details(void *data, json_t *report)
{
    static const char *const verify[] = {"none", "hash", "full"};
    const struct receiver *r = data;
    const struct backend_calls *calls = &r->be->calls;
    json_t *hypercalls = json_object();

    number(hypercalls, "scan", calls->scan);
    number(hypercalls, "nominate", calls->nominate);
    number(hypercalls, "evict", calls->evict);
    number(hypercalls, "load", calls->load);
    number(hypercalls, "prep", calls->repair);
    number(hypercalls, "map", calls->map);
    number(hypercalls, "info", calls->info);
    json_object_set_new(report, "verify", json_string(verify[r->options->verify]));
    json_object_set_new(report, "pages", page_figures(r));
    json_object_set_new(report, "absent_at_unpause", absent_at_unpause(r));
    json_object_set_new(report, "ring", ring_figures(r));
    json_object_set_new(report, "faults", fault_figures(r));
    json_object_set_new(report, "link", link_figures(r));
    json_object_set_new(report, "retry", retry_figures(r));
    json_object_set_new(report, "hypercalls", hypercalls);
    json_object_set_new(report, "compare", compare_figures(r));
    json_object_set_new(report, "guest", guest_figures(r));
    number(report, "signals_refused", r->sigterm_refused);
}
