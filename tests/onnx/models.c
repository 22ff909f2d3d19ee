/* Whole models with open sizes, exported once and run at several: onnx_models FOLDER writes NAME.onnx and NAME.safetensors (the
 * operands and results at each size), for check_models.py. Each is also imported again as a graph, which must give the same at
 * each size. */
#include <cresset.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIZES = 3, MOST = 8, PATH = 1024 };
static const int64_t batches[SIZES] = {1, 3, 17}, lengths[SIZES] = {6, 9, 33};

typedef struct subject {
    const char *name, *dynamic;
    cr_nn_module *(*new_module)(void);
    cr_jit_function function;
    cr_tensor *(*input)(int index, int64_t batch, int64_t length); /* NULL: no such input */
    int outputs, opset;
    bool freezes, external, quantizes;
} subject;

/* ---------------------------------------------------------------- inputs */
static cr_tensor *images(int i, int64_t batch, int64_t length) {
    (void)length;
    return i ? NULL : cr_randn(CR_F32, CR_SHAPE(batch, 3, 64, 64), CR_CPU);
}
static cr_tensor *any_images(int i, int64_t batch, int64_t length) {
    return i ? NULL : cr_randn(CR_F32, CR_SHAPE(batch, 3, 32 + length, 40 + length), CR_CPU);
}
static cr_tensor *digits(int i, int64_t batch, int64_t length) {
    (void)length;
    return i ? NULL : cr_randn(CR_F32, CR_SHAPE(batch, 1, 28, 28), CR_CPU);
}
static cr_tensor *noise(int i, int64_t batch, int64_t length) {
    (void)length;
    return i ? NULL : cr_randn(CR_F32, CR_SHAPE(batch, 100, 1, 1), CR_CPU);
}
static cr_tensor *sequences(int i, int64_t batch, int64_t length) {
    return i ? NULL : cr_randn(CR_F32, CR_SHAPE(length, batch, 12), CR_CPU);
}
static cr_tensor *words(int i, int64_t batch, int64_t length) {
    return i ? NULL : cr_randint(0, 50, CR_SHAPE(batch, length), CR_CPU);
}
/* Features, and which of them are there. */
static cr_tensor *masked(int i, int64_t batch, int64_t length) {
    if (i > 1) return NULL;
    if (i == 0) return cr_randn(CR_F32, CR_SHAPE(batch, length, 32), CR_CPU);
    cr_tensor *mask = cr_gt_scalar(cr_rand(CR_F32, CR_SHAPE(batch, length), CR_CPU), 0.3);
    return cr_logical_or(mask, cr_eq_scalar(cr_arange(CR_I64, 0, (double)length, 1, CR_CPU), 0));
}
static cr_tensor *pairs(int i, int64_t batch, int64_t length) {
    return i > 1 ? NULL : cr_randn(CR_F32, CR_SHAPE(batch, length, 8), CR_CPU);
}

/* ---------------------------------------------------------------- modules */
static cr_nn_module *new_lenet(void) { return cr_vision_lenet(10); }
static const char *models_folder;

/* The digits' model as it was exported, read again, and taught for 20 steps: the loss must fall. */
static cr_nn_module *new_fine_tuned(void) {
    char path[PATH + 16];
    double first = 0, last = 0;
    snprintf(path, sizeof path, "%s/digits.onnx", models_folder);
    cr_nn_module *net = cr_onnx_import_module(path);
    if (!net) return NULL;
    cr_optim *optim = cr_optim_adam(cr_nn_parameters(net), .lr = 3e-3);
    cr_tensor *x = cr_randn(CR_F32, CR_SHAPE(32, 1, 28, 28), CR_CPU), *target = cr_randint(0, 10, CR_SHAPE(32), CR_CPU);
    for (int i = 0; i < 20; i++) {
        CR_SCOPE {
            cr_tensor *loss = cr_cross_entropy(cr_nn_forward(net, x), target);
            cr_optim_zero_grad(optim);
            cr_backward(loss);
            cr_optim_step(optim);
            last = cr_item(loss);
            if (i == 0) first = last;
        }
    }
    cr_optim_free(optim);
    if (cr_ok() && last < 0.7 * first) return net;
    if (cr_ok()) cr_record_error(CR_ERROR_STATE, "the loss went from %g to %g", first, last);
    cr_nn_free(net);
    return NULL;
}
static cr_nn_module *new_generator(void) { return cr_vision_dcgan_generator(.features = 16); }
static cr_nn_module *new_resnet18(void) { return cr_vision_resnet18(10); }
static cr_nn_module *new_resnet50(void) { return cr_vision_resnet50(10); }

