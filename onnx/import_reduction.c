/* Reductions, softmax, products. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/import.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- reductions */
typedef cr_tensor *(*reduction)(cr_tensor *x, cr_dims dims, bool keepdim);

/* Whether there is nothing in a dim that goes. */
static bool is_empty(const cr_tensor *x, cr_dims axes) {
    for (int i = 0; i < (axes.count ? axes.count : cr_ndim(x)); i++)
        if (cr_size(x, axes.count ? (int)axes.at[i] : i) == 0) return true;
    return false;
}

/* Axes were an attribute until 18 (of ReduceSum until 13); none are all, or with noop_with_empty_axes none. of_nothing is the
 * result where there is nothing to reduce. */
static bool reduce_from(cr_onnx_call *call, reduction op, int axes_since, cr_tensor *(*before)(cr_tensor *),
                        double of_nothing) {
    cr_tensor *x = cr_onnx_input(call, 0);
    const cr_dtype dtype = cr_dtype_of(x);
    const bool keepdim = cr_onnx_int(call, "keepdims", 1);
    cr_dims axes;
    if (!cr_onnx_axes(call, "axes", 1, axes_since, cr_ndim(x), &axes)) return false;
    if (of_nothing != 0 && is_empty(x, axes)) { /* the sizes are those of a sum */
        cr_tensor *sizes = cr_sum(cr_cast(x, CR_F32), .dims = axes, .keepdim = keepdim);
        return cr_onnx_give(call, cr_cast(cr_add_scalar(sizes, dtype == CR_BOOL ? of_nothing > 0 : of_nothing), dtype));
    }
    if (before) x = before(x);
    if (!axes.count && cr_onnx_int(call, "noop_with_empty_axes", 0)) return cr_onnx_give(call, cr_identity(x));
    return cr_onnx_give(call, cr_cast(op(x, axes, keepdim), dtype));
}

static bool reduce(cr_onnx_call *call, reduction op, int axes_since, cr_tensor *(*before)(cr_tensor *)) {
    return reduce_from(call, op, axes_since, before, 0);
}

static cr_tensor *sum(cr_tensor *x, cr_dims d, bool keep) { return cr_sum(x, .dims = d, .keepdim = keep); }
static cr_tensor *product(cr_tensor *x, cr_dims d, bool keep) { return cr_prod(x, .dims = d, .keepdim = keep); }
static cr_tensor *largest(cr_tensor *x, cr_dims d, bool keep) { return cr_amax(x, .dims = d, .keepdim = keep); }
static cr_tensor *smallest(cr_tensor *x, cr_dims d, bool keep) { return cr_amin(x, .dims = d, .keepdim = keep); }
static cr_tensor *floating(cr_tensor *x) { return cr_dtype_is_floating(cr_dtype_of(x)) ? x : cr_cast(x, CR_F64); }
static cr_tensor *mean(cr_tensor *x, cr_dims d, bool keep) { return cr_mean(floating(x), .dims = d, .keepdim = keep); }
static cr_tensor *length(cr_tensor *x, cr_dims d, bool keep) { return cr_sqrt(sum(cr_square(floating(x)), d, keep)); }
static cr_tensor *log_sum(cr_tensor *x, cr_dims d, bool keep) { return cr_log(sum(x, d, keep)); }
static cr_tensor *log_sum_exp(cr_tensor *x, cr_dims d, bool keep) {
    return cr_logsumexp(floating(x), .dims = d, .keepdim = keep);
}

