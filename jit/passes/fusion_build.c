/* Regions become nodes; then all nodes are put in order: each after what it reads, else as before (random ops keep
 * theirs). */
#include "jit/passes/fusion.h"

#include <string.h>

/* ---------------------------------------------------------------- order: a heap of units that are ready, by their last
 * node */
typedef struct order {
    const fusion *f;
    int *rank;    /* by root: its last member */
    int *waiting; /* by root: operands from other units that are not placed yet */
    int *heap, count;
} order;

static void push(order *o, int unit) {
    int at = o->count++;
    for (; at > 0 && o->rank[o->heap[(at - 1) / 2]] > o->rank[unit]; at = (at - 1) / 2)
        o->heap[at] = o->heap[(at - 1) / 2];
    o->heap[at] = unit;
}

static int pop(order *o) {
    const int top = o->heap[0], last = o->heap[--o->count];
    int at = 0;
    for (int child; (child = 2 * at + 1) < o->count; at = child) {
        if (child + 1 < o->count && o->rank[o->heap[child + 1]] < o->rank[o->heap[child]]) child++;
        if (o->rank[o->heap[child]] >= o->rank[last]) break;
        o->heap[at] = o->heap[child];
    }
    o->heap[at] = last;
    return top;
}

static int producer_unit(const order *o, const cr_value *value) {
    return value && value->producer ? cr_fusion_root(o->f, value->producer->index) : -1;
}

static void count_waiting(order *o) {
    for (int n = 0; n < o->f->count; n++) {
        const int unit = cr_fusion_root(o->f, n);
        o->rank[unit] = n; /* ascending: the last member stays */
        for (int i = 0; i < o->f->nodes[n]->input_count; i++) {
            const int from = producer_unit(o, o->f->nodes[n]->inputs[i]);
            o->waiting[unit] += from >= 0 && from != unit;
        }
    }
}

/* ---------------------------------------------------------------- a region's node */
static bool add_once(cr_value **list, int *count, cr_value *value) {
    for (int i = 0; i < *count; i++)
        if (list[i] == value) return true;
    if (*count == CR_MAX_INPUTS) return false;
    list[(*count)++] = value;
    return true;
}

static void insert_sorted(int *list, int *count, int value) {
    int at = (*count)++;
    for (; at > 0 && list[at - 1] > value; at--)
        list[at] = list[at - 1];
    list[at] = value;
}

/* Members in the graph's order, what they read from outside, and what others read of them. */
static bool collect(const order *o, int unit, int *members, int *member_count, cr_value **inputs, int *input_count,
                    cr_value **outputs, int *output_count) {
    *member_count = *input_count = *output_count = 0;
    for (int m = unit; m >= 0; m = o->f->next[m])
        insert_sorted(members, member_count, m);
    for (int k = 0; k < *member_count; k++) {
        const cr_graph_node *node = o->f->nodes[members[k]];
        for (int i = 0; i < node->input_count; i++)
            if (producer_unit(o, node->inputs[i]) != unit && !add_once(inputs, input_count, node->inputs[i]))
                return false;
        if (!cr_fusion_is_inner(o->f, node->outputs[0], unit, unit) &&
            !add_once(outputs, output_count, node->outputs[0]))
            return false;
    }
    return true;
}

static void append(cr_block *block, cr_graph_node *node) {
    node->next = NULL;
    node->previous = block->last;
    *(block->last ? &block->last->next : &block->first) = node;
    block->last = node;
}

static int position_of(cr_value *const *list, const cr_value *value) {
    int at = 0;
    while (list[at] != value)
        at++;
    return at;
}

