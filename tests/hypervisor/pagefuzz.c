/*
 * pagefuzz SECONDS SEED THREADS: random and edge arguments to every paging operation, in dom0, by that many
 * threads at once, on domains that come and go: each is built without a guest in it, lives for a while and is
 * destroyed in the midst of it. Prints what it did; exit status 1 if a domain could not be built or
 * destroyed.
 */
#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <xencall.h>
#include <xenctrl.h>
#include <xenforeignmemory.h>

#include <xen/domctl.h>
#include <xen/memory.h>
#include <xen/vm_event.h>

#include "../../pager/xen_paging_ops.h"
#include "bare_domain.h"
#include "foreign_probe.h"
#include "paging_op.h"

#define PAGES       2048u /* of a domain */
#define MAX_THREADS 16u
#define LIFE_MS     700

/* As a Xen of this project's has it; a stock header may be older. */
struct vm_event {
    uint32_t op, mode, a, b, c;
    uint16_t d, e;
};

struct thread {
    pthread_t id;
    uint64_t random;
    uint64_t calls, succeeded;
};

static _Atomic uint32_t domid;
static atomic_bool stop;

static uint64_t next(struct thread *t)
{
    t->random ^= t->random << 13;
    t->random ^= t->random >> 7;
    t->random ^= t->random << 17;
    return t->random;
}

static bool one_in(struct thread *t, unsigned int n)
{
    return next(t) % n == 0;
}

static uint64_t some_gfn(struct thread *t)
{
    static const uint64_t edges[] = {
        0,          1,          511,         512,        PAGES - 1,  PAGES,      (1ull << 20) - 1,
        1ull << 32, 1ull << 40, ~0ull >> 12, 1ull << 52, 1ull << 63, ~0ull - 63, ~0ull};

    if (one_in(t, 6))
        return edges[next(t) % (sizeof(edges) / sizeof(edges[0]))] + next(t) % 3 - 1;
    if (one_in(t, 3))
        return next(t) % (PAGES / PAGING_OPS_SUPER + 1) * PAGING_OPS_SUPER;
    return next(t) % (PAGES + 64);
}

static uint32_t some_count(struct thread *t)
{
    static const uint32_t edges[] = {0, 1, 63, 64, 65, 4096, UINT32_MAX - 63, UINT32_MAX};

    return one_in(t, 4) ? edges[next(t) % (sizeof(edges) / sizeof(edges[0]))] : (uint32_t)(next(t) % 600);
}

/* Memory of ours mostly; sometimes none, odd, of the kernel's, or running over its end. */
static uint64_t some_buffer(struct thread *t, void *good, size_t size)
{
    uint64_t at = (uintptr_t)good;

    if (!one_in(t, 8))
        return at;
    switch (next(t) % 6) {
    case 0:
        return 0;
    case 1:
        return at + 1 + next(t) % 4095;
    case 2:
        return at + size - 8;
    case 3:
        return 0xffff880000000000ull + next(t) % 65536 * 8;
    case 4:
        return 0x800000000000ull + next(t) % 4096;
    default:
        return next(t);
    }
}

struct memory {
    xencall_handle *call;
    struct paging_op_arg *op;
    struct paging_prep *preps;
    uint8_t *pages; /* PAGING_OPS_SUPER + 1 of them */
    struct xen_domctl *domctl;
};

static void paging(struct thread *t, struct memory *m)
{
    memset(m->op, 0, sizeof(*m->op));
    m->op->op = (uint8_t)(one_in(t, 50) ? next(t) : next(t) % PAGING_OPS);
    m->op->domain = (uint16_t)(one_in(t, 100) ? next(t) : atomic_load(&domid));
    m->op->gfn = some_gfn(t);
    m->op->nr = some_count(t);
    m->op->buffer = some_buffer(t, m->pages, (PAGING_OPS_SUPER + 1) * 4096u);
    /* up to twice what there is room for */
    if (m->op->op == PAGING_OP_POPULATED && one_in(t, 8))
        m->op->nr = (uint32_t)(next(t) % (2u * (PAGING_OPS_SUPER + 1) * 4096u * 8u));
    if (m->op->op == PAGING_OP_MARK)
        for (unsigned int i = 0; i < 64; i++)
            ((uint64_t *)(void *)m->pages)[next(t) % 512] = one_in(t, 2) ? ~0ull : next(t);
    if (m->op->op == PAGING_OP_PREP_BATCH) {
        unsigned int n = 1 + next(t) % 64;
        uint64_t first = some_gfn(t);

        for (unsigned int i = 0; i < n; i++)
            m->preps[i] =
                (struct paging_prep){.gfn = one_in(t, 3) ? some_gfn(t) : first + i,
                                     .buffer = some_buffer(t, m->pages + 4096 * (next(t) % 64), 4096 * 64),
                                     .rc = (int32_t)next(t),
                                     .order = one_in(t, 4)    ? 9
                                              : one_in(t, 40) ? (uint32_t)next(t)
                                                              : 0};
        m->op->nr = one_in(t, 20) ? some_count(t) : n;
        m->op->buffer = some_buffer(t, m->preps, 64 * sizeof(*m->preps));
    }
    t->succeeded += xencall2(m->call, __HYPERVISOR_memory_op, XENMEM_paging_op,
                             one_in(t, 200) ? some_buffer(t, m->op, 4096) : (uintptr_t)m->op) == 0;
}

