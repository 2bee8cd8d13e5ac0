/* Can this host, and a domain on it, be paged? Asks only questions that change nothing. */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <xenctrl.h>
#include <xenforeignmemory.h>
#include <xenstore.h>
#include <xen/hvm/params.h>
#include <xen/vm_event.h>

#include "commands.h"
#include "exit_status.h"
#include "xen_domain.h"
#include "xen_paging_ops.h"

static const char help[] =
    "Usage: xenpaging-pc probe [--json] [DOMAIN]\n\n"
    "Says whether this host (and DOMAIN, by name or number) can be paged, and what of the paging interface "
    "there is:\n"
    "much of it Xen tells only of a domain, and some (\"?\") only while a pager is attached to it.\n"
    "Changes nothing. Exit status: 0 yes, 4 no (with the reason), 1 Xen cannot be asked.\n";

struct probe {
    xc_interface *xch;
    struct xs_handle *xsh;
    json_t *report;
    json_t *reasons;
};

static void against(struct probe *p, const char *reason)
{
    json_array_append_new(p->reasons, json_string(reason));
}

/*
 * Without MEM_PAGING the memory operation does not exist (-ENOSYS, arch/x86/mm.c); with it, Xen looks for the
 * domain first
 * (-ESRCH, arch/x86/mm/mem_paging.c: mem_paging_memop).
 */
static bool mem_paging(struct probe *p)
{
    return xc_mem_paging_nominate(p->xch, DOMID_INVALID, 0) && errno == ESRCH;
}

static int probe_host(struct probe *p)
{
    struct backend_domain dom0;
    xen_extraversion_t extra = "";
    xc_physinfo_t phys;
    int version = xc_version(p->xch, XENVER_version, NULL);
    json_t *ring = json_object();
    bool hap, compiled;

    if (version < 0 || xc_physinfo(p->xch, &phys) || xen_domain_info(p->xch, 0, &dom0) || !dom0.exists)
        return -1;
    xc_version(p->xch, XENVER_extraversion, &extra);
    extra[sizeof(extra) - 1] = '\0';
    hap = phys.capabilities & XEN_SYSCTL_PHYSCAP_hap;
    compiled = mem_paging(p);
    json_object_set_new(p->report, "xen", json_sprintf("%d.%d%s", version >> 16, version & 0xffff, extra));
    json_object_set_new(p->report, "mem_paging", json_boolean(compiled));
    json_object_set_new(p->report, "hap", json_boolean(hap));
    json_object_set_new(p->report, "dom0", json_string(dom0.hvm ? "pvh" : "pv"));
    json_object_set_new(p->report, "vm_event_version", json_integer(VM_EVENT_INTERFACE_VERSION));
    json_object_set_new(ring, "pages", json_integer(1));
    json_object_set_new(ring, "slots", json_integer((json_int_t)__CONST_RING_SIZE(vm_event, XC_PAGE_SIZE)));
    json_object_set_new(p->report, "ring", ring);
    if (!compiled)
        against(p, "this Xen was built without CONFIG_MEM_PAGING");
    if (!hap)
        against(p, "this host has no hardware assisted paging (HAP)");
    if (dom0.hvm)
        against(p, "dom0 is not PV: Xen refuses pagers in a PVH dom0");
    return 0;
}

static bool has_pci(struct probe *p, uint32_t domid)
{
    char path[64];
    unsigned int n = 0;
    char **list;

    snprintf(path, sizeof(path), "/local/domain/0/backend/pci/%u", domid);
    list = xs_directory(p->xsh, XBT_NULL, path, &n);
    free(list);
    return n > 0;
}

/* The frames that a ring of this domain may have as a resource; 0: Xen has no such resource. */
static size_t ring_frames(uint32_t domid)
{
    xenforeignmemory_handle *fmem = xenforeignmemory_open(NULL, 0);
    size_t bytes = 0;

    if (fmem &&
        xenforeignmemory_resource_size(fmem, (domid_t)domid, PAGING_RING_RESOURCE, PAGING_RING_ID, &bytes))
        bytes = 0;
    if (fmem)
        xenforeignmemory_close(fmem);
    return bytes / XC_PAGE_SIZE;
}

