/* Integer layers and pools against plain loops over integers: every bit, in every way that a layer is computed; and that
 * the pass makes of a quantised graph what it should. */
#include "tests/unit/testing.h"

#include <math.h>

#include "jit/pass.h"
#include "ops/integer.h"

typedef struct geometry {
    const char *name;
    int64_t batch, channels, height, width, features, kernel, stride, padding, dilation, groups;
    bool residual, is_floating;
} geometry;

static const geometry geometries[] = {
    {"1x1", 2, 16, 9, 7, 24, 1, 1, 0, 1, 1, false, false},
    {"1x1, odd sizes", 3, 13, 5, 7, 37, 1, 1, 0, 1, 1, true, false},
    {"1x1, fours", 2, 36, 9, 7, 40, 1, 1, 0, 1, 1, true, false},
    {"1x1, a wide line", 1, 64, 3, 131, 33, 1, 2, 0, 1, 1, false, false},
    {"1x1, stride 2", 1, 32, 14, 14, 64, 1, 2, 0, 1, 1, false, false},
    {"1x1, many", 1, 256, 14, 14, 70, 1, 1, 0, 1, 1, true, false},
    {"a picture", 1, 3, 33, 29, 16, 7, 2, 3, 1, 1, false, false},
    {"3x3", 2, 24, 13, 11, 40, 3, 1, 1, 1, 1, true, false},
    {"3x3, one position", 1, 64, 3, 3, 17, 3, 1, 0, 1, 1, false, false},
    {"3x3, stride 2", 1, 20, 15, 15, 33, 3, 2, 1, 1, 1, false, false},
    {"3x3, dilated", 1, 8, 15, 12, 9, 3, 1, 2, 2, 1, true, false},
    {"3x3, dilated, odd", 1, 7, 15, 12, 9, 3, 1, 2, 2, 1, false, false},
    {"3x3, one channel", 2, 1, 17, 15, 20, 3, 1, 1, 1, 1, false, false},
    {"3x3, padding around one pixel", 1, 8, 1, 1, 33, 3, 1, 4, 1, 1, false, false},
    {"3x3, much padding", 2, 5, 4, 4, 6, 3, 1, 3, 1, 1, false, false},
    {"3x3, long", 1, 300, 7, 7, 18, 3, 1, 1, 1, 1, false, false},
    {"3x3, wide", 1, 64, 30, 31, 64, 3, 1, 1, 1, 1, true, false},
    {"5x5, floats", 1, 6, 11, 11, 10, 5, 1, 2, 1, 1, false, true},
    {"depthwise", 2, 35, 9, 10, 35, 3, 1, 1, 1, 35, true, false},
    {"depthwise, stride 2", 1, 16, 11, 11, 16, 5, 2, 2, 1, 16, false, false},
    {"depthwise, neighbours", 2, 77, 8, 15, 77, 3, 1, 1, 1, 77, false, false},
    {"depthwise, neighbours apart", 1, 32, 9, 11, 32, 3, 2, 2, 2, 32, true, false},
    {"depthwise, wide", 1, 100, 9, 10, 100, 5, 1, 2, 1, 100, true, false},
    {"depthwise, 7x7", 1, 64, 10, 9, 64, 7, 1, 3, 1, 64, false, false},
    {"depthwise, floats", 1, 7, 6, 6, 7, 3, 1, 0, 2, 7, false, true},
};
enum { GEOMETRIES = sizeof geometries / sizeof geometries[0] };

typedef struct work {
    const geometry *g;
    cr_tensor *x, *weight, *scale, *bias, *residual, *y;
    cr_integer_layer_options o;
    bool is_at_ends; /* results are the limits */
} work;

static cr_tensor *integers(cr_dtype dtype, int64_t least, int64_t end, cr_shape shape) {
    return cr_cast(cr_randint(least, end, shape, CR_CPU), dtype);
}

