/* The driver of backward: finds what is reachable, runs rules in an order that respects the graph, adds up gradients.
 *
 * Everything a run needs stands in its own table of tasks, so that several threads may pass through shared leaves, and
 * a rule may start a backward of its own (checkpointing). No recursion: graphs may be a million nodes deep. */
#include "autograd/node.h"
#include "core/allocator.h"

#include <string.h>

typedef struct task {
    cr_node *node;     /* one reference */
    int dependencies;  /* edges to it whose gradients are still to come */
    int next_edge;     /* of the search */
    bool is_needed;    /* leads to something that is wanted */
    cr_tensor *single; /* the gradient of a node with one output */
    cr_tensor **several;
} task;

typedef struct run {
    task *tasks;
    size_t count, capacity;
    uint32_t *table; /* node -> index + 1, open addressing, a power of two of at least twice the capacity */
    size_t table_size;
    uint32_t *finished; /* tasks in post-order of the search */
    size_t finished_count;
    uint32_t *heap; /* tasks that are ready; the latest node first */
    size_t heap_count;
    bool retain_graph, create_graph;
    cr_capture *captures;
    int capture_count;
} run;

/* ---------------------------------------------------------------- the table of tasks */
static size_t slot_of(const run *r, const cr_node *node) {
    size_t slot = (size_t)(((uintptr_t)node >> 6) * 0x9E3779B97F4A7C15ull >> 20) & (r->table_size - 1);
    while (r->table[slot] && r->tasks[r->table[slot] - 1].node != node)
        slot = (slot + 1) & (r->table_size - 1);
    return slot;
}

static bool grow(run *r) {
    const size_t capacity = r->capacity ? r->capacity * 2 : 64, table_size = capacity * 2;
    task *tasks = cr_realloc(r->tasks, capacity * sizeof *tasks);
    if (tasks) r->tasks = tasks;
    uint32_t *finished = tasks ? cr_realloc(r->finished, capacity * sizeof *finished) : NULL;
    if (finished) r->finished = finished;
    uint32_t *heap = finished ? cr_realloc(r->heap, capacity * sizeof *heap) : NULL;
    if (heap) r->heap = heap;
    uint32_t *table = heap ? cr_calloc(table_size, sizeof *table) : NULL;
    if (!table) return false;
    cr_free(r->table);
    r->table = table;
    r->table_size = table_size;
    r->capacity = capacity;
    for (size_t i = 0; i < r->count; i++)
        r->table[slot_of(r, r->tasks[i].node)] = (uint32_t)i + 1;
    return true;
}

static task *find_task(const run *r, const cr_node *node) {
    const uint32_t entry = r->table_size ? r->table[slot_of(r, node)] : 0;
    return entry ? &r->tasks[entry - 1] : NULL;
}

/* The node's task, made where there is none; *is_new says so. NULL and an error on failure. */
static task *ensure_task(run *r, cr_node *node, bool *is_new) {
    *is_new = false;
    task *found = find_task(r, node);
    if (found) return found;
    if (r->count == r->capacity && !grow(r)) return NULL;
    task *made = &r->tasks[r->count];
    *made = (task){.node = node};
    if (node->output_count > 1 && !(made->several = cr_calloc((size_t)node->output_count, sizeof(cr_tensor *))))
        return NULL;
    r->table[slot_of(r, node)] = (uint32_t)++r->count;
    cr_node_retain(node);
    *is_new = true;
    return made;
}

static cr_tensor **gradients_of(task *t) { return t->several ? t->several : &t->single; }

static void end_run(run *r) {
    for (size_t i = 0; i < r->count; i++) {
        task *t = &r->tasks[i];
        for (int k = 0; k < t->node->output_count; k++)
            cr_release(gradients_of(t)[k]);
        cr_free(t->several);
        cr_node_release(t->node);
    }
    cr_free(r->tasks);
    cr_free(r->table);
    cr_free(r->finished);
    cr_free(r->heap);
}

