/* What tensors know of the graph, and the listener that records ops into it. */
#include "autograd/node.h"
#include "core/allocator.h"

#include <math.h>
#include <string.h>

atomic_bool cr_anomaly_enabled;

/* ---------------------------------------------------------------- records */
static void free_record(cr_autograd_record *record) {
    if (record->accumulator) cr_block_free(record->accumulator, record->accumulator->block_bytes);
    cr_release(record->gradient);
    cr_release(record->base);
    cr_hooks_free(&record->hooks);
    cr_block_free(record, sizeof *record);
}

static void end_place(cr_tensor *t) {
    cr_autograd_record *record = t->autograd;
    if (record) {
        if (t->node && record->retain_handle) cr_hooks_remove(&t->node->hooks, record->retain_handle);
        free_record(record);
    }
    cr_node_release(t->node);
}

cr_autograd_record *cr_record_of(cr_tensor *t) {
    if (t->autograd) return t->autograd;
    if (!cr_autograd_ready()) return NULL;
    cr_autograd_record *record = cr_block_allocate(sizeof *record);
    if (!record) return NULL;
    memset(record, 0, sizeof *record);
    t->autograd = record;
    return record;
}

bool cr_set_node(cr_tensor *t, cr_node *node, int index) { return cr_take_node(t, cr_node_retain(node), index); }

bool cr_take_node(cr_tensor *t, cr_node *node, int index) {
    cr_autograd_record *record = cr_record_peek(t);
    cr_node *old = t->node;
    const bool retains = record && record->retain_handle;
    if (retains) cr_hooks_remove(&old->hooks, record->retain_handle);
    t->node = node;
    t->output = (uint8_t)index;
    t->requires_grad = true;
    cr_node_release(old);
    if (!retains) return true;
    record->retain_handle = 0;
    return cr_retain_grad(t);
}

bool cr_edge_of(cr_tensor *t, cr_edge *edge) {
    const cr_autograd_record *record = cr_record_peek(t);
    *edge = (cr_edge){NULL, t->output, t->device};
    if (record && record->base && !cr_refresh_view(t)) return false;
    if (t->requires_grad) edge->node = cr_node_retain(t->node ? t->node : record->accumulator);
    return true;
}

static bool accumulate_into_leaf(cr_node *node, cr_vjp *v) {
    (void)node, (void)v; /* the driver adds into leaves itself */
    return true;
}

/* Makes the node that stands for a leaf in the graph. */
static bool make_accumulator(cr_tensor *leaf) {
    cr_autograd_record *record = cr_record_of(leaf);
    if (!record || record->accumulator) return record != NULL;
    cr_node *node = cr_node_new("accumulate_grad", 0, 1, 0, NULL, 0);
    if (!node) return false;
    node->sequence = UINT64_MAX; /* as soon as its gradient is complete */
    node->function = accumulate_into_leaf;
    node->leaf = leaf;
    record->accumulator = node;
    return true;
}

/* ---------------------------------------------------------------- the listener */
static bool wants_grad(const cr_tensor *t) {
    if (!t) return false;
    if (t->requires_grad) return true;
    const cr_autograd_record *record = cr_record_peek(t); /* a view whose base has come to require gradients */
    return record && record->base && record->base->requires_grad;
}

static unsigned autograd_wants(const cr_call *call) {
    if (cr_thread_self()->grad_disabled) return CR_WANTS_NOTHING;
    const bool is_view = call->op->flags & CR_OP_VIEW;
    bool any = call->in_place && wants_grad(call->outputs[0]);
    for (int i = 0; !any && i < call->input_count; i++)
        any = wants_grad(call->inputs[i]);
    if (any && !(call->op->flags & CR_OP_NO_GRADIENT)) return CR_WANTS_RECORD | CR_WANTS_GRADIENT;
    return is_view && cr_dtype_is_floating((cr_dtype)call->inputs[0]->dtype) ? CR_WANTS_RECORD : CR_WANTS_NOTHING;
}

static bool autograd_before(cr_call *call) {
    for (int i = 0; i < call->input_count; i++)
        if (call->inputs[i] && call->inputs[i]->is_inference && !(call->op->flags & CR_OP_VIEW))
            return cr_fail(CR_ERROR_STATE,
                           "an operand was made in inference mode and cannot be kept for backward; clone it outside");
    return !call->in_place || cr_check_in_place(call->outputs[0]);
}

