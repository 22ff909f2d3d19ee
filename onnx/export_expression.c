/* Pointwise ops: by the operator that is the same, or node by node from the expression that pointwise.def gives.
 *
 * expression: or-expressions of and, comparisons, sums, products, and what stands alone: a number, an operand, an attribute,
 * a word of ops/math.h with operands in brackets. C's precedences. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/emit.h"

#include "ops/pointwise.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- a value in an expression */
typedef struct term {
    const char *name; /* NULL: failed */
    bool is_bool;
    bool is_number; /* a constant: no node yet */
    double number;
} term;

typedef struct parser {
    cr_onnx_emitter *e; /* NULL: only asked whether it can be written */
    const cr_graph_node *node;
    const char *at;
    cr_dtype compute;
    const char *const *operands;
    const bool *are_bool; /* which operands are conditions already */
    int opset;
    bool failed;
} parser;

static const term nothing;

static term parse_or(parser *p);

static term fail(parser *p) {
    p->failed = true;
    return nothing;
}

static term made(parser *p, const char *name, bool is_bool) {
    if (p->e && !name) return fail(p);
    return (term){name, is_bool, false, 0};
}

/* The name of a term in the compute type. */
static const char *value_of(parser *p, term t) {
    if (!p->e) return "";
    if (t.is_number) return cr_onnx_scalar(p->e, p->compute, t.number);
    return t.is_bool ? cr_onnx_cast(p->e, t.name, CR_BOOL, p->compute) : t.name;
}

static const char *condition_of(parser *p, term t) {
    if (!p->e || t.is_bool) return p->e ? t.name : "";
    return cr_onnx_add(p->e, "Not", cr_onnx_add(p->e, "Equal", value_of(p, t), cr_onnx_scalar(p->e, p->compute, 0)));
}

static term unary(parser *p, const char *operator, term a) {
    return p->e ? made(p, cr_onnx_add(p->e, operator, value_of(p, a)), false) : (term){"", false, false, 0};
}

static term binary(parser *p, const char *operator, term a, term b) {
    return p->e ? made(p, cr_onnx_add(p->e, operator, value_of(p, a), value_of(p, b)), false)
                : (term){"", false, false, 0};
}

static term compare(parser *p, const char *operator, term a, term b) {
    term t = binary(p, operator, a, b);
    t.is_bool = true;
    return t;
}

static term number(double value) { return (term){NULL, false, true, value}; }

/* ---------------------------------------------------------------- words */
static term logical_not(parser *p, term a) {
    return p->e ? made(p, cr_onnx_add(p->e, "Not", condition_of(p, a)), true) : (term){"", true, false, 0};
}

static term choose(parser *p, term condition, term a, term b) {
    if (!p->e) return (term){"", false, false, 0};
    return made(p, cr_onnx_add(p->e, "Where", condition_of(p, condition), value_of(p, a), value_of(p, b)), false);
}

static term is_what(parser *p, const char *operator, term a) {
    term t = unary(p, operator, a);
    t.is_bool = true;
    return t;
}

