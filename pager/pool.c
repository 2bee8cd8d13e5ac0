#include "pool.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fault_point.h"
#include "wake.h"
#include "wire/wire.h"

struct pool_ring_shared {
    _Atomic uint32_t produced;
    uint32_t pad1[15];
    _Atomic uint32_t consumed;
    _Atomic uint32_t want_space;
    uint32_t pad2[14];
};

static size_t page_up(size_t bytes)
{
    return (bytes + POOL_PAGE_SIZE - 1) & ~(size_t)(POOL_PAGE_SIZE - 1);
}

static void ring_init(struct pool_ring *ring, uint8_t *at, uint32_t size, int event_fd, int space_fd)
{
    ring->shared = (struct pool_ring_shared *)(void *)at;
    ring->entries = (struct pool_descriptor *)(void *)(at + sizeof(struct pool_ring_shared));
    ring->size = size;
    ring->mine = 0;
    ring->event_fd = event_fd;
    ring->space_fd = space_fd;
}

int pool_create(struct pool *pool, uint32_t slots)
{
    uint32_t size = 1024;
    size_t ring_bytes;
    uint8_t *base;
    int fd, orders, reports, arrivals, rc;

    if (slots < 2 || slots > POOL_SLOTS_MAX)
        return -EINVAL;
    /* Every slot may be on its way at once; requests and words about the session need room besides. */
    while (size < 2 * slots + 256)
        size *= 2;
    ring_bytes = page_up(sizeof(struct pool_ring_shared) + size * sizeof(struct pool_descriptor));
    pool->bytes = 3 * ring_bytes + POOL_PAGE_SIZE + (size_t)slots * POOL_PAGE_SIZE;
    pool->slots = slots;
    pool->asked = slots / 2;
    if (pool->asked > WIRE_ASKED_MAX)
        pool->asked = WIRE_ASKED_MAX;

    orders = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    reports = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    arrivals = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    fd = memfd_create("xenpaging-pc-pool", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (orders < 0 || reports < 0 || arrivals < 0 || fd < 0 || ftruncate(fd, (off_t)pool->bytes) ||
        fallocate(fd, 0, 0, (off_t)pool->bytes) ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
        goto fail;
    base = mmap(NULL, pool->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        goto fail;
    close(fd);
    pool->base = base;
    ring_init(&pool->orders, base, size, orders, reports);
    ring_init(&pool->reports, base + ring_bytes, size, reports, orders);
    ring_init(&pool->arrivals, base + 2 * ring_bytes, size, arrivals, orders);
    pool->text = (char *)base + 3 * ring_bytes;
    pool->pages = base + 3 * ring_bytes + POOL_PAGE_SIZE;
    return 0;

fail:
    rc = -errno;
    if (fd >= 0)
        close(fd);
    if (orders >= 0)
        close(orders);
    if (reports >= 0)
        close(reports);
    if (arrivals >= 0)
        close(arrivals);
    return rc ? rc : -ENOMEM;
}

void pool_destroy(struct pool *pool)
{
    if (!pool->base)
        return;
    munmap(pool->base, pool->bytes);
    close(pool->orders.event_fd);
    close(pool->reports.event_fd);
    close(pool->arrivals.event_fd);
    pool->base = NULL;
}

uint32_t pool_quantum(const struct pool *pool)
{
    uint32_t most = (pool->slots - pool->asked) / 8;

    return most == 0 ? 1 : most > 64 ? 64 : most;
}

uint32_t pool_ring_space(const struct pool_ring *ring)
{
    uint32_t used = ring->mine - atomic_load_explicit(&ring->shared->consumed, memory_order_acquire);

    /* A consumer that claims to have taken more than there was: full, for as long as it says so. */
    return used > ring->size ? 0 : ring->size - used;
}

/* What was done before counts if this does, whenever the process dies. */
static void move_mine(struct pool_ring *ring)
{
    __atomic_store_n(&ring->mine, ring->mine + 1, __ATOMIC_RELEASE);
    fault_point("moved an index");
}

bool pool_ring_put(struct pool_ring *ring, const struct pool_descriptor *descriptor)
{
    if (pool_ring_space(ring) == 0)
        return false;
    ring->entries[ring->mine & (ring->size - 1)] = *descriptor;
    fault_point("wrote an entry");
    move_mine(ring);
    atomic_store_explicit(&ring->shared->produced, ring->mine, memory_order_release);
    fault_point("published an entry");
    return true;
}

void pool_ring_notify(struct pool_ring *ring)
{
    wake_kick(ring->event_fd);
}

bool pool_ring_want_space(struct pool_ring *ring, uint32_t wanted)
{
    if (pool_ring_space(ring) >= wanted)
        return true;
    atomic_store(&ring->shared->want_space, 1);
    /* The consumer may have made space between the look and the flag. */
    atomic_thread_fence(memory_order_seq_cst);
    return pool_ring_space(ring) >= wanted;
}

int pool_ring_peek(struct pool_ring *ring, struct pool_descriptor *descriptor)
{
    uint32_t there = atomic_load_explicit(&ring->shared->produced, memory_order_acquire) - ring->mine;

    if (there == 0)
        return 0;
    if (there > ring->size)
        return -EPROTO;
    memcpy(descriptor, &ring->entries[ring->mine & (ring->size - 1)], sizeof(*descriptor));
    /* The copy is what gets checked and used: the other end may go on writing to the entry. */
    __asm__ volatile("" : : "r"(descriptor) : "memory");
    return 1;
}

static void give_space(struct pool_ring *ring)
{
    atomic_store_explicit(&ring->shared->consumed, ring->mine, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&ring->shared->want_space, memory_order_relaxed)) {
        atomic_store(&ring->shared->want_space, 0);
        wake_kick(ring->space_fd);
    }
}

void pool_ring_consume(struct pool_ring *ring)
{
    move_mine(ring);
    give_space(ring);
    fault_point("consumed an entry");
}

int pool_ring_take(struct pool_ring *ring, struct pool_descriptor *descriptor)
{
    int rc = pool_ring_peek(ring, descriptor);

    if (rc > 0)
        pool_ring_consume(ring);
    return rc;
}

void pool_ring_take_over_producer(struct pool_ring *ring)
{
    atomic_store_explicit(&ring->shared->produced, ring->mine, memory_order_release);
    pool_ring_notify(ring);
}

void pool_ring_take_over_consumer(struct pool_ring *ring)
{
    /* Wakes this end as well: what is there may have been announced to the one that was killed. */
    give_space(ring);
    wake_kick(ring->space_fd);
    pool_ring_notify(ring);
}

void pool_ring_restart(struct pool_ring *ring)
{
    atomic_store_explicit(&ring->shared->consumed, ring->mine, memory_order_relaxed);
    atomic_store_explicit(&ring->shared->want_space, 0, memory_order_relaxed);
    atomic_store_explicit(&ring->shared->produced, ring->mine, memory_order_release);
}

void pool_ring_begin(struct pool_ring *ring)
{
    ring->mine = atomic_load_explicit(&ring->shared->consumed, memory_order_acquire);
}

void pool_ring_clear(struct pool_ring *ring)
{
    wake_clear(ring->event_fd);
}