static bool apply_rule(cr_node *node, cr_vjp *v) {
    v->attributes = node->payload;
    return node->op->vjp(v);
}

/* Keeps what the row's rule reads. */
static void save_operands(cr_node *node, const cr_call *call) {
    const unsigned saves = call->op->saves;
    for (int i = 0; i < call->input_count; i++) {
        const bool wanted = saves & (i < 16 ? CR_SAVE_INPUT(i) : CR_SAVE_INPUT(15));
        if (!wanted || !call->inputs[i]) continue;
        cr_saved_set(&node->saved[i], call->inputs[i]);
        if (call->in_place && cr_shares_storage(call->inputs[i], call->outputs[0]))
            node->saved[i].is_overwritten = true;
    }
    for (int i = 0; i < call->output_count; i++)
        if (saves & CR_SAVE_OUTPUT(i)) cr_saved_set(&node->saved[call->input_count + i], call->outputs[i]);
}

static char *chain_text(void) {
    size_t used = 0, size = CR_CHAIN_BYTES;
    char *text = cr_malloc(size);
    if (text) text[0] = '\0';
    for (const cr_frame *frame = cr_thread_self()->frame; text && frame && used + 1 < size; frame = frame->outer)
        used += (size_t)snprintf(text + used, size - used, "%s%s%s%s", used ? " < " : "", frame->name,
                                 frame->detail ? " " : "", frame->detail ? frame->detail : "");
    return text;
}

static cr_node *node_of_call(const cr_call *call) {
    const int saved = !call->op->saves        ? 0
                      : call->op->saves >> 16 ? call->input_count + call->output_count
                                              : call->input_count;
    cr_node *node = cr_node_new(call->op->name, call->input_count, call->output_count, saved, call->attributes,
                                call->attributes == call->op->defaults ? 0 : call->op->attribute_bytes);
    if (!node) return NULL;
    node->op = (cr_op *)call->op;
    node->function = apply_rule;
    node->output_device = call->outputs[0]->device;
    bool made = true;
    for (int i = 0; made && i < call->input_count; i++) {
        cr_tensor *input = call->inputs[i];
        if (!input) continue;
        cr_set_spec(&node->input_specs[i], input);
        if (cr_dtype_is_floating((cr_dtype)input->dtype)) made = cr_edge_of(input, &node->edges[i]);
    }
    for (int i = 0; i < call->output_count; i++)
        cr_set_spec(&node->output_specs[i], call->outputs[i]);
    if (made && atomic_load_explicit(&cr_anomaly_enabled, memory_order_relaxed))
        made = (node->chain = chain_text()) != NULL;
    if (!made) {
        cr_node_release(node);
        return NULL;
    }
    if (saved) save_operands(node, call);
    return node;
}

static bool any_floating_output(const cr_call *call) {
    for (int i = 0; i < call->output_count; i++)
        if (cr_dtype_is_floating((cr_dtype)call->outputs[i]->dtype)) return true;
    return false;
}

static bool check_forward_nan(const cr_call *call) {
    for (int i = 0; i < call->input_count; i++)
        if (call->inputs[i] && cr_has_nan(call->inputs[i])) return true;
    for (int i = 0; i < call->output_count; i++)
        if (cr_has_nan(call->outputs[i]))
            return cr_fail_call(call, CR_ERROR_NUMERIC, "the result holds NaN, the operands do not");
    return true;
}

/* Operands that want gradients: listeners are also told of views of tensors that do not. */
static bool needs_node(const cr_call *call) {
    bool any = call->in_place && wants_grad(call->outputs[0]);
    for (int i = 0; !any && i < call->input_count; i++)
        any = wants_grad(call->inputs[i]);
    return any && any_floating_output(call);
}

/* Both take over the reference to the node. */
static bool record_in_place(cr_call *call, cr_node *node) {
    const bool recorded = cr_record_in_place(call->outputs[0], node);
    cr_node_release(node);
    return recorded;
}
static bool record_outputs(cr_call *call, cr_node *node) {
    cr_node *ours = node; /* our reference goes to the first output */
    bool recorded = true;
    for (int i = 0; recorded && i < call->output_count; i++) {
        if (!cr_dtype_is_floating((cr_dtype)call->outputs[i]->dtype) || (call->op->constant_outputs >> i & 1)) continue;
        recorded = cr_take_node(call->outputs[i], ours ? ours : cr_node_retain(node), i);
        ours = NULL;
    }
    cr_node_release(ours);
    return recorded;
}

