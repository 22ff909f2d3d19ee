/* What a build without protobuf-c or ONNX's schema has in place of this folder. */
#ifndef CRESSET_HAS_ONNX
#include <cresset/onnx.h>

static bool refuse(void) {
    return cr_fail(CR_ERROR_UNSUPPORTED,
                   "onnx: this build of Cresset is without ONNX; it needs protobuf-c and ONNX's schema (Debian: "
                   "libprotobuf-c-dev, protobuf-c-compiler, libonnx-dev)");
}

bool cr_onnx_export_with(const cr_graph *graph, const char *path, const cr_onnx_export_options *options) {
    (void)graph, (void)path, (void)options;
    return refuse();
}
cr_graph *cr_onnx_import_with(const char *path, const cr_onnx_import_options *options) {
    (void)path, (void)options;
    return refuse(), NULL;
}
cr_nn_module *cr_onnx_import_module(const char *path) {
    (void)path;
    return refuse(), NULL;
}
bool cr_onnx_module_run(cr_nn_module *module, cr_tensor *const *inputs, int input_count, cr_tensor **outputs,
                        int output_count) {
    (void)module, (void)inputs, (void)input_count, (void)outputs, (void)output_count;
    return refuse();
}
int cr_onnx_module_input_count(const cr_nn_module *module) {
    (void)module;
    return refuse(), -1;
}
int cr_onnx_module_output_count(const cr_nn_module *module) {
    (void)module;
    return refuse(), -1;
}
const char *cr_onnx_module_input_name(const cr_nn_module *module, int index) {
    (void)module, (void)index;
    return refuse(), NULL;
}
const char *cr_onnx_module_output_name(const cr_nn_module *module, int index) {
    (void)module, (void)index;
    return refuse(), NULL;
}
bool cr_onnx_register(const char *op, const char *domain, const char *name) {
    (void)op, (void)domain, (void)name;
    return refuse();
}
cr_tensor *cr_onnx_load_tensor(const char *path) {
    (void)path;
    return refuse(), NULL;
}
#endif
