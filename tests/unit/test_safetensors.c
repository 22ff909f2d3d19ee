/* safetensors: what is saved comes back, mapped; other writers' files; files that are not what they say; kills. */
#define _GNU_SOURCE
#include "tests/unit/testing.h"
#include "tests/unit/temporary_folder.h"

#include "core/file.h"
#include "core/tensor.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

static void write_bytes(const char *path, const void *data, size_t bytes) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    fclose(file);
}

/* A file with this header, unpadded, and `data_bytes` bytes 0, 1, 2 … */
static const char *write_file(const char *header, size_t data_bytes) {
    static char bytes[1 << 16];
    const uint64_t length = strlen(header);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < data_bytes; i++)
        bytes[8 + length + i] = (char)i;
    const char *path = in_folder("hand-made.safetensors");
    write_bytes(path, bytes, 8 + length + data_bytes);
    return path;
}

/* A tensor whose bytes count up. */
static cr_tensor *counting(cr_dtype dtype, cr_shape shape) {
    cr_tensor *t = cr_empty(dtype, shape, CR_CPU);
    uint8_t *bytes = cr_data(t);
    for (size_t i = 0; i < (size_t)cr_numel(t) * cr_dtype_size(dtype); i++)
        bytes[i] = (uint8_t)(dtype == CR_BOOL ? i % 2 : i * 7 + 1);
    return t;
}

static void every_dtype_comes_back(void **state) {
    (void)state;
    const int64_t before = cr_memory_stats().live_bytes;
    CR_SCOPE {
        cr_named_tensor tensors[CR_DTYPE_COUNT + 2];
        for (int i = 0; i < CR_DTYPE_COUNT; i++)
            tensors[i] = (cr_named_tensor){cr_dtype_name((cr_dtype)i), counting((cr_dtype)i, CR_SHAPE(3, 5))};
        tensors[CR_DTYPE_COUNT] = (cr_named_tensor){"empty", counting(CR_F32, CR_SHAPE(0, 3))};
        tensors[CR_DTYPE_COUNT + 1] = (cr_named_tensor){"häm \"quoted\" \n", cr_scalar(2.5, CR_F64)};
        const int count = CR_DTYPE_COUNT + 2;
        const cr_text_pair metadata[] = {{"format", "pt"}, {"note", "ünïcode \\ \"quoted\""}};
        assert_true(cr_safetensors_save(in_folder("all"), tensors, count, metadata, 2));
        cr_safetensors *file = cr_safetensors_open(in_folder("all"));
        assert_cr_ok();
        assert_int_equal(cr_safetensors_count(file), count);
        for (int i = 0; i < count; i++) {
            assert_string_equal(cr_safetensors_name(file, i), tensors[i].name);
            assert_true(cr_safetensors_has(file, tensors[i].name));
            cr_tensor *t = cr_safetensors_tensor(file, tensors[i].name);
            assert_cr_ok();
            assert_int_equal(cr_dtype_of(t), cr_dtype_of(tensors[i].tensor));
            assert_true(cr_shape_equal(cr_shape_of(t), cr_shape_of(tensors[i].tensor)));
            if (cr_numel(t)) {
                const size_t bytes = (size_t)cr_numel(t) * cr_dtype_size(cr_dtype_of(t));
                assert_memory_equal(cr_data(t), cr_data(tensors[i].tensor), bytes);
                assert_true(
                    cr_shares_storage(t, cr_safetensors_tensor(file, tensors[i].name))); /* aligned: not a copy */
            }
        }
        assert_string_equal(cr_safetensors_metadata(file, "note"), "ünïcode \\ \"quoted\"");
        assert_null(cr_safetensors_metadata(file, "absent"));
        assert_false(cr_safetensors_has(file, "absent"));
        cr_safetensors_close(file);
    }
    assert_int_equal(cr_memory_stats().live_bytes, before);
}

static void a_mapped_tensor_outlives_its_file_and_never_writes_to_it(void **state) {
    (void)state;
    const int64_t before = cr_memory_stats().live_bytes;
    CR_SCOPE {
        const float values[] = {1, 2, 3};
        cr_named_tensor one = {"x", cr_from_data(CR_F32, CR_SHAPE(3), values)};
        assert_true(cr_safetensors_save(in_folder("x"), &one, 1, NULL, 0));
        cr_safetensors *file = cr_safetensors_open(in_folder("x"));
        cr_tensor *mapped = cr_safetensors_tensor(file, "x");
        cr_safetensors_close(file);
        unlink(in_folder("x.moved"));
        cr_data_f32(mapped)[1] = 20;
        assert_true(cr_item(cr_scalar(cr_at(mapped, CR_SHAPE(1)), CR_F32)) == 20);
        file = cr_safetensors_open(in_folder("x"));
        assert_true(cr_at(cr_safetensors_tensor(file, "x"), CR_SHAPE(1)) == 2);
        cr_safetensors_close(file);
    }
    assert_int_equal(cr_memory_stats().live_bytes, before);
}

