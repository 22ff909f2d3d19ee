/* Attention: the row that users call, and the fused one with its gradient, which never hold all scores at once on a
 * device that has kernels for them (ops/cpu/variants/attention.c). */
#include "ops/op.h"

#include <math.h>

CR_ATTRIBUTES(attention, CR_ATTENTION_ATTRIBUTES)

#define FLASH_ATTRIBUTES(A, op) A(op, BOOL, is_causal, false) A(op, FLOAT, scale, 1)
CR_OPTIONS(flash_attention, FLASH_ATTRIBUTES)
CR_ATTRIBUTES(flash_attention, FLASH_ATTRIBUTES)

static cr_dtype wide_dtype(const cr_tensor *t) { return t->dtype == CR_F64 ? CR_F64 : CR_F32; }

/* q [*, L, E], k [*, S, E], v [*, S, Ev] and mask [*, L, S], which broadcasts. */
static bool check_operands(const cr_call *call, const cr_tensor *q, const cr_tensor *k, const cr_tensor *v,
                           const cr_tensor *mask) {
    if (q->ndim < 2 || k->ndim != q->ndim || v->ndim != q->ndim || q->sizes[q->ndim - 1] != k->sizes[k->ndim - 1] ||
        k->sizes[k->ndim - 2] != v->sizes[v->ndim - 2])
        return cr_fail_call(call, CR_ERROR_SHAPE, "takes q [*, L, E], k [*, S, E] and v [*, S, Ev]");
    if (!cr_dtype_is_floating((cr_dtype)q->dtype) || k->dtype != q->dtype || v->dtype != q->dtype)
        return cr_fail_call(call, CR_ERROR_DTYPE, "q, k and v have one floating dtype");
    for (int d = 0; d < q->ndim - 2; d++)
        if (k->sizes[d] != q->sizes[d] || v->sizes[d] != q->sizes[d])
            return cr_fail_call(call, CR_ERROR_SHAPE, "batch sizes must be equal");
    if (!mask) return true;
    if (mask->dtype != CR_BOOL && !cr_dtype_is_floating((cr_dtype)mask->dtype))
        return cr_fail_call(call, CR_ERROR_DTYPE, "the mask is bool (true: attend) or floating (added)");
    cr_shape scores = cr_tensor_shape(q), joined;
    scores.at[scores.count - 1] = k->sizes[k->ndim - 2];
    if (!cr_shape_broadcast(scores, cr_tensor_shape(mask), &joined)) return false;
    return cr_shape_equal(joined, scores) || cr_fail_call(call, CR_ERROR_SHAPE, "the mask must broadcast to [*, L, S]");
}

/* ---------------------------------------------------------------- the fused row's meaning */
/* q kᵀ · scale + mask, in f32 at least. */
static cr_tensor *masked_scores(cr_tensor *q, cr_tensor *k, cr_tensor *mask, bool is_causal, double scale) {
    const cr_dtype wide = wide_dtype(q);
    cr_tensor *scores = cr_mul_scalar(cr_matmul(cr_cast(q, wide), cr_transpose(cr_cast(k, wide), -1, -2)), scale);
    if (is_causal) {
        cr_tensor *seen = cr_tril(cr_ones(CR_BOOL, CR_SHAPE(cr_size(q, -2), cr_size(k, -2)), cr_device_of(q)), 0);
        scores = cr_masked_fill(scores, cr_logical_not(seen), -INFINITY);
    }
    if (mask && cr_dtype_of(mask) == CR_BOOL) return cr_masked_fill(scores, cr_logical_not(mask), -INFINITY);
    return mask ? cr_add(scores, cr_cast(mask, wide)) : scores;
}

static cr_shape without_last(const cr_tensor *t) {
    cr_shape shape = cr_tensor_shape(t);
    shape.count--;
    return shape;
}

static bool infer_flash(cr_call *call) {
    const cr_tensor *q = call->inputs[0], *v = call->inputs[2];
    if (!check_operands(call, q, call->inputs[1], v, call->inputs[3])) return false;
    cr_shape shape = cr_tensor_shape(q);
    shape.at[shape.count - 1] = v->sizes[v->ndim - 1];
    cr_spec_set(call, 0, (cr_dtype)q->dtype, shape);
    cr_spec_set(call, 1, wide_dtype(q), without_last(q));
    return true;
}

