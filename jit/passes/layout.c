/* Layout: the kernels here compute in the plain one, so conversions to another go. Permutations and other shapes move
 * behind the pointwise ops that follow them, until they meet their inverse or somebody needs them: the ops come together
 * with what is before and behind, and what is left at the end of a chain is one copy in place of one for each op. Copies
 * that only lay elements out go where their readers take any strides: there movement is index arithmetic. */
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

/* A copy of the same dtype in the plain layout. */
static bool is_copy(const cr_graph_node *node) {
    return is(node, "cast") && node->outputs[0] && node->inputs[0]->dtype == node->outputs[0]->dtype &&
           !*(const bool *)cr_graph_attribute(node, "channels_last");
}

static bool is_pointwise(const cr_graph_node *node) {
    return !is_copy(node) && ((node->op->flags & CR_OP_POINTWISE) || is(node, "cast")) && node->output_count == 1 &&
           node->outputs[0] && !node->bound_count && node->input_count > 0 && node->input_count <= 3;
}

static cr_value *view(cr_graph *graph, cr_graph_node *before, cr_value *value, cr_shape shape, cr_value *result) {
    struct {
        size_t size;
        cr_dims shape;
    } options = {sizeof options, shape};
    cr_graph_node *node = cr_graph_add(graph, &graph->body, before, cr_op_find("view"), &options, &value, 1, 1);
    if (!result) result = cr_graph_value(graph, value->dtype, &shape, value->device);
    if (!node || !result) return NULL;
    cr_graph_set_output(node, 0, result);
    return result;
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
    cr_shape own, seen = {.count = order.count};
    int64_t numel;
    if (order_of(value->producer, &own)) return cr_shape_equal(own, order) ? value->producer->inputs[0] : NULL;
    if (!cr_shape_numel(value->shape, &numel) || value->shape.count > order.count) return NULL;
    if (numel == 1) return value;
    int long_dims = 0;
    for (int d = 0; d < order.count; d++) {
        const int from = d - (order.count - value->shape.count);
        seen.at[order.at[d]] = from < 0 ? 1 : value->shape.at[from];
        long_dims += from >= 0 && value->shape.at[from] != 1;
    }
    if (long_dims > 1) return NULL;
    return view(graph, node, value, seen, NULL);
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

/* ---------------------------------------------------------------- other shapes of the same elements */
/* The last dims that both shapes have in common. */
static int common_dims(cr_shape a, cr_shape b) {
    int count = 0;
    while (count < a.count && count < b.count && a.at[a.count - 1 - count] == b.at[b.count - 1 - count])
        count++;
    return count;
}

/* An operand as it must be before the elements take the shape `after`; NULL where that is not known to be free. */
static cr_value *operand_in_shape(cr_graph *graph, cr_graph_node *node, cr_value *value, cr_shape before,
                                  cr_shape after) {
    int64_t numel;
    if (!cr_shape_numel(value->shape, &numel)) return NULL;
    if (numel == 1 && value->shape.count <= before.count) return value;
    if (cr_shape_equal(value->shape, after)) {
        if (is(value->producer, "view") && cr_shape_equal(value->producer->inputs[0]->shape, before))
            return value->producer->inputs[0];
        return value->producer && (value->producer->op->flags & CR_OP_VIEW) ? NULL
                                                                            : view(graph, node, value, before, NULL);
    }
    return value->shape.count <= common_dims(before, after) ? value : NULL;
}

/* op(view(a), b, number) is view(op(a, b, number)). */
static bool sink_view(cr_graph *graph, cr_graph_node **node, bool *changed) {
    cr_graph_node *old = *node;
    cr_value *inputs[3], *result = old->outputs[0], *seen = NULL;
    if (!is_pointwise(old)) return true;
    for (int i = 0; i < old->input_count && !seen; i++)
        if (is(old->inputs[i]->producer, "view") && cr_shape_equal(old->inputs[i]->shape, result->shape))
            seen = old->inputs[i]->producer->inputs[0];
    if (!seen || !seen->shape.count || !result->shape.count)
        return true; /* 0-d tensors have dtype rules of their own */
    for (int i = 0; i < old->input_count; i++)
        if (!(inputs[i] = operand_in_shape(graph, old, old->inputs[i], seen->shape, result->shape))) return cr_ok();
    cr_value *computed = cr_graph_value(graph, result->dtype, &seen->shape, result->device);
    cr_graph_node *made = cr_graph_add(graph, &graph->body, old, old->op, old->attributes, inputs, old->input_count, 1);
    if (!computed || !made) return false;
    made->source = old->source;
    cr_graph_set_output(made, 0, computed);
    if (!view(graph, old, computed, result->shape, result)) return false;
    cr_graph_remove(&graph->body, old);
    *node = made;
    *changed = true;
    return true;
}

/* Two in a row are one. */
static void join_views(cr_graph_node *node, bool *changed) {
    if (!is(node, "view") || !is(node->inputs[0]->producer, "view")) return;
    node->inputs[0] = node->inputs[0]->producer->inputs[0];
    *changed = true;
    if (cr_shape_equal(node->inputs[0]->shape, node->outputs[0]->shape))
        node->outputs[0]->replacement = node->inputs[0];
}

/* ---------------------------------------------------------------- copies */
/* Reads its operands through any strides. */
static bool takes_strides(const cr_graph_node *node) { return is_pointwise(node) || is(node, "matmul"); }

static void drop_copies(cr_graph *graph, bool *changed) {
    cr_graph_count_uses(graph);
    for (const cr_graph_node *node = graph->body.first; node; node = node->next)
        for (int i = 0; i < node->input_count; i++)
            if (node->inputs[i] && takes_strides(node)) node->inputs[i]->uses--;
    for (cr_graph_node *node = graph->body.first; node; node = node->next) {
        if (!is_copy(node) || node->outputs[0]->uses) continue; /* somebody needs it as it would lie */
        node->outputs[0]->replacement = node->inputs[0];
        *changed = true;
    }
    cr_graph_apply(graph);
}

bool cr_pass_layout(cr_graph *graph, bool *changed) {
    const bool may_convert = !counts_memory(graph);
    for (cr_graph_node *node = graph->body.first, *next; node; node = next) {
        next = node->next;
        for (int i = 0; i < node->input_count; i++)
            node->inputs[i] = cr_value_resolve(node->inputs[i]);
        if (node->input_count == 0 || !node->inputs[0] || !node->outputs[0]) continue;
        if (may_convert) make_plain(node, changed);
        join_views(node, changed);
        if (!join_permutations(node, changed) || !sink_view(graph, &node, changed)) return false;
        if (!sink_permutation(graph, node, changed)) return false;
    }
    cr_graph_apply(graph);
    if (*changed && !cr_pass_dead_code(graph, changed)) return false; /* views that nobody reads any more */
    if (may_convert) drop_copies(graph, changed);
    return true;
}
