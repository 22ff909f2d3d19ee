/* Functions that change an image's values: grey, brightness, contrast, saturation, hue, to_tensor, normalize. */
#include "vision/image.h"

#include <math.h>

static float value_at(const cr_vision_view *view, int64_t i) {
    return view->dtype == CR_U8 ? view->u8[i] : view->f32[i];
}

/* Stores a value of the image's range: clamped to 0 … 255 and cut, or to 0 … 1. */
static void store(cr_vision_view *view, int64_t i, float value) {
    if (view->dtype == CR_U8)
        view->u8[i] = cr_vision_u8(value);
    else
        view->f32[i] = fminf(fmaxf(value, 0.0f), 1.0f);
}

static bool open_colors(const cr_tensor *image, const char *name, cr_vision_view *view) {
    if (!cr_vision_open(image, name, view)) return false;
    return view->channels == 1 || view->channels == 3 ||
           cr_fail(CR_ERROR_SHAPE, "%s: an image of 1 or 3 channels is needed, it has %lld", name,
                   (long long)view->channels);
}

/* 0.2989 r + 0.587 g + 0.114 b of pixel i, of u8 images cut to a whole number, as torchvision's. */
static float gray_at(const cr_vision_view *in, int64_t i) {
    const int64_t area = in->height * in->width;
    if (in->channels == 1) return value_at(in, i);
    const float gray =
        0.2989f * value_at(in, i) + 0.587f * value_at(in, area + i) + 0.114f * value_at(in, 2 * area + i);
    return in->dtype == CR_U8 ? floorf(gray) : gray;
}

cr_tensor *cr_vision_image_to_grayscale(const cr_tensor *image, int channels) {
    cr_vision_view in, out;
    if (channels != 1 && channels != 3) {
        cr_record_error(CR_ERROR_ARGUMENT, "to_grayscale: %d channels; 1 or 3 can be had", channels);
        return NULL;
    }
    if (!open_colors(image, "to_grayscale", &in) || !cr_vision_create(in.dtype, channels, in.height, in.width, &out))
        return NULL;
    const int64_t area = in.height * in.width;
    for (int64_t i = 0; i < area; i++) {
        const float gray = gray_at(&in, i);
        for (int c = 0; c < channels; c++) {
            if (out.dtype == CR_U8)
                out.u8[c * area + i] = (uint8_t)gray;
            else
                out.f32[c * area + i] = gray;
        }
    }
    return out.tensor;
}

/* ---------------------------------------------------------------- mixtures */
typedef enum partner { BLACK, MEAN_GRAY, GRAY } partner;

static double mean_gray(const cr_vision_view *in) {
    const int64_t area = in->height * in->width;
    double sum = 0;
    for (int64_t i = 0; i < area; i++)
        sum += gray_at(in, i);
    return sum / (double)area;
}

/* factor * image + (1 - factor) * other */
static cr_tensor *blend(const cr_tensor *image, double factor, partner other, const char *name) {
    cr_vision_view in, out;
    if (!(factor >= 0) || isinf(factor)) {
        cr_record_error(CR_ERROR_ARGUMENT, "%s: a factor of at least 0 is needed, got %g", name, factor);
        return NULL;
    }
    if (!open_colors(image, name, &in) || !cr_vision_create(in.dtype, in.channels, in.height, in.width, &out))
        return NULL;
    const int64_t area = in.height * in.width;
    const float share = (float)factor, mean = other == MEAN_GRAY ? (float)mean_gray(&in) : 0.0f;
    for (int64_t i = 0; i < area; i++) {
        const float base = other == GRAY ? gray_at(&in, i) : mean;
        for (int64_t c = 0; c < in.channels; c++)
            store(&out, c * area + i, share * value_at(&in, c * area + i) + (1.0f - share) * base);
    }
    return out.tensor;
}

cr_tensor *cr_vision_image_adjust_brightness(const cr_tensor *image, double factor) {
    return blend(image, factor, BLACK, "adjust_brightness");
}
cr_tensor *cr_vision_image_adjust_contrast(const cr_tensor *image, double factor) {
    return blend(image, factor, MEAN_GRAY, "adjust_contrast");
}
cr_tensor *cr_vision_image_adjust_saturation(const cr_tensor *image, double factor) {
    return blend(image, factor, GRAY, "adjust_saturation");
}

