/* Reads the text form. Whatever the text says, the graph that comes out has passed the verifier. */
#include "jit/graph.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NESTING_LIMIT = 64, LINE_LIMIT = 1 << 16 };

typedef struct reader {
    const char *begin, *at, *end;
    int line;
    char *text;    /* the present line, without its end */
    const char *c; /* in it */
    cr_graph *graph;
    cr_value **values; /* by id */
    int value_count, value_capacity;
    int depth;
} reader;

static bool fail(reader *r, const char *what) {
    if (!cr_ok()) return false;
    return cr_fail(CR_ERROR_FORMAT, "jit_parse: line %d: %s at \"%.40s\"", r->line, what, r->c ? r->c : "");
}

/* The same where a pointer is returned. */
static void *fail_null(reader *r, const char *what) {
    fail(r, what);
    return NULL;
}

/* The next line that says something; false at the end. */
static bool next_line(reader *r) {
    while (r->at < r->end) {
        const char *stop = memchr(r->at, '\n', (size_t)(r->end - r->at));
        size_t length = (size_t)((stop ? stop : r->end) - r->at);
        if (length >= LINE_LIMIT) length = LINE_LIMIT - 1;
        memcpy(r->text, r->at, length);
        r->text[length] = '\0';
        r->at = stop ? stop + 1 : r->end;
        r->line++;
        r->c = r->text;
        while (*r->c == ' ')
            r->c++;
        if (*r->c && *r->c != '#') return true;
    }
    r->c = "";
    return false;
}

static void skip_spaces(reader *r) {
    while (*r->c == ' ')
        r->c++;
}
static bool take(reader *r, const char *word) {
    const size_t length = strlen(word);
    if (strncmp(r->c, word, length) != 0) return false;
    r->c += length;
    skip_spaces(r);
    return true;
}
static bool expect(reader *r, const char *word) { return take(r, word) || fail(r, "unexpected text"); }

static bool read_word(reader *r, char *word, size_t size) {
    size_t length = 0;
    while ((isalnum((unsigned char)*r->c) || *r->c == '_') && length + 1 < size)
        word[length++] = *r->c++;
    word[length] = '\0';
    return length > 0 || fail(r, "a name is missing");
}

static const char *read_name(reader *r) {
    char *name = cr_pool_allocate(&r->graph->pool, strlen(r->c) + 1);
    if (!name || *r->c++ != '"') return fail_null(r, "a name in quotes is missing");
    size_t length = 0;
    while (*r->c && *r->c != '"') {
        if (*r->c == '\\' && r->c[1]) r->c++;
        name[length++] = *r->c++;
    }
    return expect(r, "\"") ? name : NULL;
}

/* ---------------------------------------------------------------- values */
static bool read_id(reader *r, int *id) {
    char *end;
    if (*r->c != '%' || !isdigit((unsigned char)r->c[1])) return fail(r, "a value is missing");
    const long number = strtol(r->c + 1, &end, 10);
    if (number < 0 || number >= r->end - r->begin)
        return fail(r, "a value's number is higher than the text has values");
    *id = (int)number;
    r->c = end;
    skip_spaces(r);
    return true;
}

static bool define(reader *r, int id, cr_value *value) {
    if (id >= r->value_capacity) {
        const int capacity = id < 64 ? 128 : 2 * id;
        cr_value **grown = cr_realloc(r->values, (size_t)capacity * sizeof *grown);
        if (!grown) return false;
        memset(grown + r->value_capacity, 0, (size_t)(capacity - r->value_capacity) * sizeof *grown);
        r->values = grown;
        r->value_capacity = capacity;
    }
    if (r->values[id]) return fail(r, "a value is defined twice");
    r->values[id] = value;
    return true;
}

static cr_value *used(reader *r) {
    int id;
    if (!read_id(r, &id)) return NULL;
    if (id >= r->value_capacity || !r->values[id]) return fail_null(r, "a value is used before it is defined");
    return r->values[id];
}

static bool read_size(reader *r, cr_value *value, cr_extent *extents) {
    if (value->shape.count == CR_MAX_DIMS) return fail(r, "more than 8 dims");
    cr_extent *extent = &extents[value->shape.count];
    const char *rest = cr_extent_parse(r->c, r->graph, extent);
    int64_t size;
    if (!rest) return fail(r, "cannot read a size");
    if (!cr_extent_evaluate(extent, r->graph->symbols, &size)) return false;
    if (size < 0) return fail(r, "a negative size");
    value->shape.at[value->shape.count++] = size;
    r->c = rest;
    return true;
}

