#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { NUMBER, FLAG, STRING, ORDER, HELP };

struct option_row {
    const char *name;
    enum kind kind;
    size_t field;
    uint64_t min, max;
    const char *argument, *help;
};

#define FIELD(name) offsetof(struct options, name)

static const struct option_row rows[] = {
    {"mib", NUMBER, FIELD(mib), 1, 1 << 20, "N", "size of the buffer in MiB (default 64)"},
    {"share", NUMBER, FIELD(share), 1, 90, "PERCENT", "size of the buffer as a share of RAM"},
    {"seed", NUMBER, FIELD(seed), 0, UINT64_MAX, "N", "seed of contents and order (default 1)"},
    {"rate", NUMBER, FIELD(rate), 0, 1000000000, "N",
     "touches per second over all threads, 0 = as fast as possible (default 2000)"},
    {"write-share", NUMBER, FIELD(write_share), 0, 100, "PERCENT", "touches that write (default 50)"},
    {"order", ORDER, FIELD(order), 0, 0, "KIND", "sequential, random (default), strided, zipf"},
    {"stride", NUMBER, FIELD(stride), 1, 1 << 20, "PAGES", "stride of --order strided (default 17)"},
    {"threads", NUMBER, FIELD(threads), 0, 64, "N",
     "threads, each pinned to a CPU, 0 = one per CPU (default 1)"},
    {"same", FLAG, FIELD(same), 0, 0, NULL, "all threads touch the same pages at the same time"},
    {"convoy", NUMBER, FIELD(convoy), 1, 1 << 20, "N",
     "touches between two meetings with --same (default 16)"},
    {"seconds", NUMBER, FIELD(seconds), 0, 1 << 30, "N", "end after N seconds, 0 = run on (default 0)"},
    {"sweep-every", NUMBER, FIELD(sweep_every), 0, 1 << 30, "SECONDS", "verify every page each SECONDS"},
    {"stop-after-sweeps", NUMBER, FIELD(stop_after_sweeps), 0, 1 << 30, "N",
     "end with the Nth sweep, which is made with the workload stopped"},
    {"tick-ms", NUMBER, FIELD(tick_ms), 0, 10000, "MS", "tick every MS milliseconds, 0 = never (default 10)"},
    {"tick-port", NUMBER, FIELD(tick_port), 1, 65535, "PORT", "write ticks to this I/O port (Xen: 0xe9)"},
    {"tick-file", STRING, FIELD(tick_file), 0, 0, "FILE", "write ticks to a file instead"},
    {"tick-per-vcpu", FLAG, FIELD(tick_per_vcpu), 0, 0, NULL, "one ticker per CPU, lines t<cpu>.<seq>"},
    {"tick-reads", NUMBER, FIELD(tick_reads), 0, 1000, "N",
     "pages of the buffer each tick reads (default 1)"},
    {"tick-work", NUMBER, FIELD(tick_work), 0, 10000, "N",
     "every Nth tick carries the touches made so far, 0 = none (default 10)"},
    {"work-file", STRING, FIELD(work_file), 0, 0, "FILE", "ticks carry a number of this file instead"},
    {"work-key", STRING, FIELD(work_key), 0, 0, "TEXT", "the number is the one after this text"},
    {"report-ms", NUMBER, FIELD(report_ms), 100, 60000, "MS", "work report (default 1000)"},
    {"stats-every", NUMBER, FIELD(stats_every), 0, 1 << 30, "SECONDS", "full statistics (default 10)"},
    {"stall-event-ms", NUMBER, FIELD(stall_event_ms), 1, 1 << 30, "MS",
     "report stalls of at least this one by one (default 100)"},
    {"fault-us", NUMBER, FIELD(fault_us), 1, 1 << 30, "US",
     "a first access slower than this counts as a fault (default 200)"},
    {"commands", FLAG, FIELD(commands), 0, 0, NULL, "read commands from stdin: sweep, stats, stop, quit"},
    {"help", HELP, 0, 0, 0, NULL, "this text"},
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

static void help(void)
{
    puts("usage: memwitness [OPTIONS]\n"
         "Works on a buffer whose every byte is known, ticks, and reports JSON lines.\n"
         "Signals: USR1 sweep, USR2 statistics, TERM or INT final sweep and end.\n"
         "Exit status: 0 nothing wrong, 1 wrong bytes were found, 2 could not run.");
    for (size_t i = 0; i < ROWS; i++) {
        char left[40];

        snprintf(left, sizeof(left), "--%s %s", rows[i].name, rows[i].argument ? rows[i].argument : "");
        printf("  %-28s %s\n", left, rows[i].help);
    }
}

static bool parse_number(const struct option_row *row, const char *text, uint64_t *value)
{
    char *end;

    errno = 0;
    *value = strtoull(text, &end, 0);
    if (errno != 0 || end == text || *end != '\0' || *text == '-' || *value < row->min || *value > row->max) {
        fprintf(stderr, "memwitness: --%s %s: a number from %llu to %llu is needed\n", row->name, text,
                (unsigned long long)row->min, (unsigned long long)row->max);
        return false;
    }
    return true;
}

static bool set(struct options *options, const struct option_row *row, const char *text)
{
    char *field = (char *)options + row->field;
    uint64_t number;
    bool on = true;

    switch (row->kind) {
    case NUMBER:
        if (!parse_number(row, text, &number))
            return false;
        memcpy(field, &number, sizeof(number));
        break;
    case FLAG:
        memcpy(field, &on, sizeof(on));
        break;
    case STRING:
        memcpy(field, &text, sizeof(text));
        break;
    case ORDER:
        if (!order_parse(text, &options->order)) {
            fprintf(stderr, "memwitness: --order %s: sequential, random, strided or zipf is needed\n", text);
            return false;
        }
        break;
    case HELP:
        break;
    }
    return true;
}

static bool consistent(const struct options *options)
{
    const char *wrong = NULL;

    if (options->mib != 0 && options->share != 0)
        wrong = "--mib and --share exclude each other";
    else if (options->tick_port != 0 && options->tick_file)
        wrong = "--tick-port and --tick-file exclude each other";
    else if (options->stop_after_sweeps > 1 && options->sweep_every == 0)
        wrong = "--stop-after-sweeps above 1 needs --sweep-every";
    else if (!options->work_file && options->work_key)
        wrong = "--work-key needs --work-file";
    if (wrong)
        fprintf(stderr, "memwitness: %s\n", wrong);
    return !wrong;
}

enum options_result options_parse(int argc, char **argv, struct options *options)
{
    struct option table[ROWS + 1] = {0};
    int index, c;

    *options = (struct options){
        .seed = 1,
        .rate = 2000,
        .write_share = 50,
        .order = ORDER_RANDOM,
        .stride = 17,
        .threads = 1,
        .convoy = 16,
        .tick_ms = 10,
        .tick_reads = 1,
        .tick_work = 10,
        .report_ms = 1000,
        .stats_every = 10,
        .stall_event_ms = 100,
        .fault_us = 200,
    };
    for (size_t i = 0; i < ROWS; i++)
        table[i] = (struct option){rows[i].name, rows[i].argument ? required_argument : no_argument, NULL, 1};
    while ((c = getopt_long(argc, argv, "", table, &index)) != -1) {
        if (c != 1)
            return OPTIONS_WRONG;
        if (rows[index].kind == HELP) {
            help();
            return OPTIONS_HELP;
        }
        if (!set(options, &rows[index], optarg))
            return OPTIONS_WRONG;
    }
    if (optind != argc) {
        fprintf(stderr, "memwitness: %s: no such option\n", argv[optind]);
        return OPTIONS_WRONG;
    }
    if (!consistent(options))
        return OPTIONS_WRONG;
    if (options->mib == 0 && options->share == 0)
        options->mib = 64;
    return OPTIONS_RUN;
}
