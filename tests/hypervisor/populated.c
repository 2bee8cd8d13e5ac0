/*
 * XENMEM_paging_op_populated against XEN_DOMCTL_getpageframeinfo3, in dom0.
 *     populated DOMID    every gfn of a domain, which must not be running, and some beyond its p2m
 *     populated          domains of its own that have everything a p2m may have in it, and bad arguments
 * Prints what was compared: `same gfns=N pages=N`, or `busy gfn=HEX`. Exit status 1 and a message if they
 * differ.
 */
#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <xencall.h>

#include "bare_domain.h"
#include "paging_op.h"

/* exported, not declared (as Debian's headers do) */
int xc_get_pfn_type_batch(xc_interface *xch, uint32_t dom, unsigned int num, xen_pfn_t *arr);

#define BATCH     1024u
#define ROOM      512u /* pages of bitmap */
#define MAX_BITS  (ROOM * 4096u * 8u)
#define UNTOUCHED 0xa5

static xc_interface *xch;
static xencall_handle *call;
static struct paging_op_arg *arg;
static uint8_t *room; /* ends where nothing is */

static bool bit(const uint8_t *bitmap, uint64_t i)
{
    return bitmap[i / 8] >> i % 8 & 1;
}

/* 0 or -errno; arg as Xen left it. */
static int populated_at(uint32_t domid, uint64_t gfn, uint32_t nr, uint64_t buffer)
{
    *arg = (struct paging_op_arg){
        .op = PAGING_OP_POPULATED, .domain = (uint16_t)domid, .nr = nr, .buffer = buffer, .gfn = gfn};
    return xencall2(call, __HYPERVISOR_memory_op, XENMEM_paging_op, (uintptr_t)arg) ? -errno : 0;
}

static size_t bytes_of(uint32_t nr)
{
    return ((size_t)nr + 7) / 8;
}

/* Into the end of room, so that a byte too many faults; a byte before must stay what it is. */
static uint8_t *populated(uint32_t domid, uint64_t gfn, uint32_t nr)
{
    uint8_t *at = room + ROOM * 4096u - bytes_of(nr);
    int rc;

    memset(at - 1, UNTOUCHED, bytes_of(nr) + 1);
    rc = populated_at(domid, gfn, nr, (uintptr_t)at);
    if (rc)
        errx(1, "gfns %" PRIx64 ", %u of them: %s (gfn %" PRIx64 ")", gfn, nr, strerror(-rc), arg->gfn);
    if (at[-1] != UNTOUCHED)
        errx(1, "gfns %" PRIx64 ", %u of them: byte before the bitmap written", gfn, nr);
    if (arg->nr || arg->gfn != gfn + nr || arg->buffer != (uintptr_t)at + bytes_of(nr))
        errx(1, "gfns %" PRIx64 ", %u of them: left over: %u from %" PRIx64 " on", gfn, nr, arg->nr,
             arg->gfn);
    if (nr % 8 && at[bytes_of(nr) - 1] >> nr % 8)
        errx(1, "gfns %" PRIx64 ", %u of them: bits in excess are set", gfn, nr);
    return at;
}

/* What getpageframeinfo3 says, nr a multiple of BATCH. busy: the first gfn that is paged out, no further than
 * which the bitmap goes; or nr. */
static uint8_t *by_type(uint32_t domid, uint32_t nr, uint64_t *pages, uint64_t *busy)
{
    uint8_t *bitmap = calloc(1, bytes_of(nr));

    *pages = 0;
    *busy = nr;
    for (uint32_t first = 0; bitmap && first < nr; first += BATCH) {
        xen_pfn_t types[BATCH];

        for (uint32_t i = 0; i < BATCH; i++)
            types[i] = first + i;
        if (xc_get_pfn_type_batch(xch, domid, BATCH, types))
            err(1, "types of pages of domain %u", domid);
        for (uint32_t i = 0; i < BATCH; i++) {
            if (types[i] == XEN_DOMCTL_PFINFO_XTAB || types[i] == XEN_DOMCTL_PFINFO_BROKEN)
                continue;
            if (types[i] != XEN_DOMCTL_PFINFO_NOTAB) {
                *busy = first + i;
                return bitmap;
            }
            bitmap[(first + i) / 8] |= (uint8_t)(1u << i % 8);
            (*pages)++;
        }
    }
    return bitmap;
}