static cr_nn_module *new_mobilenet(void) { return cr_vision_mobilenet_v2(10); }
static cr_nn_module *new_lstm(void) { return cr_nn_lstm(12, 16, .num_layers = 2); }

/* One layer of a Transformer: attention under a mask or causal, then a small network; both with shortcuts. */
typedef struct layer {
    cr_nn_module *norm1, *qkv, *out, *norm2, *up, *down;
} layer;
static cr_nn_module *new_layer(int64_t width) {
    cr_nn_module *self = cr_nn_module_new("layer", sizeof(layer), NULL);
    layer *l = cr_nn_self(self);
    if (!l) return NULL;
    l->norm1 = cr_nn_register(self, "norm1", cr_nn_layer_norm(CR_SHAPE(width)));
    l->qkv = cr_nn_register(self, "qkv", cr_nn_linear(width, 3 * width));
    l->out = cr_nn_register(self, "out", cr_nn_linear(width, width));
    l->norm2 = cr_nn_register(self, "norm2", cr_nn_layer_norm(CR_SHAPE(width)));
    l->up = cr_nn_register(self, "up", cr_nn_linear(width, 4 * width));
    l->down = cr_nn_register(self, "down", cr_nn_linear(4 * width, width));
    return self;
}
static cr_tensor *run_layer(cr_nn_module *self, cr_tensor *x, cr_tensor *mask, bool is_causal) {
    layer *l = cr_nn_self(self);
    const int64_t batch = cr_size(x, 0), length = cr_size(x, 1), width = cr_size(x, 2);
    cr_tensor *qkv =
        cr_reshape(cr_nn_forward(l->qkv, cr_nn_forward(l->norm1, x)), CR_SHAPE(batch, length, 3, 4, width / 4));
    qkv = cr_permute(qkv, CR_DIMS(2, 0, 3, 1, 4));
    cr_tensor *mixed = cr_scaled_dot_product_attention(cr_select(qkv, 0, 0), cr_select(qkv, 0, 1), cr_select(qkv, 0, 2),
                                                       mask, .is_causal = is_causal);
    x = cr_add(x, cr_nn_forward(l->out, cr_reshape(cr_transpose(mixed, 1, 2), CR_SHAPE(batch, length, width))));
    return cr_add(x, cr_nn_forward(l->down, cr_gelu(cr_nn_forward(l->up, cr_nn_forward(l->norm2, x)))));
}

static cr_nn_module *new_encoder(void) {
    cr_nn_module *net = cr_nn_module_list();
    for (int i = 0; i < 2; i++)
        cr_nn_append(net, new_layer(32));
    return net;
}
static bool run_encoder(void *net, cr_tensor *const *in, int n, cr_tensor **out, int m) {
    cr_tensor *x = in[0], *mask = cr_unsqueeze(cr_unsqueeze(in[1], 1), 1);
    (void)n, (void)m;
    for (int i = 0; i < 2; i++)
        x = run_layer(cr_nn_child(net, i), x, mask, false);
    return (out[0] = x) != NULL;
}

static cr_nn_module *new_gpt(void) {
    cr_nn_module *net = cr_nn_module_list();
    cr_nn_append(net, cr_nn_embedding(50, 32));
    cr_nn_append(net, cr_nn_embedding(64, 32));
    cr_nn_append(net, new_layer(32));
    cr_nn_append(net, new_layer(32));
    cr_nn_append(net, cr_nn_layer_norm(CR_SHAPE(32)));
    cr_nn_append(net, cr_nn_linear(32, 50));
    return net;
}
static bool run_gpt(void *net, cr_tensor *const *in, int n, cr_tensor **out, int m) {
    cr_tensor *places = cr_arange(CR_I64, 0, (double)cr_size(in[0], 1), 1, CR_CPU);
    cr_tensor *x = cr_add(cr_nn_forward(cr_nn_child(net, 0), in[0]), cr_nn_forward(cr_nn_child(net, 1), places));
    (void)n, (void)m;
    for (int i = 2; i < 4; i++)
        x = run_layer(cr_nn_child(net, i), x, NULL, true);
    return (out[0] = cr_nn_forward(cr_nn_child(net, 5), cr_nn_forward(cr_nn_child(net, 4), x))) != NULL;
}

