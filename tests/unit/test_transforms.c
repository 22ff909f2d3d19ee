/* Functions of images and transforms, against hand-computed values, colorsys and torch.nn.functional.grid_sample.
 * Labels: threads
 * Needs: images */
#include "tests/unit/testing.h"
#include "tests/unit/memory_checks.h"

#include <math.h>

/* [channels, height, width] with 100 c + 10 y + x, which names each pixel's place. */
static cr_tensor *places(cr_dtype dtype, int64_t channels, int64_t height, int64_t width) {
    cr_tensor *t = cr_empty(dtype, CR_SHAPE(channels, height, width), CR_CPU);
    for (int64_t i = 0; i < cr_numel(t); i++) {
        const int64_t value = i / (height * width) * 100 + i / width % height * 10 + i % width;
        if (dtype == CR_U8)
            ((uint8_t *)cr_data(t))[i] = (uint8_t)value;
        else
            cr_data_f32(t)[i] = (float)value;
    }
    return t;
}

static double at(const cr_tensor *t, int64_t c, int64_t y, int64_t x) { return cr_at(t, CR_SHAPE(c, y, x)); }

static void assert_shape(const cr_tensor *t, int64_t channels, int64_t height, int64_t width) {
    assert_cr_ok();
    assert_true(cr_shape_equal(cr_shape_of(t), CR_SHAPE(channels, height, width)));
}

static void crops_and_pads_move_pixels(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        cr_tensor *image = places(i ? CR_U8 : CR_F32, 2, 6, 7);
        cr_tensor *crop = cr_vision_image_crop(image, 2, 3, 3, 2);
        assert_shape(crop, 2, 3, 2);
        assert_float_equal(at(crop, 1, 2, 1), 144, 0);
        crop = cr_vision_image_crop(image, -1, 5, 9, 4); /* over three borders */
        assert_shape(crop, 2, 9, 4);
        assert_float_equal(at(crop, 0, 0, 0), 0, 0);
        assert_float_equal(at(crop, 1, 1, 1), 106, 0);
        assert_float_equal(at(crop, 1, 6, 0), 155, 0);
        assert_float_equal(at(crop, 1, 7, 0), 0, 0);
        assert_float_equal(at(crop, 1, 6, 2), 0, 0);
        assert_float_equal(at(cr_vision_image_crop(image, 50, 50, 2, 2), 1, 1, 1), 0, 0); /* outside altogether */
        cr_tensor *padded = cr_vision_image_pad(image, 1, 2, 3, 0, 9);
        assert_shape(padded, 2, 8, 11);
        assert_float_equal(at(padded, 1, 1, 5), 9, 0);
        assert_float_equal(at(padded, 1, 7, 7), 156, 0);
        assert_float_equal(at(padded, 1, 7, 8), 9, 0);
        cr_tensor *centre = cr_vision_image_center_crop(image, 4, 3);
        assert_float_equal(at(centre, 0, 0, 0), 12, 0);
        assert_float_equal(at(cr_vision_image_center_crop(image, 3, 4), 0, 0, 0), 22,
                           0); /* 1.5 rounds to 2, as in Python */
        assert_shape(cr_vision_image_center_crop(image, 10, 3), 2, 10, 3);
    }
    assert_null(cr_vision_image_crop(places(CR_F32, 1, 2, 2), INT64_MIN, 0, 1, 1));
    assert_cr_error(CR_ERROR_ARGUMENT, "too far outside");
    assert_null(cr_vision_image_crop(places(CR_F32, 1, 2, 2), 0, 0, 0, 1));
    assert_cr_error(CR_ERROR_SHAPE, "1 x 0");
    assert_null(cr_vision_image_pad(places(CR_F32, 1, 2, 2), -1, 0, -1, 0, 0));
    assert_cr_error(CR_ERROR_SHAPE, "0 x 2");
}

static void flips_mirror(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        cr_tensor *image = places(i ? CR_U8 : CR_F32, 2, 3, 4);
        assert_float_equal(at(cr_vision_image_horizontal_flip(image), 1, 2, 0), 123, 0);
        assert_float_equal(at(cr_vision_image_vertical_flip(image), 1, 2, 1), 101, 0);
        assert_float_equal(at(cr_vision_image_vertical_flip(image), 0, 0, 1), 21, 0);
    }
    for (int width = 1; width <= 20; width++) /* eight bytes are mirrored at once */
        for (int x = 0; x < width; x++)
            assert_float_equal(at(cr_vision_image_horizontal_flip(places(CR_U8, 1, 2, width)), 0, 1, x),
                               10 + width - 1 - x, 0);
}

