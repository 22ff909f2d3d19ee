/* cresset bench: how long a program's runs take. */
#include "json.h"
#include "program.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { CLIENTS_MOST = 256, RUNS_MOST = 1 << 24, PROFILED_RUNS = 20 };

static int run_bench(int argc, char **argv);
const command command_bench = {
    "bench", "latency and throughput of a program; what each node takes",
    "Measures how long a saved program's runs take, on random inputs.\n"
    "\n"
    "usage: cresset bench PROGRAM [options]\n"
    "  --size NAME=N    a size that may differ (again for each); the example's otherwise\n"
    "  --seconds N      how long to measure (3)\n"
    "  --runs N         how many runs each client makes, instead of --seconds\n"
    "  --warm-up N      runs before the clock starts (5)\n"
    "  --threads N      threads of one run (all that there are, shared out among the clients)\n"
    "  --clients K      runs at once, of one loaded program (1)\n"
    "  --profile        then a table of what each node takes, beside what this machine could do\n"
    "  --trace FILE     the same runs as Chrome's trace events, for ui.perfetto.dev\n"
    "  --json           for programs to read\n"
    "\n"
    "examples:\n"
    "  cresset bench digits.safetensors --size batch=64\n"
    "  cresset bench digits.safetensors --clients 4 --threads 1 --seconds 10   # as a server would run it\n"
    "  cresset bench digits.safetensors --profile --trace digits.json\n",
    run_bench};

typedef struct settings {
    int64_t runs, warm_up, threads, clients;
    double seconds;
    bool profile, as_json;
    const char *trace;
} settings;

/* ---------------------------------------------------------------- clients */
typedef struct bench {
    program program;
    settings settings;
    pthread_barrier_t start;
    atomic_bool failed;
    pthread_mutex_t lock;
    char error[512]; /* the first one of any client */
} bench;

typedef struct client {
    bench *shared;
    pthread_t thread;
    double *latencies; /* seconds, from malloc */
    int64_t count, capacity;
    double begin, end;
} client;

static bool run_once(const program *p) {
    bool done = false;
    CR_SCOPE {
        cr_tensor *outputs[INPUTS_MOST] = {NULL};
        done = cr_jit_run(p->graph, p->inputs, cr_jit_input_count(p->graph), outputs, cr_jit_output_count(p->graph));
    }
    return done;
}

static bool note(client *c, double latency) {
    if (c->count == c->capacity) {
        const int64_t capacity = c->capacity ? 2 * c->capacity : 1024;
        double *grown = realloc(c->latencies, (size_t)capacity * sizeof *grown);
        if (!grown) return cr_fail(CR_ERROR_MEMORY, "bench: no memory for %lld latencies", (long long)capacity);
        c->latencies = grown;
        c->capacity = capacity;
    }
    c->latencies[c->count++] = latency;
    return true;
}

static bool measure(client *c) {
    const settings *s = &c->shared->settings;
    c->begin = c->end = seconds_now();
    while (s->runs ? c->count < s->runs : c->count == 0 || c->end < c->begin + s->seconds) {
        const double begin = seconds_now();
        if (!run_once(&c->shared->program)) return false;
        c->end = seconds_now();
        if (!note(c, c->end - begin) || c->count == RUNS_MOST) break;
    }
    return cr_ok();
}

static void run_client(client *c) {
    bench *b = c->shared;
    bool done = true;
    for (int64_t i = 0; done && i < b->settings.warm_up; i++)
        done = run_once(&b->program);
    pthread_barrier_wait(&b->start);
    if (!done || !measure(c)) {
        pthread_mutex_lock(&b->lock);
        if (!atomic_exchange(&b->failed, true) && cr_last_error())
            snprintf(b->error, sizeof b->error, "%s", cr_last_error()->message);
        pthread_mutex_unlock(&b->lock);
        cr_clear_error();
    }
}

static void *run_thread(void *given) {
    run_client(given);
    cr_scope_clear();
    return NULL;
}

/* All clients at once; the error of a client becomes this thread's. */
static bool run_clients(bench *b, client *clients) {
    const int count = (int)b->settings.clients;
    int started = 0;
    pthread_barrier_init(&b->start, NULL, (unsigned)count);
    pthread_mutex_init(&b->lock, NULL);
    for (int i = 0; i < count; i++) {
        clients[i] = (client){.shared = b};
        if (i + 1 == count)
            run_client(&clients[i]); /* this thread is the last client */
        else if (pthread_create(&clients[i].thread, NULL, run_thread, &clients[i]) != 0)
            break; /* the others wait at the barrier: nothing can be done but to end */
        else
            started++;
    }
    if (started + 1 < count) {
        fprintf(stderr, "cresset: only %d of %d clients can be started\n", started, count);
        exit(1);
    }
    for (int i = 0; i < started; i++)
        pthread_join(clients[i].thread, NULL);
    pthread_mutex_destroy(&b->lock);
    pthread_barrier_destroy(&b->start);
    return !b->failed || cr_fail(CR_ERROR_STATE, "bench: a run failed: %s", b->error);
}

