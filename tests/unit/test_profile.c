/* What ops cost by their sizes, against formulas by hand; profiles of planned runs; traces that Chrome reads. */
#include "tests/unit/testing.h"
#include "tests/unit/temporary_folder.h"

#include <math.h>
#include <stdlib.h>

#include <jansson.h>

#include <cresset/jit.h>

#include "ops/op.h"

/* ---------------------------------------------------------------- arithmetic by sizes */
typedef struct cost {
    double flops, bytes, bytes_read;
} cost;

/* The cost of one call that is run for real. */
static cost cost_of(const char *name, const char *attributes, cr_tensor *const *inputs, int input_count) {
    cr_op *op = cr_op_find(name);
    cr_tensor *outputs[CR_MAX_OUTPUTS] = {NULL};
    _Alignas(16) char storage[512];
    assert_non_null(op);
    assert_true(op->attribute_bytes <= sizeof storage);
    if (op->attribute_count) assert_true(cr_attributes_parse(op, attributes, storage));
    const void *given = op->attribute_count ? storage : NULL;
    assert_true(cr_run_all(op, inputs, input_count, given, outputs, op->output_total));
    cr_call call = {.op = op,
                    .inputs = (cr_tensor **)(uintptr_t)inputs,
                    .input_count = input_count,
                    .outputs = outputs,
                    .output_count = op->output_total,
                    .attributes = given ? given : op->defaults};
    return (cost){cr_op_flops(&call), cr_op_bytes(&call), cr_op_bytes_read(&call)};
}
#define COST(name, attributes, ...)                                                                                    \
    cost_of(name, attributes, (cr_tensor *const[]){__VA_ARGS__},                                                       \
            (int)(sizeof((cr_tensor *const[]){__VA_ARGS__}) / sizeof(cr_tensor *)))

static cr_tensor *randn(cr_shape shape) { return cr_randn(CR_F32, shape, CR_CPU); }

static void products_count_two_for_each_pair_of_factors(void **state) {
    (void)state;
    CR_SCOPE {
        cost c = COST("matmul", "", randn(CR_SHAPE(5, 3, 7)), randn(CR_SHAPE(7, 11)));
        assert_true(c.flops == 2.0 * 5 * 3 * 7 * 11);
        assert_true(c.bytes == 4.0 * (5 * 3 * 7 + 7 * 11 + 5 * 3 * 11));
        c = COST("linear", "", randn(CR_SHAPE(6, 8)), randn(CR_SHAPE(10, 8)), randn(CR_SHAPE(10)));
        assert_true(c.flops == 2.0 * 6 * 8 * 10 + 60);
        assert_cr_ok();
    }
}

/* x [2,6,9,9], w [4,3,3,3] in 2 groups, stride 2, padding 1: y [2,4,5,5] */
static void convolutions_and_their_gradients_count_the_same_products(void **state) {
    (void)state;
    const double products = 2.0 * (2 * 4 * 5 * 5) * (3 * 3 * 3);
    const char *settings = "groups=2 strides=[2] paddings=[1]";
    CR_SCOPE {
        cr_tensor *x = randn(CR_SHAPE(2, 6, 9, 9)), *w = randn(CR_SHAPE(4, 3, 3, 3)), *y = randn(CR_SHAPE(2, 4, 5, 5));
        assert_true(COST("convolution", settings, x, w, NULL).flops == products);
        assert_true(COST("convolution", settings, x, w, randn(CR_SHAPE(4))).flops == products + 2 * 4 * 5 * 5);
        assert_true(COST("convolution_grad_input", "groups=2 strides=[2] paddings=[1] sizes=[2,6,9,9]", y, w).flops ==
                    products);
        assert_true(COST("convolution_grad_weight", "groups=2 strides=[2] paddings=[1] sizes=[4,3,3,3]", y, x).flops ==
                    products);
        /* transposed, from y back to the size of x: every product of the plain one */
        assert_true(COST("convolution", "groups=2 strides=[2] paddings=[1] transposed=true", y, w, NULL).flops ==
                    products);
        assert_cr_ok();
    }
}

static void attention_counts_the_pairs_that_the_mask_leaves(void **state) {
    (void)state;
    CR_SCOPE {
        cr_tensor *q = randn(CR_SHAPE(2, 3, 10, 8)), *k = randn(CR_SHAPE(2, 3, 6, 8)), *v = randn(CR_SHAPE(2, 3, 6, 5));
        const double each = 2 * 8 + 2 * 5 + 5;
        assert_true(COST("flash_attention", "", q, k, v, NULL).flops == 6 * (10 * 6) * each);
        /* row i sees keys 0 … i: 1 + 2 + … + 6, and four rows of 6 */
        assert_true(COST("flash_attention", "is_causal=true", q, k, v, NULL).flops == 6 * (21 + 4 * 6) * each);
        assert_cr_ok();
    }
}

