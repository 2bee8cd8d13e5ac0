#include "receive_journal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault_point.h"

size_t receive_journal_bytes(const struct pool *pool)
{
    return sizeof(struct receive_journal) + (size_t)pool->slots * sizeof(struct slot_note);
}

struct receive_journal *receive_journal_create(const struct pool *pool)
{
    size_t bytes = receive_journal_bytes(pool);
    struct receive_journal *j =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    if (j == MAP_FAILED)
        return NULL;
    j->pool = *pool;
    return j;
}

static void state(struct slot_note *note, enum slot_state to)
{
    atomic_store_explicit(&note->state, to, memory_order_release);
    fault_point("noted a slot");
}

void receive_journal_take(struct receive_journal *j, const struct pool_ring *ring,
                          const struct pool_descriptor *page)
{
    struct slot_note *note = &j->slots[page->slot];

    note->bulk = ring == &j->pool.arrivals;
    note->taken_at = ring->mine;
    note->gfn = page->value[0];
    note->hash = page->value[1];
    note->flags = page->value[2];
    state(note, SLOT_TAKEN);
}

static bool send_back(struct receive_journal *j, uint32_t slot)
{
    const struct pool_descriptor order = {.type = ORDER_SLOT, .slot = slot};

    if (!pool_ring_put(&j->pool.orders, &order))
        return false;
    state(&j->slots[slot], SLOT_FEEDER);
    return true;
}

bool receive_journal_give_back(struct receive_journal *j, uint32_t slot)
{
    j->slots[slot].going_at = j->pool.orders.mine;
    state(&j->slots[slot], SLOT_GOING);
    return send_back(j, slot);
}

void receive_journal_keep_back(struct receive_journal *j, uint32_t slot)
{
    state(&j->slots[slot], SLOT_FEEDER);
}

void receive_journal_stage(struct receive_journal *j, unsigned int stage, uint64_t first)
{
    struct stage_note *note = &j->stages[stage];

    for (unsigned int i = 0; i < BACKEND_SUPER / 64; i++)
        atomic_store_explicit(&note->there[i], 0, memory_order_relaxed);
    atomic_store_explicit(&note->region, first + 1, memory_order_release);
    fault_point("noted a stage");
}

void receive_journal_staged(struct receive_journal *j, unsigned int stage, uint64_t gfn)
{
    /* After the contents, before its slot. */
    atomic_fetch_or_explicit(&j->stages[stage].there[gfn % BACKEND_SUPER / 64], UINT64_C(1) << gfn % 64,
                             memory_order_acq_rel);
    fault_point("staged a page");
}

void receive_journal_unstage(struct receive_journal *j, unsigned int stage)
{
    atomic_store_explicit(&j->stages[stage].region, 0, memory_order_release);
    fault_point("freed a stage");
}

bool receive_journal_gathers(const struct receive_journal *j)
{
    for (unsigned int i = 0; i < RECEIVE_STAGES; i++)
        if (j->stages[i].region)
            return true;
    return false;
}

bool receive_journal_has_staged(const struct receive_journal *j, uint64_t gfn)
{
    for (unsigned int i = 0; i < RECEIVE_STAGES; i++) {
        const struct stage_note *note = &j->stages[i];

        if (note->region == gfn - gfn % BACKEND_SUPER + 1)
            return note->there[gfn % BACKEND_SUPER / 64] >> gfn % 64 & 1;
    }
    return false;
}

bool receive_journal_say(struct receive_journal *j, enum said what, const struct pool_descriptor *order)
{
    atomic_store_explicit(&j->said[what], SAID_AT | j->pool.orders.mine, memory_order_release);
    fault_point("noted an order");
    if (pool_ring_put(&j->pool.orders, order))
        return true;
    atomic_store_explicit(&j->said[what], 0, memory_order_release);
    return false;
}

bool receive_journal_said(const struct receive_journal *j, enum said what)
{
    uint64_t at = atomic_load_explicit(&j->said[what], memory_order_acquire);

    return at && (uint32_t)at != j->pool.orders.mine;
}

void receive_journal_count(struct receive_journal *j, const struct pagein_counts *counts)
{
    atomic_store_explicit(&j->installed, counts->installed, memory_order_relaxed);
    atomic_store_explicit(&j->dropped, counts->dropped, memory_order_relaxed);
    atomic_store_explicit(&j->replaced, counts->replaced, memory_order_relaxed);
    atomic_store_explicit(&j->settled, counts->installed + counts->dropped + counts->replaced,
                          memory_order_relaxed);
    fault_point("counted");
}

