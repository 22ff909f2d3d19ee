/* Softmax, normalisations, dropout: rows, meanings, gradients. Kernels: ops/cpu/variants/normalization.c, softmax.c. */
#include "ops/op.h"

#include <math.h>

static bool needs_floating(const cr_call *call) {
    return cr_dtype_is_floating((cr_dtype)call->inputs[0]->dtype) ||
           cr_fail_call(call, CR_ERROR_DTYPE, "takes floating tensors; cast the operand first");
}

/* ---------------------------------------------------------------- softmax, log_softmax */
#define SOFTMAX_ATTRIBUTES(A, op) A(op, INT, dim, -1)
CR_OPTIONS(softmax, SOFTMAX_ATTRIBUTES)
CR_ATTRIBUTES(softmax, SOFTMAX_ATTRIBUTES)

static int softmax_dim(const void *attributes) { return (int)((const cr_softmax_options *)attributes)->dim; }

static bool infer_softmax(cr_call *call) {
    int dim;
    cr_spec_set(call, 0, (cr_dtype)call->inputs[0]->dtype, cr_tensor_shape(call->inputs[0]));
    return needs_floating(call) && cr_normalize_dim(softmax_dim(call->attributes), call->inputs[0]->ndim, &dim);
}
static cr_tensor *shifted(cr_tensor *x, int dim) {
    return cr_sub(x, cr_amax(x, .dims = CR_DIMS(dim), .keepdim = true));
}

static bool decompose_softmax(cr_call *call) {
    cr_tensor *x = call->inputs[0];
    if (x->numel == 0) return (call->outputs[0] = cr_clone(x)) != NULL;
    cr_tensor *powers = cr_exp(shifted(x, softmax_dim(call->attributes)));
    return (call->outputs[0] = cr_div(
                powers, cr_sum(powers, .dims = CR_DIMS(softmax_dim(call->attributes)), .keepdim = true))) != NULL;
}
static bool decompose_log_softmax(cr_call *call) {
    cr_tensor *x = call->inputs[0];
    if (x->numel == 0) return (call->outputs[0] = cr_clone(x)) != NULL;
    cr_tensor *down = shifted(x, softmax_dim(call->attributes));
    cr_tensor *sum = cr_sum(cr_exp(down), .dims = CR_DIMS(softmax_dim(call->attributes)), .keepdim = true);
    return (call->outputs[0] = cr_sub(down, cr_log(sum))) != NULL;
}
/* y (g - Σ g y), and g - e^y Σ g. */
static bool decompose_softmax_grad(cr_call *call) {
    cr_tensor *g = call->inputs[0], *y = call->inputs[1];
    cr_tensor *sum = cr_sum(cr_mul(g, y), .dims = CR_DIMS(softmax_dim(call->attributes)), .keepdim = true);
    return (call->outputs[0] = cr_mul(y, cr_sub(g, sum))) != NULL;
}
static bool decompose_log_softmax_grad(cr_call *call) {
    cr_tensor *g = call->inputs[0], *y = call->inputs[1];
    cr_tensor *sum = cr_sum(g, .dims = CR_DIMS(softmax_dim(call->attributes)), .keepdim = true);
    return (call->outputs[0] = cr_sub(g, cr_mul(cr_exp(y), sum))) != NULL;
}
/* Largest, difference, exponential, sum, quotient; and back: product, sum, difference, product. */
static double flops_softmax(const cr_call *call) { return 5 * cr_flops_each_input(call); }
static double flops_softmax_grad(const cr_call *call) { return 4 * cr_flops_each_input(call); }
#define SOFTMAX(row, ...) .inputs = row, CR_ROW_ATTRIBUTES(softmax), .infer = infer_softmax, __VA_ARGS__
CR_OP(softmax_grad, SOFTMAX("grad output", .decompose = decompose_softmax_grad, .flops = flops_softmax_grad,
                            .doc = "The gradient of softmax."))
CR_OP(log_softmax_grad, SOFTMAX("grad output", .decompose = decompose_log_softmax_grad, .flops = flops_softmax_grad,
                                .doc = "The gradient of log_softmax."))
