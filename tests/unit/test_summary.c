/* Event files: the bytes of records, when they reach the file, full disks, threads, bad input, failing memory. What
 * TensorBoard makes of them is tested by tests/reference/check_events.py.
 * Labels: threads
 * Needs: summary images */
#include "tests/unit/testing.h"

#include "core/image.h"
#include "summary/crc32c.h"
#include "summary/event.pb-c.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];

static int make_folder(void **state) {
    (void)state;
    strcpy(folder, "/tmp/cresset_summary_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* ---------------------------------------------------------------- a reader of our own */

/* One bit at a time, straight from the definition. */
static uint32_t slow_crc32c(const uint8_t *data, size_t bytes) {
    uint32_t crc = ~0u;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? (crc >> 1) ^ 0x82f63b78u : crc >> 1;
    }
    return ~crc;
}

static uint32_t load_u32(const uint8_t *bytes) {
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static void assert_masked_crc(const uint8_t *stored, const uint8_t *data, size_t bytes) {
    const uint32_t crc = slow_crc32c(data, bytes);
    assert_int_equal(load_u32(stored), ((crc >> 15) | (crc << 17)) + 0xa282ead8u);
}

typedef struct records {
    uint8_t *bytes;
    size_t size;
    int count;
    Cr__Event *events[20000];
} records;

static records all;

/* Reads a file whose every byte belongs to a whole record. */
static void read_records(const char *name) {
    FILE *file = fopen(name, "rb");
    assert_non_null(file);
    static uint8_t bytes[16 << 20];
    all.bytes = bytes;
    all.size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    all.count = 0;
    for (size_t at = 0; at < all.size;) {
        assert_true(at + 16 <= all.size);
        const size_t length = load_u32(bytes + at);
        assert_int_equal(load_u32(bytes + at + 4), 0);
        assert_masked_crc(bytes + at + 8, bytes + at, 8);
        assert_true(at + 16 + length <= all.size);
        assert_masked_crc(bytes + at + 12 + length, bytes + at + 12, length);
        all.events[all.count] = cr__event__unpack(NULL, length, bytes + at + 12);
        assert_non_null(all.events[all.count++]);
        at += 16 + length;
    }
}

static void free_records(void) {
    for (int i = 0; i < all.count; i++)
        cr__event__free_unpacked(all.events[i], NULL);
    all.count = 0;
}

static Cr__Summary__Value *value_of(int index) {
    assert_true(index < all.count);
    assert_int_equal(all.events[index]->what_case, CR__EVENT__WHAT_SUMMARY);
    assert_int_equal(all.events[index]->summary->n_value, 1);
    return all.events[index]->summary->value[0];
}

/* Where the last writer noted writes, also after it is closed. */
static char path[512];

static void note_path(const cr_summary_writer *writer) {
    snprintf(path, sizeof path, "%s", cr_summary_writer_path(writer));
}

static off_t size_of_file(void) {
    struct stat status;
    return stat(path, &status) == 0 ? status.st_size : -1;
}

/* ---------------------------------------------------------------- records */

static void the_crc_is_castagnolis(void **state) {
    (void)state;
    assert_int_equal(cr_crc32c("123456789", 9), 0xe3069283u); /* the check value of the CRC catalogue */
    uint8_t bytes[300];
    for (int i = 0; i < 300; i++)
        bytes[i] = (uint8_t)(i * 37 + i / 7);
    for (size_t length = 0; length < 280; length++)
        for (size_t start = 0; start < 9; start++)
            assert_int_equal(cr_crc32c(bytes + start, length), slow_crc32c(bytes + start, length));
}

static void a_file_begins_with_its_version_and_holds_scalars(void **state) {
    (void)state;
    const int64_t live = cr_memory_stats().live_bytes;
    cr_summary_writer *writer = cr_summary_writer_open(folder, .suffix = ".end");
    assert_cr_ok();
    note_path(writer);
    assert_true(cr_summary_scalar(writer, "loss/d", 0.25, 3));
    assert_true(cr_summary_scalar(writer, "loss/d", NAN, -4));
    assert_true(cr_summary_scalar(writer, "zero", 0, INT64_MAX));
    assert_true(cr_summary_close(writer));
    assert_cr_ok();
    assert_int_equal(cr_memory_stats().live_bytes, live);

    read_records(path);
    assert_int_equal(all.count, 4);
    assert_string_equal(all.events[0]->file_version, "brain.Event:2");
    assert_string_equal(value_of(1)->tag, "loss/d");
    assert_true(value_of(1)->simple_value == 0.25f);
    assert_int_equal(all.events[1]->step, 3);
    assert_true(isnan(value_of(2)->simple_value));
    assert_int_equal(all.events[2]->step, -4);
    assert_int_equal(value_of(3)->value_case, CR__SUMMARY__VALUE__VALUE_SIMPLE_VALUE);
    assert_true(all.events[3]->step == INT64_MAX);
    assert_true(fabs(all.events[1]->wall_time - (double)time(NULL)) < 60);
    free_records();
}

static void a_files_name_tells_time_host_process_and_number(void **state) {
    (void)state;
    cr_summary_writer *first = cr_summary_writer_open(folder), *second = cr_summary_writer_open(folder, .suffix = ".s");
    const char *name = cr_summary_writer_path(first) + strlen(folder);
    char host[256] = "", expected[400];
    gethostname(host, sizeof host - 1);
    long long seconds;
    int number;
    assert_int_equal(sscanf(name, "/events.out.tfevents.%10lld.", &seconds), 1);
    snprintf(expected, sizeof expected, "/events.out.tfevents.%010lld.%s.%ld.%%d", seconds, host, (long)getpid());
    assert_int_equal(sscanf(name, expected, &number), 1);
    assert_string_not_equal(cr_summary_writer_path(first), cr_summary_writer_path(second));
    assert_string_equal(strrchr(cr_summary_writer_path(second), '.'), ".s");
    cr_summary_close(first);
    cr_summary_close(second);
    assert_cr_ok();
}

static void records_reach_the_file_by_size_by_time_and_on_request(void **state) {
    (void)state;
    cr_summary_writer *writer = cr_summary_writer_open(folder, .buffer_bytes = 1000);
    note_path(writer);
    const off_t start = size_of_file();
    assert_true(start > 0); /* the version is there at once */
    cr_summary_scalar(writer, "a", 1, 0);
    assert_int_equal(size_of_file(), start);
    cr_summary_flush(writer);
    const off_t one = size_of_file() - start;
    assert_true(one > 0);
    for (int i = 0; i < 200; i++) {
        cr_summary_scalar(writer, "a", 1, 0);
        assert_int_equal((size_of_file() - start) % one, 0); /* whole records only */
    }
    assert_true(size_of_file() > start + 190 * one - 1000);
    cr_summary_close(writer);

    writer = cr_summary_writer_open(folder, .flush_seconds = 0);
    note_path(writer);
    for (int i = 1; i <= 3; i++) {
        cr_summary_scalar(writer, "a", 1, 0);
        assert_int_equal(size_of_file(), start + i * one);
    }
    cr_summary_close(writer);

    writer = cr_summary_writer_open(folder, .flush_seconds = 0.05);
    note_path(writer);
    cr_summary_scalar(writer, "a", 1, 0);
    usleep(60 * 1000);
    cr_summary_scalar(writer, "a", 1, 0);
    assert_int_equal(size_of_file(), start + 2 * one);
    cr_summary_close(writer);
    assert_cr_ok();
}

static void a_full_disk_is_an_error_and_the_records_wait(void **state) {
    (void)state;
    cr_summary_writer *writer = cr_summary_writer_open(folder);
    note_path(writer);
    const off_t start = size_of_file();
    for (int i = 0; i < 100; i++)
        cr_summary_scalar(writer, "a", i, i);
    struct rlimit before, tight;
    getrlimit(RLIMIT_FSIZE, &before);
    tight = before;
    tight.rlim_cur = (rlim_t)start + 500; /* in the middle of a record */
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &tight);
    assert_false(cr_summary_flush(writer));
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, handler);
    assert_cr_error(CR_ERROR_IO, "wait in memory");
    assert_int_equal(size_of_file(), start); /* cut back to whole records */
    assert_true(cr_summary_scalar(writer, "a", 100, 100));
    assert_true(cr_summary_close(writer));
    read_records(path);
    assert_int_equal(all.count, 102);
    for (int i = 0; i <= 100; i++)
        assert_true(value_of(i + 1)->simple_value == (float)i);
    free_records();
}

