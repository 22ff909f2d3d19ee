/* How sizes inside a graph follow from its symbols: it is made anew at other values of them, and formulas are fitted. */
#include "jit/fit.h"

#include <string.h>

enum { TRIALS = 12 }; /* the first is the graph itself */

typedef struct comparison {
    cr_graph *graphs[TRIALS];
    int64_t samples[TRIALS][CR_GRAPH_SYMBOLS];
    int count;
} comparison;

static bool differs(const cr_graph_node *node) {
    return cr_fail(
        CR_ERROR_UNSUPPORTED,
        "jit_trace: the function calls other ops for other sizes, near %s%s%s; trace it without .dynamic, or let "
        "cr_cond decide",
        node ? node->op->name : "its end", node && node->source ? " in " : "",
        node && node->source ? node->source : "");
}

/* ---------------------------------------------------------------- one size
 * A size that an op rounds (a strided convolution) follows from its operand's by a small divisor, which a few trials settle; from
 * the symbols, after many such ops, by one that they would not. */
/* floor((from + term) / divisor) of a size whose own formula is known. */
static bool compose(const comparison *c, const cr_extent *from, const int64_t *from_sizes, const int64_t *sizes,
                    cr_extent *to) {
    enum { MOST_DIVISOR = 8 };
    int64_t samples[TRIALS][CR_GRAPH_SYMBOLS] = {{0}};
    cr_extent step;
    for (int k = 0; k < c->count; k++)
        samples[k][0] = from_sizes[k];
    if (!cr_extent_fit(&step, sizes, (const int64_t(*)[CR_GRAPH_SYMBOLS])samples, c->count, 1)) return false;
    if (step.symbol_count != 1 || step.divisor > MOST_DIVISOR || (step.factor != 1 && from->divisor != 1)) return false;
    *to = *from;
    to->factor = step.factor * from->factor;
    to->term = step.factor * from->term + step.term * from->divisor;
    to->divisor = from->divisor * step.divisor;
    return true;
}

/* From one of the operands' sizes, where that is simpler than from the symbols. */
static bool fit_from_operands(const comparison *c, cr_graph_node *const *nodes, const int64_t *sizes,
                              cr_extent *extent) {
    for (int i = 0; nodes && nodes[0] && i < nodes[0]->input_count; i++) {
        const cr_value *input = nodes[0]->inputs[i];
        for (int d = 0; input && input->extents && d < input->shape.count; d++) {
            int64_t from[TRIALS];
            for (int k = 0; k < c->count; k++)
                from[k] = nodes[k]->inputs[i]->shape.at[d];
            if (input->extents[d].symbol_count && compose(c, &input->extents[d], from, sizes, extent)) return true;
        }
    }
    return false;
}

static bool fit_size(const comparison *c, cr_graph_node *const *nodes, const int64_t *sizes, cr_extent *extent) {
    cr_extent found;
    if (!cr_extent_fit(extent, sizes, c->samples, c->count, c->graphs[0]->symbol_count))
        return fit_from_operands(c, nodes, sizes, extent);
    if (extent->divisor > 1 && fit_from_operands(c, nodes, sizes, &found)) *extent = found;
    return true;
}

static bool fit_value(const comparison *c, cr_value *const *values, cr_graph_node *const *nodes) {
    cr_extent extents[CR_MAX_DIMS];
    bool symbolic = false;
    cr_value *value = values[0];
    for (int k = 1; k < c->count; k++)
        if (!values[k] || values[k]->dtype != value->dtype || values[k]->shape.count != value->shape.count)
            return false;
    for (int d = 0; d < value->shape.count; d++) {
        int64_t sizes[TRIALS];
        for (int k = 0; k < c->count; k++)
            sizes[k] = values[k]->shape.at[d];
        if (!fit_size(c, nodes, sizes, &extents[d])) return false;
        symbolic |= extents[d].symbol_count > 0;
    }
    if (!symbolic) return true;
    value->extents = cr_pool_allocate(&c->graphs[0]->pool, sizeof extents);
    if (value->extents) memcpy(value->extents, extents, sizeof extents);
    return value->extents != NULL;
}

