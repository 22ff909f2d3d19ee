/* LSTM's steps for one element type: define T, LANES, NAMED(x) and WORD(x) (a function of ops/math.h) before including
 * it. */

#include "ops/cpu/variants/block_template.h"

/* One block of rows: sums = a · b, or += where `adds`. */
static inline __attribute__((always_inline)) void NAMED(multiply_rows)(const int rows, int64_t part, const T *a,
                                                                       int64_t depth, const T *b, bool adds, T *sums) {
    NAMED(block)(rows, part, a, depth, 1, b, COLUMNS, adds ? sums : NULL, COLUMNS, sums, COLUMNS);
}

static inline __attribute__((always_inline)) void NAMED(add_row)(NAMED(vector) sums[2], T factor, const T *b) {
    sums[0] += factor * NAMED(load_vector)(b);
    sums[1] += factor * NAMED(load_vector)(b + LANES);
}

/* The same for one or two rows, whose few sums would wait for each other: each is made in 4 / rows parts. */
static inline __attribute__((always_inline)) void NAMED(multiply_few)(const int rows, int64_t depth, const T *a,
                                                                      int64_t a_row, const T *b, bool adds, T *to) {
    const int parts = 4 / rows;
    NAMED(vector) sums[4][2] = {{{0}}}; /* [part and row][half] */
    int64_t k = 0;
    for (; k + parts <= depth; k += parts)
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            NAMED(add_row)(sums[i], a[i % rows * a_row + k + i / rows], b + (k + i / rows) * COLUMNS);
    for (; k < depth; k++)
#pragma GCC unroll 2
        for (int row = 0; row < rows; row++)
            NAMED(add_row)(sums[row], a[row * a_row + k], b + k * COLUMNS);
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            NAMED(vector)
            sum = rows == 1 ? sums[0][half] + sums[2][half] + (sums[1][half] + sums[3][half])
                            : sums[i][half] + sums[i + 2][half];
            T *place = to + i * COLUMNS + half * LANES;
            if (adds) sum += NAMED(load_vector)(place);
            *(NAMED(loose) *)place = sum;
        }
    }
}

/* sums [rows][COLUMNS] = a [rows, depth] · panel [depth][COLUMNS]. What stands behind a part of the panel is fetched
 * while that is used: all weights of a step are more than the second-level cache holds. */
static void NAMED(multiply)(int64_t rows, int64_t depth, const T *a, const T *panel, T *sums) {
    const int64_t block = rows > 2 ? DEPTH_BLOCK : depth;
    for (int64_t k = 0; k < depth; k += block) {
        const int64_t part = least(block, depth - k);
        const T *b = panel + k * COLUMNS, *next = b + part * COLUMNS;
        for (int64_t row = 0, done; row < rows; row += done) {
            const T *from = a + row * depth + k;
            T *to = sums + row * COLUMNS;
            const int64_t left = rows - row;
            done = left >= ROWS && left != 8 ? ROWS
                   : left >= 4               ? 4
                   : left >= 2               ? 2
                                             : 1; /* 4 and 4 are faster than 6 and 2 */
            for (const T *end = next + part * COLUMNS * done / rows; rows > 2 && next < end; next += 64 / sizeof(T))
                __builtin_prefetch(next, 0, 2);
            if (done == ROWS)
                NAMED(multiply_rows)(ROWS, part, from, depth, b, k > 0, to);
            else if (done == 4)
                NAMED(multiply_rows)(4, part, from, depth, b, k > 0, to);
            else if (done == 2)
                NAMED(multiply_few)(2, part, from, depth, b, k > 0, to);
            else
                NAMED(multiply_few)(1, part, from, depth, b, k > 0, to);
        }
    }
}

