/* Export of products, convolutions, pools, normalisations, recurrent layers. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/emit.h"

#include <string.h>

static bool is_floating(const cr_graph_node *node, int opset) {
    (void)opset;
    return cr_dtype_is_floating(node->outputs[0]->dtype);
}

/* ---------------------------------------------------------------- products */
static bool write_matmul(cr_onnx_emitter *e, const cr_graph_node *node) {
    const cr_dtype dtype = node->outputs[0]->dtype, compute = cr_dtype_is_floating(dtype) ? dtype : CR_I64;
    const char *a = cr_onnx_cast(e, cr_onnx_value(e, node, 0), node->inputs[0]->dtype, compute),
               *b = cr_onnx_cast(e, cr_onnx_value(e, node, 1), node->inputs[1]->dtype, compute);
    return cr_onnx_name(e, node, 0, cr_onnx_cast(e, cr_onnx_add(e, "MatMul", a, b), compute, dtype));
}
CR_ONNX_EXPORT(matmul, 9, NULL)

static bool takes_linear(const cr_graph_node *node, int opset) {
    const cr_dtype dtype = node->outputs[0]->dtype;
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i] && node->inputs[i]->dtype != dtype) return false;
    return is_floating(node, opset) && node->inputs[1]->shape.count == 2;
}

/* Gemm for matrices; else the product with the transposed weight, and the bias. */
static bool write_linear(cr_onnx_emitter *e, const cr_graph_node *node) {
    const char *x = cr_onnx_value(e, node, 0), *weight = cr_onnx_value(e, node, 1), *y;
    const bool has_bias = node->input_count > 2 && node->inputs[2];
    if (node->inputs[0]->shape.count == 2) {
        y = cr_onnx_add(e, "Gemm", x, weight, cr_onnx_optional(e, node, 2));
        cr_onnx_set_int(e, "transB", 1);
        return cr_onnx_name(e, node, 0, y);
    }
    const char *turned = cr_onnx_add(e, "Transpose", weight);
    cr_onnx_set_ints(e, "perm", (const int64_t[]){1, 0}, 2);
    y = cr_onnx_add(e, "MatMul", x, turned);
    return cr_onnx_name(e, node, 0, has_bias ? cr_onnx_add(e, "Add", y, cr_onnx_value(e, node, 2)) : y);
}
CR_ONNX_EXPORT(linear, 7, takes_linear)

/* ---------------------------------------------------------------- convolution */
/* A list that is empty stands for ones (or zeros), one of one number for all dims. */
static void spread(const cr_dims *list, int spatial, int64_t otherwise, int64_t *to) {
    for (int d = 0; d < spatial; d++)
        to[d] = list->count == 0 ? otherwise : list->at[list->count == 1 ? 0 : d];
}

static void set_dims(cr_onnx_emitter *e, const cr_graph_node *node, const char *own, const char *name, int spatial,
                     int64_t otherwise) {
    int64_t values[CR_MAX_DIMS];
    spread(cr_onnx_attribute_of(node, own), spatial, otherwise, values);
    cr_onnx_set_ints(e, name, values, spatial);
}

static void set_pads(cr_onnx_emitter *e, const cr_graph_node *node, int spatial) {
    int64_t pads[2 * CR_MAX_DIMS];
    spread(cr_onnx_attribute_of(node, "paddings"), spatial, 0, pads);
    memcpy(pads + spatial, pads, (size_t)spatial * sizeof *pads);
    cr_onnx_set_ints(e, "pads", pads, 2 * spatial);
}

/* x without a batch gets one, and loses it again. */
static const char *with_batch(cr_onnx_emitter *e, const char *x, bool lacks) {
    return lacks ? cr_onnx_add(e, "Unsqueeze", x, cr_onnx_i64(e, 0)) : x;
}
static const char *without_batch(cr_onnx_emitter *e, const char *x, bool lacked) {
    return lacked ? cr_onnx_add(e, "Squeeze", x, cr_onnx_i64(e, 0)) : x;
}

