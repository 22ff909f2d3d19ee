/* Pairs: an ONNX operator and an op of ours that are the same thing under other names. Both directions read them; what is
 * not so simple has a row with a function: CR_ONNX_IMPORT (onnx/import.h), CR_ONNX_EXPORT (onnx/export.h). */
#ifndef CRESSET_ONNX_TABLE_H
#define CRESSET_ONNX_TABLE_H

#include "ops/op.h"

typedef struct cr_onnx_pair {
    const char *name; /* ONNX's: "LeakyRelu" */
    const char *op;   /* ours: "leaky_relu" */
    int since;        /* the first opset in which they are the same */
    const char
        *types; /* operands' dtypes that ONNX takes: "f" floating, "s" f32 alone, "i" i32 and i64, "n" all of these, "b"
                             * bool */
    const char *attributes; /* "alpha=negative_slope:0.01": ONNX's name = ours : ONNX's default; or NULL */
} cr_onnx_pair;

/* All pairs; there may be several of one op. */
const cr_onnx_pair *cr_onnx_pairs(int *count);
/* The pair of an operator's name, the first of several (NULL: none); and of an op of ours at an opset, the next after
 * `before` (NULL: the first). */
const cr_onnx_pair *cr_onnx_pair_named(const char *name);
const cr_onnx_pair *cr_onnx_pair_of(const cr_op *op, int opset, const cr_onnx_pair *before);

/* onnx.proto's numbers of dtypes, and back; 0 and false where one side has no such dtype. */
int cr_onnx_dtype_number(cr_dtype dtype);
bool cr_onnx_dtype(int number, cr_dtype *dtype);
/* "float", "string", …: of any number, for messages. */
const char *cr_onnx_dtype_text(int number);

#endif
