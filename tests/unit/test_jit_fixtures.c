/* Programs that older versions saved (tests/jit/fixtures): they load and give the numbers that they gave then, for ever.
 * NAME.safetensors is the program; NAME.values.safetensors holds operands and results of its runs, one after the other.
 *
 * A new kind of program is added by CRESSET_WRITE_FIXTURES=FOLDER build/tests/test_jit_fixtures, which writes what FOLDER
 * does not have; a file that stands in the repository is never written again. */
#include "tests/unit/testing.h"
#include "tests/unit/temporary_folder.h"

#include <cresset/jit.h>

#include <math.h>
#include <unistd.h>

enum { RUNS = 3, MOST = 4 };

/* ---------------------------------------------------------------- what was saved */
typedef struct fixture {
    const char *name;
    int inputs, outputs;
    cr_graph *(*make)(void);
    void (*operands)(int run, cr_tensor **inputs);
} fixture;

static cr_graph *make_pictures(void) {
    cr_nn_module *net = cr_nn_eval(cr_nn_sequential(
        cr_nn_conv2d(2, 4, 3, .padding = 1, .bias = false), cr_nn_batch_norm2d(4), cr_nn_leaky_relu(0.2),
        cr_nn_max_pool2d(2), cr_nn_conv_transpose2d(4, 3, 4, .stride = 2, .padding = 1), cr_nn_tanh(), cr_nn_flatten(),
        cr_nn_linear(3 * 6 * 6, 5), cr_nn_softmax(-1)));
    cr_nn_forward(cr_nn_train(net, true), cr_randn(CR_F32, CR_SHAPE(4, 2, 6, 6), CR_CPU)); /* statistics */
    cr_nn_eval(net);
    cr_graph *graph = cr_jit_trace(net, cr_randn(CR_F32, CR_SHAPE(2, 2, 6, 6), CR_CPU), .dynamic_batch = true,
                                   .input_names = "image");
    cr_nn_free(net);
    return graph;
}
static void pictures(int run, cr_tensor **in) { in[0] = cr_randn(CR_F32, CR_SHAPE(1 + run, 2, 6, 6), CR_CPU); }

static bool words_function(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    cr_nn_module *const *parts = context;
    (void)in_count, (void)out_count;
    cr_tensor *x = cr_nn_forward(parts[0], in[0]); /* [T, B, 6] */
    cr_tensor *h = cr_nn_lstm_forward(parts[1], x, NULL, NULL, NULL, NULL);
    cr_tensor *rows = cr_transpose(h, 0, 1); /* [B, T, 4] */
    cr_tensor *seen = cr_scaled_dot_product_attention(rows, rows, rows, NULL, .is_causal = true);
    out[0] = cr_cat((cr_tensor *const[]){seen, cr_slice(rows, 1, 0, cr_size(rows, 1), 1)}, 2, 2);
    out[1] = cr_argmax(cr_cast(out[0], CR_F64), -1, false);
    return out[1] != NULL;
}
static cr_graph *make_words(void) {
    cr_nn_module *parts[] = {cr_nn_embedding(11, 6), cr_nn_lstm(6, 4)};
    cr_tensor *index = cr_randint(0, 11, CR_SHAPE(3, 2), CR_CPU);
    cr_graph *graph = cr_jit_trace_function(words_function, parts, &index, 1, NULL, 2, parts, 2, .dynamic = "0.1=batch",
                                            .output_names = "states,best");
    cr_nn_free(parts[0]);
    cr_nn_free(parts[1]);
    return graph;
}
static void words(int run, cr_tensor **in) { in[0] = cr_randint(0, 11, CR_SHAPE(3, 1 + run), CR_CPU); }

