/* --verify=full: every page of the source against the page of the paused guest here, byte by byte. */
#include <errno.h>
#include <string.h>

#include "exit_status.h"
#include "log.h"
#include "receive.h"

static uint64_t differing_bytes(const uint8_t *a, const uint8_t *b)
{
    uint64_t n = 0;

    if (memcmp(a, b, POOL_PAGE_SIZE) == 0)
        return 0;
    for (unsigned int i = 0; i < POOL_PAGE_SIZE; i++)
        n += a[i] != b[i];
    return n;
}

void receive_compare(struct receiver *r, uint32_t slot, uint64_t gfn)
{
    bool in_set = pagein_state(&r->pages, gfn) != PAGE_KEPT;
    uint64_t bytes;
    void *page;
    int err = 0;

    r->full.compared++;
    r->full.not_in_set += !in_set;
    if (gfn >= r->populated.nr || !gfn_bitmap_test(&r->populated, gfn)) {
        r->full.missing++;
        return;
    }
    page = r->be->ops->map(r->be, &gfn, 1, &err);
    if (!page || err) {
        r->full.unmapped++;
        log_error("gfn 0x%llx cannot be mapped for the comparison: %s", (unsigned long long)gfn,
                  strerror(page ? -err : errno));
        if (page)
            r->be->ops->unmap(r->be, page, 1);
        return;
    }
    bytes = differing_bytes(page, pool_page(r->pool, slot));
    r->be->ops->unmap(r->be, page, 1);
    if (!bytes)
        return;
    if (!in_set) {
        r->full.not_in_set_differing++;
        return;
    }
    if (r->full.differing_pages < sizeof(r->full.first_gfns) / sizeof(r->full.first_gfns[0])) {
        r->full.first_gfns[r->full.differing_pages] = gfn;
        log_error("gfn 0x%llx differs from the source in %llu bytes", (unsigned long long)gfn,
                  (unsigned long long)bytes);
    }
    r->full.differing_pages++;
    r->full.differing_bytes += bytes;
}

void receive_verified(struct receiver *r)
{
    r->verified = true;
    log_info("compared %llu pages: %llu differ; of %llu outside the set %llu differ, %llu are not here",
             (unsigned long long)r->full.compared, (unsigned long long)r->full.differing_pages,
             (unsigned long long)r->full.not_in_set, (unsigned long long)r->full.not_in_set_differing,
             (unsigned long long)r->full.missing);
    receive_check_complete(r);
}
