/* Transforms that draw: flips, crops, colour jitter, rotation, random_apply. The draws come from the sample's own
 * stream. */
#include "vision/transform.h"

#include <math.h>
#include <string.h>

static bool happens(double probability, cr_generator_state *random) {
    return cr_data_random_uniform(random, 0, 1) < probability;
}

/* ---------------------------------------------------------------- flips */
static cr_tensor *horizontal_apply(void *self, cr_tensor *image, cr_generator_state *random) {
    const cr_vision_settings *s = self;
    return happens(s->probability, random) ? cr_vision_image_horizontal_flip(image) : image;
}
static cr_tensor *vertical_apply(void *self, cr_tensor *image, cr_generator_state *random) {
    const cr_vision_settings *s = self;
    return happens(s->probability, random) ? cr_vision_image_vertical_flip(image) : image;
}
cr_vision_transform *cr_vision_random_horizontal_flip(double probability) {
    static const cr_vision_transform_table table = {"random_horizontal_flip", horizontal_apply, cr_free};
    if (!cr_vision_check_probability(table.name, probability)) return NULL;
    return cr_vision_transform_of(&table, (cr_vision_settings){.probability = probability});
}
cr_vision_transform *cr_vision_random_vertical_flip(double probability) {
    static const cr_vision_transform_table table = {"random_vertical_flip", vertical_apply, cr_free};
    if (!cr_vision_check_probability(table.name, probability)) return NULL;
    return cr_vision_transform_of(&table, (cr_vision_settings){.probability = probability});
}

/* ---------------------------------------------------------------- random apply */
typedef struct maybe {
    cr_vision_transform *inner;
    double probability;
} maybe;

static cr_tensor *maybe_apply(void *self, cr_tensor *image, cr_generator_state *random) {
    const maybe *m = self;
    return happens(m->probability, random) ? cr_vision_transform_apply(m->inner, image, random) : image;
}
static void maybe_free(void *self) {
    cr_vision_transform_free(((maybe *)self)->inner);
    cr_free(self);
}
cr_vision_transform *cr_vision_random_apply(cr_vision_transform *transform, double probability) {
    static const cr_vision_transform_table table = {"random_apply", maybe_apply, maybe_free};
    maybe *self = NULL;
    if (!transform)
        cr_record_error(CR_ERROR_ARGUMENT, "random_apply: the transform is NULL");
    else if (cr_vision_check_probability(table.name, probability))
        self = cr_malloc(sizeof *self);
    if (!self) {
        cr_vision_transform_free(transform);
        return NULL;
    }
    *self = (maybe){transform, probability};
    return cr_vision_transform_new(&table, self);
}

/* ---------------------------------------------------------------- crops */
static bool place_at_random(const cr_vision_settings *s, int64_t height, int64_t width, cr_generator_state *random,
                            cr_vision_part *part) {
    if (height < s->height || width < s->width)
        return cr_fail(CR_ERROR_SHAPE, "random_crop: %lld x %lld from an image of %lld x %lld; resize or pad it first",
                       (long long)s->width, (long long)s->height, (long long)width, (long long)height);
    const int64_t top = cr_data_random_integer(random, 0, height - s->height + 1);
    const int64_t left = cr_data_random_integer(random, 0, width - s->width + 1);
    *part = (cr_vision_part){top, left, s->height, s->width};
    return true;
}

cr_vision_transform *cr_vision_random_crop_with(const cr_vision_random_crop_options *given) {
    static const cr_vision_transform_table table = {"random_crop", cr_vision_crop_apply, cr_free};
    cr_vision_random_crop_options options = {0};
    CR_VISION_TAKE_OPTIONS(options, given);
    if (!cr_vision_check_size(table.name, options.height, options.width)) return NULL;
    if (options.padding < 0 || options.padding > 1 << 14) {
        cr_record_error(CR_ERROR_ARGUMENT, "random_crop: padding %lld", (long long)options.padding);
        return NULL;
    }
    return cr_vision_transform_of(&table, (cr_vision_settings){.height = options.height,
                                                               .width = options.width,
                                                               .padding = options.padding,
                                                               .fill = options.fill,
                                                               .place = place_at_random});
}

/* A rectangle of random area and shape; after ten tries that do not fit, the largest central one of a fitting shape
 * (torchvision's RandomResizedCrop.get_params). */
