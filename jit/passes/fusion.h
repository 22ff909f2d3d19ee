/* What the two halves of fusion share: finding regions (fusion.c), and building their nodes (fusion_build.c). */
#ifndef CRESSET_JIT_PASSES_FUSION_H
#define CRESSET_JIT_PASSES_FUSION_H

#include "jit/pass.h"

typedef struct fusion_uses {
    int begin, count; /* in users */
    bool leaves;      /* the graph: an output, or a state's new value */
} fusion_uses;

typedef struct fusion {
    cr_graph_node **nodes; /* by index, in the graph's order */
    int count;
    bool *fusible;
    fusion_uses *uses; /* of each node's results */
    int *users;        /* node indices */
    int *parent;       /* regions as trees: a root's parent is itself */
    int *next;         /* the region's members as a list from its root, -1 at its end */
    int *visited, *stack, stamp;
} fusion;

/* May be an instruction of a fused node. */
bool cr_may_fuse(const cr_graph_node *node);
/* A layer's fused form, without a result yet, whose block says what is done to it. NULL and an error on failure. */
cr_graph_node *cr_layer_with_block(cr_graph *graph, cr_graph_node *before, cr_graph_node *layer, cr_block *block);

int cr_fusion_root(const fusion *f, int node);
/* Nobody outside of the regions a and b uses the value. */
bool cr_fusion_is_inner(const fusion *f, const cr_value *value, int a, int b);
/* Makes a node of each region of two nodes or more, and brings all nodes into an order again. */
bool cr_fusion_build(fusion *f, cr_graph *graph, bool *changed);

#endif
