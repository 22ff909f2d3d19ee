/* Export of reductions, sorting, choosing and drawing. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/emit.h"

#include <string.h>

/* ---------------------------------------------------------------- reductions */
/* Axes are an attribute until 18 (of ReduceSum until 13, which is before our lowest). */
static const char *reduce(cr_onnx_emitter *e, const char *operator, const char * x, const cr_dims *dims, bool keepdim,
                          int since) {
    const bool by_operand = e->opset >= since;
    const char *y = dims->count && by_operand ? cr_onnx_add(e, operator, x, cr_onnx_i64s(e, dims->at, dims->count))
                                              : cr_onnx_add(e, operator, x);
    if (dims->count && !by_operand) cr_onnx_set_ints(e, "axes", dims->at, dims->count);
    cr_onnx_set_int(e, "keepdims", keepdim);
    return y;
}

/* Integers are computed in i64, or for the extremes i32 where that holds them; what else is floating, as it is. */
static bool write_reduction(cr_onnx_emitter *e, const cr_graph_node *node, const char *operator, int since) {
    const cr_dtype from = node->inputs[0]->dtype, to = node->outputs[0]->dtype;
    const cr_dtype compute = cr_dtype_is_floating(to) ? to : CR_I64;
    const char *x = cr_onnx_cast(e, cr_onnx_value(e, node, 0), from, compute);
    if (node->inputs[0]->shape.count == 0) /* of a number there is nothing to reduce */
        return cr_onnx_name(e, node, 0, cr_onnx_cast(e, x, compute, to));
    const char *y =
        reduce(e, operator, x, cr_onnx_attribute_of(node, "dims"), CR_ONNX_ATTRIBUTE(node, bool, keepdim), since);
    return cr_onnx_name(e, node, 0, cr_onnx_cast(e, y, compute, to));
}
static bool write_sum(cr_onnx_emitter *e, const cr_graph_node *node) {
    return write_reduction(e, node, "ReduceSum", 13);
}
CR_ONNX_EXPORT(sum, 13, NULL)
static bool write_mean(cr_onnx_emitter *e, const cr_graph_node *node) {
    return write_reduction(e, node, "ReduceMean", 18);
}
/* Of nothing ONNX Runtime's mean is 0, ours is NaN. */
static bool has_elements(const cr_graph_node *node, int opset) {
    (void)opset;
    for (int d = 0; d < node->inputs[0]->shape.count; d++)
        if (node->inputs[0]->shape.at[d] == 0) return false;
    return true;
}
CR_ONNX_EXPORT(mean, 13, has_elements)
static bool write_prod(cr_onnx_emitter *e, const cr_graph_node *node) {
    return write_reduction(e, node, "ReduceProd", 18);
}
CR_ONNX_EXPORT(prod, 13, NULL)
static bool write_amax(cr_onnx_emitter *e, const cr_graph_node *node) {
    return write_reduction(e, node, "ReduceMax", 18);
}
CR_ONNX_EXPORT(amax, 13, NULL)
static bool write_amin(cr_onnx_emitter *e, const cr_graph_node *node) {
    return write_reduction(e, node, "ReduceMin", 18);
}
CR_ONNX_EXPORT(amin, 13, NULL)
static bool write_logsumexp(cr_onnx_emitter *e, const cr_graph_node *node) {
    return write_reduction(e, node, "ReduceLogSumExp", 18);
}
CR_ONNX_EXPORT(logsumexp, 13, NULL)

/* The number of elements other than 0, or of zeros, by comparison with 0. */
static bool write_any_or_all(cr_onnx_emitter *e, const cr_graph_node *node, bool is_any) {
    const char *x = cr_onnx_cast(e, cr_onnx_value(e, node, 0), node->inputs[0]->dtype, CR_BOOL);
    if (!is_any) x = cr_onnx_add(e, "Not", x);
    x = cr_onnx_cast(e, x, CR_BOOL, CR_I64);
    if (node->inputs[0]->shape.count)
        x = reduce(e, "ReduceSum", x, cr_onnx_attribute_of(node, "dims"), CR_ONNX_ATTRIBUTE(node, bool, keepdim), 13);
    const char *zero = cr_onnx_scalar(e, CR_I64, 0);
    return cr_onnx_name(e, node, 0, is_any ? cr_onnx_add(e, "Greater", x, zero) : cr_onnx_add(e, "Equal", x, zero));
}
static bool write_any(cr_onnx_emitter *e, const cr_graph_node *node) { return write_any_or_all(e, node, true); }
CR_ONNX_EXPORT(any, 13, NULL)
static bool write_all(cr_onnx_emitter *e, const cr_graph_node *node) { return write_any_or_all(e, node, false); }
CR_ONNX_EXPORT(all, 13, NULL)

