/* Winograd's algorithm on channels-last tensors: F(2×2, 3×3), F(4×4, 3×3) and F(4×4, 2×2).
 *
 *   Y = Aᵀ [ (G w Gᵀ) ⊙ (Bᵀ x B) ] A   for each tile of m×m results, from n×n of the input, n = m + r - 1
 *
 * (A. Lavin, S. Gray, Fast Algorithms for Convolutional Neural Networks, 2016.) The points of m = 4 are 0, ±√½, ±√2 and
 * infinity: their polynomials' coefficients stay near 1, and with them the error small. Two taps are three of which the
 * first is 0: nothing stands at the point 0 then, and all the rest is the same. The ⊙ of all tiles and channels is a matrix
 * product at each of the n² points. Transforms work on vectors of channels. The transformed weight lies as
 * [point][panel][channel][COLUMNS]. A thread takes a block of tiles through all three steps while they are in its cache;
 * where tiles are few, threads share each step.
 *
 * A kernel of r times its stride falls apart by the stride: forward, each phase of x is a channel of its own; backward,
 * each phase of x is a result of its own. */
#include "ops/cpu/variants/channels_last_panel.h"

enum {
    BLOCK_FLOATS = 1 << 19 /* of a block's transformed inputs and products */,
    MOST_POINTS = 6,
    MOST_PHASES = 16,
    LEAST_TILES = 18,
    READ_TILES = 64 /* pay for reading the weight from memory */,
    MOST_TILES = 192
};

/* result[o] = sum over taps q, phases f, channels c of w[q, f, c] x[start + split (o + q) + f, c], in both dims; it lies at
 * first + step · o in y. */
typedef struct correlation {
    int r; /* taps */
    int64_t split, step, start[2], size[2], first[2];
} correlation;

typedef struct winograd_job {
    const cr_convolution *problem;
    correlation at;
    const float *x, *packed, *bias;
    float *y;
    const cr_epilogue *epilogue;
    float low, high;
    int m, n;                     /* results and points along a side of a tile */
    int64_t depth;                /* channels of all phases */
    int64_t rows, columns, tiles; /* of tiles: in an image, in a row of them, in all */
    int64_t panels;
    int64_t block_tiles, input_point, product_point; /* elements between points, for that many tiles */
    int64_t input_tile, input_panel;                 /* and between tiles, and panels of channels, of inputs */
    float *inputs, *products;                        /* of one slot after the other */
    atomic_int_fast64_t next;                        /* block */
} winograd_job;

#define NEAR_POINT 0.70710678f
#define FAR_POINT  1.41421356f

/* A block in the memory of one slot. */
typedef struct winograd_block {
    const winograd_job *job;
    int64_t first, count; /* tiles */
    float *inputs, *products;
} winograd_block;

typedef struct tile_place {
    int64_t image, row, column; /* of the tile's first result */
} tile_place;

static tile_place place_of(const winograd_job *j, int64_t tile) {
    return (tile_place){tile / (j->rows * j->columns), tile / j->columns % j->rows * j->m, tile % j->columns * j->m};
}

/* ---------------------------------------------------------------- one dim of the transforms, step apart */
static inline __attribute__((always_inline)) void transform_input(const int m, const int r, const vector *d,
                                                                  const int step, vector *to) {
    const vector d0 = d[0], *rest = r == 3 ? d + step : d, d1 = rest[0], d2 = rest[step], d3 = rest[2 * step];
    if (m == 2) {
        to[0] = d0 - d2;
        to[step] = d1 + d2;
        to[2 * step] = d2 - d1;
        to[3 * step] = d1 - d3;
        return;
    }
    const vector d4 = rest[3 * step], d5 = rest[4 * step];
    const vector near_even = d4 - 2.0f * d2, near_odd = NEAR_POINT * (d3 - 2.0f * d1);
    const vector far_even = d4 - 0.5f * d2, far_odd = FAR_POINT * (d3 - 0.5f * d1);
    if (r == 3) {
        to[0] = d0 - 2.5f * d2 + d4;
        to += step;
    }
    to[0] = near_even + near_odd;
    to[step] = near_even - near_odd;
    to[2 * step] = far_even + far_odd;
    to[3 * step] = far_even - far_odd;
    to[4 * step] = d1 - 2.5f * d3 + d5;
}

