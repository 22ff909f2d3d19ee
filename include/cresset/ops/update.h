/* Optimizer updates, each one pass over a parameter and its state. All write in place and return the parameter; the
 * gradient is left alone. `step` (0-d f32, counts updates, incremented first) and `lr` (0-d f64) are tensors, so that a
 * traced training step keeps them as state. Included by <cresset/ops.h>. */

#define CR_ADAM_UPDATE_ATTRIBUTES(A, op)                                                                               \
    A(op, FLOAT, beta1, 0.9)                                                                                           \
    A(op, FLOAT, beta2, 0.999)                                                                                         \
    A(op, FLOAT, eps, 1e-8) A(op, FLOAT, weight_decay, 0) A(op, BOOL, decoupled, false) A(op, BOOL, maximize, false)
CR_OPTIONS(adam_update, CR_ADAM_UPDATE_ATTRIBUTES)
/* m = β₁ m + (1 - β₁) g; v = β₂ v + (1 - β₂) g²; p -= lr / (1 - β₁^t) · m / (sqrt(v) / sqrt(1 - β₂^t) + eps).
 * `maximum` (amsgrad; may be NULL) replaces v by its running maximum. decoupled: p -= lr · weight_decay · p first, else
 * weight_decay · p is added to g. */
CR_API bool cr_adam_update(cr_tensor *parameter, cr_tensor *gradient, cr_tensor *average, cr_tensor *square_average,
                           cr_tensor *maximum, cr_tensor *step, cr_tensor *lr, const cr_adam_update_options *options);

#define CR_SGD_UPDATE_ATTRIBUTES(A, op)                                                                                \
    A(op, FLOAT, momentum, 0)                                                                                          \
    A(op, FLOAT, dampening, 0) A(op, FLOAT, weight_decay, 0) A(op, BOOL, nesterov, false) A(op, BOOL, maximize, false)
CR_OPTIONS(sgd_update, CR_SGD_UPDATE_ATTRIBUTES)
/* b = momentum · b + (1 - dampening) g (b = g in the first step); p -= lr · (nesterov ? g + momentum · b : b).
 * `buffer` may be NULL where momentum is 0. */
CR_API bool cr_sgd_update(cr_tensor *parameter, cr_tensor *gradient, cr_tensor *buffer, cr_tensor *step, cr_tensor *lr,
                          const cr_sgd_update_options *options);

#define CR_RMSPROP_UPDATE_ATTRIBUTES(A, op)                                                                            \
    A(op, FLOAT, alpha, 0.99)                                                                                          \
    A(op, FLOAT, eps, 1e-8) A(op, FLOAT, weight_decay, 0) A(op, FLOAT, momentum, 0) A(op, BOOL, maximize, false)
CR_OPTIONS(rmsprop_update, CR_RMSPROP_UPDATE_ATTRIBUTES)
/* v = α v + (1 - α) g²; d = sqrt(v - m²) + eps with m = α m + (1 - α) g where `mean` is given (centered), else sqrt(v)
 * + eps; p -= lr · g / d, or through b = momentum · b + g / d where `buffer` is given. */
CR_API bool cr_rmsprop_update(cr_tensor *parameter, cr_tensor *gradient, cr_tensor *square_average, cr_tensor *mean,
                              cr_tensor *buffer, cr_tensor *step, cr_tensor *lr,
                              const cr_rmsprop_update_options *options);