static void a_strided_tensor_is_saved_row_major(void **state) {
    (void)state;
    CR_SCOPE {
        const float values[] = {1, 2, 3, 4, 5, 6}, transposed[] = {1, 4, 2, 5, 3, 6};
        cr_tensor *t = cr_from_data(CR_F32, CR_SHAPE(2, 3), values);
        cr_named_tensor one = {"t", cr_view_raw(t, CR_SHAPE(3, 2), CR_SHAPE(1, 3), 0)};
        assert_true(cr_safetensors_save(in_folder("t"), &one, 1, NULL, 0));
        cr_safetensors *file = cr_safetensors_open(in_folder("t"));
        assert_memory_equal(cr_data(cr_safetensors_tensor(file, "t")), transposed, sizeof transposed);
        cr_safetensors_close(file);
    }
}

static void unaligned_tensors_of_other_writers_are_copied(void **state) {
    (void)state;
    CR_SCOPE {
        const char *path = write_file("{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
                                      "\"b\":{\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[3,11]}}  ",
                                      11);
        cr_safetensors *file = cr_safetensors_open(path);
        assert_cr_ok();
        cr_tensor *b = cr_safetensors_tensor(file, "b");
        cr_safetensors_close(file);
        assert_int_equal((uintptr_t)cr_data(b) % 4, 0);
        assert_true(cr_at(b, CR_SHAPE(0)) == 0x06050403 && cr_at(b, CR_SHAPE(1)) == 0x0a090807);
    }
}

