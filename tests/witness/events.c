#include "events.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int events_init(struct events *events)
{
    memset(events, 0, sizeof(*events));
    pthread_mutex_init(&events->lock, NULL);
    events->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return events->wake_fd < 0 ? -1 : 0;
}

void events_push(struct events *events, const struct event *event)
{
    static const uint64_t one = 1;
    bool dropped = false;

    if (event->kind == EVENT_CORRUPTION || event->kind == EVENT_TABLE) {
        atomic_fetch_add(&events->wrong_bytes, event->corruption.finding.wrong_bytes);
        atomic_fetch_add(&events->wrong_pages, 1);
    }
    pthread_mutex_lock(&events->lock);
    if (events->count < EVENTS_MAX)
        events->queue[(events->head + events->count++) % EVENTS_MAX] = *event;
    else
        dropped = true;
    pthread_mutex_unlock(&events->lock);
    if (dropped)
        atomic_fetch_add(&events->dropped, 1);
    // EAGAIN means the counter is full, so the reader is awake anyway.
    if (write(events->wake_fd, &one, sizeof(one)) < 0)
        return;
}

bool events_pop(struct events *events, struct event *event)
{
    bool found;

    pthread_mutex_lock(&events->lock);
    found = events->count > 0;
    if (found) {
        *event = events->queue[events->head];
        events->head = (events->head + 1) % EVENTS_MAX;
        events->count--;
    }
    pthread_mutex_unlock(&events->lock);
    return found;
}
