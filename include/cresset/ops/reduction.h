/* Reductions: over the named dims (none named: all), which go, or stay with size 1 under .keepdim. Included by
 * <cresset/ops.h>. f32 sums are added in blocks and then in f64: their error does not grow with the length, and does
 * not depend on threads. */

#define CR_SUM_ATTRIBUTES(A, op)                                                                                       \
    A(op, DIMS, dims, {0, {0}}) A(op, BOOL, keepdim, false) A(op, DTYPE, dtype, CR_DTYPE_DEFAULT)
CR_OPTIONS(sum, CR_SUM_ATTRIBUTES)
/* Integers and bool are summed (and multiplied) in i64. .dtype: the result's. */
CR_API cr_tensor *cr_sum_with(cr_tensor *x, const cr_sum_options *options);
CR_API cr_tensor *cr_mean_with(cr_tensor *x, const cr_sum_options *options);
CR_API cr_tensor *cr_prod_with(cr_tensor *x, const cr_sum_options *options);

#define CR_REDUCE_ATTRIBUTES(A, op) A(op, DIMS, dims, {0, {0}}) A(op, BOOL, keepdim, false)
CR_OPTIONS(reduce, CR_REDUCE_ATTRIBUTES)
/* The largest and smallest elements. NaN wins. The gradient is shared evenly among equal ones. */
CR_API cr_tensor *cr_amax_with(cr_tensor *x, const cr_reduce_options *options);
CR_API cr_tensor *cr_amin_with(cr_tensor *x, const cr_reduce_options *options);
/* bool: any element, or all of them, other than 0. */
CR_API cr_tensor *cr_any_with(cr_tensor *x, const cr_reduce_options *options);
CR_API cr_tensor *cr_all_with(cr_tensor *x, const cr_reduce_options *options);
/* log Σ e^x, computed from the largest element down. */
CR_API cr_tensor *cr_logsumexp_with(cr_tensor *x, const cr_reduce_options *options);

/* Largest and smallest along one dim, and where (i64; the first of equal ones). indices may be NULL. */
CR_API cr_tensor *cr_max(cr_tensor *x, int dim, bool keepdim, cr_tensor **indices);
CR_API cr_tensor *cr_min(cr_tensor *x, int dim, bool keepdim, cr_tensor **indices);
/* Where alone. CR_ALL: in the flattened tensor. */
#define CR_ALL INT32_MIN
CR_API cr_tensor *cr_argmax(cr_tensor *x, int dim, bool keepdim);
CR_API cr_tensor *cr_argmin(cr_tensor *x, int dim, bool keepdim);

#define CR_VAR_ATTRIBUTES(A, op) A(op, DIMS, dims, {0, {0}}) A(op, BOOL, keepdim, false) A(op, INT, correction, 1)
CR_OPTIONS(var, CR_VAR_ATTRIBUTES)
/* Σ (x - mean)² / (n - correction), and its root. */
CR_API cr_tensor *cr_var_with(cr_tensor *x, const cr_var_options *options);
CR_API cr_tensor *cr_std_with(cr_tensor *x, const cr_var_options *options);

#define CR_NORM_ATTRIBUTES(A, op) A(op, FLOAT, p, 2) A(op, DIMS, dims, {0, {0}}) A(op, BOOL, keepdim, false)
CR_OPTIONS(norm, CR_NORM_ATTRIBUTES)
/* (Σ |x|^p)^(1/p); p may be ±INFINITY, and 0 counts what is not 0. */
CR_API cr_tensor *cr_norm_with(cr_tensor *x, const cr_norm_options *options);

/* Running sums and products along a dim. */
CR_API cr_tensor *cr_cumsum(cr_tensor *x, int dim);
CR_API cr_tensor *cr_cumprod(cr_tensor *x, int dim);

#ifndef __cplusplus
#define cr_sum(x, ...)       cr_sum_with(x, CR_WITH(sum, CR_SUM_ATTRIBUTES, __VA_ARGS__))
#define cr_mean(x, ...)      cr_mean_with(x, CR_WITH(sum, CR_SUM_ATTRIBUTES, __VA_ARGS__))
#define cr_prod(x, ...)      cr_prod_with(x, CR_WITH(sum, CR_SUM_ATTRIBUTES, __VA_ARGS__))
#define cr_amax(x, ...)      cr_amax_with(x, CR_WITH(reduce, CR_REDUCE_ATTRIBUTES, __VA_ARGS__))
#define cr_amin(x, ...)      cr_amin_with(x, CR_WITH(reduce, CR_REDUCE_ATTRIBUTES, __VA_ARGS__))
#define cr_any(x, ...)       cr_any_with(x, CR_WITH(reduce, CR_REDUCE_ATTRIBUTES, __VA_ARGS__))
#define cr_all(x, ...)       cr_all_with(x, CR_WITH(reduce, CR_REDUCE_ATTRIBUTES, __VA_ARGS__))
#define cr_logsumexp(x, ...) cr_logsumexp_with(x, CR_WITH(reduce, CR_REDUCE_ATTRIBUTES, __VA_ARGS__))
#define cr_var(x, ...)       cr_var_with(x, CR_WITH(var, CR_VAR_ATTRIBUTES, __VA_ARGS__))
#define cr_std(x, ...)       cr_std_with(x, CR_WITH(var, CR_VAR_ATTRIBUTES, __VA_ARGS__))
#define cr_norm(x, ...)      cr_norm_with(x, CR_WITH(norm, CR_NORM_ATTRIBUTES, __VA_ARGS__))
#endif
