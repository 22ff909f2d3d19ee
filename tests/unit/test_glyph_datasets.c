/* Datasets of glyphs out of fonts, coloured and outlined: every glyph where and as it should be; damaged fonts are errors
 * or left out, with bounded memory and nothing lost. Labels: threads
 * Needs: images */
#include "core/file.h"
#include "core/image.h"
#include "tests/unit/damage.h"
#include "tests/unit/memory_checks.h"
#include "vision/outline.h"
#include "vision/sfnt.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char emoji_font[] = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf";
static const char outline_font[] = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf";

/* ---------------------------------------------------------------- colour fonts */
typedef struct bytes {
    uint8_t at[8192];
    size_t size;
} bytes;

static void put(bytes *b, int width, uint32_t value) {
    for (int i = width - 1; i >= 0; i--)
        b->at[b->size++] = (uint8_t)(value >> (8 * i));
}
static void put_bytes(bytes *b, const void *data, size_t size) {
    memcpy(b->at + b->size, data, size);
    b->size += size;
}

/* CBDT data of one glyph in image format 17, 18 or 19. */
static size_t put_glyph(bytes *cbdt, int image_format, const uint8_t *png, size_t size) {
    const size_t before = cbdt->size, metrics = image_format == 17 ? 5 : image_format == 18 ? 8 : 0;
    for (size_t i = 0; i < metrics; i++)
        put(cbdt, 1, 0);
    put(cbdt, 4, (uint32_t)size);
    put_bytes(cbdt, png, size);
    return cbdt->size - before;
}

/* A font with glyphs 5, 6 and 9 in one index subtable of the given formats; pictures 2 x 3 in shades 50, 100, 150. */
static void make_color_font(bytes *font, int index_format, int image_format) {
    static const uint32_t glyphs[] = {5, 6, 7};
    bytes cblc = {.size = 0}, cbdt = {.size = 0};
    uint32_t offsets[4];
    put(&cbdt, 4, 0x00030000);
    for (int i = 0; i < 3; i++) {
        uint8_t pixels[24], *png;
        size_t size;
        memset(pixels, 50 * (i + 1), sizeof pixels);
        for (int p = 0; p < 6; p++)
            pixels[4 * p + 3] = 255;
        const cr_image image = {2, 3, 4, pixels};
        assert_true(cr_image_encode_png(&image, &png, &size));
        offsets[i] = (uint32_t)cbdt.size - 4;
        put_glyph(&cbdt, image_format, png, size);
        cr_free(png);
    }
    offsets[3] = (uint32_t)cbdt.size - 4;
    put(&cblc, 4, 0x00030000), put(&cblc, 4, 1);
    put(&cblc, 4, 56), put(&cblc, 4, 0), put(&cblc, 4, 1), put(&cblc, 4, 0); /* BitmapSize: one subtable at 56 */
    for (int i = 0; i < 24; i++)
        put(&cblc, 1, 0);
    put(&cblc, 2, 5), put(&cblc, 2, 7), put(&cblc, 1, 109), put(&cblc, 1, 109), put(&cblc, 1, 32), put(&cblc, 1, 1);
    put(&cblc, 2, 5), put(&cblc, 2, 7), put(&cblc, 4, 8);
    put(&cblc, 2, (uint32_t)index_format), put(&cblc, 2, (uint32_t)image_format), put(&cblc, 4, 4);
    const uint32_t one_size = offsets[1] - offsets[0];
    for (int i = 0; i < 4 && index_format == 1; i++)
        put(&cblc, 4, offsets[i]);
    for (int i = 0; i < 4 && index_format == 3; i++)
        put(&cblc, 2, offsets[i]);
    if (index_format == 4) put(&cblc, 4, 3);
    for (int i = 0; i < 4 && index_format == 4; i++)
        put(&cblc, 2, i < 3 ? glyphs[i] : 0), put(&cblc, 2, offsets[i]);
    if (index_format == 2 || index_format == 5) put(&cblc, 4, one_size), put(&cblc, 4, 0), put(&cblc, 4, 0);
    if (index_format == 5) put(&cblc, 4, 3);
    for (int i = 0; i < 3 && index_format == 5; i++)
        put(&cblc, 2, glyphs[i]);

    font->size = 0;
    put(font, 4, 0x00010000), put(font, 2, 2), put(font, 2, 0), put(font, 4, 0);
    put_bytes(font, "CBDT", 4), put(font, 4, 0), put(font, 4, 44 + (uint32_t)cblc.size),
        put(font, 4, (uint32_t)cbdt.size);
    put_bytes(font, "CBLC", 4), put(font, 4, 0), put(font, 4, 44), put(font, 4, (uint32_t)cblc.size);
    put_bytes(font, cblc.at, cblc.size);
    put_bytes(font, cbdt.at, cbdt.size);
}

