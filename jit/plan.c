/* Making a plan: a dry run of the graph gives every value its geometry; then it is decided what shares memory with
 * what. */
#include "jit/plan.h"

#include "jit/control.h"
#include "jit/fused.h"

#include <string.h>

typedef struct builder {
    cr_plan *plan;
    cr_graph *graph;
    cr_tensor **hollow; /* by plan tensor: what infer and view functions see */
    int *tensor_of;     /* by value id; -1: not yet */
    int *root;          /* by value id: the value whose memory it looks into */
    int *last_use;      /* by value id of a root: the last node that reads any view of it */
    int *state_of;      /* by value id: the state that the value becomes, or -1 */
    int now;
} builder;

/* ---------------------------------------------------------------- lists */
static int add_storage(builder *b, cr_place place, int index, cr_device device, size_t bytes) {
    cr_plan *plan = b->plan;
    cr_plan_storage *grown = cr_pool_grow(&plan->pool, plan->storages, plan->storage_count, sizeof *grown);
    if (!grown) return -1;
    plan->storages = grown;
    grown[plan->storage_count] = (cr_plan_storage){
        .place = place, .index = index, .device = device, .bytes = bytes, .first = b->now, .last = b->now};
    return plan->storage_count++;
}

/* A plan tensor with t's geometry on a storage. Returns its index, or -1. */
static int add_tensor(builder *b, cr_tensor *t, int storage) {
    cr_plan *plan = b->plan;
    if (!t || storage < 0) return -1;
    cr_plan_tensor *grown = cr_pool_grow(&plan->pool, plan->tensors, plan->tensor_count, sizeof *grown);
    cr_tensor **hollow = cr_pool_grow(&plan->pool, b->hollow, plan->tensor_count, sizeof *hollow);
    if (!grown || !hollow) return -1;
    plan->tensors = grown;
    b->hollow = hollow;
    hollow[plan->tensor_count] = t;
    grown[plan->tensor_count] =
        (cr_plan_tensor){storage, (cr_dtype)t->dtype, cr_tensor_shape(t), cr_strides_of(t), t->offset, t->numel};
    return plan->tensor_count++;
}

static int fresh_tensor(builder *b, const cr_spec *spec, cr_device device, cr_place place, int index) {
    cr_shape strides;
    if (spec->channels_last) cr_channels_last_strides(spec->shape, &strides);
    cr_tensor *t = cr_empty_hollow(spec->dtype, spec->shape, spec->channels_last ? &strides : NULL, device);
    return t ? add_tensor(b, t, add_storage(b, place, index, device, t->storage->bytes)) : -1;
}

static cr_plan_storage *storage_of(const builder *b, int tensor) {
    return &b->plan->storages[b->plan->tensors[tensor].storage];
}

static cr_plan_step *add_step(builder *b, const cr_op *op, const void *attributes, const int *inputs, int input_count,
                              const int *outputs, int output_count) {
    cr_plan *plan = b->plan;
    cr_plan_step *grown = cr_pool_grow(&plan->pool, plan->steps, plan->step_count, sizeof *grown);
    int *operands = cr_pool_allocate(&plan->pool, (size_t)(input_count + output_count + 1) * sizeof *operands);
    if (!grown || !operands) return NULL;
    plan->steps = grown;
    if (input_count) memcpy(operands, inputs, (size_t)input_count * sizeof *operands);
    if (output_count) memcpy(operands + input_count, outputs, (size_t)output_count * sizeof *operands);
    cr_plan_step *step = &grown[plan->step_count++];
    *step = (cr_plan_step){.op = op,
                           .attributes = attributes ? attributes : op->defaults,
                           .inputs = operands,
                           .input_count = input_count,
                           .outputs = operands + input_count,
                           .output_count = output_count};
    for (int i = 0; i < input_count + output_count; i++) {
        if (operands[i] < 0) continue;
        cr_plan_storage *storage = storage_of(b, operands[i]);
        if (storage->last < b->now) storage->last = b->now;
        step->device = storage->device;
    }
    step->kernel = atomic_load(&((cr_op *)(uintptr_t)op)->kernels[step->device.type]);
    return step;
}

/* A copy of tensor `from` (also to another layout) in `to`. */
static bool add_copy(builder *b, int from, int to) {
    const cr_op *identity = cr_op_find("identity");
    return from >= 0 && to >= 0 && identity && add_step(b, identity, NULL, &from, 1, &to, 1);
}

