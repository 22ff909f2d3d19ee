/* The gradient of a 1×1 convolution by its weight, a sum over the pixels of all images:
 *
 *   dw[f][c] = Σ over pixels of dy[pixel][f] x[pixel][c]
 *
 * A chunk of pixels of both is laid out as [panel][pixel][COLUMNS]; then threads share the panels of dw, so that each sum is
 * made in one order. What lies in lanes without a line only meets sums that nobody reads. */
#include "ops/cpu/variants/channels_last_weights.h"

enum { PIXEL_FLOATS = 512 << 10 /* of a chunk */ };

typedef struct pixel_planes {
    const float *planes; /* [image][line][height · width] */
    int64_t lines, panels, size[2], step[2];
    float *laid_out; /* [panel][chunk][COLUMNS] */
} pixel_planes;

typedef struct pixel_job {
    pixel_planes x, dy;
    int64_t out[2], chunk; /* pixels at a time, at most */
    int64_t first, pixels; /* those of now, counted through the results of all images */
    float *sums;           /* [feature][channel], rows sums_row apart */
    int64_t sums_row;
    bool adds;
} pixel_job;

/* to[pixel][line] of `count` results from number `at` on. */
static void lay_out_strided(const pixel_job *job, const pixel_planes *side, const float *planes, int64_t at,
                            int64_t count, int64_t lines, float *to) {
    const int64_t plane = side->size[0] * side->size[1];
    for (int64_t i = at; i < at + count; i++, to += COLUMNS) {
        const float *from = planes + i / job->out[1] * side->step[0] * side->size[1] + i % job->out[1] * side->step[1];
        for (int64_t line = 0; line < lines; line++)
            to[line] = from[line * plane];
    }
}

static void lay_out_panel(const pixel_job *job, const pixel_planes *side, int64_t panel) {
    const int64_t results = job->out[0] * job->out[1], plane = side->size[0] * side->size[1],
                  rest = side->lines - panel * COLUMNS, lines = rest < COLUMNS ? rest : COLUMNS;
    float *to = side->laid_out + panel * job->chunk * COLUMNS;
    for (int64_t pixel = job->first, end = pixel + job->pixels; pixel < end;) {
        const int64_t image = pixel / results, at = pixel % results,
                      count = results - at < end - pixel ? results - at : end - pixel;
        const float *planes = side->planes + (image * side->lines + panel * COLUMNS) * plane;
        if (plane == results)
            cr_transpose_f32(to, COLUMNS, planes + at, plane, count, lines);
        else
            lay_out_strided(job, side, planes, at, count, lines, to);
        pixel += count;
        to += count * COLUMNS;
    }
}

static void lay_out_panels(void *context, int64_t begin, int64_t end) {
    const pixel_job *job = context;
    for (int64_t i = begin; i < end; i++)
        if (i < job->x.panels)
            lay_out_panel(job, &job->x, i);
        else
            lay_out_panel(job, &job->dy, i - job->x.panels);
}

/* Panels of features by panels of channels. */
static void sum_pixels(void *context, int64_t begin, int64_t end) {
    const pixel_job *job = context;
    for (int64_t at = begin; at < end; at++) {
        const int64_t f = at / job->x.panels, c = at % job->x.panels;
        float *sums = job->sums + f * COLUMNS * job->sums_row + c * COLUMNS;
        for (int64_t first = 0; first < job->pixels; first += DEPTH_TILES) {
            const int64_t rest = job->pixels - first;
            sum_panel(job->dy.laid_out + (f * job->chunk + first) * COLUMNS,
                      job->x.laid_out + (c * job->chunk + first) * COLUMNS, rest < DEPTH_TILES ? rest : DEPTH_TILES,
                      job->adds || first > 0, sums, job->sums_row);
        }
    }
}

/* One tap, no padding, and channels and features that nearly fill their panels. */
static bool is_sum_of_pixels(const cr_convolution *p) {
    for (int d = 0; d < CR_SPATIAL_DIMS; d++)
        if (p->kernel[d] != 1 || p->padding[d] != 0 || (d == 0 && p->in[0] != 1)) return false;
    return p->groups == 1 &&
           4 * round_up(p->channels, COLUMNS) * round_up(p->features, COLUMNS) <= 5 * p->channels * p->features;
}

bool cr_pixel_weights(const cr_convolution *p, const float *x, const float *dy, float *dw, bool *applies) {
    *applies = is_sum_of_pixels(p);
    if (!*applies) return true;
    scratch memory = {0};
    pixel_job job = {
        .x =
            {x, p->channels, divide_up(p->channels, COLUMNS), {p->in[1], p->in[2]}, {p->stride[1], p->stride[2]}, NULL},
        .dy = {dy, p->features, divide_up(p->features, COLUMNS), {p->out[1], p->out[2]}, {1, 1}, NULL},
        .out = {p->out[1], p->out[2]}};
    const int64_t all = p->batch * p->out[1] * p->out[2], panels = job.x.panels + job.dy.panels,
                  fitting = PIXEL_FLOATS / (panels * COLUMNS), wanted = fitting < DEPTH_TILES ? DEPTH_TILES : fitting;
    job.chunk = divide_up(all, divide_up(all, wanted));
    job.sums_row = job.x.panels * COLUMNS;
    const bool is_whole = p->channels % COLUMNS == 0 && p->features % COLUMNS == 0;
    job.x.laid_out = scratch_take(&memory, (size_t)(job.x.panels * job.chunk * COLUMNS) * sizeof(float));
    job.dy.laid_out = scratch_take(&memory, (size_t)(job.dy.panels * job.chunk * COLUMNS) * sizeof(float));
    job.sums = is_whole ? dw : scratch_take(&memory, (size_t)(job.dy.panels * COLUMNS * job.sums_row) * sizeof(float));
    if (!job.x.laid_out || !job.dy.laid_out || !job.sums) return scratch_drop(&memory);
    for (; job.first < all; job.first += job.chunk) {
        job.pixels = all - job.first < job.chunk ? all - job.first : job.chunk;
        job.adds = job.first > 0;
        cr_parallel_for(panels, 1 + CR_GRAIN_ELEMENTS / (job.pixels * COLUMNS), lay_out_panels, &job);
        cr_parallel_for(job.dy.panels * job.x.panels, 1 + CR_GRAIN_ELEMENTS / (job.pixels * COLUMNS), sum_pixels, &job);
    }
    for (int64_t f = 0; !is_whole && f < p->features; f++)
        memcpy(dw + f * p->channels, job.sums + f * job.sums_row, (size_t)p->channels * sizeof(float));
    scratch_drop(&memory);
    return true;
}
