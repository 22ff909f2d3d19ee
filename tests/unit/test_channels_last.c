/* Layers on channels-last tensors against plain loops in f64: each way in which a convolution is computed, the pools, and
 * that neither threads nor neighbours in the batch change a bit. And the pass that makes them, against eager runs.
 * Labels: threads */
#include "tests/unit/testing.h"

#include <math.h>
#include <string.h>

#include "jit/pass.h"
#include "ops/op.h"

typedef struct geometry {
    const char *name;
    int64_t batch, height, width, channels, features, groups, kernel[2];
    int stride, padding, dilation;
    double tolerance; /* of the greatest value */
} geometry;

#define DIRECT 2e-6
#define FOUR   4e-6 /* F(4×4, 3×3) loses two bits */

static const geometry geometries[] = {
    {"1x1", 3, 5, 7, 20, 26, 1, {1, 1}, 1, 0, 1, DIRECT},
    {"1x1, deep, few pixels", 1, 7, 7, 700, 40, 1, {1, 1}, 1, 0, 1, DIRECT},
    {"1x1, deep, one vector of features", 1, 7, 7, 1100, 16, 1, {1, 1}, 1, 0, 1, DIRECT},
    {"1x1, deep, one vector and a half", 1, 9, 11, 1100, 23, 1, {1, 1}, 1, 0, 1, DIRECT},
    {"1x1, many pixels", 2, 31, 29, 40, 72, 1, {1, 1}, 1, 0, 1, DIRECT},
    {"1x1, one pixel", 1, 1, 1, 130, 33, 1, {1, 1}, 1, 0, 1, DIRECT},
    {"1x1, stride 2", 2, 9, 8, 17, 16, 1, {1, 1}, 2, 0, 1, DIRECT},
    {"picture", 2, 21, 18, 3, 19, 1, {7, 7}, 2, 3, 1, DIRECT},
    {"one channel", 2, 12, 11, 1, 8, 1, {3, 3}, 1, 1, 1, DIRECT},
    {"few channels, dilated", 2, 12, 11, 5, 8, 1, {3, 3}, 1, 2, 2, DIRECT},
    {"patches", 1, 32, 32, 3, 24, 1, {8, 8}, 8, 0, 1, DIRECT},
    {"3x3, stride 2", 1, 15, 15, 40, 48, 1, {3, 3}, 2, 1, 1, DIRECT},
    {"3x3, dilated", 1, 17, 16, 64, 33, 1, {3, 3}, 1, 3, 3, DIRECT},
    {"3x3, odd channels", 2, 10, 9, 33, 38, 1, {3, 3}, 1, 1, 1, DIRECT},
    {"wide kernel, many taps", 1, 24, 24, 16, 16, 1, {9, 9}, 1, 4, 1, DIRECT},
    {"1x5", 1, 9, 30, 24, 16, 1, {1, 5}, 1, 2, 1, DIRECT},
    {"large padding", 1, 4, 4, 16, 16, 1, {3, 3}, 1, 3, 1, DIRECT},
    {"Winograd of 4", 1, 29, 31, 64, 96, 1, {3, 3}, 1, 1, 1, FOUR},
    {"Winograd of 4, batch", 5, 14, 13, 128, 64, 1, {3, 3}, 1, 1, 1, FOUR},
    {"Winograd of 4, no padding", 2, 18, 15, 64, 64, 1, {3, 3}, 1, 0, 1, FOUR},
    {"Winograd of 4, deep", 1, 16, 16, 512, 64, 1, {3, 3}, 1, 1, 1, FOUR},
    {"Winograd of 4, small images", 9, 5, 3, 64, 64, 1, {3, 3}, 1, 1, 1, FOUR},
    {"Winograd of 4, many tiles", 1, 60, 62, 64, 64, 1, {3, 3}, 1, 1, 1, FOUR},
    {"Winograd of 4, stride 2", 2, 29, 31, 64, 96, 1, {3, 3}, 2, 1, 1, FOUR},
    {"Winograd of 4, stride 2, even sizes", 3, 28, 32, 128, 64, 1, {3, 3}, 2, 1, 1, FOUR},
    {"Winograd of 4, stride 2, no padding", 1, 35, 34, 64, 64, 1, {3, 3}, 2, 0, 1, FOUR},
    {"Winograd of 4, stride 2, deep", 2, 17, 33, 512, 64, 1, {3, 3}, 2, 1, 1, FOUR},
    {"Winograd of 4, stride 2, 4x4", 2, 24, 21, 64, 80, 1, {4, 4}, 2, 1, 1, FOUR},
    {"Winograd of 4, stride 2, 5x5", 2, 24, 27, 64, 64, 1, {5, 5}, 2, 2, 1, FOUR},
    {"Winograd of 4, 2x2", 1, 19, 18, 64, 64, 1, {2, 2}, 1, 0, 1, FOUR},
    {"Winograd of 2, few tiles", 1, 7, 7, 512, 512, 1, {3, 3}, 1, 1, 1, FOUR},
    {"depthwise", 2, 9, 11, 24, 24, 24, {3, 3}, 1, 1, 1, DIRECT},
    {"depthwise, stride 2", 2, 16, 15, 40, 40, 40, {3, 3}, 2, 1, 1, DIRECT},
    {"depthwise, whole vectors", 2, 7, 14, 48, 48, 48, {3, 3}, 1, 1, 1, DIRECT},
    {"depthwise, whole vectors, overlapping", 1, 5, 7, 16, 16, 16, {3, 3}, 1, 1, 1, DIRECT},
    {"depthwise, whole vectors, one group", 1, 4, 4, 32, 32, 32, {3, 3}, 1, 1, 1, DIRECT},
    {"depthwise, whole vectors, no padding", 1, 8, 9, 16, 16, 16, {3, 3}, 1, 0, 1, DIRECT},
    {"depthwise, whole vectors, padding 2", 1, 8, 9, 16, 16, 16, {3, 3}, 1, 2, 1, DIRECT},
    {"depthwise, whole vectors, stride 2", 1, 10, 12, 32, 32, 32, {3, 3}, 2, 1, 1, DIRECT},
    {"depthwise, whole vectors, stride 2, odd", 1, 9, 11, 32, 32, 32, {3, 3}, 2, 1, 1, DIRECT},
    {"depthwise, odd channels", 1, 9, 9, 13, 13, 13, {3, 3}, 1, 1, 1, DIRECT},
    {"depthwise, narrow", 1, 9, 3, 16, 16, 16, {3, 3}, 1, 1, 1, DIRECT},
    {"depthwise, 5x5", 1, 9, 9, 16, 16, 16, {5, 5}, 1, 2, 1, DIRECT},
    {"depthwise, 9x9", 1, 19, 17, 10, 10, 10, {9, 9}, 1, 4, 1, DIRECT},
    {"depthwise, dilated", 1, 12, 12, 16, 16, 16, {3, 3}, 1, 2, 2, DIRECT},
    {"depthwise, large padding", 1, 3, 3, 8, 8, 8, {3, 3}, 1, 4, 1, DIRECT},
};
enum { GEOMETRIES = sizeof geometries / sizeof geometries[0] };

