/* Reduction kernels. A tensor is seen as [outer, length, inner] in memory order and reduced over `length`; several
 * separate reduced dims take several stages, from the innermost out. Work is cut into blocks of fixed size whose
 * results are combined in fixed order, so the number of threads never shows in the bits. */
#include "ops/cpu/variants/reduction.h"
#include "core/parallel.h"
#include "ops/pointwise.h"
#include "ops/reduction.h"

#include <math.h>
#include <string.h>

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#else
#define VECTOR_BYTES 32
#endif

enum {
    STREAMS = 2,              /* places of a row that are read in turns, two vectors of each */
    WIDTH = VECTOR_BYTES / 4, /* independent partial results */
    STEP_WIDTH = 2 * WIDTH,   /* what a turn reads of each */
    LANES = STREAMS * STEP_WIDTH,
    BLOCK = 2048,       /* elements of a row that are made at once */
    CHUNK = 128 * 1024, /* elements of a row for one task */
    COLUMNS = 1024,     /* columns of one task at most */
    ROWS = 16,          /* rows of a column that are added in the element's own type */
    ROW_CHUNK = 4096    /* rows of one task */
};

typedef struct stage {
    const void *in;
    const cr_reduction_source *source; /* makes the elements instead, in the order of memory; NULL: they are there */
    void *out;                         /* [outer, inner] */
    void *partials;                    /* [chunks, outer, inner] */
    int64_t outer, length, inner, chunks;
    int64_t width; /* columns of one task: which ones are together shows in no result */
} stage;

typedef void (*stage_function)(void *stage, int64_t begin, int64_t end);

/* Elements start … start + count - 1 in the order of memory: where they are, or made in `buffer`. */
static inline const void *elements(const stage *s, size_t bytes, int64_t start, int64_t count, void *buffer) {
    if (!s->source) return (const char *)s->in + (size_t)start * bytes;
    s->source->make(s->source->context, start, count, buffer);
    return buffer;
}

/* `rows` lines of `width` elements that are `inner` apart, the first at `start`; returns where they are, and *step from
 * one to the next. */
static inline const void *lines(const stage *s, size_t bytes, int64_t start, int64_t rows, int64_t width, void *buffer,
                                int64_t *step) {
    *step = s->inner;
    if (!s->source || width == s->inner) return elements(s, bytes, start, rows * width, buffer);
    *step = width;
    for (int64_t r = 0; r < rows; r++)
        s->source->make(s->source->context, start + r * s->inner, width, (char *)buffer + (size_t)(r * width) * bytes);
    return buffer;
}

/* A reduction in element type T, with results of type A; STEP(acc, x) adds an element in T, JOIN(acc, x) a partial in
 * A. */
