/* Shape ops: views share memory, copies between layouts move every element, splits and joins fit together. */
#include "tests/unit/testing.h"
#include "tests/unit/memory_checks.h"

#include <stdlib.h>

static cr_tensor *count_up(cr_dtype dtype, cr_shape shape) {
    int64_t numel;
    assert_true(cr_shape_numel(shape, &numel));
    return cr_view(cr_arange(dtype, 0, (double)numel, 1, CR_CPU), shape);
}

/* ---------------------------------------------------------------- copies between layouts */
/* Bytes of t's elements in row-major order, one by one. */
static char *read_slowly(cr_tensor *t) {
    const cr_shape shape = cr_shape_of(t), strides = cr_strides_of(t);
    const size_t bytes = cr_dtype_size(cr_dtype_of(t));
    char *result = malloc((size_t)cr_numel(t) * bytes);
    int64_t at[CR_MAX_DIMS] = {0};
    for (int64_t i = 0; i < cr_numel(t); i++) {
        int64_t offset = 0;
        for (int d = 0; d < shape.count; d++)
            offset += at[d] * strides.at[d];
        memcpy(result + (size_t)i * bytes, (const char *)cr_data(t) + offset * (int64_t)bytes, bytes);
        for (int d = shape.count - 1; d >= 0 && ++at[d] == shape.at[d]; d--)
            at[d] = 0;
    }
    return result;
}

static void assert_copies(cr_tensor *t) {
    assert_non_null(t);
    char *expected = read_slowly(t);
    cr_tensor *copy = cr_clone(t), *dense = cr_contiguous(copy);
    assert_cr_ok();
    assert_false(cr_shares_storage(copy, t));
    assert_memory_equal(cr_data(dense), expected, (size_t)cr_numel(t) * cr_dtype_size(cr_dtype_of(t)));
    /* and into a strided place, beside which nothing is written */
    cr_shape wider = cr_shape_of(t);
    const int64_t last = wider.at[wider.count - 1];
    wider.at[wider.count - 1] = 2 * last + 1;
    cr_tensor *around = cr_full(cr_dtype_of(t), wider, 77, CR_CPU), *place = cr_slice(around, -1, 1, 2 * last + 1, 2);
    assert_non_null(cr_copy_(place, t));
    char *written = read_slowly(place);
    assert_memory_equal(written, expected, (size_t)cr_numel(t) * cr_dtype_size(cr_dtype_of(t)));
    cr_tensor *untouched = cr_slice(around, -1, 0, 2 * last + 1, 2);
    assert_true(cr_item(cr_all(cr_eq_scalar(untouched, 77))) == 1);
    free(expected);
    free(written);
}

static void every_layout_is_copied(void **state) {
    (void)state;
    const cr_dtype dtypes[] = {CR_I8, CR_F16, CR_F32, CR_F64};
    const cr_shape shapes[] = {CR_SHAPE(37, 50),      CR_SHAPE(3, 33, 16),    CR_SHAPE(16, 3, 48),
                               CR_SHAPE(2, 3, 5, 70), CR_SHAPE(1, 64, 1, 32), CR_SHAPE(300, 2, 17)};
    const cr_dims orders[][4] = {{CR_DIMS(1, 0), CR_DIMS(0, 1)},
                                 {CR_DIMS(0, 2, 1), CR_DIMS(2, 1, 0), CR_DIMS(1, 2, 0), CR_DIMS(2, 0, 1)},
                                 {CR_DIMS(0, 2, 3, 1), CR_DIMS(0, 3, 1, 2), CR_DIMS(3, 2, 1, 0), CR_DIMS(2, 0, 3, 1)}};
    for (int d = 0; d < 4; d++) {
        for (int s = 0; s < 6; s++) {
            for (int o = 0; o < 4 && orders[shapes[s].count - 2][o].count; o++)
                CR_SCOPE {
                    cr_tensor *t = count_up(CR_I64, shapes[s]);
                    t = cr_cast(cr_remainder(t, cr_scalar_i64(101)), dtypes[d]);
                    assert_copies(cr_permute(t, orders[shapes[s].count - 2][o]));
                    assert_copies(cr_permute(cr_slice(t, -1, 1, INT64_MAX, 3), orders[shapes[s].count - 2][o]));
                }
        }
        CR_SCOPE {
            assert_copies(cr_expand(count_up(dtypes[d], CR_SHAPE(40, 1)), CR_SHAPE(3, 40, 35)));
            assert_copies(cr_expand(count_up(dtypes[d], CR_SHAPE(1, 40)), CR_SHAPE(35, 40)));
        }
    }
}

