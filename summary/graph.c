/* A graph as TensorBoard shows it: a GraphDef, whose nodes' names are paths. A node stands in the folder of the module
 * that made it ("main/0/convolution"), a parameter in its own ("main/0/weight"). */
#ifdef CRESSET_HAS_SUMMARY
#include "summary/writer.h"

#include "core/text.h"
#include "jit/graph.h"

#include <ctype.h>
#include <string.h>

enum { ATTRIBUTES_MOST = 4 };

typedef struct entry {
    Cr__GraphDef__Node node;
    Cr__GraphDef__Node *self;
    const char *base; /* the name before it was made unique */
    Cr__GraphDef__Attribute attributes[ATTRIBUTES_MOST];
    Cr__GraphDef__Attribute *list[ATTRIBUTES_MOST];
    Cr__GraphDef__Value values[ATTRIBUTES_MOST];
} entry;

typedef struct drawing {
    const cr_graph *graph;
    cr_pool pool;
    entry *entries; /* states, inputs, nodes, outputs */
    int count;
    const char **name_of; /* by value id: "main/0/convolution:1" */
    bool failed;
} drawing;

/* ---------------------------------------------------------------- names */
static char *keep(drawing *d, cr_text *text) {
    char *built = cr_text_end(text), *copy = built ? cr_pool_allocate(&d->pool, strlen(built) + 1) : NULL;
    if (copy) memcpy(copy, built, strlen(built) + 1);
    cr_free(built);
    d->failed = d->failed || !copy;
    return copy;
}

/* The dots of a module's path part folders; what else TensorBoard could trip over becomes '_'. */
static void add_path(cr_text *text, const char *path, size_t length) {
    for (size_t i = 0; i < length; i++) {
        const unsigned char c = (unsigned char)path[i];
        cr_text_add(text, "%c", c == '.' ? '/' : isalnum(c) || c == '_' || c == '-' ? c : '_');
    }
}

/* The folders that a node stands in: "main/0/" for one of the module main.0. */
static void add_folders(drawing *d, cr_text *text, const char *source) {
    cr_text module = {0};
    cr_graph_add_module(&module, source);
    if (module.length) {
        const char *path = keep(d, &module);
        if (!path) return;
        add_path(text, path, strlen(path));
        cr_text_add(text, "/");
    }
}

static bool is_taken(const drawing *d, const char *name) {
    for (int i = 0; i < d->count; i++)
        if (!strcmp(d->entries[i].node.name, name)) return true;
    return false;
}

/* base, or base_1, base_2, … where there are others before it. */
static char *unique(drawing *d, const char *base) {
    int others = 0;
    for (int i = 0; i < d->count; i++)
        others += !strcmp(d->entries[i].base, base);
    for (;; others++) {
        cr_text text = {0};
        cr_text_add(&text, others ? "%s_%d" : "%s", base, others);
        char *name = keep(d, &text);
        if (!name || !is_taken(d, name)) return name;
    }
}

/* ---------------------------------------------------------------- nodes */
static entry *add_entry(drawing *d, cr_text *base, const char *op) {
    const char *kept = keep(d, base);
    entry *e = &d->entries[d->count];
    e->node = (Cr__GraphDef__Node)CR__GRAPH_DEF__NODE__INIT;
    e->self = &e->node;
    e->base = kept;
    e->node.op = (char *)(uintptr_t)op;
    if (d->failed || !(e->node.name = unique(d, kept))) return NULL;
    e->node.attr = e->list;
    d->count++;
    return e;
}

static Cr__GraphDef__Value *add_attribute(entry *e, const char *key) {
    const size_t i = e->node.n_attr++;
    e->values[i] = (Cr__GraphDef__Value)CR__GRAPH_DEF__VALUE__INIT;
    e->attributes[i] = (Cr__GraphDef__Attribute)CR__GRAPH_DEF__ATTRIBUTE__INIT;
    e->attributes[i].key = (char *)(uintptr_t)key;
    e->attributes[i].value = &e->values[i];
    e->list[i] = &e->attributes[i];
    return &e->values[i];
}

