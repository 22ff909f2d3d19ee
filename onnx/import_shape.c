/* Shapes: operators that move elements, or speak of sizes. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/import.h"

#include <string.h>

/* ---------------------------------------------------------------- sizes */
static bool is_open(const cr_onnx_call *call) { return call->run->is_traced; }

static int64_t clamp_to(int64_t value, int64_t least, int64_t most) {
    return value < least ? least : value > most ? most : value;
}

static bool run_Shape(cr_onnx_call *call) {
    const cr_onnx_operand *x = &call->inputs[0];
    const cr_shape shape = cr_shape_of(x->tensor);
    int64_t start = cr_onnx_int(call, "start", 0), end = cr_onnx_int(call, "end", shape.count);
    start = clamp_to(start < 0 ? start + shape.count : start, 0, shape.count);
    end = clamp_to(end < 0 ? end + shape.count : end, start, shape.count);
    return cr_onnx_give_known(call, shape.at + start, (int)(end - start), false, is_open(call) && !x->is_known);
}
CR_ONNX_IMPORT(Shape, 1, CR_ONNX_SIZES)

static bool run_Size(cr_onnx_call *call) {
    const int64_t numel = cr_numel(call->inputs[0].tensor);
    return cr_onnx_give_known(call, &numel, 1, true, is_open(call) && !call->inputs[0].is_known);
}
CR_ONNX_IMPORT(Size, 1, CR_ONNX_SIZES)

/* ---------------------------------------------------------------- another shape */
/* 0 keeps a size (unless allowzero), -1 is what is left. */
static bool run_Reshape(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    cr_shape shape;
    if (call->opset < 5 ? !cr_onnx_dims_attribute(call, "shape", &shape) : !cr_onnx_dims_input(call, 1, &shape))
        return cr_ok() && cr_onnx_refuse(call, "has no shape");
    for (int d = 0; d < shape.count && !cr_onnx_int(call, "allowzero", 0); d++)
        if (shape.at[d] == 0 && (shape.at[d] = cr_size(x, d)) < 0) return false;
    return cr_onnx_give(call, cr_reshape(x, shape));
}
CR_ONNX_IMPORT(Reshape, 1, 0)

static bool run_Flatten(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    const int64_t axis = cr_onnx_int(call, "axis", 1);
    const int ndim = cr_ndim(x), middle = (int)(axis < 0 ? axis + ndim : axis);
    if (middle < 0 || middle > ndim) return cr_onnx_refuse(call, "axis %lld of %d dims", (long long)axis, ndim);
    int64_t rows = 1;
    for (int d = 0; d < middle; d++)
        rows *= cr_size(x, d);
    return cr_onnx_give(call, cr_reshape(x, CR_SHAPE(rows, rows ? cr_numel(x) / rows : 0)));
}
CR_ONNX_IMPORT(Flatten, 1, 0)

static bool run_Squeeze(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    cr_dims axes;
    if (!cr_onnx_axes(call, "axes", 1, 13, cr_ndim(x), &axes)) return false;
    for (int i = 0; i < axes.count; i++)
        if (cr_size(x, (int)axes.at[i]) != 1)
            return cr_onnx_refuse(call, "dim %d has size %lld, not 1", (int)axes.at[i],
                                  (long long)cr_size(x, (int)axes.at[i]));
    return cr_onnx_give(call, cr_squeeze(x, axes));
}
CR_ONNX_IMPORT(Squeeze, 1, 0)

static bool run_Unsqueeze(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    cr_dims axes;
    cr_shape shape = {0, {0}};
    bool is_new[CR_MAX_DIMS] = {false};
    if (call->opset >= 13 ? !cr_onnx_dims_input(call, 1, &axes) : !cr_onnx_dims_attribute(call, "axes", &axes))
        return cr_ok() && cr_onnx_refuse(call, "has no axes");
    const int ndim = cr_ndim(x) + axes.count;
    if (ndim > CR_MAX_DIMS) return cr_onnx_refuse(call, "%d dims; at most %d", ndim, CR_MAX_DIMS);
    for (int i = 0; i < axes.count; i++) {
        const int axis = cr_onnx_axis(call, axes.at[i], ndim);
        if (axis < 0 || is_new[axis]) return cr_ok() && cr_onnx_refuse(call, "axis %d twice", axis);
        is_new[axis] = true;
    }
    for (int d = 0, from = 0; d < ndim; d++)
        shape.at[shape.count++] = is_new[d] ? 1 : cr_size(x, from++);
    return cr_onnx_give(call, cr_reshape(x, shape));
}
CR_ONNX_IMPORT(Unsqueeze, 1, 0)

