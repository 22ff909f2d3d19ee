/* Indexing: rows, gradients, public functions. gather, scatter and sort have kernels; the rest is made of them. */
#include "ops/op.h"

#define DIM_ATTRIBUTES(A, op) A(op, INT, dim, 0)
CR_OPTIONS(gather, DIM_ATTRIBUTES)
CR_ATTRIBUTES(gather, DIM_ATTRIBUTES)

static bool check_index(const cr_call *call, int position) {
    const cr_dtype dtype = (cr_dtype)call->inputs[position]->dtype;
    return dtype == CR_I64 || dtype == CR_I32 || cr_fail_call(call, CR_ERROR_DTYPE, "indices are i64 or i32");
}

static int dim_of(const void *attributes, int ndim) {
    const int64_t dim = ((const cr_gather_options *)attributes)->dim;
    return (int)(dim < 0 ? dim + (ndim ? ndim : 1) : dim);
}

/* index and data have as many dims; off `dim`, index is nowhere larger. */
static bool check_fits(const cr_call *call, int data, int index, int dim) {
    const cr_tensor *x = call->inputs[data], *i = call->inputs[index];
    bool fits = x->ndim == i->ndim || (x->ndim <= 1 && i->ndim <= 1);
    for (int d = 0; fits && d < i->ndim && d < x->ndim; d++) fits = d == dim || i->sizes[d] <= x->sizes[d] || i->numel == 0;
    return fits || cr_fail_call(call, CR_ERROR_SHAPE, "indices have as many dims as the operand, and are nowhere larger but in dim %d", dim);
}

/* ---------------------------------------------------------------- gather, scatter */
static bool infer_gather(cr_call *call) {
    int dim;
    if (!check_index(call, 1) || !cr_normalize_dim(((const cr_gather_options *)call->attributes)->dim, call->inputs[0]->ndim, &dim)) return false;
    cr_spec_set(call, 0, (cr_dtype)call->inputs[0]->dtype, cr_tensor_shape(call->inputs[1]));
    return check_fits(call, 0, 1, dim);
}
static bool vjp_gather(cr_vjp *v) {
    const int dim = dim_of(v->attributes, v->input_specs[0].shape.count);
    cr_tensor *zeros = cr_zeros(v->input_specs[0].dtype, v->input_specs[0].shape, cr_device_of(v->grads[0]));
    return cr_vjp_set(v, 0, cr_scatter_add(zeros, dim, v->inputs[1], v->grads[0]));
}
CR_OP(gather, .inputs = "input index", CR_ROW_ATTRIBUTES(gather), .infer = infer_gather, .vjp = vjp_gather, .saves = CR_SAVE_INPUT(1),
      .doc = "Elements chosen along a dim.")

static bool infer_scatter(cr_call *call) {
    int dim;
    if (!check_index(call, 1) || !cr_normalize_dim(((const cr_gather_options *)call->attributes)->dim, call->inputs[0]->ndim, &dim)) return false;
    const cr_tensor *index = call->inputs[1], *source = call->inputs[2];
    bool fits = source->ndim == index->ndim;
    for (int d = 0; fits && d < index->ndim; d++) fits = index->sizes[d] <= source->sizes[d];
    if (!fits) return cr_fail_call(call, CR_ERROR_SHAPE, "the source has as many dims as the indices, and is nowhere smaller");
    if (source->dtype != call->inputs[0]->dtype) return cr_fail_call(call, CR_ERROR_DTYPE, "source and operand must have one dtype");
    cr_spec_set(call, 0, (cr_dtype)call->inputs[0]->dtype, cr_tensor_shape(call->inputs[0]));
    return check_fits(call, 0, 1, dim);
}

