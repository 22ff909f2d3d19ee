/* Views: other shapes and windows onto the same storage. Each is a row, and so is the gradient of each. */
#include "ops/shape.h"

#define SHAPE_ATTRIBUTES(A, op) A(op, DIMS, shape, {0, {0}})
CR_OPTIONS(view, SHAPE_ATTRIBUTES)
CR_ATTRIBUTES(view, SHAPE_ATTRIBUTES)
#define PERMUTE_ATTRIBUTES(A, op) A(op, DIMS, dims, {0, {0}})
CR_OPTIONS(permute, PERMUTE_ATTRIBUTES)
CR_ATTRIBUTES(permute, PERMUTE_ATTRIBUTES)
#define SLICE_ATTRIBUTES(A, op) A(op, INT, dim, 0) A(op, INT, start, 0) A(op, INT, end, INT64_MAX) A(op, INT, step, 1)
CR_OPTIONS(slice, SLICE_ATTRIBUTES)
CR_ATTRIBUTES(slice, SLICE_ATTRIBUTES)
#define SELECT_ATTRIBUTES(A, op) A(op, INT, dim, 0) A(op, INT, index, 0)
CR_OPTIONS(select, SELECT_ATTRIBUTES)
CR_ATTRIBUTES(select, SELECT_ATTRIBUTES)
#define DIAGONAL_ATTRIBUTES(A, op) A(op, INT, offset, 0) A(op, INT, dim1, 0) A(op, INT, dim2, 1)
CR_OPTIONS(diagonal, DIAGONAL_ATTRIBUTES)
CR_ATTRIBUTES(diagonal, DIAGONAL_ATTRIBUTES)
CR_ATTRIBUTES(as_strided, CR_AS_STRIDED_ATTRIBUTES)

static bool set_view(cr_call *call, cr_shape shape, cr_shape strides, int64_t offset) {
    return (call->outputs[0] = cr_view_raw(call->inputs[0], shape, strides, offset)) != NULL;
}

/* ---------------------------------------------------------------- view and reshape */
/* Fills in a size of -1; the result must have t's number of elements. */
static bool complete_shape(const cr_tensor *t, cr_shape *shape) {
    int64_t known = 1;
    int open = -1;
    char text[224], wanted[192];
    if (!cr_shape_check(*shape)) return false;
    for (int i = 0; i < shape->count; i++) {
        if (shape->at[i] == -1 && open < 0) {
            open = i;
            continue;
        }
        if (shape->at[i] < 0 || __builtin_mul_overflow(known, shape->at[i], &known))
            return cr_fail(CR_ERROR_SHAPE, "cannot make %s into %s: sizes are 0 or more, and one may be -1",
                           cr_describe(t, text), cr_shape_format(*shape, wanted));
    }
    if (open >= 0 && known > 0 && t->numel % known == 0)
        shape->at[open] = t->numel / known;
    else if (open >= 0 || known != t->numel)
        return cr_fail(CR_ERROR_SHAPE, "cannot make %s (%lld elements) into %s", cr_describe(t, text),
                       (long long)t->numel, cr_shape_format(*shape, wanted));
    return true;
}

/* Strides of `shape` over t's memory: each run of t's dims that lies like one dim is cut anew. False where that cannot
 * be. */
static bool strides_of_view(const cr_tensor *t, const cr_shape *shape, cr_shape *strides) {
    if (t->numel == 0) {
        cr_contiguous_strides(*shape, strides);
        return true;
    }
    strides->count = shape->count;
    int to = shape->count - 1;
    int64_t run = 1, taken = 1, base = t->ndim ? t->strides[t->ndim - 1] : 1;
    for (int from = t->ndim - 1; from >= 0; from--) {
        run *= t->sizes[from];
        const bool run_ends = from == 0 || (t->sizes[from - 1] != 1 && t->strides[from - 1] != run * base);
        if (!run_ends) continue;
        while (to >= 0 && (taken < run || shape->at[to] == 1)) {
            strides->at[to] = taken * base;
            taken *= shape->at[to--];
        }
        if (taken != run) return false;
        if (from > 0) {
            base = t->strides[from - 1];
            run = taken = 1;
        }
    }
    for (; to >= 0; to--)
        strides->at[to] = 1; /* what is left has size 1 */
    return true;
}

