/* Everything that saves, on a disk without room: an I/O error, the old file as it was, no other file left, no memory
 * kept. (A limit on the size of files stands for the full disk.)
 * Needs: images summary */
#define _GNU_SOURCE
#include "tests/unit/testing.h"
#include "tests/unit/temporary_folder.h"

#include <cresset/jit.h>

#include <signal.h>
#include <sys/resource.h>

static cr_nn_module *net;
static cr_optim *optim;
static cr_graph *graph;

static int make_subjects(void **state) {
    net = cr_nn_sequential(cr_nn_linear(20, 30), cr_nn_relu(), cr_nn_linear(30, 2));
    optim = cr_optim_adam(cr_nn_parameters(net), .lr = 0.1);
    CR_SCOPE {
        cr_tensor *x = cr_ones(CR_F32, CR_SHAPE(3, 20), CR_CPU);
        cr_backward(cr_sum(cr_nn_forward(net, x)));
        cr_optim_step(optim);
        graph = cr_jit_trace(net, x);
    }
    return !graph || make_temporary_folder(state);
}

static int end_subjects(void **state) {
    cr_jit_free(graph);
    cr_optim_free(optim);
    cr_nn_free(net);
    return remove_temporary_folder(state) || cr_memory_stats().live_bytes != 0;
}

static cr_tensor *pixels(void) { return cr_rand(CR_F32, CR_SHAPE(3, 60, 70), CR_CPU); }

static bool save_npy(const char *path) { return cr_npy_save(path, pixels()); }
static bool save_safetensors(const char *path) {
    const cr_named_tensor row = {"pixels", pixels()};
    return cr_safetensors_save(path, &row, 1, NULL, 0);
}
static bool save_module(const char *path) { return cr_nn_save(net, path); }
static bool save_optimizer(const char *path) { return cr_optim_save(optim, path); }
static bool save_program(const char *path) { return cr_jit_save(graph, path); }
static bool save_png(const char *path) { return cr_vision_write_png(path, pixels()); }
static bool save_jpg(const char *path) { return cr_vision_write_jpg(path, pixels(), 90); }
static bool save_grid(const char *path) { return cr_vision_save_image(pixels(), path); }
static bool save_gif(const char *path) {
    cr_vision_gif *gif = cr_vision_gif_begin(path);
    for (int i = 0; gif && i < 3; i++)
        cr_vision_gif_add(gif, pixels());
    return cr_vision_gif_end(gif);
}
static bool save_plot(const char *path) {
    const double heights[] = {1, 3, 2, 5};
    const cr_plot_series series = {.name = "loss", .y = heights, .count = 4};
    return cr_plot(path, &series, 1);
}
static bool save_history(const char *path) {
    cr_history *history = cr_history_new();
    cr_history_add(history, "loss", 0, 1);
    cr_history_add(history, "loss", 1, 0.5);
    const bool done = cr_history_plot(history, path);
    cr_history_free(history);
    return done;
}

static const struct {
    const char *name;
    bool (*save)(const char *path);
} savers[] = {{"a.npy", save_npy},          {"a.safetensors", save_safetensors},
              {"module", save_module},      {"optimizer", save_optimizer},
              {"program", save_program},    {"a.png", save_png},
              {"a.jpg", save_jpg},          {"grid.png", save_grid},
              {"a.gif", save_gif},          {"plot.png", save_plot},
              {"history.png", save_history}};

static size_t read_file(const char *path, char *bytes, size_t room) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    const size_t count = fread(bytes, 1, room, file);
    fclose(file);
    return count;
}

/* Saves where no file may grow past `room` bytes. */
static bool save_within(bool (*save)(const char *path), const char *path, rlim_t room) {
    struct rlimit before;
    getrlimit(RLIMIT_FSIZE, &before);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){room, before.rlim_max});
    const bool done = save(path);
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, handler);
    return done;
}

static void whatever_saves_leaves_the_old_file(void **state) {
    (void)state;
    static char old[1 << 20], now[1 << 20];
    const rlim_t rooms[] = {0, 1, 60, 200};
    for (size_t k = 0; k < sizeof savers / sizeof savers[0]; k++) {
        CR_SCOPE { /* modules and optimizers keep the lists that they are saved by */
            assert_true(savers[k].save(in_folder(savers[k].name)));
        }
        const int64_t before = cr_memory_stats().live_bytes;
        CR_SCOPE {
            const char *path = in_folder(savers[k].name);
            assert_true(savers[k].save(path));
            assert_cr_ok();
            const size_t size = read_file(path, old, sizeof old);
            assert_in_range(size, 201, sizeof old - 1);
            for (size_t r = 0; r < 4; r++) {
                if (save_within(savers[k].save, path, rooms[r])) fail_msg("%s: saved without room", savers[k].name);
                assert_cr_error(CR_ERROR_IO, "");
                assert_int_equal(read_file(path, now, sizeof now), size);
                assert_memory_equal(now, old, size);
                if (count_temporary_files() != 1) fail_msg("%s: another file is left", savers[k].name);
            }
            empty_temporary_folder();
            assert_false(save_within(savers[k].save, path, 100)); /* without an old one: none comes */
            assert_cr_error(CR_ERROR_IO, "");
            assert_int_equal(count_temporary_files(), 0);
        }
        assert_int_equal(cr_memory_stats().live_bytes, before);
    }
}

static void what_was_not_saved_goes_on(void **state) {
    (void)state;
    assert_false(save_within(save_optimizer, in_folder("optimizer"), 10));
    assert_cr_error(CR_ERROR_IO, "");
    assert_true(cr_optim_step(optim) && save_optimizer(in_folder("optimizer")) &&
                cr_optim_load(optim, in_folder("optimizer")));
    assert_cr_ok();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_saves_leaves_the_old_file),
        cmocka_unit_test(what_was_not_saved_goes_on),
    };
    return cmocka_run_group_tests(tests, make_subjects, end_subjects);
}
