/* Reductions: rows, meanings, gradients. The kernels stand in ops/cpu/variants/reduction.c. */
#include "ops/reduction.h"

#include <math.h>

CR_ATTRIBUTES(sum, CR_SUM_ATTRIBUTES)
CR_ATTRIBUTES(reduce, CR_REDUCE_ATTRIBUTES)
CR_ATTRIBUTES(var, CR_VAR_ATTRIBUTES)
CR_ATTRIBUTES(norm, CR_NORM_ATTRIBUTES)

/* ---------------------------------------------------------------- common parts */
static bool infer_reduced(cr_call *call, cr_dims dims, bool keepdim, cr_dtype dtype) {
    unsigned mask;
    if (!cr_reduced_dims(&dims, call->inputs[0]->ndim, &mask)) return false;
    cr_spec_set(call, 0, dtype, cr_reduced_shape(cr_tensor_shape(call->inputs[0]), mask, keepdim));
    return true;
}

static int64_t reduced_count(cr_shape shape, cr_dims dims) {
    unsigned mask;
    int64_t count = 1;
    if (!cr_reduced_dims(&dims, shape.count, &mask)) return 0;
    for (int i = 0; i < shape.count; i++)
        if (mask >> i & 1) count *= shape.at[i];
    return count;
}

/* A reduced tensor (without keepdim) with its dims back at size 1. */
static cr_tensor *restore_dims(cr_tensor *t, cr_shape full, cr_dims dims) {
    unsigned mask;
    return cr_reduced_dims(&dims, full.count, &mask) ? cr_reshape(t, cr_reduced_shape(full, mask, true)) : NULL;
}

static cr_tensor *like_input(cr_vjp *v, cr_tensor *t, cr_dims dims) {
    return cr_expand(restore_dims(t, v->input_specs[0].shape, dims), v->input_specs[0].shape);
}

static bool needs_floating(const cr_call *call) {
    return cr_dtype_is_floating((cr_dtype)call->inputs[0]->dtype) ||
           cr_fail_call(call, CR_ERROR_DTYPE, "takes floating tensors; cast the operand first");
}

/* Reductions of nothing that have no answer. */
static bool needs_elements(const cr_call *call, cr_dims dims) {
    if (call->inputs[0]->numel || reduced_count(cr_tensor_shape(call->inputs[0]), dims) > 0) return true;
    return cr_fail_call(call, CR_ERROR_SHAPE, "there is nothing to choose from: a reduced dim is empty");
}

/* ---------------------------------------------------------------- sum, mean, prod */
static bool infer_sum(cr_call *call) {
    const cr_sum_options *o = call->attributes;
    const cr_dtype own = (cr_dtype)call->inputs[0]->dtype;
    const cr_dtype dtype = o->dtype != CR_DTYPE_DEFAULT ? o->dtype : cr_dtype_is_floating(own) ? own : CR_I64;
    return infer_reduced(call, o->dims, o->keepdim, dtype);
}
static bool vjp_sum(cr_vjp *v) {
    return cr_vjp_set(v, 0, like_input(v, v->grads[0], ((const cr_sum_options *)v->attributes)->dims));
}
CR_OP(sum, .inputs = "input", CR_ROW_ATTRIBUTES(sum), .infer = infer_sum, .flops = cr_flops_each_input, .vjp = vjp_sum,
      .doc = "The sum over dims.")

static bool infer_mean(cr_call *call) {
    const cr_sum_options *o = call->attributes;
    const cr_dtype own = o->dtype != CR_DTYPE_DEFAULT ? o->dtype : (cr_dtype)call->inputs[0]->dtype;
    if (!cr_dtype_is_floating(own))
        return cr_fail_call(call, CR_ERROR_DTYPE, "a mean is floating; cast the operand, or give .dtype = CR_F32");
    return infer_reduced(call, o->dims, o->keepdim, own);
}
static bool decompose_mean(cr_call *call) {
    cr_sum_options o = *(const cr_sum_options *)call->attributes;
    const int64_t count = reduced_count(cr_tensor_shape(call->inputs[0]), o.dims);
    return (call->outputs[0] = cr_div_scalar(cr_sum_with(call->inputs[0], &o), (double)count)) != NULL;
}
static bool vjp_mean(cr_vjp *v) {
    const cr_dims dims = ((const cr_sum_options *)v->attributes)->dims;
    const double count = (double)reduced_count(v->input_specs[0].shape, dims);
    return cr_vjp_set(v, 0, like_input(v, cr_div_scalar(v->grads[0], count), dims));
}
CR_OP(mean, .inputs = "input", CR_ROW_ATTRIBUTES(sum), .infer = infer_mean, .flops = cr_flops_each_input,
      .decompose = decompose_mean, .vjp = vjp_mean, .doc = "The mean over dims.")