static bool write_convolution(cr_onnx_emitter *e, const cr_graph_node *node) {
    const cr_shape weight = node->inputs[1]->shape;
    const int spatial = weight.count - 2;
    const bool is_transposed = CR_ONNX_ATTRIBUTE(node, bool, transposed),
               lacks = node->inputs[0]->shape.count == spatial + 1;
    const cr_dtype dtype = node->outputs[0]->dtype,
                   compute = dtype == CR_BF16 ? CR_F32 : dtype; /* bf16 only from opset 22 */
    const bool has_bias = node->input_count > 2 && node->inputs[2];
    const char *operands[3] = {NULL, NULL, ""};
    for (int i = 0; i < 2 + has_bias; i++)
        operands[i] = cr_onnx_cast(e, cr_onnx_value(e, node, i), node->inputs[i]->dtype, compute);
    operands[0] = with_batch(e, operands[0], lacks);
    const char *y = cr_onnx_add(e, is_transposed ? "ConvTranspose" : "Conv", operands[0], operands[1], operands[2]);
    if (!cr_onnx_has_open_size(node->inputs[1])) cr_onnx_set_ints(e, "kernel_shape", weight.at + 2, spatial);
    set_dims(e, node, "strides", "strides", spatial, 1);
    set_dims(e, node, "dilations", "dilations", spatial, 1);
    set_pads(e, node, spatial);
    cr_onnx_set_int(e, "group", CR_ONNX_ATTRIBUTE(node, int64_t, groups));
    if (is_transposed) set_dims(e, node, "output_paddings", "output_padding", spatial, 0);
    return cr_onnx_name(e, node, 0, cr_onnx_cast(e, without_batch(e, y, lacks), compute, dtype));
}
CR_ONNX_EXPORT(convolution, 11, is_floating)

/* ---------------------------------------------------------------- pools */
static int spatial_of(const cr_graph_node *node) {
    const cr_dims *kernel = cr_onnx_attribute_of(node, "kernel_sizes");
    return kernel->count;
}

/* What a pool covers. ceil_mode becomes padding behind, where sizes are fixed: before opset 19 ONNX counted windows that
 * lie in the padding alone. */
enum { CEIL_OPSET = 19 };
static void set_window(cr_onnx_emitter *e, const cr_graph_node *node, int spatial, bool pads_for_ceil) {
    const cr_dims *kernel = cr_onnx_attribute_of(node, "kernel_sizes"), *given = cr_onnx_attribute_of(node, "strides"),
                  *dilations = cr_onnx_attribute_of(node, "dilations");
    const cr_shape x = node->inputs[0]->shape, y = node->outputs[0]->shape;
    int64_t strides[CR_MAX_DIMS], pads[2 * CR_MAX_DIMS], steps[CR_MAX_DIMS];
    spread(given->count ? given : kernel, spatial, 1, strides);
    spread(cr_onnx_attribute_of(node, "paddings"), spatial, 0, pads);
    spread(dilations ? dilations : &(cr_dims){0, {0}}, spatial, 1, steps);
    for (int d = 0; d < spatial; d++) {
        const int64_t reach = (y.at[y.count - spatial + d] - 1) * strides[d] + (kernel->at[d] - 1) * steps[d] + 1,
                      end = reach - x.at[x.count - spatial + d] - pads[d];
        pads[spatial + d] = pads_for_ceil && end > pads[d] ? end : pads[d];
    }
    cr_onnx_set_ints(e, "kernel_shape", kernel->at, spatial);
    cr_onnx_set_ints(e, "strides", strides, spatial);
    cr_onnx_set_ints(e, "pads", pads, 2 * spatial);
    if (!pads_for_ceil) cr_onnx_set_int(e, "ceil_mode", CR_ONNX_ATTRIBUTE(node, bool, ceil_mode));
}

static bool takes_max_pool(const cr_graph_node *node, int opset) {
    return cr_dtype_is_floating(node->outputs[0]->dtype) &&
           (!CR_ONNX_ATTRIBUTE(node, bool, ceil_mode) || !cr_onnx_has_open_size(node->inputs[0]) ||
            opset >= CEIL_OPSET);
}

