/*
 * A pager that does as it is told: in dom0 it attaches to a domain's paging ring, evicts what it is asked to
 * and keeps the contents, and prints every ring request as a line. Answers can be held back. Commands come on
 * stdin, one a line; each ends with a line `ok COMMAND` or `error COMMAND: why`.
 *
 * usage: pagectl DOMID [FRAMES [RANGE_TARGET RANGE_FOREIGN]]
 * With FRAMES the ring is that many frames of a resource.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../pager/xen_ring.h"
#include "absent_pages.h"
#include "batch_commands.h"
#include "foreign_probe.h"

#define EVICT_BATCH 256
#define MAX_HELD    512

struct pagectl {
    uint32_t domid;
    xc_interface *xch;
    xenforeignmemory_handle *fmem;
    xenevtchn_handle *xce;
    struct xen_ring ring;
    struct paging_ops ops;
    struct paging_attach how; /* no frames: the ring is a page of the domain */
    struct absent_pages pages;
    void *mapped; /* a page kept mapped */
    bool attached;
    bool hold;  /* keep requests unanswered until told */
    bool quiet; /* count requests, do not print them */
    struct xen_ring_request held[MAX_HELD];
    unsigned int held_count;
    uint64_t requests, foreign, drops, lost_drops;
};

/* Makes a gfn present. -ENOENT means that it is no longer there to be installed: the guest gave it up and no
 * DROP came; that is counted. Returns 0 or a negative errno. */
static int install(struct pagectl *p, uint64_t gfn)
{
    if (xc_mem_paging_load(p->xch, p->domid, gfn, (void *)absent_pages_contents(&p->pages, gfn))) {
        if (errno != ENOENT)
            return -errno;
        p->lost_drops++;
        absent_pages_set(&p->pages, gfn, GFN_DROPPED);
        return -ENOENT;
    }
    absent_pages_set(&p->pages, gfn, GFN_PRESENT);
    return 0;
}

/* All gfns of a range. */
static int install_range(struct pagectl *p, uint64_t first, uint64_t nr)
{
    int rc = 0;

    for (uint64_t gfn = first; gfn < first + nr; gfn++) {
        int one = absent_pages_state(&p->pages, gfn) == GFN_ABSENT ? install(p, gfn) : 0;

        if (one && one != -ENOENT)
            rc = one;
    }
    return rc;
}

static int answer(struct pagectl *p, const struct xen_ring_request *req)
{
    int rc = 0;

    if (!(req->paging_flags & MEM_PAGING_DROP_PAGE)) {
        if (absent_pages_state(&p->pages, req->gfn) == GFN_ABSENT)
            rc = install_range(p, req->gfn, req->nr);
        else if (req->paging_flags & MEM_PAGING_EVICT_FAIL)
            /* a nominated page that is still there: only its type has to change; it may have changed already
             */
            xc_mem_paging_prep(p->xch, p->domid, req->gfn);
    }
    xen_ring_respond(&p->ring, req);
    return rc == -ENOENT ? 0 : rc;
}

/* Answer the oldest n of the held requests. Returns the first failure. */
static int answer_held(struct pagectl *p, unsigned int n)
{
    int rc = 0;

    if (n > p->held_count)
        n = p->held_count;
    for (unsigned int i = 0; i < n; i++) {
        int one = answer(p, &p->held[i]);

        rc = rc ? rc : one;
    }
    p->held_count -= n;
    memmove(p->held, p->held + n, p->held_count * sizeof(p->held[0]));
    if (xen_ring_push(&p->ring))
        return -errno;
    return rc;
}

static void report(const struct xen_ring_request *req)
{
    printf("request gfn=%" PRIx64 " vcpu=%u paused=%d foreign=%d drop=%d evict_fail=%d p2mt=%u nr=%" PRIu64
           "\n",
           req->gfn, req->vcpu_id, !!(req->flags & VM_EVENT_FLAG_VCPU_PAUSED),
           !!(req->flags & VM_EVENT_FLAG_FOREIGN), !!(req->paging_flags & MEM_PAGING_DROP_PAGE),
           !!(req->paging_flags & MEM_PAGING_EVICT_FAIL), req->p2mt, req->nr);
}

