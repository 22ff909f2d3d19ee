/* Chooses the instruction set at start and installs its kernels. */
#include "ops/cpu/variant.h"
#include "ops/channels_last.h"
#include "ops/fused.h"
#include "ops/integer.h"
#include "ops/table.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- what was compiled */
#define CR_KERNEL_ROW(op) bool cr_cpu_##op(cr_call *call);
#include "kernel_list.inc"
#undef CR_KERNEL_ROW
static const cr_kernel_row common_rows[] = {
#define CR_KERNEL_ROW(op) {#op, cr_cpu_##op},
#include "kernel_list.inc"
#undef CR_KERNEL_ROW
    {NULL, NULL}};

/* For each variant: `rows_avx2`, … and the kernel that all pointwise rows share. */
#define CR_VARIANT_ROW(variant)                                                                                        \
    extern const cr_kernel_row cr_variant_rows_##variant[];                                                            \
    extern const int cr_variant_row_count_##variant;                                                                   \
    extern const cr_variant_functions cr_variant_functions_##variant;                                                  \
    bool cr_pointwise_kernel_##variant(cr_call *call);
#include "variants.inc"
#undef CR_VARIANT_ROW

typedef struct variant {
    const char *name;
    const cr_kernel_row *rows;
    const int *row_count;
    cr_kernel pointwise;
    const cr_variant_functions *functions;
} variant;

static const variant variants[] = {
/* from the least to the most demanding */
#define CR_VARIANT_ROW(name)                                                                                           \
    {#name, cr_variant_rows_##name, &cr_variant_row_count_##name, cr_pointwise_kernel_##name,                          \
     &cr_variant_functions_##name},
#include "variants.inc"
#undef CR_VARIANT_ROW
};
enum { VARIANT_COUNT = sizeof variants / sizeof variants[0] };

/* ---------------------------------------------------------------- what this processor can */
static bool processor_runs(const char *name) {
#if defined(__x86_64__)
    if (!strcmp(name, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("fma");
    if (!strcmp(name, "avx2")) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return !strcmp(name, "baseline");
}

static const variant *choose(void) {
    const char *wanted = getenv("CR_CPU");
    const variant *best = NULL;
    for (int i = 0; i < VARIANT_COUNT; i++) {
        if (processor_runs(variants[i].name)) best = &variants[i];
        if (best && wanted && !strcmp(wanted, variants[i].name)) break;
    }
    return best;
}

static const variant *chosen;

const char *cr_cpu_capability(void) {
    cr_table_ready();
    return chosen ? chosen->name : "none";
}

void cr_fused_geometry(cr_fused_program *program, cr_tensor *const *outputs, cr_tensor *const *inputs) {
    if (chosen) chosen->functions->fused_geometry(program, outputs, inputs);
}
int64_t cr_packed_convolution(const cr_convolution *problem, cr_dtype dtype, bool transposed) {
    return chosen ? chosen->functions->packed_convolution(problem, dtype, transposed) : 0;
}
int64_t cr_packed_columns(int64_t m, int64_t n, int64_t k, cr_dtype dtype, bool transposed) {
    return chosen ? chosen->functions->packed_columns(m, n, k, dtype, transposed) : 0;
}
int64_t cr_packed_channels_last(const cr_convolution *problem) {
    return chosen ? chosen->functions->packed_channels_last(problem) : 0;
}

int cr_integer_columns(void) { return chosen ? chosen->functions->integer_columns : 0; }
bool cr_integer_has_bytes(void) { return chosen && chosen->functions->integer_has_bytes(); }

void cr_cpu_install_kernels(void) {
    cr_op_install_kernels(CR_DEVICE_CPU, common_rows, (int)(sizeof common_rows / sizeof common_rows[0]) - 1);
    chosen = choose();
    if (!chosen) return;
    for (int i = 0; i < CR_POINTWISE_COUNT; i++)
        atomic_store(&cr_pointwise_ops[i].kernels[CR_DEVICE_CPU], chosen->pointwise);
    cr_op_install_kernels(CR_DEVICE_CPU, chosen->rows, *chosen->row_count);
}