static void event(struct thread *t, struct memory *m)
{
    struct vm_event e = {.op = (uint32_t)(one_in(t, 20) ? next(t) : next(t) % 7),
                         .mode = one_in(t, 50) ? (uint32_t)next(t) : 1,
                         .a = (uint32_t)next(t),
                         .b = one_in(t, 5) ? (uint32_t)next(t) : (uint32_t)(next(t) % 66),
                         .c = one_in(t, 10) ? (uint32_t)next(t) : (uint32_t)(next(t) % 2),
                         .d = one_in(t, 4) ? (uint16_t)next(t) : (uint16_t)(1u << next(t) % 9),
                         .e = one_in(t, 4) ? (uint16_t)next(t) : (uint16_t)(1u << next(t) % 9)};

    /* A ring in use most of the time: the operations need one. */
    if (e.op == 1 && !one_in(t, 8))
        return;
    memset(m->domctl, 0, sizeof(*m->domctl));
    m->domctl->cmd = XEN_DOMCTL_vm_event_op;
    m->domctl->interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    m->domctl->domain = (domid_t)atomic_load(&domid);
    memcpy(&m->domctl->u, &e, sizeof(e));
    t->succeeded += xencall1(m->call, __HYPERVISOR_domctl, (uintptr_t)m->domctl) == 0;
}

/* Maps frames of the ring, scribbles over them and lets go of them. */
static void resource(struct thread *t, xenforeignmemory_handle *fmem)
{
    bool sane = !one_in(t, 4);
    unsigned long first = sane ? 0 : (unsigned long)some_count(t);
    unsigned long n = sane ? PAGING_RING_FRAMES_MAX : (unsigned long)some_count(t) % 5000;
    void *at = NULL;
    xenforeignmemory_resource_handle *h = xenforeignmemory_map_resource(
        fmem, (domid_t)atomic_load(&domid), PAGING_RING_RESOURCE, one_in(t, 10) ? (unsigned int)next(t) : 1,
        first, n, &at, PROT_READ | PROT_WRITE, 0);

    if (!h)
        return;
    t->succeeded++;
    for (unsigned int i = 0; i < 16 && n; i++)
        ((volatile uint32_t *)at)[next(t) % (one_in(t, 2) ? 16 : n * 1024)] = (uint32_t)next(t);
    xenforeignmemory_unmap_resource(fmem, h);
}

/* A foreign mapping asks the pager for what is absent. It does not wait: nobody answers. */
static void foreign(struct thread *t)
{
    int ioctl_errno;

    t->succeeded += foreign_probe(atomic_load(&domid), some_gfn(t), &ioctl_errno) == 0;
}

/*
 * Memory for hypercalls that ends where nothing is: Xen writes to what it is given, also if that runs over
 * the end, and must not find this process's own memory there.
 */
static void *fenced(xencall_handle *call, size_t pages)
{
    uint8_t *at = xencall_alloc_buffer_pages(call, pages + 1);

    if (!at || mprotect(at + pages * 4096, 4096, PROT_NONE))
        err(1, "no memory for hypercalls");
    return at;
}

