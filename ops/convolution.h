/* One convolution problem in a canonical form, shared by the rows (ops/convolution.c) and the kernels. */
#ifndef CRESSET_OPS_CONVOLUTION_H
#define CRESSET_OPS_CONVOLUTION_H

#include "ops/op.h"

enum { CR_SPATIAL_DIMS = 3 };

/* y = x * w, with x [batch, groups·channels, in…], w [groups·features, channels, kernel…] and
 * y [batch, groups·features, out…]. A transposed convolution is the same problem with its input as y and its output as
 * x. Fewer than three spatial dims: ones in front. */
typedef struct cr_convolution {
    int64_t batch, groups, channels, features;
    int64_t in[CR_SPATIAL_DIMS], out[CR_SPATIAL_DIMS], kernel[CR_SPATIAL_DIMS];
    int64_t stride[CR_SPATIAL_DIMS], padding[CR_SPATIAL_DIMS], dilation[CR_SPATIAL_DIMS];
} cr_convolution;

/* The problem behind a checked call: x, w and y in their shapes; the options that all three rows begin with. */
cr_convolution cr_convolution_describe(cr_shape x, cr_shape w, cr_shape y, const cr_convolution_options *options);
/* The i-th number of a per-dim list: an empty list is `standard` everywhere, one number counts for all dims. */
static inline int64_t cr_spatial_setting(const cr_dims *list, int i, int64_t standard) {
    return list->count == 0 ? standard : list->at[list->count == 1 ? 0 : i];
}
/* The result's shape for an input and a weight of these shapes; checks everything that a shape can get wrong. */
bool cr_convolution_output(const cr_call *call, const cr_convolution_options *options, cr_shape input, cr_shape weight,
                           cr_shape *output);
/* Arithmetic between the sides of a convolution: each element of y is a sum over channels and kernel; positions in the
 * padding count as well. */
static inline double cr_convolution_flops(const cr_tensor *y, cr_shape weight) {
    double flops = 2 * (double)y->numel;
    for (int i = 1; i < weight.count; i++)
        flops *= (double)weight.at[i];
    return flops;
}
/* The list form of a setting that was given as one number and perhaps as a list. */
static inline cr_dims cr_spatial_list(int64_t number, cr_dims list) { return list.count ? list : CR_DIMS(number); }
/* False and an error unless the list has 0, 1 or `spatial` numbers, each within minimum … 2^31-1. */
bool cr_spatial_check(const cr_call *call, const cr_dims *list, const char *name, int spatial, int64_t minimum);

static inline int64_t cr_product3(const int64_t sizes[CR_SPATIAL_DIMS]) { return sizes[0] * sizes[1] * sizes[2]; }

#endif
