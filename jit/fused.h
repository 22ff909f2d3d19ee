/* Fused nodes' programs, and the functions that they are compiled to. */
#ifndef CRESSET_JIT_FUSED_H
#define CRESSET_JIT_FUSED_H

#include "jit/graph.h"
#include "ops/fused.h"

#include <string.h>

static inline bool cr_is_fused(const cr_graph_node *node) {
    return (node->op->flags & CR_OP_BLOCKS) && !strcmp(node->op->name, "fused");
}

/* The first result is a reduction of what its pointwise ops give; the others are elementwise. */
static inline bool cr_is_fused_reduction(const cr_graph_node *node) {
    return (node->op->flags & CR_OP_BLOCKS) && !strcmp(node->op->name, "fused_reduction");
}

/* Its kernel runs a program: the node is fused, or a layer with an epilogue. */
static inline bool cr_has_program(const cr_graph_node *node) { return node->op->program_at != 0; }

/* The attributes of such a node's kernel for tensors of this geometry, in the pool. Its compiled function is asked
 * for where `compiles`. NULL and an error on failure. */
const void *cr_fused_attributes(cr_pool *pool, const cr_graph_node *node, cr_tensor *const *outputs,
                                cr_tensor *const *inputs, bool compiles);

typedef enum cr_dialect { CR_DIALECT_C, CR_DIALECT_CUDA } cr_dialect;
/* Source of the program for its geometry: a function `kernel` that needs no header. From cr_malloc, for cr_free. */
char *cr_fused_source(const cr_fused_program *program, cr_dialect which);

/* The place where the function of this source appears once it is compiled: from this process's or the disk's cache, or
 * by the system's compiler in the background. NULL: it never will (no compiler, CR_CC=none, no memory). The place lives
 * as long as the process. Takes over `source`. */
cr_fused_function _Atomic *cr_compile(char *source);

#endif
