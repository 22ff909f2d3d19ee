/* Layers of integers, which jit/passes/quantized.c makes of dequantize, a layer, and quantize. Images lie channels-last.
 *
 *     acc[k]  = bias[k] + sum over taps and channels of x · w[k]      (i32; the padding holds input_zero, and bias[k] holds
 *                                                                      - input_zero · the sum of w[k] as well)
 *     v       = f32(acc) · scale[k] [+ f32(r - residual_zero) · residual_scale]
 *     y       = v in f32, or clamp(round(v) + output_zero, least, most) in u8
 *
 * Each step is exact or rounded as said, so that every processor gives the same bits. */
#ifndef CRESSET_OPS_INTEGER_H
#define CRESSET_OPS_INTEGER_H

#include "ops/convolution.h"

/* How a layer is computed; the weight is packed for it. */
typedef enum cr_integer_way {
    CR_INTEGER_DIRECT,
    CR_INTEGER_EACH, /* each channel for itself */
    CR_INTEGER_WINOGRAD,
    CR_INTEGER_BYTES, /* directly or each for itself, by products of bytes: where the processor has them */
    CR_INTEGER_WAYS
} cr_integer_way;

#define CR_INTEGER_LAYER_ATTRIBUTES(A, op)                                                                             \
    CR_CONVOLUTION_ATTRIBUTES(A, op)                                                                                   \
    A(op, DIMS, weight, CR_ALL_DIMS) /* its shape before it was packed; two dims: a linear layer */                    \
    A(op, INT, way, 0)                                                                                                 \
    A(op, INT, input_zero, 0)                                                                                          \
    A(op, INT, residual_zero, 0)                                                                                       \
    A(op, FLOAT, residual_scale, 0)                                                                                    \
    A(op, BOOL, is_floating, false) /* the result is f32 */                                                            \
    A(op, INT, output_zero, 0)                                                                                         \
    A(op, INT, least, 0)                                                                                               \
    A(op, INT, most, 255)
CR_OPTIONS(integer_layer, CR_INTEGER_LAYER_ATTRIBUTES)

#define CR_PACK_INTEGER_ATTRIBUTES(A, op) A(op, INT, way, 0)
CR_OPTIONS(pack_integer, CR_PACK_INTEGER_ATTRIBUTES)

/* A maximum, or a mean: clamp(round((sum - taps · input_zero) · scale) + output_zero) with taps in `scale`. */
#define CR_INTEGER_POOL_ATTRIBUTES(A, op)                                                                              \
    CR_MAX_POOL_ATTRIBUTES(A, op)                                                                                      \
    A(op, BOOL, is_mean, false) A(op, FLOAT, scale, 1) A(op, INT, input_zero, 0) A(op, INT, output_zero, 0)
CR_OPTIONS(integer_pool, CR_INTEGER_POOL_ATTRIBUTES)

/* Output channels that a kernel of this processor makes at once; packed weights have a multiple of it. */
int cr_integer_columns(void);
/* Whether this processor multiplies u8 by i8 exactly, four at a time (VNNI). */
bool cr_integer_has_bytes(void);
/* Numbers of a position's taps that a direct way multiplies: [kernel height][kernel width][channels] up to pairs of i16, or
 * each line of the kernel up to fours of i8. */
int64_t cr_integer_depth(cr_shape weight, int way);
/* Numbers of a packed weight; 0 where that way cannot be gone. */
int64_t cr_packed_integer(cr_shape weight, int way);
/* Taps of a layer of each channel for itself, at most. */
enum { CR_INTEGER_TAPS = 49 };
/* Winograd's F(4x4, 3x3) in integers: see ops/cpu/variants/integer_winograd.h. */
enum { CR_INTEGER_TILE = 36 };
/* The fastest way for this problem and weight [K, C/groups, kernel…]; -1: none. */
int cr_integer_way_for(const cr_convolution *problem, const cr_tensor *weight);

#endif
