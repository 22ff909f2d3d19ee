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

/* ---------------------------------------------------------------- what is added to the products */
typedef struct masking {
    cr_tensor *bias;   /* [*, L, S], or NULL: nothing is masked */
    cr_tensor *offset; /* keys before the first query: of each sample [B, 1, 1, 1], or NULL: `past` of them */
    int64_t past, queries, keys, left, right; /* left, right: how far a query sees; -1: without end */
    cr_dtype dtype;
    bool is_causal, is_plain; /* plain: causal, without anything past or a window */
} masking;

/* 0 where `allowed`, else -inf. */
static cr_tensor *bias_where(const masking *m, cr_tensor *allowed) {
    return cr_where(allowed, cr_zeros(m->dtype, CR_SHAPE_0D, CR_CPU),
                    cr_full(m->dtype, CR_SHAPE_0D, -INFINITY, CR_CPU));
}

static void add_bias(masking *m, cr_tensor *bias) { m->bias = m->bias ? cr_add(m->bias, bias) : bias; }

/* A mask may be shorter than the keys: what it does not reach is not attended. */
static void add_mask(masking *m, cr_tensor *mask) {
    if (!mask) return;
    cr_tensor *bias = cr_dtype_of(mask) == CR_BOOL ? bias_where(m, mask) : mask;
    const cr_dims before = {1, {0}}, after = {1, {m->keys - cr_size(bias, -1)}};
    add_bias(m, after.at[0] > 0 ? cr_pad(bias, before, after, -INFINITY) : bias);
}

/* Query i stands at key i + offset: it sees none behind that, and none outside of the window around it. */
static void add_order(masking *m) {
    cr_tensor *rows = cr_unsqueeze(cr_arange(CR_I64, 0, (double)m->queries, 1, CR_CPU), 1),
              *columns = cr_arange(CR_I64, 0, (double)m->keys, 1, CR_CPU);
    cr_tensor *ahead = cr_sub(columns, rows);
    ahead = m->offset ? cr_sub(ahead, m->offset) : cr_sub_scalar(ahead, (double)m->past);
    if (m->is_causal && !m->is_plain) add_bias(m, bias_where(m, cr_le_scalar(ahead, 0)));
    if (m->left >= 0) add_bias(m, bias_where(m, cr_ge_scalar(ahead, (double)-m->left)));
    if (m->right >= 0) add_bias(m, bias_where(m, cr_le_scalar(ahead, (double)m->right)));
}

/* lengths [B]: keys behind them are not there. */
static void add_lengths(masking *m, cr_tensor *lengths) {
    if (!lengths) return;
    cr_tensor *columns = cr_arange(CR_I64, 0, (double)m->keys, 1, CR_CPU);
    add_bias(m, bias_where(m, cr_lt(columns, cr_reshape(lengths, CR_SHAPE(-1, 1, 1, 1)))));
}

/* ---------------------------------------------------------------- attention */
/* A query that sees nothing gives 0. */
static cr_tensor *silence(const masking *m, cr_tensor *y) {
    if (!m->bias) return y;
    cr_tensor *sees = cr_gt_scalar(cr_amax(m->bias, .dims = CR_DIMS(-1), .keepdim = true), -INFINITY);
    return cr_where(sees, y, cr_zeros(cr_dtype_of(y), CR_SHAPE_0D, CR_CPU));
}

/* Step by step, for what flash attention does not give: a soft cap, or the products themselves, as they are (mode 0), under
 * the cap (1), with the bias (2), or their softmax (3). */
static cr_tensor *attend_in_steps(cr_onnx_call *call, const masking *m, cr_tensor *q, cr_tensor *k, cr_tensor *v,
                                  double scale, cr_tensor **products) {
    const double cap = cr_onnx_float(call, "softcap", 0);
    const int64_t mode = cr_onnx_int(call, "qk_matmul_output_mode", 0);
    cr_tensor *steps[4];
    steps[0] = cr_mul_scalar(cr_matmul(q, cr_transpose(k, 2, 3)), scale);
    steps[1] = cap > 0 ? cr_mul_scalar(cr_tanh(cr_div_scalar(steps[0], cap)), cap) : steps[0];
    steps[2] = m->bias ? cr_add(steps[1], m->bias) : steps[1];
    steps[3] = silence(m, cr_softmax(steps[2], -1));
    *products = mode >= 0 && mode < 4 ? steps[mode] : NULL;
    return cr_matmul(steps[3], v);
}

