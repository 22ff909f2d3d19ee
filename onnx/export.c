/* cr_onnx_export: a graph lowered to what an opset can say, its sizes found anew, and written as a model. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/emit.h"

#include "core/file.h"
#include "onnx/custom.h"
#include "jit/fit.h"
#include "jit/pass.h"

#include <limits.h>
#include <string.h>

CR_OPTION_DEFAULTS(onnx_export, CR_ONNX_EXPORT_OPTIONS)

enum { LEAST_OPSET = 13, MOST_OPSET = 23, EXTERNAL_BYTES = 1024, EXTERNAL_ALIGNMENT = 64 };

/* ---------------------------------------------------------------- what can be said */
static bool can_write(const cr_graph_node *node, int opset) {
    if (cr_onnx_custom_of(node->op)) return true;
    if (cr_onnx_export_row_of(node, opset)) return true;
    return node->op->pointwise && cr_onnx_can_write_pointwise(node, opset);
}

/* What has no parts stays, to be listed with all others that cannot be written. */
static bool supports(const cr_graph_node *node, const void *target) {
    return can_write(node, *(const int *)target) || !node->op->decompose;
}

static bool lower(cr_graph *graph) {
    bool changed = false;
    return cr_graph_bind(graph) && cr_pass_lower(graph, &changed);
}

/* The graph at other sizes, lowered as they ask for. */
static cr_graph *lower_at(void *context, const cr_graph *graph, const int64_t *sizes) {
    cr_graph *copy = cr_graph_copy(context);
    if (!copy) return NULL;
    copy->supports = graph->supports;
    copy->target = graph->target;
    for (int i = 0; i < copy->symbol_count; i++)
        copy->symbols[i].value = sizes[i];
    if (lower(copy)) return copy;
    cr_jit_free(copy);
    return NULL;
}

static cr_graph *lowered(const cr_graph *graph, const int *opset) {
    cr_graph *copy = cr_graph_copy(graph);
    if (!copy) return NULL;
    copy->supports = supports;
    copy->target = opset;
    if (lower(copy) && cr_fit_sizes(copy, lower_at, (void *)(uintptr_t)graph) && cr_graph_simplify(copy)) return copy;
    cr_jit_free(copy);
    return NULL;
}

/* ---------------------------------------------------------------- what cannot */
typedef struct refusal {
    cr_text text;
    int opset, count;
    const cr_op *listed[32];
    int listed_count;
} refusal;

static bool list_node(cr_graph *graph, cr_block *block, cr_graph_node *node, void *context) {
    refusal *r = context;
    (void)graph, (void)block;
    if (can_write(node, r->opset)) return true;
    r->count++;
    for (int i = 0; i < r->listed_count; i++)
        if (r->listed[i] == node->op) return true;
    if (r->listed_count == (int)(sizeof r->listed / sizeof r->listed[0])) return true;
    r->listed[r->listed_count++] = node->op;
    cr_text_add(&r->text, "%s%s", r->text.length ? "; " : "", node->op->name);
    if (node->source) cr_text_add(&r->text, " (%s)", node->source);
    for (int newer = r->opset + 1; newer <= MOST_OPSET; newer++)
        if (can_write(node, newer)) {
            cr_text_add(&r->text, ", which opset %d has", newer);
            break;
        }
    return true;
}

static bool check_nodes(cr_graph *graph, int opset) {
    refusal r = {.opset = opset};
    cr_graph_each(graph, list_node, &r);
    if (!r.count) return true;
    char *list = cr_text_end(&r.text);
    if (list)
        cr_record_error(
            CR_ERROR_UNSUPPORTED,
            "onnx_export: opset %d cannot say %d node%s: %s. Write them with other ops, or leave them out of what "
            "is traced",
            opset, r.count, r.count == 1 ? "" : "s", list);
    cr_free(list);
    return false;
}