static bool autograd_after(cr_call *call) {
    if (atomic_load_explicit(&cr_anomaly_enabled, memory_order_relaxed) && !call->in_place && !check_forward_nan(call))
        return false;
    const bool is_view = call->op->flags & CR_OP_VIEW;
    if (needs_node(call)) {
        if (!call->op->vjp)
            return cr_fail(CR_ERROR_UNSUPPORTED, "has no gradient; detach its operands, or run it under CR_NO_GRAD");
        cr_node *node = node_of_call(call);
        if (!node) return false;
        if (!(call->in_place ? record_in_place(call, node) : record_outputs(call, node))) return false;
    }
    for (int i = 0; is_view && i < call->output_count; i++)
        if (cr_shares_storage(call->outputs[i], call->inputs[0]) && !cr_record_view(call->outputs[i], call->inputs[0]))
            return false;
    return true;
}

static const cr_listener autograd_listener = {autograd_wants, autograd_before, autograd_after};

bool cr_autograd_ready(void) {
    static atomic_bool ready;
    if (atomic_load_explicit(&ready, memory_order_acquire)) return true;
    cr_tensor_autograd_free = end_place;
    if (!cr_listener_add(&autograd_listener)) return false;
    atomic_store(&ready, true);
    return true;
}

/* ---------------------------------------------------------------- tensors that take part */
cr_tensor *cr_requires_grad_(cr_tensor *t, bool requires_grad) {
    if (!cr_tensor_check(t, "requires_grad_") || !cr_autograd_ready()) return NULL;
    if (!cr_is_leaf(t)) {
        cr_record_error(CR_ERROR_STATE,
                        "requires_grad_: the tensor was made by %s; only leaves can be set, cr_detach it",
                        cr_grad_op(t));
        return NULL;
    }
    if (requires_grad && !cr_dtype_is_floating((cr_dtype)t->dtype)) {
        cr_record_error(CR_ERROR_DTYPE, "requires_grad_: only floating tensors have gradients, this one is %s",
                        cr_dtype_name((cr_dtype)t->dtype));
        return NULL;
    }
    if (requires_grad && t->is_inference) {
        cr_record_error(CR_ERROR_STATE, "requires_grad_: the tensor was made in inference mode; clone it outside");
        return NULL;
    }
    if (requires_grad && !make_accumulator(t)) return NULL;
    t->requires_grad = requires_grad;
    return t;
}

bool cr_requires_grad(const cr_tensor *t) { return t && wants_grad(t); }

bool cr_is_leaf(const cr_tensor *t) { return !t || !t->node; }

const char *cr_grad_op(const cr_tensor *t) { return cr_is_leaf(t) ? NULL : t->node->name; }

cr_tensor *cr_grad_of(const cr_tensor *t) {
    const cr_autograd_record *record = t ? cr_record_peek(t) : NULL;
    return record ? record->gradient : NULL;
}

bool cr_set_grad(cr_tensor *t, cr_tensor *gradient) {
    if (!cr_tensor_check(t, "set_grad")) return false;
    if (gradient && (!cr_shape_equal(cr_tensor_shape(t), cr_tensor_shape(gradient)) || t->dtype != gradient->dtype ||
                     !cr_device_equal(t->device, gradient->device))) {
        char a[224], b[224];
        return cr_fail(CR_ERROR_SHAPE, "set_grad: the tensor is %s, the gradient %s", cr_describe(t, a),
                       cr_describe(gradient, b));
    }
    if (gradient == t) return cr_fail(CR_ERROR_ARGUMENT, "set_grad: a tensor cannot be its own gradient; clone it");
    if (!gradient && cr_thread_self()->tracer) cr_tensor_on_gradient_cleared(t);
    if (!gradient && !t->autograd) return true;
    cr_autograd_record *record = cr_record_of(t);
    if (!record) return false;
    cr_tensor *old = record->gradient;
    record->gradient = cr_retain(gradient);
    cr_release(old);
    return true;
}

cr_tensor *cr_detach(cr_tensor *t) {
    if (!cr_tensor_check(t, "detach")) return NULL;
    return cr_view_raw(t, cr_tensor_shape(t), cr_strides_of(t), t->offset);
}

