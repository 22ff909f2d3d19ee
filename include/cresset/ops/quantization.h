/* Integers that stand for numbers: value = (integer - zero point) · scale. Included by <cresset/ops.h>.
 *
 * Scale and zero point are one number each (0-d, or [1]) for the whole tensor, or one for each place along dim `axis`
 * ([n]); without a zero point (NULL) it is 0. These are ONNX's QuantizeLinear and DequantizeLinear. Whole models:
 * <cresset/quantize.h>. */
#define CR_QUANTIZE_ATTRIBUTES(A, op)                                                                                  \
    A(op, INT, axis, 1)        /* may be negative; counts only where scale is a list */                                \
    A(op, DTYPE, dtype, CR_U8) /* u8, i8 or i16, where there is no zero point, which else says it */
CR_OPTIONS(quantize, CR_QUANTIZE_ATTRIBUTES)
#define CR_DEQUANTIZE_ATTRIBUTES(A, op) A(op, INT, axis, 1)
CR_OPTIONS(dequantize, CR_DEQUANTIZE_ATTRIBUTES)

/* saturate(round(x / scale) + zero point): halves are rounded to even, and what the dtype cannot hold becomes its least or
 * greatest number. Computed in f32 (f64 where scale is). zero_point NULL: 0. Carries no gradient. */
CR_API cr_tensor *cr_quantize_with(cr_tensor *input, cr_tensor *scale, cr_tensor *zero_point,
                                   const cr_quantize_options *options);
/* (q - zero point) · scale in scale's dtype, of u8, i8, i16 or i32; zero_point NULL: 0. Scale gets a gradient. */
CR_API cr_tensor *cr_dequantize_with(cr_tensor *input, cr_tensor *scale, cr_tensor *zero_point,
                                     const cr_dequantize_options *options);
#ifndef __cplusplus
#define CR_QUANTIZE_SPLIT_(zero, ...)    zero, CR_WITH(quantize, CR_QUANTIZE_ATTRIBUTES, __VA_ARGS__)
#define CR_DEQUANTIZE_SPLIT_(zero, ...)  zero, CR_WITH(dequantize, CR_DEQUANTIZE_ATTRIBUTES, __VA_ARGS__)
#define cr_quantize(input, scale, ...)   cr_quantize_with(input, scale, CR_QUANTIZE_SPLIT_(__VA_ARGS__, ))
#define cr_dequantize(input, scale, ...) cr_dequantize_with(input, scale, CR_DEQUANTIZE_SPLIT_(__VA_ARGS__, ))
#endif
