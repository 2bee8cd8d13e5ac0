#include "core/pace.h"

#include <string.h>

#define DELAY_PART   4u /* of a long link's time the budget may be that part */
#define SLOW_PAGE_NS UINT64_C(200000)
#define SLOW_MOST    64u
#define SMALL        4u /* pages: a window that makes no queue */
#define GROWTH       8.0
#define PARTS        4u /* of the window */

static void begin_epoch(struct pace *pace, uint64_t now)
{
    pace->epoch_at = now;
    pace->epoch_acked = pace->acked;
    pace->epoch_end = pace->sent;
    pace->epoch_least = pace->epoch_queued = UINT64_MAX;
    pace->epoch_frames = 0;
    pace->epoch_sum = 0;
    pace->filled = false;
}

void pace_init(struct pace *pace, uint64_t budget_ns)
{
    memset(pace, 0, sizeof(*pace));
    pace->budget_ns = budget_ns;
    pace->base_ns = UINT64_MAX;
    pace->window = PACE_FIRST;
    pace->starting = true;
    begin_epoch(pace, 0);
}

static uint64_t under_way(const struct pace *pace)
{
    return pace->sent - pace->acked;
}

/*
 * On a way that takes milliseconds by itself a page or two under way are no gain for anybody: each frame
 * costs every end and relay the same, large or small, and with small ones that is what there is a queue of.
 */
uint64_t pace_least(const struct pace *pace)
{
    uint64_t pages = pace->base_ns == UINT64_MAX ? 0 : pace->base_ns / SLOW_PAGE_NS;

    return pages < PACE_LEAST ? PACE_LEAST : pages > SLOW_MOST ? SLOW_MOST : pages;
}

static double least(const struct pace *pace)
{
    return (double)pace_least(pace);
}

uint64_t pace_window(const struct pace *pace)
{
    double window = pace->drying ? pace->window / 2 : pace->window;

    return (uint64_t)(window < least(pace) ? least(pace) : window);
}

/* What may stand in the queue. On a long link the budget is nothing beside its own time, and would take for
 * ever to find a faster rate. */
static uint64_t budget(const struct pace *pace)
{
    uint64_t part = pace->base_ns / DELAY_PART;

    return part > pace->budget_ns ? part : pace->budget_ns;
}

/* What a frame may have: a part of the window, since one is sent while another is acknowledged; and no more
 * than the budget, as it is a queue of its own. */
static uint64_t part_of(const struct pace *pace, uint64_t window)
{
    uint64_t part = (window + PARTS - 1) / PARTS, most;

    if (pace->page_ns == 0)
        return part;
    most = (uint64_t)((double)budget(pace) / pace->page_ns);
    if (most < (uint64_t)least(pace) / PARTS)
        most = (uint64_t)least(pace) / PARTS;
    if (most == 0)
        most = 1;
    return part < most ? part : most;
}

uint64_t pace_room(const struct pace *pace)
{
    uint64_t window = pace_window(pace), part = part_of(pace, window);

    if (pace->head - pace->tail == PACE_SENDS || under_way(pace) + part > window)
        return 0;
    return part;
}

void pace_full(struct pace *pace)
{
    pace->filled = true;
}

void pace_sent(struct pace *pace, uint32_t pages, uint64_t now)
{
    /* Time without anything to send is no part of what a page takes. */
    if (under_way(pace) == 0)
        pace->epoch_at += now - pace->acked_at;
    pace->sent += pages;
    if (pace->head - pace->tail == PACE_SENDS)
        return;
    pace->sends[pace->head++ % PACE_SENDS] =
        (struct pace_send){.at = now, .total = pace->sent, .pages = pages};
}

/* Where an end is scheduled late, or carries on when it comes to it, what frames take differs by that, and
 * the least of an epoch with it: no more can be told. A queue holds all frames up alike. */
static uint64_t tolerance(const struct pace *pace)
{
    uint64_t most = budget(pace), mean = pace->epoch_sum / pace->epoch_frames;
    uint64_t spread = mean > pace->epoch_queued ? mean - pace->epoch_queued : 0;

    /* Frames that go together wait for each other: less than that tells nothing. */
    spread = spread > 2 * most ? spread : 0;
    return spread > most ? spread : most;
}

static void adapt(struct pace *pace)
{
    uint64_t queue = pace->epoch_queued > pace->base_ns ? pace->epoch_queued - pace->base_ns : 0;
    uint64_t most = tolerance(pace);
    double fit = (double)(pace->base_ns + most) / (double)(pace->base_ns + queue);

    if (queue > most && pace->window <= SMALL && !pace->starting) {
        /* Not ours: what it takes has become longer, or processes that carry it are late. */
        pace->base_ns = pace->epoch_least;
        pace->window *= 2;
    } else if (queue > most) {
        pace->starting = false;
        pace->window *= fit < 0.5 ? 0.5 : fit;
    } else if (pace->filled && queue <= most / 2) {
        pace->window += pace->starting ? pace->window : 1 + pace->window / GROWTH;
    }
    if (pace->window < least(pace))
        pace->window = least(pace);
    if (pace->window > PACE_MOST)
        pace->window = PACE_MOST;
}

static void end_epoch(struct pace *pace, uint64_t now)
{
    bool old = now - pace->base_at > PACE_OLD_NS;

    double page_ns = (double)(now - pace->epoch_at) / (double)(pace->acked - pace->epoch_acked);

    if (pace->page_ns == 0 || pace->drying || page_ns < pace->page_ns)
        pace->page_ns = page_ns;
    if (pace->drying || pace->epoch_least <= pace->base_ns) {
        pace->base_ns = pace->epoch_least;
        pace->base_at = now;
    }
    if (pace->drying)
        pace->drying = false;
    else if (old && pace->base_at != now)
        pace->drying = true;
    else
        adapt(pace);
    begin_epoch(pace, now);
}

int pace_acked(struct pace *pace, uint64_t total, uint64_t now)
{
    const struct pace_send *send = NULL;
    uint64_t took, own;
    uint32_t frames = 0;

    if (total < pace->acked || total > pace->sent)
        return -1;
    pace->acked = total;
    pace->acked_at = now;
    while (pace->tail != pace->head && pace->sends[pace->tail % PACE_SENDS].total <= total) {
        send = &pace->sends[pace->tail++ % PACE_SENDS];
        frames++;
    }
    if (!send)
        return 0;
    pace->epoch_frames += frames;
    took = now - send->at;
    if (took < pace->epoch_least)
        pace->epoch_least = took;
    /* The rest of its own frame is no queue. */
    own = (uint64_t)(pace->page_ns * (send->pages - 1));
    took -= own < took ? own : took;
    if (took < pace->epoch_queued)
        pace->epoch_queued = took;
    pace->epoch_sum += took * frames;
    if (total >= pace->epoch_end && pace->epoch_frames >= PACE_FRAMES)
        end_epoch(pace, now);
    return 0;
}
