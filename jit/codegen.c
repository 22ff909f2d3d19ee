/* Source for fused programs, in C and in CUDA C: one loop nest, and a table of strings for each dialect. The
 * expressions are those of pointwise.def over the words of ops/math.h, whose text is part of the library; so a fused
 * node computes what its ops compute, bit for bit. Sizes, strides and numbers are arguments: one function serves every
 * node of the same structure. */
#include "jit/fused.h"

#include "core/text.h"

static const char math_source[] = {
#include "math_source.inc"
    0};

static const char *const compute_types[] = {"float", "double", "int64_t"};
static const char *const compute_names[] = {"f32", "f64", "i64"};
static const char *const element_types[] = {"uint8_t", "uint8_t",  "int8_t",   "int16_t", "int32_t",
                                            "int64_t", "uint16_t", "uint16_t", "float",   "double"};

/* ---------------------------------------------------------------- the dialects */
typedef struct dialect {
    const char *prelude;  /* before the words of ops/math.h: types and what the headers would declare */
    const char *function; /* qualifiers of a helper */
    const char *kernel;   /* the head of the function, with what names its arguments */
    const char *outer[2]; /* the loop that begins the body, for one merged dim and for several */
    const char *inner[2]; /* the loop inside of that */
} dialect;

#define TYPES                                                                                                          \
    "typedef signed char int8_t; typedef short int16_t; typedef int int32_t; typedef long int64_t;\n"                  \
    "typedef unsigned char uint8_t; typedef unsigned short uint16_t; typedef unsigned uint32_t; typedef unsigned "     \
    "long uint64_t;\n"                                                                                                 \
    "#define INT64_MAX 0x7fffffffffffffffL\n"                                                                          \
    "#define INT64_MIN (-INT64_MAX - 1)\n"
/* What a CUDA kernel is given, under the names that the C kernel has as parameters. */
#define CUDA_ARGUMENTS                                                                                                 \
    "    char *const *data = given.data; const double *numbers = given.numbers; const int64_t *sizes = given.sizes;\n" \
    "    const int64_t (*strides)[8] = given.strides; (void)strides, (void)sizes, (void)numbers;\n"
#define CUDA_LOOP(index)                                                                                               \
    "    for (int64_t " index " = begin + blockIdx.x * (int64_t)blockDim.x + threadIdx.x; " index " < end; " index     \
    " += gridDim.x * (int64_t)blockDim.x) {\n"

static const dialect dialects[] = {
    [CR_DIALECT_C] =
        {
            .prelude = TYPES "#define NAN __builtin_nanf(\"\")\n"
                             "#define INFINITY __builtin_inff()\n"
                             "#define memcpy __builtin_memcpy\n"
                             "#define F1(f) float f##f(float); double f(double);\n"
                             "#define F2(f) float f##f(float, float); double f(double, double);\n"
                             "F1(fabs) F1(floor) F1(ceil) F1(trunc) F1(rint) F1(nearbyint) F1(round) F1(sqrt) F1(exp) "
                             "F1(exp2) F1(expm1) F1(log) F1(log2) F1(log10)\n"
                             "F1(log1p) F1(sin) F1(cos) F1(tan) F1(asin) F1(acos) F1(atan) F1(sinh) F1(cosh) F1(tanh) "
                             "F1(asinh) F1(acosh) F1(atanh) F1(erf) F1(erfc)\n"
                             "F2(pow) F2(fmod) F2(atan2) F2(hypot) F2(copysign) F2(fmin) F2(fmax) float fmaf(float, "
                             "float, float); double fma(double, double, double);\n"
                             "float ldexpf(float, int); double ldexp(double, int);\n",
            .function = "static inline __attribute__((always_inline))",
            .kernel = "void kernel(char *const *data, const int64_t *sizes, const int64_t (*strides)[8], const double "
                      "*numbers, int64_t begin, int64_t end)",
            .outer = {"    {\n", "    for (int64_t row = begin; row < end; row++) {\n"},
            .inner = {"    _Pragma(\"GCC ivdep\")\n    for (int64_t i = begin; i < end; i++) {\n",
                      "    _Pragma(\"GCC ivdep\")\n    for (int64_t i = 0; i < count; i++) {\n"},
        },
    [CR_DIALECT_CUDA] =
        {
            .prelude = TYPES "#define NAN __int_as_float(0x7fffffff)\n"
                             "#define INFINITY __int_as_float(0x7f800000)\n",
            .function = "static __device__ __forceinline__",
            .kernel =
                "struct arguments { char *data[20]; int64_t sizes[8]; int64_t strides[20][8]; double numbers[80]; };\n"
                "extern \"C\" __global__ void kernel(const __grid_constant__ arguments given, int64_t begin, int64_t "
                "end)",
            .outer = {CUDA_ARGUMENTS CUDA_LOOP("i"),
                      CUDA_ARGUMENTS CUDA_LOOP("at") "    const int64_t row = at / count, i = at % count;\n"},
            .inner = {"    {\n", "    {\n"},
        },
};
enum { DIALECT_DIMS = 8, DIALECT_OPERANDS = 20, DIALECT_NUMBERS = 80 }; /* as the texts above have them */
_Static_assert((int)DIALECT_DIMS == CR_MAX_DIMS && (int)DIALECT_OPERANDS == CR_FUSED_OPERANDS &&
                   (int)DIALECT_NUMBERS == 2 * CR_FUSED_INSTRUCTIONS,
               "the kernels' arguments are written out in text");

