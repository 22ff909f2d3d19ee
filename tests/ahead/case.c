/* One case: the program, its operands and expected results, and the call of it. */
#include "tests/ahead/write.h"

#include <string.h>

static char type_letter(cr_dtype dtype) {
    static const char letters[] = "1112" "48hbfd";
    return letters[dtype];
}

static double tolerance_of(cr_dtype dtype, double given) {
    const double own = dtype == CR_F64 ? 1e-9 : dtype == CR_F32 ? 5e-5 : dtype == CR_F16 ? 3e-3 : dtype == CR_BF16 ? 2e-2 : 0;
    return cr_dtype_is_floating(dtype) && given > own ? given : own;
}

static size_t bytes_of(const cr_tensor *t) { return (size_t)cr_numel(t) * cr_dtype_size(cr_dtype_of(t)); }

/* Elements to the data file, in order. */
static bool put(case_writer *to, cr_tensor *t) {
    bool done = false;
    CR_SCOPE {
        cr_tensor *dense = cr_contiguous(cr_detach(t));
        done = dense && fwrite(cr_data(dense), 1, bytes_of(t), to->data) == bytes_of(t);
    }
    return done;
}

static void add_comparison(case_writer *to, const char *title, const char *given, const cr_tensor *t, double tolerance,
                           bool real) {
    fprintf(to->cases, "    compare(\"%s\", %s, next(%zu), '%c', %lld, %g, %d);\n", title, given, bytes_of(t),
            type_letter(cr_dtype_of(t)), (long long)cr_numel(t), tolerance_of(cr_dtype_of(t), tolerance), real);
}

static bool add_run(case_writer *to, const cr_graph *graph, const char *name, const char *title, const case_run *run,
                    double tolerance, bool real) {
    const int inputs = cr_jit_input_count(graph), outputs = cr_jit_output_count(graph);
    fprintf(to->cases, "    {\n");
    for (int i = 0; i < inputs; i++) {
        fprintf(to->cases, "    void *x%d = next(%zu);\n", i, bytes_of(run->inputs[i]));
        if (!put(to, run->inputs[i])) return false;
    }
    for (int i = 0; i < outputs; i++)
        fprintf(to->cases, "    void *y%d = room(%zu);\n", i, bytes_of(run->expected[i]));
    fprintf(to->cases, "    if ((error = %s_run(&c", name);
    for (int i = 0; i < inputs; i++)
        fprintf(to->cases, ", x%d", i);
    for (int i = 0; i < outputs; i++)
        fprintf(to->cases, ", y%d", i);
    fprintf(to->cases, ")) != 0) {\n        printf(\"%s: %%s\\n\", %s_error(error));\n        failures++;\n    }\n", title, name);
    for (int i = 0; i < outputs; i++) {
        char given[16];
        snprintf(given, sizeof given, "y%d", i);
        add_comparison(to, title, given, run->expected[i], tolerance, real);
        if (!put(to, run->expected[i])) return false;
    }
    fprintf(to->cases, "    }\n");
    return true;
}

bool write_case(case_writer *to, cr_graph *graph, const char *title, const case_run *runs, int run_count,
                const cr_jit_compile_options *options, double tolerance, bool real, const char *const *states,
                cr_tensor *const *state_values, int state_count) {
    char name[32], path[512], folder[512], clean[128];
    const bool beside = options->weights && !strcmp(options->weights, "file");
    snprintf(name, sizeof name, "program%d", to->count);
    snprintf(path, sizeof path, "%s/%s.c", to->folder, name);
    snprintf(folder, sizeof folder, "%s", to->folder);
    snprintf(clean, sizeof clean, "%s", title);
    for (char *at = clean; *at; at++)
        if (*at == '"' || *at == '\\' || *at == '%') *at = '\'';
    cr_jit_compile_options own = *options;
    own.name = name;
    if (!cr_jit_compile_with(graph, path, &own)) return false;
    fprintf(to->cases, "#define %s_DECLARATIONS_ONLY\n#include \"%s.c\"\nstatic void case_%d(const char *folder) {\n", name,
            name, to->count);
    fprintf(to->cases, "    static %s_context c;\n    int error;\n    char path[600];\n    snprintf(path, sizeof path, \"%%s/%s.weights\", folder);\n",
            name, name);
    fprintf(to->cases, "    if (%s_init(&c%s) != 0) {\n        printf(\"%s: init\\n\");\n        failures++;\n    }\n    %s_seed(&c, 11);\n",
            name, beside ? ", path" : "", clean, name);
    bool done = true;
    for (int i = 0; done && i < run_count; i++)
        done = add_run(to, graph, name, clean, &runs[i], tolerance, real);
    for (int i = 0; done && i < state_count; i++) {
        char given[256];
        snprintf(given, sizeof given, "%s_state(&c, \"%s\")", name, states[i]);
        add_comparison(to, states[i], given, state_values[i], tolerance, real);
        done = put(to, state_values[i]);
    }
    fprintf(to->cases, "}\n\n");
    fprintf(to->calls, "    case_%d(argv[2]);\n", to->count++);
    return done;
}
