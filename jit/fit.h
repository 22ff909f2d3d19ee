/* Formulas for sizes, from a graph made at several values of its symbols. */
#ifndef CRESSET_JIT_FIT_H
#define CRESSET_JIT_FIT_H

#include "jit/graph.h"

/* The graph with its symbols at these values: sizes matter, values do not. NULL and an error where there is none. */
typedef cr_graph *(*cr_fit_trial)(void *context, const cr_graph *graph, const int64_t *sizes);

/* Finds the extents of all values and attributes of `graph`, whose inputs have theirs. CR_ERROR_UNSUPPORTED where the graph
 * is another for other sizes, or no formula fits. */
bool cr_fit_sizes(cr_graph *graph, cr_fit_trial make, void *context);

#endif
