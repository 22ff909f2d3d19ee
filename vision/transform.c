/* Transforms: the handle, composition, and those that do the same to every image. */
#include "vision/transform.h"

#include <math.h>
#include <string.h>

struct cr_vision_transform {
    const cr_vision_transform_table *table;
    void *self;
};

cr_vision_transform *cr_vision_transform_new(const cr_vision_transform_table *table, void *self) {
    cr_vision_transform *transform = NULL;
    if (!table || !table->apply)
        cr_record_error(CR_ERROR_ARGUMENT, "transform: a table with apply is needed");
    else
        transform = cr_malloc(sizeof *transform);
    if (transform)
        *transform = (cr_vision_transform){table, self};
    else if (table && table->free)
        table->free(self);
    return transform;
}

void cr_vision_transform_free(cr_vision_transform *transform) {
    if (!transform) return;
    if (transform->table->free) transform->table->free(transform->self);
    cr_free(transform);
}

cr_tensor *cr_vision_transform_apply(cr_vision_transform *transform, cr_tensor *image, cr_generator_state *random) {
    cr_generator_state own = cr_data_random_for(0, 0, 0);
    if (!transform) {
        cr_record_error(CR_ERROR_ARGUMENT, "transform: NULL");
        return NULL;
    }
    if (!image) {
        cr_record_error(CR_ERROR_ARGUMENT, "%s: the image is NULL", transform->table->name);
        return NULL;
    }
    cr_tensor *result = transform->table->apply(transform->self, image, random ? random : &own);
    if (!result) cr_record_error(CR_ERROR_STATE, "%s: failed without saying why", transform->table->name);
    return result;
}

/* ---------------------------------------------------------------- over a dataset */
static bool apply_to_sample(void *context, cr_generator_state *random, cr_data_sample *sample) {
    sample->fields[0] = cr_vision_transform_apply(context, sample->fields[0], random);
    return sample->fields[0] != NULL;
}
static void free_transform(void *context) { cr_vision_transform_free(context); }

cr_data_dataset *cr_vision_transform_dataset(cr_data_dataset *dataset, cr_vision_transform *transform) {
    if (!transform) return dataset;
    return cr_data_map(dataset, apply_to_sample, transform, free_transform);
}

/* ---------------------------------------------------------------- with numbers as settings */
cr_vision_transform *cr_vision_transform_of(const cr_vision_transform_table *table, cr_vision_settings settings) {
    cr_vision_settings *self = cr_malloc(sizeof *self);
    if (!self) return NULL;
    *self = settings;
    return cr_vision_transform_new(table, self);
}

/* The sides that resize gives an image of height x width: a whole number of both, or the shorter one's, where the longer
 * one is cut to a whole number, as torchvision does. */
static void resized_sides(const cr_vision_settings *s, int64_t *height, int64_t *width) {
    const int64_t h = *height, w = *width;
    *height = s->width || h <= w ? s->height : s->height * h / w;
    *width = s->width ? s->width : h <= w ? s->height * w / h : s->height;
}

static cr_tensor *resize_apply(void *self, cr_tensor *image, cr_generator_state *random) {
    (void)random;
    cr_vision_view in;
    if (!cr_vision_open(image, "resize", &in)) return NULL;
    resized_sides(self, &in.height, &in.width);
    return cr_vision_image_resize(image, in.height, in.width);
}
static const cr_vision_transform_table resize_table = {"resize", resize_apply, cr_free};

cr_vision_transform *cr_vision_resize(int64_t size) {
    if (!cr_vision_check_size("resize", size, size)) return NULL;
    return cr_vision_transform_of(&resize_table, (cr_vision_settings){.height = size});
}
cr_vision_transform *cr_vision_resize_to(int64_t height, int64_t width) {
    if (!cr_vision_check_size("resize_to", height, width)) return NULL;
    return cr_vision_transform_of(&resize_table, (cr_vision_settings){.height = height, .width = width});
}

cr_tensor *cr_vision_crop_apply(void *self, cr_tensor *image, cr_generator_state *random) {
    const cr_vision_settings *s = self;
    cr_vision_view in;
    cr_vision_part part;
    if (s->padding) image = cr_vision_image_pad(image, s->padding, s->padding, s->padding, s->padding, s->fill);
    if (!image || !cr_vision_open(image, "crop", &in) || !s->place(s, in.height, in.width, random, &part)) return NULL;
    return cr_vision_image_crop(image, part.top, part.left, part.height, part.width);
}

static bool place_in_the_middle(const cr_vision_settings *s, int64_t height, int64_t width, cr_generator_state *random,
                                cr_vision_part *part) {
    (void)random;
    *part = cr_vision_middle(height, width, s->height, s->width);
    return true;
}
cr_vision_transform *cr_vision_center_crop(int64_t height, int64_t width) {
    static const cr_vision_transform_table table = {"center_crop", cr_vision_crop_apply, cr_free};
    if (!cr_vision_check_size("center_crop", height, width)) return NULL;
    return cr_vision_transform_of(&table,
                                  (cr_vision_settings){.height = height, .width = width, .place = place_in_the_middle});
}

static cr_tensor *pad_apply(void *self, cr_tensor *image, cr_generator_state *random) {
    (void)random;
    const cr_vision_settings *s = self;
    return cr_vision_image_pad(image, s->padding, s->padding, s->padding, s->padding, s->fill);
}
cr_vision_transform *cr_vision_pad(int64_t padding, double fill) {
    static const cr_vision_transform_table table = {"pad", pad_apply, cr_free};
    return cr_vision_transform_of(&table, (cr_vision_settings){.padding = padding, .fill = fill});
}

