/*
 * Superpages. The background push brings a region in the order of its gfns, into whatever slots of the pool
 * are free; of a region that is wholly absent the pages are gathered in one place, and installed as one when
 * the last of them has come. As soon as anyone touches the region, what there is of it is installed page by
 * page. Those, and all other regions that filled up page by page, are collapsed when every page is here
 * (receive_collapse.c).
 *
 * A region is larger than a small pool: its pages cannot keep their slots until the last has come. They give
 * them back, and outlive a pager that is killed where they are gathered, in memory that the keeper holds.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include "backend_batch.h"
#include "log.h"
#include "receive.h"
#include "wire/wire.h"

#define NOWHERE UINT64_MAX
#define BOTH    (FEATURE_PREP | FEATURE_SUPERPAGES)

static uint64_t region_of(uint64_t gfn)
{
    return gfn - gfn % BACKEND_SUPER;
}

static uint8_t *place(const struct receive_stage *stage, uint64_t gfn)
{
    return stage->pages + gfn % BACKEND_SUPER * POOL_PAGE_SIZE;
}

int receive_super_init(struct receiver *r, uint64_t nr)
{
    void *map = NULL;
    uint8_t *pages;
    int rc = 0;

    if (gfn_bitmap_init(&r->super, (nr - 1) / BACKEND_SUPER + 1) ||
        gfn_bitmap_init(&r->collapse.busy, (nr - 1) / BACKEND_SUPER + 1))
        return -1;
    if ((r->be->features.set & BOTH) == BOTH)
        /* Made by the first pager that needs them: where Xen has no superpages, nobody does. */
        rc = receive_map_file(r->keeping->stage_fd, RECEIVE_STAGES * RECEIVE_STAGE_BYTES, &map);
    if (rc && receive_journal_gathers(r->journal))
        return -1;
    pages = rc ? NULL : map;
    if (rc)
        log_warning("no memory to gather superpages in: %s; pages are installed one by one", strerror(-rc));
    for (unsigned int i = 0; i < RECEIVE_STAGES; i++) {
        r->stages[i].first = NOWHERE;
        r->stages[i].pages = pages ? pages + i * RECEIVE_STAGE_BYTES : NULL;
    }
    return 0;
}

void receive_super_free(struct receiver *r)
{
    gfn_bitmap_free(&r->super);
    gfn_bitmap_free(&r->collapse.busy);
    if (r->stages[0].pages)
        munmap(r->stages[0].pages, RECEIVE_STAGES * RECEIVE_STAGE_BYTES);
    r->stages[0].pages = NULL;
}

static void end_stage(struct receiver *r, struct receive_stage *stage)
{
    stage->first = NOWHERE;
    stage->n = 0;
    stage->giving_up = false;
    receive_journal_unstage(r->journal, (unsigned int)(stage - r->stages));
}

static void adopt(struct receiver *r, struct receive_stage *stage, const struct stage_note *note)
{
    uint64_t first = note->region - 1;

    stage->first = first;
    for (uint64_t gfn = first; gfn < first + BACKEND_SUPER; gfn++) {
        uint64_t bit = UINT64_C(1) << gfn % 64, word = gfn % BACKEND_SUPER / 64;

        if (!(note->there[word] & bit) || pagein_state(&r->pages, gfn) != PAGE_ABSENT)
            continue;
        pagein_arrived(&r->pages, gfn);
        stage->there[word] |= bit;
        stage->n++;
    }
}

void receive_super_adopt(struct receiver *r)
{
    for (unsigned int i = 0; i < RECEIVE_STAGES; i++)
        if (r->stages[i].pages && r->journal->stages[i].region)
            adopt(r, &r->stages[i], &r->journal->stages[i]);
}

const uint8_t *receive_super_page(const struct receiver *r, const struct receive_held *page)
{
    return place(&r->stages[page->stage], page->gfn);
}

