/* Which steps of a plan run side by side: the updates of an optimizer's parameters become one parallel job over all
 * their elements. */
#include "jit/plan.h"

/* What the step writes: its results, and the operands that it changes in place. */
static bool writes(const cr_plan *plan, const cr_plan_step *step, int storage) {
    const unsigned changed = cr_op_mutates(step->op, step->attributes);
    for (int i = 0; i < step->output_count; i++)
        if (plan->tensors[step->outputs[i]].storage == storage) return true;
    for (int i = 0; i < step->input_count; i++)
        if ((changed >> i & 1) && step->inputs[i] >= 0 && plan->tensors[step->inputs[i]].storage == storage)
            return true;
    return false;
}

/* Nothing that one of them touches is written by the other. */
static bool is_apart(const cr_plan *plan, const cr_plan_step *a, const cr_plan_step *b) {
    const cr_plan_step *const both[] = {a, b};
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < both[k]->input_count; i++)
            if (both[k]->inputs[i] >= 0 && writes(plan, both[1 - k], plan->tensors[both[k]->inputs[i]].storage))
                return false;
    return true;
}

static bool may_follow(const cr_plan *plan, int first, int next) {
    const cr_plan_step *step = &plan->steps[next];
    if (!(step->op->flags & CR_OP_LOOPS) || step->device.type != CR_DEVICE_CPU) return false;
    for (int i = first; i < next; i++)
        if (!is_apart(plan, &plan->steps[i], step)) return false;
    return true;
}

void cr_plan_together(cr_plan *plan) {
    for (int first = 0, next; first < plan->step_count; first = next) {
        next = first + 1;
        if (may_follow(plan, first, first))
            while (next < plan->step_count && may_follow(plan, first, next))
                next++;
        plan->steps[first].together = next - first;
    }
}