static int copy_of(builder *b, int tensor, cr_place place, int index) {
    const cr_plan_tensor *t = &b->plan->tensors[tensor];
    const cr_spec spec = {t->dtype, false, t->shape};
    const int copy = fresh_tensor(b, &spec, storage_of(b, tensor)->device, place, index);
    return add_copy(b, tensor, copy) ? copy : -1;
}

/* ---------------------------------------------------------------- who reads what until when */
static void note_use(builder *b, const cr_value *value, int when) {
    int *last = &b->last_use[b->root[value->id]];
    if (*last < when) *last = when;
}

static bool analyse(builder *b) {
    cr_graph *graph = b->graph;
    const int values = cr_graph_number(graph);
    int *lists = cr_pool_allocate(&b->plan->pool, 4 * (size_t)values * sizeof *lists + 1);
    if (!lists) return false;
    b->tensor_of = lists;
    b->root = lists + values;
    b->last_use = lists + 2 * values;
    b->state_of = lists + 3 * values;
    for (int i = 0; i < values; i++) {
        b->tensor_of[i] = b->last_use[i] = b->state_of[i] = -1;
        b->root[i] = i;
    }
    int when = 0;
    for (const cr_graph_node *node = graph->body.first; node; node = node->next, when++) {
        const bool is_view = node->op->flags & CR_OP_VIEW;
        for (int i = 0; i < node->output_count && is_view; i++)
            if (node->outputs[i]) b->root[node->outputs[i]->id] = b->root[node->inputs[0]->id];
        for (int i = 0; i < node->input_count; i++)
            if (node->inputs[i]) note_use(b, node->inputs[i], when);
    }
    for (int i = 0; i < cr_plan_result_count(b->plan); i++)
        note_use(b, cr_plan_result(b->plan, i), when);
    for (int i = 0; i < graph->state_count; i++) {
        if (!graph->states[i].update) continue;
        note_use(b, graph->states[i].update, when);
        b->state_of[graph->states[i].update->id] = i;
    }
    b->plan->time_count = when + 1;
    return true;
}

/* ---------------------------------------------------------------- what comes from outside */
static bool add_inputs(builder *b) {
    const cr_block *body = &b->graph->body;
    for (int i = 0; i < body->input_count; i++) {
        const cr_spec spec = {body->inputs[i]->dtype, false, body->inputs[i]->shape};
        const int tensor = fresh_tensor(b, &spec, body->inputs[i]->device, CR_PLACE_INPUT, i);
        if (tensor < 0) return false;
        b->plan->inputs[i] = b->tensor_of[body->inputs[i]->id] = tensor;
    }
    return true;
}

static bool add_states(builder *b) {
    for (int i = 0; i < b->graph->state_count; i++) {
        const cr_state *state = &b->graph->states[i];
        b->plan->states[i] = -1;
        if (b->last_use[state->value->id] < 0 && !state->update) continue;
        if (!state->tensor)
            return cr_fail(CR_ERROR_STATE, "jit: the state \"%s\" has no values: the graph was read from text alone",
                           state->name);
        const cr_shape shape = cr_tensor_shape(state->tensor), strides = cr_strides_of(state->tensor);
        cr_tensor *t = cr_empty_hollow((cr_dtype)state->tensor->dtype, shape, &strides, state->tensor->device);
        const int tensor = t ? add_tensor(b, t, add_storage(b, CR_PLACE_STATE, i, t->device, t->storage->bytes)) : -1;
        if (tensor < 0) return false;
        b->plan->states[i] = b->tensor_of[state->value->id] = tensor;
    }
    return true;
}

/* ---------------------------------------------------------------- nodes */
static void hollow_operands(const builder *b, const int *inputs, int count, cr_tensor **tensors) {
    for (int i = 0; i < count; i++)
        tensors[i] = inputs[i] < 0 ? NULL : b->hollow[inputs[i]];
}

static bool plan_view(builder *b, cr_graph_node *node, int *inputs) {
    cr_tensor *operands[CR_MAX_INPUTS] = {NULL}, *outputs[CR_MAX_OUTPUTS] = {NULL};
    cr_call call = {.op = node->op,
                    .inputs = operands,
                    .input_count = node->input_count,
                    .outputs = outputs,
                    .output_count = node->output_count,
                    .attributes = node->attributes};
    hollow_operands(b, inputs, node->input_count, operands);
    if (!node->op->view(&call)) { /* memory that cannot be seen that way: a copy can */
        if (cr_last_error()->code == CR_ERROR_MEMORY) return false;
        cr_clear_error();
        if ((inputs[0] = copy_of(b, inputs[0], CR_PLACE_ARENA, 0)) < 0) return false;
        hollow_operands(b, inputs, node->input_count, operands);
        if (!node->op->view(&call)) return false;
    }
    for (int i = 0; i < node->output_count; i++) {
        const int tensor = add_tensor(b, outputs[i], b->plan->tensors[inputs[0]].storage);
        if (tensor < 0) return false;
        if (node->outputs[i]) b->tensor_of[node->outputs[i]->id] = tensor;
    }
    return true;
}

