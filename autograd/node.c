/* Nodes: making, sharing and ending them, and what they save. */
#include "autograd/node.h"
#include "core/allocator.h"

#include <string.h>

static atomic_uint_fast64_t next_sequence = 1;

/* ---------------------------------------------------------------- nodes */
_Static_assert(sizeof(cr_node) % 8 == 0 && sizeof(cr_edge) % 8 == 0 && sizeof(cr_spec) % 8 == 0 &&
                   sizeof(cr_saved) % 8 == 0,
               "what lies behind one another in a node's block is aligned");

/* Hands out consecutive pieces of one block. */
static void *take(char **cursor, size_t bytes) {
    void *piece = *cursor;
    *cursor += bytes;
    return piece;
}

cr_node *cr_node_new(const char *name, int input_count, int output_count, int saved_count, const void *payload,
                     size_t payload_bytes) {
    const size_t inputs = (size_t)input_count, outputs = (size_t)output_count;
    const size_t saved = (size_t)saved_count;
    const size_t bytes = sizeof(cr_node) + inputs * (sizeof(cr_edge) + sizeof(cr_spec)) + outputs * sizeof(cr_spec) +
                         saved * sizeof(cr_saved) + payload_bytes;
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
    node->edges = take(&cursor, inputs * sizeof(cr_edge));
    for (size_t i = 0; i < inputs; i++)
        node->edges[i].node = NULL;
    node->input_specs = take(&cursor, inputs * sizeof(cr_spec));
    node->output_specs = take(&cursor, outputs * sizeof(cr_spec));
    node->saved_count = saved_count;
    node->saved = take(&cursor, saved * sizeof(cr_saved));
    for (size_t i = 0; i < saved; i++)
        node->saved[i].storage = NULL;
    node->payload = payload_bytes ? memcpy(cursor, payload, payload_bytes) : payload;
    return node;
}

cr_node *cr_node_retain(cr_node *node) {
    if (node)
        atomic_fetch_add_explicit(node->leaf ? &node->leaf->references : &node->references, 1, memory_order_relaxed);
    return node;
}

void cr_node_consume(cr_node *node) {
    for (int i = 0; i < node->saved_count; i++) {
        cr_storage_release(node->saved[i].storage);
        node->saved[i].storage = NULL;
    }
    node->is_consumed = true;
}

/* Ends one node; its edges' nodes that go with it are pushed to `pending`. */
static void end_node(cr_node *node) {
    cr_node_consume(node);
    for (int i = 0; i < node->input_count; i++)
        cr_node_release(node->edges[i].node);
    if (node->payload_end) node->payload_end(node->payload);
    cr_free(node->chain);
    cr_hooks_free(&node->hooks);
    cr_block_free(node, node->block_bytes);
}

/* Graphs may be a million nodes deep: ending one ends the next, so pending ones wait in a list and not on the stack. */
void cr_node_release(cr_node *node) {
    static _Thread_local struct {
        cr_node *pending;
        bool draining;
    } ending __attribute__((tls_model("initial-exec")));
    if (!node) return;
    if (node->leaf) {
        cr_release(node->leaf);
        return;
    }
    if (!cr_reference_drop(&node->references)) return;
    node->next = ending.pending;
    ending.pending = node;
    if (ending.draining) return;
    ending.draining = true;
    while (ending.pending) {
        cr_node *last = ending.pending;
        ending.pending = last->next;
        end_node(last);
    }
    ending.draining = false;
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
    const cr_edge edge = is_input ? node->edges[index] : (cr_edge){.node = node, .index = index - node->input_count};
    if (edge.node && cr_dtype_is_floating((cr_dtype)t->dtype) && !cr_set_node(t, edge.node, edge.index)) return NULL;
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