static void rotation_is_counter_clockwise_about_the_centre(void **state) {
    (void)state;
    cr_tensor *image = places(CR_U8, 2, 5, 5);
    for (int bilinear = 0; bilinear < 2; bilinear++) {
        cr_tensor *turned = cr_vision_image_rotate(image, 90, bilinear, 0);
        assert_float_equal(at(turned, 1, 0, 2), 124, 0); /* right goes to the top */
        assert_float_equal(at(turned, 1, 4, 0), 100, 0); /* top left goes to the bottom left */
    }
    /* grid_sample(align_corners=False, padding_mode="zeros") at 30 degrees of [[0, .1], [.2, .3], [.4, .5]] */
    const float values[] = {0, 0.1f, 0.2f, 0.3f, 0.4f, 0.5f};
    cr_tensor *small = cr_from_data(CR_F32, CR_SHAPE(1, 3, 2), values);
    const double cosine = cos(3.14159265358979323846 / 6), sine = 0.5;
    const double x = cosine * 0.5 + 0.5, y = sine * 0.5 + 1; /* of pixel (1, 1): 0.933, 1.25: inside */
    const double expected = (1 - (y - 1)) * ((1 - x) * 0.2 + x * 0.3) + (y - 1) * ((1 - x) * 0.4 + x * 0.5);
    assert_float_equal(at(cr_vision_image_rotate(small, 30, true, 0), 0, 1, 1), expected, 1e-6);
    assert_float_equal(at(cr_vision_image_rotate(small, 30, false, 0), 0, 1, 1), 0.3, 1e-6);
    assert_float_equal(at(cr_vision_image_rotate(small, 90, false, 7), 0, 0, 0), 7, 0);
    assert_null(cr_vision_image_rotate(small, NAN, false, 0));
    assert_cr_error(CR_ERROR_ARGUMENT, "nan degrees");
}

static cr_tensor *pixel(cr_dtype dtype, double r, double g, double b) {
    const float values[] = {(float)r, (float)g, (float)b};
    const uint8_t bytes[] = {(uint8_t)r, (uint8_t)g, (uint8_t)b};
    return cr_from_data(dtype, CR_SHAPE(3, 1, 1), dtype == CR_U8 ? (const void *)bytes : values);
}

static void assert_pixel(const cr_tensor *t, double r, double g, double b, double tolerance) {
    assert_cr_ok();
    assert_float_equal(at(t, 0, 0, 0), r, tolerance);
    assert_float_equal(at(t, 1, 0, 0), g, tolerance);
    assert_float_equal(at(t, 2, 0, 0), b, tolerance);
}

static void colours_are_adjusted_as_torchvision_does(void **state) {
    (void)state;
    cr_tensor *bytes = pixel(CR_U8, 200, 100, 10), *floats = pixel(CR_F32, 0.8, 0.4, 0.1);
    /* 0.2989 * 200 + 0.587 * 100 + 0.114 * 10 = 119.62, cut to 119; of the floats 0.48532 */
    assert_pixel(cr_vision_image_to_grayscale(bytes, 3), 119, 119, 119, 0);
    assert_float_equal(at(cr_vision_image_to_grayscale(floats, 1), 0, 0, 0), 0.48532, 1e-6);
    assert_pixel(cr_vision_image_adjust_brightness(bytes, 1.5), 255, 150, 15, 0);
    assert_pixel(cr_vision_image_adjust_brightness(floats, 0.5), 0.4, 0.2, 0.05, 1e-6);
    assert_pixel(cr_vision_image_adjust_saturation(bytes, 0.5), 159, 109, 64, 0);
    assert_pixel(cr_vision_image_adjust_saturation(floats, 2), 1, 2 * 0.4 - 0.48532, 0, 1e-6);
    const uint8_t pair[] = {200, 0, 100, 0, 10, 0}; /* greys 119 and 0: mean 59.5 */
    cr_tensor *contrast = cr_vision_image_adjust_contrast(cr_from_data(CR_U8, CR_SHAPE(3, 1, 2), pair), 0.5);
    assert_float_equal(at(contrast, 0, 0, 0), 129, 0); /* 129.75 */
    assert_float_equal(at(contrast, 2, 0, 1), 29, 0);  /* 29.75 */
    assert_null(cr_vision_image_adjust_contrast(floats, -1));
    assert_cr_error(CR_ERROR_ARGUMENT, "got -1");
    assert_null(cr_vision_image_adjust_brightness(places(CR_F32, 2, 3, 3), 1));
    assert_cr_error(CR_ERROR_SHAPE, "1 or 3 channels");
}

