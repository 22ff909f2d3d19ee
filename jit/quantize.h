/* Between the files of quantisation: how values are observed, and which nodes are layers. */
#ifndef CRESSET_JIT_QUANTIZE_H
#define CRESSET_JIT_QUANTIZE_H

#include "jit/graph.h"

#include <cresset/quantize.h>

/* ---------------------------------------------------------------- ranges (calibrate.c) */
enum { CR_OBSERVER_BINS = 8192 };

/* How often a value's numbers were where: bins share out [-reach, reach), which doubles when it has to. */
typedef struct cr_observer {
    double least, most, reach;
    int64_t total, counts[CR_OBSERVER_BINS];
} cr_observer;

/* False and an error where a number is not finite. */
bool cr_observe(cr_observer *observer, cr_tensor *values);
/* The scale and zero point of u8 for what was observed. */
void cr_observer_choose(const cr_observer *observer, const char *method, double percentile, float *scale, int *zero);

/* ---------------------------------------------------------------- graphs */
/* A copy in which nothing changes state, batch norms are folded, and sizes are the example's or open; NULL and an error. */
cr_graph *cr_quantize_prepare(const cr_graph *graph);
/* A copy whose states never change, but by its own runs; batch norms are folded. NULL and an error on failure. */
cr_graph *cr_graph_frozen_copy(const cr_graph *graph);
/* `list` has this name, or a path that it is under, between commas; NULL has none. */
bool cr_is_listed(const char *list, const char *name);
/* A constant "name.part", or "name.part2" where that is taken; NULL for NULL, and with an error on failure. */
cr_value *cr_quantize_add_constant(cr_graph *graph, const char *name, const char *part, cr_tensor *t);
/* A convolution or linear layer in f32 (quantised or not). */
bool cr_is_layer_node(const cr_graph_node *node);
/* The state behind a value, or NULL. */
const cr_state *cr_state_of(const cr_graph *graph, const cr_value *value);
/* "layer1.0.conv1": the module's path or the weight's name. In the graph's memory; NULL on failure. */
const char *cr_layer_name(cr_graph *graph, const cr_graph_node *node);
/* A copy of the graph whose outputs are these values of it. Values' notes are lost. NULL and an error on failure. */
cr_graph *cr_graph_watching(cr_graph *graph, cr_value *const *values, int count);
/* The inputs of a batch; `more` is false behind the last one. inputs: CR_MAX_INPUTS. */
bool cr_next_batch(cr_quantize_source source, void *context, int64_t batch, cr_tensor **inputs, int count, bool *more);

#endif
