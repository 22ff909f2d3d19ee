/* The micro-kernel under the products of channels-last tensors: a few rows, each of which may lie anywhere, by a panel of
 * the weight. f32. */
#ifndef CRESSET_OPS_CPU_CHANNELS_LAST_PANEL_H
#define CRESSET_OPS_CPU_CHANNELS_LAST_PANEL_H

#include "core/parallel.h"
#include "ops/cpu/variants/epilogue.h"
#include "ops/cpu/variants/scratch.h"
#include "ops/cpu/variants/vectors.h"

#include <stdatomic.h>

enum {
    ROWS = VECTOR_BYTES == 64 ? 8 : 6,
    COLUMNS = 2 * LANES,
    DEPTH = VECTOR_BYTES == 64 ? 512 : 256 /* summed before it is stored */
};

/* A layer's call. The weight is packed; x is dense but for what `copy_padded` reads. */
typedef struct channels_last_layer {
    const cr_convolution *problem;
    const float *x, *packed, *bias; /* bias: NULL for none */
    float *y;
    const cr_epilogue *epilogue; /* NULL: none, or what follows */
    const float *added;          /* as large as y, or NULL */
    float low, high;             /* bounds of the sum */
} channels_last_layer;

#if defined(__AVX512F__)
enum { HAS_HALVES = true /* half a vector takes half the time */ };
typedef __m256 half_vector;
static inline half_vector half_of(vector x) { return _mm512_castps512_ps256((__m512)x); }
static inline vector whole_of(half_vector x) { return (vector)_mm512_zextps256_ps512(x); }
#else
enum { HAS_HALVES = false };
typedef vector half_vector;
static inline half_vector half_of(vector x) { return x; }
static inline vector whole_of(half_vector x) { return x; }
#endif

/* Memory that is wanted soon: each row of a product fetches a share of it. */
typedef struct wanted_memory {
    const float *from;
    int64_t bytes;
    int64_t row_bytes, step; /* fetched for each row, and from one channel to the next */
} wanted_memory;

/* target[i][j] = start[j] + sum over t, c of rows[t·tap_step + i][c] · panel[t][c][j] for i < count, j < columns; if `adds`
 * it is what the target holds plus that sum. */
typedef struct panel_product {
    const float *const *rows;
    int64_t count, columns, taps, tap_step, first_channel, channels;
    const float *panel, *start;
    wanted_memory ahead;  /* when this panel is through; 0 bytes: as much as a panel */
    wanted_memory beside; /* later; fetched by the second half of many rows */
    int64_t beside_row;   /* where that begins */
    float *target;
    int64_t target_row;
    bool adds, is_last; /* the last block of the depth: its results take up … */
    const float *added; /* … what lies here as in the target (NULL: nothing), and are brought within low … high */
    float low, high;
} panel_product;

/* The pointer a row on. The compiler is not to know that: it would keep all of a tile's pointers in registers. */
static inline const float *next_row(const float *at, int64_t row) {
    at += row;
    __asm__("" : "+r"(at));
    return at;
}

/* The last vectors of some rows, of which the target has only the first `lanes`. */
static __attribute__((noinline)) void load_ends(vector *ends, int rows, const float *from, int64_t row, int64_t lanes) {
    for (int i = 0; i < rows; i++)
        ends[i] = load_lanes(from + i * row, lanes);
}
static __attribute__((noinline)) void store_ends(const vector *ends, int rows, float *to, int64_t row, int64_t lanes) {
    for (int i = 0; i < rows; i++)
        store_lanes(to + i * row, ends[i], lanes);
}

/* sums += what lies from `from` on, as the target does. */
static inline __attribute__((always_inline)) void add_rows(const int rows, const int vectors, const panel_product *p,
                                                           const float *from, vector sums[ROWS][2]) {
    const int64_t row = p->target_row, lanes = p->columns - (vectors - 1) * LANES; /* of the last vector */
    const float *last = from + (vectors - 1) * LANES;
    if (lanes < LANES) {
        vector ends[ROWS];
        load_ends(ends, rows, last, row, lanes);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
            sums[i][vectors - 1] += ends[i];
    } else {
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++, last = next_row(last, row))
            sums[i][vectors - 1] += load(last);
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows && vectors == 2; i++, from = next_row(from, row))
        sums[i][0] += load(from);
}

