/* Sizes and attributes as values: constants, or computed from the sizes of the model's inputs. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/emit.h"

#include <string.h>

/* ---------------------------------------------------------------- symbols */
/* Symbol `index` as int64 [1]: the size of the first input that has it as a dim. Computed in the main graph, once. */
static const char *symbol(cr_onnx_emitter *e, int index) {
    const cr_block *body = &e->graph->body;
    if (e->symbols[index]) return e->symbols[index];
    for (int i = 0; i < body->input_count; i++) {
        const cr_value *input = body->inputs[i];
        for (int d = 0; input->extents && d < input->shape.count; d++) {
            const cr_extent *x = &input->extents[d];
            if (x->symbol_count != 1 || x->symbols[0] != index || x->factor != 1 || x->term != 0 || x->divisor != 1)
                continue;
            const char *shape = cr_onnx_add(e, "Shape", (const char *)input->note);
            return e->symbols[index] = cr_onnx_add(e, "Gather", shape, cr_onnx_i64(e, d));
        }
    }
    cr_record_error(CR_ERROR_UNSUPPORTED, "onnx_export: no input has the size \"%s\"", e->graph->symbols[index].name);
    return NULL;
}

/* All symbols that a graph has, before anything else: blocks inside of nodes may use them. */
bool cr_onnx_write_symbols(cr_onnx_emitter *e) {
    for (int i = 0; i < e->graph->symbol_count; i++)
        if (!symbol(e, i)) return false;
    return true;
}

/* floor((factor · product + term) / divisor). ONNX divides towards zero: the rest goes first where a sum may be negative. */
const char *cr_onnx_extent(cr_onnx_emitter *e, const cr_extent *x) {
    if (x->symbol_count == 0) return cr_onnx_i64(e, x->term);
    const char *value = symbol(e, x->symbols[0]);
    for (int i = 1; i < x->symbol_count; i++)
        value = cr_onnx_add(e, "Mul", value, symbol(e, x->symbols[i]));
    if (x->factor != 1) value = cr_onnx_add(e, "Mul", value, cr_onnx_i64(e, x->factor));
    if (x->term != 0) value = cr_onnx_add(e, "Add", value, cr_onnx_i64(e, x->term));
    if (x->divisor != 1 && (x->factor < 0 || x->term < 0))
        value = cr_onnx_add(e, "Sub", value, cr_onnx_add(e, "Mod", value, cr_onnx_i64(e, x->divisor)));
    if (x->divisor != 1) value = cr_onnx_add(e, "Div", value, cr_onnx_i64(e, x->divisor));
    return value;
}

/* A list of sizes, runs of constants in one piece. */
static const char *list_of(cr_onnx_emitter *e, const cr_extent *extents, int count) {
    const char *operands[CR_MAX_DIMS + 1];
    int64_t constants[CR_MAX_DIMS] = {0};
    int pieces = 0;
    for (int i = 0; i < count;) {
        int run = 0;
        while (i + run < count && extents[i + run].symbol_count == 0)
            constants[run] = extents[i + run].term, run++;
        operands[pieces++] = run ? cr_onnx_i64s(e, constants, run) : cr_onnx_extent(e, &extents[i]);
        i += run ? run : 1;
    }
    if (count == 0) return cr_onnx_i64s(e, constants, 0);
    if (pieces == 1) return operands[0];
    const char *all;
    if (!cr_onnx_add_node(e, "Concat", operands, pieces, &all, 1)) return NULL;
    cr_onnx_set_int(e, "axis", 0);
    return all;
}

/* ---------------------------------------------------------------- values */
bool cr_onnx_has_open_size(const cr_value *value) {
    for (int d = 0; value->extents && d < value->shape.count; d++)
        if (value->extents[d].symbol_count) return true;
    return false;
}

static cr_extent size_of(const cr_value *value, int d) {
    return value->extents ? value->extents[d] : cr_extent_constant(value->shape.at[d]);
}