static cr_tensor *resized_crop_apply(void *self, cr_tensor *image, cr_generator_state *random) {
    const cr_vision_random_resized_crop_options *o = self;
    cr_vision_view in;
    if (!cr_vision_open(image, "random_resized_crop", &in)) return NULL;
    const double area = (double)(in.height * in.width);
    int64_t height = 0, width = 0, top = -1, left = -1;
    for (int attempt = 0; attempt < 10 && top < 0; attempt++) {
        const double target = area * cr_data_random_uniform(random, o->scale_low, o->scale_high);
        const double ratio = exp(cr_data_random_uniform(random, log(o->ratio_low), log(o->ratio_high)));
        width = (int64_t)nearbyint(sqrt(target * ratio));
        height = (int64_t)nearbyint(sqrt(target / ratio));
        if (width < 1 || height < 1 || width > in.width || height > in.height) continue;
        top = cr_data_random_integer(random, 0, in.height - height + 1);
        left = cr_data_random_integer(random, 0, in.width - width + 1);
    }
    if (top < 0) {
        const double ratio = fmin(fmax((double)in.width / (double)in.height, o->ratio_low), o->ratio_high);
        width = (int64_t)fmin((double)in.width, fmax(1, nearbyint((double)in.height * ratio)));
        height = (int64_t)fmin((double)in.height, fmax(1, nearbyint((double)in.width / ratio)));
        top = (in.height - height) / 2;
        left = (in.width - width) / 2;
    }
    cr_tensor *part = cr_vision_image_crop(image, top, left, height, width);
    return part ? cr_vision_image_resize(part, o->height, o->width) : NULL;
}

cr_vision_transform *cr_vision_random_resized_crop_with(const cr_vision_random_resized_crop_options *given) {
    static const cr_vision_transform_table table = {"random_resized_crop", resized_crop_apply, cr_free};
    cr_vision_random_resized_crop_options options = {
        .scale_low = 0.08, .scale_high = 1, .ratio_low = 3.0 / 4, .ratio_high = 4.0 / 3};
    CR_VISION_TAKE_OPTIONS(options, given);
    if (!cr_vision_check_size(table.name, options.height, options.width)) return NULL;
    if (!(options.scale_low > 0 && options.scale_low <= options.scale_high && options.scale_high <= 1 &&
          options.ratio_low > 0 && options.ratio_low <= options.ratio_high && options.ratio_high < 1e6)) {
        cr_record_error(CR_ERROR_ARGUMENT, "random_resized_crop: scale [%g, %g] and ratio [%g, %g] are no ranges",
                        options.scale_low, options.scale_high, options.ratio_low, options.ratio_high);
        return NULL;
    }
    cr_vision_random_resized_crop_options *self = cr_malloc(sizeof *self);
    if (!self) return NULL;
    *self = options;
    return cr_vision_transform_new(&table, self);
}

/* ---------------------------------------------------------------- colour jitter */
static cr_tensor *jitter_apply(void *self, cr_tensor *image, cr_generator_state *random) {
    static cr_tensor *(*const adjust[4])(const cr_tensor *,
                                         double) = {cr_vision_image_adjust_brightness, cr_vision_image_adjust_contrast,
                                                    cr_vision_image_adjust_saturation, cr_vision_image_adjust_hue};
    const cr_vision_color_jitter_options *o = self;
    const double strength[4] = {o->brightness, o->contrast, o->saturation, o->hue};
    int order[4] = {0, 1, 2, 3};
    for (int i = 3; i > 0; i--) {
        const int64_t other = cr_data_random_integer(random, 0, i + 1);
        const int kind = order[i];
        order[i] = order[other];
        order[other] = kind;
    }
    for (int i = 0; i < 4 && image; i++) {
        const int kind = order[i];
        const double s = strength[kind], middle = kind == 3 ? 0 : 1, lowest = kind == 3 ? -s : fmax(0, 1 - s);
        if (s > 0) image = adjust[kind](image, cr_data_random_uniform(random, lowest, middle + s));
    }
    return image;
}

cr_vision_transform *cr_vision_color_jitter_with(const cr_vision_color_jitter_options *given) {
    static const cr_vision_transform_table table = {"color_jitter", jitter_apply, cr_free};
    cr_vision_color_jitter_options options = {0};
    CR_VISION_TAKE_OPTIONS(options, given);
    if (!(options.brightness >= 0 && options.contrast >= 0 && options.saturation >= 0 && options.hue >= 0 &&
          options.hue <= 0.5)) {
        cr_record_error(CR_ERROR_ARGUMENT, "color_jitter: strengths of at least 0 and a hue of at most 0.5 are needed");
        return NULL;
    }
    cr_vision_color_jitter_options *self = cr_malloc(sizeof *self);
    if (!self) return NULL;
    *self = options;
    return cr_vision_transform_new(&table, self);
}

/* ---------------------------------------------------------------- rotation */
static cr_tensor *rotation_apply(void *self, cr_tensor *image, cr_generator_state *random) {
    const cr_vision_random_rotation_options *o = self;
    return cr_vision_image_rotate(image, cr_data_random_uniform(random, -o->degrees, o->degrees), o->bilinear, o->fill);
}

cr_vision_transform *cr_vision_random_rotation_with(const cr_vision_random_rotation_options *given) {
    static const cr_vision_transform_table table = {"random_rotation", rotation_apply, cr_free};
    cr_vision_random_rotation_options options = {0};
    CR_VISION_TAKE_OPTIONS(options, given);
    if (!(options.degrees >= 0 && options.degrees <= 360)) {
        cr_record_error(CR_ERROR_ARGUMENT, "random_rotation: 0 to 360 degrees are needed, got %g", options.degrees);
        return NULL;
    }
    cr_vision_random_rotation_options *self = cr_malloc(sizeof *self);
    if (!self) return NULL;
    *self = options;
    return cr_vision_transform_new(&table, self);
}
