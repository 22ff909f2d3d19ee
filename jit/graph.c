/* Building graphs and changing them. */
#include "jit/graph.h"

#include <stdarg.h>
#include <string.h>

/* ---------------------------------------------------------------- building */
cr_graph *cr_graph_new(void) { return cr_calloc(1, sizeof(cr_graph)); }

const char *cr_graph_text_copy(cr_graph *graph, const char *text) {
    if (!text) return NULL;
    const size_t bytes = strlen(text) + 1;
    char *copy = cr_pool_allocate(&graph->pool, bytes);
    return copy ? memcpy(copy, text, bytes) : NULL;
}

cr_value *cr_graph_value(cr_graph *graph, cr_dtype dtype, const cr_shape *shape, cr_device device) {
    cr_value *value = cr_pool_allocate(&graph->pool, sizeof *value);
    if (!value) return NULL;
    value->dtype = dtype;
    value->device = device;
    value->shape = *shape;
    return value;
}

static void link_node(cr_block *block, cr_graph_node *node, cr_graph_node *before) {
    node->next = before;
    node->previous = before ? before->previous : block->last;
    *(node->previous ? &node->previous->next : &block->first) = node;
    *(before ? &before->previous : &block->last) = node;
}

cr_graph_node *cr_graph_add(cr_graph *graph, cr_block *block, cr_graph_node *before, const cr_op *op,
                            const void *attributes, cr_value *const *inputs, int input_count, int output_count) {
    cr_graph_node *node = cr_pool_allocate(&graph->pool, sizeof *node);
    cr_value **operands = cr_pool_allocate(&graph->pool, (size_t)(input_count + output_count + 1) * sizeof *operands);
    void *copied = op->attribute_bytes ? cr_pool_allocate(&graph->pool, op->attribute_bytes) : NULL;
    if (!node || !operands || (op->attribute_bytes && !copied)) return NULL;
    if (copied) memcpy(copied, attributes ? attributes : op->defaults, op->attribute_bytes);
    if (input_count) memcpy(operands, inputs, (size_t)input_count * sizeof *operands);
    node->op = op;
    node->attributes = copied;
    node->inputs = operands;
    node->input_count = input_count;
    node->outputs = operands + input_count;
    node->output_count = output_count;
    link_node(block, node, before);
    return node;
}

void cr_graph_set_output(cr_graph_node *node, int index, cr_value *value) {
    node->outputs[index] = value;
    if (!value) return;
    value->producer = node;
    value->output = index;
}

void cr_graph_remove(cr_block *block, cr_graph_node *node) {
    *(node->previous ? &node->previous->next : &block->first) = node->next;
    *(node->next ? &node->next->previous : &block->last) = node->previous;
}

cr_block *cr_graph_new_block(cr_graph *graph) { return cr_pool_allocate(&graph->pool, sizeof(cr_block)); }

static bool push_value(cr_graph *graph, cr_value ***list, int *count, cr_value *value) {
    cr_value **grown = cr_pool_grow(&graph->pool, *list, *count, sizeof *grown);
    if (!grown) return false;
    *list = grown;
    grown[(*count)++] = value;
    return true;
}

bool cr_block_add_input(cr_graph *graph, cr_block *block, cr_value *value) {
    return push_value(graph, &block->inputs, &block->input_count, value);
}

bool cr_block_add_output(cr_graph *graph, cr_block *block, cr_value *value) {
    return push_value(graph, &block->outputs, &block->output_count, value);
}

cr_state *cr_graph_add_state(cr_graph *graph, cr_state_kind kind, const char *name, cr_value *value,
                             cr_tensor *tensor) {
    cr_state *grown = cr_pool_grow(&graph->pool, graph->states, graph->state_count, sizeof *grown);
    const char *copied = cr_graph_text_copy(graph, name);
    if (!grown || !copied) return NULL;
    graph->states = grown;
    cr_state *state = &grown[graph->state_count++];
    *state = (cr_state){.kind = kind, .name = copied, .value = value, .tensor = cr_retain(tensor), .gradient_of = -1};
    return state;
}

bool cr_graph_add_gradient(cr_graph *graph, int state, cr_value *value, bool accumulates) {
    cr_gradient *grown = cr_pool_grow(&graph->pool, graph->gradients, graph->gradient_count, sizeof *grown);
    if (!grown) return false;
    graph->gradients = grown;
    grown[graph->gradient_count++] = (cr_gradient){state, value, accumulates};
    return true;
}

void cr_graph_warn(cr_graph *graph, const char *format, ...) {
    char text[CR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format,
              arguments); /* NOLINT(clang-analyzer-valist.Uninitialized): it is started above */
    va_end(arguments);
    for (int i = 0; i < graph->warning_count; i++)
        if (!strcmp(graph->warnings[i], text)) return;
    const char **grown = cr_pool_grow(&graph->pool, graph->warnings, graph->warning_count, sizeof *grown);
    const char *copied = cr_graph_text_copy(graph, text);
    if (!grown || !copied) return;
    graph->warnings = grown;
    grown[graph->warning_count++] = copied;
}

