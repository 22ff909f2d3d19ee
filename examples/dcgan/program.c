/* From research to production: the trained generator as a program that needs none of this source. */
#include "training.h"

/* For other runtimes. A build without ONNX leaves it out. */
static bool save_onnx(const cr_graph *graph, const char *path) {
    if (cr_onnx_export(graph, path)) return true;
    if (cr_last_error()->code != CR_ERROR_UNSUPPORTED) return false;
    cr_clear_error();
    return true;
}

/* Traces the painter for any number of pictures, and saves it: graph and weights in one file, and as an ONNX model.
 * TensorBoard shows the graph. */
static bool save_program(const training *t, const char *path, const char *onnx_path) {
    cr_nn_eval(t->painter);
    cr_graph *graph = cr_jit_trace(t->painter, t->fixed_noise, .dynamic_batch = true, .freeze = true,
                                   .input_names = "noise", .output_names = "pictures");
    const bool saved = cr_jit_save(graph, path) && save_onnx(graph, onnx_path) && cr_summary_graph(t->events, graph);
    cr_jit_free(graph);
    return saved;
}

bool training_export(training *t) {
    char program[1100], model[1100], picture[1100];
    const char *folder = t->options->model ? t->options->model : t->options->out;
    bool drawn = false;
    snprintf(program, sizeof program, "%s/generator-program.safetensors", folder);
    snprintf(model, sizeof model, "%s/generator.onnx", folder);
    snprintf(picture, sizeof picture, "%s/samples-from-program.png", t->options->out);
    CR_SCOPE {
        if (!save_program(t, program, model)) break;
        cr_graph *graph = cr_jit_load(program, t->options->device);
        cr_tensor *pictures = cr_to_device(cr_jit_forward(graph, t->fixed_noise), CR_CPU);
        drawn = cr_vision_save_image(cr_vision_make_grid(pictures, .normalize = true, .low = -1, .high = 1), picture);
        cr_jit_free(graph);
    }
    return drawn;
}
