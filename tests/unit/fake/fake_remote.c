/* A fake domain in a process of its own, and the backend that calls it. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fake/fake_domain.h"

enum op {
    OP_OPEN,
    OP_CLOSE,
    OP_INFO,
    OP_PAUSE,
    OP_UNPAUSE,
    OP_MAX_GFN,
    OP_POPULATED,
    OP_SPECIAL,
    OP_POPULATE,
    OP_RELEASE,
    OP_CLAIM,
    OP_FORGET,
    OP_ATTACH,
    OP_CAN_OUTLIVE,
    OP_ATTACH_AGAIN,
    OP_TYPES,
    OP_ASK_ANEW,
    OP_DETACH,
    OP_ABANDON,
    OP_SLOTS,
    OP_RING_STATS,
    OP_MARK,
    OP_MARK_BATCH,
    OP_UNMARK,
    OP_LOAD,
    OP_LOAD_BATCH,
    OP_COLLAPSE,
    OP_REPAIR,
    OP_NEXT_ENTRY,
    OP_RESPOND,
    OP_PUSH,
    OP_MAP,
    OP_CHECK,
};

static const char *const op_name[] = {
    "open",         "close",      "info",     "pause",  "unpause",    "max_gfn",  "populated",
    "special",      "populate",   "release",  "claim",  "forget",     "attach",   "can_outlive",
    "attach_again", "types",      "ask_anew", "detach", "abandon",    "slots",    "ring_stats",
    "mark",         "mark_batch", "unmark",   "load",   "load_batch", "collapse", "repair",
    "next_entry",   "respond",    "push",     "map",    "check",
};

struct call {
    int who; /* replies to someone who is gone are not for the next */
    enum op op;
    uint64_t a, b;
    struct paging_features features; /* of the pager's backend */
    struct backend_wish wish;
    struct ring_entry entry;
    union {
        uint64_t words[512];
        uint8_t page[FAKE_PAGE];
        struct {
            uint64_t gfn, order;
        } batch[BACKEND_LOAD_MAX]; /* the contents are in `shared` */
    } in;
};

struct reply {
    int who, rc;
    uint64_t value;
    struct backend_domain domain;
    struct backend_calls calls; /* that it was */
    struct paging_features features;
    struct backend_ring_stats stats;
    struct ring_entry entry;
    union {
        uint64_t words[512];
        int rcs[BACKEND_LOAD_MAX];
        uint8_t bytes[FAKE_PAGE];
        char text[256];
    } out;
};

struct remote {
    struct backend be;
    int who, event_fd, life_fd;
};

static int sockets[2] = {-1, -1}, event_fd = -1, life_fd = -1; /* [0] pagers, [1] domain */

/*
 * What is too long for a message: pages of a load_batch(), one after the other, or a bitmap. The next pager's
 * first call waits for the last one's, which may still be looking at it.
 */
#define SHARED_BYTES ((size_t)(BACKEND_SUPER + BACKEND_LOAD_MAX) * FAKE_PAGE)
static void *shared;

void fake_remote_prepare(void)
{
    for (int i = 0; i < 2; i++)
        if (sockets[i] >= 0)
            close(sockets[i]);
    if (event_fd >= 0)
        close(event_fd);
    if (life_fd >= 0)
        close(life_fd);
    if (!shared)
        shared = mmap(NULL, SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        abort();
    event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    life_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets))
        abort();
}

void fake_remote_forget(void)
{
    sockets[0] = sockets[1] = event_fd = life_fd = -1;
}

/* -- the domain's process */

static unsigned int load_batch(struct backend *be, const struct call *c, struct reply *r)
{
    struct backend_page pages[BACKEND_LOAD_MAX];
    size_t at = 0;
    unsigned int done;

    for (uint64_t i = 0; i < c->a; i++) {
        pages[i] = (struct backend_page){.gfn = c->in.batch[i].gfn,
                                         .contents = (uint8_t *)shared + at,
                                         .order = (unsigned int)c->in.batch[i].order};
        at += (size_t)FAKE_PAGE << pages[i].order;
    }
    done = be->ops->load_batch(be, pages, (unsigned int)c->a);
    for (unsigned int i = 0; i < done; i++)
        r->out.rcs[i] = pages[i].rc;
    return done;
}