static bool check_states(const cr_graph *graph) {
    for (int i = 0; i < graph->state_count; i++) {
        if (graph->states[i].update || graph->gradient_count)
            return cr_fail(
                CR_ERROR_STATE,
                "onnx_export: a run of this graph updates its state, which ONNX has no word for; trace the module "
                "after cr_nn_eval, and without its backward");
        if (!graph->states[i].tensor)
            return cr_fail(CR_ERROR_STATE,
                           "onnx_export: the state \"%s\" has no values: the graph was read from text alone",
                           graph->states[i].name);
    }
    return true;
}

/* ---------------------------------------------------------------- nodes */
const cr_onnx_export_row *cr_onnx_export_row_of(const cr_graph_node *node, int opset) {
    for (int i = 0; i < cr_onnx_export_row_count(); i++) {
        const cr_onnx_export_row *row = cr_onnx_export_row_at(i);
        if (row->since <= opset && !strcmp(row->op, node->op->name))
            return !row->takes || row->takes(node, opset) ? row : NULL;
    }
    return NULL;
}

/* A row that reads an attribute as a number must not, where that follows from sizes. */
static bool check_bounds(cr_onnx_emitter *e, const cr_graph_node *node) {
    for (int i = 0; i < node->bound_count && i < 32; i++)
        if (!(e->used_bounds >> i & 1))
            return cr_onnx_cannot(e, node, "its %s follows from a size that is open",
                                  node->op->attributes[node->bound[i].attribute].name);
    return true;
}

/* The model names each domain that its nodes are of. */
static bool use_domain(cr_onnx_emitter *e, const char *domain) {
    for (size_t i = 0; i < e->model->n_opset_import; i++)
        if (!strcmp(e->model->opset_import[i]->domain, domain)) return true;
    CrOnnx__OperatorSetIdProto *opset = cr_onnx_new_message(e, &cr_onnx__operator_set_id_proto__descriptor);
    if (!opset || !cr_onnx_push(e, (void ***)&e->model->opset_import, &e->model->n_opset_import, opset)) return false;
    opset->domain = (char *)(uintptr_t)domain;
    opset->has_version = true;
    opset->version = 1;
    return true;
}

bool cr_onnx_write_block(cr_onnx_emitter *e, const cr_block *block) {
    for (const cr_graph_node *node = block->first; node; node = node->next) {
        const cr_onnx_export_row *row = cr_onnx_export_row_of(node, e->opset);
        e->node = node;
        e->used_bounds = 0;
        const cr_onnx_custom *custom = cr_onnx_custom_of(node->op);
        if (custom && !use_domain(e, custom->domain)) return false;
        const bool done = custom ? cr_onnx_write_custom(e, node, custom)
                          : row  ? row->write(e, node)
                                 : cr_onnx_write_pointwise(e, node);
        if (!done || e->failed) return false;
        if (!check_bounds(e, node)) return false;
        for (int i = 0; i < node->output_count; i++)
            if (node->outputs[i] && node->outputs[i]->uses && !node->outputs[i]->note)
                return cr_onnx_cannot(e, node, "ONNX has no such result as its %d-th", i);
    }
    return true;
}

/* ---------------------------------------------------------------- types */
bool cr_onnx_declare(cr_onnx_emitter *e, CrOnnx__ValueInfoProto ***list, size_t *count, const char *name,
                     const cr_value *value) {
    CrOnnx__ValueInfoProto *info = cr_onnx_new_message(e, &cr_onnx__value_info_proto__descriptor);
    CrOnnx__TypeProto *type = cr_onnx_new_message(e, &cr_onnx__type_proto__descriptor);
    CrOnnx__TypeProto__Tensor *tensor = cr_onnx_new_message(e, &cr_onnx__type_proto__tensor__descriptor);
    CrOnnx__TensorShapeProto *shape = cr_onnx_new_message(e, &cr_onnx__tensor_shape_proto__descriptor);
    if (!info || !type || !tensor || !shape) return false;
    info->name = (char *)(uintptr_t)name;
    info->type = type;
    type->value_case = CR_ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type->tensor_type = tensor;
    tensor->has_elem_type = true;
    tensor->elem_type = cr_onnx_dtype_number(value->dtype);
    tensor->shape = shape;
    for (int d = 0; d < value->shape.count; d++) {
        CrOnnx__TensorShapeProto__Dimension *dim =
            cr_onnx_new_message(e, &cr_onnx__tensor_shape_proto__dimension__descriptor);
        char text[256];
        if (!dim || !cr_onnx_push(e, (void ***)&shape->dim, &shape->n_dim, dim)) return false;
        if (!value->extents || !value->extents[d].symbol_count) {
            dim->value_case = CR_ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
            dim->dim_value = value->shape.at[d];
            continue;
        }
        cr_extent_print(text, sizeof text, &value->extents[d], e->graph->symbols);
        dim->value_case = CR_ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
        if (!(dim->dim_param = (char *)(uintptr_t)cr_onnx_text_of(e, "%s", text))) return false;
    }
    return cr_onnx_push(e, (void ***)list, count, info);
}

