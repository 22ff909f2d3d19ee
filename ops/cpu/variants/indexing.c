/* Kernels that move elements by index. Every index is checked before it is used. Writes that may meet are made in the
 * order of the indices, whatever the number of threads. */
#include "core/dtype.h"
#include "core/parallel.h"
#include "ops/cpu/variant.h"
#include "ops/indexing.h"

#include <stdatomic.h>
#include <string.h>

enum { CHUNK = 2048, COLUMNS = 32 };

/* ---------------------------------------------------------------- indices */
static int dim_of(const cr_call *call, int ndim) {
    const int64_t dim = ((const cr_gather_options *)call->attributes)->dim;
    return (int)(dim < 0 ? dim + (ndim ? ndim : 1) : dim);
}
static cr_tensor *dense_indices(cr_tensor *index) { return cr_contiguous(cr_cast(index, CR_I64)); }

static bool all_within(const int64_t *index, int64_t count, int64_t size) {
    uint64_t bad = 0;
    for (int64_t i = 0; i < count; i++)
        bad |= (uint64_t)((uint64_t)index[i] >= (uint64_t)size);
    return !bad;
}

/* Says which index is outside; false. */
static bool fail_index(const cr_tensor *index, int64_t size) {
    const int64_t *value = cr_tensor_address(index);
    int64_t at = 0;
    while (at < index->numel - 1 && value[at] >= 0 && value[at] < size)
        at++;
    return cr_fail(CR_ERROR_INDEX, "index %lld at position %lld is outside a dim of %lld", (long long)value[at],
                   (long long)at, (long long)size);
}

static int64_t product(const cr_tensor *t, int from, int to) {
    int64_t result = 1;
    for (int d = from; d < to; d++)
        result *= t->sizes[d];
    return result;
}

/* ---------------------------------------------------------------- one run of indices
 * Element e of a run stands for plane[index[e] · step + e · advance]. */
typedef void (*run_function)(char *plane, int64_t step, int64_t advance, const int64_t *index, char *flat,
                             int64_t count);

#define RUN(name, T, ...)                                                                                              \
    static void name##_##T(char *plane, int64_t step, int64_t advance, const int64_t *index, char *flat,               \
                           int64_t count) {                                                                            \
        T *const x = (T *)(void *)plane, *const y = (T *)(void *)flat;                                                 \
        if (step == 1 && advance == 0)                                                                                 \
            for (int64_t e = 0; e < count; e++) {                                                                      \
                const int64_t at = index[e];                                                                           \
                __VA_ARGS__;                                                                                           \
            }                                                                                                          \
        else                                                                                                           \
            for (int64_t e = 0; e < count; e++) {                                                                      \
                const int64_t at = index[e] * step + e * advance;                                                      \
                __VA_ARGS__;                                                                                           \
            }                                                                                                          \
    }
#define RUNS_OF_WIDTH(T) RUN(take, T, y[e] = x[at]) RUN(put, T, x[at] = y[e]) RUN(add, T, x[at] = (T)(x[at] + y[e]))
RUNS_OF_WIDTH(uint8_t)
RUNS_OF_WIDTH(uint16_t)
RUNS_OF_WIDTH(uint32_t)
RUNS_OF_WIDTH(uint64_t)
RUN(add, float, x[at] += y[e])
RUN(add, double, x[at] += y[e])

static const run_function takes[] = {take_uint8_t, take_uint16_t, take_uint32_t, take_uint64_t};
static const run_function puts_[] = {put_uint8_t, put_uint16_t, put_uint32_t, put_uint64_t};
static const run_function adds[] = {add_uint8_t, add_uint16_t, add_uint32_t, add_uint64_t};

static int width_of(cr_dtype dtype) {
    const size_t bytes = cr_dtype_size(dtype);
    return bytes == 1 ? 0 : bytes == 2 ? 1 : bytes == 4 ? 2 : 3;
}
/* Sums are made in f32 for 16-bit floats and in i64 for bool; integers wrap in their own width. */
static cr_dtype sum_dtype(cr_dtype dtype) {
    return dtype == CR_F16 || dtype == CR_BF16 ? CR_F32 : dtype == CR_BOOL ? CR_I64 : dtype;
}
static run_function add_of(cr_dtype dtype) {
    return dtype == CR_F32 ? add_float : dtype == CR_F64 ? add_double : adds[width_of(dtype)];
}

/* ---------------------------------------------------------------- planes
 * A dense tensor as [outer, size, inner] beside dense indices (and sources or results) as [outer, count, inner]. */
