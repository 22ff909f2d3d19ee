/* Linking: names of values become numbers, operators rows of the table, functions their bodies; whatever is wrong with a
 * file's graph is found here, before anything runs. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/custom.h"

#include "core/text.h"

#include <string.h>

enum { MOST_CALLS = 32 /* of functions in functions */, MOST_NODES = 4000000, MOST_MISSING = 64 };

/* ---------------------------------------------------------------- names */
typedef struct name_entry {
    const char *name;
    int value;
} name_entry;

/* The names of a graph; what it does not have is looked for in the graph around it. */
typedef struct scope {
    const struct scope *outer;
    name_entry *entries; /* by hash; a power of two */
    int count, capacity;
} scope;

typedef struct missing_operator {
    const char *name, *domain;
    int count, opset;
} missing_operator;

typedef struct linker {
    cr_onnx_program *program;
    int calls, nodes;
    int initial_capacity;
    missing_operator missing[MOST_MISSING];
    int missing_count;
} linker;

static uint32_t hash_text(const char *text) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 16777619u;
    return hash;
}

static name_entry *find_entry(const scope *s, const char *name) {
    uint32_t at = hash_text(name) & (uint32_t)(s->capacity - 1);
    while (s->entries[at].name && strcmp(s->entries[at].name, name) != 0)
        at = (at + 1) & (uint32_t)(s->capacity - 1);
    return &s->entries[at];
}

static bool grow_scope(cr_pool *pool, scope *s) {
    if (2 * s->count < s->capacity) return true;
    const scope old = *s;
    s->capacity = old.capacity ? 2 * old.capacity : 32;
    if (!(s->entries = cr_pool_allocate(pool, (size_t)s->capacity * sizeof *s->entries))) return false;
    for (int i = 0; i < old.capacity; i++)
        if (old.entries[i].name) *find_entry(s, old.entries[i].name) = old.entries[i];
    return true;
}

static bool declare(linker *l, scope *s, const char *name, int *value) {
    if (!grow_scope(&l->program->pool, s)) return false;
    name_entry *entry = find_entry(s, name);
    if (entry->name) return cr_fail(CR_ERROR_FORMAT, "onnx: the value \"%.200s\" is given twice", name);
    *entry = (name_entry){name, l->program->value_count++};
    s->count++;
    *value = entry->value;
    return true;
}

static int find_value(const scope *s, const char *name) {
    for (; s; s = s->outer)
        if (s->capacity && find_entry(s, name)->name) return find_entry(s, name)->value;
    return -1;
}

/* ---------------------------------------------------------------- initialisers */
static cr_tensor *dense_of(cr_onnx_file *file, const CrOnnx__SparseTensorProto *proto);

static bool add_initial(linker *l, int value, const char *name, cr_tensor *tensor) {
    cr_onnx_program *p = l->program;
    if (!tensor) return false;
    if (p->initial_count == l->initial_capacity) {
        const int capacity = l->initial_capacity ? 2 * l->initial_capacity : 64;
        cr_onnx_initial *grown = cr_realloc(p->initials, (size_t)capacity * sizeof *grown);
        if (!grown) return false;
        p->initials = grown;
        l->initial_capacity = capacity;
    }
    const bool may_learn = cr_dtype_is_floating(cr_dtype_of(tensor)) && cr_ndim(tensor) > 0;
    p->initials[p->initial_count++] = (cr_onnx_initial){value, name, cr_retain(tensor), may_learn, false};
    cr_discard(tensor);
    return true;
}