static bool vjp_softmax(cr_vjp *v) {
    return cr_vjp_set(v, 0, CR_RUN(softmax_grad, v->attributes, v->grads[0], v->outputs[0]));
}
static bool vjp_log_softmax(cr_vjp *v) {
    return cr_vjp_set(v, 0, CR_RUN(log_softmax_grad, v->attributes, v->grads[0], v->outputs[0]));
}
CR_OP(softmax, SOFTMAX("input", .decompose = decompose_softmax, .flops = flops_softmax, .vjp = vjp_softmax,
                       .saves = CR_SAVE_OUTPUT(0), .doc = "Exponentials that sum to 1 along a dim."))
CR_OP(log_softmax, SOFTMAX("input", .decompose = decompose_log_softmax, .flops = flops_softmax, .vjp = vjp_log_softmax,
                           .saves = CR_SAVE_OUTPUT(0), .doc = "The logarithm of softmax."))

cr_tensor *cr_softmax(cr_tensor *x, int dim) {
    const cr_softmax_options options = {sizeof options, dim};
    return CR_RUN(softmax, &options, x);
}
cr_tensor *cr_log_softmax(cr_tensor *x, int dim) {
    const cr_softmax_options options = {sizeof options, dim};
    return CR_RUN(log_softmax, &options, x);
}

/* ---------------------------------------------------------------- layer_norm: the last dims, as rows */
#define LAYER_NORM_ATTRIBUTES(A, op) A(op, INT, dims, 1) A(op, FLOAT, eps, 1e-5)
CR_OPTIONS(layer_norm, LAYER_NORM_ATTRIBUTES)
CR_ATTRIBUTES(layer_norm, LAYER_NORM_ATTRIBUTES)

static cr_dims last_dims(int64_t count) {
    cr_dims dims = {.count = (int)count};
    for (int i = 0; i < dims.count; i++)
        dims.at[i] = i - count;
    return dims;
}
/* Statistics keep a size of 1 in the normalised dims. */
static cr_shape statistics_shape(const cr_tensor *x, int64_t dims) {
    cr_shape shape = cr_tensor_shape(x);
    for (int i = (int)(x->ndim - dims); i < x->ndim; i++)
        shape.at[i] = 1;
    return shape;
}
static cr_dtype statistics_dtype(const cr_tensor *x) { return x->dtype == CR_F64 ? CR_F64 : CR_F32; }

static bool infer_layer_norm(cr_call *call) {
    const cr_layer_norm_options *o = call->attributes;
    const cr_tensor *x = call->inputs[0];
    if (!needs_floating(call)) return false;
    if (o->dims < 1 || o->dims > x->ndim)
        return cr_fail_call(call, CR_ERROR_SHAPE, "normalises %lld dims", (long long)o->dims);
    for (int i = 1; i < call->input_count && i < 3; i++) {
        const cr_tensor *t = call->inputs[i];
        if (!t) continue;
        bool fits = t->ndim == o->dims && t->dtype == x->dtype;
        for (int d = 0; fits && d < o->dims; d++)
            fits = t->sizes[d] == x->sizes[x->ndim - o->dims + d];
        if (!fits)
            return cr_fail_call(call, CR_ERROR_SHAPE,
                                "weight and bias have the shape of the last %lld dims and the input's dtype",
                                (long long)o->dims);
    }
    cr_spec_set(call, 0, (cr_dtype)x->dtype, cr_tensor_shape(x));
    cr_spec_set(call, 1, statistics_dtype(x), statistics_shape(x, o->dims));
    cr_spec_set(call, 2, statistics_dtype(x), statistics_shape(x, o->dims));
    return true;
}
static bool decompose_layer_norm(cr_call *call) {
    const cr_layer_norm_options *o = call->attributes;
    const cr_dtype dtype = (cr_dtype)call->inputs[0]->dtype;
    cr_tensor *x = cr_cast(call->inputs[0], statistics_dtype(call->inputs[0])), *weight = call->inputs[1],
              *bias = call->inputs[2];
    cr_tensor *mean = cr_mean(x, .dims = last_dims(o->dims), .keepdim = true), *centered = cr_sub(x, mean);
    cr_tensor *scale =
        cr_rsqrt(cr_add_scalar(cr_mean(cr_square(centered), .dims = last_dims(o->dims), .keepdim = true), o->eps));
    cr_tensor *y = cr_mul(centered, scale);
    if (weight) y = cr_mul(y, weight);
    if (bias) y = cr_add(y, bias);
    call->outputs[0] = cr_cast(y, dtype);
    call->outputs[1] = mean;
    call->outputs[2] = scale;
    return call->outputs[0] != NULL;
}

