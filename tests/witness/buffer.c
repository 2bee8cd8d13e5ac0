#include "buffer.h"

#include <errno.h>
#include <sys/mman.h>

#include "clock.h"

static uint32_t entry_tag(const struct buffer *buffer, size_t page, uint32_t generation)
{
    return (uint32_t)(page_mix(buffer->seed ^ page_mix(page + 1) ^ ((uint64_t)generation << 20)) >> 32);
}

static struct page_id entry_id(const struct buffer *buffer, size_t page)
{
    return (struct page_id){
        .number = page,
        .generation = buffer->table[page].generation,
        .seed = buffer->seed,
    };
}

static void entry_set(struct buffer *buffer, size_t page, uint32_t generation)
{
    buffer->table[page].generation = generation;
    buffer->table[page].tag = entry_tag(buffer, page, generation);
}

static void *map(size_t size)
{
    return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
}

int buffer_create(struct buffer *buffer, size_t count, uint64_t seed)
{
    size_t table_size = count * sizeof(struct entry);

    *buffer = (struct buffer){.count = count, .seed = seed};
    buffer->table = map(table_size);
    if (buffer->table == MAP_FAILED)
        return -1;
    buffer->pages = map(count * PAGE_BYTES);
    if (buffer->pages == MAP_FAILED) {
        int saved = errno;

        munmap(buffer->table, table_size);
        errno = saved;
        return -1;
    }
    buffer->locked = mlock(buffer->table, table_size) == 0 && mlock(buffer->pages, count * PAGE_BYTES) == 0;
    for (size_t page = 0; page < count; page++) {
        struct page_id id;

        pthread_mutex_init(&buffer->table[page].lock, NULL);
        entry_set(buffer, page, 1);
        id = entry_id(buffer, page);
        page_fill(&buffer->pages[page], &id);
    }
    return 0;
}

void buffer_destroy(struct buffer *buffer)
{
    for (size_t page = 0; page < buffer->count; page++)
        pthread_mutex_destroy(&buffer->table[page].lock);
    munmap(buffer->table, buffer->count * sizeof(struct entry));
    munmap(buffer->pages, buffer->count * PAGE_BYTES);
}

uint64_t buffer_probe(struct buffer *buffer, size_t page, bool write)
{
    _Atomic uint64_t *number = &buffer->pages[page].number;

    // ORing 0 is a write to the MMU and changes nothing, whoever else writes.
    return write ? atomic_fetch_or(number, 0) : atomic_load_explicit(number, memory_order_relaxed);
}

static unsigned int differing_bytes(uint32_t a, uint32_t b)
{
    unsigned int n = 0;

    for (uint32_t diff = a ^ b; diff != 0; diff >>= 8)
        n += (diff & 0xff) != 0;
    return n;
}

// The table is guest memory too. An entry that contradicts itself is rebuilt
// from its page, if that one is whole; else the page's contents cannot be
// judged and are counted as one more wrong byte.
static unsigned int entry_repair(struct buffer *buffer, size_t page, const struct toucher *who)
{
    struct entry *entry = &buffer->table[page];
    struct event event = {
        .kind = EVENT_TABLE, .when = clock_now(), .source = who->source, .index = who->index};
    struct page_id found;
    struct entry wrong = {.generation = entry->generation, .tag = entry->tag};

    if (page_self_consistent(&buffer->pages[page], &found) && found.number == page &&
        found.seed == buffer->seed && found.generation <= UINT32_MAX) {
        entry_set(buffer, page, (uint32_t)found.generation);
    } else {
        struct page_id id;

        event.corruption.finding.wrong_bytes = 1;
        entry_set(buffer, page, 1);
        id = entry_id(buffer, page);
        page_fill(&buffer->pages[page], &id);
    }
    event.corruption.page = page;
    event.corruption.generation = entry->generation;
    event.corruption.finding.found.generation = wrong.generation;
    event.corruption.finding.wrong_bytes += differing_bytes(wrong.generation, entry->generation);
    event.corruption.finding.wrong_bytes += differing_bytes(wrong.tag, entry->tag);
    events_push(who->events, &event);
    return event.corruption.finding.wrong_bytes;
}

static void report(const struct toucher *who, const struct page_id *id, const struct page_finding *finding)
{
    struct event event = {
        .kind = EVENT_CORRUPTION,
        .when = clock_now(),
        .source = who->source,
        .index = who->index,
        .corruption = {.page = id->number, .generation = id->generation, .finding = *finding},
    };

    events_push(who->events, &event);
}

unsigned int buffer_verify(struct buffer *buffer, size_t page, bool write, uint64_t seen,
                           const struct toucher *who)
{
    struct entry *entry = &buffer->table[page];
    struct page_finding finding;
    struct page_id id;
    unsigned int wrong = 0;
    bool good;

    pthread_mutex_lock(&entry->lock);
    if (entry->tag != entry_tag(buffer, page, entry->generation))
        wrong += entry_repair(buffer, page, who);
    id = entry_id(buffer, page);
    good = page_check(&buffer->pages[page], &id, &finding);
    if (good && seen != page) {
        page_seen_wrong(page, seen, &finding);
        good = false;
    }
    if (!good) {
        wrong += finding.wrong_bytes;
        report(who, &id, &finding);
        // Newer than both the table and the page, so that a late old copy shows.
        if (finding.verdict == PAGE_AHEAD && finding.found.generation < UINT32_MAX)
            entry->generation = (uint32_t)finding.found.generation;
        write = true;
    }
    if (write) {
        entry_set(buffer, page, entry->generation + 1);
        id = entry_id(buffer, page);
        page_fill(&buffer->pages[page], &id);
    }
    pthread_mutex_unlock(&entry->lock);
    return wrong;
}
