/* Winograd's algorithm on channels-last tensors, for 3×3 kernels of stride 1: F(m×m, 3×3) with m = 2 or 4.
 *
 *   Y = Aᵀ [ (G w Gᵀ) ⊙ (Bᵀ x B) ] A   for each tile of m×m results, from (m+2)×(m+2) of the input
 *
 * (A. Lavin, S. Gray, Fast Algorithms for Convolutional Neural Networks, 2016.) The points of m = 4 are 0, ±√½, ±√2 and
 * infinity: their polynomials' coefficients stay near 1, and with them the error small. The ⊙ of all tiles and channels is a
 * matrix product at each of the (m+2)² points. Transforms work on vectors of channels. The transformed weight lies as
 * [point][panel][channel][COLUMNS]. A thread takes a block of tiles through all three steps while they are in its cache;
 * where tiles are few, threads share each step. */
#include "ops/cpu/variants/channels_last_panel.h"

enum {
    BLOCK_FLOATS = 1 << 19 /* of a block's transformed inputs and products */,
    MOST_POINTS = 6,
    LEAST_TILES = 18,
    READ_TILES = 60 /* pay for reading the weight from memory */,
    MOST_TILES = 192
};

typedef struct winograd_job {
    const cr_convolution *problem;
    const float *x, *packed, *bias;
    float *y;
    const cr_epilogue *epilogue;
    float low, high;
    int m, n;                     /* results and points along a side of a tile */
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
static inline __attribute__((always_inline)) void transform_input(const int m, const vector *d, const int step,
                                                                  vector *to) {
    const vector d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step];
    if (m == 2) {
        to[0] = d0 - d2;
        to[step] = d1 + d2;
        to[2 * step] = d2 - d1;
        to[3 * step] = d1 - d3;
        return;
    }
    const vector d4 = d[4 * step], d5 = d[5 * step];
    const vector near_even = d4 - 2.0f * d2, near_odd = NEAR_POINT * (d3 - 2.0f * d1);
    const vector far_even = d4 - 0.5f * d2, far_odd = FAR_POINT * (d3 - 0.5f * d1);
    to[0] = d0 - 2.5f * d2 + d4;
    to[step] = near_even + near_odd;
    to[2 * step] = near_even - near_odd;
    to[3 * step] = far_even + far_odd;
    to[4 * step] = far_even - far_odd;
    to[5 * step] = d1 - 2.5f * d3 + d5;
}

static inline __attribute__((always_inline)) void transform_output(const int m, const vector *p, const int step,
                                                                   vector *to, const int to_step) {
    const vector p0 = p[0], p1 = p[step], p2 = p[2 * step], p3 = p[3 * step], sum = p1 + p2, difference = p1 - p2;
    if (m == 2) {
        to[0] = p0 + sum;
        to[to_step] = difference - p3;
        return;
    }
    const vector p4 = p[4 * step], p5 = p[5 * step];
    const vector near_odd = NEAR_POINT * difference, far_even = p3 + p4, far_odd = FAR_POINT * (p3 - p4);
    to[0] = p0 + sum + far_even;
    to[to_step] = near_odd + far_odd;
    to[2 * to_step] = 0.5f * sum + 2.0f * far_even;
    to[3 * to_step] = 0.5f * near_odd + 2.0f * far_odd + p5;
}

