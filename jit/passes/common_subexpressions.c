/* Common subexpressions: of two nodes with the same op, operands and attributes the later one goes. Random ops, ops
 * that write an operand, and nodes with blocks stay. */
#include "jit/pass.h"

#include <string.h>

enum { BUCKETS = 1024 };

typedef struct seen {
    cr_graph_node *node;
    struct seen *next;
} seen;

static bool may_merge(const cr_graph_node *node) {
    return !(node->op->flags & CR_OP_RANDOM) && !cr_op_mutates(node->op, node->attributes) && node->block_count == 0 &&
           node->output_count > 0;
}

static uint32_t hash_node(const cr_graph_node *node) {
    uint64_t hash = (uintptr_t)node->op;
    for (int i = 0; i < node->input_count; i++)
        hash = (hash ^ (uintptr_t)node->inputs[i]) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(hash >> 32) % BUCKETS;
}

static bool same_bound(const cr_graph_node *a, const cr_graph_node *b) {
    if (a->bound_count != b->bound_count) return false;
    for (int i = 0; i < a->bound_count; i++) {
        const cr_bound_attribute *x = &a->bound[i], *y = &b->bound[i];
        if (x->attribute != y->attribute || x->element != y->element || x->extent.factor != y->extent.factor ||
            x->extent.term != y->extent.term || x->extent.divisor != y->extent.divisor ||
            x->extent.symbol_count != y->extent.symbol_count ||
            memcmp(x->extent.symbols, y->extent.symbols, (size_t)x->extent.symbol_count) != 0)
            return false;
    }
    return true;
}

static bool same_node(const cr_graph_node *a, const cr_graph_node *b) {
    return a->op == b->op && a->input_count == b->input_count && a->output_count == b->output_count &&
           (!a->input_count || !memcmp(a->inputs, b->inputs, (size_t)a->input_count * sizeof *a->inputs)) &&
           cr_attributes_equal(a->op, a->attributes, b->attributes) && same_bound(a, b);
}

static void replace(cr_graph_node *node, cr_graph_node *by) {
    for (int i = 0; i < node->output_count; i++) {
        if (!node->outputs[i]) continue;
        if (by->outputs[i])
            node->outputs[i]->replacement = by->outputs[i];
        else
            cr_graph_set_output(by, i, node->outputs[i]);
    }
}

bool cr_pass_common_subexpressions(cr_graph *graph, bool *changed) {
    seen **buckets = cr_calloc(BUCKETS, sizeof *buckets);
    bool done = buckets != NULL;
    for (cr_graph_node *node = graph->body.first, *next; done && node; node = next) {
        next = node->next;
        for (int i = 0; i < node->input_count; i++)
            node->inputs[i] = cr_value_resolve(node->inputs[i]);
        if (!may_merge(node)) continue;
        seen **bucket = &buckets[hash_node(node)], *at = *bucket;
        while (at && !same_node(at->node, node))
            at = at->next;
        if (at) {
            replace(node, at->node);
            cr_graph_remove(&graph->body, node);
            *changed = true;
        } else if ((at = cr_pool_allocate(&graph->pool, sizeof *at))) {
            *at = (seen){node, *bucket};
            *bucket = at;
        } else {
            done = false;
        }
    }
    cr_free(buckets);
    cr_graph_apply(graph);
    return done;
}
