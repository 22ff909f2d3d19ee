/* Integer layers: a convolution or linear layer between dequantize nodes becomes one node that multiplies integers, with
 * what follows it up to the quantize node: a sum with another quantised value, a clamp. Pools and views of values
 * that stay on one scale are done on the integers. Before lowering, which takes the rest apart; frozen weights only. */
#include "jit/pass.h"

#include "ops/integer.h"

#include <math.h>

static bool is(const cr_graph_node *node, const char *name) { return node && !strcmp(node->op->name, name); }
static cr_value *operand(const cr_graph_node *node, int i) { return i < node->input_count ? node->inputs[i] : NULL; }

/* One scale and zero point for all of a u8 value. */
typedef struct grid {
    float scale;
    int zero;
} grid;

/* Of a quantize or dequantize node. */
static bool read_grid(const cr_graph *graph, const cr_graph_node *node, const cr_value *integers, grid *g) {
    const cr_value *zero_value = operand(node, 2);
    cr_tensor *scale = cr_graph_constant(graph, node->inputs[1]), *zero = cr_graph_constant(graph, zero_value);
    if (!scale || integers->dtype != CR_U8 || scale->numel != 1 || scale->dtype != CR_F32) return false;
    if (zero_value && !zero) return false;
    g->scale = (float)cr_item(scale);
    g->zero = zero ? (int)cr_item(zero) : 0;
    return g->scale > 0 && isfinite(g->scale);
}
/* The u8 value that a f32 one stands for, or NULL. */
static cr_value *integers_of(const cr_graph *graph, const cr_value *value, grid *g) {
    const cr_graph_node *node = value ? value->producer : NULL;
    if (!is(node, "dequantize") || value->dtype != CR_F32) return NULL;
    return read_grid(graph, node, node->inputs[0], g) ? node->inputs[0] : NULL;
}
static bool is_quantize(const cr_graph *graph, const cr_graph_node *node, grid *g) {
    return is(node, "quantize") && read_grid(graph, node, node->outputs[0], g);
}

/* ---------------------------------------------------------------- a layer's operands */
typedef struct integer_weight {
    cr_tensor *integers, *scales, *bias; /* i8; f32 [K]; i32 [K] in steps of input and weight scale, or NULL */
} integer_weight;

/* A scale for each of `channels`, given as such or as one for all. */
static cr_tensor *scales_of(const cr_graph *graph, const cr_graph_node *dequantize, int64_t channels) {
    cr_tensor *scale = cr_graph_constant(graph, dequantize->inputs[1]),
              *zero = cr_graph_constant(graph, operand(dequantize, 2));
    const int64_t axis = *(const int64_t *)cr_graph_attribute(dequantize, "axis");
    if (!scale || scale->dtype != CR_F32 || (operand(dequantize, 2) && !zero)) return NULL;
    if (zero && cr_item(cr_any(cr_cast(zero, CR_BOOL))) != 0) return NULL;
    if (scale->numel == 1) return cr_contiguous(cr_expand(cr_reshape(scale, CR_SHAPE(1)), CR_SHAPE(channels)));
    return axis == 0 || axis == -dequantize->outputs[0]->shape.count ? cr_contiguous(scale) : NULL;
}

static bool read_weight(const cr_graph *graph, const cr_graph_node *layer, float input_scale, integer_weight *w) {
    const cr_graph_node *node = layer->inputs[1]->producer;
    const int64_t channels = layer->inputs[1]->shape.at[0];
    if (!is(node, "dequantize") || node->inputs[0]->dtype != CR_I8) return false;
    w->integers = cr_graph_constant(graph, node->inputs[0]);
    w->scales = w->integers ? scales_of(graph, node, channels) : NULL;
    if (!w->scales) return false;
    const cr_value *bias = operand(layer, 2);
    if (!bias) return true;
    const cr_graph_node *of_bias = bias->producer;
    cr_tensor *numbers = cr_graph_constant(graph, bias);
    if (is(of_bias, "dequantize") && cr_graph_constant(graph, of_bias->inputs[0])) {
        cr_tensor *steps = scales_of(graph, of_bias, channels);
        numbers = steps ? cr_mul(cr_cast(cr_graph_constant(graph, of_bias->inputs[0]), CR_F64), cr_cast(steps, CR_F64))
                        : NULL;
    }
    if (!numbers) return false;
    cr_tensor *step = cr_mul_scalar(cr_cast(w->scales, CR_F64), (double)input_scale);
    w->bias = cr_round(cr_div(cr_cast(numbers, CR_F64), step));
    return w->bias && cr_item(cr_amax(cr_abs(w->bias))) < 0x1p30;
}

