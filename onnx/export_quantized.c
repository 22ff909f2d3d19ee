/* Export of quantize and dequantize: ONNX's operators of the same meaning, where all is f32. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/export.h"

#include <string.h>

static const cr_value *zero_of(const cr_graph_node *node) { return node->input_count > 2 ? node->inputs[2] : NULL; }

/* i16 is of opset 21. */
static bool takes(const cr_graph_node *node, cr_dtype floating, cr_dtype integer, int opset) {
    return floating == CR_F32 && node->inputs[1]->dtype == CR_F32 && (integer != CR_I16 || opset >= 21) &&
           node->inputs[1]->shape.count <= 1;
}
static bool takes_quantize(const cr_graph_node *node, int opset) {
    return takes(node, node->inputs[0]->dtype, node->outputs[0]->dtype, opset);
}
static bool takes_dequantize(const cr_graph_node *node, int opset) {
    const bool same = !zero_of(node) || zero_of(node)->dtype == node->inputs[0]->dtype;
    return takes(node, node->outputs[0]->dtype, node->inputs[0]->dtype, opset) && same &&
           (node->inputs[0]->dtype != CR_I32 || !zero_of(node));
}

static const char *add(cr_onnx_emitter *e, const cr_graph_node *node, const char *operator, const char * zero) {
    const char *y = cr_onnx_add(e, operator, cr_onnx_value(e, node, 0), cr_onnx_value(e, node, 1), zero);
    if (node->inputs[1]->shape.count == 1) cr_onnx_set_int(e, "axis", CR_ONNX_ATTRIBUTE(node, int64_t, axis));
    return y;
}

/* The zero point also says the dtype: one of zeros where there is none; u8 goes without. */
static bool write_quantize(cr_onnx_emitter *e, const cr_graph_node *node) {
    const cr_dtype dtype = node->outputs[0]->dtype;
    const char *zero = cr_onnx_optional(e, node, 2);
    if (!zero_of(node) && dtype != CR_U8) {
        const cr_shape *shape = &node->inputs[1]->shape;
        if (cr_onnx_has_open_size(node->inputs[1]))
            return cr_onnx_cannot(e, node, "it has no zero points, and the number of its scales is open");
        const size_t bytes = cr_dtype_size(dtype) * (size_t)(shape->count ? shape->at[0] : 1);
        void *zeros = cr_pool_allocate(e->pool, bytes);
        if (!zeros) return false;
        memset(zeros, 0, bytes);
        zero = cr_onnx_constant(e, dtype, shape, zeros, bytes);
    }
    return cr_onnx_name(e, node, 0, add(e, node, "QuantizeLinear", zero));
}
CR_ONNX_EXPORT(quantize, 13, takes_quantize)

static bool write_dequantize(cr_onnx_emitter *e, const cr_graph_node *node) {
    return cr_onnx_name(e, node, 0, add(e, node, "DequantizeLinear", cr_onnx_optional(e, node, 2)));
}
CR_ONNX_EXPORT(dequantize, 13, takes_dequantize)
#endif