static float finished(const work *w, int32_t sum, int64_t k, const uint8_t *residual) {
    const float *scale = cr_data(w->scale);
    float v = (float)sum * scale[k];
    if (residual) v = v + (float)(*residual - (int)w->o.residual_zero) * (float)w->o.residual_scale;
    if (w->o.is_floating) return v;
    const double q = nearbyint((double)v) + (double)w->o.output_zero;
    return (float)fmin((double)w->o.most, fmax((double)w->o.least, q));
}

/* One element of the result, by its definition. */
static float plain(const work *w, int64_t n, int64_t k, int64_t oy, int64_t ox, const uint8_t *residual) {
    const geometry *g = w->g;
    const uint8_t *x = cr_data(w->x);
    const int8_t *weight = cr_data(w->weight);
    const int64_t each = g->channels / g->groups, first = g->groups > 1 ? k : 0;
    int32_t sum = ((const int32_t *)cr_data(w->bias))[k];
    for (int64_t c = 0; c < each; c++)
        for (int64_t ky = 0; ky < g->kernel; ky++)
            for (int64_t kx = 0; kx < g->kernel; kx++) {
                const int64_t yy = oy * g->stride - g->padding + ky * g->dilation,
                              xx = ox * g->stride - g->padding + kx * g->dilation;
                const bool inside = yy >= 0 && yy < g->height && xx >= 0 && xx < g->width;
                const int value =
                    inside ? x[((n * g->channels + first + c) * g->height + yy) * g->width + xx] : (int)w->o.input_zero;
                sum += value * weight[((k * each + c) * g->kernel + ky) * g->kernel + kx];
            }
    return finished(w, sum, k, residual);
}

static void begin(work *w, const geometry *g, int seed) {
    cr_manual_seed((uint64_t)seed);
    memcpy(&w->o, cr_op_find("integer_layer")->defaults, sizeof w->o);
    const int64_t reach = g->dilation * (g->kernel - 1) + 1, each = g->channels / g->groups;
    const int64_t height = (g->height + 2 * g->padding - reach) / g->stride + 1,
                  width = (g->width + 2 * g->padding - reach) / g->stride + 1;
    const cr_shape y = CR_SHAPE(g->batch, g->features, height, width);
    w->g = g;
    w->is_at_ends = false;
    w->x = integers(CR_U8, 0, 256, CR_SHAPE(g->batch, g->channels, g->height, g->width));
    w->weight = integers(CR_I8, -128, 128, CR_SHAPE(g->features, each, g->kernel, g->kernel));
    w->bias = integers(CR_I32, -40000, 40000, CR_SHAPE(g->features));
    const double spread = 60.0 / (128 * 74 * sqrt((double)(each * g->kernel * g->kernel)));
    w->scale = cr_mul_scalar(cr_add_scalar(cr_rand(CR_F32, CR_SHAPE(g->features), CR_CPU), 0.5), spread);
    w->residual = g->residual ? integers(CR_U8, 0, 256, y) : NULL;
    w->o.strides = CR_DIMS(g->stride);
    w->o.paddings = CR_DIMS(g->padding);
    w->o.dilations = CR_DIMS(g->dilation);
    w->o.groups = g->groups;
    w->o.weight = cr_shape_of(w->weight);
    w->o.input_zero = seed % 3 == 0 ? 0 : seed % 3 == 1 ? 128 : 250;
    w->o.output_zero = seed % 2 ? 100 : 3;
    w->o.residual_zero = 90;
    w->o.residual_scale = 0.37;
    w->o.is_floating = g->is_floating;
    w->o.least = seed % 2 ? 100 : 0;
    w->o.most = seed % 5 ? 255 : 200;
}

