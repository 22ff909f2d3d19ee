/* cresset convert: programs to ONNX models, and ONNX models to programs. */
#include "program.h"

#include <string.h>

static int run_convert(int argc, char **argv);
const command command_convert = {
    "convert", "a program as an ONNX model, or an ONNX model as a program",
    "Reads a saved program or an ONNX model, and writes the one or the other: a name that ends in .onnx is a model.\n"
    "Sizes that may differ stay so. docs/onnx.md lists the operators that are read and written.\n"
    "\n"
    "usage: cresset convert FROM TO [options]\n"
    "  --opset N             of the model that is written, 13 to 23 (18)\n"
    "  --external-data       its weights in a file beside it, TO.data\n"
    "  --size NAME=N         of a dim that the model leaves open, in the example that it is traced with (again for "
    "each)\n"
    "  --fixed               the sizes are these and no others\n"
    "  --constant NAME=LIST  an input given once and for all, as a new shape: shape=2,3,4 (again for each)\n"
    "  --keep                weights stay as they are in the file: nothing is folded into them\n"
    "\n"
    "examples:\n"
    "  cresset convert resnet50.onnx resnet50.safetensors\n"
    "  cresset convert digits.safetensors digits.onnx --opset 17\n"
    "  cresset convert bert.onnx bert.safetensors --size sequence=128\n",
    run_convert};

static bool convert(cr_graph *graph, const char *to, int64_t opset, bool external) {
    return graph && (program_is_onnx(to) ? cr_onnx_export(graph, to, .opset = opset, .external_data = external)
                                         : cr_jit_save(graph, to));
}

static int run_convert(int argc, char **argv) {
    const char *from = NULL, *to = NULL;
    char sizes_text[LIST_TEXT], constants_text[LIST_TEXT];
    int64_t opset = 18;
    bool external = false, fixed = false, keep = false;
    text_list sizes = {{NULL}, 0}, constants = {{NULL}, 0};
    const option_row rows[] = {{"opset", OPTION_COUNT, &opset, 13, 23}, {"external-data", OPTION_FLAG, &external},
                               {"size", OPTION_LIST, &sizes},           {"fixed", OPTION_FLAG, &fixed},
                               {"constant", OPTION_LIST, &constants},   {"keep", OPTION_FLAG, &keep}};
    if (argc > 2 && argv[1][0] != '-' && argv[2][0] != '-') { /* two words, and then options */
        to = argv[2];
        memmove(argv + 2, argv + 3, (size_t)(argc - 2) * sizeof *argv);
        argc--;
    }
    const int status = read_options(&command_convert, argc, argv, rows, sizeof rows / sizeof *rows, &from, "FROM");
    if (status >= 0) return status;
    if (!to) return bad_usage(&command_convert, "TO is missing: FROM and TO come before the options");
    if (!program_is_onnx(from) && !program_is_onnx(to))
        return bad_usage(&command_convert, "neither %s nor %s ends in .onnx", from, to);
    if (!program_join(&sizes, sizes_text) || !program_join(&constants, constants_text)) return cr_report(stderr);
    cr_graph *graph = program_is_onnx(from) ? cr_onnx_import(from, .sizes = sizes_text, .constants = constants_text,
                                                             .fixed = fixed, .freeze = !keep)
                                            : cr_jit_load(from, CR_CPU);
    convert(graph, to, opset, external);
    cr_jit_free(graph);
    return cr_report(stderr);
}
