/* matmul and linear: rows, gradients; the named products. */
#include "ops/op.h"

#include <string.h>

/* ---------------------------------------------------------------- matmul: at least two dims on both sides */
static bool infer_matmul(cr_call *call) {
    const cr_tensor *a = call->inputs[0], *b = call->inputs[1];
    cr_shape batch_a = cr_tensor_shape(a), batch_b = cr_tensor_shape(b), shape;
    if (a->ndim < 2 || b->ndim < 2)
        return cr_fail_call(call, CR_ERROR_SHAPE, "operands need at least 2 dims here; cr_matmul takes vectors too");
    if (a->sizes[a->ndim - 1] != b->sizes[b->ndim - 2])
        return cr_fail_call(call, CR_ERROR_SHAPE,
                            "inner sizes differ: a's last size %lld must equal b's second to last %lld",
                            (long long)a->sizes[a->ndim - 1], (long long)b->sizes[b->ndim - 2]);
    const cr_dtype dtype = cr_dtype_promote((cr_dtype)a->dtype, (cr_dtype)b->dtype);
    if (dtype == CR_BOOL) return cr_fail_call(call, CR_ERROR_DTYPE, "does not take bool; cast the operands");
    batch_a.count -= 2;
    batch_b.count -= 2;
    if (!cr_shape_broadcast(batch_a, batch_b, &shape)) return false;
    shape.at[shape.count++] = a->sizes[a->ndim - 2];
    shape.at[shape.count++] = b->sizes[b->ndim - 1];
    cr_spec_set(call, 0, dtype, shape);
    return true;
}
static bool vjp_matmul(cr_vjp *v) {
    cr_tensor *a = v->inputs[0], *b = v->inputs[1], *g = v->grads[0];
    if (v->needs[0] && !cr_vjp_set(v, 0, cr_matmul(g, cr_transpose(b, -1, -2)))) return false;
    return !v->needs[1] || cr_vjp_set(v, 1, cr_matmul(cr_transpose(a, -1, -2), g));
}
CR_OP(matmul, .inputs = "a b", .infer = infer_matmul, .vjp = vjp_matmul, .saves = CR_SAVE_INPUT(0) | CR_SAVE_INPUT(1),
      .flops = cr_flops_product, .doc = "The product of two (batches of) matrices.")

cr_tensor *cr_matmul(cr_tensor *a, cr_tensor *b) {
    if (!a || !b || !cr_tensor_check(a, "matmul") || !cr_tensor_check(b, "matmul")) return CR_RUN(matmul, NULL, a, b);
    if (a->ndim == 0 || b->ndim == 0) {
        cr_record_error(CR_ERROR_SHAPE, "matmul: takes operands of at least one dim; multiply by a number with cr_mul");
        return NULL;
    }
    cr_tensor *left = a->ndim == 1 ? cr_unsqueeze(a, 0) : a, *right = b->ndim == 1 ? cr_unsqueeze(b, 1) : b;
    /* [*, m, k] · [k, n] as one matrix */
    if (left && right && a->ndim > 2 && right->ndim == 2 && cr_is_contiguous(a)) {
        cr_shape shape = cr_tensor_shape(a);
        cr_tensor *flat = CR_RUN(matmul, NULL, cr_flatten(a, 0, -2), right);
        shape.at[shape.count - 1] = right->sizes[1];
        if (b->ndim == 1) shape.count--;
        return cr_reshape(flat, shape);
    }
    cr_tensor *product = CR_RUN(matmul, NULL, left, right);
    if (b->ndim == 1) product = cr_squeeze(product, CR_DIMS(-1));
    if (a->ndim == 1) product = cr_squeeze(product, CR_DIMS(b->ndim == 1 ? -1 : -2));
    return product;
}

