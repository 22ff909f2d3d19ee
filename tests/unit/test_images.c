/* Pictures in memory: what is encoded decodes again; damaged files are errors, never crashes, and take bounded memory.
 * Needs: images */
#include "core/image.h"
#include "tests/unit/testing.h"

#include <stdlib.h>
#include <zlib.h>

/* A smooth picture with some detail. */
static cr_image make_image(int width, int height, int channels) {
    cr_image image = {width, height, channels, cr_malloc((size_t)(width * height * channels))};
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < channels; c++)
                image.pixels[(y * width + x) * channels + c] = (uint8_t)(128 + 4 * x * (c + 1) - 3 * y + (x * y) % 7);
    return image;
}

/* The pseudo-random source of all mutations here: the same on every run. */
static uint32_t draw(uint64_t *counter) {
    uint32_t numbers[4];
    cr_philox((cr_generator_state){7, 0}, (*counter)++, numbers);
    return numbers[0];
}

static void png_keeps_every_pixel(void **state) {
    (void)state;
    const int64_t before = cr_memory_stats().live_bytes;
    for (int channels = 1; channels <= 4; channels++) {
        cr_image image = make_image(19, 11, channels), back;
        uint8_t *bytes;
        size_t size;
        assert_true(cr_image_encode_png(&image, &bytes, &size));
        assert_true(cr_image_decode(bytes, size, 0, "test", &back));
        assert_int_equal(back.channels, channels);
        assert_int_equal(back.width, 19);
        assert_int_equal(back.height, 11);
        assert_memory_equal(back.pixels, image.pixels, (size_t)(19 * 11 * channels));
        cr_image_free(&back);
        cr_image_free(&image);
        cr_free(bytes);
    }
    assert_cr_ok();
    assert_int_equal(cr_memory_stats().live_bytes, before);
}

static void jpg_stays_close(void **state) {
    (void)state;
    cr_image image = {32, 32, 3, cr_malloc(32 * 32 * 3)}, back;
    for (int i = 0; i < 32 * 32; i++)
        for (int c = 0; c < 3; c++)
            image.pixels[i * 3 + c] = (uint8_t)(c == 0 ? i % 32 * 8 : c == 1 ? i / 32 * 8 : 99);
    uint8_t *bytes;
    size_t size;
    assert_true(cr_image_encode_jpg(&image, 95, &bytes, &size));
    assert_true(cr_image_decode(bytes, size, 3, "test", &back));
    double difference = 0;
    for (int i = 0; i < 32 * 32 * 3; i++)
        difference += abs(image.pixels[i] - back.pixels[i]);
    assert_true(difference / (32 * 32 * 3) < 3.0);
    cr_free(bytes);
    assert_false(cr_image_encode_jpg(&image, 0, &bytes, &size));
    assert_null(bytes);
    assert_cr_error(CR_ERROR_ARGUMENT, "quality 0");
    cr_image_free(&image);
    cr_image_free(&back);
}

static void tensors_become_pictures_as_torchvision_rounds(void **state) {
    (void)state;
    CR_SCOPE {
        const float values[] = {0.0f, 1.0f, 0.5f, -3.0f, 7.0f, 0.0f / 0.0f};
        cr_image image;
        assert_true(cr_image_from_tensor(cr_from_data(CR_F32, CR_SHAPE(1, 2, 3), values), &image));
        const uint8_t expected[] = {0, 255, 128, 0, 255, 0};
        assert_memory_equal(image.pixels, expected, 6);
        cr_image_free(&image);
        const uint8_t planar[] = {1, 2, 3, 4, 5, 6, 7, 8};
        cr_tensor *t = cr_from_data(CR_U8, CR_SHAPE(2, 2, 2), planar);
        assert_true(cr_image_from_tensor(t, &image));
        const uint8_t interleaved[] = {1, 5, 2, 6, 3, 7, 4, 8};
        assert_memory_equal(image.pixels, interleaved, 8);
        assert_memory_equal(cr_data(cr_image_to_tensor(&image)), planar, 8);
        cr_image_free(&image);
        uint8_t rgb[7 * 3]; /* four pixels at once, and three more */
        for (int i = 0; i < 7 * 3; i++)
            rgb[i] = (uint8_t)(100 * (i % 3) + i / 3 + (i / 3 % 2 ? 50 : 0));
        const uint8_t *separate = cr_data(cr_image_to_tensor(&(cr_image){7, 1, 3, rgb}));
        for (int i = 0; i < 7 * 3; i++)
            assert_int_equal(separate[i % 3 * 7 + i / 3], rgb[i]);
        assert_false(cr_image_from_tensor(cr_empty(CR_F32, CR_SHAPE(5, 2, 2), CR_CPU), &image));
        assert_cr_error(CR_ERROR_SHAPE, "f32[5,2,2]");
        assert_false(cr_image_from_tensor(cr_empty(CR_I64, CR_SHAPE(2, 2), CR_CPU), &image));
        assert_cr_error(CR_ERROR_DTYPE, "i64[2,2]");
        assert_false(cr_image_from_tensor(NULL, &image));
        assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
    }
}

