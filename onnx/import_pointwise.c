/* Pointwise operators that are not pairs: older forms, several operands, dtypes by attribute. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/import.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- arithmetic */
/* Integers are divided towards zero. */
static bool run_Div(cr_onnx_call *call) {
    cr_tensor *inputs[] = {cr_onnx_input(call, 0), cr_onnx_input(call, 1)};
    if (!cr_onnx_align_old(call, inputs)) return false;
    const bool is_real = cr_dtype_is_floating(cr_dtype_of(inputs[0]));
    return cr_onnx_give(call, is_real ? cr_div(inputs[0], inputs[1]) : cr_trunc_divide(inputs[0], inputs[1]));
}
CR_ONNX_IMPORT(Div, 1, 0)

/* The result has the base's dtype, whatever the exponent's. */
static bool run_Pow(cr_onnx_call *call) {
    cr_tensor *inputs[] = {cr_onnx_input(call, 0), cr_onnx_input(call, 1)};
    if (!cr_onnx_align_old(call, inputs)) return false;
    return cr_onnx_give(call, cr_cast(cr_pow(inputs[0], inputs[1]), cr_dtype_of(inputs[0])));
}
CR_ONNX_IMPORT(Pow, 1, 0)

static bool run_Mod(cr_onnx_call *call) {
    cr_tensor *a = cr_onnx_input(call, 0), *b = cr_onnx_input(call, 1);
    return cr_onnx_give(call, cr_onnx_int(call, "fmod", 0) ? cr_fmod(a, b) : cr_remainder(a, b));
}
CR_ONNX_IMPORT(Mod, 10, 0)

/* NaN has NaN's sign. */
static bool run_Sign(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0), *sign = cr_sign(x);
    return cr_onnx_give(call, cr_dtype_is_floating(cr_dtype_of(x)) ? cr_where(cr_isnan(x), x, sign) : sign);
}
CR_ONNX_IMPORT(Sign, 9, 0)

static bool run_BitShift(cr_onnx_call *call) {
    cr_tensor *a = cr_onnx_input(call, 0), *b = cr_onnx_input(call, 1);
    const bool is_left = !strcmp(cr_onnx_text(call, "direction", ""), "LEFT");
    return cr_onnx_give(call, is_left ? cr_bitwise_left_shift(a, b) : cr_bitwise_right_shift(a, b));
}
CR_ONNX_IMPORT(BitShift, 11, 0)

/* Any number of operands, taken together from the left. */
static bool fold(cr_onnx_call *call, cr_tensor *(*op)(cr_tensor *, cr_tensor *), bool is_mean) {
    cr_tensor *result = cr_onnx_input(call, 0);
    for (int i = 1; i < call->input_count; i++)
        result = op(result, cr_onnx_input(call, i));
    if (is_mean) result = cr_div_scalar(result, call->input_count);
    return cr_onnx_give(call, result);
}
static bool run_Max(cr_onnx_call *call) { return fold(call, cr_maximum, false); }
CR_ONNX_IMPORT(Max, 1, 0)
static bool run_Min(cr_onnx_call *call) { return fold(call, cr_minimum, false); }
CR_ONNX_IMPORT(Min, 1, 0)
static bool run_Sum(cr_onnx_call *call) { return fold(call, cr_add, false); }
CR_ONNX_IMPORT(Sum, 1, 0)
static bool run_Mean(cr_onnx_call *call) { return fold(call, cr_add, true); }
CR_ONNX_IMPORT(Mean, 1, 0)

/* ---------------------------------------------------------------- limits */
/* A limit that is known is an attribute; one that is computed, an operand. */
static cr_tensor *limit(cr_onnx_call *call, cr_tensor *x, int i, const char *name, bool is_most) {
    double value = is_most ? INFINITY : -INFINITY;
    if (call->opset < 11)
        value = cr_onnx_float(call, name, value);
    else if (i >= call->input_count || !call->inputs[i].tensor)
        return x;
    else if (call->run->is_traced && !call->inputs[i].is_known)
        return is_most ? cr_minimum(x, cr_onnx_input(call, i)) : cr_maximum(x, cr_onnx_input(call, i));
    else if (cr_onnx_floats(call, i, &value, 1) != 1)
        return NULL;
    if (isinf(value)) return x;
    if (!cr_dtype_is_floating(cr_dtype_of(x))) /* exactly, whatever a double holds */
        return is_most ? cr_minimum(x, cr_onnx_input(call, i)) : cr_maximum(x, cr_onnx_input(call, i));
    return is_most ? cr_clamp(x, -INFINITY, value) : cr_clamp(x, value, INFINITY);
}