static inline __attribute__((always_inline)) void transform_output(const int m, const int r, const vector *p,
                                                                   const int step, vector *to, const int to_step) {
    const vector p0 = p[0], *rest = r == 3 ? p + step : p, p1 = rest[0], p2 = rest[step], p3 = rest[2 * step];
    const vector sum = p1 + p2, difference = p1 - p2;
    if (m == 2) {
        to[0] = p0 + sum;
        to[to_step] = difference - p3;
        return;
    }
    const vector p4 = rest[3 * step], p5 = rest[4 * step];
    const vector near_odd = NEAR_POINT * difference, far_even = p3 + p4, far_odd = FAR_POINT * (p3 - p4);
    to[0] = r == 3 ? p0 + sum + far_even : sum + far_even;
    to[to_step] = near_odd + far_odd;
    to[2 * to_step] = 0.5f * sum + 2.0f * far_even;
    to[3 * to_step] = 0.5f * near_odd + 2.0f * far_odd + p5;
}

/* ---------------------------------------------------------------- step 1: inputs */
/* What a tile reads of one phase of x; NULL: in the padding. */
static void find_tile_pixels(const winograd_job *j, const tile_place *at, int64_t phase, const float **pixels) {
    const cr_convolution *p = j->problem;
    const int64_t split = j->at.split, row = j->at.start[0] + split * at->row + phase / split,
                  column = j->at.start[1] + split * at->column + phase % split;
    for (int i = 0; i < j->n * j->n; i++) {
        const int64_t h = row + split * (i / j->n), w = column + split * (i % j->n);
        const bool inside = h >= 0 && h < p->in[1] && w >= 0 && w < p->in[2];
        pixels[i] = inside ? j->x + ((at->image * p->in[1] + h) * p->in[2] + w) * p->channels : NULL;
    }
}

static inline __attribute__((always_inline)) void transform_inputs_of(const int m, const int r,
                                                                      const winograd_block *b) {
    const winograd_job *j = b->job;
    const int n = m + r - 1;
    const int64_t channels = j->problem->channels;
    const float *pixels[MOST_POINTS * MOST_POINTS];
    vector d[MOST_POINTS * MOST_POINTS];
    for (int64_t tile = 0; tile < b->count; tile++) {
        const tile_place at = place_of(j, b->first + tile);
        for (int64_t v = 0; v < j->depth; v += LANES) {
            const int64_t c = v % channels;
            float *to = b->inputs + tile * j->input_tile + v / COLUMNS * j->input_panel + v % COLUMNS;
            if (c == 0) find_tile_pixels(j, &at, v / channels, pixels);
            for (int i = 0; i < n * n; i++)
                d[i] = load_or_zero(pixels[i] ? pixels[i] + c : NULL);
#pragma GCC unroll 6
            for (int i = 0; i < n; i++)
                transform_input(m, r, d + i, n, d + i);
#pragma GCC unroll 6
            for (int i = 0; i < n; i++) {
                vector row[MOST_POINTS];
                transform_input(m, r, d + i * n, 1, row);
                for (int k = 0; k < n; k++)
                    store(to + (i * n + k) * j->input_point, row[k]);
            }
        }
    }
}
static __attribute__((noinline)) void transform_inputs_2_3(const winograd_block *b) { transform_inputs_of(2, 3, b); }
static __attribute__((noinline)) void transform_inputs_4_2(const winograd_block *b) { transform_inputs_of(4, 2, b); }
static __attribute__((noinline)) void transform_inputs_4_3(const winograd_block *b) { transform_inputs_of(4, 3, b); }

/* ---------------------------------------------------------------- step 2: products */
/* Of panels [begin, end), counted through all points. */
static void multiply_points(const winograd_block *b, int64_t begin, int64_t end) {
    const winograd_job *j = b->job;
    const int64_t depth = j->depth, features = j->problem->features, part = depth_block(depth);
    const float *rows[MOST_TILES];
    for (int64_t at = begin; at < end; at++) {
        const int64_t point = at / j->panels, panel = at % j->panels;
        panel_product product = {.rows = rows,
                                 .count = b->count,
                                 .taps = 1,
                                 .target = b->products + point * j->product_point + panel * COLUMNS,
                                 .target_row = features};
        if (at == begin || panel == 0)
            for (int64_t i = 0; i < b->count; i++)
                rows[i] = b->inputs + point * j->input_point + i * depth;
        for (int64_t c = 0; c < depth; c += part) {
            product.first_channel = c;
            product.channels = depth - c < part ? depth - c : part;
            product.panel = j->packed + (at * depth + c) * COLUMNS;
            product.ahead = product.panel + product.channels * COLUMNS;
            product.adds = c > 0;
            multiply_columns(&product, features - panel * COLUMNS);
        }
    }
}