static int drain(struct pagectl *p)
{
    struct xen_ring_request req;

    while (p->held_count < MAX_HELD && xen_ring_next(&p->ring, &req)) {
        p->requests++;
        p->foreign += !!(req.flags & VM_EVENT_FLAG_FOREIGN);
        if (req.paging_flags & MEM_PAGING_DROP_PAGE) {
            p->drops++;
            absent_pages_set(&p->pages, req.gfn, GFN_DROPPED);
        }
        if (!p->quiet)
            report(&req);
        p->held[p->held_count++] = req;
    }
    return p->hold ? 0 : answer_held(p, p->held_count);
}

/* Evict up to EVICT_BATCH gfns from first on, no further than end. Returns how many gfns it looked at. */
static unsigned int evict_batch(struct pagectl *p, uint64_t first, uint64_t end, uint64_t *evicted)
{
    xen_pfn_t pfns[EVICT_BATCH];
    int err[EVICT_BATCH];
    unsigned int looked = 0, n = 0;
    char *at;

    for (; looked < EVICT_BATCH && first + looked < end; looked++) {
        uint64_t gfn = first + looked;
        enum gfn_state state = absent_pages_state(&p->pages, gfn);

        if (state != GFN_ABSENT && state != GFN_KEPT && gfn < p->pages.count &&
            xc_mem_paging_nominate(p->xch, p->domid, gfn) == 0)
            pfns[n++] = gfn;
    }
    if (!n)
        return looked;
    at = xenforeignmemory_map(p->fmem, p->domid, PROT_READ, n, pfns, err);
    for (unsigned int i = 0; at && i < n; i++)
        if (err[i] || absent_pages_save(&p->pages, pfns[i], at + i * (size_t)GUEST_PAGE_SIZE))
            pfns[i] = UINT64_MAX;
    if (at)
        xenforeignmemory_unmap(p->fmem, at, n);
    for (unsigned int i = 0; at && i < n; i++) {
        if (pfns[i] == UINT64_MAX)
            continue;
        if (xc_mem_paging_evict(p->xch, p->domid, pfns[i])) {
            absent_pages_set(&p->pages, pfns[i], GFN_PRESENT);
        } else {
            absent_pages_set(&p->pages, pfns[i], GFN_ABSENT);
            ++*evicted;
        }
    }
    return looked;
}

static void evict(struct pagectl *p, uint64_t first, uint64_t end)
{
    uint64_t evicted = 0;

    for (uint64_t gfn = first; gfn < end;)
        gfn += evict_batch(p, gfn, end, &evicted);
    printf("evicted %" PRIu64 "\n", evicted);
}

static int install_all(struct pagectl *p)
{
    uint64_t installed = 0;
    int rc = 0;

    for (uint64_t gfn = 0; gfn < p->pages.count; gfn++) {
        if (absent_pages_state(&p->pages, gfn) != GFN_ABSENT)
            continue;
        rc = install(p, gfn);
        if (rc && rc != -ENOENT)
            break;
        installed += !rc;
    }
    printf("installed %" PRIu64 "\n", installed);
    return rc == -ENOENT ? 0 : rc;
}

/* NULL with errno if the page is not there. */
static void *map_page(struct pagectl *p, uint64_t gfn, int prot)
{
    xen_pfn_t pfn = gfn;
    int err = 0;
    void *at = xenforeignmemory_map(p->fmem, p->domid, prot, 1, &pfn, &err);

    if (at && err) {
        xenforeignmemory_unmap(p->fmem, at, 1);
        at = NULL;
        errno = -err;
    }
    return at;
}

static int write_word(struct pagectl *p, uint64_t gfn, unsigned int index, uint32_t value)
{
    uint32_t *at = map_page(p, gfn, PROT_READ | PROT_WRITE);

    if (!at)
        return -errno;
    __atomic_store_n(&at[index % (GUEST_PAGE_SIZE / sizeof(*at))], value, __ATOMIC_SEQ_CST);
    xenforeignmemory_unmap(p->fmem, at, 1);
    return 0;
}

