/* Products of rows that indices pick from a table with fewer rows, as a language model of few words makes them: an
 * embedding, then the product of a layer. With X = E[index], n rows from E's `count`:
 *   X W          = (E W)[index]
 *   sum(D W)     = sum(D) W,     where sum: [n, k] to [count, k] adds up the rows that have the same index
 *   Dᵀ X         = sum(D)ᵀ E
 * so that each product is of `count` rows in place of n. Rows of E, or results, that no index picks are kept out of what is
 * not finite. f32 and f64, on the CPU; only the order of sums changes. */
#include "jit/pass.h"
#include "ops/indexing.h"

enum { LEAST_WIDTH = 32 }; /* below it picking costs as much as the product */

static bool is(const cr_graph_node *node, const char *name) { return node && !strcmp(node->op->name, name); }
static int64_t last_size(const cr_value *value) { return value->shape.at[value->shape.count - 1]; }

/* The value that this one is a view of, with the same rows; `only`: as far as nobody else reads them. */
static cr_value *without_views(cr_value *value, bool only) {
    while (is(value->producer, "view") && value->shape.count > 0 && value->producer->inputs[0]->shape.count > 0 &&
           last_size(value) == last_size(value->producer->inputs[0]) && !(only && value->uses > 1))
        value = value->producer->inputs[0];
    return value;
}

static bool pays(int64_t rows, int64_t count, int64_t width, const cr_value *value) {
    return value->device.type == CR_DEVICE_CPU && (value->dtype == CR_F32 || value->dtype == CR_F64) &&
           2 * rows >= 3 * count && width >= LEAST_WIDTH;
}

/* The node that picked the rows of x, or NULL. */
static cr_graph_node *picker_of(cr_value *x) {
    if (x->shape.count < 2) return NULL;
    cr_graph_node *node = without_views(x, false)->producer;
    if (!is(node, "index_select") || node->inputs[0]->shape.count != 2) return NULL;
    const int64_t dim = *(const int64_t *)cr_graph_attribute(node, "dim");
    const cr_value *table = node->inputs[0], *rows = node->outputs[0];
    return (dim == 0 || dim == -2) && pays(rows->shape.at[0], table->shape.at[0], last_size(table), table) ? node
                                                                                                           : NULL;
}

static cr_value *add(cr_graph *graph, const cr_graph_node *before, const char *op, const void *attributes,
                     cr_value *const *inputs, int count, cr_shape shape) {
    return cr_graph_insert(graph, before, op, attributes, inputs, count, inputs[0]->dtype, shape);
}

static cr_value *add_view(cr_graph *graph, const cr_graph_node *before, cr_value *value, cr_shape shape) {
    const struct {
        size_t size;
        cr_dims shape;
    } options = {sizeof options, shape};
    return add(graph, before, "view", &options, &value, 1, shape);
}

static cr_value *transpose(cr_graph *graph, const cr_graph_node *before, cr_value *value) {
    const struct {
        size_t size;
        cr_dims dims;
    } options = {sizeof options, CR_DIMS(1, 0)};
    return add(graph, before, "permute", &options, &value, 1, CR_SHAPE(value->shape.at[1], value->shape.at[0]));
}

/* [count, k]: rows of [n, k] summed by their index. */
static cr_value *sum_rows(cr_graph *graph, const cr_graph_node *before, cr_value *rows, cr_value *index, int64_t count,
                          int64_t padding) {
    const int64_t width = last_size(rows);
    const cr_embedding_grad_options options = {sizeof options, count, padding};
    cr_shape shape = index->shape;
    shape.at[shape.count++] = width;
    rows = without_views(rows, false);
    if (!cr_shape_equal(rows->shape, shape) && !(rows = add_view(graph, before, rows, shape))) return NULL;
    cr_value *const inputs[] = {rows, index};
    return add(graph, before, "embedding_grad", &options, inputs, 2, CR_SHAPE(count, width));
}

/* Rows that no index picks as zeros: 0 · inf would be no number where there was nothing. */
static cr_value *picked_only(cr_graph *graph, const cr_graph_node *before, cr_value *rows, cr_value *index,
                             int64_t padding) {
    _Alignas(16) char zero[64];
    const int64_t count = rows->shape.at[0];
    const cr_embedding_grad_options options = {sizeof options, count, padding};
    cr_shape shape = index->shape;
    shape.at[shape.count++] = 1;
    if (!cr_attributes_parse(cr_op_find("masked_fill"), "value=0", zero)) return NULL;
    cr_graph_node *ones =
        cr_graph_add_full(graph, &graph->body, (cr_graph_node *)(uintptr_t)before, rows->dtype, shape, CR_CPU, 1);
    cr_value *const counted[] = {cr_graph_value(graph, rows->dtype, &shape, CR_CPU), index};
    if (!ones || !counted[0]) return NULL;
    ones->source = before->source;
    cr_graph_set_output(ones, 0, counted[0]);
    cr_value *picks = add(graph, before, "embedding_grad", &options, counted, 2, CR_SHAPE(count, 1));
    cr_value *const filled[] = {
        rows, picks ? cr_graph_insert(graph, before, "logical_not", NULL, &picks, 1, CR_BOOL, picks->shape) : NULL};
    return filled[1] ? add(graph, before, "masked_fill", zero, filled, 2, rows->shape) : NULL;
}

