/* A generated file around its steps: declarations that say how to use it, the words that the steps are written in, and
 * the public functions. */
#include "jit/ahead/program.h"

#include <ctype.h>

/* The C type of a dtype's elements for callers. */
static const char *public_type(cr_dtype dtype) {
    static const char *const names[] = {"uint8_t", "uint8_t",  "int8_t",   "int16_t", "int32_t",
                                        "int64_t", "uint16_t", "uint16_t", "float",   "double"};
    return names[dtype];
}

static void add_shape(cr_text *file, cr_dtype dtype, const cr_shape *shape) {
    cr_text_add(file, "%s [", cr_dtype_name(dtype));
    for (int d = 0; d < shape->count; d++)
        cr_text_add(file, d ? ", %lld" : "%lld", (long long)shape->at[d]);
    cr_text_add(file, "]");
}

/* A name as part of an identifier. */
static void add_identifier(cr_text *file, const char *name) {
    if (isdigit((unsigned char)*name)) cr_text_add(file, "_");
    for (; *name; name++)
        cr_text_add(file, "%c", isalnum((unsigned char)*name) && (unsigned char)*name < 128 ? *name : '_');
}

static bool is_unique(const char *const *names, int count, int index) {
    for (int i = 0; i < count; i++)
        if (i != index && !strcmp(names[i], names[index])) return false;
    return true;
}

static void add_parameter(cr_text *file, const char *const *names, int count, int index, const char *kind) {
    if (names && names[index] && *names[index] && is_unique(names, count, index)) {
        cr_text_add(file, "%s_", kind);
        add_identifier(file, names[index]);
    } else {
        cr_text_add(file, "%s_%d", kind, index);
    }
}

static void add_run_signature(cr_text *file, const cr_ahead *a) {
    const cr_graph *graph = a->plan->graph;
    cr_text_add(file, "int %s_run(%s_context *c", a->name, a->name);
    for (int i = 0; i < graph->body.input_count; i++) {
        cr_text_add(file, ", const %s *", public_type(graph->body.inputs[i]->dtype));
        add_parameter(file, graph->input_names, graph->body.input_count, i, "in");
    }
    for (int i = 0; i < graph->body.output_count; i++) {
        cr_text_add(file, ", %s *", public_type(graph->body.outputs[i]->dtype));
        add_parameter(file, graph->output_names, graph->body.output_count, i, "out");
    }
    cr_text_add(file, ")");
}

/* ---------------------------------------------------------------- the head */
void cr_ahead_add_comment_text(cr_text *file, const char *text) {
    for (; *text; text++)
        cr_text_add(file, (*text == '*' && text[1] == '/') || (unsigned char)*text < 32 ? "_" : "%c", *text);
}

static void add_operand_lines(cr_text *file, const cr_ahead *a) {
    const cr_graph *graph = a->plan->graph;
    for (int i = 0; i < graph->body.input_count; i++) {
        cr_text_add(file, " *   ");
        add_parameter(file, graph->input_names, graph->body.input_count, i, "in");
        cr_text_add(file, "  ");
        add_shape(file, graph->body.inputs[i]->dtype, &graph->body.inputs[i]->shape);
        cr_text_add(file, "\n");
    }
    for (int i = 0; i < graph->body.output_count; i++) {
        cr_text_add(file, " *   ");
        add_parameter(file, graph->output_names, graph->body.output_count, i, "out");
        cr_text_add(file, "  ");
        add_shape(file, graph->body.outputs[i]->dtype, &graph->body.outputs[i]->shape);
        cr_text_add(file, "\n");
    }
}