static void hues_turn_as_in_colorsys(void **state) {
    (void)state;
    assert_pixel(cr_vision_image_adjust_hue(pixel(CR_F32, 1, 0, 0), 1.0 / 3), 0, 1, 0, 1e-6);
    assert_pixel(cr_vision_image_adjust_hue(pixel(CR_F32, 1, 0, 0), -0.5), 0, 1, 1, 1e-6);
    assert_pixel(cr_vision_image_adjust_hue(pixel(CR_U8, 255, 0, 0), 1.0 / 3), 0, 255, 0, 0);
    assert_pixel(cr_vision_image_adjust_hue(pixel(CR_F32, 0.8, 0.4, 0.1), 0.2), 0.36, 0.8, 0.1, 1e-6);
    assert_pixel(cr_vision_image_adjust_hue(pixel(CR_F32, 0.3, 0.3, 0.3), 0.2), 0.3, 0.3, 0.3, 0);
    assert_null(cr_vision_image_adjust_hue(pixel(CR_F32, 1, 0, 0), 0.6));
    assert_cr_error(CR_ERROR_ARGUMENT, "got 0.6");
}

static void numbers_are_scaled_and_normalized(void **state) {
    (void)state;
    assert_pixel(cr_vision_image_to_tensor(pixel(CR_U8, 255, 51, 0)), 1, 0.2, 0, 1e-7);
    const float mean[] = {0.5f, 0.25f, 0}, deviation[] = {0.5f, 2, 4};
    assert_pixel(cr_vision_image_normalize(pixel(CR_F32, 1, 0.75, 2), 3, mean, deviation), 1, 0.25, 0.5, 1e-7);
    assert_pixel(cr_vision_image_normalize(pixel(CR_F32, 1, 0.75, 0), 1, mean, deviation), 1, 0.5, -1, 1e-7);
    assert_null(cr_vision_image_normalize(pixel(CR_U8, 1, 2, 3), 3, mean, deviation));
    assert_cr_error(CR_ERROR_SHAPE, "to_tensor makes it");
    assert_null(cr_vision_image_normalize(pixel(CR_F32, 1, 2, 3), 2, mean, deviation));
    assert_cr_error(CR_ERROR_SHAPE, "2 channels for f32[3,1,1]");
}

static void what_is_no_image_is_refused(void **state) {
    (void)state;
    assert_null(cr_vision_image_resize(NULL, 2, 2));
    assert_cr_error(CR_ERROR_ARGUMENT, "resize");
    assert_null(cr_vision_image_resize(cr_empty(CR_F32, CR_SHAPE(4, 4), CR_CPU), 2, 2));
    assert_cr_error(CR_ERROR_SHAPE, "f32[4,4]");
    assert_null(cr_vision_image_resize(cr_empty(CR_I64, CR_SHAPE(3, 4, 4), CR_CPU), 2, 2));
    assert_cr_error(CR_ERROR_DTYPE, "i64[3,4,4]");
    assert_null(cr_vision_image_resize(places(CR_F32, 3, 4, 4), 0, 2));
    assert_cr_error(CR_ERROR_SHAPE, "2 x 0");
    assert_null(cr_vision_image_resize(places(CR_F32, 3, 4, 4), INT64_MAX, 2));
    assert_cr_error(CR_ERROR_SHAPE, "32768");
    assert_null(cr_vision_image_horizontal_flip(cr_empty(CR_F32, CR_SHAPE(3, 0, 4), CR_CPU)));
    assert_cr_error(CR_ERROR_SHAPE, "f32[3,0,4]");
}

