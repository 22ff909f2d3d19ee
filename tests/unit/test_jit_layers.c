/* Layers with epilogues and packed weights against the same ops run eagerly, over many geometries: every way in which
 * a convolution or a product is computed, with the epilogue interpreted and compiled. */
#include "tests/unit/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jit/pass.h"

typedef enum layer_kind { CONVOLUTION, TRANSPOSED, LINEAR, MATMUL } layer_kind;
typedef enum epilogue_kind { NONE, RELU, RESIDUAL, CHANNELS, GATE, EPILOGUE_COUNT } epilogue_kind;

typedef struct geometry {
    const char *name;
    layer_kind kind;
    cr_dtype dtype;
    int64_t input[5], weight[5];
    int dims, weight_dims;
    int stride, padding, groups;
    bool bias;
} geometry;

static const geometry geometries[] = {
    {"1x1", CONVOLUTION, CR_F32, {3, 20, 9, 7}, {26, 20, 1, 1}, 4, 4, 1, 0, 1, true},
    {"3x3, few channels", CONVOLUTION, CR_F32, {2, 3, 13, 11}, {9, 3, 3, 3}, 4, 4, 1, 1, 1, true},
    {"3x3, Winograd", CONVOLUTION, CR_F32, {3, 33, 21, 19}, {38, 33, 3, 3}, 4, 4, 1, 1, 1, true},
    {"3x3, Winograd where packed only", CONVOLUTION, CR_F32, {1, 32, 14, 14}, {40, 32, 3, 3}, 4, 4, 1, 1, 1, false},
    {"4x4 stride 2, Winograd", CONVOLUTION, CR_F32, {4, 16, 24, 24}, {40, 16, 4, 4}, 4, 4, 2, 1, 1, true},
    {"7x7 stride 2", CONVOLUTION, CR_F32, {1, 3, 40, 40}, {16, 3, 7, 7}, 4, 4, 2, 3, 1, false},
    {"groups", CONVOLUTION, CR_F32, {2, 12, 9, 9}, {18, 4, 3, 3}, 4, 4, 1, 1, 3, true},
    {"depthwise", CONVOLUTION, CR_F32, {2, 12, 9, 9}, {12, 1, 3, 3}, 4, 4, 2, 1, 12, true},
    {"covering", CONVOLUTION, CR_F32, {5, 8, 4, 4}, {10, 8, 4, 4}, 4, 4, 1, 0, 1, true},
    {"one dim", CONVOLUTION, CR_F32, {3, 5, 40}, {7, 5, 5}, 3, 3, 2, 2, 1, true},
    {"three dims", CONVOLUTION, CR_F32, {2, 3, 5, 6, 7}, {4, 3, 3, 3, 3}, 5, 5, 1, 1, 1, true},
    {"images as lanes", CONVOLUTION, CR_F32, {37, 5, 9, 7}, {14, 5, 3, 3}, 4, 4, 1, 1, 1, true},
    {"images as lanes, transposed", TRANSPOSED, CR_F32, {33, 7, 5, 6}, {7, 3, 3, 3}, 4, 4, 2, 1, 1, true},
    {"f64", CONVOLUTION, CR_F64, {2, 33, 17, 17}, {34, 33, 3, 3}, 4, 4, 1, 1, 1, true},
    {"transposed", TRANSPOSED, CR_F32, {2, 6, 7, 5}, {6, 5, 3, 3}, 4, 4, 2, 1, 1, true},
    {"transposed, Winograd", TRANSPOSED, CR_F32, {3, 40, 16, 16}, {40, 34, 4, 4}, 4, 4, 2, 1, 1, true},
    {"transposed from a point", TRANSPOSED, CR_F32, {6, 40, 1, 1}, {40, 33, 4, 4}, 4, 4, 1, 0, 1, true},
    {"transposed, groups", TRANSPOSED, CR_F32, {2, 6, 5, 5}, {6, 2, 3, 3}, 4, 4, 2, 0, 2, true},
    {"linear", LINEAR, CR_F32, {37, 50}, {45, 50}, 2, 2, 0, 0, 0, true},
    {"linear, long", LINEAR, CR_F32, {2, 70, 450}, {131, 450}, 3, 2, 0, 0, 0, true},
    {"linear, two rows", LINEAR, CR_F32, {2, 50}, {45, 50}, 2, 2, 0, 0, 0, false},
    {"linear, f64", LINEAR, CR_F64, {9, 33}, {20, 33}, 2, 2, 0, 0, 0, true},
    {"matmul", MATMUL, CR_F32, {100, 390}, {390, 70}, 2, 2, 0, 0, 0, false},
    {"matmul, small", MATMUL, CR_F32, {5, 6}, {6, 7}, 2, 2, 0, 0, 0, false},
    {"matmul, batches", MATMUL, CR_F32, {3, 2, 17, 31}, {31, 19}, 4, 2, 0, 0, 0, false},
    {"matmul, two batches", MATMUL, CR_F64, {3, 17, 31}, {3, 31, 19}, 3, 3, 0, 0, 0, false},
};
enum { GEOMETRIES = sizeof geometries / sizeof geometries[0] };

typedef struct work {
    const geometry *g;
    epilogue_kind epilogue;
    cr_tensor *weight, *bias, *scale;
} work;

static cr_shape shape_of(const int64_t *sizes, int dims) {
    cr_shape shape = {.count = dims};
    memcpy(shape.at, sizes, (size_t)dims * sizeof sizes[0]);
    return shape;
}