static void add_text(entry *e, const char *key, const char *text) {
    if (!text || !*text) return;
    Cr__GraphDef__Value *value = add_attribute(e, key);
    value->value_case = CR__GRAPH_DEF__VALUE__VALUE_S;
    value->s = (ProtobufCBinaryData){strlen(text), (uint8_t *)(uintptr_t)text};
}

/* The sizes that TensorBoard writes on the edges; -1 for one that may differ. */
static Cr__GraphDef__Shape *make_shape(drawing *d, const cr_value *value) {
    const size_t dims = (size_t)value->shape.count;
    Cr__GraphDef__Shape *shape = cr_pool_allocate(&d->pool, sizeof *shape);
    Cr__GraphDef__Shape__Dim *sizes = cr_pool_allocate(&d->pool, (dims + 1) * sizeof *sizes);
    Cr__GraphDef__Shape__Dim **list = cr_pool_allocate(&d->pool, (dims + 1) * sizeof *list);
    if (!shape || !sizes || !list) return NULL;
    *shape = (Cr__GraphDef__Shape)CR__GRAPH_DEF__SHAPE__INIT;
    for (size_t i = 0; i < dims; i++) {
        const bool varies = value->extents && value->extents[i].symbol_count;
        sizes[i] = (Cr__GraphDef__Shape__Dim)CR__GRAPH_DEF__SHAPE__DIM__INIT;
        sizes[i].size = varies ? -1 : value->shape.at[i];
        list[i] = &sizes[i];
    }
    shape->n_dim = dims;
    shape->dim = list;
    return shape;
}

static bool add_shapes(drawing *d, entry *e, cr_value *const *values, int count) {
    Cr__GraphDef__List *shapes = cr_pool_allocate(&d->pool, sizeof *shapes);
    Cr__GraphDef__Shape **list = cr_pool_allocate(&d->pool, ((size_t)count + 1) * sizeof *list);
    if (!shapes || !list) return false;
    *shapes = (Cr__GraphDef__List)CR__GRAPH_DEF__LIST__INIT;
    for (int i = 0; i < count; i++)
        if (values[i] && !(list[shapes->n_shape++] = make_shape(d, values[i]))) return false;
    shapes->shape = list;
    Cr__GraphDef__Value *value = add_attribute(e, "_output_shapes");
    value->value_case = CR__GRAPH_DEF__VALUE__VALUE_LIST;
    value->list = shapes;
    return true;
}

/* Later nodes refer to the entry's k-th value as "name:k", to the first one as "name". */
static bool name_values(drawing *d, const entry *e, cr_value *const *values, int count) {
    for (int k = 0; k < count; k++) {
        if (!values[k]) continue;
        cr_text text = {0};
        cr_text_add(&text, k ? "%s:%d" : "%s", e->node.name, k);
        if (!(d->name_of[values[k]->id] = keep(d, &text))) return false;
    }
    return true;
}

static bool add_inputs(drawing *d, entry *e, cr_value *const *values, int count) {
    char **list = cr_pool_allocate(&d->pool, ((size_t)count + 1) * sizeof *list);
    if (!list) return false;
    for (int i = 0; i < count; i++)
        if (values[i] && d->name_of[values[i]->id])
            list[e->node.n_input++] = (char *)(uintptr_t)d->name_of[values[i]->id];
    e->node.input = list;
    return true;
}

/* ---------------------------------------------------------------- the parts of a graph */
static bool draw_source(drawing *d, const char *folder, const char *name, const char *op, cr_value *value) {
    cr_text base = {0};
    cr_text_add(&base, "%s", folder);
    add_path(&base, name ? name : "", name ? strlen(name) : 0);
    entry *e = add_entry(d, &base, op);
    return e && add_shapes(d, e, &value, 1) && name_values(d, e, &value, 1);
}

static const char *ops_inside(drawing *d, const cr_graph_node *node) {
    cr_text text = {0};
    for (int b = 0; b < node->block_count; b++)
        for (const cr_graph_node *inner = node->blocks[b]->first; inner; inner = inner->next)
            cr_text_add(&text, "%s%s", text.length ? " " : "", inner->op->name);
    return keep(d, &text);
}

