/* Programs on disk: a safetensors file whose metadata holds the graph's text. Any reader of safetensors sees the
 * weights. */
#include "jit/prepared.h"

#include <string.h>

#define TEXT_KEY   "cresset.graph"
#define FROZEN_KEY "cresset.frozen"

CR_OPTION_DEFAULTS(jit_save, CR_JIT_SAVE_OPTIONS)

/* ---------------------------------------------------------------- saving */
typedef struct file_part {
    cr_named_tensor *rows;
    char (*names)[CR_PREPARED_NAME];
    int count;
} file_part;

static bool list_tensors(file_part *list, const cr_graph *graph, const cr_preparation *prepared) {
    list->rows = cr_calloc((size_t)(graph->state_count + prepared->count) + 1, sizeof *list->rows);
    list->names = cr_calloc((size_t)prepared->count + 1, sizeof *list->names);
    if (!list->rows || !list->names) return false;
    for (int i = 0; i < graph->state_count; i++) {
        const cr_state *state = &graph->states[i];
        if (!state->tensor) return cr_fail(CR_ERROR_STATE, "jit_save: the state \"%s\" has no values", state->name);
        list->rows[list->count++] = (cr_named_tensor){state->name, state->tensor};
    }
    for (int i = 0; i < prepared->count; i++) {
        cr_prepared_name(list->names[i], i);
        list->rows[list->count++] = (cr_named_tensor){list->names[i], prepared->tensors[i]};
    }
    return true;
}

static bool save(const cr_graph *graph, const char *path, const cr_preparation *prepared) {
    char *text = cr_jit_text(graph);
    file_part list = {NULL};
    const cr_text_pair metadata[] = {
        {TEXT_KEY, text}, {FROZEN_KEY, graph->is_frozen ? "true" : "false"}, {CR_PREPARED_KEY, prepared->text.at}};
    const bool done = text && list_tensors(&list, graph, prepared) &&
                      cr_safetensors_save(path, list.rows, list.count, metadata, prepared->text.at ? 3 : 2);
    cr_free(list.rows);
    cr_free(list.names);
    cr_free(text);
    return done;
}

bool cr_jit_save_with(const cr_graph *graph, const char *path, const cr_jit_save_options *options) {
    cr_jit_save_options o = jit_save_defaults;
    cr_preparation prepared = {{0}};
    if (options) memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    if (!graph || !path) return cr_ok() && cr_fail(CR_ERROR_ARGUMENT, "jit_save: NULL graph or path");
    const bool done = (!o.prepare || cr_preparation_make(&prepared, graph, o.prepare)) && save(graph, path, &prepared);
    cr_preparation_free(&prepared);
    return done;
}

/* ---------------------------------------------------------------- loading */
/* The state's tensor from the file, on the device; a state that runs update gets a copy, since the mapping is shared by
 * pages. */
static bool load_state(cr_state *state, cr_safetensors *file, cr_device device) {
    char given[224], expected[192];
    cr_tensor *t = cr_safetensors_tensor(file, state->name);
    if (!t) return false;
    if (t->dtype != (int8_t)state->value->dtype || !cr_shape_equal(cr_tensor_shape(t), state->value->shape))
        return cr_fail(CR_ERROR_FORMAT, "jit_load: \"%s\" is %s in the file, the graph says %s%s", state->name,
                       cr_describe(t, given), cr_dtype_name(state->value->dtype),
                       cr_shape_format(state->value->shape, expected));
    t = cr_to_device(t, device);
    if (t && state->update && cr_device_equal(device, CR_CPU)) t = cr_clone(t);
    state->tensor = cr_retain(t);
    return t != NULL;
}

static void move_values(cr_value *const *values, int count, cr_device device) {
    for (int i = 0; i < count; i++)
        if (values[i]) values[i]->device = device;
}

static bool move_node(cr_graph *graph, cr_block *block, cr_graph_node *node, void *context) {
    (void)graph, (void)block;
    const cr_device device = *(const cr_device *)context;
    move_values(node->outputs, node->output_count, device);
    for (int b = 0; b < node->block_count; b++)
        move_values(node->blocks[b]->inputs, node->blocks[b]->input_count, device);
    for (int i = 0; i < node->op->attribute_count; i++)
        if (node->op->attributes[i].kind == CR_ATTRIBUTE_DEVICE)
            *(cr_device *)(void *)((char *)node->attributes + node->op->attributes[i].offset) = device;
    return true;
}

/* A program of one device runs on any one: all its values go there. */
static bool move_graph(cr_graph *graph, cr_device device) {
    move_values(graph->body.inputs, graph->body.input_count, device);
    for (int i = 0; i < graph->state_count; i++)
        graph->states[i].value->device = device;
    return cr_graph_each(graph, move_node, &device);
}

static bool load_states(cr_graph *graph, cr_device device) {
    bool updates = false, done = true;
    for (int i = 0; i < graph->state_count; i++)
        updates |= graph->states[i].update != NULL;
    const char *frozen = cr_safetensors_metadata(graph->file, FROZEN_KEY);
    graph->is_frozen = !updates || (frozen && !strcmp(frozen, "true"));
    CR_SCOPE {
        for (int i = 0; done && i < graph->state_count; i++)
            done = load_state(&graph->states[i], graph->file, device);
    }
    return done && move_graph(graph, device) && (device.type != CR_DEVICE_CPU || cr_prepared_read(graph));
}

cr_graph *cr_jit_load(const char *path, cr_device device) {
    cr_safetensors *file = cr_safetensors_open(path);
    if (!file) return NULL;
    const char *text = cr_safetensors_metadata(file, TEXT_KEY);
    cr_graph *graph = NULL;
    if (!text)
        cr_record_error(CR_ERROR_FORMAT, "jit_load: %s holds tensors but no program; cr_jit_save writes one", path);
    else
        graph = cr_graph_parse(text, strlen(text));
    if (!graph) {
        cr_safetensors_close(file);
        return NULL;
    }
    graph->file = file;
    if (load_states(graph, device)) return graph;
    cr_jit_free(graph);
    return NULL;
}
