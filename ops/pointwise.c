/* Pointwise ops: rows, gradient rules and public functions, all made from pointwise.def. */
#include "ops/pointwise.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- promotion and inference */
static bool takes_part(cr_pointwise_class class, int operand) {
    return !(class == CR_CLASS_MASK_A && operand == 0) && !(class == CR_CLASS_MASK_B && operand == 1);
}

/* 0: bool, 1: integer, 2: floating. */
static int category(cr_dtype dtype) { return dtype == CR_BOOL ? 0 : dtype < CR_F16 ? 1 : 2; }

/* PyTorch's rule: operands with dims decide; 0-d ones only where they are of a higher category. */
static cr_dtype promote_mixture(const cr_call *call) {
    cr_dtype with_dims = CR_DTYPE_DEFAULT, scalar = CR_DTYPE_DEFAULT;
    for (int i = 0; i < call->input_count; i++) {
        if (!takes_part(call->op->pointwise->class, i)) continue;
        const cr_tensor *t = call->inputs[i];
        cr_dtype *group = t->ndim > 0 ? &with_dims : &scalar;
        *group = *group == CR_DTYPE_DEFAULT ? (cr_dtype)t->dtype : cr_dtype_promote(*group, (cr_dtype)t->dtype);
    }
    if (with_dims == CR_DTYPE_DEFAULT) return scalar;
    if (scalar == CR_DTYPE_DEFAULT || category(scalar) <= category(with_dims)) return with_dims;
    return cr_dtype_promote(with_dims, scalar);
}

cr_dtype cr_pointwise_promote(const cr_call *call) {
    const int8_t first = call->inputs[0]->dtype;
    for (int i = 1; i < call->input_count; i++)
        if (call->inputs[i]->dtype != first) return promote_mixture(call);
    return (cr_dtype)first;
}

cr_dtype cr_pointwise_computes(const cr_call *call, cr_dtype *result) {
    const cr_pointwise_class class = call->op->pointwise->class;
    cr_dtype dtype = cr_pointwise_promote(call);
    if (class == CR_CLASS_REAL && !cr_dtype_is_floating(dtype)) dtype = CR_F32;
    *result = class == CR_CLASS_COMPARE ? CR_BOOL : dtype;
    return dtype;
}

static bool infer_shape(cr_call *call, cr_shape *shape) {
    bool same_as_first = true;
    *shape = cr_tensor_shape(call->inputs[0]);
    for (int i = 1; i < call->input_count; i++) {
        const cr_tensor *t = call->inputs[i];
        if (same_as_first && cr_tensor_same_sizes(t, call->inputs[0])) continue;
        cr_shape joined;
        same_as_first = false;
        if (!cr_shape_broadcast(*shape, cr_tensor_shape(t), &joined)) return false;
        *shape = joined;
    }
    return true;
}

/* Channels-last is kept where an operand of the full shape has it and none of them is plainly contiguous. */
bool cr_pointwise_keeps_channels_last(const cr_call *call, const cr_shape *shape) {
    if (shape->count != 4 && shape->count != 5) return false;
    bool found = false;
    for (int i = 0; i < call->input_count; i++) {
        const cr_tensor *t = call->inputs[i];
        if (!cr_shape_equal(cr_tensor_shape(t), *shape)) continue;
        if (cr_is_contiguous(t)) return false;
        found |= cr_is_channels_last(t);
    }
    return found;
}

static bool infer_pointwise(cr_call *call) {
    const cr_pointwise_class class = call->op->pointwise->class;
    cr_spec *spec = call->specs;
    if (!infer_shape(call, &spec->shape)) return false;
    const cr_dtype dtype = cr_pointwise_computes(call, &spec->dtype);
    if (class == CR_CLASS_INTEGER && cr_dtype_is_floating(dtype))
        return cr_fail_call(call, CR_ERROR_DTYPE, "takes integers and bool only");
    if (class == CR_CLASS_SIGNED && dtype == CR_BOOL)
        return cr_fail_call(call, CR_ERROR_DTYPE, "does not take bool; cast it, or use logical_not or bitwise_xor");
    spec->channels_last = cr_pointwise_keeps_channels_last(call, &spec->shape);
    return true;
}