typedef struct planes {
    run_function run;
    char *x, *flat;
    const int64_t *index;
    size_t bytes; /* of an element */
    int64_t outer, size, inner, count;
    int64_t cut, stretch; /* units of a plane; elements of a line in one */
    atomic_bool failed;
} planes;

/* One run after its indices are checked: flat element `at` on, in a plane from column `first` on. */
static bool run_checked(planes *p, int64_t outer, int64_t first, int64_t at, int64_t length) {
    if (!all_within(p->index + at, length, p->size)) {
        atomic_store(&p->failed, true);
        return false;
    }
    p->run(p->x + (size_t)(outer * p->size * p->inner + first) * p->bytes, p->inner, p->inner > 1, p->index + at,
           p->flat + (size_t)at * p->bytes, length);
    return true;
}

/* A unit is some columns of a plane, which no other unit touches: row by row. */
static void run_columns(void *context, int64_t begin, int64_t end) {
    planes *p = context;
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t outer = unit / p->cut, first = unit % p->cut * COLUMNS;
        const int64_t length = p->inner - first < COLUMNS ? p->inner - first : COLUMNS;
        for (int64_t i = 0; i < p->count; i++)
            if (!run_checked(p, outer, first, (outer * p->count + i) * p->inner + first, length)) return;
    }
}

/* inner is 1: a unit is a stretch of a line. */
static void run_stretches(void *context, int64_t begin, int64_t end) {
    planes *p = context;
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t outer = unit / p->cut, first = unit % p->cut * p->stretch;
        const int64_t last = first + p->stretch < p->count ? first + p->stretch : p->count;
        for (int64_t i = first; i < last; i += CHUNK)
            if (!run_checked(p, outer, 0, outer * p->count + i, last - i < CHUNK ? last - i : CHUNK)) return;
    }
}

/* Whole short lines: their indices are checked all at once. */
static void run_short_lines(void *context, int64_t begin, int64_t end) {
    planes *p = context;
    if (!all_within(p->index + begin * p->count, (end - begin) * p->count, p->size)) {
        atomic_store(&p->failed, true);
        return;
    }
    for (int64_t line = begin; line < end; line++)
        p->run(p->x + (size_t)(line * p->size) * p->bytes, 1, 0, p->index + line * p->count,
               p->flat + (size_t)(line * p->count) * p->bytes, p->count);
}

/* Runs over x (dense) by `index` (dense, i64) along dim; off dim both have the same sizes. */
static bool run_planes(run_function run, const cr_tensor *x, int dim, const cr_tensor *index, const cr_tensor *flat,
                       bool cut_lines) {
    if (index->numel == 0) return true;
    planes p = {.run = run,
                .x = cr_tensor_address(x),
                .flat = cr_tensor_address(flat),
                .index = cr_tensor_address(index),
                .bytes = cr_dtype_size((cr_dtype)x->dtype),
                .outer = product(index, 0, dim),
                .size = x->ndim ? x->sizes[dim] : 1,
                .inner = product(index, dim + 1, index->ndim),
                .count = index->ndim ? index->sizes[dim] : 1,
                .cut = 1};
    p.stretch = cut_lines ? CHUNK : p.count;
    p.cut = p.inner > 1 ? (p.inner + COLUMNS - 1) / COLUMNS : (p.count + p.stretch - 1) / p.stretch;
    const int64_t units = p.outer * p.cut, grain = CR_GRAIN_ELEMENTS / 4 / (index->numel / units + 1);
    cr_parallel_for(units, grain, p.inner > 1 ? run_columns : p.count < 64 ? run_short_lines : run_stretches, &p);
    return !atomic_load(&p.failed) || fail_index(index, p.size);
}

/* ---------------------------------------------------------------- gather, scatter */
/* The part of t that the indices can reach: their sizes off dim. */
static cr_tensor *reached(cr_tensor *t, const cr_tensor *index, int dim) {
    cr_shape shape = cr_tensor_shape(t);
    for (int d = 0; d < shape.count; d++)
        if (d != dim) shape.at[d] = d < index->ndim ? index->sizes[d] : 1;
    return cr_shape_equal(shape, cr_tensor_shape(t)) ? t : cr_view_raw(t, shape, cr_strides_of(t), t->offset);
}

CR_KERNEL(gather) {
    cr_tensor *x = call->inputs[0], *index = dense_indices(call->inputs[1]);
    const int dim = dim_of(call, x->ndim);
    if (!index) return false;
    cr_tensor *dense = index->numel ? cr_contiguous(reached(x, index, dim)) : x;
    return dense && run_planes(takes[width_of((cr_dtype)x->dtype)], dense, dim, index, call->outputs[0], true);
}