static double element_of(const cr_attribute *attribute, const void *attributes, int element) {
    const void *field = (const char *)attributes + attribute->offset;
    if (attribute->kind == CR_ATTRIBUTE_DIMS) return (double)((const cr_dims *)field)->at[element];
    return attribute->kind == CR_ATTRIBUTE_INT ? (double)*(const int64_t *)field : *(const double *)field;
}

static bool is_whole(double value) { return value > -0x1p53 && value < 0x1p53 && value == (double)(int64_t)value; }

/* An element that is another at other sizes; one that is no whole number (1 / size) has no formula. */
static bool fit_element(const comparison *c, cr_graph_node *const *nodes, const double *values,
                        cr_bound_attribute *bound) {
    int64_t whole[TRIALS];
    bool all_whole = true;
    for (int k = 0; k < c->count; k++) {
        all_whole &= is_whole(values[k]);
        whole[k] = all_whole ? (int64_t)values[k] : 0;
    }
    if (all_whole && fit_size(c, nodes, whole, &bound->extent)) return true;
    return cr_fail(
        CR_ERROR_UNSUPPORTED,
        "jit_trace: %s of %s is %g, %g, … for other sizes, which follows from them in no way that a graph can "
        "say",
        nodes[0]->op->attributes[bound->attribute].name, nodes[0]->op->name, values[0], values[1]);
}

static bool fit_attributes(const comparison *c, cr_graph_node *const *nodes) {
    cr_graph_node *node = nodes[0];
    for (int a = 0; a < node->op->attribute_count; a++) {
        const cr_attribute *attribute = &node->op->attributes[a];
        const bool is_dims = attribute->kind == CR_ATTRIBUTE_DIMS;
        if (!is_dims && attribute->kind != CR_ATTRIBUTE_INT && attribute->kind != CR_ATTRIBUTE_FLOAT) continue;
        const int elements =
            is_dims ? ((const cr_dims *)(const void *)((const char *)node->attributes + attribute->offset))->count : 1;
        for (int e = 0; e < elements; e++) {
            double values[TRIALS];
            bool same = true;
            for (int k = 0; k < c->count; k++)
                values[k] = element_of(attribute, nodes[k]->attributes, e);
            for (int k = 1; k < c->count; k++) /* NaN is one value here */
                same &= values[k] == values[0] || (values[k] != values[k] && values[0] != values[0]);
            if (same) continue;
            cr_bound_attribute bound = {a, e, {0}};
            if (!fit_element(c, nodes, values, &bound)) return false;
            cr_bound_attribute *grown = cr_pool_grow(&c->graphs[0]->pool, node->bound, node->bound_count, sizeof bound);
            if (!grown) return false;
            node->bound = grown;
            grown[node->bound_count++] = bound;
        }
    }
    return true;
}

static bool fit_node(const comparison *c, cr_graph_node *const *nodes) {
    const cr_graph_node *first = nodes[0];
    for (int k = 1; k < c->count; k++) {
        if (!nodes[k] || nodes[k]->op != first->op || nodes[k]->block_count != first->block_count ||
            nodes[k]->input_count != first->input_count || nodes[k]->output_count != first->output_count)
            return differs(first);
        for (int i = 0; i < first->input_count; i++) {
            const cr_value *a = first->inputs[i], *b = nodes[k]->inputs[i];
            if (!a != !b || (a && a->id != b->id)) return differs(first);
        }
    }
    for (int i = 0; i < first->output_count; i++) {
        cr_value *values[TRIALS] = {NULL};
        for (int k = 0; k < c->count; k++)
            values[k] = nodes[k]->outputs[i];
        if (values[0] && !fit_value(c, values, nodes))
            return cr_ok() &&
                   cr_fail(CR_ERROR_UNSUPPORTED,
                           "jit_trace: a size of %s's result follows from the inputs' in no way that a graph can say",
                           first->op->name);
    }
    return fit_attributes(c, nodes);
}

