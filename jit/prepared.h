/* The part of a program's file that saves computing: packed and folded weights by their recipes (jit/recipes.h).
 *
 * The metadata "cresset.prepared" is text: what it was made by, then a line for each result, the number of its tensor
 * ("cresset.prepared.7") and its recipe. Two recipes may name one tensor.
 *
 *     cresset prepared 1 for avx512 kernels 5d41402abc4b2a76
 *     0 pack_channels_last("conv1.weight") strides=[2,2] … */
#ifndef CRESSET_JIT_PREPARED_H
#define CRESSET_JIT_PREPARED_H

#include "jit/recipes.h"

#include "core/text.h"

#define CR_PREPARED_KEY "cresset.prepared"
enum { CR_PREPARED_NAME = 48 };
/* The name of a tensor in the file. */
void cr_prepared_name(char name[CR_PREPARED_NAME], int index);

typedef struct cr_prepared cr_prepared;

/* Reads the graph's file. Nothing there is no error, and neither is what other kernels were meant for, but a warning of
 * the graph. */
bool cr_prepared_read(cr_graph *graph);
void cr_prepared_free(cr_prepared *prepared);
/* `*found` becomes the recipe's result, or NULL where there is none; false and an error where it does not have the
 * geometry of `shown`. */
bool cr_prepared_find(const cr_prepared *prepared, const char *recipe, const cr_tensor *shown, cr_tensor **found);

/* What goes into a file. */
typedef struct cr_preparation {
    cr_text text;
    char **recipes;
    int recipe_count;
    cr_tensor **tensors; /* retained, no two alike */
    int count;
} cr_preparation;

/* Optimises the graph for each of the sets of sizes ("batch=1;batch=16"; "" is the example's) and gathers what that
 * computes. */
bool cr_preparation_make(cr_preparation *made, const cr_graph *graph, const char *sizes);
void cr_preparation_free(cr_preparation *made);

#endif
