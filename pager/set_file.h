/*
 * The set file: the gfns that are outstanding after the switch, written by libxc into a memfd and sealed.
 * Both sides of a migration have one: the source's from xc_domain_save, the destination's from
 * xc_domain_restore.
 *
 * Little endian: magic "XPCSET01"; u64 nr_gfns (highest outstanding gfn + 1, 0 if there is none); u64 count;
 * then ceil(nr_gfns / 64) u64 words, bit gfn % 64 of word gfn / 64.
 */
#ifndef XENPAGING_PC_SET_FILE_H
#define XENPAGING_PC_SET_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/gfn_bitmap.h"

#define SET_FILE_MAGIC "XPCSET01"
#define SET_FILE_HEAD  24u

struct set_file {
    struct gfn_bitmap map; /* map.nr is nr_gfns */
    uint64_t count;
};

/*
 * Read the set behind fd, from its start whatever its offset, and check everything in it: seals (nobody can
 * change it any more; unless it is not the final one), magic, size, the limit of gfns, count, the highest
 * gfn, no stray bits. Returns 0, or -errno with a sentence in why and nothing allocated; -EBUSY: it is not
 * sealed (yet).
 */
int set_file_load(int fd, struct set_file *set, bool final, char *why, size_t why_size);
void set_file_free(struct set_file *set);

#endif
