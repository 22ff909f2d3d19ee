/* Options of rows that creation.c and the devices' kernels share. */
#ifndef CRESSET_OPS_CREATION_H
#define CRESSET_OPS_CREATION_H

#include "ops/op.h"

#define FULL_ATTRIBUTES(A, op)                                                                                         \
    A(op, DTYPE, dtype, CR_F32) A(op, DIMS, shape, CR_SHAPE_0D) A(op, FLOAT, value, 0) A(op, DEVICE, device, CR_CPU)
CR_OPTIONS(full, FULL_ATTRIBUTES)

#endif