/* A dtype that ArgMax, TopK and the like take. */
static cr_dtype ordered(cr_dtype dtype) {
    if (dtype == CR_BF16) return CR_F32;
    return cr_dtype_is_floating(dtype) || dtype == CR_I64 || dtype == CR_I32 ? dtype : CR_I32;
}

static bool write_place(cr_onnx_emitter *e, const cr_graph_node *node, const char *operator) {
    const cr_dtype dtype = node->inputs[0]->dtype;
    const int64_t dim = CR_ONNX_ATTRIBUTE(node, int64_t, dim);
    const bool is_whole = dim == CR_ALL, keepdim = CR_ONNX_ATTRIBUTE(node, bool, keepdim);
    const char *x = cr_onnx_cast(e, cr_onnx_value(e, node, 0), dtype, ordered(dtype));
    if (is_whole || !node->inputs[0]->shape.count) x = cr_onnx_add(e, "Reshape", x, cr_onnx_i64(e, -1));
    const char *y = cr_onnx_add(e, operator, x);
    cr_onnx_set_int(e, "axis", is_whole || !node->inputs[0]->shape.count ? 0 : dim);
    cr_onnx_set_int(e, "keepdims", keepdim && !is_whole && node->inputs[0]->shape.count);
    return cr_onnx_name(e, node, 0, is_whole && keepdim ? cr_onnx_reshape(e, y, node->outputs[0]) : y);
}
static bool write_argmax(cr_onnx_emitter *e, const cr_graph_node *node) { return write_place(e, node, "ArgMax"); }
CR_ONNX_EXPORT(argmax, 13, NULL)
static bool write_argmin(cr_onnx_emitter *e, const cr_graph_node *node) { return write_place(e, node, "ArgMin"); }
CR_ONNX_EXPORT(argmin, 13, NULL)

static bool write_cumsum(cr_onnx_emitter *e, const cr_graph_node *node) {
    const cr_dtype to = node->outputs[0]->dtype;
    const char *x = cr_onnx_cast(e, cr_onnx_value(e, node, 0), node->inputs[0]->dtype, to);
    const int64_t dim = CR_ONNX_ATTRIBUTE(node, int64_t, dim);
    if (!node->inputs[0]->shape.count) return cr_onnx_name(e, node, 0, x);
    return cr_onnx_name(e, node, 0, cr_onnx_add(e, "CumSum", x, cr_onnx_scalar(e, CR_I64, (double)dim)));
}
CR_ONNX_EXPORT(cumsum, 11, NULL)

/* ---------------------------------------------------------------- in order */
static bool has_dims(const cr_graph_node *node, int opset) {
    (void)opset;
    return node->inputs[0]->shape.count > 0;
}

/* The k first of a dim: values and places; either may be unwanted. */
static bool write_first(cr_onnx_emitter *e, const cr_graph_node *node, const char *k, bool largest, int values,
                        int places) {
    const cr_dtype dtype = node->inputs[0]->dtype;
    const char *operands[] = {cr_onnx_cast(e, cr_onnx_value(e, node, 0), dtype, ordered(dtype)), k}, *results[2];
    if (!cr_onnx_add_node(e, "TopK", operands, 2, results, 2)) return false;
    cr_onnx_set_int(e, "axis", CR_ONNX_ATTRIBUTE(node, int64_t, dim));
    cr_onnx_set_int(e, "largest", largest);
    return (values < 0 || cr_onnx_name(e, node, values, cr_onnx_cast(e, results[0], ordered(dtype), dtype))) &&
           cr_onnx_name(e, node, places, results[1]);
}