CrOnnx__GraphProto *cr_onnx_begin_graph(cr_onnx_emitter *e, const char *name) {
    CrOnnx__GraphProto *graph = cr_onnx_new_message(e, &cr_onnx__graph_proto__descriptor);
    if (graph) graph->name = (char *)(uintptr_t)cr_onnx_unique(e, name);
    return graph && graph->name ? graph : NULL;
}

/* ---------------------------------------------------------------- the graph */
/* The i-th of "a,b,c", else `otherwise`. */
static const char *listed_name(cr_onnx_emitter *e, const char *list, int i, const char *otherwise) {
    for (; list && i > 0; i--)
        list = strchr(list, ',') ? strchr(list, ',') + 1 : NULL;
    const int length = list ? (int)strcspn(list, ",") : 0;
    return cr_onnx_unique(e, length ? cr_onnx_text_of(e, "%.*s", length, list) : otherwise);
}

static bool write_inputs(cr_onnx_emitter *e, const char *names) {
    for (int i = 0; i < e->graph->body.input_count; i++) {
        cr_value *input = e->graph->body.inputs[i];
        const char *name = listed_name(e, names, i, e->graph->input_names[i]);
        input->note = (void *)(uintptr_t)name;
        if (!name || !cr_onnx_declare(e, &e->main->input, &e->main->n_input, name, input)) return false;
    }
    return true;
}

static bool write_state(cr_onnx_emitter *e, cr_state *state) {
    cr_tensor *dense = cr_contiguous(cr_to_device(state->tensor, CR_CPU));
    if (!dense) return false;
    const cr_shape shape = cr_shape_of(dense);
    const size_t bytes = (size_t)cr_numel(dense) * cr_dtype_size(cr_dtype_of(dense));
    const void *data = cr_data(dense);
    const bool is_constant = state->kind == CR_STATE_CONSTANT;
    if (is_constant && bytes < EXTERNAL_BYTES) { /* equal ones are one */
        state->value->note =
            (void *)(uintptr_t)cr_onnx_constant(e, cr_dtype_of(dense), &shape, data ? data : "", bytes);
        return state->value->note != NULL;
    }
    const char *name = cr_onnx_unique(e, is_constant ? "constant" : state->name);
    if (!name) return false;
    CrOnnx__TensorProto *t = cr_onnx_tensor_message(e, name, cr_dtype_of(dense), &shape, data ? data : "", bytes);
    state->value->note = (void *)(uintptr_t)name;
    return t && cr_onnx_push(e, (void ***)&e->main->initializer, &e->main->n_initializer, t);
}

/* A state that is not written yet, or was none. */
static bool write_used(cr_onnx_emitter *e, const cr_value *value) {
    for (int i = 0; value && !value->producer && !value->note && i < e->graph->state_count; i++)
        if (e->graph->states[i].value == value) return write_state(e, &e->graph->states[i]);
    return true;
}

/* In the order in which they are used: a graph that was written and read again writes the same file. */
static bool write_states(cr_onnx_emitter *e) {
    for (int i = 0; i < e->graph->state_count; i++)
        e->graph->states[i].value->note = NULL;
    for (const cr_graph_node *node = e->graph->body.first; node; node = node->next)
        for (int i = 0; i < node->input_count; i++)
            if (!write_used(e, node->inputs[i])) return false;
    for (int i = 0; i < e->graph->body.output_count; i++)
        if (!write_used(e, e->graph->body.outputs[i])) return false;
    return true;
}