void receive_super_page_done(struct receiver *r, const struct receive_held *page)
{
    struct receive_stage *stage = &r->stages[page->stage];

    receive_journal_count(r->journal, &r->pages.counts);
    if (--stage->n == 0)
        end_stage(r, stage);
}

static void give_up_page(struct receiver *r, uint32_t which, uint64_t gfn)
{
    struct receive_stage *stage = &r->stages[which];
    uint64_t bit = UINT64_C(1) << gfn % 64, *word = &stage->there[gfn % BACKEND_SUPER / 64];
    const struct receive_held page = {.gfn = gfn, .slot = RECEIVE_STAGED, .stage = which};

    if (!(*word & bit))
        return;
    *word &= ~bit;
    if (pagein_state(&r->pages, gfn) == PAGE_ARRIVED)
        receive_add(r, &page);
    else
        receive_super_page_done(r, &page);
}

/* Its pages leave it, from gfn on: in steps, since a request in the ring does not wait for 512 pages. */
static void give_up(struct receiver *r, uint32_t which, uint64_t gfn)
{
    struct receive_stage *stage = &r->stages[which];

    if (stage->first == NOWHERE || stage->giving_up)
        return;
    if (!stage->n) {
        end_stage(r, stage);
        return;
    }
    stage->giving_up = true;
    stage->next = gfn % BACKEND_SUPER;
    stage->looked = 0;
    ev_timer_stop(r->run.loop, &r->leaving);
    ev_timer_set(&r->leaving, 0., 0.);
    ev_timer_start(r->run.loop, &r->leaving);
}

/* At most so many pages. True when none is left to leave it. */
static bool some_leave(struct receiver *r, uint32_t which, unsigned int most)
{
    struct receive_stage *stage = &r->stages[which];
    uint64_t first = stage->first;

    while (stage->giving_up && stage->looked < BACKEND_SUPER) {
        uint64_t at = (stage->next + stage->looked) % BACKEND_SUPER;

        if (stage->there[at / 64] >> at % 64 & 1 && most-- == 0)
            return false;
        stage->looked++;
        give_up_page(r, which, first + at);
    }
    return true;
}

void receive_super_leaving(struct receiver *r)
{
    bool done = true;

    /* One stage a step: what a batch takes. */
    for (uint32_t i = 0; i < RECEIVE_STAGES && done; i++)
        done = some_leave(r, i, BACKEND_LOAD_MAX);
    receive_install(r);
    receive_ask_unsent(r);
    if (done)
        return;
    ev_timer_set(&r->leaving, 0., 0.);
    ev_timer_start(r->run.loop, &r->leaving);
}

void receive_super_touched(struct receiver *r, uint64_t gfn)
{
    for (uint32_t i = 0; i < RECEIVE_STAGES; i++) {
        if (r->stages[i].first != region_of(gfn))
            continue;
        give_up(r, i, gfn);
        give_up_page(r, i, gfn);
    }
}

void receive_super_give_up(struct receiver *r)
{
    for (uint32_t i = 0; i < RECEIVE_STAGES; i++) {
        give_up(r, i, r->stages[i].first);
        some_leave(r, i, BACKEND_SUPER);
    }
    ev_timer_stop(r->run.loop, &r->leaving);
}

static struct receive_stage *stage_of(struct receiver *r, uint64_t region)
{
    for (unsigned int i = 0; i < RECEIVE_STAGES; i++)
        if (r->stages[i].first == region)
            return r->stages[i].giving_up ? NULL : &r->stages[i];
    return NULL;
}

/* The one that was not used for longest, of those that gather: the push has gone elsewhere from it. */
static void give_up_oldest(struct receiver *r, const struct receive_stage *but)
{
    uint32_t oldest = RECEIVE_STAGES;

    for (uint32_t i = 0; i < RECEIVE_STAGES; i++) {
        const struct receive_stage *stage = &r->stages[i];

        /* One that is given up comes free by itself. */
        if (stage == but || stage->first == NOWHERE || stage->giving_up)
            continue;
        if (oldest == RECEIVE_STAGES || stage->used < r->stages[oldest].used)
            oldest = i;
    }
    if (oldest != RECEIVE_STAGES)
        give_up(r, oldest, r->stages[oldest].first);
}

