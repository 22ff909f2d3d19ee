/* Still pictures in memory: decoding and encoding through stb, and resizing, for vision/ and summary/ alike.
 * Without the image libraries (CRESSET_IMAGES=OFF) decoding and encoding fail with CR_ERROR_UNSUPPORTED. */
#ifndef CRESSET_CORE_IMAGE_H
#define CRESSET_CORE_IMAGE_H

#include <cresset/core.h>

/* What a picture may measure at most, on a side and in all: larger ones are refused before memory is taken. */
enum { CR_IMAGE_MAX_SIDE = 1 << 15, CR_IMAGE_MAX_PIXELS = 1 << 27 };

/* Interleaved rows from the top: pixels[(y * width + x) * channels + c]. 1 grey, 2 grey+alpha, 3 RGB, 4 RGBA. */
typedef struct cr_image {
    int width, height, channels;
    uint8_t *pixels; /* from cr_malloc */
} cr_image;

/* False and an error unless the sides are within those limits; `name` stands in the message. */
bool cr_image_check_size(int64_t width, int64_t height, const char *name);
/* Frees the pixels; NULL and an empty image are ignored. */
void cr_image_free(cr_image *image);

/* Decodes PNG, JPEG or BMP. `channels` 0 keeps the file's own number; 1 to 4 converts. `name` stands in messages (a
 * path). CR_ERROR_FORMAT for damaged bytes (PNG checksums are verified, a cut-off JPEG or BMP is refused),
 * CR_ERROR_UNSUPPORTED for other formats. 16-bit pictures lose their low byte. */
bool cr_image_decode(const void *bytes, size_t size, int channels, const char *name, cr_image *image);

/* The first step of cr_image_decode: true where the bytes are a whole, undamaged container of a known format. */
bool cr_image_check_container(const uint8_t *bytes, size_t size, const char *name);

/* Encodes into memory from cr_malloc, for cr_free. */
bool cr_image_encode_png(const cr_image *image, uint8_t **bytes, size_t *size);
bool cr_image_encode_jpg(const cr_image *image, int quality, uint8_t **bytes, size_t *size); /* quality 1 … 100 */

/* A picture from a tensor [channels, height, width] or [height, width], on any device, of any strides: u8 as it is;
 * floats are x * 255 + 0.5, clamped and cut (NaN is 0), as torchvision's save_image does. */
bool cr_image_from_tensor(const cr_tensor *t, cr_image *image);
/* The tensor u8 [channels, height, width], owned by the innermost scope. */
cr_tensor *cr_image_to_tensor(const cr_image *image);

/* Dense planes of u8 or f32, [count, height, width]. */
typedef struct cr_image_planes {
    void *data;
    int64_t count;
    int height, width;
} cr_image_planes;

/* A part of a picture of those sizes. */
typedef struct cr_image_part {
    int whole_height, whole_width, top, left;
} cr_image_part;

/* Resampled with a triangle filter that widens when shrinking (antialiased bilinear, as PIL's BILINEAR; resample.c):
 * `out` becomes the part of the resized picture that begins at (top, left), the same values that a part cut from the
 * whole would hold. The part lies inside. */
bool cr_image_resize(cr_dtype dtype, const cr_image_planes *in, const cr_image_part *part, const cr_image_planes *out);

#endif
