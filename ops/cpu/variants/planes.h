/* Convolutions on planes for eager calls and training steps: Winograd's F(4×4, 3×3), and small planes. */
#ifndef CRESSET_OPS_CPU_PLANES_H
#define CRESSET_OPS_CPU_PLANES_H

#include "ops/convolution.h"
#include "ops/cpu/variants/epilogue.h"

#define cr_winograd_planes CR_NAME(cr_winograd_planes)

/* y = x * w and its bias, or (`by_input`) y is the gradient by the input of what had the gradient x; `problem` is that of
 * the forward convolution, f32. Nothing is done where it does not apply or does not pay. False and an error on failure. */
bool cr_winograd_planes(const cr_convolution *problem, bool by_input, const float *x, const float *w, const float *bias,
                        float *y, bool *applies);

#define cr_convolve_features CR_NAME(cr_convolve_features)
/* As cr_winograd_planes, forward only, by products. */
bool cr_convolve_features(const cr_convolution *problem, const float *x, const float *w, const float *bias, float *y,
                          bool *applies);

#define cr_winograd_weights CR_NAME(cr_winograd_weights)
/* dw, the gradient by the weight of y = x * w; the rest as above. */
bool cr_winograd_weights(const cr_convolution *problem, const float *x, const float *dy, float *dw, bool *applies);

#define cr_pixel_weights CR_NAME(cr_pixel_weights)
/* The same for kernels of one tap. */
bool cr_pixel_weights(const cr_convolution *problem, const float *x, const float *dy, float *dw, bool *applies);

#define cr_image_lanes CR_NAME(cr_image_lanes)
/* As cr_winograd_planes, with the images of a batch as lanes, and with the epilogue (NULL: none). */
bool cr_image_lanes(const cr_convolution *problem, bool by_input, const float *x, const float *w, const float *bias,
                    const cr_epilogue *epilogue, float *y, bool *applies);

#define cr_image_lanes_weights CR_NAME(cr_image_lanes_weights)
/* As cr_winograd_weights. */
bool cr_image_lanes_weights(const cr_convolution *problem, const float *x, const float *dy, float *dw, bool *applies);

#endif
