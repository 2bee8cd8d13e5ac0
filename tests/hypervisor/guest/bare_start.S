/*
 * Entry of the bare guest: PVH starts it in 32-bit mode with paging disabled. Built for i386 it stays there;
 * built for x86-64 it goes on in long mode, the first 4 GiB mapped to where they are.
 */
#define PRESENT_WRITABLE  0x3
#define LARGE_PAGE        0x80
#define MSR_EFER          0xc0000080
#define EFER_LONG_MODE    0x100
#define CR4_PAE           0x20
#define CR0_PAGING        0x80000000
#define NOTE_PHYS32_ENTRY 18

        .section .note.Xen, "a", @note
        .p2align 2
        .long 4, 4, NOTE_PHYS32_ENTRY
        .asciz "Xen"
        .long start

        .code32
        .text
        .globl start
start:
        cli
        cld
        movl $stack_end, %esp
#ifdef __x86_64__
        /* 2048 pages of 2 MiB in four directories, one after the other */
        movl $directories, %edi
        movl $(PRESENT_WRITABLE | LARGE_PAGE), %eax
        movl $2048, %ecx
1:      movl %eax, (%edi)
        movl $0, 4(%edi)
        addl $0x200000, %eax
        addl $8, %edi
        loop 1b
        movl $pointers, %edi
        movl $(directories + PRESENT_WRITABLE), %eax
        movl $4, %ecx
1:      movl %eax, (%edi)
        addl $0x1000, %eax
        addl $8, %edi
        loop 1b
        movl $(pointers + PRESENT_WRITABLE), root
        movl $root, %eax
        movl %eax, %cr3
        movl %cr4, %eax
        orl $CR4_PAE, %eax
        movl %eax, %cr4
        movl $MSR_EFER, %ecx
        rdmsr
        orl $EFER_LONG_MODE, %eax
        wrmsr
        movl %cr0, %eax
        orl $CR0_PAGING, %eax
        movl %eax, %cr0
        lgdt descriptors_register
        ljmp $8, $long_mode
        .code64
long_mode:
        movl $16, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        movq $stack_end, %rsp
#endif
        call bare_main
1:      hlt
        jmp 1b

#ifdef __x86_64__
        .data
        .p2align 3
descriptors:
        .quad 0
        .quad 0x00af9a000000ffff
        .quad 0x00cf92000000ffff
descriptors_register:
        .word . - descriptors - 1
        .long descriptors
#endif

        .bss
        .p2align 12
#ifdef __x86_64__
root:   .skip 4096
pointers:
        .skip 4096
directories:
        .skip 4 * 4096
#endif
        .skip 4 * 4096
stack_end:

        .section .note.GNU-stack, "", @progbits
