/* Each sample as an ONNX model, for ONNX Runtime to run: FOLDER/N_OPSET.onnx, operands and results in FOLDER/data.safetensors,
 * whose metadata say what each is. What is exported is also imported again, and must give the same. */
#include "tests/samples/checks.h"
#include "tests/samples/exporting.h"

#include "core/text.h"
#include "ops/op.h"

#include <string.h>

static const int opsets[] = {13, 18, 23};
enum { OPSETS = sizeof opsets / sizeof opsets[0], MOST_TENSORS = 1 << 16, MOST_PAIRS = 1 << 14 };

static void keep(exporting *x, int number, const char *role, int index, cr_tensor *t) {
    char name[64];
    snprintf(name, sizeof name, "%d.%s%d", number, role, index);
    if (x->tensor_count == MOST_TENSORS) return;
    x->tensors[x->tensor_count++] = (cr_named_tensor){cr_strdup(name), cr_retain(cr_contiguous(cr_detach(t)))};
}

/* Numbers in f64 have few kernels in ONNX Runtime. */
static sample in_single_precision(const sample *s) {
    sample copy = *s;
    for (int i = 0; i < copy.input_count; i++)
        if (copy.inputs[i].dtype == CR_F64) copy.inputs[i].dtype = CR_F32;
    return copy;
}

/* Within the sample's tolerance of the value, or of a twentieth of the largest: sums of large terms may cancel. */
static bool is_close(cr_tensor *a, cr_tensor *b, double own) {
    if (cr_dtype_of(a) != cr_dtype_of(b) || !cr_shape_equal(cr_shape_of(a), cr_shape_of(b))) return false;
    const cr_dtype dtype = cr_dtype_of(a);
    const double least = dtype == CR_BF16 ? 2e-2 : dtype == CR_F16 ? 3e-3 : 1e-5, tolerance = own > least ? own : least;
    const double *x = cr_data(cr_contiguous(cr_cast(a, CR_F64))), *y = cr_data(cr_contiguous(cr_cast(b, CR_F64)));
    double floor = 1;
    for (int64_t i = 0; i < cr_numel(b); i++)
        if (y[i] / 20 > floor && y[i] < 1e30) floor = y[i] / 20;
    for (int64_t i = 0; i < cr_numel(a); i++) {
        const double error = x[i] > y[i] ? x[i] - y[i] : y[i] - x[i], scale = y[i] < 0 ? -y[i] : y[i];
        if (x[i] != y[i] && !(x[i] != x[i] && y[i] != y[i]) && !(error <= tolerance * (scale > floor ? scale : floor)))
            return false;
    }
    return true;
}

/* The model read again by ourselves. */
static bool check_again(exporting *x, const char *path, cr_tensor *const *inputs, int count, cr_tensor **results,
                        int outputs, double tolerance) {
    cr_tensor *again[SAMPLE_RESULTS];
    cr_nn_module *module = cr_onnx_import_module(path);
    bool same = module && cr_onnx_module_run(module, inputs, count, again, outputs);
    for (int i = 0; same && i < outputs; i++)
        if (!is_close(again[i], results[i], tolerance))
            same = cr_fail(CR_ERROR_STATE, "it gives something else when it is read again");
    cr_nn_free(module);
    x->round_trips += same;
    return same;
}

/* What several nodes compute with infinities in between. */
static bool is_left_open(const sample *s) {
    static const char *const ops[] = {"remainder", "floor_divide", "hypot", "atan2", "argmax", "argmin"};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (!strcmp(s->op, ops[i]) && strstr(s->line, ":special")) return true;
    return false;
}

/* The case at one opset; "written", or why not. */
static const char *export_at(exporting *x, cr_graph *graph, int number, int opset, const exported_case *c) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%d_%d.onnx", x->folder, number, opset);
    if (cr_onnx_export(graph, path, .opset = opset)) {
        x->written++;
        if (c->is_random || is_left_open(c->s) ||
            check_again(x, path, c->inputs, c->count, c->results, c->outputs, c->s->tolerance))
            return "written";
        x->failed++;
        fprintf(stderr, "FAILED %s: %s: %s\n", path, c->s->line, cr_last_error()->message);
        cr_clear_error();
        return "failed";
    }
    const bool is_refused = cr_last_error()->code == CR_ERROR_UNSUPPORTED;
    *(is_refused ? &x->refused : &x->failed) += 1;
    if (!is_refused) fprintf(stderr, "FAILED %s: %s\n", path, cr_last_error()->message);
    static char why[600];
    snprintf(why, sizeof why, "%s", cr_last_error()->message);
    cr_clear_error();
    return why;
}