/* ---------------------------------------------------------------- kinds */

static Cr__Histogram *histogram_of(int index) {
    assert_int_equal(value_of(index)->value_case, CR__SUMMARY__VALUE__VALUE_HISTO);
    return value_of(index)->histo;
}

static void a_histogram_counts_finite_values_and_leaves_out_the_others(void **state) {
    (void)state;
    const float values[] = {NAN, 1, 1, -2, INFINITY, 0, -INFINITY, 3e20f};
    const float bad[] = {NAN, INFINITY};
    cr_summary_writer *writer = cr_summary_writer_open(folder);
    note_path(writer);
    CR_SCOPE {
        assert_true(cr_summary_histogram(writer, "h", cr_from_data(CR_F32, CR_SHAPE(2, 4), values), 1));
        assert_true(cr_summary_histogram(writer, "h", cr_from_data(CR_F32, CR_SHAPE(2), bad), 2));
        assert_true(cr_summary_histogram(writer, "h", cr_scalar(1, CR_BOOL), 3));
        assert_false(cr_summary_histogram(writer, "h", cr_empty(CR_F32, CR_SHAPE(0, 3), CR_CPU), 4));
        assert_cr_error(CR_ERROR_SHAPE, "no elements");
        /* a view that is not contiguous: every other value */
        cr_tensor *t = cr_empty_strided(CR_F32, CR_SHAPE(2), CR_SHAPE(2), CR_CPU);
        cr_data_f32(t)[0] = 5;
        cr_data_f32(t)[1] = 1000;
        cr_data_f32(t)[2] = 7;
        assert_true(cr_summary_histogram(writer, "h", t, 5));
    }
    cr_summary_close(writer);
    read_records(path);
    assert_int_equal(all.count, 5);
    const Cr__Histogram *h = histogram_of(1);
    assert_true(h->num == 5 && h->min == -2 && h->max == 3e20f && h->sum == 0.0 + 3e20f);
    assert_true(h->n_bucket == h->n_bucket_limit);
    double counted = 0;
    for (size_t i = 0; i < h->n_bucket; i++) {
        counted += h->bucket[i];
        if (i) assert_true(h->bucket_limit[i] > h->bucket_limit[i - 1]);
    }
    assert_true(counted == 5 && h->bucket[0] == 0 && h->bucket[1] == 1 && h->bucket[h->n_bucket - 1] == 1);
    assert_true(h->bucket_limit[0] <= -2 && h->bucket_limit[1] > -2);
    h = histogram_of(2);
    assert_true(h->num == 0 && h->min == 0 && h->max == 0 && h->n_bucket == 1 && h->bucket[0] == 0);
    h = histogram_of(3);
    assert_true(h->num == 1 && h->min == 1 && h->n_bucket == 2 && h->bucket[1] == 1);
    h = histogram_of(4);
    assert_true(h->num == 2 && h->sum == 12 && h->sum_squares == 74);
    free_records();
}

