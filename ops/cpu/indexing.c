/* Kernels that move elements by index. Elements are moved as bytes; sums are made in the compute type. All loops run in an
 * order that does not depend on threads. */
#include "core/parallel.h"
#include "ops/cpu/variant.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- indices */
static int64_t index_at(const cr_tensor *index, int64_t offset) {
    const void *data = index->storage->data;
    return index->dtype == CR_I64 ? ((const int64_t *)data)[offset] : ((const int32_t *)data)[offset];
}

/* Dense i64 indices, each checked against `size` and counted from the start. */
static cr_tensor *checked_indices(cr_tensor *index, int64_t size, bool allow_negative) {
    cr_tensor *dense = cr_contiguous(index), *result = dense ? cr_empty(CR_I64, cr_tensor_shape(dense), CR_CPU) : NULL;
    if (!result) return NULL;
    int64_t *to = (int64_t *)cr_tensor_address(result);
    for (int64_t i = 0; i < dense->numel; i++) {
        int64_t value = index_at(dense, dense->offset + i);
        if (value < 0 && allow_negative) value += size;
        if (value < 0 || value >= size) {
            cr_record_error(CR_ERROR_INDEX, "index %lld at position %lld is outside a dim of %lld", (long long)index_at(dense, dense->offset + i),
                            (long long)i, (long long)size);
            return NULL;
        }
        to[i] = value;
    }
    return result;
}

static int dim_of(const cr_call *call, int ndim) {
    const int64_t dim = *(const int64_t *)((const char *)call->attributes + call->op->attributes[0].offset);
    return (int)(dim < 0 ? dim + (ndim ? ndim : 1) : dim);
}

/* ---------------------------------------------------------------- gather, scatter */
/* Offsets into a dense tensor of `shape`, for each element of `index`, with index's value in `dim`. */
typedef struct walk {
    int64_t sizes[CR_MAX_DIMS], steps[CR_MAX_DIMS], at[CR_MAX_DIMS];
    int ndim, dim;
    int64_t base; /* of all dims but `dim` */
} walk;

static walk walk_over(const cr_tensor *index, const cr_tensor *data, int dim) {
    walk w = {.ndim = index->ndim, .dim = dim};
    int64_t step = 1;
    for (int d = data->ndim - 1; d >= 0; d--) {
        w.steps[d] = step;
        step *= data->sizes[d];
    }
    if (data->ndim == 0) w.steps[0] = 1;
    for (int d = 0; d < w.ndim; d++) w.sizes[d] = index->sizes[d];
    return w;
}
static void walk_on(walk *w) {
    for (int d = w->ndim - 1; d >= 0; d--) {
        if (d != w->dim) w->base += w->steps[d];
        if (++w->at[d] < w->sizes[d]) return;
        if (d != w->dim) w->base -= w->steps[d] * w->sizes[d];
        w->at[d] = 0;
    }
}

CR_KERNEL(gather) {
    const cr_tensor *out = call->outputs[0];
    cr_tensor *x = cr_contiguous(call->inputs[0]);
    const int dim = x ? dim_of(call, x->ndim) : 0;
    cr_tensor *index = x ? checked_indices(call->inputs[1], x->ndim ? x->sizes[dim] : 1, false) : NULL;
    if (!index) return false;
    const size_t bytes = cr_dtype_size((cr_dtype)x->dtype);
    const char *from = cr_tensor_address(x);
    char *to = cr_tensor_address(out);
    const int64_t *where = (const int64_t *)cr_tensor_address(index);
    walk w = walk_over(index, x, dim);
    for (int64_t i = 0; i < index->numel; i++, walk_on(&w)) memcpy(to + (size_t)i * bytes, from + (size_t)(w.base + where[i] * w.steps[dim]) * bytes, bytes);
    return true;
}

/* The source's elements that the indices cover, dense. */
static cr_tensor *covered(cr_tensor *source, const cr_tensor *index) {
    return cr_contiguous(cr_view_raw(source, cr_tensor_shape(index), cr_strides_of(source), source->offset));
}

CR_KERNEL(scatter) {
    cr_tensor *out = call->outputs[0], *index = checked_indices(call->inputs[1], out->ndim ? out->sizes[dim_of(call, out->ndim)] : 1, false);
    cr_tensor *source = index ? covered(call->inputs[2], index) : NULL;
    if (!source || !cr_copy_(out, call->inputs[0])) return false;
    const int dim = dim_of(call, out->ndim);
    const size_t bytes = cr_dtype_size((cr_dtype)out->dtype);
    const char *from = cr_tensor_address(source);
    char *to = cr_tensor_address(out);
    const int64_t *where = (const int64_t *)cr_tensor_address(index);
    walk w = walk_over(index, out, dim);
    for (int64_t i = 0; i < index->numel; i++, walk_on(&w)) memcpy(to + (size_t)(w.base + where[i] * w.steps[dim]) * bytes, from + (size_t)i * bytes, bytes);
    return true;
}

