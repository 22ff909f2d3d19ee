/* Which dims a reduction takes, shared by rows and kernels. */
#ifndef CRESSET_OPS_REDUCTION_H
#define CRESSET_OPS_REDUCTION_H

#include "ops/op.h"

#include <string.h>

/* Those that take in one element after the other. */
enum { CR_FOLD_SUM, CR_FOLD_PROD, CR_FOLD_MAX, CR_FOLD_MIN, CR_FOLD_COUNT };
/* Which one an op is; -1: none. */
static inline int cr_fold_of(const cr_op *op) {
    static const char *const names[CR_FOLD_COUNT] = {"sum", "prod", "amax", "amin"};
    int kind = 0;
    while (kind < CR_FOLD_COUNT && strcmp(op->name, names[kind]) != 0)
        kind++;
    return kind < CR_FOLD_COUNT ? kind : -1;
}

/* Bit i: dim i is reduced. An empty list means all. False and an error for a dim outside, or named twice. */
static inline bool cr_reduced_dims(const cr_dims *dims, int ndim, unsigned *mask) {
    *mask = 0;
    if (dims->count == 0) *mask = (1u << ndim) - 1;
    for (int i = 0; i < dims->count; i++) {
        int dim;
        if (!cr_normalize_dim(dims->at[i], ndim, &dim)) return false;
        if (*mask >> dim & 1) return cr_fail(CR_ERROR_ARGUMENT, "dim %d is named twice", dim);
        *mask |= 1u << dim;
    }
    if (ndim == 0) *mask = 0;
    return true;
}

static inline cr_shape cr_reduced_shape(cr_shape shape, unsigned mask, bool keepdim) {
    cr_shape result = {.count = 0};
    for (int i = 0; i < shape.count; i++) {
        if (!(mask >> i & 1))
            result.at[result.count++] = shape.at[i];
        else if (keepdim)
            result.at[result.count++] = 1;
    }
    return result;
}

#endif
