/*
 * Hypercalls a guest's kernel would make, made on command. The frames of a control page and of a victim page
 * are printed; the test evicts the victim, and writes a command's number into word 0 of the control page:
 *   1  XENMEM_add_to_physmap of a new grant table frame over the victim
 *   2  VCPUOP_register_vcpu_info of vcpu 1, which must be offline, in the victim
 *   3  XENMEM_decrease_reservation of the victim
 *   4  XENMEM_remove_from_physmap of the victim
 *   5  XENMEM_populate_physmap of the victim's frame
 *   6  read the victim
 * `RESULT command rc errno` follows when the hypercall has returned.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>

#include <xen/memory.h>
#include <xen/vcpu.h>
#include <xen/xen.h>

#include <xen/sys/privcmd.h>

#include "frame.h"

/* beyond what the guest's kernel has mapped: Xen grows the table, nobody misses the frame where it was */
#define SPARE_GRANT_FRAME 5

static int privcmd;

/* Hypercall arguments have to be in locked memory; so have they been for as long as this runs. */
static struct arguments {
    struct xen_add_to_physmap add;
    struct xen_remove_from_physmap remove;
    struct xen_memory_reservation reservation;
    struct vcpu_register_vcpu_info vcpu_info;
    xen_pfn_t frames[1];
} * arguments;

static int hypercall(uint64_t op, uint64_t a, uint64_t b, const void *c)
{
    privcmd_hypercall_t call = {op, {a, b, (uintptr_t)c}};

    if (op == __HYPERVISOR_memory_op)
        call.arg[1] = (uintptr_t)c;
    return ioctl(privcmd, IOCTL_PRIVCMD_HYPERCALL, &call);
}

static int reservation(unsigned int op, uint64_t frame)
{
    struct xen_memory_reservation r = {.nr_extents = 1, .extent_order = 0, .domid = DOMID_SELF};

    arguments->frames[0] = frame;
    r.extent_start = arguments->frames;
    arguments->reservation = r;
    return hypercall(__HYPERVISOR_memory_op, op, 0, &arguments->reservation);
}

static int obey(uint32_t command, uint64_t frame, const volatile uint32_t *victim)
{
    switch (command) {
    case 1:
        arguments->add = (struct xen_add_to_physmap){
            .domid = DOMID_SELF, .space = XENMAPSPACE_grant_table, .idx = SPARE_GRANT_FRAME, .gpfn = frame};
        return hypercall(__HYPERVISOR_memory_op, XENMEM_add_to_physmap, 0, &arguments->add);
    case 2:
        arguments->vcpu_info = (struct vcpu_register_vcpu_info){.mfn = frame, .offset = 0};
        return hypercall(__HYPERVISOR_vcpu_op, VCPUOP_register_vcpu_info, 1, &arguments->vcpu_info);
    case 3:
        return reservation(XENMEM_decrease_reservation, frame);
    case 4:
        arguments->remove = (struct xen_remove_from_physmap){.domid = DOMID_SELF, .gpfn = frame};
        return hypercall(__HYPERVISOR_memory_op, XENMEM_remove_from_physmap, 0, &arguments->remove);
    case 5:
        return reservation(XENMEM_populate_physmap, frame);
    case 6:
        return (int)victim[0];
    default:
        errno = EINVAL;
        return -1;
    }
}

int main(void)
{
    volatile uint32_t *control = frames_alloc(1);
    volatile uint32_t *victim = frames_alloc(1);
    uint64_t frame = frame_of((const void *)victim);
    uint32_t done = 0;

    arguments = frames_alloc(1);
    privcmd = open("/dev/xen/privcmd", O_RDWR | O_CLOEXEC);
    if (privcmd < 0)
        err(1, "/dev/xen/privcmd");
    victim[0] = 4711;
    printf("CONTROL %llx\nVICTIM %llx\n", (unsigned long long)frame_of((const void *)control),
           (unsigned long long)frame);
    fflush(stdout);
    for (;;) {
        uint32_t command = control[0];
        struct timespec t = {0, 10 * 1000000};

        if (command != done) {
            int rc;

            errno = 0;
            rc = obey(command, frame, victim);
            printf("RESULT %u %d %d\n", command, rc, errno);
            fflush(stdout);
            done = command;
        }
        /* dom0 writes the control page without telling us */
        nanosleep(&t, NULL);
    }
}
