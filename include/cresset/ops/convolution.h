/* Convolution and pooling. Included by <cresset/ops.h>. */

/* Settings for each spatial dim come as one number for all of them (.stride = 2) or, where they differ, as a list
 * (.strides = CR_DIMS(2, 1)), which wins. Inputs are [N, C, spatial…] or, without a batch, [C, spatial…]; f16 and bf16
 * are computed in f32. A channels-last input gives a channels-last result. */

/* ---------------------------------------------------------------- convolution */
#define CR_CONV_ATTRIBUTES(A, op)                                                                                      \
    A(op, INT, stride, 1)                                                                                              \
    A(op, INT, padding, 0)                                                                                             \
    A(op, INT, dilation, 1)                                                                                            \
    A(op, INT, groups, 1)                                                                                              \
    A(op, INT, output_padding, 0)                                                                                      \
    A(op, DIMS, strides, CR_ALL_DIMS)                                                                                  \
    A(op, DIMS, paddings, CR_ALL_DIMS)                                                                                 \
    A(op, DIMS, dilations, CR_ALL_DIMS)                                                                                \
    A(op, DIMS, output_paddings, CR_ALL_DIMS)
CR_OPTIONS(conv, CR_CONV_ATTRIBUTES)

/* Cross-correlation: input [N, C, in…], weight [K, C/groups, kernel…], bias [K] or NULL -> [N, K, out…],
 *   out = (in + 2 padding - dilation (kernel - 1) - 1) / stride + 1, rounded down. */
CR_API cr_tensor *cr_conv1d_with(cr_tensor *input, cr_tensor *weight, cr_tensor *bias, const cr_conv_options *options);
CR_API cr_tensor *cr_conv2d_with(cr_tensor *input, cr_tensor *weight, cr_tensor *bias, const cr_conv_options *options);
CR_API cr_tensor *cr_conv3d_with(cr_tensor *input, cr_tensor *weight, cr_tensor *bias, const cr_conv_options *options);
/* The gradient of a convolution by its input, as an op: input [N, C, in…], weight [C, K/groups, kernel…], bias [K] or
 * NULL -> [N, K, out…],
 *   out = (in - 1) stride - 2 padding + dilation (kernel - 1) + output_padding + 1. */
CR_API cr_tensor *cr_conv_transpose1d_with(cr_tensor *input, cr_tensor *weight, cr_tensor *bias,
                                           const cr_conv_options *options);
CR_API cr_tensor *cr_conv_transpose2d_with(cr_tensor *input, cr_tensor *weight, cr_tensor *bias,
                                           const cr_conv_options *options);
CR_API cr_tensor *cr_conv_transpose3d_with(cr_tensor *input, cr_tensor *weight, cr_tensor *bias,
                                           const cr_conv_options *options);
#ifndef __cplusplus
#define CR_CONV_SPLIT_(bias, ...)               bias, CR_WITH(conv, CR_CONV_ATTRIBUTES, __VA_ARGS__) /* `bias` is always given */
#define cr_conv1d(input, weight, ...)           cr_conv1d_with(input, weight, CR_CONV_SPLIT_(__VA_ARGS__, ))
#define cr_conv2d(input, weight, ...)           cr_conv2d_with(input, weight, CR_CONV_SPLIT_(__VA_ARGS__, ))
#define cr_conv3d(input, weight, ...)           cr_conv3d_with(input, weight, CR_CONV_SPLIT_(__VA_ARGS__, ))
#define cr_conv_transpose1d(input, weight, ...) cr_conv_transpose1d_with(input, weight, CR_CONV_SPLIT_(__VA_ARGS__, ))
#define cr_conv_transpose2d(input, weight, ...) cr_conv_transpose2d_with(input, weight, CR_CONV_SPLIT_(__VA_ARGS__, ))
#define cr_conv_transpose3d(input, weight, ...) cr_conv_transpose3d_with(input, weight, CR_CONV_SPLIT_(__VA_ARGS__, ))
#endif

/* The row behind all of them, and its two gradients, each linear in both operands: the gradients of these three ops are
 * these three ops. A list of one number counts for all spatial dims, an empty one is the default (1 or 0). */
