/*
 * The destination's domain: a guest is a process, its memory is registered with userfaultfd, a page that is
 * missing is an absent one, and what userfaultfd has to say is the ring. Like a ring that Xen keeps it
 * outlives its reader: the guest holds the descriptor, too.
 */
#include "backends.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "contents.h"
#include "shared.h"

#define SLOTS      64u /* a vcpu has one fault at a time, so this is enough for all of them */
#define RING_PAGES 8u
#define SCAN_MOST  (1u << 15)
#define OFFERED    (FEATURE_MARK | FEATURE_PREP | FEATURE_RING)
#define PRESENT    (UINT64_C(3) << 62) /* of an entry of pagemap: in memory, or in swap */

struct destination {
    struct backend be;
    struct native_link link;
    struct uffd_msg events[SLOTS];
    unsigned int next, n; /* of events */
    uint64_t answers[SLOTS];
    unsigned int n_answers;
    struct backend_ring_stats stats;
};

static struct destination *of(struct backend *be)
{
    return (struct destination *)((char *)be - offsetof(struct destination, be));
}

static uint64_t pages_of(struct backend *be)
{
    return of(be)->link.shared->pages;
}

static uint64_t address(struct destination *d, uint64_t gfn)
{
    return d->link.shared->base + gfn * NATIVE_PAGE;
}

static int call(struct destination *d, unsigned long request, void *argument)
{
    return ioctl(d->link.fd[NATIVE_UFFD], request, argument) ? -errno : 0;
}

static void be_close(struct backend *be)
{
    native_close(&of(be)->link);
    free(of(be));
}

static bool alive(struct destination *d)
{
    struct pollfd p = {.fd = d->link.pidfd, .events = POLLIN};

    return poll(&p, 1, 0) == 0;
}

static int be_info(struct backend *be, struct backend_domain *out)
{
    struct native_shared *shared = of(be)->link.shared;

    be->calls.info++;
    *out = (struct backend_domain){.exists = alive(of(be)),
                                   .paused = atomic_load(&shared->pauses) > 0,
                                   .ran = atomic_load(&shared->ran),
                                   .hvm = true,
                                   .hap = true,
                                   .vcpus = shared->vcpus,
                                   .pages = shared->pages};
    native_uuid(out->uuid);
    return 0;
}

static int be_pause(struct backend *be)
{
    native_pause(of(be)->link.shared);
    return 0;
}

static int be_unpause(struct backend *be)
{
    return native_unpause(of(be)->link.shared);
}

static int be_max_gfn(struct backend *be, uint64_t *max)
{
    *max = pages_of(be) - 1;
    return 0;
}

/* All of it is: as after a restore. */
static int be_populated(struct backend *be, uint64_t first, uint32_t n, uint64_t *bits)
{
    be->calls.scan++;
    if (first + n > pages_of(be))
        return -EINVAL;
    memset(bits, 0, (n + 63) / 64 * sizeof(*bits));
    for (uint32_t i = 0; i < n; i++)
        bits[i / 64] |= UINT64_C(1) << i % 64;
    return 0;
}

static int be_special(struct backend *be, uint64_t gfns[BACKEND_SPECIAL_MAX])
{
    (void)be, (void)gfns;
    return 0;
}

static int be_no_gfns(struct backend *be, const uint64_t *gfns, unsigned int n)
{
    (void)be, (void)gfns, (void)n;
    return -EOPNOTSUPP;
}

static int be_claim(struct backend *be, uint64_t pages)
{
    (void)be, (void)pages;
    return 0;
}

static void be_forget(struct backend *be, const char *session)
{
    (void)be, (void)session;
}

static bool be_owned(struct backend *be, const char *session)
{
    (void)be, (void)session;
    return true;
}

static int be_attach(struct backend *be, const struct backend_wish *wish, char *why, size_t why_size)
{
    (void)why, (void)why_size;
    be->features = (struct paging_features){.set = wish->features & OFFERED, .ring_pages = RING_PAGES};
    return 0;
}

static bool be_can_outlive(struct backend *be)
{
    return be->features.set & FEATURE_RING;
}

static struct uffdio_range all(struct destination *d)
{
    return (struct uffdio_range){address(d, 0), d->link.shared->pages * NATIVE_PAGE};
}

/* What the last pager had read is lost: who waits faults again. */
static int be_attach_again(struct backend *be, char *why, size_t why_size)
{
    struct uffdio_range range = all(of(be));
    int rc = call(of(be), UFFDIO_WAKE, &range);

    if (rc)
        snprintf(why, why_size, "userfaultfd: %s", strerror(-rc));
    return rc;
}

