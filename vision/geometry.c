/* Functions that move an image's pixels: resize, crop, pad, flip, rotate. */
#include "core/image.h"
#include "vision/image.h"

#include <math.h>
#include <string.h>

/* A part, which lies inside, of the image resized to height x width. */
static cr_tensor *resized_part(const cr_vision_view *in, int64_t height, int64_t width, cr_vision_part part) {
    cr_vision_view out;
    if (!cr_vision_check_sides(height, width) ||
        !cr_vision_create(in->dtype, in->channels, part.height, part.width, &out))
        return NULL;
    const cr_image_planes from = {in->data, in->channels, (int)in->height, (int)in->width};
    const cr_image_planes to = {out.data, in->channels, (int)part.height, (int)part.width};
    const cr_image_part place = {(int)height, (int)width, (int)part.top, (int)part.left};
    return cr_image_resize(in->dtype, &from, &place, &to) ? out.tensor : NULL;
}

cr_tensor *cr_vision_image_resize(const cr_tensor *image, int64_t height, int64_t width) {
    cr_vision_view in;
    if (!cr_vision_open(image, "resize", &in)) return NULL;
    if (in.height == height && in.width == width) return in.tensor;
    return resized_part(&in, height, width, (cr_vision_part){0, 0, height, width});
}

cr_tensor *cr_vision_image_resize_and_crop(const cr_tensor *image, int64_t height, int64_t width, cr_vision_part part) {
    cr_vision_view in;
    if (!cr_vision_open(image, "resize", &in)) return NULL;
    const bool is_resized = in.height != height || in.width != width;
    if (is_resized && part.top >= 0 && part.left >= 0 && part.top + part.height <= height &&
        part.left + part.width <= width)
        return resized_part(&in, height, width, part);
    cr_tensor *whole = cr_vision_image_resize(image, height, width);
    return whole ? cr_vision_image_crop(whole, part.top, part.left, part.height, part.width) : NULL;
}

static void fill_with(cr_vision_view *view, double value) {
    const int64_t count = view->channels * view->height * view->width;
    for (int64_t i = 0; i < count; i++) {
        if (view->dtype == CR_U8)
            view->u8[i] = cr_vision_u8((float)value);
        else
            view->f32[i] = (float)value;
    }
}

/* A window of in at (top, left), which may reach outside; there it is `fill`. */
static cr_tensor *window(const cr_vision_view *in, int64_t top, int64_t left, int64_t height, int64_t width,
                         double fill) {
    cr_vision_view out;
    if (!cr_vision_create(in->dtype, in->channels, height, width, &out)) return NULL;
    const int64_t first_row = top < 0 ? -top : 0, first_column = left < 0 ? -left : 0;
    const int64_t last_row = in->height - top < height ? in->height - top : height;
    const int64_t last_column = in->width - left < width ? in->width - left : width;
    const int64_t item = (int64_t)cr_dtype_size(in->dtype);
    if (first_row || first_column || last_row < height || last_column < width) fill_with(&out, fill);
    if (last_column <= first_column) return out.tensor;
    for (int64_t c = 0; c < in->channels; c++)
        for (int64_t y = first_row; y < last_row; y++)
            memcpy((char *)out.data + ((c * height + y) * width + first_column) * item,
                   (char *)in->data + ((c * in->height + top + y) * in->width + left + first_column) * item,
                   (size_t)((last_column - first_column) * item));
    return out.tensor;
}

/* False and an error where a place lies so far out that sums with it could overflow. */
static bool check_place(const char *name, int64_t a, int64_t b) {
    const int64_t far = 1 << 30;
    return (a > -far && a < far && b > -far && b < far) ||
           cr_fail(CR_ERROR_ARGUMENT, "%s: %lld, %lld lies too far outside", name, (long long)a, (long long)b);
}

cr_tensor *cr_vision_image_crop(const cr_tensor *image, int64_t top, int64_t left, int64_t height, int64_t width) {
    cr_vision_view in;
    if (!check_place("crop", top, left) || !cr_vision_open(image, "crop", &in)) return NULL;
    return window(&in, top, left, height, width, 0);
}

cr_vision_part cr_vision_middle(int64_t image_height, int64_t image_width, int64_t height, int64_t width) {
    const double top = (double)(image_height - height) / 2, left = (double)(image_width - width) / 2;
    return (cr_vision_part){(int64_t)nearbyint(top), (int64_t)nearbyint(left), height, width};
}

cr_tensor *cr_vision_image_center_crop(const cr_tensor *image, int64_t height, int64_t width) {
    cr_vision_view in;
    if (!check_place("center_crop", height, width) || !cr_vision_open(image, "center_crop", &in)) return NULL;
    const cr_vision_part part = cr_vision_middle(in.height, in.width, height, width);
    return window(&in, part.top, part.left, height, width, 0);
}