static cr_tensor *log_sums(const cr_tensor *q, cr_tensor *scores) {
    if (cr_numel(scores) == 0) return cr_full(wide_dtype(q), without_last(q), -INFINITY, cr_device_of(q));
    return cr_logsumexp(scores, .dims = CR_DIMS(-1));
}

static bool decompose_flash(cr_call *call) {
    const cr_flash_attention_options *o = call->attributes;
    cr_tensor *q = call->inputs[0], *v = call->inputs[2];
    cr_tensor *scores = masked_scores(q, call->inputs[1], call->inputs[3], o->is_causal, o->scale);
    if (!scores) return false;
    call->outputs[0] = cr_cast(cr_matmul(cr_softmax(scores, -1), cr_cast(v, wide_dtype(q))), cr_dtype_of(q));
    call->outputs[1] = log_sums(q, scores);
    return call->outputs[0] && call->outputs[1];
}

/* ---------------------------------------------------------------- its gradient */
/* With P = exp(scores - log_sum): dv = Pᵀ g; ds = P (g vᵀ - Σ g · output); dq = ds k · scale; dk = dsᵀ q · scale
 * (Dao et al., "FlashAttention", 2022, appendix B). */
static cr_tensor *score_gradients(const cr_flash_attention_options *o, cr_tensor *const inputs[7],
                                  cr_tensor **weights) {
    cr_tensor *g = inputs[0], *q = inputs[1], *v = inputs[3], *output = inputs[5], *log_sum = inputs[6];
    const cr_dtype wide = wide_dtype(q);
    *weights =
        cr_exp(cr_sub(masked_scores(q, inputs[2], inputs[4], o->is_causal, o->scale), cr_unsqueeze(log_sum, -1)));
    g = cr_cast(g, wide);
    cr_tensor *pull = cr_sum(cr_mul(g, cr_cast(output, wide)), .dims = CR_DIMS(-1), .keepdim = true);
    return cr_mul(*weights, cr_sub(cr_matmul(g, cr_transpose(cr_cast(v, wide), -1, -2)), pull));
}

static bool infer_flash_grad(cr_call *call) {
    for (int i = 0; i < 3; i++)
        cr_spec_set(call, i, (cr_dtype)call->inputs[1 + i]->dtype, cr_tensor_shape(call->inputs[1 + i]));
    return check_operands(call, call->inputs[1], call->inputs[2], call->inputs[3], call->inputs[4]);
}
static bool decompose_flash_grad(cr_call *call) {
    const cr_flash_attention_options *o = call->attributes;
    cr_tensor *g = call->inputs[0], *q = call->inputs[1], *k = call->inputs[2], *weights;
    const cr_dtype dtype = cr_dtype_of(q), wide = wide_dtype(q);
    cr_tensor *ds = score_gradients(o, call->inputs, &weights);
    call->outputs[0] = cr_cast(cr_mul_scalar(cr_matmul(ds, cr_cast(k, wide)), o->scale), dtype);
    call->outputs[1] = cr_cast(cr_mul_scalar(cr_matmul(cr_transpose(ds, -1, -2), cr_cast(q, wide)), o->scale), dtype);
    call->outputs[2] = cr_cast(cr_matmul(cr_transpose(weights, -1, -2), cr_cast(g, wide)), dtype);
    return call->outputs[0] && call->outputs[1] && call->outputs[2];
}
/* Products over the pairs of queries and keys that the causal mask leaves (a given mask saves nothing), `forward` times
 * the width of q and `back` times that of v; and some five more operations for each pair's weight. */
