/* Convolution, pooling, normalisation. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/import.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- windows */
enum { MOST_SPATIAL = 3 };

static bool read_window_list(cr_onnx_call *call, const char *name, int spatial, cr_dims *list) {
    if (!cr_onnx_dims_attribute(call, name, list)) {
        *list = (cr_dims){spatial, {1, 1, 1, 1, 1, 1, 1, 1}};
        return cr_ok();
    }
    return list->count == spatial || cr_onnx_refuse(call, "%d %s for %d dims", list->count, name, spatial);
}

/* SAME: as many results as input / stride, rounded up; of an odd amount of padding more goes behind (UPPER) or before. */
static void pad_same(cr_onnx_window *w, const cr_tensor *x, bool is_lower) {
    for (int d = 0; d < w->spatial; d++) {
        const int64_t in = cr_size(x, d + 2), out = (in + w->strides.at[d] - 1) / w->strides.at[d],
                      reach = (out - 1) * w->strides.at[d] + (w->kernel.at[d] - 1) * w->dilations.at[d] + 1;
        const int64_t total = reach > in ? reach - in : 0;
        w->begins.at[d] = is_lower ? total - total / 2 : total / 2;
        w->ends.at[d] = total - w->begins.at[d];
    }
}

bool cr_onnx_read_window(cr_onnx_call *call, const cr_tensor *x, const cr_tensor *weight, cr_onnx_window *w) {
    const CrOnnx__AttributeProto *pads = cr_onnx_attribute(call, "pads");
    const char *mode = cr_onnx_text(call, "auto_pad", "NOTSET");
    w->spatial = cr_ndim(x) - 2;
    if (w->spatial < 1 || w->spatial > MOST_SPATIAL)
        return cr_onnx_refuse(call, "%d spatial dims; 1 to %d", w->spatial, MOST_SPATIAL);
    if (weight && cr_ndim(weight) != cr_ndim(x)) return cr_onnx_refuse(call, "a weight of %d dims", cr_ndim(weight));
    if (!cr_onnx_dims_attribute(call, "kernel_shape", &w->kernel)) {
        if (!weight) return cr_ok() && cr_onnx_refuse(call, "has no kernel_shape");
        w->kernel.count = w->spatial;
        for (int d = 0; d < w->spatial; d++)
            w->kernel.at[d] = cr_size(weight, d + 2);
    }
    if (w->kernel.count != w->spatial) return cr_onnx_refuse(call, "kernel_shape of %d numbers", w->kernel.count);
    if (!read_window_list(call, "strides", w->spatial, &w->strides) ||
        !read_window_list(call, "dilations", w->spatial, &w->dilations))
        return false;
    w->begins = w->ends = (cr_dims){w->spatial, {0}};
    for (int d = 0; d < w->spatial; d++)
        if (w->strides.at[d] < 1) return cr_onnx_refuse(call, "a stride of %lld", (long long)w->strides.at[d]);
    if (!strcmp(mode, "SAME_UPPER") || !strcmp(mode, "SAME_LOWER")) {
        pad_same(w, x, !strcmp(mode, "SAME_LOWER"));
    } else if (pads && !strcmp(mode, "NOTSET")) {
        if (pads->n_ints != 2 * (size_t)w->spatial) return cr_onnx_refuse(call, "%zu pads", pads->n_ints);
        memcpy(w->begins.at, pads->ints, (size_t)w->spatial * sizeof(int64_t));
        memcpy(w->ends.at, pads->ints + w->spatial, (size_t)w->spatial * sizeof(int64_t));
    }
    return true;
}

static bool is_even(const cr_onnx_window *w) { return cr_shape_equal(w->begins, w->ends); }

/* x with what the window's padding has, and the window without it. */
static cr_tensor *pad_outside(cr_tensor *x, cr_onnx_window *w, double value) {
    x = cr_pad(x, w->begins, w->ends, value);
    w->begins = w->ends = (cr_dims){w->spatial, {0}};
    return x;
}

