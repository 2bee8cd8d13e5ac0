#include "core/pagein.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WITH_OTHERS 0x10 /* requested because a neighbour was; nobody is known to wait for it */
#define BAD         0x20 /* its hash was wrong twice */
#define WAS_ASKED   0x40 /* a vcpu or a foreign map wanted it before it came */
#define ASKED_AGAIN 0x80 /* its hash was wrong once */

int pagein_init(struct pagein *p, uint64_t nr)
{
    memset(p, 0, sizeof(*p));
    p->state = calloc(nr ? nr : 1, 1);
    if (!p->state)
        return -ENOMEM;
    p->nr = nr;
    return 0;
}

void pagein_free(struct pagein *p)
{
    free(p->state);
    p->state = NULL;
    p->nr = 0;
}

static uint64_t *population(struct pagein *p, enum page_state state)
{
    switch (state) {
    case PAGE_ABSENT:
        return &p->absent;
    case PAGE_REQUESTED:
        return &p->requested;
    case PAGE_ARRIVED:
        return &p->arrived;
    default:
        return NULL;
    }
}

static void move(struct pagein *p, uint64_t gfn, enum page_state to)
{
    uint64_t *from_count = population(p, pagein_state(p, gfn)), *to_count = population(p, to);

    if (from_count)
        --*from_count;
    if (to_count)
        ++*to_count;
    else if (p->state[gfn] & BAD)
        p->bad--;
    p->state[gfn] = (uint8_t)((p->state[gfn] & ~PAGEIN_STATE) | to);
}

void pagein_mark(struct pagein *p, uint64_t gfn)
{
    move(p, gfn, PAGE_ABSENT);
    p->counts.set++;
}

#define EACH_BYTE(value) (UINT64_C(0x0101010101010101) * (value))

static uint64_t eight(const struct pagein *p, uint64_t first)
{
    uint64_t word;

    memcpy(&word, p->state + first, sizeof(word));
    return word;
}

static bool all_unknown(const struct pagein *p, uint64_t first)
{
    uint64_t any = 0;

    for (uint64_t gfn = first; gfn < first + 64; gfn += 8)
        any |= eight(p, gfn);
    return any == 0;
}

void pagein_mark_bits(struct pagein *p, uint64_t first, uint64_t bits)
{
    if (bits == ~UINT64_C(0) && all_unknown(p, first)) {
        memset(p->state + first, PAGE_ABSENT, 64);
        p->absent += 64;
        p->counts.set += 64;
        return;
    }
    for (; bits; bits &= bits - 1) {
        uint64_t gfn = first + (uint64_t)__builtin_ctzll(bits);

        if (p->state[gfn] != PAGE_KEPT) {
            pagein_mark(p, gfn);
            continue;
        }
        /* The same for what nothing was known of: all of a guest's memory, with the guest suspended. */
        p->state[gfn] = PAGE_ABSENT;
        p->absent++;
        p->counts.set++;
    }
}

/* Past the absent gfns that nobody has asked for, from gfn on, as far as that goes in eights. */
static uint64_t past_absent(const struct pagein *p, uint64_t gfn, uint64_t end)
{
    while (gfn + 8 <= end && eight(p, gfn) == EACH_BYTE(PAGE_ABSENT))
        gfn += 8;
    return gfn;
}

uint64_t pagein_wanted_end(const struct pagein *p, uint64_t first)
{
    uint64_t gfn = first;

    while (gfn < p->nr) {
        enum page_state state = pagein_state(p, gfn);

        if (state != PAGE_ABSENT && state != PAGE_REQUESTED)
            break;
        gfn = past_absent(p, gfn + 1, p->nr);
    }
    return gfn;
}

uint64_t pagein_marked_end(const struct pagein *p, uint64_t first, uint64_t end)
{
    uint64_t gfn = first;

    if (end > p->nr)
        end = p->nr;
    while (gfn < end && pagein_state(p, gfn) != PAGE_KEPT)
        gfn = past_absent(p, gfn + 1, end);
    return gfn;
}

static bool outstanding(enum page_state state)
{
    return state == PAGE_ABSENT || state == PAGE_REQUESTED || state == PAGE_ARRIVED;
}

static void hold(struct pagein *p, const struct ring_entry *entry, uint64_t now_ns)
{
    for (unsigned int i = 0; i < PAGEIN_WAITERS; i++) {
        if (!p->waiters[i].used) {
            p->waiters[i].entry = *entry;
            p->waiters[i].since_ns = now_ns;
            p->waiters[i].used = true;
            p->waiting++;
            return;
        }
    }
    /* A ring holds no more unanswered entries than it has slots, and none has more than PAGEIN_WAITERS. */
    abort();
}

