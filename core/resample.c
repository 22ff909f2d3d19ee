/* Resizing with a triangle filter that widens when shrinking: PIL's BILINEAR, torch's interpolate(antialias=True).
 * Output i covers the input around (i + 0.5) * in / out; what lies beyond the border is left out and the rest weighs
 * more. Rows first, four at a time as the lanes of vectors, then columns over whole rows; both only for the part of the
 * resized picture that is wanted. */
#include "core/image.h"

#include <math.h>
#include <string.h>

/* For `outputs` outputs: the first input, how many, and their weights (sum 1), `taps` apart. */
typedef struct filter {
    int outputs, taps;
    int *first, *count;
    float *weights;
} filter;

static void filter_free(filter *f) {
    cr_free(f->first);
    cr_free(f->weights);
}

/* Of `in` inputs resized to `out`: outputs from … from + outputs - 1. */
static bool filter_make(filter *f, int in, int out, int from, int outputs) {
    const double scale = (double)in / out, support = scale > 1 ? scale : 1;
    f->outputs = outputs;
    f->taps = (int)ceil(support) * 2 + 1;
    f->first = cr_malloc(2 * (size_t)outputs * sizeof *f->first);
    f->weights = f->first ? cr_malloc((size_t)outputs * (size_t)f->taps * sizeof *f->weights) : NULL;
    if (!f->weights) return false;
    f->count = f->first + outputs;
    for (int i = 0; i < outputs; i++) {
        const double middle = (from + i + 0.5) * scale;
        const int begin = (int)fmax(0, middle - support + 0.5), end = (int)fmin(in, middle + support + 0.5);
        float *weights = f->weights + (size_t)i * (size_t)f->taps;
        double sum = 0;
        for (int k = begin; k < end; k++)
            sum += fmax(0, 1 - fabs(k + 0.5 - middle) / support);
        for (int k = begin; k < end; k++)
            weights[k - begin] = (float)(fmax(0, 1 - fabs(k + 0.5 - middle) / support) / sum);
        f->first[i] = begin;
        f->count[i] = end - begin;
    }
    return true;
}

/* The inputs that any output reads: begin … end - 1. */
static int filter_begin(const filter *f) { return f->first[0]; }
static int filter_end(const filter *f) { return f->first[f->outputs - 1] + f->count[f->outputs - 1]; }

/* ---------------------------------------------------------------- across */
typedef float quad __attribute__((vector_size(16)));
enum { LANES = 4 };

/* What every plane of a picture needs. Rows are `stride` apart: a multiple of LANES, so that the last vector fits. */
typedef struct pass {
    cr_dtype dtype;
    int width, height; /* of the source */
    filter across, down;
    size_t stride;
    float *rows, *lines, *sums; /* what is read, resampled across; LANES rows of the source; a row resampled down */
    quad *columns;              /* the lines, as columns */
} pass;