/* ---------------------------------------------------------------- convolution */
cr_tensor *cr_onnx_convolve(cr_onnx_call *call, cr_tensor *x, cr_tensor *weight, cr_tensor *bias) {
    cr_onnx_window w;
    if (!x || !weight || !cr_onnx_read_window(call, x, weight, &w)) return NULL;
    if (!is_even(&w)) x = pad_outside(x, &w, 0);
    cr_convolution_options o = {.size = sizeof o,
                                .strides = w.strides,
                                .paddings = w.begins,
                                .dilations = w.dilations,
                                .output_paddings = CR_ALL_DIMS,
                                .groups = cr_onnx_int(call, "group", 1)};
    return cr_convolution_with(x, weight, bias, &o);
}

static bool run_Conv(cr_onnx_call *call) {
    return cr_onnx_give(call,
                        cr_onnx_convolve(call, cr_onnx_input(call, 0), cr_onnx_input(call, 1), cr_onnx_input(call, 2)));
}
CR_ONNX_IMPORT(Conv, 1, 0)

/* ONNX's output_shape decides the padding; more padding than the result has at one end is cut off it. */
static bool run_ConvTranspose(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0), *weight = cr_onnx_input(call, 1), *bias = cr_onnx_input(call, 2);
    const char *mode = cr_onnx_text(call, "auto_pad", "NOTSET");
    cr_dims more, shape;
    cr_onnx_window w;
    if (!cr_onnx_read_window(call, x, weight, &w)) return false;
    if (!cr_onnx_dims_attribute(call, "output_padding", &more)) more = (cr_dims){w.spatial, {0}};
    const bool has_shape = cr_onnx_dims_attribute(call, "output_shape", &shape), same = !strncmp(mode, "SAME", 4);
    if (!cr_ok() || more.count != w.spatial || (has_shape && shape.count < w.spatial))
        return cr_ok() && cr_onnx_refuse(call, "output_padding or output_shape for other dims");
    for (int d = 0; d < w.spatial && (has_shape || same); d++) {
        const int64_t in = cr_size(x, d + 2), stride = w.strides.at[d],
                      out = has_shape ? shape.at[shape.count - w.spatial + d] : in * stride,
                      total = stride * (in - 1) + more.at[d] + (w.kernel.at[d] - 1) * w.dilations.at[d] + 1 - out;
        const int64_t half = total / 2;
        w.begins.at[d] = !strcmp(mode, "SAME_UPPER") ? half : total - half;
        w.ends.at[d] = total - w.begins.at[d];
        if (total < 0) w.begins.at[d] = 0, w.ends.at[d] = total;
    }
    cr_convolution_options o = {.size = sizeof o,
                                .strides = w.strides,
                                .dilations = w.dilations,
                                .transposed = true,
                                .paddings = w.begins,
                                .output_paddings = more,
                                .groups = cr_onnx_int(call, "group", 1)};
    if (is_even(&w)) return cr_onnx_give(call, cr_convolution_with(x, weight, bias, &o));
    o.paddings = o.output_paddings = (cr_dims){w.spatial, {0}};
    cr_dims begins = w.begins, ends = w.ends;
    for (int d = 0; d < w.spatial; d++) {
        begins.at[d] = -begins.at[d];
        ends.at[d] = more.at[d] - ends.at[d];
    }
    cr_tensor *y = cr_pad(cr_convolution_with(x, weight, NULL, &o), begins, ends, 0);
    for (int d = 0; bias && d < w.spatial; d++)
        bias = cr_unsqueeze(bias, -1);
    return cr_onnx_give(call, bias ? cr_add(y, bias) : y);
}
CR_ONNX_IMPORT(ConvTranspose, 1, 0)

/* ---------------------------------------------------------------- pooling */
/* Padding that ceil_mode adds behind: windows that begin inside, but reach past the end. */
static void pad_to_ceil(cr_onnx_window *w, const cr_tensor *x) {
    for (int d = 0; d < w->spatial; d++) {
        const int64_t in = cr_size(x, d + 2) + w->begins.at[d] + w->ends.at[d],
                      reach = (w->kernel.at[d] - 1) * w->dilations.at[d] + 1;
        int64_t out = (in - reach + w->strides.at[d] - 1) / w->strides.at[d] + 1;
        if ((out - 1) * w->strides.at[d] >= cr_size(x, d + 2) + w->begins.at[d]) out--;
        const int64_t end = (out - 1) * w->strides.at[d] + reach;
        if (end > in) w->ends.at[d] += end - in;
    }
}