static void add_state_lines(cr_text *file, const cr_ahead *a) {
    const cr_graph *graph = a->plan->graph;
    if (!a->changing_bytes && !graph->gradient_count) return;
    cr_text_add(file, " * A run updates what %s_state finds by name:\n", a->name);
    for (int i = 0; i < graph->state_count; i++) {
        if (!graph->states[i].update || a->plan->states[i] < 0) continue;
        cr_text_add(file, " *   ");
        add_shape(file, graph->states[i].value->dtype, &graph->states[i].value->shape);
        cr_text_add(file, " ");
        cr_ahead_add_comment_text(file, graph->states[i].name);
        cr_text_add(file, "\n");
    }
    for (int i = 0; i < graph->gradient_count; i++) {
        cr_text_add(file, " *   the gradient of ");
        cr_ahead_add_comment_text(file, graph->states[graph->gradients[i].state].name);
        cr_text_add(file, ", under its name and \".gradient\"\n");
    }
}

void cr_ahead_add_head(cr_text *file, const cr_ahead *a, const char *weights_name) {
    const char *n = a->name;
    cr_text_add(
        file,
        "/* %s: a program that Cresset compiled. C99; needs nothing but the C library (-lm).\n *\n"
        " *     static %s_context context; // large: not on the stack\n"
        " *     if (%s_init(&context%s)) …\n"
        " *     if (%s_run(&context, inputs…, outputs…)) …\n *\n"
        " * Results of both are 0, or an error that %s_error names. Contexts are apart from each other: threads may\n"
        " * run one each. Tensors are dense, in row-major order:\n",
        n, n, n, weights_name ? ", weights" : "", n, n);
    add_operand_lines(file, a);
    add_state_lines(file, a);
    if (weights_name) {
        cr_text_add(file, " * The weights are in the file ");
        cr_ahead_add_comment_text(file, weights_name);
        cr_text_add(file, ", which %s_init reads once for all contexts: call it from one thread first.\n", n);
    }
    cr_text_add(file,
                " * With %s_DECLARATIONS_ONLY defined this file gives declarations alone, as a header does.\n"
                " * Fast with: -O3 -march=native -fno-math-errno -fno-trapping-math */\n",
                n);
}

void cr_ahead_add_declarations(cr_text *file, const cr_ahead *a, size_t memory) {
    const char *n = a->name;
    const int results = cr_plan_result_count(a->plan), inputs = a->plan->graph->body.input_count;
    cr_text_add(file,
                "#ifndef %s_DECLARED\n#define %s_DECLARED\n#include <stddef.h>\n#include <stdint.h>\n\n"
                "typedef struct %s_context {\n"
                "    const unsigned char *weights;\n    unsigned char *arena, *scratch, *states, *gradients;\n"
                "    const unsigned char *inputs[%d];\n    unsigned char *outputs[%d], *results[%d];\n%s"
                "    uint64_t seed, drawn;\n    int status;\n    unsigned char memory[%zu];\n} %s_context;\n\n",
                n, n, n, inputs ? inputs : 1, results ? results : 1, results ? results : 1,
                a->fields.at ? a->fields.at : "", memory + CR_AHEAD_ALIGNMENT, n);
    cr_text_add(file, "int %s_init(%s_context *c%s);\n", n, n, a->inline_weights ? "" : ", const char *weights_path");
    add_run_signature(file, a);
    cr_text_add(file,
                ";\n/* Where random numbers begin; the same seed gives the same runs. */\n"
                "void %s_seed(%s_context *c, uint64_t seed);\n"
                "/* What a run changes, by its name; NULL where there is no such thing. */\n"
                "void *%s_state(%s_context *c, const char *name);\n"
                "const char *%s_error(int error);\n#endif\n\n#ifndef %s_DECLARATIONS_ONLY\n",
                n, n, n, n, n, n);
}

