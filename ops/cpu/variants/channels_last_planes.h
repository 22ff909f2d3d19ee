/* Convolutions of planes, [batch, channels, height, width], by the Winograd of channels-last tensors: a thread lays a few
 * images out anew, convolves them, and lays the results out as planes, all within its cache. It is how training steps and
 * eager calls, whose tensors are planes, come to tiles of 4×4. */
#include "ops/cpu/convolution_plan.h"
#include "ops/cpu/variants/channels_last_winograd.h"
#include "ops/cpu/variants/copy.h"
#include "ops/cpu/variants/planes.h"

typedef struct planes_job {
    channels_last_layer layer; /* of the whole; x and y are planes */
    int count;
    winograd_weights weights[MOST_PHASES]; /* of correlations that read x, and together make y */
    winograd_job jobs[MOST_PHASES];        /* planned for a chunk */
    int64_t chunk;                         /* images at a time */
    int64_t x_floats, y_floats, input_floats, product_floats;
    float *memory; /* of one slot after the other */
    atomic_int_fast64_t next;
} planes_job;

static void convolve_planes(const planes_job *job, int64_t first, int64_t images, float *memory) {
    const cr_convolution *p = job->layer.problem;
    const int64_t in = p->in[1] * p->in[2], out = p->out[1] * p->out[2];
    float *x = memory, *y = x + job->x_floats;
    for (int64_t i = 0; i < images; i++)
        cr_transpose_f32(x + i * in * p->channels, p->channels, job->layer.x + (first + i) * in * p->channels, in, in,
                         p->channels);
    for (int i = 0; i < job->count; i++) {
        winograd_job j = job->jobs[i];
        j.x = x;
        j.y = y;
        j.tiles = images * j.rows * j.columns;
        for (int64_t tile = 0; tile < j.tiles; tile += j.block_tiles) {
            winograd_block b = {.job = &j,
                                .first = tile,
                                .count = j.tiles - tile < j.block_tiles ? j.tiles - tile : j.block_tiles,
                                .inputs = y + job->y_floats,
                                .products = y + job->y_floats + job->input_floats};
            run_winograd_block(&b);
        }
    }
    for (int64_t i = 0; i < images; i++)
        cr_transpose_f32(job->layer.y + (first + i) * out * p->features, out, y + i * out * p->features, p->features,
                         p->features, out);
}

static void run_plane_slots(void *context, int64_t begin, int64_t end) {
    planes_job *job = context;
    const int64_t batch = job->layer.problem->batch,
                  floats = job->x_floats + job->y_floats + job->input_floats + job->product_floats;
    for (int64_t slot = begin; slot < end; slot++)
        for (int64_t first; (first = atomic_fetch_add(&job->next, 1) * job->chunk) < batch;)
            convolve_planes(job, first, batch - first < job->chunk ? batch - first : job->chunk,
                            job->memory + slot * floats);
}

/* The gradient by the input is a convolution whose features are the channels. */
static cr_convolution reversed(const cr_convolution *p) {
    cr_convolution q = *p;
    q.channels = p->features;
    q.features = p->channels;
    for (int d = 0; d < CR_SPATIAL_DIMS; d++) {
        q.in[d] = p->out[d];
        q.out[d] = p->in[d];
    }
    return q;
}

/* Gradients by the input: with i + padding = stride · m + f, x[i] = sum over q of w[f + stride · q] y[m - q], for each
 * phase f that x has. */
static correlation data_correlation(const cr_convolution *p, int phase) {
    const int64_t split = p->stride[2];
    const phase_range rows = cr_range_of_phase(p, 1, phase / split), columns = cr_range_of_phase(p, 2, phase % split);
    const int r = (int)divide_up(p->kernel[2], split);
    return (correlation){.r = r,
                         .split = 1,
                         .step = split,
                         .start = {rows.first - (r - 1), columns.first - (r - 1)},
                         .size = {rows.count, columns.count},
                         .first = {rows.start, columns.start}};
}