/* The output starts as the input, as `dtype`; then its reached part is written. */
static bool write_by_index(cr_call *call, cr_dtype dtype, run_function run) {
    cr_tensor *out = call->outputs[0], *index = dense_indices(call->inputs[1]), *source = call->inputs[2];
    const int dim = dim_of(call, out->ndim);
    cr_tensor *whole = out->dtype == dtype ? out : cr_empty(dtype, cr_tensor_shape(out), CR_CPU);
    if (!index || !whole || !cr_begin_rewrite(whole, call->inputs[0])) return false;
    if (index->numel) {
        cr_tensor *part = reached(whole, index, dim), *dense = cr_contiguous(part);
        source = cr_cast(
            cr_contiguous(cr_view_raw(source, cr_tensor_shape(index), cr_strides_of(source), source->offset)), dtype);
        if (!dense || !source || !run_planes(run, dense, dim, index, source, false)) return false;
        if (dense != part && !cr_copy_(part, dense)) return false;
    }
    return whole == out || cr_copy_(out, whole) != NULL;
}

CR_KERNEL(scatter) {
    const cr_dtype dtype = (cr_dtype)call->outputs[0]->dtype;
    return write_by_index(call, dtype, puts_[width_of(dtype)]);
}
CR_KERNEL(scatter_add) {
    const cr_dtype dtype = sum_dtype((cr_dtype)call->outputs[0]->dtype);
    return write_by_index(call, dtype, add_of(dtype));
}

/* ---------------------------------------------------------------- whole slices: [outer, positions, inner] */
typedef struct slices {
    run_function run;
    char *to, *from;
    const int64_t *index;
    int64_t outer, count, size, inner; /* indices, positions of the indexed dim */
    int64_t skipped;                   /* an index that is passed over */
    size_t bytes;
    cr_dtype dtype;
} slices;

static void select_slices(void *context, int64_t begin, int64_t end) {
    const slices *s = context;
    const size_t row = (size_t)s->inner * s->bytes;
    for (int64_t k = begin; k < end; k++)
        memcpy(s->to + (size_t)k * row, s->from + (size_t)(k / s->count * s->size + s->index[k % s->count]) * row, row);
}
static void select_elements(void *context, int64_t begin, int64_t end) {
    const slices *s = context;
    for (int64_t line = begin; line < end; line++)
        s->run(s->from + (size_t)(line * s->size) * s->bytes, 1, 0, s->index,
               s->to + (size_t)(line * s->count) * s->bytes, s->count);
}

CR_KERNEL(index_select) {
    const cr_tensor *out = call->outputs[0];
    cr_tensor *x = cr_contiguous(call->inputs[0]), *index = x ? dense_indices(call->inputs[1]) : NULL;
    if (!index) return false;
    const int dim = dim_of(call, x->ndim);
    if (!all_within(cr_tensor_address(index), index->numel, x->sizes[dim])) return fail_index(index, x->sizes[dim]);
    if (out->numel == 0) return true;
    slices s = {.run = takes[width_of((cr_dtype)x->dtype)],
                .to = cr_tensor_address(out),
                .from = cr_tensor_address(x),
                .index = cr_tensor_address(index),
                .outer = product(x, 0, dim),
                .count = index->numel,
                .size = x->sizes[dim],
                .inner = product(x, dim + 1, x->ndim),
                .bytes = cr_dtype_size((cr_dtype)x->dtype)};
    if (s.inner == 1)
        cr_parallel_for(s.outer, CR_GRAIN_ELEMENTS / (s.count + 1), select_elements, &s);
    else
        cr_parallel_for(out->numel / s.inner, CR_GRAIN_ELEMENTS / (s.inner + 1), select_slices, &s);
    return true;
}

#define ADD_ROW(T)                                                                                                     \
    for (int64_t c = begin; c < end; c++)                                                                              \
    ((T *)(void *)to)[c] = (T)(((T *)(void *)to)[c] + ((const T *)(const void *)from)[c])
