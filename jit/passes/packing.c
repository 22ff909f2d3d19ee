/* Packing: weights that never change are brought once into the order in which the kernels read them. A layer without an
 * epilogue gets an empty one. In frozen graphs, on the CPU. */
#include "jit/fused.h"
#include "jit/pass.h"
#include "jit/passes/fusion.h"

/* ---------------------------------------------------------------- the packed weight, or NULL without an error */
static bool same_floats(const cr_graph_node *layer) {
    const cr_dtype dtype = layer->outputs[0]->dtype;
    return (dtype == CR_F32 || dtype == CR_F64) && layer->inputs[0]->dtype == dtype && layer->inputs[1]->dtype == dtype;
}

static cr_tensor *pack_convolution(cr_graph *graph, const cr_graph_node *layer, cr_tensor *weight, bool *packs) {
    const cr_shape input = layer->inputs[0]->shape, output = layer->outputs[0]->shape, shape = cr_tensor_shape(weight);
    cr_pack_convolution_options options = {.size = sizeof options};
    if (input.count != shape.count) return NULL;
    memcpy((char *)&options + sizeof(size_t), (const char *)layer->attributes + sizeof(size_t),
           offsetof(cr_pack_convolution_options, input) - sizeof(size_t));
    options.input = input;
    const cr_convolution problem = cr_layer_convolution(input, shape, output, &options);
    *packs = cr_packed_convolution(&problem, (cr_dtype)weight->dtype, options.transposed) > 0;
    return *packs ? cr_graph_compute_op(graph, cr_op_find("pack_convolution"), &options, &weight, 1) : NULL;
}

static cr_tensor *pack_channels_last(cr_graph *graph, const cr_graph_node *layer, cr_tensor *weight, bool *packs) {
    cr_pack_convolution_options options = {.size = sizeof options};
    memcpy((char *)&options + sizeof(size_t), (const char *)layer->attributes + sizeof(size_t),
           offsetof(cr_pack_convolution_options, input) - sizeof(size_t));
    options.input = layer->inputs[0]->shape;
    *packs = true;
    return cr_graph_compute_op(graph, cr_op_find("pack_channels_last"), &options, &weight, 1);
}

static cr_tensor *pack_columns(cr_graph *graph, const cr_graph_node *layer, cr_tensor *weight, bool transposed,
                               bool *packs) {
    const cr_shape output = layer->outputs[0]->shape;
    if (weight->ndim != 2 || output.count < 2 - transposed) return NULL;
    cr_pack_columns_options options = {.size = sizeof options, .rows = 1, .transposed = transposed};
    for (int d = transposed ? 0 : output.count - 2; d < output.count - 1; d++)
        options.rows *= output.at[d];
    const int columns = transposed ? 0 : 1;
    *packs = cr_packed_columns(options.rows, weight->sizes[columns], weight->sizes[1 - columns],
                               (cr_dtype)weight->dtype, transposed) > 0;
    return *packs ? cr_graph_compute_op(graph, cr_op_find("pack_columns"), &options, &weight, 1) : NULL;
}

/* Whether the node is the layer of that name or its fused form. */
static bool is_layer(const cr_graph_node *node, const char *name) {
    const size_t prefix = strlen("fused_");
    const char *op = node->op->name;
    return !strcmp(op, name) || (!strncmp(op, "fused_", prefix) && !strcmp(op + prefix, name));
}

static cr_tensor *pack(cr_graph *graph, const cr_graph_node *layer, cr_tensor *weight, bool *packs) {
    if (is_layer(layer, "convolution")) return pack_convolution(graph, layer, weight, packs);
    if (is_layer(layer, "channels_last_convolution")) return pack_channels_last(graph, layer, weight, packs);
    if (is_layer(layer, "linear")) return pack_columns(graph, layer, weight, true, packs);
    return is_layer(layer, "matmul") ? pack_columns(graph, layer, weight, false, packs) : NULL;
}