static bool run_Transpose(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    cr_dims order;
    if (!cr_onnx_dims_attribute(call, "perm", &order)) {
        if (!cr_ok()) return false;
        order.count = cr_ndim(x);
        for (int d = 0; d < order.count; d++)
            order.at[d] = order.count - 1 - d;
    }
    return cr_onnx_give(call, cr_permute(x, order));
}
CR_ONNX_IMPORT(Transpose, 1, 0)

/* Sizes that are 1 in the shape keep the tensor's, and the other way round. */
static bool run_Expand(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    cr_shape shape, result;
    if (!cr_onnx_dims_input(call, 1, &shape)) return false;
    return cr_shape_broadcast(cr_shape_of(x), shape, &result) && cr_onnx_give(call, cr_expand(x, result));
}
CR_ONNX_IMPORT(Expand, 8, CR_ONNX_GROWS)

static bool run_Tile(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    cr_shape times;
    if (call->opset < 6) { /* tiles and axis, one number each */
        int64_t count, axis;
        if (cr_onnx_ints(call, 1, &count, 1) != 1 || cr_onnx_ints(call, 2, &axis, 1) != 1) return false;
        times = (cr_shape){cr_ndim(x), {1, 1, 1, 1, 1, 1, 1, 1}};
        const int at = cr_onnx_axis(call, axis, cr_ndim(x));
        if (at < 0) return false;
        times.at[at] = count;
    } else if (!cr_onnx_dims_input(call, 1, &times)) {
        return false;
    }
    return cr_onnx_give(call, cr_repeat(x, times));
}
CR_ONNX_IMPORT(Tile, 1, CR_ONNX_GROWS)

/* [N, C b b, H, W] -> [N, C, H b, W b]. DCR: depth is [b, b, C]; CRD: [C, b, b]. */
static bool run_DepthToSpace(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    const int64_t b = cr_onnx_int(call, "blocksize", 1), n = cr_size(x, 0), c = cr_size(x, 1) / (b * b),
                  h = cr_size(x, 2), w = cr_size(x, 3);
    const bool is_crd = !strcmp(cr_onnx_text(call, "mode", "DCR"), "CRD");
    if (cr_ndim(x) != 4 || b < 1) return cr_onnx_refuse(call, "needs 4 dims and a blocksize above 0");
    cr_tensor *parts = cr_reshape(x, is_crd ? CR_SHAPE(n, c, b, b, h, w) : CR_SHAPE(n, b, b, c, h, w));
    parts = cr_permute(parts, is_crd ? CR_DIMS(0, 1, 4, 2, 5, 3) : CR_DIMS(0, 3, 4, 1, 5, 2));
    return cr_onnx_give(call, cr_reshape(parts, CR_SHAPE(n, c, h * b, w * b)));
}
CR_ONNX_IMPORT(DepthToSpace, 1, 0)

static bool run_SpaceToDepth(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    const int64_t b = cr_onnx_int(call, "blocksize", 1);
    if (cr_ndim(x) != 4 || b < 1) return cr_onnx_refuse(call, "needs 4 dims and a blocksize above 0");
    const int64_t n = cr_size(x, 0), c = cr_size(x, 1), h = cr_size(x, 2) / b, w = cr_size(x, 3) / b;
    const bool is_crd = !strcmp(cr_onnx_text(call, "mode", "DCR"), "CRD");
    cr_tensor *parts = cr_reshape(x, CR_SHAPE(n, c, h, b, w, b));
    parts = cr_permute(parts, is_crd ? CR_DIMS(0, 1, 3, 5, 2, 4) : CR_DIMS(0, 3, 5, 1, 2, 4));
    return cr_onnx_give(call, cr_reshape(parts, CR_SHAPE(n, c * b * b, h, w)));
}
CR_ONNX_IMPORT(SpaceToDepth, 1, 0)

/* ---------------------------------------------------------------- joining, parting */
static bool run_Concat(cr_onnx_call *call) {
    cr_tensor *parts[CR_ONNX_MOST_OPERANDS];
    for (int i = 0; i < call->input_count; i++)
        parts[i] = cr_onnx_input(call, i);
    const int64_t axis = cr_onnx_int(call, "axis", call->opset < 4 ? 1 : 0);
    return cr_onnx_give(call, cr_cat(parts, call->input_count, (int)axis));
}
CR_ONNX_IMPORT(Concat, 1, 0)

