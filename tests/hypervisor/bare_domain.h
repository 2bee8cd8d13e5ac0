/* A domain with memory and nothing in it: what paging operations are tried and measured on. */
#ifndef BARE_DOMAIN_H
#define BARE_DOMAIN_H

#include <stdint.h>

#include <xenctrl.h>

/*
 * A new HVM domain with HAP that may have max pages of memory, and has pages of them, from gfn 0 on, in
 * superpages (so a multiple of 512). ring_gfn: where a ring of one page would be. Ends the process with a
 * message if that fails.
 */
uint32_t bare_domain_build(xc_interface *xch, uint64_t max, uint64_t pages, uint64_t ring_gfn);

#endif
