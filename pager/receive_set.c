/* Marking what the set file says, all of it and nothing else; then the claim for what is to come. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "exit_status.h"
#include "log.h"
#include "receive.h"

#define MARKS_PER_STEP 64

int receive_set_load(struct receiver *r)
{
    char why[256];

    if (set_file_load(r->options->set_fd, &r->set, why, sizeof(why))) {
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

/* Up to a step's worth of the set, from work_gfn on. */
static unsigned int next_gfns(struct receiver *r, uint64_t *gfns)
{
    unsigned int n = 0;
    uint64_t gfn;

    while (n < MARKS_PER_STEP && (gfn = gfn_bitmap_next(&r->set.map, r->work_gfn)) < r->set.map.nr) {
        gfns[n++] = gfn;
        r->work_gfn = gfn + 1;
    }
    return n;
}

/* The stream has not brought these pages, and Xen evicts only what is there: a few at a time get memory, and
 * lose it again. */
static int populate(struct receiver *r, const uint64_t *gfns, unsigned int n)
{
    uint64_t missing[MARKS_PER_STEP];
    unsigned int k = 0;
    int rc;

    for (unsigned int i = 0; i < n; i++)
        if (!gfn_bitmap_test(&r->populated, gfns[i]))
            missing[k++] = gfns[i];
    rc = k ? r->be->ops->populate(r->be, missing, k) : 0;
    if (rc) {
        receive_give_up(r, EXIT_FAILED, "%u pages from gfn 0x%llx on cannot be populated: %s", k,
                        (unsigned long long)missing[0], strerror(-rc));
        return -1;
    }
    r->populated_here += k;
    for (unsigned int i = 0; i < k; i++) {
        gfn_bitmap_set(&r->populated, missing[i]);
        r->populated_count++;
    }
    return 0;
}

static int mark(struct receiver *r, uint64_t gfn)
{
    int rc;

    if (gfn_bitmap_test(&r->special, gfn)) {
        receive_give_up(r, EXIT_FAILED,
                        "gfn 0x%llx is outstanding, and shared with the toolstack: it cannot be absent",
                        (unsigned long long)gfn);
        return -1;
    }
    rc = r->be->ops->mark(r->be, gfn);
    if (rc == 0) {
        pagein_mark(&r->pages, gfn);
        return 0;
    }
    if (rc == -ESRCH || rc == -ENODEV)
        receive_domain_event(r);
    if (session_final(r->run.state))
        return -1;
    r->refused++;
    if (rc == -EAGAIN && r->n_half < RECEIVE_HALF_MAX)
        r->half[r->n_half++] = gfn;
    receive_give_up(r, EXIT_FAILED, "Xen does not let go of gfn 0x%llx, which is outstanding: %s",
                    (unsigned long long)gfn, strerror(-rc));
    return -1;
}

static void claim(struct receiver *r)
{
    int rc = r->set.count ? r->be->ops->claim(r->be, r->set.count) : 0;

    if (rc) {
        receive_give_up(r, EXIT_FAILED, "no memory on this host for the %llu pages to come: %s",
                        (unsigned long long)r->set.count, strerror(-rc));
        return;
    }
    r->claimed = r->set.count;
    log_info("%llu pages are absent now, %llu of them were populated for it; memory for all is set aside",
             (unsigned long long)r->pages.counts.set, (unsigned long long)r->populated_here);
    r->work = WORK_SEND;
    r->work_gfn = 0;
    run_hash_init(&r->set_hash);
}

void receive_set_step(struct receiver *r)
{
    uint64_t gfns[MARKS_PER_STEP];
    unsigned int n = next_gfns(r, gfns);

    if (!n)
        return claim(r);
    if (populate(r, gfns, n))
        return;
    for (unsigned int i = 0; i < n; i++)
        if (mark(r, gfns[i]))
            return;
}