/* Sizes by attribute or operand; else equal parts, of which the last may be smaller. */
static bool run_Split(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    const int axis = cr_onnx_axis(call, cr_onnx_int(call, "axis", 0), cr_ndim(x));
    int64_t sizes[CR_ONNX_MOST_OPERANDS] = {0};
    int count = 0;
    if (axis < 0) return false;
    if (call->opset < 13) {
        const CrOnnx__AttributeProto *split = cr_onnx_attribute(call, "split");
        for (size_t i = 0; split && i < split->n_ints && i < CR_ONNX_MOST_OPERANDS; i++)
            sizes[count++] = split->ints[i];
    }
    if ((call->opset >= 13 || call->opset < 2) && call->input_count > 1 && call->inputs[1].tensor &&
        (count = cr_onnx_ints(call, 1, sizes, CR_ONNX_MOST_OPERANDS)) < 0)
        return false;
    if (!count) {
        count = (int)cr_onnx_int(call, "num_outputs", call->output_count);
        const int64_t size = count > 0 ? (cr_size(x, axis) + count - 1) / count : 0;
        for (int i = 0; i < count && i < CR_ONNX_MOST_OPERANDS; i++)
            sizes[i] = i < count - 1 ? size : cr_size(x, axis) - size * (count - 1);
    }
    if (count < call->output_count) return cr_onnx_refuse(call, "%d sizes for %d results", count, call->output_count);
    int64_t at = 0;
    for (int i = 0; i < call->output_count; at += sizes[i++])
        if (!cr_onnx_give_at(call, i, cr_narrow(x, axis, at, sizes[i]))) return false;
    return true;
}
CR_ONNX_IMPORT(Split, 1, 0)

/* A step below 0 is a step above it through the flipped dim. */
static cr_tensor *slice_dim(cr_tensor *x, int axis, int64_t start, int64_t end, int64_t step) {
    const int64_t size = cr_size(x, axis);
    if (step > 0) {
        const int64_t from = clamp_to(start < 0 ? start + size : start, 0, size),
                      to = clamp_to(end < 0 ? end + size : end, 0, size);
        return cr_slice(x, axis, from, to < from ? from : to, step);
    }
    const int64_t from = clamp_to(start < 0 ? start + size : start, 0, size - 1),
                  to = clamp_to(end < 0 ? end + size : end, -1, size - 1);
    x = cr_flip(x, CR_DIMS(axis));
    return cr_slice(x, axis, size - 1 - from, size - 1 - (to > from ? from : to),
                    step == INT64_MIN ? INT64_MAX : -step);
}

static bool run_Slice(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    cr_dims starts, ends, axes = {0, {0}}, steps = {0, {0}};
    const bool by_attribute = call->opset < 10;
    const bool given = by_attribute ? cr_onnx_dims_attribute(call, "starts", &starts) &&
                                          cr_onnx_dims_attribute(call, "ends", &ends) &&
                                          (cr_onnx_dims_attribute(call, "axes", &axes) || cr_ok())
                                    : cr_onnx_dims_input(call, 1, &starts) && cr_onnx_dims_input(call, 2, &ends) &&
                                          cr_onnx_dims_input(call, 3, &axes) && cr_onnx_dims_input(call, 4, &steps);
    if (!given) return cr_ok() && cr_onnx_refuse(call, "has no starts and ends");
    if (ends.count != starts.count || (axes.count && axes.count != starts.count) ||
        (steps.count && steps.count != starts.count))
        return cr_onnx_refuse(call, "lists of different lengths");
    for (int i = 0; x && i < starts.count; i++) {
        const int axis = cr_onnx_axis(call, axes.count ? axes.at[i] : i, cr_ndim(x));
        const int64_t step = steps.count ? steps.at[i] : 1;
        if (axis < 0 || step == 0) return cr_ok() && cr_onnx_refuse(call, "a step of 0");
        x = slice_dim(x, axis, starts.at[i], ends.at[i], step);
    }
    return cr_onnx_give(call, x);
}
CR_ONNX_IMPORT(Slice, 1, 0)

