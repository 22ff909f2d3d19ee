#include "jit/tracer.h"

#include "core/text.h"

#include <string.h>

/* ---------------------------------------------------------------- geometry */
static cr_geometry geometry_of(const cr_tensor *t) {
    return (cr_geometry){(cr_dtype)t->dtype, cr_tensor_shape(t), cr_strides_of(t), t->offset};
}

static bool same_geometry(const cr_geometry *a, const cr_geometry *b) {
    if (a->dtype != b->dtype || a->offset != b->offset || !cr_shape_equal(a->shape, b->shape)) return false;
    for (int d = 0; d < a->shape.count; d++)
        if (a->shape.at[d] != 1 && a->strides.at[d] != b->strides.at[d]) return false;
    return true;
}

static bool is_dense(const cr_geometry *g) {
    int64_t step = 1;
    for (int d = g->shape.count - 1; d >= 0 && step > 0; d--) { /* nothing is dense however it is strided */
        if (g->shape.at[d] > 1 && g->strides.at[d] != step) return false;
        step *= g->shape.at[d];
    }
    return true;
}

/* ---------------------------------------------------------------- storages by serial */
static uint32_t hash_serial(uint64_t serial) { return (uint32_t)((serial * 0x9e3779b97f4a7c15u) >> 32); }

static cr_traced_storage *find_storage(const cr_tracer *tracer, uint64_t serial) {
    if (!tracer->table_size) return NULL;
    const uint32_t mask = (uint32_t)tracer->table_size - 1;
    for (uint32_t at = hash_serial(serial) & mask; tracer->table[at]; at = (at + 1) & mask)
        if (tracer->storages[tracer->table[at] - 1].serial == serial) return &tracer->storages[tracer->table[at] - 1];
    return NULL;
}

static void enter(cr_tracer *tracer, int index) {
    const uint32_t mask = (uint32_t)tracer->table_size - 1;
    uint32_t at = hash_serial(tracer->storages[index].serial) & mask;
    while (tracer->table[at])
        at = (at + 1) & mask;
    tracer->table[at] = index + 1;
}

static bool make_room(cr_tracer *tracer) {
    if (2 * tracer->storage_count < tracer->table_size) return true;
    const int size = tracer->table_size ? 2 * tracer->table_size : 256;
    int *table = cr_calloc((size_t)size, sizeof *table);
    cr_traced_storage *storages =
        table ? cr_realloc(tracer->storages, (size_t)size / 2 * sizeof *storages + sizeof *storages) : NULL;
    if (!storages) {
        cr_free(table);
        return false;
    }
    cr_free(tracer->table);
    tracer->table = table;
    tracer->table_size = size;
    tracer->storages = storages;
    for (int i = 0; i < tracer->storage_count; i++)
        enter(tracer, i);
    return true;
}

static cr_traced_storage *add_storage(cr_tracer *tracer, const cr_tensor *t, cr_value *value, int state) {
    cr_traced_storage *storage = find_storage(tracer, t->storage->serial);
    if (!storage) {
        if (!make_room(tracer)) return NULL;
        storage = &tracer->storages[tracer->storage_count];
        memset(storage, 0, sizeof *storage);
        storage->serial = t->storage->serial;
        enter(tracer, tracer->storage_count++);
    }
    storage->geometry = geometry_of(t);
    storage->value = value;
    storage->state = state;
    storage->view_count = 0;
    return storage;
}

bool cr_tracer_bind(cr_tracer *tracer, const cr_tensor *t, cr_value *value) {
    return value && add_storage(tracer, t, value, -1) != NULL;
}

/* ---------------------------------------------------------------- capturing */
bool cr_tracer_name(cr_tracer *tracer, cr_tensor *t, const char *name, cr_state_kind kind) {
    cr_traced_name *grown = cr_pool_grow(&tracer->graph->pool, tracer->names, tracer->name_count, sizeof *grown);
    const char *copied = cr_graph_text_copy(tracer->graph, name);
    if (!grown || !copied) return false;
    tracer->names = grown;
    grown[tracer->name_count++] = (cr_traced_name){t, copied, kind};
    return true;
}

/* Made by this thread since the trace began: nobody outside the function can hold it. */
static bool is_local(const cr_tracer *tracer, const cr_tensor *t) {
    return t->storage->serial >> 32 == tracer->first_serial >> 32 && t->storage->serial >= tracer->first_serial;
}

