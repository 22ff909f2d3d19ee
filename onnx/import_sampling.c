/* Images read at computed places: grids, regions, boxes. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/import.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- reading at places */
enum { MOST_SPATIAL = 3 };

/* x [N, C, spatial…] at whole positions at[d] [N, P] (i64, inside): [N, C, P]. */
static cr_tensor *read_at(cr_tensor *x, cr_tensor *const *at, int spatial) {
    const int64_t n = cr_size(x, 0), c = cr_size(x, 1);
    cr_tensor *flat = NULL;
    for (int d = 0; d < spatial; d++)
        flat = flat ? cr_add(cr_mul_scalar(flat, (double)cr_size(x, d + 2)), at[d]) : at[d];
    cr_tensor *index = cr_expand(cr_unsqueeze(flat, 1), CR_SHAPE(n, c, cr_size(flat, 1)));
    return cr_gather(cr_flatten(x, 2, -1), 2, cr_contiguous(index));
}

typedef struct sampling {
    const char *mode, *padding;
    bool aligns_corners;
} sampling;

/* Back and forth between the outermost places, as often as needed. */
static cr_tensor *reflect(const sampling *s, cr_tensor *place, int64_t size) {
    const double least = s->aligns_corners ? 0 : -0.5, range = s->aligns_corners ? (double)(size - 1) : (double)size;
    if (range <= 0) return cr_zeros_like(place);
    cr_tensor *far = cr_remainder_scalar(cr_sub_scalar(place, least), 2 * range);
    return cr_add_scalar(cr_minimum(far, cr_add_scalar(cr_neg(far), 2 * range)), least);
}

/* Element `k` of those around a place in each dim: its share of the result, [N, C, P]. */
static cr_tensor *share(const sampling *s, cr_tensor *x, cr_tensor *const *place, int spatial, const int *k) {
    cr_tensor *at[MOST_SPATIAL], *weight = NULL;
    for (int d = 0; d < spatial; d++) {
        const double last = (double)(cr_size(x, d + 2) - 1);
        const bool is_nearest = !strcmp(s->mode, "nearest");
        cr_tensor *whole = is_nearest ? cr_round(place[d]) : cr_add_scalar(cr_floor(place[d]), k[d]);
        cr_tensor *own = is_nearest ? cr_ones_like(whole)
                                    : cr_onnx_filter(cr_sub(whole, place[d]), !strcmp(s->mode, "cubic"), -0.75);
        if (!strcmp(s->padding, "zeros"))
            own = cr_where(cr_logical_and(cr_ge_scalar(whole, 0), cr_le_scalar(whole, last)), own, cr_zeros_like(own));
        if (!strcmp(s->padding, "reflection")) whole = cr_round(reflect(s, whole, cr_size(x, d + 2)));
        at[d] = cr_cast(cr_clamp(whole, 0, last), CR_I64);
        weight = weight ? cr_mul(weight, own) : own;
    }
    return cr_mul(read_at(x, at, spatial), cr_cast(cr_unsqueeze(weight, 1), cr_dtype_of(x)));
}

/* x at places[d] [N, P] (f64): [N, C, P]. */
static cr_tensor *sample(const sampling *s, cr_tensor *x, cr_tensor *const *places, int spatial) {
    const bool is_cubic = !strcmp(s->mode, "cubic"), is_nearest = !strcmp(s->mode, "nearest");
    const int each = is_cubic ? 4 : is_nearest ? 1 : 2;
    int count = 1;
    cr_tensor *result = NULL;
    for (int d = 0; d < spatial; d++)
        count *= each;
    for (int i = 0; i < count; i++) {
        int k[MOST_SPATIAL], rest = i;
        for (int d = 0; d < spatial; d++, rest /= each)
            k[d] = rest % each - is_cubic;
        cr_tensor *part = share(s, x, places, spatial, k);
        result = result ? cr_add(result, part) : part;
    }
    return result;
}