/* With n = (x - mean) · scale and h = g · weight: d x = scale (h - mean(h) - n mean(h n)); d weight = Σ g n; d bias = Σ
 * g. */
static bool infer_layer_norm_grad(cr_call *call) {
    const cr_layer_norm_options *o = call->attributes;
    const cr_tensor *x = call->inputs[1];
    cr_shape shape = {.count = (int)o->dims};
    for (int d = 0; d < o->dims; d++)
        shape.at[d] = x->sizes[x->ndim - o->dims + d];
    cr_spec_set(call, 0, (cr_dtype)x->dtype, cr_tensor_shape(x));
    cr_spec_set(call, 1, (cr_dtype)x->dtype, shape);
    cr_spec_set(call, 2, (cr_dtype)x->dtype, shape);
    return true;
}
static cr_tensor *sum_rows(cr_tensor *t, int64_t dims) {
    cr_dims outer = {.count = cr_ndim(t) - (int)dims};
    for (int i = 0; i < outer.count; i++)
        outer.at[i] = i;
    return outer.count > 0 ? cr_sum(t, .dims = outer) : t;
}
static bool decompose_layer_norm_grad(cr_call *call) {
    const cr_layer_norm_options *o = call->attributes;
    cr_tensor *g = call->inputs[0], *x = call->inputs[1], *weight = call->inputs[2], *mean = call->inputs[3],
              *scale = call->inputs[4];
    const cr_dtype dtype = cr_dtype_of(x);
    const cr_dims dims = last_dims(o->dims);
    g = cr_cast(g, statistics_dtype(x));
    cr_tensor *n = cr_mul(cr_sub(x, mean), scale), *h = weight ? cr_mul(g, weight) : g;
    cr_tensor *mean_h = cr_mean(h, .dims = dims, .keepdim = true),
              *mean_hn = cr_mean(cr_mul(h, n), .dims = dims, .keepdim = true);
    call->outputs[0] = cr_cast(cr_mul(scale, cr_sub(cr_sub(h, mean_h), cr_mul(n, mean_hn))), dtype);
    call->outputs[1] = cr_cast(sum_rows(cr_mul(g, n), o->dims), dtype);
    call->outputs[2] = cr_cast(sum_rows(g, o->dims), dtype);
    return call->outputs[0] && call->outputs[1] && call->outputs[2];
}
/* Statistics are functions of x: where gradients of gradients are wanted they are made again as such. */
static bool with_statistics(cr_vjp *v, cr_tensor **mean, cr_tensor **scale) {
    const cr_layer_norm_options *o = v->attributes;
    cr_tensor *x = v->inputs[0];
    *mean = v->outputs[1];
    *scale = v->outputs[2];
    if (!cr_tensor_check(*mean, "layer_norm") || !x->requires_grad) return true;
    cr_tensor *wide = cr_cast(x, statistics_dtype(x));
    *mean = cr_mean(wide, .dims = last_dims(o->dims), .keepdim = true);
    *scale = cr_rsqrt(
        cr_add_scalar(cr_mean(cr_square(cr_sub(wide, *mean)), .dims = last_dims(o->dims), .keepdim = true), o->eps));
    return *scale != NULL;
}
/* Mean 1, variance 3, (x - mean) scale 2, weight and bias 2; and back: x̂ 2, three sums 4, the input's gradient 5,
 * weight's and bias's 1. Normalising by given statistics is one factor and one summand for each channel. */
static double flops_norm(const cr_call *call) { return 8 * cr_flops_each_input(call); }
static double flops_norm_grad(const cr_call *call) { return 12 * cr_flops_each_input(call); }
CR_OP(layer_norm_grad, .inputs = "grad input weight? mean scale", .outputs = "grad_input grad_weight grad_bias",
      CR_ROW_ATTRIBUTES(layer_norm), .infer = infer_layer_norm_grad, .decompose = decompose_layer_norm_grad,
      .flops = flops_norm_grad, .doc = "The gradients of layer_norm.")