/* Sums are made in f32, f64 or i64 and cast once. */
static cr_dtype sum_dtype(const cr_tensor *t) { return t->dtype == CR_F64 ? CR_F64 : cr_dtype_is_floating((cr_dtype)t->dtype) ? CR_F32 : CR_I64; }
static void add_element(cr_dtype dtype, void *to, int64_t target, const void *from, int64_t source) {
    if (dtype == CR_F32) ((float *)to)[target] += ((const float *)from)[source];
    else if (dtype == CR_F64) ((double *)to)[target] += ((const double *)from)[source];
    else ((int64_t *)to)[target] += ((const int64_t *)from)[source];
}

CR_KERNEL(scatter_add) {
    cr_tensor *out = call->outputs[0];
    const int dim = dim_of(call, out->ndim);
    const cr_dtype dtype = sum_dtype(out);
    cr_tensor *index = checked_indices(call->inputs[1], out->ndim ? out->sizes[dim] : 1, false);
    cr_tensor *source = index ? cr_cast(covered(call->inputs[2], index), dtype) : NULL;
    cr_tensor *sums = source ? cr_copy_(cr_empty(dtype, cr_tensor_shape(out), CR_CPU), call->inputs[0]) : NULL;
    if (!sums) return false;
    const void *from = cr_tensor_address(source);
    void *to = cr_tensor_address(sums);
    const int64_t *where = (const int64_t *)cr_tensor_address(index);
    walk w = walk_over(index, out, dim);
    for (int64_t i = 0; i < index->numel; i++, walk_on(&w)) add_element(dtype, to, w.base + where[i] * w.steps[dim], from, i);
    return cr_copy_(out, sums) != NULL;
}

/* ---------------------------------------------------------------- whole slices: [outer, positions, inner] */
typedef struct slices {
    const char *from;
    char *to;
    const int64_t *where;
    int64_t count, size; /* indices, positions of the indexed dim */
    size_t inner_bytes;
    int64_t inner;
    cr_dtype dtype;
} slices;

static void select_slices(void *context, int64_t begin, int64_t end) {
    const slices *s = context;
    for (int64_t k = begin; k < end; k++) {
        const int64_t outer = k / s->count, i = k % s->count;
        memcpy(s->to + (size_t)k * s->inner_bytes, s->from + (size_t)(outer * s->size + s->where[i]) * s->inner_bytes, s->inner_bytes);
    }
}

static int64_t inner_of(const cr_tensor *t, int dim) {
    int64_t inner = 1;
    for (int d = dim + 1; d < t->ndim; d++) inner *= t->sizes[d];
    return inner;
}

CR_KERNEL(index_select) {
    const cr_tensor *out = call->outputs[0];
    cr_tensor *x = cr_contiguous(call->inputs[0]);
    const int dim = x ? dim_of(call, x->ndim) : 0;
    cr_tensor *index = x ? checked_indices(call->inputs[1], x->sizes[dim], false) : NULL;
    if (!index) return false;
    if (out->numel == 0) return true;
    const int64_t inner = inner_of(x, dim);
    slices s = {.from = cr_tensor_address(x),
                .to = cr_tensor_address(out),
                .where = cr_tensor_address(index),
                .count = index->numel,
                .size = x->sizes[dim],
                .inner_bytes = (size_t)inner * cr_dtype_size((cr_dtype)x->dtype)};
    cr_parallel_for(out->numel / inner, CR_GRAIN_ELEMENTS / (inner < CR_GRAIN_ELEMENTS ? inner : CR_GRAIN_ELEMENTS), select_slices, &s);
    return true;
}

/* Threads share the columns, so each element's sum is made in the order of the indices. */
static void add_columns(void *context, int64_t begin, int64_t end) {
    const slices *s = context;
    const int64_t outer_count = s->size, positions = (int64_t)s->inner_bytes;
    for (int64_t outer = 0; outer < outer_count; outer++) {
        for (int64_t i = 0; i < s->count; i++) {
            const int64_t from = (outer * s->count + i) * s->inner, to = (outer * positions + s->where[i]) * s->inner;
            for (int64_t c = begin; c < end; c++) add_element(s->dtype, s->to, to + c, s->from, from + c);
        }
    }
}

