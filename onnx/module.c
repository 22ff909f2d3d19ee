/* A model as a module: its initialisers are parameters and buffers, its forward runs the nodes. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/import.h"
#include "onnx/module.h"

#include <string.h>

typedef struct onnx_module {
    cr_onnx_program *program;
} onnx_module;

static cr_tensor *forward(cr_nn_module *module, cr_tensor *input) {
    cr_tensor *output = NULL;
    cr_onnx_module_run(module, &input, 1, &output, 1);
    return output;
}

static void release(void *self) { cr_onnx_program_free(((onnx_module *)self)->program); }

static cr_nn_module *find_child(cr_nn_module *module, const char *name) {
    for (int i = 0; i < cr_nn_child_count(module); i++)
        if (!strcmp(cr_nn_child_name(module, i), name)) return cr_nn_child(module, i);
    return NULL;
}

static bool is_taken(cr_nn_module *module, const char *name) {
    return find_child(module, name) || cr_nn_tensor(module, name);
}

/* The module for a name's parts before its last dot, as PyTorch names parameters; NULL where one of them is no module. */
static cr_nn_module *find_home(cr_nn_module *root, char *name, char **last) {
    cr_nn_module *module = root;
    *last = name;
    for (char *dot = strchr(name, '.'); dot; dot = strchr(*last, '.')) {
        *dot = '\0';
        cr_nn_module *child = **last ? find_child(module, *last) : NULL;
        if (!child && **last && !cr_nn_tensor(module, *last))
            child = cr_nn_register(module, *last, cr_nn_module_new("onnx_part", 0, NULL));
        if (!child) return NULL;
        module = child;
        *last = dot + 1;
    }
    return **last && !is_taken(module, *last) ? module : NULL;
}

/* Under its name, or where that cannot be, flat and with a number behind it. */
static bool register_initial(cr_nn_module *root, const cr_onnx_initial *initial) {
    char name[512], *last;
    snprintf(name, sizeof name, "%s", initial->name);
    cr_nn_module *module = find_home(root, name, &last);
    for (int i = 0; !module && cr_ok(); i++) {
        snprintf(last = name, sizeof name, "%.480s_%d", initial->name, i);
        for (char *dot = strchr(name, '.'); dot; dot = strchr(dot, '.'))
            *dot = '_';
        module = is_taken(root, name) ? NULL : root;
    }
    if (!module) return false;
    if (initial->is_parameter) return cr_nn_register_parameter(module, last, initial->tensor) != NULL;
    return cr_nn_register_buffer(module, last, initial->tensor, true) != NULL;
}

cr_nn_module *cr_onnx_import_module(const char *path) {
    cr_onnx_program *program = cr_onnx_program_open(path);
    cr_nn_module *module = program ? cr_nn_module_new("onnx", sizeof(onnx_module), forward) : NULL;
    if (!module) {
        cr_onnx_program_free(program);
        return NULL;
    }
    ((onnx_module *)cr_nn_self(module))->program = program;
    cr_nn_on_free(module, release);
    bool done = true;
    for (int i = 0; done && i < program->initial_count; i++)
        done = register_initial(module, &program->initials[i]);
    if (done) return cr_nn_eval(module);
    cr_nn_free(module);
    return NULL;
}

const cr_onnx_program *cr_onnx_module_program(const cr_nn_module *module) {
    if (module && !strcmp(cr_nn_type(module), "onnx")) return ((onnx_module *)cr_nn_self(module))->program;
    if (module || cr_ok()) cr_record_error(CR_ERROR_ARGUMENT, "onnx: the module was not made by cr_onnx_import_module");
    return NULL;
}

bool cr_onnx_module_run(cr_nn_module *module, cr_tensor *const *inputs, int input_count, cr_tensor **outputs,
                        int output_count) {
    const cr_onnx_program *program = cr_onnx_module_program(module);
    if (!program) return false;
    if ((input_count > 0 && !inputs) || (output_count > 0 && !outputs) || input_count < 0 || output_count < 0)
        return cr_fail(CR_ERROR_ARGUMENT, "onnx_module_run: NULL inputs or outputs, or a count below 0");
    for (int i = 0; i < input_count; i++)
        if (!inputs[i]) return cr_ok() && cr_fail(CR_ERROR_ARGUMENT, "onnx_module_run: input %d is NULL", i);
    return cr_onnx_program_run(program, cr_nn_is_training(module), inputs, NULL, input_count, outputs, output_count);
}

int cr_onnx_module_input_count(const cr_nn_module *module) {
    const cr_onnx_program *program = cr_onnx_module_program(module);
    return program ? program->main.input_count : -1;
}

int cr_onnx_module_output_count(const cr_nn_module *module) {
    const cr_onnx_program *program = cr_onnx_module_program(module);
    return program ? program->main.output_count : -1;
}

const char *cr_onnx_module_input_name(const cr_nn_module *module, int index) {
    const cr_onnx_program *program = cr_onnx_module_program(module);
    if (!program) return NULL;
    if (index >= 0 && index < program->main.input_count) return program->inputs[index]->name;
    cr_record_error(CR_ERROR_INDEX, "onnx_module_input_name: index %d of %d inputs", index, program->main.input_count);
    return NULL;
}

const char *cr_onnx_module_output_name(const cr_nn_module *module, int index) {
    const cr_onnx_program *program = cr_onnx_module_program(module);
    if (!program) return NULL;
    if (index >= 0 && index < program->main.output_count) return program->file->model->graph->output[index]->name;
    cr_record_error(CR_ERROR_INDEX, "onnx_module_output_name: index %d of %d outputs", index,
                    program->main.output_count);
    return NULL;
}
#endif
