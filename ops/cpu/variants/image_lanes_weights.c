/* The gradient of a convolution of small planes by its weight, with the images of a batch as lanes:
 *
 *   dw[f][c][t] = sum over images n and positions o of dy[n][f][o] x[n][c][o·stride + t·dilation - padding]
 *
 * A tile of weights is a vector of sums for each, over the images of a group, which are added at the end. Groups of images
 * are dealt to a number of parts that depends on the problem alone, and the parts are added in order. */
#include "ops/cpu/variants/image_lanes.h"
#include "ops/cpu/variants/planes.h"
#include "ops/cpu/variants/scratch.h"

#if defined(__AVX512F__)
enum { ROWS = 4, COLUMNS = 5 };
#else
enum { ROWS = 3, COLUMNS = 4 };
#endif
enum { MOST_PARTS = 16, STRIP_BYTES = 28 << 10 /* of dy, for a tile */ };

typedef struct weights_job {
    const cr_convolution *p;
    lane_copy x, dy;
    int64_t columns, *offsets; /* of each (channel, tap) in the copy of x; the last one repeated */
    int64_t image_groups, parts, tiles, shares, tasks, slots, slot_elements, strip;
    float *memory, *results; /* [part][group] weights */
    atomic_int_fast64_t next;
} weights_job;

/* sums[rows][COLUMNS], of some rows of positions; `rows` is a constant after inlining. */
static inline __attribute__((always_inline)) void add_products(const int rows, const weights_job *job, const float *x,
                                                               const int64_t *offsets, const float *dy, int64_t count,
                                                               vector *to) {
    const int64_t x_step = job->p->stride[2] * LANES, x_row = job->p->stride[1] * lane_pitch(&job->x),
                  dy_plane = lane_plane(&job->dy), width = job->dy.width;
    vector sums[ROWS][COLUMNS];
#pragma GCC unroll 5
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 5
        for (int c = 0; c < COLUMNS; c++)
            sums[i][c] = to[i * job->columns + c];
    for (int64_t row = 0; row < count; row++, x += x_row) {
        const float *from[COLUMNS];
        for (int c = 0; c < COLUMNS; c++)
            from[c] = x + offsets[c];
        for (int64_t o = 0, at = 0; o < width; o++, at += x_step, dy += LANES) {
            vector left[ROWS];
#pragma GCC unroll 5
            for (int i = 0; i < rows; i++)
                left[i] = held(load(dy + i * dy_plane));
#pragma GCC unroll 5
            for (int c = 0; c < COLUMNS; c++) {
                const vector right = held(load(from[c] + at));
#pragma GCC unroll 5
                for (int i = 0; i < rows; i++)
                    sums[i][c] += left[i] * right;
            }
        }
    }
#pragma GCC unroll 5
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 5
        for (int c = 0; c < COLUMNS; c++)
            to[i * job->columns + c] = sums[i][c];
}

typedef void add_function(const weights_job *, const float *, const int64_t *, const float *, int64_t, vector *);
#define ADD_ROWS(rows)                                                                                                 \
    static void add_##rows(const weights_job *job, const float *x, const int64_t *offsets, const float *dy,            \
                           int64_t count, vector *to) {                                                                \
        add_products(rows, job, x, offsets, dy, count, to);                                                            \
    }
ADD_ROWS(1)
ADD_ROWS(2)
ADD_ROWS(3)
#if defined(__AVX512F__)
ADD_ROWS(4)
static add_function *const add_rows[] = {NULL, add_1, add_2, add_3, add_4};
#else
static add_function *const add_rows[] = {NULL, add_1, add_2, add_3};
#endif
#undef ADD_ROWS

/* Adds the lanes of each of count sums; some may be read behind them. */
static void add_lanes(const vector *sums, int64_t count, float *to) {
    for (int64_t at = 0; at < count; at += LANES) {
        vector v[LANES], sum = {0};
        memcpy(v, sums + at, sizeof v);
        images_transpose_vectors(v);
#pragma GCC unroll 16
        for (int l = 0; l < LANES; l++)
            sum += v[l];
        for (int64_t i = 0; i < LANES && at + i < count; i++)
            to[at + i] += sum[i];
    }
}

/* Rows of weights of one tile, of one group of images. */
static void run_tile(const weights_job *job, const float *x, const float *dy, int64_t rows, vector *sums,
                     float *result) {
    const int64_t row_elements = lane_pitch(&job->dy),
                  wanted = job->p->channels * job->p->kernel[1] * job->p->kernel[2];
    memset(sums, 0, (size_t)(rows * job->columns) * sizeof *sums);
    for (int64_t row = 0; row < job->dy.height; row += job->strip)
        for (int64_t c = 0; c < job->columns; c += COLUMNS)
            add_rows[rows](job, x + row * job->p->stride[1] * lane_pitch(&job->x), job->offsets + c,
                           dy + row * row_elements,
                           job->dy.height - row < job->strip ? job->dy.height - row : job->strip, sums + c);
    for (int64_t i = 0; i < rows; i++)
        add_lanes(sums + i * job->columns, wanted, result + i * wanted);
}