/* ---------------------------------------------------------------- the words */
void cr_ahead_add_prelude(cr_text *file) {
    cr_text_add(
        file, "%s",
        "#include <math.h>\n#include <stdio.h>\n#include <string.h>\n\n"
        "#if defined(__GNUC__)\n#define ALIASING __attribute__((may_alias))\n#else\n#define ALIASING\n#endif\n"
        "typedef uint8_t u8;\ntypedef int8_t i8;\ntypedef int16_t i16 ALIASING;\ntypedef uint16_t u16 ALIASING;\n"
        "typedef int32_t i32 ALIASING;\ntypedef int64_t i64 ALIASING;\ntypedef float f32 ALIASING;\n"
        "typedef double f64 ALIASING;\n\n"
        "#if defined(__AVX512F__)\n#define VECTOR_BYTES 64\n#elif defined(__AVX__)\n#define VECTOR_BYTES 32\n"
        "#else\n#define VECTOR_BYTES 16\n#endif\n\n"
        "/* Products may use fused multiply-add; nothing else may, so that results do not depend on it. */\n"
        "#if defined(__clang__)\n#pragma STDC FP_CONTRACT OFF\n"
        "#define EACH_ALONE\n"
        "#define CONTRACT _Pragma(\"clang fp contract(fast)\")\n#define CONTRACTED\n"
        "#elif defined(__GNUC__)\n#define EACH_ALONE _Pragma(\"GCC ivdep\")\n#define CONTRACT\n"
        "#define CONTRACTED __attribute__((optimize(\"fp-contract=fast\")))\n"
        "#else\n#define EACH_ALONE\n#define CONTRACT\n#define CONTRACTED\n#define __attribute__(x)\n#endif\n\n");
}

/* ---------------------------------------------------------------- the public functions */
static void add_init(cr_text *file, const cr_ahead *a) {
    const cr_graph *graph = a->plan->graph;
    const char *n = a->name;
    cr_text_add(file,
                "int %s_init(%s_context *c%s) {\n    unsigned char *at = c->memory;\n"
                "    while ((uintptr_t)at %% %d)\n        at++;\n    memset(c, 0, offsetof(%s_context, memory));\n"
                "    c->arena = at;\n    c->scratch = at + %zu;\n    c->states = c->scratch + %zu;\n"
                "    c->gradients = c->states + %zu;\n",
                n, n, a->inline_weights ? "" : ", const char *weights_path", CR_AHEAD_ALIGNMENT, n, a->arena_bytes,
                a->scratch_bytes, a->changing_bytes);
    if (graph->gradient_count) cr_text_add(file, "    memset(c->gradients, 0, %zu);\n", cr_ahead_gradient_bytes(a));
    if (!a->inline_weights)
        cr_text_add(file,
                    "    if (!read_weights(weights_path)) return 3;\n    c->weights = weights.bytes;\n"
                    "    memcpy(c->states, weights.bytes + %zu, %zu);\n",
                    a->weight_bytes, a->changing_bytes);
    for (int i = 0; i < graph->state_count && a->inline_weights; i++) {
        const cr_state *state = &graph->states[i];
        if (state->update && a->plan->states[i] >= 0 && state->tensor->numel)
            cr_text_add(file, "    memcpy(c->states + %zu, weights_%d, sizeof weights_%d);\n", a->state_offsets[i], i,
                        i);
    }
    cr_text_add(file, "    c->status = 1;\n    return 0;\n}\n\n");
}

/* The weights of all contexts, read once. */
void cr_ahead_add_reader(cr_text *file, const cr_ahead *a) {
    const size_t bytes = a->weight_bytes + a->changing_bytes;
    cr_text_add(file,
                "static union {\n    double aligned;\n    unsigned char bytes[%zu];\n} weights;\n\n"
                "/* \"cresset weights\", how many bytes follow, their sum (FNV-1a), the bytes; numbers have the lowest "
                "byte first. */\n"
                "static int read_weights(const char *path) {\n    static int is_read;\n    static const unsigned char "
                "expected[32] = {",
                bytes ? bytes : 1);
    const uint64_t head[2] = {bytes, cr_ahead_weights_sum(a)};
    for (int i = 0; i < 16; i++)
        cr_text_add(file, "%d, ", "cresset weights\n"[i]);
    for (int i = 0; i < 16; i++)
        cr_text_add(file, i ? ", %u" : "%u", (unsigned)(head[i / 8] >> 8 * (i % 8) & 255));
    cr_text_add(
        file,
        "};\n    unsigned char head[32];\n    uint64_t sum = UINT64_C(14695981039346656037);\n"
        "    FILE *from = is_read || !path ? NULL : fopen(path, \"rb\");\n    if (!from) return is_read;\n"
        "    is_read = fread(head, 1, 32, from) == 32 && !memcmp(head, expected, 32) &&\n"
        "              fread(weights.bytes, 1, %zu, from) == %zu;\n    fclose(from);\n"
        "    for (size_t i = 0; i < %zu; i++)\n        sum = (sum ^ weights.bytes[i]) * UINT64_C(1099511628211);\n"
        "    return is_read = is_read && sum == UINT64_C(%llu);\n}\n\n",
        bytes, bytes, bytes, (unsigned long long)head[1]);
}