/* ---------------------------------------------------------------- mutated operands */
int cr_graph_output_count(const cr_op *op, const void *attributes, void *const *inputs, int input_count) {
    const unsigned mutates = cr_op_mutates(op, attributes ? attributes : op->defaults);
    int count = op->output_total;
    for (int i = 0; i < input_count && i < 32; i++)
        count += (mutates >> i & 1) && inputs[i];
    return count;
}

int cr_graph_mutated_input(const cr_graph_node *node, int index) {
    const unsigned mutates = cr_op_mutates(node->op, node->attributes);
    int left = index - node->op->output_total;
    for (int i = 0; i < node->input_count && i < 32; i++)
        if ((mutates >> i & 1) && node->inputs[i] && left-- == 0) return i;
    return -1;
}

/* ---------------------------------------------------------------- passes' tools */
/* Calls visit with the address of every use of a value. */
static void each_use_in(cr_block *block, void (*visit)(cr_value **use)) {
    for (cr_graph_node *node = block->first; node; node = node->next) {
        for (int i = 0; i < node->input_count; i++)
            if (node->inputs[i]) visit(&node->inputs[i]);
        for (int b = 0; b < node->block_count; b++)
            each_use_in(node->blocks[b], visit);
    }
    for (int i = 0; i < block->output_count; i++)
        visit(&block->outputs[i]);
}

static void each_use(cr_graph *graph, void (*visit)(cr_value **use)) {
    each_use_in(&graph->body, visit);
    for (int i = 0; i < graph->state_count; i++)
        if (graph->states[i].update) visit(&graph->states[i].update);
    for (int i = 0; i < graph->gradient_count; i++)
        visit(&graph->gradients[i].value);
}

static void resolve_use(cr_value **use) { *use = cr_value_resolve(*use); }
void cr_graph_apply(cr_graph *graph) { each_use(graph, resolve_use); }

static void forget_uses(cr_value **use) { (*use)->uses = 0; }
static void count_use(cr_value **use) { (*use)->uses++; }

static bool forget_outputs(cr_graph *graph, cr_block *block, cr_graph_node *node, void *context) {
    (void)graph, (void)block, (void)context;
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i]) node->outputs[i]->uses = 0;
    return true;
}

void cr_graph_count_uses(cr_graph *graph) {
    cr_graph_each(graph, forget_outputs, NULL);
    for (int i = 0; i < graph->body.input_count; i++)
        graph->body.inputs[i]->uses = 0;
    for (int i = 0; i < graph->state_count; i++)
        graph->states[i].value->uses = 0;
    each_use(graph, forget_uses);
    each_use(graph, count_use);
}

static void number_values(cr_value *const *values, int count, int *next) {
    for (int i = 0; i < count; i++)
        if (values[i]) values[i]->id = (*next)++;
}

static void number_block(cr_block *block, int *next) {
    int index = 0;
    number_values(block->inputs, block->input_count, next);
    for (cr_graph_node *node = block->first; node; node = node->next) {
        node->index = index++;
        number_values(node->outputs, node->output_count, next);
        for (int b = 0; b < node->block_count; b++)
            number_block(node->blocks[b], next);
    }
}

int cr_graph_number(cr_graph *graph) {
    int next = 0;
    for (int i = 0; i < graph->state_count; i++)
        graph->states[i].value->id = next++;
    number_block(&graph->body, &next);
    return next;
}

static bool each_node(cr_graph *graph, cr_block *block, bool (*visit)(cr_graph *, cr_block *, cr_graph_node *, void *),
                      void *context) {
    for (cr_graph_node *node = block->first, *next; node; node = next) {
        next = node->next;
        for (int b = 0; b < node->block_count; b++)
            if (!each_node(graph, node->blocks[b], visit, context)) return false;
        if (!visit(graph, block, node, context)) return false;
    }
    return true;
}

bool cr_graph_each(cr_graph *graph, bool (*visit)(cr_graph *, cr_block *, cr_graph_node *, void *), void *context) {
    return each_node(graph, &graph->body, visit, context);
}

static bool count_node(cr_graph *graph, cr_block *block, cr_graph_node *node, void *context) {
    (void)graph, (void)block, (void)node;
    ++*(int *)context;
    return true;
}

int cr_graph_node_count(const cr_graph *graph) {
    int count = 0;
    cr_graph_each((cr_graph *)(uintptr_t)graph, count_node, &count);
    return count;
}

