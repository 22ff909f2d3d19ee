/* Convolutions, transposed ones, and their gradients. */
#include "jit/ahead/ahead.h"

#include "ops/convolution.h"

static void add_list(cr_text *text, const int64_t list[CR_SPATIAL_DIMS]) {
    cr_text_add(text, ", {%lld, %lld, %lld}", (long long)list[0], (long long)list[1], (long long)list[2]);
}

static void add_problem(cr_text *text, const cr_convolution *p) {
    cr_text_add(text, "    static const convolution_t p = {%lld, %lld, %lld, %lld", (long long)p->batch,
                (long long)p->groups, (long long)p->channels, (long long)p->features);
    add_list(text, p->in);
    add_list(text, p->out);
    add_list(text, p->kernel);
    add_list(text, p->stride);
    add_list(text, p->padding);
    add_list(text, p->dilation);
    cr_text_add(text, "};\n");
}

/* Elements of an image with a border that no template's exceeds: as far as windows reach on either side. */
static int64_t bordered(const int64_t size[], const int64_t other[], const cr_convolution *p, bool is_input) {
    int64_t numel = 1;
    for (int d = 0; d < CR_SPATIAL_DIMS; d++) {
        const int64_t reach = (p->kernel[d] - 1) * p->dilation[d] + 1;
        if (is_input) {
            const int64_t windows = (other[d] - 1) * p->stride[d] + reach, padded = size[d] + p->padding[d];
            numel *= windows > padded ? windows : padded;
        } else {
            const int64_t last = (other[d] - 1 + p->padding[d]) / p->stride[d] + 1;
            numel *= (reach + p->stride[d]) / p->stride[d] + (last > size[d] ? last : size[d]);
        }
    }
    return numel;
}

static void add_scratch(cr_ahead *a, const char *name, cr_dtype dtype, int64_t numel) {
    const cr_ahead_view view = cr_ahead_scratch(a, dtype, CR_SHAPE(numel + 1));
    cr_ahead_declare(a, name, &view, true);
}

/* y = x * w and a bias. */
static bool write_forward(cr_ahead *a, const cr_convolution *p, cr_dtype dtype) {
    const int64_t depth = p->channels * cr_product3(p->kernel);
    cr_ahead_add_room(a, depth + 2 * cr_product3(p->out), depth);
    add_scratch(a, "image", dtype, p->channels * bordered(p->in, p->out, p, true));
    cr_text_add(&a->text, "    convolution_%s(y0, x0, x1, %s, &p, tables, image, panel);\n", cr_ahead_type(dtype),
                cr_ahead_has_input(a, 2) ? "x2" : "0");
    return true;
}

/* x from y. */
static bool write_backward(cr_ahead *a, const cr_convolution *p, cr_dtype dtype) {
    const int64_t depth = p->features * cr_product3(p->kernel);
    for (int d = 0; d < CR_SPATIAL_DIMS; d++)
        if (p->kernel[d] > 64)
            return cr_fail(CR_ERROR_UNSUPPORTED, "jit_compile: %s has a kernel of %lld; C templates take up to 64",
                           a->step->op->name, (long long)p->kernel[d]);
    cr_ahead_add_room(a, depth + 2 * cr_product3(p->in), depth);
    add_scratch(a, "image", dtype, p->features * bordered(p->out, p->in, p, false));
    add_scratch(a, "weights", dtype, depth * p->channels);
    cr_text_add(&a->text, "    convolution_grad_input_%s(y0, x0, x1, %s, &p, tables, image, panel, weights);\n",
                cr_ahead_type(dtype), cr_ahead_has_input(a, 2) ? "x2" : "0");
    return true;
}

/* Operands and result in the dtype, and the problem as the template's functions take it. */
static bool begin_problem(cr_ahead *a, const cr_convolution *p, cr_dtype dtype) {
    for (int i = 0; i < a->step->input_count; i++)
        if (cr_ahead_has_input(a, i) && !cr_ahead_read(a, i, dtype)) return false;
    if (!cr_ahead_write(a, 0, dtype)) return false;
    add_problem(&a->text, p);
    return true;
}

static bool write_convolution(cr_ahead *a) {
    const cr_convolution_options *o = cr_ahead_attributes(a);
    const cr_ahead_view x = cr_ahead_input_view(a, 0), w = cr_ahead_input_view(a, 1), y = cr_ahead_output_view(a, 0);
    const cr_convolution p = o->transposed ? cr_convolution_describe(y.shape, w.shape, x.shape, o)
                                           : cr_convolution_describe(x.shape, w.shape, y.shape, o);
    const cr_dtype dtype = cr_ahead_compute(y.dtype);
    if (!begin_problem(a, &p, dtype)) return false;
    return o->transposed ? write_backward(a, &p, dtype) : write_forward(a, &p, dtype);
}

static bool write_grad_input(cr_ahead *a) {
    const cr_convolution_options *o = cr_ahead_attributes(a); /* the gradient's begin with them */
    const cr_ahead_view g = cr_ahead_input_view(a, 0), w = cr_ahead_input_view(a, 1), x = cr_ahead_output_view(a, 0);
    const cr_convolution p = o->transposed ? cr_convolution_describe(g.shape, w.shape, x.shape, o)
                                           : cr_convolution_describe(x.shape, w.shape, g.shape, o);
    const cr_dtype dtype = cr_ahead_compute(x.dtype);
    if (!begin_problem(a, &p, dtype)) return false;
    return o->transposed ? write_forward(a, &p, dtype) : write_backward(a, &p, dtype);
}

static bool write_grad_weight(cr_ahead *a) {
    const cr_convolution_options *o = cr_ahead_attributes(a);
    const cr_ahead_view g = cr_ahead_input_view(a, 0), x = cr_ahead_input_view(a, 1), w = cr_ahead_output_view(a, 0);
    const cr_convolution p = o->transposed ? cr_convolution_describe(g.shape, w.shape, x.shape, o)
                                           : cr_convolution_describe(x.shape, w.shape, g.shape, o);
    const cr_dtype dtype = cr_ahead_compute(w.dtype);
    const int64_t count = p.channels * cr_product3(p.kernel), out = cr_product3(p.out);
    if (!begin_problem(a, &p, dtype)) return false;
    cr_ahead_add_room(a, out + 2 * count, out);
    add_scratch(a, "image", dtype, p.channels * bordered(p.in, p.out, &p, true));
    cr_text_add(&a->text, "    convolution_grad_weight_%s(y0, %s, &p, tables, image, panel);\n", cr_ahead_type(dtype),
                o->transposed ? "x1, x0" : "x0, x1");
    return true;
}

const cr_ahead_template cr_ahead_convolutions[] = {{"convolution", write_convolution},
                                                   {"convolution_grad_input", write_grad_input},
                                                   {"convolution_grad_weight", write_grad_weight},
                                                   {NULL, NULL}};
