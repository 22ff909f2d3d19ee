/* Prepared programs: what a plan computes from weights lies in the file. Runs give the same bits as without, from the
 * file's pages; what does not fit is computed, and what is damaged is refused. */
#include "tests/unit/damage.h"

#include "core/mapping.h"
#include "core/random.h"
#include "core/tensor.h"
#include "jit/plan.h"
#include "jit/prepared.h"

#include <cresset/quantize.h>

/* ---------------------------------------------------------------- programs */
static cr_tensor *pictures(int64_t count) { return cr_randn(CR_F32, CR_SHAPE(count, 3, 32, 32), CR_CPU); }
static cr_tensor *words(int64_t count) { return cr_randn(CR_F32, CR_SHAPE(count, 6, 64), CR_CPU); }
static cr_tensor *letters(int64_t count) { return cr_randint(0, 50, CR_SHAPE(count, 40), CR_CPU); }

static cr_nn_module *pictures_net(void) {
    cr_nn_module *net =
        cr_nn_sequential(cr_nn_conv2d(3, 32, 3, .padding = 1), cr_nn_batch_norm2d(32), cr_nn_relu(),
                         cr_nn_conv2d(32, 64, 3, .padding = 1), cr_nn_batch_norm2d(64), cr_nn_relu(),
                         cr_nn_conv2d(64, 32, 1), cr_nn_max_pool2d(4), cr_nn_flatten(), cr_nn_linear(8 * 8 * 32, 50));
    CR_SCOPE {
        CR_NO_GRAD { cr_nn_forward(net, pictures(4)); } /* statistics other than 0 and 1 */
    }
    return cr_nn_eval(net);
}

/* As in MobileNetV2: three layers that become one node. */
static cr_nn_module *bottleneck_net(void) {
    return cr_nn_eval(cr_nn_sequential(cr_nn_conv2d(3, 16, 3, .padding = 1), cr_nn_conv2d(16, 128, 1), cr_nn_relu6(),
                                       cr_nn_conv2d(128, 128, 3, .padding = 1, .groups = 128), cr_nn_relu6(),
                                       cr_nn_conv2d(128, 64, 1)));
}

static cr_nn_module *words_net(void) {
    return cr_nn_eval(cr_nn_sequential(cr_nn_transformer_layer(64, 4, .gelu = true), cr_nn_linear(64, 80)));
}
static cr_nn_module *recurrent_net(void) { return cr_nn_eval(cr_nn_lstm(64, 48, .batch_first = true)); }

/* x W, W: [64, 80]. In bf16, W is turned for the kernel. */
static cr_tensor *product_forward(cr_nn_module *self, cr_tensor *x) {
    return cr_matmul(x, *(cr_tensor **)cr_nn_self(self));
}
static cr_nn_module *product_net(void) {
    cr_nn_module *net = cr_nn_module_new("product", sizeof(cr_tensor *), product_forward);
    *(cr_tensor **)cr_nn_self(net) =
        cr_nn_register_parameter(net, "weight", cr_randn(CR_F32, CR_SHAPE(64, 80), CR_CPU));
    return net;
}

/* 80 and more letters by a table of 50: the product is one of the table's rows. */
static cr_nn_module *table_net(void) {
    return cr_nn_eval(
        cr_nn_sequential(cr_nn_embedding(50, 64), cr_nn_linear(64, 64), cr_nn_relu(), cr_nn_linear(64, 9)));
}

typedef struct kind {
    const char *name;
    cr_nn_module *(*net)(void);
    cr_tensor *(*input)(int64_t count);
    bool freeze;
    cr_dtype weights; /* other than f32 */
    bool integers;    /* layers in 8 bits */
    bool is_read_as_it_is;
} kind;

