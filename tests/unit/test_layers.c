/* Layers without tests of their own elsewhere: each is the op of its name with the settings that it was given. */
#include "tests/unit/testing.h"
#include "tests/unit/memory_checks.h"

#include <math.h>

static void assert_equal(cr_tensor *given, cr_tensor *expected) {
    assert_cr_ok();
    assert_true(cr_shape_equal(cr_shape_of(given), cr_shape_of(expected)));
    given = cr_contiguous(given), expected = cr_contiguous(expected);
    assert_memory_equal(cr_data(given), cr_data(expected), (size_t)cr_numel(given) * cr_dtype_size(cr_dtype_of(given)));
}

/* Runs the layer once and frees it. */
static cr_tensor *through(cr_nn_module *layer, cr_tensor *x) {
    assert_non_null(layer);
    cr_tensor *y = cr_nn_forward(layer, x);
    assert_cr_ok();
    cr_nn_free(layer);
    return y;
}

static void activations_are_their_ops(void **state) {
    (void)state;
    cr_tensor *x = cr_mul_scalar(cr_randn(CR_F32, CR_SHAPE(4, 30), CR_CPU), 3);
#define SAME(layer, result) assert_equal(through(layer, x), result)
    SAME(cr_nn_relu(), cr_relu(x));
    SAME(cr_nn_relu6(), cr_clamp(x, 0, 6));
    SAME(cr_nn_leaky_relu(0.3), cr_leaky_relu(x, 0.3));
    SAME(cr_nn_elu(0.7), cr_elu(x, 0.7));
    SAME(cr_nn_celu(0.7), cr_celu(x, 0.7));
    SAME(cr_nn_selu(), cr_selu(x));
    SAME(cr_nn_gelu(), cr_gelu(x));
    SAME(cr_nn_gelu_tanh(), cr_gelu_tanh(x));
    SAME(cr_nn_silu(), cr_silu(x));
    SAME(cr_nn_mish(), cr_mish(x));
    SAME(cr_nn_sigmoid(), cr_sigmoid(x));
    SAME(cr_nn_log_sigmoid(), cr_log_sigmoid(x));
    SAME(cr_nn_tanh(), cr_tanh(x));
    SAME(cr_nn_softplus(2, 10), cr_softplus(x, 2, 10));
    SAME(cr_nn_softsign(), cr_softsign(x));
    SAME(cr_nn_hardtanh(-0.5, 2), cr_clamp(x, -0.5, 2));
    SAME(cr_nn_hardsigmoid(), cr_hardsigmoid(x));
    SAME(cr_nn_hardswish(), cr_hardswish(x));
    SAME(cr_nn_softmax(0), cr_softmax(x, 0));
    SAME(cr_nn_log_softmax(-1), cr_log_softmax(x, 1));
    SAME(cr_nn_identity(), x);
    SAME(cr_nn_function("exp", cr_exp), cr_exp(x));
    SAME(cr_nn_unflatten(1, CR_SHAPE(5, 6)), cr_reshape(x, CR_SHAPE(4, 5, 6)));
    SAME(cr_nn_flatten(), x);
}

static void convolutions_of_one_and_three_dims_are_their_ops(void **state) {
    (void)state;
    cr_tensor *line = cr_randn(CR_F32, CR_SHAPE(2, 4, 9), CR_CPU),
              *volume = cr_randn(CR_F32, CR_SHAPE(2, 4, 5, 6, 7), CR_CPU);
    cr_nn_module *layers[] = {cr_nn_conv1d(4, 6, 3, .stride = 2, .padding = 1, .groups = 2),
                              cr_nn_conv3d(4, 6, 2, .dilation = 2),
                              cr_nn_conv_transpose1d(4, 6, 3, .stride = 2, .output_padding = 1),
                              cr_nn_conv_transpose3d(4, 2, 2, .bias = false)};
    cr_tensor *w[4], *b[4];
    for (int i = 0; i < 4; i++)
        w[i] = cr_nn_tensor(layers[i], "weight"), b[i] = cr_nn_tensor(layers[i], "bias");
    assert_equal(cr_nn_forward(layers[0], line), cr_conv1d(line, w[0], b[0], .stride = 2, .padding = 1, .groups = 2));
    assert_equal(cr_nn_forward(layers[1], volume), cr_conv3d(volume, w[1], b[1], .dilation = 2));
    assert_equal(cr_nn_forward(layers[2], line),
                 cr_conv_transpose1d(line, w[2], b[2], .stride = 2, .output_padding = 1));
    assert_equal(cr_nn_forward(layers[3], volume), cr_conv_transpose3d(volume, w[3], NULL));
    assert_true(b[3] == NULL);
    for (int i = 0; i < 4; i++)
        cr_nn_free(layers[i]);
}

