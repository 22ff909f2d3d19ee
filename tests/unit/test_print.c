/* Tensors as text: literal expectations taken from PyTorch, and hundreds of cases against PyTorch where it is
 * installed. Labels: torch */
#include "tests/unit/testing.h"
#include "tests/unit/reference.h"
#include "tests/unit/temporary_folder.h"

#include "core/random.h"
#include "core/tensor.h"

#include <locale.h>
#include <math.h>

static void assert_text(cr_tensor *t, const char *expected) {
    char *text = cr_format(t);
    assert_cr_ok();
    assert_string_equal(text, expected);
    cr_free(text);
}

#define F32(shape, ...) cr_from_data(CR_F32, shape, (const float[]){__VA_ARGS__})

static cr_tensor *arange(cr_shape shape) {
    cr_tensor *t = cr_empty(CR_I64, shape, CR_CPU);
    for (int64_t i = 0; i < cr_numel(t); i++)
        cr_data_i64(t)[i] = i;
    return t;
}

static void small_tensors_read_like_pytorchs(void **state) {
    (void)state;
    const int64_t before = cr_memory_stats().live_bytes;
    CR_SCOPE {
        assert_text(F32(CR_SHAPE(3), 1, 2, 3), "tensor([1., 2., 3.])");
        assert_text(F32(CR_SHAPE(2, 2), 1.5f, -2.25f, 100, 0),
                    "tensor([[  1.5000,  -2.2500],\n        [100.0000,   0.0000]])");
        assert_text(F32(CR_SHAPE(3), 1e-5f, 1, 1000), "tensor([1.0000e-05, 1.0000e+00, 1.0000e+03])");
        assert_text(F32(CR_SHAPE(4), NAN, INFINITY, -INFINITY, 1), "tensor([nan, inf, -inf, 1.])");
        assert_text(F32(CR_SHAPE(1), -NAN), "tensor([nan])");
        assert_text(F32(CR_SHAPE(2), -0.0f, 0), "tensor([-0., 0.])");
        assert_text(cr_scalar(3.25, CR_F64), "tensor(3.2500, dtype=f64)");
        assert_text(cr_scalar(1, CR_BF16), "tensor(1., dtype=bf16)");
        assert_text(cr_scalar_i64(-7), "tensor(-7)");
        assert_text(cr_scalar(1, CR_BOOL), "tensor(True)");
        assert_text(cr_from_data(CR_BOOL, CR_SHAPE(2), "\1\0"), "tensor([ True, False])");
        assert_text(cr_from_data(CR_I8, CR_SHAPE(2), "\xff\x01"), "tensor([-1,  1], dtype=i8)");
        assert_text(cr_scalar_i64(INT64_MIN), "tensor(-9223372036854775808)");
    }
    assert_int_equal(cr_memory_stats().live_bytes, before);
}

static void empty_tensors_tell_their_size(void **state) {
    (void)state;
    CR_SCOPE {
        assert_text(cr_empty(CR_F32, CR_SHAPE(0), CR_CPU), "tensor([])");
        assert_text(cr_empty(CR_F32, CR_SHAPE(0, 3), CR_CPU), "tensor([], size=(0, 3))");
        assert_text(cr_empty(CR_I64, CR_SHAPE(0), CR_CPU), "tensor([], dtype=i64)");
        assert_text(cr_empty(CR_BOOL, CR_SHAPE(2, 0), CR_CPU), "tensor([], size=(2, 0), dtype=bool)");
    }
}

static void large_tensors_are_summarised(void **state) {
    (void)state;
    CR_SCOPE {
        assert_text(arange(CR_SHAPE(1001)), "tensor([   0,    1,    2,  ...,  998,  999, 1000])");
        assert_text(arange(CR_SHAPE(40, 40)), "tensor([[   0,    1,    2,  ...,   37,   38,   39],\n"
                                              "        [  40,   41,   42,  ...,   77,   78,   79],\n"
                                              "        [  80,   81,   82,  ...,  117,  118,  119],\n"
                                              "        ...,\n"
                                              "        [1480, 1481, 1482,  ..., 1517, 1518, 1519],\n"
                                              "        [1520, 1521, 1522,  ..., 1557, 1558, 1559],\n"
                                              "        [1560, 1561, 1562,  ..., 1597, 1598, 1599]])");
    }
}

static void long_rows_are_broken_at_80_columns(void **state) {
    (void)state;
    CR_SCOPE {
        assert_text(arange(CR_SHAPE(30)),
                    "tensor([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 16, 17,\n"
                    "        18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29])");
    }
}

