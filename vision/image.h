/* What the functions of images share. */
#ifndef CRESSET_VISION_IMAGE_H
#define CRESSET_VISION_IMAGE_H

#include <cresset/vision.h>

/* A contiguous image [channels, height, width] of u8 or f32 on the CPU. */
typedef struct cr_vision_view {
    cr_tensor *tensor;
    cr_dtype dtype;
    int64_t channels, height, width;
    union {
        void *data;
        uint8_t *u8;
        float *f32;
    };
} cr_vision_view;

/* Looks into `image`, through a contiguous copy where it needs one. False and an error for anything else; `name` stands
 * in the message. */
bool cr_vision_open(const cr_tensor *image, const char *name, cr_vision_view *view);
/* False and an error unless both are sides that an image may have. */
bool cr_vision_check_sides(int64_t height, int64_t width);
/* A new, uninitialised image. */
bool cr_vision_create(cr_dtype dtype, int64_t channels, int64_t height, int64_t width, cr_vision_view *view);

/* A rectangle of an image. */
typedef struct cr_vision_part {
    int64_t top, left, height, width;
} cr_vision_part;

/* The middle of an image of those sides, rounded half to even, as Python's round. */
cr_vision_part cr_vision_middle(int64_t image_height, int64_t image_width, int64_t height, int64_t width);
/* What crop makes of the image resized to height x width: where the part lies inside, nothing else is computed. */
cr_tensor *cr_vision_image_resize_and_crop(const cr_tensor *image, int64_t height, int64_t width, cr_vision_part part);
/* What normalize makes of to_tensor's. */
cr_tensor *cr_vision_image_to_normalized(const cr_tensor *image, int channels, const float *mean,
                                         const float *deviation);

/* A value as u8, cut as PyTorch's conversion does, after clamping. */
static inline uint8_t cr_vision_u8(float value) { return value >= 255.0f ? 255 : value > 0.0f ? (uint8_t)value : 0; }

/* Copies options over defaults, as far as the caller's struct reaches. */
#define CR_VISION_TAKE_OPTIONS(options, given)                                                                         \
    do {                                                                                                               \
        if (given) memcpy(&(options), given, (given)->size < sizeof(options) ? (given)->size : sizeof(options));       \
    } while (0)

#endif
