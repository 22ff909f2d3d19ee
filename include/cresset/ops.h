/* Cresset ops: functions on tensors.
 *
 * Every function returns a new tensor owned by the innermost scope, or NULL with an error recorded; a NULL operand
 * gives NULL. Sizes broadcast and dtypes promote as in PyTorch. Optional arguments are named: cr_sum(x, .dims =
 * CR_DIMS(1), .keepdim = true); the plain function behind such a macro ends in _with and takes a struct (NULL: all
 * defaults). A name that ends in _ works in place and returns its first argument. */
#ifndef CRESSET_OPS_H
#define CRESSET_OPS_H

#include <cresset/core.h>

#ifdef __cplusplus
extern "C" {
#endif

/* An options struct from a list LIST(A, op) of A(op, KIND, name, default); the list is also the op's row of attributes.
 * CR_WITH(sum, CR_SUM_ATTRIBUTES, .keepdim = true) is the address of one: the defaults, then what the caller names. */
#define CR_TYPE_INT                      int64_t
#define CR_TYPE_FLOAT                    double
#define CR_TYPE_BOOL                     bool
#define CR_TYPE_DTYPE                    cr_dtype
#define CR_TYPE_DEVICE                   cr_device
#define CR_TYPE_DIMS                     cr_dims
#define CR_TYPE_TEXT                     const char *
#define CR_TYPE_GENERATOR                cr_generator *
#define CR_FIELD_(op, kind, name, ...)   CR_TYPE_##kind name;
#define CR_DEFAULT_(op, kind, name, ...) .name = __VA_ARGS__,
#define CR_OPTIONS(op, LIST)                                                                                           \
    typedef struct cr_##op##_options {                                                                                 \
        size_t size;                                                                                                   \
        LIST(CR_FIELD_, op)                                                                                            \
    } cr_##op##_options;
#define CR_WITH(op, LIST, ...)                                                                                         \
    (&(cr_##op##_options){.size = sizeof(cr_##op##_options), LIST(CR_DEFAULT_, op) __VA_ARGS__})

#include <cresset/ops/call.h>
#include <cresset/ops/creation.h>
#include <cresset/ops/pointwise.h>
#include <cresset/ops/shape.h>
#include <cresset/ops/reduction.h>
#include <cresset/ops/indexing.h>
#include <cresset/ops/contraction.h>
#include <cresset/ops/convolution.h>
#include <cresset/ops/normalization.h>
#include <cresset/ops/recurrent.h>
#include <cresset/ops/loss.h>
#include <cresset/ops/random.h>
#include <cresset/ops/update.h>
#include <cresset/ops/quantization.h>

#ifdef __cplusplus
}
#endif
#endif