#define REDUCTION(name, T, A, INITIAL, STEP, JOIN)                                                                     \
    /* STREAMS pieces of n elements that begin `gap` apart; n is a multiple of STEP_WIDTH. Four elements meet in T. */ \
    static inline void name##_streams(A *lanes, const T *x, int64_t gap, int64_t n, int64_t step) {                    \
        for (int64_t i = 0; i < n; i += step)                                                                          \
            for (int l = 0; l < WIDTH; l++) {                                                                          \
                const T first = STEP(x[i + l], x[gap + i + l]);                                                        \
                const T second = STEP(x[i + WIDTH + l], x[gap + i + WIDTH + l]);                                       \
                lanes[l] = JOIN(lanes[l], (A)STEP(first, second));                                                     \
            }                                                                                                          \
    }                                                                                                                  \
    static inline A name##_fold(A total, A *lanes) {                                                                   \
        for (int half = WIDTH / 2; half > 0; half /= 2)                                                                \
            for (int l = 0; l < half; l++)                                                                             \
                lanes[l] = JOIN(lanes[l], lanes[l + half]);                                                            \
        return JOIN(total, lanes[0]);                                                                                  \
    }                                                                                                                  \
    static inline A name##_block(A total, const T *x, int64_t n) { /* n <= BLOCK */                                    \
        A lanes[WIDTH];                                                                                                \
        for (int l = 0; l < WIDTH; l++)                                                                                \
            lanes[l] = INITIAL;                                                                                        \
        int64_t i = n / LANES * LANES;                                                                                 \
        name##_streams(lanes, x, STEP_WIDTH, i, LANES);                                                                \
        for (; i + WIDTH <= n; i += WIDTH)                                                                             \
            for (int l = 0; l < WIDTH; l++)                                                                            \
                lanes[l] = JOIN(lanes[l], (A)x[i + l]);                                                                \
        for (int l = 0; i < n; i++, l++)                                                                               \
            lanes[l] = JOIN(lanes[l], (A)x[i]);                                                                        \
        return name##_fold(total, lanes);                                                                              \
    }                                                                                                                  \
    /* n elements from `start` on, n > BLOCK */                                                                        \
    static A name##_long(const stage *s, int64_t start, int64_t n, T *buffer) {                                        \
        const int64_t gap = n / LANES * STEP_WIDTH, each = s->source ? BLOCK / STREAMS : gap,                          \
                      rest = n - STREAMS * gap;                                                                        \
        A lanes[WIDTH];                                                                                                \
        for (int l = 0; l < WIDTH; l++)                                                                                \
            lanes[l] = INITIAL;                                                                                        \
        for (int64_t first = 0; first < gap; first += each) {                                                          \
            const int64_t count = gap - first < each ? gap - first : each;                                             \
            for (int k = 0; k < STREAMS && s->source; k++)                                                             \
                s->source->make(s->source->context, start + k * gap + first, count, buffer + k * each);                \
            const T *x = s->source ? buffer : (const T *)s->in + start + first;                                        \
            name##_streams(lanes, x, s->source ? each : gap, count, STEP_WIDTH);                                       \
        }                                                                                                              \
        const T *last = elements(s, sizeof(T), start + n - rest, rest, buffer);                                        \
        return name##_block(name##_fold(INITIAL, lanes), last, rest);                                                  \
    }                                                                                                                  \
    /* rows of one block each, several at a time */                                                                    \
    static void name##_short_rows(const stage *s, int64_t begin, int64_t end) {                                        \
        _Alignas(64) T buffer[BLOCK];                                                                                  \
        const int64_t most = BLOCK / s->length;                                                                        \
        for (int64_t row = begin; row < end; row += most) {                                                            \
            const int64_t rows = end - row < most ? end - row : most;                                                  \
            const T *x = elements(s, sizeof(T), row * s->length, rows * s->length, buffer);                            \
            for (int64_t r = 0; r < rows; r++)                                                                         \
                ((A *)s->partials)[row + r] = name##_block(INITIAL, x + r * s->length, s->length);                     \
        }                                                                                                              \
    }                                                                                                                  \
    /* tasks: [outer, chunks] */                                                                                       \
    static void name##_rows(void *context, int64_t begin, int64_t end) {                                               \
        const stage *s = context;                                                                                      \
        _Alignas(64) T buffer[BLOCK];                                                                                  \
        if (s->length <= BLOCK) {                                                                                      \
            name##_short_rows(s, begin, end);                                                                          \
            return;                                                                                                    \
        }                                                                                                              \
        for (int64_t task = begin; task < end; task++) {                                                               \
            const int64_t row = task / s->chunks, chunk = task % s->chunks, first = chunk * CHUNK;                     \
            const int64_t last = first + CHUNK < s->length ? first + CHUNK : s->length;                                \
            ((A *)s->partials)[chunk * s->outer + row] =                                                               \
                name##_long(s, row * s->length + first, last - first, buffer);                                         \
        }                                                                                                              \
    }                                                                                                                  \
    /* tasks: [outer, chunks, tiles of columns] */                                                                     \
    static void name##_columns(void *context, int64_t begin, int64_t end) {                                            \
        const stage *s = context;                                                                                      \
        const int64_t tiles = (s->inner + s->width - 1) / s->width;                                                    \
        _Alignas(64) T buffer[ROWS * COLUMNS];                                                                         \
        for (int64_t task = begin; task < end; task++) {                                                               \
            const int64_t tile = task % tiles, chunk = task / tiles % s->chunks, outer = task / tiles / s->chunks;     \
            const int64_t first = tile * s->width, width = s->inner - first < s->width ? s->inner - first : s->width;  \
            const int64_t top = chunk * ROW_CHUNK, bottom = top + ROW_CHUNK < s->length ? top + ROW_CHUNK : s->length; \
            A totals[COLUMNS];                                                                                         \
            for (int64_t c = 0; c < width; c++)                                                                        \
                totals[c] = INITIAL;                                                                                   \
            for (int64_t start = top; start < bottom; start += ROWS) {                                                 \
                const int64_t rows = bottom - start < ROWS ? bottom - start : ROWS;                                    \
                int64_t step;                                                                                          \
                const T *x =                                                                                           \
                    lines(s, sizeof(T), (outer * s->length + start) * s->inner + first, rows, width, buffer, &step);   \
                T sums[COLUMNS];                                                                                       \
                for (int64_t c = 0; c < width; c++)                                                                    \
                    sums[c] = (T)INITIAL;                                                                              \
                for (int64_t r = 0; r < rows; r++, x += step)                                                          \
                    for (int64_t c = 0; c < width; c++)                                                                \
                        sums[c] = STEP(sums[c], x[c]);                                                                 \
                for (int64_t c = 0; c < width; c++)                                                                    \
                    totals[c] = JOIN(totals[c], (A)sums[c]);                                                           \
            }                                                                                                          \
            A *to = (A *)s->partials + (chunk * s->outer + outer) * s->inner + first;                                  \
            for (int64_t c = 0; c < width; c++)                                                                        \
                to[c] = totals[c];                                                                                     \
        }                                                                                                              \
    }                                                                                                                  \
    static void name##_join(void *context, int64_t begin, int64_t end) {                                               \
        const stage *s = context;                                                                                      \
        const int64_t count = s->outer * s->inner;                                                                     \
        for (int64_t i = begin; i < end; i++) {                                                                        \
            A total = ((const A *)s->partials)[i];                                                                     \
            for (int64_t chunk = 1; chunk < s->chunks; chunk++)                                                        \
                total = JOIN(total, ((const A *)s->partials)[chunk * count + i]);                                      \
            ((A *)s->out)[i] = total;                                                                                  \
        }                                                                                                              \
    }

