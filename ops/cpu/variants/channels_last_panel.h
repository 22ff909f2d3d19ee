/* The micro-kernel under the products of channels-last tensors: a few rows, each of which may lie anywhere, by a panel of
 * the weight. f32. */
#ifndef CRESSET_OPS_CPU_CHANNELS_LAST_PANEL_H
#define CRESSET_OPS_CPU_CHANNELS_LAST_PANEL_H

#include "core/parallel.h"
#include "ops/cpu/variants/epilogue.h"
#include "ops/cpu/variants/scratch.h"

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

/* A layer's call. The weight is packed; x is dense but for what `copy_padded` reads. */
typedef struct channels_last_layer {
    const cr_convolution *problem;
    const float *x, *packed, *bias; /* bias: NULL for none */
    float *y;
    const cr_epilogue *epilogue; /* NULL: none */
} channels_last_layer;

static inline int64_t divide_up(int64_t count, int64_t by) { return (count + by - 1) / by; }
static inline int64_t round_up(int64_t count, int64_t multiple) { return divide_up(count, multiple) * multiple; }

/* target[i][j] = start[j] + sum over t, c of rows[t·tap_step + i][c] · panel[t][c][j], where `start` is what the target
 * holds if `adds`, or zero without one. */
typedef struct panel_tile {
    const float *const *rows;
    int64_t taps, tap_step, first_channel, channels;
    const float *panel, *start;
    float *target;
    int64_t target_row;
    bool adds;
} panel_tile;

/* `rows` is a constant after inlining. */
static inline __attribute__((always_inline)) void multiply_rows(const int rows, const panel_tile *tile) {
    vector sums[ROWS][2];
    const float *panel = tile->panel;
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++) {
        const float *from = tile->adds ? tile->target + i * tile->target_row : tile->start;
        sums[i][0] = load_or_zero(from);
        sums[i][1] = load_or_zero(from ? from + LANES : NULL);
    }
    for (int64_t t = 0; t < tile->taps; t++) {
        const float *row[ROWS];
#pragma GCC unroll 12
        for (int i = 0; i < rows; i++)
            row[i] = tile->rows[t * tile->tap_step + i] + tile->first_channel;
        for (int64_t c = 0; c < tile->channels; c++, panel += COLUMNS) {
            const vector w0 = load(panel), w1 = load(panel + LANES);
#pragma GCC unroll 12
            for (int i = 0; i < rows; i++) {
                const float x = row[i][c];
                sums[i][0] += w0 * x;
                sums[i][1] += w1 * x;
            }
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++) {
        store(tile->target + i * tile->target_row, sums[i][0]);
        store(tile->target + i * tile->target_row + LANES, sums[i][1]);
    }
}

#define MULTIPLY(rows)                                                                                                 \
    static void multiply_##rows(const panel_tile *tile) { multiply_rows(rows, tile); }
MULTIPLY(1)
MULTIPLY(2)
MULTIPLY(3)
MULTIPLY(4)
MULTIPLY(5)
MULTIPLY(6)
#if defined(__AVX512F__)
MULTIPLY(7)
MULTIPLY(8)
#endif
#undef MULTIPLY

static void multiply_tile(int64_t rows, const panel_tile *tile) {
    static void (*const multiply[])(const panel_tile *) = {NULL, multiply_1, multiply_2, multiply_3,
                                                           multiply_4, multiply_5, multiply_6,
#if defined(__AVX512F__)
                                                           multiply_7, multiply_8
#endif
    };
    multiply[rows](tile);
}

/* The same where the target has fewer columns than the panel. */
static void multiply_part(int64_t rows, int64_t columns, const panel_tile *tile) {
    float made[ROWS][COLUMNS];
    panel_tile part = *tile;
    if (columns == COLUMNS) {
        multiply_tile(rows, tile);
        return;
    }
    memset(made, 0, sizeof made);
    for (int64_t i = 0; i < rows && tile->adds; i++)
        memcpy(made[i], tile->target + i * tile->target_row, (size_t)columns * sizeof(float));
    part.target = made[0];
    part.target_row = COLUMNS;
    multiply_tile(rows, &part);
    for (int64_t i = 0; i < rows; i++)
        memcpy(tile->target + i * tile->target_row, made[i], (size_t)columns * sizeof(float));
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
