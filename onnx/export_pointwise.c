/* Export of pointwise ops that ONNX has one operator for, under some condition; all others go by their pair or expression. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/emit.h"

#include "ops/pointwise.h"

#include <math.h>

static double number(const cr_graph_node *node, int i) {
    return ((const cr_pointwise_attributes *)node->attributes)->value[i];
}

/* The op computes in what it gives, and ONNX's operator takes that. */
static bool is_real(const cr_graph_node *node, int opset) {
    const cr_dtype dtype = node->outputs[0]->dtype;
    (void)opset;
    return cr_dtype_is_floating(dtype) && dtype != CR_BF16;
}
static bool is_real_throughout(const cr_graph_node *node, int opset) {
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i]->dtype != node->outputs[0]->dtype) return false;
    return is_real(node, opset);
}

static const char *operand(cr_onnx_emitter *e, const cr_graph_node *node) {
    return cr_onnx_cast(e, cr_onnx_value(e, node, 0), node->inputs[0]->dtype, node->outputs[0]->dtype);
}

/* ---------------------------------------------------------------- limits */
static bool write_clip(cr_onnx_emitter *e, const cr_graph_node *node, double least, double most) {
    const cr_dtype dtype = node->outputs[0]->dtype;
    const char *low = least == -INFINITY ? "" : cr_onnx_scalar(e, dtype, least),
               *high = most == INFINITY ? "" : cr_onnx_scalar(e, dtype, most);
    return cr_onnx_name(e, node, 0, cr_onnx_add(e, "Clip", operand(e, node), low, high));
}
/* ONNX asks for min <= max, and ours gives max where it is not so. */
static bool takes_limits(const cr_graph_node *node, int opset) {
    return is_real(node, opset) && number(node, 0) <= number(node, 1) && node->bound_count == 0;
}
static bool write_clamp(cr_onnx_emitter *e, const cr_graph_node *node) {
    return write_clip(e, node, number(node, 0), number(node, 1));
}
CR_ONNX_EXPORT(clamp, 12, takes_limits)
static bool write_hardtanh(cr_onnx_emitter *e, const cr_graph_node *node) {
    return write_clip(e, node, number(node, 0), number(node, 1));
}
CR_ONNX_EXPORT(hardtanh, 12, takes_limits)
static bool write_relu6(cr_onnx_emitter *e, const cr_graph_node *node) { return write_clip(e, node, 0, 6); }
CR_ONNX_EXPORT(relu6, 12, is_real)

static bool write_maximum(cr_onnx_emitter *e, const cr_graph_node *node) {
    return cr_onnx_name(e, node, 0, cr_onnx_add(e, "Max", cr_onnx_value(e, node, 0), cr_onnx_value(e, node, 1)));
}
CR_ONNX_EXPORT(maximum, 12, is_real_throughout)
static bool write_minimum(cr_onnx_emitter *e, const cr_graph_node *node) {
    return cr_onnx_name(e, node, 0, cr_onnx_add(e, "Min", cr_onnx_value(e, node, 0), cr_onnx_value(e, node, 1)));
}
CR_ONNX_EXPORT(minimum, 12, is_real_throughout)

/* ---------------------------------------------------------------- activations */
static bool write_gelu(cr_onnx_emitter *e, const cr_graph_node *node) {
    return cr_onnx_name(e, node, 0, cr_onnx_add(e, "Gelu", operand(e, node)));
}
CR_ONNX_EXPORT(gelu, 20, is_real)
static bool write_gelu_tanh(cr_onnx_emitter *e, const cr_graph_node *node) {
    const char *y = cr_onnx_add(e, "Gelu", operand(e, node));
    cr_onnx_set_text(e, "approximate", "tanh");
    return cr_onnx_name(e, node, 0, y);
}
CR_ONNX_EXPORT(gelu_tanh, 20, is_real)

static bool write_selu(cr_onnx_emitter *e, const cr_graph_node *node) {
    return cr_onnx_name(e, node, 0, cr_onnx_add(e, "Selu", operand(e, node)));
}
CR_ONNX_EXPORT(selu, 6, is_real)

/* ONNX's goes on where ours is the identity: from 20 on they are the same number. */
static bool takes_softplus(const cr_graph_node *node, int opset) {
    return is_real(node, opset) && number(node, 0) == 1 && number(node, 1) >= 20;
}
static bool write_softplus(cr_onnx_emitter *e, const cr_graph_node *node) {
    return cr_onnx_name(e, node, 0, cr_onnx_add(e, "Softplus", operand(e, node)));
}
CR_ONNX_EXPORT(softplus, 1, takes_softplus)

static bool write_hardsigmoid(cr_onnx_emitter *e, const cr_graph_node *node) {
    const char *y = cr_onnx_add(e, "HardSigmoid", operand(e, node));
    cr_onnx_set_float(e, "alpha", 1.0 / 6);
    cr_onnx_set_float(e, "beta", 0.5);
    return cr_onnx_name(e, node, 0, y);
}
CR_ONNX_EXPORT(hardsigmoid, 6, is_real)
#endif