/* ---------------------------------------------------------------- what came out */
typedef struct outcome {
    double *sorted; /* all latencies, from malloc */
    int64_t count;
    double wall;
} outcome;

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool gather(const bench *b, client *clients, outcome *o) {
    double begin = clients[0].begin, end = clients[0].end;
    for (int i = 0; i < b->settings.clients; i++)
        o->count += clients[i].count;
    o->sorted = malloc(((size_t)o->count + 1) * sizeof *o->sorted);
    if (!o->sorted) return cr_fail(CR_ERROR_MEMORY, "bench: no memory for %lld latencies", (long long)o->count);
    int64_t at = 0;
    for (int i = 0; i < b->settings.clients; i++) {
        if (clients[i].count) memcpy(o->sorted + at, clients[i].latencies, (size_t)clients[i].count * sizeof(double));
        at += clients[i].count;
        if (clients[i].begin < begin) begin = clients[i].begin;
        if (clients[i].end > end) end = clients[i].end;
    }
    o->wall = end - begin;
    qsort(o->sorted, (size_t)o->count, sizeof *o->sorted, by_size);
    return true;
}

/* The least latency that `share` of the runs keep (nearest rank). */
static double percentile(const outcome *o, double share) {
    int64_t rank = (int64_t)(share * (double)o->count + 0.999999);
    if (rank < 1) rank = 1;
    return o->sorted[rank > o->count ? o->count - 1 : rank - 1];
}

/* Examples in one run: dim 0 of the first input, where that is a size that may differ; else 0. */
static int64_t examples_of(const program *p) {
    const bool varies = cr_jit_input_count(p->graph) && cr_jit_input_shape(p->graph, 0).count &&
                        cr_jit_input_symbol(p->graph, 0, 0) >= 0;
    return varies ? program_input_shape(p, 0).at[0] : 0;
}

static const struct {
    const char *name;
    double share;
} shown[] = {{"min", 0}, {"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"max", 1}};
enum { SHOWN = sizeof shown / sizeof *shown };

static void print_outcome(const bench *b, const outcome *o) {
    const program *p = &b->program;
    char sizes[192];
    printf("program     %s\n", p->path);
    for (int i = 0; i < cr_jit_input_count(p->graph); i++)
        printf("input       %s %s%s\n", cr_jit_input_name(p->graph, i), cr_dtype_name(cr_jit_input_dtype(p->graph, i)),
               cr_shape_format(program_input_shape(p, i), sizes));
    printf("threads     %d for each run, %lld client%s\n", cr_num_threads(), (long long)b->settings.clients,
           b->settings.clients == 1 ? "" : "s");
    printf("latency    ");
    for (int i = 0; i < SHOWN; i++)
        printf(" %s %.3f ", shown[i].name, 1e3 * percentile(o, shown[i].share));
    printf("ms\nthroughput  %.1f runs/s", (double)o->count / o->wall);
    if (examples_of(p) > 0)
        printf(", %.1f examples/s (%lld in each run)", (double)(o->count * examples_of(p)) / o->wall,
               (long long)examples_of(p));
    printf("\nmeasured    %lld runs in %.2f s, after %lld to warm up\n", (long long)o->count, o->wall,
           (long long)(b->settings.warm_up * b->settings.clients));
}

static json_t *json_steps(const cr_jit_profile *profile) {
    json_t *list = json_array();
    for (int i = 0; profile && i < profile->step_count; i++) {
        const cr_jit_profile_step *s = &profile->steps[i];
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:f}", "op", s->op, "module",
                                              s->module, "source", s->source, "result", s->result, "mean_us",
                                              1e6 * s->seconds / profile->runs, "least_us", 1e6 * s->least_seconds,
                                              "share", s->share, "flops", s->flops, "bytes", s->bytes));
    }
    return list;
}