static bool view_view(cr_call *call) {
    cr_shape shape = ((const cr_view_options *)call->attributes)->shape, strides;
    if (!complete_shape(call->inputs[0], &shape)) return false;
    if (!strides_of_view(call->inputs[0], &shape, &strides))
        return cr_fail_call(call, CR_ERROR_SHAPE,
                            "the elements do not lie as this view needs; use cr_reshape, which copies where it must");
    return set_view(call, shape, strides, call->inputs[0]->offset);
}
static bool vjp_view(cr_vjp *v) { return cr_vjp_set(v, 0, cr_reshape(v->grads[0], v->input_specs[0].shape)); }
CR_OP(view, .inputs = "input", CR_ROW_ATTRIBUTES(view), .flags = CR_OP_VIEW, .view = view_view, .vjp = vjp_view,
      .doc = "Another shape over the same memory.")

cr_tensor *cr_view(cr_tensor *t, cr_shape shape) {
    const cr_view_options options = {sizeof options, shape};
    return CR_RUN(view, &options, t);
}

cr_tensor *cr_reshape(cr_tensor *t, cr_shape shape) {
    if (!cr_tensor_check(t, "reshape") || !complete_shape(t, &shape)) return NULL;
    cr_shape strides;
    if (cr_shape_equal(shape, cr_tensor_shape(t))) return t;
    return cr_view(strides_of_view(t, &shape, &strides) ? t : cr_contiguous(t), shape);
}

cr_tensor *cr_flatten(cr_tensor *t, int start_dim, int end_dim) {
    int start, end;
    if (!cr_tensor_check(t, "flatten") || !cr_normalize_dim(start_dim, t->ndim, &start) ||
        !cr_normalize_dim(end_dim, t->ndim, &end))
        return NULL;
    if (start > end) {
        cr_record_error(CR_ERROR_ARGUMENT, "flatten: start_dim %d comes after end_dim %d", start_dim, end_dim);
        return NULL;
    }
    cr_shape shape = {.count = 0};
    int64_t joined = 1;
    for (int i = 0; i < t->ndim; i++) {
        if (i < start || i > end)
            shape.at[shape.count++] = t->sizes[i];
        else
            joined *= t->sizes[i];
        if (i == end) shape.at[shape.count++] = joined;
    }
    if (t->ndim == 0) shape = CR_SHAPE(1);
    return cr_reshape(t, shape);
}

cr_tensor *cr_unflatten(cr_tensor *t, int dim, cr_shape sizes) {
    int at;
    if (!cr_tensor_check(t, "unflatten") || !cr_normalize_dim(dim, t->ndim, &at)) return NULL;
    if (t->ndim - 1 + sizes.count > CR_MAX_DIMS || sizes.count < 1 || t->ndim == 0) {
        cr_record_error(CR_ERROR_SHAPE, "unflatten: %d dims out of one of %d; 1 to %d in all can be had", sizes.count,
                        t->ndim, CR_MAX_DIMS);
        return NULL;
    }
    int64_t known = 1;
    for (int i = 0; i < sizes.count; i++)
        known *= sizes.at[i] > 0 ? sizes.at[i] : 1;
    cr_shape shape = {.count = 0};
    for (int i = 0; i < t->ndim; i++) {
        if (i != at) shape.at[shape.count++] = t->sizes[i];
        for (int k = 0; i == at && k < sizes.count; k++)
            shape.at[shape.count++] = sizes.at[k] == -1 ? t->sizes[at] / known : sizes.at[k];
    }
    return cr_reshape(t, shape);
}

