/* cr_onnx_import: a model's program, run once without values under the tracer. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/module.h"

#include <cresset/autograd.h>

#include "core/text.h"
#include "jit/trace.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

CR_OPTION_DEFAULTS(onnx_import, CR_ONNX_IMPORT_OPTIONS)

enum { MOST_NAME = 32 /* of a symbol */ };

typedef struct importing {
    const cr_onnx_program *program;
    const cr_onnx_import_options *options;
    cr_tensor *inputs[CR_MAX_INPUTS]; /* of the program: constants, or (while it runs) what the graph is given */
    bool is_constant[CR_MAX_INPUTS];
    int graph_inputs[CR_MAX_INPUTS]; /* which of the program's they are */
    int graph_input_count;
    cr_text dynamic;
} importing;

static bool run_program(void *context, cr_tensor *const *inputs, int input_count, cr_tensor **outputs,
                        int output_count) {
    importing *im = context;
    for (int i = 0; i < input_count; i++)
        im->inputs[im->graph_inputs[i]] = inputs[i];
    return cr_onnx_program_run(im->program, false, im->inputs, im->is_constant, im->program->main.input_count, outputs,
                               output_count);
}

/* ---------------------------------------------------------------- "name=value" lists */
/* The value behind "NAME=" in a list of such pairs between spaces; NULL: not there. */
static const char *find_pair(const char *list, const char *name) {
    const size_t length = strlen(name);
    for (const char *at = list; at && *at; at += strcspn(at, " "), at += strspn(at, " "))
        if (!strncmp(at, name, length) && at[length] == '=') return at + length + 1;
    return NULL;
}

/* ---------------------------------------------------------------- inputs */
static const CrOnnx__TypeProto__Tensor *tensor_type(const CrOnnx__ValueInfoProto *input) {
    const CrOnnx__TypeProto *type = input->type;
    return type && type->value_case == CR_ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE ? type->tensor_type : NULL;
}

static bool input_dtype(const CrOnnx__ValueInfoProto *input, cr_dtype *dtype) {
    const CrOnnx__TypeProto__Tensor *type = tensor_type(input);
    if (!type) return cr_fail(CR_ERROR_UNSUPPORTED, "onnx: the input \"%.200s\" is no tensor", input->name);
    return cr_onnx_dtype(type->elem_type, dtype) ||
           cr_fail(CR_ERROR_UNSUPPORTED,
                   "onnx: the input \"%.200s\" is of data type %d (%s), which Cresset does not have", input->name,
                   type->elem_type, cr_onnx_dtype_text(type->elem_type));
}

/* "2,3,4", or one number for a scalar. */
static cr_tensor *parse_constant(const CrOnnx__ValueInfoProto *input, const char *text) {
    enum { MOST = 1024 };
    double values[MOST];
    int count = 0;
    cr_dtype dtype;
    if (!input_dtype(input, &dtype)) return NULL;
    for (char *end; count < MOST && *text && *text != ' '; text = *end == ',' ? end + 1 : end) {
        values[count++] = strtod(text, &end);
        if (end == text || (*end && *end != ',' && *end != ' ')) {
            cr_record_error(CR_ERROR_ARGUMENT, "onnx_import: cannot read \"%.40s\" in .constants; it is NAME=1,2,3",
                            text);
            return NULL;
        }
    }
    const CrOnnx__TensorShapeProto *shape = tensor_type(input)->shape;
    const bool is_scalar = shape && shape->n_dim == 0 && count == 1;
    return cr_cast(cr_from_data(CR_F64, is_scalar ? CR_SHAPE_0D : CR_SHAPE(count), values), dtype);
}

static bool take_constants(importing *im) {
    for (int i = 0; i < im->program->main.input_count; i++) {
        const char *text = find_pair(im->options->constants, im->program->inputs[i]->name);
        if (!text) {
            im->graph_inputs[im->graph_input_count++] = i;
            continue;
        }
        im->is_constant[i] = true;
        if (!(im->inputs[i] = parse_constant(im->program->inputs[i], text))) return false;
    }
    return true;
}

/* A dim's name as a symbol: letters, digits and underscores. */
static void symbol_name(char name[MOST_NAME + 1], const char *given, const char *input, size_t dim) {
    if (given && *given)
        snprintf(name, MOST_NAME + 1, "%s%.*s", isdigit((unsigned char)*given) ? "_" : "", MOST_NAME - 1, given);
    else
        snprintf(name, MOST_NAME + 1, "%s%.*s_%zu", isdigit((unsigned char)*input) ? "_" : "", MOST_NAME - 6, input,
                 dim);
    for (char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c)) *c = '_';
}

/* What an open dim is in the example: as .sizes says, else by the attempt. */
static int64_t open_size(const importing *im, const char *given, const char *input, size_t dim, int attempt) {
    static const int64_t others[] = {8, 64, 224, 2, 1};
    char place[256];
    snprintf(place, sizeof place, "%.200s.%zu", input, dim);
    const char *text = given && *given ? find_pair(im->options->sizes, given) : NULL;
    if (!text) text = find_pair(im->options->sizes, place);
    if (text) return strtoll(text, NULL, 10);
    return dim == 0 && attempt < 3 ? 2 : others[attempt];
}
enum { ATTEMPTS = 5 };

