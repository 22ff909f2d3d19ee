/* What can be chosen on the command line, or by SageMaker's variables. */
#ifndef DCGAN_OPTIONS_H
#define DCGAN_OPTIONS_H

#include <cresset.h>

typedef struct options {
    const char *data;  /* folder of images; NULL: emoji */
    const char *out;   /* where pictures, events and checkpoints go */
    const char *model; /* where the trained generator goes */
    cr_device device;
    int64_t image_size, epochs, batch, features, latent, workers, show, steps, seed;
    bool all; /* emoji, not only those that are drawn large */
    bool resume;
} options;

/* Fills o. Returns -1 to go on, else the status to exit with (help: 0, bad usage: 2). */
int options_read(options *o, int argc, char **argv);

#endif