/* ---------------------------------------------------------------- the layer that reads it */
/* A layer's fused form with a block that gives the result as it is. */
static cr_graph_node *with_empty_epilogue(cr_graph *graph, cr_graph_node *layer) {
    const cr_value *result = layer->outputs[0];
    cr_block *block = cr_graph_new_block(graph);
    cr_value *seen = cr_graph_value(graph, result->dtype, &result->shape, result->device);
    if (!block || !seen || !cr_block_add_input(graph, block, seen) || !cr_block_add_output(graph, block, seen))
        return NULL;
    cr_graph_node *node = cr_layer_with_block(graph, layer, layer, block);
    if (!node) return NULL;
    cr_graph_set_output(node, 0, layer->outputs[0]);
    cr_graph_remove(&graph->body, layer);
    return node;
}

static bool use_packed(cr_graph *graph, cr_graph_node *layer, const cr_tensor *weight, cr_tensor *packed) {
    cr_value *value = cr_graph_add_constant(graph, "packed", packed);
    if (!value) return false;
    if (!cr_has_program(layer) && !(layer = with_empty_epilogue(graph, layer))) return false;
    if (is_layer(layer, "convolution") || is_layer(layer, "channels_last_convolution"))
        ((cr_fused_convolution_options *)layer->attributes)->packed = cr_tensor_shape(weight);
    else
        ((cr_fused_product_options *)layer->attributes)->packed = weight->sizes[is_layer(layer, "linear") ? 0 : 1];
    layer->inputs[1] = value;
    return true;
}

/* ---------------------------------------------------------------- LSTM */
/* Whether nobody reads what is kept for backward. */
static bool is_for_inference(const cr_graph_node *node) {
    for (int i = 3; i < node->output_count; i++)
        if (node->outputs[i] && node->outputs[i]->uses > 0) return false;
    return true;
}

static bool pack_recurrence(cr_graph *graph, cr_graph_node *node, bool *changed) {
    cr_tensor *weight = cr_graph_weight(graph, node->inputs[3]);
    if (!weight || weight->dtype != CR_F32 || weight->device.type != CR_DEVICE_CPU || node->bound_count ||
        !is_for_inference(node))
        return true;
    cr_tensor *packed = cr_graph_compute_op(graph, cr_op_find("pack_recurrent"), NULL, &weight, 1);
    cr_value *value = packed ? cr_graph_add_constant(graph, "packed", packed) : NULL;
    cr_value *const inputs[] = {node->inputs[0], node->inputs[1], node->inputs[2], value};
    cr_graph_node *made = value ? cr_graph_add(graph, &graph->body, node, cr_op_find("packed_lstm_sequence"),
                                               node->attributes, inputs, 4, 3)
                                : NULL;
    if (!made) return false;
    made->source = node->source;
    for (int i = 0; i < 3; i++)
        if (node->outputs[i]) cr_graph_set_output(made, i, node->outputs[i]);
    cr_graph_remove(&graph->body, node);
    *changed = true;
    return true;
}

bool cr_pass_packing(cr_graph *graph, bool *changed) {
    if (graph->supports) return true; /* kernels of this library only */
    bool done = true;
    cr_graph_count_uses(graph);
    cr_thread *thread = cr_thread_self();
    const bool paused = thread->listeners_paused;
    thread->listeners_paused = true;
    for (cr_graph_node *node = graph->body.first, *next; done && node; node = next) {
        next = node->next;
        if (!strcmp(node->op->name, "lstm_sequence")) done = pack_recurrence(graph, node, changed);
        if (node->output_count != 1 || node->input_count < 2 || node->bound_count || !node->outputs[0] ||
            node->outputs[0]->device.type != CR_DEVICE_CPU || !same_floats(node))
            continue;
        cr_tensor *weight = cr_graph_weight(graph, node->inputs[1]);
        if (!cr_has_program(node) && !cr_node_types_hold(node)) continue;
        bool packs = false;
        cr_tensor *packed = weight ? pack(graph, node, weight, &packs) : NULL;
        if (!packs) continue;
        done = packed && use_packed(graph, node, weight, packed);
        *changed = true;
    }
    thread->listeners_paused = paused;
    return done;
}
