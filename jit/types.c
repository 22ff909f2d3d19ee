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

bool cr_node_types_hold(const cr_graph_node *node) {
    enum { OPERANDS = 4 };
    cr_tensor tensors[OPERANDS], *inputs[OPERANDS];
    cr_spec spec = {0};
    if (node->input_count > OPERANDS || node->output_count != 1 || !node->outputs[0] || !node->op->infer) return false;
    cr_call call = {.op = node->op,
                    .inputs = inputs,
                    .input_count = node->input_count,
                    .output_count = 1,
                    .attributes = node->attributes,
                    .device = node->outputs[0]->device,
                    .specs = &spec};
    for (int i = 0; i < node->input_count; i++) {
        inputs[i] = node->inputs[i] ? &tensors[i] : NULL;
        if (inputs[i]) stand_in(inputs[i], node->inputs[i]);
    }
    if (!node->op->infer(&call)) {
        cr_clear_error();
        return false;
    }
    return spec.dtype == node->outputs[0]->dtype && cr_shape_equal(spec.shape, node->outputs[0]->shape);
}