/* Null: Xen looks whether there is a ring before it looks what is wanted. */
static json_t *tried(int rc)
{
    return rc == -ENODEV ? json_null() : json_boolean(rc == 0);
}

/* What receive would find (its "features"), by the same operations, on nothing. */
static json_t *probe_features(uint32_t domid)
{
    json_t *o = json_object();
    struct paging_ring_stats stats;
    struct paging_ops ops;
    size_t frames = ring_frames(domid);
    int rc = paging_ops_open(&ops, domid, 1), known;

    json_object_set_new(o, "mark", tried(rc ? -ENODEV : paging_ops_try_mark(&ops)));
    json_object_set_new(o, "prep", tried(rc ? -ENODEV : paging_ops_try_prep(&ops)));
    json_object_set_new(o, "ring", json_boolean(frames));
    json_object_set_new(o, "ring_pages", json_integer((json_int_t)(frames ? frames : 1)));
    /* Ranges came with attaching to a resource, and so did this. -ENODEV: known, but there is no ring. */
    known = rc ? rc : paging_ops_stats(&ops, &stats);
    json_object_set_new(o, "range", json_boolean(frames && (known == 0 || known == -ENODEV)));
    json_object_set_new(o, "superpages", tried(rc ? -ENODEV : paging_ops_try_collapse(&ops)));
    paging_ops_close(&ops);
    return o;
}

static int probe_domain(struct probe *p, const char *name, bool host_has_paging)
{
    struct backend_domain info;
    uint64_t tot = 0, cache = 0, entries = 0, ring_gfn = 0;
    json_t *o = json_object();
    uint32_t domid;
    bool pager = false, pod, pci;

    json_object_set_new(p->report, "domain", o);
    json_object_set_new(o, "name", json_string(name));
    if (xen_domain_find(p->xsh, name, &domid) || xen_domain_info(p->xch, domid, &info) || !info.exists) {
        json_object_set_new(o, "exists", json_false());
        against(p, "there is no such domain; see xl list");
        return 0;
    }
    /* The operation is refused on a gfn that cannot exist; before that, Xen looks for a ring (-ENODEV). */
    if (host_has_paging && xc_mem_paging_nominate(p->xch, domid, ~UINT64_C(0) >> 12) && errno != ENODEV)
        pager = true;
    pod = xc_domain_get_pod_target(p->xch, domid, &tot, &cache, &entries) == 0 && entries;
    pci = has_pci(p, domid);
    if (info.hvm && xc_hvm_param_get(p->xch, domid, HVM_PARAM_PAGING_RING_PFN, &ring_gfn))
        ring_gfn = 0;
    json_object_set_new(o, "exists", json_true());
    json_object_set_new(o, "domid", json_integer(domid));
    json_object_set_new(o, "hvm", json_boolean(info.hvm));
    json_object_set_new(o, "hap", json_boolean(info.hap));
    json_object_set_new(o, "populate_on_demand", json_boolean(pod));
    json_object_set_new(o, "pci", json_boolean(pci));
    json_object_set_new(o, "pager", json_boolean(pager));
    json_object_set_new(o, "ring_gfn", json_integer((json_int_t)ring_gfn));
    json_object_set_new(o, "pages", json_integer((json_int_t)info.pages));
    json_object_set_new(o, "paged_pages", json_integer((json_int_t)info.paged_pages));
    json_object_set_new(o, "paused", json_boolean(info.paused));
    if (info.hvm && host_has_paging)
        json_object_set_new(p->report, "features", probe_features(domid));
    if (!info.hvm)
        against(p, "the domain is PV: only HVM and PVH guests can be paged");
    else if (!info.hap)
        against(p, "the domain does not use HAP");
    if (info.hvm && !ring_gfn)
        against(p, "the domain has no gfn for a paging ring");
    if (pod)
        against(p, "the domain is populated on demand (memory < maxmem)");
    if (pci)
        against(p, "the domain has PCI devices (IOMMU)");
    if (pager)
        against(p, "a pager is attached to the domain");
    return 0;
}

