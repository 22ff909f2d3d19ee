/* The gradient of a convolution of small planes by its weight, with the images of a batch as lanes:
 *
 *   dw[f][c][t] = sum over images n and positions o of dy[n][f][o] x[n][c][o·stride + t·dilation - padding]
 *
 * A tile of weights is a vector of sums for each, over the images of a group, which are added at the end. Groups of images
 * are dealt to a number of parts that depends on the problem alone, and the parts are added in order. Where Winograd's tiles
 * pay, each of their points is such a gradient by one row of taps, of rows of tiles in place of rows of the image. */
#include "ops/cpu/variants/image_lanes.h"
#include "ops/cpu/variants/image_lanes_winograd.h"
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
    const lane_winograd *winograd; /* NULL: sums as they are */
    int64_t points, rows;          /* 1, rows of dy; or those of tiles */
    int64_t x_row, x_plane, dy_plane;
    int64_t columns, *offsets; /* of each (channel, tap) in a plane of x; the last one repeated */
    int64_t image_groups, parts, tiles, shares, tasks, slots, slot_elements, strip;
    float *memory, *results; /* [part][group][tile][point][ROWS][columns] */
    atomic_int_fast64_t next;
} weights_job;

/* sums[rows][COLUMNS], of some rows of positions; `rows` is a constant after inlining. */
static inline __attribute__((always_inline)) void add_products(const int rows, const weights_job *job, const float *x,
                                                               const int64_t *offsets, const float *dy, int64_t count,
                                                               vector *to) {
    const int64_t x_step = job->p->stride[2] * LANES, x_row = job->x_row, dy_plane = job->dy_plane,
                  width = job->dy.width;
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

/* Half as many vectors: lanes of one that are h apart are added, and those of another stand beside their sums. */
static inline __attribute__((always_inline)) void halve(vector v[LANES], const int h) {
    images_lanes low, high;
#pragma GCC unroll 16
    for (int j = 0; j < LANES; j++) {
        low[j] = j & h ? LANES + j - h : j;
        high[j] = j & h ? LANES + j : j + h;
    }
#pragma GCC unroll 8
    for (int l = 0; l < h; l++)
        v[l] = images_shuffled(v[l], v[l + h], low) + images_shuffled(v[l], v[l + h], high);
}

/* Adds the lanes of each of count sums, as a tree; some may be read behind them. */
static void add_lanes(const vector *sums, int64_t count, float *to) {
    for (int64_t at = 0; at < count; at += LANES) {
        const int64_t added = count - at < LANES ? count - at : LANES;
        vector v[LANES];
        memcpy(v, sums + at, sizeof v);
        if (LANES > 8) halve(v, 8);
        if (LANES > 4) halve(v, 4);
        halve(v, 2);
        halve(v, 1);
        store_lanes(to + at, load_lanes(to + at, added) + v[0], added);
    }
}

/* Rows of weights of one tile, of one group of images. */
static void run_tile(const weights_job *job, const float *x, const float *dy, int64_t rows, vector *sums,
                     float *result) {
    const int64_t row_elements = lane_pitch(&job->dy);
    memset(sums, 0, (size_t)(rows * job->columns) * sizeof *sums);
    for (int64_t row = 0; row < job->rows; row += job->strip)
        for (int64_t c = 0; c < job->columns; c += COLUMNS)
            add_rows[rows](job, x + row * job->x_row, job->offsets + c, dy + row * row_elements,
                           job->rows - row < job->strip ? job->rows - row : job->strip, sums + c);
    add_lanes(sums, rows * job->columns, result);
}

/* What the memory of a slot is for; `points` are none where sums are as they are. */
static int64_t sum_elements(const weights_job *job) { return (ROWS * job->columns + LANES) * LANES; }
static int64_t x_elements(const weights_job *job) { return round_up(job->x.channels * lane_plane(&job->x), 16); }
static int64_t dy_elements(const weights_job *job) { return ROWS * lane_plane(&job->dy); }
static int64_t x_points(const weights_job *job) { return job->x.channels * job->x_plane; }
static int64_t dy_points(const weights_job *job) { return ROWS * job->dy_plane; }
static int64_t tile_elements(const weights_job *job) { return job->points * ROWS * job->columns; }
static int64_t slot_elements(const weights_job *job) {
    const int64_t points = job->winograd ? job->points * (x_points(job) + dy_points(job)) : 0;
    return x_elements(job) + dy_elements(job) + sum_elements(job) + points;
}

/* The points of tiles of some planes, one row of tiles after the other. */
static void spread_planes(const weights_job *job, const lane_copy *copy, const lane_table table, int64_t terms,
                          int64_t planes, const float *from, float *to, int64_t point_elements) {
    const int64_t pitch = lane_pitch(copy);
    for (int64_t plane = 0; plane < planes; plane++, from += lane_plane(copy))
        for (int64_t row = 0; row < job->rows; row++, to += pitch)
            cr_lane_spread(table, job->points, terms, from + row * job->winograd->results * pitch, pitch, to,
                           point_elements, pitch / LANES);
}

static int64_t rows_of_tile(const weights_job *job, int64_t tile) {
    const int64_t left = job->p->features - tile * ROWS;
    return left < ROWS ? left : ROWS;
}

/* The tiles of one share of one part. */
static void run_task(const weights_job *job, int64_t task, float *memory) {
    const cr_convolution *p = job->p;
    const lane_winograd *winograd = job->winograd;
    const int64_t share = task % job->shares, part = task / job->shares / p->groups,
                  group = task / job->shares % p->groups, begin = job->tiles * share / job->shares,
                  end = job->tiles * (share + 1) / job->shares, tile = tile_elements(job);
    float *x = memory, *dy = x + x_elements(job), *sums = dy + dy_elements(job), *points = sums + sum_elements(job),
          *x_from = winograd ? points : x, *dy_from = winograd ? points + job->points * x_points(job) : dy,
          *result = job->results + (part * p->groups + group) * job->tiles * tile;
    memset(result + begin * tile, 0, (size_t)((end - begin) * tile) * sizeof(float));
    for (int64_t n = job->image_groups * part / job->parts; n < job->image_groups * (part + 1) / job->parts; n++) {
        copy_lanes(&job->x, n * LANES, group, 0, job->x.channels, x);
        if (winograd)
            spread_planes(job, &job->x, winograd->source, job->points, job->x.channels, x, x_from, x_points(job));
        for (int64_t t = begin; t < end; t++) {
            const int64_t rows = rows_of_tile(job, t);
            copy_lanes(&job->dy, n * LANES, group, t * ROWS, rows, dy);
            if (winograd)
                spread_planes(job, &job->dy, winograd->result, winograd->results, rows, dy, dy_from, dy_points(job));
            for (int64_t i = 0; i < job->points; i++)
                run_tile(job, x_from + i * x_points(job), dy_from + i * dy_points(job), rows, (vector *)(void *)sums,
                         result + t * tile + i * ROWS * job->columns);
        }
    }
}

static void run_slots(void *context, int64_t begin, int64_t end) {
    weights_job *job = context;
    for (int64_t slot = begin, task; slot < end; slot++) {
        float *memory = job->memory + slot * job->slot_elements;
        memset(memory, 0,
               (size_t)(x_elements(job) + dy_elements(job)) * sizeof(float)); /* what lies around planes stays so */
        while ((task = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed)) < job->tasks)
            run_task(job, task, memory);
    }
}

