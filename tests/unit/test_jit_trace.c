/* What tracing writes down: a graph's runs against the plain function, bit for bit, whatever the function does to its
 * tensors. Labels: threads */
#include "tests/unit/testing.h"

#include <pthread.h>
#include <stdlib.h>

#include <cresset/jit.h>

#define FUNCTION(name)                                                                                                 \
    static bool name(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count)
#define UNUSED ((void)context, (void)in, (void)in_count, (void)out, (void)out_count)

static int64_t live_at_start;
static int note_memory(void **state) {
    (void)state;
    live_at_start = cr_memory_stats().live_bytes;
    return 0;
}
static int check_memory(void **state) {
    (void)state;
    cr_scope_clear();
    cr_clear_error();
    assert_int_equal(cr_memory_stats().live_bytes, live_at_start);
    return 0;
}

static void assert_same(cr_tensor *a, cr_tensor *b) {
    assert_cr_ok();
    assert_true(cr_shape_equal(cr_shape_of(a), cr_shape_of(b)));
    assert_int_equal(cr_dtype_of(a), cr_dtype_of(b));
    a = cr_contiguous(cr_detach(a)), b = cr_contiguous(cr_detach(b));
    const size_t bytes = (size_t)cr_numel(a) * cr_dtype_size(cr_dtype_of(a));
    if (bytes && memcmp(cr_data(a), cr_data(b), bytes) != 0) {
        char *x = cr_format(a), *y = cr_format(b);
        fail_msg("graph and function differ:\n%s\n%s", x, y);
    }
}

/* Traces on one draw of inputs and runs on others; all results must be the function's. */
static void check_function(cr_jit_function function, void *context, const cr_shape *shapes, int inputs, int outputs) {
    cr_tensor *example[4], *fresh[4], *same[4], *expected[4] = {NULL}, *given[4];
    for (int i = 0; i < inputs; i++)
        example[i] = cr_randn(CR_F32, shapes[i], CR_CPU);
    cr_graph *graph = cr_jit_trace_function(function, context, example, inputs, given, outputs, NULL, 0);
    assert_cr_ok();
    assert_non_null(graph);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < inputs; i++)
            same[i] = cr_clone(fresh[i] = cr_randn(CR_F32, shapes[i], CR_CPU));
        cr_manual_seed(5);
        assert_true(function(context, same, inputs, expected, outputs));
        cr_manual_seed(5);
        cr_jit_run(graph, fresh, inputs, given, outputs);
        for (int i = 0; i < outputs; i++)
            assert_same(given[i], expected[i]);
    }
    cr_jit_free(graph);
}
#define CHECK(function, outputs, ...)                                                                                  \
    check_function(function, NULL, (cr_shape[]){__VA_ARGS__},                                                          \
                   (int)(sizeof((cr_shape[]){__VA_ARGS__}) / sizeof(cr_shape)), outputs)