/* Operands that the op writes: in their own place where nobody reads the old value later, else in a copy. */
static bool plan_mutations(builder *b, const cr_graph_node *node, int *inputs) {
    for (int k = cr_graph_declared_outputs(node); k < node->output_count; k++) {
        const int i = cr_graph_mutated_input(node, k);
        const int root = b->root[node->inputs[i]->id];
        const cr_plan_storage *storage = storage_of(b, inputs[i]);
        const bool lasting = storage->place == CR_PLACE_INPUT ||
                             (storage->place == CR_PLACE_STATE && !b->graph->states[storage->index].update);
        const bool read_later = b->last_use[root] > b->now;
        if ((lasting || read_later) && (inputs[i] = copy_of(b, inputs[i], CR_PLACE_ARENA, 0)) < 0) return false;
        if (node->outputs[k]) b->tensor_of[node->outputs[k]->id] = inputs[i];
    }
    return true;
}

static bool same_layout(const cr_plan_tensor *t, const cr_spec *spec) {
    cr_shape strides;
    if (!cr_shape_equal(t->shape, spec->shape)) return false;
    if (spec->channels_last)
        cr_channels_last_strides(spec->shape, &strides);
    else
        cr_contiguous_strides(spec->shape, &strides);
    for (int d = 0; d < t->shape.count; d++)
        if (t->shape.at[d] != 1 && t->strides.at[d] != strides.at[d]) return false;
    return true;
}

/* Element i of this result depends on element i of the operands alone. */
static bool is_elementwise(const cr_graph_node *node, int index) {
    return (node->op->flags & CR_OP_POINTWISE) || cr_is_fused(node) || (cr_is_fused_reduction(node) && index > 0);
}

/* The result is its first operand with parts written anew. */
static bool rewrites(const builder *b, const cr_graph_node *node, int index) {
    return (node->op->flags & CR_OP_REWRITES) && index == 0 && !b->graph->supports;
}

/* Every operand on `storage` sees it as the result will: writing the result overwrites only what was just read, or what
 * is written anew. */
static bool may_overwrite(const builder *b, const cr_graph_node *node, int index, const int *inputs, int storage,
                          const cr_spec *spec) {
    if (!is_elementwise(node, index) && !rewrites(b, node, index)) return false;
    for (int i = 0; i < node->input_count; i++) {
        const cr_plan_tensor *t = inputs[i] < 0 ? NULL : &b->plan->tensors[inputs[i]];
        if (!t || t->storage != storage) continue;
        if (!same_layout(t, spec) || t->offset != 0 || cr_dtype_size(t->dtype) != cr_dtype_size(spec->dtype) ||
            (i > 0 && rewrites(b, node, index)))
            return false;
    }
    return true;
}

/* A result may take the place of an operand that ends here; `taken` are the results that have a place. */
static int place_in_operand(builder *b, const cr_graph_node *node, const int *inputs, const cr_spec *spec,
                            const int *taken, int taken_count) {
    for (int i = 0; i < node->input_count; i++) {
        if (inputs[i] < 0) continue;
        const cr_plan_tensor *t = &b->plan->tensors[inputs[i]];
        const cr_plan_storage *storage = &b->plan->storages[t->storage];
        bool free = storage->place == CR_PLACE_ARENA && b->last_use[b->root[node->inputs[i]->id]] <= b->now &&
                    (size_t)t->numel * cr_dtype_size(t->dtype) == storage->bytes && same_layout(t, spec);
        for (int k = 0; k < taken_count; k++)
            free &= b->plan->tensors[taken[k]].storage != t->storage;
        if (free && may_overwrite(b, node, taken_count, inputs, t->storage, spec)) return t->storage;
    }
    return -1;
}

/* The value that a state becomes may be made in the state's own place, once the old one is read for the last time. */
static int place_in_state(const builder *b, const cr_graph_node *node, const int *inputs, int index,
                          const cr_spec *spec) {
    const cr_value *value = node->outputs[index];
    const int state = b->state_of[value->id];
    if (state < 0 || b->plan->states[state] < 0) return -1;
    const cr_plan_tensor *t = &b->plan->tensors[b->plan->states[state]];
    const int last = b->last_use[b->graph->states[state].value->id];
    const bool in_time = last < b->now || (last == b->now && may_overwrite(b, node, index, inputs, t->storage, spec));
    return in_time && t->dtype == spec->dtype && t->offset == 0 && same_layout(t, spec) ? t->storage : -1;
}

