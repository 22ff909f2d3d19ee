/* Layout: the kernels here compute in the plain one, so conversions to another go, and permutations move behind the
 * pointwise ops that follow them, until they meet their inverse or somebody needs them. What is left of them at the end
 * of a chain is one copy in place of one for each op. */
#include "jit/pass.h"

static bool is(const cr_graph_node *node, const char *name) { return node && !strcmp(node->op->name, name); }

/* ---------------------------------------------------------------- conversions to channels-last */
/* as_strided counts elements of memory, whatever their layout is: it must find it as the function did. */
static bool counts_memory(const cr_graph *graph) {
    for (const cr_graph_node *node = graph->body.first; node; node = node->next)
        if (is(node, "as_strided") || is(node, "as_strided_scatter")) return true;
    return false;
}

static void make_plain(cr_graph_node *node, bool *changed) {
    bool *channels_last = is(node, "cast") ? (bool *)(uintptr_t)cr_graph_attribute(node, "channels_last") : NULL;
    if (!channels_last || !*channels_last) return;
    *channels_last = false;
    if (node->inputs[0]->dtype == node->outputs[0]->dtype) node->outputs[0]->replacement = node->inputs[0];
    *changed = true;
}

/* ---------------------------------------------------------------- permutations */
/* Dim d of the result is dim order[d] of the operand. */
static bool order_of(const cr_graph_node *node, cr_shape *order) {
    if (!is(node, "permute")) return false;
    *order = *(const cr_dims *)cr_graph_attribute(node, "dims");
    unsigned seen = 0;
    for (int d = 0; d < order->count; d++) {
        if (order->at[d] < 0) order->at[d] += order->count;
        if (order->at[d] < 0 || order->at[d] >= order->count) return false;
        seen |= 1u << order->at[d];
    }
    return seen == (1u << order->count) - 1 && order->count == node->inputs[0]->shape.count;
}

static cr_value *permute(cr_graph *graph, cr_graph_node *before, cr_value *value, cr_shape order, cr_value *result) {
    struct {
        size_t size;
        cr_dims dims;
    } options = {sizeof options, order};
    cr_shape shape = {.count = order.count};
    for (int d = 0; d < order.count; d++)
        shape.at[d] = value->shape.at[order.at[d]];
    cr_graph_node *node = cr_graph_add(graph, &graph->body, before, cr_op_find("permute"), &options, &value, 1, 1);
    if (!result) result = cr_graph_value(graph, value->dtype, &shape, value->device);
    if (!node || !result) return NULL;
    cr_graph_set_output(node, 0, result);
    return result;
}

/* Two in a row are one, or none. */
static bool join_permutations(cr_graph_node *node, bool *changed) {
    cr_shape outer, inner;
    if (!order_of(node, &outer)) return true;
    bool moves = false;
    if (order_of(node->inputs[0]->producer, &inner)) {
        for (int d = 0; d < outer.count; d++)
            outer.at[d] = inner.at[outer.at[d]];
        *(cr_dims *)(uintptr_t)cr_graph_attribute(node, "dims") = outer;
        node->inputs[0] = node->inputs[0]->producer->inputs[0];
        *changed = true;
    }
    for (int d = 0; d < outer.count; d++)
        moves |= outer.at[d] != d;
    if (moves) return true;
    node->outputs[0]->replacement = node->inputs[0];
    *changed = true;
    return true;
}

/* An operand as it must be before the permutation; NULL where that is not known to be free. */
static cr_value *operand_before(cr_graph *graph, cr_graph_node *node, cr_value *value, cr_shape order) {
    cr_shape own, view = {.count = order.count};
    int64_t numel;
    if (order_of(value->producer, &own)) return cr_shape_equal(own, order) ? value->producer->inputs[0] : NULL;
    if (!cr_shape_numel(value->shape, &numel) || value->shape.count > order.count) return NULL;
    if (numel == 1) return value;
    int long_dims = 0;
    for (int d = 0; d < order.count; d++) {
        const int from = d - (order.count - value->shape.count);
        view.at[order.at[d]] = from < 0 ? 1 : value->shape.at[from];
        long_dims += from >= 0 && value->shape.at[from] != 1;
    }
    if (long_dims > 1) return NULL;
    struct {
        size_t size;
        cr_dims shape;
    } options = {sizeof options, view};
    cr_graph_node *made = cr_graph_add(graph, &graph->body, node, cr_op_find("view"), &options, &value, 1, 1);
    cr_value *seen = cr_graph_value(graph, value->dtype, &view, value->device);
    if (!made || !seen) return NULL;
    cr_graph_set_output(made, 0, seen);
    return seen;
}

static bool is_pointwise(const cr_graph_node *node) {
    return ((node->op->flags & CR_OP_POINTWISE) || is(node, "cast")) && node->output_count == 1 && node->outputs[0] &&
           !node->bound_count && node->input_count > 0 && node->input_count <= 3;
}

/* op(permute(a), permute(b), number) is permute(op(a, b, number)). */
static bool sink_permutation(cr_graph *graph, cr_graph_node *node, bool *changed) {
    cr_value *inputs[3], *result = node->outputs[0];
    cr_shape order = {0}, before = {0};
    bool found = false;
    if (!is_pointwise(node)) return true;
    for (int i = 0; i < node->input_count && !found; i++)
        found = order_of(node->inputs[i]->producer, &order) && cr_shape_equal(node->inputs[i]->shape, result->shape);
    if (!found) return true;
    for (int i = 0; i < node->input_count; i++)
        if (!(inputs[i] = operand_before(graph, node, node->inputs[i], order))) return cr_ok();
    before.count = order.count;
    for (int d = 0; d < order.count; d++)
        before.at[order.at[d]] = result->shape.at[d];
    cr_value *computed = cr_graph_value(graph, result->dtype, &before, result->device);
    cr_graph_node *made =
        cr_graph_add(graph, &graph->body, node, node->op, node->attributes, inputs, node->input_count, 1);
    if (!computed || !made) return false;
    made->source = node->source;
    cr_graph_set_output(made, 0, computed);
    if (!permute(graph, node, computed, order, result)) return false;
    cr_graph_remove(&graph->body, node);
    *changed = true;
    return true;
}

bool cr_pass_layout(cr_graph *graph, bool *changed) {
    const bool may_convert = !counts_memory(graph);
    for (cr_graph_node *node = graph->body.first, *next; node; node = next) {
        next = node->next;
        for (int i = 0; i < node->input_count; i++)
            node->inputs[i] = cr_value_resolve(node->inputs[i]);
        if (node->input_count == 0 || !node->inputs[0] || !node->outputs[0]) continue;
        if (may_convert) make_plain(node, changed);
        if (!join_permutations(node, changed) || !sink_permutation(graph, node, changed)) return false;
    }
    cr_graph_apply(graph);
    return true;
}
