/*
 * Where Xen enters: vcpu 0 by the PVH entry point, in flat 32-bit segments without paging; the others where
 * machine_start_vcpu() says, with their number in %eax.
 */
#include <xen/elfnote.h>

        .section .note.Xen, "a", @note
        .long 2f - 1f
        .long 4f - 3f
        .long XEN_ELFNOTE_PHYS32_ENTRY
1:      .asciz "Xen"
2:      .balign 4
3:      .long entry
4:

        .text
        .globl entry
entry:  movl $vcpu0_stack_top, %esp
        call first_vcpu

        .globl entry_others
entry_others:
        pushl %eax
        call other_vcpu

/* Xen fills it; hypercall n is at 32 * n. */
        .bss
        .balign 4096
        .globl hypercall_page
hypercall_page:
        .skip 4096
        .skip 4096
vcpu0_stack_top:

        .section .note.GNU-stack, "", @progbits