/* torch.nn.functional.interpolate(mode="bilinear", antialias=True), whose weights are written out here, on a row. */
static void resizing_is_antialiased_bilinear(void **state) {
    (void)state;
    float row[16], small[4], large[32];
    for (int i = 0; i < 16; i++)
        row[i] = (float)(i * i);
    const cr_image_planes source = {row, 1, 1, 16};
    assert_true(cr_image_resize(CR_F32, &source, &(cr_image_part){1, 4}, &(cr_image_planes){small, 1, 1, 4}));
    for (int x = 0; x < 4;
         x++) { /* centre 4 x + 1.5 with a triangle of half-width 4; outside of the row counts nothing */
        double sum = 0, weights = 0;
        for (int i = 0; i < 16; i++) {
            const double distance = i > 4 * x + 1.5 ? i - 4 * x - 1.5 : 4 * x + 1.5 - i;
            if (distance >= 4) continue;
            sum += (1 - distance / 4) * i * i;
            weights += 1 - distance / 4;
        }
        assert_float_equal(small[x], sum / weights, 1e-4);
    }
    assert_true(cr_image_resize(CR_F32, &source, &(cr_image_part){1, 32}, &(cr_image_planes){large, 1, 1, 32}));
    assert_float_equal(large[9], 0.75 * 16 + 0.25 * 25, 1e-4); /* centre 4.25 */
    uint8_t bytes[4 * 4] = {0, 100, 200, 255, 0, 100, 200, 255, 0, 100, 200, 255, 0, 100, 200, 255}, column[2 * 2];
    assert_true(cr_image_resize(CR_U8, &(cr_image_planes){bytes, 1, 4, 4}, &(cr_image_part){2, 2},
                                &(cr_image_planes){column, 1, 2, 2}));
    /* weights 3, 3, 1 of 7 at the left, 1, 3, 3 of 7 at the right: 71.43 and 209.29 */
    assert_memory_equal(column, ((const uint8_t[]){71, 209, 71, 209}), 4);
    assert_false(cr_image_resize(CR_F32, &source, &(cr_image_part){1, 0}, &(cr_image_planes){large, 1, 1, 0}));
    assert_cr_error(CR_ERROR_FORMAT, "0 x 1");
}

/* Recomputes the checksums of a PNG's chunks, so that a mutation reaches the decoder behind them. */
static void repair_png(uint8_t *bytes, size_t size) {
    for (size_t at = 8; at + 12 <= size;) {
        const size_t length =
            (size_t)bytes[at] << 24 | (size_t)bytes[at + 1] << 16 | (size_t)bytes[at + 2] << 8 | bytes[at + 3];
        if (length > size - at - 12) return;
        const uint32_t sum = (uint32_t)crc32(0, bytes + at + 4, (uInt)length + 4);
        for (int i = 0; i < 4; i++)
            bytes[at + 8 + length + (size_t)i] = (uint8_t)(sum >> (24 - 8 * i));
        at += 12 + length;
    }
}

/* Decodes; either a whole picture or an error with nothing left behind, never more than 64 MiB. */
static bool decodes(const uint8_t *bytes, size_t size) {
    const int64_t before = cr_memory_stats().live_bytes;
    cr_image image;
    cr_memory_set_limit(before + (64 << 20));
    const bool done = cr_image_decode(bytes, size, 3, "mutant", &image);
    cr_memory_set_limit(0);
    assert_int_equal(done, cr_ok());
    assert_int_equal(done, image.pixels != NULL);
    cr_image_free(&image);
    cr_clear_error();
    assert_int_equal(cr_memory_stats().live_bytes, before);
    return done;
}

