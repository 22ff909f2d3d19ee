/* bench_worker THREADS FOLDER: our side of benchmarks/cresset-bench. Reads commands, a line each, and answers with a line of
 * JSON. What works need of each other (ONNX files, saved programs) lies in FOLDER.
 *   list               the works' names
 *   prepare NAME       what follows is about this work
 *   run SECONDS        times of its steps, for about so long; three at least where that takes no more than a second
 *   profile RUNS       a table of where the time of the current work's graph goes (for people, not JSON)
 *   check FILE         the f32 that opponents compare with theirs to a file
 *   memory             the most bytes that this process has held
 *   peaks              what the machine can do */
#define _GNU_SOURCE
#include "worker.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

prepared now_prepared;
static const work *current;
static const work *const lists[] = {op_works,      layer_works,    inference_works,
                                    decoder_works, training_works, loader_works};

double wall_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

cr_tensor *numbers(cr_shape shape, unsigned seed) {
    cr_tensor *t = cr_empty(CR_F32, shape, CR_CPU);
    for (int64_t i = 0; t && i < cr_numel(t); i++) {
        const uint32_t hash = (uint32_t)i * 2654435761u + seed * 40503u;
        cr_data_f32(t)[i] = (float)(int32_t)(hash >> 8) / 8388608.0f - 1;
    }
    return t;
}

/* ---------------------------------------------------------------- graphs */
bool prepare_graph(cr_graph *graph, cr_tensor *const *inputs, int input_count, int output_count) {
    prepared *p = &now_prepared;
    p->graph = graph;
    p->input_count = input_count;
    p->output_count = output_count;
    for (int i = 0; i < input_count; i++)
        p->inputs[i] = cr_retain(inputs[i]);
    if (!graph || !run_graph()) return false;
    cr_jit_wait();
    cr_jit_profile *profile = cr_jit_profile_new(graph, p->inputs, input_count, 0);
    if (profile) {
        p->flops = profile->flops;
        p->bytes = profile->bytes;
        p->bytes_read = profile->bytes_read;
    }
    cr_jit_profile_free(profile);
    return cr_ok();
}

bool run_graph(void) {
    prepared *p = &now_prepared;
    cr_tensor *out[4] = {NULL};
    CR_SCOPE {
        if (cr_jit_run(p->graph, p->inputs, p->input_count, out, p->output_count) && p->output_count) {
            cr_release(p->result);
            p->result = cr_retain(out[0]);
        }
    }
    return cr_ok();
}

void drop_graph(void) {
    prepared *p = &now_prepared;
    cr_jit_free(p->graph);
    for (int i = 0; i < p->input_count; i++)
        cr_release(p->inputs[i]);
    cr_release(p->result);
    cr_release(p->compared);
    memset(p, 0, sizeof *p);
}

/* ---------------------------------------------------------------- commands */
static void tell_error(const char *message) {
    printf("{\"error\": \"");
    for (const char *c = message; *c; c++)
        putchar(*c == '"' || *c == '\\' || (unsigned char)*c < ' ' ? '\'' : *c);
    printf("\"}\n");
}

static bool tell(bool done) {
    if (done && cr_ok())
        printf("{\"ok\": true, \"flops\": %.9g, \"bytes\": %.9g, \"bytes_read\": %.9g}\n", now_prepared.flops,
               now_prepared.bytes, now_prepared.bytes_read);
    else
        tell_error(cr_ok() ? "it could not be prepared" : cr_last_error()->message);
    cr_clear_error();
    return done;
}

static void list_works(void) {
    const char *separator = "";
    printf("[");
    for (size_t l = 0; l < sizeof lists / sizeof lists[0]; l++)
        for (const work *w = lists[l]; w->name; w++, separator = ", ")
            printf("%s\"%s\"", separator, w->name);
    printf("]\n");
}

static void prepare(const char *name, const char *folder) {
    bool done = false;
    for (size_t l = 0; l < sizeof lists / sizeof lists[0]; l++)
        for (const work *w = lists[l]; w->name; w++)
            if (!strcmp(w->name, name)) {
                current = w;
                CR_SCOPE
                    done = w->begin(w, folder) && w->step();
            }
    tell(done);
}

static void run(double seconds) {
    enum { MOST = 2000, LEAST = 3 };
    double times[MOST];
    int count = 0;
    const int calls = current->calls ? current->calls : 1;
    const double begin = wall_seconds(), longest = seconds > 1 ? seconds : 1;
    while (count == 0 || (count < MOST && wall_seconds() - begin < (count < LEAST ? longest : seconds))) {
        const double start = wall_seconds();
        if (!current->step()) break;
        times[count++] = (wall_seconds() - start) / calls;
    }
    if (!cr_ok()) {
        tell(false);
        return;
    }
    printf("{\"seconds\": [");
    for (int i = 0; i < count; i++)
        printf("%s%.9g", i ? ", " : "", times[i]);
    printf("]}\n");
}