static void carry_out(struct backend *be, struct call *c, struct reply *r)
{
    const struct backend_ops *ops = be->ops;
    void *page;
    int err = 0;

    switch (c->op) {
    case OP_OPEN:
        break;
    case OP_CLOSE:
        ops->close(be);
        break;
    case OP_INFO:
        r->rc = ops->info(be, &r->domain);
        break;
    case OP_PAUSE:
        r->rc = ops->pause(be);
        break;
    case OP_UNPAUSE:
        r->rc = ops->unpause(be);
        break;
    case OP_MAX_GFN:
        r->rc = ops->max_gfn(be, &r->value);
        break;
    case OP_POPULATED:
        r->rc = ops->populated(be, c->a, (uint32_t)c->b, r->out.words);
        break;
    case OP_SPECIAL:
        r->rc = ops->special(be, r->out.words);
        break;
    case OP_POPULATE:
        r->rc = ops->populate(be, c->in.words, (unsigned int)c->a);
        break;
    case OP_RELEASE:
        r->rc = ops->release(be, c->in.words, (unsigned int)c->a);
        break;
    case OP_CLAIM:
        r->rc = ops->claim(be, c->a);
        break;
    case OP_FORGET:
        ops->forget(be, "");
        break;
    case OP_ATTACH:
        r->rc = ops->attach(be, &c->wish, r->out.text, sizeof(r->out.text));
        break;
    case OP_CAN_OUTLIVE:
        r->rc = ops->can_outlive(be);
        break;
    case OP_ATTACH_AGAIN:
        r->rc = ops->attach_again(be, r->out.text, sizeof(r->out.text));
        break;
    case OP_TYPES:
        r->rc = ops->types(be, c->a, (unsigned int)c->b, r->out.bytes);
        break;
    case OP_ASK_ANEW:
        r->rc = ops->ask_anew(be, c->a, (uint32_t)c->b, shared);
        break;
    case OP_DETACH:
        r->rc = ops->detach(be);
        break;
    case OP_ABANDON:
        ops->abandon(be);
        break;
    case OP_SLOTS:
        r->rc = (int)ops->slots(be);
        break;
    case OP_RING_STATS:
        r->rc = ops->ring_stats(be, &r->stats);
        break;
    case OP_MARK:
        r->rc = ops->mark(be, c->a);
        break;
    case OP_MARK_BATCH:
        r->rc = ops->mark_batch(be, c->a, (uint32_t)c->b, shared);
        break;
    case OP_UNMARK:
        r->rc = ops->unmark(be, c->a, c->in.page);
        break;
    case OP_LOAD:
        r->rc = ops->load(be, c->a, c->in.page);
        break;
    case OP_LOAD_BATCH:
        r->rc = (int)load_batch(be, c, r);
        break;
    case OP_COLLAPSE:
        r->rc = ops->collapse(be, c->a);
        break;
    case OP_REPAIR:
        r->rc = ops->repair(be, c->a);
        break;
    case OP_NEXT_ENTRY:
        r->rc = ops->next_entry(be, &r->entry);
        break;
    case OP_RESPOND:
        ops->respond(be, &c->entry);
        break;
    case OP_PUSH:
        r->rc = ops->push(be);
        break;
    case OP_MAP:
        page = ops->map(be, &c->a, 1, &err);
        r->rc = err;
        memcpy(r->out.bytes, page, FAKE_PAGE);
        ops->unmap(be, page, 1);
        break;
    case OP_CHECK:
        fake_check_all();
        break;
    }
}

static void subtract(struct backend_calls *calls, const struct backend_calls *before)
{
    uint64_t *a = (uint64_t *)calls;
    const uint64_t *b = (const uint64_t *)before;

    for (size_t i = 0; i < sizeof(*calls) / sizeof(*a); i++)
        a[i] -= b[i];
}