static bool is_number(const cr_onnx_call *call, int i) {
    return i < call->input_count && call->inputs[i].tensor && (call->inputs[i].is_known || !call->run->is_traced);
}

static bool run_Clip(cr_onnx_call *call) {
    double least, most;
    if (call->opset >= 11 && is_number(call, 1) && is_number(call, 2) &&
        cr_dtype_is_floating(cr_dtype_of(call->inputs[0].tensor)))
        return cr_onnx_floats(call, 1, &least, 1) == 1 && cr_onnx_floats(call, 2, &most, 1) == 1 &&
               cr_onnx_give(call, cr_clamp(cr_onnx_input(call, 0), least < most ? least : most, most));
    cr_tensor *x = limit(call, cr_onnx_input(call, 0), 1, "min", false); /* of a min above max, max holds */
    return cr_onnx_give(call, cr_identity(limit(call, x, 2, "max", true)));
}
CR_ONNX_IMPORT(Clip, 1, 0)

/* ---------------------------------------------------------------- activations */
/* slope [C, 1, …] broadcasts to the left in today's opsets; before 7 it was [C] along dim 1. */
static bool run_PRelu(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0), *slope = cr_onnx_input(call, 1);
    const bool is_by_channel = call->opset < 7 && slope && cr_ndim(slope) == 1 && cr_numel(slope) > 1;
    for (int d = 2; is_by_channel && d < cr_ndim(x); d++)
        slope = cr_unsqueeze(slope, -1);
    return cr_onnx_give(call, cr_where(cr_lt_scalar(x, 0), cr_mul(x, slope), x));
}
CR_ONNX_IMPORT(PRelu, 1, 0)

static bool run_Selu(cr_onnx_call *call) {
    const double alpha = cr_onnx_float(call, "alpha", 1.67326319217681884765625),
                 gamma = cr_onnx_float(call, "gamma", 1.05070102214813232421875);
    return cr_onnx_give(call, cr_mul_scalar(cr_elu(cr_onnx_input(call, 0), alpha), gamma));
}
CR_ONNX_IMPORT(Selu, 1, 0)

static bool run_ThresholdedRelu(cr_onnx_call *call) {
    return cr_onnx_give(call, cr_threshold(cr_onnx_input(call, 0), cr_onnx_float(call, "alpha", 1), 0));
}
CR_ONNX_IMPORT(ThresholdedRelu, 1, 0)

static bool run_HardSigmoid(cr_onnx_call *call) {
    const double alpha = cr_onnx_float(call, "alpha", 0.2f), beta = cr_onnx_float(call, "beta", 0.5);
    cr_tensor *x = cr_onnx_input(call, 0);
    return cr_onnx_give(call, cr_clamp(cr_add_scalar(cr_mul_scalar(x, alpha), beta), 0, 1));
}
CR_ONNX_IMPORT(HardSigmoid, 1, 0)

static bool run_Gelu(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    return cr_onnx_give(call, strcmp(cr_onnx_text(call, "approximate", "none"), "tanh") ? cr_gelu(x) : cr_gelu_tanh(x));
}
CR_ONNX_IMPORT(Gelu, 20, 0)

static bool run_Softplus(cr_onnx_call *call) { return cr_onnx_give(call, cr_softplus(cr_onnx_input(call, 0), 1, 20)); }
CR_ONNX_IMPORT(Softplus, 1, 0)

/* x · sigmoid(alpha x). */
static bool run_Swish(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    return cr_onnx_give(call, cr_mul(x, cr_sigmoid(cr_mul_scalar(x, cr_onnx_float(call, "alpha", 1)))));
}
CR_ONNX_IMPORT(Swish, 24, 0)