/* A copy of t's present values that no tracer sees. */
static cr_tensor *snapshot(cr_tensor *t) {
    cr_thread *thread = cr_thread_self();
    const bool paused = thread->listeners_paused, dry = thread->dry_run;
    thread->listeners_paused = true;
    thread->dry_run = false;
    cr_tensor *copy = cr_clone(t);
    thread->listeners_paused = paused;
    thread->dry_run = dry;
    return copy;
}

static const cr_traced_name *find_name(const cr_tracer *tracer, const cr_tensor *t) {
    for (int i = 0; i < tracer->name_count; i++)
        if (cr_shares_storage(tracer->names[i].tensor, t)) return &tracer->names[i];
    return NULL;
}

/* The whole memory that t looks into, of which other views may follow; t itself where it is all of that. NULL on
 * failure. */
static cr_tensor *whole_of(cr_tensor *t) {
    const int64_t count = (int64_t)(t->storage->bytes / cr_dtype_size((cr_dtype)t->dtype));
    const cr_geometry g = geometry_of(t);
    if (t->numel == count && is_dense(&g)) return t;
    return cr_view_raw(t, CR_SHAPE(count), CR_SHAPE(1), 0);
}

/* "constant3", or the next number that nobody has yet. */
static void name_state(const cr_tracer *tracer, const char *word, char *text, size_t size) {
    bool is_taken = true;
    for (int number = tracer->graph->state_count; is_taken; number++) {
        snprintf(text, size, "%s%d", word, number);
        is_taken = false;
        for (int i = 0; i < tracer->name_count; i++)
            is_taken |= !strcmp(tracer->names[i].name, text);
        for (int i = 0; i < tracer->graph->state_count; i++)
            is_taken |= !strcmp(tracer->graph->states[i].name, text);
    }
}

/* A tensor from outside the function becomes state (whole, where t is a view); one that the function made without an op
 * (cr_scalar, cr_from_data) is a constant. */
static cr_traced_storage *capture(cr_tracer *tracer, cr_tensor *t) {
    static const char *const words[] = {"parameter", "state", "constant"};
    char text[224];
    const bool local = is_local(tracer, t);
    if (cr_tensor_is_hollow(t) || tracer->refuses_captures) {
        cr_record_error(CR_ERROR_STATE, "trace: %s comes from a computation that was not traced", cr_describe(t, text));
        return NULL;
    }
    const cr_traced_name *named = find_name(tracer, t);
    const cr_state_kind kind = named ? named->kind : local ? CR_STATE_CONSTANT : CR_STATE_BUFFER;
    if (!named) name_state(tracer, words[kind], text, sizeof text);
    cr_tensor *whole = named ? named->tensor : whole_of(t), *kept = whole && local && !named ? snapshot(whole) : whole;
    if (!kept) return NULL;
    const cr_shape shape = cr_tensor_shape(kept);
    cr_value *value = cr_graph_value(tracer->graph, (cr_dtype)t->dtype, &shape, t->device);
    if (!value || !cr_graph_add_state(tracer->graph, kind, named ? named->name : text, value, kept)) return NULL;
    value->is_constant = kind == CR_STATE_CONSTANT;
    return add_storage(tracer, whole, value, tracer->graph->state_count - 1);
}

/* ---------------------------------------------------------------- nodes */
static const char *chain_text(cr_tracer *tracer) {
    if (tracer->source) return tracer->source;
    char text[CR_CHAIN_BYTES];
    size_t used = 0;
    const cr_frame *frame = cr_thread_self()->frame;
    text[0] = '\0';
    if (frame) frame = frame->outer; /* the op itself is the node's name */
    for (; frame && used + 1 < sizeof text; frame = frame->outer)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s%s%s", used ? " < " : "", frame->name,
                                 frame->detail ? " " : "", frame->detail ? frame->detail : "");
    return used ? cr_graph_text_copy(tracer->graph, text) : NULL;
}

static cr_graph_node *add_node(cr_tracer *tracer, const cr_op *op, const void *attributes, cr_value *const *inputs,
                               int input_count) {
    const int outputs = cr_graph_output_count(op, attributes, (void *const *)(uintptr_t)inputs, input_count);
    cr_graph_node *node =
        cr_graph_add(tracer->graph, tracer->block, tracer->before, op, attributes, inputs, input_count, outputs);
    if (node) node->source = chain_text(tracer);
    return node;
}

static cr_value *add_output(cr_tracer *tracer, cr_graph_node *node, int index, cr_dtype dtype, const cr_shape *shape,
                            cr_device device) {
    cr_value *value = cr_graph_value(tracer->graph, dtype, shape, device);
    if (!value) return NULL;
    cr_graph_set_output(node, index, value);
    value->is_constant = !(node->op->flags & CR_OP_RANDOM);
    for (int i = 0; i < node->input_count; i++)
        value->is_constant &= !node->inputs[i] || node->inputs[i]->is_constant;
    return value;
}

