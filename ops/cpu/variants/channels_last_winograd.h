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
 * Only the first result of a side is made of the point 0 (of two taps: only the last, of infinity). Where a side is no
 * multiple of m its last tiles are short of that result, which the one before has, and of the products at that point:
 * 14 = 4 + 4 + 3 + 3 takes 22 of 24.
 *
 * A kernel of r times its stride falls apart by the stride: forward, each phase of x is a channel of its own; backward,
 * each phase of x is a result of its own. */
#include "ops/cpu/variants/channels_last_correlation.h"

enum {
    BLOCK_FLOATS = 1 << 18 /* of a block's transformed inputs and products */,
    LEAST_TILES = 18,
    READ_TILES = 56 /* pay for reading the weight from memory */,
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
    int64_t whole[2];             /* rows and columns of tiles before those that are short */
    int64_t panels, slots;
    int64_t block_tiles, input_point, product_point; /* elements between points, for that many tiles */
    int64_t input_tile, input_panel;                 /* and between tiles, and panels of channels, of inputs */
    float *inputs, *products;                        /* of one slot after the other */
    const struct tile_order *order;                  /* of all tiles, where they are few */
    const winograd_weights *weights; /* of which panels are made as they are used; NULL: `packed` has all */
    float *made;                     /* a panel of each slot */
    atomic_int_fast64_t next;        /* block */
} winograd_job;

/* Tiles from `base` on, so that those that have products at a point are neighbours: kind 0 is short of a column, 1 of
 * nothing, 2 of a row, 3 of both. */
typedef struct tile_order {
    int64_t base, begin[5];    /* of each kind, and the end */
    uint8_t tiles[MOST_TILES]; /* counted from `base` */
} tile_order;

/* A block in the memory of one slot, and what is fetched while it is multiplied. */
enum { WANTED = 3 };
typedef struct winograd_block {
    const winograd_job *job;
    int64_t first, count;    /* tiles */
    const tile_order *order; /* they are in, of all of which it may be a part; NULL: one after the other */
    float *inputs, *products;
    wanted_memory wanted[WANTED];
    int64_t wanted_bytes;
} winograd_block;

typedef struct tile_place {
    int64_t image, first[2], begin[2], end[2]; /* its first result's row and column, and those that are wanted, of m */
} tile_place;

static tile_place place_of(const winograd_job *j, int64_t tile) {
    const int64_t at[] = {tile / j->columns % j->rows, tile % j->columns};
    tile_place place = {.image = tile / (j->rows * j->columns)};
    for (int d = 0; d < 2; d++) {
        const int64_t is_short = at[d] >= j->whole[d], is_late = is_short && j->at.r == 3;
        place.first[d] = at[d] * j->m - (is_short ? at[d] - j->whole[d] + is_late : 0);
        place.begin[d] = is_late;
        place.end[d] = j->m - (is_short && !is_late);
        if (place.end[d] > j->at.size[d] - place.first[d]) place.end[d] = j->at.size[d] - place.first[d];
    }
    return place;
}

static void find_order(const winograd_job *j, int64_t first, int64_t count, tile_order *order) {
    int64_t found = 0;
    order->base = first;
    for (int kind = 0; kind < 4; kind++) {
        order->begin[kind] = found;
        for (int64_t i = 0; i < count; i++) {
            const bool short_row = (first + i) / j->columns % j->rows >= j->whole[0],
                       short_column = (first + i) % j->columns >= j->whole[1];
            if (short_row == (kind >= 2) && short_column == (kind % 3 == 0)) order->tiles[found++] = (uint8_t)i;
        }
    }
    order->begin[4] = found;
}

static tile_place place_in(const winograd_block *b, int64_t i) {
    const tile_order *o = b->order;
    return place_of(b->job, o ? o->base + o->tiles[b->first - o->base + i] : b->first + i);
}