/* grid [N, out…, spatial] holds places from -1 to 1, the last dim's first. */
static bool run_GridSample(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0), *grid = cr_cast(cr_onnx_input(call, 1), CR_F64), *places[MOST_SPATIAL];
    const int spatial = cr_ndim(x) - 2;
    const char *mode = cr_onnx_text(call, "mode", "bilinear");
    sampling s = {!strcmp(mode, "bilinear")  ? "linear"
                  : !strcmp(mode, "bicubic") ? "cubic"
                                             : mode,
                  cr_onnx_text(call, "padding_mode", "zeros"), cr_onnx_int(call, "align_corners", 0) != 0};
    if (spatial < 1 || spatial > MOST_SPATIAL || cr_ndim(grid) != cr_ndim(x) || cr_size(grid, -1) != spatial)
        return cr_onnx_refuse(call, "needs x [N, C, …] and a grid [N, …, %d]", spatial);
    cr_shape shape = cr_shape_of(x);
    for (int d = 0; d < spatial; d++)
        shape.at[d + 2] = cr_size(grid, d + 1);
    for (int d = 0; d < spatial; d++) {
        const double size = (double)cr_size(x, d + 2);
        cr_tensor *g = cr_flatten(cr_select(grid, -1, spatial - 1 - d), 1, -1);
        g = s.aligns_corners ? cr_mul_scalar(cr_add_scalar(g, 1), (size - 1) / 2)
                             : cr_sub_scalar(cr_mul_scalar(cr_add_scalar(g, 1), size / 2), 0.5);
        if (!strcmp(s.padding, "border")) g = cr_clamp(g, 0, size - 1);
        if (!strcmp(s.padding, "reflection") && strcmp(s.mode, "cubic") != 0)
            g = cr_clamp(reflect(&s, g, cr_size(x, d + 2)), 0, size - 1);
        places[d] = g;
    }
    return cr_onnx_give(call, cr_reshape(sample(&s, x, places, spatial), shape));
}
CR_ONNX_IMPORT(GridSample, 16, 0)

/* ---------------------------------------------------------------- deformable convolution (Dai et al. 2017) */
/* Where element `k` of the kernel reads for each result: [N, out area], with the offsets of one group, [N, 2, area]. */
static void deformed_places(const cr_onnx_window *w, const cr_shape *out, cr_tensor *offset, const int64_t *k,
                            cr_tensor **places) {
    for (int d = 0; d < 2; d++) {
        cr_tensor *base = cr_mul_scalar(cr_arange(CR_F64, 0, (double)out->at[d], 1, CR_CPU), (double)w->strides.at[d]);
        base = cr_add_scalar(base, (double)(k[d] * w->dilations.at[d] - w->begins.at[d]));
        base = cr_expand(d ? cr_unsqueeze(base, 0) : cr_unsqueeze(base, 1), *out);
        places[d] = cr_add(cr_reshape(cr_contiguous(base), CR_SHAPE(-1)), cr_cast(cr_select(offset, 1, d), CR_F64));
    }
}

/* x [N, C, H, W], weight [K, C / group, kh, kw], offset [N, offset_group · kh · kw · 2, oh, ow], bias?, mask?. */
static bool run_DeformConv(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0), *weight = cr_onnx_input(call, 1), *offset = cr_onnx_input(call, 2),
              *bias = cr_onnx_input(call, 3), *mask = cr_onnx_input(call, 4);
    const int64_t groups = cr_onnx_int(call, "group", 1), offset_groups = cr_onnx_int(call, "offset_group", 1);
    cr_onnx_window w;
    if (!cr_onnx_read_window(call, x, weight, &w)) return false;
    if (w.spatial != 2 || groups < 1 || offset_groups < 1 || cr_ndim(offset) != 4)
        return cr_onnx_refuse(call, "needs images");
    const int64_t n = cr_size(x, 0), c = cr_size(x, 1) / offset_groups, kernel = w.kernel.at[0] * w.kernel.at[1];
    const cr_shape out = CR_SHAPE(cr_size(offset, 2), cr_size(offset, 3));
    const int64_t area = out.at[0] * out.at[1], outputs = cr_size(weight, 0);
    cr_tensor *parts[CR_ONNX_MOST_OPERANDS];
    if (kernel * offset_groups > CR_ONNX_MOST_OPERANDS)
        return cr_onnx_refuse(call, "a kernel of %lld", (long long)kernel);
    offset = cr_reshape(offset, CR_SHAPE(n, offset_groups, kernel, 2, area));
    if (mask) mask = cr_reshape(mask, CR_SHAPE(n, offset_groups, kernel, 1, area));
    const sampling s = {"linear", "zeros", false};
    for (int64_t i = 0; i < offset_groups * kernel; i++) { /* each [N, c, area] */
        const int64_t g = i / kernel, k = i % kernel, at[] = {k / w.kernel.at[1], k % w.kernel.at[1]};
        cr_tensor *places[2];
        deformed_places(&w, &out, cr_select(cr_select(offset, 1, g), 1, k), at, places);
        parts[i] = sample(&s, cr_narrow(x, 1, g * c, c), places, 2);
        if (mask) parts[i] = cr_mul(parts[i], cr_select(cr_select(mask, 1, g), 1, k));
    }
    cr_tensor *columns[CR_ONNX_MOST_OPERANDS];
    for (int64_t g = 0; g < offset_groups; g++)
        columns[g] = cr_stack(parts + g * kernel, (int)kernel, 2); /* [N, c, kernel, area] */
    cr_tensor *all = cr_reshape(cr_cat(columns, (int)offset_groups, 1), CR_SHAPE(n, groups, -1, area));
    cr_tensor *y = cr_matmul(cr_reshape(weight, CR_SHAPE(groups, outputs / groups, -1)), all);
    y = cr_reshape(y, CR_SHAPE(n, outputs, out.at[0], out.at[1]));
    return cr_onnx_give(call, bias ? cr_add(y, cr_reshape(bias, CR_SHAPE(-1, 1, 1))) : y);
}
CR_ONNX_IMPORT(DeformConv, 19, 0)