/* ---------------------------------------------------------------- linear */
static bool set_linear(cr_call *call) {
    const cr_tensor *x = call->inputs[0], *weight = call->inputs[1], *bias = call->inputs[2];
    if (weight->ndim != 2 || x->ndim < 1 || x->sizes[x->ndim - 1] != weight->sizes[1])
        return cr_fail_call(call, CR_ERROR_SHAPE, "the input is [*, in] and the weight [out, in]");
    if (bias && (bias->ndim != 1 || bias->sizes[0] != weight->sizes[0]))
        return cr_fail_call(call, CR_ERROR_SHAPE, "the bias is [out]");
    cr_shape shape = cr_tensor_shape(x);
    shape.at[shape.count - 1] = weight->sizes[0];
    cr_spec_set(call, 0, (cr_dtype)x->dtype, shape);
    return true;
}
static bool infer_linear(cr_call *call) {
    const cr_tensor *x = call->inputs[0], *weight = call->inputs[1], *bias = call->inputs[2];
    if (!set_linear(call)) return false;
    return (x->dtype == weight->dtype && (!bias || bias->dtype == x->dtype) &&
            cr_dtype_is_floating((cr_dtype)x->dtype)) ||
           cr_fail_call(call, CR_ERROR_DTYPE, "input, weight and bias have one floating dtype");
}
static bool decompose_linear(cr_call *call) {
    cr_tensor *product = cr_matmul(call->inputs[0], cr_transpose(call->inputs[1], 0, 1));
    return (call->outputs[0] = call->inputs[2] ? cr_add(product, call->inputs[2]) : product) != NULL;
}
static bool vjp_linear(cr_vjp *v) {
    cr_tensor *g = v->grads[0];
    if (v->needs[0] && !cr_vjp_set(v, 0, cr_matmul(g, v->inputs[1]))) return false;
    const int last = cr_ndim(g) - 1;
    cr_tensor *rows = last > 0 ? cr_flatten(g, 0, -2) : cr_unsqueeze(g, 0);
    if (v->needs[1]) {
        cr_tensor *x = last > 0 ? cr_flatten(v->inputs[0], 0, -2) : cr_unsqueeze(v->inputs[0], 0);
        if (!cr_vjp_set(v, 1, cr_matmul(cr_transpose(rows, 0, 1), x))) return false;
    }
    return v->input_count < 3 || !v->needs[2] || cr_vjp_set(v, 2, cr_sum(rows, .dims = CR_DIMS(0)));
}
static double flops_linear(const cr_call *call) {
    return cr_flops_product(call) + (call->inputs[2] ? (double)call->outputs[0]->numel : 0);
}
CR_OP(linear, .inputs = "input weight bias?", .infer = infer_linear, .decompose = decompose_linear, .vjp = vjp_linear,
      .saves = CR_SAVE_INPUT(0) | CR_SAVE_INPUT(1), .flops = flops_linear, .doc = "input · weightᵀ + bias.")
cr_tensor *cr_linear(cr_tensor *x, cr_tensor *weight, cr_tensor *bias) { return CR_RUN(linear, NULL, x, weight, bias); }

/* ---------------------------------------------------------------- a weight of fewer bits */
static bool infer_narrow_linear(cr_call *call) {
    const int8_t weight = call->inputs[1]->dtype;
    if (!set_linear(call)) return false;
    return (call->inputs[0]->dtype == CR_F32 && (weight == CR_BF16 || weight == CR_I8) &&
            (!call->inputs[2] || call->inputs[2]->dtype == CR_F32)) ||
           cr_fail_call(call, CR_ERROR_DTYPE, "takes f32, with a weight of bf16 or i8");
}
static bool decompose_narrow_linear(cr_call *call) {
    return (call->outputs[0] = cr_linear(call->inputs[0], cr_cast(call->inputs[1], CR_F32), call->inputs[2])) != NULL;
}
CR_OP(narrow_linear, .inputs = "input weight bias?", .flags = CR_OP_NO_GRADIENT, .infer = infer_narrow_linear,
      .decompose = decompose_narrow_linear, .flops = flops_linear,
      .doc = "A linear layer whose weight is kept in fewer bits; its numbers become f32 as they are read.")

/* ---------------------------------------------------------------- products of exact shapes */
static cr_tensor *exactly(const char *name, cr_tensor *a, int dims_a, cr_tensor *b, int dims_b) {
    if (a && b && (a->ndim != dims_a || b->ndim != dims_b)) {
        char x[224], y[224];
        cr_record_error(CR_ERROR_SHAPE, "%s: takes operands of %d and %d dims, got %s and %s", name, dims_a, dims_b,
                        cr_describe(a, x), cr_describe(b, y));
        return NULL;
    }
    return cr_matmul(a, b);
}
cr_tensor *cr_mm(cr_tensor *a, cr_tensor *b) { return exactly("mm", a, 2, b, 2); }
cr_tensor *cr_mv(cr_tensor *matrix, cr_tensor *vector) { return exactly("mv", matrix, 2, vector, 1); }
cr_tensor *cr_dot(cr_tensor *a, cr_tensor *b) { return exactly("dot", a, 1, b, 1); }
cr_tensor *cr_bmm(cr_tensor *a, cr_tensor *b) { return exactly("bmm", a, 3, b, 3); }
cr_tensor *cr_outer(cr_tensor *a, cr_tensor *b) {
    return a && b && a->ndim == 1 && b->ndim == 1 ? cr_mul(cr_unsqueeze(a, 1), b) : exactly("outer", a, 1, b, 1);
}
cr_tensor *cr_addmm(cr_tensor *c, cr_tensor *a, cr_tensor *b, double beta, double alpha) {
    if (!cr_tensor_check(c, "addmm")) return NULL;
    cr_tensor *product = cr_mm(a, b);
    if (alpha != 1) product = cr_mul_scalar(product, alpha);
    if (beta == 0) return product;
    return cr_add(beta == 1 ? c : cr_mul_scalar(c, beta), product);
}
