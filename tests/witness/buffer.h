// The memory under watch and the table of what it must hold.
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "events.h"
#include "page.h"

// What page i must hold is known apart from it, so that an old but intact
// copy of a page is noticed. The tag guards the entry itself.
struct entry {
    pthread_mutex_t lock;
    uint32_t generation;
    uint32_t tag;
};

struct buffer {
    struct page *pages;
    struct entry *table;
    size_t count;
    uint64_t seed;
    bool locked; // mlock worked for both
};

// Who touches, for reports.
struct toucher {
    struct events *events;
    const char *source;
    unsigned int index;
};

// Allocate and fill count pages (generation 1), lock them in memory if
// allowed. 0, or -1 with errno set.
int buffer_create(struct buffer *buffer, size_t count, uint64_t seed);
void buffer_destroy(struct buffer *buffer);

// Touch the page with a single instruction, without its lock and without
// changing it; this is what faults if the page is absent. Legal at any time
// from any number of threads. Returns the page number that was read.
uint64_t buffer_probe(struct buffer *buffer, size_t page, bool write);

// Verify the whole page under its lock; with write, give it its next
// generation after that. seen is what buffer_probe() returned for it: if that
// was another page's number, it is wrong even if the page is right by now. A wrong page is pushed as an event
// and put right with a generation of its own, so that each wrong byte is counted once. Returns the number of
// wrong bytes.
unsigned int buffer_verify(struct buffer *buffer, size_t page, bool write, uint64_t seen,
                           const struct toucher *who);
