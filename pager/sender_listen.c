/* Waiting for the receiver: strangers are refused with a reason and cannot keep it out. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net.h"
#include "sender_state.h"

#define MS UINT64_C(1000000)

/* Answers come from everywhere; the push goes through one region after the other. */
#define URGENT_GFNS    16u
#define URGENT_WINDOWS 256u
#define BULK_WINDOWS   64u
#define BULK_GFNS      64u

static void drop(struct sender_pending *p)
{
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
}

/* One attempt: the frame is small, and nobody waits for a stranger. */
static void refuse(struct sender *s, int fd, const struct wire_fault *fault)
{
    uint8_t frame[WIRE_HEAD_SIZE + 8 + WIRE_TEXT_MAX];
    struct wire_fault told = *fault;

    if (told.code > WIRE_REFUSE_GENERATION)
        told.code = WIRE_REFUSE_MALFORMED;
    s->config->figures->refused++;
    sender_tell(s, SENDER_REFUSED, told.code, told.text);
    /* Who does not listen need not be told. */
    if (send(fd, frame, wire_put_fault(frame, WIRE_REFUSE, &told), MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
        net_say_goodbye(fd);
}

static void turn_away(struct sender *s, struct sender_pending *p, const struct wire_fault *fault)
{
    refuse(s, p->fd, fault);
    /* A channel that a transport has brought is the only one there is. */
    if (p->trusted)
        sender_leave(s);
    drop(p);
}

static void where_from(int fd, char *text, size_t size)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } addr;
    socklen_t length = sizeof(addr);
    char host[INET6_ADDRSTRLEN] = "?";
    unsigned int port = 0;

    memset(&addr, 0, sizeof(addr));
    if (getpeername(fd, &addr.any, &length) == 0 && addr.any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &addr.v4.sin_addr, host, sizeof(host));
        port = ntohs(addr.v4.sin_port);
    } else if (addr.any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &addr.v6.sin6_addr, host, sizeof(host));
        port = ntohs(addr.v6.sin6_port);
    }
    snprintf(text, size, "%s %u", host, port);
}

static void hello(struct sender *s, struct sender_pending *p)
{
    struct wire_hello ours = {.version = WIRE_VERSION,
                              .role = WIRE_SERVER,
                              .page_shift = WIRE_PAGE_SHIFT,
                              .offered = WIRE_FEATURES,
                              .generation = s->config->generation};
    struct wire_hello theirs;
    struct wire_fault fault;
    uint64_t features;
    char peer[128];

    memcpy(ours.uuid, s->config->uuid, sizeof(ours.uuid));
    memcpy(ours.token, s->config->token, sizeof(ours.token));
    if (wire_get_hello(p->reader.body, &theirs, &fault) ||
        wire_judge_hello(&theirs, &ours, &features, &fault)) {
        turn_away(s, p, &fault);
        /* It knows the token, and has given up the channels that we still have: it comes again. */
        if (fault.code == WIRE_REFUSE_GENERATION && s->control >= 0 && theirs.generation)
            sender_lost(s, "the receiver has lost its channels");
        return;
    }
    if (s->came >= 0 || s->control >= 0) {
        wire_fault_set(&fault, WIRE_REFUSE_BUSY, "another receiver has this session");
        turn_away(s, p, &fault);
        if (s->control >= 0 && theirs.generation)
            sender_lost(s, "the receiver has lost its channels");
        return;
    }
    s->hello = theirs;
    s->features = features;
    s->came = (int)(p - s->pending);
    where_from(p->fd, peer, sizeof(peer));
    sender_tell(s, SENDER_CAME, 0, peer);
}

