/* Calls with named options, which override defaults: compiled with all warnings, never run. */
#include <cresset.h>

cr_tensor *forward(cr_tensor *x, cr_data_dataset *dataset);

cr_tensor *forward(cr_tensor *x, cr_data_dataset *dataset) {
    cr_nn_module *net = cr_nn_sequential(cr_nn_conv2d(1, 32, 3, .padding = 1, .bias = false), cr_nn_relu(),
                                         cr_nn_max_pool2d(2), cr_nn_flatten(), cr_nn_linear(32 * 14 * 14, 10));
    cr_optim *optim = cr_optim_adam(cr_nn_parameters(net), .lr = 1e-4);
    cr_data_loader *loader = cr_data_loader_new(dataset, .batch_size = 64, .shuffle = true);
    CR_FOR_BATCHES (batch, loader) {
        cr_backward(cr_nn_forward(net, batch.input), .retain_graph = true);
        cr_optim_step(optim);
    }
    return cr_nn_forward(net, x);
}