/* ---------------------------------------------------------------- views and writes */
FUNCTION(two_results) {
    UNUSED;
    return (out[0] = cr_matmul(in[0], in[1])) && (out[1] = cr_sum(out[0])) && (out[2] = out[0]);
}
FUNCTION(input_again) {
    UNUSED;
    return (out[0] = in[0]) && (out[1] = cr_transpose(in[0], 0, 1)) != NULL;
}
FUNCTION(slice_assignment) {
    UNUSED;
    cr_tensor *x = cr_clone(in[0]);
    cr_copy_(cr_slice(x, 0, 1, 3, 1), in[1]);
    cr_add_(cr_slice(x, 1, 1, INT64_MAX, 2), cr_full(CR_F32, CR_SHAPE_0D, 3, CR_CPU));
    return (out[0] = x) && (out[1] = cr_exp(x)) != NULL;
}
FUNCTION(view_before_write) {
    UNUSED;
    cr_tensor *x = cr_clone(in[0]), *row = cr_select(x, 0, 2), *turned = cr_transpose(x, 0, 1);
    cr_tensor *before = cr_exp(row);
    cr_mul_scalar_(x, 2);
    cr_tensor *between = cr_add(row, cr_select(turned, 1, 1));
    cr_fill_(row, 7);
    return (out[0] = before) && (out[1] = between) && (out[2] = turned) && (out[3] = cr_sum(x)) != NULL;
}
FUNCTION(view_of_view) {
    UNUSED;
    cr_tensor *x = cr_clone(in[0]);
    cr_tensor *inner = cr_select(cr_slice(cr_transpose(x, 0, 1), 0, 1, 4, 2), 0, 1);
    cr_sub_(inner, cr_select(x, 1, 0));
    return (out[0] = x) && (out[1] = inner) != NULL;
}
FUNCTION(self_overlap) { /* reads its transpose while it is written */
    UNUSED;
    cr_tensor *x = cr_clone(in[0]);
    cr_copy_(x, cr_add(x, cr_transpose(x, 0, 1)));
    cr_copy_(x, cr_clone(cr_transpose(x, 0, 1)));
    return (out[0] = x) != NULL;
}
FUNCTION(detached_write) {
    UNUSED;
    cr_tensor *x = cr_clone(in[0]), *cut = cr_detach(x);
    cr_mul_(cut, cut);
    return (out[0] = cr_add(x, cut)) != NULL;
}
FUNCTION(empty_filled_by_parts) {
    UNUSED;
    cr_tensor *x = cr_empty(CR_F32, CR_SHAPE(4, 4), CR_CPU);
    for (int i = 0; i < 4; i++)
        cr_copy_(cr_select(x, 0, i), cr_mul_scalar(cr_select(in[0], 1, i), i));
    return (out[0] = x) != NULL;
}
FUNCTION(constants) {
    UNUSED;
    const float numbers[] = {1, 2, 3, 4};
    cr_tensor *c = cr_from_data(CR_F32, CR_SHAPE(4), numbers);
    return (out[0] = cr_add(cr_mul(in[0], c), cr_scalar(0.5, CR_F32))) != NULL;
}
FUNCTION(randomness) {
    UNUSED;
    cr_tensor *noise = cr_randn(CR_F32, CR_SHAPE(4, 4), CR_CPU), *more = cr_randn(CR_F32, CR_SHAPE(4, 4), CR_CPU);
    return (out[0] = cr_sub(noise, more)) && (out[1] = cr_dropout(in[0], 0.5, true)) != NULL;
}
FUNCTION(gradient) {
    UNUSED;
    cr_tensor *x = cr_requires_grad_(cr_detach(in[0]), true),
              *y = cr_sum(cr_mul(cr_tanh(cr_slice(x, 1, 0, 3, 1)), cr_slice(x, 1, 1, 4, 1)));
    cr_tensor *grads[1];
    return cr_grad(&y, 1, &x, 1, grads, NULL) && (out[0] = grads[0]) && (out[1] = y) != NULL;
}
FUNCTION(attention) {
    UNUSED;
    cr_tensor *scores = cr_mul_scalar(cr_matmul(in[0], cr_transpose(in[1], -1, -2)), 0.5);
    return (out[0] = cr_matmul(cr_softmax(scores, -1), in[2])) != NULL;
}

static void views_and_writes_become_values(void **state) {
    (void)state;
    CHECK(two_results, 3, CR_SHAPE(3, 4), CR_SHAPE(4, 5));
    CHECK(input_again, 2, CR_SHAPE(3, 4));
    CHECK(slice_assignment, 2, CR_SHAPE(4, 5), CR_SHAPE(2, 5));
    CHECK(view_before_write, 4, CR_SHAPE(4, 4));
    CHECK(view_of_view, 2, CR_SHAPE(4, 4));
    CHECK(self_overlap, 1, CR_SHAPE(4, 4));
    CHECK(detached_write, 1, CR_SHAPE(4, 4));
    CHECK(empty_filled_by_parts, 1, CR_SHAPE(4, 4));
    CHECK(constants, 1, CR_SHAPE(4, 4));
    CHECK(gradient, 2, CR_SHAPE(4, 4));
    CHECK(attention, 1, CR_SHAPE(2, 3, 5, 4), CR_SHAPE(2, 3, 6, 4), CR_SHAPE(2, 3, 6, 7));
}

