/* Algebra: nodes that change nothing, or that smaller ones replace. Only identities that hold for every value, NaN,
 * infinities and -0 included: x · 1, x / 1, x - 0, but not x + 0 (which makes 0 of -0) and not x · 0. */
#include "jit/pass.h"

static bool is(const cr_graph_node *node, const char *name) { return !strcmp(node->op->name, name); }

static bool same_type(const cr_value *a, const cr_value *b) {
    return a->dtype == b->dtype && cr_shape_equal(a->shape, b->shape) && cr_device_equal(a->device, b->device);
}

static double value_of(const cr_graph_node *node) { return *(const double *)cr_graph_attribute(node, "value"); }

/* Everywhere the same number: made by full or fill. */
static bool is_number(const cr_value *value, double number) {
    const cr_graph_node *node = value->producer;
    return node && (is(node, "full") || is(node, "fill")) && value_of(node) == number;
}

/* The operand that the node hands on unchanged, or NULL. */
static cr_value *neutral(const cr_graph_node *node) {
    cr_value *a = node->input_count > 0 ? node->inputs[0] : NULL, *b = node->input_count > 1 ? node->inputs[1] : NULL,
             *result = node->outputs[0];
    if (!a || !result) return NULL;
    const bool keeps = same_type(a, result), floats = cr_dtype_is_floating(result->dtype);
    const bool moves_nothing = is(node, "identity") ||
                               (is(node, "cast") && !*(const bool *)cr_graph_attribute(node, "channels_last")) ||
                               is(node, "view") || is(node, "expand") || is(node, "to_device");
    if (keeps && moves_nothing) return a;
    if (keeps && b && (is(node, "mul") || is(node, "div")) && floats && is_number(b, 1)) return a;
    if (keeps && b && is(node, "sub") && floats && is_number(b, 0)) return a;
    if (b && same_type(b, result) && is(node, "mul") && floats && is_number(a, 1)) return b;
    const cr_graph_node *inner = a->producer;
    if (inner && is(node, "neg") && is(inner, "neg") && same_type(inner->inputs[0], result)) return inner->inputs[0];
    return NULL;
}

/* A view of a view is a view of the first; a permutation that undoes another is nothing. */
static void shorten_views(cr_graph_node *node, bool *changed) {
    cr_graph_node *inner = node->input_count && node->inputs[0] ? node->inputs[0]->producer : NULL;
    if (!inner || !is(node, "view") || !is(inner, "view")) return;
    node->inputs[0] = inner->inputs[0];
    *changed = true;
}

static bool undoes(const cr_graph_node *node) {
    const cr_graph_node *inner = node->input_count && node->inputs[0] ? node->inputs[0]->producer : NULL;
    if (!inner || !is(node, "permute") || !is(inner, "permute")) return false;
    const cr_dims *outer_dims = cr_graph_attribute(node, "dims"), *inner_dims = cr_graph_attribute(inner, "dims");
    for (int d = 0; d < outer_dims->count; d++) {
        const int64_t at = outer_dims->at[d];
        if (at < 0 || at >= inner_dims->count || inner_dims->at[at] != d) return false;
    }
    return true;
}

cr_graph_node *cr_graph_add_full(cr_graph *graph, cr_block *block, cr_graph_node *before, cr_dtype dtype,
                                 cr_shape shape, cr_device device, double number) {
    _Alignas(16) char attributes[1024];
    char text[320], shape_text[192], device_text[16];
    const cr_op *full = cr_op_find("full");
    snprintf(text, sizeof text, "dtype=%s shape=%s value=%.17g device=%s", cr_dtype_name(dtype),
             cr_shape_format(shape, shape_text), number, cr_device_name(device, device_text));
    if (!full || !cr_attributes_parse(full, text, attributes)) return NULL;
    return cr_graph_add(graph, block, before, full, attributes, NULL, 0, 1);
}

/* fill reads nothing of its operand but the shape, which is known. */
static bool fill_to_full(cr_graph *graph, cr_block *block, cr_graph_node *node, bool *changed) {
    const cr_value *result = node->outputs[0];
    if (!is(node, "fill") || !result) return true;
    cr_graph_node *made =
        cr_graph_add_full(graph, block, node, result->dtype, result->shape, result->device, value_of(node));
    if (!made) return false;
    made->source = node->source;
    cr_graph_set_output(made, 0, node->outputs[0]);
    cr_graph_remove(block, node);
    *changed = true;
    return true;
}

bool cr_pass_algebra(cr_graph *graph, bool *changed) {
    for (cr_graph_node *node = graph->body.first, *next; node; node = next) {
        next = node->next;
        for (int i = 0; i < node->input_count; i++)
            node->inputs[i] = cr_value_resolve(node->inputs[i]);
        if (node->bound_count) continue;
        if (!fill_to_full(graph, &graph->body, node, changed)) return false;
        shorten_views(node, changed);
        cr_value *kept = node->output_count == 1 ? neutral(node) : NULL;
        if (!kept && undoes(node)) kept = node->inputs[0]->producer->inputs[0];
        if (!kept) continue;
        node->outputs[0]->replacement = kept;
        *changed = true;
    }
    cr_graph_apply(graph);
    return true;
}
