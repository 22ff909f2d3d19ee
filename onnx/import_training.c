/* Optimizers' steps, of the domain ai.onnx.preview.training: operands are R, T, then parameters, gradients and state, each a
 * list as long as the others. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/import.h"

#include <math.h>
#include <string.h>

/* Operand `list` of parameter i of `count`. */
static cr_tensor *operand(cr_onnx_call *call, int list, int i, int count) {
    return cr_onnx_input(call, 2 + list * count + i);
}

static bool check_lists(cr_onnx_call *call, int lists, int *count) {
    *count = (call->input_count - 2) / lists;
    return (call->input_count - 2) % lists == 0 || cr_onnx_refuse(call, "%d operands", call->input_count);
}

static cr_tensor *with_decay(cr_onnx_call *call, cr_tensor *x, cr_tensor *gradient, const char *name) {
    return cr_add(gradient, cr_mul_scalar(x, cr_onnx_float(call, name, 0)));
}

/* Duchi, Hazan, Singer 2011. */
static bool run_Adagrad(cr_onnx_call *call) {
    cr_tensor *rate = cr_onnx_input(call, 0), *step = cr_onnx_input(call, 1);
    int count;
    if (!check_lists(call, 3, &count)) return false;
    rate = cr_div(rate, cr_add_scalar(cr_mul_scalar(cr_cast(step, CR_F32), cr_onnx_float(call, "decay_factor", 0)), 1));
    for (int i = 0; i < count; i++) {
        cr_tensor *x = operand(call, 0, i, count),
                  *g = with_decay(call, x, operand(call, 1, i, count), "norm_coefficient");
        cr_tensor *h = cr_add(operand(call, 2, i, count), cr_square(g));
        cr_tensor *root = cr_add_scalar(cr_sqrt(h), cr_onnx_float(call, "epsilon", 1e-6f));
        if (!cr_onnx_give_at(call, i, cr_sub(x, cr_div(cr_mul(rate, g), root))) || !cr_onnx_give_at(call, count + i, h))
            return false;
    }
    return true;
}
CR_ONNX_IMPORT_OF(Adagrad, "ai.onnx.preview.training", 1, 0)

/* Kingma, Ba 2015. */
static bool run_Adam(cr_onnx_call *call) {
    cr_tensor *rate = cr_onnx_input(call, 0), *step = cr_cast(cr_onnx_input(call, 1), CR_F32);
    const double alpha = cr_onnx_float(call, "alpha", 0.9f), beta = cr_onnx_float(call, "beta", 0.999f);
    int count;
    if (!check_lists(call, 4, &count)) return false;
    cr_tensor *one = cr_full(CR_F32, CR_SHAPE_0D, 1, CR_CPU);
    cr_tensor *a = cr_sub(one, cr_pow(cr_full(CR_F32, CR_SHAPE_0D, alpha, CR_CPU), step)),
              *b = cr_sub(one, cr_pow(cr_full(CR_F32, CR_SHAPE_0D, beta, CR_CPU), step));
    cr_tensor *adjusted = cr_where(cr_gt_scalar(step, 0), cr_mul(rate, cr_div(cr_sqrt(b), a)), rate);
    for (int i = 0; i < count; i++) {
        cr_tensor *x = operand(call, 0, i, count),
                  *g = with_decay(call, x, operand(call, 1, i, count), "norm_coefficient");
        cr_tensor *v = cr_add(cr_mul_scalar(operand(call, 2, i, count), alpha), cr_mul_scalar(g, 1 - alpha)),
                  *h = cr_add(cr_mul_scalar(operand(call, 3, i, count), beta), cr_mul_scalar(cr_square(g), 1 - beta));
        cr_tensor *root = cr_add_scalar(cr_sqrt(h), cr_onnx_float(call, "epsilon", 1e-6f));
        cr_tensor *next = cr_sub(x, cr_div(cr_mul(adjusted, v), root));
        next = cr_mul_scalar(next, 1 - cr_onnx_float(call, "norm_coefficient_post", 0));
        if (!cr_onnx_give_at(call, i, next) || !cr_onnx_give_at(call, count + i, v) ||
            !cr_onnx_give_at(call, 2 * count + i, h))
            return false;
    }
    return true;
}
CR_ONNX_IMPORT_OF(Adam, "ai.onnx.preview.training", 1, 0)

/* Plain momentum, or Nesterov's. */
static bool run_Momentum(cr_onnx_call *call) {
    cr_tensor *rate = cr_onnx_input(call, 0), *step = cr_onnx_input(call, 1);
    const double alpha = cr_onnx_float(call, "alpha", 0), beta = cr_onnx_float(call, "beta", 0);
    const bool is_nesterov = !strcmp(cr_onnx_text(call, "mode", "standard"), "nesterov");
    int count;
    if (!check_lists(call, 3, &count)) return false;
    cr_tensor *own = cr_where(cr_gt_scalar(step, 0), cr_full(CR_F32, CR_SHAPE_0D, beta, CR_CPU),
                              cr_ones(CR_F32, CR_SHAPE_0D, CR_CPU));
    for (int i = 0; i < count; i++) {
        cr_tensor *x = operand(call, 0, i, count),
                  *g = with_decay(call, x, operand(call, 1, i, count), "norm_coefficient");
        cr_tensor *v = cr_add(cr_mul_scalar(operand(call, 2, i, count), alpha), cr_mul(own, g));
        cr_tensor *way = is_nesterov ? cr_add(g, cr_mul_scalar(v, alpha)) : v;
        if (!cr_onnx_give_at(call, i, cr_sub(x, cr_mul(rate, way))) || !cr_onnx_give_at(call, count + i, v))
            return false;
    }
    return true;
}
CR_ONNX_IMPORT_OF(Momentum, "ai.onnx.preview.training", 1, 0)
#endif