/* [out, …] -> [out], i64 */
static cr_tensor *sum_by_output(const void *context, cr_tensor *const *inputs, int count) {
    (void)context, (void)count;
    return cr_sum(cr_reshape(cr_cast(inputs[0], CR_I64), CR_SHAPE(cr_size(inputs[0], 0), -1)), .dims = CR_DIMS(1));
}

/* bias - input_zero · the weight's sums, in i32. */
static cr_tensor *shifted_bias(cr_graph *graph, const integer_weight *w, int zero) {
    cr_tensor *sums = cr_graph_compute(graph, "sum_by_output", "", sum_by_output, NULL, 0, &w->integers, 1);
    if (!cr_graph_want(graph, sums)) return NULL;
    cr_tensor *shift = cr_mul_scalar(sums, -zero);
    return cr_cast(w->bias ? cr_add(shift, cr_cast(w->bias, CR_I64)) : shift, CR_I32);
}

/* ---------------------------------------------------------------- what follows a layer */
typedef struct tail {
    cr_graph_node *quantize; /* the end; NULL: the layer's result is f32 */
    cr_value *residual;      /* u8 */
    grid residual_grid, output;
    double least, most; /* of the f32 value */
} tail;

static bool read_clamp(const cr_graph_node *node, double *least, double *most) {
    *least = -INFINITY;
    *most = INFINITY;
    if (is(node, "relu") || is(node, "relu6")) {
        *least = 0;
        if (is(node, "relu6")) *most = 6;
        return true;
    }
    if (!is(node, "clamp") && !is(node, "hardtanh")) return false;
    *least = *(const double *)cr_graph_attribute(node, "min");
    *most = *(const double *)cr_graph_attribute(node, "max");
    return true;
}

/* value->note: the node that reads it (one of them). */
static void note_readers(cr_graph *graph) {
    cr_graph_count_uses(graph);
    for (cr_graph_node *node = graph->body.first; node; node = node->next) {
        for (int i = 0; i < node->output_count; i++)
            if (node->outputs[i]) node->outputs[i]->note = NULL;
        for (int i = 0; i < node->input_count; i++)
            if (node->inputs[i]) node->inputs[i]->note = node;
    }
    for (int i = 0; i < graph->body.output_count; i++)
        graph->body.outputs[i]->note = NULL;
}
static cr_graph_node *only_reader(const cr_value *value) { return value->uses == 1 ? value->note : NULL; }

static tail follow(const cr_graph *graph, const cr_graph_node *layer) {
    const tail none = {.least = -INFINITY, .most = INFINITY};
    tail t = none;
    const cr_value *value = layer->outputs[0];
    bool is_clamped = false;
    for (cr_graph_node *node; (node = only_reader(value)); value = node->outputs[0]) {
        double least, most;
        if (is_quantize(graph, node, &t.output)) {
            t.quantize = node;
            return t;
        }
        if (is(node, "add") && !is_clamped && !t.residual) {
            const cr_value *other = node->inputs[node->inputs[0] == value];
            t.residual =
                cr_shape_equal(other->shape, value->shape) ? integers_of(graph, other, &t.residual_grid) : NULL;
            if (!t.residual) return none;
        } else if (read_clamp(node, &least, &most)) {
            t.least = fmin(fmax(t.least, least), most);
            t.most = fmin(fmax(t.most, least), most);
            is_clamped = true;
        } else {
            return none;
        }
    }
    return none;
}

/* ---------------------------------------------------------------- a layer */
static bool is_layer(const cr_graph_node *node) {
    if (!is(node, "linear") && !is(node, "convolution")) return false;
    if (node->bound_count || node->output_count != 1 || node->outputs[0]->dtype != CR_F32) return false;
    if (node->outputs[0]->device.type != CR_DEVICE_CPU || !node->inputs[1]->producer) return false;
    if (is(node, "linear")) return node->inputs[1]->shape.count == 2 && node->inputs[0]->shape.count > 0;
    return node->inputs[0]->shape.count == 4 && node->inputs[1]->shape.count == 4 &&
           !*(const bool *)cr_graph_attribute(node, "transposed");
}