/* ---------------------------------------------------------------- grids */
/* theta [N, d, d+1] times the places of each pixel, from -1 to 1: [N, size…, d]. */
static bool run_AffineGrid(cr_onnx_call *call) {
    cr_tensor *theta = cr_onnx_input(call, 0), *axes[MOST_SPATIAL + 1], *grids[MOST_SPATIAL + 1];
    const bool aligns = cr_onnx_int(call, "align_corners", 0);
    cr_shape size;
    if (!cr_onnx_dims_input(call, 1, &size)) return false;
    const int spatial = size.count - 2;
    if (spatial < 2 || spatial > MOST_SPATIAL) return cr_onnx_refuse(call, "needs 2 or 3 spatial dims");
    const cr_dtype dtype = cr_dtype_of(theta);
    for (int d = 0; d < spatial; d++) {
        const int64_t n = size.at[d + 2];
        const double step = aligns ? (n > 1 ? 2.0 / (double)(n - 1) : 0) : 2.0 / (double)n,
                     first = aligns ? -1 : -1 + step / 2;
        axes[d] = cr_cast(cr_add_scalar(cr_mul_scalar(cr_arange(CR_F64, 0, (double)n, 1, CR_CPU), step), first), dtype);
    }
    if (!cr_meshgrid(axes, spatial, grids)) return false;
    cr_tensor *columns[MOST_SPATIAL + 1];
    for (int d = 0; d < spatial; d++)
        columns[d] = cr_reshape(grids[spatial - 1 - d], CR_SHAPE(-1));
    columns[spatial] = cr_ones_like(columns[0]);
    cr_tensor *places = cr_stack(columns, spatial + 1, 1), *result = cr_matmul(places, cr_transpose(theta, 1, 2));
    cr_shape shape = {spatial + 2, {size.at[0]}};
    for (int d = 0; d < spatial; d++)
        shape.at[d + 1] = size.at[d + 2];
    shape.at[spatial + 1] = spatial;
    return cr_onnx_give(call, cr_reshape(result, shape));
}
CR_ONNX_IMPORT(AffineGrid, 20, CR_ONNX_GROWS)

/* ---------------------------------------------------------------- regions (He et al., Mask R-CNN, 2017) */
/* Places along one axis for all regions: [R, out · ratio], from region begins and sizes [R]. */
static cr_tensor *region_places(cr_tensor *begin, cr_tensor *size, int64_t out, int64_t ratio) {
    cr_tensor *steps = cr_mul_scalar(cr_add_scalar(cr_arange(CR_F64, 0, (double)(out * ratio), 1, CR_CPU), 0.5),
                                     1.0 / (double)(out * ratio));
    return cr_add(cr_unsqueeze(begin, 1), cr_mul(cr_unsqueeze(size, 1), steps));
}

/* A place more than a pixel outside counts as 0. */
static cr_tensor *is_near(cr_tensor *place, int64_t size) {
    return cr_logical_and(cr_ge_scalar(place, -1), cr_le_scalar(place, (double)size));
}

typedef struct region_options {
    int64_t height, width, ratio;
    double scale, shift;
    bool is_max, keeps_small;
} region_options;

