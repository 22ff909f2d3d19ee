/* Indexing beyond the samples: large sizes against plain loops, order of writes, ties and NaN, indices that are
 * wrong. */
#include "tests/unit/testing.h"
#include "tests/unit/memory_checks.h"

#include <math.h>
#include <stdlib.h>

static bool equal(cr_tensor *a, cr_tensor *b) {
    return cr_shape_equal(cr_shape_of(a), cr_shape_of(b)) && (cr_numel(a) == 0 || cr_item(cr_all(cr_eq(a, b))) == 1);
}

/* ---------------------------------------------------------------- gather, scatter */
/* x: [a, b, c]; index: [a, n, c] */
static void gather_reads_where_indices_say(void **state) {
    (void)state;
    cr_manual_seed(1);
    const int64_t sizes[][4] = {{3, 50, 70, 90}, {1, 1000, 1, 5000}, {200, 7, 1, 3}, {2, 3000, 65, 4}};
    for (int k = 0; k < 4; k++)
        CR_SCOPE {
            const int64_t a = sizes[k][0], b = sizes[k][1], c = sizes[k][2], n = sizes[k][3];
            cr_tensor *x = cr_randn(CR_F32, CR_SHAPE(a, b, c), CR_CPU),
                      *index = cr_randint(0, b, CR_SHAPE(a, n, c), CR_CPU);
            cr_tensor *out = cr_gather(x, 1, index), *source = cr_randn(CR_F32, CR_SHAPE(a, n, c), CR_CPU);
            cr_tensor *put = cr_scatter(x, 1, index, source), *added = cr_scatter_add(x, 1, index, source);
            float *last = malloc((size_t)(a * b * c) * sizeof *last), *sum = malloc((size_t)(a * b * c) * sizeof *sum);
            memcpy(last, cr_data(x), (size_t)(a * b * c) * sizeof *last);
            memcpy(sum, cr_data(x), (size_t)(a * b * c) * sizeof *sum);
            for (int64_t i = 0; i < a * n * c; i++) {
                const int64_t at = i / (n * c) * b * c + cr_data_i64(index)[i] * c + i % c;
                assert_true(cr_data_f32(out)[i] == cr_data_f32(x)[at]);
                last[at] = cr_data_f32(source)[i];
                sum[at] += cr_data_f32(source)[i];
            }
            assert_memory_equal(cr_data(put), last,
                                (size_t)(a * b * c) * sizeof *last); /* of equal indices the last stays */
            assert_memory_equal(cr_data(added), sum,
                                (size_t)(a * b * c) * sizeof *sum); /* added in the indices' order */
            free(last);
            free(sum);
        }
}

static void rows_are_added_in_order(void **state) {
    (void)state;
    cr_manual_seed(2);
    enum { COUNT = 50, SIZE = 300, N = 4000 };
    cr_tensor *index = cr_randint(0, COUNT, CR_SHAPE(N), CR_CPU, .dtype = CR_I32),
              *g = cr_randn(CR_F32, CR_SHAPE(N, SIZE), CR_CPU);
    cr_tensor *table = cr_requires_grad_(cr_randn(CR_F32, CR_SHAPE(COUNT, SIZE), CR_CPU), true);
    assert_true(cr_backward(cr_sum(cr_mul(cr_embedding(table, index, 3), g))));
    float *sums = calloc(COUNT * SIZE, sizeof *sums);
    for (int i = 0; i < N; i++) {
        const int row = ((const int32_t *)cr_data(index))[i];
        for (int k = 0; k < SIZE && row != 3; k++)
            sums[row * SIZE + k] += cr_data_f32(g)[i * SIZE + k];
    }
    assert_memory_equal(cr_data(cr_grad_of(table)), sums, COUNT * SIZE * sizeof *sums);
    free(sums);
}

static cr_tensor *everything(int threads) {
    cr_set_num_threads(threads);
    cr_manual_seed(3);
    cr_tensor *x = cr_randn(CR_F32, CR_SHAPE(300, 200), CR_CPU),
              *index = cr_randint(0, 200, CR_SHAPE(300, 200), CR_CPU);
    cr_tensor *rows = cr_randint(0, 300, CR_SHAPE(5000), CR_CPU),
              *source = cr_randn(CR_F32, CR_SHAPE(5000, 200), CR_CPU);
    cr_tensor *order = NULL, *best = NULL;
    cr_tensor *sorted = cr_sort(x, 1, false, &order), *top = cr_topk(x, 20, 0, true, &best);
    cr_tensor *parts[] = {cr_gather(x, 1, index),         cr_scatter(x, 1, index, x),
                          cr_scatter_add(x, 1, index, x), cr_index_add(x, 0, rows, source),
                          cr_index_select(x, 0, rows),    sorted,
                          cr_cast(order, CR_F32),         top,
                          cr_cast(best, CR_F32)};
    for (int i = 0; i < 9; i++)
        parts[i] = cr_flatten(parts[i], 0, -1);
    return cr_cat(parts, 9, 0);
}
static void threads_do_not_change_a_bit(void **state) {
    (void)state;
    const int threads = cr_num_threads();
    cr_tensor *one = everything(1), *two = everything(2), *five = everything(5);
    cr_set_num_threads(threads);
    assert_cr_ok();
    const size_t bytes = (size_t)cr_numel(one) * sizeof(float);
    assert_memory_equal(cr_data(one), cr_data(two), bytes);
    assert_memory_equal(cr_data(one), cr_data(five), bytes);
}