static cr_value *base_index(cr_value *index) {
    while (is(index->producer, "view") && index->producer->inputs[0]->shape.count < CR_MAX_DIMS)
        index = index->producer->inputs[0];
    return index;
}

/* ---------------------------------------------------------------- the three products */
/* X W, of a linear layer too: the product of the table, whose rows are picked. */
static bool pick_after(cr_graph *graph, cr_graph_node *product) {
    cr_graph_node *picker = picker_of(product->inputs[0]);
    if (!picker || product->inputs[1]->shape.count != 2) return true;
    cr_value *inputs[3] = {picker->inputs[0], product->inputs[1], product->input_count > 2 ? product->inputs[2] : NULL},
             *result = product->outputs[0];
    const int64_t width = last_size(result);
    cr_value *table = add(graph, product, product->op->name, product->attributes, inputs, product->input_count,
                          CR_SHAPE(inputs[0]->shape.at[0], width));
    cr_value *const picks[] = {table, picker->inputs[1]};
    cr_value *picked = table ? add(graph, product, "index_select", picker->attributes, picks, 2,
                                   CR_SHAPE(picker->outputs[0]->shape.at[0], width))
                             : NULL;
    result->replacement = picked ? add_view(graph, product, picked, result->shape) : NULL;
    return result->replacement != NULL;
}

/* sum(D W), an embedding's gradient. */
static bool sum_before(cr_graph *graph, cr_graph_node *sum) {
    cr_value *rows = without_views(sum->inputs[0], true), *index = base_index(sum->inputs[1]);
    cr_graph_node *product = rows->producer;
    const cr_embedding_grad_options *o = sum->attributes;
    if (!is(product, "matmul") || rows->uses > 1 || rows->shape.count != 2 || product->inputs[0]->shape.count != 2 ||
        !pays(rows->shape.at[0], o->count, last_size(rows), rows))
        return true;
    cr_value *sums = sum_rows(graph, sum, product->inputs[0], index, o->count, o->padding_idx);
    cr_value *const inputs[] = {sums, product->inputs[1]};
    cr_value *result = sum->outputs[0], *made = sums ? add(graph, sum, "matmul", NULL, inputs, 2, result->shape) : NULL;
    result->replacement = made ? picked_only(graph, sum, made, index, o->padding_idx) : NULL;
    return result->replacement != NULL;
}

/* Dᵀ X, the gradient of a layer's weight. */
static bool sum_by_index(cr_graph *graph, cr_graph_node *product) {
    const cr_graph_node *turn = product->inputs[0]->producer;
    cr_graph_node *picker = picker_of(product->inputs[1]);
    if (!picker || !is(turn, "permute") || turn->inputs[0]->shape.count != 2 || product->inputs[1]->shape.count != 2 ||
        turn->outputs[0]->shape.at[1] != turn->inputs[0]->shape.at[0])
        return true;
    cr_value *index = base_index(picker->inputs[1]), *table = picker->inputs[0], *result = product->outputs[0];
    cr_value *sums = sum_rows(graph, product, turn->inputs[0], index, table->shape.at[0], -1);
    cr_value *const inputs[] = {sums ? transpose(graph, product, sums) : NULL,
                                picked_only(graph, product, table, index, -1)};
    result->replacement = inputs[0] && inputs[1] ? add(graph, product, "matmul", NULL, inputs, 2, result->shape) : NULL;
    return result->replacement != NULL;
}

bool cr_pass_tables(cr_graph *graph, bool *changed) {
    if (graph->supports) return true; /* targets may lack what sums rows */
    cr_graph_count_uses(graph);
    for (cr_graph_node *node = graph->body.first, *next; node; node = next) {
        next = node->next;
        if (node->output_count != 1 || !node->outputs[0] || node->input_count < 2) continue;
        const bool is_product = is(node, "matmul");
        if ((is_product || is(node, "linear")) && !pick_after(graph, node)) return false;
        if (is_product && !node->outputs[0]->replacement && !sum_by_index(graph, node)) return false;
        if (is(node, "embedding_grad") && !sum_before(graph, node)) return false;
        *changed = *changed || node->outputs[0]->replacement;
    }
    cr_graph_apply(graph);
    return true;
}
