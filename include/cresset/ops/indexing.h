/* Indexing: elements chosen by tensors of indices (i64 or i32). An index outside its dim is an error that names it; it
 * is never read or written. Included by <cresset/ops.h>. */

/* Positions `index` [n] of a dim, in that order. */
CR_API cr_tensor *cr_index_select(cr_tensor *x, int dim, cr_tensor *index);
/* out[i][j] = x[index[i][j]][j] for dim 0, and so on: index has x's number of dims and the result's shape. */
CR_API cr_tensor *cr_gather(cr_tensor *x, int dim, cr_tensor *index);
/* A copy of x with source written (added) where gather would read. Of equal indices the last write stays. */
CR_API cr_tensor *cr_scatter(cr_tensor *x, int dim, cr_tensor *index, cr_tensor *source);
CR_API cr_tensor *cr_scatter_add(cr_tensor *x, int dim, cr_tensor *index, cr_tensor *source);
/* A copy of x with source's slices added at positions `index` [n] of a dim; equal indices add up. */
CR_API cr_tensor *cr_index_add(cr_tensor *x, int dim, cr_tensor *index, cr_tensor *source);
/* Rows of weight [count, size] by indices of any shape: [*, size]. Rows of padding_idx (-1: none) get no gradient. */
CR_API cr_tensor *cr_embedding(cr_tensor *weight, cr_tensor *index, int64_t padding_idx);
/* [*, classes] of i64 with a 1 at each index; classes -1: the largest index + 1. */
CR_API cr_tensor *cr_one_hot(cr_tensor *index, int64_t classes);
/* The elements where mask (bool, broadcast with x) holds, as a row. */
CR_API cr_tensor *cr_masked_select(cr_tensor *x, cr_tensor *mask);
/* Indices of the elements that are not 0: i64 [n, dims], in row-major order. */
CR_API cr_tensor *cr_nonzero(cr_tensor *x);
/* Sorted along a dim; NaN counts as largest; equal elements keep their order. indices (i64) may be NULL. */
CR_API cr_tensor *cr_sort(cr_tensor *x, int dim, bool descending, cr_tensor **indices);
CR_API cr_tensor *cr_argsort(cr_tensor *x, int dim, bool descending);
/* The k largest (or smallest) along a dim, best first. */
CR_API cr_tensor *cr_topk(cr_tensor *x, int64_t k, int dim, bool largest, cr_tensor **indices);