static void images_are_pngs_of_the_tensors_pixels(void **state) {
    (void)state;
    const float grey[] = {0, 0.5f, 1, -3, 7, NAN};
    uint8_t colors[2 * 3 * 3];
    for (int i = 0; i < 18; i++)
        colors[i] = (uint8_t)(i * 14);
    cr_summary_writer *writer = cr_summary_writer_open(folder);
    note_path(writer);
    CR_SCOPE {
        assert_true(cr_summary_image(writer, "i", cr_from_data(CR_F32, CR_SHAPE(2, 3), grey), 0));
        assert_true(cr_summary_image(writer, "i", cr_from_data(CR_U8, CR_SHAPE(2, 3, 3), colors), 1, .layout = "HWC"));
        assert_true(cr_summary_images(writer, "i", cr_from_data(CR_F32, CR_SHAPE(3, 1, 2), grey), 2, .columns = 9,
                                      .padding = 1));
    }
    cr_summary_close(writer);
    assert_cr_ok();
    read_records(path);
    cr_image image;
    const Cr__Summary__Image *stored = value_of(1)->image;
    assert_true(stored->height == 2 && stored->width == 3 && stored->colorspace == 1);
    assert_true(cr_image_decode(stored->encoded.data, stored->encoded.len, 0, "grey", &image));
    const uint8_t expected[] = {0, 128, 255, 0, 255, 0};
    assert_memory_equal(image.pixels, expected, 6);
    cr_image_free(&image);
    stored = value_of(2)->image;
    assert_true(stored->height == 2 && stored->width == 3 && stored->colorspace == 3);
    assert_true(cr_image_decode(stored->encoded.data, stored->encoded.len, 0, "color", &image));
    assert_memory_equal(image.pixels, colors, 18);
    cr_image_free(&image);
    stored = value_of(3)->image;
    assert_true(cr_image_decode(stored->encoded.data, stored->encoded.len, 0, "grid", &image));
    assert_true(image.width == 3 * 3 + 1 && image.height == 3 && image.channels == 1);
    const uint8_t row[] = {0, 0, 128, 0, 255, 0, 0, 255, 0, 0};
    assert_memory_equal(image.pixels + 10, row, 10);
    cr_image_free(&image);
    free_records();
}