CR_KERNEL(index_add) {
    cr_tensor *out = call->outputs[0];
    const int dim = dim_of(call, out->ndim);
    const cr_dtype dtype = sum_dtype(out);
    cr_tensor *index = checked_indices(call->inputs[1], out->sizes[dim], false);
    cr_tensor *source = index ? cr_contiguous(cr_cast(call->inputs[2], dtype)) : NULL;
    cr_tensor *sums = source ? cr_copy_(cr_empty(dtype, cr_tensor_shape(out), CR_CPU), call->inputs[0]) : NULL;
    if (!sums) return false;
    const int64_t inner = inner_of(out, dim);
    int64_t outer = 1;
    for (int d = 0; d < dim; d++) outer *= out->sizes[d];
    slices s = {.from = cr_tensor_address(source), .to = cr_tensor_address(sums), .where = cr_tensor_address(index), .count = index->numel,
                .size = outer, .inner_bytes = (size_t)out->sizes[dim], .inner = inner, .dtype = dtype};
    cr_parallel_for(inner, CR_GRAIN_ELEMENTS / (index->numel * outer + 1), add_columns, &s);
    return cr_copy_(out, sums) != NULL;
}

/* ---------------------------------------------------------------- nonzero */
CR_KERNEL(nonzero) {
    const cr_tensor *out = call->outputs[0];
    cr_tensor *flags = cr_contiguous(cr_ne_scalar(call->inputs[0], 0));
    if (!flags) return false;
    const uint8_t *flag = cr_tensor_address(flags);
    int64_t *to = (int64_t *)cr_tensor_address(out);
    for (int64_t i = 0, row = 0; i < flags->numel; i++) {
        if (!flag[i]) continue;
        int64_t rest = i;
        for (int d = flags->ndim - 1; d >= 0; d--) {
            to[row * flags->ndim + d] = rest % flags->sizes[d];
            rest /= flags->sizes[d];
        }
        row++;
    }
    return true;
}

/* ---------------------------------------------------------------- argsort: stable merge sort of each line by f64 or i64 keys */
typedef struct sort_job {
    const void *keys;
    bool is_float, descending;
    int64_t length, inner;
    int64_t *out;
    int64_t *scratch; /* [threads' lines]: 2 · length for each line */
} sort_job;

static int compare_keys(const sort_job *job, int64_t a, int64_t b) {
    if (!job->is_float) {
        const int64_t x = ((const int64_t *)job->keys)[a], y = ((const int64_t *)job->keys)[b];
        return (x > y) - (x < y);
    }
    const double x = ((const double *)job->keys)[a], y = ((const double *)job->keys)[b];
    const int x_nan = x != x, y_nan = y != y; /* NaN counts as the largest */
    return x_nan | y_nan ? x_nan - y_nan : (x > y) - (x < y);
}

/* Bottom-up: runs of 1, 2, 4, … merged between two buffers; returns the one that holds the result. */
static int64_t *merge_sort(const sort_job *job, int64_t base, int64_t *a, int64_t *b) {
    const int64_t n = job->length;
    for (int64_t i = 0; i < n; i++) a[i] = i;
    for (int64_t width = 1; width < n; width *= 2) {
        for (int64_t start = 0; start < n; start += 2 * width) {
            const int64_t middle = start + width < n ? start + width : n, end = start + 2 * width < n ? start + 2 * width : n;
            int64_t left = start, right = middle;
            for (int64_t k = start; k < end; k++) {
                bool take_left = right >= end;
                if (left < middle && right < end) {
                    const int order = compare_keys(job, base + a[left] * job->inner, base + a[right] * job->inner);
                    take_left = job->descending ? order >= 0 : order <= 0;
                }
                b[k] = take_left ? a[left++] : a[right++];
            }
        }
        int64_t *swap = a;
        a = b;
        b = swap;
    }
    return a;
}

static void sort_lines(void *context, int64_t begin, int64_t end) {
    const sort_job *job = context;
    for (int64_t line = begin; line < end; line++) {
        const int64_t base = line / job->inner * job->length * job->inner + line % job->inner;
        int64_t *a = job->scratch + line * 2 * job->length;
        const int64_t *sorted = merge_sort(job, base, a, a + job->length);
        for (int64_t i = 0; i < job->length; i++) job->out[base + i * job->inner] = sorted[i];
    }
}

CR_KERNEL(argsort) {
    cr_tensor *out = call->outputs[0], *input = call->inputs[0];
    const bool is_float = cr_dtype_is_floating((cr_dtype)input->dtype);
    cr_tensor *keys = cr_contiguous(cr_cast(input, is_float ? CR_F64 : CR_I64));
    cr_tensor *scratch = keys ? cr_empty(CR_I64, CR_SHAPE(2 * (input->numel + 1)), CR_CPU) : NULL;
    if (!scratch) return false;
    if (input->numel == 0) return true;
    const int dim = dim_of(call, input->ndim);
    const bool *descending = (const bool *)((const char *)call->attributes + call->op->attributes[1].offset);
    sort_job job = {.keys = cr_tensor_address(keys), .is_float = is_float, .descending = *descending,
                    .length = input->ndim ? input->sizes[dim] : 1, .inner = input->ndim ? inner_of(input, dim) : 1,
                    .out = cr_tensor_address(out), .scratch = cr_tensor_address(scratch)};
    cr_parallel_for(input->numel / job.length, 2048 / job.length, sort_lines, &job);
    return true;
}
