/* The user's own differentiable functions, and checkpointing, which is one of them. */
#include "autograd/node.h"
#include "core/allocator.h"

#include <string.h>

enum { MOST_SAVED = 16, NOWHERE = -1 };

struct cr_function_call {
    const cr_function *function;
    int input_count, output_count;
    bool needs[CR_MAX_INPUTS];
    void *context;
    int saved_count;
    cr_tensor *saved[MOST_SAVED]; /* during forward: one reference each */
    int slots[MOST_SAVED];        /* in the node: an input or output; NOWHERE: in `others` */
    cr_saved others[MOST_SAVED];
    cr_vjp *vjp; /* during backward */
};

void *cr_function_context(cr_function_call *call) { return call ? call->context : NULL; }
int cr_function_input_count(const cr_function_call *call) { return call ? call->input_count : 0; }
int cr_function_output_count(const cr_function_call *call) { return call ? call->output_count : 0; }
bool cr_function_needs(const cr_function_call *call, int input) {
    if (!call || input < 0 || input >= call->input_count) return false;
    return call->vjp ? call->vjp->needs[input] : call->needs[input];
}

bool cr_function_save(cr_function_call *call, cr_tensor *t) {
    if (!call) return cr_fail(CR_ERROR_ARGUMENT, "function_save: NULL call");
    if (!cr_tensor_check(t, "function_save")) return false;
    if (call->vjp || call->saved_count == MOST_SAVED)
        return cr_fail(CR_ERROR_STATE, "function_save: only in forward, and at most %d tensors", MOST_SAVED);
    call->saved[call->saved_count++] = cr_retain(t);
    return true;
}

cr_tensor *cr_function_saved(cr_function_call *call, int index) {
    if (!call) {
        cr_record_error(CR_ERROR_ARGUMENT, "function_saved: NULL call");
        return NULL;
    }
    if (!call->vjp || index < 0 || index >= call->saved_count) {
        cr_record_error(CR_ERROR_INDEX, "function_saved: index %d of %d, in backward only", index, call->saved_count);
        return NULL;
    }
    const int slot = call->slots[index];
    if (slot != NOWHERE) {
        cr_tensor *t = call->vjp->inputs[slot]; /* outputs stand behind inputs */
        if (!t)
            cr_record_error(CR_ERROR_STATE, "function_saved: tensor %d was overwritten in place since forward", index);
        return t;
    }
    const cr_saved *other = &call->others[index];
    if (atomic_load(&other->storage->version) != other->version) {
        cr_record_error(CR_ERROR_STATE, "function_saved: tensor %d was overwritten in place since forward", index);
        return NULL;
    }
    return cr_view_of_storage(other->storage, (cr_dtype)other->dtype, other->shape, other->strides, other->offset);
}

static void end_call(const void *pointer) {
    cr_function_call *call = *(cr_function_call *const *)pointer;
    for (int i = 0; i < call->saved_count; i++) {
        cr_release(call->saved[i]);
        cr_storage_release(call->others[i].storage);
    }
    if (call->context && call->function->release) call->function->release(call->context);
    cr_free(call->context);
    cr_free(call);
}

static bool run_backward(cr_node *node, cr_vjp *v) {
    cr_function_call *call = *(cr_function_call *const *)node->payload;
    call->vjp = v;
    const bool done = call->function->backward(call, v->grads, v->results);
    call->vjp = NULL;
    return done || (cr_ok() && cr_fail(CR_ERROR_STATE, "backward of %s failed without saying why", node->name));
}

static int index_in(cr_tensor *const *list, int count, const cr_tensor *t) {
    for (int i = 0; i < count; i++)
        if (list[i] == t) return i;
    return NOWHERE;
}

/* Moves what forward saved into the node (inputs, outputs) or the call (all else). */
static void settle_saved(cr_node *node, cr_function_call *call, cr_tensor *const *inputs, cr_tensor *const *outputs) {
    for (int i = 0; i < call->saved_count; i++) {
        cr_tensor *t = call->saved[i];
        const int input = index_in(inputs, call->input_count, t), output = index_in(outputs, call->output_count, t);
        call->slots[i] = input != NOWHERE ? input : output != NOWHERE ? call->input_count + output : NOWHERE;
        cr_saved *place = call->slots[i] == NOWHERE ? &call->others[i] : &node->saved[call->slots[i]];
        if (!place->storage) cr_saved_set(place, t);
        cr_release(t);
        call->saved[i] = NULL;
    }
}

/* Takes over `call`. */
static bool record_call(cr_function_call *call, cr_tensor *const *inputs, cr_tensor **outputs, bool always) {
    cr_node *node = cr_node_new(call->function->name, call->input_count, call->output_count,
                                call->input_count + call->output_count, &call, sizeof call);
    if (!node) {
        end_call(&call);
        return false;
    }
    node->payload_end = end_call;
    node->function = run_backward;
    node->runs_always = always;
    node->output_device = outputs[0]->device;
    bool made = true;
    for (int i = 0; made && i < call->input_count; i++) {
        if (!inputs[i]) continue;
        cr_set_spec(&node->input_specs[i], inputs[i]);
        made = cr_edge_of(inputs[i], &node->edges[i]);
    }
    for (int i = 0; i < call->output_count; i++)
        cr_set_spec(&node->output_specs[i], outputs[i]);
    settle_saved(node, call, inputs, outputs);
    for (int i = 0; made && i < call->output_count; i++)
        if (cr_dtype_is_floating((cr_dtype)outputs[i]->dtype)) made = cr_set_node(outputs[i], node, i);
    cr_node_release(node);
    return made;
}