static cr_tensor *make_example(importing *im, int place, int attempt, bool *has_open) {
    const CrOnnx__ValueInfoProto *input = im->program->inputs[im->graph_inputs[place]];
    cr_dtype dtype;
    if (!input_dtype(input, &dtype)) return NULL;
    const CrOnnx__TensorShapeProto *proto = tensor_type(input)->shape;
    if (!proto || proto->n_dim > CR_MAX_DIMS) {
        cr_record_error(CR_ERROR_UNSUPPORTED,
                        proto
                            ? "onnx: the input \"%.200s\" has more than 8 dims"
                            : "onnx: the file does not say how many dims the input \"%.200s\" has; run it as a module",
                        input->name);
        return NULL;
    }
    cr_shape shape = {(int)proto->n_dim, {0}};
    for (size_t d = 0; d < proto->n_dim; d++) {
        const CrOnnx__TensorShapeProto__Dimension *dim = proto->dim[d];
        const bool is_given = dim->value_case == CR_ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        const char *name =
            dim->value_case == CR_ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM ? dim->dim_param : NULL;
        char symbol[MOST_NAME + 1];
        shape.at[d] = is_given ? dim->dim_value : open_size(im, name, input->name, d, attempt);
        if (shape.at[d] < 0) {
            cr_record_error(CR_ERROR_FORMAT, "onnx: the input \"%.200s\" has a size of %lld", input->name,
                            (long long)shape.at[d]);
            return NULL;
        }
        if (is_given || im->options->fixed) continue;
        *has_open = true;
        symbol_name(symbol, name, input->name, d);
        cr_text_add(&im->dynamic, "%d.%zu=%s ", place, d, symbol);
    }
    return cr_empty_hollow(dtype, shape, NULL, CR_CPU);
}

/* ---------------------------------------------------------------- the trace */
static bool name_graph(const importing *im, cr_graph *graph) {
    for (int i = 0; i < im->graph_input_count; i++)
        if (!(graph->input_names[i] = cr_graph_text_copy(graph, im->program->inputs[im->graph_inputs[i]]->name)))
            return false;
    for (int i = 0; i < im->program->main.output_count; i++)
        if (!(graph->output_names[i] = cr_graph_text_copy(graph, im->program->file->model->graph->output[i]->name)))
            return false;
    return true;
}

static cr_graph *trace(importing *im, cr_nn_module *module, int attempt, bool *has_open) {
    cr_tensor *examples[CR_MAX_INPUTS];
    cr_graph *graph = NULL;
    const cr_jit_subject subject = {run_program, im,  im->graph_input_count, im->program->main.output_count, &module,
                                    1,           true};
    im->dynamic = (cr_text){0};
    CR_SCOPE {
        bool made = true;
        for (int i = 0; made && i < im->graph_input_count; i++)
            made = (examples[i] = make_example(im, i, attempt, has_open)) != NULL;
        char *dynamic = *has_open && made ? cr_text_end(&im->dynamic) : NULL;
        const cr_jit_trace_options options = {
            .size = sizeof options, .dynamic = dynamic, .freeze = im->options->freeze};
        if (made && (dynamic || !*has_open)) CR_NO_GRAD {
                graph = cr_jit_trace_subject(&subject, examples, NULL, &options);
            }
        cr_free(dynamic ? dynamic : im->dynamic.at);
    }
    if (graph && name_graph(im, graph)) return graph;
    cr_jit_free(graph);
    return NULL;
}

static cr_graph *trace_module(cr_nn_module *module, const cr_onnx_import_options *options) {
    importing im = {.program = cr_onnx_module_program(module), .options = options};
    if (im.program->main.input_count > CR_MAX_INPUTS || im.program->main.output_count > CR_MAX_INPUTS) {
        cr_record_error(CR_ERROR_UNSUPPORTED, "onnx: %d inputs and %d outputs; at most %d",
                        im.program->main.input_count, im.program->main.output_count, CR_MAX_INPUTS);
        return NULL;
    }
    cr_graph *graph = NULL;
    CR_SCOPE {
        bool has_open = true;
        for (int attempt = 0; attempt < ATTEMPTS && !graph && has_open; attempt++) {
            if (attempt) cr_clear_error(); /* sizes that the model does not take: others may do */
            im.graph_input_count = 0;
            has_open = false;
            if (!take_constants(&im)) break;
            graph = trace(&im, module, attempt, &has_open);
            if (!graph && cr_last_error()->code == CR_ERROR_MEMORY) break;
        }
    }
    return graph;
}

cr_graph *cr_onnx_import_with(const char *path, const cr_onnx_import_options *given) {
    cr_onnx_import_options options = onnx_import_defaults;
    if (given) memcpy(&options, given, given->size < sizeof options ? given->size : sizeof options);
    if (cr_thread_self()->tracer) {
        cr_record_error(CR_ERROR_STATE, "onnx_import: a trace is going on in this thread");
        return NULL;
    }
    cr_nn_module *module = cr_onnx_import_module(path);
    cr_graph *graph = module ? trace_module(module, &options) : NULL;
    cr_nn_free(module);
    return graph;
}
#endif
