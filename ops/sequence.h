/* What the row of a sequence and its kernel share. */
#ifndef CRESSET_OPS_SEQUENCE_H
#define CRESSET_OPS_SEQUENCE_H

#include "ops/op.h"

#include <math.h>

#define CR_CPU_DEVICE                                                                                                  \
    { 0, 0 }
#define CR_SEQUENCE_ATTRIBUTES(A, op)                                                                                  \
    A(op, DTYPE, dtype, CR_F32)                                                                                        \
    A(op, FLOAT, start, 0) A(op, FLOAT, step, 1) A(op, INT, count, 0) A(op, DEVICE, device, CR_CPU_DEVICE)
CR_OPTIONS(sequence, CR_SEQUENCE_ATTRIBUTES)

/* Whole numbers for an integer dtype are counted as integers. */
static inline bool cr_sequence_is_whole(const cr_sequence_options *o) {
    return o->start == floor(o->start) && o->step == floor(o->step) && !cr_dtype_is_floating(o->dtype);
}

#endif
