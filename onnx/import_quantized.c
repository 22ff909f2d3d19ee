/* Quantised tensors: linear, by tensor, by axis, or by blocks of an axis. Products of integers are summed in f64, which is
 * exact below 2^53. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/import.h"

#include <math.h>
#include <string.h>

/* t (scale or zero point), one for each block of an axis, as it broadcasts against x. */
static cr_tensor *lay_out(cr_onnx_call *call, cr_tensor *t, cr_tensor *x) {
    const int axis = cr_onnx_axis(call, cr_onnx_int(call, "axis", 1), cr_ndim(x));
    if (axis < 0 || !t) return NULL;
    if (cr_ndim(t) != cr_ndim(x)) {
        cr_onnx_refuse(call, "scales of %d dims for %d", cr_ndim(t), cr_ndim(x));
        return NULL;
    }
    return cr_narrow(cr_repeat_interleave(t, cr_onnx_int(call, "block_size", 0), axis), axis, 0, cr_size(x, axis));
}

static bool has_blocks(const cr_onnx_call *call, const cr_tensor *scale) {
    return cr_onnx_int(call, "block_size", 0) > 0 && cr_ndim(scale) > 1;
}

static cr_tensor *dequantize(cr_onnx_call *call, cr_tensor *x, cr_tensor *scale, cr_tensor *zero) {
    if (!has_blocks(call, scale)) return cr_dequantize(x, scale, zero, .axis = cr_onnx_int(call, "axis", 1));
    scale = lay_out(call, scale, x);
    cr_tensor *wide = cr_cast(x, cr_dtype_of(scale));
    if (zero) wide = cr_sub(wide, cr_cast(lay_out(call, zero, x), cr_dtype_of(scale)));
    return cr_mul(wide, scale);
}

/* Rounded to even, and held inside of the dtype. */
static cr_tensor *saturate(cr_tensor *x, cr_dtype dtype) {
    const double least = dtype == CR_U8   ? 0
                         : dtype == CR_I8 ? -128
                                          : -32768,
                 most = dtype == CR_U8   ? 255
                        : dtype == CR_I8 ? 127
                                         : 32767;
    return cr_cast(cr_clamp(x, least, most), dtype);
}

static cr_tensor *quantize(cr_onnx_call *call, cr_tensor *x, cr_tensor *scale, cr_tensor *zero, cr_dtype dtype) {
    if (!cr_dtype_is_floating(cr_dtype_of(x))) x = cr_cast(x, CR_F32);
    if (!has_blocks(call, scale))
        return cr_quantize(x, scale, zero, .axis = cr_onnx_int(call, "axis", 1), .dtype = dtype);
    cr_tensor *steps = cr_round(cr_div(cr_cast(x, CR_F32), cr_cast(lay_out(call, scale, x), CR_F32)));
    return saturate(zero ? cr_add(steps, cr_cast(lay_out(call, zero, x), CR_F32)) : steps, dtype);
}

static bool run_DequantizeLinear(cr_onnx_call *call) {
    return cr_onnx_give(call, dequantize(call, cr_onnx_input(call, 0), cr_onnx_input(call, 1), cr_onnx_input(call, 2)));
}
/* Never ahead: weights stay the integers that they are. */
CR_ONNX_IMPORT(DequantizeLinear, 10, CR_ONNX_RANDOM)

static bool run_QuantizeLinear(cr_onnx_call *call) {
    cr_tensor *zero = cr_onnx_input(call, 2);
    cr_dtype dtype = zero ? cr_dtype_of(zero) : CR_U8;
    const int64_t number = cr_onnx_int(call, "output_dtype", 0);
    if (number && !cr_onnx_dtype((int)number, &dtype))
        return cr_onnx_refuse(call, "to %s, which Cresset does not have", cr_onnx_dtype_text((int)number));
    if (dtype != CR_U8 && dtype != CR_I8 && dtype != CR_I16) return cr_onnx_refuse(call, "to %s", cr_dtype_name(dtype));
    return cr_onnx_give(call, quantize(call, cr_onnx_input(call, 0), cr_onnx_input(call, 1), zero, dtype));
}
CR_ONNX_IMPORT(QuantizeLinear, 10, 0)

