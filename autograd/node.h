/* The graph: nodes, the edges between them, and what a tensor knows of its place in it. */
#ifndef CRESSET_AUTOGRAD_NODE_H
#define CRESSET_AUTOGRAD_NODE_H

#include <cresset/autograd.h>

#include "ops/op.h"

typedef struct cr_node cr_node;

/* Where the gradient of an input goes: output `index` of the node that made it, on the input's device. */
typedef struct cr_edge {
    cr_node *node; /* one reference; NULL: no gradient wanted */
    int index;
    cr_device device;
} cr_edge;

/* A tensor as the graph remembers it: the storage and how to look at it, not the tensor itself, whose own place in the
 * graph may change. */
typedef struct cr_saved {
    cr_storage *storage; /* NULL: not saved */
    uint64_t version;
    bool is_overwritten; /* in the very call that saved it */
    cr_device device;
    int8_t dtype;
    cr_shape shape, strides;
    int64_t offset;
} cr_saved;

typedef struct cr_hook {
    int handle;
    int index; /* output of the node that it watches */
    cr_tensor_hook on_gradient;
    cr_leaf_hook on_leaf; /* of accumulators */
    bool retains;         /* keeps the gradient for cr_grad_of in place of calling anything */
    void *context;
} cr_hook;

typedef struct cr_hooks {
    cr_hook *at;
    int count;
} cr_hooks;

/* Computes v->results from v->grads. */
typedef bool (*cr_node_function)(cr_node *node, cr_vjp *v);

struct cr_node {
    atomic_int references;
    uint64_t sequence; /* later ones run first in backward; accumulators before all */
    const char *name;
    cr_op *op; /* NULL for nodes that no row made */
    cr_node_function function;
    /* What `function` needs: a geometry, a user's call, in the node's own block; an op's attributes, there or the row's
     * own defaults. */
    const void *payload;
    void (*payload_end)(const void *payload); /* (optional) */
    int input_count, output_count;
    cr_edge *edges;        /* [input_count] */
    cr_spec *input_specs;  /* [input_count] */
    cr_spec *output_specs; /* [output_count] */
    cr_device output_device;
    int saved_count;
    cr_saved *saved;  /* [saved_count]: of inputs, then of outputs as far as any is saved */
    bool runs_always; /* backward runs it even where no input wants a gradient: it reaches leaves by itself */
    bool is_consumed; /* a backward has passed and taken what was saved */
    char *chain;      /* anomaly mode: the calls that led here */
    cr_hooks hooks;
    cr_tensor *leaf; /* accumulators: theirs, whose references are the node's */
    size_t block_bytes;

    cr_node *next; /* link in the list of those that are ending */
};

/* What a tensor's `autograd` points at: what a leaf or a view has beside a node, and few others need. */
typedef struct cr_autograd_record {
    cr_node *accumulator; /* of a leaf, from when it first requires gradients until it goes */
    cr_tensor *gradient;
    cr_hooks hooks;      /* of a leaf */
    int retain_handle;   /* the node's hook that keeps t's gradient, or 0 */
    cr_tensor *base;     /* of a view: the tensor that owns the storage, one reference */
    uint64_t generation; /* base: recorded in-place writes so far; view: the one its node belongs to */
} cr_autograd_record;

/* --- nodes */
/* A node without edges, with a copy of `payload` (payload_bytes 0: payload itself) and one reference; NULL and an error
 * on failure. */
cr_node *cr_node_new(const char *name, int input_count, int output_count, int saved_count, const void *payload,
                     size_t payload_bytes);
cr_node *cr_node_retain(cr_node *node);
void cr_node_release(cr_node *node);
/* Gives back what the node saved for backward. */
void cr_node_consume(cr_node *node);
void cr_saved_set(cr_saved *saved, const cr_tensor *t);
/* The saved tensor again, in its place in the graph where recording is on. NULL without an error where it was not
 * saved; sets *overwritten where it was written in place since. */
cr_tensor *cr_saved_get(cr_node *node, int index, bool *overwritten);
static inline void cr_set_spec(cr_spec *spec, const cr_tensor *t) {
    spec->dtype = (cr_dtype)t->dtype;
    spec->channels_last = t->ndim >= 4 && cr_is_channels_last(t) && !cr_is_contiguous(t);
    spec->shape.count = t->ndim;
    memcpy(spec->shape.at, t->sizes, sizeof t->sizes);
}

/* --- hooks */
bool cr_hooks_add(cr_hooks *hooks, cr_hook hook);
bool cr_hooks_remove(cr_hooks *hooks, int handle);
void cr_hooks_free(cr_hooks *hooks);

/* --- records of tensors */
cr_autograd_record *cr_record_of(cr_tensor *t); /* makes one; NULL and an error on failure */
static inline cr_autograd_record *cr_record_peek(const cr_tensor *t) { return t->autograd; }
/* t is output `index` of `node` from now on. The second takes over the caller's reference, also where it fails. */
bool cr_set_node(cr_tensor *t, cr_node *node, int index);
bool cr_take_node(cr_tensor *t, cr_node *node, int index);
/* Where gradients of t go (one reference to the node); node NULL where it requires none. False and an error on
 * failure. */
bool cr_edge_of(cr_tensor *t, cr_edge *edge);
/* Registers autograd with the dispatcher (on first use). */
bool cr_autograd_ready(void);

/* --- in place (inplace.c) */
/* Whether recording may write t in place: an error for leaves and views of leaves. */
bool cr_check_in_place(cr_tensor *t);
/* t was written by `node` (its output 0): moves t, its base and their views to the new history. */
bool cr_record_in_place(cr_tensor *t, cr_node *node);
/* A view whose base was written since its node was made gets a new one. */
bool cr_refresh_view(cr_tensor *t);
/* Notes that `view` looks into `source`'s storage. */
bool cr_record_view(cr_tensor *view, cr_tensor *source);

/* --- the driver (engine.c) */
typedef struct cr_capture {
    cr_edge edge;
    cr_tensor *result; /* one reference, or NULL: not reached */
} cr_capture;
/* Runs backward from `roots`. With captures, only what leads to them runs, and no leaf is touched. */
bool cr_engine_run(cr_tensor *const *roots, cr_tensor *const *gradients, int count, bool retain_graph,
                   bool create_graph, cr_capture *captures, int capture_count);

/* A backward inside a rule (checkpointing): gradients of `inputs` go to `results`; other leaves get theirs unless the
 * outer backward leaves leaves alone. */
bool cr_engine_rerun(cr_tensor *root, cr_tensor *gradient, cr_tensor *const *inputs, cr_tensor **results, int count);

extern atomic_bool cr_anomaly_enabled;
/* True where a floating tensor holds a NaN. */
bool cr_has_nan(cr_tensor *t);

#endif
