/* Control flow in plans. */
#ifndef CRESSET_JIT_CONTROL_H
#define CRESSET_JIT_CONTROL_H

#include "jit/plan.h"

typedef struct cr_control_options {
    size_t size;
    int64_t carried; /* while_loop, scan: the first operands, which go around */
    int64_t scanned; /* scan: those after them, taken apart along dim 0 */
} cr_control_options;

/* Such a step's attributes in a plan. */
typedef struct cr_control {
    const cr_control_options *options;
    cr_plan *plans[2]; /* of the node's blocks */
} cr_control;

/* Plans for the blocks of a control-flow node, as a kernel and its attributes. The plan that holds the step owns
 * them. */
bool cr_control_plan(cr_plan *plan, const cr_graph_node *node, cr_kernel *kernel, const void **attributes);
/* Arithmetic of such a step's call. */
double cr_control_flops(const cr_call *call);

#endif
