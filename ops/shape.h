/* Attributes of the shape ops that rows and kernels share. */
#ifndef CRESSET_OPS_SHAPE_H
#define CRESSET_OPS_SHAPE_H

#include "ops/op.h"

#define CR_FLIP_ATTRIBUTES(A, op) A(op, DIMS, dims, {0, {0}})
CR_OPTIONS(flip, CR_FLIP_ATTRIBUTES)
#define CR_TRIANGLE_ATTRIBUTES(A, op) A(op, INT, diagonal, 0)
CR_OPTIONS(triangle, CR_TRIANGLE_ATTRIBUTES)

#endif