static cr_tensor *noise(cr_shape shape, unsigned seed) {
    cr_tensor *t = cr_empty(CR_F32, shape, CR_CPU);
    for (int64_t i = 0; i < cr_numel(t); i++) {
        seed = seed * 1664525u + 1013904223u;
        cr_data_f32(t)[i] = (float)(seed >> 8) / 8388608.0f - 1;
    }
    return t;
}

static int64_t out_size(const geometry *g, int d) {
    const int64_t in = d ? g->width : g->height;
    return (in + 2 * g->padding - g->dilation * (g->kernel[d] - 1) - 1) / g->stride + 1;
}

static cr_shape input_of(const geometry *g) { return CR_SHAPE(g->batch, g->height, g->width, g->channels); }
static cr_shape weight_of(const geometry *g) {
    return CR_SHAPE(g->features, g->channels / g->groups, g->kernel[0], g->kernel[1]);
}
static cr_convolution_options options_of(const geometry *g) {
    return (cr_convolution_options){.size = sizeof(cr_convolution_options),
                                    .strides = CR_DIMS(g->stride),
                                    .paddings = CR_DIMS(g->padding),
                                    .dilations = CR_DIMS(g->dilation),
                                    .groups = g->groups};
}

static cr_tensor *run(const geometry *g, cr_tensor *x, cr_tensor *w, cr_tensor *bias) {
    const cr_convolution_options options = options_of(g);
    cr_tensor *inputs[] = {x, w, bias};
    return cr_run(cr_op_find("channels_last_convolution"), inputs, 3, &options);
}

