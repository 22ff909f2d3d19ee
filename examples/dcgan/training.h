/* All that a run holds, and the checkpoint that it can go on from. */
#ifndef DCGAN_TRAINING_H
#define DCGAN_TRAINING_H

#include "options.h"

typedef struct training {
    const options *options;
    cr_nn_module *generator, *discriminator;
    cr_nn_module *painter; /* the generator's weights averaged over the last steps: it draws the samples */
    cr_optim *generator_optim, *discriminator_optim;
    cr_data_loader *loader;
    cr_tensor *fixed_noise; /* the same in every grid */
    cr_summary_writer *events;
    cr_history *history;
    int64_t step; /* in all epochs */
} training;

/* Makes everything, or reads it from the newest checkpoint with options->resume. */
bool training_begin(training *t, const options *o);
void training_end(training *t);
/* Weights, both optimizers, the random state and the place in the data: written whole or not at all. The last three
 * epochs are kept. */
bool training_save(training *t, int64_t epoch);
bool training_resume(training *t);
/* One update of both networks on a batch of real images. */
bool training_step(training *t, cr_tensor *real, double *loss_d, double *loss_g);
/* For cr_vision_emoji's choose: about 2,000 of the 3,900. */
bool emoji_is_drawn_large(const uint32_t *characters, int count);
/* A grid of what the painter draws from the fixed noise: a PNG, and an image in TensorBoard. */
bool training_show(training *t);
/* The course of the run: samples.gif and losses.png. */
bool training_draw_course(training *t);
/* The painter as generator-program.safetensors, for examples/production; and the last grid once more, drawn by what was
 * loaded from that file: samples-from-program.png. */
bool training_export(training *t);

#endif
