/* .npy files: what is saved comes back; NumPy's files in every layout; headers that are not what they say. */
#include "tests/unit/testing.h"
#include "tests/unit/reference.h"
#include "tests/unit/temporary_folder.h"

#include "core/file.h"
#include "core/tensor.h"

static const char *const kinds[CR_DTYPE_COUNT] = {"b1", "u1", "i1", "i2", "i4", "i8", "f2", NULL, "f4", "f8"};

/* A tensor whose bytes count up. */
static cr_tensor *counting(cr_dtype dtype, cr_shape shape) {
    cr_tensor *t = cr_empty(dtype, shape, CR_CPU);
    uint8_t *bytes = cr_data(t);
    for (size_t i = 0; i < (size_t)cr_numel(t) * cr_dtype_size(dtype); i++)
        bytes[i] = (uint8_t)(dtype == CR_BOOL ? i % 2 : i * 7 + 1);
    return t;
}

static void assert_same_tensor(cr_tensor *a, cr_tensor *b) {
    assert_cr_ok();
    assert_int_equal(cr_dtype_of(a), cr_dtype_of(b));
    assert_true(cr_shape_equal(cr_shape_of(a), cr_shape_of(b)));
    assert_true(cr_is_contiguous(a));
    const size_t bytes = (size_t)cr_numel(a) * cr_dtype_size(cr_dtype_of(a));
    char *copy = cr_malloc(bytes + 1);
    assert_true(cr_copy_to_host(b, copy, bytes));
    if (bytes) assert_memory_equal(cr_data(a), copy, bytes);
    cr_free(copy);
}

static void every_dtype_and_shape_comes_back(void **state) {
    (void)state;
    const int64_t before = cr_memory_stats().live_bytes;
    const cr_shape shapes[] = {CR_SHAPE_0D,     CR_SHAPE(1),    CR_SHAPE(0, 3),
                               CR_SHAPE(70000), CR_SHAPE(3, 4), CR_SHAPE(1, 2, 3, 1, 2, 3, 1, 2)};
    for (int dtype = 0; dtype < CR_DTYPE_COUNT; dtype++) {
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0] && kinds[dtype]; s++) {
            CR_SCOPE {
                cr_tensor *t = counting((cr_dtype)dtype, shapes[s]);
                assert_true(cr_npy_save(in_folder("a.npy"), t));
                assert_same_tensor(cr_npy_load(in_folder("a.npy")), t);
            }
        }
    }
    assert_int_equal(cr_memory_stats().live_bytes, before);
}

static void a_strided_tensor_is_saved_row_major(void **state) {
    (void)state;
    CR_SCOPE {
        cr_tensor *t = counting(CR_I32, CR_SHAPE(4, 6)), *view = cr_view_raw(t, CR_SHAPE(3, 4), CR_SHAPE(2, 6), 1);
        assert_true(cr_npy_save(in_folder("a.npy"), view));
        assert_same_tensor(cr_npy_load(in_folder("a.npy")), view);
    }
}

static void what_cannot_be_saved_is_an_error(void **state) {
    (void)state;
    CR_SCOPE {
        assert_false(cr_npy_save(in_folder("b.npy"), cr_scalar(1, CR_BF16)));
        assert_cr_error(CR_ERROR_DTYPE, "cast the tensor to f32");
        assert_false(cr_npy_save(in_folder("b.npy"), NULL));
        assert_cr_error(CR_ERROR_ARGUMENT, "the tensor is NULL");
        assert_false(cr_npy_save(NULL, cr_scalar(1, CR_F32)));
        assert_cr_error(CR_ERROR_ARGUMENT, "the path is NULL");
        assert_false(cr_npy_save("/dev/full", cr_scalar(1, CR_F32)));
        assert_cr_error(CR_ERROR_IO, "No space left");
        assert_int_equal(access(in_folder("b.npy"), F_OK), -1);
    }
}

/* A file of version `major` with this header text and `data_bytes` bytes 2, 3, 4 … behind it. */
static const char *write_file(int major, const char *text, size_t data_bytes) {
    const size_t length = strlen(text);
    FILE *file = fopen(in_folder("hand-made.npy"), "wb");
    fprintf(file, "\x93NUMPY%c%c%c%c", major, 0, (int)(length & 255), (int)(length >> 8));
    if (major > 1) fprintf(file, "%c%c", 0, 0);
    fwrite(text, 1, length, file);
    for (size_t i = 0; i < data_bytes; i++)
        fputc((int)i + 2, file);
    fclose(file);
    return in_folder("hand-made.npy");
}