/* ---------------------------------------------------------------- forward: LANES units and their four gates */
/* packed: for each group of LANES units two panels [hidden][COLUMNS], of gates i and f, and of g and o. */
static void NAMED(pack_forward)(void *context, int64_t begin, int64_t end) {
    const lstm_job *job = context;
    const int64_t hidden = job->hidden;
    for (int64_t half = 2 * begin; half < 2 * end; half++) {
        const int64_t unit = half / 4 * LANES, count = least(LANES, hidden - unit);
        const T *from = (const T *)job->weight + (half % 4 * hidden + unit) * hidden;
        T *to = (T *)job->packed + half / 2 * hidden * COLUMNS + half % 2 * LANES;
        int64_t k = 0;
        for (; count == LANES && k + LANES <= hidden; k += LANES) {
            NAMED(vector) v[LANES];
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++)
                v[i] = NAMED(load_vector)(from + i * hidden + k);
            NAMED(transpose_vectors)(v);
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++)
                *(NAMED(loose) *)(to + (k + i) * COLUMNS) = v[i];
        }
        for (; k < hidden; k++)
            for (int64_t i = 0; i < LANES; i++)
                to[k * COLUMNS + i] = i < count ? from[i * hidden + k] : 0;
    }
}

/* Rows of `count` units to whole vectors and back. */
static inline void NAMED(get)(T *to, const T *from, int64_t count) {
    if (count == LANES)
        memcpy(to, from, sizeof(T) * LANES);
    else
        for (int64_t l = 0; l < LANES; l++)
            to[l] = l < count ? from[l] : 0;
}
static inline void NAMED(put)(T *to, const T *from, int64_t count) {
    if (count == LANES)
        memcpy(to, from, sizeof(T) * LANES);
    else
        memcpy(to, from, sizeof(T) * (size_t)count);
}

/* One sample's cells: i, f, g, o = σ, σ, tanh, σ of what comes from the input and from h; c = f c + i g; h = o
 * tanh(c). */
static void NAMED(cell)(const lstm_job *job, const lstm_step *step, int64_t row, int64_t unit, int64_t count,
                        const T *first, const T *second) {
    const int64_t hidden = job->hidden, place = row * hidden + unit;
    const T *gates = (const T *)step->gates + row * 4 * hidden + unit;
    T i[LANES], f[LANES], g[LANES], o[LANES], c[LANES], h[LANES];
    NAMED(get)(i, gates, count);
    NAMED(get)(f, gates + hidden, count);
    NAMED(get)(g, gates + 2 * hidden, count);
    NAMED(get)(o, gates + 3 * hidden, count);
    NAMED(get)(c, (const T *)step->c_before + place, count);
    for (int l = 0; l < LANES; l++) {
        i[l] = WORD(sigmoid)(i[l] + first[l]);
        f[l] = WORD(sigmoid)(f[l] + first[LANES + l]);
        g[l] = WORD(tanh)(g[l] + second[l]);
        o[l] = WORD(sigmoid)(o[l] + second[LANES + l]);
        c[l] = f[l] * c[l] + i[l] * g[l];
        h[l] = o[l] * WORD(tanh)(c[l]);
    }
    NAMED(put)((T *)step->c + place, c, count);
    NAMED(put)((T *)step->h + place, h, count);
    if (!step->activated) return;
    T *activated = (T *)step->activated + row * 4 * hidden + unit;
    NAMED(put)(activated, i, count);
    NAMED(put)(activated + hidden, f, count);
    NAMED(put)(activated + 2 * hidden, g, count);
    NAMED(put)(activated + 3 * hidden, o, count);
}

/* Few samples, whose steps are too short to pay for packing: sums[l] = Σ_k weight[l, k] · h[k] for `count` units of a
 * gate, each a stream of its own. */
static void NAMED(multiply_rows_of_weight)(const T *weight, int64_t count, const T *h, int64_t hidden, T *sums) {
    NAMED(vector) v[LANES] = {0};
    const T *rows[LANES];
    int64_t k = 0;
    for (int l = 0; l < LANES; l++)
        rows[l] = weight + least(l, count - 1) * hidden;
    for (; k + LANES <= hidden; k += LANES) {
        const NAMED(vector) x = NAMED(load_vector)(h + k);
#pragma GCC unroll 16
        for (int l = 0; l < LANES; l++) {
            v[l] += NAMED(load_vector)(rows[l] + k) * x;
        }
    }
    NAMED(transpose_vectors)(v);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            v[l] += v[l + half];
    memcpy(sums, v, sizeof v[0]);
    for (; k < hidden; k++)
        for (int l = 0; l < LANES; l++)
            sums[l] += rows[l][k] * h[k];
}

