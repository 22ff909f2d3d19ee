/* Well-known networks: LeNet, ResNet 18/34/50, MobileNetV2, DCGAN. */
#include <cresset/models.h>

#include <math.h>
#include <string.h>

/* The module where all of it could be made, else NULL. */
static cr_nn_module *whole(cr_nn_module *self) {
    if (self && cr_ok()) return self;
    cr_nn_free(self);
    return NULL;
}

/* Runs its children in the order in which they were registered. */
static cr_tensor *forward_children(cr_nn_module *self, cr_tensor *x) {
    for (int i = 0; i < cr_nn_child_count(self); i++)
        x = cr_nn_forward(cr_nn_child(self, i), x);
    return x;
}

cr_nn_module *cr_vision_lenet(int64_t classes) {
    cr_nn_module *self = cr_nn_module_new("lenet", 0, forward_children);
    cr_nn_register(self, "conv1", cr_nn_conv2d(1, 6, 5, .padding = 2));
    cr_nn_register(self, "relu1", cr_nn_relu());
    cr_nn_register(self, "pool1", cr_nn_max_pool2d(2));
    cr_nn_register(self, "conv2", cr_nn_conv2d(6, 16, 5));
    cr_nn_register(self, "relu2", cr_nn_relu());
    cr_nn_register(self, "pool2", cr_nn_max_pool2d(2));
    cr_nn_register(self, "flatten", cr_nn_flatten());
    cr_nn_register(self, "fc1", cr_nn_linear(16 * 5 * 5, 120));
    cr_nn_register(self, "relu3", cr_nn_relu());
    cr_nn_register(self, "fc2", cr_nn_linear(120, 84));
    cr_nn_register(self, "relu4", cr_nn_relu());
    cr_nn_register(self, "fc3", cr_nn_linear(84, classes));
    return whole(self);
}

/* ------------------------------------------------------------------ ResNet */
/* relu(body(x) + shortcut(x)): two 3×3 convolutions, or 1×1, 3×3, 1×1; conv3 is NULL in the former. */
typedef struct block {
    cr_nn_module *conv1, *bn1, *conv2, *bn2, *conv3, *bn3, *downsample;
} block;

static cr_tensor *block_forward(cr_nn_module *self, cr_tensor *x) {
    const block *b = cr_nn_self(self);
    cr_tensor *y = cr_relu(cr_nn_forward(b->bn1, cr_nn_forward(b->conv1, x)));
    y = cr_nn_forward(b->bn2, cr_nn_forward(b->conv2, y));
    if (b->conv3) y = cr_nn_forward(b->bn3, cr_nn_forward(b->conv3, cr_relu(y)));
    return cr_relu(cr_add(y, b->downsample ? cr_nn_forward(b->downsample, x) : x));
}

static cr_nn_module *block_new(int64_t in, int64_t width, int64_t stride, bool bottleneck) {
    const int64_t out = bottleneck ? 4 * width : width;
    cr_nn_module *self = cr_nn_module_new(bottleneck ? "bottleneck" : "basic_block", sizeof(block), block_forward);
    block *b = self ? cr_nn_self(self) : NULL;
    if (!b) return NULL;
    b->conv1 = cr_nn_register(self, "conv1",
                              bottleneck ? cr_nn_conv2d(in, width, 1, .bias = false)
                                         : cr_nn_conv2d(in, width, 3, .stride = stride, .padding = 1, .bias = false));
    b->bn1 = cr_nn_register(self, "bn1", cr_nn_batch_norm2d(width));
    b->conv2 = cr_nn_register(
        self, "conv2", cr_nn_conv2d(width, width, 3, .stride = bottleneck ? stride : 1, .padding = 1, .bias = false));
    b->bn2 = cr_nn_register(self, "bn2", cr_nn_batch_norm2d(width));
    if (bottleneck) {
        b->conv3 = cr_nn_register(self, "conv3", cr_nn_conv2d(width, out, 1, .bias = false));
        b->bn3 = cr_nn_register(self, "bn3", cr_nn_batch_norm2d(out));
    }
    if (stride != 1 || in != out)
        b->downsample = cr_nn_register(
            self, "downsample",
            cr_nn_sequential(cr_nn_conv2d(in, out, 1, .stride = stride, .bias = false), cr_nn_batch_norm2d(out)));
    return whole(self);
}