static int64_t sum_elements(const weights_job *job) { return (ROWS * job->columns + LANES) * LANES; }
static int64_t x_elements(const weights_job *job) { return round_up(job->x.channels * lane_plane(&job->x), 16); }

/* The tiles of one share of one part. */
static void run_task(const weights_job *job, int64_t task, float *memory) {
    const cr_convolution *p = job->p;
    const int64_t share = task % job->shares, part = task / job->shares / p->groups,
                  group = task / job->shares % p->groups, row = p->channels * p->kernel[1] * p->kernel[2],
                  begin = job->tiles * share / job->shares * ROWS, end = job->tiles * (share + 1) / job->shares * ROWS,
                  last = end < p->features ? end : p->features;
    float *x = memory, *dy = x + x_elements(job), *sums = dy + (job->tiles * ROWS) * lane_plane(&job->dy),
          *result = job->results + ((part * p->groups + group) * p->features) * row;
    memset(result + begin * row, 0, (size_t)((last - begin) * row) * sizeof(float));
    for (int64_t n = job->image_groups * part / job->parts; n < job->image_groups * (part + 1) / job->parts; n++) {
        copy_lanes(&job->x, n * LANES, group, 0, job->x.channels, x);
        copy_lanes(&job->dy, n * LANES, group, begin, last - begin, dy);
        for (int64_t f = begin; f < last; f += ROWS)
            run_tile(job, x, dy + (f - begin) * lane_plane(&job->dy), last - f < ROWS ? last - f : ROWS,
                     (vector *)(void *)sums, result + f * row);
    }
}

static void run_slots(void *context, int64_t begin, int64_t end) {
    weights_job *job = context;
    for (int64_t slot = begin, task; slot < end; slot++) {
        float *memory = job->memory + slot * job->slot_elements;
        memset(memory, 0, (size_t)x_elements(job) * sizeof(float)); /* what lies around planes stays so */
        while ((task = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed)) < job->tasks)
            run_task(job, task, memory);
    }
}

typedef struct sum_job {
    float *target;
    const float *parts;
    int64_t count, elements;
} sum_job;

static void sum_parts(void *context, int64_t begin, int64_t end) {
    const sum_job *job = context;
    memcpy(job->target + begin, job->parts + begin, (size_t)(end - begin) * sizeof(float));
    for (int64_t part = 1; part < job->count; part++)
        for (int64_t i = begin; i < end; i++)
            job->target[i] += job->parts[part * job->elements + i];
}

static void find_offsets(const weights_job *job) {
    const cr_convolution *p = job->p;
    int64_t *to = job->offsets;
    for (int64_t c = 0; c < p->channels; c++)
        for (int64_t t1 = 0; t1 < p->kernel[1]; t1++)
            for (int64_t t2 = 0; t2 < p->kernel[2]; t2++)
                *to++ =
                    c * lane_plane(&job->x) + t1 * p->dilation[1] * lane_pitch(&job->x) + t2 * p->dilation[2] * LANES;
    for (; to < job->offsets + job->columns; to++)
        *to = to[-1];
}

/* Is it worth sharing? */
static bool is_shared(const weights_job *job) {
    const cr_convolution *p = job->p;
    return (double)(p->batch * p->groups * p->features * job->columns) * (double)(p->out[1] * p->out[2]) >=
           16.0 * CR_GRAIN_ELEMENTS;
}

static bool run_weights(weights_job *job, float *dw, scratch *memory) {
    const cr_convolution *p = job->p;
    const int64_t elements = p->groups * p->features * p->channels * p->kernel[1] * p->kernel[2],
                  threads = is_shared(job) ? cr_num_threads() : 1, parts = job->parts * p->groups;
    job->shares = parts >= 2 * threads ? 1 : divide_up(4 * threads, parts);
    if (job->shares > job->tiles) job->shares = job->tiles;
    job->tasks = parts * job->shares;
    job->slots = threads < job->tasks ? threads : job->tasks;
    job->slot_elements = x_elements(job) + job->tiles * ROWS * lane_plane(&job->dy) + sum_elements(job);
    job->offsets = scratch_take(memory, (size_t)job->columns * sizeof *job->offsets);
    job->memory = scratch_take(memory, (size_t)(job->slots * job->slot_elements) * sizeof(float));
    job->results = job->parts > 1 ? scratch_take(memory, (size_t)(job->parts * elements) * sizeof(float)) : dw;
    int32_t *places = scratch_take(memory, (size_t)(count_places(&job->x) + count_places(&job->dy)) * sizeof *places);
    if (!job->offsets || !job->memory || !job->results || !places) return false;
    find_places(&job->x, places);
    job->x.places = places;
    find_places(&job->dy, places += count_places(&job->x));
    job->dy.places = places;
    find_offsets(job);
    cr_parallel_for(job->slots, 1, run_slots, job);
    if (job->parts > 1)
        cr_parallel_for(elements, CR_GRAIN_ELEMENTS, sum_parts, &(sum_job){dw, job->results, job->parts, elements});
    return true;
}

