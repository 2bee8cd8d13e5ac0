/* What each order of the push is worth to each kind of guest. See usage. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim.h"

static const char usage[] =
    "Usage: order_sim [--touch PERCENT] [--threads N] [--mbit N] [--rtt US] [--mib N] [--widen N] [--seed "
    "N]\n\n"
    "The source's push order against a guest that touches pages, in virtual time. For each workload and "
    "each\n"
    "policy: requests made by faults for each page touched, the mean and the longest stall, the loss area "
    "(the\n"
    "time that all threads together would have had to stand still for the same loss), when everything was\n"
    "there, and 2 MiB regions that came whole.\n\n"
    "  --touch N     pages that the guest touches if it need not wait, in percent of the link's (default "
    "50)\n"
    "  --threads N   of the guest (default 4)\n"
    "  --mbit N      the link (default 1000)\n"
    "  --rtt US      its round trip (default 200)\n"
    "  --mib N       memory (default 128)\n"
    "  --widen N     a fault asks for the rest of its aligned N pages, too (default 1)\n"
    "  --seed N\n";

enum { TOUCH = 1, THREADS, MBIT, RTT, MIB, WIDEN, SEED, HELP };

static void take(struct sim_options *o, int option, unsigned long value)
{
    switch (option) {
    case TOUCH:
        o->touch = (unsigned int)value;
        break;
    case THREADS:
        o->threads = (unsigned int)value;
        break;
    case MBIT:
        o->page_ns = 4120 * UINT64_C(8000) / value;
        break;
    case RTT:
        o->rtt_ns = value * 1000;
        break;
    case MIB:
        o->pages = value * 256;
        break;
    case WIDEN:
        o->widen = (unsigned int)value;
        break;
    default:
        o->seed = value;
    }
}

static int row(const struct sim_options *o)
{
    struct sim_result r;

    if (sim_run(o, &r)) {
        fprintf(stderr, "out of memory\n");
        return -1;
    }
    printf("%-10s %-9s %8.4f %8llu %9.1f %9.1f %9.2f %9.1f %6llu/%llu%s\n", workload_name(o->workload),
           push_policy_name(o->policy), r.touched ? (double)r.requests / (double)r.touched : 0.,
           (unsigned long long)r.touched, r.stalls ? (double)r.stall_ns / 1e3 / (double)r.stalls : 0.,
           (double)r.stall_max_ns / 1e3, (double)r.loss_ns / 1e6, (double)r.end_ns / 1e6,
           (unsigned long long)r.whole, (unsigned long long)r.regions,
           r.lost || r.duplicates || !r.counts_match ? "  WRONG" : "");
    return 0;
}

int main(int argc, char **argv)
{
    static const struct option table[] = {{"touch", required_argument, NULL, TOUCH},
                                          {"threads", required_argument, NULL, THREADS},
                                          {"mbit", required_argument, NULL, MBIT},
                                          {"rtt", required_argument, NULL, RTT},
                                          {"mib", required_argument, NULL, MIB},
                                          {"widen", required_argument, NULL, WIDEN},
                                          {"seed", required_argument, NULL, SEED},
                                          {"help", no_argument, NULL, HELP},
                                          {0}};
    struct sim_options o;
    int option;

    sim_options_init(&o);
    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
        unsigned long value = option != '?' && optarg ? strtoul(optarg, NULL, 10) : 0;

        if (!value) {
            fputs(usage, option == HELP ? stdout : stderr);
            return option == HELP ? 0 : 2;
        }
        take(&o, option, value);
    }
    printf("%-10s %-9s %8s %8s %9s %9s %9s %9s %s\n", "workload", "policy", "netfault", "touched", "mean us",
           "max us", "loss ms", "all ms", "whole");
    for (unsigned int w = 0; w < WORKLOADS; w++) {
        for (unsigned int p = 0; p < PUSH_POLICIES; p++) {
            o.workload = (enum workload_kind)w;
            o.policy = (enum push_policy_kind)p;
            if (row(&o))
                return 1;
        }
    }
    return 0;
}