const struct receive_facts *receive_journal_facts(const struct receive_journal *j)
{
    uint32_t n = atomic_load_explicit(&j->facts_count, memory_order_acquire);

    return n ? &j->facts[n % 2] : NULL;
}

struct receive_facts *receive_journal_facts_to_write(struct receive_journal *j)
{
    uint32_t n = atomic_load_explicit(&j->facts_count, memory_order_relaxed);

    /* Those that counted until now are written over only when they do not count any more. */
    atomic_thread_fence(memory_order_seq_cst);
    return &j->facts[(n + 1) % 2];
}

void receive_journal_facts_written(struct receive_journal *j)
{
    uint32_t n = atomic_load_explicit(&j->facts_count, memory_order_relaxed) + 1;

    fault_point("wrote the facts");
    /* 0 is none. */
    atomic_store_explicit(&j->facts_count, n ? n : 2, memory_order_release);
    fault_point("made the facts count");
}

void receive_journal_take_over(struct receive_journal *j)
{
    /* Before an order of ours moves the index. */
    for (unsigned int i = 0; i < SAID_KINDS; i++)
        if (!receive_journal_said(j, (enum said)i))
            atomic_store(&j->said[i], 0);
    for (uint32_t slot = 0; slot < j->pool.slots; slot++) {
        struct slot_note *note = &j->slots[slot];
        uint32_t now = atomic_load_explicit(&note->state, memory_order_acquire);

        /* Its report is still there: it comes again. */
        if (now == SLOT_TAKEN &&
            note->taken_at == (note->bulk ? j->pool.arrivals.mine : j->pool.reports.mine))
            state(note, SLOT_FEEDER);
        if (now != SLOT_GOING)
            continue;
        if (note->going_at != j->pool.orders.mine)
            state(note, SLOT_FEEDER);
        else if (!send_back(j, slot))
            state(note, SLOT_TAKEN);
    }
    pool_ring_take_over_producer(&j->pool.orders);
    pool_ring_take_over_consumer(&j->pool.reports);
    pool_ring_take_over_consumer(&j->pool.arrivals);
}

int receive_map_file(int fd, size_t bytes, void **map)
{
    int rc;

    if (ftruncate(fd, (off_t)bytes))
        return -errno;
    rc = -posix_fallocate(fd, 0, (off_t)bytes);
    if (rc)
        return rc;
    *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return *map == MAP_FAILED ? -errno : 0;
}

struct receive_notes receive_journal_notes(int fd, uint64_t nr, bool make)
{
    struct receive_notes notes = {.asked = {.nr = nr}, .zeros = {.nr = nr}};
    size_t bytes = (size_t)(nr / 64 + 1) * sizeof(uint64_t);
    struct stat file;
    void *map;

    /* Of a smaller domain, as it was thought to be. */
    if (make && ftruncate(fd, 0))
        return notes;
    /* It may have been made for more gfns than there turned out to be. */
    if (!make && (fstat(fd, &file) || (size_t)file.st_size < 2 * bytes))
        return notes;
    if (!make)
        bytes = (size_t)file.st_size / 2;
    if (receive_map_file(fd, 2 * bytes, &map))
        return notes;
    notes.bytes = 2 * bytes;
    notes.asked.words = map;
    notes.zeros.words = notes.asked.words + bytes / sizeof(uint64_t);
    return notes;
}

void receive_journal_notes_free(struct receive_notes *notes)
{
    if (notes->asked.words)
        munmap(notes->asked.words, notes->bytes);
    notes->asked.words = notes->zeros.words = NULL;
}

int receive_journal_write_set(int fd, const struct pagein *pages, const struct gfn_bitmap *among)
{
    size_t bytes = (size_t)(pages->nr / 64 + 1) * sizeof(uint64_t);
    struct gfn_bitmap set = {.nr = pages->nr};
    void *map;
    int rc = receive_map_file(fd, bytes, &map);

    if (rc)
        return rc;
    set.words = map;
    for (uint64_t gfn = 0; (gfn = gfn_bitmap_next(among, gfn)) < set.nr;) {
        uint64_t end = pagein_marked_end(pages, gfn, gfn_bitmap_next_clear(among, gfn));

        gfn_bitmap_set_run(&set, gfn, end - gfn);
        gfn = end > gfn ? end : gfn + 1;
    }
    munmap(map, bytes);
    return 0;
}

struct gfn_bitmap receive_journal_map_set(int fd, uint64_t nr)
{
    void *map = mmap(NULL, (size_t)(nr / 64 + 1) * sizeof(uint64_t), PROT_READ, MAP_SHARED, fd, 0);

    return (struct gfn_bitmap){.words = map == MAP_FAILED ? NULL : map, .nr = nr};
}
