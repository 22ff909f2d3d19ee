/* The pointwise table as loops.cpp makes it. */
#ifndef CRESSET_TESTS_LOOPS_H
#define CRESSET_TESTS_LOOPS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Dense operands and result of one compute type (uint8_t results for comparisons); unused operands are NULL. */
typedef void (*host_loop)(const void *const operands[3], const double numbers[2], void *out, int64_t count);

typedef struct host_row {
    const char *name, *class_;
    int operands;
    const char *number_names[2];
    double defaults[2];
    host_loop loops[3]; /* f32, f64, i64; NULL where the class leaves one out */
} host_row;

/* Compiled without and with fused multiply-add: the polynomials of ops/math.h round accordingly. */
extern const host_row rows_plain[], rows_fused[];
extern const int row_count_plain, row_count_fused;

#ifdef __cplusplus
}
#endif
#endif