static bool read_device(reader *r, cr_value *value) {
    char name[16];
    if (!take(r, "@")) return true;
    size_t length = 0;
    while (*r->c && !strchr(" ,)", *r->c) && length + 1 < sizeof name)
        name[length++] = *r->c++;
    name[length] = '\0';
    skip_spaces(r);
    return cr_device_parse(name, &value->device);
}

/* "%3 f32[2,batch]@cuda:0" */
static cr_value *read_typed(reader *r) {
    char word[32];
    int id;
    cr_extent extents[CR_MAX_DIMS] = {{0}};
    const cr_shape none = CR_SHAPE_0D;
    if (!read_id(r, &id) || !read_word(r, word, sizeof word)) return NULL;
    cr_value *value = cr_graph_value(r->graph, CR_F32, &none, CR_CPU);
    if (!value) return NULL;
    if (!cr_dtype_parse(word, &value->dtype)) return fail_null(r, "not a dtype");
    if (!expect(r, "[")) return NULL;
    while (*r->c != ']')
        if (!read_size(r, value, extents) || (*r->c != ']' && !expect(r, ","))) return NULL;
    r->c++;
    int64_t numel;
    if (!cr_shape_numel(value->shape, &numel)) return NULL;
    bool symbolic = false;
    for (int d = 0; d < value->shape.count; d++)
        symbolic |= extents[d].symbol_count > 0;
    if (symbolic) {
        if (!(value->extents = cr_pool_allocate(&r->graph->pool, sizeof extents))) return NULL;
        memcpy(value->extents, extents, (size_t)value->shape.count * sizeof extents[0]);
    }
    skip_spaces(r);
    if (*r->c == '@' && !read_device(r, value)) return NULL;
    skip_spaces(r);
    return define(r, id, value) ? value : NULL;
}

/* ---------------------------------------------------------------- nodes */
static int attribute_index(const cr_op *op, const char *name) {
    for (int i = 0; i < op->attribute_count; i++)
        if (!strcmp(op->attributes[i].name, name)) return i;
    return -1;
}

/* "shape.0=2*batch", until the line or its comment ends. */
static bool read_bound(reader *r, cr_graph_node *node) {
    while (*r->c && *r->c != ';') {
        char name[64];
        cr_bound_attribute bound;
        if (!read_word(r, name, sizeof name) || !expect(r, ".")) return false;
        bound.attribute = attribute_index(node->op, name);
        bound.element = (int)strtol(r->c, (char **)(uintptr_t)&r->c, 10);
        if (bound.attribute < 0 || !expect(r, "=")) return fail(r, "no such attribute");
        const char *rest = cr_extent_parse(r->c, r->graph, &bound.extent);
        if (!rest) return fail(r, "cannot read a size");
        r->c = rest;
        skip_spaces(r);
        const cr_attribute *attribute = &node->op->attributes[bound.attribute];
        const cr_dims *dims = (const void *)((const char *)node->attributes + attribute->offset);
        const int elements = attribute->kind == CR_ATTRIBUTE_DIMS
                                 ? dims->count
                                 : attribute->kind == CR_ATTRIBUTE_INT || attribute->kind == CR_ATTRIBUTE_FLOAT;
        if (bound.element < 0 || bound.element >= elements) return fail(r, "no such element of the attribute");
        cr_bound_attribute *grown = cr_pool_grow(&r->graph->pool, node->bound, node->bound_count, sizeof *grown);
        if (!grown) return false;
        node->bound = grown;
        grown[node->bound_count++] = bound;
    }
    return true;
}

/* Where the attributes end: at " where ", " ; " or the end; quotes are stepped over. */
static const char *end_of_attributes(const char *c) {
    bool quoted = false;
    for (; *c; c++) {
        quoted ^= *c == '\'';
        if (!quoted && (*c == ';' || !strncmp(c, "where ", 6))) return c;
    }
    return c;
}

static bool read_attributes(reader *r, cr_graph_node *node) {
    char *text = (char *)(uintptr_t)r->c, *stop = (char *)(uintptr_t)end_of_attributes(r->c);
    const char kept = *stop;
    *stop = '\0'; /* the line is ours to cut */
    const bool done = cr_attributes_parse(node->op, text, node->attributes);
    *stop = kept;
    r->c = stop;
    if (!done) return false;
    if (take(r, "where ") && !read_bound(r, node)) return false;
    if (take(r, ";")) {
        node->source = cr_graph_text_copy(r->graph, r->c);
        return node->source != NULL;
    }
    return *r->c == '\0' || fail(r, "unexpected text");
}