static void strided_images_are_read_rightly(void **state) {
    (void)state;
    cr_tensor *image = cr_empty_strided(CR_F32, CR_SHAPE(2, 3, 4), CR_SHAPE(1, 8, 2), CR_CPU); /* channels last */
    for (int i = 0; i < 24; i++)
        ((float *)cr_data(image))[i] = (float)i;
    assert_float_equal(at(cr_vision_image_horizontal_flip(image), 1, 2, 0), 16 + 6 + 1, 0);
}

/* ---------------------------------------------------------------- transforms */
static cr_tensor *apply(cr_vision_transform *transform, cr_tensor *image, int64_t index) {
    cr_generator_state random = cr_data_random_for(1, 0, index);
    return cr_vision_transform_apply(transform, image, &random);
}

static void resize_keeps_the_ratio(void **state) {
    (void)state;
    cr_vision_transform *shorter = cr_vision_resize(8), *both = cr_vision_resize_to(5, 9);
    assert_shape(apply(shorter, places(CR_U8, 1, 20, 31), 0), 1, 8, 12); /* 12.4 */
    assert_shape(apply(shorter, places(CR_U8, 1, 31, 20), 0), 1, 12, 8);
    assert_shape(apply(both, places(CR_U8, 1, 31, 20), 0), 1, 5, 9);
    cr_vision_transform_free(shorter);
    cr_vision_transform_free(both);
    assert_null(cr_vision_resize(0));
    assert_cr_error(CR_ERROR_ARGUMENT, "0 x 0");
}

static cr_tensor *twice(cr_tensor *image) {
    cr_tensor *t = cr_empty(CR_F32, cr_shape_of(image), CR_CPU);
    for (int64_t i = 0; i < cr_numel(t); i++)
        cr_data_f32(t)[i] = 2 * cr_data_f32(image)[i];
    return t;
}
static cr_tensor *nothing(cr_tensor *image) { return (void)image, NULL; }

static void compose_applies_in_order(void **state) {
    (void)state;
    const float one[] = {1};
    cr_vision_transform *both =
        cr_vision_compose(cr_vision_pad(1, 5), cr_vision_center_crop(5, 5), cr_vision_grayscale(1),
                          cr_vision_to_tensor(), cr_vision_lambda(twice), cr_vision_normalize(1, one, one));
    assert_float_equal(at(apply(both, places(CR_F32, 1, 4, 4), 0), 0, 2, 2), 2 * 11 - 1, 0);
    cr_vision_transform_free(both);
    assert_null(cr_vision_compose(cr_vision_to_tensor(), NULL, cr_vision_pad(1, 0)));
    assert_cr_error(CR_ERROR_ARGUMENT, "is NULL");
    cr_vision_transform *silent = cr_vision_lambda(nothing);
    assert_null(apply(silent, places(CR_F32, 1, 4, 4), 0));
    assert_cr_error(CR_ERROR_STATE, "lambda: failed without saying why");
    assert_null(apply(silent, NULL, 0));
    assert_cr_error(CR_ERROR_ARGUMENT, "lambda: the image is NULL");
    assert_null(apply(NULL, NULL, 0));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
    cr_vision_transform_free(silent);
}