static void headers_are_read_as_python_reads_them(void **state) {
    (void)state;
    static const char *const texts[] = {
        "{'descr': '<i2', 'fortran_order': False, 'shape': (2,), }   \n",
        "{\"shape\":(2L,),\"fortran_order\":True,\"descr\":\"<i2\"}",
        " { 'fortran_order' : False , 'descr' : '=i2' , 'shape' : ( 2 , ) , } \n\n",
        "{'descr': 'i2', 'fortran_order': False, 'shape': (2)}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        CR_SCOPE {
            cr_tensor *t =
                cr_npy_load(write_file(1 + (int)i % 3, texts[i], 5)); /* one byte too many is not ours to judge */
            assert_cr_ok();
            assert_true(cr_at(t, CR_SHAPE(0)) == 0x0302 && cr_at(t, CR_SHAPE(1)) == 0x0504);
        }
    }
}

static void files_that_break_the_format_are_refused(void **state) {
    (void)state;
    static const struct {
        int major;
        const char *text;
        size_t data_bytes;
        cr_error_code code;
        const char *complaint;
    } rows[] = {
        {4, "{'descr': '<i2', 'fortran_order': False, 'shape': (2,), }", 4, CR_ERROR_UNSUPPORTED, "version 4"},
        {1, "", 4, CR_ERROR_FORMAT, "cannot read the header"},
        {1, "{'descr': '<i2', 'fortran_order': False}", 4, CR_ERROR_FORMAT, "cannot read the header"},
        {1, "{'descr': '<i2', 'shape': (2,)}", 4, CR_ERROR_FORMAT, "cannot read the header"},
        {1, "{'descr': '<i2', 'fortran_order': False, 'shape': (2,), } x", 4, CR_ERROR_FORMAT, "at \"x\""},
        {1, "{'descr': '<i2', 'fortran_order': 0, 'shape': (2,), }", 4, CR_ERROR_FORMAT, "at \"0,"},
        {1, "{'descr': '<i2', 'fortran_order': False, 'shape': (-2,), }", 4, CR_ERROR_FORMAT, "at \"-2"},
        {1, "{'descr': '<i2', 'fortran_order': False, 'shape': (2.0,), }", 4, CR_ERROR_FORMAT, "at \".0"},
        {1, "{'descr': '<i2', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,2), }", 4, CR_ERROR_FORMAT, "at \"2)"},
        {1, "{'descr': '<i2', 'fortran_order': False, 'shape': (99999999999999999999,), }", 4, CR_ERROR_FORMAT,
         "cannot read"},
        {1, "{'descr': '<i2', 'fortran_order': False, 'shape': (4611686018427387904,4), }", 4, CR_ERROR_FORMAT,
         "int64"},
        {1, "{'descr': '<i2', 'fortran_order': False, 'shape': (1152921504606846976,), }", 4, CR_ERROR_FORMAT,
         "but 4 are there"},
        {1, "{'descr': '<i2', 'fortran_order': False, 'shape': (3,), }", 4, CR_ERROR_FORMAT,
         "takes 6 bytes of data, but 4"},
        {1, "{'descr': '|b1', 'fortran_order': False, 'shape': (2,), }", 2, CR_ERROR_FORMAT, "neither 0 nor 1"},
        {1, "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", 4, CR_ERROR_UNSUPPORTED, "type \"|O\""},
        {1, "{'descr': '<c8', 'fortran_order': False, 'shape': (2,), }", 16, CR_ERROR_UNSUPPORTED, "type \"<c8\""},
        {1, "{'descr': '', 'fortran_order': False, 'shape': (2,), }", 16, CR_ERROR_UNSUPPORTED, "type \"\""},
        {1, "{'descr': [('a', '<i2')], 'fortran_order': False, 'shape': (2,), }", 4, CR_ERROR_FORMAT, "at \"[('a'"},
    };
    const int64_t before = cr_memory_stats().live_bytes;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_null(cr_npy_load(write_file(rows[i].major, rows[i].text, rows[i].data_bytes)));
        assert_cr_error(rows[i].code, rows[i].complaint);
    }
    assert_null(cr_npy_load(in_folder("absent")));
    assert_cr_error(CR_ERROR_IO, "No such file");
    assert_null(cr_npy_load(NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
    assert_int_equal(cr_memory_stats().live_bytes, before);
}

static void each_failing_allocation_is_an_error(void **state) {
    (void)state;
    const char *path = write_file(1, "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }", 12);
    const int64_t before = cr_memory_stats().live_bytes;
    for (int n = 1, done = 0; !done; n++) {
        cr_memory_fail_nth(n);
        cr_tensor *t = cr_npy_load(path);
        done = t && cr_npy_save(in_folder("copy.npy"), t);
        cr_memory_fail_nth(0);
        cr_discard(t);
        if (!done) assert_cr_error(CR_ERROR_MEMORY, "made to fail");
        assert_int_equal(cr_memory_stats().live_bytes, before);
    }
}

/* ---------------------------------------------------------------- against NumPy */
static void numpys_files_are_read_in_every_layout(void **state) {
    (void)state;
    if (!has_python_module("numpy")) skip();
    assert_true(run_reference("npy_reference.py", "write", temporary_folder));
    FILE *list = fopen(in_folder("list"), "r");
    char name[16], kind[8], sizes[64], text[192], file_name[32];
    int count = 0;
    while (fscanf(list, "%15s %7s %63s", name, kind, sizes) == 3) {
        CR_SCOPE {
            snprintf(file_name, sizeof file_name, "%s.npy", name);
            cr_tensor *t = cr_npy_load(in_folder(file_name));
            assert_cr_ok();
            assert_string_equal(kinds[cr_dtype_of(t)], kind);
            assert_string_equal(cr_shape_format(cr_shape_of(t), text), sizes);
            snprintf(file_name, sizeof file_name, "%s.bin", name);
            size_t bytes = 0;
            char *expected = cr_file_load(in_folder(file_name), 0, &bytes);
            assert_int_equal(bytes, (size_t)cr_numel(t) * cr_dtype_size(cr_dtype_of(t)));
            if (bytes) assert_memory_equal(cr_data(t), expected, bytes);
            cr_free(expected);
            count++;
        }
    }
    fclose(list);
    empty_temporary_folder();
    assert_int_equal(count, 9 * 7 * 2 * 2 * 3);
}

static void numpy_reads_our_files(void **state) {
    (void)state;
    if (!has_python_module("numpy")) skip();
    const cr_shape shapes[] = {CR_SHAPE_0D, CR_SHAPE(6), CR_SHAPE(0, 3), CR_SHAPE(3, 4),
                               CR_SHAPE(1, 2, 3, 1, 2, 3, 1, 2)};
    FILE *list = fopen(in_folder("list"), "w");
    int number = 0;
    for (int dtype = 0; dtype < CR_DTYPE_COUNT; dtype++) {
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0] && kinds[dtype]; s++) {
            CR_SCOPE {
                cr_tensor *t = counting((cr_dtype)dtype, shapes[s]);
                char file_name[32], text[192];
                fprintf(list, "%d %s %s\n", number, kinds[dtype], cr_shape_format(shapes[s], text));
                snprintf(file_name, sizeof file_name, "%d.npy", number);
                assert_true(cr_npy_save(in_folder(file_name), t));
                snprintf(file_name, sizeof file_name, "%d.bin", number++);
                FILE *file = fopen(in_folder(file_name), "wb");
                if (cr_numel(t)) fwrite(cr_data(t), cr_dtype_size((cr_dtype)dtype), (size_t)cr_numel(t), file);
                fclose(file);
            }
        }
    }
    fclose(list);
    assert_true(run_reference("npy_reference.py", "check", temporary_folder));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_dtype_and_shape_comes_back),
        cmocka_unit_test(a_strided_tensor_is_saved_row_major),
        cmocka_unit_test(what_cannot_be_saved_is_an_error),
        cmocka_unit_test(headers_are_read_as_python_reads_them),
        cmocka_unit_test(files_that_break_the_format_are_refused),
        cmocka_unit_test(each_failing_allocation_is_an_error),
        cmocka_unit_test(numpys_files_are_read_in_every_layout),
        cmocka_unit_test(numpy_reads_our_files),
    };
    return cmocka_run_group_tests(tests, make_temporary_folder, remove_temporary_folder);
}
