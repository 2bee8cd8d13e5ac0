/*
 * Operations on many pages, by one call where the backend has it (features), otherwise one by one: the pager
 * has a single way to mark and to install, on every Xen.
 */
#ifndef XENPAGING_PC_BACKEND_BATCH_H
#define XENPAGING_PC_BACKEND_BATCH_H

#include "backend.h"

/* gfns of one backend_mark() call, a multiple of 64: what may be done before events are looked at. */
uint32_t backend_mark_most(const struct backend *be);

/*
 * Make each gfn absent whose bit is set, bit 0 of bits[0] being first: evict the page, and with holes also
 * where there is none (there will be memory for it: the caller's claim). nr is at most backend_mark_most().
 * Bits of gfns that are absent now are cleared; one that stays set is of a page that Xen keeps. half, of as
 * many words, gets the bits of those that are nominated and stay (see backend.h: mark).
 * 0, or -errno with the bits telling what was done: -ENOMEM, -ESRCH, -ENODEV.
 */
int backend_mark(struct backend *be, uint64_t first, uint32_t nr, bool holes, uint64_t *bits, uint64_t *half);

/*
 * Install up to BACKEND_LOAD_MAX pages, in this order. Returns how many were tried and have an rc; fewer than
 * n when memory ran out, the last of them having -ENOMEM then, or when the domain is gone (0 or more).
 */
unsigned int backend_load(struct backend *be, struct backend_page *pages, unsigned int n);

#endif
