/* Single layers and updates: attention, LSTM, group norm, optimizer updates, functions of many elements. Wall times. */
#include "bench.h"

enum { HEADS = 64, LENGTH = 512, WIDTH = 64, STEPS = 32, BATCH = 16, ELEMENTS = 1000000 };

/* ---------------------------------------------------------------- attention, [8, 8, 512, 64] */
typedef struct attention {
    cr_tensor *q, *k, *v;
    bool with_gradient;
} attention;

static bool attention_step(void *context) {
    const attention *a = context;
    CR_SCOPE {
        cr_tensor *y = cr_scaled_dot_product_attention(a->q, a->k, a->v, NULL);
        if (a->with_gradient) cr_backward(cr_sum(y));
    }
    return cr_ok();
}

static void measure_attention(void) {
    const cr_shape shape = CR_SHAPE(8, HEADS / 8, LENGTH, WIDTH);
    const double product = 2.0 * HEADS * LENGTH * LENGTH * WIDTH;
    CR_SCOPE {
        attention a = {cr_randn(CR_F32, shape, CR_CPU), cr_randn(CR_F32, shape, CR_CPU),
                       cr_randn(CR_F32, shape, CR_CPU), false};
        measure("attention", attention_step, &a, 1, 2 * product);
        cr_requires_grad_(a.q, true);
        cr_requires_grad_(a.k, true);
        cr_requires_grad_(a.v, true);
        a.with_gradient = true;
        measure("attention, with gradient", attention_step, &a, 2, 7 * product);
    }
}

/* ---------------------------------------------------------------- LSTM: 32 steps, batch 16 */
typedef struct lstm {
    cr_nn_module *net;
    cr_tensor *x;
} lstm;

static bool lstm_step(void *context) {
    const lstm *l = context;
    CR_SCOPE {
        cr_nn_zero_grad(l->net);
        cr_backward(cr_sum(cr_nn_lstm_forward(l->net, l->x, NULL, NULL, NULL, NULL)));
    }
    return cr_ok();
}

static void measure_lstm(const char *name, int64_t hidden) {
    CR_SCOPE {
        lstm l = {cr_nn_lstm(hidden, hidden), cr_randn(CR_F32, CR_SHAPE(STEPS, BATCH, hidden), CR_CPU)};
        measure(name, lstm_step, &l, 1, 5 * 2.0 * STEPS * BATCH * 4 * (double)(hidden * hidden));
    }
}

/* ---------------------------------------------------------------- group norm of [16, 64, 32, 32], 8 groups */
static bool group_norm_step(void *context) {
    cr_tensor *const *t = context;
    CR_SCOPE {
        cr_backward(cr_sum(cr_group_norm(t[0], 8, t[1], t[2], 1e-5)));
    }
    return cr_ok();
}

static void measure_group_norm(void) {
    CR_SCOPE {
        cr_tensor *t[3] = {cr_randn(CR_F32, CR_SHAPE(BATCH, 64, 32, 32), CR_CPU), cr_ones(CR_F32, CR_SHAPE(64), CR_CPU),
                           cr_zeros(CR_F32, CR_SHAPE(64), CR_CPU)};
        for (int i = 0; i < 3; i++)
            cr_requires_grad_(t[i], true);
        measure("group norm, with gradient", group_norm_step, t, 0.5, 0);
    }
}

/* ---------------------------------------------------------------- updates of a million parameters */
static bool optim_step(void *context) { return cr_optim_step(context); }

static void measure_update(const char *name, cr_optim *(*make)(cr_nn_tensors)) {
    static const char *const weight = "w";
    CR_SCOPE {
        cr_tensor *w = cr_requires_grad_(cr_randn(CR_F32, CR_SHAPE(ELEMENTS), CR_CPU), true);
        cr_set_grad(w, cr_randn(CR_F32, CR_SHAPE(ELEMENTS), CR_CPU));
        cr_optim *optim = make((cr_nn_tensors){&w, &weight, 1});
        measure(name, optim_step, optim, 0.5, 0);
        cr_optim_free(optim);
    }
}
static cr_optim *make_sgd(cr_nn_tensors tensors) { return cr_optim_sgd(tensors, .lr = 1e-3, .momentum = 0.9); }
static cr_optim *make_rmsprop(cr_nn_tensors tensors) { return cr_optim_rmsprop(tensors, .lr = 1e-3, .momentum = 0.9); }

/* ---------------------------------------------------------------- functions of a million numbers between 0 and 10 */
typedef struct function {
    const char *name;
    cr_tensor *(*op)(cr_tensor *);
    cr_tensor *x;
} function;

static bool function_step(void *context) {
    const function *f = context;
    CR_SCOPE {
        f->op(f->x);
    }
    return cr_ok();
}

static void measure_functions(void) {
    static const function functions[] = {{"sin", cr_sin},     {"cos", cr_cos},     {"tan", cr_tan},
                                         {"exp2", cr_exp2},   {"log2", cr_log2},   {"log10", cr_log10},
                                         {"log1p", cr_log1p}, {"expm1", cr_expm1}, {"erf", cr_erf},
                                         {"atan", cr_atan},   {"sinh", cr_sinh},   {"cosh", cr_cosh}};
    CR_SCOPE {
        cr_tensor *x = cr_mul_scalar(cr_rand(CR_F32, CR_SHAPE(ELEMENTS), CR_CPU), 10);
        for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
            function f = functions[i];
            f.x = x;
            measure(f.name, function_step, &f, 0.2, 0);
        }
    }
}

void measure_layers(void) {
    measure_attention();
    measure_lstm("LSTM step, hidden 128", 128);
    measure_lstm("LSTM step, hidden 256", 256);
    measure_group_norm();
    measure_update("SGD step", make_sgd);
    measure_update("RMSprop step", make_rmsprop);
    measure_functions();
}