static bool read_outputs(reader *r, cr_value **outputs, int *count) {
    for (*count = 0; *r->c == '%' || *r->c == '-';) {
        if (*count == CR_MAX_INPUTS) return fail(r, "too many results");
        outputs[*count] = NULL;
        if (!take(r, "-") && !(outputs[*count] = read_typed(r))) return false;
        ++*count;
        if (!take(r, ",")) return expect(r, "=");
    }
    return true;
}

static bool read_inputs(reader *r, cr_value **inputs, int *count) {
    if (!expect(r, "(")) return false;
    for (*count = 0; *r->c != ')';) {
        if (*count == CR_MAX_INPUTS) return fail(r, "too many operands");
        inputs[*count] = NULL;
        if (!take(r, "-") && !(inputs[*count] = used(r))) return false;
        ++*count;
        if (*r->c != ')' && !expect(r, ",")) return false;
    }
    return expect(r, ")");
}

static bool read_node(reader *r, cr_block *block) {
    cr_value *outputs[CR_MAX_INPUTS], *inputs[CR_MAX_INPUTS];
    int output_count, input_count;
    char name[64];
    if (!read_outputs(r, outputs, &output_count) || !read_word(r, name, sizeof name)) return false;
    const cr_op *op = cr_op_find(name);
    if (op && op->program_at) r->graph->is_for_reading = true;
    if (!op)
        return cr_fail(CR_ERROR_UNSUPPORTED, "jit_parse: line %d: there is no op \"%s\" in this build", r->line, name);
    if (!read_inputs(r, inputs, &input_count)) return false;
    cr_graph_node *node = cr_graph_add(r->graph, block, NULL, op, NULL, inputs, input_count, output_count);
    if (!node) return false;
    for (int i = 0; i < output_count; i++)
        cr_graph_set_output(node, i, outputs[i]);
    return read_attributes(r, node);
}

static bool read_block(reader *r, cr_block *block);

static bool read_inner(reader *r, cr_block *block) {
    cr_graph_node *node = block->last;
    if (!node) return fail(r, "a block without a node before it");
    if (r->depth == NESTING_LIMIT) return fail(r, "blocks are nested too deep");
    cr_block *inner = cr_graph_new_block(r->graph);
    cr_block **grown = cr_pool_grow(&r->graph->pool, node->blocks, node->block_count, sizeof *grown);
    if (!inner || !grown) return false;
    node->blocks = grown;
    grown[node->block_count++] = inner;
    r->depth++;
    const bool done = read_block(r, inner);
    r->depth--;
    return done;
}

static bool name_last(reader *r, const char ***names, int count) {
    const char **grown = cr_pool_grow(&r->graph->pool, *names, count - 1, sizeof *grown);
    if (!grown) return false;
    *names = grown;
    return *r->c != '"' || (grown[count - 1] = read_name(r)) != NULL;
}

/* The state that "%3" is. */
static int read_state_id(reader *r) {
    const cr_value *value = used(r);
    for (int i = 0; value && i < r->graph->state_count; i++)
        if (r->graph->states[i].value == value) return i;
    fail(r, "this is no state");
    return -1;
}

/* "gradient %9 of %3", "gradient %9 added to %3" */
static bool read_gradient(reader *r) {
    cr_value *value = used(r);
    const bool adds = value && take(r, "added to ");
    if (!value || (!adds && !expect(r, "of "))) return false;
    const int state = read_state_id(r);
    return state >= 0 && cr_graph_add_gradient(r->graph, state, value, adds);
}

static bool read_line(reader *r, cr_block *block) {
    cr_graph *graph = r->graph;
    const bool outer = block == &graph->body;
    if (outer && take(r, "gradient ")) return read_gradient(r);
    if (take(r, "input ")) {
        cr_value *value = read_typed(r);
        return value && cr_block_add_input(graph, block, value) &&
               (!outer || name_last(r, &graph->input_names, block->input_count));
    }
    if (take(r, "output ")) {
        cr_value *value = used(r);
        return value && cr_block_add_output(graph, block, value) &&
               (!outer || name_last(r, &graph->output_names, block->output_count));
    }
    if (take(r, "{")) return read_inner(r, block);
    return read_node(r, block);
}

