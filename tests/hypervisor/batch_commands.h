/*
 * pagectl's commands for operations on many pages at a time. Each prints one line of what came of it and
 * returns 0 or a negative errno of the operation as a whole.
 */
#ifndef BATCH_COMMANDS_H
#define BATCH_COMMANDS_H

#include <xenforeignmemory.h>

#include "../../pager/xen_paging_ops.h"
#include "absent_pages.h"

/* The least size of ops' buffer, in pages: a superpage has to fit. */
#define BATCH_SLOTS 1024u

/*
 * Make gfns first .. end-1 absent in one operation, keeping the contents of those that are there. What Xen
 * refuses is present afterwards.
 */
int batch_mark(struct paging_ops *ops, xenforeignmemory_handle *fmem, struct absent_pages *pages,
               uint64_t first, uint64_t end);

/* Install gfns first .. end-1 with what was kept of them, whether absent or not. */
int batch_prep(struct paging_ops *ops, struct absent_pages *pages, uint64_t first, uint64_t end);

/* Install 512 gfns as a superpage. */
int batch_prep_superpage(struct paging_ops *ops, struct absent_pages *pages, uint64_t gfn);

int batch_collapse(struct paging_ops *ops, uint64_t gfn);
int batch_ring_stats(struct paging_ops *ops);

#endif
