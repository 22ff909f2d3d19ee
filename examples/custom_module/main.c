/* The shortest model of one's own, and the shortest differentiable function of one's own: together they learn XOR. */
#include <cresset.h>

/* A function: y = sin(x), dy/dx = cos(x). What backward needs, forward saves. */
static bool sine_forward(cr_function_call *call, cr_tensor *const *inputs, cr_tensor **outputs) {
    outputs[0] = cr_sin(inputs[0]);
    return outputs[0] && cr_function_save(call, inputs[0]);
}
static bool sine_backward(cr_function_call *call, cr_tensor *const *output_gradients, cr_tensor **input_gradients) {
    input_gradients[0] = cr_mul(output_gradients[0], cr_cos(cr_function_saved(call, 0)));
    return input_gradients[0] != NULL;
}
static const cr_function sine = {"sine", sine_forward, sine_backward, 0, NULL};

/* A model: a struct and a forward function. */
typedef struct mlp {
    cr_nn_module *fc1, *fc2;
} mlp;

/* x: [batch, in] -> [batch, out] */
static cr_tensor *mlp_forward(cr_nn_module *self, cr_tensor *x) {
    mlp *m = cr_nn_self(self);
    cr_tensor *hidden = cr_nn_forward(m->fc1, x), *wave;
    if (!cr_function_apply(&sine, &hidden, 1, &wave, 1, NULL)) return NULL;
    return cr_nn_forward(m->fc2, wave);
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
    const float pairs[] = {0, 0, 0, 1, 1, 0, 1, 1}, wanted[] = {0, 1, 1, 0};
    cr_manual_seed(0);
    cr_nn_module *net = mlp_new(2, 16, 1);
    cr_optim *optim = cr_optim_adam(cr_nn_parameters(net), .lr = 0.02);
    cr_tensor *x = cr_from_data(CR_F32, CR_SHAPE(4, 2), pairs), *y = cr_from_data(CR_F32, CR_SHAPE(4, 1), wanted);
    for (int step = 1; step <= 500 && cr_ok(); step++) {
        CR_SCOPE {
            cr_tensor *loss = cr_bce_with_logits(cr_nn_forward(net, x), y);
            cr_optim_zero_grad(optim);
            cr_backward(loss);
            cr_optim_step(optim);
            if (step % 100 == 0) printf("step %d: loss %.4f\n", step, cr_item(loss));
        }
    }
    float learned[4] = {0};
    cr_copy_to_host(cr_sigmoid(cr_nn_forward(net, x)), learned, sizeof learned);
    printf("a b  xor  learned\n");
    for (int i = 0; i < 4; i++)
        printf("%g %g   %g    %.3f\n", pairs[2 * i], pairs[2 * i + 1], wanted[i], learned[i]);
    cr_optim_free(optim);
    cr_nn_free(net);
    return cr_report(stderr);
}