static void *run(void *arg)
{
    struct thread *t = arg;
    struct memory m = {.call = xencall_open(NULL, 0)};
    xenforeignmemory_handle *fmem = xenforeignmemory_open(NULL, 0);

    m.op = fenced(m.call, 1);
    m.preps = fenced(m.call, 1);
    m.pages = fenced(m.call, PAGING_OPS_SUPER + 1);
    m.domctl = fenced(m.call, 1);
    if (!fmem)
        err(1, "xenforeignmemory_open");
    while (!atomic_load(&stop)) {
        unsigned int what = (unsigned int)(next(t) % 16);

        t->calls++;
        if (what < 12)
            paging(t, &m);
        else if (what < 14)
            event(t, &m);
        else if (what < 15)
            resource(t, fmem);
        else
            foreign(t);
    }
    xenforeignmemory_close(fmem);
    xencall_close(m.call);
    return NULL;
}

static uint32_t build(xc_interface *xch)
{
    return bare_domain_build(xch, PAGES + 64, PAGES, PAGES - 1);
}

static bool attach(uint32_t id)
{
    const struct paging_attach how = {
        .frames = PAGING_RING_FRAMES_MAX, .range_target = 16, .range_foreign = 256};
    xenforeignmemory_handle *fmem = xenforeignmemory_open(NULL, 0);
    void *at = NULL;
    xenforeignmemory_resource_handle *h =
        xenforeignmemory_map_resource(fmem, (domid_t)id, PAGING_RING_RESOURCE, PAGING_RING_ID, 0, how.frames,
                                      &at, PROT_READ | PROT_WRITE, 0);
    struct paging_ops ops;
    uint32_t port;
    int rc;

    if (!h)
        err(1, "acquiring the ring of domain %u", id);
    if (paging_ops_open(&ops, id, 1))
        errx(1, "no memory for hypercalls");
    rc = paging_ops_attach(&ops, &how, &port);
    paging_ops_close(&ops);
    xenforeignmemory_unmap_resource(fmem, h);
    xenforeignmemory_close(fmem);
    return rc == 0;
}

static void sleep_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&t, NULL);
}

/* The domain is gone, not only dying. Threads may hold a page of it for a moment. */
static bool gone(xc_interface *xch, uint32_t id)
{
    xc_dominfo_t info;

    for (unsigned int tries = 0; tries < 500; tries++) {
        if (xc_domain_getinfo(xch, id, 1, &info) != 1 || info.domid != id)
            return true;
        sleep_ms(20);
    }
    return false;
}

int main(int argc, char **argv)
{
    struct thread threads[MAX_THREADS] = {0};
    unsigned int n = argc > 3 ? (unsigned int)atoi(argv[3]) : 0, domains = 0;
    uint64_t calls = 0, succeeded = 0;
    time_t end = time(NULL) + (argc > 3 ? atoi(argv[1]) : 0);
    xc_interface *xch = xc_interface_open(NULL, NULL, 0);

    if (!xch || !n || n > MAX_THREADS)
        errx(2, "usage: pagefuzz SECONDS SEED THREADS");
    atomic_store(&domid, build(xch));
    for (unsigned int i = 0; i < n; i++) {
        threads[i].random = (strtoull(argv[2], NULL, 0) + i + 1) * 0x9e3779b97f4a7c15ull;
        if (pthread_create(&threads[i].id, NULL, run, &threads[i]))
            errx(1, "pthread_create");
    }
    do {
        uint32_t id = atomic_load(&domid), following;

        if (!attach(id))
            printf("domain %u: not attached (a thread was first)\n", id);
        sleep_ms(LIFE_MS);
        if (domains % 3 == 0 && xc_domain_unpause(xch, id))
            warn("unpausing domain %u", id);
        sleep_ms(LIFE_MS / 4);
        if (xc_domain_destroy(xch, id))
            err(1, "destroying domain %u", id);
        following = build(xch);
        atomic_store(&domid, following);
        if (!gone(xch, id))
            errx(1, "domain %u has been destroyed and is still there", id);
        domains++;
    } while (time(NULL) < end);
    atomic_store(&stop, true);
    for (unsigned int i = 0; i < n; i++) {
        pthread_join(threads[i].id, NULL);
        calls += threads[i].calls;
        succeeded += threads[i].succeeded;
    }
    if (xc_domain_destroy(xch, atomic_load(&domid)) || !gone(xch, atomic_load(&domid)))
        errx(1, "the last domain is still there");
    printf("pagefuzz: seed %s, %" PRIu64 " calls, %" PRIu64 " of them succeeded, %u domains\n", argv[2],
           calls, succeeded, domains + 1);
    return 0;
}
