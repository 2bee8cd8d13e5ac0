#include "core/push_order.h"

#include <errno.h>
#include <string.h>

static int init_maps(struct push_order *order, uint64_t nr_gfns)
{
    if (gfn_bitmap_init(&order->set, nr_gfns) || gfn_bitmap_init(&order->unsent, nr_gfns) ||
        gfn_bitmap_init(&order->once, nr_gfns) || gfn_bitmap_init(&order->hot, nr_gfns) ||
        push_pages_init(&order->pages, nr_gfns))
        return -ENOMEM;
    for (unsigned int i = 0; i < PUSH_LEVELS; i++)
        if (gfn_bitmap_init(&order->queue[i].asked, nr_gfns))
            return -ENOMEM;
    return 0;
}

int push_order_init(struct push_order *order, uint64_t nr_gfns)
{
    memset(order, 0, sizeof(*order));
    push_policy_init(&order->policy, PUSH_ADAPTIVE);
    if (init_maps(order, nr_gfns) == 0)
        return 0;
    push_order_free(order);
    return -ENOMEM;
}

void push_order_free(struct push_order *order)
{
    gfn_bitmap_free(&order->set);
    gfn_bitmap_free(&order->unsent);
    gfn_bitmap_free(&order->once);
    gfn_bitmap_free(&order->hot);
    push_pages_free(&order->pages);
    for (unsigned int i = 0; i < PUSH_LEVELS; i++)
        gfn_bitmap_free(&order->queue[i].asked);
}

void push_order_policy(struct push_order *order, enum push_policy_kind kind)
{
    push_policy_init(&order->policy, kind);
}

void push_order_add(struct push_order *order, uint64_t first, uint64_t count)
{
    gfn_bitmap_set_run(&order->set, first, count);
    gfn_bitmap_set_run(&order->unsent, first, count);
    push_pages_put(&order->pages, first, count);
    order->in_set += count;
    order->left += count;
}

