/* Limits on gradients. */
#include "nn/module.h"

#include <cresset/autograd.h>

#include <math.h>

/* Σ g² in f64. */
static double square_sum(cr_nn_tensors parameters, bool *failed) {
    double total = 0;
    for (int i = 0; i < parameters.count; i++) {
        cr_tensor *gradient = cr_grad_of(parameters.at[i]);
        if (!gradient) continue;
        CR_SCOPE {
            cr_tensor *sum = cr_sum(cr_square(cr_cast(gradient, CR_F64)));
            if (sum)
                total += cr_item(sum);
            else
                *failed = true;
        }
    }
    return total;
}

double cr_nn_clip_grad_norm_(cr_nn_tensors parameters, double max_norm) {
    bool failed = false;
    cr_grad_mode mode = cr_grad_mode_enter(false, false);
    const double norm = sqrt(square_sum(parameters, &failed)), factor = max_norm / (norm + 1e-6);
    for (int i = 0; !failed && factor < 1 && i < parameters.count; i++) {
        cr_tensor *gradient = cr_grad_of(parameters.at[i]);
        CR_SCOPE {
            failed = gradient && !cr_mul_scalar_(gradient, factor);
        }
    }
    cr_grad_mode_leave(&mode);
    return failed ? NAN : norm;
}

bool cr_nn_clip_grad_value_(cr_nn_tensors parameters, double limit) {
    bool done = true;
    cr_grad_mode mode = cr_grad_mode_enter(false, false);
    for (int i = 0; done && i < parameters.count; i++) {
        cr_tensor *gradient = cr_grad_of(parameters.at[i]);
        CR_SCOPE {
            done = !gradient || cr_clamp_(gradient, -limit, limit);
        }
    }
    cr_grad_mode_leave(&mode);
    return done;
}