/* Ours count positions in each channel of the padded input; ONNX in the whole tensor, or with storage_order 1 with the
 * last two dims exchanged. */
static cr_tensor *place_indices(cr_onnx_call *call, cr_tensor *indices, const cr_tensor *x, const cr_tensor *padded,
                                const cr_dims *begins) {
    const int spatial = begins->count;
    const bool by_column = cr_onnx_int(call, "storage_order", 0) == 1;
    cr_tensor *rest = indices, *place = NULL;
    int64_t step = 1, whole = 1;
    cr_dims steps = {spatial, {0}};
    for (int d = spatial - 1; d >= 0; d--)
        whole *= cr_size(x, d + 2);
    for (int d = spatial - 1; d >= 0; step *= cr_size(x, d-- + 2))
        steps.at[d] = step;
    for (int d = 0; d < spatial && by_column; d++) {
        steps.at[d] = 1;
        for (int e = 0; e < d; e++)
            steps.at[d] *= cr_size(x, e + 2);
    }
    for (int d = spatial - 1; d >= 0; d--) {
        const double size = (double)cr_size(padded, d + 2);
        cr_tensor *at = cr_sub_scalar(cr_remainder_scalar(rest, size), (double)begins->at[d]);
        at = cr_mul_scalar(at, (double)steps.at[d]);
        place = place ? cr_add(place, at) : at;
        rest = cr_floor_divide_scalar(rest, size);
    }
    cr_tensor *planes = cr_arange(CR_I64, 0, (double)(cr_size(x, 0) * cr_size(x, 1)), 1, CR_CPU);
    cr_shape shape = {spatial + 2, {cr_size(x, 0), cr_size(x, 1), 1, 1, 1}};
    return cr_add(place, cr_reshape(cr_mul_scalar(planes, (double)whole), shape));
}

static cr_tensor *lowest_pad(cr_tensor *x, cr_onnx_window *w) {
    double least = cr_dtype_is_floating(cr_dtype_of(x)) ? -INFINITY : cr_dtype_of(x) == CR_U8 ? 0 : -128;
    if (cr_dtype_of(x) == CR_I64 || cr_dtype_of(x) == CR_I32) least = INT32_MIN;
    return pad_outside(x, w, least);
}

static bool run_MaxPool(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0), *values = NULL, *indices = NULL;
    const cr_dtype dtype = cr_dtype_of(x);
    cr_onnx_window w;
    if (!cr_onnx_read_window(call, x, NULL, &w)) return false;
    if (cr_onnx_int(call, "ceil_mode", 0)) pad_to_ceil(&w, x);
    bool fits = is_even(&w) && cr_dtype_is_floating(dtype);
    for (int d = 0; d < w.spatial; d++)
        fits &= w.begins.at[d] <= w.kernel.at[d] / 2;
    const cr_dims begins = w.begins;
    cr_tensor *padded = cr_dtype_is_floating(dtype) ? x : cr_cast(x, CR_F64);
    const cr_dims none = {w.spatial, {0}};
    if (!fits) padded = lowest_pad(padded, &w);
    const cr_pool_options o = {.size = sizeof o,
                               .kernel_sizes = w.kernel,
                               .strides = w.strides,
                               .paddings = w.begins,
                               .dilations = w.dilations,
                               .dilation = 1};
    if (!cr_max_pool_with_indices(padded, w.spatial, 1, &o, &values, &indices)) return false;
    if (call->output_count > 1) indices = place_indices(call, indices, x, padded, fits ? &none : &begins);
    return cr_onnx_give(call, cr_cast(values, dtype)) && (call->output_count < 2 || cr_onnx_give_at(call, 1, indices));
}
CR_ONNX_IMPORT(MaxPool, 1, 0)