static bool run_ReduceSum(cr_onnx_call *call) { return reduce(call, sum, 13, NULL); }
CR_ONNX_IMPORT(ReduceSum, 1, 0)
static bool run_ReduceMean(cr_onnx_call *call) { return reduce(call, mean, 18, NULL); }
CR_ONNX_IMPORT(ReduceMean, 1, 0)
static bool run_ReduceProd(cr_onnx_call *call) { return reduce(call, product, 18, NULL); }
CR_ONNX_IMPORT(ReduceProd, 1, 0)
static bool run_ReduceMax(cr_onnx_call *call) { return reduce_from(call, largest, 18, NULL, -INFINITY); }
CR_ONNX_IMPORT(ReduceMax, 1, 0)
static bool run_ReduceMin(cr_onnx_call *call) { return reduce_from(call, smallest, 18, NULL, INFINITY); }
CR_ONNX_IMPORT(ReduceMin, 1, 0)
static bool run_ReduceL1(cr_onnx_call *call) { return reduce(call, sum, 18, cr_abs); }
CR_ONNX_IMPORT(ReduceL1, 1, 0)
static bool run_ReduceL2(cr_onnx_call *call) { return reduce(call, length, 18, NULL); }
CR_ONNX_IMPORT(ReduceL2, 1, 0)
static bool run_ReduceSumSquare(cr_onnx_call *call) { return reduce(call, sum, 18, cr_square); }
CR_ONNX_IMPORT(ReduceSumSquare, 1, 0)
static bool run_ReduceLogSum(cr_onnx_call *call) { return reduce(call, log_sum, 18, NULL); }
CR_ONNX_IMPORT(ReduceLogSum, 1, 0)
static bool run_ReduceLogSumExp(cr_onnx_call *call) { return reduce_from(call, log_sum_exp, 18, NULL, -INFINITY); }
CR_ONNX_IMPORT(ReduceLogSumExp, 1, 0)

/* ---------------------------------------------------------------- places */
static bool find_extreme(cr_onnx_call *call, cr_tensor *(*op)(cr_tensor *, int, bool)) {
    cr_tensor *x = cr_onnx_input(call, 0);
    const int axis = cr_onnx_axis(call, cr_onnx_int(call, "axis", 0), cr_ndim(x));
    const bool keepdim = cr_onnx_int(call, "keepdims", 1);
    if (axis < 0) return false;
    if (!cr_onnx_int(call, "select_last_index", 0)) return cr_onnx_give(call, op(x, axis, keepdim));
    cr_tensor *from_end = op(cr_flip(x, CR_DIMS(axis)), axis, keepdim);
    return cr_onnx_give(call, cr_add_scalar(cr_neg(from_end), (double)(cr_size(x, axis) - 1)));
}
static bool run_ArgMax(cr_onnx_call *call) { return find_extreme(call, cr_argmax); }
CR_ONNX_IMPORT(ArgMax, 1, 0)
static bool run_ArgMin(cr_onnx_call *call) { return find_extreme(call, cr_argmin); }
CR_ONNX_IMPORT(ArgMin, 1, 0)

static bool run_TopK(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0), *indices = NULL, *values;
    const int axis = cr_onnx_axis(call, cr_onnx_int(call, "axis", -1), cr_ndim(x));
    int64_t k = cr_onnx_int(call, "k", 0);
    if (axis < 0 || (call->opset >= 10 && cr_onnx_ints(call, 1, &k, 1) != 1)) return false;
    values = cr_topk(x, k, axis, cr_onnx_int(call, "largest", 1) != 0, &indices);
    return cr_onnx_give(call, values) && cr_onnx_give_at(call, 1, indices);
}
CR_ONNX_IMPORT(TopK, 1, CR_ONNX_GROWS)

/* exclusive: without the element itself; reverse: from the end. */
static bool scan(cr_onnx_call *call, cr_tensor *(*op)(cr_tensor *, int), double first) {
    cr_tensor *x = cr_onnx_input(call, 0), *t = x;
    int64_t given;
    if (cr_onnx_ints(call, 1, &given, 1) != 1) return false;
    const int axis = cr_onnx_axis(call, given, cr_ndim(x));
    const bool is_reverse = cr_onnx_int(call, "reverse", 0), is_exclusive = cr_onnx_int(call, "exclusive", 0);
    if (axis < 0) return false;
    if (is_reverse) t = cr_flip(t, CR_DIMS(axis));
    if (is_exclusive) {
        cr_dims before = {cr_ndim(x), {0}}, after = before;
        before.at[axis] = 1;
        after.at[axis] = -1;
        t = cr_pad(t, before, after, first);
    }
    t = cr_cast(op(t, axis), cr_dtype_of(x));
    return cr_onnx_give(call, is_reverse ? cr_flip(t, CR_DIMS(axis)) : t);
}
static bool run_CumSum(cr_onnx_call *call) { return scan(call, cr_cumsum, 0); }
CR_ONNX_IMPORT(CumSum, 11, 0)
static bool run_CumProd(cr_onnx_call *call) { return scan(call, cr_cumprod, 1); }
CR_ONNX_IMPORT(CumProd, 26, 0)