/* Returns the bitmap, of nr bits; the caller frees it. NULL: there is a page that is paged out. */
static uint8_t *compare(uint32_t domid, uint32_t *nr)
{
    uint64_t pages, busy;
    xen_pfn_t nr_gfns;
    uint8_t *want, *got;

    if (xc_domain_nr_gpfns(xch, domid, &nr_gfns) < 0)
        err(1, "size of domain %u", domid);
    *nr = (uint32_t)(nr_gfns / BATCH + 3) * BATCH;
    if (*nr > MAX_BITS)
        errx(1, "domain %u is too large", domid);
    want = by_type(domid, *nr, &pages, &busy);
    if (!want)
        errx(1, "no memory");
    if (busy < *nr) {
        int rc = populated_at(domid, 0, *nr, (uintptr_t)room);

        if (rc != -EBUSY || arg->gfn != busy)
            errx(1, "gfn %" PRIx64 " is paged out: %s, gfn %" PRIx64, busy, strerror(-rc), arg->gfn);
        printf("busy gfn=%" PRIx64 "\n", busy);
        free(want);
        return NULL;
    }
    got = populated(domid, 0, *nr);
    for (uint32_t i = 0; i < *nr; i++)
        if (bit(got, i) != bit(want, i))
            errx(1, "gfn %x: %d, %d by its type", i, bit(got, i), bit(want, i));
    printf("same gfns=%u pages=%" PRIu64 "\n", *nr, pages);
    return want;
}

/* Ranges that begin and end anywhere. */
static void ranges(uint32_t domid, const uint8_t *want, uint32_t nr)
{
    static const uint64_t edges[] = {0, 1, 7, 8, 511, 512, 0x205, 0x1000, 0x2000, 0x2001, 0x3fff8, 0x40000};

    srandom(1);
    for (unsigned int i = 0; i < 500; i++) {
        uint64_t first =
            i % 2 ? (uint64_t)random() % nr : edges[(size_t)random() % (sizeof(edges) / sizeof(edges[0]))];
        uint32_t n = (uint32_t)random() % (i % 3 ? 1600 : 70000);
        const uint8_t *got = populated(domid, first, n);

        for (uint32_t j = 0; j < n; j++)
            if (bit(got, j) != (first + j < nr && bit(want, first + j)))
                errx(1, "gfn %" PRIx64 " of range %" PRIx64 " + %u is wrong", first + j, first, n);
    }
    printf("500 ranges\n");
}

static void expect(const char *what, int rc, int want)
{
    if (rc != want)
        errx(1, "%s: %s, want %s", what, strerror(-rc), strerror(-want));
    printf("%s: %s\n", what, strerror(-rc));
}

static void bad_arguments(uint32_t domid)
{
    const uint64_t at = (uintptr_t)room, top = 1ull << 40;
    struct xen_domctl_createdomain pv = {.max_vcpus = 1,
                                         .max_evtchn_port = 1023,
                                         .max_grant_frames = 4,
                                         .max_maptrack_frames = 4,
                                         .grant_opts = XEN_DOMCTL_GRANT_version(1)};
    uint32_t other = 0;

    expect("nothing, nowhere", populated_at(domid, 5, 0, 0), 0);
    expect("a range that wraps", populated_at(domid, ~0ull - 1, 4, at), -EINVAL);
    expect("one outside of the address space", populated_at(domid, top, 64, at), -EINVAL);
    expect("no buffer", populated_at(domid, 0, 64, 0x800000000000ull), -EFAULT);
    expect("no buffer for a hole", populated_at(domid, 0x80000, 0x4000, 0x800000000000ull), -EFAULT);
    expect("a buffer that is too short", populated_at(domid, 0, 64 * 8, at + ROOM * 4096u - 63), -EFAULT);
    expect("one too short for a hole", populated_at(domid, 0x80000, 0x4000, at + ROOM * 4096u - 0x7ff),
           -EFAULT);
    expect("a domain that is not there", populated_at(DOMID_FIRST_RESERVED - 2, 0, 64, at), -ESRCH);
    expect("the caller itself", populated_at(0, 0, 64, at), -EPERM);
    if (xc_domain_create(xch, &other, &pv))
        err(1, "creating a PV domain");
    expect("a PV domain", populated_at(other, 0, 64, at), -EOPNOTSUPP);
    xc_domain_destroy(xch, other);
}

static void fill(uint32_t domid, uint64_t gfn, unsigned int order, unsigned int flags)
{
    xen_pfn_t pfn = gfn;

    if (xc_domain_populate_physmap_exact(xch, domid, 1, order, flags, &pfn))
        err(1, "populating gfn %" PRIx64, gfn);
}

