/* matmul and linear. */
#include "jit/ahead/ahead.h"

void cr_ahead_add_room(cr_ahead *a, int64_t tables, int64_t depth) {
    enum { PANEL_BYTES = 128 }; /* the widest column of a panel */
    const cr_ahead_view t = cr_ahead_scratch(a, CR_I64, CR_SHAPE(tables + 1));
    const cr_ahead_view p = cr_ahead_scratch(a, CR_U8, CR_SHAPE((depth + 1) * PANEL_BYTES));
    cr_text_add(&a->text, "    i64 *tables = (i64 *)(%s);\n", t.base);
    cr_text_add(&a->text, "    void *panel = %s;\n", p.base);
}

/* A matrix that can be read with any strides needs no copy unless its dtype is another one. */
static bool read_matrix(cr_ahead *a, int input, cr_dtype dtype, cr_ahead_view *view) {
    char name[8];
    snprintf(name, sizeof name, "x%d", input);
    *view = cr_ahead_input_view(a, input);
    if (view->dtype == dtype) {
        cr_ahead_declare(a, name, view, false);
        return true;
    }
    if (!cr_ahead_read(a, input, dtype)) return false;
    cr_contiguous_strides(view->shape, &view->strides);
    return true;
}

static int64_t batch_stride(const cr_ahead_view *view, int dim, int batch) {
    const int own = dim - batch + (view->shape.count - 2);
    return own < 0 || view->shape.at[own] == 1 ? 0 : view->strides.at[own];
}

/* Loops over the batch, with the offsets of both operands. */
static void open_batch(cr_ahead *a, const cr_ahead_view *left, const cr_ahead_view *right, const cr_shape *shape) {
    const int batch = shape->count - 2;
    cr_text_add(&a->text, "    int64_t at = 0;\n");
    for (int d = 0; d < batch; d++)
        cr_text_add(&a->text, "    for (int64_t i%d = 0; i%d < %lld; i%d++)\n", d, d, (long long)shape->at[d], d);
    cr_text_add(&a->text, "    {\n    const int64_t left = 0");
    for (int d = 0; d < batch; d++)
        cr_text_add(&a->text, " + i%d * %lld", d, (long long)batch_stride(left, d, batch));
    cr_text_add(&a->text, ", right = 0");
    for (int d = 0; d < batch; d++)
        cr_text_add(&a->text, " + i%d * %lld", d, (long long)batch_stride(right, d, batch));
    cr_text_add(&a->text, ";\n");
}

static bool write_matmul(cr_ahead *a) {
    const cr_ahead_view out = cr_ahead_output_view(a, 0);
    const cr_dtype dtype = cr_ahead_compute(out.dtype);
    const int last = out.shape.count - 1;
    cr_ahead_view left, right;
    if (!read_matrix(a, 0, dtype, &left) || !read_matrix(a, 1, dtype, &right) || !cr_ahead_write(a, 0, dtype))
        return false;
    const int l = left.shape.count - 1, r = right.shape.count - 1;
    const long long m = out.shape.at[last - 1], n = out.shape.at[last], k = left.shape.at[l];
    cr_ahead_add_room(a, k + 2 * n, k);
    open_batch(a, &left, &right, &out.shape);
    cr_text_add(
        &a->text,
        "    product_%s(y0 + at, x0 + left, %lld, %lld, x1 + right, %lld, %lld, 0, %lld, %lld, %lld, tables, panel);\n"
        "    at += %lld;\n    }\n",
        cr_ahead_type(dtype), (long long)left.strides.at[l - 1], (long long)left.strides.at[l],
        (long long)right.strides.at[r - 1], (long long)right.strides.at[r], m, n, k, m * n);
    return true;
}

static bool write_linear(cr_ahead *a) {
    const cr_ahead_view out = cr_ahead_output_view(a, 0);
    const cr_dtype dtype = cr_ahead_compute(out.dtype);
    cr_ahead_view weight;
    if (!cr_ahead_read(a, 0, dtype) || !read_matrix(a, 1, dtype, &weight) || !cr_ahead_read(a, 2, dtype) ||
        !cr_ahead_write(a, 0, dtype))
        return false;
    const long long n = weight.shape.at[0], k = weight.shape.at[1];
    long long m = 1;
    for (int d = 0; d < out.shape.count - 1; d++)
        m *= out.shape.at[d];
    cr_ahead_add_room(a, k + 2 * n, k);
    cr_text_add(&a->text, "    product_%s(y0, x0, %lld, 1, x1, %lld, %lld, x2, %lld, %lld, %lld, tables, panel);\n",
                cr_ahead_type(dtype), k, (long long)weight.strides.at[1], (long long)weight.strides.at[0], m, n, k);
    return true;
}

const cr_ahead_template cr_ahead_products[] = {{"matmul", write_matmul}, {"linear", write_linear}, {NULL, NULL}};
