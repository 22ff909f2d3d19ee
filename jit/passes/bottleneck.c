/* Bottlenecks: a depthwise 3×3 convolution, the 1×1 behind it and the one before it become one node, which computes row by
 * row, so that what lies between them stays in the cache. After packing: their packed weights become one. */
#include "jit/fused.h"
#include "jit/pass.h"
#include "ops/channels_last.h"
#include "ops/fused.h"

#include <math.h>

typedef struct bounds {
    double low, high;
} bounds;

typedef struct bottleneck {
    cr_graph_node *expand, *depth, *project; /* expand: NULL for none */
    bounds expand_bounds, depth_bounds;
} bottleneck;

/* ---------------------------------------------------------------- finding them */
static const cr_fused_convolution_options *options_of(const cr_graph_node *node) { return node->attributes; }

/* A channels-last convolution whose weight has been packed. */
static bool is_packed_layer(const cr_graph_node *node) {
    return node && !strcmp(node->op->name, "fused_channels_last_convolution") && options_of(node)->packed.count == 4 &&
           node->output_count == 1 && node->outputs[0];
}

static bool all_are(const cr_dims *dims, int64_t value) {
    for (int d = 0; d < dims->count; d++)
        if (dims->at[d] != value) return false;
    return dims->count > 0;
}

static bool is_point(const cr_graph_node *node) {
    if (!is_packed_layer(node)) return false;
    const cr_fused_convolution_options *o = options_of(node);
    return o->groups == 1 && o->packed.at[2] == 1 && o->packed.at[3] == 1 && all_are(&o->strides, 1) &&
           all_are(&o->paddings, 0);
}

static bool is_depthwise(const cr_graph_node *node) {
    if (!is_packed_layer(node)) return false;
    const cr_fused_convolution_options *o = options_of(node);
    return o->groups > 1 && o->packed.at[2] == 3 && o->packed.at[3] == 3 && all_are(&o->paddings, 1) &&
           all_are(&o->dilations, 1) && (all_are(&o->strides, 1) || all_are(&o->strides, 2));
}

/* Its block does nothing, or keeps its result within bounds. */
static bool find_bounds(const cr_graph_node *node, bounds *found) {
    const cr_graph_node *only = node->blocks[0]->first;
    *found = (bounds){-INFINITY, INFINITY};
    if (!only) return true;
    if (only->next || only->input_count != 1) return false;
    const bool relu = !strcmp(only->op->name, "relu"), relu6 = !strcmp(only->op->name, "relu6"),
               clamp = !strcmp(only->op->name, "clamp");
    if (clamp)
        *found = (bounds){*(const double *)cr_graph_attribute(only, "min"),
                          *(const double *)cr_graph_attribute(only, "max")};
    else
        *found = (bounds){0, relu6 ? 6 : INFINITY};
    return relu || relu6 || clamp;
}

/* The layer that makes the first input of `node`, if nobody else reads it. */
static cr_graph_node *layer_before(const cr_graph_node *node) {
    const cr_value *value = node->inputs[0];
    return value && value->uses == 1 ? value->producer : NULL;
}

/* Small maps stay in the cache as they are, and are shared out better layer by layer, unless there are many of them. */
static bool pays(const cr_value *hidden, const cr_value *result) {
    enum { LEAST_ROWS = 28 };
    return result->shape.at[2] >= CR_BOTTLENECK_WIDTH && (hidden->shape.at[1] >= LEAST_ROWS || hidden->shape.at[0] > 1);
}

static bool find_bottleneck(cr_graph_node *node, bottleneck *b) {
    *b = (bottleneck){.project = node};
    if (!is_point(node)) return false;
    b->depth = layer_before(node);
    if (!is_depthwise(b->depth) || !find_bounds(b->depth, &b->depth_bounds)) return false;
    if (!pays(b->depth->inputs[0], node->outputs[0])) return false;
    cr_graph_node *first = layer_before(b->depth);
    if (is_point(first) && find_bounds(first, &b->expand_bounds)) b->expand = first;
    return true;
}

/* ---------------------------------------------------------------- their weights */
/* Whole steps of the kernel. */
static int64_t padded(int64_t features) {
    return (features + CR_BOTTLENECK_STEP - 1) / CR_BOTTLENECK_STEP * CR_BOTTLENECK_STEP;
}

typedef struct layout {
    int64_t features[3];
    int depthwise; /* the layer whose packed weight is [9, features], to be filled up */
} layout;

