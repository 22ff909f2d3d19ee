/* Modules as text: the tree, and the table of layers with output shapes and parameters. */
#include "nn/module.h"

#include <cresset/autograd.h>

#include <string.h>

/* ---------------------------------------------------------------- the tree */
static bool print_module(FILE *out, const cr_nn_module *module, int depth) {
    bool done = fprintf(out, "%s(%s", module->type, module->description ? module->description : "") >= 0;
    for (int i = 0; done && i < module->child_count; i++) {
        done = fprintf(out, "%s%*s(%s): ", i ? "" : "\n", 2 * (depth + 1), "", module->children[i].name) >= 0 &&
               print_module(out, module->children[i].module, depth + 1) && fputc('\n', out) != EOF;
    }
    return done && fprintf(out, "%*s)", module->child_count ? 2 * depth : 0, "") >= 0;
}

bool cr_nn_print(FILE *out, cr_nn_module *module) {
    if (!out || !module) return cr_ok() && cr_fail(CR_ERROR_ARGUMENT, "nn_print: NULL file or module");
    return (print_module(out, module, 0) && fputc('\n', out) != EOF) || cr_fail(CR_ERROR_IO, "nn_print: cannot write");
}

/* ---------------------------------------------------------------- the table */
typedef struct table {
    FILE *out;
    int64_t total;
    int hook_count, capacity;
    struct {
        cr_nn_module *module;
        int handle;
    } * hooks;
} table;

static int64_t own_parameters(const cr_nn_module *module) {
    int64_t count = 0;
    for (int i = 0; i < module->tensor_count; i++)
        if (module->tensors[i].is_parameter) count += cr_numel(module->tensors[i].tensor);
    return count;
}

static void path_of(const cr_nn_module *module, char *text, size_t size) {
    if (!module->parent) {
        text[0] = '\0';
        return;
    }
    path_of(module->parent, text, size);
    const size_t used = strlen(text);
    snprintf(text + used, size - used, "%s%s", used ? "." : "", module->name);
}

static cr_tensor *print_row(cr_nn_module *module, cr_tensor *input, cr_tensor *output, void *context) {
    table *t = context;
    char path[512], name[600], shape[192];
    (void)input;
    path_of(module, path, sizeof path);
    snprintf(name, sizeof name, "%s (%s)", *path ? path : "all", module->type);
    fprintf(t->out, "  %-40s %-22s %12lld\n", name, cr_shape_format(cr_shape_of(output), shape),
            (long long)own_parameters(module));
    return output;
}

static bool watch(cr_nn_module *module, const char *path, void *context) {
    table *t = context;
    (void)path;
    if (module->child_count) return true; /* leaves only: containers repeat their last child's shape */
    if (t->hook_count == t->capacity) {
        const int capacity = t->capacity ? t->capacity * 2 : 32;
        void *grown = cr_realloc(t->hooks, (size_t)capacity * sizeof t->hooks[0]);
        if (!grown) return false;
        t->hooks = grown;
        t->capacity = capacity;
    }
    const int handle = cr_nn_register_forward_hook(module, print_row, t);
    t->hooks[t->hook_count].module = module;
    t->hooks[t->hook_count++].handle = handle;
    return handle != 0;
}

bool cr_nn_summary(FILE *out, cr_nn_module *module, cr_shape input_shape) {
    if (!out || !module) return cr_ok() && cr_fail(CR_ERROR_ARGUMENT, "nn_summary: NULL file or module");
    table t = {.out = out};
    const bool training = module->is_training;
    const cr_nn_tensors parameters = cr_nn_parameters(module);
    const cr_device device = parameters.count ? cr_device_of(parameters.at[0]) : CR_CPU;
    bool done = cr_nn_apply(module, watch, &t);
    fprintf(out, "  %-40s %-22s %12s\n", "layer", "output", "parameters");
    cr_nn_eval(module);
    CR_SCOPE {
        cr_grad_mode mode = cr_grad_mode_enter(false, false);
        done = done && cr_nn_forward(module, cr_zeros(CR_F32, input_shape, device)) != NULL;
        cr_grad_mode_leave(&mode);
    }
    if (training) cr_nn_train(module, true);
    for (int i = 0; i < t.hook_count; i++)
        cr_nn_remove_hook(t.hooks[i].module, t.hooks[i].handle);
    cr_free(t.hooks);
    fprintf(out, "  %-40s %-22s %12lld\n", "in all", "", (long long)cr_nn_parameter_count(module));
    return done;
}
