/* The dispatcher: every op of every mode runs through here.
 *   check operands -> infer -> listeners may refuse -> kernel, view or decomposition -> listeners record */
#include "ops/op.h"
#include "ops/pointwise.h"
#include "ops/table.h"

#include <stdarg.h>
#include <string.h>

/* ---------------------------------------------------------------- listeners */
static const cr_listener *_Atomic listeners[CR_MAX_LISTENERS];
static atomic_int listener_count;

bool cr_listener_add(const cr_listener *listener) {
    for (int i = 0; i < CR_MAX_LISTENERS; i++) {
        const cr_listener *none = NULL;
        if (atomic_compare_exchange_strong(&listeners[i], &none, listener)) {
            atomic_fetch_add(&listener_count, 1);
            return true;
        }
        if (none == listener) return true;
    }
    return cr_fail(CR_ERROR_STATE, "listener_add: all %d places are taken", CR_MAX_LISTENERS);
}

/* ---------------------------------------------------------------- errors that describe a call */
/* The index-th word of a signature without its mark. */
static int name_of_input(const cr_op *op, int index, char name[32]) {
    const char *word = op->inputs;
    for (int i = 0; i < index && strchr(word, ' '); i++)
        word = strchr(word, ' ') + 1;
    const int length = (int)strcspn(word, " ?*");
    return snprintf(name, 32, "%.*s", length < 31 ? length : 31, word);
}

void cr_record_call_error(const cr_call *call, cr_error_code code, const char *format, ...) {
    char message[CR_MESSAGE_BYTES], name[32], text[224];
    va_list arguments;
    va_start(arguments, format);
    size_t used = (size_t)vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    for (int i = 0; i < call->input_count && used < sizeof message; i++) {
        if (!call->inputs[i]) continue;
        name_of_input(call->op, i, name);
        used += (size_t)snprintf(message + used, sizeof message - used, "%s %s is %s", i ? "," : ";", name,
                                 cr_describe(call->inputs[i], text));
    }
    cr_record_error(code, "%s", message);
}

/* ---------------------------------------------------------------- checks */
static bool check_inputs(cr_call *call) {
    const cr_op *op = call->op;
    if (call->input_count < op->input_minimum || call->input_count > op->input_maximum)
        return cr_fail(CR_ERROR_ARGUMENT, "takes %d to %d operands (%s), got %d", op->input_minimum, op->input_maximum,
                       op->inputs, call->input_count);
    cr_device device = CR_CPU;
    bool placed = false;
    for (int i = 0; i < call->input_count; i++) {
        const cr_tensor *t = call->inputs[i];
        if (__builtin_expect(!t, 0)) {
            if (i < 32 && (op->optional_inputs >> i & 1)) continue;
            char name[32];
            if (!cr_ok()) return false; /* the NULL of an earlier failure: its error stands */
            name_of_input(op, i, name);
            return cr_fail(CR_ERROR_ARGUMENT, "operand %s is NULL", name);
        }
        if (__builtin_expect(t->magic != CR_TENSOR_ALIVE, 0)) return cr_tensor_check(t, op->name);
        if (t->ndim == 0 && t->device.type == CR_DEVICE_CPU && placed)
            continue; /* a number may stand beside any device */
        if (placed && !cr_device_equal(t->device, device)) {
            for (int k = 0; k < i; k++) /* was it a number that placed us? */
                if (call->inputs[k] && !(call->inputs[k]->ndim == 0 && call->inputs[k]->device.type == CR_DEVICE_CPU))
                    return cr_fail_call(call, CR_ERROR_DEVICE, "operands are on different devices");
        }
        device = t->device;
        placed = true;
    }
    if (placed) call->device = device;
    return true;
}

static bool check_in_place(const cr_call *call) {
    const cr_tensor *target = call->outputs[0];
    const cr_spec *spec = &call->specs[0];
    if (!cr_tensor_check(target, call->op->name)) return false;
    if (!cr_shape_equal(spec->shape, cr_tensor_shape(target))) {
        cr_shape joined, shape = cr_tensor_shape(target);
        if (!cr_shape_broadcast(spec->shape, shape, &joined) || !cr_shape_equal(joined, shape)) {
            char text[192];
            cr_clear_error();
            return cr_fail_call(call, CR_ERROR_SHAPE,
                                "the result has shape %s, which the tensor written in place cannot hold",
                                cr_shape_format(spec->shape, text));
        }
    }
    const bool is_copy = call->op == CR_POINTWISE_OP(identity); /* copy_ casts to anything, as PyTorch's does */
    if (!is_copy && ((cr_dtype_is_floating(spec->dtype) && !cr_dtype_is_floating((cr_dtype)target->dtype)) ||
                     (spec->dtype != CR_BOOL && target->dtype == CR_BOOL)))
        return cr_fail_call(call, CR_ERROR_DTYPE, "the result is %s, which cannot be written in place to %s",
                            cr_dtype_name(spec->dtype), cr_dtype_name((cr_dtype)target->dtype));
    if (cr_tensor_self_overlaps(target))
        return cr_fail_call(call, CR_ERROR_STATE,
                            "the tensor written in place is an expanded view, whose elements share memory; "
                            "clone it first");
    for (int i = 0; i < call->input_count; i++)
        if (call->inputs[i] && cr_tensor_partly_overlaps(target, call->inputs[i]))
            return cr_fail_call(call, CR_ERROR_STATE,
                                "operand %d shares memory with the tensor written in place; clone it first", i);
    return true;
}

