// What threads have to tell the reporter: a bounded queue, so that no worker
// ever waits for the console, and totals that count even when it is full.
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "page.h"

#define EVENTS_MAX 512u

enum event_kind { EVENT_CORRUPTION, EVENT_TABLE, EVENT_STALL, EVENT_SWEEP };

struct event {
    enum event_kind kind;
    int64_t when;       // clock_now()
    const char *source; // "worker", "tick", "sweep": static string
    unsigned int index; // thread of that source
    union {
        struct { // EVENT_CORRUPTION; EVENT_TABLE uses page and finding.wrong_bytes
            uint64_t page, generation;
            struct page_finding finding;
        } corruption;
        uint64_t stall_ns;
        struct {
            uint64_t number, pages, wrong_bytes, ns;
        } sweep;
    };
};

struct events {
    pthread_mutex_t lock;
    struct event queue[EVENTS_MAX];
    size_t head, count;
    int wake_fd; // eventfd, readable when something was pushed
    _Atomic uint64_t wrong_bytes, wrong_pages, dropped;
};

// 0, or -1 with errno set.
int events_init(struct events *events);

// Count what the event says and queue it; a full queue drops it and counts that.
void events_push(struct events *events, const struct event *event);

// Take the oldest event; false if there is none.
bool events_pop(struct events *events, struct event *event);