static void NAMED(forward_unpacked)(void *context, int64_t index, int64_t begin, int64_t end) {
    const lstm_job *job = context;
    const int64_t hidden = job->hidden;
    const lstm_step step = forward_step(job, index, sizeof(T));
    for (int64_t group = begin; group < end; group++) {
        const int64_t unit = group * LANES, count = least(LANES, hidden - unit);
        for (int64_t row = 0; row < job->batch; row++) {
            T sums[4 * LANES];
            for (int gate = 0; gate < 4; gate++)
                NAMED(multiply_rows_of_weight)
            ((const T *)job->weight + (gate * hidden + unit) * hidden, count, (const T *)step.h_before + row * hidden,
             hidden, sums + gate * LANES);
            NAMED(cell)(job, &step, row, unit, count, sums, sums + 2 * LANES);
        }
    }
}

static void NAMED(forward_groups)(void *context, int64_t index, int64_t begin, int64_t end) {
    const lstm_job *job = context;
    const lstm_step step = forward_step(job, index, sizeof(T));
    const int64_t hidden = job->hidden, together = job->batch < ROW_BLOCK ? ROW_BLOCK / job->batch : 1;
    T sums[2][ROW_BLOCK * COLUMNS]; /* [panel][group and row][COLUMNS] */
    for (int64_t first = begin; first < end; first += together) {
        const int64_t groups = least(together, end - first);
        for (int64_t row = 0; row < job->batch; row += ROW_BLOCK) {
            const int64_t rows = least(ROW_BLOCK, job->batch - row);
            const T *h = (const T *)step.h_before + row * hidden;
            for (int64_t half = 0; half < 2 * groups; half++)
                NAMED(multiply)
            (rows, hidden, h, (const T *)job->packed + (2 * first + half) * hidden * COLUMNS,
             sums[half % 2] + half / 2 * rows * COLUMNS);
            for (int64_t i = 0; i < groups * rows; i++) {
                const int64_t unit = (first + i / rows) * LANES;
                NAMED(cell)
                (job, &step, row + i % rows, unit, least(LANES, hidden - unit), sums[0] + i * COLUMNS,
                 sums[1] + i * COLUMNS);
            }
        }
    }
}

static void NAMED(pack)(const lstm_job *job) {
    cr_parallel_for((job->hidden + LANES - 1) / LANES * 2, CR_GRAIN_ELEMENTS / (job->hidden * COLUMNS + 1) + 1,
                    NAMED(pack_forward), (void *)(uintptr_t)job);
}

/* All steps; with job->packed, or with the weight as it is where there are few samples. */
static bool NAMED(forward)(lstm_job *job) {
    const int64_t groups = (job->hidden + LANES - 1) / LANES, work = job->batch * job->hidden * LANES / 2 + 1;
    const size_t bytes = (size_t)(groups * 2 * job->hidden * COLUMNS) * sizeof(T);
    const bool packs = !job->packed && job->batch > UNPACKED_ROWS;
    if (packs && !(job->packed = cr_block_allocate(bytes))) return false;
    if (packs) NAMED(pack)(job);
    cr_parallel_steps(job->length, groups, CR_GRAIN_ELEMENTS / work + 1,
                      job->packed ? NAMED(forward_groups) : NAMED(forward_unpacked), job);
    if (packs) cr_block_free(job->packed, bytes);
    return true;
}