static void every_index_format_of_colour_fonts_is_read(void **state) {
    (void)state;
    static bytes font;
    for (int index_format = 1; index_format <= 5; index_format++)
        for (int image_format = 17; image_format <= 19; image_format++) {
            make_color_font(&font, index_format, image_format);
            write_file("color.ttf", font.at, font.size);
            cr_data_dataset *emoji = cr_vision_emoji(.font = in_folder("color.ttf"), .image_size = 3);
            assert_cr_ok();
            assert_int_equal(cr_data_dataset_length(emoji), 3);
            for (int visit = 0; visit < 2; visit++) /* decoded, then from the store */
                for (int64_t i = 0; i < 3; i++) {
                    cr_data_sample sample;
                    assert_true(cr_data_dataset_get(emoji, i, NULL, &sample));
                    assert_true(cr_shape_equal(cr_shape_of(sample.fields[0]), CR_SHAPE(3, 3, 3)));
                    assert_float_equal(cr_at(sample.fields[0], CR_SHAPE(1, 1, 0)), 50.0 * (double)(i + 1) / 127.5 - 1,
                                       1e-6);
                    assert_float_equal(cr_at(sample.fields[0], CR_SHAPE(1, 1, 2)), 1, 1e-6); /* white at the side */
                }
            cr_data_dataset_free(emoji);
        }
}

static void transparent_pixels_become_white(void **state) {
    (void)state;
    static bytes font;
    make_color_font(&font, 1, 17);
    uint8_t *png = NULL;
    for (size_t i = 0; !png && i + 4 < font.size; i++)
        if (memcmp(font.at + i, "\x89PNG", 4) == 0) png = font.at + i;
    assert_non_null(png);
    /* the shade 50 with alpha 51 on white: 50 * 0.2 + 255 * 0.8 = 214 */
    const uint8_t pixels[] = {50, 50, 50, 51};
    const cr_image image = {1, 1, 4, (uint8_t *)(uintptr_t)pixels};
    uint8_t *encoded;
    size_t size;
    assert_true(cr_image_encode_png(&image, &encoded, &size));
    const size_t old_size = (size_t)png[-4] << 24 | (size_t)png[-3] << 16 | (size_t)png[-2] << 8 | png[-1];
    assert_true(size <= old_size);
    memcpy(png, encoded, size);
    png[-2] = (uint8_t)(size >> 8), png[-1] = (uint8_t)size;
    cr_free(encoded);
    write_file("color.ttf", font.at, font.size);
    cr_data_dataset *emoji =
        cr_vision_emoji(.font = in_folder("color.ttf"), .image_size = 1, .transform = cr_vision_pad(0, 0));
    cr_data_sample sample;
    assert_true(cr_data_dataset_get(emoji, 0, NULL, &sample));
    assert_float_equal(cr_at(sample.fields[0], CR_SHAPE(0, 0, 0)), 214, 0);
    cr_data_dataset_free(emoji);
}