/* What a composition does at once has the values, bit for bit, of its transforms one after the other. */
static void neighbours_at_once_change_nothing(void **state) {
    (void)state;
    const float mean[] = {0.485f, 0.456f, 0.406f}, deviation[] = {0.229f, 0.224f, 0.225f};
    for (int i = 0; i < 2 * 4 * 3; i++) {
        cr_tensor *image = cr_empty(i % 2 ? CR_F32 : CR_U8, CR_SHAPE(3, 37, 53), CR_CPU), *expected;
        for (int64_t k = 0; k < cr_numel(image); k++)
            if (i % 2)
                cr_data_f32(image)[k] = (float)(k * 7 % 101) / 101;
            else
                ((uint8_t *)cr_data(image))[k] = (uint8_t)(k * 7);
        /* shrunk, kept, grown, and smaller than the crop */
        const int side = (const int[]){25, 37, 60, 12}[i / 2 % 4], crop = i / 8;
        cr_vision_transform *parts[] = {cr_vision_resize(side),
                                        crop == 0   ? cr_vision_center_crop(22, 17)
                                        : crop == 1 ? cr_vision_random_crop(.height = 11, .width = 12)
                                                    : cr_vision_random_crop(.height = 14, .width = 13, .padding = 3),
                                        cr_vision_to_tensor(), cr_vision_normalize(3, mean, deviation)};
        cr_generator_state random = cr_data_random_for(1, 0, i), same = random;
        expected = image;
        for (int k = 0; k < 4; k++)
            expected = cr_vision_transform_apply(parts[k], expected, &random);
        cr_vision_transform *whole = cr_vision_compose_of(parts, 4);
        cr_tensor *found = cr_vision_transform_apply(whole, image, &same);
        assert_cr_ok();
        assert_true(cr_shape_equal(cr_shape_of(found), cr_shape_of(expected)));
        assert_memory_equal(cr_data(found), cr_data(expected), (size_t)cr_numel(found) * sizeof(float));
        assert_memory_equal(&same, &random, sizeof same); /* as many draws */
        cr_vision_transform_free(whole);
    }
    cr_vision_transform *short_of =
                            cr_vision_compose(cr_vision_resize(8), cr_vision_random_crop(.height = 9, .width = 9)),
                        *other = cr_vision_compose(cr_vision_to_tensor(), cr_vision_normalize(2, mean, deviation));
    assert_null(apply(short_of, places(CR_U8, 1, 16, 16), 0));
    assert_cr_error(CR_ERROR_SHAPE, "9 x 9 from an image of 8 x 8");
    assert_null(apply(other, places(CR_U8, 3, 4, 4), 0));
    assert_cr_error(CR_ERROR_SHAPE, "2 channels for u8[3,4,4]");
    cr_vision_transform_free(short_of);
    cr_vision_transform_free(other);
}

static void probabilities_are_kept(void **state) {
    (void)state;
    cr_vision_transform *transforms[] = {cr_vision_random_horizontal_flip(0.3), cr_vision_random_vertical_flip(0.3),
                                         cr_vision_random_apply(cr_vision_lambda(twice), 0.3)};
    cr_tensor *image = places(CR_F32, 1, 2, 2);
    for (int i = 0; i < 3; i++) {
        int changed = 0;
        for (int k = 0; k < 4000; k++)
            CR_SCOPE {
                changed += at(apply(transforms[i], image, k), 0, 0, 1) != 1;
            }
        assert_in_range(changed, 1084, 1316); /* 1200 +- 4 standard deviations of 29 */
        cr_vision_transform_free(transforms[i]);
    }
    assert_null(cr_vision_random_horizontal_flip(1.5));
    assert_cr_error(CR_ERROR_ARGUMENT, "got 1.5");
    assert_null(cr_vision_random_apply(cr_vision_to_tensor(), -1));
    assert_cr_error(CR_ERROR_ARGUMENT, "got -1");
}

static void random_crops_fall_everywhere(void **state) {
    (void)state;
    cr_vision_transform *crop = cr_vision_random_crop(.height = 3, .width = 2, .padding = 1, .fill = 99);
    int seen[4][5] = {{0}};
    for (int k = 0; k < 4000; k++)
        CR_SCOPE {
            cr_tensor *part = apply(crop, places(CR_F32, 1, 4, 4), k);
            assert_shape(part, 1, 3, 2);
            const int inside = (int)at(part, 0, 1, 1); /* a pixel of the middle row and one of the columns */
            if (inside != 99) seen[inside / 10][inside % 10]++;
        }
    for (int y = 0; y < 4; y++)
        for (int x = 0; x < 4; x++)
            assert_in_range(seen[y][x], 140, 260); /* 200 of 4000 */
    assert_null(apply(crop, places(CR_F32, 1, 4, 4), 0) ? NULL : crop);
    cr_vision_transform *large = cr_vision_random_crop(.height = 9, .width = 9);
    assert_null(apply(large, places(CR_F32, 1, 4, 4), 0));
    assert_cr_error(CR_ERROR_SHAPE, "9 x 9 from an image of 4 x 4");
    cr_vision_transform_free(crop);
    cr_vision_transform_free(large);
}