static bool link_initialisers(linker *l, scope *s, const CrOnnx__GraphProto *graph) {
    for (size_t i = 0; i < graph->n_initializer; i++) {
        const char *name = graph->initializer[i]->name;
        int value;
        if (!name || !*name) return cr_fail(CR_ERROR_FORMAT, "onnx: an initialiser without a name");
        if (!declare(l, s, name, &value) ||
            !add_initial(l, value, name, cr_onnx_tensor(l->program->file, graph->initializer[i])))
            return false;
    }
    for (size_t i = 0; i < graph->n_sparse_initializer; i++) {
        const CrOnnx__SparseTensorProto *sparse = graph->sparse_initializer[i];
        int value;
        if (!sparse->values || !sparse->values->name || !sparse->indices)
            return cr_fail(CR_ERROR_FORMAT, "onnx: a sparse initialiser without values, indices or name");
        if (!declare(l, s, sparse->values->name, &value) ||
            !add_initial(l, value, sparse->values->name, dense_of(l->program->file, sparse)))
            return false;
    }
    return true;
}

/* Indices are positions in the flattened tensor [n], or in each dim [n, dims]. */
static cr_tensor *dense_of(cr_onnx_file *file, const CrOnnx__SparseTensorProto *proto) {
    cr_tensor *values = cr_onnx_tensor(file, proto->values), *indices = cr_onnx_tensor(file, proto->indices);
    cr_shape shape = {(int)proto->n_dims, {0}};
    int64_t numel = 0;
    if (!values || !indices || proto->n_dims > CR_MAX_DIMS || cr_dtype_of(indices) != CR_I64) {
        if (cr_ok())
            cr_record_error(CR_ERROR_FORMAT, "onnx: a sparse tensor whose indices are not i64, or with too many dims");
        return NULL;
    }
    memcpy(shape.at, proto->dims, proto->n_dims * sizeof(int64_t));
    if (!cr_shape_numel(shape, &numel)) return NULL;
    if (cr_ndim(indices) == 2) {
        cr_shape steps = {shape.count, {0}};
        int64_t step = 1;
        for (int d = shape.count - 1; d >= 0; step *= shape.at[d--])
            steps.at[d] = step;
        cr_tensor *row = cr_from_data(CR_I64, CR_SHAPE(shape.count), steps.at);
        indices = cr_sum(cr_mul(indices, row), .dims = CR_DIMS(1));
    }
    return cr_reshape(cr_scatter(cr_zeros(cr_dtype_of(values), CR_SHAPE(numel), CR_CPU), 0, indices, values), shape);
}

/* ---------------------------------------------------------------- nodes */
static int opset_of(size_t count, CrOnnx__OperatorSetIdProto *const *imports, const char *domain) {
    const bool is_main = !domain || !*domain || !strcmp(domain, "ai.onnx");
    for (size_t i = 0; i < count; i++) {
        const char *own = imports[i]->domain;
        const bool own_main = !own || !*own || !strcmp(own, "ai.onnx");
        if (is_main ? own_main : own && !strcmp(own, domain))
            return imports[i]->version > 1000 ? 1000 : (int)imports[i]->version;
    }
    return is_main ? 1 : 0;
}

static const CrOnnx__FunctionProto *find_function(const linker *l, const CrOnnx__NodeProto *proto) {
    const CrOnnx__ModelProto *model = l->program->file->model;
    const char *domain = proto->domain ? proto->domain : "";
    for (size_t i = 0; i < model->n_functions; i++) {
        const CrOnnx__FunctionProto *f = model->functions[i];
        if (f->name && !strcmp(f->name, proto->op_type) && !strcmp(f->domain ? f->domain : "", domain)) return f;
    }
    return NULL;
}

static bool note_missing(linker *l, const char *domain, const char *name, int opset) {
    for (int i = 0; i < l->missing_count; i++)
        if (!strcmp(l->missing[i].name, name) && !strcmp(l->missing[i].domain, domain))
            return l->missing[i].count++, true;
    if (l->missing_count < MOST_MISSING) l->missing[l->missing_count++] = (missing_operator){name, domain, 1, opset};
    return true;
}