static void random_ops_stay_random(void **state) {
    (void)state;
    CHECK(randomness, 2, CR_SHAPE(4, 4));
    cr_tensor *x = cr_ones(CR_F32, CR_SHAPE(4, 4), CR_CPU), *a[2], *b[2];
    cr_graph *graph = cr_jit_trace_function(randomness, NULL, &x, 1, NULL, 2, NULL, 0);
    assert_true(cr_jit_run(graph, &x, 1, a, 2) && cr_jit_run(graph, &x, 1, b, 2));
    assert_memory_not_equal(cr_data(a[0]), cr_data(b[0]), 64);
    assert_memory_not_equal(cr_data(a[1]), cr_data(b[1]), 64);
    assert_true(cr_item(cr_sum(cr_abs(a[0]))) > 0); /* two draws are two */
    cr_jit_free(graph);
}

FUNCTION(add_both) {
    UNUSED;
    cr_tensor *x = cr_clone(in[0]);
    cr_add_(x, in[1]);
    return (out[0] = x) && (out[1] = cr_mul(in[0], in[1])) != NULL;
}
static void inputs_may_share_memory(void **state) {
    (void)state;
    cr_tensor *x = cr_randn(CR_F32, CR_SHAPE(3, 3), CR_CPU), *y = cr_randn(CR_F32, CR_SHAPE(3, 3), CR_CPU), *out[2],
              *expected[2] = {NULL};
    cr_tensor *alias[] = {x, cr_transpose(x, 0, 1)}, *apart[] = {x, y};
    cr_graph *graph = cr_jit_trace_function(add_both, NULL, alias, 2, NULL, 2, NULL, 0);
    assert_cr_ok();
    for (int round = 0; round < 2; round++) {
        cr_tensor **inputs = round ? apart : alias;
        assert_true(cr_jit_run(graph, inputs, 2, out, 2) && add_both(NULL, inputs, 2, expected, 2));
        for (int i = 0; i < 2; i++)
            assert_same(out[i], expected[i]);
    }
    cr_jit_free(graph);
}

/* ---------------------------------------------------------------- state */
typedef struct captured {
    cr_tensor *count, *table, *square, *count_down;
} captured;
FUNCTION(use_state) {
    UNUSED;
    captured *c = context;
    cr_add_scalar_(c->count, 1);
    cr_add_(cr_select(c->table, 0, 1), cr_select(c->table, 0, 0)); /* two views of one memory */
    cr_copy_(c->square, cr_sub(c->square, cr_mul_scalar(cr_transpose(c->square, 0, 1), 2)));
    cr_copy_(c->count_down, cr_flip(c->count_down, CR_DIMS(0))); /* its old value is read until its new one is whole */
    return (out[0] = cr_add(cr_mul(in[0], c->count), cr_select(c->table, 0, 1))) &&
           (out[1] = cr_sum(c->square)) != NULL;
}
static captured new_state(void) {
    captured c = {cr_zeros(CR_F32, CR_SHAPE_0D, CR_CPU), cr_reshape(cr_arange(CR_F32, 0, 6, 1, CR_CPU), CR_SHAPE(2, 3)),
                  cr_reshape(cr_arange(CR_F32, 0, 9, 1, CR_CPU), CR_SHAPE(3, 3)),
                  cr_arange(CR_F32, 100, 0, -1, CR_CPU)};
    return c;
}
static void what_is_captured_lives_between_runs(void **state) {
    (void)state;
    captured plain = new_state(), traced = new_state();
    cr_tensor *x = cr_randn(CR_F32, CR_SHAPE(3), CR_CPU), *expected[2], *given[2];
    cr_graph *graph = cr_jit_trace_function(use_state, &traced, &x, 1, given, 2, NULL, 0);
    assert_cr_ok();
    for (int round = 0; round < 5; round++) {
        assert_true(use_state(&plain, &x, 1, expected, 2));
        if (round) assert_true(cr_jit_run(graph, &x, 1, given, 2));
        for (int i = 0; i < 2; i++)
            assert_same(given[i], expected[i]);
        assert_same(traced.count, plain.count);
        assert_same(traced.table, plain.table);
        assert_same(traced.square, plain.square);
        assert_same(traced.count_down, plain.count_down);
    }
    cr_jit_free(graph);
}