static void join(struct sender *s, struct sender_pending *p)
{
    struct wire_join theirs, ours = s->ticket;
    struct wire_fault fault;
    uint8_t frame[WIRE_HEAD_SIZE + 8];

    ours.index = (uint8_t)s->streams;
    if (wire_get_join(p->reader.body, &theirs, &fault) ||
        wire_judge_join(&theirs, &ours, s->control >= 0 ? s->joined : ~0u, &fault)) {
        turn_away(s, p, &fault);
        return;
    }
    if (send(p->fd, frame, wire_put_words(frame, WIRE_JOIN_ACK, theirs.index, 0),
             MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
        drop(p);
        return;
    }
    s->joined |= 1u << theirs.index;
    sender_bulk_join(s, theirs.index, p->fd);
    p->fd = -1;
    sender_go(s);
}

static void first_frame(struct sender *s, struct sender_pending *p)
{
    struct wire_fault fault;

    if (p->reader.type == WIRE_HELLO) {
        hello(s, p);
    } else if (p->reader.type == WIRE_JOIN) {
        join(s, p);
    } else {
        wire_fault_set(&fault, WIRE_REFUSE_MALFORMED, "%s instead of HELLO or JOIN",
                       wire_type_name(p->reader.type));
        turn_away(s, p, &fault);
    }
}

/* Which channel it is the type of its first frame says; the header is judged as one of that. */
static void choose_channel(struct sender_pending *p)
{
    if (p->reader.part == READ_HEAD && p->reader.have == WIRE_HEAD_SIZE - 1)
        p->reader.channel = p->reader.head[4] == WIRE_JOIN ? WIRE_BULK : WIRE_CONTROL;
}

void sender_pending_readable(struct sender *s, struct sender_pending *p)
{
    uint8_t *where;
    size_t room = frame_reader_space(&p->reader, &where);
    ssize_t n;

    /* The last byte of the header alone: by then its type is known. */
    if (p->reader.part == READ_HEAD && room > 1)
        room--;
    n = recv(p->fd, where, room, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        if (p->trusted)
            sender_lost(s, "the channel ended before the receiver came");
        drop(p);
        return;
    }
    switch (frame_reader_advance(&p->reader, (size_t)n, WIRE_IN_HELLO)) {
    case FRAME_MORE:
        choose_channel(p);
        break;
    case FRAME_DONE:
        first_frame(s, p);
        break;
    case FRAME_PAGES:
    case FRAME_BAD:
        turn_away(s, p, &p->reader.fault);
    }
}

int sender_pending_late(struct sender *s)
{
    uint64_t now = monotonic_ns();
    int next = -1;

    for (int i = 0; i < SENDER_PENDING; i++) {
        struct sender_pending *p = &s->pending[i];
        struct wire_fault fault;
        int left;

        if (p->fd < 0 || p->trusted || i == s->came)
            continue;
        left = SENDER_HELLO_MS - (int)((now - p->since_ns) / MS);
        if (left > 0) {
            next = next < 0 || left < next ? left : next;
            continue;
        }
        wire_fault_set(&fault, WIRE_REFUSE_MALFORMED, "no HELLO within %d s", SENDER_HELLO_MS / 1000);
        turn_away(s, p, &fault);
    }
    return next;
}

static void expect(struct sender_pending *p, int fd, bool trusted)
{
    p->fd = fd;
    p->trusted = trusted;
    p->since_ns = monotonic_ns();
    frame_reader_init(&p->reader, WIRE_SERVER, WIRE_CONTROL);
}

static struct sender_pending *oldest_stranger(struct sender *s)
{
    struct sender_pending *oldest = NULL;

    for (int i = 0; i < SENDER_PENDING; i++) {
        struct sender_pending *p = &s->pending[i];

        if (p->fd >= 0 && !p->trusted && i != s->came && (!oldest || p->since_ns < oldest->since_ns))
            oldest = p;
    }
    return oldest;
}

void sender_expect(struct sender *s, int fd, bool trusted)
{
    struct sender_pending *oldest;
    struct wire_fault fault;

    for (int i = 0; i < SENDER_PENDING; i++) {
        struct sender_pending *p = &s->pending[i];

        if (p->fd >= 0)
            continue;
        expect(p, fd, trusted);
        return;
    }
    wire_fault_set(&fault, WIRE_REFUSE_BUSY, "too many connections that have said neither HELLO nor JOIN");
    oldest = oldest_stranger(s);
    if (!oldest) {
        refuse(s, fd, &fault);
        close(fd);
        return;
    }
    /* Who has anything to say has said it. */
    turn_away(s, oldest, &fault);
    expect(oldest, fd, trusted);
}

void sender_connect(struct sender *s)
{
    int fd = accept4(s->config->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return;
    net_tune(fd);
    sender_expect(s, fd, false);
}

/* The bitmaps: the first two are serve's, the third ours. */
static int map_bitmaps(struct sender *s, int fd)
{
    size_t bytes = sender_bitmap_bytes(s->nr_gfns) / SENDER_BITMAPS;
    uint8_t *map = mmap(NULL, SENDER_BITMAPS * bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    close(fd);
    if (map == MAP_FAILED)
        return -errno;
    s->allowed = (struct gfn_bitmap){.words = (void *)(map + SENDER_ALLOWED * bytes), .nr = s->nr_gfns};
    s->populated = (struct gfn_bitmap){.words = (void *)(map + SENDER_POPULATED * bytes), .nr = s->nr_gfns};
    s->in_set = (struct gfn_bitmap){.words = (void *)(map + SENDER_IN_SET * bytes), .nr = s->nr_gfns};
    return 0;
}

/* All that depends on how large the domain is. */
static int allocate(struct sender *s, int bitmaps)
{
    int rc = map_bitmaps(s, bitmaps);

    if (rc == 0)
        rc = push_order_init(&s->order, s->nr_gfns);
    push_order_policy(&s->order, s->config->order);
    if (rc == 0)
        rc = map_cache_init(&s->maps, s->config->be, s->nr_gfns, URGENT_GFNS, URGENT_WINDOWS);
    for (uint32_t i = 0; i < s->config->streams && rc == 0; i++)
        rc = map_cache_init(&s->bulk[i].maps, s->config->be, s->nr_gfns, BULK_GFNS, BULK_WINDOWS);
    return rc;
}

static void greet(struct sender *s)
{
    struct wire_hello_ack ack = {.features = s->features,
                                 .populated = s->populated_count,
                                 .nr_gfns = s->nr_gfns,
                                 .streams = (uint8_t)s->streams,
                                 .generation = s->config->generation + 1};

    memcpy(ack.uuid, s->config->uuid, sizeof(ack.uuid));
    memcpy(ack.ticket, s->ticket.ticket, sizeof(ack.ticket));
    s->out_end += wire_put_hello_ack(sender_out(s, WIRE_HEAD_SIZE + WIRE_ACK_SIZE), &ack);
}

/* The set was agreed on before. */
static void take_set(struct sender *s)
{
    uint64_t first = 0, end;

    while ((first = gfn_bitmap_next(&s->in_set, first)) < s->nr_gfns) {
        end = gfn_bitmap_next_clear(&s->in_set, first);
        push_order_add(&s->order, first, end - first);
        first = end;
    }
}

void sender_accept(struct sender *s, const struct sender_message *word, int bitmaps)
{
    struct sender_pending *p = &s->pending[s->came < 0 ? 0 : s->came];
    int rc;

    if (s->came < 0 || bitmaps < 0)
        sender_lost(s, "accepted a receiver that has not come");
    s->control = p->fd;
    p->fd = -1;
    s->came = -1;
    s->populated_count = word->value[0];
    s->nr_gfns = word->value[1];
    rc = allocate(s, bitmaps);
    if (rc)
        sender_fail(s, WIRE_ERROR_INTERNAL, "memory for %llu gfns: %s", (unsigned long long)s->nr_gfns,
                    strerror(-rc));
    s->streams = s->hello.streams < s->config->streams ? s->hello.streams : s->config->streams;
    s->config->figures->streams = s->streams;
    /* Zero pages that nobody asked for take no slot, so that nothing would bound them on control. */
    if (!s->streams)
        s->features &= ~WIRE_FEATURE_ZERO;
    s->state = s->config->generation ? WIRE_IN_RESUME : WIRE_IN_SET;
    run_hash_init(&s->set_hash);
    if (s->config->generation)
        take_set(s);
    frame_reader_init(&s->reader, WIRE_SERVER, WIRE_CONTROL);
    greet(s);
}

void sender_refuse(struct sender *s, const struct sender_message *word)
{
    struct wire_fault fault;

    if (s->came < 0)
        return;
    wire_fault_set(&fault, word->code, "%s", word->text);
    turn_away(s, &s->pending[s->came], &fault);
    s->came = -1;
}

void sender_go(struct sender *s)
{
    bool again = s->state == WIRE_IN_RESUME;

    if (!s->may_go || (s->state != WIRE_IN_SET && !again) || s->joined != (1u << s->streams) - 1)
        return;
    s->out_end += wire_put_pair(sender_out(s, WIRE_HEAD_SIZE + 16), again ? WIRE_RESUME_ACK : WIRE_SET_ACK,
                                s->set_hash.pages, run_hash_value(&s->set_hash));
    s->state = WIRE_IN_ACTIVE;
}
