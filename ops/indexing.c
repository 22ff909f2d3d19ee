/* Indexing: rows, gradients, public functions. */
#include "ops/indexing.h"

CR_ATTRIBUTES(gather, CR_GATHER_ATTRIBUTES)
CR_ATTRIBUTES(sort, CR_SORT_ATTRIBUTES)
CR_ATTRIBUTES(topk, CR_TOPK_ATTRIBUTES)
CR_ATTRIBUTES(embedding, CR_EMBEDDING_ATTRIBUTES)
CR_ATTRIBUTES(embedding_grad, CR_EMBEDDING_GRAD_ATTRIBUTES)
CR_ATTRIBUTES(one_hot, CR_ONE_HOT_ATTRIBUTES)

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
    for (int d = 0; fits && d < i->ndim && d < x->ndim; d++)
        fits = d == dim || i->sizes[d] <= x->sizes[d] || i->numel == 0;
    return fits || cr_fail_call(call, CR_ERROR_SHAPE,
                                "indices have as many dims as the operand, and are nowhere larger but in dim %d", dim);
}

/* ---------------------------------------------------------------- gather, scatter */
static bool infer_gather(cr_call *call) {
    int dim;
    if (!check_index(call, 1) ||
        !cr_normalize_dim(((const cr_gather_options *)call->attributes)->dim, call->inputs[0]->ndim, &dim))
        return false;
    cr_spec_set(call, 0, (cr_dtype)call->inputs[0]->dtype, cr_tensor_shape(call->inputs[1]));
    return check_fits(call, 0, 1, dim);
}
static bool vjp_gather(cr_vjp *v) {
    const int dim = dim_of(v->attributes, v->input_specs[0].shape.count);
    cr_tensor *zeros = cr_zeros(v->input_specs[0].dtype, v->input_specs[0].shape, cr_device_of(v->grads[0]));
    return cr_vjp_set(v, 0, cr_scatter_add(zeros, dim, v->inputs[1], v->grads[0]));
}
CR_OP(gather, .inputs = "input index", CR_ROW_ATTRIBUTES(gather), .infer = infer_gather, .vjp = vjp_gather,
      .saves = CR_SAVE_INPUT(1), .doc = "Elements chosen along a dim.")

static bool infer_scatter(cr_call *call) {
    int dim;
    if (!check_index(call, 1) ||
        !cr_normalize_dim(((const cr_gather_options *)call->attributes)->dim, call->inputs[0]->ndim, &dim))
        return false;
    const cr_tensor *index = call->inputs[1], *source = call->inputs[2];
    bool fits = source->ndim == index->ndim;
    for (int d = 0; fits && d < index->ndim; d++)
        fits = index->sizes[d] <= source->sizes[d];
    if (!fits)
        return cr_fail_call(call, CR_ERROR_SHAPE, "the source has as many dims as the indices, and is nowhere smaller");
    if (source->dtype != call->inputs[0]->dtype)
        return cr_fail_call(call, CR_ERROR_DTYPE, "source and operand must have one dtype");
    cr_spec_set(call, 0, (cr_dtype)call->inputs[0]->dtype, cr_tensor_shape(call->inputs[0]));
    return check_fits(call, 0, 1, dim);
}