/* ONNX's indices count through all samples and channels, ours in each channel: the rest by a channel's size. */
static bool write_max_pool(cr_onnx_emitter *e, const cr_graph_node *node) {
    const int spatial = spatial_of(node);
    const cr_value *x = node->inputs[0];
    const cr_dtype dtype = x->dtype, compute = dtype == CR_BF16 ? CR_F32 : dtype;
    const bool lacks = x->shape.count == spatial + 1, wants_indices = node->outputs[1] && node->outputs[1]->uses;
    const char *t = cr_onnx_cast(e, cr_onnx_value(e, node, 0), dtype, compute);
    const char *y = cr_onnx_add(e, "MaxPool", with_batch(e, t, lacks)), *indices = NULL;
    set_window(e, node, spatial, CR_ONNX_ATTRIBUTE(node, bool, ceil_mode) && !cr_onnx_has_open_size(x));
    set_dims(e, node, "dilations", "dilations", spatial, 1);
    if (wants_indices) {
        indices = cr_onnx_add_result(e);
        const char *area = cr_onnx_add(e, "ReduceProd", cr_onnx_sizes(e, x, x->shape.count - spatial, x->shape.count));
        cr_onnx_set_int(e, "keepdims", 0);
        indices = without_batch(e, cr_onnx_add(e, "Mod", indices, area), lacks);
    }
    return cr_onnx_name(e, node, 0, cr_onnx_cast(e, without_batch(e, y, lacks), compute, dtype)) &&
           (!wants_indices || cr_onnx_name(e, node, 1, indices));
}
CR_ONNX_EXPORT(max_pool, 12, takes_max_pool)

/* Padding that counts is the file's own; what ceil_mode adds never counts, which opset 19 says too. */
static bool takes_avg_pool(const cr_graph_node *node, int opset) {
    if (!CR_ONNX_ATTRIBUTE(node, bool, ceil_mode)) return true;
    const bool counts = CR_ONNX_ATTRIBUTE(node, bool, count_include_pad);
    return CR_ONNX_ATTRIBUTE(node, int64_t, divisor_override) == 0 &&
           (opset >= CEIL_OPSET || (!counts && !cr_onnx_has_open_size(node->inputs[0])));
}
static bool write_avg_pool(cr_onnx_emitter *e, const cr_graph_node *node) {
    const int spatial = spatial_of(node);
    const bool lacks = node->inputs[0]->shape.count == spatial + 1,
               counts = CR_ONNX_ATTRIBUTE(node, bool, count_include_pad);
    const int64_t divisor = CR_ONNX_ATTRIBUTE(node, int64_t, divisor_override);
    const cr_dims *kernel = cr_onnx_attribute_of(node, "kernel_sizes");
    const cr_dtype dtype = node->inputs[0]->dtype, compute = dtype == CR_BF16 ? CR_F32 : dtype;
    const char *x = cr_onnx_cast(e, cr_onnx_value(e, node, 0), dtype, compute);
    const char *y = cr_onnx_add(e, "AveragePool", with_batch(e, x, lacks));
    double area = 1;
    for (int d = 0; d < spatial; d++)
        area *= (double)kernel->at[d];
    set_window(e, node, spatial,
               CR_ONNX_ATTRIBUTE(node, bool, ceil_mode) && !counts && !cr_onnx_has_open_size(node->inputs[0]));
    cr_onnx_set_int(e, "count_include_pad", counts || divisor);
    y = without_batch(e, y, lacks);
    if (divisor) y = cr_onnx_add(e, "Mul", y, cr_onnx_scalar(e, compute, area / (double)divisor));
    return cr_onnx_name(e, node, 0, cr_onnx_cast(e, y, compute, dtype));
}
CR_ONNX_EXPORT(avg_pool, 11, takes_avg_pool)

/* To one element: a global pool. Else sizes must be fixed: where they divide, windows of equal size; where they do not, each
 * window of each dim by itself. */
static bool takes_adaptive(const cr_graph_node *node, int opset) {
    const cr_dims *sizes = cr_onnx_attribute_of(node, "sizes");
    const cr_shape y = node->outputs[0]->shape;
    bool is_global = true;
    (void)opset;
    for (int d = y.count - sizes->count; d < y.count; d++)
        is_global &= y.at[d] == 1;
    if (node->output_count > 1 && node->outputs[1] && node->outputs[1]->uses) return false;
    for (int d = y.count - sizes->count; !is_global && d < y.count; d++)
        if (node->inputs[0]->extents && node->inputs[0]->extents[d].symbol_count) return false;
    return true;
}

