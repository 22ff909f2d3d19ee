/* Weights of bf16 and i8: what a program computes from them, against the same model with the rounded numbers in f32; that no
 * plan holds them widened; caches, files, ONNX, what is refused, and memory that runs out. */
#include "tests/unit/testing.h"
#include "tests/unit/memory_checks.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "jit/pass.h"

enum { WORDS = 40, WIDTH = 96, HEADS = 4, LENGTH = 7 };

/* An embedding, causal attention, a feed-forward part, the next word's scores. */
static cr_nn_module *new_writer(void) {
    cr_manual_seed(5);
    return cr_nn_eval(cr_nn_sequential(cr_nn_embedding(WORDS, WIDTH),
                                       cr_nn_transformer_layer(WIDTH, HEADS, .is_causal = true, .gelu = true),
                                       cr_nn_layer_norm(CR_SHAPE(WIDTH)), cr_nn_linear(WIDTH, WORDS, .bias = false)));
}

static cr_tensor *words(int64_t count) { return cr_randint(0, WORDS, CR_SHAPE(1, count), CR_CPU); }
static double relative(cr_tensor *a, cr_tensor *b) { return cr_item(cr_norm(cr_sub(a, b))) / cr_item(cr_norm(b)); }
static double distance(cr_tensor *a, cr_tensor *b) { return cr_item(cr_amax(cr_abs(cr_sub(a, b)))); }

/* The module's matrices as they come back from fewer bits; plain loops. */
static void round_weights(cr_nn_module *net, cr_dtype dtype) {
    const cr_nn_tensors all = cr_nn_parameters(net);
    CR_NO_GRAD {
        for (int i = 0; i < all.count; i++) {
            cr_tensor *w = all.at[i];
            if (cr_ndim(w) != 2) continue;
            float *at = cr_data(w);
            const int64_t rows = cr_size(w, 0), columns = cr_size(w, 1);
            for (int64_t r = 0; r < rows; r++, at += columns) {
                float most = 0;
                for (int64_t c = 0; c < columns; c++)
                    most = fmaxf(most, fabsf(at[c]));
                for (int64_t c = 0; c < columns; c++) {
                    uint32_t bits;
                    memcpy(&bits, &at[c], sizeof bits);
                    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
                    if (dtype == CR_I8)
                        at[c] = nearbyintf(at[c] / (most / 127)) * (most / 127);
                    else
                        memcpy(&at[c], &bits, sizeof bits);
                }
            }
        }
    }
}

static cr_graph *trace_writer(cr_nn_module *net, int64_t length) {
    return cr_jit_trace(net, words(length), .dynamic = "0.1=length", .freeze = true);
}

/* Of the states that a plan for this many words holds: bytes, and whether a matrix is f32. */
static int64_t planned_state_bytes(const cr_graph *graph, int64_t length, bool *is_wide) {
    cr_graph *plan = cr_graph_copy(graph);
    int64_t bytes = 0;
    assert_int_equal(plan->symbol_count, 1);
    plan->symbols[0].value = length;
    assert_true(cr_graph_bind(plan) && cr_graph_optimize(plan));
    cr_graph_count_uses(plan);
    *is_wide = false;
    for (int i = 0; i < plan->state_count; i++) {
        const cr_state *state = &plan->states[i];
        if (!state->value->uses) continue;
        bytes += cr_numel(state->tensor) * (int64_t)cr_dtype_size(cr_dtype_of(state->tensor));
        *is_wide |=
            cr_dtype_of(state->tensor) == CR_F32 && cr_ndim(state->tensor) <= 2 && cr_numel(state->tensor) > 4 * WIDTH;
    }
    cr_jit_free(plan);
    return bytes;
}

static void programs_compute_from_the_rounded_weights(void **unused) {
    (void)unused;
    const cr_dtype dtypes[] = {CR_BF16, CR_I8};
    for (int d = 0; d < 2; d++)
        CR_SCOPE {
            cr_nn_module *net = new_writer();
            cr_graph *wide = trace_writer(net, LENGTH), *narrow = cr_jit_quantize_weights(wide, .dtype = dtypes[d]);
            assert_cr_ok();
            int matrices = 0;
            for (int i = 0; i < cr_jit_state_count(narrow); i++) {
                matrices += cr_dtype_of(cr_jit_state(narrow, i)) == dtypes[d];
                assert_true(cr_ndim(cr_jit_state(narrow, i)) < 2 || cr_dtype_of(cr_jit_state(narrow, i)) == dtypes[d]);
            }
            assert_int_equal(matrices, 6);
            cr_tensor *texts[] = {words(1), words(3), words(LENGTH), words(30)},
                      *before = cr_jit_forward(wide, texts[3]);
            round_weights(net, dtypes[d]);
            for (int i = 0; i < 4; i++) {
                cr_tensor *y = cr_jit_forward(narrow, texts[i]), *want;
                CR_NO_GRAD { want = cr_nn_forward(net, texts[i]); }
                assert_cr_ok();
                assert_true(relative(y, want) < 2e-6);
            }
            const double lost = relative(cr_jit_forward(narrow, texts[3]), before);
            assert_true(lost > 1e-4 && lost < 0.02);
            cr_jit_free(narrow);
            cr_jit_free(wide);
            cr_nn_free(net);
        }
}