static void threads_copy_the_same(void **state) {
    (void)state;
    cr_tensor *t = cr_randn(CR_F32, CR_SHAPE(3, 70, 211), CR_CPU);
    const int threads = cr_num_threads();
    cr_set_num_threads(5);
    assert_copies(cr_permute(t, CR_DIMS(2, 0, 1)));
    assert_copies(cr_permute(t, CR_DIMS(1, 2, 0)));
    cr_set_num_threads(threads);
}

/* ---------------------------------------------------------------- views */
static void views_share_memory(void **state) {
    (void)state;
    cr_tensor *t = count_up(CR_F32, CR_SHAPE(4, 6));
    cr_tensor *views[] = {cr_view(t, CR_SHAPE(3, 8)),
                          cr_t(t),
                          cr_slice(t, 1, 1, 6, 2),
                          cr_select(t, 0, 2),
                          cr_diagonal(t, 1, 0, 1),
                          cr_unsqueeze(t, 1),
                          cr_expand(cr_select(t, 1, 0), CR_SHAPE(5, 4)),
                          cr_unfold(t, 1, 3, 2),
                          cr_narrow(t, 0, 1, 2),
                          cr_movedim(t, 0, 1),
                          cr_as_strided(t, CR_SHAPE(2, 2), CR_SHAPE(6, 2), 3),
                          cr_flatten(t, 0, 1),
                          cr_unflatten(t, 1, CR_SHAPE(2, 3)),
                          cr_squeeze(cr_unsqueeze(t, 0), CR_ALL_DIMS)};
    for (size_t i = 0; i < sizeof views / sizeof views[0]; i++) {
        assert_non_null(views[i]);
        assert_true(cr_shares_storage(views[i], t));
    }
    assert_non_null(cr_fill_(views[3], -1)); /* row 2 */
    for (int i = 0; i < 24; i++)
        assert_true(cr_data_f32(t)[i] == (i / 6 == 2 ? -1 : (float)i));
    assert_true(cr_version_of(views[0]) == cr_version_of(t) && cr_version_of(t) > 0);
    assert_true(cr_at(views[7], CR_SHAPE(3, 1, 2)) == 3 * 6 + 2 + 2);
}

static void a_view_that_needs_a_copy_is_refused(void **state) {
    (void)state;
    cr_tensor *t = cr_t(count_up(CR_F32, CR_SHAPE(4, 6)));
    assert_null(cr_view(t, CR_SHAPE(24)));
    assert_cr_error(CR_ERROR_SHAPE, "cr_reshape");
    cr_tensor *copy = cr_reshape(t, CR_SHAPE(24));
    assert_true(!cr_shares_storage(copy, t) && cr_at(copy, CR_SHAPE(1)) == 6);
    assert_null(cr_t(cr_zeros(CR_F32, CR_SHAPE(2, 2, 2), CR_CPU)));
    assert_cr_error(CR_ERROR_SHAPE, "at most 2");
    assert_null(cr_unflatten(t, 0, CR_SHAPE(4, -1)));
    assert_cr_error(CR_ERROR_SHAPE, "cannot make");
}

static void windows_stay_inside_the_storage(void **state) {
    (void)state;
    cr_tensor *t = cr_zeros(CR_F32, CR_SHAPE(10), CR_CPU);
    const int64_t bad[][3] = {{11, 1, 0}, {4, 3, 1}, {2, INT64_MAX, 0}, {1, 1, -1}, {1, 1, 10}, {3, -1, 5}};
    for (int i = 0; i < 6; i++) {
        assert_null(cr_as_strided(t, CR_SHAPE(bad[i][0]), CR_SHAPE(bad[i][1]), bad[i][2]));
        assert_cr_error(CR_ERROR_INDEX, "window");
    }
    assert_non_null(cr_as_strided(t, CR_SHAPE(4), CR_SHAPE(3), 0));
    assert_null(cr_narrow(t, 0, INT64_MAX, INT64_MAX));
    assert_cr_error(CR_ERROR_INDEX, "narrow");
}

