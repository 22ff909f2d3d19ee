/* Trains the DCGAN of examples/dcgan and the digits model for 20 steps each, and writes what PyTorch needs to do the
 * same: first weights, inputs, and our losses (tests/reference/train_check.py compares). usage: train_dump
 * OUT.safetensors */
#include <cresset.h>

#include "examples/dcgan/model.h"

enum { STEPS = 20, BATCH = 8, LATENT = 16, FEATURES = 8, IMAGE = 32, MOST = 1024 };

static cr_named_tensor rows[MOST];
static char names[MOST][96];
static int count;

/* Keeps a copy under a name. */
static void note(const char *prefix, const char *name, cr_tensor *t) {
    if (count == MOST) return;
    snprintf(names[count], sizeof names[count], "%s%s", prefix, name);
    cr_tensor *copy = cr_retain(cr_clone(cr_detach(t)));
    rows[count] = (cr_named_tensor){names[count], copy};
    count++;
}

static void note_state(const char *prefix, cr_nn_module *net) {
    const cr_nn_tensors state = cr_nn_state(net);
    for (int i = 0; i < state.count; i++)
        note(prefix, state.names[i], state.at[i]);
}

static void train_dcgan(void) {
    cr_nn_module *g = generator_new(LATENT, FEATURES, IMAGE), *d = discriminator_new(FEATURES, IMAGE);
    note_state("dcgan.g.", g);
    note_state("dcgan.d.", d);
    cr_optim *g_optim = cr_optim_adam(cr_nn_parameters(g), .lr = 2e-4, .beta1 = 0.5);
    cr_optim *d_optim = cr_optim_adam(cr_nn_parameters(d), .lr = 2e-4, .beta1 = 0.5);
    double losses[STEPS][2];
    for (int step = 0; step < STEPS && cr_ok(); step++) {
        CR_SCOPE {
            char name[32];
            cr_tensor *real = cr_tanh(cr_randn(CR_F32, CR_SHAPE(BATCH, 3, IMAGE, IMAGE), CR_CPU));
            cr_tensor *noise = cr_randn(CR_F32, CR_SHAPE(BATCH, LATENT, 1, 1), CR_CPU);
            snprintf(name, sizeof name, "dcgan.real.%d", step);
            note("", name, real);
            snprintf(name, sizeof name, "dcgan.noise.%d", step);
            note("", name, noise);
            cr_tensor *yes = cr_ones(CR_F32, CR_SHAPE(BATCH, 1, 1, 1), CR_CPU), *no = cr_zeros_like(yes),
                      *fake = cr_nn_forward(g, noise);
            cr_optim_zero_grad(d_optim);
            cr_tensor *loss_d = cr_add(cr_bce_with_logits(cr_nn_forward(d, real), yes),
                                       cr_bce_with_logits(cr_nn_forward(d, cr_detach(fake)), no));
            cr_backward(loss_d);
            cr_optim_step(d_optim);
            cr_optim_zero_grad(g_optim);
            cr_tensor *loss_g = cr_bce_with_logits(cr_nn_forward(d, fake), yes);
            cr_backward(loss_g);
            cr_optim_step(g_optim);
            losses[step][0] = cr_item(loss_d);
            losses[step][1] = cr_item(loss_g);
        }
    }
    note("", "dcgan.losses", cr_from_data(CR_F64, CR_SHAPE(STEPS, 2), losses));
    cr_optim_free(g_optim);
    cr_optim_free(d_optim);
    cr_nn_free(g);
    cr_nn_free(d);
}

static void train_digits(void) {
    cr_nn_module *net =
        cr_nn_sequential(cr_nn_conv2d(1, 16, 3, .padding = 1), cr_nn_relu(), cr_nn_max_pool2d(2),
                         cr_nn_conv2d(16, 32, 3, .padding = 1), cr_nn_relu(), cr_nn_max_pool2d(2), cr_nn_flatten(),
                         cr_nn_linear(32 * 7 * 7, 64), cr_nn_relu(), cr_nn_linear(64, 10));
    note_state("digits.net.", net);
    cr_optim *optim = cr_optim_adam(cr_nn_parameters(net), .lr = 1e-3);
    double losses[STEPS];
    for (int step = 0; step < STEPS && cr_ok(); step++) {
        CR_SCOPE {
            char name[32];
            cr_tensor *x = cr_rand(CR_F32, CR_SHAPE(BATCH, 1, 28, 28), CR_CPU),
                      *y = cr_randint(0, 10, CR_SHAPE(BATCH), CR_CPU);
            snprintf(name, sizeof name, "digits.x.%d", step);
            note("", name, x);
            snprintf(name, sizeof name, "digits.y.%d", step);
            note("", name, y);
            cr_tensor *loss = cr_cross_entropy(cr_nn_forward(net, x), y);
            cr_optim_zero_grad(optim);
            cr_backward(loss);
            cr_optim_step(optim);
            losses[step] = cr_item(loss);
        }
    }
    note("", "digits.losses", cr_from_data(CR_F64, CR_SHAPE(STEPS), losses));
    cr_optim_free(optim);
    cr_nn_free(net);
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    cr_manual_seed(7);
    train_dcgan();
    train_digits();
    if (cr_ok()) cr_safetensors_save(argv[1], rows, count, NULL, 0);
    for (int i = 0; i < count; i++)
        cr_release((cr_tensor *)(uintptr_t)rows[i].tensor);
    return cr_report(stderr);
}