/* ---------------------------------------------------------------- step 3: results */
static inline __attribute__((always_inline)) void transform_outputs_of(const int m, const int r,
                                                                       const winograd_block *b) {
    const winograd_job *j = b->job;
    const correlation *c = &j->at;
    const int64_t *out = j->problem->out, features = j->problem->features;
    const int n = m + r - 1;
    vector d[MOST_POINTS * MOST_POINTS], half[4 * MOST_POINTS], made[4];
    for (int64_t tile = 0; tile < b->count; tile++) {
        const tile_place at = place_of(j, b->first + tile);
        const int64_t rows = c->size[0] - at.row < m ? c->size[0] - at.row : m,
                      columns = c->size[1] - at.column < m ? c->size[1] - at.column : m,
                      row = at.image * out[1] + c->first[0] + at.row * c->step,
                      column = c->first[1] + at.column * c->step;
        const float *from = b->products + tile * features;
        float *to = j->y + (row * out[2] + column) * features;
        for (int64_t k = 0; k < features; k += LANES) {
            const vector bias = load_or_zero(j->bias ? j->bias + k : NULL);
            for (int i = 0; i < n * n; i++)
                d[i] = load(from + i * j->product_point + k);
#pragma GCC unroll 6
            for (int i = 0; i < n; i++)
                transform_output(m, r, d + i, n, half + i, n);
            for (int64_t o = 0; o < rows; o++) {
                transform_output(m, r, half + o * n, 1, made, 1);
                for (int64_t i = 0; i < columns; i++)
                    store(to + (o * out[2] + i) * c->step * features + k, clamped(made[i] + bias, j->low, j->high));
            }
        }
    }
}
static __attribute__((noinline)) void transform_outputs_2_3(const winograd_block *b) { transform_outputs_of(2, 3, b); }
static __attribute__((noinline)) void transform_outputs_4_2(const winograd_block *b) { transform_outputs_of(4, 2, b); }
static __attribute__((noinline)) void transform_outputs_4_3(const winograd_block *b) { transform_outputs_of(4, 3, b); }

/* Rows of pixels under tiles of one row of tiles. */
static void finish_tiles(const winograd_block *b) {
    const winograd_job *j = b->job;
    const int64_t *out = j->problem->out;
    for (int64_t tile = b->first, end = b->first + b->count; j->epilogue && tile < end;) {
        const tile_place at = place_of(j, tile);
        const int64_t rest = j->columns - tile % j->columns, count = rest < end - tile ? rest : end - tile;
        const int64_t pixels = out[2] - at.column < count * j->m ? out[2] - at.column : count * j->m;
        for (int64_t row = at.row; row < at.row + j->m && row < out[1]; row++)
            cr_epilogue_run(j->epilogue, 0, (at.image * out[1] + row) * out[2] + at.column, pixels, 0,
                            j->problem->features);
        tile += count;
    }
}

static void make_inputs(const winograd_block *b) {
    const winograd_job *j = b->job;
    (j->m == 2 ? transform_inputs_2_3 : j->at.r == 2 ? transform_inputs_4_2 : transform_inputs_4_3)(b);
}
static void make_results(const winograd_block *b) {
    const winograd_job *j = b->job;
    (j->m == 2 ? transform_outputs_2_3 : j->at.r == 2 ? transform_outputs_4_2 : transform_outputs_4_3)(b);
    finish_tiles(b);
}

/* ---------------------------------------------------------------- blocks */
static void run_winograd_block(const winograd_block *b) {
    make_inputs(b);
    multiply_points(b, 0, b->job->n * b->job->n * b->job->panels);
    make_results(b);
}

static void run_winograd_slots(void *context, int64_t begin, int64_t end) {
    winograd_job *j = context;
    for (int64_t slot = begin; slot < end; slot++)
        for (int64_t first; (first = atomic_fetch_add(&j->next, 1) * j->block_tiles) < j->tiles;) {
            const int64_t rest = j->tiles - first;
            const winograd_block b = {.job = j,
                                      .first = first,
                                      .count = rest < j->block_tiles ? rest : j->block_tiles,
                                      .inputs = j->inputs + slot * j->n * j->n * j->input_point,
                                      .products = j->products + slot * j->n * j->n * j->product_point};
            run_winograd_block(&b);
        }
}