static bool step_function(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    void *const *own = context;
    (void)in_count, (void)out_count;
    cr_optim_zero_grad(own[1]);
    out[0] = cr_mse_loss(cr_nn_forward(own[0], in[0]), in[1]);
    return cr_backward(out[0]) && cr_optim_step(own[1]);
}
static cr_graph *make_step(void) {
    cr_nn_module *net = cr_nn_sequential(cr_nn_linear(3, 8), cr_nn_batch_norm1d(8), cr_nn_gelu(), cr_nn_linear(8, 2));
    cr_optim *optim = cr_optim_adam(cr_nn_parameters(net), .lr = 0.05);
    void *own[] = {net, optim};
    cr_tensor *examples[] = {cr_randn(CR_F32, CR_SHAPE(4, 3), CR_CPU), cr_randn(CR_F32, CR_SHAPE(4, 2), CR_CPU)};
    cr_graph *graph = cr_jit_trace_function(step_function, own, examples, 2, NULL, 1, &net, 1);
    cr_optim_free(optim);
    cr_nn_free(net);
    return graph;
}
static void steps(int run, cr_tensor **in) {
    (void)run;
    in[0] = cr_randn(CR_F32, CR_SHAPE(4, 3), CR_CPU);
    in[1] = cr_randn(CR_F32, CR_SHAPE(4, 2), CR_CPU);
}

static bool twice(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    (void)context, (void)in_count, (void)out_count;
    return (out[0] = cr_mul_scalar(in[0], 2)) != NULL;
}
static bool less(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    (void)context, (void)in_count, (void)out_count;
    return (out[0] = cr_sub_scalar(in[0], 0.5)) != NULL;
}
static bool is_small(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    (void)context, (void)in_count, (void)out_count;
    return (out[0] = cr_lt_scalar(cr_sum(cr_abs(in[0])), 100)) != NULL;
}
static bool add_up(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    (void)context, (void)in_count, (void)out_count;
    out[0] = cr_add(in[0], in[1]);
    return (out[1] = cr_exp(cr_neg(cr_square(out[0])))) != NULL;
}
static bool ways_function(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    cr_tensor *zero = cr_zeros(CR_F32, CR_SHAPE(3), CR_CPU), *both[] = {zero, in[0]}, *sums[2];
    (void)in_count, (void)out_count;
    return cr_cond(cr_gt_scalar(cr_sum(in[0]), 0), twice, less, context, in, 1, &out[0], 1) &&
           cr_while_loop(is_small, twice, context, &out[0], 1, &out[1]) &&
           cr_scan(add_up, context, both, 1, 1, sums, 2) && (out[2] = sums[1]) != NULL;
}
static cr_graph *make_ways(void) {
    cr_tensor *x = cr_ones(CR_F32, CR_SHAPE(4, 3), CR_CPU);
    return cr_jit_trace_function(ways_function, NULL, &x, 1, NULL, 3, NULL, 0);
}
static void ways(int run, cr_tensor **in) { in[0] = cr_add_scalar(cr_randn(CR_F32, CR_SHAPE(4, 3), CR_CPU), run - 1); }

static const fixture fixtures[] = {{"pictures", 1, 1, make_pictures, pictures},
                                   {"words", 1, 2, make_words, words},
                                   {"step", 2, 1, make_step, steps},
                                   {"ways", 1, 3, make_ways, ways}};
enum { FIXTURES = sizeof fixtures / sizeof fixtures[0] };

/* ---------------------------------------------------------------- writing new ones */
static char *path_of(const char *folder, const char *name, const char *ending) {
    static char paths[2][600];
    static unsigned next;
    char *path = paths[next++ % 2];
    snprintf(path, sizeof paths[0], "%s/%s%s", folder, name, ending);
    return path;
}

static bool write_fixture(const fixture *f, const char *folder) {
    static char names[RUNS * MOST * 2][32];
    cr_named_tensor rows[RUNS * MOST * 2];
    int count = 0;
    if (access(path_of(folder, f->name, ".safetensors"), F_OK) == 0) return true;
    cr_manual_seed(2026);
    cr_graph *graph = f->make();
    bool done = graph && cr_jit_save(graph, path_of(folder, f->name, ".safetensors"));
    cr_jit_free(graph);
    graph = done ? cr_jit_load(path_of(folder, f->name, ".safetensors"), CR_CPU) : NULL;
    for (int run = 0; done && run < RUNS; run++) {
        cr_tensor *in[MOST], *out[MOST];
        f->operands(run, in);
        done = cr_jit_run(graph, in, f->inputs, out, f->outputs);
        for (int i = 0; done && i < f->inputs + f->outputs; i++, count++) {
            snprintf(names[count], sizeof names[0], "%d.%s%d", run, i < f->inputs ? "input" : "output",
                     i < f->inputs ? i : i - f->inputs);
            rows[count] = (cr_named_tensor){names[count], cr_contiguous(i < f->inputs ? in[i] : out[i - f->inputs])};
        }
    }
    cr_jit_free(graph);
    return done && cr_safetensors_save(path_of(folder, f->name, ".values.safetensors"), rows, count, NULL, 0);
}