static bool print_outcome_json(const bench *b, const outcome *o, const cr_jit_profile *profile) {
    json_t *all = json_pack("{s:s, s:i, s:I, s:I, s:f, s:f}", "program", b->program.path, "threads", cr_num_threads(),
                            "clients", (json_int_t)b->settings.clients, "runs", (json_int_t)o->count, "seconds",
                            o->wall, "runs_per_second", (double)o->count / o->wall);
    json_t *latency = json_object();
    for (int i = 0; i < SHOWN; i++)
        json_object_set_new(latency, shown[i].name, json_real(1e3 * percentile(o, shown[i].share)));
    if (!all) return cr_fail(CR_ERROR_FORMAT, "bench: the program's path is not UTF-8");
    json_object_set_new(all, "latency_ms", latency);
    if (examples_of(&b->program)) {
        json_object_set_new(all, "examples", json_integer(examples_of(&b->program)));
        json_object_set_new(all, "examples_per_second",
                            json_real((double)(o->count * examples_of(&b->program)) / o->wall));
    }
    if (profile) json_object_set_new(all, "nodes", json_steps(profile));
    print_json(all);
    json_decref(all);
    return true;
}

/* ---------------------------------------------------------------- the command */
static bool show_profile(const bench *b, const cr_jit_profile *profile) {
    double gflops = 0, gbytes = 0;
    if (b->settings.trace && !cr_jit_profile_save_trace(profile, b->settings.trace)) return false;
    if (b->settings.as_json || !b->settings.profile) return true;
    if (!measure_peaks(&gflops, &gbytes)) return false;
    printf("\nnodes, over %d runs; roof: the time at %.1f GFLOP/s and %.1f GB/s, measured\n", profile->runs, gflops,
           gbytes);
    return cr_jit_profile_print(stdout, profile, gflops, gbytes);
}

static bool bench_program(bench *b, client *clients) {
    const program *p = &b->program;
    outcome o = {NULL, 0, 0};
    cr_jit_profile *profile = NULL;
    bool done = run_once(p); /* makes the plan; its kernels are waited for */
    cr_jit_wait();
    done = done && run_clients(b, clients) && gather(b, clients, &o);
    if (done && !b->settings.as_json) print_outcome(b, &o);
    if (done && (b->settings.profile || b->settings.trace)) {
        fflush(stdout);
        profile = cr_jit_profile_new(p->graph, p->inputs, cr_jit_input_count(p->graph), PROFILED_RUNS);
        done = profile && show_profile(b, profile);
    }
    if (done && b->settings.as_json) done = print_outcome_json(b, &o, profile);
    cr_jit_profile_free(profile);
    for (int i = 0; i < b->settings.clients; i++)
        free(clients[i].latencies);
    free(o.sorted);
    return done;
}

static int start(bench *b, const char *path, const text_list *sizes) {
    static client clients[CLIENTS_MOST];
    settings *s = &b->settings;
    int status = program_open(&b->program, &command_bench, path, sizes);
    if (status >= 0) return status;
    if (s->clients > 1 && cr_jit_updates_state(b->program.graph)) {
        program_close(&b->program);
        return bad_usage(&command_bench, "--clients %lld: this program updates its state, and takes one run at a time",
                         (long long)s->clients);
    }
    if (!s->threads) s->threads = cr_num_threads() > s->clients ? cr_num_threads() / s->clients : 1;
    cr_set_num_threads((int)s->threads);
    if (program_fill_inputs(&b->program)) bench_program(b, clients);
    program_close(&b->program);
    return cr_report(stderr);
}

static int run_bench(int argc, char **argv) {
    static bench b;
    settings *s = &b.settings;
    *s = (settings){.warm_up = 5, .clients = 1, .seconds = 3};
    text_list sizes = {{NULL}, 0};
    const char *path = NULL;
    const option_row rows[] = {
        {"size", OPTION_LIST, &sizes},
        {"seconds", OPTION_NUMBER, &s->seconds, 0, 86400},
        {"runs", OPTION_COUNT, &s->runs, 1, RUNS_MOST},
        {"warm-up", OPTION_COUNT, &s->warm_up, 0, 1 << 20},
        {"threads", OPTION_COUNT, &s->threads, 1, 1024},
        {"clients", OPTION_COUNT, &s->clients, 1, CLIENTS_MOST},
        {"profile", OPTION_FLAG, &s->profile},
        {"trace", OPTION_TEXT, &s->trace},
        {"json", OPTION_FLAG, &s->as_json},
    };
    const int status = read_options(&command_bench, argc, argv, rows, sizeof rows / sizeof *rows, &path, "PROGRAM");
    return status >= 0 ? status : start(&b, path, &sizes);
}
