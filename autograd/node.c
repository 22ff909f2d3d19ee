/* Nodes: making, sharing and ending them, and what they save. */
#include "autograd/node.h"
#include "core/allocator.h"

#include <pthread.h>
#include <string.h>

static atomic_uint_fast64_t next_sequence = 1;

/* ---------------------------------------------------------------- nodes */
/* Hands out consecutive pieces of one block. */
static void *take(char **cursor, size_t bytes) {
    void *piece = *cursor;
    *cursor += (bytes + 15) / 16 * 16;
    return piece;
}

cr_node *cr_node_new(const char *name, int input_count, int output_count, bool with_saved) {
    const size_t inputs = (size_t)input_count, outputs = (size_t)output_count;
    const size_t saved = with_saved ? inputs + outputs : 0;
    const size_t bytes = sizeof(cr_node) + inputs * (sizeof(cr_edge) + sizeof(cr_spec) + sizeof(cr_device)) +
                         outputs * sizeof(cr_spec) + saved * sizeof(cr_saved) + 6 * 16;
    char *cursor = cr_block_allocate(bytes);
    if (!cursor) return NULL;
    cr_node *node = take(&cursor, sizeof *node);
    memset(node, 0, sizeof *node);
    atomic_init(&node->references, 1);
    node->sequence = atomic_fetch_add_explicit(&next_sequence, 1, memory_order_relaxed);
    node->name = name;
    node->input_count = input_count;
    node->output_count = output_count;
    node->block_bytes = bytes;
    node->edges = memset(take(&cursor, inputs * sizeof(cr_edge)), 0, inputs * sizeof(cr_edge));
    node->input_specs = take(&cursor, inputs * sizeof(cr_spec));
    node->input_devices = take(&cursor, inputs * sizeof(cr_device));
    node->output_specs = take(&cursor, outputs * sizeof(cr_spec));
    if (with_saved) {
        node->saved = take(&cursor, saved * sizeof(cr_saved));
        for (size_t i = 0; i < saved; i++) node->saved[i].storage = NULL;
    }
    return node;
}

bool cr_node_set_payload(cr_node *node, const void *payload, size_t bytes) {
    node->payload = cr_block_allocate(bytes);
    if (!node->payload) return false;
    node->payload_bytes = bytes;
    memcpy(node->payload, payload, bytes);
    return true;
}

cr_node *cr_node_retain(cr_node *node) {
    if (node) atomic_fetch_add_explicit(&node->references, 1, memory_order_relaxed);
    return node;
}

void cr_node_consume(cr_node *node) {
    for (int i = 0; node->saved && i < node->input_count + node->output_count; i++) {
        cr_storage_release(node->saved[i].storage);
        node->saved[i].storage = NULL;
    }
    node->is_consumed = true;
}

/* Accumulators are found through their leaf by several threads: this lock covers that one pointer. */
static pthread_mutex_t accumulator_lock = PTHREAD_MUTEX_INITIALIZER;

/* Ends one node; its edges' nodes that go with it are pushed to `pending`. */
static void end_node(cr_node *node) {
    cr_node_consume(node);
    for (int i = 0; i < node->input_count; i++) cr_node_release(node->edges[i].node);
    if (node->payload_end) node->payload_end(node->payload);
    cr_block_free(node->payload, node->payload_bytes);
    cr_free(node->chain);
    cr_hooks_free(&node->hooks);
    cr_release(node->leaf);
    cr_block_free(node, node->block_bytes);
}

/* Drops a reference; an accumulator leaves its leaf under the lock, so that nobody finds a dying one. */
static bool drop_reference(cr_node *node) {
    if (!node->leaf) return atomic_fetch_sub_explicit(&node->references, 1, memory_order_acq_rel) == 1;
    pthread_mutex_lock(&accumulator_lock);
    const bool last = atomic_fetch_sub_explicit(&node->references, 1, memory_order_acq_rel) == 1;
    cr_autograd_record *record = last ? cr_record_peek(node->leaf) : NULL;
    if (record && record->accumulator == node) record->accumulator = NULL;
    pthread_mutex_unlock(&accumulator_lock);
    return last;
}