/* ---------------------------------------------------------------- permute */
static bool view_permute(cr_call *call) {
    const cr_tensor *t = call->inputs[0];
    const cr_dims order = ((const cr_permute_options *)call->attributes)->dims;
    cr_shape shape = {.count = t->ndim}, strides = {.count = t->ndim};
    unsigned seen = 0;
    if (order.count != t->ndim)
        return cr_fail_call(call, CR_ERROR_SHAPE, "%d dims are named, the tensor has %d", order.count, t->ndim);
    for (int i = 0; i < t->ndim; i++) {
        int dim;
        if (!cr_normalize_dim(order.at[i], t->ndim, &dim)) return false;
        if (seen >> dim & 1) return cr_fail_call(call, CR_ERROR_ARGUMENT, "dim %d is named twice", dim);
        seen |= 1u << dim;
        shape.at[i] = t->sizes[dim];
        strides.at[i] = t->strides[dim];
    }
    return set_view(call, shape, strides, t->offset);
}
static bool vjp_permute(cr_vjp *v) {
    const cr_dims order = ((const cr_permute_options *)v->attributes)->dims;
    cr_dims back = {.count = order.count};
    for (int i = 0; i < order.count; i++)
        back.at[order.at[i] < 0 ? order.at[i] + order.count : order.at[i]] = i;
    return cr_vjp_set(v, 0, cr_permute(v->grads[0], back));
}
CR_OP(permute, .inputs = "input", CR_ROW_ATTRIBUTES(permute), .flags = CR_OP_VIEW, .view = view_permute,
      .vjp = vjp_permute, .doc = "The dims in another order.")

cr_tensor *cr_permute(cr_tensor *t, cr_dims order) {
    const cr_permute_options options = {sizeof options, order};
    return CR_RUN(permute, &options, t);
}

cr_tensor *cr_transpose(cr_tensor *t, int dim0, int dim1) {
    int a, b;
    if (!cr_tensor_check(t, "transpose") || !cr_normalize_dim(dim0, t->ndim, &a) ||
        !cr_normalize_dim(dim1, t->ndim, &b))
        return NULL;
    cr_dims order = {.count = t->ndim};
    for (int i = 0; i < t->ndim; i++)
        order.at[i] = i == a ? b : i == b ? a : i;
    return cr_permute(t, order);
}

cr_tensor *cr_t(cr_tensor *t) {
    if (!cr_tensor_check(t, "t")) return NULL;
    if (t->ndim > 2) {
        char text[224];
        cr_record_error(CR_ERROR_SHAPE, "t: takes at most 2 dims, got %s; use cr_transpose", cr_describe(t, text));
        return NULL;
    }
    return t->ndim < 2 ? t : cr_transpose(t, 0, 1);
}

cr_tensor *cr_movedim(cr_tensor *t, int source, int destination) {
    int from, to;
    if (!cr_tensor_check(t, "movedim") || !cr_normalize_dim(source, t->ndim, &from) ||
        !cr_normalize_dim(destination, t->ndim, &to))
        return NULL;
    cr_dims order = {.count = t->ndim};
    for (int i = 0, next = 0; i < t->ndim; i++) {
        if (i == to) {
            order.at[i] = from;
            continue;
        }
        if (next == from) next++;
        order.at[i] = next++;
    }
    return cr_permute(t, order);
}

/* ---------------------------------------------------------------- squeeze, unsqueeze: reshapes that never copy */
cr_tensor *cr_squeeze(cr_tensor *t, cr_dims dims) {
    if (!cr_tensor_check(t, "squeeze") || !cr_shape_check(dims)) return NULL;
    unsigned named = 0;
    for (int i = 0; i < dims.count; i++) {
        int dim;
        if (!cr_normalize_dim(dims.at[i], t->ndim, &dim)) return NULL;
        named |= 1u << dim;
    }
    cr_shape shape = {.count = 0};
    for (int i = 0; i < t->ndim; i++)
        if (t->sizes[i] != 1 || (dims.count && !(named >> i & 1))) shape.at[shape.count++] = t->sizes[i];
    return shape.count == t->ndim ? t : cr_view(t, shape);
}

