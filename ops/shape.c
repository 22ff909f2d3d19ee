/* Joining, splitting, repeating, turning: ops that make new memory from pieces. */
#include "ops/shape.h"

#include <string.h>

/* ---------------------------------------------------------------- cat, stack */
#define CAT_ATTRIBUTES(A, op) A(op, INT, dim, 0)
CR_OPTIONS(cat, CAT_ATTRIBUTES)
CR_ATTRIBUTES(cat, CAT_ATTRIBUTES)

/* PyTorch lets a 1-d tensor of no elements stand among tensors of any shape. */
static bool is_nothing(const cr_shape *shape) { return shape->count == 1 && shape->at[0] == 0; }

static bool infer_cat(cr_call *call) {
    cr_shape shape = {.count = -1};
    int dim = 0;
    cr_dtype dtype = (cr_dtype)call->inputs[0]->dtype;
    bool channels_last = true;
    int64_t total = 0;
    for (int i = 0; i < call->input_count; i++) {
        const cr_shape own = cr_tensor_shape(call->inputs[i]);
        dtype = cr_dtype_promote(dtype, (cr_dtype)call->inputs[i]->dtype);
        if (is_nothing(&own)) continue;
        channels_last &= cr_is_channels_last(call->inputs[i]) && !cr_is_contiguous(call->inputs[i]);
        if (own.count == 0) return cr_fail_call(call, CR_ERROR_SHAPE, "0-d tensors cannot be joined; use cr_stack");
        if (shape.count < 0) {
            shape = own;
            if (!cr_normalize_dim(((const cr_cat_options *)call->attributes)->dim, shape.count, &dim)) return false;
        }
        bool fits = own.count == shape.count;
        for (int d = 0; fits && d < shape.count; d++)
            fits = d == dim || own.at[d] == shape.at[d];
        if (!fits) return cr_fail_call(call, CR_ERROR_SHAPE, "all sizes but that of dim %d must be equal", dim);
        total += own.at[dim];
    }
    if (shape.count < 0)
        shape = CR_SHAPE(0);
    else
        shape.at[dim] = total;
    cr_spec_set(call, 0, dtype, shape);
    call->specs[0].channels_last = channels_last && (shape.count == 4 || shape.count == 5);
    return true;
}

bool cr_cat_into(const cr_call *call, cr_tensor *out) {
    const int64_t named = ((const cr_cat_options *)call->attributes)->dim;
    const int dim = (int)(named < 0 ? named + out->ndim : named);
    int64_t at = 0;
    for (int i = 0; i < call->input_count; i++) {
        cr_tensor *piece = call->inputs[i];
        const cr_shape own = cr_tensor_shape(piece);
        if (is_nothing(&own)) continue;
        cr_tensor *place = cr_view_raw(out, own, cr_strides_of(out), out->offset + at * out->strides[dim]);
        if (!place || (piece->numel && !cr_copy_(place, piece))) return false;
        at += own.at[dim];
    }
    return true;
}
static bool decompose_cat(cr_call *call) {
    call->outputs[0] = cr_empty_spec(&call->specs[0], call->device);
    return call->outputs[0] && cr_cat_into(call, call->outputs[0]);
}

static bool vjp_cat(cr_vjp *v) {
    const int64_t named = ((const cr_cat_options *)v->attributes)->dim;
    const int dim = (int)(named < 0 ? named + cr_ndim(v->grads[0]) : named);
    int64_t at = 0;
    for (int i = 0; i < v->input_count; i++) {
        const cr_shape own = v->input_specs[i].shape;
        const int64_t length = is_nothing(&own) && cr_ndim(v->grads[0]) != 1 ? 0 : own.at[dim];
        if (v->needs[i] && length && !cr_vjp_set(v, i, cr_narrow(v->grads[0], dim, at, length))) return false;
        at += length;
    }
    return true;
}
CR_OP(cat, .inputs = "tensors*", CR_ROW_ATTRIBUTES(cat), .infer = infer_cat, .decompose = decompose_cat, .vjp = vjp_cat,
      .doc = "Tensors joined along a dim.")

cr_tensor *cr_cat(cr_tensor *const *tensors, int count, int dim) {
    const cr_cat_options options = {sizeof options, dim};
    if (!tensors || count < 1) {
        cr_record_error(CR_ERROR_ARGUMENT, "cat: needs at least one tensor");
        return NULL;
    }
    if (count <= CR_MAX_INPUTS) return cr_run(&cr_op_cat, tensors, count, &options);
    cr_tensor *groups[CR_MAX_INPUTS]; /* more than a call takes: joined in groups */
    int group_count = 0;
    const int each = (count + CR_MAX_INPUTS - 1) / CR_MAX_INPUTS;
    for (int first = 0; first < count; first += each)
        if (!(groups[group_count++] = cr_cat(tensors + first, count - first < each ? count - first : each, dim)))
            return NULL;
    return cr_run(&cr_op_cat, groups, group_count, &options);
}