static void modules_run_in_both_modes(void **state) {
    (void)state;
    for (int training = 0; training < 2; training++) {
        cr_nn_module *nets[2];
        cr_tensor *outputs[2];
        for (int k = 0; k < 2; k++) {
            cr_manual_seed(3);
            nets[k] = cr_nn_sequential(cr_nn_conv2d(3, 8, 3, .stride = 2, .padding = 1), cr_nn_batch_norm2d(8),
                                       cr_nn_relu(), cr_nn_dropout(0.3), cr_nn_conv2d(8, 4, 3), cr_nn_batch_norm2d(4),
                                       cr_nn_flatten(), cr_nn_linear(4 * 2 * 2, 5));
            cr_nn_train(nets[k], training);
        }
        cr_tensor *x = cr_randn(CR_F32, CR_SHAPE(2, 3, 8, 8), CR_CPU);
        cr_manual_seed(8);
        cr_graph *graph = cr_jit_trace(nets[0], x);
        cr_manual_seed(8);
        CR_NO_GRAD { cr_nn_forward(nets[1], x); }
        for (int round = 0; round < 3; round++) {
            cr_manual_seed(9);
            outputs[0] = cr_jit_forward(graph, x);
            cr_manual_seed(9);
            CR_NO_GRAD { outputs[1] = cr_nn_forward(nets[1], x); }
            assert_same(outputs[0], outputs[1]);
            const cr_nn_tensors a = cr_nn_state(nets[0]), b = cr_nn_state(nets[1]);
            for (int i = 0; i < a.count; i++)
                assert_same(a.at[i], b.at[i]);
        }
        cr_jit_free(graph);
        for (int k = 0; k < 2; k++)
            cr_nn_free(nets[k]);
    }
}

static void parameters_that_change_are_seen(void **state) {
    (void)state;
    cr_nn_module *net = cr_nn_linear(3, 2);
    cr_tensor *x = cr_randn(CR_F32, CR_SHAPE(4, 3), CR_CPU);
    cr_graph *graph = cr_jit_trace(net, x);
    CR_NO_GRAD {
        cr_mul_scalar_(cr_nn_tensor(net, "weight"), -2);
        assert_same(cr_jit_forward(graph, x), cr_nn_forward(net, x));
    }
    assert_int_equal(cr_jit_state_count(graph), 2);
    assert_string_equal(cr_jit_state_name(graph, 0), "weight");
    assert_ptr_equal(cr_jit_state(graph, 0), cr_nn_tensor(net, "weight"));
    cr_jit_free(graph);
    cr_nn_free(net);
}

FUNCTION(run_lstm) {
    UNUSED;
    return (out[0] = cr_nn_lstm_forward(context, in[0], NULL, NULL, &out[1], &out[2])) != NULL;
}
static void an_lstm_gives_the_same(void **state) {
    (void)state;
    cr_nn_module *lstm = cr_nn_lstm(5, 6, .num_layers = 2, .bidirectional = true);
    cr_tensor *x = cr_randn(CR_F32, CR_SHAPE(7, 2, 5), CR_CPU), *given[3], *expected[3];
    CR_NO_GRAD {
        cr_graph *graph = cr_jit_trace_function(run_lstm, lstm, &x, 1, NULL, 3, &lstm, 1);
        assert_cr_ok();
        x = cr_randn(CR_F32, CR_SHAPE(7, 2, 5), CR_CPU);
        assert_true(cr_jit_run(graph, &x, 1, given, 3) && run_lstm(lstm, &x, 1, expected, 3));
        for (int i = 0; i < 3; i++)
            assert_same(given[i], expected[i]);
        cr_jit_free(graph);
    }
    cr_nn_free(lstm);
}