static void pools_take_what_lies_under_their_windows(void **state) {
    (void)state;
    cr_tensor *line = cr_randn(CR_F32, CR_SHAPE(2, 3, 8), CR_CPU),
              *picture = cr_randn(CR_F32, CR_SHAPE(2, 3, 6, 8), CR_CPU),
              *volume = cr_randn(CR_F32, CR_SHAPE(2, 3, 4, 6, 8), CR_CPU);
    const cr_dims last = CR_DIMS(3), both = CR_DIMS(3, 5), all = CR_DIMS(3, 5, 7);
    cr_tensor *pairs = cr_reshape(line, CR_SHAPE(2, 3, 4, 2)),
              *squares = cr_reshape(picture, CR_SHAPE(2, 3, 3, 2, 4, 2)),
              *cubes = cr_reshape(volume, CR_SHAPE(2, 3, 2, 2, 3, 2, 4, 2));
    assert_equal(through(cr_nn_max_pool1d(2), line), cr_amax(pairs, .dims = last));
    assert_equal(through(cr_nn_max_pool2d(2), picture), cr_amax(squares, .dims = both));
    assert_equal(through(cr_nn_max_pool3d(2), volume), cr_amax(cubes, .dims = all));
    assert_equal(through(cr_nn_adaptive_max_pool2d(3, 4), picture), cr_amax(squares, .dims = both));
    assert_equal(through(cr_nn_max_pool3d(2), volume), cr_max_pool3d(volume, 2));
    cr_tensor *const means[][2] = {
        {through(cr_nn_avg_pool1d(2), line), cr_mean(pairs, .dims = last)},
        {cr_avg_pool1d(line, 2), cr_mean(pairs, .dims = last)},
        {through(cr_nn_avg_pool2d(2), picture), cr_mean(squares, .dims = both)},
        {through(cr_nn_avg_pool3d(2), volume), cr_mean(cubes, .dims = all)},
        {cr_avg_pool3d(volume, 2), cr_mean(cubes, .dims = all)},
        {through(cr_nn_adaptive_avg_pool2d(3, 4), picture), cr_mean(squares, .dims = both)},
    };
    for (size_t i = 0; i < sizeof means / sizeof means[0]; i++)
        assert_true(cr_item(cr_amax(cr_abs(cr_sub(means[i][0], means[i][1])))) < 1e-6);
    assert_cr_ok();
}

static void norms_of_volumes_samples_and_rows(void **state) {
    (void)state;
    cr_tensor *x = cr_add_scalar(cr_mul_scalar(cr_randn(CR_F64, CR_SHAPE(4, 3, 2, 5, 6), CR_CPU), 3), 2);
    cr_nn_module *norm = cr_nn_batch_norm3d(3, .dtype = CR_F64, .momentum = 1);
    cr_tensor *y = cr_nn_forward(norm, x), *channels = cr_reshape(cr_movedim(y, 1, 0), CR_SHAPE(3, -1));
    assert_true(cr_item(cr_amax(cr_abs(cr_mean(channels, .dims = CR_DIMS(1))))) < 1e-12);
    cr_tensor *raw = cr_reshape(cr_movedim(x, 1, 0), CR_SHAPE(3, -1));
    assert_true(cr_item(cr_amax(cr_abs(cr_sub(cr_nn_tensor(norm, "running_var"), cr_var(raw, .dims = CR_DIMS(1)))))) <
                1e-12);
    cr_nn_free(norm);
    cr_tensor *rows = cr_reshape(cr_instance_norm(x, NULL, NULL, 0), CR_SHAPE(12, -1));
    assert_true(cr_item(cr_amax(cr_abs(cr_mean(rows, .dims = CR_DIMS(1))))) < 1e-12);
    assert_true(cr_item(cr_amax(cr_abs(cr_sub_scalar(cr_mean(cr_square(rows), .dims = CR_DIMS(1)), 1)))) < 1e-12);
    cr_tensor *weight = cr_randn(CR_F64, CR_SHAPE(6), CR_CPU), *root = cr_rms_norm(x, CR_SHAPE(6), weight, 0);
    cr_tensor *back = cr_mean(cr_square(cr_div(root, weight)), .dims = CR_DIMS(-1));
    assert_true(cr_item(cr_amax(cr_abs(cr_sub_scalar(back, 1)))) < 1e-12);
    assert_cr_ok();
}

