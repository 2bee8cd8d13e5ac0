/*
 * The canonical form of a set of gfns, as wire/PROTOCOL.md has it: ascending maximal runs, hashed with
 * xxh64. Both ends feed the same runs and have to come to the same count and hash.
 */
#ifndef XENPAGING_PC_RUN_HASH_H
#define XENPAGING_PC_RUN_HASH_H

#include <stdint.h>

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

struct run_hash {
    XXH64_state_t state;
    uint64_t pages;
    uint64_t runs;
    uint64_t end; /* first gfn behind the last run */
};

void run_hash_init(struct run_hash *hash);

/*
 * Add the run first .. first+count-1. Returns 0, or -EINVAL (and adds nothing) if count is 0, first + count
 * overflows or passes limit, or the run does not start beyond the end of the one before.
 */
int run_hash_add(struct run_hash *hash, uint64_t first, uint64_t count, uint64_t limit);

uint64_t run_hash_value(const struct run_hash *hash);

#endif
