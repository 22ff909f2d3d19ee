/* ONNX models written, read and run by Cresset, one line of JSON for each number; compare.py runs ONNX Runtime beside it.
 *   benchmark_onnx write FOLDER                    the models of the suite, how long that takes, and how much memory
 *   benchmark_onnx run FILE THREADS SECONDS        import, plan, and the median of runs on inputs of ones */
#include <cresset.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void report(const char *name, double value) { printf("{\"name\": \"%s\", \"value\": %.9g}\n", name, value); }

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

static cr_nn_module *new_encoder(void) {
    cr_nn_module *net = cr_nn_sequential_of(NULL, 0);
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

/* ---------------------------------------------------------------- writing */
static bool write_model(const char *folder, const char *name, cr_nn_module *net, cr_tensor *example) {
    char path[1024], label[128];
    snprintf(path, sizeof path, "%s/%s.onnx", folder, name);
    cr_graph *graph = cr_jit_trace(cr_nn_eval(net), example);
    int64_t weights = 0;
    for (int i = 0; i < cr_jit_state_count(graph); i++)
        weights += cr_numel(cr_jit_state(graph, i)) * (int64_t)cr_dtype_size(cr_dtype_of(cr_jit_state(graph, i)));
    cr_memory_reset_peak();
    const int64_t before = cr_memory_stats().live_bytes;
    const double begin = now();
    const bool done = graph && cr_onnx_export(graph, path);
    snprintf(label, sizeof label, "%s: export seconds", name);
    report(label, now() - begin);
    snprintf(label, sizeof label, "%s: export memory, shares of the weights", name);
    report(label, (double)(cr_memory_stats().peak_bytes - before) / (double)weights);
    cr_jit_free(graph);
    cr_nn_free(net);
    return done;
}

static int write_models(const char *folder) {
    CR_SCOPE {
        cr_tensor *image = cr_zeros(CR_F32, CR_SHAPE(1, 3, 224, 224), CR_CPU);
        write_model(folder, "resnet50", cr_vision_resnet50(1000), image);
        write_model(folder, "mobilenet_v2", cr_vision_mobilenet_v2(1000), image);
        write_model(folder, "encoder", new_encoder(), cr_zeros(CR_F32, CR_SHAPE(1, LENGTH, WIDTH), CR_CPU));
    }
    return cr_report(stderr);
}

/* ---------------------------------------------------------------- running */
static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static int run_model(const char *path, int threads, double budget) {
    enum { MOST = 1000 };
    static double times[MOST];
    int count = 0;
    cr_set_num_threads(threads);
    CR_SCOPE {
        double begin = now();
        cr_graph *graph = cr_onnx_import(path);
        report("import", now() - begin);
        if (!graph) break;
        cr_jit_memory memory;
        begin = now();
        cr_jit_memory_of(graph, NULL, 0, &memory);
        report("plan", now() - begin);
        cr_tensor *x = cr_ones(cr_jit_input_dtype(graph, 0), cr_jit_input_shape(graph, 0), CR_CPU);
        begin = now();
        cr_jit_forward(graph, x);
        report("first run", now() - begin);
        cr_jit_wait();
        for (const double end = now() + budget; count < MOST && (count < 5 || now() < end); count++) {
            begin = now();
            CR_SCOPE {
                cr_jit_forward(graph, x);
            }
            times[count] = now() - begin;
        }
        qsort(times, (size_t)count, sizeof times[0], by_value);
        report("run", times[count / 2]);
        cr_jit_free(graph);
    }
    return cr_report(stderr);
}

int main(int count, char **arguments) {
    if (count == 3 && !strcmp(arguments[1], "write")) return write_models(arguments[2]);
    if (count == 5 && !strcmp(arguments[1], "run"))
        return run_model(arguments[2], atoi(arguments[3]), atof(arguments[4]));
    fprintf(stderr, "usage: benchmark_onnx write FOLDER | run FILE THREADS SECONDS\n");
    return 2;
}