static inline __attribute__((always_inline)) void store_rows(const int rows, const int vectors, const panel_product *p,
                                                             float *to, vector sums[ROWS][2]) {
    const int64_t row = p->target_row, lanes = p->columns - (vectors - 1) * LANES;
    const float *at = to;
    if (lanes < LANES) {
        vector ends[ROWS];
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
            ends[i] = sums[i][vectors - 1];
        store_ends(ends, rows, to + (vectors - 1) * LANES, row, lanes);
#pragma GCC unroll 8
        for (int i = 0; i < rows && vectors == 2; i++, at = next_row(at, row))
            store((float *)at, sums[i][0]);
        return;
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++, at = next_row(at, row)) {
        store((float *)at, sums[i][0]);
        if (vectors == 2) store((float *)at + LANES, sums[i][1]);
    }
}

/* What the sums of `rows` rows of `vectors` vectors, constants after inlining, begin with. Meanwhile the memory is fetched
 * where they will go, and what will be added. */
static inline __attribute__((always_inline)) void begin_rows(const int rows, const int vectors, const panel_product *p,
                                                             int64_t first, vector sums[ROWS][2]) {
    for (int v = 0; v < vectors; v++) {
        sums[0][v] = load_or_zero(p->start && !p->adds ? p->start + v * LANES : NULL);
        for (int i = 1; i < rows; i++)
            sums[i][v] = sums[0][v];
    }
    const float *const places[] = {p->target, p->is_last ? p->added : NULL};
    for (int k = 0; k < 2 && places[k]; k++) {
        const float *at = places[k] + first * p->target_row;
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++, at = next_row(at, p->target_row))
            for (int v = 0; v < vectors; v++)
                __builtin_prefetch(at + v * LANES, 1, 3);
    }
}

static inline __attribute__((always_inline)) void end_rows(const int rows, const int vectors, const panel_product *p,
                                                           int64_t first, vector sums[ROWS][2]) {
    const float *const terms[] = {p->adds ? p->target : NULL, p->is_last ? p->added : NULL};
#pragma GCC unroll 1
    for (int k = 0; k < 2; k++)
        if (terms[k]) add_rows(rows, vectors, p, terms[k] + first * p->target_row, sums);
    if (p->is_last && p->low > -INFINITY) {
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
            for (int v = 0; v < vectors; v++)
                sums[i][v] = at_least(sums[i][v], p->low);
    }
    if (p->is_last && p->high < INFINITY) {
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
            for (int v = 0; v < vectors; v++)
                sums[i][v] = at_most(sums[i][v], p->high);
    }
    store_rows(rows, vectors, p, p->target + first * p->target_row, sums);
}

/* Rows first, first + 1, …: `rows` of them in `halves` halves of vectors, constants after inlining, as is a single tap:
 * with 64 channels a loop over taps costs 4 %. Their share of what is wanted is fetched. */
static inline __attribute__((always_inline)) void multiply_rows(const int rows, const int halves, const int64_t taps,
                                                                const panel_product *p, int64_t first) {
    const int vectors = (halves + 1) / 2;
    vector sums[ROWS][2];
    half_vector last[ROWS];
    const wanted_memory *wanted = first < p->beside_row ? &p->ahead : &p->beside;
    const int64_t ahead_step = wanted->step;
    const float *panel = p->panel;
    const char *ahead = (const char *)wanted->from + first * wanted->row_bytes;
    begin_rows(rows, vectors, p, first, sums);
    for (int i = 0; i < rows && halves == 3; i++)
        last[i] = half_of(sums[i][1]);
    for (int64_t t = 0; t < taps; t++) {
        const float *row[ROWS];
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
            row[i] = p->rows[t * p->tap_step + first + i] + p->first_channel;
        for (int64_t c = 0; c < p->channels; c++, panel += COLUMNS, ahead += ahead_step) {
            __builtin_prefetch(ahead, 0, 2);
            if (rows < ROWS - 1)
                __builtin_prefetch(ahead + ahead_step / 2, 0, 2); /* few rows pass more than a line by */
            const vector w0 = load(panel), w1 = vectors == 2 ? load(panel + LANES) : w0;
#pragma GCC unroll 8
            for (int i = 0; i < rows; i++) {
                const vector x = row[i][c] - (vector){0};
                sums[i][0] += w0 * x;
                if (halves == 3) last[i] += half_of(w1) * half_of(x);
                if (halves == 4) sums[i][1] += w1 * x;
            }
        }
    }
    for (int i = 0; i < rows && halves == 3; i++)
        sums[i][1] = whole_of(last[i]);
    end_rows(rows, vectors, p, first, sums);
}