typedef struct sum_job {
    float *parts;
    int64_t count, elements;
} sum_job;

/* Adds the others to the first part. */
static void sum_parts(void *context, int64_t begin, int64_t end) {
    const sum_job *job = context;
    for (int64_t part = 1; part < job->count; part++)
        for (int64_t i = begin; i < end; i++)
            job->parts[i] += job->parts[part * job->elements + i];
}

/* dw of a feature from the sums of its points: [channel, tap column], `point` apart. */
static void gather_feature(const weights_job *job, const float *sums, int64_t point, float *dw) {
    _Alignas(64) float rows[LANE_POINTS * LANES];
    const int64_t taps = job->winograd->taps, width = job->p->kernel[2], wanted = job->p->channels * width;
    const lane_results results = {.to = rows, .wanted = taps, .step = LANES, .low = -INFINITY, .high = INFINITY};
    for (int64_t at = 0, column = 0; at < wanted; at += LANES) {
        cr_lane_gather(job->winograd->kernel, job->points, sums + at, point, 1, &results);
        for (int64_t l = 0; l < LANES && at + l < wanted; l++) {
            for (int64_t i = 0; i < taps; i++)
                dw[i * width + column] = rows[i * LANES + l];
            if (++column < width) continue;
            column = 0;
            dw += taps * width;
        }
    }
}