bool cr_onnx_same_sizes(const cr_value *a, const cr_value *b) {
    bool same = a->shape.count == b->shape.count;
    for (int d = 0; same && d < a->shape.count; d++) {
        const cr_extent x = size_of(a, d), y = size_of(b, d);
        same = x.factor == y.factor && x.term == y.term && x.divisor == y.divisor && x.symbol_count == y.symbol_count;
        for (int i = 0; same && i < x.symbol_count; i++)
            same = x.symbols[i] == y.symbols[i];
    }
    return same;
}

const char *cr_onnx_sizes(cr_onnx_emitter *e, const cr_value *value, int first, int end) {
    cr_extent extents[CR_MAX_DIMS];
    for (int d = first; d < end; d++)
        extents[d - first] = size_of(value, d);
    return list_of(e, extents, end - first);
}

/* One open size is what is left. 0 would keep a size of x: a tensor without elements is made anew. */
const char *cr_onnx_reshape(cr_onnx_emitter *e, const char *x, const cr_value *value) {
    int64_t sizes[CR_MAX_DIMS];
    int open = 0;
    bool has_zero = false;
    for (int d = 0; d < value->shape.count; d++) {
        const cr_extent size = size_of(value, d);
        sizes[d] = size.symbol_count ? -1 : size.term;
        open += size.symbol_count > 0;
        has_zero |= !size.symbol_count && size.term == 0;
    }
    if (has_zero) {
        const char *empty = cr_onnx_add(e, "ConstantOfShape", cr_onnx_sizes(e, value, 0, value->shape.count));
        return cr_onnx_cast(e, empty, CR_F32, value->dtype);
    }
    const char *shape =
        open > 1 ? cr_onnx_sizes(e, value, 0, value->shape.count) : cr_onnx_i64s(e, sizes, value->shape.count);
    return cr_onnx_add(e, "Reshape", x, shape);
}

/* ---------------------------------------------------------------- attributes */
static int index_of(const cr_graph_node *node, const char *name) {
    for (int i = 0; i < node->op->attribute_count; i++)
        if (!strcmp(node->op->attributes[i].name, name)) return i;
    return -1;
}

const void *cr_onnx_attribute_of(const cr_graph_node *node, const char *name) {
    const int i = index_of(node, name);
    return i < 0 ? NULL : (const char *)node->attributes + node->op->attributes[i].offset;
}

static const cr_bound_attribute *bound_of(cr_onnx_emitter *e, const cr_graph_node *node, int attribute, int element) {
    for (int i = 0; i < node->bound_count; i++)
        if (node->bound[i].attribute == attribute && node->bound[i].element == element) {
            if (i < 32 && e) e->used_bounds |= 1u << i;
            return &node->bound[i];
        }
    return NULL;
}

bool cr_onnx_is_open(const cr_graph_node *node, const char *name) {
    const int attribute = index_of(node, name);
    for (int i = 0; i < node->bound_count; i++)
        if (node->bound[i].attribute == attribute) return true;
    return false;
}

const char *cr_onnx_list(cr_onnx_emitter *e, const cr_graph_node *node, const char *name) {
    const int attribute = index_of(node, name);
    const cr_dims *dims = cr_onnx_attribute_of(node, name);
    cr_extent extents[CR_MAX_DIMS];
    for (int i = 0; i < dims->count; i++) {
        const cr_bound_attribute *bound = bound_of(e, node, attribute, i);
        extents[i] = bound ? bound->extent : cr_extent_constant(dims->at[i]);
    }
    return list_of(e, extents, dims->count);
}

const char *cr_onnx_number_of(cr_onnx_emitter *e, const cr_graph_node *node, const char *name) {
    const int attribute = index_of(node, name);
    const void *field = cr_onnx_attribute_of(node, name);
    const bool is_float = node->op->attributes[attribute].kind == CR_ATTRIBUTE_FLOAT;
    const cr_bound_attribute *bound = bound_of(e, node, attribute, 0);
    if (bound) return cr_onnx_extent(e, &bound->extent);
    return cr_onnx_i64(e, is_float ? (int64_t) * (const double *)field : *(const int64_t *)field);
}
#endif