/* One result by its formula. */
static double result_at(const geometry *g, const float *x, const float *w, const float *bias, int64_t n, int64_t oh,
                        int64_t ow, int64_t k) {
    const int64_t channels = g->channels / g->groups, group = k / (g->features / g->groups);
    double sum = bias[k];
    for (int64_t a = 0; a < g->kernel[0]; a++)
        for (int64_t b = 0; b < g->kernel[1]; b++) {
            const int64_t h = oh * g->stride + a * g->dilation - g->padding,
                          v = ow * g->stride + b * g->dilation - g->padding;
            if (h < 0 || h >= g->height || v < 0 || v >= g->width) continue;
            for (int64_t c = 0; c < channels; c++)
                sum += (double)x[((n * g->height + h) * g->width + v) * g->channels + group * channels + c] *
                       w[((k * channels + c) * g->kernel[0] + a) * g->kernel[1] + b];
        }
    return sum;
}

static void each_way_equals_plain_loops(void **state) {
    (void)state;
    int64_t compared = 0;
    for (int i = 0; i < GEOMETRIES; i++)
        CR_SCOPE {
            const geometry *g = &geometries[i];
            cr_tensor *x = noise(input_of(g), 1), *w = noise(weight_of(g), 2), *bias = noise(CR_SHAPE(g->features), 3),
                      *y = run(g, x, w, bias);
            if (!y) fail_msg("%s: %s", g->name, cr_last_error()->message);
            const cr_shape shape = cr_shape_of(y);
            assert_true(shape.at[1] == out_size(g, 0) && shape.at[2] == out_size(g, 1) && shape.at[3] == g->features);
            const double greatest = cr_item(cr_amax(cr_abs(y)));
            const float *made = cr_data_f32(y);
            for (int64_t at = 0; at < cr_numel(y); at += 1 + at % 3) {
                const int64_t k = at % g->features, ow = at / g->features % shape.at[2],
                              oh = at / g->features / shape.at[2] % shape.at[1],
                              n = at / g->features / shape.at[2] / shape.at[1];
                const double expected = result_at(g, cr_data_f32(x), cr_data_f32(w), cr_data_f32(bias), n, oh, ow, k);
                if (!(fabs(made[at] - expected) <= g->tolerance * greatest))
                    fail_msg("%s: element %lld is %.9g, expected %.9g", g->name, (long long)at, (double)made[at],
                             expected);
                compared++;
            }
        }
    print_message("%lld elements of %d geometries\n", (long long)compared, (int)GEOMETRIES);
    assert_true(compared > 50000);
}

/* Each way of sharing the work out gives the same bits. */
static void threads_change_no_bit(void **state) {
    (void)state;
    static const int threads[] = {1, 2, 5, 16};
    enum { RUNS = sizeof threads / sizeof threads[0] };
    const int before = cr_num_threads();
    for (int i = 0; i < GEOMETRIES; i++)
        CR_SCOPE {
            const geometry *g = &geometries[i];
            cr_tensor *x = noise(input_of(g), 1), *w = noise(weight_of(g), 2), *bias = noise(CR_SHAPE(g->features), 3),
                      *y[RUNS];
            for (int k = 0; k < RUNS; k++) {
                cr_set_num_threads(threads[k]);
                y[k] = run(g, x, w, bias);
                if (memcmp(cr_data_f32(y[0]), cr_data_f32(y[k]), (size_t)cr_numel(y[0]) * sizeof(float)) != 0)
                    fail_msg("%s: results depend on the number of threads", g->name);
            }
            cr_set_num_threads(before);
        }
}

