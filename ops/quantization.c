/* quantize and dequantize: rows and what they mean in smaller ops, as which they are fused and differentiated. Layers of
 * integers are made of them by jit/passes/quantized.c. */
#include "ops/op.h"

CR_ATTRIBUTES(quantize, CR_QUANTIZE_ATTRIBUTES)
CR_ATTRIBUTES(dequantize, CR_DEQUANTIZE_ATTRIBUTES)

/* ---------------------------------------------------------------- checks */
static cr_tensor *zero_of(const cr_call *call) { return call->input_count > 2 ? call->inputs[2] : NULL; }
static bool is_list(const cr_tensor *t) { return t && t->ndim == 1 && t->numel != 1; }

/* The dim that `axis` names, from 0 on. */
static int axis_of(const cr_call *call) {
    const int64_t axis = *(const int64_t *)((const char *)call->attributes + call->op->attributes[0].offset);
    return (int)(axis < 0 ? axis + call->inputs[0]->ndim : axis);
}

static bool check_scale(const cr_call *call) {
    const cr_tensor *input = call->inputs[0], *scale = call->inputs[1], *zero = zero_of(call);
    if (!cr_dtype_is_floating((cr_dtype)scale->dtype))
        return cr_fail_call(call, CR_ERROR_DTYPE, "scale must be floating");
    if (zero && zero->numel != scale->numel)
        return cr_fail_call(call, CR_ERROR_SHAPE, "scale and zero point must have as many numbers as each other");
    if (!is_list(scale))
        return scale->numel == 1 || cr_fail_call(call, CR_ERROR_SHAPE, "scale must be one number, or a list");
    const int axis = axis_of(call);
    if (axis < 0 || axis >= input->ndim || input->sizes[axis] != scale->numel)
        return cr_fail_call(call, CR_ERROR_SHAPE,
                            "scale has %lld numbers, one for each place along dim %d; the input "
                            "has not that many there",
                            (long long)scale->numel, axis);
    return true;
}

static bool infer_quantize(cr_call *call) {
    const cr_quantize_options *o = call->attributes;
    const cr_tensor *zero = zero_of(call);
    const cr_dtype dtype = zero ? (cr_dtype)zero->dtype : o->dtype;
    if (!cr_dtype_is_floating((cr_dtype)call->inputs[0]->dtype))
        return cr_fail_call(call, CR_ERROR_DTYPE, "takes floating numbers");
    if (dtype != CR_U8 && dtype != CR_I8 && dtype != CR_I16)
        return cr_fail_call(call, CR_ERROR_DTYPE, "makes u8, i8 or i16, not %s", cr_dtype_name(dtype));
    cr_spec_set(call, 0, dtype, cr_tensor_shape(call->inputs[0]));
    return check_scale(call);
}

static bool infer_dequantize(cr_call *call) {
    const cr_dtype dtype = (cr_dtype)call->inputs[0]->dtype;
    if (dtype != CR_U8 && dtype != CR_I8 && dtype != CR_I16 && dtype != CR_I32)
        return cr_fail_call(call, CR_ERROR_DTYPE, "takes u8, i8, i16 or i32");
    cr_spec_set(call, 0, (cr_dtype)call->inputs[1]->dtype, cr_tensor_shape(call->inputs[0]));
    return check_scale(call);
}

/* ---------------------------------------------------------------- meaning */
/* Scale or zero point as it broadcasts against the input. */
static cr_tensor *laid_out(const cr_call *call, cr_tensor *t) {
    if (!is_list(t)) return t ? cr_reshape(t, CR_SHAPE_0D) : NULL;
    cr_shape shape = {call->inputs[0]->ndim - axis_of(call), {-1, 1, 1, 1, 1, 1, 1, 1}};
    return cr_reshape(t, shape);
}

static bool decompose_quantize(cr_call *call) {
    const cr_dtype dtype = call->specs[0].dtype;
    const double most = dtype == CR_U8 ? 255 : dtype == CR_I8 ? 127 : 32767, least = dtype == CR_U8 ? 0 : -most - 1;
    const cr_dtype compute = call->inputs[1]->dtype == CR_F64 ? CR_F64 : CR_F32;
    cr_tensor *scale = cr_cast(laid_out(call, call->inputs[1]), compute), *zero = laid_out(call, zero_of(call));
    cr_tensor *steps = cr_round(cr_div(cr_cast(call->inputs[0], compute), scale));
    if (zero) steps = cr_add(steps, cr_cast(zero, compute));
    return (call->outputs[0] = cr_cast(cr_clamp(steps, least, most), dtype)) != NULL;
}

static bool decompose_dequantize(cr_call *call) {
    cr_tensor *scale = laid_out(call, call->inputs[1]), *zero = laid_out(call, zero_of(call));
    cr_tensor *wide = cr_cast(call->inputs[0], call->specs[0].dtype);
    if (zero) wide = cr_sub(wide, cr_cast(zero, call->specs[0].dtype));
    return (call->outputs[0] = cr_mul(wide, scale)) != NULL;
}

CR_OP(quantize, .inputs = "input scale zero_point?", CR_ROW_ATTRIBUTES(quantize), .flags = CR_OP_NO_GRADIENT,
      .infer = infer_quantize, .decompose = decompose_quantize, .flops = cr_flops_each_input,
      .doc = "Numbers to integers: round(x / scale) + zero point, held within the dtype.")
CR_OP(dequantize, .inputs = "input scale zero_point?", CR_ROW_ATTRIBUTES(dequantize), .infer = infer_dequantize,
      .decompose = decompose_dequantize, .flops = cr_flops_each_input,
      .doc = "Integers to the numbers that they stand for: (q - zero point) scale.")

cr_tensor *cr_quantize_with(cr_tensor *input, cr_tensor *scale, cr_tensor *zero_point,
                            const cr_quantize_options *options) {
    cr_quantize_options storage;
    return CR_RUN(quantize, cr_options_complete(&cr_op_quantize, options, &storage), input, scale, zero_point);
}

cr_tensor *cr_dequantize_with(cr_tensor *input, cr_tensor *scale, cr_tensor *zero_point,
                              const cr_dequantize_options *options) {
    cr_dequantize_options storage;
    return CR_RUN(dequantize, cr_options_complete(&cr_op_dequantize, options, &storage), input, scale, zero_point);
}
