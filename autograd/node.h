/* The graph: nodes, the edges between them, and what a tensor knows of its place in it. */
#ifndef CRESSET_AUTOGRAD_NODE_H
#define CRESSET_AUTOGRAD_NODE_H

#include <cresset/autograd.h>

#include "ops/op.h"

typedef struct cr_node cr_node;

/* Where the gradient of an input goes: output `index` of the node that made it. */
typedef struct cr_edge {
    cr_node *node; /* one reference; NULL: no gradient wanted */
    int index;
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
    void *payload; /* what `function` needs: an op's attributes, a geometry, a user's call; in the node's own block */
    void (*payload_end)(void *payload); /* (optional) */
    int input_count, output_count;
    cr_edge *edges;       /* [input_count] */
    cr_spec *input_specs; /* [input_count] */
    cr_device *input_devices;
    cr_spec *output_specs; /* [output_count] */
    cr_device output_device;
    int saved_count;
    cr_saved *saved;  /* [saved_count]: of inputs, then of outputs as far as any is saved; NULL: nothing is */
    bool runs_always; /* backward runs it even where no input wants a gradient: it reaches leaves by itself */
    bool is_consumed; /* a backward has passed and taken what was saved */
    char *chain;      /* anomaly mode: the calls that led here */
    cr_hooks hooks;
    cr_tensor *leaf; /* accumulators: one reference */
    size_t block_bytes;

    cr_node *next; /* link in the list of those that are ending */
};

/* What a tensor's `autograd` points at. */
typedef struct cr_autograd_record {
    cr_node *node; /* that made it, one reference; NULL for a leaf */
    int index;
    cr_node *accumulator; /* of a leaf; borrowed: it ends with the last edge to it */
    cr_tensor *gradient;
    cr_hooks hooks;      /* of a leaf */
    int retain_handle;   /* the node's hook that keeps t's gradient, or 0 */
    cr_tensor *base;     /* of a view: the tensor that owns the storage, one reference */
    uint64_t generation; /* base: recorded in-place writes so far; view: the one its node belongs to */
} cr_autograd_record;

/* --- nodes */
/* A node without edges, zeroed, with a copy of `payload` and one reference; NULL and an error on failure. */
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
static inline cr_spec cr_spec_of(const cr_tensor *t) {
    return (cr_spec){(cr_dtype)t->dtype, t->ndim >= 4 && cr_is_channels_last(t) && !cr_is_contiguous(t),
                     cr_tensor_shape(t)};
}

/* --- hooks */
bool cr_hooks_add(cr_hooks *hooks, cr_hook hook);
bool cr_hooks_remove(cr_hooks *hooks, int handle);
void cr_hooks_free(cr_hooks *hooks);

/* --- records of tensors */
cr_autograd_record *cr_record_of(cr_tensor *t); /* makes one; NULL and an error on failure */
static inline cr_autograd_record *cr_record_peek(const cr_tensor *t) { return t->autograd; }
/* t is output `index` of `node` from now on. The second takes over the caller's reference, also where it fails. */
bool cr_record_set_node(cr_tensor *t, cr_node *node, int index);
bool cr_record_take_node(cr_tensor *t, cr_node *node, int index);
/* Where gradients of t go (one reference to the node); node NULL where it requires none. False and an error on
 * failure. */
bool cr_edge_of(cr_tensor *t, cr_edge *edge);
/* The accumulator of a leaf that requires gradients, with one reference. */
cr_node *cr_accumulator_of(cr_tensor *leaf);
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