/* ---------------------------------------------------------------- sizes that differ */
FUNCTION(sequence_model) {
    UNUSED;
    const cr_shape s = cr_shape_of(in[0]);
    cr_tensor *flat = cr_reshape(in[0], CR_SHAPE(s.at[0] * s.at[1], s.at[2]));
    cr_tensor *y = cr_reshape(cr_matmul(flat, in[1]), CR_SHAPE(s.at[0], s.at[1], 4));
    cr_tensor *scores = cr_softmax(cr_matmul(y, cr_transpose(y, 1, 2)), -1);
    return (out[0] = cr_matmul(scores, y)) && (out[1] = cr_mean(y, .dims = CR_SHAPE(1))) &&
           (out[2] = cr_slice(y, 1, 1, INT64_MAX, 2)) != NULL;
}
static void several_sizes_may_differ(void **state) {
    (void)state;
    cr_tensor *weight = cr_randn(CR_F32, CR_SHAPE(3, 4), CR_CPU),
              *example[] = {cr_randn(CR_F32, CR_SHAPE(2, 5, 3), CR_CPU), weight}, *given[3], *expected[3];
    cr_graph *graph =
        cr_jit_trace_function(sequence_model, NULL, example, 2, NULL, 3, NULL, 0, .dynamic = "0.0=batch 0.1=time",
                              .input_names = "tokens,weight", .output_names = "mixed,mean,odd");
    assert_cr_ok();
    assert_int_equal(cr_jit_input_shape(graph, 0).at[0], -1);
    assert_int_equal(cr_jit_input_shape(graph, 0).at[2], 3);
    assert_string_equal(cr_jit_output_name(graph, 2), "odd");
    for (int batch = 1; batch < 5; batch++)
        for (int time = 1; time < 8; time += 2) {
            cr_tensor *inputs[] = {cr_randn(CR_F32, CR_SHAPE(batch, time, 3), CR_CPU), weight};
            assert_true(cr_jit_run(graph, inputs, 2, given, 3) && sequence_model(NULL, inputs, 2, expected, 3));
            for (int i = 0; i < 3; i++)
                assert_same(given[i], expected[i]);
        }
    cr_tensor *wrong[] = {cr_zeros(CR_F32, CR_SHAPE(2, 5, 4), CR_CPU), weight};
    assert_false(cr_jit_run(graph, wrong, 2, given, 3));
    assert_cr_error(CR_ERROR_SHAPE, "f32[batch,time,3]");
    wrong[0] = cr_zeros(CR_F64, CR_SHAPE(2, 5, 3), CR_CPU);
    assert_false(cr_jit_run(graph, wrong, 2, given, 3));
    assert_cr_error(CR_ERROR_SHAPE, "\"tokens\"");
    wrong[0] = NULL;
    assert_false(cr_jit_run(graph, wrong, 2, given, 3));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
    assert_false(cr_jit_run(graph, example, 1, given, 3));
    assert_cr_error(CR_ERROR_ARGUMENT, "takes 2 inputs");
    assert_false(cr_jit_run(graph, example, 2, given, 2));
    assert_cr_error(CR_ERROR_ARGUMENT, "3 outputs");
    cr_jit_free(graph);
}

static void check_image_sizes(cr_nn_module *net, const int *heights, int count) {
    cr_nn_eval(net);
    cr_graph *graph =
        cr_jit_trace(net, cr_randn(CR_F32, CR_SHAPE(2, 3, 16, 24), CR_CPU), .dynamic = "0.0=n 0.2=height 0.3=width");
    assert_cr_ok();
    for (int n = 1; n < 3; n++)
        for (int i = 0; i < count; i++) {
            cr_tensor *x = cr_randn(CR_F32, CR_SHAPE(n, 3, heights[i], 64 - heights[i]), CR_CPU);
            CR_NO_GRAD { assert_same(cr_jit_forward(graph, x), cr_nn_forward(net, x)); }
        }
    cr_jit_free(graph);
    cr_nn_free(net);
}
static void images_of_any_size_pass_strided_convolutions(void **state) {
    (void)state;
    check_image_sizes(cr_nn_sequential(cr_nn_conv2d(3, 4, 3, .stride = 2, .padding = 1), cr_nn_relu(),
                                       cr_nn_max_pool2d(2), cr_nn_conv2d(4, 2, 3)),
                      (const int[]){12, 13, 14, 15, 16, 17, 29, 33, 47}, 9);
    check_image_sizes(cr_nn_sequential(cr_nn_conv2d(3, 4, 3, .stride = 2, .padding = 1), cr_nn_relu(),
                                       cr_nn_max_pool2d(2), /* 2 * (h / 4) */
                                       cr_nn_conv_transpose2d(4, 3, 4, .stride = 2, .padding = 1), cr_nn_tanh()),
                      (const int[]){8, 16, 32, 40}, 4);
}