/* ---------------------------------------------------------------- finding what is reachable */
/* Depth-first from one root, with an explicit stack: the heap's room serves as the stack until tasks are ready. */
static bool search(run *r, cr_node *root) {
    bool is_new;
    if (!ensure_task(r, root, &is_new)) return false;
    if (!is_new) return true;
    size_t depth = 0;
    r->heap[depth++] = (uint32_t)r->count - 1;
    while (depth) {
        const uint32_t index = r->heap[depth - 1];
        cr_node *node = r->tasks[index].node;
        if (r->tasks[index].next_edge == node->input_count) {
            r->finished[r->finished_count++] = index;
            depth--;
            continue;
        }
        cr_node *next = node->edges[r->tasks[index].next_edge++].node;
        if (!next) continue;
        if (!ensure_task(r, next, &is_new)) return false;
        if (is_new) r->heap[depth++] = (uint32_t)r->count - 1;
    }
    return true;
}

static bool is_captured(const run *r, const cr_node *node) {
    for (int i = 0; i < r->capture_count; i++)
        if (r->captures[i].edge.node == node) return true;
    return false;
}

/* In post-order a node comes after all that it leads to. */
static void mark_needed(run *r) {
    for (size_t i = 0; i < r->finished_count; i++) {
        task *t = &r->tasks[r->finished[i]];
        t->is_needed = r->captures ? is_captured(r, t->node) : t->node->leaf != NULL;
        for (int e = 0; e < t->node->input_count && !t->is_needed; e++) {
            const task *next = t->node->edges[e].node ? find_task(r, t->node->edges[e].node) : NULL;
            t->is_needed = next && next->is_needed;
        }
        if (!r->captures && (t->node->hooks.count || t->node->runs_always)) t->is_needed = true;
    }
    for (size_t i = 0; i < r->count; i++) {
        const task *t = &r->tasks[i];
        for (int e = 0; t->is_needed && e < t->node->input_count; e++)
            if (t->node->edges[e].node) find_task(r, t->node->edges[e].node)->dependencies++;
    }
}

/* ---------------------------------------------------------------- tasks that are ready */
static bool runs_before(const run *r, uint32_t a, uint32_t b) {
    return r->tasks[a].node->sequence > r->tasks[b].node->sequence;
}

static void heap_push(run *r, uint32_t entry) {
    size_t at = r->heap_count++;
    for (; at > 0 && runs_before(r, entry, r->heap[(at - 1) / 2]); at = (at - 1) / 2)
        r->heap[at] = r->heap[(at - 1) / 2];
    r->heap[at] = entry;
}

static uint32_t heap_pop(run *r) {
    const uint32_t top = r->heap[0], last = r->heap[--r->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= r->heap_count) break;
        if (child + 1 < r->heap_count && runs_before(r, r->heap[child + 1], r->heap[child])) child++;
        if (!runs_before(r, r->heap[child], last)) break;
        r->heap[at] = r->heap[child];
        at = child;
    }
    r->heap[at] = last;
    return top;
}

/* ---------------------------------------------------------------- adding gradients */
/* Nobody else can see the tensor's values. */
static bool is_ours_alone(const cr_tensor *t) {
    return atomic_load(&t->references) == 1 && atomic_load(&t->storage->references) == 1 && !t->storage->is_foreign;
}

/* *sum += gradient; *sum holds one reference. */
static bool add_gradient(const run *r, cr_tensor **sum, cr_tensor *gradient) {
    if (!*sum) {
        *sum = cr_retain(gradient);
        return true;
    }
    if (!r->create_graph && is_ours_alone(*sum) && !cr_tensor_self_overlaps(*sum))
        return cr_add_(*sum, gradient) != NULL;
    cr_tensor *total = cr_add(*sum, gradient);
    if (!total) return false;
    cr_release(*sum);
    *sum = cr_retain(total);
    return true;
}

/* Sums a gradient over the dims that broadcasting added or stretched. */
static cr_tensor *sum_to_shape(cr_tensor *gradient, cr_shape shape) {
    const cr_shape from = cr_tensor_shape(gradient);
    const int added = from.count - shape.count;
    cr_dims dims = {.count = 0};
    for (int i = 0; i < from.count; i++)
        if (i < added || (shape.at[i - added] == 1 && from.at[i] != 1)) dims.at[dims.count++] = i;
    if (dims.count) gradient = cr_sum(gradient, .dims = dims, .keepdim = true);
    return cr_reshape(gradient, shape);
}

