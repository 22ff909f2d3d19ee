/* Post-training quantisation: which values become u8, and the nodes and integers that say so. */
#include "jit/quantize.h"

#include "core/text.h"
#include "jit/pass.h"

#include <math.h>

CR_OPTION_DEFAULTS(jit_quantize, CR_JIT_QUANTIZE_OPTIONS)

/* A value that becomes u8; value->note points here. */
typedef struct activation {
    cr_value *value;
    struct activation *like; /* has the same numbers (a maximum's operand): shares its scale; NULL: its own */
    float scale;
    int zero;
    cr_value *quantized[2]; /* scale and zero point in the graph */
} activation;

typedef struct work {
    cr_graph *graph;
    const cr_jit_quantize_options *options;
    activation **activations;
    int count, capacity, layers;
} work;

/* ---------------------------------------------------------------- layers */
const cr_state *cr_state_of(const cr_graph *graph, const cr_value *value) {
    for (int i = 0; value && i < graph->state_count; i++)
        if (graph->states[i].value == value) return &graph->states[i];
    return NULL;
}

bool cr_is_layer_node(const cr_graph_node *node) {
    if (!strcmp(node->op->name, "linear")) return node->outputs[0]->dtype == CR_F32;
    return !strcmp(node->op->name, "convolution") && node->outputs[0]->dtype == CR_F32;
}

const char *cr_layer_name(cr_graph *graph, const cr_graph_node *node) {
    cr_text text = {0};
    const cr_value *weight = node->inputs[1];
    const cr_state *state = cr_state_of(graph, weight);
    if (!state && weight->producer) state = cr_state_of(graph, weight->producer->inputs[0]);
    cr_graph_add_module(&text, node->source);
    if (text.length == 0) {
        const char *name = state ? state->name : node->op->name, *end = strrchr(name, '.');
        const bool whole = !end || strncmp(end, ".weight", 7) != 0;
        cr_text_add(&text, "%.*s", whole ? (int)strlen(name) : (int)(end - name), name);
    }
    char *made = cr_text_end(&text);
    const char *copy = made ? cr_graph_text_copy(graph, made) : NULL;
    cr_free(made);
    return copy;
}

/* `list` has this name, or a path that it is under. */
bool cr_is_listed(const char *list, const char *name) {
    for (const char *at = list; at && *at;) {
        const size_t length = strcspn(at, ",");
        if (length && !strncmp(at, name, length) && (name[length] == 0 || name[length] == '.')) return true;
        at += length + (at[length] == ',');
    }
    return false;
}

/* Plain 2-d convolutions of a batch, of one group or one for each channel; linear layers. */
static bool may_quantize(work *w, const cr_graph_node *node) {
    const cr_value *weight = node->input_count > 1 ? node->inputs[1] : NULL;
    if (!cr_is_layer_node(node) || !cr_state_of(w->graph, weight) || weight->dtype != CR_F32 ||
        node->inputs[0]->dtype != CR_F32)
        return false;
    if (node->input_count > 2 && node->inputs[2] && !cr_state_of(w->graph, node->inputs[2])) return false;
    if (!strcmp(node->op->name, "linear")) return weight->shape.count == 2;
    return weight->shape.count == 4 && node->inputs[0]->shape.count == 4 &&
           !*(const bool *)cr_graph_attribute(node, "transposed");
}

/* ---------------------------------------------------------------- which values */
static activation *want(work *w, cr_value *value) {
    if (value->note) return value->note;
    activation *a = cr_pool_allocate(&w->graph->pool, sizeof *a);
    activation **grown = cr_pool_grow(&w->graph->pool, w->activations, w->count, sizeof *grown);
    if (!a || !grown) return NULL;
    w->activations = grown;
    grown[w->count++] = a;
    a->value = value;
    return value->note = a;
}