/* Weight and bias (NULL: none) of each layer, filled up with zeros, behind each other. */
static cr_tensor *join(const void *context, cr_tensor *const *inputs, int count) {
    const layout *l = context;
    cr_tensor *parts[6];
    for (int i = 0; i < count; i += 2) {
        const int64_t features = l->features[i / 2], more = padded(features) - features;
        cr_tensor *weight = inputs[i],
                  *bias = inputs[i + 1] ? inputs[i + 1] : cr_zeros(CR_F32, CR_SHAPE(features), CR_CPU);
        if (i / 2 == l->depthwise)
            weight = cr_flatten(cr_pad(cr_reshape(weight, CR_SHAPE(9, features)), CR_DIMS(0, 0), CR_DIMS(0, more), 0),
                                0, -1);
        parts[i] = weight;
        parts[i + 1] = cr_pad(bias, CR_DIMS(0), CR_DIMS(more), 0);
        if (!parts[i] || !parts[i + 1]) return NULL;
    }
    return cr_cat(parts, count, 0);
}

/* NULL without an error where a weight is not known. */
static cr_tensor *weights_of(cr_graph *graph, const bottleneck *b) {
    const cr_graph_node *const layers[] = {b->expand, b->depth, b->project};
    cr_tensor *inputs[6];
    char numbers[96];
    layout l = {.depthwise = b->expand ? 1 : 0};
    int count = 0;
    for (int i = b->expand ? 0 : 1; i < 3; i++, count += 2) {
        const cr_value *bias = layers[i]->inputs[2];
        l.features[count / 2] = layers[i]->outputs[0]->shape.at[3];
        inputs[count] = cr_graph_weight(graph, layers[i]->inputs[1]);
        inputs[count + 1] = cr_graph_weight(graph, bias);
        if (!inputs[count] || (bias && !inputs[count + 1])) return NULL;
    }
    snprintf(numbers, sizeof numbers, "features=%lld,%lld,%lld step=%d", (long long)l.features[0],
             (long long)l.features[1], (long long)l.features[2], CR_BOTTLENECK_STEP);
    return cr_graph_compute(graph, "bottleneck", numbers, join, &l, sizeof l, inputs, count);
}

/* ---------------------------------------------------------------- the node */
static cr_graph_node *replace(cr_graph *graph, const bottleneck *b, cr_tensor *weights) {
    cr_graph_node *last = b->project;
    cr_fused_bottleneck_options options = {.size = sizeof options,
                                           .hidden = b->depth->outputs[0]->shape.at[3],
                                           .expands = b->expand != NULL,
                                           .stride = options_of(b->depth)->strides.at[0],
                                           .expand_low = b->expand_bounds.low,
                                           .expand_high = b->expand_bounds.high,
                                           .depth_low = b->depth_bounds.low,
                                           .depth_high = b->depth_bounds.high};
    cr_value *value = cr_graph_add_constant(graph, "packed", weights), *inputs[CR_MAX_INPUTS];
    if (!value) return NULL;
    memcpy(inputs, last->inputs, (size_t)last->input_count * sizeof inputs[0]);
    inputs[0] = (b->expand ? b->expand : b->depth)->inputs[0];
    inputs[1] = value;
    inputs[2] = NULL;
    cr_graph_node *node =
        cr_graph_add(graph, &graph->body, last, cr_op_find("fused_bottleneck"), &options, inputs, last->input_count, 1);
    if (!node) return NULL;
    node->blocks = last->blocks;
    node->block_count = last->block_count;
    node->source = last->source;
    cr_graph_set_output(node, 0, last->outputs[0]);
    cr_graph_remove(&graph->body, last);
    cr_graph_remove(&graph->body, b->depth);
    if (b->expand) cr_graph_remove(&graph->body, b->expand);
    return node;
}

bool cr_pass_bottleneck(cr_graph *graph, bool *changed) {
    if (graph->supports) return true; /* kernels of this library only */
    bool done = true;
    cr_thread *thread = cr_thread_self();
    const bool paused = thread->listeners_paused;
    thread->listeners_paused = true;
    cr_graph_count_uses(graph);
    for (cr_graph_node *node = graph->body.first, *next; done && node; node = next) {
        bottleneck b;
        next = node->next;
        if (!find_bottleneck(node, &b)) continue;
        CR_SCOPE {
            cr_tensor *weights = weights_of(graph, &b);
            if (weights) *changed = true;
            done = weights ? replace(graph, &b, weights) != NULL : cr_ok();
        }
    }
    thread->listeners_paused = paused;
    return done;
}