/* x [N, C, H, W], regions [R, 4] as x1 y1 x2 y2, batch [R]: [R, C, height, width]. */
static cr_tensor *align_regions(cr_tensor *x, cr_tensor *regions, cr_tensor *batch, const region_options *o) {
    const int64_t r = cr_size(regions, 0), c = cr_size(x, 1), h = cr_size(x, 2), w = cr_size(x, 3);
    cr_tensor *scaled = cr_sub_scalar(cr_mul_scalar(cr_cast(regions, CR_F64), o->scale), o->shift), *begin[2], *size[2],
              *places[2];
    for (int d = 0; d < 2; d++) { /* 0: y, 1: x */
        begin[d] = cr_select(scaled, 1, 1 - d);
        size[d] = cr_sub(cr_select(scaled, 1, 3 - d), begin[d]);
        if (!o->keeps_small) size[d] = cr_clamp(size[d], 1, INFINITY);
        places[d] = region_places(begin[d], size[d], d ? o->width : o->height, o->ratio);
    }
    const int64_t ny = o->height * o->ratio, nx = o->width * o->ratio, points = ny * nx;
    cr_tensor *at[2] = {cr_unsqueeze(places[0], 2), cr_unsqueeze(places[1], 1)}, *flat[2];
    cr_tensor *near = cr_logical_and(is_near(at[0], h), is_near(at[1], w));
    for (int d = 0; d < 2; d++) {
        const double last = (double)((d ? w : h) - 1);
        flat[d] =
            cr_reshape(cr_contiguous(cr_expand(cr_clamp(at[d], 0, last), CR_SHAPE(r, ny, nx))), CR_SHAPE(r, points));
    }
    cr_tensor *images = cr_index_select(x, 0, cr_cast(batch, CR_I64)), *values = NULL;
    cr_tensor *mask = cr_cast(cr_reshape(near, CR_SHAPE(r, 1, points)), cr_dtype_of(x));
    const sampling s = {"linear", "border", false};
    if (!o->is_max) values = sample(&s, images, flat, 2);
    for (int i = 0; o->is_max && i < 4; i++) { /* the greatest share of all elements around all places */
        cr_tensor *part = share(&s, images, flat, 2, (const int[]){i / 2, i % 2});
        values = values ? cr_maximum(values, part) : part;
    }
    values = cr_reshape(cr_mul(values, mask), CR_SHAPE(r, c, o->height, o->ratio, o->width, o->ratio));
    return o->is_max ? cr_amax(values, .dims = CR_DIMS(3, 5)) : cr_mean(values, .dims = CR_DIMS(3, 5));
}

/* sampling_ratio 0: as many places as a region has pixels for each result, region by region. */
static cr_tensor *align_each(cr_onnx_call *call, cr_tensor *x, region_options o) {
    cr_tensor *regions = cr_onnx_input(call, 1), *batch = cr_onnx_input(call, 2), *parts[1024];
    enum { MOST = 1024 };
    double numbers[4 * MOST];
    const int count = cr_onnx_floats(call, 1, numbers, 4 * MOST) / 4;
    if (!cr_ok()) return NULL;
    for (int i = 0; i < count; i++) {
        const double *n = numbers + 4 * (ptrdiff_t)i;
        double height = (n[3] - n[1]) * o.scale, width = (n[2] - n[0]) * o.scale;
        if (!o.keeps_small) height = fmax(height, 1), width = fmax(width, 1);
        const double most = fmax(ceil(height / (double)o.height), ceil(width / (double)o.width));
        o.ratio = most >= 1 ? (int64_t)most : 1;
        parts[i] = align_regions(x, cr_narrow(regions, 0, i, 1), cr_narrow(batch, 0, i, 1), &o);
    }
    return cr_cat(parts, count, 0);
}

static bool run_RoiAlign(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    const char *mode =
        cr_onnx_text(call, "coordinate_transformation_mode", call->opset < 16 ? "output_half_pixel" : "half_pixel");
    const bool is_half = !strcmp(mode, "half_pixel");
    const region_options o = {cr_onnx_int(call, "output_height", 1),
                              cr_onnx_int(call, "output_width", 1),
                              cr_onnx_int(call, "sampling_ratio", 0),
                              cr_onnx_float(call, "spatial_scale", 1),
                              is_half ? 0.5 : 0,
                              !strcmp(cr_onnx_text(call, "mode", "avg"), "max"),
                              is_half};
    if (cr_ndim(x) != 4 || o.height < 1 || o.width < 1 || o.ratio < 0) return cr_onnx_refuse(call, "its sizes");
    return cr_onnx_give(call, o.ratio ? align_regions(x, cr_onnx_input(call, 1), cr_onnx_input(call, 2), &o)
                                      : align_each(call, x, o));
}
CR_ONNX_IMPORT(RoiAlign, 10, 0)