static term write_sigmoid(parser *p, term *a) { return unary(p, "Sigmoid", a[0]); }
static term write_select(parser *p, term *a) { return choose(p, a[0], a[1], a[2]); }
static term write_isnan(parser *p, term *a) {
    return p->compute == CR_I64 ? compare(p, "Less", a[0], a[0]) : is_what(p, "IsNaN", a[0]);
}
static term write_isinf(parser *p, term *a) {
    return p->compute == CR_I64 ? compare(p, "Less", a[0], a[0]) : is_what(p, "IsInf", a[0]);
}
static term write_trunc(parser *p, term *a) {
    if (p->compute == CR_I64) return a[0];
    return choose(p, compare(p, "Less", a[0], number(0)), unary(p, "Ceil", a[0]), unary(p, "Floor", a[0]));
}
static term write_exp2(parser *p, term *a) {
    return unary(p, "Exp", binary(p, "Mul", a[0], number(0.693147180559945309417)));
}
/* tanh(x / 2) (e^x + 1): exact near 0; past 80 e^x - 1 is e^x. */
static term write_expm1(parser *p, term *a) {
    const term e = unary(p, "Exp", a[0]), half = binary(p, "Mul", a[0], number(0.5));
    return binary(p, "Mul", unary(p, "Tanh", half), binary(p, "Add", e, number(1)));
}
static term write_log2(parser *p, term *a) {
    return binary(p, "Mul", unary(p, "Log", a[0]), number(1.44269504088896340736));
}
static term write_log10(parser *p, term *a) {
    return binary(p, "Mul", unary(p, "Log", a[0]), number(0.434294481903251827651));
}
/* log(u) x / (u - 1) with u = 1 + x, or x where u is 1 (Kahan): exact near 0. */
static term write_log1p(parser *p, term *a) {
    const term u = binary(p, "Add", a[0], number(1)), one = number(1), less = binary(p, "Sub", u, one);
    const term is_one = compare(p, "Equal", less, number(0)), is_large = is_what(p, "IsInf", u);
    const term safe = choose(p, is_one, one, less), log = unary(p, "Log", u);
    const term exact = binary(p, "Mul", log, binary(p, "Div", a[0], safe));
    return choose(p, is_one, a[0], choose(p, is_large, log, exact));
}
static term write_erfc(parser *p, term *a) { return binary(p, "Sub", number(1), unary(p, "Erf", a[0])); }
static term write_normal_cdf(parser *p, term *a) {
    const term erf = unary(p, "Erf", binary(p, "Mul", a[0], number(M_SQRT1_2)));
    return binary(p, "Mul", binary(p, "Add", erf, number(1)), number(0.5));
}
static term write_normal_pdf(parser *p, term *a) {
    const term half_square = binary(p, "Mul", binary(p, "Mul", a[0], a[0]), number(-0.5));
    return binary(p, "Mul", unary(p, "Exp", half_square), number(0.5 * M_SQRT1_2 * M_2_SQRTPI));
}
static term write_hypot(parser *p, term *a) {
    return unary(p, "Sqrt", binary(p, "Add", binary(p, "Mul", a[0], a[0]), binary(p, "Mul", a[1], a[1])));
}
/* atan(y / x), half a turn further where x < 0, a quarter where x is 0. */
static term write_atan2(parser *p, term *a) {
    const term zero = number(0), angle = unary(p, "Atan", binary(p, "Div", a[0], a[1]));
    const term is_negative = compare(p, "Less", a[0], zero), turn = choose(p, is_negative, number(-M_PI), number(M_PI));
    const term full = choose(p, compare(p, "Less", a[1], zero), binary(p, "Add", angle, turn), angle);
    const term is_origin = compare(p, "Equal", binary(p, "Add", unary(p, "Abs", a[0]), unary(p, "Abs", a[1])), zero);
    return choose(p, is_origin, zero, full);
}
static term write_trunc_divide(parser *p, term *a) {
    term quotient = binary(p, "Div", a[0], a[1]);
    return p->compute == CR_I64 ? quotient : write_trunc(p, &quotient);
}
/* ONNX divides integers towards zero: one less where the rest and the divisor have different signs. */
static term write_floor_divide(parser *p, term *a) {
    const term quotient = binary(p, "Div", a[0], a[1]), zero = number(0);
    if (p->compute != CR_I64) return unary(p, "Floor", quotient);
    const term rest = binary(p, "Sub", a[0], binary(p, "Mul", quotient, a[1]));
    const term differs = compare(p, "Less", binary(p, "Mul", unary(p, "Sign", rest), unary(p, "Sign", a[1])), zero);
    return choose(p, differs, binary(p, "Sub", quotient, number(1)), quotient);
}
static term write_remainder(parser *p, term *a) {
    if (p->compute == CR_I64) return binary(p, "Mod", a[0], a[1]);
    return binary(p, "Sub", a[0], binary(p, "Mul", unary(p, "Floor", binary(p, "Div", a[0], a[1])), a[1]));
}
static term write_fmod(parser *p, term *a) {
    const term t = binary(p, "Mod", a[0], a[1]);
    if (p->e) cr_onnx_set_int(p->e, "fmod", 1);
    return t;
}

static term power_of_two(parser *p, term exponent) { return binary(p, "Pow", number(2), exponent); }
static term write_shift_left(parser *p, term *a) { return binary(p, "Mul", a[0], power_of_two(p, a[1])); }
static term write_shift_right(parser *p, term *a) {
    term operands[] = {a[0], power_of_two(p, a[1])};
    return write_floor_divide(p, operands);
}

typedef struct word {
    const char *name;
    int operands, since; /* the opset of the operator; 0: any */
    const char *operator;
    term (*write)(parser *p, term *operands);
} word;

