/* Epilogues: pointwise ops that read a layer's result, and are all that reads it, join the layer's node. They run over
 * each part of the result while it is in the cache. After fusion: a lone op counts as a region of one. */
#include "jit/fused.h"
#include "jit/pass.h"
#include "jit/passes/fusion.h"

/* ---------------------------------------------------------------- layers */
static const cr_op *fused_row(const cr_graph_node *layer) {
    static const char *const rows[][2] = {{"convolution", "fused_convolution"},
                                          {"channels_last_convolution", "fused_channels_last_convolution"},
                                          {"linear", "fused_linear"},
                                          {"narrow_linear", "fused_linear"},
                                          {"matmul", "fused_matmul"}};
    for (size_t i = 0; layer && i < sizeof rows / sizeof rows[0]; i++)
        if (!strcmp(layer->op->name, rows[i][0])) return cr_op_find(rows[i][1]);
    return NULL;
}

/* Its result is what the kernels make directly: dense, in the dtype that they compute in. */
static bool takes_epilogue(const cr_graph_node *layer) {
    const cr_value *result = layer->outputs[0];
    if (!fused_row(layer) || layer->bound_count || layer->output_count != 1 || !result) return false;
    if (result->device.type != CR_DEVICE_CPU || (result->dtype != CR_F32 && result->dtype != CR_F64)) return false;
    const int narrow = strcmp(layer->op->name, "narrow_linear") == 0 ? 1 : -1; /* the operand that may be */
    for (int i = 0; i < layer->input_count; i++)
        if (layer->inputs[i] && layer->inputs[i]->dtype != result->dtype && i != narrow) return false;
    if (!strcmp(layer->op->name, "convolution") && layer->inputs[0]->shape.count != layer->inputs[1]->shape.count)
        return false;
    return cr_node_types_hold(layer);
}

/* ---------------------------------------------------------------- what follows them */
static bool is_pointwise_region(const cr_graph_node *node) {
    if (!cr_is_fused(node)) return cr_may_fuse(node);
    for (const cr_graph_node *inner = node->blocks[0]->first; inner; inner = inner->next)
        if (!cr_may_fuse(inner)) return false;
    return true;
}

/* A contiguous operand of this shape broadcasts to the result so that images, rows and columns each have one step. */
static bool has_steps(const cr_value *value, const cr_value *result, cr_parts parts) {
    int64_t steps[3];
    cr_shape strides;
    cr_tensor t = {.ndim = (int8_t)value->shape.count};
    cr_contiguous_strides(value->shape, &strides);
    memcpy(t.sizes, value->shape.at, sizeof t.sizes);
    memcpy(t.strides, strides.at, sizeof t.strides);
    return cr_part_strides(&t, result->shape, parts, steps);
}

/* The operand of `node` that is a layer's result and may take the rest of the node along; -1: none. The last layer to
 * run: the others' results are there by then. */
static int layer_operand(const cr_graph_node *node) {
    int best = -1;
    const cr_value *result = node->outputs[0];
    for (int i = 0; i < node->input_count; i++) {
        const cr_value *value = node->inputs[i];
        const cr_graph_node *layer = value ? value->producer : NULL;
        if (!layer || value->uses != 1 || !takes_epilogue(layer)) continue;
        if (value->dtype != result->dtype || !cr_shape_equal(value->shape, result->shape)) continue;
        const cr_parts parts = cr_layer_parts(fused_row(layer), result->shape.count);
        bool fits = true;
        for (int k = 0; k < node->input_count; k++)
            fits &= node->inputs[k] && has_steps(node->inputs[k], result, parts);
        if (fits && (best < 0 || layer->index > node->inputs[best]->producer->index)) best = i;
    }
    return best;
}

