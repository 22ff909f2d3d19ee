/* The gradient of a convolution by its weight, by Winograd: the adjoint of the forward transforms.
 *
 *   dU = Σ over tiles of (Bᵀ x B) ⊙ (A dy Aᵀ)      dw = Gᵀ dU G
 *
 * with the tiles of F(4×4, 3×3) or F(4×4, 2×2). At each of the 36 or 25 points the sum is a product of transformed inputs and transformed
 * gradients, both [panel][tile][COLUMNS]. A few images at a time are laid out anew and transformed; threads then share the
 * points out, so that each sum is made in one order. */
#include "ops/cpu/variants/channels_last_planes.h"

enum { CHUNK_FLOATS = 1 << 20 /* of transformed images at a time */, LEAST_CHUNK = 64 /* tiles */, DEPTH_TILES = 192 };

typedef struct gradient_job {
    winograd_job forward; /* of a chunk: x [pixel][channel], `inputs` */
    cr_convolution problem;
    float *gradients; /* [point][panel][tile][COLUMNS] */
    const float *dy;  /* [pixel][feature] */
    float *sums;      /* [point][channel of a phase][feature] */
    float *taps;      /* [channel][tap][feature] */
    bool adds;        /* to the sums of the chunks before */
} gradient_job;

/* ---------------------------------------------------------------- gradients at the points */
static inline __attribute__((always_inline)) void spread_gradient(const int r, const vector *d, int step, vector *to,
                                                                  int to_step) {
    const vector near_even = d[0] + 0.5f * d[2 * step], near_odd = NEAR_POINT * (d[step] + 0.5f * d[3 * step]);
    const vector far_even = d[0] + 2.0f * d[2 * step], far_odd = FAR_POINT * (d[step] + 2.0f * d[3 * step]);
    if (r == 3) {
        to[0] = d[0];
        to += to_step;
    }
    to[0] = near_even + near_odd;
    to[to_step] = near_even - near_odd;
    to[2 * to_step] = far_even + far_odd;
    to[3 * to_step] = far_even - far_odd;
    to[4 * to_step] = d[3 * step];
}

static inline __attribute__((always_inline)) void transform_gradients(const int r, const gradient_job *job,
                                                                      int64_t begin, int64_t end) {
    const winograd_job *j = &job->forward;
    const int n = r + 3;
    const int64_t *out = job->problem.out, features = job->problem.features;
    vector d[16], half[24], row[6];
    for (int64_t tile = begin; tile < end; tile++) {
        const tile_place at = place_of(j, tile);
        const float *from = job->dy + ((at.image * out[1] + at.first[0]) * out[2] + at.first[1]) * features;
        for (int64_t k = 0; k < features; k += LANES) {
            float *to = job->gradients + k / COLUMNS * j->input_panel + tile * COLUMNS + k % COLUMNS;
            for (int i = 0; i < 16; i++) {
                const bool inside = i / 4 < at.end[0] && i % 4 < at.end[1];
                d[i] = load_or_zero(inside ? from + (i / 4 * out[2] + i % 4) * features + k : NULL);
            }
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++)
                spread_gradient(r, d + i, 4, half + i, 4);
#pragma GCC unroll 6
            for (int i = 0; i < n; i++) {
                spread_gradient(r, half + 4 * i, 1, row, 1);
                for (int l = 0; l < n; l++)
                    store(to + (i * n + l) * j->product_point, row[l]);
            }
        }
    }
}

static void transform_chunk(void *context, int64_t begin, int64_t end) {
    const gradient_job *job = context;
    const winograd_block b = part_of(&job->forward, begin, end - begin);
    make_inputs(&b);
    if (job->forward.at.r == 2)
        transform_gradients(2, job, begin, end);
    else
        transform_gradients(3, job, begin, end);
}

/* ---------------------------------------------------------------- products over the tiles */
/* sums[i][j] (+)= sum over t of x[t][i] · g[t][j] for `rows` channels, a constant after inlining, and COLUMNS features. */
static inline __attribute__((always_inline)) void sum_rows(const int rows, const float *x, const float *g,
                                                           int64_t tiles, bool adds, float *to, int64_t to_row) {
    vector sums[ROWS][2];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
        sums[i][0] = load_or_zero(adds ? to + i * to_row : NULL);
        sums[i][1] = load_or_zero(adds ? to + i * to_row + LANES : NULL);
    }
    for (int64_t t = 0; t < tiles; t++, x += COLUMNS, g += COLUMNS) {
        const vector g0 = load(g), g1 = load(g + LANES);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            sums[i][0] += g0 * x[i];
            sums[i][1] += g1 * x[i];
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
        store(to + i * to_row, sums[i][0]);
        store(to + i * to_row + LANES, sums[i][1]);
    }
}

