/*
 * The guest that QEMU moves: no operating system, each CPU touches pages in the order of the native guest's
 * `random`, and takes the time of each touch with the CPU's clock. Words of the command line:
 *
 *     pages=N cpus=N floor=CYCLES (shorter touches did not have to wait) seed=N
 *
 * On the serial line it says "ready" when each page has its contents, waits for a byte, says "go" and when
 * all is touched "done", with figures in hexadecimal: tests/native/harness/qemu.py reads them.
 */
#include <stdbool.h>
#include <stdint.h>

#include "permute.h"

#define FIRST_PAGE  (16u << 20)
#define PAGE        4096u
#define CPUS        16u
#define STEPS       16u
#define BUCKETS     (61u * STEPS)
#define COM1        0x3f8u
#define LINE_STATUS (COM1 + 5)
#define HAS_BYTE    1u
#define TAKES_BYTE  32u
#define APIC        0xfee00000u
#define SPURIOUS    0xf0u
#define COMMAND     0x300u
#define INIT_ALL    0xc4500u /* all but this one */
#define START_ALL   0xc4608u /* at 0x8000 */
#define INIT_CYCLES 50000000u

/* As in pager/core/latency.h, in cycles. */
struct waits {
    uint64_t touches, count, sum, max, wrong;
    uint32_t bucket[BUCKETS];
};

extern volatile uint32_t cpus_started;
void first_cpu(const uint32_t *multiboot);
void other_cpu(uint32_t cpu);

static struct waits waits[CPUS];
static uint64_t pages = 1024, least, seed = 1;
static uint32_t cpus = 1;
static volatile uint32_t go, done;

static void outb(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static uint8_t inb(uint16_t port)
{
    uint8_t value;

    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static uint64_t cycles(void)
{
    uint32_t low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

static void say_char(char c)
{
    while (!(inb(LINE_STATUS) & TAKES_BYTE))
        ;
    outb(COM1, (uint8_t)c);
}

static void say(const char *text)
{
    while (*text)
        say_char(*text++);
}

static void say_hex(uint64_t value)
{
    bool begun = false;

    for (int shift = 60; shift >= 0; shift -= 4) {
        unsigned int digit = (unsigned int)(value >> shift) & 15;

        begun = begun || digit || shift == 0;
        if (begun)
            say_char("0123456789abcdef"[digit]);
    }
    say_char(' ');
}

/* The number behind `name=` on the command line, if it is there. */
static void option(const char *line, const char *name, uint64_t *value)
{
    for (; *line; line++) {
        const char *at = line, *n = name;

        while (*n && *at == *n)
            at++, n++;
        if (*n || *at != '=')
            continue;
        for (*value = 0, at++; *at >= '0' && *at <= '9'; at++)
            *value = *value * 10 + (uint64_t)(*at - '0');
        return;
    }
}

static volatile uint64_t *page_of(uint64_t number)
{
    return (volatile uint64_t *)(uintptr_t)(FIRST_PAGE + (uint32_t)number * PAGE);
}

/* Not a zero page, nor the same as another. */
static void fill(void)
{
    for (uint64_t i = 0; i < pages; i++) {
        page_of(i)[0] = ~i;
        page_of(i)[PAGE / 8 - 1] = mix64(i);
    }
}

static unsigned int bucket_of(uint64_t n)
{
    unsigned int log;

    if (n < STEPS)
        return (unsigned int)n;
    log = 63u - (unsigned int)__builtin_clzll(n);
    return (log - 3) * STEPS + ((unsigned int)(n >> (log - 4)) & (STEPS - 1));
}

static void touch(struct waits *w, uint64_t number)
{
    volatile uint64_t *page = page_of(number);
    uint64_t start = cycles(), first = page[0], took = cycles() - start;

    w->touches++;
    w->wrong += first != ~number || page[PAGE / 8 - 1] != mix64(number);
    if (took < least)
        return;
    w->count++;
    w->sum += took;
    w->bucket[bucket_of(took)]++;
    if (took > w->max)
        w->max = took;
}

static void touch_all(uint32_t cpu)
{
    for (uint64_t i = cpu; i < pages; i += cpus)
        touch(&waits[cpu], permute(pages, seed, i));
    __atomic_add_fetch(&done, 1, __ATOMIC_SEQ_CST);
}

static void pause_cpu(void)
{
    __asm__ volatile("pause");
}

static void apic(uint32_t reg, uint32_t value)
{
    *(volatile uint32_t *)(APIC + reg) = value;
}

static void start_others(void)
{
    uint64_t since = cycles();

    if (cpus == 1)
        return;
    apic(SPURIOUS, 0x1ff);
    apic(COMMAND, INIT_ALL);
    while (cycles() - since < INIT_CYCLES)
        pause_cpu();
    apic(COMMAND, START_ALL);
    while (cpus_started < cpus)
        pause_cpu();
}

static void report(void)
{
    struct waits *sum = &waits[0];

    for (uint32_t cpu = 1; cpu < cpus; cpu++) {
        sum->touches += waits[cpu].touches;
        sum->wrong += waits[cpu].wrong;
        sum->count += waits[cpu].count;
        sum->sum += waits[cpu].sum;
        if (waits[cpu].max > sum->max)
            sum->max = waits[cpu].max;
        for (unsigned int i = 0; i < BUCKETS; i++)
            sum->bucket[i] += waits[cpu].bucket[i];
    }
    say("done ");
    say_hex(cycles());
    say_hex(sum->touches);
    say_hex(sum->wrong);
    say_hex(sum->count);
    say_hex(sum->sum);
    say_hex(sum->max);
    for (unsigned int i = 0; i < BUCKETS; i++) {
        if (sum->bucket[i]) {
            say_hex(i);
            say_hex(sum->bucket[i]);
        }
    }
    say("\n");
}

void other_cpu(uint32_t cpu)
{
    while (!go)
        pause_cpu();
    if (cpu < cpus)
        touch_all(cpu);
}

void first_cpu(const uint32_t *multiboot)
{
    const char *line = multiboot[0] & 4 ? (const char *)multiboot[4] : "";
    uint64_t n = 1;

    option(line, "pages", &pages);
    option(line, "cpus", &n);
    option(line, "floor", &least);
    option(line, "seed", &seed);
    cpus = (uint32_t)n;
    start_others();
    fill();
    say("ready\n");
    while (!(inb(LINE_STATUS) & HAS_BYTE))
        pause_cpu();
    say("go ");
    say_hex(cycles());
    say("\n");
    go = 1;
    touch_all(0);
    while (done < cpus)
        pause_cpu();
    report();
}
