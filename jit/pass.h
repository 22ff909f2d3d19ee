/* Passes: each a file in jit/passes/, each of one shape. They run in the order of the list in jit/passes/order.c. */
#ifndef CRESSET_JIT_PASS_H
#define CRESSET_JIT_PASS_H

#include "jit/graph.h"

#include <string.h>

typedef struct cr_pass {
    const char *name;
    bool (*run)(cr_graph *graph, bool *changed); /* false: an error */
} cr_pass;

bool cr_pass_dead_code(cr_graph *graph, bool *changed);
bool cr_pass_common_subexpressions(cr_graph *graph, bool *changed);
bool cr_pass_quantized(cr_graph *graph, bool *changed);
bool cr_pass_narrow(cr_graph *graph, bool *changed);
bool cr_pass_lower(cr_graph *graph, bool *changed);
bool cr_pass_tables(cr_graph *graph, bool *changed);
bool cr_pass_constant_folding(cr_graph *graph, bool *changed);
bool cr_fold_all_but_narrow(cr_graph *graph, bool *changed); /* the same, but bf16, f16 and integers stay so */
bool cr_pass_algebra(cr_graph *graph, bool *changed);
bool cr_pass_batch_norm_folding(cr_graph *graph, bool *changed);
bool cr_pass_channels_last(cr_graph *graph, bool *changed);
bool cr_pass_layout(cr_graph *graph, bool *changed);
bool cr_pass_fusion(cr_graph *graph, bool *changed);
bool cr_pass_reduction(cr_graph *graph, bool *changed);
bool cr_pass_epilogue(cr_graph *graph, bool *changed);
bool cr_pass_packing(cr_graph *graph, bool *changed);
bool cr_pass_bottleneck(cr_graph *graph, bool *changed);

/* The field of a node's attribute by its name; NULL where its op has none. */
static inline const void *cr_graph_attribute(const cr_graph_node *node, const char *name) {
    for (int i = 0; i < node->op->attribute_count; i++)
        if (!strcmp(node->op->attributes[i].name, name))
            return (const char *)node->attributes + node->op->attributes[i].offset;
    return NULL;
}

/* A node that makes a tensor of one number, without an output yet; NULL and an error on failure. */
cr_graph_node *cr_graph_add_full(cr_graph *graph, cr_block *block, cr_graph_node *before, cr_dtype dtype,
                                 cr_shape shape, cr_device device, double number);

/* The tensor of a state that no run changes (of any in a frozen graph, else of constants), or NULL. */
cr_tensor *cr_graph_constant(const cr_graph *graph, const cr_value *value);
/* The same without its numbers, which need not be there: to be looked at, and handed to the next two. */
cr_tensor *cr_graph_weight(const cr_graph *graph, const cr_value *value);
/* What `compute` makes of constants, or a program's file where it holds that (jit/recipes.h). `what` and `numbers` name
 * the computation; `context` holds no pointers into what may be gone later. NULL and an error on failure. */
cr_tensor *cr_graph_compute(cr_graph *graph, const char *what, const char *numbers,
                            cr_tensor *(*compute)(const void *context, cr_tensor *const *inputs, int count),
                            const void *context, size_t context_bytes, cr_tensor *const *inputs, int count);
cr_tensor *cr_graph_compute_op(cr_graph *graph, const cr_op *op, const void *attributes, cr_tensor *const *inputs,
                               int count);
/* The numbers of such a result are read: they have to be there. False on failure. */
bool cr_graph_want(cr_graph *graph, cr_tensor *t);
/* A constant named by `stem` and a number; NULL for NULL, and with an error on failure. */
cr_value *cr_graph_add_constant(cr_graph *graph, const char *stem, cr_tensor *t);
/* The result of a node before `before` on the device of inputs[0], with the source of `before`; NULL and an error on
 * failure. */
cr_value *cr_graph_insert(cr_graph *graph, const cr_graph_node *before, const char *op, const void *attributes,
                          cr_value *const *inputs, int count, cr_dtype dtype, cr_shape shape);

/* What every traced graph gets, before anything knows its sizes: dead code, common subexpressions. */
bool cr_graph_simplify(cr_graph *graph);
/* What a frozen graph gets when it is traced, so that saved programs need not do it when they are loaded. */
bool cr_graph_freeze(cr_graph *graph);
/* All passes, on a graph whose symbols are bound. CR_JIT_DUMP=1 writes the graph after each to standard error. */
bool cr_graph_optimize(cr_graph *graph);
/* One by its name, for tests; an error where there is none. */
bool cr_graph_run_pass(cr_graph *graph, const char *name, bool *changed);

#endif
