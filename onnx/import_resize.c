/* Resize and Upsample: one axis after the other, each result a mean of the elements around its place in the input. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/import.h"

#include <math.h>
#include <string.h>

typedef struct resizing {
    const char *mode, *places, *nearest; /* mode; coordinate_transformation_mode; nearest_mode */
    double cubic_a, outside;             /* cubic_coeff_a; extrapolation_value */
    bool excludes_outside, antialias;
} resizing;

typedef struct axis_plan {
    int axis;
    int64_t in, out;
    double scale, begin, end; /* begin and end: of the region of interest */
    double exact;             /* in · scale, which need not be whole */
} axis_plan;

/* ---------------------------------------------------------------- places */
/* Where result o of an axis lies in the input, for all o: f64 [out]. */
static cr_tensor *places_of(const resizing *r, const axis_plan *p) {
    cr_tensor *o = cr_arange(CR_F64, 0, (double)p->out, 1, CR_CPU);
    if (!strcmp(r->places, "align_corners"))
        return cr_mul_scalar(o, p->out == 1 ? 0 : (double)(p->in - 1) / (p->exact - 1));
    if (!strcmp(r->places, "asymmetric")) return cr_mul_scalar(o, 1 / p->scale);
    if (!strcmp(r->places, "tf_half_pixel_for_nn")) return cr_mul_scalar(cr_add_scalar(o, 0.5), 1 / p->scale);
    if (!strcmp(r->places, "tf_crop_and_resize")) {
        const double last = (double)(p->in - 1);
        if (p->out == 1) return cr_full(CR_F64, CR_SHAPE(1), 0.5 * (p->begin + p->end) * last, CR_CPU);
        return cr_add_scalar(cr_mul_scalar(o, (p->end - p->begin) * last / (double)(p->out - 1)), p->begin * last);
    }
    cr_tensor *half = cr_sub_scalar(cr_mul_scalar(cr_add_scalar(o, 0.5), 1 / p->scale), 0.5);
    if (!strcmp(r->places, "pytorch_half_pixel") && p->out == 1) return cr_zeros(CR_F64, CR_SHAPE(1), CR_CPU);
    if (strcmp(r->places, "half_pixel_symmetric") != 0) return half;
    const double adjustment = (double)p->out / (p->scale * (double)p->in);
    return cr_add_scalar(half, (double)p->in / 2 * (1 - adjustment));
}

/* t [out] as it broadcasts against x along the plan's axis. */
static cr_tensor *along(cr_tensor *t, const cr_tensor *x, int axis) {
    cr_shape shape = {cr_ndim(x) - axis, {-1, 1, 1, 1, 1, 1, 1, 1}};
    return cr_cast(cr_reshape(t, shape), cr_dtype_of(x));
}

/* The elements at positions `at` (f64, whole numbers) of an axis, those outside being the ones at the edge. */
static cr_tensor *elements(cr_tensor *x, const axis_plan *p, cr_tensor *at) {
    return cr_index_select(x, p->axis, cr_cast(cr_clamp(at, 0, (double)(p->in - 1)), CR_I64));
}

/* ---------------------------------------------------------------- modes */
static cr_tensor *nearest(const resizing *r, const axis_plan *p, cr_tensor *x, cr_tensor *place) {
    cr_tensor *at = !strcmp(r->nearest, "floor")               ? cr_floor(place)
                    : !strcmp(r->nearest, "ceil")              ? cr_ceil(place)
                    : !strcmp(r->nearest, "round_prefer_ceil") ? cr_floor(cr_add_scalar(place, 0.5))
                                                               : cr_ceil(cr_sub_scalar(place, 0.5));
    return elements(x, p, at);
}

cr_tensor *cr_onnx_filter(cr_tensor *distance, bool is_cubic, double a) {
    cr_tensor *zero = cr_zeros_like(distance), *s = cr_abs(distance);
    if (!is_cubic) return cr_maximum(zero, cr_add_scalar(cr_neg(s), 1));
    cr_tensor *near = cr_add_scalar(cr_mul(cr_square(s), cr_sub_scalar(cr_mul_scalar(s, a + 2), a + 3)), 1);
    cr_tensor *far = cr_mul_scalar(cr_sub_scalar(cr_mul(cr_add_scalar(cr_mul(cr_sub_scalar(s, 5), s), 8), s), 4), a);
    return cr_where(cr_le_scalar(s, 1), near, cr_where(cr_lt_scalar(s, 2), far, zero));
}

static cr_tensor *weight_at(const resizing *r, cr_tensor *distance) {
    return cr_onnx_filter(distance, !strcmp(r->mode, "cubic"), r->cubic_a);
}