static bool is_named(const cr_graph_node *node, const char *const *names) {
    for (; node && *names; names++)
        if (!strcmp(node->op->name, *names)) return true;
    return false;
}
static const char *const clamps[] = {"relu", "relu6", "clamp", "hardtanh", NULL};
static const char *const movers[] = {"max_pool", "view", "permute", NULL};
static const char *const means[] = {"avg_pool", "adaptive_avg_pool", "mean", NULL};
static const char *const sums[] = {"add", NULL};

static bool is_data(const work *w, const cr_value *value) {
    return value && value->dtype == CR_F32 && !cr_state_of(w->graph, value);
}
static bool is_quantized_layer(const cr_graph_node *node) { return node && node->note; }

/* The operand of a sum that an integer layer has still in its registers: the layer that ran last. */
static int inner_operand(const cr_graph_node *sum) {
    int best = -1;
    for (int i = 0; i < sum->input_count; i++) {
        const cr_value *value = sum->inputs[i];
        if (!is_quantized_layer(value->producer) || value->uses != 1 || value->note) continue;
        if (!cr_shape_equal(value->shape, sum->outputs[0]->shape)) continue;
        if (best < 0 || value->producer->index > sum->inputs[best]->producer->index) best = i;
    }
    return best;
}

/* `node` gives a value that becomes u8: what it reads from layers does too, unless the layer takes the node along. */
static bool descend(work *w, const cr_graph_node *node) {
    if (is_quantized_layer(node)) return true;
    if (is_named(node, movers) || is_named(node, means)) {
        if (!is_data(w, node->inputs[0])) return true;
        activation *from = want(w, node->inputs[0]), *to = node->outputs[0]->note;
        if (from && to && is_named(node, movers)) to->like = from;
        return from != NULL;
    }
    if (!(node->op->flags & CR_OP_POINTWISE)) return true;
    const int inner = is_named(node, sums) ? inner_operand(node) : -1;
    for (int i = 0; i < node->input_count; i++) {
        cr_value *value = node->inputs[i];
        if (i == inner || !is_data(w, value) || value->note || !value->producer) continue;
        if (!cr_shape_equal(value->shape, node->outputs[0]->shape)) continue;
        const bool alone = value->uses == 1, is_layer = is_quantized_layer(value->producer);
        if (alone && is_named(node, clamps) && (is_layer || is_named(value->producer, sums))) {
            if (!descend(w, value->producer)) return false;
        } else if (is_layer) {
            if (!want(w, value)) return false;
        } else if (value->producer->op->flags & CR_OP_POINTWISE && alone && !descend(w, value->producer)) {
            return false;
        }
    }
    return true;
}

/* From the last node to the first, so that a value is known to become u8 when the node that gives it is looked at. */
static bool choose(work *w) {
    cr_graph_number(w->graph);
    cr_graph_count_uses(w->graph);
    for (cr_graph_node *node = w->graph->body.first; node; node = node->next) {
        node->note = NULL;
        for (int i = 0; i < node->output_count; i++)
            if (node->outputs[i]) node->outputs[i]->note = NULL;
        if (!strcmp(node->op->name, "quantize"))
            return cr_fail(CR_ERROR_ARGUMENT, "quantize: the graph is quantised already");
        if (!may_quantize(w, node)) continue;
        const char *name = cr_layer_name(w->graph, node);
        if (!name) return false;
        if (cr_is_listed(w->options->keep, name)) continue;
        node->note = node;
        w->layers++;
    }
    if (!w->layers)
        return cr_fail(CR_ERROR_ARGUMENT, "quantize: there is no layer to quantise: convolutions of 2 dims and linear "
                                          "layers in f32 with constant weights, that `keep` does not name");
    for (int i = 0; i < w->graph->body.input_count; i++)
        w->graph->body.inputs[i]->note = NULL;
    for (cr_graph_node *node = w->graph->body.last; node; node = node->previous) {
        if (is_quantized_layer(node) && !want(w, node->inputs[0])) return false;
        if (node->outputs[0] && node->outputs[0]->note && !descend(w, node)) return false;
    }
    return true;
}

