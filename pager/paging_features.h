/*
 * What a Xen may have beyond operations on one page at a time and a ring of one page. Each is tried by using
 * it, and can be switched off by its name (--features) for measuring and debugging: the names are part of the
 * interface.
 */
#ifndef XENPAGING_PC_PAGING_FEATURES_H
#define XENPAGING_PC_PAGING_FEATURES_H

#include <stdbool.h>
#include <stddef.h>

#define FEATURE_MARK       1u  /* a bitmap of gfns, holes among them, made absent by one call */
#define FEATURE_PREP       2u  /* many pages installed by one call */
#define FEATURE_RING       4u  /* a ring of many pages, which are not the guest's */
#define FEATURE_RANGE      8u  /* a request may be for many gfns; needs the ring */
#define FEATURE_SUPERPAGES 16u /* 2 MiB in one entry: installed so (needs prep), or made so later */
#define FEATURES_ALL       31u
#define FEATURES           5

extern const char *const feature_names[FEATURES]; /* of bit 0 on */

/* What is in use. */
struct paging_features {
    unsigned int set; /* FEATURE_* */
    unsigned int ring_pages;
    unsigned int range_foreign, range_guest; /* windows, in gfns */
};

/* "none", "all", or names with commas between: 0; or -1, set untouched. */
int features_parse(const char *list, unsigned int *set);

/* "mark, prep batch, ring of 64 pages, ..."; what is not in use is left out. */
void features_describe(const struct paging_features *features, char *text, size_t size);

#endif