/* Graphs may be a million nodes deep: ending one ends the next, so pending ones wait in a list and not on the stack. */
void cr_node_release(cr_node *node) {
    static _Thread_local cr_node *pending;
    static _Thread_local bool draining;
    if (!node || !drop_reference(node)) return;
    node->next = pending;
    pending = node;
    if (draining) return;
    draining = true;
    while (pending) {
        cr_node *last = pending;
        pending = last->next;
        end_node(last);
    }
    draining = false;
}

static bool accumulate_into_leaf(cr_node *node, cr_vjp *v) {
    (void)node, (void)v; /* the driver adds into leaves itself */
    return true;
}

cr_node *cr_accumulator_of(cr_tensor *leaf) {
    cr_autograd_record *record = cr_record_of(leaf);
    if (!record) return NULL;
    pthread_mutex_lock(&accumulator_lock);
    cr_node *node = record->accumulator;
    if (node) {
        cr_node_retain(node);
    } else if ((node = cr_node_new("accumulate_grad", 0, 1, false))) {
        node->sequence = UINT64_MAX; /* as soon as its gradient is complete */
        node->function = accumulate_into_leaf;
        node->leaf = cr_retain(leaf);
        node->output_specs[0] = cr_spec_of(leaf);
        node->output_device = leaf->device;
        record->accumulator = node;
    }
    pthread_mutex_unlock(&accumulator_lock);
    return node;
}

/* ---------------------------------------------------------------- saved tensors */
cr_spec cr_spec_of(const cr_tensor *t) {
    return (cr_spec){(cr_dtype)t->dtype, cr_is_channels_last(t) && !cr_is_contiguous(t), cr_tensor_shape(t)};
}

void cr_saved_set(cr_saved *saved, const cr_tensor *t) {
    atomic_fetch_add_explicit(&t->storage->references, 1, memory_order_relaxed);
    saved->storage = t->storage;
    saved->version = cr_version_of(t);
    saved->is_overwritten = false;
    saved->device = t->device;
    saved->dtype = t->dtype;
    saved->shape = cr_tensor_shape(t);
    saved->strides = cr_strides_of(t);
    saved->offset = t->offset;
}

cr_tensor *cr_saved_get(cr_node *node, int index, bool *overwritten) {
    const cr_saved *saved = node->saved ? &node->saved[index] : NULL;
    if (!saved || !saved->storage) return NULL;
    if (saved->is_overwritten || atomic_load_explicit(&saved->storage->version, memory_order_acquire) != saved->version) {
        *overwritten = true;
        return NULL;
    }
    cr_tensor *t = cr_view_of_storage(saved->storage, (cr_dtype)saved->dtype, saved->shape, saved->strides, saved->offset);
    if (!t) return NULL;
    t->device = saved->device;
    if (!cr_grad_enabled()) return t;
    const bool is_input = index < node->input_count;
    const cr_edge edge = is_input ? node->edges[index] : (cr_edge){node, index - node->input_count};
    if (edge.node && cr_dtype_is_floating((cr_dtype)t->dtype) && !cr_record_set_node(t, edge.node, edge.index)) return NULL;
    return t;
}

/* ---------------------------------------------------------------- hooks */
bool cr_hooks_add(cr_hooks *hooks, cr_hook hook) {
    cr_hook *grown = cr_realloc(hooks->at, (size_t)(hooks->count + 1) * sizeof *grown);
    if (!grown) return false;
    hooks->at = grown;
    hooks->at[hooks->count++] = hook;
    return true;
}

bool cr_hooks_remove(cr_hooks *hooks, int handle) {
    for (int i = 0; i < hooks->count; i++) {
        if (hooks->at[i].handle != handle) continue;
        memmove(&hooks->at[i], &hooks->at[i + 1], (size_t)(hooks->count - i - 1) * sizeof hooks->at[0]);
        hooks->count--;
        return true;
    }
    return false;
}

void cr_hooks_free(cr_hooks *hooks) {
    cr_free(hooks->at);
    *hooks = (cr_hooks){NULL, 0};
}
