/* Pictures as a program's input: what --mean and --std make of them. */
#ifndef CRESSET_TOOLS_PICTURES_H
#define CRESSET_TOOLS_PICTURES_H

#include "program.h"

enum { CHANNELS_MOST = 4 };

typedef struct picture_settings {
    const char *mean_text, *std_text; /* as given; "0" and "1" */
    float mean[CHANNELS_MOST], std[CHANNELS_MOST];
    int mean_count, std_count;
} picture_settings;

/* "0.5" or "0.485,0.456,0.406"; returns how many (at most CHANNELS_MOST), 0 where it is none. */
int read_numbers(const char *text, float *numbers);
/* Reads the texts. Returns -1 where the command is to go on, else its exit status. */
int read_picture_settings(const command *self, picture_settings *settings);
/* f32 [1,C,H,W] (or [C,H,W]), with as many channels as the program's input takes; NULL and an error on failure. */
cr_tensor *read_picture(const program *p, const picture_settings *settings, int index, const char *path);

#endif
