/* Matrix products by all the ways that sizes choose (few rows, panels packed or read where they lie, several blocks deep,
 * edges): against sums in f64, and the same bits from any number of threads. */
#include "tests/unit/testing.h"
#include "tests/unit/memory_checks.h"

#include <math.h>

#include "ops/op.h"

static const int64_t sizes[][3] = {/* rows, in, out */
                                   {1, 70, 33},   {2, 1030, 520},  {3, 64, 3000},  {5, 40, 16},    {8, 768, 530},
                                   {13, 17, 19},  {31, 520, 70},   {49, 300, 530}, {128, 96, 640}, {150, 1097, 80},
                                   {300, 24, 40}, {301, 530, 515}, {2, 2100, 301}};
enum { CASES = sizeof sizes / sizeof sizes[0] };

/* Largest difference of y from x wᵀ + b, in units of the sum of the products' sizes. */
static double error_of(cr_tensor *y, cr_tensor *x, cr_tensor *w, cr_tensor *b) {
    const float *from = cr_data(x), *weight = cr_data(w), *bias = b ? cr_data(b) : NULL, *given = cr_data(y);
    const int64_t rows = cr_size(x, 0), in = cr_size(x, 1), out = cr_size(w, 0);
    double worst = 0;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < out; o++) {
            double sum = bias ? bias[o] : 0, size = fabs(sum);
            for (int64_t k = 0; k < in; k++) {
                sum += (double)from[r * in + k] * weight[o * in + k];
                size += fabs((double)from[r * in + k] * weight[o * in + k]);
            }
            const double error = fabs(given[r * out + o] - sum) / size;
            if (!(error <= worst)) worst = error;
        }
    return worst;
}

static void assert_same_bits(cr_tensor *a, cr_tensor *b) {
    assert_cr_ok();
    assert_memory_equal(cr_data(a), cr_data(b), (size_t)cr_numel(a) * sizeof(float));
}

static void every_size_sums_as_f64_does_on_any_number_of_threads(void **state) {
    (void)state;
    for (int i = 0; i < CASES; i++)
        CR_SCOPE {
            cr_tensor *x = cr_randn(CR_F32, CR_SHAPE(sizes[i][0], sizes[i][1]), CR_CPU),
                      *w = cr_randn(CR_F32, CR_SHAPE(sizes[i][2], sizes[i][1]), CR_CPU),
                      *b = cr_randn(CR_F32, CR_SHAPE(sizes[i][2]), CR_CPU);
            cr_tensor *columns = cr_contiguous(cr_t(w)), *across = cr_t(cr_contiguous(cr_t(x))), *first[3] = {NULL};
            for (int threads = 1; threads <= 3; threads++) {
                cr_set_num_threads(threads);
                cr_tensor *const made[3] = {cr_linear(x, w, b), cr_matmul(x, columns), cr_matmul(across, columns)};
                for (int way = 0; way < 3; way++) {
                    assert_cr_ok();
                    if (threads == 1)
                        assert_true(error_of(first[way] = made[way], x, w, way ? NULL : b) < 1e-6);
                    else
                        assert_same_bits(made[way], first[way]);
                }
            }
        }
}

/* Weights of bf16 and i8 by the same sizes; what they stand for is summed in f64. Rows of a wide range, of zeros, and what is
 * not finite. */
static void narrow_weights_sum_as_f64_does_on_any_number_of_threads(void **state) {
    (void)state;
    const cr_op *op = cr_op_find("narrow_linear");
    for (int i = 0; i < 2 * CASES; i++)
        CR_SCOPE {
            const int64_t *size = sizes[i / 2];
            const cr_dtype dtype = i % 2 ? CR_I8 : CR_BF16;
            cr_tensor *x = cr_mul(cr_randn(CR_F32, CR_SHAPE(size[0], size[1]), CR_CPU),
                                  cr_exp(cr_randn(CR_F32, CR_SHAPE(size[0], 1), CR_CPU))),
                      *w = cr_cast(cr_mul_scalar(cr_randn(CR_F32, CR_SHAPE(size[2], size[1]), CR_CPU), 40), dtype),
                      *b = i % 3 ? cr_randn(CR_F32, CR_SHAPE(size[2]), CR_CPU) : NULL, *first = NULL;
            for (int threads = 1; threads <= 3; threads++) {
                cr_tensor *inputs[] = {x, w, b};
                cr_set_num_threads(threads);
                cr_tensor *y = cr_run((cr_op *)(uintptr_t)op, inputs, 3, NULL);
                assert_cr_ok();
                if (threads == 1)
                    assert_true(error_of(first = y, x, cr_cast(w, CR_F32), b) < 1e-6);
                else
                    assert_same_bits(y, first);
            }
        }
}

