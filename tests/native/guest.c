/*
 * The guest of the native bench: memory under userfaultfd, and threads as vcpus that touch it. Says on
 * stdout, a line of JSON each: {"ready"} when a pager may come, {"ran"} with all figures when its vcpus are
 * done; and when a line comes on stdin, or its end, {"swept"}: what all of memory holds then, whether or not
 * it was touched.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "contents.h"
#include "number.h"
#include "vcpu.h"

struct guest {
    const char *socket;
    uint64_t mib, vcpus;
    uint64_t rate; /* touches a second of all vcpus together; 0: as fast as it goes */
    uint64_t touches;
    struct workload workload;
    int fd[NATIVE_FDS];
    int listener;
    uint8_t *memory;
    size_t bytes;
    struct vcpu vcpu[NATIVE_VCPUS];
};

static void usage(void)
{
    fprintf(stderr,
            "Usage: native-guest --socket PATH [--mib N] [--vcpus N] [--workload random|seq|streams16|zipf]\n"
            "           [--rate TOUCHES_A_SECOND] [--touches N] [--zero PERCENT] [--seed N]\n");
    exit(2);
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void say(json_t *report)
{
    json_dumpf(report, stdout, JSON_COMPACT);
    puts("");
    fflush(stdout);
    json_decref(report);
}

static void open_uffd(struct guest *g)
{
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_THREAD_ID};

    g->fd[NATIVE_UFFD] = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (g->fd[NATIVE_UFFD] < 0 || ioctl(g->fd[NATIVE_UFFD], UFFDIO_API, &api))
        die("userfaultfd");
}

static void set_up(struct guest *g)
{
    struct native_shared *shared;

    g->bytes = (size_t)g->mib << 20;
    open_uffd(g);
    g->fd[NATIVE_PAGEMAP] = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    g->fd[NATIVE_MEMORY] = memfd_create("native-shared", MFD_CLOEXEC);
    if (g->fd[NATIVE_PAGEMAP] < 0 || g->fd[NATIVE_MEMORY] < 0 ||
        ftruncate(g->fd[NATIVE_MEMORY], sizeof(*shared)))
        die("what pagers need");
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, g->fd[NATIVE_MEMORY], 0);
    g->memory =
        mmap(NULL, g->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    g->workload.touched = calloc(g->bytes / NATIVE_PAGE, 1);
    if (shared == MAP_FAILED || g->memory == MAP_FAILED || !g->workload.touched)
        die("memory");
    /* Absent is absent by the page. */
    madvise(g->memory, g->bytes, MADV_NOHUGEPAGE);
    shared->base = (uint64_t)(uintptr_t)g->memory;
    shared->pages = g->bytes / NATIVE_PAGE;
    shared->vcpus = (unsigned int)g->vcpus;
    shared->pauses = 1;
    g->workload.shared = shared;
}

static void *answer(void *data)
{
    struct guest *g = data;

    native_answer(g->listener, g->fd);
    return NULL;
}

static void start_threads(struct guest *g)
{
    pthread_t pagers;

    if (g->rate)
        g->workload.pace_ns = g->vcpus * UINT64_C(1000000000) / g->rate;
    g->workload.touches = (g->touches + g->vcpus - 1) / g->vcpus;
    for (unsigned int i = 0; i < g->vcpus; i++) {
        g->vcpu[i].workload = &g->workload;
        g->vcpu[i].number = i;
        if (pthread_create(&g->vcpu[i].thread, NULL, vcpu_main, &g->vcpu[i]))
            die("thread");
    }
    g->listener = native_listen(g->socket);
    if (g->listener < 0 || pthread_create(&pagers, NULL, answer, g))
        die(g->socket);
    say(json_pack("{s:b}", "ready", 1));
}