/* All glyphs' bytes lie in the font, or an error. */
static bool color_glyphs_are_sound(const uint8_t *data, size_t size) {
    cr_color_glyph *glyphs;
    int64_t count;
    cr_memory_set_limit(live_bytes + (16 << 20));
    const bool done = cr_sfnt_color_glyphs((cr_bytes){data, size}, "mutant", &glyphs, &count);
    for (int64_t i = 0; i < count; i++) {
        assert_true(glyphs[i].png.at >= data && glyphs[i].png.at + glyphs[i].png.size <= data + size);
        cr_image image;
        if (i < 8 && cr_image_decode(glyphs[i].png.at, glyphs[i].png.size, 4, "mutant", &image)) cr_image_free(&image);
        if (i < 8) cr_clear_error();
    }
    cr_memory_set_limit(0);
    cr_free(glyphs);
    assert_int_equal(done, count > 0);
    cr_clear_error();
    assert_int_equal(cr_memory_stats().live_bytes, live_bytes);
    return done;
}

static void damaged_colour_fonts_are_errors(void **state) {
    (void)state;
    static bytes font;
    uint64_t counter = 0;
    for (int index_format = 1; index_format <= 5; index_format++) {
        make_color_font(&font, index_format, 17 + index_format % 3);
        assert_true(color_glyphs_are_sound(font.at, font.size));
        for (size_t cut = 0; cut < font.size; cut++) {
            uint8_t *exact = malloc(cut ? cut : 1);
            memcpy(exact, font.at, cut);
            assert_false(color_glyphs_are_sound(exact, cut));
            free(exact);
        }
        uint8_t *mutant = malloc(font.size);
        for (int round = 0; round < 4000; round++) {
            memcpy(mutant, font.at, font.size);
            mutate(mutant, font.size, 200, &counter); /* directory, strike, index */
            color_glyphs_are_sound(mutant, font.size);
        }
        free(mutant);
    }
}

static void a_wrong_emoji_font_is_named(void **state) {
    (void)state;
    assert_null(cr_vision_emoji(.font = in_folder("missing.ttf"), .transform = cr_vision_to_tensor()));
    assert_cr_error(CR_ERROR_IO, "missing.ttf");
    write_file("text.ttf", "this is no font at all", 22);
    assert_null(cr_vision_emoji(.font = in_folder("text.ttf")));
    assert_cr_error(CR_ERROR_FORMAT, "text.ttf: not a font with colour bitmaps");
    assert_null(cr_vision_emoji(.image_size = 0));
    assert_cr_error(CR_ERROR_ARGUMENT, "image_size 0");
}

static void the_installed_emoji_are_all_there(void **state) {
    (void)state;
    if (access(emoji_font, R_OK) != 0) skip();
    cr_data_dataset *emoji = cr_vision_emoji(.image_size = 16);
    assert_cr_ok();
    assert_in_range(cr_data_dataset_length(emoji), 3000, 8000); /* 3926 in Debian 12 */
    cr_data_loader *loader = cr_data_loader_new(emoji, .batch_size = 64, .workers = 2, .shuffle = true, .seed = 1);
    int seen = 0;
    CR_FOR_BATCHES (batch, loader) {
        const float *data = cr_data_f32(batch.input);
        float low = 1, high = -1;
        for (int64_t i = 0; i < cr_numel(batch.input); i++) {
            low = data[i] < low ? data[i] : low;
            high = data[i] > high ? data[i] : high;
        }
        assert_true(low >= -1 && low < -0.5f && high == 1);
        if (++seen == 4) break;
    }
    assert_cr_ok();
    cr_data_loader_free(loader);
}