static bool report_missing(const linker *l) {
    cr_text text = {0};
    for (int i = 0; i < l->missing_count; i++) {
        const missing_operator *m = &l->missing[i];
        cr_text_add(&text, "%s%s%s%s (opset %d, %d node%s)", i ? ", " : "", m->domain, *m->domain ? "." : "", m->name,
                    m->opset, m->count, m->count == 1 ? "" : "s");
    }
    char *list = cr_text_end(&text);
    if (list)
        cr_record_error(CR_ERROR_UNSUPPORTED,
                        "onnx: the model uses operators that Cresset does not read: %s. docs/onnx.md "
                        "lists those that it does",
                        list);
    cr_free(list);
    return false;
}

typedef struct context { /* what nodes stand in */
    scope *names;
    size_t import_count;
    CrOnnx__OperatorSetIdProto *const *imports;
    const cr_onnx_node *caller;
} context;

static bool link_graph(linker *l, const context *around, const CrOnnx__GraphProto *graph, cr_onnx_block *block);
static bool link_function(linker *l, const CrOnnx__FunctionProto *function, cr_onnx_node *node);

static bool link_operands(linker *l, const context *c, cr_onnx_node *node) {
    const CrOnnx__NodeProto *proto = node->proto;
    if (proto->n_input > CR_ONNX_MOST_OPERANDS || proto->n_output > CR_ONNX_MOST_OPERANDS)
        return cr_fail(CR_ERROR_UNSUPPORTED, "onnx: %s has %zu operands and %zu results; at most %d", node->label,
                       proto->n_input, proto->n_output, CR_ONNX_MOST_OPERANDS);
    node->inputs = cr_pool_allocate(&l->program->pool, (proto->n_input + proto->n_output + 1) * sizeof *node->inputs);
    if (!node->inputs) return false;
    node->input_count = (int)proto->n_input;
    for (size_t i = 0; i < proto->n_input; i++) {
        node->inputs[i] = *proto->input[i] ? find_value(c->names, proto->input[i]) : -1;
        if (*proto->input[i] && node->inputs[i] < 0)
            return cr_fail(
                CR_ERROR_FORMAT,
                "onnx: %s reads \"%.200s\", which nothing before it gives (nodes out of order, a cycle, or a "
                "part that is missing)",
                node->label, proto->input[i]);
    }
    return true;
}

static bool link_outputs(linker *l, const context *c, cr_onnx_node *node) {
    const CrOnnx__NodeProto *proto = node->proto;
    node->outputs = node->inputs + node->input_count;
    node->output_count = (int)proto->n_output;
    for (size_t i = 0; i < proto->n_output; i++) {
        node->outputs[i] = -1;
        if (*proto->output[i] && !declare(l, c->names, proto->output[i], &node->outputs[i])) return false;
    }
    return true;
}

static bool link_blocks(linker *l, const context *c, cr_onnx_node *node) {
    for (size_t i = 0; i < node->proto->n_attribute; i++) {
        const CrOnnx__AttributeProto *attribute = node->proto->attribute[i];
        if (!attribute->g) continue;
        if (node->block_count == CR_ONNX_MOST_BLOCKS)
            return cr_fail(CR_ERROR_UNSUPPORTED, "onnx: %s has more than %d graphs", node->label, CR_ONNX_MOST_BLOCKS);
        cr_onnx_block *block = cr_pool_allocate(&l->program->pool, sizeof *block);
        if (!block) return false;
        node->block_names[node->block_count] = attribute->name ? attribute->name : "";
        node->blocks[node->block_count++] = block;
        if (!link_graph(l, c, attribute->g, block)) return false;
    }
    return true;
}

static const char *label_of(linker *l, const CrOnnx__NodeProto *proto) {
    char text[256];
    if (proto->name && *proto->name)
        snprintf(text, sizeof text, "%.80s \"%.140s\"", proto->op_type, proto->name);
    else
        snprintf(text, sizeof text, "%.80s", proto->op_type);
    const size_t bytes = strlen(text) + 1;
    char *copy = cr_pool_allocate(&l->program->pool, bytes);
    return copy ? memcpy(copy, text, bytes) : NULL;
}

