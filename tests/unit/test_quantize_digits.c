/* A model that was taught, quantised: it answers as before on pictures that it never saw. Digits are drawn from the machine's
 * fonts, those that are compared from other fonts.
 * Needs: images */
#include "tests/unit/testing.h"

#include <stdio.h>

enum { TAUGHT = 4000, CALIBRATED = 4, COMPARED = 16, BATCH = 64 };

static cr_nn_module *new_model(void) {
    return cr_nn_sequential(cr_nn_conv2d(1, 24, 3, .padding = 1, .bias = false), cr_nn_batch_norm2d(24), cr_nn_relu(),
                            cr_nn_max_pool2d(2), cr_nn_conv2d(24, 48, 3, .padding = 1, .bias = false),
                            cr_nn_batch_norm2d(48), cr_nn_relu(), cr_nn_max_pool2d(2), cr_nn_conv2d(48, 64, 3),
                            cr_nn_relu6(), cr_nn_flatten(), cr_nn_linear(64 * 5 * 5, 10));
}

static void teach(cr_nn_module *net) {
    cr_data_loader *loader =
        cr_data_loader_new(cr_vision_glyphs(.count = TAUGHT), .batch_size = BATCH, .shuffle = true);
    cr_optim *optim = cr_optim_adam(cr_nn_parameters(net), .lr = 2e-3);
    for (int epoch = 0; epoch < 2; epoch++)
        CR_FOR_BATCHES (batch, loader) {
            cr_tensor *loss = cr_cross_entropy(cr_nn_forward(net, batch.input), batch.target);
            cr_optim_zero_grad(optim);
            cr_backward(loss);
            cr_optim_step(optim);
        }
    cr_optim_free(optim);
    cr_data_loader_free(loader);
}

static int draw(cr_tensor **batches, cr_tensor **targets, int most, bool train) {
    cr_data_loader *loader =
        cr_data_loader_new(cr_vision_glyphs(.count = most * BATCH, .train = train), .batch_size = BATCH);
    int count = 0;
    CR_FOR_BATCHES (batch, loader) {
        batches[count] = cr_keep(batch.input);
        targets[count++] = cr_keep(batch.target);
    }
    cr_data_loader_free(loader);
    return count;
}

static double share_right(cr_graph *graph, cr_tensor **batches, cr_tensor **targets, int count) {
    double right = 0;
    for (int i = 0; i < count; i++)
        CR_SCOPE {
            cr_tensor *answer = cr_argmax(cr_jit_forward(graph, batches[i]), -1, false);
            right += cr_item(cr_sum(cr_cast(cr_eq(answer, targets[i]), CR_I64)));
        }
    return right / (double)(count * BATCH);
}

static void a_taught_model_answers_as_before(void **unused) {
    (void)unused;
    static const char *const methods[] = {"mse", "percentile", "minmax"};
    CR_SCOPE {
        cr_tensor *seen[CALIBRATED], *new[COMPARED], *unused_targets[CALIBRATED], *targets[COMPARED];
        cr_manual_seed(2);
        cr_nn_module *net = new_model();
        teach(net);
        cr_quantize_array calibration = {seen, draw(seen, unused_targets, CALIBRATED, true)},
                          compared = {new, draw(new, targets, COMPARED, false)};
        cr_graph *graph = cr_jit_trace(cr_nn_eval(net), new[0], .dynamic_batch = true, .freeze = true);
        assert_cr_ok();
        assert_int_equal(compared.count, COMPARED);
        const double right = share_right(graph, new, targets, COMPARED);
        for (int i = 0; i < 3; i++) {
            cr_graph *quantized = cr_jit_quantize(graph, cr_quantize_from_array, &calibration, .method = methods[i]);
            cr_quantize_report *report = cr_jit_quantize_compare(graph, quantized, cr_quantize_from_array, &compared);
            assert_cr_ok();
            const double right_too = share_right(quantized, new, targets, COMPARED);
            printf("%s: %.2f%% and %.2f%% right, %d of %d the same, output %.2f%% off\n", methods[i], 100 * right,
                   100 * right_too, (int)report->agreeing, (int)report->rows, 100 * report->output_error);
            assert_int_equal(report->rows, COMPARED * BATCH);
            assert_true(right > 0.9);
            assert_true((double)report->agreeing >= 0.99 * (double)report->rows);
            assert_true(right_too > right - 0.01);
            cr_quantize_report_free(report);
            cr_jit_free(quantized);
        }
        cr_jit_free(graph);
        cr_nn_free(net);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_taught_model_answers_as_before)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
