/* Export of what moves elements: views, joining, padding, and tensors made of nothing. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/emit.h"

#include "ops/creation.h"
#include "ops/sequence.h"

#include <string.h>

static int ndim_of(const cr_graph_node *node) { return node->inputs[0]->shape.count; }

static int axis_of(const cr_graph_node *node, const char *name) {
    const int64_t axis = *(const int64_t *)cr_onnx_attribute_of(node, name);
    return (int)(axis < 0 ? axis + ndim_of(node) : axis);
}

/* ---------------------------------------------------------------- views */
static bool write_view(cr_onnx_emitter *e, const cr_graph_node *node) {
    e->used_bounds = ~0u; /* the result's sizes say it all */
    return cr_onnx_name(e, node, 0, cr_onnx_reshape(e, cr_onnx_value(e, node, 0), node->outputs[0]));
}
CR_ONNX_EXPORT(view, 5, NULL)

static bool write_permute(cr_onnx_emitter *e, const cr_graph_node *node) {
    const cr_dims *order = cr_onnx_attribute_of(node, "dims");
    int64_t perm[CR_MAX_DIMS];
    for (int d = 0; d < order->count; d++)
        perm[d] = order->at[d] < 0 ? order->at[d] + order->count : order->at[d];
    const char *y = cr_onnx_add(e, "Transpose", cr_onnx_value(e, node, 0));
    cr_onnx_set_ints(e, "perm", perm, order->count);
    return cr_onnx_name(e, node, 0, y);
}
CR_ONNX_EXPORT(permute, 1, NULL)

static bool write_expand(cr_onnx_emitter *e, const cr_graph_node *node) {
    const cr_value *y = node->outputs[0];
    e->used_bounds = ~0u;
    return cr_onnx_name(e, node, 0,
                        cr_onnx_add(e, "Expand", cr_onnx_value(e, node, 0), cr_onnx_sizes(e, y, 0, y->shape.count)));
}
CR_ONNX_EXPORT(expand, 8, NULL)

static const char *slice(cr_onnx_emitter *e, const char *x, const char *start, const char *end, int axis,
                         const char *step) {
    return cr_onnx_add(e, "Slice", x, start, end, cr_onnx_i64(e, axis), step);
}

static bool write_slice(cr_onnx_emitter *e, const cr_graph_node *node) {
    return cr_onnx_name(e, node, 0,
                        slice(e, cr_onnx_value(e, node, 0), cr_onnx_number_of(e, node, "start"),
                              cr_onnx_number_of(e, node, "end"), axis_of(node, "dim"),
                              cr_onnx_number_of(e, node, "step")));
}
CR_ONNX_EXPORT(slice, 10, NULL)

static bool write_select(cr_onnx_emitter *e, const cr_graph_node *node) {
    const char *index = cr_onnx_number_of(e, node, "index");
    const bool is_open = cr_onnx_is_open(node, "index");
    if (is_open)
        index = cr_onnx_add(e, "Squeeze", index, cr_onnx_i64(e, 0));
    else
        index = cr_onnx_scalar(e, CR_I64, (double)CR_ONNX_ATTRIBUTE(node, int64_t, index));
    const char *y = cr_onnx_add(e, "Gather", cr_onnx_value(e, node, 0), index);
    cr_onnx_set_int(e, "axis", axis_of(node, "dim"));
    return cr_onnx_name(e, node, 0, y);
}
CR_ONNX_EXPORT(select, 1, NULL)

static const char *count_up(cr_onnx_emitter *e, const char *count) {
    return cr_onnx_add(e, "Range", cr_onnx_scalar(e, CR_I64, 0), count, cr_onnx_scalar(e, CR_I64, 1));
}