/* Columns begin … end-1 of all slices: each element's sum is made in the order of the indices. */
static void add_columns(void *context, int64_t begin, int64_t end) {
    const slices *s = context;
    for (int64_t k = 0; k < s->outer * s->count; k++) {
        const int64_t at = s->index[k % s->count];
        if (at == s->skipped) continue;
        char *to = s->to + (size_t)((k / s->count * s->size + at) * s->inner) * s->bytes;
        const char *from = s->from + (size_t)(k * s->inner) * s->bytes;
        if (s->dtype == CR_F32)
            ADD_ROW(float);
        else if (s->dtype == CR_F64)
            ADD_ROW(double);
        else if (s->bytes == 8)
            ADD_ROW(uint64_t);
        else if (s->bytes == 4)
            ADD_ROW(uint32_t);
        else if (s->bytes == 2)
            ADD_ROW(uint16_t);
        else
            ADD_ROW(uint8_t);
    }
}

/* sums[outer, index, inner] += source[outer, i, inner]; both dense and of sum_dtype. */
static bool add_slices(const cr_tensor *sums, int dim, const cr_tensor *index, const cr_tensor *source,
                       int64_t skipped) {
    if (!all_within(cr_tensor_address(index), index->numel, sums->sizes[dim]))
        return fail_index(index, sums->sizes[dim]);
    if (source->numel == 0) return true;
    slices s = {.to = cr_tensor_address(sums),
                .from = cr_tensor_address(source),
                .index = cr_tensor_address(index),
                .outer = product(sums, 0, dim),
                .count = index->numel,
                .size = sums->sizes[dim],
                .inner = product(sums, dim + 1, sums->ndim),
                .skipped = skipped,
                .bytes = cr_dtype_size((cr_dtype)sums->dtype),
                .dtype = (cr_dtype)sums->dtype};
    cr_parallel_for(s.inner, 1 + CR_GRAIN_ELEMENTS / (s.outer * s.count), add_columns, &s);
    return true;
}

CR_KERNEL(index_add) {
    cr_tensor *out = call->outputs[0], *index = dense_indices(call->inputs[1]);
    const cr_dtype dtype = sum_dtype((cr_dtype)out->dtype);
    cr_tensor *source = index ? cr_contiguous(cr_cast(call->inputs[2], dtype)) : NULL;
    cr_tensor *sums = out->dtype == dtype ? out : cr_empty(dtype, cr_tensor_shape(out), CR_CPU);
    if (!source || !sums || !cr_copy_(sums, call->inputs[0])) return false;
    return add_slices(sums, dim_of(call, out->ndim), index, source, -1) && (sums == out || cr_copy_(out, sums));
}

CR_KERNEL(embedding_grad) {
    cr_tensor *out = call->outputs[0], *index = dense_indices(call->inputs[1]);
    const int64_t padding = ((const cr_embedding_grad_options *)call->attributes)->padding_idx;
    const cr_dtype dtype = sum_dtype((cr_dtype)out->dtype);
    cr_tensor *source = index ? cr_contiguous(cr_cast(call->inputs[0], dtype)) : NULL;
    cr_tensor *sums = out->dtype == dtype ? out : cr_empty(dtype, cr_tensor_shape(out), CR_CPU);
    if (!source || !sums || !cr_zero_(sums)) return false;
    return add_slices(sums, 0, index, source, padding) && (sums == out || cr_copy_(out, sums));
}

CR_KERNEL(one_hot) {
    cr_tensor *out = call->outputs[0], *index = dense_indices(call->inputs[0]);
    const int64_t classes = ((const cr_one_hot_options *)call->attributes)->classes;
    if (!index || !cr_zero_(out)) return false;
    const int64_t *at = cr_tensor_address(index);
    int64_t *to = cr_tensor_address(out);
    if (!all_within(at, index->numel, classes)) return fail_index(index, classes);
    for (int64_t i = 0; i < index->numel; i++)
        to[i * classes + at[i]] = 1;
    return true;
}

/* ---------------------------------------------------------------- nonzero */
CR_KERNEL(nonzero) {
    cr_tensor *flags = cr_contiguous(cr_ne_scalar(call->inputs[0], 0));
    if (!flags) return false;
    const uint8_t *flag = cr_tensor_address(flags);
    int64_t *to = cr_tensor_address(call->outputs[0]);
    const int last = flags->ndim - 1;
    if (last < 0 || flags->numel == 0) return true;
    int64_t at[CR_MAX_DIMS] = {0};
    const int64_t row = flags->sizes[last];
    for (int64_t start = 0; start < flags->numel; start += row) {
        for (int64_t i = 0; i < row; i++) {
            if (!flag[start + i]) continue;
            for (int d = 0; d < last; d++)
                to[d] = at[d];
            to[last] = i;
            to += last + 1;
        }
        for (int d = last - 1; d >= 0 && ++at[d] == flags->sizes[d]; d--)
            at[d] = 0;
    }
    return true;
}
