/*
 * A domain's post-copy stream, made by xc_domain_save() and taken by xc_domain_restore() on the same host, so
 * that source and destination can be looked at side by side. No libxl, no pager: the destination never runs.
 *     movectl [-t] DOMID PASSES STREAM [COMMAND]
 * PASSES pre-copy passes; COMMAND is run (sh -c) after the first question of the policy that follows the last
 * pass. STREAM is where the stream is left. -t: as on a Xen that cannot tell all pages at once
 * (XENMEM_paging_op_populated), only the type of each. The domain stays suspended. Lines of the result begin
 * with `move `; broken streams made of the good one follow, a line `broken NAME rc=RC` each.
 */
#include <dlfcn.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <xenctrl.h>
#include <xenguest.h>
#include <xen/hvm/params.h>
#include <xenforeignmemory.h>

/* exported, not declared (as Debian's headers do) */
int xc_get_pfn_type_batch(xc_interface *xch, uint32_t dom, unsigned int num, xen_pfn_t *arr);
int xc_mem_paging_populated(xc_interface *xch, uint32_t domid, uint64_t first, uint32_t nr, uint8_t *bitmap);

#define PAGE  4096U
#define BATCH 1024U

static xc_interface *xch;
static xenforeignmemory_handle *fmem;
static uint32_t source;
static unsigned int passes;
static const char *command;
static unsigned int questions;
static bool suspended, by_type;
static unsigned int type_calls, populated_calls; /* of xc_domain_save() while the domain is suspended */
static uint64_t logdirty_before_suspend, stopped_at;
static uint64_t *early; /* the set, as it was named before the suspend */
static size_t early_len;
static int early_fd, back = -1;

/* To the pages named early, on the back channel. */
struct answer {
    uint32_t type, length;
};

/* In libxenctrl's place for libxenguest. */
int xc_get_pfn_type_batch(xc_interface *handle, uint32_t domid, unsigned int num, xen_pfn_t *types)
{
    int (*real)(xc_interface *, uint32_t, unsigned int, xen_pfn_t *) =
        dlsym(RTLD_NEXT, "xc_get_pfn_type_batch");

    type_calls += suspended;
    return real(handle, domid, num, types);
}

int xc_mem_paging_populated(xc_interface *handle, uint32_t domid, uint64_t first, uint32_t nr,
                            uint8_t *bitmap)
{
    int (*real)(xc_interface *, uint32_t, uint64_t, uint32_t, uint8_t *) =
        dlsym(RTLD_NEXT, "xc_mem_paging_populated");

    populated_calls += suspended;
    if (!by_type)
        return real(handle, domid, first, nr, bitmap);
    errno = ENODEV;
    return -1;
}

static uint64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static bool logdirty(void)
{
    /* it cannot be switched on twice */
    if (xc_shadow_control(xch, source, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, NULL, 0))
        return true;
    if (xc_shadow_control(xch, source, XEN_DOMCTL_SHADOW_OP_OFF, NULL, 0))
        err(1, "switching log-dirty mode off");
    return false;
}

static int policy(struct precopy_stats stats, void *data)
{
    (void)data;
    questions++;
    if (stats.iteration < passes)
        return XGS_POLICY_CONTINUE_PRECOPY;
    if (command && system(command))
        return XGS_POLICY_ABORT;
    command = NULL;
    return XGS_POLICY_POSTCOPY;
}

static int suspend(void *data)
{
    char text[120];
    xc_dominfo_t info;

    (void)data;
    logdirty_before_suspend = logdirty();
    snprintf(text, sizeof(text), "xenstore-write /local/domain/%u/control/shutdown suspend", source);
    if (system(text))
        return 0;
    for (int i = 0; i < 3000; i++) {
        if (xc_domain_getinfo(xch, source, 1, &info) != 1 || info.domid != source)
            return 0;
        stopped_at = now_us();
        if (info.shutdown)
            return suspended = info.shutdown_reason == SHUTDOWN_suspend;
        usleep(20000);
    }
    return 0;
}

static int qemu_logdirty(uint32_t domid, unsigned int enable, void *data)
{
    (void)domid, (void)enable, (void)data;
    return 0;
}

static uint32_t new_domain(const xc_dominfo_t *like)
{
    struct xen_domctl_createdomain config = {
        .flags = XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap,
        .max_vcpus = like->max_vcpu_id + 1,
        .max_evtchn_port = -1,
        .max_grant_frames = 64,
        .max_maptrack_frames = 64,
        .grant_opts = XEN_DOMCTL_GRANT_version(2),
        .arch = like->arch_config,
    };
    uint32_t domid = 0;

    if (xc_domain_create(xch, &domid, &config))
        err(1, "xc_domain_create");
    if (xc_domain_max_vcpus(xch, domid, like->max_vcpu_id + 1) ||
        xc_domain_setmaxmem(xch, domid, like->max_memkb) || xc_set_paging_mempool_size(xch, domid, 8 << 20))
        err(1, "memory of the new domain");
    return domid;
}

