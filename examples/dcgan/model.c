/* Generator and discriminator: (transposed) convolutions that double and halve the image, batch norm between them. */
#include "model.h"

#include <string.h>

/* N(0, 0.02) for convolutions, N(1, 0.02) and 0 for batch norm, as in the paper. */
static bool init_weights(cr_nn_module *module, const char *path, void *context) {
    (void)path, (void)context;
    cr_tensor *weight = cr_nn_tensor(module, "weight"), *bias = cr_nn_tensor(module, "bias");
    if (strncmp(cr_nn_type(module), "conv", 4) == 0) return cr_nn_init_normal_(weight, 0, 0.02) != NULL;
    if (strncmp(cr_nn_type(module), "batch_norm", 10) == 0)
        return cr_nn_init_normal_(weight, 1, 0.02) && cr_nn_init_constant_(bias, 0);
    return true;
}

static cr_nn_module *initialised(cr_nn_module *net) {
    if (cr_nn_apply(net, init_weights, NULL)) return net;
    cr_nn_free(net);
    return NULL;
}

cr_nn_module *generator_new(int latent, int features, int image_size) {
    int width = features * image_size / 8; /* channels of the first, smallest layer */
    cr_nn_module *net = cr_nn_sequential(cr_nn_conv_transpose2d(latent, width, 4, .bias = false),
                                         cr_nn_batch_norm2d(width), cr_nn_relu());
    for (; width > features; width /= 2) {
        cr_nn_append(net, cr_nn_conv_transpose2d(width, width / 2, 4, .stride = 2, .padding = 1, .bias = false));
        cr_nn_append(net, cr_nn_batch_norm2d(width / 2));
        cr_nn_append(net, cr_nn_relu());
    }
    cr_nn_append(net, cr_nn_conv_transpose2d(features, 3, 4, .stride = 2, .padding = 1, .bias = false));
    cr_nn_append(net, cr_nn_tanh());
    return initialised(net);
}

cr_nn_module *discriminator_new(int features, int image_size) {
    int width = features;
    cr_nn_module *net =
        cr_nn_sequential(cr_nn_conv2d(3, width, 4, .stride = 2, .padding = 1, .bias = false), cr_nn_leaky_relu(0.2));
    for (; width < features * image_size / 8; width *= 2) {
        cr_nn_append(net, cr_nn_conv2d(width, width * 2, 4, .stride = 2, .padding = 1, .bias = false));
        cr_nn_append(net, cr_nn_batch_norm2d(width * 2));
        cr_nn_append(net, cr_nn_leaky_relu(0.2));
    }
    cr_nn_append(net, cr_nn_conv2d(width, 1, 4, .bias = false));
    return initialised(net);
}