/* A panel's channels in parts that differ by one at most: 16 are 6, 5 and 5. */
enum {
    PARTS = (COLUMNS + ROWS - 1) / ROWS,
    LARGE = (COLUMNS + PARTS - 1) / PARTS,
    SMALL = COLUMNS / PARTS,
    LARGE_PARTS = COLUMNS - PARTS * SMALL
};

/* sums[i][j] (+)= sum over t of x[t][i] · g[t][j] for panels of x and g. */
static void sum_panel(const float *x, const float *g, int64_t tiles, bool adds, float *sums, int64_t sums_row) {
    int i = 0;
    for (int part = 0; part < LARGE_PARTS; part++, i += LARGE)
        sum_rows(LARGE, x + i, g, tiles, adds, sums + i * sums_row, sums_row);
    for (; i < COLUMNS; i += SMALL)
        sum_rows(SMALL, x + i, g, tiles, adds, sums + i * sums_row, sums_row);
}

/* Panels of features [begin, end), counted through all points. */
static void sum_panels(void *context, int64_t begin, int64_t end) {
    const gradient_job *job = context;
    const winograd_job *j = &job->forward;
    const int64_t channels = j->depth, features = job->problem.features, panels = features / COLUMNS;
    for (int64_t at = begin; at < end; at++) {
        const int64_t point = at / panels, panel = at % panels;
        const float *gradients = job->gradients + point * j->product_point + panel * j->input_panel;
        for (int64_t first = 0; first < j->tiles; first += DEPTH_TILES)
            for (int64_t c = 0; c < channels; c += COLUMNS) {
                const int64_t tiles = j->tiles - first < DEPTH_TILES ? j->tiles - first : DEPTH_TILES;
                const float *x = j->inputs + point * j->input_point + c / COLUMNS * j->input_panel + first * COLUMNS,
                            *g = gradients + first * COLUMNS;
                float *sums = job->sums + (point * channels + c) * features + panel * COLUMNS;
                sum_panel(x, g, tiles, job->adds || first > 0, sums, features);
            }
    }
}

/* ---------------------------------------------------------------- back to the weight */
static inline __attribute__((always_inline)) void gather_taps(const int r, const vector *u, int step, vector *to,
                                                              int to_step) {
    const vector *rest = r == 3 ? u + step : u;
    const vector near_even = (rest[0] + rest[step]) * (-1.0f / 1.5f),
                 far_even = (rest[2 * step] + rest[3 * step]) * (1.0f / 6.0f);
    const vector near_odd = (rest[0] - rest[step]) * (-NEAR_POINT / 1.5f),
                 far_odd = (rest[2 * step] - rest[3 * step]) * (FAR_POINT / 6.0f);
    if (r == 3) {
        to[0] = u[0] + near_even + far_even;
        to += to_step;
    }
    to[0] = near_odd + far_odd;
    to[to_step] = 0.5f * near_even + 2.0f * far_even + rest[4 * step];
}

/* All features of one channel in one phase: taps[tap of the whole kernel][feature]. */
static inline __attribute__((always_inline)) void finish_taps(const int r, const gradient_job *job, int64_t channel,
                                                              int64_t place, float *taps) {
    const int n = r + 3;
    const int64_t phase = phase_at(&job->forward.at, place);
    const int64_t features = job->problem.features, split = job->forward.at.split, width = job->problem.kernel[2];
    const float *sums = job->sums + (place * job->problem.channels + channel) * features;
    vector u[MOST_POINTS * MOST_POINTS], half[3 * MOST_POINTS], made[9];
    for (int64_t k = 0; k < features; k += LANES) {
        for (int i = 0; i < n * n; i++)
            u[i] = load(sums + i * job->forward.depth * features + k);
#pragma GCC unroll 6
        for (int i = 0; i < n; i++)
            gather_taps(r, u + i, n, half + i, n);
#pragma GCC unroll 3
        for (int i = 0; i < r; i++)
            gather_taps(r, half + n * i, 1, made + r * i, 1);
        for (int t = 0; t < r * r; t++)
            if (phase / split + t / r * split < width && phase % split + t % r * split < width)
                store(taps + ((phase / split + t / r * split) * width + phase % split + t % r * split) * features + k,
                      made[t]);
    }
}