/* ---------------------------------------------------------------- their ranges */
/* Runs the graph over the data; values[i] belongs to observers[i]. */
static bool observe(work *w, cr_value *const *values, cr_observer *observers, int count, cr_quantize_source source,
                    void *context) {
    cr_graph *graph = cr_graph_watching(w->graph, values, count);
    cr_tensor **outputs = cr_calloc((size_t)count + 1, sizeof *outputs), *inputs[CR_MAX_INPUTS];
    bool done = graph && outputs, more = true;
    for (int64_t batch = 0; done && more; batch++) {
        CR_SCOPE {
            const int input_count = w->graph->body.input_count;
            done = cr_next_batch(source, context, batch, inputs, input_count, &more) &&
                   (!more || cr_jit_run(graph, inputs, input_count, outputs, count));
            for (int i = 0; done && more && i < count; i++)
                done = cr_observe(&observers[i], outputs[i]);
        }
    }
    cr_free(outputs);
    cr_jit_free(graph);
    return done;
}

static bool calibrate(work *w, cr_quantize_source source, void *context) {
    cr_value **watched = cr_calloc((size_t)w->count, sizeof(cr_value *));
    cr_observer *observers = cr_calloc((size_t)w->count, sizeof *observers);
    int count = 0;
    for (int i = 0; watched && i < w->count; i++)
        if (!w->activations[i]->like) watched[count++] = w->activations[i]->value;
    const bool done = watched && observers && observe(w, watched, observers, count, source, context);
    for (int i = 0, k = 0; i < w->count; i++) {
        activation *a = w->activations[i];
        a->value->note = a; /* copies took it */
        if (done && !a->like)
            cr_observer_choose(&observers[k++], w->options->method, w->options->percentile, &a->scale, &a->zero);
    }
    cr_free(watched);
    cr_free(observers);
    return done;
}

static activation *root_of(activation *a) {
    while (a->like)
        a = a->like;
    return a;
}

/* ---------------------------------------------------------------- nodes */
cr_value *cr_quantize_add_constant(cr_graph *graph, const char *name, const char *part, cr_tensor *t) {
    cr_text text = {0};
    if (!t) return NULL;
    cr_text_add(&text, "%s.%s", name, part);
    for (int i = 0; i < graph->state_count; i++)
        if (text.at && !strcmp(graph->states[i].name, text.at)) {
            cr_text_add(&text, "2");
            i = -1;
        }
    char *whole = cr_text_end(&text);
    const cr_shape shape = cr_shape_of(t);
    cr_value *value = whole ? cr_graph_value(graph, cr_dtype_of(t), &shape, cr_device_of(t)) : NULL;
    const bool added = value && cr_graph_add_state(graph, CR_STATE_CONSTANT, whole, value, t);
    cr_free(whole);
    return added ? value : NULL;
}

/* A node before `before` with a result of this dtype in the shape of its first operand. */
static cr_value *add_node(cr_graph *graph, cr_graph_node *before, const char *op, int64_t axis, cr_value *x,
                          cr_value *scale, cr_value *zero, cr_dtype dtype) {
    cr_value *inputs[] = {x, scale, zero};
    const cr_op *row = cr_op_find(op);
    char attributes[sizeof(cr_quantize_options)];
    memcpy(attributes, row->defaults, row->attribute_bytes);
    *(int64_t *)(void *)(attributes + row->attributes[0].offset) = axis;
    cr_graph_node *node = cr_graph_add(graph, &graph->body, before, row, attributes, inputs, zero ? 3 : 2, 1);
    cr_value *y = cr_graph_value(graph, dtype, &x->shape, x->device);
    if (!node || !y) return NULL;
    y->extents = x->extents;
    cr_graph_set_output(node, 0, y);
    return y;
}