/* ---------------------------------------------------------------- running */
cr_tensor *cr_empty_spec(const cr_spec *spec, cr_device device) {
    if (!spec->channels_last) return cr_empty(spec->dtype, spec->shape, device);
    cr_shape strides;
    cr_channels_last_strides(spec->shape, &strides);
    return cr_empty_strided(spec->dtype, spec->shape, strides, device);
}

static void drop_outputs(cr_call *call) {
    if (call->in_place) return;
    for (int i = 0; i < call->output_count; i++) {
        if (call->outputs[i]) cr_discard(call->outputs[i]);
        call->outputs[i] = NULL;
    }
}

/* A call of a dry run: results with sizes and no values; operands that would be written stay as they are. */
static bool run_dry(cr_call *call) {
    for (int i = 0; !call->in_place && i < call->output_count; i++) {
        const cr_spec *spec = &call->specs[i];
        cr_shape strides;
        if (spec->channels_last) cr_channels_last_strides(spec->shape, &strides);
        call->outputs[i] =
            cr_empty_hollow(spec->dtype, spec->shape, spec->channels_last ? &strides : NULL, call->device);
        if (!call->outputs[i]) return false;
    }
    return true;
}

static bool run_kernel(cr_call *call, cr_kernel kernel) {
    cr_thread *thread = cr_thread_self();
    if (thread->dry_run) return run_dry(call);
    if (!call->in_place)
        for (int i = 0; i < call->output_count; i++)
            if (!(call->outputs[i] = cr_empty_spec(&call->specs[i], call->device))) return false;
    const bool paused = thread->listeners_paused;
    thread->listeners_paused = true;
    cr_scope_mark scope = cr_scope_open(__FILE__, __LINE__);
    const bool done = kernel(call);
    cr_scope_close(&scope);
    thread->listeners_paused = paused;
    return done;
}

/* Runs the decomposition, with or without listeners, and hands its outputs out of its scope. */
static bool run_decomposition(cr_call *call, bool quiet) {
    cr_thread *thread = cr_thread_self();
    const bool paused = thread->listeners_paused;
    cr_tensor *target = call->in_place ? call->outputs[0] : NULL;
    thread->listeners_paused = paused || quiet;
    cr_scope_mark scope = cr_scope_open(__FILE__, __LINE__);
    bool done = call->op->decompose(call);
    if (done && target) done = cr_copy_(target, call->outputs[0]) != NULL;
    if (target) call->outputs[0] = target;
    for (int i = 0; done && i < call->output_count; i++)
        cr_keep(call->outputs[i]);
    cr_scope_close(&scope);
    thread->listeners_paused = paused;
    if (!done && !target) memset(call->outputs, 0, (size_t)call->output_count * sizeof call->outputs[0]);
    return done;
}

/* Asks the listeners; bit i of `*active` says that listener i wants this call. */
static unsigned ask_listeners(const cr_call *call, unsigned *active) {
    unsigned wants = 0;
    *active = 0;
    const int count = atomic_load_explicit(&listener_count, memory_order_acquire);
    for (int i = 0; i < count; i++) {
        const unsigned answer = atomic_load_explicit(&listeners[i], memory_order_relaxed)->wants(call);
        wants |= answer;
        if (answer) *active |= 1u << i;
    }
    return wants;
}

static bool tell_before(cr_call *call, unsigned active) {
    for (int i = 0; i < CR_MAX_LISTENERS; i++)
        if ((active >> i & 1) && listeners[i]->before && !listeners[i]->before(call)) return false;
    return true;
}
static bool tell_after(cr_call *call, unsigned active) {
    for (int i = 0; i < CR_MAX_LISTENERS; i++)
        if ((active >> i & 1) && !listeners[i]->after(call)) return false;
    return true;
}

/* How a call runs: as one op where it can be recorded as one, else as its parts, which are recorded themselves. */
static bool execute(cr_call *call, unsigned wants, unsigned *active) {
    cr_op *op = (cr_op *)call->op;
    const bool must_differentiate = (wants & CR_WANTS_GRADIENT) && !op->vjp;
    const cr_kernel kernel = atomic_load_explicit(&op->kernels[call->device.type], memory_order_relaxed);
    if (op->decompose && (must_differentiate || !kernel)) {
        const bool open = must_differentiate || !op->infer;
        if (!open && cr_thread_self()->dry_run) return run_dry(call);
        if (open) *active = 0;
        return run_decomposition(call, !open);
    }
    if (op->view) return op->view(call);
    if (kernel) return run_kernel(call, kernel);
    char device[16];
    return cr_fail(CR_ERROR_UNSUPPORTED, "has no kernel and no decomposition for %s",
                   cr_device_name(call->device, device));
}

