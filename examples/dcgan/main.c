/* DCGAN: learns to draw from thousands of small pictures. */
#include "training.h"

#include <signal.h>
#include <stdatomic.h>

static atomic_bool stop_asked;
static void ask_to_stop(int signal_number) {
    (void)signal_number;
    atomic_store(&stop_asked, true);
}

/* The first Ctrl-C (or SageMaker's SIGTERM) ends the run after the step; a second one ends it at once. */
static void catch_signals(void) {
    struct sigaction action = {.sa_handler = ask_to_stop, .sa_flags = SA_RESTART | (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static bool is_over(const training *t) {
    return atomic_load(&stop_asked) || (t->options->steps && t->step >= t->options->steps);
}

/* One pass over the images, or the rest of one; false where the run ends within it. */
static bool train_epoch(training *t, cr_progress *bar, int64_t epoch) {
    CR_FOR_BATCHES (batch, t->loader) {
        double loss_d, loss_g;
        cr_progress_data_ready(bar);
        if (!training_step(t, cr_to_device(batch.input, t->options->device), &loss_d, &loss_g)) break;
        if (t->step % t->options->show == 0 && !training_show(t)) break;
        cr_progress_step(bar, "epoch %lld/%lld  loss_d %.3f loss_g %.3f", (long long)epoch + 1,
                         (long long)t->options->epochs, loss_d, loss_g);
        if (is_over(t)) break;
    }
    return cr_ok() && !is_over(t);
}

static void train(training *t) {
    const int64_t all = cr_data_loader_length(t->loader) * t->options->epochs, most = t->options->steps;
    int64_t epoch = cr_data_loader_get_state(t->loader).epoch;
    if (is_over(t) || epoch >= t->options->epochs) return;
    cr_progress *bar = cr_progress_new(most && most < all ? most : all, .label = "dcgan", .unit = "img",
                                       .units_per_step = t->options->batch, .start = t->step);
    for (bool more = true; more && epoch < t->options->epochs; epoch++) {
        more = train_epoch(t, bar, epoch);
        if (cr_ok()) training_save(t, epoch + 1);
    }
    cr_progress_close(bar);
    if (cr_ok() && t->step % t->options->show != 0) training_show(t);
    if (cr_ok()) training_draw_course(t);
    if (cr_ok()) training_export(t);
}

int main(int argc, char **argv) {
    options o;
    training t;
    const int status = options_read(&o, argc, argv);
    if (status >= 0) return status;
    catch_signals();
    if (training_begin(&t, &o)) {
        printf("dcgan: %lld images; %lld and %lld parameters; writing to %s\n",
               (long long)cr_data_dataset_length(cr_data_loader_dataset(t.loader)),
               (long long)cr_nn_parameter_count(t.generator), (long long)cr_nn_parameter_count(t.discriminator), o.out);
        fflush(stdout);
        train(&t);
    }
    training_end(&t);
    cr_scope_clear();
    if (cr_ok()) {
        const bool stopped = atomic_load(&stop_asked);
        const cr_memory_stats_t memory = cr_memory_stats();
        printf("%s after %lld steps: look at samples.gif and losses.png in %s%s\n", stopped ? "stopped" : "done",
               (long long)t.step, o.out, stopped ? "; --resume goes on from here" : "");
        printf("drawn last by generator-program.safetensors, which examples/production runs without this source\n");
        printf("memory: %.0f MB at most, %lld bytes at the end\n", (double)memory.peak_bytes / 1e6,
               (long long)memory.live_bytes);
    }
    return cr_report(stderr);
}