/* With zeros among the elements prod / x is no use: the product of all others, by products from both ends. */
static cr_tensor *product_of_others(cr_tensor *x, int dim) {
    const int64_t size = cr_size(x, dim);
    cr_tensor *one = cr_ones_like(cr_narrow(x, dim, 0, 1));
    cr_tensor *below[] = {one, cr_narrow(x, dim, 0, size - 1)}, *above[] = {cr_narrow(x, dim, 1, size - 1), one};
    cr_tensor *before = cr_cumprod(cr_cat(below, 2, dim), dim);
    cr_tensor *after = cr_flip(cr_cumprod(cr_flip(cr_cat(above, 2, dim), CR_DIMS(dim)), dim), CR_DIMS(dim));
    return cr_mul(before, after);
}
static bool vjp_prod(cr_vjp *v) {
    const cr_dims dims = ((const cr_sum_options *)v->attributes)->dims;
    cr_tensor *x = cr_cast(v->inputs[0], cr_dtype_of(v->grads[0]));
    const cr_shape shape = v->input_specs[0].shape;
    unsigned mask;
    if (!cr_reduced_dims(&dims, shape.count, &mask)) return false;
    if (!mask || cr_numel(x) == 0) return cr_vjp_set(v, 0, like_input(v, v->grads[0], dims));
    /* reduced dims to the end, as one */
    cr_dims order = {.count = 0};
    for (int i = 0; i < shape.count; i++)
        if (!(mask >> i & 1)) order.at[order.count++] = i;
    const int kept = order.count;
    for (int i = 0; i < shape.count; i++)
        if (mask >> i & 1) order.at[order.count++] = i;
    cr_dims back = {.count = shape.count};
    for (int i = 0; i < shape.count; i++)
        back.at[order.at[i]] = i;
    cr_tensor *rows = cr_permute(x, order);
    const cr_shape permuted = cr_shape_of(rows);
    cr_tensor *others = product_of_others(cr_flatten(rows, kept, -1), kept);
    return cr_vjp_set(v, 0, cr_mul(like_input(v, v->grads[0], dims), cr_permute(cr_reshape(others, permuted), back)));
}
CR_OP(prod, .inputs = "input", CR_ROW_ATTRIBUTES(sum), .infer = infer_sum, .flops = cr_flops_each_input,
      .vjp = vjp_prod, .saves = CR_SAVE_INPUT(0), .doc = "The product over dims.")

/* ---------------------------------------------------------------- amax, amin */
static bool infer_extreme(cr_call *call) {
    const cr_reduce_options *o = call->attributes;
    return infer_reduced(call, o->dims, o->keepdim, (cr_dtype)call->inputs[0]->dtype) && needs_elements(call, o->dims);
}
static bool vjp_extreme(cr_vjp *v) {
    const cr_dims dims = ((const cr_reduce_options *)v->attributes)->dims;
    cr_tensor *equal = cr_cast(cr_eq(v->inputs[0], restore_dims(v->outputs[0], v->input_specs[0].shape, dims)),
                               v->input_specs[0].dtype);
    cr_tensor *count = cr_sum(equal, .dims = dims, .keepdim = true);
    return cr_vjp_set(v, 0, cr_div(cr_mul(equal, restore_dims(v->grads[0], v->input_specs[0].shape, dims)), count));
}
CR_OP(amax, .inputs = "input", CR_ROW_ATTRIBUTES(reduce), .infer = infer_extreme, .flops = cr_flops_each_input,
      .vjp = vjp_extreme, .saves = CR_SAVE_INPUT(0) | CR_SAVE_OUTPUT(0), .doc = "The largest element over dims.")
