/* The tracer: listens to the dispatcher and writes a graph.
 *
 * What a tensor is in the graph follows from its storage: each storage has a base value, and views of it have values
 * derived from the base. A write in place gives the storage a new base value, from which its views are derived anew
 * when they are read. So the graph has no aliases and no writes, whatever the function does. */
#ifndef CRESSET_JIT_TRACER_H
#define CRESSET_JIT_TRACER_H

#include "jit/graph.h"

typedef struct cr_geometry {
    cr_dtype dtype;
    cr_shape shape, strides;
    int64_t offset;
} cr_geometry;

typedef struct cr_traced_view {
    cr_geometry geometry;
    cr_value *value;     /* NULL: stale, derive it again */
    cr_graph_node *node; /* the view op that made it, or NULL */
    int parent;          /* of the node's operand: another view, or -1 for the base */
} cr_traced_view;

typedef struct cr_traced_storage {
    uint64_t serial;
    cr_geometry geometry; /* of the base value */
    cr_value *value;
    int state; /* in the graph's states, or -1 */
    cr_traced_view *views;
    int view_count;
} cr_traced_storage;

typedef struct cr_traced_name {
    cr_tensor *tensor; /* borrowed: its module lives as long as the trace */
    const char *name;
    cr_state_kind kind;
} cr_traced_name;

typedef struct cr_tracer {
    cr_graph *graph;
    cr_block *block;
    cr_graph_node *before; /* nodes go before this one; NULL: at the end */
    const char *source;    /* of all nodes; NULL: the chain of calls */
    cr_traced_storage *storages;
    int storage_count;
    int *table; /* index + 1 by hash of the serial; a power of two */
    int table_size;
    cr_traced_name *names;
    int name_count;
    uint64_t first_serial; /* storages made since the trace began have this or a later one */
    uint64_t *cleared;     /* serials of leaves whose gradient was cleared */
    int cleared_count;
    bool refuses_captures; /* lowering: all operands are known */
    void *outer;           /* the thread's tracer before */
    bool was_dry;
} cr_tracer;

/* From here on the thread's calls are recorded; dry: they compute nothing. */
bool cr_tracer_begin(cr_tracer *tracer, cr_graph *graph, cr_block *block, bool dry);
void cr_tracer_end(cr_tracer *tracer);
/* `t` is `value`. */
bool cr_tracer_bind(cr_tracer *tracer, const cr_tensor *t, cr_value *value);
/* Tensors that get these names when the function uses them. */
bool cr_tracer_name(cr_tracer *tracer, cr_tensor *t, const char *name, cr_state_kind kind);
/* The value of a tensor at this moment. NULL and an error on failure. */
cr_value *cr_tracer_value(cr_tracer *tracer, cr_tensor *t);
/* The state that t's storage was captured as; CR_TRACER_COMPUTED where nodes made it, CR_TRACER_UNKNOWN where it was
 * never seen. */
enum { CR_TRACER_COMPUTED = -1, CR_TRACER_UNKNOWN = -2 };
int cr_tracer_state_of(const cr_tracer *tracer, const cr_tensor *t);
/* Whether the function cleared t's gradient. */
bool cr_tracer_was_cleared(const cr_tracer *tracer, const cr_tensor *t);
/* Views are derived anew from here on. */
void cr_tracer_forget_views(cr_tracer *tracer);
/* The captured tensors' last values become the states' updates. */
bool cr_tracer_finish_states(cr_tracer *tracer);

#endif
