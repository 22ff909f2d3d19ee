/* Kernels that move whole rows: flip, tril, triu; and those that fill windows. */
#include "core/parallel.h"
#include "ops/cpu/variant.h"
#include "ops/shape.h"

#include <string.h>

typedef struct row_job {
    const char *from;
    char *to;
    int64_t rows, columns; /* rows of one matrix; elements of a row */
    size_t bytes;
    /* flip: the outer dims and which of them turn */
    int outer;
    int64_t sizes[CR_MAX_DIMS];
    bool turns[CR_MAX_DIMS], turns_columns;
    /* triangles */
    int64_t diagonal;
    bool is_upper;
} row_job;

static int64_t row_grain(const row_job *job) { return CR_GRAIN_ELEMENTS / (job->columns + 1); }

/* ---------------------------------------------------------------- flip */
#define REVERSE(T)                                                                                                     \
    for (int64_t i = 0; i < count; i++)                                                                                \
    ((T *)to)[i] = ((const T *)from)[count - 1 - i]
static void reverse_row(void *to, const void *from, int64_t count, size_t bytes) {
    if (bytes == 1)
        REVERSE(uint8_t);
    else if (bytes == 2)
        REVERSE(uint16_t);
    else if (bytes == 4)
        REVERSE(uint32_t);
    else
        REVERSE(uint64_t);
}

static void flip_rows(void *context, int64_t begin, int64_t end) {
    const row_job *job = context;
    const size_t row_bytes = (size_t)job->columns * job->bytes;
    for (int64_t row = begin; row < end; row++) {
        int64_t source = 0, step = 1, rest = row;
        for (int d = job->outer - 1; d >= 0; d--) {
            const int64_t at = rest % job->sizes[d];
            source += (job->turns[d] ? job->sizes[d] - 1 - at : at) * step;
            step *= job->sizes[d];
            rest /= job->sizes[d];
        }
        char *to = job->to + (size_t)row * row_bytes;
        const char *from = job->from + (size_t)source * row_bytes;
        if (job->turns_columns)
            reverse_row(to, from, job->columns, job->bytes);
        else
            memcpy(to, from, row_bytes);
    }
}

CR_KERNEL(flip) {
    const cr_dims dims = ((const cr_flip_options *)call->attributes)->dims;
    const cr_tensor *out = call->outputs[0];
    cr_tensor *x = cr_contiguous(call->inputs[0]);
    if (!x || out->ndim == 0) return x && cr_copy_(call->outputs[0], x);
    if (out->numel == 0) return true;
    row_job job = {.from = cr_tensor_address(x),
                   .to = cr_tensor_address(out),
                   .bytes = cr_dtype_size((cr_dtype)x->dtype),
                   .columns = x->sizes[x->ndim - 1],
                   .outer = x->ndim - 1};
    bool turns[CR_MAX_DIMS] = {false};
    for (int i = 0; i < dims.count; i++)
        turns[dims.at[i] < 0 ? dims.at[i] + x->ndim : dims.at[i]] = true;
    for (int d = 0; d < job.outer; d++) {
        job.sizes[d] = x->sizes[d];
        job.turns[d] = turns[d];
    }
    job.turns_columns = turns[job.outer];
    cr_parallel_for(out->numel / job.columns, row_grain(&job), flip_rows, &job);
    return true;
}

/* ---------------------------------------------------------------- tril, triu */
static void triangle_rows(void *context, int64_t begin, int64_t end) {
    const row_job *job = context;
    const size_t row_bytes = (size_t)job->columns * job->bytes;
    for (int64_t row = begin; row < end; row++) {
        /* columns up to `edge` lie on or below the diagonal (tril), or below it (triu) */
        const int64_t diagonal = row % job->rows + job->diagonal + (job->is_upper ? 0 : 1);
        const size_t edge = (size_t)(diagonal < 0 ? 0 : diagonal > job->columns ? job->columns : diagonal) * job->bytes;
        char *to = job->to + (size_t)row * row_bytes;
        const char *from = job->from + (size_t)row * row_bytes;
        const size_t kept = job->is_upper ? edge : 0, zeroed = job->is_upper ? 0 : edge;
        memset(to + zeroed, 0, job->is_upper ? edge : row_bytes - edge);
        memcpy(to + kept, from + kept, job->is_upper ? row_bytes - edge : edge);
    }
}

static bool run_triangle(cr_call *call, bool is_upper) {
    const cr_tensor *out = call->outputs[0];
    cr_tensor *x = cr_contiguous(call->inputs[0]);
    if (!x) return false;
    if (out->numel == 0) return true;
    const int64_t largest = INT32_MAX, diagonal = ((const cr_triangle_options *)call->attributes)->diagonal;
    row_job job = {.from = cr_tensor_address(x),
                   .to = cr_tensor_address(out),
                   .bytes = cr_dtype_size((cr_dtype)x->dtype),
                   .rows = x->sizes[x->ndim - 2],
                   .columns = x->sizes[x->ndim - 1],
                   .is_upper = is_upper,
                   .diagonal = diagonal > largest << 24      ? largest << 24
                               : diagonal < -(largest << 24) ? -(largest << 24)
                                                             : diagonal};
    cr_parallel_for(out->numel / job.columns, row_grain(&job), triangle_rows, &job);
    return true;
}
CR_KERNEL(tril) { return run_triangle(call, false); }
CR_KERNEL(triu) { return run_triangle(call, true); }

/* ---------------------------------------------------------------- windows */
/* What the decompositions write piece by piece as one step: graphs have no writes. */
CR_KERNEL(cat) { return cr_cat_into(call, call->outputs[0]); }

CR_KERNEL(as_strided_scatter) {
    const cr_as_strided_options *o = call->attributes;
    cr_tensor *out = call->outputs[0], *window = cr_view_raw(out, o->shape, o->strides, out->offset + o->offset);
    return window && cr_begin_rewrite(out, call->inputs[0]) && cr_copy_(window, call->inputs[1]);
}
