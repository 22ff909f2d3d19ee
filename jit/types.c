/* Whether a node's results are what its op gives for its operands. Graphs read from text may say anything; the plan
 * asks each op, but not those that were fused before: so only nodes whose types hold are fused. */
#include "jit/graph.h"

#include <string.h>

static void stand_in(cr_tensor *t, const cr_value *value) {
    cr_shape strides;
    memset(t, 0, sizeof *t);
    cr_contiguous_strides(value->shape, &strides);
    t->magic = CR_TENSOR_ALIVE;
    t->dtype = (int8_t)value->dtype;
    t->ndim = (int8_t)value->shape.count;
    t->device = value->device;
    memcpy(t->sizes, value->shape.at, sizeof t->sizes);
    memcpy(t->strides, strides.at, sizeof t->strides);
    cr_shape_numel(value->shape, &t->numel);
}

/* Asks the op for its results; false without an error where it refuses. */
static bool infer_types(const cr_graph_node *node, cr_spec specs[CR_MAX_OUTPUTS]) {
    cr_tensor tensors[CR_MAX_INPUTS], *inputs[CR_MAX_INPUTS];
    cr_call call = {.op = node->op,
                    .inputs = inputs,
                    .input_count = node->input_count,
                    .output_count = node->op->output_total,
                    .attributes = node->attributes,
                    .specs = specs};
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i]) call.device = node->outputs[i]->device;
    for (int i = 0; i < node->input_count; i++) {
        inputs[i] = node->inputs[i] ? &tensors[i] : NULL;
        if (inputs[i]) stand_in(inputs[i], node->inputs[i]);
    }
    if (node->op->infer(&call)) return true;
    cr_clear_error();
    return false;
}

static bool is_of(const cr_value *value, const cr_spec *spec) {
    return !value || (spec->dtype == value->dtype && cr_shape_equal(spec->shape, value->shape));
}

bool cr_node_types_hold(const cr_graph_node *node) {
    cr_spec specs[CR_MAX_OUTPUTS] = {{0}};
    return node->output_count == 1 && node->outputs[0] && node->op->infer && infer_types(node, specs) &&
           is_of(node->outputs[0], &specs[0]);
}

static bool check_types(cr_graph *graph, cr_block *block, cr_graph_node *node, void *context) {
    cr_spec specs[CR_MAX_OUTPUTS] = {{0}};
    (void)graph, (void)block, (void)context;
    if (!node->op->infer || (node->op->flags & (CR_OP_BLOCKS | CR_OP_READS_HOST))) return true;
    bool hold = infer_types(node, specs);
    for (int i = 0; hold && i < node->op->output_total && i < node->output_count; i++)
        hold = is_of(node->outputs[i], &specs[i]);
    return hold || cr_fail(CR_ERROR_STATE, "jit: a node %s whose operands and results do not fit its op%s%s",
                           node->op->name, node->source ? "; from " : "", node->source ? node->source : "");
}

bool cr_graph_types_hold(const cr_graph *graph) {
    return cr_graph_each((cr_graph *)(uintptr_t)graph, check_types, NULL);
}
