/* What a call costs: arithmetic and traffic, from sizes alone. For profiles, `cresset inspect` and rooflines. */
#include "ops/pointwise.h"

double cr_flops_each_input(const cr_call *call) { return (double)call->inputs[0]->numel; }

double cr_flops_product(const cr_call *call) {
    const cr_tensor *a = call->inputs[0];
    return 2 * (double)call->outputs[0]->numel * (double)a->sizes[a->ndim - 1];
}

double cr_op_flops(const cr_call *call) {
    if (call->op->flops) return call->op->flops(call);
    return call->op->flags & CR_OP_POINTWISE ? (double)call->outputs[0]->numel * cr_pointwise_flops(call->op->pointwise)
                                             : 0;
}

/* The elements that there are: those of broadcast dims once. */
static double bytes_of(const cr_tensor *t) {
    double elements = 1;
    for (int d = 0; d < t->ndim; d++)
        if (t->strides[d] || t->sizes[d] == 0) elements *= (double)t->sizes[d];
    return elements * (double)cr_dtype_size((cr_dtype)t->dtype);
}

double cr_op_bytes_read(const cr_call *call) {
    double bytes = 0;
    if (call->op->flags & CR_OP_VIEW) return 0;
    for (int i = 0; i < call->input_count; i++)
        if (call->inputs[i]) bytes += bytes_of(call->inputs[i]);
    return bytes;
}

double cr_op_bytes(const cr_call *call) {
    const unsigned written = cr_op_mutates(call->op, call->attributes);
    double bytes = cr_op_bytes_read(call);
    if (call->op->flags & CR_OP_VIEW) return 0;
    for (int i = 0; i < call->input_count && i < 32; i++)
        if (call->inputs[i] && written >> i & 1) bytes += bytes_of(call->inputs[i]);
    for (int i = 0; i < call->output_count; i++)
        if (call->outputs[i]) bytes += bytes_of(call->outputs[i]);
    return bytes;
}