/* Every use of a name becomes another; says whether a node gives it. */
static bool rename_value(CrOnnx__GraphProto *graph, const char *from, const char *to) {
    bool is_made = false;
    for (size_t i = 0; i < graph->n_node; i++) {
        CrOnnx__NodeProto *node = graph->node[i];
        for (size_t k = 0; k < node->n_input; k++)
            if (node->input[k] == from) node->input[k] = (char *)(uintptr_t)to;
        for (size_t k = 0; k < node->n_output; k++)
            if (node->output[k] == from) node->output[k] = (char *)(uintptr_t)to, is_made = true;
        for (size_t k = 0; k < node->n_attribute; k++)
            if (node->attribute[k]->g) rename_value(node->attribute[k]->g, from, to);
    }
    return is_made;
}

/* An output has the name that it is to have: the node that gives it takes that, or where it is an input, a weight, or an
 * output already, one more node. */
static bool write_outputs(cr_onnx_emitter *e, const char *const *names) {
    for (int i = 0; i < e->graph->body.output_count; i++) {
        cr_value *output = e->graph->body.outputs[i];
        const char *made = output->note;
        bool is_output = false;
        for (int k = 0; k < i; k++)
            is_output |= made == e->graph->body.outputs[k]->note;
        if (!made) return false;
        if (!is_output && output->producer && rename_value(e->main, made, names[i])) {
            for (int k = 0; k < e->graph->body.output_count; k++)
                if (e->graph->body.outputs[k]->note == made)
                    e->graph->body.outputs[k]->note = (void *)(uintptr_t)names[i];
        } else {
            if (!cr_onnx_add(e, "Identity", made)) return false;
            e->last->output[0] = (char *)(uintptr_t)names[i];
        }
        if (!cr_onnx_declare(e, &e->main->output, &e->main->n_output, names[i], output)) return false;
    }
    return true;
}

static bool is_read(const CrOnnx__GraphProto *graph, const char *name) {
    for (size_t i = 0; i < graph->n_node; i++) {
        const CrOnnx__NodeProto *node = graph->node[i];
        for (size_t k = 0; k < node->n_input; k++)
            if (!strcmp(node->input[k], name)) return true;
        for (size_t k = 0; k < node->n_attribute; k++)
            if (node->attribute[k]->g && is_read(node->attribute[k]->g, name)) return true;
    }
    return false;
}

/* The nodes for sizes stand first, whether or not somebody asks for them; and some layers take in what stood before them. */
static void drop_unread(cr_onnx_emitter *e) {
    CrOnnx__GraphProto *graph = e->main;
    size_t end = e->may_drop_unread ? graph->n_node : 0;
    while (!e->may_drop_unread && end < graph->n_node &&
           (!strcmp(graph->node[end]->op_type, "Shape") || !strcmp(graph->node[end]->op_type, "Gather")))
        end++;
    while (end-- > 0) {
        bool is_needed = false;
        for (size_t k = 0; !is_needed && k < graph->node[end]->n_output; k++) {
            const char *name = graph->node[end]->output[k];
            is_needed = is_read(graph, name);
            for (int i = 0; i < e->graph->body.output_count; i++)
                is_needed |= e->graph->body.outputs[i]->note && !strcmp(e->graph->body.outputs[i]->note, name);
        }
        if (!is_needed)
            memmove(graph->node + end, graph->node + end + 1, (--graph->n_node - end) * sizeof *graph->node);
    }
}

/* Runtimes warn of constants that nobody reads: a layer may have found another way after it had asked for one. */
static void drop_unread_constants(CrOnnx__GraphProto *graph) {
    size_t kept = 0;
    for (size_t i = 0; i < graph->n_initializer; i++)
        if (is_read(graph, graph->initializer[i]->name)) graph->initializer[kept++] = graph->initializer[i];
    graph->n_initializer = kept;
}

