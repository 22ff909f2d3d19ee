/* What rows ask of a call: attributes, operands, and values of operands. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/import.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

bool cr_onnx_refuse(const cr_onnx_call *call, const char *format, ...) {
    char text[768];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format,
              arguments); /* NOLINT(clang-analyzer-valist.Uninitialized): it is started above */
    va_end(arguments);
    return cr_fail(CR_ERROR_UNSUPPORTED, "%s: %s", call->node ? call->node->label : "the model",
                   text); /* "onnx: " stands before it */
}

/* ---------------------------------------------------------------- attributes */
static const CrOnnx__AttributeProto *find_attribute(const cr_onnx_node *node, const char *name) {
    for (size_t i = 0; node && i < node->proto->n_attribute; i++) {
        const CrOnnx__AttributeProto *a = node->proto->attribute[i];
        if (!a->name || strcmp(a->name, name) != 0) continue;
        return a->ref_attr_name && *a->ref_attr_name ? find_attribute(node->caller, a->ref_attr_name) : a;
    }
    return NULL;
}

const CrOnnx__AttributeProto *cr_onnx_attribute(const cr_onnx_call *call, const char *name) {
    return find_attribute(call->node, name);
}

int64_t cr_onnx_int(const cr_onnx_call *call, const char *name, int64_t otherwise) {
    const CrOnnx__AttributeProto *a = cr_onnx_attribute(call, name);
    return a && a->has_i ? a->i : otherwise;
}

double cr_onnx_float(const cr_onnx_call *call, const char *name, double otherwise) {
    const CrOnnx__AttributeProto *a = cr_onnx_attribute(call, name);
    return a && a->has_f ? (double)a->f : otherwise;
}

const char *cr_onnx_text(const cr_onnx_call *call, const char *name, const char *otherwise) {
    const CrOnnx__AttributeProto *a = cr_onnx_attribute(call, name);
    if (!a || !a->has_s) return otherwise;
    char text[256];
    snprintf(text, sizeof text, "%.*s", (int)(a->s.len < 255 ? a->s.len : 255), (const char *)a->s.data);
    const char *copy = cr_intern(text);
    return copy ? copy : otherwise;
}

bool cr_onnx_dims_attribute(const cr_onnx_call *call, const char *name, cr_dims *dims) {
    const CrOnnx__AttributeProto *a = cr_onnx_attribute(call, name);
    dims->count = 0;
    if (!a) return false;
    if (a->n_ints > CR_MAX_DIMS)
        return cr_onnx_refuse(call, "%s has %zu numbers; at most %d", name, a->n_ints, CR_MAX_DIMS);
    dims->count = (int)a->n_ints;
    if (a->n_ints) memcpy(dims->at, a->ints, a->n_ints * sizeof *a->ints);
    return true;
}

cr_onnx_block *cr_onnx_block_named(const cr_onnx_call *call, const char *name) {
    for (int i = 0; i < call->node->block_count; i++)
        if (!strcmp(call->node->block_names[i], name)) return call->node->blocks[i];
    cr_onnx_refuse(call, "has no graph \"%s\"", name);
    return NULL;
}

/* ---------------------------------------------------------------- operands */
/* Numbers that follow from sizes, as ops: each a constant whose value the tracer can fit. */
static cr_tensor *make_anew(const cr_onnx_operand *operand) {
    enum { MOST = 256 };
    const cr_tensor *known = operand->tensor;
    const int count = (int)cr_numel(known);
    cr_tensor *parts[MOST];
    double values[MOST] = {0};
    if (cr_numel(known) > MOST || !cr_numel(known)) return (cr_tensor *)(uintptr_t)known;
    const cr_dtype dtype = cr_dtype_of(known);
    for (int i = 0; i < count; i++) {
        const cr_onnx_pause before = cr_onnx_pause_trace();
        cr_shape at = cr_shape_of(known);
        for (int d = at.count - 1, rest = i; d >= 0; d--) {
            const int64_t size = at.at[d];
            at.at[d] = rest % size;
            rest = (int)(rest / size);
        }
        values[i] = cr_at(known, at);
        cr_onnx_resume_trace(before);
    }
    if (cr_ndim(known) == 0) return cr_full(dtype, CR_SHAPE_0D, values[0], CR_CPU);
    for (int i = 0; i < count; i++)
        parts[i] = cr_full(dtype, CR_SHAPE(1), values[i], CR_CPU);
    return cr_reshape(count == 1 ? parts[0] : cr_cat(parts, count, 0), cr_shape_of(known));
}

cr_tensor *cr_onnx_input(cr_onnx_call *call, int i) {
    if (i >= call->input_count || !call->inputs[i].tensor) return NULL;
    cr_onnx_operand *operand = &call->inputs[i];
    const cr_thread *thread = cr_thread_self();
    if (!operand->is_sized || thread->listeners_paused || !thread->tracer) return operand->tensor;
    return make_anew(operand);
}