static void print_value(const char *key, const json_t *value)
{
    if (json_is_boolean(value))
        printf(" %s=%s", key, json_is_true(value) ? "yes" : "no");
    else if (json_is_integer(value))
        printf(" %s=%lld", key, (long long)json_integer_value(value));
    else if (json_is_null(value))
        printf(" %s=?", key);
    else
        printf(" %s=%s", key, json_string_value(value));
}

static void print_object(const json_t *report, const char *name)
{
    json_t *o = json_object_get(report, name);

    if (!o)
        return;
    printf("%s:", name);
    for (void *at = json_object_iter(o); at; at = json_object_iter_next(o, at))
        print_value(json_object_iter_key(at), json_object_iter_value(at));
    printf("\n");
}

static void print_text(const json_t *report)
{
    const json_t *reasons = json_object_get(report, "reasons");

    printf("Xen %s: MEM_PAGING %s, HAP %s, dom0 %s, ring of %lld page (%lld slots)\n",
           json_string_value(json_object_get(report, "xen")),
           json_is_true(json_object_get(report, "mem_paging")) ? "yes" : "no",
           json_is_true(json_object_get(report, "hap")) ? "yes" : "no",
           json_string_value(json_object_get(report, "dom0")),
           (long long)json_integer_value(json_object_get(json_object_get(report, "ring"), "pages")),
           (long long)json_integer_value(json_object_get(json_object_get(report, "ring"), "slots")));
    print_object(report, "domain");
    print_object(report, "features");
    for (size_t i = 0; i < json_array_size(reasons); i++)
        printf("no: %s\n", json_string_value(json_array_get(reasons, i)));
    if (json_array_size(reasons) == 0)
        printf("yes: can be paged\n");
}

static int probe(const char *domain, bool as_json)
{
    struct probe p = {.report = json_object(), .reasons = json_array()};
    int rc = EXIT_FAILED;

    p.xch = xc_interface_open(NULL, NULL, 0);
    p.xsh = xs_open(0);
    json_object_set_new(p.report, "reasons", p.reasons);
    if (!p.xch || !p.xsh || probe_host(&p)) {
        fprintf(stderr, "xenpaging-pc probe: Xen cannot be asked: %s; run as root in dom0 of a Xen host\n",
                strerror(errno));
        goto out;
    }
    if (domain)
        probe_domain(&p, domain, json_is_true(json_object_get(p.report, "mem_paging")));
    json_object_set_new(p.report, "can_page", json_boolean(json_array_size(p.reasons) == 0));
    if (as_json) {
        json_dumpf(p.report, stdout, JSON_INDENT(2));
        printf("\n");
    } else {
        print_text(p.report);
    }
    rc = json_array_size(p.reasons) ? EXIT_UNFIT : EXIT_DONE;
out:
    json_decref(p.report);
    if (p.xsh)
        xs_close(p.xsh);
    if (p.xch)
        xc_interface_close(p.xch);
    return rc;
}

int cmd_probe(int argc, char **argv)
{
    static const struct option table[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    bool as_json = false;
    int option;

    while ((option = getopt_long(argc, argv, "h", table, NULL)) != -1) {
        switch (option) {
        case 'j':
            as_json = true;
            break;
        case 'h':
            printf("%s", help);
            return EXIT_DONE;
        default:
            return EXIT_USAGE;
        }
    }
    if (argc - optind > 1) {
        fprintf(stderr, "xenpaging-pc probe: one domain at most; xenpaging-pc probe --help\n");
        return EXIT_USAGE;
    }
    return probe(argc > optind ? argv[optind] : NULL, as_json);
}
