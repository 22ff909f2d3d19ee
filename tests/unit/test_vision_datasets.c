/* Datasets of pictures in files: what the files say comes out; damaged files are errors, with bounded memory and nothing
 * lost. Labels: threads
 * Needs: images */
#include "core/file.h"
#include "core/image.h"
#include "tests/unit/damage.h"
#include "tests/unit/memory_checks.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static void write_packed(const char *name, const void *bytes, size_t size) {
    gzFile file = gzopen(in_folder(name), "wb9");
    assert_int_equal(gzwrite(file, bytes, (unsigned)size), size);
    gzclose(file);
}

/* ---------------------------------------------------------------- MNIST */
enum { DIGITS = 7, IDX_IMAGES = 16 + DIGITS * 12, IDX_LABELS = 8 + DIGITS };

/* Images of 3 x 4 pixels; pixel p of image i is 10 i + p, its label 9 - i. */
static void make_idx(uint8_t images[IDX_IMAGES], uint8_t labels[IDX_LABELS]) {
    memcpy(images, ((const uint8_t[]){0, 0, 8, 3, 0, 0, 0, DIGITS, 0, 0, 0, 3, 0, 0, 0, 4}), 16);
    memcpy(labels, ((const uint8_t[]){0, 0, 8, 1, 0, 0, 0, DIGITS}), 8);
    for (int i = 0; i < DIGITS; i++) {
        labels[8 + i] = (uint8_t)(9 - i);
        for (int p = 0; p < 12; p++)
            images[16 + i * 12 + p] = (uint8_t)(10 * i + p);
    }
}