static bool write_graph(cr_onnx_emitter *e, const cr_onnx_export_options *o) {
    const int count = e->graph->body.output_count;
    const char **outputs = cr_pool_allocate(e->pool, (size_t)(count + 1) * sizeof *outputs);
    bool done = outputs && write_inputs(e, o->input_names);
    for (int i = 0; done && i < count; i++)
        done = (outputs[i] = listed_name(e, o->output_names, i, e->graph->output_names[i])) != NULL;
    done = done && write_states(e) && cr_onnx_write_symbols(e) && cr_onnx_write_block(e, &e->graph->body);
    e->node = NULL;
    if (done) drop_unread(e);
    done = done && write_outputs(e, outputs);
    if (done) drop_unread_constants(e->main);
    return done;
}

/* ---------------------------------------------------------------- the model */
static int64_t ir_version(int opset) {
    return opset <= 14 ? 7 : opset <= 18 ? 8 : opset <= 20 ? 9 : opset <= 22 ? 10 : 11;
}

/* "key=value" lines. */
static bool add_metadata(cr_onnx_emitter *e, CrOnnx__ModelProto *model, const char *text) {
    for (const char *at = text ? text : ""; *at;) {
        const int line = (int)strcspn(at, "\n"), key = (int)strcspn(at, "=\n");
        if (key < line) {
            CrOnnx__StringStringEntryProto *entry =
                cr_onnx_new_message(e, &cr_onnx__string_string_entry_proto__descriptor);
            if (!entry || !cr_onnx_push(e, (void ***)&model->metadata_props, &model->n_metadata_props, entry))
                return false;
            entry->key = (char *)(uintptr_t)cr_onnx_text_of(e, "%.*s", key, at);
            entry->value = (char *)(uintptr_t)cr_onnx_text_of(e, "%.*s", line - key - 1, at + key + 1);
            if (!entry->key || !entry->value) return false;
        }
        at += line + (at[line] == '\n');
    }
    return true;
}

CrOnnx__ModelProto *cr_onnx_build(cr_graph *graph, cr_pool *pool, const cr_onnx_export_options *o) {
    cr_onnx_emitter e = {.pool = pool, .graph = graph, .opset = (int)o->opset};
    e.names = cr_pool_allocate(pool, sizeof *e.names);
    e.symbols = cr_pool_allocate(pool, CR_GRAPH_SYMBOLS * sizeof *e.symbols);
    CrOnnx__ModelProto *model = cr_onnx_new_message(&e, &cr_onnx__model_proto__descriptor);
    CrOnnx__OperatorSetIdProto *opset = cr_onnx_new_message(&e, &cr_onnx__operator_set_id_proto__descriptor);
    if (!e.names || !e.symbols || !model || !opset) return NULL;
    e.main = e.target = cr_onnx_begin_graph(&e, o->name && *o->name ? o->name : "cresset");
    if (!e.main || !cr_onnx_push(&e, (void ***)&model->opset_import, &model->n_opset_import, opset)) return NULL;
    opset->domain = (char *)(uintptr_t) "";
    opset->has_version = model->has_ir_version = true;
    opset->version = o->opset;
    model->ir_version = ir_version(e.opset);
    model->producer_name = (char *)(uintptr_t) "cresset";
    model->producer_version = (char *)(uintptr_t)cr_version();
    model->graph = e.main;
    e.model = model;
    cr_graph_count_uses(graph);
    return add_metadata(&e, model, o->metadata) && write_graph(&e, o) ? model : NULL;
}

/* ---------------------------------------------------------------- files */
typedef struct sink {
    ProtobufCBuffer base;
    cr_file_writer *writer;
} sink;

static void append(ProtobufCBuffer *buffer, size_t length, const uint8_t *data) {
    cr_file_writer_write(((sink *)(void *)buffer)->writer, data, length);
}

static bool save_model(const CrOnnx__ModelProto *model, const char *path) {
    sink to = {{append}, cr_file_writer_begin(path)};
    if (!to.writer) return false;
    cr_onnx__model_proto__pack_to_buffer(model, &to.base);
    return cr_file_writer_commit(to.writer);
}