/* Windows as a matrix of indices [windows, size], whose second dim then goes to the end. */
static bool write_unfold(cr_onnx_emitter *e, const cr_graph_node *node) {
    const int dim = axis_of(node, "dim"), ndim = ndim_of(node);
    const char *windows =
        count_up(e, cr_onnx_add(e, "Squeeze", cr_onnx_sizes(e, node->outputs[0], dim, dim + 1), cr_onnx_i64(e, 0)));
    windows = cr_onnx_add(e, "Mul", windows, cr_onnx_scalar(e, CR_I64, (double)CR_ONNX_ATTRIBUTE(node, int64_t, step)));
    windows = cr_onnx_add(e, "Unsqueeze", windows, cr_onnx_i64(e, 1));
    const char *inside = count_up(e, cr_onnx_scalar(e, CR_I64, (double)CR_ONNX_ATTRIBUTE(node, int64_t, window)));
    const char *t = cr_onnx_add(e, "Gather", cr_onnx_value(e, node, 0), cr_onnx_add(e, "Add", windows, inside));
    int64_t perm[CR_MAX_DIMS + 1];
    cr_onnx_set_int(e, "axis", dim);
    if (dim == ndim - 1) return cr_onnx_name(e, node, 0, t);
    for (int d = 0; d <= ndim; d++)
        perm[d] = d <= dim ? d : d < ndim ? d + 1 : dim + 1;
    t = cr_onnx_add(e, "Transpose", t);
    cr_onnx_set_ints(e, "perm", perm, ndim + 1);
    return cr_onnx_name(e, node, 0, t);
}
CR_ONNX_EXPORT(unfold, 11, NULL)

/* ---------------------------------------------------------------- any window */
enum { MOST_PLACES = 1 << 24 };

/* Places in the flattened operand of all elements of a window, as an initialiser of `shape`. */
static const char *places(cr_onnx_emitter *e, const cr_graph_node *node, const cr_shape *shape, const int64_t *strides,
                          int64_t offset, bool is_flat) {
    int64_t numel;
    const char *name = NULL;
    if (!cr_shape_numel(*shape, &numel)) return NULL;
    if (numel > MOST_PLACES || cr_onnx_has_open_size(node->inputs[0]) || cr_onnx_has_open_size(node->outputs[0])) {
        cr_onnx_cannot(e, node,
                       "a window onto memory is written as a list of places, which needs sizes that are fixed%s",
                       numel > MOST_PLACES ? ", and fewer elements" : "; use slices and permutations in its place");
        return NULL;
    }
    int64_t *list = cr_malloc((size_t)(numel + 1) * sizeof *list), at[CR_MAX_DIMS] = {0}, place = offset;
    for (int64_t i = 0; list && i < numel; i++) {
        list[i] = place;
        for (int d = shape->count - 1; d >= 0; d--) {
            place += strides[d];
            if (++at[d] < shape->at[d]) break;
            place -= strides[d] * shape->at[d];
            at[d] = 0;
        }
    }
    const cr_shape flat = CR_SHAPE(numel);
    if (list) name = cr_onnx_constant(e, CR_I64, is_flat ? &flat : shape, list, (size_t)numel * sizeof *list);
    cr_free(list);
    return name;
}

static const char *flatten(cr_onnx_emitter *e, const char *x) {
    return cr_onnx_add(e, "Reshape", x, cr_onnx_i64(e, -1));
}

static bool write_window(cr_onnx_emitter *e, const cr_graph_node *node, const int64_t *strides, int64_t offset) {
    const char *index = places(e, node, &node->outputs[0]->shape, strides, offset, false);
    return cr_onnx_name(e, node, 0, cr_onnx_add(e, "Gather", flatten(e, cr_onnx_value(e, node, 0)), index));
}

static bool write_as_strided(cr_onnx_emitter *e, const cr_graph_node *node) {
    const cr_dims *strides = cr_onnx_attribute_of(node, "strides");
    return write_window(e, node, strides->at, CR_ONNX_ATTRIBUTE(node, int64_t, offset));
}
CR_ONNX_EXPORT(as_strided, 5, NULL)

