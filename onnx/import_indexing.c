/* Operators that choose elements by indices or values. */
#ifdef CRESSET_HAS_ONNX
#define _GNU_SOURCE
#include "onnx/import.h"

#include <stdlib.h>
#include <string.h>

static const cr_onnx_node *producer(const cr_onnx_call *call, int value, const char *operator) {
    const cr_onnx_node *node = value >= 0 ? call->run->program->producers[value] : NULL;
    return node && !strcmp(node->proto->op_type, operator) ? node : NULL;
}

/* Whether the file counts operand i from the start already, as what was read here and written again does:
 * Where(Less(x, …), Add(x, …), x). */
static bool is_from_start(const cr_onnx_call *call, int i) {
    const cr_onnx_node *shaped = producer(call, call->node->inputs[i], "Reshape");
    const cr_onnx_node *where = producer(call, shaped ? shaped->inputs[0] : call->node->inputs[i], "Where");
    if (!where || where->input_count != 3) return false;
    const cr_onnx_node *less = producer(call, where->inputs[0], "Less"), *add = producer(call, where->inputs[1], "Add");
    return less && add && less->inputs[0] == where->inputs[2] && add->inputs[0] == where->inputs[2];
}

/* Indices below 0 count from the end of `size`. */
static cr_tensor *from_start(cr_onnx_call *call, int i, int64_t size) {
    cr_tensor *index = cr_cast(cr_onnx_input(call, i), CR_I64);
    const cr_onnx_operand *operand = &call->inputs[i];
    if (operand->is_known || !call->run->is_traced) { /* what can be seen to be positive needs no work at each run */
        const cr_onnx_pause before = cr_onnx_pause_trace();
        cr_tensor *least = cr_numel(operand->tensor) ? cr_amin(cr_cast(operand->tensor, CR_I64)) : NULL;
        const bool is_positive = !least || cr_item_i64(least) >= 0;
        cr_onnx_resume_trace(before);
        if (is_positive) return index;
    } else if (is_from_start(call, i)) {
        return index;
    }
    return cr_where(cr_lt_scalar(index, 0), cr_add_scalar(index, (double)size), index);
}

/* One index from the start that the file holds: what is there is seen, not copied. */
static bool is_one_place(cr_onnx_call *call, int i, int64_t *place) {
    const cr_onnx_operand *operand = &call->inputs[i];
    return operand->is_known && !operand->is_sized && !operand->is_parameter && cr_ndim(operand->tensor) == 0 &&
           cr_onnx_ints(call, i, place, 1) == 1 && *place >= 0;
}

/* Along axis, by indices of any shape, which takes the dim's place. */
static bool run_Gather(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    const int axis = cr_onnx_axis(call, cr_onnx_int(call, "axis", 0), cr_ndim(x));
    if (axis < 0) return false;
    int64_t place;
    if (is_one_place(call, 1, &place) && place < cr_size(x, axis)) return cr_onnx_give(call, cr_select(x, axis, place));
    cr_tensor *index = from_start(call, 1, cr_size(x, axis));
    const cr_shape own = cr_shape_of(index), from = cr_shape_of(x);
    if (from.count - 1 + own.count > CR_MAX_DIMS)
        return cr_onnx_refuse(call, "gives %d dims; at most %d", from.count - 1 + own.count, CR_MAX_DIMS);
    if (own.count == 1) return cr_onnx_give(call, cr_index_select(x, axis, index));
    if (axis == 0 && from.count == 2) return cr_onnx_give(call, cr_embedding(x, index, -1));
    cr_shape shape = {0, {0}};
    for (int d = 0; d < axis; d++)
        shape.at[shape.count++] = from.at[d];
    for (int d = 0; d < own.count; d++)
        shape.at[shape.count++] = own.at[d];
    for (int d = axis + 1; d < from.count; d++)
        shape.at[shape.count++] = from.at[d];
    return cr_onnx_give(call,
                        cr_reshape(cr_index_select(x, axis, cr_reshape(index, CR_SHAPE(cr_numel(index)))), shape));
}
CR_ONNX_IMPORT(Gather, 1, 0)

static bool run_GatherElements(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    const int axis = cr_onnx_axis(call, cr_onnx_int(call, "axis", 0), cr_ndim(x));
    return axis >= 0 && cr_onnx_give(call, cr_gather(x, axis, from_start(call, 1, cr_size(x, axis))));
}
CR_ONNX_IMPORT(GatherElements, 11, 0)

/* ---------------------------------------------------------------- scatter */
typedef cr_tensor *(*reducing)(cr_tensor *, cr_tensor *);

