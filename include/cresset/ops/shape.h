/* Shape and layout: views where memory allows, copies where it does not. Dims may be negative: they count from the end.
 * Included by <cresset/ops.h>. */

/* Another shape over the same elements in row-major order; one size may be -1. view: an error where that needs a
 * copy. */
CR_API cr_tensor *cr_view(cr_tensor *t, cr_shape shape);
CR_API cr_tensor *cr_reshape(cr_tensor *t, cr_shape shape);
/* Dims start … end as one. */
CR_API cr_tensor *cr_flatten(cr_tensor *t, int start_dim, int end_dim);
/* One dim as several. */
CR_API cr_tensor *cr_unflatten(cr_tensor *t, int dim, cr_shape sizes);
/* Dims in another order: a view. */
CR_API cr_tensor *cr_permute(cr_tensor *t, cr_dims order);
CR_API cr_tensor *cr_transpose(cr_tensor *t, int dim0, int dim1);
/* A matrix with rows and columns changed over (1-d and 0-d: as they are). */
CR_API cr_tensor *cr_t(cr_tensor *t);
CR_API cr_tensor *cr_movedim(cr_tensor *t, int source, int destination);
/* Without the dims of size 1 that are named (none named: all of size 1). */
CR_API cr_tensor *cr_squeeze(cr_tensor *t, cr_dims dims);
CR_API cr_tensor *cr_unsqueeze(cr_tensor *t, int dim);
/* Dims of size 1 (and new ones in front) repeated without copying; -1 keeps a size. */
CR_API cr_tensor *cr_expand(cr_tensor *t, cr_shape shape);
CR_API cr_tensor *cr_expand_as(cr_tensor *t, cr_tensor *other);
/* Elements start, start + step, … below end of one dim: a view. Negative positions count from the end; beyond are
 * cut. */
CR_API cr_tensor *cr_slice(cr_tensor *t, int dim, int64_t start, int64_t end, int64_t step);
/* `length` elements of one dim from `start`, all of which must exist. */
CR_API cr_tensor *cr_narrow(cr_tensor *t, int dim, int64_t start, int64_t length);
/* One position of one dim, which goes. */
CR_API cr_tensor *cr_select(cr_tensor *t, int dim, int64_t index);
/* The diagonal of two dims, as a last dim: a view. */
CR_API cr_tensor *cr_diagonal(cr_tensor *t, int64_t offset, int dim1, int dim2);
/* Windows of `size` at every step-th position of a dim: that dim counts windows, a new last dim holds each. A view. */
CR_API cr_tensor *cr_unfold(cr_tensor *t, int dim, int64_t size, int64_t step);
/* Any window onto the storage from t's first element on; strides and offset in elements, inside the storage. */
CR_API cr_tensor *cr_as_strided(cr_tensor *t, cr_shape shape, cr_shape strides, int64_t offset);
/* A copy of t (row-major or channels-last, as t is) with `source` written at such a window. */
CR_API cr_tensor *cr_as_strided_scatter(cr_tensor *t, cr_tensor *source, cr_shape shape, cr_shape strides,
                                        int64_t offset);

/* A copy of t with source where cr_slice, or cr_select, would look. */
CR_API cr_tensor *cr_slice_scatter(cr_tensor *t, cr_tensor *source, int dim, int64_t start, int64_t end, int64_t step);
CR_API cr_tensor *cr_select_scatter(cr_tensor *t, cr_tensor *source, int dim, int64_t index);

/* Joined along an existing dim, or along a new one. */
CR_API cr_tensor *cr_cat(cr_tensor *const *tensors, int count, int dim);
CR_API cr_tensor *cr_stack(cr_tensor *const *tensors, int count, int dim);
/* Parts of `size` (the last may be smaller) into parts[0 … capacity-1]; returns how many, -1 and an error on
 * failure. */
CR_API int cr_split(cr_tensor *t, int64_t size, int dim, cr_tensor **parts, int capacity);
/* Parts of these sizes, which add up to the dim's, into parts[0 … sizes.count-1]. */
CR_API int cr_split_sizes(cr_tensor *t, cr_dims sizes, int dim, cr_tensor **parts);
/* At most `chunks` parts of equal size. */
CR_API int cr_chunk(cr_tensor *t, int chunks, int dim, cr_tensor **parts, int capacity);
/* Each position of a dim. */
CR_API int cr_unbind(cr_tensor *t, int dim, cr_tensor **parts, int capacity);
CR_API cr_tensor *cr_repeat(cr_tensor *t, cr_shape times);
/* Each element of a dim `times` times in a row. */
CR_API cr_tensor *cr_repeat_interleave(cr_tensor *t, int64_t times, int dim);
/* grids[i][p0]…[pn] = tensors[i][pi], for rows of any lengths; views. */
CR_API bool cr_meshgrid(cr_tensor *const *tensors, int count, cr_tensor **grids);
CR_API cr_tensor *cr_flip(cr_tensor *t, cr_dims dims);
CR_API cr_tensor *cr_roll(cr_tensor *t, int64_t shift, int dim);
/* `value` around t: before.at[d] and after.at[d] elements for the last `count` dims; negative ones crop. */
CR_API cr_tensor *cr_pad(cr_tensor *t, cr_dims before, cr_dims after, double value);
/* The last dims continued by themselves. mode: "reflect" (without the edge), "replicate" (the edge), "circular". */
CR_API cr_tensor *cr_pad_around(cr_tensor *t, cr_dims before, cr_dims after, const char *mode);
/* Zero above (tril) or below (triu) the diagonal of the last two dims. */
CR_API cr_tensor *cr_tril(cr_tensor *t, int64_t diagonal);
CR_API cr_tensor *cr_triu(cr_tensor *t, int64_t diagonal);
