/* Reductions of what a pointwise region gives join the region's node: what they take in need not lie in memory, and where
 * it must, it is not read again. After epilogues: a layer's result is in the cache when its epilogue runs. */
#include "jit/fused.h"
#include "jit/pass.h"
#include "jit/passes/fusion.h"
#include "ops/reduction.h"

/* The kernels reduce these as they are, and give the same dtype. */
static bool is_reducible(const cr_graph_node *node) {
    if (cr_fold_of(node->op) < 0 || node->bound_count || node->output_count != 1 || !node->outputs[0]) return false;
    const cr_value *in = node->inputs[0], *out = node->outputs[0];
    int64_t count;
    if (in->dtype != out->dtype || (in->dtype != CR_F32 && in->dtype != CR_F64 && in->dtype != CR_I64)) return false;
    return out->device.type == CR_DEVICE_CPU && in->shape.count > 0 && cr_shape_numel(in->shape, &count) && count > 0 &&
           cr_node_types_hold(node);
}

/* A fused node, or a lone op that could be in one, with room for one more result. */
static bool is_region(const cr_graph_node *node) {
    if (!node || node->input_count + node->output_count >= CR_FUSED_OPERANDS) return false;
    return cr_is_fused(node) || cr_may_fuse(node);
}

/* The block of the region: a lone op gets one. */
static cr_block *block_of(cr_graph *graph, cr_graph_node *node) {
    cr_value *seen[CR_MAX_INPUTS];
    if (cr_is_fused(node)) return node->blocks[0];
    cr_block *block = cr_graph_new_block(graph);
    for (int i = 0; block && i < node->input_count; i++) {
        const cr_value *outside = node->inputs[i];
        seen[i] = cr_graph_value(graph, outside->dtype, &outside->shape, outside->device);
        if (!seen[i] || !cr_block_add_input(graph, block, seen[i])) return NULL;
    }
    const cr_value *result = node->outputs[0];
    cr_value *made = cr_graph_value(graph, result->dtype, &result->shape, result->device);
    cr_graph_node *inner =
        block && made ? cr_graph_add(graph, block, NULL, node->op, node->attributes, seen, node->input_count, 1) : NULL;
    if (!inner) return NULL;
    inner->source = node->source;
    cr_graph_set_output(inner, 0, made);
    return cr_block_add_output(graph, block, made) ? block : NULL;
}

/* The reduction behind the other ops of the block; its result is the first one. What it takes in stays a result where
 * others read it. Returns how many results there are, and in `outside` which values they are. */
static int end_block(cr_graph *graph, cr_block *block, const cr_graph_node *region, const cr_graph_node *reduction,
                     cr_value **outside) {
    const cr_value *taken = reduction->inputs[0], *result = reduction->outputs[0];
    cr_value **outputs = block->outputs, *made = cr_graph_value(graph, result->dtype, &result->shape, result->device);
    const int count = block->output_count;
    cr_graph_node *inner =
        cr_graph_add(graph, block, NULL, reduction->op, reduction->attributes, &outputs[taken->output], 1, 1);
    if (!inner || !made) return 0;
    inner->source = reduction->source;
    cr_graph_set_output(inner, 0, made);
    block->outputs = NULL;
    block->output_count = 0;
    if (!cr_block_add_output(graph, block, made)) return 0;
    outside[0] = reduction->outputs[0];
    for (int i = 0; i < count; i++) {
        if (i == taken->output && taken->uses == 1) continue;
        outside[block->output_count] = region->outputs[i];
        if (!cr_block_add_output(graph, block, outputs[i])) return 0;
    }
    return block->output_count;
}

static bool join(cr_graph *graph, cr_graph_node *region, cr_graph_node *reduction) {
    cr_value *outside[CR_MAX_INPUTS] = {NULL};
    cr_block *block = block_of(graph, region), **blocks = cr_pool_allocate(&graph->pool, sizeof *blocks);
    const int count = block && blocks ? end_block(graph, block, region, reduction, outside) : 0;
    const cr_op *op = cr_op_find("fused_reduction");
    cr_graph_node *node =
        count && op ? cr_graph_add(graph, &graph->body, region, op, NULL, region->inputs, region->input_count, count)
                    : NULL;
    if (!node) return false;
    blocks[0] = block;
    node->blocks = blocks;
    node->block_count = 1;
    node->source = reduction->source;
    for (int i = 0; i < count; i++)
        cr_graph_set_output(node, i, outside[i]);
    cr_graph_remove(&graph->body, region);
    cr_graph_remove(&graph->body, reduction);
    return true;
}

bool cr_pass_reduction(cr_graph *graph, bool *changed) {
    if (graph->supports) return true; /* kernels of this library only */
    cr_graph_count_uses(graph);
    for (cr_graph_node *node = graph->body.first, *next; node; node = next) {
        next = node->next;
        if (!is_reducible(node) || !is_region(node->inputs[0]->producer)) continue;
        if (!join(graph, node->inputs[0]->producer, node)) return false;
        *changed = true;
    }
    return true;
}
