/* Training steps: a small MLP, the DCGAN of 64 × 64 pictures, ResNet-18. Inputs are random; times are wall times. */
#include "bench.h"

/* Multiply-adds of one forward for one picture, by the layers' shapes. */
static const double generator_work = 104.6e6, discriminator_work = 103.8e6, resnet_work = 1.814e9;

/* The median over turns of `step` for about `budget` seconds, after one turn that does not count. */
static void measure(const char *name, bool (*step)(void *), void *context, double budget, double flops) {
    enum { MOST = 500, LEAST = 3 };
    double times[MOST];
    int count = 0;
    const double begin = wall_seconds();
    if (!step(context)) return;
    while (count < MOST && (count < LEAST || wall_seconds() - begin < budget)) {
        const double start = wall_seconds();
        if (!step(context)) return;
        const double seconds = wall_seconds() - start;
        int at = count++;
        for (; at > 0 && times[at - 1] > seconds; at--) times[at] = times[at - 1];
        times[at] = seconds;
    }
    report(name, times[count / 2], flops, 0);
}

/* ---------------------------------------------------------------- a classifier's step */
typedef struct classifier {
    cr_nn_module *net;
    cr_optim *optim; /* NULL: gradients only */
    cr_tensor *x, *y;
} classifier;

static bool classifier_step(void *context) {
    classifier *c = context;
    CR_SCOPE {
        cr_tensor *loss = cr_cross_entropy(cr_nn_forward(c->net, c->x), c->y);
        cr_nn_zero_grad(c->net);
        cr_backward(loss);
        if (c->optim) cr_optim_step(c->optim);
    }
    return cr_ok();
}

static void measure_mlp(void) {
    CR_SCOPE {
        cr_nn_module *net = cr_nn_sequential(cr_nn_linear(64, 64), cr_nn_relu(), cr_nn_linear(64, 64), cr_nn_relu(), cr_nn_linear(64, 10));
        classifier c = {net, cr_optim_sgd(cr_nn_parameters(net), .lr = 1e-3), cr_randn(CR_F32, CR_SHAPE(32, 64), CR_CPU),
                        cr_randint(0, 10, CR_SHAPE(32), CR_CPU)};
        measure("MLP step", classifier_step, &c, 0.5, 32 * 2 * (2 * 4096 + 3 * (4096 + 640)));
        cr_optim_free(c.optim);
        cr_nn_free(net);
    }
}

/* ---------------------------------------------------------------- ResNet-18 */
typedef struct block {
    cr_nn_module *conv1, *bn1, *conv2, *bn2, *shortcut; /* shortcut NULL: identity */
} block;

static cr_tensor *block_forward(cr_nn_module *self, cr_tensor *x) {
    block *b = cr_nn_self(self);
    cr_tensor *y = cr_relu_(cr_nn_forward(b->bn1, cr_nn_forward(b->conv1, x)));
    y = cr_nn_forward(b->bn2, cr_nn_forward(b->conv2, y));
    return cr_relu_(cr_add_(y, b->shortcut ? cr_nn_forward(b->shortcut, x) : x));
}

static cr_nn_module *block_new(int64_t in, int64_t out, int64_t stride) {
    cr_nn_module *self = cr_nn_module_new("block", sizeof(block), block_forward);
    block *b = cr_nn_self(self);
    if (!b) return NULL;
    b->conv1 = cr_nn_register(self, "conv1", cr_nn_conv2d(in, out, 3, .stride = stride, .padding = 1, .bias = false));
    b->bn1 = cr_nn_register(self, "bn1", cr_nn_batch_norm2d(out));
    b->conv2 = cr_nn_register(self, "conv2", cr_nn_conv2d(out, out, 3, .padding = 1, .bias = false));
    b->bn2 = cr_nn_register(self, "bn2", cr_nn_batch_norm2d(out));
    if (stride != 1 || in != out)
        b->shortcut = cr_nn_register(self, "downsample",
                                     cr_nn_sequential(cr_nn_conv2d(in, out, 1, .stride = stride, .bias = false), cr_nn_batch_norm2d(out)));
    return self;
}