/* ---------------------------------------------------------------- hue */
/* Turns an RGB colour (0 … 1) around the hexcone of Smith, "Color gamut transform pairs", 1978. */
static void turn_hue(float rgb[3], float shift) {
    const float high = fmaxf(rgb[0], fmaxf(rgb[1], rgb[2])), low = fminf(rgb[0], fminf(rgb[1], rgb[2]));
    const float range = high - low;
    if (range <= 0) return; /* grey has no hue */
    float hue = high == rgb[0]   ? (rgb[1] - rgb[2]) / range
                : high == rgb[1] ? 2 + (rgb[2] - rgb[0]) / range
                                 : 4 + (rgb[0] - rgb[1]) / range;
    hue = fmodf(hue / 6 + shift + 2, 1.0f) * 6; /* 0 … 6 */
    const int sector = (int)hue % 6;
    const float part = hue - floorf(hue), saturation = range / high;
    const float p = high * (1 - saturation), q = high * (1 - saturation * part),
                t = high * (1 - saturation * (1 - part));
    const float sectors[6][3] = {{high, t, p}, {q, high, p}, {p, high, t}, {p, q, high}, {t, p, high}, {high, p, q}};
    for (int c = 0; c < 3; c++)
        rgb[c] = sectors[sector][c];
}

cr_tensor *cr_vision_image_adjust_hue(const cr_tensor *image, double shift) {
    cr_vision_view in, out;
    if (!(shift >= -0.5 && shift <= 0.5)) {
        cr_record_error(CR_ERROR_ARGUMENT, "adjust_hue: a shift from -0.5 to 0.5 is needed, got %g", shift);
        return NULL;
    }
    if (!open_colors(image, "adjust_hue", &in)) return NULL;
    if (in.channels == 1) return in.tensor;
    if (!cr_vision_create(in.dtype, 3, in.height, in.width, &out)) return NULL;
    const int64_t area = in.height * in.width;
    const float unit = in.dtype == CR_U8 ? 255.0f : 1.0f, half = in.dtype == CR_U8 ? 0.5f : 0.0f;
    for (int64_t i = 0; i < area; i++) {
        float rgb[3];
        for (int c = 0; c < 3; c++)
            rgb[c] = value_at(&in, c * area + i) / unit;
        turn_hue(rgb, (float)shift);
        for (int c = 0; c < 3; c++)
            store(&out, c * area + i, rgb[c] * unit + half);
    }
    return out.tensor;
}

/* ---------------------------------------------------------------- to numbers */
cr_tensor *cr_vision_image_to_tensor(const cr_tensor *image) {
    cr_vision_view in, out;
    if (!cr_vision_open(image, "to_tensor", &in)) return NULL;
    if (in.dtype == CR_F32) return in.tensor;
    if (!cr_vision_create(CR_F32, in.channels, in.height, in.width, &out)) return NULL;
    const int64_t count = in.channels * in.height * in.width;
    for (int64_t i = 0; i < count; i++)
        out.f32[i] = (float)in.u8[i] / 255.0f;
    return out.tensor;
}

/* (x - mean) / deviation of count values; of u8 after division by 255, looked up among the 256 that there are. */
static void normalize_plane(const cr_vision_view *in, int64_t begin, int64_t count, float mean, float deviation,
                            float *to) {
    float values[256];
    if (in->dtype == CR_F32) {
        for (int64_t i = 0; i < count; i++)
            to[i] = (in->f32[begin + i] - mean) / deviation;
        return;
    }
    for (int i = 0; i < 256; i++)
        values[i] = ((float)i / 255.0f - mean) / deviation;
    for (int64_t i = 0; i < count; i++)
        to[i] = values[in->u8[begin + i]];
}

static cr_tensor *normalize(const cr_vision_view *in, int channels, const float *mean, const float *deviation) {
    cr_vision_view out;
    char text[224];
    if (channels != 1 && channels != in->channels) {
        cr_record_error(CR_ERROR_SHAPE, "normalize: %d channels for %s", channels, cr_describe(in->tensor, text));
        return NULL;
    }
    if (!cr_vision_create(CR_F32, in->channels, in->height, in->width, &out)) return NULL;
    const int64_t area = in->height * in->width;
    for (int64_t c = 0; c < in->channels; c++) {
        const int64_t own = channels == 1 ? 0 : c;
        normalize_plane(in, c * area, area, mean[own], deviation[own], out.f32 + c * area);
    }
    return out.tensor;
}

cr_tensor *cr_vision_image_normalize(const cr_tensor *image, int channels, const float *mean, const float *deviation) {
    cr_vision_view in;
    char text[224];
    if (!mean || !deviation) {
        cr_record_error(CR_ERROR_ARGUMENT, "normalize: a mean and a deviation are needed");
        return NULL;
    }
    if (!cr_vision_open(image, "normalize", &in)) return NULL;
    if (in.dtype != CR_F32) {
        cr_record_error(CR_ERROR_SHAPE, "normalize: %s; f32 is needed, to_tensor makes it", cr_describe(image, text));
        return NULL;
    }
    return normalize(&in, channels, mean, deviation);
}

cr_tensor *cr_vision_image_to_normalized(const cr_tensor *image, int channels, const float *mean,
                                         const float *deviation) {
    cr_vision_view in;
    return cr_vision_open(image, "to_tensor", &in) ? normalize(&in, channels, mean, deviation) : NULL;
}
