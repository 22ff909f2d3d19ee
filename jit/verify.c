/* The verifier: what every graph must satisfy, between passes in debug builds and after reading one. */
#include "jit/graph.h"

#include <string.h>

static bool fail_node(const cr_graph_node *node, const char *what, int index) {
    return cr_fail(CR_ERROR_FORMAT, "graph: node %d, %s: %s (%d)%s%s", node->index, node->op->name, what, index,
                   node->source ? "; from " : "", node->source ? node->source : "");
}

/* A value is visible where its note points at the walk's own mark. */
static const char visible;
static bool is_visible(const cr_value *value) { return value->note == &visible; }
static void show(cr_value *value) { value->note = (void *)(uintptr_t)&visible; }
static void hide(cr_value *value) { value->note = NULL; }

static bool check_operands(const cr_graph_node *node) {
    const cr_op *op = node->op;
    const int least = op->flags & CR_OP_BLOCKS ? 0 : op->input_minimum; /* a block may make all that it gives */
    if (node->input_count < least || node->input_count > op->input_maximum)
        return fail_node(node, "a number of operands that the op does not take", node->input_count);
    for (int i = 0; i < node->input_count; i++) {
        if (!node->inputs[i]) {
            if (i < 32 && (op->optional_inputs >> i & 1)) continue;
            return fail_node(node, "a required operand is missing", i);
        }
        if (!is_visible(node->inputs[i])) return fail_node(node, "an operand is not defined before its use", i);
    }
    if (op->flags & CR_OP_BLOCKS && node->block_count < 1) return fail_node(node, "a block is missing", 0);
    if (node->output_count !=
        (op->flags & CR_OP_BLOCKS ? node->blocks[0]->output_count : 0) +
            cr_graph_output_count(op, node->attributes, (void *const *)node->inputs, node->input_count))
        return fail_node(node, "a number of results that the op does not have", node->output_count);
    return true;
}

static bool check_outputs(const cr_graph_node *node) {
    for (int i = 0; i < node->output_count; i++) {
        cr_value *output = node->outputs[i];
        if (!output) continue;
        if (is_visible(output)) return fail_node(node, "a result is defined twice", i);
        if (output->producer != node || output->output != i)
            return fail_node(node, "a result that names another producer", i);
        const int from = i < node->op->output_total ? -1 : cr_graph_mutated_input(node, i);
        if (from >= 0 &&
            (output->dtype != node->inputs[from]->dtype || !cr_shape_equal(output->shape, node->inputs[from]->shape)))
            return fail_node(node, "a result that differs from the operand it overwrites", i);
        show(output);
    }
    return true;
}

static void hide_all(const cr_block *block) {
    for (int i = 0; i < block->input_count; i++)
        hide(block->inputs[i]);
    for (const cr_graph_node *node = block->first; node; node = node->next) {
        for (int i = 0; i < node->output_count; i++)
            if (node->outputs[i]) hide(node->outputs[i]);
        for (int b = 0; b < node->block_count; b++)
            hide_all(node->blocks[b]);
    }
}

static bool check_block(const cr_block *block) {
    int index = 0;
    for (int i = 0; i < block->input_count; i++)
        show(block->inputs[i]);
    for (cr_graph_node *node = block->first; node; node = node->next) {
        node->index = index++;
        if (!check_operands(node)) return false;
        for (int b = 0; b < node->block_count; b++) {
            if (!check_block(node->blocks[b])) return false;
            hide_all(node->blocks[b]); /* seen inside only */
        }
        if (!check_outputs(node)) return false;
    }
    for (int i = 0; i < block->output_count; i++)
        if (!is_visible(block->outputs[i])) return cr_fail(CR_ERROR_FORMAT, "graph: output %d is not defined", i);
    return true;
}

static bool check_states(const cr_graph *graph) {
    for (int i = 0; i < graph->state_count; i++) {
        const cr_state *state = &graph->states[i];
        for (int k = 0; k < i; k++)
            if (!strcmp(state->name, graph->states[k].name))
                return cr_fail(CR_ERROR_FORMAT, "graph: two states are called \"%.100s\"", state->name);
        if (state->gradient_of >= graph->state_count)
            return cr_fail(CR_ERROR_FORMAT, "graph: state \"%.100s\" is the gradient of no state", state->name);
        if (!state->update) continue;
        if (!is_visible(state->update))
            return cr_fail(CR_ERROR_FORMAT, "graph: state \"%.100s\" ends in a value that is not defined", state->name);
        if (state->update->dtype != state->value->dtype || !cr_shape_equal(state->update->shape, state->value->shape))
            return cr_fail(CR_ERROR_FORMAT, "graph: state \"%.100s\" ends in a value of another dtype or shape",
                           state->name);
    }
    for (int i = 0; i < graph->gradient_count; i++) {
        const cr_gradient *gradient = &graph->gradients[i];
        if (gradient->state < 0 || gradient->state >= graph->state_count || !is_visible(gradient->value) ||
            !cr_shape_equal(gradient->value->shape, graph->states[gradient->state].value->shape))
            return cr_fail(CR_ERROR_FORMAT, "graph: gradient %d is not defined, or of another shape than its state", i);
    }
    return true;
}

/* A size of an input is a number or names a symbol: a run reads the symbols there. */
static bool check_inputs(const cr_graph *graph) {
    for (int i = 0; i < graph->body.input_count; i++) {
        const cr_value *input = graph->body.inputs[i];
        for (int d = 0; input->extents && d < input->shape.count; d++) {
            const cr_extent *extent = &input->extents[d];
            if (extent->symbol_count > 1 ||
                (extent->symbol_count && (extent->factor != 1 || extent->term || extent->divisor != 1)))
                return cr_fail(CR_ERROR_FORMAT,
                               "graph: dim %d of input %d is a formula; it must be a number or a symbol", d, i);
        }
    }
    return true;
}

bool cr_graph_verify(const cr_graph *graph) {
    hide_all(&graph->body);
    for (int i = 0; i < graph->state_count; i++)
        show(graph->states[i].value);
    const bool good = check_inputs(graph) && check_block(&graph->body) && check_states(graph);
    for (int i = 0; i < graph->state_count; i++)
        hide(graph->states[i].value);
    hide_all(&graph->body);
    return good;
}
