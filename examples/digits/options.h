/* What can be chosen on the command line. */
#ifndef DIGITS_OPTIONS_H
#define DIGITS_OPTIONS_H

#include <cresset.h>

typedef struct options {
    const char *data; /* folder with MNIST's files; NULL: digits drawn from fonts */
    const char *out;  /* file for the trained model */
    cr_device device;
    int epochs, batch, count, workers;
    unsigned long seed;
} options;

/* Fills o. Returns -1 to go on, else the status to exit with (help: 0, bad usage: 2). */
int options_read(options *o, int argc, char **argv);

#endif
