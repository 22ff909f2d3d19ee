/* What a graph says of itself: inputs, outputs, sizes that may differ, state. */
#include "jit/graph.h"

#include "core/text.h"

int cr_jit_input_count(const cr_graph *graph) { return graph ? graph->body.input_count : 0; }
int cr_jit_output_count(const cr_graph *graph) { return graph ? graph->body.output_count : 0; }
int cr_jit_state_count(const cr_graph *graph) { return graph ? graph->state_count : 0; }
int cr_jit_symbol_count(const cr_graph *graph) { return graph ? graph->symbol_count : 0; }
int cr_jit_warning_count(const cr_graph *graph) { return graph ? graph->warning_count : 0; }

static bool within(const char *what, int index, int count) {
    return (index >= 0 && index < count) || cr_fail(CR_ERROR_INDEX, "jit: %s %d; there are %d", what, index, count);
}
const char *cr_jit_input_name(const cr_graph *graph, int index) {
    return within("input", index, cr_jit_input_count(graph)) ? graph->input_names[index] : NULL;
}
const char *cr_jit_output_name(const cr_graph *graph, int index) {
    return within("output", index, cr_jit_output_count(graph)) ? graph->output_names[index] : NULL;
}
const char *cr_jit_state_name(const cr_graph *graph, int index) {
    return within("state", index, cr_jit_state_count(graph)) ? graph->states[index].name : NULL;
}
cr_tensor *cr_jit_state(const cr_graph *graph, int index) {
    return within("state", index, cr_jit_state_count(graph)) ? graph->states[index].tensor : NULL;
}
const char *cr_jit_state_kind(const cr_graph *graph, int index) {
    return within("state", index, cr_jit_state_count(graph)) ? cr_state_kind_name(graph->states[index].kind) : NULL;
}
const char *cr_jit_symbol_name(const cr_graph *graph, int index) {
    return within("symbol", index, cr_jit_symbol_count(graph)) ? graph->symbols[index].name : NULL;
}
int64_t cr_jit_symbol_value(const cr_graph *graph, int index) {
    return within("symbol", index, cr_jit_symbol_count(graph)) ? graph->symbols[index].value : -1;
}
const char *cr_jit_warning(const cr_graph *graph, int index) {
    return within("warning", index, cr_jit_warning_count(graph)) ? graph->warnings[index] : NULL;
}
cr_dtype cr_jit_input_dtype(const cr_graph *graph, int index) {
    return within("input", index, cr_jit_input_count(graph)) ? graph->body.inputs[index]->dtype : CR_DTYPE_DEFAULT;
}
cr_shape cr_jit_input_shape(const cr_graph *graph, int index) {
    if (!within("input", index, cr_jit_input_count(graph))) return CR_SHAPE_0D;
    const cr_value *value = graph->body.inputs[index];
    cr_shape shape = value->shape;
    for (int d = 0; value->extents && d < shape.count; d++)
        if (value->extents[d].symbol_count) shape.at[d] = -1;
    return shape;
}
int cr_jit_input_symbol(const cr_graph *graph, int index, int dim) {
    if (!within("input", index, cr_jit_input_count(graph))) return -1;
    const cr_value *value = graph->body.inputs[index];
    if (!within("dim", dim, value->shape.count)) return -1;
    const cr_extent *extent = value->extents ? &value->extents[dim] : NULL;
    return extent && extent->symbol_count ? extent->symbols[0] : -1;
}

static char *type_of(const cr_graph *graph, const cr_value *value) {
    cr_text text = {0};
    cr_graph_add_type(&text, graph, value);
    return cr_text_end(&text);
}
char *cr_jit_input_type(const cr_graph *graph, int index) {
    return within("input", index, cr_jit_input_count(graph)) ? type_of(graph, graph->body.inputs[index]) : NULL;
}
char *cr_jit_output_type(const cr_graph *graph, int index) {
    return within("output", index, cr_jit_output_count(graph)) ? type_of(graph, graph->body.outputs[index]) : NULL;
}
bool cr_jit_updates_state(const cr_graph *graph) {
    bool updates = graph && graph->gradient_count > 0;
    for (int i = 0; graph && i < graph->state_count; i++)
        updates = updates || graph->states[i].update != NULL;
    return updates;
}
