/* Nodes: making, sharing and ending them, and what they save. */
#include "autograd/node.h"
#include "core/allocator.h"

#include <sched.h>
#include <string.h>

static atomic_uint_fast64_t next_sequence = 1;

/* ---------------------------------------------------------------- nodes */
/* Hands out consecutive pieces of one block. */
static void *take(char **cursor, size_t bytes) {
    void *piece = *cursor;
    *cursor += (bytes + 15) / 16 * 16;
    return piece;
}

cr_node *cr_node_new(const char *name, int input_count, int output_count, int saved_count, const void *payload,
                     size_t payload_bytes) {
    const size_t inputs = (size_t)input_count, outputs = (size_t)output_count;
    const size_t saved = (size_t)saved_count;
    const size_t bytes = sizeof(cr_node) + inputs * (sizeof(cr_edge) + sizeof(cr_spec) + sizeof(cr_device)) +
                         outputs * sizeof(cr_spec) + saved * sizeof(cr_saved) + payload_bytes + 7 * 16;
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
    if (payload_bytes) node->payload = memcpy(take(&cursor, payload_bytes), payload, payload_bytes);
    if (saved_count) {
        node->saved_count = saved_count;
        node->saved = take(&cursor, saved * sizeof(cr_saved));
        for (size_t i = 0; i < saved; i++)
            node->saved[i].storage = NULL;
    }
    return node;
}

cr_node *cr_node_retain(cr_node *node) {
    if (node) atomic_fetch_add_explicit(&node->references, 1, memory_order_relaxed);
    return node;
}

void cr_node_consume(cr_node *node) {
    for (int i = 0; i < node->saved_count; i++) {
        cr_storage_release(node->saved[i].storage);
        node->saved[i].storage = NULL;
    }
    node->is_consumed = true;
}

/* Accumulators are found through their leaf by several threads: this lock covers that one pointer. It is held for a few
 * instructions at each recorded op that reads a parameter. */
static atomic_flag accumulator_flag = ATOMIC_FLAG_INIT;
static void lock_accumulators(void) {
    while (atomic_flag_test_and_set_explicit(&accumulator_flag, memory_order_acquire))
        sched_yield();
}
static void unlock_accumulators(void) { atomic_flag_clear_explicit(&accumulator_flag, memory_order_release); }

/* Ends one node; its edges' nodes that go with it are pushed to `pending`. */
static void end_node(cr_node *node) {
    cr_node_consume(node);
    for (int i = 0; i < node->input_count; i++)
        cr_node_release(node->edges[i].node);
    if (node->payload_end) node->payload_end(node->payload);
    cr_free(node->chain);
    cr_hooks_free(&node->hooks);
    cr_release(node->leaf);
    cr_block_free(node, node->block_bytes);
}

/* Drops a reference, but never the last one; false where it is the last. */
static bool drop_all_but_last(cr_node *node) {
    int references = atomic_load_explicit(&node->references, memory_order_relaxed);
    while (references > 1)
        if (atomic_compare_exchange_weak_explicit(&node->references, &references, references - 1, memory_order_acq_rel,
                                                  memory_order_relaxed))
            return true;
    return false;
}

/* Drops a reference; an accumulator leaves its leaf under the lock, so that nobody finds a dying one. */
static bool drop_reference(cr_node *node) {
    if (!node->leaf) return cr_reference_drop(&node->references);
    if (drop_all_but_last(node)) return false;
    lock_accumulators();
    const bool last = atomic_fetch_sub_explicit(&node->references, 1, memory_order_acq_rel) == 1;
    cr_autograd_record *record = last ? cr_record_peek(node->leaf) : NULL;
    if (record && record->accumulator == node) record->accumulator = NULL;
    unlock_accumulators();
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
    lock_accumulators();
    cr_node *node = record->accumulator;
    if (node) {
        cr_node_retain(node);
    } else if ((node = cr_node_new("accumulate_grad", 0, 1, 0, NULL, 0))) {
        node->sequence = UINT64_MAX; /* as soon as its gradient is complete */
        node->function = accumulate_into_leaf;
        node->leaf = cr_retain(leaf);
        node->output_specs[0] = cr_spec_of(leaf);
        node->output_device = leaf->device;
        record->accumulator = node;
    }
    unlock_accumulators();
    return node;
}

/* ---------------------------------------------------------------- saved tensors */
void cr_saved_set(cr_saved *saved, const cr_tensor *t) {
    atomic_fetch_add_explicit(&t->storage->references, 1, memory_order_relaxed);
    saved->storage = t->storage;
    saved->version = cr_version_of(t);
    saved->is_overwritten = false;
    saved->device = t->device;
    saved->dtype = t->dtype;
    saved->shape = cr_tensor_shape(t);
    saved->strides.count = t->ndim;
    memcpy(saved->strides.at, t->strides, sizeof t->strides);
    saved->offset = t->offset;
}

cr_tensor *cr_saved_get(cr_node *node, int index, bool *overwritten) {
    const cr_saved *saved = index < node->saved_count ? &node->saved[index] : NULL;
    if (!saved || !saved->storage) return NULL;
    if (saved->is_overwritten ||
        atomic_load_explicit(&saved->storage->version, memory_order_acquire) != saved->version) {
        *overwritten = true;
        return NULL;
    }
    cr_tensor *t =
        cr_view_of_storage(saved->storage, (cr_dtype)saved->dtype, saved->shape, saved->strides, saved->offset);
    if (!t) return NULL;
    t->device = saved->device;
    if (!cr_grad_enabled()) return t;
    const bool is_input = index < node->input_count;
    const cr_edge edge = is_input ? node->edges[index] : (cr_edge){node, index - node->input_count};
    if (edge.node && cr_dtype_is_floating((cr_dtype)t->dtype) && !cr_record_set_node(t, edge.node, edge.index))
        return NULL;
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
