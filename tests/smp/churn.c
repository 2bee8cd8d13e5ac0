/*
 * Changes a running guest's p2m from dom0, in one of several ways, so that the change meets the guest in
 * guest mode on another CPU:
 *   churn DOMID none SECONDS          does nothing (the control)
 *   churn DOMID dirty SECONDS         turns log-dirty mode on and off
 *   churn DOMID paging SECONDS OUT    pages gfns out at random, never more than OUT at once, and in, on
 *                                     demand and at random, without an end
 * Prints a line a second, then "churn: end ..." with the domain's state. Exit status 0 if it lives, else 1.
 */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define XC_WANT_COMPAT_MAP_FOREIGN_API
#include <xenctrl.h>
#include <xenevtchn.h>
#include <xen/vm_event.h>

enum { PAGE = XC_PAGE_SIZE };

static xc_interface *xch;
static uint32_t dom;
static unsigned long evicted, fetched, busy, toggles;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fatal(const char *what)
{
    printf("churn: FATAL %s: %s\n", what, strerror(errno));
    exit(2);
}

/* 1 while the domain runs; prints why when it does not. */
static int alive(void)
{
    xc_dominfo_t info;

    if (xc_domain_getinfo(xch, dom, 1, &info) != 1 || info.domid != dom) {
        printf("churn: the domain is gone\n");
        return 0;
    }
    if (info.shutdown || info.crashed || info.dying) {
        printf("churn: the domain is down: shutdown %u reason %u crashed %u\n", info.shutdown,
               info.shutdown_reason, info.crashed);
        return 0;
    }
    return 1;
}

/* Once a second: a line, and whether to go on. */
static int go_on(double end)
{
    static double last;
    double t = now();

    if (t - last < 1)
        return 1;
    last = t;
    printf("churn: evicted %lu fetched %lu busy %lu toggles %lu\n", evicted, fetched, busy, toggles);
    fflush(stdout);
    return t < end && alive();
}

static void dirty(double end)
{
    while (go_on(end)) {
        if (xc_shadow_control(xch, dom, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, NULL, 0) < 0)
            fatal("log-dirty on");
        if (xc_shadow_control(xch, dom, XEN_DOMCTL_SHADOW_OP_OFF, NULL, 0) < 0)
            fatal("log-dirty off");
        toggles++;
    }
}

struct pager {
    vm_event_back_ring_t ring;
    xenevtchn_handle *xce;
    evtchn_port_t port;
    unsigned char **page;         /* contents of the gfns that are out, else NULL */
    unsigned long gfns, ram, out; /* gfns: size of the gfn space; ram: gfns worth paging out */
    unsigned char *buffer;
};

static void pager_open(struct pager *p)
{
    xc_dominfo_t info;
    unsigned long gfn;
    uint32_t port;
    xen_pfn_t pfn;
    void *ring;
    int rc;

    if (xc_get_hvm_param(xch, dom, HVM_PARAM_PAGING_RING_PFN, &gfn))
        fatal("ring gfn");
    pfn = gfn;
    ring = xc_map_foreign_pages(xch, dom, PROT_READ | PROT_WRITE, &pfn, 1);
    if (!ring) {
        if (xc_domain_populate_physmap_exact(xch, dom, 1, 0, 0, &pfn))
            fatal("populate ring");
        ring = xc_map_foreign_pages(xch, dom, PROT_READ | PROT_WRITE, &pfn, 1);
    }
    if (!ring)
        fatal("map ring");
    if (xc_mem_paging_enable(xch, dom, &port))
        fatal("paging enable");
    p->xce = xenevtchn_open(NULL, 0);
    if (!p->xce || (rc = xenevtchn_bind_interdomain(p->xce, dom, port)) < 0)
        fatal("event channel");
    p->port = (evtchn_port_t)rc;
    SHARED_RING_INIT((vm_event_sring_t *)ring);
    BACK_RING_INIT(&p->ring, (vm_event_sring_t *)ring, PAGE);
    if (xc_domain_decrease_reservation_exact(xch, dom, 1, 0, &pfn))
        fatal("remove ring");
    if (xc_domain_maximum_gpfn(xch, dom, &pfn) < 0)
        fatal("maximum gpfn");
    p->gfns = pfn + 1;
    if (xc_domain_getinfo(xch, dom, 1, &info) != 1)
        fatal("domain info");
    p->ram = info.nr_pages < p->gfns ? info.nr_pages : p->gfns;
    p->page = calloc(p->gfns, sizeof(*p->page));
    p->buffer = aligned_alloc(PAGE, PAGE);
    if (!p->page || !p->buffer || mlock(p->buffer, PAGE))
        fatal("memory");
}