static bool write_diagonal(cr_onnx_emitter *e, const cr_graph_node *node) {
    const cr_shape shape = node->inputs[0]->shape;
    const int a = axis_of(node, "dim1"), b = axis_of(node, "dim2");
    const int64_t offset = CR_ONNX_ATTRIBUTE(node, int64_t, offset);
    int64_t steps[CR_MAX_DIMS], strides[CR_MAX_DIMS], step = 1;
    int count = 0;
    for (int d = shape.count - 1; d >= 0; step *= shape.at[d--])
        steps[d] = step;
    for (int d = 0; d < shape.count; d++)
        if (d != a && d != b) strides[count++] = steps[d];
    strides[count] = steps[a] + steps[b];
    return write_window(e, node, strides, offset >= 0 ? offset * steps[b] : -offset * steps[a]);
}
CR_ONNX_EXPORT(diagonal, 5, NULL)

static bool write_as_strided_scatter(cr_onnx_emitter *e, const cr_graph_node *node) {
    const cr_dims *shape = cr_onnx_attribute_of(node, "shape"), *strides = cr_onnx_attribute_of(node, "strides");
    const char *x = flatten(e, cr_onnx_value(e, node, 0)), *source = flatten(e, cr_onnx_value(e, node, 1));
    const char *index = places(e, node, shape, strides->at, CR_ONNX_ATTRIBUTE(node, int64_t, offset), true);
    return cr_onnx_name(e, node, 0,
                        cr_onnx_reshape(e, cr_onnx_add(e, "ScatterElements", x, index, source), node->outputs[0]));
}
CR_ONNX_EXPORT(as_strided_scatter, 11, NULL)

/* ---------------------------------------------------------------- joining, turning, padding */
static bool write_cat(cr_onnx_emitter *e, const cr_graph_node *node) {
    const char *operands[CR_MAX_INPUTS], *y;
    int count = 0;
    const cr_value *result = node->outputs[0];
    for (int i = 0; i < node->input_count; i++) { /* an empty row takes no part, whatever the others are */
        const cr_shape shape = node->inputs[i]->shape;
        if (shape.count != result->shape.count && shape.count == 1 && shape.at[0] == 0) continue;
        operands[count++] = cr_onnx_cast(e, cr_onnx_value(e, node, i), node->inputs[i]->dtype, result->dtype);
    }
    const int64_t dim = CR_ONNX_ATTRIBUTE(node, int64_t, dim);
    if (count == 1) return cr_onnx_name(e, node, 0, operands[0]);
    if (!cr_onnx_add_node(e, "Concat", operands, count, &y, 1)) return false;
    cr_onnx_set_int(e, "axis", dim < 0 ? dim + result->shape.count : dim);
    return cr_onnx_name(e, node, 0, y);
}
CR_ONNX_EXPORT(cat, 4, NULL)

static bool write_flip(cr_onnx_emitter *e, const cr_graph_node *node) {
    const cr_dims *dims = cr_onnx_attribute_of(node, "dims");
    const char *y = cr_onnx_value(e, node, 0);
    for (int i = 0; i < dims->count; i++) {
        const int axis = (int)(dims->at[i] < 0 ? dims->at[i] + ndim_of(node) : dims->at[i]);
        y = slice(e, y, cr_onnx_i64(e, -1), cr_onnx_i64(e, INT64_MIN), axis, cr_onnx_i64(e, -1));
    }
    return cr_onnx_name(e, node, 0, y);
}
CR_ONNX_EXPORT(flip, 10, NULL)