static void strides_and_devices_do_not_show(void **state) {
    (void)state;
    CR_SCOPE {
        cr_tensor *t = arange(CR_SHAPE(2, 3));
        assert_text(cr_view_raw(t, CR_SHAPE(3, 2), CR_SHAPE(1, 3), 0),
                    "tensor([[0, 3],\n        [1, 4],\n        [2, 5]])");
        assert_text(cr_view_raw(t, CR_SHAPE(2, 2), CR_SHAPE(0, 1), 4), "tensor([[4, 5],\n        [4, 5]])");
        assert_true(cr_cpu_set_device_count(2));
        cr_tensor *elsewhere = cr_empty(CR_I64, CR_SHAPE(1), (cr_device){CR_DEVICE_CPU, 1});
        *cr_data_i64(elsewhere) = 5;
        assert_text(elsewhere, "tensor([5], device='cpu:1')");
        assert_true(cr_cpu_set_device_count(1));
    }
}

static void a_locale_with_commas_changes_nothing(void **state) {
    (void)state;
    char command[512];
    snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 %s 2>/dev/null", in_folder("de_DE.UTF-8"));
    setenv("LOCPATH", temporary_folder, 1);
    const bool is_built = system(command) == 0 && setlocale(LC_NUMERIC, "de_DE.UTF-8");
    if (is_built) {
        CR_SCOPE {
            assert_text(F32(CR_SHAPE(2), 0.5f, 1.25f), "tensor([0.5000, 1.2500])");
        }
        setlocale(LC_NUMERIC, "C");
    }
    snprintf(command, sizeof command, "rm -rf %s", in_folder("de_DE.UTF-8"));
    assert_int_equal(system(command), 0);
    if (!is_built) skip();
}

static void printing_ends_the_line_and_reports_failure(void **state) {
    (void)state;
    CR_SCOPE {
        FILE *file = tmpfile();
        char text[64] = "";
        assert_true(cr_print(file, cr_scalar_i64(3)));
        rewind(file);
        assert_int_equal(fread(text, 1, sizeof text, file), strlen("tensor(3)\n"));
        assert_string_equal(text, "tensor(3)\n");
        fclose(file);
        assert_false(cr_print(NULL, cr_scalar_i64(3)));
        assert_cr_error(CR_ERROR_ARGUMENT, "the file is NULL");
        assert_false(cr_print(stderr, NULL));
        assert_cr_error(CR_ERROR_ARGUMENT, "the tensor is NULL");
        FILE *full = fopen("/dev/full", "w");
        setvbuf(full, NULL, _IONBF, 0);
        assert_false(cr_print(full, cr_scalar_i64(3)));
        assert_cr_error(CR_ERROR_IO, "No space left");
        fclose(full);
    }
}

static void each_failing_allocation_is_an_error(void **state) {
    (void)state;
    CR_SCOPE {
        cr_tensor *t = arange(CR_SHAPE(10, 30));
        const int64_t before = cr_memory_stats().live_bytes;
        int failures = 0;
        for (int n = 1;; n++, failures++) {
            cr_memory_fail_nth(n);
            char *text = cr_format(t);
            cr_memory_fail_nth(0);
            cr_free(text);
            assert_int_equal(cr_memory_stats().live_bytes, before);
            if (text) break;
            assert_cr_error(CR_ERROR_MEMORY, "made to fail");
        }
        assert_true(failures > 1);
    }
}

/* ---------------------------------------------------------------- against PyTorch */
/* Numbers of many kinds: `kind` picks their range and roundness. */
static double draw(int kind, cr_generator_state state, uint64_t block) {
    uint32_t bits[4];
    cr_philox(state, block, bits);
    const double unit = cr_uniform_f64(bits[0], bits[1]) * 2 - 1;
    switch (kind) {
    case 0: return unit;
    case 1: return floor(unit * 20);
    case 2: return floor(unit * 5000) * (bits[2] % 4 != 0);
    case 3: return unit * exp2((double)(bits[2] % 40) - 20);
    case 4: return bits[2] % 5 == 0 ? NAN : bits[2] % 7 == 0 ? -INFINITY : unit * 90;
    case 5: return floor(unit * 300) + (bits[2] % 6 == 0 ? INFINITY : 0);
    case 6: return unit * 2e8;
    case 7: return unit * 2e-4;
    case 8: return bits[2] % 3 ? 0 : -0.0;
    default: return floor(unit * 3e8);
    }
}

