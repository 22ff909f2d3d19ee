/* Modules: names, state on disk, modes, moving, printing, and the layers' shapes. */
#include "tests/unit/testing.h"
#include "tests/unit/memory_checks.h"
#include "tests/unit/temporary_folder.h"

#include <math.h>
#include <stdlib.h>

static cr_nn_module *small_net(void) {
    return cr_nn_sequential(cr_nn_conv2d(1, 4, 3, .padding = 1), cr_nn_batch_norm2d(4), cr_nn_relu(),
                            cr_nn_max_pool2d(2), cr_nn_flatten(), cr_nn_linear(4 * 4 * 4, 10));
}

static void parameters_have_pytorchs_names(void **state) {
    (void)state;
    cr_nn_module *net = small_net();
    assert_cr_ok();
    const char *const names[] = {"0.weight", "0.bias", "1.weight", "1.bias", "5.weight", "5.bias"};
    const cr_nn_tensors parameters = cr_nn_parameters(net);
    assert_int_equal(parameters.count, 6);
    for (int i = 0; i < 6; i++)
        assert_string_equal(parameters.names[i], names[i]);
    const cr_nn_tensors all = cr_nn_state(net);
    assert_int_equal(all.count, 9);
    assert_string_equal(all.names[6], "1.num_batches_tracked");
    assert_int_equal(cr_nn_parameter_count(net), 4 * 9 + 4 + 8 + 64 * 10 + 10);
    assert_ptr_equal(cr_nn_tensor(net, "5.weight"), parameters.at[4]);
    assert_string_equal(cr_nn_type(cr_nn_find(net, "3")), "max_pool2d");
    cr_nn_free(net);
}

static void forward_gives_the_expected_shape(void **state) {
    (void)state;
    cr_nn_module *net = small_net();
    cr_tensor *y = cr_nn_forward(net, cr_randn(CR_F32, CR_SHAPE(2, 1, 8, 8), CR_CPU));
    assert_cr_ok();
    assert_true(cr_shape_equal(cr_shape_of(y), CR_SHAPE(2, 10)));
    assert_true(cr_backward(cr_sum(cr_square(y))));
    const cr_nn_tensors parameters = cr_nn_parameters(net);
    for (int i = 0; i < parameters.count; i++)
        assert_non_null(cr_grad_of(parameters.at[i]));
    cr_nn_free(net);
}

static void state_survives_the_disk(void **state) {
    (void)state;
    char path[512];
    snprintf(path, sizeof path, "%s/net.safetensors", temporary_folder);
    cr_manual_seed(1);
    cr_nn_module *net = small_net(), *other = small_net();
    cr_tensor *x = cr_randn(CR_F32, CR_SHAPE(2, 1, 8, 8), CR_CPU);
    assert_true(cr_nn_save(net, path));
    assert_true(cr_nn_load(other, path, true));
    cr_nn_eval(net);
    cr_nn_eval(other);
    cr_tensor *difference = cr_amax(cr_abs(cr_sub(cr_nn_forward(net, x), cr_nn_forward(other, x))));
    assert_true(cr_item(difference) == 0);
    cr_nn_module *wrong = cr_nn_sequential(cr_nn_linear(3, 4));
    assert_false(cr_nn_load(wrong, path, true));
    assert_cr_error(CR_ERROR_FORMAT, "unexpected");
    cr_nn_free(wrong);
    cr_nn_free(net);
    cr_nn_free(other);
}

static void a_part_that_failed_makes_the_whole_fail(void **state) {
    (void)state;
    cr_nn_module *net = cr_nn_sequential(cr_nn_linear(3, 4), cr_nn_linear(-1, 4), cr_nn_relu());
    assert_null(net);
    assert_null(cr_nn_forward(net, cr_zeros(CR_F32, CR_SHAPE(3), CR_CPU)));
    assert_cr_error(CR_ERROR_ARGUMENT, "above 0");
}

static void errors_tell_the_way_through_the_modules(void **state) {
    (void)state;
    cr_nn_module *net = small_net();
    assert_null(cr_nn_forward(net, cr_zeros(CR_F32, CR_SHAPE(2, 3, 8, 8), CR_CPU)));
    assert_non_null(strstr(cr_last_error()->chain, "nn.conv2d 0 < nn.sequential"));
    cr_clear_error();
    cr_nn_free(net);
}

static void moving_keeps_the_tensors(void **state) {
    (void)state;
    assert_true(cr_cpu_set_device_count(2));
    cr_nn_module *net = cr_nn_linear(3, 2);
    cr_tensor *weight = cr_nn_tensor(net, "weight");
    assert_true(cr_nn_to_dtype(net, CR_F64));
    assert_ptr_equal(cr_nn_tensor(net, "weight"), weight);
    assert_int_equal(cr_dtype_of(weight), CR_F64);
    const cr_device second = {CR_DEVICE_CPU, 1};
    assert_true(cr_nn_to(net, second));
    assert_true(cr_device_equal(cr_device_of(weight), second));
    cr_nn_free(net);
    assert_true(cr_cpu_set_device_count(1));
}

