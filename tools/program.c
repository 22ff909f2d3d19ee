/* Loading a program, and making inputs for it. */
#include "program.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- sizes */
static int refuse_size(const program *p, const command *self, const char *name, size_t length) {
    char names[512] = "";
    for (int i = 0; i < cr_jit_symbol_count(p->graph); i++) {
        const size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", cr_jit_symbol_name(p->graph, i));
    }
    if (!*names) return bad_usage(self, "--size %.*s: all sizes of this program are fixed", (int)length, name);
    return bad_usage(self, "--size: there is no \"%.*s\"; the sizes that may differ are %s", (int)length, name, names);
}

static int read_size(program *p, const command *self, const char *text) {
    const char *equals = strchr(text, '=');
    char *end = NULL;
    errno = 0;
    const long long value = equals ? strtoll(equals + 1, &end, 10) : 0;
    if (!equals || end == equals + 1 || *end || errno || value < 1)
        return bad_usage(self, "--size is \"%s\"; NAME=NUMBER is needed, such as batch=8", text);
    const size_t length = (size_t)(equals - text);
    for (int i = 0; i < cr_jit_symbol_count(p->graph); i++) {
        const char *name = cr_jit_symbol_name(p->graph, i);
        if (strlen(name) != length || strncmp(name, text, length) != 0) continue;
        p->sizes[i] = value;
        return -1;
    }
    return refuse_size(p, self, text, length);
}

bool program_is_onnx(const char *path) {
    const size_t length = strlen(path);
    return length > 5 && !strcmp(path + length - 5, ".onnx");
}

bool program_join(const text_list *list, char text[LIST_TEXT]) {
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < list->count; i++) {
        used += (size_t)snprintf(text + used, LIST_TEXT - used, "%s%s", i ? " " : "", list->at[i]);
        if (used >= LIST_TEXT)
            return cr_fail(CR_ERROR_ARGUMENT, "more than %d characters of sizes or constants", LIST_TEXT);
    }
    return true;
}

static cr_graph *open_graph(const char *path, const text_list *sizes) {
    char text[LIST_TEXT];
    if (!program_is_onnx(path)) return cr_jit_load(path, CR_CPU);
    return program_join(sizes, text) ? cr_onnx_import(path, .sizes = text) : NULL;
}

int program_open(program *p, const command *self, const char *path, const text_list *sizes) {
    *p = (program){.path = path, .graph = open_graph(path, sizes)};
    if (!p->graph) return cr_report(stderr);
    for (int i = 0; i < cr_jit_symbol_count(p->graph); i++)
        p->sizes[i] = cr_jit_symbol_value(p->graph, i);
    int status = -1;
    for (int i = 0; status < 0 && i < sizes->count; i++)
        status = read_size(p, self, sizes->at[i]);
    if (status >= 0) program_close(p);
    return status;
}

void program_close(program *p) {
    cr_jit_free(p->graph);
    p->graph = NULL;
}

/* ---------------------------------------------------------------- inputs */
cr_shape program_input_shape(const program *p, int index) {
    cr_shape shape = cr_jit_input_shape(p->graph, index);
    for (int d = 0; d < shape.count; d++)
        if (shape.at[d] < 0) shape.at[d] = p->sizes[cr_jit_input_symbol(p->graph, index, d)];
    return shape;
}

cr_tensor *program_make_input(const program *p, int index, const char *kind) {
    const cr_shape shape = program_input_shape(p, index);
    const cr_dtype dtype = cr_jit_input_dtype(p->graph, index);
    const bool real = cr_dtype_is_floating(dtype);
    if (!strcmp(kind, "zeros") || (!strcmp(kind, "rand") && !real)) return cr_zeros(dtype, shape, CR_CPU);
    if (!strcmp(kind, "ones")) return cr_ones(dtype, shape, CR_CPU);
    if (!real)
        cr_record_error(CR_ERROR_DTYPE,
                        "input \"%s\" is of %s; random numbers are floating: give a file, zeros or ones",
                        cr_jit_input_name(p->graph, index), cr_dtype_name(dtype));
    if (!strcmp(kind, "rand") && real) return cr_rand(dtype, shape, CR_CPU);
    return !strcmp(kind, "randn") && real ? cr_randn(dtype, shape, CR_CPU) : NULL;
}

bool program_fill_inputs(program *p) {
    for (int i = 0; i < cr_jit_input_count(p->graph); i++)
        if (!p->inputs[i] && !(p->inputs[i] = program_make_input(p, i, "rand"))) return false;
    return true;
}

/* ---------------------------------------------------------------- names */
static bool is_name(const char *name, const char *text, size_t length) {
    return strlen(name) == length && !strncmp(name, text, length);
}
int program_input_named(const program *p, const char *name, size_t length) {
    for (int i = 0; i < cr_jit_input_count(p->graph); i++)
        if (is_name(cr_jit_input_name(p->graph, i), name, length)) return i;
    return -1;
}
int program_output_named(const program *p, const char *name, size_t length) {
    for (int i = 0; i < cr_jit_output_count(p->graph); i++)
        if (is_name(cr_jit_output_name(p->graph, i), name, length)) return i;
    return -1;
}

int program_split(const program *p, const char *text, bool is_output, const char **file) {
    const char *equals = strchr(text, '=');
    const int count = is_output ? cr_jit_output_count(p->graph) : cr_jit_input_count(p->graph);
    if (equals) {
        const size_t length = (size_t)(equals - text);
        const int index = is_output ? program_output_named(p, text, length) : program_input_named(p, text, length);
        *file = equals + 1;
        return index;
    }
    *file = text;
    return count == 1 ? 0 : -1;
}

void program_names(const program *p, bool outputs, char *text, size_t size) {
    const int count = outputs ? cr_jit_output_count(p->graph) : cr_jit_input_count(p->graph);
    *text = '\0';
    for (int i = 0; i < count; i++) {
        const size_t used = strlen(text);
        snprintf(text + used, size - used, "%s%s", i ? ", " : "",
                 outputs ? cr_jit_output_name(p->graph, i) : cr_jit_input_name(p->graph, i));
    }
}
