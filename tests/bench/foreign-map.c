/*
 * usage: foreign-map DOMID GFN COUNT [nowait]: maps COUNT pages of a domain from GFN on in one call, as a
 * device model does, reads a byte of each, and prints how long the map took, in microseconds of
 * CLOCK_MONOTONIC, and for how many of them dom0's first vcpu ran. Exits 1 if a page could not be mapped.
 * nowait: one that is absent could not.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <xenctrl.h>
#include <xenforeignmemory.h>

/* Not in Debian's header. */
#ifndef XENFOREIGNMEMORY_OPENFLAG_NOWAIT
#define XENFOREIGNMEMORY_OPENFLAG_NOWAIT (1U << 0)
#endif

#define PAGE_SIZE 4096u
#define MAX_COUNT 65536ul

static uint64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* For how long dom0's first vcpu has run. */
static uint64_t ran_us(xc_interface *xch)
{
    xc_vcpuinfo_t info;

    return xc_vcpu_getinfo(xch, 0, 0, &info) ? 0 : info.cpu_time / 1000;
}

int main(int argc, char **argv)
{
    unsigned long domid, gfn, count, failed = 0, absent = 0, sum = 0;
    xenforeignmemory_handle *fmem;
    xen_pfn_t *gfns;
    uint64_t start, took, ran;
    xc_interface *xch;
    volatile const uint8_t *map;
    int *err;

    bool wait = argc == 4;

    if (!wait && (argc != 5 || strcmp(argv[4], "nowait"))) {
        fprintf(stderr, "usage: foreign-map DOMID GFN COUNT [nowait]\n");
        return 2;
    }
    domid = strtoul(argv[1], NULL, 0);
    gfn = strtoul(argv[2], NULL, 0);
    count = strtoul(argv[3], NULL, 0);
    xch = xc_interface_open(NULL, NULL, 0);
    fmem = xenforeignmemory_open(NULL, wait ? 0 : XENFOREIGNMEMORY_OPENFLAG_NOWAIT);
    gfns = calloc(count, sizeof(*gfns));
    err = calloc(count, sizeof(*err));
    if (!xch || !fmem || !gfns || !err || count == 0 || count > MAX_COUNT) {
        fprintf(stderr, "foreign-map: cannot start: %s\n", strerror(errno));
        return 1;
    }
    for (unsigned long i = 0; i < count; i++)
        gfns[i] = gfn + i;
    ran = ran_us(xch);
    start = now_us();
    map = xenforeignmemory_map(fmem, (uint32_t)domid, PROT_READ, count, gfns, err);
    took = now_us() - start;
    ran = ran_us(xch) - ran;
    for (unsigned long i = 0; i < count; i++) {
        if (!map || err[i])
            failed++;
        else
            sum += map[i * PAGE_SIZE];
        if (map && err[i] == -ENOENT)
            absent++;
    }
    printf("foreign-map pages=%lu failed=%lu us=%llu ran_us=%llu sum=%lu absent=%lu\n", count, failed,
           (unsigned long long)took, (unsigned long long)ran, sum, absent);
    return failed ? 1 : 0;
}