/* The operation that `reduction` names; NULL for none and add. */
static bool reduction_of(const cr_onnx_call *call, bool *adds, reducing *op, double *neutral) {
    const char *name = cr_onnx_text(call, "reduction", "none");
    *adds = !strcmp(name, "add");
    *op = !strcmp(name, "mul") ? cr_mul : !strcmp(name, "max") ? cr_maximum : !strcmp(name, "min") ? cr_minimum : NULL;
    *neutral = !strcmp(name, "mul") ? 1 : 0;
    return *adds || *op || !strcmp(name, "none") || cr_onnx_refuse(call, "reduction \"%s\"", name);
}

/* x with updates [n, rows] taken together with rows index [n] of x [count, rows], one after the other. */
static cr_tensor *apply_in_turn(cr_tensor *x, cr_tensor *index, cr_tensor *updates, reducing op) {
    const int64_t n = cr_size(index, 0);
    for (int64_t i = 0; x && i < n; i++) {
        cr_tensor *place = cr_narrow(index, 0, i, 1), *own = cr_index_select(x, 0, place);
        cr_tensor *wide = cr_expand(cr_reshape(place, CR_SHAPE(1, 1)), CR_SHAPE(1, cr_size(x, 1)));
        x = cr_scatter(x, 0, wide, op(own, cr_narrow(updates, 0, i, 1)));
    }
    return x;
}

static bool run_ScatterElements(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0), *updates = cr_onnx_input(call, 2);
    const int axis = cr_onnx_axis(call, cr_onnx_int(call, "axis", 0), cr_ndim(x));
    bool adds;
    reducing op;
    double neutral;
    if (axis < 0 || !reduction_of(call, &adds, &op, &neutral)) return false;
    cr_tensor *index = from_start(call, 1, cr_size(x, axis));
    if (!op)
        return cr_onnx_give(call, adds ? cr_scatter_add(x, axis, index, updates) : cr_scatter(x, axis, index, updates));
    if (call->run->is_traced && cr_numel(index) > 4096)
        return cr_onnx_refuse(call, "a reduction of %lld elements one after the other", (long long)cr_numel(index));
    /* One slice of the index after the other along the axis: within one no place comes twice. */
    for (int64_t i = 0; x && i < cr_size(index, axis); i++) {
        cr_tensor *place = cr_narrow(index, axis, i, 1);
        x = cr_scatter(x, axis, place, op(cr_gather(x, axis, place), cr_narrow(updates, axis, i, 1)));
    }
    return cr_onnx_give(call, x);
}
CR_ONNX_IMPORT(ScatterElements, 11, 0)

static bool run_Scatter(cr_onnx_call *call) { return run_ScatterElements(call); }
CR_ONNX_IMPORT(Scatter, 9, 0)

/* Tuples of indices in the last dim of `index`, as places in x with its first `depth` dims (from `first` on) as one. */
static cr_tensor *flat_places(cr_tensor *x, cr_tensor *index, int first, int depth) {
    cr_tensor *places = NULL;
    for (int d = 0; d < depth; d++) {
        const int64_t size = cr_size(x, first + d);
        cr_tensor *one = cr_select(index, -1, d);
        one = cr_where(cr_lt_scalar(one, 0), cr_add_scalar(one, (double)size), one);
        places = places ? cr_add(cr_mul_scalar(places, (double)size), one) : one;
    }
    return cr_reshape(places, CR_SHAPE(cr_numel(places)));
}

static int64_t product_of(cr_shape shape, int first, int end) {
    int64_t product = 1;
    for (int d = first; d < end; d++)
        product *= shape.at[d];
    return product;
}

static bool run_ScatterND(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0), *index = cr_cast(cr_onnx_input(call, 1), CR_I64),
              *updates = cr_onnx_input(call, 2);
    const cr_shape shape = cr_shape_of(x);
    const int depth = (int)cr_size(index, -1);
    bool adds;
    reducing op;
    double neutral;
    if (!reduction_of(call, &adds, &op, &neutral)) return false;
    if (depth < 1 || depth > shape.count)
        return cr_onnx_refuse(call, "tuples of %d indices for %d dims", depth, shape.count);
    cr_tensor *places = flat_places(x, index, 0, depth);
    const int64_t rows = product_of(shape, depth, shape.count), n = cr_numel(places);
    cr_tensor *flat = cr_reshape(x, CR_SHAPE(product_of(shape, 0, depth), rows)),
              *new_rows = cr_reshape(updates, CR_SHAPE(n, rows));
    if (adds)
        flat = cr_index_add(flat, 0, places, new_rows);
    else if (op)
        flat = apply_in_turn(flat, places, new_rows, op);
    else
        flat = cr_scatter(flat, 0, cr_expand(cr_unsqueeze(places, 1), CR_SHAPE(n, rows)), new_rows);
    return cr_onnx_give(call, cr_reshape(flat, shape));
}
CR_ONNX_IMPORT(ScatterND, 11, 0)