/* A node of one operand and one result. */
static cr_value *derive(cr_tracer *tracer, const char *op, const char *attributes, cr_value *input,
                        const cr_geometry *to) {
    _Alignas(16) char storage[1024];
    const cr_op *row = cr_op_find(op);
    if (!row || !input || !cr_attributes_parse(row, attributes, storage)) return NULL;
    cr_graph_node *node = add_node(tracer, row, storage, &input, 1);
    return node ? add_output(tracer, node, 0, to->dtype, &to->shape, input->device) : NULL;
}

/* ---------------------------------------------------------------- the value of a tensor */
static cr_value *view_value(cr_tracer *tracer, cr_traced_storage *storage, int index);

/* Anew after the storage was written. */
static cr_value *derive_view(cr_tracer *tracer, cr_traced_storage *storage, const cr_traced_view *view) {
    char text[640], shape[192], strides[192];
    const cr_geometry *base = &storage->geometry, *g = &view->geometry;
    if (view->node) {
        cr_value *operand = view->parent < 0 ? storage->value : view_value(tracer, storage, view->parent);
        cr_graph_node *node = operand ? add_node(tracer, view->node->op, view->node->attributes, &operand, 1) : NULL;
        return node ? add_output(tracer, node, 0, g->dtype, &g->shape, operand->device) : NULL;
    }
    if (is_dense(base) && is_dense(g) && g->offset == base->offset) {
        int64_t whole = 1, part = 1;
        cr_shape_numel(base->shape, &whole);
        cr_shape_numel(g->shape, &part);
        snprintf(text, sizeof text, "shape=%s", cr_shape_format(g->shape, shape));
        if (whole == part) return derive(tracer, "view", text, storage->value, g);
    }
    if (!is_dense(base) || g->offset < base->offset) {
        cr_record_error(CR_ERROR_UNSUPPORTED,
                        "trace: a view of memory that the function has seen only a part of; use cr_clone on it");
        return NULL;
    }
    snprintf(text, sizeof text, "shape=%s strides=%s offset=%lld", cr_shape_format(g->shape, shape),
             cr_shape_format(g->strides, strides), (long long)(g->offset - base->offset));
    return derive(tracer, "as_strided", text, storage->value, g);
}

static cr_value *view_value(cr_tracer *tracer, cr_traced_storage *storage, int index) {
    cr_traced_view *view = &storage->views[index];
    if (!view->value) view->value = derive_view(tracer, storage, view);
    return view->value;
}

static int add_view(cr_tracer *tracer, cr_traced_storage *storage, const cr_traced_view *view) {
    cr_traced_view *grown = cr_pool_grow(&tracer->graph->pool, storage->views, storage->view_count, sizeof *grown);
    if (!grown) return -1;
    storage->views = grown;
    grown[storage->view_count] = *view;
    return storage->view_count++;
}

static int find_view(const cr_traced_storage *storage, const cr_geometry *g) {
    for (int i = 0; i < storage->view_count; i++)
        if (same_geometry(&storage->views[i].geometry, g)) return i;
    return -1;
}

cr_value *cr_tracer_value(cr_tracer *tracer, cr_tensor *t) {
    cr_traced_storage *storage = find_storage(tracer, t->storage->serial);
    if (!storage && !(storage = capture(tracer, t))) return NULL;
    const cr_geometry g = geometry_of(t);
    if (same_geometry(&g, &storage->geometry)) return storage->value;
    int index = find_view(storage, &g);
    if (index < 0) index = add_view(tracer, storage, &(cr_traced_view){.geometry = g, .parent = -1});
    return index < 0 ? NULL : view_value(tracer, storage, index);
}