/* One to four bytes change, in half of the rounds within the first `header` bytes. */
static void mutate(const uint8_t *bytes, size_t size, size_t header, int rounds, bool is_png) {
    uint8_t *mutant = cr_malloc(size);
    uint64_t counter = size;
    for (int round = 0; round < rounds; round++) {
        memcpy(mutant, bytes, size);
        const int flips = 1 + (int)(draw(&counter) % 4);
        for (int i = 0; i < flips; i++) {
            const size_t at = draw(&counter) % (round % 2 ? size : header);
            mutant[at] = round % 3 ? (uint8_t)draw(&counter) : (uint8_t)(mutant[at] ^ 1u << (draw(&counter) % 8));
        }
        if (is_png) repair_png(mutant, size);
        decodes(mutant, size);
    }
    cr_free(mutant);
}

static void every_truncation_is_an_error(const uint8_t *bytes, size_t size) {
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *exact = malloc(cut ? cut : 1); /* of exactly this size, so that a sanitizer sees a read behind it */
        memcpy(exact, bytes, cut);
        assert_false(decodes(exact, cut));
        free(exact);
    }
}

static void damaged_pngs_are_errors(void **state) {
    (void)state;
    for (int channels = 1; channels <= 4; channels++) {
        cr_image image = make_image(33, 17, channels);
        uint8_t *bytes;
        size_t size;
        assert_true(cr_image_encode_png(&image, &bytes, &size));
        assert_true(decodes(bytes, size));
        every_truncation_is_an_error(bytes, size);
        for (size_t at = 0; at < size; at++) { /* checksums catch every flipped bit */
            bytes[at] ^= (uint8_t)(1u << (at % 8));
            assert_false(decodes(bytes, size));
            bytes[at] ^= (uint8_t)(1u << (at % 8));
        }
        mutate(bytes, size, 64, 1500, true);
        cr_image_free(&image);
        cr_free(bytes);
    }
}

static void damaged_jpgs_are_errors(void **state) {
    (void)state;
    cr_image image = make_image(33, 17, 3);
    uint8_t *bytes;
    size_t size;
    assert_true(cr_image_encode_jpg(&image, 80, &bytes, &size));
    assert_true(decodes(bytes, size));
    every_truncation_is_an_error(bytes, size);
    mutate(bytes, size, 620, 6000, false);
    uint8_t *frame = bytes + 2;
    while (frame[1] != 0xc0)
        frame += 2 + (frame[2] << 8 | frame[3]);
    frame[1] = 0xc2; /* declared progressive: its own decoder, its own mistakes */
    mutate(bytes, size, 620, 6000, false);
    cr_image_free(&image);
    cr_free(bytes);
}

static void impossible_huffman_tables_are_refused(void **state) {
    (void)state;
    /* Start of image; a table of 16 * 17 = 272 codes, then one of 256 codes of at most 9 bits; end of image. */
    for (int kind = 0; kind < 2; kind++) {
        uint8_t file[4 + 2 + 17 + 272 + 2] = {0xff, 0xd8, 0xff, 0xc4};
        const int codes = kind ? 256 : 272, length = 2 + 17 + codes;
        file[4] = (uint8_t)(length >> 8), file[5] = (uint8_t)length;
        for (int i = 0; i < 16; i++)
            file[7 + i] = (uint8_t)(kind ? (i == 8 ? 255 : i == 7) : 17);
        file[4 + length] = 0xff, file[5 + length] = 0xd9;
        cr_image image;
        assert_false(cr_image_decode(file, (size_t)length + 6, 0, "table", &image));
        assert_cr_error(CR_ERROR_FORMAT, "Huffman table");
    }
}

