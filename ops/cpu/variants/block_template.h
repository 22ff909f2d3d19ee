/* A block of a product in registers: define T, LANE_INDEX (an integer of T's size), LANES and NAMED(x) before including it,
 * and `enum { ROWS = 6 }`. */
#include "ops/cpu/variants/transpose_template.h"

enum { NAMED(COLUMNS) = 2 * LANES };
#define COLUMNS NAMED(COLUMNS)

static inline NAMED(vector) NAMED(load_vector)(const T *from) { return *(const NAMED(loose) *)from; }

/* With PAIRS, elements of A and B are pairs of bf16, whose products are both added to a sum of f32. */
static inline __attribute__((always_inline)) NAMED(vector) NAMED(broadcast)(const T *x) {
#ifdef PAIRS
    NAMED(vector) v;
    __asm__("vbroadcastss %1, %0" : "=v"(v) : "m"(*x));
    return v;
#else
    return *x - (NAMED(vector)){0};
#endif
}
static inline __attribute__((always_inline)) NAMED(vector)
    NAMED(multiply_add)(NAMED(vector) sum, NAMED(vector) a, NAMED(vector) b) {
#ifdef PAIRS
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
#else
    return sum + a * b;
#endif
}

/* c[rows][COLUMNS] = first[rows][COLUMNS] + Σ_k a[r, k] · b[k, :], a[r, k] at r · a_row + k · a_step; first NULL: zeros.
 * rows, a constant, is at most ROWS. */
static inline __attribute__((always_inline)) void NAMED(block)(const int rows, int64_t depth, const T *a, int64_t a_row,
                                                               int64_t a_step, const T *b, int64_t b_row,
                                                               const T *first, int64_t first_row, T *c, int64_t c_row) {
    NAMED(vector) sums[ROWS][2];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        sums[r][0] = sums[r][1] = (NAMED(vector)){0};
        if (!first) continue;
        sums[r][0] = NAMED(load_vector)(first + r * first_row);
        sums[r][1] = NAMED(load_vector)(first + r * first_row + LANES);
    }
    for (int64_t k = 0; k < depth; k++, a += a_step, b += b_row) {
        const NAMED(vector) b0 = NAMED(load_vector)(b), b1 = NAMED(load_vector)(b + LANES);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            const NAMED(vector) ar = NAMED(broadcast)(a + r * a_row);
            sums[r][0] = NAMED(multiply_add)(sums[r][0], ar, b0);
            sums[r][1] = NAMED(multiply_add)(sums[r][1], ar, b1);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        *(NAMED(loose) *)(c + r * c_row) = sums[r][0];
        *(NAMED(loose) *)(c + r * c_row + LANES) = sums[r][1];
    }
}