static int be_types(struct backend *be, uint64_t first, unsigned int n, uint8_t *types)
{
    struct destination *d = of(be);
    uint64_t entries[BACKEND_SCAN_MAX];
    ssize_t bytes = (ssize_t)(n * sizeof(*entries));

    be->calls.scan++;
    if (pread(d->link.fd[NATIVE_PAGEMAP], entries, (size_t)bytes,
              (off_t)(address(d, first) / NATIVE_PAGE * 8)) != bytes)
        return -ESRCH;
    for (unsigned int i = 0; i < n; i++)
        types[i] = entries[i] & PRESENT ? BACKEND_PAGE : BACKEND_ABSENT;
    return 0;
}

/* Nobody maps this guest's memory. */
static int be_ask_anew(struct backend *be, uint64_t first, uint32_t nr, uint64_t *bitmap)
{
    (void)be, (void)first, (void)nr, (void)bitmap;
    return 0;
}

static int be_detach(struct backend *be)
{
    struct uffdio_range range = all(of(be));

    return call(of(be), UFFDIO_UNREGISTER, &range);
}

/* Its process has ended. */
static void be_abandon(struct backend *be)
{
    (void)be;
}

static unsigned int be_slots(struct backend *be)
{
    (void)be;
    return SLOTS;
}

static int be_ring_stats(struct backend *be, struct backend_ring_stats *out)
{
    *out = of(be)->stats;
    return 0;
}

static int mark_run(struct destination *d, uint64_t first, uint64_t count)
{
    struct uffdio_register run = {.range = {address(d, first), count * NATIVE_PAGE},
                                  .mode = UFFDIO_REGISTER_MODE_MISSING};

    return call(d, UFFDIO_REGISTER, &run);
}

static bool bit(const uint64_t *bits, uint32_t i)
{
    return bits[i / 64] >> (i % 64) & 1;
}

/* Nothing was ever written there: who is registered is missing. */
static int be_mark_batch(struct backend *be, uint64_t first, uint32_t nr, uint64_t *bits)
{
    uint32_t i = 0;

    be->calls.mark_batch++;
    while (i < nr) {
        uint32_t start = i;
        int rc;

        while (i < nr && bit(bits, i))
            i++;
        rc = i > start ? mark_run(of(be), first + start, i - start) : 0;
        if (rc)
            return rc;
        for (; start < i; start++)
            bits[start / 64] &= ~(UINT64_C(1) << start % 64);
        while (i < nr && !bit(bits, i))
            i++;
    }
    return 0;
}

static int be_mark(struct backend *be, uint64_t gfn)
{
    be->calls.evict++;
    return mark_run(of(be), gfn, 1);
}

static int be_unmark(struct backend *be, uint64_t gfn, void *scratch)
{
    (void)be, (void)gfn, (void)scratch;
    return -EOPNOTSUPP;
}

/* Who waits for the page goes on. */
static int load(struct destination *d, uint64_t gfn, const void *page)
{
    struct uffdio_copy copy = {.dst = address(d, gfn), .src = (uint64_t)(uintptr_t)page, .len = NATIVE_PAGE};
    int rc = gfn < d->link.shared->pages ? call(d, UFFDIO_COPY, &copy) : -ENOENT;

    /* The address space was changing: that is over in a moment, which is what -ENOMEM says to the pager. */
    return rc == -EAGAIN ? -ENOMEM : rc;
}

static int be_load(struct backend *be, uint64_t gfn, const void *page)
{
    int rc = load(of(be), gfn, page);

    be->calls.load++;
    return rc == -EEXIST ? -ENOENT : rc;
}

static unsigned int be_load_batch(struct backend *be, struct backend_page *pages, unsigned int n)
{
    be->calls.load_batch++;
    for (unsigned int i = 0; i < n; i++) {
        pages[i].rc = pages[i].order ? -EBUSY : load(of(be), pages[i].gfn, pages[i].contents);
        if (!pages[i].order && (pages[i].rc == -ENOMEM || pages[i].rc == -ESRCH))
            return i + 1;
    }
    return n;
}

static int be_no_gfn(struct backend *be, uint64_t gfn)
{
    (void)be, (void)gfn;
    return -EOPNOTSUPP;
}

static int be_event_fd(struct backend *be)
{
    return of(be)->link.fd[NATIVE_UFFD];
}

/* It is what was read. */
static int be_ack_event(struct backend *be)
{
    (void)be;
    return 0;
}

static uint32_t vcpu_of(const struct destination *d, uint32_t tid)
{
    unsigned int vcpu = 0;

    while (vcpu < d->link.shared->vcpus && (uint32_t)atomic_load(&d->link.shared->tid[vcpu]) != tid)
        vcpu++;
    return vcpu;
}

