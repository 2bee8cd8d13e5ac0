/* What will happen when: a heap, the earliest on top; of two at one time the one that was put first. */
#ifndef EVENTS_H
#define EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum event_kind {
    EVENT_TOUCH,   /* thread a touches its next page */
    EVENT_LINK,    /* the link has carried page a (b: by the background) */
    EVENT_ARRIVAL, /* page a is at the destination (b: by the background) */
    EVENT_REQUEST, /* page a is asked for, with urgency b; at the source */
    EVENT_AGAIN,   /* page a, because its contents were wrong */
    EVENT_DROP,    /* page a */
    EVENT_CUT,
};

struct event {
    uint64_t time, order, a;
    uint32_t generation;
    uint16_t b;
    uint16_t kind;
};

struct events {
    struct event *heap;
    size_t n, size;
    uint64_t put;
};

/* False: no memory. */
bool events_put(struct events *events, struct event event);
/* False: there is none. */
bool events_take(struct events *events, struct event *event);

#endif
