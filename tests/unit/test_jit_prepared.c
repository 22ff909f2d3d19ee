/* Prepared programs: what a plan computes from weights lies in the file. Runs give the same bits as without, from the
 * file's pages; what does not fit is computed, and what is damaged is refused. */
#include "tests/unit/damage.h"
#include "tests/unit/reference.h"

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
    return cr_nn_eval(cr_nn_sequential(cr_nn_conv2d(3, 16, 3, .padding = 1), cr_nn_conv2d(16, 96, 1), cr_nn_relu6(),
                                       cr_nn_conv2d(96, 96, 3, .padding = 1, .groups = 96), cr_nn_relu6(),
                                       cr_nn_conv2d(96, 24, 1)));
}

static cr_nn_module *words_net(void) {
    return cr_nn_eval(cr_nn_sequential(cr_nn_transformer_layer(64, 4, .gelu = true), cr_nn_linear(64, 80)));
}
static cr_nn_module *recurrent_net(void) { return cr_nn_eval(cr_nn_lstm(64, 48, .batch_first = true)); }
/* 80 and more letters by a table of 50: the product is one of the table's rows. */
static cr_nn_module *table_net(void) {
    return cr_nn_eval(cr_nn_sequential(cr_nn_embedding(50, 64), cr_nn_linear(64, 64), cr_nn_relu(), cr_nn_linear(64, 9)));
}

typedef struct kind {
    const char *name;
    cr_nn_module *(*net)(void);
    cr_tensor *(*input)(int64_t count);
    bool freeze;
    cr_dtype weights; /* other than f32 */
    bool integers;    /* layers in 8 bits */
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
    {"words, weights in bf16", words_net, words, true, CR_BF16, false},
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
        if (plan->states[i] < 0 || (size_t)state->tensor->numel * cr_dtype_size(state->value->dtype) < 4096) continue;
        ++*(state->tensor->storage->release == cr_mapping_release ? &h.mapped : &h.computed);
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
    for (int64_t batch = 1; batch <= 5; batch++) {
        const bool is_ready = batch == 2 || batch == 5;
        cr_tensor *x = k->input(batch), *want = cr_jit_forward(plain, x), *got = cr_jit_forward(prepared, x);
        assert_cr_ok();
        if (!cr_equal(want, got)) fail_msg("%s: other bits at batch %d", k->name, (int)batch);
        const holding before = holding_of(plain, x), now = holding_of(prepared, x);
        if (before.mapped || now.mapped + now.computed != before.computed)
            fail_msg("%s: %d and %d of %d", k->name, now.mapped, now.computed, before.computed);
        if (is_ready && (now.computed || !now.mapped))
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
