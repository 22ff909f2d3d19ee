/* The tensor and its storage, as the library's own code sees them. */
#ifndef CRESSET_CORE_TENSOR_H
#define CRESSET_CORE_TENSOR_H

#include "core/thread.h"

#include <stdatomic.h>
#include <string.h>

/* Drops one reference; true where it was the last. A sole owner needs no locked instruction: nobody else can add
 * one. */
static inline bool cr_reference_drop(atomic_int *references) {
    return atomic_load_explicit(references, memory_order_acquire) == 1 ||
           atomic_fetch_sub_explicit(references, 1, memory_order_acq_rel) == 1;
}

/* A block of memory on a device that any number of tensors look into. */
typedef struct cr_storage {
    atomic_int references;
    cr_device device;
    void *data;
    size_t bytes;
    atomic_uint_fast64_t version;   /* in-place writes so far */
    void (*release)(void *context); /* gives foreign memory back, or NULL */
    void *context;
    uint32_t block_bytes; /* size of the block that holds this struct (and small data behind it) */
    bool is_foreign;      /* data is not ours to free */
    uint64_t serial;      /* no other storage of this process has it, before or after */
} cr_storage;

enum {
    CR_TENSOR_ALIVE = 0x7e502a11,
    CR_TENSOR_DEAD = 0x0dead7e5,
};

struct cr_tensor {
    uint32_t magic;
    atomic_int references;
    cr_storage *storage;
    int64_t offset; /* first element, in elements from storage->data */
    int64_t numel;
    cr_device device;
    int8_t dtype;
    int8_t ndim;
    bool requires_grad : 1;       /* autograd follows it */
    bool is_inference : 1;        /* made in inference mode: autograd refuses it */
    uint8_t output;               /* which of its node's outputs it is */
    int64_t sizes[CR_MAX_DIMS];   /* those past ndim hold anything */
    int64_t strides[CR_MAX_DIMS]; /* in elements */
    atomic_size_t scope_slot;     /* where a thread's scopes hold it (a hint, checked before use) */
    struct cr_node *node;         /* autograd's, that made it: one reference, or NULL */
    void *autograd;               /* what else autograd knows of it, or NULL */
};

/* Set by autograd: ends a tensor's place in the graph, its node and record. */
extern void (*cr_tensor_autograd_free)(cr_tensor *t);

/* --- making tensors. All return a tensor owned by the innermost scope, or NULL with an error. */
cr_storage *cr_storage_new(cr_device device, size_t bytes);
/* Foreign host memory; `release(context)` runs at the end (may be NULL). */
cr_storage *cr_storage_wrap(void *data, size_t bytes, void (*release)(void *), void *context);
void cr_storage_release(cr_storage *storage);
/* Memory that is said to be there and is not: `data` is NULL. */
cr_storage *cr_storage_hollow(cr_device device, size_t bytes);
/* A view of `storage` (one more reference to it). */
cr_tensor *cr_view_of_storage(cr_storage *storage, cr_dtype dtype, cr_shape shape, cr_shape strides, int64_t offset);
/* Whether its count is one that a shape can have; else an error. For shapes from outside. */
bool cr_shape_check(cr_shape shape);
/* A tensor without values, in dry runs; strides NULL: contiguous. */
cr_tensor *cr_empty_hollow(cr_dtype dtype, cr_shape shape, const cr_shape *strides, cr_device device);
static inline bool cr_tensor_is_hollow(const cr_tensor *t) { return !t->storage->data && t->storage->bytes; }
/* Set by the tracer: told where host code reads a tensor's values while this thread traces. */
extern void (*cr_tensor_on_read)(const cr_tensor *t, const char *how);
/* Set by the tracer: told where t's gradient is cleared while this thread traces. */
extern void (*cr_tensor_on_gradient_cleared)(const cr_tensor *t);
/* A view of t's storage with another geometry; not seen by autograd or the tracer: ops only. */
cr_tensor *cr_view_raw(const cr_tensor *t, cr_shape shape, cr_shape strides, int64_t offset);
/* t keeps its identity and looks at source's storage, geometry, dtype and device from now on. */
void cr_tensor_set_data(cr_tensor *t, const cr_tensor *source);
/* False and an error where t is NULL, its scope has closed (as far as that can be told), or it is not a tensor. */
bool cr_tensor_check(const cr_tensor *t, const char *name);

static inline void *cr_tensor_address(const cr_tensor *t) {
    static const uint8_t sizes[] = {1, 1, 1, 2, 4, 8, 2, 2, 4, 8};
    return (char *)t->storage->data + t->offset * sizes[t->dtype];
}
static inline cr_shape cr_tensor_shape(const cr_tensor *t) {
    cr_shape shape;
    shape.count = t->ndim;
    memcpy(shape.at, t->sizes, sizeof shape.at); /* whole: copies of short, unknown length cost more */
    return shape;
}
static inline bool cr_tensor_same_sizes(const cr_tensor *a, const cr_tensor *b) {
    if (a->ndim != b->ndim) return false;
    for (int i = 0; i < a->ndim; i++)
        if (a->sizes[i] != b->sizes[i]) return false;
    return true;
}
static inline void cr_tensor_bump_version(cr_tensor *t) {
    atomic_fetch_add_explicit(&t->storage->version, 1, memory_order_release);
}
/* Smallest and one-past-largest element offset that t can reach in its storage. */
void cr_tensor_extent(const cr_tensor *t, int64_t *low, int64_t *high);
/* True where two different indices of t may name the same element (a broadcast view). */
bool cr_tensor_self_overlaps(const cr_tensor *t);
/* True where a and b share an element without being the same view (or might, for contrived strides). */
bool cr_tensor_partly_overlaps(const cr_tensor *a, const cr_tensor *b);

/* One element of any dtype as a double and as an int64 (0 where that cannot hold it). */
typedef struct cr_element {
    double real;
    int64_t integer;
} cr_element;
/* Reads an element from host memory aligned to its size. */
cr_element cr_element_decode(const void *bytes, cr_dtype dtype);

/* --- shapes */
static inline void cr_fill_contiguous(const cr_shape *shape, int64_t strides[CR_MAX_DIMS]) {
    int64_t step = 1;
    for (int i = shape->count - 1; i >= 0; i--) {
        strides[i] = step;
        step *= shape->at[i] > 1 ? shape->at[i] : 1;
    }
}
void cr_contiguous_strides(cr_shape shape, cr_shape *strides);
void cr_channels_last_strides(cr_shape shape, cr_shape *strides); /* shape.count is 4 or 5 */
/* Negative dims count from the end; an error outside. A 0-d tensor takes 0 and -1. */
bool cr_normalize_dim(int64_t dim, int ndim, int *result);

/* --- scopes */
/* The innermost scope takes over the caller's reference; on failure the reference is dropped and NULL returned. */
cr_tensor *cr_scope_adopt(cr_thread *thread, cr_tensor *t);

#endif