/* All of a dim: as many as it has. */
static const char *whole_dim(cr_onnx_emitter *e, const cr_graph_node *node) {
    const int64_t dim = CR_ONNX_ATTRIBUTE(node, int64_t, dim);
    const int at = (int)(dim < 0 ? dim + node->inputs[0]->shape.count : dim);
    return cr_onnx_sizes(e, node->inputs[0], at, at + 1);
}
static bool write_sort(cr_onnx_emitter *e, const cr_graph_node *node) {
    return write_first(e, node, whole_dim(e, node), CR_ONNX_ATTRIBUTE(node, bool, descending), 0, 1);
}
CR_ONNX_EXPORT(sort, 11, has_dims)
static bool write_argsort(cr_onnx_emitter *e, const cr_graph_node *node) {
    return write_first(e, node, whole_dim(e, node), CR_ONNX_ATTRIBUTE(node, bool, descending), -1, 0);
}
CR_ONNX_EXPORT(argsort, 11, has_dims)
static bool write_topk(cr_onnx_emitter *e, const cr_graph_node *node) {
    return write_first(e, node, cr_onnx_number_of(e, node, "k"), CR_ONNX_ATTRIBUTE(node, bool, largest), 0, 1);
}
CR_ONNX_EXPORT(topk, 11, has_dims)

/* ---------------------------------------------------------------- by index */
static const char *index_of(cr_onnx_emitter *e, const cr_graph_node *node, int i) {
    const cr_dtype dtype = node->inputs[i]->dtype;
    return cr_onnx_cast(e, cr_onnx_value(e, node, i), dtype, dtype == CR_I32 ? CR_I32 : CR_I64);
}

static bool write_chosen(cr_onnx_emitter *e, const cr_graph_node *node, const char *operator, int64_t axis) {
    const char *y = cr_onnx_add(e, operator, cr_onnx_value(e, node, 0), index_of(e, node, 1));
    cr_onnx_set_int(e, "axis", axis);
    return cr_onnx_name(e, node, 0, y);
}
static bool write_gather(cr_onnx_emitter *e, const cr_graph_node *node) {
    return write_chosen(e, node, "GatherElements", CR_ONNX_ATTRIBUTE(node, int64_t, dim));
}
CR_ONNX_EXPORT(gather, 11, has_dims)
static bool write_index_select(cr_onnx_emitter *e, const cr_graph_node *node) {
    return write_chosen(e, node, "Gather", CR_ONNX_ATTRIBUTE(node, int64_t, dim));
}
CR_ONNX_EXPORT(index_select, 11, has_dims)
static bool write_embedding(cr_onnx_emitter *e, const cr_graph_node *node) {
    return write_chosen(e, node, "Gather", 0);
}
CR_ONNX_EXPORT(embedding, 11, NULL)

static bool write_scattered(cr_onnx_emitter *e, const cr_graph_node *node, bool adds) {
    const cr_dtype to = node->outputs[0]->dtype;
    const char *source = cr_onnx_cast(e, cr_onnx_value(e, node, 2), node->inputs[2]->dtype, to);
    const char *x = cr_onnx_value(e, node, 0), *index = index_of(e, node, 1);
    const int64_t dim = CR_ONNX_ATTRIBUTE(node, int64_t, dim);
    if (!cr_onnx_same_sizes(node->inputs[1], node->inputs[2])) { /* ours may be larger than the index */
        const cr_value *at = node->inputs[1];
        const int64_t zeros[CR_MAX_DIMS] = {0};
        source = cr_onnx_add(e, "Slice", source, cr_onnx_i64s(e, zeros, at->shape.count),
                             cr_onnx_sizes(e, at, 0, at->shape.count));
    }
    const char *y = cr_onnx_add(e, "ScatterElements", x, index, source);
    cr_onnx_set_int(e, "axis", dim);
    if (adds) cr_onnx_set_text(e, "reduction", "add");
    return cr_onnx_name(e, node, 0, y);
}
static bool write_scatter(cr_onnx_emitter *e, const cr_graph_node *node) { return write_scattered(e, node, false); }
CR_ONNX_EXPORT(scatter, 11, has_dims)
static bool write_scatter_add(cr_onnx_emitter *e, const cr_graph_node *node) { return write_scattered(e, node, true); }
CR_ONNX_EXPORT(scatter_add, 16, has_dims)

