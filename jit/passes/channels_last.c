/* Channels-last: convolutions of two dims whose weight never changes compute on [batch, height, width, channels], between
 * two permutations, and so do the pools, sums and joins that follow them. The layout pass then brings the permutations
 * together: what is left stands where the function's own layout begins and ends. In frozen graphs, f32, on the CPU. */
#include "jit/pass.h"
#include "ops/channels_last.h"
#include "ops/pooling.h"

static const cr_shape to_last = {.count = 4, .at = {0, 2, 3, 1}}, to_first = {.count = 4, .at = {0, 3, 1, 2}};

static bool is(const cr_graph_node *node, const char *name) { return !strcmp(node->op->name, name); }

/* ---------------------------------------------------------------- values that lie so */
static char mark;
static bool is_marked(const cr_value *value) { return value && value->note == &mark; }

static bool is_image(const cr_value *value) {
    return value && value->shape.count == 4 && value->dtype == CR_F32 && value->device.type == CR_DEVICE_CPU;
}

/* A pointwise op's result lies as its operands do. */
static void mark_pointwise(const cr_graph_node *node) {
    if (!(node->op->flags & CR_OP_POINTWISE) || node->output_count != 1 || !is_image(node->outputs[0])) return;
    for (int i = 0; i < node->input_count; i++)
        if (is_marked(node->inputs[i]) && cr_shape_equal(node->inputs[i]->shape, node->outputs[0]->shape))
            node->outputs[0]->note = &mark;
}

/* ---------------------------------------------------------------- rewriting */
static cr_value *permute(cr_graph *graph, cr_graph_node *before, cr_value *value, cr_shape order, cr_value *result) {
    struct {
        size_t size;
        cr_dims dims;
    } options = {sizeof options, order};
    cr_graph_node *node = cr_graph_add(graph, &graph->body, before, cr_op_find("permute"), &options, &value, 1, 1);
    if (!result) {
        const cr_shape shape = cr_to_channels_last(value->shape);
        result = cr_graph_value(graph, value->dtype, &shape, value->device);
    }
    if (!node || !result) return NULL;
    cr_graph_set_output(node, 0, result);
    return result;
}

/* The op on operands whose first `images` are permuted, and its result permuted back. The node goes. */
static bool replace(cr_graph *graph, cr_graph_node *node, const char *op, const void *attributes, int images) {
    cr_value *inputs[CR_MAX_INPUTS], *result = node->outputs[0];
    for (int i = 0; i < node->input_count; i++)
        if (!(inputs[i] = i < images ? permute(graph, node, node->inputs[i], to_last, NULL) : node->inputs[i]) &&
            (i < images || node->inputs[i]))
            return false;
    const cr_shape shape = cr_to_channels_last(result->shape);
    cr_value *made = cr_graph_value(graph, result->dtype, &shape, result->device);
    cr_graph_node *layer =
        cr_graph_add(graph, &graph->body, node, cr_op_find(op), attributes, inputs, node->input_count, 1);
    if (!made || !layer) return false;
    layer->source = node->source;
    cr_graph_set_output(layer, 0, made);
    if (!permute(graph, node, made, to_first, result)) return false;
    result->note = &mark;
    cr_graph_remove(&graph->body, node);
    return true;
}

/* ---------------------------------------------------------------- layers */
static bool is_constant(const cr_graph *graph, const cr_value *value) {
    for (int i = 0; value && i < graph->state_count; i++)
        if (graph->states[i].value == value) return graph->states[i].tensor && !graph->states[i].update;
    return false;
}

static bool takes_convolution(const cr_graph *graph, const cr_graph_node *node) {
    return is(node, "convolution") && is_image(node->inputs[0]) && is_image(node->outputs[0]) &&
           is_image(node->inputs[1]) && !*(const bool *)cr_graph_attribute(node, "transposed") &&
           cr_channels_last_takes(node->inputs[1]->shape, *(const int64_t *)cr_graph_attribute(node, "groups")) &&
           is_constant(graph, node->inputs[1]);
}

