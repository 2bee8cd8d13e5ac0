/*
 * usage: foreign-map DOMID GFN COUNT: maps COUNT pages of a domain from GFN on in one call, as a device model
 * does, reads a byte of each, and prints how long the map took, in microseconds of CLOCK_MONOTONIC. Exits 1
 * if a page could not be mapped.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <xenforeignmemory.h>

#define PAGE_SIZE 4096u
#define MAX_COUNT 65536ul

static uint64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

int main(int argc, char **argv)
{
    unsigned long domid, gfn, count, failed = 0, sum = 0;
    xenforeignmemory_handle *fmem;
    xen_pfn_t *gfns;
    uint64_t start, took;
    volatile const uint8_t *map;
    int *err;

    if (argc != 4) {
        fprintf(stderr, "usage: foreign-map DOMID GFN COUNT\n");
        return 2;
    }
    domid = strtoul(argv[1], NULL, 0);
    gfn = strtoul(argv[2], NULL, 0);
    count = strtoul(argv[3], NULL, 0);
    fmem = xenforeignmemory_open(NULL, 0);
    gfns = calloc(count, sizeof(*gfns));
    err = calloc(count, sizeof(*err));
    if (!fmem || !gfns || !err || count == 0 || count > MAX_COUNT) {
        fprintf(stderr, "foreign-map: cannot start: %s\n", strerror(errno));
        return 1;
    }
    for (unsigned long i = 0; i < count; i++)
        gfns[i] = gfn + i;
    start = now_us();
    map = xenforeignmemory_map(fmem, (uint32_t)domid, PROT_READ, count, gfns, err);
    took = now_us() - start;
    for (unsigned long i = 0; i < count; i++) {
        if (!map || err[i])
            failed++;
        else
            sum += map[i * PAGE_SIZE];
    }
    printf("foreign-map pages=%lu failed=%lu us=%llu sum=%lu\n", count, failed, (unsigned long long)took,
           sum);
    return failed ? 1 : 0;
}
