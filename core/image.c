/* Decoding and encoding of pictures through stb, and where the build has libjpeg-turbo, decoding of JPEG through it.
 *
 * stb_image trusts its input more than we do: before it sees a byte the container is checked (image_container.c), and
 * its allocations are bounded by the picture's size, so that a small file cannot ask for gigabytes. stb lets signed
 * integers wrap around, so this file is compiled with -fwrapv. */
#include "core/image.h"
#include "core/dtype.h"
#include "core/jpeg.h"

#include <string.h>

void cr_image_free(cr_image *image) {
    if (!image) return;
    cr_free(image->pixels);
    *image = (cr_image){0};
}

bool cr_image_check_size(int64_t width, int64_t height, const char *name) {
    if (width >= 1 && height >= 1 && width <= CR_IMAGE_MAX_SIDE && height <= CR_IMAGE_MAX_SIDE &&
        width * height <= CR_IMAGE_MAX_PIXELS)
        return true;
    return cr_fail(CR_ERROR_FORMAT,
                   "%s: an image of %lld x %lld pixels; sides of 1 to %d and %d pixels in all can be had", name,
                   (long long)width, (long long)height, (int)CR_IMAGE_MAX_SIDE, (int)CR_IMAGE_MAX_PIXELS);
}

/* ---------------------------------------------------------------- tensors */
static uint8_t byte_of(float value) {
    const float scaled = value * 255.0f + 0.5f;
    return scaled >= 255.0f ? 255 : scaled > 0.0f ? (uint8_t)scaled : 0; /* NaN compares false: 0 */
}

/* Element i of a contiguous buffer as a byte. */
static uint8_t byte_at(const void *data, cr_dtype dtype, int64_t i) {
    switch (dtype) {
    case CR_F32: return byte_of(((const float *)data)[i]);
    case CR_F64: return byte_of((float)((const double *)data)[i]);
    case CR_F16: return byte_of(cr_f16_to_f32(((const uint16_t *)data)[i]));
    case CR_BF16: return byte_of(cr_bf16_to_f32(((const uint16_t *)data)[i]));
    default: return ((const uint8_t *)data)[i];
    }
}

bool cr_image_from_tensor(const cr_tensor *t, cr_image *image) {
    char text[224];
    *image = (cr_image){0};
    if (!t) return cr_fail(CR_ERROR_ARGUMENT, "image: the tensor is NULL");
    const cr_dtype dtype = cr_dtype_of(t);
    if (dtype != CR_U8 && !cr_dtype_is_floating(dtype))
        return cr_fail(CR_ERROR_DTYPE, "image: u8 or a float dtype is needed, got %s", cr_describe(t, text));
    const cr_shape shape = cr_shape_of(t);
    const int64_t channels = shape.count == 3 ? shape.at[0] : 1;
    if ((shape.count != 2 && shape.count != 3) || channels < 1 || channels > 4)
        return cr_fail(CR_ERROR_SHAPE, "image: [1 to 4 channels, height, width] or [height, width] is needed, got %s",
                       cr_describe(t, text));
    const int64_t height = shape.at[shape.count - 2], width = shape.at[shape.count - 1], area = width * height;
    if (!cr_image_check_size(width, height, "image")) return false;
    const size_t bytes = (size_t)(area * channels) * cr_dtype_size(dtype);
    void *planar = cr_malloc(bytes);
    uint8_t *pixels = planar ? cr_malloc((size_t)(area * channels)) : NULL;
    if (!pixels || !cr_copy_to_host(t, planar, bytes)) {
        cr_free(pixels);
        cr_free(planar);
        return false;
    }
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < area; i++)
            pixels[i * channels + c] = byte_at(planar, dtype, c * area + i);
    cr_free(planar);
    *image = (cr_image){(int)width, (int)height, (int)channels, pixels};
    return true;
}