/* ---------------------------------------------------------------- control flow, and sizes inside of a program */
static bool doubled(void *c, cr_tensor *const *in, int n, cr_tensor **out, int m) {
    (void)c, (void)n, (void)m;
    return (out[0] = cr_mul_scalar(in[0], 2)) != NULL;
}
static bool negated(void *c, cr_tensor *const *in, int n, cr_tensor **out, int m) {
    (void)c, (void)n, (void)m;
    return (out[0] = cr_neg(in[0])) != NULL;
}
static bool is_small(void *c, cr_tensor *const *in, int n, cr_tensor **out, int m) {
    (void)c, (void)n, (void)m;
    return (out[0] = cr_lt_scalar(cr_norm(in[0]), 1000)) != NULL;
}
static bool grown(void *c, cr_tensor *const *in, int n, cr_tensor **out, int m) {
    (void)n, (void)m;
    return (out[0] = cr_add(cr_mul_scalar(in[0], 1.5), cr_abs(*(cr_tensor **)c))) != NULL;
}
static bool averaged(void *c, cr_tensor *const *in, int n, cr_tensor **out, int m) {
    (void)c, (void)n, (void)m;
    out[0] = cr_add(cr_mul_scalar(in[0], 0.5), in[1]);
    return (out[1] = cr_tanh(out[0])) != NULL;
}
static bool run_control(void *c, cr_tensor *const *in, int n, cr_tensor **out, int m) {
    cr_tensor *chosen, *large, *scanned[2], *x = in[0], *other = in[1];
    (void)c, (void)n, (void)m;
    if (!cr_cond(cr_gt_scalar(cr_sum(x), 0), doubled, negated, NULL, &x, 1, &chosen, 1) ||
        !cr_while_loop(is_small, grown, &other, &chosen, 1, &large) ||
        !cr_scan(averaged, NULL, (cr_tensor *const[]){cr_select(x, 1, 0), cr_contiguous(cr_transpose(other, 0, 1))}, 1,
                 1, scanned, 2))
        return false;
    out[0] = large;
    out[1] = scanned[0];
    out[2] = scanned[1];
    return true;
}

static bool run_shapes(void *c, cr_tensor *const *in, int n, cr_tensor **out, int m) {
    cr_tensor *a = in[0], *b = in[1], *indices;
    const int64_t batch = cr_size(a, 0), length = cr_size(a, 1);
    (void)c, (void)n, (void)m;
    cr_tensor *joined = cr_cat((cr_tensor *const[]){cr_narrow(a, 1, 1, length - 1), cr_flip(b, CR_DIMS(1))}, 2, 1);
    cr_tensor *windows = cr_unfold(cr_pad(joined, CR_DIMS(2, 0), CR_DIMS(1, 0), 0.5), 1, 3, 2);
    out[0] = cr_sum(windows, .dims = CR_DIMS(-1));
    out[1] = cr_reshape(
        cr_roll(cr_expand(cr_mean(a, .dims = CR_DIMS(2), .keepdim = true), CR_SHAPE(batch, length, 4)), 2, 1),
        CR_SHAPE(batch * length, 4));
    out[2] = cr_topk(cr_einsum("bti,bsi->bts", (cr_tensor *const[]){a, b}, 2), 3, -1, true, &indices);
    out[3] = cr_tril(cr_matmul(a, cr_transpose(b, 1, 2)), -1);
    out[4] = cr_div_scalar(cr_sum(a, .dims = CR_DIMS(0, 1)),
                           (double)(batch * length)); /* a number that follows from sizes */
    out[5] = cr_var(cr_pad_around(a, CR_DIMS(1, 0), CR_DIMS(2, 0), "reflect"), .dims = CR_DIMS(1));
    return out[5] != NULL && out[4] && out[3] && out[2];
}

