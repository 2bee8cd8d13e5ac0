#include "page.h"

#include <stddef.h>
#include <string.h>

uint64_t page_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

// The body is a plain linear congruential sequence and the checksum a sum: a
// multiplication and two additions a word, which matters on an emulated CPU.
// Nothing rests on their quality: every byte is compared.
static uint64_t body_start(const struct page_id *id)
{
    return page_mix(id->seed + page_mix(id->number + page_mix(id->generation + 1)));
}

static inline uint64_t body_next(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state;
}

static uint64_t sum_header(const struct page_id *id)
{
    return UINT64_C(0x77697473) + id->number + id->generation + id->seed;
}

void page_fill(struct page *page, const struct page_id *id)
{
    uint64_t state = body_start(id);
    uint64_t sum = sum_header(id);

    atomic_store_explicit(&page->number, id->number, memory_order_relaxed);
    page->generation = id->generation;
    page->seed = id->seed;
#pragma GCC unroll 4
    for (unsigned int i = 0; i < PAGE_BODY_WORDS; i++) {
        uint64_t word = body_next(&state);

        page->body[i] = word;
        sum += word;
    }
    page->checksum = sum;
}

static struct page_id header_of(const struct page *page)
{
    return (struct page_id){
        .number = atomic_load_explicit(&page->number, memory_order_relaxed),
        .generation = page->generation,
        .seed = page->seed,
    };
}

bool page_self_consistent(const struct page *page, struct page_id *id)
{
    struct page expected;

    *id = header_of(page);
    page_fill(&expected, id);
    return memcmp(&expected, page, sizeof(expected)) == 0;
}

static unsigned int wrong_bytes(const uint8_t *expected, const uint8_t *got, unsigned int len,
                                unsigned int *first)
{
    unsigned int wrong = 0;

    for (unsigned int i = 0; i < len; i++)
        if (expected[i] != got[i] && wrong++ == 0)
            *first = i;
    return wrong;
}

static bool all_zero(const struct page *page)
{
    static const struct page zero;

    return memcmp(page, &zero, sizeof(zero)) == 0;
}

static enum page_verdict classify(const struct page *page, const struct page_id *id)
{
    struct page_id found;

    if (all_zero(page))
        return PAGE_ZERO;
    if (!page_self_consistent(page, &found))
        return PAGE_CORRUPT;
    if (found.seed != id->seed)
        return PAGE_FOREIGN;
    if (found.number != id->number)
        return PAGE_MISPLACED;
    return found.generation < id->generation ? PAGE_STALE : PAGE_AHEAD;
}

// One word that differed when it was first read: kept so that a page that is
// right again at the second look is still reported with what was seen.
struct first_look {
    unsigned int offset;
    uint64_t expected, got;
};

static void transient(const struct first_look *look, struct page_finding *finding)
{
    const uint8_t *expected = (const uint8_t *)&look->expected, *got = (const uint8_t *)&look->got;
    unsigned int first = 0;

    finding->verdict = PAGE_TRANSIENT;
    finding->wrong_bytes = wrong_bytes(expected, got, sizeof(look->got), &first);
    finding->offset = look->offset + first;
    finding->expected = expected[first];
    finding->got = got[first];
}

void page_seen_wrong(uint64_t number, uint64_t seen, struct page_finding *finding)
{
    const struct first_look look = {.offset = 0, .expected = number, .got = seen};

    *finding = (struct page_finding){.found = {.number = seen}};
    transient(&look, finding);
}

static void examine(const struct page *page, const struct page_id *id, const struct first_look *look,
                    struct page_finding *finding)
{
    struct page copy, expected;
    unsigned int first = 0;

    memcpy(&copy, page, sizeof(copy));
    page_fill(&expected, id);
    finding->found = header_of(&copy);
    finding->wrong_bytes =
        wrong_bytes((const uint8_t *)&expected, (const uint8_t *)&copy, PAGE_BYTES, &first);
    if (finding->wrong_bytes != 0) {
        finding->verdict = classify(&copy, id);
        finding->offset = first;
        finding->expected = ((const uint8_t *)&expected)[first];
        finding->got = ((const uint8_t *)&copy)[first];
        return;
    }
    transient(look, finding);
}

// Compare one word that was read once; false (and *look) if it differs.
static inline bool same(unsigned int offset, uint64_t expected, uint64_t got, struct first_look *look)
{
    if (expected == got)
        return true;
    *look = (struct first_look){.offset = offset, .expected = expected, .got = got};
    return false;
}

static bool first_pass(const struct page *page, const struct page_id *id, struct first_look *look)
{
    struct page_id header = header_of(page);
    uint64_t state = body_start(id);
    uint64_t sum = sum_header(id);

    if (!same(offsetof(struct page, number), id->number, header.number, look) ||
        !same(offsetof(struct page, generation), id->generation, header.generation, look) ||
        !same(offsetof(struct page, seed), id->seed, header.seed, look))
        return false;
#pragma GCC unroll 4
    for (unsigned int i = 0; i < PAGE_BODY_WORDS; i++) {
        uint64_t word = body_next(&state);

        if (!same(offsetof(struct page, body) + 8 * i, word, page->body[i], look))
            return false;
        sum += word;
    }
    return same(offsetof(struct page, checksum), sum, page->checksum, look);
}

bool page_check(const struct page *page, const struct page_id *id, struct page_finding *finding)
{
    struct first_look look;

    if (first_pass(page, id, &look))
        return true;
    *finding = (struct page_finding){.verdict = PAGE_GOOD};
    examine(page, id, &look, finding);
    return false;
}

const char *page_verdict_name(enum page_verdict verdict)
{
    static const char *const names[] = {
        [PAGE_GOOD] = "good",       [PAGE_CORRUPT] = "corrupt",     [PAGE_ZERO] = "zero",
        [PAGE_STALE] = "stale",     [PAGE_AHEAD] = "ahead",         [PAGE_MISPLACED] = "misplaced",
        [PAGE_FOREIGN] = "foreign", [PAGE_TRANSIENT] = "transient",
    };

    return names[verdict];
}