void fake_remote_serve(const struct fake_config *config)
{
    static struct call c;
    static struct reply r;
    struct backend *be;
    char why[256];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(sockets[0]);
    fake_prepare(config);
    fake_prepare_events(event_fd, life_fd);
    be = fake_open("g", why, sizeof(why));
    config->results->ready = 0;
    while (recv(sockets[1], &c, sizeof(c), 0) > 0) {
        struct backend_calls before = be->calls;

        if (c.op == OP_OPEN)
            config->results->ready = 1;
        memset(&r, 0, sizeof(r));
        r.who = c.who;
        r.value = be->domid;
        be->features = c.features;
        carry_out(be, &c, &r);
        r.features = be->features;
        r.calls = be->calls;
        subtract(&r.calls, &before);
        if (send(sockets[1], &r, sizeof(r), MSG_NOSIGNAL) != sizeof(r))
            break;
    }
    _exit(0);
}

/* -- the pagers' */

static const struct reply *ask(struct backend *be, struct call *c)
{
    static struct reply r;
    struct remote *remote = (struct remote *)((char *)be - offsetof(struct remote, be));
    uint64_t *sum = (uint64_t *)&be->calls, *calls = (uint64_t *)&r.calls;
    char where[32];

    snprintf(where, sizeof(where), "before %s", op_name[c->op]);
    fake_crash_point(where);
    c->who = remote->who;
    c->features = be->features;
    if (send(sockets[0], c, sizeof(*c), MSG_NOSIGNAL) != sizeof(*c))
        _exit(99);
    do {
        if (recv(sockets[0], &r, sizeof(r), 0) != sizeof(r))
            _exit(99);
    } while (r.who != c->who);
    be->features = r.features;
    for (size_t i = 0; i < sizeof(r.calls) / sizeof(*sum); i++)
        sum[i] += calls[i];
    snprintf(where, sizeof(where), "after %s", op_name[c->op]);
    fake_crash_point(where);
    return &r;
}

static const struct reply *ask_about(struct backend *be, enum op op, uint64_t a, uint64_t b)
{
    static struct call c;

    c.op = op;
    c.a = a;
    c.b = b;
    return ask(be, &c);
}

static void be_close(struct backend *be)
{
    ask_about(be, OP_CLOSE, 0, 0);
    free((char *)be - offsetof(struct remote, be));
}

static int be_info(struct backend *be, struct backend_domain *out)
{
    const struct reply *r = ask_about(be, OP_INFO, 0, 0);

    *out = r->domain;
    return r->rc;
}

static int be_pause(struct backend *be)
{
    return ask_about(be, OP_PAUSE, 0, 0)->rc;
}

static int be_unpause(struct backend *be)
{
    return ask_about(be, OP_UNPAUSE, 0, 0)->rc;
}

static int be_max_gfn(struct backend *be, uint64_t *max)
{
    const struct reply *r = ask_about(be, OP_MAX_GFN, 0, 0);

    *max = r->value;
    return r->rc;
}

static int be_populated(struct backend *be, uint64_t first, uint32_t n, uint64_t *bits)
{
    const struct reply *r = ask_about(be, OP_POPULATED, first, n);

    memcpy(bits, r->out.words, (n + 63) / 64 * sizeof(*bits));
    return r->rc;
}

static int be_special(struct backend *be, uint64_t gfns[BACKEND_SPECIAL_MAX])
{
    const struct reply *r = ask_about(be, OP_SPECIAL, 0, 0);

    memcpy(gfns, r->out.words, BACKEND_SPECIAL_MAX * sizeof(*gfns));
    return r->rc;
}

static int ask_about_gfns(struct backend *be, enum op op, const uint64_t *gfns, unsigned int n)
{
    static struct call c;

    c.op = op;
    c.a = n;
    memcpy(c.in.words, gfns, n * sizeof(*gfns));
    return ask(be, &c)->rc;
}

static int be_populate(struct backend *be, const uint64_t *gfns, unsigned int n)
{
    return ask_about_gfns(be, OP_POPULATE, gfns, n);
}

static int be_release(struct backend *be, const uint64_t *gfns, unsigned int n)
{
    return ask_about_gfns(be, OP_RELEASE, gfns, n);
}

static int be_claim(struct backend *be, uint64_t pages)
{
    return ask_about(be, OP_CLAIM, pages, 0)->rc;
}

