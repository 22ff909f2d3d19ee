/* One case: the program, its operands and expected results, and the call of it. */
#include "tests/ahead/write.h"

#include <string.h>

static char type_letter(cr_dtype dtype) {
    static const char letters[] = "1112"
                                  "48hbfd";
    return letters[dtype];
}

static double tolerance_of(cr_dtype dtype, double given) {
    const double own = dtype == CR_F64    ? 1e-9
                       : dtype == CR_F32  ? 5e-5
                       : dtype == CR_F16  ? 3e-3
                       : dtype == CR_BF16 ? 2e-2
                                          : 0;
    return cr_dtype_is_floating(dtype) && given > own ? given : own;
}

static size_t bytes_of(const cr_tensor *t) { return (size_t)cr_numel(t) * cr_dtype_size(cr_dtype_of(t)); }

/* Elements to the data file, in order. */
static bool put(case_writer *to, cr_tensor *t) {
    bool done = false;
    CR_SCOPE {
        cr_tensor *dense = cr_contiguous(cr_detach(t));
        done = dense && (cr_numel(t) == 0 || fwrite(cr_data(dense), bytes_of(t), 1, to->data) == 1);
    }
    return done;
}

/* A title as it may stand in a text of C. */
static void add_title(FILE *to, const char *title) {
    for (; *title; title++)
        fputc(*title == '"' || *title == '\\' || *title == '%' || *title == '?' ? '_' : *title, to);
}

static bool add_comparison(case_writer *to, const program_case *c, const char *title, const char *given, cr_tensor *t,
                           double tolerance) {
    fprintf(to->cases, "    compare(\"");
    add_title(to->cases, title);
    fprintf(to->cases, "\", %s, next(%zu), '%c', %lld, %g, %d);\n", given, bytes_of(t), type_letter(cr_dtype_of(t)),
            (long long)cr_numel(t), tolerance_of(cr_dtype_of(t), tolerance), c->real);
    return put(to, t);
}

static bool add_run(case_writer *to, const program_case *c, const char *name, const case_run *run) {
    const int inputs = cr_jit_input_count(c->graph), outputs = cr_jit_output_count(c->graph);
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
    fprintf(to->cases, ")) != 0) fail(\"%s\", %s_error(error));\n", name, name);
    for (int i = 0; i < outputs; i++) {
        char given[16];
        snprintf(given, sizeof given, "y%d", i);
        if (!add_comparison(to, c, c->titles[i], given, run->expected[i], c->tolerances ? c->tolerances[i] : 0))
            return false;
    }
    fprintf(to->cases, "    }\n");
    return true;
}

bool write_case(case_writer *to, const program_case *c) {
    char name[32], path[512];
    const bool beside = c->options->weights && !strcmp(c->options->weights, "file");
    cr_jit_compile_options options = *c->options;
    snprintf(name, sizeof name, "program%d", to->count);
    snprintf(path, sizeof path, "%s/%s.c", to->folder, name);
    options.name = name;
    if (!cr_jit_compile_with(c->graph, path, &options)) return false;
    fprintf(to->cases, "#define %s_DECLARATIONS_ONLY\n#include \"%s.c\"\n", name, name);
    fprintf(to->cases, "static void case_%d(void) {\n    static %s_context c;\n    int error = %s_init(&c", to->count,
            name, name);
    if (beside) fprintf(to->cases, ", \"%s.weights\"", name);
    fprintf(to->cases, ");\n    if (error) fail(\"%s\", %s_error(error));\n    %s_seed(&c, 11);\n", name, name, name);
    bool done = true;
    for (int i = 0; done && i < c->run_count; i++)
        done = add_run(to, c, name, &c->runs[i]);
    for (int i = 0; done && i < c->state_count; i++) {
        char given[256];
        snprintf(given, sizeof given, "%s_state(&c, \"%s\")", name, c->states[i]);
        done = add_comparison(to, c, c->states[i], given, c->state_values[i], 0);
    }
    fprintf(to->cases, "}\n\n");
    fprintf(to->calls, "    case_%d();\n", to->count++);
    return done;
}
