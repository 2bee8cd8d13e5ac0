/* A number of an option, decimal. False if it is none, or out of bounds. */
#ifndef NATIVE_NUMBER_H
#define NATIVE_NUMBER_H

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

static inline bool native_number(const char *text, uint64_t least, uint64_t most, uint64_t *value)
{
    char *end;

    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return !errno && !*end && *value >= least && *value <= most;
}

#endif
