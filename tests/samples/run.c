/* Runs the op of a sample. Rows that write operands get copies, which count as further results. */
#include "tests/samples/sample.h"

#include "ops/op.h"

#include <string.h>

static unsigned written_by(const sample *s) {
    const cr_op *op = cr_op_find(s->op);
    _Alignas(16) char attributes[256];
    if (!op || !op->mutates || !cr_attributes_parse(op, s->attributes, attributes)) return 0;
    return cr_op_mutates(op, attributes);
}

/* The same values behind the same strides, in a storage of its own and without a history. */
static cr_tensor *copy_of(cr_tensor *t) {
    cr_tensor *copy = cr_empty_strided(cr_dtype_of(t), cr_shape_of(t), cr_strides_of(t), CR_CPU);
    return copy ? cr_copy_(copy, cr_detach(t)) : NULL;
}

bool sample_run(const sample *s, cr_tensor *const *operands, cr_tensor **results) {
    cr_tensor *inputs[SAMPLE_INPUTS];
    cr_op_description row;
    const unsigned written = written_by(s);
    memcpy(inputs, operands, (size_t)s->input_count * sizeof *inputs);
    for (int i = 0; i < s->input_count; i++)
        if ((written >> i & 1) && inputs[i] && !(inputs[i] = copy_of(inputs[i]))) return false;
    if (!sample_describe(s->op, &row)) return false;
    int count = sample_output_count(&row);
    if (!cr_op_call(s->op, inputs, s->input_count, s->attributes, results, count)) return false;
    for (int i = 0; i < s->input_count; i++)
        if ((written >> i & 1) && inputs[i]) results[count++] = inputs[i];
    return true;
}

int sample_result_count(const sample *s, int outputs) {
    const unsigned written = written_by(s);
    for (int i = 0; i < s->input_count; i++)
        outputs += (written >> i & 1) && !s->inputs[i].is_absent;
    return outputs;
}
