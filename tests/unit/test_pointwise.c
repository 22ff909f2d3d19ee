/* Pointwise ops: values, broadcasting, promotion, strides, in place. */
#include "tests/unit/testing.h"

static void add_broadcasts_and_promotes(void **state) {
    (void)state;
    CR_SCOPE {
        cr_tensor *a = cr_from_data(CR_F32, CR_SHAPE(2, 1), (float[]){1, 2});
        cr_tensor *b = cr_from_data(CR_I32, CR_SHAPE(3), (int32_t[]){10, 20, 30});
        cr_tensor *sum = cr_add(a, b);
        assert_cr_ok();
        assert_int_equal(cr_dtype_of(sum), CR_F32);
        const float expected[] = {11, 21, 31, 12, 22, 32};
        assert_memory_equal(cr_data(sum), expected, sizeof expected);
        assert_null(cr_add(cr_zeros(CR_F32, CR_SHAPE(2), CR_CPU), cr_zeros(CR_F32, CR_SHAPE(3), CR_CPU)));
        assert_cr_error(CR_ERROR_SHAPE, "broadcast");
        assert_non_null(cr_mul_scalar_(a, 3));
        assert_true(cr_at(a, CR_SHAPE(1, 0)) == 6);
    }
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

static void integers_have_whole_powers(void **state) {
    (void)state;
    CR_SCOPE {
        const int64_t bases[] = {1, -1, -1, 2, -3, 3, 0, 7, 1}, exponents[] = {-3, -3, -4, -2, -1, 4, 0, 1, INT64_MIN},
                      powers[] = {1, -1, 1, 0, 0, 81, 1, 7, 1};
        cr_tensor *result =
            cr_pow(cr_from_data(CR_I64, CR_SHAPE(9), bases), cr_from_data(CR_I64, CR_SHAPE(9), exponents));
        assert_cr_ok();
        assert_memory_equal(cr_data(result), powers, sizeof powers);
    }
}

static void channels_last_is_kept_for_pictures_and_volumes(void **state) {
    (void)state;
    CR_SCOPE {
        cr_tensor *picture = cr_channels_last(cr_ones(CR_F32, CR_SHAPE(2, 3, 4, 5), CR_CPU)),
                  *volume = cr_channels_last(cr_ones(CR_F32, CR_SHAPE(2, 3, 4, 5, 2), CR_CPU));
        assert_true(cr_is_channels_last(cr_exp(picture)) && cr_is_channels_last(cr_add(volume, volume)));
        assert_true(cr_is_channels_last(cr_mul_scalar(volume, 2)));
        assert_true(cr_is_contiguous(cr_add(volume, cr_ones_like(cr_contiguous(volume)))));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(add_broadcasts_and_promotes),
        cmocka_unit_test(integers_have_whole_powers),
        cmocka_unit_test(channels_last_is_kept_for_pictures_and_volumes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
