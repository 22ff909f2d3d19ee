/* Convolutions of planes, [batch, channels, height, width], by the Winograd of channels-last tensors: a thread lays a few
 * images out anew, convolves them, and lays the results out as planes, all within its cache. It is how training steps and
 * eager calls, whose tensors are planes, come to tiles of 4×4. */
#include "ops/cpu/variants/channels_last_winograd.h"
#include "ops/cpu/variants/copy.h"
#include "ops/cpu/variants/planes.h"

typedef struct planes_job {
    channels_last_layer layer; /* of the whole; x and y are planes */
    int64_t chunk;             /* images at a time */
    int64_t x_floats, y_floats, input_floats, product_floats;
    float *memory; /* of one slot after the other */
    atomic_int_fast64_t next;
} planes_job;

static void convolve_planes(const planes_job *job, int64_t first, int64_t images, float *memory) {
    cr_convolution problem = *job->layer.problem;
    const int64_t in = problem.in[1] * problem.in[2], out = problem.out[1] * problem.out[2];
    float *x = memory, *y = x + job->x_floats;
    channels_last_layer layer = job->layer;
    problem.batch = images;
    layer.problem = &problem;
    layer.x = x;
    layer.y = y;
    for (int64_t i = 0; i < images; i++)
        cr_transpose_f32(x + i * in * problem.channels, problem.channels,
                         job->layer.x + (first + i) * in * problem.channels, in, in, problem.channels);
    winograd_job j = plan_winograd(&layer, 4, 1);
    size_points(&j);
    for (int64_t tile = 0; tile < j.tiles; tile += j.block_tiles) {
        const winograd_block b = {.job = &j,
                                  .first = tile,
                                  .count = j.tiles - tile < j.block_tiles ? j.tiles - tile : j.block_tiles,
                                  .inputs = y + job->y_floats,
                                  .products = y + job->y_floats + job->input_floats};
        run_winograd_block(&b);
    }
    for (int64_t i = 0; i < images; i++)
        cr_transpose_f32(job->layer.y + (first + i) * out * problem.features, out, y + i * out * problem.features,
                         problem.features, problem.features, out);
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

/* By the gradient of its input, a convolution of 3×3 is one with flipped taps, whose features are the channels. */
static cr_convolution reversed(const cr_convolution *p) {
    cr_convolution q = *p;
    q.channels = p->features;
    q.features = p->channels;
    for (int d = 0; d < CR_SPATIAL_DIMS; d++) {
        q.in[d] = p->out[d];
        q.out[d] = p->in[d];
        q.padding[d] = p->kernel[d] - 1 - p->padding[d];
    }
    return q;
}

/* Whether tiles of 4×4 are ahead of those of 2×2 that planes have of their own: they are 1.8 times fewer products, and
 * cost the two new layouts and a dearer weight: `kernel_cost`, in flops, for each kernel of 3×3. */
static bool takes_planes(const cr_convolution *p, double kernel_cost) {
    if (p->groups != 1 || p->in[0] != 1 || p->kernel[0] != 1) return false;
    for (int d = 1; d < CR_SPATIAL_DIMS; d++)
        if (p->kernel[d] != 3 || p->stride[d] != 1 || p->dilation[d] != 1 || p->padding[d] > 2) return false;
    if (p->channels % LANES || p->features % LANES || p->channels < 32 || p->features < 32) return false;
    const double four = (double)(36 * divide_up(p->out[1], 4) * divide_up(p->out[2], 4)),
                 two = (double)(16 * divide_up(p->out[1], 2) * divide_up(p->out[2], 2)), channels = (double)p->channels,
                 features = (double)p->features, batch = (double)p->batch, pixels = (double)(p->out[1] * p->out[2]);
    enum { LAYOUT = 40 }; /* in flops, for each element of x and y */
    return batch * (2 * channels * features * (two - four) - LAYOUT * pixels * (channels + features)) >
           kernel_cost * channels * features;
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
    if (!run_winograd(&layer, 4)) return false;
    lay_out_images(job->layer.y, layer.y, p->batch, p->features, out);
    return true;
}

/* ---------------------------------------------------------------- the whole */
static bool convolve_apart(planes_job *job, scratch *memory) {
    const cr_convolution *p = job->layer.problem;
    const int64_t threads = cr_num_threads();
    cr_convolution chunk = *p;
    channels_last_layer layer = job->layer;
    chunk.batch = job->chunk;
    layer.problem = &chunk;
    winograd_job plan = plan_winograd(&layer, 4, 1);
    size_points(&plan);
    job->x_floats = round_up(job->chunk * p->in[1] * p->in[2] * p->channels, COLUMNS);
    job->y_floats = round_up(job->chunk * p->out[1] * p->out[2] * p->features, COLUMNS);
    job->input_floats = plan.n * plan.n * plan.input_point;
    job->product_floats = plan.n * plan.n * plan.product_point;
    const int64_t floats = job->x_floats + job->y_floats + job->input_floats + job->product_floats;
    job->memory = scratch_take(memory, (size_t)(threads * floats) * sizeof(float));
    if (!job->memory) return false;
    cr_parallel_for(threads, 1, run_plane_slots, job);
    return true;
}

bool cr_winograd_planes(const cr_convolution *problem, bool by_input, const float *x, const float *w, const float *bias,
                        float *y, bool *applies) {
    const cr_convolution p = by_input ? reversed(problem) : *problem;
    *applies = takes_planes(&p, 4500);
    if (!*applies) return true;
    scratch memory = {0};
    planes_job job = {.layer = {.problem = &p, .x = x, .bias = bias, .y = y, .low = -INFINITY, .high = INFINITY}};
    const int64_t threads = cr_num_threads(), tiles = divide_up(p.out[1], 4) * divide_up(p.out[2], 4);
    float *packed = scratch_take(&memory, (size_t)winograd_packed_elements(&p, 4) * sizeof(float));
    if (!packed) return scratch_drop(&memory);
    winograd_weights weights = {.problem = &p,
                                .w = w,
                                .packed = packed,
                                .m = 4,
                                .feature_step = by_input ? 9 : 9 * p.channels,
                                .channel_step = by_input ? 9 * p.features : 9,
                                .flipped = by_input};
    cr_parallel_for(divide_up(p.features, COLUMNS) * p.channels, 64, pack_winograd_panels, &weights);
    job.layer.packed = packed;
    job.chunk = divide_up(4 * LEAST_TILES, tiles);
    if (job.chunk > p.batch) job.chunk = p.batch;
    const bool done = p.batch < threads * job.chunk ? convolve_together(&job, &memory) : convolve_apart(&job, &memory);
    scratch_drop(&memory);
    return done;
}
