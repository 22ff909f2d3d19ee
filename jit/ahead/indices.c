/* Elements by index, and sorting. */
#include "jit/ahead/ahead.h"

#include "ops/indexing.h"

static int64_t dim_of(const cr_ahead *a, const cr_shape *shape) {
    const int64_t dim = ((const cr_gather_options *)cr_ahead_attributes(a))->dim;
    return dim < 0 ? dim + (shape->count ? shape->count : 1) : dim;
}
static int64_t numel(const cr_shape *shape) {
    int64_t count = 1;
    for (int d = 0; d < shape->count; d++)
        count *= shape->at[d];
    return count;
}

/* The part that indices of this shape can reach: their sizes off `dim`. */
static cr_ahead_view reached(cr_ahead_view view, const cr_shape *index, int64_t dim) {
    for (int d = 0; d < view.shape.count; d++)
        if (d != dim) view.shape.at[d] = d < index->count ? index->at[d] : 1;
    return view;
}

/* Sums are made in f32 for 16-bit floats and in i64 for bool; integers wrap in their own width. */
static cr_dtype sum_dtype(cr_dtype dtype) {
    return dtype == CR_F16 || dtype == CR_BF16 ? CR_F32 : dtype == CR_BOOL ? CR_I64 : dtype;
}

static bool write_gather(cr_ahead *a) {
    const cr_ahead_view x = cr_ahead_input_view(a, 0), index = cr_ahead_input_view(a, 1);
    const int64_t dim = dim_of(a, &x.shape);
    const cr_ahead_lines to = cr_ahead_lines_of(&index.shape, dim);
    const long long size = x.shape.count ? (long long)x.shape.at[dim] : 1;
    if (numel(&index.shape) == 0) return true;
    if (!cr_ahead_read_view(a, "x0", reached(x, &index.shape, dim), x.dtype) || !cr_ahead_read(a, 1, CR_I64) ||
        !cr_ahead_write(a, 0, x.dtype))
        return false;
    cr_text_add(&a->text, "    if (!gather_%s(y0, x0, x1, %lld, %lld, %lld, %lld)) c->status = 2;\n",
                cr_ahead_type(x.dtype), to.outer, to.length, size, to.inner);
    return true;
}

/* The result starts as the input; the part that is reached is made apart and copied over it. */
static bool write_scatters(cr_ahead *a, cr_dtype dtype, bool adds) {
    const cr_ahead_view x = cr_ahead_input_view(a, 0), index = cr_ahead_input_view(a, 1),
                        y = cr_ahead_output_view(a, 0);
    const int64_t dim = dim_of(a, &x.shape);
    const cr_ahead_lines to = cr_ahead_lines_of(&index.shape, dim);
    const cr_ahead_view part = reached(y, &index.shape, dim), from = reached(x, &index.shape, dim);
    cr_ahead_view source = cr_ahead_input_view(a, 2);
    source.shape = index.shape;
    if (!cr_ahead_copy(a, &y, &x)) return false;
    if (numel(&index.shape) == 0) return true;
    const cr_ahead_view made = cr_ahead_scratch(a, dtype, part.shape);
    if (!cr_ahead_copy(a, &made, &from) || !cr_ahead_read(a, 1, CR_I64) || !cr_ahead_read_view(a, "x2", source, dtype))
        return false;
    cr_ahead_declare(a, "made", &made, true);
    cr_text_add(&a->text, "    if (!scatter_%s(made, x2, x1, %lld, %lld, %lld, %lld, %d)) c->status = 2;\n",
                cr_ahead_type(dtype), to.outer, to.length, x.shape.count ? (long long)x.shape.at[dim] : 1, to.inner,
                adds);
    return cr_ahead_copy(a, &part, &made);
}
static bool write_scatter(cr_ahead *a) { return write_scatters(a, cr_ahead_output_view(a, 0).dtype, false); }
static bool write_scatter_add(cr_ahead *a) {
    return write_scatters(a, sum_dtype(cr_ahead_output_view(a, 0).dtype), true);
}

static bool write_index_select(cr_ahead *a) { /* an embedding is made of it */
    const cr_ahead_view x = cr_ahead_input_view(a, 0), index = cr_ahead_input_view(a, 1);
    const cr_ahead_lines from = cr_ahead_lines_of(&x.shape, dim_of(a, &x.shape));
    if (!cr_ahead_read(a, 0, x.dtype) || !cr_ahead_read(a, 1, CR_I64) || !cr_ahead_write(a, 0, x.dtype)) return false;
    cr_text_add(&a->text, "    if (!select_%s(y0, x0, x1, %lld, %lld, %lld, %lld)) c->status = 2;\n",
                cr_ahead_type(x.dtype), from.outer, (long long)numel(&index.shape), from.length, from.inner);
    return true;
}