/* A rule's result as its input wants it: shape, dtype, device. */
static cr_tensor *fit_gradient(const cr_node *node, int input, cr_tensor *gradient) {
    const cr_spec *spec = &node->input_specs[input];
    cr_shape joined;
    if (!cr_shape_equal(cr_tensor_shape(gradient), spec->shape)) {
        if (!cr_shape_broadcast(cr_tensor_shape(gradient), spec->shape, &joined)) return NULL;
        const bool is_wider = cr_shape_equal(joined, cr_tensor_shape(gradient));
        gradient = is_wider ? sum_to_shape(gradient, spec->shape) : cr_expand(gradient, spec->shape);
    }
    if (gradient && gradient->dtype != (int8_t)spec->dtype) gradient = cr_cast(gradient, spec->dtype);
    return cr_to_device(gradient, node->edges[input].device);
}

/* ---------------------------------------------------------------- running one task */
static bool run_hooks(const cr_hooks *hooks, int index, cr_tensor **gradient) {
    for (int i = 0; i < hooks->count; i++) {
        const cr_hook hook = hooks->at[i];
        if (hook.index != index || hook.on_leaf) continue;
        if (hook.retains) {
            if (!cr_set_grad(hook.context, *gradient)) return false;
            continue;
        }
        cr_tensor *replacement = hook.on_gradient(*gradient, hook.context);
        if (!replacement)
            return cr_fail(CR_ERROR_STATE, "a gradient hook returned NULL; return the gradient to leave it as it is");
        if (replacement == *gradient) continue;
        cr_retain(replacement);
        cr_release(*gradient);
        *gradient = replacement;
    }
    return true;
}

static bool run_leaf_hooks(const cr_hooks *hooks, cr_tensor *leaf) {
    for (int i = 0; i < hooks->count; i++)
        if (hooks->at[i].on_leaf && !hooks->at[i].on_leaf(leaf, hooks->at[i].context)) return false;
    return true;
}

/* The leaf's own gradient must be memory of its own: others may keep or write what they see. */
static bool accumulate(const run *r, cr_tensor *leaf, cr_tensor *gradient) {
    cr_autograd_record *record = cr_record_of(leaf);
    if (!record) return false;
    if (record->gradient) {
        if (!r->create_graph) return cr_add_(record->gradient, gradient) != NULL;
        return cr_set_grad(leaf, cr_add(record->gradient, gradient)) && cr_ok();
    }
    const bool take =
        r->create_graph || (is_ours_alone(gradient) && (cr_is_contiguous(gradient) || cr_is_channels_last(gradient)));
    cr_tensor *own = take ? gradient : cr_clone(gradient);
    return own && cr_set_grad(leaf, own);
}

/* Fills v's operands with what the node saved; *overwritten where one is gone. */
static bool load_saved(cr_node *node, cr_tensor **operands, bool *overwritten) {
    for (int i = 0; i < node->saved_count; i++) {
        operands[i] = cr_saved_get(node, i, overwritten);
        if (!operands[i] && node->saved[i].storage && !*overwritten) return false;
    }
    return true;
}

static bool fail_overwritten(const cr_node *node) {
    cr_clear_error();
    return cr_fail(
        CR_ERROR_STATE,
        "backward of %s: a value that its gradient needs was overwritten in place since; clone it first, or move the "
        "in-place write after backward",
        node->name);
}

static bool check_result_nan(const cr_node *node, cr_tensor *const *results, int count, cr_tensor *const *gradients) {
    for (int i = 0; i < node->output_count; i++)
        if (gradients[i] && cr_has_nan(gradients[i])) return true;
    for (int i = 0; i < count; i++)
        if (cr_has_nan(results[i]))
            return cr_fail(CR_ERROR_NUMERIC, "backward of %s gives NaN for input %d; it ran in: %s", node->name, i,
                           node->chain ? node->chain : node->name);
    return true;
}