/* ---------------------------------------------------------------- the list */
static bool run_module(void *module, cr_tensor *const *in, int n, cr_tensor **out, int m) {
    (void)n, (void)m;
    return (out[0] = cr_nn_forward(module, in[0])) != NULL;
}

static const subject subjects[] = {
    {"digits", "0.0=batch", new_lenet, run_module, digits, 1, 18, false, false},
    {"fine_tuned", "0.0=batch", new_fine_tuned, run_module, digits, 1, 18, false, false},
    {"dcgan_generator", "0.0=batch", new_generator, run_module, noise, 1, 18, false, false},
    {"resnet18", "0.0=batch", new_resnet18, run_module, images, 1, 18, false, false},
    {"resnet18_folded", "0.0=batch", new_resnet18, run_module, images, 1, 13, true, false},
    {"resnet18_any_size", "0.0=batch 0.2=height 0.3=width", new_resnet18, run_module, any_images, 1, 18, false, false},
    {"resnet50", "0.0=batch", new_resnet50, run_module, images, 1, 18, false, true},
    {"mobilenet_v2", "0.0=batch", new_mobilenet, run_module, images, 1, 18, false, false},
    {"digits_int8", "0.0=batch", new_lenet, run_module, digits, 1, 18, true, false, true},
    {"resnet18_int8", "0.0=batch", new_resnet18, run_module, images, 1, 13, true, false, true},
    {"lstm", "0.0=time 0.1=batch", new_lstm, run_module, sequences, 1, 18, false, false},
    {"encoder", "0.0=batch 0.1=length 1.0=batch 1.1=length", new_encoder, run_encoder, masked, 1, 18, false, false},
    {"gpt", "0.0=batch 0.1=length", new_gpt, run_gpt, words, 1, 18, false, false},
    {"gpt_13", "0.0=batch 0.1=length", new_gpt, run_gpt, words, 1, 13, false, false},
    {"gpt_23", "0.0=batch 0.1=length", new_gpt, run_gpt, words, 1, 23, false, false},
    {"control", "0.0=batch 0.1=length 1.0=batch 1.1=length", NULL, run_control, pairs, 3, 18, false, false},
    {"shapes", "0.0=batch 0.1=length 1.0=batch 1.1=length", NULL, run_shapes, pairs, 6, 18, false, false},
    {"shapes_13", "0.0=batch 0.1=length 1.0=batch 1.1=length", NULL, run_shapes, pairs, 6, 13, false, false},
};

/* ---------------------------------------------------------------- checks */
static int make_inputs(const subject *s, int size, cr_tensor **inputs) {
    int count = 0;
    cr_manual_seed(7 + (uint64_t)size);
    while (count < MOST && (inputs[count] = s->input(count, batches[size], lengths[size])))
        count++;
    return count;
}

static bool is_close(cr_tensor *a, cr_tensor *b, double *worst) {
    if (cr_dtype_of(a) != cr_dtype_of(b) || !cr_shape_equal(cr_shape_of(a), cr_shape_of(b))) return false;
    const double *x = cr_data(cr_contiguous(cr_cast(a, CR_F64))), *y = cr_data(cr_contiguous(cr_cast(b, CR_F64)));
    double scale = 1e-3;
    for (int64_t i = 0; i < cr_numel(a); i++)
        if (fabs(y[i]) > scale) scale = fabs(y[i]);
    for (int64_t i = 0; i < cr_numel(a); i++) {
        if (!(fabs(x[i] - y[i]) <= 2e-5 * scale)) return false;
        if (fabs(x[i] - y[i]) / scale > *worst) *worst = fabs(x[i] - y[i]) / scale;
    }
    return true;
}

/* model -> graph -> model -> graph -> model, for check_models.py: the last two must have the same nodes. */
static bool write_again(const char *path, const subject *s) {
    char again[2][PATH + 16];
    cr_graph *graph = cr_onnx_import(path);
    for (int i = 0; graph && i < 2; i++) {
        snprintf(again[i], sizeof again[i], "%s.%s", path, i ? "third" : "second");
        const bool written = cr_onnx_export(graph, again[i], .opset = s->opset);
        cr_jit_free(graph);
        graph = written ? cr_onnx_import(again[i]) : NULL;
    }
    cr_jit_free(graph);
    return graph != NULL;
}

