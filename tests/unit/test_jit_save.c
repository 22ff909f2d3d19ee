/* Programs on disk and as text, functions that trace themselves, and graphs as pictures. */
#include "tests/unit/testing.h"
#include "tests/unit/temporary_folder.h"

#include <stdlib.h>

#include <cresset/jit.h>

static void assert_same(cr_tensor *a, cr_tensor *b) {
    assert_cr_ok();
    assert_true(cr_shape_equal(cr_shape_of(a), cr_shape_of(b)) && cr_dtype_of(a) == cr_dtype_of(b));
    a = cr_contiguous(a), b = cr_contiguous(b);
    assert_memory_equal(cr_data(a), cr_data(b), (size_t)cr_numel(a) * cr_dtype_size(cr_dtype_of(a)));
}

static cr_nn_module *small_net(void) {
    return cr_nn_sequential(cr_nn_conv2d(3, 4, 3, .padding = 1), cr_nn_batch_norm2d(4), cr_nn_relu(),
                            cr_nn_dropout(0.5), cr_nn_flatten(), cr_nn_linear(64, 3));
}

static void a_saved_program_runs_without_its_source(void **state) {
    (void)state;
    CR_SCOPE {
        cr_nn_module *net = cr_nn_eval(small_net());
        cr_tensor *x = cr_randn(CR_F32, CR_SHAPE(2, 3, 4, 4), CR_CPU),
                  *more = cr_randn(CR_F32, CR_SHAPE(5, 3, 4, 4), CR_CPU);
        cr_graph *graph = cr_jit_trace(net, x, .dynamic_batch = true, .input_names = "image", .output_names = "logits");
        assert_true(cr_jit_save(graph, in_folder("net.safetensors")));
        char *text = cr_jit_text(graph);
        cr_tensor *expected = cr_jit_forward(graph, more);
        assert_false(cr_jit_updates_state(graph));
        cr_jit_free(graph);
        cr_nn_free(net);
        cr_graph *loaded = cr_jit_load(in_folder("net.safetensors"), CR_CPU);
        assert_cr_ok();
        cr_tensor *given = cr_jit_forward(loaded, more); /* frozen: its batch norm is part of the convolution */
        assert_true(cr_item(cr_amax(cr_abs(cr_sub(given, expected)))) < 1e-5);
        assert_string_equal(cr_jit_input_name(loaded, 0), "image");
        assert_string_equal(cr_jit_output_name(loaded, 0), "logits");
        char *again = cr_jit_text(loaded);
        assert_string_equal(text, again);
        cr_free(text);
        cr_free(again);
        cr_jit_free(loaded);
    }
    cr_scope_clear();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

static bool count_up(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    (void)in_count, (void)out_count;
    cr_add_(context, in[0]);
    return (out[0] = cr_mul_scalar(context, 2)) != NULL;
}

static void state_goes_on_where_it_was_saved(void **state) {
    (void)state;
    CR_SCOPE {
        cr_tensor *count = cr_zeros(CR_F32, CR_SHAPE(3), CR_CPU), *x = cr_ones(CR_F32, CR_SHAPE(3), CR_CPU);
        cr_graph *graph = cr_jit_trace_function(count_up, count, &x, 1, NULL, 1, NULL, 0);
        assert_true(cr_item(cr_sum(cr_jit_forward(graph, x))) == 12); /* the trace counted one */
        assert_true(cr_jit_updates_state(graph));
        assert_true(cr_jit_save(graph, in_folder("count")));
        cr_graph *first = cr_jit_load(in_folder("count"), CR_CPU), *second = cr_jit_load(in_folder("count"), CR_CPU);
        assert_cr_ok();
        assert_true(cr_item(cr_sum(cr_jit_forward(first, x))) == 18 && cr_item(cr_sum(cr_jit_forward(first, x))) == 24);
        assert_true(cr_item(cr_sum(cr_jit_forward(second, x))) ==
                    18); /* each has state of its own, and so has the file */
        assert_true(cr_item(cr_sum(count)) == 6);
        cr_jit_free(first);
        cr_jit_free(second);
        cr_jit_free(graph);
    }
    cr_scope_clear();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

static void a_frozen_program_folds_its_batch_norm(void **state) {
    (void)state;
    CR_SCOPE {
        cr_nn_module *net = small_net();
        cr_tensor *x = cr_randn(CR_F32, CR_SHAPE(2, 3, 4, 4), CR_CPU);
        CR_NO_GRAD { cr_nn_forward(net, x); } /* statistics other than 0 and 1 */
        cr_graph *graph = cr_jit_trace(cr_nn_eval(net), x, .freeze = true, .check = true);
        assert_cr_ok();
        char *text = cr_jit_optimized_text(graph, NULL, 0);
        assert_null(strstr(text, "batch_norm("));
        CR_NO_GRAD {
            assert_true(cr_item(cr_amax(cr_abs(cr_sub(cr_jit_forward(graph, x), cr_nn_forward(net, x))))) < 1e-5);
        }
        cr_free(text);
        cr_jit_free(graph);
        cr_nn_free(net);
    }
    cr_scope_clear();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

static void a_text_alone_has_no_values(void **state) {
    (void)state;
    CR_SCOPE {
        cr_nn_module *net = cr_nn_linear(3, 2);
        cr_tensor *x = cr_ones(CR_F32, CR_SHAPE(1, 3), CR_CPU);
        cr_graph *graph = cr_jit_trace(net, x);
        char *text = cr_jit_text(graph);
        cr_graph *read = cr_jit_parse(text);
        assert_null(cr_jit_forward(read, x));
        assert_cr_error(CR_ERROR_STATE, "weight");
        assert_false(cr_jit_save(read, in_folder("nothing")));
        assert_cr_error(CR_ERROR_STATE, "weight");
        char *dot = cr_jit_dot(graph);
        assert_non_null(strstr(dot, "digraph"));
        assert_non_null(strstr(dot, "linear"));
        cr_free(dot);
        cr_free(text);
        cr_jit_free(read);
        cr_jit_free(graph);
        cr_nn_free(net);
    }
    cr_scope_clear();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

static void a_program_is_written_whole_or_not_at_all(void **state) {
    (void)state;
    CR_SCOPE {
        cr_nn_module *net = cr_nn_linear(3, 2);
        cr_graph *graph = cr_jit_trace(net, cr_ones(CR_F32, CR_SHAPE(1, 3), CR_CPU));
        empty_temporary_folder();
        assert_false(cr_jit_save(graph, in_folder("no/such/folder")));
        cr_clear_error();
        cr_memory_fail_nth(1);
        assert_false(cr_jit_save(graph, in_folder("net")));
        cr_memory_fail_nth(0);
        cr_clear_error();
        assert_int_equal(count_temporary_files(), 0);
        cr_jit_free(graph);
        cr_nn_free(net);
    }
}

/* ---------------------------------------------------------------- wrapping */
static int calls;
static bool scale(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    (void)context, (void)in_count, (void)out_count;
    calls++;
    return (out[0] = cr_add(cr_mul_scalar(in[0], 3), in[0])) != NULL;
}
static bool decide(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    (void)context, (void)in_count, (void)out_count;
    calls++;
    return (out[0] = cr_item(cr_sum(in[0])) > 0 ? cr_exp(in[0]) : cr_neg(in[0])) != NULL;
}

static void wrapped_functions_trace_once_for_each_signature(void **state) {
    (void)state;
    CR_SCOPE {
        cr_jit_wrapped *wrapped = cr_jit_wrap(scale, NULL, NULL, 0, 2);
        cr_tensor *out = NULL, *sizes[3];
        calls = 0;
        for (int i = 0; i < 3; i++)
            sizes[i] = cr_full(CR_F32, CR_SHAPE(i + 1), i + 1, CR_CPU);
        for (int i = 0; i < 6; i++) {
            assert_true(cr_jit_call(wrapped, &sizes[i % 2], 1, &out, 1));
            assert_true(cr_item(cr_sum(out)) == 4.0 * (i % 2 + 1) * (i % 2 + 1));
        }
        assert_int_equal(calls, 2);
        cr_jit_call(wrapped, &sizes[2], 1, &out, 1); /* the third signature pushes the oldest out */
        cr_jit_call(wrapped, &sizes[1], 1, &out, 1);
        assert_int_equal(calls, 3);
        cr_jit_call(wrapped, &sizes[0], 1, &out, 1);
        assert_int_equal(calls, 4);
        cr_tensor *wide = cr_ones(CR_F64, CR_SHAPE(1), CR_CPU);
        cr_jit_call(wrapped, &wide, 1, &out, 1);
        assert_int_equal(calls, 5);
        assert_int_equal(cr_dtype_of(out), CR_F64);
        assert_null(cr_jit_wrap_reason(wrapped));
        cr_jit_unwrap(wrapped);
    }
    cr_scope_clear();
    assert_cr_ok();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

static void a_function_that_decides_by_values_is_simply_called(void **state) {
    (void)state;
    CR_SCOPE {
        cr_jit_wrapped *wrapped = cr_jit_wrap(decide, NULL, NULL, 0, 4);
        cr_tensor *out = NULL, *plus = cr_ones(CR_F32, CR_SHAPE(2), CR_CPU), *minus = cr_neg(plus);
        calls = 0;
        for (int i = 0; i < 4; i++) {
            assert_true(cr_jit_call(wrapped, i % 2 ? &minus : &plus, 1, &out, 1));
            assert_same(out, i % 2 ? cr_neg(minus) : cr_exp(plus));
        }
        assert_int_equal(calls, 4);
        assert_non_null(strstr(cr_jit_wrap_reason(wrapped), "item"));
        cr_jit_unwrap(wrapped);
    }
    cr_scope_clear();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

static void the_environment_turns_wrapping_off(void **state) {
    (void)state;
    CR_SCOPE {
        cr_jit_wrapped *wrapped = cr_jit_wrap(scale, NULL, NULL, 0, 2);
        cr_tensor *out = NULL, *x = cr_ones(CR_F32, CR_SHAPE(2), CR_CPU);
        calls = 0;
        setenv("CR_JIT", "0", 1);
        for (int i = 0; i < 3; i++)
            assert_true(cr_jit_call(wrapped, &x, 1, &out, 1));
        unsetenv("CR_JIT");
        assert_int_equal(calls, 3);
        cr_tensor *none = NULL;
        assert_false(cr_jit_call(wrapped, &none, 1, &out, 1));
        assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
        cr_jit_unwrap(wrapped);
        assert_null(cr_jit_wrap(NULL, NULL, NULL, 0, 2));
        assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
        assert_null(cr_jit_wrap(scale, NULL, NULL, 0, 0));
        assert_cr_error(CR_ERROR_ARGUMENT, "capacity");
    }
    cr_scope_clear();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

static bool train(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    cr_optim *optim = ((void **)context)[1];
    (void)in_count, (void)out_count;
    cr_optim_zero_grad(optim);
    out[0] = cr_cross_entropy(cr_nn_forward(((void **)context)[0], in[0]), in[1]);
    return cr_backward(out[0]) && cr_optim_step(optim);
}

static void a_wrapped_step_trains_as_the_plain_one(void **state) {
    (void)state;
    double losses[2] = {0};
    for (int wrap = 0; wrap < 2; wrap++) {
        CR_SCOPE {
            cr_manual_seed(4);
            cr_nn_module *net =
                cr_nn_sequential(cr_nn_linear(4, 8), cr_nn_dropout(0.1), cr_nn_tanh(), cr_nn_linear(8, 3));
            cr_optim *optim = cr_optim_adam(cr_nn_parameters(net), .lr = 0.01);
            void *context[] = {net, optim};
            cr_jit_wrapped *wrapped = wrap ? cr_jit_wrap(train, context, &net, 1, 2) : NULL;
            cr_tensor *in[] = {cr_randn(CR_F32, CR_SHAPE(6, 4), CR_CPU), cr_randint(0, 3, CR_SHAPE(6), CR_CPU)},
                      *loss = NULL;
            for (int i = 0; i < 30; i++)
                assert_true(wrap ? cr_jit_call(wrapped, in, 2, &loss, 1) : train(context, in, 2, &loss, 1));
            losses[wrap] = cr_item(loss);
            if (wrap && cr_jit_wrap_reason(wrapped)) fail_msg("not traced: %s", cr_jit_wrap_reason(wrapped));
            cr_jit_unwrap(wrapped);
            cr_optim_free(optim);
            cr_nn_free(net);
        }
        cr_scope_clear();
    }
    assert_true(losses[0] == losses[1]);
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

int main(void) {
    setenv("CR_CC", "none", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_saved_program_runs_without_its_source),
        cmocka_unit_test(state_goes_on_where_it_was_saved),
        cmocka_unit_test(a_frozen_program_folds_its_batch_norm),
        cmocka_unit_test(a_text_alone_has_no_values),
        cmocka_unit_test(a_program_is_written_whole_or_not_at_all),
        cmocka_unit_test(wrapped_functions_trace_once_for_each_signature),
        cmocka_unit_test(a_function_that_decides_by_values_is_simply_called),
        cmocka_unit_test(the_environment_turns_wrapping_off),
        cmocka_unit_test(a_wrapped_step_trains_as_the_plain_one),
    };
    return cmocka_run_group_tests(tests, make_temporary_folder, remove_temporary_folder);
}