cr_tensor *cr_unsqueeze(cr_tensor *t, int dim) {
    if (!cr_tensor_check(t, "unsqueeze")) return NULL;
    const int at = dim < 0 ? dim + t->ndim + 1 : dim;
    if (at < 0 || at > t->ndim || t->ndim == CR_MAX_DIMS) {
        cr_record_error(CR_ERROR_INDEX, "unsqueeze: a dim at %d of a tensor of %d dims (at most %d)", dim, t->ndim,
                        CR_MAX_DIMS);
        return NULL;
    }
    cr_shape shape = {.count = t->ndim + 1};
    for (int i = 0; i < shape.count; i++)
        shape.at[i] = i < at ? t->sizes[i] : i == at ? 1 : t->sizes[i - 1];
    return cr_view(t, shape);
}

/* ---------------------------------------------------------------- expand */
static bool view_expand(cr_call *call) {
    const cr_tensor *t = call->inputs[0];
    cr_shape shape = ((const cr_view_options *)call->attributes)->shape, strides = {.count = shape.count};
    const int added = shape.count - t->ndim;
    char text[192];
    bool fits = added >= 0;
    for (int i = 0; fits && i < shape.count; i++) {
        const int64_t size = i < added ? 1 : t->sizes[i - added];
        if (shape.at[i] == -1 && i >= added) shape.at[i] = size;
        fits = shape.at[i] >= 0 && (size == 1 || size == shape.at[i]);
        strides.at[i] = i < added || size == 1 ? 0 : t->strides[i - added];
    }
    if (!fits)
        return cr_fail_call(call, CR_ERROR_SHAPE,
                            "cannot expand to %s: only dims of size 1 stretch, and new ones come in front",
                            cr_shape_format(shape, text));
    return set_view(call, shape, strides, t->offset);
}
static bool vjp_expand(cr_vjp *v) { return cr_vjp_set(v, 0, v->grads[0]); } /* the driver sums */
CR_OP(expand, .inputs = "input", CR_ROW_ATTRIBUTES(view), .flags = CR_OP_VIEW, .view = view_expand, .vjp = vjp_expand,
      .doc = "Dims of size 1 stretched without copying.")

cr_tensor *cr_expand(cr_tensor *t, cr_shape shape) {
    const cr_view_options options = {sizeof options, shape};
    return CR_RUN(expand, &options, t);
}
cr_tensor *cr_expand_as(cr_tensor *t, cr_tensor *other) {
    return cr_tensor_check(other, "expand_as") ? cr_expand(t, cr_tensor_shape(other)) : NULL;
}

/* ---------------------------------------------------------------- slice and select */
/* start and end as positions in 0 … size. */
static void clip_slice(const cr_slice_options *options, int64_t size, int64_t *start, int64_t *length) {
    const int64_t first = options->start < 0 ? options->start + size : options->start;
    const int64_t last = options->end < 0 ? options->end + size : options->end;
    *start = first < 0 ? 0 : first > size ? size : first;
    const int64_t end = last < *start ? *start : last > size ? size : last;
    *length = (end - *start + options->step - 1) / options->step;
}

static bool view_slice(cr_call *call) {
    const cr_slice_options *options = call->attributes;
    const cr_tensor *t = call->inputs[0];
    int dim;
    int64_t start, length;
    if (t->ndim == 0) return cr_fail_call(call, CR_ERROR_SHAPE, "a 0-d tensor has nothing to slice");
    if (!cr_normalize_dim(options->dim, t->ndim, &dim)) return false;
    if (options->step < 1)
        return cr_fail(CR_ERROR_ARGUMENT, "a step of %lld; it must be 1 or more", (long long)options->step);
    clip_slice(options, t->sizes[dim], &start, &length);
    cr_shape shape = cr_tensor_shape(t), strides = cr_strides_of(t);
    shape.at[dim] = length;
    strides.at[dim] *= options->step;
    return set_view(call, shape, strides, t->offset + (length ? start * t->strides[dim] : 0));
}

