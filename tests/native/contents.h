/* What is in a page of the guest: known from its gfn alone, so that whoever has a page can check every byte.
 */
#ifndef NATIVE_CONTENTS_H
#define NATIVE_CONTENTS_H

#include <stdbool.h>
#include <stdint.h>

#define NATIVE_PAGE 4096u

/* zero_percent: so many of a hundred pages are zero. */
void contents_fill(uint64_t gfn, unsigned int zero_percent, uint8_t *page);

/* How many of its bytes are not what they should be. */
unsigned int contents_wrong(uint64_t gfn, unsigned int zero_percent, const uint8_t *page);

#endif