static bool vjp_layer_norm(cr_vjp *v) {
    cr_tensor *mean, *scale, *results[3];
    if (!with_statistics(v, &mean, &scale)) return false;
    cr_tensor *const inputs[] = {v->grads[0], v->inputs[0], v->input_count > 1 ? v->inputs[1] : NULL, mean, scale};
    if (!cr_run_all(&cr_op_layer_norm_grad, inputs, 5, v->attributes, results, 3)) return false;
    for (int i = 0; i < 3 && i < v->input_count; i++)
        v->results[i] = v->needs[i] ? results[i] : NULL;
    return true;
}
CR_OP(layer_norm, .inputs = "input weight? bias?", .outputs = "output mean scale", .constant_outputs = 2 | 4,
      CR_ROW_ATTRIBUTES(layer_norm), .infer = infer_layer_norm, .decompose = decompose_layer_norm, .flops = flops_norm,
      .vjp = vjp_layer_norm, .saves = CR_SAVE_INPUT(0) | CR_SAVE_INPUT(1) | CR_SAVE_OUTPUT(1) | CR_SAVE_OUTPUT(2),
      .doc = "Each row of the last dims to mean 0 and variance 1, then scaled and shifted.")

/* The last dims of x must be `shape`. */
static bool check_normalized(const cr_tensor *x, cr_shape shape, const char *name) {
    if (!cr_tensor_check(x, name)) return false;
    bool fits = shape.count >= 1 && shape.count <= x->ndim;
    for (int i = 0; fits && i < shape.count; i++)
        fits = shape.at[i] == x->sizes[x->ndim - shape.count + i];
    char text[192], tensor[224];
    return fits || cr_fail(CR_ERROR_SHAPE, "%s: the last dims of %s are not %s", name, cr_describe(x, tensor),
                           cr_shape_format(shape, text));
}
cr_tensor *cr_layer_norm(cr_tensor *x, cr_shape normalized_shape, cr_tensor *weight, cr_tensor *bias, double eps) {
    const cr_layer_norm_options options = {sizeof options, normalized_shape.count, eps};
    return check_normalized(x, normalized_shape, "layer_norm") ? CR_RUN(layer_norm, &options, x, weight, bias) : NULL;
}
cr_tensor *cr_rms_norm(cr_tensor *x, cr_shape normalized_shape, cr_tensor *weight, double eps) {
    if (!check_normalized(x, normalized_shape, "rms_norm")) return NULL;
    cr_tensor *square = cr_mean(cr_square(x), .dims = last_dims(normalized_shape.count), .keepdim = true);
    cr_tensor *y = cr_mul(x, cr_rsqrt(cr_add_scalar(square, eps)));
    return weight ? cr_mul(y, weight) : y;
}

/* ---------------------------------------------------------------- batch_norm */
#define BATCH_NORM_ATTRIBUTES(A, op) A(op, BOOL, training, false) A(op, FLOAT, momentum, 0.1) A(op, FLOAT, eps, 1e-5)
CR_OPTIONS(batch_norm, BATCH_NORM_ATTRIBUTES)
CR_ATTRIBUTES(batch_norm, BATCH_NORM_ATTRIBUTES)

static bool infer_batch_norm(cr_call *call) {
    const cr_batch_norm_options *o = call->attributes;
    const cr_tensor *x = call->inputs[0];
    if (!needs_floating(call)) return false;
    if (x->ndim < 2) return cr_fail_call(call, CR_ERROR_SHAPE, "takes [N, C, …]");
    for (int i = 1; i < 5; i++)
        if (call->inputs[i] && (call->inputs[i]->ndim != 1 || call->inputs[i]->sizes[0] != x->sizes[1]))
            return cr_fail_call(call, CR_ERROR_SHAPE, "weight, bias and running statistics are [C], and C is %lld",
                                (long long)x->sizes[1]);
    if (!o->training && (!call->inputs[3] || !call->inputs[4]))
        return cr_fail(CR_ERROR_ARGUMENT, "needs running statistics where it is not training");
    if (o->training && x->numel && x->numel / x->sizes[1] == 1)
        return cr_fail_call(call, CR_ERROR_SHAPE, "training needs more than one value per channel");
    cr_spec_set(call, 0, (cr_dtype)x->dtype, cr_tensor_shape(x));
    call->specs[0].channels_last = cr_is_channels_last(x) && !cr_is_contiguous(x);
    cr_spec_set(call, 1, statistics_dtype(x), CR_SHAPE(x->sizes[1]));
    cr_spec_set(call, 2, statistics_dtype(x), CR_SHAPE(x->sizes[1]));
    return true;
}

