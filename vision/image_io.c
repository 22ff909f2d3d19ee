/* Image files to tensors and back. */
#include "vision/image.h"
#include "core/file.h"
#include "core/image.h"
#include "core/tensor.h"

#include <string.h>

enum { MAX_FILE_BYTES = 1 << 30 };

/* ---------------------------------------------------------------- views */
bool cr_vision_open(const cr_tensor *image, const char *name, cr_vision_view *view) {
    char text[224];
    if (!cr_tensor_check(image, name)) return false;
    const cr_dtype dtype = cr_dtype_of(image);
    if (image->device.type != CR_DEVICE_CPU)
        return cr_fail(CR_ERROR_DEVICE, "%s: an image on the CPU is needed, got %s", name, cr_describe(image, text));
    if (dtype != CR_U8 && dtype != CR_F32)
        return cr_fail(CR_ERROR_DTYPE, "%s: an image of u8 or f32 is needed, got %s", name, cr_describe(image, text));
    if (image->ndim != 3 || image->numel == 0)
        return cr_fail(CR_ERROR_SHAPE, "%s: an image [channels, height, width] is needed, got %s", name,
                       cr_describe(image, text));
    *view = (cr_vision_view){
        .dtype = dtype, .channels = image->sizes[0], .height = image->sizes[1], .width = image->sizes[2]};
    if (cr_is_contiguous(image)) {
        view->tensor = (cr_tensor *)(uintptr_t)image; /* only read through this view */
    } else {
        view->tensor = cr_empty(dtype, cr_tensor_shape(image), CR_CPU);
        if (!view->tensor ||
            !cr_copy_to_host(image, cr_data(view->tensor), (size_t)image->numel * cr_dtype_size(dtype)))
            return false;
    }
    view->data = cr_data(view->tensor);
    return true;
}

bool cr_vision_check_sides(int64_t height, int64_t width) {
    return (height >= 1 && width >= 1 && height <= CR_IMAGE_MAX_SIDE && width <= CR_IMAGE_MAX_SIDE) ||
           cr_fail(CR_ERROR_SHAPE, "an image of %lld x %lld pixels; sides of 1 to %d can be had", (long long)width,
                   (long long)height, (int)CR_IMAGE_MAX_SIDE);
}

bool cr_vision_create(cr_dtype dtype, int64_t channels, int64_t height, int64_t width, cr_vision_view *view) {
    if (!cr_vision_check_sides(height, width)) return false;
    *view = (cr_vision_view){.dtype = dtype, .channels = channels, .height = height, .width = width};
    view->tensor = cr_empty(dtype, CR_SHAPE(channels, height, width), CR_CPU);
    if (!view->tensor) return false;
    view->data = cr_data(view->tensor);
    return true;
}

/* ---------------------------------------------------------------- reading */
static cr_tensor *decode(const void *bytes, size_t size, cr_vision_mode mode, const char *name) {
    cr_image image;
    if (!cr_image_decode(bytes, size, (int)mode, name, &image)) return NULL;
    cr_tensor *tensor = cr_image_to_tensor(&image);
    cr_image_free(&image);
    return tensor;
}

cr_tensor *cr_vision_decode_image(const void *bytes, size_t size, cr_vision_mode mode) {
    return decode(bytes, size, mode, "decode_image");
}

cr_tensor *cr_vision_read_image(const char *path, cr_vision_mode mode) {
    size_t size;
    void *bytes = cr_file_load(path, MAX_FILE_BYTES, &size);
    cr_tensor *tensor = bytes ? decode(bytes, size, mode, path) : NULL;
    cr_free(bytes);
    return tensor;
}

/* ---------------------------------------------------------------- writing */
static bool encode(const cr_tensor *tensor, int quality, bool is_jpg, uint8_t **bytes, size_t *size) {
    cr_image image;
    *bytes = NULL;
    *size = 0;
    if (!cr_image_from_tensor(tensor, &image)) return false;
    const bool done =
        is_jpg ? cr_image_encode_jpg(&image, quality, bytes, size) : cr_image_encode_png(&image, bytes, size);
    cr_image_free(&image);
    return done;
}

static bool write_file(const char *path, const uint8_t *bytes, size_t size) {
    cr_file_writer *writer = cr_file_writer_begin(path);
    cr_file_writer_write(writer, bytes, size);
    return writer && cr_file_writer_commit(writer);
}

bool cr_vision_encode_png(const cr_tensor *image, uint8_t **bytes, size_t *size) {
    if (!bytes || !size) return cr_fail(CR_ERROR_ARGUMENT, "encode_png: room for the bytes and their number is needed");
    return encode(image, 0, false, bytes, size);
}

bool cr_vision_encode_jpg(const cr_tensor *image, int quality, uint8_t **bytes, size_t *size) {
    if (!bytes || !size) return cr_fail(CR_ERROR_ARGUMENT, "encode_jpg: room for the bytes and their number is needed");
    return encode(image, quality, true, bytes, size);
}

bool cr_vision_write_png(const char *path, const cr_tensor *image) {
    uint8_t *bytes;
    size_t size;
    const bool done = encode(image, 0, false, &bytes, &size) && write_file(path, bytes, size);
    cr_free(bytes);
    return done;
}

bool cr_vision_write_jpg(const char *path, const cr_tensor *image, int quality) {
    uint8_t *bytes;
    size_t size;
    const bool done = encode(image, quality, true, &bytes, &size) && write_file(path, bytes, size);
    cr_free(bytes);
    return done;
}