/* ---------------------------------------------------------------- copying: value->note holds the copy meanwhile */
static cr_value *copy_value(cr_graph *to, cr_value *value) {
    cr_value *copy = cr_graph_value(to, value->dtype, &value->shape, value->device);
    if (!copy) return NULL;
    if (value->extents) {
        const size_t bytes = (size_t)value->shape.count * sizeof *value->extents;
        if (!(copy->extents = cr_pool_allocate(&to->pool, bytes + 1))) return NULL;
        memcpy(copy->extents, value->extents, bytes);
    }
    value->note = copy;
    return copy;
}

static bool copy_block(cr_graph *to, cr_block *target, const cr_block *block);

static bool copy_node(cr_graph *to, cr_block *target, const cr_graph_node *node) {
    cr_value *inputs[CR_MAX_INPUTS];
    for (int i = 0; i < node->input_count; i++)
        inputs[i] = node->inputs[i] ? node->inputs[i]->note : NULL;
    cr_graph_node *copy =
        cr_graph_add(to, target, NULL, node->op, node->attributes, inputs, node->input_count, node->output_count);
    if (!copy) return false;
    copy->bound_count = node->bound_count;
    copy->bound = cr_pool_allocate(&to->pool, (size_t)node->bound_count * sizeof *copy->bound + 1);
    copy->source = cr_graph_text_copy(to, node->source);
    copy->blocks = cr_pool_allocate(&to->pool, (size_t)node->block_count * sizeof *copy->blocks + 1);
    if (!copy->bound || !copy->blocks || (node->source && !copy->source)) return false;
    if (node->bound_count) memcpy(copy->bound, node->bound, (size_t)node->bound_count * sizeof *copy->bound);
    for (int i = 0; i < node->output_count; i++) {
        if (!node->outputs[i]) continue;
        cr_graph_set_output(copy, i, copy_value(to, node->outputs[i]));
        if (!copy->outputs[i]) return false;
    }
    for (; copy->block_count < node->block_count; copy->block_count++) {
        cr_block *inner = copy->blocks[copy->block_count] = cr_graph_new_block(to);
        if (!inner || !copy_block(to, inner, node->blocks[copy->block_count])) return false;
    }
    return true;
}

static bool copy_block(cr_graph *to, cr_block *target, const cr_block *block) {
    for (int i = 0; i < block->input_count; i++) {
        cr_value *input = copy_value(to, block->inputs[i]);
        if (!input || !cr_block_add_input(to, target, input)) return false;
    }
    for (const cr_graph_node *node = block->first; node; node = node->next)
        if (!copy_node(to, target, node)) return false;
    for (int i = 0; i < block->output_count; i++)
        if (!cr_block_add_output(to, target, block->outputs[i]->note)) return false;
    return true;
}

static const char **copy_names(cr_graph *to, const char *const *names, int count) {
    const char **copy = cr_pool_allocate(&to->pool, (size_t)count * sizeof *copy + 1);
    for (int i = 0; copy && names && i < count; i++)
        if (names[i] && !(copy[i] = cr_graph_text_copy(to, names[i]))) return NULL;
    return copy;
}

static bool copy_contents(cr_graph *to, const cr_graph *graph) {
    to->symbol_count = graph->symbol_count;
    to->is_frozen = graph->is_frozen;
    to->is_for_reading = graph->is_for_reading;
    for (int i = 0; i < graph->symbol_count; i++)
        if (!(to->symbols[i].name = cr_graph_text_copy(to, graph->symbols[i].name)))
            return false;
        else
            to->symbols[i].value = graph->symbols[i].value;
    for (int i = 0; i < graph->state_count; i++) {
        const cr_state *state = &graph->states[i];
        cr_value *value = copy_value(to, state->value);
        cr_state *copy = value ? cr_graph_add_state(to, state->kind, state->name, value, state->tensor) : NULL;
        if (!copy) return false;
        copy->gradient_of = state->gradient_of;
    }
    if (!copy_block(to, &to->body, &graph->body)) return false;
    for (int i = 0; i < graph->state_count; i++)
        if (graph->states[i].update) to->states[i].update = graph->states[i].update->note;
    for (int i = 0; i < graph->gradient_count; i++)
        if (!cr_graph_add_gradient(to, graph->gradients[i].state, graph->gradients[i].value->note,
                                   graph->gradients[i].accumulates))
            return false;
    to->input_names = copy_names(to, graph->input_names, graph->body.input_count);
    to->output_names = copy_names(to, graph->output_names, graph->body.output_count);
    return to->input_names && to->output_names;
}

cr_graph *cr_graph_copy(const cr_graph *graph) {
    cr_graph *copy = cr_graph_new();
    if (!copy || copy_contents(copy, graph)) return copy;
    cr_jit_free(copy);
    return NULL;
}

cr_graph *cr_graph_of_block(const cr_block *block, bool is_frozen) {
    cr_graph *graph = cr_graph_new();
    if (!graph) return NULL;
    graph->is_frozen = is_frozen;
    if (copy_block(graph, &graph->body, block)) return graph;
    cr_jit_free(graph);
    return NULL;
}
