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
#include "ops/cpu/variants/channels_last_correlation.h"

enum {
    BLOCK_FLOATS = 1 << 19 /* of a block's transformed inputs and products */,
    LEAST_TILES = 18,
    READ_TILES = 64 /* pay for reading the weight from memory */,
    MOST_TILES = 192
};

typedef struct winograd_job {
    const cr_convolution *problem;
    correlation at;
    const float *x, *packed, *bias, *added; /* added: as large as y, or NULL */
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
    const winograd_weights *weights; /* of which panels are made as they are used; NULL: `packed` has all */
    float *made;                     /* a panel of each slot */
    atomic_int_fast64_t next;        /* block */
} winograd_job;

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
/* Rows of the inputs at a point. */
static void find_input_rows(const winograd_block *b, int64_t point, const float **rows) {
    for (int64_t i = 0; i < b->count; i++)
        rows[i] = b->inputs + point * b->job->input_point + i * b->job->depth;
}

static void multiply_at_point(const winograd_block *b, int64_t point, int64_t panel, const float *packed,
                              const float *const *rows) {
    const winograd_job *j = b->job;
    const int64_t depth = j->depth, features = j->problem->features, part = depth_block(depth);
    panel_product product = {.rows = rows,
                             .count = b->count,
                             .taps = 1,
                             .target = b->products + point * j->product_point + panel * COLUMNS,
                             .target_row = features};
    for (int64_t c = 0; c < depth; c += part) {
        product.first_channel = c;
        product.channels = depth - c < part ? depth - c : part;
        product.panel = packed + c * COLUMNS;
        product.ahead = product.panel + product.channels * COLUMNS;
        product.adds = c > 0;
        multiply_panel(&product, features - panel * COLUMNS);
    }
}

/* Of panels [begin, end), counted through all points. */
static void multiply_points(const winograd_block *b, int64_t begin, int64_t end) {
    const winograd_job *j = b->job;
    const float *rows[MOST_TILES];
    for (int64_t at = begin; at < end; at++) {
        const int64_t point = at / j->panels, panel = at % j->panels;
        if (at == begin || panel == 0) find_input_rows(b, point, rows);
        multiply_at_point(b, point, panel, j->packed + at * j->depth * COLUMNS, rows);
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
        const int64_t first = (row * out[2] + column) * features;
        for (int64_t k = 0; k < features; k += LANES) {
            const vector bias = load_or_zero(j->bias ? j->bias + k : NULL);
            for (int i = 0; i < n * n; i++)
                d[i] = load(from + i * j->product_point + k);
#pragma GCC unroll 6
            for (int i = 0; i < n; i++)
                transform_output(m, r, d + i, n, half + i, n);
            for (int64_t o = 0; o < rows; o++) {
                transform_output(m, r, half + o * n, 1, made, 1);
                for (int64_t i = 0; i < columns; i++) {
                    const int64_t place = first + (o * out[2] + i) * c->step * features + k;
                    made[i] += bias;
                    if (j->added) made[i] += load(j->added + place);
                    store(j->y + place, clamped(made[i], j->low, j->high));
                }
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
/* Panels by whoever is free; each slot makes a panel's weights and multiplies at all points while they are in its cache. */
static void share_panels(void *context, int64_t begin, int64_t end) {
    winograd_job *j = context;
    const winograd_block b = part_of(j, 0, j->tiles);
    const float *rows[MOST_TILES];
    for (int64_t slot = begin; slot < end; slot++) {
        float *made = j->made + slot * j->n * j->n * j->depth * COLUMNS;
        for (int64_t panel; (panel = atomic_fetch_add(&j->next, 1)) < j->panels;) {
            pack_winograd_panel(j->weights, panel, made);
            for (int64_t point = 0; point < j->n * j->n; point++) {
                find_input_rows(&b, point, rows);
                multiply_at_point(&b, point, panel, made + point * j->depth * COLUMNS, rows);
            }
        }
    }
}
static void share_results(void *context, int64_t begin, int64_t end) {
    const winograd_block b = part_of(context, begin, end - begin);
    make_results(&b);
}

/* All but the memory; tiles are taken `share` at a time. */
static winograd_job plan_winograd(const channels_last_layer *l, const correlation *at, int m, int64_t shares) {
    const cr_convolution *p = l->problem;
    winograd_job j = {.problem = p,
                      .at = *at,
                      .x = l->x,
                      .packed = l->packed,
                      .bias = l->bias,
                      .added = l->added,
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

/* `weights`: of tiles so few that what a panel of them gives must not leave the cache; NULL: the layer has them packed. */
static bool run_winograd(const channels_last_layer *l, const correlation *at, int m, const winograd_weights *weights) {
    const int64_t threads = cr_num_threads();
    scratch memory = {0};
    winograd_job j = plan_winograd(l, at, m, threads);
    const bool few = weights || j.tiles < threads * LEAST_TILES;
    const int64_t slots = few ? 1 : threads;
    if (few) j.block_tiles = j.tiles;
    size_points(&j);
    j.inputs = scratch_take(&memory, (size_t)(slots * j.n * j.n * j.input_point) * sizeof(float));
    j.products = scratch_take(&memory, (size_t)(slots * j.n * j.n * j.product_point) * sizeof(float));
    j.weights = weights;
    if (weights) j.made = scratch_take(&memory, (size_t)(threads * j.n * j.n * j.depth * COLUMNS) * sizeof(float));
    if (!j.inputs || !j.products || (weights && !j.made)) return scratch_drop(&memory);
    if (few) {
        cr_parallel_for(j.tiles, 1, share_inputs, &j);
        if (weights)
            cr_parallel_for(threads, 1, share_panels, &j);
        else
            cr_parallel_for(j.n * j.n * j.panels, 1, share_products, &j);
        cr_parallel_for(j.tiles, 1, share_results, &j);
    } else {
        cr_parallel_for(slots, 1, run_winograd_slots, &j);
    }
    scratch_drop(&memory);
    return true;
}