static void scalars_of_one_chart_are_runs_of_their_own(void **state) {
    (void)state;
    const int64_t live = cr_memory_stats().live_bytes;
    cr_summary_writer *writer = cr_summary_writer_open(folder);
    for (int i = 0; i < 5; i++)
        assert_true(cr_summary_scalars(writer, "a/b", i, {"d/x", i}, {"g", 2 * i}));
    assert_true(cr_summary_flush(writer));
    char command[200];
    snprintf(command, sizeof command, "test $(ls -d %s/a_b_d_x %s/a_b_g | wc -l) = 2", folder, folder);
    assert_int_equal(system(command), 0);
    assert_false(cr_summary_scalars(writer, "a/b", 0, {NULL, 1}));
    assert_cr_error(CR_ERROR_ARGUMENT, "name is NULL");
    assert_true(cr_summary_close(writer));
    assert_int_equal(cr_memory_stats().live_bytes, live);
}

/* ---------------------------------------------------------------- threads, bad input, failing memory */

enum { THREADS = 4, RECORDS_EACH = 2000 };

static void *write_many(void *writer) {
    for (int i = 0; i < RECORDS_EACH; i++) {
        cr_summary_scalar(writer, "t", 1, i);
        if (i % 500 == 0) cr_summary_scalars(writer, "many", i, {"x", i}, {"y", i});
    }
    return cr_ok() ? NULL : writer;
}

static void threads_may_share_a_writer(void **state) {
    (void)state;
    cr_summary_writer *writer = cr_summary_writer_open(folder, .buffer_bytes = 500);
    note_path(writer);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, write_many, writer);
    for (int i = 0; i < THREADS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_true(cr_summary_close(writer));
    read_records(path);
    assert_int_equal(all.count, 1 + THREADS * RECORDS_EACH);
    free_records();
}