/* The sum of each window of x, which is padded already: any dilation, any padding. */
static cr_tensor *window_sums(cr_tensor *x, const cr_onnx_window *w) {
    cr_dims last = {w->spatial, {0}};
    for (int d = 0; x && d < w->spatial; d++) {
        x = cr_unfold(x, d + 2, (w->kernel.at[d] - 1) * w->dilations.at[d] + 1, w->strides.at[d]);
        x = cr_slice(x, -1, 0, INT64_MAX, w->dilations.at[d]);
        last.at[d] = d - w->spatial;
    }
    return cr_sum(x, .dims = last);
}

/* How many elements each window's mean is of. What ceil_mode adds never counts; the file's padding does if told so. */
static cr_tensor *window_counts(const cr_tensor *x, const cr_onnx_window *w, const cr_onnx_window *with_ceil,
                                bool counts_padding) {
    cr_shape shape = cr_shape_of(x);
    cr_dims begins = w->begins, ends = w->ends;
    shape.at[0] = shape.at[1] = 1;
    cr_tensor *ones = cr_pad(cr_ones(cr_dtype_of(x), shape, CR_CPU), begins, ends, counts_padding ? 1 : 0);
    for (int d = 0; d < w->spatial; d++) {
        begins.at[d] = 0;
        ends.at[d] = with_ceil->ends.at[d] - w->ends.at[d];
    }
    return window_sums(cr_pad(ones, begins, ends, 0), with_ceil);
}

static bool run_AveragePool(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    const bool counts_padding = cr_onnx_int(call, "count_include_pad", 0);
    cr_onnx_window w;
    if (!cr_onnx_read_window(call, x, NULL, &w)) return false;
    cr_onnx_window whole = w;
    if (cr_onnx_int(call, "ceil_mode", 0)) pad_to_ceil(&whole, x);
    bool is_plain = is_even(&whole);
    for (int d = 0; d < w.spatial; d++)
        is_plain &= w.begins.at[d] <= w.kernel.at[d] / 2 && w.dilations.at[d] == 1;
    if (is_plain) {
        const cr_pool_options o = {.size = sizeof o,
                                   .kernel_sizes = w.kernel,
                                   .strides = w.strides,
                                   .paddings = w.begins,
                                   .dilation = 1,
                                   .count_include_pad = counts_padding};
        return cr_onnx_give(call, w.spatial == 1   ? cr_avg_pool1d_with(x, 1, &o)
                                  : w.spatial == 2 ? cr_avg_pool2d_with(x, 1, &o)
                                                   : cr_avg_pool3d_with(x, 1, &o));
    }
    cr_tensor *counts = window_counts(x, &w, &whole, counts_padding);
    return cr_onnx_give(call, cr_div(window_sums(cr_pad(x, whole.begins, whole.ends, 0), &whole), counts));
}
CR_ONNX_IMPORT(AveragePool, 1, 0)

static cr_tensor *power_mean(cr_tensor *x, double p, cr_tensor *(*sum)(cr_tensor *, const cr_onnx_window *),
                             const cr_onnx_window *w) {
    cr_tensor *powers = p == 2 ? cr_square(x) : p == 1 ? cr_abs(x) : cr_pow_scalar(cr_abs(x), p);
    cr_tensor *total = sum(powers, w);
    return p == 2 ? cr_sqrt(total) : p == 1 ? total : cr_pow_scalar(total, 1 / p);
}

static bool run_LpPool(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    cr_onnx_window w;
    if (!cr_onnx_read_window(call, x, NULL, &w)) return false;
    if (cr_onnx_int(call, "ceil_mode", 0)) pad_to_ceil(&w, x);
    x = cr_pad(x, w.begins, w.ends, 0);
    const double p = (double)cr_onnx_int(call, "p", (int64_t)cr_onnx_float(call, "p", 2));
    return cr_onnx_give(call, power_mean(x, p, window_sums, &w));
}
CR_ONNX_IMPORT(LpPool, 1, 0)

static cr_dims spatial_dims(const cr_tensor *x) {
    cr_dims dims = {0, {0}};
    for (int d = 2; d < cr_ndim(x); d++)
        dims.at[dims.count++] = d;
    return dims;
}

static cr_tensor *sum_all(cr_tensor *x, const cr_onnx_window *w) {
    (void)w;
    return cr_sum(x, .dims = spatial_dims(x), .keepdim = true);
}

