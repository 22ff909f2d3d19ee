/* The kernels of this variant, by op name. */
#include "ops/cpu/variant.h"

#define CR_KERNEL_ROW(op) bool CR_NAME(cr_cpu_##op)(cr_call * call);
#include "variant_list.inc"
#undef CR_KERNEL_ROW

extern const cr_kernel_row CR_NAME(cr_variant_rows)[];
extern const int CR_NAME(cr_variant_row_count);

const cr_kernel_row CR_NAME(cr_variant_rows)[] = {
#define CR_KERNEL_ROW(op) {#op, CR_NAME(cr_cpu_##op)},
#include "variant_list.inc"
#undef CR_KERNEL_ROW
    {NULL, NULL}};
const int CR_NAME(cr_variant_row_count) = (int)(sizeof CR_NAME(cr_variant_rows) / sizeof CR_NAME(cr_variant_rows)[0]) -
                                          1;