/* ---------------------------------------------------------------- glyphs */
static void digits_are_drawn_from_installed_fonts(void **state) {
    (void)state;
    if (access(outline_font, R_OK) != 0) skip();
    cr_data_dataset *train = cr_vision_glyphs(.count = 100), *test = cr_vision_glyphs(.count = 100, .train = false);
    assert_cr_ok();
    assert_int_equal(cr_data_dataset_length(train), 100);
    for (int64_t i = 0; i < 100; i++)
        CR_SCOPE {
            cr_generator_state first = cr_data_random_for(1, 0, i), second = cr_data_random_for(1, 1, i);
            cr_data_sample a, b;
            assert_true(cr_data_dataset_get(train, i, &first, &a) && cr_data_dataset_get(train, i, &second, &b));
            assert_int_equal(cr_item_i64(a.fields[1]), i % 10);
            assert_true(cr_shape_equal(cr_shape_of(a.fields[0]), CR_SHAPE(1, 28, 28)));
            assert_memory_not_equal(cr_data(a.fields[0]), cr_data(b.fields[0]),
                                    784 * sizeof(float)); /* augmented anew */
            double ink = 0;
            for (int k = 0; k < 784; k++)
                ink += cr_data_f32(a.fields[0])[k];
            assert_true(ink > 8 && ink < 400);
            assert_true(cr_data_dataset_get(test, i, &first, &a) && cr_data_dataset_get(test, i, &second, &b));
            assert_memory_equal(cr_data(a.fields[0]), cr_data(b.fields[0]), 784 * sizeof(float)); /* fixed */
        }
    cr_data_dataset_free(train);
    cr_data_dataset_free(test);
}

/* The middle and the larger side of what is drawn. */
static void extent(const uint8_t *pixels, int side, double *x, double *y, int *larger) {
    int low_x = side, high_x = -1, low_y = side, high_y = -1;
    for (int i = 0; i < side * side; i++) {
        if (pixels[i] < 64) continue;
        if (i % side < low_x) low_x = i % side;
        if (i % side > high_x) high_x = i % side;
        if (i / side < low_y) low_y = i / side;
        if (i / side > high_y) high_y = i / side;
    }
    *x = (low_x + high_x + 1) / 2.0, *y = (low_y + high_y + 1) / 2.0;
    *larger = high_x - low_x > high_y - low_y ? high_x - low_x + 1 : high_y - low_y + 1;
}

static void outlines_fall_where_they_are_put(void **state) {
    (void)state;
    enum { SIDE = 64 };
    if (access(outline_font, R_OK) != 0) skip();
    size_t size;
    uint8_t *data = cr_file_load(outline_font, 0, &size), pixels[SIDE * SIDE];
    cr_outline_font *font = cr_outline_font_new(data, size, "1l");
    assert_non_null(font);
    for (int turned = 0; turned < 2; turned++) {
        double x, y;
        int larger;
        const cr_outline_place place = {40, turned ? 3.14159265358979 / 2 : 0, 30, 35};
        assert_true(cr_outline_draw(font, 'l', place, pixels, SIDE));
        extent(pixels, SIDE, &x, &y, &larger);
        assert_float_equal(x, 30, 1);
        assert_float_equal(y, 35, 1);
        assert_in_range(larger, 39, 41);
        assert_int_equal(pixels[35 * SIDE + 14] >= 64, turned); /* lies on its side */
    }
    /* the flag of the 1 points to the upper left, and a quarter turn counter-clockwise takes it to the lower left */
    assert_true(cr_outline_draw(font, '1', (cr_outline_place){40, 0, 32, 32}, pixels, SIDE));
    int upper = 0, lower = 0;
    for (int i = 0; i < SIDE * SIDE; i++)
        if (i % SIDE < 26) *(i / SIDE < 26 ? &upper : &lower) += pixels[i] >= 64 && i / SIDE < 44;
    assert_true(upper > lower);
    cr_outline_font_free(font);
}

