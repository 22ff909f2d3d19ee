/* Whole models, frozen. The first time, each is written as ONNX and as a program to the folder: what the opponents run. */
#include "worker.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---------------------------------------------------------------- an encoder as large as BERT's base (Devlin et al. 2018) */
enum { WIDTH = 768, HEADS = 12, LAYERS = 12, LENGTH = 128 };

typedef struct layer {
    cr_nn_module *qkv, *out, *norm1, *up, *down, *norm2;
} layer;

static cr_tensor *layer_forward(cr_nn_module *self, cr_tensor *x) {
    layer *l = cr_nn_self(self);
    const int64_t batch = cr_size(x, 0), length = cr_size(x, 1);
    cr_tensor *qkv = cr_permute(cr_reshape(cr_nn_forward(l->qkv, x), CR_SHAPE(batch, length, 3, HEADS, WIDTH / HEADS)),
                                CR_DIMS(2, 0, 3, 1, 4));
    cr_tensor *mixed =
        cr_scaled_dot_product_attention(cr_select(qkv, 0, 0), cr_select(qkv, 0, 1), cr_select(qkv, 0, 2), NULL);
    mixed = cr_reshape(cr_transpose(mixed, 1, 2), CR_SHAPE(batch, length, WIDTH));
    x = cr_nn_forward(l->norm1, cr_add(x, cr_nn_forward(l->out, mixed)));
    return cr_nn_forward(l->norm2, cr_add(x, cr_nn_forward(l->down, cr_gelu(cr_nn_forward(l->up, x)))));
}

static cr_nn_module *new_encoder(int64_t classes) {
    cr_nn_module *net = cr_nn_sequential_of(NULL, 0);
    (void)classes;
    for (int i = 0; i < LAYERS; i++) {
        cr_nn_module *self = cr_nn_module_new("layer", sizeof(layer), layer_forward);
        layer *l = cr_nn_self(self);
        if (!l) return NULL;
        l->qkv = cr_nn_register(self, "qkv", cr_nn_linear(WIDTH, 3 * WIDTH));
        l->out = cr_nn_register(self, "out", cr_nn_linear(WIDTH, WIDTH));
        l->norm1 = cr_nn_register(self, "norm1", cr_nn_layer_norm(CR_SHAPE(WIDTH)));
        l->up = cr_nn_register(self, "up", cr_nn_linear(WIDTH, 4 * WIDTH));
        l->down = cr_nn_register(self, "down", cr_nn_linear(4 * WIDTH, WIDTH));
        l->norm2 = cr_nn_register(self, "norm2", cr_nn_layer_norm(CR_SHAPE(WIDTH)));
        cr_nn_append(net, self);
    }
    return net;
}

static cr_nn_module *new_lstm(int64_t classes) {
    (void)classes;
    return cr_nn_lstm(512, 512);
}

/* ---------------------------------------------------------------- one model */
typedef struct model {
    const char *name;
    cr_nn_module *(*make)(int64_t classes);
    cr_shape item; /* of an input, without the batch */
} model;

static const model models[] = {
    {"ResNet-50", cr_vision_resnet50, {3, {3, 224, 224}}}, {"ResNet-18", cr_vision_resnet18, {3, {3, 224, 224}}},
    {"VGG-16", cr_vision_vgg16, {3, {3, 224, 224}}},       {"MobileNetV2", cr_vision_mobilenet_v2, {3, {3, 224, 224}}},
    {"encoder", new_encoder, {2, {LENGTH, WIDTH}}},        {"LSTM", new_lstm, {2, {1, 512}}}};

/* "ResNet-50, batch 16" is in the folder as ResNet-50-16.onnx and ResNet-50-16.safetensors. */
static bool write_once(cr_graph *graph, const char *folder, const char *name, int64_t batch, bool *done) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s-%lld.onnx", folder, name, (long long)batch);
    if (access(path, R_OK) == 0) return true;
    if (!cr_onnx_export(graph, path)) return false;
    *done = true;
    snprintf(path, sizeof path, "%s/%s-%lld.safetensors", folder, name, (long long)batch);
    return cr_jit_save(graph, path);
}

static bool begin_model(const work *w, const char *folder) {
    const model *m = NULL;
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++)
        if (!strncmp(w->name, models[i].name, strlen(models[i].name))) m = &models[i];
    cr_shape shape = {.count = m->item.count + 1, .at = {w->size[0]}};
    memcpy(shape.at + 1, m->item.at, sizeof shape.at - sizeof shape.at[0]);
    cr_nn_module *net = cr_nn_eval(m->make(1000));
    cr_tensor *x = numbers(shape, 1);
    cr_graph *graph = cr_jit_trace(net, x, .freeze = true);
    bool written = false;
    const bool done = graph && write_once(graph, folder, m->name, w->size[0], &written);
    if (!done) cr_jit_free(graph);
    const bool ready = done && prepare_graph(graph, &x, 1, 1);
    cr_nn_free(net);
    return ready;
}

#define MODEL(name, batch)                                                                                             \
    { name, {batch}, 0, begin_model, run_graph, drop_graph }
const work inference_works[] = {MODEL("ResNet-50, batch 1", 1),     MODEL("ResNet-50, batch 16", 16),
                                MODEL("ResNet-18, batch 1", 1),     MODEL("ResNet-18, batch 16", 16),
                                MODEL("VGG-16, batch 1", 1),        MODEL("MobileNetV2, batch 1", 1),
                                MODEL("MobileNetV2, batch 16", 16), MODEL("encoder, batch 1", 1),
                                MODEL("LSTM, 32 steps", 32),        {NULL}};