/* Slices of source [.., n, ..] added at n positions: an index as large as the source. */
static bool write_index_add(cr_onnx_emitter *e, const cr_graph_node *node) {
    const cr_value *source = node->inputs[2];
    const int64_t named = CR_ONNX_ATTRIBUTE(node, int64_t, dim);
    const int dim = (int)(named < 0 ? named + source->shape.count : named);
    int64_t shape[CR_MAX_DIMS];
    for (int d = 0; d < source->shape.count; d++)
        shape[d] = d == dim ? -1 : 1;
    const char *index = cr_onnx_add(e, "Reshape", index_of(e, node, 1), cr_onnx_i64s(e, shape, source->shape.count));
    index = cr_onnx_add(e, "Expand", index, cr_onnx_sizes(e, source, 0, source->shape.count));
    const char *values = cr_onnx_cast(e, cr_onnx_value(e, node, 2), source->dtype, node->outputs[0]->dtype);
    const char *y = cr_onnx_add(e, "ScatterElements", cr_onnx_value(e, node, 0), index, values);
    cr_onnx_set_int(e, "axis", dim);
    cr_onnx_set_text(e, "reduction", "add");
    return cr_onnx_name(e, node, 0, y);
}
CR_ONNX_EXPORT(index_add, 16, has_dims)

static bool write_one_hot(cr_onnx_emitter *e, const cr_graph_node *node) {
    const char *values = cr_onnx_i64s(e, (const int64_t[]){0, 1}, 2);
    const char *classes = cr_onnx_add(e, "Squeeze", cr_onnx_number_of(e, node, "classes"), cr_onnx_i64(e, 0));
    const char *index = cr_onnx_cast(e, cr_onnx_value(e, node, 0), node->inputs[0]->dtype, CR_I64);
    const bool is_scalar = node->inputs[0]->shape.count == 0;
    if (is_scalar) index = cr_onnx_add(e, "Reshape", index, cr_onnx_i64(e, 1));
    const char *y = cr_onnx_add(e, "OneHot", index, classes, values);
    return cr_onnx_name(e, node, 0, is_scalar ? cr_onnx_reshape(e, y, node->outputs[0]) : y);
}
CR_ONNX_EXPORT(one_hot, 11, NULL)

/* [dims, n] in ONNX. */
static bool write_nonzero(cr_onnx_emitter *e, const cr_graph_node *node) {
    const cr_dtype dtype = node->inputs[0]->dtype;
    const char *x = cr_onnx_cast(e, cr_onnx_value(e, node, 0), dtype, CR_BOOL);
    return cr_onnx_name(e, node, 0, cr_onnx_add(e, "Transpose", cr_onnx_add(e, "NonZero", x)));
}
CR_ONNX_EXPORT(nonzero, 13, has_dims)

/* ---------------------------------------------------------------- drawn numbers: another generator's */
/* As many as the result has, in f32, or in its dtype where that is f64. */
static const char *drawn(cr_onnx_emitter *e, const cr_graph_node *node, const char *operator, const char * low,
                         double a, const char *high, double b) {
    const cr_value *y = node->outputs[0];
    const char *like = cr_onnx_add(e, "Expand", cr_onnx_scalar(e, CR_F32, 0), cr_onnx_sizes(e, y, 0, y->shape.count));
    const char *name = cr_onnx_add(e, operator, like);
    cr_onnx_set_int(e, "dtype", cr_onnx_dtype_number(y->dtype == CR_F64 ? CR_F64 : CR_F32));
    cr_onnx_set_float(e, low, a);
    cr_onnx_set_float(e, high, b);
    e->used_bounds = ~0u;
    return name;
}
static cr_dtype drawn_in(const cr_graph_node *node) { return node->outputs[0]->dtype == CR_F64 ? CR_F64 : CR_F32; }

static bool give_drawn(cr_onnx_emitter *e, const cr_graph_node *node, const char *name) {
    return cr_onnx_name(e, node, 0, cr_onnx_cast(e, name, drawn_in(node), node->outputs[0]->dtype));
}
static bool write_uniform(cr_onnx_emitter *e, const cr_graph_node *node) {
    return give_drawn(e, node,
                      drawn(e, node, "RandomUniformLike", "low", CR_ONNX_ATTRIBUTE(node, double, low), "high",
                            CR_ONNX_ATTRIBUTE(node, double, high)));
}
CR_ONNX_EXPORT(uniform, 1, NULL)
static bool write_normal(cr_onnx_emitter *e, const cr_graph_node *node) {
    return give_drawn(e, node,
                      drawn(e, node, "RandomNormalLike", "mean", CR_ONNX_ATTRIBUTE(node, double, mean), "scale",
                            CR_ONNX_ATTRIBUTE(node, double, std)));
}
CR_ONNX_EXPORT(normal, 1, NULL)

