/* Attention and rotary embeddings, of opset 23. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/import.h"

#include <math.h>
#include <string.h>

/* [B, L, heads · E] as [B, heads, L, E]; four dims stay. */
static cr_tensor *by_heads(cr_tensor *x, int64_t heads) {
    if (!x || cr_ndim(x) == 4 || heads < 1) return x;
    return cr_transpose(cr_unflatten(x, 2, CR_SHAPE(heads, cr_size(x, 2) / heads)), 1, 2);
}

/* What is added to the products, or NULL: the mask as numbers, and where it is causal -inf above the diagonal that begins
 * behind what is past. */
static cr_tensor *bias_of(cr_onnx_call *call, cr_tensor *q, cr_tensor *k, int64_t past) {
    cr_tensor *mask = cr_onnx_input(call, 3), *bias = NULL;
    const cr_dtype dtype = cr_dtype_of(q);
    const int64_t l = cr_size(q, -2), s = cr_size(k, -2);
    cr_tensor *never = cr_full(dtype, CR_SHAPE_0D, -INFINITY, CR_CPU), *always = cr_zeros(dtype, CR_SHAPE_0D, CR_CPU);
    if (mask) bias = cr_dtype_of(mask) == CR_BOOL ? cr_where(mask, always, never) : mask;
    if (bias && cr_size(bias, -1) < s) { /* what a mask does not reach is not attended */
        cr_dims before = {1, {0}}, after = {1, {s - cr_size(bias, -1)}};
        bias = cr_pad(bias, before, after, -INFINITY);
    }
    if (!cr_onnx_int(call, "is_causal", 0)) return bias;
    cr_tensor *rows = cr_unsqueeze(cr_arange(CR_I64, 0, (double)l, 1, CR_CPU), 1), *columns = cr_arange(CR_I64, 0, (double)s, 1, CR_CPU);
    cr_tensor *causal = cr_where(cr_le(columns, cr_add_scalar(rows, (double)past)), always, never);
    return bias ? cr_add(bias, causal) : causal;
}

/* qk_matmul_output_mode: 0 the products, 1 with the mask, 2 with the soft cap, 3 their softmax. */
static bool run_Attention(cr_onnx_call *call) {
    cr_tensor *q = by_heads(cr_onnx_input(call, 0), cr_onnx_int(call, "q_num_heads", 0)),
              *k = by_heads(cr_onnx_input(call, 1), cr_onnx_int(call, "kv_num_heads", 0)),
              *v = by_heads(cr_onnx_input(call, 2), cr_onnx_int(call, "kv_num_heads", 0));
    cr_tensor *past_k = cr_onnx_input(call, 4), *past_v = cr_onnx_input(call, 5), *lengths = cr_onnx_input(call, 6);
    const bool is_flat = cr_ndim(call->inputs[0].tensor) == 3;
    const double cap = cr_onnx_float(call, "softcap", 0);
    if (!q || !k || !v || cr_ndim(q) != 4 || cr_ndim(k) != 4 || cr_ndim(v) != 4)
        return cr_ok() && cr_onnx_refuse(call, "needs operands of 4 dims, or of 3 with q_num_heads and kv_num_heads");
    const int64_t past = past_k ? cr_size(past_k, 2) : 0;
    if (past_k) k = cr_cat((cr_tensor *const[]){past_k, k}, 2, 2);
    if (past_v) v = cr_cat((cr_tensor *const[]){past_v, v}, 2, 2);
    cr_tensor *present_k = k, *present_v = v;
    const int64_t groups = cr_size(k, 1) > 0 ? cr_size(q, 1) / cr_size(k, 1) : 1;
    if (groups > 1) {
        k = cr_repeat_interleave(k, groups, 1);
        v = cr_repeat_interleave(v, groups, 1);
    }
    const double scale = cr_onnx_float(call, "scale", 1 / sqrt((double)cr_size(q, 3)));
    cr_tensor *bias = bias_of(call, q, k, past), *y, *products = NULL;
    if (lengths) { /* keys behind a sequence's end, opset 24 */
        cr_tensor *columns = cr_arange(CR_I64, 0, (double)cr_size(k, 2), 1, CR_CPU);
        cr_tensor *is_there = cr_lt(columns, cr_reshape(cr_cast(lengths, CR_I64), CR_SHAPE(-1, 1, 1, 1)));
        cr_tensor *pad = cr_where(is_there, cr_zeros(cr_dtype_of(q), CR_SHAPE_0D, CR_CPU), cr_full(cr_dtype_of(q), CR_SHAPE_0D, -INFINITY, CR_CPU));
        bias = bias ? cr_add(bias, pad) : pad;
    }
    const bool wants_products = call->output_count > 3;
    if (!wants_products && cap == 0) {
        const cr_attention_options o = {.size = sizeof o, .scale = scale};
        y = cr_scaled_dot_product_attention_with(q, k, v, bias, &o);
    } else {
        const int64_t mode = cr_onnx_int(call, "qk_matmul_output_mode", 0);
        cr_tensor *scores = cr_mul_scalar(cr_matmul(q, cr_transpose(k, 2, 3)), scale);
        products = scores;
        if (bias && mode == 1) products = cr_add(scores, bias);
        if (cap > 0) scores = cr_mul_scalar(cr_tanh(cr_div_scalar(scores, cap)), cap);
        if (mode == 2) products = scores;
        if (bias) scores = cr_add(scores, bias);
        if (mode == 1 && cap > 0) products = scores;
        scores = cr_softmax(scores, -1);
        if (mode == 3) products = scores;
        y = cr_matmul(scores, v);
    }
    if (is_flat) y = cr_flatten(cr_transpose(y, 1, 2), 2, 3);
    return cr_onnx_give(call, cr_contiguous(y)) && cr_onnx_give_at(call, 1, present_k) && cr_onnx_give_at(call, 2, present_v) &&
           (!wants_products || cr_onnx_give_at(call, 3, products));
}
CR_ONNX_IMPORT(Attention, 23, 0)

