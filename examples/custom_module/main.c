/* The shortest model of one's own, and the shortest differentiable function of one's own. */
#include <cresset.h>

/* A function: clamps to -1 … 1 and lets gradients through as if it did nothing (a "straight-through" estimator). */
static bool hard_forward(cr_function_call *call, cr_tensor *const *inputs, cr_tensor **outputs) {
    (void)call;
    return (outputs[0] = cr_clamp(inputs[0], -1, 1)) != NULL;
}
static bool hard_backward(cr_function_call *call, cr_tensor *const *output_gradients, cr_tensor **input_gradients) {
    (void)call;
    input_gradients[0] = output_gradients[0];
    return true;
}
static const cr_function hard = {"hard", hard_forward, hard_backward, 0, NULL};

/* A model: a struct and a forward function. */
typedef struct mlp {
    cr_nn_module *fc1, *fc2;
} mlp;

static cr_tensor *mlp_forward(cr_nn_module *self, cr_tensor *x) {
    mlp *m = cr_nn_self(self);
    cr_tensor *hidden = cr_nn_forward(m->fc1, x), *clamped;
    if (!cr_function_apply(&hard, &hidden, 1, &clamped, 1, NULL)) return NULL;
    return cr_nn_forward(m->fc2, clamped);
}

static cr_nn_module *mlp_new(int64_t in, int64_t width, int64_t out) {
    cr_nn_module *self = cr_nn_module_new("mlp", sizeof(mlp), mlp_forward);
    mlp *m = cr_nn_self(self);
    if (!m) return NULL;
    m->fc1 = cr_nn_register(self, "fc1", cr_nn_linear(in, width));
    m->fc2 = cr_nn_register(self, "fc2", cr_nn_linear(width, out));
    return self;
}

int main(void) {
    cr_manual_seed(0);
    cr_nn_module *net = mlp_new(2, 16, 1);
    cr_optim *optim = cr_optim_adam(cr_nn_parameters(net), .lr = 0.02);
    cr_tensor *x = cr_from_data(CR_F32, CR_SHAPE(4, 2), (float[]){0, 0, 0, 1, 1, 0, 1, 1});
    cr_tensor *y = cr_from_data(CR_F32, CR_SHAPE(4, 1), (float[]){0, 1, 1, 0}); /* exclusive or */
    for (int step = 0; step < 500 && cr_ok(); step++) {
        CR_SCOPE {
            cr_tensor *loss = cr_bce_with_logits(cr_nn_forward(net, x), y);
            cr_optim_zero_grad(optim);
            cr_backward(loss);
            cr_optim_step(optim);
            if (step % 100 == 99) printf("step %d: loss %.4f\n", step + 1, cr_item(loss));
        }
    }
    cr_print(stdout, cr_sigmoid(cr_detach(cr_nn_forward(net, x))));
    cr_optim_free(optim);
    cr_nn_free(net);
    return cr_report(stderr);
}
