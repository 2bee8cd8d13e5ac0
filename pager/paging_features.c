#include "paging_features.h"

#include <stdio.h>
#include <string.h>

const char *const feature_names[FEATURES] = {"mark", "prep", "ring", "range", "superpages"};

static unsigned int find(const char *name, size_t length)
{
    for (unsigned int i = 0; i < FEATURES; i++)
        if (strlen(feature_names[i]) == length && strncmp(feature_names[i], name, length) == 0)
            return 1u << i;
    return 0;
}

int features_parse(const char *list, unsigned int *set)
{
    unsigned int found = 0;

    if (strcmp(list, "none") == 0 || strcmp(list, "all") == 0) {
        *set = *list == 'a' ? FEATURES_ALL : 0;
        return 0;
    }
    for (;;) {
        size_t length = strcspn(list, ",");
        unsigned int one = find(list, length);

        if (!one)
            return -1;
        found |= one;
        if (!list[length])
            break;
        list += length + 1;
    }
    *set = found;
    return 0;
}

void features_describe(const struct paging_features *f, char *text, size_t size)
{
    char ring[48] = "a ring of one page", range[64] = "";

    if (f->set & FEATURE_RING)
        snprintf(ring, sizeof(ring), "ring of %u pages", f->ring_pages);
    if (f->set & FEATURE_RANGE)
        snprintf(range, sizeof(range), ", ranges (foreign %u, guest %u)", f->range_foreign, f->range_guest);
    snprintf(text, size, "%s%s%s%s%s", f->set & FEATURE_MARK ? "mark, " : "",
             f->set & FEATURE_PREP ? "prep batch, " : "", ring, range,
             f->set & FEATURE_SUPERPAGES ? ", superpages" : "");
}