void export_case(exporting *x, const exported_case *c, cr_graph *graph, const int *at, int at_count) {
    const int number = x->pair_count;
    cr_text text = {0};
    cr_text_add(&text, "%s\n%s\n%d %d %d %g", c->s->op, c->s->line, c->count, c->outputs, c->is_random,
                c->s->tolerance);
    for (int i = 0; i < at_count; i++)
        cr_text_add(&text, "\n%d %s", at[i], export_at(x, graph, number, at[i], c));
    char key[16];
    snprintf(key, sizeof key, "%d", number);
    x->pairs[x->pair_count++] = (cr_text_pair){cr_strdup(key), cr_text_end(&text)};
    for (int i = 0; i < c->count; i++)
        keep(x, number, "in", i, c->inputs[i]);
    for (int i = 0; i < c->outputs; i++)
        keep(x, number, "out", i, c->results[i]);
}

static void export_sample(exporting *x, const sample *s, const cr_op_description *row, int outputs) {
    cr_tensor *inputs[SAMPLE_INPUTS], *results[SAMPLE_RESULTS];
    traced_sample t = {s, outputs, false};
    const int count = traced_operands(s, inputs);
    cr_graph *graph =
        count < 0 ? NULL : cr_jit_trace_function(traced_call, &t, inputs, count, results, outputs, NULL, 0);
    if (!graph) {
        cr_clear_error(); /* sizes that follow from values */
        return;
    }
    const exported_case c = {s, inputs, results, count, outputs, row->is_random};
    export_case(x, &c, graph, opsets, OPSETS);
    cr_jit_free(graph);
}

static bool export_one(const sample *given, void *context) {
    exporting *x = context;
    const sample s = in_single_precision(given);
    cr_op_description row;
    const cr_op *op = cr_op_find(s.op);
    if (s.expects_error || !op || op->mutates || !sample_describe(s.op, &row) ||
        x->pair_count + OPSETS * OPSETS > MOST_PAIRS)
        return true;
    CR_SCOPE {
        CR_NO_GRAD { /* results that only gradients read have no place in a model */
            int outputs = sample_output_count(&row);
            for (int i = outputs - 1; i > 0 && op->constant_outputs >> i & 1; i--)
                outputs--;
            if (x->is_open)
                export_open_sample(x, &s, &row, outputs);
            else
                export_sample(x, &s, &row, outputs);
        }
        if (!cr_ok()) cr_clear_error();
    }
    return true;
}

int export_samples(const char *folder, bool is_open, char **files, int count) {
    exporting x = {.folder = folder, .is_open = is_open};
    char path[1024];
    snprintf(path, sizeof path, "%s/data.safetensors", folder);
    x.tensors = cr_calloc(MOST_TENSORS, sizeof *x.tensors);
    x.pairs = cr_calloc(MOST_PAIRS, sizeof *x.pairs);
    bool done = x.tensors && x.pairs;
    for (int i = 0; done && i < count; i++)
        done = samples_read(files[i], export_one, &x);
    done = done && cr_safetensors_save(path, x.tensors, x.tensor_count, x.pairs, x.pair_count);
    printf("%d samples: %d models written, %d refused, %d read again the same, %d failed\n", x.pair_count, x.written,
           x.refused, x.round_trips, x.failed);
    for (int i = 0; i < x.tensor_count; i++) {
        cr_free((void *)(uintptr_t)x.tensors[i].name);
        cr_release((cr_tensor *)(uintptr_t)x.tensors[i].tensor);
    }
    for (int i = 0; i < x.pair_count; i++) {
        cr_free((void *)(uintptr_t)x.pairs[i].key);
        cr_free((void *)(uintptr_t)x.pairs[i].value);
    }
    cr_free(x.tensors);
    cr_free(x.pairs);
    return done && cr_report(stderr) == 0 ? x.failed > 0 : 2;
}