static void await_vcpus(struct guest *g)
{
    struct vcpu sum = {.started_ns = UINT64_MAX};

    for (unsigned int i = 0; i < g->vcpus; i++) {
        const struct vcpu *v = &g->vcpu[i];

        pthread_join(v->thread, NULL);
        sum.touches += v->touches;
        if (v->wrong_bytes && !sum.wrong_bytes)
            sum.first_wrong = v->first_wrong;
        sum.wrong_bytes += v->wrong_bytes;
        durations_merge(&sum.first, &v->first);
        durations_merge(&sum.faulted, &v->faulted);
        if (v->started_ns < sum.started_ns)
            sum.started_ns = v->started_ns;
        if (v->ended_ns > sum.ended_ns)
            sum.ended_ns = v->ended_ns;
    }
    say(json_pack("{s:b, s:s, s:I, s:I, s:I, s:f, s:f, s:f, s:o, s:o}", "ran", 1, "workload",
                  order_names[g->workload.kind], "vcpus", (json_int_t)g->vcpus, "touches",
                  (json_int_t)sum.touches, "wrong_bytes", (json_int_t)sum.wrong_bytes, "started_s",
                  (double)sum.started_ns / 1e9, "ended_s", (double)sum.ended_ns / 1e9, "elapsed_s",
                  (double)(sum.ended_ns - sum.started_ns) / 1e9, "first_touch_us", durations_json(&sum.first),
                  "faulted_us", durations_json(&sum.faulted)));
    if (sum.wrong_bytes)
        fprintf(stderr, "guest: %llu wrong bytes, first in gfn 0x%llx\n", (unsigned long long)sum.wrong_bytes,
                (unsigned long long)sum.first_wrong);
}

/* An absent page would be waited for, or once it is registered no more be a page of zeros: neither is one
 * that came. */
static bool present(struct guest *g, uint64_t gfn)
{
    uint64_t entry, page = (uint64_t)(uintptr_t)g->memory / NATIVE_PAGE + gfn;

    return pread(g->fd[NATIVE_PAGEMAP], &entry, sizeof(entry), (off_t)(page * sizeof(entry))) ==
               sizeof(entry) &&
           entry >> 62;
}

static void sweep(struct guest *g)
{
    uint64_t absent = 0, wrong_pages = 0, wrong_bytes = 0;

    for (uint64_t gfn = 0; gfn < g->bytes / NATIVE_PAGE; gfn++) {
        unsigned int wrong;

        if (!present(g, gfn)) {
            absent++;
            continue;
        }
        wrong = contents_wrong(gfn, g->workload.zero_percent, g->memory + gfn * NATIVE_PAGE);
        wrong_pages += wrong > 0;
        wrong_bytes += wrong;
    }
    say(json_pack("{s:b, s:I, s:I, s:I, s:I}", "swept", 1, "pages", (json_int_t)(g->bytes / NATIVE_PAGE),
                  "absent", (json_int_t)absent, "wrong_pages", (json_int_t)wrong_pages, "wrong_bytes",
                  (json_int_t)wrong_bytes));
}

static enum order_kind kind(const char *name)
{
    for (unsigned int i = 0; i < ORDER_KINDS; i++)
        if (strcmp(name, order_names[i]) == 0)
            return (enum order_kind)i;
    usage();
    return ORDER_KINDS;
}

static uint64_t number(const char *text, uint64_t least, uint64_t most)
{
    uint64_t value;

    if (!native_number(text, least, most, &value))
        usage();
    return value;
}

int main(int argc, char **argv)
{
    static const struct option table[] = {
        {"socket", required_argument, NULL, 's'},
        {"mib", required_argument, NULL, 'm'},
        {"vcpus", required_argument, NULL, 'v'},
        {"workload", required_argument, NULL, 'w'},
        {"rate", required_argument, NULL, 'r'},
        {"touches", required_argument, NULL, 't'},
        {"zero", required_argument, NULL, 'z'},
        {"seed", required_argument, NULL, 'e'},
        {0},
    };
    static struct guest g = {.mib = 64, .vcpus = 1, .workload = {.seed = 1}};
    int option;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (option == 's')
            g.socket = optarg;
        else if (option == 'm')
            g.mib = number(optarg, 1, 1 << 20);
        else if (option == 'v')
            g.vcpus = number(optarg, 1, NATIVE_VCPUS);
        else if (option == 'w')
            g.workload.kind = kind(optarg);
        else if (option == 'r')
            g.rate = number(optarg, 0, 1000000000);
        else if (option == 't')
            g.touches = number(optarg, 0, UINT64_MAX / 2);
        else if (option == 'z')
            g.workload.zero_percent = (unsigned int)number(optarg, 0, 100);
        else if (option == 'e')
            g.workload.seed = number(optarg, 0, UINT64_MAX);
        else
            usage();
    }
    if (!g.socket || optind != argc || (g.workload.kind == ORDER_ZIPF && !g.touches))
        usage();
    set_up(&g);
    start_threads(&g);
    await_vcpus(&g);
    getchar();
    sweep(&g);
    return 0;
}
