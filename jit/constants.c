/* What passes build with: constants of a graph, and nodes of one result. */
#include "jit/pass.h"

cr_tensor *cr_graph_weight(const cr_graph *graph, const cr_value *value) {
    for (int i = 0; value && i < graph->state_count; i++) {
        const cr_state *state = &graph->states[i];
        if (state->value != value) continue;
        return !state->update && (graph->is_frozen || state->kind == CR_STATE_CONSTANT) ? state->tensor : NULL;
    }
    return NULL;
}

cr_tensor *cr_graph_constant(const cr_graph *graph, const cr_value *value) {
    cr_tensor *t = cr_graph_weight(graph, value);
    return cr_graph_want((cr_graph *)(uintptr_t)graph, t) ? t : NULL;
}

static bool is_taken(const cr_graph *graph, const char *name) {
    for (int i = 0; i < graph->state_count; i++)
        if (!strcmp(graph->states[i].name, name)) return true;
    return false;
}

cr_value *cr_graph_add_constant(cr_graph *graph, const char *stem, cr_tensor *t) {
    char name[48];
    int number = graph->state_count; /* a frozen graph lost states, and may have one of this number */
    if (!t) return NULL;
    do
        snprintf(name, sizeof name, "%.32s%d", stem, number++);
    while (is_taken(graph, name));
    const cr_shape shape = cr_tensor_shape(t);
    cr_value *value = cr_graph_value(graph, (cr_dtype)t->dtype, &shape, t->device);
    return value && cr_graph_add_state(graph, CR_STATE_CONSTANT, name, value, t) ? value : NULL;
}

cr_value *cr_graph_insert(cr_graph *graph, const cr_graph_node *before, const char *op, const void *attributes,
                          cr_value *const *inputs, int count, cr_dtype dtype, cr_shape shape) {
    cr_graph_node *node = cr_graph_add(graph, &graph->body, (cr_graph_node *)(uintptr_t)before, cr_op_find(op),
                                       attributes, inputs, count, 1);
    cr_value *value = node ? cr_graph_value(graph, dtype, &shape, inputs[0]->device) : NULL;
    if (!value) return NULL;
    node->source = before->source;
    cr_graph_set_output(node, 0, value);
    return value;
}