static void empty(uint32_t domid, uint64_t gfn, unsigned int order)
{
    xen_pfn_t pfn = gfn;

    if (xc_domain_decrease_reservation_exact(xch, domid, 1, order, &pfn))
        err(1, "taking gfn %" PRIx64 " away", gfn);
}

static void special(uint32_t domid, unsigned int space, unsigned long idx, xen_pfn_t gfn)
{
    if (xc_domain_add_to_physmap(xch, domid, space, idx, gfn))
        err(1, "special page at gfn %lx", gfn);
}

static void again(uint32_t domid, const char *what)
{
    uint32_t nr;

    printf("%s: ", what);
    free(compare(domid, &nr));
}

static void all_kinds(void)
{
    uint32_t domid = bare_domain_build(xch, 16384, 4096, 4095), nr;
    uint8_t *want;
    const uint8_t *got;
    uint64_t there = 0, beyond = 0;

    again(domid, "superpages");
    for (uint64_t gfn = 0x2000; gfn < 0x2400; gfn++)
        if (gfn % 512 != 7)
            fill(domid, gfn, 0, 0);
    fill(domid, 0x3fff8, 0, 0);
    fill(domid, 0x40000, 9, 0);
    again(domid, "single pages, and far away ones");
    empty(domid, 0x205, 0);
    empty(domid, 0x3ff, 0);
    empty(domid, 0x400, 9);
    for (uint64_t gfn = 0x800; gfn < 0x840; gfn++)
        empty(domid, gfn, 0);
    again(domid, "some taken away");
    special(domid, XENMAPSPACE_shared_info, 0, 0x3000);
    special(domid, XENMAPSPACE_grant_table, 0, 0x3001);
    special(domid, XENMAPSPACE_grant_table, 1, 0x208);
    again(domid, "special pages, which are no memory");
    if (xc_shadow_control(xch, domid, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, NULL, 0))
        err(1, "log-dirty mode");
    again(domid, "log-dirty mode");
    if (xc_shadow_control(xch, domid, XEN_DOMCTL_SHADOW_OP_OFF, NULL, 0))
        err(1, "log-dirty mode off");
    want = compare(domid, &nr);
    if (!want)
        errx(1, "nothing is paged out");
    ranges(domid, want, nr);
    for (uint32_t i = 0; i < nr; i++)
        there += bit(want, i);
    got = populated(domid, 0, MAX_BITS);
    for (uint32_t i = 0; i < MAX_BITS; i++)
        beyond += bit(got, i);
    if (there != beyond)
        errx(1, "%" PRIu64 " pages, of which %" PRIu64 " are beyond the p2m", beyond, beyond - there);
    printf("nothing beyond the p2m\n");
    free(want);
    bad_arguments(domid);
    xc_domain_destroy(xch, domid);
}

/* Populated on demand: neither a page nor none. */
static void on_demand(void)
{
    uint32_t domid = bare_domain_build(xch, 16384, 1024, 1023);
    int rc;

    if (xc_domain_set_pod_target(xch, domid, 1536, NULL, NULL, NULL))
        err(1, "target of domain %u", domid);
    fill(domid, 0x400, 9, XENMEMF_populate_on_demand);
    fill(domid, 0x800, 9, XENMEMF_populate_on_demand);
    rc = populated_at(domid, 0, 4096, (uintptr_t)room);
    expect("populate on demand", rc, -EBUSY);
    if (arg->gfn != 0x400)
        errx(1, "gfn %" PRIx64 " is the one", arg->gfn);
    populated(domid, 0, 0x400);
    populated(domid, 0xa00, 0x400);
    xc_domain_destroy(xch, domid);
}

int main(int argc, char **argv)
{
    xch = xc_interface_open(NULL, NULL, 0);
    call = xencall_open(NULL, 0);
    if (argc > 2 || !xch || !call)
        errx(2, "usage: populated [DOMID], in dom0");
    arg = xencall_alloc_buffer_pages(call, 1);
    room = xencall_alloc_buffer_pages(call, ROOM + 1);
    if (!arg || !room || mprotect(room + ROOM * 4096u, 4096, PROT_NONE))
        err(1, "no memory for hypercalls");
    if (argc > 1) {
        uint32_t nr;

        free(compare((uint32_t)strtoul(argv[1], NULL, 0), &nr));
    } else {
        all_kinds();
        on_demand();
    }
    return 0;
}