static bool has_spatial(cr_onnx_call *call) {
    return cr_ndim(call->inputs[0].tensor) > 2 || cr_onnx_refuse(call, "needs spatial dims");
}

static bool run_GlobalAveragePool(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    return has_spatial(call) && cr_onnx_give(call, cr_mean(x, .dims = spatial_dims(x), .keepdim = true));
}
CR_ONNX_IMPORT(GlobalAveragePool, 1, 0)

static bool run_GlobalMaxPool(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    return has_spatial(call) && cr_onnx_give(call, cr_amax(x, .dims = spatial_dims(x), .keepdim = true));
}
CR_ONNX_IMPORT(GlobalMaxPool, 1, 0)

static bool run_GlobalLpPool(cr_onnx_call *call) {
    const double p = (double)cr_onnx_int(call, "p", (int64_t)cr_onnx_float(call, "p", 2));
    return has_spatial(call) && cr_onnx_give(call, power_mean(cr_onnx_input(call, 0), p, sum_all, NULL));
}
CR_ONNX_IMPORT(GlobalLpPool, 1, 0)

/* Values back to the places that MaxPool found: places in the whole tensor that the windows cover. */
static bool run_MaxUnpool(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0), *places = cr_onnx_input(call, 1);
    cr_onnx_window w = {0};
    cr_shape shape = cr_shape_of(x), given = {0, {0}};
    if (!cr_onnx_read_window(call, x, NULL, &w)) return false;
    for (int d = 0; d < w.spatial; d++)
        shape.at[d + 2] = (cr_size(x, d + 2) - 1) * w.strides.at[d] + w.kernel.at[d] - w.begins.at[d] - w.ends.at[d];
    int64_t numel;
    if (!cr_onnx_dims_input(call, 2, &given) || !cr_shape_numel(shape, &numel)) return false;
    if (given.count && given.count != shape.count)
        return cr_onnx_refuse(call, "output_shape of %d numbers", given.count);
    cr_tensor *empty = cr_zeros(cr_dtype_of(x), CR_SHAPE(numel), CR_CPU);
    cr_tensor *index = cr_reshape(places, CR_SHAPE(cr_numel(places))), *values = cr_reshape(x, CR_SHAPE(cr_numel(x)));
    cr_tensor *y = cr_reshape(cr_scatter(empty, 0, index, values), shape);
    cr_dims begins = {shape.count, {0}}, ends = begins; /* output_shape may be larger than what the windows cover */
    for (int d = 0; d < given.count; d++)
        ends.at[d] = given.at[d] - shape.at[d];
    return cr_onnx_give(call, cr_pad(y, begins, ends, 0));
}
CR_ONNX_IMPORT(MaxUnpool, 9, 0)

/* ---------------------------------------------------------------- normalisation */
/* training_mode 1 also gives the new running statistics: momentum is what stays of the old ones. The module's own training
 * mode moves its statistics. Until opset 13 more results could be named; is_test said what training_mode says now. */
static bool run_BatchNormalization(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0), *mean = cr_onnx_input(call, 3), *variance = cr_onnx_input(call, 4);
    cr_tensor *weight = cr_onnx_input(call, 1), *bias = cr_onnx_input(call, 2);
    const double eps = cr_onnx_float(call, "epsilon", 1e-5f), momentum = cr_onnx_float(call, "momentum", 0.9f);
    const bool by_file = cr_onnx_int(call, "training_mode", 0);
    if (!by_file || call->output_count < 2)
        return cr_onnx_give(
            call, cr_batch_norm(x, weight, bias, mean, variance, by_file || call->run->is_training, 1 - momentum, eps));
    cr_dims dims = spatial_dims(x);
    dims.at[dims.count++] = 0;
    cr_tensor *own_mean = cr_mean(x, .dims = dims), *own_variance = cr_var(x, .dims = dims, .correction = 0);
    cr_tensor *y = cr_batch_norm(x, weight, bias, own_mean, own_variance, false, 0, eps);
    own_mean = cr_add(cr_mul_scalar(mean, momentum), cr_mul_scalar(own_mean, 1 - momentum));
    own_variance = cr_add(cr_mul_scalar(variance, momentum), cr_mul_scalar(own_variance, 1 - momentum));
    return cr_onnx_give(call, y) && cr_onnx_give_at(call, 1, own_mean) && cr_onnx_give_at(call, 2, own_variance);
}
CR_ONNX_IMPORT(BatchNormalization, 1, CR_ONNX_BLOCKS)