#define ADD(a, x)      ((a) + (x))
#define MULTIPLY(a, x) ((a) * (x))
#define LARGER(a, x)   ((x) > (a) || (x) != (x) ? (x) : (a))
#define SMALLER(a, x)  ((x) < (a) || (x) != (x) ? (x) : (a))
REDUCTION(sum_f32, float, double, 0, ADD, ADD)
REDUCTION(sum_f64, double, double, 0, ADD, ADD)
REDUCTION(sum_i64, int64_t, int64_t, 0, ADD, ADD)
REDUCTION(prod_f32, float, float, 1, MULTIPLY, MULTIPLY)
REDUCTION(prod_f64, double, double, 1, MULTIPLY, MULTIPLY)
REDUCTION(prod_i64, int64_t, int64_t, 1, MULTIPLY, MULTIPLY)
REDUCTION(max_f32, float, float, -INFINITY, LARGER, LARGER)
REDUCTION(max_f64, double, double, -INFINITY, LARGER, LARGER)
REDUCTION(max_i64, int64_t, int64_t, INT64_MIN, LARGER, LARGER)
REDUCTION(min_f32, float, float, INFINITY, SMALLER, SMALLER)
REDUCTION(min_f64, double, double, INFINITY, SMALLER, SMALLER)
REDUCTION(min_i64, int64_t, int64_t, INT64_MAX, SMALLER, SMALLER)

typedef struct reduction {
    stage_function rows, columns, join;
    cr_dtype result; /* of a stage: what the next one reads */
} reduction;

