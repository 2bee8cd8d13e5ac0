#include "frame.h"

#include <err.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGEMAP_PRESENT (1ull << 63)
#define PAGEMAP_FRAME   ((1ull << 55) - 1)

/* Compaction moves locked pages, too, unless it's told not to. */
static void stay_put(void)
{
    int fd = open("/proc/sys/vm/compact_unevictable_allowed", O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, "0", 1) != 1)
        err(1, "/proc/sys/vm/compact_unevictable_allowed");
    close(fd);
}

void *frames_alloc(size_t count)
{
    void *at = mmap(NULL, count * FRAME_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED)
        err(1, "mmap");
    stay_put();
    /* the pages' frames are the test's subject one by one */
    madvise(at, count * FRAME_SIZE, MADV_NOHUGEPAGE);
    memset(at, 0, count * FRAME_SIZE);
    if (mlock(at, count * FRAME_SIZE))
        err(1, "mlock");
    return at;
}

uint64_t frame_of(const void *at)
{
    uint64_t entry = 0;
    off_t offset = (off_t)((uintptr_t)at / FRAME_SIZE * sizeof(entry));
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

    if (fd < 0 || pread(fd, &entry, sizeof(entry), offset) != sizeof(entry))
        err(1, "/proc/self/pagemap");
    close(fd);
    if (!(entry & PAGEMAP_PRESENT) || !(entry & PAGEMAP_FRAME))
        errx(1, "no frame for %p in /proc/self/pagemap", at);
    return entry & PAGEMAP_FRAME;
}