/* ---------------------------------------------------------------- hooks of tensors */
static int next_handle(void) {
    static atomic_int handle = 1;
    return atomic_fetch_add(&handle, 1);
}

/* Hooks of a made tensor stand with its node; those of a leaf with its record. */
static cr_hooks *hooks_of(cr_tensor *t, int *index) {
    cr_autograd_record *record = t->node ? NULL : cr_record_of(t);
    *index = t->output;
    return t->node ? &t->node->hooks : record ? &record->hooks : NULL;
}

static int add_hook(cr_tensor *t, const char *name, cr_hook hook) {
    if (!cr_tensor_check(t, name)) return 0;
    if (!wants_grad(t)) {
        cr_record_error(CR_ERROR_STATE, "%s: the tensor does not require gradients", name);
        return 0;
    }
    cr_hooks *hooks = hooks_of(t, &hook.index);
    hook.handle = next_handle();
    return hooks && cr_hooks_add(hooks, hook) ? hook.handle : 0;
}

int cr_register_hook(cr_tensor *t, cr_tensor_hook hook, void *context) {
    if (!hook) {
        cr_record_error(CR_ERROR_ARGUMENT, "register_hook: NULL hook");
        return 0;
    }
    return add_hook(t, "register_hook", (cr_hook){.on_gradient = hook, .context = context});
}

int cr_register_post_accumulate_hook(cr_tensor *leaf, cr_leaf_hook hook, void *context) {
    if (!hook || !cr_is_leaf(leaf)) {
        cr_record_error(CR_ERROR_ARGUMENT, "register_post_accumulate_hook: needs a leaf and a hook");
        return 0;
    }
    return add_hook(leaf, "register_post_accumulate_hook", (cr_hook){.on_leaf = hook, .context = context});
}

bool cr_remove_hook(cr_tensor *t, int handle) {
    int index;
    if (!cr_tensor_check(t, "remove_hook")) return false;
    cr_hooks *hooks = hooks_of(t, &index);
    if (!hooks) return false;
    return cr_hooks_remove(hooks, handle) ||
           cr_fail(CR_ERROR_ARGUMENT, "remove_hook: the tensor has no hook %d", handle);
}

bool cr_retain_grad(cr_tensor *t) {
    if (!cr_tensor_check(t, "retain_grad")) return false;
    if (cr_is_leaf(t)) return true;
    cr_autograd_record *record = cr_record_of(t);
    if (!record) return false;
    if (record->retain_handle) return true;
    record->retain_handle = add_hook(t, "retain_grad", (cr_hook){.retains = true, .context = t});
    return record->retain_handle != 0;
}

/* ---------------------------------------------------------------- modes */
bool cr_grad_enabled(void) { return !cr_thread_self()->grad_disabled; }

bool cr_set_grad_enabled(bool enabled) {
    cr_thread *thread = cr_thread_self();
    const bool was = !thread->grad_disabled;
    thread->grad_disabled = !enabled;
    return was;
}

bool cr_set_inference(bool enabled) {
    cr_thread *thread = cr_thread_self();
    const bool was = thread->inference;
    thread->inference = enabled;
    return was;
}

bool cr_set_anomaly_detection(bool enabled) { return atomic_exchange(&cr_anomaly_enabled, enabled); }

cr_grad_mode cr_grad_mode_enter(bool enabled, bool inference) {
    return (cr_grad_mode){cr_set_grad_enabled(enabled), cr_set_inference(inference)};
}

void cr_grad_mode_leave(cr_grad_mode *previous) {
    cr_set_grad_enabled(previous->enabled);
    cr_set_inference(previous->inference);
}

bool cr_has_nan(cr_tensor *t) {
    if (!t || !cr_dtype_is_floating((cr_dtype)t->dtype)) return false;
    cr_thread *thread = cr_thread_self();
    const bool paused = thread->listeners_paused;
    thread->listeners_paused = true;
    cr_scope_mark scope = cr_scope_open(__FILE__, __LINE__);
    cr_tensor *flags = cr_isnan(t);
    const double found = flags ? cr_item(cr_cast(cr_sum(flags), CR_F64)) : 0;
    cr_scope_close(&scope);
    thread->listeners_paused = paused;
    return found > 0;
}