static bool run_Attention(cr_onnx_call *call) {
    cr_tensor *q = by_heads(cr_onnx_input(call, 0), cr_onnx_int(call, "q_num_heads", 0)),
              *k = by_heads(cr_onnx_input(call, 1), cr_onnx_int(call, "kv_num_heads", 0)),
              *v = by_heads(cr_onnx_input(call, 2), cr_onnx_int(call, "kv_num_heads", 0));
    cr_tensor *past_k = cr_onnx_input(call, 4), *past_v = cr_onnx_input(call, 5), *lengths = cr_onnx_input(call, 6);
    const bool is_flat = cr_ndim(call->inputs[0].tensor) == 3;
    if (!q || !k || !v || cr_ndim(q) != 4 || cr_ndim(k) != 4 || cr_ndim(v) != 4)
        return cr_ok() && cr_onnx_refuse(call, "needs operands of 4 dims, or of 3 with q_num_heads and kv_num_heads");
    masking m = {.past = past_k ? cr_size(past_k, 2) : 0,
                 .dtype = cr_dtype_of(q),
                 .queries = cr_size(q, 2),
                 .left = cr_onnx_int(call, "left_window_size", -1),
                 .right = cr_onnx_int(call, "right_window_size", -1),
                 .is_causal = cr_onnx_int(call, "is_causal", 0)};
    if (past_k) k = cr_cat((cr_tensor *const[]){past_k, k}, 2, 2);
    if (past_v) v = cr_cat((cr_tensor *const[]){past_v, v}, 2, 2);
    cr_tensor *present_k = k, *present_v = v, *products = NULL, *y;
    if (lengths) lengths = cr_cast(lengths, CR_I64);
    if (lengths && !past_k) m.offset = cr_reshape(cr_sub_scalar(lengths, (double)m.queries), CR_SHAPE(-1, 1, 1, 1));
    const int64_t groups = cr_size(k, 1) > 0 ? cr_size(q, 1) / cr_size(k, 1) : 1;
    if (groups > 1) {
        k = cr_repeat_interleave(k, groups, 1);
        v = cr_repeat_interleave(v, groups, 1);
    }
    const bool in_steps = call->output_count > 3 || cr_onnx_float(call, "softcap", 0) != 0;
    m.keys = cr_size(k, 2);
    m.is_plain = m.is_causal && !past_k && !m.offset && !in_steps;
    add_mask(&m, cr_onnx_input(call, 3));
    add_order(&m);
    add_lengths(&m, lengths);
    const double scale = cr_onnx_float(call, "scale", 1 / sqrt((double)cr_size(q, 3)));
    const cr_attention_options o = {.size = sizeof o, .scale = scale, .is_causal = m.is_plain};
    y = in_steps ? attend_in_steps(call, &m, q, k, v, scale, &products)
                 : silence(&m, cr_scaled_dot_product_attention_with(q, k, v, m.bias, &o));
    if (is_flat) y = cr_flatten(cr_transpose(y, 1, 2), 2, 3);
    return cr_onnx_give(call, cr_contiguous(y)) && cr_onnx_give_at(call, 1, present_k) &&
           cr_onnx_give_at(call, 2, present_v) && (call->output_count < 4 || cr_onnx_give_at(call, 3, products));
}
CR_ONNX_IMPORT(Attention, 23, 0)

/* ---------------------------------------------------------------- places in a sequence */
/* Pairs of each head's first dims turned by angles whose cosines and sines are given (Su et al., RoFormer, 2021). */
static bool run_RotaryEmbedding(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0), *cosines = cr_onnx_input(call, 1), *sines = cr_onnx_input(call, 2),
              *places = cr_onnx_input(call, 3);
    const bool is_flat = cr_ndim(x) == 3, interleaves = cr_onnx_int(call, "interleaved", 0);
    x = is_flat ? cr_unflatten(x, 2, CR_SHAPE(cr_onnx_int(call, "num_heads", 1), -1))
                : cr_transpose(x, 1, 2); /* [B, S, H, E] */
    const int64_t given = cr_onnx_int(call, "rotary_embedding_dim", 0), size = cr_size(x, 3),
                  turned = given ? given : size;
    if (size < 1 || turned > size || turned % 2)
        return cr_ok() && cr_onnx_refuse(call, "turns %lld of %lld", (long long)turned, (long long)size);
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
