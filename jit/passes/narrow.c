/* Narrow weights: a linear layer, or a product with a right side that never changes, whose weight is kept as bf16 or as i8
 * in steps of a scale reads it as it is,
 *   x Wᵀ + b = (x Qᵀ) · scale + b,     W = Q · scale, a scale for each output or one for all
 * and rows are picked from a narrow table before they are widened. What no kernel reads so is widened once, by constant
 * folding. On the CPU, before lowering takes dequantize apart. */
#include "jit/pass.h"

static bool is(const cr_graph_node *node, const char *name) { return node && !strcmp(node->op->name, name); }

/* ---------------------------------------------------------------- what a value is widened from */
typedef struct narrow {
    cr_tensor *numbers; /* bf16 or i8 */
    cr_value *value;    /* they in the graph */
    cr_tensor *scale;   /* f32: one, or one for each place along `axis`; NULL: bf16 */
    int axis;
    bool transposed; /* between there and its reader */
} narrow;

static bool read_scale(const cr_graph *graph, const cr_graph_node *node, narrow *n) {
    const cr_value *zero_value = node->input_count > 2 ? node->inputs[2] : NULL;
    cr_tensor *zero = cr_graph_constant(graph, zero_value);
    const int64_t axis = *(const int64_t *)cr_graph_attribute(node, "axis");
    n->scale = cr_graph_constant(graph, node->inputs[1]);
    n->axis = (int)(axis < 0 ? axis + node->outputs[0]->shape.count : axis);
    if (!n->scale || n->scale->dtype != CR_F32 || (zero_value && !zero)) return false;
    return !zero || cr_item(cr_any(cr_cast(zero, CR_BOOL))) == 0;
}

static bool read_narrow(const cr_graph *graph, const cr_value *value, narrow *n) {
    const cr_graph_node *node = value->producer;
    *n = (narrow){NULL};
    if (value->shape.count != 2 || value->dtype != CR_F32 || value->device.type != CR_DEVICE_CPU) return false;
    if (is(node, "permute") && node->inputs[0]->shape.count == 2) {
        const cr_dims *dims = cr_graph_attribute(node, "dims");
        n->transposed = dims->at[0] == 1 || dims->at[0] == -1;
        node = node->inputs[0]->producer;
    }
    const bool is_cast = is(node, "cast");
    if (!is_cast && !is(node, "dequantize")) return false;
    n->value = node->inputs[0];
    n->numbers = n->value->dtype == (is_cast ? CR_BF16 : CR_I8) ? cr_graph_weight(graph, n->value) : NULL;
    return n->numbers && (is_cast || read_scale(graph, node, n));
}

/* y stands for the node's result; false for NULL. */
static bool replace(cr_graph *graph, cr_graph_node *node, cr_value *y, bool *changed) {
    if (!y) return false;
    node->outputs[0]->replacement = y;
    cr_graph_remove(&graph->body, node);
    *changed = true;
    return true;
}

/* ---------------------------------------------------------------- layers */
static cr_tensor *turn(const void *context, cr_tensor *const *inputs, int count) {
    (void)context, (void)count;
    return cr_contiguous(cr_t(inputs[0]));
}

/* [out, in], as the kernel wants it: what a matmul multiplies by is turned once. */
static cr_value *weight_of(cr_graph *graph, const narrow *n, bool across) {
    return across ? cr_graph_add_constant(graph, "narrow",
                                          cr_graph_compute(graph, "turn", "", turn, NULL, 0, &n->numbers, 1))
                  : n->value;
}

static cr_value *scaled(cr_graph *graph, const cr_graph_node *layer, const narrow *n, cr_value *y, cr_value *bias) {
    const int64_t out = y->shape.at[y->shape.count - 1];
    cr_tensor *each = cr_contiguous(cr_expand(cr_reshape(n->scale, CR_SHAPE(-1)), CR_SHAPE(out)));
    cr_value *factors[] = {y, cr_graph_add_constant(graph, "scale", each)};
    if (!factors[1] || !(y = cr_graph_insert(graph, layer, "mul", NULL, factors, 2, CR_F32, y->shape))) return NULL;
    cr_value *terms[] = {y, bias};
    return bias ? cr_graph_insert(graph, layer, "add", NULL, terms, 2, CR_F32, y->shape) : y;
}

