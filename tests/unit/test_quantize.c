/* Post-training quantisation: which nodes become integers, that calibration finds the range with the least error, files,
 * ONNX, and what bad data give. */
#include "tests/unit/testing.h"
#include "tests/unit/memory_checks.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "jit/quantize.h"

/* A block as in ResNet, with a maximum, a mean and a linear layer behind it. */
typedef struct block_state {
    cr_nn_module *stem, *a, *b, *fc;
} block_state;

static bool block_forward(void *context, cr_tensor *const *inputs, int input_count, cr_tensor **outputs,
                          int output_count) {
    const block_state *s = context;
    (void)input_count, (void)output_count;
    cr_tensor *x = cr_max_pool2d(cr_relu(cr_nn_forward(s->stem, inputs[0])), 2);
    cr_tensor *y = cr_relu(cr_nn_forward(s->a, x));
    y = cr_relu(cr_add(cr_nn_forward(s->b, y), x));
    y = cr_flatten(cr_adaptive_avg_pool2d(y, 1, 1), 1, -1);
    outputs[0] = cr_nn_forward(s->fc, y);
    return outputs[0] != NULL;
}

static cr_graph *new_block(block_state *s, cr_tensor *x) {
    cr_manual_seed(3);
    *s = (block_state){cr_nn_conv2d(3, 16, 3, .padding = 1), cr_nn_conv2d(16, 16, 3, .padding = 1),
                       cr_nn_conv2d(16, 16, 1), cr_nn_linear(16, 10)};
    cr_nn_module *modules[] = {s->stem, s->a, s->b, s->fc};
    cr_tensor *y = NULL;
    return cr_jit_trace_function(block_forward, s, &x, 1, &y, 1, modules, 4, .dynamic = "0.0=batch", .freeze = true);
}

static void free_block(block_state *s) {
    cr_nn_free(s->stem);
    cr_nn_free(s->a);
    cr_nn_free(s->b);
    cr_nn_free(s->fc);
}

static cr_tensor *pictures(int64_t count) { return cr_randn(CR_F32, CR_SHAPE(count, 3, 20, 20), CR_CPU); }

static double relative(cr_tensor *a, cr_tensor *b) { return cr_item(cr_norm(cr_sub(a, b))) / cr_item(cr_norm(a)); }

static int count_ops(const cr_graph *graph, const char *name) {
    int count = 0;
    for (const cr_graph_node *node = graph->body.first; node; node = node->next)
        count += !strcmp(node->op->name, name);
    return count;
}

static void layers_become_integers_and_results_stay_near(void **unused) {
    (void)unused;
    block_state s;
    const size_t before = cr_memory_stats().live_bytes;
    CR_SCOPE {
        cr_tensor *batches[] = {pictures(4), pictures(4), pictures(3)};
        cr_quantize_array data = {batches, 3};
        cr_graph *graph = new_block(&s, batches[0]);
        cr_graph *quantized = cr_jit_quantize(graph, cr_quantize_from_array, &data);
        assert_cr_ok();
        /* the input, the stem's result, the maximum, a's result, the sum, the mean, its flat form */
        assert_int_equal(count_ops(quantized, "quantize"), 7);
        assert_int_equal(count_ops(quantized, "dequantize"), 7 + 4 + 4);
        cr_tensor *want = cr_jit_forward(graph, batches[0]), *got = cr_jit_forward(quantized, batches[0]);
        assert_cr_ok();
        assert_true(relative(want, got) > 0);
        assert_true(relative(want, got) < 0.02);
        assert_true(relative(cr_jit_forward(graph, batches[2]), cr_jit_forward(quantized, batches[2])) < 0.02);

        cr_quantize_report *report = cr_jit_quantize_compare(graph, quantized, cr_quantize_from_array, &data);
        assert_cr_ok();
        assert_int_equal(report->layer_count, 4);
        assert_int_equal(report->rows, 11);
        assert_true(report->agreeing >= 10);
        for (int i = 0; i < 4; i++) {
            assert_true(report->layers[i].is_quantized);
            assert_true(report->layers[i].weight_error > 1e-4 && report->layers[i].weight_error < 0.01);
            assert_true(report->layers[i].result_error > 1e-4 && report->layers[i].result_error < 0.02);
        }
        cr_quantize_report_free(report);
        cr_jit_free(quantized);
        cr_jit_free(graph);
        free_block(&s);
    }
    assert_int_equal(cr_memory_stats().live_bytes, before);
}

