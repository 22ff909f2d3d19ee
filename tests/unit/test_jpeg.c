/* JPEG through libjpeg-turbo: what that writes in every way it knows is read as stb reads it; damage is an error.
 * Needs: libjpeg */
#include "core/image.h"
#include "tests/unit/testing.h"

#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_JPEG
#define STBI_NO_STDIO
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb_image.h>

/* How a picture is written. */
typedef struct way {
    const char *name;
    J_COLOR_SPACE colors, stored; /* given, and in the file */
    int across, down;             /* of the first component's sampling, beside 1 of the others */
    bool is_progressive;
    int restart_blocks;
} way;

static const way ways[] = {
    {"colour", JCS_RGB, JCS_YCbCr, 1, 1},
    {"halved across", JCS_RGB, JCS_YCbCr, 2, 1},
    {"halved both ways", JCS_RGB, JCS_YCbCr, 2, 2},
    {"progressive", JCS_RGB, JCS_YCbCr, 2, 2, true},
    {"restarts", JCS_RGB, JCS_YCbCr, 2, 2, false, 2},
    {"stored as RGB", JCS_RGB, JCS_RGB, 1, 1},
    {"grey", JCS_GRAYSCALE, JCS_GRAYSCALE, 1, 1},
    {"grey, progressive", JCS_GRAYSCALE, JCS_GRAYSCALE, 1, 1, true},
    {"CMYK", JCS_CMYK, JCS_CMYK, 1, 1},
    {"YCCK", JCS_CMYK, JCS_YCCK, 1, 1},
};
enum { WAYS = sizeof ways / sizeof *ways, WIDTH = 45, HEIGHT = 37 };