static void an_lstm_counts_one_product_for_each_step(void **state) {
    (void)state;
    const double steps = 7, batch = 3, width = 4;
    CR_SCOPE {
        cr_tensor *gates = randn(CR_SHAPE(7, 3, 16)), *h = randn(CR_SHAPE(3, 4)), *w = randn(CR_SHAPE(16, 4));
        const cost c = COST("lstm_sequence", "", gates, h, cr_clone(h), w);
        assert_true(c.flops == steps * batch * (2 * (4 * width) * width + 13 * width));
        assert_cr_ok();
    }
}

static void other_ops_count_elements_and_broadcast_operands_once(void **state) {
    (void)state;
    CR_SCOPE {
        cr_tensor *x = randn(CR_SHAPE(6, 5)), *row = randn(CR_SHAPE(5));
        cost c = COST("add", "", x, cr_expand(cr_unsqueeze(row, 0), CR_SHAPE(6, 5)));
        assert_true(c.flops == 30 && c.bytes == 4 * (30 + 5 + 30) && c.bytes_read == 4 * (30 + 5));
        assert_true(COST("identity", "", x).flops == 0 && COST("identity", "", x).bytes == 240);
        assert_true(COST("sum", "", x).flops == 30 && COST("softmax", "dim=1", x).flops == 150);
        assert_true(COST("permute", "dims=[1,0]", x).bytes == 0);
        c = COST("max_pool", "kernel_sizes=[2,3]", randn(CR_SHAPE(2, 4, 6)));
        assert_true(c.flops == (2 * 2 * 2) * 6);
        c = COST("sgd_update", "", x, randn(CR_SHAPE(6, 5)), NULL, cr_scalar(0, CR_F32), cr_scalar(0.1, CR_F64));
        assert_true(c.flops == 120 && c.bytes == 4 * (2 * 30 + 30) + 4 * 2 + 8 && c.bytes_read == c.bytes - 4 * 31);
        assert_cr_ok();
    }
}

/* ---------------------------------------------------------------- profiles */
static cr_graph *traced_net(void) {
    cr_nn_module *net = cr_nn_eval(cr_nn_sequential(cr_nn_conv2d(3, 8, 3, .padding = 1), cr_nn_relu(), cr_nn_flatten(),
                                                    cr_nn_linear(8 * 6 * 6, 10)));
    cr_graph *graph =
        cr_jit_trace(net, cr_zeros(CR_F32, CR_SHAPE(2, 3, 6, 6), CR_CPU), .dynamic_batch = true, .freeze = true);
    cr_nn_free(net);
    return graph;
}

/* The first whose name has this word in it: "fused_convolution relu". */
static const cr_jit_profile_step *step_named(const cr_jit_profile *profile, const char *op) {
    for (int i = 0; i < profile->step_count; i++)
        if (strstr(profile->steps[i].op, op)) return &profile->steps[i];
    fail_msg("no step is called %s", op);
    return NULL;
}

