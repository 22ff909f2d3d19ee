/* Weights in fewer bits, and nothing else: each becomes bf16, or i8 with scales, and a node that widens it for all that reads
 * it. Plans read it as it is where they can (jit/passes/narrow.c). */
#include "jit/pass.h"
#include "jit/quantize.h"

enum { PART_ELEMENTS = 1 << 20 };

CR_OPTION_DEFAULTS(jit_quantize_weights, CR_JIT_QUANTIZE_WEIGHTS_OPTIONS)

/* The operand that is a node's weight, and the dim of it that is its outputs'; -1: it has none. */
static int weight_operand(const cr_graph_node *node, int *axis) {
    static const struct {
        const char *op;
        int operand, axis;
    } rows[] = {{"linear", 1, 0}, {"convolution", 1, 0}, {"matmul", 1, 1}, {"embedding", 0, 0}, {"index_select", 0, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (!strcmp(node->op->name, rows[i].op)) {
            *axis = rows[i].axis;
            return rows[i].operand;
        }
    return -1;
}

static cr_state *weight_state(const cr_graph *graph, const cr_value *value) {
    cr_state *state = (cr_state *)(uintptr_t)cr_state_of(graph, value);
    const bool fits = state && !state->update && state->tensor && value->dtype == CR_F32 && value->shape.count >= 2 &&
                      value->device.type == CR_DEVICE_CPU;
    return fits ? state : NULL;
}

/* Of each place along `axis`: max |w| / 127. NULL and an error where that is not finite. */
static cr_tensor *scales_of(const cr_state *state, int axis) {
    cr_tensor *weight = state->tensor;
    cr_dims others = {0};
    for (int d = 0; d < cr_ndim(weight); d++)
        if (d != axis) others.at[others.count++] = d;
    cr_tensor *most = cr_div_scalar(cr_amax(cr_abs(weight), .dims = others), 127);
    if (most && cr_item(cr_all(cr_isfinite(most))) == 0 && cr_ok()) {
        cr_record_error(CR_ERROR_NUMERIC, "quantize_weights: %.100s has numbers that are not finite", state->name);
        return NULL;
    }
    return cr_where(cr_gt_scalar(most, 0x1p-100), most, cr_ones_like(most));
}

/* In parts, whose temporaries are small. */
static cr_tensor *quantized(cr_tensor *weight, cr_tensor *scales, int axis) {
    const int64_t places = cr_size(weight, axis), each = cr_numel(weight) / (places ? places : 1),
                  step = PART_ELEMENTS / (each + 1) + 1;
    cr_tensor *result = cr_empty(CR_I8, cr_shape_of(weight), CR_CPU);
    bool done = result != NULL;
    for (int64_t at = 0; done && at < places; at += step) {
        const int64_t count = places - at < step ? places - at : step;
        CR_SCOPE {
            cr_tensor *part = cr_quantize(cr_narrow(weight, axis, at, count), cr_narrow(scales, 0, at, count), NULL,
                                          .axis = axis, .dtype = CR_I8);
            done = cr_copy_(cr_narrow(result, axis, at, count), part) != NULL;
        }
    }
    return done ? result : NULL;
}

/* A node at the graph's beginning. */
static cr_value *widening(cr_graph *graph, const char *op, const char *attributes, cr_value *const *inputs, int count) {
    _Alignas(16) char parsed[64];
    if (!cr_attributes_parse(cr_op_find(op), attributes, parsed)) return NULL;
    cr_value *y = cr_graph_insert(graph, graph->body.first, op, parsed, inputs, count, CR_F32, inputs[0]->shape);
    if (y) y->producer->source = NULL;
    return y;
}

static bool narrow(cr_graph *graph, cr_state *state, int axis, cr_dtype dtype) {
    cr_value *before = state->value, *inputs[2] = {cr_graph_value(graph, dtype, &before->shape, before->device), NULL};
    cr_tensor *weight = state->tensor, *scales = dtype == CR_I8 ? scales_of(state, axis) : NULL;
    char attributes[32];
    if (dtype == CR_I8 && !scales) return false;
    cr_tensor *numbers = scales ? quantized(weight, scales, axis) : cr_contiguous(cr_cast(weight, dtype));
    if (!numbers || !inputs[0]) return false;
    state->value = inputs[0];
    state->tensor = cr_retain(numbers);
    cr_release(weight);
    snprintf(attributes, sizeof attributes, scales ? "axis=%d" : "dtype=f32", axis);
    if (scales && !(inputs[1] = cr_quantize_add_constant(graph, state->name, "scale", scales))) return false;
    before->replacement = widening(graph, scales ? "dequantize" : "cast", attributes, inputs, scales ? 2 : 1);
    return before->replacement != NULL;
}

static bool narrow_all(cr_graph *graph, const cr_jit_quantize_weights_options *o, int *count) {
    bool done = true;
    for (cr_graph_node *node = graph->body.first; done && node; node = node->next) {
        int axis;
        const int operand = weight_operand(node, &axis);
        cr_state *state = operand >= 0 ? weight_state(graph, node->inputs[operand]) : NULL;
        if (!state || node->inputs[operand]->replacement) continue;
        const char *name = cr_layer_name(graph, node);
        if (!name) return false;
        if (cr_is_listed(o->keep, name) || cr_is_listed(o->keep, state->name)) continue;
        CR_SCOPE {
            done = narrow(graph, state, axis, o->dtype);
        }
        ++*count;
    }
    cr_graph_apply(graph);
    return done;
}

cr_graph *cr_jit_quantize_weights_with(const cr_graph *graph, const cr_jit_quantize_weights_options *options) {
    cr_jit_quantize_weights_options o = jit_quantize_weights_defaults;
    if (options) memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    if (!graph || (o.dtype != CR_BF16 && o.dtype != CR_I8)) {
        if (cr_ok())
            cr_record_error(CR_ERROR_ARGUMENT,
                            graph ? "quantize_weights: weights become bf16 or i8, not %s"
                                  : "quantize_weights: NULL graph",
                            cr_dtype_name(o.dtype));
        return NULL;
    }
    if (graph->gradient_count > 0) {
        cr_record_error(CR_ERROR_ARGUMENT, "quantize_weights: runs of this graph leave gradients: it is for training");
        return NULL;
    }
    cr_thread *thread = cr_thread_self();
    const bool paused = thread->listeners_paused;
    cr_graph *copy = cr_graph_frozen_copy(graph);
    int count = 0;
    thread->listeners_paused = true;
    bool done = copy && narrow_all(copy, &o, &count);
    thread->listeners_paused = paused;
    if (done && count == 0) done = cr_fail(CR_ERROR_ARGUMENT, "quantize_weights: no layer has an f32 weight");
    if (done && cr_graph_freeze(copy) && cr_graph_verify(copy)) return copy;
    cr_jit_free(copy);
    return NULL;
}