/* A smooth picture in memory from malloc. */
static unsigned long write_picture(const way *w, unsigned char **bytes) {
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned long size = 0;
    unsigned char row[WIDTH * 4], *rows[] = {row};
    const int channels = w->colors == JCS_RGB ? 3 : w->colors == JCS_CMYK ? 4 : 1;
    *bytes = NULL;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, bytes, &size);
    jpeg.image_width = WIDTH, jpeg.image_height = HEIGHT;
    jpeg.input_components = channels, jpeg.in_color_space = w->colors;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, 92, TRUE);
    jpeg_set_colorspace(&jpeg, w->stored);
    jpeg.comp_info[0].h_samp_factor = w->across, jpeg.comp_info[0].v_samp_factor = w->down;
    if (w->is_progressive) jpeg_simple_progression(&jpeg);
    jpeg.restart_interval = (unsigned)w->restart_blocks;
    jpeg_start_compress(&jpeg, TRUE);
    for (int y = 0; y < HEIGHT; y++) {
        for (int i = 0; i < WIDTH * channels; i++)
            row[i] = (unsigned char)(20 + 2 * (i / channels) + y + 25 * (i % channels));
        jpeg_write_scanlines(&jpeg, rows, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    return size;
}

/* The mean and the greatest difference of two pictures. */
static double difference(const uint8_t *a, const uint8_t *b, int count, int *greatest) {
    double sum = 0;
    *greatest = 0;
    for (int i = 0; i < count; i++) {
        const int one = abs(a[i] - b[i]);
        sum += one;
        if (one > *greatest) *greatest = one;
    }
    return sum / count;
}

static void every_way_is_read_as_stb_reads_it(void **state) {
    (void)state;
    for (int i = 0; i < WAYS; i++)
        for (int channels = 0; channels <= 4; channels++) {
            unsigned char *bytes;
            const int size = (int)write_picture(&ways[i], &bytes);
            int width, height, own, greatest;
            cr_image image;
            assert_true(cr_image_decode(bytes, (size_t)size, channels, ways[i].name, &image));
            uint8_t *expected = stbi_load_from_memory(bytes, size, &width, &height, &own, channels);
            assert_non_null(expected);
            assert_int_equal(image.width, WIDTH);
            assert_int_equal(image.height, HEIGHT);
            assert_int_equal(image.channels, channels ? channels : own);
            const double mean = difference(image.pixels, expected, WIDTH * HEIGHT * image.channels, &greatest);
            if (mean > 0.5 || greatest > 6)
                fail_msg("%s in %d channels: differs by %g, at most by %d", ways[i].name, channels, mean, greatest);
            stbi_image_free(expected);
            cr_image_free(&image);
            free(bytes);
        }
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

/* A whole picture or an error, and nothing left behind. */
static bool decodes(const uint8_t *bytes, size_t size, int channels) {
    cr_image image;
    cr_memory_set_limit(64 << 20);
    const bool done = cr_image_decode(bytes, size, channels, "mutant", &image);
    cr_memory_set_limit(0);
    assert_int_equal(done, cr_ok());
    assert_int_equal(done, image.pixels != NULL);
    cr_image_free(&image);
    cr_clear_error();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
    return done;
}

static void damage_is_an_error_or_a_picture(void **state) {
    (void)state;
    uint64_t counter = 0;
    for (int i = 0; i < WAYS; i++) {
        unsigned char *bytes;
        const size_t size = write_picture(&ways[i], &bytes);
        for (size_t cut = 0; cut < size; cut++) {
            uint8_t *exact = malloc(cut ? cut : 1); /* so that a sanitizer sees a read behind it */
            memcpy(exact, bytes, cut);
            assert_false(decodes(exact, cut, 3));
            free(exact);
        }
        uint8_t *mutant = malloc(size);
        for (int round = 0; round < 1500; round++) {
            uint32_t draws[4];
            memcpy(mutant, bytes, size);
            cr_philox((cr_generator_state){7, 0}, counter++, draws);
            mutant[draws[0] % (round % 2 ? size : size / 2)] = (uint8_t)draws[1];
            if (round % 3) mutant[draws[2] % size] ^= (uint8_t)(1u << draws[3] % 8);
            decodes(mutant, size, round % 5);
        }
        free(mutant);
        free(bytes);
    }
}

/* Coded data of ones alone (FF 00 is a byte FF), which are no code of any table; read over, they would be a grey picture. */
static void codes_that_no_table_has_are_refused(void **state) {
    (void)state;
    unsigned char *bytes;
    size_t size = write_picture(&ways[0], &bytes), at = 0;
    while (bytes[at] != 0xff || bytes[at + 1] != 0xda)
        at++;
    for (at += 2 + (size_t)bytes[at + 3]; at + 4 <= size; at += 2)
        bytes[at] = 0xff, bytes[at + 1] = 0;
    bytes[size - 2] = 0xff, bytes[size - 1] = 0xd9;
    cr_image image;
    assert_false(cr_image_decode(bytes, size, 3, "ones", &image));
    assert_cr_error(CR_ERROR_FORMAT, "ones: cannot be decoded: Corrupt JPEG data: bad Huffman code");
    free(bytes);
}

/* The last scan of a progressive picture again and again: each would be a pass over the picture. */
static void endless_scans_are_refused(void **state) {
    (void)state;
    unsigned char *bytes;
    const size_t size = write_picture(&ways[3], &bytes);
    size_t scan = size - 2;
    while (bytes[scan] != 0xff || bytes[scan + 1] != 0xda)
        scan--;
    enum { TIMES = 600 };
    const size_t scan_bytes = size - 2 - scan;
    uint8_t *file = malloc(size + TIMES * scan_bytes);
    memcpy(file, bytes, size - 2);
    for (size_t i = 0; i < TIMES; i++)
        memcpy(file + size - 2 + i * scan_bytes, bytes + scan, scan_bytes);
    memcpy(file + size - 2 + TIMES * scan_bytes, bytes + size - 2, 2);
    cr_image image;
    assert_false(cr_image_decode(file, size + TIMES * scan_bytes, 3, "endless", &image));
    assert_cr_error(CR_ERROR_FORMAT, "endless: more than 500 scans");
    free(file);
    free(bytes);
}

static void every_failed_allocation_is_an_error(void **state) {
    (void)state;
    unsigned char *bytes;
    const size_t size = write_picture(&ways[0], &bytes);
    for (int n = 1, failed = 1; failed; n++) {
        cr_image image;
        cr_memory_fail_nth(n);
        failed = !cr_image_decode(bytes, size, 3, "test", &image);
        cr_memory_fail_nth(0);
        if (failed) assert_cr_error(CR_ERROR_MEMORY, "made to fail");
        cr_image_free(&image);
        assert_int_equal(cr_memory_stats().live_bytes, 0);
    }
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_is_read_as_stb_reads_it),   cmocka_unit_test(damage_is_an_error_or_a_picture),
        cmocka_unit_test(codes_that_no_table_has_are_refused), cmocka_unit_test(endless_scans_are_refused),
        cmocka_unit_test(every_failed_allocation_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