static void write_case(FILE *list, int number, cr_tensor *t) {
    char name[16], file_name[32];
    snprintf(name, sizeof name, "%d", number);
    fprintf(list, "%s %s ", name, cr_dtype_name(cr_dtype_of(t)));
    for (int i = 0; i < cr_ndim(t); i++)
        fprintf(list, "%lld,", (long long)cr_size(t, i));
    fprintf(list, "\n");
    const size_t bytes = (size_t)cr_numel(t) * cr_dtype_size(cr_dtype_of(t));
    void *data = cr_malloc(bytes);
    assert_true(cr_copy_to_host(t, data, bytes));
    snprintf(file_name, sizeof file_name, "%s.bin", name);
    FILE *file = fopen(in_folder(file_name), "wb");
    fwrite(data, 1, bytes, file);
    fclose(file);
    cr_free(data);
    snprintf(file_name, sizeof file_name, "%s.txt", name);
    file = fopen(in_folder(file_name), "w");
    char *text = cr_format(t);
    fputs(text, file);
    cr_free(text);
    fclose(file);
}

static cr_tensor *random_tensor(cr_dtype dtype, cr_shape shape, int kind, uint64_t seed) {
    cr_tensor *t = cr_empty(dtype, shape, CR_CPU);
    const size_t size = cr_dtype_size(dtype);
    for (int64_t i = 0; i < cr_numel(t); i++) {
        cr_tensor *value = cr_scalar(draw(kind, (cr_generator_state){seed, 0}, (uint64_t)i), dtype);
        memcpy((char *)cr_data(t) + (size_t)i * size, cr_data(value), size);
        cr_discard(value);
    }
    return t;
}

/* Every other element of the last dim, and the dims in reverse order. */
static cr_tensor *strided_view(cr_tensor *t) {
    const cr_shape shape = cr_shape_of(t), strides = cr_strides_of(t);
    cr_shape view_shape = shape, view_strides = strides;
    for (int i = 0; i < shape.count; i++) {
        view_shape.at[i] = shape.at[shape.count - 1 - i];
        view_strides.at[i] = strides.at[shape.count - 1 - i];
    }
    view_shape.at[0] = (view_shape.at[0] + 1) / 2;
    view_strides.at[0] *= 2;
    return cr_view_raw(t, view_shape, view_strides, 0);
}

static void hundreds_of_tensors_print_as_in_pytorch(void **state) {
    (void)state;
    if (!has_python_module("torch")) skip();
    const cr_shape shapes[] = {
        CR_SHAPE_0D,           CR_SHAPE(1),          CR_SHAPE(7),       CR_SHAPE(100),
        CR_SHAPE(1000),        CR_SHAPE(1001),       CR_SHAPE(3, 4),    CR_SHAPE(0, 2),
        CR_SHAPE(2, 3, 4),     CR_SHAPE(33, 31),     CR_SHAPE(7, 200),  CR_SHAPE(2, 2, 300),
        CR_SHAPE(9, 1, 8, 20), CR_SHAPE(1, 2, 3, 2), CR_SHAPE(2000, 1), CR_SHAPE(1, 1, 1, 1, 1, 1, 1, 2)};
    FILE *list = fopen(in_folder("list"), "w");
    int number = 0;
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        for (int dtype = 0; dtype < CR_DTYPE_COUNT; dtype++) {
            for (int kind = 0; kind < (cr_dtype_is_floating((cr_dtype)dtype) ? 10 : 2); kind++) {
                CR_SCOPE {
                    cr_tensor *t = random_tensor((cr_dtype)dtype, shapes[s], kind, (uint64_t)number);
                    write_case(list, number++, t);
                    if (shapes[s].count > 1) write_case(list, number++, strided_view(t));
                }
            }
        }
    }
    fclose(list);
    assert_cr_ok();
    assert_true(run_reference("print_reference.py", temporary_folder, ""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_tensors_read_like_pytorchs),
        cmocka_unit_test(empty_tensors_tell_their_size),
        cmocka_unit_test(large_tensors_are_summarised),
        cmocka_unit_test(long_rows_are_broken_at_80_columns),
        cmocka_unit_test(strides_and_devices_do_not_show),
        cmocka_unit_test(a_locale_with_commas_changes_nothing),
        cmocka_unit_test(printing_ends_the_line_and_reports_failure),
        cmocka_unit_test(each_failing_allocation_is_an_error),
        cmocka_unit_test(hundreds_of_tensors_print_as_in_pytorch),
    };
    return cmocka_run_group_tests(tests, make_temporary_folder, remove_temporary_folder);
}