#define CR_CONVOLUTION_ATTRIBUTES(A, op)                                                                               \
    A(op, DIMS, strides, CR_ALL_DIMS)                                                                                  \
    A(op, DIMS, paddings, CR_ALL_DIMS)                                                                                 \
    A(op, DIMS, dilations, CR_ALL_DIMS)                                                                                \
    A(op, DIMS, output_paddings, CR_ALL_DIMS)                                                                          \
    A(op, INT, groups, 1)                                                                                              \
    A(op, BOOL, transposed, false)
CR_OPTIONS(convolution, CR_CONVOLUTION_ATTRIBUTES)
/* `sizes`: the shape of what is asked for: of the input, or of the weight. */
#define CR_CONVOLUTION_GRAD_ATTRIBUTES(A, op) CR_CONVOLUTION_ATTRIBUTES(A, op) A(op, DIMS, sizes, CR_ALL_DIMS)
CR_OPTIONS(convolution_grad, CR_CONVOLUTION_GRAD_ATTRIBUTES)

/* The convolution itself; what an input's gradient is, given the result's; and a weight's. */
CR_API cr_tensor *cr_convolution_with(cr_tensor *input, cr_tensor *weight, cr_tensor *bias,
                                      const cr_convolution_options *options);
CR_API cr_tensor *cr_convolution_grad_input_with(cr_tensor *grad, cr_tensor *weight,
                                                 const cr_convolution_grad_options *options);
CR_API cr_tensor *cr_convolution_grad_weight_with(cr_tensor *grad, cr_tensor *input,
                                                  const cr_convolution_grad_options *options);

/* ---------------------------------------------------------------- pooling */
#define CR_POOL_ATTRIBUTES(A, op)                                                                                      \
    A(op, INT, stride, 0)                  /* 0: the kernel's size */                                                  \
    A(op, INT, padding, 0)                 /* at most half the kernel */                                               \
    A(op, INT, dilation, 1)                /* max_pool only */                                                         \
    A(op, BOOL, ceil_mode, false)          /* round the result's size up */                                            \
    A(op, BOOL, count_include_pad, true)   /* avg_pool: padding counts as zeros of the mean */                         \
    A(op, INT, divisor_override, 0)        /* avg_pool: divide by this; 0: by the window's size */                     \
    A(op, DIMS, kernel_sizes, CR_ALL_DIMS) /* where they differ by dim; the kernel argument is then ignored */         \
    A(op, DIMS, strides, CR_ALL_DIMS)                                                                                  \
    A(op, DIMS, paddings, CR_ALL_DIMS)                                                                                 \
    A(op, DIMS, dilations, CR_ALL_DIMS)
CR_OPTIONS(pool, CR_POOL_ATTRIBUTES)

/* The greatest value of each window (NaN where it holds one); windows step by `stride`:
 *   out = (in + 2 padding - dilation (kernel - 1) - 1) / stride + 1,
 * rounded down, or up with .ceil_mode as long as the last window begins inside the input or its padding in front. */
CR_API cr_tensor *cr_max_pool1d_with(cr_tensor *input, int64_t kernel, const cr_pool_options *options);
CR_API cr_tensor *cr_max_pool2d_with(cr_tensor *input, int64_t kernel, const cr_pool_options *options);
CR_API cr_tensor *cr_max_pool3d_with(cr_tensor *input, int64_t kernel, const cr_pool_options *options);
/* The same for any number of spatial dims (1 to 3), with each value's position in its channel's flattened input
 * (i64). */
CR_API bool cr_max_pool_with_indices(cr_tensor *input, int spatial, int64_t kernel, const cr_pool_options *options,
                                     cr_tensor **values, cr_tensor **indices);
/* The mean of each window. */
CR_API cr_tensor *cr_avg_pool1d_with(cr_tensor *input, int64_t kernel, const cr_pool_options *options);
CR_API cr_tensor *cr_avg_pool2d_with(cr_tensor *input, int64_t kernel, const cr_pool_options *options);
CR_API cr_tensor *cr_avg_pool3d_with(cr_tensor *input, int64_t kernel, const cr_pool_options *options);
/* Pooling to a given size: the windows share the input out, window o is floor(o in/out) … ceil((o+1) in/out) - 1.
 * `sizes` has a number for each spatial dim, which fixes how many there are; -1 keeps a dim's size. */
