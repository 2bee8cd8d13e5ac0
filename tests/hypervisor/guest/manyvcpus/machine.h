/* What a vcpu does by the hypervisor: start others, wait, print. All memory is mapped one to one. */
#ifndef MACHINE_H
#define MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#define VCPUS_MAX 32u

/* Once, by vcpu 0, before anything else here. */
void machine_init(void);

/* The vcpu goes on in other_vcpu(). False if there is no vcpu of that number; ends the domain on failure. */
bool machine_start_vcpu(uint32_t vcpu);

/* By each vcpu for itself before its first machine_wait_ms(). */
void machine_vcpu_init(uint32_t vcpu);

/* Uses no CPU time meanwhile. */
void machine_wait_ms(uint32_t vcpu, uint32_t ms);

/*
 * Onto the host's serial line, in lines. Xen keeps one line for the whole domain, so only one vcpu may print
 * at a time.
 */
void print(const char *text);
void print_number(uint32_t n, uint32_t base);

/* entry points, called by start.S */
void first_vcpu(void) __attribute__((noreturn));
void other_vcpu(uint32_t vcpu) __attribute__((noreturn));

#endif
