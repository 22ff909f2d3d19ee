/* Resizing with a triangle filter that widens when shrinking: PIL's BILINEAR, torch's interpolate(antialias=True).
 * Output i covers the input around (i + 0.5) * in / out; what lies beyond the border is left out and the rest weighs
 * more. Rows first, then columns over whole rows, so that the second pass is plain vector arithmetic. */
#include "core/image.h"

#include <math.h>
#include <string.h>

/* For each output: the first input, how many, and their weights (sum 1), `taps` apart. */
typedef struct filter {
    int taps;
    int *first, *count;
    float *weights;
} filter;

static void filter_free(filter *f) {
    cr_free(f->first);
    cr_free(f->weights);
}

static bool filter_make(filter *f, int in, int out) {
    const double scale = (double)in / out, support = scale > 1 ? scale : 1;
    f->taps = (int)ceil(support) * 2 + 1;
    f->first = cr_malloc(2 * (size_t)out * sizeof *f->first);
    f->weights = f->first ? cr_malloc((size_t)out * (size_t)f->taps * sizeof *f->weights) : NULL;
    if (!f->weights) {
        cr_free(f->first);
        return false;
    }
    f->count = f->first + out;
    for (int i = 0; i < out; i++) {
        const double middle = (i + 0.5) * scale;
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

static float apply_f32(const float *row, const float *weights, int count) {
    float sum = 0;
    for (int k = 0; k < count; k++)
        sum += weights[k] * row[k];
    return sum;
}
static float apply_u8(const uint8_t *row, const float *weights, int count) {
    float sum = 0;
    for (int k = 0; k < count; k++)
        sum += weights[k] * row[k];
    return sum;
}

/* source: [height, width] to rows: [height, f's outputs] */
static void resample_rows(cr_dtype dtype, cr_image_plane source, const filter *f, int out, float *rows) {
    for (int y = 0; y < source.height; y++) {
        const char *row = (const char *)source.data + (size_t)y * (size_t)source.stride;
        for (int x = 0; x < out; x++) {
            const float *weights = f->weights + (size_t)x * (size_t)f->taps;
            *rows++ = dtype == CR_U8 ? apply_u8((const uint8_t *)row + f->first[x], weights, f->count[x])
                                     : apply_f32((const float *)row + f->first[x], weights, f->count[x]);
        }
    }
}

/* rows: [f's inputs, width] to target: [height, width], through one row of sums. */
static void resample_columns(cr_dtype dtype, const float *rows, const filter *f, cr_image_plane target, float *sums) {
    const int width = target.width;
    for (int y = 0; y < target.height; y++) {
        memset(sums, 0, (size_t)width * sizeof *sums);
        for (int k = 0; k < f->count[y]; k++) {
            const float weight = f->weights[(size_t)y * (size_t)f->taps + (size_t)k];
            const float *row = rows + (size_t)(f->first[y] + k) * (size_t)width;
            for (int x = 0; x < width; x++)
                sums[x] += weight * row[x];
        }
        char *out = (char *)target.data + (size_t)y * (size_t)target.stride;
        if (dtype == CR_F32)
            memcpy(out, sums, (size_t)width * sizeof *sums);
        else
            for (int x = 0; x < width; x++)
                ((uint8_t *)out)[x] = (uint8_t)fminf(sums[x] + 0.5f, 255.0f);
    }
}

bool cr_image_resize_plane(cr_dtype dtype, cr_image_plane source, cr_image_plane target) {
    if (!cr_image_check_size(source.width, source.height, "resize") ||
        !cr_image_check_size(target.width, target.height, "resize"))
        return false;
    if (dtype != CR_U8 && dtype != CR_F32)
        return cr_fail(CR_ERROR_DTYPE, "resize: u8 or f32 is needed, got %s", cr_dtype_name(dtype));
    filter across = {0}, down = {0};
    if (!filter_make(&across, source.width, target.width)) return false;
    if (!filter_make(&down, source.height, target.height)) {
        filter_free(&across);
        return false;
    }
    float *rows =
        cr_malloc(((size_t)source.height + 1) * (size_t)target.width * sizeof *rows); /* and one row of sums */
    if (rows) {
        resample_rows(dtype, source, &across, target.width, rows);
        resample_columns(dtype, rows, &down, target, rows + (size_t)source.height * (size_t)target.width);
    }
    cr_free(rows);
    filter_free(&across);
    filter_free(&down);
    return rows != NULL;
}
