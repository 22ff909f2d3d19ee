/* Convolution and pooling beyond what samples say: large shapes against plain loops, layouts, threads, memory, faults.
 * Labels: threads */
#include "tests/unit/testing.h"

#include <math.h>
#include <stdlib.h>

typedef struct geometry {
    int64_t batch, channels, features, groups, height, width, kernel, stride, padding, dilation;
} geometry;

static int64_t out_size(const geometry *g, int64_t in) {
    return (in + 2 * g->padding - g->dilation * (g->kernel - 1) - 1) / g->stride + 1;
}

static cr_tensor *noise(cr_shape shape, unsigned seed) {
    cr_tensor *t = cr_empty(CR_F32, shape, CR_CPU);
    for (int64_t i = 0; i < cr_numel(t); i++) {
        seed = seed * 1664525u + 1013904223u;
        cr_data_f32(t)[i] = (float)(seed >> 8) / 8388608.0f - 1;
    }
    return t;
}

/* The reference is one thread's, and would take minutes where each of its accesses is watched. */
#define UNWATCHED __attribute__((no_sanitize("thread")))

typedef struct truth {
    const float *x, *w, *dy;
    double *y, *dx, *dw;
} truth;

/* Adds the products of one tap: of a channel's rows of the input, which begin at x and dx, and a feature's rows of the result. */
UNWATCHED static void add_tap(const geometry *g, int64_t a, int64_t b, const float *restrict x, double *restrict dx,
                              const float *restrict dy, double *restrict y, float w, double *dw) {
    const int64_t oh = out_size(g, g->height), ow = out_size(g, g->width), stride = g->stride;
    double total = 0;
    for (int64_t oy = 0; oy < oh; oy++) {
        const int64_t iy = oy * stride + a, line = iy * g->width + b, to = oy * ow;
        if (iy < 0 || iy >= g->height) continue;
        for (int64_t ox = b < 0 ? (stride - 1 - b) / stride : 0; ox < ow && ox * stride + b < g->width; ox++) {
            y[to + ox] += (double)x[line + ox * stride] * w;
            dx[line + ox * stride] += (double)dy[to + ox] * w;
            total += (double)dy[to + ox] * x[line + ox * stride];
        }
    }
    *dw += total;
}

UNWATCHED static void add_products(const geometry *g, const truth *t) {
    const int64_t c = g->channels / g->groups, f = g->features / g->groups, area = g->kernel * g->kernel,
                  in = g->height * g->width, out = out_size(g, g->height) * out_size(g, g->width);
    for (int64_t n = 0; n < g->batch; n++)
        for (int64_t k = 0; k < g->features; k++)
            for (int64_t i = 0; i < c; i++)
                for (int64_t tap = 0; tap < area; tap++) {
                    const int64_t x = (n * g->channels + k / f * c + i) * in, y = (n * g->features + k) * out,
                                  w = (k * c + i) * area + tap;
                    add_tap(g, tap / g->kernel * g->dilation - g->padding, tap % g->kernel * g->dilation - g->padding,
                            t->x + x, t->dx + x, t->dy + y, t->y + y, t->w[w], &t->dw[w]);
                }
}

static void assert_near(const cr_tensor *t, const double *expected, double tolerance, const char *what) {
    assert_cr_ok();
    const float *values = cr_data_f32(t);
    for (int64_t i = 0; i < cr_numel(t); i++)
        if (!(fabs(values[i] - expected[i]) <= tolerance * (1 + fabs(expected[i]))))
            fail_msg("%s: element %lld is %.9g, expected %.9g", what, (long long)i, (double)values[i], expected[i]);
}

/* Memory that is used again holds no zeros. */
static void leave_nan_behind(void) {
    CR_SCOPE {
        for (int64_t count = 64; count < 1 << 20; count += count / 4)
            assert_non_null(cr_full(CR_F32, CR_SHAPE(count), NAN, CR_CPU));
    }
}