static const kind kinds[] = {
    {"pictures, frozen", pictures_net, pictures, true, CR_F32, false},
    {"pictures, norms folded by the plan", pictures_net, pictures, false, CR_F32, false},
    {"pictures, weights in bf16", pictures_net, pictures, true, CR_BF16, false},
    {"pictures, weights in i8", pictures_net, pictures, true, CR_I8, false},
    {"pictures, layers in i8", pictures_net, pictures, true, CR_F32, true},
    {"bottlenecks", bottleneck_net, pictures, true, CR_F32, false},
    {"bottlenecks, layers in i8", bottleneck_net, pictures, true, CR_F32, true},
    {"words", words_net, words, true, CR_F32, false},
    {"words, not frozen", words_net, words, false, CR_F32, false},
    {"words, weights in bf16", words_net, words, true, CR_BF16, false, true},
    {"a product, weights in bf16", product_net, words, true, CR_BF16, false},
    {"recurrent", recurrent_net, words, true, CR_F32, false},
    {"a table", table_net, letters, true, CR_F32, false},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static cr_graph *trace(const kind *k) {
    cr_manual_seed(5);
    cr_nn_module *net = k->net();
    cr_tensor *batches[] = {k->input(2)};
    cr_quantize_array data = {batches, 1};
    cr_graph *graph = cr_jit_trace(net, batches[0], .dynamic_batch = true, .freeze = k->freeze), *narrow = graph;
    if (k->weights != CR_F32) narrow = cr_jit_quantize_weights(graph, .dtype = k->weights);
    if (k->integers) narrow = cr_jit_quantize(graph, cr_quantize_from_array, &data);
    if (narrow != graph) cr_jit_free(graph);
    assert_cr_ok();
    cr_nn_free(net);
    return narrow;
}

static bool same_bits(const cr_tensor *a, const cr_tensor *b) {
    return cr_dtype_of(a) == cr_dtype_of(b) && cr_shape_equal(cr_shape_of(a), cr_shape_of(b)) &&
           !memcmp(cr_tensor_address(a), cr_tensor_address(b), (size_t)cr_numel(a) * cr_dtype_size(cr_dtype_of(a)));
}

/* ---------------------------------------------------------------- what a plan holds */
typedef struct holding {
    int mapped, computed; /* constants beside the program's own, of 4 KB and more */
} holding;

static holding holding_of(cr_graph *graph, cr_tensor *input) {
    holding h = {0, 0};
    cr_plan *plan = cr_plan_for(graph, &input, 1);
    assert_cr_ok();
    for (int i = graph->state_count; i < plan->graph->state_count; i++) {
        const cr_state *state = &plan->graph->states[i];
        const size_t bytes = (size_t)state->tensor->numel * cr_dtype_size(state->value->dtype);
        const bool is_mapped = state->tensor->storage->release == cr_mapping_release;
        if (plan->states[i] < 0 || bytes < 4096) continue;
        ++*(is_mapped ? &h.mapped : &h.computed);
        if (is_mapped && bytes % 64 == 0) /* as vectors want it */
            assert_int_equal((uintptr_t)cr_tensor_address(state->tensor) % 64, 0);
    }
    cr_plan_release(plan);
    return h;
}

static cr_graph *load(const char *name) {
    cr_graph *graph = cr_jit_load(in_folder(name), CR_CPU);
    assert_cr_ok();
    return graph;
}

/* ---------------------------------------------------------------- the same bits */
static void check_kind(const kind *k) {
    cr_graph *graph = trace(k);
    assert_true(cr_jit_save(graph, in_folder("plain")));
    assert_true(cr_jit_save(graph, in_folder("prepared"), .prepare = "batch=2;batch=5"));
    cr_jit_free(graph);
    cr_graph *plain = load("plain"), *prepared = load("prepared");
    assert_int_equal(cr_jit_warning_count(prepared), 0);
    if (k->integers) /* what a pass reads is there too, though no node does */
        assert_non_null(strstr(cr_safetensors_metadata(prepared->file, CR_PREPARED_KEY), "sum_by_output("));
    for (int64_t batch = 1; batch <= 5; batch++) {
        const bool is_ready = batch == 2 || batch == 5;
        cr_tensor *x = k->input(batch), *want = cr_jit_forward(plain, x), *got = cr_jit_forward(prepared, x);
        assert_cr_ok();
        if (!same_bits(want, got)) fail_msg("%s: other bits at batch %d", k->name, (int)batch);
        const holding before = holding_of(plain, x), now = holding_of(prepared, x);
        if (before.mapped || now.mapped + now.computed != before.computed)
            fail_msg("%s: %d and %d of %d", k->name, now.mapped, now.computed, before.computed);
        if (is_ready && (now.computed || (!now.mapped && !k->is_read_as_it_is)))
            fail_msg("%s, batch %d: %d are mapped, %d computed", k->name, (int)batch, now.mapped, now.computed);
    }
    cr_jit_free(plain);
    cr_jit_free(prepared);
}

static void every_kind_gives_the_same_bits_from_the_files_pages(void **state) {
    (void)state;
    for (int i = 0; i < KINDS; i++) {
        CR_SCOPE {
            check_kind(&kinds[i]);
        }
        cr_scope_clear();
        assert_int_equal(cr_memory_stats().live_bytes, 0);
    }
}

/* ---------------------------------------------------------------- state that runs change */
static void caches_go_on_as_without(void **state) {
    (void)state;
    CR_NO_GRAD {
        CR_SCOPE {
            cr_nn_module *net = cr_nn_transformer_layer(64, 4, .is_causal = true, .norm_first = true, .gelu = true);
            cr_nn_cache_begin(cr_nn_eval(net), 1, 32);
            cr_tensor *prompt = cr_randn(CR_F32, CR_SHAPE(1, 8, 64), CR_CPU), *word = cr_slice(prompt, 1, 0, 1, 1);
            cr_graph *graph = cr_jit_trace(net, prompt, .dynamic = "0.1=length", .freeze = true);
            cr_nn_cache_rewind(net, 0);
            assert_true(cr_jit_save(graph, in_folder("plain")));
            assert_true(cr_jit_save(graph, in_folder("prepared"), .prepare = "length=8;length=1"));
            cr_graph *plain = load("plain"), *prepared = load("prepared");
            assert_true(same_bits(cr_jit_forward(plain, prompt), cr_jit_forward(prepared, prompt)));
            for (int i = 0; i < 4; i++)
                assert_true(same_bits(cr_jit_forward(plain, word), cr_jit_forward(prepared, word)));
            const holding h = holding_of(prepared, prompt);
            assert_true(h.mapped > 0 && !h.computed);
            cr_jit_free(graph);
            cr_jit_free(plain);
            cr_jit_free(prepared);
            cr_nn_free(net);
        }
    }
    cr_scope_clear();
    assert_cr_ok();
}

static bool train(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    cr_nn_module *net = ((void **)context)[0];
    cr_optim *optim = ((void **)context)[1];
    (void)in_count, (void)out_count;
    cr_optim_zero_grad(optim);
    out[0] = cr_mean(cr_square(cr_nn_forward(net, in[0])));
    return cr_backward(out[0]) && cr_optim_step(optim);
}

/* Weights that a run updates are packed by no plan: the file gets nothing, and the program trains on. */
static void a_training_step_is_saved_as_ever(void **state) {
    (void)state;
    CR_SCOPE {
        cr_nn_module *net = cr_nn_sequential(cr_nn_conv2d(3, 32, 3), cr_nn_batch_norm2d(32), cr_nn_relu());
        cr_optim *optim = cr_optim_sgd(cr_nn_parameters(net), .lr = 0.1);
        void *context[] = {net, optim};
        cr_tensor *x = pictures(2), *want, *got;
        cr_graph *graph = cr_jit_trace_function(train, context, &x, 1, NULL, 1, &net, 1);
        assert_true(cr_jit_save(graph, in_folder("plain")));
        assert_true(cr_jit_save(graph, in_folder("prepared"), .prepare = ""));
        cr_graph *plain = load("plain"), *prepared = load("prepared");
        for (int i = 0; i < 3; i++) {
            assert_true(cr_jit_run(plain, &x, 1, &want, 1) && cr_jit_run(prepared, &x, 1, &got, 1));
            assert_true(same_bits(want, got));
        }
        assert_int_equal(holding_of(prepared, x).mapped, 0);
        cr_jit_free(graph);
        cr_jit_free(plain);
        cr_jit_free(prepared);
        cr_optim_free(optim);
        cr_nn_free(net);
    }
    cr_scope_clear();
    assert_cr_ok();
}

/* What somebody wrote to after loading is not the file's any more: whole weights, or the numbers of a norm alone. */
static void check_written(const kind *k, int64_t most) {
    cr_graph *graph = trace(k);
    cr_tensor *x = k->input(2);
    assert_true(cr_jit_save(graph, in_folder("prepared"), .prepare = ""));
    cr_graph *prepared = load("prepared");
    CR_NO_GRAD {
        for (int i = 0; i < cr_jit_state_count(graph); i++) {
            if (cr_numel(cr_jit_state(graph, i)) > most) continue;
            cr_fill_(cr_jit_state(graph, i), 0.125);
            cr_fill_(cr_jit_state(prepared, i), 0.125);
        }
    }
    graph->is_frozen = true; /* as the loaded one is */
    assert_true(same_bits(cr_jit_forward(graph, x), cr_jit_forward(prepared, x)));
    assert_int_equal(holding_of(prepared, x).mapped > 0, most < 100); /* of layers without a norm */
    cr_jit_free(graph);
    cr_jit_free(prepared);
}

static void a_weight_that_was_written_to_is_packed_anew(void **state) {
    (void)state;
    CR_SCOPE {
        check_written(&kinds[7], INT64_MAX);
        check_written(&kinds[1], 64);
    }
    cr_scope_clear();
    assert_cr_ok();
}

/* ---------------------------------------------------------------- files of others, damaged files */
/* The file again, with `part` of what it holds for plans replaced (NULL: as it is), without the tensor `left_out`, and
 * with `other` in its place. */
static void rewrite(const char *part, const char *by, const char *left_out, cr_tensor *other) {
    cr_safetensors *file = cr_safetensors_open(in_folder("prepared"));
    const char *text = cr_safetensors_metadata(file, CR_PREPARED_KEY), *at = part ? strstr(text, part) : text;
    cr_named_tensor rows[64];
    char changed[1 << 14];
    int count = 0;
    assert_non_null(at);
    snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, part ? by : "",
             at + (part ? strlen(part) : 0));
    for (int i = 0; i < cr_safetensors_count(file); i++) {
        const char *name = cr_safetensors_name(file, i);
        cr_tensor *t = left_out && !strcmp(name, left_out) ? other : cr_safetensors_tensor(file, name);
        if (t) rows[count++] = (cr_named_tensor){name, t};
    }
    const cr_text_pair pairs[] = {{"cresset.graph", cr_safetensors_metadata(file, "cresset.graph")},
                                  {"cresset.frozen", cr_safetensors_metadata(file, "cresset.frozen")},
                                  {CR_PREPARED_KEY, changed}};
    assert_true(cr_safetensors_save(in_folder("changed"), rows, count, pairs, 3));
    cr_safetensors_close(file);
}

