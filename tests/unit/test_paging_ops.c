/*
 * The hypercalls that libxenctrl has no wrappers for, against a Xen that is a few functions: the structs are
 * spelled out here a second time, as public/memory.h and public/domctl.h of the series have them.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "xen_paging_ops.h"

#include <xenctrl.h>

#include <xen/domctl.h>
#include <xen/memory.h>

#define DOMID 77
#define SLOTS 4

struct op {
    uint8_t op;
    uint8_t pad;
    uint16_t domain;
    uint32_t nr;
    uint64_t buffer;
    uint64_t gfn;
};

struct prep {
    uint64_t gfn;
    uint64_t buffer;
    int32_t rc;
    uint32_t order;
};

static struct {
    int calls, allocated, fail; /* fail: this errno at once, struct untouched */
    uint64_t refuse;            /* this gfn stays */
    uint64_t nomem;             /* there is no memory for this gfn */
    uint64_t marked[1 << 16];
    unsigned int n_marked;
    uint32_t attach[5];
} xen;

xencall_handle *xencall_open(struct xentoollog_logger *logger, unsigned open_flags)
{
    (void)logger, (void)open_flags;
    return (xencall_handle *)&xen;
}

int xencall_close(xencall_handle *xcall)
{
    (void)xcall;
    return 0;
}

void *xencall_alloc_buffer_pages(xencall_handle *xcall, size_t nr_pages)
{
    (void)xcall;
    xen.allocated += (int)nr_pages;
    return aligned_alloc(4096, nr_pages * 4096);
}

void xencall_free_buffer_pages(xencall_handle *xcall, void *p, size_t nr_pages)
{
    (void)xcall;
    xen.allocated -= (int)nr_pages;
    free(p);
}

static int failed(int err)
{
    errno = err;
    return -1;
}

static int mark(struct op *op)
{
    uint8_t *bits = (uint8_t *)(uintptr_t)op->buffer;

    for (uint32_t i = 0; i < op->nr; i++) {
        if (!(bits[i / 8] >> i % 8 & 1) || op->gfn + i == xen.refuse)
            continue;
        if (op->gfn + i == xen.nomem) {
            op->gfn += i - i % 64;
            op->nr -= i - i % 64;
            return failed(ENOMEM);
        }
        bits[i / 8] &= (uint8_t) ~(1u << i % 8);
        xen.marked[xen.n_marked++] = op->gfn + i;
    }
    op->gfn += op->nr;
    op->nr = 0;
    return 0;
}

static int prep(struct op *op)
{
    struct prep *entry = (struct prep *)(uintptr_t)op->buffer;

    for (; op->nr; op->nr--, entry++, op->buffer = (uintptr_t)entry) {
        entry->rc = entry->gfn == xen.refuse ? -ENOENT : entry->gfn == xen.nomem ? -ENOMEM : 0;
        if (entry->rc == -ENOMEM && !entry->order)
            return failed(ENOMEM);
        assert_int_equal(*(const uint8_t *)(uintptr_t)entry->buffer, entry->gfn & 0xff);
    }
    return 0;
}

int xencall2(xencall_handle *xcall, unsigned int op, uint64_t arg1, uint64_t arg2)
{
    struct op *o = (struct op *)(uintptr_t)arg2;

    (void)xcall;
    assert_int_equal(op, __HYPERVISOR_memory_op);
    assert_int_equal(arg1, XENMEM_paging_op);
    assert_int_equal(o->domain, DOMID);
    xen.calls++;
    if (xen.fail)
        return failed(xen.fail);
    switch (o->op) {
    case 3:
        return mark(o);
    case 4:
        return prep(o);
    case 5:
        return o->gfn % 512 ? failed(EINVAL) : 0;
    default:
        return failed(ENOSYS);
    }
}

int xencall1(xencall_handle *xcall, unsigned int op, uint64_t arg1)
{
    struct xen_domctl *domctl = (struct xen_domctl *)(uintptr_t)arg1;
    uint32_t *words = (uint32_t *)(void *)&domctl->u;
    uint64_t *stats = (uint64_t *)(void *)&words[2];

    (void)xcall;
    assert_int_equal(op, __HYPERVISOR_domctl);
    assert_int_equal(domctl->cmd, XEN_DOMCTL_vm_event_op);
    assert_int_equal(domctl->domain, DOMID);
    assert_int_equal(words[1], XEN_DOMCTL_VM_EVENT_OP_PAGING);
    if (xen.fail)
        return failed(xen.fail);
    if (words[0] == 4) {
        memcpy(xen.attach, words + 2, sizeof(xen.attach));
        words[2] = 99;
        return 0;
    }
    assert_int_equal(words[0], 5);
    stats[0] = 1000, stats[1] = 3, stats[2] = 4;
    words[8] = 512, words[9] = 31;
    return 0;
}

static struct paging_ops ops;

static int setup(void **state)
{
    (void)state;
    memset(&xen, 0, sizeof(xen));
    xen.refuse = xen.nomem = UINT64_MAX;
    return paging_ops_open(&ops, DOMID, SLOTS);
}

static int teardown(void **state)
{
    (void)state;
    paging_ops_close(&ops);
    return xen.allocated;
}

