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

/* Of an order, those of a queue count as this. */
static uint64_t *asked_left(struct push_order *order, const struct push_queue *queue)
{
    return queue == &order->queue[0] ? &order->hinted_left : &order->urgent_left;
}

static void leave(struct push_order *order, struct push_queue *queue, uint64_t gfn)
{
    gfn_bitmap_clear(&queue->asked, gfn);
    queue->left--;
    --*asked_left(order, queue);
}

int push_order_request(struct push_order *order, uint64_t gfn, unsigned int urgency, bool resend,
                       uint64_t now_ns)
{
    struct push_queue *queue, *now;

    (void)now_ns;
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
    ++*asked_left(order, queue);
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

/* NULL: nobody waits for any. */
static struct push_queue *most_urgent(struct push_order *order)
{
    for (unsigned int i = PUSH_LEVELS; i-- > 1;)
        if (order->queue[i].left)
            return &order->queue[i];
    return NULL;
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

unsigned int push_order_next_urgent(struct push_order *order, uint64_t *gfns, unsigned int max)
{
    struct push_queue *queue;
    unsigned int n;

    for (n = 0; n < max && (queue = most_urgent(order)); n++) {
        gfns[n] = next_of(queue);
        take(order, gfns[n]);
        order->sent_urgent++;
        order->cursor = gfns[n] + 1;
    }
    return n;
}

static bool waited_for(const struct push_order *order, uint64_t gfn)
{
    for (unsigned int i = 1; i < PUSH_LEVELS; i++)
        if (gfn_bitmap_test(&order->queue[i].asked, gfn))
            return true;
    return false;
}

/* The first at or above from that can go in the background; unsent.nr if there is none. */
static uint64_t next_free(const struct push_order *order, uint64_t from)
{
    uint64_t gfn = gfn_bitmap_next(&order->unsent, from);

    while (gfn < order->unsent.nr && waited_for(order, gfn))
        gfn = gfn_bitmap_next(&order->unsent, gfn + 1);
    return gfn;
}

static bool may_follow(const struct push_order *order, uint64_t gfn, bool hinted)
{
    if (gfn >= order->unsent.nr || gfn % PUSH_REGION == 0 || !gfn_bitmap_test(&order->unsent, gfn))
        return false;
    return hinted ? gfn_bitmap_test(&order->queue[0].asked, gfn) : !waited_for(order, gfn);
}

unsigned int push_order_next_run(struct push_order *order, uint64_t *first, unsigned int most)
{
    bool hinted = order->hinted_left;
    unsigned int n = 0;
    uint64_t gfn;

    if (!most || order->left == order->urgent_left)
        return 0;
    if (hinted) {
        gfn = next_of(&order->queue[0]);
    } else {
        gfn = next_free(order, order->cursor);
        if (gfn >= order->unsent.nr)
            gfn = next_free(order, 0);
    }
    *first = gfn;
    do {
        take(order, gfn++);
        n++;
    } while (n < most && may_follow(order, gfn, hinted));
    order->sent_hinted += hinted ? n : 0;
    order->cursor = gfn;
    return n;
}

static void empty(struct push_queue *queue)
{
    memset(queue->asked.words, 0, (queue->asked.nr / 64 + 1) * sizeof(*queue->asked.words));
    queue->left = queue->cursor = queue->head = queue->tail = 0;
}

void push_order_restart(struct push_order *order)
{
    order->left = order->urgent_left = order->hinted_left = 0;
    for (uint64_t i = 0; i <= order->set.nr / 64; i++) {
        order->unsent.words[i] = order->set.words[i] & (order->unsent.words[i] | order->once.words[i]);
        order->left += (uint64_t)__builtin_popcountll(order->unsent.words[i]);
    }
    for (unsigned int i = 0; i < PUSH_LEVELS; i++)
        empty(&order->queue[i]);
}

int push_order_have(struct push_order *order, uint64_t first, uint64_t bits)
{
    if (bits && (first >= order->set.nr || bits & ~order->set.words[first / 64]))
        return -EINVAL;
    for (; bits; bits &= bits - 1) {
        uint64_t gfn = first + (uint64_t)__builtin_ctzll(bits);

        if (!gfn_bitmap_test(&order->unsent, gfn))
            continue;
        forget(order, gfn);
        if (!gfn_bitmap_test(&order->once, gfn))
            order->different_sent++;
        gfn_bitmap_set(&order->once, gfn);
    }
    return 0;
}