static void what_other_kernels_were_meant_for_is_left_alone(void **state) {
    (void)state;
    CR_SCOPE {
        cr_graph *graph = trace(&kinds[0]);
        cr_tensor *x = pictures(2), *want = cr_jit_forward(graph, x);
        assert_true(cr_jit_save(graph, in_folder("prepared"), .prepare = ""));
        const char *const others[][2] = {
            {"prepared 1", "prepared 2"}, {" for ", " for a"}, {"kernels ", "kernels 0"}, {"\n", " "}};
        for (int i = 0; i < 4; i++) {
            rewrite(others[i][0], others[i][1], "cresset.prepared.0", cr_zeros(CR_U8, CR_SHAPE(1), CR_CPU));
            cr_graph *changed = load("changed");
            assert_int_equal(cr_jit_warning_count(changed), 1);
            assert_non_null(strstr(cr_jit_warning(changed, 0), "cresset prepare"));
            assert_true(same_bits(want, cr_jit_forward(changed, x)));
            assert_int_equal(holding_of(changed, x).mapped, 0);
            cr_jit_free(changed);
        }
        cr_jit_free(graph);
    }
    cr_scope_clear();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

static void expect_refused(const char *part, const char *by, const char *left_out, const char *why) {
    rewrite(part, by, left_out, NULL);
    assert_null(cr_jit_load(in_folder("changed"), CR_CPU));
    assert_cr_error(CR_ERROR_FORMAT, why);
}

static void lines_that_name_no_tensor_are_refused(void **state) {
    (void)state;
    CR_SCOPE {
        cr_graph *graph = trace(&kinds[0]);
        assert_true(cr_jit_save(graph, in_folder("prepared"), .prepare = ""));
        cr_jit_free(graph);
        const char *const lines[] = {"\n-1 ",  "\n99 ",        "\n99999999999999999999 ", "\nx ", "\n ", "\n0",
                                     "\n\n0 ", "\n4294967296 "};
        for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
            expect_refused("\n0 ", lines[i], NULL, "names no tensor");
        expect_refused(NULL, NULL, "cresset.prepared.0", "names no tensor");
    }
    cr_scope_clear();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

/* How many numbers a tensor of the prepared file has. */
static int64_t numel_of(const char *name) {
    cr_safetensors *file = cr_safetensors_open(in_folder("prepared"));
    const int64_t numel = cr_numel(cr_safetensors_tensor(file, name));
    cr_safetensors_close(file);
    return numel;
}

static void numbers_of_another_size_or_dtype_are_refused(void **state) {
    (void)state;
    CR_SCOPE {
        cr_graph *graph = trace(&kinds[0]);
        cr_tensor *x = pictures(2);
        assert_true(cr_jit_save(graph, in_folder("prepared"), .prepare = ""));
        const int64_t numel = numel_of("cresset.prepared.1");
        cr_tensor *const others[] = {
            cr_zeros(CR_F32, CR_SHAPE(numel - 1), CR_CPU), cr_zeros(CR_F32, CR_SHAPE(numel + 1), CR_CPU),
            cr_zeros(CR_I32, CR_SHAPE(numel), CR_CPU), cr_zeros(CR_F32, CR_SHAPE(1, numel), CR_CPU),
            cr_zeros(CR_F32, CR_SHAPE(0), CR_CPU)};
        for (int i = 0; i < 5; i++) {
            rewrite(NULL, NULL, "cresset.prepared.1", others[i]);
            cr_graph *changed = load("changed");
            assert_null(cr_jit_forward(changed, x));
            assert_cr_error(CR_ERROR_FORMAT, "it must be f32");
            assert_non_null(cr_jit_forward(changed, pictures(3))); /* other sizes need nothing of it */
            cr_jit_free(changed);
        }
        cr_jit_free(graph);
    }
    cr_scope_clear();
    assert_cr_ok();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

/* What the file says is what is computed with: other numbers, other results. */
static void the_numbers_are_the_files(void **state) {
    (void)state;
    CR_SCOPE {
        cr_graph *graph = trace(&kinds[7]);
        cr_tensor *x = words(2);
        assert_true(cr_jit_save(graph, in_folder("prepared"), .prepare = ""));
        const int64_t numel = numel_of("cresset.prepared.0");
        rewrite(NULL, NULL, "cresset.prepared.0", cr_zeros(CR_F32, CR_SHAPE(numel), CR_CPU));
        cr_graph *changed = load("changed");
        assert_false(same_bits(cr_jit_forward(graph, x), cr_jit_forward(changed, x)));
        cr_jit_free(changed);
        cr_jit_free(graph);
    }
    cr_scope_clear();
    assert_cr_ok();
}

/* Bytes of the header and of the numbers at random, and cut at every length of the header: refused, or run. */
static void damaged_files_are_refused_or_run(void **state) {
    enum { ROUNDS = 3000 };
    (void)state;
    uint64_t counter = 0;
    CR_SCOPE {
        cr_graph *graph = trace(&kinds[5]);
        assert_true(cr_jit_save(graph, in_folder("prepared"), .prepare = ""));
        cr_jit_free(graph);
    }
    FILE *file = fopen(in_folder("prepared"), "rb");
    static uint8_t whole[1 << 19], damaged[1 << 19];
    const size_t size = fread(whole, 1, sizeof whole, file);
    fclose(file);
    uint64_t header;
    memcpy(&header, whole, sizeof header);
    assert_in_range(size, header, sizeof whole - 1);
    int ran = 0;
    for (int round = 0; round < ROUNDS; round++) {
        memcpy(damaged, whole, size);
        const size_t cut = round % 4 ? size : draw(&counter) % size;
        if (round % 4) mutate(damaged, size, 8 + header, &counter);
        write_file("damaged", damaged, cut);
        CR_SCOPE {
            cr_graph *graph = cr_jit_load(in_folder("damaged"), CR_CPU);
            cr_tensor *y = graph ? cr_jit_forward(graph, pictures(2)) : NULL;
            if (!y && cr_ok()) fail_msg("refused without an error in round %d", round);
            ran += y != NULL;
            cr_jit_free(graph);
        }
        cr_clear_error();
        if (cr_memory_stats().live_bytes) fail_msg("round %d left memory", round);
    }
    assert_in_range(ran, ROUNDS / 4, ROUNDS - ROUNDS / 4);
}

/* ---------------------------------------------------------------- errors */
static void sizes_that_the_graph_does_not_have_are_errors(void **state) {
    (void)state;
    CR_SCOPE {
        cr_graph *graph = trace(&kinds[7]);
        const char *const wrong[] = {"batch", "time=3", "batch=2;batch=-1", "batch=x", "batch=2;;time=1"};
        empty_temporary_folder();
        for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
            assert_false(cr_jit_save(graph, in_folder("wrong"), .prepare = wrong[i]));
            assert_cr_error(CR_ERROR_ARGUMENT, "the graph's names are: batch");
        }
        assert_int_equal(count_temporary_files(), 0);
        cr_jit_free(graph);
    }
    cr_scope_clear();
}

static void save_and_run(const cr_graph *graph, cr_tensor *x) {
    CR_SCOPE {
        cr_jit_save(graph, in_folder("failing"), .prepare = "batch=1;batch=2");
        cr_graph *loaded = cr_ok() ? cr_jit_load(in_folder("failing"), CR_CPU) : NULL;
        if (loaded) cr_jit_forward(loaded, x);
        cr_jit_free(loaded);
    }
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    const int which[] = {1, 5, 8, 10}; /* folded, joined, packed, turned */
    for (size_t i = 0; i < sizeof which / sizeof which[0]; i++) {
        CR_SCOPE {
            cr_graph *graph = trace(&kinds[which[i]]);
            cr_tensor *x = kinds[which[i]].input(1);
            save_and_run(graph, x);
            assert_cr_ok();
            const int64_t before = cr_memory_stats().live_bytes;
            cr_memory_fail_nth(INT64_MAX);
            save_and_run(graph, x);
            const int64_t allocations = cr_memory_fail_seen();
            for (int64_t n = 1; n <= allocations; n++) {
                cr_memory_fail_nth(n);
                save_and_run(graph, x);
                cr_memory_fail_nth(0);
                if (cr_ok()) fail_msg("%s: allocation %d failed without an error", kinds[which[i]].name, (int)n);
                assert_int_equal(cr_last_error()->code, CR_ERROR_MEMORY);
                cr_clear_error();
                if (cr_memory_stats().live_bytes != before) fail_msg("allocation %d left memory", (int)n);
            }
            cr_jit_free(graph);
        }
        cr_scope_clear();
    }
}

int main(void) {
    setenv("CR_CC", "none", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_gives_the_same_bits_from_the_files_pages),
        cmocka_unit_test(caches_go_on_as_without),
        cmocka_unit_test(a_training_step_is_saved_as_ever),
        cmocka_unit_test(a_weight_that_was_written_to_is_packed_anew),
        cmocka_unit_test(what_other_kernels_were_meant_for_is_left_alone),
        cmocka_unit_test(lines_that_name_no_tensor_are_refused),
        cmocka_unit_test(numbers_of_another_size_or_dtype_are_refused),
        cmocka_unit_test(the_numbers_are_the_files),
        cmocka_unit_test(damaged_files_are_refused_or_run),
        cmocka_unit_test(sizes_that_the_graph_does_not_have_are_errors),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, make_temporary_folder, remove_temporary_folder);
}