/* Zeros for the floating outputs that no gradient reached, where another one did. */
static bool fill_missing(const cr_node *node, cr_tensor **gradients) {
    for (int i = 0; i < node->output_count; i++) {
        const cr_spec *spec = &node->output_specs[i];
        const bool is_constant = node->op && (node->op->constant_outputs >> i & 1);
        if (gradients[i] || is_constant || !cr_dtype_is_floating(spec->dtype)) continue;
        cr_tensor *zeros = cr_zeros(spec->dtype, spec->shape, node->output_device);
        if (!zeros) return false;
        gradients[i] = cr_retain(zeros);
    }
    return true;
}

/* Where gradients of the node's first input add up, if a rule may write into what is there. */
static cr_tensor **open_sum(const run *r, const cr_node *node) {
    task *next = node->input_count && node->edges[0].node ? find_task(r, node->edges[0].node) : NULL;
    if (r->create_graph || !next || !next->is_needed) return NULL;
    cr_tensor **sum = &gradients_of(next)[node->edges[0].index];
    return !*sum || (is_ours_alone(*sum) && cr_is_contiguous(*sum)) ? sum : NULL;
}

static bool run_rule(run *r, task *t, cr_tensor **results) {
    cr_node *node = t->node;
    cr_tensor *operands[CR_MAX_INPUTS + CR_MAX_OUTPUTS] = {NULL};
    bool needs[CR_MAX_INPUTS], overwritten = false;
    if (node->is_consumed)
        return cr_fail(CR_ERROR_STATE,
                       "backward of %s: an earlier backward has used up this graph; give that one .retain_graph = true",
                       node->name);
    if (!fill_missing(node, gradients_of(t))) return false;
    for (int i = 0; i < node->input_count; i++) {
        const task *next = node->edges[i].node ? find_task(r, node->edges[i].node) : NULL;
        needs[i] = next && next->is_needed;
    }
    if (!load_saved(node, operands, &overwritten)) return false;
    cr_vjp v = {.op = node->op,
                .inputs = operands,
                .outputs = operands + node->input_count,
                .grads = gradients_of(t),
                .needs = needs,
                .results = results,
                .sum = open_sum(r, node),
                .input_specs = node->input_specs,
                .input_count = node->input_count,
                .output_count = node->output_count};
    if (!node->function(node, &v)) return overwritten ? fail_overwritten(node) : false;
    if (atomic_load_explicit(&cr_anomaly_enabled, memory_order_relaxed))
        return check_result_nan(node, results, node->input_count, gradients_of(t));
    return true;
}

/* Gives each edge its gradient, and queues the tasks that have all of theirs. */
static bool pass_on(run *r, const task *t, cr_tensor **results) {
    const cr_node *node = t->node;
    for (int i = 0; i < node->input_count; i++) {
        if (!node->edges[i].node) continue;
        task *next = find_task(r, node->edges[i].node);
        if (results[i] && next->is_needed) {
            cr_tensor *fitted = fit_gradient(node, i, results[i]);
            if (!fitted || !add_gradient(r, &gradients_of(next)[node->edges[i].index], fitted)) return false;
        }
        if (--next->dependencies == 0 && next->is_needed) heap_push(r, (uint32_t)(next - r->tasks));
    }
    return true;
}

static bool has_gradient(task *t) {
    for (int i = 0; i < t->node->output_count; i++)
        if (gradients_of(t)[i]) return true;
    return false;
}

static bool deliver(run *r, task *t) {
    cr_node *node = t->node;
    cr_tensor **gradients = gradients_of(t);
    cr_autograd_record *record = node->leaf ? cr_record_of(node->leaf) : NULL;
    const cr_hooks *hooks = record ? &record->hooks : &node->hooks;
    for (int i = 0; i < node->output_count; i++)
        if (gradients[i] && !run_hooks(hooks, i, &gradients[i])) return false;
    for (int i = 0; i < r->capture_count; i++)
        if (r->captures[i].edge.node == node && gradients[r->captures[i].edge.index])
            r->captures[i].result = cr_retain(gradients[r->captures[i].edge.index]);
    if (!node->leaf || r->captures) return true;
    return accumulate(r, node->leaf, gradients[0]) && run_leaf_hooks(hooks, node->leaf);
}