/* n words from index on, no further than the page's end. */
static int read_words(struct pagectl *p, uint64_t gfn, unsigned int index, unsigned int n)
{
    const unsigned int words = GUEST_PAGE_SIZE / sizeof(uint32_t);
    uint32_t *at = map_page(p, gfn, PROT_READ);

    if (!at)
        return -errno;
    printf("words gfn=%" PRIx64, gfn);
    for (unsigned int i = index; i < words && i - index < n; i++)
        printf(" %" PRIu32, __atomic_load_n(&at[i], __ATOMIC_SEQ_CST));
    printf("\n");
    xenforeignmemory_unmap(p->fmem, at, 1);
    return 0;
}

/* What a save is told of that gfn, top four bits. */
static int print_type(struct pagectl *p, uint64_t gfn)
{
    xen_pfn_t type = gfn;

    if (xc_get_pfn_type_batch(p->xch, p->domid, 1, &type))
        return -errno;
    printf("type gfn=%" PRIx64 " %lx\n", gfn, type >> XEN_DOMCTL_PFINFO_LTAB_SHIFT);
    return 0;
}

static int print_vcpus(struct pagectl *p)
{
    xc_dominfo_t info;

    if (xc_domain_getinfo(p->xch, p->domid, 1, &info) != 1 || info.domid != p->domid)
        return -ESRCH;
    printf(
        "domain pages=%lu paged=%lu max=%lu paused=%u blocked=%u running=%u shutdown=%u reason=%u dying=%u\n",
        info.nr_pages, info.nr_paged_pages, info.max_memkb / 4, info.paused, info.blocked, info.running,
        info.shutdown, info.shutdown_reason, info.dying);
    for (unsigned int v = 0; v <= info.max_vcpu_id; v++) {
        xc_vcpuinfo_t vcpu;

        if (xc_vcpu_getinfo(p->xch, p->domid, v, &vcpu) == 0)
            printf("vcpu %u online=%u blocked=%u running=%u cpu_ns=%" PRIu64 "\n", v, vcpu.online,
                   vcpu.blocked, vcpu.running, vcpu.cpu_time);
    }
    return 0;
}

static int print_stats(struct pagectl *p)
{
    printf("stats requests=%" PRIu64 " foreign=%" PRIu64 " drops=%" PRIu64 " lost_drops=%" PRIu64
           " held=%u slots=%u absent=%" PRIu64 " dropped=%" PRIu64 "\n",
           p->requests, p->foreign, p->drops, p->lost_drops, p->held_count, xen_ring_slots(&p->ring),
           absent_pages_count(&p->pages, GFN_ABSENT), absent_pages_count(&p->pages, GFN_DROPPED));
    return 0;
}

/* As the toolstack does it: an extent populated, whatever there is, and pages taken away. */
static int fill(struct pagectl *p, uint64_t gfn, unsigned int order)
{
    xen_pfn_t pfn = gfn;

    return xc_domain_populate_physmap_exact(p->xch, p->domid, 1, order, 0, &pfn) ? -errno : 0;
}

static int empty(struct pagectl *p, uint64_t gfn, uint64_t end)
{
    for (; gfn < end; gfn++) {
        xen_pfn_t pfn = gfn;

        if (xc_domain_decrease_reservation_exact(p->xch, p->domid, 1, 0, &pfn))
            return -errno;
    }
    return 0;
}

/* One page at a time: a user of it besides the domain. */
static int keep_mapped(struct pagectl *p, uint64_t gfn)
{
    if (p->mapped)
        return -EBUSY;
    p->mapped = map_page(p, gfn, PROT_READ);
    return p->mapped ? 0 : -errno;
}

static int unmap(struct pagectl *p)
{
    if (p->mapped)
        xenforeignmemory_unmap(p->fmem, p->mapped, 1);
    p->mapped = NULL;
    return 0;
}

static int detach(struct pagectl *p, bool keep_page)
{
    if (xen_ring_detach(&p->ring, keep_page))
        return -errno;
    p->attached = false;
    return 0;
}

/* p->ring stays what it is if this fails. */
static int attach_ring(struct pagectl *p, enum xen_ring_step *failed)
{
    struct xen_ring ring;
    int rc = p->how.frames ? xen_ring_attach_frames(&ring, p->xch, p->fmem, p->xce, &p->ops, &p->how, failed)
                           : xen_ring_attach(&ring, p->xch, p->fmem, p->xce, p->domid, failed);

    if (rc)
        return rc;
    p->ring = ring;
    /* What came to a resource before the event channel was bound made no event. */
    return p->how.frames ? drain(p) : 0;
}