/* ---------------------------------------------------------------- one function for each instruction */
/* `float op_3(float a, float b, const double *numbers)`: the expression with its attributes' names. */
static void add_function(cr_text *out, const dialect *d, const cr_fused_instruction *in, int index) {
    static const char *const names[] = {"a", "b", "c"};
    const cr_op *op = &cr_pointwise_ops[in->info->index];
    const bool compares = in->info->class == CR_CLASS_COMPARE;
    cr_text_add(out, "#define T %s\n#define CR_T %s\n%s %s op_%d(", compute_types[in->compute],
                compute_names[in->compute], d->function, compares ? "uint8_t" : "T", index);
    for (int i = 0; i < in->info->operands && i < 3; i++)
        cr_text_add(out, "T %s, ", names[i]);
    cr_text_add(out, "const double *numbers) {\n");
    for (int i = 0; i < op->attribute_count; i++)
        cr_text_add(out, "    const T %s = ATTRIBUTE(numbers[%d]);\n", op->attributes[i].name, 2 * index + i);
    cr_text_add(out, "    return (%s)(%s);\n}\n#undef T\n#undef CR_T\n", compares ? "uint8_t" : "T",
                in->info->expression);
}

/* ---------------------------------------------------------------- the loop */
static bool is_row_constant(const cr_fused_program *program, int operand) {
    return program->inner[operand] == 0 && operand >= program->output_count;
}

static void add_element(cr_text *out, const cr_fused_program *program, int operand) {
    static const char *const steps[] = {"0", "i", "i * step%d"};
    char step[32];
    snprintf(step, sizeof step, program->inner[operand] == 2 ? "i * step%d" : steps[program->inner[operand]], operand);
    cr_text_add(out, "p%d[%s]", operand, step);
}

static void add_load(cr_text *out, const cr_fused_program *program, int input) {
    const int operand = program->output_count + input;
    const cr_dtype dtype = program->inputs[input];
    cr_text_add(out, "const %s v%d = ", element_types[dtype], input);
    add_element(out, program, operand);
    cr_text_add(out, dtype == CR_BOOL ? " != 0;\n" : ";\n");
}

