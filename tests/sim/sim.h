/*
 * A guest, a link and the source's push order, in virtual time: no I/O, no clock, the same figures wherever
 * it runs. What it has of the real thing: pages take their time on the link, those that somebody waits for
 * overtake the others between two pages (but not what has been taken for the background already, which a
 * request does not bring any sooner), requests and pages take half a round trip, and a thread that waits
 * touches nothing else meanwhile. What it has not: CPU time, installation in batches, a guest that does
 * anything but touch pages.
 */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "core/push_policy.h"
#include "workload.h"

struct sim_options {
    uint64_t pages;
    uint64_t page_ns; /* that a page takes on the link */
    uint64_t rtt_ns;
    uint64_t install_ns;  /* from arrival until the thread goes on */
    unsigned int threads; /* of the guest */
    unsigned int touch;   /* what they touch if none waits, in percent of the link's pages */
    unsigned int widen;   /* with a fault the destination asks for the rest of an aligned window: hints */
    enum workload_kind workload;
    enum push_policy_kind policy;
    uint64_t seed;
    /* What goes wrong, in 1/1000 of the pages that arrive. */
    unsigned int drops, bad_hashes;
    unsigned int restarts; /* cuts of the link, evenly over the time that the push takes */
    uint64_t holes;        /* every so many pages one is not in the set; 0: none */
};

struct sim_result {
    uint64_t touched;  /* different pages of the set touched before everything was there */
    uint64_t requests; /* made because of a fault: a page not there, and not asked for yet */
    uint64_t stalls, stall_ns, stall_max_ns;
    uint64_t loss_ns; /* the integral of the share of threads that wait */
    uint64_t end_ns;  /* when everything was there */
    uint64_t sent, duplicates, lost;
    uint64_t regions,
        whole;         /* 2 MiB of the set; of them those that a receiver makes superpages as they come */
    bool counts_match; /* the order's own counters add up */
};

/* 1 Gbit/s, 0.2 ms, 128 MiB, 4 threads that touch at half the link's rate. */
void sim_options_init(struct sim_options *options);

/* 0, or -ENOMEM. */
int sim_run(const struct sim_options *options, struct sim_result *result);

#endif