/* The part of a gradient that the indices' shape covers. */
static cr_tensor *gather_like(cr_tensor *g, int dim, cr_tensor *index, cr_shape source) {
    cr_tensor *part = cr_gather(g, dim, index);
    const cr_shape own = cr_shape_of(index);
    if (cr_shape_equal(own, source)) return part;
    cr_dims before = {.count = own.count}, after = {.count = own.count};
    for (int i = 0; i < own.count; i++) before.at[i] = 0, after.at[i] = source.at[i] - own.at[i];
    return cr_pad(part, before, after, 0);
}
static bool vjp_scatter(cr_vjp *v) {
    const int dim = dim_of(v->attributes, v->input_specs[0].shape.count);
    cr_tensor *g = v->grads[0], *index = v->inputs[1];
    if (v->needs[0]) {
        cr_tensor *zeros = cr_zeros(v->input_specs[2].dtype, cr_shape_of(index), cr_device_of(g));
        if (!cr_vjp_set(v, 0, cr_scatter(g, dim, index, zeros))) return false;
    }
    return !v->needs[2] || cr_vjp_set(v, 2, gather_like(g, dim, index, v->input_specs[2].shape));
}
static bool vjp_scatter_add(cr_vjp *v) {
    const int dim = dim_of(v->attributes, v->input_specs[0].shape.count);
    if (v->needs[0] && !cr_vjp_set(v, 0, v->grads[0])) return false;
    return !v->needs[2] || cr_vjp_set(v, 2, gather_like(v->grads[0], dim, v->inputs[1], v->input_specs[2].shape));
}
CR_OP(scatter, .inputs = "input index source", CR_ROW_ATTRIBUTES(gather), .infer = infer_scatter, .vjp = vjp_scatter, .saves = CR_SAVE_INPUT(1),
      .doc = "A copy with elements replaced where indices say.")
CR_OP(scatter_add, .inputs = "input index source", CR_ROW_ATTRIBUTES(gather), .infer = infer_scatter, .vjp = vjp_scatter_add,
      .saves = CR_SAVE_INPUT(1), .doc = "A copy with elements added where indices say.")

#define WITH_DIM(name, ...)                                                                                            \
    const cr_gather_options options = {sizeof options, dim};                                                           \
    return CR_RUN(name, &options, __VA_ARGS__)
cr_tensor *cr_gather(cr_tensor *x, int dim, cr_tensor *index) { WITH_DIM(gather, x, index); }
cr_tensor *cr_scatter(cr_tensor *x, int dim, cr_tensor *index, cr_tensor *source) { WITH_DIM(scatter, x, index, source); }
cr_tensor *cr_scatter_add(cr_tensor *x, int dim, cr_tensor *index, cr_tensor *source) { WITH_DIM(scatter_add, x, index, source); }

/* ---------------------------------------------------------------- index_select: whole slices */
static bool infer_index_select(cr_call *call) {
    const cr_tensor *x = call->inputs[0], *index = call->inputs[1];
    int dim;
    if (!check_index(call, 1) || !cr_normalize_dim(((const cr_gather_options *)call->attributes)->dim, x->ndim, &dim)) return false;
    if (index->ndim > 1 || x->ndim == 0) return cr_fail_call(call, CR_ERROR_SHAPE, "takes a row of indices and an operand with dims");
    cr_shape shape = cr_tensor_shape(x);
    shape.at[dim] = index->numel;
    cr_spec_set(call, 0, (cr_dtype)x->dtype, shape);
    return true;
}
static bool vjp_index_select(cr_vjp *v) {
    const int dim = dim_of(v->attributes, v->input_specs[0].shape.count);
    cr_tensor *zeros = cr_zeros(v->input_specs[0].dtype, v->input_specs[0].shape, cr_device_of(v->grads[0]));
    const cr_gather_options options = {sizeof options, dim};
    extern cr_op cr_op_index_add;
    return cr_vjp_set(v, 0, CR_RUN(index_add, &options, zeros, v->inputs[1], v->grads[0]));
}
CR_OP(index_select, .inputs = "input index", CR_ROW_ATTRIBUTES(gather), .infer = infer_index_select, .vjp = vjp_index_select,
      .saves = CR_SAVE_INPUT(1), .doc = "Positions of a dim in a given order.")