/* [C] so that it broadcasts with x. */
static cr_tensor *per_channel(cr_tensor *t, const cr_tensor *x) {
    cr_shape shape = {.count = x->ndim};
    for (int i = 0; i < x->ndim; i++)
        shape.at[i] = i == 1 ? x->sizes[1] : 1;
    return cr_reshape(t, shape);
}
static cr_dims all_but_channels(const cr_tensor *x) {
    cr_dims dims = {.count = 0};
    for (int i = 0; i < x->ndim; i++)
        if (i != 1) dims.at[dims.count++] = i;
    return dims;
}
static bool batch_statistics(cr_tensor *x, double eps, cr_tensor **mean, cr_tensor **scale, cr_tensor **variance) {
    *mean = cr_mean(x, .dims = all_but_channels(x));
    *variance = cr_mean(cr_square(cr_sub(x, per_channel(*mean, x))), .dims = all_but_channels(x));
    *scale = cr_rsqrt(cr_add_scalar(*variance, eps));
    return *scale != NULL;
}

static bool decompose_batch_norm(cr_call *call) {
    const cr_batch_norm_options *o = call->attributes;
    const cr_dtype dtype = (cr_dtype)call->inputs[0]->dtype;
    cr_tensor *x = cr_cast(call->inputs[0], statistics_dtype(call->inputs[0])), *weight = call->inputs[1],
              *bias = call->inputs[2];
    cr_tensor *running_mean = call->inputs[3], *running_var = call->inputs[4], *mean, *scale, *variance;
    if (!x) return false;
    if (o->training) {
        if (!batch_statistics(x, o->eps, &mean, &scale, &variance)) return false;
        const int64_t each = x->numel / (x->sizes[1] ? x->sizes[1] : 1); /* elements of a channel */
        const double count = (double)each;
        if (running_mean) cr_add_(cr_mul_scalar_(running_mean, 1 - o->momentum), cr_mul_scalar(mean, o->momentum));
        if (running_var)
            cr_add_(cr_mul_scalar_(running_var, 1 - o->momentum),
                    cr_mul_scalar(variance, o->momentum * count / (count - 1)));
    } else {
        mean = cr_clone(cr_cast(running_mean, (cr_dtype)x->dtype));
        scale = cr_rsqrt(cr_add_scalar(cr_cast(running_var, (cr_dtype)x->dtype), o->eps));
    }
    cr_tensor *y = cr_mul(cr_sub(x, per_channel(mean, x)), per_channel(scale, x));
    if (weight) y = cr_mul(y, per_channel(weight, x));
    if (bias) y = cr_add(y, per_channel(bias, x));
    call->outputs[0] = cr_cast(y, dtype);
    call->outputs[1] = mean;
    call->outputs[2] = scale;
    return call->outputs[0] && mean && scale;
}

static bool infer_batch_norm_grad(cr_call *call) {
    const cr_tensor *x = call->inputs[1];
    cr_spec_set(call, 0, (cr_dtype)x->dtype, cr_tensor_shape(x));
    call->specs[0].channels_last = cr_is_channels_last(x) && !cr_is_contiguous(x);
    cr_spec_set(call, 1, statistics_dtype(x), CR_SHAPE(x->sizes[1]));
    cr_spec_set(call, 2, statistics_dtype(x), CR_SHAPE(x->sizes[1]));
    return true;
}
static bool decompose_batch_norm_grad(cr_call *call) {
    const cr_batch_norm_options *o = call->attributes;
    cr_tensor *g = call->inputs[0], *x = call->inputs[1], *weight = call->inputs[2], *mean = call->inputs[3],
              *scale = call->inputs[4];
    const cr_dtype dtype = cr_dtype_of(x);
    g = cr_cast(g, statistics_dtype(x));
    cr_tensor *n = cr_mul(cr_sub(x, per_channel(mean, x)), per_channel(scale, x));
    cr_tensor *grad_bias = cr_sum(g, .dims = all_but_channels(x)),
              *grad_weight = cr_sum(cr_mul(g, n), .dims = all_but_channels(x));
    cr_tensor *inner = g;
    if (o->training) {
        const int64_t each = x->numel / (x->sizes[1] ? x->sizes[1] : 1); /* elements of a channel */
        const double count = (double)each;
        cr_tensor *pull = cr_add(per_channel(grad_bias, x), cr_mul(n, per_channel(grad_weight, x)));
        inner = cr_sub(g, cr_div_scalar(pull, count));
    }
    cr_tensor *factor = weight ? cr_mul(scale, weight) : scale;
    call->outputs[0] = cr_cast(cr_mul(inner, per_channel(factor, x)), dtype);
    call->outputs[1] = grad_weight;
    call->outputs[2] = grad_bias;
    return call->outputs[0] && grad_weight && grad_bias;
}
CR_OP(batch_norm_grad, .inputs = "grad input weight? mean scale", .outputs = "grad_input grad_weight grad_bias",
      CR_ROW_ATTRIBUTES(batch_norm), .infer = infer_batch_norm_grad, .decompose = decompose_batch_norm_grad,
      .flops = flops_norm_grad, .doc = "The gradients of batch_norm.")