static cr_tensor *grayscale_apply(void *self, cr_tensor *image, cr_generator_state *random) {
    (void)random;
    return cr_vision_image_to_grayscale(image, ((const cr_vision_settings *)self)->channels);
}
cr_vision_transform *cr_vision_grayscale(int channels) {
    static const cr_vision_transform_table table = {"grayscale", grayscale_apply, cr_free};
    return cr_vision_transform_of(&table, (cr_vision_settings){.channels = channels});
}

static cr_tensor *to_tensor_apply(void *self, cr_tensor *image, cr_generator_state *random) {
    (void)self, (void)random;
    return cr_vision_image_to_tensor(image);
}
cr_vision_transform *cr_vision_to_tensor(void) {
    static const cr_vision_transform_table table = {"to_tensor", to_tensor_apply, NULL};
    return cr_vision_transform_new(&table, NULL);
}

/* ---------------------------------------------------------------- normalize */
typedef struct normalize {
    int channels;
    float values[]; /* means, then deviations */
} normalize;

static cr_tensor *normalize_apply(void *self, cr_tensor *image, cr_generator_state *random) {
    (void)random;
    const normalize *n = self;
    return cr_vision_image_normalize(image, n->channels, n->values, n->values + n->channels);
}

cr_vision_transform *cr_vision_normalize(int channels, const float *mean, const float *deviation) {
    static const cr_vision_transform_table table = {"normalize", normalize_apply, cr_free};
    if (channels < 1 || channels > 4096 || !mean || !deviation) {
        cr_record_error(CR_ERROR_ARGUMENT, "normalize: means and deviations of at least 1 channel are needed, got %d",
                        channels);
        return NULL;
    }
    normalize *self = cr_malloc(sizeof *self + 2 * (size_t)channels * sizeof(float));
    if (!self) return NULL;
    self->channels = channels;
    for (int c = 0; c < channels; c++) {
        self->values[c] = mean[c];
        self->values[channels + c] = deviation[c];
    }
    return cr_vision_transform_new(&table, self);
}

/* ---------------------------------------------------------------- lambda */
typedef struct lambda {
    cr_tensor *(*function)(cr_tensor *image);
} lambda;

static cr_tensor *lambda_apply(void *self, cr_tensor *image, cr_generator_state *random) {
    (void)random;
    return ((const lambda *)self)->function(image);
}

cr_vision_transform *cr_vision_lambda(cr_tensor *(*function)(cr_tensor *image)) {
    static const cr_vision_transform_table table = {"lambda", lambda_apply, cr_free};
    if (!function) {
        cr_record_error(CR_ERROR_ARGUMENT, "lambda: the function is NULL");
        return NULL;
    }
    lambda *self = cr_malloc(sizeof *self);
    if (!self) return NULL;
    self->function = function;
    return cr_vision_transform_new(&table, self);
}

/* ---------------------------------------------------------------- compose */
typedef struct compose {
    int count;
    cr_vision_transform *parts[];
} compose;

/* A resize with the crop behind it: only the part is resized. */
static cr_tensor *resize_and_crop(const cr_vision_settings *resize, const cr_vision_settings *crop, cr_tensor *image,
                                  cr_generator_state *random) {
    cr_vision_view in;
    cr_vision_part part;
    if (!cr_vision_open(image, "resize", &in)) return NULL;
    resized_sides(resize, &in.height, &in.width);
    if (!crop->place(crop, in.height, in.width, random, &part)) return NULL;
    return cr_vision_image_resize_and_crop(image, in.height, in.width, part);
}

/* Two neighbours at once where that is less work for the same values; false where it is not. */
static bool apply_both(const cr_vision_transform *first, const cr_vision_transform *second, cr_tensor **image,
                       cr_generator_state *random) {
    const bool is_cropped = second->table->apply == cr_vision_crop_apply;
    if (first->table == &resize_table && is_cropped && !((const cr_vision_settings *)second->self)->padding) {
        *image = resize_and_crop(first->self, second->self, *image, random);
        return true;
    }
    if (first->table->apply == to_tensor_apply && second->table->apply == normalize_apply) {
        const normalize *n = second->self;
        *image = cr_vision_image_to_normalized(*image, n->channels, n->values, n->values + n->channels);
        return true;
    }
    return false;
}

static cr_tensor *compose_apply(void *self, cr_tensor *image, cr_generator_state *random) {
    const compose *whole = self;
    for (int i = 0; i < whole->count && image; i++) {
        if (i + 1 < whole->count && apply_both(whole->parts[i], whole->parts[i + 1], &image, random))
            i++;
        else
            image = cr_vision_transform_apply(whole->parts[i], image, random);
    }
    return image;
}
static void compose_free(void *self) {
    compose *whole = self;
    for (int i = 0; i < whole->count; i++)
        cr_vision_transform_free(whole->parts[i]);
    cr_free(whole);
}

cr_vision_transform *cr_vision_compose_of(cr_vision_transform *const *transforms, int count) {
    static const cr_vision_transform_table table = {"compose", compose_apply, compose_free};
    bool is_whole = transforms && count > 0;
    for (int i = 0; is_whole && i < count; i++)
        is_whole = transforms[i] != NULL;
    if (!is_whole) cr_record_error(CR_ERROR_ARGUMENT, "compose: a transform is NULL, or there are none");
    compose *self = is_whole ? cr_malloc(sizeof *self + (size_t)count * sizeof self->parts[0]) : NULL;
    if (!self) {
        for (int i = 0; transforms && i < count; i++)
            cr_vision_transform_free(transforms[i]);
        return NULL;
    }
    self->count = count;
    memcpy(self->parts, transforms, (size_t)count * sizeof self->parts[0]);
    return cr_vision_transform_new(&table, self);
}
