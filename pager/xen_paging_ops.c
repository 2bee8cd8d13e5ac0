#include "xen_paging_ops.h"

#include <errno.h>
#include <string.h>

#include <xenctrl.h>

#include <xen/domctl.h>
#include <xen/memory.h>

#define OP_MARK       3u
#define OP_PREP_BATCH 4u
#define OP_COLLAPSE   5u
#define OP_POPULATED  6u

/* struct xen_mem_paging_op of a Xen that knows these operations: nr was a hole before. */
struct paging_op {
    uint8_t op;
    uint16_t domain;
    uint32_t nr;
    uint64_t buffer;
    uint64_t gfn;
};
_Static_assert(sizeof(struct paging_op) == sizeof(xen_mem_paging_op_t), "Xen's struct");
_Static_assert(offsetof(struct paging_op, buffer) == offsetof(xen_mem_paging_op_t, buffer), "Xen's struct");
_Static_assert(offsetof(struct paging_op, gfn) == offsetof(xen_mem_paging_op_t, gfn), "Xen's struct");

static size_t pages_of(size_t bytes)
{
    return (bytes + PAGING_OPS_PAGE_SIZE - 1) / PAGING_OPS_PAGE_SIZE;
}

int paging_ops_open(struct paging_ops *ops, uint32_t domid, uint32_t slots)
{
    memset(ops, 0, sizeof(*ops));
    ops->domid = domid;
    ops->slots = slots;
    ops->call = xencall_open(NULL, 0);
    if (!ops->call)
        return -errno;
    ops->arg = xencall_alloc_buffer_pages(ops->call, 1);
    ops->preps = xencall_alloc_buffer_pages(ops->call, pages_of(slots * sizeof(*ops->preps)));
    ops->buffer = xencall_alloc_buffer_pages(ops->call, slots);
    if (!ops->arg || !ops->preps || !ops->buffer)
        return -ENOMEM;
    return 0;
}

void paging_ops_close(struct paging_ops *ops)
{
    if (ops->buffer)
        xencall_free_buffer_pages(ops->call, ops->buffer, ops->slots);
    if (ops->preps)
        xencall_free_buffer_pages(ops->call, ops->preps, pages_of(ops->slots * sizeof(*ops->preps)));
    if (ops->arg)
        xencall_free_buffer_pages(ops->call, ops->arg, 1);
    if (ops->call)
        xencall_close(ops->call);
    memset(ops, 0, sizeof(*ops));
}

static struct paging_op *op_of(struct paging_ops *ops, uint8_t number)
{
    struct paging_op *op = ops->arg;

    memset(op, 0, sizeof(*op));
    op->op = number;
    op->domain = (uint16_t)ops->domid;
    return op;
}

static int make(struct paging_ops *ops)
{
    return xencall2(ops->call, __HYPERVISOR_memory_op, XENMEM_paging_op, (uintptr_t)ops->arg) < 0 ? -errno
                                                                                                  : 0;
}

static int on_bitmap(struct paging_ops *ops, uint8_t number, uint64_t first, uint32_t nr, uint64_t *bitmap)
{
    /* Chunks of what the buffer holds, a multiple of 64 bits. */
    uint32_t chunk =
        ops->slots < UINT32_MAX / PAGING_OPS_PAGE_SIZE / 8 ? ops->slots * PAGING_OPS_PAGE_SIZE * 8 : 1u << 31;

    while (nr) {
        struct paging_op *op = op_of(ops, number);
        uint32_t n = nr < chunk ? nr : chunk;
        size_t bytes = ((size_t)n + 63) / 64 * 8;
        int rc;

        memcpy(ops->buffer, bitmap, bytes);
        op->nr = n;
        op->gfn = first;
        op->buffer = (uintptr_t)ops->buffer;
        rc = make(ops);
        memcpy(bitmap, ops->buffer, bytes);
        if (rc)
            return rc;
        nr -= n;
        first += n;
        bitmap += bytes / 8;
    }
    return 0;
}

int paging_ops_mark(struct paging_ops *ops, uint64_t first, uint32_t nr, uint64_t *bitmap)
{
    return on_bitmap(ops, OP_MARK, first, nr, bitmap);
}

