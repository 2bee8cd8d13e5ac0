#include "core/push_streams.h"

#include <string.h>

/* A new pivot gets 16 pages above and 8 below: memory is gone through upwards more often. */
#define WINDOW_UP   16u
#define WINDOW_DOWN 8u
#define WINDOW_MOST PUSH_REGION
/* A fault so far from a bubble still belongs to it. */
#define REACH 64u
/* A stream's windows are halved for each so many faults that went elsewhere. */
#define WASTED 64u
/* Each hit of a stream outweighs so many faults elsewhere when a place is needed. */
#define HIT_WORTH 32u
#define HITS_MOST 16u
/* Faults at one distance that make it a stride; pages of one that are looked at for one that is free. */
#define STEPS_SURE 3u
#define STEPS_LOOK 64u
/* A run goes upwards also where its stream goes downwards: the page that is needed first comes last in it. */
#define DOWN_MOST 16u
/* A turn is at least so many pages, and so many times as many as have been pushed since the last fault, up to
 * the end of a region: where several streams begin none waits long for its first pages, and a region that a
 * stream comes to later is whole. */
#define TURN_LEAST 32u
#define TURN_TIMES 4u

static uint64_t distance(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

static uint64_t divisor(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

static uint64_t stride(const struct push_stream *stream)
{
    return stream->steps >= STEPS_SURE && stream->step > 1 ? stream->step : 1;
}

/* How far gfn is from what the stream has pushed, or is about to; PUSH_NOWHERE: too far. */
static uint64_t away(const struct push_stream *s, uint64_t gfn)
{
    uint64_t far = distance(gfn, s->pivot), step = stride(s), edge = s->side[gfn > s->pivot].at;
    uint64_t reach = REACH * step;

    if (far <= reach || (edge != PUSH_NOWHERE && far <= distance(edge, s->pivot)))
        return far;
    return edge != PUSH_NOWHERE && distance(gfn, edge) <= reach ? far : PUSH_NOWHERE;
}

static struct push_stream *nearest(struct push_streams *streams, uint64_t gfn)
{
    struct push_stream *found = NULL;
    uint64_t least = PUSH_NOWHERE;

    for (unsigned int i = 0; i < PUSH_STREAMS; i++) {
        struct push_stream *s = &streams->table[i];
        uint64_t far = s->used ? away(s, gfn) : PUSH_NOWHERE;

        if (far < least) {
            least = far;
            found = s;
        }
    }
    return found;
}

/* A place that is not in use, or that of the stream that is worth least. */
static struct push_stream *replace(struct push_streams *streams)
{
    struct push_stream *found = NULL;
    uint64_t least = PUSH_NOWHERE;

    for (unsigned int i = 0; i < PUSH_STREAMS; i++) {
        struct push_stream *s = &streams->table[i];
        uint64_t worth = s->used ? s->used + (uint64_t)s->hits * HIT_WORTH : 0;

        if (worth < least) {
            least = worth;
            found = s;
        }
    }
    if (found == &streams->table[streams->turn])
        streams->turn_left = 0;
    memset(found, 0, sizeof(*found));
    return found;
}

/* Faults far apart that are the same distance from each other. */
static void begin(struct push_streams *streams, struct push_stream *s, uint64_t gfn)
{
    uint64_t step = distance(gfn, streams->last[0]);
    bool up = gfn > streams->last[0];

    s->side[PUSH_UP].window = WINDOW_UP;
    s->side[PUSH_DOWN].window = WINDOW_DOWN;
    if (streams->faults > 2 && step > REACH && step == distance(streams->last[0], streams->last[1]) &&
        up == (streams->last[0] > streams->last[1])) {
        s->step = step;
        s->steps = STEPS_SURE;
        s->hits = 2;
        s->side[!up].window = 0;
    }
    streams->last[1] = streams->last[0];
    streams->last[0] = gfn;
}

/* Pages that were pushed between two faults make their distance any multiple of the stride, so what divides
 * them all is looked for. A stride that was sure and is broken was none, or has ended. */
static void learn_stride(struct push_stream *s, uint64_t far)
{
    uint64_t step = s->step ? divisor(s->step, far) : far;

    if (step == 1 || (step != s->step && s->steps >= STEPS_SURE)) {
        s->step = far;
        s->steps = 1;
    } else {
        s->step = step;
        s->steps++;
    }
}

static void hit(struct push_streams *streams, struct push_stream *s, uint64_t gfn)
{
    uint64_t far = distance(gfn, s->pivot), wasted = (streams->faults - s->used) / WASTED;
    struct push_side *towards = &s->side[gfn > s->pivot], *from = &s->side[gfn < s->pivot];

    for (unsigned int i = 0; i < PUSH_SIDES; i++)
        s->side[i].window = wasted < 32 ? s->side[i].window >> wasted : 0;
    towards->window = towards->window < WINDOW_DOWN ? WINDOW_DOWN : towards->window * 2;
    if (towards->window > WINDOW_MOST)
        towards->window = WINDOW_MOST;
    from->window /= 2;
    learn_stride(s, far);
    if (s->hits < HITS_MOST)
        s->hits++;
}

static void set_pivot(struct push_stream *s, uint64_t gfn)
{
    uint64_t step = stride(s);

    s->pivot = gfn;
    s->lead = 0;
    s->side[PUSH_UP].at = gfn + step;
    s->side[PUSH_DOWN].at = gfn >= step ? gfn - step : PUSH_NOWHERE;
    for (unsigned int i = 0; i < PUSH_SIDES; i++)
        s->side[i].left = s->side[i].window;
}

void push_streams_fault(struct push_streams *streams, uint64_t gfn)
{
    struct push_stream *s = nearest(streams, gfn);

    if (s && s->pivot == gfn)
        return;
    streams->faults++;
    if (s) {
        hit(streams, s, gfn);
    } else {
        s = replace(streams);
        begin(streams, s, gfn);
        s->hits++;
    }
    s->used = streams->faults;
    set_pivot(s, gfn);
}

void push_streams_restart(struct push_streams *streams)
{
    for (unsigned int i = 0; i < PUSH_STREAMS; i++)
        if (streams->table[i].used)
            set_pivot(&streams->table[i], streams->table[i].pivot);
    streams->turn_left = 0;
}

/* One page of a stride. */
static unsigned int one_step(struct push_side *side, const struct push_pages *pages, uint64_t step, bool up,
                             uint64_t *first)
{
    for (unsigned int i = 0; i < STEPS_LOOK; i++) {
        uint64_t gfn = side->at;

        if (gfn >= pages->free.nr)
            break;
        side->at = up ? gfn + step : gfn >= step ? gfn - step : PUSH_NOWHERE;
        if (gfn_bitmap_test(&pages->free, gfn)) {
            *first = gfn;
            return 1;
        }
    }
    return 0;
}

/* The next run on one side of a stream, 0 if there is none: then the side has come to its end. reach: how far
 * it may be. */
static unsigned int push_side(struct push_stream *s, unsigned int way, const struct push_pages *pages,
                              uint64_t reach, unsigned int most, uint64_t *first)
{
    struct push_side *side = &s->side[way];
    unsigned int n = 0;
    uint64_t gfn;

    if (side->at == PUSH_NOWHERE)
        return 0;
    if (stride(s) > 1) {
        n = one_step(side, pages, stride(s), way == PUSH_UP, first);
    } else {
        gfn = way == PUSH_UP ? push_pages_above(pages, side->at) : push_pages_below(pages, side->at);
        if (gfn == PUSH_NOWHERE)
            side->at = PUSH_NOWHERE;
        if (gfn == PUSH_NOWHERE || distance(gfn, side->at) > reach)
            return 0;
        if (way == PUSH_UP) {
            n = push_pages_up(pages, gfn, most);
            *first = gfn;
            side->at = gfn + n;
        } else {
            n = push_pages_down(pages, gfn, most < DOWN_MOST ? most : DOWN_MOST);
            *first = gfn - n + 1;
            side->at = *first ? *first - 1 : PUSH_NOWHERE;
        }
    }
    s->lead += n;
    return n;
}

/* The stream whose bubble is not full that has got least since its last fault, of those that only one fault
 * has hit, or (sure) of the others. The newest of several: what it is for is yet to come. */
static struct push_stream *emptiest(struct push_streams *streams, bool sure)
{
    struct push_stream *found = NULL;

    for (unsigned int i = 0; i < PUSH_STREAMS; i++) {
        struct push_stream *s = &streams->table[i];

        if ((s->hits > 1) != sure || !(s->side[PUSH_UP].left || s->side[PUSH_DOWN].left))
            continue;
        if (!found || s->lead < found->lead || (s->lead == found->lead && s->used > found->used))
            found = s;
    }
    return found;
}

static unsigned int fill_bubble(struct push_streams *streams, bool sure, const struct push_pages *pages,
                                uint64_t *first, unsigned int most)
{
    struct push_stream *s;

    while ((s = emptiest(streams, sure))) {
        unsigned int way = s->side[PUSH_UP].left >= s->side[PUSH_DOWN].left ? PUSH_UP : PUSH_DOWN, n;
        struct push_side *side = &s->side[way];

        n = push_side(s, way, pages, WINDOW_MOST, side->left < most ? side->left : most, first);
        side->left = n ? side->left - n : 0;
        if (n)
            return n;
    }
    return 0;
}

/* The side of a stream that goes on: the one that was hit; NULL if none. */
static struct push_side *main_side(struct push_stream *s)
{
    struct push_side *up = &s->side[PUSH_UP], *down = &s->side[PUSH_DOWN];
    bool up_on = up->window && up->at != PUSH_NOWHERE, down_on = down->window && down->at != PUSH_NOWHERE;

    if (up_on && (!down_on || up->window >= down->window))
        return up;
    return down_on ? down : NULL;
}

/* The stream that has got least since its last fault, of those that more than one has hit. */
static struct push_stream *neediest(struct push_streams *streams)
{
    struct push_stream *found = NULL;

    for (unsigned int i = 0; i < PUSH_STREAMS; i++) {
        struct push_stream *s = &streams->table[i];

        if (s->hits > 1 && main_side(s) && (!found || s->lead < found->lead))
            found = s;
    }
    return found;
}

static void take_turn(struct push_streams *streams, struct push_stream *s)
{
    const struct push_side *side = main_side(s);
    uint64_t n = s->lead * TURN_TIMES < TURN_LEAST ? TURN_LEAST : s->lead * TURN_TIMES;
    uint32_t in_region = side->at % PUSH_REGION;

    streams->turn = (unsigned int)(s - streams->table);
    streams->way = side == &s->side[PUSH_UP] ? PUSH_UP : PUSH_DOWN;
    in_region = streams->way == PUSH_UP ? PUSH_REGION - in_region : in_region + 1;
    streams->turn_left = n < in_region ? (uint32_t)n : in_region;
}

/* Streams that were hit more than once: their bubbles, then they go on. */
static unsigned int push_sure(struct push_streams *streams, const struct push_pages *pages, uint64_t *first,
                              unsigned int most)
{
    unsigned int n = fill_bubble(streams, true, pages, first, most);

    /* Each of them can come to its end. */
    for (unsigned int i = 0; !n && i <= PUSH_STREAMS; i++) {
        struct push_stream *s;

        if (!streams->turn_left) {
            s = neediest(streams);
            if (!s)
                return 0;
            take_turn(streams, s);
        }
        s = &streams->table[streams->turn];
        n = push_side(s, streams->way, pages, PUSH_NOWHERE,
                      streams->turn_left < most ? streams->turn_left : most, first);
        if (!n)
            s->side[streams->way].window = 0;
        streams->turn_left = n ? streams->turn_left - n : 0;
    }
    return n;
}

/* The newest stream that only one fault has hit, until it has got a region's worth. */
static struct push_stream *newest(struct push_streams *streams)
{
    struct push_stream *found = NULL;

    for (unsigned int i = 0; i < PUSH_STREAMS; i++) {
        struct push_stream *s = &streams->table[i];

        if (s->hits == 1 && s->lead < PUSH_REGION && (!found || s->used > found->used))
            found = s;
    }
    return found;
}

/* Streams that one fault has hit: their bubbles, then the newest goes on upwards, in case that it is one. */
static unsigned int push_unsure(struct push_streams *streams, const struct push_pages *pages, uint64_t *first,
                                unsigned int most)
{
    unsigned int n = fill_bubble(streams, false, pages, first, most);
    struct push_stream *s = n ? NULL : newest(streams);

    if (!s)
        return n;
    n = push_side(s, PUSH_UP, pages, WINDOW_MOST, most, first);
    if (!n)
        s->lead = PUSH_REGION;
    return n;
}

unsigned int push_streams_next(struct push_streams *streams, const struct push_pages *pages, uint64_t *first,
                               unsigned int most)
{
    unsigned int n = 0;

    /* What may be a stream gets as much as those that are. */
    if (!streams->owed)
        n = push_unsure(streams, pages, first, most);
    if (n) {
        streams->owed += n;
        return n;
    }
    n = push_sure(streams, pages, first, most);
    if (!n)
        n = push_unsure(streams, pages, first, most);
    streams->owed = streams->owed > n ? streams->owed - n : 0;
    return n;
}
