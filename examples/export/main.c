/* Train, trace, export, check: a digit reader learns for a second, leaves as digits.onnx, and is read back.
 *   export [FILE.onnx]
 * Any ONNX runtime runs the file; in Python:
 *   onnxruntime.InferenceSession("digits.onnx").run(None, {"image": numpy.zeros((5, 1, 28, 28), "f4")}) */
#include <cresset.h>

static cr_nn_module *train(void) {
    cr_nn_module *net = cr_nn_sequential(cr_nn_conv2d(1, 16, 3, .stride = 2, .padding = 1), cr_nn_batch_norm2d(16),
                                         cr_nn_relu(), cr_nn_conv2d(16, 32, 3, .stride = 2, .padding = 1), cr_nn_relu(),
                                         cr_nn_flatten(), cr_nn_linear(32 * 7 * 7, 10));
    cr_optim *optim = cr_optim_adam(cr_nn_parameters(net), .lr = 2e-3);
    cr_data_loader *loader = cr_data_loader_new(cr_vision_glyphs(.count = 4000), .batch_size = 64, .shuffle = true);
    double loss_now = 0;
    for (int epoch = 0; epoch < 4; epoch++) {
        CR_FOR_BATCHES (batch, loader) {
            cr_tensor *loss = cr_cross_entropy(cr_nn_forward(net, batch.input), batch.target);
            cr_optim_zero_grad(optim);
            cr_backward(loss);
            cr_optim_step(optim);
            loss_now = cr_item(loss);
        }
    }
    printf("trained: a loss of %.3f\n", loss_now);
    cr_data_loader_free(loader);
    cr_optim_free(optim);
    return cr_nn_eval(net);
}

int main(int count, char **arguments) {
    const char *path = count > 1 ? arguments[1] : "digits.onnx";
    cr_manual_seed(1);
    CR_SCOPE {
        cr_nn_module *net = train();
        cr_graph *graph = cr_jit_trace(net, cr_zeros(CR_F32, CR_SHAPE(1, 1, 28, 28), CR_CPU), .dynamic_batch = true,
                                       .input_names = "image", .output_names = "logits");
        if (cr_onnx_export(graph, path)) printf("exported: %s, for any number of images\n", path);

        cr_graph *again = cr_onnx_import(path);
        cr_tensor *images = cr_rand(CR_F32, CR_SHAPE(5, 1, 28, 28), CR_CPU);
        cr_tensor *apart = cr_amax(cr_abs(cr_sub(cr_jit_forward(again, images), cr_nn_forward(net, images))));
        if (apart) printf("checked: read back, its results are at most %.1e apart\n", cr_item(apart));
        cr_jit_free(again);
        cr_jit_free(graph);
        cr_nn_free(net);
    }
    return cr_report(stderr);
}