static void folders_without_usable_fonts_are_named(void **state) {
    (void)state;
    mkdir(in_folder("fonts"), 0700);
    assert_null(cr_vision_glyphs(.folder = in_folder("fonts"), .transform = cr_vision_to_tensor()));
    assert_cr_error(CR_ERROR_IO, "none of the 0 .ttf files");
    static bytes font;
    make_color_font(&font, 1, 17);
    write_file("fonts/color.ttf", font.at, font.size);
    assert_null(cr_vision_glyphs(.folder = in_folder("fonts")));
    assert_cr_error(CR_ERROR_IO, "install fonts-dejavu-core");
    assert_null(cr_vision_glyphs(.folder = in_folder("nowhere")));
    assert_cr_error(CR_ERROR_IO, "nowhere");
    assert_null(cr_vision_glyphs(.characters = "a\xc3\xa4"));
    assert_cr_error(CR_ERROR_ARGUMENT, "no visible ASCII");
    assert_null(cr_vision_glyphs(.image_size = 4));
    assert_cr_error(CR_ERROR_ARGUMENT, "image_size 4");
}

static void damaged_outline_fonts_are_left_out(void **state) {
    (void)state;
    if (access(outline_font, R_OK) != 0) skip();
    size_t size;
    uint8_t *data = cr_file_load(outline_font, 0, &size);
    uint64_t counter = 0;
    const int64_t before = cr_memory_stats().live_bytes;
    for (int round = 0; round < 150; round++) {
        uint8_t *mutant = cr_malloc(size);
        memcpy(mutant, data, size);
        const size_t at = round % 2 ? draw(&counter) % 400 : draw(&counter) % size;
        mutant[at] ^= (uint8_t)(1u << round % 8);
        cr_outline_font *font = cr_outline_font_new(mutant, round % 5 ? size : at, "0123456789");
        uint8_t pixels[28 * 28];
        /* bytes of the directory that say nothing, and padding between tables, may change */
        for (char c = '0'; font && c <= '9'; c++)
            assert_true(cr_outline_draw(font, c, (cr_outline_place){20, 0, 14, 14}, pixels, 28));
        cr_outline_font_free(font);
        assert_cr_ok();
        assert_int_equal(cr_memory_stats().live_bytes, before);
    }
    cr_free(data);
}

static void every_failed_allocation_is_an_error(void **state) {
    (void)state;
    static bytes font;
    make_color_font(&font, 4, 17);
    write_file("scarce.ttf", font.at, font.size);
    for (int kind = 0; kind < 2; kind++)
        for (int n = 1, failed = 1; failed; n++) {
            cr_data_sample sample;
            cr_data_dataset *data = NULL;
            if (kind == 1 && access(outline_font, R_OK) != 0) break;
            cr_memory_fail_nth(n);
            if (kind == 0) data = cr_vision_emoji(.font = in_folder("scarce.ttf"), .image_size = 8);
            if (kind == 1) data = cr_vision_glyphs(.folder = "/usr/share/fonts/truetype/dejavu", .count = 3);
            CR_SCOPE {
                failed = !data || !cr_data_dataset_get(data, 0, NULL, &sample) || !cr_ok();
            }
            cr_memory_fail_nth(0);
            if (failed) assert_cr_error(CR_ERROR_MEMORY, "made to fail");
            cr_data_dataset_free(data);
            assert_int_equal(cr_memory_stats().live_bytes, live_bytes);
        }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, remember_memory, memory_is_as_before)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(every_index_format_of_colour_fonts_is_read),
        TEST(transparent_pixels_become_white),
        TEST(damaged_colour_fonts_are_errors),
        TEST(a_wrong_emoji_font_is_named),
        TEST(the_installed_emoji_are_all_there),
        TEST(digits_are_drawn_from_installed_fonts),
        TEST(outlines_fall_where_they_are_put),
        TEST(folders_without_usable_fonts_are_named),
        TEST(damaged_outline_fonts_are_left_out),
        TEST(every_failed_allocation_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_temporary_folder, remove_temporary_folder);
}
