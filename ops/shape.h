/* Attributes of the shape ops that rows and kernels share. */
#ifndef CRESSET_OPS_SHAPE_H
#define CRESSET_OPS_SHAPE_H

#include "ops/op.h"

#define CR_FLIP_ATTRIBUTES(A, op) A(op, DIMS, dims, {0, {0}})
CR_OPTIONS(flip, CR_FLIP_ATTRIBUTES)
#define CR_TRIANGLE_ATTRIBUTES(A, op) A(op, INT, diagonal, 0)
CR_OPTIONS(triangle, CR_TRIANGLE_ATTRIBUTES)

#define CR_AS_STRIDED_ATTRIBUTES(A, op)                                                                                \
    A(op, DIMS, shape, {0, {0}}) A(op, DIMS, strides, {0, {0}}) A(op, INT, offset, 0)
CR_OPTIONS(as_strided, CR_AS_STRIDED_ATTRIBUTES)

/* cat's operands side by side in `out`, which has the size of its result. */
bool cr_cat_into(const cr_call *call, cr_tensor *out);

#endif