static bool link_node(linker *l, const context *c, const CrOnnx__NodeProto *proto, cr_onnx_node *node) {
    if (!proto->op_type || !*proto->op_type) return cr_fail(CR_ERROR_FORMAT, "onnx: a node without an operator");
    if (++l->nodes > MOST_NODES) return cr_fail(CR_ERROR_UNSUPPORTED, "onnx: more than %d nodes", MOST_NODES);
    const bool is_main = !proto->domain || !*proto->domain || !strcmp(proto->domain, "ai.onnx");
    const char *domain = is_main ? "" : proto->domain;
    node->proto = proto;
    node->caller = c->caller;
    node->opset = opset_of(c->import_count, c->imports, proto->domain);
    if (!(node->label = label_of(l, proto)) || !link_operands(l, c, node) || !link_blocks(l, c, node)) return false;
    const CrOnnx__FunctionProto *function = find_function(l, proto);
    node->row = function ? NULL : cr_onnx_row_named(domain, proto->op_type);
    node->pair = function || node->row || !is_main ? NULL : cr_onnx_pair_named(proto->op_type);
    node->custom = function || node->row || node->pair ? NULL : cr_onnx_custom_named(domain, proto->op_type);
    if (function ? !link_function(l, function, node)
                 : !node->row && !node->pair && !node->custom && !note_missing(l, domain, proto->op_type, node->opset))
        return false;
    return link_outputs(l, c, node);
}

static bool link_nodes(linker *l, const context *c, size_t count, CrOnnx__NodeProto *const *protos,
                       cr_onnx_block *block) {
    block->nodes = cr_pool_allocate(&l->program->pool, (count + 1) * sizeof *block->nodes);
    for (size_t i = 0; block->nodes && i < count; i++, block->node_count++)
        if (!link_node(l, c, protos[i], &block->nodes[i])) return false;
    return block->nodes != NULL;
}

/* ---------------------------------------------------------------- graphs and functions */
static bool is_given(const scope *s, const char *name) { return s->capacity && find_entry(s, name)->name; }

/* Inputs that also have an initialiser are constants. */
static bool link_inputs(linker *l, scope *s, const CrOnnx__GraphProto *graph, cr_onnx_block *block, bool is_main) {
    cr_pool *pool = &l->program->pool;
    block->inputs = cr_pool_allocate(pool, (graph->n_input + 1) * sizeof *block->inputs);
    if (is_main) l->program->inputs = cr_pool_allocate(pool, (graph->n_input + 1) * sizeof *l->program->inputs);
    if (!block->inputs || (is_main && !l->program->inputs)) return false;
    for (size_t i = 0; i < graph->n_input; i++) {
        const char *name = graph->input[i]->name;
        if (!name || !*name) return cr_fail(CR_ERROR_FORMAT, "onnx: an input without a name");
        if (is_main && is_given(s, name)) continue;
        if (is_main) l->program->inputs[block->input_count] = graph->input[i];
        if (!declare(l, s, name, &block->inputs[block->input_count++])) return false;
    }
    return true;
}

static bool link_results(linker *l, const scope *s, size_t count, const char *(*name_at)(const void *, size_t),
                         const void *from, cr_onnx_block *block) {
    block->outputs = cr_pool_allocate(&l->program->pool, (count + 1) * sizeof *block->outputs);
    if (!block->outputs) return false;
    for (size_t i = 0; i < count; i++) {
        const char *name = name_at(from, i);
        const int value = name && *name ? find_value(s, name) : -1;
        if (value < 0) return cr_fail(CR_ERROR_FORMAT, "onnx: nothing gives the output \"%.200s\"", name ? name : "");
        block->outputs[block->output_count++] = value;
    }
    return true;
}

static const char *graph_output(const void *graph, size_t i) {
    return ((const CrOnnx__GraphProto *)graph)->output[i]->name;
}
static const char *function_output(const void *f, size_t i) { return ((const CrOnnx__FunctionProto *)f)->output[i]; }