/* Dim `dim` of x, `in` long, in `out` windows that may overlap. */
static const char *pool_dim(cr_onnx_emitter *e, const char *x, const char *reduction, int dim, int64_t in,
                            int64_t out) {
    const char **parts = cr_pool_allocate(e->pool, (size_t)(out + 1) * sizeof *parts), *all;
    const int64_t axis = dim;
    if (in == out) return x;
    for (int64_t o = 0; parts && o < out; o++) {
        const int64_t begin = o * in / out, end = ((o + 1) * in + out - 1) / out;
        const char *part = cr_onnx_add(e, "Slice", x, cr_onnx_i64(e, begin), cr_onnx_i64(e, end), cr_onnx_i64(e, axis));
        parts[o] =
            e->opset >= 18 ? cr_onnx_add(e, reduction, part, cr_onnx_i64(e, axis)) : cr_onnx_add(e, reduction, part);
        if (e->opset < 18) cr_onnx_set_ints(e, "axes", &axis, 1);
    }
    if (!parts || !cr_onnx_add_node(e, "Concat", parts, (int)out, &all, 1)) return NULL;
    cr_onnx_set_int(e, "axis", axis);
    return all;
}

static bool write_adaptive(cr_onnx_emitter *e, const cr_graph_node *node, const char *global, const char *pool,
                           const char *reduction) {
    const cr_value *x = node->inputs[0], *y = node->outputs[0];
    const int spatial = ((const cr_dims *)cr_onnx_attribute_of(node, "sizes"))->count, first = x->shape.count - spatial;
    const bool lacks = first == 1;
    const char *t = with_batch(e, cr_onnx_value(e, node, 0), lacks);
    int64_t kernel[CR_MAX_DIMS];
    bool is_global = true, divides = true;
    for (int d = 0; d < spatial; d++) {
        const int64_t in = x->shape.at[first + d], out = y->shape.at[first + d];
        is_global &= out == 1;
        divides &= out > 0 && in % out == 0;
        kernel[d] = out ? in / out : 1;
        if (out != 1 && x->extents && x->extents[first + d].symbol_count)
            return cr_onnx_cannot(e, node, "its windows follow from a size that is open");
    }
    if (is_global || divides) t = cr_onnx_add(e, is_global ? global : pool, t);
    if (!is_global && divides) {
        cr_onnx_set_ints(e, "kernel_shape", kernel, spatial);
        cr_onnx_set_ints(e, "strides", kernel, spatial);
    }
    for (int d = 0; !is_global && !divides && d < spatial; d++)
        t = pool_dim(e, t, reduction, 2 + d, x->shape.at[first + d], y->shape.at[first + d]);
    return cr_onnx_name(e, node, 0, without_batch(e, t, lacks));
}
static bool write_adaptive_avg_pool(cr_onnx_emitter *e, const cr_graph_node *node) {
    return write_adaptive(e, node, "GlobalAveragePool", "AveragePool", "ReduceMean");
}
CR_ONNX_EXPORT(adaptive_avg_pool, 11, takes_adaptive)
static bool write_adaptive_max_pool(cr_onnx_emitter *e, const cr_graph_node *node) {
    return write_adaptive(e, node, "GlobalMaxPool", "MaxPool", "ReduceMax");
}
CR_ONNX_EXPORT(adaptive_max_pool, 11, takes_adaptive)

/* ---------------------------------------------------------------- normalisation */
/* Operand i, or `otherwise` for each of its `like`'s channels. */
static const char *by_channel(cr_onnx_emitter *e, const cr_graph_node *node, int i, double otherwise) {
    const cr_value *x = node->inputs[0];
    if (i < node->input_count && node->inputs[i]) return cr_onnx_value(e, node, i);
    return cr_onnx_add(e, "Expand", cr_onnx_scalar(e, x->dtype, otherwise), cr_onnx_sizes(e, x, 1, 2));
}

static bool takes_batch_norm(const cr_graph_node *node, int opset) {
    (void)opset;
    return !CR_ONNX_ATTRIBUTE(node, bool, training) && node->input_count > 4 && node->inputs[3] && node->inputs[4];
}
static bool write_batch_norm(cr_onnx_emitter *e, const cr_graph_node *node) {
    const char *y = cr_onnx_add(e, "BatchNormalization", cr_onnx_value(e, node, 0), by_channel(e, node, 1, 1),
                                by_channel(e, node, 2, 0), cr_onnx_value(e, node, 3), cr_onnx_value(e, node, 4));
    cr_onnx_set_float(e, "epsilon", CR_ONNX_ATTRIBUTE(node, double, eps));
    cr_onnx_set_float(e, "momentum", 1 - CR_ONNX_ATTRIBUTE(node, double, momentum));
    return cr_onnx_name(e, node, 0, y);
}
CR_ONNX_EXPORT(batch_norm, 9, takes_batch_norm)

