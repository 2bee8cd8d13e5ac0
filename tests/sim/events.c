#include "events.h"

#include <stdlib.h>

static bool before(const struct event *a, const struct event *b)
{
    return a->time < b->time || (a->time == b->time && a->order < b->order);
}

bool events_put(struct events *events, struct event event)
{
    size_t at = events->n;

    if (events->n == events->size) {
        size_t size = events->size ? events->size * 2 : 1024;
        struct event *heap = realloc(events->heap, size * sizeof(*heap));

        if (!heap)
            return false;
        events->heap = heap;
        events->size = size;
    }
    event.order = events->put++;
    events->n++;
    while (at && before(&event, &events->heap[(at - 1) / 2])) {
        events->heap[at] = events->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    events->heap[at] = event;
    return true;
}

bool events_take(struct events *events, struct event *event)
{
    struct event last;
    size_t at = 0, child;

    if (!events->n)
        return false;
    *event = events->heap[0];
    last = events->heap[--events->n];
    while ((child = at * 2 + 1) < events->n) {
        if (child + 1 < events->n && before(&events->heap[child + 1], &events->heap[child]))
            child++;
        if (!before(&events->heap[child], &last))
            break;
        events->heap[at] = events->heap[child];
        at = child;
    }
    events->heap[at] = last;
    return true;
}