/* RGB pixels, four at a time, to planes: three words (the first byte is the lowest) hold rgbr gbrg brgb. */
static int64_t separate_rgb(const uint8_t *pixels, int64_t area, uint8_t *planar) {
    int64_t i = 0;
    for (; i + 4 <= area; i += 4) {
        uint32_t in[3], out[3];
        memcpy(in, pixels + 3 * i, sizeof in);
        out[0] = (in[0] & 0xff) | in[0] >> 24 << 8 | (in[1] & 0xff0000) | (in[2] & 0xff00) << 16;
        out[1] = (in[0] >> 8 & 0xff) | (in[1] & 0xff) << 8 | in[1] >> 24 << 16 | (in[2] & 0xff0000) << 8;
        out[2] = (in[0] >> 16 & 0xff) | (in[1] & 0xff00) | (in[2] & 0xff) << 16 | (in[2] & 0xff000000);
        for (int c = 0; c < 3; c++)
            memcpy(planar + c * area + i, &out[c], sizeof out[c]);
    }
    return i;
}

cr_tensor *cr_image_to_tensor(const cr_image *image) {
    cr_tensor *t = cr_empty(CR_U8, CR_SHAPE(image->channels, image->height, image->width), CR_CPU);
    uint8_t *planar = cr_data(t);
    if (!planar) return NULL;
    const int64_t area = (int64_t)image->width * image->height;
    const int64_t done = image->channels == 3 ? separate_rgb(image->pixels, area, planar) : 0;
    for (int c = 0; c < image->channels; c++)
        for (int64_t i = done; i < area; i++)
            planar[c * area + i] = image->pixels[i * image->channels + c];
    return t;
}

#ifdef CRESSET_HAS_IMAGES
#include <zlib.h>

/* stb's allocations are ours, counted, and none larger than this thread's limit for the picture at hand. They are
 * zeroed: a JPEG without tables, or with scans missing, would be decoded from what lay there before. */
static _Thread_local size_t allocation_limit;

static void *limited_malloc(size_t bytes) { return bytes <= allocation_limit ? cr_calloc(1, bytes) : NULL; }
static void *limited_realloc(void *block, size_t bytes) {
    return bytes <= allocation_limit ? cr_realloc(block, bytes) : NULL;
}

/* stb_image_write's PNG rows, compressed by zlib. Remembered, since stb loses them where its next allocation fails. */
static _Thread_local unsigned char *compressed_rows;

/* stb asks for zlib's level 8, which takes six times as long as 5 for files of the same size. */
enum { PNG_LEVEL = 5 };

static unsigned char *compress_rows(unsigned char *data, int size, int *compressed_size, int quality) {
    (void)quality;
    uLongf bound = compressBound((uLong)size);
    unsigned char *compressed = cr_malloc(bound);
    if (!compressed) return NULL;
    if (bound > INT32_MAX || compress2(compressed, &bound, data, (uLong)size, PNG_LEVEL) != Z_OK) {
        cr_free(compressed);
        return NULL;
    }
    *compressed_size = (int)bound;
    return compressed_rows = compressed;
}

#pragma GCC diagnostic ignored "-Wunused-function" /* stb declares what it leaves out; told at the end of the file */
#define STBI_ASSERT(condition)    ((void)0)
#define STBI_MALLOC(size)         limited_malloc(size)
#define STBI_REALLOC(block, size) limited_realloc(block, size)
#define STBI_FREE(block)          cr_free(block)
#define STBI_MAX_DIMENSIONS       CR_IMAGE_MAX_SIDE
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#include <stb_image.h>

#define STBIW_ASSERT(condition)    ((void)0)
#define STBIW_MALLOC(size)         cr_malloc(size)
#define STBIW_REALLOC(block, size) cr_realloc(block, size)
#define STBIW_FREE(block)          cr_free(block)
#define STBIW_ZLIB_COMPRESS        compress_rows
#define STBI_WRITE_NO_STDIO
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb_image_write.h>