CR_OP(amin, .inputs = "input", CR_ROW_ATTRIBUTES(reduce), .infer = infer_extreme, .flops = cr_flops_each_input,
      .vjp = vjp_extreme, .saves = CR_SAVE_INPUT(0) | CR_SAVE_OUTPUT(0), .doc = "The smallest element over dims.")

/* ---------------------------------------------------------------- any, all */
static bool infer_logical(cr_call *call) {
    const cr_reduce_options *o = call->attributes;
    return infer_reduced(call, o->dims, o->keepdim, CR_BOOL);
}
static bool decompose_any(cr_call *call) {
    const cr_reduce_options *o = call->attributes;
    cr_tensor *count = cr_sum(cr_ne_scalar(call->inputs[0], 0), .dims = o->dims, .keepdim = o->keepdim);
    return (call->outputs[0] = cr_gt_scalar(count, 0)) != NULL;
}
static bool decompose_all(cr_call *call) {
    const cr_reduce_options *o = call->attributes;
    cr_tensor *count = cr_sum(cr_eq_scalar(call->inputs[0], 0), .dims = o->dims, .keepdim = o->keepdim);
    return (call->outputs[0] = cr_eq_scalar(count, 0)) != NULL;
}
CR_OP(any, .inputs = "input", CR_ROW_ATTRIBUTES(reduce), .flags = CR_OP_NO_GRADIENT, .infer = infer_logical,
      .decompose = decompose_any, .doc = "Whether any element over dims is other than 0.")
CR_OP(all, .inputs = "input", CR_ROW_ATTRIBUTES(reduce), .flags = CR_OP_NO_GRADIENT, .infer = infer_logical,
      .decompose = decompose_all, .doc = "Whether all elements over dims are other than 0.")

/* ---------------------------------------------------------------- logsumexp, var, std, norm */
static bool infer_logsumexp(cr_call *call) {
    const cr_reduce_options *o = call->attributes;
    return needs_floating(call) && infer_reduced(call, o->dims, o->keepdim, (cr_dtype)call->inputs[0]->dtype) &&
           needs_elements(call, o->dims);
}
static bool decompose_logsumexp(cr_call *call) {
    const cr_reduce_options *o = call->attributes;
    cr_tensor *x = call->inputs[0], *top = cr_amax(x, .dims = o->dims, .keepdim = true);
    top = cr_where(cr_isinf(top), cr_zeros_like(top), top);
    cr_tensor *sum = cr_sum(cr_exp(cr_sub(x, top)), .dims = o->dims, .keepdim = true);
    cr_tensor *result = cr_add(cr_log(sum), top);
    return (call->outputs[0] = cr_reshape(result, call->specs[0].shape)) != NULL;
}
static bool vjp_logsumexp(cr_vjp *v) {
    const cr_dims dims = ((const cr_reduce_options *)v->attributes)->dims;
    const cr_shape full = v->input_specs[0].shape;
    cr_tensor *share = cr_exp(cr_sub(v->inputs[0], restore_dims(v->outputs[0], full, dims)));
    return cr_vjp_set(v, 0, cr_mul(share, restore_dims(v->grads[0], full, dims)));
}
CR_OP(logsumexp, .inputs = "input", CR_ROW_ATTRIBUTES(reduce), .infer = infer_logsumexp,
      .decompose = decompose_logsumexp, .vjp = vjp_logsumexp, .saves = CR_SAVE_INPUT(0) | CR_SAVE_OUTPUT(0),
      .doc = "log of the sum of exponentials over dims.")

static bool infer_var(cr_call *call) {
    const cr_var_options *o = call->attributes;
    return needs_floating(call) && infer_reduced(call, o->dims, o->keepdim, (cr_dtype)call->inputs[0]->dtype);
}
static bool decompose_var(cr_call *call) {
    const cr_var_options *o = call->attributes;
    cr_tensor *x = call->inputs[0], *centered = cr_sub(x, cr_mean(x, .dims = o->dims, .keepdim = true));
    const double divisor = (double)(reduced_count(cr_tensor_shape(x), o->dims) - o->correction);
    cr_tensor *squares = cr_sum(cr_square(centered), .dims = o->dims, .keepdim = o->keepdim);
    return (call->outputs[0] = cr_div_scalar(squares, divisor > 0 ? divisor : 0)) != NULL;
}
static bool vjp_var(cr_vjp *v) {
    const cr_var_options *o = v->attributes;
    cr_tensor *x = v->inputs[0], *centered = cr_sub(x, cr_mean(x, .dims = o->dims, .keepdim = true));
    const double divisor = (double)(reduced_count(v->input_specs[0].shape, o->dims) - o->correction);
    cr_tensor *scaled =
        cr_mul_scalar(restore_dims(v->grads[0], v->input_specs[0].shape, o->dims), 2 / (divisor > 0 ? divisor : 0));
    return cr_vjp_set(v, 0, cr_mul(centered, scaled));
}
CR_OP(var, .inputs = "input", CR_ROW_ATTRIBUTES(var), .infer = infer_var, .decompose = decompose_var, .vjp = vjp_var,
      .saves = CR_SAVE_INPUT(0), .doc = "The variance over dims.")

