/* Training steps: a small MLP, the DCGAN of 64 × 64 pictures, ResNet-18, a GPT. Inputs are random; times are wall
 * times. */
#include "models.h"

/* Multiply-adds of one forward for one picture, by the layers' shapes. */
#define GENERATOR_WORK     104.6e6
#define DISCRIMINATOR_WORK 103.8e6
#define RESNET_WORK        1.814e9

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

static void end_classifier(void *context) {
    classifier *c = context;
    cr_optim_free(c->optim);
    cr_nn_free(c->net);
    cr_release(c->x);
    cr_release(c->y);
    cr_free(c);
}

/* Takes over the module. */
static void *new_classifier(cr_nn_module *net, bool updates, cr_tensor *x, cr_tensor *y) {
    classifier *c = cr_malloc(sizeof *c);
    if (c)
        *c = (classifier){net, updates ? cr_optim_sgd(cr_nn_parameters(net), .lr = 1e-3) : NULL, cr_retain(x),
                          cr_retain(y)};
    return c;
}

static void *begin_mlp(void) {
    cr_nn_module *net =
        cr_nn_sequential(cr_nn_linear(64, 64), cr_nn_relu(), cr_nn_linear(64, 64), cr_nn_relu(), cr_nn_linear(64, 10));
    return new_classifier(net, true, cr_randn(CR_F32, CR_SHAPE(32, 64), CR_CPU),
                          cr_randint(0, 10, CR_SHAPE(32), CR_CPU));
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
        b->shortcut = cr_nn_register(
            self, "downsample",
            cr_nn_sequential(cr_nn_conv2d(in, out, 1, .stride = stride, .bias = false), cr_nn_batch_norm2d(out)));
    return self;
}

static void *begin_resnet(void) {
    cr_nn_module *net =
        cr_nn_sequential(cr_nn_conv2d(3, 64, 7, .stride = 2, .padding = 3, .bias = false), cr_nn_batch_norm2d(64),
                         cr_nn_relu(), cr_nn_max_pool2d(3, .stride = 2, .padding = 1), block_new(64, 64, 1),
                         block_new(64, 64, 1), block_new(64, 128, 2), block_new(128, 128, 1), block_new(128, 256, 2),
                         block_new(256, 256, 1), block_new(256, 512, 2), block_new(512, 512, 1),
                         cr_nn_adaptive_avg_pool2d(1, 1), cr_nn_flatten(), cr_nn_linear(512, 1000));
    return new_classifier(net, false, cr_randn(CR_F32, CR_SHAPE(8, 3, 224, 224), CR_CPU),
                          cr_randint(0, 1000, CR_SHAPE(8), CR_CPU));
}

/* ---------------------------------------------------------------- GPT: 4 layers of 256, 8 heads, sequences of 128 */
enum { WORDS = 512, LENGTH = 128, WIDTH = 256, HEADS = 8, LAYERS = 4, SEQUENCES = 8 };

typedef struct layer {
    cr_nn_module *norm1, *qkv, *out, *norm2, *up, *down;
} layer;

static cr_tensor *layer_forward(cr_nn_module *self, cr_tensor *x) {
    layer *l = cr_nn_self(self);
    const cr_shape split = CR_SHAPE(SEQUENCES, LENGTH, 3, HEADS, WIDTH / HEADS);
    cr_tensor *qkv =
        cr_permute(cr_reshape(cr_nn_forward(l->qkv, cr_nn_forward(l->norm1, x)), split), CR_DIMS(2, 0, 3, 1, 4));
    cr_tensor *mixed = cr_scaled_dot_product_attention(cr_select(qkv, 0, 0), cr_select(qkv, 0, 1), cr_select(qkv, 0, 2),
                                                       NULL, .is_causal = true);
    mixed = cr_reshape(cr_transpose(mixed, 1, 2), CR_SHAPE(SEQUENCES, LENGTH, WIDTH));
    x = cr_add(x, cr_nn_forward(l->out, mixed));
    return cr_add(x, cr_nn_forward(l->down, cr_gelu(cr_nn_forward(l->up, cr_nn_forward(l->norm2, x)))));
}

static cr_nn_module *layer_new(void) {
    cr_nn_module *self = cr_nn_module_new("layer", sizeof(layer), layer_forward);
    layer *l = cr_nn_self(self);
    if (!l) return NULL;
    l->norm1 = cr_nn_register(self, "norm1", cr_nn_layer_norm(CR_SHAPE(WIDTH)));
    l->qkv = cr_nn_register(self, "qkv", cr_nn_linear(WIDTH, 3 * WIDTH));
    l->out = cr_nn_register(self, "out", cr_nn_linear(WIDTH, WIDTH));
    l->norm2 = cr_nn_register(self, "norm2", cr_nn_layer_norm(CR_SHAPE(WIDTH)));
    l->up = cr_nn_register(self, "up", cr_nn_linear(WIDTH, 4 * WIDTH));
    l->down = cr_nn_register(self, "down", cr_nn_linear(4 * WIDTH, WIDTH));
    return self;
}