static void dropout_of_channels_drops_them_whole(void **state) {
    (void)state;
    cr_tensor *x = cr_ones(CR_F32, CR_SHAPE(50, 40, 3, 3), CR_CPU), *y = through(cr_nn_dropout2d(0.25), x);
    cr_tensor *sums = cr_sum(y, .dims = CR_DIMS(2, 3)); /* 0, or 9 / 0.75 */
    cr_tensor *dropped = cr_eq_scalar(sums, 0), *kept = cr_le_scalar(cr_abs(cr_sub_scalar(sums, 12)), 1e-4);
    assert_true(cr_item(cr_all(cr_logical_or(dropped, kept))) == 1);
    assert_true(fabs(cr_item(cr_mean(cr_cast(dropped, CR_F64))) - 0.25) < 0.05);
    assert_ptr_equal(cr_dropout2d(x, 0.25, false), x);
}

static void embeddings_are_rows_and_padding_is_not_trained(void **state) {
    (void)state;
    cr_nn_module *table = cr_nn_embedding(5, 3, .padding_idx = 2);
    cr_tensor *index = cr_from_data(CR_I64, CR_SHAPE(2, 2), (int64_t[]){2, 0, 4, 2}),
              *w = cr_nn_tensor(table, "weight");
    cr_tensor *rows = cr_nn_forward(table, index);
    assert_equal(cr_select(cr_select(rows, 0, 1), 0, 0), cr_select(w, 0, 4));
    assert_true(cr_item(cr_amax(cr_abs(cr_select(w, 0, 2)))) == 0);
    assert_true(cr_backward(cr_sum(rows)));
    cr_tensor *gradient = cr_sum(cr_grad_of(w), .dims = CR_DIMS(1));
    assert_memory_equal(cr_data(gradient), ((float[]){3, 0, 0, 0, 3}), 5 * sizeof(float));
    cr_nn_free(table);
    assert_null(cr_nn_embedding(5, 3, .padding_idx = 5));
    assert_cr_error(CR_ERROR_INDEX, "padding_idx 5 of 5");
}

/* ---------------------------------------------------------------- initial values */
static void assert_spread(cr_tensor *t, double std, double most) {
    assert_cr_ok();
    cr_tensor *x = cr_cast(cr_detach(t), CR_F64);
    assert_true(fabs(cr_item(cr_mean(x))) < 0.03 * std);
    assert_true(fabs(cr_item(cr_std(x)) / std - 1) < 0.02);
    assert_true(cr_item(cr_amax(cr_abs(x))) <= most);
}

static void initial_values_have_their_distributions(void **state) {
    (void)state;
    cr_manual_seed(3);
    cr_tensor *w = cr_requires_grad_(cr_empty(CR_F32, CR_SHAPE(300, 40, 3, 3), CR_CPU), true); /* fans: 360, 2700 */
    assert_ptr_equal(cr_nn_init_constant_(w, 0.25), w);
    assert_true(cr_item(cr_amin(w)) == 0.25 && cr_item(cr_amax(w)) == 0.25);
    assert_spread(cr_nn_init_uniform_(w, -2, 2), 2 / sqrt(3), 2);
    assert_spread(cr_nn_init_normal_(w, 0, 0.5), 0.5, 4);
    assert_spread(cr_nn_init_trunc_normal_(w, 0, 0.5), 0.5 * 0.8796, 1); /* of a normal cut at 2 std */
    const double xavier = sqrt(6.0 / (360 + 2700)), kaiming = sqrt(2 / 1.04) / sqrt(360);
    assert_spread(cr_nn_init_xavier_uniform_(w, 2), 2 * xavier / sqrt(3), 2 * xavier);
    assert_spread(cr_nn_init_xavier_normal_(w, 1), xavier / sqrt(3), INFINITY);
    assert_spread(cr_nn_init_kaiming_uniform_(w, 0.2), kaiming, kaiming * sqrt(3));
    assert_spread(cr_nn_init_kaiming_normal_(w, 0.2), kaiming, INFINITY);
    assert_true(cr_is_leaf(w) && cr_requires_grad(w));
    assert_null(cr_nn_init_kaiming_normal_(cr_zeros(CR_F32, CR_SHAPE(3), CR_CPU), 0));
    assert_cr_error(CR_ERROR_SHAPE, "at least 2 dims");
}