static void random_resized_crops_keep_area_and_ratio(void **state) {
    (void)state;
    cr_vision_transform *crop =
        cr_vision_random_resized_crop(.height = 8, .width = 8, .scale_low = 0.25, .scale_high = 0.5);
    cr_tensor *image = cr_empty(CR_F32, CR_SHAPE(2, 100, 100), CR_CPU); /* channel 0: x, channel 1: y */
    for (int i = 0; i < 10000; i++) {
        cr_data_f32(image)[i] = (float)(i % 100);
        cr_data_f32(image)[10000 + i] = (float)(i / 100);
    }
    for (int k = 0; k < 300; k++)
        CR_SCOPE {
            cr_tensor *part = apply(crop, image, k);
            /* neighbouring pixels lie an eighth of the rectangle apart (away from its borders) */
            const double width = 8 * (at(part, 0, 4, 4) - at(part, 0, 4, 3)),
                         height = 8 * (at(part, 1, 4, 4) - at(part, 1, 3, 4));
            assert_true(width * height > 2400 && width * height < 5150);
            assert_true(width / height > 0.73 && width / height < 1.37);
            assert_true(at(part, 0, 0, 0) >= 0 && at(part, 0, 0, 7) <= 99 && at(part, 1, 7, 0) <= 99);
        }
    cr_vision_transform_free(crop);
    cr_vision_transform *narrow = cr_vision_random_resized_crop(.height = 4, .width = 4);
    assert_shape(apply(narrow, places(CR_U8, 1, 1, 200), 0), 1, 4, 4); /* no rectangle fits: the middle */
    cr_vision_transform_free(narrow);
    assert_null(cr_vision_random_resized_crop(.height = 4, .width = 4, .scale_low = 0));
    assert_cr_error(CR_ERROR_ARGUMENT, "no ranges");
}

static void jitter_stays_in_its_range(void **state) {
    (void)state;
    cr_vision_transform *jitter = cr_vision_color_jitter(.brightness = 0.25), *none = cr_vision_color_jitter();
    cr_vision_transform *all =
        cr_vision_color_jitter(.brightness = 0.4, .contrast = 0.4, .saturation = 0.4, .hue = 0.1);
    double low = 1, high = 0;
    for (int k = 0; k < 500; k++)
        CR_SCOPE {
            const double value = at(apply(jitter, pixel(CR_F32, 0.5, 0, 0), k), 0, 0, 0);
            low = fmin(low, value), high = fmax(high, value);
            cr_tensor *changed = apply(all, pixel(CR_U8, 200, 100, 10), k);
            assert_int_equal(cr_dtype_of(changed), CR_U8);
        }
    assert_true(low >= 0.375 && low < 0.385 && high <= 0.625 && high > 0.615);
    assert_pixel(apply(none, pixel(CR_U8, 200, 100, 10), 0), 200, 100, 10, 0);
    cr_vision_transform_free(jitter);
    cr_vision_transform_free(none);
    cr_vision_transform_free(all);
    assert_null(cr_vision_color_jitter(.hue = 0.7));
    assert_cr_error(CR_ERROR_ARGUMENT, "0.5");
}

static void rotations_go_to_both_sides(void **state) {
    (void)state;
    cr_vision_transform *rotate = cr_vision_random_rotation(30, .bilinear = true);
    cr_tensor *line = cr_empty(CR_F32, CR_SHAPE(1, 41, 41), CR_CPU);
    memset(cr_data(line), 0, 41 * 41 * sizeof(float));
    for (int x = 0; x < 41; x++)
        cr_data_f32(line)[20 * 41 + x] = 1;
    int up = 0, down = 0;
    for (int k = 0; k < 200; k++)
        CR_SCOPE {
            cr_tensor *turned = apply(rotate, line, k);
            for (int y = 0; y < 20; y++)
                up += at(turned, 0, y, 39) > 0.3, down += at(turned, 0, y, 1) > 0.3;
            for (int y = 0; y < 8; y++)
                assert_true(at(turned, 0, y, 36) < 0.5); /* never past 30 degrees */
        }
    assert_true(up > 60 && down > 60);
    cr_vision_transform_free(rotate);
    assert_null(cr_vision_random_rotation(-3));
    assert_cr_error(CR_ERROR_ARGUMENT, "got -3");
}

static cr_vision_transform *everything(void) {
    const float half[] = {0.5f};
    return cr_vision_compose(cr_vision_resize(20), cr_vision_random_resized_crop(.height = 16, .width = 16),
                             cr_vision_random_crop(.height = 16, .width = 16, .padding = 2),
                             cr_vision_random_horizontal_flip(0.5), cr_vision_random_vertical_flip(0.5),
                             cr_vision_color_jitter(.brightness = 0.3, .contrast = 0.3, .saturation = 0.3, .hue = 0.1),
                             cr_vision_random_apply(cr_vision_random_rotation(20), 0.5), cr_vision_to_tensor(),
                             cr_vision_normalize(1, half, half));
}

