/* What a function to be traced is. */
#ifndef CRESSET_JIT_TRACE_H
#define CRESSET_JIT_TRACE_H

#include "jit/pass.h"
#include "jit/tracer.h"

typedef struct cr_jit_subject {
    cr_jit_function function;
    void *context;
    int input_count, output_count;
    cr_nn_module *const *modules;
    int module_count;
    bool is_dry; /* the examples have sizes and no values, and nothing is computed */
} cr_jit_subject;

/* The graph and the function on other inputs; an error where they differ. */
bool cr_jit_check(cr_graph *graph, const cr_jit_subject *subject, cr_tensor *const *examples);
cr_graph *cr_jit_trace_subject(const cr_jit_subject *subject, cr_tensor *const *examples, cr_tensor **results,
                               const cr_jit_trace_options *given);

#endif