static cr_tensor *from_neighbours(const resizing *r, const axis_plan *p, cr_tensor *x, cr_tensor *place) {
    const bool is_cubic = !strcmp(r->mode, "cubic");
    const int first = is_cubic ? -1 : 0, last = is_cubic ? 2 : 1;
    cr_tensor *base = cr_floor(place), *result = NULL, *total = NULL;
    for (int k = first; k <= last; k++) {
        cr_tensor *at = cr_add_scalar(base, k), *weight = weight_at(r, cr_sub(at, place));
        if (r->excludes_outside) {
            cr_tensor *is_inside = cr_logical_and(cr_ge_scalar(at, 0), cr_le_scalar(at, (double)(p->in - 1)));
            weight = cr_where(is_inside, weight, cr_zeros_like(weight));
            total = total ? cr_add(total, weight) : weight;
        }
        cr_tensor *part = cr_mul(elements(x, p, at), along(weight, x, p->axis));
        result = result ? cr_add(result, part) : part;
    }
    return total ? cr_div(result, along(total, x, p->axis)) : result;
}

/* Shrinking with a filter as wide as what one result stands for: a matrix [elements, out] along the axis, which goes on
 * past its ends with the elements there unless they are to be left out. */
static cr_tensor *filtered(const resizing *r, const axis_plan *p, cr_tensor *x, cr_tensor *place) {
    const double margin = r->excludes_outside ? 0 : ceil((strcmp(r->mode, "cubic") ? 1 : 2) / p->scale) + 1;
    cr_tensor *at = cr_arange(CR_F64, -margin, (double)p->in + margin, 1, CR_CPU);
    cr_tensor *weight = weight_at(r, cr_mul_scalar(cr_sub(cr_unsqueeze(at, 1), place), p->scale));
    weight = cr_cast(cr_div(weight, cr_sum(weight, .dims = CR_DIMS(0), .keepdim = true)), cr_dtype_of(x));
    return cr_movedim(cr_matmul(cr_movedim(elements(x, p, at), p->axis, -1), weight), -1, p->axis);
}

static cr_tensor *resize_axis(const resizing *r, const axis_plan *p, cr_tensor *x) {
    cr_tensor *place = places_of(r, p), *y;
    if (!strcmp(r->mode, "nearest"))
        y = nearest(r, p, x, place);
    else
        y = r->antialias && p->scale < 1 ? filtered(r, p, x, place) : from_neighbours(r, p, x, place);
    if (strcmp(r->places, "tf_crop_and_resize") != 0) return y;
    cr_tensor *is_inside = cr_logical_and(cr_ge_scalar(place, 0), cr_le_scalar(place, (double)(p->in - 1)));
    return cr_where(cr_cast(along(is_inside, y, p->axis), CR_BOOL), y,
                    cr_full(cr_dtype_of(x), CR_SHAPE_0D, r->outside, CR_CPU));
}

static bool resize(cr_onnx_call *call, const resizing *r, axis_plan *plans, int count) {
    cr_tensor *x = cr_onnx_input(call, 0);
    const cr_dtype dtype = cr_dtype_of(x);
    const bool computes = strcmp(r->mode, "nearest") != 0;
    if (computes && !cr_dtype_is_floating(dtype)) x = cr_cast(x, CR_F32);
    for (int i = 0; x && i < count; i++)
        if (plans[i].in != plans[i].out || plans[i].scale != 1 || !strcmp(r->places, "tf_crop_and_resize"))
            x = resize_axis(r, &plans[i], x);
    if (computes && !cr_dtype_is_floating(dtype)) x = cr_round(x);
    return cr_onnx_give(call, cr_contiguous(cr_identity(cr_cast(x, dtype))));
}

/* ---------------------------------------------------------------- sizes */
enum { ROI = 1, SCALES = 2, SIZES = 3 };

static bool is_given(const cr_onnx_call *call, int i) {
    return i < call->input_count && call->inputs[i].tensor && cr_numel(call->inputs[i].tensor) > 0;
}

/* keep_aspect_ratio_policy: one scale for all axes, the least (not_larger) or greatest of those that sizes ask for. */
static void keep_ratio(axis_plan *plans, int count, bool is_least) {
    double scale = plans[0].scale;
    for (int i = 1; i < count; i++)
        if (is_least ? plans[i].scale < scale : plans[i].scale > scale) scale = plans[i].scale;
    for (int i = 0; i < count; i++) {
        plans[i].scale = scale;
        plans[i].exact = floor(scale * (double)plans[i].in + 0.5);
        plans[i].out = (int64_t)plans[i].exact;
    }
}

