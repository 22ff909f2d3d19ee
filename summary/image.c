/* Tensors as PNG images in event files: one, or a batch as a grid. */
#ifdef CRESSET_HAS_SUMMARY
#include "core/image.h"
#include "core/tensor.h"
#include "summary/writer.h"

#include <string.h>

/* t as [(N,) C, H, W]: its dims in the order in which `layout` names them; C is added where the layout has none. */
static cr_tensor *channels_first(const char *caller, const cr_tensor *t, const char *layout, const char *wanted) {
    cr_shape shape = {(int)strlen(wanted), {0}}, strides = shape;
    bool fits = (int)strlen(layout) == t->ndim;
    int used = 0;
    for (int i = 0; fits && i < shape.count; i++) {
        const char *place = strchr(layout, wanted[i]);
        shape.at[i] = place ? t->sizes[place - layout] : 1;
        strides.at[i] = place ? t->strides[place - layout] : 0;
        used += place != NULL;
        fits = place || wanted[i] == 'C';
    }
    if (fits && used == t->ndim) return cr_view_raw(t, shape, strides, t->offset);
    char text[224];
    cr_record_error(CR_ERROR_SHAPE,
                    "%s: the tensor is %s, the layout \"%.20s\"; expected a layout with one letter of %s "
                    "for each dim (C may be absent)",
                    caller, cr_describe(t, text), layout, wanted);
    return NULL;
}

static bool append_png(cr_summary_writer *writer, const char *tag, const cr_image *image, int64_t step) {
    uint8_t *png = NULL;
    size_t bytes = 0;
    const bool ok =
        cr_image_encode_png(image, &png, &bytes) &&
        cr_summary_encoded_image(writer, tag, png, bytes, image->height, image->width, image->channels, step);
    cr_free(png);
    return ok;
}

/* The part of both functions that they check alike. */
static bool read_options(const char *caller, const cr_summary_writer *writer, const cr_tensor *t,
                         cr_summary_image_options *result, const cr_summary_image_options *given) {
    *result = (cr_summary_image_options){.size = sizeof *result, .padding = 2};
    if (given) memcpy(result, given, given->size < sizeof *result ? given->size : sizeof *result);
    if (!writer)
        return cr_fail(CR_ERROR_ARGUMENT, "%s: the writer is NULL; was cr_summary_writer_open checked?", caller);
    if (result->columns < 0 || result->padding < 0)
        return cr_fail(CR_ERROR_ARGUMENT, "%s: columns %d, padding %d; neither can be negative", caller,
                       result->columns, result->padding);
    return cr_tensor_check(t, caller);
}

bool cr_summary_image_with(cr_summary_writer *writer, const char *tag, const cr_tensor *image, int64_t step,
                           const cr_summary_image_options *options) {
    cr_summary_image_options chosen;
    if (!read_options("summary_image", writer, image, &chosen, options)) return false;
    if (!chosen.layout) chosen.layout = image->ndim == 2 ? "HW" : "CHW";
    bool ok = false;
    CR_SCOPE {
        cr_image pixels = {0};
        const cr_tensor *planes = channels_first("summary_image", image, chosen.layout, "CHW");
        ok = planes && cr_image_from_tensor(planes, &pixels) && append_png(writer, tag, &pixels, step);
        cr_image_free(&pixels);
    }
    return ok;
}

/* ---------------------------------------------------------------- grids */

static int square_columns(int64_t count) {
    int columns = 1;
    while ((int64_t)columns * columns < count)
        columns++;
    return columns;
}

/* Black, large enough for `count` images of this size, each with padding on all sides (shared between neighbours). */
static bool make_grid(cr_image *grid, const cr_tensor *images, int columns, int padding) {
    const int64_t count = images->sizes[0], channels = images->sizes[1], rows = (count + columns - 1) / columns;
    const int64_t cell_height = images->sizes[2] + padding, cell_width = images->sizes[3] + padding;
    if (cell_height > CR_IMAGE_MAX_SIDE || cell_width > CR_IMAGE_MAX_SIDE || rows > CR_IMAGE_MAX_SIDE)
        return cr_fail(CR_ERROR_SHAPE, "summary_images: a grid of %lld images of %lld × %lld pixels is too large",
                       (long long)count, (long long)images->sizes[3], (long long)images->sizes[2]);
    const int64_t height = rows * cell_height + padding, width = columns * cell_width + padding;
    if (!cr_image_check_size(width, height, "summary_images")) return false;
    *grid = (cr_image){(int)width, (int)height, (int)channels, cr_calloc((size_t)(width * height), (size_t)channels)};
    return grid->pixels != NULL;
}

static void paste(cr_image *grid, const cr_image *image, int left, int top) {
    const size_t row = (size_t)image->width * (size_t)image->channels;
    for (int y = 0; y < image->height; y++) {
        const size_t place = ((size_t)(top + y) * (size_t)grid->width + (size_t)left) * (size_t)grid->channels;
        memcpy(grid->pixels + place, image->pixels + (size_t)y * row, row);
    }
}

static bool paste_all(cr_image *grid, const cr_tensor *images, int columns, int padding) {
    const cr_shape shape = {3, {images->sizes[1], images->sizes[2], images->sizes[3]}};
    const cr_shape strides = {3, {images->strides[1], images->strides[2], images->strides[3]}};
    bool ok = true;
    for (int64_t i = 0; ok && i < images->sizes[0]; i++) {
        CR_SCOPE {
            cr_image image = {0};
            const cr_tensor *one = cr_view_raw(images, shape, strides, images->offset + i * images->strides[0]);
            ok = one && cr_image_from_tensor(one, &image);
            if (ok)
                paste(grid, &image, (int)(i % columns) * (image.width + padding) + padding,
                      (int)(i / columns) * (image.height + padding) + padding);
            cr_image_free(&image);
        }
    }
    return ok;
}

bool cr_summary_images_with(cr_summary_writer *writer, const char *tag, const cr_tensor *images, int64_t step,
                            const cr_summary_image_options *options) {
    cr_summary_image_options chosen;
    if (!read_options("summary_images", writer, images, &chosen, options)) return false;
    if (!chosen.layout) chosen.layout = images->ndim == 3 ? "NHW" : "NCHW";
    if (images->numel == 0) {
        char text[224];
        return cr_fail(CR_ERROR_SHAPE, "summary_images: %s has no pixels", cr_describe(images, text));
    }
    bool ok = false;
    CR_SCOPE {
        const cr_tensor *planes = channels_first("summary_images", images, chosen.layout, "NCHW");
        cr_image grid = {0};
        if (planes) {
            int columns = chosen.columns ? chosen.columns : square_columns(planes->sizes[0]);
            if (columns > planes->sizes[0]) columns = (int)planes->sizes[0];
            ok = make_grid(&grid, planes, columns, chosen.padding) &&
                 paste_all(&grid, planes, columns, chosen.padding) && append_png(writer, tag, &grid, step);
        }
        cr_image_free(&grid);
    }
    return ok;
}
#else
typedef int cr_summary_image_is_absent; /* summary/absent.c stands in */
#endif
