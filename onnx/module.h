/* What an imported module runs. */
#ifndef CRESSET_ONNX_MODULE_H
#define CRESSET_ONNX_MODULE_H

#include "onnx/import.h"

/* NULL and an error for a module of another kind. */
const cr_onnx_program *cr_onnx_module_program(const cr_nn_module *module);

#endif