/* The destination's part before the source is suspended: the set file has what is likely to be in it. */
static int named_early(void *data)
{
    struct stat st;

    (void)data;
    if (early || fcntl(early_fd, F_GET_SEALS) || fstat(early_fd, &st))
        return 0;
    early_len = (size_t)st.st_size;
    early = malloc(early_len);
    return early && pread(early_fd, early, early_len, 0) == st.st_size;
}

static int restore(uint32_t domid, int stream, int set_fd, bool good)
{
    struct restore_callbacks callbacks = {.postcopy_set_fd = set_fd,
                                          .postcopy_early = good ? named_early : NULL};
    unsigned long store = 0, console = 0;
    int store_port = xc_evtchn_alloc_unbound(xch, domid, 0),
        console_port = xc_evtchn_alloc_unbound(xch, domid, 0);

    if (store_port < 0 || console_port < 0)
        err(1, "event channels");
    lseek(stream, 0, SEEK_SET);
    return xc_domain_restore(xch, stream, domid, (unsigned int)store_port, &store, 0,
                             (unsigned int)console_port, &console, 0, XC_STREAM_PLAIN, &callbacks, back);
}

static bool in_set(const uint64_t *set, uint64_t pfn)
{
    return pfn < set[1] && (set[3 + pfn / 64] >> (pfn % 64) & 1);
}

static void compare_early(const uint64_t *set, xen_pfn_t nr_pfns)
{
    const struct answer expected = {.type = 0x15};
    struct answer answer;
    uint64_t gone = 0, come = 0;

    for (uint64_t pfn = 0; early && pfn < nr_pfns; pfn++) {
        gone += in_set(early, pfn) && !in_set(set, pfn);
        come += !in_set(early, pfn) && in_set(set, pfn);
    }
    printf("move early named=%" PRIu64 " gone=%" PRIu64 " come=%" PRIu64 " answered=%d\n",
           early ? early[2] : 0, gone, come,
           lseek(back, 0, SEEK_END) == (off_t)sizeof(answer) &&
               pread(back, &answer, sizeof(answer), 0) == (ssize_t)sizeof(answer) &&
               !memcmp(&answer, &expected, sizeof(answer)));
}