static bool infer_norm(cr_call *call) {
    const cr_norm_options *o = call->attributes;
    if (isinf(o->p) && !needs_elements(call, o->dims)) return false;
    return needs_floating(call) && infer_reduced(call, o->dims, o->keepdim, (cr_dtype)call->inputs[0]->dtype);
}
static bool decompose_norm(cr_call *call) {
    const cr_norm_options *o = call->attributes;
    cr_tensor *size = cr_abs(call->inputs[0]);
    if (o->p == INFINITY)
        size = cr_amax(size, .dims = o->dims, .keepdim = o->keepdim);
    else if (o->p == -INFINITY)
        size = cr_amin(size, .dims = o->dims, .keepdim = o->keepdim);
    else if (o->p == 0)
        size = cr_sum(cr_cast(cr_ne_scalar(size, 0), cr_dtype_of(size)), .dims = o->dims, .keepdim = o->keepdim);
    else if (o->p == 1)
        size = cr_sum(size, .dims = o->dims, .keepdim = o->keepdim);
    else if (o->p == 2)
        size = cr_sqrt(cr_sum(cr_square(size), .dims = o->dims, .keepdim = o->keepdim));
    else
        size = cr_pow_scalar(cr_sum(cr_pow_scalar(size, o->p), .dims = o->dims, .keepdim = o->keepdim), 1 / o->p);
    return (call->outputs[0] = size) != NULL;
}
/* x |x|^(p-2) / norm^(p-1), and 0 where the norm is 0. */
static bool vjp_norm(cr_vjp *v) {
    const cr_norm_options *o = v->attributes;
    const cr_shape full = v->input_specs[0].shape;
    cr_tensor *x = v->inputs[0], *norm = restore_dims(v->outputs[0], full, o->dims),
              *g = restore_dims(v->grads[0], full, o->dims);
    if (o->p == 0) return true;
    if (o->p == 1) return cr_vjp_set(v, 0, cr_mul(cr_sign(x), g));
    if (isinf(o->p)) {
        cr_tensor *equal = cr_cast(cr_eq(cr_abs(x), norm), v->input_specs[0].dtype);
        cr_tensor *share = cr_div(g, cr_sum(equal, .dims = o->dims, .keepdim = true));
        return cr_vjp_set(v, 0, cr_mul(cr_mul(cr_sign(x), equal), share));
    }
    cr_tensor *is_zero = cr_eq_scalar(norm, 0), *safe = cr_masked_fill(norm, is_zero, 1);
    cr_tensor *slope =
        o->p == 2 ? cr_div(x, safe) : cr_mul(cr_sign(x), cr_pow_scalar(cr_div(cr_abs(x), safe), o->p - 1));
    return cr_vjp_set(v, 0, cr_mul(cr_masked_fill(slope, is_zero, 0), g));
}
CR_OP(norm, .inputs = "input", CR_ROW_ATTRIBUTES(norm), .infer = infer_norm, .decompose = decompose_norm,
      .vjp = vjp_norm, .saves = CR_SAVE_INPUT(0) | CR_SAVE_OUTPUT(0), .doc = "The p-norm over dims.")

/* ---------------------------------------------------------------- argmax, argmin: one dim, or all (the flattened
 * tensor) */
#define ARG_ATTRIBUTES(A, op) A(op, INT, dim, 0) A(op, BOOL, keepdim, false)
CR_OPTIONS(arg, ARG_ATTRIBUTES)
CR_ATTRIBUTES(arg, ARG_ATTRIBUTES)