/* ---------------------------------------------------------------- one dim of the transforms, steps apart */
static inline __attribute__((always_inline)) void transform_input(const int m, const int r, const vector *d,
                                                                  const int step, vector *to, const int to_step) {
    const vector d0 = d[0], *rest = r == 3 ? d + step : d, d1 = rest[0], d2 = rest[step], d3 = rest[2 * step];
    if (m == 2) {
        to[0] = d0 - d2;
        to[to_step] = d1 + d2;
        to[2 * to_step] = d2 - d1;
        to[3 * to_step] = d1 - d3;
        return;
    }
    const vector d4 = rest[3 * step], d5 = rest[4 * step];
    const vector near_even = d4 - 2.0f * d2, near_odd = NEAR_POINT * (d3 - 2.0f * d1);
    const vector far_even = d4 - 0.5f * d2, far_odd = FAR_POINT * (d3 - 0.5f * d1);
    if (r == 3) {
        to[0] = d0 - 2.5f * d2 + d4;
        to += to_step;
    }
    to[0] = near_even + near_odd;
    to[to_step] = near_even - near_odd;
    to[2 * to_step] = far_even + far_odd;
    to[3 * to_step] = far_even - far_odd;
    to[4 * to_step] = d1 - 2.5f * d3 + d5;
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
/* What a tile reads of one phase of x: pixels first + i · row + k · column for i, k < n, of which those in begin … end - 1
 * of each dim lie inside. */
typedef struct tile_window {
    const float *first;
    int64_t row, column, begin[2], end[2];
    bool is_inside; /* all of it */
} tile_window;

static tile_window window_of(const winograd_job *j, const tile_place *tile, int64_t phase) {
    const cr_convolution *p = j->problem;
    const int64_t split = j->at.split, start[] = {j->at.start[0] + split * tile->first[0] + phase / split,
                                                  j->at.start[1] + split * tile->first[1] + phase % split};
    tile_window w = {.first = j->x + ((tile->image * p->in[1] + start[0]) * p->in[2] + start[1]) * p->channels,
                     .row = split * p->in[2] * p->channels,
                     .column = split * p->channels,
                     .is_inside = true};
    for (int d = 0; d < 2; d++) {
        const int64_t before = start[d] < 0 ? divide_up(-start[d], split) : 0,
                      until = divide_up(p->in[d + 1] - start[d], split);
        w.begin[d] = before < j->n ? before : j->n;
        w.end[d] = until < w.begin[d] ? w.begin[d] : until < j->n ? until : j->n;
        w.is_inside &= w.begin[d] == 0 && w.end[d] == j->n;
    }
    return w;
}

/* One vector of channels; where pixels are missing the edge has zeros. */
static void copy_window(const tile_window *w, int n, int64_t c, vector *edge) {
    for (int64_t i = w->begin[0]; i < w->end[0]; i++)
        for (int64_t k = w->begin[1]; k < w->end[1]; k++)
            edge[i * n + k] = load(w->first + i * w->row + k * w->column + c);
}

/* Bᵀ x B of one vector of channels. */
static inline __attribute__((always_inline)) void
transform_window(const int m, const int r, const float *from, int64_t row, int64_t column, float *to, int64_t point) {
    const int n = m + r - 1;
    vector d[MOST_POINTS], half[MOST_POINTS * MOST_POINTS];
#pragma GCC unroll 6
    for (int k = 0; k < n; k++, from = next_row(from, column)) {
        const float *pixel = from;
#pragma GCC unroll 6
        for (int i = 0; i < n; i++, pixel = next_row(pixel, row))
            d[i] = load(pixel);
        transform_input(m, r, d, 1, half + k, n);
    }
#pragma GCC unroll 6
    for (int i = 0; i < n; i++) {
        transform_input(m, r, half + i * n, 1, d, 1);
#pragma GCC unroll 6
        for (int k = 0; k < n; k++, to = (float *)next_row(to, point))
            store(to, d[k]);
    }
}

static inline __attribute__((always_inline)) void transform_inputs_of(const int m, const int r,
                                                                      const winograd_block *b) {
    const winograd_job *j = b->job;
    const int n = m + r - 1;
    const int64_t channels = j->problem->channels, phases = j->at.split * j->at.split;
    for (int64_t at = 0; at < b->count * phases; at++) {
        const int64_t tile = at / phases, place = at % phases;
        const tile_place corner = place_in(b, tile);
        const tile_window w = window_of(j, &corner, phase_at(&j->at, place));
        vector edge[MOST_POINTS * MOST_POINTS] = {{0}};
        for (int64_t c = 0; c < channels; c += LANES) {
            const int64_t v = place * channels + c;
            float *to = b->inputs + tile * j->input_tile + v / COLUMNS * j->input_panel + v % COLUMNS;
            if (!w.is_inside) copy_window(&w, n, c, edge);
            transform_window(m, r, w.is_inside ? w.first + c : (const float *)edge, w.is_inside ? w.row : n * LANES,
                             w.is_inside ? w.column : LANES, to, j->input_point);
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

/* Of [batch, height, width, channels], what tiles first … first + count - 1 have, as if one had its part after the other. */
static wanted_memory part_of_image(const winograd_job *j, const float *image, const int64_t sizes[CR_SPATIAL_DIMS],
                                   int64_t channels, int64_t first, int64_t count) {
    const int64_t tile = sizes[1] * sizes[2] * channels / (j->rows * j->columns);
    if (!image || count <= 0) return (wanted_memory){0};
    return (wanted_memory){.from = image + first * tile, .bytes = count * tile * (int64_t)sizeof(float)};
}

/* While a block is multiplied, what the next one reads, and what this one adds and writes, is fetched. */
static void find_wanted(winograd_block *b) {
    const winograd_job *j = b->job;
    const cr_convolution *p = j->problem;
    const int64_t next = b->first + j->slots * b->count, rest = j->tiles - next,
                  shared = (j->at.r - 1) * p->in[2] * p->channels; /* rows, which are there already */
    b->wanted[0] = part_of_image(j, j->x + shared, p->in, p->channels, next, rest < b->count ? rest : b->count);
    b->wanted[1] = part_of_image(j, j->added, p->out, p->features, b->first, b->count);
    b->wanted[2] = part_of_image(j, j->y, p->out, p->features, b->first, b->count);
    for (int i = 0; i < WANTED; i++)
        b->wanted_bytes += b->wanted[i].bytes;
}

/* The share of one panel at one point. */
static wanted_memory wanted_beside(const winograd_block *b, int64_t point, int64_t panel) {
    const winograd_job *j = b->job;
    if (!b->wanted_bytes) return (wanted_memory){0};
    const int64_t share = divide_up(b->wanted_bytes, j->n * j->n * j->panels);
    int64_t at = (point * j->panels + panel) * share;
    int i = 0;
    while (i < WANTED - 1 && at >= b->wanted[i].bytes)
        at -= b->wanted[i++].bytes;
    return (wanted_memory){.from = b->wanted[i].from + at / (int64_t)sizeof(float), .bytes = share};
}

/* What does not vanish at a point: tiles that have all results there, and phases that have all taps at infinity. */
typedef struct point_range {
    int64_t first, count, channel, end;
} point_range;

static point_range range_at(const winograd_block *b, int64_t point) {
    const winograd_job *j = b->job;
    const cr_convolution *p = j->problem;
    const int64_t row = point / j->n, column = point % j->n, last = j->n - 1, scarce = j->at.r == 3 ? 0 : last,
                  *begin = b->order->begin;
    const bool lacks_taps = j->at.split == 2 && p->kernel[2] % 2, first_rows = lacks_taps && row == last,
               first_columns = lacks_taps && column == last;
    const int64_t first = column == scarce ? begin[1] : 0, end = row == scarce      ? begin[2]
                                                                 : column == scarce ? begin[3]
                                                                                    : begin[4];
    return (point_range){.first = first,
                         .count = end - first,
                         .channel = first_columns ? p->channels : 0,
                         .end = first_rows      ? 2 * p->channels
                                : first_columns ? 3 * p->channels
                                                : j->depth};
}

static void multiply_at_point(const winograd_block *b, int64_t point, int64_t panel, const float *packed,
                              const float *const *rows) {
    const winograd_job *j = b->job;
    const point_range range = range_at(b, point);
    const int64_t features = j->problem->features, part = depth_block(range.end - range.channel);
    panel_product product = {.rows = rows + range.first,
                             .count = range.count,
                             .taps = 1,
                             .target =
                                 b->products + point * j->product_point + range.first * features + panel * COLUMNS,
                             .target_row = features};
    if (range.count == 0) return;
    for (int64_t c = range.channel; c < range.end; c += part) {
        product.first_channel = c;
        product.channels = range.end - c < part ? range.end - c : part;
        product.panel = packed + c * COLUMNS;
        product.ahead = (wanted_memory){.from = product.panel + product.channels * COLUMNS};
        product.beside = wanted_beside(b, point, panel);
        product.adds = c > range.channel;
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
/* Aᵀ M A of one vector of features. */
static inline __attribute__((always_inline)) void transform_sums(const int m, const int r, const float *from,
                                                                 int64_t point, vector *made) {
    const int n = m + r - 1;
    vector d[MOST_POINTS], half[MOST_RESULTS * MOST_POINTS];
#pragma GCC unroll 6
    for (int i = 0; i < n; i++) {
#pragma GCC unroll 6
        for (int k = 0; k < n; k++, from = next_row(from, point)) {
            d[k] = load(from);
            __builtin_prefetch(from + 2 * LANES, 0, 3);
        }
        transform_output(m, r, d, 1, half + i, n);
    }
#pragma GCC unroll 4
    for (int k = 0; k < m; k++)
        transform_output(m, r, half + k * n, 1, made + k, m);
}

/* Results [begin, end) of both dims; those of a whole tile are constants after inlining. `y` is where the first would go. */
static inline __attribute__((always_inline)) void store_results(const int m, const winograd_job *j, float *y,
                                                                const int64_t begin[2], const int64_t end[2],
                                                                const vector *made) {
    const int64_t column = j->at.step * j->problem->features, row = j->problem->out[2] * column;
    const float low = j->low, high = j->high, *added = j->added;
    float *line = y + begin[0] * row + begin[1] * column;
#pragma GCC unroll 4
    for (int64_t i = begin[0]; i < end[0]; i++, line = (float *)next_row(line, row)) {
        float *to = line;
#pragma GCC unroll 4
        for (int64_t k = begin[1]; k < end[1]; k++, to = (float *)next_row(to, column)) {
            const vector sum = added ? made[i * m + k] + load(added + (to - j->y)) : made[i * m + k];
            store(to, clamped(sum, low, high));
        }
    }
}

static inline __attribute__((always_inline)) void transform_outputs_of(const int m, const int r,
                                                                       const winograd_block *b) {
    const winograd_job *j = b->job;
    const correlation *c = &j->at;
    const int64_t *out = j->problem->out, features = j->problem->features, none[2] = {0, 0}, all[2] = {m, m};
    for (int64_t tile = 0; tile < b->count; tile++) {
        const tile_place at = place_in(b, tile);
        const bool is_whole = at.begin[0] + at.begin[1] == 0 && at.end[0] + at.end[1] == 2 * m;
        const int64_t row = at.image * out[1] + c->first[0] + at.first[0] * c->step,
                      column = c->first[1] + at.first[1] * c->step;
        float *y = j->y + (row * out[2] + column) * features;
        for (int64_t k = 0; k < features; k += LANES) {
            vector made[MOST_RESULTS * MOST_RESULTS];
            const vector bias = load_or_zero(j->bias ? j->bias + k : NULL);
            transform_sums(m, r, b->products + tile * features + k, j->product_point, made);
#pragma GCC unroll 16
            for (int i = 0; i < m * m; i++)
                made[i] += bias;
            if (is_whole)
                store_results(m, j, y + k, none, all, made);
            else
                store_results(m, j, y + k, at.begin, at.end, made);
        }
    }
}
static __attribute__((noinline)) void transform_outputs_2_3(const winograd_block *b) { transform_outputs_of(2, 3, b); }
static __attribute__((noinline)) void transform_outputs_4_2(const winograd_block *b) { transform_outputs_of(4, 2, b); }
static __attribute__((noinline)) void transform_outputs_4_3(const winograd_block *b) { transform_outputs_of(4, 3, b); }

/* Tiles first … first + count - 1: rows of pixels under those of one row of tiles. */
static void finish_tiles(const winograd_job *j, int64_t first, int64_t count) {
    const int64_t *out = j->problem->out, end = first + count;
    for (int64_t tile = first, next; tile < end; tile = next) {
        const int64_t row_end = tile - tile % j->columns + j->columns;
        next = row_end < end ? row_end : end;
        const tile_place left = place_of(j, tile), right = place_of(j, next - 1);
        const int64_t column = left.first[1] + left.begin[1], pixels = right.first[1] + right.end[1] - column;
        for (int64_t row = left.first[0] + left.begin[0]; row < left.first[0] + left.end[0]; row++)
            cr_epilogue_run(j->epilogue, 0, (left.image * out[1] + row) * out[2] + column, pixels, 0,
                            j->problem->features);
    }
}

static void make_inputs(const winograd_block *b) {
    const winograd_job *j = b->job;
    (j->m == 2 ? transform_inputs_2_3 : j->at.r == 2 ? transform_inputs_4_2 : transform_inputs_4_3)(b);
}
static void make_results(const winograd_block *b) {
    const winograd_job *j = b->job;
    (j->m == 2 ? transform_outputs_2_3 : j->at.r == 2 ? transform_outputs_4_2 : transform_outputs_4_3)(b);
}

/* ---------------------------------------------------------------- blocks */
static void run_winograd_block(winograd_block *b) {
    const winograd_job *j = b->job;
    tile_order order;
    find_order(j, b->first, b->count, &order);
    b->order = &order;
    find_wanted(b);
    make_inputs(b);
    multiply_points(b, 0, j->n * j->n * j->panels);
    make_results(b);
    if (j->epilogue) finish_tiles(j, b->first, b->count);
}

static void run_winograd_slots(void *context, int64_t begin, int64_t end) {
    winograd_job *j = context;
    for (int64_t slot = begin; slot < end; slot++)
        for (int64_t first; (first = atomic_fetch_add(&j->next, 1) * j->block_tiles) < j->tiles;) {
            const int64_t rest = j->tiles - first;
            winograd_block b = {.job = j,
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
                            .order = j->order,
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
static void share_finish(void *context, int64_t begin, int64_t end) { finish_tiles(context, begin, end - begin); }

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
                      .panels = divide_up(p->features, COLUMNS),
                      .slots = 1};
    j.tiles = p->batch * j.rows * j.columns;
    for (int d = 0; d < 2; d++) {
        const int64_t tiles = d ? j.columns : j.rows, beyond = tiles * m - at->size[d];
        j.whole[d] = tiles < beyond ? 0 : tiles - beyond;
    }
    int64_t fitting = BLOCK_FLOATS / (j.n * j.n * (j.depth + p->features));
    fitting = fitting < READ_TILES ? READ_TILES : fitting > MOST_TILES / 2 ? MOST_TILES / 2 : fitting;
    const int64_t blocks = j.tiles < fitting ? 1 : (j.tiles + fitting / 2) / fitting;
    j.block_tiles = divide_up(j.tiles, round_up(blocks, shares));
    if (shares == 1) j.block_tiles = round_up(j.block_tiles, ROWS);
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
    const bool few = weights || (j.tiles < threads * LEAST_TILES && j.tiles <= MOST_TILES);
    const int64_t slots = j.slots = few ? 1 : threads;
    if (few) j.block_tiles = j.tiles;
    size_points(&j);
    j.inputs = scratch_take(&memory, (size_t)(slots * j.n * j.n * j.input_point) * sizeof(float));
    j.products = scratch_take(&memory, (size_t)(slots * j.n * j.n * j.product_point) * sizeof(float));
    j.weights = weights;
    if (weights) j.made = scratch_take(&memory, (size_t)(threads * j.n * j.n * j.depth * COLUMNS) * sizeof(float));
    if (!j.inputs || !j.products || (weights && !j.made)) return scratch_drop(&memory);
    if (few) {
        tile_order order;
        find_order(&j, 0, j.tiles, &order);
        j.order = &order;
        cr_parallel_for(j.tiles, 1, share_inputs, &j);
        if (weights)
            cr_parallel_for(threads, 1, share_panels, &j);
        else
            cr_parallel_for(j.n * j.n * j.panels, 1, share_products, &j);
        cr_parallel_for(j.tiles, 1, share_results, &j);
        if (j.epilogue) cr_parallel_for(j.tiles, 1, share_finish, &j);
    } else {
        cr_parallel_for(slots, 1, run_winograd_slots, &j);
    }
    scratch_drop(&memory);
    return true;
}
