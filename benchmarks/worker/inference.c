/* Whole models, frozen. The first time, each is written to the folder: as ONNX and as weights for the opponents, and as a
 * program. Models in 8 bits are quantised there, for one batch of numbers, and leave as ONNX's QDQ. */
#define _GNU_SOURCE
#include "worker.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
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
    bool is_quantized;
} model;

static const model models[] = {{"ResNet-50 int8", cr_vision_resnet50, {3, {3, 224, 224}}, true},
                               {"MobileNetV2 int8", cr_vision_mobilenet_v2, {3, {3, 224, 224}}, true},
                               {"ResNet-50", cr_vision_resnet50, {3, {3, 224, 224}}},
                               {"ResNet-18", cr_vision_resnet18, {3, {3, 224, 224}}},
                               {"VGG-16", cr_vision_vgg16, {3, {3, 224, 224}}},
                               {"MobileNetV2", cr_vision_mobilenet_v2, {3, {3, 224, 224}}},
                               {"encoder", new_encoder, {2, {LENGTH, WIDTH}}},
                               {"decoder prompt", decoder_new, {2, {LENGTH, WIDTH}}},
                               {"LSTM", new_lstm, {2, {1, 512}}}};

/* Of one batch. */
static cr_graph *trace_model(const model *m, cr_nn_module *net, cr_tensor *x) {
    cr_graph *graph = cr_jit_trace(net, x, .freeze = true);
    if (!graph || !m->is_quantized) return graph;
    cr_quantize_array data = {&x, 1};
    cr_graph *quantized = cr_jit_quantize(graph, cr_quantize_from_array, &data);
    cr_jit_free(graph);
    return quantized;
}

/* "ResNet-50, batch 16" is in the folder as ResNet-50-16.onnx, .weights.safetensors and .safetensors (the program). */
static bool write_files(const model *m, cr_shape shape, const char *stem) {
    char path[1100];
    bool done = false;
    CR_SCOPE {
        cr_nn_module *net = cr_nn_eval(m->make(1000));
        cr_graph *graph = trace_model(m, net, numbers(shape, 1));
        snprintf(path, sizeof path, "%s.safetensors", stem);
        done = graph && cr_jit_save(graph, path);
        snprintf(path, sizeof path, "%s.onnx", stem);
        done = done && cr_onnx_export(graph, path);
        snprintf(path, sizeof path, "%s.weights.safetensors", stem);
        done = done && (m->is_quantized || cr_nn_save(net, path)); /* for peers that compute in floats */
        cr_jit_free(graph);
        cr_nn_free(net);
    }
    return done;
}

/* Writing is another process's work, so that this one holds no more than a program that serves the model would. */
static bool write_apart(const model *m, cr_shape shape, const char *stem) {
    int status = 1;
    fflush(stdout);
    const pid_t writer = fork();
    if (writer == 0) _exit(write_files(m, shape, stem) ? 0 : 1);
    return writer > 0 && waitpid(writer, &status, 0) == writer && status == 0;
}

static const model *model_of(const char *row) {
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++)
        if (!strncmp(row, models[i].name, strlen(models[i].name))) return &models[i];
    return NULL;
}
static cr_shape input_shape(const model *m, int64_t batch) {
    cr_shape shape = {.count = m->item.count + 1, .at = {batch}};
    memcpy(shape.at + 1, m->item.at, sizeof shape.at - sizeof shape.at[0]);
    return shape;
}

static bool begin_model(const work *w, const char *folder) {
    char stem[1024], path[1100];
    const model *m = model_of(w->name);
    if (!m) return false;
    const cr_shape shape = input_shape(m, w->size[0]);
    snprintf(stem, sizeof stem, "%s/%s-%lld", folder, m->name, (long long)w->size[0]);
    snprintf(path, sizeof path, "%s.onnx", stem);
    if (access(path, R_OK) != 0 && !write_apart(m, shape, stem)) return false;
    snprintf(path, sizeof path, "%s.safetensors", stem);
    cr_tensor *x = numbers(shape, 1);
    return prepare_graph(cr_jit_load(path, CR_CPU), &x, 1, 1);
}

double model_compile_seconds(const char *name, const char *folder) {
    char path[1100];
    const model *m = model_of(name);
    if (!m) return -1;
    snprintf(path, sizeof path, "%s/%s-1.weights.safetensors", folder, m->name);
    cr_nn_module *net = cr_nn_eval(m->make(1000));
    if (!cr_nn_save(net, path)) return -1;
    cr_tensor *x = numbers(input_shape(m, 1), 1);
    const double begin = wall_seconds();
    cr_graph *graph = cr_jit_trace(net, x, .freeze = true);
    const bool done = graph && cr_jit_forward(graph, x);
    cr_jit_wait();
    const double seconds = wall_seconds() - begin;
    cr_jit_free(graph);
    cr_nn_free(net);
    return done ? seconds : -1;
}

/* ---------------------------------------------------------------- files */
static char model_path[1024];
static cr_graph *exported;

/* The ONNX file of the model that the row's name begins with. */
static bool begin_file(const work *w, const char *folder) {
    snprintf(model_path, sizeof model_path, "%s/ResNet-50-1.onnx", folder);
    const bool done = begin_model(w, folder);
    drop_graph();
    return done;
}
static bool import_and_plan(void) {
    cr_jit_memory memory;
    cr_graph *graph = cr_onnx_import(model_path);
    const bool done = graph && cr_jit_memory_of(graph, NULL, 0, &memory);
    cr_jit_free(graph);
    return done;
}
static void end_file(void) {}

static bool begin_export(const work *w, const char *folder) {
    if (!begin_file(w, folder)) return false;
    return (exported = cr_onnx_import(model_path)) != NULL;
}
static bool export_model(void) {
    char path[1040];
    snprintf(path, sizeof path, "%s.again", model_path);
    const bool done = cr_onnx_export(exported, path);
    unlink(path);
    return done;
}
static void end_export(void) { cr_jit_free(exported); }

#define MODEL(name, batch)                                                                                             \
    { name, {batch}, 0, begin_model, run_graph, drop_graph }
const work inference_works[] = {MODEL("ResNet-50, batch 1", 1),
                                MODEL("ResNet-50, batch 16", 16),
                                MODEL("ResNet-50 int8, batch 1", 1),
                                MODEL("ResNet-18, batch 1", 1),
                                MODEL("ResNet-18, batch 16", 16),
                                MODEL("VGG-16, batch 1", 1),
                                MODEL("VGG-16, batch 16", 16),
                                MODEL("MobileNetV2, batch 1", 1),
                                MODEL("MobileNetV2, batch 16", 16),
                                MODEL("MobileNetV2 int8, batch 1", 1),
                                MODEL("encoder, batch 1", 1),
                                MODEL("encoder, batch 16", 16),
                                MODEL("decoder prompt, batch 1", 1),
                                MODEL("LSTM, 32 steps", 32),
                                {"ResNet-50, ONNX file to session", {1}, 0, begin_file, import_and_plan, end_file},
                                {"ResNet-50, ONNX export", {1}, 0, begin_export, export_model, end_export},
                                {NULL}};