static cr_convolution problem_of(const cr_graph_node *layer) {
    const cr_shape x = layer->inputs[0]->shape, w = layer->inputs[1]->shape;
    if (w.count == 4) return cr_convolution_describe(x, w, layer->outputs[0]->shape, layer->attributes);
    cr_convolution p = {.batch = 1, .groups = 1, .channels = w.at[1], .features = w.at[0]};
    for (int d = 0; d < CR_SPATIAL_DIMS; d++)
        p.in[d] = p.out[d] = p.kernel[d] = p.stride[d] = p.dilation[d] = 1;
    return p;
}

static int limit_of(double value, const grid *g) {
    return (int)fmin(255, fmax(0, nearbyint(value / (double)g->scale) + g->zero));
}

static cr_integer_layer_options options_of(const cr_graph_node *layer, const tail *t, const grid *input, int way) {
    cr_integer_layer_options o;
    memcpy(&o, cr_op_find("integer_layer")->defaults, sizeof o);
    if (is(layer, "convolution"))
        memcpy((char *)&o + sizeof(size_t), (const char *)layer->attributes + sizeof(size_t),
               sizeof(cr_convolution_options) - sizeof(size_t));
    o.weight = layer->inputs[1]->shape;
    o.way = way;
    o.input_zero = input->zero;
    o.is_floating = !t->quantize;
    if (!t->quantize) return o;
    o.output_zero = t->output.zero;
    o.least = limit_of(t->least, &t->output);
    o.most = limit_of(t->most, &t->output);
    o.residual_zero = t->residual_grid.zero;
    o.residual_scale = t->residual ? (double)(t->residual_grid.scale / t->output.scale) : 0;
    return o;
}

/* The integer node, where the layer or the end of its tail stands. */
static bool replace(cr_graph *graph, cr_graph_node *layer, cr_value *x, const grid *input, const integer_weight *w,
                    int way) {
    const tail t = follow(graph, layer);
    const cr_integer_layer_options options = options_of(layer, &t, input, way);
    const cr_pack_integer_options packing = {sizeof packing, way};
    cr_graph_node *end = t.quantize ? t.quantize : layer;
    cr_tensor *scale = cr_mul_scalar(w->scales, (double)input->scale);
    if (t.quantize) scale = cr_div_scalar(scale, (double)t.output.scale);
    cr_value *inputs[] = {
        x,
        cr_graph_add_constant(graph, "integer",
                              cr_graph_compute_op(graph, cr_op_find("pack_integer"), &packing, &w->integers, 1)),
        cr_graph_add_constant(graph, "integer", scale),
        cr_graph_add_constant(graph, "integer", shifted_bias(graph, w, input->zero)), t.residual};
    if (!inputs[1] || !inputs[2] || !inputs[3]) return false;
    cr_graph_node *node =
        cr_graph_add(graph, &graph->body, end, cr_op_find("integer_layer"), &options, inputs, t.residual ? 5 : 4, 1);
    if (!node) return false;
    node->source = layer->source;
    cr_graph_set_output(node, 0, end->outputs[0]);
    cr_graph_remove(&graph->body, end);
    return true;
}

static bool quantize_layer(cr_graph *graph, cr_graph_node *layer, bool *changed) {
    grid input;
    integer_weight w = {NULL};
    cr_value *x = integers_of(graph, layer->inputs[0], &input);
    if (!x || !read_weight(graph, layer, input.scale, &w)) return cr_ok();
    const cr_convolution problem = problem_of(layer);
    const int way = cr_integer_way_for(&problem, w.integers);
    if (way < 0) return true;
    *changed = true;
    return replace(graph, layer, x, &input, &w, way);
}

/* ---------------------------------------------------------------- pools and views */
static bool same_grid(const grid *a, const grid *b) { return a->scale == b->scale && a->zero == b->zero; }