/* ---------------------------------------------------------------- pools */
static void pools_equal_those_of_channels_first(void **state) {
    (void)state;
    static const struct {
        int64_t height, width, channels;
        int kernel, stride, padding, dilation;
        bool ceil_mode;
    } pools[] = {{12, 13, 24, 3, 2, 1, 1, false}, {9, 9, 13, 2, 2, 0, 1, true},  {7, 7, 40, 7, 1, 0, 1, false},
                 {11, 10, 8, 3, 1, 1, 2, false},  {20, 20, 6, 9, 3, 4, 1, true}, {5, 6, 16, 3, 2, 1, 1, true}};
    int compared = 0;
    for (size_t i = 0; i < sizeof pools / sizeof pools[0]; i++)
        CR_SCOPE {
            cr_tensor *x = noise(CR_SHAPE(2, pools[i].height, pools[i].width, pools[i].channels), 7),
                      *planes = cr_contiguous(cr_permute(x, CR_DIMS(0, 3, 1, 2)));
            cr_data_f32(x)[40] = cr_data_f32(
                planes)[40 % pools[i].channels * pools[i].height * pools[i].width + 40 / pools[i].channels] = NAN;
            const cr_dims kernel = CR_DIMS(pools[i].kernel, pools[i].kernel), stride = CR_DIMS(pools[i].stride),
                          padding = CR_DIMS(pools[i].padding);
            const cr_max_pool_options max = {sizeof max,        kernel, stride, padding, CR_DIMS(pools[i].dilation),
                                             pools[i].ceil_mode};
            const cr_avg_pool_options avg = {sizeof avg,         kernel,     stride,        padding,
                                             pools[i].ceil_mode, i % 2 == 0, i == 3 ? 5 : 0};
            cr_tensor *greatest[2];
            assert_true(cr_run_all(cr_op_find("max_pool"), &planes, 1, &max, greatest, 2));
            cr_tensor *expected[] = {greatest[0], cr_run(cr_op_find("avg_pool"), &planes, 1, &avg)};
            cr_tensor *made[] = {cr_run(cr_op_find("channels_last_max_pool"), &x, 1, &max),
                                 cr_run(cr_op_find("channels_last_avg_pool"), &x, 1, &avg)};
            for (int k = 0; k < 2; k++) {
                cr_tensor *back = cr_permute(made[k], CR_DIMS(0, 3, 1, 2));
                assert_true(back && expected[k] && cr_shape_equal(cr_shape_of(back), cr_shape_of(expected[k])));
                cr_tensor *plain = cr_contiguous(back);
                for (int64_t at = 0; at < cr_numel(plain); at++, compared++) {
                    const float a = cr_data_f32(plain)[at], b = cr_data_f32(expected[k])[at];
                    if (!(fabsf(a - b) <= 1e-6f * (1 + fabsf(b))) && !(isnan(a) && isnan(b)))
                        fail_msg("pool %d, %s: element %lld is %g, expected %g", (int)i, k ? "mean" : "greatest",
                                 (long long)at, (double)a, (double)b);
                }
            }
        }
    assert_true(compared > 5000);
}

/* ---------------------------------------------------------------- errors */
static void bad_calls_are_errors(void **state) {
    (void)state;
    CR_SCOPE {
        cr_tensor *x = noise(CR_SHAPE(1, 6, 6, 8), 1), *w = noise(CR_SHAPE(4, 8, 3, 3), 2), *y;
        const geometry grouped = {.channels = 8, .features = 4, .groups = 2, .stride = 1, .dilation = 1},
                       plain = {.channels = 8, .features = 4, .groups = 1, .stride = 1, .dilation = 1};
        y = run(&grouped, x, noise(CR_SHAPE(4, 4, 3, 3), 3), NULL);
        assert_true(!y && cr_last_error()->code == CR_ERROR_UNSUPPORTED);
        cr_clear_error();
        y = run(&plain, cr_cast(x, CR_F64), w, NULL);
        assert_true(!y);
        cr_clear_error();
        y = run(&plain, noise(CR_SHAPE(1, 6, 6, 7), 1), w, NULL);
        assert_true(!y && cr_last_error()->code == CR_ERROR_SHAPE);
        cr_clear_error();
        y = run(&plain, x, w, noise(CR_SHAPE(5), 1));
        assert_true(!y && cr_last_error()->code == CR_ERROR_SHAPE);
        cr_clear_error();
    }
}

/* ---------------------------------------------------------------- the pass */
typedef struct network {
    cr_tensor *first, *depthwise, *point, *branch, *wide, *scale;
} network;

