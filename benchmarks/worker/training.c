/* Training steps, traced whole but for those whose row says eager: a small MLP, LeNet, the DCGAN of 64 × 64 pictures, ResNet-18, an LSTM, a GPT. Before the first
 * step each writes its weights and data to the folder for the opponents; the losses of the first steps are compared. */
#include "worker.h"

#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------- files for the opponents */
static bool save_net(cr_nn_module *net, const char *stem, int index) {
    char path[1100];
    snprintf(path, sizeof path, "%s.net%d.safetensors", stem, index);
    return cr_nn_save(net, path);
}

static bool save_data(const char *stem, const cr_named_tensor *data, int count) {
    char path[1100];
    snprintf(path, sizeof path, "%s.data.safetensors", stem);
    return cr_safetensors_save(path, data, count, NULL, 0);
}

/* ---------------------------------------------------------------- a classifier's step */
typedef struct classifier {
    cr_nn_module *net;
    cr_optim *optim;
    cr_tensor *x, *y;
} classifier;

static cr_tensor *classifier_step(void *context) {
    classifier *c = context;
    cr_tensor *loss = cr_cross_entropy(cr_nn_forward(c->net, c->x), c->y);
    cr_nn_zero_grad(c->net);
    cr_backward(loss);
    cr_optim_step(c->optim);
    return cr_detach(loss);
}