static const word words[] = {
    {"SELECT", 3, 0, NULL, write_select},
    {"ISNAN", 1, 0, NULL, write_isnan},
    {"ISINF", 1, 0, NULL, write_isinf},
    {"ABS", 1, 0, "Abs", NULL},
    {"FLOOR", 1, 0, "Floor", NULL},
    {"CEIL", 1, 0, "Ceil", NULL},
    {"ROUND", 1, 0, "Round", NULL},
    {"TRUNC", 1, 0, NULL, write_trunc},
    {"FLOOR_DIVIDE", 2, 0, NULL, write_floor_divide},
    {"TRUNC_DIVIDE", 2, 0, NULL, write_trunc_divide},
    {"REMAINDER", 2, 0, NULL, write_remainder},
    {"FMOD", 2, 0, NULL, write_fmod},
    {"POW", 2, 0, "Pow", NULL},
    {"SQRT", 1, 0, "Sqrt", NULL},
    {"EXP", 1, 0, "Exp", NULL},
    {"EXP2", 1, 0, NULL, write_exp2},
    {"EXPM1", 1, 0, NULL, write_expm1},
    {"LOG", 1, 0, "Log", NULL},
    {"LOG2", 1, 0, NULL, write_log2},
    {"LOG10", 1, 0, NULL, write_log10},
    {"LOG1P", 1, 0, NULL, write_log1p},
    {"SIN", 1, 0, "Sin", NULL},
    {"COS", 1, 0, "Cos", NULL},
    {"TAN", 1, 0, "Tan", NULL},
    {"ASIN", 1, 0, "Asin", NULL},
    {"ACOS", 1, 0, "Acos", NULL},
    {"ATAN", 1, 0, "Atan", NULL},
    {"ATAN2", 2, 0, NULL, write_atan2},
    {"HYPOT", 2, 0, NULL, write_hypot},
    {"SINH", 1, 0, "Sinh", NULL},
    {"COSH", 1, 0, "Cosh", NULL},
    {"TANH", 1, 0, "Tanh", NULL},
    {"ASINH", 1, 0, "Asinh", NULL},
    {"ACOSH", 1, 0, "Acosh", NULL},
    {"ATANH", 1, 0, "Atanh", NULL},
    {"SIGMOID", 1, 0, NULL, write_sigmoid},
    {"ERF", 1, 0, "Erf", NULL},
    {"ERFC", 1, 0, NULL, write_erfc},
    {"NORMAL_CDF", 1, 0, NULL, write_normal_cdf},
    {"NORMAL_PDF", 1, 0, NULL, write_normal_pdf},
    {"BITWISE_NOT", 1, 18, "BitwiseNot", NULL},
    {"SHIFT_LEFT", 2, 0, NULL, write_shift_left},
    {"SHIFT_RIGHT", 2, 0, NULL, write_shift_right},
};

/* ---------------------------------------------------------------- parsing */
static void skip(parser *p) { p->at += strspn(p->at, " \t\n"); }

static bool take(parser *p, const char *text) {
    skip(p);
    if (strncmp(p->at, text, strlen(text)) != 0) return false;
    p->at += strlen(text);
    return true;
}

static term parse_word(parser *p, const char *name, size_t length) {
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        const word *w = &words[i];
        term operands[3];
        if (strlen(w->name) != length || strncmp(w->name, name, length) != 0 || w->since > p->opset) continue;
        for (int k = 0; k < w->operands; k++) {
            operands[k] = parse_or(p);
            if (p->failed || !take(p, k + 1 < w->operands ? "," : ")")) return fail(p);
        }
        if (w->write) return w->write(p, operands);
        return w->operands == 1 ? unary(p, w->operator, operands[0]) : binary(p, w->operator, operands[0], operands[1]);
    }
    return fail(p);
}

/* NUMBER(1.5): a constant. */
static term parse_number(parser *p) {
    char *end;
    skip(p);
    const double value = strtod(p->at, &end);
    if (end == p->at) return fail(p);
    p->at = end;
    return take(p, ")") ? number(value) : fail(p);
}

static term parse_name(parser *p) {
    const char *name = p->at;
    while (isalnum((unsigned char)*p->at) || *p->at == '_')
        p->at++;
    const size_t length = (size_t)(p->at - name);
    if (take(p, "(")) return length == 6 && !strncmp(name, "NUMBER", 6) ? parse_number(p) : parse_word(p, name, length);
    if (length == 1 && *name >= 'a' && *name <= 'c')
        return p->e ? (term){p->operands[*name - 'a'], p->are_bool[*name - 'a'], false, 0}
                    : (term){"", false, false, 0};
    if (!p->node) return number(0);
    for (int i = 0; i < p->node->op->attribute_count; i++)
        if (strlen(p->node->op->attributes[i].name) == length &&
            !strncmp(p->node->op->attributes[i].name, name, length))
            return number(((const cr_pointwise_attributes *)p->node->attributes)->value[i]);
    return fail(p);
}