/* Pairs of each head's first dims turned by angles whose cosines and sines are given (Su et al., RoFormer, 2021). */
static bool run_RotaryEmbedding(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0), *cosines = cr_onnx_input(call, 1), *sines = cr_onnx_input(call, 2),
              *places = cr_onnx_input(call, 3);
    const bool is_flat = cr_ndim(x) == 3, interleaves = cr_onnx_int(call, "interleaved", 0);
    x = is_flat ? cr_unflatten(x, 2, CR_SHAPE(cr_onnx_int(call, "num_heads", 1), -1)) : cr_transpose(x, 1, 2); /* [B, S, H, E] */
    const int64_t given = cr_onnx_int(call, "rotary_embedding_dim", 0), size = cr_size(x, 3), turned = given ? given : size;
    if (size < 1 || turned > size || turned % 2) return cr_ok() && cr_onnx_refuse(call, "turns %lld of %lld", (long long)turned, (long long)size);
    cr_tensor *part = cr_narrow(x, 3, 0, turned), *rest = turned < size ? cr_narrow(x, 3, turned, size - turned) : NULL;
    if (places) {
        cosines = cr_embedding(cosines, places, -1);
        sines = cr_embedding(sines, places, -1);
    }
    cosines = cr_unsqueeze(cr_narrow(cosines, -1, 0, turned / 2), 2);
    sines = cr_unsqueeze(cr_narrow(sines, -1, 0, turned / 2), 2);
    cr_tensor *a = interleaves ? cr_slice(part, 3, 0, turned, 2) : cr_narrow(part, 3, 0, turned / 2),
              *b = interleaves ? cr_slice(part, 3, 1, turned, 2) : cr_narrow(part, 3, turned / 2, turned / 2);
    cr_tensor *ab[] = {cr_sub(cr_mul(cosines, a), cr_mul(sines, b)), cr_add(cr_mul(sines, a), cr_mul(cosines, b))};
    part = interleaves ? cr_flatten(cr_stack(ab, 2, 4), 3, 4) : cr_cat(ab, 2, 3);
    if (rest) part = cr_cat((cr_tensor *const[]){part, rest}, 2, 3);
    return cr_onnx_give(call, cr_contiguous(is_flat ? cr_flatten(part, 2, 3) : cr_transpose(part, 1, 2)));
}
CR_ONNX_IMPORT(RotaryEmbedding, 23, 0)

/* ---------------------------------------------------------------- caches of keys and values, of opset 24 */
/* past with update written along axis from write_indices [batch] on (0 where absent); circular: past the end from 0 on. */
static bool run_TensorScatter(cr_onnx_call *call) {
    cr_tensor *past = cr_onnx_input(call, 0), *update = cr_onnx_input(call, 1), *begins = cr_onnx_input(call, 2);
    const int axis = cr_onnx_axis(call, cr_onnx_int(call, "axis", -2), cr_ndim(past));
    const bool is_circular = !strcmp(cr_onnx_text(call, "mode", "linear"), "circular");
    if (axis < 1) return cr_ok() && cr_onnx_refuse(call, "along axis 0");
    cr_shape steps = {cr_ndim(past), {1, 1, 1, 1, 1, 1, 1, 1}}, batch = steps;
    steps.at[axis] = batch.at[0] = -1;
    cr_tensor *index = cr_reshape(cr_arange(CR_I64, 0, (double)cr_size(update, axis), 1, CR_CPU), steps);
    if (begins) index = cr_add(index, cr_reshape(begins, batch));
    if (is_circular) index = cr_remainder_scalar(index, (double)cr_size(past, axis));
    return cr_onnx_give(call, cr_scatter(past, axis, cr_contiguous(cr_expand(index, cr_shape_of(update))), update));
}
CR_ONNX_IMPORT(TensorScatter, 24, 0)
#endif
