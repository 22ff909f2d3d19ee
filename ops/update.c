/* Optimizer updates: rows, their meaning in smaller ops, and public functions. */
#include "ops/op.h"

CR_ATTRIBUTES(adam_update, CR_ADAM_UPDATE_ATTRIBUTES)
CR_ATTRIBUTES(sgd_update, CR_SGD_UPDATE_ATTRIBUTES)
CR_ATTRIBUTES(rmsprop_update, CR_RMSPROP_UPDATE_ATTRIBUTES)

/* All state tensors have the parameter's shape and dtype; step and lr are numbers. */
static bool infer_update(cr_call *call) {
    const cr_tensor *parameter = call->inputs[0];
    const int numbers = call->input_count - 2;
    if (!cr_dtype_is_floating((cr_dtype)parameter->dtype))
        return cr_fail_call(call, CR_ERROR_DTYPE, "updates floating parameters");
    for (int i = 1; i < numbers; i++) {
        const cr_tensor *t = call->inputs[i];
        if (t && (!cr_shape_equal(cr_tensor_shape(t), cr_tensor_shape(parameter)) || t->dtype != parameter->dtype))
            return cr_fail_call(call, CR_ERROR_SHAPE, "gradient and state must have the parameter's shape and dtype");
    }
    for (int i = numbers; i < call->input_count; i++)
        if (call->inputs[i]->numel != 1 || !cr_dtype_is_floating((cr_dtype)call->inputs[i]->dtype))
            return cr_fail_call(call, CR_ERROR_SHAPE, "step and lr must be one floating number each");
    return true;
}

/* The gradient as the rules use it: sign and weight decay applied. */
static cr_tensor *effective_gradient(cr_tensor *gradient, cr_tensor *parameter, double weight_decay, bool maximize) {
    if (maximize) gradient = cr_neg(gradient);
    return weight_decay != 0 ? cr_add(gradient, cr_mul_scalar(parameter, weight_decay)) : gradient;
}

/* average = decay · average + (1 - decay) · value, in place. */
static cr_tensor *decay_into(cr_tensor *average, double decay, cr_tensor *value) {
    return cr_add_(cr_mul_scalar_(average, decay), cr_mul_scalar(value, 1 - decay));
}

/* 1 - beta^step. */
static cr_tensor *bias_correction(double beta, cr_tensor *step) {
    return cr_add_scalar(cr_neg(cr_pow(cr_scalar(beta, CR_F64), cr_cast(step, CR_F64))), 1);
}

static bool decompose_adam(cr_call *call) {
    const cr_adam_update_options *o = call->attributes;
    cr_tensor *parameter = call->inputs[0], *average = call->inputs[2], *square = call->inputs[3],
              *maximum = call->inputs[4];
    cr_tensor *step = cr_add_scalar_(call->inputs[5], 1), *lr = call->inputs[6];
    cr_tensor *g = effective_gradient(call->inputs[1], parameter, o->decoupled ? 0 : o->weight_decay, o->maximize);
    if (o->decoupled) cr_sub_(parameter, cr_mul(parameter, cr_mul_scalar(lr, o->weight_decay)));
    decay_into(average, o->beta1, g);
    decay_into(square, o->beta2, cr_square(g));
    if (maximum) square = cr_maximum_(maximum, square);
    cr_tensor *root = cr_div(cr_sqrt(square), cr_sqrt(bias_correction(o->beta2, step)));
    cr_tensor *rate = cr_div(lr, bias_correction(o->beta1, step));
    return cr_sub_(parameter, cr_mul(cr_div(average, cr_add_scalar(root, o->eps)), rate)) != NULL;
}

static bool decompose_sgd(cr_call *call) {
    const cr_sgd_update_options *o = call->attributes;
    cr_tensor *parameter = call->inputs[0], *buffer = call->inputs[2], *lr = call->inputs[4];
    cr_tensor *step = cr_add_scalar_(call->inputs[3], 1);
    cr_tensor *g = effective_gradient(call->inputs[1], parameter, o->weight_decay, o->maximize);
    if (buffer) {                                 /* the first step takes the gradient whole */
        cr_tensor *count = cr_cast(step, CR_F64); /* a number: it leaves the gradient's dtype alone */
        cr_tensor *share = cr_where(cr_le_scalar(count, 1), cr_ones_like(count), cr_full_like(count, 1 - o->dampening));
        cr_add_(cr_mul_scalar_(buffer, o->momentum), cr_mul(g, share));
        g = o->nesterov ? cr_add(g, cr_mul_scalar(buffer, o->momentum)) : buffer;
    }
    return cr_sub_(parameter, cr_mul(g, lr)) != NULL;
}