/* A captured node may lead nowhere else that is wanted. */
static bool leads_on(const run *r, const cr_node *node) {
    for (int i = 0; i < node->input_count; i++) {
        const task *next = node->edges[i].node ? find_task(r, node->edges[i].node) : NULL;
        if (next && next->is_needed) return true;
    }
    return node->runs_always;
}

static bool run_task(run *r, task *t) {
    cr_tensor *results[CR_MAX_INPUTS] = {NULL};
    cr_scope_mark scope = cr_scope_open(__FILE__, __LINE__);
    const bool reached = has_gradient(t), runs = reached && !t->node->leaf && leads_on(r, t->node);
    const bool done = (!reached || deliver(r, t)) && (!runs || run_rule(r, t, results)) && pass_on(r, t, results);
    for (int i = 0; i < t->node->output_count; i++) {
        cr_release(gradients_of(t)[i]);
        gradients_of(t)[i] = NULL;
    }
    if (done && runs && !r->retain_graph) cr_node_consume(t->node);
    cr_scope_close(&scope);
    return done;
}

/* ---------------------------------------------------------------- a whole backward */
static bool seed_root(run *r, cr_tensor *root, const cr_edge *edge, cr_tensor *gradient) {
    if (!gradient) {
        if (root->numel != 1) {
            char text[224];
            return cr_fail(CR_ERROR_SHAPE,
                           "backward: a root of one element needs no gradient, but %s does: give .gradient",
                           cr_describe(root, text));
        }
        gradient = cr_ones_like(root);
        if (!gradient) return false;
    } else if (!cr_shape_equal(cr_tensor_shape(gradient), cr_tensor_shape(root))) {
        char a[224], b[224];
        return cr_fail(CR_ERROR_SHAPE, "backward: the root is %s, its gradient %s", cr_describe(root, a),
                       cr_describe(gradient, b));
    }
    if (gradient->dtype != root->dtype && !(gradient = cr_cast(gradient, (cr_dtype)root->dtype))) return false;
    return add_gradient(r, &gradients_of(find_task(r, edge->node))[edge->index], gradient);
}

static bool start(run *r, cr_tensor *const *roots, cr_tensor *const *gradients, int count, cr_edge *edges) {
    for (int i = 0; i < count; i++) {
        if (!roots[i] && !cr_ok()) return false;
        if (!cr_tensor_check(roots[i], "backward") || !cr_edge_of(roots[i], &edges[i])) return false;
        if (!edges[i].node)
            return cr_fail(CR_ERROR_STATE,
                           "backward: the root does not require gradients: nothing it was made of does, or it was made "
                           "under CR_NO_GRAD or detached");
        if (!search(r, edges[i].node)) return false;
    }
    mark_needed(r);
    for (int i = 0; i < count; i++)
        if (!seed_root(r, roots[i], &edges[i], gradients ? gradients[i] : NULL)) return false;
    for (int i = 0; i < count; i++) { /* a root may lie below another, or come twice */
        task *t = find_task(r, edges[i].node);
        if (t->dependencies != 0 || !t->is_needed) continue;
        t->dependencies = -1;
        heap_push(r, (uint32_t)(t - r->tasks));
    }
    return true;
}

/* The run that this thread is in, for a backward inside a rule. */
static _Thread_local const run *running;

bool cr_engine_run(cr_tensor *const *roots, cr_tensor *const *gradients, int count, bool retain_graph,
                   bool create_graph, cr_capture *captures, int capture_count) {
    run r = {.retain_graph = retain_graph || create_graph,
             .create_graph = create_graph,
             .captures = captures,
             .capture_count = capture_count};
    cr_edge *edges = cr_calloc((size_t)count, sizeof *edges);
    if (!edges) return false;
    cr_thread *thread = cr_thread_self();
    cr_frame frame;
    cr_frame_push(thread, &frame, "backward", NULL);
    cr_scope_mark scope = cr_scope_open(__FILE__, __LINE__);
    const cr_grad_mode mode = cr_grad_mode_enter(create_graph, false);
    const run *outer = running;
    running = &r;
    bool done = start(&r, roots, gradients, count, edges);
    while (done && r.heap_count)
        done = run_task(&r, &r.tasks[heap_pop(&r)]);
    running = outer;
    cr_grad_mode_leave(&(cr_grad_mode){mode.enabled, mode.inference});
    end_run(&r);
    for (int i = 0; i < count; i++)
        cr_node_release(edges[i].node);
    cr_free(edges);
    cr_scope_close(&scope);
    cr_frame_pop(thread, &frame);
    return done;
}