/* What the pass knows: convolutions, pointwise ops, both pools, a join, the mean over pixels. */
static bool run_network(void *context, cr_tensor *const *in, int input_count, cr_tensor **out, int output_count) {
    const network *n = context;
    (void)input_count, (void)output_count;
    cr_tensor *x = cr_relu(cr_conv2d(in[0], n->first, NULL, .stride = 2, .padding = 1));
    x = cr_max_pool2d(x, 3, .stride = 2, .padding = 1);
    cr_tensor *a = cr_relu(cr_conv2d(x, n->depthwise, NULL, .padding = 1, .groups = 16)),
              *b = cr_avg_pool2d(x, 3, .stride = 1, .padding = 1);
    a = cr_mul(cr_conv2d(a, n->point, NULL), n->scale);
    b = cr_sigmoid(cr_conv2d(b, n->branch, NULL));
    x = cr_relu(cr_conv2d(cr_cat((cr_tensor *[]){a, b}, 2, 1), n->wide, NULL, .padding = 1));
    out[0] = cr_mean(x, .dims = CR_DIMS(2, 3));
    out[1] = cr_adaptive_avg_pool2d(cr_add(x, cr_relu(x)), 1, 1);
    out[2] = x;
    return out[0] && out[1] && out[2];
}

static int occurrences(const char *text, const char *word) {
    int count = 0;
    for (const char *at = text; (at = strstr(at, word)); at++)
        count++;
    return count;
}

static void a_network_computes_so_throughout(void **state) {
    (void)state;
    CR_SCOPE {
        network n = {noise(CR_SHAPE(16, 3, 3, 3), 1),  noise(CR_SHAPE(16, 1, 3, 3), 2),
                     noise(CR_SHAPE(24, 16, 1, 1), 3), noise(CR_SHAPE(40, 16, 1, 1), 4),
                     noise(CR_SHAPE(64, 64, 3, 3), 5), noise(CR_SHAPE(24, 1, 1), 6)};
        cr_tensor *x = noise(CR_SHAPE(2, 3, 60, 52), 7), *expected[3], *made[3];
        assert_true(run_network(&n, &x, 1, expected, 3));
        cr_graph *graph = cr_jit_trace_function(run_network, &n, &x, 1, NULL, 3, NULL, 0, .freeze = true);
        assert_non_null(graph);
        char *text = cr_jit_optimized_text(graph, NULL, 0);
        assert_non_null(text);
        assert_int_equal(occurrences(text, "fused_channels_last_convolution("), 3);
        assert_int_equal(occurrences(text, "fused_bottleneck("), 1);
        assert_int_equal(occurrences(text, "channels_last_max_pool("), 1);
        assert_int_equal(occurrences(text, "channels_last_avg_pool("), 2);
        assert_in_range(occurrences(text, " permute("), 1, 4); /* at the ends alone */
        cr_free(text);
        for (int round = 0; round < 2; round++) {
            assert_true(cr_jit_run(graph, &x, 1, made, 3));
            for (int i = 0; i < 3; i++) {
                assert_true(cr_shape_equal(cr_shape_of(made[i]), cr_shape_of(expected[i])));
                const double difference = cr_item(cr_amax(cr_abs(cr_sub(made[i], expected[i])))),
                             greatest = cr_item(cr_amax(cr_abs(expected[i])));
                assert_true(greatest > 0.1);
                if (!(difference <= FOUR * greatest))
                    fail_msg("output %d differs by %g of %g", i, difference, greatest);
            }
            cr_jit_wait();
        }
        cr_jit_free(graph);
    }
}

/* ---------------------------------------------------------------- sums behind a convolution */
typedef struct summed {
    const char *name;
    int64_t batch, height, width, channels, features;
    int kernel;
    bool comes_first, broadcasts; /* the other operand */
    cr_tensor *(*after)(cr_tensor *);
    cr_tensor *weight, *bias;
} summed;

static cr_tensor *as_it_is(cr_tensor *x) { return x; }
static cr_tensor *within(cr_tensor *x) { return cr_clamp(x, -0.5, 0.75); }
static cr_tensor *up_to_six(cr_tensor *x) { return cr_relu6(x); }
static cr_tensor *no_less_than_zero(cr_tensor *x) { return cr_relu(x); }

static bool run_summed(void *context, cr_tensor *const *in, int input_count, cr_tensor **out, int output_count) {
    const summed *s = context;
    (void)input_count, (void)output_count;
    cr_tensor *x = cr_conv2d(in[0], s->weight, s->bias, .padding = s->kernel / 2),
              *other = s->broadcasts ? in[1] : cr_conv2d(in[1], s->weight, NULL, .padding = s->kernel / 2);
    out[0] = s->after(s->comes_first ? cr_add(other, x) : cr_add(x, other));
    return out[0] != NULL;
}

