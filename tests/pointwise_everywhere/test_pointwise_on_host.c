/* The pointwise table, compiled as C++ from the same lines, gives the CPU kernels' results bit for bit, on random
 * values and on every combination of special ones. */
#include "tests/pointwise_everywhere/loops.h"
#include "tests/unit/testing.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { COUNT = 16384, SPECIALS = 24, MINIMUM_COMPARISONS = 5200000 };

static const double special_reals[SPECIALS] = {0.0,      -0.0,      1.0,  -1.0,  0.5,     -0.5,    2.0,      -3.0,
                                               INFINITY, -INFINITY, NAN,  1e-40, FLT_MIN, FLT_MAX, -FLT_MAX, 0.625,
                                               88.7,     -103.0,    20.0, -20.0, 1e-8,    M_PI,    1e5,      -0.2};
static const int64_t special_integers[SPECIALS] = {0,   1,   -1,        2,         -2,        3,         -3, 5,
                                                   7,   -7,  10,        63,        64,        65,        31, 127,
                                                   128, 255, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, 97, -1000};

static uint64_t random_bits(void) {
    static uint64_t state = 88172645463325252u; /* xorshift64 (Marsaglia, 2003) */
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

/* Special values in every combination first; then half the rest of moderate size, half of any bits at all. */
static void fill(cr_dtype dtype, int operand, void *out) {
    static const int stride[] = {1, SPECIALS, SPECIALS * SPECIALS};
    for (int i = 0; i < COUNT; i++) {
        const bool is_special = i < SPECIALS * SPECIALS * SPECIALS;
        const int special = i / stride[operand] % SPECIALS;
        const uint64_t bits = random_bits();
        const double moderate = (double)(int64_t)bits * 0x1p-63 * 12;
        if (dtype == CR_I64)
            ((int64_t *)out)[i] = is_special ? special_integers[special]
                                  : i & 1    ? (int64_t)bits
                                             : (int64_t)(bits % 200) - 100;
        else if (dtype == CR_F64 && !is_special && (i & 1))
            memcpy((double *)out + i, &bits, sizeof bits);
        else if (dtype == CR_F64)
            ((double *)out)[i] = is_special ? special_reals[special] : moderate;
        else if (!is_special && (i & 1))
            memcpy((float *)out + i, &bits, sizeof(float));
        else
            ((float *)out)[i] = (float)(is_special ? special_reals[special] : moderate);
    }
}

static bool is_same(cr_dtype dtype, const void *x, const void *y, int i) {
    const size_t size = cr_dtype_size(dtype);
    if (memcmp((const char *)x + (size_t)i * size, (const char *)y + (size_t)i * size, size) == 0) return true;
    if (dtype == CR_F32) return isnan(((const float *)x)[i]) && isnan(((const float *)y)[i]);
    return dtype == CR_F64 && isnan(((const double *)x)[i]) && isnan(((const double *)y)[i]);
}

static double value_at(cr_dtype dtype, const void *data, int i) {
    return dtype == CR_F32   ? (double)((const float *)data)[i]
           : dtype == CR_F64 ? ((const double *)data)[i]
           : dtype == CR_I64 ? (double)((const int64_t *)data)[i]
                             : ((const uint8_t *)data)[i];
}

/* Runs one row in one dtype both ways; adds to `compared`, returns how many results differ. */
static int64_t compare(const host_row *row, cr_dtype dtype, host_loop loop, const double numbers[2],
                       int64_t *compared) {
    static _Alignas(64) double operands[3][COUNT], out[COUNT];
    const void *pointers[3] = {NULL};
    cr_tensor *inputs[3], *result;
    char text[128] = "";
    for (int k = 0; k < row->operands; k++) {
        fill(dtype, k, operands[k]);
        pointers[k] = operands[k];
        inputs[k] = cr_from_data(dtype, CR_SHAPE(COUNT), operands[k]);
    }
    for (int k = 0; k < 2 && row->number_names[k]; k++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s=%.17g ", row->number_names[k], numbers[k]);
    assert_true(cr_op_call(row->name, inputs, row->operands, text, &result, 1));
    loop(pointers, numbers, out, COUNT);
    const cr_dtype result_dtype = cr_dtype_of(result);
    assert_int_equal(result_dtype, strcmp(row->class_, "COMPARE") == 0 ? CR_BOOL : dtype);
    int64_t different = 0;
    for (int i = 0; i < COUNT; i++) {
        if (is_same(result_dtype, cr_data(result), out, i) || different++) continue;
        fprintf(stderr, "%s %s {%s} of", row->name, cr_dtype_name(dtype), text);
        for (int k = 0; k < row->operands; k++)
            fprintf(stderr, " %.17g", value_at(dtype, operands[k], i));
        fprintf(stderr, ": the kernel gives %.17g, C++ gives %.17g\n", value_at(result_dtype, cr_data(result), i),
                value_at(result_dtype, out, i));
    }
    *compared += COUNT;
    return different;
}

static void every_line_means_the_same_in_cpp(void **state) {
    (void)state;
    static const cr_dtype dtypes[] = {CR_F32, CR_F64, CR_I64};
    const bool is_plain = strcmp(cr_cpu_capability(), "baseline") == 0;
    const host_row *rows = is_plain ? rows_plain : rows_fused;
    const int row_count = is_plain ? row_count_plain : row_count_fused;
    int64_t compared = 0, different = 0;
    for (int i = 0; i < row_count; i++)
        for (int k = 0; k < 3; k++)
            for (int round = 0; rows[i].loops[k] && round < (rows[i].number_names[0] ? 2 : 1); round++)
                CR_SCOPE {
                    static const double others[2] = {0.75, 1.5};
                    different +=
                        compare(&rows[i], dtypes[k], rows[i].loops[k], round ? others : rows[i].defaults, &compared);
                    assert_cr_ok();
                }
    printf("%d ops, %lld results compared, %lld differ\n", row_count, (long long)compared, (long long)different);
    assert_int_equal(different, 0);
    assert_true(compared >= MINIMUM_COMPARISONS);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_line_means_the_same_in_cpp)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