void push_order_hot(struct push_order *order, uint64_t first, uint64_t count)
{
    if (order->policy.kind != PUSH_ADAPTIVE)
        return;
    for (uint64_t gfn = first; gfn - first < count && gfn < order->set.nr; gfn++) {
        if (!push_pages_has(&order->pages, gfn) || gfn_bitmap_test(&order->hot, gfn))
            continue;
        gfn_bitmap_set(&order->hot, gfn);
        order->hot_left++;
    }
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

static void join(struct push_order *order, struct push_queue *queue, uint64_t gfn)
{
    gfn_bitmap_set(&queue->asked, gfn);
    queue->left++;
    ++*asked_left(order, queue);
    if (queue->tail - queue->head < PUSH_FIFO)
        queue->fifo[queue->tail++ % PUSH_FIFO] = gfn;
    if (queue == &order->queue[0])
        return;
    push_pages_take(&order->pages, gfn, 1);
    order->hot_left -= gfn_bitmap_clear_run(&order->hot, gfn, 1);
}

static void fault(struct push_order *order, uint64_t gfn, uint64_t now_ns)
{
    bool goes_on = now_ns == order->fault_ns && gfn == order->fault_gfn + 1;

    order->since_fault = 0;
    order->fault_ns = now_ns;
    order->fault_gfn = gfn;
    if (!goes_on)
        push_policy_fault(&order->policy, gfn);
}

static void send_again(struct push_order *order, uint64_t gfn)
{
    if (gfn_bitmap_test(&order->unsent, gfn) || !gfn_bitmap_test(&order->once, gfn))
        return;
    gfn_bitmap_set(&order->unsent, gfn);
    push_pages_put(&order->pages, gfn, 1);
    order->left++;
}

int push_order_request(struct push_order *order, uint64_t gfn, unsigned int urgency, bool resend,
                       uint64_t now_ns)
{
    struct push_queue *queue = &order->queue[urgency], *now;

    if (!in_set(order, gfn))
        return -EINVAL;
    if (resend)
        send_again(order, gfn);
    else if (urgency > 0)
        fault(order, gfn, now_ns);
    if (!gfn_bitmap_test(&order->unsent, gfn))
        return 0;
    now = queue_of(order, gfn);
    if (now && now >= queue)
        return 0;
    if (now)
        leave(order, now, gfn);
    join(order, queue, gfn);
    return 0;
}

/* Of what is not sent yet. */
static void forget(struct push_order *order, uint64_t gfn)
{
    struct push_queue *queue = queue_of(order, gfn);

    gfn_bitmap_clear(&order->unsent, gfn);
    order->left--;
    order->hot_left -= gfn_bitmap_clear_run(&order->hot, gfn, 1);
    push_pages_take(&order->pages, gfn, 1);
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

static void count_sent(struct push_order *order, uint64_t first, unsigned int n)
{
    /* How many had been sent before is how many bits there were. */
    uint64_t again = gfn_bitmap_clear_run(&order->once, first, n);

    gfn_bitmap_set_run(&order->once, first, n);
    order->sent += n;
    order->resent += again;
    order->different_sent += n - again;
}

unsigned int push_order_next_urgent(struct push_order *order, uint64_t *gfns, unsigned int max)
{
    struct push_queue *queue;
    unsigned int n;

    for (n = 0; n < max && (queue = most_urgent(order)); n++) {
        gfns[n] = next_of(queue);
        forget(order, gfns[n]);
        count_sent(order, gfns[n], 1);
        order->sent_urgent++;
        push_policy_answered(&order->policy, gfns[n]);
    }
    return n;
}

/* How many gfns from first on are in map, and free: at most `most`, in one region. */
static unsigned int run_in(const struct push_order *order, const struct gfn_bitmap *map, uint64_t first,
                           unsigned int most)
{
    unsigned int n = 0;

    most = push_pages_up(&order->pages, first, most);
    while (n < most && gfn_bitmap_test(map, first + n))
        n++;
    return n;
}

static uint64_t next_hot(struct push_order *order)
{
    uint64_t gfn = gfn_bitmap_next(&order->hot, order->hot_cursor);

    if (gfn >= order->hot.nr)
        gfn = gfn_bitmap_next(&order->hot, 0);
    order->hot_cursor = gfn;
    return gfn;
}

static unsigned int choose_run(struct push_order *order, uint64_t *first, unsigned int most)
{
    if (order->hinted_left) {
        *first = next_of(&order->queue[0]);
        return run_in(order, &order->queue[0].asked, *first, most);
    }
    if (order->hot_left) {
        *first = next_hot(order);
        return run_in(order, &order->hot, *first, most);
    }
    return push_policy_next(&order->policy, &order->pages, first, most);
}

unsigned int push_order_next_run(struct push_order *order, uint64_t *first, unsigned int most)
{
    struct push_queue *hints = &order->queue[0];
    unsigned int n = most ? choose_run(order, first, most) : 0;
    uint64_t hinted;

    if (!n)
        return 0;
    hinted = gfn_bitmap_clear_run(&hints->asked, *first, n);
    hints->left -= hinted;
    order->hinted_left -= hinted;
    order->sent_hinted += hinted;
    order->hot_left -= gfn_bitmap_clear_run(&order->hot, *first, n);
    order->left -= gfn_bitmap_clear_run(&order->unsent, *first, n);
    push_pages_take(&order->pages, *first, n);
    count_sent(order, *first, n);
    order->since_fault += n;
    return n;
}

unsigned int push_order_chunk(const struct push_order *order, uint64_t now_ns)
{
    uint64_t n = order->since_fault / 8;

    if (n >= PUSH_CHUNK_MOST || (now_ns > order->fault_ns && now_ns - order->fault_ns > PUSH_CALM_NS))
        return PUSH_CHUNK_MOST;
    return n > PUSH_CHUNK_LEAST ? (unsigned int)n : PUSH_CHUNK_LEAST;
}

static void empty(struct push_queue *queue)
{
    gfn_bitmap_clear_run(&queue->asked, 0, queue->asked.nr);
    queue->left = queue->cursor = queue->head = queue->tail = 0;
}

void push_order_restart(struct push_order *order)
{
    order->left = order->urgent_left = order->hinted_left = 0;
    for (uint64_t first = 0; first < order->set.nr; first += 64) {
        uint64_t i = first / 64;

        order->unsent.words[i] = order->set.words[i] & (order->unsent.words[i] | order->once.words[i]);
        if (!order->unsent.words[i])
            continue;
        order->left += (uint64_t)__builtin_popcountll(order->unsent.words[i]);
        push_pages_put_bits(&order->pages, first, order->unsent.words[i]);
    }
    for (unsigned int i = 0; i < PUSH_LEVELS; i++)
        empty(&order->queue[i]);
    push_policy_restart(&order->policy);
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