static const summed sums[] = {
    {"residual", 1, 14, 14, 64, 256, 1, false, false, no_less_than_zero},
    {"residual, batch", 3, 28, 28, 32, 96, 1, true, false, no_less_than_zero},
    {"odd features", 2, 9, 7, 20, 43, 1, true, false, as_it_is},
    {"one vector of features", 2, 9, 7, 20, 15, 1, false, false, within},
    {"one vector and a half", 1, 13, 11, 24, 24, 1, false, false, up_to_six},
    {"deep", 1, 7, 7, 1100, 72, 1, false, false, no_less_than_zero},
    {"3x3", 1, 10, 9, 12, 40, 3, true, false, no_less_than_zero},
    {"Winograd", 1, 16, 16, 64, 64, 3, false, false, no_less_than_zero},
    {"Winograd, short tiles", 1, 14, 13, 64, 64, 3, false, false, cr_silu},
    {"Winograd, short tiles in blocks", 3, 30, 29, 64, 64, 3, false, false, cr_silu},
    {"a number for each feature", 1, 14, 14, 32, 48, 1, false, true, no_less_than_zero},
};
enum { SUMS = sizeof sums / sizeof sums[0] };

static void a_sum_joins_a_convolution(void **state) {
    (void)state;
    const int before = cr_num_threads();
    for (int i = 0; i < SUMS; i++)
        CR_SCOPE {
            summed s = sums[i];
            s.weight = noise(CR_SHAPE(s.features, s.channels, s.kernel, s.kernel), 3);
            s.bias = noise(CR_SHAPE(s.features), 4);
            const cr_shape image = CR_SHAPE(s.batch, s.channels, s.height, s.width);
            cr_tensor *in[] = {noise(image, 5), noise(s.broadcasts ? CR_SHAPE(s.features, 1, 1) : image, 6)}, *expected,
                      *made[2];
            assert_true(run_summed(&s, in, 2, &expected, 1));
            cr_graph *graph = cr_jit_trace_function(run_summed, &s, in, 2, NULL, 1, NULL, 0, .freeze = true);
            if (!graph) fail_msg("%s: %s", s.name, cr_last_error()->message);
            for (int threads = 1; threads < 3; threads++) {
                cr_set_num_threads(threads);
                assert_true(cr_jit_run(graph, in, 2, &made[threads - 1], 1));
            }
            cr_set_num_threads(before);
            const double difference = cr_item(cr_amax(cr_abs(cr_sub(made[0], expected)))),
                         greatest = cr_item(cr_amax(cr_abs(expected)));
            if (!(greatest > 0.1) || !(difference <= FOUR * greatest))
                fail_msg("%s: differs by %g of %g", s.name, difference, greatest);
            if (!cr_item(cr_all(cr_eq(made[0], made[1])))) fail_msg("%s: threads change bits", s.name);
            cr_jit_free(graph);
        }
}

/* ---------------------------------------------------------------- bottlenecks */
typedef struct bottleneck {
    const char *name;
    int64_t batch, height, width, channels, hidden, features;
    int stride;
    bool expands, has_bias, adds,
        reads_hidden; /* reads_hidden: the middle is wanted as well, so that nothing is fused */
    cr_tensor *(*first)(cr_tensor *), *(*second)(cr_tensor *);
    cr_tensor *weights[3], *biases[3];
} bottleneck;

static bool run_bottleneck(void *context, cr_tensor *const *in, int input_count, cr_tensor **out, int output_count) {
    const bottleneck *b = context;
    cr_tensor *x = in[0];
    (void)input_count, (void)output_count;
    if (b->expands) x = b->first(cr_conv2d(x, b->weights[0], b->biases[0]));
    x = b->second(
        cr_conv2d(x, b->weights[1], b->biases[1], .stride = b->stride, .padding = 1, .groups = (int)b->hidden));
    if (b->reads_hidden) out[1] = cr_mean(x, .dims = CR_DIMS(2, 3));
    x = cr_conv2d(x, b->weights[2], b->biases[2]);
    out[0] = b->adds ? cr_add(x, in[0]) : cr_relu(x);
    return out[0] != NULL;
}