static bool run_GatherND(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0), *index = cr_cast(cr_onnx_input(call, 1), CR_I64);
    const cr_shape shape = cr_shape_of(x), own = cr_shape_of(index);
    const int batch = (int)cr_onnx_int(call, "batch_dims", 0), depth = (int)cr_size(index, -1);
    if (batch < 0 || batch >= own.count || depth < 1 || batch + depth > shape.count)
        return cr_onnx_refuse(call, "batch_dims %d with tuples of %d indices for %d dims", batch, depth, shape.count);
    const int64_t batches = product_of(shape, 0, batch), places = product_of(shape, batch, batch + depth),
                  rows = product_of(shape, batch + depth, shape.count);
    cr_tensor *at = flat_places(x, index, batch, depth);
    if (batch) { /* each batch looks into its own part */
        const int64_t each = batches ? cr_numel(at) / batches : 0;
        cr_tensor *begin = cr_mul_scalar(cr_arange(CR_I64, 0, (double)batches, 1, CR_CPU), (double)places);
        at =
            cr_reshape(cr_add(cr_reshape(at, CR_SHAPE(batches, each)), cr_unsqueeze(begin, 1)), CR_SHAPE(cr_numel(at)));
    }
    cr_shape result = {0, {0}};
    for (int d = 0; d < own.count - 1; d++)
        result.at[result.count++] = own.at[d];
    for (int d = batch + depth; d < shape.count && result.count < CR_MAX_DIMS; d++)
        result.at[result.count++] = shape.at[d];
    return cr_onnx_give(call,
                        cr_reshape(cr_index_select(cr_reshape(x, CR_SHAPE(batches * places, rows)), 0, at), result));
}
CR_ONNX_IMPORT(GatherND, 11, 0)

/* ---------------------------------------------------------------- by value */
/* [dims, n], the other way round than ours. */
static bool run_NonZero(cr_onnx_call *call) {
    return cr_onnx_give(call, cr_contiguous(cr_transpose(cr_nonzero(cr_onnx_input(call, 0)), 0, 1)));
}
CR_ONNX_IMPORT(NonZero, 9, CR_ONNX_GROWS | CR_ONNX_VALUES)

/* The slices along axis (of the flattened tensor without one) whose condition holds; missing conditions are false. */
static bool run_Compress(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0);
    int axis = 0;
    if (call->run->is_traced && !call->inputs[1].is_known)
        return cr_onnx_refuse(call, "how large its result is follows from values; run the model as a module");
    const cr_onnx_pause before = cr_onnx_pause_trace();
    cr_tensor *places = cr_nonzero(call->inputs[1].tensor);
    places = cr_reshape(places, CR_SHAPE(places ? cr_size(places, 0) : 0));
    cr_onnx_resume_trace(before);
    if (!cr_onnx_attribute(call, "axis"))
        x = cr_reshape(x, CR_SHAPE(cr_numel(x)));
    else if ((axis = cr_onnx_axis(call, cr_onnx_int(call, "axis", 0), cr_ndim(x))) < 0)
        return false;
    return cr_onnx_give(call, cr_index_select(x, axis, places));
}
CR_ONNX_IMPORT(Compress, 9, CR_ONNX_GROWS)

/* Each row of a batch reversed up to its length. */
static bool run_ReverseSequence(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0), *lengths = cr_cast(cr_onnx_input(call, 1), CR_I64);
    const int time = (int)cr_onnx_int(call, "time_axis", 0), batch = (int)cr_onnx_int(call, "batch_axis", 1);
    if (time == batch || time < 0 || batch < 0 || time > 1 || batch > 1 || cr_ndim(x) < 2)
        return cr_onnx_refuse(call, "time_axis %d and batch_axis %d", time, batch);
    cr_tensor *steps = cr_unsqueeze(cr_arange(CR_I64, 0, (double)cr_size(x, time), 1, CR_CPU), batch);
    cr_tensor *each = cr_unsqueeze(lengths, time), *turned = cr_sub_scalar(cr_sub(each, steps), 1);
    cr_tensor *index = cr_where(cr_lt(steps, each), turned, steps);
    for (int d = 2; d < cr_ndim(x); d++)
        index = cr_unsqueeze(index, -1);
    return cr_onnx_give(call, cr_gather(x, time, cr_contiguous(cr_expand(index, cr_shape_of(x)))));
}
CR_ONNX_IMPORT(ReverseSequence, 10, 0)