/* He's normal with fan out: the variance of gradients stays, layer by layer. */
static bool init_by_fan_out(cr_nn_module *module, const char *path, void *context) {
    (void)path, (void)context;
    if (strcmp(cr_nn_type(module), "conv2d") != 0) return true;
    cr_tensor *weight = cr_nn_tensor(module, "weight");
    const double fan_out = (double)(cr_size(weight, 0) * cr_size(weight, 2) * cr_size(weight, 3));
    return cr_nn_init_normal_(weight, 0, sqrt(2 / fan_out)) != NULL;
}

static cr_nn_module *resnet(const char *type, const int blocks[4], bool bottleneck, int64_t classes) {
    static const char *const names[] = {"layer1", "layer2", "layer3", "layer4"};
    cr_nn_module *self = cr_nn_module_new(type, 0, forward_children);
    int64_t in = 64;
    cr_nn_register(self, "conv1", cr_nn_conv2d(3, 64, 7, .stride = 2, .padding = 3, .bias = false));
    cr_nn_register(self, "bn1", cr_nn_batch_norm2d(64));
    cr_nn_register(self, "relu", cr_nn_relu());
    cr_nn_register(self, "maxpool", cr_nn_max_pool2d(3, .stride = 2, .padding = 1));
    for (int stage = 0; stage < 4; stage++) {
        const int64_t width = (int64_t)64 << stage;
        cr_nn_module *layer = cr_nn_register(self, names[stage], cr_nn_sequential_of(NULL, 0));
        for (int i = 0; i < blocks[stage]; i++) {
            cr_nn_append(layer, block_new(in, width, stage > 0 && i == 0 ? 2 : 1, bottleneck));
            in = bottleneck ? 4 * width : width;
        }
    }
    cr_nn_register(self, "avgpool", cr_nn_adaptive_avg_pool2d(1, 1));
    cr_nn_register(self, "flatten", cr_nn_flatten());
    cr_nn_register(self, "fc", cr_nn_linear(in, classes));
    if (cr_ok()) cr_nn_apply(self, init_by_fan_out, NULL);
    return whole(self);
}

cr_nn_module *cr_vision_resnet18(int64_t classes) {
    return resnet("resnet18", (const int[]){2, 2, 2, 2}, false, classes);
}
cr_nn_module *cr_vision_resnet34(int64_t classes) {
    return resnet("resnet34", (const int[]){3, 4, 6, 3}, false, classes);
}
cr_nn_module *cr_vision_resnet50(int64_t classes) {
    return resnet("resnet50", (const int[]){3, 4, 6, 3}, true, classes);
}

/* ------------------------------------------------------------------ VGG */
/* As ResNet's; linear weights begin with a deviation of 0.01, biases with zero. */
static bool init_vgg(cr_nn_module *module, const char *path, void *context) {
    const bool is_linear = !strcmp(cr_nn_type(module), "linear");
    if (!is_linear && strcmp(cr_nn_type(module), "conv2d") != 0) return true;
    if (!cr_nn_init_constant_(cr_nn_tensor(module, "bias"), 0)) return false;
    return is_linear ? cr_nn_init_normal_(cr_nn_tensor(module, "weight"), 0, 0.01) != NULL
                     : init_by_fan_out(module, path, context);
}