static void transpose(quad q[LANES]) {
    const quad a = __builtin_shufflevector(q[0], q[1], 0, 4, 1, 5), b = __builtin_shufflevector(q[0], q[1], 2, 6, 3, 7);
    const quad c = __builtin_shufflevector(q[2], q[3], 0, 4, 1, 5), d = __builtin_shufflevector(q[2], q[3], 2, 6, 3, 7);
    q[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
    q[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
    q[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
    q[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}

/* Four rows from `row` on (the last one again where there are fewer) to p->columns. */
static void load_columns(const pass *p, const void *plane, int row) {
    const int begin = filter_begin(&p->across), count = filter_end(&p->across) - begin;
    for (int lane = 0; lane < LANES; lane++) {
        const int y = row + lane < p->height ? row + lane : p->height - 1;
        const size_t at = (size_t)y * (size_t)p->width + (size_t)begin;
        float *line = p->lines + (size_t)lane * p->stride;
        if (p->dtype == CR_F32)
            memcpy(line, (const float *)plane + at, (size_t)count * sizeof *line);
        else
            for (int x = 0; x < count; x++)
                line[x] = ((const uint8_t *)plane)[at + (size_t)x];
    }
    for (int x = 0; x < count; x += LANES) {
        quad q[LANES];
        for (size_t lane = 0; lane < LANES; lane++)
            memcpy(&q[lane], p->lines + lane * p->stride + x, sizeof q[lane]);
        transpose(q);
        memcpy(p->columns + x, q, sizeof q);
    }
}

static quad weighted_sum(const float *weights, const quad *columns, int count) {
    quad sum = {0};
    for (int k = 0; k < count; k++)
        sum += weights[k] * columns[k];
    return sum;
}

/* p->columns to four rows. */
static void resample_across(const pass *p, float *rows) {
    const filter *f = &p->across;
    for (int x = 0; x < f->outputs; x += LANES) {
        quad q[LANES] = {{0}};
        for (int i = 0; i < LANES && x + i < f->outputs; i++)
            q[i] = weighted_sum(f->weights + (size_t)(x + i) * (size_t)f->taps,
                                p->columns + (f->first[x + i] - filter_begin(f)), f->count[x + i]);
        transpose(q);
        for (size_t lane = 0; lane < LANES; lane++)
            memcpy(rows + lane * p->stride + x, &q[lane], sizeof q[lane]);
    }
}

/* ---------------------------------------------------------------- down */
static void store(cr_dtype dtype, const float *sums, void *plane, size_t at, int width) {
    if (dtype == CR_F32)
        memcpy((float *)plane + at, sums, (size_t)width * sizeof *sums);
    else
        for (int x = 0; x < width; x++) {
            const float rounded = sums[x] + 0.5f;
            ((uint8_t *)plane)[at + (size_t)x] = (uint8_t)(int)(rounded < 255.0f ? rounded : 255.0f);
        }
}

/* p->rows to a plane of as many rows and columns as the filters have outputs. */
static void resample_down(const pass *p, void *plane) {
    const filter *f = &p->down;
    const int width = p->across.outputs;
    for (int y = 0; y < f->outputs; y++) {
        const float *weights = f->weights + (size_t)y * (size_t)f->taps;
        const float *row = p->rows + (size_t)(f->first[y] - filter_begin(f)) * p->stride;
        memset(p->sums, 0, (size_t)width * sizeof *p->sums);
        for (int k = 0; k < f->count[y]; k++, row += p->stride)
            for (int x = 0; x < width; x++)
                p->sums[x] += weights[k] * row[x];
        store(p->dtype, p->sums, plane, (size_t)y * (size_t)width, width);
    }
}

/* ---------------------------------------------------------------- pictures */
static size_t whole_lanes(int count) { return (size_t)(count + LANES - 1) / LANES * LANES; }

static bool pass_make(pass *p, const cr_image_planes *in, const cr_image_part *part, const cr_image_planes *out) {
    if (!filter_make(&p->across, in->width, part->whole_width, part->left, out->width) ||
        !filter_make(&p->down, in->height, part->whole_height, part->top, out->height))
        return false;
    const size_t read = whole_lanes(filter_end(&p->across) - filter_begin(&p->across));
    p->stride = whole_lanes(out->width) > read ? whole_lanes(out->width) : read;
    const size_t rows = whole_lanes(filter_end(&p->down) - filter_begin(&p->down));
    p->columns = cr_malloc(p->stride * (sizeof *p->columns + (LANES + 1 + rows) * sizeof(float)));
    if (!p->columns) return false;
    p->lines = (float *)(p->columns + p->stride);
    p->sums = p->lines + LANES * p->stride;
    p->rows = p->sums + p->stride;
    return true;
}

static void pass_free(pass *p) {
    filter_free(&p->across);
    filter_free(&p->down);
    cr_free(p->columns);
}

bool cr_image_resize(cr_dtype dtype, const cr_image_planes *in, const cr_image_part *part, const cr_image_planes *out) {
    if (!cr_image_check_size(in->width, in->height, "resize") ||
        !cr_image_check_size(part->whole_width, part->whole_height, "resize"))
        return false;
    if (dtype != CR_U8 && dtype != CR_F32)
        return cr_fail(CR_ERROR_DTYPE, "resize: u8 or f32 is needed, got %s", cr_dtype_name(dtype));
    pass p = {.dtype = dtype, .width = in->width, .height = in->height};
    const bool done = pass_make(&p, in, part, out);
    const size_t item = cr_dtype_size(dtype), in_bytes = (size_t)in->width * (size_t)in->height * item;
    const size_t out_bytes = (size_t)out->width * (size_t)out->height * item;
    for (int64_t c = 0; done && c < in->count; c++) {
        for (int y = filter_begin(&p.down); y < filter_end(&p.down); y += LANES) {
            load_columns(&p, (const char *)in->data + (size_t)c * in_bytes, y);
            resample_across(&p, p.rows + (size_t)(y - filter_begin(&p.down)) * p.stride);
        }
        resample_down(&p, (char *)out->data + (size_t)c * out_bytes);
    }
    pass_free(&p);
    return done;
}