static bool be_owned(struct backend *be, const char *session)
{
    (void)be, (void)session;
    return true;
}

static void be_forget(struct backend *be, const char *session)
{
    (void)session;
    ask_about(be, OP_FORGET, 0, 0);
}

static int with_reason(const struct reply *r, char *why, size_t why_size)
{
    snprintf(why, why_size, "%s", r->out.text);
    return r->rc;
}

static int be_attach(struct backend *be, const struct backend_wish *wish, char *why, size_t why_size)
{
    static struct call c;

    c.op = OP_ATTACH;
    c.wish = *wish;
    return with_reason(ask(be, &c), why, why_size);
}

static bool be_can_outlive(struct backend *be)
{
    return ask_about(be, OP_CAN_OUTLIVE, 0, 0)->rc;
}

static int be_attach_again(struct backend *be, char *why, size_t why_size)
{
    return with_reason(ask_about(be, OP_ATTACH_AGAIN, 0, 0), why, why_size);
}

static int be_types(struct backend *be, uint64_t first, unsigned int n, uint8_t *types)
{
    const struct reply *r = ask_about(be, OP_TYPES, first, n);

    memcpy(types, r->out.bytes, n);
    return r->rc;
}

static int ask_about_bits(struct backend *be, enum op op, uint64_t first, uint32_t nr, uint64_t *bits)
{
    size_t bytes = ((size_t)nr + 63) / 64 * 8;
    int rc;

    if (bytes > SHARED_BYTES)
        abort();
    memcpy(shared, bits, bytes);
    rc = ask_about(be, op, first, nr)->rc;
    memcpy(bits, shared, bytes);
    return rc;
}

static int be_ask_anew(struct backend *be, uint64_t first, uint32_t nr, uint64_t *bitmap)
{
    return ask_about_bits(be, OP_ASK_ANEW, first, nr, bitmap);
}

static int be_detach(struct backend *be)
{
    return ask_about(be, OP_DETACH, 0, 0)->rc;
}

static void be_abandon(struct backend *be)
{
    ask_about(be, OP_ABANDON, 0, 0);
}

static unsigned int be_slots(struct backend *be)
{
    return (unsigned int)ask_about(be, OP_SLOTS, 0, 0)->rc;
}

static int be_ring_stats(struct backend *be, struct backend_ring_stats *out)
{
    const struct reply *r = ask_about(be, OP_RING_STATS, 0, 0);

    if (r->rc == 0)
        *out = r->stats;
    return r->rc;
}

static int be_mark(struct backend *be, uint64_t gfn)
{
    return ask_about(be, OP_MARK, gfn, 0)->rc;
}

static int be_mark_batch(struct backend *be, uint64_t first, uint32_t nr, uint64_t *bits)
{
    return ask_about_bits(be, OP_MARK_BATCH, first, nr, bits);
}

static int be_unmark(struct backend *be, uint64_t gfn, void *scratch)
{
    (void)scratch;
    return ask_about(be, OP_UNMARK, gfn, 0)->rc;
}

static int be_load(struct backend *be, uint64_t gfn, const void *page)
{
    static struct call c;

    c.op = OP_LOAD;
    c.a = gfn;
    memcpy(c.in.page, page, FAKE_PAGE);
    return ask(be, &c)->rc;
}

static unsigned int be_load_batch(struct backend *be, struct backend_page *pages, unsigned int n)
{
    static struct call c;
    const struct reply *r;
    size_t at = 0;

    c.op = OP_LOAD_BATCH;
    c.a = n;
    for (unsigned int i = 0; i < n; i++) {
        size_t bytes = (size_t)FAKE_PAGE << pages[i].order;

        if (n > BACKEND_LOAD_MAX || at + bytes > SHARED_BYTES)
            abort();
        c.in.batch[i].gfn = pages[i].gfn;
        c.in.batch[i].order = pages[i].order;
        memcpy((uint8_t *)shared + at, pages[i].contents, bytes);
        at += bytes;
    }
    r = ask(be, &c);
    for (int i = 0; i < r->rc; i++)
        pages[i].rc = r->out.rcs[i];
    return (unsigned int)r->rc;
}

