/* LSTM's steps for one element type: define T, LANES, NAMED(x) and WORD(x) (a function of ops/math.h) before including
 * it. */

#include "ops/cpu/variants/block_template.h"

/* One block of rows: sums = a · b, or += where `adds`. */
static inline __attribute__((always_inline)) void NAMED(multiply_rows)(const int rows, int64_t part, const T *a,
                                                                       int64_t depth, const T *b, bool adds, T *sums) {
    NAMED(block)(rows, part, a, depth, 1, b, COLUMNS, adds ? sums : NULL, COLUMNS, sums, COLUMNS);
}

/* sums [rows][COLUMNS] = a [rows, depth] · panel [depth][COLUMNS]. What stands behind a part of the panel is fetched
 * while that is used: all weights of a step are more than the second-level cache holds. */
static void NAMED(multiply)(int64_t rows, int64_t depth, const T *a, const T *panel, T *sums) {
    for (int64_t k = 0; k < depth; k += DEPTH_BLOCK) {
        const int64_t part = least(DEPTH_BLOCK, depth - k);
        const T *b = panel + k * COLUMNS, *next = b + part * COLUMNS;
        for (int64_t row = 0, done; row < rows; row += done) {
            const T *from = a + row * depth + k;
            T *to = sums + row * COLUMNS;
            const int64_t left = rows - row;
            done = left >= ROWS && left != 8 ? ROWS
                   : left >= 4               ? 4
                   : left >= 2               ? 2
                                             : 1; /* 4 and 4 are faster than 6 and 2 */
            for (const T *end = next + part * COLUMNS * done / rows; next < end; next += 64 / sizeof(T))
                __builtin_prefetch(next, 0, 2);
            if (done == ROWS)
                NAMED(multiply_rows)(ROWS, part, from, depth, b, k > 0, to);
            else if (done == 4)
                NAMED(multiply_rows)(4, part, from, depth, b, k > 0, to);
            else if (done == 2)
                NAMED(multiply_rows)(2, part, from, depth, b, k > 0, to);
            else
                NAMED(multiply_rows)(1, part, from, depth, b, k > 0, to);
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
static void NAMED(cell)(const lstm_job *job, int64_t row, int64_t unit, int64_t count, const T *first,
                        const T *second) {
    const T *gates = (const T *)job->gates + row * 4 * job->hidden + unit;
    T *activated = (T *)job->activated + row * 4 * job->hidden + unit;
    const int64_t hidden = job->hidden, place = row * hidden + unit;
    T i[LANES], f[LANES], g[LANES], o[LANES], c[LANES], h[LANES];
    NAMED(get)(i, gates, count);
    NAMED(get)(f, gates + hidden, count);
    NAMED(get)(g, gates + 2 * hidden, count);
    NAMED(get)(o, gates + 3 * hidden, count);
    NAMED(get)(c, (const T *)job->c_before + place, count);
    for (int l = 0; l < LANES; l++) {
        i[l] = WORD(sigmoid)(i[l] + first[l]);
        f[l] = WORD(sigmoid)(f[l] + first[LANES + l]);
        g[l] = WORD(tanh)(g[l] + second[l]);
        o[l] = WORD(sigmoid)(o[l] + second[LANES + l]);
        c[l] = f[l] * c[l] + i[l] * g[l];
        h[l] = o[l] * WORD(tanh)(c[l]);
    }
    NAMED(put)(activated, i, count);
    NAMED(put)(activated + hidden, f, count);
    NAMED(put)(activated + 2 * hidden, g, count);
    NAMED(put)(activated + 3 * hidden, o, count);
    NAMED(put)((T *)job->c + place, c, count);
    NAMED(put)((T *)job->h + place, h, count);
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

static void NAMED(forward_unpacked)(void *context, int64_t begin, int64_t end) {
    const lstm_job *job = context;
    const int64_t hidden = job->hidden;
    for (int64_t group = begin; group < end; group++) {
        const int64_t unit = group * LANES, count = least(LANES, hidden - unit);
        for (int64_t row = 0; row < job->batch; row++) {
            T sums[4 * LANES];
            for (int gate = 0; gate < 4; gate++)
                NAMED(multiply_rows_of_weight)
            ((const T *)job->weight + (gate * hidden + unit) * hidden, count, (const T *)job->h_before + row * hidden,
             hidden, sums + gate * LANES);
            NAMED(cell)(job, row, unit, count, sums, sums + 2 * LANES);
        }
    }
}

static void NAMED(forward_groups)(void *context, int64_t begin, int64_t end) {
    const lstm_job *job = context;
    T first[ROW_BLOCK * COLUMNS], second[ROW_BLOCK * COLUMNS];
    for (int64_t group = begin; group < end; group++) {
        const T *panels = (const T *)job->packed + group * 2 * job->hidden * COLUMNS;
        const int64_t unit = group * LANES, count = least(LANES, job->hidden - unit);
        for (int64_t row = 0; row < job->batch; row += ROW_BLOCK) {
            const int64_t rows = least(ROW_BLOCK, job->batch - row);
            const T *h = (const T *)job->h_before + row * job->hidden;
            NAMED(multiply)(rows, job->hidden, h, panels, first);
            NAMED(multiply)(rows, job->hidden, h, panels + job->hidden * COLUMNS, second);
            for (int64_t r = 0; r < rows; r++)
                NAMED(cell)(job, row + r, unit, count, first + r * COLUMNS, second + r * COLUMNS);
        }
    }
}

/* in: gates h0 c0 weight_hh; out: output h_n c_n activated cells. */
static bool NAMED(forward)(cr_tensor *const *in, cr_tensor *const *out, bool reverse) {
    const int64_t length = in[0]->sizes[0], batch = in[0]->sizes[1], hidden = in[3]->sizes[1], state = batch * hidden;
    const int64_t groups = (hidden + LANES - 1) / LANES, work = batch * hidden * LANES / 2 + 1;
    const size_t bytes = (size_t)(groups * 2 * hidden * COLUMNS) * sizeof(T);
    const bool packs = batch > UNPACKED_ROWS;
    const T *gates = cr_tensor_address(in[0]);
    T *output = cr_tensor_address(out[0]), *activated = cr_tensor_address(out[3]), *cells = cr_tensor_address(out[4]);
    lstm_job job = {.weight = cr_tensor_address(in[3]),
                    .h_before = cr_tensor_address(in[1]),
                    .c_before = cr_tensor_address(in[2]),
                    .packed = packs ? cr_block_allocate(bytes) : NULL,
                    .batch = batch,
                    .hidden = hidden};
    if (packs && !job.packed) return false;
    if (packs) cr_parallel_for(groups * 2, CR_GRAIN_ELEMENTS / (hidden * COLUMNS) + 1, NAMED(pack_forward), &job);
    for (int64_t i = 0; i < length; i++) {
        const int64_t t = reverse ? length - 1 - i : i;
        job.gates = gates + t * 4 * state;
        job.activated = activated + t * 4 * state;
        job.h = output + t * state;
        job.c = cells + t * state;
        cr_parallel_for(groups, CR_GRAIN_ELEMENTS / work + 1, packs ? NAMED(forward_groups) : NAMED(forward_unpacked),
                        &job);
        job.h_before = job.h;
        job.c_before = job.c;
    }
    memcpy(cr_tensor_address(out[1]), job.h_before, (size_t)state * sizeof(T));
    memcpy(cr_tensor_address(out[2]), job.c_before, (size_t)state * sizeof(T));
    if (packs) cr_block_free(job.packed, bytes);
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
static void NAMED(cell_gradient)(const lstm_job *job, int64_t row, int64_t unit, int64_t count) {
    const int64_t hidden = job->hidden, place = row * hidden + unit;
    const T *i = (const T *)job->gates + row * 4 * hidden + unit, *f = i + hidden, *g = f + hidden, *o = g + hidden;
    const T *cells = (const T *)job->cells + place, *before = (const T *)job->c_before + place,
            *grad = (const T *)job->grad + place;
    T *to = (T *)job->activated + row * 4 * hidden + unit, *dh = (T *)job->dh + place, *dc = (T *)job->dc + place;
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
static void NAMED(backward_panels)(void *context, int64_t begin, int64_t end) {
    const lstm_job *job = context;
    T sums[ROW_BLOCK * COLUMNS];
    for (int64_t panel = begin; panel < end; panel++) {
        const int64_t unit = panel * COLUMNS, count = least(COLUMNS, job->hidden - unit), depth = 4 * job->hidden;
        for (int64_t row = 0; row < job->batch; row += ROW_BLOCK) {
            const int64_t rows = least(ROW_BLOCK, job->batch - row);
            if (job->later) {
                NAMED(multiply)
                (rows, depth, (const T *)job->later + row * depth, (const T *)job->packed + panel * depth * COLUMNS,
                 sums);
                for (int64_t r = 0; r < rows; r++)
                    memcpy((T *)job->dh + (row + r) * job->hidden + unit, sums + r * COLUMNS,
                           (size_t)count * sizeof(T));
            }
            for (int64_t r = 0; job->grad && r < rows; r++)
                NAMED(cell_gradient)(job, row + r, unit, count);
        }
    }
}

/* in: grad_output grad_h grad_c gates cells output h0 c0 weight_hh; out: grad_gates grad_h0 grad_c0. */
static bool NAMED(backward)(cr_tensor *const *in, cr_tensor *const *out, bool reverse) {
    const int64_t length = in[3]->sizes[0], batch = in[3]->sizes[1], hidden = in[8]->sizes[1], state = batch * hidden;
    const int64_t panels = (hidden + COLUMNS - 1) / COLUMNS, work = batch * hidden * COLUMNS / 2 + 1;
    const size_t bytes = (size_t)(panels * 4 * hidden * COLUMNS) * sizeof(T);
    const T *grad = cr_tensor_address(in[0]), *gates = cr_tensor_address(in[3]), *cells = cr_tensor_address(in[4]);
    T *grad_gates = cr_tensor_address(out[0]);
    lstm_job job = {.weight = cr_tensor_address(in[8]),
                    .dh = cr_tensor_address(out[1]),
                    .dc = cr_tensor_address(out[2]),
                    .packed = cr_block_allocate(bytes),
                    .batch = batch,
                    .hidden = hidden};
    if (!job.packed) return false;
    memcpy(job.dh, cr_tensor_address(in[1]), (size_t)state * sizeof(T));
    memcpy(job.dc, cr_tensor_address(in[2]), (size_t)state * sizeof(T));
    cr_parallel_for(panels, CR_GRAIN_ELEMENTS / (4 * hidden * COLUMNS) + 1, NAMED(pack_backward), &job);
    for (int64_t i = length - 1; i >= 0; i--) {
        const int64_t t = reverse ? length - 1 - i : i, before = reverse ? t + 1 : t - 1;
        job.gates = gates + t * 4 * state;
        job.cells = cells + t * state;
        job.c_before = i ? cells + before * state : cr_tensor_address(in[7]);
        job.grad = grad + t * state;
        job.activated = grad_gates + t * 4 * state;
        cr_parallel_for(panels, CR_GRAIN_ELEMENTS / work + 1, NAMED(backward_panels), &job);
        job.later = job.activated;
    }
    job.grad = NULL;
    cr_parallel_for(panels, CR_GRAIN_ELEMENTS / work + 1, NAMED(backward_panels), &job);
    cr_block_free(job.packed, bytes);
    return true;
}
#undef COLUMNS
