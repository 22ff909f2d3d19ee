/* softmax and norms as one call each; all else of neural networks is made of other ops. */
#include "jit/ahead/ahead.h"

static long long numel(const cr_shape *shape) {
    long long count = 1;
    for (int d = 0; d < shape->count; d++)
        count *= shape->at[d];
    return count;
}

/* Along one dim, from one operand or two. */
static bool write_along(cr_ahead *a, const char *function, int takes_log) {
    const cr_ahead_view y = cr_ahead_output_view(a, 0);
    const cr_dtype dtype = cr_ahead_compute(y.dtype);
    const cr_ahead_lines lines =
        cr_ahead_lines_of(&y.shape, *(const int64_t *)cr_graph_attribute(a->step->node, "dim"));
    if (numel(&y.shape) == 0) return true;
    for (int i = 0; i < a->step->input_count; i++)
        if (!cr_ahead_read(a, i, dtype)) return false;
    if (!cr_ahead_write(a, 0, dtype)) return false;
    cr_text_add(&a->text, "    %s_%s(y0, x0, %s%lld, %lld, %lld, %d);\n", function, cr_ahead_type(dtype),
                a->step->input_count > 1 ? "x1, " : "", lines.outer, lines.length, lines.inner, takes_log);
    return true;
}
static bool write_softmax(cr_ahead *a) { return write_along(a, "softmax", 0); }
static bool write_log_softmax(cr_ahead *a) { return write_along(a, "softmax", 1); }
static bool write_softmax_grad(cr_ahead *a) { return write_along(a, "softmax_grad", 0); }
static bool write_log_softmax_grad(cr_ahead *a) { return write_along(a, "softmax_grad", 1); }

/* Rows of `length`, with `weights` numbers of weight and bias: number (r * by_row + i / run) % weights. */
static bool write_normalize(cr_ahead *a, long long length, long long weights, long long by_row, long long run) {
    const cr_ahead_view x = cr_ahead_input_view(a, 0);
    const cr_dtype dtype = cr_ahead_compute(x.dtype);
    const double eps = *(const double *)cr_graph_attribute(a->step->node, "eps");
    for (int i = 0; i < 3; i++)
        if (!cr_ahead_read(a, i, dtype)) return false;
    for (int i = 0; i < 3; i++)
        if (!cr_ahead_write(a, i, dtype)) return false;
    cr_text_add(&a->text, "    normalize_%s(y0, y1, y2, x0, x1, x2, %lld, %lld, %lld, %lld, %lld, ",
                cr_ahead_type(dtype), numel(&x.shape) / length, length, weights, by_row, run);
    cr_ahead_number(&a->text, eps);
    cr_text_add(&a->text, ");\n");
    return true;
}

static bool write_layer_norm(cr_ahead *a) {
    const cr_ahead_view x = cr_ahead_input_view(a, 0), means = cr_ahead_output_view(a, 1);
    const long long rows = numel(&means.shape);
    if (numel(&x.shape) == 0) return true;
    return write_normalize(a, numel(&x.shape) / rows, numel(&x.shape) / rows, 0, 1);
}

static bool write_group_norm(cr_ahead *a) {
    const cr_ahead_view x = cr_ahead_input_view(a, 0), means = cr_ahead_output_view(a, 1);
    const long long rows = numel(&means.shape), channels = x.shape.at[1];
    const long long groups = *(const int64_t *)cr_graph_attribute(a->step->node, "groups");
    if (numel(&x.shape) == 0) return true;
    const long long length = numel(&x.shape) / rows;
    return write_normalize(a, length, channels, channels / groups, length / (channels / groups));
}

const cr_ahead_template cr_ahead_layers[] = {{"softmax", write_softmax},
                                             {"log_softmax", write_log_softmax},
                                             {"softmax_grad", write_softmax_grad},
                                             {"log_softmax_grad", write_log_softmax_grad},
                                             {"layer_norm", write_layer_norm},
                                             {"group_norm", write_group_norm},
                                             {NULL, NULL}};