static int be_collapse(struct backend *be, uint64_t gfn)
{
    return ask_about(be, OP_COLLAPSE, gfn, 0)->rc;
}

static int be_repair(struct backend *be, uint64_t gfn)
{
    return ask_about(be, OP_REPAIR, gfn, 0)->rc;
}

static int be_event_fd(struct backend *be)
{
    return ((struct remote *)((char *)be - offsetof(struct remote, be)))->event_fd;
}

static int be_ack_event(struct backend *be)
{
    uint64_t count;

    return read(be_event_fd(be), &count, sizeof(count)) < 0 ? -errno : 0;
}

static bool be_next_entry(struct backend *be, struct ring_entry *entry)
{
    const struct reply *r = ask_about(be, OP_NEXT_ENTRY, 0, 0);

    *entry = r->entry;
    return r->rc;
}

static void be_respond(struct backend *be, const struct ring_entry *entry)
{
    static struct call c;

    c.op = OP_RESPOND;
    c.entry = *entry;
    ask(be, &c);
}

static int be_push(struct backend *be)
{
    return ask_about(be, OP_PUSH, 0, 0)->rc;
}

static int be_life_fd(struct backend *be)
{
    return ((struct remote *)((char *)be - offsetof(struct remote, be)))->life_fd;
}

static void be_ack_life(struct backend *be)
{
    uint64_t count;

    if (read(be_life_fd(be), &count, sizeof(count)) < 0)
        return;
}

static void *be_map(struct backend *be, const uint64_t *gfns, unsigned int n, int *err)
{
    const struct reply *r;
    void *page;

    if (n != 1)
        abort();
    r = ask_about(be, OP_MAP, gfns[0], 0);
    page = malloc(FAKE_PAGE);
    memcpy(page, r->out.bytes, FAKE_PAGE);
    *err = r->rc;
    return page;
}

static void be_unmap(struct backend *be, void *address, unsigned int n)
{
    (void)be, (void)n;
    free(address);
}

static const struct backend_ops remote_ops = {
    .name = "remote fake",
    .close = be_close,
    .info = be_info,
    .pause = be_pause,
    .unpause = be_unpause,
    .max_gfn = be_max_gfn,
    .populated = be_populated,
    .special = be_special,
    .populate = be_populate,
    .release = be_release,
    .claim = be_claim,
    .forget = be_forget,
    .owned = be_owned,
    .attach = be_attach,
    .can_outlive = be_can_outlive,
    .attach_again = be_attach_again,
    .types = be_types,
    .ask_anew = be_ask_anew,
    .detach = be_detach,
    .abandon = be_abandon,
    .slots = be_slots,
    .ring_stats = be_ring_stats,
    .mark = be_mark,
    .mark_batch = be_mark_batch,
    .unmark = be_unmark,
    .load = be_load,
    .load_batch = be_load_batch,
    .collapse = be_collapse,
    .repair = be_repair,
    .event_fd = be_event_fd,
    .ack_event = be_ack_event,
    .next_entry = be_next_entry,
    .respond = be_respond,
    .push = be_push,
    .life_fd = be_life_fd,
    .ack_life = be_ack_life,
    .map = be_map,
    .unmap = be_unmap,
};

struct backend *fake_remote_open(const char *domain, char *why, size_t why_size)
{
    struct remote *remote;

    if (strcmp(domain, "nobody") == 0) {
        snprintf(why, why_size, "no domain '%s' here", domain);
        return NULL;
    }
    /* Without the domain there is nothing to wait for. */
    if (sockets[1] >= 0)
        close(sockets[1]);
    sockets[1] = -1;
    remote = calloc(1, sizeof(*remote));
    remote->be.ops = &remote_ops;
    remote->be.scan_most = BACKEND_SCAN_MAX;
    remote->who = getpid();
    remote->event_fd = event_fd;
    remote->life_fd = life_fd;
    remote->be.domid = (uint32_t)ask_about(&remote->be, OP_OPEN, 0, 0)->value;
    return &remote->be;
}

void fake_remote_check(void)
{
    struct remote remote = {.who = -1};

    ask_about(&remote.be, OP_CHECK, 0, 0);
}