static void add_instruction(cr_text *out, const cr_fused_program *program, int index) {
    const cr_fused_instruction *in = &program->instructions[index];
    const char *type = element_types[in->dtype];
    cr_text_add(out, "        const %s v%d = ", type, program->input_count + index);
    const bool wraps_bool = in->dtype == CR_BOOL && in->info->class != CR_CLASS_COMPARE;
    cr_text_add(out, wraps_bool && in->info->class == CR_CLASS_INTEGER ? "1 & " : "");
    cr_text_add(out,
                wraps_bool && in->info->class != CR_CLASS_INTEGER ? "0 != op_%d("
                : wraps_bool                                      ? "op_%d("
                                                                  : "(%2$s)op_%1$d(",
                index, type);
    for (int i = 0; i < in->info->operands; i++) {
        if (i < in->operand_count)
            cr_text_add(out, "(%s)v%d, ", compute_types[in->compute], in->operands[i]);
        else
            cr_text_add(out, "0, ");
    }
    cr_text_add(out, "numbers);\n");
}

static void add_pointers(cr_text *out, const cr_fused_program *program) {
    const int operands = program->output_count + program->input_count;
    for (int k = 0; k < operands; k++) {
        const bool writes = k < program->output_count;
        const char *type = element_types[writes ? cr_fused_dtype(program, program->outputs[k])
                                                : program->inputs[k - program->output_count]];
        cr_text_add(out, "    %s%s *p%d = (%s%s *)data[%d] + offset%d;\n", writes ? "" : "const ", type, k,
                    writes ? "" : "const ", type, k, k);
        if (program->inner[k] == 2)
            cr_text_add(out, "    const int64_t step%d = strides[%d][%d];\n", k, k, program->ndim - 1);
    }
    for (int i = 0; i < program->input_count; i++) {
        if (!is_row_constant(program, program->output_count + i)) continue;
        cr_text_add(out, "    ");
        add_load(out, program, i);
    }
}

/* Offsets of the row, from its number. */
static void add_offsets(cr_text *out, const cr_fused_program *program) {
    const int operands = program->output_count + program->input_count;
    for (int k = 0; k < operands; k++)
        cr_text_add(out, "    int64_t offset%d = 0;\n", k);
    if (program->ndim > 1) cr_text_add(out, "    int64_t rest = row;\n");
    for (int d = program->ndim - 2; d >= 0; d--) {
        if (d)
            cr_text_add(out, "    const int64_t i%d = rest %% sizes[%d]; rest /= sizes[%d];\n", d, d, d);
        else
            cr_text_add(out, "    const int64_t i0 = rest;\n");
        for (int k = 0; k < operands; k++)
            cr_text_add(out, "    offset%d += i%d * strides[%d][%d];\n", k, d, k, d);
    }
}

static void add_statements(cr_text *out, const cr_fused_program *program) {
    for (int i = 0; i < program->input_count; i++) {
        if (is_row_constant(program, program->output_count + i)) continue;
        cr_text_add(out, "        ");
        add_load(out, program, i);
    }
    for (int i = 0; i < program->instruction_count; i++)
        add_instruction(out, program, i);
    for (int k = 0; k < program->output_count; k++) {
        cr_text_add(out, "        ");
        add_element(out, program, k);
        cr_text_add(out, " = v%d;\n", program->outputs[k]);
    }
}

char *cr_fused_source(const cr_fused_program *program, cr_dialect which) {
    cr_text out = {0};
    const dialect *d = &dialects[which];
    const int several = program->ndim > 1;
    cr_text_add_all(&out, d->prelude);
    cr_text_add_all(&out, math_source);
    for (int i = 0; i < program->instruction_count; i++)
        add_function(&out, d, &program->instructions[i], i);
    cr_text_add(&out, "%s {\n", d->kernel);
    if (several)
        cr_text_add(&out, "    const int64_t count = %ssizes[%d];\n", which == CR_DIALECT_CUDA ? "given." : "",
                    program->ndim - 1);
    cr_text_add(&out, "%s", d->outer[several]);
    add_offsets(&out, program);
    add_pointers(&out, program);
    cr_text_add(&out, "%s", d->inner[several]);
    add_statements(&out, program);
    cr_text_add(&out, "    }\n    }\n}\n");
    return cr_text_end(&out);
}
