/* The figures of `receive`, as status and --stats-file show them. Names are part of the interface:
 * xenpaging-pc(8). */
#include <string.h>
#include <unistd.h>

#include "receive.h"
#include "wire/wire.h"

static json_t *microseconds(uint64_t ns)
{
    return json_real((double)ns / 1000.);
}

static json_t *page_figures(const struct receiver *r)
{
    const struct pagein *p = &r->pages;
    json_t *o = json_object();

    report_number(o, "populated", r->populated_count);
    report_number(o, "set", p->counts.set);
    report_number(o, "marked_early", r->early.pages);
    report_number(o, "marked_late", p->counts.set > r->early.pages ? p->counts.set - r->early.pages : 0);
    report_number(o, "unmarked", r->early.unmarked);
    report_number(o, "special", r->special_count);
    report_number(o, "refused", r->refused);
    report_number(o, "nominated", r->journal->n_half);
    report_number(o, "populated_here", r->be->populated_to_evict);
    report_number(o, "claimed", r->claimed);
    report_number(o, "outstanding", pagein_outstanding(p));
    report_number(o, "absent", p->absent);
    report_number(o, "requested", p->requested);
    report_number(o, "arrived", p->arrived);
    report_number(o, "installed", p->counts.installed);
    report_number(o, "pushed", p->counts.installed - p->counts.installed_faulted);
    report_number(o, "faulted", p->counts.installed_faulted);
    report_number(o, "dropped", p->counts.dropped);
    report_number(o, "replaced", p->counts.replaced);
    report_number(o, "bad", p->bad);
    return o;
}

static json_t *marking_figures(const struct receiver *r)
{
    json_t *o = json_object();

    json_object_set_new(o, "early", microseconds(r->early.ns));
    json_object_set_new(o, "late", microseconds(r->late_ns));
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
    report_number(o, "pages", pages);
    json_object_set_new(o, "share", json_real((double)pages / (double)r->populated_count));
    return o;
}

static json_t *feature_figures(const struct receiver *r)
{
    const struct paging_features *f = &r->be->features;
    json_t *o = json_object();

    for (unsigned int i = 0; i < FEATURES; i++)
        json_object_set_new(o, feature_names[i], json_boolean(f->set >> i & 1));
    report_number(o, "ring_pages", f->ring_pages);
    report_number(o, "range_foreign", f->range_foreign);
    report_number(o, "range_guest", f->range_guest);
    report_number(o, "widen", r->options->widen);
    return o;
}

static json_t *super_figures(const struct receiver *r)
{
    json_t *o = json_object();

    report_number(o, "prep", r->supers.prep);
    report_number(o, "prep_refused", r->supers.prep_refused);
    report_number(o, "collapse", r->supers.collapse);
    report_number(o, "collapse_refused", r->supers.collapse_refused);
    report_number(o, "collapse_skipped", r->supers.collapse_skipped);
    report_number(o, "collapse_us", r->supers.collapse_ns / 1000);
    json_object_set_new(o, "collapsing", json_boolean(r->collapse.running));
    return o;
}

/* As Xen has counted; null where it does not. */
static json_t *xen_ring_figures(const struct receiver *r)
{
    struct backend_ring_stats stats = r->ring_stats;
    json_t *o;

    if (!(r->be->features.set & FEATURE_RING))
        return json_null();
    if (r->attached)
        r->be->ops->ring_stats(r->be, &stats);
    o = json_object();
    report_number(o, "requests", stats.requests);
    report_number(o, "waits_guest", stats.waits_guest);
    report_number(o, "waits_foreign", stats.waits_foreign);
    report_number(o, "high_water", stats.high_water);
    return o;
}

static json_t *ring_figures(const struct receiver *r)
{
    const struct pagein_counts *c = &r->pages.counts;
    json_t *o = json_object();

    report_number(o, "slots", r->attached ? r->be->ops->slots(r->be) : 0);
    report_number(o, "requests",
                  c->entries_guest + c->entries_foreign + c->entries_drop + c->entries_evict_fail +
                      c->entries_alien);
    report_number(o, "guest", c->entries_guest);
    report_number(o, "foreign", c->entries_foreign);
    report_number(o, "drop", c->entries_drop);
    report_number(o, "evict_fail", c->entries_evict_fail);
    report_number(o, "alien", c->entries_alien);
    report_number(o, "range", c->entries_range);
    report_number(o, "unknown_gfn", c->entries_unknown_gfn);
    report_number(o, "waiting", r->pages.waiting);
    json_object_set_new(o, "xen", xen_ring_figures(r));
    return o;
}

static json_t *histogram(const struct latency *latency)
{
    json_t *classes = json_array();

    for (unsigned int i = 0; i < LATENCY_CLASSES; i++) {
        uint64_t last_ns, samples = latency_class(latency, i, &last_ns);

        if (samples)
            json_array_append_new(classes, json_pack("[o, I]", microseconds(last_ns), (json_int_t)samples));
    }
    return classes;
}