/* Stages of 3×3 convolutions, each ending in a pool: features.0, features.2, …; three linear layers: classifier.0, .3, .6. */
static cr_nn_module *vgg(const char *type, const int layers[5], int64_t classes) {
    cr_nn_module *self = cr_nn_module_new(type, 0, forward_children);
    cr_nn_module *features = cr_nn_register(self, "features", cr_nn_sequential_of(NULL, 0));
    int64_t in = 3;
    for (int stage = 0; stage < 5; stage++) {
        const int64_t width = stage < 4 ? (int64_t)64 << stage : 512;
        for (int i = 0; i < layers[stage]; i++, in = width) {
            cr_nn_append(features, cr_nn_conv2d(in, width, 3, .padding = 1));
            cr_nn_append(features, cr_nn_relu());
        }
        cr_nn_append(features, cr_nn_max_pool2d(2));
    }
    cr_nn_register(self, "avgpool", cr_nn_adaptive_avg_pool2d(7, 7));
    cr_nn_register(self, "flatten", cr_nn_flatten());
    cr_nn_register(self, "classifier",
                   cr_nn_sequential(cr_nn_linear(512 * 7 * 7, 4096), cr_nn_relu(), cr_nn_dropout(0.5),
                                    cr_nn_linear(4096, 4096), cr_nn_relu(), cr_nn_dropout(0.5),
                                    cr_nn_linear(4096, classes)));
    if (cr_ok()) cr_nn_apply(self, init_vgg, NULL);
    return whole(self);
}

cr_nn_module *cr_vision_vgg11(int64_t classes) { return vgg("vgg11", (const int[]){1, 1, 2, 2, 2}, classes); }
cr_nn_module *cr_vision_vgg16(int64_t classes) { return vgg("vgg16", (const int[]){2, 2, 3, 3, 3}, classes); }
cr_nn_module *cr_vision_vgg19(int64_t classes) { return vgg("vgg19", (const int[]){2, 2, 4, 4, 4}, classes); }

/* ------------------------------------------------------------------ MobileNetV2 */
/* conv(x), and x added where shapes are the same. */
typedef struct inverted {
    cr_nn_module *conv;
    bool adds;
} inverted;

static cr_tensor *inverted_forward(cr_nn_module *self, cr_tensor *x) {
    const inverted *b = cr_nn_self(self);
    cr_tensor *y = cr_nn_forward(b->conv, x);
    return b->adds ? cr_add(x, y) : y;
}

/* A convolution, batch norm and ReLU6; a depthwise one where groups are channels. */
static cr_nn_module *conv_norm(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t groups) {
    return cr_nn_sequential(
        cr_nn_conv2d(in, out, kernel, .stride = stride, .padding = kernel / 2, .groups = groups, .bias = false),
        cr_nn_batch_norm2d(out), cr_nn_relu6());
}

static cr_nn_module *inverted_new(int64_t in, int64_t out, int64_t stride, int64_t expansion) {
    const int64_t wide = in * expansion;
    cr_nn_module *self = cr_nn_module_new("inverted_residual", sizeof(inverted), inverted_forward);
    inverted *b = self ? cr_nn_self(self) : NULL;
    if (!b) return NULL;
    b->adds = stride == 1 && in == out;
    b->conv = cr_nn_register(self, "conv", cr_nn_sequential_of(NULL, 0));
    if (expansion != 1) cr_nn_append(b->conv, conv_norm(in, wide, 1, 1, 1));
    cr_nn_append(b->conv, conv_norm(wide, wide, 3, stride, wide));
    cr_nn_append(b->conv, cr_nn_conv2d(wide, out, 1, .bias = false));
    cr_nn_append(b->conv, cr_nn_batch_norm2d(out));
    return whole(self);
}

cr_nn_module *cr_vision_mobilenet_v2(int64_t classes) {
    static const struct {
        int expansion, channels, blocks, stride;
    } stages[] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                  {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
    cr_nn_module *self = cr_nn_module_new("mobilenet_v2", 0, forward_children);
    cr_nn_module *features = cr_nn_register(self, "features", cr_nn_sequential(conv_norm(3, 32, 3, 2, 1)));
    int64_t in = 32;
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++)
        for (int k = 0; k < stages[i].blocks; k++) {
            cr_nn_append(features, inverted_new(in, stages[i].channels, k ? 1 : stages[i].stride, stages[i].expansion));
            in = stages[i].channels;
        }
    cr_nn_append(features, conv_norm(in, 1280, 1, 1, 1));
    cr_nn_register(self, "avgpool", cr_nn_adaptive_avg_pool2d(1, 1));
    cr_nn_register(self, "flatten", cr_nn_flatten());
    cr_nn_register(self, "classifier", cr_nn_sequential(cr_nn_dropout(0.2), cr_nn_linear(1280, classes)));
    if (cr_ok()) cr_nn_apply(self, init_by_fan_out, NULL);
    return whole(self);
}

