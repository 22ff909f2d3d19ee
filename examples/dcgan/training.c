/* A training run: making it, one step, its end. */
#include "training.h"

#include "model.h"

static cr_data_dataset *open_images(const options *o) {
    if (!o->data) return cr_vision_emoji(.image_size = o->image_size, .choose = o->all ? NULL : emoji_is_drawn_large);
    const float half[] = {0.5f, 0.5f, 0.5f};
    return cr_vision_image_folder(
        o->data, .transform = cr_vision_compose(cr_vision_resize(o->image_size),
                                                cr_vision_center_crop(o->image_size, o->image_size),
                                                cr_vision_to_tensor(), cr_vision_normalize(3, half, half)));
}

static bool make_networks(training *t, const options *o) {
    t->generator = generator_new(o->latent, o->features, o->image_size);
    t->painter = generator_new(o->latent, o->features, o->image_size);
    t->discriminator = discriminator_new(o->features, o->image_size);
    /* The paper's rate is 2e-4 for both. A faster generator keeps up with the discriminator: pictures come twice as
     * soon. */
    t->generator_optim = cr_optim_adam(cr_nn_parameters(t->generator), .lr = 4e-4, .beta1 = 0.5);
    t->discriminator_optim = cr_optim_adam(cr_nn_parameters(t->discriminator), .lr = 2e-4, .beta1 = 0.5);
    return cr_nn_copy_state(t->painter, t->generator) && cr_nn_to(t->generator, o->device) &&
           cr_nn_to(t->painter, o->device) && cr_nn_to(t->discriminator, o->device);
}

static bool has_images(const training *t) {
    const int64_t images = cr_data_dataset_length(cr_data_loader_dataset(t->loader));
    if (images >= t->options->batch) return true;
    return cr_ok() &&
           cr_fail(CR_ERROR_ARGUMENT, "%s: %lld images are fewer than a batch of %lld; give more, or a smaller --batch",
                   t->options->data ? t->options->data : "emoji", (long long)images, (long long)t->options->batch);
}

bool training_begin(training *t, const options *o) {
    *t = (training){.options = o};
    cr_manual_seed(o->seed);
    t->events = cr_summary_writer_open(o->out); /* makes the folder */
    t->history = cr_history_new();
    t->loader = cr_data_loader_new(open_images(o), .batch_size = o->batch, .shuffle = true, .drop_last = true,
                                   .workers = o->workers, .seed = (int64_t)o->seed);
    t->fixed_noise = cr_retain(cr_to_device(cr_randn(CR_F32, CR_SHAPE(64, o->latent, 1, 1), CR_CPU), o->device));
    return make_networks(t, o) && has_images(t) && cr_ok() && (!o->resume || training_resume(t));
}

/* The painter follows the generator: an average over about the last tenth of the steps. */
static void average_weights(training *t) {
    const cr_nn_tensors to = cr_nn_state(t->painter), from = cr_nn_state(t->generator);
    const double rate = t->step < 10 ? 1 : 10 / (double)t->step;
    CR_NO_GRAD {
        for (int i = 0; i < to.count; i++) {
            if (cr_dtype_is_floating(cr_dtype_of(to.at[i])))
                cr_add_(cr_mul_scalar_(to.at[i], 1 - rate), cr_mul_scalar(from.at[i], rate));
            else
                cr_copy_(to.at[i], from.at[i]);
        }
    }
}

/* Losses: -0.9 log D(real) - 0.1 log(1 - D(real)) - log(1 - D(fake)) for the discriminator, whose truths are smoothed
 * on one side (Salimans et al. 2016), and -log D(fake) for the generator. */
bool training_step(training *t, cr_tensor *real, double *loss_d, double *loss_g) {
    const int64_t n = cr_size(real, 0);
    cr_tensor *yes = cr_ones(CR_F32, CR_SHAPE(n, 1, 1, 1), t->options->device), *no = cr_zeros_like(yes);
    cr_tensor *noise =
        cr_to_device(cr_randn(CR_F32, CR_SHAPE(n, t->options->latent, 1, 1), CR_CPU), t->options->device);
    cr_tensor *fake = cr_nn_forward(t->generator, noise);

    cr_optim_zero_grad(t->discriminator_optim);
    cr_tensor *on_real = cr_bce_with_logits(cr_nn_forward(t->discriminator, real), cr_mul_scalar(yes, 0.9));
    cr_tensor *on_fake = cr_bce_with_logits(cr_nn_forward(t->discriminator, cr_detach(fake)), no);
    cr_tensor *discriminator_loss = cr_add(on_real, on_fake);
    cr_backward(discriminator_loss);
    cr_optim_step(t->discriminator_optim);

    cr_optim_zero_grad(t->generator_optim);
    cr_nn_requires_grad_(t->discriminator, false); /* gradients pass through it, to the generator */
    cr_tensor *generator_loss = cr_bce_with_logits(cr_nn_forward(t->discriminator, fake), yes);
    cr_backward(generator_loss);
    cr_optim_step(t->generator_optim);
    cr_nn_requires_grad_(t->discriminator, true);
    average_weights(t);

    t->step++;
    *loss_d = cr_item(discriminator_loss);
    *loss_g = cr_item(generator_loss);
    cr_history_add(t->history, "discriminator", (double)t->step, *loss_d);
    cr_history_add(t->history, "generator", (double)t->step, *loss_g);
    cr_summary_scalar(t->events, "loss/discriminator", *loss_d, t->step);
    cr_summary_scalar(t->events, "loss/generator", *loss_g, t->step);
    return cr_ok();
}

void training_end(training *t) {
    cr_summary_close(t->events);
    cr_history_free(t->history);
    cr_release(t->fixed_noise);
    cr_data_loader_free(t->loader);
    cr_optim_free(t->generator_optim);
    cr_optim_free(t->discriminator_optim);
    cr_nn_free(t->generator);
    cr_nn_free(t->painter);
    cr_nn_free(t->discriminator);
}