static bool fit_block(const comparison *c, cr_block *const *blocks) {
    cr_graph_node *nodes[TRIALS];
    for (int k = 0; k < c->count; k++)
        nodes[k] = blocks[k]->first;
    for (int i = 0; c->graphs[0]->body.inputs != blocks[0]->inputs && i < blocks[0]->input_count; i++) {
        cr_value *values[TRIALS] = {NULL};
        for (int k = 0; k < c->count; k++)
            values[k] = i < blocks[k]->input_count ? blocks[k]->inputs[i] : NULL;
        if (!fit_value(c, values, NULL)) return differs(nodes[0]);
    }
    while (nodes[0]) {
        if (!fit_node(c, nodes)) return false;
        for (int b = 0; b < nodes[0]->block_count; b++) {
            cr_block *inner[TRIALS];
            for (int k = 0; k < c->count; k++)
                inner[k] = nodes[k]->blocks[b];
            if (!fit_block(c, inner)) return false;
        }
        for (int k = 0; k < c->count; k++)
            nodes[k] = nodes[k]->next;
    }
    for (int k = 1; k < c->count; k++)
        if (nodes[k]) return differs(nodes[k]);
    return true;
}

/* ---------------------------------------------------------------- constants that follow from sizes */
static bool same_bytes(const cr_tensor *a, const cr_tensor *b) {
    return a->dtype == b->dtype && a->numel == b->numel && a->storage->bytes == b->storage->bytes &&
           (!a->storage->bytes || !memcmp(a->storage->data, b->storage->data, a->storage->bytes));
}

/* A number that the function made from sizes: in place of the constant a `full` whose value is bound to them. */
static bool fit_constant(const comparison *c, int index) {
    cr_graph *graph = c->graphs[0];
    const cr_state *state = &graph->states[index];
    cr_bound_attribute bound = {0};
    int64_t values[TRIALS];
    bool all_whole = true;
    for (int k = 0; k < c->count; k++) {
        const double value = state->tensor->numel == 1 ? cr_item(c->graphs[k]->states[index].tensor) : 0.5;
        all_whole &= is_whole(value);
        values[k] = all_whole ? (int64_t)value : 0;
    }
    if (!all_whole || !cr_extent_fit(&bound.extent, values, c->samples, c->count, graph->symbol_count))
        return cr_fail(CR_ERROR_UNSUPPORTED,
                       "jit_trace: a constant of the function (%s) is another for other sizes; make it with an op, as "
                       "cr_arange or cr_full, so that the graph can say how",
                       state->name);
    _Alignas(16) char attributes[1024];
    char text[256], shape[192];
    cr_op *full = cr_op_find("full");
    snprintf(text, sizeof text, "dtype=%s shape=%s value=%lld", cr_dtype_name(state->value->dtype),
             cr_shape_format(state->value->shape, shape), (long long)values[0]);
    if (!cr_attributes_parse(full, text, attributes)) return false;
    cr_graph_node *node = cr_graph_add(graph, &graph->body, graph->body.first, full, attributes, NULL, 0, 1);
    cr_value *value = cr_graph_value(graph, state->value->dtype, &state->value->shape, state->value->device);
    if (!node || !value || !(node->bound = cr_pool_allocate(&graph->pool, sizeof bound))) return false;
    for (int i = 0; i < full->attribute_count; i++)
        if (!strcmp(full->attributes[i].name, "value")) bound.attribute = i;
    *node->bound = bound;
    node->bound_count = 1;
    cr_graph_set_output(node, 0, value);
    state->value->replacement = value;
    return true;
}