cr_tensor *cr_stack(cr_tensor *const *tensors, int count, int dim) {
    if (!tensors || count < 1) {
        cr_record_error(CR_ERROR_ARGUMENT, "stack: needs at least one tensor");
        return NULL;
    }
    cr_tensor **rows = cr_malloc((size_t)count * sizeof *rows), *result = NULL;
    bool fits = rows != NULL;
    for (int i = 0; i < count && fits; i++) {
        fits = (rows[i] = cr_unsqueeze(tensors[i], dim)) != NULL;
        if (fits && !cr_shape_equal(cr_tensor_shape(tensors[i]), cr_tensor_shape(tensors[0]))) {
            char a[224], b[224];
            fits = cr_fail(CR_ERROR_SHAPE, "stack: all shapes must be equal; tensor 0 is %s, tensor %d is %s",
                           cr_describe(tensors[0], a), i, cr_describe(tensors[i], b));
        }
    }
    if (fits) result = cr_cat(rows, count, dim < 0 ? dim + rows[0]->ndim : dim);
    cr_free(rows);
    return result;
}

/* ---------------------------------------------------------------- split, chunk, unbind: windows */
int cr_split(cr_tensor *t, int64_t size, int dim, cr_tensor **parts, int capacity) {
    int at;
    if (!cr_tensor_check(t, "split") || !cr_normalize_dim(dim, t->ndim, &at)) return -1;
    const int64_t whole = t->ndim ? t->sizes[at] : 1, count = size > 0 ? (whole + size - 1) / size : 0;
    if (size < 1 || !parts || count > capacity || t->ndim == 0) {
        cr_record_error(CR_ERROR_ARGUMENT, "split: %lld parts of %lld from a dim of %lld into room for %d",
                        (long long)count, (long long)size, (long long)whole, capacity);
        return -1;
    }
    for (int64_t i = 0; i < count; i++)
        if (!(parts[i] = cr_slice(t, at, i * size, (i + 1) * size < whole ? (i + 1) * size : whole, 1))) return -1;
    return (int)count;
}

int cr_split_sizes(cr_tensor *t, cr_dims sizes, int dim, cr_tensor **parts) {
    int at;
    if (!cr_tensor_check(t, "split_sizes") || !cr_normalize_dim(dim, t->ndim, &at)) return -1;
    const int64_t whole = t->ndim ? t->sizes[at] : 1;
    int64_t sum = 0;
    bool fits = t->ndim > 0 && parts;
    for (int i = 0; i < sizes.count && fits; i++)
        fits = sizes.at[i] >= 0 && !__builtin_add_overflow(sum, sizes.at[i], &sum);
    if (!fits || sum != whole) {
        char text[192];
        cr_record_error(CR_ERROR_ARGUMENT, "split_sizes: sizes %s of a dim of %lld; they must add up to it",
                        cr_shape_format(sizes, text), (long long)whole);
        return -1;
    }
    sum = 0;
    for (int i = 0; i < sizes.count; sum += sizes.at[i++])
        if (!(parts[i] = cr_slice(t, at, sum, sum + sizes.at[i], 1))) return -1;
    return sizes.count;
}

int cr_chunk(cr_tensor *t, int chunks, int dim, cr_tensor **parts, int capacity) {
    int at;
    if (!cr_tensor_check(t, "chunk") || !cr_normalize_dim(dim, t->ndim, &at)) return -1;
    if (chunks < 1 || t->ndim == 0) {
        cr_record_error(CR_ERROR_ARGUMENT, "chunk: %d chunks of a tensor of %d dims", chunks, t->ndim);
        return -1;
    }
    const int64_t size = (t->sizes[at] + chunks - 1) / chunks;
    return cr_split(t, size ? size : 1, at, parts, capacity);
}

int cr_unbind(cr_tensor *t, int dim, cr_tensor **parts, int capacity) {
    int at;
    if (!cr_tensor_check(t, "unbind") || !cr_normalize_dim(dim, t->ndim, &at)) return -1;
    if (t->ndim == 0 || t->sizes[at] > capacity || !parts) {
        cr_record_error(CR_ERROR_ARGUMENT, "unbind: room for %d parts, %lld are needed", capacity,
                        t->ndim ? (long long)t->sizes[at] : 0LL);
        return -1;
    }
    for (int64_t i = 0; i < t->sizes[at]; i++)
        if (!(parts[i] = cr_select(t, at, i))) return -1;
    return (int)t->sizes[at];
}