static bool decompose_rmsprop(cr_call *call) {
    const cr_rmsprop_update_options *o = call->attributes;
    cr_tensor *parameter = call->inputs[0], *square = call->inputs[2], *mean = call->inputs[3],
              *buffer = call->inputs[4];
    cr_add_scalar_(call->inputs[5], 1);
    cr_tensor *g = effective_gradient(call->inputs[1], parameter, o->weight_decay, o->maximize);
    decay_into(square, o->alpha, cr_square(g));
    cr_tensor *variance = mean ? cr_sub(square, cr_square(decay_into(mean, o->alpha, g))) : square;
    cr_tensor *change = cr_div(g, cr_add_scalar(cr_sqrt(variance), o->eps));
    if (buffer) change = cr_add_(cr_mul_scalar_(buffer, o->momentum), change);
    return cr_sub_(parameter, cr_mul(change, call->inputs[6])) != NULL;
}

/* Of the plain forms: weight decay 2, averages 3 and 4, the step 5; momentum 2, step 2. */
static double flops_adam(const cr_call *call) { return 14 * cr_flops_each_input(call); }
static double flops_sgd(const cr_call *call) { return 4 * cr_flops_each_input(call); }
static double flops_rmsprop(const cr_call *call) { return 9 * cr_flops_each_input(call); }

#define WRITES(...) .flags = CR_OP_NO_GRADIENT | CR_OP_LOOPS, .outputs = "", .infer = infer_update, __VA_ARGS__
CR_OP(adam_update, .inputs = "parameter gradient average square_average maximum? step lr",
      CR_ROW_ATTRIBUTES(adam_update),
      WRITES(.mutates = 1 | 4 | 8 | 16 | 32, .decompose = decompose_adam, .flops = flops_adam),
      .doc = "One step of Adam or AdamW, in place.")
CR_OP(sgd_update, .inputs = "parameter gradient buffer? step lr", CR_ROW_ATTRIBUTES(sgd_update),
      WRITES(.mutates = 1 | 4 | 8, .decompose = decompose_sgd, .flops = flops_sgd),
      .doc = "One step of SGD with momentum, in place.")
CR_OP(rmsprop_update, .inputs = "parameter gradient square_average mean? buffer? step lr",
      CR_ROW_ATTRIBUTES(rmsprop_update),
      WRITES(.mutates = 1 | 4 | 8 | 16 | 32, .decompose = decompose_rmsprop, .flops = flops_rmsprop),
      .doc = "One step of RMSprop, in place.")

#define UPDATE(name, count, ...)                                                                                       \
    cr_##name##_options storage;                                                                                       \
    return cr_run_all(&cr_op_##name, (cr_tensor *const[]){__VA_ARGS__}, count,                                         \
                      cr_options_complete(&cr_op_##name, options, &storage), NULL, 0)

bool cr_adam_update(cr_tensor *parameter, cr_tensor *gradient, cr_tensor *average, cr_tensor *square_average,
                    cr_tensor *maximum, cr_tensor *step, cr_tensor *lr, const cr_adam_update_options *options) {
    UPDATE(adam_update, 7, parameter, gradient, average, square_average, maximum, step, lr);
}
bool cr_sgd_update(cr_tensor *parameter, cr_tensor *gradient, cr_tensor *buffer, cr_tensor *step, cr_tensor *lr,
                   const cr_sgd_update_options *options) {
    UPDATE(sgd_update, 5, parameter, gradient, buffer, step, lr);
}
bool cr_rmsprop_update(cr_tensor *parameter, cr_tensor *gradient, cr_tensor *square_average, cr_tensor *mean,
                       cr_tensor *buffer, cr_tensor *step, cr_tensor *lr, const cr_rmsprop_update_options *options) {
    UPDATE(rmsprop_update, 7, parameter, gradient, square_average, mean, buffer, step, lr);
}