static term negate(parser *p, term t) { return t.is_number ? number(-t.number) : unary(p, "Neg", t); }

static term parse_single(parser *p) {
    skip(p);
    if (take(p, "-")) return negate(p, parse_single(p));
    if (take(p, "!")) return logical_not(p, parse_single(p));
    if (take(p, "(T)")) return parse_single(p);
    if (take(p, "(")) {
        const term t = parse_or(p);
        return take(p, ")") ? t : fail(p);
    }
    return isalpha((unsigned char)*p->at) ? parse_name(p) : fail(p);
}

/* What `next` reads, joined from the left by either of two signs. */
static term parse_joined(parser *p, term (*next)(parser *), const char *sign, const char *operator,
                         const char * other_sign, const char *other) {
    term t = next(p);
    while (!p->failed) {
        const char *joins = take(p, sign) ? operator: take(p, other_sign) ? other : NULL;
        if (!joins) break;
        t = binary(p, joins, t, next(p));
    }
    return t;
}

static term parse_product(parser *p) { return parse_joined(p, parse_single, "*", "Mul", "/", "Div"); }
static term parse_sum(parser *p) { return parse_joined(p, parse_product, "+", "Add", "-", "Sub"); }

static term parse_comparison(parser *p) {
    static const struct {
        const char *sign, *operator;
    } signs[] = {{"<=", "LessOrEqual"}, {">=", "GreaterOrEqual"}, {"<", "Less"},
                 {">", "Greater"},      {"==", "Equal"},          {"!=", NULL}};
    const term t = parse_sum(p);
    for (size_t i = 0; !p->failed && i < sizeof signs / sizeof signs[0]; i++) {
        if (!take(p, signs[i].sign)) continue;
        const term other = parse_sum(p);
        const bool is_tested = t.is_bool && other.is_number && other.number == 0; /* a condition beside 0 */
        if (is_tested && !signs[i].operator) return t;
        if (is_tested && !strcmp(signs[i].sign, "==")) return logical_not(p, t);
        return signs[i].operator? compare(p, signs[i].operator, t, other)
                                : logical_not(p, compare(p, "Equal", t, other));
    }
    return t;
}

/* &, ^ and | of conditions are logical, of integers bitwise. */
static term join(parser *p, const char *logical, const char *bitwise, term a, term b) {
    if (!a.is_bool || !b.is_bool) return p->opset < 18 ? fail(p) : binary(p, bitwise, a, b);
    return p->e ? made(p, cr_onnx_add(p->e, logical, a.name, b.name), true) : (term){"", true, false, 0};
}

static term parse_and(parser *p) {
    term t = parse_comparison(p);
    while (!p->failed && take(p, "&"))
        t = join(p, "And", "BitwiseAnd", t, parse_comparison(p));
    return t;
}

static term parse_or(parser *p) {
    term t = parse_and(p);
    while (!p->failed) {
        if (take(p, "|"))
            t = join(p, "Or", "BitwiseOr", t, parse_and(p));
        else if (take(p, "^"))
            t = join(p, "Xor", "BitwiseXor", t, parse_and(p));
        else
            break;
    }
    return t;
}

bool cr_onnx_can_write_expression(const char *expression, int opset) {
    parser p = {.at = expression, .opset = opset, .compute = CR_F32};
    parse_or(&p);
    skip(&p);
    return !p.failed && !*p.at;
}

/* ---------------------------------------------------------------- nodes */
/* What the op computes in, and what it gives, by stand-ins for the operands. */
static cr_dtype computes(const cr_graph_node *node, cr_dtype *result) {
    cr_tensor tensors[3] = {{0}}, *inputs[3];
    for (int i = 0; i < node->input_count && i < 3; i++) {
        tensors[i].dtype = (int8_t)node->inputs[i]->dtype;
        tensors[i].ndim = (int8_t)node->inputs[i]->shape.count;
        inputs[i] = &tensors[i];
    }
    const cr_call call = {
        .op = node->op, .inputs = inputs, .input_count = node->input_count, .attributes = node->attributes};
    return cr_pointwise_computes(&call, result);
}

/* Whether operand i is a condition, which takes no part in promotion. */
static bool is_condition(const cr_graph_node *node, int i) {
    const cr_pointwise_class class = node->op->pointwise->class;
    return (class == CR_CLASS_MASK_A && i == 0) || (class == CR_CLASS_MASK_B && i == 1);
}