/* ---------------------------------------------------------------- writes */
/* `t` now holds `value`: the base, or a window of it, is replaced. */
static bool write_tensor(cr_tracer *tracer, cr_tensor *t, cr_value *value) {
    cr_traced_storage *storage = find_storage(tracer, t->storage->serial);
    const cr_geometry g = geometry_of(t);
    if (t->numel == 0) return true;
    for (int i = 0; i < storage->view_count; i++)
        storage->views[i].value = NULL;
    if (same_geometry(&g, &storage->geometry)) {
        storage->value = value;
        return true;
    }
    _Alignas(16) char attributes[1024];
    char text[640], shape[192], strides[192];
    const cr_op *scatter = cr_op_find("as_strided_scatter");
    if (!is_dense(&storage->geometry))
        return cr_fail(CR_ERROR_UNSUPPORTED,
                       "trace: a write into a view of a tensor that is not contiguous; clone the tensor first");
    snprintf(text, sizeof text, "shape=%s strides=%s offset=%lld", cr_shape_format(g.shape, shape),
             cr_shape_format(g.strides, strides), (long long)(g.offset - storage->geometry.offset));
    cr_value *operands[] = {storage->value, value};
    cr_graph_node *node = scatter && cr_attributes_parse(scatter, text, attributes)
                              ? add_node(tracer, scatter, attributes, operands, 2)
                              : NULL;
    if (!node) return false;
    storage->value = add_output(tracer, node, 0, storage->geometry.dtype, &storage->geometry.shape, t->device);
    const int index = find_view(storage, &g);
    if (index >= 0) storage->views[index].value = value;
    return storage->value != NULL;
}

/* The result of an in-place call as its target holds it: cast and broadcast. */
static cr_value *fit_to_target(cr_tracer *tracer, cr_value *value, const cr_tensor *target) {
    char text[256], shape[192];
    const cr_geometry wide = {value->dtype, cr_tensor_shape(target), {0}, 0},
                      exact = {(cr_dtype)target->dtype, wide.shape, {0}, 0};
    snprintf(text, sizeof text, "shape=%s", cr_shape_format(wide.shape, shape));
    if (value && !cr_shape_equal(value->shape, wide.shape)) value = derive(tracer, "expand", text, value, &wide);
    snprintf(text, sizeof text, "dtype=%s", cr_dtype_name(exact.dtype));
    if (value && value->dtype != exact.dtype) value = derive(tracer, "cast", text, value, &exact);
    return value;
}

static bool record_in_place(cr_tracer *tracer, cr_call *call, cr_graph_node *node) {
    const cr_spec *spec = &call->specs[0];
    cr_value *value = add_output(tracer, node, 0, spec->dtype, &spec->shape, call->outputs[0]->device);
    value = value ? fit_to_target(tracer, value, call->outputs[0]) : NULL;
    return value && write_tensor(tracer, call->outputs[0], value);
}

static bool record_mutations(cr_tracer *tracer, cr_call *call, cr_graph_node *node) {
    const unsigned mutates = cr_op_mutates(call->op, call->attributes);
    int index = call->op->output_total;
    for (int i = 0; i < call->input_count && i < 32; i++) {
        cr_tensor *t = call->inputs[i];
        if (!(mutates >> i & 1) || !t) continue;
        const cr_shape shape = cr_tensor_shape(t);
        cr_value *value = add_output(tracer, node, index++, (cr_dtype)t->dtype, &shape, t->device);
        if (!value || !write_tensor(tracer, t, value)) return false;
    }
    return true;
}

static bool record_output(cr_tracer *tracer, cr_call *call, cr_graph_node *node, int index) {
    cr_tensor *t = call->outputs[index];
    const cr_shape shape = cr_tensor_shape(t);
    cr_value *value = add_output(tracer, node, index, (cr_dtype)t->dtype, &shape, t->device);
    if (!value) return false;
    if (!(call->op->flags & CR_OP_VIEW) || !cr_shares_storage(t, call->inputs[0]))
        return add_storage(tracer, t, value, -1) != NULL;
    cr_traced_storage *storage = find_storage(tracer, t->storage->serial);
    const cr_geometry g = geometry_of(t), from = geometry_of(call->inputs[0]);
    if (same_geometry(&g, &storage->geometry) || find_view(storage, &g) >= 0) return true; /* known; the node is dead */
    const int parent = same_geometry(&from, &storage->geometry) ? -1 : find_view(storage, &from);
    return add_view(tracer, storage, &(cr_traced_view){g, value, node, parent}) >= 0;
}

/* ---------------------------------------------------------------- the listener */
static unsigned tracer_wants(const cr_call *call) {
    (void)call;
    return cr_thread_self()->tracer ? CR_WANTS_RECORD : CR_WANTS_NOTHING;
}

/* Captures operands while they still have the values that the call reads. */
static bool tracer_before(cr_call *call) {
    cr_tracer *tracer = cr_thread_self()->tracer;
    for (int i = 0; i < call->input_count; i++)
        if (call->inputs[i] && !find_storage(tracer, call->inputs[i]->storage->serial) &&
            !capture(tracer, call->inputs[i]))
            return false;
    cr_tensor *target = call->in_place ? call->outputs[0] : NULL;
    return !target || find_storage(tracer, target->storage->serial) || capture(tracer, target);
}