/* The gradient of a window goes to its place in the whole's, which is all zeros before the first one comes. */
static bool set_window(cr_vjp *v, cr_shape shape, cr_shape strides, int64_t offset) {
    cr_tensor *gradient = v->grads[0], *whole = v->sum ? *v->sum : NULL;
    const bool is_first = !whole;
    if (is_first) whole = cr_zeros(v->input_specs[0].dtype, v->input_specs[0].shape, cr_device_of(gradient));
    if (!v->sum) return cr_vjp_set(v, 0, cr_as_strided_scatter(whole, gradient, shape, strides, offset));
    if (!whole) return false;
    if (is_first) *v->sum = cr_retain(whole);
    cr_tensor *window = cr_view_raw(whole, shape, strides, whole->offset + offset);
    return (is_first ? cr_copy_(window, gradient) : cr_add_(window, gradient)) != NULL;
}

static bool vjp_slice(cr_vjp *v) {
    const cr_slice_options *options = v->attributes;
    cr_shape shape = v->input_specs[0].shape, strides;
    const int dim = (int)(options->dim < 0 ? options->dim + shape.count : options->dim);
    int64_t start, length;
    clip_slice(options, shape.at[dim], &start, &length);
    cr_contiguous_strides(shape, &strides);
    const int64_t offset = length ? start * strides.at[dim] : 0;
    shape.at[dim] = length;
    strides.at[dim] *= options->step;
    return set_window(v, shape, strides, offset);
}
CR_OP(slice, .inputs = "input", CR_ROW_ATTRIBUTES(slice), .flags = CR_OP_VIEW, .view = view_slice, .vjp = vjp_slice,
      .doc = "Every step-th element of one dim between two positions.")

cr_tensor *cr_slice(cr_tensor *t, int dim, int64_t start, int64_t end, int64_t step) {
    const cr_slice_options options = {sizeof options, dim, start, end, step};
    return CR_RUN(slice, &options, t);
}

cr_tensor *cr_narrow(cr_tensor *t, int dim, int64_t start, int64_t length) {
    int at;
    if (!cr_tensor_check(t, "narrow") || !cr_normalize_dim(dim, t->ndim, &at)) return NULL;
    const int64_t size = t->ndim ? t->sizes[at] : 0, first = start < 0 ? start + size : start;
    if (t->ndim == 0 || first < 0 || length < 0 || first > size || length > size - first) {
        char text[224];
        cr_record_error(CR_ERROR_INDEX, "narrow: elements %lld to %lld of dim %d of %s", (long long)start,
                        (long long)(start + length), dim, cr_describe(t, text));
        return NULL;
    }
    return cr_slice(t, at, first, first + length, 1);
}

static bool view_select(cr_call *call) {
    const cr_select_options *options = call->attributes;
    const cr_tensor *t = call->inputs[0];
    int dim;
    if (t->ndim == 0) return cr_fail_call(call, CR_ERROR_SHAPE, "a 0-d tensor has nothing to select");
    if (!cr_normalize_dim(options->dim, t->ndim, &dim)) return false;
    const int64_t index = options->index < 0 ? options->index + t->sizes[dim] : options->index;
    if (index < 0 || index >= t->sizes[dim])
        return cr_fail_call(call, CR_ERROR_INDEX, "index %lld of dim %d, which has %lld", (long long)options->index,
                            dim, (long long)t->sizes[dim]);
    cr_shape shape = {.count = 0}, strides = {.count = 0};
    for (int i = 0; i < t->ndim; i++) {
        if (i == dim) continue;
        shape.at[shape.count++] = t->sizes[i];
        strides.at[strides.count++] = t->strides[i];
    }
    return set_view(call, shape, strides, t->offset + index * t->strides[dim]);
}
static bool vjp_select(cr_vjp *v) {
    const cr_select_options *options = v->attributes;
    const cr_shape full = v->input_specs[0].shape;
    const int dim = (int)(options->dim < 0 ? options->dim + full.count : options->dim);
    const int64_t index = options->index < 0 ? options->index + full.at[dim] : options->index;
    cr_shape full_strides, shape = {.count = 0}, strides = {.count = 0};
    cr_contiguous_strides(full, &full_strides);
    for (int i = 0; i < full.count; i++) {
        if (i == dim) continue;
        shape.at[shape.count++] = full.at[i];
        strides.at[strides.count++] = full_strides.at[i];
    }
    return set_window(v, shape, strides, index * full_strides.at[dim]);
}
CR_OP(select, .inputs = "input", CR_ROW_ATTRIBUTES(select), .flags = CR_OP_VIEW, .view = view_select, .vjp = vjp_select,
      .doc = "One position of one dim.")

