/* Signals: discrete Fourier transforms as products with the matrix of its waves. Complex numbers are pairs in a last dim. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/import.h"

#include <math.h>
#include <string.h>

/* cos and sin of 2 pi j k / n for j < rows, k < n, in x's dtype. */
static void waves(int64_t rows, int64_t n, cr_dtype dtype, cr_tensor **cosines, cr_tensor **sines) {
    cr_tensor *j = cr_unsqueeze(cr_arange(CR_I64, 0, (double)rows, 1, CR_CPU), 1),
              *k = cr_arange(CR_I64, 0, (double)n, 1, CR_CPU);
    cr_tensor *turns =
        cr_cast(cr_remainder_scalar(cr_mul(j, k), (double)n), CR_F64); /* whole turns are left out exactly */
    cr_tensor *angle = cr_mul_scalar(turns, 2 * M_PI / (double)n);
    *cosines = cr_cast(cr_cos(angle), dtype);
    *sines = cr_cast(cr_sin(angle), dtype);
}

/* x [*, n] real, or with an imaginary part: [*, rows, 2]. */
static cr_tensor *transform(cr_tensor *real, cr_tensor *imaginary, int64_t rows, bool is_inverse) {
    const int64_t n = cr_size(real, -1);
    cr_tensor *c, *s;
    waves(rows, n, cr_dtype_of(real), &c, &s);
    if (is_inverse) s = cr_neg(s);
    c = cr_transpose(c, 0, 1);
    s = cr_transpose(s, 0, 1);
    cr_tensor *a = cr_matmul(real, c), *b = cr_neg(cr_matmul(real, s));
    if (imaginary) {
        a = cr_add(a, cr_matmul(imaginary, s));
        b = cr_add(b, cr_matmul(imaginary, c));
    }
    cr_tensor *result = cr_stack((cr_tensor *const[]){a, b}, 2, -1);
    return is_inverse ? cr_div_scalar(result, (double)n) : result;
}

/* n real numbers from the first half of their spectrum, real and imaginary [*, rows]: each wave but the first, and of an even
 * n the last, stands for two. */
static cr_tensor *transform_back(cr_tensor *real, cr_tensor *imaginary, int64_t n) {
    const int64_t rows = cr_size(real, -1);
    cr_tensor *c, *s, *j = cr_arange(CR_I64, 0, (double)rows, 1, CR_CPU);
    waves(rows, n, cr_dtype_of(real), &c, &s);
    cr_tensor *is_single = cr_logical_or(cr_eq_scalar(j, 0), cr_eq_scalar(cr_mul_scalar(j, 2), (double)n));
    cr_tensor *weight = cr_cast(cr_add_scalar(cr_neg(cr_cast(is_single, CR_F64)), 2), cr_dtype_of(real));
    cr_tensor *sum = cr_sub(cr_matmul(cr_mul(real, weight), c), cr_matmul(cr_mul(imaginary, weight), s));
    return cr_unsqueeze(cr_div_scalar(sum, (double)n), -1);
}

/* x [batch, …, 1 or 2]; from opset 20 the axis is an operand and may be -2, the default. */
static bool run_DFT(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    int64_t axis = call->opset < 20 ? cr_onnx_int(call, "axis", 1) : -2, length = -1;
    if (call->opset >= 20 && call->input_count > 2 && call->inputs[2].tensor && cr_onnx_ints(call, 2, &axis, 1) != 1)
        return false;
    if (call->input_count > 1 && call->inputs[1].tensor && cr_onnx_ints(call, 1, &length, 1) != 1) return false;
    const int at = cr_onnx_axis(call, axis, cr_ndim(x));
    const bool is_inverse = cr_onnx_int(call, "inverse", 0), is_complex = cr_size(x, -1) == 2,
               is_half = cr_onnx_int(call, "onesided", 0);
    if (at < 0) return false;
    if (at == cr_ndim(x) - 1) return cr_onnx_refuse(call, "along the dim of real and imaginary parts");
    const bool gives_real = is_half && is_inverse && is_complex;
    const int64_t whole = length >= 0 ? length : 2 * (cr_size(x, at) - 1);
    if (gives_real && length >= 0) length = length / 2 + 1;
    if (length >= 0 && length != cr_size(x, at)) {
        cr_dims before = {cr_ndim(x), {0}}, after = before;
        after.at[at] = length - cr_size(x, at);
        x = cr_pad(x, before, after, 0);
    }
    const int64_t n = cr_size(x, at), rows = is_half ? n / 2 + 1 : n;
    cr_tensor *real = cr_movedim(cr_select(x, -1, 0), at, -1),
              *imaginary = is_complex ? cr_movedim(cr_select(x, -1, 1), at, -1) : NULL;
    if (gives_real)
        return cr_onnx_give(call, cr_contiguous(cr_movedim(transform_back(real, imaginary, whole), -2, at)));
    return cr_onnx_give(call, cr_contiguous(cr_movedim(transform(real, imaginary, rows, is_inverse), -2, at)));
}
CR_ONNX_IMPORT(DFT, 17, 0)