static bool more_events(struct destination *d)
{
    ssize_t bytes = read(d->link.fd[NATIVE_UFFD], d->events, sizeof(d->events));

    d->next = 0;
    d->n = bytes > 0 ? (unsigned int)((size_t)bytes / sizeof(d->events[0])) : 0;
    d->stats.requests += d->n;
    if (d->n > d->stats.high_water)
        d->stats.high_water = d->n;
    return d->n;
}

static bool be_next_entry(struct backend *be, struct ring_entry *entry)
{
    struct destination *d = of(be);
    const struct uffd_msg *event;

    if (d->next == d->n && !more_events(d))
        return false;
    event = &d->events[d->next++];
    *entry = (struct ring_entry){.gfn = (event->arg.pagefault.address - d->link.shared->base) / NATIVE_PAGE,
                                 .vcpu_id = vcpu_of(d, event->arg.pagefault.feat.ptid),
                                 .kind = ENTRY_PAUSED,
                                 .nr = 1};
    return true;
}

static int be_push(struct backend *be)
{
    struct destination *d = of(be);

    for (unsigned int i = 0; i < d->n_answers; i++) {
        struct uffdio_range range = {address(d, d->answers[i]), NATIVE_PAGE};

        call(d, UFFDIO_WAKE, &range);
    }
    d->n_answers = 0;
    return 0;
}

/* load() has woken who waited then; not one whose fault was read after that. */
static void be_respond(struct backend *be, const struct ring_entry *entry)
{
    struct destination *d = of(be);

    if (d->n_answers == SLOTS)
        be_push(be);
    d->answers[d->n_answers++] = entry->gfn;
}

static int be_life_fd(struct backend *be)
{
    return of(be)->link.pidfd;
}

static void be_ack_life(struct backend *be)
{
    (void)be;
}

/* A page that is absent would have the pager wait for itself. */
static int copy_page(struct destination *d, uint64_t gfn, void *page)
{
    struct iovec here = {page, NATIVE_PAGE}, there = {(void *)(uintptr_t)address(d, gfn), NATIVE_PAGE};
    uint8_t type;
    int rc = gfn < d->link.shared->pages ? be_types(&d->be, gfn, 1, &type) : -EINVAL;

    if (rc == 0 && type != BACKEND_PAGE)
        rc = -ENOENT;
    if (rc == 0 && process_vm_readv(d->link.pid, &here, 1, &there, 1, 0) != NATIVE_PAGE)
        rc = -errno;
    return rc;
}

static void *be_map(struct backend *be, const uint64_t *gfns, unsigned int n, int *err)
{
    uint8_t *copy = aligned_alloc(NATIVE_PAGE, (size_t)n * NATIVE_PAGE);

    be->calls.map++;
    for (unsigned int i = 0; copy && i < n; i++)
        err[i] = copy_page(of(be), gfns[i], copy + (size_t)i * NATIVE_PAGE);
    return copy;
}

static void be_unmap(struct backend *be, void *map, unsigned int n)
{
    (void)be, (void)n;
    free(map);
}

static const struct backend_ops ops = {
    .name = "native destination",
    .close = be_close,
    .info = be_info,
    .pause = be_pause,
    .unpause = be_unpause,
    .max_gfn = be_max_gfn,
    .populated = be_populated,
    .special = be_special,
    .populate = be_no_gfns,
    .release = be_no_gfns,
    .claim = be_claim,
    .forget = be_forget,
    .owned = be_owned,
    .attach = be_attach,
    .can_outlive = be_can_outlive,
    .attach_again = be_attach_again,
    .types = be_types,
    .ask_anew = be_ask_anew,
    .detach = be_detach,
    .abandon = be_abandon,
    .slots = be_slots,
    .ring_stats = be_ring_stats,
    .mark = be_mark,
    .unmark = be_unmark,
    .mark_batch = be_mark_batch,
    .load = be_load,
    .load_batch = be_load_batch,
    .collapse = be_no_gfn,
    .repair = be_no_gfn,
    .event_fd = be_event_fd,
    .ack_event = be_ack_event,
    .next_entry = be_next_entry,
    .respond = be_respond,
    .push = be_push,
    .life_fd = be_life_fd,
    .ack_life = be_ack_life,
    .map = be_map,
    .unmap = be_unmap,
};

struct backend *destination_open(const char *domain, const char *socket, char *why, size_t why_size)
{
    struct destination *d = calloc(1, sizeof(*d));
    int rc = d ? native_connect(socket, &d->link) : -ENOMEM;

    if (rc) {
        snprintf(why, why_size, "guest '%s' at '%s': %s", domain, socket, strerror(-rc));
        free(d);
        return NULL;
    }
    d->be.ops = &ops;
    d->be.domid = NATIVE_DESTINATION_ID;
    d->be.scan_most = SCAN_MOST;
    return &d->be;
}
