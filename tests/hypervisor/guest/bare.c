/*
 * A guest without an operating system: the test knows what each of its pages is for (nm on this program tells
 * where they are), and its hypercalls are made with paging disabled where it is built for i386. The test
 * evicts pages, and writes the number of a case into word 0 of `control`:
 *   1  XENVER_extraversion into `out`
 *   2  EVTCHNOP_alloc_unbound, its argument at the end of `split`, going on into `split_absent`
 *   3  a multicall in present memory: alloc_unbound, XENVER_extraversion into `out`, alloc_unbound
 *   4  a multicall in `list`, its second entry in `list_absent`: alloc_unbound twice
 *   5  GNTTABOP_swap_grant_ref in `swaps`, the second op in `swaps_absent`
 *   6  XENMEM_decrease_reservation of `spare`, the reservation in `reservation_absent`
 *   7  EVTCHNOP_init_control with control block `fifo_control`
 *   8  EVTCHNOP_expand_array with `fifo_array`
 *   9  HV_X64_MSR_HYPERCALL to `viridian_hypercall`
 *  10  HV_X64_MSR_VP_ASSIST_PAGE to `viridian_assist`
 *  11  HV_X64_MSR_REFERENCE_TSC to `viridian_tsc`
 *  12  HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE, input in `viridian_input` (after 9)
 * `RESULT case rc extra` follows: extra is what the case says below.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* xen-compat.h gives those who don't say it the interface of 2006 */
#define __XEN_INTERFACE_VERSION__ 0x00040e00

#include <xen/event_channel.h>
#include <xen/grant_table.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/params.h>
#include <xen/io/console.h>
#include <xen/memory.h>
#include <xen/sched.h>
#include <xen/version.h>
#include <xen/xen.h>

#define PAGE_SIZE 4096u
#define PAGE      __attribute__((aligned(4096)))
#define POLL_NS   10000000u
/* event channel ports looked at when counting them */
#define PORTS 64

#define MSR_VIRIDIAN_OS_ID     0x40000000u
#define MSR_VIRIDIAN_HYPERCALL 0x40000001u
#define MSR_VIRIDIAN_TSC       0x40000021u
#define MSR_VIRIDIAN_ASSIST    0x40000073u
#define VIRIDIAN_FLUSH         2u
#define VIRIDIAN_ENABLED       1u

/* Pages the test knows by name. Where two follow each other the second is the one that is absent. */
struct pages {
    uint8_t split[PAGE_SIZE], split_absent[PAGE_SIZE];
    uint8_t list[PAGE_SIZE], list_absent[PAGE_SIZE];
    uint8_t swaps[PAGE_SIZE], swaps_absent[PAGE_SIZE];
};
PAGE struct pages pages;
PAGE volatile uint32_t control[PAGE_SIZE / 4];
PAGE char out[PAGE_SIZE];
PAGE struct xen_memory_reservation reservation_absent[PAGE_SIZE / sizeof(struct xen_memory_reservation)];
PAGE uint8_t spare[PAGE_SIZE];
PAGE uint8_t fifo_control[PAGE_SIZE], fifo_array[PAGE_SIZE];
PAGE uint8_t viridian_hypercall[PAGE_SIZE], viridian_assist[PAGE_SIZE];
PAGE volatile uint64_t viridian_tsc[PAGE_SIZE / 8];
PAGE uint64_t viridian_input[PAGE_SIZE / 8];
/* for the test to fill the ring with */
PAGE uint8_t filler[16][PAGE_SIZE];

PAGE static uint8_t hypercall_page[PAGE_SIZE];
PAGE static volatile shared_info_t shared;
PAGE static volatile grant_entry_v1_t grants[PAGE_SIZE / sizeof(grant_entry_v1_t)];
static struct xencons_interface *console;
static evtchn_port_t console_port;

static long hypercall(unsigned int op, unsigned long a, unsigned long b, unsigned long c)
{
    const uint8_t *entry = hypercall_page + op * 32;
    long rc;

#ifdef __x86_64__
    __asm__ volatile("call *%[entry]"
                     : "=a"(rc), "+D"(a), "+S"(b), "+d"(c)
                     : [entry] "b"(entry)
                     : "memory", "rcx", "r8", "r9", "r10", "r11");
#else
    __asm__ volatile("call *%[entry]" : "=a"(rc), "+b"(a), "+c"(b), "+d"(c) : [entry] "0"(entry) : "memory");
#endif
    return rc;
}

static uintptr_t address(const volatile void *at)
{
    return (uintptr_t)at;
}

static unsigned long frame(const volatile void *at)
{
    return address(at) / PAGE_SIZE;
}

static void cpuid(uint32_t leaf, uint32_t *a, uint32_t *b)
{
    uint32_t c, d;

    __asm__ volatile("cpuid" : "=a"(*a), "=b"(*b), "=c"(c), "=d"(d) : "0"(leaf), "2"(0));
}