static bool add_entry(cr_onnx_emitter *e, CrOnnx__TensorProto *t, const char *key, const char *value) {
    CrOnnx__StringStringEntryProto *entry = cr_onnx_new_message(e, &cr_onnx__string_string_entry_proto__descriptor);
    if (!entry || !value || !cr_onnx_push(e, (void ***)&t->external_data, &t->n_external_data, entry)) return false;
    entry->key = (char *)(uintptr_t)key;
    entry->value = (char *)(uintptr_t)value;
    return true;
}

/* The larger initialisers go to a file beside the model, one after the other. */
static bool save_external(CrOnnx__ModelProto *model, cr_pool *pool, const char *path) {
    static const char zeros[EXTERNAL_ALIGNMENT];
    cr_onnx_emitter e = {.pool = pool};
    const char *data_path = cr_onnx_text_of(&e, "%s.data", path), *slash = data_path ? strrchr(data_path, '/') : NULL;
    cr_file_writer *writer = data_path ? cr_file_writer_begin(data_path) : NULL;
    if (!writer) return false;
    for (size_t i = 0; i < model->graph->n_initializer; i++) {
        CrOnnx__TensorProto *t = model->graph->initializer[i];
        if (t->raw_data.len < EXTERNAL_BYTES) continue;
        const int64_t at = cr_file_writer_position(writer),
                      padding = (EXTERNAL_ALIGNMENT - at % EXTERNAL_ALIGNMENT) % EXTERNAL_ALIGNMENT;
        cr_file_writer_write(writer, zeros, (size_t)padding);
        cr_file_writer_write(writer, t->raw_data.data, t->raw_data.len);
        if (!add_entry(&e, t, "location", slash ? slash + 1 : data_path) ||
            !add_entry(&e, t, "offset", cr_onnx_text_of(&e, "%lld", (long long)(at + padding))) ||
            !add_entry(&e, t, "length", cr_onnx_text_of(&e, "%zu", t->raw_data.len))) {
            cr_file_writer_abandon(writer);
            return false;
        }
        t->has_raw_data = false;
        t->has_data_location = true;
        t->data_location = CR_ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    }
    return cr_file_writer_commit(writer);
}

static bool export_lowered(cr_graph *graph, const char *path, const cr_onnx_export_options *o) {
    cr_pool pool = {0};
    bool done = false;
    CR_SCOPE {
        CrOnnx__ModelProto *model = cr_onnx_build(graph, &pool, o);
        if (!model) break;
        const bool is_external = o->external_data || cr_onnx__model_proto__get_packed_size(model) > INT_MAX;
        done = (!is_external || save_external(model, &pool, path)) && save_model(model, path);
    }
    cr_pool_free(&pool);
    return done;
}

bool cr_onnx_export_with(const cr_graph *graph, const char *path, const cr_onnx_export_options *given) {
    cr_onnx_export_options o = onnx_export_defaults;
    if (given) memcpy(&o, given, given->size < sizeof o ? given->size : sizeof o);
    if (!graph || !path) return cr_ok() && cr_fail(CR_ERROR_ARGUMENT, "onnx_export: NULL graph or path");
    if (o.opset < LEAST_OPSET || o.opset > MOST_OPSET)
        return cr_fail(CR_ERROR_ARGUMENT, "onnx_export: opset %lld; %d to %d are written", (long long)o.opset,
                       LEAST_OPSET, MOST_OPSET);
    if (graph->is_for_reading)
        return cr_fail(CR_ERROR_STATE, "onnx_export: the graph was read from the text of an optimised one");
    const int opset = (int)o.opset;
    if (!check_states(graph)) return false;
    cr_graph *copy = NULL;
    bool done = false;
    CR_SCOPE {
        copy = lowered(graph, &opset);
        done = copy && check_nodes(copy, opset) && export_lowered(copy, path, &o);
    }
    cr_jit_free(copy);
    if (!done && cr_ok()) cr_record_error(CR_ERROR_STATE, "onnx_export: the model could not be written");
    return done;
}
#endif