static void marking_is_done_in_as_few_calls_as_the_buffer_allows(void **state)
{
    uint32_t chunk = SLOTS * 4096 * 8, nr = 2 * chunk + 100;
    uint64_t *bits = calloc(nr / 64 + 1, 8);

    (void)state;
    for (uint32_t i = 0; i < nr; i += 97)
        bits[i / 64] |= UINT64_C(1) << i % 64;
    xen.refuse = 5000 + 97 * 1000;
    assert_int_equal(paging_ops_mark(&ops, 5000, nr, bits), 0);
    assert_int_equal(xen.calls, 3);
    assert_int_equal(xen.n_marked, (nr + 96) / 97 - 1);
    for (unsigned int i = 0; i < xen.n_marked; i++)
        assert_int_equal(xen.marked[i], 5000 + (i < 1000 ? i : i + 1) * UINT64_C(97));
    for (uint32_t i = 0; i < nr; i++)
        assert_int_equal(bits[i / 64] >> i % 64 & 1, i == 97 * 1000);
    free(bits);
}

static void no_memory_for_the_p2m_says_what_was_done(void **state)
{
    uint64_t bits[4] = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX};

    (void)state;
    xen.nomem = 100;
    assert_int_equal(paging_ops_mark(&ops, 0, 256, bits), -ENOMEM);
    assert_true(bits[0] == 0);
    assert_true(bits[1] == UINT64_MAX << 36);
    assert_true(bits[2] == UINT64_MAX && bits[3] == UINT64_MAX);
    xen.fail = ENOSYS;
    assert_int_equal(paging_ops_mark(&ops, 0, 256, bits), -ENOSYS);
    assert_true(bits[2] == UINT64_MAX);
}

static void fill(uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        memset(paging_ops_page(&ops, i), (int)i + 1, 4096);
        ops.preps[i] =
            (struct paging_prep){.gfn = i + 1, .buffer = (uintptr_t)paging_ops_page(&ops, i), .rc = -EAGAIN};
    }
}

static void every_page_has_its_own_result(void **state)
{
    (void)state;
    fill(SLOTS);
    xen.refuse = 3;
    assert_int_equal(paging_ops_prep(&ops, SLOTS), SLOTS);
    for (int i = 0; i < SLOTS; i++)
        assert_int_equal(ops.preps[i].rc, i == 2 ? -ENOENT : 0);
    assert_int_equal(xen.calls, 1);
}

static void no_memory_ends_a_batch_at_its_page(void **state)
{
    (void)state;
    fill(SLOTS);
    xen.nomem = 3;
    assert_int_equal(paging_ops_prep(&ops, SLOTS), 3);
    assert_int_equal(ops.preps[1].rc, 0);
    assert_int_equal(ops.preps[2].rc, -ENOMEM);
    assert_int_equal(ops.preps[3].rc, -EAGAIN);
    /* The first one. */
    fill(SLOTS);
    xen.nomem = 1;
    assert_int_equal(paging_ops_prep(&ops, SLOTS), 1);
    assert_int_equal(ops.preps[0].rc, -ENOMEM);
    /* A superpage does not end it. */
    fill(SLOTS);
    ops.preps[0].order = 9;
    assert_int_equal(paging_ops_prep(&ops, SLOTS), SLOTS);
    assert_int_equal(ops.preps[0].rc, -ENOMEM);
    assert_int_equal(ops.preps[3].rc, 0);
    xen.fail = ENOSYS;
    assert_int_equal(paging_ops_prep(&ops, SLOTS), -ENOSYS);
}

static void what_xen_does_not_know_is_found_out(void **state)
{
    (void)state;
    assert_int_equal(paging_ops_try_mark(&ops), 0);
    assert_int_equal(paging_ops_try_prep(&ops), 0);
    assert_int_equal(paging_ops_try_collapse(&ops), 0);
    assert_int_equal(xen.n_marked, 0);
    assert_int_equal(paging_ops_collapse(&ops, 1024), 0);
    xen.fail = ENOSYS;
    assert_int_equal(paging_ops_try_mark(&ops), -ENOSYS);
    assert_int_equal(paging_ops_try_prep(&ops), -ENOSYS);
    assert_int_equal(paging_ops_try_collapse(&ops), -ENOSYS);
}

static void attaching_says_frames_flags_and_windows(void **state)
{
    const struct paging_attach how = {.frames = 64, .again = true, .range_target = 4, .range_foreign = 256};
    struct paging_ring_stats stats;
    uint32_t port = 0;

    (void)state;
    assert_int_equal(paging_ops_attach(&ops, &how, &port), 0);
    assert_int_equal(port, 99);
    assert_int_equal(xen.attach[1], 64);
    assert_int_equal(xen.attach[2], 1);
    assert_int_equal(xen.attach[3], 256u << 16 | 4u);
    assert_int_equal(paging_ops_stats(&ops, &stats), 0);
    assert_int_equal(stats.requests, 1000);
    assert_int_equal(stats.waits_target, 3);
    assert_int_equal(stats.waits_foreign, 4);
    assert_int_equal(stats.slots, 512);
    assert_int_equal(stats.high_water, 31);
    xen.fail = ENOSYS;
    assert_int_equal(paging_ops_attach(&ops, &how, &port), -ENOSYS);
    assert_int_equal(paging_ops_stats(&ops, &stats), -ENOSYS);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(marking_is_done_in_as_few_calls_as_the_buffer_allows),
        TEST(no_memory_for_the_p2m_says_what_was_done),
        TEST(every_page_has_its_own_result),
        TEST(no_memory_ends_a_batch_at_its_page),
        TEST(what_xen_does_not_know_is_found_out),
        TEST(attaching_says_frames_flags_and_windows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