/* Ones of the normalised sizes stand for a weight that is not there. */
static bool write_layer_norm(cr_onnx_emitter *e, const cr_graph_node *node) {
    const cr_value *x = node->inputs[0];
    const int64_t dims = CR_ONNX_ATTRIBUTE(node, int64_t, dims);
    const char *weight = cr_onnx_optional(e, node, 1);
    if (weight && !*weight)
        weight = cr_onnx_add(e, "Expand", cr_onnx_scalar(e, x->dtype, 1),
                             cr_onnx_sizes(e, x, x->shape.count - (int)dims, x->shape.count));
    const char *y =
        cr_onnx_add(e, "LayerNormalization", cr_onnx_value(e, node, 0), weight, cr_onnx_optional(e, node, 2));
    cr_onnx_set_int(e, "axis", -dims);
    cr_onnx_set_float(e, "epsilon", CR_ONNX_ATTRIBUTE(node, double, eps));
    return cr_onnx_name(e, node, 0, y);
}
static bool gives_one(const cr_graph_node *node, int opset) {
    (void)opset;
    for (int i = 1; i < node->output_count; i++)
        if (node->outputs[i] && node->outputs[i]->uses) return false;
    return true;
}
CR_ONNX_EXPORT(layer_norm, 17, gives_one)

static bool write_group_norm(cr_onnx_emitter *e, const cr_graph_node *node) {
    const char *y = cr_onnx_add(e, "GroupNormalization", cr_onnx_value(e, node, 0), by_channel(e, node, 1, 1),
                                by_channel(e, node, 2, 0));
    cr_onnx_set_int(e, "num_groups", CR_ONNX_ATTRIBUTE(node, int64_t, groups));
    cr_onnx_set_float(e, "epsilon", CR_ONNX_ATTRIBUTE(node, double, eps));
    return cr_onnx_name(e, node, 0, y);
}
/* Of nothing ONNX Runtime's function body fails. */
static bool takes_group_norm(const cr_graph_node *node, int opset) {
    bool has_elements = true;
    for (int d = 0; d < node->inputs[0]->shape.count; d++)
        has_elements &= node->inputs[0]->shape.at[d] > 0;
    return has_elements && gives_one(node, opset);
}
CR_ONNX_EXPORT(group_norm, 21, takes_group_norm)

static bool write_along(cr_onnx_emitter *e, const cr_graph_node *node, const char *operator) {
    const int64_t dim = CR_ONNX_ATTRIBUTE(node, int64_t, dim);
    const cr_value *x = node->inputs[0];
    const char *y =
        cr_onnx_add(e, operator, cr_onnx_cast(e, cr_onnx_value(e, node, 0), x->dtype, node->outputs[0]->dtype));
    cr_onnx_set_int(e, "axis", x->shape.count ? dim : 0);
    return cr_onnx_name(e, node, 0, y);
}
static bool has_dims(const cr_graph_node *node, int opset) {
    (void)opset;
    return node->inputs[0]->shape.count > 0;
}
static bool write_softmax(cr_onnx_emitter *e, const cr_graph_node *node) { return write_along(e, node, "Softmax"); }
CR_ONNX_EXPORT(softmax, 13, has_dims)
static bool write_log_softmax(cr_onnx_emitter *e, const cr_graph_node *node) {
    return write_along(e, node, "LogSoftmax");
}
CR_ONNX_EXPORT(log_softmax, 13, has_dims)

/* ---------------------------------------------------------------- recurrent */
/* Blocks of H rows in ONNX's order, i o f c, of our i f g o, with a direction in front. */
static const char *onnx_gates(cr_onnx_emitter *e, const char *t, int64_t hidden) {
    static const int order[] = {0, 3, 1, 2};
    const char *parts[4], *all;
    for (int k = 0; k < 4; k++)
        parts[k] = cr_onnx_add(e, "Slice", t, cr_onnx_i64(e, order[k] * hidden),
                               cr_onnx_i64(e, (order[k] + 1) * hidden), cr_onnx_i64(e, 0));
    if (!cr_onnx_add_node(e, "Concat", parts, 4, &all, 1)) return NULL;
    cr_onnx_set_int(e, "axis", 0);
    return cr_onnx_add(e, "Unsqueeze", all, cr_onnx_i64(e, 0));
}