/* Where result `index` lies; `made` are the results before it. */
static int plan_output(builder *b, const cr_graph_node *node, const int *inputs, int index, const cr_spec *spec,
                       cr_device device, const int *made) {
    cr_shape strides;
    int storage = node->outputs[index] ? place_in_state(b, node, inputs, index, spec) : -1;
    if (storage < 0) storage = place_in_operand(b, node, inputs, spec, made, index);
    if (storage < 0) return fresh_tensor(b, spec, device, CR_PLACE_ARENA, 0);
    if (spec->channels_last) cr_channels_last_strides(spec->shape, &strides);
    cr_tensor *t = cr_empty_hollow(spec->dtype, spec->shape, spec->channels_last ? &strides : NULL, device);
    return add_tensor(b, t, storage);
}

/* Specs of the results: as infer says, or the block. */
static bool infer_node(const cr_graph_node *node, cr_call *call) {
    if (node->op->flags & CR_OP_BLOCKS) {
        for (int i = 0; i < node->output_count; i++) {
            cr_spec_set(call, i, node->outputs[i]->dtype, node->outputs[i]->shape);
            call->specs[i].channels_last = node->op->program_at && is_elementwise(node, i) &&
                                           cr_pointwise_keeps_channels_last(call, &call->specs[i].shape);
        }
        return true;
    }
    if (node->op->flags & CR_OP_READS_HOST)
        return cr_fail(CR_ERROR_UNSUPPORTED, "jit: %s gives sizes that depend on values, which a plan cannot hold",
                       node->op->name);
    return node->op->infer ? node->op->infer(call)
                           : cr_fail(CR_ERROR_UNSUPPORTED, "jit: %s cannot be planned", node->op->name);
}

static bool plan_call(builder *b, cr_graph_node *node, int *inputs) {
    cr_tensor *operands[CR_MAX_INPUTS] = {NULL}, *made[CR_MAX_INPUTS] = {NULL};
    cr_spec specs[CR_MAX_INPUTS] = {{0}};
    int outputs[CR_MAX_INPUTS];
    const int count = cr_graph_declared_outputs(node);
    if (!plan_mutations(b, node, inputs)) return false;
    cr_call call = {.op = node->op,
                    .inputs = operands,
                    .input_count = node->input_count,
                    .outputs = made,
                    .output_count = count,
                    .attributes = node->attributes,
                    .specs = specs};
    hollow_operands(b, inputs, node->input_count, operands);
    for (int i = 0; i < node->input_count; i++)
        if (operands[i]) call.device = operands[i]->device;
    if (!infer_node(node, &call)) return false;
    for (int i = 0; i < count; i++) {
        if ((outputs[i] = plan_output(b, node, inputs, i, &specs[i], call.device, outputs)) < 0) return false;
        made[i] = b->hollow[outputs[i]];
        if (!node->outputs[i]) continue;
        if (!cr_shape_equal(specs[i].shape, node->outputs[i]->shape) || specs[i].dtype != node->outputs[i]->dtype)
            return cr_fail(CR_ERROR_SHAPE, "jit: %s gives another shape or dtype than the graph says", node->op->name);
        b->tensor_of[node->outputs[i]->id] = outputs[i];
    }
    cr_kernel kernel = NULL;
    const void *attributes = cr_has_program(node)
                                 ? cr_fused_attributes(&b->plan->pool, node, made, operands, !b->graph->supports)
                                 : node->attributes;
    if (!attributes && cr_has_program(node)) return false;
    if ((node->op->flags & CR_OP_BLOCKS) && !cr_has_program(node) &&
        !cr_control_plan(b->plan, node, &kernel, &attributes))
        return false;
    cr_plan_step *step = add_step(b, node->op, attributes, inputs, node->input_count, outputs, count);
    if (!step) return false;
    step->node = node;
    if (kernel) step->kernel = kernel;
    return step->kernel || cr_fail(CR_ERROR_UNSUPPORTED, "jit: %s has no kernel here", node->op->name);
}

static bool plan_node_inside(builder *b, cr_graph_node *node) {
    int inputs[CR_MAX_INPUTS] = {0};
    for (int i = 0; i < node->input_count; i++) {
        inputs[i] = node->inputs[i] ? b->tensor_of[node->inputs[i]->id] : -1;
        if (node->inputs[i] && inputs[i] < 0)
            return cr_fail(CR_ERROR_STATE, "jit: %s reads a value that has no place", node->op->name);
    }
    if (node->op->flags & CR_OP_VIEW) return plan_view(b, node, inputs);
    return plan_call(b, node, inputs);
}

