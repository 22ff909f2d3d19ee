/* Samples on their way into ONNX models: what export.c and export_open.c share. */
#ifndef CRESSET_TESTS_EXPORTING_H
#define CRESSET_TESTS_EXPORTING_H

#include "tests/samples/traced.h"

typedef struct exporting {
    const char *folder;
    bool is_open; /* sizes are open */
    cr_named_tensor *tensors;
    cr_text_pair *pairs;
    int tensor_count, pair_count, sample_count;
    int written, refused, failed, round_trips;
} exporting;

/* Operands and what is to come out. */
typedef struct exported_case {
    const sample *s;
    cr_tensor **inputs, **results;
    int count, outputs;
    bool is_random;
} exported_case;

/* The graph as a model at each opset, with the case's tensors. */
void export_case(exporting *x, const exported_case *c, cr_graph *graph, const int *at, int at_count);

void export_open_sample(exporting *x, const sample *s, const cr_op_description *row, int outputs);

#endif
