/* What passes compute from weights: packed, folded, turned ones. While a graph is optimised for a program's file, or with
 * one at hand, each has a recipe, which is text: what is done, with which numbers, to which operands, down to the names
 * of states,
 *
 *     pack_columns("fc.weight") rows=1 transposed=true
 *
 * A file holds results by their recipes (jit/prepared.h), so that nothing but numbers comes from it: which nodes there
 * are, and of what sizes, the passes decide in every process. What the file holds is mapped; what lies between it and the
 * weights is never computed: it is a tensor without memory, filled when somebody asks for its numbers. */
#ifndef CRESSET_JIT_RECIPES_H
#define CRESSET_JIT_RECIPES_H

#include "jit/graph.h"

typedef cr_tensor *(*cr_computation)(const void *context, cr_tensor *const *inputs, int count);

typedef struct cr_recipe {
    cr_tensor *tensor; /* the result, retained */
    const char *text;
    cr_computation compute;
    void *context;
    cr_tensor **inputs; /* retained; an absent one is NULL */
    int input_count;
    bool is_large;  /* the result or its operands: worth a place in a file */
    bool is_wanted; /* somebody read its numbers, other than by a recipe */
} cr_recipe;

typedef struct cr_recipes {
    const struct cr_prepared *prepared; /* what results are taken from; NULL: all are computed, for a file */
    int state_count;                    /* the graph's own, before passes add constants */
    cr_recipe *list;
    int count;
} cr_recipes;

/* From here on the graph's constants have recipes. */
bool cr_recipes_begin(cr_graph *graph, const struct cr_prepared *prepared);
/* What nodes read, and no file holds, is computed now; then they are forgotten. False where that failed. */
bool cr_recipes_end(cr_graph *graph);
/* Whether the result has to be in a file: a node of the optimised graph, or a pass, reads it. After cr_graph_count_uses. */
bool cr_recipe_is_read(const cr_graph *graph, const cr_recipe *recipe);

#endif