static bool plan_node(builder *b, cr_graph_node *node) {
    cr_thread *thread = cr_thread_self();
    cr_frame frame;
    cr_frame_push(thread, &frame, node->op->name, node->source); /* errors say which node */
    const bool done = plan_node_inside(b, node);
    cr_frame_pop(thread, &frame);
    return done;
}

/* ---------------------------------------------------------------- what leaves */
static bool same_tensor(const cr_plan_tensor *a, const cr_plan_tensor *b) {
    return a->storage == b->storage && a->offset == b->offset && cr_shape_equal(a->shape, b->shape) &&
           !memcmp(a->strides.at, b->strides.at, (size_t)a->shape.count * sizeof a->strides.at[0]);
}

/* States that were not updated in place; first those whose new value looks into another state are saved from being
 * overwritten. */
static bool finish_states(builder *b) {
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < b->graph->state_count; i++) {
            const cr_value *update = b->graph->states[i].update;
            if (!update) continue;
            int *tensor = &b->tensor_of[update->id];
            const cr_plan_storage *storage = storage_of(b, *tensor);
            const bool own = storage->place == CR_PLACE_STATE && storage->index == i;
            if (pass == 0 && storage->place == CR_PLACE_STATE && !own &&
                (*tensor = copy_of(b, *tensor, CR_PLACE_ARENA, 0)) < 0)
                return false;
            if (pass == 1 && !same_tensor(&b->plan->tensors[*tensor], &b->plan->tensors[b->plan->states[i]]) &&
                !add_copy(b, *tensor, b->plan->states[i]))
                return false;
        }
    return true;
}

/* A result is made in memory of its own that goes to the caller; what lies elsewhere is copied there. */
static bool finish_outputs(builder *b) {
    for (int i = 0; i < cr_plan_result_count(b->plan); i++) {
        int tensor = b->tensor_of[cr_plan_result(b->plan, i)->id];
        if (tensor < 0) return cr_fail(CR_ERROR_STATE, "jit: output %d has no place", i);
        cr_plan_storage *storage = storage_of(b, tensor);
        if (storage->place == CR_PLACE_ARENA) {
            storage->place = CR_PLACE_OUTPUT;
            storage->index = i;
            storage->last = b->now;
        } else if ((tensor = copy_of(b, tensor, CR_PLACE_OUTPUT, i)) < 0) {
            return false;
        }
        b->plan->outputs[i] = tensor;
    }
    return true;
}

static bool build(builder *b) {
    cr_plan *plan = b->plan;
    const cr_graph *graph = b->graph;
    plan->inputs = cr_pool_allocate(
        &plan->pool,
        (size_t)(graph->body.input_count + graph->state_count + cr_plan_result_count(plan) + 1) * sizeof(int));
    if (!plan->inputs || !analyse(b)) return false;
    plan->states = plan->inputs + graph->body.input_count;
    plan->outputs = plan->states + graph->state_count;
    if (!add_inputs(b) || !add_states(b)) return false;
    for (cr_graph_node *node = graph->body.first; node; node = node->next, b->now++)
        if (!plan_node(b, node)) return false;
    if (!finish_outputs(b) || !finish_states(b) || !cr_plan_memory(plan)) return false;
    cr_plan_together(plan);
    return true;
}

cr_plan *cr_plan_new(cr_graph *graph) {
    cr_plan *plan = cr_calloc(1, sizeof *plan);
    bool done = false;
    if (plan) {
        cr_thread *thread = cr_thread_self();
        const bool paused = thread->listeners_paused, dry = thread->dry_run;
        builder b = {.plan = plan, .graph = graph};
        plan->graph = graph;
        for (int i = 0; i < graph->symbol_count; i++)
            plan->symbols[i] = graph->symbols[i].value;
        thread->listeners_paused = thread->dry_run = true;
        CR_SCOPE {
            done = build(&b);
        }
        thread->listeners_paused = paused;
        thread->dry_run = dry;
    } else {
        cr_jit_free(graph);
    }
    if (done) return plan;
    cr_plan_free(plan);
    return NULL;
}

void cr_plan_free(cr_plan *plan) {
    if (!plan) return;
    for (cr_plan *inner = plan->inner, *next; inner; inner = next) {
        next = inner->next;
        cr_plan_free(inner);
    }
    cr_sessions_free(plan);
    cr_jit_free(plan->graph);
    cr_pool_free(&plan->pool);
    cr_free(plan);
}