static bool check_sizes(const subject *s, cr_graph *graph, const char *path, const char *data_path) {
    cr_named_tensor tensors[SIZES * 2 * MOST];
    char names[SIZES * 2 * MOST][16];
    int count = 0;
    double worst = 0;
    cr_graph *again = cr_onnx_import(path);
    bool done = again != NULL;
    for (int size = 0; done && size < SIZES; size++) {
        cr_tensor *inputs[MOST], *plain[MOST], *run[MOST];
        const int n = make_inputs(s, size, inputs);
        done = cr_jit_run(graph, inputs, n, plain, s->outputs) && cr_jit_run(again, inputs, n, run, s->outputs);
        for (int i = 0; done && i < s->outputs; i++)
            if (!is_close(run[i], plain[i], &worst))
                done = cr_fail(CR_ERROR_STATE, "imported again, result %d at batch %lld is another", i,
                               (long long)batches[size]);
        for (int i = 0; done && i < n + s->outputs; i++) {
            snprintf(names[count], sizeof names[0], "%d.%s%d", size, i < n ? "in" : "out", i < n ? i : i - n);
            cr_tensor *t = cr_contiguous(i < n ? inputs[i] : plain[i - n]);
            tensors[count] = (cr_named_tensor){names[count], t};
            count++;
        }
    }
    cr_jit_free(again);
    if (done) printf("%-20s imported again: %.1e off at most\n", s->name, worst);
    return done && cr_safetensors_save(data_path, tensors, count, NULL, 0);
}

/* The graph in its quantised form: ONNX Runtime computes that with floats, node by node (check_models.py). */
static cr_graph *quantized(cr_graph *graph, cr_tensor *const *inputs) {
    cr_quantize_array data = {inputs, 1};
    cr_graph *made = graph ? cr_jit_quantize(graph, cr_quantize_from_array, &data) : NULL;
    cr_jit_free(graph);
    return made;
}

static bool check_subject(const subject *s, const char *folder) {
    char path[PATH], data_path[PATH];
    cr_tensor *inputs[MOST], *results[MOST];
    snprintf(path, sizeof path, "%s/%s.onnx", folder, s->name);
    snprintf(data_path, sizeof data_path, "%s/%s.safetensors", folder, s->name);
    cr_manual_seed(5);
    cr_nn_module *module = s->new_module ? cr_nn_eval(s->new_module()) : NULL;
    const int count = make_inputs(s, 1, inputs);
    cr_graph *graph = NULL;
    CR_NO_GRAD {
        graph = cr_jit_trace_function(s->function, module, inputs, count, results, s->outputs, module ? &module : NULL,
                                      module ? 1 : 0, .dynamic = s->dynamic, .freeze = s->freezes);
    }
    if (s->quantizes) graph = quantized(graph, inputs);
    const bool done =
        graph &&
        cr_onnx_export(graph, path, .opset = s->opset, .external_data = s->external, .metadata = "made by=test") &&
        check_sizes(s, graph, path, data_path) && write_again(path, s);
    cr_jit_free(graph);
    cr_nn_free(module);
    if (!done) printf("%-20s FAILED: %s\n", s->name, cr_last_error() ? cr_last_error()->message : "no error");
    cr_clear_error();
    return done;
}

int main(int count, char **arguments) {
    int failed = 0;
    if (count < 2) return 2;
    models_folder = arguments[1];
    for (size_t i = 0; i < sizeof subjects / sizeof subjects[0]; i++)
        CR_SCOPE {
            if (count < 3 || strstr(subjects[i].name, arguments[2]))
                failed += !check_subject(&subjects[i], arguments[1]);
        }
    cr_shutdown();
    if (cr_memory_stats().live_bytes)
        failed += printf("%lld bytes are lost\n", (long long)cr_memory_stats().live_bytes) > 0;
    return failed ? 1 : 0;
}