static bool draw_node(drawing *d, const cr_graph_node *node) {
    cr_text base = {0}, settings = {0};
    add_folders(d, &base, node->source);
    cr_text_add(&base, "%s", node->op->name);
    entry *e = add_entry(d, &base, node->op->name);
    if (!e || !add_inputs(d, e, node->inputs, node->input_count) ||
        !add_shapes(d, e, node->outputs, node->output_count) || !name_values(d, e, node->outputs, node->output_count))
        return false;
    if (node->op->attribute_count) {
        char *printed = cr_attributes_print(node->op, node->attributes);
        if (!printed) return false;
        cr_text_add(&settings, "%s", printed);
        cr_free(printed);
        add_text(e, "settings", keep(d, &settings));
    }
    if (node->block_count) add_text(e, "ops", ops_inside(d, node));
    add_text(e, "source", node->source);
    return !d->failed;
}

static bool draw_output(drawing *d, const char *name, cr_value *value) {
    cr_text base = {0};
    cr_text_add(&base, "output/");
    add_path(&base, name ? name : "", name ? strlen(name) : 0);
    entry *e = add_entry(d, &base, "output");
    return e && add_inputs(d, e, &value, 1);
}

static bool draw(drawing *d) {
    const cr_graph *graph = d->graph;
    const int values = cr_graph_number((cr_graph *)(uintptr_t)graph);
    const size_t most = (size_t)(graph->state_count + graph->body.input_count + cr_graph_node_count(graph) +
                                 graph->body.output_count + 1);
    d->entries = cr_pool_allocate(&d->pool, most * sizeof *d->entries);
    d->name_of = cr_pool_allocate(&d->pool, ((size_t)values + 1) * sizeof *d->name_of);
    bool done = d->entries && d->name_of;
    for (int i = 0; done && i < graph->state_count; i++)
        done = draw_source(d, "", graph->states[i].name, cr_state_kind_name(graph->states[i].kind),
                           graph->states[i].value);
    for (int i = 0; done && i < graph->body.input_count; i++)
        done = draw_source(d, "input/", graph->input_names[i], "input", graph->body.inputs[i]);
    for (const cr_graph_node *node = graph->body.first; done && node; node = node->next)
        done = draw_node(d, node);
    for (int i = 0; done && i < graph->body.output_count; i++)
        done = draw_output(d, graph->output_names[i], graph->body.outputs[i]);
    return done;
}

/* ---------------------------------------------------------------- the event */
static bool append(cr_summary_writer *writer, drawing *d) {
    Cr__GraphDef graph = CR__GRAPH_DEF__INIT;
    Cr__GraphDef__Versions versions = CR__GRAPH_DEF__VERSIONS__INIT;
    graph.versions = &versions;
    versions.producer = 22; /* as PyTorch's writer says */
    graph.node = cr_pool_allocate(&d->pool, ((size_t)d->count + 1) * sizeof *graph.node);
    for (int i = 0; graph.node && i < d->count; i++)
        graph.node[graph.n_node++] = d->entries[i].self;
    Cr__Event event = CR__EVENT__INIT;
    event.wall_time = cr_summary_wall_time();
    event.what_case = CR__EVENT__WHAT_GRAPH_DEF;
    event.graph_def.len = cr__graph_def__get_packed_size(&graph);
    event.graph_def.data = graph.node ? cr_malloc(event.graph_def.len + 1) : NULL;
    if (!event.graph_def.data) return false;
    cr__graph_def__pack(&graph, event.graph_def.data);
    const bool done = cr_summary_append(writer, &event);
    cr_free(event.graph_def.data);
    return done;
}

bool cr_summary_graph(cr_summary_writer *writer, const cr_graph *graph) {
    drawing d = {.graph = graph};
    if (!writer || !graph)
        return cr_fail(CR_ERROR_ARGUMENT, "summary_graph: the %s is NULL", writer ? "graph" : "writer");
    const bool done = draw(&d) && append(writer, &d);
    cr_pool_free(&d.pool);
    return done;
}
#else
typedef int cr_summary_graph_is_absent; /* summary/absent.c stands in */
#endif