/* signal [batch, length, 1 or 2], frames of frame_length at every frame_step: [batch, frames, rows, 2]. */
static bool run_STFT(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0), *window = cr_onnx_input(call, 2);
    int64_t step, length = window ? cr_size(window, 0) : -1;
    if (cr_onnx_ints(call, 1, &step, 1) != 1) return false;
    if (call->input_count > 3 && call->inputs[3].tensor && cr_onnx_ints(call, 3, &length, 1) != 1) return false;
    if (length < 1 || step < 1)
        return cr_onnx_refuse(call, "frames of %lld at every %lld", (long long)length, (long long)step);
    const bool is_complex = cr_ndim(x) == 3 && cr_size(x, -1) == 2;
    const int64_t rows = cr_onnx_int(call, "onesided", 1) ? length / 2 + 1 : length;
    cr_tensor *parts[2] = {NULL};
    for (int i = 0; i <= is_complex; i++) {
        parts[i] = cr_unfold(cr_ndim(x) == 3 ? cr_select(x, -1, i) : x, 1, length, step);
        if (window) parts[i] = cr_mul(parts[i], window);
    }
    return cr_onnx_give(call, transform(parts[0], parts[1], rows, false));
}
CR_ONNX_IMPORT(STFT, 17, 0)

/* Triangles of equal width on the mel scale, 2595 log10(1 + f / 700): [dft_length / 2 + 1, bins]. */
static bool run_MelWeightMatrix(cr_onnx_call *call) {
    double n[5];
    cr_dtype dtype;
    const int64_t number = cr_onnx_int(call, "output_datatype", 1);
    for (int i = 0; i < 5; i++)
        if (cr_onnx_floats(call, i, &n[i], 1) != 1) return false;
    if (!cr_onnx_dtype((int)number, &dtype) || n[0] < 1 || n[1] < 1 || n[0] > 1e6 || n[1] > 1e6)
        return cr_onnx_refuse(call, "its sizes or data type");
    const int64_t bins = (int64_t)n[0], rows = (int64_t)n[1] / 2 + 1;
    const double low = 2595 * log10(1 + n[3] / 700), high = 2595 * log10(1 + n[4] / 700);
    cr_tensor *mel = cr_add_scalar(
        cr_mul_scalar(cr_arange(CR_F64, 0, (double)(bins + 2), 1, CR_CPU), (high - low) / (double)(bins + 2)), low);
    cr_tensor *hertz = cr_mul_scalar(
        cr_sub_scalar(cr_pow(cr_full(CR_F64, CR_SHAPE_0D, 10, CR_CPU), cr_div_scalar(mel, 2595)), 1), 700);
    cr_tensor *edges = cr_floor(cr_div_scalar(cr_mul_scalar(hertz, n[1] + 1), n[2]));
    cr_tensor *begin = cr_narrow(edges, 0, 0, bins), *middle = cr_narrow(edges, 0, 1, bins),
              *end = cr_narrow(edges, 0, 2, bins);
    cr_tensor *f = cr_unsqueeze(cr_arange(CR_F64, 0, (double)rows, 1, CR_CPU), 1),
              *zero = cr_zeros(CR_F64, CR_SHAPE_0D, CR_CPU);
    cr_tensor *rise = cr_sub(middle, begin),
              *up = cr_where(cr_eq_scalar(rise, 0), cr_cast(cr_eq(f, middle), CR_F64), cr_div(cr_sub(f, begin), rise));
    cr_tensor *down = cr_div(cr_sub(end, f), cr_sub(end, middle));
    cr_tensor *is_up = cr_logical_and(cr_ge(f, begin), cr_le(f, middle)),
              *is_down = cr_logical_and(cr_ge(f, middle), cr_lt(f, end));
    cr_tensor *weights = cr_where(is_up, up, cr_where(is_down, down, zero));
    return cr_onnx_give(call, cr_cast(cr_where(cr_logical_and(is_down, cr_gt(f, middle)), down, weights), dtype));
}
CR_ONNX_IMPORT(MelWeightMatrix, 17, CR_ONNX_GROWS)
#endif