static void plans_hold_no_weight_widened(void **unused) {
    (void)unused;
    CR_SCOPE {
        cr_nn_module *net = new_writer();
        cr_graph *wide = trace_writer(net, LENGTH), *half = cr_jit_quantize_weights(wide),
                 *quarter = cr_jit_quantize_weights(wide, .dtype = CR_I8);
        assert_cr_ok();
        for (int64_t length = 1; length <= 9; length += 4) {
            bool is_wide;
            const int64_t f32 = planned_state_bytes(wide, length, &is_wide);
            assert_true(is_wide);
            const int64_t bf16 = planned_state_bytes(half, length, &is_wide);
            assert_true(!is_wide && (double)bf16 < 0.55 * (double)f32);
            const int64_t i8 = planned_state_bytes(quarter, length, &is_wide);
            assert_true(!is_wide && (double)i8 < 0.32 * (double)f32);
        }
        cr_jit_free(quarter);
        cr_jit_free(half);
        cr_jit_free(wide);
        cr_nn_free(net);
    }
}

static cr_tensor *word_for_word(cr_graph *graph, cr_tensor *text) {
    cr_tensor *parts[9] = {cr_jit_forward(graph, cr_narrow(text, 1, 0, 4))};
    for (int64_t i = 4; i < 12; i++)
        parts[i - 3] = cr_jit_forward(graph, cr_narrow(text, 1, i, 1));
    return cr_cat(parts, 9, 1);
}

/* Word for word with a cache of keys and values gives what the whole text gives, also in a program from a file. */
static void caches_of_narrow_programs_go_on(void **unused) {
    (void)unused;
    char path[64];
    snprintf(path, sizeof path, "/tmp/cresset_cached_%d.safetensors", (int)getpid());
    CR_SCOPE {
        cr_nn_module *net = new_writer();
        cr_tensor *text = words(12), *want;
        bool is_wide;
        assert_true(cr_nn_cache_begin(net, 1, 16));
        cr_graph *wide = trace_writer(net, 4), *narrow = cr_jit_quantize_weights(wide, .dtype = CR_I8);
        assert_true(cr_nn_cache_rewind(net, 0) && cr_jit_save(narrow, path));
        cr_graph *loaded = cr_jit_load(path, CR_CPU);
        cr_tensor *given = word_for_word(narrow, text), *again = word_for_word(loaded, text);
        assert_cr_ok();
        planned_state_bytes(loaded, 1, &is_wide);
        assert_false(is_wide);
        cr_nn_cache_end(net);
        round_weights(net, CR_I8);
        CR_NO_GRAD { want = cr_nn_forward(net, text); }
        assert_true(relative(given, want) < 2e-6);
        assert_true(distance(again, given) == 0);
        cr_jit_free(loaded);
        cr_jit_free(narrow);
        cr_jit_free(wide);
        cr_nn_free(net);
    }
    remove(path);
}

static void programs_are_saved_and_exported(void **unused) {
    (void)unused;
    char path[64], model[64];
    snprintf(path, sizeof path, "/tmp/cresset_weights_%d.safetensors", (int)getpid());
    snprintf(model, sizeof model, "/tmp/cresset_weights_%d.onnx", (int)getpid());
    for (int d = 0; d < 2; d++)
        CR_SCOPE {
            cr_nn_module *net = new_writer();
            cr_graph *wide = trace_writer(net, LENGTH),
                     *narrow = cr_jit_quantize_weights(wide, .dtype = d ? CR_I8 : CR_BF16);
            cr_tensor *x = words(9), *want = cr_jit_forward(narrow, x);
            assert_true(cr_jit_save(narrow, path));
            cr_graph *loaded = cr_jit_load(path, CR_CPU);
            assert_cr_ok();
            assert_true(distance(cr_jit_forward(loaded, x), want) == 0);
            bool is_wide;
            planned_state_bytes(loaded, 9, &is_wide);
            assert_false(is_wide);
            cr_jit_free(loaded);
#ifdef CRESSET_HAS_ONNX
            assert_true(cr_onnx_export(narrow, model));
            cr_graph *imported = cr_onnx_import(model);
            assert_cr_ok();
            assert_true(relative(cr_jit_forward(imported, x), want) < 2e-6);
            planned_state_bytes(imported, 9, &is_wide);
            assert_false(is_wide);
            cr_jit_free(imported);
            remove(model);
#endif
            cr_jit_free(narrow);
            cr_jit_free(wide);
            cr_nn_free(net);
            remove(path);
        }
}

