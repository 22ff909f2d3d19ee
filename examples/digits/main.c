/* A small classifier: digits drawn from the fonts of this machine, or MNIST. */
#include <cresset.h>

#include "options.h"

static cr_nn_module *model_new(void) {
    return cr_nn_sequential(cr_nn_conv2d(1, 16, 3, .padding = 1), cr_nn_relu(), cr_nn_max_pool2d(2),  /* [16, 14, 14] */
                            cr_nn_conv2d(16, 32, 3, .padding = 1), cr_nn_relu(), cr_nn_max_pool2d(2), /* [32, 7, 7] */
                            cr_nn_flatten(), cr_nn_linear(32 * 7 * 7, 128), cr_nn_relu(), cr_nn_dropout(0.5),
                            cr_nn_linear(128, 10));
}

/* Drawn digits come in new fonts' sizes, places and turns each time; held-out ones are in fonts that were never
 * seen. */
static cr_data_dataset *open_digits(const options *o, bool train) {
    if (o->data) return cr_vision_mnist(o->data, .train = train);
    return cr_vision_glyphs(.count = train ? o->count : 2000, .train = train);
}

static void train_epoch(cr_nn_module *net, cr_optim *optim, cr_optim_schedule *schedule, cr_data_loader *loader,
                        const options *o, int epoch) {
    char label[32];
    snprintf(label, sizeof label, "epoch %d/%d", epoch, o->epochs);
    cr_progress *bar =
        cr_progress_new(cr_data_loader_length(loader), .label = label, .unit = "img", .units_per_step = o->batch);
    CR_FOR_BATCHES (batch, loader) {
        cr_progress_data_ready(bar);
        cr_tensor *loss = cr_cross_entropy(cr_nn_forward(net, cr_to_device(batch.input, o->device)),
                                           cr_to_device(batch.target, o->device));
        cr_optim_zero_grad(optim);
        cr_backward(loss);
        cr_optim_step(optim);
        cr_optim_schedule_step(schedule, 0);
        cr_progress_step(bar, "loss %.3f", cr_item(loss));
    }
    cr_progress_close(bar);
}

/* The share of images whose greatest logit is the right one. */
static double accuracy(cr_nn_module *net, cr_data_loader *loader, const options *o) {
    int64_t right = 0, all = 0;
    cr_nn_eval(net);
    CR_FOR_BATCHES (batch, loader) {
        CR_NO_GRAD {
            cr_tensor *guess = cr_argmax(cr_nn_forward(net, cr_to_device(batch.input, o->device)), 1, false);
            right += cr_item_i64(cr_sum(cr_eq(guess, cr_to_device(batch.target, o->device))));
            all += batch.samples;
        }
    }
    cr_nn_train(net, true);
    return all ? (double)right / (double)all : 0;
}

int main(int argc, char **argv) {
    options o;
    const int status = options_read(&o, argc, argv);
    if (status >= 0) return status;
    cr_manual_seed(o.seed);
    cr_nn_module *net = model_new();
    cr_nn_to(net, o.device);
    cr_data_loader *loader = cr_data_loader_new(open_digits(&o, true), .batch_size = o.batch, .shuffle = true,
                                                .drop_last = true, .workers = o.workers);
    cr_data_loader *held_out = cr_data_loader_new(open_digits(&o, false), .batch_size = 100);
    cr_optim *optim = cr_optim_adam(cr_nn_parameters(net), .lr = 2e-3);
    cr_optim_schedule *schedule = cr_optim_cosine_schedule(optim, o.epochs * (int)cr_data_loader_length(loader), 0);

    for (int epoch = 1; epoch <= o.epochs && cr_ok(); epoch++) {
        train_epoch(net, optim, schedule, loader, &o, epoch);
        const double share = accuracy(net, held_out, &o);
        if (cr_ok()) printf("epoch %d: %.1f %% of held-out digits right\n", epoch, 100 * share);
        fflush(stdout);
    }
    if (cr_ok() && cr_nn_save(net, o.out)) printf("the model is in %s\n", o.out);

    cr_optim_schedule_free(schedule);
    cr_optim_free(optim);
    cr_data_loader_free(loader);
    cr_data_loader_free(held_out);
    cr_nn_free(net);
    return cr_report(stderr);
}
