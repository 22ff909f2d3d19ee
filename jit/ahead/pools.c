/* Pooling and its gradients. */
#include "jit/ahead/ahead.h"

#include "ops/pooling.h"

static void add_list(cr_text *text, const int64_t list[CR_SPATIAL_DIMS]) {
    cr_text_add(text, ", {%lld, %lld, %lld}", (long long)list[0], (long long)list[1], (long long)list[2]);
}

static void add_problem(cr_text *text, const cr_pooling *p) {
    cr_text_add(text, "    static const pool_t p = {%lld", (long long)(p->batch * p->channels));
    add_list(text, p->in);
    add_list(text, p->out);
    add_list(text, p->kernel);
    add_list(text, p->stride);
    add_list(text, p->padding);
    add_list(text, p->dilation);
    cr_text_add(text, ", %d, %d, %lld};\n", p->adaptive, p->count_include_pad, (long long)p->divisor_override);
}

static bool is_empty(const cr_ahead_view *view) {
    for (int d = 0; d < view->shape.count; d++)
        if (view->shape.at[d] == 0) return true;
    return false;
}

static bool write_max(cr_ahead *a, int spatial, const cr_max_pool_options *o) {
    const cr_ahead_view x = cr_ahead_input_view(a, 0), y = cr_ahead_output_view(a, 0);
    const cr_pooling p = cr_pool_describe(x.shape, y.shape, spatial, o, NULL);
    const cr_dtype dtype = cr_ahead_compute(x.dtype);
    if (is_empty(&y)) return true;
    if (!cr_ahead_read(a, 0, dtype) || !cr_ahead_write(a, 0, dtype) || !cr_ahead_write(a, 1, CR_I64)) return false;
    add_problem(&a->text, &p);
    cr_text_add(&a->text, "    pool_max_%s(y0, y1, x0, &p);\n", cr_ahead_type(dtype));
    return true;
}
static bool write_max_pool(cr_ahead *a) {
    const cr_max_pool_options *o = cr_ahead_attributes(a);
    return write_max(a, o->kernel_sizes.count, o);
}
static bool write_adaptive_max_pool(cr_ahead *a) {
    return write_max(a, ((const cr_adaptive_pool_options *)cr_ahead_attributes(a))->sizes.count, NULL);
}

/* Means; or for a gradient, where the step's input has the shape of the means, their shares. */
static bool write_mean(cr_ahead *a, int spatial, const cr_avg_pool_options *o, bool spreads) {
    const cr_ahead_view in = cr_ahead_input_view(a, 0), out = cr_ahead_output_view(a, 0);
    const cr_pooling p = spreads ? cr_pool_describe(out.shape, in.shape, spatial, NULL, o)
                                 : cr_pool_describe(in.shape, out.shape, spatial, NULL, o);
    const cr_dtype dtype = cr_ahead_compute(out.dtype);
    const char *type = cr_ahead_type(dtype);
    if (is_empty(&out)) return true;
    if (!cr_ahead_read(a, 0, dtype) || !cr_ahead_write(a, 0, dtype)) return false;
    add_problem(&a->text, &p);
    if (spreads)
        cr_text_add(&a->text, "    pool_spread_%s(y0, x0, &p);\n", type);
    else
        cr_text_add(&a->text, "    pool_mean_%s(y0, x0, &p);\n", type);
    return true;
}
static bool write_avg_pool(cr_ahead *a) {
    const cr_avg_pool_options *o = cr_ahead_attributes(a);
    return write_mean(a, o->kernel_sizes.count, o, false);
}
static bool write_avg_pool_grad(cr_ahead *a) {
    const cr_avg_pool_options *o = cr_ahead_attributes(a); /* the gradient's begin with them */
    return write_mean(a, o->kernel_sizes.count, o, true);
}
static bool write_adaptive_avg_pool(cr_ahead *a) {
    return write_mean(a, ((const cr_adaptive_pool_options *)cr_ahead_attributes(a))->sizes.count, NULL, false);
}
static bool write_adaptive_avg_pool_grad(cr_ahead *a) {
    return write_mean(a, (int)((const cr_pool_grad_options *)cr_ahead_attributes(a))->spatial, NULL, true);
}

static bool write_positions(cr_ahead *a, bool gathers) {
    const int spatial = (int)((const cr_pool_grad_options *)cr_ahead_attributes(a))->spatial;
    const cr_ahead_view positions = cr_ahead_input_view(a, 1), y = cr_ahead_output_view(a, 0);
    const cr_shape *whole = gathers ? &a->plan->tensors[a->step->inputs[0]].shape : &y.shape;
    const cr_dtype dtype = cr_ahead_compute(y.dtype);
    long long in = 1, out = 1, planes = 1;
    if (is_empty(&y)) return true;
    for (int d = 0; d < whole->count; d++) {
        if (d >= whole->count - spatial)
            in *= whole->at[d], out *= positions.shape.at[d];
        else
            planes *= whole->at[d];
    }
    if (!cr_ahead_read(a, 0, dtype) || !cr_ahead_read(a, 1, CR_I64) || !cr_ahead_write(a, 0, dtype)) return false;
    cr_text_add(&a->text, "    if (!pool_positions_%s(y0, x0, x1, %lld, %lld, %lld, %d)) c->status = 2;\n",
                cr_ahead_type(dtype), planes, in, out, gathers);
    return true;
}
static bool write_max_pool_grad(cr_ahead *a) { return write_positions(a, false); }
static bool write_max_pool_gather(cr_ahead *a) { return write_positions(a, true); }

const cr_ahead_template cr_ahead_pools[] = {{"max_pool", write_max_pool},
                                            {"adaptive_max_pool", write_adaptive_max_pool},
                                            {"max_pool_grad", write_max_pool_grad},
                                            {"max_pool_gather", write_max_pool_gather},
                                            {"avg_pool", write_avg_pool},
                                            {"avg_pool_grad", write_avg_pool_grad},
                                            {"adaptive_avg_pool", write_adaptive_avg_pool},
                                            {"adaptive_avg_pool_grad", write_adaptive_avg_pool_grad},
                                            {NULL, NULL}};
