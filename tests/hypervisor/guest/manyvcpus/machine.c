#include "machine.h"

#include <stddef.h>

#include <xen/hvm/hvm_vcpu.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/xen.h>

#define CONSOLE_PORT    0xe9
#define CPUID_HYPERCALL 0x40000002u
#define STACK_SIZE      4096u

#define CR0_PE      1u
#define CR0_ET      16u
#define EFLAGS      2u     /* the bit that is always set; interrupts stay off: none is wanted */
#define FLAT_CODE   0xc9bu /* 4 GiB, 32 bits, present, accessed */
#define FLAT_DATA   0xc93u
#define TSS_BUSY    0x8bu
#define TSS_LIMIT   0x67u
#define NO_SUCH     (-2) /* -ENOENT of Xen's */
#define NS_IN_A_MS  1000000u
#define HIGH(value) ((uint32_t)((value) >> 32))

extern uint8_t hypercall_page[], entry_others[];

static struct vcpu_info vcpu_infos[VCPUS_MAX] __attribute__((aligned(4096)));
static uint8_t stacks[VCPUS_MAX][STACK_SIZE] __attribute__((aligned(16)));

static long hypercall(uint32_t op, uint32_t a, uint32_t b, const void *c)
{
    long rc = (long)(uintptr_t)(hypercall_page + op * 32);

    __asm__ volatile("call *%%eax" : "+a"(rc), "+b"(a), "+c"(b), "+d"(c) : : "memory");
    return rc;
}

void print(const char *text)
{
    for (; *text; text++)
        __asm__ volatile("outb %b0, %w1" : : "a"(*text), "Nd"(CONSOLE_PORT));
}

void print_number(uint32_t n, uint32_t base)
{
    char digits[11];
    unsigned int at = sizeof(digits) - 1;

    digits[at] = '\0';
    do {
        digits[--at] = "0123456789abcdef"[n % base];
        n /= base;
    } while (n);
    print(digits + at);
}

static void crash(const char *what, long rc)
{
    struct sched_shutdown arg = {.reason = SHUTDOWN_crash};

    print(what);
    print(" failed: -");
    print_number((uint32_t)-rc, 10);
    print("\n");
    hypercall(__HYPERVISOR_sched_op, SCHEDOP_shutdown, (uint32_t)(uintptr_t)&arg, NULL);
}

void machine_init(void)
{
    uint32_t eax = CPUID_HYPERCALL, msr, ecx = 0, edx;

    __asm__ volatile("cpuid" : "+a"(eax), "=b"(msr), "+c"(ecx), "=d"(edx));
    __asm__ volatile("wrmsr" : : "c"(msr), "a"(hypercall_page), "d"(0) : "memory");
}

bool machine_start_vcpu(uint32_t vcpu)
{
    /* static: the compiler would call memset() for one on the stack */
    static struct vcpu_hvm_context context;
    struct vcpu_hvm_x86_32 *r = &context.cpu_regs.x86_32;
    long rc;

    context.mode = VCPU_HVM_MODE_32B;
    r->eax = vcpu;
    r->esp = (uint32_t)(uintptr_t)(stacks[vcpu] + STACK_SIZE);
    r->eip = (uint32_t)(uintptr_t)entry_others;
    r->eflags = EFLAGS;
    r->cr0 = CR0_PE | CR0_ET;
    r->cs_limit = r->ds_limit = r->ss_limit = r->es_limit = UINT32_MAX;
    r->cs_ar = FLAT_CODE;
    r->ds_ar = r->ss_ar = r->es_ar = FLAT_DATA;
    r->tr_ar = TSS_BUSY;
    r->tr_limit = TSS_LIMIT;
    rc = hypercall(__HYPERVISOR_vcpu_op, VCPUOP_initialise, vcpu, &context);
    if (rc == NO_SUCH)
        return false;
    if (rc == 0)
        rc = hypercall(__HYPERVISOR_vcpu_op, VCPUOP_up, vcpu, NULL);
    if (rc)
        crash("starting a vcpu", rc);
    return true;
}

void machine_vcpu_init(uint32_t vcpu)
{
    uint32_t address = (uint32_t)(uintptr_t)&vcpu_infos[vcpu];
    struct vcpu_register_vcpu_info arg = {.mfn = address / 4096, .offset = address % 4096};
    long rc = hypercall(__HYPERVISOR_vcpu_op, VCPUOP_register_vcpu_info, vcpu, &arg);

    if (rc)
        crash("registering vcpu_info", rc);
}

/* In ns since Xen's boot, by the rule in xen/include/public/xen.h. */
static uint64_t now(const struct vcpu_time_info *t)
{
    uint64_t ticks, ns;
    uint32_t version, low, high;

    do {
        version = __atomic_load_n(&t->version, __ATOMIC_ACQUIRE);
        __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
        ticks = ((uint64_t)high << 32 | low) - t->tsc_timestamp;
        ticks = t->tsc_shift < 0 ? ticks >> -t->tsc_shift : ticks << t->tsc_shift;
        ns = t->system_time + (uint64_t)HIGH(ticks) * t->tsc_to_system_mul +
             HIGH((uint64_t)(uint32_t)ticks * t->tsc_to_system_mul);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
    } while (version & 1 || version != t->version);
    return ns;
}

void machine_wait_ms(uint32_t vcpu, uint32_t ms)
{
    /* no port to poll: only the timeout ends it, and no interrupt has to be delivered */
    struct sched_poll poll = {.timeout = now(&vcpu_infos[vcpu].time) + (uint64_t)ms * NS_IN_A_MS};
    long rc = hypercall(__HYPERVISOR_sched_op, SCHEDOP_poll, (uint32_t)(uintptr_t)&poll, NULL);

    if (rc)
        crash("SCHEDOP_poll", rc);
}