/* bf16 came late and to few operators: it is computed in f32, as our kernels do. */
static bool takes_type(const char *types, cr_dtype dtype) {
    if (dtype == CR_BF16) return false;
    if (cr_dtype_is_floating(dtype)) return strpbrk(types, "fn") || (dtype == CR_F32 && strchr(types, 's'));
    if (dtype == CR_BOOL) return strchr(types, 'b') != NULL;
    return (dtype == CR_I32 || dtype == CR_I64) && strpbrk(types, "in") != NULL;
}

/* The dtype in which the operator can be asked for what the op computes in `dtype`; CR_DTYPE_DEFAULT: none. */
static cr_dtype working_type(const cr_onnx_pair *pair, cr_dtype dtype) {
    if (takes_type(pair->types, dtype)) return dtype;
    if (dtype != CR_F64 && cr_dtype_is_floating(dtype) && takes_type(pair->types, CR_F32)) return CR_F32;
    if (!cr_dtype_is_floating(dtype) && takes_type(pair->types, CR_I64)) return CR_I64;
    if (!strcmp(pair->types, "b") && strncmp(pair->op, "bitwise", 7) != 0) return CR_BOOL; /* other than 0 is true */
    return CR_DTYPE_DEFAULT;
}

/* The first pair of the op that can be asked for what it computes in `dtype`, and in what; NULL: none. */
static const cr_onnx_pair *pair_for(const cr_op *op, int opset, cr_dtype dtype, cr_dtype *type) {
    for (const cr_onnx_pair *pair = cr_onnx_pair_of(op, opset, NULL); pair; pair = cr_onnx_pair_of(op, opset, pair))
        if ((*type = working_type(pair, dtype)) != CR_DTYPE_DEFAULT) return pair;
    return NULL;
}

bool cr_onnx_can_write_pointwise(const cr_graph_node *node, int opset) {
    cr_dtype result, type;
    if (pair_for(node->op, opset, computes(node, &result), &type)) return true;
    return cr_onnx_can_write_expression(node->op->pointwise->expression, opset);
}

/* A number as a bool: whether it is other than 0. ONNX's Cast does the same. */
static bool write_pair(cr_onnx_emitter *e, const cr_graph_node *node, const cr_onnx_pair *pair, cr_dtype type,
                       cr_dtype result) {
    const char *operands[3], *y;
    for (int i = 0; i < node->input_count; i++)
        operands[i] = cr_onnx_cast(e, cr_onnx_value(e, node, i), node->inputs[i]->dtype, type);
    if (!cr_onnx_add_node(e, pair->name, operands, node->input_count, &y, 1)) return false;
    for (const char *at = pair->attributes; at && *at;) {
        char name[32], own[32];
        double otherwise;
        int length = 0;
        if (sscanf(at, "%31[^=]=%31[^:]:%lf%n", name, own, &otherwise, &length) != 3) break;
        for (int i = 0; i < node->op->attribute_count; i++)
            if (!strcmp(node->op->attributes[i].name, own))
                cr_onnx_set_float(e, cr_onnx_text_of(e, "%s", name),
                                  ((const cr_pointwise_attributes *)node->attributes)->value[i]);
        at += length + strspn(at + length, " ");
    }
    const bool gives_bool = node->op->pointwise->class == CR_CLASS_COMPARE;
    return cr_onnx_name(e, node, 0, cr_onnx_cast(e, y, gives_bool ? CR_BOOL : type, result));
}

bool cr_onnx_write_pointwise(cr_onnx_emitter *e, const cr_graph_node *node) {
    cr_dtype result, type;
    const cr_dtype dtype = computes(node, &result);
    const cr_onnx_pair *pair = pair_for(node->op, e->opset, dtype, &type);
    if (pair) return write_pair(e, node, pair, type, result);
    const cr_dtype compute = dtype == CR_F64 ? CR_F64 : cr_dtype_is_floating(dtype) ? CR_F32 : CR_I64;
    const char *operands[3] = {NULL};
    bool are_bool[3] = {false};
    for (int i = 0; i < node->input_count; i++) { /* a condition may be any number */
        are_bool[i] = is_condition(node, i) || node->inputs[i]->dtype == CR_BOOL;
        operands[i] =
            cr_onnx_cast(e, cr_onnx_value(e, node, i), node->inputs[i]->dtype, are_bool[i] ? CR_BOOL : compute);
    }
    parser p = {e, node, node->op->pointwise->expression, compute, operands, are_bool, e->opset, false};
    const term t = parse_or(&p);
    if (p.failed) return cr_ok() && cr_onnx_cannot(e, node, "its expression has no ONNX");
    return cr_onnx_name(e, node, 0,
                        cr_onnx_cast(e, t.is_bool ? t.name : value_of(&p, t), t.is_bool ? CR_BOOL : compute, result));
}
#endif
