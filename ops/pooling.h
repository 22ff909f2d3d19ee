/* A pooling problem in a canonical form, shared by the rows (ops/pooling.c) and the kernels. */
#ifndef CRESSET_OPS_POOLING_H
#define CRESSET_OPS_POOLING_H

#include "ops/convolution.h"

/* [batch, channels, in…] -> [batch, channels, out…]; fewer than three spatial dims: ones in front. */
typedef struct cr_pooling {
    int64_t batch, channels;
    int64_t in[CR_SPATIAL_DIMS], out[CR_SPATIAL_DIMS];
    int64_t kernel[CR_SPATIAL_DIMS], stride[CR_SPATIAL_DIMS], padding[CR_SPATIAL_DIMS], dilation[CR_SPATIAL_DIMS];
    bool adaptive; /* windows share the input out; kernel and the rest are unused */
    bool count_include_pad;
    int64_t divisor_override;
} cr_pooling;

/* One window in one dim: positions begin, begin + dilation, … below end, all inside the input; `extent` counts the
 * positions that a mean divides by. */
typedef struct cr_window {
    int64_t begin, end, extent;
} cr_window;

static inline cr_window cr_pool_window(const cr_pooling *p, int d, int64_t o) {
    const int64_t in = p->in[d], out = p->out[d];
    if (p->adaptive) {
        const int64_t begin = o * in / out, end = ((o + 1) * in + out - 1) / out;
        return (cr_window){begin, end, end - begin};
    }
    int64_t begin = o * p->stride[d] - p->padding[d], end = begin + (p->kernel[d] - 1) * p->dilation[d] + 1;
    const int64_t limit = in + p->padding[d], padded = (end < limit ? end : limit) - begin;
    if (begin < 0) begin += (-begin + p->dilation[d] - 1) / p->dilation[d] * p->dilation[d];
    if (end > in) end = in;
    return (cr_window){begin, end, p->count_include_pad ? padded : end - begin};
}

/* The problem of a checked call between these shapes. `options`: cr_max_pool_options, cr_avg_pool_options, or NULL:
 * adaptive. */
cr_pooling cr_pool_describe(cr_shape input, cr_shape output, int spatial, const cr_max_pool_options *max,
                            const cr_avg_pool_options *avg);

/* The shapes of results; all that a pool's sizes can get wrong is an error of the call. A maximum is of any dtype. */
bool cr_max_pool_output(const cr_call *call, const cr_max_pool_options *options, cr_shape input, cr_shape *output);
bool cr_avg_pool_output(const cr_call *call, const cr_avg_pool_options *options, cr_shape input, cr_shape *output);

#endif