/* Zeros behind the image that the last tap of the last position reads. */
static int64_t zeros_behind(const cr_convolution *p, int d) {
    const int64_t last = (p->out[d] - 1) * p->stride[d] + (p->kernel[d] - 1) * p->dilation[d] - p->padding[d];
    return last < p->in[d] ? 0 : last - (p->in[d] - 1);
}

/* Whether it is ahead of dot products and of gathering, in multiplications of an image (all measured; a group that is not full
 * costs as much as a full one). Both copies must stay in the cache, and there must be something to share. */
static bool pays(const weights_job *job) {
    enum { COPY_BYTES = 2 << 20, LEAST_TASKS = 4 };
    const cr_convolution *p = job->p;
    const double groups = (double)p->groups, features = (double)p->features,
                 positions = (double)(p->out[1] * p->out[2]),
                 columns = (double)(p->channels * p->kernel[1] * p->kernel[2]), weights = groups * features * columns,
                 sums = groups * features * (double)job->columns, elements = (double)(job->x.image + job->dy.image),
                 images = (double)p->batch, lanes = (double)(job->image_groups * LANES);
    if ((x_elements(job) + job->tiles * ROWS * lane_plane(&job->dy)) * (int64_t)sizeof(float) > COPY_BYTES)
        return false;
    if (job->parts * p->groups * job->tiles < LEAST_TASKS && is_shared(job)) return false;
    const int64_t pitch = p->out[2] + (p->kernel[2] - 1) * p->dilation[2] / p->stride[2];
    const double packed = columns * (8 + 200 / (double)(p->channels * p->kernel[2])) + 25 * features,
                 gathered = 1.3 * weights * positions + 0.4 * groups * packed * positions + 15 * elements,
                 dots = weights * (double)(round_up(p->out[1] * pitch, LANES) + 3 * LANES) + 20 * elements,
                 strips = (double)divide_up(job->dy.height, job->strip);
    const double cost = 1.05 * sums * positions + 25 * sums * strips + 12 * elements;
    return lanes * cost < images * (dots < gathered ? dots : gathered);
}

bool cr_image_lanes_weights(const cr_convolution *p, const float *x, const float *dy, float *dw, bool *applies) {
    const int64_t x_group = p->channels * p->in[1] * p->in[2], dy_group = p->features * p->out[1] * p->out[2];
    *applies = false;
    if (p->in[0] != 1 || p->kernel[0] != 1 || p->padding[0] != 0) return true;
    if (p->kernel[1] * p->kernel[2] == 1 && p->stride[1] * p->stride[2] == 1) return true; /* a product as it is */
    weights_job job = {.p = p,
                       .x = {.source = x,
                             .images = p->batch,
                             .image = p->groups * x_group,
                             .group = x_group,
                             .channels = p->channels,
                             .height = p->in[1],
                             .width = p->in[2],
                             .above = p->padding[1],
                             .below = zeros_behind(p, 1),
                             .left = p->padding[2],
                             .right = zeros_behind(p, 2)},
                       .dy = {.source = dy,
                              .images = p->batch,
                              .image = p->groups * dy_group,
                              .group = dy_group,
                              .channels = p->features,
                              .height = p->out[1],
                              .width = p->out[2]},
                       .columns = round_up(p->channels * p->kernel[1] * p->kernel[2], COLUMNS),
                       .image_groups = divide_up(p->batch, LANES),
                       .tiles = divide_up(p->features, ROWS)};
    job.parts = divide_up(MOST_PARTS, p->groups);
    if (job.parts > job.image_groups) job.parts = job.image_groups;
    const int64_t strips = divide_up(ROWS * job.dy.height * lane_pitch(&job.dy) * (int64_t)sizeof(float), STRIP_BYTES);
    job.strip = divide_up(job.dy.height, strips);
    *applies = pays(&job);
    scratch memory = {0};
    const bool done = !*applies || run_weights(&job, dw, &memory);
    scratch_drop(&memory);
    return done;
}