static bool run_InstanceNormalization(cr_onnx_call *call) {
    return cr_onnx_give(call, cr_instance_norm(cr_onnx_input(call, 0), cr_onnx_input(call, 1), cr_onnx_input(call, 2),
                                               cr_onnx_float(call, "epsilon", 1e-5f)));
}
CR_ONNX_IMPORT(InstanceNormalization, 1, 0)

static cr_shape last_dims(const cr_tensor *x, int axis) {
    cr_shape shape = {0, {0}};
    for (int d = axis; d < cr_ndim(x); d++)
        shape.at[shape.count++] = cr_size(x, d);
    return shape;
}

/* 1 / sqrt(variance + eps) over the last dims, and the mean: in f32 at least, as stash_type says. */
static bool run_LayerNormalization(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0), *weight = cr_onnx_input(call, 1), *bias = cr_onnx_input(call, 2);
    const int axis = cr_onnx_axis(call, cr_onnx_int(call, "axis", -1), cr_ndim(x));
    const double eps = cr_onnx_float(call, "epsilon", 1e-5f);
    if (axis < 0) return false;
    const cr_shape shape = last_dims(x, axis);
    if (weight && !cr_shape_equal(cr_shape_of(weight), shape)) weight = cr_contiguous(cr_expand(weight, shape));
    if (bias && !cr_shape_equal(cr_shape_of(bias), shape)) bias = cr_contiguous(cr_expand(bias, shape));
    if (!cr_onnx_give(call, cr_layer_norm(x, shape, weight, bias, eps))) return false;
    if (call->output_count < 2) return true;
    cr_dims dims = {0, {0}};
    for (int d = axis; d < cr_ndim(x); d++)
        dims.at[dims.count++] = d;
    cr_tensor *wide = cr_dtype_of(x) == CR_F64 ? x : cr_cast(x, CR_F32);
    cr_tensor *variance = cr_var(wide, .dims = dims, .keepdim = true, .correction = 0);
    return cr_onnx_give_at(call, 1, cr_mean(wide, .dims = dims, .keepdim = true)) &&
           cr_onnx_give_at(call, 2, cr_rsqrt(cr_add_scalar(variance, eps)));
}
CR_ONNX_IMPORT(LayerNormalization, 17, 0)

static bool run_RMSNormalization(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0), *weight = cr_onnx_input(call, 1);
    const int axis = cr_onnx_axis(call, cr_onnx_int(call, "axis", -1), cr_ndim(x));
    if (axis < 0) return false;
    const cr_shape shape = last_dims(x, axis);
    if (weight && !cr_shape_equal(cr_shape_of(weight), shape)) weight = cr_contiguous(cr_expand(weight, shape));
    return cr_onnx_give(call, cr_rms_norm(x, shape, weight, cr_onnx_float(call, "epsilon", 1e-5f)));
}
CR_ONNX_IMPORT(RMSNormalization, 23, 0)

/* Until opset 21 scale and bias were of groups. */
static bool run_GroupNormalization(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0), *weight = cr_onnx_input(call, 1), *bias = cr_onnx_input(call, 2);
    const int64_t groups = cr_onnx_int(call, "num_groups", 1), channels = cr_size(x, 1);
    if (groups < 1 || channels % groups) return cr_onnx_refuse(call, "%lld groups", (long long)groups);
    if (call->opset < 21) {
        weight = cr_repeat_interleave(weight, channels / groups, 0);
        bias = cr_repeat_interleave(bias, channels / groups, 0);
    }
    return cr_onnx_give(call, cr_group_norm(x, groups, weight, bias, cr_onnx_float(call, "epsilon", 1e-5f)));
}
CR_ONNX_IMPORT(GroupNormalization, 18, 0)

