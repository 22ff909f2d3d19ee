/* Reductions and running sums. */
#include "jit/ahead/ahead.h"

#include "ops/reduction.h"

/* [outer, length, inner] where the reduced dims are neighbours; false where they are not. */
static bool as_lines(const cr_shape *shape, unsigned mask, cr_ahead_lines *lines) {
    int changes = 0;
    *lines = (cr_ahead_lines){1, 1, 1};
    for (int d = 0, last = 0; d < shape->count; d++) {
        const int reduced = mask >> d & 1;
        if (shape->at[d] == 1) continue;
        changes += reduced != last;
        last = reduced;
        if (reduced)
            lines->length *= shape->at[d];
        else if (changes == 0)
            lines->outer *= shape->at[d];
        else
            lines->inner *= shape->at[d];
        if (changes > 2) return false;
    }
    return true;
}

/* The reduced dims behind the others. */
static cr_ahead_view reduced_last(cr_ahead_view view, unsigned mask) {
    const cr_ahead_view before = view;
    int at = 0;
    for (int reduced = 0; reduced < 2; reduced++)
        for (int d = 0; d < before.shape.count; d++) {
            if ((int)(mask >> d & 1) != reduced) continue;
            view.shape.at[at] = before.shape.at[d];
            view.strides.at[at++] = before.strides.at[d];
        }
    return view;
}

static int64_t numel(const cr_shape *shape) {
    int64_t count = 1;
    for (int d = 0; d < shape->count; d++)
        count *= shape->at[d];
    return count;
}

static bool write_reduction(cr_ahead *a, const char *function, cr_dims dims, double of_nothing, const char *last) {
    const cr_ahead_view y = cr_ahead_output_view(a, 0);
    cr_ahead_view x = cr_ahead_input_view(a, 0);
    const bool sums = *function != 'e';
    const cr_dtype dtype = sums && y.dtype == CR_F64 ? CR_F64 : cr_ahead_compute(x.dtype);
    cr_ahead_lines lines;
    unsigned mask;
    if (!cr_reduced_dims(&dims, x.shape.count, &mask)) return false;
    if (numel(&y.shape) == 0) return true;
    if (numel(&x.shape) == 0) return cr_ahead_fill(a, &y, of_nothing);
    if (!as_lines(&x.shape, mask, &lines)) {
        x = reduced_last(x, mask);
        lines = (cr_ahead_lines){numel(&y.shape), numel(&x.shape) / numel(&y.shape), 1};
    }
    if (!cr_ahead_read_view(a, "x0", x, dtype) || !cr_ahead_write(a, 0, dtype)) return false;
    cr_text_add(&a->text, "    %s_%s(y0, x0, %lld, %lld, %lld%s);\n", function, cr_ahead_type(dtype), lines.outer,
                lines.length, lines.inner, last);
    return true;
}

static cr_dims dims_of(const cr_ahead *a) { return *(const cr_dims *)cr_graph_attribute(a->step->node, "dims"); }
static bool write_sum(cr_ahead *a) { return write_reduction(a, "sum", dims_of(a), 0, ""); }
static bool write_prod(cr_ahead *a) { return write_reduction(a, "prod", dims_of(a), 1, ""); }
static bool write_amax(cr_ahead *a) { return write_reduction(a, "extreme", dims_of(a), 0, ", 1"); }
static bool write_amin(cr_ahead *a) { return write_reduction(a, "extreme", dims_of(a), 0, ", 0"); }

/* Lines along one dim. */
static bool write_lines(cr_ahead *a, const char *function, cr_dtype result, int last) {
    const cr_ahead_view x = cr_ahead_input_view(a, 0), y = cr_ahead_output_view(a, 0);
    const cr_dtype dtype = cr_ahead_compute(x.dtype);
    const cr_ahead_lines lines =
        cr_ahead_lines_of(&x.shape, *(const int64_t *)cr_graph_attribute(a->step->node, "dim"));
    if (numel(&x.shape) == 0) return numel(&y.shape) == 0 || cr_ahead_fill(a, &y, 0);
    if (!cr_ahead_read(a, 0, dtype) || !cr_ahead_write(a, 0, result == CR_DTYPE_DEFAULT ? dtype : result)) return false;
    cr_text_add(&a->text, "    %s_%s(y0, x0, %lld, %lld, %lld, %d);\n", function, cr_ahead_type(dtype), lines.outer,
                lines.length, lines.inner, last);
    return true;
}
static bool write_argmax(cr_ahead *a) { return write_lines(a, "argument", CR_I64, 1); }
static bool write_argmin(cr_ahead *a) { return write_lines(a, "argument", CR_I64, 0); }
static bool write_cumsum(cr_ahead *a) { return write_lines(a, "running", CR_DTYPE_DEFAULT, 0); }
static bool write_cumprod(cr_ahead *a) { return write_lines(a, "running", CR_DTYPE_DEFAULT, 1); }

const cr_ahead_template cr_ahead_reductions[] = {
    {"sum", write_sum},       {"prod", write_prod},       {"amax", write_amax},
    {"amin", write_amin},     {"argmax", write_argmax},   {"argmin", write_argmin},
    {"cumsum", write_cumsum}, {"cumprod", write_cumprod}, {NULL, NULL}};
