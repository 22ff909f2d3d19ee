/* Samples as functions of tensors that can be traced: an op, or its gradient. */
#ifndef CRESSET_TESTS_TRACED_H
#define CRESSET_TESTS_TRACED_H

#include "tests/samples/sample.h"

typedef struct traced_sample {
    const sample *s;
    int outputs;      /* of the op alone: what has gradients */
    bool is_gradient; /* the function gives the gradients of the floating operands in place of the op's results */
} traced_sample;

/* A cr_jit_function of a traced_sample: the op on its operands without the absent ones. */
bool traced_call(void *context, cr_tensor *const *inputs, int input_count, cr_tensor **outputs, int output_count);
/* Fresh operands without the absent ones, the same each time (ops may write them); their number, or -1. */
int traced_operands(const sample *s, cr_tensor **inputs);
bool traced_takes_gradient(const operand_spec *spec);

#endif
