/* An op, or its gradient, as a function that can be traced. */
#include "tests/samples/traced.h"

#include "ops/op.h"

#include <string.h>

bool traced_takes_gradient(const operand_spec *spec) { return !spec->is_absent && cr_dtype_is_floating(spec->dtype); }

static bool gradients_of(const traced_sample *t, cr_tensor **operands, cr_tensor **results, cr_tensor **gradients) {
    cr_tensor *roots[CR_MAX_OUTPUTS], *cotangents[CR_MAX_OUTPUTS], *leaves[SAMPLE_INPUTS];
    int root_count = 0, leaf_count = 0;
    for (int i = 0; i < t->outputs; i++) {
        if (!cr_requires_grad(results[i])) continue;
        cotangents[root_count] = cr_ones_like(results[i]);
        roots[root_count++] = results[i];
    }
    for (int i = 0; i < t->s->input_count; i++)
        if (traced_takes_gradient(&t->s->inputs[i])) leaves[leaf_count++] = operands[i];
    const cr_grad_options options = {.size = sizeof options, .gradients = cotangents, .allow_unused = true};
    return root_count == 0 || cr_grad(roots, root_count, leaves, leaf_count, gradients, &options);
}

/* The op on operands without the absent ones, which are put in their places again. */
bool traced_call(void *context, cr_tensor *const *inputs, int input_count, cr_tensor **outputs, int output_count) {
    const traced_sample *t = context;
    cr_tensor *operands[SAMPLE_INPUTS], *results[SAMPLE_RESULTS] = {NULL};
    int at = 0;
    (void)input_count;
    for (int i = 0; i < t->s->input_count; i++) {
        operands[i] = t->s->inputs[i].is_absent ? NULL : inputs[at++];
        if (t->is_gradient && traced_takes_gradient(&t->s->inputs[i]) &&
            (!(operands[i] = cr_detach(operands[i])) || !cr_requires_grad_(operands[i], true)))
            return false;
    }
    if (!sample_run(t->s, operands, results)) return false;
    if (!t->is_gradient) return memcpy(outputs, results, (size_t)output_count * sizeof *outputs), true;
    cr_tensor *gradients[SAMPLE_INPUTS] = {NULL};
    if (!gradients_of(t, operands, results, gradients)) return false;
    for (int i = 0; i < output_count; i++) /* one that does not depend is zero */
        if (!(outputs[i] = gradients[i] ? gradients[i] : cr_zeros(CR_F32, CR_SHAPE(1), CR_CPU))) return false;
    return true;
}

/* The same operands each time, without the absent ones; how many, or -1. */
int traced_operands(const sample *s, cr_tensor **inputs) {
    cr_tensor *operands[SAMPLE_INPUTS];
    int count = 0;
    if (!sample_operands(s, operands, false, false)) return -1;
    for (int i = 0; i < s->input_count; i++)
        if (operands[i]) inputs[count++] = operands[i];
    return count;
}
