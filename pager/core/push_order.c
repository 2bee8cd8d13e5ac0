#include "core/push_order.h"

#include <errno.h>
#include <string.h>

int push_order_init(struct push_order *order, uint64_t nr_gfns)
{
    int rc;

    memset(order, 0, sizeof(*order));
    rc = gfn_bitmap_init(&order->set, nr_gfns) || gfn_bitmap_init(&order->unsent, nr_gfns) ||
         gfn_bitmap_init(&order->once, nr_gfns);
    for (unsigned int i = 0; i < PUSH_LEVELS && rc == 0; i++)
        rc = gfn_bitmap_init(&order->queue[i].asked, nr_gfns);
    if (rc == 0)
        return 0;
    push_order_free(order);
    return -ENOMEM;
}

void push_order_free(struct push_order *order)
{
    gfn_bitmap_free(&order->set);
    gfn_bitmap_free(&order->unsent);
    gfn_bitmap_free(&order->once);
    for (unsigned int i = 0; i < PUSH_LEVELS; i++)
        gfn_bitmap_free(&order->queue[i].asked);
}

void push_order_add(struct push_order *order, uint64_t first, uint64_t count)
{
    gfn_bitmap_set_run(&order->set, first, count);
    gfn_bitmap_set_run(&order->unsent, first, count);
    order->in_set += count;
    order->left += count;
}

static bool in_set(const struct push_order *order, uint64_t gfn)
{
    return gfn < order->set.nr && gfn_bitmap_test(&order->set, gfn);
}

/* The queue that gfn is in, NULL for none. */
static struct push_queue *queue_of(struct push_order *order, uint64_t gfn)
{
    for (unsigned int i = 0; i < PUSH_LEVELS; i++)
        if (gfn_bitmap_test(&order->queue[i].asked, gfn))
            return &order->queue[i];
    return NULL;
}

static void leave(struct push_order *order, struct push_queue *queue, uint64_t gfn)
{
    gfn_bitmap_clear(&queue->asked, gfn);
    queue->left--;
    order->urgent_left--;
}

int push_order_request(struct push_order *order, uint64_t gfn, unsigned int urgency, bool resend)
{
    struct push_queue *queue, *now;

    if (!in_set(order, gfn))
        return -EINVAL;
    if (resend && !gfn_bitmap_test(&order->unsent, gfn) && gfn_bitmap_test(&order->once, gfn)) {
        gfn_bitmap_set(&order->unsent, gfn);
        order->left++;
    }
    if (!gfn_bitmap_test(&order->unsent, gfn))
        return 0;
    queue = &order->queue[urgency];
    now = queue_of(order, gfn);
    if (now && now >= queue)
        return 0;
    if (now)
        leave(order, now, gfn);
    gfn_bitmap_set(&queue->asked, gfn);
    queue->left++;
    order->urgent_left++;
    if (queue->tail - queue->head < PUSH_FIFO)
        queue->fifo[queue->tail++ % PUSH_FIFO] = gfn;
    return 0;
}

static void forget(struct push_order *order, uint64_t gfn)
{
    struct push_queue *queue = queue_of(order, gfn);

    gfn_bitmap_clear(&order->unsent, gfn);
    order->left--;
    if (queue)
        leave(order, queue, gfn);
}

int push_order_drop(struct push_order *order, uint64_t gfn)
{
    if (!in_set(order, gfn))
        return -EINVAL;
    if (gfn_bitmap_test(&order->unsent, gfn)) {
        forget(order, gfn);
        if (!gfn_bitmap_test(&order->once, gfn))
            order->dropped++;
    }
    return 0;
}

/* The next gfn of a queue that is not empty. Entries of its fifo may have been dropped, or moved up,
 * meanwhile. */
static uint64_t next_of(struct push_queue *queue)
{
    while (queue->head != queue->tail) {
        uint64_t gfn = queue->fifo[queue->head++ % PUSH_FIFO];

        if (gfn_bitmap_test(&queue->asked, gfn))
            return gfn;
    }
    queue->cursor = gfn_bitmap_next(&queue->asked, queue->cursor);
    if (queue->cursor >= queue->asked.nr)
        queue->cursor = gfn_bitmap_next(&queue->asked, 0);
    return queue->cursor;
}

static bool next_urgent(struct push_order *order, uint64_t *gfn)
{
    for (unsigned int i = PUSH_LEVELS; i-- > 0;) {
        if (order->queue[i].left) {
            *gfn = next_of(&order->queue[i]);
            return true;
        }
    }
    return false;
}

static void take(struct push_order *order, uint64_t gfn)
{
    forget(order, gfn);
    order->sent++;
    if (gfn_bitmap_test(&order->once, gfn)) {
        order->resent++;
    } else {
        gfn_bitmap_set(&order->once, gfn);
        order->different_sent++;
    }
}

unsigned int push_order_next(struct push_order *order, uint64_t *gfns, unsigned int max)
{
    unsigned int n = 0;

    while (n < max && next_urgent(order, &gfns[n])) {
        take(order, gfns[n]);
        order->sent_urgent++;
        order->cursor = gfns[n] + 1;
        n++;
    }
    while (n < max && order->left) {
        uint64_t gfn = gfn_bitmap_next(&order->unsent, order->cursor);

        if (gfn >= order->unsent.nr)
            gfn = gfn_bitmap_next(&order->unsent, 0);
        if (gfn >= order->unsent.nr)
            break;
        take(order, gfn);
        order->cursor = gfn + 1;
        gfns[n++] = gfn;
    }
    return n;
}
