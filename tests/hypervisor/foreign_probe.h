/*
 * One attempt to map a gfn of a domain into dom0, without the retries of libxenforeignmemory: what a mapper's
 * first hypercall does to an absent gfn.
 */
#ifndef FOREIGN_PROBE_H
#define FOREIGN_PROBE_H

#include <stdint.h>

/* Xen's answer for the gfn: 0 when it could be mapped (it is unmapped again), else a negative errno, -ENOENT
 * for one that is absent. *ioctl_errno is errno of the ioctl itself, 0 when that succeeded. */
int foreign_probe(uint32_t domid, uint64_t gfn, int *ioctl_errno);

#endif
