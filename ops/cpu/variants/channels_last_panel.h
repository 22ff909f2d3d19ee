/* The micro-kernel under the products of channels-last tensors: a few rows, each of which may lie anywhere, by a panel of
 * the weight. f32. */
#ifndef CRESSET_OPS_CPU_CHANNELS_LAST_PANEL_H
#define CRESSET_OPS_CPU_CHANNELS_LAST_PANEL_H

#include "core/parallel.h"
#include "ops/cpu/variants/epilogue.h"
#include "ops/cpu/variants/scratch.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#if defined(__AVX512F__)
enum { VECTOR_BYTES = 64, ROWS = 8 };
#elif defined(__AVX__)
enum { VECTOR_BYTES = 32, ROWS = 6 };
#else
enum { VECTOR_BYTES = 16, ROWS = 6 };
#endif
enum { LANES = VECTOR_BYTES / (int)sizeof(float), COLUMNS = 2 * LANES, DEPTH = 256 /* summed before it is stored */ };

typedef float vector __attribute__((vector_size(VECTOR_BYTES)));
typedef float loose_vector __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(float)), may_alias));

static inline vector load(const float *from) { return *(const loose_vector *)from; }
static inline vector load_or_zero(const float *from) { return from ? load(from) : (vector){0}; }
static inline void store(float *to, vector value) { *(loose_vector *)to = value; }

/* Within low … high; NaN stays. */
static inline vector clamped(vector x, float low, float high) {
#if defined(__AVX512F__)
    return (vector)__builtin_ia32_minps512_mask((vector){0} + high,
                                                __builtin_ia32_maxps512_mask((vector){0} + low, x, x, -1, 4), x, -1, 4);
#elif defined(__AVX__)
    return __builtin_ia32_minps256((vector){0} + high, __builtin_ia32_maxps256((vector){0} + low, x));
#else
    for (int i = 0; i < LANES; i++)
        x[i] = x[i] < low ? low : x[i] > high ? high : x[i];
    return x;
#endif
}

/* A layer's call. The weight is packed; x is dense but for what `copy_padded` reads. */
typedef struct channels_last_layer {
    const cr_convolution *problem;
    const float *x, *packed, *bias; /* bias: NULL for none */
    float *y;
    const cr_epilogue *epilogue; /* NULL: none, or bounds alone */
    float low, high;             /* those */
} channels_last_layer;

static inline int64_t divide_up(int64_t count, int64_t by) { return (count + by - 1) / by; }
static inline int64_t round_up(int64_t count, int64_t multiple) { return divide_up(count, multiple) * multiple; }

/* target[i][j] = start[j] + sum over t, c of rows[t·tap_step + i][c] · panel[t][c][j] for i < count, where `start` is what
 * the target holds if `adds`, or zero without one. */
typedef struct panel_product {
    const float *const *rows;
    int64_t count, taps, tap_step, first_channel, channels;
    const float *panel, *start;
    const float *ahead; /* what is wanted when this panel is through: it is fetched meanwhile */
    float *target;
    int64_t target_row;
    bool adds, is_last; /* the last block of the depth: its results are brought within low … high */
    float low, high;
} panel_product;

/* Rows first, first + 1, …: `rows` of them, which is a constant after inlining. Their share of what lies ahead is fetched. */
static inline __attribute__((always_inline)) void multiply_rows(const int rows, const panel_product *p, int64_t first) {
    vector sums[ROWS][2];
    const float *panel = p->panel, *ahead = p->ahead + first * p->taps * p->channels * COLUMNS / p->count;
    const int64_t ahead_step = (rows * COLUMNS + p->count - 1) / p->count;
    float *target = p->target + first * p->target_row;
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
        const float *from = p->adds ? target + i * p->target_row : p->start;
        sums[i][0] = load_or_zero(from);
        sums[i][1] = load_or_zero(from ? from + LANES : NULL);
    }
    for (int64_t t = 0; t < p->taps; t++) {
        const float *row[ROWS];
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
            row[i] = p->rows[t * p->tap_step + first + i] + p->first_channel;
        for (int64_t c = 0; c < p->channels; c++, panel += COLUMNS, ahead += ahead_step) {
            __builtin_prefetch(ahead, 0, 2);
            const vector w0 = load(panel), w1 = load(panel + LANES);
#pragma GCC unroll 8
            for (int i = 0; i < rows; i++) {
                const float x = row[i][c];
                sums[i][0] += w0 * x;
                sums[i][1] += w1 * x;
            }
        }
    }
    if (p->is_last) {
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            sums[i][0] = clamped(sums[i][0], p->low, p->high);
            sums[i][1] = clamped(sums[i][1], p->low, p->high);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
        store(target + i * p->target_row, sums[i][0]);
        store(target + i * p->target_row + LANES, sums[i][1]);
    }
}

/* Rows too few to be shared out well. */
static void multiply_rest(const panel_product *p, int64_t first) {
    for (; first + 4 <= p->count; first += 4)
        multiply_rows(4, p, first);
    switch (p->count - first) {
    case 1: multiply_rows(1, p, first); break;
    case 2: multiply_rows(2, p, first); break;
    case 3: multiply_rows(3, p, first); break;
    default: break;
    }
}

/* In groups of ROWS and ROWS - 1: a last group of a few rows would take as long as one of four. */
static void multiply_panel(const panel_product *p) {
    const int64_t smaller = (ROWS - p->count % ROWS) % ROWS, whole = p->count - smaller * (ROWS - 1);
    int64_t first = 0;
    if (whole < 0) {
        multiply_rest(p, 0);
        return;
    }
    for (; first < whole; first += ROWS)
        multiply_rows(ROWS, p, first);
    for (; first < p->count; first += ROWS - 1)
        multiply_rows(ROWS - 1, p, first);
}

/* The same where the target may have fewer columns than the panel. */
static void multiply_columns(const panel_product *p, int64_t columns) {
    float made[ROWS][COLUMNS];
    if (columns >= COLUMNS) {
        multiply_panel(p);
        return;
    }
    memset(made, 0, sizeof made);
    for (int64_t first = 0; first < p->count; first += ROWS) {
        panel_product part = *p;
        float *target = p->target + first * p->target_row;
        part.rows += first;
        part.count = p->count - first < ROWS ? p->count - first : ROWS;
        part.target = made[0];
        part.target_row = COLUMNS;
        for (int64_t i = 0; i < part.count && p->adds; i++)
            memcpy(made[i], target + i * p->target_row, (size_t)columns * sizeof(float));
        multiply_panel(&part);
        for (int64_t i = 0; i < part.count; i++)
            memcpy(target + i * p->target_row, made[i], (size_t)columns * sizeof(float));
    }
}

/* Channels of one block of the depth: not more than DEPTH, and all blocks about alike. */
static inline int64_t depth_block(int64_t channels) { return divide_up(channels, divide_up(channels, DEPTH)); }

/* A bias as long as the panels are; NULL and no error where there is none. */
static float *padded_bias(scratch *memory, const float *bias, int64_t columns) {
    if (!bias) return NULL;
    const int64_t padded = round_up(columns, COLUMNS);
    float *copy = scratch_take(memory, (size_t)padded * sizeof(float));
    if (!copy) return NULL;
    memcpy(copy, bias, (size_t)columns * sizeof(float));
    memset(copy + columns, 0, (size_t)(padded - columns) * sizeof(float));
    return copy;
}

#endif
