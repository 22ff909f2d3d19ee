/* Initial values, as in torch.nn.init. */
#include "nn/module.h"

#include <cresset/autograd.h>

#include <math.h>

/* Runs one in-place op outside the graph. */
#define QUIETLY(call)                                                                                                  \
    cr_grad_mode mode = cr_grad_mode_enter(false, false);                                                              \
    cr_tensor *result = (call);                                                                                        \
    cr_grad_mode_leave(&mode);                                                                                         \
    return result

cr_tensor *cr_nn_init_constant_(cr_tensor *t, double value) { QUIETLY(cr_fill_(t, value)); }
cr_tensor *cr_nn_init_uniform_(cr_tensor *t, double low, double high) { QUIETLY(cr_uniform_(t, low, high)); }
cr_tensor *cr_nn_init_normal_(cr_tensor *t, double mean, double std) { QUIETLY(cr_normal_(t, mean, std)); }

/* Inverse transform: uniform between the CDF's values at -2 and 2, through erfinv. */
cr_tensor *cr_nn_init_trunc_normal_(cr_tensor *t, double mean, double std) {
    const double edge = erf(2 / sqrt(2));
    cr_tensor *result = NULL;
    CR_NO_GRAD {
        cr_tensor *x = cr_uniform_(t, -edge, edge);
        result = x ? cr_add_scalar_(cr_mul_scalar_(cr_erfinv_(x), std * sqrt(2)), mean) : NULL;
    }
    return result;
}

/* fan_in and fan_out of a weight [out, in, k…]. */
static bool fans(const cr_tensor *t, double *fan_in, double *fan_out) {
    if (!cr_tensor_check(t, "nn_init")) return false;
    if (t->ndim < 2) {
        char text[224];
        return cr_fail(CR_ERROR_SHAPE, "nn_init: fan-in and fan-out need at least 2 dims, got %s",
                       cr_describe(t, text));
    }
    double field = 1;
    for (int i = 2; i < t->ndim; i++)
        field *= (double)t->sizes[i];
    *fan_in = (double)t->sizes[1] * field;
    *fan_out = (double)t->sizes[0] * field;
    return true;
}

cr_tensor *cr_nn_init_xavier_uniform_(cr_tensor *t, double gain) {
    double in, out;
    if (!fans(t, &in, &out)) return NULL;
    const double bound = gain * sqrt(6 / (in + out));
    return cr_nn_init_uniform_(t, -bound, bound);
}

cr_tensor *cr_nn_init_xavier_normal_(cr_tensor *t, double gain) {
    double in, out;
    return fans(t, &in, &out) ? cr_nn_init_normal_(t, 0, gain * sqrt(2 / (in + out))) : NULL;
}

static double kaiming_std(double negative_slope, double fan) {
    return sqrt(2 / (1 + negative_slope * negative_slope)) / sqrt(fan);
}

cr_tensor *cr_nn_init_kaiming_uniform_(cr_tensor *t, double negative_slope) {
    double in, out;
    if (!fans(t, &in, &out)) return NULL;
    const double bound = sqrt(3) * kaiming_std(negative_slope, in);
    return cr_nn_init_uniform_(t, -bound, bound);
}

cr_tensor *cr_nn_init_kaiming_normal_(cr_tensor *t, double negative_slope) {
    double in, out;
    return fans(t, &in, &out) ? cr_nn_init_normal_(t, 0, kaiming_std(negative_slope, in)) : NULL;
}