cr_tensor *cr_select(cr_tensor *t, int dim, int64_t index) {
    const cr_select_options options = {sizeof options, dim, index};
    return CR_RUN(select, &options, t);
}

/* ---------------------------------------------------------------- diagonal */
static bool place_diagonal(const cr_diagonal_options *options, cr_shape full, cr_shape full_strides, cr_shape *shape,
                           cr_shape *strides, int64_t *offset) {
    int first, second;
    if (!cr_normalize_dim(options->dim1, full.count, &first) || !cr_normalize_dim(options->dim2, full.count, &second))
        return false;
    if (full.count < 2 || first == second) return cr_fail(CR_ERROR_ARGUMENT, "a diagonal lies in two different dims");
    const int64_t rows = full.at[first] + (options->offset < 0 ? options->offset : 0);
    const int64_t columns = full.at[second] - (options->offset > 0 ? options->offset : 0);
    const int64_t length = rows < columns ? rows : columns;
    shape->count = strides->count = 0;
    for (int i = 0; i < full.count; i++) {
        if (i == first || i == second) continue;
        shape->at[shape->count++] = full.at[i];
        strides->at[strides->count++] = full_strides.at[i];
    }
    shape->at[shape->count++] = length > 0 ? length : 0;
    strides->at[strides->count++] = full_strides.at[first] + full_strides.at[second];
    *offset = length <= 0           ? 0
              : options->offset > 0 ? options->offset * full_strides.at[second]
                                    : -options->offset * full_strides.at[first];
    return true;
}

static bool view_diagonal(cr_call *call) {
    const cr_tensor *t = call->inputs[0];
    cr_shape shape, strides;
    int64_t offset;
    return place_diagonal(call->attributes, cr_tensor_shape(t), cr_strides_of(t), &shape, &strides, &offset) &&
           set_view(call, shape, strides, t->offset + offset);
}
static bool vjp_diagonal(cr_vjp *v) {
    cr_shape full_strides, shape, strides;
    int64_t offset;
    cr_contiguous_strides(v->input_specs[0].shape, &full_strides);
    return place_diagonal(v->attributes, v->input_specs[0].shape, full_strides, &shape, &strides, &offset) &&
           set_window(v, shape, strides, offset);
}
CR_OP(diagonal, .inputs = "input", CR_ROW_ATTRIBUTES(diagonal), .flags = CR_OP_VIEW, .view = view_diagonal,
      .vjp = vjp_diagonal, .doc = "The diagonal of two dims.")

cr_tensor *cr_diagonal(cr_tensor *t, int64_t offset, int dim1, int dim2) {
    const cr_diagonal_options options = {sizeof options, offset, dim1, dim2};
    return CR_RUN(diagonal, &options, t);
}

/* ---------------------------------------------------------------- unfold */
#define UNFOLD_ATTRIBUTES(A, op) A(op, INT, dim, 0) A(op, INT, window, 1) A(op, INT, step, 1)
CR_OPTIONS(unfold, UNFOLD_ATTRIBUTES)
CR_ATTRIBUTES(unfold, UNFOLD_ATTRIBUTES)

