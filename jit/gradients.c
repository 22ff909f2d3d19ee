/* Gradients that runs leave on parameters, as the function's own cr_backward would. */
#include "jit/plan.h"

#include <cresset/autograd.h>

cr_tensor *cr_state_tensor(const cr_graph *graph, const cr_state *state) {
    if (state->gradient_of < 0) return state->tensor;
    cr_tensor *leaf = graph->states[state->gradient_of].tensor, *gradient = cr_grad_of(leaf);
    if (gradient || !leaf) return gradient;
    CR_SCOPE { /* cleared since: nothing yet */
        gradient = cr_zero_(cr_empty_like(leaf));
        if (gradient && !cr_set_grad(leaf, gradient)) gradient = NULL;
    }
    return gradient;
}

bool cr_set_gradients(const cr_graph *graph, cr_tensor *const *gradients) {
    bool done = true;
    CR_NO_GRAD {
        for (int i = 0; done && i < graph->gradient_count; i++) {
            cr_tensor *leaf = graph->states[graph->gradients[i].state].tensor, *there = cr_grad_of(leaf);
            if (graph->gradients[i].accumulates && there)
                done = cr_add_(there, gradients[i]) != NULL;
            else
                done = cr_set_grad(leaf, gradients[i]);
        }
    }
    return done;
}