static bool takes_pool(const cr_graph_node *node) {
    if (!is(node, "max_pool") && !is(node, "avg_pool")) return false;
    return is_image(node->inputs[0]) && !(node->output_count > 1 && node->outputs[1] && node->outputs[1]->uses);
}

/* To one pixel it is a mean over all of them. */
static bool replace_adaptive(cr_graph *graph, cr_graph_node *node, bool *changed) {
    const cr_shape in = node->inputs[0]->shape, out = node->outputs[0]->shape;
    struct {
        size_t size;
        CR_AVG_POOL_ATTRIBUTES(CR_FIELD_, avg_pool)
    } options = {.size = sizeof options, .kernel_sizes = CR_SHAPE(in.at[2], in.at[3])};
    if (cr_shape_equal(in, out)) {
        node->outputs[0]->replacement = node->inputs[0];
        return *changed = true;
    }
    if (out.at[2] != 1 || out.at[3] != 1) return true;
    *changed = true;
    return replace(graph, node, "channels_last_avg_pool", &options, 1);
}

/* Over the pixels: the sum of a mean. */
static bool replace_sum(cr_graph *graph, cr_graph_node *node, bool *changed) {
    cr_sum_options options = *(const cr_sum_options *)node->attributes;
    const int64_t a = options.dims.at[0] < 0 ? options.dims.at[0] + 4 : options.dims.at[0],
                  b = options.dims.at[1] < 0 ? options.dims.at[1] + 4 : options.dims.at[1];
    if (options.dims.count != 2 || a + b != 5 || a * b != 6) return true;
    options.dims = CR_SHAPE(1, 2);
    *changed = true;
    if (options.keepdim) return replace(graph, node, "sum", &options, 1);
    cr_value *input = permute(graph, node, node->inputs[0], to_last, NULL);
    cr_graph_node *sum = input ? cr_graph_add(graph, &graph->body, node, node->op, &options, &input, 1, 1) : NULL;
    if (!sum) return false;
    sum->source = node->source;
    cr_graph_set_output(sum, 0, node->outputs[0]);
    cr_graph_remove(&graph->body, node);
    return true;
}

static bool replace_cat(cr_graph *graph, cr_graph_node *node, bool *changed) {
    const int64_t dim = *(const int64_t *)cr_graph_attribute(node, "dim");
    struct {
        size_t size;
        int64_t dim;
    } options = {sizeof options, 3};
    for (int i = 0; i < node->input_count; i++)
        if (!is_marked(node->inputs[i])) return true;
    if (dim != 1 && dim != -3) return true;
    *changed = true;
    return replace(graph, node, "cat", &options, node->input_count);
}

static bool visit(cr_graph *graph, cr_graph_node *node, bool *changed) {
    if (node->bound_count || node->input_count == 0 || !node->outputs[0]) return true;
    if (takes_convolution(graph, node) && cr_node_types_hold(node)) {
        *changed = true;
        return replace(graph, node, "channels_last_convolution", node->attributes, 1);
    }
    mark_pointwise(node);
    if (!is_marked(node->inputs[0])) return true;
    if (is(node, "sum")) return replace_sum(graph, node, changed);
    if (!is_image(node->outputs[0])) return true;
    if (takes_pool(node)) {
        *changed = true;
        return replace(graph, node, is(node, "max_pool") ? "channels_last_max_pool" : "channels_last_avg_pool",
                       node->attributes, 1);
    }
    if (is(node, "adaptive_avg_pool")) return replace_adaptive(graph, node, changed);
    return is(node, "cat") ? replace_cat(graph, node, changed) : true;
}

bool cr_pass_channels_last(cr_graph *graph, bool *changed) {
    if (graph->supports || !graph->is_frozen) return true; /* kernels of this library only */
    cr_graph_count_uses(graph);
    for (cr_graph_node *node = graph->body.first, *next; node; node = next) {
        next = node->next;
        for (int i = 0; i < node->input_count; i++)
            node->inputs[i] = cr_value_resolve(node->inputs[i]);
        if (!visit(graph, node, changed)) return false;
    }
    cr_graph_apply(graph);
    return true;
}