static bool save_classifier(void *context, const char *stem) {
    const classifier *c = context;
    return save_net(c->net, stem, 0) && save_data(stem, (cr_named_tensor[]){{"x", c->x}, {"y", c->y}}, 2);
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
static void *new_classifier(cr_nn_module *net, cr_tensor *x, cr_tensor *y) {
    classifier *c = cr_malloc(sizeof *c);
    if (c) *c = (classifier){net, cr_optim_sgd(cr_nn_parameters(net), .lr = 1e-2), cr_retain(x), cr_retain(y)};
    return c;
}

static void *begin_mlp(void) {
    cr_nn_module *net =
        cr_nn_sequential(cr_nn_linear(64, 64), cr_nn_relu(), cr_nn_linear(64, 64), cr_nn_relu(), cr_nn_linear(64, 10));
    return new_classifier(net, cr_randn(CR_F32, CR_SHAPE(32, 64), CR_CPU), cr_randint(0, 10, CR_SHAPE(32), CR_CPU));
}

static void *begin_resnet(void) {
    return new_classifier(cr_vision_resnet18(1000), cr_randn(CR_F32, CR_SHAPE(16, 3, 224, 224), CR_CPU),
                          cr_randint(0, 1000, CR_SHAPE(16), CR_CPU));
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
    return new_classifier(net, cr_randint(0, WORDS, CR_SHAPE(SEQUENCES, LENGTH), CR_CPU),
                          cr_randint(0, WORDS, CR_SHAPE(SEQUENCES * LENGTH), CR_CPU));
}

/* ---------------------------------------------------------------- DCGAN (Radford et al., 2016) */
enum { BATCH = 64, NOISE = 100 };

typedef struct dcgan {
    cr_nn_module *generator, *discriminator;
    cr_optim *optim_g, *optim_d;
    cr_tensor *noise, *real, *ones, *zeros;
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

/* The sum of its three losses. The noise is always the same, so that the opponents' is. */
static cr_tensor *dcgan_step(void *context) {
    dcgan *g = context;
    cr_tensor *fake = cr_nn_forward(g->generator, g->noise);
    cr_nn_zero_grad(g->discriminator);
    cr_tensor *of_real = verdict(g, g->real, g->ones);
    cr_backward(of_real);
    cr_tensor *of_fake = verdict(g, cr_detach(fake), g->zeros);
    cr_backward(of_fake);
    cr_optim_step(g->optim_d);
    cr_nn_zero_grad(g->generator);
    cr_tensor *fooled = verdict(g, fake, g->ones);
    cr_backward(fooled);
    cr_optim_step(g->optim_g);
    return cr_detach(cr_add(cr_add(of_real, of_fake), fooled));
}

static bool save_dcgan(void *context, const char *stem) {
    const dcgan *g = context;
    return save_net(g->generator, stem, 0) && save_net(g->discriminator, stem, 1) &&
           save_data(stem, (cr_named_tensor[]){{"noise", g->noise}, {"real", g->real}}, 2);
}

static void *begin_dcgan(void) {
    dcgan *g = cr_calloc(1, sizeof *g);
    if (!g) return NULL;
    *g = (dcgan){.generator = generator_new(), .discriminator = discriminator_new()};
    g->optim_g = cr_optim_adam(cr_nn_parameters(g->generator), .lr = 2e-4, .beta1 = 0.5);
    g->optim_d = cr_optim_adam(cr_nn_parameters(g->discriminator), .lr = 2e-4, .beta1 = 0.5);
    g->noise = cr_retain(cr_randn(CR_F32, CR_SHAPE(BATCH, NOISE, 1, 1), CR_CPU));
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
    cr_release(g->noise);
    cr_release(g->real);
    cr_release(g->ones);
    cr_release(g->zeros);
    cr_free(g);
}

/* ---------------------------------------------------------------- LeNet, LSTM */
static void *begin_lenet(void) {
    return new_classifier(cr_vision_lenet(10), cr_randn(CR_F32, CR_SHAPE(64, 1, 28, 28), CR_CPU),
                          cr_randint(0, 10, CR_SHAPE(64), CR_CPU));
}

/* A language model: 32 steps of 32 sequences, 512 words, 512 wide. */
enum { STEPS = 32 };
static cr_tensor *words_of(cr_nn_module *self, cr_tensor *x) {
    cr_nn_module *embedding = cr_nn_child(self, 0), *lstm = cr_nn_child(self, 1), *head = cr_nn_child(self, 2);
    cr_tensor *y = cr_nn_lstm_forward(lstm, cr_nn_forward(embedding, x), NULL, NULL, NULL, NULL);
    return cr_reshape(cr_nn_forward(head, y), CR_SHAPE(STEPS * STEPS, WORDS));
}
static void *begin_lstm(void) {
    cr_nn_module *net = cr_nn_module_new("language_model", 0, words_of);
    cr_nn_register(net, "embedding", cr_nn_embedding(WORDS, WORDS));
    cr_nn_register(net, "lstm", cr_nn_lstm(WORDS, WORDS));
    cr_nn_register(net, "head", cr_nn_linear(WORDS, WORDS));
    return new_classifier(net, cr_randint(0, WORDS, CR_SHAPE(STEPS, STEPS), CR_CPU),
                          cr_randint(0, WORDS, CR_SHAPE(STEPS * STEPS), CR_CPU));
}

/* ---------------------------------------------------------------- works */
typedef struct training {
    const char *name;
    void *(*begin)(void);
    cr_tensor *(*step)(void *context); /* gives its loss */
    bool (*save)(void *context, const char *stem);
    void (*end)(void *context);
} training;

#define CLASSIFIER classifier_step, save_classifier, end_classifier
static const training trainings[] = {{"MLP step", begin_mlp, CLASSIFIER},
                                     {"LeNet step", begin_lenet, CLASSIFIER},
                                     {"DCGAN step", begin_dcgan, dcgan_step, save_dcgan, end_dcgan},
                                     {"ResNet-18 step", begin_resnet, CLASSIFIER},
                                     {"LSTM step", begin_lstm, CLASSIFIER},
                                     {"GPT step", begin_gpt, CLASSIFIER}};
static const training *current;
static void *context;

static bool call_step(void *unused, cr_tensor *const *in, int input_count, cr_tensor **out, int output_count) {
    (void)unused, (void)in, (void)input_count, (void)output_count;
    return (out[0] = current->step(context)) != NULL;
}

/* The training of this row, and the opponents' files. */
static bool begin_named(const char *row, const char *folder) {
    char stem[1024];
    current = NULL;
    for (size_t i = 0; i < sizeof trainings / sizeof trainings[0]; i++)
        if (!strncmp(row, trainings[i].name, strlen(trainings[i].name))) current = &trainings[i];
    context = current ? current->begin() : NULL;
    if (current) snprintf(stem, sizeof stem, "%s/%s", folder, current->name);
    return context && current->save(context, stem);
}

static cr_graph *trace_step(cr_tensor **loss) {
    return cr_jit_trace_function(call_step, NULL, NULL, 0, loss, 1, NULL, 0);
}

static bool run_eagerly(void) {
    CR_SCOPE {
        cr_tensor *loss = NULL;
        if (call_step(NULL, NULL, 0, &loss, 1)) {
            cr_release(now_prepared.result);
            now_prepared.result = cr_retain(loss);
        }
    }
    return cr_ok();
}

/* The first step, from which on `first` is its loss and now_prepared.result that of the one after it: tracing is a step, and
 * so is preparing. */
static bool run_first(bool eagerly, float *first) {
    cr_tensor *loss = NULL;
    if (!eagerly && !prepare_graph(trace_step(&loss), NULL, 0, 1)) return false;
    if (eagerly && !run_eagerly()) return false;
    *first = (float)cr_item(eagerly ? now_prepared.result : loss);
    return !eagerly || run_eagerly();
}

static bool begin_training(const work *w, const char *folder) {
    enum { LOSSES = 5 };
    float losses[LOSSES];
    if (!begin_named(w->name, folder) || !run_first(w->step == run_eagerly, losses)) return false;
    for (int i = 1; i < LOSSES; i++) {
        losses[i] = (float)cr_item(now_prepared.result);
        if (!w->step()) return false;
    }
    now_prepared.compared = cr_retain(cr_from_data(CR_F32, CR_SHAPE(LOSSES), losses));
    return cr_ok();
}
static void end_training(void) {
    drop_graph();
    if (context) current->end(context);
}

double training_compile_seconds(const char *name, const char *folder) {
    cr_tensor *loss = NULL, *next = NULL;
    if (!begin_named(name, folder)) return -1;
    const double begin = wall_seconds();
    cr_graph *graph = trace_step(&loss);
    const bool done = graph && cr_jit_run(graph, NULL, 0, &next, 1);
    cr_jit_wait();
    const double seconds = wall_seconds() - begin;
    cr_jit_free(graph);
    current->end(context);
    return done ? seconds : -1;
}

#define TRAINING(name, run)                                                                                            \
    { name, {0}, 0, begin_training, run, end_training }
const work training_works[] = {TRAINING("MLP step, 32 x 64-64-10", run_graph),
                               TRAINING("LeNet step, batch 64", run_graph),
                               TRAINING("DCGAN step, batch 64", run_graph),
                               TRAINING("DCGAN step, batch 64, eager", run_eagerly),
                               TRAINING("ResNet-18 step, batch 16", run_graph),
                               TRAINING("LSTM step, 32 x 32 x 512", run_graph),
                               TRAINING("GPT step, 8 x 128 x 256", run_graph),
                               TRAINING("GPT step, 8 x 128 x 256, eager", run_eagerly),
                               {NULL}};