static void a_small_file_cannot_ask_for_much_memory(void **state) {
    (void)state;
    /* 8 x 8 pixels, but 48 MiB of zeros in its compressed rows. */
    const size_t plain = 48 << 20;
    uint8_t *zeros = cr_calloc(plain, 1), *file = cr_malloc(1 << 20);
    const uint8_t header[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n', 0, 0, 0, 13, 'I', 'H', 'D', 'R', 0,
                              0,    0,   8,   0,   0,    0,    8,    8,    2, 0, 0, 0,  0,   0,   0,   0};
    memcpy(file, header, sizeof header);
    uLongf packed = 1 << 19;
    assert_int_equal(compress2(file + sizeof header + 8, &packed, zeros, plain, 9), Z_OK);
    uint8_t *chunk = file + sizeof header;
    for (int i = 0; i < 4; i++)
        chunk[i] = (uint8_t)(packed >> (24 - 8 * i));
    memcpy(chunk + 4, "IDAT", 4);
    const uint8_t end[] = {0, 0, 0, 0, 0, 0, 0, 0, 'I', 'E', 'N', 'D', 0, 0, 0, 0};
    memcpy(chunk + 8 + packed, end, sizeof end);
    const size_t size = sizeof header + 8 + packed + sizeof end;
    repair_png(file, size);
    cr_free(zeros);
    cr_memory_reset_peak();
    const int64_t before = cr_memory_stats().live_bytes;
    cr_image image;
    assert_false(cr_image_decode(file, size, 3, "bomb", &image));
    assert_cr_error(CR_ERROR_FORMAT, "bomb");
    assert_true(cr_memory_stats().peak_bytes - before < 4 << 20);
    /* A header that claims 16384 x 16384 is refused by its size alone. */
    memcpy(file + 16, (const uint8_t[]){0, 0, 0x40, 0, 0, 0, 0x40, 0}, 8);
    repair_png(file, size);
    assert_false(cr_image_decode(file, size, 3, "giant", &image));
    assert_cr_error(CR_ERROR_FORMAT, "16384 x 16384");
    cr_free(file);
}

static void bmp_is_read_and_checked(void **state) {
    (void)state;
    /* 2 x 1 pixels of 24 bits: blue, red; rows are padded to 8 bytes. */
    uint8_t file[62] = {
        'B', 'M', 62, [10] = 54, [14] = 40, [18] = 2, [22] = 1, [26] = 1, [28] = 24, [54] = 255, [59] = 255};
    cr_image image;
    assert_true(cr_image_decode(file, sizeof file, 3, "bmp", &image));
    assert_memory_equal(image.pixels, ((const uint8_t[]){0, 0, 255, 255, 0, 0}), 6);
    cr_image_free(&image);
    every_truncation_is_an_error(file, sizeof file);
    mutate(file, sizeof file, 54, 4000, false);
}

static void other_bytes_are_refused(void **state) {
    (void)state;
    cr_image image;
    assert_false(cr_image_decode("GIF89a", 6, 0, "moving.gif", &image));
    assert_cr_error(CR_ERROR_UNSUPPORTED, "moving.gif: not a PNG, JPEG or BMP");
    assert_false(cr_image_decode(NULL, 0, 0, NULL, &image));
    assert_cr_error(CR_ERROR_ARGUMENT, "bytes");
}

static void every_failed_allocation_is_an_error(void **state) {
    (void)state;
    cr_image image = make_image(9, 9, 3), back;
    uint8_t *bytes, *again;
    size_t size, again_size;
    assert_true(cr_image_encode_png(&image, &bytes, &size));
    const int64_t before = cr_memory_stats().live_bytes;
    for (int n = 1, failed = 1; failed; n++) {
        cr_memory_fail_nth(n);
        failed = !cr_image_decode(bytes, size, 3, "test", &back);
        cr_memory_fail_nth(0);
        if (failed) assert_cr_error(CR_ERROR_MEMORY, "made to fail");
        cr_image_free(&back);
        assert_int_equal(cr_memory_stats().live_bytes, before);
    }
    for (int format = 0; format < 2; format++)
        for (int n = 1, failed = 1; failed; n++) {
            cr_memory_fail_nth(n);
            failed = format ? !cr_image_encode_jpg(&image, 90, &again, &again_size)
                            : !cr_image_encode_png(&image, &again, &again_size);
            cr_memory_fail_nth(0);
            if (failed) assert_cr_error(CR_ERROR_MEMORY, "made to fail");
            cr_free(again);
            assert_int_equal(cr_memory_stats().live_bytes, before);
        }
    cr_free(bytes);
    cr_image_free(&image);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(png_keeps_every_pixel),
        cmocka_unit_test(jpg_stays_close),
        cmocka_unit_test(tensors_become_pictures_as_torchvision_rounds),
        cmocka_unit_test(resizing_is_antialiased_bilinear),
        cmocka_unit_test(damaged_pngs_are_errors),
        cmocka_unit_test(damaged_jpgs_are_errors),
        cmocka_unit_test(impossible_huffman_tables_are_refused),
        cmocka_unit_test(a_small_file_cannot_ask_for_much_memory),
        cmocka_unit_test(bmp_is_read_and_checked),
        cmocka_unit_test(other_bytes_are_refused),
        cmocka_unit_test(every_failed_allocation_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