/* Channels [begin, end). */
static void finish_weights(void *context, int64_t begin, int64_t end) {
    const gradient_job *job = context;
    const correlation *at = &job->forward.at;
    const int64_t taps = job->problem.kernel[1] * job->problem.kernel[2];
    for (int64_t c = begin; c < end; c++)
        for (int64_t place = 0; place < at->split * at->split; place++)
            if (at->r == 2)
                finish_taps(2, job, c, place, job->taps + c * taps * job->problem.features);
            else
                finish_taps(3, job, c, place, job->taps + c * taps * job->problem.features);
}

/* ---------------------------------------------------------------- the whole */
static void sum_chunks(gradient_job *job, const float *x, const float *dy, int64_t chunk, float *images) {
    const int64_t in = job->problem.in[1] * job->problem.in[2], out = job->problem.out[1] * job->problem.out[2],
                  batch = job->problem.batch, channels = job->problem.channels, features = job->problem.features;
    winograd_job *j = &job->forward;
    float *gradient_images = images + chunk * in * channels;
    j->x = images;
    job->dy = gradient_images;
    for (int64_t first = 0; first < batch; first += chunk) {
        const int64_t count = batch - first < chunk ? batch - first : chunk;
        j->tiles = count * j->rows * j->columns;
        job->adds = first > 0;
        lay_out_images(images, x + first * in * channels, count, in, channels);
        lay_out_images(gradient_images, dy + first * out * features, count, out, features);
        cr_parallel_for(j->tiles, 4, transform_chunk, job);
        cr_parallel_for(j->n * j->n * (features / COLUMNS), 1, sum_panels, job);
    }
}

bool cr_winograd_weights(const cr_convolution *problem, const float *x, const float *dy, float *dw, bool *applies) {
    *applies = takes_planes(problem, 40) && problem->channels % COLUMNS == 0 && problem->features % COLUMNS == 0;
    if (!*applies) return true;
    scratch memory = {0};
    gradient_job job = {.problem = *problem};
    const cr_convolution *p = &job.problem;
    winograd_job *j = &job.forward;
    const correlation at = forward_correlation(p);
    *j = plan_winograd(&(channels_last_layer){.problem = p}, &at, 4, 1);
    j->whole[0] = j->rows; /* a gradient is in one tile alone */
    j->whole[1] = j->columns;
    const int64_t tiles = j->rows * j->columns, points = j->n * j->n;
    /* The sums are read and written once a chunk. */
    const int64_t sums = points * j->depth * p->features, floats = sums > CHUNK_FLOATS ? sums : CHUNK_FLOATS;
    int64_t chunk = floats / (points * (j->depth + p->features) * tiles);
    if (chunk * tiles < LEAST_CHUNK) chunk = divide_up(LEAST_CHUNK, tiles);
    if (chunk > p->batch) chunk = p->batch;
    chunk = divide_up(p->batch, divide_up(p->batch, chunk));
    j->block_tiles = chunk * tiles;
    size_points(j);
    j->input_tile = COLUMNS;
    j->input_panel = j->block_tiles * COLUMNS;
    j->inputs = scratch_take(&memory, (size_t)(points * j->input_point) * sizeof(float));
    job.gradients = scratch_take(&memory, (size_t)(points * j->product_point) * sizeof(float));
    job.sums = scratch_take(&memory, (size_t)sums * sizeof(float));
    const int64_t taps = p->kernel[1] * p->kernel[2];
    job.taps = scratch_take(&memory, (size_t)(taps * p->channels * p->features) * sizeof(float));
    const int64_t pixels = p->in[1] * p->in[2] * p->channels + p->out[1] * p->out[2] * p->features;
    float *images = scratch_take(&memory, (size_t)(chunk * pixels) * sizeof(float));
    if (!j->inputs || !job.gradients || !job.sums || !job.taps || !images) return scratch_drop(&memory);
    sum_chunks(&job, x, dy, chunk, images);
    cr_parallel_for(p->channels, 1, finish_weights, &job);
    lay_out_images(dw, job.taps, 1, p->features, p->channels * taps);
    scratch_drop(&memory);
    return true;
}