/* ---------------------------------------------------------------- modules of one's own */
typedef struct scale {
    double by;
    int *freed;
} scale;
static cr_tensor *scale_forward(cr_nn_module *self, cr_tensor *x) {
    const scale *own = cr_nn_self(self);
    return cr_add(cr_mul(cr_mul_scalar(x, own->by), cr_nn_tensor(self, "gain")), cr_nn_tensor(self, "shift"));
}
static void scale_free(void *self) { ++*((scale *)self)->freed; }

static cr_nn_module *make_scale(double by, int *freed) {
    cr_nn_module *self = cr_nn_module_new("scale", sizeof(scale), scale_forward);
    *(scale *)cr_nn_self(self) = (scale){by, freed};
    cr_nn_register_parameter(self, "gain", cr_ones(CR_F32, CR_SHAPE(1), CR_CPU));
    cr_nn_register_buffer(self, "shift", cr_full(CR_F32, CR_SHAPE(1), 0.5, CR_CPU), true);
    cr_nn_on_free(self, scale_free);
    assert_true(cr_nn_set_description(self, "by=%g", by));
    return self;
}

static cr_tensor *count_and_negate(cr_nn_module *module, cr_tensor *input, cr_tensor *output, void *context) {
    (void)module, (void)input;
    ++*(int *)context;
    return cr_neg(output);
}

static bool count_modules(cr_nn_module *module, const char *path, void *context) {
    ++*(int *)context;
    return module && strcmp(path, "1") != 0; /* stops there */
}

static void own_modules_have_hooks_buffers_and_an_end(void **state) {
    (void)state;
    int freed = 0, seen = 0, visited = 0;
    cr_nn_module *net = cr_nn_sequential(make_scale(2, &freed), make_scale(3, &freed), cr_nn_relu());
    cr_tensor *x = cr_ones(CR_F32, CR_SHAPE(1), CR_CPU);
    assert_true(cr_item(cr_nn_forward(net, x)) == 8); /* (1 · 2 + ½) · 3 + ½ */
    assert_int_equal(cr_nn_buffers(net).count, 2);
    assert_string_equal(cr_nn_buffers(net).names[1], "1.shift");
    assert_string_equal(cr_nn_type(cr_nn_child(net, 1)), "scale");
    const int handle = cr_nn_register_forward_hook(cr_nn_child(net, 1), count_and_negate, &seen);
    assert_true(handle > 0 && cr_item(cr_nn_forward(net, x)) == 0 && seen == 1);
    assert_true(cr_nn_remove_hook(cr_nn_child(net, 1), handle));
    assert_true(cr_item(cr_nn_forward(net, x)) == 8 && seen == 1);
    assert_false(cr_nn_apply(net, count_modules, &visited)); /* the net, 0, 1 */
    assert_int_equal(visited, 3);
    assert_true(cr_nn_requires_grad_(net, false));
    assert_false(cr_requires_grad(cr_nn_forward(net, x)));
    cr_nn_free(net);
    assert_int_equal(freed, 2);
}

int main(void) {
#define TEST(name) cmocka_unit_test_teardown(name, nothing_is_left)
    const struct CMUnitTest tests[] = {
        TEST(activations_are_their_ops),
        TEST(convolutions_of_one_and_three_dims_are_their_ops),
        TEST(pools_take_what_lies_under_their_windows),
        TEST(norms_of_volumes_samples_and_rows),
        TEST(dropout_of_channels_drops_them_whole),
        TEST(embeddings_are_rows_and_padding_is_not_trained),
        TEST(initial_values_have_their_distributions),
        TEST(own_modules_have_hooks_buffers_and_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