static void measure_resnet(void) {
    CR_SCOPE {
        cr_nn_module *net = cr_nn_sequential(
            cr_nn_conv2d(3, 64, 7, .stride = 2, .padding = 3, .bias = false), cr_nn_batch_norm2d(64), cr_nn_relu(),
            cr_nn_max_pool2d(3, .stride = 2, .padding = 1), block_new(64, 64, 1), block_new(64, 64, 1), block_new(64, 128, 2),
            block_new(128, 128, 1), block_new(128, 256, 2), block_new(256, 256, 1), block_new(256, 512, 2), block_new(512, 512, 1),
            cr_nn_adaptive_avg_pool2d(1, 1), cr_nn_flatten(), cr_nn_linear(512, 1000));
        classifier c = {net, NULL, cr_randn(CR_F32, CR_SHAPE(8, 3, 224, 224), CR_CPU), cr_randint(0, 1000, CR_SHAPE(8), CR_CPU)};
        measure("ResNet-18 forward and backward", classifier_step, &c, 8, 8 * 3 * 2 * resnet_work);
        cr_nn_free(net);
    }
}

/* ---------------------------------------------------------------- DCGAN (Radford et al., 2016) */
enum { BATCH = 64, NOISE = 100 };

typedef struct dcgan {
    cr_nn_module *generator, *discriminator;
    cr_optim *optim_g, *optim_d;
    cr_tensor *real, *ones, *zeros;
} dcgan;

#define UP(in, out, ...) cr_nn_conv_transpose2d(in, out, 4, .bias = false, __VA_ARGS__)
#define DOWN(in, out, ...) cr_nn_conv2d(in, out, 4, .bias = false, __VA_ARGS__)

static cr_nn_module *generator_new(void) {
    return cr_nn_sequential(UP(NOISE, 512, .stride = 1), cr_nn_batch_norm2d(512), cr_nn_relu(), UP(512, 256, .stride = 2, .padding = 1),
                            cr_nn_batch_norm2d(256), cr_nn_relu(), UP(256, 128, .stride = 2, .padding = 1), cr_nn_batch_norm2d(128),
                            cr_nn_relu(), UP(128, 64, .stride = 2, .padding = 1), cr_nn_batch_norm2d(64), cr_nn_relu(),
                            UP(64, 3, .stride = 2, .padding = 1), cr_nn_tanh());
}

static cr_nn_module *discriminator_new(void) {
    return cr_nn_sequential(DOWN(3, 64, .stride = 2, .padding = 1), cr_nn_leaky_relu(0.2), DOWN(64, 128, .stride = 2, .padding = 1),
                            cr_nn_batch_norm2d(128), cr_nn_leaky_relu(0.2), DOWN(128, 256, .stride = 2, .padding = 1),
                            cr_nn_batch_norm2d(256), cr_nn_leaky_relu(0.2), DOWN(256, 512, .stride = 2, .padding = 1),
                            cr_nn_batch_norm2d(512), cr_nn_leaky_relu(0.2), DOWN(512, 1, .stride = 1));
}

static cr_tensor *verdict(dcgan *g, cr_tensor *images, cr_tensor *truth) {
    return cr_bce_with_logits(cr_reshape(cr_nn_forward(g->discriminator, images), CR_SHAPE(BATCH)), truth);
}

static bool dcgan_step(void *context) {
    dcgan *g = context;
    CR_SCOPE {
        cr_tensor *fake = cr_nn_forward(g->generator, cr_randn(CR_F32, CR_SHAPE(BATCH, NOISE, 1, 1), CR_CPU));
        cr_nn_zero_grad(g->discriminator);
        cr_backward(verdict(g, g->real, g->ones));
        cr_backward(verdict(g, cr_detach(fake), g->zeros));
        cr_optim_step(g->optim_d);
        cr_nn_zero_grad(g->generator);
        cr_backward(verdict(g, fake, g->ones));
        cr_optim_step(g->optim_g);
    }
    return cr_ok();
}

static void measure_dcgan(void) {
    CR_SCOPE {
        dcgan g = {.generator = generator_new(), .discriminator = discriminator_new()};
        g.optim_g = cr_optim_adam(cr_nn_parameters(g.generator), .lr = 2e-4, .beta1 = 0.5);
        g.optim_d = cr_optim_adam(cr_nn_parameters(g.discriminator), .lr = 2e-4, .beta1 = 0.5);
        g.real = cr_randn(CR_F32, CR_SHAPE(BATCH, 3, 64, 64), CR_CPU);
        g.ones = cr_ones(CR_F32, CR_SHAPE(BATCH), CR_CPU);
        g.zeros = cr_zeros(CR_F32, CR_SHAPE(BATCH), CR_CPU);
        measure("DCGAN step", dcgan_step, &g, 10, BATCH * 2 * (9 * discriminator_work + 3 * generator_work));
        cr_optim_free(g.optim_g);
        cr_optim_free(g.optim_d);
        cr_nn_free(g.generator);
        cr_nn_free(g.discriminator);
    }
}

void measure_models(void) {
    measure_mlp();
    measure_dcgan();
    measure_resnet();
}