/* Someone wants gfn, which is outstanding. */
static struct pagein_action wanted(struct pagein *p, const struct ring_entry *entry, uint64_t now_ns)
{
    struct pagein_action action = {.verdict = PAGEIN_WAIT};

    if (pagein_state(p, entry->gfn) == PAGE_ABSENT) {
        move(p, entry->gfn, PAGE_REQUESTED);
        p->state[entry->gfn] |= WAS_ASKED;
        p->counts.asked++;
        action.ask = true;
    }
    if (!(entry->kind & ENTRY_FOREIGN)) {
        if (pagein_state(p, entry->gfn) == PAGE_REQUESTED && p->state[entry->gfn] & WITH_OTHERS) {
            p->state[entry->gfn] &= (uint8_t)~WITH_OTHERS;
            p->counts.promoted++;
            action.ask = true;
        }
        if (!p->counts.guest_has_faulted) {
            p->counts.guest_has_faulted = true;
            p->counts.absent_at_first_fault = pagein_outstanding(p);
        }
        p->counts.guest_faults++;
    }
    /*
     * Only a paused guest vcpu waits for its answer. A foreign map retries until prep has flipped the type,
     * so its entry is answered now and its slot is free for the guest's vcpus (a full ring stalls those:
     * research/xen.md 8.4, 8.18).
     */
    if (!p->foreign_waits && (entry->kind & ENTRY_FOREIGN || !(entry->kind & ENTRY_PAUSED)))
        action.verdict = PAGEIN_ANSWER;
    else
        hold(p, entry, now_ns);
    return action;
}

static void count_entry(struct pagein *p, const struct ring_entry *entry)
{
    if (entry->kind & ENTRY_ALIEN)
        p->counts.entries_alien++;
    else if (entry->kind & ENTRY_DROP)
        p->counts.entries_drop++;
    else if (entry->kind & ENTRY_EVICT_FAIL)
        p->counts.entries_evict_fail++;
    else if (entry->kind & ENTRY_FOREIGN)
        p->counts.entries_foreign++;
    else
        p->counts.entries_guest++;
    p->counts.entries_range += entry->nr > 1;
    if (entry->gfn >= p->nr && !(entry->kind & ENTRY_ALIEN))
        p->counts.entries_unknown_gfn++;
}

struct pagein_action pagein_entry(struct pagein *p, const struct ring_entry *entry, uint64_t now_ns)
{
    struct pagein_action action = {.verdict = PAGEIN_ANSWER};
    enum page_state state = pagein_state(p, entry->gfn);

    count_entry(p, entry);
    if (entry->kind & ENTRY_ALIEN)
        return action;
    if (entry->kind & ENTRY_DROP) {
        if (outstanding(state)) {
            move(p, entry->gfn, PAGE_DROPPED);
            p->counts.dropped++;
            action.dropped = true;
        }
        return action;
    }
    if (entry->kind & ENTRY_EVICT_FAIL) {
        action.verdict = PAGEIN_REPAIR;
        return action;
    }
    if (outstanding(state))
        return wanted(p, entry, now_ns);
    if (!(entry->kind & ENTRY_FOREIGN))
        p->counts.answered_at_once++;
    return action;
}

uint64_t pagein_want_run(struct pagein *p, uint64_t *first, uint64_t end, uint64_t most)
{
    uint64_t gfn = *first, nr = 0;

    if (end > p->nr)
        end = p->nr;
    while (gfn < end && pagein_state(p, gfn) != PAGE_ABSENT)
        gfn++;
    *first = gfn;
    for (; gfn < end && nr < most && pagein_state(p, gfn) == PAGE_ABSENT; gfn++, nr++) {
        move(p, gfn, PAGE_REQUESTED);
        p->state[gfn] |= WAS_ASKED | WITH_OTHERS;
    }
    p->counts.asked += nr;
    p->counts.asked_with_others += nr;
    return nr;
}

bool pagein_only_arrival(const struct pagein *p, uint64_t first, uint64_t nr, uint64_t gfn)
{
    if (first + nr > p->nr || p->state[gfn] & WAS_ASKED)
        return false;
    for (uint64_t i = first; i < first + nr; i++)
        if (pagein_state(p, i) != (i == gfn ? PAGE_ARRIVED : PAGE_ABSENT))
            return false;
    return true;
}