/* The values as doubles or integers, row-major; -1 and an error. */
static int read_values(cr_onnx_call *call, int i, cr_dtype dtype, void *values, int capacity) {
    if (i >= call->input_count || !call->inputs[i].tensor) {
        cr_onnx_refuse(call, "operand %d is missing", i);
        return -1;
    }
    const cr_onnx_operand *operand = &call->inputs[i];
    if (call->run->is_traced && !operand->is_known) {
        cr_onnx_refuse(
            call,
            "operand %d, which its result's sizes or meaning follow from, is computed from the model's inputs; "
            "give it as a constant (.constants), or run the model as a module",
            i);
        return -1;
    }
    if (cr_numel(operand->tensor) > capacity) {
        cr_onnx_refuse(call, "operand %d has %lld numbers; at most %d", i, (long long)cr_numel(operand->tensor),
                       capacity);
        return -1;
    }
    const int count = (int)cr_numel(operand->tensor);
    const cr_onnx_pause before = cr_onnx_pause_trace();
    bool done = false;
    CR_SCOPE {
        cr_tensor *t = cr_cast(cr_contiguous(operand->tensor), dtype);
        done = t && cr_copy_to_host(t, values, (size_t)count * cr_dtype_size(dtype));
    }
    cr_onnx_resume_trace(before);
    return done ? count : -1;
}

int cr_onnx_ints(cr_onnx_call *call, int i, int64_t *values, int capacity) {
    return read_values(call, i, CR_I64, values, capacity);
}

int cr_onnx_floats(cr_onnx_call *call, int i, double *values, int capacity) {
    return read_values(call, i, CR_F64, values, capacity);
}

bool cr_onnx_dims_input(cr_onnx_call *call, int i, cr_dims *dims) {
    dims->count = 0;
    if (i >= call->input_count || !call->inputs[i].tensor) return true;
    dims->count = cr_onnx_ints(call, i, dims->at, CR_MAX_DIMS);
    return dims->count >= 0;
}

int cr_onnx_axis(cr_onnx_call *call, int64_t axis, int ndim) {
    const int64_t from_start = axis < 0 ? axis + ndim : axis;
    if (from_start >= 0 && from_start < ndim) return (int)from_start;
    cr_record_error(CR_ERROR_SHAPE, "%s: axis %lld of %d dims", call->node->label, (long long)axis, ndim);
    return -1;
}

bool cr_onnx_axes(cr_onnx_call *call, const char *name, int i, int since, int ndim, cr_dims *axes) {
    if (call->opset >= since ? !cr_onnx_dims_input(call, i, axes)
                             : !cr_onnx_dims_attribute(call, name, axes) && !cr_ok())
        return false;
    for (int k = 0; k < axes->count; k++)
        if ((axes->at[k] = cr_onnx_axis(call, axes->at[k], ndim)) < 0) return false;
    return true;
}

bool cr_onnx_number(cr_onnx_call *call, const char *name, int i, int since, double *value) {
    if (call->opset < since) {
        *value = cr_onnx_float(call, name, *value);
        return true;
    }
    if (i >= call->input_count || !call->inputs[i].tensor) return true;
    return cr_onnx_floats(call, i, value, 1) == 1 || (cr_ok() && cr_onnx_refuse(call, "%s is not one number", name));
}

/* ---------------------------------------------------------------- results */
bool cr_onnx_give_at(cr_onnx_call *call, int i, cr_tensor *t) {
    if (!t) return false;
    if (i < call->output_count) call->outputs[i].tensor = t;
    return true;
}

bool cr_onnx_give(cr_onnx_call *call, cr_tensor *t) { return cr_onnx_give_at(call, 0, t); }

bool cr_onnx_give_known(cr_onnx_call *call, const int64_t *values, int count, bool is_scalar, bool is_sized) {
    const cr_onnx_pause before = cr_onnx_pause_trace();
    cr_tensor *t = is_scalar ? cr_scalar_i64(values[0]) : cr_from_data(CR_I64, CR_SHAPE(count), values);
    cr_onnx_resume_trace(before);
    call->outputs[0] = (cr_onnx_operand){t, true, is_sized, false};
    return t != NULL;
}

/* Before opset 7 the second operand was laid against dims of the first only on demand, from `axis` on. */
bool cr_onnx_align_old(const cr_onnx_call *call, cr_tensor **inputs) {
    if (call->opset >= 7 || call->input_count != 2 || !cr_onnx_int(call, "broadcast", 0)) return true;
    const int64_t axis = cr_onnx_int(call, "axis", -1);
    if (axis < 0 || !inputs[0] || !inputs[1]) return true;
    for (int64_t end = axis + cr_ndim(inputs[1]); inputs[1] && end < cr_ndim(inputs[0]); end++)
        inputs[1] = cr_unsqueeze(inputs[1], -1);
    return inputs[1] != NULL;
}
#endif
