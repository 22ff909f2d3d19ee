/* A checkpoint: one safetensors file with everything that a run needs to go on bit for bit. */
#include "training.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MOST = 512, NAME = 128, PATH = 1100, KEPT = 3 };

/* The tensors of a checkpoint under their names; names live here until it is written. */
typedef struct contents {
    cr_named_tensor rows[MOST];
    char names[MOST][NAME];
    int count;
} contents;

static void add(contents *c, const char *prefix, const char *name, const cr_tensor *t) {
    if (c->count == MOST) {
        cr_record_error(CR_ERROR_UNSUPPORTED, "a checkpoint of more than %d tensors", MOST);
        return;
    }
    snprintf(c->names[c->count], NAME, "%s%s", prefix, name);
    c->rows[c->count] = (cr_named_tensor){c->names[c->count], t};
    c->count++;
}

static void add_all(contents *c, const char *prefix, cr_nn_tensors list) {
    for (int i = 0; i < list.count; i++)
        add(c, prefix, list.names[i], list.at[i]);
}

/* Seed, random offset, step, epoch, batch of the epoch: whole numbers. */
static cr_tensor *position(const training *t) {
    const cr_generator_state random = cr_generator_get_state(NULL);
    const cr_data_loader_state data = cr_data_loader_get_state(t->loader);
    const int64_t numbers[] = {(int64_t)random.seed, (int64_t)random.offset, t->step, (int64_t)data.seed,
                               data.epoch,           data.position};
    return cr_from_data(CR_I64, CR_SHAPE(6), numbers);
}

/* The file of one epoch, counted from 1. */
static void checkpoint_path(char path[PATH], const training *t, int64_t epoch) {
    snprintf(path, PATH, "%s/checkpoint-%04lld.safetensors", t->options->out, (long long)epoch);
}

bool training_save(training *t, int64_t epoch) {
    contents *c = cr_calloc(1, sizeof *c);
    char path[PATH];
    bool saved = false;
    if (!c) return false;
    checkpoint_path(path, t, epoch);
    CR_SCOPE {
        add_all(c, "generator.", cr_nn_state(t->generator));
        add_all(c, "painter.", cr_nn_state(t->painter));
        add_all(c, "discriminator.", cr_nn_state(t->discriminator));
        add_all(c, "generator_optim.", cr_optim_state(t->generator_optim));
        add_all(c, "discriminator_optim.", cr_optim_state(t->discriminator_optim));
        add(c, "", "fixed_noise", t->fixed_noise);
        add(c, "", "position", position(t));
        for (int i = 0; i < cr_history_count(t->history); i++)
            add(c, "history.", cr_history_name(t->history, i),
                cr_history_get(t->history, cr_history_name(t->history, i)));
        saved = cr_ok() && cr_safetensors_save(path, c->rows, c->count, NULL, 0);
    }
    cr_free(c);
    if (!saved) return false;
    checkpoint_path(path, t, epoch - KEPT);
    remove(path);
    snprintf(path, sizeof path, "%s/generator.safetensors", t->options->model ? t->options->model : t->options->out);
    return cr_nn_save(t->painter, path);
}

/* One tensor from the file into `to`. */
static bool load_tensor(cr_tensor *to, cr_safetensors *file, const char *name) {
    cr_tensor *from = cr_safetensors_tensor(file, name);
    if (from && !cr_shape_equal(cr_shape_of(from), cr_shape_of(to)))
        return cr_fail(CR_ERROR_SHAPE,
                       "the checkpoint's %s has another size than this run's; give the --image-size, "
                       "--features and --latent that it was made with",
                       name);
    return cr_copy_(to, cr_to_device(from, cr_device_of(to))) != NULL;
}

/* Every tensor of the module from the file. */
static bool load_module(cr_nn_module *module, cr_safetensors *file, const char *prefix) {
    const cr_nn_tensors state = cr_nn_state(module);
    bool done = true;
    CR_NO_GRAD {
        for (int i = 0; done && i < state.count; i++) {
            char name[NAME];
            snprintf(name, sizeof name, "%s%s", prefix, state.names[i]);
            done = load_tensor(state.at[i], file, name);
        }
    }
    return done;
}

static bool load_history(training *t, cr_safetensors *file) {
    for (int i = 0; i < cr_safetensors_count(file); i++) {
        const char *name = cr_safetensors_name(file, i);
        if (strncmp(name, "history.", 8) != 0) continue;
        if (!cr_history_set(t->history, name + 8, cr_safetensors_tensor(file, name))) return false;
    }
    return true;
}

static bool is_later(struct timespec a, struct timespec b) {
    return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
}

/* The checkpoint that was written last: a folder may also hold those of an earlier, longer run. */
static bool newest(const training *t, char path[PATH]) {
    struct timespec latest = {0};
    char candidate[PATH];
    DIR *folder = opendir(t->options->out);
    *path = '\0';
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        struct stat about;
        long long epoch;
        if (sscanf(entry->d_name, "checkpoint-%lld.safetensors", &epoch) != 1) continue;
        checkpoint_path(candidate, t, epoch);
        if (stat(candidate, &about) != 0 || !is_later(about.st_mtim, latest)) continue;
        latest = about.st_mtim;
        memcpy(path, candidate, sizeof candidate);
    }
    if (folder) closedir(folder);
    return *path ||
           cr_fail(CR_ERROR_IO, "%s has no checkpoint to resume from; leave out --resume to begin", t->options->out);
}

bool training_resume(training *t) {
    char path[PATH];
    bool done = false;
    cr_safetensors *file = newest(t, path) ? cr_safetensors_open(path) : NULL;
    if (!file) return false;
    CR_SCOPE {
        int64_t numbers[6];
        done = load_module(t->generator, file, "generator.") && load_module(t->painter, file, "painter.") &&
               load_module(t->discriminator, file, "discriminator.") &&
               cr_optim_restore(t->generator_optim, file, "generator_optim.") &&
               cr_optim_restore(t->discriminator_optim, file, "discriminator_optim.") && load_history(t, file) &&
               load_tensor(t->fixed_noise, file, "fixed_noise") &&
               cr_copy_to_host(cr_safetensors_tensor(file, "position"), numbers, sizeof numbers);
        if (done) {
            cr_generator_set_state(NULL, (cr_generator_state){(uint64_t)numbers[0], (uint64_t)numbers[1]});
            t->step = numbers[2];
            done = cr_data_loader_set_state(t->loader,
                                            (cr_data_loader_state){(uint64_t)numbers[3], numbers[4], numbers[5]});
        }
    }
    cr_safetensors_close(file);
    return done;
}