/* All that reads the value, but the graph's outputs, reads what it is as u8. */
static bool insert_activation(work *w, activation *a, int number) {
    cr_graph *graph = w->graph;
    activation *root = root_of(a);
    cr_graph_node *before = a->value->producer ? a->value->producer->next : graph->body.first;
    char name[32];
    snprintf(name, sizeof name, "activation%d", number);
    if (!root->quantized[0]) {
        root->quantized[0] = cr_quantize_add_constant(graph, name, "scale", cr_scalar((double)root->scale, CR_F32));
        root->quantized[1] = cr_quantize_add_constant(graph, name, "zero_point", cr_scalar(root->zero, CR_U8));
    }
    if (!root->quantized[0] || !root->quantized[1]) return false;
    cr_value *q = add_node(graph, before, "quantize", 1, a->value, root->quantized[0], root->quantized[1], CR_U8);
    cr_value *y =
        q ? add_node(graph, before, "dequantize", 1, q, root->quantized[0], root->quantized[1], CR_F32) : NULL;
    if (!y) return false;
    for (cr_graph_node *node = y->producer->next; node; node = node->next)
        for (int i = 0; i < node->input_count; i++)
            if (node->inputs[i] == a->value) node->inputs[i] = y;
    return true;
}

/* Of each output channel, or of all: max |w| / 127. A bias of 31 bits has to fit as well. */
static cr_tensor *weight_scales(const work *w, cr_tensor *weight, cr_tensor *bias, float input_scale) {
    const int64_t channels = cr_size(weight, 0), each = cr_numel(weight) / (channels ? channels : 1);
    cr_tensor *scales = cr_empty(CR_F32, CR_SHAPE(channels), CR_CPU);
    if (!scales) return NULL;
    const float *from = cr_data(weight), *b = bias ? cr_data(bias) : NULL;
    float *to = cr_data(scales), whole = 0;
    for (int64_t k = 0; k < channels; k++) {
        float most = 0;
        for (int64_t i = 0; i < each; i++)
            most = fmaxf(most, fabsf(from[k * each + i]));
        to[k] = most;
        whole = fmaxf(whole, most);
    }
    for (int64_t k = 0; k < channels; k++) {
        to[k] = (w->options->per_channel ? to[k] : whole) / 127;
        if (b) to[k] = fmaxf(to[k], fabsf(b[k]) / input_scale * 0x1p-29F);
        if (!(to[k] > 0x1p-100F)) to[k] = 1;
    }
    return scales;
}

static cr_tensor *dense(const cr_graph *graph, const cr_value *value) {
    const cr_state *state = cr_state_of(graph, value);
    return state && state->tensor ? cr_contiguous(cr_cast(state->tensor, CR_F32)) : NULL;
}

/* The weight as i8, the bias as i32 in steps of both scales. */
static bool insert_weight(work *w, cr_graph_node *layer, float input_scale) {
    cr_graph *graph = w->graph;
    cr_value *bias_value = layer->input_count > 2 ? layer->inputs[2] : NULL;
    cr_tensor *weight = dense(graph, layer->inputs[1]), *bias = bias_value ? dense(graph, bias_value) : NULL;
    const char *name = cr_layer_name(graph, layer);
    if (!weight || !name || (bias_value && !bias)) return cr_ok() && cr_fail(CR_ERROR_STATE, "quantize: no weights");
    cr_tensor *scales = weight_scales(w, weight, bias, input_scale);
    cr_tensor *q = scales ? cr_quantize(weight, scales, NULL, .axis = 0, .dtype = CR_I8) : NULL;
    cr_value *scale = cr_quantize_add_constant(graph, name, "weight_scale", scales),
             *integers = scale ? cr_quantize_add_constant(graph, name, "weight", q) : NULL;
    cr_value *y = integers ? add_node(graph, layer, "dequantize", 0, integers, scale, NULL, CR_F32) : NULL;
    if (!y) return false;
    layer->inputs[1] = y;
    if (!bias) return true;
    cr_tensor *steps = cr_mul_scalar(scales, (double)input_scale);
    cr_tensor *rounded =
        steps ? cr_cast(cr_round(cr_div(cr_cast(bias, CR_F64), cr_cast(steps, CR_F64))), CR_I32) : NULL;
    cr_value *step = cr_quantize_add_constant(graph, name, "bias_scale", steps);
    integers = step ? cr_quantize_add_constant(graph, name, "bias", rounded) : NULL;
    y = integers ? add_node(graph, layer, "dequantize", 0, integers, step, NULL, CR_F32) : NULL;
    return y && (layer->inputs[2] = y);
}

