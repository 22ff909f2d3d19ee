/* The characters of a font's glyphs: single ones, ligatures, what is damaged; and choosing emoji by them.
 * Needs: images */
#include "tests/unit/testing.h"
#include "tests/unit/memory_checks.h"
#include "vision/glyph_text.h"

#include <stdlib.h>
#include <unistd.h>

static const char emoji_font[] = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf";

/* A font being written, in big-endian words. */
typedef struct font {
    uint8_t bytes[512];
    size_t size;
} font;

static void put(font *f, size_t count, const uint16_t *words) {
    for (size_t i = 0; i < count; i++) {
        f->bytes[f->size++] = (uint8_t)(words[i] >> 8);
        f->bytes[f->size++] = (uint8_t)words[i];
    }
}
#define PUT(f, ...) put(f, sizeof((uint16_t[]){__VA_ARGS__}) / 2, (uint16_t[]){__VA_ARGS__})

enum { CMAP = 44, CMAP_SIZE = 64, GSUB = CMAP + CMAP_SIZE };

/* U+1F44D is glyph 5, U+1F3FB and U+1F3FC are 6 and 7, U+2764 is 8. As one are drawn 5 6 (glyph 20), 5 7 (21), 8 99
 * (22: 99 has no character), 8 7 5 (23). With `long_form` the lookup is an extension and the coverage ranges. */
static font make_font(bool long_form) {
    const uint16_t more = long_form ? 8 : 0;
    font f = {.size = 0};
    PUT(&f, 1, 0, 2, 0, 0, 0);
    PUT(&f, 'c' << 8 | 'm', 'a' << 8 | 'p', 0, 0, 0, CMAP, 0, CMAP_SIZE);
    PUT(&f, 'G' << 8 | 'S', 'U' << 8 | 'B', 0, 0, 0, GSUB, 0, (uint16_t)(78 + 2 * more));
    PUT(&f, 0, 1, 3, 10, 0, 12);       /* cmap: one subtable at 12 */
    PUT(&f, 12, 0, 0, 52, 0, 0, 0, 3); /* format 12: three groups */
    PUT(&f, 0, 0x2764, 0, 0x2764, 0, 8, 1, 0xf3fb, 1, 0xf3fc, 0, 6, 1, 0xf44d, 1, 0xf44d, 0, 5);
    PUT(&f, 1, 0, 0, 0, 10);                                         /* GSUB: lookups at 10 */
    PUT(&f, 1, 4, long_form ? 7 : 4, 0, 1, 8);                       /* one, at 14, of one subtable at 22 */
    if (long_form) PUT(&f, 1, 4, 0, 8);                              /* which is at 30 */
    PUT(&f, 1, 10, 2, (uint16_t)(18 + more), (uint16_t)(36 + more)); /* coverage at 10, two sets */
    if (long_form)
        PUT(&f, 2, 2, 5, 5, 0, 8, 8, 1);
    else
        PUT(&f, 1, 2, 5, 8);
    PUT(&f, 2, 6, 12, 20, 2, 6, 21, 2, 7);
    PUT(&f, 2, 6, 12, 22, 2, 99, 23, 3, 7, 5);
    return f;
}

static bool is_text(const cr_glyph_text *text, uint32_t count, uint32_t a, uint32_t b, uint32_t c) {
    return text->count == count && text->at[0] == a && text->at[1] == b && text->at[2] == c;
}

static void characters_and_ligatures_are_read(void **state) {
    (void)state;
    for (int form = 0; form < 2; form++) {
        const font f = make_font(form);
        cr_glyph_text *texts = cr_glyph_texts((cr_bytes){f.bytes, f.size}, "font");
        assert_cr_ok();
        assert_true(is_text(&texts[5], 1, 0x1f44d, 0, 0));
        assert_true(is_text(&texts[6], 1, 0x1f3fb, 0, 0));
        assert_true(is_text(&texts[7], 1, 0x1f3fc, 0, 0));
        assert_true(is_text(&texts[8], 1, 0x2764, 0, 0));
        assert_true(is_text(&texts[20], 2, 0x1f44d, 0x1f3fb, 0));
        assert_true(is_text(&texts[21], 2, 0x1f44d, 0x1f3fc, 0));
        assert_true(is_text(&texts[22], 0, 0, 0, 0));
        assert_true(is_text(&texts[23], 3, 0x2764, 0x1f3fc, 0x1f44d));
        cr_free(texts);
    }
}

