/* A training run: making it, one step, a picture of it. */
#include "training.h"

#include "model.h"

#include <string.h>
#include <sys/stat.h>


/* Makes a folder and those above it; what is wrong shows when a file is written. */
static void make_folder(const char *path) {
    char text[1024];
    snprintf(text, sizeof text, "%s", path);
    for (char *slash = text + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = '\0';
        mkdir(text, 0777);
    }
    mkdir(text, 0777);
}

static cr_data_dataset *open_images(const options *o) {
    if (!o->data) return cr_vision_emoji(.image_size = o->image_size);
    const float half[] = {0.5f, 0.5f, 0.5f};
    return cr_vision_image_folder(o->data,
                                  .transform = cr_vision_compose(cr_vision_resize(o->image_size), cr_vision_center_crop(o->image_size, o->image_size),
                                                                 cr_vision_to_tensor(), cr_vision_normalize(3, half, half)));
}

bool training_begin(training *t, const options *o) {
    char path[1100];
    *t = (training){.options = o};
    make_folder(o->out);
    cr_manual_seed(o->seed);
    t->generator = generator_new(o->latent, o->features, o->image_size);
    t->discriminator = discriminator_new(o->features, o->image_size);
    if (!cr_nn_to(t->generator, o->device) || !cr_nn_to(t->discriminator, o->device)) return false;
    t->generator_optim = cr_optim_adam(cr_nn_parameters(t->generator), .lr = 2e-4, .beta1 = 0.5);
    t->discriminator_optim = cr_optim_adam(cr_nn_parameters(t->discriminator), .lr = 2e-4, .beta1 = 0.5);
    t->loader = cr_data_loader_new(open_images(o), .batch_size = o->batch, .shuffle = true, .drop_last = true, .workers = o->workers, .seed = o->seed);
    t->fixed_noise = cr_retain(cr_to_device(cr_randn(CR_F32, CR_SHAPE(64, o->latent, 1, 1), CR_CPU), o->device));
    t->history = cr_history_new();
    t->events = cr_summary_writer_open(o->out);
    snprintf(path, sizeof path, "%s/samples.gif", o->out);
    t->gif = cr_vision_gif_begin(path, .delay = 0.15);
    snprintf(path, sizeof path, "%s/checkpoint.safetensors", o->out);
    return cr_ok() && (!o->resume || training_load(t, path));
}

void training_end(training *t) {
    char path[1100];
    snprintf(path, sizeof path, "%s/losses.png", t->options->out);
    if (t->history && cr_history_count(t->history) && cr_ok())
        cr_history_plot(t->history, path, .title = "DCGAN", .x_label = "step", .y_label = "loss", .smoothing = 0.9);
    if (t->gif) cr_vision_gif_end(t->gif);
    cr_summary_close(t->events);
    cr_history_free(t->history);
    cr_release(t->fixed_noise);
    cr_data_loader_free(t->loader);
    cr_optim_free(t->generator_optim);
    cr_optim_free(t->discriminator_optim);
    cr_nn_free(t->generator);
    cr_nn_free(t->discriminator);
}

/* The mean of -log D(real) - log(1 - D(fake)) for the discriminator, -log D(fake) for the generator. */
bool training_step(training *t, cr_tensor *real, double *loss_d, double *loss_g) {
    const int64_t n = cr_size(real, 0);
    cr_tensor *yes = cr_ones(CR_F32, CR_SHAPE(n, 1, 1, 1), t->options->device), *no = cr_zeros_like(yes);
    cr_tensor *noise = cr_to_device(cr_randn(CR_F32, CR_SHAPE(n, t->options->latent, 1, 1), CR_CPU), t->options->device);
    cr_tensor *fake = cr_nn_forward(t->generator, noise);

    cr_optim_zero_grad(t->discriminator_optim);
    cr_tensor *on_real = cr_bce_with_logits(cr_nn_forward(t->discriminator, real), yes);
    cr_tensor *on_fake = cr_bce_with_logits(cr_nn_forward(t->discriminator, cr_detach(fake)), no);
    cr_tensor *discriminator_loss = cr_add(on_real, on_fake);
    cr_backward(discriminator_loss);
    cr_optim_step(t->discriminator_optim);

    cr_optim_zero_grad(t->generator_optim);
    cr_tensor *generator_loss = cr_bce_with_logits(cr_nn_forward(t->discriminator, fake), yes);
    cr_backward(generator_loss);
    cr_optim_step(t->generator_optim);

    t->step++;
    *loss_d = cr_item(discriminator_loss);
    *loss_g = cr_item(generator_loss);
    return cr_ok();
}

bool training_show(training *t, int64_t epoch) {
    char path[1100];
    bool shown = false;
    snprintf(path, sizeof path, "%s/samples-%03lld.png", t->options->out, (long long)epoch);
    CR_SCOPE {
        CR_NO_GRAD {
            cr_nn_eval(t->generator);
            cr_tensor *images = cr_to_device(cr_nn_forward(t->generator, t->fixed_noise), CR_CPU);
            cr_nn_train(t->generator, true);
            cr_tensor *grid = cr_vision_make_grid(images, .normalize = true, .low = -1, .high = 1);
            shown = cr_vision_save_image(grid, path) && cr_vision_gif_add(t->gif, grid) && cr_summary_image(t->events, "samples", grid, t->step);
        }
    }
    return shown;
}