static void mnist_reads_idx_plain_and_packed(void **state) {
    (void)state;
    uint8_t images[IDX_IMAGES], labels[IDX_LABELS];
    make_idx(images, labels);
    write_packed("train-images-idx3-ubyte.gz", images, sizeof images);
    write_file("train-labels-idx1-ubyte", labels, sizeof labels);
    cr_data_dataset *digits = cr_vision_mnist(temporary_folder);
    cr_data_sample sample;
    assert_cr_ok();
    assert_int_equal(cr_data_dataset_length(digits), DIGITS);
    assert_true(cr_data_dataset_get(digits, 5, NULL, &sample));
    assert_true(cr_shape_equal(cr_shape_of(sample.fields[0]), CR_SHAPE(1, 3, 4)));
    assert_float_equal(cr_at(sample.fields[0], CR_SHAPE(0, 1, 2)), 56 / 255.0, 1e-7);
    assert_int_equal(cr_item_i64(sample.fields[1]), 4);
    cr_data_dataset_free(digits);
    digits = cr_vision_mnist(temporary_folder, .transform = cr_vision_resize_to(6, 6));
    assert_true(cr_data_dataset_get(digits, 0, NULL, &sample));
    assert_int_equal(cr_dtype_of(sample.fields[0]), CR_U8);
    assert_int_equal(cr_size(sample.fields[0], 2), 6);
    cr_data_dataset_free(digits);

    assert_null(cr_vision_mnist(temporary_folder, .train = false, .transform = cr_vision_to_tensor()));
    assert_cr_error(CR_ERROR_IO, "t10k-images-idx3-ubyte");
    assert_null(cr_vision_mnist(NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "folder is NULL");
    labels[7]--;
    write_file("train-labels-idx1-ubyte", labels, sizeof labels - 1);
    assert_null(cr_vision_mnist(temporary_folder));
    assert_cr_error(CR_ERROR_FORMAT, "images are u8[7,3,4] and labels u8[6]");
}

/* Reads the file; either whole or an error, with bounded memory. */
static bool idx_reads(const char *name) {
    bool done = false;
    cr_memory_set_limit(live_bytes + (4 << 20));
    CR_SCOPE {
        cr_tensor *t = cr_vision_read_idx(in_folder(name));
        done = t != NULL;
    }
    cr_memory_set_limit(0);
    assert_int_equal(done, cr_ok());
    if (!done) assert_int_not_equal(cr_last_error()->code, CR_ERROR_MEMORY); /* refused by its own words */
    cr_clear_error();
    assert_int_equal(cr_memory_stats().live_bytes, live_bytes);
    return done;
}

static void damaged_idx_files_are_errors(void **state) {
    (void)state;
    uint8_t images[IDX_IMAGES], labels[IDX_LABELS], mutant[IDX_IMAGES];
    make_idx(images, labels);
    for (size_t cut = 0; cut < sizeof images; cut++) {
        write_file("mutant", images, cut);
        assert_false(idx_reads("mutant"));
    }
    uint64_t counter = 0;
    for (int round = 0; round < 2000; round++) {
        memcpy(mutant, images, sizeof images);
        mutate(mutant, sizeof mutant, 16, &counter);
        write_file("mutant", mutant, sizeof mutant);
        idx_reads("mutant");
    }
    write_packed("packed", images, sizeof images);
    size_t size;
    uint8_t *packed = cr_file_load(in_folder("packed"), 0, &size), *copy = malloc(size);
    live_bytes = cr_memory_stats().live_bytes;
    assert_true(idx_reads("packed"));
    for (size_t cut = 2; cut < size; cut++) {
        write_file("mutant", packed, cut);
        assert_false(idx_reads("mutant"));
    }
    for (int round = 0; round < 2000; round++) {
        memcpy(copy, packed, size);
        mutate(copy + 2, size - 2, size - 2, &counter);
        write_file("mutant", copy, size);
        idx_reads("mutant");
    }
    cr_free(packed);
    free(copy);
    live_bytes = cr_memory_stats().live_bytes;
    /* 2^31 x 2^31 bytes promised by 20 bytes */
    write_file("mutant",
               ((const uint8_t[20]){0, 0, 8, 3, 0x7f, 255, 255, 255, 0x7f, 255, 255, 255, 0x7f, 255, 255, 255}), 20);
    assert_false(idx_reads("mutant"));
}

/* ---------------------------------------------------------------- CIFAR-10 */
static void cifar_reads_records(void **state) {
    (void)state;
    enum { RECORD = 3073 };
    uint8_t *batch = malloc(2 * RECORD);
    for (int i = 0; i < 2 * RECORD; i++)
        batch[i] = (uint8_t)(i % 251);
    batch[0] = 3, batch[RECORD] = 9;
    for (int i = 1; i <= 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "data_batch_%d.bin", i);
        write_file(name, batch, 2 * RECORD);
    }
    cr_data_dataset *images = cr_vision_cifar10(temporary_folder, .transform = cr_vision_pad(0, 0));
    cr_data_sample sample;
    assert_cr_ok();
    assert_int_equal(cr_data_dataset_length(images), 10);
    assert_true(cr_data_dataset_get(images, 7, NULL, &sample));
    assert_true(cr_shape_equal(cr_shape_of(sample.fields[0]), CR_SHAPE(3, 32, 32)));
    assert_memory_equal(cr_data(sample.fields[0]), batch + RECORD + 1, RECORD - 1);
    assert_int_equal(cr_item_i64(sample.fields[1]), 9);
    cr_data_dataset_free(images);
    batch[RECORD] = 10;
    write_file("data_batch_3.bin", batch, 2 * RECORD);
    assert_null(cr_vision_cifar10(temporary_folder));
    assert_cr_error(CR_ERROR_FORMAT, "data_batch_3.bin: record 1 has class 10");
    write_file("data_batch_2.bin", batch, RECORD + 1);
    assert_null(cr_vision_cifar10(temporary_folder, .transform = cr_vision_to_tensor()));
    assert_cr_error(CR_ERROR_FORMAT, "3074 bytes are no whole number");
    write_file("data_batch_1.bin", batch, 0);
    assert_null(cr_vision_cifar10(temporary_folder));
    assert_cr_error(CR_ERROR_FORMAT, "0 bytes");
    assert_null(cr_vision_cifar10(temporary_folder, .train = false));
    assert_cr_error(CR_ERROR_IO, "test_batch.bin");
    free(batch);
}

/* ---------------------------------------------------------------- folders */
static void make_picture(const char *name, int shade) {
    CR_SCOPE {
        cr_tensor *image = cr_empty(CR_U8, CR_SHAPE(3, 4, 4), CR_CPU);
        memset(cr_data(image), shade, 48);
        assert_true(cr_vision_save_image(image, in_folder(name)));
    }
}