static void check_geometry(geometry g) {
    leave_nan_behind();
    CR_SCOPE {
        const cr_shape xs = CR_SHAPE(g.batch, g.channels, g.height, g.width),
                       ws = CR_SHAPE(g.features, g.channels / g.groups, g.kernel, g.kernel);
        cr_tensor *x = noise(xs, 1), *w = noise(ws, 2), *bias = noise(CR_SHAPE(g.features), 4), *both[2];
        for (int i = 0; i < 2; i++)
            both[i] = cr_conv2d(x, w, i ? bias : NULL, .stride = g.stride, .padding = g.padding, .dilation = g.dilation,
                                .groups = g.groups);
        cr_tensor *y = both[0];
        assert_cr_ok();
        cr_tensor *dy = noise(cr_shape_of(y), 3);
        cr_convolution_grad_options o = {.size = sizeof o,
                                         .strides = CR_DIMS(g.stride),
                                         .paddings = CR_DIMS(g.padding),
                                         .dilations = CR_DIMS(g.dilation),
                                         .groups = g.groups,
                                         .sizes = xs};
        cr_tensor *dx = cr_convolution_grad_input_with(dy, w, &o);
        o.sizes = ws;
        cr_tensor *dw = cr_convolution_grad_weight_with(dy, x, &o);
        truth t = {cr_data_f32(x),
                   cr_data_f32(w),
                   cr_data_f32(dy),
                   calloc((size_t)cr_numel(y), 8),
                   calloc((size_t)cr_numel(x), 8),
                   calloc((size_t)cr_numel(w), 8)};
        add_products(&g, &t);
        const int64_t taps = (g.kernel + g.stride - 1) / g.stride, products = g.channels * g.kernel * g.kernel;
        const bool tiled = ((taps == 2 || taps == 3) && g.channels >= 32 && g.features >= 32) || /* by 4×4 */
                           (g.kernel == 5 && g.stride == 1);                                     /* rows by 9 points */
        const double rounding = tiled ? 1.5e-4 : products > 4000 ? 6e-5 : 2e-5; /* of sums near 10, in f32 */
        assert_near(y, t.y, rounding, "forward");
        const int64_t positions = cr_numel(y) / g.batch / g.features;
        for (int64_t i = 0; i < cr_numel(y); i++)
            t.y[i] += cr_data_f32(bias)[i / positions % g.features];
        assert_near(both[1], t.y, rounding, "forward with a bias");
        assert_near(dx, t.dx, rounding, "gradient by the input");
        assert_near(dw, t.dw, tiled ? 5e-4 : 1e-4, "gradient by the weight"); /* thousands of products of deviation ⅓ */
        free(t.y), free(t.dx), free(t.dw);
    }
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

static void equals_plain_loops_over_many_geometries(void **state) {
    (void)state;
    /* clang-format off */
    const geometry cases[] = {
        {8, 70, 40, 1, 12, 12, 3, 1, 1, 1},  {9, 33, 65, 1, 16, 16, 4, 2, 1, 1},  {5, 64, 130, 1, 8, 8, 4, 2, 1, 1},
        {33, 40, 3, 1, 8, 8, 4, 2, 1, 1},    {3, 3, 20, 1, 31, 29, 7, 2, 3, 1},   {17, 96, 50, 1, 7, 7, 3, 1, 1, 1},
        {2, 24, 24, 24, 20, 17, 3, 1, 1, 1}, {2, 24, 48, 24, 14, 14, 3, 2, 1, 1}, {4, 32, 32, 4, 9, 9, 3, 1, 2, 2},
        {20, 64, 7, 1, 4, 4, 4, 1, 0, 1},    {3, 80, 100, 1, 9, 9, 1, 1, 0, 1},   {3, 80, 30, 1, 10, 10, 1, 2, 0, 1},
        {1, 500, 20, 1, 6, 6, 3, 1, 1, 1},   {2, 450, 33, 1, 12, 12, 3, 1, 1, 1}, {1, 5, 4, 1, 70, 75, 5, 3, 2, 2},
        {2, 20, 14, 1, 15, 13, 2, 1, 0, 1},  {3, 64, 40, 1, 30, 29, 3, 1, 1, 1},  {9, 40, 64, 1, 27, 34, 3, 1, 0, 1},
        {1, 64, 64, 1, 44, 41, 3, 1, 2, 1},  {20, 1, 6, 1, 28, 28, 5, 1, 2, 1},   {18, 6, 16, 1, 14, 14, 5, 1, 0, 1},
        {9, 3, 40, 1, 33, 30, 4, 2, 1, 1},   {5, 12, 12, 12, 17, 19, 3, 2, 1, 1}, {7, 5, 8, 1, 13, 21, 3, 1, 3, 3},
        {8, 16, 64, 1, 20, 21, 1, 1, 0, 1},  {8, 20, 30, 1, 15, 16, 1, 2, 0, 1},  {3, 8, 24, 2, 10, 50, 5, 2, 4, 2},
        {70, 2, 12, 1, 20, 20, 5, 1, 2, 1},  {5, 33, 36, 1, 32, 32, 4, 2, 1, 1},
        /* in tiles of 4×4: kernels of one to three strides, a last chunk of fewer images, few tiles */
        {21, 32, 64, 1, 33, 30, 4, 2, 1, 1}, {18, 64, 32, 1, 26, 26, 4, 2, 3, 1}, {23, 32, 32, 1, 40, 37, 6, 3, 2, 1},
        {26, 32, 32, 1, 17, 16, 2, 1, 0, 1}, {7, 64, 96, 1, 15, 16, 3, 1, 1, 1},  {8, 32, 32, 1, 30, 29, 6, 2, 2, 1},
        {60, 64, 128, 1, 8, 8, 4, 2, 1, 1},  {20, 64, 64, 1, 29, 28, 3, 2, 1, 1}, {9, 32, 64, 1, 40, 41, 5, 2, 2, 1},
        {9, 32, 64, 1, 40, 41, 5, 3, 1, 1},
        /* sums over pixels: chunks that end within an image, panels that are not full, strides, one pixel */
        {13, 64, 128, 1, 16, 15, 1, 1, 0, 1}, {25, 60, 96, 1, 21, 23, 1, 2, 0, 1}, {9, 128, 61, 1, 5, 3, 1, 1, 0, 1},
        {40, 32, 64, 1, 3, 2, 1, 3, 0, 1},
        /* with features as rows: several blocks of the depth, of features, of images, short panels, short rows, phases */
        {1, 1100, 70, 1, 14, 14, 1, 1, 0, 1}, {2, 1100, 70, 1, 16, 15, 1, 1, 0, 1}, {3, 5, 17, 1, 300, 301, 3, 1, 1, 1},
        {1, 60, 600, 1, 17, 15, 1, 1, 0, 1}, {1, 3, 72, 1, 75, 61, 7, 2, 3, 1},
        {2, 3, 300, 1, 41, 50, 5, 3, 2, 2},   {1, 5, 90, 1, 90, 9, 5, 1, 0, 1},    {3, 21, 33, 1, 43, 12, 3, 2, 1, 3},
        /* with images as lanes: a last group of fewer images, odd planes, strides, kernels of less than a stride, groups,
         * planes of fewer positions than a vector, one column */
        {33, 6, 16, 1, 14, 14, 5, 1, 0, 1},  {64, 8, 8, 1, 7, 7, 3, 1, 1, 1},     {40, 5, 20, 1, 9, 11, 3, 2, 1, 1},
        {47, 4, 7, 1, 13, 12, 3, 3, 2, 1},   {32, 3, 5, 1, 12, 9, 2, 3, 0, 1},    {48, 12, 12, 12, 8, 9, 3, 1, 1, 1},
        {31, 12, 18, 3, 10, 8, 3, 1, 2, 2},  {64, 4, 4, 1, 3, 3, 3, 1, 1, 1},     {16, 9, 13, 1, 15, 6, 3, 1, 1, 1},
        {32, 8, 8, 1, 6, 5, 5, 1, 0, 1},     {64, 1, 1, 1, 5, 5, 3, 1, 1, 1},     {64, 30, 30, 2, 8, 8, 4, 2, 1, 1},
        {130, 3, 4, 1, 11, 11, 5, 4, 2, 1},
        /* the same, rows in Winograd's tiles: a last tile of fewer rows, padding of more than the kernel, groups, few images */
        {31, 9, 16, 1, 9, 12, 3, 1, 1, 1},   {48, 10, 12, 1, 12, 10, 5, 1, 3, 1}, {32, 8, 10, 1, 9, 8, 3, 1, 4, 1},
        {32, 16, 12, 2, 16, 15, 5, 1, 4, 1}, {16, 20, 25, 1, 14, 14, 5, 1, 2, 1},
    };
    /* clang-format on */
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_geometry(cases[i]);
}

static void assert_near_f64(const cr_tensor *t, const cr_tensor *expected, const char *what) {
    assert_cr_ok();
    assert_near(t, cr_data(expected), 3e-5, what);
}

/* Images as lanes, rows in tiles: columns may have strides and dilations, which f64 knows as sums alone. */
static void tiles_of_rows_leave_columns_as_they_are(void **state) {
    (void)state;
    const struct {
        cr_shape x, w, y;
        cr_dims strides, paddings, dilations;
        int groups;
    } shapes[] = {
        {CR_SHAPE(31, 6, 16, 25), CR_SHAPE(12, 3, 5, 3), CR_SHAPE(31, 12, 18, 12), CR_DIMS(1, 2), CR_DIMS(3, 1),
         CR_DIMS(1, 2), 2},
        {CR_SHAPE(47, 7, 14, 26), CR_SHAPE(12, 7, 3, 5), CR_SHAPE(47, 12, 22, 8), CR_DIMS(1, 3), CR_DIMS(5, 0),
         CR_DIMS(1, 1), 1},
        {CR_SHAPE(64, 9, 11, 7), CR_SHAPE(14, 9, 5, 1), CR_SHAPE(64, 14, 11, 7), CR_DIMS(1, 1), CR_DIMS(2, 0),
         CR_DIMS(1, 1), 1},
    };
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        CR_SCOPE {
            cr_tensor *x = noise(shapes[s].x, 5), *w = noise(shapes[s].w, 6), *dy = noise(shapes[s].y, 7),
                      *bias = noise(CR_SHAPE(shapes[s].w.at[0]), 8), *shift = noise(CR_SHAPE(shapes[s].x.at[1]), 9),
                      *x64 = cr_cast(x, CR_F64), *w64 = cr_cast(w, CR_F64), *dy64 = cr_cast(dy, CR_F64);
            cr_convolution_options o = {.size = sizeof o,
                                        .strides = shapes[s].strides,
                                        .paddings = shapes[s].paddings,
                                        .dilations = shapes[s].dilations,
                                        .groups = shapes[s].groups};
            cr_convolution_grad_options grad = {.size = sizeof grad,
                                                .strides = o.strides,
                                                .paddings = o.paddings,
                                                .dilations = o.dilations,
                                                .groups = o.groups,
                                                .sizes = shapes[s].w};
            assert_near_f64(cr_convolution_with(x, w, bias, &o),
                            cr_convolution_with(x64, w64, cr_cast(bias, CR_F64), &o), "forward");
            assert_near_f64(cr_convolution_grad_weight_with(dy, x, &grad),
                            cr_convolution_grad_weight_with(dy64, x64, &grad), "gradient by the weight");
            grad.sizes = shapes[s].x;
            assert_near_f64(cr_convolution_grad_input_with(dy, w, &grad),
                            cr_convolution_grad_input_with(dy64, w64, &grad), "gradient by the input");
            o.transposed = true;
            assert_near_f64(cr_convolution_with(dy, w, shift, &o),
                            cr_convolution_with(dy64, w64, cr_cast(shift, CR_F64), &o), "transposed");
        }
}

/* ---------------------------------------------------------------- threads */
typedef struct results {
    cr_tensor *at[4];
} results;

static results run_everything(int threads, cr_tensor *x, cr_tensor *w, cr_tensor *dy) {
    results r;
    assert_true(cr_set_num_threads(threads));
    cr_convolution_grad_options o = {
        .size = sizeof o, .strides = CR_DIMS(2), .paddings = CR_DIMS(1), .groups = 1, .sizes = cr_shape_of(x)};
    r.at[0] = cr_conv2d(x, w, NULL, .stride = 2, .padding = 1);
    r.at[1] = cr_convolution_grad_input_with(dy, w, &o);
    o.sizes = cr_shape_of(w);
    r.at[2] = cr_convolution_grad_weight_with(dy, x, &o);
    r.at[3] = cr_max_pool2d(x, 3, .stride = 2, .padding = 1);
    assert_cr_ok();
    return r;
}

/* The same where kernels are computed in tiles of 4×4: images apart, or together where they are fewer than threads, or so
 * small that weights are made as they are used; by features, of one part or of one for each thread; with images as lanes,
 * of several groups and of one; and one tap. */
static void tiles_and_lanes_do_not_depend_on_the_threads(void **state) {
    (void)state;
    const int before = cr_num_threads();
    const struct {
        cr_shape x, w, y;
        int stride, padding;
    } shapes[] = {
        {CR_SHAPE(3, 64, 37, 40), CR_SHAPE(64, 64, 3, 3), CR_SHAPE(3, 64, 37, 40), 1, 1},
        {CR_SHAPE(21, 32, 32, 30), CR_SHAPE(64, 32, 4, 4), CR_SHAPE(21, 64, 16, 15), 2, 1},
        {CR_SHAPE(60, 64, 8, 8), CR_SHAPE(128, 64, 4, 4), CR_SHAPE(60, 128, 4, 4), 2, 1},
        {CR_SHAPE(2, 130, 30, 32), CR_SHAPE(150, 130, 4, 4), CR_SHAPE(2, 150, 15, 16), 2, 1},
        {CR_SHAPE(70, 6, 12, 13), CR_SHAPE(20, 6, 3, 3), CR_SHAPE(70, 20, 12, 13), 1, 1},
        {CR_SHAPE(16, 18, 14, 14), CR_SHAPE(20, 18, 4, 4), CR_SHAPE(16, 20, 7, 7), 2, 1},
        {CR_SHAPE(13, 64, 16, 15), CR_SHAPE(128, 64, 1, 1), CR_SHAPE(13, 128, 16, 15), 1, 0},
        {CR_SHAPE(16, 8, 12, 11), CR_SHAPE(20, 8, 5, 5), CR_SHAPE(16, 20, 10, 9), 1, 1},
        {CR_SHAPE(50, 8, 12, 11), CR_SHAPE(20, 8, 5, 5), CR_SHAPE(50, 20, 10, 9), 1, 1},
    };
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        CR_SCOPE {
            cr_tensor *x = noise(shapes[s].x, 5), *w = noise(shapes[s].w, 6), *dy = noise(shapes[s].y, 7), *one[3],
                      *many[3];
            const int stride = shapes[s].stride, padding = shapes[s].padding;
            cr_convolution_grad_options o = {.size = sizeof o,
                                             .strides = CR_DIMS(stride),
                                             .paddings = CR_DIMS(padding),
                                             .groups = 1,
                                             .sizes = cr_shape_of(x)};
            const cr_shape kernel = cr_shape_of(w);
            for (int threads = 1; threads <= 5; threads++) {
                assert_true(cr_set_num_threads(threads));
                cr_tensor **to = threads == 1 ? one : many;
                to[0] = cr_conv2d(x, w, NULL, .stride = stride, .padding = padding);
                to[1] = cr_convolution_grad_input_with(dy, w, &o);
                o.sizes = kernel;
                to[2] = cr_convolution_grad_weight_with(dy, x, &o);
                o.sizes = cr_shape_of(x);
                assert_cr_ok();
                for (int i = 0; i < 3 && threads > 1; i++)
                    assert_memory_equal(cr_data(one[i]), cr_data(many[i]), (size_t)cr_numel(one[i]) * 4);
            }
        }
    assert_true(cr_set_num_threads(before));
}

static void results_do_not_depend_on_the_threads(void **state) {
    (void)state;
    const int before = cr_num_threads();
    const int64_t shapes[][4] = {
        {19, 3, 32, 40}, {16, 50, 16, 90}, {3, 130, 8, 200}, {40, 6, 14, 16}}; /* batch, channels, side, features */
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        CR_SCOPE {
            const int64_t side = shapes[s][2];
            cr_tensor *x = noise(CR_SHAPE(shapes[s][0], shapes[s][1], side, side), 5),
                      *w = noise(CR_SHAPE(shapes[s][3], shapes[s][1], 4, 4), 6);
            cr_tensor *dy = noise(CR_SHAPE(shapes[s][0], shapes[s][3], side / 2, side / 2), 7);
            const results one = run_everything(1, x, w, dy);
            for (int threads = 2; threads <= 5; threads++) {
                const results many = run_everything(threads, x, w, dy);
                for (int i = 0; i < 4; i++)
                    assert_memory_equal(cr_data(one.at[i]), cr_data(many.at[i]), (size_t)cr_numel(one.at[i]) * 4);
            }
        }
    cr_set_num_threads(before);
}

/* ---------------------------------------------------------------- layouts */
static void channels_last_is_kept(void **state) {
    (void)state;
    CR_SCOPE {
        cr_tensor *x = noise(CR_SHAPE(2, 5, 9, 8), 1), *w = noise(CR_SHAPE(6, 5, 3, 3), 2), *last = cr_channels_last(x);
        cr_tensor *pairs[][2] = {
            {cr_conv2d(x, w, NULL, .padding = 1), cr_conv2d(last, w, NULL, .padding = 1)},
            {cr_max_pool2d(x, 3, .stride = 2), cr_max_pool2d(last, 3, .stride = 2)},
            {cr_avg_pool2d(x, 3, .padding = 1), cr_avg_pool2d(last, 3, .padding = 1)},
            {cr_adaptive_avg_pool2d(x, 3, 3), cr_adaptive_avg_pool2d(last, 3, 3)},
        };
        assert_cr_ok();
        for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
            assert_false(cr_is_channels_last(pairs[i][0]));
            assert_true(cr_is_channels_last(pairs[i][1]));
            cr_tensor *dense = cr_contiguous(pairs[i][1]);
            assert_memory_equal(cr_data(dense), cr_data(pairs[i][0]), (size_t)cr_numel(dense) * 4);
        }
    }
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

/* ---------------------------------------------------------------- pooling's edges */
static void max_pool_finds_nan_and_infinity(void **state) {
    (void)state;
    CR_SCOPE {
        const float values[] = {1, NAN, 3, -INFINITY, -INFINITY, -INFINITY};
        cr_tensor *x = cr_from_data(CR_F32, CR_SHAPE(1, 6), values), *best, *at;
        assert_true(cr_max_pool_with_indices(x, 1, 3, NULL, &best, &at));
        assert_true(isnan(cr_data_f32(best)[0]) && cr_data_i64(at)[0] == 1);
        assert_true(cr_data_f32(best)[1] == -INFINITY && cr_data_i64(at)[1] == 3);
        const float pairs[] = {NAN, 1, 2, NAN, -INFINITY, -INFINITY, 3, 3, 4, 5, NAN, NAN,
                               6,   7, 7, 6,   INFINITY,  NAN,       1, 2, 2, 1, 0,   -0.0f};
        const int64_t places[] = {0, 3, 4, 6, 9, 11, 13, 14, 17, 19, 20, 22};
        assert_true(cr_max_pool_with_indices(cr_from_data(CR_F32, CR_SHAPE(1, 12), pairs), 1, 2, NULL, &best, &at));
        for (int i = 0; i < 6; i++) {
            assert_int_equal(cr_data_i64(at)[i], places[i]);
            assert_memory_equal(cr_data_f32(best) + i, pairs + places[i], sizeof(float));
        }
        assert_true(cr_max_pool_with_indices(cr_from_data(CR_F32, CR_SHAPE(1, 24), pairs), 1, 2, NULL, &best, &at));
        for (int i = 0; i < 12; i++) {
            assert_int_equal(cr_data_i64(at)[i], places[i]);
            assert_memory_equal(cr_data_f32(best) + i, pairs + places[i], sizeof(float));
        }
        assert_null(cr_max_pool2d(x, 2));
        assert_cr_error(CR_ERROR_SHAPE, "dims");
        assert_null(cr_max_pool1d(x, 0));
        assert_cr_error(CR_ERROR_ARGUMENT, "kernel_sizes is 0");
        assert_null(cr_conv2d(cr_zeros(CR_F32, CR_SHAPE(1, 1, 6, 6), CR_CPU), x, NULL));
        assert_cr_error(CR_ERROR_SHAPE, "conv2d: the weight needs 4 dims");
        assert_null(cr_conv1d(NULL, cr_zeros(CR_F32, CR_SHAPE(1, 1, 1), CR_CPU), NULL));
        assert_cr_error(CR_ERROR_ARGUMENT, "input is NULL");
    }
}

/* ---------------------------------------------------------------- faults */
static bool train_once(void) {
    bool done = false;
    CR_SCOPE {
        cr_tensor *x = cr_full(CR_F32, CR_SHAPE(3, 4, 8, 8), 0.5, CR_CPU),
                  *w = cr_full(CR_F32, CR_SHAPE(5, 4, 4, 4), 0.1, CR_CPU);
        cr_tensor *b = cr_full(CR_F32, CR_SHAPE(5), 1, CR_CPU);
        cr_tensor *y = cr_conv2d(x, w, b, .stride = 2, .padding = 1),
                  *z = cr_conv_transpose2d(y, w, NULL, .stride = 2, .padding = 1);
        cr_tensor *pooled = cr_avg_pool2d(cr_max_pool2d(z, 2), 2);
        const cr_convolution_grad_options small = {
            .size = sizeof small, .paddings = CR_DIMS(1), .groups = 1, .sizes = CR_SHAPE(4, 3, 3, 3)};
        cr_tensor *images = cr_full(CR_F32, CR_SHAPE(64, 3, 6, 6), 0.5, CR_CPU); /* as lanes */
        cr_tensor *kernels = cr_full(CR_F32, CR_SHAPE(4, 3, 3, 3), 0.5, CR_CPU),
                  *filtered = cr_conv2d(images, kernels, NULL, .padding = 1),
                  *by_features = cr_conv2d(cr_full(CR_F32, CR_SHAPE(1, 4, 40, 40), 0.5, CR_CPU),
                                           cr_full(CR_F32, CR_SHAPE(64, 4, 3, 3), 0.1, CR_CPU), NULL),
                  *slopes = cr_convolution_grad_weight_with(filtered, images, &small);
        cr_convolution_grad_options o = {.size = sizeof o,
                                         .strides = CR_DIMS(2),
                                         .paddings = CR_DIMS(1),
                                         .groups = 1,
                                         .sizes = CR_SHAPE(5, 4, 4, 4)};
        done = pooled && slopes && by_features && cr_convolution_grad_weight_with(y, x, &o) &&
               cr_ok(); /* a bias that could not be made counts as absent */
    }
    return done;
}

static void every_failed_allocation_is_an_error(void **state) {
    (void)state;
    assert_true(train_once());
    for (int64_t n = 1; n < 1000; n++) {
        cr_memory_fail_nth(n);
        const bool done = train_once();
        const int64_t seen = cr_memory_fail_seen();
        cr_memory_fail_nth(0);
        assert_int_equal(cr_memory_stats().live_bytes, 0);
        if (seen < n) {
            assert_true(done);
            assert_true(n > 20);
            return;
        }
        assert_false(done);
        assert_cr_error(CR_ERROR_MEMORY, "made to fail");
    }
    fail_msg("the step allocates without end");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_plain_loops_over_many_geometries),
        cmocka_unit_test(tiles_of_rows_leave_columns_as_they_are),
        cmocka_unit_test(results_do_not_depend_on_the_threads),
        cmocka_unit_test(tiles_and_lanes_do_not_depend_on_the_threads),
        cmocka_unit_test(channels_last_is_kept),
        cmocka_unit_test(max_pool_finds_nan_and_infinity),
        cmocka_unit_test(every_failed_allocation_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
