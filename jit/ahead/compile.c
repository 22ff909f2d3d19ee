/* cr_jit_compile: a graph to a file of C. */
#include "jit/ahead/program.h"

#include "core/file.h"
#include "ops/pointwise.h"

#include <ctype.h>
#include <stdlib.h>

CR_OPTION_DEFAULTS(jit_compile, CR_JIT_COMPILE_OPTIONS)

/* ---------------------------------------------------------------- options */
static bool check_name(const char *name) {
    bool good = name && (isalpha((unsigned char)*name) || *name == '_');
    for (const char *at = name; good && *at; at++)
        good = (isalnum((unsigned char)*at) || *at == '_') && (unsigned char)*at < 128;
    return good && strlen(name) < 64
               ? true
               : cr_fail(CR_ERROR_ARGUMENT,
                         "jit_compile: the name \"%s\" is not a C identifier of at most 63 characters",
                         name ? name : "(null)");
}

/* ---------------------------------------------------------------- the plan */
static bool check_states(const cr_graph *graph, bool trains) {
    bool changes = graph->gradient_count > 0;
    for (int i = 0; i < graph->state_count; i++)
        changes |= graph->states[i].update != NULL;
    if (changes && !trains)
        return cr_fail(CR_ERROR_STATE,
                       "jit_compile: a run of this graph updates its state; compile it with .train = true, "
                       "or trace the module after cr_nn_eval");
    return true;
}

/* States become dense tensors of their own; a program's copy of the weights has no use for other layouts. */
static bool make_states_dense(cr_graph *graph) {
    for (int i = 0; i < graph->state_count; i++) {
        cr_state *state = &graph->states[i];
        const cr_tensor *now = state->gradient_of >= 0 ? cr_state_tensor(graph, state) : state->tensor;
        if (!now)
            return cr_ok() && cr_fail(CR_ERROR_STATE,
                                      "jit_compile: the state \"%s\" has no values: the graph was read "
                                      "from text alone",
                                      state->name);
        cr_tensor *dense = cr_to_device((cr_tensor *)(uintptr_t)now, CR_CPU);
        if (dense && (!cr_is_contiguous(dense) || dense->offset ||
                      dense->storage->bytes != (size_t)dense->numel * cr_dtype_size((cr_dtype)dense->dtype)))
            dense = cr_contiguous(cr_clone(dense));
        if (!dense) return false;
        cr_retain(dense);
        cr_release(state->tensor);
        state->tensor = dense;
        state->gradient_of = -1;
    }
    return true;
}

static bool prepare(cr_graph *graph, const cr_jit_compile_options *o) {
    bool done = cr_graph_set_sizes(graph, o->sizes, "jit_compile") && check_states(graph, o->train);
    CR_SCOPE {
        done = done && make_states_dense(graph);
    }
    graph->supports = cr_ahead_supports;
    graph->is_frozen = graph->is_frozen || !o->train;
    return done && cr_graph_bind(graph) && cr_graph_optimize(graph);
}

static cr_plan *make_plan(const cr_graph *graph, const cr_jit_compile_options *o) {
    cr_graph *copy = cr_graph_copy(graph);
    if (!copy) return NULL;
    if (prepare(copy, o)) return cr_plan_new(copy);
    cr_jit_free(copy);
    return NULL;
}

/* ---------------------------------------------------------------- the file */
static void add_text(cr_text *file, const cr_text *part) {
    file->failed |= part->failed;
    if (part->at) cr_text_add(file, "%s", part->at);
}

/* What stands before the steps depends on what they use, so they are written first. */
static char *put_together(cr_ahead *a, const char *weights_name) {
    cr_text file = {0}, steps = {0};
    bool linked;
    add_text(&steps, &a->expressions);
    add_text(&steps, &a->blocks);
    add_text(&steps, &a->text);
    cr_ahead_add_head(&file, a, weights_name);
    cr_ahead_add_declarations(&file, a,
                              a->arena_bytes + a->scratch_bytes + a->changing_bytes + cr_ahead_gradient_bytes(a));
    cr_ahead_add_prelude(&file);
    linked = !steps.failed && steps.at && cr_ahead_link(&file, steps.at);
    if (linked && a->inline_weights) cr_ahead_add_weights(&file, a, steps.at);
    if (!a->inline_weights) cr_ahead_add_reader(&file, a);
    add_text(&file, &steps);
    cr_ahead_add_functions(&file, a);
    cr_free(steps.at);
    file.failed |= !linked;
    return cr_text_end(&file);
}

static char *write_program(cr_ahead *a, const char *weights_name) {
    char *file = NULL;
    size_t *offsets = cr_calloc((size_t)a->plan->graph->state_count + 1, sizeof *offsets);
    a->written = cr_calloc((size_t)CR_POINTWISE_COUNT * CR_COMPUTE_COUNT, 1);
    a->arena_bytes = cr_ahead_padded(a->plan->arena_bytes);
    if (offsets && a->written) {
        cr_ahead_place_states(a, offsets);
        if (cr_ahead_begin_results(a) && cr_ahead_write_steps(a) && cr_ahead_end_results(a))
            file = put_together(a, weights_name);
    }
    cr_free(a->written);
    cr_free(a->expressions.at);
    cr_free(a->blocks.at);
    cr_free(a->text.at);
    cr_free(a->run.at);
    cr_free(a->fields.at);
    if (!file || a->inline_weights) cr_free(offsets);
    return file;
}

static bool save(const char *path, const char *text) {
    cr_file_writer *to = cr_file_writer_begin(path);
    if (!to) return false;
    cr_file_writer_write(to, text, strlen(text));
    return cr_file_writer_commit(to);
}

/* "models/net.c" -> "models/net.weights". */
static char *weights_path(const char *path) {
    cr_text name = {0};
    const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
    const int length = dot && (!slash || dot > slash + 1) ? (int)(dot - path) : (int)strlen(path);
    cr_text_add(&name, "%.*s.weights", length, path);
    return cr_text_end(&name);
}

static bool compile_plan(const cr_plan *plan, const char *path, const cr_jit_compile_options *o, bool beside) {
    cr_ahead a = {.name = o->name, .plan = plan, .inline_weights = !beside};
    char *weights = beside ? weights_path(path) : NULL;
    const char *slash = weights ? strrchr(weights, '/') : NULL;
    char *text = beside && !weights ? NULL : write_program(&a, slash ? slash + 1 : weights);
    const bool done = text && (!beside || cr_ahead_write_weights(&a, weights)) && save(path, text);
    if (text && beside) cr_free((void *)(uintptr_t)a.state_offsets);
    cr_free(text);
    cr_free(weights);
    return done;
}

bool cr_jit_compile_with(cr_graph *graph, const char *path, const cr_jit_compile_options *options) {
    cr_jit_compile_options o = jit_compile_defaults;
    if (options) memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    if (!graph || !path) return cr_ok() && cr_fail(CR_ERROR_ARGUMENT, "jit_compile: NULL graph or path");
    const bool beside = o.weights && !strcmp(o.weights, "file");
    if (o.weights && !beside && strcmp(o.weights, "inline") != 0)
        return cr_fail(CR_ERROR_ARGUMENT, "jit_compile: weights \"%s\"; they are \"inline\" or a \"file\"", o.weights);
    if (!check_name(o.name)) return false;
    cr_plan *plan = NULL;
    bool done = false;
    CR_SCOPE {
        plan = make_plan(graph, &o);
        done = plan && compile_plan(plan, path, &o, beside);
    }
    cr_plan_free(plan);
    return done;
}