static bool vjp_batch_norm(cr_vjp *v) {
    const cr_batch_norm_options *o = v->attributes;
    cr_tensor *x = v->inputs[0], *mean = v->outputs[1], *scale = v->outputs[2], *variance, *results[3];
    if (o->training && x && x->requires_grad &&
        !batch_statistics(cr_cast(x, statistics_dtype(x)), o->eps, &mean, &scale, &variance))
        return false;
    cr_tensor *const inputs[] = {v->grads[0], x, v->inputs[1], mean, scale};
    if (!cr_run_all(&cr_op_batch_norm_grad, inputs, 5, v->attributes, results, 3)) return false;
    for (int i = 0; i < 3; i++)
        v->results[i] = v->needs[i] ? results[i] : NULL;
    return true;
}
static double flops_batch_norm(const cr_call *call) {
    return ((const cr_batch_norm_options *)call->attributes)->training ? flops_norm(call)
                                                                       : 2 * cr_flops_each_input(call);
}
CR_OP(batch_norm, .inputs = "input weight? bias? running_mean? running_var?", .outputs = "output mean scale",
      CR_ROW_ATTRIBUTES(batch_norm), .mutates = 8 | 16, .mutates_where = offsetof(cr_batch_norm_options, training),
      .constant_outputs = 2 | 4, .infer = infer_batch_norm, .decompose = decompose_batch_norm,
      .flops = flops_batch_norm, .vjp = vjp_batch_norm,
      .saves = CR_SAVE_INPUT(0) | CR_SAVE_INPUT(1) | CR_SAVE_OUTPUT(1) | CR_SAVE_OUTPUT(2),
      .doc = "Each channel to mean 0 and variance 1, then scaled and shifted; training moves the running statistics in "
             "place.")

cr_tensor *cr_batch_norm(cr_tensor *x, cr_tensor *weight, cr_tensor *bias, cr_tensor *running_mean,
                         cr_tensor *running_var, bool training, double momentum, double eps) {
    const cr_batch_norm_options options = {sizeof options, training, momentum, eps};
    return CR_RUN(batch_norm, &options, x, weight, bias, running_mean, running_var);
}

/* ---------------------------------------------------------------- group_norm: over groups of channels */
#define GROUP_NORM_ATTRIBUTES(A, op) A(op, INT, groups, 1) A(op, FLOAT, eps, 1e-5)
CR_OPTIONS(group_norm, GROUP_NORM_ATTRIBUTES)
CR_ATTRIBUTES(group_norm, GROUP_NORM_ATTRIBUTES)

static int64_t groups_of(const void *attributes) { return ((const cr_group_norm_options *)attributes)->groups; }
/* [N, C, …] as [N, groups, elements of a group], statistics as [N, groups, 1]. */
static cr_tensor *by_groups(cr_tensor *x, int64_t groups) {
    return cr_reshape(x,
                      CR_SHAPE(x->sizes[0], groups, x->numel / (x->sizes[0] * groups > 0 ? x->sizes[0] * groups : 1)));
}
static bool group_statistics(cr_tensor *rows, double eps, cr_tensor **mean, cr_tensor **scale) {
    *mean = cr_mean(rows, .dims = CR_DIMS(-1), .keepdim = true);
    *scale =
        cr_rsqrt(cr_add_scalar(cr_mean(cr_square(cr_sub(rows, *mean)), .dims = CR_DIMS(-1), .keepdim = true), eps));
    return *scale != NULL;
}