bool cr_backward_many(cr_tensor *const *roots, cr_tensor *const *gradients, int count,
                      const cr_backward_options *options) {
    if (!roots || count < 1) return cr_fail(CR_ERROR_ARGUMENT, "backward: needs at least one root");
    return cr_engine_run(roots, gradients, count, options && options->retain_graph, options && options->create_graph,
                         NULL, 0);
}

bool cr_backward_with(cr_tensor *root, const cr_backward_options *options) {
    cr_tensor *gradient = options ? options->gradient : NULL;
    return cr_backward_many(&root, &gradient, 1, options);
}

bool cr_engine_rerun(cr_tensor *root, cr_tensor *gradient, cr_tensor *const *inputs, cr_tensor **results, int count) {
    if (!running || !running->captures) {
        if (!cr_engine_run(&root, &gradient, 1, false, running && running->create_graph, NULL, 0)) return false;
        for (int i = 0; i < count; i++)
            results[i] = inputs[i] ? cr_grad_of(inputs[i]) : NULL;
        return true;
    }
    cr_tensor *wanted[CR_MAX_INPUTS], *found[CR_MAX_INPUTS];
    int wanted_count = 0;
    for (int i = 0; i < count; i++)
        if (inputs[i] && inputs[i]->requires_grad) wanted[wanted_count++] = inputs[i];
    const cr_grad_options options = {
        .size = sizeof options, .gradients = &gradient, .create_graph = running->create_graph, .allow_unused = true};
    if (wanted_count && !cr_grad(&root, 1, wanted, wanted_count, found, &options)) return false;
    for (int i = 0, k = 0; i < count; i++)
        results[i] = inputs[i] && inputs[i]->requires_grad ? found[k++] : NULL;
    return true;
}

static bool take_captures(cr_capture *captures, int count, cr_tensor **results, bool allow_unused) {
    bool done = true;
    for (int i = 0; i < count; i++) {
        if (captures[i].result) {
            results[i] = cr_give(captures[i].result);
            done &= results[i] != NULL;
        } else if (done && !allow_unused) {
            done = cr_fail(CR_ERROR_STATE,
                           "grad: input %d does not reach the outputs; set .allow_unused to get NULL for it", i);
        }
    }
    return done;
}

bool cr_grad(cr_tensor *const *outputs, int output_count, cr_tensor *const *inputs, int input_count,
             cr_tensor **results, const cr_grad_options *options) {
    if (!outputs || output_count < 1 || !inputs || input_count < 1 || !results)
        return cr_fail(CR_ERROR_ARGUMENT, "grad: needs outputs, inputs and room for results");
    const cr_grad_options chosen = options ? *options : (cr_grad_options){.size = sizeof chosen};
    cr_capture *captures = cr_calloc((size_t)input_count, sizeof *captures);
    if (!captures) return false;
    bool done = true;
    for (int i = 0; i < input_count; i++) {
        results[i] = NULL;
        done = done && cr_tensor_check(inputs[i], "grad") && cr_edge_of(inputs[i], &captures[i].edge);
        if (done && !captures[i].edge.node)
            done = cr_fail(CR_ERROR_STATE, "grad: input %d does not require gradients", i);
    }
    done = done && cr_engine_run(outputs, chosen.gradients, output_count, chosen.retain_graph, chosen.create_graph,
                                 captures, input_count);
    if (done) {
        done = take_captures(captures, input_count, results, chosen.allow_unused);
    } else {
        for (int i = 0; i < input_count; i++)
            cr_release(captures[i].result);
    }
    for (int i = 0; i < input_count; i++)
        cr_node_release(captures[i].edge.node);
    cr_free(captures);
    return done;
}
