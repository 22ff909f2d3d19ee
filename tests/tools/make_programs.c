/* Saves the programs that check_command.sh looks at:  make_programs FOLDER
 *   classifier   image f32[batch,3,16,16] -> logits f32[batch,10]
 *   generator    f32[batch,8] -> f32[batch,3,8,8] of -1 … 1
 *   lookup       tokens i64[time] and scale f32[] -> words f32[time,4], sum f32[]
 *   counter      f32[3] -> f32[3], and counts its runs
 * and the arrays tokens.npy (i64), tokens32.npy (i32), image.npy (f32), double.npy (f64), and picture.png. */
#include <cresset.h>

#include <stdio.h>

static const char *folder;
static const char *place(const char *name) {
    static char paths[4][1024];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static bool save(cr_graph *graph, const char *name) {
    const bool saved = cr_jit_save(graph, place(name));
    cr_jit_free(graph);
    return saved;
}

static bool save_classifier(void) {
    cr_nn_module *net =
        cr_nn_eval(cr_nn_sequential(cr_nn_conv2d(3, 8, 3, .padding = 1), cr_nn_batch_norm2d(8), cr_nn_relu(),
                                    cr_nn_max_pool2d(2), cr_nn_flatten(), cr_nn_linear(8 * 8 * 8, 10)));
    cr_graph *graph = cr_jit_trace(net, cr_zeros(CR_F32, CR_SHAPE(2, 3, 16, 16), CR_CPU), .dynamic_batch = true,
                                   .input_names = "image", .output_names = "logits");
    cr_nn_free(net);
    return save(graph, "classifier.safetensors");
}

static bool save_generator(void) {
    cr_nn_module *net =
        cr_nn_sequential(cr_nn_linear(8, 3 * 8 * 8), cr_nn_tanh(), cr_nn_unflatten(1, CR_SHAPE(3, 8, 8)));
    cr_graph *graph = cr_jit_trace(net, cr_zeros(CR_F32, CR_SHAPE(2, 8), CR_CPU), .dynamic_batch = true);
    cr_nn_free(net);
    return save(graph, "generator.safetensors");
}

static bool look_up(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    (void)in_count, (void)out_count;
    out[0] = cr_mul(cr_embedding(context, in[0], -1), in[1]);
    return (out[1] = cr_sum(out[0])) != NULL;
}
static bool save_lookup(void) {
    cr_tensor *table = cr_reshape(cr_arange(CR_F32, 0, 40, 1, CR_CPU), CR_SHAPE(10, 4));
    cr_tensor *in[2] = {cr_zeros(CR_I64, CR_SHAPE(3), CR_CPU), cr_ones(CR_F32, CR_SHAPE_0D, CR_CPU)};
    return save(cr_jit_trace_function(look_up, table, in, 2, NULL, 2, NULL, 0, .dynamic = "0.0=time",
                                      .input_names = "tokens,scale", .output_names = "words,sum"),
                "lookup.safetensors");
}

static bool count_up(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    (void)in_count, (void)out_count;
    return cr_add_(context, in[0]) && (out[0] = cr_mul_scalar(context, 2)) != NULL;
}
static bool save_counter(void) {
    cr_tensor *count = cr_zeros(CR_F32, CR_SHAPE(3), CR_CPU), *x = cr_ones(CR_F32, CR_SHAPE(3), CR_CPU);
    return save(cr_jit_trace_function(count_up, count, &x, 1, NULL, 1, NULL, 0), "counter.safetensors");
}

static bool save_arrays(void) {
    const int64_t tokens[] = {9, 0, 4};
    cr_tensor *picture = cr_reshape(cr_arange(CR_F32, 0, 768, 1, CR_CPU), CR_SHAPE(3, 16, 16));
    return cr_npy_save(place("tokens.npy"), cr_from_data(CR_I64, CR_SHAPE(3), tokens)) &&
           cr_npy_save(place("tokens32.npy"), cr_cast(cr_from_data(CR_I64, CR_SHAPE(3), tokens), CR_I32)) &&
           cr_npy_save(place("image.npy"), cr_ones(CR_F32, CR_SHAPE(2, 3, 16, 16), CR_CPU)) &&
           cr_npy_save(place("double.npy"), cr_ones(CR_F64, CR_SHAPE(2, 3, 16, 16), CR_CPU)) &&
           cr_vision_write_png(place("picture.png"), cr_div_scalar(picture, 767));
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    folder = argv[1];
    cr_manual_seed(1);
    CR_SCOPE {
        if (save_classifier() && save_generator() && save_lookup() && save_counter()) save_arrays();
    }
    return cr_report(stderr);
}