static void one_name_is_one_size(void **state) {
    (void)state;
    cr_tensor *x[] = {cr_ones(CR_F32, CR_SHAPE(3, 3), CR_CPU), cr_ones(CR_F32, CR_SHAPE(3, 3), CR_CPU)}, *out[2];
    cr_graph *graph = cr_jit_trace_function(add_both, NULL, x, 2, NULL, 2, NULL, 0, .dynamic_batch = true);
    assert_cr_ok();
    cr_tensor *uneven[] = {x[0], cr_ones(CR_F32, CR_SHAPE(4, 3), CR_CPU)};
    assert_false(cr_jit_run(graph, uneven, 2, out, 2));
    assert_cr_error(CR_ERROR_SHAPE, "input 1");
    cr_jit_free(graph);
    assert_null(cr_jit_trace_function(add_both, NULL, uneven, 2, NULL, 2, NULL, 0, .dynamic_batch = true));
    cr_clear_error();
    assert_null(cr_jit_trace_function(add_both, NULL, x, 2, NULL, 2, NULL, 0, .dynamic = "0.7=n"));
    assert_cr_error(CR_ERROR_ARGUMENT, "INPUT.DIM=NAME");
}

/* ---------------------------------------------------------------- what is frozen */
FUNCTION(decides_by_value) {
    UNUSED;
    return (out[0] = cr_item(cr_sum(in[0])) > 0 ? cr_exp(in[0]) : cr_neg(in[0])) != NULL;
}
FUNCTION(writes_input) {
    UNUSED;
    return (out[0] = cr_add_scalar_(in[0], 1)) != NULL;
}
FUNCTION(fails) {
    UNUSED;
    return cr_matmul(in[0], cr_ones(CR_F32, CR_SHAPE(9, 9), CR_CPU)) != NULL;
}
FUNCTION(forgets_result) {
    UNUSED;
    return true;
}
FUNCTION(traces_inside) {
    UNUSED;
    return cr_jit_trace_function(constants, NULL, in, 1, NULL, 1, NULL, 0) != NULL;
}
static void frozen_ways_are_told_of(void **state) {
    (void)state;
    cr_tensor *x = cr_ones(CR_F32, CR_SHAPE(4), CR_CPU);
    cr_graph *graph = cr_jit_trace_function(decides_by_value, NULL, &x, 1, NULL, 1, NULL, 0);
    assert_int_equal(cr_jit_warning_count(graph), 1);
    assert_non_null(strstr(cr_jit_warning(graph, 0), "item"));
    cr_jit_free(graph);
    graph = cr_jit_trace_function(writes_input, NULL, &x, 1, NULL, 1, NULL, 0);
    assert_int_equal(cr_jit_warning_count(graph), 1);
    cr_tensor *five = cr_full(CR_F32, CR_SHAPE(4), 5, CR_CPU);
    assert_true(cr_item(cr_sum(cr_jit_forward(graph, five))) == 24 && cr_item(cr_sum(five)) == 20);
    cr_jit_free(graph);
    assert_null(cr_jit_trace_function(fails, NULL, &x, 1, NULL, 1, NULL, 0));
    assert_cr_error(CR_ERROR_SHAPE, "matmul");
    assert_null(cr_jit_trace_function(forgets_result, NULL, &x, 1, (cr_tensor *[1]){NULL}, 1, NULL, 0));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
    assert_null(cr_jit_trace_function(traces_inside, NULL, &x, 1, NULL, 1, NULL, 0));
    assert_cr_error(CR_ERROR_STATE, "trace");
    assert_same(cr_neg(x), cr_neg(x)); /* the thread is free again */
}

