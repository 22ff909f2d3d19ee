/* Pictures as a program's input. */
#include "pictures.h"

#include <stdlib.h>

/* ---------------------------------------------------------------- options */
int read_numbers(const char *text, float *numbers) {
    for (int count = 0; count < CHANNELS_MOST;) {
        char *end;
        numbers[count++] = strtof(text, &end);
        if (end == text) return 0;
        if (!*end) return count;
        if (*end != ',') return 0;
        text = end + 1;
    }
    return 0;
}

int read_picture_settings(const command *self, picture_settings *s) {
    s->mean_count = read_numbers(s->mean_text, s->mean);
    s->std_count = read_numbers(s->std_text, s->std);
    if (!s->mean_count)
        return bad_usage(self, "--mean is \"%s\"; one number, or one for each channel, is needed", s->mean_text);
    for (int i = 0; i < s->std_count; i++)
        if (!(s->std[i] > 0)) s->std_count = 0;
    if (!s->std_count)
        return bad_usage(self, "--std is \"%s\"; numbers above 0, as many as channels, are needed", s->std_text);
    return -1;
}

/* ---------------------------------------------------------------- files */
/* (x - mean) / std, where either has one number for all channels or as many as there are. */
static cr_tensor *normalized(cr_tensor *image, const picture_settings *s) {
    const int channels = (int)cr_size(image, 0);
    float mean[CHANNELS_MOST], std[CHANNELS_MOST];
    for (int c = 0; c < channels && c < CHANNELS_MOST; c++) {
        mean[c] = s->mean[s->mean_count == 1 ? 0 : c];
        std[c] = s->std[s->std_count == 1 ? 0 : c];
    }
    if ((s->mean_count == 1 || s->mean_count == channels) && (s->std_count == 1 || s->std_count == channels))
        return cr_vision_image_normalize(image, channels, mean, std);
    cr_record_error(CR_ERROR_ARGUMENT, "%d numbers in --mean and %d in --std for a picture of %d channels",
                    s->mean_count, s->std_count, channels);
    return NULL;
}

cr_tensor *read_picture(const program *p, const picture_settings *s, int index, const char *path) {
    const cr_shape wanted = cr_jit_input_shape(p->graph, index);
    const int64_t channels = wanted.count >= 3 ? wanted.at[wanted.count - 3] : 0;
    cr_tensor *image = cr_vision_read_image(path, channels == 1   ? CR_VISION_GRAY
                                                  : channels == 3 ? CR_VISION_RGB
                                                  : channels == 4 ? CR_VISION_RGB_ALPHA
                                                                  : CR_VISION_UNCHANGED);
    if (image && cr_jit_input_dtype(p->graph, index) != CR_U8) image = normalized(cr_vision_image_to_tensor(image), s);
    return image && wanted.count == 4 ? cr_unsqueeze(image, 0) : image;
}
