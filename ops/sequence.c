/* arange, linspace, eye. */
#include "ops/sequence.h"

CR_ATTRIBUTES(sequence, CR_SEQUENCE_ATTRIBUTES)

static bool infer_sequence(cr_call *call) {
    const cr_sequence_options *o = call->attributes;
    if (o->count < 0) return cr_fail(CR_ERROR_ARGUMENT, "%lld numbers", (long long)o->count);
    const double last = o->start + (double)o->count * o->step;
    if (!cr_dtype_is_floating(o->dtype) && !(fabs(o->start) < 0x1p62 && fabs(last) < 0x1p62))
        return cr_fail(CR_ERROR_ARGUMENT, "%lld numbers from %g by %g leave the integers", (long long)o->count,
                       o->start, o->step);
    call->device = o->device;
    cr_spec_set(call, 0, o->dtype, CR_SHAPE(o->count));
    return true;
}

/* Computed in f64 (i64 where whole), rounded once. */
static bool decompose_sequence(cr_call *call) {
    const cr_sequence_options *o = call->attributes;
    const bool is_whole = cr_sequence_is_whole(o);
    cr_tensor *numbers = cr_empty(is_whole ? CR_I64 : CR_F64, CR_SHAPE(o->count), CR_CPU);
    void *to = numbers ? cr_tensor_address(numbers) : NULL;
    for (int64_t i = 0; to && i < o->count; i++) {
        if (is_whole)
            ((int64_t *)to)[i] = (int64_t)o->start + i * (int64_t)o->step;
        else
            ((double *)to)[i] = o->start + (double)i * o->step;
    }
    return (call->outputs[0] = cr_to_device(cr_cast(numbers, o->dtype), o->device)) != NULL;
}
CR_OP(sequence, .inputs = "", CR_ROW_ATTRIBUTES(sequence), .flags = CR_OP_NO_GRADIENT, .infer = infer_sequence,
      .decompose = decompose_sequence, .doc = "start, start + step, …: `count` numbers.")

static cr_tensor *sequence(cr_dtype dtype, double start, double step, double count, cr_device device) {
    if (!(count >= 0 && count < 0x1p62)) {
        cr_record_error(CR_ERROR_ARGUMENT, "arange: %g numbers from %g by %g", count, start, step);
        return NULL;
    }
    const cr_sequence_options options = {sizeof options, dtype, start, step, (int64_t)count, device};
    return cr_run(&cr_op_sequence, NULL, 0, &options);
}

cr_tensor *cr_arange(cr_dtype dtype, double start, double end, double step, cr_device device) {
    return sequence(dtype, start, step, step != 0 ? ceil((end - start) / step) : -1, device);
}

/* ---------------------------------------------------------------- linspace */
#define LINSPACE_ATTRIBUTES(A, op)                                                                                     \
    A(op, DTYPE, dtype, CR_F32)                                                                                        \
    A(op, FLOAT, start, 0) A(op, FLOAT, end, 1) A(op, INT, count, 0) A(op, DEVICE, device, CR_CPU_DEVICE)
CR_OPTIONS(linspace, LINSPACE_ATTRIBUTES)
CR_ATTRIBUTES(linspace, LINSPACE_ATTRIBUTES)

static bool infer_linspace(cr_call *call) {
    const cr_linspace_options *o = call->attributes;
    if (o->count < 0) return cr_fail(CR_ERROR_ARGUMENT, "%lld numbers", (long long)o->count);
    call->device = o->device;
    cr_spec_set(call, 0, o->dtype, CR_SHAPE(o->count));
    return true;
}
/* Counted from the nearer end, so that both ends are exact; in f64, rounded once. */
static bool decompose_linspace(cr_call *call) {
    const cr_linspace_options *o = call->attributes;
    cr_tensor *numbers = cr_empty(CR_F64, CR_SHAPE(o->count), CR_CPU);
    if (!numbers) return false;
    double *to = cr_tensor_address(numbers);
    const double step = o->count > 1 ? (o->end - o->start) / (double)(o->count - 1) : 0;
    for (int64_t i = 0; i < o->count; i++)
        to[i] = i < o->count / 2 || o->count == 1 ? o->start + (double)i * step
                                                  : o->end - (double)(o->count - 1 - i) * step;
    return (call->outputs[0] = cr_to_device(cr_cast(numbers, o->dtype), o->device)) != NULL;
}
CR_OP(linspace, .inputs = "", CR_ROW_ATTRIBUTES(linspace), .flags = CR_OP_NO_GRADIENT, .infer = infer_linspace,
      .decompose = decompose_linspace, .doc = "`count` evenly spaced numbers from start to end.")

cr_tensor *cr_linspace(cr_dtype dtype, double start, double end, int64_t count, cr_device device) {
    const cr_linspace_options options = {sizeof options, dtype, start, end, count, device};
    return cr_run(&cr_op_linspace, NULL, 0, &options);
}

/* ---------------------------------------------------------------- eye */
#define EYE_ATTRIBUTES(A, op)                                                                                          \
    A(op, DTYPE, dtype, CR_F32) A(op, INT, rows, 0) A(op, INT, columns, 0) A(op, DEVICE, device, CR_CPU_DEVICE)
CR_OPTIONS(eye, EYE_ATTRIBUTES)
CR_ATTRIBUTES(eye, EYE_ATTRIBUTES)

static bool infer_eye(cr_call *call) {
    const cr_eye_options *o = call->attributes;
    call->device = o->device;
    cr_spec_set(call, 0, o->dtype, CR_SHAPE(o->rows, o->columns));
    return true;
}
static bool decompose_eye(cr_call *call) {
    const cr_eye_options *o = call->attributes;
    cr_tensor *t = cr_zeros(o->dtype, CR_SHAPE(o->rows, o->columns), o->device);
    call->outputs[0] = t;
    return t && cr_fill_(cr_diagonal(t, 0, 0, 1), 1);
}
CR_OP(eye, .inputs = "", CR_ROW_ATTRIBUTES(eye), .flags = CR_OP_NO_GRADIENT, .infer = infer_eye,
      .decompose = decompose_eye, .doc = "Ones on the diagonal of a matrix of zeros.")

cr_tensor *cr_eye(cr_dtype dtype, int64_t rows, int64_t columns, cr_device device) {
    const cr_eye_options options = {sizeof options, dtype, rows, columns, device};
    return cr_run(&cr_op_eye, NULL, 0, &options);
}
