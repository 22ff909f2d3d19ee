/* Fusion: pointwise nodes of one shape that depend on each other become one node, whose block holds them. Regions grow
 * along uses; two join where no way leads from the one out through other nodes into the other, for then one could not
 * run whole before. */
#include "jit/passes/fusion.h"

#include "ops/fused.h"

#include <string.h>

enum { REACH = 512 }; /* nodes further apart than this are not joined: their values would live too long */

/* ---------------------------------------------------------------- what may be fused */
static bool is_plain(cr_dtype dtype) { return dtype != CR_F16 && dtype != CR_BF16; }

static bool is_cast(const cr_graph_node *node) { return !strcmp(node->op->name, "cast"); }

/* Casts of which C's conversion says the same as ours: not from floats to integers. */
static bool is_safe_cast(const cr_graph_node *node) {
    const cr_dtype from = node->inputs[0]->dtype, to = node->outputs[0]->dtype;
    return !*(const bool *)cr_graph_attribute(node, "channels_last") && is_plain(from) && is_plain(to) &&
           (cr_dtype_is_floating(to) || !cr_dtype_is_floating(from));
}

bool cr_may_fuse(const cr_graph_node *node) {
    if (node->output_count != 1 || !node->outputs[0] || node->outputs[0]->device.type != CR_DEVICE_CPU ||
        node->bound_count)
        return false;
    if (is_cast(node) ? !is_safe_cast(node)
                      : strcmp(node->op->name, "full") != 0 && !(node->op->flags & CR_OP_POINTWISE))
        return false;
    for (int i = 0; i < node->input_count; i++)
        if (!is_plain(node->inputs[i]->dtype)) return false;
    return is_plain(node->outputs[0]->dtype) && cr_node_types_hold(node);
}

/* Broadcasting does what an expand does: its operand can be read in its place. */
static cr_value *through_expand(cr_value *value) {
    while (value->producer && !strcmp(value->producer->op->name, "expand"))
        value = value->producer->inputs[0];
    return value;
}

/* ---------------------------------------------------------------- regions as sets with a root */
static int root_of(const fusion *f, int node) {
    while (f->parent[node] != node)
        node = f->parent[node] = f->parent[f->parent[node]];
    return node;
}

static int index_of(const cr_value *value) { return value->producer ? value->producer->index : -1; }

/* Nothing from node `first` on can come before this one: not it, nor what it is fused with, is that late. */
static bool is_all_before(const fusion *f, int node, int first) {
    if (node >= first) return false;
    for (int member = root_of(f, node); member >= 0; member = f->next[member])
        if (member >= first) return false;
    return true;
}

/* Whether a way leads from node `from` back to region `a` or `b` through nodes of neither, not before `first`. */
static bool leads_back(fusion *f, int from, int a, int b, int first) {
    int depth = 0;
    f->stamp++;
    f->stack[depth++] = from;
    f->visited[from] = f->stamp;
    while (depth) {
        const cr_graph_node *node = f->nodes[f->stack[--depth]];
        const int region = root_of(f, node->index);
        if (region == a || region == b) return true;
        /* a region is left as a whole: all that any of its nodes reads comes before all of it */
        for (int member = region; member >= 0; member = f->next[member])
            for (int i = 0; i < f->nodes[member]->input_count; i++) {
                const cr_value *value = f->nodes[member]->inputs[i];
                const int index = value ? index_of(value) : -1;
                if (index < 0 || f->visited[index] == f->stamp || is_all_before(f, index, first)) continue;
                f->visited[index] = f->stamp;
                f->stack[depth++] = index;
            }
    }
    return false;
}

static int first_of(const fusion *f, int region) {
    int first = region;
    for (int member = region; member >= 0; member = f->next[member])
        if (member < first) first = member;
    return first;
}

/* Ways into the joined region from outside of it, traced back. */
static bool may_join(fusion *f, int a, int b) {
    const int first_a = first_of(f, a), first_b = first_of(f, b), first = first_a < first_b ? first_a : first_b;
    const int both[] = {a, b};
    for (int k = 0; k < 2; k++)
        for (int member = both[k]; member >= 0; member = f->next[member])
            for (int i = 0; i < f->nodes[member]->input_count; i++) {
                const cr_value *value = f->nodes[member]->inputs[i];
                const int index = value ? index_of(value) : -1;
                if (index < 0 || is_all_before(f, index, first)) continue;
                const int region = root_of(f, index);
                if (region != a && region != b && leads_back(f, index, a, b, first)) return false;
            }
    return true;
}

/* Distinct values that come from outside, and those that are used outside. */
static void count_operands(fusion *f, int a, int b, int *operands, int *instructions) {
    const int both[] = {a, b};
    const cr_value *seen[CR_FUSED_OPERANDS + 1];
    int inputs = 0, outputs = 0;
    *instructions = 0;
    for (int k = 0; k < (a == b ? 1 : 2); k++)
        for (int member = both[k]; member >= 0; member = f->next[member]) {
            const cr_graph_node *node = f->nodes[member];
            ++*instructions;
            outputs++; /* at worst; the inner ones fall away later */
            outputs -= cr_fusion_is_inner(f, node->outputs[0], a, b);
            for (int i = 0; i < node->input_count; i++) {
                const cr_value *value = node->inputs[i];
                const int region = value->producer ? root_of(f, index_of(value)) : -1;
                bool known = region >= 0 && (region == a || region == b);
                for (int s = 0; !known && s < inputs && s < CR_FUSED_OPERANDS; s++)
                    known = seen[s] == value;
                if (!known && inputs < CR_FUSED_OPERANDS) seen[inputs] = value;
                inputs += !known;
            }
        }
    *operands = inputs + outputs;
}