static int64_t check(work *w) {
    const cr_shape shape = cr_shape_of(w->y);
    cr_tensor *y = cr_contiguous(cr_cast(w->y, CR_F32)), *r = w->residual ? cr_contiguous(w->residual) : NULL;
    const float *got = cr_data(y);
    const uint8_t *residual = r ? cr_data(r) : NULL;
    int64_t at = 0, inner = 0;
    for (int64_t n = 0; n < shape.at[0]; n++)
        for (int64_t k = 0; k < shape.at[1]; k++)
            for (int64_t oy = 0; oy < shape.at[2]; oy++)
                for (int64_t ox = 0; ox < shape.at[3]; ox++, at++) {
                    const float want = plain(w, n, k, oy, ox, residual ? residual + at : NULL);
                    if (got[at] != want)
                        fail_msg("%s, way %d: element %d,%d,%d,%d is %g, must be %g", w->g->name, (int)w->o.way, (int)n,
                                 (int)k, (int)oy, (int)ox, (double)got[at], (double)want);
                    inner += want > (float)w->o.least && want < (float)w->o.most;
                }
    assert_true(w->o.is_floating || w->is_at_ends || inner > at / 10);
    return at;
}

/* Lines of the kernel that are dilated are read in fours. */
static bool is_taken_apart(const work *w) { return w->o.groups == 1 && w->g->dilation > 1 && w->g->channels % 4 != 0; }

/* In this way; false where the weight does not go in it. */
static bool run(work *w, int way, bool strided) {
    const cr_pack_integer_options packing = {sizeof packing, way};
    w->o.way = way;
    if (!cr_packed_integer(w->o.weight, way)) return false;
    if (way != CR_INTEGER_BYTES && (way == CR_INTEGER_EACH) != (w->o.groups > 1)) return false;
    if (way == CR_INTEGER_BYTES && is_taken_apart(w)) return false;
    if (way == CR_INTEGER_WINOGRAD && (w->g->stride > 1 || w->g->dilation > 1)) return false;
    cr_tensor *packed = cr_run(cr_op_find("pack_integer"), &w->weight, 1, &packing);
    cr_tensor *x = strided ? w->x : cr_channels_last(w->x),
              *residual = w->residual && !strided ? cr_channels_last(w->residual) : w->residual;
    cr_tensor *inputs[] = {x, packed, w->scale, w->bias, residual};
    w->y = cr_run(cr_op_find("integer_layer"), inputs, residual ? 5 : 4, &w->o);
    assert_cr_ok();
    assert_true(cr_is_channels_last(w->y));
    return true;
}

static void layers_are_what_plain_loops_give(void **unused) {
    (void)unused;
    int64_t compared = 0;
    int runs = 0;
    for (int i = 0; i < GEOMETRIES; i++)
        for (int way = 0; way < CR_INTEGER_WAYS; way++) {
            CR_SCOPE {
                work w;
                begin(&w, &geometries[i], 3 * i + 1);
                for (int threads = 1; threads <= 3; threads += 2) {
                    cr_set_num_threads(threads);
                    if (!run(&w, way, threads > 1)) continue;
                    compared += check(&w);
                    runs++;
                }
            }
        }
    cr_set_num_threads(2);
    printf("%d runs, %d elements\n", runs, (int)compared);
    assert_true(runs >= 44 && compared > 100000);
    if (cr_integer_has_bytes()) assert_true(runs >= 80);
}

/* In each way that does not count on small sums; the number of these. */
static int run_exactly(work *w) {
    int ways = 0;
    for (int way = 0; way < CR_INTEGER_WAYS; way++) {
        if (way == CR_INTEGER_WINOGRAD || !run(w, way, false)) continue;
        check(w);
        ways++;
    }
    return ways;
}