/* ONNX's two biases in one list, [1, 8 H], of our sum of both. */
static const char *lstm_bias(cr_onnx_emitter *e, const char *bias, cr_dtype dtype, int64_t hidden) {
    const char *parts[2], *all;
    parts[0] = onnx_gates(e, bias, hidden);
    parts[1] =
        cr_onnx_add(e, "Expand", cr_onnx_scalar(e, dtype, 0), cr_onnx_i64s(e, (const int64_t[]){1, 4 * hidden}, 2));
    if (!cr_onnx_add_node(e, "Concat", parts, 2, &all, 1)) return NULL;
    cr_onnx_set_int(e, "axis", 1);
    return all;
}

/* 4 H gates from 4 H: where the input's part is there already. */
static const char *identity_matrix(cr_onnx_emitter *e, cr_dtype dtype, int64_t size) {
    const char *name = NULL;
    CR_SCOPE {
        cr_tensor *t = cr_unsqueeze(cr_eye(dtype, size, size, CR_CPU), 0);
        const cr_shape shape = cr_shape_of(t);
        if (t) name = cr_onnx_constant(e, dtype, &shape, cr_data(t), (size_t)cr_numel(t) * cr_dtype_size(dtype));
    }
    return name;
}

/* gates [T, B, 4 H] come from a linear layer, whose input and weights LSTM takes in their place. */
static bool write_lstm_sequence(cr_onnx_emitter *e, const cr_graph_node *node) {
    const cr_graph_node *linear = node->inputs[0]->producer;
    const int64_t hidden = node->inputs[3]->shape.at[1];
    const cr_dtype dtype = node->outputs[0]->dtype;
    const char *first = cr_onnx_i64(e, 0), *operands[7] = {NULL, NULL, NULL, "", ""}, *results[3];
    if (linear && !strcmp(linear->op->name, "linear")) {
        operands[0] = cr_onnx_value(e, linear, 0);
        operands[1] = onnx_gates(e, cr_onnx_value(e, linear, 1), hidden);
        if (linear->input_count > 2 && linear->inputs[2])
            operands[3] = lstm_bias(e, cr_onnx_value(e, linear, 2), dtype, hidden);
        if (node->inputs[0]->uses == 1) e->may_drop_unread = true;
    } else {
        const char *identity = identity_matrix(e, dtype, 4 * hidden);
        operands[0] = cr_onnx_value(e, node, 0);
        operands[1] = identity ? onnx_gates(e, cr_onnx_add(e, "Squeeze", identity, first), hidden) : NULL;
    }
    operands[2] = onnx_gates(e, cr_onnx_value(e, node, 3), hidden);
    operands[5] = cr_onnx_add(e, "Unsqueeze", cr_onnx_value(e, node, 1), first);
    operands[6] = cr_onnx_add(e, "Unsqueeze", cr_onnx_value(e, node, 2), first);
    if (!cr_onnx_add_node(e, "LSTM", operands, 7, results, 3)) return false;
    cr_onnx_set_int(e, "hidden_size", hidden);
    if (CR_ONNX_ATTRIBUTE(node, bool, reverse)) cr_onnx_set_text(e, "direction", "reverse");
    const char *y = cr_onnx_add(e, "Squeeze", results[0], cr_onnx_i64(e, 1));
    return cr_onnx_name(e, node, 0, y) && cr_onnx_name(e, node, 1, cr_onnx_add(e, "Squeeze", results[1], first)) &&
           cr_onnx_name(e, node, 2, cr_onnx_add(e, "Squeeze", results[2], first));
}
static bool takes_lstm(const cr_graph_node *node, int opset) {
    for (int i = 3; i < node->output_count; i++) /* gates and cells of all steps are for backward */
        if (node->outputs[i] && node->outputs[i]->uses) return false;
    return is_floating(node, opset) && !cr_onnx_has_open_size(node->inputs[3]);
}
CR_ONNX_EXPORT(lstm_sequence, 7, takes_lstm)
#endif
