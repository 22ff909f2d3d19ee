/* Constant folding: nodes that read only constants (and, in a frozen graph, states that no run updates) are computed
 * now, where their result is not much larger than what it is made of. Weights that are kept in fewer bits stay so in a graph
 * that is saved; a plan whose kernels do not read them as they are holds them widened. */
#include "jit/pass.h"

#include "core/tensor.h"

#include <string.h>

enum { ALWAYS_BYTES = 4096 };

/* value->note: the tensor that it is, while the pass runs. */
static bool is_constant_state(const cr_graph *graph, const cr_state *state) {
    return state->tensor && !state->update && (state->kind == CR_STATE_CONSTANT || graph->is_frozen);
}

/* Numbers that become wider ones. */
static bool is_widening(const cr_graph_node *node) {
    if (strcmp(node->op->name, "cast") != 0 || !node->outputs[0]) return false;
    const cr_dtype from = node->inputs[0]->dtype, to = node->outputs[0]->dtype;
    return cr_dtype_is_floating(to) && from != CR_BOOL && cr_dtype_size(from) < cr_dtype_size(to);
}

static bool may_fold(const cr_graph_node *node, bool widens) {
    if ((node->op->flags & (CR_OP_RANDOM | CR_OP_READS_HOST | CR_OP_BLOCKS)) ||
        cr_op_mutates(node->op, node->attributes))
        return false;
    if (!strcmp(node->op->name, "dequantize") || (!widens && is_widening(node))) return false;
    if (node->input_count == 0 || node->block_count || node->bound_count)
        return false; /* full and its like are small as they are */
    size_t read = ALWAYS_BYTES, made = 0;
    for (int i = 0; i < node->input_count; i++) {
        if (!node->inputs[i]) continue;
        if (!node->inputs[i]->note) return false;
        const cr_tensor *t = node->inputs[i]->note;
        read += (size_t)t->numel * cr_dtype_size((cr_dtype)t->dtype);
    }
    for (int i = 0; i < node->output_count; i++) {
        int64_t numel = 0;
        if (node->outputs[i] && !cr_shape_numel(node->outputs[i]->shape, &numel)) return false;
        made += (size_t)numel * 8;
    }
    return made <= 2 * read || is_widening(node);
}

static bool compute(cr_graph *graph, const cr_graph_node *node, cr_tensor *const *inputs, cr_tensor **outputs) {
    if (node->output_count == 1 && node->op->output_total == 1)
        return (outputs[0] = cr_graph_compute_op(graph, node->op, node->attributes, inputs, node->input_count)) != NULL;
    for (int i = 0; i < node->input_count; i++)
        if (!cr_graph_want(graph, inputs[i])) return false;
    return cr_run_all((cr_op *)(uintptr_t)node->op, inputs, node->input_count, node->attributes, outputs,
                      node->output_count);
}

static bool fold(cr_graph *graph, cr_graph_node *node) {
    cr_tensor *inputs[CR_MAX_INPUTS], *outputs[CR_MAX_OUTPUTS];
    for (int i = 0; i < node->input_count; i++)
        inputs[i] = node->inputs[i] ? node->inputs[i]->note : NULL;
    if (!compute(graph, node, inputs, outputs)) return false;
    for (int i = 0; i < node->output_count; i++) {
        if (!node->outputs[i]) continue;
        cr_value *value = cr_graph_add_constant(graph, "folded", outputs[i]);
        if (!value) return false;
        value->note = outputs[i];
        node->outputs[i]->replacement = value;
    }
    return true;
}

static bool fold_constants(cr_graph *graph, bool widens, bool *changed) {
    bool done = true;
    cr_thread *thread = cr_thread_self();
    const bool paused = thread->listeners_paused;
    for (int i = 0; i < graph->state_count; i++)
        graph->states[i].value->note = is_constant_state(graph, &graph->states[i]) ? graph->states[i].tensor : NULL;
    for (int i = 0; i < graph->body.input_count; i++)
        graph->body.inputs[i]->note = NULL;
    for (cr_graph_node *node = graph->body.first; node; node = node->next)
        for (int i = 0; i < node->output_count; i++)
            if (node->outputs[i]) node->outputs[i]->note = NULL;
    thread->listeners_paused = true;
    for (cr_graph_node *node = graph->body.first, *next; done && node; node = next) {
        next = node->next;
        for (int i = 0; i < node->input_count; i++)
            node->inputs[i] = cr_value_resolve(node->inputs[i]);
        if (!may_fold(node, widens)) continue;
        if ((done = fold(graph, node))) cr_graph_remove(&graph->body, node);
        *changed = true;
    }
    thread->listeners_paused = paused;
    for (int i = 0; i < graph->state_count; i++)
        graph->states[i].value->note = NULL;
    cr_graph_apply(graph);
    return done;
}

bool cr_pass_constant_folding(cr_graph *graph, bool *changed) { return fold_constants(graph, true, changed); }
bool cr_fold_all_but_narrow(cr_graph *graph, bool *changed) { return fold_constants(graph, false, changed); }