static bool link_graph(linker *l, const context *around, const CrOnnx__GraphProto *graph, cr_onnx_block *block) {
    const bool is_main = block == &l->program->main;
    scope names = {.outer = around->names};
    context inner = *around;
    inner.names = &names;
    block->first_value = l->program->value_count;
    const bool linked = link_initialisers(l, &names, graph) && link_inputs(l, &names, graph, block, is_main) &&
                        link_nodes(l, &inner, graph->n_node, graph->node, block) &&
                        link_results(l, &names, graph->n_output, graph_output, graph, block);
    block->last_value = l->program->value_count;
    return linked;
}

static bool link_function(linker *l, const CrOnnx__FunctionProto *function, cr_onnx_node *node) {
    scope names = {0};
    const context inner = {&names, function->n_opset_import, function->opset_import, node};
    cr_onnx_block *body = node->body = cr_pool_allocate(&l->program->pool, sizeof *body);
    if (!body || !(body->inputs = cr_pool_allocate(&l->program->pool, (function->n_input + 1) * sizeof *body->inputs)))
        return false;
    if (++l->calls > MOST_CALLS)
        return cr_fail(CR_ERROR_FORMAT, "onnx: the function %.100s calls itself, or is nested more than %d deep",
                       function->name, MOST_CALLS);
    body->first_value = l->program->value_count;
    for (size_t i = 0; i < function->n_input; i++)
        if (!declare(l, &names, function->input[i], &body->inputs[body->input_count++])) return false;
    const bool linked = link_nodes(l, &inner, function->n_node, function->node, body) &&
                        link_results(l, &names, function->n_output, function_output, function, body);
    body->last_value = l->program->value_count;
    l->calls--;
    return linked;
}

/* ---------------------------------------------------------------- the program */
static void note_use(cr_onnx_program *p, int value, int node) {
    if (value >= 0 && p->last_uses[value] >= -1) p->last_uses[value] = node;
}

static void note_uses_inside(cr_onnx_program *p, const cr_onnx_block *block, int node) {
    for (int i = 0; i < block->node_count; i++) {
        const cr_onnx_node *n = &block->nodes[i];
        for (int k = 0; k < n->input_count; k++)
            note_use(p, n->inputs[k], node);
        for (int b = 0; b < n->block_count; b++)
            note_uses_inside(p, n->blocks[b], node);
        if (n->body) note_uses_inside(p, n->body, node);
    }
    for (int i = 0; i < block->output_count; i++)
        note_use(p, block->outputs[i], node);
}

static bool find_last_uses(cr_onnx_program *p) {
    const size_t bytes = ((size_t)p->value_count + 1) * sizeof(int);
    p->last_uses = cr_pool_allocate(&p->pool, bytes);
    p->initial_of = cr_pool_allocate(&p->pool, bytes);
    p->producers = cr_pool_allocate(&p->pool, ((size_t)p->value_count + 1) * sizeof *p->producers);
    if (!p->last_uses || !p->initial_of || !p->producers) return false;
    for (int i = 0; i < p->value_count; i++)
        p->last_uses[i] = p->initial_of[i] = -1;
    for (int i = 0; i < p->initial_count; i++)
        p->initial_of[p->initials[i].value] = i;
    for (int i = 0; i < p->main.node_count; i++) {
        const cr_onnx_node *n = &p->main.nodes[i];
        for (int k = 0; k < n->input_count; k++)
            note_use(p, n->inputs[k], i);
        for (int b = 0; b < n->block_count; b++)
            note_uses_inside(p, n->blocks[b], i);
        for (int k = 0; k < n->output_count; k++)
            if (n->outputs[k] >= 0) p->producers[n->outputs[k]] = n;
    }
    for (int i = 0; i < p->main.output_count; i++)
        p->last_uses[p->main.outputs[i]] = -2; /* to the end */
    return true;
}