static void bad_input_is_named(void **state) {
    (void)state;
    assert_null(cr_summary_writer_open(NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
    assert_null(cr_summary_writer_open(""));
    assert_cr_error(CR_ERROR_ARGUMENT, "empty");
    assert_null(cr_summary_writer_open("/dev/null/run"));
    assert_cr_error(CR_ERROR_IO, "/dev/null");
    assert_null(cr_summary_writer_open(folder, .suffix = "/../x"));
    assert_cr_error(CR_ERROR_ARGUMENT, "slash");
    assert_false(cr_summary_scalar(NULL, "a", 1, 0));
    assert_cr_error(CR_ERROR_ARGUMENT, "writer is NULL");
    assert_true(cr_summary_close(NULL));
    cr_summary_writer *writer = cr_summary_writer_open(folder);
    static const char *const broken[] = {"\xff",         "a\xc3",
                                         "\xc0\xaf",     "\xe0\x80\xaf",
                                         "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                         "\x80",         "\xf8\x88\x80\x80\x80"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        assert_false(cr_summary_scalar(writer, broken[i], 1, 0));
        assert_cr_error(CR_ERROR_ARGUMENT, "not UTF-8");
    }
    assert_true(cr_summary_scalar(writer, "é日\xf0\x9f\x94\xa5", 1, 0));
    assert_false(cr_summary_text(writer, "a", NULL, 0));
    assert_cr_error(CR_ERROR_ARGUMENT, "text is NULL");
    assert_false(cr_summary_histogram(writer, "a", NULL, 0));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
    CR_SCOPE {
        cr_tensor *flat = cr_empty(CR_U8, CR_SHAPE(4), CR_CPU), *wide = cr_empty(CR_U8, CR_SHAPE(5, 4, 4), CR_CPU);
        assert_false(cr_summary_image(writer, "a", flat, 0));
        assert_cr_error(CR_ERROR_SHAPE, "u8[4]");
        assert_false(cr_summary_image(writer, "a", wide, 0));
        assert_cr_error(CR_ERROR_SHAPE, "channels");
        assert_false(cr_summary_image(writer, "a", wide, 0, .layout = "HHW"));
        assert_cr_error(CR_ERROR_SHAPE, "HHW");
        assert_false(cr_summary_images(writer, "a", cr_empty(CR_U8, CR_SHAPE(0, 1, 4, 4), CR_CPU), 0));
        assert_cr_error(CR_ERROR_SHAPE, "no pixels");
        assert_false(cr_summary_images(writer, "a", wide, 0, .columns = -1));
        assert_cr_error(CR_ERROR_ARGUMENT, "negative");
        assert_false(cr_summary_images(writer, "a", wide, 0, .padding = 1 << 30));
        assert_cr_error(CR_ERROR_SHAPE, "too large");
    }
    assert_false(cr_summary_encoded_image(writer, "a", "x", 1, 0, 1, 3, 0));
    assert_cr_error(CR_ERROR_ARGUMENT, "height 0");
    assert_false(cr_summary_hparams(writer, NULL, 1, NULL, 0));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
    assert_true(cr_summary_close(writer));
}

/* Three equal nodes in a row, and a state that has the name that the second one would get. */
static cr_graph *row_of_nodes(void) {
    return cr_jit_parse("cresset graph 1\nparameter %0 f32[4] \"relu_1\"\ninput %1 f32[4] \"x\"\n"
                        "%2 f32[4] = add(%1, %0)\n%3 f32[4] = relu(%2)\n%4 f32[4] = relu(%3)\n%5 f32[4] = relu(%4)\n"
                        "output %5 \"y\"\n");
}

static void nodes_of_a_graph_have_names_of_their_own(void **state) {
    (void)state;
    static const char *const names[] = {"relu_1", "input/x", "add", "relu", "relu_2", "relu_3", "output/y"};
    cr_graph *graph = row_of_nodes();
    cr_summary_writer *writer = cr_summary_writer_open(folder);
    assert_true(cr_summary_graph(writer, graph));
    assert_true(cr_summary_flush(writer));
    read_records(cr_summary_writer_path(writer));
    const ProtobufCBinaryData *packed = &all.events[1]->graph_def;
    Cr__GraphDef *read = cr__graph_def__unpack(NULL, packed->len, packed->data);
    assert_int_equal(read->n_node, 7);
    for (int i = 0; i < 7; i++)
        assert_string_equal(read->node[i]->name, names[i]);
    assert_string_equal(read->node[5]->input[0], "relu_2");
    cr__graph_def__free_unpacked(read, NULL);
    free_records();
    assert_false(cr_summary_graph(writer, NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "graph is NULL");
    assert_false(cr_summary_graph(NULL, graph));
    assert_cr_error(CR_ERROR_ARGUMENT, "writer is NULL");
    assert_true(cr_summary_close(writer));
    cr_jit_free(graph);
}

static void write_everything(void) {
    CR_SCOPE {
        cr_tensor *t = cr_empty(CR_U8, CR_SHAPE(3, 1, 4, 5), CR_CPU);
        cr_summary_writer *writer = cr_summary_writer_open(folder);
        cr_summary_scalar(writer, "a", 1, 0);
        cr_summary_scalars(writer, "a", 0, {"x", 1}, {"y", 2});
        cr_summary_histogram(writer, "a", t, 0);
        cr_summary_images(writer, "a", t, 0);
        cr_summary_text(writer, "a", "b", 0);
        cr_summary_hparams(writer, &(cr_summary_hparam){"lr", NULL, 1}, 1, &(cr_summary_value){"m", 1}, 1);
        cr_graph *graph = row_of_nodes();
        cr_summary_graph(writer, graph);
        cr_jit_free(graph);
        cr_summary_close(writer);
    }
}

static void each_failing_allocation_is_an_error_without_a_leak(void **state) {
    (void)state;
    write_everything();
    assert_cr_ok();
    const int64_t live = cr_memory_stats().live_bytes;
    bool failed = true;
    int n = 0;
    while (failed) {
        cr_memory_fail_nth(++n);
        write_everything();
        cr_memory_fail_nth(0);
        failed = !cr_ok();
        if (failed) assert_cr_error(CR_ERROR_MEMORY, "");
        assert_int_equal(cr_memory_stats().live_bytes, live);
    }
    assert_true(n > 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_crc_is_castagnolis),
        cmocka_unit_test(a_file_begins_with_its_version_and_holds_scalars),
        cmocka_unit_test(a_files_name_tells_time_host_process_and_number),
        cmocka_unit_test(records_reach_the_file_by_size_by_time_and_on_request),
        cmocka_unit_test(a_full_disk_is_an_error_and_the_records_wait),
        cmocka_unit_test(a_histogram_counts_finite_values_and_leaves_out_the_others),
        cmocka_unit_test(images_are_pngs_of_the_tensors_pixels),
        cmocka_unit_test(scalars_of_one_chart_are_runs_of_their_own),
        cmocka_unit_test(threads_may_share_a_writer),
        cmocka_unit_test(bad_input_is_named),
        cmocka_unit_test(nodes_of_a_graph_have_names_of_their_own),
        cmocka_unit_test(each_failing_allocation_is_an_error_without_a_leak),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
