/* The short, deterministic form of tests/fuzz: the same entry points, inputs from a seeded generator. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../fuzz/targets.h"

static void run(void (*target)(const uint8_t *data, size_t size), unsigned int rounds)
{
    static uint8_t data[4096];
    unsigned int random = 1;

    for (unsigned int i = 0; i < rounds; i++) {
        size_t size = (size_t)rand_r(&random) % sizeof(data);

        for (size_t k = 0; k < size; k++)
            /* Small numbers get further than noise: types, counts and lengths are small. */
            data[k] = (uint8_t)(rand_r(&random) % 3 ? rand_r(&random) % 20 * (rand_r(&random) % 2)
                                                    : rand_r(&random));
        target(data, size);
    }
}

static void frames(void **state)
{
    (void)state;
    run(fuzz_frames, 20000);
}

static void shared_memory(void **state)
{
    (void)state;
    run(fuzz_pool, 2000);
}

static void page_states(void **state)
{
    (void)state;
    run(fuzz_pagein, 5000);
}

static void set_files(void **state)
{
    (void)state;
    run(fuzz_set_file, 3000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(frames), cmocka_unit_test(shared_memory),
                                       cmocka_unit_test(page_states), cmocka_unit_test(set_files)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
