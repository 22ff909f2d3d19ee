/* Files and pictures of tensors: what is written can be read again; grids are torchvision's; GIFs play.
 * Needs: images */
#include "core/image.h"
#include "tests/unit/testing.h"
#include "tests/unit/memory_checks.h"
#include "vision/palette.h"

#include <gif_lib.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];
static const char *in_folder(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* u8 [3, height, width], smooth. */
static cr_tensor *smooth(int64_t height, int64_t width, int phase) {
    cr_tensor *t = cr_empty(CR_U8, CR_SHAPE(3, height, width), CR_CPU);
    uint8_t *data = cr_data(t);
    for (int64_t i = 0; i < cr_numel(t); i++) {
        const int64_t c = i / (height * width), y = i / width % height, x = i % width;
        data[i] = (uint8_t)(c == 0   ? x * 255 / width
                            : c == 1 ? y * 255 / height
                                     : (x + y + phase) * 255 / (width + height + 20));
    }
    return t;
}

static void files_are_written_and_read(void **state) {
    (void)state;
    cr_tensor *image = smooth(20, 30, 0);
    assert_true(cr_vision_write_png(in_folder("a.png"), image));
    cr_tensor *back = cr_vision_read_image(in_folder("a.png"), CR_VISION_UNCHANGED);
    assert_true(cr_shape_equal(cr_shape_of(back), CR_SHAPE(3, 20, 30)));
    assert_memory_equal(cr_data(back), cr_data(image), 1800);
    assert_int_equal(cr_size(cr_vision_read_image(in_folder("a.png"), CR_VISION_GRAY), 0), 1);
    assert_int_equal(cr_size(cr_vision_read_image(in_folder("a.png"), CR_VISION_RGB_ALPHA), 0), 4);
    assert_true(cr_vision_write_jpg(in_folder("a.jpg"), image, 90));
    assert_int_equal(cr_size(cr_vision_read_image(in_folder("a.jpg"), CR_VISION_RGB), 2), 30);
    uint8_t *bytes;
    size_t size;
    assert_true(cr_vision_encode_png(image, &bytes, &size));
    assert_memory_equal(cr_data(cr_vision_decode_image(bytes, size, CR_VISION_RGB)), cr_data(image), 1800);
    cr_free(bytes);
    assert_true(cr_vision_encode_jpg(image, 90, &bytes, &size)); /* the same bytes as in a file */
    cr_tensor *packed = cr_vision_decode_image(bytes, size, CR_VISION_RGB);
    assert_memory_equal(cr_data(packed), cr_data(cr_vision_read_image(in_folder("a.jpg"), CR_VISION_RGB)), 1800);
    cr_free(bytes);
    assert_null(cr_vision_read_image(in_folder("missing.png"), CR_VISION_RGB));
    assert_cr_error(CR_ERROR_IO, "missing.png");
    assert_null(cr_vision_read_image(NULL, CR_VISION_RGB));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
    assert_false(cr_vision_write_png(in_folder("no/such/folder.png"), image));
    assert_cr_error(CR_ERROR_IO, "no/such");
    assert_false(cr_vision_write_png(in_folder("b.png"), NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
    assert_int_equal(access(in_folder("b.png"), F_OK), -1);
}

static void a_full_disk_is_an_error(void **state) {
    (void)state;
    if (access("/dev/full", W_OK) != 0) skip();
    assert_false(cr_vision_write_png("/dev/full", smooth(20, 30, 0)));
    assert_cr_error(CR_ERROR_IO, "/dev/full");
    assert_false(cr_vision_write_jpg("/dev/full", smooth(20, 30, 0), 80));
    assert_cr_error(CR_ERROR_IO, "/dev/full");
    cr_vision_gif *gif = cr_vision_gif_begin("/dev/full");
    if (gif) {
        cr_vision_gif_add(gif, smooth(200, 300, 0));
        assert_false(cr_vision_gif_end(gif));
    }
    assert_cr_error(CR_ERROR_IO, "");
}

/* ---------------------------------------------------------------- grids */
static void grids_are_laid_out_as_torchvisions(void **state) {
    (void)state;
    cr_tensor *images = cr_empty(CR_F32, CR_SHAPE(5, 1, 3, 4), CR_CPU);
    for (int64_t i = 0; i < 60; i++)
        cr_data_f32(images)[i] = (float)(i + 1);
    cr_tensor *grid = cr_vision_make_grid(images, .row = 3, .padding = 1, .pad_value = -1);
    assert_true(cr_shape_equal(cr_shape_of(grid), CR_SHAPE(3, 2 * 4 + 1, 3 * 5 + 1)));
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < 9; y++)
            for (int x = 0; x < 16; x++) {
                const int index = y / 4 * 3 + x / 5, inner_y = y % 4 - 1, inner_x = x % 5 - 1;
                const bool inside = y < 8 && x < 15 && inner_y >= 0 && inner_x >= 0 && index < 5;
                assert_float_equal(cr_at(grid, CR_SHAPE(c, y, x)), inside ? index * 12 + inner_y * 4 + inner_x + 1 : -1,
                                   0);
            }
    cr_tensor *defaults = cr_vision_make_grid(cr_empty(CR_U8, CR_SHAPE(10, 3, 4, 4), CR_CPU));
    assert_true(cr_shape_equal(cr_shape_of(defaults), CR_SHAPE(3, 2 * 6 + 2, 8 * 6 + 2)));
    assert_int_equal(cr_dtype_of(defaults), CR_U8);
    cr_tensor *single = cr_vision_make_grid(cr_empty(CR_F32, CR_SHAPE(1, 1, 4, 5), CR_CPU));
    assert_true(cr_shape_equal(cr_shape_of(single), CR_SHAPE(3, 4, 5)));
    assert_true(cr_shape_equal(cr_shape_of(cr_vision_make_grid(cr_empty(CR_F32, CR_SHAPE(3, 4, 5), CR_CPU))),
                               CR_SHAPE(3, 4, 5)));
}

static void grids_are_normalized(void **state) {
    (void)state;
    const float values[] = {-2, 0, 2, 6, 10, 10, 20, 30};
    cr_tensor *images = cr_from_data(CR_F32, CR_SHAPE(2, 1, 2, 2), values);
    cr_tensor *whole = cr_vision_make_grid(images, .padding = 0, .normalize = true);
    assert_float_equal(cr_at(whole, CR_SHAPE(0, 0, 1)), 2.0 / 32, 1e-6);
    assert_float_equal(cr_at(whole, CR_SHAPE(2, 1, 3)), 1, 1e-6);
    cr_tensor *each = cr_vision_make_grid(images, .padding = 0, .normalize = true, .scale_each = true);
    assert_float_equal(cr_at(each, CR_SHAPE(0, 0, 1)), 0.25, 1e-6);
    assert_float_equal(cr_at(each, CR_SHAPE(1, 1, 2)), 0.5, 1e-6);
    cr_tensor *ranged = cr_vision_make_grid(images, .padding = 0, .normalize = true, .low = -1, .high = 1);
    assert_float_equal(cr_at(ranged, CR_SHAPE(0, 0, 0)), 0, 0);
    assert_float_equal(cr_at(ranged, CR_SHAPE(0, 0, 1)), 0.5, 1e-6);
    assert_float_equal(cr_at(images, CR_SHAPE(0, 0, 0, 0)), -2, 0); /* the input stays */
}

static void wrong_grids_are_refused(void **state) {
    (void)state;
    assert_null(cr_vision_make_grid(cr_empty(CR_F32, CR_SHAPE(2, 4, 4, 4), CR_CPU)));
    assert_cr_error(CR_ERROR_SHAPE, "f32[2,4,4,4]");
    assert_null(cr_vision_make_grid(cr_empty(CR_I64, CR_SHAPE(2, 3, 4, 4), CR_CPU)));
    assert_cr_error(CR_ERROR_DTYPE, "i64");
    assert_null(cr_vision_make_grid(NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
    assert_null(cr_vision_make_grid(cr_empty(CR_F32, CR_SHAPE(2, 3, 4, 4), CR_CPU), .row = 0));
    assert_cr_error(CR_ERROR_ARGUMENT, "row 0");
    assert_null(cr_vision_make_grid(cr_empty(CR_F32, CR_SHAPE(0, 3, 4, 4), CR_CPU)));
    assert_cr_error(CR_ERROR_SHAPE, "f32[0,3,4,4]");
    assert_false(cr_vision_save_image(smooth(3, 3, 0), NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "path");
}

static void save_image_chooses_the_format_by_name(void **state) {
    (void)state;
    const uint16_t halves[] = {0x0000, 0x3c00, 0x3800, 0x3400}; /* 0, 1, 0.5, 0.25 in f16 */
    cr_tensor *image = cr_from_data(CR_F16, CR_SHAPE(1, 2, 2), halves);
    assert_true(cr_vision_save_image(image, in_folder("half.png")));
    cr_tensor *back = cr_vision_read_image(in_folder("half.png"), CR_VISION_GRAY);
    assert_memory_equal(cr_data(back), ((const uint8_t[]){0, 255, 128, 64}), 4);
    assert_true(cr_vision_save_image(smooth(8, 8, 0), in_folder("x.JPEG")));
    unsigned char start[2];
    FILE *file = fopen(in_folder("x.JPEG"), "rb");
    assert_int_equal(fread(start, 1, 2, file), 2);
    fclose(file);
    assert_true(start[0] == 0xff && start[1] == 0xd8);
}

/* ---------------------------------------------------------------- GIF */
static double difference(const GifFileType *gif, int index, const cr_tensor *image) {
    const SavedImage *saved = &gif->SavedImages[index];
    const uint8_t *data = cr_data(image);
    const int area = gif->SWidth * gif->SHeight;
    double sum = 0;
    for (int i = 0; i < area; i++) {
        const GifColorType color = saved->ImageDesc.ColorMap->Colors[saved->RasterBits[i]];
        sum += abs(color.Red - data[i]) + abs(color.Green - data[area + i]) + abs(color.Blue - data[2 * area + i]);
    }
    return sum / (3.0 * area);
}

static void gifs_show_what_was_given(void **state) {
    (void)state;
    for (int dither = 0; dither < 2; dither++) {
        cr_vision_gif *gif = cr_vision_gif_begin(in_folder("a.gif"), .delay = 0.25, .loops = 3, .dither = dither);
        for (int i = 0; i < 3; i++)
            assert_true(cr_vision_gif_add(gif, smooth(40, 60, i * 10)));
        assert_true(cr_vision_gif_end(gif));
        int code;
        GifFileType *file = DGifOpenFileName(in_folder("a.gif"), &code);
        assert_int_equal(DGifSlurp(file), GIF_OK);
        assert_int_equal(file->ImageCount, 3);
        assert_true(file->SWidth == 60 && file->SHeight == 40);
        GraphicsControlBlock control;
        for (int i = 0; i < 3; i++) {
            assert_int_equal(DGifSavedExtensionToGCB(file, i, &control), GIF_OK);
            assert_int_equal(control.DelayTime, 25);
            assert_true(difference(file, i, smooth(40, 60, i * 10)) < 7);
        }
        const ExtensionBlock *loops = file->SavedImages[0].ExtensionBlocks;
        assert_memory_equal(loops[0].Bytes, "NETSCAPE2.0", 11);
        assert_memory_equal(loops[1].Bytes, ((const uint8_t[]){1, 3, 0}), 3);
        DGifCloseFile(file, &code);
    }
}

static void few_colours_are_kept_exactly(void **state) {
    (void)state;
    cr_tensor *gray = cr_empty(CR_U8, CR_SHAPE(1, 16, 16), CR_CPU), *rgb = cr_empty(CR_U8, CR_SHAPE(3, 16, 16), CR_CPU);
    for (int i = 0; i < 256; i++)
        for (int c = 0; c < 3; c++)
            ((uint8_t *)cr_data(gray))[i] = ((uint8_t *)cr_data(rgb))[c * 256 + i] = (uint8_t)i;
    cr_vision_gif *gif = cr_vision_gif_begin(in_folder("gray.gif"));
    assert_true(cr_vision_gif_add(gif, gray) && cr_vision_gif_end(gif));
    int code;
    GifFileType *file = DGifOpenFileName(in_folder("gray.gif"), &code);
    assert_int_equal(DGifSlurp(file), GIF_OK);
    assert_true(difference(file, 0, rgb) == 0);
    DGifCloseFile(file, &code);
}

/* The average over a patch of dithered pixels is nearer to the picture than one colour can be. */
static void dithering_keeps_averages(void **state) {
    (void)state;
    enum { SIDE = 96 };
    cr_image image = {SIDE, SIDE, 3, cr_malloc(3 * SIDE * SIDE)};
    uint8_t palette[CR_PALETTE_COLORS][3], *indices = cr_malloc(SIDE * SIDE);
    for (int i = 0; i < SIDE * SIDE; i++) {
        const int x = i % SIDE, y = i / SIDE;
        image.pixels[3 * i] = (uint8_t)(x * 255 / SIDE);
        image.pixels[3 * i + 1] = (uint8_t)(y * 255 / SIDE);
        image.pixels[3 * i + 2] = (uint8_t)((x * 7 + y * 3) % 256);
    }
    double error[2] = {0, 0};
    for (int dither = 0; dither < 2; dither++) {
        assert_true(cr_palette_make(&image, dither, palette, indices));
        for (int patch = 0; patch < 144; patch++)
            for (int c = 0; c < 3; c++) {
                int sum = 0;
                for (int i = 0; i < 64; i++) {
                    const int at = (patch / 12 * 8 + i / 8) * SIDE + patch % 12 * 8 + i % 8;
                    sum += palette[indices[at]][c] - image.pixels[3 * at + c];
                }
                error[dither] += abs(sum) / 64.0 / 432;
            }
    }
    assert_true(error[1] < 1 && error[1] < 0.8 * error[0]);
    cr_free(indices);
    cr_image_free(&image);
}

static void wrong_gifs_leave_no_file(void **state) {
    (void)state;
    cr_vision_gif *gif = cr_vision_gif_begin(in_folder("wrong.gif"));
    assert_true(cr_vision_gif_add(gif, smooth(8, 8, 0)));
    assert_false(cr_vision_gif_add(gif, smooth(8, 9, 0)));
    assert_cr_error(CR_ERROR_SHAPE, "9 x 8 among images of 8 x 8");
    assert_false(cr_vision_gif_end(gif));
    cr_clear_error();
    assert_int_equal(access(in_folder("wrong.gif"), F_OK), -1);
    assert_false(cr_vision_gif_end(cr_vision_gif_begin(in_folder("wrong.gif"))));
    assert_cr_error(CR_ERROR_STATE, "no image");
    assert_null(cr_vision_gif_begin(in_folder("wrong.gif"), .delay = -1));
    assert_cr_error(CR_ERROR_ARGUMENT, "delay -1");
    assert_null(cr_vision_gif_begin(NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "");
    assert_false(cr_vision_gif_add(NULL, smooth(8, 8, 0)));
    assert_cr_error(CR_ERROR_ARGUMENT, "gif: NULL");
}

static void every_failed_allocation_is_an_error(void **state) {
    (void)state;
    cr_tensor *image = smooth(20, 30, 0);
    const int64_t before = cr_memory_stats().live_bytes;
    for (int n = 1, failed = 1; failed; n++) {
        cr_memory_fail_nth(n);
        CR_SCOPE {
            bool done =
                cr_vision_save_image(image, in_folder("n.png")) && cr_vision_save_image(image, in_folder("n.jpg"));
            cr_vision_gif *gif = done ? cr_vision_gif_begin(in_folder("n.gif")) : NULL;
            if (gif) {
                cr_vision_gif_add(gif, image);
                done = cr_vision_gif_end(gif);
            }
            failed = !done || !cr_ok();
        }
        cr_memory_fail_nth(0);
        if (failed) assert_cr_error(CR_ERROR_MEMORY, "made to fail");
        assert_int_equal(cr_memory_stats().live_bytes, before);
    }
}

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/cresset-pictures-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}
static int remove_folder(void **state) {
    (void)state;
    static const char *const names[] = {"a.png",  "a.jpg", "a.gif", "gray.gif", "half.png",
                                        "x.JPEG", "n.png", "n.jpg", "n.gif"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unlink(in_folder(names[i]));
    return rmdir(folder); /* fails where a temporary file was left behind */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, remember_memory, memory_is_as_before)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(files_are_written_and_read),
        TEST(a_full_disk_is_an_error),
        TEST(grids_are_laid_out_as_torchvisions),
        TEST(grids_are_normalized),
        TEST(wrong_grids_are_refused),
        TEST(save_image_chooses_the_format_by_name),
        TEST(gifs_show_what_was_given),
        TEST(few_colours_are_kept_exactly),
        TEST(dithering_keeps_averages),
        TEST(wrong_gifs_leave_no_file),
        TEST(every_failed_allocation_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