/* ---------------------------------------------------------------- step 1: inputs */
static inline __attribute__((always_inline)) void transform_inputs_of(const int m, const winograd_block *b) {
    const winograd_job *j = b->job;
    const cr_convolution *p = j->problem;
    const int n = m + 2;
    const int64_t channels = p->channels;
    vector d[MOST_POINTS * MOST_POINTS];
    for (int64_t tile = 0; tile < b->count; tile++) {
        const tile_place at = place_of(j, b->first + tile);
        const float *rows[MOST_POINTS * MOST_POINTS]; /* NULL: in the padding */
        for (int i = 0; i < n * n; i++) {
            const int64_t h = at.row - p->padding[1] + i / n, w = at.column - p->padding[2] + i % n;
            const bool inside = h >= 0 && h < p->in[1] && w >= 0 && w < p->in[2];
            rows[i] = inside ? j->x + ((at.image * p->in[1] + h) * p->in[2] + w) * channels : NULL;
        }
        for (int64_t c = 0; c < channels; c += LANES) {
            float *to = b->inputs + tile * j->input_tile + c / COLUMNS * j->input_panel + c % COLUMNS;
            for (int i = 0; i < n * n; i++)
                d[i] = load_or_zero(rows[i] ? rows[i] + c : NULL);
#pragma GCC unroll 6
            for (int i = 0; i < n; i++)
                transform_input(m, d + i, n, d + i);
#pragma GCC unroll 6
            for (int i = 0; i < n; i++) {
                vector row[MOST_POINTS];
                transform_input(m, d + i * n, 1, row);
                for (int k = 0; k < n; k++)
                    store(to + (i * n + k) * j->input_point, row[k]);
            }
        }
    }
}
static __attribute__((noinline)) void transform_inputs_2(const winograd_block *b) { transform_inputs_of(2, b); }
static __attribute__((noinline)) void transform_inputs_4(const winograd_block *b) { transform_inputs_of(4, b); }

/* ---------------------------------------------------------------- step 2: products */
/* Of panels [begin, end), counted through all points. */
static void multiply_points(const winograd_block *b, int64_t begin, int64_t end) {
    const winograd_job *j = b->job;
    const int64_t channels = j->problem->channels, features = j->problem->features, depth = depth_block(channels);
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
                rows[i] = b->inputs + point * j->input_point + i * channels;
        for (int64_t c = 0; c < channels; c += depth) {
            product.first_channel = c;
            product.channels = channels - c < depth ? channels - c : depth;
            product.panel = j->packed + (at * channels + c) * COLUMNS;
            product.ahead = product.panel + product.channels * COLUMNS;
            product.adds = c > 0;
            multiply_panel(&product, features - panel * COLUMNS);
        }
    }
}

/* ---------------------------------------------------------------- step 3: results */
static inline __attribute__((always_inline)) void transform_outputs_of(const int m, const winograd_block *b) {
    const winograd_job *j = b->job;
    const cr_convolution *p = j->problem;
    const int n = m + 2;
    vector d[MOST_POINTS * MOST_POINTS], half[4 * MOST_POINTS], made[4];
    for (int64_t tile = 0; tile < b->count; tile++) {
        const tile_place at = place_of(j, b->first + tile);
        const int64_t rows = p->out[1] - at.row < m ? p->out[1] - at.row : m,
                      columns = p->out[2] - at.column < m ? p->out[2] - at.column : m;
        const float *from = b->products + tile * p->features;
        float *to = j->y + ((at.image * p->out[1] + at.row) * p->out[2] + at.column) * p->features;
        for (int64_t k = 0; k < p->features; k += LANES) {
            const vector bias = load_or_zero(j->bias ? j->bias + k : NULL);
            for (int i = 0; i < n * n; i++)
                d[i] = load(from + i * j->product_point + k);
#pragma GCC unroll 6
            for (int i = 0; i < n; i++)
                transform_output(m, d + i, n, half + i, n);
            for (int64_t r = 0; r < rows; r++) {
                transform_output(m, half + r * n, 1, made, 1);
                for (int64_t c = 0; c < columns; c++)
                    store(to + (r * p->out[2] + c) * p->features + k, clamped(made[c] + bias, j->low, j->high));
            }
        }
    }
}
static __attribute__((noinline)) void transform_outputs_2(const winograd_block *b) { transform_outputs_of(2, b); }
static __attribute__((noinline)) void transform_outputs_4(const winograd_block *b) { transform_outputs_of(4, b); }

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