/* ---------------------------------------------------------------- gradient rules */
/* Second derivative of gelu's tanh form: with t = tanh u, u = k (x + c x^3):
 * (1 - t^2) (2 u' + x (u'' - 2 t u'^2)) / 2. */
static cr_tensor *gelu_tanh_curvature(cr_tensor *x) {
    const double k = 0.79788456080286535588, c = 0.044715;
    cr_tensor *square = cr_square(x);
    cr_tensor *t = cr_tanh(cr_mul_scalar(cr_mul(x, cr_add_scalar(cr_mul_scalar(square, c), 1)), k));
    cr_tensor *slope = cr_mul_scalar(cr_add_scalar(cr_mul_scalar(square, 3 * c), 1), k);
    cr_tensor *bend = cr_mul_scalar(x, 6 * c * k);
    cr_tensor *inner = cr_sub(bend, cr_mul_scalar(cr_mul(t, cr_square(slope)), 2));
    return cr_mul(cr_one_minus_square(t), cr_add(slope, cr_mul_scalar(cr_mul(x, inner), 0.5)));
}

#define S_
#define S_A   cr_tensor *const a = v->inputs[0];
#define S_B   cr_tensor *const b = v->inputs[1];
#define S_C   cr_tensor *const c = v->inputs[2];
#define S_Y   cr_tensor *const y = v->outputs[0];
#define S_AB  S_A S_B
#define S_BC  S_B S_C
#define S_AY  S_A S_Y
#define S_ABC S_A S_B S_C
#define S_ABY S_A S_B S_Y
/* A result left NULL is zero. */
static cr_tensor *const zero_gradient = NULL;
#define ZERO zero_gradient
#define NONE zero_gradient
#define RESULT(i, gradient)                                                                                            \
    if (v->needs[i]) v->results[i] = (gradient);
#define RULE(name, saves, declare, results)                                                                            \
    static bool vjp_##name(cr_vjp *v) {                                                                                \
        cr_tensor *const g = v->grads[0];                                                                              \
        const double *const value_of = ((const cr_pointwise_attributes *)v->attributes)->value;                        \
        (void)g, (void)value_of;                                                                                       \
        declare saves results return cr_ok();                                                                          \
    }
#define ATTRIBUTE_1(p) const double p = value_of[0];
#define ATTRIBUTE_2(p, q)                                                                                              \
    const double p = value_of[0], q = value_of[1];                                                                     \
    (void)p, (void)q;

#define CR_POINTWISE_1(name, class, saves, ga, ...)                  RULE(name, saves, , RESULT(0, ga))
#define CR_POINTWISE_1_P(name, p, pd, class, saves, ga, ...)         RULE(name, saves, ATTRIBUTE_1(p)(void) p;, RESULT(0, ga))
#define CR_POINTWISE_1_PQ(name, p, pd, q, qd, class, saves, ga, ...) RULE(name, saves, ATTRIBUTE_2(p, q), RESULT(0, ga))
#define CR_POINTWISE_2(name, class, saves, ga, gb, ...)              RULE(name, saves, , RESULT(0, ga) RESULT(1, gb))
#define CR_POINTWISE_2_P(name, p, pd, class, saves, ga, gb, ...)                                                       \
    RULE(name, saves, ATTRIBUTE_1(p)(void) p;, RESULT(0, ga) RESULT(1, gb))
#define CR_POINTWISE_2_PQ(name, p, pd, q, qd, class, saves, ga, gb, ...)                                               \
    RULE(name, saves, ATTRIBUTE_2(p, q), RESULT(0, ga) RESULT(1, gb))
#define CR_POINTWISE_3(name, class, saves, ga, gb, gc, ...)                                                            \
    RULE(name, saves, , RESULT(0, ga) RESULT(1, gb) RESULT(2, gc))
