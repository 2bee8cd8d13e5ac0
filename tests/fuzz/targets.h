/* What takes bytes from outside. Each target takes any input and must neither crash nor trip a sanitizer nor
 * an assertion. */
#ifndef FUZZ_TARGETS_H
#define FUZZ_TARGETS_H

#include <stddef.h>
#include <stdint.h>

/* Wire: frames in every state and role, each decoder on what comes through. */
void fuzz_frames(const uint8_t *data, size_t size);

/* Page pool: the feeder's half of the shared memory is the input. */
void fuzz_pool(const uint8_t *data, size_t size);

/* Page states: ring entries, arrivals and results in any order; counts have to add up. */
void fuzz_pagein(const uint8_t *data, size_t size);

/* The set file: the input is its body behind a good magic, sealed. */
void fuzz_set_file(const uint8_t *data, size_t size);

#endif