/* Rows too few to be shared out well. */
static __attribute__((noinline)) void multiply_rest(const panel_product *p, int64_t first) {
    for (; first + 4 <= p->count; first += 4)
        multiply_rows(4, 4, p->taps, p, first);
    for (; first + 2 <= p->count; first += 2)
        multiply_rows(2, 4, p->taps, p, first);
    if (first < p->count) multiply_rows(1, 4, p->taps, p, first);
}

/* In groups that differ by one row at most: a last group of a few rows would take as long as one of four. */
static inline __attribute__((always_inline)) void multiply_wide_by(const int64_t taps, const panel_product *p) {
    const int least = taps == 1 ? ROWS - 4 : ROWS - 1;
    const int64_t groups = taps == 1 && p->count == ROWS ? 2 : divide_up(p->count, ROWS), rows = p->count / groups,
                  larger = p->count % groups;
    int64_t first = 0;
    if (rows < least) {
        multiply_rest(p, 0);
        return;
    }
    for (int64_t group = 0, size; group < groups; group++, first += size) {
        size = rows + (group < larger);
        if (size == ROWS)
            multiply_rows(ROWS, 4, taps, p, first);
        else if (size == ROWS - 1)
            multiply_rows(ROWS - 1, 4, taps, p, first);
        else if (taps == 1 && size == ROWS - 2)
            multiply_rows(ROWS - 2, 4, taps, p, first);
        else if (taps == 1 && size == ROWS - 3)
            multiply_rows(ROWS - 3, 4, taps, p, first);
        else if (taps == 1)
            multiply_rows(ROWS - 4, 4, taps, p, first);
    }
}
static void multiply_wide(const panel_product *p) {
    if (p->taps == 1)
        multiply_wide_by(1, p);
    else
        multiply_wide_by(p->taps, p);
}

/* One vector of columns, or one and a half. */
static inline __attribute__((always_inline)) void multiply_fewer(const int halves, const panel_product *p) {
    int64_t first = 0;
    for (; first + ROWS <= p->count; first += ROWS)
        multiply_rows(ROWS, halves, p->taps, p, first);
    for (; first + 2 <= p->count; first += 2)
        multiply_rows(2, halves, p->taps, p, first);
    if (first < p->count) multiply_rows(1, halves, p->taps, p, first);
}
static void multiply_narrow(const panel_product *p) { multiply_fewer(2, p); }
static void multiply_medium(const panel_product *p) { multiply_fewer(3, p); }

/* Rows first … first + count - 1 fetch it in so many steps each. */
static inline void share_out(wanted_memory *wanted, int64_t first, int64_t count, int64_t steps) {
    wanted->row_bytes = divide_up(wanted->bytes, count);
    wanted->step = divide_up(wanted->row_bytes * ROWS, steps);
    wanted->from -= first * wanted->row_bytes / (int64_t)sizeof(float);
}

/* `columns` of the target begin here; the panel has COLUMNS of them. */
static void multiply_panel(panel_product *p, int64_t columns) {
    p->columns = columns < COLUMNS ? columns : COLUMNS;
    const int64_t steps = p->taps * p->channels;
    if (!p->ahead.bytes) p->ahead.bytes = steps * 2 * VECTOR_BYTES;
    p->beside_row = p->beside.bytes && p->count >= 4 * ROWS ? p->count / 2 / ROWS * ROWS : p->count;
    share_out(&p->ahead, 0, p->beside_row, steps);
    if (p->beside_row < p->count) share_out(&p->beside, p->beside_row, p->count - p->beside_row, steps);
    if (p->columns <= LANES)
        multiply_narrow(p);
    else if (HAS_HALVES && p->columns <= LANES + LANES / 2)
        multiply_medium(p);
    else
        multiply_wide(p);
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