typedef struct finish_job {
    const weights_job *job;
    float *dw;
} finish_job;

static void finish_tiles(void *context, int64_t begin, int64_t end) {
    const finish_job *finish = context;
    const weights_job *job = finish->job;
    const cr_convolution *p = job->p;
    const int64_t point = ROWS * job->columns, feature = p->channels * p->kernel[1] * p->kernel[2];
    for (int64_t t = begin; t < end; t++) {
        const float *sums = job->results + t * tile_elements(job);
        float *dw = finish->dw + (t / job->tiles * p->features + t % job->tiles * ROWS) * feature;
        for (int64_t row = 0; row < rows_of_tile(job, t % job->tiles); row++, sums += job->columns, dw += feature)
            if (job->winograd)
                gather_feature(job, sums, point, dw);
            else
                memcpy(dw, sums, (size_t)feature * sizeof(float));
    }
}

static void find_offsets(const weights_job *job) {
    const cr_convolution *p = job->p;
    int64_t *to = job->offsets;
    for (int64_t c = 0; c < p->channels; c++)
        for (int64_t t1 = 0; t1 < (job->winograd ? 1 : p->kernel[1]); t1++)
            for (int64_t t2 = 0; t2 < p->kernel[2]; t2++)
                *to++ = c * job->x_plane + t1 * p->dilation[1] * lane_pitch(&job->x) + t2 * p->dilation[2] * LANES;
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
    const int64_t elements = p->groups * job->tiles * tile_elements(job),
                  threads = is_shared(job) ? cr_num_threads() : 1, parts = job->parts * p->groups;
    job->shares = parts >= 2 * threads ? 1 : divide_up(4 * threads, parts);
    if (job->shares > job->tiles) job->shares = job->tiles;
    job->tasks = parts * job->shares;
    job->slots = threads < job->tasks ? threads : job->tasks;
    job->slot_elements = slot_elements(job);
    job->offsets = scratch_take(memory, (size_t)job->columns * sizeof *job->offsets);
    job->memory = scratch_take(memory, (size_t)(job->slots * job->slot_elements) * sizeof(float));
    job->results = scratch_take(memory, (size_t)(job->parts * elements + LANES) * sizeof(float));
    int32_t *places = scratch_take(memory, (size_t)(count_places(&job->x) + count_places(&job->dy)) * sizeof *places);
    if (!job->offsets || !job->memory || !job->results || !places) return false;
    find_places(&job->x, places);
    job->x.places = places;
    find_places(&job->dy, places += count_places(&job->x));
    job->dy.places = places;
    find_offsets(job);
    cr_parallel_for(job->slots, 1, run_slots, job);
    if (job->parts > 1)
        cr_parallel_for(elements, CR_GRAIN_ELEMENTS, sum_parts, &(sum_job){job->results, job->parts, elements});
    cr_parallel_for(p->groups * job->tiles, 1 + CR_GRAIN_ELEMENTS / tile_elements(job), finish_tiles,
                    &(finish_job){job, dw});
    return true;
}

/* Zeros behind the image that the last tap of the last position reads. */
static int64_t zeros_behind(const cr_convolution *p, int d) {
    const int64_t last = (p->out[d] - 1) * p->stride[d] + (p->kernel[d] - 1) * p->dilation[d] - p->padding[d];
    return last < p->in[d] ? 0 : last - (p->in[d] - 1);
}

/* Strips of rows whose dy stays in the nearest cache. */
static void choose_strips(weights_job *job) {
    const int64_t strips = divide_up(ROWS * job->rows * lane_pitch(&job->dy) * (int64_t)sizeof(float), STRIP_BYTES);
    job->strip = divide_up(job->rows, strips);
}

