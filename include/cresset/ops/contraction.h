/* Contractions: products of matrices, of batches of them, and what is made of those. Included by <cresset/ops.h>. */

/* PyTorch's matmul: [*, m, k] · [*, k, n] with batch dims broadcast; a 1-d operand is a row on the left, a column on
 * the right, and its dim goes. Floating operands of one dtype after promotion; f16 and bf16 are summed in f32. */
CR_API cr_tensor *cr_matmul(cr_tensor *a, cr_tensor *b);
/* Matrices, matrix and vector, vectors, batches of matrices: matmul for exactly those shapes. */
CR_API cr_tensor *cr_mm(cr_tensor *a, cr_tensor *b);
CR_API cr_tensor *cr_mv(cr_tensor *matrix, cr_tensor *vector);
CR_API cr_tensor *cr_dot(cr_tensor *a, cr_tensor *b);
CR_API cr_tensor *cr_bmm(cr_tensor *a, cr_tensor *b);
CR_API cr_tensor *cr_outer(cr_tensor *a, cr_tensor *b);
/* beta · c + alpha · a b. */
CR_API cr_tensor *cr_addmm(cr_tensor *c, cr_tensor *a, cr_tensor *b, double beta, double alpha);
/* x Wᵀ + bias: x [*, in], weight [out, in], bias [out] or NULL. */
CR_API cr_tensor *cr_linear(cr_tensor *x, cr_tensor *weight, cr_tensor *bias);
/* Einstein's summation, "bij,bjk->bik": letters for dims, `...` for any; without `->` the letters that occur once,
 * sorted. A letter twice in one operand is its diagonal. Operands are joined from left to right. */
CR_API cr_tensor *cr_einsum(const char *equation, cr_tensor *const *operands, int count);

#define CR_ATTENTION_ATTRIBUTES(A, op) A(op, BOOL, is_causal, false) A(op, FLOAT, scale, 0) A(op, FLOAT, dropout_p, 0)
CR_OPTIONS(attention, CR_ATTENTION_ATTRIBUTES)
/* softmax(q kᵀ · scale + mask) v (Vaswani et al. 2017): q [*, L, E], k [*, S, E], v [*, S, Ev]; mask [*, L, S],
 * floating (added) or bool (true: attend), or NULL. scale 0: 1 / sqrt(E). is_causal: row i sees columns up to i. A row
 * that sees nothing is NaN. */
CR_API cr_tensor *cr_scaled_dot_product_attention_with(cr_tensor *q, cr_tensor *k, cr_tensor *v, cr_tensor *mask,
                                                       const cr_attention_options *options);
#ifndef __cplusplus
#define cr_scaled_dot_product_attention(q, k, v, mask, ...)                                                            \
    cr_scaled_dot_product_attention_with(q, k, v, mask, CR_WITH(attention, CR_ATTENTION_ATTRIBUTES, __VA_ARGS__))
#endif
/* Attention of L words that come after `position` (i64, one number) others, whose keys and values two caches hold: keys
 * [*, capacity, E], values [*, capacity, Ev]. Writes k and v behind those, adds L to position, and returns
 * softmax(q kᵀ · scale) v, where a word sees itself and all before it; scale 0: 1 / sqrt(E). Fails where the caches are
 * full. No gradient flows through it. */
CR_API cr_tensor *cr_cached_attention(cr_tensor *q, cr_tensor *k, cr_tensor *v, cr_tensor *keys, cr_tensor *values,
                                      cr_tensor *position, double scale);