static uint8_t *contents(int fd, size_t *len)
{
    struct stat st;
    void *at;

    if (fstat(fd, &st))
        err(1, "fstat");
    *len = (size_t)st.st_size;
    at = mmap(NULL, *len, PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        err(1, "mmap");
    return at;
}

static void types_of(uint32_t domid, uint64_t first, unsigned int n, xen_pfn_t *types)
{
    for (unsigned int i = 0; i < n; i++)
        types[i] = first + i;
    if (xc_get_pfn_type_batch(xch, domid, n, types))
        err(1, "types of pages of domain %u", domid);
}

/* The pages of a batch which are wanted; NULL if there are none. */
static const uint8_t *look(uint32_t domid, const xen_pfn_t *pfns, unsigned int n)
{
    int errors[BATCH];
    const uint8_t *at = n ? xenforeignmemory_map(fmem, domid, PROT_READ, n, pfns, errors) : NULL;

    if (n && !at)
        err(1, "mapping pages of domain %u", domid);
    for (unsigned int i = 0; i < n; i++)
        if (errors[i])
            errx(1, "domain %u: pfn %lx cannot be mapped: %s", domid, pfns[i], strerror(errors[i]));
    return at;
}

static uint64_t different(uint32_t target, const xen_pfn_t *pfns, unsigned int n)
{
    const uint8_t *a = look(source, pfns, n), *b = look(target, pfns, n);
    uint64_t wrong = 0;

    for (unsigned int i = 0; i < n; i++)
        if (memcmp(a + (size_t)i * PAGE, b + (size_t)i * PAGE, PAGE)) {
            printf("move wrong: contents of %lx\n", pfns[i]);
            wrong++;
        }
    if (n) {
        xenforeignmemory_unmap(fmem, (void *)a, n);
        xenforeignmemory_unmap(fmem, (void *)b, n);
    }
    return wrong;
}

/* Every pfn of both: what has not been left behind is the same. */
static void compare(uint32_t target, const uint64_t *set, xen_pfn_t nr_pfns)
{
    uint64_t outstanding = 0, same = 0, wrong = 0, populated = 0, stale = 0, cleared[2];

    if (xc_hvm_param_get(xch, source, HVM_PARAM_STORE_PFN, &cleared[0]) ||
        xc_hvm_param_get(xch, source, HVM_PARAM_CONSOLE_PFN, &cleared[1]))
        err(1, "HVM params");
    for (uint64_t pfn = 0; pfn < nr_pfns; pfn += BATCH) {
        xen_pfn_t from[BATCH], to[BATCH], there[BATCH];
        unsigned int n = 0;
        uint64_t differ;

        types_of(source, pfn, BATCH, from);
        types_of(target, pfn, BATCH, to);
        for (unsigned int i = 0; i < BATCH; i++) {
            uint64_t p = pfn + i;
            bool left = in_set(set, p);

            populated += !from[i];
            if (left) {
                outstanding++;
                stale += !to[i];
                wrong += !!from[i];
                if (from[i])
                    printf("move wrong: %" PRIx64 " is outstanding, but nothing is there\n", p);
                continue;
            }
            if (from[i] != to[i]) {
                printf("move wrong: %" PRIx64 " is of type %lx, and %lx there\n", p, from[i], to[i]);
                wrong++;
            } else if (!from[i] && p != cleared[0] && p != cleared[1]) {
                there[n++] = p;
            }
        }
        differ = different(target, there, n);
        same += n - differ;
        wrong += differ;
    }
    if (outstanding != set[2])
        wrong++;
    printf("move result populated=%" PRIu64 " outstanding=%" PRIu64 " stale=%" PRIu64 " same=%" PRIu64
           " wrong=%" PRIu64 "\n",
           populated, outstanding, stale, same, wrong);
}

static uint32_t word(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return value;
}

static size_t record_len(const uint8_t *at)
{
    return 8 + ((word(at + 4) + 7) & ~7U);
}

enum broken {
    NO_SET,
    NO_BEGIN,
    TWO_BEGINS,
    TWICE,
    PAGES_AFTER,
    NEVER_THERE,
    TOO_MANY,
    TOO_FAR,
    CUT,
    PLAIN,
    EARLY_TWICE,
    EARLY_LATE,
    EARLY_GONE,
    EARLY_TOO_FAR,
    OLD,
    BROKEN_KINDS
};
static const char *const broken_name[] = {
    "no-set", "no-begin", "two-begins",  "twice",      "pages-after", "never-there",   "too-many", "too-far",
    "cut",    "plain",    "early-twice", "early-late", "early-gone",  "early-too-far", "old"};

static void put(int fd, const void *data, size_t len)
{
    if (write(fd, data, len) != (ssize_t)len)
        err(1, "write");
}

static void put_record(int fd, uint32_t rec_type, uint32_t type, uint64_t pfn, uint64_t nr)
{
    const struct {
        uint32_t rec_type, length, type, format;
        uint64_t first, count, pfn, nr;
    } rec = {rec_type, 40, type, 0, pfn, nr, pfn, nr};

    put(fd, &rec, sizeof(rec));
}

static void put_run(int fd, uint32_t type, uint64_t pfn, uint64_t nr)
{
    put_record(fd, 0x14, type, pfn, nr);
}

/* The good stream with one thing wrong. */
static void break_stream(int out, const uint8_t *good, size_t len, enum broken kind)
{
    const uint8_t *pages = NULL;

    put(out, good, 24 + 16);
    for (size_t at = 40, n; at + 8 <= len; at += n) {
        uint32_t type = word(good + at);

        n = record_len(good + at);
        if (type == 1 && !pages)
            pages = good + at;
        if (kind == NO_BEGIN && type == 0x13)
            continue;
        /* What a plain migration would send. */
        if (kind == PLAIN && (type == 0x13 || type == 0x14 || type == 0x15))
            continue;
        /* What was sent before there were such records: not broken. */
        if (kind == OLD && type == 0x15)
            continue;
        /* Without content: the end of the set. */
        if (type == 0x15 && n == 8) {
            if (kind == EARLY_GONE)
                put_record(out, 0x15, 0xf, 0xff000, 1);
            if (kind == EARLY_TOO_FAR)
                put_record(out, 0x15, 0, 1ULL << 39, 1);
        }
        if (kind == CUT && type == 0x14) {
            put(out, good + at, n - 8);
            return;
        }
        if (type == 8) { /* TSC_INFO: after the last POSTCOPY_PFNS */
            if (kind == NEVER_THERE)
                put_run(out, 0xf, 0xff000, 1);
            if (kind == TOO_MANY)
                put_run(out, 0, 0x1000000, 0x1000000);
            if (kind == TOO_FAR)
                put_run(out, 0, 1ULL << 39, 1);
            if (kind == EARLY_LATE)
                put_record(out, 0x15, 0, 0xff000, 1);
        }
        put(out, good + at, n);
        if ((kind == TWO_BEGINS && type == 0x13) || (kind == TWICE && type == 0x14) ||
            (kind == EARLY_TWICE && type == 0x15 && n == 8))
            put(out, good + at, n);
        if (kind == PAGES_AFTER && type == 0x14 && pages)
            put(out, pages, record_len(pages));
    }
}

static void try_broken(const xc_dominfo_t *like, const uint8_t *good, size_t len)
{
    for (enum broken kind = 0; kind < BROKEN_KINDS; kind++) {
        int stream = memfd_create("stream", 0), set = memfd_create("set", MFD_ALLOW_SEALING);
        uint32_t domid = new_domain(like);
        int rc;

        break_stream(stream, good, len, kind);
        printf("trying %s\n", broken_name[kind]);
        fflush(stdout);
        rc = restore(domid, stream, kind == NO_SET ? 0 : set, false);
        printf("broken %s rc=%d sealed=%d\n", broken_name[kind], rc, fcntl(set, F_GET_SEALS) != 0);
        xc_domain_destroy(xch, domid);
        close(stream);
        close(set);
    }
}

int main(int argc, char **argv)
{
    xentoollog_logger *logger =
        (xentoollog_logger *)xtl_createlogger_stdiostream(stdout, XTL_DETAIL, XTL_STDIOSTREAM_HIDE_PROGRESS);
    struct save_callbacks callbacks = {
        .suspend = suspend, .precopy_policy = policy, .switch_qemu_logdirty = qemu_logdirty};
    int stream, from = memfd_create("from", MFD_ALLOW_SEALING), to = memfd_create("to", MFD_ALLOW_SEALING);
    const struct answer yes = {.type = 0x15};
    size_t len, from_len, to_len;
    const uint8_t *from_set, *to_set, *good;
    xc_dominfo_t info;
    xen_pfn_t nr_pfns;
    uint32_t target;
    int rc;

    if (argc > 1 && !strcmp(argv[1], "-t")) {
        by_type = true;
        argv++;
        argc--;
    }
    if (argc < 4)
        errx(2, "usage: movectl [-t] DOMID PASSES STREAM [COMMAND]");
    source = (uint32_t)atoi(argv[1]);
    passes = (unsigned int)atoi(argv[2]);
    command = argc > 4 ? argv[4] : NULL;
    xch = xc_interface_open(logger, logger, 0);
    fmem = xenforeignmemory_open(logger, 0);
    stream = open(argv[3], O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (!xch || !fmem || stream < 0 || from < 0 || to < 0)
        err(1, "opening");
    if (xc_domain_getinfo(xch, source, 1, &info) != 1 || info.domid != source)
        errx(1, "no domain %u", source);

    callbacks.postcopy_set_fd = from;
    /* The answer that the destination will give is there already: the stream is not read before it is whole.
     */
    early_fd = to;
    back = memfd_create("back", 0);
    if (back < 0 || pwrite(back, &yes, sizeof(yes), 0) != (ssize_t)sizeof(yes))
        err(1, "back channel");
    rc = xc_domain_save(xch, stream, source, XCFLAGS_LIVE, &callbacks, XC_STREAM_PLAIN, back);
    if (rc)
        err(1, "xc_domain_save: %d", rc);
    stopped_at = now_us() - stopped_at;
    good = contents(stream, &len);
    printf("move saved bytes=%zu questions=%u logdirty=%" PRIu64 " suspended=%d stop_us=%" PRIu64
           " type_calls=%u populated_calls=%u\n",
           len, questions, logdirty_before_suspend, suspended, stopped_at, type_calls, populated_calls);
    fflush(stdout);

    target = new_domain(&info);
    if (ftruncate(back, 0) || lseek(back, 0, SEEK_SET))
        err(1, "back channel");
    rc = restore(target, stream, to, true);
    if (rc)
        err(1, "xc_domain_restore: %d", rc);
    from_set = contents(from, &from_len);
    to_set = contents(to, &to_len);
    printf("move sets %s sealed=%x,%x\n",
           from_len == to_len && !memcmp(from_set, to_set, to_len) ? "equal" : "differ",
           fcntl(from, F_GET_SEALS), fcntl(to, F_GET_SEALS));
    if (xc_domain_nr_gpfns(xch, source, &nr_pfns) < 0)
        err(1, "size of the domain");
    compare_early((const uint64_t *)(const void *)to_set, nr_pfns);
    compare(target, (const uint64_t *)(const void *)to_set, nr_pfns);
    xc_domain_destroy(xch, target);
    fflush(stdout);
    if (!passes)
        try_broken(&info, good, len);
    printf("move done\n");
    return 0;
}
