/* One of ONNX's test cases: a folder with model.onnx and test_data_set_N/input_M.pb, output_M.pb.
 *   onnx_case [--graph] FOLDER
 * Runs the model as a module, or imported as a graph, and compares with the case's outputs. Prints one line: "passed",
 * "failed: why", "unsupported: why"; exits 0, 1, or 77. */
#include "onnx/module.h"

#include <cresset.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST = 64, PATH = 1024 };
static bool compares_sizes_only;

typedef struct data_set {
    cr_tensor *inputs[MOST], *outputs[MOST];
    int input_count, output_count;
} data_set;

static int load_list(const char *folder, const char *kind, cr_tensor **list) {
    char path[PATH + 64];
    int count = 0;
    for (; count < MOST; count++) {
        snprintf(path, sizeof path, "%s/%s_%d.pb", folder, kind, count);
        if (access(path, R_OK) != 0) break;
        if (!(list[count] = cr_onnx_load_tensor(path))) return -1;
    }
    return count;
}

/* Relative to the expected value, as ONNX's own runner does: |a - b| <= 1e-6 + 1e-3 |b|, more for bf16; the same NaNs and infinities. */
static bool is_close(double have, double want, cr_dtype dtype, double *worst) {
    if (isnan(want) || isnan(have)) return isnan(want) && isnan(have);
    if (isinf(want) || isinf(have)) return want == have;
    const double error = fabs(have - want), scale = fabs(want);
    if (error > 0 && scale > 0 && error / scale > *worst) *worst = error / scale;
    if (!cr_dtype_is_floating(dtype)) return have == want;
    const double relative = dtype == CR_BF16 ? 0x1p-6 : 1e-3,
                 absolute = dtype == CR_BF16 || dtype == CR_F16 ? 1e-3 : 1e-6;
    return error <= absolute + relative * scale;
}

/* Numbers drawn anew cannot be compared, what they are made of can. */
static bool is_random(const char *folder) {
    return strstr(folder, "test_bernoulli") || strstr(folder, "test_training_dropout");
}

static bool compare(cr_tensor *have, cr_tensor *want, int index) {
    char a[224], b[224];
    if (cr_dtype_of(have) != cr_dtype_of(want) || !cr_shape_equal(cr_shape_of(have), cr_shape_of(want)))
        return cr_fail(CR_ERROR_STATE, "output %d is %s, not %s", index, cr_describe(have, a), cr_describe(want, b));
    double worst = 0;
    if (compares_sizes_only) return true;
    const double *x = cr_data(cr_contiguous(cr_cast(have, CR_F64))), *y = cr_data(cr_contiguous(cr_cast(want, CR_F64)));
    for (int64_t i = 0; i < cr_numel(have); i++)
        if (!is_close(x[i], y[i], cr_dtype_of(want), &worst))
            return cr_fail(CR_ERROR_STATE, "output %d: element %lld of %s is %g, not %g", index, (long long)i,
                           cr_describe(want, a), x[i], y[i]);
    return true;
}

static bool check_outputs(cr_tensor **have, const data_set *set) {
    for (int i = 0; i < set->output_count; i++)
        if (!compare(have[i], set->outputs[i], i)) return false;
    return set->output_count > 0 || cr_fail(CR_ERROR_STATE, "the case has no outputs");
}

static bool run_module(const char *model, const data_set *set) {
    cr_tensor *have[MOST];
    cr_nn_module *module = cr_onnx_import_module(model);
    if (!module) return false;
    bool done;
    CR_NO_GRAD {
        done = cr_onnx_module_run(module, set->inputs, set->input_count, have, set->output_count) &&
               check_outputs(have, set);
    }
    cr_nn_free(module);
    return done;
}

/* "name=1,2,3 …": the integers among a module's inputs; which inputs are left. */
static char *constants_of(const char *model, const data_set *set, bool *is_constant) {
    static char text[1 << 16];
    size_t used = 0;
    cr_nn_module *module = cr_onnx_import_module(model);
    for (int i = 0; module && i < set->input_count; i++) {
        cr_tensor *t = set->inputs[i];
        is_constant[i] = cr_numel(t) <= 64 && cr_ndim(t) <= 1;
        if (!is_constant[i]) continue;
        used += (size_t)snprintf(text + used, sizeof text - used, "%s=", cr_onnx_module_input_name(module, i));
        const double *values = cr_data(cr_contiguous(cr_cast(t, CR_F64)));
        for (int64_t k = 0; k < cr_numel(t); k++)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%.17g", k ? "," : "", values[k]);
        used += (size_t)snprintf(text + used, sizeof text - used, " ");
    }
    cr_nn_free(module);
    return text;
}

static bool run_graph_with(const char *model, const data_set *set, const char *constants, const bool *is_constant) {
    cr_graph *graph = cr_onnx_import(model, .constants = constants);
    cr_tensor *inputs[MOST], *have[MOST];
    int count = 0;
    for (int i = 0; i < set->input_count; i++)
        if (!is_constant[i]) inputs[count++] = set->inputs[i];
    const bool done = graph && cr_jit_run(graph, inputs, count, have, set->output_count) && check_outputs(have, set);
    cr_jit_free(graph);
    return done;
}

static bool run_graph(const char *model, const data_set *set) {
    bool is_constant[MOST] = {false};
    if (run_graph_with(model, set, NULL, is_constant)) return true;
    if (cr_last_error()->code != CR_ERROR_UNSUPPORTED) return false;
    cr_clear_error();
    return run_graph_with(model, set, constants_of(model, set, is_constant), is_constant);
}

static int report(void) {
    const cr_error *error = cr_last_error();
    const bool is_unsupported = error->code == CR_ERROR_UNSUPPORTED;
    printf("%s: %s\n", is_unsupported ? "unsupported" : "failed", error->message);
    return is_unsupported ? 77 : 1;
}

int main(int count, char **arguments) {
    const bool as_graph = count == 3 && !strcmp(arguments[1], "--graph");
    const char *folder = arguments[count - 1];
    char path[PATH], model[PATH];
    if (count < 2) return 2;
    compares_sizes_only = is_random(folder);
    snprintf(model, sizeof model, "%s/model.onnx", folder);
    cr_nn_module *module = cr_onnx_import_module(model); /* what it cannot be read for comes before its data */
    if (!module) return report();
    cr_nn_free(module);
    for (int i = 0;; i++) {
        data_set set;
        struct stat status;
        snprintf(path, sizeof path, "%s/test_data_set_%d", folder, i);
        if (stat(path, &status) != 0) {
            if (i == 0) return puts("failed: no data"), 1;
            break;
        }
        if ((set.input_count = load_list(path, "input", set.inputs)) < 0 ||
            (set.output_count = load_list(path, "output", set.outputs)) < 0 ||
            !(as_graph ? run_graph : run_module)(model, &set))
            return report();
        cr_scope_clear();
    }
    puts("passed");
    cr_shutdown();
    if (cr_memory_stats().live_bytes) return puts("failed: memory is lost"), 1;
    return 0;
}
