/* A multiboot kernel's entry, and how its other CPUs get there. */

#define MULTIBOOT_MAGIC 0x1badb002
#define TRAMPOLINE      0x8000 /* where a CPU begins in real mode: the vector 8 of a start-up IPI */
#define STACK_SIZE      8192
#define CPUS            16

        .section .multiboot, "a"
        .balign 4
        .long MULTIBOOT_MAGIC
        .long 0
        .long -MULTIBOOT_MAGIC

        .text
        .code32
        .global _start
_start:
        cli
        lgdt gdt_pointer
        mov $0x10, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        ljmp $8, $1f
1:      mov $stacks + STACK_SIZE, %esp
        /* The trampoline to where real mode can run it. */
        mov $trampoline, %esi
        mov $TRAMPOLINE, %edi
        mov $trampoline_end - trampoline, %ecx
        rep movsb
        push %ebx
        call first_cpu
2:      hlt
        jmp 2b

other_cpu_start:
        mov $0x10, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        mov $1, %eax
        lock xadd %eax, cpus_started
        mov %eax, %ecx
        inc %ecx
        imul $STACK_SIZE, %ecx
        lea stacks(%ecx), %esp
        push %eax
        call other_cpu
3:      hlt
        jmp 3b

        .code16
trampoline:
        cli
        xor %ax, %ax
        mov %ax, %ds
        lgdtl TRAMPOLINE + (gdt_copy - trampoline)
        mov %cr0, %eax
        or $1, %eax
        mov %eax, %cr0
        ljmpl $8, $other_cpu_start
        .balign 4
gdt_copy:
        .word gdt_end - gdt - 1
        .long gdt
trampoline_end:

        .data
        .balign 8
gdt:
        .quad 0
        .quad 0x00cf9a000000ffff
        .quad 0x00cf92000000ffff
gdt_end:
gdt_pointer:
        .word gdt_end - gdt - 1
        .long gdt
        .balign 4
        .global cpus_started
cpus_started:
        .long 1 /* the first has */

        .bss
        .balign 16
stacks:
        .skip STACK_SIZE * CPUS

        .section .note.GNU-stack, "", @progbits