#define ROW(name, dtype)                                                                                               \
    { name##_rows, name##_columns, name##_join, dtype }
/* [kind][compute type] */
static const reduction reductions[][CR_COMPUTE_COUNT] = {
    [CR_FOLD_SUM] = {ROW(sum_f32, CR_F64), ROW(sum_f64, CR_F64), ROW(sum_i64, CR_I64)},
    [CR_FOLD_PROD] = {ROW(prod_f32, CR_F32), ROW(prod_f64, CR_F64), ROW(prod_i64, CR_I64)},
    [CR_FOLD_MAX] = {ROW(max_f32, CR_F32), ROW(max_f64, CR_F64), ROW(max_i64, CR_I64)},
    [CR_FOLD_MIN] = {ROW(min_f32, CR_F32), ROW(min_f64, CR_F64), ROW(min_i64, CR_I64)},
};
static const cr_dtype compute_dtypes[] = {CR_F32, CR_F64, CR_I64};

/* ---------------------------------------------------------------- memory order */
static void order_dims(const cr_tensor *t, int order[]) {
    for (int i = 0; i < t->ndim; i++) {
        int at = i;
        for (; at > 0 && t->strides[order[at - 1]] < t->strides[i]; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
}

static bool is_dense_in_order(const cr_tensor *t, const int order[]) {
    int64_t step = 1;
    for (int i = t->ndim - 1; i >= 0; i--) {
        if (t->sizes[order[i]] == 1) continue;
        if (t->strides[order[i]] != step) return false;
        step *= t->sizes[order[i]];
    }
    return true;
}

/* The tensor in the compute type, as it lies where it is dense in some order of dims, else copied. NULL and an error on
 * failure. */
static cr_tensor *lay_out(cr_tensor *t, cr_dtype dtype) {
    int order[CR_MAX_DIMS];
    if (!(t = cr_cast(t, dtype))) return NULL;
    order_dims(t, order);
    return is_dense_in_order(t, order) ? t : cr_contiguous(t);
}

/* ---------------------------------------------------------------- stages */
static cr_tensor *run_stage(const reduction *r, const void *in, const cr_reduction_source *source, int64_t outer,
                            int64_t length, int64_t inner) {
    stage s = {.in = in, .source = source, .outer = outer, .length = length, .inner = inner};
    s.chunks = inner == 1 ? (length + CHUNK - 1) / CHUNK : (length + ROW_CHUNK - 1) / ROW_CHUNK;
    if (s.chunks < 1) s.chunks = 1;
    cr_tensor *partials = cr_empty(r->result, CR_SHAPE(s.chunks, outer, inner), CR_CPU);
    cr_tensor *out = s.chunks > 1 ? cr_empty(r->result, CR_SHAPE(outer, inner), CR_CPU) : partials;
    if (!partials || !out) return NULL;
    s.partials = cr_tensor_address(partials);
    s.out = cr_tensor_address(out);
    if (inner == 1) {
        const int64_t each = length < CHUNK ? length : CHUNK;
        cr_parallel_for(outer * s.chunks, CR_GRAIN_ELEMENTS / (each > 0 ? each : 1), r->rows, &s);
    } else {
        const int64_t most = cr_num_threads() / (outer * s.chunks), share = most > 1 ? inner / most : inner;
        s.width = share < COLUMNS / 4 ? COLUMNS / 4 : share < COLUMNS ? (share + 63) / 64 * 64 : COLUMNS;
        const int64_t tiles = (inner + s.width - 1) / s.width, rows = length < ROW_CHUNK ? length : ROW_CHUNK;
        const int64_t each = rows * (inner < s.width ? inner : s.width);
        cr_parallel_for(outer * s.chunks * tiles, CR_GRAIN_ELEMENTS / (each > 0 ? each : 1), r->columns, &s);
    }
    if (s.chunks > 1) cr_parallel_for(outer * inner, CR_GRAIN_ELEMENTS, r->join, &s);
    return out;
}

/* The output's window over the kept dims in memory order, so that the last stage's result can be copied into it. */
static cr_tensor *kept_view(const cr_tensor *out, int ndim, const int order[], unsigned mask) {
    int dim_in_output[CR_MAX_DIMS];
    const bool keepdim = out->ndim == ndim;
    for (int i = 0, at = 0; i < ndim; i++)
        dim_in_output[i] = keepdim ? i : mask >> i & 1 ? -1 : at++;
    cr_shape shape = {.count = 0}, strides = {.count = 0};
    for (int i = 0; i < ndim; i++) {
        const int dim = order[i];
        if (mask >> dim & 1) continue;
        shape.at[shape.count++] = out->sizes[dim_in_output[dim]];
        strides.at[strides.count++] = out->strides[dim_in_output[dim]];
    }
    return cr_view_raw(out, shape, strides, out->offset);
}

/* Columns that a row of this length is cut into, where greatest and least are sought: compilers find vectors in columns, not
 * in comparisons along a row, and what comes out does not depend on the order. */
static int64_t lanes_of(int64_t length) {
    enum { FEWEST = 8, MOST = 256 };
    int64_t lanes = 1;
    while (lanes < MOST && length % (2 * lanes) == 0 && length / (2 * lanes) > 1)
        lanes *= 2;
    return lanes >= FEWEST ? lanes : 1;
}

/* `t` is dense in some order of dims, of the compute type; `source` makes its elements, or is NULL. */
static bool reduce_dense(const cr_tensor *t, const cr_reduction_source *source, int kind, unsigned mask,
                         cr_tensor *out) {
    int order[CR_MAX_DIMS] = {0}, groups = 0;
    int64_t sizes[CR_MAX_DIMS];
    bool reduced[CR_MAX_DIMS];
    order_dims(t, order);
    for (int i = 0; i < t->ndim; i++) { /* neighbours of one kind are one group */
        const bool is_reduced = mask >> order[i] & 1;
        if (groups && reduced[groups - 1] == is_reduced)
            sizes[groups - 1] *= t->sizes[order[i]];
        else
            sizes[groups] = t->sizes[order[i]], reduced[groups++] = is_reduced;
    }
    cr_compute compute = cr_compute_of((cr_dtype)t->dtype);
    cr_tensor *now = NULL;
    int64_t inner = 1;
    for (int g = groups - 1; g >= 0; g--) {
        if (!reduced[g]) {
            inner *= sizes[g];
            continue;
        }
        int64_t outer = 1;
        for (int k = 0; k < g; k++)
            outer *= sizes[k];
        const reduction *r = &reductions[kind][compute];
        const void *in = now ? cr_tensor_address(now) : source ? NULL : cr_tensor_address(t);
        const int64_t lanes = inner == 1 && kind >= CR_FOLD_MAX ? lanes_of(sizes[g]) : 1;
        if (lanes > 1) {
            if (!(now = run_stage(r, in, now ? NULL : source, outer, sizes[g] / lanes, lanes))) return false;
            in = cr_tensor_address(now);
            sizes[g] = lanes;
        }
        if (!(now = run_stage(r, in, now ? NULL : source, outer, sizes[g], inner))) return false;
        compute = cr_compute_of(r->result);
    }
    cr_tensor *target = now ? kept_view(out, t->ndim, order, mask) : NULL;
    return target && cr_copy_(target, cr_reshape(now, cr_tensor_shape(target)));
}

static bool reduce(cr_call *call, int kind, cr_dims dims, double of_nothing) {
    cr_tensor *input = call->inputs[0], *out = call->outputs[0];
    unsigned mask;
    if (!cr_reduced_dims(&dims, input->ndim, &mask)) return false;
    if (out->numel == 0) return true;
    if (input->numel == 0) return cr_fill_(out, of_nothing) != NULL;
    if (!mask) return cr_copy_(out, input) != NULL;
    const bool widen = out->dtype == CR_F64 && kind <= CR_FOLD_PROD;
    const cr_compute compute = widen ? CR_COMPUTE_F64 : cr_compute_of((cr_dtype)input->dtype);
    const cr_tensor *dense = lay_out(input, compute_dtypes[compute]);
    return dense && reduce_dense(dense, NULL, kind, mask, out);
}

/* ---------------------------------------------------------------- of elements that are made meanwhile */
bool cr_reduce_made(const cr_op *op, const cr_dims *dims, const cr_tensor *of, const cr_reduction_source *source,
                    cr_tensor *out) {
    unsigned mask;
    return cr_reduced_dims(dims, of->ndim, &mask) && reduce_dense(of, source, cr_fold_of(op), mask, out);
}

CR_KERNEL(sum) { return reduce(call, CR_FOLD_SUM, ((const cr_sum_options *)call->attributes)->dims, 0); }
CR_KERNEL(prod) { return reduce(call, CR_FOLD_PROD, ((const cr_sum_options *)call->attributes)->dims, 1); }
CR_KERNEL(amax) { return reduce(call, CR_FOLD_MAX, ((const cr_reduce_options *)call->attributes)->dims, 0); }
CR_KERNEL(amin) { return reduce(call, CR_FOLD_MIN, ((const cr_reduce_options *)call->attributes)->dims, 0); }

/* ---------------------------------------------------------------- argmax, argmin, running sums: [outer, length,
 * inner] */
typedef struct line_job {
    const void *in;
    void *out;
    int64_t length, inner;
} line_job;

#define ARGUMENT(name, T, BETTER)                                                                                      \
    static void name(void *context, int64_t begin, int64_t end) {                                                      \
        const line_job *job = context;                                                                                 \
        for (int64_t line = begin; line < end; line++) {                                                               \
            const T *x = (const T *)job->in + line / job->inner * job->length * job->inner + line % job->inner;        \
            T best = x[0];                                                                                             \
            int64_t where = 0;                                                                                         \
            for (int64_t i = 1; i < job->length; i++) {                                                                \
                const T value = x[i * job->inner];                                                                     \
                if (BETTER(value, best)) best = value, where = i;                                                      \
            }                                                                                                          \
            ((int64_t *)job->out)[line] = where;                                                                       \
        }                                                                                                              \
    }
/* NaN is better than any number, and the first one stays. */
#define IS_LARGER(x, best)  ((x) > (best) || ((x) != (x) && (best) == (best)))
#define IS_SMALLER(x, best) ((x) < (best) || ((x) != (x) && (best) == (best)))
ARGUMENT(argmax_f32, float, IS_LARGER)
ARGUMENT(argmax_f64, double, IS_LARGER)
ARGUMENT(argmax_i64, int64_t, IS_LARGER)
ARGUMENT(argmin_f32, float, IS_SMALLER)
ARGUMENT(argmin_f64, double, IS_SMALLER)
ARGUMENT(argmin_i64, int64_t, IS_SMALLER)

#define RUNNING(name, T, A, INITIAL, STEP)                                                                             \
    static void name(void *context, int64_t begin, int64_t end) {                                                      \
        const line_job *job = context;                                                                                 \
        for (int64_t line = begin; line < end; line++) {                                                               \
            const int64_t start = line / job->inner * job->length * job->inner + line % job->inner;                    \
            A total = INITIAL;                                                                                         \
            for (int64_t i = 0; i < job->length; i++) {                                                                \
                total = STEP(total, (A)((const T *)job->in)[start + i * job->inner]);                                  \
                ((T *)job->out)[start + i * job->inner] = (T)total;                                                    \
            }                                                                                                          \
        }                                                                                                              \
    }
RUNNING(cumsum_f32, float, double, 0, ADD)
RUNNING(cumsum_f64, double, double, 0, ADD)
RUNNING(cumsum_i64, int64_t, int64_t, 0, ADD)
RUNNING(cumprod_f32, float, double, 1, MULTIPLY)
RUNNING(cumprod_f64, double, double, 1, MULTIPLY)
RUNNING(cumprod_i64, int64_t, int64_t, 1, MULTIPLY)

/* Runs one function per compute type over the lines of a dim, into `out_dtype`, and copies the result out. */
static bool run_lines(cr_call *call, int64_t dim_named, const stage_function functions[CR_COMPUTE_COUNT],
                      bool reduces) {
    cr_tensor *out = call->outputs[0], *input = call->inputs[0];
    if (input->numel == 0) return out->numel == 0 || cr_fill_(out, 0);
    const cr_compute compute = cr_compute_of((cr_dtype)input->dtype);
    cr_tensor *x = cr_contiguous(cr_cast(input, compute_dtypes[compute]));
    if (!x) return false;
    const int dim = (int)(dim_named < 0 ? dim_named + (x->ndim ? x->ndim : 1) : dim_named);
    line_job job = {.in = cr_tensor_address(x), .length = x->ndim ? x->sizes[dim] : 1, .inner = 1};
    for (int d = dim + 1; d < x->ndim; d++)
        job.inner *= x->sizes[d];
    const int64_t lines = x->numel / job.length;
    cr_tensor *result = reduces ? cr_empty(CR_I64, cr_tensor_shape(out), CR_CPU)
                                : cr_empty(compute_dtypes[compute], cr_tensor_shape(x), CR_CPU);
    if (!result) return false;
    job.out = cr_tensor_address(result);
    cr_parallel_for(lines, CR_GRAIN_ELEMENTS / job.length, functions[compute], &job);
    return cr_copy_(out, result) != NULL;
}

/* The row's first attribute is the dim. */
static int64_t dim_of(const cr_call *call) {
    return *(const int64_t *)((const char *)call->attributes + call->op->attributes[0].offset);
}

CR_KERNEL(argmax) {
    return run_lines(call, dim_of(call), (const stage_function[]){argmax_f32, argmax_f64, argmax_i64}, true);
}
CR_KERNEL(argmin) {
    return run_lines(call, dim_of(call), (const stage_function[]){argmin_f32, argmin_f64, argmin_i64}, true);
}
CR_KERNEL(cumsum) {
    return run_lines(call, dim_of(call), (const stage_function[]){cumsum_f32, cumsum_f64, cumsum_i64}, false);
}
CR_KERNEL(cumprod) {
    return run_lines(call, dim_of(call), (const stage_function[]){cumprod_f32, cumprod_f64, cumprod_i64}, false);
}