static void make_inputs(const winograd_block *b) { (b->job->m == 4 ? transform_inputs_4 : transform_inputs_2)(b); }
static void make_results(const winograd_block *b) {
    (b->job->m == 4 ? transform_outputs_4 : transform_outputs_2)(b);
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

/* All but the memory; tiles are taken `share` at a time. */
static winograd_job plan_winograd(const channels_last_layer *l, int m, int64_t shares) {
    const cr_convolution *p = l->problem;
    winograd_job j = {.problem = p,
                      .x = l->x,
                      .packed = l->packed,
                      .bias = l->bias,
                      .y = l->y,
                      .epilogue = l->epilogue,
                      .low = l->low,
                      .high = l->high,
                      .m = m,
                      .n = m + 2,
                      .rows = divide_up(p->out[1], m),
                      .columns = divide_up(p->out[2], m),
                      .panels = divide_up(p->features, COLUMNS)};
    j.tiles = p->batch * j.rows * j.columns;
    int64_t fitting = BLOCK_FLOATS / (j.n * j.n * (p->channels + p->features));
    fitting = fitting < READ_TILES ? READ_TILES : fitting > MOST_TILES ? MOST_TILES : fitting;
    j.block_tiles = round_up(divide_up(j.tiles, round_up(divide_up(j.tiles, fitting), shares)), ROWS);
    return j;
}

static void size_points(winograd_job *j) {
    j->input_tile = j->problem->channels;
    j->input_panel = COLUMNS;
    j->input_point = j->block_tiles * j->problem->channels + COLUMNS; /* not all in the same lines of a cache */
    j->product_point = j->block_tiles * j->problem->features + COLUMNS;
}

static bool run_winograd(const channels_last_layer *l, int m) {
    const int64_t threads = cr_num_threads();
    scratch memory = {0};
    winograd_job j = plan_winograd(l, m, threads);
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
static int64_t winograd_packed_elements(const cr_convolution *p, int m) {
    return (m + 2) * (m + 2) * divide_up(p->features, COLUMNS) * p->channels * COLUMNS;
}

/* Tap t of a feature's channel is w[feature · feature_step + channel · channel_step + t], or 8 - t where it is flipped. */
typedef struct winograd_weights {
    const cr_convolution *problem;
    const float *w;
    float *packed;
    int m;
    int64_t feature_step, channel_step;
    bool flipped;
} winograd_weights;

/* The features of a panel side by side. */
typedef float wide __attribute__((vector_size(COLUMNS * sizeof(float))));

static void transform_weight(int m, const wide *g, int step, wide *to, int to_step) {
    const wide g0 = g[0], g1 = g[step], g2 = g[2 * step];
    to[0] = g0;
    if (m == 2) {
        to[to_step] = 0.5f * (g0 + g1 + g2);
        to[2 * to_step] = 0.5f * (g0 - g1 + g2);
    } else {
        const wide near_even = g0 + 0.5f * g2, near_odd = NEAR_POINT * g1, far_even = g0 + 2.0f * g2,
                   far_odd = FAR_POINT * g1;
        to[to_step] = (-1.0f / 1.5f) * (near_even + near_odd);
        to[2 * to_step] = (-1.0f / 1.5f) * (near_even - near_odd);
        to[3 * to_step] = (1.0f / 6.0f) * (far_even + far_odd);
        to[4 * to_step] = (1.0f / 6.0f) * (far_even - far_odd);
    }
    to[(m + 1) * to_step] = g2;
}

static void pack_winograd_panels(void *context, int64_t begin, int64_t end) {
    const winograd_weights *job = context;
    const cr_convolution *p = job->problem;
    const int m = job->m, n = m + 2;
    const int64_t panels = divide_up(p->features, COLUMNS);
    for (int64_t at = begin; at < end; at++) {
        const int64_t panel = at / p->channels, c = at % p->channels;
        wide g[9], half[3 * MOST_POINTS], made[MOST_POINTS];
        for (int t = 0; t < 9; t++)
            for (int i = 0; i < COLUMNS; i++) {
                const int64_t k = panel * COLUMNS + i;
                const float *from = job->w + k * job->feature_step + c * job->channel_step;
                g[t][i] = k < p->features ? from[job->flipped ? 8 - t : t] : 0.0f;
            }
        for (int column = 0; column < 3; column++)
            transform_weight(m, g + column, 3, half + column, 3);
        for (int row = 0; row < n; row++) {
            transform_weight(m, half + row * 3, 1, made, 1);
            for (int k = 0; k < n; k++) {
                float *to = job->packed + (((row * n + k) * panels + panel) * p->channels + c) * COLUMNS;
                memcpy(to, &made[k], sizeof made[k]);
            }
        }
    }
}