static double flops_pairs(const cr_call *call, const cr_tensor *q, const cr_tensor *k, const cr_tensor *v, int times_q,
                          int times_v) {
    const double rows = (double)q->sizes[q->ndim - 2], keys = (double)k->sizes[k->ndim - 2],
                 wide_q = (double)q->sizes[q->ndim - 1], wide_v = (double)v->sizes[v->ndim - 1];
    if (q->numel == 0) return 0;
    double pairs = rows * keys;
    if (((const cr_flash_attention_options *)call->attributes)->is_causal)
        pairs = rows <= keys ? rows * (rows + 1) / 2 : keys * (keys + 1) / 2 + (rows - keys) * keys;
    return (double)q->numel / (rows * wide_q) * pairs * (2 * times_q * wide_q + 2 * times_v * wide_v + 5);
}
static double flops_flash(const cr_call *call) {
    return flops_pairs(call, call->inputs[0], call->inputs[1], call->inputs[2], 1, 1);
}
/* The scores again, dq and dk; dv and the weights' gradients. */
static double flops_flash_grad(const cr_call *call) {
    return flops_pairs(call, call->inputs[1], call->inputs[2], call->inputs[3], 3, 2);
}
CR_OP(flash_attention_grad, .inputs = "grad q k v mask? output log_sum", .outputs = "grad_q grad_k grad_v",
      CR_ROW_ATTRIBUTES(flash_attention), .infer = infer_flash_grad, .decompose = decompose_flash_grad,
      .flops = flops_flash_grad, .doc = "The gradients of flash_attention.")

/* log_sum is a function of q, k and mask: where gradients of gradients are wanted it is made again as such. */
static bool vjp_flash(cr_vjp *v) {
    const cr_flash_attention_options *o = v->attributes;
    cr_tensor *q = v->inputs[0], *k = v->inputs[1], *mask = v->input_count > 3 ? v->inputs[3] : NULL,
              *log_sum = v->outputs[1];
    if ((q && q->requires_grad) || (k && k->requires_grad) || (mask && mask->requires_grad))
        log_sum = log_sums(q, masked_scores(q, k, mask, o->is_causal, o->scale));
    cr_tensor *const inputs[7] = {v->grads[0], q, k, v->inputs[2], mask, v->outputs[0], log_sum};
    cr_tensor *results[3], *weights;
    if (v->needs[0] || v->needs[1] || v->needs[2]) {
        if (!cr_run_all(&cr_op_flash_attention_grad, inputs, 7, o, results, 3)) return false;
        for (int i = 0; i < 3; i++)
            v->results[i] = v->needs[i] ? results[i] : NULL;
    }
    return v->input_count < 4 || !v->needs[3] || cr_vjp_set(v, 3, score_gradients(o, inputs, &weights));
}
CR_OP(flash_attention, .inputs = "q k v mask?", .outputs = "output log_sum", .constant_outputs = 2,
      CR_ROW_ATTRIBUTES(flash_attention), .infer = infer_flash, .decompose = decompose_flash, .vjp = vjp_flash,
      .saves = CR_SAVE_ALL_INPUTS | CR_SAVE_OUTPUT(0) | CR_SAVE_OUTPUT(1), .flops = flops_flash,
      .doc = "softmax(q kᵀ · scale + mask) v, and the logarithm of each row's sum of exponentials.")

/* ---------------------------------------------------------------- the row that users call */
static bool decompose_attention(cr_call *call) {
    const cr_attention_options *o = call->attributes;
    cr_tensor *q = call->inputs[0], *k = call->inputs[1], *v = call->inputs[2],
              *mask = call->input_count > 3 ? call->inputs[3] : NULL;
    if (!check_operands(call, q, k, v, mask)) return false;
    const double scale = o->scale != 0 ? o->scale : 1 / sqrt((double)cr_size(q, -1));
    if (o->dropout_p > 0) {
        cr_tensor *weights = cr_softmax(cr_cast(masked_scores(q, k, mask, o->is_causal, scale), cr_dtype_of(q)), -1);
        return (call->outputs[0] = cr_matmul(cr_dropout(weights, o->dropout_p, true), v)) != NULL;
    }
    const cr_flash_attention_options options = {sizeof options, o->is_causal, scale};
    return (call->outputs[0] = CR_RUN(flash_attention, &options, q, k, v, mask)) != NULL;
}
CR_OP(attention, .inputs = "q k v mask?", CR_ROW_ATTRIBUTES(attention), .decompose = decompose_attention,
      .doc = "Scaled dot-product attention.")