static void write_msr(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}

static uint64_t parameter(uint32_t index)
{
    struct xen_hvm_param p = {.domid = DOMID_SELF, .index = index};

    hypercall(__HYPERVISOR_hvm_op, HVMOP_get_param, address(&p), 0);
    return p.value;
}

static void print(const char *text)
{
    struct evtchn_send send = {.port = console_port};

    for (; *text; text++)
        console->out[console->out_prod++ % sizeof(console->out)] = *text;
    __sync_synchronize();
    hypercall(__HYPERVISOR_event_channel_op, EVTCHNOP_send, address(&send), 0);
}

static void print_number(long number)
{
    char text[24];
    char *at = text + sizeof(text) - 1;
    unsigned long rest = number < 0 ? 0ul - (unsigned long)number : (unsigned long)number;

    *at = '\0';
    do {
        *--at = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (number < 0)
        *--at = '-';
    print(at);
}

static void add_to_physmap(unsigned int space, unsigned long index, const volatile void *at)
{
    struct xen_add_to_physmap add = {.domid = DOMID_SELF, .space = space, .idx = index, .gpfn = frame(at)};

    hypercall(__HYPERVISOR_memory_op, XENMEM_add_to_physmap, address(&add), 0);
}

/* How many event channels there are: a hypercall made twice leaves one too many. */
static long ports_in_use(void)
{
    long used = 0;

    for (evtchn_port_t port = 1; port < PORTS; port++) {
        struct evtchn_status status = {.dom = DOMID_SELF, .port = port};

        if (hypercall(__HYPERVISOR_event_channel_op, EVTCHNOP_status, address(&status), 0) == 0)
            used += status.status != EVTCHNSTAT_closed;
    }
    return used;
}

static struct evtchn_alloc_unbound unbound[2];

static void make_alloc_unbound(multicall_entry_t *entry, struct evtchn_alloc_unbound *alloc)
{
    *alloc = (struct evtchn_alloc_unbound){.dom = DOMID_SELF, .remote_dom = 0};
    *entry = (multicall_entry_t){.op = __HYPERVISOR_event_channel_op,
                                 .args = {EVTCHNOP_alloc_unbound, address(alloc)}};
}

static long multicall(const multicall_entry_t *list, unsigned int count)
{
    long rc = hypercall(__HYPERVISOR_multicall, address(list), count, 0);

    for (unsigned int i = 0; rc == 0 && i < count; i++)
        rc = (long)list[i].result;
    return rc;
}

/* The last of the first page's, such that the next is the first of the absent page. */
static multicall_entry_t *list_start(void)
{
    return (multicall_entry_t *)(void *)(pages.list + PAGE_SIZE) - 1;
}

static gnttab_swap_grant_ref_t *swaps_start(void)
{
    return (gnttab_swap_grant_ref_t *)(void *)(pages.swaps + PAGE_SIZE) - 1;
}

static struct evtchn_alloc_unbound *split_start(void)
{
    return (struct evtchn_alloc_unbound *)(void *)(pages.split + PAGE_SIZE - 4);
}

static xen_pfn_t spare_frame[1];

/* What is in pages that will be absent. */
static void prepare(void)
{
    multicall_entry_t *list = list_start();
    gnttab_swap_grant_ref_t *swaps = swaps_start();
    struct xen_memory_reservation reservation = {.nr_extents = 1, .domid = DOMID_SELF};

    *split_start() = (struct evtchn_alloc_unbound){.dom = DOMID_SELF, .remote_dom = 0};
    make_alloc_unbound(&list[0], &unbound[0]);
    make_alloc_unbound(&list[1], &unbound[1]);
    /* 10 goes where 12 is; if the first is done twice, or the second, it ends up elsewhere */
    swaps[0] = (gnttab_swap_grant_ref_t){.ref_a = 10, .ref_b = 11, .status = 99};
    swaps[1] = (gnttab_swap_grant_ref_t){.ref_a = 11, .ref_b = 12, .status = 99};
    for (unsigned int i = 10; i <= 12; i++)
        grants[i].frame = i;
    spare_frame[0] = frame(spare);
    set_xen_guest_handle(reservation.extent_start, spare_frame);
    reservation_absent[0] = reservation;
}

static long three_calls(void)
{
    static multicall_entry_t list[3];

    make_alloc_unbound(&list[0], &unbound[0]);
    list[1] =
        (multicall_entry_t){.op = __HYPERVISOR_xen_version, .args = {XENVER_extraversion, address(out)}};
    make_alloc_unbound(&list[2], &unbound[1]);
    return multicall(list, 3);
}

static long swap(long *extra)
{
    gnttab_swap_grant_ref_t *swaps = swaps_start();
    long rc = hypercall(__HYPERVISOR_grant_table_op, GNTTABOP_swap_grant_ref, address(swaps), 2);

    *extra = (long)(grants[10].frame * 10000 + grants[11].frame * 100 + grants[12].frame);
    return rc ? rc : swaps[0].status | swaps[1].status;
}

static long init_control(void)
{
    struct evtchn_init_control init = {.control_gfn = frame(fifo_control), .offset = 0, .vcpu = 0};

    return hypercall(__HYPERVISOR_event_channel_op, EVTCHNOP_init_control, address(&init), 0);
}

static long expand_array(void)
{
    struct evtchn_expand_array expand = {.array_gfn = frame(fifo_array)};

    return hypercall(__HYPERVISOR_event_channel_op, EVTCHNOP_expand_array, address(&expand), 0);
}

static void viridian_page(uint32_t msr, const volatile void *at)
{
    write_msr(msr, (uint64_t)address(at) | VIRIDIAN_ENABLED);
}

#ifdef __x86_64__
static long viridian_flush(void)
{
    register uint64_t output __asm__("r8") = 0;
    uint64_t result, input = VIRIDIAN_FLUSH, gpa = address(viridian_input);

    __asm__ volatile("call *%[entry]"
                     : "=a"(result), "+c"(input), "+d"(gpa), "+r"(output)
                     : [entry] "b"(viridian_hypercall), "0"(0)
                     : "memory", "r9", "r10", "r11");
    return (long)(result & 0xffff);
}
#endif

/* Returns rc. *extra: event channels gained, or what was found in the page. */
static long run(uint32_t number, long *extra)
{
    long before = ports_in_use(), rc;

    switch (number) {
    case 1:
        rc = hypercall(__HYPERVISOR_xen_version, XENVER_extraversion, address(out), 0);
        *extra = out[0];
        return rc;
    case 2:
        rc = hypercall(__HYPERVISOR_event_channel_op, EVTCHNOP_alloc_unbound, address(split_start()), 0);
        break;
    case 3:
        rc = three_calls();
        break;
    case 4:
        rc = multicall(list_start(), 2);
        break;
    case 5:
        return swap(extra);
    case 6:
        rc = hypercall(__HYPERVISOR_memory_op, XENMEM_decrease_reservation, address(reservation_absent), 0);
        return rc;
    case 7:
        rc = init_control();
        break;
    case 8:
        rc = expand_array();
        break;
    case 9:
        write_msr(MSR_VIRIDIAN_OS_ID, 1);
        viridian_page(MSR_VIRIDIAN_HYPERCALL, viridian_hypercall);
        *extra = viridian_hypercall[0]; /* the first byte of its code */
        return 0;
    case 10:
        viridian_page(MSR_VIRIDIAN_ASSIST, viridian_assist);
        *extra = viridian_assist[0]; /* cleared when it is mapped */
        return 0;
    case 11:
        viridian_page(MSR_VIRIDIAN_TSC, viridian_tsc);
        *extra = viridian_tsc[0] == ~0ull; /* what it is before it is set up */
        return 0;
#ifdef __x86_64__
    case 12:
        return viridian_flush();
#endif
    default:
        return -38;
    }
    *extra = ports_in_use() - before;
    return rc;
}

static void find_xen(void)
{
    for (uint32_t base = 0x40000000; base < 0x40010000; base += 0x100) {
        uint32_t a, b;

        cpuid(base, &a, &b);
        if (b == 0x566e6558) { /* "XenV" */
            cpuid(base + 2, &a, &b);
            write_msr(b, address(hypercall_page));
            return;
        }
    }
}

/* System time as of when this vcpu was last scheduled, which is near enough. */
static void wait(void)
{
    struct sched_poll poll = {.nr_ports = 0, .timeout = shared.vcpu_info[0].time.system_time + POLL_NS};

    hypercall(__HYPERVISOR_sched_op, SCHEDOP_poll, address(&poll), 0);
}

void bare_main(void)
{
    uint32_t done = 0;

    find_xen();
    console = (void *)(uintptr_t)(parameter(HVM_PARAM_CONSOLE_PFN) * PAGE_SIZE);
    console_port = (evtchn_port_t)parameter(HVM_PARAM_CONSOLE_EVTCHN);
    add_to_physmap(XENMAPSPACE_shared_info, 0, &shared);
    add_to_physmap(XENMAPSPACE_grant_table, 0, grants);
    prepare();
    for (unsigned int i = 0; i < PAGE_SIZE; i++)
        viridian_assist[i] = 0xff;
    for (unsigned int i = 0; i < PAGE_SIZE / 8; i++)
        viridian_tsc[i] = ~0ull;
    viridian_input[1] = 1; /* all processors */
    print("READY\n");
    for (;;) {
        uint32_t number = control[0];

        if (number != done) {
            long extra = 0;
            long rc = run(number, &extra);

            print("RESULT ");
            print_number((long)number);
            print(" ");
            print_number(rc);
            print(" ");
            print_number(extra);
            print("\n");
            done = number;
        }
        wait();
    }
}