/* ---------------------------------------------------------------- threads */
typedef struct many {
    cr_graph *graph;
    cr_tensor *x[4], *y[4];
    int first;
    bool same;
} many;
static void *run_often(void *argument) {
    many *m = argument;
    m->same = true;
    CR_SCOPE {
        for (int i = 0; i < 40; i++) {
            const int k = (m->first + i) % 4;
            CR_SCOPE {
                cr_tensor *y = cr_jit_forward(m->graph, m->x[k]);
                m->same &= y && !memcmp(cr_data(y), cr_data(m->y[k]), (size_t)cr_numel(y) * 4);
            }
        }
    }
    return NULL;
}
static void any_number_of_threads_run_one_graph(void **state) {
    (void)state;
    enum { THREADS = 6 };
    pthread_t threads[THREADS];
    many jobs[THREADS], one = {.first = 0};
    cr_nn_module *net =
        cr_nn_eval(cr_nn_sequential(cr_nn_linear(8, 32), cr_nn_gelu(), cr_nn_linear(32, 4), cr_nn_softmax(1)));
    one.graph = cr_jit_trace(net, cr_randn(CR_F32, CR_SHAPE(2, 8), CR_CPU), .dynamic_batch = true);
    for (int k = 0; k < 4; k++) {
        one.x[k] = cr_randn(CR_F32, CR_SHAPE(k + 1, 8), CR_CPU);
        CR_NO_GRAD { one.y[k] = cr_nn_forward(net, one.x[k]); }
    }
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = one;
        jobs[i].first = i;
        pthread_create(&threads[i], NULL, run_often, &jobs[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(jobs[i].same);
    }
    cr_jit_free(one.graph);
    cr_nn_free(net);
}

/* ---------------------------------------------------------------- numbers that follow from sizes */
FUNCTION(mean_by_hand) {
    UNUSED;
    return (out[0] = cr_div_scalar(cr_sum(in[0]), (double)cr_numel(in[0]))) != NULL;
}
FUNCTION(times_a_fraction) {
    UNUSED;
    return (out[0] = cr_mul_scalar(in[0], 1.0 / (double)cr_size(in[0], 0))) != NULL;
}

/* A constant that the host makes from a size is another for each size: the graph computes it, or says that it cannot. */
static void constants_follow_sizes(void **state) {
    (void)state;
    CR_SCOPE {
        cr_tensor *x = cr_randn(CR_F32, CR_SHAPE(3, 4), CR_CPU), *other = cr_randn(CR_F32, CR_SHAPE(7, 4), CR_CPU),
                  *plain, *run;
        cr_graph *graph = cr_jit_trace_function(mean_by_hand, NULL, &x, 1, NULL, 1, NULL, 0, .dynamic_batch = true);
        assert_cr_ok();
        assert_true(mean_by_hand(NULL, &other, 1, &plain, 1) && cr_jit_run(graph, &other, 1, &run, 1));
        assert_true(cr_item(cr_amax(cr_abs(cr_sub(plain, run)))) < 1e-6);
        cr_jit_free(graph);
        assert_null(cr_jit_trace_function(times_a_fraction, NULL, &x, 1, NULL, 1, NULL, 0, .dynamic_batch = true));
        assert_cr_error(CR_ERROR_UNSUPPORTED, "is another for other sizes");
    }
}

/* Five strided layers in a row: sizes near the example's do not settle what each of them rounds. */
static void rounded_sizes_hold_far_from_the_example(void **state) {
    (void)state;
    CR_SCOPE {
        cr_nn_module *net = cr_nn_sequential_of(NULL, 0);
        for (int i = 0; i < 5; i++)
            cr_nn_append(net, cr_nn_conv2d(1, 1, 3, .stride = 2, .padding = 1));
        cr_graph *graph =
            cr_jit_trace(net, cr_zeros(CR_F32, CR_SHAPE(1, 1, 41, 49), CR_CPU), .dynamic = "0.2=height 0.3=width");
        for (int64_t size = 33; size < 140; size += 7) {
            cr_tensor *x = cr_randn(CR_F32, CR_SHAPE(1, 1, size, 171 - size), CR_CPU);
            cr_tensor *plain = cr_nn_forward(net, x), *run = cr_jit_forward(graph, x);
            assert_cr_ok();
            assert_true(cr_shape_equal(cr_shape_of(plain), cr_shape_of(run)));
            assert_true(cr_item(cr_amax(cr_abs(cr_sub(plain, run)))) < 1e-5);
        }
        cr_jit_free(graph);
        cr_nn_free(net);
    }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, note_memory, check_memory)
int main(void) {
    setenv("CR_CC", "none", 1); /* interpreted fused nodes have the ops' bits */
    const struct CMUnitTest tests[] = {
        TEST(constants_follow_sizes),
        TEST(rounded_sizes_hold_far_from_the_example),
        TEST(views_and_writes_become_values),
        TEST(random_ops_stay_random),
        TEST(inputs_may_share_memory),
        TEST(what_is_captured_lives_between_runs),
        TEST(modules_run_in_both_modes),
        TEST(parameters_that_change_are_seen),
        TEST(an_lstm_gives_the_same),
        TEST(several_sizes_may_differ),
        TEST(images_of_any_size_pass_strided_convolutions),
        TEST(one_name_is_one_size),
        TEST(frozen_ways_are_told_of),
        TEST(any_number_of_threads_run_one_graph),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
