/*
 * XENMEM_paging_op as a Xen of this project's has it, for programs that give it any argument there is: stock
 * headers are older, and xen_paging_ops.h makes sane calls only.
 */
#ifndef PAGING_OP_H
#define PAGING_OP_H

#include <stddef.h>
#include <stdint.h>

#include <xenctrl.h>

#include <xen/memory.h>

#define PAGING_OP_MARK       3u
#define PAGING_OP_PREP_BATCH 4u
#define PAGING_OP_POPULATED  6u
#define PAGING_OPS           7u

/* nr was a hole before. */
struct paging_op_arg {
    uint8_t op;
    uint16_t domain;
    uint32_t nr;
    uint64_t buffer;
    uint64_t gfn;
};
_Static_assert(sizeof(struct paging_op_arg) == sizeof(xen_mem_paging_op_t), "Xen's struct");
_Static_assert(offsetof(struct paging_op_arg, buffer) == offsetof(xen_mem_paging_op_t, buffer),
               "Xen's struct");
_Static_assert(offsetof(struct paging_op_arg, gfn) == offsetof(xen_mem_paging_op_t, gfn), "Xen's struct");

#endif
