/* Padding: with a constant, or with what the tensor itself holds (reflected, its edge, from the other side). */
#include "ops/op.h"

#include <string.h>

/* ---------------------------------------------------------------- a constant */
#define PAD_ATTRIBUTES(A, op) A(op, DIMS, before, {0, {0}}) A(op, DIMS, after, {0, {0}}) A(op, FLOAT, value, 0)
CR_OPTIONS(pad, PAD_ATTRIBUTES)
CR_ATTRIBUTES(pad, PAD_ATTRIBUTES)

static bool infer_pad(cr_call *call) {
    const cr_pad_options *o = call->attributes;
    const cr_tensor *t = call->inputs[0];
    if (o->before.count != o->after.count || o->before.count > t->ndim)
        return cr_fail_call(call, CR_ERROR_SHAPE, "%d paddings before and %d after; as many of each, for the last dims",
                            o->before.count, o->after.count);
    cr_shape shape = cr_tensor_shape(t);
    for (int i = 0; i < o->before.count; i++) {
        int64_t *size = &shape.at[t->ndim - o->before.count + i];
        if (__builtin_add_overflow(*size, o->before.at[i], size) ||
            __builtin_add_overflow(*size, o->after.at[i], size) || *size < 0)
            return cr_fail_call(call, CR_ERROR_SHAPE, "padding %lld and %lld leaves no valid size",
                                (long long)o->before.at[i], (long long)o->after.at[i]);
    }
    cr_spec_set(call, 0, (cr_dtype)t->dtype, shape);
    return true;
}

static bool decompose_pad(cr_call *call) {
    const cr_pad_options *o = call->attributes;
    cr_tensor *source = call->inputs[0], *out = cr_fill_(cr_empty_spec(&call->specs[0], call->device), o->value);
    cr_tensor *place = out;
    for (int i = 0; source && place && i < o->before.count; i++) {
        const int dim = source->ndim - o->before.count + i;
        const int64_t before = o->before.at[i], after = o->after.at[i], size = source->sizes[dim];
        source = cr_slice(source, dim, before < 0 ? -before : 0, after < 0 ? size + after : size, 1);
        place =
            cr_slice(place, dim, before > 0 ? before : 0, after > 0 ? place->sizes[dim] - after : place->sizes[dim], 1);
    }
    if (!source || !place || (place->numel && !cr_copy_(place, source))) return false;
    call->outputs[0] = out;
    return true;
}

static bool vjp_pad(cr_vjp *v) {
    const cr_pad_options *o = v->attributes;
    cr_dims before = o->before, after = o->after;
    for (int i = 0; i < before.count; i++) {
        before.at[i] = -before.at[i];
        after.at[i] = -after.at[i];
    }
    return cr_vjp_set(v, 0, cr_pad(v->grads[0], before, after, 0));
}
CR_OP(pad, .inputs = "input", CR_ROW_ATTRIBUTES(pad), .infer = infer_pad, .decompose = decompose_pad, .vjp = vjp_pad,
      .doc = "A constant around the last dims; negative amounts crop.")

cr_tensor *cr_pad(cr_tensor *t, cr_dims before, cr_dims after, double value) {
    const cr_pad_options options = {sizeof options, before, after, value};
    return CR_RUN(pad, &options, t);
}

/* ---------------------------------------------------------------- what the tensor holds */
#define PAD_AROUND_ATTRIBUTES(A, op)                                                                                   \
    A(op, DIMS, before, {0, {0}}) A(op, DIMS, after, {0, {0}}) A(op, TEXT, mode, "reflect")
CR_OPTIONS(pad_around, PAD_AROUND_ATTRIBUTES)
CR_ATTRIBUTES(pad_around, PAD_AROUND_ATTRIBUTES)

