/* The rules: SGD, Adam, AdamW, RMSprop. Each is a row: its settings, the states it keeps, its update. */
#include "optim/optim.h"

CR_ATTRIBUTES(optim_sgd, CR_OPTIM_SGD_OPTIONS)
CR_ATTRIBUTES(optim_adam, CR_OPTIM_ADAM_OPTIONS)
CR_ATTRIBUTES(optim_adamw, CR_OPTIM_ADAMW_OPTIONS)
CR_ATTRIBUTES(optim_rmsprop, CR_OPTIM_RMSPROP_OPTIONS)

/* The options of a group as the struct that made it: SETTING(SGD, momentum) is its value. */
#define INDEX_ROW_(op, kind, name, ...) op##_##name,
enum { CR_OPTIM_SGD_OPTIONS(INDEX_ROW_, sgd) };
enum { CR_OPTIM_ADAM_OPTIONS(INDEX_ROW_, adam) }; /* AdamW's are the same but for a default */
enum { CR_OPTIM_RMSPROP_OPTIONS(INDEX_ROW_, rmsprop) };

/* ---------------------------------------------------------------- SGD */
static bool sgd_keeps(const cr_optim_group *group, int state) {
    return state == 0 && group->settings[sgd_momentum] != 0;
}

static bool sgd_update(const cr_optim_group *group, cr_optim_parameter *p, cr_tensor *gradient) {
    const double *s = group->settings;
    const cr_sgd_update_options options = {sizeof options,      s[sgd_momentum],      s[sgd_dampening],
                                           s[sgd_weight_decay], s[sgd_nesterov] != 0, s[sgd_maximize] != 0};
    return cr_sgd_update(p->tensor, gradient, p->states[0], p->step, group->lr, &options);
}

/* ---------------------------------------------------------------- Adam, AdamW */
static bool adam_keeps(const cr_optim_group *group, int state) {
    return state < 2 || group->settings[adam_amsgrad] != 0;
}

static bool run_adam(const cr_optim_group *group, cr_optim_parameter *p, cr_tensor *gradient, bool decoupled) {
    const double *s = group->settings;
    const cr_adam_update_options options = {sizeof options,       s[adam_beta1], s[adam_beta2],        s[adam_eps],
                                            s[adam_weight_decay], decoupled,     s[adam_maximize] != 0};
    return cr_adam_update(p->tensor, gradient, p->states[0], p->states[1], p->states[2], p->step, group->lr, &options);
}
static bool adam_update(const cr_optim_group *group, cr_optim_parameter *p, cr_tensor *gradient) {
    return run_adam(group, p, gradient, false);
}
static bool adamw_update(const cr_optim_group *group, cr_optim_parameter *p, cr_tensor *gradient) {
    return run_adam(group, p, gradient, true);
}

/* ---------------------------------------------------------------- RMSprop */
static bool rmsprop_keeps(const cr_optim_group *group, int state) {
    return state == 0 || (state == 1 ? group->settings[rmsprop_centered] != 0 : group->settings[rmsprop_momentum] != 0);
}

static bool rmsprop_update(const cr_optim_group *group, cr_optim_parameter *p, cr_tensor *gradient) {
    const double *s = group->settings;
    const cr_rmsprop_update_options options = {sizeof options,          s[rmsprop_alpha],    s[rmsprop_eps],
                                               s[rmsprop_weight_decay], s[rmsprop_momentum], false};
    return cr_rmsprop_update(p->tensor, gradient, p->states[0], p->states[1], p->states[2], p->step, group->lr,
                             &options);
}

/* ---------------------------------------------------------------- rows */
#define ALGORITHM(row, ...)                                                                                            \
    static const cr_optim_algorithm row##_algorithm = {                                                                \
        .name = #row,                                                                                                  \
        .settings = optim_##row##_attributes,                                                                          \
        .setting_count = (int)(sizeof optim_##row##_attributes / sizeof optim_##row##_attributes[0]),                  \
        __VA_ARGS__};                                                                                                  \
    cr_optim *cr_optim_##row##_with(cr_nn_tensors parameters, const cr_optim_##row##_options *options) {               \
        return cr_optim_new(&row##_algorithm, parameters, options ? options : &optim_##row##_defaults);                \
    }
ALGORITHM(sgd, .states = {"momentum_buffer"}, .keeps = sgd_keeps, .update = sgd_update)
ALGORITHM(adam, .states = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}, .keeps = adam_keeps, .update = adam_update)
ALGORITHM(adamw, .states = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}, .keeps = adam_keeps, .update = adamw_update)
ALGORITHM(rmsprop, .states = {"square_avg", "grad_avg", "momentum_buffer"}, .keeps = rmsprop_keeps,
          .update = rmsprop_update)