/* Convolutions compute in f32 from weights that are widened when they are planned. */
static void convolutions_are_kept_narrow_in_files_only(void **unused) {
    (void)unused;
    CR_SCOPE {
        cr_nn_module *net = cr_nn_eval(cr_nn_sequential(cr_nn_conv2d(3, 16, 3, .padding = 1), cr_nn_batch_norm2d(16),
                                                        cr_nn_relu(), cr_nn_flatten(), cr_nn_linear(16 * 64, 10)));
        cr_tensor *x = cr_randn(CR_F32, CR_SHAPE(2, 3, 8, 8), CR_CPU), *data[] = {x};
        cr_graph *wide = cr_jit_trace(net, x, .freeze = true), *narrow = cr_jit_quantize_weights(wide),
                 *kept = cr_jit_quantize_weights(wide, .dtype = CR_I8, .keep = "4");
        assert_cr_ok();
        const double lost = relative(cr_jit_forward(narrow, x), cr_jit_forward(wide, x));
        assert_true(lost > 1e-5 && lost < 0.01);
        cr_quantize_array batches = {data, 1};
        cr_quantize_report *report = cr_jit_quantize_compare(wide, kept, cr_quantize_from_array, &batches);
        assert_cr_ok();
        assert_int_equal(report->layer_count, 2);
        assert_true(report->layers[0].is_quantized && !report->layers[1].is_quantized);
        assert_true(report->layers[0].weight_error > 1e-3 && report->layers[0].weight_error < 0.01);
        cr_quantize_report_free(report);
        report = cr_jit_quantize_compare(wide, narrow, cr_quantize_from_array, &batches);
        assert_cr_ok();
        assert_true(report->layers[1].is_quantized && report->layers[1].weight_error < 0.004);
        cr_quantize_report_free(report);
        cr_jit_free(kept);
        cr_jit_free(narrow);
        cr_jit_free(wide);
        cr_nn_free(net);
    }
}

static bool step_of(void *context, cr_tensor *const *in, int input_count, cr_tensor **out, int output_count) {
    (void)input_count, (void)output_count;
    return (out[0] = cr_mean(cr_nn_forward(context, in[0]))) && cr_backward(out[0]);
}

static void what_cannot_be_is_an_error(void **unused) {
    (void)unused;
    CR_SCOPE {
        cr_nn_module *net = cr_nn_linear(4, 4), *none = cr_nn_relu();
        cr_tensor *x = cr_ones(CR_F32, CR_SHAPE(2, 4), CR_CPU), *loss = NULL;
        cr_graph *graph = cr_jit_trace(net, x, .freeze = true), *plain = cr_jit_trace(none, x),
                 *step = cr_jit_trace_function(step_of, net, &x, 1, &loss, 1, &net, 1);
        assert_null(cr_jit_quantize_weights(NULL));
        assert_cr_error(CR_ERROR_ARGUMENT, "NULL graph");
        assert_null(cr_jit_quantize_weights(graph, .dtype = CR_F16));
        assert_cr_error(CR_ERROR_ARGUMENT, "bf16 or i8, not f16");
        assert_null(cr_jit_quantize_weights(plain));
        assert_cr_error(CR_ERROR_ARGUMENT, "no layer has");
        assert_null(cr_jit_quantize_weights(step));
        assert_cr_error(CR_ERROR_ARGUMENT, "leave gradients");
        cr_graph *narrow = cr_jit_quantize_weights(graph);
        assert_null(cr_jit_quantize_weights(narrow)); /* it is already */
        assert_cr_error(CR_ERROR_ARGUMENT, "no layer has");
        for (int i = 0; i < cr_jit_state_count(graph); i++)
            if (cr_ndim(cr_jit_state(graph, i)) == 2) ((float *)cr_data(cr_jit_state(graph, i)))[5] = NAN;
        assert_null(cr_jit_quantize_weights(graph, .dtype = CR_I8));
        assert_cr_error(CR_ERROR_NUMERIC, "not finite");
        cr_jit_free(narrow);
        cr_jit_free(step);
        cr_jit_free(plain);
        cr_jit_free(graph);
        cr_nn_free(net);
        cr_nn_free(none);
    }
}

typedef struct narrow_run {
    cr_graph *graph;
    cr_tensor *texts[2];
} narrow_run;

static void narrow_and_run(void *context) {
    const narrow_run *of = context;
    for (int d = 0; d < 2; d++)
        CR_SCOPE {
            cr_graph *narrow = cr_jit_quantize_weights(of->graph, .dtype = d ? CR_I8 : CR_BF16);
            for (int i = 0; narrow && i < 2; i++)
                cr_jit_forward(narrow, of->texts[i]);
            cr_jit_free(narrow);
        }
    cr_jit_wait(); /* what is compiled belongs to nobody */
}

static void memory_may_run_out_anywhere(void **unused) {
    (void)unused;
    CR_SCOPE {
        cr_nn_module *net = new_writer();
        narrow_run of = {trace_writer(net, LENGTH), {words(1), words(5)}};
        check_failing_allocations(narrow_and_run, &of, 300);
        cr_jit_free(of.graph);
        cr_nn_free(net);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(programs_compute_from_the_rounded_weights),
        cmocka_unit_test(plans_hold_no_weight_widened),
        cmocka_unit_test(caches_of_narrow_programs_go_on),
        cmocka_unit_test(programs_are_saved_and_exported),
        cmocka_unit_test(convolutions_are_kept_narrow_in_files_only),
        cmocka_unit_test(what_cannot_be_is_an_error),
        cmocka_unit_test(memory_may_run_out_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
