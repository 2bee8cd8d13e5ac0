/*
 * A kernel for a PVH guest of up to 32 vcpus that all go for absent pages at once: Linux with half as many
 * does not boot on one emulated CPU. Each vcpu has a page of its own. dom0 writes a round's number, any but
 * the last one, into word 0 of the control page; then each vcpu verifies and rewrites its page, and writes
 * into words 2 * vcpu and 2 * vcpu + 1 of the results page the round and how many words have been wrong so
 * far.
 *
 * It prints, with gfns in hexadecimal:
 *   ready control=GFN results=GFN pages=GFN vcpus=N    vcpu v's page is the v-th from pages on
 *   round R done                                       by the last vcpu
 */
#include "machine.h"

#define PAGE_SIZE    4096u
#define WORDS        (PAGE_SIZE / sizeof(uint32_t))
#define CONTROL_GFN  0x1000u /* 16 MiB: beyond the kernel (kernel.lds), within any guest's memory */
#define RESULTS_GFN  0x1001u
#define PAGES_GFN    0x1100u
#define LOOK_EACH_MS 50 /* 32 vcpus that look more often leave dom0 little of the one CPU */

struct result {
    uint32_t round, wrong;
};

static uint32_t vcpus, up, done;

static volatile uint32_t *frame(uint32_t gfn)
{
    return (volatile uint32_t *)(uintptr_t)(gfn * PAGE_SIZE);
}

/* Differs from vcpu to vcpu, round to round, word to word. */
static uint32_t pattern(uint32_t vcpu, uint32_t round, uint32_t word)
{
    return round * 1000003 + vcpu * WORDS + word;
}

static void fill(uint32_t vcpu, uint32_t round)
{
    volatile uint32_t *page = frame(PAGES_GFN + vcpu);

    for (uint32_t i = 0; i < WORDS; i++)
        page[i] = pattern(vcpu, round, i);
}

static uint32_t wrong_words(uint32_t vcpu, uint32_t round)
{
    volatile uint32_t *page = frame(PAGES_GFN + vcpu);
    uint32_t wrong = 0;

    for (uint32_t i = 0; i < WORDS; i++)
        wrong += page[i] != pattern(vcpu, round, i);
    return wrong;
}

static void __attribute__((noreturn)) rounds(uint32_t vcpu)
{
    volatile struct result *result = (volatile struct result *)frame(RESULTS_GFN) + vcpu;
    uint32_t last = 0;

    for (;;) {
        uint32_t round = *frame(CONTROL_GFN);

        if (round == last) {
            /* dom0 writes without telling us */
            machine_wait_ms(vcpu, LOOK_EACH_MS);
            continue;
        }
        result->wrong += wrong_words(vcpu, last);
        fill(vcpu, round);
        result->round = last = round;
        if (__atomic_add_fetch(&done, 1, __ATOMIC_SEQ_CST) == vcpus) {
            /* before dom0 is told, since it may start the next round then */
            done = 0;
            print("round ");
            print_number(round, 10);
            print(" done\n");
        }
    }
}

void other_vcpu(uint32_t vcpu)
{
    machine_vcpu_init(vcpu);
    fill(vcpu, 0);
    __atomic_add_fetch(&up, 1, __ATOMIC_SEQ_CST);
    rounds(vcpu);
}

void first_vcpu(void)
{
    machine_init();
    for (uint32_t i = 0; i < WORDS; i++)
        frame(CONTROL_GFN)[i] = frame(RESULTS_GFN)[i] = 0;
    machine_vcpu_init(0);
    fill(0, 0);
    for (vcpus = 1; vcpus < VCPUS_MAX && machine_start_vcpu(vcpus);)
        vcpus++;
    while (__atomic_load_n(&up, __ATOMIC_SEQ_CST) != vcpus - 1)
        machine_wait_ms(0, 1);
    print("ready control=");
    print_number(CONTROL_GFN, 16);
    print(" results=");
    print_number(RESULTS_GFN, 16);
    print(" pages=");
    print_number(PAGES_GFN, 16);
    print(" vcpus=");
    print_number(vcpus, 10);
    print("\n");
    rounds(0);
}