static bool tracer_after(cr_call *call) {
    cr_tracer *tracer = cr_thread_self()->tracer;
    cr_value *inputs[CR_MAX_INPUTS];
    for (int i = 0; i < call->input_count; i++) {
        inputs[i] = NULL;
        if (call->inputs[i] && !(inputs[i] = cr_tracer_value(tracer, call->inputs[i]))) return false;
    }
    cr_graph_node *node = add_node(tracer, call->op, call->attributes, inputs, call->input_count);
    if (!node) return false;
    if (call->in_place) return record_in_place(tracer, call, node);
    for (int i = 0; i < call->output_count; i++)
        if (!record_output(tracer, call, node, i)) return false;
    return record_mutations(tracer, call, node);
}

static const cr_listener tracer_listener = {tracer_wants, tracer_before, tracer_after};

/* Host code reads a tensor: whatever it decides by that is frozen. */
static void on_read(const cr_tensor *t, const char *how) {
    cr_thread *thread = cr_thread_self();
    cr_tracer *tracer = thread->tracer;
    if (thread->listeners_paused) return; /* a kernel's own business */
    const cr_traced_storage *storage = find_storage(tracer, t->storage->serial);
    if (!storage || storage->value->is_constant) return;
    char described[224];
    const cr_graph_node *node = storage->value->producer;
    cr_graph_warn(tracer->graph, "cr_%s reads a traced value (%s, %s%s%s): what follows from it is frozen", how,
                  cr_describe(t, described), node ? "from " : "an input or state", node ? node->op->name : "", "");
}

static void on_gradient_cleared(const cr_tensor *t) {
    cr_tracer *tracer = cr_thread_self()->tracer;
    if (cr_tracer_was_cleared(tracer, t)) return;
    uint64_t *grown = cr_pool_grow(&tracer->graph->pool, tracer->cleared, tracer->cleared_count, sizeof *grown);
    if (!grown) return;
    tracer->cleared = grown;
    grown[tracer->cleared_count++] = t->storage->serial;
}

bool cr_tracer_was_cleared(const cr_tracer *tracer, const cr_tensor *t) {
    for (int i = 0; i < tracer->cleared_count; i++)
        if (tracer->cleared[i] == t->storage->serial) return true;
    return false;
}

int cr_tracer_state_of(const cr_tracer *tracer, const cr_tensor *t) {
    const cr_traced_storage *storage = find_storage(tracer, t->storage->serial);
    return storage ? storage->state : CR_TRACER_UNKNOWN;
}

/* ---------------------------------------------------------------- beginning and ending */
bool cr_tracer_begin(cr_tracer *tracer, cr_graph *graph, cr_block *block, bool dry) {
    cr_thread *thread = cr_thread_self();
    if (!cr_listener_add(&tracer_listener)) return false;
    cr_tensor_on_read = on_read;
    cr_tensor_on_gradient_cleared = on_gradient_cleared;
    cr_tensor *probe = cr_empty(CR_BOOL, CR_SHAPE_0D, CR_CPU);
    if (!probe) return false;
    *tracer = (cr_tracer){.graph = graph,
                          .block = block,
                          .first_serial = probe->storage->serial,
                          .outer = thread->tracer,
                          .was_dry = thread->dry_run};
    cr_discard(probe);
    thread->tracer = tracer;
    thread->dry_run = dry;
    return true;
}

void cr_tracer_end(cr_tracer *tracer) {
    cr_thread *thread = cr_thread_self();
    thread->tracer = tracer->outer;
    thread->dry_run = tracer->was_dry;
    cr_free(tracer->storages);
    cr_free(tracer->table);
    tracer->storages = NULL;
    tracer->table = NULL;
}

void cr_tracer_forget_views(cr_tracer *tracer) {
    for (int i = 0; i < tracer->storage_count; i++)
        for (int v = 0; v < tracer->storages[i].view_count; v++)
            tracer->storages[i].views[v].value = NULL;
}

bool cr_tracer_finish_states(cr_tracer *tracer) {
    for (int i = 0; i < tracer->storage_count; i++) {
        const cr_traced_storage *storage = &tracer->storages[i];
        if (storage->state < 0) continue;
        cr_state *state = &tracer->graph->states[storage->state];
        if (state->kind != CR_STATE_CONSTANT && storage->value != state->value) state->update = storage->value;
    }
    return true;
}