static void wrong_indices_are_named_and_never_used(void **state) {
    (void)state;
    const int64_t wrong[] = {7, -1, INT64_MAX, INT64_MIN, 1LL << 40};
    for (int k = 0; k < 5; k++)
        CR_SCOPE {
            const int64_t values[] = {0, 6, wrong[k], 2};
            char name[64];
            snprintf(name, sizeof name, "index %lld at position 2 is outside a dim of 7", (long long)wrong[k]);
            cr_tensor *x = cr_zeros(CR_F32, CR_SHAPE(7), CR_CPU), *index = cr_from_data(CR_I64, CR_SHAPE(4), values),
                      *s = cr_zeros(CR_F32, CR_SHAPE(4), CR_CPU);
            cr_tensor *table = cr_zeros(CR_F32, CR_SHAPE(7, 3), CR_CPU),
                      *plane = cr_zeros(CR_F32, CR_SHAPE(7, 2), CR_CPU);
            cr_tensor *results[] = {cr_gather(x, 0, index)};
            assert_null(results[0]);
            assert_cr_error(CR_ERROR_INDEX, name);
            assert_null(cr_scatter(x, 0, index, s));
            assert_cr_error(CR_ERROR_INDEX, name);
            assert_null(cr_scatter_add(x, 0, index, s));
            assert_cr_error(CR_ERROR_INDEX, name);
            assert_null(cr_index_add(x, 0, index, s));
            assert_cr_error(CR_ERROR_INDEX, name);
            assert_null(cr_index_select(x, 0, index));
            assert_cr_error(CR_ERROR_INDEX, name);
            assert_null(cr_embedding(table, index, -1));
            assert_cr_error(CR_ERROR_INDEX, name);
            assert_null(cr_one_hot(index, 7));
            assert_cr_error(CR_ERROR_INDEX, name);
            assert_null(cr_gather(plane, 0, cr_expand(cr_unsqueeze(index, 1), CR_SHAPE(4, 2))));
            assert_cr_error(CR_ERROR_INDEX, "outside a dim of 7");
        }
}

/* ---------------------------------------------------------------- sorting */
static void equal_elements_keep_their_order(void **state) {
    (void)state;
    cr_manual_seed(4);
    const int64_t lengths[] = {1, 2, 17, 100, 383, 384, 5000};
    const cr_dtype dtypes[] = {CR_F32, CR_F64, CR_I64, CR_U8, CR_F16};
    for (int l = 0; l < 7; l++) {
        for (int k = 0; k < 10; k++)
            CR_SCOPE {
                const int64_t n = lengths[l];
                cr_tensor *x = cr_cast(cr_randint(0, 1 + n / 5, CR_SHAPE(n), CR_CPU), dtypes[k % 5]), *indices = NULL;
                cr_tensor *sorted = cr_cast(cr_sort(x, 0, k >= 5, &indices), CR_F64), *wide = cr_cast(x, CR_F64);
                const double *value = cr_data(sorted), *original = cr_data(wide);
                const int64_t *at = cr_data_i64(indices);
                for (int64_t i = 0; i < n; i++) {
                    assert_true(value[i] == original[at[i]]);
                    if (i == 0) continue;
                    assert_true(k >= 5 ? value[i - 1] >= value[i] : value[i - 1] <= value[i]);
                    assert_true(value[i - 1] != value[i] || at[i - 1] < at[i]); /* so it is also a permutation */
                }
            }
    }
}

