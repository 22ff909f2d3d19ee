/* Activations as modules: one line each. */
#include "nn/module.h"

/* ---------------------------------------------------------------- without settings */
#define CR_NN_PLAIN(name)                                                                                              \
    cr_nn_module *cr_nn_##name(void) { return cr_nn_function(#name, cr_##name); }
CR_NN_PLAIN(relu)
CR_NN_PLAIN(relu6)
CR_NN_PLAIN(selu)
CR_NN_PLAIN(gelu)
CR_NN_PLAIN(gelu_tanh)
CR_NN_PLAIN(silu)
CR_NN_PLAIN(mish)
CR_NN_PLAIN(sigmoid)
CR_NN_PLAIN(log_sigmoid)
CR_NN_PLAIN(tanh)
CR_NN_PLAIN(softsign)
CR_NN_PLAIN(hardsigmoid)
CR_NN_PLAIN(hardswish)

/* ---------------------------------------------------------------- with one or two numbers, or a dim */
typedef struct settings {
    double first, second;
    int dim;
} settings;

static cr_nn_module *with_settings(const char *type, cr_nn_forward_function forward, settings values) {
    cr_nn_module *self = cr_nn_module_new(type, sizeof(settings), forward);
    if (self) *(settings *)self->self = values;
    return self;
}

#define OWN(self) (*(const settings *)(self)->self)
#define CR_NN_WITH(name, parameters, values, description, call, ...)                                                   \
    static cr_tensor *forward_##name(cr_nn_module *self, cr_tensor *x) { return call; }                                \
    cr_nn_module *cr_nn_##name parameters {                                                                            \
        cr_nn_module *self = with_settings(#name, forward_##name, (settings)values);                                   \
        return !self || cr_nn_set_description(self, description, __VA_ARGS__) ? self : cr_nn_abandon(self);            \
    }
#define VALUES(...)                                                                                                    \
    { __VA_ARGS__ }
CR_NN_WITH(leaky_relu, (double negative_slope), VALUES(negative_slope), "negative_slope=%g",
           cr_leaky_relu(x, OWN(self).first), negative_slope)
CR_NN_WITH(elu, (double alpha), VALUES(alpha), "alpha=%g", cr_elu(x, OWN(self).first), alpha)
CR_NN_WITH(celu, (double alpha), VALUES(alpha), "alpha=%g", cr_celu(x, OWN(self).first), alpha)
CR_NN_WITH(softplus, (double beta, double threshold), VALUES(beta, threshold), "beta=%g, threshold=%g",
           cr_softplus(x, OWN(self).first, OWN(self).second), beta, threshold)
CR_NN_WITH(hardtanh, (double min, double max), VALUES(min, max), "min=%g, max=%g",
           cr_hardtanh(x, OWN(self).first, OWN(self).second), min, max)
CR_NN_WITH(softmax, (int dim), VALUES(.dim = dim), "dim=%d", cr_softmax(x, OWN(self).dim), dim)
CR_NN_WITH(log_softmax, (int dim), VALUES(.dim = dim), "dim=%d", cr_log_softmax(x, OWN(self).dim), dim)
CR_NN_WITH(flatten_with, (int start_dim, int end_dim), VALUES(start_dim, 0, end_dim), "start_dim=%d, end_dim=%d",
           cr_flatten(x, (int)OWN(self).first, OWN(self).dim), start_dim, end_dim)
