/* Operators of domains of the user's own, which stand for ops of ours one by one. */
#ifndef CRESSET_ONNX_CUSTOM_H
#define CRESSET_ONNX_CUSTOM_H

#include "onnx/export.h"
#include "onnx/import.h"

typedef struct cr_onnx_custom {
    const struct cr_onnx_custom *next; /* registered before this one */
    const cr_op *op;
    const char *domain, *name;
} cr_onnx_custom;

/* NULL: not registered. */
const cr_onnx_custom *cr_onnx_custom_of(const cr_op *op);
const cr_onnx_custom *cr_onnx_custom_named(const char *domain, const char *name);

bool cr_onnx_write_custom(cr_onnx_emitter *e, const cr_graph_node *node, const cr_onnx_custom *custom);
bool cr_onnx_run_custom(cr_onnx_call *call, const cr_onnx_custom *custom);

#endif
