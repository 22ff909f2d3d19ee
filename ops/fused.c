/* The row of fused nodes: it is in graphs only, and its meaning is the block of its node. */
#include "ops/fused.h"

static const cr_fused_options fused_defaults = {sizeof fused_defaults, NULL};

/* Fused nodes are planned from their blocks; a call by name has none. */
static bool infer_fused(cr_call *call) {
    return cr_fail_call(call, CR_ERROR_UNSUPPORTED, "is a node of optimised graphs, not an op to call");
}

CR_OP(fused, .inputs = "operands*", .outputs = "", .attribute_bytes = sizeof(cr_fused_options),
      .defaults = &fused_defaults, .flags = CR_OP_BLOCKS | CR_OP_NO_GRADIENT, .infer = infer_fused,
      .doc = "Pointwise ops in one pass over memory.")