typedef enum pad_mode { PAD_REFLECT, PAD_REPLICATE, PAD_CIRCULAR, PAD_MODES } pad_mode;
static pad_mode read_mode(const char *text) {
    static const char *const names[] = {"reflect", "replicate", "circular"};
    int mode = 0;
    while (mode < PAD_MODES && (!text || strcmp(text, names[mode]) != 0))
        mode++;
    return (pad_mode)mode;
}

/* Where position i of a padded dim (from -before on) comes from. */
static int64_t source_of(pad_mode mode, int64_t i, int64_t size) {
    if (mode == PAD_REPLICATE) return i < 0 ? 0 : i >= size ? size - 1 : i;
    if (mode == PAD_CIRCULAR) return i < 0 ? i + size : i >= size ? i - size : i;
    return i < 0 ? -i : i >= size ? 2 * (size - 1) - i : i;
}

static bool check_around(const cr_call *call, pad_mode mode, int64_t size, int64_t before, int64_t after) {
    const int64_t most = mode == PAD_REFLECT ? size - 1 : mode == PAD_CIRCULAR ? size : size > 0 ? INT64_MAX / 4 : 0;
    return (before >= 0 && after >= 0 && before <= most && after <= most) ||
           cr_fail_call(call, CR_ERROR_SHAPE, "%lld and %lld around a dim of %lld; this mode has 0 to %lld to give",
                        (long long)before, (long long)after, (long long)size, (long long)(most < 0 ? 0 : most));
}

static bool infer_pad_around(cr_call *call) {
    const cr_pad_around_options *o = call->attributes;
    const pad_mode mode = read_mode(o->mode);
    cr_shape shape = cr_tensor_shape(call->inputs[0]);
    if (mode == PAD_MODES)
        return cr_fail(CR_ERROR_ARGUMENT, "mode '%.40s'; there are reflect, replicate and circular",
                       o->mode ? o->mode : "");
    if (o->before.count != o->after.count || o->before.count > shape.count)
        return cr_fail_call(call, CR_ERROR_SHAPE, "%d paddings before and %d after; as many of each, for the last dims",
                            o->before.count, o->after.count);
    for (int i = 0; i < o->before.count; i++) {
        int64_t *size = &shape.at[shape.count - o->before.count + i];
        if (!check_around(call, mode, *size, o->before.at[i], o->after.at[i])) return false;
        *size += o->before.at[i] + o->after.at[i];
    }
    cr_spec_set(call, 0, (cr_dtype)call->inputs[0]->dtype, shape);
    return true;
}

/* Dim by dim, the positions that the padded one shows. */
static bool decompose_pad_around(cr_call *call) {
    const cr_pad_around_options *o = call->attributes;
    const pad_mode mode = read_mode(o->mode);
    cr_tensor *t = call->inputs[0];
    for (int k = 0; k < o->before.count && t; k++) {
        const int dim = t->ndim - o->before.count + k;
        const int64_t before = o->before.at[k], after = o->after.at[k], size = t->sizes[dim];
        if (before == 0 && after == 0) continue;
        cr_tensor *index = cr_empty(CR_I64, CR_SHAPE(before + size + after), CR_CPU);
        int64_t *to = index ? cr_data_i64(index) : NULL;
        for (int64_t i = 0; to && i < index->numel; i++)
            to[i] = source_of(mode, i - before, size);
        t = index ? cr_index_select(t, dim, cr_to_device(index, t->device)) : NULL;
    }
    call->outputs[0] = t == call->inputs[0] ? cr_clone(t) : t;
    return call->outputs[0] != NULL;
}
CR_OP(pad_around, .inputs = "input", CR_ROW_ATTRIBUTES(pad_around), .infer = infer_pad_around,
      .decompose = decompose_pad_around,
      .doc = "The last dims continued by reflection, by their edge, or from the other side.")

cr_tensor *cr_pad_around(cr_tensor *t, cr_dims before, cr_dims after, const char *mode) {
    const cr_pad_around_options options = {sizeof options, before, after, cr_intern(mode)};
    return CR_RUN(pad_around, &options, t);
}