#define CR_POINTWISE_3_P(name, p, pd, class, saves, ga, gb, gc, ...)                                                   \
    RULE(name, saves, ATTRIBUTE_1(p)(void) p;, RESULT(0, ga) RESULT(1, gb) RESULT(2, gc))
#include <cresset/pointwise.def>
#include <cresset/pointwise_undef.h>

/* ---------------------------------------------------------------- rows */
#undef S_
#undef S_A
#undef S_B
#undef S_C
#undef S_Y
#undef S_AB
#undef S_BC
#undef S_AY
#undef S_ABC
#undef S_ABY
#define MASK_S_    0
#define MASK_S_A   CR_SAVE_INPUT(0)
#define MASK_S_B   CR_SAVE_INPUT(1)
#define MASK_S_C   CR_SAVE_INPUT(2)
#define MASK_S_Y   CR_SAVE_OUTPUT(0)
#define MASK_S_AB  (MASK_S_A | MASK_S_B)
#define MASK_S_BC  (MASK_S_B | MASK_S_C)
#define MASK_S_AY  (MASK_S_A | MASK_S_Y)
#define MASK_S_ABC (MASK_S_AB | MASK_S_C)
#define MASK_S_ABY (MASK_S_AB | MASK_S_Y)

#define VALUE_OFFSET(i) (offsetof(cr_pointwise_attributes, value) + (i) * sizeof(double))
static const cr_pointwise_attributes no_attributes = {sizeof(cr_pointwise_attributes), {0, 0}};

#define CR_POINTWISE_1_P(name, p, pd, ...)                                                                             \
    static const cr_attribute attributes_##name[] = {{#p, CR_ATTRIBUTE_FLOAT, VALUE_OFFSET(0)}};                       \
    static const cr_pointwise_attributes defaults_##name = {sizeof defaults_##name, {pd, 0}};