/* ---------------------------------------------------------------- joining and splitting */
static void parts_join_to_the_whole(void **state) {
    (void)state;
    cr_tensor *t = cr_randn(CR_F32, CR_SHAPE(5, 7, 3), CR_CPU), *parts[8];
    for (int dim = 0; dim < 3; dim++) {
        int count = cr_split(t, 2, dim, parts, 8);
        assert_true(count == ((int)cr_size(t, dim) + 1) / 2);
        assert_true(cr_item(cr_all(cr_eq(cr_cat(parts, count, dim), t))) == 1);
        count = cr_chunk(t, 3, dim, parts, 8);
        assert_true(cr_item(cr_all(cr_eq(cr_cat(parts, count, dim), t))) == 1);
        count = cr_unbind(t, dim, parts, 8);
        assert_true(count == cr_size(t, dim));
        assert_true(cr_item(cr_all(cr_eq(cr_stack(parts, count, dim), t))) == 1);
    }
    assert_true(cr_split_sizes(t, CR_DIMS(1, 0, 4, 2), 1, parts) == 4);
    assert_true(cr_size(parts[2], 1) == 4 && cr_numel(parts[1]) == 0);
    assert_true(cr_item(cr_all(cr_eq(cr_cat(parts, 4, 1), t))) == 1);
    assert_true(cr_split_sizes(t, CR_DIMS(1, 4), 1, parts) == -1);
    assert_cr_error(CR_ERROR_ARGUMENT, "add up");
    assert_true(cr_split(t, 1, 1, parts, 6) == -1);
    assert_cr_error(CR_ERROR_ARGUMENT, "room for 6");
    assert_true(cr_split(t, 0, 1, parts, 6) == -1);
    assert_cr_error(CR_ERROR_ARGUMENT, "parts of 0");
}

static void any_number_of_tensors_is_joined(void **state) {
    (void)state;
    cr_tensor *rows[1000];
    for (int i = 0; i < 1000; i++)
        rows[i] = cr_requires_grad_(cr_full(CR_F32, CR_SHAPE(2), i, CR_CPU), i == 777);
    cr_tensor *joined = cr_cat(rows, 1000, 0), *stacked = cr_stack(rows, 1000, -1);
    assert_true(cr_size(joined, 0) == 2000 && cr_size(stacked, 0) == 2 && cr_size(stacked, 1) == 1000);
    for (int i = 0; i < 1000; i += 37)
        assert_true(cr_at(joined, CR_SHAPE(2 * i)) == i && cr_at(stacked, CR_SHAPE(1, i)) == i);
    assert_true(cr_backward(cr_sum(cr_mul_scalar(joined, 3))));
    assert_true(cr_at(cr_grad_of(rows[777]), CR_SHAPE(1)) == 3);
    assert_null(cr_stack((cr_tensor *[]){rows[0], cr_zeros(CR_F32, CR_SHAPE(3), CR_CPU)}, 2, 0));
    assert_cr_error(CR_ERROR_SHAPE, "tensor 1 is f32[3]");
    assert_null(cr_cat(NULL, 0, 0));
    assert_cr_error(CR_ERROR_ARGUMENT, "at least one");
}

static void elements_repeat_in_rows(void **state) {
    (void)state;
    cr_tensor *t = count_up(CR_I64, CR_SHAPE(2, 3)), *tiled = cr_repeat(t, CR_SHAPE(2, 1, 2));
    assert_true(cr_shape_equal(cr_shape_of(tiled), CR_SHAPE(2, 2, 6)));
    for (int i = 0; i < 24; i++)
        assert_true(cr_at(tiled, CR_SHAPE(i / 12, i / 6 % 2, i % 6)) == i / 6 % 2 * 3 + i % 3);
    cr_tensor *each = cr_repeat_interleave(t, 3, 0);
    assert_true(cr_shape_equal(cr_shape_of(each), CR_SHAPE(6, 3)));
    for (int i = 0; i < 18; i++)
        assert_true(cr_at(each, CR_SHAPE(i / 3, i % 3)) == i / 9 * 3 + i % 3);
    assert_true(cr_numel(cr_repeat_interleave(t, 0, 1)) == 0);
    assert_null(cr_repeat_interleave(t, -1, 0));
    assert_cr_error(CR_ERROR_ARGUMENT, "-1 times");
    cr_tensor *grids[2];
    assert_true(cr_meshgrid((cr_tensor *[]){count_up(CR_I64, CR_SHAPE(2)), count_up(CR_I64, CR_SHAPE(3))}, 2, grids));
    for (int i = 0; i < 6; i++) {
        assert_true(cr_at(grids[0], CR_SHAPE(i / 3, i % 3)) == i / 3);
        assert_true(cr_at(grids[1], CR_SHAPE(i / 3, i % 3)) == i % 3);
    }
    cr_tensor *rolled = cr_roll(t, -4, 1);
    for (int i = 0; i < 6; i++)
        assert_true(cr_at(rolled, CR_SHAPE(i / 3, i % 3)) == i / 3 * 3 + (i % 3 + 1) % 3);
}