CR_API cr_tensor *cr_adaptive_avg_pool(cr_tensor *input, cr_dims sizes);
CR_API cr_tensor *cr_adaptive_max_pool(cr_tensor *input, cr_dims sizes);
#define cr_adaptive_avg_pool1d(input, size)                 cr_adaptive_avg_pool(input, CR_DIMS(size))
#define cr_adaptive_avg_pool2d(input, height, width)        cr_adaptive_avg_pool(input, CR_DIMS(height, width))
#define cr_adaptive_avg_pool3d(input, depth, height, width) cr_adaptive_avg_pool(input, CR_DIMS(depth, height, width))
#define cr_adaptive_max_pool1d(input, size)                 cr_adaptive_max_pool(input, CR_DIMS(size))
#define cr_adaptive_max_pool2d(input, height, width)        cr_adaptive_max_pool(input, CR_DIMS(height, width))
#define cr_adaptive_max_pool3d(input, depth, height, width) cr_adaptive_max_pool(input, CR_DIMS(depth, height, width))
#ifndef __cplusplus
#define CR_POOL_SPLIT_(kernel, ...)                                                                                    \
    kernel, CR_WITH(pool, CR_POOL_ATTRIBUTES, __VA_ARGS__) /* `kernel` is always given */
#define cr_max_pool1d(input, ...) cr_max_pool1d_with(input, CR_POOL_SPLIT_(__VA_ARGS__, ))
#define cr_max_pool2d(input, ...) cr_max_pool2d_with(input, CR_POOL_SPLIT_(__VA_ARGS__, ))
#define cr_max_pool3d(input, ...) cr_max_pool3d_with(input, CR_POOL_SPLIT_(__VA_ARGS__, ))
#define cr_avg_pool1d(input, ...) cr_avg_pool1d_with(input, CR_POOL_SPLIT_(__VA_ARGS__, ))
#define cr_avg_pool2d(input, ...) cr_avg_pool2d_with(input, CR_POOL_SPLIT_(__VA_ARGS__, ))
#define cr_avg_pool3d(input, ...) cr_avg_pool3d_with(input, CR_POOL_SPLIT_(__VA_ARGS__, ))
#endif

/* The rows behind them. Indices are positions in a channel's flattened spatial dims, in max_pool_grad checked against
 * them. */
#define CR_MAX_POOL_ATTRIBUTES(A, op)                                                                                  \
    A(op, DIMS, kernel_sizes, CR_ALL_DIMS) /* one number for each spatial dim */                                       \
    A(op, DIMS, strides, CR_ALL_DIMS)      /* empty: the kernel's */                                                   \
    A(op, DIMS, paddings, CR_ALL_DIMS)                                                                                 \
    A(op, DIMS, dilations, CR_ALL_DIMS)                                                                                \
    A(op, BOOL, ceil_mode, false)
CR_OPTIONS(max_pool, CR_MAX_POOL_ATTRIBUTES)
#define CR_AVG_POOL_ATTRIBUTES(A, op)                                                                                  \
    A(op, DIMS, kernel_sizes, CR_ALL_DIMS)                                                                             \
    A(op, DIMS, strides, CR_ALL_DIMS)                                                                                  \
    A(op, DIMS, paddings, CR_ALL_DIMS)                                                                                 \
    A(op, BOOL, ceil_mode, false)                                                                                      \
    A(op, BOOL, count_include_pad, true)                                                                               \
    A(op, INT, divisor_override, 0)
CR_OPTIONS(avg_pool, CR_AVG_POOL_ATTRIBUTES)
#define CR_AVG_POOL_GRAD_ATTRIBUTES(A, op) CR_AVG_POOL_ATTRIBUTES(A, op) A(op, DIMS, sizes, CR_ALL_DIMS)
CR_OPTIONS(avg_pool_grad, CR_AVG_POOL_GRAD_ATTRIBUTES)
/* The output's spatial sizes. */
#define CR_ADAPTIVE_POOL_ATTRIBUTES(A, op) A(op, DIMS, sizes, CR_ALL_DIMS)
CR_OPTIONS(adaptive_pool, CR_ADAPTIVE_POOL_ATTRIBUTES)
/* The shape of the pool's input, and how many of its last dims are spatial. */
#define CR_POOL_GRAD_ATTRIBUTES(A, op) A(op, DIMS, sizes, CR_ALL_DIMS) A(op, INT, spatial, 2)
CR_OPTIONS(pool_grad, CR_POOL_GRAD_ATTRIBUTES)
