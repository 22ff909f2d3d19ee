/* The colour glyphs of an emoji font as a dataset: PNG bitmaps, laid on white, squared and resized. */
#include "core/file.h"
#include "core/image.h"
#include "vision/glyph_text.h"
#include "vision/image.h"
#include "vision/sfnt.h"

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum { MAX_FONT_BYTES = 256 << 20 };

typedef struct emoji {
    uint8_t *font;
    cr_color_glyph *glyphs;
    int64_t count, side;
    cr_vision_transform *transform;
    _Atomic(uint8_t *) *images; /* each [3, side, side], or NULL until it is first asked for */
} emoji;

static int64_t emoji_length(void *self) { return ((emoji *)self)->count; }

/* RGBA on white, in the middle of a white square: u8 [3, n, n]. */
static cr_tensor *on_white_square(const cr_image *image) {
    const int64_t n = image->width > image->height ? image->width : image->height, area = n * n;
    const int64_t left = (n - image->width) / 2, top = (n - image->height) / 2;
    cr_vision_view square;
    if (!cr_vision_create(CR_U8, 3, n, n, &square)) return NULL;
    memset(square.u8, 255, (size_t)(3 * area));
    for (int64_t i = 0; i < (int64_t)image->width * image->height; i++) {
        const uint8_t *pixel = image->pixels + 4 * i;
        const int64_t at = (top + i / image->width) * n + left + i % image->width;
        for (int c = 0; c < 3; c++)
            square.u8[c * area + at] = (uint8_t)((pixel[c] * pixel[3] + 255 * (255 - pixel[3]) + 127) / 255);
    }
    return square.tensor;
}

static cr_tensor *decode(const emoji *e, int64_t index) {
    char name[48];
    cr_image image;
    snprintf(name, sizeof name, "emoji: glyph %u", e->glyphs[index].glyph);
    if (!cr_image_decode(e->glyphs[index].png.at, e->glyphs[index].png.size, 4, name, &image)) return NULL;
    cr_tensor *square = on_white_square(&image);
    cr_image_free(&image);
    return square ? cr_vision_image_resize(square, e->side, e->side) : NULL;
}

/* u8 [3, side, side] from the store, decoded into it on the first visit. */
static cr_tensor *image_of(emoji *e, int64_t index) {
    const size_t bytes = 3 * (size_t)(e->side * e->side);
    uint8_t *stored = atomic_load_explicit(&e->images[index], memory_order_acquire), *none = NULL;
    cr_vision_view copy;
    if (stored) {
        if (!cr_vision_create(CR_U8, 3, e->side, e->side, &copy)) return NULL;
        memcpy(copy.data, stored, bytes);
        return copy.tensor;
    }
    cr_tensor *image = decode(e, index);
    uint8_t *pixels = image ? cr_malloc(bytes) : NULL;
    if (!pixels) return NULL;
    memcpy(pixels, cr_data(image), bytes);
    if (!atomic_compare_exchange_strong(&e->images[index], &none, pixels))
        cr_free(pixels); /* another thread was first */
    return image;
}

static bool emoji_get(void *self, int64_t index, cr_generator_state *random, cr_data_sample *sample) {
    emoji *e = self;
    cr_tensor *image = image_of(e, index);
    if (!image) return false;
    sample->count = 1;
    sample->fields[0] = cr_vision_transform_apply(e->transform, image, random);
    return sample->fields[0] != NULL;
}

static void emoji_free(void *self) {
    emoji *e = self;
    cr_vision_transform_free(e->transform);
    for (int64_t i = 0; e->images && i < e->count; i++)
        cr_free(atomic_load(&e->images[i]));
    cr_free(e->images);
    cr_free(e->glyphs);
    cr_free(e->font);
    cr_free(e);
}

static const char *usual_font(void) {
    static const char *const places[] = {"/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
                                         "/usr/share/fonts/noto/NotoColorEmoji.ttf",
                                         "/usr/share/fonts/google-noto-emoji/NotoColorEmoji.ttf",
                                         "/usr/share/fonts/google-noto-color-emoji-fonts/NotoColorEmoji.ttf"};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        if (access(places[i], R_OK) == 0) return places[i];
    cr_record_error(CR_ERROR_IO, "emoji: %s is not there; install fonts-noto-color-emoji, or name a font (.font)",
                    places[0]);
    return NULL;
}

/* Drops the glyphs that `choose` does not want. */
static bool choose_glyphs(emoji *e, const cr_vision_emoji_options *options, cr_bytes font, const char *path) {
    int64_t kept = 0;
    if (!options->choose) return true;
    cr_glyph_text *texts = cr_glyph_texts(font, path);
    if (!texts) return false;
    for (int64_t i = 0; i < e->count; i++) {
        const cr_glyph_text *text = &texts[e->glyphs[i].glyph % CR_GLYPH_TEXTS];
        if (options->choose(text->at, (int)text->count)) e->glyphs[kept++] = e->glyphs[i];
    }
    cr_free(texts);
    e->count = kept;
    return kept > 0 || cr_fail(CR_ERROR_ARGUMENT, "emoji: choose wanted none of the glyphs of %s", path);
}

static bool load(emoji *e, const cr_vision_emoji_options *options, const char *path) {
    size_t bytes;
    e->font = path ? cr_file_load(path, MAX_FONT_BYTES, &bytes) : NULL;
    if (!e->font || !cr_sfnt_color_glyphs((cr_bytes){e->font, bytes}, path, &e->glyphs, &e->count) ||
        !choose_glyphs(e, options, (cr_bytes){e->font, bytes}, path))
        return false;
    e->images = cr_calloc((size_t)e->count, sizeof *e->images);
    return e->images != NULL;
}

/* u8 to f32 in [-1, 1]. */
static cr_vision_transform *default_transform(void) {
    cr_vision_transform *scale = cr_vision_to_tensor();
    cr_vision_transform *centre = scale ? cr_vision_normalize(1, (const float[]){0.5f}, (const float[]){0.5f}) : NULL;
    if (centre) return cr_vision_compose(scale, centre);
    cr_vision_transform_free(scale);
    return NULL;
}

cr_data_dataset *cr_vision_emoji_with(const cr_vision_emoji_options *given) {
    static const cr_data_dataset_table table = {"emoji", emoji_length, emoji_get, emoji_free};
    cr_vision_emoji_options options = {.image_size = 64};
    CR_VISION_TAKE_OPTIONS(options, given);
    if (!options.transform) options.transform = default_transform();
    emoji *self = NULL;
    if (options.image_size < 1 || options.image_size > 1024)
        cr_record_error(CR_ERROR_ARGUMENT, "emoji: image_size %lld; 1 to 1024 can be had",
                        (long long)options.image_size);
    else if (options.transform)
        self = cr_calloc(1, sizeof *self);
    if (!self) {
        cr_vision_transform_free(options.transform);
        return NULL;
    }
    self->side = options.image_size;
    self->transform = options.transform;
    if (load(self, &options, options.font ? options.font : usual_font())) return cr_data_dataset_new(&table, self);
    emoji_free(self);
    return NULL;
}
