/* What a person looks at: grids of samples, their animation, the losses. */
#include "training.h"

#include <unistd.h>

enum { PATH = 1100 };

static void samples_path(char path[PATH], const training *t, int64_t step) {
    snprintf(path, PATH, "%s/samples-%06lld.png", t->options->out, (long long)step);
}

bool training_show(training *t) {
    char path[PATH];
    bool shown = false;
    samples_path(path, t, t->step);
    CR_SCOPE {
        CR_NO_GRAD {
            cr_nn_eval(t->painter);
            cr_tensor *images = cr_to_device(cr_nn_forward(t->painter, t->fixed_noise), CR_CPU);
            cr_tensor *grid = cr_vision_make_grid(images, .normalize = true, .low = -1, .high = 1);
            if (t->options->image_size < 64) /* twice as large for the eye */
                grid = cr_vision_image_resize(grid, 2 * cr_size(grid, 1), 2 * cr_size(grid, 2));
            shown = cr_vision_save_image(grid, path) && cr_summary_image(t->events, "samples", grid, t->step);
        }
    }
    return shown;
}

/* All grids of this run, also of the time before it was resumed, as one animation. */
static bool animate(const training *t) {
    char path[PATH];
    snprintf(path, sizeof path, "%s/samples.gif", t->options->out);
    cr_vision_gif *gif = cr_vision_gif_begin(path, .delay = 0.15);
    for (int64_t last = 0; last < t->step && cr_ok();) {
        last = last + t->options->show < t->step ? last + t->options->show : t->step;
        samples_path(path, t, last);
        CR_SCOPE {
            if (access(path, R_OK) == 0) cr_vision_gif_add(gif, cr_vision_read_image(path, CR_VISION_RGB));
        }
    }
    return cr_vision_gif_end(gif);
}

bool training_draw_course(training *t) {
    char path[PATH];
    snprintf(path, sizeof path, "%s/losses.png", t->options->out);
    return animate(t) &&
           cr_history_plot(t->history, path, .title = "DCGAN", .x_label = "step", .y_label = "loss", .smoothing = 0.9);
}