static bool fit_constants(const comparison *c) {
    cr_graph *graph = c->graphs[0];
    for (int i = 0; i < graph->state_count; i++) {
        const cr_state *state = &graph->states[i];
        bool same = true;
        for (int k = 1; same && k < c->count && state->kind == CR_STATE_CONSTANT && state->tensor; k++) {
            const cr_tensor *other = c->graphs[k]->states[i].tensor;
            same = !other || same_bytes(state->tensor, other);
        }
        if (!same && !fit_constant(c, i)) return false;
    }
    cr_graph_apply(graph);
    return true;
}

static bool fit_graph(comparison *c) {
    cr_block *bodies[TRIALS];
    for (int k = 0; k < c->count; k++) {
        cr_graph_number(c->graphs[k]);
        bodies[k] = &c->graphs[k]->body;
        if (c->graphs[k]->state_count != c->graphs[0]->state_count) return differs(NULL);
    }
    return fit_block(c, bodies) && fit_constants(c);
}

/* Sizes to try for symbol i: first near ones and far ones of all rests, for what strided layers round, one behind the other; then
 * such that divide by what images must divide by. Each symbol takes the steps of a row in an order of its own. */
enum { TRIAL_ROWS = 2, TRIAL_STEPS = 8, ATTEMPTS = TRIAL_ROWS * TRIAL_STEPS };
static int64_t trial_size(int64_t size, int symbol, int attempt) {
    static const int64_t steps[TRIAL_ROWS][TRIAL_STEPS] = {{1, 2, 7, -1, 19, 53, 37, 101},
                                                           {32, 96, 8, 64, -32, 24, 160, 128}};
    const int64_t step = steps[attempt / TRIAL_STEPS][(attempt + 5 * symbol) % TRIAL_STEPS];
    return size + step > 1 ? size + step : size - 5 * step;
}

static bool forget_sizes(cr_graph *graph, cr_block *block, cr_graph_node *node, void *context) {
    (void)graph, (void)block, (void)context;
    node->bound_count = 0;
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i]) node->outputs[i]->extents = NULL;
    for (int b = 0; b < node->block_count; b++)
        for (int i = 0; i < node->blocks[b]->input_count; i++)
            node->blocks[b]->inputs[i]->extents = NULL;
    return true;
}

/* From the trials of this row of sizes on. */
static bool find_sizes_from(cr_graph *graph, cr_fit_trial make, void *context, int row) {
    comparison c = {.graphs = {graph}, .count = 1};
    bool done = cr_graph_each(graph, forget_sizes, NULL);
    for (int i = 0; i < graph->symbol_count; i++)
        c.samples[0][i] = graph->symbols[i].value;
    for (int attempt = row * TRIAL_STEPS; done && c.count < TRIALS && attempt < ATTEMPTS; attempt++) {
        for (int i = 0; i < graph->symbol_count; i++)
            c.samples[c.count][i] = trial_size(graph->symbols[i].value, i, attempt);
        cr_graph *trial = make(context, graph, c.samples[c.count]);
        if (trial)
            c.graphs[c.count++] = trial;
        else if ((done = cr_last_error()->code != CR_ERROR_MEMORY))
            cr_clear_error(); /* a size that the function does not take */
    }
    done =
        done && (c.count >= 3 ||
                 cr_fail(CR_ERROR_UNSUPPORTED,
                         "jit_trace: the function takes no other sizes than the example's; trace it without .dynamic"));
    done = done && fit_graph(&c);
    for (int k = 1; k < c.count; k++)
        cr_jit_free(c.graphs[k]);
    return done;
}

/* Where no formula holds for all sizes (2 * (height / 2)), those that divide evenly may have one; a run refuses the
 * others. */
bool cr_fit_sizes(cr_graph *graph, cr_fit_trial make, void *context) {
    if (graph->symbol_count == 0 || find_sizes_from(graph, make, context, 0)) return true;
    if (cr_last_error()->code != CR_ERROR_UNSUPPORTED) return false;
    cr_clear_error();
    return find_sizes_from(graph, make, context, 1);
}