static bool infer_group_norm(cr_call *call) {
    const cr_tensor *x = call->inputs[0];
    const int64_t groups = groups_of(call->attributes);
    if (!needs_floating(call)) return false;
    if (x->ndim < 2 || groups < 1 || x->sizes[1] % groups)
        return cr_fail_call(call, CR_ERROR_SHAPE, "takes [N, C, …] with C a multiple of %lld groups",
                            (long long)groups);
    for (int i = 1; i < call->input_count; i++) {
        const cr_tensor *t = call->inputs[i];
        if (t && (t->ndim != 1 || t->sizes[0] != x->sizes[1] || t->dtype != x->dtype))
            return cr_fail_call(call, CR_ERROR_SHAPE, "weight and bias are [C] of the input's dtype, and C is %lld",
                                (long long)x->sizes[1]);
    }
    cr_spec_set(call, 0, (cr_dtype)x->dtype, cr_tensor_shape(x));
    cr_spec_set(call, 1, statistics_dtype(x), CR_SHAPE(x->sizes[0], groups, 1));
    cr_spec_set(call, 2, statistics_dtype(x), CR_SHAPE(x->sizes[0], groups, 1));
    return true;
}
static bool decompose_group_norm(cr_call *call) {
    const cr_group_norm_options *o = call->attributes;
    cr_tensor *x = call->inputs[0], *rows = by_groups(cr_cast(x, statistics_dtype(x)), o->groups), *mean, *scale;
    if (!rows || !group_statistics(rows, o->eps, &mean, &scale)) return false;
    cr_tensor *y = cr_reshape(cr_mul(cr_sub(rows, mean), scale), cr_tensor_shape(x));
    if (call->inputs[1]) y = cr_mul(y, per_channel(call->inputs[1], x));
    if (call->inputs[2]) y = cr_add(y, per_channel(call->inputs[2], x));
    call->outputs[0] = cr_cast(y, cr_dtype_of(x));
    call->outputs[1] = mean;
    call->outputs[2] = scale;
    return call->outputs[0] != NULL;
}

/* With n = (x - mean) · scale and h = g · weight: d x = scale (h - mean(h) - n mean(h n)) over each group. */
static bool infer_group_norm_grad(cr_call *call) {
    const cr_tensor *x = call->inputs[1];
    cr_spec_set(call, 0, (cr_dtype)x->dtype, cr_tensor_shape(x));
    cr_spec_set(call, 1, (cr_dtype)x->dtype, CR_SHAPE(x->sizes[1]));
    cr_spec_set(call, 2, (cr_dtype)x->dtype, CR_SHAPE(x->sizes[1]));
    return true;
}
static bool decompose_group_norm_grad(cr_call *call) {
    const int64_t groups = groups_of(call->attributes);
    cr_tensor *x = call->inputs[1], *weight = call->inputs[2], *mean = call->inputs[3], *scale = call->inputs[4];
    const cr_dtype dtype = cr_dtype_of(x), wide = statistics_dtype(x);
    const cr_dims last = CR_DIMS(-1);
    cr_tensor *g = cr_cast(call->inputs[0], wide),
              *n = cr_mul(cr_sub(by_groups(cr_cast(x, wide), groups), mean), scale);
    cr_tensor *h = by_groups(weight && g ? cr_mul(g, per_channel(weight, x)) : g, groups);
    cr_tensor *pull = cr_add(cr_mean(h, .dims = last, .keepdim = true),
                             cr_mul(n, cr_mean(cr_mul(h, n), .dims = last, .keepdim = true)));
    call->outputs[0] = cr_cast(cr_reshape(cr_mul(scale, cr_sub(h, pull)), cr_tensor_shape(x)), dtype);
    call->outputs[1] =
        cr_cast(cr_sum(cr_mul(g, cr_reshape(n, cr_tensor_shape(x))), .dims = all_but_channels(x)), dtype);
    call->outputs[2] = cr_cast(cr_sum(g, .dims = all_but_channels(x)), dtype);
    return call->outputs[0] && call->outputs[1] && call->outputs[2];
}
CR_OP(group_norm_grad, .inputs = "grad input weight? mean scale", .outputs = "grad_input grad_weight grad_bias",
      CR_ROW_ATTRIBUTES(group_norm), .infer = infer_group_norm_grad, .decompose = decompose_group_norm_grad,
      .flops = flops_norm_grad, .doc = "The gradients of group_norm.")