/* NULL: all are in use. When the last one is taken another is made free meanwhile: that takes several steps.
 */
static struct receive_stage *free_stage(struct receiver *r)
{
    struct receive_stage *found = NULL;
    unsigned int leaving = 0, n = 0;

    for (uint32_t i = 0; i < RECEIVE_STAGES; i++) {
        /* One that has been gone through is free in a moment, or waits for memory. */
        leaving += r->stages[i].giving_up && r->stages[i].looked < BACKEND_SUPER;
        if (r->stages[i].first != NOWHERE)
            continue;
        found = &r->stages[i];
        n++;
    }
    if (n <= 1 && !leaving)
        give_up_oldest(r, found);
    return found;
}

static struct receive_stage *begin(struct receiver *r, uint64_t region, uint64_t gfn)
{
    struct receive_stage *stage;

    if (!pagein_only_arrival(&r->pages, region, BACKEND_SUPER, gfn))
        return NULL;
    stage = free_stage(r);
    if (!stage)
        return NULL;
    stage->first = region;
    stage->n = 0;
    stage->giving_up = false;
    memset(stage->there, 0, sizeof(stage->there));
    receive_journal_stage(r->journal, (unsigned int)(stage - r->stages), region);
    return stage;
}

static void whole(struct receiver *r, struct receive_stage *stage)
{
    struct backend_page page = {.gfn = stage->first, .contents = stage->pages, .order = 9};

    if (!r->attached || backend_load(r->be, &page, 1) != 1 || page.rc) {
        r->supers.prep_refused++;
        give_up(r, (uint32_t)(stage - r->stages), stage->first);
        return;
    }
    r->supers.prep++;
    gfn_bitmap_set(&r->super, stage->first / BACKEND_SUPER);
    for (uint64_t gfn = stage->first; gfn < stage->first + BACKEND_SUPER; gfn++) {
        pagein_installed(&r->pages, gfn, 0);
        receive_answer_waiters(r, gfn);
    }
    receive_journal_count(r->journal, &r->pages.counts);
    end_stage(r, stage);
    r->be->ops->push(r->be);
    receive_check_complete(r);
}

bool receive_super_has(const struct receiver *r, uint64_t gfn)
{
    for (unsigned int i = 0; i < RECEIVE_STAGES; i++)
        if (r->stages[i].first == region_of(gfn))
            return r->stages[i].there[gfn % BACKEND_SUPER / 64] >> gfn % 64 & 1;
    return false;
}

bool receive_super_take(struct receiver *r, const struct receive_held *page)
{
    uint64_t region = region_of(page->gfn);
    struct receive_stage *stage;
    uint8_t *copy;

    if ((r->be->features.set & BOTH) != BOTH || !r->stages[0].pages || !r->attached)
        return false;
    stage = stage_of(r, region);
    if (!stage)
        stage = begin(r, region, page->gfn);
    if (!stage)
        return false;
    copy = place(stage, page->gfn);
    memcpy(copy, receive_contents(r, page), POOL_PAGE_SIZE);
    /* The copy is ours alone: what is hashed is what is installed. */
    if (r->features & WIRE_FEATURE_HASH && page->slot != RECEIVE_ZERO &&
        XXH64(copy, POOL_PAGE_SIZE, 0) != page->hash) {
        give_up(r, (uint32_t)(stage - r->stages), region);
        return false; /* who takes it finds the same */
    }
    stage->there[page->gfn % BACKEND_SUPER / 64] |= UINT64_C(1) << page->gfn % 64;
    stage->used = ++r->stage_clock;
    stage->n++;
    receive_journal_staged(r->journal, (unsigned int)(stage - r->stages), page->gfn);
    if (page->slot != RECEIVE_ZERO)
        receive_free_slot(r, page->slot);
    if (stage->n == BACKEND_SUPER)
        whole(r, stage);
    return true;
}