static bool view_unfold(cr_call *call) {
    const cr_unfold_options *o = call->attributes;
    const cr_tensor *t = call->inputs[0];
    int dim;
    if (t->ndim == 0 || t->ndim == CR_MAX_DIMS)
        return cr_fail_call(call, CR_ERROR_SHAPE, "needs 1 to %d dims", CR_MAX_DIMS - 1);
    if (!cr_normalize_dim(o->dim, t->ndim, &dim)) return false;
    if (o->step < 1 || o->window < 0 || o->window > t->sizes[dim])
        return cr_fail_call(call, CR_ERROR_ARGUMENT, "windows of %lld at every %lld-th of %lld positions",
                            (long long)o->window, (long long)o->step, (long long)t->sizes[dim]);
    cr_shape shape = cr_tensor_shape(t), strides = cr_strides_of(t);
    shape.at[shape.count++] = o->window;
    strides.at[strides.count++] = strides.at[dim];
    shape.at[dim] = (t->sizes[dim] - o->window) / o->step + 1;
    strides.at[dim] *= o->step;
    return set_view(call, shape, strides, t->offset);
}

/* Every position adds up the windows that show it: [.., windows, .., size] as [.., windows · size, ..], added by
 * position. */
static bool vjp_unfold(cr_vjp *v) {
    const cr_unfold_options *o = v->attributes;
    const cr_shape full = v->input_specs[0].shape;
    const int dim = (int)(o->dim < 0 ? o->dim + full.count : o->dim);
    cr_tensor *g = cr_movedim(v->grads[0], -1, dim + 1);
    if (!g) return false;
    const int64_t windows = g->sizes[dim];
    cr_tensor *starts = cr_arange(CR_I64, 0, (double)(windows * o->step), (double)o->step, g->device);
    cr_tensor *positions = cr_add(cr_unsqueeze(starts, 1), cr_arange(CR_I64, 0, (double)o->window, 1, g->device));
    cr_tensor *zeros = cr_zeros(v->input_specs[0].dtype, full, g->device);
    return cr_vjp_set(v, 0, cr_index_add(zeros, dim, cr_flatten(positions, 0, -1), cr_flatten(g, dim, dim + 1)));
}
CR_OP(unfold, .inputs = "input", CR_ROW_ATTRIBUTES(unfold), .flags = CR_OP_VIEW, .view = view_unfold, .vjp = vjp_unfold,
      .doc = "Sliding windows of a dim, as a new last dim.")

cr_tensor *cr_unfold(cr_tensor *t, int dim, int64_t size, int64_t step) {
    const cr_unfold_options options = {sizeof options, dim, size, step};
    return CR_RUN(unfold, &options, t);
}

/* ---------------------------------------------------------------- any window */
/* The window must lie inside `available` elements. */
static bool check_window(const cr_as_strided_options *o, int64_t available) {
    int64_t last = o->offset, numel;
    if (o->shape.count != o->strides.count)
        return cr_fail(CR_ERROR_SHAPE, "%d sizes and %d strides", o->shape.count, o->strides.count);
    if (!cr_shape_numel(o->shape, &numel)) return false;
    bool fits = o->offset >= 0;
    for (int i = 0; i < o->shape.count && numel > 0 && fits; i++) {
        int64_t reach;
        fits = o->strides.at[i] >= 0 && !__builtin_mul_overflow(o->shape.at[i] - 1, o->strides.at[i], &reach) &&
               !__builtin_add_overflow(last, reach, &last);
    }
    if (fits && (numel == 0 || last < available)) return true;
    return cr_fail(CR_ERROR_INDEX, "the window reaches element %lld; the storage has %lld from the tensor's first on",
                   (long long)last, (long long)available);
}

static bool view_as_strided(cr_call *call) {
    const cr_as_strided_options *o = call->attributes;
    const cr_tensor *t = call->inputs[0];
    const int64_t available = (int64_t)(t->storage->bytes / cr_dtype_size((cr_dtype)t->dtype)) - t->offset;
    return check_window(o, available) && set_view(call, o->shape, o->strides, t->offset + o->offset);
}
/* Overlapping windows would need a sum over what they share: their gradient is refused. */
static bool vjp_as_strided(cr_vjp *v) {
    const cr_as_strided_options *o = v->attributes;
    return set_window(v, o->shape, o->strides, o->offset);
}
CR_OP(as_strided, .inputs = "input", CR_ROW_ATTRIBUTES(as_strided), .flags = CR_OP_VIEW, .view = view_as_strided,
      .vjp = vjp_as_strided, .doc = "Any window onto the storage.")