/* ---------------------------------------------------------------- repeat: expand between dims, then flatten pairs */
cr_tensor *cr_repeat(cr_tensor *t, cr_shape times) {
    if (!cr_tensor_check(t, "repeat")) return NULL;
    if (times.count < t->ndim || times.count > CR_MAX_DIMS) {
        cr_record_error(CR_ERROR_SHAPE, "repeat: %d numbers for a tensor of %d dims (at least as many, at most %d)",
                        times.count, t->ndim, CR_MAX_DIMS);
        return NULL;
    }
    const int added = times.count - t->ndim;
    cr_shape full = {.count = times.count};
    for (int i = 0; i < times.count; i++)
        full.at[i] = i < added ? 1 : t->sizes[i - added];
    cr_tensor *result = cr_reshape(t, full);
    for (int i = times.count - 1; result && i >= 0;
         i--) { /* one dim at a time: at most one dim more than the result has */
        if (times.at[i] < 0) {
            cr_record_error(CR_ERROR_ARGUMENT, "repeat: %lld times", (long long)times.at[i]);
            return NULL;
        }
        if (times.at[i] == 1) continue;
        int64_t outer = 1, inner = 1;
        for (int d = 0; d < i; d++)
            outer *= result->sizes[d];
        for (int d = i; d < times.count; d++)
            inner *= result->sizes[d];
        cr_shape target = cr_tensor_shape(result);
        target.at[i] *= times.at[i];
        result = cr_reshape(
            cr_expand(cr_reshape(result, CR_SHAPE(outer, 1, inner)), CR_SHAPE(outer, times.at[i], inner)), target);
    }
    return result;
}

cr_tensor *cr_repeat_interleave(cr_tensor *t, int64_t times, int dim) {
    int at;
    if (!cr_tensor_check(t, "repeat_interleave") || !cr_normalize_dim(dim, t->ndim, &at)) return NULL;
    cr_shape shape = t->ndim ? cr_tensor_shape(t) : CR_SHAPE(1);
    int64_t outer = 1, inner = 1;
    for (int d = 0; d <= at && d < t->ndim; d++)
        outer *= t->sizes[d];
    for (int d = at + 1; d < t->ndim; d++)
        inner *= t->sizes[d];
    if (times < 0 || __builtin_mul_overflow(shape.at[at], times, &shape.at[at])) {
        cr_record_error(CR_ERROR_ARGUMENT, "repeat_interleave: %lld times", (long long)times);
        return NULL;
    }
    return cr_reshape(cr_expand(cr_reshape(t, CR_SHAPE(outer, 1, inner)), CR_SHAPE(outer, times, inner)), shape);
}

bool cr_meshgrid(cr_tensor *const *tensors, int count, cr_tensor **grids) {
    cr_shape shape = {.count = count};
    if (!tensors || !grids || count < 1 || count > CR_MAX_DIMS)
        return cr_fail(CR_ERROR_ARGUMENT, "meshgrid: %d tensors; 1 to %d make a grid", count, CR_MAX_DIMS);
    for (int i = 0; i < count; i++) {
        if (!tensors[i] || !cr_tensor_check(tensors[i], "meshgrid")) return false;
        char text[224];
        if (tensors[i]->ndim > 1)
            return cr_fail(CR_ERROR_SHAPE, "meshgrid: tensor %d is %s; it must have one dim", i,
                           cr_describe(tensors[i], text));
        shape.at[i] = tensors[i]->numel;
    }
    for (int i = 0; i < count; i++) {
        cr_shape own = {.count = count};
        for (int d = 0; d < count; d++)
            own.at[d] = d == i ? shape.at[i] : 1;
        if (!(grids[i] = cr_expand(cr_reshape(tensors[i], own), shape))) return false;
    }
    return true;
}

/* ---------------------------------------------------------------- flip, roll */
CR_ATTRIBUTES(flip, CR_FLIP_ATTRIBUTES)

static bool infer_flip(cr_call *call) {
    const cr_dims dims = ((const cr_flip_options *)call->attributes)->dims;
    unsigned seen = 0;
    for (int i = 0, dim; i < dims.count; i++) {
        if (!cr_normalize_dim(dims.at[i], call->inputs[0]->ndim, &dim)) return false;
        if (seen >> dim & 1) return cr_fail_call(call, CR_ERROR_ARGUMENT, "dim %d is named twice", dim);
        seen |= 1u << dim;
    }
    cr_spec_set(call, 0, (cr_dtype)call->inputs[0]->dtype, cr_tensor_shape(call->inputs[0]));
    return true;
}
static bool vjp_flip(cr_vjp *v) {
    return cr_vjp_set(v, 0, cr_flip(v->grads[0], ((const cr_flip_options *)v->attributes)->dims));
}