static void what_the_format_allows_but_we_lack_is_unsupported(void **state) {
    (void)state;
    const char *path = write_file("{\"f8\":{\"dtype\":\"F8_E4M3\",\"shape\":[4],\"data_offsets\":[0,4]},"
                                  "\"deep\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,2],\"data_offsets\":[4,6]},"
                                  "\"fine\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[6,8]},"
                                  "\"bools\":{\"dtype\":\"BOOL\",\"shape\":[2],\"data_offsets\":[8,10]}}",
                                  10);
    cr_safetensors *file = cr_safetensors_open(path);
    assert_cr_ok();
    assert_null(cr_safetensors_tensor(file, "f8"));
    assert_cr_error(CR_ERROR_UNSUPPORTED, "\"f8\" has dtype F8_E4M3");
    assert_null(cr_safetensors_tensor(file, "deep"));
    assert_cr_error(CR_ERROR_UNSUPPORTED, "\"deep\" has more than 8 dims");
    assert_null(cr_safetensors_tensor(file, "bools"));
    assert_cr_error(CR_ERROR_FORMAT, "neither 0 nor 1");
    assert_null(cr_safetensors_tensor(file, "absent"));
    assert_cr_error(CR_ERROR_ARGUMENT, "no tensor \"absent\"");
    assert_null(cr_safetensors_tensor(file, NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "(NULL)");
    assert_null(cr_safetensors_name(file, 4));
    assert_cr_error(CR_ERROR_INDEX, "index 4 of 4");
    cr_discard(cr_safetensors_tensor(file, "fine"));
    assert_cr_ok();
    cr_safetensors_close(file);
}

static void files_that_break_the_format_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t data_bytes;
        const char *complaint;
    } rows[] = {
        {"[]", 0, "not a JSON object"},
        {"{", 0, "not a JSON object"},
        {"{\"a\":1}", 0, "needs a dtype"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", 1, "needs a dtype"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]}}", 1, "not a list of sizes"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}}", 1, "not a list of sizes"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,2]}}", 1, "outside the file"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,0]}}", 1, "outside the file"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[-1,0]}}", 1, "outside the file"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,3]}}", 3, "do not span"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}", 0, "int64"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[99999999999999999999],\"data_offsets\":[0,1]}}", 1, "too big"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, "gap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 2,
         "2 bytes of data, but its tensors take 1"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_"
         "offsets\":[1,3]}}",
         3, "overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_"
         "offsets\":[1,2]}}",
         2, "duplicate"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "is not text"},
        {"{\"__metadata__\":[]}", 0, "__metadata__"},
    };
    const int64_t before = cr_memory_stats().live_bytes;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_null(cr_safetensors_open(write_file(rows[i].header, rows[i].data_bytes)));
        assert_cr_error(CR_ERROR_FORMAT, rows[i].complaint);
    }
    static const uint64_t lengths[] = {UINT64_MAX, INT64_MAX, 100000001, 9};
    for (int i = 0; i < 4; i++) {
        const uint64_t words[2] = {lengths[i], 0x7d7b};
        write_bytes(in_folder("length"), words, sizeof words);
        assert_null(cr_safetensors_open(in_folder("length")));
        assert_cr_error(CR_ERROR_FORMAT, "a header of");
    }
    write_bytes(in_folder("short"), "1234567", 7);
    assert_null(cr_safetensors_open(in_folder("short")));
    assert_cr_error(CR_ERROR_FORMAT, "7 bytes");
    assert_null(cr_safetensors_open(in_folder("absent")));
    assert_cr_error(CR_ERROR_IO, "No such file");
    assert_null(cr_safetensors_open(NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
    assert_int_equal(cr_memory_stats().live_bytes, before);
}

static void saving_checks_its_arguments(void **state) {
    (void)state;
    CR_SCOPE {
        cr_tensor *t = cr_scalar(1, CR_F32);
        const cr_named_tensor twins[] = {{"a", t}, {"b", t}, {"a", t}}, reserved = {"__metadata__", t},
                              nameless = {NULL, t}, nothing = {"n", NULL}, invalid = {"\xff\xfe", t};
        const cr_text_pair twice[] = {{"k", "1"}, {"k", "2"}}, half = {"k", NULL};
        assert_false(cr_safetensors_save(in_folder("bad"), twins, 3, NULL, 0));
        assert_cr_error(CR_ERROR_ARGUMENT, "two tensors are named \"a\"");
        assert_false(cr_safetensors_save(in_folder("bad"), &reserved, 1, NULL, 0));
        assert_cr_error(CR_ERROR_ARGUMENT, "__metadata__");
        assert_false(cr_safetensors_save(in_folder("bad"), &nameless, 1, NULL, 0));
        assert_cr_error(CR_ERROR_ARGUMENT, "no name");
        assert_false(cr_safetensors_save(in_folder("bad"), &nothing, 1, NULL, 0));
        assert_cr_error(CR_ERROR_ARGUMENT, "\"n\": the tensor is NULL");
        assert_false(cr_safetensors_save(in_folder("bad"), &invalid, 1, NULL, 0));
        assert_cr_error(CR_ERROR_ARGUMENT, "UTF-8");
        assert_false(cr_safetensors_save(in_folder("bad"), twins, 1, twice, 2));
        assert_cr_error(CR_ERROR_ARGUMENT, "two metadata texts are named \"k\"");
        assert_false(cr_safetensors_save(in_folder("bad"), twins, 1, &half, 1));
        assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
        assert_false(cr_safetensors_save(in_folder("bad"), NULL, 1, NULL, 0));
        assert_cr_error(CR_ERROR_ARGUMENT, "lists");
        assert_int_equal(access(in_folder("bad"), F_OK), -1);
        assert_true(cr_safetensors_save(in_folder("none"), NULL, 0, NULL, 0)); /* no tensors at all is a file too */
        cr_safetensors *file = cr_safetensors_open(in_folder("none"));
        assert_int_equal(cr_safetensors_count(file), 0);
        cr_safetensors_close(file);
    }
}

static void each_failing_allocation_is_an_error(void **state) {
    (void)state;
    CR_SCOPE {
        cr_tensor *t = counting(CR_F32, CR_SHAPE(4, 6));
        const cr_named_tensor tensors[] = {{"plain", t},
                                           {"strided", cr_view_raw(t, CR_SHAPE(6, 4), CR_SHAPE(1, 6), 0)}};
        const cr_text_pair metadata = {"key", "value"};
        assert_true(cr_safetensors_save(in_folder("f"), tensors, 2, &metadata, 1));
        const int64_t before = cr_memory_stats().live_bytes;
        for (int n = 1, done = 0; !done; n++) {
            cr_memory_fail_nth(n);
            done = cr_safetensors_save(in_folder("f"), tensors, 2, &metadata, 1);
            cr_safetensors *file = done ? cr_safetensors_open(in_folder("f")) : NULL;
            cr_tensor *mapped = file ? cr_safetensors_tensor(file, "strided") : NULL;
            cr_memory_fail_nth(0);
            done = mapped != NULL;
            cr_discard(mapped);
            cr_safetensors_close(file);
            if (!done) assert_cr_error(CR_ERROR_MEMORY, "made to fail");
            assert_int_equal(cr_memory_stats().live_bytes, before);
        }
    }
}

static void a_full_disk_leaves_the_old_file(void **state) {
    (void)state;
    CR_SCOPE {
        empty_temporary_folder();
        const cr_named_tensor small = {"x", cr_scalar(7, CR_F32)}, large = {"x", counting(CR_F32, CR_SHAPE(1 << 18))};
        assert_true(cr_safetensors_save(in_folder("m"), &small, 1, NULL, 0));
        struct rlimit old_limit;
        getrlimit(RLIMIT_FSIZE, &old_limit);
        void (*old_handler)(int) = signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){1 << 19, old_limit.rlim_max});
        const bool saved = cr_safetensors_save(in_folder("m"), &large, 1, NULL, 0);
        setrlimit(RLIMIT_FSIZE, &old_limit);
        signal(SIGXFSZ, old_handler);
        assert_false(saved);
        assert_cr_error(CR_ERROR_IO, "File too large");
        assert_int_equal(count_temporary_files(), 1);
        cr_safetensors *file = cr_safetensors_open(in_folder("m"));
        assert_true(cr_item(cr_safetensors_tensor(file, "x")) == 7);
        cr_safetensors_close(file);
    }
}