static void slices_are_replaced_in_a_copy(void **state) {
    (void)state;
    cr_tensor *t = cr_requires_grad_(cr_t(count_up(CR_F64, CR_SHAPE(5, 4))), true),
              *source = cr_requires_grad_(cr_full(CR_F64, CR_SHAPE(2, 5), 9, CR_CPU), true);
    cr_tensor *out = cr_slice_scatter(t, source, 0, 1, 4, 2);
    for (int i = 0; i < 20; i++)
        assert_true(cr_at(out, CR_SHAPE(i / 5, i % 5)) == (i / 5 % 2 ? 9 : cr_at(t, CR_SHAPE(i / 5, i % 5))));
    assert_true(cr_backward(cr_sum(out)));
    assert_true(cr_item(cr_sum(cr_grad_of(t))) == 10 && cr_item(cr_sum(cr_grad_of(source))) == 10);
    cr_tensor *row = cr_select_scatter(t, cr_select(source, 0, 0), 0, -1);
    assert_true(cr_at(row, CR_SHAPE(3, 4)) == 9 && cr_at(row, CR_SHAPE(2, 4)) == 18);
}

static void sequences_are_exact(void **state) {
    (void)state;
    cr_tensor *t = cr_linspace(CR_F64, 0.1, 0.7, 7, CR_CPU);
    assert_true(cr_at(t, CR_SHAPE(0)) == 0.1 && cr_at(t, CR_SHAPE(6)) == 0.7);
    cr_tensor *large = cr_arange(CR_I64, 1e15, 1e15 + 5, 2, CR_CPU);
    assert_true(cr_numel(large) == 3 && cr_data_i64(large)[2] == 1000000000000004);
    assert_true(cr_numel(cr_arange(CR_F32, 0, 1, 0.1, CR_CPU)) == 10 &&
                cr_numel(cr_arange(CR_I32, 5, 5, 1, CR_CPU)) == 0);
    assert_true(cr_at(cr_arange(CR_F32, 3, 0, -1, CR_CPU), CR_SHAPE(2)) == 1);
    assert_null(cr_arange(CR_F32, 0, 1, 0, CR_CPU));
    assert_cr_error(CR_ERROR_ARGUMENT, "arange");
    assert_null(cr_arange(CR_F32, 0, 1, -1, CR_CPU));
    assert_cr_error(CR_ERROR_ARGUMENT, "arange");
}

static void nothing_given_is_nothing_returned(void **state) {
    (void)state;
    cr_tensor *bad = cr_view(cr_zeros(CR_F32, CR_SHAPE(3), CR_CPU), CR_SHAPE(4)); /* NULL, with its error */
    assert_null(bad);
    assert_null(cr_t(bad));
    assert_null(cr_unfold(bad, 0, 1, 1));
    assert_null(cr_pad_around(bad, CR_DIMS(1), CR_DIMS(1), "reflect"));
    assert_null(cr_slice_scatter(bad, bad, 0, 0, 1, 1));
    assert_null(cr_stack(&bad, 1, 0));
    assert_null(cr_repeat_interleave(bad, 2, 0));
    assert_false(cr_meshgrid(&bad, 1, &bad));
    assert_cr_error(CR_ERROR_SHAPE, "cannot make"); /* the first error is the one kept */
}

static void failing_memory_is_an_error(void **state) {
    (void)state;
    for (int n = 1; n < 200; n++) {
        bool done = false;
        cr_memory_fail_nth(n);
        CR_SCOPE {
            cr_tensor *t = cr_zeros(CR_F32, CR_SHAPE(4, 5), CR_CPU), *rows[80];
            for (int i = 0; i < 80; i++)
                rows[i] = t;
            cr_tensor *joined = cr_contiguous(cr_transpose(cr_stack(rows, 80, 1), 0, 1));
            cr_tensor *around = cr_pad_around(cr_flip(joined, CR_DIMS(2)), CR_DIMS(2), CR_DIMS(1), "reflect");
            done = cr_tril(cr_repeat_interleave(around, 2, 0), 1) && cr_linspace(CR_F32, 0, 1, 9, CR_CPU) &&
                   cr_eye(CR_F32, 3, 3, CR_CPU);
        }
        cr_memory_fail_nth(0);
        if (done) break;
        assert_cr_error(CR_ERROR_MEMORY, "");
        cr_scope_clear();
        assert_true(cr_memory_stats().live_bytes == 0);
    }
    assert_cr_ok();
}

int main(void) {
#define TEST(name) cmocka_unit_test_teardown(name, nothing_is_left)
    const struct CMUnitTest tests[] = {
        TEST(every_layout_is_copied),
        TEST(threads_copy_the_same),
        TEST(views_share_memory),
        TEST(a_view_that_needs_a_copy_is_refused),
        TEST(windows_stay_inside_the_storage),
        TEST(parts_join_to_the_whole),
        TEST(any_number_of_tensors_is_joined),
        TEST(elements_repeat_in_rows),
        TEST(slices_are_replaced_in_a_copy),
        TEST(sequences_are_exact),
        TEST(nothing_given_is_nothing_returned),
        TEST(failing_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