int paging_ops_populated(struct paging_ops *ops, uint64_t first, uint32_t nr, uint64_t *bitmap)
{
    return on_bitmap(ops, OP_POPULATED, first, nr, bitmap);
}

int paging_ops_prep(struct paging_ops *ops, uint32_t n)
{
    struct paging_op *op = op_of(ops, OP_PREP_BATCH);
    uint32_t done;
    int rc;

    op->nr = n;
    op->buffer = (uintptr_t)ops->preps;
    rc = make(ops);
    /* Xen writes back what is left to do, unless it does not know the operation. */
    done = n - op->nr;
    /* It stopped at the entry that there was no memory for. */
    if (rc == -ENOMEM && done < n && ops->preps[done].rc == -ENOMEM)
        done++;
    return rc == 0 || done ? (int)done : rc;
}

int paging_ops_collapse(struct paging_ops *ops, uint64_t gfn)
{
    op_of(ops, OP_COLLAPSE)->gfn = gfn;
    return make(ops);
}

int paging_ops_try_mark(struct paging_ops *ops)
{
    op_of(ops, OP_MARK);
    return make(ops);
}

int paging_ops_try_prep(struct paging_ops *ops)
{
    op_of(ops, OP_PREP_BATCH);
    return make(ops);
}

int paging_ops_try_collapse(struct paging_ops *ops)
{
    int rc;

    /* No superpage starts there. */
    op_of(ops, OP_COLLAPSE)->gfn = 1;
    rc = make(ops);
    return rc == -EINVAL ? 0 : rc;
}

#define VM_EVENT_ATTACH    4u
#define VM_EVENT_GET_STATS 5u
#define ATTACH_AGAIN       1u

/* struct xen_domctl_vm_event_op of a Xen that knows these operations. */
struct vm_event_op {
    uint32_t op, mode;
    union {
        struct {
            uint32_t port, frames, flags;
            uint16_t range_target, range_foreign;
        } attach;
        struct {
            uint64_t requests, waits_target, waits_foreign;
            uint32_t slots, high_water;
        } stats;
    } u;
};
_Static_assert(offsetof(struct vm_event_op, u) == offsetof(struct xen_domctl_vm_event_op, u), "Xen's struct");
_Static_assert(sizeof(struct vm_event_op) <= sizeof(((struct xen_domctl *)0)->u), "Xen's struct");

static int vm_event(struct paging_ops *ops, struct vm_event_op *op)
{
    struct xen_domctl *domctl = ops->arg;

    memset(domctl, 0, sizeof(*domctl));
    domctl->cmd = XEN_DOMCTL_vm_event_op;
    domctl->interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    domctl->domain = (domid_t)ops->domid;
    op->mode = XEN_DOMCTL_VM_EVENT_OP_PAGING;
    memcpy(&domctl->u, op, sizeof(*op));
    if (xencall1(ops->call, __HYPERVISOR_domctl, (uintptr_t)domctl) < 0)
        return -errno;
    memcpy(op, &domctl->u, sizeof(*op));
    return 0;
}

int paging_ops_attach(struct paging_ops *ops, const struct paging_attach *how, uint32_t *port)
{
    struct vm_event_op op = {.op = VM_EVENT_ATTACH};
    int rc;

    op.u.attach.frames = how->frames;
    op.u.attach.flags = how->again ? ATTACH_AGAIN : 0;
    op.u.attach.range_target = how->range_target;
    op.u.attach.range_foreign = how->range_foreign;
    rc = vm_event(ops, &op);
    *port = op.u.attach.port;
    return rc;
}

int paging_ops_stats(struct paging_ops *ops, struct paging_ring_stats *stats)
{
    struct vm_event_op op = {.op = VM_EVENT_GET_STATS};
    int rc = vm_event(ops, &op);

    if (rc == 0)
        *stats =
            (struct paging_ring_stats){op.u.stats.requests, op.u.stats.waits_target, op.u.stats.waits_foreign,
                                       op.u.stats.slots, op.u.stats.high_water};
    return rc;
}