static bool vjp_group_norm(cr_vjp *v) {
    const cr_group_norm_options *o = v->attributes;
    cr_tensor *x = v->inputs[0], *mean = v->outputs[1], *scale = v->outputs[2], *results[3];
    if (x && x->requires_grad &&
        !group_statistics(by_groups(cr_cast(x, statistics_dtype(x)), o->groups), o->eps, &mean, &scale))
        return false;
    cr_tensor *const inputs[] = {v->grads[0], x, v->input_count > 1 ? v->inputs[1] : NULL, mean, scale};
    if (!cr_run_all(&cr_op_group_norm_grad, inputs, 5, o, results, 3)) return false;
    for (int i = 0; i < 3 && i < v->input_count; i++)
        v->results[i] = v->needs[i] ? results[i] : NULL;
    return true;
}
CR_OP(group_norm, .inputs = "input weight? bias?", .outputs = "output mean scale", .constant_outputs = 2 | 4,
      CR_ROW_ATTRIBUTES(group_norm), .infer = infer_group_norm, .decompose = decompose_group_norm, .flops = flops_norm,
      .vjp = vjp_group_norm, .saves = CR_SAVE_INPUT(0) | CR_SAVE_INPUT(1) | CR_SAVE_OUTPUT(1) | CR_SAVE_OUTPUT(2),
      .doc = "Each group of channels of each sample to mean 0 and variance 1, then scaled and shifted.")
cr_tensor *cr_group_norm(cr_tensor *x, int64_t groups, cr_tensor *weight, cr_tensor *bias, double eps) {
    const cr_group_norm_options options = {sizeof options, groups, eps};
    return CR_RUN(group_norm, &options, x, weight, bias);
}
cr_tensor *cr_instance_norm(cr_tensor *x, cr_tensor *weight, cr_tensor *bias, double eps) {
    return cr_group_norm(x, x && x->ndim > 1 ? x->sizes[1] : 1, weight, bias, eps);
}

/* ---------------------------------------------------------------- dropout */
#define DROPOUT_ATTRIBUTES(A, op) A(op, FLOAT, p, 0.5) A(op, GENERATOR, generator, NULL)
CR_OPTIONS(dropout, DROPOUT_ATTRIBUTES)
CR_ATTRIBUTES(dropout, DROPOUT_ATTRIBUTES)

static bool infer_dropout(cr_call *call) {
    const double p = ((const cr_dropout_options *)call->attributes)->p;
    if (!(p >= 0 && p <= 1)) return cr_fail(CR_ERROR_ARGUMENT, "a probability of %g; it lies in 0 … 1", p);
    cr_spec_set(call, 0, (cr_dtype)call->inputs[0]->dtype, cr_tensor_shape(call->inputs[0]));
    cr_spec_set(call, 1, CR_BOOL, cr_tensor_shape(call->inputs[0]));
    return needs_floating(call);
}
static double kept_scale(const void *attributes) {
    const double p = ((const cr_dropout_options *)attributes)->p;
    return p < 1 ? 1 / (1 - p) : 0;
}
static bool vjp_dropout(cr_vjp *v) {
    return cr_vjp_set(v, 0, cr_mul(cr_mul_scalar(v->grads[0], kept_scale(v->attributes)), v->outputs[1]));
}
static double flops_dropout(const cr_call *call) { return 2 * cr_flops_each_input(call); }
CR_OP(dropout, .inputs = "input", .outputs = "output kept", CR_ROW_ATTRIBUTES(dropout), .flags = CR_OP_RANDOM,
      .infer = infer_dropout, .flops = flops_dropout, .vjp = vjp_dropout, .saves = CR_SAVE_OUTPUT(1),
      .doc = "Each element zeroed with probability p, the others scaled to keep the mean.")

cr_tensor *cr_dropout(cr_tensor *x, double p, bool training) {
    const cr_dropout_options options = {sizeof options, p, NULL};
    if (!cr_tensor_check(x, "dropout")) return NULL;
    return training && p != 0 ? CR_RUN(dropout, &options, x) : x;
}
cr_tensor *cr_dropout2d(cr_tensor *x, double p, bool training) {
    if (!cr_tensor_check(x, "dropout2d")) return NULL;
    if (!training || p == 0) return x;
    cr_shape shape = cr_tensor_shape(x);
    for (int i = 2; i < shape.count; i++)
        shape.at[i] = 1;
    return cr_mul(x, cr_dropout(cr_ones((cr_dtype)x->dtype, shape, x->device), p, true));
}