bool pagein_all_here(const struct pagein *p, uint64_t first, uint64_t nr)
{
    bool installed = false;

    if (first + nr > p->nr)
        return false;
    for (uint64_t i = first; i < first + nr; i++) {
        switch (pagein_state(p, i)) {
        case PAGE_PRESENT:
            installed = true;
            break;
        case PAGE_KEPT:
        case PAGE_REPLACED:
            break;
        default:
            return false;
        }
    }
    return installed;
}

struct pagein_action pagein_repaired(struct pagein *p, const struct ring_entry *entry, int rc,
                                     uint64_t now_ns)
{
    struct pagein_action action = {.verdict = PAGEIN_ANSWER};

    /* -EINVAL: there is no page behind the gfn after all, so it is an ordinary fault. -ENOENT: the guest has
     * moved on. */
    if (rc == -EINVAL && outstanding(pagein_state(p, entry->gfn)))
        return wanted(p, entry, now_ns);
    return action;
}

enum pagein_arrival pagein_arrived(struct pagein *p, uint64_t gfn)
{
    switch (pagein_state(p, gfn)) {
    case PAGE_ABSENT:
    case PAGE_REQUESTED:
        move(p, gfn, PAGE_ARRIVED);
        return PAGEIN_INSTALL;
    case PAGE_ARRIVED:
    case PAGE_PRESENT:
        p->counts.duplicates++;
        return PAGEIN_DUPLICATE;
    case PAGE_DROPPED:
    case PAGE_REPLACED:
        p->counts.late++;
        return PAGEIN_LATE;
    case PAGE_KEPT:
        break;
    }
    return PAGEIN_UNEXPECTED;
}

bool pagein_bad_hash(struct pagein *p, uint64_t gfn)
{
    bool again = !(p->state[gfn] & ASKED_AGAIN);

    p->counts.bad_hash++;
    move(p, gfn, PAGE_REQUESTED);
    p->state[gfn] = (uint8_t)((p->state[gfn] & ~WITH_OTHERS) | ASKED_AGAIN);
    if (!again && !(p->state[gfn] & BAD)) {
        p->state[gfn] |= BAD;
        p->bad++;
    }
    return again;
}

bool pagein_installed(struct pagein *p, uint64_t gfn, int rc)
{
    if (rc == 0) {
        move(p, gfn, PAGE_PRESENT);
        p->counts.installed++;
        if (p->state[gfn] & WAS_ASKED)
            p->counts.installed_faulted++;
        return true;
    }
    if (rc == -ENOENT || rc == -EEXIST) {
        move(p, gfn, PAGE_REPLACED);
        p->counts.replaced++;
        return true;
    }
    p->counts.nomem += rc == -ENOMEM;
    return false;
}

bool pagein_awaited(const struct pagein *p, uint64_t gfn)
{
    unsigned int left = p->waiting;

    for (unsigned int i = 0; left && i < PAGEIN_WAITERS; i++) {
        if (!p->waiters[i].used)
            continue;
        if (p->waiters[i].entry.gfn == gfn)
            return true;
        left--;
    }
    return false;
}

/* The waiter's entry is to be answered now, and its place is free. */
static void let_go(struct pagein *p, struct pagein_waiter *waiter, struct ring_entry *entry)
{
    waiter->used = false;
    p->waiting--;
    *entry = waiter->entry;
}

bool pagein_release(struct pagein *p, uint64_t gfn, uint64_t now_ns, struct ring_entry *entry)
{
    unsigned int left = p->waiting;

    for (unsigned int i = 0; left && i < PAGEIN_WAITERS; i++) {
        struct pagein_waiter *waiter = &p->waiters[i];

        left -= waiter->used;
        if (waiter->used && waiter->entry.gfn == gfn) {
            if (!(waiter->entry.kind & ENTRY_FOREIGN))
                latency_add(&p->stalls, now_ns - waiter->since_ns);
            let_go(p, waiter, entry);
            return true;
        }
    }
    return false;
}

bool pagein_release_foreign(struct pagein *p, struct ring_entry *entry)
{
    p->foreign_waits = false;
    for (unsigned int i = 0; p->waiting && i < PAGEIN_WAITERS; i++) {
        struct pagein_waiter *waiter = &p->waiters[i];

        if (waiter->used && waiter->entry.kind & ENTRY_FOREIGN) {
            let_go(p, waiter, entry);
            return true;
        }
    }
    return false;
}