static void use_winograd(weights_job *job, const lane_winograd *winograd) {
    const cr_convolution *p = job->p;
    job->winograd = winograd;
    job->points = winograd->points;
    job->rows = divide_up(p->out[1], winograd->results);
    job->columns = round_up(p->channels * p->kernel[2], COLUMNS);
    job->x_row = lane_pitch(&job->x);
    job->x_plane = job->rows * lane_pitch(&job->x);
    job->dy_plane = job->rows * lane_pitch(&job->dy);
    const int64_t rows = job->rows * winograd->results, behind = rows + winograd->taps - 1 - p->padding[1] - p->in[1];
    job->dy.below = rows - p->out[1];
    if (behind > job->x.below) job->x.below = behind;
    choose_strips(job);
}

/* Of an image, in multiplications: products, sums of lanes, loads and stores of sums, and transforms. */
static double cost_of_sums(const weights_job *job) {
    const cr_convolution *p = job->p;
    const double points = (double)job->points, sums = points * (double)(p->groups * p->features) * (double)job->columns,
                 strips = (double)divide_up(job->rows, job->strip),
                 cost = 1.05 * sums * (double)(job->rows * p->out[2]) + sums * (15 + 10 * strips);
    if (!job->winograd) return cost;
    const double x = (double)(job->x.channels * lane_pitch(&job->x) / LANES), dy = (double)(p->features * p->out[2]);
    return cost + (double)(p->groups * job->rows) * points *
                      (x * (points / 2 + 2) + dy * ((double)job->winograd->results / 2 + 2));
}

/* Whether what a thread needs stays in a cache. */
static bool fits_cache(const weights_job *job) {
    enum { MOST_BYTES = 2 << 20, MOST_BYTES_OF_TILES = 4 << 20 };
    return slot_elements(job) * (int64_t)sizeof(float) <= (job->winograd ? MOST_BYTES_OF_TILES : MOST_BYTES);
}

/* Whether it is ahead of dot products and of gathering, in multiplications of an image (all measured; a group that is not full
 * costs as much as a full one). There must be something to share. */
static bool pays(const weights_job *job) {
    enum { LEAST_TASKS = 4 };
    const cr_convolution *p = job->p;
    const double groups = (double)p->groups, features = (double)p->features,
                 positions = (double)(p->out[1] * p->out[2]),
                 columns = (double)(p->channels * p->kernel[1] * p->kernel[2]), weights = groups * features * columns,
                 elements = (double)(job->x.image + job->dy.image), images = (double)p->batch,
                 lanes = (double)(job->image_groups * LANES);
    if (!fits_cache(job)) return false;
    if (job->parts * p->groups * job->tiles < LEAST_TASKS && is_shared(job)) return false;
    const int64_t pitch = p->out[2] + (p->kernel[2] - 1) * p->dilation[2] / p->stride[2];
    const double packed = columns * (8 + 200 / (double)(p->channels * p->kernel[2])) + 25 * features,
                 gathered = 1.3 * weights * positions + 0.4 * groups * packed * positions + 15 * elements,
                 dots = weights * (double)(round_up(p->out[1] * pitch, LANES) + 3 * LANES) + 20 * elements;
    return lanes * (cost_of_sums(job) + 12 * elements) < images * (dots < gathered ? dots : gathered);
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
                       .points = 1,
                       .rows = p->out[1],
                       .columns = round_up(p->channels * p->kernel[1] * p->kernel[2], COLUMNS),
                       .image_groups = divide_up(p->batch, LANES),
                       .tiles = divide_up(p->features, ROWS)};
    job.parts = divide_up(MOST_PARTS, p->groups);
    if (job.parts > job.image_groups) job.parts = job.image_groups;
    job.x_row = p->stride[1] * lane_pitch(&job.x);
    job.x_plane = lane_plane(&job.x);
    job.dy_plane = lane_plane(&job.dy);
    choose_strips(&job);
    lane_winograd winograd;
    weights_job with_tiles = job;
    if (cr_plan_lane_winograd(p, &winograd)) {
        use_winograd(&with_tiles, &winograd);
        if (fits_cache(&with_tiles) && cost_of_sums(&with_tiles) < cost_of_sums(&job)) job = with_tiles;
    }
    *applies = pays(&job);
    scratch memory = {0};
    const bool done = !*applies || run_weights(&job, dw, &memory);
    scratch_drop(&memory);
    return done;
}