/* Saves files whose elements all hold the same number, one more each time, until it is killed. */
static void save_for_ever(const char *path) {
    for (int round = 1;; round++) {
        CR_SCOPE {
            cr_tensor *t = cr_empty(CR_I32, CR_SHAPE(50000), CR_CPU);
            int32_t *values = cr_data(t);
            for (int i = 0; i < 50000; i++)
                values[i] = round;
            const cr_named_tensor tensors[] = {{"a", t}, {"b", t}};
            if (!cr_safetensors_save(path, tensors, 2, NULL, 0)) _exit(1);
        }
    }
}

static void a_kill_at_any_moment_leaves_a_whole_file(void **state) {
    (void)state;
    enum { KILLS = 60 };
    const char *path = in_folder("killed");
    const cr_named_tensor first = {"a", cr_scalar_i64(0)};
    assert_true(cr_safetensors_save(path, &first, 1, NULL, 0));
    cr_discard((cr_tensor *)(uintptr_t)first.tensor);
    int replaced = 0;
    for (int kill_number = 0; kill_number < KILLS; kill_number++) {
        const pid_t child = fork();
        if (child == 0) save_for_ever(path);
        nanosleep(&(struct timespec){0, 1000000 + kill_number * 7919 * 50 % 20000000}, NULL);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        CR_SCOPE {
            cr_safetensors *file = cr_safetensors_open(path);
            assert_cr_ok();
            cr_tensor *a = cr_safetensors_tensor(file, "a"),
                      *b = cr_safetensors_tensor(file, cr_safetensors_has(file, "b") ? "b" : "a");
            assert_cr_ok();
            const int64_t last = cr_numel(a) - 1;
            if (last > 0) {
                replaced++;
                assert_true(cr_at(a, CR_SHAPE(0)) == cr_at(b, CR_SHAPE(last)));
                assert_true(cr_at(a, CR_SHAPE(last)) == cr_at(b, CR_SHAPE(0)));
            }
            cr_safetensors_close(file);
        }
    }
    assert_true(replaced > KILLS / 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_dtype_comes_back),
        cmocka_unit_test(a_mapped_tensor_outlives_its_file_and_never_writes_to_it),
        cmocka_unit_test(a_strided_tensor_is_saved_row_major),
        cmocka_unit_test(unaligned_tensors_of_other_writers_are_copied),
        cmocka_unit_test(what_the_format_allows_but_we_lack_is_unsupported),
        cmocka_unit_test(files_that_break_the_format_are_refused),
        cmocka_unit_test(saving_checks_its_arguments),
        cmocka_unit_test(each_failing_allocation_is_an_error),
        cmocka_unit_test(a_full_disk_leaves_the_old_file),
        cmocka_unit_test(a_kill_at_any_moment_leaves_a_whole_file),
    };
    return cmocka_run_group_tests(tests, make_temporary_folder, remove_temporary_folder);
}