static bool make_node(const order *o, cr_graph *graph, int unit) {
    enum { MOST = 64 };
    int members[MOST], member_count, input_count, output_count;
    cr_value *inputs[CR_MAX_INPUTS], *outputs[CR_MAX_INPUTS];
    const cr_op *op = cr_op_find("fused");
    if (!op || !collect(o, unit, members, &member_count, inputs, &input_count, outputs, &output_count)) return false;
    cr_block *inner = cr_graph_new_block(graph), **blocks = cr_pool_allocate(&graph->pool, sizeof *blocks);
    cr_graph_node *node = cr_graph_add(graph, &graph->body, NULL, op, NULL, inputs, input_count, output_count);
    if (!inner || !blocks || !node) return false;
    node->blocks = blocks;
    node->block_count = 1;
    blocks[0] = inner;
    node->source = o->f->nodes[members[0]]->source;
    for (int i = 0; i < input_count; i++) { /* the block sees its operands as inputs of its own */
        cr_value *seen = cr_graph_value(graph, inputs[i]->dtype, &inputs[i]->shape, inputs[i]->device);
        if (!seen || !cr_block_add_input(graph, inner, seen)) return false;
    }
    for (int k = 0; k < member_count; k++) {
        cr_graph_node *member = o->f->nodes[members[k]];
        for (int i = 0; i < member->input_count; i++)
            if (producer_unit(o, member->inputs[i]) != unit)
                member->inputs[i] = inner->inputs[position_of(inputs, member->inputs[i])];
        append(inner, member);
    }
    for (int i = 0; i < output_count; i++) { /* outside, a new value stands for each result */
        cr_value *seen = cr_graph_value(graph, outputs[i]->dtype, &outputs[i]->shape, outputs[i]->device);
        if (!seen || !cr_block_add_output(graph, inner, outputs[i])) return false;
        cr_graph_set_output(node, i, seen);
        outputs[i]->note = seen;
    }
    return true;
}

/* ---------------------------------------------------------------- the whole */
/* Results of regions as the outside sees them: by note, set when the region was built. */
static void redirect(const fusion *f, cr_graph *graph) {
    for (cr_graph_node *node = graph->body.first; node; node = node->next)
        for (int i = 0; i < node->input_count; i++)
            if (node->inputs[i] && node->inputs[i]->producer && node->inputs[i]->note &&
                node->inputs[i]->producer->note == f)
                node->inputs[i] = node->inputs[i]->note;
    for (int i = 0; i < graph->body.output_count; i++) {
        cr_value **use = &graph->body.outputs[i];
        if ((*use)->producer && (*use)->producer->note == f) *use = (*use)->note;
    }
    for (int i = 0; i < graph->state_count; i++) {
        cr_value **use = &graph->states[i].update;
        if (*use && (*use)->producer && (*use)->producer->note == f) *use = (*use)->note;
    }
}

static bool place_units(order *o, cr_graph *graph, bool *changed) {
    const fusion *f = o->f;
    int placed = 0;
    graph->body.first = graph->body.last = NULL;
    for (int n = 0; n < f->count; n++)
        if (cr_fusion_root(f, n) == n && o->waiting[n] == 0) push(o, n);
    while (o->count) {
        const int unit = pop(o);
        const bool fused = f->next[unit] >= 0;
        *changed |= fused;
        for (int m = unit; m >= 0; m = f->next[m], placed++)
            for (int u = 0; u < f->uses[m].count; u++) {
                const int user = cr_fusion_root(f, f->users[f->uses[m].begin + u]);
                if (user != unit && --o->waiting[user] == 0) push(o, user);
            }
        for (int m = unit; fused && m >= 0; m = f->next[m])
            f->nodes[m]->note = (void *)(uintptr_t)f;
        if (!fused)
            append(&graph->body, f->nodes[unit]);
        else if (!make_node(o, graph, unit))
            return false;
    }
    return placed == f->count || cr_fail(CR_ERROR_STATE, "jit: fused nodes wait for each other");
}

bool cr_fusion_build(fusion *f, cr_graph *graph, bool *changed) {
    const size_t n = (size_t)f->count + 1;
    int *lists = cr_calloc(3 * n, sizeof *lists);
    if (!lists) return false;
    for (int i = 0; i < f->count; i++)
        f->nodes[i]->note = NULL;
    order o = {.f = f, .rank = lists, .waiting = lists + n, .heap = lists + 2 * n};
    count_waiting(&o);
    const bool done = place_units(&o, graph, changed);
    if (done) redirect(f, graph);
    cr_free(lists);
    return done;
}
