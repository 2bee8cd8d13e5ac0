#include "bare_domain.h"

#include <err.h>

#include <xen/domctl.h>
#include <xen/hvm/params.h>

#define SUPER      512u
#define P2M_MB     4u      /* for small domains: page tables, and some more */
#define PAGES_A_MB 131072u /* 8 bytes of page table for each page */

uint32_t bare_domain_build(xc_interface *xch, uint64_t max, uint64_t pages, uint64_t ring_gfn)
{
    struct xen_domctl_createdomain config = {
        .flags = XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap,
        .max_vcpus = 2,
        .max_evtchn_port = 1023,
        .max_grant_frames = 4,
        .max_maptrack_frames = 4,
        .grant_opts = XEN_DOMCTL_GRANT_version(1),
        .arch.emulation_flags = XEN_X86_EMU_LAPIC,
    };
    uint32_t id = 0;
    unsigned int pool_mb = P2M_MB + (unsigned int)(max / PAGES_A_MB);

    if (xc_domain_create(xch, &id, &config))
        err(1, "creating a domain");
    if (xc_domain_max_vcpus(xch, id, config.max_vcpus) ||
        xc_shadow_control(xch, id, XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION, &pool_mb, 0) < 0 ||
        xc_domain_setmaxmem(xch, id, max * 4))
        err(1, "building domain %u", id);
    for (uint64_t gfn = 0; gfn < pages; gfn += SUPER) {
        xen_pfn_t pfn = gfn;

        if (xc_domain_populate_physmap_exact(xch, id, 1, 9, 0, &pfn))
            err(1, "populating gfn 0x%llx of domain %u", (unsigned long long)gfn, id);
    }
    if (xc_hvm_param_set(xch, id, HVM_PARAM_PAGING_RING_PFN, ring_gfn))
        err(1, "domain %u's paging ring", id);
    return id;
}
