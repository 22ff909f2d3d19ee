/* Convolution and pooling. Included by <cresset/ops.h>. */

/* Settings for each spatial dim come as one number for all of them (.stride = 2) or, where they differ, as a list
 * (.strides = CR_DIMS(2, 1)), which wins. Inputs are [N, C, spatial…] or, without a batch, [C, spatial…]; f16 and bf16 are
 * computed in f32. A channels-last input gives a channels-last result. */

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
CR_API cr_tensor *cr_conv_transpose1d_with(cr_tensor *input, cr_tensor *weight, cr_tensor *bias, const cr_conv_options *options);
CR_API cr_tensor *cr_conv_transpose2d_with(cr_tensor *input, cr_tensor *weight, cr_tensor *bias, const cr_conv_options *options);
CR_API cr_tensor *cr_conv_transpose3d_with(cr_tensor *input, cr_tensor *weight, cr_tensor *bias, const cr_conv_options *options);
#ifndef __cplusplus
#define CR_CONV_WITH_(...) CR_WITH(conv, CR_CONV_ATTRIBUTES, __VA_ARGS__)
#define cr_conv1d(input, weight, bias, ...) cr_conv1d_with(input, weight, bias, CR_CONV_WITH_(__VA_ARGS__))
#define cr_conv2d(input, weight, bias, ...) cr_conv2d_with(input, weight, bias, CR_CONV_WITH_(__VA_ARGS__))
#define cr_conv3d(input, weight, bias, ...) cr_conv3d_with(input, weight, bias, CR_CONV_WITH_(__VA_ARGS__))
#define cr_conv_transpose1d(input, weight, bias, ...) cr_conv_transpose1d_with(input, weight, bias, CR_CONV_WITH_(__VA_ARGS__))
#define cr_conv_transpose2d(input, weight, bias, ...) cr_conv_transpose2d_with(input, weight, bias, CR_CONV_WITH_(__VA_ARGS__))
#define cr_conv_transpose3d(input, weight, bias, ...) cr_conv_transpose3d_with(input, weight, bias, CR_CONV_WITH_(__VA_ARGS__))
#endif

/* The row behind all of them, and its two gradients, each linear in both operands: the gradients of these three ops are these
 * three ops. A list of one number counts for all spatial dims, an empty one is the default (1 or 0). */
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

CR_API cr_tensor *cr_convolution_with(cr_tensor *input, cr_tensor *weight, cr_tensor *bias, const cr_convolution_options *options);
CR_API cr_tensor *cr_convolution_grad_input_with(cr_tensor *grad, cr_tensor *weight, const cr_convolution_grad_options *options);
CR_API cr_tensor *cr_convolution_grad_weight_with(cr_tensor *grad, cr_tensor *input, const cr_convolution_grad_options *options);