static bool read_block(reader *r, cr_block *block) {
    while (next_line(r)) {
        if (r->depth && take(r, "}")) return true;
        if (!read_line(r, block)) return false;
    }
    return r->depth == 0 || fail(r, "a block does not end");
}

/* ---------------------------------------------------------------- the head */
static bool read_symbol(reader *r) {
    char name[33];
    if (r->graph->symbol_count == CR_GRAPH_SYMBOLS) return fail(r, "too many symbols");
    if (!read_word(r, name, sizeof name)) return false;
    skip_spaces(r);
    if (!expect(r, "=")) return false;
    cr_symbol *symbol = &r->graph->symbols[r->graph->symbol_count];
    symbol->value = strtoll(r->c, NULL, 10);
    symbol->name = cr_graph_text_copy(r->graph, name);
    if (symbol->value < 0 || isdigit((unsigned char)name[0])) return fail(r, "not a symbol");
    r->graph->symbol_count++;
    return symbol->name != NULL;
}

static bool read_state(reader *r, cr_state_kind kind, int *updates) {
    cr_value *value = read_typed(r);
    const char *name = value ? read_name(r) : NULL;
    cr_state *state = name ? cr_graph_add_state(r->graph, kind, name, value, NULL) : NULL;
    if (!state) return false;
    if (take(r, "-> ") && !read_id(r, &updates[r->graph->state_count - 1])) return false;
    if (take(r, "gradient of ")) { /* a state that stands before this one */
        const int index = r->graph->state_count - 1, of = read_state_id(r);
        r->graph->states[index].gradient_of = of;
        return of >= 0;
    }
    return true;
}

static bool read_version(reader *r) {
    const bool is_there = next_line(r);
    if (is_there && !strcmp(r->c, "cresset graph 1")) return true;
    int version = 0;
    if (is_there && sscanf(r->c, "cresset graph %5d", &version) == 1 && version > 1)
        return cr_fail(CR_ERROR_UNSUPPORTED,
                       "jit_parse: a graph of version %d; Cresset %d.%d reads version 1: a newer Cresset wrote it",
                       version, CR_VERSION_MAJOR, CR_VERSION_MINOR);
    return cr_fail(CR_ERROR_FORMAT, "jit_parse: this is not a graph of version 1: \"%.40s\"", is_there ? r->c : "");
}

/* Lines before the first input or node. `updates` holds the ids that states end in, -1: none. */
static bool read_head(reader *r, int **updates) {
    if (!read_version(r)) return false;
    for (;;) {
        const reader before = *r;
        if (!next_line(r)) return true;
        static const char *const kinds[] = {"parameter ", "buffer ", "constant "};
        int kind = 0;
        while (kind < 3 && !take(r, kinds[kind]))
            kind++;
        if (kind < 3) {
            int *grown = cr_pool_grow(&r->graph->pool, *updates, r->graph->state_count, sizeof *grown);
            if (!grown) return false;
            *updates = grown;
            grown[r->graph->state_count] = -1;
            if (!read_state(r, (cr_state_kind)kind, grown)) return false;
        } else if (take(r, "symbol ")) {
            if (!read_symbol(r)) return false;
        } else {
            r->at = before.at; /* not ours: read again as a part of the body */
            r->line = before.line;
            return true;
        }
    }
}

static bool read_graph(reader *r) {
    int *updates = NULL;
    if (!read_head(r, &updates) || !read_block(r, &r->graph->body)) return false;
    for (int i = 0; i < r->graph->state_count; i++) {
        if (updates[i] < 0) continue;
        if (updates[i] >= r->value_capacity || !r->values[updates[i]])
            return fail(r, "a state ends in a value that is not defined");
        r->graph->states[i].update = r->values[updates[i]];
    }
    return cr_graph_verify(r->graph);
}

cr_graph *cr_graph_parse(const char *text, size_t length) {
    reader r = {
        .begin = text, .at = text, .end = text + length, .text = cr_malloc(LINE_LIMIT), .graph = cr_graph_new()};
    const bool done = r.text && r.graph && read_graph(&r);
    cr_free(r.text);
    cr_free(r.values);
    if (done) return r.graph;
    cr_jit_free(r.graph);
    return NULL;
}

cr_graph *cr_jit_parse(const char *text) {
    if (!text) {
        cr_record_error(CR_ERROR_ARGUMENT, "jit_parse: NULL text");
        return NULL;
    }
    return cr_graph_parse(text, strlen(text));
}