static void the_greatest_numbers_do_not_overflow(void **unused) {
    (void)unused;
    static const geometry extremes[] = {{"extremes", 1, 512, 8, 8, 16, 3, 1, 1, 1, 1, false, true},
                                        {"the longest", 1, 32768, 1, 2, 3, 1, 1, 0, 1, 1, false, true},
                                        {"depthwise extremes", 1, 70, 9, 9, 70, 7, 1, 3, 1, 70, false, true}};
    for (int i = 0; i < 12; i++) {
        CR_SCOPE {
            work w;
            begin(&w, &extremes[i / 4], 4);
            w.x = cr_full(CR_U8, cr_shape_of(w.x), 255, CR_CPU);
            w.weight = cr_full(CR_I8, cr_shape_of(w.weight), i & 1 ? -128 : 127, CR_CPU);
            w.o.input_zero = i & 2 ? 255 : 0;
            assert_int_equal(run_exactly(&w), cr_integer_has_bytes() ? 2 : 1);
        }
    }
}

/* Results in f32 that no s16 and no s32 holds end at the limits. */
static void results_beyond_all_integers_are_the_limits(void **unused) {
    (void)unused;
    static const geometry far[] = {{"far", 1, 20, 6, 6, 37, 3, 1, 1, 1, 1, true, false},
                                   {"far, depthwise", 1, 37, 6, 6, 37, 3, 1, 1, 1, 37, false, false}};
    for (int i = 0; i < 8; i++) {
        CR_SCOPE {
            work w;
            begin(&w, &far[i / 4], i);
            w.is_at_ends = true;
            w.scale = cr_full(CR_F32, CR_SHAPE(37), (double[]){1, 300, 1e6, 1e30}[i % 4], CR_CPU);
            assert_int_equal(run_exactly(&w), cr_integer_has_bytes() ? 2 : 1);
        }
    }
}

static void runs_of_bytes_are_not_taken_apart(void **unused) {
    (void)unused;
    if (!cr_integer_has_bytes()) skip();
    CR_SCOPE {
        work w;
        const geometry dilated = {"3x3, dilated, odd", 1, 7, 15, 12, 9, 3, 1, 2, 2, 1, false, false};
        const cr_pack_integer_options packing = {sizeof packing, CR_INTEGER_BYTES};
        begin(&w, &dilated, 1);
        w.o.way = CR_INTEGER_BYTES;
        cr_tensor *inputs[] = {w.x, cr_run(cr_op_find("pack_integer"), &w.weight, 1, &packing), w.scale, w.bias};
        assert_cr_ok();
        assert_null(cr_run(cr_op_find("integer_layer"), inputs, 4, &w.o));
        assert_int_equal(cr_last_error()->code, CR_ERROR_ARGUMENT);
        cr_clear_error();
    }
}

static void linear_layers_are_too(void **unused) {
    (void)unused;
    for (int64_t i = 0; i < 16; i++) {
        const int way = i % 2 ? CR_INTEGER_BYTES : CR_INTEGER_DIRECT;
        const int64_t rows = 1 + i / 2 * 3;
        if (i % 2 && !cr_integer_has_bytes()) continue;
        CR_SCOPE {
            const geometry g = {"linear", rows, 50 + rows, 1, 1, 45, 1, 1, 0, 1, 1, false, rows > 10};
            work w;
            begin(&w, &g, (int)rows);
            w.o.way = way;
            const cr_pack_integer_options packing = {sizeof packing, way};
            w.weight = cr_reshape(w.weight, CR_SHAPE(45, 50 + rows));
            w.o.weight = cr_shape_of(w.weight);
            cr_tensor *inputs[] = {cr_reshape(w.x, CR_SHAPE(rows, 50 + rows)),
                                   cr_run(cr_op_find("pack_integer"), &w.weight, 1, &packing), w.scale, w.bias};
            w.y = cr_run(cr_op_find("integer_layer"), inputs, 4, &w.o);
            assert_cr_ok();
            w.y = cr_reshape(w.y, CR_SHAPE(rows, 45, 1, 1));
            check(&w);
        }
    }
}

