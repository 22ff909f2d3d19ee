/* From research to production: the trained generator as a program that needs none of this source. */
#include "training.h"

/* Traces the painter for any number of pictures, and saves it: graph and weights in one file. TensorBoard shows the
 * graph. */
static bool save_program(const training *t, const char *path) {
    cr_nn_eval(t->painter);
    cr_graph *graph = cr_jit_trace(t->painter, t->fixed_noise, .dynamic_batch = true, .freeze = true,
                                   .input_names = "noise", .output_names = "pictures");
    const bool saved = cr_jit_save(graph, path) && cr_summary_graph(t->events, graph);
    cr_jit_free(graph);
    return saved;
}

bool training_export(training *t) {
    char program[1100], picture[1100];
    bool drawn = false;
    snprintf(program, sizeof program, "%s/generator-program.safetensors",
             t->options->model ? t->options->model : t->options->out);
    snprintf(picture, sizeof picture, "%s/samples-from-program.png", t->options->out);
    CR_SCOPE {
        if (!save_program(t, program)) break;
        cr_graph *graph = cr_jit_load(program, t->options->device);
        cr_tensor *pictures = cr_to_device(cr_jit_forward(graph, t->fixed_noise), CR_CPU);
        drawn = cr_vision_save_image(cr_vision_make_grid(pictures, .normalize = true, .low = -1, .high = 1), picture);
        cr_jit_free(graph);
    }
    return drawn;
}
