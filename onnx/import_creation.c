/* Operators that make tensors: constants, ranges, random numbers. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/import.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- constants */
static cr_tensor *numbers(const CrOnnx__AttributeProto *a) {
    if (a->n_floats || !strcmp(a->name, "value_floats"))
        return cr_from_data(CR_F32, CR_SHAPE((int64_t)a->n_floats), a->floats);
    return cr_from_data(CR_I64, CR_SHAPE((int64_t)a->n_ints), a->ints);
}

static bool run_Constant(cr_onnx_call *call) {
    const CrOnnx__AttributeProto *a;
    cr_tensor *t = NULL;
    if ((a = cr_onnx_attribute(call, "value")) && a->t)
        t = cr_onnx_tensor(call->run->program->file, a->t);
    else if ((a = cr_onnx_attribute(call, "value_float")))
        t = cr_scalar((double)a->f, CR_F32);
    else if ((a = cr_onnx_attribute(call, "value_int")))
        t = cr_scalar_i64(a->i);
    else if ((a = cr_onnx_attribute(call, "value_floats")) || (a = cr_onnx_attribute(call, "value_ints")))
        t = numbers(a);
    else
        return cr_onnx_refuse(call, "holds a text or a sparse tensor, which Cresset does not have");
    return cr_onnx_give(call, t);
}
CR_ONNX_IMPORT(Constant, 1, 0)

static bool run_ConstantOfShape(cr_onnx_call *call) {
    const CrOnnx__AttributeProto *value = cr_onnx_attribute(call, "value");
    cr_shape shape;
    if (!cr_onnx_dims_input(call, 0, &shape)) return false;
    if (!value || !value->t) return cr_onnx_give(call, cr_zeros(CR_F32, shape, CR_CPU));
    const cr_onnx_pause before = cr_onnx_pause_trace();
    cr_tensor *t = cr_onnx_tensor(call->run->program->file, value->t);
    const double number = t ? cr_item(t) : 0;
    cr_onnx_resume_trace(before);
    return t && cr_onnx_give(call, cr_full(cr_dtype_of(t), shape, number, CR_CPU));
}
CR_ONNX_IMPORT(ConstantOfShape, 9, CR_ONNX_GROWS)

static bool run_Range(cr_onnx_call *call) {
    double limits[3];
    for (int i = 0; i < 3; i++)
        if (cr_onnx_floats(call, i, &limits[i], 1) != 1) return false;
    return cr_onnx_give(call, cr_arange(cr_dtype_of(call->inputs[0].tensor), limits[0], limits[1], limits[2], CR_CPU));
}
CR_ONNX_IMPORT(Range, 11, CR_ONNX_GROWS)

/* The dtype that an attribute names, else the operand's. */
static bool dtype_of(cr_onnx_call *call, cr_dtype otherwise, cr_dtype *dtype) {
    const int64_t number = cr_onnx_int(call, "dtype", 0);
    *dtype = otherwise;
    return !number || cr_onnx_dtype((int)number, dtype) ||
           cr_onnx_refuse(call, "gives data type %lld (%s), which Cresset does not have", (long long)number,
                          cr_onnx_dtype_text((int)number));
}

static bool run_EyeLike(cr_onnx_call *call) {
    const cr_tensor *x = call->inputs[0].tensor;
    const int64_t k = cr_onnx_int(call, "k", 0);
    cr_dtype dtype;
    if (cr_ndim(x) != 2) return cr_onnx_refuse(call, "needs a matrix");
    if (!dtype_of(call, cr_dtype_of(x), &dtype)) return false;
    cr_tensor *rows = cr_arange(CR_I64, 0, (double)cr_size(x, 0), 1, CR_CPU),
              *columns = cr_arange(CR_I64, 0, (double)cr_size(x, 1), 1, CR_CPU);
    cr_tensor *is_one = cr_eq(cr_unsqueeze(cr_add_scalar(rows, (double)k), 1), columns);
    return cr_onnx_give(call, cr_cast(is_one, dtype));
}
CR_ONNX_IMPORT(EyeLike, 9, CR_ONNX_GROWS)

/* values = [off, on]; the new dim stands at axis. Indices below 0 count from the end, and those outside give no 1. */
static bool run_OneHot(cr_onnx_call *call) {
    cr_tensor *index = cr_onnx_input(call, 0), *values = cr_onnx_input(call, 2);
    double depth;
    if (cr_onnx_floats(call, 1, &depth, 1) != 1) return false;
    const int axis = cr_onnx_axis(call, cr_onnx_int(call, "axis", -1), cr_ndim(index) + 1);
    if (axis < 0) return false;
    cr_tensor *classes = cr_arange(CR_I64, 0, trunc(depth), 1, CR_CPU), *whole = cr_cast(index, CR_I64);
    whole = cr_where(cr_lt_scalar(whole, 0), cr_add_scalar(whole, trunc(depth)), whole);
    for (int d = axis; d < cr_ndim(index); d++)
        classes = cr_unsqueeze(classes, -1);
    cr_tensor *is_one = cr_eq(cr_unsqueeze(whole, axis), classes);
    return cr_onnx_give(call, cr_where(is_one, cr_select(values, 0, 1), cr_select(values, 0, 0)));
}
CR_ONNX_IMPORT(OneHot, 9, CR_ONNX_GROWS)