/* The part of a block that is all tiles which begins `first` tiles on. */
static winograd_block part_of(const winograd_job *j, int64_t first, int64_t count) {
    return (winograd_block){.job = j,
                            .first = first,
                            .count = count,
                            .inputs = j->inputs + first * j->input_tile,
                            .products = j->products + first * j->problem->features};
}
static void share_inputs(void *context, int64_t begin, int64_t end) {
    const winograd_block b = part_of(context, begin, end - begin);
    make_inputs(&b);
}
static void share_products(void *context, int64_t begin, int64_t end) {
    const winograd_job *j = context;
    const winograd_block b = part_of(j, 0, j->tiles);
    multiply_points(&b, begin, end);
}
static void share_results(void *context, int64_t begin, int64_t end) {
    const winograd_block b = part_of(context, begin, end - begin);
    make_results(&b);
}

/* A convolution as one correlation. */
static correlation forward_correlation(const cr_convolution *p) {
    return (correlation){.r = (int)(p->kernel[2] / p->stride[2]),
                         .split = p->stride[2],
                         .step = 1,
                         .start = {-p->padding[1], -p->padding[2]},
                         .size = {p->out[1], p->out[2]}};
}

/* All but the memory; tiles are taken `share` at a time. */
static winograd_job plan_winograd(const channels_last_layer *l, const correlation *at, int m, int64_t shares) {
    const cr_convolution *p = l->problem;
    winograd_job j = {.problem = p,
                      .at = *at,
                      .x = l->x,
                      .packed = l->packed,
                      .bias = l->bias,
                      .y = l->y,
                      .epilogue = l->epilogue,
                      .low = l->low,
                      .high = l->high,
                      .m = m,
                      .n = m + at->r - 1,
                      .depth = at->split * at->split * p->channels,
                      .rows = divide_up(at->size[0], m),
                      .columns = divide_up(at->size[1], m),
                      .panels = divide_up(p->features, COLUMNS)};
    j.tiles = p->batch * j.rows * j.columns;
    int64_t fitting = BLOCK_FLOATS / (j.n * j.n * (j.depth + p->features));
    fitting = fitting < READ_TILES ? READ_TILES : fitting > MOST_TILES ? MOST_TILES : fitting;
    j.block_tiles = round_up(divide_up(j.tiles, round_up(divide_up(j.tiles, fitting), shares)), ROWS);
    return j;
}

static void size_points(winograd_job *j) {
    j->input_tile = j->depth;
    j->input_panel = COLUMNS;
    j->input_point = j->block_tiles * j->depth + COLUMNS; /* not all in the same lines of a cache */
    j->product_point = j->block_tiles * j->problem->features + COLUMNS;
}

static bool run_winograd(const channels_last_layer *l, const correlation *at, int m) {
    const int64_t threads = cr_num_threads();
    scratch memory = {0};
    winograd_job j = plan_winograd(l, at, m, threads);
    const bool few = j.tiles < threads * LEAST_TILES;
    const int64_t slots = few ? 1 : threads;
    if (few) j.block_tiles = j.tiles;
    size_points(&j);
    j.inputs = scratch_take(&memory, (size_t)(slots * j.n * j.n * j.input_point) * sizeof(float));
    j.products = scratch_take(&memory, (size_t)(slots * j.n * j.n * j.product_point) * sizeof(float));
    if (!j.inputs || !j.products) return scratch_drop(&memory);
    if (few) {
        cr_parallel_for(j.tiles, 1, share_inputs, &j);
        cr_parallel_for(j.n * j.n * j.panels, 1, share_products, &j);
        cr_parallel_for(j.tiles, 1, share_results, &j);
    } else {
        cr_parallel_for(slots, 1, run_winograd_slots, &j);
    }
    scratch_drop(&memory);
    return true;
}

/* ---------------------------------------------------------------- weights */
static int64_t winograd_packed_elements(const cr_convolution *p, const correlation *at, int m) {
    const int64_t n = m + at->r - 1;
    return n * n * divide_up(p->features, COLUMNS) * COLUMNS * at->split * at->split * p->channels;
}

/* Tap q of phase f of a feature's channel is w[feature · feature_step + channel · channel_step + place(f, q)], where each
 * dim is at tap_first + f + tap_step · q, or with q counted from the end where it is flipped. */
typedef struct winograd_weights {
    const cr_convolution *problem;
    correlation at;
    const float *w;
    float *packed;
    int m;
    int64_t feature_step, channel_step, kernel_width, tap_step, tap_first[2];
    bool flipped;
} winograd_weights;

static winograd_weights forward_weights(const cr_convolution *p, const correlation *at, const float *w, float *packed,
                                        int m) {
    const int64_t taps = p->kernel[1] * p->kernel[2];
    return (winograd_weights){.problem = p,
                              .at = *at,
                              .w = w,
                              .packed = packed,
                              .m = m,
                              .feature_step = p->channels * taps,
                              .channel_step = taps,
                              .kernel_width = p->kernel[2],
                              .tap_step = at->split};
}