cr_tensor *cr_as_strided(cr_tensor *t, cr_shape shape, cr_shape strides, int64_t offset) {
    const cr_as_strided_options options = {sizeof options, shape, strides, offset};
    return CR_RUN(as_strided, &options, t);
}

static bool infer_scatter(cr_call *call) {
    const cr_as_strided_options *o = call->attributes;
    const cr_tensor *t = call->inputs[0];
    cr_shape joined;
    cr_spec_set(call, 0, (cr_dtype)t->dtype, cr_tensor_shape(t));
    call->specs[0].channels_last = cr_is_channels_last(t) && !cr_is_contiguous(t);
    if (!check_window(o, t->numel) || !cr_shape_broadcast(o->shape, cr_tensor_shape(call->inputs[1]), &joined))
        return false;
    return cr_shape_equal(joined, o->shape) || cr_fail_call(call, CR_ERROR_SHAPE, "the source does not fit the window");
}
static bool decompose_scatter(cr_call *call) {
    const cr_as_strided_options *o = call->attributes;
    cr_tensor *copy = cr_clone(call->inputs[0]);
    call->outputs[0] = copy;
    return copy && cr_copy_(cr_view_raw(copy, o->shape, o->strides, o->offset), call->inputs[1]);
}
static bool vjp_scatter(cr_vjp *v) {
    const cr_as_strided_options *o = v->attributes;
    cr_tensor *g = v->input_specs[0].channels_last ? cr_channels_last(v->grads[0]) : cr_contiguous(v->grads[0]);
    cr_tensor *nothing =
        v->needs[0] ? cr_zeros(v->input_specs[1].dtype, v->input_specs[1].shape, cr_device_of(g)) : NULL;
    if (v->needs[0] && !cr_vjp_set(v, 0, cr_as_strided_scatter(g, nothing, o->shape, o->strides, o->offset)))
        return false;
    return !v->needs[1] || cr_vjp_set(v, 1, cr_as_strided(g, o->shape, o->strides, o->offset));
}
CR_OP(as_strided_scatter, .inputs = "input source", CR_ROW_ATTRIBUTES(as_strided), .flags = CR_OP_REWRITES,
      .infer = infer_scatter, .decompose = decompose_scatter, .vjp = vjp_scatter,
      .doc = "A copy with a window of it replaced.")

cr_tensor *cr_as_strided_scatter(cr_tensor *t, cr_tensor *source, cr_shape shape, cr_shape strides, int64_t offset) {
    const cr_as_strided_options options = {sizeof options, shape, strides, offset};
    return CR_RUN(as_strided_scatter, &options, t, source);
}

/* ---------------------------------------------------------------- writing at a slice or a position */
/* The window that `part`, a view of `whole` (dense), shows, replaced in a copy. */
static cr_tensor *scatter_view(cr_tensor *whole, cr_tensor *source, const cr_tensor *part) {
    if (!part) return NULL;
    return cr_as_strided_scatter(whole, source, cr_tensor_shape(part), cr_strides_of(part),
                                 part->offset - whole->offset);
}
cr_tensor *cr_slice_scatter(cr_tensor *t, cr_tensor *source, int dim, int64_t start, int64_t end, int64_t step) {
    cr_tensor *whole = cr_contiguous(t);
    return scatter_view(whole, source, whole ? cr_slice(whole, dim, start, end, step) : NULL);
}
cr_tensor *cr_select_scatter(cr_tensor *t, cr_tensor *source, int dim, int64_t index) {
    cr_tensor *whole = cr_contiguous(t);
    return scatter_view(whole, source, whole ? cr_select(whole, dim, index) : NULL);
}