/* y (which holds what is added to) += slices of the operand `source`. */
static bool add_slices(cr_ahead *a, cr_dtype dtype, int source, int64_t dim, int64_t skipped) {
    char name[8];
    const cr_ahead_view y = cr_ahead_output_view(a, 0), index = cr_ahead_input_view(a, 1);
    const cr_ahead_lines to = cr_ahead_lines_of(&y.shape, dim);
    snprintf(name, sizeof name, "x%d", source);
    if (!cr_ahead_read_view(a, name, cr_ahead_input_view(a, source), dtype) || !cr_ahead_read(a, 1, CR_I64))
        return false;
    cr_text_add(&a->text, "    if (!add_slices_%s(made, %s, x1, %lld, %lld, %lld, %lld, %lld)) c->status = 2;\n",
                cr_ahead_type(dtype), name, to.outer, (long long)numel(&index.shape), to.length, to.inner,
                (long long)skipped);
    return true;
}

static bool write_index_add(cr_ahead *a) {
    const cr_ahead_view x = cr_ahead_input_view(a, 0), y = cr_ahead_output_view(a, 0);
    const cr_dtype dtype = sum_dtype(y.dtype);
    const cr_ahead_view made = cr_ahead_scratch(a, dtype, y.shape);
    if (!cr_ahead_copy(a, &made, &x)) return false;
    cr_ahead_declare(a, "made", &made, true);
    return add_slices(a, dtype, 2, dim_of(a, &x.shape), -1) && cr_ahead_copy(a, &y, &made);
}

static bool write_embedding_grad(cr_ahead *a) {
    const cr_ahead_view y = cr_ahead_output_view(a, 0);
    const cr_dtype dtype = sum_dtype(y.dtype);
    const cr_ahead_view made = cr_ahead_scratch(a, dtype, y.shape);
    if (!cr_ahead_fill(a, &made, 0)) return false;
    cr_ahead_declare(a, "made", &made, true);
    return add_slices(a, dtype, 0, 0, ((const cr_embedding_grad_options *)cr_ahead_attributes(a))->padding_idx) &&
           cr_ahead_copy(a, &y, &made);
}

static bool write_one_hot(cr_ahead *a) {
    const cr_ahead_view index = cr_ahead_input_view(a, 0);
    if (!cr_ahead_read(a, 0, CR_I64) || !cr_ahead_write(a, 0, CR_I64)) return false;
    cr_text_add(&a->text, "    if (!one_hot(y0, x0, %lld, %lld)) c->status = 2;\n", (long long)numel(&index.shape),
                (long long)((const cr_one_hot_options *)cr_ahead_attributes(a))->classes);
    return true;
}

/* ---------------------------------------------------------------- sorting */
static bool write_order(cr_ahead *a, int64_t dim, int64_t count, bool descending, bool wants_values) {
    const cr_ahead_view x = cr_ahead_input_view(a, 0);
    const cr_dtype dtype = cr_ahead_compute(x.dtype);
    const cr_ahead_lines lines = cr_ahead_lines_of(&x.shape, dim);
    if (!numel(&x.shape)) return true;
    if (!cr_ahead_read(a, 0, dtype) || (wants_values && !cr_ahead_write(a, 0, dtype)) ||
        !cr_ahead_write(a, wants_values, CR_I64))
        return false;
    const cr_ahead_view room = cr_ahead_scratch(a, CR_I64, CR_SHAPE(2 * lines.length));
    cr_text_add(&a->text, "    sort_%s(%s, %s, x0, %lld, %lld, %lld, %lld, %d, (i64 *)(%s));\n", cr_ahead_type(dtype),
                wants_values ? "y0" : "0", wants_values ? "y1" : "y0", lines.outer, lines.length, lines.inner,
                (long long)count, descending, room.base);
    return true;
}
static int64_t length_of(const cr_ahead *a, int64_t dim) {
    const cr_ahead_view x = cr_ahead_input_view(a, 0);
    return cr_ahead_lines_of(&x.shape, dim).length;
}
static bool write_sort(cr_ahead *a) {
    const cr_sort_options *o = cr_ahead_attributes(a);
    return write_order(a, o->dim, length_of(a, o->dim), o->descending, true);
}
static bool write_argsort(cr_ahead *a) {
    const cr_sort_options *o = cr_ahead_attributes(a);
    return write_order(a, o->dim, length_of(a, o->dim), o->descending, false);
}
static bool write_topk(cr_ahead *a) {
    const cr_topk_options *o = cr_ahead_attributes(a);
    return o->k == 0 || write_order(a, o->dim, o->k, o->largest, true);
}

const cr_ahead_template cr_ahead_indices[] = {{"gather", write_gather},
                                              {"scatter", write_scatter},
                                              {"scatter_add", write_scatter_add},
                                              {"index_select", write_index_select},
                                              {"index_add", write_index_add},
                                              {"embedding_grad", write_embedding_grad},
                                              {"one_hot", write_one_hot},
                                              {"sort", write_sort},
                                              {"argsort", write_argsort},
                                              {"topk", write_topk},
                                              {NULL, NULL}};