static void add_run(cr_text *file, const cr_ahead *a) {
    const cr_graph *graph = a->plan->graph;
    add_run_signature(file, a);
    cr_text_add(file, " {\n    if (c->status == 0) return 1;\n    c->status = 1;\n");
    for (int i = 0; i < graph->body.input_count; i++) {
        cr_text_add(file, "    c->inputs[%d] = (const unsigned char *)", i);
        add_parameter(file, graph->input_names, graph->body.input_count, i, "in");
        cr_text_add(file, ";\n");
    }
    for (int i = 0; i < graph->body.output_count; i++) {
        cr_text_add(file, "    c->results[%d] = (unsigned char *)", i);
        add_parameter(file, graph->output_names, graph->body.output_count, i, "out");
        cr_text_add(file, ";\n");
    }
    cr_text_add(file, "%s    return c->status == 1 ? 0 : c->status;\n}\n\n", a->run.at ? a->run.at : "");
}

static void add_name(cr_text *file, const char *name) {
    for (; *name; name++) {
        if (*name == '"' || *name == '\\' || *name == '?' || (unsigned char)*name < 32 || (unsigned char)*name > 126)
            cr_text_add(file, "\\%03o", (unsigned)(unsigned char)*name);
        else
            cr_text_add(file, "%c", *name);
    }
}

static void add_state(cr_text *file, const cr_ahead *a) {
    const cr_graph *graph = a->plan->graph;
    size_t at = 0;
    cr_text_add(
        file,
        "void *%s_state(%s_context *c, const char *name) {\n    (void)name;\n    if (c->status == 0) return NULL;\n",
        a->name, a->name);
    for (int i = 0; i < graph->state_count; i++) {
        if (!graph->states[i].update || a->plan->states[i] < 0) continue;
        cr_text_add(file, "    if (!strcmp(name, \"");
        add_name(file, graph->states[i].name);
        cr_text_add(file, "\")) return c->states + %zu;\n", a->state_offsets[i]);
    }
    for (int i = 0; i < graph->gradient_count; i++) {
        cr_text_add(file, "    if (!strcmp(name, \"");
        add_name(file, graph->states[graph->gradients[i].state].name);
        cr_text_add(file, ".gradient\")) return c->gradients + %zu;\n", at);
        at += cr_ahead_value_bytes(graph->gradients[i].value);
    }
    cr_text_add(file, "    return NULL;\n}\n\n");
}

void cr_ahead_add_functions(cr_text *file, const cr_ahead *a) {
    const char *n = a->name;
    add_init(file, a);
    add_run(file, a);
    add_state(file, a);
    cr_text_add(file,
                "void %s_seed(%s_context *c, uint64_t seed) {\n    c->seed = seed;\n    c->drawn = 0;\n}\n\n"
                "const char *%s_error(int error) {\n    switch (error) {\n    case 0: return \"no error\";\n"
                "    case 1: return \"the context is not initialised\";\n"
                "    case 2: return \"an index or a probability is out of range\";\n"
                "    case 3: return \"the weights cannot be read, or are those of another program\";\n"
                "    default: return \"unknown\";\n    }\n}\n#endif\n",
                n, n, n);
}