/* ---------------------------------------------------------------- windows of signals */
/* a0 - a1 cos(2 pi n / N) + a2 cos(4 pi n / N), N the size, or where it is symmetric one less. */
static bool window(cr_onnx_call *call, double a0, double a1, double a2) {
    int64_t size;
    cr_dtype dtype;
    const int64_t number = cr_onnx_int(call, "output_datatype", 1);
    if (cr_onnx_ints(call, 0, &size, 1) != 1) return false;
    if (!cr_onnx_dtype((int)number, &dtype))
        return cr_onnx_refuse(call, "gives data type %lld, which Cresset does not have", (long long)number);
    const double steps = cr_onnx_int(call, "periodic", 1) ? (double)size : (double)(size - 1);
    cr_tensor *n = cr_arange(CR_F64, 0, (double)size, 1, CR_CPU), *angle = cr_mul_scalar(n, 2 * M_PI / steps);
    cr_tensor *w = cr_sub(cr_full(CR_F64, CR_SHAPE_0D, a0, CR_CPU), cr_mul_scalar(cr_cos(angle), a1));
    w = cr_add(w, cr_mul_scalar(cr_cos(cr_mul_scalar(angle, 2)), a2));
    return cr_onnx_give(call, cr_cast(w, dtype));
}
static bool run_HannWindow(cr_onnx_call *call) { return window(call, 0.5, 0.5, 0); }
CR_ONNX_IMPORT(HannWindow, 17, CR_ONNX_GROWS)
static bool run_HammingWindow(cr_onnx_call *call) { return window(call, 25.0 / 46, 1 - 25.0 / 46, 0); }
CR_ONNX_IMPORT(HammingWindow, 17, CR_ONNX_GROWS)
static bool run_BlackmanWindow(cr_onnx_call *call) { return window(call, 0.42, 0.5, 0.08); }
CR_ONNX_IMPORT(BlackmanWindow, 17, CR_ONNX_GROWS)

/* ---------------------------------------------------------------- random numbers: of the default generator */
static cr_tensor *uniform(cr_onnx_call *call, cr_dtype dtype, cr_shape shape) {
    const double low = cr_onnx_float(call, "low", 0), high = cr_onnx_float(call, "high", 1);
    return cr_rand(dtype, shape, CR_CPU, .low = low, .high = high);
}
static cr_tensor *normal(cr_onnx_call *call, cr_dtype dtype, cr_shape shape) {
    const double mean = cr_onnx_float(call, "mean", 0), scale = cr_onnx_float(call, "scale", 1);
    return cr_randn(dtype, shape, CR_CPU, .mean = mean, .std = scale);
}

static bool draw(cr_onnx_call *call, bool is_like, cr_tensor *(*from)(cr_onnx_call *, cr_dtype, cr_shape)) {
    cr_shape shape;
    cr_dtype dtype;
    if (is_like)
        shape = cr_shape_of(call->inputs[0].tensor);
    else if (!cr_onnx_dims_attribute(call, "shape", &shape))
        return cr_ok() && cr_onnx_refuse(call, "has no shape");
    return dtype_of(call, is_like ? cr_dtype_of(call->inputs[0].tensor) : CR_F32, &dtype) &&
           cr_onnx_give(call, from(call, dtype, shape));
}
static bool run_RandomUniform(cr_onnx_call *call) { return draw(call, false, uniform); }
CR_ONNX_IMPORT(RandomUniform, 1, CR_ONNX_RANDOM)
static bool run_RandomUniformLike(cr_onnx_call *call) { return draw(call, true, uniform); }
CR_ONNX_IMPORT(RandomUniformLike, 1, CR_ONNX_RANDOM)
static bool run_RandomNormal(cr_onnx_call *call) { return draw(call, false, normal); }
CR_ONNX_IMPORT(RandomNormal, 1, CR_ONNX_RANDOM)
static bool run_RandomNormalLike(cr_onnx_call *call) { return draw(call, true, normal); }
CR_ONNX_IMPORT(RandomNormalLike, 1, CR_ONNX_RANDOM)

static bool run_Bernoulli(cr_onnx_call *call) {
    cr_tensor *p = cr_onnx_input(call, 0), *draws;
    cr_dtype dtype;
    if (!dtype_of(call, cr_dtype_of(p), &dtype)) return false;
    draws = cr_lt(cr_rand_like(p), p);
    return cr_onnx_give(call, cr_cast(draws, dtype));
}
CR_ONNX_IMPORT(Bernoulli, 15, CR_ONNX_RANDOM)

/* Operand: unnormalised log-probabilities [batch, classes]. */
static bool run_Multinomial(cr_onnx_call *call) {
    cr_tensor *weights = cr_softmax(cr_onnx_input(call, 0), 1);
    const int64_t count = cr_onnx_int(call, "sample_size", 1);
    cr_dtype dtype;
    if (!dtype_of(call, CR_I32, &dtype)) return false;
    return cr_onnx_give(call, cr_cast(cr_multinomial(weights, count, .replacement = true), dtype));
}
CR_ONNX_IMPORT(Multinomial, 7, CR_ONNX_RANDOM)
#endif