/* ONNX lists all that come before, then all that come behind, for all dims. */
static const char *amounts(cr_onnx_emitter *e, const cr_graph_node *node) {
    const cr_dims *before = cr_onnx_attribute_of(node, "before");
    const int rest = ndim_of(node) - before->count;
    const int64_t zeros[CR_MAX_DIMS] = {0};
    const char *b = cr_onnx_list(e, node, "before"), *a = cr_onnx_list(e, node, "after"), *list[4], *all;
    int count = 0;
    if (rest) list[count++] = cr_onnx_i64s(e, zeros, rest);
    list[count++] = b;
    if (rest) list[count++] = list[0];
    list[count++] = a;
    if (!cr_onnx_is_open(node, "before") && !cr_onnx_is_open(node, "after")) {
        const cr_dims *after = cr_onnx_attribute_of(node, "after");
        int64_t pads[2 * CR_MAX_DIMS] = {0};
        memcpy(pads + rest, before->at, (size_t)before->count * sizeof *pads);
        memcpy(pads + 2 * rest + before->count, after->at, (size_t)before->count * sizeof *pads);
        return cr_onnx_i64s(e, pads, 2 * ndim_of(node));
    }
    if (!cr_onnx_add_node(e, "Concat", list, count, &all, 1)) return NULL;
    cr_onnx_set_int(e, "axis", 0);
    return all;
}

/* The dtype in which ONNX pads: bool only since opset 13, which is our lowest. */
static bool write_pad(cr_onnx_emitter *e, const cr_graph_node *node) {
    const cr_dtype dtype = node->outputs[0]->dtype;
    const char *value = cr_onnx_scalar(e, dtype, CR_ONNX_ATTRIBUTE(node, double, value));
    return cr_onnx_name(e, node, 0, cr_onnx_add(e, "Pad", cr_onnx_value(e, node, 0), amounts(e, node), value));
}
CR_ONNX_EXPORT(pad, 13, NULL)

static bool takes_pad_around(const cr_graph_node *node, int opset) {
    const char *mode = CR_ONNX_ATTRIBUTE(node, char *, mode);
    return strcmp(mode, "circular") != 0 || opset >= 19;
}
static bool write_pad_around(cr_onnx_emitter *e, const cr_graph_node *node) {
    const char *mode = CR_ONNX_ATTRIBUTE(node, char *, mode);
    const char *y = cr_onnx_add(e, "Pad", cr_onnx_value(e, node, 0), amounts(e, node));
    cr_onnx_set_text(e, "mode", !strcmp(mode, "replicate") ? "edge" : !strcmp(mode, "circular") ? "wrap" : mode);
    return cr_onnx_name(e, node, 0, y);
}
CR_ONNX_EXPORT(pad_around, 11, takes_pad_around)

static bool write_triangle(cr_onnx_emitter *e, const cr_graph_node *node, bool is_upper) {
    const char *y = cr_onnx_add(e, "Trilu", cr_onnx_value(e, node, 0),
                                cr_onnx_scalar(e, CR_I64, (double)CR_ONNX_ATTRIBUTE(node, int64_t, diagonal)));
    cr_onnx_set_int(e, "upper", is_upper);
    return cr_onnx_name(e, node, 0, y);
}
static bool takes_triangle(const cr_graph_node *node, int opset) {
    (void)opset;
    return !cr_onnx_is_open(node, "diagonal");
}
static bool write_tril(cr_onnx_emitter *e, const cr_graph_node *node) { return write_triangle(e, node, false); }
CR_ONNX_EXPORT(tril, 14, takes_triangle)
static bool write_triu(cr_onnx_emitter *e, const cr_graph_node *node) { return write_triangle(e, node, true); }
CR_ONNX_EXPORT(triu, 14, takes_triangle)

/* ---------------------------------------------------------------- the same values */
static bool write_cast(cr_onnx_emitter *e, const cr_graph_node *node) {
    return cr_onnx_name(e, node, 0,
                        cr_onnx_cast(e, cr_onnx_value(e, node, 0), node->inputs[0]->dtype, node->outputs[0]->dtype));
}
CR_ONNX_EXPORT(cast, 13, NULL)

/* Another name for the same. */
static bool write_identity(cr_onnx_emitter *e, const cr_graph_node *node) {
    return cr_onnx_name(e, node, 0, cr_onnx_value(e, node, 0));
}
CR_ONNX_EXPORT(identity, 1, NULL)
static bool write_to_device(cr_onnx_emitter *e, const cr_graph_node *node) { return write_identity(e, node); }
CR_ONNX_EXPORT(to_device, 1, NULL)