/* Logits of [words, classes], as cross-entropy takes them. */
static cr_tensor *flat(cr_tensor *logits) { return cr_reshape(logits, CR_SHAPE(SEQUENCES * LENGTH, WORDS)); }

static void *begin_gpt(void) {
    cr_nn_module *net = cr_nn_sequential(cr_nn_embedding(WORDS, WIDTH));
    for (int i = 0; i < LAYERS; i++)
        cr_nn_append(net, layer_new());
    cr_nn_append(net, cr_nn_layer_norm(CR_SHAPE(WIDTH)));
    cr_nn_append(net, cr_nn_linear(WIDTH, WORDS));
    cr_nn_append(net, cr_nn_function("flat", flat));
    return new_classifier(net, true, cr_randint(0, WORDS, CR_SHAPE(SEQUENCES, LENGTH), CR_CPU),
                          cr_randint(0, WORDS, CR_SHAPE(SEQUENCES * LENGTH), CR_CPU));
}

/* ---------------------------------------------------------------- DCGAN (Radford et al., 2016) */
enum { BATCH = 64, NOISE = 100 };

typedef struct dcgan {
    cr_nn_module *generator, *discriminator;
    cr_optim *optim_g, *optim_d;
    cr_tensor *real, *ones, *zeros;
} dcgan;

#define UP(in, out, ...)   cr_nn_conv_transpose2d(in, out, 4, .bias = false, __VA_ARGS__)
#define DOWN(in, out, ...) cr_nn_conv2d(in, out, 4, .bias = false, __VA_ARGS__)

static cr_nn_module *generator_new(void) {
    return cr_nn_sequential(UP(NOISE, 512, .stride = 1), cr_nn_batch_norm2d(512), cr_nn_relu(),
                            UP(512, 256, .stride = 2, .padding = 1), cr_nn_batch_norm2d(256), cr_nn_relu(),
                            UP(256, 128, .stride = 2, .padding = 1), cr_nn_batch_norm2d(128), cr_nn_relu(),
                            UP(128, 64, .stride = 2, .padding = 1), cr_nn_batch_norm2d(64), cr_nn_relu(),
                            UP(64, 3, .stride = 2, .padding = 1), cr_nn_tanh());
}

static cr_nn_module *discriminator_new(void) {
    return cr_nn_sequential(DOWN(3, 64, .stride = 2, .padding = 1), cr_nn_leaky_relu(0.2),
                            DOWN(64, 128, .stride = 2, .padding = 1), cr_nn_batch_norm2d(128), cr_nn_leaky_relu(0.2),
                            DOWN(128, 256, .stride = 2, .padding = 1), cr_nn_batch_norm2d(256), cr_nn_leaky_relu(0.2),
                            DOWN(256, 512, .stride = 2, .padding = 1), cr_nn_batch_norm2d(512), cr_nn_leaky_relu(0.2),
                            DOWN(512, 1, .stride = 1));
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

static void *begin_dcgan(void) {
    dcgan *g = cr_calloc(1, sizeof *g);
    if (!g) return NULL;
    *g = (dcgan){.generator = generator_new(), .discriminator = discriminator_new()};
    g->optim_g = cr_optim_adam(cr_nn_parameters(g->generator), .lr = 2e-4, .beta1 = 0.5);
    g->optim_d = cr_optim_adam(cr_nn_parameters(g->discriminator), .lr = 2e-4, .beta1 = 0.5);
    g->real = cr_retain(cr_randn(CR_F32, CR_SHAPE(BATCH, 3, 64, 64), CR_CPU));
    g->ones = cr_retain(cr_ones(CR_F32, CR_SHAPE(BATCH), CR_CPU));
    g->zeros = cr_retain(cr_zeros(CR_F32, CR_SHAPE(BATCH), CR_CPU));
    return g;
}

static void end_dcgan(void *context) {
    dcgan *g = context;
    cr_optim_free(g->optim_g);
    cr_optim_free(g->optim_d);
    cr_nn_free(g->generator);
    cr_nn_free(g->discriminator);
    cr_release(g->real);
    cr_release(g->ones);
    cr_release(g->zeros);
    cr_free(g);
}

/* Multiply-adds of a GPT's forward for one word. */
#define GPT_WORK (LAYERS * (12.0 * WIDTH * WIDTH + LENGTH * WIDTH) + WIDTH * WORDS)

const training_work training_works[] = {
    {"MLP step", 0.5, 32 * 2 * (2 * 4096 + 3 * (4096 + 640)), begin_mlp, classifier_step, end_classifier},
    {"DCGAN step", 10, BATCH * 2 * (9 * DISCRIMINATOR_WORK + 3 * GENERATOR_WORK), begin_dcgan, dcgan_step, end_dcgan},
    {"ResNet-18 forward and backward", 8, 8 * 3 * 2 * RESNET_WORK, begin_resnet, classifier_step, end_classifier},
    {"GPT step", 4, SEQUENCES *LENGTH * 3 * 2 * GPT_WORK, begin_gpt, classifier_step, end_classifier},
};
const int training_work_count = sizeof training_works / sizeof training_works[0];
