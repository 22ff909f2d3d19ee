/* Attention layers: against plain loops in f64, and their caches against whole sequences, eager and traced. */
#include "tests/unit/testing.h"
#include "tests/unit/memory_checks.h"

#include <math.h>

enum { WIDTH = 24, HEADS = 3, EACH = WIDTH / HEADS, BATCH = 2, LENGTH = 11 };

static void assert_close(cr_tensor *given, cr_tensor *expected, double tolerance) {
    assert_cr_ok();
    assert_true(cr_shape_equal(cr_shape_of(given), cr_shape_of(expected)));
    assert_true(cr_numel(given) > 0);
    assert_true(cr_item(cr_amax(cr_abs(cr_sub(given, expected)), .dims = CR_ALL_DIMS)) < tolerance);
}

/* ---------------------------------------------------------------- against plain loops */
/* y[out] = weight[out, in] x + bias of one word. */
static void project(const double *x, const double *weight, const double *bias, int out, double *y) {
    for (int o = 0; o < out; o++) {
        y[o] = bias ? bias[o] : 0;
        for (int i = 0; i < WIDTH; i++)
            y[o] += weight[o * WIDTH + i] * x[i];
    }
}

static void attention_loops(cr_nn_module *net, const double *x, bool is_causal, double *y) {
    static double qkv[LENGTH][3 * WIDTH];
    const double *weight = cr_data(cr_nn_tensor(net, "in_proj_weight")),
                 *bias = cr_data(cr_nn_tensor(net, "in_proj_bias"));
    for (int t = 0; t < LENGTH; t++)
        project(x + t * WIDTH, weight, bias, 3 * WIDTH, qkv[t]);
    for (int t = 0; t < LENGTH; t++) {
        double mixed[WIDTH] = {0};
        for (int h = 0; h < HEADS; h++) {
            double weights[LENGTH], total = 0;
            const int seen = is_causal ? t + 1 : LENGTH;
            for (int s = 0; s < seen; s++) {
                double score = 0;
                for (int e = h * EACH; e < (h + 1) * EACH; e++)
                    score += qkv[t][e] * qkv[s][WIDTH + e];
                total += weights[s] = exp(score / sqrt(EACH));
            }
            for (int s = 0; s < seen; s++)
                for (int e = h * EACH; e < (h + 1) * EACH; e++)
                    mixed[e] += weights[s] / total * qkv[s][2 * WIDTH + e];
        }
        project(mixed, cr_data(cr_nn_tensor(net, "out_proj.weight")), cr_data(cr_nn_tensor(net, "out_proj.bias")),
                WIDTH, y + t * WIDTH);
    }
}

static void heads_are_mixed_as_loops_do(void **state) {
    (void)state;
    for (int is_causal = 0; is_causal < 2; is_causal++) {
        cr_nn_module *net = cr_nn_multihead_attention(WIDTH, HEADS, .is_causal = is_causal, .dtype = CR_F64);
        cr_nn_init_uniform_(cr_nn_tensor(net, "in_proj_bias"), -1, 1);
        cr_nn_init_uniform_(cr_nn_tensor(net, "out_proj.bias"), -1, 1);
        cr_tensor *x = cr_randn(CR_F64, CR_SHAPE(BATCH, LENGTH, WIDTH), CR_CPU), *expected = cr_empty_like(x);
        for (int b = 0; b < BATCH; b++)
            attention_loops(net, (const double *)cr_data(x) + b * LENGTH * WIDTH, is_causal,
                            (double *)cr_data(expected) + b * LENGTH * WIDTH);
        assert_close(cr_nn_forward(net, x), expected, 1e-12);
        if (!is_causal) assert_close(cr_nn_multihead_attention_forward(net, x, x, x, NULL), expected, 1e-12);
        cr_nn_free(net);
    }
}

