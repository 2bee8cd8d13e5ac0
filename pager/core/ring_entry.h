/* One entry of a paging ring, as the core sees it. */
#ifndef XENPAGING_PC_RING_ENTRY_H
#define XENPAGING_PC_RING_ENTRY_H

#include <stdint.h>

#define ENTRY_PAUSED     1u  /* the guest vcpu was paused and waits for the answer */
#define ENTRY_FOREIGN    2u  /* raised by a map from another domain, which tries again by itself */
#define ENTRY_DROP       4u  /* the guest released the page */
#define ENTRY_EVICT_FAIL 8u  /* the page was only nominated: still there, its type has to be flipped back */
#define ENTRY_ALIEN      16u /* not about paging */

struct ring_entry {
    uint64_t gfn;
    uint32_t vcpu_id;
    uint32_t kind;    /* ENTRY_* */
    uint32_t p2mt;    /* the backend's, given back with the answer */
    uint32_t backend; /* the backend's */
    uint32_t nr;      /* gfns that are wanted from gfn on, the first of them being waited for; 0 is 1 */
};

#endif