static void kept_layers_stay(void **unused) {
    (void)unused;
    CR_SCOPE {
        cr_nn_module *net = cr_nn_sequential(cr_nn_conv2d(3, 8, 3), cr_nn_relu(), cr_nn_conv2d(8, 8, 3));
        cr_tensor *x = pictures(2);
        cr_quantize_array data = {&x, 1};
        cr_graph *graph = cr_jit_trace(net, x, .freeze = true);
        cr_graph *quantized = cr_jit_quantize(graph, cr_quantize_from_array, &data, .keep = "nothing,0");
        assert_cr_ok();
        assert_int_equal(count_ops(quantized, "quantize"), 1);
        cr_quantize_report *report = cr_jit_quantize_compare(graph, quantized, cr_quantize_from_array, &data);
        assert_cr_ok();
        assert_string_equal(report->layers[0].name, "0");
        assert_false(report->layers[0].is_quantized);
        assert_true(report->layers[1].is_quantized);
        cr_quantize_report_free(report);
        cr_jit_free(quantized);
        assert_null(cr_jit_quantize(graph, cr_quantize_from_array, &data, .keep = "0,2"));
        assert_cr_error(CR_ERROR_ARGUMENT, "no layer to quantise");
        cr_jit_free(graph);
        cr_nn_free(net);
    }
}

/* The range that is chosen against all ranges of a fine grid, error counted number by number: x many times, and once a
 * number that is far out. */
enum { NUMBERS = 5000, TIMES = 200, FAR = 6 };
static double error_of_one(double x, float scale, int zero) {
    const double q = fmin(255, fmax(0, nearbyint(x / (double)scale) + zero));
    return pow(x - (q - zero) * (double)scale, 2);
}
static double error_of(const float *x, float scale, int zero) {
    double error = 0;
    for (int64_t i = 0; i < NUMBERS; i++)
        error += error_of_one((double)x[i], scale, zero);
    return TIMES * error + error_of_one(FAR, scale, zero);
}

static void calibration_finds_the_range_of_least_error(void **unused) {
    (void)unused;
    static cr_observer o;
    float scale, widest;
    int zero, zero_of_all;
    CR_SCOPE {
        cr_tensor *x = cr_sub_scalar(cr_mul_scalar(cr_rand(CR_F32, CR_SHAPE(NUMBERS), CR_CPU), 2), 1);
        memset(&o, 0, sizeof o);
        for (int i = 0; i < TIMES; i++)
            assert_true(cr_observe(&o, x));
        assert_true(cr_observe(&o, cr_full(CR_F32, CR_SHAPE(1), FAR, CR_CPU)));
        int64_t counted = 0;
        for (int i = 0; i < CR_OBSERVER_BINS; i++)
            counted += o.counts[i];
        assert_int_equal(counted, NUMBERS * TIMES + 1);
        cr_observer_choose(&o, "minmax", 0, &widest, &zero_of_all);
        assert_true(fabs((double)widest * 255 - (o.most - o.least)) < 1e-3);
        cr_observer_choose(&o, "mse", 0, &scale, &zero);
        double best = INFINITY;
        for (int i = 1; i <= 60; i++)
            for (int k = 30; k <= 60; k += 2) {
                const float s = (float)((o.most * i - o.least * k) / 60 / 255);
                const double e = error_of(cr_data(x), s, (int)nearbyint(-o.least * k / 60 / (double)s));
                best = e < best ? e : best;
            }
        assert_true(error_of(cr_data(x), scale, zero) < 1.05 * best);
        assert_true(error_of(cr_data(x), widest, zero_of_all) > 1.5 * best);
        cr_observer_choose(&o, "percentile", 98, &scale, &zero);
        int64_t outside = 0;
        for (int64_t i = 0; i < NUMBERS; i++) {
            const double q = nearbyint((double)((float *)cr_data(x))[i] / (double)scale) + zero;
            outside += q < 0 || q > 255;
        }
        assert_true(outside > 60 && outside < 140);
    }
}

static void programs_are_saved_and_read_with_their_integers(void **unused) {
    (void)unused;
    block_state s;
    char path[64], model[64];
    snprintf(path, sizeof path, "/tmp/cresset_quantize_%d.safetensors", (int)getpid());
    snprintf(model, sizeof model, "/tmp/cresset_quantize_%d.onnx", (int)getpid());
    CR_SCOPE {
        cr_tensor *x = pictures(4);
        cr_quantize_array data = {&x, 1};
        cr_graph *graph = new_block(&s, x);
        cr_graph *quantized = cr_jit_quantize(graph, cr_quantize_from_array, &data);
        cr_tensor *want = cr_jit_forward(quantized, x);
        assert_true(cr_jit_save(quantized, path));
        cr_graph *loaded = cr_jit_load(path, CR_CPU);
        assert_cr_ok();
        assert_int_equal(count_ops(loaded, "dequantize"), 15);
        assert_true(cr_item(cr_amax(cr_abs(cr_sub(cr_jit_forward(loaded, x), want)))) == 0);
        int integers = 0;
        for (int i = 0; i < cr_jit_state_count(loaded); i++)
            integers += cr_dtype_of(cr_jit_state(loaded, i)) == CR_I8;
        assert_int_equal(integers, 4);
        assert_null(cr_jit_quantize(loaded, cr_quantize_from_array, &data));
        assert_cr_error(CR_ERROR_ARGUMENT, "quantised already");
        cr_jit_free(loaded);
#ifdef CRESSET_HAS_ONNX
        assert_true(cr_onnx_export(quantized, model));
        cr_graph *imported = cr_onnx_import(model);
        assert_cr_ok();
        assert_int_equal(count_ops(imported, "quantize"), 7);
        assert_int_equal(count_ops(imported, "dequantize"), 15);
        assert_true(cr_item(cr_amax(cr_abs(cr_sub(cr_jit_forward(imported, x), want)))) == 0);
        cr_jit_free(imported);
        remove(model);
#endif
        cr_jit_free(quantized);
        cr_jit_free(graph);
        free_block(&s);
        remove(path);
    }
}

