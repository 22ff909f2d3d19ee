/* Cresset optim: optimizers with parameter groups, learning-rate schedules, and their state on disk.
 * Formulas and defaults as in torch.optim. */
#ifndef CRESSET_OPTIM_H
#define CRESSET_OPTIM_H

#include <cresset/core.h>
#include <cresset/nn.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cr_optim cr_optim;

#define CR_OPTIM_SGD_OPTIONS(A, op)                                                                                    \
    A(op, FLOAT, lr, 1e-3)                                                                                             \
    A(op, FLOAT, momentum, 0)                                                                                          \
    A(op, FLOAT, dampening, 0) A(op, FLOAT, weight_decay, 0) A(op, BOOL, nesterov, false) A(op, BOOL, maximize, false)
CR_OPTIONS(optim_sgd, CR_OPTIM_SGD_OPTIONS)
/* Kingma, Ba 2015; with amsgrad: Reddi et al. 2018. weight_decay is added to the gradient. */
#define CR_OPTIM_ADAM_OPTIONS(A, op)                                                                                   \
    A(op, FLOAT, lr, 1e-3)                                                                                             \
    A(op, FLOAT, beta1, 0.9)                                                                                           \
    A(op, FLOAT, beta2, 0.999)                                                                                         \
    A(op, FLOAT, eps, 1e-8) A(op, FLOAT, weight_decay, 0) A(op, BOOL, amsgrad, false) A(op, BOOL, maximize, false)
CR_OPTIONS(optim_adam, CR_OPTIM_ADAM_OPTIONS)
/* Loshchilov, Hutter 2019: weights decay by lr · weight_decay beside the gradient. */
#define CR_OPTIM_ADAMW_OPTIONS(A, op)                                                                                  \
    A(op, FLOAT, lr, 1e-3)                                                                                             \
    A(op, FLOAT, beta1, 0.9)                                                                                           \
    A(op, FLOAT, beta2, 0.999)                                                                                         \
    A(op, FLOAT, eps, 1e-8) A(op, FLOAT, weight_decay, 1e-2) A(op, BOOL, amsgrad, false) A(op, BOOL, maximize, false)
CR_OPTIONS(optim_adamw, CR_OPTIM_ADAMW_OPTIONS)
#define CR_OPTIM_RMSPROP_OPTIONS(A, op)                                                                                \
    A(op, FLOAT, lr, 1e-2)                                                                                             \
    A(op, FLOAT, alpha, 0.99)                                                                                          \
    A(op, FLOAT, eps, 1e-8) A(op, FLOAT, weight_decay, 0) A(op, FLOAT, momentum, 0) A(op, BOOL, centered, false)
CR_OPTIONS(optim_rmsprop, CR_OPTIM_RMSPROP_OPTIONS)

/* Keeps its parameters alive; the update rules stand in ops/update.h. NULL and an error for no parameters, or a negative
 * learning rate. */
CR_API cr_optim *cr_optim_sgd_with(cr_nn_tensors parameters, const cr_optim_sgd_options *options);
CR_API cr_optim *cr_optim_adam_with(cr_nn_tensors parameters, const cr_optim_adam_options *options);
CR_API cr_optim *cr_optim_adamw_with(cr_nn_tensors parameters, const cr_optim_adamw_options *options);
CR_API cr_optim *cr_optim_rmsprop_with(cr_nn_tensors parameters, const cr_optim_rmsprop_options *options);
#ifndef __cplusplus
#define cr_optim_sgd(parameters, ...)                                                                                  \
    cr_optim_sgd_with(parameters, CR_WITH(optim_sgd, CR_OPTIM_SGD_OPTIONS, __VA_ARGS__))
#define cr_optim_adam(parameters, ...)                                                                                 \
    cr_optim_adam_with(parameters, CR_WITH(optim_adam, CR_OPTIM_ADAM_OPTIONS, __VA_ARGS__))
#define cr_optim_adamw(parameters, ...)                                                                                \
    cr_optim_adamw_with(parameters, CR_WITH(optim_adamw, CR_OPTIM_ADAMW_OPTIONS, __VA_ARGS__))