/* The pool as integers do it; false where they do not. */
static bool read_pool(const cr_graph_node *node, cr_integer_pool_options *o) {
    const cr_shape in = node->inputs[0]->shape, out = node->outputs[0]->shape;
    memcpy(o, cr_op_find("integer_pool")->defaults, sizeof *o);
    if (in.count != 4 || out.count != 4 || node->bound_count) return false;
    if (is(node, "max_pool")) {
        memcpy((char *)o + sizeof(size_t), (const char *)node->attributes + sizeof(size_t),
               offsetof(cr_integer_pool_options, is_mean) - sizeof(size_t));
        return o->kernel_sizes.count == 2 && (node->output_count < 2 || !node->outputs[1] || !node->outputs[1]->uses);
    }
    o->is_mean = true;
    if ((is(node, "adaptive_avg_pool") || is(node, "mean")) && in.at[0] == out.at[0] && in.at[1] == out.at[1]) {
        o->kernel_sizes = CR_DIMS(in.at[2], in.at[3]);
        return out.at[2] == 1 && out.at[3] == 1;
    }
    if (!is(node, "avg_pool")) return false;
    const cr_avg_pool_options *avg = node->attributes;
    for (int i = 0; i < avg->paddings.count; i++)
        if (avg->paddings.at[i]) return false;
    o->kernel_sizes = avg->kernel_sizes;
    o->strides = avg->strides;
    return avg->kernel_sizes.count == 2 && !avg->ceil_mode && !avg->divisor_override;
}

static cr_graph_node *pool_node(cr_graph *graph, const cr_graph_node *node, cr_graph_node *before, cr_value *x,
                                const grid *from, const grid *to) {
    cr_integer_pool_options o;
    if (!read_pool(node, &o) || (!o.is_mean && !same_grid(from, to))) return NULL;
    o.input_zero = from->zero;
    o.output_zero = to->zero;
    if (o.is_mean)
        o.scale = (double)from->scale / ((double)to->scale * (double)(o.kernel_sizes.at[0] * o.kernel_sizes.at[1]));
    return cr_graph_add(graph, &graph->body, before, cr_op_find("integer_pool"), &o, &x, 1, 1);
}

static cr_graph_node *view_node(cr_graph *graph, const cr_graph_node *node, cr_graph_node *before, cr_value *x,
                                const grid *from, const grid *to) {
    if ((!is(node, "view") && !is(node, "permute")) || !same_grid(from, to)) return NULL;
    cr_graph_node *made = cr_graph_add(graph, &graph->body, before, node->op, node->attributes, &x, 1, 1);
    if (!made) return NULL;
    made->bound = node->bound;
    made->bound_count = node->bound_count;
    return made;
}

/* quantize(f(dequantize(x))) = g(x) */
static bool quantize_between(cr_graph *graph, cr_graph_node *node, bool *changed) {
    grid from, to;
    cr_value *x = node->input_count == 1 && node->outputs[0] ? integers_of(graph, node->inputs[0], &from) : NULL;
    cr_graph_node *end = x ? only_reader(node->outputs[0]) : NULL;
    if (!end || !is_quantize(graph, end, &to)) return true;
    cr_graph_node *made = pool_node(graph, node, end, x, &from, &to);
    if (!made) made = view_node(graph, node, end, x, &from, &to);
    if (!made) return cr_ok();
    made->source = node->source;
    cr_graph_set_output(made, 0, end->outputs[0]);
    cr_graph_remove(&graph->body, end);
    *changed = true;
    return true;
}

/* ---------------------------------------------------------------- the pass */
bool cr_pass_quantized(cr_graph *graph, bool *changed) {
    bool done = true, any = false;
    if (graph->supports) return true; /* kernels of this library only */
    for (const cr_graph_node *node = graph->body.first; node; node = node->next)
        any |= is(node, "dequantize");
    if (!any) return true;
    cr_thread *thread = cr_thread_self();
    const bool paused = thread->listeners_paused;
    thread->listeners_paused = true;
    note_readers(graph);
    for (cr_graph_node *node = graph->body.first, *next; done && node; node = next) {
        CR_SCOPE {
            done = is_layer(node) ? quantize_layer(graph, node, changed) : quantize_between(graph, node, changed);
        }
        next = node->next; /* a node is taken out together with those that follow, or stays where it was */
    }
    thread->listeners_paused = paused;
    return done;
}