static bool infer_arg(cr_call *call) {
    const cr_arg_options *o = call->attributes;
    const cr_dims dims = CR_DIMS(o->dim);
    return infer_reduced(call, dims, o->keepdim, CR_I64) && needs_elements(call, dims);
}
CR_OP(argmax, .inputs = "input", CR_ROW_ATTRIBUTES(arg), .flags = CR_OP_NO_GRADIENT, .infer = infer_arg,
      .flops = cr_flops_each_input, .doc = "Where the largest element along a dim is.")
CR_OP(argmin, .inputs = "input", CR_ROW_ATTRIBUTES(arg), .flags = CR_OP_NO_GRADIENT, .infer = infer_arg,
      .flops = cr_flops_each_input, .doc = "Where the smallest element along a dim is.")

static cr_tensor *run_arg(cr_op *op, cr_tensor *x, int dim, bool keepdim) {
    if (!cr_tensor_check(x, op->name)) return NULL;
    if (dim != CR_ALL) {
        const cr_arg_options options = {sizeof options, dim, keepdim};
        return cr_run(op, &x, 1, &options);
    }
    const cr_arg_options options = {sizeof options, 0, false};
    cr_tensor *flat = cr_flatten(x, 0, -1), *result = flat ? cr_run(op, &flat, 1, &options) : NULL;
    cr_shape ones = {.count = keepdim ? x->ndim : 0};
    for (int i = 0; i < ones.count; i++)
        ones.at[i] = 1;
    return cr_reshape(result, ones);
}
cr_tensor *cr_argmax(cr_tensor *x, int dim, bool keepdim) { return run_arg(&cr_op_argmax, x, dim, keepdim); }
cr_tensor *cr_argmin(cr_tensor *x, int dim, bool keepdim) { return run_arg(&cr_op_argmin, x, dim, keepdim); }

/* The values are gathered where the indices say, which is also how gradients go back. */
static cr_tensor *run_extreme(cr_op *op, cr_tensor *x, int dim, bool keepdim, cr_tensor **indices) {
    if (indices) *indices = NULL;
    if (!cr_tensor_check(x, op->name)) return NULL;
    if (x->ndim == 0) {
        if (indices) *indices = run_arg(op, x, CR_ALL, false);
        return x;
    }
    cr_tensor *where = run_arg(op, x, dim, true), *values = cr_gather(x, dim, where);
    if (indices) *indices = keepdim ? where : cr_squeeze(where, CR_DIMS(dim));
    return keepdim ? values : cr_squeeze(values, CR_DIMS(dim));
}
cr_tensor *cr_max(cr_tensor *x, int dim, bool keepdim, cr_tensor **indices) {
    return run_extreme(&cr_op_argmax, x, dim, keepdim, indices);
}
cr_tensor *cr_min(cr_tensor *x, int dim, bool keepdim, cr_tensor **indices) {
    return run_extreme(&cr_op_argmin, x, dim, keepdim, indices);
}

/* ---------------------------------------------------------------- running sums and products */
#define SCAN_ATTRIBUTES(A, op) A(op, INT, dim, 0)
CR_OPTIONS(scan, SCAN_ATTRIBUTES)
CR_ATTRIBUTES(scan, SCAN_ATTRIBUTES)

static bool infer_scan(cr_call *call) {
    const cr_tensor *t = call->inputs[0];
    int dim;
    if (!cr_normalize_dim(((const cr_scan_options *)call->attributes)->dim, t->ndim, &dim)) return false;
    cr_spec_set(call, 0, cr_dtype_is_floating((cr_dtype)t->dtype) ? (cr_dtype)t->dtype : CR_I64, cr_tensor_shape(t));
    return true;
}
/* Sums from the far end. */
static cr_tensor *sum_backwards(cr_tensor *t, int dim) {
    if (cr_ndim(t) == 0) return t;
    const cr_dims dims = CR_DIMS(dim);
    return cr_flip(cr_cumsum(cr_flip(t, dims), dim), dims);
}
static bool vjp_cumsum(cr_vjp *v) {
    return cr_vjp_set(v, 0, sum_backwards(v->grads[0], (int)((const cr_scan_options *)v->attributes)->dim));
}
/* Σ_{j≥i} g_j y_j / x_i before the first 0 of a row; at it, the same with that 0 taken for a 1; behind it, nothing. */
static cr_tensor *long_cumprod_gradient(cr_tensor *x, cr_tensor *g, int dim) {
    cr_tensor *zeros = cr_eq_scalar(x, 0), *count = cr_cumsum(cr_cast(zeros, CR_I64), dim);
    cr_tensor *first = cr_logical_and(zeros, cr_eq_scalar(count, 1)), *one = cr_ones_like(x);
    cr_tensor *before = cr_div(sum_backwards(cr_mul(g, cr_cumprod(x, dim)), dim), cr_where(zeros, one, x));
    cr_tensor *at = sum_backwards(cr_mul(g, cr_cumprod(cr_where(first, one, x), dim)), dim);
    return cr_where(cr_eq_scalar(count, 0), before, cr_where(first, at, cr_zeros_like(x)));
}