static bool infer_index_add(cr_call *call) {
    const cr_tensor *x = call->inputs[0], *index = call->inputs[1], *source = call->inputs[2];
    int dim;
    if (!check_index(call, 1) || !cr_normalize_dim(((const cr_gather_options *)call->attributes)->dim, x->ndim, &dim)) return false;
    cr_shape expected = cr_tensor_shape(x);
    if (x->ndim) expected.at[dim] = index->numel;
    if (x->ndim == 0 || index->ndim > 1 || !cr_shape_equal(expected, cr_tensor_shape(source)))
        return cr_fail_call(call, CR_ERROR_SHAPE, "the source has the operand's shape with as many positions in dim %d as there are indices", dim);
    if (source->dtype != x->dtype) return cr_fail_call(call, CR_ERROR_DTYPE, "source and operand must have one dtype");
    cr_spec_set(call, 0, (cr_dtype)x->dtype, cr_tensor_shape(x));
    return true;
}
static bool vjp_index_add(cr_vjp *v) {
    const int dim = dim_of(v->attributes, v->input_specs[0].shape.count);
    if (v->needs[0] && !cr_vjp_set(v, 0, v->grads[0])) return false;
    return !v->needs[2] || cr_vjp_set(v, 2, cr_index_select(v->grads[0], dim, v->inputs[1]));
}
CR_OP(index_add, .inputs = "input index source", CR_ROW_ATTRIBUTES(gather), .infer = infer_index_add, .vjp = vjp_index_add,
      .saves = CR_SAVE_INPUT(1), .doc = "A copy with slices added at positions of a dim.")

cr_tensor *cr_index_select(cr_tensor *x, int dim, cr_tensor *index) { WITH_DIM(index_select, x, index); }

/* ---------------------------------------------------------------- embedding */
#define EMBEDDING_ATTRIBUTES(A, op) A(op, INT, padding_idx, -1)
CR_OPTIONS(embedding, EMBEDDING_ATTRIBUTES)
CR_ATTRIBUTES(embedding, EMBEDDING_ATTRIBUTES)

static bool infer_embedding(cr_call *call) {
    const cr_tensor *weight = call->inputs[0], *index = call->inputs[1];
    if (!check_index(call, 1)) return false;
    if (weight->ndim != 2 || index->ndim >= CR_MAX_DIMS) return cr_fail_call(call, CR_ERROR_SHAPE, "the weight is [count, size]");
    cr_shape shape = cr_tensor_shape(index);
    shape.at[shape.count++] = weight->sizes[1];
    cr_spec_set(call, 0, (cr_dtype)weight->dtype, shape);
    return true;
}
static bool decompose_embedding(cr_call *call) {
    cr_tensor *rows = cr_index_select(call->inputs[0], 0, cr_flatten(call->inputs[1], 0, -1));
    return (call->outputs[0] = cr_reshape(rows, call->specs[0].shape)) != NULL;
}
static bool vjp_embedding(cr_vjp *v) {
    const int64_t padding = ((const cr_embedding_options *)v->attributes)->padding_idx;
    cr_tensor *index = cr_flatten(v->inputs[1], 0, -1), *g = v->grads[0];
    const int64_t size = v->input_specs[0].shape.at[1];
    g = cr_reshape(g, CR_SHAPE(cr_numel(index), size));
    if (padding >= 0) g = cr_masked_fill(g, cr_unsqueeze(cr_eq_scalar(index, (double)padding), 1), 0);
    cr_tensor *zeros = cr_zeros(v->input_specs[0].dtype, v->input_specs[0].shape, cr_device_of(v->grads[0]));
    const cr_gather_options options = {sizeof options, 0};
    return cr_vjp_set(v, 0, CR_RUN(index_add, &options, zeros, index, g));
}
CR_OP(embedding, .inputs = "weight index", CR_ROW_ATTRIBUTES(embedding), .infer = infer_embedding, .decompose = decompose_embedding,
      .vjp = vjp_embedding, .saves = CR_SAVE_INPUT(1), .doc = "Rows of a table by index.")

cr_tensor *cr_embedding(cr_tensor *weight, cr_tensor *index, int64_t padding_idx) {
    const cr_embedding_options options = {sizeof options, padding_idx};
    return CR_RUN(embedding, &options, weight, index);
}

