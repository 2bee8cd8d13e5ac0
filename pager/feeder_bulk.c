/* Bulk channels: a thread each, which reads pages into slots and says on the same channel how many it has
 * taken. */
#include "feeder_state.h"
#include "sandbox.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* On a channel that blocks: serve reads what it is told before it sends on. */
static void flush(struct feeder_inlet *in)
{
    while (in->out_start < in->out_end) {
        ssize_t n = write(in->channel.out, in->out + in->out_start, in->out_end - in->out_start);

        if (n < 0 && errno == EINTR)
            continue;
        /* If serve has gone, reading says so. */
        if (n < 0)
            return;
        in->out_start += (size_t)n;
    }
    in->out_start = in->out_end = 0;
}

/* Of all that was there by now; the next one includes what this one could not say. */
static void acknowledge(struct feeder_inlet *in)
{
    if (in->taken == in->told)
        return;
    in->out_end = wire_put_count(in->out, WIRE_ACK, in->taken);
    in->told = in->taken;
    flush(in);
}

bool feeder_bulk_frame(struct feeder_inlet *in)
{
    struct wire_fault fault, theirs;
    uint32_t index;

    switch (in->reader.type) {
    case WIRE_JOIN_ACK:
        if (wire_get_join_ack(in->reader.body, &index, &fault)) {
            feeder_inlet_fail(in, fault.code, "%s", fault.text);
            return false;
        }
        if (index != in->index) {
            feeder_inlet_fail(in, WIRE_ERROR_PROTOCOL, "JOIN_ACK of channel %u on channel %u", index,
                              in->index);
            return false;
        }
        in->state = WIRE_IN_ACTIVE;
        return true;
    default: /* REFUSE, ERROR */
        if (wire_get_fault(in->reader.body, in->reader.length, &theirs, &fault))
            theirs = fault;
        feeder_inlet_fail(in, FEEDER_LOST, "bulk channel %u: serve says (%s): %s", in->index,
                          wire_code_name(theirs.code), theirs.text);
        return false;
    }
}

/* False: this channel is not wanted. */
static bool await_ticket(struct feeder_inlet *in)
{
    struct feeder *f = in->f;
    struct wire_join join;
    bool wanted;

    pthread_mutex_lock(&f->lock);
    while (!f->bulk_go)
        pthread_cond_wait(&f->changed, &f->lock);
    wanted = in->index < f->bulk_go - 1;
    join = f->join;
    pthread_mutex_unlock(&f->lock);
    join.index = in->index;
    in->out_end = wire_put_join(in->out, &join);
    return wanted;
}

void *feeder_bulk_thread(void *data)
{
    struct feeder_inlet *in = data;

    sandbox_thread();
    if (!await_ticket(in)) {
        close(in->channel.in);
        if (in->channel.out != in->channel.in)
            close(in->channel.out);
        sandbox_thread_over();
    }
    flush(in);
    /* One piece, then say so: serve sends no more than a little ahead of what it has heard of. */
    while (feeder_read(in, 1))
        acknowledge(in);
    sandbox_thread_over();
}

void feeder_bulk_go(struct feeder *f, const struct wire_hello_ack *ack)
{
    pthread_mutex_lock(&f->lock);
    f->join = (struct wire_join){.version = WIRE_VERSION, .role = WIRE_JOINER, .generation = ack->generation};
    memcpy(f->join.ticket, ack->ticket, WIRE_TICKET_SIZE);
    f->bulk_go = ack->streams + 1u;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

void feeder_bulk_wake(struct feeder *f)
{
    pthread_mutex_lock(&f->lock);
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}
