/* The pairs, and dtypes' numbers. */
#include "onnx/table.h"

#include <string.h>

static const cr_onnx_pair pairs[] = {
    /* name, op, since, types, attributes */
    {"Add", "add", 7, "n", NULL},
    {"Sub", "sub", 7, "n", NULL},
    {"Mul", "mul", 7, "n", NULL},
    {"Div", "div", 7, "f", NULL},
    {"Pow", "pow", 7, "f", NULL},
    {"Neg", "neg", 6, "n", NULL},
    {"Abs", "abs", 6, "n", NULL},
    {"Floor", "floor", 6, "f", NULL},
    {"Ceil", "ceil", 6, "f", NULL},
    {"Round", "round", 11, "f", NULL},
    {"Reciprocal", "reciprocal", 6, "f", NULL},
    {"Sqrt", "sqrt", 6, "f", NULL},
    {"Exp", "exp", 6, "f", NULL},
    {"Log", "log", 6, "f", NULL},
    {"Sin", "sin", 7, "f", NULL},
    {"Cos", "cos", 7, "f", NULL},
    {"Tan", "tan", 7, "f", NULL},
    {"Asin", "asin", 7, "f", NULL},
    {"Acos", "acos", 7, "f", NULL},
    {"Atan", "atan", 7, "f", NULL},
    {"Sinh", "sinh", 9, "f", NULL},
    {"Cosh", "cosh", 9, "f", NULL},
    {"Tanh", "tanh", 6, "f", NULL},
    {"Asinh", "asinh", 9, "f", NULL},
    {"Acosh", "acosh", 9, "f", NULL},
    {"Atanh", "atanh", 9, "f", NULL},
    {"Erf", "erf", 9, "f", NULL},
    {"Relu", "relu", 6, "f", NULL},
    {"LeakyRelu", "leaky_relu", 6, "f", "alpha=negative_slope:0.01"},
    {"Elu", "elu", 6, "f", "alpha=alpha:1"},
    {"Celu", "celu", 12, "s", "alpha=alpha:1"},
    {"Sigmoid", "sigmoid", 6, "f", NULL},
    {"Softsign", "softsign", 1, "f", NULL},
    {"HardSwish", "hardswish", 14, "f", NULL},
    {"Mish", "mish", 18, "f", NULL},
    {"Equal", "eq", 7, "nb", NULL},
    {"Less", "lt", 7, "n", NULL},
    {"LessOrEqual", "le", 12, "n", NULL},
    {"Greater", "gt", 7, "n", NULL},
    {"GreaterOrEqual", "ge", 12, "n", NULL},
    {"And", "logical_and", 7, "b", NULL},
    {"Or", "logical_or", 7, "b", NULL},
    {"Xor", "logical_xor", 7, "b", NULL},
    {"Not", "logical_not", 1, "b", NULL},
    {"IsNaN", "isnan", 9, "f", NULL},
    {"And", "bitwise_and", 7, "b", NULL},
    {"Or", "bitwise_or", 7, "b", NULL},
    {"Xor", "bitwise_xor", 7, "b", NULL},
    {"Not", "bitwise_not", 1, "b", NULL},
    {"BitwiseAnd", "bitwise_and", 18, "i", NULL},
    {"BitwiseOr", "bitwise_or", 18, "i", NULL},
    {"BitwiseXor", "bitwise_xor", 18, "i", NULL},
    {"BitwiseNot", "bitwise_not", 18, "i", NULL},
    {"MatMul", "matmul", 1, "f", NULL},
};
enum { PAIR_COUNT = sizeof pairs / sizeof pairs[0] };

const cr_onnx_pair *cr_onnx_pairs(int *count) {
    *count = PAIR_COUNT;
    return pairs;
}

const cr_onnx_pair *cr_onnx_pair_named(const char *name) {
    for (int i = 0; i < PAIR_COUNT; i++)
        if (!strcmp(pairs[i].name, name)) return &pairs[i];
    return NULL;
}

const cr_onnx_pair *cr_onnx_pair_of(const cr_op *op, int opset, const cr_onnx_pair *before) {
    for (int i = before ? (int)(before - pairs) + 1 : 0; i < PAIR_COUNT; i++)
        if (pairs[i].since <= opset && !strcmp(pairs[i].op, op->name)) return &pairs[i];
    return NULL;
}

/* TensorProto.DataType, by cr_dtype. */
static const unsigned char numbers[CR_DTYPE_COUNT] = {
    [CR_BOOL] = 9, [CR_U8] = 2,   [CR_I8] = 3,    [CR_I16] = 5, [CR_I32] = 6,
    [CR_I64] = 7,  [CR_F16] = 10, [CR_BF16] = 16, [CR_F32] = 1, [CR_F64] = 11,
};

int cr_onnx_dtype_number(cr_dtype dtype) { return (unsigned)dtype < CR_DTYPE_COUNT ? numbers[dtype] : 0; }

bool cr_onnx_dtype(int number, cr_dtype *dtype) {
    for (int i = 0; i < CR_DTYPE_COUNT; i++)
        if (numbers[i] == number) return *dtype = (cr_dtype)i, true;
    return false;
}

const char *cr_onnx_dtype_text(int number) {
    static const char *const names[] = {"undefined",      "float",    "uint8",        "int8",           "uint16",
                                        "int16",          "int32",    "int64",        "string",         "bool",
                                        "float16",        "double",   "uint32",       "uint64",         "complex64",
                                        "complex128",     "bfloat16", "float8e4m3fn", "float8e4m3fnuz", "float8e5m2",
                                        "float8e5m2fnuz", "uint4",    "int4",         "float4e2m1"};
    return number >= 0 && number < (int)(sizeof names / sizeof names[0]) ? names[number] : "unknown";
}