static void a_profile_tells_costs_for_any_sizes_without_a_run(void **state) {
    (void)state;
    CR_SCOPE {
        cr_graph *graph = traced_net();
        cr_tensor *x = randn(CR_SHAPE(5, 3, 6, 6));
        cr_jit_profile *example = cr_jit_profile_new(graph, NULL, 0, 0), *other = cr_jit_profile_new(graph, &x, 1, 0);
        assert_cr_ok();
        assert_int_equal(example->runs, 0);
        const double convolution = 2.0 * (8 * 6 * 6) * (3 * 3 * 3) + 2 * (8 * 6 * 6); /* with bias and ReLU */
        assert_true(step_named(example, "convolution")->flops == 2 * convolution);
        assert_true(step_named(other, "convolution")->flops == 5 * convolution);
        assert_true(other->flops == 5 * (convolution + 2 * 288 * 10 + 10));
        assert_string_equal(step_named(other, "linear")->result, "f32[5,10]");
        assert_non_null(strstr(step_named(other, "linear")->source, "nn.linear 3 < nn.sequential"));
        assert_string_equal(step_named(other, "linear")->module, "3");
        cr_jit_profile_free(example);
        cr_jit_profile_free(other);
        cr_jit_free(graph);
    }
    cr_scope_clear();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

static void a_profile_times_every_step_within_its_run(void **state) {
    (void)state;
    CR_SCOPE {
        cr_graph *graph = traced_net();
        cr_tensor *x = randn(CR_SHAPE(4, 3, 6, 6));
        cr_jit_profile *profile = cr_jit_profile_new(graph, &x, 1, 5);
        assert_cr_ok();
        double share = 0, seconds = 0, before = 0;
        for (int i = 0; i < profile->step_count; i++) {
            share += profile->steps[i].share;
            seconds += profile->steps[i].seconds;
            assert_true(profile->steps[i].least_seconds > 0);
            assert_true(profile->steps[i].seconds >= 5 * profile->steps[i].least_seconds - 1e-12);
        }
        assert_true(fabs(share - 1) < 1e-9);
        assert_true(seconds <= profile->seconds && profile->runs == 5 && profile->timed_runs == 5);
        for (int i = 0; i < 2 * 5 * profile->step_count; i++) {
            assert_true(profile->times[i] >= before);
            before = profile->times[i];
        }
        assert_true(before <= profile->seconds);
        cr_jit_profile_free(profile);
        cr_jit_free(graph);
    }
    cr_scope_clear();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

/* out = carry + x[t], five times: one step, five turns. */
static bool add_row(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    (void)context, (void)in_count, (void)out_count;
    out[0] = cr_matmul(in[0], in[1]);
    return (out[1] = cr_neg(out[0])) != NULL;
}
static bool scan_rows(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    (void)in_count, (void)out_count;
    return cr_scan(add_row, context, in, 1, 1, out, 2);
}
static void a_scan_counts_all_its_turns(void **state) {
    (void)state;
    CR_SCOPE {
        cr_tensor *in[2] = {randn(CR_SHAPE(4, 4)), randn(CR_SHAPE(5, 4, 4))};
        cr_graph *graph = cr_jit_trace_function(scan_rows, NULL, in, 2, NULL, 2, NULL, 0);
        cr_jit_profile *profile = cr_jit_profile_new(graph, in, 2, 1);
        assert_cr_ok();
        assert_true(step_named(profile, "scan")->flops == 5 * (2 * 4 * 4 * 4 + 16));
        cr_jit_profile_free(profile);
        cr_jit_free(graph);
    }
    cr_scope_clear();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

static void a_trace_is_json_with_one_event_for_each_step(void **state) {
    (void)state;
    CR_SCOPE {
        cr_graph *graph = traced_net();
        cr_tensor *x = randn(CR_SHAPE(4, 3, 6, 6));
        cr_jit_profile *profile = cr_jit_profile_new(graph, &x, 1, 3);
        assert_true(cr_jit_profile_save_trace(profile, in_folder("trace.json")));
        json_t *trace = json_load_file(in_folder("trace.json"), 0, NULL),
               *events = json_object_get(trace, "traceEvents");
        assert_int_equal(json_array_size(events), 3 * (profile->step_count + 1));
        const json_t *first = json_array_get(events, 1);
        assert_string_equal(json_string_value(json_object_get(first, "ph")), "X");
        assert_string_equal(json_string_value(json_object_get(first, "name")), profile->steps[0].op);
        assert_true(json_number_value(json_object_get(first, "dur")) > 0);
        json_decref(trace);
        assert_false(cr_jit_profile_save_trace(profile, "/nowhere/trace.json"));
        assert_cr_error(CR_ERROR_IO, "/nowhere");
        cr_jit_profile_free(profile);
        cr_jit_free(graph);
    }
    cr_scope_clear();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

static void the_table_has_a_line_for_each_step(void **state) {
    (void)state;
    CR_SCOPE {
        cr_graph *graph = traced_net();
        char *text = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&text, &size);
        cr_jit_profile *profile = cr_jit_profile_new(graph, NULL, 0, 0);
        assert_true(cr_jit_profile_print(out, profile, 100, 10));
        fclose(out);
        int lines = 0;
        for (const char *c = text; *c; c++)
            lines += *c == '\n';
        assert_int_equal(lines, profile->step_count + 2);
        assert_non_null(strstr(text, " f32[2,6,6,8] ; 0\n"));
        free(text);
        cr_jit_profile_free(profile);
        cr_jit_free(graph);
    }
    cr_scope_clear();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

static void wrong_uses_are_told(void **state) {
    (void)state;
    CR_SCOPE {
        cr_graph *graph = traced_net();
        cr_tensor *wrong = randn(CR_SHAPE(4, 3, 6, 7));
        assert_null(cr_jit_profile_new(NULL, NULL, 0, 0));
        assert_cr_error(CR_ERROR_ARGUMENT, "NULL graph");
        assert_null(cr_jit_profile_new(graph, NULL, 0, -1));
        assert_cr_error(CR_ERROR_ARGUMENT, "-1 runs");
        assert_null(cr_jit_profile_new(graph, &wrong, 1, 2));
        assert_cr_error(CR_ERROR_SHAPE, "it must be f32[batch,3,6,6]");
        assert_null(cr_jit_profile_new(graph, NULL, 0, 1));
        assert_cr_error(CR_ERROR_ARGUMENT, "takes 1 inputs, got 0");
        assert_false(cr_jit_profile_print(stdout, NULL, 0, 0));
        assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
        cr_jit_profile_free(NULL);
        cr_jit_free(graph);
    }
    cr_scope_clear();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

static void a_failed_allocation_loses_nothing(void **state) {
    (void)state;
    bool whole = false;
    CR_SCOPE {
        cr_graph *graph = traced_net();
        cr_tensor *x = randn(CR_SHAPE(2, 3, 6, 6));
        cr_jit_profile_free(cr_jit_profile_new(graph, &x, 1, 1)); /* the plan is there now */
        for (int n = 1; !whole; n++) {
            const int64_t before = cr_memory_stats().live_blocks;
            cr_memory_fail_nth(n);
            cr_jit_profile *profile = cr_jit_profile_new(graph, &x, 1, 2);
            cr_memory_fail_nth(0);
            whole = profile != NULL;
            assert_true(whole || cr_last_error()->code == CR_ERROR_MEMORY);
            cr_clear_error();
            cr_jit_profile_free(profile);
            assert_int_equal(cr_memory_stats().live_blocks, before);
        }
        cr_jit_free(graph);
    }
    cr_scope_clear();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

/* ---------------------------------------------------------------- what a graph says of itself */
static void a_graph_tells_its_sizes_and_states(void **state) {
    (void)state;
    CR_SCOPE {
        cr_graph *graph = traced_net();
        assert_int_equal(cr_jit_symbol_count(graph), 1);
        assert_string_equal(cr_jit_symbol_name(graph, 0), "batch");
        assert_int_equal(cr_jit_symbol_value(graph, 0), 2);
        assert_int_equal(cr_jit_input_symbol(graph, 0, 0), 0);
        assert_int_equal(cr_jit_input_symbol(graph, 0, 1), -1);
        assert_cr_ok();
        char *in = cr_jit_input_type(graph, 0), *out = cr_jit_output_type(graph, 0);
        assert_string_equal(in, "f32[batch,3,6,6]");
        assert_string_equal(out, "f32[batch,10]");
        assert_string_equal(cr_jit_state_kind(graph, 0), "parameter");
        assert_null(cr_jit_symbol_name(graph, 1));
        assert_cr_error(CR_ERROR_INDEX, "symbol 1; there are 1");
        assert_int_equal(cr_jit_input_symbol(graph, 0, 4), -1);
        assert_cr_error(CR_ERROR_INDEX, "dim 4; there are 4");
        cr_free(in);
        cr_free(out);
        cr_jit_free(graph);
    }
    cr_scope_clear();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

static void the_cache_folder_follows_the_environment(void **state) {
    (void)state;
    setenv("CR_CACHE_DIR", "/a/b", 1);
    setenv("CR_CC", "none", 1);
    char *folder = cr_jit_cache_folder();
    assert_string_equal(folder, "/a/b");
    assert_null(cr_jit_compiler());
    setenv("CR_CC", "tcc", 1);
    assert_string_equal(cr_jit_compiler(), "tcc");
    cr_free(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_count_two_for_each_pair_of_factors),
        cmocka_unit_test(convolutions_and_their_gradients_count_the_same_products),
        cmocka_unit_test(attention_counts_the_pairs_that_the_mask_leaves),
        cmocka_unit_test(an_lstm_counts_one_product_for_each_step),
        cmocka_unit_test(other_ops_count_elements_and_broadcast_operands_once),
        cmocka_unit_test(a_profile_tells_costs_for_any_sizes_without_a_run),
        cmocka_unit_test(a_profile_times_every_step_within_its_run),
        cmocka_unit_test(a_scan_counts_all_its_turns),
        cmocka_unit_test(a_trace_is_json_with_one_event_for_each_step),
        cmocka_unit_test(the_table_has_a_line_for_each_step),
        cmocka_unit_test(wrong_uses_are_told),
        cmocka_unit_test(a_failed_allocation_loses_nothing),
        cmocka_unit_test(a_graph_tells_its_sizes_and_states),
        cmocka_unit_test(the_cache_folder_follows_the_environment),
    };
    return cmocka_run_group_tests(tests, make_temporary_folder, remove_temporary_folder);
}