cr_tensor *cr_scaled_dot_product_attention_with(cr_tensor *q, cr_tensor *k, cr_tensor *v, cr_tensor *mask,
                                                const cr_attention_options *options) {
    cr_attention_options storage;
    return CR_RUN(attention, cr_options_complete(&cr_op_attention, options, &storage), q, k, v, mask);
}

/* ---------------------------------------------------------------- words that come after others */
#define CACHED_ATTRIBUTES(A, op) A(op, FLOAT, scale, 0)
CR_OPTIONS(cached_attention, CACHED_ATTRIBUTES)
CR_ATTRIBUTES(cached_attention, CACHED_ATTRIBUTES)

static bool infer_cached(cr_call *call) {
    const cr_tensor *q = call->inputs[0], *k = call->inputs[1], *v = call->inputs[2], *position = call->inputs[5];
    if (!check_operands(call, q, k, v, NULL)) return false;
    for (int i = 3; i < 5; i++) {
        const cr_tensor *cache = call->inputs[i];
        cr_shape shape = cr_tensor_shape(call->inputs[i - 2]);
        if (cache->ndim == q->ndim) shape.at[q->ndim - 2] = cache->sizes[q->ndim - 2];
        if (!cr_shape_equal(cr_tensor_shape(cache), shape) || cache->dtype != q->dtype ||
            shape.at[q->ndim - 2] != call->inputs[3]->sizes[q->ndim - 2])
            return cr_fail_call(call, CR_ERROR_SHAPE,
                                "the caches are [*, capacity, E] and [*, capacity, Ev], as k and v");
    }
    if (q->sizes[q->ndim - 2] != k->sizes[k->ndim - 2] || position->numel != 1 || position->dtype != CR_I64)
        return cr_fail_call(call, CR_ERROR_SHAPE, "q and k are of the same words, and the position is one i64");
    cr_shape shape = cr_tensor_shape(q);
    shape.at[shape.count - 1] = v->sizes[v->ndim - 1];
    cr_spec_set(call, 0, (cr_dtype)q->dtype, shape);
    return true;
}

/* Writes x into rows `words` [L, 1] of the cache. */
static cr_tensor *write_words(cr_tensor *cache, cr_tensor *words, cr_tensor *x) {
    return cr_copy_(cache, cr_scatter(cache, -2, cr_expand(words, cr_tensor_shape(x)), x));
}

static bool decompose_cached(cr_call *call) {
    const cr_cached_attention_options *o = call->attributes;
    cr_tensor *q = call->inputs[0], *keys = call->inputs[3], *values = call->inputs[4], *position = call->inputs[5];
    const int64_t length = cr_size(q, -2), capacity = cr_size(keys, -2);
    cr_tensor *counted = cr_arange(CR_I64, 0, (double)length, 1, cr_device_of(q));
    cr_tensor *words = cr_unsqueeze(cr_add(counted, cr_reshape(position, CR_SHAPE(1))), 1);
    cr_tensor *seen = cr_le(cr_arange(CR_I64, 0, (double)capacity, 1, cr_device_of(q)), words);
    if (!write_words(keys, words, call->inputs[1]) || !write_words(values, words, call->inputs[2])) return false;
    call->outputs[0] = cr_scaled_dot_product_attention(q, keys, values, seen, .scale = o->scale);
    return call->outputs[0] && cr_add_scalar_(position, (double)length);
}
CR_OP(cached_attention, .inputs = "q k v keys values position", CR_ROW_ATTRIBUTES(cached_attention),
      .mutates = 8 | 16 | 32, .flags = CR_OP_NO_GRADIENT, .infer = infer_cached, .decompose = decompose_cached,
      .doc = "Attention of words behind those that two caches hold, which take them in.")

cr_tensor *cr_cached_attention(cr_tensor *q, cr_tensor *k, cr_tensor *v, cr_tensor *keys, cr_tensor *values,
                               cr_tensor *position, double scale) {
    const cr_cached_attention_options options = {sizeof options, scale};
    return CR_RUN(cached_attention, &options, q, k, v, keys, values, position);
}