/* Whether tiles of 4×4 are ahead of what planes have of their own: those of 2×2, 1.8 or 1.4 times as many products, or all
 * products where the stride does not divide the kernel. They cost the two new layouts and a dearer weight: `point_cost`, in
 * flops, for each point of a channel's kernel. */
static bool takes_planes(const cr_convolution *p, double point_cost) {
    const int64_t split = p->stride[2], r = divide_up(p->kernel[2], split);
    if (p->groups != 1 || p->in[0] != 1 || p->kernel[0] != 1 || p->padding[0] != 0 || (r != 2 && r != 3)) return false;
    for (int d = 1; d < CR_SPATIAL_DIMS; d++)
        if (p->kernel[d] != p->kernel[2] || p->stride[d] != split || p->dilation[d] != 1) return false;
    if (p->channels % LANES || p->features % LANES || p->channels < 32 || p->features < 32) return false;
    if (split * split > MOST_PHASES) return false;
    const double four = (double)((r + 3) * (r + 3) * divide_up(p->out[1], 4) * divide_up(p->out[2], 4)),
                 pixels = (double)(p->out[1] * p->out[2]),
                 other = p->kernel[2] == r * split
                             ? (double)((r + 1) * (r + 1) * divide_up(p->out[1], 2) * divide_up(p->out[2], 2))
                             : (double)(p->kernel[1] * p->kernel[2]) * pixels / (double)(split * split),
                 channels = (double)(p->channels * split * split), features = (double)p->features,
                 batch = (double)p->batch;
    enum { LAYOUT = 40 }; /* in flops, for each element of x and y */
    return batch * (2 * channels * features * (other - four) - LAYOUT * pixels * (channels + features)) >
           point_cost * (double)((r + 3) * (r + 3)) * channels * features;
}

/* ---------------------------------------------------------------- fewer images than threads: all share each step */
typedef struct layout_job {
    float *to;
    const float *from;
    int64_t rows, columns, blocks; /* of to, in an image; blocks of rows */
} layout_job;
enum { LAYOUT_ROWS = 64 };

static void lay_out_rows(void *context, int64_t begin, int64_t end) {
    const layout_job *l = context;
    for (int64_t at = begin; at < end; at++) {
        const int64_t image = at / l->blocks * l->rows * l->columns, row = at % l->blocks * LAYOUT_ROWS,
                      rows = l->rows - row < LAYOUT_ROWS ? l->rows - row : LAYOUT_ROWS;
        cr_transpose_f32(l->to + image + row * l->columns, l->columns, l->from + image + row, l->rows, rows,
                         l->columns);
    }
}

static void lay_out_images(float *to, const float *from, int64_t images, int64_t rows, int64_t columns) {
    layout_job job = {to, from, rows, columns, divide_up(rows, LAYOUT_ROWS)};
    cr_parallel_for(images * job.blocks, 1 + CR_GRAIN_ELEMENTS / (LAYOUT_ROWS * columns), lay_out_rows, &job);
}

static bool convolve_together(const planes_job *job, scratch *memory) {
    const cr_convolution *p = job->layer.problem;
    const int64_t in = p->in[1] * p->in[2], out = p->out[1] * p->out[2];
    channels_last_layer layer = job->layer;
    float *x = scratch_take(memory, (size_t)(p->batch * in * p->channels) * sizeof(float));
    layer.x = x;
    layer.y = scratch_take(memory, (size_t)(p->batch * out * p->features) * sizeof(float));
    if (!layer.x || !layer.y) return false;
    lay_out_images(x, job->layer.x, p->batch, in, p->channels);
    for (int i = 0; i < job->count; i++) {
        const winograd_weights *weights = &job->weights[i];
        layer.packed = weights->packed;
        if (!run_winograd(&layer, &weights->at, 4, weights->packed ? NULL : weights)) return false;
    }
    lay_out_images(job->layer.y, layer.y, p->batch, p->features, out);
    return true;
}

/* ---------------------------------------------------------------- the whole */
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* Images at a time: `wanted` or a few less, so that every thread has as many. */
static int64_t even_chunk(int64_t batch, int64_t wanted) {
    const int64_t threads = cr_num_threads(), rounds = divide_up(batch, wanted * threads);
    return divide_up(batch, rounds * threads);
}