/* ---------------------------------------------------------------- unique */
typedef struct unique_work {
    const double *values; /* [rows, width] */
    int64_t width;
} unique_work;

static int compare_values(const unique_work *w, int64_t a, int64_t b) {
    const double *x = w->values + a * w->width, *y = w->values + b * w->width;
    for (int64_t i = 0; i < w->width; i++)
        if (x[i] != y[i]) return x[i] < y[i] ? -1 : 1;
    return 0;
}

static int compare_rows(const void *a, const void *b, void *context) {
    const int order = compare_values(context, *(const int64_t *)a, *(const int64_t *)b);
    if (order) return order;
    return *(const int64_t *)a < *(const int64_t *)b ? -1 : *(const int64_t *)a > *(const int64_t *)b;
}

static int compare_numbers(const void *a, const void *b, void *context) {
    const int64_t *first = context;
    const int64_t x = first[*(const int64_t *)a], y = first[*(const int64_t *)b];
    return x < y ? -1 : x > y;
}

/* Which of the distinct rows each is, where each distinct one comes first, and how often; returns how many there are. */
static int64_t find_distinct(const double *values, int64_t count, int64_t width, bool sorted, int64_t *inverse,
                             int64_t *first, int64_t *counts, int64_t *order) {
    unique_work w = {values, width};
    int64_t distinct = 0;
    for (int64_t i = 0; i < count; i++)
        order[i] = i;
    qsort_r(order, (size_t)count, sizeof *order, compare_rows, &w);
    for (int64_t i = 0; i < count; i++) {
        const bool is_new = !i || compare_values(&w, order[i], order[i - 1]) != 0;
        if (is_new) first[distinct] = order[i], counts[distinct++] = 0;
        counts[distinct - 1]++;
        inverse[order[i]] = distinct - 1;
    }
    if (sorted) return distinct;
    int64_t *rank = order + count, *by_rank = order + 2 * count; /* in the order in which they come */
    for (int64_t i = 0; i < distinct; i++)
        rank[i] = i;
    qsort_r(rank, (size_t)distinct, sizeof *rank, compare_numbers, first);
    for (int64_t i = 0; i < distinct; i++)
        by_rank[rank[i]] = i;
    for (int64_t i = 0; i < count; i++)
        inverse[i] = by_rank[inverse[i]];
    int64_t *old = order;
    for (int pass = 0; pass < 2; pass++) {
        int64_t *list = pass ? counts : first;
        memcpy(old, list, (size_t)distinct * sizeof *list);
        for (int64_t i = 0; i < distinct; i++)
            list[i] = old[rank[i]];
    }
    return distinct;
}

static bool run_Unique(cr_onnx_call *call) {
    cr_tensor *x = cr_onnx_input(call, 0), *rows = cr_reshape(x, CR_SHAPE(cr_numel(x), 1));
    int axis = 0;
    if (cr_onnx_attribute(call, "axis")) {
        if ((axis = cr_onnx_axis(call, cr_onnx_int(call, "axis", 0), cr_ndim(x))) < 0) return false;
        rows = cr_movedim(x, axis, 0);
        rows = cr_reshape(rows, CR_SHAPE(cr_size(x, axis), cr_size(x, axis) ? cr_numel(x) / cr_size(x, axis) : 0));
    } else {
        x = cr_reshape(x, CR_SHAPE(cr_numel(x)));
    }
    rows = cr_contiguous(cr_cast(rows, CR_F64));
    const int64_t count = rows ? cr_size(rows, 0) : 0;
    int64_t *work = rows ? cr_malloc((size_t)(6 * count + 1) * sizeof *work) : NULL;
    if (!work) return false;
    int64_t *inverse = work, *first = work + count, *counts = work + 2 * count;
    const int64_t distinct = find_distinct(cr_data(rows), count, cr_size(rows, 1), cr_onnx_int(call, "sorted", 1) != 0,
                                           inverse, first, counts, work + 3 * count);
    cr_tensor *places = cr_from_data(CR_I64, CR_SHAPE(distinct), first);
    const bool done = cr_onnx_give(call, cr_index_select(x, axis, places)) && cr_onnx_give_at(call, 1, places) &&
                      cr_onnx_give_at(call, 2, cr_from_data(CR_I64, CR_SHAPE(count), inverse)) &&
                      cr_onnx_give_at(call, 3, cr_from_data(CR_I64, CR_SHAPE(distinct), counts));
    cr_free(work);
    return done;
}
CR_ONNX_IMPORT(Unique, 11, CR_ONNX_GROWS | CR_ONNX_VALUES)
#endif