static const bottleneck bottlenecks[] = {
    {"MobileNetV2's", 1, 30, 30, 24, 144, 24, 1, true, true, true, false, up_to_six, up_to_six},
    {"stride 2", 1, 56, 57, 16, 96, 24, 2, true, true, false, false, up_to_six, up_to_six},
    {"no first layer", 1, 29, 33, 32, 32, 16, 1, false, true, false, false, as_it_is, up_to_six},
    {"no first layer, stride 2", 2, 9, 12, 40, 40, 33, 2, false, false, false, false, as_it_is, as_it_is},
    {"no first layer, whole vectors", 2, 9, 13, 48, 48, 33, 2, false, true, false, false, as_it_is, up_to_six},
    {"odd channels", 3, 11, 7, 13, 27, 13, 1, true, true, true, false, within, no_less_than_zero},
    {"narrow", 2, 1, 4, 8, 24, 8, 1, true, false, true, false, no_less_than_zero, within},
    {"too narrow", 2, 30, 3, 8, 24, 8, 1, true, true, true, false, no_less_than_zero, within},
    {"deep", 4, 7, 7, 300, 600, 40, 1, true, true, false, false, up_to_six, up_to_six},
    {"wide", 1, 28, 230, 8, 16, 20, 1, true, true, false, false, within, within},
    {"the middle is read", 2, 14, 14, 16, 48, 16, 1, true, true, true, true, up_to_six, up_to_six},
};
enum { BOTTLENECKS = sizeof bottlenecks / sizeof bottlenecks[0] };

static void make_bottleneck(bottleneck *b) {
    const cr_shape shapes[] = {CR_SHAPE(b->hidden, b->channels, 1, 1), CR_SHAPE(b->hidden, 1, 3, 3),
                               CR_SHAPE(b->features, b->hidden, 1, 1)};
    for (int i = 0; i < 3; i++) {
        b->weights[i] = noise(shapes[i], 3 + (unsigned)i);
        b->biases[i] = b->has_bias ? noise(CR_SHAPE(shapes[i].at[0]), 6 + (unsigned)i) : NULL;
    }
}

static void a_bottleneck_is_one_node(void **state) {
    (void)state;
    const int before = cr_num_threads();
    int64_t compared = 0;
    for (int i = 0; i < BOTTLENECKS; i++)
        CR_SCOPE {
            bottleneck b = bottlenecks[i];
            const bool fused = !b.reads_hidden && b.width >= 4 * b.stride;
            const int outputs = 1 + b.reads_hidden;
            make_bottleneck(&b);
            cr_tensor *x = noise(CR_SHAPE(b.batch, b.channels, b.height, b.width), 9), *expected[2], *alone[2],
                      *made[2];
            assert_true(run_bottleneck(&b, &x, 1, expected, outputs));
            cr_graph *graph = cr_jit_trace_function(run_bottleneck, &b, &x, 1, NULL, outputs, NULL, 0, .freeze = true);
            char *text = graph ? cr_jit_optimized_text(graph, NULL, 0) : NULL;
            if (!text) fail_msg("%s: %s", b.name, cr_last_error()->message);
            if (occurrences(text, "fused_bottleneck(") != fused) fail_msg("%s: %s", b.name, text);
            cr_free(text);
            cr_set_num_threads(1);
            assert_true(cr_jit_run(graph, &x, 1, alone, outputs));
            const double greatest = cr_item(cr_amax(cr_abs(expected[0])));
            const double difference = cr_item(cr_amax(cr_abs(cr_sub(alone[0], expected[0]))));
            if (!(greatest > 0.1) || !(difference <= FOUR * greatest))
                fail_msg("%s: differs by %g of %g", b.name, difference, greatest);
            compared += cr_numel(expected[0]);
            for (int threads = 2; threads < 6; threads += 3) {
                cr_set_num_threads(threads);
                assert_true(cr_jit_run(graph, &x, 1, made, outputs));
                if (!cr_item(cr_all(cr_eq(made[0], alone[0])))) fail_msg("%s: %d threads change bits", b.name, threads);
            }
            cr_set_num_threads(before);
            cr_jit_free(graph);
        }
    assert_true(compared > 50000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_way_equals_plain_loops),         cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(pools_equal_those_of_channels_first), cmocka_unit_test(bad_calls_are_errors),
        cmocka_unit_test(a_network_computes_so_throughout),    cmocka_unit_test(a_bottleneck_is_one_node),
        cmocka_unit_test(a_sum_joins_a_convolution),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
