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

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(add_broadcasts_and_promotes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