static bool run_LpNormalization(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    const int axis = cr_onnx_axis(call, cr_onnx_int(call, "axis", -1), cr_ndim(x));
    if (axis < 0) return false;
    cr_tensor *norm = cr_norm(x, .p = (double)cr_onnx_int(call, "p", 2), .dims = CR_DIMS(axis), .keepdim = true);
    return cr_onnx_give(call, cr_where(cr_eq_scalar(norm, 0), cr_zeros_like(x), cr_div(x, norm)));
}
CR_ONNX_IMPORT(LpNormalization, 1, 0)

/* x / (bias + alpha / size · Σ x²) ^ beta, the sum over `size` neighbouring channels (Krizhevsky et al. 2012). */
static bool run_LRN(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    const int64_t size = cr_onnx_int(call, "size", 1), before = (size - 1) / 2;
    cr_dims begins = {cr_ndim(x) - 1, {before}}, ends = {cr_ndim(x) - 1, {size - 1 - before}};
    if (size < 1 || cr_ndim(x) < 2) return cr_onnx_refuse(call, "a size of %lld", (long long)size);
    cr_tensor *sums = cr_sum(cr_unfold(cr_pad(cr_square(x), begins, ends, 0), 1, size, 1), .dims = CR_DIMS(-1));
    const double alpha = cr_onnx_float(call, "alpha", 1e-4f), beta = cr_onnx_float(call, "beta", 0.75),
                 bias = cr_onnx_float(call, "bias", 1);
    cr_tensor *scale = cr_add_scalar(cr_mul_scalar(sums, alpha / (double)size), bias);
    return cr_onnx_give(call, cr_div(x, cr_pow_scalar(scale, beta)));
}
CR_ONNX_IMPORT(LRN, 1, 0)

static bool run_MeanVarianceNormalization(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    cr_dims axes;
    if (!cr_onnx_dims_attribute(call, "axes", &axes)) axes = CR_DIMS(0, 2, 3);
    if (!cr_ok()) return false;
    cr_tensor *centred = cr_sub(x, cr_mean(x, .dims = axes, .keepdim = true));
    cr_tensor *deviation = cr_sqrt(cr_mean(cr_square(centred), .dims = axes, .keepdim = true));
    return cr_onnx_give(call, cr_div(centred, cr_add_scalar(deviation, 1e-9)));
}
CR_ONNX_IMPORT(MeanVarianceNormalization, 9, 0)

/* ---------------------------------------------------------------- losses */
/* −Σ weight[target] x[target], over what is not ignored; the mean is over the weights. */
static bool negative_log_likelihood(cr_onnx_call *call, cr_tensor *x, bool is_log_softmax) {
    cr_tensor *target = cr_cast(cr_onnx_input(call, 1), CR_I64), *weight = cr_onnx_input(call, 2);
    const char *name = cr_onnx_text(call, "reduction", "mean");
    const bool ignores = cr_onnx_attribute(call, "ignore_index") != NULL;
    cr_loss_options o = {.size = sizeof o,
                         .weight = weight,
                         .ignore_index = ignores ? cr_onnx_int(call, "ignore_index", 0) : -100,
                         .beta = 1,
                         .reduction = !strcmp(name, "mean")  ? CR_REDUCTION_MEAN
                                      : !strcmp(name, "sum") ? CR_REDUCTION_SUM
                                                             : CR_REDUCTION_NONE};
    if (!is_log_softmax && call->output_count < 2) return cr_onnx_give(call, cr_cross_entropy_with(x, target, &o));
    cr_tensor *log_probabilities = is_log_softmax ? x : cr_log_softmax(x, 1);
    return cr_onnx_give(call, cr_nll_loss_with(log_probabilities, target, &o)) &&
           (call->output_count < 2 || cr_onnx_give_at(call, 1, log_probabilities));
}

static bool run_NegativeLogLikelihoodLoss(cr_onnx_call *call) {
    return negative_log_likelihood(call, cr_onnx_input(call, 0), true);
}
CR_ONNX_IMPORT(NegativeLogLikelihoodLoss, 12, 0)
static bool run_SoftmaxCrossEntropyLoss(cr_onnx_call *call) {
    return negative_log_likelihood(call, cr_onnx_input(call, 0), false);
}
CR_ONNX_IMPORT(SoftmaxCrossEntropyLoss, 12, 0)
#endif