/* u8 over the range of x and 0; the scale and zero point are results too. */
static bool run_DynamicQuantizeLinear(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0), *none = cr_zeros(CR_F32, CR_SHAPE_0D, CR_CPU);
    cr_tensor *least = cr_minimum(cr_amin(x), none), *most = cr_maximum(cr_amax(x), none);
    cr_tensor *scale = cr_div_scalar(cr_sub(most, least), 255);
    cr_tensor *zero = saturate(cr_round(cr_neg(cr_div(least, scale))), CR_U8);
    return cr_onnx_give(call, quantize(call, x, scale, zero, CR_U8)) && cr_onnx_give_at(call, 1, scale) &&
           cr_onnx_give_at(call, 2, zero);
}
CR_ONNX_IMPORT(DynamicQuantizeLinear, 11, 0)

/* ---------------------------------------------------------------- products */
/* x - zero in f64; a zero point [n] is of rows (of A) or columns (of B). */
static cr_tensor *centre(cr_tensor *x, cr_tensor *zero, bool by_rows) {
    x = cr_cast(x, CR_F64);
    if (!zero) return x;
    zero = cr_cast(zero, CR_F64);
    return cr_sub(x, by_rows && cr_ndim(zero) == 1 && cr_numel(zero) > 1 ? cr_unsqueeze(zero, 1) : zero);
}

static bool run_MatMulInteger(cr_onnx_call *call) {
    cr_tensor *a = centre(cr_onnx_input(call, 0), cr_onnx_input(call, 2), true),
              *b = centre(cr_onnx_input(call, 1), cr_onnx_input(call, 3), false);
    return cr_onnx_give(call, cr_cast(cr_matmul(a, b), CR_I32));
}
CR_ONNX_IMPORT(MatMulInteger, 10, 0)

/* y = round(a b · sa sb / sy) + zero. */
static bool give_requantized(cr_onnx_call *call, cr_tensor *y, cr_tensor *scale, cr_tensor *zero) {
    y = cr_round(cr_mul(y, scale));
    return cr_onnx_give(call, saturate(cr_add(y, cr_cast(zero, CR_F64)), cr_dtype_of(zero)));
}

static cr_tensor *wide(cr_onnx_call *call, int i) { return cr_cast(cr_onnx_input(call, i), CR_F64); }

static bool run_QLinearMatMul(cr_onnx_call *call) {
    cr_tensor *sa = wide(call, 1), *sb = wide(call, 4);
    cr_tensor *a = centre(cr_onnx_input(call, 0), cr_onnx_input(call, 2), true),
              *b = centre(cr_onnx_input(call, 3), cr_onnx_input(call, 5), false);
    if (cr_ndim(sa) == 1 && cr_numel(sa) > 1) sa = cr_unsqueeze(sa, 1);
    return give_requantized(call, cr_matmul(a, b), cr_div(cr_mul(sa, sb), wide(call, 6)), cr_onnx_input(call, 7));
}
CR_ONNX_IMPORT(QLinearMatMul, 10, 0)

/* t [K] against [N, K, …]. */
static cr_tensor *by_channel(cr_tensor *t, int spatial) {
    for (int d = 0; t && cr_numel(t) > 1 && d < spatial; d++)
        t = cr_unsqueeze(t, -1);
    return t;
}

/* A zero point or scale of the weight may be [K], its first dim. */
static cr_tensor *convolve(cr_onnx_call *call, int x, int weight, int x_zero, int weight_zero) {
    cr_tensor *w = cr_onnx_input(call, weight), *zero = cr_onnx_input(call, weight_zero);
    const int spatial = cr_ndim(w) - 2;
    const cr_shape first = {spatial + 2, {-1, 1, 1, 1, 1}};
    w = centre(w, zero && cr_numel(zero) > 1 ? cr_reshape(zero, first) : zero, false);
    return cr_onnx_convolve(call, centre(cr_onnx_input(call, x), cr_onnx_input(call, x_zero), false), w, NULL);
}

static bool run_ConvInteger(cr_onnx_call *call) {
    return cr_onnx_give(call, cr_cast(convolve(call, 0, 1, 2, 3), CR_I32));
}
CR_ONNX_IMPORT(ConvInteger, 10, 0)

static bool run_QLinearConv(cr_onnx_call *call) {
    const int spatial = cr_ndim(cr_onnx_input(call, 3)) - 2;
    cr_tensor *y = convolve(call, 0, 3, 2, 5), *bias = cr_onnx_input(call, 8);
    if (bias) y = cr_add(y, by_channel(cr_cast(bias, CR_F64), spatial));
    cr_tensor *scale = cr_div(cr_mul(wide(call, 1), by_channel(wide(call, 4), spatial)), wide(call, 6));
    return give_requantized(call, y, scale, cr_onnx_input(call, 7));
}
CR_ONNX_IMPORT(QLinearConv, 10, 0)
#endif