static void queries_may_meet_other_words_under_a_mask(void **state) {
    (void)state;
    cr_nn_module *net = cr_nn_multihead_attention(WIDTH, HEADS, .bias = false, .dtype = CR_F64);
    cr_tensor *x = cr_randn(CR_F64, CR_SHAPE(1, 4, WIDTH), CR_CPU),
              *others = cr_randn(CR_F64, CR_SHAPE(1, 9, WIDTH), CR_CPU);
    cr_tensor *seen = cr_lt_scalar(cr_arange(CR_I64, 0, 9, 1, CR_CPU), 5);
    cr_tensor *five = cr_narrow(others, 1, 0, 5);
    assert_close(cr_nn_multihead_attention_forward(net, x, others, others, seen),
                 cr_nn_multihead_attention_forward(net, x, five, five, NULL), 1e-12);
    cr_nn_free(net);
}

static void layers_put_norms_before_or_behind(void **state) {
    (void)state;
    for (int norm_first = 0; norm_first < 2; norm_first++) {
        cr_nn_module *net =
            cr_nn_transformer_layer(WIDTH, HEADS, .norm_first = norm_first, .gelu = norm_first, .dtype = CR_F64);
        cr_tensor *x = cr_randn(CR_F64, CR_SHAPE(BATCH, LENGTH, WIDTH), CR_CPU);
#define PART(name, t) cr_nn_forward(cr_nn_find(net, name), t)
        cr_tensor *y = cr_add(x, PART("self_attn", norm_first ? PART("norm1", x) : x));
        if (!norm_first) y = PART("norm1", y);
        cr_tensor *inner = PART("linear1", norm_first ? PART("norm2", y) : y);
        y = cr_add(y, PART("linear2", norm_first ? cr_gelu(inner) : cr_relu(inner)));
        assert_close(cr_nn_forward(net, x), norm_first ? y : PART("norm2", y), 1e-12);
#undef PART
        assert_int_equal(cr_nn_parameters(net).count, 12);
        cr_nn_free(net);
    }
}

/* ---------------------------------------------------------------- caches */
static cr_nn_module *causal_net(cr_dtype dtype) {
    cr_nn_module *net = cr_nn_sequential(
        cr_nn_transformer_layer(WIDTH, HEADS, .is_causal = true, .norm_first = true, .gelu = true, .dtype = dtype),
        cr_nn_transformer_layer(WIDTH, HEADS, .is_causal = true, .dtype = dtype));
    return cr_nn_eval(net);
}

typedef cr_tensor *(*run_function)(void *net, cr_tensor *x);
static cr_tensor *run_module(void *net, cr_tensor *x) { return cr_nn_forward(net, x); }
static cr_tensor *run_graph(void *graph, cr_tensor *x) { return cr_jit_forward(graph, x); }

/* The words in parts of these lengths, one after the other. */
static cr_tensor *in_parts(run_function run, void *net, cr_tensor *x, const int *lengths, int count) {
    cr_tensor *parts[LENGTH];
    int64_t at = 0;
    for (int i = 0; i < count; at += lengths[i++])
        parts[i] = run(net, cr_narrow(x, 1, at, lengths[i]));
    assert_int_equal(at, cr_size(x, 1));
    return cr_cat(parts, count, 1);
}

