/* Public functions that are a form of an op, not a row of their own: they give what the op gives. */
#include "tests/unit/testing.h"
#include "tests/unit/memory_checks.h"

#include <math.h>

static void assert_equal(cr_tensor *given, cr_tensor *expected) {
    assert_cr_ok();
    assert_true(cr_shape_equal(cr_shape_of(given), cr_shape_of(expected)) &&
                cr_dtype_of(given) == cr_dtype_of(expected));
    assert_memory_equal(cr_data(cr_contiguous(given)), cr_data(cr_contiguous(expected)),
                        (size_t)cr_numel(given) * cr_dtype_size(cr_dtype_of(given)));
}

static cr_tensor *numbers(cr_shape shape) { return cr_randint(-9, 10, shape, CR_CPU, .dtype = CR_F64); }

static void products_by_the_number_of_dims(void **state) {
    (void)state;
    cr_tensor *a = numbers(CR_SHAPE(3, 4)), *b = numbers(CR_SHAPE(4, 5)), *c = numbers(CR_SHAPE(3, 5));
    cr_tensor *v = numbers(CR_SHAPE(4)), *w = numbers(CR_SHAPE(4)), *many = numbers(CR_SHAPE(2, 3, 4)),
              *others = numbers(CR_SHAPE(2, 4, 5));
    assert_equal(cr_mm(a, b), cr_matmul(a, b));
    assert_equal(cr_mv(a, v), cr_matmul(a, v));
    assert_equal(cr_dot(v, w), cr_sum(cr_mul(v, w)));
    assert_equal(cr_bmm(many, others), cr_matmul(many, others));
    assert_equal(cr_outer(v, w), cr_matmul(cr_unsqueeze(v, 1), cr_unsqueeze(w, 0)));
    cr_tensor *weighed = cr_add(cr_mul_scalar(c, 2), cr_mul_scalar(cr_matmul(a, b), 3));
    assert_equal(cr_addmm(c, a, b, 2, 3), weighed);
    assert_equal(cr_addmm(cr_full_like(c, NAN), a, b, 0, 1), cr_matmul(a, b)); /* 0 leaves c unread */
    assert_null(cr_mm(a, v));
    assert_cr_error(CR_ERROR_SHAPE, "mm");
    assert_null(cr_dot(a, v));
    assert_cr_error(CR_ERROR_SHAPE, "dot");
    assert_null(cr_outer(a, v));
    assert_cr_error(CR_ERROR_SHAPE, "outer");
}

static void tensors_like_others(void **state) {
    (void)state;
    cr_tensor *t = cr_channels_last(cr_ones(CR_F16, CR_SHAPE(2, 3, 4, 5), CR_CPU));
    cr_tensor *const made[] = {cr_empty_like(t), cr_full_like(t, 7), cr_rand_like(t), cr_randn_like(t)};
    for (int i = 0; i < 4; i++)
        assert_true(cr_dtype_of(made[i]) == CR_F16 && cr_shape_equal(cr_shape_of(made[i]), CR_SHAPE(2, 3, 4, 5)));
    assert_true(cr_at(made[1], CR_SHAPE(1, 2, 3, 4)) == 7);
    assert_equal(cr_expand_as(cr_ones(CR_F16, CR_SHAPE(3, 1, 5), CR_CPU), t), cr_contiguous(t));
}

static void extremes_come_with_their_places(void **state) {
    (void)state;
    cr_tensor *x = cr_randn(CR_F32, CR_SHAPE(5, 7), CR_CPU), *where;
    assert_equal(cr_max(x, 1, false, &where), cr_amax(x, .dims = CR_DIMS(1)));
    assert_equal(where, cr_argmax(x, 1, false));
    assert_equal(cr_min(x, 0, true, &where), cr_amin(x, .dims = CR_DIMS(0), .keepdim = true));
    assert_equal(where, cr_argmin(x, 0, true));
    assert_equal(cr_max(cr_scalar(3, CR_F32), 0, false, NULL), cr_scalar(3, CR_F32));
}

static void random_writes_are_the_random_ops(void **state) {
    (void)state;
    cr_tensor *t = cr_empty(CR_F32, CR_SHAPE(50), CR_CPU), *at;
#define SAME(write, make) cr_manual_seed(9), at = cr_clone(write), cr_manual_seed(9), assert_equal(at, make)
    SAME(cr_uniform_(t, 0, 1), cr_rand(CR_F32, CR_SHAPE(50), CR_CPU));
    SAME(cr_normal_(t, 0, 1), cr_randn(CR_F32, CR_SHAPE(50), CR_CPU));
    SAME(cr_random_(t, 2, 9), cr_randint(2, 9, CR_SHAPE(50), CR_CPU, .dtype = CR_F32));
    const cr_randint_options wide = {.size = sizeof wide, .low = -5, .high = 100};
    SAME(cr_randint_with_(t, &wide), cr_randint(-5, 100, CR_SHAPE(50), CR_CPU, .dtype = CR_F32));
    SAME(cr_bernoulli_(t, 0.3), cr_bernoulli(cr_full(CR_F32, CR_SHAPE(50), 0.3, CR_CPU)));
}

static void whole_sequences_stay_within_two_to_the_62(void **state) {
    (void)state;
    assert_null(cr_arange(CR_I64, 0x1p62, 0x1p62 - 4096, -1024, CR_CPU));
    assert_cr_error(CR_ERROR_ARGUMENT, "leave the integers");
    cr_tensor *t = cr_arange(CR_I64, 0x1p61, 0x1p61 - 4096, -1024, CR_CPU);
    assert_true(cr_numel(t) == 4 && cr_data_i64(t)[3] == (INT64_C(1) << 61) - 3072);
}

static void attributes_are_told_with_their_defaults(void **state) {
    (void)state;
    char *text = cr_op_attributes("softmax");
    assert_non_null(text);
    assert_non_null(strstr(text, "dim=-1"));
    cr_free(text);
    assert_null(cr_op_attributes("no_such_op"));
    assert_false(cr_ok());
    cr_clear_error();
}

static void the_best_device_can_be_used(void **state) {
    (void)state;
    const cr_device best = cr_device_best();
    assert_equal(cr_to_device(cr_ones(CR_F32, CR_SHAPE(3), best), CR_CPU), cr_ones(CR_F32, CR_SHAPE(3), CR_CPU));
}

int main(void) {
#define TEST(name) cmocka_unit_test_teardown(name, nothing_is_left)
    const struct CMUnitTest tests[] = {
        TEST(products_by_the_number_of_dims),
        TEST(tensors_like_others),
        TEST(extremes_come_with_their_places),
        TEST(random_writes_are_the_random_ops),
        TEST(whole_sequences_stay_within_two_to_the_62),
        TEST(attributes_are_told_with_their_defaults),
        TEST(the_best_device_can_be_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
