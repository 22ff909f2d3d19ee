/* From a fused node's block to its program. */
#include "jit/fused.h"

#include "jit/pass.h"
#include "ops/reduction.h"

/* ---------------------------------------------------------------- instructions */
static int slot_of(const cr_value *value) { return (int)(intptr_t)value->note; }
static void set_slot(cr_value *value, int slot) { value->note = (void *)(intptr_t)slot; }

/* What the row computes in, told from dtypes and numbers of dims alone. */
static cr_compute compute_of(const cr_graph_node *node) {
    cr_tensor stand_ins[3];
    cr_tensor *operands[3];
    cr_dtype result;
    memset(stand_ins, 0, sizeof stand_ins);
    for (int i = 0; i < node->input_count; i++) {
        stand_ins[i].dtype = (int8_t)node->inputs[i]->dtype;
        stand_ins[i].ndim = (int8_t)node->inputs[i]->shape.count;
        operands[i] = &stand_ins[i];
    }
    const cr_call call = {.op = node->op, .inputs = operands, .input_count = node->input_count};
    return cr_compute_of(cr_pointwise_computes(&call, &result));
}

static void make_instruction(cr_fused_instruction *in, const cr_graph_node *node) {
    in->dtype = node->outputs[0]->dtype;
    in->operand_count = node->input_count;
    for (int i = 0; i < node->input_count; i++)
        in->operands[i] = slot_of(node->inputs[i]);
    if (node->op->flags & CR_OP_POINTWISE) {
        in->info = node->op->pointwise;
        in->compute = compute_of(node);
        memcpy(in->numbers, ((const cr_pointwise_attributes *)node->attributes)->value, sizeof in->numbers);
    } else if (node->input_count) { /* cast: moves the value as its own dtype has it, and stores it as the result's */
        in->info = CR_POINTWISE_OP(identity)->pointwise;
        in->compute = cr_compute_of(node->inputs[0]->dtype);
    } else { /* full */
        in->info = CR_POINTWISE_OP(fill)->pointwise;
        in->compute = cr_compute_of(in->dtype);
        in->numbers[0] = *(const double *)cr_graph_attribute(node, "value");
    }
}

static bool is_reduction(const cr_graph_node *inner) {
    return !(inner->op->flags & CR_OP_POINTWISE) && cr_fold_of(inner->op) >= 0;
}

/* It is the last one of its block. What it takes in stands for its result. */
static void add_reduction(cr_fused_program *program, const cr_graph_node *inner) {
    program->reduction = inner->op;
    program->reduced = *(const cr_dims *)cr_graph_attribute(inner, "dims");
    program->shape = inner->inputs[0]->shape;
    inner->outputs[0]->note = inner->inputs[0]->note;
}

static bool make_program(cr_fused_program *program, const cr_graph_node *node) {
    const cr_block *block = node->blocks[0];
    if (block->input_count + block->output_count > CR_FUSED_OPERANDS)
        return cr_fail(CR_ERROR_UNSUPPORTED, "jit: a fused node of more than %d operands", CR_FUSED_OPERANDS);
    int slot = 0;
    for (; slot < block->input_count; slot++) {
        program->inputs[slot] = block->inputs[slot]->dtype;
        set_slot(block->inputs[slot], slot);
    }
    program->input_count = slot;
    for (const cr_graph_node *inner = block->first; inner; inner = inner->next, slot++) {
        if (is_reduction(inner)) {
            add_reduction(program, inner);
            break;
        }
        if (program->instruction_count == CR_FUSED_INSTRUCTIONS || inner->input_count > 3 || inner->output_count != 1)
            return cr_fail(CR_ERROR_UNSUPPORTED, "jit: a fused node of more than %d instructions",
                           CR_FUSED_INSTRUCTIONS);
        cr_fused_instruction *in = &program->instructions[program->instruction_count];
        make_instruction(in, inner);
        memcpy(&program->numbers[2 * program->instruction_count++], in->numbers, sizeof in->numbers);
        set_slot(inner->outputs[0], slot);
    }
    program->output_count = block->output_count;
    for (int i = 0; i < block->output_count; i++)
        program->outputs[i] = slot_of(block->outputs[i]);
    for (int i = 0; i < block->input_count; i++)
        block->inputs[i]->note = NULL;
    for (const cr_graph_node *inner = block->first; inner; inner = inner->next)
        inner->outputs[0]->note = NULL;
    return true;
}

/* A layer's epilogue goes over rows and columns of its result, in place. False where an operand lies otherwise: the
 * kernel makes it dense then, and interprets. */
static bool layer_geometry(cr_fused_program *program, const cr_graph_node *node, cr_tensor *const *outputs,
                           cr_tensor *const *inputs) {
    const cr_shape result = cr_tensor_shape(outputs[0]);
    const cr_parts parts = cr_layer_parts(node->op, result.count);
    program->ndim = 2;
    program->inner[0] = program->inner[1] = 1;
    for (int i = 1; i < program->input_count; i++) {
        int64_t strides[3];
        if (!cr_part_strides(inputs[CR_LAYER_OPERANDS + i - 1], result, parts, strides)) return false;
        program->inner[i + 1] = strides[2] == 0 ? 0 : strides[2] == 1 ? 1 : 2;
    }
    return true;
}

const void *cr_fused_attributes(cr_pool *pool, const cr_graph_node *node, cr_tensor *const *outputs,
                                cr_tensor *const *inputs, bool compiles) {
    cr_fused_program *program = cr_pool_allocate(pool, sizeof *program);
    char *attributes = cr_pool_allocate(pool, node->op->attribute_bytes);
    if (!program || !attributes || !make_program(program, node)) return NULL;
    memcpy(attributes, node->attributes, node->op->attribute_bytes);
    memcpy(attributes + node->op->program_at, &program, sizeof program);
    if (outputs[0]->numel == 0 || program->instruction_count == 0 || !compiles) return attributes;
    if (cr_is_fused(node) || program->reduction)
        cr_fused_geometry(program, outputs, inputs);
    else if (!layer_geometry(program, node, outputs, inputs))
        return attributes;
    char *source = program->ndim ? cr_fused_source(program, CR_DIALECT_C) : NULL;
    if (!source) return NULL;
    program->compiled = cr_compile(source);
    return attributes;
}
