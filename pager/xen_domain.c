#include "xen_domain.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xen/hvm/params.h>

static int is_number(const char *text, uint32_t *value)
{
    char *end;
    unsigned long v;

    if (*text < '0' || *text > '9')
        return 0;
    errno = 0;
    v = strtoul(text, &end, 10);
    if (*end || errno || v == 0 || v >= DOMID_FIRST_RESERVED)
        return 0;
    *value = (uint32_t)v;
    return 1;
}

int xen_domain_find(struct xs_handle *xsh, const char *domain, uint32_t *domid)
{
    unsigned int n = 0;
    char **entries;
    int rc = -ENOENT;

    /* Whether there is such a domain Xen has to be asked in any case. */
    if (is_number(domain, domid))
        return 0;
    entries = xs_directory(xsh, XBT_NULL, "/local/domain", &n);
    for (unsigned int i = 0; entries && i < n && rc; i++) {
        char path[64];
        char *name;

        snprintf(path, sizeof(path), "/local/domain/%s/name", entries[i]);
        name = xs_read(xsh, XBT_NULL, path, NULL);
        if (name && strcmp(name, domain) == 0 && is_number(entries[i], domid))
            rc = 0;
        free(name);
    }
    free(entries);
    return rc;
}

int xen_domain_info(xc_interface *xch, uint32_t domid, struct backend_domain *out)
{
    xc_domaininfo_t info;
    int n = xc_domain_getinfolist(xch, domid, 1, &info);

    memset(out, 0, sizeof(*out));
    if (n < 0)
        return errno == ESRCH ? 0 : -errno;
    if (n == 0 || info.domain != domid)
        return 0;
    out->exists = true;
    out->dying = info.flags & XEN_DOMINF_dying;
    out->shutdown = info.flags & XEN_DOMINF_shutdown;
    out->paused = info.flags & XEN_DOMINF_paused;
    out->ran = info.cpu_time != 0;
    out->hvm = info.flags & XEN_DOMINF_hvm_guest;
    out->hap = info.flags & XEN_DOMINF_hap;
    out->shutdown_reason = info.flags >> XEN_DOMINF_shutdownshift & XEN_DOMINF_shutdownmask;
    out->vcpus = info.max_vcpu_id + 1;
    out->pages = info.tot_pages;
    out->paged_pages = info.paged_pages;
    memcpy(out->uuid, info.handle, sizeof(out->uuid));
    return 0;
}

int xen_domain_special_gfns(xc_interface *xch, uint32_t domid, uint64_t *gfns, unsigned int max)
{
    static const struct {
        int param;
        unsigned int shift; /* the param is an address */
        uint64_t mask;
        unsigned int pages;
    } params[] = {
        {HVM_PARAM_STORE_PFN, 0, UINT64_MAX, 1},
        {HVM_PARAM_IOREQ_PFN, 0, UINT64_MAX, 1},
        {HVM_PARAM_BUFIOREQ_PFN, 0, UINT64_MAX, 1},
        {HVM_PARAM_CONSOLE_PFN, 0, UINT64_MAX, 1},
        {HVM_PARAM_PAGING_RING_PFN, 0, UINT64_MAX, 1},
        {HVM_PARAM_MONITOR_RING_PFN, 0, UINT64_MAX, 1},
        {HVM_PARAM_SHARING_RING_PFN, 0, UINT64_MAX, 1},
        {HVM_PARAM_IOREQ_SERVER_PFN, 0, UINT64_MAX,
         8}, /* NR_IOREQ_SERVER_PAGES, tools/libs/guest/xg_dom_x86.c */
        {HVM_PARAM_IDENT_PT, 12, UINT64_MAX, 1},
        {HVM_PARAM_VM86_TSS, 12, UINT64_MAX, 1},
        {HVM_PARAM_VM86_TSS_SIZED, 12, UINT32_MAX, 1}, /* size in the upper half */
    };
    unsigned int n = 0;

    for (unsigned int i = 0; i < sizeof(params) / sizeof(params[0]); i++) {
        uint64_t value = 0;

        if (xc_hvm_param_get(xch, domid, (uint32_t)params[i].param, &value) || !(value & params[i].mask))
            continue;
        for (unsigned int page = 0; page < params[i].pages && n < max; page++)
            gfns[n++] = ((value & params[i].mask) >> params[i].shift) + page;
    }
    return (int)n;
}