static bool plan_axes(cr_onnx_call *call, const cr_dims *axes, int scales, int sizes, axis_plan *plans) {
    double numbers[CR_MAX_DIMS], roi[2 * CR_MAX_DIMS];
    const cr_tensor *x = call->inputs[0].tensor;
    const bool by_scale = is_given(call, scales);
    const int count =
        by_scale || is_given(call, sizes) ? cr_onnx_floats(call, by_scale ? scales : sizes, numbers, CR_MAX_DIMS) : 0;
    if (count < 0) return false;
    if (count != axes->count) return cr_onnx_refuse(call, "%d scales or sizes for %d axes", count, axes->count);
    const bool has_roi = scales == SCALES && is_given(call, ROI) &&
                         !strcmp(cr_onnx_text(call, "coordinate_transformation_mode", ""), "tf_crop_and_resize");
    if (has_roi && cr_onnx_floats(call, ROI, roi, 2 * CR_MAX_DIMS) != 2 * count)
        return cr_ok() && cr_onnx_refuse(call, "a region of other than %d numbers", 2 * count);
    for (int i = 0; i < count; i++) {
        axis_plan *p = &plans[i];
        *p = (axis_plan){.axis = (int)axes->at[i], .in = cr_size(x, (int)axes->at[i]), .end = 1};
        p->scale = by_scale ? numbers[i] : numbers[i] / (double)p->in;
        p->exact = by_scale ? (double)p->in * numbers[i] : numbers[i];
        p->out = (int64_t)floor(p->exact);
        if (has_roi) {
            p->begin = roi[i], p->end = roi[count + i];
            if (by_scale) p->out = (int64_t)floor((double)p->in * (p->end - p->begin) * numbers[i]);
        }
        if (!(p->scale > 0) || p->out < 0) return cr_onnx_refuse(call, "a scale of %g", p->scale);
    }
    const char *policy = cr_onnx_text(call, "keep_aspect_ratio_policy", "stretch");
    if (!by_scale && count && strcmp(policy, "stretch") != 0) keep_ratio(plans, count, !strcmp(policy, "not_larger"));
    return true;
}

static bool run_Resize(cr_onnx_call *call) {
    const bool is_old = call->opset < 11;
    const resizing r = {
        .mode = cr_onnx_text(call, "mode", "nearest"),
        .places = cr_onnx_text(call, "coordinate_transformation_mode", is_old ? "asymmetric" : "half_pixel"),
        .nearest = cr_onnx_text(call, "nearest_mode", is_old ? "floor" : "round_prefer_floor"),
        .cubic_a = cr_onnx_float(call, "cubic_coeff_a", -0.75),
        .outside = cr_onnx_float(call, "extrapolation_value", 0),
        .excludes_outside = cr_onnx_int(call, "exclude_outside", 0),
        .antialias = cr_onnx_int(call, "antialias", 0),
    };
    cr_dims axes;
    axis_plan plans[CR_MAX_DIMS] = {{0}};
    if (!cr_onnx_dims_attribute(call, "axes", &axes))
        axes = (cr_dims){cr_ndim(call->inputs[0].tensor), {0, 1, 2, 3, 4, 5, 6, 7}};
    for (int i = 0; i < axes.count; i++)
        if ((axes.at[i] = cr_onnx_axis(call, axes.at[i], cr_ndim(call->inputs[0].tensor))) < 0) return false;
    return cr_ok() && plan_axes(call, &axes, is_old ? 1 : SCALES, is_old ? CR_ONNX_MOST_OPERANDS : SIZES, plans) &&
           resize(call, &r, plans, axes.count);
}
CR_ONNX_IMPORT(Resize, 10, CR_ONNX_GROWS)

static bool run_Upsample(cr_onnx_call *call) {
    const CrOnnx__AttributeProto *scales = cr_onnx_attribute(call, "scales");
    const char *mode = cr_onnx_text(call, "mode", "nearest");
    const resizing r = {
        .mode = !strcmp(mode, "bilinear") ? "linear" : mode, .places = "asymmetric", .nearest = "floor"};
    cr_dims axes = {cr_ndim(call->inputs[0].tensor), {0, 1, 2, 3, 4, 5, 6, 7}};
    axis_plan plans[CR_MAX_DIMS] = {{0}};
    if (call->opset >= 9)
        return plan_axes(call, &axes, 1, CR_ONNX_MOST_OPERANDS, plans) && resize(call, &r, plans, axes.count);
    for (int i = 0; i < axes.count; i++) {
        const int64_t in = cr_size(call->inputs[0].tensor, i);
        const double scale = scales && scales->n_floats == (size_t)axes.count ? (double)scales->floats[i]
                             : i == axes.count - 2                            ? cr_onnx_float(call, "height_scale", 1)
                             : i == axes.count - 1                            ? cr_onnx_float(call, "width_scale", 1)
                                                                              : 1;
        plans[i] = (axis_plan){i, in, (int64_t)floor((double)in * scale), scale, 0, 1, (double)in * scale};
    }
    return resize(call, &r, plans, axes.count);
}
CR_ONNX_IMPORT(Upsample, 1, CR_ONNX_GROWS)
#endif