static bool narrow_layer(cr_graph *graph, cr_graph_node *layer, bool *changed) {
    narrow n;
    cr_value *result = layer->outputs[0], *bias = layer->input_count > 2 ? layer->inputs[2] : NULL;
    if (layer->bound_count || !result || result->dtype != CR_F32 || layer->inputs[0]->dtype != CR_F32) return true;
    if (layer->inputs[0]->shape.count < 2 || !read_narrow(graph, layer->inputs[1], &n)) return cr_ok();
    const bool across = is(layer, "matmul") != n.transposed; /* numbers are [in, out] */
    if (n.scale && n.scale->numel > 1 && n.axis != (across ? 1 : 0)) return true;
    cr_value *inputs[] = {layer->inputs[0], weight_of(graph, &n, across), n.scale ? NULL : bias};
    cr_value *y =
        inputs[1] ? cr_graph_insert(graph, layer, "narrow_linear", NULL, inputs, 3, CR_F32, result->shape) : NULL;
    if (y && n.scale) y = scaled(graph, layer, &n, y, bias);
    return replace(graph, layer, y, changed);
}

/* ---------------------------------------------------------------- tables */
static cr_value *picked(cr_graph *graph, const cr_graph_node *pick, cr_value *table) {
    cr_value *inputs[] = {table, pick->inputs[1]};
    cr_shape shape = pick->outputs[0]->shape;
    shape.at[shape.count - 1] = table->shape.at[1];
    return cr_graph_insert(graph, pick, pick->op->name, pick->attributes, inputs, 2, table->dtype, shape);
}

/* The scale of all rows, or of those that are picked. */
static cr_value *picked_scales(cr_graph *graph, const cr_graph_node *pick, const narrow *n) {
    const int64_t rows = n->scale->numel;
    cr_value *all =
        cr_graph_add_constant(graph, "scale", cr_reshape(n->scale, rows > 1 ? CR_SHAPE(rows, 1) : CR_SHAPE_0D));
    return all && rows > 1 ? picked(graph, pick, all) : all;
}

/* widen(table)[index] = widen(table[index]) */
static bool narrow_table(cr_graph *graph, cr_graph_node *pick, bool *changed) {
    _Alignas(16) char to_f32[64];
    narrow n;
    cr_value *result = pick->outputs[0];
    const int64_t *dim = cr_graph_attribute(pick, "dim");
    if (pick->bound_count || !result || (dim && *dim != 0 && *dim != -2)) return true;
    if (!read_narrow(graph, pick->inputs[0], &n) || n.transposed) return cr_ok();
    if (n.scale && n.scale->numel > 1 && n.axis != 0) return true;
    cr_value *y = picked(graph, pick, n.value);
    if (!y || !cr_attributes_parse(cr_op_find("cast"), "dtype=f32", to_f32)) return false;
    y = cr_graph_insert(graph, pick, "cast", to_f32, &y, 1, CR_F32, result->shape);
    if (y && n.scale) {
        cr_value *factors[] = {y, picked_scales(graph, pick, &n)};
        y = factors[1] ? cr_graph_insert(graph, pick, "mul", NULL, factors, 2, CR_F32, result->shape) : NULL;
    }
    return replace(graph, pick, y, changed);
}

bool cr_pass_narrow(cr_graph *graph, bool *changed) {
    if (graph->supports) return true; /* kernels of this library only */
    bool done = true;
    cr_thread *thread = cr_thread_self();
    const bool paused = thread->listeners_paused;
    thread->listeners_paused = true;
    for (cr_graph_node *node = graph->body.first, *next; done && node; node = next) {
        next = node->next;
        for (int i = 0; i < node->input_count; i++)
            node->inputs[i] = cr_value_resolve(node->inputs[i]);
        if (is(node, "linear") || is(node, "matmul"))
            done = narrow_layer(graph, node, changed);
        else if (is(node, "embedding") || is(node, "index_select"))
            done = narrow_table(graph, node, changed);
    }
    thread->listeners_paused = paused;
    cr_graph_apply(graph);
    return done;
}