static json_t *fault_figures(const struct receiver *r)
{
    const struct latency *stalls = &r->pages.stalls;
    json_t *o = json_object(), *latency = json_object();

    report_number(o, "guest", r->pages.counts.guest_faults);
    report_number(o, "foreign", r->pages.counts.entries_foreign);
    report_number(o, "answered_at_once", r->pages.counts.answered_at_once);
    report_number(latency, "count", stalls->count);
    json_object_set_new(latency, "p50", microseconds(latency_quantile(stalls, 500)));
    json_object_set_new(latency, "p99", microseconds(latency_quantile(stalls, 990)));
    json_object_set_new(latency, "max", microseconds(stalls->max_ns));
    json_object_set_new(latency, "mean", microseconds(stalls->count ? stalls->sum_ns / stalls->count : 0));
    json_object_set_new(latency, "histogram", histogram(stalls));
    json_object_set_new(o, "latency_us", latency);
    return o;
}

static json_t *link_figures(const struct receiver *r)
{
    json_t *o = json_object();

    json_object_set_new(o, "connected", json_boolean(r->peer_active));
    report_number(o, "page_bytes", r->bytes);
    report_number(o, "generation", r->journal->generation);
    report_number(o, "recoveries", r->recover.times);
    report_number(o, "asked", r->pages.counts.asked);
    report_number(o, "asked_with_others", r->pages.counts.asked_with_others);
    report_number(o, "promoted", r->pages.counts.promoted);
    report_number(o, "round_trips", r->asked_rounds);
    report_number(o, "asks_waiting", r->n_unsent);
    report_number(o, "zeros", r->zeros);
    report_number(o, "drops_not_told", r->drops_not_told);
    report_number(o, "duplicates", r->pages.counts.duplicates);
    report_number(o, "late", r->pages.counts.late);
    report_number(o, "stray", r->stray_pages);
    report_number(o, "bad_hash", r->pages.counts.bad_hash);
    report_number(o, "serve_sent", r->serve_sent);
    report_number(o, "serve_resent", r->serve_resent);
    return o;
}

static json_t *retry_figures(const struct receiver *r)
{
    json_t *o = json_object();

    report_number(o, "held", r->n_held + r->n_zeros_held);
    report_number(o, "rounds", r->retries);
    report_number(o, "nomem", r->pages.counts.nomem);
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
    report_number(o, "compared", r->full.compared);
    report_number(o, "differing_pages", r->full.differing_pages);
    report_number(o, "differing_bytes", r->full.differing_bytes);
    report_number(o, "unmapped", r->full.unmapped);
    report_number(o, "not_in_set", r->full.not_in_set);
    report_number(o, "not_in_set_differing", r->full.not_in_set_differing);
    report_number(o, "not_here", r->full.missing);
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
    report_number(o, "vcpus", r->domain.vcpus);
    return o;
}

static json_t *process_figures(const struct receiver *r)
{
    json_t *o = json_object();

    report_number(o, "keeper", (uint64_t)r->journal->keeper);
    report_number(o, "pager", (uint64_t)getpid());
    report_number(o, "feeder", (uint64_t)r->journal->feeder);
    report_number(o, "pagers_died", r->journal->deaths);
    return o;
}

static json_t *trace_figures(const struct receiver *r)
{
    json_t *o;

    if (!r->options->trace)
        return json_null();
    o = json_object();
    json_object_set_new(o, "file", json_string(r->options->trace));
    report_number(o, "events", r->trace.file.events);
    report_number(o, "lost", r->trace.file.lost);
    return o;
}

void receive_details(void *data, json_t *report)
{
    static const char *const verify[] = {"none", "hash", "full"};
    const struct receiver *r = data;
    const struct backend_calls *calls = &r->be->calls;
    json_t *hypercalls = json_object();

    report_number(hypercalls, "scan", calls->scan);
    report_number(hypercalls, "populate", calls->populate);
    report_number(hypercalls, "release", calls->release);
    report_number(hypercalls, "nominate", calls->nominate);
    report_number(hypercalls, "evict", calls->evict);
    report_number(hypercalls, "load", calls->load);
    report_number(hypercalls, "prep", calls->repair);
    report_number(hypercalls, "mark", calls->mark_batch);
    report_number(hypercalls, "prep_batch", calls->load_batch);
    report_number(hypercalls, "collapse", calls->collapse);
    report_number(hypercalls, "map", calls->map);
    report_number(hypercalls, "info", calls->info);
    json_object_set_new(report, "verify", json_string(verify[r->options->verify]));
    json_object_set_new(report, "features", feature_figures(r));
    json_object_set_new(report, "pages", page_figures(r));
    json_object_set_new(report, "marking_us", marking_figures(r));
    json_object_set_new(report, "superpages", super_figures(r));
    json_object_set_new(report, "absent_at_unpause", absent_at_unpause(r));
    json_object_set_new(report, "ring", ring_figures(r));
    json_object_set_new(report, "faults", fault_figures(r));
    json_object_set_new(report, "link", link_figures(r));
    json_object_set_new(report, "retry", retry_figures(r));
    json_object_set_new(report, "hypercalls", hypercalls);
    json_object_set_new(report, "compare", compare_figures(r));
    json_object_set_new(report, "guest", guest_figures(r));
    json_object_set_new(report, "processes", process_figures(r));
    json_object_set_new(report, "trace", trace_figures(r));
    report_number(report, "signals_refused", r->sigterm_refused);
}