/* ---------------------------------------------------------------- softmax */
/* Until opset 13 the dims from axis on were one. */
static bool softmax(cr_onnx_call *call, cr_tensor *(*op)(cr_tensor *, int)) {
    cr_tensor *x = cr_onnx_input(call, 0);
    const int axis = cr_onnx_axis(call, cr_onnx_int(call, "axis", call->opset < 13 ? 1 : -1), cr_ndim(x));
    if (axis < 0) return false;
    if (call->opset >= 13 || axis == cr_ndim(x) - 1) return cr_onnx_give(call, op(x, axis));
    return cr_onnx_give(call, cr_reshape(op(cr_flatten(x, axis, -1), axis), cr_shape_of(x)));
}
static bool run_Softmax(cr_onnx_call *call) { return softmax(call, cr_softmax); }
CR_ONNX_IMPORT(Softmax, 1, 0)
static bool run_LogSoftmax(cr_onnx_call *call) { return softmax(call, cr_log_softmax); }
CR_ONNX_IMPORT(LogSoftmax, 1, 0)

/* 1 at the first of the largest, else 0. */
static cr_tensor *hardmax(cr_tensor *x, int axis) {
    cr_tensor *places = cr_arange(CR_I64, 0, (double)cr_size(x, axis), 1, CR_CPU);
    for (int d = axis + 1; d < cr_ndim(x); d++)
        places = cr_unsqueeze(places, -1);
    return cr_cast(cr_eq(cr_argmax(x, axis, true), places), cr_dtype_of(x));
}
static bool run_Hardmax(cr_onnx_call *call) { return softmax(call, hardmax); }
CR_ONNX_IMPORT(Hardmax, 1, 0)

/* ---------------------------------------------------------------- products */
/* alpha A' B' + beta C. What has the form of a linear layer becomes one. */
static bool run_Gemm(cr_onnx_call *call) {
    cr_tensor *a = cr_onnx_input(call, 0), *b = cr_onnx_input(call, 1), *c = cr_onnx_input(call, 2);
    const double alpha = cr_onnx_float(call, "alpha", 1), beta = cr_onnx_float(call, "beta", 1);
    const bool transposes_b = cr_onnx_int(call, "transB", 0);
    if (cr_ndim(a) != 2 || cr_ndim(b) != 2) return cr_onnx_refuse(call, "needs matrices");
    if (cr_onnx_int(call, "transA", 0)) a = cr_transpose(a, 0, 1);
    if (!cr_dtype_is_floating(cr_dtype_of(a))) { /* integers: exact in f64 up to 2^53 */
        cr_tensor *y = cr_matmul(cr_cast(a, CR_F64), cr_cast(transposes_b ? cr_transpose(b, 0, 1) : b, CR_F64));
        y = alpha == 1 ? y : cr_mul_scalar(y, alpha);
        if (c) y = cr_add(y, cr_mul_scalar(cr_cast(c, CR_F64), beta));
        return cr_onnx_give(call, cr_cast(y, cr_dtype_of(b)));
    }
    const bool is_bias =
        c && beta == 1 && alpha == 1 && cr_ndim(c) == 1 && cr_size(c, 0) == cr_size(b, transposes_b ? 0 : 1);
    if (transposes_b && alpha == 1 && (!c || is_bias)) return cr_onnx_give(call, cr_linear(a, b, c));
    cr_tensor *y = cr_matmul(a, transposes_b ? cr_transpose(b, 0, 1) : b);
    if (alpha != 1) y = cr_mul_scalar(y, alpha);
    if (c) y = cr_add(y, beta == 1 ? c : cr_mul_scalar(c, beta));
    return cr_onnx_give(call, y);
}
CR_ONNX_IMPORT(Gemm, 1, 0)