static bool dispatch_checked(cr_call *call, cr_thread *thread) {
    if (!check_inputs(call) || (call->op->infer && !call->op->infer(call))) return false;
    if ((unsigned)call->device.type >= CR_DEVICE_TYPE_COUNT) return cr_device_check(call->device);
    if (call->in_place && call->op->infer && !check_in_place(call)) return false;
    unsigned active = 0;
    const unsigned wants = thread->listeners_paused ? 0 : ask_listeners(call, &active);
    if (active && !tell_before(call, active)) return false;
    if (!execute(call, wants, &active)) {
        drop_outputs(call);
        return false;
    }
    if (call->in_place) cr_tensor_bump_version(call->outputs[0]);
    for (unsigned left = call->op->mutates ? cr_op_mutates(call->op, call->attributes) : 0; left; left &= left - 1) {
        cr_tensor *written = __builtin_ctz(left) < call->input_count ? call->inputs[__builtin_ctz(left)] : NULL;
        if (written) cr_tensor_bump_version(written);
    }
    if (active && !tell_after(call, active)) {
        drop_outputs(call);
        return false;
    }
    return true;
}

static bool dispatch(cr_call *call) {
    cr_thread *thread = cr_thread_self();
    cr_frame frame;
    cr_frame_push(thread, &frame, call->op->name, NULL);
    const bool done = dispatch_checked(call, thread);
    cr_frame_pop(thread, &frame);
    return done;
}

/* ---------------------------------------------------------------- entries */
/* Lists of dims can hold any count, where they come from outside. */
static __attribute__((noinline)) bool check_attributes(const cr_op *op, const void *attributes) {
    for (int i = 0; i < op->attribute_count; i++) {
        if (op->attributes[i].kind != CR_ATTRIBUTE_DIMS) continue;
        const int count = ((const cr_dims *)((const char *)attributes + op->attributes[i].offset))->count;
        if (count < 0 || count > CR_MAX_DIMS)
            return cr_fail(CR_ERROR_ARGUMENT, "%s: %s has a count of %d; 0 to %d are possible", op->name,
                           op->attributes[i].name, count, CR_MAX_DIMS);
    }
    return true;
}

bool cr_run_all(cr_op *op, cr_tensor *const *inputs, int input_count, const void *attributes, cr_tensor **outputs,
                int output_count) {
    cr_tensor *made[CR_MAX_OUTPUTS] = {NULL};
    cr_spec specs[CR_MAX_OUTPUTS];
    cr_table_ready();
    cr_call call = {.op = op,
                    .inputs = (cr_tensor **)(uintptr_t)inputs,
                    .input_count = input_count,
                    .outputs = made,
                    .output_count = op->output_total,
                    .attributes = attributes ? attributes : op->defaults,
                    .specs = specs};
    const bool done = (__builtin_expect(!attributes, 1) || check_attributes(op, attributes)) && dispatch(&call);
    for (int i = 0; i < output_count; i++)
        outputs[i] = done && i < call.output_count ? made[i] : NULL;
    for (int i = output_count; done && i < call.output_count; i++)
        cr_discard(made[i]);
    return done;
}

cr_tensor *cr_run(cr_op *op, cr_tensor *const *inputs, int input_count, const void *attributes) {
    cr_tensor *output;
    cr_run_all(op, inputs, input_count, attributes, &output, 1);
    return output;
}

cr_tensor *cr_run_in_place(cr_op *op, cr_tensor *target, cr_tensor *const *inputs, int input_count,
                           const void *attributes) {
    cr_spec specs[CR_MAX_OUTPUTS];
    cr_tensor *outputs[1] = {target};
    if (!target) {
        if (cr_ok()) cr_record_error(CR_ERROR_ARGUMENT, "%s_: the tensor to write in place is NULL", op->name);
        return NULL;
    }
    cr_table_ready();
    cr_call call = {.op = op,
                    .inputs = (cr_tensor **)(uintptr_t)inputs,
                    .input_count = input_count,
                    .outputs = outputs,
                    .output_count = 1,
                    .attributes = attributes ? attributes : op->defaults,
                    .in_place = true,
                    .specs = specs};
    return dispatch(&call) ? target : NULL;
}

const void *cr_options_complete(const cr_op *op, const void *options, void *storage) {
    if (!options) return op->defaults;
    size_t given;
    memcpy(&given, options, sizeof given);
    if (given == op->attribute_bytes) return options;
    memcpy(storage, op->defaults, op->attribute_bytes);
    memcpy(storage, options, given < op->attribute_bytes ? given : op->attribute_bytes);
    memcpy(storage, &op->attribute_bytes, sizeof op->attribute_bytes);
    return storage;
}

cr_tensor *cr_dense(cr_tensor *t) { return t ? cr_contiguous(t) : NULL; }

bool cr_begin_rewrite(cr_tensor *output, cr_tensor *input) {
    bool is_there = output->dtype == input->dtype && cr_tensor_address(output) == cr_tensor_address(input);
    for (int d = 0; d < output->ndim && is_there; d++)
        is_there = output->strides[d] == input->strides[d] || output->sizes[d] == 1;
    return is_there || cr_copy_(output, input) != NULL;
}
