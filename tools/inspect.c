/* cresset inspect: what is in a program, and what it will cost. */
#include "json.h"
#include "program.h"

#include <string.h>

static int run_inspect(int argc, char **argv);
const command command_inspect = {
    "inspect", "a program's graph, parameters, memory, and what each node costs",
    "Shows what is in a saved program: inputs, outputs, parameters, the memory of a run, and for each node of the "
    "planned\n"
    "graph its arithmetic, its traffic and the least time that this machine could take for it (a roofline).\n"
    "\n"
    "usage: cresset inspect PROGRAM [options]\n"
    "  --graph          only the graph, as text\n"
    "  --optimized      only the graph after all passes, for the given sizes\n"
    "  --dot            only the graph, for Graphviz; with --optimized after all passes\n"
    "  --json           everything but the graph, for programs to read\n"
    "  --size NAME=N    a size that may differ (again for each); the example's otherwise\n"
    "  --gflops N       what the processor computes at most, 1e9 operations a second (otherwise measured)\n"
    "  --gbps N         what memory moves at most, 1e9 bytes a second (otherwise measured)\n"
    "\n"
    "examples:\n"
    "  cresset inspect digits.safetensors --size batch=64\n"
    "  cresset inspect digits.safetensors --dot | dot -Tsvg > digits.svg\n"
    "  cresset inspect digits.safetensors --json | jq '.nodes | max_by(.flops)'\n",
    run_inspect};

typedef struct inspection {
    program program;
    cr_jit_memory memory;
    cr_jit_profile *costs;
    double gflops, gbytes;
    const char *peaks; /* where these are from */
} inspection;

/* ---------------------------------------------------------------- only the graph */
static bool print_text(char *text) {
    if (text) fputs(text, stdout);
    cr_free(text);
    return text != NULL;
}

static bool print_graph(program *p, bool optimized, bool dot) {
    const int count = cr_jit_input_count(p->graph);
    if (!optimized) return print_text(dot ? cr_jit_dot(p->graph) : cr_jit_text(p->graph));
    if (!program_fill_inputs(p)) return false;
    char *text = cr_jit_optimized_text(p->graph, p->inputs, count);
    if (!dot) return print_text(text);
    cr_graph *graph = text ? cr_jit_parse(text) : NULL;
    cr_free(text);
    const bool done = graph && print_text(cr_jit_dot(graph));
    cr_jit_free(graph);
    return done;
}

/* ---------------------------------------------------------------- for people */
static void print_bytes(const char *label, int64_t bytes, const char *more) {
    printf("  %-10s %14lld bytes  %s\n", label, (long long)bytes, more);
}

static void print_ends(const program *p) {
    for (int i = 0; i < cr_jit_input_count(p->graph) + cr_jit_output_count(p->graph); i++) {
        const int output = i - cr_jit_input_count(p->graph);
        char *type = output < 0 ? cr_jit_input_type(p->graph, i) : cr_jit_output_type(p->graph, output);
        printf("%-7s %-20s %s\n", output < 0 ? "input" : "output",
               output < 0 ? cr_jit_input_name(p->graph, i) : cr_jit_output_name(p->graph, output), type ? type : "");
        cr_free(type);
    }
    for (int i = 0; i < cr_jit_symbol_count(p->graph); i++)
        printf("%-7s %-20s %lld\n", "size", cr_jit_symbol_name(p->graph, i), (long long)p->sizes[i]);
}

static int64_t bytes_of(const cr_tensor *t) { return t ? cr_numel(t) * (int64_t)cr_dtype_size(cr_dtype_of(t)) : 0; }

static void print_state(const cr_graph *graph) {
    int64_t bytes = 0, numbers = 0;
    char shape[192];
    printf("\nstate\n");
    for (int i = 0; i < cr_jit_state_count(graph); i++) {
        const cr_tensor *t = cr_jit_state(graph, i);
        printf("  %-9s %-32s %-4s %-20s %12lld bytes\n", cr_jit_state_kind(graph, i), cr_jit_state_name(graph, i),
               cr_dtype_name(cr_dtype_of(t)), cr_shape_format(cr_shape_of(t), shape), (long long)bytes_of(t));
        bytes += bytes_of(t);
        if (!strcmp(cr_jit_state_kind(graph, i), "parameter")) numbers += cr_numel(t);
    }
    printf("  %d tensors, %lld numbers in parameters, %lld bytes\n", cr_jit_state_count(graph), (long long)numbers,
           (long long)bytes);
}

static void print_memory(const cr_jit_memory *m) {
    char more[96];
    const double over =
        m->bound_bytes ? 100.0 * (double)(m->planned_bytes - m->bound_bytes) / (double)m->bound_bytes : 0;
    printf("\nmemory of a run\n");
    print_bytes("naive", m->naive_bytes, "every intermediate in a place of its own");
    snprintf(more, sizeof more, "the arena; %.1f %% above the bound", over);
    print_bytes("planned", m->planned_bytes, more);
    print_bytes("bound", m->bound_bytes, "the most that is alive at once: no plan can do better");
    print_bytes("state", m->state_bytes, "mapped from the file, shared by all runs");
}

static bool print_costs(const inspection *in) {
    printf("\nnodes, at %.1f GFLOP/s and %.1f GB/s (%s, %d thread%s)\n", in->gflops, in->gbytes, in->peaks,
           cr_num_threads(), cr_num_threads() == 1 ? "" : "s");
    return cr_jit_profile_print(stdout, in->costs, in->gflops, in->gbytes);
}