static void a_font_without_the_tables_tells_nothing(void **state) {
    (void)state;
    font f = make_font(false);
    f.bytes[12] = f.bytes[28] = 'x'; /* xmap, xSUB */
    cr_glyph_text *texts = cr_glyph_texts((cr_bytes){f.bytes, f.size}, "font");
    assert_cr_ok();
    assert_int_equal(texts[5].count, 0);
    assert_int_equal(texts[20].count, 0);
    cr_free(texts);
}

/* Every byte of the two tables with every single bit turned, and tables cut off: an answer or an error, never a read
 * outside (the sanitizers look), and soon. */
static void damaged_tables_are_errors(void **state) {
    (void)state;
    for (int form = 0; form < 2; form++) {
        const font f = make_font(form);
        for (size_t at = CMAP; at < f.size; at++)
            for (int bit = 0; bit < 8; bit += 7) {
                uint8_t *mutant = malloc(f.size);
                memcpy(mutant, f.bytes, f.size);
                mutant[at] ^= (uint8_t)(1 << bit);
                cr_free(cr_glyph_texts((cr_bytes){mutant, f.size}, "font"));
                cr_clear_error();
                free(mutant);
            }
        for (int table = 0; table < 2; table++) {
            font cut = f;
            cut.bytes[12 + 16 * table + 15] -= 4; /* the table's length */
            assert_null(cr_glyph_texts((cr_bytes){cut.bytes, cut.size}, "font"));
            assert_cr_error(CR_ERROR_FORMAT, table ? "font: the font's table GSUB" : "font: the font's table cmap");
        }
    }
}

/* One group that overlaps with itself a million times must not take for ever. */
static void a_font_made_to_take_long_is_an_error(void **state) {
    (void)state;
    enum { GROUPS = 2000, BYTES = 28 + 12 + 16 + 12 * GROUPS };
    uint8_t *bytes = calloc(1, BYTES);
    const uint8_t header[] = {0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 'c', 'm', 'a', 'p', 0, 0, 0, 0, 0, 0, 0, 28};
    const uint8_t group[] = {0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0};
    memcpy(bytes, header, sizeof header);
    bytes[26] = (BYTES - 28) >> 8, bytes[27] = (BYTES - 28) & 255;
    bytes[31] = 1, bytes[39] = 12, bytes[41] = 12, bytes[54] = GROUPS >> 8, bytes[55] = GROUPS & 255;
    for (int i = 0; i < GROUPS; i++)
        memcpy(bytes + 56 + 12 * i, group, sizeof group);
    assert_null(cr_glyph_texts((cr_bytes){bytes, BYTES}, "font"));
    assert_cr_error(CR_ERROR_FORMAT, "cmap");
    free(bytes);
}

static int without_text;
static bool is_tinted_thumb(const uint32_t *characters, int count) {
    without_text += count == 0;
    return count == 2 && characters[0] == 0x1f44d && characters[1] >= 0x1f3fb && characters[1] <= 0x1f3ff;
}
static bool is_nothing(const uint32_t *characters, int count) {
    (void)characters, (void)count;
    return false;
}

static void installed_emoji_are_chosen_by_their_characters(void **state) {
    (void)state;
    if (access(emoji_font, R_OK) != 0) skip();
    without_text = 0;
    cr_data_dataset *thumbs = cr_vision_emoji(.image_size = 16, .choose = is_tinted_thumb);
    assert_cr_ok();
    assert_int_equal(cr_data_dataset_length(thumbs), 5);
    assert_int_equal(without_text, 0);
    double last = 2; /* tints go from light to dark */
    for (int64_t i = 0; i < 5; i++) {
        CR_SCOPE {
            cr_data_sample sample;
            assert_true(cr_data_dataset_get(thumbs, i, NULL, &sample));
            const double light = cr_item(cr_mean(sample.fields[0]));
            assert_true(light < last);
            last = light;
        }
    }
    cr_data_dataset_free(thumbs);
    assert_null(cr_vision_emoji(.choose = is_nothing));
    assert_cr_error(CR_ERROR_ARGUMENT, "wanted none");
    for (int n = 1, failed = 1; failed; n++) {
        cr_memory_fail_nth(n);
        cr_data_dataset *data = cr_vision_emoji(.image_size = 8, .choose = is_tinted_thumb);
        failed = data == NULL;
        cr_memory_fail_nth(0);
        if (failed) assert_cr_error(CR_ERROR_MEMORY, "made to fail");
        cr_data_dataset_free(data);
        assert_int_equal(cr_memory_stats().live_bytes, live_bytes);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, remember_memory, memory_is_as_before)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(characters_and_ligatures_are_read),
        TEST(a_font_without_the_tables_tells_nothing),
        TEST(damaged_tables_are_errors),
        TEST(a_font_made_to_take_long_is_an_error),
        TEST(installed_emoji_are_chosen_by_their_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
