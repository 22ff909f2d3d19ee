/* Cresset onnx: models leave for any ONNX runtime, and models from anywhere come in.
 *
 *     cr_graph *graph = cr_jit_trace(net, example, .dynamic_batch = true);
 *     cr_onnx_export(graph, "net.onnx");
 *
 *     cr_graph *other = cr_onnx_import("other.onnx");
 *     cr_tensor *y = cr_jit_forward(other, x);
 *
 * The format is ONNX's (https://onnx.ai): what each operator of which opset becomes, and what cannot be said, stands in
 * docs/onnx.md. A build without protobuf-c has these functions too; they fail with CR_ERROR_UNSUPPORTED. */
#ifndef CRESSET_ONNX_H
#define CRESSET_ONNX_H

#include <cresset/core.h>
#include <cresset/jit.h>
#include <cresset/nn.h>
#include <cresset/ops.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ export
 * opset          of the main domain, 13 … 23; what an older one has no operator for is written with several
 * input_names, output_names   "image,mask"; the default are the graph's
 * name           the graph's, for people
 * metadata       "author=Ada\nlicense=MIT": lines KEY=VALUE that go with the model
 * external_data  weights of 1 KiB and more go into a file beside the model, PATH.data; so they do in any case where the
 *                model would pass 2 GB, which protobuf cannot hold */
#define CR_ONNX_EXPORT_OPTIONS(A, op)                                                                                  \
    A(op, INT, opset, 18)                                                                                              \
    A(op, TEXT, input_names, NULL)                                                                                     \
    A(op, TEXT, output_names, NULL)                                                                                    \
    A(op, TEXT, name, "cresset") A(op, TEXT, metadata, NULL) A(op, BOOL, external_data, false)
CR_OPTIONS(onnx_export, CR_ONNX_EXPORT_OPTIONS)
/* Writes a graph as an ONNX model; sizes that may differ stay open under their names. The graph's weights are written
 * as they are now. Files are written whole or not at all. False and an error on failure: CR_ERROR_UNSUPPORTED lists
 * every node that the opset cannot say, with its place in the traced program; a graph whose runs update its state is
 * CR_ERROR_STATE. */
CR_API bool cr_onnx_export_with(const cr_graph *graph, const char *path, const cr_onnx_export_options *options);

/* ------------------------------------------------------------------ import
 * sizes      of dims that the file leaves open, in the example that the model is traced with: "batch=1 sequence=128"; a
 *            dim without a name is called by its input and place, "pixels.2". They stay open in the graph …
 * fixed      … unless this is true: then the graph has these sizes and no others
 * constants  inputs that are given once and for all, as where a file takes the new shape of a reshape as an input:
 *            "shape=2,3,4 axis=0". They are no inputs of the graph.
 * freeze     as in cr_jit_trace: weights are constants, batch norm folds into convolutions, and so on */
#define CR_ONNX_IMPORT_OPTIONS(A, op)                                                                                  \
    A(op, TEXT, sizes, NULL)                                                                                           \
    A(op, BOOL, fixed, false) A(op, TEXT, constants, NULL) A(op, BOOL, freeze, true)
CR_OPTIONS(onnx_import, CR_ONNX_IMPORT_OPTIONS)
/* Reads an ONNX model as a graph: to be run, saved, compiled, exported. NULL and an error on failure; where operators
 * are missing it lists them all. External data must lie in the model's folder. */
CR_API cr_graph *cr_onnx_import_with(const char *path, const cr_onnx_import_options *options);

/* The model as a module: its floating initialisers are parameters (statistics of batch norm: buffers) under the file's
 * names, and its forward runs the file's nodes as ops, with gradients. It starts in evaluation mode, in which it computes
 * what the file says; in training mode batch norm and dropout do what they do when training. */
CR_API cr_nn_module *cr_onnx_import_module(const char *path);
/* Such a module with any number of inputs and outputs. */
CR_API bool cr_onnx_module_run(cr_nn_module *module, cr_tensor *const *inputs, int input_count, cr_tensor **outputs,
                               int output_count);
/* How many inputs and outputs it has (-1 and an error for a module of another kind), and their names in the file; NULL
 * and an error out of range. */
CR_API int cr_onnx_module_input_count(const cr_nn_module *module);
CR_API int cr_onnx_module_output_count(const cr_nn_module *module);
CR_API const char *cr_onnx_module_input_name(const cr_nn_module *module, int index);
CR_API const char *cr_onnx_module_output_name(const cr_nn_module *module, int index);

/* ------------------------------------------------------------------ ops that ONNX does not have
 * From here on, for the process's life, nodes of the op `op` (a name of cr_op_describe) are written as one node `name` of
 * `domain`, version 1, its operands and attributes in our order and under our names; and such nodes are read as that op.
 *     cr_onnx_register("cumprod", "com.example", "CumProd");
 * False and an error for an op that is not there, or the main domain. */
CR_API bool cr_onnx_register(const char *op, const char *domain, const char *name);

/* A tensor of the file that ONNX's test cases are kept in (a TensorProto, input_0.pb). */
CR_API cr_tensor *cr_onnx_load_tensor(const char *path);

#ifndef __cplusplus
#define cr_onnx_export(graph, ...) cr_onnx_export_((graph), __VA_ARGS__, )
#define cr_onnx_export_(graph, path, ...)                                                                              \
    cr_onnx_export_with(graph, path, CR_WITH(onnx_export, CR_ONNX_EXPORT_OPTIONS, __VA_ARGS__))
#define cr_onnx_import(...)        cr_onnx_import_(__VA_ARGS__, )
#define cr_onnx_import_(path, ...) cr_onnx_import_with(path, CR_WITH(onnx_import, CR_ONNX_IMPORT_OPTIONS, __VA_ARGS__))
#endif

#ifdef __cplusplus
}
#endif
#endif