static void profile(int runs) {
    prepared *p = &now_prepared;
    cr_jit_profile *profile = p->graph ? cr_jit_profile_new(p->graph, p->inputs, p->input_count, runs) : NULL;
    if (profile)
        cr_jit_profile_print(stdout, profile, peak_flops() / 1e9, peak_bandwidth() / 1e9);
    else
        tell_error(cr_ok() ? "no graph to profile" : cr_last_error()->message);
    cr_jit_profile_free(profile);
    cr_clear_error();
}

static void check(const char *path) {
    cr_tensor *result = now_prepared.compared ? now_prepared.compared : now_prepared.result;
    FILE *file = result ? fopen(path, "wb") : NULL;
    bool done = file != NULL;
    CR_SCOPE {
        cr_tensor *dense = done ? cr_contiguous(cr_cast(result, CR_F32)) : NULL;
        done = dense && fwrite(cr_data(dense), sizeof(float), (size_t)cr_numel(dense), file) == (size_t)cr_numel(dense);
    }
    if (file && fclose(file) != 0) done = false;
    if (result)
        tell(done);
    else
        printf("{\"error\": \"nothing to compare\"}\n");
}

static void obey(char *line, const char *folder) {
    char *rest = strchr(line, ' ');
    if (rest) *rest++ = 0;
    if (!strcmp(line, "list")) {
        list_works();
    } else if (!strcmp(line, "prepare") && rest) {
        prepare(rest, folder);
    } else if (!strcmp(line, "run") && rest && current) {
        run(strtod(rest, NULL));
    } else if (!strcmp(line, "profile") && rest) {
        profile(atoi(rest));
    } else if (!strcmp(line, "check") && rest) {
        check(rest);
    } else if (!strcmp(line, "memory")) {
        struct rusage usage;
        getrusage(RUSAGE_SELF, &usage);
        printf("{\"bytes\": %lld}\n", (long long)usage.ru_maxrss * 1024);
    } else if (!strcmp(line, "peaks")) {
        const double flops = peak_flops();
        const double bandwidth = peak_bandwidth();
        printf("{\"flops\": %.9g, \"bandwidth\": %.9g, \"reading\": %.9g}\n", flops, bandwidth, peak_reading());
    } else {
        printf("{\"error\": \"unknown command %s\"}\n", line);
    }
    fflush(stdout);
}

/* bench_worker THREADS ready PROGRAM: prepares it for the example's sizes, as PROGRAM.ready, and ends. */
static int make_ready(const char *path) {
    char ready[1100];
    cr_graph *graph = cr_jit_load(path, CR_CPU);
    snprintf(ready, sizeof ready, "%s.ready", path);
    cr_jit_save(graph, ready, .prepare = "");
    cr_jit_free(graph);
    return cr_report(stderr);
}

/* bench_worker THREADS first PROGRAM: loads, runs once, and ends. */
static int first_result(const char *path) {
    CR_SCOPE {
        cr_graph *graph = cr_jit_load(path, CR_CPU);
        cr_tensor *x = graph ? cr_ones(cr_jit_input_dtype(graph, 0), cr_jit_input_shape(graph, 0), CR_CPU) : NULL;
        cr_tensor *y = x ? cr_jit_forward(graph, x) : NULL;
        if (y) printf("%g\n", cr_item(cr_sum(y)));
        cr_jit_free(graph);
    }
    return cr_report(stderr);
}

/* bench_worker THREADS FOLDER compile NAME: compiles once, and ends. */
static int compile_once(const char *name, const char *folder) {
    CR_SCOPE {
        const double seconds =
            strstr(name, " step") ? training_compile_seconds(name, folder) : model_compile_seconds(name, folder);
        if (seconds >= 0) printf("%.9g\n", seconds);
    }
    return cr_report(stderr);
}

int main(int count, char **arguments) {
    char line[512];
    if (count < 3) {
        fprintf(stderr, "usage: bench_worker THREADS FOLDER | bench_worker THREADS FOLDER compile NAME | bench_worker "
                        "THREADS ready|first PROGRAM\n");
        return 2;
    }
    cr_set_num_threads(atoi(arguments[1]));
    if (count > 3 && !strcmp(arguments[2], "ready")) return make_ready(arguments[3]);
    if (count > 3 && !strcmp(arguments[2], "first")) return first_result(arguments[3]);
    cr_manual_seed(0);
    if (count > 4) return compile_once(arguments[4], arguments[2]);
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        obey(line, arguments[2]);
    }
    if (current) current->end();
    cr_shutdown();
    return cr_report(stderr);
}
