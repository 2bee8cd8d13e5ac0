/* What Xen and xenstore say about a domain, for the backend and for probe. */
#ifndef XENPAGING_PC_XEN_DOMAIN_H
#define XENPAGING_PC_XEN_DOMAIN_H

#include <stdint.h>

#include <xenctrl.h>
#include <xenstore.h>

#include "backend.h"

/* domid of the domain of that name, or of that number if it is one. 0, or -ENOENT. */
int xen_domain_find(struct xs_handle *xsh, const char *domain, uint32_t *domid);

/* 0, or -errno when Xen cannot be asked. A domain that is not there is exists = false. */
int xen_domain_info(xc_interface *xch, uint32_t domid, struct backend_domain *out);

/*
 * gfns that the HVM params name: rings, console, xenstore, ioreq pages, identity page table, VM86 TSS
 * (xen/include/public/hvm/params.h). Toolstack, device model and Xen map them. Returns how many.
 */
int xen_domain_special_gfns(xc_interface *xch, uint32_t domid, uint64_t *gfns, unsigned int max);

#endif