/* The features of a panel side by side. */
typedef float wide __attribute__((vector_size(COLUMNS * sizeof(float))));

static inline __attribute__((always_inline)) void transform_weight(const int m, const int r, const wide *g,
                                                                   const int step, wide *to, const int to_step) {
    const wide g0 = g[0], *rest = r == 3 ? g + step : g, g1 = rest[0], g2 = rest[step];
    if (r == 3) {
        to[0] = g0;
        to += to_step;
    }
    if (m == 2) {
        to[0] = 0.5f * (g0 + g1 + g2);
        to[to_step] = 0.5f * (g0 - g1 + g2);
        to[2 * to_step] = g2;
        return;
    }
    const wide near_even = r == 3 ? g0 + 0.5f * g2 : 0.5f * g2, near_odd = NEAR_POINT * g1,
               far_even = r == 3 ? g0 + 2.0f * g2 : 2.0f * g2, far_odd = FAR_POINT * g1;
    to[0] = (-1.0f / 1.5f) * (near_even + near_odd);
    to[to_step] = (-1.0f / 1.5f) * (near_even - near_odd);
    to[2 * to_step] = (1.0f / 6.0f) * (far_even + far_odd);
    to[3 * to_step] = (1.0f / 6.0f) * (far_even - far_odd);
    to[4 * to_step] = g2;
}

/* One panel's features of a channel in one phase, of whose kernel all taps are given. */
static inline __attribute__((always_inline)) void pack_winograd_taps(const int m, const int r,
                                                                     const winograd_weights *job, const wide *kernel,
                                                                     int64_t panel, int64_t channel, int64_t phase) {
    const cr_convolution *p = job->problem;
    const int n = m + r - 1;
    const int64_t split = job->at.split, depth = split * split * p->channels, panels = divide_up(p->features, COLUMNS);
    const wide *first =
        kernel + (job->tap_first[0] + phase / split) * job->kernel_width + job->tap_first[1] + phase % split;
    wide g[9], half[3 * MOST_POINTS], made[MOST_POINTS];
    for (int t = 0; t < r * r; t++) {
        const int q = job->flipped ? r * r - 1 - t : t;
        g[t] = first[(q / r * job->kernel_width + q % r) * job->tap_step];
    }
    for (int column = 0; column < r; column++)
        transform_weight(m, r, g + column, r, half + column, r);
    for (int row = 0; row < n; row++) {
        transform_weight(m, r, half + row * r, 1, made, 1);
        for (int k = 0; k < n; k++) {
            const int64_t at = ((row * n + k) * panels + panel) * depth + phase * p->channels + channel;
            memcpy(job->packed + at * COLUMNS, &made[k], sizeof made[k]);
        }
    }
}

/* A feature's taps of a channel lie side by side; here, those of a panel's features do. */
static void gather_kernel(const winograd_weights *job, int64_t panel, int64_t channel, wide *kernel) {
    const int64_t taps = job->kernel_width * job->kernel_width, rest = job->problem->features - panel * COLUMNS;
    const float *from = job->w + panel * COLUMNS * job->feature_step + channel * job->channel_step;
    for (int i = 0; i < COLUMNS; i++, from += job->feature_step)
        for (int64_t t = 0; t < taps; t++)
            kernel[t][i] = i < rest ? from[t] : 0.0f;
}

/* Channels [begin, end), counted through all panels. */
static void pack_winograd_panels(void *context, int64_t begin, int64_t end) {
    const winograd_weights *job = context;
    const int64_t channels = job->problem->channels, phases = job->at.split * job->at.split;
    wide kernel[9 * MOST_PHASES];
    for (int64_t at = begin; at < end; at++) {
        const int64_t panel = at / channels, channel = at % channels;
        gather_kernel(job, panel, channel, kernel);
        for (int64_t phase = 0; phase < phases; phase++)
            if (job->m == 2)
                pack_winograd_taps(2, 3, job, kernel, panel, channel, phase);
            else if (job->at.r == 2)
                pack_winograd_taps(4, 2, job, kernel, panel, channel, phase);
            else
                pack_winograd_taps(4, 3, job, kernel, panel, channel, phase);
    }
}

static void pack_winograd(winograd_weights *job) {
    const cr_convolution *p = job->problem;
    cr_parallel_for(divide_up(p->features, COLUMNS) * p->channels, 64, pack_winograd_panels, job);
}
