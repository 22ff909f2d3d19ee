/* What the table knows of a pointwise op beyond its row. */
#ifndef CRESSET_OPS_POINTWISE_H
#define CRESSET_OPS_POINTWISE_H

#include "ops/op.h"

typedef enum cr_pointwise_class {
    CR_CLASS_ANY,
    CR_CLASS_REAL,
    CR_CLASS_INTEGER,
    CR_CLASS_SIGNED,
    CR_CLASS_COMPARE,
    CR_CLASS_MASK_A,
    CR_CLASS_MASK_B
} cr_pointwise_class;

struct cr_pointwise_info {
    int index; /* place in pointwise.def */
    cr_pointwise_class class;
    int operands;
    const char *expression; /* C over a, b, c and the attributes' names, in the words of ops/math.h */
};

/* Attributes of every pointwise op; the row names the two numbers. */
typedef struct cr_pointwise_attributes {
    size_t size;
    double value[2];
} cr_pointwise_attributes;

/* CR_POINTWISE_INDEX_add, … in the order of the file. */
enum {
#define CR_POINTWISE_1(name, ...) CR_POINTWISE_INDEX_##name,
#define CR_POINTWISE_1_P          CR_POINTWISE_1
#define CR_POINTWISE_1_PQ         CR_POINTWISE_1
#define CR_POINTWISE_2            CR_POINTWISE_1
#define CR_POINTWISE_2_P          CR_POINTWISE_1
#define CR_POINTWISE_2_PQ         CR_POINTWISE_1
#define CR_POINTWISE_3            CR_POINTWISE_1
#define CR_POINTWISE_3_P          CR_POINTWISE_1
#include <cresset/pointwise.def>
#include <cresset/pointwise_undef.h>
    CR_POINTWISE_COUNT
};

/* The type that expressions are computed in: f32 (also for f16 and bf16), f64, or i64 (all integers and bool). */
typedef enum cr_compute { CR_COMPUTE_F32, CR_COMPUTE_F64, CR_COMPUTE_I64, CR_COMPUTE_COUNT } cr_compute;
static inline cr_compute cr_compute_of(cr_dtype dtype) {
    return dtype == CR_F64 ? CR_COMPUTE_F64 : dtype >= CR_F16 ? CR_COMPUTE_F32 : CR_COMPUTE_I64;
}

/* The dtype that a call's operands promote to (before REAL's rule for integers). */
cr_dtype cr_pointwise_promote(const cr_call *call);

/* Whether a pointwise result of this shape is laid out channels-last, by its operands. */
bool cr_pointwise_keeps_channels_last(const cr_call *call, const cr_shape *shape);
/* The dtype that a row computes in, and its result's: from the operands' dtypes and numbers of dims alone. */
cr_dtype cr_pointwise_computes(const cr_call *call, cr_dtype *result);

/* What one element counts: nothing where it is only copied. */
static inline double cr_pointwise_flops(const cr_pointwise_info *info) {
    return info->index == CR_POINTWISE_INDEX_identity || info->index == CR_POINTWISE_INDEX_fill ? 0 : 1;
}

extern cr_op cr_pointwise_ops[CR_POINTWISE_COUNT];
#define CR_POINTWISE_OP(name) (&cr_pointwise_ops[CR_POINTWISE_INDEX_##name])

#endif
