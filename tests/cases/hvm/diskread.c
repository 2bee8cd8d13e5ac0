/*
 * usage: diskread MIB SECONDS FILE...: until the guest ends, reads blocks of 64 KiB at random places of
 * FILE... (disks) past the page cache into random places of a buffer of that many MiB, and compares. Block n
 * of 4 KiB of a disk consists of the number n, 512 times (little endian). Every SECONDS a line: blocks read
 * of each disk, and how many were wrong.
 *
 * The buffer is what a device model writes to: after a move, memory that is absent.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define BLOCK    4096u
#define TRANSFER 65536u
#define DISKS    8

struct disk {
    const char *path;
    int fd;
    uint64_t transfers; /* on it */
    unsigned long long read, wrong;
};

static uint64_t random_below(uint64_t n)
{
    static uint64_t x = 88172645463325252u;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return x % n;
}

static void read_once(struct disk *d, uint8_t *to)
{
    uint64_t first = random_below(d->transfers) * (TRANSFER / BLOCK);

    if (pread(d->fd, to, TRANSFER, (off_t)(first * BLOCK)) != TRANSFER) {
        printf("diskread: %s: %s\n", d->path, strerror(errno));
        d->wrong++;
        return;
    }
    for (uint64_t i = 0; i < TRANSFER / sizeof(uint64_t); i++) {
        if (((uint64_t *)(void *)to)[i] != first + i * sizeof(uint64_t) / BLOCK) {
            d->wrong++;
            return;
        }
    }
    d->read++;
}

static void report(const struct disk *disks, int n)
{
    printf("diskread");
    for (int i = 0; i < n; i++)
        printf(" %s=%llu wrong=%llu", disks[i].path, disks[i].read, disks[i].wrong);
    printf("\n");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct disk disks[DISKS] = {{0}};
    int n = argc - 3;
    uint64_t size;
    uint8_t *buffer;
    time_t next;

    if (n < 1 || n > DISKS) {
        fprintf(stderr, "usage: diskread MIB SECONDS FILE...\n");
        return 2;
    }
    size = strtoull(argv[1], NULL, 0) << 20;
    buffer = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    for (int i = 0; i < n; i++) {
        disks[i].path = argv[3 + i];
        disks[i].fd = open(disks[i].path, O_RDONLY | O_DIRECT);
        disks[i].transfers = disks[i].fd < 0 ? 0 : (uint64_t)lseek(disks[i].fd, 0, SEEK_END) / TRANSFER;
        if (disks[i].transfers == 0) {
            fprintf(stderr, "diskread: %s: %s\n", disks[i].path, strerror(errno));
            return 1;
        }
    }
    if (size < TRANSFER || buffer == MAP_FAILED) {
        fprintf(stderr, "diskread: no buffer of %s MiB\n", argv[1]);
        return 1;
    }
    next = time(NULL);
    for (uint64_t i = 0;; i++) {
        read_once(&disks[i % (uint64_t)n],
                  buffer + random_below(size / BLOCK - TRANSFER / BLOCK + 1) * BLOCK);
        if (time(NULL) >= next) {
            report(disks, n);
            next += strtol(argv[2], NULL, 0);
        }
    }
}
