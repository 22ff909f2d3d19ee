/* Dead code: nodes whose results nobody reads go. Writes to state show as results that an update reads. */
#include "jit/pass.h"

static bool is_read(const cr_graph_node *node) {
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i] && node->outputs[i]->uses > 0) return true;
    return false;
}

static void forget_operands(cr_graph_node *node) {
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i]) node->inputs[i]->uses--;
}

/* Backwards, so that a chain goes in one sweep. Blocks of nodes that stay are swept too. */
static void sweep(cr_block *block, bool *changed) {
    for (cr_graph_node *node = block->last, *previous; node; node = previous) {
        previous = node->previous;
        if (!is_read(node)) {
            forget_operands(node);
            cr_graph_remove(block, node);
            *changed = true;
            continue;
        }
        for (int b = 0; b < node->block_count; b++)
            sweep(node->blocks[b], changed);
    }
}

bool cr_pass_dead_code(cr_graph *graph, bool *changed) {
    cr_graph_count_uses(graph);
    sweep(&graph->body, changed);
    return true;
}
