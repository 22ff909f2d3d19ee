/* Layers on tensors of [batch, height, width, channels], which the JIT makes of those that inference spends its time in:
 * the channels of a pixel lie side by side, so that every kernel reads and writes whole vectors. */
#ifndef CRESSET_OPS_CHANNELS_LAST_H
#define CRESSET_OPS_CHANNELS_LAST_H

#include "ops/convolution.h"

/* [n, h, w, c] as [n, c, h, w], and back. */
static inline cr_shape cr_to_channels_first(cr_shape s) { return CR_SHAPE(s.at[0], s.at[3], s.at[1], s.at[2]); }
static inline cr_shape cr_to_channels_last(cr_shape s) { return CR_SHAPE(s.at[0], s.at[2], s.at[3], s.at[1]); }

/* Dense, or one input and one output channel in each group: what the kernels are made for. */
static inline bool cr_channels_last_takes(cr_shape weight, int64_t groups) {
    return weight.count == 4 && weight.at[1] > 0 && (groups == 1 || (weight.at[1] == 1 && weight.at[0] == groups));
}

/* Elements of the packed weight, as this processor's kernels want it for that problem. */
int64_t cr_packed_channels_last(const cr_convolution *problem);

#endif
