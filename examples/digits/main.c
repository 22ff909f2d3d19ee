/* A small classifier: digits drawn from the fonts of this machine, or MNIST:  digits [FOLDER of MNIST's files] */
#include <cresset.h>

static double accuracy(cr_nn_module *net, cr_data_loader *loader) {
    int64_t right = 0, all = 0;
    cr_nn_eval(net);
    CR_FOR_BATCHES(batch, loader) {
        CR_NO_GRAD {
            cr_tensor *guess = cr_argmax(cr_nn_forward(net, batch.input), 1, false);
            right += cr_item_i64(cr_sum(cr_eq(guess, batch.target)));
            all += batch.samples;
        }
    }
    cr_nn_train(net, true);
    return all ? (double)right / (double)all : 0;
}

int main(int argc, char **argv) {
    const char *folder = argc > 1 ? argv[1] : NULL;
    cr_manual_seed(1);
    cr_data_dataset *train = folder ? cr_vision_mnist(folder, .train = true) : cr_vision_glyphs(.count = 6000);
    cr_data_dataset *test = folder ? cr_vision_mnist(folder, .train = false) : cr_vision_glyphs(.count = 1000, .train = false);
    cr_data_loader *loader = cr_data_loader_new(train, .batch_size = 64, .shuffle = true, .workers = 1);
    cr_data_loader *held_out = cr_data_loader_new(test, .batch_size = 100);

    cr_nn_module *net = cr_nn_sequential(cr_nn_conv2d(1, 16, 3, .padding = 1), cr_nn_relu(), cr_nn_max_pool2d(2),
                                         cr_nn_conv2d(16, 32, 3, .padding = 1), cr_nn_relu(), cr_nn_max_pool2d(2), cr_nn_flatten(),
                                         cr_nn_linear(32 * 7 * 7, 64), cr_nn_relu(), cr_nn_linear(64, 10));
    cr_optim *optim = cr_optim_adam(cr_nn_parameters(net), .lr = 1e-3);

    for (int epoch = 1; epoch <= 3 && cr_ok(); epoch++) {
        cr_progress *bar = cr_progress_new(cr_data_loader_length(loader), .label = "digits", .unit = "img", .units_per_step = 64);
        CR_FOR_BATCHES(batch, loader) {
            cr_progress_data_ready(bar);
            cr_tensor *loss = cr_cross_entropy(cr_nn_forward(net, batch.input), batch.target);
            cr_optim_zero_grad(optim);
            cr_backward(loss);
            cr_optim_step(optim);
            cr_progress_step(bar, "loss %.3f", cr_item(loss));
        }
        cr_progress_close(bar);
        printf("epoch %d: %.1f %% of held-out digits right\n", epoch, 100 * accuracy(net, held_out));
    }
    cr_nn_save(net, "digits.safetensors");
    cr_optim_free(optim);
    cr_nn_free(net);
    cr_data_loader_free(loader);
    cr_data_loader_free(held_out);
    return cr_report(stderr);
}