/* ---------------------------------------------------------------- out of nothing */
static bool write_fill(cr_onnx_emitter *e, const cr_graph_node *node) {
    const char *shape = cr_onnx_add(e, "Shape", cr_onnx_value(e, node, 0));
    const char *value = cr_onnx_scalar(e, node->outputs[0]->dtype, CR_ONNX_ATTRIBUTE(node, double, value));
    return cr_onnx_name(e, node, 0, cr_onnx_add(e, "Expand", value, shape));
}
CR_ONNX_EXPORT(fill, 8, NULL)

static bool write_full(cr_onnx_emitter *e, const cr_graph_node *node) {
    const cr_value *y = node->outputs[0];
    const char *value;
    if (cr_onnx_is_open(node, "value")) {
        value = cr_onnx_cast(e, cr_onnx_number_of(e, node, "value"), CR_I64, y->dtype);
        value = cr_onnx_add(e, "Squeeze", value, cr_onnx_i64(e, 0));
    } else {
        value = cr_onnx_scalar(e, y->dtype, CR_ONNX_ATTRIBUTE(node, double, value));
    }
    e->used_bounds = ~0u;
    return cr_onnx_name(
        e, node, 0, y->shape.count ? cr_onnx_add(e, "Expand", value, cr_onnx_sizes(e, y, 0, y->shape.count)) : value);
}
CR_ONNX_EXPORT(full, 8, NULL)

/* start + step · (0, 1, …, count - 1), counted in whole numbers. */
static bool write_sequence(cr_onnx_emitter *e, const cr_graph_node *node) {
    const cr_sequence_options *o = node->attributes;
    const cr_dtype compute = cr_sequence_is_whole(o) ? CR_I64 : o->dtype == CR_F64 ? CR_F64 : CR_F32;
    const bool has_step = cr_onnx_is_open(node, "step"), has_start = cr_onnx_is_open(node, "start");
    const char *count = cr_onnx_add(e, "Squeeze", cr_onnx_number_of(e, node, "count"), cr_onnx_i64(e, 0));
    const char *y = cr_onnx_cast(e, count_up(e, count), CR_I64, compute);
    if (has_step || o->step != 1)
        y = cr_onnx_add(e, "Mul", y,
                        has_step ? cr_onnx_cast(e, cr_onnx_number_of(e, node, "step"), CR_I64, compute)
                                 : cr_onnx_scalar(e, compute, o->step));
    if (has_start || o->start != 0)
        y = cr_onnx_add(e, "Add", y,
                        has_start ? cr_onnx_cast(e, cr_onnx_number_of(e, node, "start"), CR_I64, compute)
                                  : cr_onnx_scalar(e, compute, o->start));
    return cr_onnx_name(e, node, 0, cr_onnx_cast(e, y, compute, o->dtype));
}
CR_ONNX_EXPORT(sequence, 11, NULL)

/* What the op gives is computed now, and written as a constant. */
static bool write_result(cr_onnx_emitter *e, const cr_graph_node *node) {
    const char *name = NULL;
    CR_SCOPE {
        cr_tensor *t = cr_contiguous(cr_run((cr_op *)(uintptr_t)node->op, NULL, 0, node->attributes));
        const cr_shape shape = cr_shape_of(t);
        if (t)
            name = cr_onnx_constant(e, cr_dtype_of(t), &shape, cr_data(t),
                                    (size_t)cr_numel(t) * cr_dtype_size(cr_dtype_of(t)));
    }
    return cr_onnx_name(e, node, 0, name);
}
static bool is_fixed(const cr_graph_node *node, int opset) {
    (void)opset;
    return node->bound_count == 0;
}
static bool write_linspace(cr_onnx_emitter *e, const cr_graph_node *node) { return write_result(e, node); }
CR_ONNX_EXPORT(linspace, 1, is_fixed)
static bool write_eye(cr_onnx_emitter *e, const cr_graph_node *node) { return write_result(e, node); }
CR_ONNX_EXPORT(eye, 1, is_fixed)
#endif
