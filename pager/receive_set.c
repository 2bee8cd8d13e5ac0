/* The set file: what is to be absent, all of it and nothing else; and the claim for what is to come. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "exit_status.h"
#include "log.h"
#include "receive.h"

int receive_set_load(struct receiver *r)
{
    char why[256];

    if (set_file_load(r->options->set_fd, &r->set, true, why, sizeof(why))) {
        receive_give_up(r, EXIT_FAILED, "%s", why);
        return -1;
    }
    /* Where the domain has nothing yet, its largest gfn says little. */
    if (r->set.map.nr && r->max_gfn < r->set.map.nr - 1)
        r->max_gfn = r->set.map.nr - 1;
    log_info("%llu pages are outstanding, the last at gfn 0x%llx", (unsigned long long)r->set.count,
             (unsigned long long)(r->set.map.nr ? r->set.map.nr - 1 : 0));
    return 0;
}

int receive_set_check(struct receiver *r)
{
    for (uint64_t gfn = 0; (gfn = gfn_bitmap_next(&r->special, gfn)) < r->special.nr; gfn++) {
        if (gfn < r->set.map.nr && gfn_bitmap_test(&r->set.map, gfn)) {
            receive_give_up(r, EXIT_FAILED,
                            "gfn 0x%llx is outstanding, and shared with the toolstack: it cannot be absent",
                            (unsigned long long)gfn);
            return -1;
        }
    }
    return 0;
}

int receive_set_claim(struct receiver *r)
{
    int rc = r->be->ops->info(r->be, &r->domain);

    /* Whatever was marked early, and whoever has changed something since. */
    if (rc || r->domain.paged_pages != r->set.count) {
        receive_domain_event(r);
        receive_give_up(r, EXIT_FAILED, "%llu pages of domain %u are absent, and %llu are outstanding",
                        (unsigned long long)r->domain.paged_pages, r->be->domid,
                        (unsigned long long)r->set.count);
        return -1;
    }
    /* Which gfns were populated nobody has looked at; how many of them there are, Xen knows. */
    r->populated_count = r->domain.pages + r->domain.paged_pages;
    rc = r->set.count ? r->be->ops->claim(r->be, r->set.count) : 0;
    if (rc) {
        receive_give_up(r, EXIT_FAILED, "no memory on this host for the %llu pages to come: %s",
                        (unsigned long long)r->set.count, strerror(-rc));
        return -1;
    }
    r->claimed = r->set.count;
    log_info("memory for all pages to come is set aside");
    return 0;
}