cr_tensor *cr_vision_image_pad(const cr_tensor *image, int64_t left, int64_t top, int64_t right, int64_t bottom,
                               double fill) {
    cr_vision_view in;
    if (!check_place("pad", left, right) || !check_place("pad", top, bottom) || !cr_vision_open(image, "pad", &in))
        return NULL;
    return window(&in, -top, -left, in.height + top + bottom, in.width + left + right, fill);
}

/* Eight at a time where there are as many. */
static void reverse_bytes(const uint8_t *from, int64_t count, uint8_t *to) {
    int64_t x = 0;
    for (; x + 8 <= count; x += 8) {
        uint64_t eight;
        memcpy(&eight, from + x, sizeof eight);
        eight = __builtin_bswap64(eight);
        memcpy(to + count - 8 - x, &eight, sizeof eight);
    }
    for (; x < count; x++)
        to[count - 1 - x] = from[x];
}

/* out[y, x] = in[y or height-1-y, x or width-1-x] */
static cr_tensor *flip(const cr_tensor *image, bool horizontal, const char *name) {
    cr_vision_view in, out;
    if (!cr_vision_open(image, name, &in) || !cr_vision_create(in.dtype, in.channels, in.height, in.width, &out))
        return NULL;
    const int64_t rows = in.channels * in.height, width = in.width, item = (int64_t)cr_dtype_size(in.dtype);
    for (int64_t row = 0; row < rows; row++) {
        const int64_t channel = row / in.height, y = row % in.height;
        const int64_t from = horizontal ? row : channel * in.height + in.height - 1 - y;
        if (!horizontal) {
            memcpy((char *)out.data + row * width * item, (char *)in.data + from * width * item,
                   (size_t)(width * item));
            continue;
        }
        if (in.dtype == CR_U8)
            reverse_bytes(in.u8 + from * width, width, out.u8 + row * width);
        else
            for (int64_t x = 0; x < width; x++)
                out.f32[row * width + x] = in.f32[from * width + width - 1 - x];
    }
    return out.tensor;
}

cr_tensor *cr_vision_image_horizontal_flip(const cr_tensor *image) { return flip(image, true, "horizontal_flip"); }
cr_tensor *cr_vision_image_vertical_flip(const cr_tensor *image) { return flip(image, false, "vertical_flip"); }

/* ---------------------------------------------------------------- rotation */
static float pixel_at(const cr_vision_view *in, int64_t c, int64_t y, int64_t x, float fill) {
    if (x < 0 || y < 0 || x >= in->width || y >= in->height) return fill;
    const int64_t at = (c * in->height + y) * in->width + x;
    return in->dtype == CR_U8 ? in->u8[at] : in->f32[at];
}

static float bilinear_at(const cr_vision_view *in, int64_t c, double y, double x, float fill) {
    const double top = floor(y), left = floor(x);
    const float down = (float)(y - top), right = (float)(x - left);
    const int64_t y0 = (int64_t)top, x0 = (int64_t)left;
    const float above = pixel_at(in, c, y0, x0, fill) * (1 - right) + pixel_at(in, c, y0, x0 + 1, fill) * right;
    const float below = pixel_at(in, c, y0 + 1, x0, fill) * (1 - right) + pixel_at(in, c, y0 + 1, x0 + 1, fill) * right;
    return above * (1 - down) + below * down;
}

/* Each pixel comes from where it was before: turned back, clockwise, about the centre. */
cr_tensor *cr_vision_image_rotate(const cr_tensor *image, double degrees, bool bilinear, double fill) {
    cr_vision_view in, out;
    if (!isfinite(degrees)) {
        cr_record_error(CR_ERROR_ARGUMENT, "rotate: %g degrees", degrees);
        return NULL;
    }
    if (!cr_vision_open(image, "rotate", &in) || !cr_vision_create(in.dtype, in.channels, in.height, in.width, &out))
        return NULL;
    const double angle = degrees * 3.14159265358979323846 / 180, cosine = cos(angle), sine = sin(angle);
    const double middle_x = (double)(in.width - 1) / 2, middle_y = (double)(in.height - 1) / 2;
    for (int64_t i = 0; i < in.height * in.width; i++) {
        const int64_t row = i / in.width, column = i % in.width;
        const double dx = (double)column - middle_x, dy = (double)row - middle_y;
        const double x = cosine * dx - sine * dy + middle_x, y = sine * dx + cosine * dy + middle_y;
        for (int64_t c = 0; c < in.channels; c++) {
            const float value = bilinear ? bilinear_at(&in, c, y, x, (float)fill)
                                         : pixel_at(&in, c, (int64_t)nearbyint(y), (int64_t)nearbyint(x), (float)fill);
            const int64_t at = c * in.height * in.width + i;
            if (in.dtype == CR_U8)
                out.u8[at] = cr_vision_u8(value + 0.5f);
            else
                out.f32[at] = value;
        }
    }
    return out.tensor;
}