/* Gives the gfn its page back; 0 also when it was in already. */
static void pager_load(struct pager *p, uint64_t gfn)
{
    if (gfn >= p->gfns || !p->page[gfn])
        return;
    memcpy(p->buffer, p->page[gfn], PAGE);
    if (xc_mem_paging_load(xch, dom, gfn, p->buffer) && errno != EEXIST)
        fatal("load");
    free(p->page[gfn]);
    p->page[gfn] = NULL;
    p->out--;
    fetched++;
}

static void pager_serve(struct pager *p)
{
    int any = 0;

    while (RING_HAS_UNCONSUMED_REQUESTS(&p->ring)) {
        vm_event_request_t req = *RING_GET_REQUEST(&p->ring, p->ring.req_cons);
        vm_event_response_t rsp = {0};

        p->ring.sring->req_event = ++p->ring.req_cons + 1;
        if (req.u.mem_paging.flags & MEM_PAGING_DROP_PAGE) {
            if (req.u.mem_paging.gfn < p->gfns && p->page[req.u.mem_paging.gfn]) {
                free(p->page[req.u.mem_paging.gfn]);
                p->page[req.u.mem_paging.gfn] = NULL;
                p->out--;
            }
        } else {
            pager_load(p, req.u.mem_paging.gfn);
        }
        rsp.version = VM_EVENT_INTERFACE_VERSION;
        rsp.reason = VM_EVENT_REASON_MEM_PAGING;
        rsp.vcpu_id = req.vcpu_id;
        rsp.flags = req.flags & VM_EVENT_FLAG_VCPU_PAUSED;
        rsp.u.mem_paging = req.u.mem_paging;
        *RING_GET_RESPONSE(&p->ring, p->ring.rsp_prod_pvt) = rsp;
        p->ring.rsp_prod_pvt++;
        any = 1;
    }
    if (any) {
        RING_PUSH_RESPONSES(&p->ring);
        xenevtchn_notify(p->xce, p->port);
    }
}

static void pager_evict(struct pager *p, xen_pfn_t gfn)
{
    unsigned char *map;

    if (p->page[gfn])
        return;
    if (xc_mem_paging_nominate(xch, dom, gfn)) {
        busy++;
        return;
    }
    map = xc_map_foreign_pages(xch, dom, PROT_READ, &gfn, 1);
    if (!map)
        fatal("map victim");
    p->page[gfn] = malloc(PAGE);
    if (!p->page[gfn])
        fatal("memory");
    memcpy(p->page[gfn], map, PAGE);
    munmap(map, PAGE);
    if (xc_mem_paging_evict(xch, dom, gfn)) {
        free(p->page[gfn]);
        p->page[gfn] = NULL;
        busy++;
        return;
    }
    p->out++;
    evicted++;
}

static void paging(double end, unsigned long most)
{
    struct pager p = {0};
    uint32_t rnd = 1;

    pager_open(&p);
    while (go_on(end)) {
        uint64_t gfn;

        pager_serve(&p);
        rnd = rnd * 1664525 + 1013904223;
        gfn = (rnd >> 8) % p.ram;
        if (p.page[gfn])
            pager_load(&p, gfn);
        else if (p.out < most)
            pager_evict(&p, gfn);
    }
    if (!alive())
        return;
    /* leave the guest whole */
    for (uint64_t gfn = 0; gfn < p.gfns; gfn++)
        pager_load(&p, gfn);
    pager_serve(&p);
}

int main(int argc, char **argv)
{
    double end;
    int ok;

    if (argc < 4) {
        fprintf(stderr, "usage: churn DOMID none|dirty|paging SECONDS [OUT]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    dom = (uint32_t)atoi(argv[1]);
    xch = xc_interface_open(NULL, NULL, 0);
    if (!xch)
        fatal("xc_interface_open");
    end = now() + atof(argv[3]);
    if (!strcmp(argv[2], "paging"))
        paging(end, argc > 4 ? strtoul(argv[4], NULL, 0) : 2000);
    else if (!strcmp(argv[2], "dirty"))
        dirty(end);
    else
        while (go_on(end))
            poll(NULL, 0, 200);
    ok = alive();
    printf("churn: end evicted %lu fetched %lu busy %lu toggles %lu domain %s\n", evicted, fetched, busy,
           toggles, ok ? "runs" : "DEAD");
    return !ok;
}
