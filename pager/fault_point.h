/*
 * Named points at which a test may kill this process (tests/unit/fake/crash.c); nothing in the product.
 */
#ifndef XENPAGING_PC_FAULT_POINT_H
#define XENPAGING_PC_FAULT_POINT_H

#ifdef XENPAGING_PC_FAULT_POINTS
void fault_point(const char *name);
#else
static inline void fault_point(const char *name)
{
    (void)name;
}
#endif

#endif
