/* New tensors, copies, casts and moves between devices. */
#include "ops/creation.h"
#include "ops/pointwise.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- cast: the identity to another dtype or layout */
#define CAST_ATTRIBUTES(A, op) A(op, DTYPE, dtype, CR_DTYPE_DEFAULT) A(op, BOOL, channels_last, false)
CR_OPTIONS(cast, CAST_ATTRIBUTES)
CR_ATTRIBUTES(cast, CAST_ATTRIBUTES)

static bool infer_cast(cr_call *call) {
    const cr_cast_options *options = call->attributes;
    const cr_tensor *t = call->inputs[0];
    const cr_dtype dtype = options->dtype == CR_DTYPE_DEFAULT ? (cr_dtype)t->dtype : options->dtype;
    if ((unsigned)dtype >= CR_DTYPE_COUNT) return cr_fail(CR_ERROR_DTYPE, "%d is not a dtype", (int)dtype);
    cr_spec_set(call, 0, dtype, cr_tensor_shape(t));
    if (options->channels_last) {
        if (t->ndim != 4 && t->ndim != 5) return cr_fail_call(call, CR_ERROR_SHAPE, "channels-last is for 4 or 5 dims");
        call->specs[0].channels_last = true;
    }
    return true;
}

static bool vjp_cast(cr_vjp *v) { return cr_vjp_set(v, 0, v->grads[0]); }

CR_OP(cast, .inputs = "input", CR_ROW_ATTRIBUTES(cast), .infer = infer_cast, .vjp = vjp_cast,
      .doc = "The same values in another dtype or memory layout.")

static cr_tensor *cast_to(cr_tensor *t, cr_dtype dtype, bool channels_last) {
    const cr_cast_options options = {sizeof options, dtype, channels_last};
    return CR_RUN(cast, &options, t);
}

cr_tensor *cr_cast(cr_tensor *t, cr_dtype dtype) {
    if (t && cr_tensor_check(t, "cast") && t->dtype == dtype) return t;
    const bool keep = t && cr_is_channels_last(t) && !cr_is_contiguous(t);
    return cast_to(t, dtype, keep);
}

cr_tensor *cr_clone(cr_tensor *t) {
    const bool keep = t && cr_is_channels_last(t) && !cr_is_contiguous(t);
    return cast_to(t, CR_DTYPE_DEFAULT, keep);
}

cr_tensor *cr_contiguous(cr_tensor *t) {
    if (t && cr_tensor_check(t, "contiguous") && cr_is_contiguous(t)) return t;
    return cast_to(t, CR_DTYPE_DEFAULT, false);
}

cr_tensor *cr_channels_last(cr_tensor *t) {
    if (t && cr_tensor_check(t, "channels_last") && cr_is_channels_last(t)) return t;
    return cast_to(t, CR_DTYPE_DEFAULT, true);
}

cr_tensor *cr_copy_(cr_tensor *target, cr_tensor *source) {
    if (target && source && cr_tensor_check(target, "copy_") && cr_tensor_check(source, "copy_") &&
        !cr_device_equal(target->device, source->device))
        source = cr_to_device(source, target->device);
    return cr_run_in_place(CR_POINTWISE_OP(identity), target, (cr_tensor *const[]){source}, 1, NULL);
}

cr_tensor *cr_zero_(cr_tensor *t) { return cr_fill_(t, 0); }

/* ---------------------------------------------------------------- full */
CR_ATTRIBUTES(full, FULL_ATTRIBUTES)

static bool infer_full(cr_call *call) {
    const cr_full_options *options = call->attributes;
    call->device = options->device;
    cr_spec_set(call, 0, options->dtype, options->shape);
    return true;
}

static bool decompose_full(cr_call *call) {
    const cr_full_options *options = call->attributes;
    cr_tensor *t = cr_empty(options->dtype, options->shape, options->device);
    call->outputs[0] = cr_fill_(t, options->value);
    return call->outputs[0] != NULL;
}

CR_OP(full, .inputs = "", CR_ROW_ATTRIBUTES(full), .flags = CR_OP_NO_GRADIENT, .infer = infer_full,
      .decompose = decompose_full, .doc = "A tensor filled with one value.")

cr_tensor *cr_full(cr_dtype dtype, cr_shape shape, double value, cr_device device) {
    const cr_full_options options = {sizeof options, dtype, shape, value, device};
    return cr_run(&cr_op_full, NULL, 0, &options);
}
cr_tensor *cr_zeros(cr_dtype dtype, cr_shape shape, cr_device device) { return cr_full(dtype, shape, 0, device); }
cr_tensor *cr_ones(cr_dtype dtype, cr_shape shape, cr_device device) { return cr_full(dtype, shape, 1, device); }

cr_tensor *cr_empty_like(const cr_tensor *t) {
    if (!cr_tensor_check(t, "empty_like")) return NULL;
    const cr_spec spec = {(cr_dtype)t->dtype, cr_is_channels_last(t) && !cr_is_contiguous(t), cr_tensor_shape(t)};
    return cr_empty_spec(&spec, t->device);
}
cr_tensor *cr_full_like(const cr_tensor *t, double value) {
    if (!cr_tensor_check(t, "full_like")) return NULL;
    return cr_full((cr_dtype)t->dtype, cr_tensor_shape(t), value, t->device);
}
cr_tensor *cr_zeros_like(const cr_tensor *t) { return cr_full_like(t, 0); }
cr_tensor *cr_ones_like(const cr_tensor *t) { return cr_full_like(t, 1); }

/* ---------------------------------------------------------------- moves between devices */
#define TO_DEVICE_ATTRIBUTES(A, op) A(op, DEVICE, device, CR_CPU)
CR_OPTIONS(to_device, TO_DEVICE_ATTRIBUTES)
CR_ATTRIBUTES(to_device, TO_DEVICE_ATTRIBUTES)

static bool infer_to_device(cr_call *call) {
    const cr_to_device_options *options = call->attributes;
    call->device = options->device;
    cr_spec_set(call, 0, (cr_dtype)call->inputs[0]->dtype, cr_tensor_shape(call->inputs[0]));
    return cr_device_check(options->device);
}

static bool vjp_to_device(cr_vjp *v) {
    /* the driver brings a gradient to its input's device */
    return cr_vjp_set(v, 0, v->grads[0]);
}

CR_OP(to_device, .inputs = "input", CR_ROW_ATTRIBUTES(to_device), .infer = infer_to_device, .vjp = vjp_to_device,
      .doc = "A copy on another device.")

cr_tensor *cr_to_device(cr_tensor *t, cr_device device) {
    if (t && cr_tensor_check(t, "to_device") && cr_device_equal(t->device, device)) return t;
    const cr_to_device_options options = {sizeof options, device};
    return CR_RUN(to_device, &options, t);
}
