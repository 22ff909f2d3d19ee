/* A fused node's program: pointwise instructions over the elements of one shape, made by the JIT. It runs tile by tile
 * through the loops of the pointwise ops, or as a compiled function once there is one. Both round each result to its
 * own dtype, so that fusing changes no bit. */
#ifndef CRESSET_OPS_FUSED_H
#define CRESSET_OPS_FUSED_H

#include "ops/pointwise.h"

enum { CR_FUSED_OPERANDS = 20, CR_FUSED_INSTRUCTIONS = 40 };

typedef struct cr_fused_instruction {
    const cr_pointwise_info *info;
    double numbers[2];
    cr_compute compute; /* of its expression */
    cr_dtype dtype;     /* of its result */
    int operand_count;
    int operands[3]; /* slots: the inputs, then the results of the instructions */
} cr_fused_instruction;

/* Rows [begin, end) of the iteration, or elements where it has one dim. `data` and `strides` are by operand: outputs,
 * then inputs; strides and sizes are over the merged dims, the last being 1, 0 or another as the source was made
 * for. */
typedef void (*cr_fused_function)(char *const *data, const int64_t *sizes, const int64_t (*strides)[CR_MAX_DIMS],
                                  const double *numbers, int64_t begin, int64_t end);

typedef struct cr_fused_program {
    int input_count, output_count, instruction_count;
    cr_dtype inputs[CR_FUSED_OPERANDS];
    int outputs[CR_FUSED_OPERANDS]; /* slots */
    cr_fused_instruction instructions[CR_FUSED_INSTRUCTIONS];
    double numbers[2 * CR_FUSED_INSTRUCTIONS]; /* of the instructions, for the compiled function */
    /* The geometry that `compiled` was made for. */
    int ndim;
    int8_t inner[CR_FUSED_OPERANDS];     /* stride of the last dim: 0, 1, or 2 for others */
    cr_fused_function _Atomic *compiled; /* where the function appears when it is ready, or NULL */
} cr_fused_program;

/* Dtype of the results' elements in slot `slot`. */
static inline cr_dtype cr_fused_dtype(const cr_fused_program *program, int slot) {
    return slot < program->input_count ? program->inputs[slot]
                                       : program->instructions[slot - program->input_count].dtype;
}

/* The row's attributes: nothing that could be written down. */
typedef struct cr_fused_options {
    size_t size;
    const cr_fused_program *program;
} cr_fused_options;

/* Fills ndim and inner from a call's tensors, as the kernel will see them. */
void cr_fused_geometry(cr_fused_program *program, cr_tensor *const *outputs, cr_tensor *const *inputs);

#endif