/* ------------------------------------------------------------------ DCGAN */
static bool init_dcgan(cr_nn_module *module, const char *path, void *context) {
    (void)path, (void)context;
    if (strncmp(cr_nn_type(module), "conv", 4) == 0)
        return cr_nn_init_normal_(cr_nn_tensor(module, "weight"), 0, 0.02) != NULL;
    if (strncmp(cr_nn_type(module), "batch_norm", 10) == 0)
        return cr_nn_init_normal_(cr_nn_tensor(module, "weight"), 1, 0.02) != NULL;
    return true;
}

/* Options with defaults where there are none; false and an error where they make no network. */
static bool dcgan_options(const cr_vision_dcgan_options *given, cr_vision_dcgan_options *o) {
    *o = given ? *given : *CR_WITH(vision_dcgan, CR_VISION_DCGAN_OPTIONS);
    if (o->latent < 1 || o->features < 1 || o->channels < 1)
        return cr_fail(CR_ERROR_ARGUMENT, "dcgan: latent %lld, features %lld and channels %lld must be 1 or more",
                       (long long)o->latent, (long long)o->features, (long long)o->channels);
    if (o->image_size < 16 || o->image_size > 1024 || (o->image_size & (o->image_size - 1)))
        return cr_fail(CR_ERROR_ARGUMENT, "dcgan: image_size must be a power of two from 16 to 1024, not %lld",
                       (long long)o->image_size);
    return true;
}

cr_nn_module *cr_vision_dcgan_generator_with(const cr_vision_dcgan_options *options) {
    cr_vision_dcgan_options o;
    if (!dcgan_options(options, &o)) return NULL;
    int64_t width = o.features * o.image_size / 8; /* channels at 4×4 */
    cr_nn_module *self = cr_nn_module_new("dcgan_generator", 0, forward_children);
    cr_nn_module *net = cr_nn_register(self, "main", cr_nn_sequential_of(NULL, 0));
    cr_nn_append(net, cr_nn_conv_transpose2d(o.latent, width, 4, .bias = false));
    for (; width > o.features; width /= 2) {
        cr_nn_append(net, cr_nn_batch_norm2d(width));
        cr_nn_append(net, cr_nn_relu());
        cr_nn_append(net, cr_nn_conv_transpose2d(width, width / 2, 4, .stride = 2, .padding = 1, .bias = false));
    }
    cr_nn_append(net, cr_nn_batch_norm2d(width));
    cr_nn_append(net, cr_nn_relu());
    cr_nn_append(net, cr_nn_conv_transpose2d(width, o.channels, 4, .stride = 2, .padding = 1, .bias = false));
    cr_nn_append(net, cr_nn_tanh());
    if (cr_ok()) cr_nn_apply(self, init_dcgan, NULL);
    return whole(self);
}

cr_nn_module *cr_vision_dcgan_discriminator_with(const cr_vision_dcgan_options *options) {
    cr_vision_dcgan_options o;
    if (!dcgan_options(options, &o)) return NULL;
    int64_t width = o.features;
    cr_nn_module *self = cr_nn_module_new("dcgan_discriminator", 0, forward_children);
    cr_nn_module *net = cr_nn_register(self, "main", cr_nn_sequential_of(NULL, 0));
    cr_nn_append(net, cr_nn_conv2d(o.channels, width, 4, .stride = 2, .padding = 1, .bias = false));
    cr_nn_append(net, cr_nn_leaky_relu(0.2));
    for (; width < o.features * o.image_size / 8; width *= 2) {
        cr_nn_append(net, cr_nn_conv2d(width, width * 2, 4, .stride = 2, .padding = 1, .bias = false));
        cr_nn_append(net, cr_nn_batch_norm2d(width * 2));
        cr_nn_append(net, cr_nn_leaky_relu(0.2));
    }
    cr_nn_append(net, cr_nn_conv2d(width, 1, 4, .bias = false));
    if (cr_ok()) cr_nn_apply(self, init_dcgan, NULL);
    return whole(self);
}
