#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "core/latency.h"
#include "core/pagein.h"
#include "exit_status.h"
#include "trace.h"

#define VCPUS 4096 /* that waits are known of */

static const char help[] = "Usage: xenpaging-pc trace [OPTION...] FILE\n\n"
                           "Prints what xenpaging-pc receive --trace FILE has recorded: a line for each "
                           "event with seconds since the "
                           "trace began,\n"
                           "event, gfn, who, and the state that the page had before; then a summary.\n\n"
                           "  --summary          the summary alone\n"
                           "  --help             print this\n\n"
                           "Exit status: 0; 1 FILE cannot be read, or is no trace; 2 usage.\n";

struct trace_sums {
    uint64_t events[TRACE_EVENTS], unknown;
    uint64_t absent, under_way; /* faults of vcpus on pages that had not been asked for, and that had */
    uint64_t asked, lost;       /* pages, records */
    uint64_t pushed;            /* arrivals nobody had asked for */
    uint64_t since[VCPUS];      /* + 1: the vcpu waits */
    struct latency waits;
};

static void count_fault(struct trace_sums *sums, const struct trace_record *e)
{
    sums->absent += e->detail == PAGE_ABSENT;
    sums->under_way += e->detail == PAGE_REQUESTED || e->detail == PAGE_ARRIVED;
    if (e->who < VCPUS)
        sums->since[e->who] = e->ns + 1;
}

/* How long the vcpu that is answered has waited; 0: not known. */
static uint64_t count_answer(struct trace_sums *sums, const struct trace_record *e)
{
    uint64_t since, waited;

    if (e->who >= VCPUS || !sums->since[e->who])
        return 0;
    since = sums->since[e->who] - 1;
    sums->since[e->who] = 0;
    waited = e->ns > since ? e->ns - since : 0;
    latency_add(&sums->waits, waited);
    return waited;
}

static uint64_t count(struct trace_sums *sums, const struct trace_record *e)
{
    if (!trace_event_name(e->event)) {
        sums->unknown++;
        return 0;
    }
    sums->events[e->event]++;
    switch (e->event) {
    case TRACE_FAULT:
        count_fault(sums, e);
        return 0;
    case TRACE_ASK:
        sums->asked += e->detail;
        return 0;
    case TRACE_ARRIVAL:
        sums->pushed += e->detail == PAGE_ABSENT;
        return 0;
    case TRACE_LOST:
        sums->lost += e->detail;
        return 0;
    case TRACE_ANSWER:
        return count_answer(sums, e);
    default:
        return 0;
    }
}

static const char *state_name(uint32_t state)
{
    static const char *const names[] = {"kept",    "absent",  "requested", "arrived",
                                        "present", "dropped", "replaced"};

    return state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}

static void print_event(const struct trace_record *e, uint64_t waited_ns)
{
    const char *name = trace_event_name(e->event);

    printf("%" PRIu64 ".%09" PRIu64 " %-8s", e->ns / 1000000000u, e->ns % 1000000000u, name ? name : "?");
    switch (e->event) {
    case TRACE_FAULT:
        printf("0x%-10" PRIx64 " vcpu %u %s", e->gfn, e->who, state_name(e->detail));
        break;
    case TRACE_MAP:
        printf("0x%-10" PRIx64 " dom0 %s", e->gfn, state_name(e->detail));
        break;
    case TRACE_ASK:
        printf("0x%-10" PRIx64 " %" PRIu32 " pages, urgency %u", e->gfn, e->detail, e->who);
        break;
    case TRACE_ANSWER:
        printf("0x%-10" PRIx64, e->gfn);
        if (e->who == TRACE_NOBODY)
            printf(" dom0");
        else
            printf(" vcpu %u waited %.1f us", e->who, (double)waited_ns / 1e3);
        break;
    case TRACE_ARRIVAL:
    case TRACE_DROP:
        printf("0x%-10" PRIx64 " %s", e->gfn, state_name(e->detail));
        break;
    default:
        printf("%" PRIu32, e->detail);
    }
    putchar('\n');
}

static void print_sums(const struct trace_header *header, const struct trace_sums *sums)
{
    const struct latency *w = &sums->waits;

    printf("# domain %s: faults %" PRIu64 " (on absent pages %" PRIu64 ", under way %" PRIu64
           "), maps %" PRIu64 ", asked for %" PRIu64 "\n",
           header->name, sums->events[TRACE_FAULT], sums->absent, sums->under_way, sums->events[TRACE_MAP],
           sums->asked);
    printf("# arrivals %" PRIu64 " (unasked %" PRIu64 "), drops %" PRIu64 ", pagers %" PRIu64
           ", lost events %" PRIu64 ", unknown ones %" PRIu64 "\n",
           sums->events[TRACE_ARRIVAL], sums->pushed, sums->events[TRACE_DROP], sums->events[TRACE_START],
           sums->lost, sums->unknown);
    printf("# waits of vcpus %" PRIu64 ": mean %.1f us, p50 %.1f, p99 %.1f, max %.1f\n", w->count,
           w->count ? (double)w->sum_ns / 1e3 / (double)w->count : 0., (double)latency_quantile(w, 500) / 1e3,
           (double)latency_quantile(w, 990) / 1e3, (double)w->max_ns / 1e3);
}

static int print_trace(const char *path, bool all)
{
    static struct trace_sums sums;
    struct trace_header header;
    struct trace_record e;
    FILE *file = fopen(path, "re");

    if (!file) {
        fprintf(stderr, "xenpaging-pc trace: %s: %s\n", path, strerror(errno));
        return EXIT_FAILED;
    }
    if (trace_read_header(file, &header)) {
        fprintf(stderr, "xenpaging-pc trace: %s is no trace, or not of this version\n", path);
        fclose(file);
        return EXIT_FAILED;
    }
    memset(&sums, 0, sizeof(sums));
    while (trace_read(file, &e)) {
        uint64_t waited = count(&sums, &e);

        if (all)
            print_event(&e, waited);
    }
    fclose(file);
    print_sums(&header, &sums);
    return EXIT_DONE;
}

int cmd_trace(int argc, char **argv)
{
    static const struct option table[] = {
        {"summary", no_argument, NULL, 's'}, {"help", no_argument, NULL, 'h'}, {0}};
    bool all = true;
    int option;

    while ((option = getopt_long(argc, argv, "h", table, NULL)) != -1) {
        switch (option) {
        case 's':
            all = false;
            break;
        case 'h':
            printf("%s", help);
            return EXIT_DONE;
        default:
            return EXIT_USAGE;
        }
    }
    if (argc - optind != 1) {
        fprintf(stderr, "xenpaging-pc trace: which file?; xenpaging-pc trace --help\n");
        return EXIT_USAGE;
    }
    return print_trace(argv[optind], all);
}