static void pools_are_what_plain_loops_give(void **unused) {
    (void)unused;
    for (int i = 0; i < 8; i++) {
        CR_SCOPE {
            const int64_t channels = 5 + 9 * i, kernel = 2 + i % 2, stride = 1 + i % 3, padding = i & 4 ? 1 : 0;
            cr_integer_pool_options o;
            memcpy(&o, cr_op_find("integer_pool")->defaults, sizeof o);
            o.kernel_sizes = CR_DIMS(kernel, kernel);
            o.strides = CR_DIMS(stride);
            o.paddings = CR_DIMS(padding);
            o.is_mean = padding == 0 && i % 2;
            o.scale = 0.8 / (double)(kernel * kernel);
            o.input_zero = 20;
            o.output_zero = 7;
            cr_tensor *x = integers(CR_U8, 0, 256, CR_SHAPE(2, channels, 9, 8));
            cr_tensor *y = cr_run(cr_op_find("integer_pool"), &x, 1, &o), *wide = cr_cast(x, CR_F64), *want;
            if (o.is_mean) {
                wide = cr_mul_scalar(cr_sub_scalar(wide, 20), (double)(kernel * kernel)); /* sums, exactly */
                want = cr_cast(cr_avg_pool2d(wide, kernel, .stride = stride), CR_F32);
                want = cr_clamp(cr_add_scalar(cr_round(cr_mul_scalar(want, (double)(float)o.scale)), 7), 0, 255);
            } else {
                want = cr_max_pool2d(wide, kernel, .stride = stride, .padding = padding);
            }
            assert_cr_ok();
            assert_true(cr_item(cr_amax(cr_abs(cr_sub(cr_cast(y, CR_F64), cr_cast(want, CR_F64))))) == 0);
        }
    }
}

/* ---------------------------------------------------------------- the pass */
static int count_ops(const char *text, const char *name) {
    int count = 0;
    for (const char *at = text; (at = strstr(at, name)); at++)
        count++;
    return count;
}

static void a_quantised_graph_is_integers_all_through(void **unused) {
    (void)unused;
    const size_t before = cr_memory_stats().live_bytes;
    CR_SCOPE {
        cr_nn_module *net = cr_nn_eval(cr_vision_resnet18(10));
        cr_tensor *x = cr_randn(CR_F32, CR_SHAPE(2, 3, 64, 64), CR_CPU);
        cr_quantize_array data = {&x, 1};
        cr_graph *graph = cr_jit_trace(net, x, .dynamic_batch = true, .freeze = true);
        cr_graph *quantized = cr_jit_quantize(graph, cr_quantize_from_array, &data);
        char *text = cr_jit_optimized_text(quantized, NULL, 0);
        assert_cr_ok();
        assert_int_equal(count_ops(text, " = integer_layer("), 21);
        assert_int_equal(count_ops(text, " = integer_pool("), 2);
        assert_int_equal(count_ops(text, "quantize("), 0);
        assert_int_equal(count_ops(text, " = convolution(") + count_ops(text, " = linear("), 0);
        assert_int_equal(count_ops(text, " = fused("), 1); /* the pictures become u8 */
        cr_free(text);
        cr_tensor *want = cr_jit_forward(graph, x), *got = cr_jit_forward(quantized, x);
        const double error = cr_item(cr_norm(cr_sub(want, got))) / cr_item(cr_norm(want));
        assert_true(error > 0 && error < 0.05);
        cr_jit_free(quantized);
        cr_jit_free(graph);
        cr_nn_free(net);
    }
    assert_int_equal(cr_memory_stats().live_bytes, before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_are_what_plain_loops_give),
        cmocka_unit_test(the_greatest_numbers_do_not_overflow),
        cmocka_unit_test(results_beyond_all_integers_are_the_limits),
        cmocka_unit_test(runs_of_bytes_are_not_taken_apart),
        cmocka_unit_test(linear_layers_are_too),
        cmocka_unit_test(pools_are_what_plain_loops_give),
        cmocka_unit_test(a_quantised_graph_is_integers_all_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
