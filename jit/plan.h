/* The plan: a graph whose sizes are known, as a flat list of resolved calls over memory with fixed places. */
#ifndef CRESSET_JIT_PLAN_H
#define CRESSET_JIT_PLAN_H

#include "jit/graph.h"

typedef enum cr_place { CR_PLACE_ARENA, CR_PLACE_INPUT, CR_PLACE_STATE, CR_PLACE_OUTPUT } cr_place;

/* A block of memory that tensors of the plan look into. */
typedef struct cr_plan_storage {
    cr_place place;
    int index; /* of the input, state or output */
    cr_device device;
    size_t bytes;
    size_t offset;   /* in the arena */
    int first, last; /* nodes of its life, both inclusive */
} cr_plan_storage;

typedef struct cr_plan_tensor {
    int storage;
    cr_dtype dtype;
    cr_shape shape, strides;
    int64_t offset, numel;
} cr_plan_tensor;

typedef struct cr_plan_step {
    const cr_graph_node *node; /* NULL for copies that the plan added */
    const cr_op *op;
    const void *attributes;
    cr_kernel kernel;
    cr_device device;
    int *inputs; /* tensors, -1: absent */
    int input_count;
    int *outputs;
    int output_count;
    int together; /* so many steps from here on run side by side, as one parallel job */
} cr_plan_step;

struct cr_session;

struct cr_plan {
    cr_pool pool;
    cr_graph *graph; /* optimised; its own */
    cr_plan_storage *storages;
    int storage_count;
    cr_plan_tensor *tensors;
    int tensor_count;
    cr_plan_step *steps;
    int step_count;
    int time_count;                 /* nodes of the body, and one for what comes after them */
    int *inputs, *states, *outputs; /* tensors; state -1: not used */
    size_t arena_bytes, naive_bytes, bound_bytes;
    _Atomic(struct cr_session *) spare[8]; /* memory of runs that are over */
    int64_t symbols[CR_GRAPH_SYMBOLS];     /* what it was made for */
    struct cr_plan *next;
    struct cr_plan *inner; /* of blocks; linked by next */
    atomic_int users;
};

/* What a run gives: the graph's outputs, then its gradients. */
static inline int cr_plan_result_count(const cr_plan *plan) {
    return plan->graph->body.output_count + plan->graph->gradient_count;
}
static inline cr_value *cr_plan_result(const cr_plan *plan, int index) {
    const cr_graph *graph = plan->graph;
    return index < graph->body.output_count ? graph->body.outputs[index]
                                            : graph->gradients[index - graph->body.output_count].value;
}

/* A plan for the symbols' values in `graph`, which it takes over; NULL and an error on failure. */
cr_plan *cr_plan_new(cr_graph *graph);
void cr_plan_free(cr_plan *plan);
/* Offsets in the arena for all storages that lie there: best fit, the largest first. */
bool cr_plan_memory(cr_plan *plan);
/* Finds steps in a row that may run side by side: updates of parameters. */
void cr_plan_together(cr_plan *plan);
/* Runs it; inputs fit, and there is room for all results. `times` (NULL: not wanted) takes each step's begin and end in
 * seconds. */
bool cr_plan_run(cr_plan *plan, cr_tensor *const *inputs, cr_tensor **results, double *times);
/* A whole run of the graph: outputs alone are given out, gradients go to their states. */
bool cr_plan_run_graph(cr_plan *plan, cr_tensor *const *inputs, cr_tensor **outputs, double *times);
/* The plan of a graph for these inputs (NULL: for the example's sizes), until it is released. NULL and an error where
 * they do not fit. */
cr_plan *cr_plan_for(cr_graph *graph, cr_tensor *const *inputs, int input_count);
void cr_plan_release(cr_plan *plan);
/* Fills in what kernels see of a tensor but its storage. */
void cr_plan_geometry(cr_tensor *t, const cr_plan_tensor *planned);
/* Arithmetic and traffic of one step, by its tensors' sizes. */
typedef struct cr_step_cost {
    double flops, bytes, bytes_read;
} cr_step_cost;
cr_step_cost cr_plan_cost(const cr_plan *plan, const cr_plan_step *step);
void cr_sessions_free(cr_plan *plan);
/* Where a state lives now: a gradient's tensor may be another one at each run. NULL and an error on failure. */
cr_tensor *cr_state_tensor(const cr_graph *graph, const cr_state *state);
/* Puts a run's gradients on their states. */
bool cr_set_gradients(const cr_graph *graph, cr_tensor *const *gradients);

#endif