static void image_folders_find_their_classes(void **state) {
    (void)state;
    mkdir(in_folder("tree"), 0700), mkdir(in_folder("tree/zebra"), 0700), mkdir(in_folder("tree/ant"), 0700);
    mkdir(in_folder("tree/zebra/deep"), 0700), mkdir(in_folder("tree/.hidden"), 0700);
    assert_int_equal(symlink("..", in_folder("tree/zebra/loop")), 0);
    unlink(in_folder("tree/zebra/loop"));
    make_picture("tree/zebra/2.png", 20), make_picture("tree/zebra/10.JPG", 10),
        make_picture("tree/zebra/deep/a.png", 30);
    make_picture("tree/ant/only.png", 40), make_picture("tree/.hidden/x.png", 50);
    write_file("tree/ant/notes.txt", "x", 1);
    cr_data_dataset *images = cr_vision_image_folder(in_folder("tree"));
    assert_cr_ok();
    assert_int_equal(cr_data_dataset_length(images), 4);
    assert_int_equal(cr_vision_image_folder_class_count(images), 2);
    assert_string_equal(cr_vision_image_folder_class_name(images, 0), "ant");
    assert_string_equal(cr_vision_image_folder_class_name(images, 1), "zebra");
    assert_null(cr_vision_image_folder_class_name(images, 2));
    assert_cr_error(CR_ERROR_INDEX, "class 2 of 2");
    const int shades[] = {40, 10, 20, 30}, labels[] = {0, 1, 1, 1};
    for (int64_t i = 0; i < 4; i++) {
        cr_data_sample sample;
        assert_true(cr_data_dataset_get(images, i, NULL, &sample));
        assert_float_equal(cr_at(sample.fields[0], CR_SHAPE(0, 0, 0)) * 255, shades[i], 2);
        assert_int_equal(cr_item_i64(sample.fields[1]), labels[i]);
    }
    cr_data_dataset_free(images);

    images = cr_vision_image_folder(in_folder("tree/ant"), .mode = CR_VISION_GRAY); /* flat: no classes */
    cr_data_sample sample;
    assert_int_equal(cr_data_dataset_length(images), 1);
    assert_int_equal(cr_vision_image_folder_class_count(images), 0);
    assert_true(cr_data_dataset_get(images, 0, NULL, &sample));
    assert_int_equal(sample.count, 1);
    assert_int_equal(cr_size(sample.fields[0], 0), 1);
    write_file("tree/ant/only.png", "not a picture", 13);
    cr_data_loader *loader = cr_data_loader_new(images, .workers = 1);
    CR_FOR_BATCHES (batch, loader)
        fail_msg("this cannot be read");
    assert_cr_error(CR_ERROR_UNSUPPORTED, "only.png: not a PNG");
    assert_true(strstr(cr_vision_image_folder_path(cr_data_loader_dataset(loader), 0), "tree/ant/only.png") != NULL);
    cr_data_loader_free(loader);

    assert_null(cr_vision_image_folder(in_folder("tree/.hidden/none")));
    assert_cr_error(CR_ERROR_IO, "none: cannot be read");
    mkdir(in_folder("empty"), 0700);
    assert_null(cr_vision_image_folder(in_folder("empty"), .transform = cr_vision_to_tensor()));
    assert_cr_error(CR_ERROR_IO, "no .png, .jpg or .bmp files");
    assert_null(cr_vision_image_folder(NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
}

static void fake_data_is_the_same_every_time(void **state) {
    (void)state;
    cr_data_dataset *data =
        cr_vision_fake_data(.count = 3, .channels = 1, .height = 7, .width = 5, .classes = 4, .seed = 9);
    cr_data_sample a, b, other;
    assert_true(cr_data_dataset_get(data, 1, NULL, &a) && cr_data_dataset_get(data, 1, NULL, &b));
    assert_true(cr_data_dataset_get(data, 2, NULL, &other));
    assert_memory_equal(cr_data(a.fields[0]), cr_data(b.fields[0]), 35 * sizeof(float));
    assert_memory_not_equal(cr_data(a.fields[0]), cr_data(other.fields[0]), 35 * sizeof(float));
    assert_in_range(cr_item_i64(a.fields[1]), 0, 3);
    cr_data_dataset_free(data);
    assert_null(cr_vision_fake_data(.classes = 0));
    assert_cr_error(CR_ERROR_ARGUMENT, "0 classes");
}

static void every_failed_allocation_is_an_error(void **state) {
    (void)state;
    uint8_t images[IDX_IMAGES], labels[IDX_LABELS];
    make_idx(images, labels);
    mkdir(in_folder("scarce"), 0700), mkdir(in_folder("scarce/a"), 0700);
    write_file("scarce/train-images-idx3-ubyte", images, sizeof images);
    write_packed("scarce/train-labels-idx1-ubyte.gz", labels, sizeof labels);
    make_picture("scarce/a/x.png", 3);
    for (int kind = 0; kind < 2; kind++)
        for (int n = 1, failed = 1; failed; n++) {
            cr_data_sample sample;
            cr_memory_fail_nth(n);
            cr_data_dataset *data =
                kind ? cr_vision_image_folder(in_folder("scarce")) : cr_vision_mnist(in_folder("scarce"));
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
        TEST(mnist_reads_idx_plain_and_packed),
        TEST(damaged_idx_files_are_errors),
        TEST(cifar_reads_records),
        TEST(image_folders_find_their_classes),
        TEST(fake_data_is_the_same_every_time),
        TEST(every_failed_allocation_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_temporary_folder, remove_temporary_folder);
}