/* ---------------------------------------------------------------- boxes */
/* Intersection over union; corners in any order, or centre and sizes. */
static double overlap(const float *a, const float *b, bool is_centre) {
    double low[2][2], high[2][2], area[2], common = 1;
    const float *boxes[] = {a, b};
    for (int k = 0; k < 2; k++) {
        for (int d = 0; d < 2; d++) {
            const double p = (double)boxes[k][d], q = (double)boxes[k][d + 2];
            low[k][d] = is_centre ? p - q / 2 : fmin(p, q);
            high[k][d] = is_centre ? p + q / 2 : fmax(p, q);
        }
        area[k] = (high[k][0] - low[k][0]) * (high[k][1] - low[k][1]);
    }
    for (int d = 0; d < 2; d++)
        common *= fmax(0, fmin(high[0][d], high[1][d]) - fmax(low[0][d], low[1][d]));
    const double whole = area[0] + area[1] - common;
    return whole > 0 ? common / whole : 0;
}

typedef struct candidate {
    float score;
    int64_t box;
} candidate;

static int by_score(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->box < y->box ? -1 : x->box > y->box;
}

/* The boxes of one class in order of score, without those that overlap a better one. Returns how many were kept. */
static int64_t suppress(const float *boxes, const float *scores, int64_t count, int64_t most, double most_overlap,
                        double least_score, bool has_least, bool is_centre, candidate *work, int64_t *kept) {
    int64_t used = 0, candidates = 0;
    for (int64_t i = 0; i < count; i++)
        if (!has_least || (double)scores[i] > least_score) work[candidates++] = (candidate){scores[i], i};
    qsort(work, (size_t)candidates, sizeof *work, by_score);
    for (int64_t i = 0; i < candidates && used < most; i++) {
        bool is_free = true;
        for (int64_t k = 0; is_free && k < used; k++)
            is_free = overlap(boxes + 4 * work[i].box, boxes + 4 * kept[k], is_centre) <= most_overlap;
        if (is_free) kept[used++] = work[i].box;
    }
    return used;
}

/* boxes [N, B, 4], scores [N, C, B]: rows of (batch, class, box). */
static bool run_NonMaxSuppression(cr_onnx_call *call) {
    double most = 0, most_overlap = 0, least_score = 0;
    if (!cr_onnx_number(call, "", 2, 10, &most) || !cr_onnx_number(call, "", 3, 10, &most_overlap) ||
        !cr_onnx_number(call, "", 4, 10, &least_score))
        return false;
    cr_tensor *boxes = cr_contiguous(cr_cast(cr_onnx_input(call, 0), CR_F32)),
              *scores = cr_contiguous(cr_cast(cr_onnx_input(call, 1), CR_F32));
    if (cr_ndim(boxes) != 3 || cr_ndim(scores) != 3 || cr_size(boxes, 2) != 4 ||
        cr_size(scores, 2) != cr_size(boxes, 1))
        return cr_onnx_refuse(call, "needs boxes [N, B, 4] and scores [N, C, B]");
    const int64_t n = cr_size(scores, 0), classes = cr_size(scores, 1), count = cr_size(scores, 2);
    const int64_t each = most < (double)count ? (int64_t)most : count;
    candidate *work = cr_malloc((size_t)(count + 1) * sizeof *work);
    int64_t *kept = cr_malloc((size_t)(count + 1) * sizeof *kept), used = 0;
    int64_t *rows = cr_malloc((size_t)(3 * n * classes * each + 1) * sizeof *rows);
    for (int64_t i = 0; work && kept && rows && i < n * classes; i++) {
        const int64_t found =
            suppress(cr_data_f32(boxes) + i / classes * count * 4, cr_data_f32(scores) + i * count, count, each,
                     most_overlap, least_score, call->input_count > 4 && call->inputs[4].tensor,
                     cr_onnx_int(call, "center_point_box", 0) == 1, work, kept);
        for (int64_t k = 0; k < found; k++, used++)
            rows[3 * used] = i / classes, rows[3 * used + 1] = i % classes, rows[3 * used + 2] = kept[k];
    }
    cr_tensor *result = work && kept && rows ? cr_from_data(CR_I64, CR_SHAPE(used, 3), rows) : NULL;
    cr_free(work);
    cr_free(kept);
    cr_free(rows);
    return cr_onnx_give(call, result);
}
CR_ONNX_IMPORT(NonMaxSuppression, 10, CR_ONNX_GROWS | CR_ONNX_VALUES)