/* Running statistics are no parameters. */
static void find_statistics(cr_onnx_program *p, const cr_onnx_block *block) {
    for (int i = 0; i < block->node_count; i++) {
        const cr_onnx_node *n = &block->nodes[i];
        for (int k = 3; k < n->input_count && !strcmp(n->proto->op_type, "BatchNormalization"); k++)
            if (n->inputs[k] >= 0 && p->initial_of[n->inputs[k]] >= 0) {
                p->initials[p->initial_of[n->inputs[k]]].is_parameter = false;
                p->initials[p->initial_of[n->inputs[k]]].is_statistic = true;
            }
        for (int b = 0; b < n->block_count; b++)
            find_statistics(p, n->blocks[b]);
        if (n->body) find_statistics(p, n->body);
    }
}

static bool check_model(const CrOnnx__ModelProto *model, const char *path) {
    if (!model->graph) return cr_fail(CR_ERROR_FORMAT, "%.600s is no ONNX model: it has no graph", path);
    if (!model->n_opset_import && (!model->has_ir_version || model->ir_version >= 3))
        return cr_fail(CR_ERROR_FORMAT, "%.600s is no ONNX model: it does not say its opset", path);
    return true;
}

static bool check_type(const CrOnnx__ValueInfoProto *value, const char *what) {
    static const char *const names[] = {[CR_ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE] = "a sequence",
                                        [CR_ONNX__TYPE_PROTO__VALUE_MAP_TYPE] = "a map",
                                        [CR_ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE] = "optional",
                                        [CR_ONNX__TYPE_PROTO__VALUE_SPARSE_TENSOR_TYPE] = "sparse"};
    const unsigned kind = value->type ? value->type->value_case : 0;
    cr_dtype dtype;
    if (kind < sizeof names / sizeof names[0] && names[kind])
        return cr_fail(CR_ERROR_UNSUPPORTED, "onnx: the %s \"%.200s\" is %s; Cresset has tensors only", what,
                       value->name, names[kind]);
    const int number = kind == CR_ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE ? value->type->tensor_type->elem_type : 0;
    return !number || cr_onnx_dtype(number, &dtype) ||
           cr_fail(CR_ERROR_UNSUPPORTED, "onnx: the %s \"%.200s\" is of data type %d (%s), which Cresset does not have",
                   what, value->name, number, cr_onnx_dtype_text(number));
}

static bool check_types(const CrOnnx__GraphProto *graph) {
    for (size_t i = 0; i < graph->n_input; i++)
        if (!check_type(graph->input[i], "input")) return false;
    for (size_t i = 0; i < graph->n_output; i++)
        if (!check_type(graph->output[i], "output")) return false;
    return true;
}

cr_onnx_program *cr_onnx_program_open(const char *path) {
    cr_onnx_program *program = cr_calloc(1, sizeof *program);
    linker l = {.program = program};
    bool done =
        program && (program->file = cr_onnx_file_open(path, CR_ONNX_MODEL)) && check_model(program->file->model, path);
    if (done) {
        const CrOnnx__ModelProto *model = program->file->model;
        const context outside = {NULL, model->n_opset_import, model->opset_import, NULL};
        const cr_outside before = cr_outside_enter(cr_thread_self());
        CR_SCOPE {
            done = link_graph(&l, &outside, model->graph, &program->main);
        }
        cr_outside_leave(cr_thread_self(), before);
    }
    done = done && (!l.missing_count || report_missing(&l)) && check_types(program->file->model->graph) &&
           find_last_uses(program);
    if (done) {
        find_statistics(program, &program->main);
        return program;
    }
    cr_onnx_program_free(program);
    return NULL;
}

void cr_onnx_program_free(cr_onnx_program *program) {
    if (!program) return;
    for (int i = 0; i < program->initial_count; i++)
        cr_release(program->initials[i].tensor);
    cr_free(program->initials);
    cr_onnx_file_close(program->file);
    cr_pool_free(&program->pool);
    cr_free(program);
}
#endif