static bool bad_source(void *context, int64_t batch, cr_tensor **inputs, int input_count) {
    (void)input_count;
    inputs[0] = batch ? NULL : cr_zeros(CR_F32, CR_SHAPE(2, 3, 9, 9), CR_CPU);
    return !context && inputs[0];
}

static void bad_data_and_options_are_errors(void **unused) {
    (void)unused;
    CR_SCOPE {
        cr_nn_module *net = cr_nn_conv2d(3, 8, 3);
        cr_tensor *x = pictures(2), *bad = cr_div_scalar(x, 0);
        cr_quantize_array data = {&x, 1}, none = {&x, 0}, infinite = {&bad, 1};
        cr_graph *graph = cr_jit_trace(net, x, .freeze = true);
        assert_null(cr_jit_quantize(graph, cr_quantize_from_array, &data, .method = "best"));
        assert_cr_error(CR_ERROR_ARGUMENT, "there are mse, percentile and minmax");
        assert_null(cr_jit_quantize(graph, cr_quantize_from_array, &data, .percentile = 20));
        assert_cr_error(CR_ERROR_ARGUMENT, "above 50");
        assert_null(cr_jit_quantize(graph, cr_quantize_from_array, &none));
        assert_cr_error(CR_ERROR_ARGUMENT, "no data");
        assert_null(cr_jit_quantize(graph, cr_quantize_from_array, &infinite));
        assert_cr_error(CR_ERROR_NUMERIC, "not finite");
        assert_null(cr_jit_quantize(graph, bad_source, &data));
        assert_cr_error(CR_ERROR_ARGUMENT, "the source of data failed");
        assert_null(cr_jit_quantize(graph, bad_source, NULL));
        assert_cr_error(CR_ERROR_SHAPE, "input 0");
        assert_null(cr_jit_quantize_with(NULL, NULL, NULL, NULL));
        assert_cr_error(CR_ERROR_ARGUMENT, "NULL graph");
        cr_graph *quantized = cr_jit_quantize(graph, cr_quantize_from_array, &data);
        cr_nn_module *other = cr_nn_linear(4, 4);
        cr_graph *another = cr_jit_trace(other, cr_ones(CR_F32, CR_SHAPE(2, 4), CR_CPU), .freeze = true);
        assert_null(cr_jit_quantize_compare(another, quantized, cr_quantize_from_array, &data));
        assert_cr_error(CR_ERROR_ARGUMENT, "layers differ");
        cr_jit_free(another);
        cr_nn_free(other);
        cr_jit_free(quantized);
        cr_jit_free(graph);
        cr_nn_free(net);
    }
}

/* ---------------------------------------------------------------- memory */
typedef struct quantized_run {
    cr_graph *graph;
    cr_tensor *x;
} quantized_run;

static void quantize_compare_and_run(void *context) {
    cr_graph *graph = ((quantized_run *)context)->graph;
    cr_tensor *x = ((quantized_run *)context)->x;
    CR_SCOPE {
        cr_quantize_array data = {&x, 1};
        cr_graph *quantized = cr_jit_quantize(graph, cr_quantize_from_array, &data);
        if (quantized)
            cr_quantize_report_free(cr_jit_quantize_compare(graph, quantized, cr_quantize_from_array, &data));
        if (quantized) cr_jit_forward(quantized, x);
        cr_jit_free(quantized);
    }
    cr_jit_wait(); /* what is compiled belongs to nobody */
}

static void memory_may_run_out_anywhere(void **unused) {
    (void)unused;
    block_state s;
    CR_SCOPE {
        cr_tensor *x = pictures(2);
        quantized_run of = {new_block(&s, x), x};
        check_failing_allocations(quantize_compare_and_run, &of, 400);
        cr_jit_free(of.graph);
        free_block(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_become_integers_and_results_stay_near),
        cmocka_unit_test(kept_layers_stay),
        cmocka_unit_test(calibration_finds_the_range_of_least_error),
        cmocka_unit_test(programs_are_saved_and_read_with_their_integers),
        cmocka_unit_test(bad_data_and_options_are_errors),
        cmocka_unit_test(memory_may_run_out_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