#define CR_POINTWISE_2_P CR_POINTWISE_1_P
#define CR_POINTWISE_3_P CR_POINTWISE_1_P
#define CR_POINTWISE_1_PQ(name, p, pd, q, qd, ...)                                                                     \
    static const cr_attribute attributes_##name[] = {{#p, CR_ATTRIBUTE_FLOAT, VALUE_OFFSET(0)},                        \
                                                     {#q, CR_ATTRIBUTE_FLOAT, VALUE_OFFSET(1)}};                       \
    static const cr_pointwise_attributes defaults_##name = {sizeof defaults_##name, {pd, qd}};
#define CR_POINTWISE_2_PQ CR_POINTWISE_1_PQ
#define CR_POINTWISE_1(...)
#define CR_POINTWISE_2(...)
#define CR_POINTWISE_3(...)
#include <cresset/pointwise.def>
#include <cresset/pointwise_undef.h>

#define INFO(name, class_, saves, operands_, expression_)                                                              \
    static const cr_pointwise_info info_##name = {CR_POINTWISE_INDEX_##name, CR_CLASS_##class_, operands_, expression_};
#define TEXT(...)                                           #__VA_ARGS__
#define CR_POINTWISE_1(name, class, saves, ga, ...)         INFO(name, class, saves, 1, TEXT(__VA_ARGS__))
#define CR_POINTWISE_1_P(name, p, pd, ...)                  CR_POINTWISE_1(name, __VA_ARGS__)
#define CR_POINTWISE_1_PQ(name, p, pd, q, qd, ...)          CR_POINTWISE_1(name, __VA_ARGS__)
#define CR_POINTWISE_2(name, class, saves, ga, gb, ...)     INFO(name, class, saves, 2, TEXT(__VA_ARGS__))
#define CR_POINTWISE_2_P(name, p, pd, ...)                  CR_POINTWISE_2(name, __VA_ARGS__)
#define CR_POINTWISE_2_PQ(name, p, pd, q, qd, ...)          CR_POINTWISE_2(name, __VA_ARGS__)
#define CR_POINTWISE_3(name, class, saves, ga, gb, gc, ...) INFO(name, class, saves, 3, TEXT(__VA_ARGS__))
#define CR_POINTWISE_3_P(name, p, pd, ...)                  CR_POINTWISE_3(name, __VA_ARGS__)
#include <cresset/pointwise.def>
#include <cresset/pointwise_undef.h>

/* A row that `class` COMPARE and INTEGER never differentiates. */
#define NO_GRADIENT_ANY     0
#define NO_GRADIENT_REAL    0
#define NO_GRADIENT_SIGNED  0
#define NO_GRADIENT_MASK_A  0
#define NO_GRADIENT_MASK_B  0
#define NO_GRADIENT_COMPARE CR_OP_NO_GRADIENT
#define NO_GRADIENT_INTEGER CR_OP_NO_GRADIENT

#define ROW(op_name, class, saves_, operand_names, ...)                                                                \
    [CR_POINTWISE_INDEX_##op_name] = {.name = #op_name,                                                                \
                                      .inputs = operand_names,                                                         \
                                      .attribute_bytes = sizeof(cr_pointwise_attributes),                              \
                                      .flags = CR_OP_POINTWISE | NO_GRADIENT_##class,                                  \
                                      .saves = MASK_##saves_,                                                          \
                                      .infer = infer_pointwise,                                                        \
                                      .vjp = vjp_##op_name,                                                            \
                                      .pointwise = &info_##op_name,                                                    \
                                      __VA_ARGS__},
#define WITH(op_name, count)                                                                                           \
    .attributes = attributes_##op_name, .attribute_count = count, .defaults = &defaults_##op_name
#define WITHOUT                                                  .defaults = &no_attributes
#define CR_POINTWISE_1(name, class, saves, ...)                  ROW(name, class, saves, "a", WITHOUT)
#define CR_POINTWISE_1_P(name, p, pd, class, saves, ...)         ROW(name, class, saves, "a", WITH(name, 1))
#define CR_POINTWISE_1_PQ(name, p, pd, q, qd, class, saves, ...) ROW(name, class, saves, "a", WITH(name, 2))
#define CR_POINTWISE_2(name, class, saves, ...)                  ROW(name, class, saves, "a b", WITHOUT)
#define CR_POINTWISE_2_P(name, p, pd, class, saves, ...)         ROW(name, class, saves, "a b", WITH(name, 1))
#define CR_POINTWISE_2_PQ(name, p, pd, q, qd, class, saves, ...) ROW(name, class, saves, "a b", WITH(name, 2))
#define CR_POINTWISE_3(name, class, saves, ...)                  ROW(name, class, saves, "a b c", WITHOUT)
#define CR_POINTWISE_3_P(name, p, pd, class, saves, ...)         ROW(name, class, saves, "a b c", WITH(name, 1))
cr_op cr_pointwise_ops[CR_POINTWISE_COUNT] = {
#include <cresset/pointwise.def>
};
#include <cresset/pointwise_undef.h>

/* ---------------------------------------------------------------- public functions */
/* A number as the second operand, 0-d and of a dtype that leaves a's alone where it can. */
static cr_tensor *scalar_beside(const cr_op *op, const cr_tensor *a, double value) {
    if (!cr_tensor_check(a, op->name)) return NULL;
    cr_dtype dtype = (cr_dtype)a->dtype;
    if (!cr_dtype_is_floating(dtype)) {
        const bool is_integral = value == __builtin_floor(value) && value >= -0x1p63 && value < 0x1p63;
        dtype = !is_integral ? CR_F32 : dtype == CR_BOOL && value != 0 && value != 1 ? CR_I64 : dtype;
    }
    return cr_scalar(value, dtype);
}

#define OP(name)                       (&cr_pointwise_ops[CR_POINTWISE_INDEX_##name])
#define NUMBERS(...)                   (&(const cr_pointwise_attributes){sizeof(cr_pointwise_attributes), {__VA_ARGS__}})
#define RUN(name, count, numbers, ...) return cr_run(OP(name), (cr_tensor *const[]){__VA_ARGS__}, count, numbers)
#define RUN_(name, count, numbers, ...)                                                                                \
    return cr_run_in_place(OP(name), a, (cr_tensor *const[]){__VA_ARGS__}, count, numbers)

#define CR_POINTWISE_1(name, ...)                                                                                      \
    cr_tensor *cr_##name(cr_tensor *a) { RUN(name, 1, NULL, a); }                                                      \
    cr_tensor *cr_##name##_(cr_tensor *a) { RUN_(name, 1, NULL, a); }
#define CR_POINTWISE_1_P(name, p, ...)                                                                                 \
    cr_tensor *cr_##name(cr_tensor *a, double p) { RUN(name, 1, NUMBERS(p), a); }                                      \
    cr_tensor *cr_##name##_(cr_tensor *a, double p) { RUN_(name, 1, NUMBERS(p), a); }
#define CR_POINTWISE_1_PQ(name, p, pd, q, ...)                                                                         \
    cr_tensor *cr_##name(cr_tensor *a, double p, double q) { RUN(name, 1, NUMBERS(p, q), a); }                         \
    cr_tensor *cr_##name##_(cr_tensor *a, double p, double q) { RUN_(name, 1, NUMBERS(p, q), a); }
#define CR_POINTWISE_2(name, ...)                                                                                      \
    cr_tensor *cr_##name(cr_tensor *a, cr_tensor *b) { RUN(name, 2, NULL, a, b); }                                     \
    cr_tensor *cr_##name##_(cr_tensor *a, cr_tensor *b) { RUN_(name, 2, NULL, a, b); }                                 \
    cr_tensor *cr_##name##_scalar(cr_tensor *a, double b) { return cr_run_scalar(OP(name), a, b, false); }             \
    cr_tensor *cr_##name##_scalar_(cr_tensor *a, double b) { return cr_run_scalar(OP(name), a, b, true); }
#define CR_POINTWISE_2_P(name, p, ...)                                                                                 \
    cr_tensor *cr_##name(cr_tensor *a, cr_tensor *b, double p) { RUN(name, 2, NUMBERS(p), a, b); }                     \
    cr_tensor *cr_##name##_(cr_tensor *a, cr_tensor *b, double p) { RUN_(name, 2, NUMBERS(p), a, b); }
#define CR_POINTWISE_2_PQ(name, p, pd, q, ...)                                                                         \
    cr_tensor *cr_##name(cr_tensor *a, cr_tensor *b, double p, double q) { RUN(name, 2, NUMBERS(p, q), a, b); }        \
    cr_tensor *cr_##name##_(cr_tensor *a, cr_tensor *b, double p, double q) { RUN_(name, 2, NUMBERS(p, q), a, b); }
#define CR_POINTWISE_3(name, ...)                                                                                      \
    cr_tensor *cr_##name(cr_tensor *a, cr_tensor *b, cr_tensor *c) { RUN(name, 3, NULL, a, b, c); }                    \
    cr_tensor *cr_##name##_(cr_tensor *a, cr_tensor *b, cr_tensor *c) { RUN_(name, 3, NULL, a, b, c); }
#define CR_POINTWISE_3_P(name, p, ...)                                                                                 \
    cr_tensor *cr_##name(cr_tensor *a, cr_tensor *b, cr_tensor *c, double p) { RUN(name, 3, NUMBERS(p), a, b, c); }    \
    cr_tensor *cr_##name##_(cr_tensor *a, cr_tensor *b, cr_tensor *c, double p) { RUN_(name, 3, NUMBERS(p), a, b, c); }

static cr_tensor *cr_run_scalar(cr_op *op, cr_tensor *a, double value, bool in_place) {
    cr_tensor *b = scalar_beside(op, a, value);
    if (!b) return NULL;
    cr_tensor *const inputs[] = {a, b};
    cr_tensor *result = in_place ? cr_run_in_place(op, a, inputs, 2, NULL) : cr_run(op, inputs, 2, NULL);
    cr_discard(b);
    return result;
}
#include <cresset/pointwise.def>
#include <cresset/pointwise_undef.h>