static void narrow_weights_take_zeros_tiny_huge_and_not_finite_rows(void **state) {
    (void)state;
    CR_SCOPE {
        const float factors[] = {0, 1e-44F, 1e-30F, 1 - 0x1p-24F, 1e30F, INFINITY, NAN};
        for (int i = 0; i < 14; i++) {
            cr_tensor *w =
                cr_cast(cr_mul_scalar(cr_randn(CR_F32, CR_SHAPE(5, 130), CR_CPU), 4), i < 7 ? CR_I8 : CR_BF16);
            cr_tensor *inputs[] = {cr_full(CR_F32, CR_SHAPE(1, 130), 1, CR_CPU), w, NULL};
            for (int k = 0; k < 130; k++)
                if (factors[i % 7] < 1 || k == 77) ((float *)cr_data(inputs[0]))[k] = factors[i % 7];
            cr_tensor *y = cr_run((cr_op *)(uintptr_t)cr_op_find("narrow_linear"), inputs, 3, NULL),
                      *wide = cr_linear(inputs[0], cr_cast(w, CR_F32), NULL);
            assert_cr_ok();
            for (int k = 0; k < 5; k++) {
                const float given = ((float *)cr_data(y))[k], expected = ((float *)cr_data(wide))[k];
                if (isfinite(expected))
                    assert_true(fabsf(given - expected) <= 1e-5F * fabsf(expected) + 1e-43F);
                else
                    assert_true(isnan(expected) ? isnan(given) : given == expected);
            }
        }
    }
}

static cr_tensor *gelu_of_linear(cr_nn_module *self, cr_tensor *x) {
    return cr_gelu(cr_nn_forward(cr_nn_child(self, 0), x));
}

static void packed_weights_and_epilogues_give_what_the_plain_ops_give(void **state) {
    (void)state;
    for (int i = 0; i < CASES; i++)
        CR_SCOPE {
            cr_nn_module *net = cr_nn_module_new("layer", 0, gelu_of_linear);
            cr_nn_register(net, "linear", cr_nn_linear(sizes[i][1], sizes[i][2]));
            cr_tensor *x = cr_randn(CR_F32, CR_SHAPE(sizes[i][0], sizes[i][1]), CR_CPU);
            cr_graph *graph = cr_jit_trace(cr_nn_eval(net), x, .freeze = true);
            for (int threads = 1; threads <= 3; threads++) {
                cr_set_num_threads(threads);
                assert_same_bits(cr_jit_forward(graph, x), cr_nn_forward(net, x));
            }
            cr_jit_free(graph);
            cr_nn_free(net);
        }
}

/* Pairs of k that lie beside each other or in two rows, an odd number of steps, batches: within half of a last bit of bf16. */
static void bf16_rounds_once_on_any_number_of_threads(void **state) {
    static const int64_t shapes[][3] = {{40, 64, 48}, {150, 1098, 80}, {61, 96, 530}, {40, 77, 33}, {3, 640, 64}};
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        CR_SCOPE {
            const int64_t rows = shapes[i][0], in = shapes[i][1], out = shapes[i][2];
            cr_tensor *x = cr_cast(cr_randn(CR_F32, CR_SHAPE(2, rows, in), CR_CPU), CR_BF16),
                      *w = cr_cast(cr_randn(CR_F32, CR_SHAPE(out, in), CR_CPU), CR_BF16);
            cr_tensor *columns = cr_contiguous(cr_t(w)), *one = cr_narrow(x, 0, 1, 1), *first[4] = {NULL};
            cr_tensor *row_major = cr_reshape(one, CR_SHAPE(rows, in)), *across = cr_t(cr_contiguous(cr_t(row_major)));
            cr_tensor *single = cr_cast(row_major, CR_F32), *weight = cr_cast(w, CR_F32);
            for (int threads = 1; threads <= 3; threads++) {
                cr_set_num_threads(threads);
                cr_tensor *const made[4] = {cr_linear(row_major, w, NULL), cr_matmul(row_major, columns),
                                            cr_matmul(across, columns), cr_narrow(cr_matmul(x, columns), 0, 1, 1)};
                for (int way = 0; way < 4; way++) {
                    cr_tensor *y = cr_contiguous(cr_cast(cr_reshape(made[way], CR_SHAPE(rows, out)), CR_F32));
                    assert_cr_ok();
                    if (threads == 1)
                        assert_true(error_of(first[way] = y, single, weight, NULL) < 1.0 / 256);
                    else
                        assert_same_bits(y, first[way]);
                }
            }
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_size_sums_as_f64_does_on_any_number_of_threads, nothing_is_left),
        cmocka_unit_test_teardown(bf16_rounds_once_on_any_number_of_threads, nothing_is_left),
        cmocka_unit_test_teardown(narrow_weights_sum_as_f64_does_on_any_number_of_threads, nothing_is_left),
        cmocka_unit_test_teardown(narrow_weights_take_zeros_tiny_huge_and_not_finite_rows, nothing_is_left),
        cmocka_unit_test_teardown(packed_weights_and_epilogues_give_what_the_plain_ops_give, nothing_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