cr_tensor *cr_one_hot(cr_tensor *index, int64_t classes) {
    if (!index || !cr_tensor_check(index, "one_hot")) return NULL;
    if (classes < 0) classes = index->numel ? cr_item_i64(cr_amax(index)) + 1 : 0;
    if (index->numel && (cr_item_i64(cr_amin(index)) < 0 || cr_item_i64(cr_amax(index)) >= classes)) {
        cr_record_error(CR_ERROR_INDEX, "one_hot: indices from %lld to %lld for %lld classes", (long long)cr_item_i64(cr_amin(index)),
                        (long long)cr_item_i64(cr_amax(index)), (long long)classes);
        return NULL;
    }
    return cr_cast(cr_eq(cr_unsqueeze(index, -1), cr_arange(CR_I64, 0, (double)classes, 1, index->device)), CR_I64);
}

/* ---------------------------------------------------------------- nonzero, masked_select: sizes depend on values */
static bool infer_nonzero(cr_call *call) {
    const cr_tensor *x = call->inputs[0];
    cr_tensor *count = cr_sum(cr_ne_scalar(call->inputs[0], 0));
    if (!count) return false;
    cr_spec_set(call, 0, CR_I64, CR_SHAPE(cr_item_i64(count), x->ndim));
    return true;
}
CR_OP(nonzero, .inputs = "input", .flags = CR_OP_NO_GRADIENT | CR_OP_READS_HOST, .infer = infer_nonzero,
      .doc = "Indices of the elements that are not 0.")
cr_tensor *cr_nonzero(cr_tensor *x) { return CR_RUN(nonzero, NULL, x); }

cr_tensor *cr_masked_select(cr_tensor *x, cr_tensor *mask) {
    cr_shape shape;
    if (!x || !mask || !cr_tensor_check(x, "masked_select") || !cr_tensor_check(mask, "masked_select")) return NULL;
    if (mask->dtype != CR_BOOL) {
        cr_record_error(CR_ERROR_DTYPE, "masked_select: the mask is %s, it must be bool", cr_dtype_name((cr_dtype)mask->dtype));
        return NULL;
    }
    if (!cr_shape_broadcast(cr_tensor_shape(x), cr_tensor_shape(mask), &shape)) return NULL;
    cr_tensor *where = cr_nonzero(cr_flatten(cr_expand(mask, shape), 0, -1));
    return cr_index_select(cr_flatten(cr_expand(x, shape), 0, -1), 0, cr_flatten(where, 0, -1));
}

/* ---------------------------------------------------------------- sort, topk */
#define SORT_ATTRIBUTES(A, op) A(op, INT, dim, -1) A(op, BOOL, descending, false)
CR_OPTIONS(sort, SORT_ATTRIBUTES)
CR_ATTRIBUTES(sort, SORT_ATTRIBUTES)

static bool infer_argsort(cr_call *call) {
    int dim;
    cr_spec_set(call, 0, CR_I64, cr_tensor_shape(call->inputs[0]));
    return cr_normalize_dim(((const cr_sort_options *)call->attributes)->dim, call->inputs[0]->ndim, &dim);
}
CR_OP(argsort, .inputs = "input", CR_ROW_ATTRIBUTES(sort), .flags = CR_OP_NO_GRADIENT, .infer = infer_argsort,
      .doc = "Where each element of a dim's sorted order stands.")

cr_tensor *cr_argsort(cr_tensor *x, int dim, bool descending) {
    const cr_sort_options options = {sizeof options, dim, descending};
    return CR_RUN(argsort, &options, x);
}
cr_tensor *cr_sort(cr_tensor *x, int dim, bool descending, cr_tensor **indices) {
    cr_tensor *where = cr_argsort(x, dim, descending);
    if (indices) *indices = where;
    return cr_gather(x, dim, where);
}
cr_tensor *cr_topk(cr_tensor *x, int64_t k, int dim, bool largest, cr_tensor **indices) {
    int at;
    if (indices) *indices = NULL;
    if (!x || !cr_tensor_check(x, "topk") || !cr_normalize_dim(dim, x->ndim, &at)) return NULL;
    if (k < 0 || k > (x->ndim ? x->sizes[at] : 1)) {
        char text[224];
        cr_record_error(CR_ERROR_INDEX, "topk: %lld of dim %d of %s", (long long)k, dim, cr_describe(x, text));
        return NULL;
    }
    cr_tensor *order = cr_argsort(x, at, largest), *where = x->ndim ? cr_contiguous(cr_narrow(order, at, 0, k)) : order;
    if (indices) *indices = where;
    return cr_gather(x, at, where);
}