/* Runs forward with recording off, in a scope of its own that hands the outputs out. */
static bool run_forward(cr_function_call *call, cr_tensor *const *inputs, cr_tensor **outputs) {
    cr_thread *thread = cr_thread_self();
    cr_frame frame;
    cr_frame_push(thread, &frame, call->function->name, NULL);
    cr_scope_mark scope = cr_scope_open(__FILE__, __LINE__);
    cr_grad_mode mode = cr_grad_mode_enter(false, false);
    bool done = call->function->forward(call, inputs, outputs);
    if (!done && cr_ok()) cr_record_error(CR_ERROR_STATE, "forward failed without saying why");
    for (int i = 0; done && i < call->output_count; i++) {
        if (!outputs[i])
            done = cr_fail(CR_ERROR_STATE, "forward left output %d NULL", i);
        else if (index_in(inputs, call->input_count, outputs[i]) != NOWHERE)
            outputs[i] = cr_detach(outputs[i]);
        done = done && cr_keep(outputs[i]);
    }
    cr_grad_mode_leave(&mode);
    cr_scope_close(&scope);
    cr_frame_pop(thread, &frame);
    return done;
}

static bool apply(const cr_function *function, cr_tensor *const *inputs, int input_count, cr_tensor **outputs,
                  int output_count, const void *context, bool always) {
    for (int i = 0; i < output_count; i++)
        outputs[i] = NULL;
    cr_function_call *call = cr_calloc(1, sizeof *call);
    if (!call || (function->context_bytes && !(call->context = cr_calloc(1, function->context_bytes)))) {
        cr_free(call);
        return false;
    }
    if (context && function->context_bytes) memcpy(call->context, context, function->context_bytes);
    call->function = function;
    call->input_count = input_count;
    call->output_count = output_count;
    bool records = always;
    for (int i = 0; i < input_count; i++) {
        call->needs[i] = cr_grad_enabled() && inputs[i] && cr_requires_grad(inputs[i]);
        records |= call->needs[i];
    }
    const bool done = run_forward(call, inputs, outputs);
    if (done && records && cr_grad_enabled()) return cr_autograd_ready() && record_call(call, inputs, outputs, always);
    end_call(&call);
    return done;
}

bool cr_function_apply(const cr_function *function, cr_tensor *const *inputs, int input_count, cr_tensor **outputs,
                       int output_count, const void *context) {
    if (!function || !function->forward || !function->backward || !function->name || !outputs ||
        (!inputs && input_count))
        return cr_fail(
            CR_ERROR_ARGUMENT,
            "function_apply: needs a function with name, forward and backward, inputs, and room for outputs");
    if (input_count < 0 || input_count > CR_MAX_INPUTS || output_count < 1 || output_count > CR_MAX_OUTPUTS)
        return cr_fail(CR_ERROR_ARGUMENT, "function_apply: %d inputs and %d outputs; up to %d and 1 to %d can be had",
                       input_count, output_count, CR_MAX_INPUTS, CR_MAX_OUTPUTS);
    for (int i = 0; i < input_count; i++)
        if (inputs[i] ? !cr_tensor_check(inputs[i], function->name) : !cr_ok()) return false;
    return apply(function, inputs, input_count, outputs, output_count, context, false);
}

/* ---------------------------------------------------------------- checkpointing */
typedef struct checkpoint_context {
    cr_checkpoint_function function;
    void *user;
    cr_generator_state random;
} checkpoint_context;

static bool checkpoint_forward(cr_function_call *call, cr_tensor *const *inputs, cr_tensor **outputs) {
    checkpoint_context *context = call->context;
    context->random = cr_generator_get_state(NULL);
    for (int i = 0; i < call->input_count; i++)
        if (!cr_function_save(call, inputs[i])) return false;
    outputs[0] = context->function(context->user, inputs, call->input_count);
    return outputs[0] != NULL;
}

/* Runs the function again on inputs that are leaves of a graph of their own. */
static bool checkpoint_backward(cr_function_call *call, cr_tensor *const *output_gradients,
                                cr_tensor **input_gradients) {
    const checkpoint_context *context = call->context;
    cr_tensor *inputs[CR_MAX_INPUTS] = {NULL};
    for (int i = 0; i < call->input_count; i++) {
        cr_tensor *saved = cr_function_saved(call, i);
        if (!saved || !(inputs[i] = cr_detach(saved))) return false;
        if (cr_function_needs(call, i) && !cr_requires_grad_(inputs[i], true)) return false;
    }
    const cr_generator_state now = cr_generator_get_state(NULL);
    cr_generator_set_state(NULL, context->random);
    cr_grad_mode mode = cr_grad_mode_enter(true, false);
    cr_tensor *output = context->function(context->user, inputs, call->input_count);
    cr_generator_set_state(NULL, now);
    bool done = output != NULL;
    if (done && cr_requires_grad(output))
        done = cr_engine_rerun(output, output_gradients[0], inputs, input_gradients, call->input_count);
    cr_grad_mode_leave(&mode);
    return done;
}

static const cr_function checkpoint_row = {"checkpoint", checkpoint_forward, checkpoint_backward,
                                           sizeof(checkpoint_context), NULL};

cr_tensor *cr_checkpoint(cr_checkpoint_function function, void *context, cr_tensor *const *inputs, int input_count) {
    if (!function || (!inputs && input_count) || input_count < 0 || input_count > MOST_SAVED) {
        cr_record_error(CR_ERROR_ARGUMENT, "checkpoint: needs a function and 0 to %d inputs", MOST_SAVED);
        return NULL;
    }
    for (int i = 0; i < input_count; i++)
        if (!inputs[i] || !cr_tensor_check(inputs[i], "checkpoint")) return NULL;
    const checkpoint_context own = {function, context, {0, 0}};
    cr_tensor *output;
    return apply(&checkpoint_row, inputs, input_count, &output, 1, &own, true) ? output : NULL;
}