/* ---------------------------------------------------------------- decoding */
bool cr_image_decode(const void *bytes, size_t size, int channels, const char *name, cr_image *image) {
    int width, height, own_channels;
    *image = (cr_image){0};
    if (!name) name = "image";
    if (!bytes || channels < 0 || channels > 4)
        return cr_fail(CR_ERROR_ARGUMENT, "%s: bytes and 0 to 4 channels are needed, got %p and %d", name, bytes,
                       channels);
    if (!cr_image_check_container(bytes, size, name)) return false;
#ifdef CRESSET_HAS_LIBJPEG
    if (*(const uint8_t *)bytes == 0xff) { /* of the three formats, JPEG */
        if (!cr_jpeg_decode(bytes, size, channels, name, image)) return false;
        if (image->pixels) return true;
    }
#endif
    allocation_limit = 1 << 20; /* for the header */
    if (!stbi_info_from_memory(bytes, (int)size, &width, &height, &own_channels))
        return cr_fail(CR_ERROR_FORMAT, "%s: its header cannot be read, or it is too large", name);
    if (!cr_image_check_size(width, height, name)) return false;
    /* Four channels of 16 bits, sides padded to JPEG's blocks, twice (decompressed and unfiltered). */
    allocation_limit = (size_t)(width + 64) * (size_t)(height + 64) * 16 + (1 << 20);
    uint8_t *pixels = stbi_load_from_memory(bytes, (int)size, &width, &height, &own_channels, channels);
    if (!pixels) return cr_fail(CR_ERROR_FORMAT, "%s: cannot be decoded: %s", name, stbi_failure_reason());
    *image = (cr_image){width, height, channels ? channels : own_channels, pixels};
    return true;
}

/* ---------------------------------------------------------------- encoding */
static bool check_encodable(const cr_image *image) {
    if (!image || !image->pixels || image->channels < 1 || image->channels > 4)
        return cr_fail(CR_ERROR_ARGUMENT, "image: nothing to encode, or not 1 to 4 channels");
    return cr_image_check_size(image->width, image->height, "image");
}

bool cr_image_encode_png(const cr_image *image, uint8_t **bytes, size_t *size) {
    int length = 0;
    *bytes = NULL;
    *size = 0;
    if (!check_encodable(image)) return false;
    *bytes = stbi_write_png_to_mem(image->pixels, image->width * image->channels, image->width, image->height,
                                   image->channels, &length);
    if (!*bytes) {
        cr_free(compressed_rows);
        compressed_rows = NULL;
        return cr_fail(CR_ERROR_MEMORY, "image: cannot encode %d x %d pixels as PNG", image->width, image->height);
    }
    compressed_rows = NULL;
    *size = (size_t)length;
    return true;
}

/* What the JPEG encoder has written so far. */
typedef struct growing {
    uint8_t *bytes;
    size_t size, capacity;
    bool failed;
} growing;

static void append(void *context, void *data, int size) {
    growing *buffer = context;
    if (buffer->failed || size <= 0) return;
    if (buffer->size + (size_t)size > buffer->capacity) {
        const size_t capacity = (buffer->size + (size_t)size) * 2;
        uint8_t *grown = cr_realloc(buffer->bytes, capacity);
        if (!grown) {
            buffer->failed = true;
            return;
        }
        buffer->bytes = grown;
        buffer->capacity = capacity;
    }
    memcpy(buffer->bytes + buffer->size, data, (size_t)size);
    buffer->size += (size_t)size;
}

bool cr_image_encode_jpg(const cr_image *image, int quality, uint8_t **bytes, size_t *size) {
    growing buffer = {0};
    *bytes = NULL;
    *size = 0;
    if (!check_encodable(image)) return false;
    if (quality < 1 || quality > 100) return cr_fail(CR_ERROR_ARGUMENT, "jpg: quality %d; 1 to 100 is needed", quality);
    const int written =
        stbi_write_jpg_to_func(append, &buffer, image->width, image->height, image->channels, image->pixels, quality);
    if (!written || buffer.failed) {
        cr_free(buffer.bytes);
        return cr_fail(CR_ERROR_MEMORY, "image: cannot encode %d x %d pixels as JPEG", image->width, image->height);
    }
    *bytes = buffer.bytes;
    *size = buffer.size;
    return true;
}

#else
static bool without_images(void) {
    return cr_fail(CR_ERROR_UNSUPPORTED,
                   "this build has no image support: build with stb, giflib and zlib (CRESSET_IMAGES)");
}

bool cr_image_decode(const void *bytes, size_t size, int channels, const char *name, cr_image *image) {
    (void)bytes, (void)size, (void)channels, (void)name;
    *image = (cr_image){0};
    return without_images();
}
bool cr_image_encode_png(const cr_image *image, uint8_t **bytes, size_t *size) {
    (void)image;
    *bytes = NULL;
    *size = 0;
    return without_images();
}
bool cr_image_encode_jpg(const cr_image *image, int quality, uint8_t **bytes, size_t *size) {
    (void)quality;
    return cr_image_encode_png(image, bytes, size);
}
#endif