#define cr_optim_rmsprop(parameters, ...)                                                                              \
    cr_optim_rmsprop_with(parameters, CR_WITH(optim_rmsprop, CR_OPTIM_RMSPROP_OPTIONS, __VA_ARGS__))
#endif
/* Frees an optimizer and its state; the parameters stay. NULL is fine. */
CR_API void cr_optim_free(cr_optim *optim);

/* One update of every parameter that has a gradient. */
CR_API bool cr_optim_step(cr_optim *optim);
/* Drops all gradients (they become NULL). */
CR_API void cr_optim_zero_grad(cr_optim *optim);

/* ------------------------------------------------------------------ parameter groups */
/* A further group of parameters with the first group's settings; returns its index, or -1 and an error. */
CR_API int cr_optim_add_group(cr_optim *optim, cr_nn_tensors parameters);
CR_API int cr_optim_group_count(const cr_optim *optim);
/* One setting of one group by the option's name ("lr", "weight_decay", "beta1"); group -1: all groups. */
CR_API bool cr_optim_set(cr_optim *optim, int group, const char *name, double value);
CR_API double cr_optim_get(const cr_optim *optim, int group,
                           const char *name);     /* NaN and an error where there is none */
CR_API double cr_optim_lr(const cr_optim *optim); /* of the first group */

/* ------------------------------------------------------------------ state on disk: moments, steps and settings */
/* A safetensors file, whole or not at all; it must be loaded into an optimizer of the same kind over parameters of the
 * same names and shapes. A file that does not fit changes nothing. */
CR_API bool cr_optim_save(cr_optim *optim, const char *path);
CR_API bool cr_optim_load(cr_optim *optim, const char *path);
/* The same as named tensors, to be written beside others in one file. Borrowed until the next call or step. */
CR_API cr_nn_tensors cr_optim_state(cr_optim *optim);
CR_API bool cr_optim_restore(cr_optim *optim, cr_safetensors *file, const char *prefix);

/* ------------------------------------------------------------------ learning-rate schedules */
typedef struct cr_optim_schedule cr_optim_schedule;
/* lr · gamma^(floor(epoch / step_size)). */
CR_API cr_optim_schedule *cr_optim_step_schedule(cr_optim *optim, int step_size, double gamma);
/* From lr to min_lr along half a cosine over `steps` (Loshchilov, Hutter 2017). */
CR_API cr_optim_schedule *cr_optim_cosine_schedule(cr_optim *optim, int steps, double min_lr);
#define CR_OPTIM_PLATEAU_OPTIONS(A, op)                                                                                \
    A(op, FLOAT, factor, 0.1)                                                                                          \
    A(op, INT, patience, 10)                                                                                           \
    A(op, FLOAT, threshold, 1e-4) A(op, INT, cooldown, 0) A(op, FLOAT, min_lr, 0) A(op, BOOL, maximize, false)
CR_OPTIONS(optim_plateau, CR_OPTIM_PLATEAU_OPTIONS)
/* lr · factor when the metric has not improved for `patience` steps. */
CR_API cr_optim_schedule *cr_optim_plateau_schedule_with(cr_optim *optim, const cr_optim_plateau_options *options);
#ifndef __cplusplus
#define cr_optim_plateau_schedule(optim, ...)                                                                          \
    cr_optim_plateau_schedule_with(optim, CR_WITH(optim_plateau, CR_OPTIM_PLATEAU_OPTIONS, __VA_ARGS__))
#endif
/* Moves on by one; `metric` is read by plateau only. */
CR_API bool cr_optim_schedule_step(cr_optim_schedule *schedule, double metric);
CR_API void cr_optim_schedule_free(cr_optim_schedule *schedule);
/* Its state as a row of numbers (f64 tensor), for checkpoints. */
CR_API cr_tensor *cr_optim_schedule_state(const cr_optim_schedule *schedule);
CR_API bool cr_optim_schedule_restore(cr_optim_schedule *schedule, const cr_tensor *state);

#ifdef __cplusplus
}
#endif
#endif