/* One dim after the other, by its positions from the last down. */
static bool decompose_flip(cr_call *call) {
    const cr_dims dims = ((const cr_flip_options *)call->attributes)->dims;
    cr_tensor *t = call->inputs[0];
    for (int k = 0; t && k < dims.count && t->ndim; k++) {
        const int dim = (int)(dims.at[k] < 0 ? dims.at[k] + t->ndim : dims.at[k]);
        t = cr_index_select(t, dim, cr_arange(CR_I64, (double)t->sizes[dim] - 1, -1, -1, t->device));
    }
    call->outputs[0] = t == call->inputs[0] ? cr_clone(t) : t;
    return call->outputs[0] != NULL;
}
CR_OP(flip, .inputs = "input", CR_ROW_ATTRIBUTES(flip), .infer = infer_flip, .decompose = decompose_flip,
      .vjp = vjp_flip, .doc = "The elements of some dims in the other order.")

cr_tensor *cr_flip(cr_tensor *t, cr_dims dims) {
    const cr_flip_options options = {sizeof options, dims};
    return CR_RUN(flip, &options, t);
}

cr_tensor *cr_roll(cr_tensor *t, int64_t shift, int dim) {
    int at;
    if (!cr_tensor_check(t, "roll") || !cr_normalize_dim(dim, t->ndim, &at)) return NULL;
    const int64_t size = t->ndim ? t->sizes[at] : 0, by = size ? ((shift % size) + size) % size : 0;
    if (by == 0) return cr_clone(t);
    cr_tensor *parts[] = {cr_slice(t, at, size - by, size, 1), cr_slice(t, at, 0, size - by, 1)};
    return cr_cat(parts, 2, at);
}

/* ---------------------------------------------------------------- tril, triu */
CR_ATTRIBUTES(triangle, CR_TRIANGLE_ATTRIBUTES)

static bool infer_triangle(cr_call *call) {
    if (call->inputs[0]->ndim < 2) return cr_fail_call(call, CR_ERROR_SHAPE, "needs at least 2 dims");
    cr_spec_set(call, 0, (cr_dtype)call->inputs[0]->dtype, cr_tensor_shape(call->inputs[0]));
    return true;
}

/* column - row of each element of a matrix like t's last two dims, [rows, columns] of i64. */
static cr_tensor *offsets_from_diagonal(const cr_tensor *t) {
    const int64_t rows = t->sizes[t->ndim - 2], columns = t->sizes[t->ndim - 1];
    cr_tensor *row = cr_arange(CR_I64, 0, (double)rows, 1, t->device),
              *column = cr_arange(CR_I64, 0, (double)columns, 1, t->device);
    return cr_sub(column, cr_unsqueeze(row, 1));
}
static bool decompose_tril(cr_call *call) {
    const double diagonal = (double)((const cr_triangle_options *)call->attributes)->diagonal;
    cr_tensor *outside = cr_gt_scalar(offsets_from_diagonal(call->inputs[0]), diagonal);
    return (call->outputs[0] = cr_masked_fill(call->inputs[0], outside, 0)) != NULL;
}
static bool decompose_triu(cr_call *call) {
    const double diagonal = (double)((const cr_triangle_options *)call->attributes)->diagonal;
    cr_tensor *outside = cr_lt_scalar(offsets_from_diagonal(call->inputs[0]), diagonal);
    return (call->outputs[0] = cr_masked_fill(call->inputs[0], outside, 0)) != NULL;
}
static bool vjp_tril(cr_vjp *v) {
    return cr_vjp_set(v, 0, cr_tril(v->grads[0], ((const cr_triangle_options *)v->attributes)->diagonal));
}
static bool vjp_triu(cr_vjp *v) {
    return cr_vjp_set(v, 0, cr_triu(v->grads[0], ((const cr_triangle_options *)v->attributes)->diagonal));
}
CR_OP(tril, .inputs = "input", CR_ROW_ATTRIBUTES(triangle), .infer = infer_triangle, .decompose = decompose_tril,
      .vjp = vjp_tril, .doc = "The lower triangle of the last two dims; zero above.")
CR_OP(triu, .inputs = "input", CR_ROW_ATTRIBUTES(triangle), .infer = infer_triangle, .decompose = decompose_triu,
      .vjp = vjp_triu, .doc = "The upper triangle of the last two dims; zero below.")

cr_tensor *cr_tril(cr_tensor *t, int64_t diagonal) {
    const cr_triangle_options options = {sizeof options, diagonal};
    return CR_RUN(tril, &options, t);
}
cr_tensor *cr_triu(cr_tensor *t, int64_t diagonal) {
    const cr_triangle_options options = {sizeof options, diagonal};
    return CR_RUN(triu, &options, t);
}
