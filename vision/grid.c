/* make_grid and save_image (torchvision.utils). */
#include "core/dtype.h"
#include "core/tensor.h"
#include "vision/image.h"

#include <math.h>
#include <string.h>
#include <strings.h>

/* A batch in host memory: f32 or u8 [count, channels, height, width]. */
typedef struct batch {
    cr_tensor *tensor;
    int64_t count, channels, height, width;
} batch;

static float float_at(const void *data, cr_dtype dtype, int64_t i) {
    switch (dtype) {
    case CR_F16: return cr_f16_to_f32(((const uint16_t *)data)[i]);
    case CR_BF16: return cr_bf16_to_f32(((const uint16_t *)data)[i]);
    case CR_F64: return (float)((const double *)data)[i];
    case CR_F32: return ((const float *)data)[i];
    default: return ((const uint8_t *)data)[i];
    }
}

/* A contiguous copy on the CPU, in the same dtype. */
static cr_tensor *to_host(const cr_tensor *t) {
    cr_tensor *copy = cr_empty((cr_dtype)t->dtype, cr_tensor_shape(t), CR_CPU);
    if (!copy || !cr_copy_to_host(t, cr_data(copy), (size_t)t->numel * cr_dtype_size((cr_dtype)t->dtype))) return NULL;
    return copy;
}

/* The same values as f32. */
static cr_tensor *to_f32(const cr_tensor *host) {
    cr_tensor *copy = cr_empty(CR_F32, cr_tensor_shape(host), CR_CPU);
    if (!copy) return NULL;
    for (int64_t i = 0; i < host->numel; i++)
        cr_data_f32(copy)[i] = float_at(cr_data(host), (cr_dtype)host->dtype, i);
    return copy;
}

static bool open_batch(const cr_tensor *images, bool normalize, batch *b) {
    char text[224];
    if (!cr_tensor_check(images, "make_grid")) return false;
    const cr_shape shape = cr_tensor_shape(images);
    const int first = shape.count - 3;
    if (first < 0 || first > 1 || images->numel == 0 || (shape.at[first] != 1 && shape.at[first] != 3))
        return cr_fail(CR_ERROR_SHAPE, "make_grid: [count, 1 or 3 channels, height, width] is needed, got %s",
                       cr_describe(images, text));
    if (images->dtype != CR_U8 && !cr_dtype_is_floating((cr_dtype)images->dtype))
        return cr_fail(CR_ERROR_DTYPE, "make_grid: u8 or a float dtype is needed, got %s", cr_describe(images, text));
    cr_tensor *host = to_host(images);
    if (host && host->dtype != CR_F32 && (host->dtype != CR_U8 || normalize)) host = to_f32(host);
    if (!host) return false;
    *b = (batch){host, first ? shape.at[0] : 1, shape.at[first], shape.at[first + 1], shape.at[first + 2]};
    return true;
}

/* Maps [low, high] to [0, 1]; where they are equal, the values' own extremes. */
static void normalize(float *values, int64_t count, double low, double high) {
    if (low == high) {
        low = INFINITY, high = -INFINITY;
        for (int64_t i = 0; i < count; i++) {
            low = fmin(low, values[i]);
            high = fmax(high, values[i]);
        }
    }
    const double range = fmax(high - low, 1e-5);
    for (int64_t i = 0; i < count; i++)
        values[i] = (float)((fmin(fmax(values[i], low), high) - low) / range);
}

/* Image `index` into the grid with its corner at (top, left); one channel stands for three. */
static void place(const batch *b, int64_t index, cr_vision_view *grid, int64_t top, int64_t left) {
    const size_t item = cr_dtype_size(grid->dtype);
    for (int64_t c = 0; c < 3; c++)
        for (int64_t y = 0; y < b->height; y++) {
            const int64_t source = ((index * b->channels + (b->channels == 1 ? 0 : c)) * b->height + y) * b->width;
            const int64_t target = (c * grid->height + top + y) * grid->width + left;
            memcpy((char *)grid->data + (size_t)target * item, (char *)cr_data(b->tensor) + (size_t)source * item,
                   (size_t)b->width * item);
        }
}

static cr_tensor *arrange(const batch *b, const cr_vision_grid_options *options) {
    const int64_t columns = b->count < options->row ? b->count : options->row;
    const int64_t rows = (b->count + columns - 1) / columns;
    const int64_t padding = b->count == 1 ? 0 : options->padding;
    const int64_t step_y = b->height + padding, step_x = b->width + padding;
    cr_vision_view grid;
    if (!cr_vision_create((cr_dtype)b->tensor->dtype, 3, rows * step_y + padding, columns * step_x + padding, &grid))
        return NULL;
    for (int64_t i = 0; i < 3 * grid.height * grid.width; i++) {
        if (grid.dtype == CR_U8)
            grid.u8[i] = cr_vision_u8((float)options->pad_value);
        else
            grid.f32[i] = (float)options->pad_value;
    }
    for (int64_t i = 0; i < b->count; i++)
        place(b, i, &grid, padding + i / columns * step_y, padding + i % columns * step_x);
    return grid.tensor;
}

cr_tensor *cr_vision_make_grid_with(const cr_tensor *images, const cr_vision_grid_options *given) {
    cr_vision_grid_options options = {.row = 8, .padding = 2};
    CR_VISION_TAKE_OPTIONS(options, given);
    batch b;
    if (options.row < 1 || options.padding < 0 || options.padding > 1 << 14 || !(options.low <= options.high)) {
        cr_record_error(CR_ERROR_ARGUMENT, "make_grid: row %lld, padding %lld, values from %g to %g",
                        (long long)options.row, (long long)options.padding, options.low, options.high);
        return NULL;
    }
    cr_tensor *grid = NULL;
    CR_SCOPE {
        if (open_batch(images, options.normalize, &b)) {
            const int64_t parts = options.scale_each ? b.count : 1, each = b.tensor->numel / parts;
            for (int64_t i = 0; options.normalize && i < parts; i++)
                normalize(cr_data_f32(b.tensor) + i * each, each, options.low, options.high);
            grid = cr_keep(arrange(&b, &options));
        }
    }
    return grid;
}

static bool is_jpg(const char *path) {
    const char *ending = strrchr(path, '.');
    return ending && (strcasecmp(ending, ".jpg") == 0 || strcasecmp(ending, ".jpeg") == 0);
}

bool cr_vision_save_image_with(const cr_tensor *images, const char *path, const cr_vision_grid_options *options) {
    bool done = false;
    if (!path) return cr_fail(CR_ERROR_ARGUMENT, "save_image: the path is NULL");
    CR_SCOPE {
        cr_tensor *grid = cr_vision_make_grid_with(images, options);
        if (grid) done = is_jpg(path) ? cr_vision_write_jpg(path, grid, 95) : cr_vision_write_png(path, grid);
    }
    return done;
}