/* ---------------------------------------------------------------- backward: a panel of COLUMNS units */
/* packed: panels [4 hidden][COLUMNS] of the weight's columns. */
static void NAMED(pack_backward)(void *context, int64_t begin, int64_t end) {
    const lstm_job *job = context;
    const int64_t hidden = job->hidden;
    for (int64_t panel = begin; panel < end; panel++) {
        const T *from = (const T *)job->weight + panel * COLUMNS;
        T *to = (T *)job->packed + panel * 4 * hidden * COLUMNS;
        const int64_t count = least(COLUMNS, hidden - panel * COLUMNS);
        for (int64_t k = 0; k < 4 * hidden; k++)
            for (int64_t c = 0; c < COLUMNS; c++)
                to[k * COLUMNS + c] = c < count ? from[k * hidden + c] : 0;
    }
}

/* One sample's units: dh and dc of this step to gradients before the activations, and to dc of the step before it. */
static void NAMED(cell_gradient)(const lstm_job *job, const lstm_step *step, int64_t row, int64_t unit, int64_t count) {
    const int64_t hidden = job->hidden, place = row * hidden + unit;
    const T *i = (const T *)step->gates + row * 4 * hidden + unit, *f = i + hidden, *g = f + hidden, *o = g + hidden;
    const T *cells = (const T *)step->c + place, *before = (const T *)step->c_before + place,
            *grad = (const T *)step->grad + place;
    T *to = (T *)step->activated + row * 4 * hidden + unit, *dh = (T *)job->dh + place, *dc = (T *)job->dc + place;
    _Pragma("GCC ivdep") for (int64_t u = 0; u < count; u++) {
        const T h = dh[u] + grad[u], tanh_c = WORD(tanh)(cells[u]), c = dc[u] + h * o[u] * (1 - tanh_c * tanh_c);
        to[u] = c * g[u] * i[u] * (1 - i[u]);
        to[hidden + u] = c * before[u] * f[u] * (1 - f[u]);
        to[2 * hidden + u] = c * i[u] * (1 - g[u] * g[u]);
        to[3 * hidden + u] = h * tanh_c * o[u] * (1 - o[u]);
        dc[u] = c * f[u];
    }
}

/* dh = later · weight for this panel, then its cells (unless the sequence has ended: grad is NULL). */
static void NAMED(backward_panels)(void *context, int64_t index, int64_t begin, int64_t end) {
    const lstm_job *job = context;
    const lstm_step step = backward_step(job, index, sizeof(T));
    T sums[ROW_BLOCK * COLUMNS];
    for (int64_t panel = begin; panel < end; panel++) {
        const int64_t unit = panel * COLUMNS, count = least(COLUMNS, job->hidden - unit), depth = 4 * job->hidden;
        for (int64_t row = 0; row < job->batch; row += ROW_BLOCK) {
            const int64_t rows = least(ROW_BLOCK, job->batch - row);
            if (step.later) {
                NAMED(multiply)
                (rows, depth, (const T *)step.later + row * depth, (const T *)job->packed + panel * depth * COLUMNS,
                 sums);
                for (int64_t r = 0; r < rows; r++)
                    memcpy((T *)job->dh + (row + r) * job->hidden + unit, sums + r * COLUMNS,
                           (size_t)count * sizeof(T));
            }
            for (int64_t r = 0; step.grad && r < rows; r++)
                NAMED(cell_gradient)(job, &step, row + r, unit, count);
        }
    }
}

/* All steps, and the product that gives the first state's gradient. */
static bool NAMED(backward)(lstm_job *job) {
    const int64_t hidden = job->hidden, panels = (hidden + COLUMNS - 1) / COLUMNS,
                  work = job->batch * hidden * COLUMNS / 2 + 1;
    const size_t bytes = (size_t)(panels * 4 * hidden * COLUMNS) * sizeof(T);
    if (!(job->packed = cr_block_allocate(bytes))) return false;
    cr_parallel_for(panels, CR_GRAIN_ELEMENTS / (4 * hidden * COLUMNS) + 1, NAMED(pack_backward), job);
    cr_parallel_steps(job->length + 1, panels, CR_GRAIN_ELEMENTS / work + 1, NAMED(backward_panels), job);
    cr_block_free(job->packed, bytes);
    return true;
}
#undef COLUMNS
