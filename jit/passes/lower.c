/* Lowering: an op without a kernel for its device becomes its decomposition, recorded by running that without
 * computing. */
#include "jit/pass.h"
#include "jit/tracer.h"

#include <cresset/autograd.h>

/* Where a node runs: where its results are. */
static cr_device device_of(const cr_graph_node *node) {
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i]) return node->outputs[i]->device;
    return CR_CPU;
}

static bool has_way_to_run(const cr_graph *graph, const cr_graph_node *node) {
    if (graph->supports) return graph->supports(node, graph->target);
    return (node->op->flags & CR_OP_VIEW) || node->block_count > 0 ||
           atomic_load(&node->op->kernels[device_of(node).type]) != NULL;
}

/* Stand-ins for the operands: their sizes, contiguous, and no values. */
static bool make_operands(cr_tracer *tracer, const cr_graph_node *node, cr_tensor **inputs) {
    for (int i = 0; i < node->input_count; i++) {
        inputs[i] = NULL;
        if (!node->inputs[i]) continue;
        inputs[i] = cr_empty_hollow(node->inputs[i]->dtype, node->inputs[i]->shape, NULL, node->inputs[i]->device);
        if (!inputs[i] || !cr_tracer_bind(tracer, inputs[i], node->inputs[i])) return false;
    }
    return true;
}

static bool take_outputs(cr_tracer *tracer, cr_graph_node *node, cr_tensor **inputs, cr_tensor **outputs) {
    for (int i = 0; i < node->output_count; i++) {
        if (!node->outputs[i]) continue;
        cr_tensor *t = i < node->op->output_total ? outputs[i] : inputs[cr_graph_mutated_input(node, i)];
        cr_value *value = t ? cr_tracer_value(tracer, t) : NULL;
        if (!value) return false;
        node->outputs[i]->replacement = value;
    }
    return true;
}

static bool decompose(cr_graph *graph, cr_block *block, cr_graph_node *node) {
    cr_tensor *inputs[CR_MAX_INPUTS], *outputs[CR_MAX_OUTPUTS] = {NULL};
    cr_spec specs[CR_MAX_OUTPUTS];
    cr_tracer tracer;
    bool done = false;
    cr_thread *thread = cr_thread_self();
    const bool paused = thread->listeners_paused; /* the plan of a block is made inside of another's */
    if (!node->op->decompose)
        return cr_fail(CR_ERROR_UNSUPPORTED, "jit: %s (%s) has no %s and no decomposition", node->op->name,
                       node->source ? node->source : "no source",
                       graph->supports ? "C template" : "kernel for its device");
    CR_SCOPE {
        if (!cr_tracer_begin(&tracer, graph, block, true)) break;
        thread->listeners_paused = false;
        tracer.before = node;
        tracer.source = node->source;
        done = make_operands(&tracer, node, inputs);
        cr_call call = {.op = node->op,
                        .inputs = inputs,
                        .input_count = node->input_count,
                        .outputs = outputs,
                        .output_count = node->op->output_total,
                        .attributes = node->attributes,
                        .specs = specs,
                        .device = device_of(node)};
        done = done && (!node->op->infer || node->op->infer(&call));
        CR_NO_GRAD { done = done && node->op->decompose(&call); }
        done = done && take_outputs(&tracer, node, inputs, outputs);
        cr_tracer_end(&tracer);
        thread->listeners_paused = paused;
    }
    return done;
}

/* A part that is the op itself would be lowered for ever. */
static bool check_parts(const cr_graph *graph, const cr_block *block, const cr_graph_node *before,
                        const cr_graph_node *node) {
    for (const cr_graph_node *part = before ? before->next : block->first; part != node; part = part->next)
        if (part->op == node->op && !has_way_to_run(graph, part))
            return cr_fail(CR_ERROR_UNSUPPORTED, "jit: %s has no kernel for its device and decomposes into itself",
                           node->op->name);
    return true;
}

static bool lower_block(cr_graph *graph, cr_block *block, bool *changed) {
    for (cr_graph_node *node = block->first, *next; node; node = next) {
        next = node->next;
        for (int i = 0; i < node->input_count; i++)
            node->inputs[i] = cr_value_resolve(node->inputs[i]);
        for (int b = 0; graph->target && b < node->block_count; b++) /* else a plan of its own is made of it */
            if (!lower_block(graph, node->blocks[b], changed)) return false;
        if (has_way_to_run(graph, node)) continue;
        cr_graph_node *before = node->previous;
        if (!decompose(graph, block, node) || !check_parts(graph, block, before, node)) return false;
        next = before ? before->next : block->first; /* the parts may want lowering too */
        cr_graph_remove(block, node);
        if (next == node) next = node->next;
        *changed = true;
    }
    return true;
}

bool cr_pass_lower(cr_graph *graph, bool *changed) {
    if (!lower_block(graph, &graph->body, changed)) return false;
    cr_graph_apply(graph);
    return true;
}