static cr_tensor *run_layer(const work *w, cr_tensor *x) {
    const geometry *g = w->g;
    if (g->kind == LINEAR) return cr_linear(x, w->weight, w->bias);
    if (g->kind == MATMUL) return cr_matmul(x, w->weight);
    const cr_convolution_options options = {.size = sizeof options,
                                            .strides = CR_DIMS(g->stride),
                                            .paddings = CR_DIMS(g->padding),
                                            .groups = g->groups,
                                            .transposed = g->kind == TRANSPOSED};
    return cr_convolution_with(x, w->weight, w->bias, &options);
}

/* in: x, and a residual of the result's shape. */
static bool run_work(void *context, cr_tensor *const *in, int input_count, cr_tensor **out, int output_count) {
    const work *w = context;
    (void)input_count, (void)output_count;
    cr_tensor *y = run_layer(w, in[0]);
    switch (w->epilogue) {
    case RELU: y = cr_relu(y); break;
    case RESIDUAL: y = cr_relu(cr_add(y, in[1])); break;
    case CHANNELS: y = cr_tanh(cr_add_scalar(cr_mul(y, w->scale), 0.25)); break;
    case GATE: y = cr_mul(cr_sigmoid(y), cr_maximum(in[1], y)); break;
    default: break;
    }
    return (out[0] = y) != NULL;
}

static int64_t outputs_of(const geometry *g) {
    return g->kind == LINEAR       ? g->weight[0]
           : g->kind == MATMUL     ? g->weight[g->weight_dims - 1]
           : g->kind == TRANSPOSED ? g->weight[1] * g->groups
                                   : g->weight[0];
}

static void begin_work(work *w, const geometry *g) {
    const int64_t outputs = outputs_of(g);
    cr_shape channels = CR_SHAPE(outputs);
    if (g->kind == CONVOLUTION || g->kind == TRANSPOSED)
        for (int d = 2; d < g->dims; d++)
            channels.at[channels.count++] = 1;
    *w = (work){.g = g, .weight = cr_mul_scalar(cr_randn(g->dtype, shape_of(g->weight, g->weight_dims), CR_CPU), 0.2)};
    if (g->bias) w->bias = cr_randn(g->dtype, CR_SHAPE(outputs), CR_CPU);
    w->scale = cr_randn(g->dtype, channels, CR_CPU);
}

static double difference(cr_tensor *a, cr_tensor *b) {
    const double scale = 1 + cr_item(cr_amax(cr_abs(cr_cast(a, CR_F64))));
    return cr_item(cr_amax(cr_abs(cr_sub(cr_cast(a, CR_F64), cr_cast(b, CR_F64))))) / scale;
}

static int comparisons, packed, joined;

static void count_forms(cr_graph *graph) {
    char *text = cr_jit_optimized_text(graph, NULL, 0);
    assert_non_null(text);
    joined += strstr(text, "fused_") != NULL;
    packed += strstr(text, "\"packed") != NULL;
    cr_free(text);
}

static void check(const work *w, cr_tensor *x, cr_tensor *residual, bool freeze) {
    cr_tensor *in[] = {x, residual}, *expected, *got;
    assert_true(run_work((void *)(uintptr_t)w, in, 2, &expected, 1));
    cr_graph *graph = cr_jit_trace_function(run_work, (void *)(uintptr_t)w, in, 2, NULL, 1, NULL, 0, .freeze = freeze);
    if (!graph) fail_msg("%s: %s", w->g->name, cr_last_error()->message);
    count_forms(graph);
    for (int round = 0; round < 2; round++) { /* the second time with what was compiled */
        if (!cr_jit_run(graph, in, 2, &got, 1)) fail_msg("%s: %s", w->g->name, cr_last_error()->message);
        const double found = difference(expected, got);
        if (!(found <= (w->g->dtype == CR_F64 ? 1e-13 : 1e-5)))
            fail_msg("%s, epilogue %d, %s, round %d: differs by %g", w->g->name, (int)w->epilogue,
                     freeze ? "packed" : "plain", round, found);
        comparisons++;
        cr_jit_wait();
    }
    cr_jit_free(graph);
}

static void layers_equal_their_eager_ops(void **state) {
    (void)state;
    for (int i = 0; i < GEOMETRIES; i++)
        for (epilogue_kind epilogue = NONE; epilogue < EPILOGUE_COUNT; epilogue++)
            CR_SCOPE {
                work w;
                begin_work(&w, &geometries[i]);
                w.epilogue = epilogue;
                cr_tensor *x = cr_randn(w.g->dtype, shape_of(w.g->input, w.g->dims), CR_CPU), *y = run_layer(&w, x);
                assert_non_null(y);
                cr_tensor *residual = cr_randn(w.g->dtype, cr_shape_of(y), CR_CPU);
                check(&w, x, residual, false);
                check(&w, x, residual, true);
            }
    print_message("%d comparisons; %d graphs with joined layers, %d with packed weights\n", comparisons, joined,
                  packed);
    assert_true(comparisons == 4 * GEOMETRIES * EPILOGUE_COUNT);
    assert_in_range(joined, GEOMETRIES * 2 * (EPILOGUE_COUNT - 1), 10000);
    assert_in_range(packed, 15 * EPILOGUE_COUNT, 10000);
}

/* Operands that lie in no regular steps are copied. */
static void odd_operands_are_made_dense(void **state) {
    (void)state;
    CR_SCOPE {
        work w;
        begin_work(&w, &geometries[0]);
        w.epilogue = RESIDUAL;
        cr_tensor *x = cr_randn(CR_F32, shape_of(w.g->input, 4), CR_CPU), *y = run_layer(&w, x);
        const cr_shape shape = cr_shape_of(y);
        cr_tensor *wide = cr_randn(CR_F32, CR_SHAPE(shape.at[0], shape.at[1], shape.at[3], shape.at[2]), CR_CPU);
        check(&w, x, cr_transpose(wide, 2, 3), true);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_equal_their_eager_ops),
        cmocka_unit_test(odd_operands_are_made_dense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
