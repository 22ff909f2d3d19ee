/* benchmark_eager [threads] [small|layers|models]: one line of JSON for each measurement. compare.py runs it beside
 * PyTorch. */
#include "models.h"

#include <stdlib.h>
#include <string.h>

static void measure_models(void) {
    for (int i = 0; i < training_work_count; i++) {
        const training_work *work = &training_works[i];
        CR_SCOPE {
            void *context = work->begin();
            if (context) measure(work->name, work->step, context, work->budget, work->flops);
            if (context) work->end(context);
        }
    }
}

int main(int argc, char **argv) {
    const char *part = argc > 2 ? argv[2] : "all";
    if (argc > 1) cr_set_num_threads(atoi(argv[1]));
    cr_manual_seed(0);
    const bool all = strcmp(part, "all") == 0;
    if (all || strcmp(part, "small") == 0) measure_small_ops();
    if (strcmp(part, "small") != 0) {
        report("peak_flops", 1 / peak_flops(), 0, 0);
        report("peak_bandwidth", 1 / peak_bandwidth(), 0, 0);
    }
    if (all || strcmp(part, "layers") == 0) measure_layers();
    if (all || strcmp(part, "models") == 0) measure_models();
    cr_shutdown();
    return cr_report(stderr);
}
