/* Loops over the elements of tensors: pointwise ops, fused nodes, casts, copies. Dims are merged where all operands
 * allow it; sizes, strides and numbers are constants of the loops. Each op is a small function made of its expression
 * in pointwise.def, so that it rounds as the library's own loops do. */
#include "jit/ahead/ahead.h"

#include "jit/fused.h"

#include <math.h>

static const char *const compute_types[] = {"float", "double", "int64_t"};
static const char *const compute_names[] = {"f32", "f64", "i64"};

void cr_ahead_number(cr_text *text, double value) {
    if (isnan(value))
        cr_text_add(text, "NAN");
    else if (isinf(value))
        cr_text_add(text, value < 0 ? "-INFINITY" : "INFINITY");
    else
        cr_text_add(text, "%a", value);
}

/* ---------------------------------------------------------------- dims */
typedef struct nest {
    int ndim;
    int64_t sizes[CR_MAX_DIMS];
    int64_t strides[CR_AHEAD_OPERANDS][CR_MAX_DIMS];
} nest;

/* Dims of the first output from its largest stride to the smallest. */
static void order_dims(const cr_ahead_view *output, int order[CR_MAX_DIMS]) {
    for (int i = 0; i < output->shape.count; i++) {
        int at = i;
        for (; at > 0 && output->strides.at[order[at - 1]] < output->strides.at[i] && output->shape.at[i] > 1; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
}

static int64_t broadcast_stride(const cr_ahead_view *view, int dim, int ndim) {
    const int own = dim - (ndim - view->shape.count);
    return own < 0 || view->shape.at[own] == 1 ? 0 : view->strides.at[own];
}

static bool joins(const nest *n, int count, int last, int64_t size, const int64_t *strides) {
    for (int k = 0; k < count; k++)
        if (n->strides[k][last] != strides[k] * size) return false;
    return true;
}

static void make_nest(nest *n, const cr_ahead_view *const *views, int count) {
    const cr_shape *shape = &views[0]->shape;
    int order[CR_MAX_DIMS];
    order_dims(views[0], order);
    n->ndim = 0;
    for (int d = 0; d < shape->count; d++) {
        const int64_t size = shape->at[order[d]];
        int64_t strides[CR_AHEAD_OPERANDS];
        if (size == 1) continue;
        for (int k = 0; k < count; k++)
            strides[k] = broadcast_stride(views[k], order[d], shape->count);
        const bool joined = n->ndim > 0 && joins(n, count, n->ndim - 1, size, strides);
        if (!joined) n->sizes[n->ndim++] = 1;
        n->sizes[n->ndim - 1] *= size;
        for (int k = 0; k < count; k++)
            n->strides[k][n->ndim - 1] = strides[k];
    }
    if (n->ndim) return;
    n->ndim = 1; /* one element */
    n->sizes[0] = 1;
    for (int k = 0; k < count; k++)
        n->strides[k][0] = 0;
}

/* "i0*12 + i": dims are i0, i1, … and i for the last. */
static void add_index(cr_text *text, const nest *n, int operand) {
    bool any = false;
    cr_text_add(text, "[");
    for (int d = 0; d < n->ndim; d++) {
        const int64_t stride = n->strides[operand][d];
        char name[16] = "i";
        if (stride == 0) continue;
        if (d < n->ndim - 1) snprintf(name, sizeof name, "i%d", d);
        cr_text_add(text, any ? " + %s" : "%s", name);
        if (stride != 1) cr_text_add(text, " * %lld", (long long)stride);
        any = true;
    }
    cr_text_add(text, any ? "]" : "0]");
}

/* ---------------------------------------------------------------- functions of ops */
/* `static float op_add_f32(float a, float b)`, once in the file; attributes follow as double. */
static bool add_function(cr_ahead *a, const cr_fused_instruction *in) {
    static const char *const names[] = {"a", "b", "c"};
    unsigned char *written = &a->written[in->info->index * CR_COMPUTE_COUNT + (int)in->compute];
    const cr_op *op = &cr_pointwise_ops[in->info->index];
    const char *type = in->info->class == CR_CLASS_COMPARE ? "u8" : compute_types[in->compute];
    cr_text *text = &a->expressions;
    if (*written) return true;
    *written = 1;
    cr_text_add(text, "#define T %s\n#define CR_T %s\nCR_MATH %s op_%s_%s(", compute_types[in->compute],
                compute_names[in->compute], type, op->name, compute_names[in->compute]);
    for (int i = 0; i < in->info->operands; i++)
        cr_text_add(text, i ? ", T %s" : "T %s", names[i]);
    for (int i = 0; i < op->attribute_count; i++)
        cr_text_add(text, ", double %s_", op->attributes[i].name);
    cr_text_add(text, ") {\n");
    for (int i = 0; i < in->info->operands; i++)
        cr_text_add(text, "    (void)%s;\n", names[i]);
    for (int i = 0; i < op->attribute_count; i++)
        cr_text_add(text, "    const T %s = ATTRIBUTE(%s_);\n", op->attributes[i].name, op->attributes[i].name);
    cr_text_add(text, "    return (%s)(%s);\n}\n#undef T\n#undef CR_T\n", type, in->info->expression);
    return true;
}

/* The value of slot `slot`, of dtype `dtype`, in the compute type. */
static void add_operand(cr_text *text, int slot, cr_dtype dtype, cr_compute compute) {
    const bool from_float = cr_dtype_is_floating(dtype), half = dtype == CR_F16 || dtype == CR_BF16;
    if (half)
        cr_text_add(text,
                    compute == CR_COMPUTE_F32   ? "%s(v%d)"
                    : compute == CR_COMPUTE_F64 ? "(double)%s(v%d)"
                                                : "integer_f32(%s(v%d))",
                    dtype == CR_F16 ? "f16_to_f32" : "bf16_to_f32", slot);
    else if (from_float && compute == CR_COMPUTE_I64)
        cr_text_add(text, "integer_%s(v%d)", dtype == CR_F64 ? "f64" : "f32", slot);
    else
        cr_text_add(text, "(%s)v%d", compute_types[compute], slot);
}

/* What stands before and after an expression of the compute type so that it becomes a `dtype`. */
static void conversion(const cr_fused_instruction *in, const char **before, const char **after) {
    const bool from_float = in->compute != CR_COMPUTE_I64, compares = in->info->class == CR_CLASS_COMPARE;
    *after = ")";
    if (compares)
        *before = "(";
    else if (in->dtype == CR_BOOL)
        *before = in->info->class == CR_CLASS_INTEGER ? "1 & (" : "0 != (";
    else if (in->dtype == CR_F16 || in->dtype == CR_BF16)
        *before = in->dtype == CR_F16 ? "f32_to_f16((float)" : "f32_to_bf16((float)";
    else if (from_float && !cr_dtype_is_floating(in->dtype))
        *before = in->compute == CR_COMPUTE_F64 ? "integer_f64(" : "integer_f32(";
    else
        *before = "(";
}

static bool add_instruction(cr_ahead *a, const cr_fused_program *program, int index) {
    const cr_fused_instruction *in = &program->instructions[index];
    const cr_op *op = &cr_pointwise_ops[in->info->index];
    const char *type = cr_ahead_type(in->dtype), *before, *after;
    cr_text *text = &a->text;
    conversion(in, &before, &after);
    cr_text_add(text, "        const %s v%d = (%s)(%sop_%s_%s(", type, program->input_count + index, type, before,
                op->name, compute_names[in->compute]);
    for (int i = 0; i < in->info->operands; i++) {
        if (i) cr_text_add(text, ", ");
        if (i < in->operand_count)
            add_operand(text, in->operands[i], cr_fused_dtype(program, in->operands[i]), in->compute);
        else
            cr_text_add(text, "0");
    }
    for (int i = 0; i < op->attribute_count; i++) {
        cr_text_add(text, ", ");
        cr_ahead_number(text, in->numbers[i]);
    }
    cr_text_add(text, ")%s);\n", after);
    return add_function(a, in);
}

/* ---------------------------------------------------------------- the loops */
static void open_loops(cr_text *text, const nest *n) {
    for (int d = 0; d < n->ndim - 1; d++)
        cr_text_add(text, "    for (int64_t i%d = 0; i%d < %lld; i%d++)\n", d, d, (long long)n->sizes[d], d);
    if (n->ndim > 1) cr_text_add(text, "    {\n");
    cr_text_add(text, "    EACH_ALONE\n    for (int64_t i = 0; i < %lld; i++) {\n", (long long)n->sizes[n->ndim - 1]);
}

static void add_load(cr_text *text, const nest *n, const cr_fused_program *program, int input) {
    cr_text_add(text, "        const %s v%d = p%d", cr_ahead_type(program->inputs[input]), input,
                program->output_count + input);
    add_index(text, n, program->output_count + input);
    cr_text_add(text, program->inputs[input] == CR_BOOL ? " != 0;\n" : ";\n");
}

bool cr_ahead_loops(cr_ahead *a, const cr_fused_program *program, const cr_ahead_view *outputs,
                    const cr_ahead_view *inputs) {
    const cr_ahead_view *views[CR_AHEAD_OPERANDS] = {outputs};
    const int outs = program->output_count, count = outs + program->input_count;
    cr_text *text = &a->text;
    nest n = {0};
    for (int k = 0; k < count; k++)
        views[k] = k < outs ? &outputs[k] : &inputs[k - outs];
    for (int d = 0; d < outputs->shape.count; d++)
        if (outputs->shape.at[d] == 0) return true;
    make_nest(&n, views, count);
    cr_text_add(text, "    {\n");
    for (int k = 0; k < count; k++) {
        char name[16];
        snprintf(name, sizeof name, "p%d", k);
        cr_ahead_declare(a, name, views[k], k < outs);
    }
    open_loops(text, &n);
    for (int i = 0; i < program->input_count; i++)
        add_load(text, &n, program, i);
    for (int i = 0; i < program->instruction_count; i++)
        if (!add_instruction(a, program, i)) return false;
    for (int k = 0; k < outs; k++) {
        cr_text_add(text, "        p%d", k);
        add_index(text, &n, k);
        cr_text_add(text, " = v%d;\n", program->outputs[k]);
    }
    cr_text_add(text, n.ndim > 1 ? "    }\n    }\n    }\n" : "    }\n    }\n");
    return true;
}

/* ---------------------------------------------------------------- programs of one instruction */
static void one_instruction(cr_fused_program *program, const cr_op *op, cr_compute compute, cr_dtype result,
                            const cr_dtype *inputs, int count) {
    cr_fused_instruction *in = &program->instructions[0];
    *program = (cr_fused_program){.input_count = count, .output_count = 1, .instruction_count = 1};
    *in = (cr_fused_instruction){.info = op->pointwise, .compute = compute, .dtype = result, .operand_count = count};
    for (int i = 0; i < count; i++) {
        program->inputs[i] = inputs[i];
        in->operands[i] = i;
    }
    program->outputs[0] = count;
}

bool cr_ahead_copy(cr_ahead *a, const cr_ahead_view *to, const cr_ahead_view *from) {
    cr_fused_program program;
    const bool plain = to->dtype == from->dtype; /* 16-bit floats keep their bits */
    const cr_dtype moved = plain && cr_dtype_size(to->dtype) == 2 ? CR_I16 : from->dtype;
    cr_ahead_view target = *to, source = *from;
    if (moved != from->dtype) target.dtype = source.dtype = moved;
    one_instruction(&program, CR_POINTWISE_OP(identity), cr_compute_of(moved), target.dtype, &moved, 1);
    return cr_ahead_loops(a, &program, &target, &source);
}

static void step_program(const cr_ahead *a, cr_fused_program *program, const cr_ahead_view *result,
                         const cr_ahead_view *inputs) {
    const cr_plan_step *step = a->step;
    cr_tensor stand_ins[3], *operands[3];
    cr_dtype dtypes[3], computed, unused;
    memset(stand_ins, 0, sizeof stand_ins);
    for (int i = 0; i < step->input_count; i++) {
        stand_ins[i].dtype = (int8_t)(dtypes[i] = inputs[i].dtype);
        stand_ins[i].ndim = (int8_t)inputs[i].shape.count;
        operands[i] = &stand_ins[i];
    }
    const cr_call call = {.op = step->op, .inputs = operands, .input_count = step->input_count};
    computed = cr_pointwise_computes(&call, &unused);
    one_instruction(program, step->op, cr_compute_of(computed), result->dtype, dtypes, step->input_count);
    memcpy(program->instructions[0].numbers, ((const cr_pointwise_attributes *)step->attributes)->value,
           sizeof program->instructions[0].numbers);
}

bool cr_ahead_write_pointwise(cr_ahead *a) {
    cr_ahead_view outputs[CR_FUSED_OPERANDS], inputs[CR_FUSED_OPERANDS];
    cr_fused_program own;
    const cr_fused_program *program = &own;
    for (int i = 0; i < a->step->output_count; i++)
        outputs[i] = cr_ahead_output_view(a, i);
    for (int i = 0; i < a->step->input_count; i++)
        inputs[i] = cr_ahead_input_view(a, i);
    if (a->step->op->flags & CR_OP_BLOCKS)
        program = ((const cr_fused_options *)a->step->attributes)->program;
    else
        step_program(a, &own, outputs, inputs);
    return cr_ahead_loops(a, program, outputs, inputs);
}

/* ---------------------------------------------------------------- rows that move or make elements */
static bool write_move(cr_ahead *a) { /* cast, to_device */
    const cr_ahead_view to = cr_ahead_output_view(a, 0), from = cr_ahead_input_view(a, 0);
    return cr_ahead_copy(a, &to, &from);
}

bool cr_ahead_binary(cr_ahead *a, const char *op, const cr_ahead_view *to, const cr_ahead_view inputs[2]) {
    cr_fused_program program;
    const cr_dtype dtypes[2] = {inputs[0].dtype, inputs[1].dtype};
    one_instruction(&program, cr_op_find(op), cr_compute_of(to->dtype), to->dtype, dtypes, 2);
    return cr_ahead_loops(a, &program, to, inputs);
}

bool cr_ahead_fill(cr_ahead *a, const cr_ahead_view *to, double value) {
    cr_fused_program program;
    one_instruction(&program, CR_POINTWISE_OP(fill), cr_compute_of(to->dtype), to->dtype, NULL, 0);
    program.instructions[0].numbers[0] = value;
    return cr_ahead_loops(a, &program, to, NULL);
}

static bool write_full(cr_ahead *a) {
    const cr_ahead_view to = cr_ahead_output_view(a, 0);
    return cr_ahead_fill(a, &to, *(const double *)cr_graph_attribute(a->step->node, "value"));
}

static bool write_cat(cr_ahead *a) {
    const int64_t named = *(const int64_t *)cr_graph_attribute(a->step->node, "dim");
    const cr_ahead_view whole = cr_ahead_output_view(a, 0);
    const int dim = (int)(named < 0 ? named + whole.shape.count : named);
    int64_t at = 0;
    for (int i = 0; i < a->step->input_count; i++) {
        const cr_ahead_view part = cr_ahead_input_view(a, i);
        cr_ahead_view to = whole;
        if (part.shape.count != whole.shape.count) continue; /* f32[0] joins anything */
        to.shape.at[dim] = part.shape.at[dim];
        to.offset += at * whole.strides.at[dim];
        at += part.shape.at[dim];
        if (!cr_ahead_copy(a, &to, &part)) return false;
    }
    return true;
}

static bool write_flip(cr_ahead *a) {
    const cr_dims *dims = cr_graph_attribute(a->step->node, "dims");
    const cr_ahead_view to = cr_ahead_output_view(a, 0);
    cr_ahead_view from = cr_ahead_input_view(a, 0);
    for (int k = 0; k < dims->count && from.shape.count; k++) {
        const int dim = (int)(dims->at[k] < 0 ? dims->at[k] + from.shape.count : dims->at[k]);
        from.offset += (from.shape.at[dim] - 1) * from.strides.at[dim];
        from.strides.at[dim] = -from.strides.at[dim];
    }
    return cr_ahead_copy(a, &to, &from);
}

/* The result starts as the input; then the window is replaced. */
static bool write_scatter_window(cr_ahead *a) {
    const cr_dims *shape = cr_graph_attribute(a->step->node, "shape"),
                  *strides = cr_graph_attribute(a->step->node, "strides");
    const cr_ahead_view to = cr_ahead_output_view(a, 0), whole = cr_ahead_input_view(a, 0),
                        part = cr_ahead_input_view(a, 1);
    cr_ahead_view window = to;
    window.shape = *shape;
    window.strides = *strides;
    window.offset += *(const int64_t *)cr_graph_attribute(a->step->node, "offset");
    return cr_ahead_copy(a, &to, &whole) && cr_ahead_copy(a, &window, &part);
}

const cr_ahead_template cr_ahead_moves[] = {{"cast", write_move}, {"to_device", write_move},
                                            {"full", write_full}, {"cat", write_cat},
                                            {"flip", write_flip}, {"as_strided_scatter", write_scatter_window},
                                            {NULL, NULL}};
