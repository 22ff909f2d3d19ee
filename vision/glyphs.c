/* Characters of the machine's fonts as a labelled dataset: a stand-in for handwritten digits that needs no download. */
#include "core/file.h"
#include "vision/image.h"
#include "vision/outline.h"
#include "vision/stored.h"

#include <string.h>

enum { MAX_FONT_BYTES = 64 << 20, MAX_FONTS = 64, SPARE_FONTS = 5 };

typedef struct glyphs {
    cr_vision_glyphs_options options;
    char *characters;
    int64_t classes;
    cr_outline_font *fonts[MAX_FONTS];
    int font_count;
} glyphs;

static int64_t glyphs_length(void *self) { return ((glyphs *)self)->options.count; }

/* Half to nine tenths of the image high, turned, and anywhere that it does not leave the image by much. */
static cr_outline_place draw_place(const cr_vision_glyphs_options *options, cr_generator_state *random) {
    const double side = (double)options->image_size, radians = options->rotation * 3.14159265358979323846 / 180;
    cr_outline_place place = {.height = side * cr_data_random_uniform(random, 0.5, 0.9)};
    const double room = (side - place.height) / 2;
    place.angle = cr_data_random_uniform(random, -radians, radians);
    place.x = side / 2 + cr_data_random_uniform(random, -room, room);
    place.y = side / 2 + cr_data_random_uniform(random, -room, room);
    return place;
}

static bool glyphs_get(void *self, int64_t index, cr_generator_state *random, cr_data_sample *sample) {
    const glyphs *g = self;
    const int64_t label = index % g->classes;
    cr_generator_state fixed = cr_data_random_for(0x7e57, 0, index);
    cr_generator_state *source = g->options.train ? random : &fixed;
    cr_vision_view image;
    if (!cr_vision_create(CR_U8, 1, g->options.image_size, g->options.image_size, &image)) return false;
    const cr_outline_font *font = g->fonts[cr_data_random_integer(source, 0, g->font_count)];
    const cr_outline_place place = draw_place(&g->options, source);
    if (!cr_outline_draw(font, g->characters[label], place, image.u8, (int)g->options.image_size)) return false;
    sample->count = 2;
    sample->fields[0] = cr_vision_transform_apply(g->options.transform, image.tensor, random);
    sample->fields[1] = cr_scalar_i64(label);
    return sample->fields[0] && sample->fields[1];
}

static void glyphs_free(void *self) {
    glyphs *g = self;
    for (int i = 0; i < g->font_count; i++)
        cr_outline_font_free(g->fonts[i]);
    cr_vision_transform_free(g->options.transform);
    cr_free(g->characters);
    cr_free(g);
}

/* All usable fonts of the folder, in the order of their paths. Fonts that cannot be used are passed over. */
static bool load_fonts(glyphs *g) {
    static const char *const endings[] = {".ttf", NULL};
    cr_vision_paths paths = {0};
    bool done = cr_vision_find_files(g->options.folder, endings, 16, &paths);
    for (int64_t i = 0; done && i < paths.count && g->font_count < MAX_FONTS; i++) {
        size_t size;
        uint8_t *bytes = cr_file_load(paths.at[i], MAX_FONT_BYTES, &size);
        cr_outline_font *font = bytes ? cr_outline_font_new(bytes, size, g->characters) : NULL;
        if (font) g->fonts[g->font_count++] = font;
        done = font || cr_ok();
    }
    if (done && g->font_count == 0)
        done = cr_fail(CR_ERROR_IO,
                       "glyphs: none of the %lld .ttf files in %s draws all of \"%s\"; install fonts-dejavu-core, "
                       "or name another folder (.folder)",
                       (long long)paths.count, g->options.folder, g->characters);
    cr_vision_paths_clear(&paths);
    return done;
}

/* Every fifth font, from the third on, is kept for testing; with fewer than four fonts all serve both. */
static void split_fonts(glyphs *g) {
    int kept = 0;
    if (g->font_count < 4) return;
    for (int i = 0; i < g->font_count; i++) {
        const bool is_spare = i % SPARE_FONTS == 2;
        if (is_spare != g->options.train)
            g->fonts[kept++] = g->fonts[i];
        else
            cr_outline_font_free(g->fonts[i]);
    }
    g->font_count = kept;
}

static bool check_options(const cr_vision_glyphs_options *options) {
    if (!options->characters || !*options->characters || strlen(options->characters) > 94)
        return cr_fail(CR_ERROR_ARGUMENT, "glyphs: 1 to 94 characters are needed");
    for (const char *c = options->characters; *c; c++)
        if (*c <= ' ' || *c > '~')
            return cr_fail(CR_ERROR_ARGUMENT, "glyphs: byte %d is no visible ASCII character", *c);
    if (!options->folder) return cr_fail(CR_ERROR_ARGUMENT, "glyphs: the folder is NULL");
    if (options->image_size < 8 || options->image_size > 512 || options->count < 0 ||
        !(options->rotation >= 0 && options->rotation <= 180))
        return cr_fail(CR_ERROR_ARGUMENT, "glyphs: image_size %lld (8 to 512), count %lld, rotation %g (0 to 180)",
                       (long long)options->image_size, (long long)options->count, options->rotation);
    return true;
}

cr_data_dataset *cr_vision_glyphs_with(const cr_vision_glyphs_options *given) {
    static const cr_data_dataset_table table = {"glyphs", glyphs_length, glyphs_get, glyphs_free};
    cr_vision_glyphs_options options = {.characters = "0123456789",
                                        .image_size = 28,
                                        .count = 10000,
                                        .train = true,
                                        .folder = "/usr/share/fonts",
                                        .rotation = 15};
    CR_VISION_TAKE_OPTIONS(options, given);
    if (!options.transform) options.transform = cr_vision_to_tensor();
    glyphs *self = options.transform && check_options(&options) ? cr_calloc(1, sizeof *self) : NULL;
    if (!self) {
        cr_vision_transform_free(options.transform);
        return NULL;
    }
    self->options = options;
    self->characters = cr_strdup(options.characters);
    if (!self->characters || !load_fonts(self)) {
        glyphs_free(self);
        return NULL;
    }
    self->classes = (int64_t)strlen(self->characters);
    split_fonts(self);
    return cr_data_dataset_new(&table, self);
}
