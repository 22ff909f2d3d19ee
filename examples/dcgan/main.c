/* DCGAN: learns to draw from thousands of small pictures. */
#include "training.h"

#include <signal.h>
#include <stdatomic.h>

static atomic_bool stop_asked;
static void ask_to_stop(int signal_number) {
    (void)signal_number;
    atomic_store(&stop_asked, true);
}

static bool is_over(const training *t) { return atomic_load(&stop_asked) || (t->options->steps && t->step >= t->options->steps); }

/* One pass over the images; false where the run ends. */
static bool train_epoch(training *t, int64_t epoch) {
    char label[32];
    const int64_t batches = cr_data_loader_length(t->loader), done = cr_data_loader_get_state(t->loader).position;
    snprintf(label, sizeof label, "epoch %lld/%d", (long long)epoch + 1, t->options->epochs);
    cr_progress *bar = cr_progress_new(batches, .label = label, .unit = "img", .units_per_step = t->options->batch, .start = done % batches);
    CR_FOR_BATCHES(batch, t->loader) {
        double loss_d, loss_g;
        cr_progress_data_ready(bar);
        if (!training_step(t, cr_to_device(batch.input, t->options->device), &loss_d, &loss_g)) break;
        cr_progress_step(bar, "loss_d %.3f loss_g %.3f", loss_d, loss_g);
        cr_history_add(t->history, "discriminator", (double)t->step, loss_d);
        cr_history_add(t->history, "generator", (double)t->step, loss_g);
        cr_summary_scalar(t->events, "loss/discriminator", loss_d, t->step);
        cr_summary_scalar(t->events, "loss/generator", loss_g, t->step);
        if (is_over(t)) break;
    }
    cr_progress_close(bar);
    return cr_ok() && !is_over(t);
}

static void train(training *t) {
    int64_t epoch = cr_data_loader_get_state(t->loader).epoch;
    for (bool more = true; more && epoch < t->options->epochs; epoch++) {
        more = train_epoch(t, epoch);
        if (cr_ok()) training_save(t);
        if (cr_ok()) training_show(t, epoch + 1);
    }
}

int main(int argc, char **argv) {
    options o;
    training t;
    const int status = options_read(&o, argc, argv);
    if (status >= 0) return status;
    signal(SIGINT, ask_to_stop);
    signal(SIGTERM, ask_to_stop);
    if (training_begin(&t, &o)) {
        printf("dcgan: %lld and %lld parameters, %lld batches of %d images; writing to %s\n", (long long)cr_nn_parameter_count(t.generator),
               (long long)cr_nn_parameter_count(t.discriminator), (long long)cr_data_loader_length(t.loader), o.batch, o.out);
        fflush(stdout);
        train(&t);
    }
    training_end(&t);
    cr_scope_clear();
    if (cr_ok())
        printf("%s after %lld steps: look at %s/samples.gif and losses.png%s\n", atomic_load(&stop_asked) ? "stopped" : "done", (long long)t.step, o.out,
               atomic_load(&stop_asked) ? "; --resume goes on from here" : "");
    return cr_report(stderr);
}