/* ---------------------------------------------------------------- joining */
/* The region's block with the layer's result as its first input, the others as they were. */
static cr_block *epilogue_block(cr_graph *graph, cr_graph_node *node, int first) {
    cr_block *block = cr_graph_new_block(graph);
    cr_value *seen[CR_MAX_INPUTS];
    if (!block) return NULL;
    for (int i = 0; i < node->input_count; i++) {
        const cr_value *outside = node->inputs[i];
        seen[i] = cr_is_fused(node) ? node->blocks[0]->inputs[i]
                                    : cr_graph_value(graph, outside->dtype, &outside->shape, outside->device);
        if (!seen[i]) return NULL;
    }
    if (!cr_block_add_input(graph, block, seen[first])) return NULL;
    for (int i = 0; i < node->input_count; i++)
        if (i != first && !cr_block_add_input(graph, block, seen[i])) return NULL;
    if (cr_is_fused(node)) {
        block->first = node->blocks[0]->first;
        block->last = node->blocks[0]->last;
        return cr_block_add_output(graph, block, node->blocks[0]->outputs[0]) ? block : NULL;
    }
    cr_graph_node *inner = cr_graph_add(graph, block, NULL, node->op, node->attributes, seen, node->input_count, 1);
    cr_value *result =
        cr_graph_value(graph, node->outputs[0]->dtype, &node->outputs[0]->shape, node->outputs[0]->device);
    if (!inner || !result) return NULL;
    inner->source = node->source;
    cr_graph_set_output(inner, 0, result);
    return cr_block_add_output(graph, block, result) ? block : NULL;
}

cr_graph_node *cr_layer_with_block(cr_graph *graph, cr_graph_node *before, cr_graph_node *layer, cr_block *block) {
    const cr_op *op = fused_row(layer);
    char attributes[sizeof(cr_fused_convolution_options) + sizeof(cr_fused_product_options)];
    cr_value *inputs[CR_LAYER_OPERANDS] = {NULL};
    cr_block **blocks = cr_pool_allocate(&graph->pool, sizeof *blocks);
    memcpy(inputs, layer->inputs, (size_t)layer->input_count * sizeof inputs[0]);
    memcpy(attributes, op->defaults, op->attribute_bytes);
    if (layer->op->attribute_count) /* a convolution's, which the fused row's begin with */
        memcpy(attributes + sizeof(size_t), (const char *)layer->attributes + sizeof(size_t),
               layer->op->attribute_bytes - sizeof(size_t));
    cr_graph_node *node = cr_graph_add(graph, &graph->body, before, op, attributes, inputs, CR_LAYER_OPERANDS, 1);
    if (!node || !blocks) return NULL;
    blocks[0] = block;
    node->blocks = blocks;
    node->block_count = 1;
    node->source = layer->source;
    return node;
}

static bool join(cr_graph *graph, cr_graph_node *node, int operand) {
    cr_graph_node *layer = node->inputs[operand]->producer;
    cr_block *block = epilogue_block(graph, node, operand);
    cr_graph_node *made = block ? cr_layer_with_block(graph, node, layer, block) : NULL;
    if (!made) return false;
    cr_value **inputs = cr_pool_allocate(&graph->pool, CR_MAX_INPUTS * sizeof *inputs);
    if (!inputs) return false;
    memcpy(inputs, made->inputs, CR_LAYER_OPERANDS * sizeof *inputs);
    made->inputs = inputs;
    for (int i = 0; i < node->input_count; i++)
        if (i != operand) inputs[made->input_count++] = node->inputs[i];
    cr_graph_set_output(made, 0, node->outputs[0]);
    cr_graph_remove(&graph->body, node);
    cr_graph_remove(&graph->body, layer);
    return true;
}

bool cr_pass_epilogue(cr_graph *graph, bool *changed) {
    if (graph->supports) return true; /* kernels of this library only */
    cr_graph_number(graph);
    cr_graph_count_uses(graph);
    for (cr_graph_node *node = graph->body.first, *next; node; node = next) {
        next = node->next;
        if (node->output_count != 1 || !node->outputs[0] || node->input_count == 0) continue;
        if (node->input_count > CR_FUSED_OPERANDS - 1 || !is_pointwise_region(node)) continue;
        const int operand = layer_operand(node);
        if (operand < 0) continue;
        if (!join(graph, node, operand)) return false;
        *changed = true;
    }
    return true;
}