static bool run_MatMul(cr_onnx_call *call) {
    cr_tensor *a = cr_onnx_input(call, 0), *b = cr_onnx_input(call, 1);
    if (cr_dtype_is_floating(cr_dtype_of(a))) return cr_onnx_give(call, cr_matmul(a, b));
    return cr_onnx_give(call, cr_cast(cr_matmul(cr_cast(a, CR_F64), cr_cast(b, CR_F64)), cr_dtype_of(a)));
}
CR_ONNX_IMPORT(MatMul, 1, 0)

static bool run_Einsum(cr_onnx_call *call) {
    cr_tensor *operands[CR_ONNX_MOST_OPERANDS];
    char equation[256];
    const char *given = cr_onnx_text(call, "equation", "");
    size_t used = 0;
    for (; *given && used + 1 < sizeof equation; given++)
        if (*given != ' ') equation[used++] = *given;
    equation[used] = '\0';
    for (int i = 0; i < call->input_count; i++)
        operands[i] = cr_onnx_input(call, i);
    return cr_onnx_give(call, cr_einsum(equation, operands, call->input_count));
}
CR_ONNX_IMPORT(Einsum, 12, 0)

/* The determinants of matrices [*, n, n], by elimination with the largest pivot of each column. */
static bool run_Det(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    const int ndim = cr_ndim(x);
    const int64_t n = ndim < 2 ? 0 : cr_size(x, -1);
    if (ndim < 2 || cr_size(x, -2) != n) return cr_onnx_refuse(call, "needs square matrices");
    cr_shape batch = cr_shape_of(x);
    batch.count -= 2;
    cr_tensor *a = cr_reshape(x, CR_SHAPE(-1, n, n)), *det = cr_ones(cr_dtype_of(x), CR_SHAPE(1), CR_CPU);
    for (int64_t k = 0; a && k < n; k++) { /* a [batch, m, m], m = n - k */
        const int64_t m = n - k;
        cr_tensor *place = cr_argmax(cr_abs(cr_select(a, 2, 0)), 1, true),
                  *rows = cr_arange(CR_I64, 0, (double)m, 1, CR_CPU);
        cr_tensor *wide = cr_expand(cr_unsqueeze(place, 2), CR_SHAPE(cr_size(a, 0), 1, m));
        cr_tensor *pivot_row = cr_gather(a, 1, wide), *first_row = cr_narrow(a, 1, 0, 1);
        cr_tensor *is_pivot = cr_unsqueeze(cr_eq(rows, place), 2), *swapped = cr_where(is_pivot, first_row, a);
        cr_tensor *pivot = cr_select(cr_select(pivot_row, 1, 0), 1, 0);
        cr_tensor *sign =
            cr_sub_scalar(cr_mul_scalar(cr_cast(cr_eq_scalar(cr_select(place, 1, 0), 0), cr_dtype_of(x)), 2), 1);
        det = cr_mul(det, cr_mul(pivot, sign));
        if (m == 1) break;
        cr_tensor *rest = cr_narrow(swapped, 1, 1, m - 1);
        cr_tensor *safe = cr_where(cr_eq_scalar(pivot, 0), cr_ones_like(pivot), pivot);
        cr_tensor *factor = cr_div(cr_narrow(rest, 2, 0, 1), cr_reshape(safe, CR_SHAPE(-1, 1, 1)));
        a = cr_narrow(cr_sub(rest, cr_mul(factor, pivot_row)), 2, 1, m - 1);
    }
    return cr_onnx_give(call, cr_reshape(cr_expand(det, CR_SHAPE(cr_numel(x) / (n ? n * n : 1))), batch));
}
CR_ONNX_IMPORT(Det, 11, 0)
#endif