/* As another pager after the death of this one, except for knowing what is absent. */
static int attach_again(struct pagectl *p)
{
    p->how.again = true;
    if (attach_ring(p, NULL))
        return -errno;
    p->attached = true;
    return 0;
}

static int abandon(struct pagectl *p)
{
    xen_ring_abandon(&p->ring);
    p->attached = false;
    p->held_count = 0;
    return 0;
}

/* Returns 0, a negative errno, or 1 for a command that does not exist. */
static int command(struct pagectl *p, const char *line)
{
    uint64_t gfn, end;
    uint32_t value;
    unsigned int n;
    int rc, ioctl_errno;

    /* `all` before a gfn: its a is a digit */
    if (sscanf(line, "evict %" SCNx64 " %" SCNx64, &gfn, &end) == 2) {
        evict(p, gfn, end);
        return 0;
    }
    if (strcmp(line, "evict all") == 0) {
        evict(p, 0, p->pages.count);
        return 0;
    }
    if (sscanf(line, "evict %" SCNx64, &gfn) == 1) {
        evict(p, gfn, gfn + 1);
        return 0;
    }
    if (sscanf(line, "keep %" SCNx64, &gfn) == 1) {
        absent_pages_set(&p->pages, gfn, GFN_KEPT);
        return 0;
    }
    if (sscanf(line, "nominate %" SCNx64, &gfn) == 1)
        return xc_mem_paging_nominate(p->xch, p->domid, gfn) ? -errno : 0;
    if (strcmp(line, "hold") == 0) {
        p->hold = true;
        return 0;
    }
    if (strcmp(line, "release") == 0) {
        p->hold = false;
        return answer_held(p, p->held_count);
    }
    if (sscanf(line, "answer %u", &n) == 1)
        return answer_held(p, n);
    if (strcmp(line, "install all") == 0)
        return install_all(p);
    if (sscanf(line, "install %" SCNx64, &gfn) == 1)
        return install(p, gfn);
    if (sscanf(line, "foreign %" SCNx64, &gfn) == 1) {
        rc = foreign_probe(p->domid, gfn, &ioctl_errno);
        printf("foreign gfn=%" PRIx64 " err=%d ioctl=%d\n", gfn, rc, ioctl_errno);
        return 0;
    }
    if (sscanf(line, "type %" SCNx64, &gfn) == 1)
        return print_type(p, gfn);
    if (sscanf(line, "read %" SCNx64 " %u %u", &gfn, &n, &value) == 3)
        return read_words(p, gfn, n, value);
    if (sscanf(line, "write %" SCNx64 " %u %" SCNu32, &gfn, &n, &value) == 3)
        return write_word(p, gfn, n, value);
    if (sscanf(line, "param %u %" SCNu32, &n, &value) == 2)
        return xc_hvm_param_set(p->xch, p->domid, n, value) ? -errno : 0;
    if (sscanf(line, "mark %" SCNx64 " %" SCNx64, &gfn, &end) == 2 && gfn < end)
        return batch_mark(&p->ops, p->fmem, &p->pages, gfn, end);
    if (sscanf(line, "prep %" SCNx64 " %" SCNx64, &gfn, &end) == 2 && gfn < end)
        return batch_prep(&p->ops, &p->pages, gfn, end);
    if (sscanf(line, "prep2m %" SCNx64, &gfn) == 1)
        return batch_prep_superpage(&p->ops, &p->pages, gfn);
    if (sscanf(line, "collapse %" SCNx64, &gfn) == 1)
        return batch_collapse(&p->ops, gfn);
    if (sscanf(line, "fill %" SCNx64 " %u", &gfn, &n) == 2)
        return fill(p, gfn, n);
    if (sscanf(line, "empty %" SCNx64 " %" SCNx64, &gfn, &end) == 2)
        return empty(p, gfn, end);
    if (strcmp(line, "ringstats") == 0)
        return batch_ring_stats(&p->ops);
    if (strcmp(line, "quiet") == 0 || strcmp(line, "verbose") == 0) {
        p->quiet = line[0] == 'q';
        return 0;
    }
    if (strcmp(line, "vcpus") == 0)
        return print_vcpus(p);
    if (strcmp(line, "stats") == 0)
        return print_stats(p);
    if (strcmp(line, "detach") == 0)
        return detach(p, true);
    if (strcmp(line, "abandon") == 0)
        return abandon(p);
    if (strcmp(line, "again") == 0)
        return attach_again(p);
    if (sscanf(line, "map %" SCNx64, &gfn) == 1)
        return keep_mapped(p, gfn);
    if (strcmp(line, "unmap") == 0)
        return unmap(p);
    return 1;
}

