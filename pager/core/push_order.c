#include "core/push_order.h"

#include <errno.h>
#include <string.h>

int push_order_init(struct push_order *order, uint64_t nr_gfns)
{
    memset(order, 0, sizeof(*order));
    if (gfn_bitmap_init(&order->set, nr_gfns) || gfn_bitmap_init(&order->unsent, nr_gfns) ||
        gfn_bitmap_init(&order->urgent, nr_gfns) || gfn_bitmap_init(&order->once, nr_gfns)) {
        push_order_free(order);
        return -ENOMEM;
    }
    return 0;
}

void push_order_free(struct push_order *order)
{
    gfn_bitmap_free(&order->set);
    gfn_bitmap_free(&order->unsent);
    gfn_bitmap_free(&order->urgent);
    gfn_bitmap_free(&order->once);
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

int push_order_request(struct push_order *order, uint64_t gfn, bool resend)
{
    if (!in_set(order, gfn))
        return -EINVAL;
    if (resend && !gfn_bitmap_test(&order->unsent, gfn) && gfn_bitmap_test(&order->once, gfn)) {
        gfn_bitmap_set(&order->unsent, gfn);
        order->left++;
    }
    if (!gfn_bitmap_test(&order->unsent, gfn))
        return 0;
    if (gfn_bitmap_test(&order->urgent, gfn)) {
        if (order->again_tail - order->again_head < PUSH_AGAIN)
            order->again[order->again_tail++ % PUSH_AGAIN] = gfn;
        return 0;
    }
    gfn_bitmap_set(&order->urgent, gfn);
    order->urgent_left++;
    if (order->fifo_tail - order->fifo_head < PUSH_FIFO)
        order->fifo[order->fifo_tail++ % PUSH_FIFO] = gfn;
    return 0;
}

static void forget(struct push_order *order, uint64_t gfn)
{
    gfn_bitmap_clear(&order->unsent, gfn);
    order->left--;
    if (gfn_bitmap_test(&order->urgent, gfn)) {
        gfn_bitmap_clear(&order->urgent, gfn);
        order->urgent_left--;
    }
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

/* The next faulted gfn, or false. Entries of the queue may have been dropped meanwhile. */
static bool next_urgent(struct push_order *order, uint64_t *gfn)
{
    while (order->again_head != order->again_tail) {
        *gfn = order->again[order->again_head++ % PUSH_AGAIN];
        if (gfn_bitmap_test(&order->urgent, *gfn))
            return true;
    }
    while (order->fifo_head != order->fifo_tail) {
        *gfn = order->fifo[order->fifo_head++ % PUSH_FIFO];
        if (gfn_bitmap_test(&order->urgent, *gfn))
            return true;
    }
    if (!order->urgent_left)
        return false;
    *gfn = gfn_bitmap_next(&order->urgent, order->urgent_cursor);
    if (*gfn >= order->urgent.nr)
        *gfn = gfn_bitmap_next(&order->urgent, 0);
    order->urgent_cursor = *gfn;
    return *gfn < order->urgent.nr;
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
