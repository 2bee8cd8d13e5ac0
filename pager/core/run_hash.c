#include "core/run_hash.h"

#include <errno.h>

#include "wire/bytes.h"

void run_hash_init(struct run_hash *hash)
{
    XXH64_reset(&hash->state, 0);
    hash->pages = 0;
    hash->runs = 0;
    hash->end = 0;
}

int run_hash_add(struct run_hash *hash, uint64_t first, uint64_t count, uint64_t limit)
{
    uint8_t raw[16];

    if (count == 0 || first > limit || count > limit - first)
        return -EINVAL;
    if (hash->runs && first <= hash->end)
        return -EINVAL;
    put_u64(raw, first);
    put_u64(raw + 8, count);
    XXH64_update(&hash->state, raw, sizeof(raw));
    hash->pages += count;
    hash->runs++;
    hash->end = first + count;
    return 0;
}

uint64_t run_hash_value(const struct run_hash *hash)
{
    return XXH64_digest(&hash->state);
}