static bool print_all(const inspection *in) {
    printf("program %s\n", in->program.path);
    print_ends(&in->program);
    for (int i = 0; i < cr_jit_warning_count(in->program.graph); i++)
        printf("warning %s\n", cr_jit_warning(in->program.graph, i));
    print_state(in->program.graph);
    print_memory(&in->memory);
    return print_costs(in);
}

/* ---------------------------------------------------------------- for programs */
static json_t *json_ends(const program *p, bool outputs) {
    json_t *list = json_array();
    for (int i = 0; i < (outputs ? cr_jit_output_count(p->graph) : cr_jit_input_count(p->graph)); i++) {
        char *type = outputs ? cr_jit_output_type(p->graph, i) : cr_jit_input_type(p->graph, i);
        const char *name = outputs ? cr_jit_output_name(p->graph, i) : cr_jit_input_name(p->graph, i);
        json_array_append_new(list, json_pack("{s:s, s:s}", "name", name, "type", type ? type : ""));
        cr_free(type);
    }
    return list;
}

static json_t *json_sizes(const program *p) {
    json_t *sizes = json_object();
    for (int i = 0; i < cr_jit_symbol_count(p->graph); i++)
        json_object_set_new(sizes, cr_jit_symbol_name(p->graph, i), json_integer(p->sizes[i]));
    return sizes;
}

static json_t *json_state(const cr_graph *graph) {
    json_t *list = json_array();
    for (int i = 0; i < cr_jit_state_count(graph); i++) {
        const cr_tensor *t = cr_jit_state(graph, i);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:o, s:I}", "name", cr_jit_state_name(graph, i), "kind",
                                              cr_jit_state_kind(graph, i), "dtype", cr_dtype_name(cr_dtype_of(t)),
                                              "shape", json_shape(cr_shape_of(t)), "bytes", (json_int_t)bytes_of(t)));
    }
    return list;
}

static json_t *json_nodes(const inspection *in) {
    json_t *list = json_array();
    for (int i = 0; i < in->costs->step_count; i++) {
        const cr_jit_profile_step *s = &in->costs->steps[i];
        const double compute = s->flops / in->gflops, move = s->bytes / in->gbytes;
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:f, s:f, s:f}", "op", s->op, "module", s->module,
                                              "source", s->source, "result", s->result, "flops", s->flops, "bytes",
                                              s->bytes, "roofline_us", 1e-3 * (compute > move ? compute : move)));
    }
    return list;
}

static bool print_as_json(const inspection *in) {
    const cr_jit_memory *m = &in->memory;
    json_t *all = json_pack(
        "{s:s, s:o, s:o, s:o, s:o, s:{s:I, s:I, s:I, s:I}, s:f, s:f, s:f, s:f, s:o}", "program", in->program.path,
        "inputs", json_ends(&in->program, false), "outputs", json_ends(&in->program, true), "sizes",
        json_sizes(&in->program), "state", json_state(in->program.graph), "memory", "naive_bytes",
        (json_int_t)m->naive_bytes, "planned_bytes", (json_int_t)m->planned_bytes, "bound_bytes",
        (json_int_t)m->bound_bytes, "state_bytes", (json_int_t)m->state_bytes, "flops", in->costs->flops, "bytes",
        in->costs->bytes, "gflops_per_second", in->gflops, "gbytes_per_second", in->gbytes, "nodes", json_nodes(in));
    if (!all) return cr_fail(CR_ERROR_FORMAT, "inspect: %s holds names that are not UTF-8", in->program.path);
    print_json(all);
    json_decref(all);
    return true;
}

/* ---------------------------------------------------------------- the command */
static bool inspect(inspection *in, bool as_json) {
    program *p = &in->program;
    const int count = cr_jit_input_count(p->graph);
    in->peaks = in->gflops > 0 && in->gbytes > 0   ? "as told"
                : in->gflops > 0 || in->gbytes > 0 ? "as told, the other measured"
                                                   : "measured";
    bool done = program_fill_inputs(p) && cr_jit_memory_of(p->graph, p->inputs, count, &in->memory) &&
                (in->costs = cr_jit_profile_new(p->graph, p->inputs, count, 0)) &&
                measure_peaks(&in->gflops, &in->gbytes);
    done = done && (as_json ? print_as_json(in) : print_all(in));
    cr_jit_profile_free(in->costs);
    return done;
}

static int run_inspect(int argc, char **argv) {
    bool graph = false, optimized = false, dot = false, as_json = false;
    inspection in = {.gflops = 0};
    text_list sizes = {{NULL}, 0};
    const char *path = NULL;
    const option_row rows[] = {
        {"graph", OPTION_FLAG, &graph},
        {"optimized", OPTION_FLAG, &optimized},
        {"dot", OPTION_FLAG, &dot},
        {"json", OPTION_FLAG, &as_json},
        {"size", OPTION_LIST, &sizes},
        {"gflops", OPTION_NUMBER, &in.gflops, 0, 1e9},
        {"gbps", OPTION_NUMBER, &in.gbytes, 0, 1e9},
    };
    int status = read_options(&command_inspect, argc, argv, rows, sizeof rows / sizeof *rows, &path, "PROGRAM");
    if (status >= 0) return status;
    if (as_json && (graph || optimized || dot))
        return bad_usage(&command_inspect, "--json does not go with --graph, --optimized or --dot");
    if ((status = program_open(&in.program, &command_inspect, path, &sizes)) >= 0) return status;
    if (graph || optimized || dot)
        print_graph(&in.program, optimized, dot);
    else
        inspect(&in, as_json);
    program_close(&in.program);
    return cr_report(stderr);
}
