/* Names for functions that are compiled once for each instruction set: CR_NAME(run) is run_avx2, run_baseline, … */
#ifndef CRESSET_OPS_CPU_VARIANT_H
#define CRESSET_OPS_CPU_VARIANT_H

#include "ops/op.h"

#ifdef CR_VARIANT
#define CR_NAME_PASTE_(name, variant) name##_##variant
#define CR_NAME_(name, variant)       CR_NAME_PASTE_(name, variant)
#define CR_NAME(name)                 CR_NAME_(name, CR_VARIANT)
/* Defines the CPU kernel of an op; the build collects lines that begin with CR_KERNEL( . */
#define CR_KERNEL(op)                                                                                                  \
    bool CR_NAME(cr_cpu_##op)(cr_call * call);                                                                         \
    bool CR_NAME(cr_cpu_##op)(cr_call * call)
#else
#define CR_NAME(name) name
#define CR_KERNEL(op)                                                                                                  \
    bool cr_cpu_##op(cr_call *call);                                                                                   \
    bool cr_cpu_##op(cr_call *call)
#endif

/* Asks for the cache line at p, as near as the second level. The empty statement is an effect: gcc takes a function
 * that only prefetches for one that has none, and leaves its calls out. */
static inline __attribute__((always_inline)) void cr_prefetch(const void *p) {
    __builtin_prefetch(p, 0, 2);
    __asm__ volatile("");
}

#endif
