/* Batch norm after a convolution or linear layer, with fixed statistics: y = (Wx + b - mean) · s + beta with s = gamma
 * / sqrt(var + eps) is a layer of weight W · s and bias (b - mean) · s + beta. In frozen graphs only. */
#include "jit/pass.h"

static bool is_layer(const cr_graph_node *node) {
    if (!strcmp(node->op->name, "linear")) return node->inputs[0]->shape.count == 2; /* features are the channels */
    if (strcmp(node->op->name, "convolution") != 0) return false;
    return !*(const bool *)cr_graph_attribute(node, "transposed") ||
           *(const int64_t *)cr_graph_attribute(node, "groups") == 1;
}

/* The layer whose only reader is this batch norm, or NULL. */
static cr_graph_node *layer_before(const cr_graph *graph, const cr_graph_node *norm) {
    if (strcmp(norm->op->name, "batch_norm") != 0) return NULL;
    cr_graph_node *layer = norm->inputs[0]->producer;
    if (*(const bool *)cr_graph_attribute(norm, "training") || !norm->inputs[3] || !norm->inputs[4]) return NULL;
    if (!layer || !is_layer(layer) || layer->outputs[0]->uses != 1 || !cr_graph_weight(graph, layer->inputs[1]))
        return NULL;
    for (int i = 1; i < 3; i++)
        if (norm->outputs[i] && norm->outputs[i]->uses) return NULL;
    if (layer->inputs[2] && !cr_graph_weight(graph, layer->inputs[2])) return NULL;
    for (int i = 1; i < 5; i++)
        if (norm->inputs[i] && !cr_graph_weight(graph, norm->inputs[i])) return NULL;
    return layer;
}

/* s along the weight's output channels. */
static cr_tensor *scaled_weight(cr_graph *graph, const cr_graph_node *layer, cr_tensor *weight, cr_tensor *scale) {
    const void *transposed = cr_graph_attribute(layer, "transposed");
    cr_shape shape = {.count = cr_ndim(weight)};
    for (int d = 0; d < shape.count; d++)
        shape.at[d] = 1;
    shape.at[transposed && *(const bool *)transposed ? 1 : 0] = -1;
    cr_tensor *const factors[] = {weight, cr_reshape(cr_cast(scale, cr_dtype_of(weight)), shape)};
    return cr_graph_compute_op(graph, cr_op_find("mul"), NULL, factors, 2);
}

/* s and the bias in f64: one rounding in place of several. */
static bool fold(cr_graph *graph, cr_graph_node *layer, cr_graph_node *norm) {
    cr_tensor *t[5];
    for (int i = 1; i < 5; i++)
        t[i] = norm->inputs[i] ? cr_cast(cr_graph_constant(graph, norm->inputs[i]), CR_F64) : NULL;
    cr_tensor *weight = cr_graph_weight(graph, layer->inputs[1]),
              *bias = layer->inputs[2] ? cr_graph_constant(graph, layer->inputs[2]) : NULL;
    cr_tensor *scale = cr_rsqrt(cr_add_scalar(t[4], *(const double *)cr_graph_attribute(norm, "eps")));
    if (t[1]) scale = cr_mul(scale, t[1]);
    cr_tensor *shift = cr_mul(bias ? cr_sub(cr_cast(bias, CR_F64), t[3]) : cr_neg(t[3]), scale);
    if (t[2]) shift = cr_add(shift, t[2]);
    cr_value *inputs[] = {layer->inputs[0],
                          cr_graph_add_constant(graph, "folded", scaled_weight(graph, layer, weight, scale)),
                          cr_graph_add_constant(graph, "folded", cr_cast(shift, cr_dtype_of(weight)))};
    if (!inputs[1] || !inputs[2]) return false;
    cr_graph_node *made = cr_graph_add(graph, &graph->body, norm, layer->op, layer->attributes, inputs, 3, 1);
    if (!made) return false;
    made->source = layer->source;
    cr_graph_set_output(made, 0, norm->outputs[0]);
    cr_graph_remove(&graph->body, norm);
    cr_graph_remove(&graph->body, layer);
    return true;
}

bool cr_pass_batch_norm_folding(cr_graph *graph, bool *changed) {
    bool done = true;
    if (!graph->is_frozen) return true;
    cr_thread *thread = cr_thread_self();
    const bool paused = thread->listeners_paused;
    thread->listeners_paused = true;
    cr_graph_count_uses(graph);
    for (cr_graph_node *node = graph->body.first, *next; done && node; node = next) {
        next = node->next;
        cr_graph_node *layer = layer_before(graph, node);
        if (!layer) continue;
        done = fold(graph, layer, node);
        *changed = true;
    }
    thread->listeners_paused = paused;
    return done;
}