bool cr_fusion_is_inner(const fusion *f, const cr_value *value, int a, int b) {
    const fusion_uses *uses = &f->uses[value->producer->index];
    if (uses->leaves) return false;
    for (int i = 0; i < uses->count; i++) {
        const int region = root_of(f, f->users[uses->begin + i]);
        if (region != a && region != b) return false;
    }
    return true;
}

static void try_join(fusion *f, int node, const cr_value *value) {
    if (!value->producer || !f->fusible[value->producer->index]) return;
    const int a = root_of(f, node), b = root_of(f, value->producer->index);
    int operands, instructions;
    if (a == b || node - value->producer->index > REACH) return;
    if (!cr_shape_equal(f->nodes[a]->outputs[0]->shape, f->nodes[b]->outputs[0]->shape)) return;
    count_operands(f, a, b, &operands, &instructions);
    if (operands > CR_FUSED_OPERANDS || instructions > CR_FUSED_INSTRUCTIONS || !may_join(f, a, b)) return;
    const int root = a < b ? a : b, other = a < b ? b : a; /* members stay a list from the root on */
    int last = root;
    while (f->next[last] >= 0)
        last = f->next[last];
    f->next[last] = other;
    f->parent[other] = root;
}

/* ---------------------------------------------------------------- preparation */
/* Who uses each node's results, in one list; `leaves` where a graph output or a state does. */
static bool list_users(fusion *f, cr_graph *graph) {
    int total = 0;
    for (int n = 0; n < f->count; n++)
        for (int i = 0; i < f->nodes[n]->input_count; i++)
            if (f->nodes[n]->inputs[i] && f->nodes[n]->inputs[i]->producer)
                f->uses[index_of(f->nodes[n]->inputs[i])].count++, total++;
    if (!(f->users = cr_calloc((size_t)total + 1, sizeof *f->users))) return false;
    int begin = 0;
    for (int n = 0; n < f->count; n++) {
        f->uses[n].begin = begin;
        begin += f->uses[n].count;
        f->uses[n].count = 0;
    }
    for (int n = 0; n < f->count; n++)
        for (int i = 0; i < f->nodes[n]->input_count; i++) {
            if (!f->nodes[n]->inputs[i] || !f->nodes[n]->inputs[i]->producer) continue;
            fusion_uses *uses = &f->uses[index_of(f->nodes[n]->inputs[i])];
            f->users[uses->begin + uses->count++] = n;
        }
    for (int i = 0; i < graph->body.output_count; i++)
        if (graph->body.outputs[i]->producer) f->uses[index_of(graph->body.outputs[i])].leaves = true;
    for (int i = 0; i < graph->state_count; i++)
        if (graph->states[i].update && graph->states[i].update->producer)
            f->uses[index_of(graph->states[i].update)].leaves = true;
    return true;
}

static bool prepare(fusion *f, cr_graph *graph) {
    cr_graph_number(graph);
    for (const cr_graph_node *node = graph->body.first; node; node = node->next)
        f->count++;
    const size_t n = (size_t)f->count + 1;
    f->nodes = cr_calloc(n, sizeof *f->nodes);
    f->uses = cr_calloc(n, sizeof *f->uses);
    f->parent = cr_calloc(4 * n, sizeof *f->parent);
    f->fusible = cr_calloc(n, sizeof *f->fusible);
    if (!f->nodes || !f->uses || !f->parent || !f->fusible) return false;
    f->next = f->parent + n;
    f->visited = f->parent + 2 * n;
    f->stack = f->parent + 3 * n;
    for (cr_graph_node *node = graph->body.first; node; node = node->next) {
        f->nodes[node->index] = node;
        f->parent[node->index] = node->index;
        f->next[node->index] = -1;
        f->fusible[node->index] = cr_may_fuse(node);
    }
    return list_users(f, graph);
}

static void finish(fusion *f) {
    cr_free(f->nodes);
    cr_free(f->uses);
    cr_free(f->users);
    cr_free(f->parent);
    cr_free(f->fusible);
}

static void skip_expands(cr_graph *graph) {
    for (cr_graph_node *node = graph->body.first; node; node = node->next) {
        if (!(node->op->flags & CR_OP_POINTWISE) || node->outputs[0]->device.type != CR_DEVICE_CPU) continue;
        bool whole = false; /* another operand that has all dims keeps the result's shape */
        for (int i = 0; i < node->input_count; i++) {
            const cr_value *value = through_expand(node->inputs[i]);
            whole |= cr_shape_equal(value->shape, node->outputs[0]->shape);
        }
        for (int i = 0; whole && i < node->input_count; i++)
            node->inputs[i] = through_expand(node->inputs[i]);
    }
}

bool cr_pass_fusion(cr_graph *graph, bool *changed) {
    fusion f = {0};
    skip_expands(graph);
    bool done = prepare(&f, graph);
    for (int n = 0; done && n < f.count; n++) {
        if (!f.fusible[n]) continue;
        for (int i = 0; i < f.nodes[n]->input_count; i++)
            try_join(&f, n, f.nodes[n]->inputs[i]);
    }
    done = done && cr_fusion_build(&f, graph, changed);
    finish(&f);
    return done;
}

int cr_fusion_root(const fusion *f, int node) { return root_of(f, node); }