static bool insert(work *w) {
    cr_graph_node *node = w->graph->body.first;
    for (; node; node = node->next) {
        const activation *input = is_quantized_layer(node) ? node->inputs[0]->note : NULL;
        if (input && !insert_weight(w, node, root_of((activation *)(uintptr_t)input)->scale)) return false;
    }
    for (int i = w->count; i-- > 0;)
        if (!insert_activation(w, w->activations[i], w->count - 1 - i)) return false;
    return true;
}

/* ---------------------------------------------------------------- the whole */
cr_graph *cr_graph_frozen_copy(const cr_graph *graph) {
    cr_graph *copy = cr_graph_copy(graph);
    if (!copy) return NULL;
    copy->is_frozen = true;
    if (cr_graph_simplify(copy) && cr_graph_freeze(copy)) return copy;
    cr_jit_free(copy);
    return NULL;
}

cr_graph *cr_quantize_prepare(const cr_graph *graph) {
    bool updates = graph->gradient_count > 0;
    for (int i = 0; i < graph->state_count; i++)
        updates |= graph->states[i].update != NULL;
    if (updates) {
        cr_record_error(CR_ERROR_ARGUMENT, "quantize: runs of this graph change its state; trace it after cr_nn_eval");
        return NULL;
    }
    return cr_graph_frozen_copy(graph);
}

static bool check_options(const cr_jit_quantize_options *o) {
    const char *method = o->method ? o->method : "";
    if (strcmp(method, "mse") != 0 && strcmp(method, "percentile") != 0 && strcmp(method, "minmax") != 0)
        return cr_fail(CR_ERROR_ARGUMENT, "quantize: method \"%.40s\"; there are mse, percentile and minmax", method);
    return (o->percentile > 50 && o->percentile <= 100) ||
           cr_fail(CR_ERROR_ARGUMENT, "quantize: percentile is %g; it is above 50 and at most 100", o->percentile);
}

static bool quantize(work *w, cr_quantize_source source, void *context) {
    cr_thread *thread = cr_thread_self();
    const bool paused = thread->listeners_paused;
    bool done = false, changed;
    CR_SCOPE {
        done = choose(w) && calibrate(w, source, context);
        thread->listeners_paused = true;
        done = done && insert(w);
        thread->listeners_paused = paused;
    }
    return done && cr_pass_dead_code(w->graph, &changed) && cr_graph_freeze(w->graph) && cr_graph_verify(w->graph);
}

cr_graph *cr_jit_quantize_with(const cr_graph *graph, cr_quantize_source source, void *context,
                               const cr_jit_quantize_options *options) {
    cr_jit_quantize_options o = jit_quantize_defaults;
    if (options) memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    if (!graph || !source) {
        if (cr_ok()) cr_record_error(CR_ERROR_ARGUMENT, "quantize: NULL graph or source of data");
        return NULL;
    }
    work w = {.options = &o};
    if (!check_options(&o) || !(w.graph = cr_quantize_prepare(graph))) return NULL;
    if (quantize(&w, source, context)) return w.graph;
    cr_jit_free(w.graph);
    return NULL;
}