/* ---------------------------------------------------------------- around */
/* Amounts stand in ONNX as all that come before, then all that come behind. */
static bool pad_by(cr_onnx_call *call, cr_tensor *x, const int64_t *pads, const cr_dims *axes, const char *mode,
                   cr_tensor *value) {
    cr_dims before = {cr_ndim(x), {0}}, after = before;
    bool crops = false;
    for (int i = 0; i < axes->count; i++) {
        before.at[axes->at[i]] = pads[i];
        after.at[axes->at[i]] = pads[axes->count + i];
        crops |= pads[i] < 0 || pads[axes->count + i] < 0;
    }
    if (!strcmp(mode, "constant")) {
        if (!value || (call->inputs[2].is_known && !call->inputs[2].is_sized) || !call->run->is_traced) {
            double number = 0;
            if (value && cr_onnx_floats(call, 2, &number, 1) != 1) return false;
            return cr_onnx_give(call, cr_pad(x, before, after, number));
        }
        cr_tensor *inside = cr_pad(cr_full(CR_BOOL, cr_shape_of(x), 1, CR_CPU), before, after, 0);
        return cr_onnx_give(call, cr_where(inside, cr_pad(x, before, after, 0), value));
    }
    if (crops) { /* what is cut off goes first, the rest is continued */
        cr_dims cut_before = before, cut_after = after;
        for (int d = 0; d < before.count; d++) {
            cut_before.at[d] = before.at[d] < 0 ? before.at[d] : 0, before.at[d] -= cut_before.at[d];
            cut_after.at[d] = after.at[d] < 0 ? after.at[d] : 0, after.at[d] -= cut_after.at[d];
        }
        x = cr_pad(x, cut_before, cut_after, 0);
    }
    const char *own = !strcmp(mode, "edge") ? "replicate" : !strcmp(mode, "wrap") ? "circular" : mode;
    return cr_onnx_give(call, cr_pad_around(x, before, after, own));
}

static bool run_Pad(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    const char *mode = cr_onnx_text(call, "mode", "constant");
    int64_t pads[2 * CR_MAX_DIMS] = {0};
    cr_dims axes = {cr_ndim(x), {0, 1, 2, 3, 4, 5, 6, 7}};
    int count = 0;
    if (call->opset < 11) {
        const CrOnnx__AttributeProto *given = cr_onnx_attribute(call, call->opset < 2 ? "paddings" : "pads");
        for (size_t i = 0; given && i < given->n_ints && i < 2 * CR_MAX_DIMS; i++)
            pads[count++] = given->ints[i];
    } else if ((count = cr_onnx_ints(call, 1, pads, 2 * CR_MAX_DIMS)) < 0) {
        return false;
    }
    if (call->opset >= 18 && call->input_count > 3 && call->inputs[3].tensor &&
        !cr_onnx_axes(call, "", 3, 18, cr_ndim(x), &axes))
        return false;
    if (count != 2 * axes.count) return cr_onnx_refuse(call, "%d amounts for %d dims", count, axes.count);
    if (call->opset < 11 && !strcmp(mode, "constant")) {
        cr_dims before = {axes.count, {0}}, after = before;
        memcpy(before.at, pads, (size_t)axes.count * sizeof *pads);
        memcpy(after.at, pads + axes.count, (size_t)axes.count * sizeof *pads);
        return cr_onnx_give(call, cr_pad(x, before, after, cr_onnx_float(call, "value", 0)));
    }
    return pad_by(call, x, pads, &axes, mode, cr_onnx_input(call, 2));
}
CR_ONNX_IMPORT(Pad, 1, 0)

/* The middle of dims, or zeros around it. */
static bool run_CenterCropPad(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    cr_dims axes, sizes, before = {cr_ndim(x), {0}}, after = before;
    if (!cr_onnx_dims_attribute(call, "axes", &axes)) axes = (cr_dims){cr_ndim(x), {0, 1, 2, 3, 4, 5, 6, 7}};
    if (!cr_ok() || !cr_onnx_dims_input(call, 1, &sizes)) return false;
    if (sizes.count != axes.count) return cr_onnx_refuse(call, "%d sizes for %d axes", sizes.count, axes.count);
    for (int i = 0; i < axes.count; i++) {
        const int axis = cr_onnx_axis(call, axes.at[i], cr_ndim(x));
        if (axis < 0) return false;
        const int64_t more = sizes.at[i] - cr_size(x, axis);
        before.at[axis] = more >= 0 ? more / 2 : -(-more / 2);
        after.at[axis] = more - before.at[axis];
    }
    return cr_onnx_give(call, cr_pad(x, before, after, 0));
}
CR_ONNX_IMPORT(CenterCropPad, 18, 0)

/* ---------------------------------------------------------------- triangles */
static bool run_Trilu(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    int64_t k = 0;
    if (call->input_count > 1 && call->inputs[1].tensor && cr_onnx_ints(call, 1, &k, 1) != 1) return false;
    return cr_onnx_give(call, cr_onnx_int(call, "upper", 1) ? cr_triu(x, k) : cr_tril(x, k));
}
CR_ONNX_IMPORT(Trilu, 14, 0)
#endif