/* Whole numbers from real ones: exact for ranges below 2^24, or 2^53 in f64. */
static bool write_randint(cr_onnx_emitter *e, const cr_graph_node *node) {
    const char *y = drawn(e, node, "RandomUniformLike", "low", (double)CR_ONNX_ATTRIBUTE(node, int64_t, low), "high",
                          (double)CR_ONNX_ATTRIBUTE(node, int64_t, high));
    return give_drawn(e, node, cr_onnx_add(e, "Floor", y));
}
CR_ONNX_EXPORT(randint, 1, NULL)

static bool write_bernoulli(cr_onnx_emitter *e, const cr_graph_node *node) {
    const cr_dtype dtype = drawn_in(node);
    const char *draws = drawn(e, node, "RandomUniformLike", "low", 0, "high", 1), *p;
    if (node->input_count > 0 && node->inputs[0])
        p = cr_onnx_cast(e, cr_onnx_value(e, node, 0), node->inputs[0]->dtype, dtype);
    else
        p = cr_onnx_scalar(e, dtype, CR_ONNX_ATTRIBUTE(node, double, p));
    return cr_onnx_name(e, node, 0,
                        cr_onnx_cast(e, cr_onnx_add(e, "Less", draws, p), CR_BOOL, node->outputs[0]->dtype));
}
CR_ONNX_EXPORT(bernoulli, 9, NULL)

/* ONNX draws with replacement, from logarithms of weights [rows, n]. */
static bool takes_multinomial(const cr_graph_node *node, int opset) {
    (void)opset;
    return CR_ONNX_ATTRIBUTE(node, bool, replacement) && node->inputs[0]->shape.count == 2;
}
static bool write_multinomial(cr_onnx_emitter *e, const cr_graph_node *node) {
    const char *weights = cr_onnx_cast(e, cr_onnx_value(e, node, 0), node->inputs[0]->dtype, CR_F32);
    const char *y = cr_onnx_add(e, "Multinomial", cr_onnx_add(e, "Log", weights));
    cr_onnx_set_int(e, "sample_size", CR_ONNX_ATTRIBUTE(node, int64_t, count));
    cr_onnx_set_int(e, "dtype", cr_onnx_dtype_number(CR_I64));
    return cr_onnx_name(e, node, 0, y);
}
CR_ONNX_EXPORT(multinomial, 7, takes_multinomial)

/* The default generator's training dropout; `kept` is its mask in our dtype. */
static bool write_dropout(cr_onnx_emitter *e, const cr_graph_node *node) {
    const char *operands[] = {cr_onnx_value(e, node, 0), cr_onnx_scalar(e, CR_F32, CR_ONNX_ATTRIBUTE(node, double, p)),
                              cr_onnx_scalar(e, CR_BOOL, 1)},
               *results[2];
    if (!cr_onnx_add_node(e, "Dropout", operands, 3, results, 2)) return false;
    const cr_value *kept = node->output_count > 1 ? node->outputs[1] : NULL;
    return cr_onnx_name(e, node, 0, results[0]) &&
           (!kept || !kept->uses || cr_onnx_name(e, node, 1, cr_onnx_cast(e, results[1], CR_BOOL, kept->dtype)));
}
CR_ONNX_EXPORT(dropout, 13, NULL)

static bool write_einsum(cr_onnx_emitter *e, const cr_graph_node *node) {
    const char *operands[CR_MAX_INPUTS], *y;
    for (int i = 0; i < node->input_count; i++)
        operands[i] = cr_onnx_value(e, node, i);
    if (!cr_onnx_add_node(e, "Einsum", operands, node->input_count, &y, 1)) return false;
    cr_onnx_set_text(e, "equation", CR_ONNX_ATTRIBUTE(node, char *, equation));
    return cr_onnx_name(e, node, 0, y);
}
static bool takes_einsum(const cr_graph_node *node, int opset) {
    (void)opset;
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i]->dtype != node->outputs[0]->dtype || !cr_dtype_is_floating(node->inputs[i]->dtype))
            return false;
    return true;
}
CR_ONNX_EXPORT(einsum, 12, takes_einsum)
#endif