/* x + bias below -lambd, x - bias above lambd, else 0. */
static bool run_Shrink(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    const double bias = cr_onnx_float(call, "bias", 0), lambda = cr_onnx_float(call, "lambd", 0.5);
    cr_tensor *zero = cr_zeros_like(x), *above = cr_where(cr_gt_scalar(x, lambda), cr_sub_scalar(x, bias), zero);
    return cr_onnx_give(call,
                        cr_cast(cr_where(cr_lt_scalar(x, -lambda), cr_add_scalar(x, bias), above), cr_dtype_of(x)));
}
CR_ONNX_IMPORT(Shrink, 9, 0)

/* ---------------------------------------------------------------- choice, dtypes */
static bool run_Identity(cr_onnx_call *call) {
    call->outputs[0] = call->inputs[0];
    return true;
}
CR_ONNX_IMPORT(Identity, 1, CR_ONNX_BLOCKS)

static bool run_Where(cr_onnx_call *call) {
    return cr_onnx_give(call, cr_where(cr_onnx_input(call, 0), cr_onnx_input(call, 1), cr_onnx_input(call, 2)));
}
CR_ONNX_IMPORT(Where, 9, 0)

static bool run_IsInf(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0), *result = cr_isinf(x);
    if (!cr_onnx_int(call, "detect_negative", 1)) result = cr_logical_and(result, cr_gt_scalar(x, 0));
    if (!cr_onnx_int(call, "detect_positive", 1)) result = cr_logical_and(result, cr_lt_scalar(x, 0));
    return cr_onnx_give(call, result);
}
CR_ONNX_IMPORT(IsInf, 10, 0)

static bool cast(cr_onnx_call *call, cr_dtype dtype) {
    return cr_onnx_give(call, cr_cast(cr_onnx_input(call, 0), dtype));
}

static bool run_Cast(cr_onnx_call *call) {
    static const char *const names[] = {"FLOAT", "UINT8", "INT8",    "INT16", "INT32",
                                        "INT64", "BOOL",  "FLOAT16", "DOUBLE"};
    static const cr_dtype dtypes[] = {CR_F32, CR_U8, CR_I8, CR_I16, CR_I32, CR_I64, CR_BOOL, CR_F16, CR_F64};
    const int64_t to = cr_onnx_int(call, "to", 0);
    const char *name = cr_onnx_text(call, "to", NULL); /* before opset 6 */
    cr_dtype dtype;
    for (int i = 0; name && i < (int)(sizeof names / sizeof names[0]); i++)
        if (!strcmp(name, names[i])) return cast(call, dtypes[i]);
    if (cr_onnx_dtype((int)to, &dtype)) return cast(call, dtype);
    return cr_onnx_refuse(call, "to data type %lld (%s), which Cresset does not have", (long long)to,
                          name ? name : cr_onnx_dtype_text((int)to));
}
CR_ONNX_IMPORT(Cast, 1, 0)

static bool run_CastLike(cr_onnx_call *call) { return cast(call, cr_dtype_of(call->inputs[1].tensor)); }
CR_ONNX_IMPORT(CastLike, 15, 0)

/* ---------------------------------------------------------------- dropout */
/* In training by the file's word (an input, or before opset 7 an attribute), or by the module's mode. */
static bool run_Dropout(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0), *y;
    double ratio = 0.5, training = call->run->is_training;
    if (!cr_onnx_number(call, "ratio", 1, 12, &ratio)) return false;
    if (call->opset >= 12 && call->input_count > 2 && !cr_onnx_number(call, "", 2, 12, &training)) return false;
    if (call->run->is_training) training = 1;
    y = cr_dropout(x, ratio, training != 0 && ratio > 0);
    cr_tensor *mask = call->output_count < 2 ? NULL
                      : training != 0        ? cr_ne_scalar(y, 0)
                                             : cr_full(CR_BOOL, cr_shape_of(x), 1, cr_device_of(x));
    if (call->output_count > 1 && call->opset < 10) mask = cr_cast(mask, cr_dtype_of(x));
    return cr_onnx_give(call, y) && (call->output_count < 2 || cr_onnx_give_at(call, 1, mask));
}
CR_ONNX_IMPORT(Dropout, 1, CR_ONNX_RANDOM)
#endif