static void a_list_and_an_own_module(void **state) {
    (void)state;
    cr_nn_module *list = cr_nn_module_list();
    cr_nn_append(list, cr_nn_linear(2, 3));
    cr_nn_append(list, cr_nn_dropout(0.5));
    assert_int_equal(cr_nn_child_count(list), 2);
    assert_string_equal(cr_nn_child_name(list, 1), "1");
    assert_null(cr_nn_forward(list, cr_zeros(CR_F32, CR_SHAPE(2), CR_CPU)));
    assert_cr_error(CR_ERROR_STATE, "no forward");
    assert_null(cr_nn_register(list, "a.b", cr_nn_relu()));
    assert_cr_error(CR_ERROR_ARGUMENT, "dot");
    cr_nn_free(list);
}

static void an_lstm_runs_both_ways(void **state) {
    (void)state;
    cr_nn_module *lstm = cr_nn_lstm(3, 4, .num_layers = 2, .bidirectional = true);
    cr_tensor *h, *c, *y = cr_nn_lstm_forward(lstm, cr_randn(CR_F32, CR_SHAPE(5, 2, 3), CR_CPU), NULL, NULL, &h, &c);
    assert_cr_ok();
    assert_true(cr_shape_equal(cr_shape_of(y), CR_SHAPE(5, 2, 8)));
    assert_true(cr_shape_equal(cr_shape_of(h), CR_SHAPE(4, 2, 4)));
    assert_non_null(cr_nn_tensor(lstm, "weight_ih_l1_reverse"));
    cr_nn_free(lstm);
}

static void summaries_count_every_parameter(void **state) {
    (void)state;
    cr_nn_module *net = small_net();
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_true(cr_nn_summary(out, net, CR_SHAPE(1, 1, 8, 8)));
    assert_true(cr_nn_print(out, net));
    fclose(out);
    assert_non_null(strstr(text, "[1,4,8,8]"));
    assert_non_null(strstr(text, "698"));
    assert_non_null(strstr(text, "(5): linear(in=64, out=10, bias=true)"));
    free(text);
    assert_true(cr_nn_is_training(net));
    cr_nn_free(net);
}

static void clipping_limits_the_norm(void **state) {
    (void)state;
    cr_nn_module *net = cr_nn_linear(3, 2);
    assert_true(cr_backward(cr_mul_scalar(cr_sum(cr_nn_forward(net, cr_ones(CR_F32, CR_SHAPE(4, 3), CR_CPU))), 10)));
    const double before = cr_nn_clip_grad_norm_(cr_nn_parameters(net), 1);
    assert_true(fabs(before - 40 * sqrt(8)) < 1e-3); /* 6 weights and 2 biases of 40 each */
    assert_true(fabs(cr_nn_clip_grad_norm_(cr_nn_parameters(net), 1e9) - 1) < 1e-4);
    assert_true(cr_nn_clip_grad_value_(cr_nn_parameters(net), 0.1));
    assert_true(cr_item(cr_amax(cr_grad_of(cr_nn_tensor(net, "weight")))) <= 0.1 + 1e-7);
    cr_nn_free(net);
}

/* Eight blocks of two results of 4 MB: three results live at once without gradients, nine with them. */
static void forward_keeps_only_what_gradients_need(void **state) {
    (void)state;
    enum { LAYERS = 8 };
    const int64_t bytes = 1 << 22;
    cr_nn_module *net = cr_nn_sequential(cr_nn_identity());
    for (int i = 0; i < LAYERS; i++)
        cr_nn_append(net, cr_nn_sequential(cr_nn_batch_norm2d(4), cr_nn_relu()));
    for (int with_gradients = 0; with_gradients < 2; with_gradients++) {
        cr_grad_mode mode = cr_grad_mode_enter(with_gradients, false);
        CR_SCOPE {
            cr_tensor *x = cr_ones(CR_F32, CR_SHAPE(4, 4, 256, 256), CR_CPU);
            cr_memory_reset_peak();
            const int64_t before = cr_memory_stats().live_bytes;
            assert_non_null(cr_nn_forward(net, x));
            const int64_t most = (cr_memory_stats().peak_bytes - before) / bytes;
            assert_in_range(most, with_gradients ? LAYERS : 2, with_gradients ? LAYERS + 1 : 3);
        }
        cr_grad_mode_leave(&mode);
    }
    cr_nn_free(net);
}

int main(void) {
#define TEST(name) cmocka_unit_test_teardown(name, nothing_is_left)
    const struct CMUnitTest tests[] = {
        TEST(parameters_have_pytorchs_names),
        TEST(forward_gives_the_expected_shape),
        TEST(state_survives_the_disk),
        TEST(a_part_that_failed_makes_the_whole_fail),
        TEST(errors_tell_the_way_through_the_modules),
        TEST(moving_keeps_the_tensors),
        TEST(a_list_and_an_own_module),
        TEST(an_lstm_runs_both_ways),
        TEST(summaries_count_every_parameter),
        TEST(clipping_limits_the_norm),
        TEST(forward_keeps_only_what_gradients_need),
    };
    return cmocka_run_group_tests(tests, make_temporary_folder, remove_temporary_folder);
}