/* ---------------------------------------------------------------- blocks back to an image */
/* x [N, C · block, L]: windows of `block_shape` at every stride, added where they overlap (the inverse of unfolding). */
static bool run_Col2Im(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0), *index = NULL;
    cr_dims image, block, strides, dilations, pads[2] = {{0}};
    if (!cr_onnx_dims_input(call, 1, &image) || !cr_onnx_dims_input(call, 2, &block)) return false;
    const int spatial = image.count;
    const cr_dims ones = {spatial, {1, 1, 1, 1, 1, 1, 1, 1}};
    const CrOnnx__AttributeProto *given = cr_onnx_attribute(call, "pads");
    if (!cr_onnx_dims_attribute(call, "strides", &strides)) strides = ones;
    if (!cr_onnx_dims_attribute(call, "dilations", &dilations)) dilations = ones;
    if (!cr_ok()) return false;
    if (spatial < 1 || spatial > 4 || block.count != spatial || strides.count != spatial ||
        dilations.count != spatial || cr_ndim(x) != 3 || (given && given->n_ints != 2 * (size_t)spatial))
        return cr_onnx_refuse(call, "lists for other than %d dims", spatial);
    cr_shape padded = image;
    int64_t kernel = 1, area = 1;
    for (int d = 0; d < spatial; d++) {
        pads[0].at[d] = given ? given->ints[d] : 0;
        pads[1].at[d] = given ? given->ints[spatial + d] : 0;
        padded.at[d] += pads[0].at[d] + pads[1].at[d];
        kernel *= block.at[d];
        area *= padded.at[d];
    }
    for (int d = 0; d < spatial; d++) { /* of each element of each window: block dims, then window dims */
        const int64_t windows = (padded.at[d] - dilations.at[d] * (block.at[d] - 1) - 1) / strides.at[d] + 1;
        cr_tensor *inside =
            cr_mul_scalar(cr_arange(CR_I64, 0, (double)block.at[d], 1, CR_CPU), (double)dilations.at[d]);
        cr_tensor *begin = cr_mul_scalar(cr_arange(CR_I64, 0, (double)windows, 1, CR_CPU), (double)strides.at[d]);
        cr_tensor *place = cr_add(cr_unsqueeze(inside, 1), begin); /* [block, windows] */
        if (!index) {
            index = place;
            continue;
        }
        const int64_t b = cr_size(index, 0), l = cr_size(index, 1);
        cr_tensor *outer = cr_mul_scalar(cr_reshape(index, CR_SHAPE(b, 1, l, 1)), (double)padded.at[d]);
        place = cr_add(outer, cr_reshape(place, CR_SHAPE(1, block.at[d], 1, windows)));
        index = cr_reshape(cr_contiguous(place), CR_SHAPE(b * block.at[d], l * windows));
    }
    const int64_t n = cr_size(x, 0), c = cr_size(x, 1) / kernel, elements = cr_numel(index);
    if (c * kernel != cr_size(x, 1) || cr_size(x, 2) * kernel != elements)
        return cr_onnx_refuse(call, "windows that do not fit");
    cr_tensor *flat = cr_zeros(cr_dtype_of(x), CR_SHAPE(area, n * c), CR_CPU);
    cr_tensor *columns = cr_transpose(cr_reshape(cr_contiguous(x), CR_SHAPE(n * c, elements)), 0, 1);
    flat = cr_index_add(flat, 0, cr_reshape(index, CR_SHAPE(elements)), cr_contiguous(columns));
    cr_shape shape = {spatial + 2, {n, c}};
    cr_dims before = {spatial, {0}}, after = {spatial, {0}};
    for (int d = 0; d < spatial; d++) {
        shape.at[d + 2] = padded.at[d];
        before.at[d] = -pads[0].at[d];
        after.at[d] = -pads[1].at[d];
    }
    return cr_onnx_give(call, cr_pad(cr_reshape(cr_transpose(flat, 0, 1), shape), before, after, 0));
}
CR_ONNX_IMPORT(Col2Im, 18, 0)
#endif
