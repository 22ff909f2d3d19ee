/* The kernels of this variant, by op name, and what they say of themselves. */
#include "ops/cpu/variant.h"
#include "ops/cpu/variants/integer_vector.h"
#include "ops/fused.h"

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

void CR_NAME(cr_fused_geometry)(cr_fused_program *program, cr_tensor *const *outputs, cr_tensor *const *inputs);
int64_t CR_NAME(cr_packed_convolution)(const cr_convolution *problem, cr_dtype dtype, bool transposed);
int64_t CR_NAME(cr_packed_columns)(int64_t m, int64_t n, int64_t k, cr_dtype dtype, bool transposed);
int64_t CR_NAME(cr_packed_channels_last)(const cr_convolution *problem);
bool CR_NAME(cr_integer_has_bytes)(void);

extern const cr_variant_functions CR_NAME(cr_variant_functions);
const cr_variant_functions CR_NAME(cr_variant_functions) = {CR_NAME(cr_fused_geometry),
                                                            CR_NAME(cr_packed_convolution),
                                                            CR_NAME(cr_packed_columns),
                                                            CR_NAME(cr_packed_channels_last),
                                                            2 * LANES,
                                                            CR_NAME(cr_integer_has_bytes)};