static void nan_is_the_largest_and_zeros_are_equal(void **state) {
    (void)state;
    const float values[] = {0.0f, NAN, -INFINITY, -0.0f, INFINITY, -NAN, 1e-45f, -1e-45f};
    const int64_t rising[] = {2, 7, 0, 3, 6, 4, 1, 5}, falling[] = {1, 5, 4, 6, 0, 3, 7, 2};
    for (int narrow = 0; narrow < 2; narrow++) {
        cr_tensor *x = cr_cast(cr_from_data(CR_F32, CR_SHAPE(8), values), narrow ? CR_F64 : CR_F32), *best = NULL;
        assert_memory_equal(cr_data(cr_argsort(x, 0, false)), rising, sizeof rising);
        assert_memory_equal(cr_data(cr_argsort(x, 0, true)), falling, sizeof falling);
        cr_tensor *top = cr_topk(x, 3, 0, true, &best);
        assert_memory_equal(cr_data(best), falling, 3 * sizeof falling[0]);
        assert_true(isnan(cr_at(top, CR_SHAPE(0))) && cr_at(top, CR_SHAPE(2)) == INFINITY);
        assert_true(signbit(cr_at(cr_sort(x, 0, false, NULL), CR_SHAPE(3)))); /* -0 comes back as -0 */
    }
}

static void topk_is_the_head_of_sort(void **state) {
    (void)state;
    cr_manual_seed(5);
    const int64_t ks[] = {0, 1, 5, 32, 33, 500, 999, 1000};
    for (int k = 0; k < 8; k++) {
        for (int kind = 0; kind < 6; kind++)
            CR_SCOPE {
                const bool largest = kind % 2;
                cr_tensor *x = kind < 2 ? cr_randn(CR_F32, CR_SHAPE(3, 1000), CR_CPU)
                                        : cr_cast(cr_randint(-3, kind < 4 ? 4 : 400, CR_SHAPE(3, 1000), CR_CPU),
                                                  kind < 4 ? CR_F64 : CR_I16);
                if (kind == 0) x = cr_sort(x, 1, true, NULL); /* each element better than all before it */
                cr_tensor *places = NULL, *all = NULL, *best = cr_topk(x, ks[k], 1, largest, &places),
                          *sorted = cr_sort(x, 1, largest, &all);
                assert_true(equal(best, cr_narrow(sorted, 1, 0, ks[k])));
                assert_true(equal(places, cr_narrow(all, 1, 0, ks[k])));
            }
    }
}

/* ---------------------------------------------------------------- masks */
static void masks_select_in_order(void **state) {
    (void)state;
    cr_manual_seed(6);
    cr_tensor *x = cr_randn(CR_F64, CR_SHAPE(40, 50), CR_CPU), *mask = cr_gt_scalar(x, 0.3),
              *chosen = cr_masked_select(x, mask);
    cr_tensor *where = cr_nonzero(mask);
    int64_t k = 0;
    for (int64_t i = 0; i < 2000; i++) {
        const double value = cr_at(x, CR_SHAPE(i / 50, i % 50));
        if (!(value > 0.3)) continue;
        assert_true(cr_at(chosen, CR_SHAPE(k)) == value);
        assert_true(cr_data_i64(where)[2 * k] == i / 50 && cr_data_i64(where)[2 * k + 1] == i % 50);
        k++;
    }
    assert_true(cr_numel(chosen) == k && cr_size(where, 0) == k);
    cr_tensor *row = cr_masked_select(x, cr_gt_scalar(cr_arange(CR_I64, 0, 50, 1, CR_CPU), 47)); /* broadcast */
    assert_true(cr_numel(row) == 80);
    assert_true(cr_size(cr_one_hot(cr_from_data(CR_I64, CR_SHAPE(2), (int64_t[]){4, 1}), -1), 1) == 5);
    assert_null(cr_masked_select(x, x));
    assert_cr_error(CR_ERROR_DTYPE, "bool");
}

static void failing_memory_is_an_error(void **state) {
    (void)state;
    for (int n = 1; n < 300; n++) {
        bool done = false;
        cr_memory_fail_nth(n);
        CR_SCOPE {
            cr_tensor *x = cr_rand(CR_F16, CR_SHAPE(20, 30), CR_CPU),
                      *index = cr_randint(0, 20, CR_SHAPE(20, 30), CR_CPU, .dtype = CR_I32), *places = NULL;
            cr_tensor *row = cr_select(index, 0, 0);
            done = cr_gather(x, 0, index) && cr_scatter_add(x, 0, index, x) && cr_sort(x, 0, true, &places) &&
                   cr_topk(x, 3, 1, true, &places) && cr_index_add(x, 0, cr_slice(row, 0, 0, 20, 1), x) &&
                   cr_masked_select(x, cr_gt_scalar(x, 0.5)) && cr_one_hot(row, 20) && cr_embedding(x, row, -1);
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
        TEST(gather_reads_where_indices_say),  TEST(rows_are_added_in_order),
        TEST(threads_do_not_change_a_bit),     TEST(wrong_indices_are_named_and_never_used),
        TEST(equal_elements_keep_their_order), TEST(nan_is_the_largest_and_zeros_are_equal),
        TEST(topk_is_the_head_of_sort),        TEST(masks_select_in_order),
        TEST(failing_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
