#include "contents.h"

#include <string.h>

#include "mix.h"

#define WORDS (NATIVE_PAGE / sizeof(uint64_t))

static bool is_zero(uint64_t gfn, unsigned int zero_percent)
{
    return mix64(~gfn) % 100 < zero_percent;
}

static void expected(uint64_t gfn, unsigned int zero_percent, uint64_t words[WORDS])
{
    uint64_t x = mix64(gfn + 1);

    if (is_zero(gfn, zero_percent)) {
        memset(words, 0, NATIVE_PAGE);
        return;
    }
    words[0] = gfn; /* for whoever looks at a page with a wrong one in it */
    for (unsigned int i = 1; i < WORDS; i++)
        words[i] = x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
}

void contents_fill(uint64_t gfn, unsigned int zero_percent, uint8_t *page)
{
    uint64_t words[WORDS];

    expected(gfn, zero_percent, words);
    memcpy(page, words, sizeof(words));
}

unsigned int contents_wrong(uint64_t gfn, unsigned int zero_percent, const uint8_t *page)
{
    uint64_t words[WORDS];
    unsigned int wrong = 0;

    expected(gfn, zero_percent, words);
    if (memcmp(page, words, sizeof(words)) == 0)
        return 0;
    for (unsigned int i = 0; i < NATIVE_PAGE; i++)
        wrong += page[i] != ((const uint8_t *)words)[i];
    return wrong;
}