/* The part of a gradient that the indices' shape covers. */
static cr_tensor *gather_like(cr_tensor *g, int dim, cr_tensor *index, cr_shape source) {
    cr_tensor *part = cr_gather(g, dim, index);
    const cr_shape own = cr_shape_of(index);
    if (cr_shape_equal(own, source)) return part;
    cr_dims before = {.count = own.count}, after = {.count = own.count};
    for (int i = 0; i < own.count; i++)
        before.at[i] = 0, after.at[i] = source.at[i] - own.at[i];
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
CR_OP(scatter, .inputs = "input index source", CR_ROW_ATTRIBUTES(gather), .flags = CR_OP_REWRITES,
      .infer = infer_scatter, .vjp = vjp_scatter, .saves = CR_SAVE_INPUT(1),
      .doc = "A copy with elements replaced where indices say.")
CR_OP(scatter_add, .inputs = "input index source", CR_ROW_ATTRIBUTES(gather), .flags = CR_OP_REWRITES,
      .infer = infer_scatter, .vjp = vjp_scatter_add, .saves = CR_SAVE_INPUT(1),
      .doc = "A copy with elements added where indices say.")

#define WITH_DIM(name, ...)                                                                                            \
    const cr_gather_options options = {sizeof options, dim};                                                           \
    return CR_RUN(name, &options, __VA_ARGS__)
cr_tensor *cr_gather(cr_tensor *x, int dim, cr_tensor *index) { WITH_DIM(gather, x, index); }
cr_tensor *cr_scatter(cr_tensor *x, int dim, cr_tensor *index, cr_tensor *source) {
    WITH_DIM(scatter, x, index, source);
}
cr_tensor *cr_scatter_add(cr_tensor *x, int dim, cr_tensor *index, cr_tensor *source) {
    WITH_DIM(scatter_add, x, index, source);
}

/* ---------------------------------------------------------------- index_select: whole slices */
static bool infer_index_select(cr_call *call) {
    const cr_tensor *x = call->inputs[0], *index = call->inputs[1];
    int dim;
    if (!check_index(call, 1) || !cr_normalize_dim(((const cr_gather_options *)call->attributes)->dim, x->ndim, &dim))
        return false;
    if (index->ndim > 1 || x->ndim == 0)
        return cr_fail_call(call, CR_ERROR_SHAPE, "takes a row of indices and an operand with dims");
    cr_shape shape = cr_tensor_shape(x);
    shape.at[dim] = index->numel;
    cr_spec_set(call, 0, (cr_dtype)x->dtype, shape);
    return true;
}
static bool vjp_index_select(cr_vjp *v) {
    const int dim = dim_of(v->attributes, v->input_specs[0].shape.count);
    cr_tensor *zeros = cr_zeros(v->input_specs[0].dtype, v->input_specs[0].shape, cr_device_of(v->grads[0]));
    return cr_vjp_set(v, 0, cr_index_add(zeros, dim, v->inputs[1], v->grads[0]));
}
CR_OP(index_select, .inputs = "input index", CR_ROW_ATTRIBUTES(gather), .infer = infer_index_select,
      .vjp = vjp_index_select, .saves = CR_SAVE_INPUT(1), .doc = "Positions of a dim in a given order.")

static bool infer_index_add(cr_call *call) {
    const cr_tensor *x = call->inputs[0], *index = call->inputs[1], *source = call->inputs[2];
    int dim;
    if (!check_index(call, 1) || !cr_normalize_dim(((const cr_gather_options *)call->attributes)->dim, x->ndim, &dim))
        return false;
    cr_shape expected = cr_tensor_shape(x);
    if (x->ndim) expected.at[dim] = index->numel;
    if (x->ndim == 0 || index->ndim > 1 || !cr_shape_equal(expected, cr_tensor_shape(source)))
        return cr_fail_call(call, CR_ERROR_SHAPE,
                            "the source has the operand's shape with as many positions in dim %d as there are indices",
                            dim);
    if (source->dtype != x->dtype) return cr_fail_call(call, CR_ERROR_DTYPE, "source and operand must have one dtype");
    cr_spec_set(call, 0, (cr_dtype)x->dtype, cr_tensor_shape(x));
    return true;
}
static bool vjp_index_add(cr_vjp *v) {
    const int dim = dim_of(v->attributes, v->input_specs[0].shape.count);
    if (v->needs[0] && !cr_vjp_set(v, 0, v->grads[0])) return false;
    return !v->needs[2] || cr_vjp_set(v, 2, cr_index_select(v->grads[0], dim, v->inputs[1]));
}
CR_OP(index_add, .inputs = "input index source", CR_ROW_ATTRIBUTES(gather), .infer = infer_index_add,
      .vjp = vjp_index_add, .saves = CR_SAVE_INPUT(1), .doc = "A copy with slices added at positions of a dim.")

cr_tensor *cr_index_select(cr_tensor *x, int dim, cr_tensor *index) { WITH_DIM(index_select, x, index); }
cr_tensor *cr_index_add(cr_tensor *x, int dim, cr_tensor *index, cr_tensor *source) {
    WITH_DIM(index_add, x, index, source);
}

/* ---------------------------------------------------------------- embedding */
static bool infer_embedding(cr_call *call) {
    const cr_tensor *weight = call->inputs[0], *index = call->inputs[1];
    if (!check_index(call, 1)) return false;
    if (weight->ndim != 2 || index->ndim >= CR_MAX_DIMS)
        return cr_fail_call(call, CR_ERROR_SHAPE, "the weight is [count, size]");
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
    const cr_embedding_grad_options options = {sizeof options, v->input_specs[0].shape.at[0],
                                               ((const cr_embedding_options *)v->attributes)->padding_idx};
    extern cr_op cr_op_embedding_grad;
    return cr_vjp_set(v, 0, CR_RUN(embedding_grad, &options, v->grads[0], v->inputs[1]));
}
CR_OP(embedding, .inputs = "weight index", CR_ROW_ATTRIBUTES(embedding), .infer = infer_embedding,
      .decompose = decompose_embedding, .vjp = vjp_embedding, .saves = CR_SAVE_INPUT(1),
      .doc = "Rows of a table by index.")

/* gradient [*, size] added up in the rows of [count, size] that index [*] names. */
static bool infer_embedding_grad(cr_call *call) {
    const cr_embedding_grad_options *o = call->attributes;
    const cr_shape g = cr_tensor_shape(call->inputs[0]), index = cr_tensor_shape(call->inputs[1]);
    bool fits = g.count == index.count + 1 && o->count >= 0;
    for (int d = 0; fits && d < index.count; d++)
        fits = g.at[d] == index.at[d];
    if (!fits) return cr_fail_call(call, CR_ERROR_SHAPE, "the gradient has the indices' shape and one dim more");
    cr_spec_set(call, 0, (cr_dtype)call->inputs[0]->dtype, CR_SHAPE(o->count, g.at[g.count - 1]));
    return check_index(call, 1);
}
static bool vjp_embedding_grad(cr_vjp *v) {
    const int64_t padding = ((const cr_embedding_grad_options *)v->attributes)->padding_idx;
    cr_tensor *rows = cr_embedding(v->grads[0], v->inputs[1], padding);
    if (padding >= 0) rows = cr_masked_fill(rows, cr_unsqueeze(cr_eq_scalar(v->inputs[1], (double)padding), -1), 0);
    return cr_vjp_set(v, 0, rows);
}
CR_OP(embedding_grad, .inputs = "gradient index", CR_ROW_ATTRIBUTES(embedding_grad), .infer = infer_embedding_grad,
      .vjp = vjp_embedding_grad, .saves = CR_SAVE_INPUT(1), .doc = "The gradient of an embedding's table.")

cr_tensor *cr_embedding(cr_tensor *weight, cr_tensor *index, int64_t padding_idx) {
    const cr_embedding_options options = {sizeof options, padding_idx};
    return CR_RUN(embedding, &options, weight, index);
}

static bool infer_one_hot(cr_call *call) {
    cr_shape shape = cr_tensor_shape(call->inputs[0]);
    const int64_t classes = ((const cr_one_hot_options *)call->attributes)->classes;
    if (!check_index(call, 0)) return false;
    if (shape.count == CR_MAX_DIMS || classes < 0)
        return cr_fail_call(call, CR_ERROR_SHAPE, "%lld classes as one dim more, of at most %d", (long long)classes,
                            CR_MAX_DIMS);
    shape.at[shape.count++] = classes;
    cr_spec_set(call, 0, CR_I64, shape);
    return true;
}
CR_OP(one_hot, .inputs = "index", CR_ROW_ATTRIBUTES(one_hot), .flags = CR_OP_NO_GRADIENT, .infer = infer_one_hot,
      .doc = "A 1 at each index among zeros.")

cr_tensor *cr_one_hot(cr_tensor *index, int64_t classes) {
    if (classes < 0 && index && cr_tensor_check(index, "one_hot")) {
        cr_tensor *largest = index->numel ? cr_amax(index) : NULL;
        classes = largest ? cr_item_i64(largest) + 1 : 0;
    }
    const cr_one_hot_options options = {sizeof options, classes};
    return CR_RUN(one_hot, &options, index);
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
    if (!cr_tensor_check(x, "masked_select") || !cr_tensor_check(mask, "masked_select")) return NULL;
    if (mask->dtype != CR_BOOL) {
        cr_record_error(CR_ERROR_DTYPE, "masked_select: the mask is %s, it must be bool",
                        cr_dtype_name((cr_dtype)mask->dtype));
        return NULL;
    }
    if (!cr_shape_broadcast(cr_tensor_shape(x), cr_tensor_shape(mask), &shape)) return NULL;
    cr_tensor *where = cr_nonzero(cr_flatten(cr_expand(mask, shape), 0, -1));
    return cr_index_select(cr_flatten(cr_expand(x, shape), 0, -1), 0, cr_flatten(where, 0, -1));
}

/* ---------------------------------------------------------------- sort, topk */
static bool infer_argsort(cr_call *call) {
    int dim;
    cr_spec_set(call, 0, CR_I64, cr_tensor_shape(call->inputs[0]));
    return cr_normalize_dim(((const cr_sort_options *)call->attributes)->dim, call->inputs[0]->ndim, &dim);
}
CR_OP(argsort, .inputs = "input", CR_ROW_ATTRIBUTES(sort), .flags = CR_OP_NO_GRADIENT, .infer = infer_argsort,
      .doc = "Where each element of a dim's sorted order stands.")

static bool infer_sort(cr_call *call) {
    int dim;
    cr_spec_set(call, 0, (cr_dtype)call->inputs[0]->dtype, cr_tensor_shape(call->inputs[0]));
    cr_spec_set(call, 1, CR_I64, cr_tensor_shape(call->inputs[0]));
    return cr_normalize_dim(((const cr_sort_options *)call->attributes)->dim, call->inputs[0]->ndim, &dim);
}

/* Each value's gradient goes back to where the value stood. */
static bool return_to_places(cr_vjp *v, int64_t dim) {
    cr_tensor *zeros = cr_zeros(v->input_specs[0].dtype, v->input_specs[0].shape, cr_device_of(v->grads[0]));
    return cr_vjp_set(v, 0, cr_scatter(zeros, (int)dim, v->outputs[1], v->grads[0]));
}
static bool vjp_sort(cr_vjp *v) { return return_to_places(v, ((const cr_sort_options *)v->attributes)->dim); }
CR_OP(sort, .inputs = "input", .outputs = "values indices", CR_ROW_ATTRIBUTES(sort), .infer = infer_sort,
      .vjp = vjp_sort, .saves = CR_SAVE_OUTPUT(1), .doc = "A dim in order, and where each element stood.")

static bool infer_topk(cr_call *call) {
    const cr_topk_options *o = call->attributes;
    cr_shape shape = cr_tensor_shape(call->inputs[0]);
    int dim;
    if (!cr_normalize_dim(o->dim, shape.count, &dim)) return false;
    const int64_t length = shape.count ? shape.at[dim] : 1;
    if (o->k < 0 || o->k > length)
        return cr_fail_call(call, CR_ERROR_INDEX, "the best %lld of a dim of %lld", (long long)o->k, (long long)length);
    if (shape.count)
        shape.at[dim] = o->k;
    else if (o->k == 0)
        shape = CR_SHAPE(0);
    cr_spec_set(call, 0, (cr_dtype)call->inputs[0]->dtype, shape);
    cr_spec_set(call, 1, CR_I64, shape);
    return true;
}
static bool vjp_topk(cr_vjp *v) { return return_to_places(v, ((const cr_topk_options *)v->attributes)->dim); }
CR_OP(topk, .inputs = "input", .outputs = "values indices", CR_ROW_ATTRIBUTES(topk), .infer = infer_topk,
      .vjp = vjp_topk, .saves = CR_SAVE_OUTPUT(1),
      .doc = "The largest or smallest of a dim, best first, and where each stood.")

/* values, and indices where they are wanted. */
static cr_tensor *two_outputs(cr_op *op, cr_tensor *x, const void *options, cr_tensor **indices) {
    cr_tensor *outputs[2] = {NULL};
    cr_run_all(op, &x, 1, options, outputs, indices ? 2 : 1);
    if (indices) *indices = outputs[1];
    return outputs[0];
}

cr_tensor *cr_argsort(cr_tensor *x, int dim, bool descending) {
    const cr_sort_options options = {sizeof options, dim, descending};
    return CR_RUN(argsort, &options, x);
}
cr_tensor *cr_sort(cr_tensor *x, int dim, bool descending, cr_tensor **indices) {
    const cr_sort_options options = {sizeof options, dim, descending};
    return two_outputs(&cr_op_sort, x, &options, indices);
}
cr_tensor *cr_topk(cr_tensor *x, int64_t k, int dim, bool largest, cr_tensor **indices) {
    const cr_topk_options options = {sizeof options, k, dim, largest};
    return two_outputs(&cr_op_topk, x, &options, indices);
}