/* ---------------------------------------------------------------- tests */
static const char *folder(void) {
    static char path[512];
    const char *source = getenv("CRESSET_SOURCE");
    snprintf(path, sizeof path, "%s/tests/jit/fixtures", source ? source : ".");
    return path;
}

static cr_tensor *value_of(cr_safetensors *values, int run, const char *what, int index) {
    char name[32];
    snprintf(name, sizeof name, "%d.%s%d", run, what, index);
    return cr_safetensors_tensor(values, name);
}

static void assert_near(cr_tensor *given, cr_tensor *expected, const char *name, int run) {
    assert_cr_ok();
    assert_true(cr_dtype_of(given) == cr_dtype_of(expected) &&
                cr_shape_equal(cr_shape_of(given), cr_shape_of(expected)));
    cr_tensor *a = cr_contiguous(cr_cast(given, CR_F64)), *b = cr_contiguous(cr_cast(expected, CR_F64));
    const double *x = cr_data(a), *y = cr_data(b);
    for (int64_t i = 0; i < cr_numel(a); i++)
        if (!(fabs(x[i] - y[i]) <= 2e-5 * (1 + fabs(y[i]))))
            fail_msg("%s, run %d: element %lld is %.9g, and was %.9g", name, run, (long long)i, x[i], y[i]);
}

static void programs_of_older_versions_give_the_numbers_they_gave(void **state) {
    (void)state;
    for (int k = 0; k < FIXTURES; k++)
        CR_SCOPE {
            const fixture *f = &fixtures[k];
            cr_graph *graph = cr_jit_load(path_of(folder(), f->name, ".safetensors"), CR_CPU);
            cr_safetensors *values = cr_safetensors_open(path_of(folder(), f->name, ".values.safetensors"));
            assert_cr_ok();
            assert_int_equal(cr_jit_input_count(graph), f->inputs);
            assert_int_equal(cr_jit_output_count(graph), f->outputs);
            for (int run = 0; run < RUNS; run++) {
                cr_tensor *in[MOST], *out[MOST];
                for (int i = 0; i < f->inputs; i++)
                    in[i] = value_of(values, run, "input", i);
                if (run == 2) cr_jit_wait(); /* compiled, where there is a compiler */
                assert_true(cr_jit_run(graph, in, f->inputs, out, f->outputs));
                for (int i = 0; i < f->outputs; i++)
                    assert_near(out[i], value_of(values, run, "output", i), f->name, run);
            }
            cr_jit_free(graph);
            cr_safetensors_close(values);
        }
    cr_scope_clear();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

static void programs_of_newer_versions_are_refused_by_name(void **state) {
    (void)state;
    static const char *const texts[] = {"cresset graph 2\ninput %0 f32[2]\n", "cresset graph 10\n",
                                        "cresset graph 2 with more\n"};
    CR_SCOPE {
        const cr_named_tensor row = {"w", cr_ones(CR_F32, CR_SHAPE(4), CR_CPU)};
        for (int i = 0; i < 3; i++) {
            const cr_text_pair metadata = {"cresset.graph", texts[i]};
            assert_true(cr_safetensors_save(in_folder("newer"), &row, 1, &metadata, 1));
            assert_null(cr_jit_load(in_folder("newer"), CR_CPU));
            assert_cr_error(CR_ERROR_UNSUPPORTED, i == 1 ? "a graph of version 10" : "a graph of version 2");
        }
        assert_null(cr_jit_parse("cresset graph 1x\n"));
        assert_cr_error(CR_ERROR_FORMAT, "not a graph of version 1");
    }
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

int main(void) {
    const char *to = getenv("CRESSET_WRITE_FIXTURES");
    bool written = true;
    for (int k = 0; to && k < FIXTURES; k++)
        CR_SCOPE
            written &= write_fixture(&fixtures[k], to);
    if (cr_report(stderr) || !written) return 1;
    if (to) return 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(programs_of_older_versions_give_the_numbers_they_gave),
        cmocka_unit_test(programs_of_newer_versions_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, make_temporary_folder, remove_temporary_folder);
}