/* By the product rule, element by element, so that it can be differentiated again wherever 0s stand; long rows by
 * division. */
static bool vjp_cumprod(cr_vjp *v) {
    const int dim = (int)((const cr_scan_options *)v->attributes)->dim;
    cr_tensor *x = v->inputs[0], *g = v->grads[0];
    if (cr_ndim(x) == 0) return cr_vjp_set(v, 0, g);
    const int64_t size = cr_size(x, dim);
    cr_tensor *parts[CR_MAX_INPUTS];
    if (size > CR_MAX_INPUTS) return cr_vjp_set(v, 0, long_cumprod_gradient(x, g, dim));
    for (int64_t i = 0; i < size; i++) { /* d y_j / d x_i for j >= i: the products with x_i left out */
        cr_tensor *head = i ? cr_prod(cr_narrow(x, dim, 0, i), .dims = CR_DIMS(dim), .keepdim = true)
                            : cr_ones_like(cr_narrow(x, dim, 0, 1));
        cr_tensor *tail[] = {cr_ones_like(cr_narrow(x, dim, 0, 1)), cr_narrow(x, dim, i + 1, size - i - 1)};
        cr_tensor *products = cr_mul(head, cr_cumprod(cr_cat(tail, 2, dim), dim));
        parts[i] = cr_sum(cr_mul(cr_narrow(g, dim, i, size - i), products), .dims = CR_DIMS(dim), .keepdim = true);
    }
    return cr_vjp_set(v, 0, size ? cr_cat(parts, (int)size, dim) : g);
}
CR_OP(cumsum, .inputs = "input", CR_ROW_ATTRIBUTES(scan), .infer = infer_scan, .flops = cr_flops_each_input,
      .vjp = vjp_cumsum, .doc = "Running sums along a dim.")
CR_OP(cumprod, .inputs = "input", CR_ROW_ATTRIBUTES(scan), .infer = infer_scan, .flops = cr_flops_each_input,
      .vjp = vjp_cumprod, .saves = CR_SAVE_INPUT(0), .doc = "Running products along a dim.")
cr_tensor *cr_cumsum(cr_tensor *x, int dim) {
    const cr_scan_options options = {sizeof options, dim};
    return CR_RUN(cumsum, &options, x);
}
cr_tensor *cr_cumprod(cr_tensor *x, int dim) {
    const cr_scan_options options = {sizeof options, dim};
    return CR_RUN(cumprod, &options, x);
}

/* ---------------------------------------------------------------- public functions */
#define REDUCTION(name, options_name)                                                                                  \
    cr_tensor *cr_##name##_with(cr_tensor *x, const cr_##options_name##_options *options) {                            \
        cr_##options_name##_options storage;                                                                           \
        return CR_RUN(name, cr_options_complete(&cr_op_##name, options, &storage), x);                                 \
    }
REDUCTION(sum, sum)
REDUCTION(mean, sum)
REDUCTION(prod, sum)
REDUCTION(amax, reduce)
REDUCTION(amin, reduce)
REDUCTION(any, reduce)
REDUCTION(all, reduce)
REDUCTION(logsumexp, reduce)
REDUCTION(var, var)
REDUCTION(norm, norm)
cr_tensor *cr_std_with(cr_tensor *x, const cr_var_options *options) { return cr_sqrt(cr_var_with(x, options)); }