static void obey(struct pagectl *p, const char *line)
{
    int rc = command(p, line);

    if (rc == 0)
        printf("ok %s\n", line);
    else
        printf("error %s: %s\n", line, rc > 0 ? "no such command" : strerror(-rc));
}

/* Until end of file on stdin. Returns the process's exit status. */
static int serve(struct pagectl *p)
{
    static char buffer[4096];
    size_t used = 0;

    for (;;) {
        struct pollfd fds[2] = {
            {.fd = STDIN_FILENO, .events = POLLIN},
            {.fd = p->attached ? xenevtchn_fd(p->xce) : -1, .events = POLLIN},
        };

        fflush(stdout);
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return 1;
        if (fds[1].revents) {
            int rc = xen_ring_ack_event(&p->ring) ? -errno : drain(p);

            if (rc)
                printf("error ring: %s\n", strerror(-rc));
        }
        if (fds[0].revents) {
            ssize_t n = read(STDIN_FILENO, buffer + used, sizeof(buffer) - 1 - used);
            char *end;

            if (n <= 0)
                return n < 0;
            used += (size_t)n;
            buffer[used] = '\0';
            while ((end = strchr(buffer, '\n'))) {
                *end = '\0';
                obey(p, buffer);
                used -= (size_t)(end + 1 - buffer);
                memmove(buffer, end + 1, used + 1);
            }
            if (used == sizeof(buffer) - 1)
                return 1;
        }
    }
}

static int attach(struct pagectl *p)
{
    xen_pfn_t max_gfn;
    enum xen_ring_step failed;

    p->xch = xc_interface_open(NULL, NULL, 0);
    p->fmem = xenforeignmemory_open(NULL, 0);
    p->xce = xenevtchn_open(NULL, 0);
    if (!p->xch || !p->fmem || !p->xce) {
        perror("opening the Xen interfaces");
        return -1;
    }
    if (xc_domain_maximum_gpfn(p->xch, p->domid, &max_gfn) < 0 || absent_pages_init(&p->pages, max_gfn + 1)) {
        perror("size of the domain");
        return -1;
    }
    if (paging_ops_open(&p->ops, p->domid, BATCH_SLOTS)) {
        perror("opening libxencall");
        return -1;
    }
    if (attach_ring(p, &failed)) {
        fprintf(stderr, "%s: %s\n", xen_ring_step_text(failed), xen_ring_enable_hint(errno));
        return -1;
    }
    p->attached = true;
    if (!p->how.frames)
        absent_pages_set(&p->pages, p->ring.ring_gfn, GFN_KEPT);
    printf("attached slots=%u gfns=%" PRIu64 "\n", xen_ring_slots(&p->ring), p->pages.count);
    return 0;
}

int main(int argc, char **argv)
{
    static struct pagectl p;
    int status;

    if (argc < 2 || argc > 5 || argc == 4) {
        fprintf(stderr, "usage: pagectl DOMID [FRAMES [RANGE_TARGET RANGE_FOREIGN]]\n");
        return 2;
    }
    p.domid = (uint32_t)strtoul(argv[1], NULL, 0);
    p.how.frames = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 0) : 0;
    p.how.range_target = argc > 4 ? (uint16_t)strtoul(argv[3], NULL, 0) : 0;
    p.how.range_foreign = argc > 4 ? (uint16_t)strtoul(argv[4], NULL, 0) : 0;
    if (attach(&p))
        return 1;
    status = serve(&p);
    /* Whoever closes our stdin leaves the domain to its fate; a mapping of ours would make a zombie of it. */
    if (p.attached)
        xen_ring_abandon(&p.ring);
    absent_pages_free(&p.pages);
    return status;
}