static void augmentation_does_not_depend_on_workers(void **state) {
    (void)state;
    static float expected[2 * 40 * 3 * 16 * 16], found[2 * 40 * 3 * 16 * 16];
    for (int workers = 0; workers < 4; workers++) {
        cr_data_dataset *data = cr_vision_fake_data(.count = 40, .height = 24, .width = 30, .transform = everything());
        cr_data_loader *loader = cr_data_loader_new(data, .batch_size = 7, .workers = workers, .seed = 3);
        float *target = workers ? found : expected;
        for (int epoch = 0; epoch < 2; epoch++)
            CR_FOR_BATCHES (batch, loader) {
                cr_copy_to_host(batch.input, target, (size_t)cr_numel(batch.input) * sizeof(float));
                target += cr_numel(batch.input);
            }
        assert_cr_ok();
        if (workers) assert_memory_equal(found, expected, sizeof expected);
        cr_data_loader_free(loader);
    }
    assert_memory_not_equal(expected, expected + 40 * 3 * 256, 40 * 3 * 256 * sizeof(float)); /* anew in each epoch */
}

static void every_failed_allocation_is_an_error(void **state) {
    (void)state;
    for (int n = 1, failed = 1; failed; n++) {
        cr_data_sample sample;
        cr_memory_fail_nth(n);
        cr_data_dataset *data = cr_vision_fake_data(.count = 2, .height = 24, .width = 30, .transform = everything());
        CR_SCOPE {
            failed = !data || !cr_data_dataset_get(data, 1, NULL, &sample) || !cr_ok();
        }
        cr_memory_fail_nth(0);
        cr_data_dataset_free(data);
        if (failed) assert_cr_error(CR_ERROR_MEMORY, "");
        assert_int_equal(cr_memory_stats().live_bytes, live_bytes);
    }
}

static cr_tensor *add_own(void *self, cr_tensor *image, cr_generator_state *random) {
    return random ? cr_add_scalar(image, *(double *)self) : NULL;
}
static bool was_freed;
static void note_free(void *self) { was_freed = self != NULL; }

static void own_transforms_change_a_datasets_images(void **state) {
    (void)state;
    static const cr_vision_transform_table table = {"add_own", add_own, note_free};
    static double number = 3;
    CR_SCOPE {
        cr_tensor *images = cr_ones(CR_F32, CR_SHAPE(2, 3, 4, 4), CR_CPU), *labels = cr_arange(CR_I64, 0, 2, 1, CR_CPU);
        cr_data_dataset *dataset = cr_vision_transform_dataset(cr_data_tensor_dataset(images, labels),
                                                               cr_vision_transform_new(&table, &number));
        cr_data_sample sample;
        assert_int_equal(cr_data_dataset_length(dataset), 2);
        assert_true(cr_data_dataset_get(dataset, 1, NULL, &sample));
        assert_true(cr_item(cr_amin(sample.fields[0])) == 4 && cr_item_i64(sample.fields[1]) == 1);
        cr_data_dataset_free(dataset);
        assert_true(was_freed);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, remember_memory, memory_is_as_before)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(crops_and_pads_move_pixels),
        TEST(flips_mirror),
        TEST(rotation_is_counter_clockwise_about_the_centre),
        TEST(colours_are_adjusted_as_torchvision_does),
        TEST(hues_turn_as_in_colorsys),
        TEST(numbers_are_scaled_and_normalized),
        TEST(what_is_no_image_is_refused),
        TEST(strided_images_are_read_rightly),
        TEST(resize_keeps_the_ratio),
        TEST(compose_applies_in_order),
        TEST(own_transforms_change_a_datasets_images),
        TEST(neighbours_at_once_change_nothing),
        TEST(probabilities_are_kept),
        TEST(random_crops_fall_everywhere),
        TEST(random_resized_crops_keep_area_and_ratio),
        TEST(jitter_stays_in_its_range),
        TEST(rotations_go_to_both_sides),
        TEST(augmentation_does_not_depend_on_workers),
        TEST(every_failed_allocation_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