static bool convolve_apart(planes_job *job, scratch *memory) {
    const cr_convolution *p = job->layer.problem;
    const int64_t threads = cr_num_threads();
    cr_convolution chunk = *p;
    channels_last_layer layer = job->layer;
    chunk.batch = job->chunk;
    layer.problem = &chunk;
    for (int i = 0; i < job->count; i++) {
        winograd_job *j = &job->jobs[i];
        layer.packed = job->weights[i].packed;
        *j = plan_winograd(&layer, &job->weights[i].at, 4, 1);
        j->problem = p;
        size_points(j);
        job->input_floats = most(job->input_floats, j->n * j->n * j->input_point);
        job->product_floats = most(job->product_floats, j->n * j->n * j->product_point);
    }
    job->x_floats = round_up(job->chunk * p->in[1] * p->in[2] * p->channels, COLUMNS);
    job->y_floats = round_up(job->chunk * p->out[1] * p->out[2] * p->features, COLUMNS);
    const int64_t floats = job->x_floats + job->y_floats + job->input_floats + job->product_floats;
    job->memory = scratch_take(memory, (size_t)(threads * floats) * sizeof(float));
    if (!job->memory) return false;
    cr_parallel_for(threads, 1, run_plane_slots, job);
    return true;
}

/* The correlations of the problem, of which that of the layer is the reverse where it goes by the input. */
static void find_correlations(planes_job *job, const cr_convolution *p, bool by_input, const float *w) {
    const cr_convolution *q = job->layer.problem;
    const int64_t split = p->stride[2], taps = p->kernel[1] * p->kernel[2], phases = by_input ? split * split : 1;
    for (int phase = 0; phase < phases; phase++) {
        const correlation at = by_input ? data_correlation(p, phase) : forward_correlation(p);
        if (at.size[0] <= 0 || at.size[1] <= 0) continue;
        winograd_weights *weights = &job->weights[job->count++];
        *weights = forward_weights(q, &at, w, NULL, 4);
        if (!by_input) continue;
        weights->feature_step = taps;
        weights->channel_step = q->features * taps;
        weights->tap_step = split;
        weights->tap_first[0] = phase / split;
        weights->tap_first[1] = phase % split;
        weights->flipped = true;
    }
}

/* Weights of all correlations in one block: they are equally large. */
static bool pack_all(planes_job *job, scratch *memory) {
    const int64_t floats = winograd_packed_elements(job->layer.problem, &job->weights[0].at, 4);
    float *packed = scratch_take(memory, (size_t)(job->count * floats) * sizeof(float));
    for (int i = 0; packed && i < job->count; i++) {
        job->weights[i].packed = packed + i * floats;
        pack_winograd(&job->weights[i]);
    }
    return packed != NULL;
}

bool cr_winograd_planes(const cr_convolution *problem, bool by_input, const float *x, const float *w, const float *bias,
                        float *y, bool *applies) {
    const cr_convolution q = by_input ? reversed(problem) : *problem;
    *applies = takes_planes(problem, 40);
    if (!*applies) return true;
    scratch memory = {0};
    planes_job job = {.layer = {.problem = &q, .x = x, .bias = bias, .y = y, .low = -INFINITY, .high = INFINITY}};
    find_correlations(&job, problem, by_input, w);
    int64_t tiles = 0; /* of an image */
    for (int i = 0; i < job.count; i++)
        tiles = most(tiles, divide_up(job.weights[i].at.size[0], 4) * divide_up(job.weights[i].at.size[1], 4));
    const int64_t wanted = divide_up(4 * LEAST_TILES, tiles);
    const bool is_fresh = q.batch * tiles <= MOST_TILES, together = is_fresh || q.batch < cr_num_threads() * wanted;
    job.chunk = even_chunk(q.batch, wanted);
    const bool done = (is_fresh || pack_all(&job, &memory)) &&
                      (together ? convolve_together(&job, &memory) : convolve_apart(&job, &memory));
    scratch_drop(&memory);
    return done;
}
