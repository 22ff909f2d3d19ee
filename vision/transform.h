/* What the transforms share: settings that are numbers, and checks of sizes. */
#ifndef CRESSET_VISION_TRANSFORM_H
#define CRESSET_VISION_TRANSFORM_H

#include "vision/image.h"

/* The settings of most transforms; each uses some. */
typedef struct cr_vision_settings {
    int64_t height, width, padding;
    int channels;
    double fill, probability;
    /* Crops: which part of an image of those sides; false and an error where it has none. */
    bool (*place)(const struct cr_vision_settings *self, int64_t height, int64_t width, cr_generator_state *random,
                  cr_vision_part *part);
} cr_vision_settings;

/* A transform whose `self` is a copy of the settings; the table frees it with cr_free. */
cr_vision_transform *cr_vision_transform_of(const cr_vision_transform_table *table, cr_vision_settings settings);

/* The `apply` of all crops, by which a composition knows them: it pads, places and cuts. */
cr_tensor *cr_vision_crop_apply(void *self, cr_tensor *image, cr_generator_state *random);

static inline bool cr_vision_check_size(const char *name, int64_t height, int64_t width) {
    return (height >= 1 && width >= 1 && height <= 1 << 15 && width <= 1 << 15) ||
           cr_fail(CR_ERROR_ARGUMENT, "%s: %lld x %lld; sides of 1 to 32768 can be had", name, (long long)height,
                   (long long)width);
}
static inline bool cr_vision_check_probability(const char *name, double probability) {
    return (probability >= 0 && probability <= 1) ||
           cr_fail(CR_ERROR_ARGUMENT, "%s: a probability from 0 to 1 is needed, got %g", name, probability);
}

#endif