static const int prompt_then_words[] = {4, 1, 1, 1, 3, 1}, words[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

static void a_cache_gives_what_the_whole_sequence_gives(void **state) {
    (void)state;
    static const cr_dtype dtypes[] = {CR_F64, CR_F32};
    for (int i = 0; i < 2; i++)
        CR_NO_GRAD {
            const double tolerance = dtypes[i] == CR_F64 ? 1e-12 : 1e-5;
            cr_nn_module *net = causal_net(dtypes[i]);
            cr_tensor *x = cr_randn(dtypes[i], CR_SHAPE(BATCH, LENGTH, WIDTH), CR_CPU), *whole = cr_nn_forward(net, x);
            assert_null(cr_nn_cache_position(net));
            const int state_count = cr_nn_state(net).count;
            assert_true(cr_nn_cache_begin(net, BATCH, LENGTH));
            assert_int_equal(cr_nn_state(net).count, state_count);
            assert_close(in_parts(run_module, net, x, prompt_then_words, 6), whole, tolerance);
            assert_int_equal(cr_item_i64(cr_nn_cache_position(net)), LENGTH);
            assert_true(cr_nn_cache_rewind(net, 0));
            assert_close(in_parts(run_module, net, x, words, LENGTH), whole, tolerance);
            assert_true(cr_nn_cache_rewind(net, 7)); /* the last four once more */
            assert_close(cr_nn_forward(net, cr_narrow(x, 1, 7, 4)), cr_narrow(whole, 1, 7, 4), tolerance);
            cr_nn_cache_end(net);
            assert_close(cr_nn_forward(net, x), whole, tolerance);
            cr_nn_free(net);
        }
}

static void one_graph_takes_the_prompt_and_the_words(void **state) {
    (void)state;
    CR_NO_GRAD {
        cr_nn_module *net = causal_net(CR_F32);
        cr_tensor *x = cr_randn(CR_F32, CR_SHAPE(BATCH, LENGTH, WIDTH), CR_CPU), *whole = cr_nn_forward(net, x);
        assert_true(cr_nn_cache_begin(net, BATCH, LENGTH));
        cr_graph *graph = cr_jit_trace(net, cr_narrow(x, 1, 0, 3), .dynamic = "0.1=length", .freeze = true);
        assert_cr_ok();
        assert_int_equal(cr_jit_warning_count(graph), 0);
        for (int round = 0; round < 2; round++) {
            assert_true(cr_nn_cache_rewind(net, 0));
            assert_close(in_parts(run_graph, graph, x, round ? words : prompt_then_words, round ? LENGTH : 6), whole,
                         1e-5);
        }
        assert_int_equal(cr_item_i64(cr_nn_cache_position(net)), LENGTH);
        assert_null(cr_jit_forward(graph, cr_narrow(x, 1, 0, 1)));
        assert_cr_error(CR_ERROR_STATE, "1 words behind 11 do not fit into caches for 11");
        cr_jit_free(graph);
        cr_nn_free(net);
    }
}

static void caches_say_what_they_do_not_take(void **state) {
    (void)state;
    cr_nn_module *net = causal_net(CR_F32), *open = cr_nn_multihead_attention(WIDTH, HEADS);
    cr_tensor *x = cr_randn(CR_F32, CR_SHAPE(BATCH, 5, WIDTH), CR_CPU);
    assert_false(cr_nn_cache_begin(open, BATCH, 5));
    assert_cr_error(CR_ERROR_ARGUMENT, "is_causal");
    assert_false(cr_nn_cache_begin(net, 0, 5));
    assert_cr_error(CR_ERROR_ARGUMENT, "of 0 sequences");
    assert_true(cr_nn_cache_begin(net, BATCH, 4));
    assert_null(cr_nn_forward(net, x));
    assert_cr_error(CR_ERROR_STATE, "5 words behind 0 do not fit into caches for 4");
    assert_true(cr_nn_cache_begin(net, 1, 9));
    assert_null(cr_nn_forward(net, x));
    assert_cr_error(CR_ERROR_SHAPE, "the caches are");
    assert_false(cr_nn_cache_rewind(net, 1));
    assert_cr_error(CR_ERROR_ARGUMENT, "holds 0");
    assert_null(cr_nn_forward(cr_nn_train(net, true), x));
    assert_cr_error(CR_ERROR_STATE, "cr_nn_eval");
    assert_null(cr_nn_forward(open, cr_narrow(x, 2, 0, 4)));
    assert_cr_error(CR_ERROR_SHAPE, "takes [batch, length, 24]");
    assert_null(cr_nn_multihead_attention(10, 3));
    assert_cr_error(CR_ERROR_ARGUMENT, "3 heads");
    assert_null(cr_nn_transformer_layer(10, 3));
    assert_cr_error(CR_ERROR_ARGUMENT, "3 heads");
    cr_nn_free(open);
    cr_nn_free(net);
}

#define TEST(name) cmocka_unit_test_teardown(name, nothing_is_left)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(heads_are_mixed_as_loops_do),
        TEST(queries_may_meet_other_words_under_a_mask),
        TEST(layers_put_norms_before_or_behind),
        TEST(a_cache_gives_what_the_whole_sequence_gives),
        TEST(one_graph_takes_the_prompt_and_the_words),
        TEST(caches_say_what_they_do_not_take),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
