// Contents of one witness page: all 4096 bytes follow from page number,
// generation and seed, so any wrong byte can be found and counted.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PAGE_BYTES      4096u
#define PAGE_BODY_WORDS 508u

// The page number is atomic because a thread that only wants to fault the
// page in reads it (or ORs 0 into it) without holding the page's lock.
struct page {
    _Atomic uint64_t number;
    uint64_t generation;
    uint64_t seed;
    uint64_t body[PAGE_BODY_WORDS];
    uint64_t checksum; // over all words before it
};

_Static_assert(sizeof(struct page) == PAGE_BYTES, "a witness page fills a page");

struct page_id {
    uint64_t number;
    uint64_t generation;
    uint64_t seed;
};

enum page_verdict {
    PAGE_GOOD,
    PAGE_CORRUPT,   // not a page this program ever wrote
    PAGE_ZERO,      // all bytes 0: never filled
    PAGE_STALE,     // whole and valid, but an older generation
    PAGE_AHEAD,     // whole and valid, but newer than the table: the table's page is the stale one
    PAGE_MISPLACED, // whole and valid, but another page's contents
    PAGE_FOREIGN,   // whole and valid, of another seed: another run or another guest
    PAGE_TRANSIENT, // wrong at the first look, right at the second
};

struct page_finding {
    enum page_verdict verdict;
    unsigned int wrong_bytes; // exact, at least 1 unless the verdict is PAGE_GOOD
    unsigned int offset;      // of the first wrong byte
    uint8_t expected, got;    // that byte
    struct page_id found;     // what the page's own header says
};

// Write the contents that belong to id.
void page_fill(struct page *page, const struct page_id *id);

// Compare every byte with the contents that belong to id; true if all match.
// When they do not, finding says what is wrong. Caller holds the page's lock.
bool page_check(const struct page *page, const struct page_id *id, struct page_finding *finding);

// Finding for a page that is right by now but whose number was read as seen before.
void page_seen_wrong(uint64_t number, uint64_t seen, struct page_finding *finding);

// Is the page whole by its own header and checksum? If so *id is its header.
bool page_self_consistent(const struct page *page, struct page_id *id);

const char *page_verdict_name(enum page_verdict verdict);

// A well-mixed 64-bit value of x (finaliser of splitmix64).
uint64_t page_mix(uint64_t x);
